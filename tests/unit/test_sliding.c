/*
 * Layers with a sliding window keep the latest tokens only: the bits of a cache that keeps all, from one board and from
 * chains, whatever is asked after what. The rig fills memory with what is no number, so nothing is read that was not
 * written.
 */
#include "chain_backend.h"

enum { BOARDS = 6, CTX = 256, MOST = 230 };

static uint32_t window, windows_in;

static void add_windows(gguf_maker *m) {
    gguf_key_u32(m, "llama.attention.sliding_window", window);
    if (windows_in != 0) gguf_key_u32(m, "llama.attention.sliding_window_pattern", windows_in);
}

/* Of every `in` layers the last one sees all tokens; 0: none does. */
static void make_model(rig_model *model, uint32_t tokens, uint32_t in) {
    gguf_shape shape = RIG_TINY;
    window = tokens;
    windows_in = in;
    shape.n_layers = 5;
    shape.model_dim = 64; /* keys of 32 numbers, so that they can travel in 8 bits */
    shape.more = add_windows;
    rig_model_make(model, &shape);
}

static void some_cut(uint32_t n, uint32_t boards, uint64_t *rng, uint32_t *cut) {
    for (uint32_t b = 0; b < boards; b++) cut[b] = 1;
    for (uint32_t left = n - boards; left > 0; left--) cut[gguf_random(rng) % boards]++;
}

static uint32_t largest(const uint32_t *cut, uint32_t boards) {
    uint32_t most = 0;
    for (uint32_t b = 0; b < boards; b++) most = cut[b] > most ? cut[b] : most;
    return most;
}

/* The same memory for all tokens; alone, so that nothing but the window sets its size. */
static void truth_of(const rig_model *model, const kvr_config *like, const int32_t *ids, uint32_t n, uint32_t max_new,
                     rig_answer *out) {
    kvr_config config = *like;
    config.max_boards = 1;
    config.chunk_tokens = 0;
    config.all_keys = 1;
    rig_single(model, &config, ids, n, max_new, out);
}

static void a_ring_gives_the_bits_of_a_cache_of_all_tokens(void **state) {
    (void)state;
    static const struct { uint32_t window, in; } kinds[] = {{1, 0},  {2, 3},  {5, 0},   {7, 2},   {31, 3},
                                                            {64, 0}, {65, 6}, {100, 3}, {1000, 0}};
    static const uint32_t batches[] = {1, 7, 32, 64, 90};
    int32_t ids[MOST];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        rig_model model;
        make_model(&model, kinds[k].window, kinds[k].in);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const uint32_t n = (uint32_t)(MOST - 17 * k - 3 * b);
            const kvr_config config = {.max_boards = 1,
                                       .batch_tokens = batches[b],
                                       .kv_dtype = (k + b) % 3 == 0 ? KVR_KV_F32 : 0,
                                       .wire_kv = (k + b) % 5 == 0 ? KVR_DTYPE_Q8_0 : 0};
            rig_answer truth, a;
            rig_ids(ids, n, model.info->n_vocab, k + b);
            truth_of(&model, &config, ids, n, 24, &truth);
            rig_single(&model, &config, ids, n, 24, &a);
            if (!rig_same(&model, &truth, &a)) fail_msg("window %u, batches of %u", kinds[k].window, batches[b]);
            rig_answer_free(&truth);
            rig_answer_free(&a);
        }
        rig_model_close(&model);
    }
}

static uint64_t hash_of(const kvr_session *s, uint32_t n_vocab, uint64_t before) {
    const uint8_t *bytes = (const uint8_t *)(const void *)kvr_session_logits(s);
    for (size_t i = 0; i < n_vocab * sizeof(float); i++) before = (before ^ bytes[i]) * 0x100000001b3ull;
    return before;
}

/* Of the logits of every token from logits_from on. */
static uint64_t all_logits(rig *r, const int32_t *ids, uint32_t n, uint32_t logits_from, uint32_t keep,
                           uint32_t *out_n) {
    kvr_event event;
    kvr_prompt p = {.struct_bytes = sizeof p, .ids = ids, .n_ids = n, .all_logits = 1, .logits_from = logits_from,
                    .keep_tokens = keep};
    uint64_t hash = 1;
    *out_n = 0;
    assert_int_equal(kvr_session_prompt(rig_lead(r), &p), KVR_OK);
    do {
        rig_turn(r, &event);
        assert_true(r->boards[0].last >= KVR_OK);
        if (event.kind == KVR_EVENT_LOGITS) {
            hash = hash_of(rig_lead(r), r->model->info->n_vocab, hash);
            (*out_n)++;
        }
    } while (event.kind != KVR_EVENT_END);
    return hash;
}

static void logits_of_every_token_are_the_same_too(void **state) {
    (void)state;
    enum { N = 200 };
    int32_t ids[N];
    rig_model model;
    make_model(&model, 9, 3);
    rig_ids(ids, N, model.info->n_vocab, 3);
    for (uint32_t from = 0; from < N; from += 33) {
        rig ring, all;
        uint32_t n_ring, n_all;
        rig_open(&ring, &model, 1, &(rig_options){.config = {.max_boards = 1, .batch_tokens = 11}});
        rig_open(&all, &model, 1, &(rig_options){.config = {.max_boards = 1, .batch_tokens = 64, .all_keys = 1}});
        assert_true(kvr_session_get_plan(rig_lead(&ring))->ring_tokens < N);
        assert_true(all_logits(&ring, ids, N, from, 0, &n_ring) == all_logits(&all, ids, N, from, 0, &n_all));
        assert_int_equal(n_ring, N - from);
        assert_int_equal(n_all, N - from);
        /* keys that the ring has lost are computed again, without events of their own */
        assert_true(all_logits(&ring, ids, N, 0, 100, &n_ring) == all_logits(&all, ids, N, 0, 100, &n_all));
        assert_int_equal(n_ring, N - 100);
        rig_close(&ring);
        rig_close(&all);
    }
    rig_model_close(&model);
}

static uint64_t kv_bytes(const kvr_plan *plan) {
    for (uint32_t i = 0; i < plan->n_rows; i++)
        if (strcmp(plan->rows[i].name, "keys and values") == 0) return plan->rows[i].bytes;
    return 0;
}

static kvr_plan plan_of(const rig_model *model, const kvr_config *config) {
    kvr_cpu cpu = {0};
    kvr_backend backend;
    kvr_plan plan;
    kvr_cpu_backend(&cpu, &backend);
    assert_int_equal(kvr_plan_make(model->model, config, &backend, &plan, NULL), KVR_OK);
    return plan;
}

static void the_plan_has_a_row_for_each_token_that_is_kept(void **state) {
    (void)state;
    static const struct {
        kvr_config config;
        uint32_t ring, n_rings;
    } cases[] = {
        {{.max_boards = 1, .batch_tokens = 7}, 64, 4}, /* 9 - 1 + 7, up to whole blocks of 64 */
        {{.max_boards = 1, .batch_tokens = 56}, 64, 4},
        {{.max_boards = 1, .batch_tokens = 57}, 128, 4},
        {{.max_boards = 1, .batch_tokens = 200}, 256, 0}, /* not less than the context */
        {{.max_boards = 1, .batch_tokens = 7, .all_keys = 1}, 256, 0},
        {{.max_boards = 3}, 256, 0},                                          /* chunk_tokens is the whole context */
        {{.max_boards = 3, .chunk_tokens = 100, .frame_tokens = 20}, 128, 4}, /* 8 + 100 + 19 */
        {{.max_boards = 3, .chunk_tokens = 100, .frame_tokens = 22}, 192, 4},
        /* 0 and 3, 1 and 4 */
        {{.max_boards = 3, .chunk_tokens = 100, .frame_tokens = 20, .kv_window_layers = 3}, 128, 2},
        {{.max_boards = 3, .chunk_tokens = 100, .frame_tokens = 20, .kv_window_layers = 2}, 128, 1}, /* 1 and 3 */
    };
    const uint64_t row = 2ull * 32 * 2; /* a key and a value of 32 numbers, F16 */
    rig_model model;
    make_model(&model, 9, 3); /* layer 2 sees all tokens, layers 0, 1, 3, 4 nine */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const kvr_plan plan = plan_of(&model, &cases[i].config);
        const uint32_t layers = cases[i].config.kv_window_layers ? cases[i].config.kv_window_layers : 5;
        assert_int_equal(plan.ring_tokens, cases[i].ring);
        assert_int_equal(kv_bytes(&plan), row * (cases[i].n_rings * cases[i].ring + (layers - cases[i].n_rings) * CTX));
    }
    rig_model_close(&model);
}

/* --- chains -------------------------------------------------------------------------------------------------- */

static uint32_t kept_layers[BOARDS], slow, most_chunk;
static wrap wraps[BOARDS];
static lazy queues[BOARDS];

static void change(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)link;
    if (board + 1 < r->n) config->kv_window_layers = kept_layers[board];
    config->chunk_tokens = most_chunk + board % 3; /* boards need not agree */
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

static void chains_of_rings_give_the_bits_of_one_board_that_keeps_all(void **state) {
    (void)state;
    static const struct { uint32_t window, in; } kinds[] = {{1, 0}, {2, 2}, {6, 3}, {20, 0}, {33, 6}, {70, 3}};
    uint64_t rng = 5;
    int32_t ids[MOST];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        rig_model model;
        make_model(&model, kinds[k].window, kinds[k].in);
        for (uint32_t round = 0; round < 15; round++) {
            rig r;
            rig_answer truth, a;
            const uint32_t boards = 2 + round % 5;
            rig_options o = {.order = round % 4 == 0 ? 0 : gguf_random(&rng),
                             .cap_frames = 1 + round % 4,
                             .change = change,
                             .config = {.ctx_tokens = CTX,
                                        .frame_tokens = 1 + (uint32_t)(gguf_random(&rng) % 40),
                                        .batch_tokens = 1 + (uint32_t)(gguf_random(&rng) % 40),
                                        .kv_dtype = round % 3 == 0 ? KVR_KV_F32 : 0,
                                        .wire_kv = round % 5 == 4 ? KVR_DTYPE_Q8_0 : 0}};
            slow = round % 3;
            for (uint32_t b = 0; b < BOARDS; b++)
                kept_layers[b] = round % 2 == 0 ? 0 : (uint32_t)(gguf_random(&rng) % 6); /* 0: all layers */
            for (int again = 0; again < 3; again++) { /* later questions find the keys of others in the ring */
                uint32_t cut[BOARDS];
                const uint32_t n = again == 1 ? boards + 3 : (uint32_t)(boards + gguf_random(&rng) % (MOST - BOARDS));
                some_cut(n, boards, &rng, cut);
                if (again == 0) {
                    most_chunk = largest(cut, boards);
                    rig_open(&r, &model, boards, &o);
                }
                if (largest(cut, boards) > most_chunk) continue;
                rig_ids(ids, n, model.info->n_vocab, round + 100 * (uint64_t)again);
                truth_of(&model, &o.config, ids, n, 10, &truth);
                assert_int_equal(rig_prompt(&r, ids, n, 10, boards, cut), KVR_OK);
                rig_run(&r, &a);
                if (a.status != KVR_OK)
                    fail_msg("window %u, round %u: %s: %s", kinds[k].window, round, kvr_status_name(a.status),
                             a.error.text);
                if (!rig_same(&model, &a, &truth)) fail_msg("window %u, round %u.%d", kinds[k].window, round, again);
                rig_answer_free(&a);
                rig_answer_free(&truth);
            }
            rig_close(&r);
        }
        rig_model_close(&model);
    }
}

static void only_what_a_chunk_sees_travels(void **state) {
    (void)state;
    enum { N = 90, F = 8 };
    static const uint32_t cut[3] = {40, 30, 20};
    int32_t ids[N];
    rig_model model;
    rig r;
    rig_answer a;
    kvr_stats s;
    make_model(&model, 12, 3); /* 4 of 5 layers see 11 tokens before a chunk */
    rig_ids(ids, N, model.info->n_vocab, 1);
    rig_open(&r, &model, 3, &(rig_options){.config = {.frame_tokens = F}});
    assert_int_equal(rig_prompt(&r, ids, N, 1, 3, cut), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    /* Rank 1 begins at 40: token 29 is in the piece [24, 32), so 2 of 5 pieces and 16 tokens. The lead begins at 70:
     * token 59 is in the piece [56, 64) of rank 1's chunk, so pieces of 8 and 6. */
    const uint64_t row = 2ull * 32 * 2, to_1 = 4 * 2 + 5, to_lead = 4 * 2 + 5 + 4;
    kvr_session_get_stats(r.boards[1].session, &s);
    assert_int_equal(s.frames_in, to_1);
    assert_int_equal(s.bytes_in, to_1 * 64 + (4 * 16 + 40) * row);
    assert_int_equal(s.frames_out, to_lead);
    assert_int_equal(a.stats.frames_in, to_lead);
    assert_int_equal(a.stats.bytes_in, to_lead * 64 + (4 * 14 + 70) * row);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&model);
}

static void tsp_wants_the_keys_of_all_tokens_and_says_who_lacks_them(void **state) {
    (void)state;
    enum { N = 96 };
    static const uint32_t even[3] = {32, 32, 32};
    int32_t ids[N];
    rig_model model;
    make_model(&model, 12, 3);
    rig_ids(ids, N, model.info->n_vocab, 1);
    for (int all = 0; all < 3; all++) { /* nobody, the lead, everybody */
        rig r;
        rig_answer a, truth;
        const kvr_config config = {.frame_tokens = 8, .chunk_tokens = all == 2 ? 0 : 32};
        rig_open(&r, &model, 3, &(rig_options){.config = config});
        if (all == 1) {
            rig_board_close(&r, 2);
            r.options.config.all_keys = 1;
            rig_board_open(&r, 2);
            assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK);
        }
        truth_of(&model, &config, ids, N, 5, &truth);
        const kvr_status asked = rig_prompt_by(&r, KVR_STRATEGY_TSP, ids, N, 5, 3, even);
        assert_int_equal(asked, all == 0 ? KVR_ERR_ARG : KVR_OK);
        if (all == 0) assert_non_null(strstr(kvr_session_get_error(rig_lead(&r))->text, "all_keys"));
        if (all > 0) {
            rig_run(&r, &a);
            assert_int_equal(a.status, all == 1 ? KVR_ERR_PEER_CTX : KVR_OK);
            if (all == 1) assert_string_equal(a.error.detail, "loop:0");
            if (all == 2) assert_true(rig_same(&model, &a, &truth));
            rig_answer_free(&a);
        }
        assert_int_equal(rig_prompt(&r, ids, N, 5, 3, even), KVR_OK); /* the chain itself goes on */
        rig_run(&r, &a);
        assert_true(rig_same(&model, &a, &truth));
        rig_answer_free(&a);
        rig_answer_free(&truth);
        rig_close(&r);
    }
    rig_model_close(&model);
}

/* --- kept tokens --------------------------------------------------------------------------------------------- */

typedef struct talk {
    rig r;
    int32_t ids[CTX + 64];
    uint32_t n, cached; /* ids so far; of these those that are in the cache */
} talk;

/* Asks with the first `keep` of the ids kept and `more` new ones behind; the answer must be that of a new session. */
static void ask(talk *t, uint32_t keep, uint32_t more, uint32_t max_new, uint64_t seed, uint32_t own_first) {
    kvr_prompt p = {
        .struct_bytes = sizeof p, .ids = t->ids, .keep_tokens = keep, .max_new_tokens = max_new, .ignore_eos = 1};
    rig_answer truth, a;
    rig_ids(t->ids + keep, more, t->r.model->info->n_vocab, seed);
    p.n_ids = t->n = keep + more;
    truth_of(t->r.model, &t->r.options.config, t->ids, t->n, max_new, &truth);
    assert_int_equal(kvr_session_prompt(rig_lead(&t->r), &p), KVR_OK);
    rig_run(&t->r, &a);
    assert_int_equal(a.status, KVR_OK);
    if (!rig_same(t->r.model, &a, &truth)) fail_msg("%u kept, %u new", keep, more);
    assert_int_equal(a.stats.own_first, own_first);
    for (uint32_t i = 0; i < a.n_ids; i++) t->ids[t->n + i] = a.ids[i];
    t->cached = t->n + (a.n_ids > 0 ? a.n_ids - 1 : 0);
    t->n += a.n_ids;
    rig_answer_free(&a);
    rig_answer_free(&truth);
}

static void kept_tokens_behind_the_ring_are_computed_again(void **state) {
    (void)state;
    talk t = {0};
    rig_model model;
    make_model(&model, 12, 3); /* rings of 64: 11 and batches of 53 */
    rig_open(&t.r, &model, 1, &(rig_options){.config = {.max_boards = 1, .batch_tokens = 20}});
    assert_int_equal(kvr_session_get_plan(rig_lead(&t.r))->ring_tokens, 64);
    ask(&t, 0, 40, 10, 1, 0);
    ask(&t, 3, 50, 10, 2, 3); /* all are still there */
    assert_int_equal(t.cached, 62);
    ask(&t, t.cached, 2, 10, 3, 62);    /* goes on: tokens up to 73 */
    ask(&t, 20, 30, 10, 4, 20);         /* back to 20, which sees 9 and more: 73 - 64 */
    ask(&t, 19, 30, 10, 5, 0);          /* 19 sees 8, which 72 has overwritten, though the last text ended at 59 */
    ask(&t, 19, 1, 3, 6, 19);           /* now it is there again */
    ask(&t, t.cached, 150, 40, 7, 22);  /* many times around */
    ask(&t, t.cached, 5, 5, 8, 211);
    ask(&t, t.cached - 2, 5, 1, 9, 218);
    assert_int_equal(t.cached, 223);
    ask(&t, 170, 5, 1, 10, 170); /* sees 159 and more: 223 - 64 */
    ask(&t, 169, 5, 1, 11, 0);
    ask(&t, 169, 5, 1, 12, 169);
    rig_close(&t.r);
    rig_model_close(&model);
}

static void any_conversation_answers_as_a_new_session(void **state) {
    (void)state;
    uint64_t rng = 77;
    static const uint32_t windows[] = {1, 3, 12, 40};
    for (size_t w = 0; w < 4; w++) {
        talk t = {0};
        rig_model model;
        make_model(&model, windows[w], w % 2 == 0 ? 0 : 3);
        rig_open(&t.r, &model, 1, &(rig_options){.config = {.max_boards = 1, .batch_tokens = 9}});
        for (uint32_t round = 0; round < 60; round++) {
            kvr_stats s;
            kvr_event event;
            const uint32_t keep = t.cached == 0 || t.cached > 200 ? 0 : (uint32_t)(gguf_random(&rng) % (t.cached + 1));
            const uint32_t more = 1 + (uint32_t)(gguf_random(&rng) % 40), max_new = (uint32_t)(gguf_random(&rng) % 12);
            kvr_prompt p = {.struct_bytes = sizeof p, .ids = t.ids, .keep_tokens = keep, .max_new_tokens = 3};
            rig_answer a, truth;
            if (round % 7 == 6) { /* stopped somewhere */
                rig_ids(t.ids + keep, more, model.info->n_vocab, round);
                p.n_ids = keep + more;
                assert_int_equal(kvr_session_prompt(rig_lead(&t.r), &p), KVR_OK);
                for (uint32_t i = 0; i < round; i++) rig_turn(&t.r, &event);
                assert_int_equal(kvr_session_stop(rig_lead(&t.r)), KVR_OK);
                rig_run(&t.r, &a);
                rig_answer_free(&a);
                t.cached = 0; /* of unknown length: begin again, or with what was kept if that is cached */
                p.n_ids = keep + 1;
                if (keep > 0 && kvr_session_prompt(rig_lead(&t.r), &p) == KVR_OK) {
                    rig_run(&t.r, &a);
                    truth_of(&model, &t.r.options.config, t.ids, keep + 1, 3, &truth);
                    if (a.n_ids == truth.n_ids) assert_true(rig_same(&model, &a, &truth)); /* else it met an end */
                    rig_answer_free(&a);
                    rig_answer_free(&truth);
                    t.cached = keep;
                }
                continue;
            }
            rig_ids(t.ids + keep, more, model.info->n_vocab, round);
            truth_of(&model, &t.r.options.config, t.ids, keep + more, max_new, &truth);
            p.n_ids = keep + more;
            p.max_new_tokens = max_new;
            p.ignore_eos = 1;
            assert_int_equal(kvr_session_prompt(rig_lead(&t.r), &p), KVR_OK);
            rig_run(&t.r, &a);
            if (!rig_same(&model, &a, &truth)) fail_msg("window %u, round %u: %u kept", windows[w], round, keep);
            kvr_session_get_stats(rig_lead(&t.r), &s);
            assert_true(s.own_first == keep || s.own_first == 0);
            for (uint32_t i = 0; i < a.n_ids; i++) t.ids[keep + more + i] = a.ids[i];
            t.cached = keep + more + (a.n_ids > 0 ? a.n_ids - 1 : 0);
            rig_answer_free(&a);
            rig_answer_free(&truth);
        }
        rig_close(&t.r);
        rig_model_close(&model);
    }
}

static void what_a_chain_brought_is_kept_as_far_as_it_goes(void **state) {
    (void)state;
    enum { N = 120 };
    static const uint32_t cut[3] = {50, 40, 30};
    rig_model model;
    make_model(&model, 12, 3);
    for (uint32_t keep = 80; keep < N; keep += 3) {
        talk t = {0};
        rig_answer a;
        rig_open(&t.r, &model, 3, &(rig_options){.config = {.frame_tokens = 7, .chunk_tokens = keep % 2 ? 60 : 0}});
        rig_ids(t.ids, N, model.info->n_vocab, 1);
        assert_int_equal(rig_prompt(&t.r, t.ids, N, 1, 3, cut), KVR_OK);
        rig_run(&t.r, &a);
        assert_int_equal(a.status, KVR_OK);
        rig_answer_free(&a);
        /* the lead's chunk begins at 90 and sees 79; alone it takes no more than its chunk */
        if (keep < 90 && keep % 2) {
            kvr_prompt p = {
                .struct_bytes = sizeof p, .ids = t.ids, .n_ids = keep + 10, .keep_tokens = keep, .max_new_tokens = 1};
            assert_int_equal(kvr_session_prompt(rig_lead(&t.r), &p), KVR_ERR_PARTITION);
        } else {
            ask(&t, keep, 10, 5, keep, keep < 90 ? 0 : keep);
        }
        rig_close(&t.r);
    }
    rig_model_close(&model);
}

static uint32_t victim, after;
static void kill_one(rig *r) {
    if (r->boards[victim].polls > after) r->boards[victim].dead = 1;
}

static void a_lost_board_changes_nothing_in_the_answer(void **state) {
    (void)state;
    enum { N = 150 };
    int32_t ids[N];
    rig_model model;
    rig_answer truth;
    make_model(&model, 12, 3);
    rig_ids(ids, N, model.info->n_vocab, 9);
    kvr_config config = {.ctx_tokens = CTX, .batch_tokens = 9, .frame_tokens = 8};
    truth_of(&model, &config, ids, N, 6, &truth);
    for (uint32_t chunk = 0; chunk <= 80; chunk += 80) /* 80: the boards that are left hold it together, in rings */
        for (victim = 0; victim < 2; victim++)
            for (after = 10; after < 120; after += 17) {
                rig r;
                rig_answer a;
                config.chunk_tokens = chunk;
                rig_open(&r, &model, 3, &(rig_options){.config = config, .go_on = 1});
                r.before_turn = kill_one;
                assert_int_equal(rig_prompt(&r, ids, N, 6, 3, NULL), KVR_OK);
                rig_run(&r, &a);
                if (a.status != KVR_OK)
                    fail_msg("chunk %u, victim %u after %u: %s", chunk, victim, after, a.error.text);
                assert_true(rig_same(&model, &a, &truth));
                rig_answer_free(&a);
                rig_close(&r);
            }
    rig_answer_free(&truth);
    rig_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_gives_the_bits_of_a_cache_of_all_tokens),
        cmocka_unit_test(logits_of_every_token_are_the_same_too),
        cmocka_unit_test(the_plan_has_a_row_for_each_token_that_is_kept),
        cmocka_unit_test(chains_of_rings_give_the_bits_of_one_board_that_keeps_all),
        cmocka_unit_test(only_what_a_chunk_sees_travels),
        cmocka_unit_test(tsp_wants_the_keys_of_all_tokens_and_says_who_lacks_them),
        cmocka_unit_test(kept_tokens_behind_the_ring_are_computed_again),
        cmocka_unit_test(any_conversation_answers_as_a_new_session),
        cmocka_unit_test(what_a_chain_brought_is_kept_as_far_as_it_goes),
        cmocka_unit_test(a_lost_board_changes_nothing_in_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
