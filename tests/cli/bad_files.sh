#!/bin/sh
# Every file that is no model gets a sentence and exit code 1, whatever the command; never a crash.
. "$(dirname "$0")/common.sh"

HELPER=board
"$KVR" board -m none --listen none 2>&1 | grep -q 'without ZeroMQ' && HELPER=

# refused FILE PATTERN: by each command that opens a model.
refused() {
    for command in info plan tokenize eval run bench $HELPER; do
        case $command in
        eval) set -- "$1" "$2" --ids 1 -n 1 -d reference ;;
        run) set -- "$1" "$2" -p hi -n 1 -d reference ;;
        board) set -- "$1" "$2" --listen 'tcp://127.0.0.1:*' -d reference ;;
        bench) set -- "$1" "$2" -p 1 -n 1 -r 1 -d reference ;;
        plan) set -- "$1" "$2" -d reference ;;
        *) set -- "$1" "$2" ;;
        esac
        file=$1 pattern=$2
        shift 2
        kvr "$command" -m "$file" "$@" </dev/null
        must_fail 1 "$pattern"
        set -- "$file" "$pattern"
    done
}
a_missing_file_is_refused() { refused "$TMP/none.gguf" "none.gguf"; }
a_folder_is_refused() { refused "$TMP" "kvr: "; }
an_empty_file_is_refused() {
    : >"$TMP/empty"
    refused "$TMP/empty" "kvr: "
}
a_foreign_file_is_refused() {
    refused "$HERE/common.sh" "\.gguf model file"
    refused "$KVR" "\.gguf model file"
}
hostile_files_are_refused() {
    refused "$DATA/hostile/magic-FUGG.gguf" "\.gguf model file"
    refused "$DATA/hostile/version1-llama.gguf" "version"
}
a_version_2_file_is_read() {
    kvr info -m "$DATA/hostile/version2-falcon.gguf"
    # whatever becomes of its vocabulary: no crash, and either facts or a sentence
    [ "$CODE" = 0 ] || must_fail 1 "kvr: "
    [ "$CODE" = 0 ] && { grep -q 'GGUF version 2' "$TMP/out" || fail "not told as version 2"; }
}
a_vocabulary_without_weights_is_refused_where_weights_are_needed() {
    for command in plan run eval $HELPER; do
        case $command in
        run) set -- -p hi ;;
        eval) set -- --ids 1 ;;
        board) set -- --listen 'tcp://127.0.0.1:*' ;;
        *) set -- ;;
        esac
        kvr "$command" -m "$DATA/tokenizers/ggml-vocab-llama-spm.gguf" -d reference "$@"
        must_fail 1 "no weights"
    done
}
a_file_cut_anywhere_is_refused() {
    bytes=$(wc -c <"$STORIES")
    lengths=$(awk -v n="$bytes" 'BEGIN {
        for (i = 1; i <= 48; i++) print i
        for (x = 50; x < n; x = int(x * 1.25) + 1) print x
        for (i = 1; i <= 8; i++) print n - i }')
    for length in $lengths; do
        head -c "$length" "$STORIES" >"$TMP/cut.gguf"
        kvr info -m "$TMP/cut.gguf"
        must_fail 1 "kvr: "
        [ "$FAILED" = 0 ] || { fail "at $length bytes"; return; }
    done
    refused "$TMP/cut.gguf" "kvr: "
}
# patched TEXT OFFSET BYTES: a copy of the model with these bytes (printf notation) OFFSET after the start of TEXT.
patched() {
    at=$(grep -abo -- "$1" "$STORIES" | head -n 1 | cut -d: -f1)
    [ -n "$at" ] || { fail "no $1 in the model"; return; }
    cp "$STORIES" "$TMP/patched.gguf"
    chmod u+w "$TMP/patched.gguf"
    printf "$3" | dd of="$TMP/patched.gguf" bs=1 seek=$((at + $2)) conv=notrunc 2>/dev/null
}
an_unknown_architecture_is_named() {
    patched general.architecture 32 xlama # after the key: its type (4 bytes), the length (8 bytes)
    refused "$TMP/patched.gguf" "xlama"
}
an_unknown_tensor_type_is_named() {
    patched token_embd.weight 37 '\143' # after the name: how many dimensions (4 bytes), two of them (8 bytes each)
    refused "$TMP/patched.gguf" "token_embd.weight"
}
a_missing_tensor_is_named() {
    patched blk.3.ffn_up.weight 6 XXX
    refused "$TMP/patched.gguf" "blk.3"
}
a_damaged_header_never_crashes() {
    for at in $(awk 'BEGIN { for (i = 0; i < 160; i++) print (i < 40 ? i : 40 + (i * 7919) % 11000) }'); do
        cp "$STORIES" "$TMP/damaged.gguf"
        chmod u+w "$TMP/damaged.gguf"
        printf '\377' | dd of="$TMP/damaged.gguf" bs=1 seek="$at" conv=notrunc 2>/dev/null
        kvr run -m "$TMP/damaged.gguf" -d reference -p hi -n 1 -c 64
        case $CODE in
        0) ;;
        1) must_fail 1 "kvr: " ;;
        *) fail "exit code $CODE with byte $at damaged" && show ;;
        esac
    done
}

# The catalogue of tests/unit/bad_files.h: one file per known kind of hole, each with its sentence.
every_file_of_the_catalogue_gets_its_sentence() {
    mkdir "$TMP/catalogue"
    "$MAKE_BAD_FILES" "$TMP/catalogue" || { fail "no catalogue"; return; }
    TAB=$(printf "\t")
    while IFS="$TAB" read -r name status sentence; do
        for command in info eval; do
            case $command in
            eval) set -- --ids 1,11,5 -n 1 -d reference ;;
            *) set -- ;;
            esac
            kvr "$command" -m "$TMP/catalogue/$name.gguf" "$@" </dev/null
            if [ "$status" != KVR_OK ]; then
                [ "$CODE" = 1 ] || { fail "$command $name: exit code $CODE"; show; }
                grep -qF -- "$sentence" "$TMP/err" || { fail "$command $name does not say '$sentence':"; show; }
            elif [ "$CODE" != 0 ]; then # read, and weights that are no numbers are told when they are met
                must_fail 1 "weights are damaged"
            fi
        done
    done <"$TMP/catalogue/LIST"
}

check a_missing_file_is_refused
check a_folder_is_refused
check an_empty_file_is_refused
check a_foreign_file_is_refused
if [ -n "${MAKE_BAD_FILES:-}" ]; then check every_file_of_the_catalogue_gets_its_sentence; fi
need_data models/stories260K.gguf hostile/magic-FUGG.gguf tokenizers/ggml-vocab-llama-spm.gguf
check hostile_files_are_refused
check a_version_2_file_is_read
check a_vocabulary_without_weights_is_refused_where_weights_are_needed
check a_file_cut_anywhere_is_refused
check an_unknown_architecture_is_named
check an_unknown_tensor_type_is_named
check a_missing_tensor_is_named
check a_damaged_header_never_crashes
finish
