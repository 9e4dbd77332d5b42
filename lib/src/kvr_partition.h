/*
 * kvr_partition.h - internal: how a prompt is cut over the ranks of a chain, and into the frames that carry it.
 */
#ifndef KVR_PARTITION_H
#define KVR_PARTITION_H

#include "kvr/kvr_plan.h"

/* Chunk of rank r: tokens [cut[r], cut[r+1]). Each chunk travels in pieces of at most frame_tokens, counted from its
 * start; pieces are numbered through all ranks. */
typedef struct kvri_partition {
    uint32_t n_boards;
    uint32_t frame_tokens;
    uint32_t cut[KVR_MAX_BOARDS + 1];        /* ascending, cut[0] = 0, cut[n_boards] = tokens of the prompt */
    uint32_t first_piece[KVR_MAX_BOARDS + 1]; /* number of the first piece of each rank; the last entry is the total */
} kvri_partition;

/* sizes == NULL: even. PARTITION when a chunk would be empty or the sum is not n_tokens. */
kvr_status kvri_partition_make(uint32_t n_tokens, uint32_t n_boards, const uint32_t *sizes, uint32_t frame_tokens,
                               kvri_partition *out);
/* Shares n_tokens out in proportion to weights (not 0), each at least 1 and at most its limit, to out_sizes [n].
 * PARTITION when the limits do not hold all. */
kvr_status kvri_partition_share(uint32_t n_tokens, const uint32_t *weights, const uint32_t *limits, uint32_t n,
                                uint32_t *out_sizes);
/* The tokens of a piece. piece < first_piece[n_boards]. */
void kvri_partition_piece(const kvri_partition *p, uint32_t piece, uint32_t *out_first, uint32_t *out_count);
/* The piece that a token of the prompt is in. */
uint32_t kvri_partition_piece_of(const kvri_partition *p, uint32_t token);
/* The piece that is exactly [first, first+count), or UINT32_MAX. */
uint32_t kvri_partition_find(const kvri_partition *p, uint32_t first, uint32_t count);
/* Most pieces any partition of at most `tokens` over at most `boards` can have. */
uint64_t kvri_partition_max_pieces(uint32_t tokens, uint32_t boards, uint32_t frame_tokens);

#endif
