#!/bin/sh
# kvr chat: history, commands, stop texts, templates, Ctrl-C, chains. Input comes through pipes.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf
# chat INPUT ARGS
chat() {
    printf "$1" >"$TMP/in"
    shift
    timeout -k 5 "$LIMIT_S" "$KVR" chat -m "$STORIES" -d reference --template plain "$@" \
        <"$TMP/in" >"$TMP/out" 2>"$TMP/err"
    CODE=$?
}
line() { sed -n "$1p" "$TMP/out"; }

an_answer_sees_everything_that_was_said() {
    chat 'Once upon a time\nThen\n' -n 12 --system 'Lily'
    must_pass
    [ "$(wc -l <"$TMP/out")" = 2 ] || fail "not two answers: $(cat "$TMP/out")"
    printf 'Lily\nOnce upon a time\n' >"$TMP/one"
    kvr run -m "$STORIES" -d reference -f "$TMP/one" -n 12
    cp "$TMP/out" "$TMP/first"
    printf 'Lily\nOnce upon a time\n%s\nThen\n' "$(cat "$TMP/first")" >"$TMP/two"
    kvr run -m "$STORIES" -d reference -f "$TMP/two" -n 12
    cat "$TMP/first" "$TMP/out" >"$TMP/want"
    chat 'Once upon a time\nThen\n' -n 12 --system 'Lily'
    same "$TMP/want" "$TMP/out" "two answers"
}
reset_forgets_but_not_the_system_message() {
    chat 'Once\nThen\n/reset\nOnce\n' -n 15 --system 'Lily'
    must_pass
    [ "$(line 1)" = "$(line 3)" ] || fail "the first answer is not repeated: $(cat "$TMP/out")"
    [ "$(line 1)" != "$(line 2)" ] || fail "the answers do not depend on the history"
}
stats_and_unknown_commands_are_told_on_stderr() {
    chat '/stats\nOnce\n/stats\n/foo\n/quit\nnever asked\n' -n 5
    must_pass
    grep -q 'nothing was asked yet' "$TMP/err" || fail "no note"
    grep -q '^prompt .* tokens' "$TMP/err" || fail "no statistics"
    grep -q "no command '/foo'" "$TMP/err" || fail "an unknown command is not told"
    [ "$(wc -l <"$TMP/out")" = 1 ] || fail "/quit does not end"
}
a_stop_text_ends_an_answer_and_is_not_shown() {
    chat 'Once upon a time\n' -n 60
    must_pass
    word=$(tr ' ' '\n' <"$TMP/out" | sed -n 5p)
    cp "$TMP/out" "$TMP/whole"
    chat 'Once upon a time\n' -n 60 --stop " $word"
    must_pass
    [ "$(cat "$TMP/out")" = "$(sed "s/ $word.*//;q" "$TMP/whole")" ] || fail "not cut at '$word': $(cat "$TMP/out")"
}
a_file_without_a_template_needs_a_name() {
    kvr chat -m "$STORIES" -d reference </dev/null
    must_fail 1 'no chat template'
    grep -q 'templates: .*chatml.*plain' "$TMP/err" || fail "no list of templates"
    kvr chat -m "$STORIES" -d reference --template nonsense </dev/null
    must_fail 1 "no 'nonsense'"
}
a_full_context_is_a_note_and_the_conversation_goes_on() {
    chat 'Once upon a time there was a little girl and a dog and a cat and a bird and a tree\n/reset\nOnce\n' -n 4 -c 16
    must_pass
    grep -q 'the context holds 16' "$TMP/err" || fail "no note"
    [ "$(wc -l <"$TMP/out")" = 1 ] || fail "no answer afterwards"
}
# Waits until a file holds something.
await() { for _ in $(seq 600); do [ -s "$1" ] && return 0; sleep 0.1; done; fail "nothing came"; return 1; }
ctrl_c_ends_the_answer_and_not_the_program() {
    mkfifo "$TMP/keys"
    "$KVR" chat -m "$STORIES" -d reference --template plain -n 100000 -c 65536 "$@" \
        <"$TMP/keys" >"$TMP/out" 2>"$TMP/err" &
    pid=$!
    PIDS="$PIDS $pid"
    exec 9>"$TMP/keys"
    echo Once >&9
    await "$TMP/out"
    kill -INT "$pid"
    echo /stats >&9
    await "$TMP/err"
    echo /quit >&9
    exec 9>&-
    wait "$pid"
    CODE=$?
    must_pass "after Ctrl-C"
    rm "$TMP/keys"
}
# number N BYTES: little-endian
number() { n=$1; for _ in $(seq "$2"); do printf "\\$(printf %o $((n % 256)))"; n=$((n / 256)); done; }
text() { number ${#1} 8; printf %s "$1"; }
# The small model with a window of 16 tokens in every layer: two more keys, 96 bytes, so that the rest stays aligned.
model_with_a_window() {
    n_keys=$(od -An -tu1 -j16 -N1 "$STORIES" | tr -d ' ')
    head -c 16 "$STORIES"
    number $((n_keys + 2)) 8
    text llama.attention.sliding_window; number 4 4; number 16 4
    text fill; number 8 4; text "$(printf %26s '')"
    tail -c +25 "$STORIES"
}
# User time of a process, in ticks.
ticks() { cut -d' ' -f14 "/proc/$1/stat"; }
# A pipe holds 65536 bytes and the program takes pages from it. So behind messages of whole pages and as many ends of
# lines, cat is done when the last message has been taken; when the program has computed a little more, it reads that
# prompt, which takes it many seconds.
ctrl_c_while_a_prompt_is_read_leaves_a_conversation_that_goes_on() {
    model_with_a_window >"$TMP/window.gguf"
    mkfifo "$TMP/keys"
    "$KVR" chat -m "$TMP/window.gguf" -d reference --template plain -n 4 -c 250000 --batch 8 \
        <"$TMP/keys" >"$TMP/out" 2>"$TMP/err" &
    pid=$!
    PIDS="$PIDS $pid"
    { echo "Once upon a time$(for _ in $(seq 50); do printf ' there was a cat'; done)"; echo /reset
      printf 'Once upon a time'; yes ' there was a dog' | tr -d '\n' | head -c 300000; } |
        head -c $((64 * 4096 - 1)) >"$TMP/in"
    { echo; yes '' | head -c 65536; } >>"$TMP/in"
    exec 9>"$TMP/keys"
    cat "$TMP/in" >&9
    until=$(($(ticks $pid) + 10))
    for _ in $(seq 600); do [ "$(ticks $pid)" -ge $until ] && break; sleep 0.1; done
    kill -INT "$pid"
    printf '/reset\nOnce upon a time there was a bird\n/quit\n' >&9
    exec 9>&-
    wait "$pid"
    CODE=$?
    must_pass "after Ctrl-C"
    [ "$(grep -c . "$TMP/out")" = 2 ] || fail "not two answers: $(cat "$TMP/out")"
    [ -z "$(sed -n 2p "$TMP/out")" ] || fail "the prompt was read to its end"
    rm "$TMP/keys"
}
a_chain_gives_the_same_conversation() {
    chat 'Once upon a time\nThen\n' -n 12
    cp "$TMP/out" "$TMP/one"
    chat 'Once upon a time\nThen\n' -n 12 --local-boards 3
    must_pass
    same "$TMP/one" "$TMP/out" "3 boards"
}

for name in an_answer_sees_everything_that_was_said reset_forgets_but_not_the_system_message \
    stats_and_unknown_commands_are_told_on_stderr a_stop_text_ends_an_answer_and_is_not_shown \
    a_file_without_a_template_needs_a_name a_full_context_is_a_note_and_the_conversation_goes_on \
    ctrl_c_ends_the_answer_and_not_the_program \
    ctrl_c_while_a_prompt_is_read_leaves_a_conversation_that_goes_on; do
    check "$name"
done
if "$KVR" run -m "$STORIES" -d reference -p a -n 1 --local-boards 2 >/dev/null 2>&1; then
    check a_chain_gives_the_same_conversation
    check ctrl_c_ends_the_answer_and_not_the_program --local-boards 2
fi
finish
