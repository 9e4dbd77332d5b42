/* How a prompt is cut over the ranks, and into the pieces that travel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr_partition.h"

#include <string.h>

static void an_even_cut_differs_by_at_most_one_and_the_first_get_more(void **state) {
    (void)state;
    uint32_t sizes[KVR_MAX_BOARDS];
    for (uint32_t n = 1; n <= 300; n++) {
        for (uint32_t p = 1; p <= KVR_MAX_BOARDS; p++) {
            const kvr_status status = kvr_partition_even(n, p, sizes);
            if (n < p) {
                assert_int_equal(status, KVR_ERR_PARTITION);
                continue;
            }
            assert_int_equal(status, KVR_OK);
            uint32_t sum = 0;
            for (uint32_t r = 0; r < p; r++) {
                sum += sizes[r];
                assert_true(sizes[r] == n / p || sizes[r] == n / p + 1);
                if (r > 0) assert_true(sizes[r] <= sizes[r - 1]);
            }
            assert_int_equal(sum, n);
        }
    }
}

static void no_boards_and_too_many_boards_are_refused(void **state) {
    (void)state;
    uint32_t sizes[KVR_MAX_BOARDS + 1];
    kvri_partition p;
    assert_int_equal(kvr_partition_even(10, 0, sizes), KVR_ERR_PARTITION);
    assert_int_equal(kvr_partition_even(1000, KVR_MAX_BOARDS + 1, sizes), KVR_ERR_PARTITION);
    assert_int_equal(kvri_partition_make(10, 0, NULL, 4, &p), KVR_ERR_PARTITION);
    assert_int_equal(kvri_partition_make(1000, KVR_MAX_BOARDS + 1, NULL, 4, &p), KVR_ERR_PARTITION);
    assert_int_equal(kvri_partition_make(10, 2, NULL, 0, &p), KVR_ERR_PARTITION);
}

static void an_empty_chunk_or_a_wrong_sum_is_refused_and_nothing_is_written(void **state) {
    (void)state;
    static const uint32_t wrong[][3] = {{4, 0, 5}, {0, 4, 5},          {4, 5, 0},          {4, 3, 1},
                                        {4, 3, 3}, {UINT32_MAX, 4, 6}, {4, UINT32_MAX, 6}, {3, UINT32_MAX, 7}};
    kvri_partition p, before;
    memset(&p, 0x5a, sizeof p);
    before = p;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(kvri_partition_make(9, 3, wrong[i], 4, &p), KVR_ERR_PARTITION);
    assert_memory_equal(&p, &before, sizeof p);
}

static void the_papers_example_moves_22_entries(void **state) {
    (void)state;
    static const uint32_t sizes[3] = {4, 3, 2};
    kvri_partition p;
    assert_int_equal(kvri_partition_make(9, 3, sizes, 128, &p), KVR_OK);
    static const uint32_t cut[4] = {0, 4, 7, 9};
    assert_memory_equal(p.cut, cut, sizeof cut);
    uint32_t moved = 0, products[3];
    for (uint32_t r = 0; r < 3; r++) {
        if (r > 0) moved += 2 * p.cut[r];
        products[r] = sizes[r] * p.cut[r + 1];
    }
    assert_int_equal(moved, 22);
    assert_int_equal(products[0], 16);
    assert_int_equal(products[1], 21);
    assert_int_equal(products[2], 18);
}

/* Every token lies in exactly one piece, every piece is found by its place, and none crosses a chunk. */
static void check_pieces(const kvri_partition *p) {
    uint32_t at = 0;
    for (uint32_t piece = 0; piece < p->first_piece[p->n_boards]; piece++) {
        uint32_t first = 0, count = 0;
        kvri_partition_piece(p, piece, &first, &count);
        assert_int_equal(first, at);
        assert_in_range(count, 1, p->frame_tokens);
        assert_int_equal(kvri_partition_find(p, first, count), piece);
        assert_int_equal(kvri_partition_find(p, first, count + 1), UINT32_MAX);
        assert_int_equal(kvri_partition_find(p, first, count - 1), UINT32_MAX);
        assert_int_equal(kvri_partition_find(p, first + 1, count), count == 1 && at + 1 < p->cut[p->n_boards]
                                                                       ? kvri_partition_find(p, first + 1, 1)
                                                                       : UINT32_MAX);
        for (uint32_t r = 1; r < p->n_boards; r++) assert_false(first < p->cut[r] && first + count > p->cut[r]);
        at += count;
    }
    assert_int_equal(at, p->cut[p->n_boards]);
}

static void pieces_cover_the_prompt_without_gaps_and_are_found_again(void **state) {
    (void)state;
    static const uint32_t frames[] = {1, 2, 3, 7, 128, 4096};
    kvri_partition p;
    for (uint32_t n = 1; n <= 70; n++)
        for (uint32_t boards = 1; boards <= n && boards <= KVR_MAX_BOARDS; boards += 3)
            for (size_t f = 0; f < sizeof frames / sizeof frames[0]; f++) {
                assert_int_equal(kvri_partition_make(n, boards, NULL, frames[f], &p), KVR_OK);
                check_pieces(&p);
                assert_true(p.first_piece[boards] <= kvri_partition_max_pieces(n, boards, frames[f]));
            }
}

static void a_place_outside_the_prompt_is_no_piece(void **state) {
    (void)state;
    static const uint32_t sizes[2] = {5, 6};
    kvri_partition p;
    assert_int_equal(kvri_partition_make(11, 2, sizes, 4, &p), KVR_OK);
    assert_int_equal(kvri_partition_find(&p, 11, 1), UINT32_MAX);
    assert_int_equal(kvri_partition_find(&p, 0, 0), UINT32_MAX);
    assert_int_equal(kvri_partition_find(&p, UINT32_MAX, 4), UINT32_MAX);
    assert_int_equal(kvri_partition_find(&p, 0, UINT32_MAX), UINT32_MAX);
    assert_int_equal(kvri_partition_find(&p, 4, 4), UINT32_MAX); /* across the cut */
    assert_int_equal(kvri_partition_find(&p, 4, 1), 1);
    assert_int_equal(kvri_partition_find(&p, 9, 2), 3);
}

static void shares_keep_to_weights_and_limits_and_add_up(void **state) {
    (void)state;
    uint64_t seed = 5;
    const uint32_t plain[3] = {1, 1, 2}, wide[3] = {100, 100, 100};
    uint32_t out[8];
    assert_int_equal(kvri_partition_share(24, plain, wide, 3, out), KVR_OK);
    assert_int_equal(out[0], 6);
    assert_int_equal(out[1], 6);
    assert_int_equal(out[2], 12);
    for (int turn = 0; turn < 20000; turn++) {
        uint32_t weights[8], limits[8];
        uint64_t room = 0, sum = 0;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        const uint32_t n = 1 + (uint32_t)(seed >> 60) % 8, tokens = 1 + (uint32_t)(seed >> 40) % 200;
        for (uint32_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            weights[i] = 1 + (uint32_t)(seed >> 50) % 300;
            limits[i] = 1 + (uint32_t)(seed >> 33) % 90;
            room += limits[i];
        }
        const kvr_status status = kvri_partition_share(tokens, weights, limits, n, out);
        assert_int_equal(status, tokens < n || room < tokens ? KVR_ERR_PARTITION : KVR_OK);
        if (status != KVR_OK) continue;
        for (uint32_t i = 0; i < n; i++) {
            assert_in_range(out[i], 1, limits[i]);
            sum += out[i];
        }
        assert_int_equal(sum, tokens);
    }
    const uint32_t none[2] = {1, 0}, most[2] = {UINT32_MAX, UINT32_MAX};
    assert_int_equal(kvri_partition_share(10, none, wide, 2, out), KVR_ERR_PARTITION);
    assert_int_equal(kvri_partition_share(10, plain, wide, 0, out), KVR_ERR_PARTITION);
    assert_int_equal(kvri_partition_share(1u << 20, most, most, 2, out), KVR_OK);
    assert_int_equal(out[0] + out[1], 1u << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_even_cut_differs_by_at_most_one_and_the_first_get_more),
        cmocka_unit_test(no_boards_and_too_many_boards_are_refused),
        cmocka_unit_test(an_empty_chunk_or_a_wrong_sum_is_refused_and_nothing_is_written),
        cmocka_unit_test(the_papers_example_moves_22_entries),
        cmocka_unit_test(pieces_cover_the_prompt_without_gaps_and_are_found_again),
        cmocka_unit_test(a_place_outside_the_prompt_is_no_piece),
        cmocka_unit_test(shares_keep_to_weights_and_limits_and_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
