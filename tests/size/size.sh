#!/usr/bin/env bash
# Size of the core (lib/ with its reference backend, -Os) for a target, compared with tests/size/table.txt.
#   tests/size/size.sh [--update] [TRIPLE...]      no triple: this machine's own compiler
# Fails when a limit is passed (LIMIT_...), or when a figure has grown by more than the tolerance since the table was
# made. Figures depend on the compiler: they are compared only with a row that the same version made, limits always.
# --update writes what was found into the table, for a commit that knows why.
# 77: skipped, the compiler is not here. Libraries for TRIPLE: tests/cross.sh puts them into build/deps.
set -euo pipefail
cd "$(dirname "$0")/../.."

LIMIT_TEXT=150000 # bytes of code and constants
LIMIT_TEXT_S390X=180000 # no board: it is here for its byte order
LIMIT_STACK=16384 # bytes: deepest sum of frames inside the core, reference backend included (stack.awk)
TOLERANCE_PERCENT=3
TOLERANCE_BYTES=256

update=0
if [ "${1:-}" = --update ]; then update=1; shift; fi
table=tests/size/table.txt
native=$(${CC:-cc} -dumpmachine)
if [ $# = 0 ]; then set -- "$native"; fi

# measure TRIPLE: sets text data bss stack path version; 77 when a tool is missing
measure() {
    local triple=$1 build=build/size/$1 tool=$1- compiler=$1-gcc
    local options=(-G Ninja -DCMAKE_BUILD_TYPE=MinSizeRel -DKVR_WITH_OPENCL=OFF -DKVR_WITH_ZMQ=OFF -DKVR_WITH_POSIX=OFF
        -DKVR_BUILD_EXAMPLES=OFF -DKVR_BUILD_TESTS=OFF
        "-DCMAKE_C_FLAGS_MINSIZEREL=-Os -DNDEBUG -ffunction-sections -fdata-sections -fcallgraph-info=su")
    if [ "$triple" = "$native" ]; then
        compiler=${CC:-cc} tool=
        options+=(-DCMAKE_C_COMPILER="$compiler")
    elif [ -e "toolchains/$triple.cmake" ]; then
        options+=(-DCMAKE_TOOLCHAIN_FILE="$PWD/toolchains/$triple.cmake" -DKVR_TARGET_PREFIX="$PWD/build/deps/$triple")
    else
        echo "tests/size/size.sh: no file for '$triple' in toolchains/" >&2
        exit 2
    fi
    command -v "$compiler" >/dev/null || { echo "$triple: skipped: $compiler is not installed"; return 77; }
    "$compiler" --version | grep -q 'Free Software' ||
        { echo "$triple: skipped: only GCC writes the call graph"; return 77; }

    rm -rf "$build" # call graphs of files that are gone, options of another day
    mkdir -p "$build"
    { cmake -S . -B "$build" "${options[@]}" && cmake --build "$build" --target kvr_core; } >"$build/log" 2>&1 ||
        { tail -n 30 "$build/log"; echo "$triple: did not build"; return 1; }
    version=$("$compiler" -dumpfullversion)
    read -r text data bss < <("${tool}size" -t "$build/lib/libkvr_core.a" | awk 'END { print $1, $2, $3 }')
    local graph
    graph=$(find "$build/lib" -name '*.ci' | sort | xargs awk -f tests/size/stack.awk) ||
        { echo "$triple: $graph"; return 1; }
    read -r stack path <<<"$graph"
    tests/symbols.sh "${tool}nm" "$build/lib/libkvr_core.a" || { echo "$triple: symbols, see above"; return 1; }
}

too_large() { # too_large NAME FOUND BEFORE
    [ "$2" -le $(($3 + $3 * TOLERANCE_PERCENT / 100 + TOLERANCE_BYTES)) ] && return 1
    echo "$triple: $1 grew from $3 to $2 bytes: make it smaller, or tests/size/size.sh --update $triple and say why"
}

bad=0 done=0
for triple in "$@"; do
    status=0
    measure "$triple" || status=$?
    if [ $status = 77 ]; then continue; fi
    done=$((done + 1))
    if [ $status != 0 ]; then bad=1; continue; fi
    echo "$triple: text $text, data $data, bss $bss, deepest stack $stack: $path"
    limit=$LIMIT_TEXT
    if [ "$triple" = s390x-linux-gnu ]; then limit=$LIMIT_TEXT_S390X; fi
    if [ "$text" -gt "$limit" ]; then echo "$triple: text is limited to $limit bytes"; bad=1; fi
    if [ "$stack" -gt $LIMIT_STACK ]; then echo "$triple: the stack is limited to $LIMIT_STACK bytes"; bad=1; fi
    if [ $update = 1 ]; then
        row=$(printf '%-22s %-8s %7d %6d %4d %6d   %s' "$triple" "$version" "$text" "$data" "$bss" "$stack" "$path")
        { grep '^#' $table; { grep -v -e '^#' -e "^$triple " $table || true; echo "$row"; } | sort; } >build/size/table
        cp build/size/table $table
        continue
    fi
    before=$(awk -v t="$triple" '$1 == t' $table)
    if [ -z "$before" ]; then
        echo "$triple: not in $table: tests/size/size.sh --update $triple"
        bad=1
        continue
    fi
    read -r _ made_by text_before data_before bss_before stack_before _ <<<"$before"
    if [ "$made_by" != "$version" ]; then
        echo "$triple: not compared: the table is of GCC $made_by, this is $version"
        continue
    fi
    if too_large text "$text" "$text_before"; then bad=1; fi
    if too_large data "$data" "$data_before"; then bad=1; fi
    if too_large bss "$bss" "$bss_before"; then bad=1; fi
    if too_large "deepest stack" "$stack" "$stack_before"; then bad=1; fi
done
[ $bad = 0 ] || exit 1
[ $done != 0 ] || exit 77
