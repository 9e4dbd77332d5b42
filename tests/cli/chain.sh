# Sourced by chain_*.sh after common.sh: a chain of real processes gives what one board gives, bit for bit.
need_data models/stories260K.gguf

# single NAME N_PROMPT N_NEW ARGS: what one board says, kept as $TMP/NAME.{ids,txt,raw}
single() {
    name=$1 n_new=$3
    some_ids "$2" >"$TMP/$name.ids"
    shift 3
    kvr eval -m "$STORIES" --ids "$(cat "$TMP/$name.ids")" -n "$n_new" --from-prefill --raw "$TMP/$name.raw" "$@"
    must_pass "one board"
    cp "$TMP/out" "$TMP/$name.txt"
}
# chain NAME P PARTITION N_NEW ARGS: the same question to P boards; PARTITION '-' is even.
chain() {
    name=$1 boards=$2 partition=$3 n_new=$4
    shift 4
    [ "$partition" = - ] || set -- --partition "$partition" "$@"
    kvr eval -m "$STORIES" --ids "$(cat "$TMP/$name.ids")" -n "$n_new" --raw "$TMP/chain.raw" \
        --local-boards "$boards" "$@"
    must_pass "$boards boards, $partition"
    same "$TMP/$name.txt" "$TMP/out" "$boards boards, $partition, listing"
    same "$TMP/$name.raw" "$TMP/chain.raw" "$boards boards, $partition, logits"
}
