#!/bin/sh
# Every OpenCL device of this machine against logits and ids that llama.cpp and llama2.c produced.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
. "$HERE/golden.sh"
: "${RUSTICL_ENABLE:=llvmpipe}" # without it that driver shows no device
export RUSTICL_ENABLE

DEVICES=$("$KVR" devices | sed -n 's/^\(opencl:[0-9]*\.[0-9]*\) .*/\1/p')
[ -n "$DEVICES" ] || skip "no OpenCL device here, or kvr was built without OpenCL"

logits_agree_with_llama_cpp_on() { golden llamacpp-logits 0.02 -d "$1"; }
five_hundred_greedy_ids_agree_on() { greedy500 -d "$1"; }
an_unknown_device_is_a_sentence() {
    for name in opencl:99.0 opencl:x opencl:; do
        kvr eval -m "$STORIES" --ids 1 -n 1 -d $name
        must_fail 1 "kvr: "
    done
    kvr eval -m "$STORIES" --ids 1 -n 1 -d cuda
    must_fail 2 "is no backend"
}

for device in $DEVICES; do
    check logits_agree_with_llama_cpp_on "$device"
    check five_hundred_greedy_ids_agree_on "$device"
done
check an_unknown_device_is_a_sentence
finish
