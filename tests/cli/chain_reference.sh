#!/bin/sh
# Chain = single, with real processes over ZeroMQ on the reference backend.
. "$(dirname "$0")/common.sh"
. "$HERE/chain.sh"

even_partitions_of_one_to_five_boards() {
    single short 23 64 -d reference
    for boards in 1 2 3 4 5; do chain short $boards - 64 -d reference; done
}
a_dozen_partitions_by_hand() {
    single short 23 64 -d reference
    for partition in 1,22 22,1 12,11 7,16 1,1,21 21,1,1 10,12,1 8,8,7 1,1,1,20 20,1,1,1 6,6,6,5 1,1,1,1,19 \
        19,1,1,1,1 7,1,7,1,7; do
        chain short "$(echo $partition | tr ',' '\n' | wc -l | tr -d ' ')" $partition 64 -d reference
    done
}
chunks_of_one_token_each() {
    single tiny 5 64 -d reference
    chain tiny 5 1,1,1,1,1 64 -d reference
    single pair 2 64 -d reference
    chain pair 2 1,1 64 -d reference
}
chunks_longer_than_a_frame_and_a_batch() {
    single long 301 64 -d reference --batch 64
    for partition in 150,151 300,1 1,300 129,128,44 100,100,101; do
        chain long "$(echo $partition | tr ',' '\n' | wc -l | tr -d ' ')" $partition 64 -d reference --batch 64
    done
    chain long 3 - 64 -d reference --batch 17
}
an_f32_cache() {
    single wide 40 16 -d reference --kv f32
    chain wide 3 - 16 -d reference --kv f32
    chain wide 2 1,39 16 -d reference --kv f32
}
keys_and_values_of_8_bits_on_the_wire() {
    single small 150 24 -d reference --wire-kv q8_0
    chain small 3 - 24 -d reference --wire-kv q8_0
    chain small 4 100,20,20,10 24 -d reference --wire-kv q8_0 --kv f16
    single small 150 24 -d reference --wire-kv q8_0 --kv f32
    chain small 3 - 24 -d reference --wire-kv q8_0 --kv f32
    kvr eval -m "$STORIES" -d reference --ids 1,2 -n 1 --wire-kv f32
    must_fail 1 "Q8_0 or the type of the cache"
}
helpers_with_a_window_of_layers() {
    single long 301 24 -d reference --batch 64
    for window in 1 2 4; do chain long 4 - 24 -d reference --batch 64 --kv-window $window; done
    chain long 3 200,100,1 24 -d reference --batch 64 --kv-window 1 --wire-kv f16
    for window in 1 5; do
        kvr plan -m "$STORIES" -d reference -c 512 --kv-window $window
        must_pass
        awk '/^(session|device) +keys and values/ { print $(NF - 1) }' "$TMP/out" >"$TMP/window.$window"
    done
    [ $(($(cat "$TMP/window.1") * 5)) = "$(cat "$TMP/window.5")" ] ||
        fail "the plan of one layer is not a fifth of five's"
}
sliding_windows_keep_the_latest_tokens() {
    gemma3=$HERE/../golden/models/gemma3.gguf
    ids=$(seq -s, 1 100)
    kvr plan -m "$gemma3" -d reference -c 160 --batch 20
    must_pass
    grep -q '^layers with a sliding window keep the latest 64 tokens' "$TMP/out" || fail "the plan keeps all"
    kvr eval -m "$gemma3" -d reference --ids "$ids" -n 40 --batch 20 --from-prefill --raw "$TMP/one.raw"
    must_pass
    for chunk in 0 34 60; do # 0: caches of all tokens
        [ $chunk = 0 ] && set -- || set -- --chunk $chunk
        kvr eval -m "$gemma3" -d reference --ids "$ids" -n 40 --local-boards 3 --raw "$TMP/three.raw" "$@"
        must_pass "three boards, $*"
        same "$TMP/one.raw" "$TMP/three.raw" "logits of three boards, $*"
    done
    kvr eval -m "$gemma3" -d reference --ids "$ids" -n 1 --local-boards 3 --chunk 20
    must_fail 1 "chunk"
}
more_boards_than_tokens_use_fewer() {
    single pair 2 8 -d reference
    chain pair 4 - 8 -d reference
}
every_strategy_gives_the_same_answer() {
    single short 123 24 -d reference
    for boards in 2 3 4; do
        for strategy in tsp tsp-skip chain single; do chain short $boards - 24 -d reference --strategy $strategy; done
    done
    chain short 3 100,3,20 24 -d reference --strategy tsp --batch 7
}
text_is_the_same_too() {
    kvr run -m "$STORIES" -d reference -p 'Once upon a time there was a little dog who liked to' -n 64
    must_pass
    cp "$TMP/out" "$TMP/one"
    kvr run --even -m "$STORIES" -d reference -p 'Once upon a time there was a little dog who liked to' -n 64 \
        --local-boards 3
    must_pass
    same "$TMP/one" "$TMP/out" "text"
    grep -q '^boards   3' "$TMP/err" || fail "no statistics of 3 boards"
}

check even_partitions_of_one_to_five_boards
check a_dozen_partitions_by_hand
check chunks_of_one_token_each
check chunks_longer_than_a_frame_and_a_batch
check an_f32_cache
check keys_and_values_of_8_bits_on_the_wire
check helpers_with_a_window_of_layers
check sliding_windows_keep_the_latest_tokens
check more_boards_than_tokens_use_fewer
check every_strategy_gives_the_same_answer
check text_is_the_same_too
finish
