#!/bin/sh
# kvr run, info and plan on one board: text, ids, sampling, context limits, statistics, signals.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
run() { kvr run -m "$STORIES" -d reference "$@"; }

text_goes_to_stdout_and_statistics_to_stderr() {
    run -p 'Once upon a time' -n 40
    must_pass
    [ "$(wc -c <"$TMP/out")" -gt 20 ] || fail "little text: $(cat "$TMP/out")"
    grep -q 'tokens/s' "$TMP/out" && fail "statistics on stdout"
    grep -q '^prompt .* tokens, first token after .* ms' "$TMP/err" || fail "no statistics"
    grep -q '\[#*\.*\]' "$TMP/err" && fail "a progress bar without a terminal"
}
file_stdin_and_option_give_the_same() {
    printf 'Once upon a time' >"$TMP/prompt"
    run -p 'Once upon a time' -n 20
    cp "$TMP/out" "$TMP/one"
    run -f "$TMP/prompt" -n 20
    must_pass
    same "$TMP/one" "$TMP/out" "-f FILE"
    timeout "$LIMIT_S" "$KVR" run -m "$STORIES" -d reference -f - -n 20 <"$TMP/prompt" >"$TMP/out" 2>"$TMP/err" ||
        fail "-f - failed"
    same "$TMP/one" "$TMP/out" "-f -"
}
ids_in_and_ids_out_equal_eval() {
    kvr eval -m "$STORIES" -d reference --ids 1,403,407 -n 20 --greedy-only
    must_pass
    sed 's/^greedy //' "$TMP/out" >"$TMP/one"
    run --ids 1,403,407 -n 20 --print-ids --ignore-eos
    must_pass
    same "$TMP/one" "$TMP/out" "ids"
}
the_ends_of_the_ranges_of_sampling_are_taken() {
    for value in 0 0.01 10; do run -p Once -n 2 --temp $value --top-p 1 --min-p 1; must_pass "--temp $value"; done
    for value in 0 0.1 10; do run -p Once -n 2 --repeat-penalty $value; must_pass "--repeat-penalty $value"; done
}
a_seed_repeats_and_another_differs() {
    run -p Once -n 60 --temp 1 --seed 7 --ignore-eos
    must_pass
    cp "$TMP/out" "$TMP/one"
    run -p Once -n 60 --temp 1 --seed 7 --ignore-eos
    same "$TMP/one" "$TMP/out" "seed 7 twice"
    run -p Once -n 60 --temp 1 --seed 8 --ignore-eos
    cmp -s "$TMP/one" "$TMP/out" && fail "seeds 7 and 8 give the same text"
    run -p Once -n 60 --temp 0.8 --top-k 5 --top-p 0.9 --min-p 0.05 --repeat-penalty 1.1 --repeat-last 32 --seed 7
    must_pass "all sampling options"
}
top_k_1_is_greedy() {
    run -p Once -n 30
    cp "$TMP/out" "$TMP/one"
    run -p Once -n 30 --temp 1 --top-k 1 --seed 3
    must_pass
    same "$TMP/one" "$TMP/out" "top-k 1"
}
a_prompt_longer_than_the_context_is_a_sentence() {
    run --ids "$(some_ids 65)" -n 1 -c 64
    must_fail 1 "the prompt has 65 tokens, the context holds 64: raise -c or shorten it"
    run --ids "$(some_ids 65)" -n 1 -c 64 --local-boards 2
    must_fail 1 "the prompt has 65 tokens, the context holds 64"
}
a_full_context_ends_the_answer_with_a_note() {
    run --ids "$(some_ids 60)" -n 100 -c 64 --ignore-eos --print-ids
    must_pass
    n=$(wc -w <"$TMP/out")
    [ "$n" -ge 4 ] && [ "$n" -le 5 ] || fail "$n new tokens for 4 free places"
    grep -q 'context of 64 tokens is full' "$TMP/err" || fail "no note"
}
statistics_as_json() {
    run -p Once -n 5 --stats-json "$TMP/stats.json"
    must_pass
    for key in backend boards partition prompt_tokens new_tokens ttft_ms decode_tokens_per_s wait_prefix_ms \
        frames_in; do
        grep -q "\"$key\": " "$TMP/stats.json" || fail "no $key"
    done
    run -p Once -n 5 --stats-json "$TMP/none/stats.json"
    must_fail 1 "cannot write"
}
an_empty_prompt_is_a_bos_alone() {
    run -p '' -n 5 --print-ids
    must_pass
    kvr eval -m "$STORIES" -d reference --ids 1 -n 5 --greedy-only
    [ "greedy $(sed -n 1p "$TMP/out" | sed 's/^greedy //')" = "$(cat "$TMP/out")" ] || fail "not as from BOS"
}
a_file_without_a_vocabulary_prints_ids_only() {
    kvr run -m "$HERE/../golden/models/qwen2.gguf" -d reference --ids 1,2,3 -n 4
    must_fail 1 "add --print-ids"
    [ -s "$TMP/out" ] && fail "printed: $(cat "$TMP/out")"
    kvr run -m "$HERE/../golden/models/qwen2.gguf" -d reference --ids 1,2,3 -n 4 --print-ids
    must_pass
    [ "$(wc -w <"$TMP/out")" = 4 ] || fail "not four ids: $(cat "$TMP/out")"
}
a_missing_prompt_file_is_a_sentence() {
    run -f "$TMP/none" -n 1
    must_fail 1 "cannot read"
}
a_reader_that_goes_away_ends_it_quietly() {
    { "$KVR" run -m "$STORIES" -d reference -p Once -n 400 --ignore-eos 2>"$TMP/err"; echo $? >"$TMP/code"; } |
        head -c 5 >/dev/null
    [ "$(cat "$TMP/code")" -le 1 ] || fail "exit code $(cat "$TMP/code")"
    grep -q 'kvr: ' "$TMP/err" && fail "said: $(cat "$TMP/err")"
}
a_signal_ends_it_with_its_number() {
    for signal in TERM INT; do
        mkfifo "$TMP/stream.$signal"
        # a shell without job control starts it with SIGINT ignored; the program sets its own handlers
        "$KVR" run -m "$STORIES" -d reference -p Once -n 1000000 -c 1048576 --ignore-eos \
            >"$TMP/stream.$signal" 2>"$TMP/err" &
        pid=$!
        PIDS="$PIDS $pid"
        exec 8<"$TMP/stream.$signal"
        head -c 1 <&8 >/dev/null # it is answering
        kill -$signal $pid
        cat <&8 >/dev/null
        wait $pid
        CODE=$?
        exec 8<&-
        number=$(kill -l $signal 2>/dev/null | grep '^[0-9]*$' || case $signal in TERM) echo 15 ;; INT) echo 2 ;; esac)
        [ $CODE = $((128 + number)) ] || fail "exit code $CODE after SIG$signal"
    done
}
info_names_the_architecture_and_the_types() {
    kvr info -m "$STORIES"
    must_pass
    for text in 'architecture    llama' 'layers          5' 'F32 ' 'SentencePiece' '512 tokens'; do
        grep -q "$text" "$TMP/out" || fail "no '$text'"
    done
}
info_reads_a_vocabulary_only_file() {
    [ -e "$DATA/tokenizers/ggml-vocab-gpt-2.gguf" ] || return 0
    kvr info -m "$DATA/tokenizers/ggml-vocab-gpt-2.gguf"
    must_pass
    grep -q 'byte-level BPE' "$TMP/out" || fail "no BPE"
    grep -q 'vocabulary-only' "$TMP/out" || fail "not told as vocabulary-only"
}
the_plan_adds_up() {
    kvr plan -m "$STORIES" -d reference -c 512 --boards 3
    must_pass
    awk '/^region/ { on = 1; next } !NF { on = 0 }
        on { bytes = $(NF - 1)
             if ($0 !~ /= sum/) { sum += bytes; rows++; next }
             if (sum != bytes && rows) { print $1 ": rows " sum ", sum " bytes; bad = 1 }
             sum = 0; rows = 0 }
        END { exit bad }' "$TMP/out" >"$TMP/sums" || fail "$(cat "$TMP/sums")"
    grep -q 'even partition of 512 prompt tokens: 171,171,170' "$TMP/out" || fail "no even partition"
    grep -q 'largest frame' "$TMP/out" || fail "no frame size"
}

check text_goes_to_stdout_and_statistics_to_stderr
check file_stdin_and_option_give_the_same
check ids_in_and_ids_out_equal_eval
check the_ends_of_the_ranges_of_sampling_are_taken
check a_seed_repeats_and_another_differs
check top_k_1_is_greedy
check a_prompt_longer_than_the_context_is_a_sentence
check a_full_context_ends_the_answer_with_a_note
check statistics_as_json
check an_empty_prompt_is_a_bos_alone
check a_file_without_a_vocabulary_prints_ids_only
check a_missing_prompt_file_is_a_sentence
check a_reader_that_goes_away_ends_it_quietly
check a_signal_ends_it_with_its_number
check info_names_the_architecture_and_the_types
check info_reads_a_vocabulary_only_file
check the_plan_adds_up
finish
