/*
 * chain_devices.h - test helper: the boards of chain_rig.h, each with an OpenCL device of its own. KVR_TEST_DEVICE
 * chooses which, as for all tests of this folder.
 */
#ifndef KVR_TEST_CHAIN_DEVICES_H
#define KVR_TEST_CHAIN_DEVICES_H

#include "chain_rig.h"
#include "device.h"

#define CHAIN_DEVICES 5u

typedef struct chain_devices {
    kvr_opencl *opencl[CHAIN_DEVICES];
    rig_memory memory[CHAIN_DEVICES];
    kvr_backend backend[CHAIN_DEVICES];
} chain_devices;

/* precision: kvr_opencl_precision */
static inline void chain_devices_open(chain_devices *d, uint32_t precision) {
    kvr_opencl_config config;
    kvr_error error;
    memset(&config, 0, sizeof config);
    memset(&error, 0, sizeof error);
    config.struct_bytes = sizeof config;
    config.device = rig_device();
    config.precision = precision;
    for (uint32_t b = 0; b < CHAIN_DEVICES; b++) {
        d->memory[b] = rig_take(kvr_opencl_bytes());
        assert_int_equal(kvr_opencl_open(d->memory[b].at, d->memory[b].bytes, &config, NULL, &d->opencl[b], &error),
                         KVR_OK);
        kvr_opencl_backend(d->opencl[b], &d->backend[b]);
    }
}

static inline void chain_devices_close(chain_devices *d) {
    for (uint32_t b = 0; b < CHAIN_DEVICES; b++) {
        kvr_opencl_close(d->opencl[b]);
        free(d->memory[b].raw);
    }
}

static kvr_backend chain_devices_plain; /* the table without the change below; user is passed through */

/* Turns cost the rig nothing, so asking again and again would only heat the machine. */
static inline kvr_status chain_devices_done(void *user, kvr_fence fence) {
    chain_devices_plain.wait(user, fence);
    return chain_devices_plain.done(user, fence);
}

/* For rig_options.change, with the devices as .user. The rig's clock jumps while all boards wait, here also for the
 * device: nothing may count as a timeout. */
static inline void chain_devices_use(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend,
                                     kvr_link *link) {
    chain_devices *d = r->options.user;
    (void)link;
    config->peer_timeout_ms = UINT32_MAX;
    *backend = chain_devices_plain = d->backend[board];
    backend->done = chain_devices_done;
}

#endif
