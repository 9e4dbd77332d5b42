#!/usr/bin/env bash
# The planner's predictions beside what chains really took: a line per run, the median error at the end.
#
#   predict.sh [-m MODEL.gguf] [-c CORES] [-r RUNS] [-e SHAPE.gguf]...
#
# Real boards (-m; default the shipped model): one core each of this machine, up to CORES of them (default: all). Their
# profile is measured first (five seconds, 'kvr plan --measure'). Leave the machine alone meanwhile. -m none: no such.
# Emulated boards (-e; default: 1.1 B and 7 B shapes made by make_model.py, which needs python3 with numpy and gguf):
# boards that sleep as long as their profile says (examples/profiles), over real frames and loopback. Their frames are
# real work: many boards of a large shape want more than one core. -e none: no such.
#
# Every chain is measured by 'kvr bench' (a warm-up, then the best of RUNS, default 3): cut evenly and by the full
# search, both from the profile, and as a user gets it (default), from what boards say of themselves and the lead meets.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)
kvr=${KVR:-$here/../../build/release/bin/kvr}
model=$here/../../examples/model/kvr-logbook.gguf cores=$(nproc) runs=3 shapes=()
while getopts m:c:r:e: option; do
    case $option in
    m) model=$OPTARG ;;
    c) cores=$OPTARG ;;
    r) runs=$OPTARG ;;
    e) shapes+=("$OPTARG") ;;
    *) echo "see $0 --help" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || { echo "predict.sh: unexpected argument '$1'; see --help" >&2; exit 2; }
[ -x "$kvr" ] || { echo "no program at KVR='$kvr': build it, or set KVR" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

printf '%-42s %6s %-22s %12s %12s %8s\n' boards tokens cut predicted_ms measured_ms ratio
# run LABEL PROFILE LINK P TOKENS ARGS...: one chain, with every cut
run() {
    local label=$1 profile=$2 link=$3 boards=$4 tokens=$5
    shift 5
    for cut in even planned default; do
        if [ "$cut" != even ] && [ "$boards" = 1 ]; then continue; fi
        local by=(--profile "$profile" --link "$link")
        case $cut in
        even) by+=(--even) ;;
        default) by=() ;;
        esac
        "$kvr" bench "$@" -p "$tokens" -n 0 -r "$runs" -o json --local-boards "$boards" "${by[@]}" \
            >"$tmp/run.json" 2>"$tmp/run.err" || { cat "$tmp/run.err" >&2; exit 1; }
        awk -F'[][, :"]+' -v label="$label" -v tokens="$tokens" -v boards="$boards" -v cut="$cut" '
            /"least_ttft_ms"/ { measured = $3 }
            /"expected_ttft_ms"/ { expected = $3 }
            /"boards"/ { used = $3 }
            END {
                if (!(measured > 0) || !(expected > 0)) exit 1
                printf "%-42s %6d %-22s %12.1f %12.1f %8.3f\n",
                       label, tokens, cut, expected, measured, expected / measured
            }' "$tmp/run.json" | tee -a "$tmp/all" || { echo "no times in:" >&2; cat "$tmp/run.json" >&2; exit 1; }
    done
}

if [ "$model" = none ]; then cores=0; fi
if [ "$cores" != 0 ]; then
    echo "real boards: $(basename "$model"), one core each"
    "$kvr" plan -m "$model" -t 1 --measure --name one-core -o "$tmp/one-core.txt" 2>"$tmp/measure.err" ||
        { cat "$tmp/measure.err" >&2; exit 1; }
fi
for tokens in 256 512 1024 1536; do
    for ((boards = 1; boards <= cores; boards *= 2)); do
        run "$boards x one core" "$tmp/one-core.txt" loopback "$boards" "$tokens" -m "$model"
    done
done

if [ ${#shapes[@]} = 0 ]; then
    if python3 -c 'import numpy, gguf' 2>/dev/null; then
        python3 "$here/make_model.py" --hollow --type Q4_0 -o "$tmp/1.1b.gguf" >"$tmp/make.log"
        python3 "$here/make_model.py" --hollow --like llama-7b --type Q4_0 -o "$tmp/7b.gguf" >>"$tmp/make.log"
        shapes=("$tmp/1.1b.gguf" "$tmp/7b.gguf")
    else
        echo "no emulated boards: make_model.py needs python3 with numpy and gguf, or give -e SHAPE.gguf"
        shapes=(none)
    fi
fi
profiles=$here/../../examples/profiles/boards
for shape in "${shapes[@]}"; do
    if [ "$shape" = none ]; then continue; fi
    echo "emulated boards: $(basename "$shape")"
    fast=$profiles/snapdragon-8gen3.txt slow=$profiles/rk3588.txt
    for boards in 1 2 4 8; do
        run "$boards x snapdragon-8gen3" "$fast" loopback "$boards" 256 -m "$shape" --emulate "$fast"
    done
    run "rk3588,snapdragon-8gen3,snapdragon-8gen3" "$slow,$fast,$fast" loopback 3 256 -m "$shape" \
        --emulate "$slow,$fast,$fast"
    run "snapdragon-8gen3,rk3588" "$fast,$slow" loopback 2 256 -m "$shape" --emulate "$fast,$slow"
done

sort -g -k1,1 <(awk '{ e = $NF - 1; print e < 0 ? -e : e }' "$tmp/all") | awk '
    { error[NR] = $1 }
    END { printf "%d runs, median error of the prediction %.1f %%, largest %.1f %%\n", NR,
          100 * (error[int((NR + 1) / 2)] + error[int(NR / 2) + 1]) / 2, 100 * error[NR] }'
