#!/bin/sh
# --trace and --timeline: what every board did when, as files.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf

ask() { kvr run --even -m "$STORIES" -d reference --ids "$(some_ids 60)" -n 4 --ignore-eos --print-ids -c 128 "$@"; }

spans_of_all_boards_are_in_the_trace() {
    for boards in 1 2 4; do
        ask --local-boards $boards --trace "$TMP/trace.json"
        must_pass
        [ "$(grep -c '"process_name"' "$TMP/trace.json")" = $boards ] || fail "not $boards boards"
        for rank in $(seq 0 $((boards - 1))); do
            for layer in 0 1 2 3 4; do
                grep -q "\"compute layer $layer\", \"cat\": \"compute\", \"pid\": $rank," "$TMP/trace.json" ||
                    fail "$boards boards: rank $rank has no layer $layer"
            done
            [ "$rank" = 0 ] || grep -q "\"transfer layer 4\".*\"pid\": $rank," "$TMP/trace.json" ||
                fail "no transfer to $rank"
        done
        grep -q '"compute head"' "$TMP/trace.json" || fail "no head"
        tail -n 1 "$TMP/trace.json" | grep -q '^]}$' || fail "the file has no end"
    done
}
the_trace_is_json() {
    command -v python3 >/dev/null || { echo "  no python3: not checked"; return; }
    ask --local-boards 3 --trace "$TMP/trace.json"
    must_pass
    python3 -m json.tool "$TMP/trace.json" >"$TMP/out" 2>"$TMP/err" || { fail "no json:"; show; }
}
the_picture_has_a_lane_a_board_and_a_legend() {
    ask --local-boards 3 --partition 30,20,10 --timeline "$TMP/picture.svg"
    must_pass
    for text in 'board 0<' 'board 1<' 'board 2 (lead)' '60 tokens on 3 boards, partition 30,20,10: first token after' \
        'wait_prefix: idle until' 'wait_send: ' 'transfer: ' 'compute: ' '20 tokens from 30<'; do
        grep -q "$text" "$TMP/picture.svg" || fail "the picture does not say '$text'"
    done
    [ "$(grep -c '<rect ' "$TMP/picture.svg")" -gt 25 ] || fail "few spans"
    tail -n 1 "$TMP/picture.svg" | grep -q '^</svg>$' || fail "the file has no end"
}
the_answer_is_the_same_with_and_without() {
    ask --local-boards 3
    must_pass
    cp "$TMP/out" "$TMP/without"
    ask --local-boards 3 --trace "$TMP/trace.json" --timeline "$TMP/picture.svg"
    must_pass
    same "$TMP/without" "$TMP/out" "answer"
}
a_file_that_cannot_be_written_is_a_sentence() {
    ask --trace "$TMP/none/trace.json"
    must_fail 1 "cannot write"
    ask --timeline "$TMP/none/picture.svg"
    must_fail 1 "cannot write"
}

check spans_of_all_boards_are_in_the_trace
check the_trace_is_json
check the_picture_has_a_lane_a_board_and_a_legend
check the_answer_is_the_same_with_and_without
check a_file_that_cannot_be_written_is_a_sentence
finish
