#!/bin/sh
# kvr board as its own process: serves lead after lead, refuses what does not fit, and leads name what is wrong.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
IDS=$(some_ids 40)
lead() {
    kvr run -m "$STORIES" -d reference --ids "$IDS" -n 16 --print-ids --ignore-eos --even \
        --listen 'tcp://127.0.0.1:*' "$@"
}
helper() { start_board -m "$STORIES" -d reference "$@"; }

boards_serve_one_lead_after_the_other() {
    lead
    must_pass "one board"
    cp "$TMP/out" "$TMP/one"
    helper || return
    first=$BOARD first_pid=$BOARD_PID
    helper || return
    for partition in 13,13,14 1,1,38 38,1,1; do
        lead --boards "$first,$BOARD" --partition $partition
        must_pass "$partition"
        same "$TMP/one" "$TMP/out" "$partition"
    done
    lead --boards "$BOARD,$first"
    must_pass "the other way round"
    same "$TMP/one" "$TMP/out" "the other way round"
    lead --boards "$BOARD"
    must_pass "one of them"
    same "$TMP/one" "$TMP/out" "one of them"
    end_board $first_pid
    end_board $BOARD_PID
}
a_board_ends_well_on_a_signal() {
    for signal in TERM INT; do
        helper || return
        kill -$signal "$BOARD_PID"
        wait "$BOARD_PID"
        CODE=$?
        [ $CODE = 0 ] || fail "exit code $CODE after SIG$signal: $(cat "$BOARD_LOG")"
    done
}
an_address_in_use_is_a_sentence() {
    helper || return
    kvr board -m "$STORIES" -d reference --listen "$BOARD"
    must_fail 1 "another program listens on this address"
    end_board "$BOARD_PID"
}
a_bad_address_is_a_sentence() {
    for address in '' nonsense tcp://127.0.0.1 tcp://127.0.0.1:99999 udp://127.0.0.1:7000 ipc:///tmp/x; do
        kvr board -m "$STORIES" -d reference --listen "$address"
        must_fail 1 "kvr: "
        [ "$FAILED" = 0 ] || { fail "for '$address'"; return; }
    done
    lead --boards nonsense
    must_fail 1 "nonsense"
}
a_helper_with_another_model_is_refused() {
    [ -e "$DATA/models/llama-2-tiny-random.gguf" ] || return 0
    start_board -m "$DATA/models/llama-2-tiny-random.gguf" -d reference || return
    lead --boards "$BOARD" --board-timeout 10
    must_fail 1 "board 0"
    grep -q 'another model' "$TMP/err" || { fail "not said why:"; show; }
    grep -q 'check that' "$TMP/err" && { fail "sent to look for a board that answers:"; show; }
    end_board "$BOARD_PID"
}
a_helper_with_another_cache_type_is_refused() {
    helper --kv f32 || return
    lead --boards "$BOARD" --board-timeout 10
    must_fail 1 "board 0"
    grep -q 'keys and values' "$TMP/err" || { fail "not said why:"; show; }
    end_board "$BOARD_PID"
}
a_helper_with_too_small_a_context_is_refused() {
    helper -c 16 || return
    lead --boards "$BOARD" --board-timeout 10
    must_fail 1 "board 0"
    grep -q 'context' "$TMP/err" || { fail "not said why:"; show; }
    end_board "$BOARD_PID"
}
a_refused_lead_does_not_harm_the_next() {
    helper || return
    lead --boards "$BOARD" --kv f32 --board-timeout 10
    must_fail 1 "board 0"
    lead --boards "$BOARD"
    must_pass "the next lead"
    end_board "$BOARD_PID"
}
a_helper_that_never_comes_up_is_named_or_left_out() {
    helper || return
    gone=$BOARD
    end_board "$BOARD_PID"
    lead --boards "$gone" --board-timeout 0.3 --need-all-boards
    must_fail 1 "board 0"
    lead --boards "$gone" --board-timeout 0.3
    must_pass "alone"
    same "$TMP/one" "$TMP/out" "alone"
    grep -q "note: board 0 at $gone is lost: .*does not answer" "$TMP/err" || { fail "not said:"; show; }
}
local_helpers_that_do_not_come_up_in_time_are_named() {
    lead --local-boards 2 --start-timeout 0
    must_fail 1 "board 0 (pid [0-9]*) did not come up within 0 s"
}
a_local_helper_that_ends_before_it_is_ready_is_named() {
    # stdin is a model for the lead only: helpers have none
    timeout "$LIMIT_S" "$KVR" run -m /dev/stdin -d reference --ids "$IDS" -n 1 --local-boards 3 \
        <"$STORIES" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
    must_fail 1 "board [01] (pid [0-9]*) ended with exit code 1 before"
    grep -q '^kvr: board [01]: /dev/stdin: ' "$TMP/err" || { fail "the helper's own words are not passed on"; show; }
}
a_partition_of_another_prompt_is_a_sentence() {
    lead --local-boards 2 --partition 5,5
    must_fail 1 "partition"
}
# libzmq opens files of its own: none of them may become what is printed to.
closed_standard_streams_of_a_lead_are_a_sentence() {
    for closed in '>&-' '2>&- <&-'; do
        sh -c "exec timeout $LIMIT_S \"\$0\" \"\$@\" $closed" "$KVR" run -m "$STORIES" -d reference --ids "$IDS" \
            -n 16 --print-ids --ignore-eos --even --local-boards 2 >"$TMP/out" 2>"$TMP/err"
        CODE=$?
        if [ "$closed" = '>&-' ]; then must_fail 1 "cannot write the output"; else must_pass "without stderr"; fi
    done
    same "$TMP/one" "$TMP/out" "without stderr"
}

check boards_serve_one_lead_after_the_other
check a_board_ends_well_on_a_signal
check an_address_in_use_is_a_sentence
check a_bad_address_is_a_sentence
check a_helper_with_another_model_is_refused
check a_helper_with_another_cache_type_is_refused
check a_helper_with_too_small_a_context_is_refused
check a_refused_lead_does_not_harm_the_next
check a_helper_that_never_comes_up_is_named_or_left_out
check local_helpers_that_do_not_come_up_in_time_are_named
check a_local_helper_that_ends_before_it_is_ready_is_named
check a_partition_of_another_prompt_is_a_sentence
check closed_standard_streams_of_a_lead_are_a_sentence
finish
