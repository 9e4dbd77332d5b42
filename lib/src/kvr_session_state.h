/*
 * kvr_session_state.h - internal: what a session is.
 */
#ifndef KVR_SESSION_STATE_H
#define KVR_SESSION_STATE_H

#include "kvr/kvr_session.h"
#include "kvr_chain.h"
#include "kvr_forward.h"
#include "kvr_measure.h"

typedef enum kvri_phase {
    KVRI_PHASE_IDLE = 0,
    KVRI_PHASE_GATHER,  /* lead: until the boards have their job */
    KVRI_PHASE_PREFILL,
    KVRI_PHASE_SAMPLE,  /* logits are here */
    KVRI_PHASE_DECODE,
    KVRI_PHASE_ENDING,  /* the last event is due */
    KVRI_PHASE_REFORM,  /* lead: a board is lost, the device still writes; then again with those that are left */
    KVRI_PHASE_DRAIN,   /* stopped or failed: the device still writes into our buffers */
    KVRI_PHASE_SERVE,   /* helper */
    KVRI_PHASE_MEET,    /* lead: first contact */
    KVRI_PHASE_MEASURE  /* this board measures itself */
} kvri_phase;

struct kvr_session {
    kvr_plan plan;
    const kvr_model *model;
    kvr_backend backend;
    kvr_port port;
    kvri_compute compute;
    kvri_trace trace;
    kvri_parts parts;
    kvri_phase phase;
    kvri_forward forward;
    kvri_chain chain;
    kvri_speed speed; /* this board's */
    kvri_measure measure;
    /* the question */
    kvr_sampling sampling;
    uint64_t rng;
    uint32_t n_prompt, n_tokens, n_new, max_new;
    uint32_t ignore_eos, is_eos;
    uint32_t strategy, goal, logits_from;
    int square; /* TSP: all products, every layer in full */
    uint32_t n_cached; /* tokens at the front of parts.tokens whose keys and values are in the cache, in every layer */
    uint32_t window_first; /* but in layers with a window only from this token on */
    /* what became of it */
    kvr_error error;
    kvr_error loss; /* why the last board was left out */
    int32_t failed_rank;
    kvr_status drain_status; /* what poll returns once drained */
    kvr_stats stats;
    uint64_t start_us, first_token_us, ending_us;
};

uint64_t kvri_session_now(const kvr_session *s);
/* Begins this board's part of the question: the last chunk of a prompt that is cut over n_boards. */
kvr_status kvri_session_begin_chunk(kvr_session *s, uint32_t n_boards, const uint32_t *sizes);
/* Records a failure of an operator, with the backend's own words. */
kvr_status kvri_session_device_failed(kvr_session *s, kvr_status status);

#endif
