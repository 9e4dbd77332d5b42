#include "kvr_partition.h"

#include "kvr_checked.h"

#include <string.h>

kvr_status kvr_partition_even(uint32_t n_tokens, uint32_t n_boards, uint32_t *out_sizes) {
    if (n_boards < 1 || n_boards > KVR_MAX_BOARDS || n_tokens < n_boards) return KVR_ERR_PARTITION;
    /* what is left over goes to the first ranks: they have the least to attend to */
    for (uint32_t r = 0; r < n_boards; r++) out_sizes[r] = n_tokens / n_boards + (r < n_tokens % n_boards);
    return KVR_OK;
}

kvr_status kvri_partition_make(uint32_t n_tokens, uint32_t n_boards, const uint32_t *sizes, uint32_t frame_tokens,
                               kvri_partition *out) {
    uint32_t even[KVR_MAX_BOARDS];
    kvri_partition p;
    memset(&p, 0, sizeof p);
    if (n_boards < 1 || n_boards > KVR_MAX_BOARDS || frame_tokens == 0) return KVR_ERR_PARTITION;
    if (sizes == NULL) {
        if (kvr_partition_even(n_tokens, n_boards, even) != KVR_OK) return KVR_ERR_PARTITION;
        sizes = even;
    }
    p.n_boards = n_boards;
    p.frame_tokens = frame_tokens;
    for (uint32_t r = 0; r < n_boards; r++) {
        if (sizes[r] == 0 || sizes[r] > n_tokens - p.cut[r]) return KVR_ERR_PARTITION;
        p.cut[r + 1] = p.cut[r] + sizes[r];
        p.first_piece[r + 1] = p.first_piece[r] + (uint32_t)kvri_ceil_div(sizes[r], frame_tokens);
    }
    if (p.cut[n_boards] != n_tokens) return KVR_ERR_PARTITION;
    *out = p;
    return KVR_OK;
}

void kvri_partition_piece(const kvri_partition *p, uint32_t piece, uint32_t *out_first, uint32_t *out_count) {
    uint32_t r = 0;
    while (piece >= p->first_piece[r + 1]) r++;
    *out_first = p->cut[r] + (piece - p->first_piece[r]) * p->frame_tokens;
    *out_count = (uint32_t)kvri_min(p->frame_tokens, p->cut[r + 1] - *out_first);
}

uint32_t kvri_partition_find(const kvri_partition *p, uint32_t first, uint32_t count) {
    uint32_t r = 0;
    while (r < p->n_boards && first >= p->cut[r + 1]) r++;
    if (r == p->n_boards || (first - p->cut[r]) % p->frame_tokens != 0) return UINT32_MAX;
    if (count != kvri_min(p->frame_tokens, p->cut[r + 1] - first)) return UINT32_MAX;
    return p->first_piece[r] + (first - p->cut[r]) / p->frame_tokens;
}

uint64_t kvri_partition_max_pieces(uint32_t tokens, uint32_t boards, uint32_t frame_tokens) {
    return kvri_ceil_div(tokens, frame_tokens) + boards;
}
