#!/usr/bin/env bash
# Measures what both commands of the README cost from a fresh clone, and prints a row of a Markdown table
# for each: processor and wall seconds, machine, commit.
#
#   meta-bench/profile/build.sh [COMMIT] [TEST OPTIONS]   # a quiet machine; a quarter of an hour on two cores
#
# Each commit is cloned into a temporary folder with a build folder of its own. To compare two commits, run
# it for both in turns on one machine. Crates are downloaded before the clock starts.
set -euo pipefail
commit=$(git rev-parse "${1:-HEAD}")
tests=${2---release}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone -q "$(git rev-parse --show-toplevel)" "$folder/clone"
cd "$folder/clone"
git checkout -q "$commit"
export CARGO_TARGET_DIR="$folder/target" CARGO_TERM_COLOR=never
cargo fetch --locked -q
processor=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)
measure() { # command
    local from=$SECONDS times
    times=$( { TIMEFORMAT='%U %S'; time "$@" >"$folder/log" 2>&1; } 2>&1) || { tail -n 30 "$folder/log"; exit 1; }
    awk -v times="$times" -v wall=$((SECONDS - from)) -v what="$*" -v commit="${commit:0:12}" \
        -v machine="$processor, $(nproc) cores" 'BEGIN {
            split(times, t, " ")
            printf "| `%s` | %.0f | %d min %02d s | %s | %s |\n", what, t[1] + t[2], wall / 60, wall % 60, commit, machine
        }'
}
echo "| command | processor, s | wall | commit | machine |"
echo "|---|--:|--:|---|---|"
measure cargo run --release -- run experiments/quickstart.toml
# shellcheck disable=SC2086
measure cargo test $tests --workspace
