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

kvr_status kvri_partition_share(uint32_t n_tokens, const uint32_t *weights, const uint32_t *limits, uint32_t n,
                                uint32_t *out_sizes) {
    uint64_t weight = 0, room = 0;
    uint32_t left = n_tokens;
    for (uint32_t i = 0; i < n; i++) {
        weight += weights[i];
        room += limits[i];
        if (weights[i] == 0 || limits[i] == 0) return KVR_ERR_PARTITION;
    }
    if (n == 0 || n_tokens < n || room < n_tokens) return KVR_ERR_PARTITION;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t exact = (uint64_t)n_tokens * weights[i] / weight;
        const uint32_t most = (uint32_t)kvri_min(limits[i], left - (n - 1 - i)); /* one for each that follows */
        out_sizes[i] = (uint32_t)kvri_min(exact > 0 ? exact : 1, most);
        left -= out_sizes[i];
    }
    for (uint32_t i = 0; left > 0; i = (i + 1) % n) { /* what rounding left over, one each, then what has room */
        const uint32_t more = (uint32_t)kvri_min(limits[i] - out_sizes[i], left > n ? left / n : 1);
        out_sizes[i] += more;
        left -= more;
    }
    return KVR_OK;
}

void kvri_partition_piece(const kvri_partition *p, uint32_t piece, uint32_t *out_first, uint32_t *out_count) {
    uint32_t r = 0;
    while (piece >= p->first_piece[r + 1]) r++;
    *out_first = p->cut[r] + (piece - p->first_piece[r]) * p->frame_tokens;
    *out_count = (uint32_t)kvri_min(p->frame_tokens, p->cut[r + 1] - *out_first);
}

uint32_t kvri_partition_piece_of(const kvri_partition *p, uint32_t token) {
    uint32_t r = 0;
    while (token >= p->cut[r + 1]) r++;
    return p->first_piece[r] + (token - p->cut[r]) / p->frame_tokens;
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
