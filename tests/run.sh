#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. From a fresh clone, as root or with sudo.
#   tests/run.sh [release] [asan] [tsan] [check] [valgrind] [cross] [all]      no argument: all (but not valgrind)
#     release   optimised, warnings are errors, every test
#     asan      the same tests under AddressSanitizer and UndefinedBehaviorSanitizer
#     tsan      what has threads around it under ThreadSanitizer
#     check     format, clang, clang-tidy, cppcheck, size and stack, every option left out, shared libraries
#               (tests/check.sh)
#     valgrind  one program of each kind under Valgrind's memcheck
#     cross     other processors under qemu, and chains of them with this one (tests/cross.sh)
#   KVR_SKIP_INSTALL=1   install nothing        KVR_SKIP_CROSS=1   leave out the stage cross
set -euo pipefail

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
stages=
for argument in "${@:-all}"; do
    case $argument in
    release | asan | tsan | check | valgrind | cross) stages="$stages $argument" ;;
    all) stages="release asan tsan check cross" ;;
    -h | --help) usage; exit 0 ;;
    *) echo "tests/run.sh: no stage '$argument'" >&2; usage >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/.."

groups="build test"
case $stages in *cross*) [ "${KVR_SKIP_CROSS:-0}" = 1 ] || groups="$groups cross" ;; esac
case $stages in *check*) groups="$groups check" ;; esac
case $stages in *valgrind*) groups="$groups valgrind" ;; esac
tests/packages.sh $groups

mkdir -p build
logs=$(mktemp -d build/run.XXXXXX)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0 broken=0
summary=

# Adds up the closing lines of every ctest run in a log; a build that failed counts as one failed test.
count() {
    local total bad left_out unbuilt
    total=$(sed -n 's/.*tests failed out of \([0-9]*\).*/\1/p' "$1" | awk '{ n += $1 } END { print n + 0 }')
    bad=$(sed -n 's/.*, \([0-9]*\) tests failed out of.*/\1/p' "$1" | awk '{ n += $1 } END { print n + 0 }')
    left_out=$(grep -c '\*\*\*Skipped' "$1" || true)
    unbuilt=$(grep -c '^did not build: ' "$1" || true)
    passed=$((passed + total - bad - left_out)) failed=$((failed + bad + unbuilt)) skipped=$((skipped + left_out))
    counted="$((total - bad - left_out)) passed, $((bad + unbuilt)) failed, $left_out skipped"
}

# stage NAME COMMAND...: runs on after a failure, so that one run shows all of them.
stage() {
    local name=$1 begin=$SECONDS verdict=ok
    shift
    echo
    echo "== $name"
    if ! "$@" 2>&1 | tee "$logs/$name"; then
        verdict=FAILED broken=$((broken + 1))
    fi
    count "$logs/$name"
    summary="$summary$(printf '%-8s %-6s %4d s   %s' "$name" "$verdict" $((SECONDS - begin)) "$counted")"$'\n'
}

build_and_test() {
    { cmake --preset "$1" && cmake --build --preset "$1"; } || { echo "did not build: $1"; return 1; }
    ctest --preset "$1" -j "$(nproc)"
}

for name in $stages; do
    case $name in
    release) stage release build_and_test ci ;;
    asan | tsan | valgrind) stage "$name" build_and_test "$name" ;;
    check) stage check tests/check.sh ;;
    cross)
        if [ "${KVR_SKIP_CROSS:-0}" = 1 ]; then
            summary="${summary}cross    left out: KVR_SKIP_CROSS=1"$'\n'
        else
            stage cross tests/cross.sh
        fi
        ;;
    esac
done

echo
printf '%s' "$summary"
# A stage that broke in any other way is a failure, too.
if [ "$broken" -gt 0 ] && [ "$failed" = 0 ]; then failed=$broken; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$broken" = 0 ] && [ "$passed" -gt 0 ]
