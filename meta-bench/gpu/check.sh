#!/usr/bin/env bash
# Checks the toolkit on a machine with an NVIDIA GPU: equivalence with the CPU in f64, the quickstart,
# throughput beside PyTorch and JAX on the same card, kernel launches. Writes one JSON file.
#
#   cargo build --release --features cuda,wgpu      # needs no GPU
#   meta-bench/gpu/check.sh [--meta FILE] [--out DIR] [--backends cuda,wgpu] [--seconds N] [--steps LIST]
#
# Every step has a time limit and fails alone; the whole takes at most about six minutes. The peers need
# a Python with torch, jax, numpy and safetensors (PYTHON, default python3); without it they are left out.
set -uo pipefail
cd "$(dirname "$0")/../.."

meta=target/release/meta out=gpu-check backends=cuda,wgpu seconds=360
steps=machine,quickstart,bench,equivalence,launches
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case "$1" in
        --meta) meta=$2 ;;
        --out) out=$2 ;;
        --backends) backends=$2 ;;
        --seconds) seconds=$2 ;;
        --steps) steps=$2 ;;
        *) echo "usage: $0 [--meta FILE] [--out DIR] [--backends LIST] [--seconds N] [--steps LIST]" >&2; exit 2 ;;
    esac
    shift 2
done
mkdir -p "$out"
[ -x "$meta" ] || { echo "$meta: not a program; build it first, or name one with --meta" >&2; exit 2; }

quoted() { # a text as a JSON string
    "$python" -c 'import json, sys; print(json.dumps(sys.stdin.read()))' 2>/dev/null ||
        sed 's/\\/\\\\/g; s/"/\\"/g' | awk 'BEGIN { printf "\"" } { printf "%s\\n", $0 } END { printf "\"\n" }'
}

rows=()
# step NAME LIMIT COMMAND…: runs it within the limit and what is left of the whole; keeps NAME.json where it
# wrote that, else its standard output, as JSON where it is JSON.
step() {
    local name=$1 limit=$2 left=$((seconds - SECONDS)) from=$SECONDS code
    shift 2
    [ "$left" -gt 5 ] || { echo "$name: no time left"; return; }
    [ "$left" -lt "$limit" ] && limit=$left
    printf '%s (at %s s, at most %s s)\n' "$name" "$SECONDS" "$limit"
    timeout -k 5 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err"
    code=$?
    printf '%s: %s s, exit %s\n' "$name" $((SECONDS - from)) "$code"
    [ "$code" -eq 0 ] || tail -n 3 "$out/$name.err"
    local text
    if [ -s "$out/$name.json" ]; then
        text=$(cat "$out/$name.json")
    elif "$python" -c 'import json, sys; json.load(open(sys.argv[1]))' "$out/$name.out" 2>/dev/null; then
        text=$(cat "$out/$name.out")
    else
        text=$(quoted <"$out/$name.out")
    fi
    rows+=("{\"step\": \"$name\", \"seconds\": $((SECONDS - from)), \"exit\": $code, \"output\": $text,
  \"errors\": $(tail -n 20 "$out/$name.err" | quoted)}")
}
wanted() { case ",$steps," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

IFS=, read -r -a names <<<"$backends"
if wanted machine; then
    step machine 20 nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv,noheader
    step version 20 "$meta" --version
    step peers 60 "$python" -c 'import torch, jax, numpy; print(torch.__version__, jax.__version__, torch.cuda.get_device_name())'
fi
for backend in "${names[@]}"; do
    if wanted quickstart; then
        rm -rf "$out/run-$backend"
        step "quickstart-$backend" 120 "$meta" run experiments/quickstart.toml "backend=$backend" \
            --quiet --json --dir "$out/run-$backend"
    fi
done
for backend in "${names[@]}"; do
    peers=()
    [ "$backend" = cuda ] && peers=(--peers --python "$python" --rounds 1
        --only "${PEERS:-torch-loop,torch-func,jax}" --peer-timeout "${PEER_LIMIT:-30}")
    if wanted bench; then
        for workload in ${WORKLOADS:-protonet-60w5s conv4-maml-5 conv4-maml-1 sinusoid-5 attention-maml}; do
            more=()
            case $workload in *maml-5 | *maml-1) more=(--tasks 32) ;; esac
            [ "$workload" = attention-maml ] && more=()
            step "bench-$backend-$workload" "${LIMIT:-100}" "$meta" bench "$workload" --backends "$backend" \
                "${peers[@]}" "${more[@]}" --samples 20 --seconds 2 --json "$out/bench-$backend-$workload.json"
        done
    fi
    wanted launches && step "launches-$backend" 60 "$meta" bench ${COUNTED:-sinusoid-5 protonet-60w5s conv4-maml-1} \
        --backends "$backend" --launches
    wanted equivalence && step "equivalence-$backend" 150 "$meta" equivalence --backends "$backend" --json
done

{
    printf '{"command": "meta-bench/gpu/check.sh", "seconds": %s, "steps": [\n' "$SECONDS"
    for index in "${!rows[@]}"; do
        [ "$index" -eq 0 ] || printf ',\n'
        printf '%s' "${rows[$index]}"
    done
    printf '\n]}\n'
} >"$out/check.json"
echo "$out/check.json"
