#!/bin/sh
# Where the processor's time of a workload goes: profile.sh WORKLOAD… prints a Markdown table, one row
# for each, in percent of the samples of all threads after a warm-up of three seconds. Needs `perf` and a
# release build.
set -eu
export MIMALLOC_PURGE_DELAY=-1
meta=${META:-target/release/meta}
file=$(mktemp)
trap 'rm -f "$file"' EXIT
echo '| workload | products | normalisation, pooling | other kernels | copies | operations of the backend | graph | allocator | system | rest |'
echo '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|'
for workload in "$@"; do
    perf record -q -D 3000 -e cpu-clock -F 997 -o "$file" \
        "$meta" bench-one "$workload" --backend flex --samples 1000000 --seconds "${SECONDS_EACH:-10}" \
        >/dev/null 2>&1
    perf report -i "$file" --no-children -g none --sort dso,symbol -t '@' 2>/dev/null |
        awk -F@ -v workload="$workload" '
            /^#/ || NF < 3 { next }
            {
                share = $1 + 0
                if ($2 ~ /kernel/) kind = "system"
                else if ($3 ~ /memmove|memcpy|memset|to_contiguous|StridedIter|transpose_into|turn_tiles|unfold/) kind = "copies"
                else if ($3 ~ /kernels::tile|kernels::gemm|gemm_common|gemm_f32/) kind = "products"
                else if ($3 ~ /standardize|kernels::pool|kernels::layer/) kind = "normalisation"
                else if ($3 ~ /primitives::cpu/) kind = "kernels"
                else if ($3 ~ /macerator|burn_flex|expf/) kind = "backend"
                else if ($3 ~ /burn_autodiff|hashbrown/) kind = "graph"
                else if ($3 ~ /mi_|malloc|alloc::/) kind = "allocator"
                else kind = "rest"
                sum[kind] += share
            }
            END {
                printf "| `%s`", workload
                split("products normalisation kernels copies backend graph allocator system rest", order, " ")
                for (i = 1; i <= 9; i++) printf " | %.0f %%", sum[order[i]]
                print " |"
            }'
done
