#!/usr/bin/env bash
# What can be said about the sources without running them.
#   tests/check.sh [PART...]      no part: all, in this order
#     format     no tabs, no blanks at line ends, a newline at the end, at most 120 columns, in what people write;
#                wider may be tables and addresses of Markdown, and JSON, where a text cannot be broken
#     clang      everything compiles with clang without a warning (preset clang)
#     tidy       clang-tidy by .clang-tidy over the product (not the tests)
#     cppcheck   the same by cppcheck
#     size       sizes and deepest stack of the core on this machine (tests/size/)
#     options    each part left out (OpenCL, CLBlast, ZeroMQ, POSIX), and everything as shared libraries: builds, and so
#                do consumers of what is installed
# Findings that were looked at and are none: tests/check.txt. A part whose tool is missing says so and is skipped.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
for part; do
    case $part in
    format | clang | tidy | cppcheck | size | options) ;;
    *) echo "tests/check.sh: no part '$part': see --help" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/.."
mkdir -p build
known=tests/check.txt
bad=0 skipped=0

missing() { command -v "$1" >/dev/null && return 1; echo "skipped: $1 is not installed"; skipped=$((skipped + 1)); }

quietly() { # what a build prints is of interest only when it fails
    local log=build/check.log
    "$@" >$log 2>&1 || { tail -n 60 $log; echo "did not build: $*"; return 1; }
}

# Source files as git knows them, or all there are where this is no repository.
sources() {
    { { [ -e .git ] && git ls-files "$@" 2>/dev/null; } ||
        find . -name build -prune -o -type f -print | sed 's|^\./||'; } |
        while read -r file; do
            for pattern in "$@"; do
                # shellcheck disable=SC2254
                case $file in $pattern) [ -e "$file" ] && echo "$file"; break ;; esac
            done
        done
}

# Reads "FILE:LINE:COLUMN: KIND: TEXT [CHECK]", prints what is not known; fails if there is any.
unknown() {
    awk -v known=$known -v root="$PWD/" '
        BEGIN { while ((getline line < known) > 0) if (line !~ /^#/) { split(line, w, " "); ok[w[1] " " w[2]] = 1 } }
        /: (warning|error|style|performance|portability): / {
            file = $0; sub(root, "", file); sub(/:.*/, "", file)
            check = $NF; n = split(substr(check, 2, length(check) - 2), names, ",")
            for (i = 1; i <= n; i++) if ((file " [" names[i] "]") in ok) next
            if (!($0 in seen)) { seen[$0] = 1; print; found++ }
        }
        END { print found + 0 " findings"; exit found > 0 }'
}

format() {
    local files
    files=$(sources '*.c' '*.h' '*.cl' '*.h.in' '*.sh' '*.py' '*.awk' '*.cmake' '*CMakeLists.txt' '*.md' '*.json')
    # shellcheck disable=SC2086
    LC_ALL=C.UTF-8 awk '
        function say(what) { print FILENAME ":" FNR ": " what; found++ }
        function characters(line) { gsub(/[\200-\277]/, "", line); return length(line) } # of UTF-8, in any awk
        FNR == 1 { is_json = FILENAME ~ /\.json$/; is_text = FILENAME ~ /\.md$/ }
        is_json || (is_text && (/^ *\|/ || /https?:/)) { wide = 1 }
        /\t/ { say("a tab: four spaces") }
        /[ \r]$/ { say("blanks at the end of the line") }
        !wide && length($0) > 120 && characters($0) > 120 { say("more than 120 columns") }
        { wide = 0 }
        END { exit found > 0 }' $files || return 1
    for file in $files; do
        [ -z "$(tail -c 1 "$file")" ] || { echo "$file: no newline at the end"; return 1; }
    done
    echo "$(wc -w <<<"$files") files"
}

clang() {
    if missing clang; then return; fi
    quietly cmake --preset clang && quietly cmake --build --preset clang
}

tidy() {
    if missing clang-tidy; then return; fi
    [ -e build/clang/compile_commands.json ] || quietly cmake --preset clang || return 1
    quietly cmake --build --preset clang || return 1 # it reads generated files
    sources 'lib/src/*.c' 'opencl/src/*.c' 'port/*.c' 'examples/cli/*.c' |
        xargs -P "$(nproc)" -n 4 clang-tidy -quiet -p build/clang 2>/dev/null | unknown
}

cppcheck_() {
    if missing cppcheck; then return; fi
    local includes
    includes=$(for folder in lib/src lib/include opencl/include port/*/include; do echo "-I $folder"; done)
    # shellcheck disable=SC2046,SC2086
    cppcheck --enable=warning,performance,portability --inconclusive --std=c99 -q -j "$(nproc)" $includes \
        --suppress=missingIncludeSystem --template='{file}:{line}:{column}: {severity}: {message} [{id}]' \
        $(sources 'lib/src/*.c' 'opencl/src/*.c' 'port/*.c' 'examples/cli/*.c') 2>&1 | unknown
}

size() {
    tests/size/size.sh || { [ $? = 77 ] && skipped=$((skipped + 1)); }
}

parts=${*:-format clang tidy cppcheck size options}
for part in $parts; do
    echo "-- $part"
    case $part in
    format | clang | tidy | size) "$part" || { echo "FAILED: $part"; bad=1; } ;;
    cppcheck) cppcheck_ || { echo "FAILED: $part"; bad=1; } ;;
    options) tests/options.sh || { echo "FAILED: $part"; bad=1; } ;;
    esac
done
exit $bad
