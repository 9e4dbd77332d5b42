#!/bin/sh
# Too little memory: under every limit kvr gives the right answer, or a sentence that names memory and exit code 1.
# Limits of address space (ulimit -v) from where the program starts at all to where it answers; control groups where
# they may be made (root, a memory controller). LIMITS_STEPS: how many steps on OpenCL (default 24).
. "$(dirname "$0")/common.sh"
MODEL=$HERE/../../examples/model/kvr-logbook.gguf
[ -e "$MODEL" ] || skip "no $MODEL"
STEPS=${LIMITS_STEPS:-24}
ASK="-m $MODEL -c 256"
ulimit -c 0
HAS_OPENCL=0
"$KVR" devices | grep -q '^opencl:' && HAS_OPENCL=1

# under KIB ARGS: kvr with so much address space.
under() {
    {
        (
            ulimit -v "$1" || exit 99
            shift
            exec timeout -k 5 120 "$KVR" "$@" >"$TMP/out" 2>"$TMP/err"
        )
        CODE=$?
    } 2>/dev/null
}
# Below this the system's loader speaks, not kvr.
least=8000
while [ $least -lt 200000 ]; do
    under $least --version
    [ $CODE = 0 ] && break
    least=$((least + 500))
done
under $((least + 1000000)) run $ASK -d reference -p 'Q: fan Bonn' -n 4
[ $CODE = 0 ] || skip "this build does not run under a limit of address space (a sanitizer's does not)"

N_RIGHT=0 N_REFUSED=0
# The last `under`, with the answer of "$TMP/right" or a refusal.
right_or_refused() { # right_or_refused WHAT
    if [ $CODE = 0 ]; then
        N_RIGHT=$((N_RIGHT + 1))
        [ ! -e "$TMP/right" ] || same "$TMP/right" "$TMP/out" "$1"
    else
        N_REFUSED=$((N_REFUSED + 1))
        must_fail 1 'memory\|ulimit -v'
        [ "$FAILED" = 0 ] || fail "with $1"
    fi
}
# sweep FROM TO STEPS COMMAND...: kvr COMMAND under each limit.
sweep() {
    from=$1 to=$2 steps=$3 step=0 N_RIGHT=0 N_REFUSED=0
    shift 3
    while [ $step -lt "$steps" ]; do
        limit=$((from + (to - from) * step / steps))
        under $limit "$@"
        right_or_refused "$limit KiB of addresses"
        step=$((step + 1))
    done
    echo "    $1: $N_RIGHT right, $N_REFUSED refused"
    [ $N_RIGHT -gt 0 ] && [ $N_REFUSED -gt 0 ] || fail "the limits do not reach from too little to enough"
}
run_answers_or_says_that_memory_is_short_on() {
    "$KVR" run $ASK -d "$1" -p 'Q: fan Bonn' -n 4 >"$TMP/right" 2>/dev/null
    if [ "$1" = reference ]; then sweep "$least" $((least + 12000)) 16 run $ASK -d "$1" -p 'Q: fan Bonn' -n 4
    else sweep "$least" 700000 "$STEPS" run $ASK -d "$1" -p 'Q: fan Bonn' -n 4; fi
    rm "$TMP/right"
}
plan_answers_or_says_that_memory_is_short_on() {
    if [ "$1" = reference ]; then sweep "$least" $((least + 6000)) 6 plan $ASK -d "$1"
    else sweep "$least" 500000 $((STEPS / 3)) plan $ASK -d "$1"; fi
}
a_chain_answers_or_says_that_memory_is_short() {
    "$KVR" run $ASK -d reference -p 'Q: fan Bonn' -n 4 >"$TMP/right" 2>/dev/null
    sweep "$least" $((least + 60000)) 20 run $ASK -d reference -p 'Q: fan Bonn' -n 4 --local-boards 2 --even
    rm "$TMP/right"
}
a_board_serves_or_says_that_memory_is_short_on() {
    from=$least step=0 N_RIGHT=0 N_REFUSED=0
    to=$((least + 60000)) steps=20
    [ "$1" = reference ] || { to=900000 steps=$((STEPS / 2)); }
    while [ $step -lt $steps ]; do
        limit=$((from + (to - from) * step / steps)) address=
        rm -f "$TMP/up"
        mkfifo "$TMP/up"
        (
            ulimit -v $limit
            exec timeout -k 5 120 "$KVR" board $ASK -d "$1" --max-boards 2 --even --listen 'tcp://127.0.0.1:*' \
                --announce-fd 7
        ) 7>"$TMP/up" 2>"$TMP/err" &
        pid=$!
        PIDS="$PIDS $pid"
        IFS= read -r address <"$TMP/up"
        [ -z "$address" ] || kill $pid 2>/dev/null
        wait $pid 2>/dev/null
        CODE=$?
        [ -z "$address" ] || [ $CODE = 0 ] || fail "a board under $limit KiB ended with exit code $CODE"
        right_or_refused "$limit KiB of addresses"
        step=$((step + 1))
    done
    echo "    board: $N_RIGHT served, $N_REFUSED refused"
    [ $N_RIGHT -gt 0 ] && [ $N_REFUSED -gt 0 ] || fail "the limits do not reach from too little to enough"
}
signals_reach_the_program_under_a_limit() {
    for signal in TERM INT; do
        (
            ulimit -v $((least + 1000000))
            exec "$KVR" board $ASK -d reference --max-boards 2 --even --listen 'tcp://127.0.0.1:*' --announce-fd 7
        ) 7>"$TMP/up" 2>"$TMP/err" &
        pid=$!
        PIDS="$PIDS $pid"
        IFS= read -r address <"$TMP/up"
        [ -n "$address" ] || fail "no board"
        kill -$signal $pid
        wait $pid
        CODE=$?
        [ $CODE = 0 ] || fail "exit code $CODE after SIG$signal"
    done
}

# --- control groups ---------------------------------------------------------------------------------------------------
GROUP= GROUP_FILE=
drop_group() { [ -z "$GROUP" ] || rmdir "$GROUP" 2>/dev/null; }
make_group() {
    [ "$(id -u)" = 0 ] || return 1
    own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
    if [ -n "$own" ]; then
        GROUP=/sys/fs/cgroup/memory$own/kvr-limits-$$ GROUP_FILE=memory.limit_in_bytes
    else
        GROUP=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/kvr-limits-$$ GROUP_FILE=memory.max
    fi
    mkdir "$GROUP" 2>/dev/null && [ -w "$GROUP/$GROUP_FILE" ] && [ -w "$GROUP/cgroup.procs" ]
}
# in_group BYTES ARGS: kvr in a control group with so much memory.
in_group() {
    echo "$1" >"$GROUP/$GROUP_FILE"
    shift
    (sh -c 'echo $$ >"$0/cgroup.procs" || exit 99; exec "$@"' "$GROUP" timeout -k 5 120 "$KVR" "$@" \
        >"$TMP/out" 2>"$TMP/err") 2>/dev/null
    CODE=$?
}
a_control_group_that_is_too_small_is_a_sentence_on() {
    "$KVR" run $ASK -d "$1" -p 'Q: fan Bonn' -n 4 >"$TMP/right" 2>/dev/null
    N_RIGHT=0 N_REFUSED=0
    for mib in 3 4 5 8 12 16 24 32 64 128 200 256 280 320 1000; do
        in_group $((mib << 20)) run $ASK -d "$1" -p 'Q: fan Bonn' -n 4
        right_or_refused "$mib MiB in its control group"
    done
    echo "    run: $N_RIGHT right, $N_REFUSED refused"
    [ $N_RIGHT -gt 0 ] && [ $N_REFUSED -gt 0 ] || fail "the limits do not reach from too little to enough"
    rm "$TMP/right"
}
a_context_beyond_the_machine_is_a_sentence() {
    kvr run -m "$MODEL" -d reference -c 1000000 --kv f32 -p 'Q: fan Bonn' -n 4
    [ $CODE = 0 ] || must_fail 1 'memory'
}

devices=reference
[ $HAS_OPENCL = 0 ] || devices="reference opencl"
for device in $devices; do
    check run_answers_or_says_that_memory_is_short_on "$device"
    check plan_answers_or_says_that_memory_is_short_on "$device"
    check a_board_serves_or_says_that_memory_is_short_on "$device"
done
check a_chain_answers_or_says_that_memory_is_short
check signals_reach_the_program_under_a_limit
check a_context_beyond_the_machine_is_a_sentence
trap 'clean_up; drop_group' EXIT
if make_group; then
    for device in $devices; do check a_control_group_that_is_too_small_is_a_sentence_on "$device"; done
else
    echo "no control groups: they cannot be made here"
    GROUP=
fi
finish
