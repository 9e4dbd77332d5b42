/*
 * device.h - test helper: the OpenCL device under test, for rig.h and chain_devices.h.
 */
#ifndef KVR_TEST_OCL_DEVICE_H
#define KVR_TEST_OCL_DEVICE_H

#include <stdlib.h>

#include "kvr/kvr_opencl.h"

/* NULL = the library's choice. */
static inline const char *rig_device(void) { return getenv("KVR_TEST_DEVICE"); }

/* 1 when there is no OpenCL device; then the reason was printed and the test calls skip(). */
static inline int rig_no_device(void) {
    uint32_t n = 0;
    kvr_error error = {0};
    if (kvr_opencl_list(NULL, 0, &n, &error) == KVR_OK) return 0;
    print_message("skipped: %s\n", error.text);
    return 1;
}

#endif
