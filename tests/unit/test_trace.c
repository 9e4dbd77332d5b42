/* The timeline: every microsecond of a board has a name, and helpers' spans come to the lead by its clock. */
#include "chain_backend.h"
#include "kvr_session_state.h"

enum { CAP = 4096, N = 60 };

static kvr_span spans[8][CAP];
static uint32_t caps[8];
static uint64_t ahead_us[8]; /* of each board's clock */
static int wrapped;
static wrap wraps[8];

static struct {
    rig *r;
    uint32_t board;
} clocks[8];

static uint64_t shifted_now(void *user) {
    const uint32_t *board = (const uint32_t *)user;
    return clocks[*board].r->now_us + ahead_us[*board];
}

static void change(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)config;
    (void)link;
    clocks[board].r = r;
    clocks[board].board = board;
    memset(&wraps[board], 0, sizeof wraps[board]);
    wraps[board].slow_work = 3;
    if (wrapped) wrap_backend(&wraps[board], backend);
}

typedef struct traced {
    rig r;
    rig_model model;
    rig_answer a;
    uint32_t n;        /* spans of the lead */
    uint64_t start_us;
} traced;

/* A question to n boards; each board's clock is ahead by ahead_us. */
static void ask(traced *t, uint32_t n_boards, const uint32_t *partition, uint64_t order) {
    int32_t ids[N];
    rig_options o = {.order = order, .cap_frames = 2, .boot_us = 1000, .change = change, .config = {.frame_tokens = 8}};
    rig_model_make(&t->model, &RIG_TINY);
    rig_ids(ids, N, t->model.info->n_vocab, 3);
    rig_open(&t->r, &t->model, n_boards, &o);
    for (uint32_t b = 0; b < n_boards; b++) {
        kvr_session *s = t->r.boards[b].session;
        s->port.user = &clocks[b].board; /* boards of this rig share a clock; here each has its own */
        s->port.now_us = shifted_now;
        if (b + 1 < n_boards) { /* a helper takes it before it serves */
            kvr_event event;
            assert_int_equal(kvr_session_stop(s), KVR_OK);
            assert_int_equal(kvr_session_poll(s, &event), KVR_END);
        }
        assert_int_equal(kvr_session_set_trace(s, caps[b] > 0 ? spans[b] : NULL, caps[b]), KVR_OK);
        if (b + 1 < n_boards) assert_int_equal(kvr_session_serve(s), KVR_OK);
    }
    assert_int_equal(rig_prompt(&t->r, ids, N, 3, n_boards, partition), KVR_OK);
    rig_run(&t->r, &t->a);
    assert_int_equal(t->a.status, KVR_OK);
    assert_int_equal(t->a.ended, 1);
    t->n = kvr_session_get_trace(rig_lead(&t->r), &t->start_us);
}

static void end(traced *t) {
    rig_answer_free(&t->a);
    rig_close(&t->r);
    rig_model_close(&t->model);
}

static void set_all(uint32_t cap, uint64_t ahead) {
    for (uint32_t b = 0; b < 8; b++) {
        caps[b] = cap;
        ahead_us[b] = ahead * b;
    }
    wrapped = 0;
}

static uint64_t sum_of(const kvr_span *list, uint32_t n, uint32_t rank, kvr_span_kind kind, uint32_t *out_n) {
    uint64_t sum = 0;
    *out_n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].rank != rank || list[i].kind != (uint8_t)kind) continue;
        sum += list[i].to_us - list[i].from_us;
        ++*out_n;
    }
    return sum;
}

static void one_board_computes_each_layer_and_the_head_once(void **state) {
    (void)state;
    traced t;
    for (int slow = 0; slow < 2; slow++) {
        set_all(CAP, 0);
        wrapped = slow;
        ask(&t, 1, NULL, 0);
        assert_int_equal(t.n, t.model.info->n_layers + 1);
        for (uint32_t i = 0; i < t.n; i++) {
            assert_int_equal(spans[0][i].kind, KVR_SPAN_COMPUTE);
            assert_int_equal(spans[0][i].layer, i);
            assert_true(spans[0][i].to_us >= spans[0][i].from_us);
            assert_true(i == 0 || spans[0][i].from_us >= spans[0][i - 1].to_us);
        }
        assert_true(spans[0][0].from_us >= t.start_us);
        end(&t);
    }
}

static void every_board_tells_what_it_did_when_by_the_clock_of_the_lead(void **state) {
    (void)state;
    traced t;
    for (uint64_t order = 0; order < 6; order++) {
        set_all(CAP, 0);
        for (uint32_t b = 0; b < 4; b++) ahead_us[b] = order % 2 == 0 ? b * 100000000ull : (4 - b) * 3333333ull;
        wrapped = order > 2;
        ask(&t, 4, NULL, order);
        const uint32_t L = t.model.info->n_layers;
        const uint64_t lead_ahead = ahead_us[3];
        for (uint32_t r = 0; r < 4; r++) {
            kvr_trace_board b;
            uint32_t n, all = 0;
            assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), r, &b), KVR_OK);
            assert_int_equal(b.known, 1);
            assert_int_equal(b.first, r * N / 4);
            assert_int_equal(b.tokens, N / 4);
            assert_int_equal(b.n_lost, 0);
            const int64_t truth = (int64_t)(ahead_us[r] - lead_ahead), wrong = b.clock_offset_us - truth;
            assert_true((uint64_t)(wrong < 0 ? -wrong : wrong) <= b.clock_error_us);
            const uint64_t sum = sum_of(spans[3], t.n, r, KVR_SPAN_COMPUTE, &n);
            assert_true(n >= L && n <= 2 * L + 1); /* a layer is interrupted once at most */
            kvr_stats stats;
            kvr_session_get_stats(t.r.boards[r].session, &stats);
            assert_int_equal(sum, stats.compute_us);
            assert_int_equal(sum_of(spans[3], t.n, r, KVR_SPAN_WAIT_PREFIX, &n), stats.wait_prefix_us);
            assert_true(r > 0 || n == 0);
            sum_of(spans[3], t.n, r, KVR_SPAN_TRANSFER, &n);
            assert_true(r == 0 ? n == 0 : n >= L);
            for (uint32_t i = 0; i < t.n; i++) {
                const kvr_span *s = &spans[3][i];
                if (s->rank != r) continue;
                all++;
                assert_true(s->layer <= L && s->to_us >= s->from_us);
                assert_true(s->to_us + b.clock_error_us >= t.start_us);
                assert_true(s->to_us <= t.r.now_us + lead_ahead + b.clock_error_us);
            }
            assert_int_equal(all, b.n_spans);
        }
        end(&t);
    }
}

static void the_bytes_of_transfers_are_those_of_the_frames(void **state) {
    (void)state;
    static const uint32_t cut[3] = {30, 20, 10};
    traced t;
    set_all(CAP, 0);
    ask(&t, 3, cut, 0);
    uint64_t bytes[3] = {0, 0, 0};
    for (uint32_t i = 0; i < t.n; i++) bytes[spans[2][i].rank] += spans[2][i].bytes;
    assert_int_equal(bytes[0], 0);
    assert_int_equal(bytes[2], t.a.stats.bytes_in);
    assert_true(bytes[1] < bytes[2] && bytes[1] > 0);
    end(&t);
}

static void a_board_is_never_in_two_places_at_once(void **state) {
    (void)state;
    traced t;
    set_all(CAP, 50000);
    wrapped = 1;
    ask(&t, 3, NULL, 5);
    for (uint32_t r = 0; r < 3; r++) {
        uint64_t before = 0;
        for (uint32_t i = 0; i < t.n; i++) {
            const kvr_span *s = &spans[2][i];
            if (s->rank != r || (s->kind != KVR_SPAN_COMPUTE && s->kind != KVR_SPAN_WAIT_PREFIX)) continue;
            assert_true(s->from_us >= before);
            before = s->to_us;
        }
        assert_true(before > 0);
    }
    end(&t);
}

static void spans_beyond_the_memory_are_counted(void **state) {
    (void)state;
    traced t;
    set_all(CAP, 0);
    caps[2] = 5;
    caps[0] = 2;
    ask(&t, 3, NULL, 0);
    assert_int_equal(t.n, 5);
    uint32_t lost = 0, here = 0;
    for (uint32_t r = 0; r < 3; r++) {
        kvr_trace_board b;
        assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), r, &b), KVR_OK);
        lost += b.n_lost;
        here += b.n_spans;
    }
    assert_int_equal(here, 5);
    assert_true(lost > 5);
    end(&t);
}

static void a_helper_without_memory_for_spans_holds_nobody_up(void **state) {
    (void)state;
    traced t;
    kvr_trace_board b;
    set_all(CAP, 0);
    caps[0] = 0;
    ask(&t, 3, NULL, 0);
    assert_true(t.a.took_us < RIG_TIMEOUT_MS * 1000u);
    assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), 0, &b), KVR_OK);
    assert_int_equal(b.known, 0);
    assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), 1, &b), KVR_OK);
    assert_int_equal(b.known, 1);
    assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), 3, &b), KVR_ERR_ARG);
    end(&t);
}

static void kill_at_the_end(rig *r) {
    const kvr_session *lead = rig_lead(r);
    if (lead->phase == KVRI_PHASE_SAMPLE || lead->phase == KVRI_PHASE_DECODE) r->boards[0].dead = 1;
}

static void a_helper_that_dies_before_it_told_costs_its_timeline_but_not_the_answer(void **state) {
    (void)state;
    traced t;
    int32_t ids[N];
    rig_answer b;
    kvr_trace_board board;
    set_all(CAP, 0);
    ask(&t, 2, NULL, 0);
    t.r.before_turn = kill_at_the_end;
    /* rank 0's report waits behind a long decode: kill it as soon as the lead has everything */
    rig_ids(ids, N, t.model.info->n_vocab, 3);
    rig_board_close(&t.r, 0);
    rig_board_open(&t.r, 0);
    assert_int_equal(kvr_session_serve(t.r.boards[0].session), KVR_OK);
    t.r.boards[0].session->port.user = &clocks[0].board;
    t.r.boards[0].session->port.now_us = shifted_now;
    assert_int_equal(rig_prompt(&t.r, ids, N, 3, 2, NULL), KVR_OK);
    rig_run(&t.r, &b);
    assert_int_equal(b.status, KVR_OK);
    assert_true(rig_same(&t.model, &t.a, &b));
    assert_int_equal(kvr_session_get_trace_board(rig_lead(&t.r), 0, &board), KVR_OK);
    assert_int_equal(board.known, 0);
    assert_true(kvr_session_get_trace(rig_lead(&t.r), &t.start_us) >= t.model.info->n_layers);
    rig_answer_free(&b);
    end(&t);
}

static void memory_is_set_only_between_questions(void **state) {
    (void)state;
    traced t;
    int32_t ids[N];
    set_all(CAP, 0);
    ask(&t, 2, NULL, 0);
    kvr_session *lead = rig_lead(&t.r);
    assert_int_equal(kvr_session_set_trace(lead, spans[0], 0), KVR_ERR_ARG);
    assert_int_equal(kvr_session_set_trace(lead, NULL, 1), KVR_ERR_ARG);
    rig_ids(ids, N, t.model.info->n_vocab, 3);
    assert_int_equal(rig_prompt(&t.r, ids, N, 3, 2, NULL), KVR_OK);
    assert_int_equal(kvr_session_set_trace(lead, NULL, 0), KVR_ERR_STATE);
    assert_int_equal(kvr_session_set_trace(t.r.boards[0].session, NULL, 0), KVR_ERR_STATE);
    end(&t);
}

static void every_kind_has_a_name(void **state) {
    (void)state;
    for (uint32_t k = 0; k < KVR_SPAN_KINDS; k++) assert_string_not_equal(kvr_span_kind_name((kvr_span_kind)k), "?");
    assert_string_equal(kvr_span_kind_name(KVR_SPAN_KINDS), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_board_computes_each_layer_and_the_head_once),
        cmocka_unit_test(every_board_tells_what_it_did_when_by_the_clock_of_the_lead),
        cmocka_unit_test(the_bytes_of_transfers_are_those_of_the_frames),
        cmocka_unit_test(a_board_is_never_in_two_places_at_once),
        cmocka_unit_test(spans_beyond_the_memory_are_counted),
        cmocka_unit_test(a_helper_without_memory_for_spans_holds_nobody_up),
        cmocka_unit_test(a_helper_that_dies_before_it_told_costs_its_timeline_but_not_the_answer),
        cmocka_unit_test(memory_is_set_only_between_questions),
        cmocka_unit_test(every_kind_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
