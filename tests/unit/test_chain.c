/* Chain = single, bit for bit; and what boards do to each other between questions. */
#include "chain_backend.h"
#include "kvr_session_state.h"

enum { MOST = 200 };

/* One question to a fresh chain. */
static void ask_chain(const rig_model *model, const rig_options *o, uint32_t boards, const uint32_t *partition,
                      const int32_t *ids, uint32_t n, uint32_t max_new, rig_answer *a) {
    rig r;
    rig_open(&r, model, boards, o);
    assert_int_equal(rig_prompt(&r, ids, n, max_new, boards, partition), KVR_OK);
    rig_run(&r, a);
    rig_close(&r);
}

static void expect_same(const rig_model *model, const rig_answer *a, const rig_answer *truth) {
    if (a->status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a->status), a->error.text != NULL ? a->error.text : "");
    assert_true(rig_same(model, a, truth));
    assert_int_equal(a->ended, 1);
    assert_int_equal(a->error.status, KVR_OK);
}

/* A random cut into `boards` chunks. */
static void random_cut(uint32_t n, uint32_t boards, uint64_t *rng, uint32_t *sizes) {
    for (uint32_t i = 0; i < boards; i++) sizes[i] = 1;
    for (uint32_t left = n - boards; left > 0; left--) sizes[gguf_random(rng) % boards]++;
}

/* --- chain = single ------------------------------------------------------------------------------------------ */

static void a_trained_model_answers_the_same_through_every_partition(void **state) {
    (void)state;
    enum { N = 40, NEW = 64 };
    static const uint32_t cuts[][5] = {
        {40},           {20, 20},        {39, 1},          {1, 39},          {14, 13, 13},
        {1, 1, 38},     {38, 1, 1},      {25, 10, 5},      {10, 10, 10, 10}, {1, 1, 1, 37},
        {17, 1, 21, 1}, {8, 8, 8, 8, 8}, {1, 1, 1, 1, 36}, {36, 1, 1, 1, 1}, {12, 10, 8, 6, 4}};
    static const int32_t start[6] = {1, 403, 407, 261, 378, 432};
    int32_t ids[N];
    rig_model model;
    rig_answer truth, a;
    if (!rig_model_stories(&model)) skip();
    rig_ids(ids, N, model.info->n_vocab, 1);
    memcpy(ids, start, sizeof start);
    rig_single(&model, NULL, ids, N, NEW, &truth);
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        uint32_t boards = 0;
        while (boards < 5 && cuts[c][boards] != 0) boards++;
        rig_options o = {.order = c % 3, .config = {.frame_tokens = c % 4}};
        ask_chain(&model, &o, boards, cuts[c], ids, N, NEW, &a);
        expect_same(&model, &a, &truth);
        assert_int_equal(a.n_ids, NEW);
        assert_int_equal(a.stats.n_boards, boards);
        assert_int_equal(a.stats.own_tokens, cuts[c][boards - 1]);
        rig_answer_free(&a);
    }
    rig_answer_free(&truth);
    rig_model_close(&model);
}

static void every_tensor_type_batch_frame_size_and_order_gives_the_same_bits(void **state) {
    (void)state;
    static const uint32_t dtypes[] = {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    static const uint32_t frames[] = {1, 3, 128}, batches[] = {1, 5, 256}, kv_types[] = {0, KVR_KV_F32};
    uint64_t rng = 99;
    int32_t ids[MOST];
    for (size_t d = 0; d < 4; d++) {
        rig_model model;
        gguf_shape shape = RIG_TINY;
        shape.dtype = dtypes[d];
        shape.seed = 20 + d;
        shape.n_layers = 1 + (uint32_t)d;
        rig_model_make(&model, &shape);
        for (uint32_t round = 0; round < 18; round++) {
            rig_answer truth, a;
            uint32_t sizes[5];
            const uint32_t boards = 2 + round % 4;
            const uint32_t n = boards + (uint32_t)(gguf_random(&rng) % 70);
            rig_options o = {.order = gguf_random(&rng),
                             .cap_frames = 1 + round % 3,
                             .config = {.frame_tokens = frames[round % 3],
                                        .batch_tokens = batches[round / 3 % 3],
                                        .kv_dtype = kv_types[round % 2]}};
            random_cut(n, boards, &rng, sizes);
            rig_ids(ids, n, model.info->n_vocab, round);
            rig_single(&model, &o.config, ids, n, 12, &truth);
            ask_chain(&model, &o, boards, sizes, ids, n, 12, &a);
            expect_same(&model, &a, &truth);
            rig_answer_free(&a);
            rig_answer_free(&truth);
        }
        rig_model_close(&model);
    }
}

/* Frames of 8 bits: a chain gives the bits of one board with the same setting, however pieces travel. */
static void keys_and_values_of_8_bits_on_the_wire_lose_nothing(void **state) {
    (void)state;
    static const uint32_t kv_types[] = {KVR_DTYPE_F16, KVR_KV_F32};
    int32_t ids[MOST];
    gguf_shape shape = RIG_TINY;
    rig_model model;
    shape.model_dim = 64; /* 2 KV heads of 16 */
    rig_model_make(&model, &shape);
    for (uint32_t round = 0; round < 24; round++) {
        rig_answer truth, plain, a;
        const uint32_t boards = 2 + round % 4, n = boards + 7 * round % 61;
        rig_options o = {.order = round,
                         .cap_frames = 1 + round % 3, /* full inboxes: pieces are read back and packed again */
                         .config = {.frame_tokens = 1 + round % 7, .batch_tokens = 1 + round % 5 * 9,
                                    .kv_dtype = kv_types[round % 2], .wire_kv = KVR_DTYPE_Q8_0}};
        rig_ids(ids, n, model.info->n_vocab, round);
        rig_single(&model, &o.config, ids, n, 6, &truth);
        ask_chain(&model, &o, boards, NULL, ids, n, 6, &a);
        expect_same(&model, &a, &truth);
        o.config.wire_kv = 0;
        rig_single(&model, &o.config, ids, n, 6, &plain);
        assert_false(rig_same(&model, &plain, &truth)); /* it is another cache */
        rig_answer_free(&a);
        rig_answer_free(&plain);
        ask_chain(&model, &o, boards, NULL, ids, n, 6, &plain);
        o.config.wire_kv = KVR_DTYPE_Q8_0;
        ask_chain(&model, &o, boards, NULL, ids, n, 6, &a);
        const uint64_t payload = a.stats.bytes_in - a.stats.frames_in * 64;
        const uint64_t plain_payload = plain.stats.bytes_in - plain.stats.frames_in * 64;
        assert_int_equal(payload * (round % 2 ? 128 : 64), plain_payload * 34);
        rig_answer_free(&a);
        rig_answer_free(&plain);
        rig_answer_free(&truth);
    }
    rig_model_close(&model);
}

static void long_chains_answer_the_same(void **state) {
    (void)state;
    static const uint32_t boards[] = {8, 13, 64}, tokens[] = {64, 90, 64, 70, 130};
    int32_t ids[MOST];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    for (size_t b = 0; b < 3; b++)
        for (size_t t = 0; t < 5; t++) {
            rig_answer truth, a;
            rig_options o = {.order = t, .cap_frames = 2, .config = {.ctx_tokens = 160, .frame_tokens = 16}};
            rig_ids(ids, tokens[t], model.info->n_vocab, t);
            rig_single(&model, &o.config, ids, tokens[t], 5, &truth);
            ask_chain(&model, &o, boards[b], NULL, ids, tokens[t], 5, &a);
            expect_same(&model, &a, &truth);
            rig_answer_free(&a);
            rig_answer_free(&truth);
        }
    rig_model_close(&model);
}

static void questions_in_a_row_may_differ_in_boards_and_partition(void **state) {
    (void)state;
    int32_t ids[MOST];
    uint64_t rng = 5;
    rig_model model;
    rig r;
    rig_options o = {.order = 3, .config = {.frame_tokens = 4}};
    rig_model_make(&model, &RIG_TINY);
    rig_open(&r, &model, 5, &o);
    /* rank = place in the list of helpers, so with fewer boards the first helpers take part */
    for (uint32_t q = 0; q < 25; q++) {
        rig_answer truth, a;
        uint32_t sizes[5];
        const uint32_t boards = 1 + (uint32_t)(gguf_random(&rng) % 5), n = boards + (uint32_t)(gguf_random(&rng) % 60);
        random_cut(n, boards, &rng, sizes);
        rig_ids(ids, n, model.info->n_vocab, q);
        rig_single(&model, NULL, ids, n, q % 4, &truth);
        assert_int_equal(rig_prompt(&r, ids, n, q % 4, boards, sizes), KVR_OK);
        rig_run(&r, &a);
        expect_same(&model, &a, &truth);
        rig_answer_free(&a);
        rig_answer_free(&truth);
    }
    rig_close(&r);
    rig_model_close(&model);
}

static void a_context_is_filled_to_its_last_place_by_a_chain_too(void **state) {
    (void)state;
    enum { CTX = 30 };
    int32_t ids[CTX];
    rig_model model;
    rig_options o = {.config = {.ctx_tokens = CTX, .frame_tokens = 1}};
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, CTX, model.info->n_vocab, 1);
    for (uint32_t n = CTX - 2; n <= CTX; n++) {
        rig_answer truth, a;
        rig_single(&model, &o.config, ids, n, 50, &truth);
        ask_chain(&model, &o, 3, NULL, ids, n, 50, &a);
        expect_same(&model, &a, &truth);
        assert_int_equal(a.n_ids, CTX - n + 1);
        rig_answer_free(&a);
        rig_answer_free(&truth);
    }
    rig_model_close(&model);
}

/* --- what travels -------------------------------------------------------------------------------------------- */

static void the_links_carry_exactly_the_keys_and_values_of_all_prefixes(void **state) {
    (void)state;
    static const uint32_t sizes[4] = {9, 14, 3, 7};
    enum { N = 33, FRAME = 4 };
    int32_t ids[N];
    rig_model model;
    rig r;
    rig_answer a;
    rig_options o = {.order = 2, .config = {.frame_tokens = FRAME}};
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 1);
    rig_open(&r, &model, 4, &o);
    assert_int_equal(rig_prompt(&r, ids, N, 0, 4, sizes), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    rig_idle(&r, 100000);
    const uint64_t L = model.info->n_layers;
    const uint64_t row = 2ull * model.info->n_kv_heads * model.info->head_dim; /* bytes of F16 */
    uint64_t entries = 0, prefix = 0, frames = 0, pieces = 0;
    for (uint32_t b = 0; b + 1 < 4; b++) {
        kvr_stats s;
        kvr_session_get_stats(r.boards[b].session, &s);
        assert_int_equal(s.frames_in, L * pieces);
        assert_int_equal(s.bytes_in, L * (2 * prefix * row + pieces * 64));
        prefix += sizes[b];
        pieces += (sizes[b] + FRAME - 1) / FRAME;
        assert_int_equal(s.frames_out, L * pieces);
        assert_int_equal(s.bytes_out, L * (2 * prefix * row + pieces * 64));
        assert_int_equal(s.frames_dropped, 0);
        entries += 2 * prefix;
        frames += pieces;
    }
    assert_int_equal(a.stats.frames_in, L * pieces);
    assert_int_equal(a.stats.bytes_in, L * (2 * prefix * row + pieces * 64));
    assert_int_equal(a.stats.frames_out, 0);
    assert_int_equal(entries, 2 * (9 + 23 + 26)); /* 2 * sum of s_i: KV-Runahead, section 3 */
    assert_true(frames > 0);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&model);
}

typedef struct odd_link {
    kvr_link inner;
    uint32_t full_for; /* sends to the next board that are refused */
    uint32_t version;  /* the wire version that this board speaks; 0 = ours */
} odd_link;

static odd_link odd_links[4];

static kvr_status odd_send(void *user, uint32_t peer, const void *frame, size_t n) {
    odd_link *o = (odd_link *)user;
    uint8_t bytes[4096];
    if (peer == KVRI_SLOT_NEXT && o->full_for > 0) {
        o->full_for--;
        return KVR_AGAIN;
    }
    if (o->version == 0) return o->inner.send(o->inner.user, peer, frame, n);
    assert_true(n <= sizeof bytes);
    memcpy(bytes, frame, n);
    bytes[4] = (uint8_t)o->version;
    return o->inner.send(o->inner.user, peer, bytes, n);
}

static kvr_status odd_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    odd_link *o = (odd_link *)user;
    const kvr_status status = o->inner.recv(o->inner.user, buf, cap, out_bytes);
    if (status == KVR_OK && o->version != 0)
        ((uint8_t *)buf)[4] = (uint8_t)(o->version + 1); /* ours is foreign to it */
    return status;
}

static kvr_status odd_connect(void *user, uint32_t peer, const char *address) {
    odd_link *o = (odd_link *)user;
    return o->inner.connect(o->inner.user, peer, address);
}

static void make_odd_link(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    odd_link *o = &odd_links[board];
    (void)r;
    (void)config;
    (void)backend;
    memset(o, 0, sizeof *o);
    o->inner = *link;
    link->user = o;
    link->send = odd_send;
    link->recv = odd_recv;
    link->connect = odd_connect;
}

static void waits_are_counted_under_their_names(void **state) {
    (void)state;
    enum { N = 24 };
    int32_t ids[N];
    rig_model model;
    rig r;
    rig_answer a;
    kvr_stats first, second;
    rig_options o = {.order = 4, .change = make_odd_link};
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 1);
    rig_open(&r, &model, 3, &o);
    odd_links[0].full_for = 12;
    assert_int_equal(rig_prompt(&r, ids, N, 1, 3, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    kvr_session_get_stats(r.boards[0].session, &first);
    kvr_session_get_stats(r.boards[1].session, &second);
    assert_int_equal(first.wait_prefix_us, 0); /* rank 0 never waits for anybody */
    assert_true(first.wait_send_us > 0);
    assert_true(second.wait_prefix_us > 0);
    assert_true(a.stats.wait_prefix_us > 0);
    assert_int_equal(a.stats.wait_send_us, 0); /* the lead passes nothing on */
    assert_true(a.stats.connect_us > 0 && a.stats.connect_us + a.stats.wait_prefix_us <= a.stats.ttft_us);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&model);
}

/* --- refusals ------------------------------------------------------------------------------------------------ */

typedef struct odd_one {
    uint32_t board, what;
} odd_one;

static void make_odd(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    const odd_one *odd = (const odd_one *)r->options.user;
    (void)backend;
    (void)link;
    if (board != odd->board) return;
    if (odd->what == 1) config->kv_dtype = KVR_KV_F32;
    if (odd->what == 2) config->frame_tokens = 7;
    if (odd->what == 3) config->ctx_tokens = 12;
    if (odd->what == 4) config->chunk_tokens = 5;
    if (odd->what == 5) config->max_boards = 2;
    if (odd->what == 6) config->wire_kv = KVR_DTYPE_Q8_0;
}

static void a_board_that_does_not_fit_is_refused_by_name(void **state) {
    (void)state;
    static const kvr_status wanted[] = {KVR_ERR_PEER_MODEL, KVR_ERR_PEER_KV,  KVR_ERR_PEER_KV,
                                        KVR_ERR_PEER_CTX,   KVR_ERR_PEER_CTX, KVR_ERR_PEER_CTX,
                                        KVR_ERR_PEER_KV};
    enum { N = 30 };
    int32_t ids[N];
    rig_model model, other;
    gguf_shape shape = RIG_TINY;
    shape.model_dim = 64;
    rig_model_make(&model, &shape);
    shape.seed++;
    rig_model_make(&other, &shape);
    rig_ids(ids, N, model.info->n_vocab, 1);
    for (uint32_t what = 0; what < 7; what++)
        for (uint32_t board = 0; board < 3; board++) {
            rig r;
            rig_answer truth, a;
            odd_one odd = {board, what};
            rig_options o = {.change = make_odd, .user = &odd};
            if (what == 0) {
                o.other_model = &other;
                o.other = board;
            }
            rig_open(&r, &model, 4, &o);
            for (int again = 0; again < 2; again++) {
                assert_int_equal(rig_prompt(&r, ids, N, 3, 4, NULL), KVR_OK);
                rig_run(&r, &a);
                if (what == 3 && board == 0) { /* its part of the prompt ends where its context does: it fits */
                    assert_int_equal(a.status, KVR_OK);
                } else {
                    assert_int_equal(a.status, wanted[what]);
                    assert_int_equal(a.failed_rank, board);
                    assert_int_equal(a.error.status, wanted[what]);
                    assert_non_null(a.error.text);
                    assert_true(a.took_us < RIG_TIMEOUT_MS * 1000u);
                }
                rig_answer_free(&a);
            }
            /* the lead on its own still answers, and so does the chain up to the odd board */
            rig_single(&model, NULL, ids, N, 3, &truth);
            assert_int_equal(rig_prompt(&r, ids, N, 3, 1 + (what == 5 ? 0 : board), NULL), KVR_OK);
            rig_run(&r, &a);
            expect_same(&model, &a, &truth);
            rig_answer_free(&a);
            rig_answer_free(&truth);
            rig_close(&r);
        }
    rig_model_close(&other);
    rig_model_close(&model);
}

static void a_board_of_another_wire_version_is_named(void **state) {
    (void)state;
    enum { N = 24 };
    int32_t ids[N];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 1);
    for (uint32_t boards = 2; boards <= 4; boards++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = 6, .change = make_odd_link};
        rig_open(&r, &model, boards, &o);
        odd_links[boards - 2].version = 9;
        for (int again = 0; again < 2; again++) {
            assert_int_equal(rig_prompt(&r, ids, N, 1, boards, NULL), KVR_OK);
            rig_run(&r, &a);
            assert_int_equal(a.status, KVR_ERR_PEER_WIRE);
            assert_int_equal(a.error.wanted, KVRI_WIRE_VERSION);
            assert_int_equal(a.error.had, 9);
            assert_true(a.failed_rank == -1 || a.failed_rank == (int32_t)boards - 2);
            if (boards == 2) assert_int_equal(a.failed_rank, 0);
            assert_true(a.took_us < RIG_TIMEOUT_MS * 1000u);
            rig_answer_free(&a);
        }
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void a_partition_that_does_not_fit_is_refused_before_anything_is_sent(void **state) {
    (void)state;
    static const uint32_t wrong[][3] = {{3, 3, 3}, {5, 5, 0}, {0, 5, 5}, {4, 4, UINT32_MAX}, {11, 1, 1}};
    int32_t ids[10];
    rig_model model;
    rig r;
    rig_options o = {.cap_frames = 2};
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 10, model.info->n_vocab, 1);
    rig_open(&r, &model, 3, &o);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(rig_prompt(&r, ids, 10, 1, 3, wrong[i]), KVR_ERR_PARTITION);
    assert_int_equal(rig_prompt(&r, ids, 2, 1, 3, NULL), KVR_ERR_PARTITION);
    assert_int_equal(rig_prompt(&r, ids, 10, 1, 4, NULL), KVR_ERR_ARG);
    kvr_prompt p;
    memset(&p, 0, sizeof p);
    p.ids = ids;
    p.n_ids = 10;
    p.n_boards = 3;
    p.all_logits = 1;
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_ERR_ARG);
    rig_close(&r);
    rig_model_close(&model);
}

static void calls_that_do_not_fit_the_state_say_so(void **state) {
    (void)state;
    static const int32_t ids[4] = {3, 4, 5, 6};
    static const char *const bad[2] = {"loop:0", "loop:99"};
    rig_model model;
    rig r;
    rig_options o = {.cap_frames = 2};
    rig_model_make(&model, &RIG_TINY);
    rig_open(&r, &model, 3, &o);
    kvr_session *lead = rig_lead(&r), *helper = r.boards[0].session;
    assert_int_equal(kvr_session_dismiss(helper), KVR_ERR_STATE);
    assert_int_equal(kvr_session_serve(helper), KVR_ERR_STATE);
    assert_int_equal(kvr_session_set_boards(helper, bad, 1, "loop:0"), KVR_ERR_STATE);
    assert_int_equal(kvr_session_set_boards(lead, bad, 0, "loop:2"), KVR_ERR_ARG);
    assert_int_equal(kvr_session_set_boards(lead, bad, 3, "loop:2"), KVR_ERR_ARG);
    assert_int_equal(kvr_session_set_boards(lead, bad, 2, "loop:2"), KVR_ERR_ADDRESS);
    assert_int_equal(rig_prompt(&r, ids, 4, 1, 2, NULL), KVR_ERR_ARG); /* half a list is none */
    assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK);
    assert_int_equal(rig_prompt(&r, ids, 4, 1, 3, NULL), KVR_OK);
    assert_int_equal(kvr_session_dismiss(lead), KVR_ERR_STATE);
    assert_int_equal(kvr_session_serve(lead), KVR_ERR_STATE);
    rig_close(&r);
    rig_model_close(&model);
}

/* --- leads and helpers come and go --------------------------------------------------------------------------- */

static void restart(rig *r, uint32_t board) {
    rig_board_close(r, board);
    rig_board_open(r, board);
    if (board + 1 < r->n) assert_int_equal(kvr_session_serve(r->boards[board].session), KVR_OK);
    else assert_int_equal(rig_make_lead(r, board, board), KVR_OK);
}

typedef struct small {
    rig_model model;
    rig_answer truth;
    int32_t ids[24];
} small;

enum { SMALL_NEW = 4, SMALL_N = 24 };

static void small_open(small *s) {
    rig_model_make(&s->model, &RIG_TINY);
    rig_ids(s->ids, SMALL_N, s->model.info->n_vocab, 1);
    rig_single(&s->model, NULL, s->ids, SMALL_N, SMALL_NEW, &s->truth);
}

static void small_close(small *s) {
    rig_answer_free(&s->truth);
    rig_model_close(&s->model);
}

static void small_ask(small *s, rig *r, uint32_t lead, uint32_t boards) {
    kvr_prompt p;
    memset(&p, 0, sizeof p);
    p.ids = s->ids;
    p.n_ids = SMALL_N;
    p.max_new_tokens = SMALL_NEW;
    p.ignore_eos = 1;
    p.n_boards = boards;
    p.on_board_loss = KVR_LOSS_FAIL;
    assert_int_equal(kvr_session_prompt(r->boards[lead].session, &p), KVR_OK);
}

static void small_expect(small *s, rig *r, uint32_t lead, uint32_t boards) {
    rig_answer a;
    small_ask(s, r, lead, boards);
    rig_run_on(r, lead, &a);
    expect_same(&s->model, &a, &s->truth);
    rig_answer_free(&a);
}

static void a_helper_restarted_between_questions_takes_part_at_once(void **state) {
    (void)state;
    small s;
    rig r;
    rig_options o = {.order = 11};
    small_open(&s);
    rig_open(&r, &s.model, 4, &o);
    small_expect(&s, &r, 3, 4);
    for (uint32_t b = 0; b < 3; b++) {
        restart(&r, b);
        const uint64_t before = r.now_us;
        small_expect(&s, &r, 3, 4);
        assert_true(r.now_us - before < RIG_TIMEOUT_MS * 1000u);
    }
    rig_close(&r);
    small_close(&s);
}

static void a_lead_restarted_at_the_same_uptime_is_served(void **state) {
    (void)state;
    small s;
    rig r;
    rig_options o = {.order = 12};
    small_open(&s);
    rig_open(&r, &s.model, 3, &o);
    for (int life = 0; life < 4; life++) {
        for (int q = 0; q <= life; q++) small_expect(&s, &r, 2, 3);
        r.now_us = 0; /* a board without a clock of its own: its session number is the same again */
        restart(&r, 2);
    }
    rig_close(&r);
    small_close(&s);
}

static void a_lead_restarted_in_the_middle_of_a_question_is_served_in_the_end(void **state) {
    (void)state;
    small s;
    rig_options o = {.order = 13};
    small_open(&s);
    for (uint32_t turns = 5; turns < 200; turns += 13) {
        rig r;
        rig_answer a;
        kvr_event event;
        uint32_t tries = 0;
        rig_open(&r, &s.model, 3, &o);
        small_ask(&s, &r, 2, 3);
        for (uint32_t i = 0; i < turns; i++) rig_turn(&r, &event);
        restart(&r, 2);
        do { /* until the helpers have given the lead up that is no more */
            assert_true(++tries < 8);
            small_ask(&s, &r, 2, 3);
            rig_run(&r, &a);
            if (a.status != KVR_OK) {
                assert_int_equal(a.status, KVR_ERR_PEER_BUSY);
                assert_in_range(a.failed_rank, 0, 1);
                rig_idle(&r, RIG_TIMEOUT_MS * 1000u / 2);
            }
            if (a.status == KVR_OK) expect_same(&s.model, &a, &s.truth);
            rig_answer_free(&a);
        } while (a.status != KVR_OK);
        rig_close(&r);
    }
    small_close(&s);
}

static void a_busy_board_turns_a_second_lead_away_and_finishes_for_the_first(void **state) {
    (void)state;
    small s;
    rig r;
    rig_answer a;
    kvr_event event;
    rig_options o = {.order = 14, .cap_frames = 4, .config = {.batch_tokens = 1}};
    small_open(&s);
    rig_open(&r, &s.model, 4, &o);
    /* board 2 becomes a lead of its own; boards 0 and 1 help both */
    assert_int_equal(kvr_session_stop(r.boards[2].session), KVR_OK);
    assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK);
    for (uint32_t round = 0; round < 6; round++) {
        const uint32_t first = round % 2 != 0 ? 2 : 3, second = 5 - first;
        small_ask(&s, &r, first, 3);
        for (uint32_t i = 0; i < 60; i++) rig_turn(&r, &event);
        small_ask(&s, &r, second, 3);
        for (uint32_t i = 0; r.boards[second].last >= 0; i++) {
            assert_true(i < 100000);
            rig_turn(&r, &event);
        }
        assert_int_equal(r.boards[second].last, KVR_ERR_PEER_BUSY);
        assert_in_range(kvr_session_failed_rank(r.boards[second].session), 0, 1);
        rig_run_on(&r, first, &a);
        assert_int_equal(a.status, KVR_OK);
        rig_answer_free(&a);
        /* both boards refused; what the other one said must not spoil this question */
        small_expect(&s, &r, second, 3);
        small_expect(&s, &r, first, 3);
    }
    rig_close(&r);
    small_close(&s);
}

static void dismissed_helpers_serve_the_next_lead(void **state) {
    (void)state;
    small s;
    rig r;
    rig_options o = {.order = 15};
    small_open(&s);
    rig_open(&r, &s.model, 4, &o);
    assert_int_equal(kvr_session_stop(r.boards[2].session), KVR_OK);
    assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK);
    for (int round = 0; round < 3; round++) {
        small_expect(&s, &r, 3, 3);
        assert_int_equal(kvr_session_dismiss(r.boards[3].session), KVR_OK);
        small_expect(&s, &r, 2, 3);
        assert_int_equal(kvr_session_dismiss(r.boards[2].session), KVR_OK);
    }
    rig_close(&r);
    small_close(&s);
}

static void a_lead_may_become_a_helper_and_back(void **state) {
    (void)state;
    small s;
    rig r;
    rig_options o = {.order = 16};
    small_open(&s);
    rig_open(&r, &s.model, 2, &o);
    for (uint32_t round = 0; round < 4; round++) {
        small_expect(&s, &r, 1, 2);
        small_expect(&s, &r, 1, 1);
        assert_int_equal(kvr_session_stop(r.boards[0].session), KVR_OK);
        assert_int_equal(kvr_session_serve(r.boards[1].session), KVR_OK);
        const char *const helper[1] = {"loop:1"};
        assert_int_equal(kvr_session_set_boards(r.boards[0].session, helper, 1, "loop:0"), KVR_OK);
        small_expect(&s, &r, 0, 2);
        assert_int_equal(kvr_session_stop(r.boards[1].session), KVR_OK);
        assert_int_equal(kvr_session_serve(r.boards[0].session), KVR_OK);
        assert_int_equal(rig_make_lead(&r, 1, 1), KVR_OK);
    }
    rig_close(&r);
    small_close(&s);
}

/* --- stops --------------------------------------------------------------------------------------------------- */

static wrap wraps[8];

static void make_slow(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)config;
    (void)link;
    memset(&wraps[board], 0, sizeof wraps[board]);
    wraps[board].slow = *(const uint32_t *)r->options.user;
    wrap_backend(&wraps[board], backend);
}

static void a_lead_stopped_after_any_number_of_turns_answers_the_next_question(void **state) {
    (void)state;
    small s;
    rig r;
    rig_answer a;
    kvr_event event;
    uint32_t slow = 3;
    rig_options o = {.order = 17, .cap_frames = 1, .change = make_slow, .user = &slow, .config = {.frame_tokens = 5}};
    small_open(&s);
    rig_open(&r, &s.model, 3, &o);
    int32_t other[SMALL_N];
    rig_ids(other, SMALL_N, s.model.info->n_vocab, 77);
    for (uint32_t turns = 0; turns < 420; turns += 3) {
        assert_int_equal(rig_prompt(&r, other, SMALL_N, SMALL_NEW, 3, NULL), KVR_OK);
        for (uint32_t i = 0; i < turns; i++) rig_turn(&r, &event);
        assert_int_equal(kvr_session_stop(rig_lead(&r)), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_OK);
        assert_int_equal(a.error.status, KVR_OK);
        rig_answer_free(&a);
        assert_int_equal(wrap_under_way(&wraps[2]), 0);
        small_expect(&s, &r, 2, 3);
    }
    rig_close(&r);
    small_close(&s);
}

static lazy lazies[4];

static void make_lazy(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)config;
    (void)link;
    memset(&lazies[board], 0, sizeof lazies[board]);
    lazies[board].per_done = *(const uint32_t *)r->options.user + board;
    lazy_backend(&lazies[board], backend);
}

static void devices_that_run_behind_give_the_same_bits(void **state) {
    (void)state;
    small s;
    small_open(&s);
    for (uint32_t per_done = 1; per_done < 60; per_done += 6) {
        rig r;
        rig_options o = {.order = per_done,
                         .change = make_lazy,
                         .user = &per_done,
                         .config = {.frame_tokens = 3, .batch_tokens = per_done % 9}};
        rig_open(&r, &s.model, 3, &o);
        for (int q = 0; q < 3; q++) small_expect(&s, &r, 2, 3);
        small_expect(&s, &r, 2, 1);
        rig_close(&r);
    }
    small_close(&s);
}

/* What a stopped job left in the queues must not overwrite what the next job's boards send. */
static void a_stopped_job_leaves_nothing_behind_in_a_device(void **state) {
    (void)state;
    small s;
    rig r;
    rig_answer a;
    kvr_event event;
    uint32_t per_done = 2;
    rig_options o = {.order = 31, .cap_frames = 8, .change = make_lazy, .user = &per_done};
    small_open(&s);
    rig_open(&r, &s.model, 3, &o);
    int32_t other[SMALL_N];
    static const uint32_t early[3] = {1, 1, SMALL_N - 2}; /* own chunks lie where the next job has prefixes */
    static const uint32_t late[3] = {SMALL_N - 2, 1, 1};
    rig_ids(other, SMALL_N, s.model.info->n_vocab, 79);
    for (uint32_t turns = 0; turns < 600; turns += 5) {
        assert_int_equal(rig_prompt(&r, other, SMALL_N, SMALL_NEW, 3, early), KVR_OK);
        for (uint32_t i = 0; i < turns; i++) rig_turn(&r, &event);
        assert_int_equal(kvr_session_stop(rig_lead(&r)), KVR_OK);
        rig_run(&r, &a);
        rig_answer_free(&a);
        assert_int_equal(rig_prompt(&r, s.ids, SMALL_N, SMALL_NEW, 3, late), KVR_OK);
        rig_run(&r, &a);
        expect_same(&s.model, &a, &s.truth);
        rig_answer_free(&a);
    }
    rig_close(&r);
    small_close(&s);
}

/* A question of the board's own overwrites the cache that the stopped job was reading. */
static void a_helper_stopped_after_any_number_of_turns_never_spoils_a_text(void **state) {
    (void)state;
    small s;
    uint32_t slow = 3;
    rig_options o = {.order = 18, .cap_frames = 2, .change = make_slow, .user = &slow, .config = {.frame_tokens = 2}};
    small_open(&s);
    for (uint32_t turns = 1; turns < 400; turns += 7) {
        rig r;
        rig_answer a;
        kvr_event event;
        const uint32_t who = turns % 2;
        kvr_session *helper;
        rig_open(&r, &s.model, 3, &o);
        helper = r.boards[who].session;
        small_ask(&s, &r, 2, 3);
        uint32_t over = 0;
        for (uint32_t i = 0; i < turns && !over; i++) over = rig_turn(&r, &event) == 2 && event.kind == KVR_EVENT_END;
        assert_int_equal(kvr_session_stop(helper), KVR_OK);
        kvr_status status = KVR_AGAIN;
        for (uint32_t i = 0; i < 1000 && status == KVR_AGAIN; i++) status = kvr_session_poll(helper, &event);
        assert_int_equal(status, KVR_END);
        assert_int_equal(wrap_under_way(&wraps[who]), 0);
        int32_t other[SMALL_N];
        rig_ids(other, SMALL_N, s.model.info->n_vocab, 78);
        kvr_prompt p;
        memset(&p, 0, sizeof p);
        p.ids = other;
        p.n_ids = SMALL_N;
        assert_int_equal(kvr_session_prompt(helper, &p), KVR_OK);
        assert_int_equal(kvr_session_run(helper, NULL, NULL), KVR_OK);
        assert_int_equal(kvr_session_serve(helper), KVR_OK);
        if (!over) {
            rig_run(&r, &a);
            if (a.status == KVR_OK) {
                assert_memory_equal(a.ids + a.n_ids - 1, s.truth.ids + SMALL_NEW - 1, sizeof a.ids[0]);
            } else {
                /* LOST: its last word found the lead's inbox full */
                if (a.status != KVR_ERR_PEER_FAILED && a.status != KVR_ERR_TIMEOUT && a.status != KVR_ERR_PEER_LOST)
                    fail_msg("turns %u: %s %s", turns, kvr_status_name(a.status), a.error.text);
                if (a.status == KVR_ERR_PEER_FAILED) assert_int_equal(a.failed_rank, who);
            }
            rig_answer_free(&a);
        }
        small_expect(&s, &r, 2, 3);
        rig_close(&r);
    }
    small_close(&s);
}

/* --- time ---------------------------------------------------------------------------------------------------- */

static void decoding_may_take_longer_than_the_timeout(void **state) {
    (void)state;
    small s;
    rig r;
    rig_answer a;
    kvr_event event;
    rig_options o = {.cap_frames = 2};
    small_open(&s);
    rig_open(&r, &s.model, 3, &o);
    small_ask(&s, &r, 2, 3);
    do rig_turn(&r, &event);
    while (event.kind != KVR_EVENT_TOKEN);
    r.now_us += 5u * RIG_TIMEOUT_MS * 1000u;
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    assert_int_equal(a.n_ids, SMALL_NEW - 1);
    assert_memory_equal(a.ids, s.truth.ids + 1, a.n_ids * sizeof a.ids[0]);
    rig_answer_free(&a);
    small_expect(&s, &r, 2, 3);
    rig_close(&r);
    small_close(&s);
}

/* A helper whose device is still at it when the lead has all it wants must take the next job nevertheless. */
static void prefill_only_questions_in_a_row_find_slow_helpers_ready(void **state) {
    (void)state;
    small s;
    small_open(&s);
    for (uint32_t slow = 0; slow < 12; slow++) {
        rig r;
        rig_answer a;
        const uint32_t reads = slow % 3;
        rig_options o = {.order = slow, .change = make_slow, .user = (void *)(uintptr_t)&reads};
        rig_open(&r, &s.model, 3, &o);
        wraps[0].slow_work = slow;
        wraps[1].slow_work = 2 * slow;
        wraps[2].slow = 0;
        for (int q = 0; q < 6; q++) {
            assert_int_equal(rig_prompt(&r, s.ids, SMALL_N, 0, 3, NULL), KVR_OK);
            rig_run(&r, &a);
            assert_int_equal(a.status, KVR_OK);
            assert_memory_equal(a.logits, s.truth.logits, s.model.info->n_vocab * sizeof *a.logits);
            rig_answer_free(&a);
        }
        rig_close(&r);
    }
    small_close(&s);
}

static kvr_link flood_link;

static void flood(rig *r) {
    static const uint8_t garbage[100] = {'K', 'V', 'R', 'F', 1, 0, 4, 0};
    (void)r;
    for (int i = 0; i < 64; i++)
        if (flood_link.send(flood_link.user, 0, garbage, sizeof garbage) != KVR_OK) return;
}

static void an_inbox_that_never_runs_empty_does_not_stop_the_clock(void **state) {
    (void)state;
    small s;
    small_open(&s);
    for (uint32_t round = 0; round < 3; round++) {
        const uint32_t victim = round == 0 ? 0 : 2; /* a helper, the lead while it gathers, the lead while they work */
        rig r;
        rig_answer a;
        char address[KVR_ADDRESS_CAP];
        rig_options o = {.cap_frames = 40, .spare_inboxes = 1, .config = {.peer_timeout_ms = 50, .batch_tokens = 1}};
        rig_open(&r, &s.model, 3, &o);
        assert_int_equal(kvr_loop_link(r.loop, 3, &flood_link), KVR_OK);
        assert_int_equal(flood_link.connect(flood_link.user, 0, rig_address(address, victim)), KVR_OK);
        small_ask(&s, &r, 2, 3);
        kvr_event event;
        while (r.boards[0].session->chain.state != (round < 2 ? KVRI_CHAIN_READY : KVRI_CHAIN_RUN))
            rig_turn(&r, &event);
        r.before_turn = flood;
        if (victim == 2) {
            r.boards[1].dead = 1;
            rig_run(&r, &a);
            assert_true(a.status == KVR_ERR_PEER_LOST || a.status == KVR_ERR_TIMEOUT);
            assert_in_range(a.failed_rank, 0, 1); /* the one that is dead, or the one that cannot get a word in */
            rig_answer_free(&a);
        } else {
            r.boards[2].dead = 1;
            rig_idle(&r, 4u * 50000u);
            assert_int_equal(kvr_session_get_error(r.boards[0].session)->status, KVR_ERR_PEER_LOST);
        }
        rig_close(&r);
    }
    small_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trained_model_answers_the_same_through_every_partition),
        cmocka_unit_test(every_tensor_type_batch_frame_size_and_order_gives_the_same_bits),
        cmocka_unit_test(keys_and_values_of_8_bits_on_the_wire_lose_nothing),
        cmocka_unit_test(long_chains_answer_the_same),
        cmocka_unit_test(questions_in_a_row_may_differ_in_boards_and_partition),
        cmocka_unit_test(a_context_is_filled_to_its_last_place_by_a_chain_too),
        cmocka_unit_test(the_links_carry_exactly_the_keys_and_values_of_all_prefixes),
        cmocka_unit_test(waits_are_counted_under_their_names),
        cmocka_unit_test(a_board_that_does_not_fit_is_refused_by_name),
        cmocka_unit_test(a_board_of_another_wire_version_is_named),
        cmocka_unit_test(a_partition_that_does_not_fit_is_refused_before_anything_is_sent),
        cmocka_unit_test(calls_that_do_not_fit_the_state_say_so),
        cmocka_unit_test(a_helper_restarted_between_questions_takes_part_at_once),
        cmocka_unit_test(a_lead_restarted_at_the_same_uptime_is_served),
        cmocka_unit_test(a_lead_restarted_in_the_middle_of_a_question_is_served_in_the_end),
        cmocka_unit_test(a_busy_board_turns_a_second_lead_away_and_finishes_for_the_first),
        cmocka_unit_test(dismissed_helpers_serve_the_next_lead),
        cmocka_unit_test(a_lead_may_become_a_helper_and_back),
        cmocka_unit_test(a_lead_stopped_after_any_number_of_turns_answers_the_next_question),
        cmocka_unit_test(devices_that_run_behind_give_the_same_bits),
        cmocka_unit_test(a_stopped_job_leaves_nothing_behind_in_a_device),
        cmocka_unit_test(a_helper_stopped_after_any_number_of_turns_never_spoils_a_text),
        cmocka_unit_test(decoding_may_take_longer_than_the_timeout),
        cmocka_unit_test(prefill_only_questions_in_a_row_find_slow_helpers_ready),
        cmocka_unit_test(an_inbox_that_never_runs_empty_does_not_stop_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
