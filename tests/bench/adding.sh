#!/usr/bin/env bash
# What one more board does to the time to the first token, with the default cut, which may leave boards out: a row per
# prompt length, a column per chain, and the most that a board made it slower.
#
#   adding.sh [-r RUNS] [-e PROFILE] SHAPE.gguf [TOKENS ...]       default: 3, snapdragon-8gen3; 16 64 256 1024 2048
#
# Emulated boards (examples/profiles) over real frames and loopback; the least of RUNS. SHAPE: make_model.py --hollow.
# Leave the machine alone meanwhile: at 16 tokens a millisecond is what is looked for.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)
kvr=${KVR:-$here/../../build/release/bin/kvr}
runs=3 profile=$here/../../examples/profiles/boards/snapdragon-8gen3.txt
while getopts r:e: option; do
    case $option in
    r) runs=$OPTARG ;;
    e) profile=$OPTARG ;;
    *) echo "see $0 --help" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "adding.sh: no shape given; see --help" >&2; exit 2; }
[ -x "$kvr" ] || { echo "no program at KVR='$kvr': build it, or set KVR" >&2; exit 1; }
shape=$1
shift
[ $# -gt 0 ] || set -- 16 64 256 1024 2048
chains="1 2 3 4 5 6 7 8"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
printf '%8s' tokens
printf ' %9s' $chains
echo
for tokens; do
    printf '%8s' "$tokens"
    for boards in $chains; do
        "$kvr" bench -m "$shape" --emulate "$profile" --local-boards "$boards" -p "$tokens" -n 0 -r "$runs" -o json \
            >"$tmp/out" 2>"$tmp/err" || { cat "$tmp/err" >&2; exit 1; }
        ms=$(sed -n 's/.*"least_ttft_ms": *\([0-9.]*\).*/\1/p' "$tmp/out")
        printf ' %9.1f' "$ms"
        echo "$tokens $boards $ms" >>"$tmp/all"
    done
    echo
done
awk '{ if ($2 > 1 && $3 / before > worst) { worst = $3 / before; row = $1 " tokens, board " $2 }; before = $3 }
     END { printf "most that a board cost: %.1f %% (%s)\n", 100 * (worst - 1), row }' "$tmp/all"
