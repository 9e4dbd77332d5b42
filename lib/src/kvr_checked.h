/*
 * kvr_checked.h - size arithmetic that says when it does not fit. Every size that comes from a file, a frame or a
 * config goes through these. Return 1 when the result is valid, 0 on overflow (*out is then unchanged).
 */
#ifndef KVR_CHECKED_H
#define KVR_CHECKED_H

#include <stdint.h>

static inline int kvri_add(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) return 0;
    *out = a + b;
    return 1;
}

static inline int kvri_mul(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b) return 0;
    *out = a * b;
    return 1;
}

/* Rounds up to a power of two `to`. */
static inline int kvri_align_up(uint64_t a, uint64_t to, uint64_t *out) {
    if (a > UINT64_MAX - (to - 1)) return 0;
    *out = (a + (to - 1)) & ~(to - 1);
    return 1;
}

/* struct_bytes of what a caller hands in: 0, or the size that this library was built with. */
static inline int kvri_size_fits(uint32_t given, uint64_t size) { return given == 0 || given == size; }
#define KVRI_OTHER_SIZE "struct_bytes is of another version of this structure: build with this library's headers"

static inline uint64_t kvri_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t kvri_ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

#endif
