#!/bin/sh
# Fuzzes every target in turn: tests/fuzz/run.sh [SECONDS] [TARGET ...]; 3600 seconds each, all targets, when not told.
# Needs clang. Builds in build/fuzz; what was found to be new is kept in build/found/TARGET, so that the next run goes
# on from there, and inputs that break a promise are written to build/found/TARGET-crash-*. Ends with a table, and with
# an error when there was a finding.
set -eu
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/../.."
ALL="model frame text chat table profile tuning"
SECONDS_EACH=${1:-3600}
[ $# -gt 0 ] && shift
case $SECONDS_EACH in
'' | *[!0-9]*) echo "fuzz/run.sh: no number of seconds: '$SECONDS_EACH'; see --help" >&2; exit 2 ;;
esac
for target; do
    case " $ALL " in *" $target "*) ;; *) echo "fuzz/run.sh: no target '$target'; there are $ALL" >&2; exit 2 ;; esac
done
CC=${CC:-$(command -v clang || command -v clang-14)}
export CC
mkdir -p build/found
cmake -S . -B build/fuzz -DKVR_BUILD_FUZZ=ON -DKVR_WITH_ZMQ=OFF -DKVR_BUILD_EXAMPLES=OFF >build/found/configure.log
# most bytes of an input
most() {
    case $1 in
    model) echo 9000 ;;
    frame) echo 4096 ;;
    text | chat) echo 2048 ;;
    *) echo 1024 ;;
    esac
}
# shellcheck disable=SC2086 # words
[ $# -gt 0 ] || set -- $ALL
TABLE=
FOUND=0
for target; do
    cmake --build build/fuzz --target "fuzz_$target" >/dev/null
    mkdir -p "build/found/$target"
    log=build/found/$target.log
    code=0
    "build/fuzz/tests/fuzz/fuzz_$target" -max_len="$(most "$target")" -timeout=20 -max_total_time="$SECONDS_EACH" \
        -print_final_stats=1 -artifact_prefix="build/found/$target-" "build/found/$target" "tests/fuzz/corpus/$target" \
        >"$log" 2>&1 || code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    [ "$code" = 0 ] || FOUND=1
    finding=$([ "$code" = 0 ] && echo 'no finding' || echo "FINDING, see $log")
    TABLE="$TABLE$(printf '%-8s %12s runs  %s' "$target" "${runs:-?}" "$finding")
"
    printf '%s' "$TABLE" | tail -n 1
done
exit "$FOUND"
