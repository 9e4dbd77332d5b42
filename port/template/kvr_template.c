#include "kvr_template.h"

#include <string.h>

/* --- port ---------------------------------------------------------------------------------------------------- */

/* Required. Monotonic microseconds from any start; never goes back, not even when the date is set. */
static uint64_t now_us(void *user) {
    const kvr_template *const self = user;
    return self->clock_us();
}

/* Optional. Give the processor away, for at most max_us; returning early is always right. RTOS: a delay or a
 * semaphore with timeout. Delete it (leave NULL) and kvr_session_run polls without a pause. */
static void idle(void *user, uint64_t max_us) {
    (void)user;
    (void)max_us;
}

/* Optional. The whole file, readable until unmap, at an address aligned to at least 32 bytes. Memory-mapped flash:
 * return its address. On failure fill *error (only when error->status is KVR_OK): status, module, text with the next
 * step, native code, name in detail. Delete it when the application has the model in memory anyway. */
static kvr_status map(void *user, const char *path, const void **out_data, size_t *out_bytes, kvr_error *error) {
    (void)user;
    (void)path;
    (void)out_data;
    (void)out_bytes;
    if (error != NULL && error->status == KVR_OK) {
        memset(error, 0, sizeof *error);
        error->status = KVR_ERR_UNSUPPORTED;
        error->module = "template";
        error->text = "this port maps no files yet: fill in map() in kvr_template.c";
    }
    return KVR_ERR_UNSUPPORTED;
}

static void unmap(void *user, const void *data, size_t bytes) {
    (void)user;
    (void)data;
    (void)bytes;
}

void kvr_template_port(kvr_template *self, kvr_port *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = self;
    out->now_us = now_us;
    out->idle = idle;
    out->map = map;
    out->unmap = unmap;
    out->large_pages = NULL; /* optional: a hint for processors with pages of several sizes */
    out->log = NULL; /* optional: one line of text to wherever your system logs */
}

/* --- link: only for a network that ZeroMQ does not reach (SPI, CAN, shared memory) ------------------------------ */

/* Check the address: it may come from the network. Must not block: start connecting, let send() say KVR_AGAIN. */
static kvr_status link_connect(void *user, uint32_t peer, const char *address) {
    (void)user;
    (void)peer;
    (void)address;
    return KVR_ERR_UNSUPPORTED;
}

/* Take the frame whole (copy or hand to a driver that copies) or say KVR_AGAIN; never a part, never block. */
static kvr_status link_send(void *user, uint32_t peer, const void *frame, size_t bytes) {
    (void)user;
    (void)peer;
    (void)frame;
    (void)bytes;
    return KVR_ERR_UNSUPPORTED;
}

/* One whole frame from whoever sent one, per sender in order. Longer than cap: drop it and return KVR_ERR_FRAME. */
static kvr_status link_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    (void)user;
    (void)buf;
    (void)cap;
    (void)out_bytes;
    return KVR_ERR_UNSUPPORTED;
}

void kvr_template_link(kvr_template *self, kvr_link *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = self;
    out->connect = link_connect;
    out->send = link_send;
    out->recv = link_recv;
    out->wait = NULL; /* optional: block until a frame may be there; without it the session uses port.idle */
}
