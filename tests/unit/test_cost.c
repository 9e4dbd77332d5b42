/* The cost model against numbers worked out by hand, closed forms, and itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cost_rig.h"

#include <math.h>

static void assert_near(double had, double wanted) {
    if (fabs(had - wanted) > 1e-6 * fabs(wanted)) fail_msg("wanted %.9g, had %.9g", wanted, had);
}

/* 9 tokens over 3 ranks, cut 4/3/2: KV-Runahead, figure 4 and section 3. */
static void the_papers_example_has_16_21_18_products_and_moves_22_entries(void **state) {
    (void)state;
    static const uint32_t sizes[3] = {4, 3, 2};
    cost_rig rig;
    kvr_cost_rank ranks[3];
    rig_tiny(&rig, 3, 9);
    kvr_cost_result r = rig_run(&rig, KVR_COST_CHAIN, sizes, ranks);
    assert_int_equal(ranks[0].products, 16);
    assert_int_equal(ranks[1].products, 21);
    assert_int_equal(ranks[2].products, 18);
    assert_int_equal(r.entries_moved, 22);
    r = rig_run(&rig, KVR_COST_TSP, NULL, ranks);
    for (int i = 0; i < 3; i++) assert_int_equal(ranks[i].products, 27);
    assert_int_equal(r.entries_moved, 36);
    rig_end(&rig);
}

/* Rank 0: K, V at 2; layer 0 ends at 12; K, V of layer 1 at 14. Frames of 64 + 2 * 20 bytes arrive at 106 and 210.
 * Rank 1: waits from 1 to 106, ends layer 0 at 112, K, V at 113, waits to 210, one row 3 + 3, head 10. */
static void a_chain_of_two_takes_what_was_worked_out_by_hand(void **state) {
    (void)state;
    static const uint32_t sizes[2] = {2, 1};
    cost_rig rig;
    kvr_cost_rank ranks[2];
    rig_tiny(&rig, 2, 3);
    kvr_cost_result r = rig_run(&rig, KVR_COST_CHAIN, sizes, ranks);
    assert_near(r.ttft_us, 226);
    assert_near(ranks[1].wait_prefix_us, 105 + 97);
    assert_near(ranks[1].compute_us, 1 + 6 + 1 + 6 + 10);
    assert_near(ranks[0].compute_us, 14);
    assert_near(ranks[0].wait_send_us, 210 - 14);
    assert_int_equal(ranks[0].bytes_out, 2 * 104);
    assert_int_equal(ranks[0].frames_out, 2);
    /* alone: two layers of K, V 3, one of 9 + 9, one row of 3 + 3, head 10 */
    assert_near(r.single_us, 6 + 18 + 6 + 10);
    assert_near(r.bound_busiest_us, 24);
    /* free links: rank 1 ends layer 0 at max(1, 2) + 6, K, V at 9, prefix at 14 */
    assert_near(r.free_us, 14 + 6 + 10);

    rig.link.latency_us = 5; /* hand-shake 4 hops for the lead, 5 for the helper; then the arrivals */
    assert_near(rig_run(&rig, KVR_COST_CHAIN, sizes, NULL).ttft_us, 25 + 2 + 104 + 104 + 5 + 6 + 10);
    rig.link.latency_us = 0;
    rig.link.message_us = 7;
    assert_near(rig_run(&rig, KVR_COST_CHAIN, sizes, NULL).ttft_us, 226 + 14);
    rig_end(&rig);
}

/* Latency 50: rank 0 starts at 250, K, V of its token at 251, 301 at the other end; layer 1 at 306. Rank 1 starts at
 * 200, waits from 202 to 301, 6 + 6 products to 313, K, V at 315, one row 3 + 3, head 10. The products could hide in
 * the wait. */
static void attending_while_waiting_could_save_the_products_of_a_layer_that_waits(void **state) {
    (void)state;
    static const uint32_t sizes[2] = {1, 2};
    cost_rig rig;
    rig_tiny(&rig, 2, 3);
    rig.link.latency_us = 50;
    rig.link.mbit = 1e9; /* frames take no time */
    const kvr_cost_result r = rig_run(&rig, KVR_COST_CHAIN, sizes, NULL);
    assert_near(r.ttft_us, 331);
    assert_near(r.bound_overlap_us, 325);
    rig_end(&rig);
}

/* Frames of one token: 84 bytes. Rank 1's own frame of a layer goes out before the relayed ones that arrive later. */
static void frames_are_relayed_as_they_arrive_and_in_order(void **state) {
    (void)state;
    static const uint32_t sizes[3] = {2, 1, 1};
    cost_rig rig;
    kvr_cost_rank ranks[3];
    rig_tiny(&rig, 3, 4);
    rig.job.frame_tokens = 1;
    /* link 0: layer 0 at 86, 170; layer 1 (ready 14) at 254, 338.
     * rank 1: K, V 1; prefix 170; 3 + 3 -> 176; K, V 177; done (a helper stops there).
     * link 1: own l0 1 -> 85; relay 86 -> 170, 170 -> 254; own l1 (177) 254 -> 338; relay l1 254 -> waits 338 -> 422;
     *         338 -> 422 -> 506.
     * rank 2: K, V 1; prefix 254; 3 + 4 -> 261; K, V 262; prefix 506; 3 + 4 + 10 */
    assert_near(rig_run(&rig, KVR_COST_CHAIN, sizes, ranks).ttft_us, 506 + 17);
    assert_int_equal(ranks[1].frames_out, 6);
    rig_end(&rig);
}

/* 2 + 2 tokens. K, V 2; both blocks over at 106; 6 + 2 * 4 -> 120; K, V 122; 226; 14 + 10. */
static void the_ring_takes_what_was_worked_out_by_hand(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_rank ranks[2];
    rig_tiny(&rig, 2, 4);
    const kvr_cost_result r = rig_run(&rig, KVR_COST_TSP, NULL, ranks);
    assert_near(r.ttft_us, 250);
    assert_int_equal(r.bytes_moved, 4 * 104);
    /* with skipping: rank 0 ends layer 0 at 116 and layer 1's K, V at 118, rank 1 at 122 as before; one row 3 + 4 + 10
     */
    assert_near(rig_run(&rig, KVR_COST_TSP_SKIP, NULL, NULL).ttft_us, 226 + 17);
    rig_end(&rig);
}

/* Three ranks of one token: step 1 ends at 1 + 84, step 2 at 1 + 168. */
static void the_ring_takes_one_step_less_than_boards(void **state) {
    (void)state;
    cost_rig rig;
    rig_tiny(&rig, 3, 3);
    assert_near(rig_run(&rig, KVR_COST_TSP, NULL, NULL).ttft_us, 169 + 6 + 1 + 168 + 6 + 10);
    rig_end(&rig);
}

/* Rank 0 has its K, V at 1, rank 1 (ten times slower) at 10: frames of 84 bytes. Link 0: own 1 -> 85. Link 1: own 10 ->
 * 94. Rank 0 goes on at 94: 3 + 2 = 5 -> 99, K, V 100; rank 1 at max(85, 94), 30 + 20 -> 144, K, V 154; link 1 again
 *     154 -> 238;
 * rank 0 waits for that, rank 1 for its own sending: 238 + 30 + 20 + 100 of the head. */
static void in_a_ring_the_fast_wait_for_the_slow(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_rank ranks[2];
    rig_tiny(&rig, 2, 2);
    rig.board[1] = rig.board[0];
    rig.board[1].dense_gmacs /= 10;
    rig.board[1].attention_gmacs /= 10;
    rig.boards[1] = &rig.board[1];
    assert_near(rig_run(&rig, KVR_COST_TSP, NULL, ranks).ttft_us, 238 + 50 + 100);
    assert_near(ranks[0].wait_prefix_us, (94 - 1) + (238 - 100));
    rig_end(&rig);
}

static void entries_moved_equal_the_formulas(void **state) {
    (void)state;
    cost_rig rig;
    for (uint32_t boards = 1; boards <= 8; boards++)
        for (uint32_t tokens = boards; tokens < 400; tokens += 37) {
            rig_edge(&rig, boards, tokens);
            rig.job.frame_tokens = 16;
            kvr_cost_rank ranks[8];
            kvr_cost_result r = rig_run(&rig, KVR_COST_CHAIN, NULL, ranks);
            uint64_t entries = 0, bytes = 0;
            for (uint32_t i = 1; i < boards; i++) entries += 2u * ranks[i].first;
            for (uint32_t i = 0; i < boards; i++) bytes += ranks[i].bytes_out - 64u * ranks[i].frames_out;
            assert_int_equal(r.entries_moved, entries);
            assert_int_equal(bytes, entries * 22 * 4 * 64 * 2);
            r = rig_run(&rig, KVR_COST_TSP, NULL, ranks);
            bytes = 0;
            for (uint32_t i = 0; i < boards; i++) bytes += ranks[i].bytes_out - 64u * ranks[i].frames_out;
            assert_int_equal(r.entries_moved, 2u * (boards - 1) * tokens);
            assert_int_equal(bytes, r.entries_moved * 22 * 4 * 64 * 2);
            rig_end(&rig);
        }
}

static void products_of_tiles_are_those_of_a_plain_count(void **state) {
    (void)state;
    static const uint32_t tiles[] = {1, 2, 3, 16, 100};
    static const uint32_t sizes[3] = {11, 30, 7};
    cost_rig rig;
    kvr_cost_rank ranks[3];
    for (size_t k = 0; k < sizeof tiles / sizeof tiles[0]; k++) {
        const uint32_t t = tiles[k];
        rig_tiny(&rig, 3, 48);
        rig.board[0].attention_tile = t;
        rig_run(&rig, KVR_COST_CHAIN, sizes, ranks);
        for (uint32_t r = 0; r < 3; r++) {
            uint64_t n = 0;
            const uint32_t end = ranks[r].first + sizes[r];
            for (uint32_t q = ranks[r].first; q < end; q++)
                for (uint32_t key = 0; key < end; key++) n += key / t <= q / t;
            assert_int_equal(ranks[r].products, n);
        }
        rig_end(&rig);
    }
}

static void without_skipping_each_call_meets_the_keys_up_to_its_own_end(void **state) {
    (void)state;
    static const uint32_t sizes[2] = {11, 30};
    cost_rig rig;
    kvr_cost_rank ranks[2];
    rig_tiny(&rig, 2, 41);
    rig.job.batch_tokens = 8;
    rig_run(&rig, KVR_COST_CHAIN, sizes, ranks);
    assert_int_equal(ranks[0].products, 8 * 8 + 3 * 11);
    assert_int_equal(ranks[1].products, 8 * 19 + 8 * 27 + 8 * 35 + 6 * 41);
    rig_run(&rig, KVR_COST_TSP, sizes, ranks);
    assert_int_equal(ranks[1].products, 30 * 41);
    rig_end(&rig);
}

static void a_chain_of_one_is_the_single_board(void **state) {
    (void)state;
    cost_rig rig;
    rig_edge(&rig, 1, 777);
    const kvr_cost_result alone = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL);
    assert_near(alone.ttft_us, alone.single_us);
    rig.job.n_boards = 5;
    assert_near(rig_run(&rig, KVR_COST_SINGLE, NULL, NULL).ttft_us, alone.ttft_us);
    rig_end(&rig);
}

static void bounds_lie_below_and_free_links_are_never_slower(void **state) {
    (void)state;
    static const double mbits[] = {10, 100, 1000, 1e5};
    cost_rig rig;
    for (uint32_t s = 0; s < KVR_COST_STRATEGIES; s++)
        for (uint32_t boards = 1; boards <= 8; boards++)
            for (size_t m = 0; m < 4; m++) {
                rig_edge(&rig, boards, 1000);
                rig.link.mbit = mbits[m];
                const kvr_cost_result r = rig_run(&rig, (kvr_cost_strategy)s, NULL, NULL);
                assert_true(r.ttft_us > 0);
                assert_true(r.bound_split_us <= r.ttft_us * (1 + 1e-9));
                assert_true(r.bound_busiest_us <= r.ttft_us * (1 + 1e-9));
                assert_true(r.free_us <= r.ttft_us * (1 + 1e-9));
                assert_true(r.bound_overlap_us <= r.ttft_us);
                assert_true(s == KVR_COST_CHAIN || r.bound_overlap_us == r.ttft_us);
                rig_end(&rig);
            }
}

typedef struct span_sums {
    double compute[8], wait[8], send[8], end[8];
    uint32_t bad;
} span_sums;

static void add_span(void *user, uint32_t rank, uint32_t layer, kvr_cost_span span, double begin_us, double end_us) {
    span_sums *s = user;
    if (rank >= 8 || layer >= 22 || end_us < begin_us) s->bad++;
    if (span == KVR_COST_TRANSFER) return;
    /* on a board, one thing after the other */
    if (begin_us < s->end[rank] - 1e-6) s->bad++;
    s->end[rank] = end_us;
    if (span == KVR_COST_COMPUTE) s->compute[rank] += end_us - begin_us;
    if (span == KVR_COST_WAIT_PREFIX) s->wait[rank] += end_us - begin_us;
    if (span == KVR_COST_WAIT_SEND) s->send[rank] += end_us - begin_us;
}

static void spans_add_up_to_the_ranks_sums_and_do_not_overlap(void **state) {
    (void)state;
    cost_rig rig;
    for (uint32_t s = 0; s < KVR_COST_STRATEGIES; s++) {
        kvr_cost_rank ranks[8];
        span_sums sums;
        memset(&sums, 0, sizeof sums);
        rig_edge(&rig, 8, 2000);
        rig.link.mbit = 100;
        rig.job.span = add_span;
        rig.job.span_user = &sums;
        const kvr_cost_result r = rig_run(&rig, (kvr_cost_strategy)s, NULL, ranks);
        assert_int_equal(sums.bad, 0);
        for (uint32_t i = s == KVR_COST_SINGLE ? 7 : 0; i < 8; i++) {
            const uint32_t at = s == KVR_COST_SINGLE ? 0 : i;
            assert_near(sums.compute[at], ranks[i].compute_us);
            assert_near(sums.wait[at] + 1, ranks[i].wait_prefix_us + 1);
            assert_near(sums.send[at] + 1, ranks[i].wait_send_us + 1);
        }
        assert_near(ranks[7].done_us, r.ttft_us);
        rig_end(&rig);
    }
}

static void the_same_job_gives_the_same_result_and_another_seed_another(void **state) {
    (void)state;
    cost_rig rig;
    rig_edge(&rig, 4, 3000);
    rig.link.mbit = 100;
    rig.link.slow_chance = 0.5;
    rig.link.slow_factor = 0.5;
    rig.link.period_ms = 20;
    const double first = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    assert_true(rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us == first);
    rig.job.seed = 1;
    assert_true(rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us != first);
    rig_end(&rig);
}

static void a_varying_link_lies_between_always_fast_and_always_slow(void **state) {
    (void)state;
    cost_rig rig;
    rig_edge(&rig, 4, 3000);
    rig.link.mbit = 100;
    const double fast = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    rig.link.mbit = 50;
    const double slow = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    rig.link.mbit = 100;
    rig.link.slow_factor = 0.5;
    rig.link.period_ms = 10;
    for (rig.job.seed = 0; rig.job.seed < 20; rig.job.seed++) {
        rig.link.slow_chance = 0.3;
        const double varies = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
        assert_true(varies > fast && varies < slow);
    }
    rig.link.slow_chance = 1;
    assert_near(rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us, slow);
    rig_end(&rig);
}

/* The reason for the chain: TSP waits for its all-gather in every layer, so all of a slow-down is felt. */
static void a_network_that_halves_at_random_costs_the_chain_less_than_tsp(void **state) {
    (void)state;
    cost_rig rig;
    double lost[2] = {0, 0};
    for (uint32_t s = 0; s < 2; s++) {
        const kvr_cost_strategy strategy = s == 0 ? KVR_COST_CHAIN : KVR_COST_TSP_SKIP;
        rig_edge(&rig, 4, 2048);
        const double steady = rig_run(&rig, strategy, NULL, NULL).ttft_us;
        rig.link.slow_chance = 0.5;
        rig.link.slow_factor = 0.5;
        rig.link.period_ms = 50;
        for (rig.job.seed = 0; rig.job.seed < 20; rig.job.seed++)
            lost[s] += rig_run(&rig, strategy, NULL, NULL).ttft_us - steady;
        rig_end(&rig);
    }
    assert_true(lost[0] < lost[1]);
}

static void a_network_that_varies_for_ever_is_simulated_in_no_time(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_result r;
    rig_edge(&rig, 4, 2048);
    rig.link.slow_chance = 0.5;
    rig.link.slow_factor = 0.5;
    rig.link.period_ms = 1;
    rig.link.mbit = 1e-3; /* days of milliseconds */
    const double unsteady = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    rig.link.slow_chance = 0;
    rig.link.mbit = 0.75e-3;
    const double mean = rig_run(&rig, KVR_COST_CHAIN, NULL, NULL).ttft_us;
    assert_true(fabs(unsteady / mean - 1) < 0.01);
    rig.link.slow_chance = 0.5;
    rig.link.period_ms = 0;
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes, &r, NULL, NULL), KVR_ERR_ARG);
    rig_end(&rig);
}

static void a_hundred_boards_are_simulated(void **state) {
    (void)state;
    enum { N = 100 };
    static const kvr_board_profile *boards[N];
    static const kvr_link_profile *links[N];
    cost_rig rig;
    rig_edge(&rig, 1, 16384);
    for (uint32_t i = 0; i < N; i++) {
        boards[i] = &rig.board[0];
        links[i] = &rig.link;
    }
    rig.link.mbit = 1e6;
    rig.job.boards = boards;
    rig.job.links = links;
    rig.job.n_boards = N;
    for (uint32_t s = 0; s < KVR_COST_STRATEGIES; s++) {
        const kvr_cost_result r = rig_run(&rig, (kvr_cost_strategy)s, NULL, NULL);
        assert_true(r.ttft_us > 0 && r.ttft_us >= r.bound_split_us);
    }
    rig_end(&rig);
}

static void wrong_jobs_are_refused(void **state) {
    (void)state;
    static const uint32_t short_sizes[2] = {1, 1}, empty[2] = {3, 0};
    cost_rig rig;
    kvr_cost_result out;
    kvr_error error = {0};
    rig_tiny(&rig, 2, 3);
    rig_work(&rig);
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes, &out, NULL, &error), KVR_OK);
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes - 1, &out, NULL, &error), KVR_ERR_NOMEM);
    rig.job.sizes = short_sizes;
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes, &out, NULL, NULL), KVR_ERR_PARTITION);
    rig.job.sizes = empty;
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes, &out, NULL, NULL), KVR_ERR_PARTITION);
    rig.job.sizes = NULL;
    rig.job.n_boards = 4;
    rig_work(&rig);
    assert_int_equal(kvr_cost_run(&rig.job, rig.work, rig.work_bytes, &out, NULL, NULL), KVR_ERR_PARTITION);
    rig.job.n_boards = 0;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig.job.n_boards = KVR_COST_MAX_BOARDS + 1;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig.job.n_boards = 2;
    rig.job.n_tokens = 0;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig.job.n_tokens = 3;
    rig.job.strategy = KVR_COST_STRATEGIES;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig.job.strategy = 0;
    rig.job.kv_bytes = NAN;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig.job.kv_bytes = 0;
    rig.board[0].dense_gmacs = 0;
    assert_int_equal(kvr_cost_work_bytes(&rig.job), 0);
    rig_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_example_has_16_21_18_products_and_moves_22_entries),
        cmocka_unit_test(a_chain_of_two_takes_what_was_worked_out_by_hand),
        cmocka_unit_test(attending_while_waiting_could_save_the_products_of_a_layer_that_waits),
        cmocka_unit_test(frames_are_relayed_as_they_arrive_and_in_order),
        cmocka_unit_test(the_ring_takes_what_was_worked_out_by_hand),
        cmocka_unit_test(the_ring_takes_one_step_less_than_boards),
        cmocka_unit_test(in_a_ring_the_fast_wait_for_the_slow),
        cmocka_unit_test(entries_moved_equal_the_formulas),
        cmocka_unit_test(products_of_tiles_are_those_of_a_plain_count),
        cmocka_unit_test(without_skipping_each_call_meets_the_keys_up_to_its_own_end),
        cmocka_unit_test(a_chain_of_one_is_the_single_board),
        cmocka_unit_test(bounds_lie_below_and_free_links_are_never_slower),
        cmocka_unit_test(spans_add_up_to_the_ranks_sums_and_do_not_overlap),
        cmocka_unit_test(the_same_job_gives_the_same_result_and_another_seed_another),
        cmocka_unit_test(a_varying_link_lies_between_always_fast_and_always_slow),
        cmocka_unit_test(a_network_that_halves_at_random_costs_the_chain_less_than_tsp),
        cmocka_unit_test(a_network_that_varies_for_ever_is_simulated_in_no_time),
        cmocka_unit_test(a_hundred_boards_are_simulated),
        cmocka_unit_test(wrong_jobs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
