#!/bin/sh
# Boards in network namespaces of their own, over ports of a given rate (examples/rig.sh). Wants root; skipped
# elsewhere.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
RIG=$HERE/../../examples/rig.sh
export KVR
timeout 60 "$RIG" -b "-m $STORIES -d reference" -- true 2>"$TMP/why"
case $? in
0) ;;
77) skip "$(cat "$TMP/why")" ;;
*) echo "the rig does not come up: $(cat "$TMP/why")"; exit 1 ;;
esac

# rig ARGS: as kvr does in the other scripts
rig() {
    timeout -k 5 "$LIMIT_S" "$RIG" "$@" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
}
# Of this rig only: others may run beside it.
nothing_is_left_of() {
    ip netns list | grep -q "^kvr-rig-$1-" && fail "namespaces of rig $1 are left: $(ip netns list)"
}
# The rig's process id, from inside it.
NAME='ip netns identify $$ | sed "s/kvr-rig-//; s/-.*//"'

boards_across_a_network_give_one_boards_answer() {
    ids=$(some_ids 90)
    kvr eval -m "$STORIES" -d reference --ids "$ids" -n 12 --from-prefill --raw "$TMP/one.raw"
    must_pass
    for strategy in chain tsp; do
        rig -n 2 -r 100mbit -b "-m $STORIES -d reference" -- kvr eval -m "$STORIES" -d reference --ids "$ids" -n 12 \
            --raw "$TMP/chain.raw" --strategy $strategy --boards @boards --listen @listen
        must_pass "rig, $strategy"
        same "$TMP/one.raw" "$TMP/chain.raw" "logits, $strategy"
    done
}
a_benchmark_of_boards_that_run_elsewhere() {
    rig -r 1gbit -b "-m $STORIES -d reference" -- kvr bench -m "$STORIES" -d reference -p 40 -n 0 -r 1 -c 128 -o csv \
        --even --boards @boards --listen @listen
    must_pass
    grep -q '"chain"' "$TMP/out" || fail "no row of a chain: $(cat "$TMP/out")"
    kvr bench -m "$STORIES" -p 4 -n 0 --boards tcp://127.0.0.1:1 --local-boards 2
    must_fail 2 "one of them"
}
no_port_is_faster_than_its_rate() {
    cat >"$TMP/quick.txt" <<'END'
kvr-board 1
name quick
source made up for this test
measured 0
attention_tile 16
dense_gmacs 1000
attention_gmacs 1000
memory_gbs 100
score_bytes 0
call_us 1
frame_gbs 0
prompt_us 0
END
    ask="--emulate $TMP/quick.txt -c 512"
    rig -n 2 -r 2mbit -u 7 -b "-m $STORIES $ask" -- kvr run --even -m "$STORIES" $ask --ids "$(some_ids 400)" -n 1 \
        --stats-json "$TMP/stats.json" --boards @boards --listen @listen
    must_pass
    # what came in takes its time at 2 Mbit/s; 10 % for what the buckets held
    awk -F'[ ,:]+' '/"ttft_ms"/ { ms = $3 } /"bytes_in"/ { bytes = $3 }
        END { exit !(bytes > 100000 && ms > 0.9 * bytes * 8 / 2000) }' "$TMP/stats.json" ||
        fail "faster than the network: $(grep 'ttft\|bytes_in' "$TMP/stats.json")"
}
the_rig_is_taken_down_whatever_becomes_of_the_command() {
    rig -n 2 -b "-m $STORIES -d reference" -- sh -c "$NAME; exit 3"
    [ "$CODE" = 3 ] || fail "the command's exit code is lost: $CODE"
    nothing_is_left_of "$(cat "$TMP/out")"
    rig -b "-m $STORIES -c 99999999" -- true
    [ "$CODE" = 1 ] || fail "a helper that cannot start gave $CODE"
    grep -q "did not come up" "$TMP/err" || fail "it does not say what failed: $(cat "$TMP/err")"
}
# A signal reaches the rig while its command waits.
end_a_rig_by() {
    mkfifo "$TMP/up.$1"
    "$RIG" -r 1gbit -u 1 -b "-m $STORIES -d reference" -- sh -c "($NAME) >$TMP/up.$1; exec sleep 300" 2>"$TMP/err" &
    pid=$!
    PIDS="$PIDS $pid"
    read -r name <"$TMP/up.$1"
    [ "$name" = "$pid" ] || fail "rig $pid calls itself '$name'"
    kill -"$1" "$pid"
    wait "$pid" 2>/dev/null
}
a_signal_takes_it_down() {
    end_a_rig_by TERM
    nothing_is_left_of "$pid"
}
what_a_killed_rig_left_the_next_one_removes() {
    end_a_rig_by KILL
    ip netns list | grep -q "^kvr-rig-$pid-" || fail "nothing was left, so nothing is tested"
    rig -b "-m $STORIES -d reference" -- true
    must_pass
    nothing_is_left_of "$pid"
}
wrong_usage_is_told() {
    rig -b "-m $STORIES" -r 100 -- true
    [ "$CODE" = 2 ] || fail "a rate without a unit gave $CODE"
    rig -b "-m $STORIES"
    [ "$CODE" = 2 ] || fail "no command gave $CODE"
    rig -b "-m $STORIES" -u 1 -- true
    [ "$CODE" = 2 ] || fail "an unsteady network without a rate gave $CODE"
}

check boards_across_a_network_give_one_boards_answer
check a_benchmark_of_boards_that_run_elsewhere
check no_port_is_faster_than_its_rate
check the_rig_is_taken_down_whatever_becomes_of_the_command
check a_signal_takes_it_down
check what_a_killed_rig_left_the_next_one_removes
check wrong_usage_is_told
finish
