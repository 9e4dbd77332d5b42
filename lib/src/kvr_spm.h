/*
 * kvr_spm.h - internal: the tokenizer of SentencePiece BPE models (tokenizer.ggml.model "llama"): characters merge to
 * tokens, highest score first. Source: Kudo and Richardson 2018; Sennrich et al. 2016.
 */
#ifndef KVR_SPM_H
#define KVR_SPM_H

#include "kvr_ids.h"
#include "kvr_merge.h"
#include "kvr_vocab.h"

/* Scratch for fragments of up to a number of bytes. */
typedef struct kvri_spm_work {
    uint8_t *text; /* escaped: spaces are U+2581 */
    kvri_merge merge;
} kvri_spm_work;

void kvri_spm_place(kvri_spm_work *work, kvri_carve *carve, uint64_t text_bytes);

/* Tokenizes one fragment; prefix puts a space in front. TEXT: a character that the vocabulary cannot express. */
kvr_status kvri_spm_encode(const kvri_vocab *vocab, kvri_spm_work *work, const uint8_t *text, size_t n, int prefix,
                           kvri_ids *ids, kvr_error *error);

#endif
