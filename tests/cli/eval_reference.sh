#!/bin/sh
# The reference backend against logits and ids that llama.cpp and llama2.c produced.
. "$(dirname "$0")/common.sh"
. "$HERE/golden.sh"

logits_agree_with_llama_cpp() { golden llamacpp-logits 0.02 -d reference --kv f32; }
logits_agree_with_llama_cpp_with_an_f16_cache() { golden llamacpp-logits 0.02 -d reference; }
logits_agree_with_llama2_c() { golden fp32-logits 0.02 -d reference --kv f32; }
five_hundred_greedy_ids_agree() { greedy500 -d reference --kv f32; }
five_hundred_greedy_ids_agree_with_an_f16_cache() { greedy500 -d reference; }

the_reduced_listing_is_the_end_of_the_full_one() {
    kvr eval -m "$STORIES" --ids $IDS -n 8 -d reference
    must_pass
    tail -n +5 "$TMP/out" | cut -d' ' -f1-5 >"$TMP/tail"
    kvr eval -m "$STORIES" --ids $IDS -n 8 -d reference --from-prefill --raw "$TMP/raw"
    must_pass
    cut -d' ' -f1-5 "$TMP/out" >"$TMP/reduced"
    same "$TMP/tail" "$TMP/reduced" "steps"
    [ "$(wc -c <"$TMP/raw")" = $((8 * 512 * 4)) ] || fail "raw has $(wc -c <"$TMP/raw") bytes"
}
no_new_tokens_gives_the_prompt_steps_only() {
    kvr eval -m "$STORIES" --ids $IDS -n 0 -d reference
    must_pass
    [ "$(grep -c '^step' "$TMP/out")" = 5 ] || fail "$(grep -c '^step' "$TMP/out") steps"
    [ "$(tail -n 1 "$TMP/out")" = greedy ] || fail "last line '$(tail -n 1 "$TMP/out")'"
}
bad_ids_are_sentences() {
    kvr eval -m "$STORIES" --ids 1,512 -n 1 -d reference
    must_fail 1 "ids 0 to 511, not 512"
    kvr eval -m "$STORIES" --ids 1,x -n 1 -d reference
    must_fail 1 "whole numbers"
    kvr eval -m "$STORIES" --ids -5 -n 1 -d reference
    must_fail 1 "whole numbers"
}
a_raw_file_that_cannot_be_written_is_a_sentence() {
    kvr eval -m "$STORIES" --ids 1 -n 1 -d reference --raw "$TMP/none/raw"
    must_fail 1 "cannot write"
}
output_that_is_lost_ends_it() {
    # a context that would take hours
    must_lose_output eval -m "$STORIES" --ids 1 -n 1000000 -c 1048576 -d reference
}

check logits_agree_with_llama_cpp
check logits_agree_with_llama_cpp_with_an_f16_cache
check logits_agree_with_llama2_c
check five_hundred_greedy_ids_agree
check five_hundred_greedy_ids_agree_with_an_f16_cache
check the_reduced_listing_is_the_end_of_the_full_one
check no_new_tokens_gives_the_prompt_steps_only
check bad_ids_are_sentences
check a_raw_file_that_cannot_be_written_is_a_sentence
check output_that_is_lost_ends_it
finish
