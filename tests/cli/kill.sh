#!/bin/sh
# Boards and leads that are killed: the right text from those that are left, or a named error where all are needed, and
# no process is left. faults.sh has the matrix.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
PROMPT=$(some_ids 1500) # long enough that a signal meets it in the middle
CTX=1600

# start_lead ARGS: in the background, stderr on descriptor 8; LEAD_PID. Descriptor 9 of all its processes is a pipe
# whose end is seen when the last of them is gone.
start_lead() {
    rm -f "$TMP/lead.err" "$TMP/alive"
    mkfifo "$TMP/lead.err" "$TMP/alive"
    "$KVR" run -m "$STORIES" -d reference -c $CTX --ids "$PROMPT" -n 4 --print-ids --verbose --even "$@" \
        >"$TMP/out" 2>"$TMP/lead.err" 9>"$TMP/alive" &
    LEAD_PID=$!
    PIDS="$PIDS $LEAD_PID"
    exec 8<"$TMP/lead.err" 7<"$TMP/alive"
}
# pid_of_board N: from the notes on descriptor 8.
pid_of_board() {
    FOUND=
    while [ -z "$FOUND" ] && IFS= read -r line <&8; do
        FOUND=$(echo "$line" | sed -n "s/.*board $1: pid \([0-9]*\) .*/\1/p")
    done
    [ -n "$FOUND" ] || fail "the lead named no board $1"
}
# ends_well: after the kill; CODE, and what it said in $TMP/err.
lead_ends() {
    cat <&8 >"$TMP/err"
    wait $LEAD_PID
    CODE=$?
    echo "  exit code $CODE$(grep '^kvr: [^n]' "$TMP/err" | head -n 1 | sed 's/^/: /')"
}
no_process_is_left() {
    timeout 20 cat <&7 >/dev/null || fail "a process is left after 20 s"
    exec 7<&- 8<&-
}
right_text_or_named_error() {
    if [ $CODE = 0 ]; then
        same "$TMP/right" "$TMP/out" "text after a kill"
    else
        must_fail 1 "board $1 (pid .*) was killed by signal 9"
        [ -s "$TMP/out" ] && fail "text beside an error: $(cat "$TMP/out")"
    fi
}

the_right_text_is_known() {
    kvr run -m "$STORIES" -d reference -c $CTX --ids "$PROMPT" -n 4 --print-ids
    must_pass
    cp "$TMP/out" "$TMP/right"
}
a_killed_local_helper_is_named_and_the_others_answer() {
    for board in 0 1; do
        start_lead --local-boards 3
        pid_of_board $board
        kill -9 "$FOUND"
        lead_ends
        must_pass "board $board killed"
        same "$TMP/right" "$TMP/out" "text without board $board"
        no_process_is_left
    done
}
a_killed_local_helper_ends_a_prompt_that_needs_all() {
    for board in 0 1; do
        start_lead --local-boards 3 --need-all-boards --board-timeout 20
        pid_of_board $board
        kill -9 "$FOUND"
        lead_ends
        right_text_or_named_error $board
        no_process_is_left
    done
}
a_stopped_local_helper_ends_in_the_timeout() {
    start_lead --local-boards 2
    pid_of_board 0
    kill -STOP "$FOUND"
    lead_ends
    must_pass "board 0 stopped"
    same "$TMP/right" "$TMP/out" "text without board 0"
    no_process_is_left
    start_lead --local-boards 2 --board-timeout 2 --need-all-boards
    pid_of_board 0
    kill -STOP "$FOUND"
    lead_ends
    if [ $CODE = 0 ]; then same "$TMP/right" "$TMP/out" "text"; else must_fail 1 "board 0"; fi
    no_process_is_left
}
a_local_helper_that_never_comes_up_is_named() {
    start_lead --local-boards 2 --start-timeout 1 --board-timeout 2 --need-all-boards
    FOUND=
    while [ -z "$FOUND" ] && IFS= read -r line <&8; do
        FOUND=$(echo "$line" | sed -n 's/.*starting board 0 (pid \([0-9]*\)).*/\1/p')
    done
    kill -STOP "$FOUND"
    lead_ends
    # in the rare case that it was up already it is the prompt that runs into the timeout
    must_fail 1 "board 0 (pid $FOUND).*\(did not come up within 1 s\|does not answer\|no sign of life\)"
    no_process_is_left
}
a_killed_lead_leaves_no_helper() {
    start_lead --local-boards 3
    pid_of_board 1
    kill -9 $LEAD_PID
    lead_ends
    no_process_is_left
}
a_signal_to_the_lead_ends_all() {
    start_lead --local-boards 3
    pid_of_board 1
    kill -TERM $LEAD_PID
    lead_ends
    [ $CODE = 143 ] || fail "exit code $CODE after SIGTERM"
    no_process_is_left
}
no_helper_is_left_after_a_good_end() {
    start_lead --local-boards 3
    lead_ends
    must_pass
    same "$TMP/right" "$TMP/out" "text"
    no_process_is_left
}
a_killed_remote_helper_ends_in_the_timeout() {
    rm -f "$TMP/helper.err"
    mkfifo "$TMP/helper.err"
    "$KVR" board -m "$STORIES" -d reference -c $CTX --listen 'tcp://127.0.0.1:*' 2>"$TMP/helper.err" &
    helper=$!
    PIDS="$PIDS $helper"
    exec 6<"$TMP/helper.err"
    IFS= read -r line <&6
    address=$(echo "$line" | sed -n 's/^listening on //p')
    [ -n "$address" ] || fail "the helper said '$line'"
    start_lead --boards "$address" --listen 'tcp://127.0.0.1:*'
    while IFS= read -r line <&6 && [ "${line#working on}" = "$line" ]; do :; done
    kill -9 $helper
    wait $helper 2>/dev/null
    lead_ends
    must_pass "board 0 killed"
    same "$TMP/right" "$TMP/out" "text without board 0"
    no_process_is_left
    exec 6<&-
}
a_helper_outlives_a_killed_lead() {
    rm -f "$TMP/helper.err"
    mkfifo "$TMP/helper.err"
    "$KVR" board -m "$STORIES" -d reference -c $CTX --listen 'tcp://127.0.0.1:*' --board-timeout 3 2>"$TMP/helper.err" &
    helper=$!
    PIDS="$PIDS $helper"
    exec 6<"$TMP/helper.err"
    IFS= read -r line <&6
    address=$(echo "$line" | sed -n 's/^listening on //p')
    start_lead --boards "$address" --listen 'tcp://127.0.0.1:*'
    while IFS= read -r line <&6 && [ "${line#working on}" = "$line" ]; do :; done
    kill -9 $LEAD_PID
    wait $LEAD_PID 2>/dev/null
    exec 7<&- 8<&-
    # the next lead may find it busy with the lost one until its timeout
    kvr run -m "$STORIES" -d reference -c $CTX --ids "$PROMPT" -n 4 --print-ids --even --boards "$address" \
        --listen 'tcp://127.0.0.1:*' --board-timeout 30
    if [ $CODE != 0 ]; then must_fail 1 "board 0 at $address"; else same "$TMP/right" "$TMP/out" "text"; fi
    kill $helper
    cat <&6 >/dev/null
    exec 6<&-
    wait $helper
    CODE=$?
    [ $CODE = 0 ] || fail "the helper ended with exit code $CODE"
}

a_second_lead_is_told_that_the_board_is_busy() {
    rm -f "$TMP/helper.err"
    mkfifo "$TMP/helper.err"
    "$KVR" board -m "$STORIES" -d reference -c $CTX --listen 'tcp://127.0.0.1:*' 2>"$TMP/helper.err" &
    helper=$!
    PIDS="$PIDS $helper"
    exec 6<"$TMP/helper.err"
    IFS= read -r line <&6
    address=$(echo "$line" | sed -n 's/^listening on //p')
    start_lead --boards "$address" --partition 1499,1
    while IFS= read -r line <&6 && [ "${line#working on}" = "$line" ]; do :; done
    second() {
        timeout "$LIMIT_S" "$KVR" run -m "$STORIES" -d reference --ids 1,403 -n 1 "$@" >"$TMP/second" 2>"$TMP/err"
    }
    second --boards "$address" --need-all-boards
    CODE=$?
    must_fail 1 "board 0 at $address.*another lead"
    second --boards "$address"
    CODE=$?
    must_pass "a second lead that may go on alone"
    grep -q "board 0 at $address is lost: .*another lead" "$TMP/err" || { fail "not said why:"; show; }
    cp "$TMP/second" "$TMP/went_on"
    second
    same "$TMP/second" "$TMP/went_on" "text of the second lead"
    lead_ends
    must_pass "the first lead"
    same "$TMP/right" "$TMP/out" "text of the first lead"
    no_process_is_left
    kill $helper
    cat <&6 >/dev/null
    exec 6<&-
    wait $helper
}

# until_says PATTERN: reads descriptor 6 until a line has it.
until_says() {
    while IFS= read -r line <&6; do
        case $line in *"$1"*) return ;; esac
    done
    fail "nobody said '$1'"
}
a_board_that_was_stopped_takes_part_again_in_the_same_conversation() {
    start_board -m "$STORIES" -d reference -c 512 || return
    first=$BOARD first_pid=$BOARD_PID
    start_board -m "$STORIES" -d reference -c 512 || return
    rm -f "$TMP/in" "$TMP/chat.err"
    mkfifo "$TMP/in" "$TMP/chat.err"
    "$KVR" chat -m "$STORIES" -d reference -c 512 -n 4 --template plain --board-timeout 1 \
        --even --boards "$first,$BOARD" <"$TMP/in" >"$TMP/out" 2>"$TMP/chat.err" &
    chat=$!
    PIDS="$PIDS $chat"
    exec 5>"$TMP/in" 6<"$TMP/chat.err"
    printf 'Once upon a time there was a boy\n/stats\n' >&5
    until_says 'boards   3'
    kill -STOP $first_pid
    printf 'And then he met a friend\n/stats\n' >&5
    until_says "board 0 at $first is lost"
    until_says 'boards   2'
    kill -CONT $first_pid
    # it comes back when this machine gives it time, and the lead does not wait for it
    for try in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.1
        printf '/reset\nThey went home\n/stats\n' >&5
        until_says 'boards   '
        case $line in 'boards   3'*) break ;; esac
    done
    case $line in 'boards   3'*) ;; *) fail "still without it: $line" ;; esac
    exec 5>&-
    cat <&6 >/dev/null
    exec 6<&-
    wait $chat || fail "the conversation ended with exit code $?"
    end_board $first_pid
    end_board "$BOARD_PID"
}

check the_right_text_is_known
check a_killed_local_helper_is_named_and_the_others_answer
check a_killed_local_helper_ends_a_prompt_that_needs_all
check a_stopped_local_helper_ends_in_the_timeout
check a_local_helper_that_never_comes_up_is_named
check a_killed_lead_leaves_no_helper
check a_signal_to_the_lead_ends_all
check no_helper_is_left_after_a_good_end
check a_killed_remote_helper_ends_in_the_timeout
check a_helper_outlives_a_killed_lead
check a_second_lead_is_told_that_the_board_is_busy
check a_board_that_was_stopped_takes_part_again_in_the_same_conversation
finish
