/*
 * kvr_forward.h - internal: a chunk of tokens through all layers, layer-major, as a state machine of bounded steps.
 */
#ifndef KVR_FORWARD_H
#define KVR_FORWARD_H

#include "kvr_layer.h"

typedef enum kvri_forward_goal {
    KVRI_GOAL_LAST = 0, /* logits of the last token */
    KVRI_GOAL_ALL = 1,  /* logits of every token from read_from on, one after the other */
    KVRI_GOAL_CACHE = 2 /* keys and values only: a helper */
} kvri_forward_goal;

typedef enum kvri_forward_stage {
    KVRI_FWD_IDLE = 0,
    KVRI_FWD_EMBED,
    KVRI_FWD_KV,     /* norm, K, V of a micro-batch */
    KVRI_FWD_PREFIX, /* until keys and values of all tokens before the chunk are there */
    KVRI_FWD_ATTEND, /* attention and feed-forward of a micro-batch */
    KVRI_FWD_HEAD,
    KVRI_FWD_READ /* until the logits are on the host */
} kvri_forward_stage;

typedef struct kvri_forward {
    kvri_forward_stage stage;
    kvri_forward_goal goal;
    kvr_path path;
    uint32_t first, n;  /* tokens [first, first + n) */
    uint32_t square_tokens; /* as in kvri_rows; also: the last layer in full */
    uint32_t read_from; /* token of the chunk from which on the last layer's result is read */
    uint32_t layer, at; /* at: tokens of the chunk done in this stage */
    uint32_t from, upto; /* tokens whose keys and values are stored before they are attended to: all n, or a stretch of
                          * them */
    uint32_t steps;     /* finished pieces of work: a sign of life for the lead */
    kvr_fence logits_fence;
    kvr_fence pace[KVRI_PACE]; /* device progress marks, one per layer under way */
    uint32_t pace_work[KVRI_PACE];
    kvr_fence dry_fence; /* asked for while the prefix is missing: tells when the device has nothing left to do */
    uint32_t dry_work, dry_layer;
    uint32_t work; /* times the device got work: nothing was enqueued behind a mark that noted the same number */
} kvri_forward;

/* What a step tells its caller. */
typedef struct kvri_forward_news {
    int kv_of_layer; /* layer whose own keys and values were just enqueued completely; -1 = none */
    int logits_ready; /* logits of token `position` are on the host */
    uint32_t position;
} kvri_forward_news;

/* read_from starts at the first token for KVRI_GOAL_ALL and may be raised before the first step. */
void kvri_forward_begin(kvri_forward *f, uint32_t first, uint32_t n, kvr_path path, kvri_forward_goal goal);
/* may_go: in stage PREFIX, others' keys and values of layer f->layer that the chunk wants are in the cache; in stage
 * KV, the layer has a place there. KVR_OK: a step was made; KVR_AGAIN: waits for that or the device; KVR_END: the chunk
 * is done. */
kvr_status kvri_forward_step(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts,
                             int may_go, kvri_forward_news *out);
/* Layers that the device has finished, as far as it was asked. */
uint32_t kvri_forward_done_layers(const kvri_forward *f);
/* A fence that a waiting forward waits for, or wants to see done in time; 0 = none (it waits for the prefix, or
 * works). */
kvr_fence kvri_forward_fence(const kvri_forward *f);
/* Gives up the work under way, before drain: asks for a sign that everything enqueued so far has run. Without it keys
 * and values of the next job could be written first and then be overwritten by these. */
void kvri_forward_abandon(kvri_forward *f, const kvri_compute *c, const kvri_parts *parts);
/* Forgets the work under way; fences are waited for by draining them first: KVR_AGAIN until the device is done. */
kvr_status kvri_forward_drain(kvri_forward *f, const kvri_compute *c);

#endif
