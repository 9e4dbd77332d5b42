/*
 * kvr_merge.h - internal: merging neighbouring symbols of a text, best pair first, in O(n log n). Both tokenizers are
 * this loop; they differ in what a symbol is and how a pair is ranked.
 *
 * Every symbol owns at most one pair, the one with its right neighbour. So the queue is a heap over symbols that knows
 * where each one stands, nothing in it is ever out of date, and its size is the number of symbols.
 */
#ifndef KVR_MERGE_H
#define KVR_MERGE_H

#include "kvr_carve.h"

#define KVRI_MERGE_NONE UINT32_MAX

typedef struct kvri_merge {
    const uint8_t *text;
    uint32_t n;      /* symbols at the start */
    uint32_t *at;    /* [n + 1] where each symbol starts in text; at[n] = the text's end */
    uint32_t *next;  /* [n] symbol to the right, NONE at the end; of symbols not merged away */
    uint32_t *prev;  /* [n] */
    uint32_t *rank;  /* [n] of the pair of a symbol and next */
    uint32_t *place; /* [n] in heap, NONE = not there */
    uint32_t *heap;  /* [n_heap] symbols, lowest (rank, symbol) on top */
    uint32_t n_heap;
} kvri_merge;

/* 1 and *out_rank when the two may merge; right lies directly behind left. */
typedef int (*kvri_merge_rank)(const void *user, const uint8_t *left, uint32_t n_left, uint32_t n_right,
                               uint32_t *out_rank);

/* Measures or places the arrays for up to cap symbols. */
void kvri_merge_place(kvri_merge *merge, kvri_carve *carve, uint64_t cap);

/* text, n and at are set. Afterwards the pieces are symbol 0 and what follows along next. Lowest rank first, of equal
 * ranks the leftmost. */
void kvri_merge_run(kvri_merge *merge, kvri_merge_rank rank, const void *user);

/* Bytes of the piece that starts with a symbol. */
static inline uint32_t kvri_merge_bytes(const kvri_merge *merge, uint32_t symbol) {
    const uint32_t next = merge->next[symbol];
    return merge->at[next != KVRI_MERGE_NONE ? next : merge->n] - merge->at[symbol];
}

#endif
