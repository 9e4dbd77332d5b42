/*
 * kvr_rope.h - internal: the rotary frequencies of a model, with all the ways of stretching them.
 */
#ifndef KVR_ROPE_H
#define KVR_ROPE_H

#include "kvr_model.h"

/* Sets of frequencies: KVRI_ROPE_LOCAL for layers with a window where the architecture gives them their own. */
enum { KVRI_ROPE_GLOBAL = 0, KVRI_ROPE_LOCAL = 1, KVRI_ROPE_SETS = 2 };

/* freq[i] in radians per token, i < rope_dims/2. Computed in double. */
void kvri_rope_freq(const kvr_model *model, int set, uint32_t ctx_tokens, float *freq);
/* What rotated elements are multiplied by. */
float kvri_rope_magnitude(const kvr_model *model, int set);
/* 1 when the set of factors for long contexts is in force. All boards of a chain must agree on it. */
int kvri_rope_is_long(const kvr_model *model, uint32_t ctx_tokens);

#endif
