#!/bin/sh
# Soak: question after question through a chain of three real processes over ZeroMQ. Every answer is compared with that
# of one board; the resident size of every process is read after each hundredth part. Prints a table for each device,
# and fails when an answer is lost or wrong, or when a process has grown by more than 1 % since a tenth of the questions
# (judged from 1000 questions on: before, pages of the program and its memory are still met for the first time).
#
#   soak.sh [-n QUESTIONS] [-d DEVICES] [-l QUESTIONS_PER_LEAD] [-k]
#     -n   questions (default 60, which only shows that this script works; a soak is 10000 or more)
#     -d   default "reference opencl", without opencl where there is no device
#     -l   a new lead after so many questions: then the helpers are judged (default: one lead asks all)
#     -k   with keys
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
MODEL=$HERE/../../examples/model/kvr-logbook.gguf
PROMPTS=$HERE/../../examples/model/prompts
[ -e "$MODEL" ] || skip "no $MODEL"
[ -r /proc/self/status ] || skip "no /proc/PID/status"
N=60 DEVICES= PER_LEAD=0 KEYS=
while getopts n:d:l:k option; do
    case $option in
    n) N=$OPTARG ;;
    d) DEVICES=$OPTARG ;;
    l) PER_LEAD=$OPTARG ;;
    k) KEYS=1 ;;
    *) exit 2 ;;
    esac
done
if [ -z "$DEVICES" ]; then
    DEVICES=reference
    if "$KVR" devices | grep -q '^opencl:'; then DEVICES="reference opencl"; fi
fi
[ "$PER_LEAD" -gt 0 ] || PER_LEAD=$N
EVERY=$((N / 100))
[ $EVERY -gt 0 ] || EVERY=1
MOST_AT_ONCE=100 # questions in the pipe to the lead
FEWEST_TO_JUDGE=1000
CTX=512
KEY_ARGS=
if [ -n "$KEYS" ]; then
    "$KVR" keygen "$TMP/key" >/dev/null 2>&1 || { echo "no keys"; exit 1; }
    KEY_ARGS="--key $TMP/key"
fi

# Messages of one to four entries of a logbook, each asked of the same entries before it: 40 to 130 tokens.
SYSTEM=$(sed -n 2,3p "$PROMPTS/0300.txt")
awk 'NR > 6 && NF > 3 { line[n++] = $0 }
     END { for (i = 0; i < 9; i++) {
               out = line[i]
               for (j = 1; j <= i % 4; j++) out = out ", " line[i + j]
               print out } }' \
    "$PROMPTS/0900.txt" >"$TMP/messages"
i=0
while IFS= read -r message; do
    eval "MESSAGE_$i=\$message"
    i=$((i + 1))
done <"$TMP/messages"
N_MESSAGES=$i
STOP='
'
CHAT="-m $MODEL --template plain -c $CTX --batch 64 -n 6"

# One line: questions so far, then resident and anonymous KiB of each process.
sizes() {
    line=$1
    shift
    for pid; do
        line="$line $(awk '/^VmRSS/ { r = $2 } /^RssAnon/ { a = $2 } END { print r + 0, a + 0 }' \
            "/proc/$pid/status" 2>/dev/null)"
    done
    echo "$line" >>"$TMP/sizes"
}
# judge TABLE COLUMN NAME: how much a column has grown since the first tenth of its rows; 1 when by more than 1 %.
judge() {
    awk -v column="$2" -v name="$3" '
        $column > 0 { rows++; at[rows] = $1; x[rows] = $column }
        END {
            if (rows < 2 || rows < NR) { printf "%-9s was not there to be measured\n", name; exit 1 }
            warm = int((rows + 9) / 10)
            for (r = warm; r <= rows; r++) if (x[r] > most) most = x[r]
            printf "%-9s %7d KiB after %d questions, at most %d since, %d at the end: %+.2f %%\n",
                   name, x[warm], at[warm], most, x[rows], 100 * (most - x[warm]) / x[warm]
            exit most > x[warm] * 1.01
        }' "$1"
}
# Twelve rows of the table, evenly.
show_sizes() {
    printf '%9s  %17s  %17s  %17s\n' questions 'lead KiB (anon)' 'board 0' 'board 1'
    awk '{ line[NR] = $0 }
         END { step = NR > 12 ? (NR - 1) / 11 : 1
               for (r = 1; r < NR + 0.5; r += step) print line[int(r + 0.01)] }' "$TMP/sizes" |
        while read -r n a aa b ba c ca; do
            printf '%9s  %8s %8s  %8s %8s  %8s %8s\n' "$n" "$a" "($aa)" "$b" "($ba)" "$c" "($ca)"
        done
}

# lead_up: a lead of three boards that reads questions from descriptor 8 and answers to 9; LEAD_PID.
lead_up() {
    rm -f "$TMP/questions" "$TMP/answers"
    mkfifo "$TMP/questions" "$TMP/answers"
    # shellcheck disable=SC2086 # KEY_ARGS is words
    "$KVR" chat $CHAT -d "$DEVICE" --stop "$STOP" --system "$SYSTEM" $KEY_ARGS --boards "$BOARD_0,$BOARD_1" --even \
        --listen 'tcp://127.0.0.1:*' --need-all-boards <"$TMP/questions" >"$TMP/answers" 2>>"$TMP/err" &
    LEAD_PID=$!
    PIDS="$PIDS $LEAD_PID"
    exec 8>"$TMP/questions" 9<"$TMP/answers"
}
lead_down() {
    exec 8>&-
    wait "$LEAD_PID"
    CODE=$?
    exec 9<&-
    must_pass "the lead"
}
# Asks questions $1 to $2 - 1, which fit into a pipe, and reads the answers.
ask_some() {
    i=$1
    while [ "$i" -lt "$2" ]; do
        eval "echo \"\$MESSAGE_$((i % N_MESSAGES))\""
        echo /reset
        i=$((i + 1))
    done >&8
    i=$1
    while [ "$i" -lt "$2" ]; do
        IFS= read -r answer <&9 || { fail "answer $i is lost"; show; return 1; }
        eval "wanted=\$WANTED_$((i % N_MESSAGES))"
        [ "$answer" = "$wanted" ] || { fail "answer $i is '$answer', not '$wanted'"; return 1; }
        RIGHT=$((RIGHT + 1))
        i=$((i + 1))
    done
}

one_board_knows_the_answers_on() {
    i=0
    while [ $i -lt $N_MESSAGES ]; do
        eval "printf '%s\n' \"\$MESSAGE_$i\""
        echo /reset
        i=$((i + 1))
    done >"$TMP/in"
    # shellcheck disable=SC2086
    "$KVR" chat $CHAT -d "$1" --stop "$STOP" --system "$SYSTEM" <"$TMP/in" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
    must_pass
    i=0
    while IFS= read -r answer; do
        eval "WANTED_$i=\$answer"
        i=$((i + 1))
    done <"$TMP/out"
    [ $i = $N_MESSAGES ] || fail "$i answers to $N_MESSAGES questions"
    [ "$(sort -u "$TMP/out" | wc -l)" -gt 3 ] || fail "the answers hardly differ: $(cat "$TMP/out")"
}
no_answer_is_lost_or_wrong_and_no_process_grows_on() {
    DEVICE=$1
    rm -f "$TMP/sizes"
    : >"$TMP/err"
    for board in 0 1; do
        # shellcheck disable=SC2086
        start_board -m "$MODEL" -d "$DEVICE" -c $CTX --batch 64 --board-timeout 30 --even $KEY_ARGS || return
        eval "BOARD_$board=\$BOARD PID_$board=\$BOARD_PID LOG_$board=\$BOARD_LOG"
    done
    begin=$(date +%s)
    asked=0 RIGHT=0 next_sample=$EVERY in_lead=0
    lead_up
    while [ $asked -lt "$N" ]; do
        part=$((next_sample - asked))
        [ $part -le $MOST_AT_ONCE ] || part=$MOST_AT_ONCE
        [ $part -le $((PER_LEAD - in_lead)) ] || part=$((PER_LEAD - in_lead))
        ask_some $asked $((asked + part)) || break
        asked=$((asked + part)) in_lead=$((in_lead + part))
        if [ $asked -ge $next_sample ]; then
            sizes $asked "$LEAD_PID" "$PID_0" "$PID_1"
            next_sample=$((next_sample + EVERY))
            [ $next_sample -le "$N" ] || next_sample=$N
        fi
        if [ $in_lead -ge "$PER_LEAD" ] && [ $asked -lt "$N" ]; then
            lead_down
            lead_up
            in_lead=0
        fi
    done
    lead_down
    [ $PER_LEAD -ge "$N" ] || show_leads=", a new lead after $PER_LEAD"
    echo "$DEVICE: $N questions${show_leads:-}, $RIGHT answers right, $(($(date +%s) - begin)) s"
    show_sizes
    if [ "$N" -ge $FEWEST_TO_JUDGE ]; then
        [ $PER_LEAD -lt "$N" ] || judge "$TMP/sizes" 2 lead || fail "the lead grows"
        judge "$TMP/sizes" 4 "board 0" || fail "board 0 grows"
        judge "$TMP/sizes" 6 "board 1" || fail "board 1 grows"
    fi
    [ $RIGHT = "$N" ] || fail "$((N - RIGHT)) answers are missing"
    end_board "$PID_0"
    end_board "$PID_1"
    [ ! -s "$LOG_0" ] && [ ! -s "$LOG_1" ] || fail "a board says: $(cat "$LOG_0" "$LOG_1")"
}
a_process_that_grows_is_found() {
    awk 'BEGIN { for (i = 1; i <= 100; i++) print i * 100, 10000 + i, 1 }' >"$TMP/slow"
    awk 'BEGIN { for (i = 1; i <= 100; i++) print i * 100, 10000 + 2 * i, 1 }' >"$TMP/fast"
    awk 'BEGIN { for (i = 1; i <= 100; i++) print i * 100, i < 50 ? 10000 : 0, 1 }' >"$TMP/gone"
    judge "$TMP/slow" 2 slow >/dev/null || fail "0.9 % is judged to be growth"
    ! judge "$TMP/fast" 2 fast >/dev/null || fail "1.8 % is not judged to be growth"
    ! judge "$TMP/gone" 2 gone >/dev/null || fail "a process that ended is judged to be flat"
}

check a_process_that_grows_is_found
for device in $DEVICES; do
    check one_board_knows_the_answers_on "$device"
    [ "$BAD" = 0 ] || finish
    check no_answer_is_lost_or_wrong_and_no_process_grows_on "$device"
done
finish
