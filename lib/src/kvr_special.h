/*
 * kvr_special.h - internal: tokens that are found in the text as they are, before any tokenizing: user-defined ones
 * always, control and unknown ones when the caller trusts the text.
 */
#ifndef KVR_SPECIAL_H
#define KVR_SPECIAL_H

#include "kvr_vocab.h"

/* Longer texts are never matched; keeps the cost per byte of text constant. */
#define KVRI_SPECIAL_BYTES 256u

/* Fills and sorts vocab->specials; part of kvri_vocab_build, when tokens can be found already. */
void kvri_special_build(kvri_vocab *vocab);

/* The longest such token at the start of text; -1 = none. */
int32_t kvri_special_match(const kvri_vocab *vocab, const uint8_t *text, size_t n, int with_control,
                           uint32_t *out_bytes);

#endif
