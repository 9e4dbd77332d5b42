#!/bin/sh
# kvr bench: the columns and names of llama-bench, one and more boards. No figure is judged.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
need_data models/stories260K.gguf
bench() { kvr bench -m "$STORIES" -d reference "$@"; }

md_has_the_columns_of_llama_bench() {
    bench -p 16 -n 4 -r 2
    must_pass
    [ "$(wc -l <"$TMP/out")" = 4 ] || fail "$(wc -l <"$TMP/out") lines, not 4"
    head -n 1 "$TMP/out" | tr -d ' ' >"$TMP/head"
    [ "$(cat "$TMP/head")" = '|model|size|params|backend|threads|boards|test|t/s|ttft_ms|planned|resident|' ] ||
        fail "$(cat "$TMP/head")"
    grep -q 'pp16 | .*±' "$TMP/out" || fail "no pp16"
    grep -q 'tg4 | .*±' "$TMP/out" || fail "no tg4"
}
csv_has_as_many_values_as_names() {
    bench -p 16 -n 4 -r 2 -o csv
    must_pass
    awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' "$TMP/out" || fail "ragged csv"
    for key in build_commit backends model_filename model_type model_size model_n_params n_threads n_prompt n_gen \
        n_depth test_time avg_ns stddev_ns avg_ts stddev_ts boards ttft_ms mem_model mem_session mem_device mem_mapped \
        mem_driver_estimate mem_peak_resident; do
        head -n 1 "$TMP/out" | tr ',' '\n' | grep -qx $key || fail "no $key"
    done
}
json_has_samples() {
    bench -p 16 -n 4 -r 3 -o json
    must_pass
    [ "$(grep -c '"samples_ns": \[[0-9]*,[0-9]*,[0-9]*\]' "$TMP/out")" = 2 ] || fail "not two times three samples"
    [ "$(sed -n '1p' "$TMP/out")$(sed -n '$p' "$TMP/out")" = '[]' ] || fail "no array"
}
zero_skips_a_test() {
    bench -p 0 -n 4 -r 1
    must_pass
    grep -q 'pp' "$TMP/out" && fail "pp was run"
    bench -p 16 -n 0 -r 1
    must_pass
    grep -q 'tg' "$TMP/out" && fail "tg was run"
}
lists_of_lengths_and_boards() {
    bench -p 8,16 -n 0 -r 1 --local-boards 1,2,3 -o csv
    must_pass
    [ "$(wc -l <"$TMP/out")" = 7 ] || fail "$(wc -l <"$TMP/out") lines, not 7"
}
prompts_and_answers_behind_cached_tokens() {
    bench -p 16 -n 4 -r 1 --depth 0,40
    must_pass
    for test in pp16 'pp16 @ d40' tg4 'tg4 @ d40'; do grep -q " $test |" "$TMP/out" || fail "no '$test'"; done
    bench -p 16 -n 0 -r 1 --depth 40 --local-boards 2
    must_fail 2 "without other boards"
}
memory_is_what_the_plan_says() {
    bench -p 16 -n 0 -c 64 -r 1 -o csv
    must_pass
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 {
        print $at["mem_model"] + $at["mem_session"] + $at["mem_device"]; exit !($at["mem_peak_resident"] > 0) }' \
        "$TMP/out" >"$TMP/sum" || fail "nothing resident"
    kvr plan -m "$STORIES" -d reference -c 64
    [ "$(awk '$1 == "total" { print $(NF - 1) }' "$TMP/out")" = "$(cat "$TMP/sum")" ] || fail "not the plan's bytes"
}
every_operator_is_measured_by_itself() {
    bench --kernels --batch 16 --depth 0,32 -r 1
    must_pass
    for op in embed norm matmul rope store attention activate; do
        [ "$(grep -c "^| prefill | $op " "$TMP/out")" -gt 0 ] || fail "no $op of a prompt"
    done
    for op in embed norm matmul rope store attention activate head; do
        [ "$(grep -c "^| decode  | $op " "$TMP/out")" -gt 0 ] || fail "no $op of an answer"
    done
    [ "$(grep -c '^| prefill | attention .* 32 |' "$TMP/out")" = 1 ] || fail "no attention at 32"
    grep -q '^sum at depth 0: 16 prompt tokens' "$TMP/out" || fail "no sum"
    bench --kernels --local-boards 2
    must_fail 2 "leave --local-boards away"
}
operators_of_an_opencl_device_have_their_share_of_its_peaks() {
    "$KVR" devices | grep -q '^opencl:' || { echo "  no OpenCL device"; return 0; }
    kvr bench -m "$STORIES" -d opencl --kernels --batch 16 --depth 0 -r 1 -o csv
    must_pass
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; n = NF } NF != n { exit 1 }
        NR > 1 && $at["fma_share"] == "" && $at["read_share"] == "" { exit 1 }' "$TMP/out" ||
        fail "a row without a share"
    grep -q '^"prefill","matmul"' "$TMP/out" || fail "no matmul"
}
# At the first row, long before all of the lengths are measured.
output_that_is_lost_ends_the_measurement() {
    for format in md csv json; do
        must_lose_output bench -m "$STORIES" -d reference -p 8,200000 -n 0 -r 1000 -o $format -c 200001
        must_lose_output bench -m "$STORIES" -d reference --kernels --batch 8 --depth 0,32 -r 1000 -o $format
    done
    must_lose_output bench --paper
    { "$KVR" bench -m "$STORIES" -d reference -p 8,200000 -n 0 -r 1000 -c 200001 2>"$TMP/err"
      echo $? >"$TMP/code"; } | :
    [ -s "$TMP/err" ] && { fail "a reader that went away is told:"; show; }
    [ "$(cat "$TMP/code")" = 1 ] || fail "exit code $(cat "$TMP/code")"
}
a_context_too_small_is_a_sentence() {
    bench -p 100 -n 4 -c 64
    must_fail 1 "raise -c"
}

check md_has_the_columns_of_llama_bench
check csv_has_as_many_values_as_names
check json_has_samples
check zero_skips_a_test
check lists_of_lengths_and_boards
check prompts_and_answers_behind_cached_tokens
check memory_is_what_the_plan_says
check every_operator_is_measured_by_itself
check operators_of_an_opencl_device_have_their_share_of_its_peaks
check output_that_is_lost_ends_the_measurement
check a_context_too_small_is_a_sentence
finish
