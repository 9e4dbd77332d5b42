/* Boards that die, hang or lie, links that damage, lose and delay, devices that fail: every question ends in bounded
 * time with the right text or a named error, and the next question is answered. */
#include "chain_fixture.h"
#include "kvr_session_state.h"

static void ask(const fixture *f, rig *r, uint32_t boards, rig_answer *a) {
    assert_int_equal(rig_prompt(r, f->ids, N, NEW, boards, NULL), KVR_OK);
    rig_run(r, a);
}

/* A clean question, another text than before so that nothing old can pass for new. */
static void expect_clean(const fixture *f, rig *r, uint32_t boards) {
    rig_answer a;
    assert_int_equal(rig_prompt(r, f->other, N, NEW, boards, NULL), KVR_OK);
    rig_run(r, &a);
    if (a.status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a.status), a.error.text != NULL ? a.error.text : "");
    assert_true(rig_same(&f->model, &a, &f->other_truth));
    rig_answer_free(&a);
}

static void expect_right_or_named(const fixture *f, const rig_answer *a) {
    if (a->status == KVR_OK) {
        assert_true(rig_same(&f->model, a, &f->truth));
        assert_int_equal(a->ended, 1);
        return;
    }
    assert_int_equal(a->ended, 0);
    assert_int_equal(a->error.status, a->status);
    assert_non_null(a->error.text);
    assert_true(a->failed_rank >= -1 && a->failed_rank < BOARDS - 1);
    /* what was told so far is right, too */
    assert_true(a->n_ids <= NEW);
    assert_memory_equal(a->ids, f->truth.ids, a->n_ids * sizeof a->ids[0]);
}

/* --- a hostile link ------------------------------------------------------------------------------------------ */

enum { DROP = 1, COPY = 2, CUT = 4, FLIP = 8, DELAY = 16, FULL = 32, ALL_KINDS = 63, HELD = 12 };

typedef struct hostile {
    kvr_link inner;
    uint64_t rng;
    uint32_t kinds, one_in; /* how often */
    uint32_t full_for;      /* sends that are refused from now on */
    struct {
        uint8_t *bytes;
        size_t n;
        uint32_t peer, calls_left;
    } held[HELD];
    uint32_t harmed;
} hostile;

static int strikes(hostile *h, uint32_t kind) {
    return (h->kinds & kind) != 0 && gguf_random(&h->rng) % h->one_in == 0 && ++h->harmed != 0;
}

static void release_held(hostile *h, int all) {
    for (uint32_t i = 0; i < HELD; i++) {
        if (h->held[i].bytes == NULL) continue;
        if (h->held[i].calls_left > 0 && !all) {
            h->held[i].calls_left--;
            continue;
        }
        if (h->inner.send(h->inner.user, h->held[i].peer, h->held[i].bytes, h->held[i].n) == KVR_AGAIN && !all)
            continue;
        free(h->held[i].bytes);
        h->held[i].bytes = NULL;
    }
}

static int hold(hostile *h, uint32_t peer, const void *frame, size_t n) {
    for (uint32_t i = 0; i < HELD; i++) {
        if (h->held[i].bytes != NULL) continue;
        h->held[i].bytes = (uint8_t *)malloc(n);
        if (h->held[i].bytes == NULL) abort();
        memcpy(h->held[i].bytes, frame, n);
        h->held[i].n = n;
        h->held[i].peer = peer;
        h->held[i].calls_left = (uint32_t)(gguf_random(&h->rng) % 400);
        return 1;
    }
    return 0;
}

static kvr_status hostile_send(void *user, uint32_t peer, const void *frame, size_t n) {
    hostile *h = (hostile *)user;
    release_held(h, 0);
    if (h->full_for > 0) {
        h->full_for--;
        return KVR_AGAIN;
    }
    if (strikes(h, FULL)) h->full_for = (uint32_t)(gguf_random(&h->rng) % 3000);
    if (strikes(h, DROP)) return KVR_OK;
    if (strikes(h, DELAY) && hold(h, peer, frame, n)) return KVR_OK;
    if (strikes(h, COPY)) hold(h, peer, frame, n);
    if (strikes(h, CUT)) return h->inner.send(h->inner.user, peer, frame, 1 + (size_t)(gguf_random(&h->rng) % n));
    if (strikes(h, FLIP)) {
        uint8_t *bytes = (uint8_t *)malloc(n);
        if (bytes == NULL) abort();
        memcpy(bytes, frame, n);
        const uint64_t bit = gguf_random(&h->rng) % (8 * n);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        const kvr_status status = h->inner.send(h->inner.user, peer, bytes, n);
        free(bytes);
        return status;
    }
    return h->inner.send(h->inner.user, peer, frame, n);
}

static kvr_status hostile_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    hostile *h = (hostile *)user;
    release_held(h, 0);
    return h->inner.recv(h->inner.user, buf, cap, out_bytes);
}

static kvr_status hostile_connect(void *user, uint32_t peer, const char *address) {
    hostile *h = (hostile *)user;
    return h->inner.connect(h->inner.user, peer, address);
}

static hostile hostiles[BOARDS];
static wrap wraps[BOARDS];
static lazy lazies[BOARDS];

static void make_hostile(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    hostile *h = &hostiles[board];
    const uint64_t seed = *(const uint64_t *)r->options.user;
    (void)config;
    memset(h, 0, sizeof *h);
    h->inner = *link;
    h->rng = seed * 1000 + board;
    if (seed % 3 == 1) { /* a device whose reads take their time */
        memset(&wraps[board], 0, sizeof wraps[board]);
        wraps[board].slow = (uint32_t)(seed / 3 % 5);
        wraps[board].slow_work = (uint32_t)(seed / 5 % 9);
        wrap_backend(&wraps[board], backend);
    }
    if (seed % 3 == 2) { /* one that runs behind */
        memset(&lazies[board], 0, sizeof lazies[board]);
        lazies[board].per_done = 4 + (uint32_t)(seed / 3 % 7) * 5;
        lazy_backend(&lazies[board], backend);
    }
    h->kinds = (uint32_t)(seed % 7 == 6 ? (uint64_t)ALL_KINDS : 1u << (seed % 7)) & ALL_KINDS;
    h->one_in = 4u << (seed / 7 % 5); /* from every fourth frame to a rare event */
    link->user = h;
    link->send = hostile_send;
    link->recv = hostile_recv;
    link->connect = hostile_connect;
}

static void a_hostile_link_never_makes_a_wrong_text_or_a_hang(void **state) {
    (void)state;
    fixture f;
    uint32_t right = 0, wrong = 0;
    fixture_open(&f);
    for (uint64_t seed = 0; seed < 400; seed++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = seed + 1,
                         .cap_frames = 3,
                         .change = make_hostile,
                         .user = &seed,
                         .config = {.frame_tokens = 1 + (uint32_t)seed % 6}};
        rig_open(&r, &f.model, 2 + (uint32_t)seed % 3, &o);
        for (int q = 0; q < 2; q++) {
            ask(&f, &r, r.n, &a);
            expect_right_or_named(&f, &a);
            if (a.status == KVR_OK) right++;
            else wrong++;
            assert_true(a.took_us < 12 * LIMIT_US);
            rig_answer_free(&a);
        }
        for (uint32_t b = 0; b < r.n; b++) hostiles[b].kinds = hostiles[b].full_for = 0;
        expect_clean(&f, &r, r.n); /* while the last delayed frames still arrive */
        for (uint32_t b = 0; b < r.n; b++) release_held(&hostiles[b], 1);
        expect_clean(&f, &r, r.n);
        rig_close(&r);
    }
    assert_true(right > 100 && wrong > 100); /* both were tried */
    fixture_close(&f);
}

/* --- boards that die ----------------------------------------------------------------------------------------- */

static uint32_t polls_of_a_clean_run(const fixture *f, const rig_options *o, uint32_t board) {
    rig r;
    rig_answer a;
    rig_open(&r, &f->model, BOARDS, o);
    ask(f, &r, BOARDS, &a);
    assert_int_equal(a.status, KVR_OK);
    const uint32_t polls = r.boards[board].polls;
    rig_answer_free(&a);
    rig_close(&r);
    return polls;
}

static uint32_t dies, dies_at;

static void let_die(rig *r) {
    if (r->boards[dies].polls >= dies_at) r->boards[dies].dead = 1;
}

static void a_helper_that_dies_at_any_moment_is_named_in_time(void **state) {
    (void)state;
    fixture f;
    rig_options o = {.order = 21, .cap_frames = 2, .config = {.frame_tokens = 3, .batch_tokens = 4}};
    fixture_open(&f);
    for (dies = 0; dies + 1 < BOARDS; dies++) {
        const uint32_t polls = polls_of_a_clean_run(&f, &o, dies);
        uint32_t lost = 0, survived = 0;
        assert_true(polls > 20);
        for (dies_at = 0; dies_at <= polls; dies_at++) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            r.before_turn = let_die;
            ask(&f, &r, BOARDS, &a);
            expect_right_or_named(&f, &a);
            if (a.status != KVR_OK) {
                assert_true(a.status == KVR_ERR_PEER_LOST || a.status == KVR_ERR_TIMEOUT);
                assert_int_equal(a.failed_rank, dies);
                lost++;
            } else {
                survived++;
            }
            assert_true(a.took_us < 2 * LIMIT_US);
            rig_answer_free(&a);
            /* another process takes the dead one's place */
            r.before_turn = NULL;
            rig_board_close(&r, dies);
            rig_board_open(&r, dies);
            assert_int_equal(kvr_session_serve(r.boards[dies].session), KVR_OK);
            expect_clean(&f, &r, BOARDS);
            rig_close(&r);
        }
        assert_true(lost > 10 && survived > 0);
    }
    fixture_close(&f);
}

static void a_helper_that_hangs_and_comes_back_does_no_harm(void **state) {
    (void)state;
    fixture f;
    rig_options o = {.order = 22, .cap_frames = 2, .config = {.frame_tokens = 3}};
    fixture_open(&f);
    for (dies = 0; dies + 1 < BOARDS; dies++) {
        const uint32_t polls = polls_of_a_clean_run(&f, &o, dies);
        for (dies_at = 0; dies_at <= polls; dies_at++) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            r.before_turn = let_die;
            ask(&f, &r, BOARDS, &a);
            expect_right_or_named(&f, &a);
            rig_answer_free(&a);
            r.before_turn = NULL;
            r.boards[dies].dead = 0; /* with all that waits in its inbox */
            expect_clean(&f, &r, BOARDS);
            rig_close(&r);
        }
    }
    fixture_close(&f);
}

static void helpers_of_a_lead_that_dies_at_any_moment_are_idle_in_time(void **state) {
    (void)state;
    fixture f;
    rig_options o = {.order = 23, .cap_frames = 2, .config = {.frame_tokens = 3}};
    fixture_open(&f);
    dies = BOARDS - 1;
    const uint32_t polls = polls_of_a_clean_run(&f, &o, dies);
    for (dies_at = 1; dies_at <= polls; dies_at++) {
        rig r;
        kvr_event event;
        rig_open(&r, &f.model, BOARDS, &o);
        assert_int_equal(rig_prompt(&r, f.ids, N, NEW, BOARDS, NULL), KVR_OK);
        r.before_turn = let_die;
        while (!r.boards[dies].dead) rig_turn(&r, &event);
        rig_idle(&r, 2 * LIMIT_US);
        for (uint32_t b = 0; b + 1 < BOARDS; b++) assert_int_equal(r.boards[b].session->chain.state, KVRI_CHAIN_IDLE);
        r.before_turn = NULL;
        rig_board_close(&r, dies);
        rig_board_open(&r, dies);
        assert_int_equal(rig_make_lead(&r, dies, dies), KVR_OK);
        expect_clean(&f, &r, BOARDS);
        rig_close(&r);
    }
    fixture_close(&f);
}

/* --- devices that fail --------------------------------------------------------------------------------------- */

static void make_wraps(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)config;
    (void)link;
    memset(&wraps[board], 0, sizeof wraps[board]);
    wraps[board].slow = *(const uint32_t *)r->options.user;
    wrap_backend(&wraps[board], backend);
}

/* Every call of a short run fails once, on one board after the other. */
static void sweep_device(uint32_t boards, uint32_t slow) {
    fixture f;
    rig r;
    rig_options o = {.order = 24,
                     .cap_frames = 2,
                     .change = make_wraps,
                     .user = &slow,
                     .config = {.frame_tokens = 3, .batch_tokens = 8}};
    fixture_open(&f);
    rig_open(&r, &f.model, boards, &o);
    for (uint32_t b = 0; b < boards; b++) {
        wrap *w = &wraps[b];
        uint32_t named = 0;
        for (uint64_t at = 1;; at++) {
            rig_answer a;
            w->calls = w->failed = 0;
            w->fail_at = at;
            ask(&f, &r, boards, &a);
            expect_right_or_named(&f, &a);
            if (a.status != KVR_OK) {
                named++;
                assert_int_equal(w->failed, 1);
                assert_int_equal(a.status, b + 1 == boards ? KVR_ERR_DEVICE : KVR_ERR_PEER_FAILED);
                assert_int_equal(a.failed_rank, b + 1 == boards ? -1 : (int32_t)b);
                if (b + 1 == boards) assert_string_equal(a.error.text, "this call was to fail");
                else assert_non_null(strstr(a.error.detail, "this call was to fail"));
                assert_true(a.took_us < LIMIT_US);
            }
            rig_answer_free(&a);
            const int all = w->failed == 0;
            w->fail_at = 0;
            expect_clean(&f, &r, boards);
            for (uint32_t i = 0; i < boards; i++) w->fail_at = 0;
            if (all) break;
        }
        assert_true(named > 30);
    }
    rig_close(&r);
    fixture_close(&f);
}

static void a_device_call_that_fails_on_a_single_board_is_named(void **state) {
    (void)state;
    sweep_device(1, 0);
    sweep_device(1, 2);
}

static void a_device_call_that_fails_on_any_board_of_a_chain_is_named(void **state) {
    (void)state;
    sweep_device(3, 0);
    sweep_device(3, 2);
}

/* --- links that fail ----------------------------------------------------------------------------------------- */

typedef struct failing {
    kvr_link inner;
    uint64_t calls, fail_at;
    uint32_t failed;
} failing;

static failing failings[BOARDS];

static int link_fails(failing *f) {
    if (++f->calls != f->fail_at) return 0;
    f->failed++;
    return 1;
}

static kvr_status failing_send(void *user, uint32_t peer, const void *frame, size_t n) {
    failing *f = (failing *)user;
    return link_fails(f) ? KVR_ERR_LINK : f->inner.send(f->inner.user, peer, frame, n);
}

static kvr_status failing_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    failing *f = (failing *)user;
    return link_fails(f) ? KVR_ERR_LINK : f->inner.recv(f->inner.user, buf, cap, out_bytes);
}

static kvr_status failing_connect(void *user, uint32_t peer, const char *address) {
    failing *f = (failing *)user;
    return link_fails(f) ? KVR_ERR_LINK : f->inner.connect(f->inner.user, peer, address);
}

static void make_failing(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)r;
    (void)config;
    (void)backend;
    memset(&failings[board], 0, sizeof failings[board]);
    failings[board].inner = *link;
    link->user = &failings[board];
    link->send = failing_send;
    link->recv = failing_recv;
    link->connect = failing_connect;
}

static void a_link_call_that_fails_on_any_board_is_named(void **state) {
    (void)state;
    enum { P = 3 };
    fixture f;
    rig r;
    rig_options o = {.order = 25, .cap_frames = 2, .change = make_failing, .config = {.frame_tokens = 6}};
    fixture_open(&f);
    rig_open(&r, &f.model, P, &o);
    for (uint32_t b = 0; b < P; b++) {
        failing *l = &failings[b];
        uint32_t named = 0;
        for (uint64_t at = 1;; at++) {
            rig_answer a;
            l->calls = l->failed = 0;
            l->fail_at = at;
            ask(&f, &r, P, &a);
            expect_right_or_named(&f, &a);
            if (a.status != KVR_OK) {
                named++;
                assert_int_equal(l->failed, 1);
                if (b + 1 == P) assert_int_equal(a.status, KVR_ERR_LINK);
                else
                    assert_true(a.status == KVR_ERR_PEER_FAILED || a.status == KVR_ERR_TIMEOUT ||
                                a.status == KVR_ERR_PEER_LOST);
                assert_true(a.took_us < 3 * LIMIT_US);
            }
            rig_answer_free(&a);
            const int all = l->failed == 0;
            l->fail_at = 0;
            expect_clean(&f, &r, P);
            if (all) break;
        }
        assert_true(named > 5);
    }
    rig_close(&r);
    fixture_close(&f);
}

/* --- boards that lie ----------------------------------------------------------------------------------------- */

static uint32_t some(uint64_t *rng, uint32_t often, uint32_t most) {
    const uint64_t x = gguf_random(rng);
    if (x % 16 == 0) return (uint32_t)(x >> 32);
    return x % 3 == 0 ? often : (uint32_t)((x >> 8) % (most + 1u));
}

/* A well-formed frame of any content, under a session of its own or the one it is given. */
static size_t lie(uint64_t *rng, uint64_t session, uint32_t epoch, uint8_t *bytes) {
    uint8_t *payload = bytes + KVRI_FRAME_HEADER;
    kvri_frame f;
    memset(&f, 0, sizeof f);
    f.kind = (uint16_t)some(rng, KVRI_FRAME_KV, 8);
    f.session = session;
    f.epoch = some(rng, epoch, 4);
    f.rank = some(rng, 0, 4);
    f.layer = some(rng, 0, 3);
    f.first = some(rng, 0, 30);
    f.count = some(rng, 3, 30);
    f.dtype = some(rng, KVR_DTYPE_F16, 2);
    const uint32_t kind = some(rng, f.kind, 8);
    if (kind == KVRI_FRAME_HELLO) {
        kvri_hello h;
        memset(&h, 0, sizeof h);
        h.kv_dtype = some(rng, 1, 2);
        h.frame_tokens = some(rng, 3, 4);
        snprintf(h.address, sizeof h.address, "loop:%u", (unsigned)some(rng, 3, 9));
        f.payload_bytes = kvri_hello_put(&h, payload);
    } else if (kind == KVRI_FRAME_JOB) {
        uint32_t cuts[6], at = 0;
        int32_t ids[40];
        for (uint32_t i = 0; i < 6; i++) cuts[i] = at, at += some(rng, 4, 9);
        for (uint32_t i = 0; i < 40; i++) ids[i] = (int32_t)some(rng, 5, 60);
        f.payload_bytes =
            kvri_job_put(some(rng, 0, 3), 2 + some(rng, 0, 2) % 3, 0, some(rng, 0, 3), "loop:3", cuts, ids,
                         some(rng, 4, 30) % 40, payload);
    } else if (kind == KVRI_FRAME_STATUS) {
        kvri_report report;
        memset(&report, 0, sizeof report);
        report.stage = some(rng, KVRI_STAGE_WORKING, 6);
        report.status = -(int32_t)(some(rng, 26, 40) % 100);
        report.progress = some(rng, 1, 100);
        f.payload_bytes = kvri_report_put(&report, payload);
    } else {
        f.payload_bytes = kind == KVRI_FRAME_KV ? 2 * (f.count % 64) * 32 : some(rng, 0, 200) % 200;
        for (uint32_t i = 0; i < f.payload_bytes; i++) payload[i] = (uint8_t)gguf_random(rng);
    }
    kvri_frame_seal(&f, bytes);
    return KVRI_FRAME_HEADER + f.payload_bytes;
}

static struct {
    kvr_link link;
    uint64_t rng, session;
    uint32_t epoch, on;
} liar;

static void tell_lies(rig *r) {
    uint8_t bytes[KVRI_FRAME_HEADER + 8192];
    (void)r;
    if (!liar.on || gguf_random(&liar.rng) % 4 != 0) return;
    const size_t n = lie(&liar.rng, liar.session, liar.epoch, bytes);
    const uint32_t peer = (uint32_t)(gguf_random(&liar.rng) % 3);
    liar.link.send(liar.link.user, peer, bytes, n);
    if (gguf_random(&liar.rng) % 8 == 0) liar.epoch++;
}

static void begin_lies(rig *r, uint64_t seed, uint64_t session) {
    char address[KVR_ADDRESS_CAP];
    memset(&liar, 0, sizeof liar);
    assert_int_equal(kvr_loop_link(r->loop, 3, &liar.link), KVR_OK);
    for (uint32_t b = 0; b < 3; b++)
        assert_int_equal(liar.link.connect(liar.link.user, b, rig_address(address, b)), KVR_OK);
    liar.rng = seed;
    liar.session = session;
    liar.epoch = 1;
    liar.on = 1;
    r->before_turn = tell_lies;
}

/* A stranger with a session of its own can keep boards busy, but neither spoil a text nor outlast its own silence. */
static void a_stranger_who_lies_to_all_boards_spoils_no_text(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (uint64_t seed = 1; seed <= 60; seed++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = seed, .cap_frames = 6, .spare_inboxes = 1, .config = {.frame_tokens = 3}};
        rig_open(&r, &f.model, 3, &o);
        begin_lies(&r, seed, 0x1234);
        rig_idle(&r, LIMIT_US / 4);
        for (int q = 0; q < 3; q++) {
            ask(&f, &r, 3, &a);
            expect_right_or_named(&f, &a);
            assert_true(a.took_us < 12 * LIMIT_US);
            rig_answer_free(&a);
        }
        liar.on = 0;
        rig_idle(&r, 2 * LIMIT_US);
        expect_clean(&f, &r, 3);
        rig_close(&r);
    }
    fixture_close(&f);
}

/* With the lead's own session even the text may be wrong (there is no secret in it), but nothing else may. */
static void a_liar_who_knows_the_session_crashes_nobody_and_hangs_nobody(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (uint64_t seed = 1; seed <= 60; seed++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = seed, .cap_frames = 6, .spare_inboxes = 1, .config = {.frame_tokens = 3}};
        rig_open(&r, &f.model, 3, &o);
        begin_lies(&r, seed, rig_lead(&r)->chain.session);
        for (int q = 0; q < 4; q++) {
            ask(&f, &r, 3, &a);
            if (a.status != KVR_OK) assert_int_equal(a.error.status, a.status);
            assert_true(strcmp(kvr_status_name(a.status), "KVR_UNKNOWN") != 0);
            rig_answer_free(&a);
        }
        liar.on = 0;
        rig_idle(&r, 2 * LIMIT_US);
        for (uint32_t b = 0; b < 2; b++) assert_int_equal(r.boards[b].session->chain.state, KVRI_CHAIN_IDLE);
        assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK); /* a new session leaves the lies behind */
        expect_clean(&f, &r, 3);
        rig_close(&r);
    }
    fixture_close(&f);
}

/* --- a board that lies about itself --------------------------------------------------------------------------- */

typedef enum fib { FIB_WORKS_BEFORE_HELLO, FIB_EPOCH, FIB_EPOCHS, FIB_SPAN } fib;

static struct {
    kvr_link link;
    fib what;
    uint32_t progress;
    int told;
} fibber;

static void fib_send(rig *r, kvri_frame *f, uint8_t *bytes) {
    f->session = rig_lead(r)->chain.session;
    f->clock_us = r->now_us;
    kvri_frame_seal(f, bytes);
    fibber.link.send(fibber.link.user, 0, bytes, (size_t)KVRI_FRAME_HEADER + f->payload_bytes);
}

/* In the place of board 0, which is dead; FIB_SPAN beside it. */
static void tell_fibs(rig *r) {
    static uint8_t inbox[70000];
    const kvri_chain *c = &rig_lead(r)->chain;
    uint8_t bytes[1024], *payload = bytes + KVRI_FRAME_HEADER;
    kvri_frame f, heard;
    size_t n;
    memset(&f, 0, sizeof f);
    f.epoch = c->epoch;
    if (fibber.what == FIB_SPAN) {
        const kvri_spans head = {1, 0};
        const kvr_span span = {.from_us = 5, .to_us = UINT64_MAX - 5, .kind = KVR_SPAN_COMPUTE};
        if (c->state != KVRI_CHAIN_RUN || fibber.told++ != 0) return;
        f.kind = KVRI_FRAME_SPANS;
        f.count = 1;
        f.payload_bytes = kvri_spans_put(&head, &span, 1, payload);
        fib_send(r, &f, bytes);
        return;
    }
    int asked = fibber.what == FIB_EPOCHS;
    while (fibber.link.recv(fibber.link.user, inbox, sizeof inbox, &n) == KVR_OK)
        asked |= kvri_frame_open(inbox, n, &heard) == KVR_OK && heard.kind == KVRI_FRAME_HELLO;
    if (asked && fibber.what != FIB_WORKS_BEFORE_HELLO && c->state == KVRI_CHAIN_HELLO) {
        const kvri_hello hello = kvri_chain_hello(rig_lead(r));
        f.kind = KVRI_FRAME_HELLO;
        f.epoch = fibber.what == FIB_EPOCH ? UINT32_MAX - 1 : c->epoch + (1u << 20);
        f.payload_bytes = kvri_hello_put(&hello, payload);
        fib_send(r, &f, bytes);
        return;
    }
    if (fibber.what != FIB_WORKS_BEFORE_HELLO || r->polls % 8 != 0) return;
    kvri_report report;
    memset(&report, 0, sizeof report);
    report.stage = KVRI_STAGE_WORKING;
    report.progress = fibber.progress++;
    f.kind = KVRI_FRAME_STATUS;
    f.payload_bytes = kvri_report_put(&report, payload);
    fib_send(r, &f, bytes);
}

static void a_board_that_lies_about_itself_costs_one_timeout_and_is_forgotten(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (int what = FIB_WORKS_BEFORE_HELLO; what <= FIB_EPOCHS; what++) {
        rig r;
        rig_answer a;
        char address[KVR_ADDRESS_CAP];
        const rig_options o = {.go_on = 1, .cap_frames = 40};
        rig_open(&r, &f.model, 3, &o);
        memset(&fibber, 0, sizeof fibber);
        fibber.what = (fib)what;
        assert_int_equal(kvr_loop_link(r.loop, 0, &fibber.link), KVR_OK);
        assert_int_equal(fibber.link.connect(fibber.link.user, 0, rig_address(address, 2)), KVR_OK);
        r.boards[0].dead = 1;
        r.before_turn = tell_fibs;
        for (int question = 0; question < 4; question++) {
            ask(&f, &r, 3, &a);
            assert_int_equal(a.status, KVR_OK);
            assert_true(rig_same(&f.model, &a, &f.truth));
            assert_true((a.lost & ~1ull) == 0 && a.stats.n_boards == 2);
            /* the last lies may still lie in the inbox */
            assert_true(a.took_us < (question < 1 + (what == FIB_EPOCHS) ? LIMIT_US + LIMIT_US / 4 : LIMIT_US / 2));
            rig_answer_free(&a);
            r.before_turn = NULL;
        }
        rig_close(&r);
    }
    fixture_close(&f);
}

/* Who draws a timeline counts from its beginning to its end. */
static void no_span_ends_in_the_future(void **state) {
    (void)state;
    static kvr_span spans[400];
    fixture f;
    rig r;
    rig_answer a;
    char address[KVR_ADDRESS_CAP];
    uint64_t start_us;
    const rig_options o = {.cap_frames = 40, .spare_inboxes = 1};
    fixture_open(&f);
    rig_open(&r, &f.model, 3, &o);
    memset(&fibber, 0, sizeof fibber);
    fibber.what = FIB_SPAN;
    assert_int_equal(kvr_loop_link(r.loop, 3, &fibber.link), KVR_OK);
    assert_int_equal(fibber.link.connect(fibber.link.user, 0, rig_address(address, 2)), KVR_OK);
    assert_int_equal(kvr_session_set_trace(rig_lead(&r), spans, 400), KVR_OK);
    r.before_turn = tell_fibs;
    ask(&f, &r, 3, &a);
    assert_int_equal(a.status, KVR_OK);
    const uint32_t n = kvr_session_get_trace(rig_lead(&r), &start_us);
    assert_true(fibber.told > 0 && n > 0);
    for (uint32_t i = 0; i < n; i++)
        assert_true(spans[i].from_us <= spans[i].to_us && spans[i].to_us <= r.now_us);
    rig_answer_free(&a);
    rig_close(&r);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hostile_link_never_makes_a_wrong_text_or_a_hang),
        cmocka_unit_test(a_helper_that_dies_at_any_moment_is_named_in_time),
        cmocka_unit_test(a_helper_that_hangs_and_comes_back_does_no_harm),
        cmocka_unit_test(helpers_of_a_lead_that_dies_at_any_moment_are_idle_in_time),
        cmocka_unit_test(a_device_call_that_fails_on_a_single_board_is_named),
        cmocka_unit_test(a_device_call_that_fails_on_any_board_of_a_chain_is_named),
        cmocka_unit_test(a_link_call_that_fails_on_any_board_is_named),
        cmocka_unit_test(a_stranger_who_lies_to_all_boards_spoils_no_text),
        cmocka_unit_test(a_liar_who_knows_the_session_crashes_nobody_and_hangs_nobody),
        cmocka_unit_test(a_board_that_lies_about_itself_costs_one_timeout_and_is_forgotten),
        cmocka_unit_test(no_span_ends_in_the_future),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
