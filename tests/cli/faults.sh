#!/bin/sh
# The matrix of lost boards: each helper of a chain of three is killed, stopped, slowed down, or cut off from the
# network at every stage of a prompt, and the lead must give the right text. Prints one line each.
#
#   faults.sh [STAGES]     stages a prompt is divided into (default 1: its beginning and its end; 12 for the whole
#                          matrix)
#
# Boards are processes in network namespaces of their own, joined by a bridge; where that is not allowed they share the
# loopback, and nothing is cut. Times: from the start of the lead to its end, and from the harm to the lead's word that
# a board is lost. "late" is a word after more than the timeout and one second; "slow" an answer after more than these
# and twice a whole run on one board, as on a machine that is busy with something else.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
STAGES=${1:-1}
TIMEOUT_S=${KVR_FAULTS_TIMEOUT_S:-2}
PROMPT=$(some_ids 1000)
CTX=1100
NET=kvr$$
now_ms() { date +%s%3N; }

# --- network: a hub with a bridge, and one namespace for the lead and each board --------------------------------------
has_net=0
in_net() { # in_net NAME COMMAND...
    where=$1
    shift
    if [ $has_net = 1 ]; then exec ip netns exec "$NET-$where" "$@"; else exec "$@"; fi
}
drop_net() {
    for name in hub lead b0 b1; do ip netns del "$NET-$name" 2>/dev/null; done
}
raise_net() {
    ip netns add "$NET-hub" 2>/dev/null || return 1
    ip -n "$NET-hub" link add bridge type bridge && ip -n "$NET-hub" link set bridge up || return 1
    for name in lead b0 b1; do
        ip netns add "$NET-$name" && ip -n "$NET-hub" link add $name type veth peer name eth netns "$NET-$name" &&
            ip -n "$NET-hub" link set $name master bridge up && ip -n "$NET-$name" link set lo up &&
            ip -n "$NET-$name" addr add "$(address_of $name)/24" dev eth && ip -n "$NET-$name" link set eth up ||
                return 1
    done
}
address_of() {
    if [ "$1" = lead ]; then echo 10.77.0.9; else echo 10.77.0.1"${1#b}"; fi
}
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null; then
    if raise_net >/dev/null 2>&1; then has_net=1; else drop_net; fi
fi
trap 'clean_up; [ $has_net = 0 ] || drop_net' EXIT

# --- boards -----------------------------------------------------------------------------------------------------------
up() { # up N: starts board N; PID_N, ADDRESS_N
    if [ $has_net = 1 ]; then listen="tcp://*:7000"; else listen="tcp://127.0.0.1:*"; fi
    rm -f "$TMP/up"
    mkfifo "$TMP/up"
    (in_net "b$1" "$KVR" board --announce-fd 7 --listen "$listen" --insecure -m "$STORIES" -d reference --batch 32 \
        -c $CTX --board-timeout $TIMEOUT_S 2>>"$TMP/board.$1" 7>"$TMP/up") &
    eval "PID_$1=$!"
    PIDS="$PIDS $!"
    read -r address <"$TMP/up"
    [ $has_net = 0 ] || address=tcp://$(address_of "b$1"):7000
    eval "ADDRESS_$1=$address"
}
ask() { # ask ARGS: the lead; CODE, TOOK ms
    rm -f "$TMP/words"
    mkfifo "$TMP/words"
    while IFS= read -r line; do echo "$(now_ms) $line"; done <"$TMP/words" >"$TMP/stamped" &
    STAMP_PID=$!
    begin=$(now_ms)
    (in_net lead timeout -k 5 60 "$KVR" run -m "$STORIES" -d reference --batch 32 -c $CTX --ids "$PROMPT" -n 4 \
        --print-ids --insecure --even --board-timeout $TIMEOUT_S "$@" >"$TMP/out" 2>"$TMP/words") &
    LEAD_PID=$!
}
answered() {
    wait $LEAD_PID
    CODE=$?
    TOOK=$(($(now_ms) - begin))
    wait $STAMP_PID
    sed 's/^[0-9]* //' "$TMP/stamped" >"$TMP/err"
}
both() { echo "$ADDRESS_0,$ADDRESS_1"; }

# slow PID: stops it for 60 of every 80 ms, until the lead ends
slow() {
    while kill -0 "$LEAD_PID" 2>/dev/null; do
        kill -STOP "$1" 2>/dev/null
        sleep 0.06
        kill -CONT "$1" 2>/dev/null
        sleep 0.02
    done
}
harm() { # harm HOW N
    eval "pid=\$PID_$2"
    case $1 in
    kill) kill -9 "$pid" 2>/dev/null ;;
    stop) kill -STOP "$pid" ;;
    slow) slow "$pid" & ;;
    cut) ip -n "$NET-hub" link set "b$2" down ;;
    esac
}
heal() { # heal HOW N STAGE
    eval "pid=\$PID_$2"
    case $1 in
    kill)
        wait "$pid" 2>/dev/null
        up "$2"
        ;;
    stop | slow) kill -CONT "$pid" || fail "board $2 is gone: $(cat "$TMP/board.$2")" ;;
    cut)
        ip -n "$NET-hub" link set "b$2" up
        # the kernel takes up to a second to use the link again; the next prompt shows that it does, and that both
        # boards answer
        ask --boards "$(both)"
        answered
        [ $CODE = 0 ] && cmp -s "$TMP/right" "$TMP/out" || fail "cut board $2 stage $3: not right afterwards"
        ;;
    esac
}

RIGHT=0 LATE=0 SLOW=0 MOST_NOTICED=0
report() { printf '%-5s board %s at %3s %%  %-11s %5s ms  %10s  %s\n' "$@"; }
one_case() { # one_case HOW BOARD STAGE
    ask --boards "$(both)"
    delay=$((CLEAN_MS * $3 / STAGES))
    sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
    harmed=$(now_ms)
    harm "$1" "$2"
    answered
    verdict=right noticed=
    note=$(sed -n 's/^kvr: note: \(board [01]\) at [^ ]* is lost: \(chain: \)*\(.*\); going on.*/\1 lost: \3/p' \
        "$TMP/err" | head -n 1)
    # a board that was stopped before may say that it is busy even before the harm
    lost_at=$(sed -n 's/^\([0-9]*\) kvr: note: .*; going on .*/\1/p' "$TMP/stamped" |
        awk -v t="$harmed" '$1 >= t' | head -n 1)
    if [ $CODE != 0 ]; then
        verdict="exit $CODE"
        note=$(head -n 1 "$TMP/err")
    elif ! cmp -s "$TMP/right" "$TMP/out"; then verdict=WRONG
    fi
    if [ "$verdict" = right ]; then RIGHT=$((RIGHT + 1)); else fail "$1 board $2 stage $3: $verdict $note"; fi
    if [ -n "$lost_at" ] && [ "$1" != slow ]; then
        noticed=$((lost_at - harmed))
        [ $noticed -le $MOST_NOTICED ] || MOST_NOTICED=$noticed
        if [ $noticed -gt $((TIMEOUT_S * 1000 + 1000)) ]; then LATE=$((LATE + 1)) verdict="$verdict, late"; fi
        noticed="$noticed ms"
    fi
    if [ "$TOOK" -gt $((ALONE_MS * 2 + TIMEOUT_S * 1000 + 1000)) ] && [ "$1" != slow ]; then
        SLOW=$((SLOW + 1))
        verdict="$verdict, slow"
    fi
    report "$1" "$2" $((100 * $3 / STAGES)) "$verdict" "$TOOK" "$noticed" "$note"
    # where the time went, by the lead's words
    case $verdict in *slow* | *late*)
        awk -v begin="$begin" '{ t = $1 - begin; $1 = ""; printf "        %5d ms%s\n", t, $0 }' "$TMP/stamped" ;;
    esac
    heal "$1" "$2" "$3"
}

the_right_text_and_the_time_it_takes_are_known() {
    up 0
    up 1
    ask
    answered
    must_pass "one board"
    ALONE_MS=$TOOK
    cp "$TMP/out" "$TMP/right"
    ask --boards "$(both)"
    answered
    must_pass "three boards"
    same "$TMP/right" "$TMP/out" "three boards"
    CLEAN_MS=$TOOK

    echo "one board $ALONE_MS ms, three $CLEAN_MS ms, timeout $TIMEOUT_S s"
    [ $has_net = 1 ] || echo "no network namespaces: nothing is cut"
}
every_lost_board_at_every_stage_costs_time_and_no_text() {
    printf '%-5s %-16s  %-11s %8s  %10s  %s\n' harm 'board, when' answer 'took' noticed 'the lead says'
    for how in kill stop slow cut; do
        [ $how = cut ] && [ $has_net = 0 ] && continue
        for board in 0 1; do
            stage=0
            while [ $stage -le "$STAGES" ]; do
                one_case $how $board $stage
                stage=$((stage + 1))
            done
        done
    done
    echo "right text: $RIGHT, late: $LATE, slow: $SLOW; a lost board was noticed after $MOST_NOTICED ms at most"
}
all_boards_take_part_again_afterwards() {
    boards=
    for _ in 1 2 3 4 5; do # a board may still be busy with the job it was cut off from, until its timeout
        ask --boards "$(both)" --stats-json "$TMP/json"
        answered
        must_pass "afterwards"
        same "$TMP/right" "$TMP/out" "afterwards"
        boards=$(sed -n 's/.*"boards": \([0-9]*\).*/\1/p' "$TMP/json")
        [ "$boards" = 3 ] && return
    done
    fail "only $boards boards take part"
}

check the_right_text_and_the_time_it_takes_are_known
[ "$BAD" = 0 ] || finish
check every_lost_board_at_every_stage_costs_time_and_no_text
check all_boards_take_part_again_afterwards
finish
