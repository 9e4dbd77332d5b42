#!/bin/sh
# No OpenCL driver, one whose library is gone, one that is no library: a sentence that offers the reference backend,
# which is taken by itself where no device was asked for.
. "$(dirname "$0")/common.sh"
need_data models/stories260K.gguf

# with_drivers FOLDER ARGS
with_drivers() {
    OCL_ICD_VENDORS=$1 OCL_ICD_FILENAMES=
    export OCL_ICD_VENDORS OCL_ICD_FILENAMES
    shift
    kvr "$@"
}
mkdir "$TMP/none" "$TMP/gone" "$TMP/junk"
echo "$TMP/libgone.so" >"$TMP/gone/driver.icd"
echo "this is no library" >"$TMP/libjunk.so"
echo "$TMP/libjunk.so" >"$TMP/junk/driver.icd"

each_kind() {
    for kind in none gone junk; do
        "$1" "$TMP/$kind"
        [ "$FAILED" = 0 ] || { fail "with the drivers of $kind"; return; }
    done
}
asks_for_opencl() {
    with_drivers "$1" eval -m "$STORIES" --ids 1,2 -n 1 -d opencl
    must_fail 1 "install a driver.*-d reference"
}
asks_for_nothing() {
    with_drivers "$1" eval -m "$STORIES" --ids 1,2 -n 1 --greedy-only
    must_pass "eval"
    grep -q 'note: using the slow reference backend: no OpenCL device' "$TMP/err" ||
        fail "the reference backend is not named"
    cp "$TMP/out" "$TMP/by_itself"
    with_drivers "$1" eval -m "$STORIES" --ids 1,2 -n 1 --greedy-only -d reference
    must_pass "eval -d reference"
    same "$TMP/out" "$TMP/by_itself" "what is told"
}
lists() {
    with_drivers "$1" devices
    must_pass "devices"
    grep -q 'no OpenCL device: install a driver' "$TMP/out" || fail "devices does not say that there is none"
    grep -q '^reference.*default' "$TMP/out" || fail "devices does not offer the reference backend"
}
asking_for_opencl_is_refused_with_the_way_out() { each_kind asks_for_opencl; }
the_reference_backend_is_taken_by_itself() { each_kind asks_for_nothing; }
devices_are_listed_all_the_same() { each_kind lists; }

check asking_for_opencl_is_refused_with_the_way_out
check the_reference_backend_is_taken_by_itself
check devices_are_listed_all_the_same
finish
