#!/bin/sh
# Chain = single, with real processes over ZeroMQ on the default OpenCL device.
. "$(dirname "$0")/common.sh"
leave_driver_leaks_alone
. "$HERE/chain.sh"
"$KVR" devices | grep -q '^opencl:' || skip "no OpenCL device here, or kvr was built without OpenCL"

a_few_partitions() {
    single short 23 64 -d opencl
    chain short 1 - 64 -d opencl
    chain short 2 - 64 -d opencl
    chain short 2 1,22 64 -d opencl
    chain short 3 7,1,15 64 -d opencl
}
chunks_longer_than_a_frame() {
    single long 301 16 -d opencl
    chain long 2 - 16 -d opencl
    chain long 3 129,128,44 16 -d opencl
}
keys_and_values_of_8_bits_on_the_wire() {
    single small 150 16 -d opencl --wire-kv q8_0
    chain small 3 - 16 -d opencl --wire-kv q8_0
}
the_baseline_tsp() {
    single short 123 16 -d opencl
    chain short 3 - 16 -d opencl --strategy tsp
    chain short 2 - 16 -d opencl --strategy tsp-skip
}

check a_few_partitions
check chunks_longer_than_a_frame
check keys_and_values_of_8_bits_on_the_wire
check the_baseline_tsp
finish
