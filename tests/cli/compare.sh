#!/bin/sh
# tests/bench/compare.sh with another engine that only answers as llama-bench does. No figure of ours is judged.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
need_data models/stories260K.gguf
COMPARE=$HERE/../bench/compare.sh

# Two samples, 1000 and 3000 tokens a second, in the layout of llama-bench -o json.
cat >"$TMP/llama-bench" <<'EOF'
#!/bin/sh
[ "$1" != --help ] || { echo "  -d, --n-depth <n>"; exit 0; }
echo "$*" >>"$(dirname "$0")/calls"
p=0 n=0 d=0
while [ $# -gt 0 ]; do
    case $1 in -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; esac
    shift
done
row() {
    printf '%s{\n    "build_commit": "abc123",\n    "build_number": 42,\n    "model_type": "a, b [c]",\n' "$1"
    printf '    "n_prompt": %s,\n    "n_gen": %s,\n    "n_depth": %s,\n' "$2" "$3" "$d"
    printf '    "samples_ns": [ 1, 2 ],\n    "samples_ts": [ 1000, 3000 ]\n  }'
}
printf '[\n  '
[ "$p" = 0 ] || row '' "$p" 0
[ "$n" = 0 ] || row ',
  ' 0 "$n"
printf '\n]\n'
EOF
chmod +x "$TMP/llama-bench"
compare() {
    LLAMA_BENCH=$TMP/llama-bench KVR=$KVR timeout -k 5 "$LIMIT_S" "$COMPARE" "$@" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
}

both_take_their_turn_and_ratios_are_printed() {
    KVR_ARGS="-d reference" compare --threads 1 --rounds 2 --depth 16 "$STORIES"
    must_pass compare.sh
    grep -q '^kvr .* beside llama-bench abc123 (build 42); threads 1; .* medians of 4 samples in 2 rounds' "$TMP/out" ||
        fail "the head says: $(head -n 1 "$TMP/out")"
    for test in pp512 'pp512 @ d16' tg128; do
        grep -Eq "^\| stories260K.gguf \| $test \| [0-9.]+ \| 2000.00 \| [0-9.]+ \|$" "$TMP/out" || fail "no row $test"
    done
    awk -F'|' '/tg128/ { exit !($4 / $5 - $6 < 0.01 && $6 - $4 / $5 < 0.01) }' "$TMP/out" || fail "not the ratio"
    [ "$(wc -l <"$TMP/calls")" = 4 ] || fail "$(wc -l <"$TMP/calls") calls, not 4"
}
what_is_missing_is_a_sentence() {
    compare --threads 1 "$TMP/nothing.gguf"
    [ "$CODE" = 1 ] && grep -q 'cannot read' "$TMP/err" || fail "no sentence about the file"
    compare --threads x "$STORIES"
    [ "$CODE" = 1 ] && grep -q 'whole number' "$TMP/err" || fail "no sentence about --threads"
    LLAMA_BENCH=$TMP/none KVR=$KVR "$COMPARE" "$STORIES" 2>"$TMP/err" && fail "went on without an engine"
    grep -q 'is no program' "$TMP/err" || fail "no sentence about the engine"
}

check both_take_their_turn_and_ratios_are_printed
check what_is_missing_is_a_sentence
finish
