#!/usr/bin/env bash
# From a fresh clone to an answer: installs the Debian or Ubuntu packages that are missing, builds, and lets a chain of
# boards on this machine (one process per core, two to four, each held to one core) answer a long prompt with the model
# that comes with kvr. Then the same prompt on one such board, to compare.
#   KVR_SKIP_INSTALL=1   install nothing, everything is here by other means
set -euo pipefail
export LC_ALL=C.UTF-8 # what wc and sort print is read below
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# = 0 ] || { echo "quickstart.sh: takes no argument, not '$1'; see --help" >&2; exit 2; }
cd "$(dirname "$0")/.."

kvr=build/release/bin/kvr
model=examples/model/kvr-logbook.gguf
prompts=examples/model/prompts
new_tokens=32

cores=$(nproc)
boards=$((cores < 2 ? 2 : cores > 4 ? 4 : cores))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%s\n' "$*"; }
quietly() { # quietly NAME COMMAND...: shows the output only of what fails
    local name=$1 begin=$SECONDS
    shift
    printf '%s ... ' "$name"
    if ! "$@" >"$work/log" 2>&1 </dev/null; then
        say failed
        tail -n 40 "$work/log" >&2
        exit 1
    fi
    say "done ($((SECONDS - begin)) s)"
}
build() { cmake --preset release && cmake --build --preset release; }

quietly "1/3 packages" tests/packages.sh build
quietly "2/3 building into build/release" build

# The longest prompt; line N of answers.txt is the answer to the Nth prompt.
prompt=$(cd "$prompts" && wc -c [0-9]*.txt | grep -v ' total$' | sort -n | awk 'END { print $2 }')
line=$(cd "$prompts" && ls [0-9]*.txt | grep -nxF "$prompt" | cut -d: -f1)
expected=$(sed -n "${line}p" "$prompts/answers.txt")

say "3/3 $boards boards, one core each, read $prompts/$prompt and answer"
say
say "   its first line:  $(head -n 1 "$prompts/$prompt")"
say "   its last line:   $(tail -n 1 "$prompts/$prompt")"
say
run() { # run BOARDS NTH: answers on stdout; text, statistics and messages in $work/BOARDS.NTH.*
    local name=$work/$1.$2
    if ! "$kvr" run -m "$model" -f "$prompts/$prompt" -n "$new_tokens" --local-boards "$1" --board-cores 1 \
        --stats-json "$name.json" </dev/null 2>"$name.err" | tee "$name.txt"; then
        cat "$name.err" >&2
        exit 1
    fi
}
run "$boards" 1
for nth in 1 2 3; do
    if [ "$nth" != 1 ]; then run "$boards" "$nth" >/dev/null; fi
    run 1 "$nth" >/dev/null
done

median() { # median BOARDS KEY: of the three runs
    sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" "$work/$1".[123].json | sort -n | sed -n 2p
}
row() { # row NAME KEY UNIT
    awk -v name="$1" -v one="$(median 1 "$2")" -v chain="$(median "$boards" "$2")" -v unit="$3" \
        'BEGIN { printf "%-22s %10.1f %10.1f  %s\n", name, one, chain, unit }'
}
say
printf '%-22s %10s %10s\n' "median of 3 runs" "1 board" "$boards boards"
row "time to first token" ttft_ms ms
row "generation" decode_tokens_per_s tokens/s
awk -v one="$(median 1 ttft_ms)" -v chain="$(median "$boards" ttft_ms)" \
    'BEGIN { if (chain > 0) printf "The chain gives its first token %.2f times as fast as one board.\n", one / chain }'

bad=0
for text in "$work"/*.txt; do
    if ! cmp -s "$text" "$work/1.1.txt"; then
        say "The texts of one board and of the chain DIFFER. One board said first, then once:"
        cat "$work/1.1.txt" "$text"
        bad=1
    fi
done
if [ $bad = 0 ]; then say "The texts of one board and of the chain are identical."; fi
answer=$(tr -s ' \n' '  ' <"$work/$boards.1.txt" | sed 's/^ *//; s/ *$//')
if [ "$answer" = "$expected" ]; then
    say "The answer is the expected one."
else
    say "The answer is NOT the expected one, which is: $expected"
    bad=1
fi
exit $bad
