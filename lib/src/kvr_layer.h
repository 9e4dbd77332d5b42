/*
 * kvr_layer.h - internal: one transformer layer over a micro-batch, in the two halves between which keys and values
 * travel (../README.md, "How a chunk is computed"). A single board is a chain of one with no links.
 */
#ifndef KVR_LAYER_H
#define KVR_LAYER_H

#include "kvr_layout.h"
#include "kvr_rope.h"
#include "kvr_trace.h"

/* What the operators need; constant while a session is open. */
typedef struct kvri_compute {
    const kvr_backend *backend;
    const kvr_model_info *info;
    const kvri_traits *traits;
    const kvri_weights *weights;
    kvri_ids ids;
    kvr_rope rope[KVRI_ROPE_SETS];
    kvri_trace *trace;
} kvri_compute;

/* A micro-batch: rows x_row .. x_row+rows of the residual stream are the tokens first_token .. */
typedef struct kvri_rows {
    uint32_t x_row, rows, first_token;
    kvr_path path;
    uint32_t square_tokens; /* TSP: compute the products of all so many keys, masked or not; 0 = those that count */
} kvri_rows;

void kvri_compute_init(kvri_compute *c, const kvr_model *model, const kvr_plan *plan, const kvr_backend *backend);

kvr_status kvri_layer_embed(const kvri_compute *c, const kvri_rows *r, const int32_t *ids);
/* First half: keys and values of these tokens are in the cache afterwards. */
kvr_status kvri_layer_keys_values(const kvri_compute *c, uint32_t layer, const kvri_rows *r);
/* Second half: attention over all tokens before and the feed-forward. normed: H still holds this micro-batch's norm. */
kvr_status kvri_layer_attend(const kvri_compute *c, uint32_t layer, const kvri_rows *r, int normed);
/* Logits of the one token in residual row x_row. */
kvr_status kvri_layer_head(const kvri_compute *c, uint32_t x_row);

#endif
