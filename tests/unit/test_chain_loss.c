/* Boards that are lost while the lead goes on: the same text from those that are left, in bounded time, and all boards
 * again once they are back. */
#include "chain_fixture.h"
#include "kvr_session_state.h"

enum { HELPERS = BOARDS - 1 };

static rig_options going_on(uint64_t order) {
    const rig_options o = {
        .order = order, .cap_frames = 2, .go_on = 1, .config = {.frame_tokens = 3, .batch_tokens = 4}};
    return o;
}

static void expect_right(const fixture *f, const rig_answer *a, const rig_answer *truth) {
    if (a->status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a->status), a->error.text != NULL ? a->error.text : "");
    assert_true(rig_same(&f->model, a, truth));
    assert_int_equal(a->ended, 1);
    assert_int_equal(a->error.status, KVR_OK);
    assert_int_equal(a->failed_rank, -1);
}

/* Asks over all boards; the caller frees. */
static void ask(const fixture *f, rig *r, rig_answer *a) {
    assert_int_equal(rig_prompt(r, f->ids, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(r, a);
    expect_right(f, a, &f->truth);
}

/* Another text, so that nothing old can pass for new. */
static void ask_other(const fixture *f, rig *r, rig_answer *a) {
    assert_int_equal(rig_prompt(r, f->other, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(r, a);
    expect_right(f, a, &f->other_truth);
    rig_answer_free(a); /* the rest of it is still there to be looked at */
}

static void restart(rig *r, uint32_t board) {
    rig_board_close(r, board);
    rig_board_open(r, board);
    assert_int_equal(kvr_session_serve(r->boards[board].session), KVR_OK);
}

static uint64_t dead_mask; /* boards that die */
static uint32_t dies_at, watched;

static void let_die(rig *r) {
    if (r->boards[watched].polls < dies_at) return;
    for (uint32_t b = 0; b < HELPERS; b++)
        if (dead_mask >> b & 1) r->boards[b].dead = 1;
}

static uint32_t polls_of_a_clean_run(const fixture *f, const rig_options *o, uint32_t board) {
    rig r;
    rig_answer a;
    rig_open(&r, &f->model, BOARDS, o);
    ask(f, &r, &a);
    assert_int_equal(a.n_lost, 0);
    const uint32_t polls = r.boards[board].polls;
    rig_answer_free(&a);
    rig_close(&r);
    return polls;
}

static void a_helper_that_dies_at_any_moment_costs_time_and_no_text(void **state) {
    (void)state;
    fixture f;
    const rig_options o = going_on(31);
    fixture_open(&f);
    for (watched = 0; watched < HELPERS; watched++) {
        const uint32_t polls = polls_of_a_clean_run(&f, &o, watched);
        uint32_t lost = 0;
        dead_mask = 1ull << watched;
        for (dies_at = 0; dies_at <= polls; dies_at++) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            r.before_turn = let_die;
            ask(&f, &r, &a);
            assert_true(a.took_us < LIMIT_US + LIMIT_US / 4);
            assert_true(a.lost == 0 || a.lost == dead_mask);
            assert_int_equal(a.stats.n_boards, a.n_lost > 0 ? BOARDS - 1 : BOARDS);
            assert_int_equal(kvr_session_get_loss(rig_lead(&r))->status != KVR_OK, a.n_lost > 0);
            lost += a.n_lost;
            rig_answer_free(&a);
            if (r.boards[watched].dead) {
                /* it is still dead: whoever knows that loses no time over it, nor says so again */
                const int known = a.n_lost > 0;
                ask_other(&f, &r, &a);
                assert_int_equal(a.stats.n_boards, BOARDS - 1);
                if (known) assert_true(a.took_us < LIMIT_US / 4 && a.n_lost == 0);
                r.before_turn = NULL;
                restart(&r, watched);
                uint64_t back = 0;
                for (int question = 0; question < 2; question++) { /* the rig's clock may jump over its first answer */
                    ask_other(&f, &r, &a);
                    assert_int_equal(a.n_lost, 0);
                    assert_true(a.took_us < LIMIT_US / 4);
                    back |= a.back;
                }
                assert_int_equal(a.stats.n_boards, BOARDS);
                assert_int_equal(back, dead_mask);
            }
            rig_close(&r);
        }
        assert_true(lost > 10);
    }
    fixture_close(&f);
}

static void a_helper_that_hangs_and_comes_back_takes_part_again(void **state) {
    (void)state;
    fixture f;
    const rig_options o = going_on(32);
    fixture_open(&f);
    for (watched = 0; watched < HELPERS; watched++) {
        const uint32_t polls = polls_of_a_clean_run(&f, &o, watched);
        dead_mask = 1ull << watched;
        for (dies_at = 0; dies_at <= polls; dies_at++) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            r.before_turn = let_die;
            ask(&f, &r, &a);
            rig_answer_free(&a);
            r.before_turn = NULL;
            r.boards[watched].dead = 0; /* with all that waits in its inbox */
            ask_other(&f, &r, &a);
            ask_other(&f, &r, &a); /* at the latest now */
            assert_int_equal(a.stats.n_boards, BOARDS);
            assert_int_equal(a.n_lost, 0);
            rig_close(&r);
        }
    }
    fixture_close(&f);
}

static void boards_that_die_together_cost_one_timeout(void **state) {
    (void)state;
    fixture f;
    const rig_options o = going_on(33);
    fixture_open(&f);
    watched = 1;
    const uint32_t polls = polls_of_a_clean_run(&f, &o, watched);
    for (dead_mask = 3; dead_mask <= 7; dead_mask += 2)
        for (dies_at = 0; dies_at <= polls; dies_at += 3) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            r.before_turn = let_die;
            ask(&f, &r, &a);
            assert_true(a.took_us < LIMIT_US * 3 / 2);
            assert_true((a.lost & ~dead_mask) == 0);
            rig_answer_free(&a);
            if (r.boards[1].dead) { /* with nobody left the lead answers alone, and asks on */
                ask_other(&f, &r, &a);
                assert_int_equal(a.stats.n_boards, BOARDS - (dead_mask == 7 ? 3 : 2));
                ask_other(&f, &r, &a);
                assert_true(a.took_us < LIMIT_US / 4);
                r.before_turn = NULL;
                for (uint32_t b = 0; b < HELPERS; b++)
                    if (r.boards[b].dead) restart(&r, b);
                for (int question = 0; question < 3; question++) ask_other(&f, &r, &a);
                assert_int_equal(a.stats.n_boards, BOARDS);
            }
            rig_close(&r);
        }
    fixture_close(&f);
}

/* --- boards that are cut off ---------------------------------------------------------------------------------- */

typedef struct cut_link {
    kvr_link inner;
    uint32_t frames, cut_at, cut; /* frames sent and received; from which on nothing passes */
    uint32_t kv_only;             /* only the connection to the next board is cut */
} cut_link;

static cut_link cuts[BOARDS];
static uint32_t cut_board, cut_at, cut_kv_only;

static int is_cut(cut_link *c) {
    if (c->cut_at != UINT32_MAX && c->frames++ >= c->cut_at) c->cut = 1;
    return c->cut != 0;
}
static kvr_status cut_send(void *user, uint32_t peer, const void *frame, size_t n) {
    cut_link *c = (cut_link *)user;
    if (is_cut(c) && (!c->kv_only || peer == KVRI_SLOT_NEXT)) return KVR_OK; /* on its way, and never there */
    return c->inner.send(c->inner.user, peer, frame, n);
}
static kvr_status cut_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    cut_link *c = (cut_link *)user;
    kvr_status status = c->inner.recv(c->inner.user, buf, cap, out_bytes);
    while (status == KVR_OK && is_cut(c) && !c->kv_only) status = c->inner.recv(c->inner.user, buf, cap, out_bytes);
    return status;
}
static kvr_status cut_connect(void *user, uint32_t peer, const char *address) {
    cut_link *c = (cut_link *)user;
    return c->inner.connect(c->inner.user, peer, address);
}
static void make_cut(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    cut_link *c = &cuts[board];
    (void)r, (void)config, (void)backend;
    memset(c, 0, sizeof *c);
    c->inner = *link;
    c->cut_at = board == cut_board ? cut_at : UINT32_MAX;
    c->kv_only = cut_kv_only;
    link->user = c;
    link->send = cut_send;
    link->recv = cut_recv;
    link->connect = cut_connect;
}

/* Every frame that a board sends or receives is once the first that is lost, with all that follow. */
static void a_board_that_is_cut_off_at_any_frame_costs_time_and_no_text(void **state) {
    (void)state;
    fixture f;
    rig_options o = going_on(34);
    o.change = make_cut;
    fixture_open(&f);
    cut_kv_only = 0;
    for (cut_board = 0; cut_board < HELPERS; cut_board++) {
        int reached = 1;
        for (cut_at = 0; reached; cut_at++) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            ask(&f, &r, &a);
            assert_true(a.took_us < LIMIT_US + LIMIT_US / 4);
            reached = cuts[cut_board].cut != 0;
            rig_answer_free(&a);
            ask_other(&f, &r, &a); /* while it is still cut off */
            cuts[cut_board].cut = 0;
            cuts[cut_board].cut_at = UINT32_MAX;
            rig_idle(&r, 2 * LIMIT_US); /* its job, if any, runs into its own timeout */
            ask_other(&f, &r, &a);
            ask_other(&f, &r, &a);
            assert_int_equal(a.stats.n_boards, BOARDS);
            rig_close(&r);
        }
        assert_true(cut_at > 10);
    }
    fixture_close(&f);
}

/* The board lives and says so; only what it computes never gets to the next one. */
static void keys_and_values_that_get_lost_on_the_way_end_in_the_lead_answering_alone(void **state) {
    (void)state;
    fixture f;
    rig_options o = going_on(35);
    o.change = make_cut;
    fixture_open(&f);
    cut_kv_only = 1;
    for (cut_board = 0; cut_board < HELPERS; cut_board++)
        for (cut_at = 0; cut_at < 40; cut_at += 7) {
            rig r;
            rig_answer a;
            rig_open(&r, &f.model, BOARDS, &o);
            ask(&f, &r, &a);
            assert_true(a.took_us < 2 * LIMIT_US);
            if (a.n_lost > 0) assert_true(a.lost == 0 && a.stats.n_boards == 1); /* no board in particular */
            rig_answer_free(&a);
            cuts[cut_board].cut = 0;
            cuts[cut_board].cut_at = UINT32_MAX;
            ask_other(&f, &r, &a);
            assert_int_equal(a.stats.n_boards, BOARDS);
            rig_close(&r);
        }
    fixture_close(&f);
}

/* --- boards that fail ------------------------------------------------------------------------------------------ */

static wrap wraps[BOARDS];

static void make_wraps(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)r, (void)config, (void)link;
    memset(&wraps[board], 0, sizeof wraps[board]);
    wrap_backend(&wraps[board], backend);
}

static void a_helper_whose_device_fails_at_any_call_is_left_out_of_this_question_only(void **state) {
    (void)state;
    fixture f;
    rig r;
    rig_options o = going_on(36);
    uint32_t lost = 0;
    o.change = make_wraps;
    fixture_open(&f);
    rig_open(&r, &f.model, BOARDS, &o);
    for (uint32_t b = 0; b < HELPERS; b++)
        for (uint32_t call = 1; call < 60; call += 2) {
            rig_answer a;
            wraps[b].calls = 0;
            wraps[b].fail_at = call;
            ask(&f, &r, &a);
            assert_true(a.n_lost <= 1);
            if (a.n_lost > 0) {
                assert_true(a.lost == 1ull << b);
                assert_int_equal(kvr_session_get_loss(rig_lead(&r))->status, KVR_ERR_PEER_FAILED);
                assert_true(a.took_us < LIMIT_US / 2); /* it said so itself */
                lost++;
            }
            rig_answer_free(&a);
            wraps[b].fail_at = 0;
            ask_other(&f, &r, &a);
            assert_int_equal(a.stats.n_boards, BOARDS);
        }
    assert_true(lost > 30);
    rig_close(&r);
    fixture_close(&f);
}

/* --- what is left ------------------------------------------------------------------------------------------------ */

static void a_partition_by_hand_is_shared_out_in_proportion(void **state) {
    (void)state;
    fixture f;
    rig r;
    rig_answer a;
    const rig_options o = going_on(37);
    const uint32_t sizes[BOARDS] = {4, 8, 4, 8};
    fixture_open(&f);
    rig_open(&r, &f.model, BOARDS, &o);
    r.boards[1].dead = 1;
    assert_int_equal(rig_prompt(&r, f.ids, N, NEW, BOARDS, sizes), KVR_OK);
    rig_run(&r, &a);
    expect_right(&f, &a, &f.truth);
    assert_int_equal(a.stats.n_boards, 3);
    assert_int_equal(a.stats.own_tokens, 12); /* 4 : 4 : 8 of 24 */
    assert_int_equal(a.stats.own_first, 12);
    rig_answer_free(&a);
    rig_close(&r);
    fixture_close(&f);
}

static void a_ring_goes_on_without_a_lost_board(void **state) {
    (void)state;
    fixture f;
    const rig_options o = going_on(38);
    fixture_open(&f);
    for (dies_at = 0; dies_at < 60; dies_at++) {
        rig r;
        rig_answer a;
        watched = dies_at % 3; /* also the one that the lead passes on to */
        dead_mask = 1ull << watched;
        kvr_prompt p = {.struct_bytes = sizeof p,
                        .ids = f.ids,
                        .n_ids = N,
                        .max_new_tokens = NEW,
                        .ignore_eos = 1,
                        .n_boards = BOARDS,
                        .strategy = KVR_STRATEGY_TSP};
        rig_open(&r, &f.model, BOARDS, &o);
        r.before_turn = let_die;
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        rig_run(&r, &a);
        expect_right(&f, &a, &f.truth);
        assert_true(a.took_us < LIMIT_US + LIMIT_US / 4);
        rig_answer_free(&a);
        rig_close(&r);
    }
    fixture_close(&f);
}

static lazy queues[BOARDS];

/* Helpers are still busy with a question that the lead has long answered. */
static void make_queues(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)r, (void)config, (void)link;
    memset(&queues[board], 0, sizeof queues[board]);
    queues[board].per_done = board + 1 == BOARDS ? 60 : 2;
    lazy_backend(&queues[board], backend);
}

/* With a board gone, ranks are not the numbers of boards: who answers a HELLO by the wrong one is taken for another. */
static void questions_that_follow_at_once_do_not_mix_boards_up(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (uint32_t round = 0; round < 24; round++) {
        rig r;
        rig_answer a;
        rig_options o = {.order = 1 + round, .go_on = 1, .cap_frames = 40, .change = round % 2 ? make_queues : NULL};
        rig_open(&r, &f.model, BOARDS, &o);
        r.boards[0].dead = 1;
        for (int question = 0; question < 4; question++) {
            assert_int_equal(rig_prompt_by(&r, round % 4 < 2 ? KVR_STRATEGY_TSP : KVR_STRATEGY_CHAIN, f.ids, N, 0,
                                           BOARDS, NULL),
                             KVR_OK);
            rig_run(&r, &a);
            assert_int_equal(a.status, KVR_OK);
            assert_true(a.back == 0 && (a.lost & ~1ull) == 0);
            if (question > 0) assert_true(a.n_lost == 0 && a.took_us < LIMIT_US / 2);
            rig_answer_free(&a);
        }
        rig_close(&r);
    }
    fixture_close(&f);
}

static void a_lead_that_cannot_hold_the_prompt_alone_says_so(void **state) {
    (void)state;
    fixture f;
    rig r;
    rig_answer a;
    rig_options o = going_on(39);
    o.config.chunk_tokens = N / 2;
    fixture_open(&f);
    rig_open(&r, &f.model, BOARDS, &o);
    r.boards[0].dead = r.boards[1].dead = r.boards[2].dead = 1;
    assert_int_equal(rig_prompt(&r, f.ids, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_ERR_PARTITION);
    assert_non_null(strstr(a.error.text, "chunk_tokens"));
    assert_int_equal(a.n_lost, 3);
    rig_answer_free(&a);
    rig_close(&r);
    fixture_close(&f);
}

static void with_the_policy_fail_a_lost_board_ends_the_question(void **state) {
    (void)state;
    fixture f;
    rig r;
    rig_answer a;
    rig_options o = going_on(40);
    o.go_on = 0;
    fixture_open(&f);
    rig_open(&r, &f.model, BOARDS, &o);
    r.boards[1].dead = 1;
    assert_int_equal(rig_prompt(&r, f.ids, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_ERR_TIMEOUT);
    assert_int_equal(a.failed_rank, 1);
    rig_answer_free(&a);
    kvr_prompt p = {.struct_bytes = sizeof p, .ids = f.ids, .n_ids = N, .n_boards = BOARDS, .on_board_loss = 2};
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_ERR_ARG);
    rig_close(&r);
    fixture_close(&f);
}

/* A misfit is the operator's mistake and must be told, not worked around. */
static void a_board_with_another_model_fails_the_question_all_the_same(void **state) {
    (void)state;
    fixture f;
    rig_model other;
    gguf_shape shape = RIG_TINY;
    rig r;
    rig_answer a;
    rig_options o = going_on(41);
    shape.seed = 8;
    rig_model_make(&other, &shape);
    o.other_model = &other;
    o.other = 1;
    fixture_open(&f);
    rig_open(&r, &f.model, BOARDS, &o);
    assert_int_equal(rig_prompt(&r, f.ids, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_ERR_PEER_MODEL);
    assert_int_equal(a.failed_rank, 1);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&other);
    fixture_close(&f);
}

static void ask_on(const fixture *f, rig *r, uint32_t lead) {
    kvr_prompt p;
    memset(&p, 0, sizeof p);
    p.ids = f->ids;
    p.n_ids = N;
    p.max_new_tokens = NEW;
    p.ignore_eos = 1;
    p.n_boards = 3;
    assert_int_equal(kvr_session_prompt(r->boards[lead].session, &p), KVR_OK);
}

/* Board 2 becomes a lead of its own; boards 0 and 1 are asked by both. */
static void a_lead_goes_on_without_boards_that_work_for_another(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (uint32_t turns = 20; turns < 200; turns += 20) {
        rig r;
        rig_answer first, second;
        kvr_event event;
        rig_options o = going_on(turns);
        o.cap_frames = 4;
        o.config.batch_tokens = 1;
        rig_open(&r, &f.model, BOARDS, &o);
        assert_int_equal(kvr_session_stop(r.boards[2].session), KVR_OK);
        assert_int_equal(rig_make_lead(&r, 2, 2), KVR_OK);
        ask_on(&f, &r, 3);
        for (uint32_t i = 0; i < turns; i++) rig_turn(&r, &event);
        ask_on(&f, &r, 2);
        rig_run_on(&r, 2, &second);
        expect_right(&f, &second, &f.truth);
        assert_true(second.took_us < LIMIT_US / 4); /* it was told, it did not wait */
        rig_run_on(&r, 3, &first);
        assert_int_equal(first.status, KVR_OK);
        rig_answer_free(&first);
        rig_answer_free(&second);
        /* who was busy takes part the next time */
        ask_on(&f, &r, 2);
        rig_run_on(&r, 2, &second);
        expect_right(&f, &second, &f.truth);
        assert_int_equal(second.stats.n_boards, 3);
        rig_answer_free(&second);
        rig_close(&r);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_helper_that_dies_at_any_moment_costs_time_and_no_text),
        cmocka_unit_test(a_helper_that_hangs_and_comes_back_takes_part_again),
        cmocka_unit_test(boards_that_die_together_cost_one_timeout),
        cmocka_unit_test(a_board_that_is_cut_off_at_any_frame_costs_time_and_no_text),
        cmocka_unit_test(keys_and_values_that_get_lost_on_the_way_end_in_the_lead_answering_alone),
        cmocka_unit_test(a_helper_whose_device_fails_at_any_call_is_left_out_of_this_question_only),
        cmocka_unit_test(a_partition_by_hand_is_shared_out_in_proportion),
        cmocka_unit_test(a_ring_goes_on_without_a_lost_board),
        cmocka_unit_test(questions_that_follow_at_once_do_not_mix_boards_up),
        cmocka_unit_test(a_lead_that_cannot_hold_the_prompt_alone_says_so),
        cmocka_unit_test(with_the_policy_fail_a_lost_board_ends_the_question),
        cmocka_unit_test(a_lead_goes_on_without_boards_that_work_for_another),
        cmocka_unit_test(a_board_with_another_model_fails_the_question_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
