#!/bin/sh
# The ids that the tokenizers' own authors get for 46 difficult texts.
. "$(dirname "$0")/common.sh"
need_data tokenizers/ggml-vocab-llama-spm.gguf tokenizers/ggml-vocab-gpt-2.gguf

# agrees NAME: every text of the .inp gives the line of the .out.
agrees() {
    base=$DATA/tokenizers/ggml-vocab-$1.gguf
    rm -rf "$TMP/texts"
    mkdir "$TMP/texts"
    # one file per text; a record separator of several characters is known to mawk, gawk and busybox
    awk -v to="$TMP/texts/" 'BEGIN { RS = "\n__ggml_vocab_test__\n" }
        { printf "%s", $0 > (to NR); close(to NR) }' "$base.inp"
    n=0
    while IFS= read -r wanted; do
        n=$((n + 1))
        [ -e "$TMP/texts/$n" ] || : >"$TMP/texts/$n"
        kvr tokenize -m "$base" <"$TMP/texts/$n"
        must_pass "text $n"
        got=$(cat "$TMP/out")
        wanted=$(echo $wanted)
        [ "$got" = "$wanted" ] || fail "text $n: got '$got', wanted '$wanted'"
    done <"$base.out"
    [ "$n" = 46 ] || fail "$n texts, not 46"
}
llama_spm_agrees() { agrees llama-spm; }
gpt_2_agrees() { agrees gpt-2; }
phi_3_agrees() { agrees phi-3; }
falcon_agrees() { agrees falcon; }
starcoder_agrees() { agrees starcoder; }

no_text_gives_an_empty_line() {
    kvr tokenize -m "$DATA/tokenizers/ggml-vocab-gpt-2.gguf" </dev/null
    must_pass
    [ "$(od -An -c "$TMP/out" | tr -d ' ')" = '\n' ] || fail "got '$(cat "$TMP/out")'"
}
bytes_that_are_no_utf8_are_tokenized() {
    printf '\377\376a\300\200\355\240\200' >"$TMP/bytes"
    for name in llama-spm gpt-2; do
        kvr tokenize -m "$DATA/tokenizers/ggml-vocab-$name.gguf" <"$TMP/bytes"
        must_pass "$name"
        [ "$(wc -w <"$TMP/out")" -gt 0 ] || fail "$name gives no ids"
    done
}
a_book_is_tokenized() {
    [ -e "$DATA/texts/tinyshakespeare.txt" ] || return 0
    kvr tokenize -m "$DATA/tokenizers/ggml-vocab-llama-spm.gguf" <"$DATA/texts/tinyshakespeare.txt"
    must_pass
    [ "$(wc -w <"$TMP/out")" -gt 200000 ] || fail "only $(wc -w <"$TMP/out") ids"
}

check llama_spm_agrees
check gpt_2_agrees
check phi_3_agrees
check falcon_agrees
check starcoder_agrees
check no_text_gives_an_empty_line
check bytes_that_are_no_utf8_are_tokenized
check a_book_is_tokenized
finish
