#!/bin/sh
# The model that comes with kvr: its answers stand beside its prompts, and every number of boards gives the same one.
# Needs no conformance data. Its output head is its token embedding, its weights are Q8_0.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
FOLDER=$HERE/../../examples/model
MODEL=$FOLDER/kvr-logbook.gguf
[ -e "$MODEL" ] || skip "no $MODEL"
DEVICES=reference
"$KVR" devices | grep -q '^opencl:' && DEVICES="reference opencl"

# answered DEVICE PROMPT ARGS: the text beside the prompt.
answered() {
    device=$1 prompt=$2
    shift 2
    line=$(cd "$FOLDER/prompts" && ls [0-9]*.txt | grep -nx "$prompt" | cut -d: -f1)
    kvr run -m "$MODEL" -d "$device" -f "$FOLDER/prompts/$prompt" -n 24 "$@"
    must_pass "$device $prompt $*"
    got=$(echo $(cat "$TMP/out"))
    wanted=$(echo $(sed -n "${line}p" "$FOLDER/prompts/answers.txt"))
    [ "$got" = "$wanted" ] || fail "$device $prompt $*: '$got', not '$wanted'"
}
one_board_answers_from_the_log_on() {
    for prompt in 0300.txt 0900.txt; do answered "$1" $prompt; done
}
chains_give_the_same_answer_on() {
    for boards in 1 2 3 4; do answered "$1" 0300.txt --local-boards $boards; done
    answered "$1" 0900.txt --local-boards 2
}
logits_of_a_chain_are_those_of_one_board_on() {
    ids=$(some_ids 150)
    kvr eval -m "$MODEL" -d "$1" --ids "$ids" -n 16 --from-prefill --raw "$TMP/one"
    must_pass
    for partition in 75,75 149,1 1,149 50,70,30; do
        boards=$(echo $partition | tr ',' '\n' | wc -l | tr -d ' ')
        kvr eval -m "$MODEL" -d "$1" --ids "$ids" -n 16 --raw "$TMP/chain" --local-boards $boards --partition $partition
        must_pass
        same "$TMP/one" "$TMP/chain" "$1, $partition"
    done
}

for device in $DEVICES; do
    check one_board_answers_from_the_log_on "$device"
    check chains_give_the_same_answer_on "$device"
    check logits_of_a_chain_are_those_of_one_board_on "$device"
done
finish
