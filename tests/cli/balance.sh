#!/bin/sh
# The default cut: boards measure themselves once, leads meet them and plan; the answer stays one board's.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
export KVR_CACHE_DIR="$TMP/cache"
IDS=$(some_ids 400)
ask() { kvr run --ids "$IDS" -n 4 --print-ids --ignore-eos -c 512 --stats-json "$TMP/stats.json" "$@"; }
real() { ask -m "$STORIES" -d reference "$@"; }
emulated() { ask -m "$STORIES" "$@"; }
partition() { sed -n 's/.*"partition": \[\(.*\)\].*/\1/p' "$TMP/stats.json"; }
profile() { # profile NAME GMACS: a board slow enough that nothing else counts
    cat >"$TMP/$1.txt" <<END
kvr-board 1
name $1
source made up for this test
measured 0
attention_tile 16
dense_gmacs $2
attention_gmacs $2
memory_gbs 10
score_bytes 0
call_us 10
frame_gbs 0
prompt_us 0
END
}

a_board_measures_itself_once() {
    rm -rf "$KVR_CACHE_DIR"
    real
    must_pass "one board"
    cp "$TMP/out" "$TMP/one"
    ls "$KVR_CACHE_DIR"/profile-* >/dev/null 2>&1 && fail "a board alone has measured itself"
    real --local-boards 2
    must_pass "two boards"
    same "$TMP/one" "$TMP/out" "two boards"
    set -- "$KVR_CACHE_DIR"/profile-*.txt
    [ $# = 1 ] && [ -e "$1" ] || { fail "boards that are alike keep one profile: $*"; return; }
    cp "$1" "$TMP/kept"
    real --local-boards 2
    must_pass "again"
    cmp -s "$1" "$TMP/kept" || fail "it was measured again"
    kvr plan -m "$STORIES" --boards "$1,$1" -p 64
    must_pass "the file is a profile as any other"
    mkdir "$TMP/readonly"
    KVR_CACHE_DIR=$TMP/readonly/none/no real --local-boards 2
    must_pass "no folder yet"
}
# The file that a lead with one running helper keeps, in KEPT. Only the lead reads and writes it: with --local-boards
# the helper could replace a file before the lead has seen it.
lead_of_a_running_board() {
    rm -rf "$KVR_CACHE_DIR"
    start_board -m "$STORIES" -d reference -c 512 --even || return
    real --boards "$BOARD"
    must_pass "the first prompt"
    cp "$TMP/out" "$TMP/first"
    set -- "$KVR_CACHE_DIR"/profile-*.txt
    [ $# = 1 ] && [ -e "$1" ] || { fail "not one profile: $*"; return 1; }
    KEPT=$1
}
a_damaged_profile_is_measured_again() {
    lead_of_a_running_board || return
    echo nonsense >"$KEPT"
    real --boards "$BOARD"
    must_pass
    same "$TMP/first" "$TMP/out" "a damaged file"
    grep -q 'damaged' "$TMP/err" || fail "nobody said that the file is damaged"
    grep -q '^dense_gmacs' "$KEPT" || fail "the damaged file is not replaced"
    end_board "$BOARD_PID"
}
rates() { awk '{ print $1, $2 }' "$KEPT" | grep -v '^source'; }
# at_speed FACTOR: the kept profile of a board so many times as fast, whose calls cost nothing
at_speed() {
    awk -v by="$1" '/^(dense_gmacs|attention_gmacs|memory_gbs) / { $2 *= by } /^call_us / { $2 = 0 } { print }' \
        "$KEPT" >"$TMP/other"
    cp "$TMP/other" "$KEPT"
    rates >"$TMP/rates"
}
a_profile_from_a_busy_moment_does_not_stay() {
    lead_of_a_running_board || return
    at_speed 0.001
    real --boards "$BOARD"
    must_pass "just measured"
    rates | cmp -s - "$TMP/rates" || fail "it was measured again at once"
    touch -t 202001010000 "$KEPT"
    real --boards "$BOARD"
    must_pass "measured long ago, busy then"
    rates | cmp -s - "$TMP/rates" && fail "the slow numbers were kept"
    at_speed 1000
    touch -t 202001010000 "$KEPT"
    real --boards "$BOARD"
    must_pass "measured long ago, busy now"
    rates | cmp -s - "$TMP/rates" || fail "the fast numbers were lost: $(cat "$KEPT")"
    [ -n "$(find "$KEPT" -mmin -30)" ] || fail "nothing tells that it was measured again, so every start would"
    end_board "$BOARD_PID"
}
the_faster_board_gets_more_tokens() {
    profile fast 0.2
    profile slow 0.1
    emulated --emulate "$TMP/fast.txt,$TMP/slow.txt" --local-boards 2
    must_pass
    first=$(partition | cut -d, -f1)
    [ "$first" -gt 220 ] && [ "$first" -lt 300 ] || fail "400 tokens over boards of speeds 2 and 1: $(partition)"
    grep -q '^expected .*predicted / measured' "$TMP/err" || fail "it does not say what was expected"
    grep -q '"plan_ms"' "$TMP/stats.json" || fail "the time that planning took is not there"
    emulated --emulate "$TMP/fast.txt,$TMP/slow.txt" --local-boards 2 --even
    must_pass even
    [ "$(partition)" = 200,200 ] || fail "--even gave $(partition)"
    emulated --emulate "$TMP/fast.txt,$TMP/slow.txt" --local-boards 2 --partition 100,300
    must_pass partition
    [ "$(partition)" = 100,300 ] || fail "--partition gave $(partition)"
}
a_board_that_does_not_help_is_left_out() {
    profile fast 1000
    profile hopeless 0.0001
    emulated --emulate "$TMP/hopeless.txt,$TMP/fast.txt" --local-boards 2
    must_pass
    [ "$(partition)" = 400 ] || fail "$(partition)"
    grep -q '^boards   1 of 2' "$TMP/err" || fail "it does not say that a board was left out"
}
running_boards_tell_what_they_can_do() {
    profile fast 0.2
    profile slow 0.1
    start_board -m "$STORIES" -c 512 --emulate "$TMP/slow.txt" || return
    emulated --emulate "$TMP/fast.txt" --boards "$BOARD"
    must_pass
    first=$(partition | cut -d, -f1)
    [ "$first" -gt 100 ] && [ "$first" -lt 180 ] || fail "400 tokens over boards of speeds 1 and 2: $(partition)"
    end_board "$BOARD_PID"
    start_board -m "$STORIES" -c 512 --emulate "$TMP/slow.txt" --even || return
    emulated --emulate "$TMP/fast.txt" --boards "$BOARD"
    must_pass "a board that says nothing of itself"
    [ "$(partition)" = 200,200 ] || fail "unknown boards: $(partition)"
    end_board "$BOARD_PID"
}
a_conversation_and_a_benchmark_do_it_too() {
    profile fast 0.2
    profile slow 0.1
    # the first prompt: a later one is cut by what a busy machine made of the one before, too
    kvr bench -m "$STORIES" --emulate "$TMP/fast.txt,$TMP/slow.txt" -p 400 -n 0 -r 1 --no-warmup -c 512 \
        --local-boards 2 -o json
    must_pass
    first=$(sed -n 's/.*"partition": "\([0-9]*\),.*/\1/p' "$TMP/out")
    [ "${first:-0}" -gt 220 ] && [ "$first" -lt 300 ] || fail "bench: $(grep partition "$TMP/out")"
    printf 'Once upon a time\n/stats\n' |
        timeout "$LIMIT_S" "$KVR" chat -m "$STORIES" -d reference --template plain -n 8 -c 512 \
            --local-boards 2 >"$TMP/out" 2>"$TMP/err" || fail "chat: $(cat "$TMP/err")"
    grep -q '^boards   ' "$TMP/err" || fail "chat says nothing of its boards"
}

check a_board_measures_itself_once
check a_damaged_profile_is_measured_again
check a_profile_from_a_busy_moment_does_not_stay
check the_faster_board_gets_more_tokens
check a_board_that_does_not_help_is_left_out
check running_boards_tell_what_they_can_do
check a_conversation_and_a_benchmark_do_it_too
finish
