#include "kvr_special.h"

#include <string.h>

static int compare(const kvri_vocab *vocab, uint32_t a, uint32_t b) {
    const kvri_str x = kvri_vocab_text(vocab, (int32_t)a);
    const kvri_str y = kvri_vocab_text(vocab, (int32_t)b);
    const int order = memcmp(x.at, y.at, (size_t)(x.n < y.n ? x.n : y.n));
    return order != 0 ? order : (x.n > y.n) - (x.n < y.n);
}

static void sift_down(const kvri_vocab *vocab, uint32_t *ids, uint32_t n, uint32_t place) {
    const uint32_t id = ids[place];
    for (;;) {
        uint32_t down = place * 2 + 1;
        if (down >= n) break;
        if (down + 1 < n && compare(vocab, ids[down + 1], ids[down]) > 0) down++;
        if (compare(vocab, ids[down], id) <= 0) break;
        ids[place] = ids[down];
        place = down;
    }
    ids[place] = id;
}

static int is_special(uint32_t type) {
    return type == KVRI_TOKEN_USER || type == KVRI_TOKEN_CONTROL || type == KVRI_TOKEN_UNKNOWN;
}

void kvri_special_build(kvri_vocab *vocab) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < vocab->n_vocab && n < vocab->cap_specials; id++) {
        if (!is_special(kvri_vocab_type(vocab, (int32_t)id))) continue;
        const kvri_str text = kvri_vocab_text(vocab, (int32_t)id);
        if (text.n == 0 || text.n > KVRI_SPECIAL_BYTES) continue;
        if (kvri_vocab_find(vocab, text.at, text.n) == (int32_t)id) vocab->specials[n++] = id;
    }
    vocab->n_specials = n;
    /* heap sort: in place, no worst case */
    for (uint32_t i = n / 2; i-- > 0;) sift_down(vocab, vocab->specials, n, i);
    for (uint32_t end = n; end-- > 1;) {
        const uint32_t top = vocab->specials[0];
        vocab->specials[0] = vocab->specials[end];
        vocab->specials[end] = top;
        sift_down(vocab, vocab->specials, end, 0);
    }
}

/* The first in [low, high), all longer than k and sorted, whose byte k is at least `byte`. */
static uint32_t first_with(const kvri_vocab *vocab, uint32_t low, uint32_t high, uint32_t k, uint32_t byte) {
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (kvri_vocab_text(vocab, (int32_t)vocab->specials[middle]).at[k] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int32_t kvri_special_match(const kvri_vocab *vocab, const uint8_t *text, size_t n, int with_control,
                           uint32_t *out_bytes) {
    int32_t found = -1;
    uint32_t low = 0;
    uint32_t high = vocab->n_specials;
    /* [low, high) are the tokens that begin with the first k bytes of text */
    for (uint32_t k = 0; low < high && k < n; k++) {
        low = first_with(vocab, low, high, k, text[k]);
        high = first_with(vocab, low, high, k, text[k] + 1u);
        if (low == high) break;
        const int32_t id = (int32_t)vocab->specials[low];
        if (kvri_vocab_text(vocab, id).n != k + 1) continue;
        low++;
        if (!with_control && kvri_vocab_type(vocab, id) != KVRI_TOKEN_USER) continue;
        found = id;
        *out_bytes = k + 1;
    }
    return found;
}
