#!/bin/sh
# Keys and strangers: who may use a board, what wrong key files say, and what a board survives.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
IDS=$(some_ids 40)
lead() { kvr run -m "$STORIES" -d reference --ids "$IDS" -n 16 --print-ids --ignore-eos --even "$@"; }
helper() { start_board -m "$STORIES" -d reference "$@"; }
K=$TMP/keys
mkdir "$K"
for name in b0 b1 lead thief; do "$KVR" keygen "$K/$name" --name $name >/dev/null 2>&1; done
cat "$K/b0.pub" "$K/b1.pub" "$K/lead.pub" >"$K/allowed"
lead
cp "$TMP/out" "$TMP/one"
right_text() {
    must_pass "$1"
    same "$TMP/one" "$TMP/out" "$1"
}

keygen_keeps_the_secret_and_prints_the_public_key() {
    kvr keygen "$K/new" --name board-7
    must_pass
    grep -Eq '^[0-9a-f]{64} board-7$' "$TMP/out" || fail "printed: $(cat "$TMP/out")"
    same "$TMP/out" "$K/new.pub" "file and stdout"
    [ "$(stat -c %a "$K/new")" = 600 ] || fail "mode $(stat -c %a "$K/new") of the secret key"
    grep -q "$(cut -d' ' -f1 "$TMP/out")" "$K/new" && fail "the secret is the public key"
    before=$(cat "$K/new")
    kvr keygen "$K/new"
    must_fail 1 "choose another name"
    [ "$(cat "$K/new")" = "$before" ] || fail "a key was overwritten"
    kvr keygen
    must_fail 2 "no file given"
    kvr keygen "$K/bad" --name 'two words'
    must_fail 1 "is no name for a key"
    kvr keygen "$TMP/no/such/folder"
    must_fail 1 "cannot write"
}
boards_with_keys_give_the_same_text() {
    helper --key "$K/b0" --allowed "$K/allowed" || return
    first=${BOARD%@*} first_pid=$BOARD_PID first_full=$BOARD
    helper --key "$K/b1" --allowed "$K/allowed" || return
    second=${BOARD%@*} second_pid=$BOARD_PID
    lead --key "$K/lead" --allowed "$K/allowed" --boards "$first@b0,$second@b1"
    right_text "by names"
    lead --key "$K/lead" --allowed "$K/allowed" --boards "$BOARD,$first_full"
    right_text "by keys, the other way round"
    sed 's/ b1$/ 127.0.0.1/' "$K/allowed" >"$K/by_host"
    lead --key "$K/lead" --allowed "$K/by_host" --boards "$second"
    right_text "by the host's name"
    lead --key "$K/lead" --allowed "$K/allowed" --boards "$first@b1" --board-timeout 1 --need-all-boards
    must_fail 1 "board 0 at $first@b1"
    end_board $first_pid
    end_board $second_pid
}
one_key_for_all_boards_needs_no_list() {
    helper --key "$K/b0" || return
    lead --key "$K/b0" --boards "${BOARD%@*}"
    right_text "one key"
    lead --key "$K/thief" --boards "${BOARD%@*}" --board-timeout 1 --need-all-boards
    must_fail 1 "board 0"
    end_board "$BOARD_PID"
}
beyond_this_machine_only_with_keys_or_consent() {
    kvr board -m "$STORIES" -d reference --listen 'tcp://*:*'
    must_fail 1 "has no key.*--insecure"
    for boards in tcp://192.0.2.1:7000 tcp://board:7000 "tcp://127.0.0.1:1,tcp://192.0.2.1:7000"; do
        lead --boards "$boards"
        must_fail 1 "has no key.*--insecure"
    done
    lead --boards tcp://127.0.0.1:7000 --listen 'tcp://*:*'
    must_fail 1 "has no key.*--insecure"
    mkfifo "$TMP/open"
    for how in "--insecure" "--key $K/b0"; do
        # shellcheck disable=SC2086
        "$KVR" board --announce-fd 7 -m "$STORIES" -d reference --listen 'tcp://*:*' $how 7>"$TMP/open" 2>"$TMP/err" &
        pid=$!
        PIDS="$PIDS $pid"
        address=
        read -r address <"$TMP/open"
        case $address in tcp://0.0.0.0:*) ;; *) fail "$how: '$address' $(cat "$TMP/err")" ;; esac
        end_board $pid
    done
}
what_is_no_address_is_told_before_keys_are_asked_for() {
    for key in "" "--key $K/b0" --insecure; do
        for boards in tcp://127.0.0.1:70000 tcp://127.0.0.1 tcp://10.0.0.2 10.0.0.2:7000 'tcp://*:7000' \
            tcp://10.0.0.2:0 tcp://127.1:7000 tcp://:7000 tcp://@name nonsense; do
            lead --boards "$boards" $key
            must_fail 1 "'$(echo "$boards" | sed 's/\*/\\*/')' is no address: write tcp://HOST:PORT"
        done
        kvr board -m "$STORIES" -d reference --listen 10.0.0.2:7000 $key
        must_fail 1 "'10.0.0.2:7000' is no address: write tcp://HOST:PORT, as in tcp://\*:7000"
        lead --boards tcp://127.0.0.1:7000 --listen tcp://127.0.0.1 $key
        must_fail 1 "'tcp://127.0.0.1' is no address"
    done
}
wrong_key_files_are_a_sentence() {
    lead --boards tcp://127.0.0.1:7000 --key "$K/missing"
    must_fail 1 "cannot read"
    lead --boards tcp://127.0.0.1:7000 --key "$K/b0.pub"
    must_fail 1 "other users can read\|holds no secret key"
    cp "$K/b0.pub" "$K/private.pub" && chmod 600 "$K/private.pub"
    lead --boards tcp://127.0.0.1:7000 --key "$K/private.pub"
    must_fail 1 "holds no secret key.*not its .pub"
    cp "$K/b0" "$K/shared" && chmod 644 "$K/shared"
    lead --boards tcp://127.0.0.1:7000 --key "$K/shared"
    must_fail 1 "chmod 600"
    lead --boards tcp://127.0.0.1:7000 --key "$K"
    must_fail 1 "is no file"
    lead --boards tcp://127.0.0.1:7000 --allowed "$K/allowed"
    must_fail 1 "--allowed needs --key"
    head -c 100000 /dev/zero >"$K/zeros" && chmod 600 "$K/zeros"
    lead --boards tcp://127.0.0.1:7000 --key "$K/zeros"
    must_fail 1 "too long"
    # list PATTERN: what stdin says of itself as a list
    list() {
        cat >"$K/list"
        kvr board -m "$STORIES" -d reference --listen 'tcp://127.0.0.1:*' --key "$K/b0" --allowed "$K/list"
        must_fail 1 "$1"
    }
    list "allows no board" </dev/null
    list "line 2 is not a public key" <<EOF
# a comment
0123 b0
EOF
    list "line 1 is a secret key" <"$K/b1"
    cat "$K/b0.pub" "$K/b0.pub" | list "line 2: the name 'b0' stands there twice"
    lead --boards tcp://127.0.0.1:7000@nobody --key "$K/lead" --allowed "$K/allowed"
    must_fail 1 "no key named 'nobody'"
    lead --boards tcp://127.0.0.1:7000 --key "$K/lead" --allowed "$K/allowed"
    must_fail 1 "which key has the board"
    lead --boards "tcp://127.0.0.1:7000@$(printf '%064d' 1)" --key "$K/lead" --allowed "$K/allowed"
    must_fail 1 "this key is not in --allowed"
    lead --boards tcp://127.0.0.1:7000@b0
    must_fail 1 "this board has none"
}
a_board_named_twice_is_a_sentence() {
    lead --boards tcp://127.0.0.1:7000,tcp://127.0.0.1:7000
    must_fail 1 "names 'tcp://127.0.0.1:7000' twice"
}
strangers_are_turned_away_counted_and_told() {
    "$KVR" board -m "$STORIES" -d reference --listen 'tcp://127.0.0.1:*' --key "$K/b0" --allowed "$K/allowed" \
        2>"$TMP/b.err" &
    pid=$!
    PIDS="$PIDS $pid"
    until grep -q '^listening on ' "$TMP/b.err"; do kill -0 $pid || return; done
    BOARD=$(sed -n 's/^listening on //p' "$TMP/b.err")
    address=${BOARD%@*}
    lead --boards "$address" --board-timeout 1 --need-all-boards
    must_fail 1 "board 0"
    cat "$K/thief.pub" "$K/allowed" >"$K/stolen"
    lead --key "$K/thief" --allowed "$K/stolen" --boards "$address@b0" --board-timeout 1 --need-all-boards
    must_fail 1 "does not know this board's key"
    lead --key "$K/lead" --allowed "$K/allowed" --boards "$address@b0"
    right_text "after strangers"
    end_board $pid
    grep -q 'turned away a connection from 127.0.0.1: its key is not in --allowed' "$TMP/b.err" ||
        fail "no note of the key"
    [ "$(grep -c 'turned away a connection that has no key' "$TMP/b.err")" = 1 ] || fail "not said once"
    grep -q 'turned away: [1-9][0-9]* unknown keys, [1-9][0-9]* without a handshake' "$TMP/b.err" || fail "not counted"
}
what_a_stranger_repeats_changes_or_makes_up_does_no_harm() {
    helper || return
    first=$BOARD first_pid=$BOARD_PID
    : >"$TMP/b.err" # of the test before: the board below may be slow to empty it
    "$KVR" board -m "$STORIES" -d reference --listen 'tcp://127.0.0.1:*' 2>"$TMP/b.err" &
    BOARD_PID=$!
    PIDS="$PIDS $BOARD_PID"
    until grep -q '^listening on ' "$TMP/b.err"; do kill -0 $BOARD_PID || return; done
    BOARD=$(sed -n 's/^listening on //p' "$TMP/b.err")
    mkfifo "$TMP/stranger"
    for seed in 1 2 3; do
        "$STRANGER" "$BOARD" $seed >"$TMP/stranger" 2>"$TMP/stranger.err" &
        stranger=$!
        PIDS="$PIDS $stranger"
        exec 5<"$TMP/stranger"
        read -r address <&5
        lead --boards "$first,$address" --partition 13,13,14
        right_text "heard by a stranger"
        read -r said <&5
        exec 5<&-
        wait $stranger || fail "the stranger: $(cat "$TMP/stranger.err")"
        case $said in "sent "[1-9][0-9][0-9]*) ;; *) fail "the stranger said '$said'" ;; esac
        lead --boards "$first,$BOARD"
        right_text "after a stranger"
        [ "$FAILED" = 0 ] || return
    done
    kill -0 $first_pid && kill -0 "$BOARD_PID" || fail "a board is gone"
    end_board $first_pid
    end_board "$BOARD_PID"
    [ "$(grep -c 'dropped a message that is damaged' "$TMP/b.err")" = 1 ] || fail "not said once: $(cat "$TMP/b.err")"
    grep -q 'dropped [1-9][0-9]* frames that were damaged or of no job' "$TMP/b.err" ||
        fail "not counted: $(cat "$TMP/b.err")"
}

check keygen_keeps_the_secret_and_prints_the_public_key
check boards_with_keys_give_the_same_text
check one_key_for_all_boards_needs_no_list
check beyond_this_machine_only_with_keys_or_consent
check what_is_no_address_is_told_before_keys_are_asked_for
check wrong_key_files_are_a_sentence
check a_board_named_twice_is_a_sentence
check strangers_are_turned_away_counted_and_told
check what_a_stranger_repeats_changes_or_makes_up_does_no_harm
finish
