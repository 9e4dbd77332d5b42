#!/bin/sh
# Help, version and wrong usage: exit code 2 and a hint, before anything is opened.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
MODEL=$HERE/../../examples/model/kvr-logbook.gguf
COMMANDS="info plan devices tokenize eval perplexity run chat board bench keygen"

help_goes_to_stdout_and_names_every_command() {
    kvr --help
    must_pass
    for command in $COMMANDS; do grep -q "^  $command " "$TMP/out" || fail "no $command in --help"; done
    [ -s "$TMP/err" ] && fail "help on stderr"
}
every_command_has_help() {
    for command in $COMMANDS; do
        kvr "$command" --help
        must_pass "$command --help"
        awk 'length($0) > 120 { exit 1 }' "$TMP/out" || fail "$command --help is wider than 120 columns"
        grep -q "^usage: kvr $command" "$TMP/out" || fail "no usage line for $command"
        kvr "$command" -h
        must_pass "$command -h"
    done
    kvr bench --paper --help
    must_pass "bench --paper --help"
    awk 'length($0) > 120 { exit 1 }' "$TMP/out" || fail "bench --paper --help is wider than 120 columns"
}
the_version_is_printed() {
    kvr --version
    must_pass
    grep -Eq '^kvr [0-9]+\.[0-9]+\.[0-9]+' "$TMP/out" || fail "no version: $(cat "$TMP/out")"
}
# usage PATTERN ARGS
usage() {
    pattern=$1
    shift
    kvr "$@"
    must_fail 2 "$pattern"
    grep -q -- "--help'" "$TMP/err" || fail "no hint to --help for: $*"
    [ -s "$TMP/out" ] && fail "output on stdout for: $*"
}
wrong_usage_is_exit_code_2_with_a_hint() {
    usage "no command given"
    usage "no command 'fly'" fly
    for command in info plan tokenize run chat eval perplexity board bench; do usage "no model given" "$command"; done
    usage "unknown option '-y'" info -y
    usage "unknown option '--why'" info --why
    usage "unexpected argument 'x'" info -m f x
    usage "wants a value" info -m
    usage "give one prompt" run -m f
    usage "give one prompt" run -m f -p a -f b
    usage "no prompt given" eval -m f
    usage "no address given" board -m f
}
bad_values_name_the_option_and_its_range() {
    usage "-n wants a whole number from 0 to" run -m f -p a -n abc
    usage "-n wants a whole number" run -m f -p a -n -1
    usage "-n wants a whole number" run -m f -p a -n ''
    usage "-n wants a whole number" run -m f -p a -n 99999999999999999999
    usage "-c wants a whole number from 1 to 1048576" run -m f -p a -c 0
    usage "--temp wants 0, or a number from 0.01 to 10, not 'hot'" run -m f -p a --temp hot
    for value in nan 0.001 -1 10.1; do usage "--temp wants 0, or" run -m f -p a --temp $value; done
    for value in 0.09 11; do usage "--repeat-penalty wants 0, or" run -m f -p a --repeat-penalty $value; done
    usage "--top-p wants a number from 0 to 1" run -m f -p a --top-p 1.5
    usage "--seed wants a whole number" run -m f -p a --seed x
    usage "--kv is f16 or f32" run -m f -p a --kv q8
    usage "-o is md, csv or json" bench -m f -o xml
    usage "--local-boards wants" run -m f -p a --local-boards 65
    usage "--partition wants" run -m f -p a --partition 1,,2
    usage "--partition wants" run -m f -p a --partition 0,2
    usage "--board-timeout wants" run -m f -p a --board-timeout 0
}
boards_and_partition_must_agree() {
    usage "give one of them" run -m f -p a --local-boards 2 --boards tcp://127.0.0.1:1
    usage "3 parts for 2 boards" run -m f -p a --local-boards 2 --partition 1,1,1
    usage "2 parts for 1 board:" run -m f -p a --partition 1,1
    usage "commas between" run -m f -p a --boards tcp://127.0.0.1:1,
}
a_name_that_no_profile_can_hold_is_refused() {
    long=$(printf %48s | tr ' ' x)
    for name in "" " " "two
lines" "$(printf 'a\ttab')" "$(printf 'a\033[31m')" "$long"; do
        usage "--name wants 1 to 47 characters that print" plan -m f --measure --name "$name"
    done
}
options_given_in_vain_are_refused() {
    for option in "--trace x" "--timeline x" "--table x" "--search" "--link x" "--profiles x" "-p 5" \
        "--partition 1,2"; do
        for boards in "" "--boards 2" "--measure"; do
            usage "${option% *} does nothing without --boards NAMES" plan -m f $option $boards
        done
    done
    usage "-o does nothing without --search or --measure" plan -m f -o x
    usage "-o does nothing without --search or --measure" plan -m f --boards 2xrk3588 -p 512 -o x
    usage "--name does nothing without --measure" plan -m f --name x
    for option in "--trace x" "--timeline x" "--table x" "--partition 1,2"; do
        usage "leave .*${option% *}.* out" plan -m f --boards 2xrk3588 --search $option
    done
    for command in "run -p a" chat bench; do
        usage "--key does nothing without --boards" $command -m f --key x
        usage "--allowed does nothing without --boards" $command -m f --allowed x
    done
    for command in "run -p a --local-boards 2" bench; do
        usage "--link does nothing without --profile" $command -m f --link x
        usage "--profiles does nothing without --profile" $command -m f --profiles x
    done
    usage "nothing to measure" bench -m f -p 0 -n 0,0 --trace x
    usage "leave one of them away" bench -m f --kernels --trace x
}
devices_lists_the_reference_backend() {
    kvr devices
    must_pass
    grep -q '^reference' "$TMP/out" || fail "no reference backend"
    [ "$(grep -c '(default)' "$TMP/out")" = 1 ] || fail "not one default"
}
a_closed_stdout_ends_the_program_quietly() {
    { "$KVR" --help 2>"$TMP/err"; echo $? >"$TMP/code"; } | :
    [ -s "$TMP/err" ] && fail "said: $(cat "$TMP/err")"
    [ "$(cat "$TMP/code")" -lt 2 ] || fail "exit code $(cat "$TMP/code")"
}
a_full_disk_is_a_sentence() { must_lose_output --help; }
# A standard stream that is closed stays unusable, whatever is opened later, and is no crash.
closed_standard_streams_are_a_sentence() {
    for command in "--help" "devices" "plan -m $MODEL -d reference" "info -m $MODEL" \
        "run -m $MODEL -d reference --ids 1,2,3 -n 2"; do
        timeout "$LIMIT_S" "$KVR" $command >&- 2>"$TMP/err"
        CODE=$?
        must_fail 1 "cannot write the output"
        timeout "$LIMIT_S" "$KVR" $command >"$TMP/out" 2>&- <&-
        CODE=$?
        [ "$CODE" = 0 ] || fail "exit code $CODE without stderr and stdin: $command"
    done
    timeout "$LIMIT_S" "$KVR" run -m "$MODEL" -d reference -f - -n 2 <&- >"$TMP/out" 2>"$TMP/err"
    CODE=$?
    must_fail 1 "cannot read '-'"
}

check help_goes_to_stdout_and_names_every_command
check every_command_has_help
check the_version_is_printed
check wrong_usage_is_exit_code_2_with_a_hint
check bad_values_name_the_option_and_its_range
check boards_and_partition_must_agree
check a_name_that_no_profile_can_hold_is_refused
check options_given_in_vain_are_refused
check devices_lists_the_reference_backend
check a_closed_stdout_ends_the_program_quietly
check a_full_disk_is_a_sentence
check closed_standard_streams_are_a_sentence
finish
