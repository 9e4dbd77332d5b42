#!/bin/sh
# --emulate: boards that take time instead of computing, over real frames and links.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf

cat >"$TMP/quick.txt" <<'END'
kvr-board 1
name quick
source made up for this test
measured 0
attention_tile 16
dense_gmacs 100
attention_gmacs 50
memory_gbs 10
score_bytes 0
call_us 50
frame_gbs 2
prompt_us 0
END
sed 's/^name .*/name slow/; s/^call_us .*/call_us 300/' "$TMP/quick.txt" >"$TMP/slow.txt"

ask() { kvr run --even -m "$STORIES" --ids "$(some_ids 60)" -n 2 --ignore-eos --print-ids -c 128 "$@"; }

emulated_boards_move_the_frames_of_real_ones() {
    for boards in 2 3 5; do
        for strategy in chain tsp; do
            ask -d reference --local-boards $boards --strategy $strategy
            must_pass
            grep '^frames ' "$TMP/err" >"$TMP/real"
            ask --emulate "$TMP/quick.txt" --local-boards $boards --strategy $strategy
            must_pass
            grep '^frames ' "$TMP/err" >"$TMP/emulated"
            same "$TMP/real" "$TMP/emulated" "frames of $boards boards, $strategy"
            grep -q ", $strategy, emulated quick\$" "$TMP/err" || fail "the statistics do not say what was run"
        done
    done
}
# bench of the strategy and the cost model of the same boards, links and cut
what_goes_over_the_links_is_what_the_formulas_say() {
    column() {
        awk -F, -v name="$1" '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = NF - i }
            NR == 2 { print $(NF - at[name]) }'
    }
    sed 's/^dense_gmacs .*/dense_gmacs 0.3/; s/^call_us .*/call_us 0/' "$TMP/quick.txt" >"$TMP/busy.txt"
    for boards in 2 4; do
        kvr bench --paper --models "$STORIES" --link loopback --board "$TMP/busy.txt" --batch 64 -p 120 \
            --boards $boards -o csv
        must_pass
        cp "$TMP/out" "$TMP/predicted"
        for strategy in chain:kvr_s tsp:tsp; do
            kvr bench -m "$STORIES" --emulate "$TMP/busy.txt" --profile "$TMP/busy.txt" --batch 64 -p 120 -n 0 -r 1 \
                --no-warmup --local-boards $boards --strategy ${strategy%:*} --trace "$TMP/trace.json" -o csv
            must_pass
            moved=$(column bytes_moved <"$TMP/out")
            [ "$moved" = "$(column bytes_${strategy#*:} <"$TMP/predicted")" ] ||
                fail "$boards boards, $strategy: $moved bytes, wanted $(column bytes_${strategy#*:} <"$TMP/predicted")"
        done
    done
}
one_board_takes_its_time_too() {
    ask --emulate "$TMP/slow.txt" --stats-json "$TMP/stats.json"
    must_pass
    # 5 layers of two halves each; the device cannot be done before
    awk -F'[ ,:]+' '/"compute_ms"/ { found = 1; if ($3 < 2.4) exit 1 } END { exit !found }' "$TMP/stats.json" ||
        fail "it took no time: $(grep compute_ms "$TMP/stats.json")"
}
each_board_may_have_a_profile_of_its_own() {
    ask --emulate "$TMP/slow.txt,$TMP/quick.txt" --local-boards 2 --timeline "$TMP/picture.svg"
    must_pass
    grep -q ', emulated quick$' "$TMP/err" || fail "the lead is not the last of the list"
    ask --emulate "$TMP/slow.txt,$TMP/quick.txt" --local-boards 3
    must_fail 2 "one profile, or one for each of 3 boards"
}
an_emulated_board_and_a_real_one_refuse_each_other() {
    start_board -m "$STORIES" --emulate "$TMP/quick.txt" -c 128 || return
    ask -d reference --boards "$BOARD"
    must_fail 1 "another model\|same model"
    ask --emulate "$TMP/quick.txt" --boards "$BOARD"
    must_pass
    end_board "$BOARD_PID"
}
a_profile_that_cannot_be_read_is_a_sentence() {
    ask --emulate "$TMP/none.txt"
    must_fail 1 "cannot read"
    grep -v '^memory_gbs' "$TMP/quick.txt" >"$TMP/bad.txt"
    ask --emulate "$TMP/bad.txt"
    must_fail 1 "memory_gbs"
}
a_benchmark_of_emulated_boards() {
    kvr bench -m "$STORIES" --emulate "$TMP/quick.txt" -p 64 -n 0 -r 1 -c 128 --local-boards 1,2 -o csv
    must_pass
    [ "$(grep -c '"emulated quick"' "$TMP/out")" = 2 ] || fail "not two rows: $(cat "$TMP/out")"
}
a_strategy_costs_what_it_computes() {
    kvr bench -m "$STORIES" --emulate "$TMP/quick.txt" -p 64 -n 0 -r 1 -c 128 --local-boards 2 -o csv --strategy tsp
    must_pass
    grep -q '"tsp"' "$TMP/out" || fail "the strategy is not in the row: $(cat "$TMP/out")"
    ask --emulate "$TMP/slow.txt" --local-boards 2 --strategy single --stats-json "$TMP/stats.json"
    must_pass
    grep -q '"strategy": "single"' "$TMP/stats.json" || fail "one board is not told: $(grep strategy "$TMP/stats.json")"
    grep -q '"boards": 1' "$TMP/stats.json" || fail "single took more than one board"
    ask --emulate "$TMP/slow.txt" --local-boards 2 --strategy both
    must_fail 2 "chain, single, tsp or tsp-skip"
}

check emulated_boards_move_the_frames_of_real_ones
check what_goes_over_the_links_is_what_the_formulas_say
check one_board_takes_its_time_too
check each_board_may_have_a_profile_of_its_own
check an_emulated_board_and_a_real_one_refuse_each_other
check a_profile_that_cannot_be_read_is_a_sentence
check a_benchmark_of_emulated_boards
check a_strategy_costs_what_it_computes
finish
