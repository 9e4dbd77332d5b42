/*
 * kvr_port.h - the seam to the operating system. One required function; NULL means absent.
 */
#ifndef KVR_PORT_H
#define KVR_PORT_H

#include "kvr/kvr_status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvr_log_level { KVR_LOG_ERROR = 0, KVR_LOG_WARN = 1, KVR_LOG_INFO = 2 } kvr_log_level;

typedef struct kvr_port {
    uint32_t struct_bytes;
    void *user;
    uint64_t (*now_us)(void *user);                                        /* required: monotonic microseconds */
    void (*idle)(void *user, uint64_t max_us);                             /* optional: sleep at most so long */
    void (*log)(void *user, kvr_log_level level, const char *module, const char *text); /* optional */
    /* Optional: a whole file, read-only, until unmap. */
    kvr_status (*map)(void *user, const char *path, const void **out_data, size_t *out_bytes, kvr_error *error);
    void (*unmap)(void *user, const void *data, size_t bytes);
    /* Optional: this memory was just taken, and will be read from end to end for every token: a system that can may
     * back it with large pages. A hint. */
    void (*large_pages)(void *user, void *at, size_t bytes);
} kvr_port;

#ifdef __cplusplus
}
#endif
#endif
