/*
 * kvr_posix_os.h - internal: one function per OS facility, each in the file of its name.
 */
#ifndef KVR_POSIX_OS_H
#define KVR_POSIX_OS_H

#include "kvr/kvr_posix.h"

/* kvr_posix_clock.c */
uint64_t kvri_posix_now_us(void *user);
void kvri_posix_idle(void *user, uint64_t max_us);

/* kvr_posix_map.c */
kvr_status kvri_posix_map(void *user, const char *path, const void **out_data, size_t *out_bytes, kvr_error *error);
void kvri_posix_unmap(void *user, const void *data, size_t bytes);

/* kvr_posix_large.c */
void kvri_posix_large_pages(void *user, void *at, size_t bytes);

#endif
