/*
 * kvr_bpe.h - internal: the byte-level tokenizer (tokenizer.ggml.model "gpt2"): the text is cut into words by a
 * pre-tokenizer, each byte of a word becomes a printable character, neighbours merge by the rank of the merge list.
 * Source: Radford et al. 2019.
 */
#ifndef KVR_BPE_H
#define KVR_BPE_H

#include "kvr_ids.h"
#include "kvr_merge.h"
#include "kvr_pretok.h"
#include "kvr_vocab.h"

/* The printable character that stands for a byte, as 1 or 2 bytes of UTF-8; returns how many. */
uint32_t kvri_bpe_map(uint8_t byte, uint8_t out[2]);
/* The byte that a character stands for; -1 = none. */
int kvri_bpe_unmap(uint32_t code);

/* Scratch for fragments of up to a number of bytes. */
typedef struct kvri_bpe_work {
    uint8_t *text; /* one word, mapped */
    kvri_merge merge;
} kvri_bpe_work;

void kvri_bpe_place(kvri_bpe_work *work, kvri_carve *carve, uint64_t text_bytes);

/* Tokenizes one fragment. Bytes that the vocabulary has no token for are dropped. */
void kvri_bpe_encode(const kvri_vocab *vocab, const kvri_pretok *pretok, kvri_bpe_work *work, const uint8_t *text,
                     size_t n, kvri_ids *ids);

#endif
