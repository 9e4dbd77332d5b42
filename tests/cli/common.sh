# Shared by the scripts of this folder: `. "$(dirname "$0")/common.sh"`. Each test is a function whose name is a
# sentence; `check NAME` runs it, `finish` reports. A test fails by `fail WHY` or by a command that ends with an error
# under `must`.
set -u
LC_ALL=C.UTF-8
export LC_ALL
HERE=$(cd "$(dirname "$0")" && pwd)
: "${KVR:=$HERE/../../build/dev/bin/kvr}"
DATA=${KVR_CONFORMANCE_DIR:-$HERE/../../../shared/conformance}
STORIES=$DATA/models/stories260K.gguf
[ -x "$KVR" ] || { echo "no program at KVR='$KVR': build it, or set KVR"; exit 1; }

TMP=$(mktemp -d "${TMPDIR:-/tmp}/kvr-cli.XXXXXX")
PIDS=
clean_up() {
    for pid in $PIDS; do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$TMP"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

skip() { echo "skipped: $*"; exit 77; }
need_data() {
    for path; do [ -e "$DATA/$path" ] || skip "no $path in the conformance data (KVR_CONFORMANCE_DIR)"; done
}

# Under AddressSanitizer: what OpenCL drivers leave behind is not judged here, the other scripts judge kvr's own.
leave_driver_leaks_alone() {
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
    export ASAN_OPTIONS
}

RUN=0 BAD=0
fail() {
    echo "  $*"
    FAILED=1
}
check() {
    FAILED=0
    RUN=$((RUN + 1))
    "$@"
    if [ "$FAILED" = 0 ]; then echo "ok   $1"; else echo "FAIL $*"; BAD=$((BAD + 1)); fi
}
finish() {
    echo "$RUN tests, $BAD failed"
    [ "$BAD" = 0 ] && [ "$RUN" -gt 0 ]
    exit
}

# kvr ARGS: the program, cut off when it hangs; output in $TMP/out and $TMP/err, exit code in CODE.
LIMIT_S=${KVR_TEST_LIMIT_S:-240}
kvr() {
    timeout -k 5 "$LIMIT_S" "$KVR" "$@" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
}
show() { sed 's/^/    /' "$TMP/err" | head -n 8; }
# The last kvr ended well.
must_pass() {
    [ "$CODE" = 0 ] && return 0
    fail "${1:-kvr} ended with exit code $CODE:"
    show
}
# must_fail CODE PATTERN: the last kvr ended with this code and a sentence that matches.
must_fail() {
    [ "$CODE" = "$1" ] || { fail "exit code $CODE, not $1"; show; }
    grep -v '^kvr: note:' "$TMP/err" | grep -q '^kvr: ' || { fail "no sentence on stderr"; show; }
    grep -q -- "$2" "$TMP/err" || { fail "stderr does not say '$2':"; show; }
}
# must_lose_output ARGS: with its output on a full disk the program ends at once, with one sentence.
must_lose_output() {
    [ -w /dev/full ] || return 0
    timeout -k 5 "$LIMIT_S" "$KVR" "$@" >/dev/full 2>"$TMP/err"
    CODE=$?
    must_fail 1 "cannot write the output: No space left"
    [ "$(wc -l <"$TMP/err")" = 1 ] || { fail "not one sentence:"; show; }
}
same() { cmp -s "$1" "$2" || fail "$3: $1 and $2 differ: $(cmp "$1" "$2" 2>&1 | head -n 1)"; }

# Ids 1, then n - 1 from a fixed rule, below 512.
some_ids() {
    awk -v n="$1" 'BEGIN { printf "1"; for (i = 1; i < n; i++) printf ",%d", 3 + (i * 7919 + i * i * 31) % 500 }'
}

# start_board ARGS: a helper in the background; BOARD_PID, its address in BOARD. Its further stderr is in $TMP/board.N.
N_BOARDS=0
start_board() {
    N_BOARDS=$((N_BOARDS + 1))
    BOARD_LOG=$TMP/board.$N_BOARDS
    mkfifo "$TMP/announce.$N_BOARDS"
    "$KVR" board --announce-fd 7 --listen 'tcp://127.0.0.1:*' "$@" 2>"$BOARD_LOG" 7>"$TMP/announce.$N_BOARDS" &
    BOARD_PID=$!
    PIDS="$PIDS $BOARD_PID"
    BOARD=
    # the shell opens the pipe before it starts the program, so this read ends with a line or with the helper
    IFS= read -r BOARD <"$TMP/announce.$N_BOARDS"
    [ -n "$BOARD" ] || { fail "the helper did not come up: $(cat "$BOARD_LOG")"; return 1; }
}
end_board() {
    kill "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}
