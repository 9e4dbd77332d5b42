#!/bin/sh
# What kvr plans to take beside what its processes have: one board, and lead and helper of a chain of three, on every
# backend.
#
#   tests/bench/memory.sh [-d BACKEND] [FILE.gguf]
#
#   -d     reference or opencl alone (default: both)
#   FILE   default: the model in examples/model
#   KVR    the program (default: build/release/bin/kvr or build/ci/bin/kvr)
#
# Each process answers prompts that fill most of its context (512 tokens, more where the vocabulary is poor) and is
# looked at while it waits for the next. In MiB:
#   plan        exact: model, session, device
#   estimate    the plan's allowance for drivers, and for libzmq with all its queues full
#   private     what the process has for itself (RssAnon); beyond = private - plan: drivers, libraries, the program
#   peak        the most it ever had, with pages of files (VmHWM): programs, LLVM, the model
# "first start": with empty caches, so that the driver compiles everything.
set -eu
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
LC_ALL=C.UTF-8
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
BACKENDS="reference opencl"
[ "${1:-}" != -d ] || { BACKENDS=${2:-}; shift 2; }
case ${1:-} in -*) echo "memory.sh: no option '$1'; see --help" >&2; exit 2 ;; esac
for KVR in "${KVR:-}" "$top/build/release/bin/kvr" "$top/build/ci/bin/kvr"; do [ ! -x "$KVR" ] || break; done
[ -x "$KVR" ] || { echo "memory.sh: no program: build it, or set KVR" >&2; exit 1; }
MODEL=${1:-$top/examples/model/kvr-logbook.gguf}
SYSTEM=$(sed '/^Q:/d' "$top/examples/model/prompts/0300.txt")
TMP=$(mktemp -d "${TMPDIR:-/tmp}/kvr-memory.XXXXXX")
PIDS=
trap 'for pid in $PIDS; do kill -9 $pid 2>/dev/null || true; done; rm -rf "$TMP"' EXIT
trap 'exit 1' INT TERM HUP
CTX=512
# a vocabulary of little more than letters
[ "$(echo "$SYSTEM" | "$KVR" tokenize -m "$MODEL" | wc -w)" -lt 400 ] || CTX=1200
OPTIONS="-m $MODEL -c $CTX --batch 64"

row() { # row NAME PID BOARDS ARGS
    name=$1 pid=$2 boards=$3
    shift 3
    # shellcheck disable=SC2086 # OPTIONS is words
    "$KVR" plan $OPTIONS "$@" --boards "$boards" | awk -v name="$name" -v status="/proc/$pid/status" '
        $1 == "total" { plan = $NF }
        $1 == "driver" && /sum/ { driver = $NF }
        /^libzmq beside/ { zmq = $(NF - 1) }
        END {
            while ((getline line < status) > 0) { split(line, w, " "); x[w[1]] = w[2] / 1024 }
            private = x["RssAnon:"]
            printf "%-34s %8.2f %8.2f %9.2f %8.2f %8.2f\n",
                   name, plan, driver + zmq, private, private - plan, x["VmHWM:"]
        }'
}
chat_up() { # chat_up ARGS: a lead that waits for a message on descriptor 8 and answers on 9
    rm -f "$TMP/in" "$TMP/out"
    mkfifo "$TMP/in" "$TMP/out"
    # shellcheck disable=SC2086
    "$KVR" chat $OPTIONS --template plain -n 4 --stop '
' --system "$SYSTEM" "$@" <"$TMP/in" >"$TMP/out" 2>"$TMP/err" &
    CHAT=$!
    PIDS="$PIDS $CHAT"
    exec 8>"$TMP/in" 9<"$TMP/out"
    for _ in 1 2 3; do
        repaired="fan Bonn repaired by Bruno"
        printf '%s\n/reset\n' "12:00 $repaired, 12:01 $repaired, 12:02 $repaired" >&8
        IFS= read -r _ <&9 || { cat "$TMP/err" >&2; exit 1; }
    done
}
chat_down() {
    exec 8>&- 9<&-
    wait $CHAT
}
board_up() { # board_up ARGS: BOARD, BOARD_PID
    rm -f "$TMP/up"
    mkfifo "$TMP/up"
    # shellcheck disable=SC2086
    "$KVR" board $OPTIONS --max-boards 3 --even --announce-fd 7 --listen 'tcp://127.0.0.1:*' "$@" 7>"$TMP/up" &
    BOARD_PID=$!
    PIDS="$PIDS $BOARD_PID"
    IFS= read -r BOARD <"$TMP/up"
}
alone() { # alone NAME ARGS
    alone=$1
    shift
    chat_up "$@"
    row "$alone, alone" $CHAT 1 "$@"
    chat_down
}
chain() { # chain NAME ARGS
    chain=$1
    shift
    board_up "$@"
    first=$BOARD first_pid=$BOARD_PID
    board_up "$@"
    chat_up "$@" --boards "$first,$BOARD" --even --need-all-boards
    row "$chain, lead of three" $CHAT 3 "$@"
    row "$chain, helper" $BOARD_PID 3 "$@"
    chat_down
    kill $first_pid $BOARD_PID
    wait $first_pid $BOARD_PID
}

printf '%-34s %8s %8s %9s %8s %8s\n' MiB plan estimate private beyond peak
case $BACKENDS in *reference*)
    alone reference -d reference
    chain reference -d reference ;;
esac
case $BACKENDS in *opencl*) "$KVR" devices | grep -q '^opencl:' || exit 0 ;; *) exit 0 ;; esac
alone "OpenCL" -d opencl
chain "OpenCL" -d opencl
alone "OpenCL, CLBlast" -d opencl --gemm clblast
first_start() {
    rm -rf "$TMP/cache"
    mkdir "$TMP/cache"
    KVR_CACHE_DIR=$TMP/cache XDG_CACHE_HOME=$TMP/cache POCL_CACHE_DIR=$TMP/cache
    export KVR_CACHE_DIR XDG_CACHE_HOME POCL_CACHE_DIR
    alone "$@"
}
first_start "OpenCL, first start" -d opencl
first_start "OpenCL, CLBlast, first start" -d opencl --gemm clblast
