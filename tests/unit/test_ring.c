/* TSP, the baseline: keys and values go round a ring to all boards; the answer is one board's, bit for bit, and what is
 * computed and moved is what the paper counts. */
#include "chain_backend.h"

enum { MOST = 120 };

/* What the boards of a rig did. */
static uint64_t products[8];
static uint32_t n_attentions[8];
static kvr_backend inner[8];
static uint32_t slow, small_board, small_ctx;
static wrap wraps[8];
static lazy queues[8];

#define COUNTED(b)                                                                                                     \
    static kvr_status attention_##b(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,                      \
                                    const kvr_attention *how, uint32_t rows, uint32_t first) {                         \
        for (uint32_t t = 0; t < rows; t++) products[b] += first + t + 1;                                              \
        n_attentions[b]++;                                                                                             \
        return inner[b].attention(user, dst, q, k, v, how, rows, first);                                               \
    }
COUNTED(0)
COUNTED(1)
COUNTED(2)
COUNTED(3)
COUNTED(4)

static kvr_status (*const counted[5])(void *, kvr_view, kvr_view, uint32_t, uint32_t, const kvr_attention *, uint32_t,
                                      uint32_t) = {attention_0, attention_1, attention_2, attention_3, attention_4};

static void change(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)r;
    (void)link;
    if (slow == 1) {
        memset(&wraps[board], 0, sizeof wraps[board]);
        wraps[board].slow = 2;
        wrap_backend(&wraps[board], backend);
    }
    if (slow == 2) {
        memset(&queues[board], 0, sizeof queues[board]);
        queues[board].per_done = 9;
        lazy_backend(&queues[board], backend);
    }
    if (small_ctx != 0 && board == small_board) config->ctx_tokens = small_ctx;
    inner[board] = *backend;
    backend->attention = counted[board];
    products[board] = n_attentions[board] = 0;
}

static void ask(rig *r, const rig_model *model, rig_options o, uint32_t boards, const uint32_t *partition,
                kvr_strategy strategy, const int32_t *ids, uint32_t n, uint32_t max_new, rig_answer *a) {
    o.change = change;
    rig_open(r, model, boards, &o);
    assert_int_equal(rig_prompt_by(r, strategy, ids, n, max_new, boards, partition), KVR_OK);
    rig_run(r, a);
    rig_idle(r, RIG_TIMEOUT_MS * 1000u / 16u); /* the lead needs no helper's last layer, so it may be done first */
}

static void the_answer_is_one_boards_bit_for_bit(void **state) {
    (void)state;
    static const uint32_t frames[] = {1, 3, 128}, batches[] = {1, 5, 256};
    uint64_t rng = 5;
    int32_t ids[MOST];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    for (uint32_t round = 0; round < 54; round++) {
        rig r;
        rig_answer truth, a;
        const uint32_t boards = 2 + round % 4, n = boards + (uint32_t)(gguf_random(&rng) % (MOST - 10));
        rig_options o = {.order = gguf_random(&rng) % 3,
                         .cap_frames = 1 + round % 3,
                         .config = {.frame_tokens = frames[round % 3], .batch_tokens = batches[round / 3 % 3]}};
        uint32_t cut[5] = {1, 1, 1, 1, 1};
        for (uint32_t left = n - boards; left > 0; left--) cut[gguf_random(&rng) % boards]++;
        slow = round / 9 % 3;
        rig_ids(ids, n, model.info->n_vocab, round);
        rig_single(&model, &o.config, ids, n, 6, &truth);
        ask(&r, &model, o, boards, round % 2 ? cut : NULL, round % 3 ? KVR_STRATEGY_TSP : KVR_STRATEGY_TSP_SKIP, ids, n,
            6, &a);
        if (a.status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a.status), a.error.text);
        assert_true(rig_same(&model, &a, &truth));
        assert_int_equal(a.ended, 1);
        rig_answer_free(&a);
        rig_answer_free(&truth);
        rig_close(&r);
    }
    slow = 0;
    rig_model_close(&model);
}

/* Arithmetic of the paper's example: 9 tokens on 3 boards, the chain cut 4/3/2. It counts the keys up to a chunk's end
 * for every query of it; here masked products within a chunk are left out too, which makes n (n - 1) / 2 fewer. */
static void products_and_entries_of_the_papers_example(void **state) {
    (void)state;
    enum { N = 9 };
    static const uint32_t cut[3] = {4, 3, 2}, chain_products[3] = {16, 21, 18};
    int32_t ids[N];
    rig r;
    rig_model model;
    rig_answer a;
    kvr_stats stats;
    rig_options o = {.config = {.frame_tokens = 1}};
    gguf_shape shape = RIG_TINY;
    shape.n_layers = 3;
    rig_model_make(&model, &shape);
    rig_ids(ids, N, model.info->n_vocab, 1);
    const uint32_t L = shape.n_layers;

    ask(&r, &model, o, 3, cut, KVR_STRATEGY_CHAIN, ids, N, 0, &a);
    assert_int_equal(a.status, KVR_OK);
    for (uint32_t b = 0; b < 3; b++) {
        const uint64_t masked = cut[b] * (cut[b] - 1) / 2, all = chain_products[b] - masked;
        /* the last layer: nothing on helpers, one row on the lead */
        assert_int_equal(products[b], (L - 1) * all + (b == 2 ? N : 0));
    }
    uint64_t rows = a.stats.frames_in; /* a row of keys and one of values each */
    kvr_session_get_stats(r.boards[1].session, &stats);
    rows += stats.frames_in;
    assert_int_equal(2 * rows, L * 22);
    rig_answer_free(&a);
    rig_close(&r);

    for (int skip = 0; skip < 2; skip++) {
        ask(&r, &model, o, 3, NULL, skip ? KVR_STRATEGY_TSP_SKIP : KVR_STRATEGY_TSP, ids, N, 0, &a);
        assert_int_equal(a.status, KVR_OK);
        rows = 0;
        for (uint32_t b = 0; b < 3; b++) {
            const uint64_t triangle = 3 * 3 * b + 6;
            assert_int_equal(products[b], skip ? (L - 1) * triangle + (b == 2 ? N : 0) : L * 27);
            kvr_session_get_stats(r.boards[b].session, &stats);
            rows += stats.frames_in;
            assert_int_equal(stats.frames_in, L * 6);
            assert_int_equal(stats.frames_out, L * 6);
        }
        assert_int_equal(2 * rows, L * 36);
        rig_answer_free(&a);
        rig_close(&r);
    }
    rig_model_close(&model);
}

/* The full square whatever the micro-batch. */
static void every_board_computes_its_share_of_the_full_square(void **state) {
    (void)state;
    int32_t ids[MOST];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    for (uint32_t batch = 1; batch < 30; batch += 7) {
        rig r;
        rig_answer a;
        static const uint32_t cut[4] = {1, 30, 12, 20};
        rig_options o = {.config = {.batch_tokens = batch}};
        rig_ids(ids, 63, model.info->n_vocab, batch);
        ask(&r, &model, o, 4, cut, KVR_STRATEGY_TSP, ids, 63, 0, &a);
        assert_int_equal(a.status, KVR_OK);
        for (uint32_t b = 0; b < 4; b++) assert_int_equal(products[b], model.info->n_layers * cut[b] * 63);
        rig_answer_free(&a);
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void every_board_needs_a_context_for_the_whole_prompt(void **state) {
    (void)state;
    int32_t ids[40];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 40, model.info->n_vocab, 1);
    small_board = 0;
    small_ctx = 30;
    for (int ring = 0; ring < 2; ring++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = 0};
        ask(&r, &model, o, 3, NULL, ring ? KVR_STRATEGY_TSP_SKIP : KVR_STRATEGY_CHAIN, ids, 40, 1, &a);
        assert_int_equal(a.status, ring ? KVR_ERR_PEER_CTX : KVR_OK);
        if (ring) assert_int_equal(a.failed_rank, 0);
        rig_answer_free(&a);
        rig_close(&r);
    }
    small_ctx = 0;
    rig_model_close(&model);
}

static uint32_t victim;
static void kill_one(rig *r) {
    if (r->boards[victim].polls > 25) r->boards[victim].dead = 1;
}

static void a_dead_board_is_named_within_the_time(void **state) {
    (void)state;
    int32_t ids[60];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 60, model.info->n_vocab, 1);
    for (victim = 0; victim < 2; victim++) {
        rig r;
        rig_answer a, truth;
        rig_options o = {.config = {.frame_tokens = 2, .batch_tokens = 4}};
        o.change = change;
        rig_open(&r, &model, 3, &o);
        r.before_turn = kill_one;
        assert_int_equal(rig_prompt_by(&r, KVR_STRATEGY_TSP, ids, 60, 1, 3, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_true(a.status == KVR_ERR_PEER_LOST || a.status == KVR_ERR_TIMEOUT || a.status == KVR_ERR_PEER_FAILED);
        assert_true(a.took_us < 3u * RIG_TIMEOUT_MS * 1000u);
        rig_answer_free(&a);
        /* and alone it goes on */
        rig_single(&model, &o.config, ids, 60, 5, &truth);
        assert_int_equal(rig_prompt(&r, ids, 60, 5, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_true(rig_same(&model, &a, &truth));
        rig_answer_free(&a);
        rig_answer_free(&truth);
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void strategies_may_change_from_question_to_question(void **state) {
    (void)state;
    static const kvr_strategy strategies[] = {KVR_STRATEGY_TSP, KVR_STRATEGY_CHAIN, KVR_STRATEGY_TSP_SKIP,
                                              KVR_STRATEGY_CHAIN};
    int32_t ids[70];
    rig_model model;
    rig r;
    rig_options o = {.order = 3, .cap_frames = 2, .change = change};
    rig_model_make(&model, &RIG_TINY);
    rig_open(&r, &model, 4, &o);
    for (uint32_t i = 0; i < 8; i++) {
        rig_answer a, truth;
        const uint32_t n = 70 - i;
        rig_ids(ids, n, model.info->n_vocab, i);
        rig_single(&model, NULL, ids, n, 3, &truth);
        assert_int_equal(rig_prompt_by(&r, strategies[i % 4], ids, n, 3, i % 3 == 2 ? 2 : 4, NULL), KVR_OK);
        rig_run(&r, &a);
        if (a.status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a.status), a.error.text);
        assert_true(rig_same(&model, &a, &truth));
        rig_answer_free(&a);
        rig_answer_free(&truth);
    }
    assert_int_equal(rig_prompt_by(&r, (kvr_strategy)1, ids, 9, 1, 4, NULL), KVR_ERR_ARG);
    rig_close(&r);
    rig_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_one_boards_bit_for_bit),
        cmocka_unit_test(products_and_entries_of_the_papers_example),
        cmocka_unit_test(every_board_computes_its_share_of_the_full_square),
        cmocka_unit_test(every_board_needs_a_context_for_the_whole_prompt),
        cmocka_unit_test(a_dead_board_is_named_within_the_time),
        cmocka_unit_test(strategies_may_change_from_question_to_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
