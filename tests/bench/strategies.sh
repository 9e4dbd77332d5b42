#!/usr/bin/env bash
# Time to the first token by each way to share a prompt, in turn, medians: single, tsp, tsp-skip, chain (even cut) over
# the same links and operators.
#
#   strategies.sh [-r ROUNDS] -m MODEL.gguf -p TOKENS [--local-boards P] [more options of 'kvr bench']
#
# Boards are processes of one core each (default two). With --emulate PROFILE they take a profile's time instead of
# computing. Leave the machine alone meanwhile. Program: the environment's KVR.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)
kvr=${KVR:-$here/../../build/release/bin/kvr}
rounds=3
if [ "${1:-}" = -r ]; then rounds=$2; shift 2; fi
[ -x "$kvr" ] || { echo "no program at KVR='$kvr': build it, or set KVR" >&2; exit 1; }
boards=(--local-boards 2)
for word; do case $word in --local-boards | --boards) boards=() ;; esac; done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

strategies="single tsp tsp-skip chain"
for ((round = 0; round < rounds; round++)); do
    for strategy in $strategies; do
        "$kvr" bench "${boards[@]}" -n 0 -r 1 -o json --strategy $strategy "$@" >"$tmp/out" 2>"$tmp/err" ||
            { cat "$tmp/err" >&2; exit 1; }
        sed -n 's/.*"ttft_ms": *\([0-9.]*\).*/\1/p' "$tmp/out" | head -n 1 >>"$tmp/$strategy"
    done
done
median() { sort -g "$1" | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'; }
chain=$(median "$tmp/chain")
printf '%-10s %12s %12s  %s\n' strategy ttft_ms "x chain" runs
for strategy in $strategies; do
    awk -v name=$strategy -v ms="$(median "$tmp/$strategy")" -v chain="$chain" \
        -v runs="$(tr '\n' ' ' <"$tmp/$strategy")" \
        'BEGIN { printf "%-10s %12.1f %12.2f  %s\n", name, ms, ms / chain, runs }'
done
