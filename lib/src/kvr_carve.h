/*
 * kvr_carve.h - one layout function for measuring and placing. A layout function calls kvri_carve for each part; with
 * base == NULL it only counts, with a base it hands out places. So the plan cannot differ from the placement.
 */
#ifndef KVR_CARVE_H
#define KVR_CARVE_H

#include <stddef.h>
#include <stdint.h>

#define KVRI_CARVE_ALIGN 64u

typedef struct kvri_carve {
    uint8_t *base; /* NULL: measure */
    uint64_t used; /* bytes so far, a multiple of KVRI_CARVE_ALIGN */
    int overflow;  /* a size did not fit; used is then meaningless */
} kvri_carve;

/* count * bytes_each, aligned to 64; NULL while measuring, on overflow, and for 0 bytes. */
void *kvri_carve_take(kvri_carve *carve, uint64_t count, uint64_t bytes_each);

#endif
