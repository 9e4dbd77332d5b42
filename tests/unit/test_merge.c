#include "kvr_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define MOST 64u

static uint32_t next_random(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

/* An arbitrary but fixed opinion on each pair; few different ranks, so that ties are common. */
static int rank_by_content(const void *user, const uint8_t *left, uint32_t n_left, uint32_t n_right, uint32_t *out) {
    uint32_t hash = *(const uint32_t *)user;
    for (uint32_t i = 0; i < n_left + n_right; i++) hash = (hash ^ left[i] ^ (i == n_left ? 77u : 0u)) * 16777619u;
    if ((hash >> 28) < 5 || n_left + n_right > 12) return 0;
    *out = (hash >> 20) % 7;
    return 1;
}

static int rank_always(const void *user, const uint8_t *left, uint32_t n_left, uint32_t n_right, uint32_t *out) {
    (void)user;
    (void)left;
    (void)n_left;
    (void)n_right;
    *out = 0;
    return 1;
}

/* The definition: look at all pairs, merge the best, start again. */
static uint32_t merge_slowly(const uint8_t *text, uint32_t *at, uint32_t n, uint32_t seed) {
    for (;;) {
        uint32_t best = n;
        uint32_t best_rank = 0;
        for (uint32_t i = 0; i + 1 < n; i++) {
            uint32_t rank = 0;
            if (!rank_by_content(&seed, text + at[i], at[i + 1] - at[i], at[i + 2] - at[i + 1], &rank)) continue;
            if (best == n || rank < best_rank) {
                best = i;
                best_rank = rank;
            }
        }
        if (best == n) return n;
        memmove(at + best + 1, at + best + 2, (n - best - 1) * sizeof *at);
        n--;
    }
}

static kvri_merge make(void **mem, uint64_t cap) {
    kvri_merge merge;
    kvri_carve carve = {NULL, 0, 0};
    memset(&merge, 0, sizeof merge);
    kvri_merge_place(&merge, &carve, cap);
    *mem = malloc((size_t)carve.used);
    assert_non_null(*mem);
    carve.base = *mem;
    carve.used = 0;
    kvri_merge_place(&merge, &carve, cap);
    return merge;
}

static void the_best_pair_merges_first_and_of_equals_the_leftmost(void **state) {
    (void)state;
    void *mem = NULL;
    kvri_merge merge = make(&mem, MOST);
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        uint8_t text[MOST];
        uint32_t slow[MOST + 1];
        const uint32_t n = next_random(&seed) >> 26;
        for (uint32_t i = 0; i < n; i++) text[i] = (uint8_t)('a' + (next_random(&seed) >> 30));
        for (uint32_t i = 0; i <= n; i++) slow[i] = merge.at[i] = i;
        const uint32_t opinion = next_random(&seed);
        merge.text = text;
        merge.n = n;
        kvri_merge_run(&merge, rank_by_content, &opinion);
        const uint32_t n_slow = merge_slowly(text, slow, n, opinion);
        uint32_t pieces = 0;
        for (uint32_t i = n > 0 ? 0 : KVRI_MERGE_NONE; i != KVRI_MERGE_NONE; i = merge.next[i]) {
            assert_int_equal(merge.at[i], slow[pieces]);
            pieces++;
            assert_int_equal(kvri_merge_bytes(&merge, i), slow[pieces] - merge.at[i]);
        }
        assert_int_equal(pieces, n_slow);
    }
    free(mem);
}

static void a_long_text_merges_to_one_piece(void **state) {
    (void)state;
    enum { N = 200000 };
    void *mem = NULL;
    kvri_merge merge = make(&mem, N);
    uint8_t *text = calloc(N, 1);
    assert_non_null(text);
    for (uint32_t i = 0; i <= N; i++) merge.at[i] = i;
    merge.text = text;
    merge.n = N;
    kvri_merge_run(&merge, rank_always, NULL);
    assert_int_equal(merge.next[0], KVRI_MERGE_NONE);
    assert_int_equal(kvri_merge_bytes(&merge, 0), N);
    free(text);
    free(mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_pair_merges_first_and_of_equals_the_leftmost),
        cmocka_unit_test(a_long_text_merges_to_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
