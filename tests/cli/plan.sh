#!/bin/sh
# kvr plan and kvr bench --paper: predictions from profiles. Ratios that the profiles must give are judged; no clock is.
. "$(dirname "$0")/common.sh"
MODEL=$HERE/../../examples/model/kvr-logbook.gguf
PROFILES=$HERE/../../examples/profiles

numbers_plan_memory_and_names_predict() {
    kvr plan -m "$MODEL" -d reference --boards 3
    must_pass
    grep -q "exact (model, session, device)" "$TMP/out" || fail "no memory plan"
    kvr plan -m "$MODEL" --boards 3xrpi5 -p 512
    must_pass
    for line in "boards worth using" "partition (KVR-S)" "time to first token" "lower bounds" "hidden" "wait_prefix"; do
        grep -q "$line" "$TMP/out" || fail "no '$line'"
    done
    kvr plan -m "$MODEL" --boards 0
    must_fail 2 "from 1 to 64"
    kvr plan -m "$MODEL" --boards 65
    must_fail 2 "from 1 to 64"
}
shapes_come_by_name_without_a_file() {
    kvr plan -m llama-7b --boards 2xa100 --link paper-fast --batch 4096 -p 4096
    must_pass
    kvr plan -m falcon-7b-q4_0 --boards 2xrk3588,rpi5 --link 1gbit,100mbit -p 1024,2048
    must_pass
    [ "$(grep -c '^prompt of' "$TMP/out")" = 2 ] || fail "not two prompts"
}
what_is_not_there_is_named() {
    kvr plan -m nomodel --boards 2xrpi5
    must_fail 1 "no profile 'nomodel'"
    kvr plan -m llama-7b --boards rpi9
    must_fail 1 "no profile 'rpi9'"
    kvr plan -m llama-7b --boards 2xrpi5 --link carrier-pigeon
    must_fail 1 "no profile 'carrier-pigeon'"
    kvr plan -m llama-7b --boards 3xrpi5 --link 1gbit,1gbit,1gbit,1gbit
    must_fail 1 "more links"
    kvr plan -m llama-7b --boards 65xrpi5
    must_fail 1 "more than 64"
    kvr plan -m llama-7b --boards 2x./none.txt
    must_fail 1 "cannot read ./none.txt: No such file.*; check the name"
    kvr plan -m llama-7b --boards "$TMP"
    must_fail 1 "cannot read $TMP: Is a directory; check the name"
    kvr plan -m llama-7b --boards 2xrpi5 -p 64 --table "$TMP"
    must_fail 1 "Is a directory; check the name"
    kvr plan -m llama-7b --boards 2xrpi5 -p 64 --search -o "$TMP"
    must_fail 1 "cannot write $TMP: Is a directory; choose another name"
    kvr plan -m llama-7b --boards 2xrpi5 --partition 1,2,3 -p 6
    must_fail 2 "3 parts for 2 boards"
    kvr plan -m llama-7b --boards 2xrpi5 --partition 1,2 -p 6
    must_fail 1 "do not add up"
}
damaged_profiles_name_the_line() {
    cp "$PROFILES/boards/rpi5.txt" "$TMP/board.txt"
    echo "memory_gbs 7" >>"$TMP/board.txt"
    kvr plan -m llama-7b --boards "$TMP/board.txt"
    must_fail 1 "memory_gbs"
    kvr plan -m llama-7b --boards "$MODEL"
    must_fail 1 "no profile\|longer than\|another kind"
    kvr plan -m llama-7b --boards "$PROFILES/links/1gbit.txt"
    must_fail 1 "another kind of file"
}
every_profile_that_comes_with_kvr_can_be_read() {
    for f in "$PROFILES"/boards/*.txt; do kvr plan -m llama-7b --boards "$f" -p 64; must_pass "$f"; done
    for f in "$PROFILES"/links/*.txt; do kvr plan -m llama-7b --boards 2xrpi5 --link "$f" -p 64; must_pass "$f"; done
    for f in "$PROFILES"/models/*.txt; do kvr plan -m "$f" --boards 2xrpi5 -p 64; must_pass "$f"; done
    for f in "$PROFILES"/runs/*.txt; do
        kvr bench --paper --board "$(basename "$f" .txt)" --runs "$f" --models llama-7b --link paper-fast -p 4096 \
            --boards 4
        must_pass "$f"
    done
    for f in "$PROFILES"/boards/*.txt "$PROFILES"/links/*.txt "$PROFILES"/models/*.txt; do
        grep -q "^source .*\(estimate\|measured\|config.json\|paper\|assum\|as [a-z0-9-]*,\)" "$f" ||
            fail "$f does not say where its numbers come from"
    done
}
a_searched_table_gives_the_searched_partition_again() {
    kvr plan -m llama-7b-q4_0 --boards 4xrpi5 --search -o "$TMP/table" -p 512,1024,2048
    must_pass
    kvr plan -m llama-7b-q4_0 --boards 4xrpi5 -p 1024
    searched=$(grep "partition (KVR-S)" "$TMP/out" | sed 's/.*) *//')
    kvr plan -m llama-7b-q4_0 --boards 4xrpi5 -p 1024 --table "$TMP/table"
    must_pass
    [ "$(grep "partition (KVR-P)" "$TMP/out" | sed 's/.*) *//')" = "$searched" ] ||
        fail "another partition than $searched"
    kvr plan -m llama-7b-q4_0 --boards 3xrpi5 --table "$TMP/table"
    must_fail 1 "searched for 4 boards"
    sed 's/row 1024 /row 1025 /' "$TMP/table" >"$TMP/bad"
    kvr plan -m llama-7b-q4_0 --boards 4xrpi5 --table "$TMP/bad"
    must_fail 1 "add up"
}
the_planner_uses_fewer_boards_when_that_is_faster() {
    kvr plan -m llama-7b --boards 4xa100 --link 100mbit -p 64
    must_pass
    grep -q "boards worth using *1 of 4" "$TMP/out" || fail "$(grep "worth using" "$TMP/out")"
}
the_paper_comparison_has_all_columns_and_the_chain_wins() {
    kvr bench --paper --models llama-7b --link paper-fast -p 4096 --boards 4 -o csv
    must_pass
    head -n 1 "$TMP/out" | grep -q "single_ms,tsp_ms,tsp_skip_ms,kvr_e_ms,kvr_s_ms,kvr_p_ms" ||
        fail "columns: $(head -n 1 "$TMP/out")"
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
             NR == 2 { exit !($at["tsp_by_kvr_s"] > 1.2 && $at["kvr_p_ms"] < 1.05 * $at["kvr_s_ms"] &&
                              $at["bound_split_ms"] <= $at["kvr_s_ms"]) }' "$TMP/out" || fail "$(cat "$TMP/out")"
    kvr bench --paper --models llama-7b --link paper-slow-unsteady -p 2048 --boards 4 -o csv
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
             NR == 2 { exit !($at["lost_kvr_s_ms"] < $at["lost_tsp_ms"]) }' "$TMP/out" || fail "$(cat "$TMP/out")"
    kvr bench --paper -p 4
    must_fail 1 "too few"
}
rows_that_were_run_stand_beside_their_prediction() {
    printf '%s\n' "kvr-runs 1" "# a remark" "board a100" "run llama-7b paper-fast 2 4096 tsp 900 77" "board other" \
        "run llama-7b paper-fast 2 4096 chain 1 1" >"$TMP/runs.txt"
    kvr bench --paper --models llama-7b --link paper-fast -p 4096 --boards 2,4 -o csv --runs "$TMP/runs.txt"
    must_pass
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
             { ran = ran $at["ran_tsp_ms"] "/" $at["ran_kvr_s_ms"] "/" $at["ran_bytes_tsp"] " "
               off = off + $at["ran_off_percent"] }
             END { exit !(ran == "900.0//77 // " && off > 100) }' "$TMP/out" || fail "$(cat "$TMP/out")"
    echo "run llama-7b paper-fast 2 4096 tsp 900" >>"$TMP/runs.txt"
    kvr bench --paper --runs "$TMP/runs.txt"
    must_fail 1 "line 7"
    for run in "-2 4096 tsp 900 77" "2 4294967296 tsp 900 77" "2 4096 tsp inf 77" "2 4096 tsp 9x 77" \
        "2 4096 tsp 9 1e3"; do
        printf '%s\n' "kvr-runs 1" "run llama-7b paper-fast $run" >"$TMP/runs.txt"
        kvr bench --paper --runs "$TMP/runs.txt"
        must_fail 1 "line 2"
    done
    echo "kvr-board 1" >"$TMP/runs.txt"
    kvr bench --paper --runs "$TMP/runs.txt"
    must_fail 1 "no file of runs"
}
a_prediction_can_be_drawn() {
    kvr plan -m llama-7b-q4_0 --boards 3xrpi5 --link 100mbit -p 256 --timeline "$TMP/picture.svg" \
        --trace "$TMP/trace.json"
    must_pass
    grep -q "first token predicted after" "$TMP/picture.svg" || fail "no title: $(head -c 300 "$TMP/picture.svg")"
    [ "$(grep -c 'board [0-2]' "$TMP/picture.svg")" = 3 ] || fail "not three lanes"
    [ "$(grep -c '"cat": "transfer"' "$TMP/trace.json")" = 64 ] || fail "not 32 layers over two links"
    kvr plan -m llama-7b-q4_0 --boards 3xrpi5 -p 256,512 --timeline "$TMP/picture.svg"
    must_fail 2 "one prompt"
}
a_measured_profile_serves_the_planner() {
    kvr plan -m "$MODEL" -d reference --measure -o "$TMP/me.txt" --name "my board, the 2nd"
    must_pass
    grep -q "^measured 1" "$TMP/me.txt" && grep -q "^name my board, the 2nd$" "$TMP/me.txt" ||
        fail "$(cat "$TMP/me.txt")"
    kvr plan -m "$MODEL" --boards "2x$TMP/me.txt" --link loopback -p 256
    must_pass
    kvr plan -m "$MODEL" --measure --boards 2
    must_fail 2 "leave --boards out"
}
a_chain_cut_by_profiles_gives_the_same_answer() {
    "$KVR" --help >/dev/null && kvr run -m "$MODEL" -d reference --ids 1,403,407,261,378 -n 8 --print-ids
    must_pass
    cp "$TMP/out" "$TMP/alone"
    kvr run -m "$MODEL" -d reference --ids 1,403,407,261,378 -n 8 --print-ids --local-boards 3 --profile rpi5 \
        --link 10gbit
    must_pass
    same "$TMP/alone" "$TMP/out" "a chain by profile"
    kvr run -m "$MODEL" -d reference --ids 1,403,407 -n 1 --local-boards 3 --profile rpi5,rpi5
    must_fail 2 "names 2 boards, the chain has 3"
}

check numbers_plan_memory_and_names_predict
check shapes_come_by_name_without_a_file
check what_is_not_there_is_named
check damaged_profiles_name_the_line
check every_profile_that_comes_with_kvr_can_be_read
check a_searched_table_gives_the_searched_partition_again
check the_planner_uses_fewer_boards_when_that_is_faster
check the_paper_comparison_has_all_columns_and_the_chain_wins
check rows_that_were_run_stand_beside_their_prediction
check a_prediction_can_be_drawn
check a_measured_profile_serves_the_planner
check a_chain_cut_by_profiles_gives_the_same_answer
finish
