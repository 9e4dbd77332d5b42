/*
 * kvr_error.h - internal: recording the first failure.
 */
#ifndef KVR_ERROR_H
#define KVR_ERROR_H

#include "kvr/kvr_status.h"

/* Records the failure unless one is recorded already (or error is NULL); returns status, so that it reads
 * `return kvri_fail(error, KVR_ERR_KEY, "model", "needs this key", ...)`. text and module are static. */
kvr_status kvri_fail(kvr_error *error, kvr_status status, const char *module, const char *text);
/* The same with two numbers, their meaning told by text. */
kvr_status kvri_fail_n(kvr_error *error, kvr_status status, const char *module, const char *text, uint64_t wanted,
                       uint64_t had);
/* The same with a name out of the data: not trusted, not terminated; stored printable and cut. */
kvr_status kvri_fail_s(kvr_error *error, kvr_status status, const char *module, const char *text, const void *detail,
                       uint64_t detail_bytes);

/* Copies at most cap-1 bytes and terminates; bytes outside 0x20..0x7e become '?'. */
void kvri_copy_printable(char *out, size_t cap, const void *bytes, uint64_t n);

#define KVRI_TRY(call) \
    do { \
        const kvr_status kvri_try_status_ = (call); \
        if (kvri_try_status_ != KVR_OK) return kvri_try_status_; \
    } while (0)

#endif
