#!/bin/sh
# kvr perplexity against llama.cpp's figures (tests/oracle/llamacpp_perplexity.py, llama-cpp-python 0.3.36): the first
# 64 KiB of the text, chunks of 512. [8] 63.3104, final 101.1173; to 0.1 %.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
need_data models/stories260K.gguf texts/tinyshakespeare.txt
TEXT=$TMP/text
head -c 65536 "$DATA/texts/tinyshakespeare.txt" >"$TEXT"
perplexity() { kvr perplexity -m "$STORIES" "$@"; }
final() { sed -n 's/^Final estimate: PPL = \([0-9.]*\) .*/\1/p' "$TMP/out"; }
# about WANTED: the final figure is within 0.1 %.
about() {
    got=$(final)
    awk -v a="$got" -v b="$1" 'BEGIN { exit !(a > b * 0.999 && a < b * 1.001) }' || fail "perplexity '$got', not $1"
    echo "  $got for $1"
}

eight_chunks_agree_with_llama_cpp() {
    perplexity -f "$TEXT" --chunks 8 -d reference
    must_pass
    about 63.3104
    [ "$(grep -o '\[[0-9]*\]' "$TMP/out" | tr -d '\n')" = '[1][2][3][4][5][6][7][8]' ] ||
        fail "not eight running values"
}
the_whole_text_agrees_with_llama_cpp_on_opencl() {
    "$KVR" devices | grep -q '^opencl:' || { echo "  no OpenCL device"; return 0; }
    perplexity -f "$TEXT" -d opencl
    must_pass
    about 101.1173
}
integer_products_change_less_than_half_a_percent() {
    "$KVR" devices | grep -q '^opencl:' || { echo "  no OpenCL device"; return 0; }
    for precision in exact integer; do
        kvr perplexity -m "$HERE/../../examples/model/kvr-logbook.gguf" \
            -f "$HERE/../../examples/model/prompts/1900.txt" -c 256 -d opencl --precision $precision
        must_pass
        final >"$TMP/$precision"
    done
    echo "  $(cat "$TMP/exact") exact, $(cat "$TMP/integer") in integers"
    paste "$TMP/exact" "$TMP/integer" | awk '{ exit !($2 > $1 * 0.995 && $2 < $1 * 1.005) }' || fail "too far apart"
}
the_batch_size_does_not_show() {
    perplexity -f "$TEXT" -c 64 --chunks 3 -d reference
    must_pass
    cp "$TMP/out" "$TMP/first"
    perplexity -f "$TEXT" -c 64 --chunks 3 -d reference --batch 7
    same "$TMP/first" "$TMP/out" "figures"
}
the_text_may_come_from_stdin() {
    perplexity -f - -c 16 -d reference <"$TEXT" --chunks 2
    must_pass
    grep -q '^Final estimate' "$TMP/out" || fail "no figure"
}
a_text_too_short_is_a_sentence() {
    printf 'a few words' >"$TMP/short"
    perplexity -f "$TMP/short" -d reference
    must_fail 1 "lower -c"
    perplexity -f "$TMP/nothing" -d reference
    must_fail 1 "cannot read"
}
output_that_is_lost_ends_it() {
    for _ in $(seq 100); do cat "$TEXT"; done >"$TMP/long" # far more than the limit has time for
    must_lose_output perplexity -m "$STORIES" -f "$TMP/long" -d reference
}
damaged_weights_are_a_sentence_and_no_figure() {
    for bytes in '\0\0\300\177' '\0\0\200\177'; do # NaN, infinity
        { head -c -4 "$STORIES"; printf "$bytes"; } >"$TMP/damaged.gguf"
        kvr perplexity -m "$TMP/damaged.gguf" -f "$TEXT" --chunks 3 -d reference
        must_fail 1 "not a number.*weights are damaged"
        grep -q 'nan\|inf\|Final' "$TMP/out" && fail "a figure: $(cat "$TMP/out")"
    done
}
wrong_usage_is_exit_code_2() {
    perplexity
    must_fail 2 "no text given"
    perplexity -f "$TEXT" -c 3
    must_fail 2 "-c wants a whole number from 4"
}

check eight_chunks_agree_with_llama_cpp
check the_whole_text_agrees_with_llama_cpp_on_opencl
check integer_products_change_less_than_half_a_percent
check the_batch_size_does_not_show
check the_text_may_come_from_stdin
check a_text_too_short_is_a_sentence
check output_that_is_lost_ends_it
check damaged_weights_are_a_sentence_and_no_figure
check wrong_usage_is_exit_code_2
finish
