#!/bin/sh
# A chain of different processors: this machine leads, a helper built for another one runs in the emulator, over ZeroMQ.
# KVR: the program for this machine; KVR_OTHER: the command line that runs the other one ("qemu-aarch64 -L ROOT
# PATH/kvr"). tests/cross.sh runs it. The text must be that of one board. Bits are promised between equal boards only,
# since different C libraries may round expf, sinf, ... differently; how far logits are apart is printed, and bounded.
. "$(dirname "$0")/common.sh"
: "${KVR_OTHER:?the command line of the other program}"
MODEL=$HERE/../../examples/model/kvr-logbook.gguf
PROMPT=$HERE/../../examples/model/prompts/0300.txt
NATIVE=$KVR
OTHER=$TMP/other
printf '#!/bin/sh\nexec %s "$@"\n' "$KVR_OTHER" >"$OTHER"
chmod +x "$OTHER"

helper() { # on the other processor
    KVR=$OTHER
    start_board -m "$MODEL" -d reference -c 512 --board-timeout 60 "$@"
    came_up=$?
    KVR=$NATIVE
    return $came_up
}
lead() {
    kvr run --even -m "$MODEL" -d reference -c 512 -f "$PROMPT" -n 24 --board-timeout 60 \
        --listen 'tcp://127.0.0.1:*' "$@"
}

a_helper_on_another_processor_gives_the_text_of_one_board() {
    lead
    must_pass "one board"
    cp "$TMP/out" "$TMP/one"
    n=$(sed -n 's/^prompt *\([0-9]*\) tokens.*/\1/p' "$TMP/err")
    helper || return
    for partition in $((n / 3)),$((n - n / 3)) $((n - 9)),9 1,$((n - 1)); do
        lead --boards "$BOARD" --partition "$partition"
        must_pass "$partition"
        same "$TMP/one" "$TMP/out" "text of $partition"
    done
    end_board "$BOARD_PID"
}

a_lead_on_another_processor_gives_it_too() {
    start_board -m "$MODEL" -d reference -c 512 --board-timeout 60 || return
    KVR=$OTHER
    lead --boards "$BOARD"
    KVR=$NATIVE
    must_pass "the other leads"
    same "$TMP/one" "$TMP/out" "text"
    end_board "$BOARD_PID"
}
logits_are_close() {
    ids=$(some_ids 64)
    kvr eval -m "$MODEL" -d reference -c 512 --ids "$ids" -n 8 --from-prefill --raw "$TMP/one.raw"
    must_pass "one board"
    KVR=$OTHER
    kvr eval -m "$MODEL" -d reference -c 512 --ids "$ids" -n 8 --from-prefill --raw "$TMP/other.raw"
    KVR=$NATIVE
    must_pass "the other board"
    od -An -v -w4 -tf4 "$TMP/one.raw" >"$TMP/a"
    od -An -v -w4 -tf4 "$TMP/other.raw" >"$TMP/b"
    apart=$(paste "$TMP/a" "$TMP/b" | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d
          x = $1 < 0 ? -$1 : $1; if (x > most) most = x; if ($1 != $2) n++ }
        END { printf "%d of %d logits differ, by %.1e of the largest at most", n, NR, worst / most
              exit !(worst <= 1e-4 * most && NR > 0) }') || fail "$apart"
    echo "  $apart"
}

check a_helper_on_another_processor_gives_the_text_of_one_board
check a_lead_on_another_processor_gives_it_too
check logits_are_close
finish
