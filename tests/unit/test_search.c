/* The searched partition against brute force, and what the planner declines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cost_rig.h"
#include "kvr_cost_core.h"

static double search(cost_rig *rig, uint32_t *sizes) {
    double ttft = -1;
    kvr_error error = {0};
    rig->job.sizes = NULL;
    rig->job.strategy = KVR_COST_CHAIN;
    rig_work(rig);
    if (kvr_cost_search(&rig->job, rig->work, rig->work_bytes, sizes, &ttft, &error) != KVR_OK) return -1;
    return ttft;
}

static double choose(cost_rig *rig, uint32_t *sizes, uint32_t *used) {
    double ttft = -1;
    rig->job.sizes = NULL;
    rig->job.strategy = KVR_COST_CHAIN;
    rig_work(rig);
    if (kvr_cost_choose(&rig->job, rig->work, rig->work_bytes, sizes, used, &ttft, NULL) != KVR_OK) return -1;
    return ttft;
}

/* Every partition in steps of `grain` tokens. */
static double brute_force(cost_rig *rig, uint32_t grain) {
    const uint32_t P = rig->job.n_boards, C = rig->job.n_tokens;
    uint32_t sizes[8];
    double best = -1;
    for (uint32_t i = 0; i + 1 < P; i++) sizes[i] = grain;
    for (;;) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i + 1 < P; i++) sum += sizes[i];
        if (sum < C) {
            sizes[P - 1] = C - sum;
            const double ttft = rig_run(rig, KVR_COST_CHAIN, sizes, NULL).ttft_us;
            if (best < 0 || ttft < best) best = ttft;
        }
        uint32_t i = 0;
        while (i + 1 < P && (sizes[i] += grain) >= C) sizes[i++] = grain;
        if (i + 1 >= P) return best;
    }
}

static void the_search_is_within_one_percent_of_brute_force(void **state) {
    (void)state;
    static const struct {
        uint32_t boards, tokens, grain, kv_heads;
        double mbit, score_bytes;
    } cases[] = {{2, 300, 1, 4, 940, 0}, {2, 300, 1, 32, 20, 0},   {3, 96, 1, 4, 940, 0},  {3, 96, 1, 32, 100, 0},
                 {3, 90, 1, 32, 2, 0},   {4, 64, 2, 4, 940, 0},    {4, 64, 2, 32, 100, 0}, {4, 64, 2, 32, 1000, 20},
                 {3, 4000, 40, 4, 940, 5}, {4, 2048, 64, 32, 300, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        uint32_t sizes[8];
        cost_rig rig;
        rig_edge(&rig, cases[k].boards, cases[k].tokens);
        rig.geometry.n_layers = 6;
        rig.geometry.n_kv_heads = cases[k].kv_heads;
        rig.link.mbit = cases[k].mbit;
        rig.board[0].score_bytes = cases[k].score_bytes;
        rig.board[0].attention_tile = k % 2 ? 0 : 16;
        rig.job.frame_tokens = 32;
        const double found = search(&rig, sizes), best = brute_force(&rig, cases[k].grain);
        if (!(found > 0 && found <= best * 1.01)) fail_msg("case %zu: found %.1f us, best %.1f us", k, found, best);
        rig_end(&rig);
    }
}

static void set_speed(kvr_board_profile *board, double factor) {
    board->dense_gmacs *= factor;
    board->attention_gmacs *= factor;
    board->memory_gbs *= factor;
}

static void unequal_boards_come_within_one_percent_of_the_best_and_are_1_5_times_faster_than_even(void **state) {
    (void)state;
    static const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (uint32_t k = 0; k < 6; k++) {
        uint32_t sizes[3];
        cost_rig rig;
        rig_edge(&rig, 3, 1024);
        rig.geometry.n_layers = 6;
        set_speed(&rig.board[1], 0.5);
        set_speed(&rig.board[2], 0.25);
        for (uint32_t r = 0; r < 3; r++) rig.boards[r] = &rig.board[orders[k][r]];
        const double found = search(&rig, sizes), best = brute_force(&rig, 16);
        const double even = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
        if (found > best * 1.01) fail_msg("order %u: found %.1f us, best %.1f us", k, found, best);
        if (even < found * 1.5) fail_msg("order %u: even %.1f us, found %.1f us", k, even, found);
        rig_end(&rig);
    }
}

/* What a lead does while a prompt waits. */
static double choose_quickly(cost_rig *rig, uint32_t *sizes, uint32_t *used) {
    double ttft = -1;
    rig->job.sizes = NULL;
    rig->job.strategy = KVR_COST_CHAIN;
    rig_work(rig);
    assert_int_equal(kvri_search_quick(&rig->job, rig->work, rig->work_bytes, sizes, &ttft), KVR_OK);
    *used = 0;
    for (uint32_t r = 0; r < rig->job.n_boards; r++) *used += sizes[r] != 0;
    return ttft;
}

typedef double (*chooser)(cost_rig *rig, uint32_t *sizes, uint32_t *used);
static const chooser CHOOSERS[2] = {choose, choose_quickly};

/* Boards worth little are declined, so more boards never cost more than 2 %. */
static void expect_that_adding_a_board_is_never_slower(chooser by) {
    static const double mbits[] = {10, 100, 940};
    static const uint32_t kv_heads[] = {4, 32};
    for (uint32_t k = 0; k < 6; k++)
        for (uint32_t tokens = 16; tokens <= 8192; tokens *= 2) {
            double before = -1;
            for (uint32_t boards = 1; boards <= 8; boards++) {
                uint32_t sizes[8], used = 0, sum = 0;
                cost_rig rig;
                rig_edge(&rig, boards, tokens);
                rig.geometry.n_layers = 4;
                rig.geometry.n_kv_heads = kv_heads[k % 2];
                rig.link.mbit = mbits[k / 2];
                const double ttft = by(&rig, sizes, &used);
                for (uint32_t r = 0; r < boards; r++) {
                    sum += sizes[r];
                    used -= sizes[r] != 0;
                }
                assert_int_equal(sum, tokens);
                assert_int_equal(used, 0);
                if (before > 0 && ttft > before * 1.02)
                    fail_msg("%.0f Mbit, %u tokens, board %u: %.0f us after %.0f us", mbits[k / 2], tokens, boards,
                             ttft, before);
                before = ttft;
                rig_end(&rig);
            }
        }
}

static void adding_a_board_is_never_slower_by_more_than_2_percent(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2; i++) expect_that_adding_a_board_is_never_slower(CHOOSERS[i]);
}

/* Unequal ones: the slow board joins as any of the helpers. */
static void adding_a_slow_board_anywhere_is_never_slower(void **state) {
    (void)state;
    for (uint32_t tokens = 16, i = 0; tokens <= 4096; tokens *= i ? 4 : 1, i = !i) {
        uint32_t sizes[8], used = 0;
        cost_rig rig;
        rig_edge(&rig, 3, tokens);
        rig.geometry.n_layers = 4;
        set_speed(&rig.board[1], 0.3);
        set_speed(&rig.board[2], 0.01);
        rig.boards[0] = &rig.board[1];
        const double before = CHOOSERS[i](&rig, sizes, &used);
        rig.job.n_boards = 4;
        for (uint32_t place = 0; place < 3; place++) {
            const kvr_board_profile *three[3] = {&rig.board[1], &rig.board[0], &rig.board[0]};
            for (uint32_t r = 0, from = 0; r < 4; r++) rig.boards[r] = r == place ? &rig.board[2] : three[from++];
            const double after = CHOOSERS[i](&rig, sizes, &used);
            if (after > before * 1.02)
                fail_msg("%u tokens, place %u: %.0f us after %.0f us", tokens, place, after, before);
        }
        rig_end(&rig);
    }
}

static void a_short_prompt_on_a_slow_network_is_left_to_the_lead(void **state) {
    (void)state;
    uint32_t sizes[4], used = 0;
    cost_rig rig;
    rig_edge(&rig, 4, 16);
    rig.link.mbit = 1;
    rig.link.latency_us = 50000;
    choose(&rig, sizes, &used);
    assert_int_equal(used, 1);
    assert_int_equal(sizes[3], 16);
    rig.job.n_tokens = 2; /* fewer tokens than boards */
    choose(&rig, sizes, &used);
    assert_int_equal(used, 1);
    rig_end(&rig);
}

static void the_quick_search_comes_within_2_percent_of_the_thorough_one_and_10_with_unequal_boards(void **state) {
    (void)state;
    static const double speeds[] = {1, 0.5, 0.33}, mbits[] = {940, 100};
    for (uint32_t unequal = 0; unequal < 2; unequal++)
        for (uint32_t boards = 2; boards <= 8; boards += boards < 4 ? 1 : 4)
            for (uint32_t tokens = 64; tokens <= 4096; tokens *= 8) {
                uint32_t sizes[8], used = 0;
                cost_rig rig;
                kvr_link_profile slow;
                rig_edge(&rig, boards, tokens);
                slow = rig.link;
                slow.mbit = mbits[1];
                for (uint32_t r = 0; r < boards && unequal; r++) {
                    set_speed(&rig.board[r], speeds[r % 3]);
                    rig.boards[r] = &rig.board[r];
                    rig.links[r] = r % 4 == 1 ? &slow : &rig.link;
                }
                const double best = choose(&rig, sizes, &used);
                const double quick = choose_quickly(&rig, sizes, &used);
                if (quick > best * (unequal ? 1.1 : 1.02))
                    fail_msg("%u boards, %u tokens: %.0f us instead of %.0f", boards, tokens, quick, best);
                rig_end(&rig);
            }
}

/* Too long for the thorough search: beside the bound of work divided perfectly, with links that keep up. */
static void a_long_chain_is_cut_quickly_and_well(void **state) {
    (void)state;
    for (uint32_t boards = 24; boards <= 64; boards += 40) {
        uint32_t sizes[64], used = 0, sum = 0;
        cost_rig rig;
        rig_edge(&rig, boards, 4096);
        rig.link.mbit = 10000;
        const double quick = choose_quickly(&rig, sizes, &used);
        for (uint32_t r = 0; r < boards; r++) sum += sizes[r];
        assert_int_equal(sum, 4096);
        assert_int_equal(used, boards);
        const kvr_cost_result run = rig_run(&rig, KVR_COST_CHAIN, sizes, NULL);
        assert_true(quick <= run.ttft_us * 1.000001 && quick >= run.ttft_us * 0.999999);
        if (quick > run.bound_split_us * 1.15)
            fail_msg("%u boards: %.0f us, the bound is %.0f us", boards, quick, run.bound_split_us);
        rig_end(&rig);
    }
}

static void the_search_gives_the_same_answer_twice(void **state) {
    (void)state;
    uint32_t a[5], b[5];
    cost_rig rig;
    rig_edge(&rig, 5, 1234);
    const double first = search(&rig, a);
    assert_true(search(&rig, b) == first);
    assert_memory_equal(a, b, sizeof a);
    rig_end(&rig);
}

static void the_bandwidth_that_hides_the_network_does_and_half_of_it_does_not(void **state) {
    (void)state;
    cost_rig rig;
    double mbit = 0;
    rig_edge(&rig, 4, 2048);
    rig.geometry.n_kv_heads = 32;
    rig_work(&rig);
    assert_int_equal(kvr_cost_bandwidth(&rig.job, rig.work, rig.work_bytes, &mbit, NULL), KVR_OK);
    assert_true(mbit > 1 && mbit < 1e6);
    rig.link.mbit = 1e9;
    const double hidden = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    rig.link.mbit = mbit;
    assert_true(rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us <= hidden * 1.021);
    rig.link.mbit = mbit / 2;
    assert_true(rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us > hidden * 1.021);
    rig_end(&rig);
}

static void only_strategies_with_a_partition_are_searched(void **state) {
    (void)state;
    uint32_t sizes[2], used;
    double ttft;
    cost_rig rig;
    rig_edge(&rig, 2, 100);
    rig_work(&rig);
    rig.job.strategy = KVR_COST_TSP;
    assert_int_equal(kvr_cost_search(&rig.job, rig.work, rig.work_bytes, sizes, &ttft, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_cost_choose(&rig.job, rig.work, rig.work_bytes, sizes, &used, &ttft, NULL), KVR_ERR_ARG);
    rig.job.strategy = KVR_COST_CHAIN;
    rig.job.n_tokens = 1;
    rig_work(&rig);
    assert_int_equal(kvr_cost_search(&rig.job, rig.work, rig.work_bytes, sizes, &ttft, NULL), KVR_ERR_PARTITION);
    assert_int_equal(kvr_cost_search(&rig.job, rig.work, 1, sizes, &ttft, NULL), KVR_ERR_NOMEM);
    rig_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_is_within_one_percent_of_brute_force),
        cmocka_unit_test(unequal_boards_come_within_one_percent_of_the_best_and_are_1_5_times_faster_than_even),
        cmocka_unit_test(adding_a_board_is_never_slower_by_more_than_2_percent),
        cmocka_unit_test(adding_a_slow_board_anywhere_is_never_slower),
        cmocka_unit_test(a_short_prompt_on_a_slow_network_is_left_to_the_lead),
        cmocka_unit_test(the_quick_search_comes_within_2_percent_of_the_thorough_one_and_10_with_unequal_boards),
        cmocka_unit_test(a_long_chain_is_cut_quickly_and_well),
        cmocka_unit_test(the_search_gives_the_same_answer_twice),
        cmocka_unit_test(the_bandwidth_that_hides_the_network_does_and_half_of_it_does_not),
        cmocka_unit_test(only_strategies_with_a_partition_are_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
