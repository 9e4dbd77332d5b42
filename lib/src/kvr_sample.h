/*
 * kvr_sample.h - internal: from logits to the next token.
 */
#ifndef KVR_SAMPLE_H
#define KVR_SAMPLE_H

#include "kvr/kvr_session.h"

typedef struct kvri_candidate {
    float logit;
    int32_t id;
} kvri_candidate;

/* 1 when every field is in its documented range. */
int kvri_sampling_valid(const kvr_sampling *sampling);

/*
 * Chooses from logits[n_vocab]; recent[n_recent] are the tokens that repeat_penalty looks at. Filters run in the order
 * penalty, top_k, top_p, min_p, temperature. scratch: [n_vocab]. *rng is advanced only when a draw is made.
 * KVR_ERR_NUMERIC when a logit is not a number. Cost: O(V + kept * log V).
 */
kvr_status kvri_sample(const kvr_sampling *sampling, const float *logits, uint32_t n_vocab, const int32_t *recent,
                       uint32_t n_recent, uint64_t *rng, kvri_candidate *scratch, int32_t *out_id);

#endif
