/*
 * kvr_ids.h - internal: where encoders put their ids; counts on when the caller's array is full.
 */
#ifndef KVR_IDS_H
#define KVR_IDS_H

#include <stddef.h>
#include <stdint.h>

typedef struct kvri_ids {
    int32_t *at;
    size_t cap;
    size_t n; /* may exceed cap */
} kvri_ids;

static inline void kvri_ids_put(kvri_ids *ids, int32_t id) {
    if (ids->n < ids->cap) ids->at[ids->n] = id;
    ids->n++;
}

#endif
