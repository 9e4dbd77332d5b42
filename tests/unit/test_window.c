/* Helpers that keep keys and values of a few layers at a time: the same bits, less memory, and nobody waits for
 * ever. */
#include "chain_backend.h"

enum { MOST = 140, BOARDS = 6 };

static uint32_t windows[BOARDS], slow;
static wrap wraps[BOARDS];
static lazy queues[BOARDS];

static void change(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)link;
    if (board + 1 < r->n) config->kv_window_layers = windows[board];
    if (slow == 1) {
        memset(&wraps[board], 0, sizeof wraps[board]);
        wraps[board].slow = 1 + board % 3;
        wrap_backend(&wraps[board], backend);
    }
    if (slow == 2) {
        memset(&queues[board], 0, sizeof queues[board]);
        queues[board].per_done = 3 + 5 * (board % 2);
        lazy_backend(&queues[board], backend);
    }
}

static void some_cut(uint32_t n, uint32_t boards, uint64_t *rng, uint32_t *cut) {
    for (uint32_t b = 0; b < boards; b++) cut[b] = 1;
    for (uint32_t left = n - boards; left > 0; left--) cut[gguf_random(rng) % boards]++;
}

static void a_window_of_any_size_gives_the_same_bits(void **state) {
    (void)state;
    uint64_t rng = 11;
    int32_t ids[MOST];
    gguf_shape shape = RIG_TINY;
    rig_model model;
    shape.n_layers = 9;
    rig_model_make(&model, &shape);
    for (uint32_t round = 0; round < 90; round++) {
        rig r;
        rig_answer truth, a;
        const uint32_t boards = 2 + round % 5, n = boards + (uint32_t)(gguf_random(&rng) % (MOST - BOARDS));
        /* a board may be asked far more often than another */
        rig_options o = {.order = round % 4 == 0 ? 0 : gguf_random(&rng),
                         .cap_frames = 1 + round % 4,
                         .change = change,
                         .config = {.frame_tokens = 1 + round % 3 * 20, .batch_tokens = 1 + round % 7 * 9}};
        uint32_t cut[BOARDS];
        some_cut(n, boards, &rng, cut);
        for (uint32_t b = 0; b < BOARDS; b++) windows[b] = (uint32_t)(gguf_random(&rng) % 6); /* 0: all layers */
        slow = round / 3 % 3;
        rig_ids(ids, n, model.info->n_vocab, round);
        rig_single(&model, &(kvr_config){.batch_tokens = o.config.batch_tokens}, ids, n, 3, &truth);
        rig_open(&r, &model, boards, &o);
        for (int again = 0; again < 2; again++) { /* the second question finds old keys in the window */
            assert_int_equal(rig_prompt(&r, ids, n, 3, boards, cut), KVR_OK);
            rig_run(&r, &a);
            if (a.status != KVR_OK) fail_msg("round %u: %s: %s", round, kvr_status_name(a.status), a.error.text);
            assert_true(rig_same(&model, &a, &truth));
            rig_answer_free(&a);
        }
        rig_answer_free(&truth);
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void the_plan_shrinks_by_the_layers_left_out(void **state) {
    (void)state;
    gguf_shape shape = RIG_TINY;
    rig_model model;
    kvr_cpu cpu = {0};
    kvr_backend backend;
    kvr_plan all, some;
    shape.n_layers = 9;
    rig_model_make(&model, &shape);
    kvr_cpu_backend(&cpu, &backend);
    kvr_config config = {.struct_bytes = sizeof config, .ctx_tokens = 128, .max_boards = 3};
    assert_int_equal(kvr_plan_make(model.model, &config, &backend, &all, NULL), KVR_OK);
    assert_int_equal(all.kv_window_layers, 9);
    const uint64_t layer_bytes = 2ull * 128 * 16 * 2; /* keys and values of 128 tokens, 2 heads of 8, F16 */
    for (config.kv_window_layers = 1; config.kv_window_layers < 12; config.kv_window_layers++) {
        const uint32_t kept = config.kv_window_layers < 9 ? config.kv_window_layers : 9;
        assert_int_equal(kvr_plan_make(model.model, &config, &backend, &some, NULL), KVR_OK);
        assert_int_equal(some.kv_window_layers, kept);
        for (uint32_t i = 0; i < some.n_rows; i++)
            if (strcmp(some.rows[i].name, "keys and values") == 0)
                assert_int_equal(some.rows[i].bytes, kept * layer_bytes);
        assert_true(all.region_bytes[KVR_REGION_SESSION] - some.region_bytes[KVR_REGION_SESSION] >=
                    (9 - kept) * layer_bytes);
    }
    rig_model_close(&model);
}

static void a_board_with_a_window_only_serves(void **state) {
    (void)state;
    int32_t ids[5];
    rig_model model;
    rig r;
    rig_options o = {.config = {.kv_window_layers = 1}};
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 5, model.info->n_vocab, 1);
    rig_open(&r, &model, 1, &o);
    assert_int_equal(rig_prompt(&r, ids, 5, 1, 1, NULL), KVR_ERR_ARG);
    rig_close(&r);
    rig_model_close(&model);
}

static void tsp_refuses_windows_by_name_and_the_chain_goes_on(void **state) {
    (void)state;
    int32_t ids[30];
    rig_model model;
    rig r;
    rig_answer a;
    rig_options o = {.change = change};
    slow = 0;
    memset(windows, 0, sizeof windows);
    windows[1] = 1;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 30, model.info->n_vocab, 1);
    rig_open(&r, &model, 3, &o);
    assert_int_equal(rig_prompt_by(&r, KVR_STRATEGY_TSP, ids, 30, 1, 3, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_ERR_PEER_CTX);
    assert_int_equal(a.failed_rank, 1);
    rig_answer_free(&a);
    assert_int_equal(rig_prompt(&r, ids, 30, 1, 3, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&model);
}

static uint32_t victim, after;
static void kill_one(rig *r) {
    if (r->boards[victim].polls > after) r->boards[victim].dead = 1;
}

static void a_dead_board_ends_the_question_in_time_though_others_hold_frames(void **state) {
    (void)state;
    int32_t ids[90];
    gguf_shape shape = RIG_TINY;
    rig_model model;
    shape.n_layers = 9;
    rig_model_make(&model, &shape);
    rig_ids(ids, 90, model.info->n_vocab, 1);
    slow = 0;
    for (uint32_t b = 0; b < BOARDS; b++) windows[b] = 1;
    for (victim = 0; victim < 3; victim++)
        for (after = 15; after < 200; after += 23) {
            rig r;
            rig_answer a, truth;
            rig_options o = {.change = change, .cap_frames = 1, .config = {.frame_tokens = 3, .batch_tokens = 7}};
            rig_open(&r, &model, 4, &o);
            r.before_turn = kill_one;
            assert_int_equal(rig_prompt(&r, ids, 90, 1, 4, NULL), KVR_OK);
            rig_run(&r, &a);
            assert_true(a.took_us < 3u * RIG_TIMEOUT_MS * 1000u);
            rig_answer_free(&a);
            /* the others let go of what they held: they answer again when the board is back */
            r.before_turn = NULL;
            rig_board_close(&r, victim);
            rig_board_open(&r, victim);
            assert_int_equal(kvr_session_serve(r.boards[victim].session), KVR_OK);
            rig_idle(&r, 2u * RIG_TIMEOUT_MS * 1000u);
            rig_single(&model, NULL, ids, 90, 3, &truth);
            assert_int_equal(rig_prompt(&r, ids, 90, 3, 4, NULL), KVR_OK);
            rig_run(&r, &a);
            if (a.status != KVR_OK) fail_msg("victim %u after %u: %s", victim, after, a.error.text);
            assert_true(rig_same(&model, &a, &truth));
            rig_answer_free(&a);
            rig_answer_free(&truth);
            rig_close(&r);
        }
    rig_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_of_any_size_gives_the_same_bits),
        cmocka_unit_test(the_plan_shrinks_by_the_layers_left_out),
        cmocka_unit_test(a_board_with_a_window_only_serves),
        cmocka_unit_test(tsp_refuses_windows_by_name_and_the_chain_goes_on),
        cmocka_unit_test(a_dead_board_ends_the_question_in_time_though_others_hold_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
