/* Boards that are slow, not dead: a layer may take longer than the timeout, and nobody is lost for it. */
#include "chain_fixture.h"
#include "kvr_session_state.h"
#include "timed_backend.h"

#define TURN_US (LIMIT_US / 100)
#define LAYER_US (20 * (double)LIMIT_US) /* of a helper's chunk; about seven products with weights */

#define EACH (BOARDS + 1) /* helper is slow */

static timed devices[BOARDS];
static uint32_t window, victim, slow;

static void make_slow(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    timed *t = &devices[board];
    (void)link;
    memset(t, 0, sizeof *t);
    t->r = r;
    const int is_slow = board + 1 < r->n && (slow == EACH || slow == board);
    t->row_us = is_slow ? LAYER_US / 7 / (N / (double)r->n) : 0;
    if (board + 1 < r->n) config->kv_window_layers = window;
    timed_backend(t, backend);
}

static rig_options slow_boards(void) {
    const rig_options o = {.go_on = 1,
                           .cap_frames = 8,
                           .change = make_slow,
                           .config = {.stall_timeout_ms = 3600000, .frame_tokens = 1}};
    return o;
}

/* Devices are waited for: time goes on with every turn instead of in jumps. */
static void tick(rig *r) {
    r->now_us += TURN_US;
    for (uint32_t b = 0; b < r->n; b++) r->boards[b].waits = 0;
}

static void fixture_of_six_layers(fixture *f) {
    gguf_shape shape = RIG_TINY;
    shape.n_layers = 6;
    fixture_open_shape(f, &shape);
}

static void tick_and_kill(rig *r) {
    tick(r);
    if (r->now_us > LIMIT_US / 2) r->boards[victim].dead = 1;
}

static void ask(const fixture *f, rig *r, rig_answer *a) {
    assert_int_equal(rig_prompt(r, f->ids, N, NEW, BOARDS, NULL), KVR_OK);
    rig_run(r, a);
    if (a->status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a->status), a->error.text);
    assert_true(rig_same(&f->model, a, &f->truth));
    rig_answer_free(a);
}

/* A chain of its own for one question. */
static void ask_slow_boards(const fixture *f, void (*before_turn)(rig *), rig_answer *a) {
    rig r;
    const rig_options o = slow_boards();
    rig_open(&r, &f->model, BOARDS, &o);
    r.before_turn = before_turn;
    ask(f, &r, a);
    rig_close(&r);
}

/* Their devices still work on the chunks of the chain that was. */
static void helpers_that_finish_what_they_were_taken_off_take_part_again(void **state) {
    (void)state;
    fixture f;
    fixture_of_six_layers(&f);
    window = 0;
    slow = EACH;
    for (victim = 0; victim + 1 < BOARDS; victim++) {
        rig_answer a;
        ask_slow_boards(&f, tick_and_kill, &a);
        assert_int_equal(a.lost, 1ull << victim);
        assert_int_equal(a.n_lost, 1);
        assert_int_equal(a.stats.n_boards, BOARDS - 1);
    }
    fixture_close(&f);
}

/* What the lead says lies behind the frame that such a board has no place for yet. */
static void a_board_with_a_window_whose_layers_take_long_does_not_give_its_lead_up(void **state) {
    (void)state;
    fixture f;
    fixture_of_six_layers(&f);
    for (window = 1; window <= 3; window++)
        for (slow = 1; slow <= EACH; slow++) { /* itself, the one that it passes on to, nobody, all */
            rig_answer a;
            ask_slow_boards(&f, tick, &a);
            assert_int_equal(a.n_lost, 0);
            assert_int_equal(a.stats.n_boards, BOARDS);
        }
    fixture_close(&f);
}

static void keep_few_layers(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)r, (void)backend, (void)link;
    if (board == 1) config->kv_window_layers = 1;
}

static void kill_the_next_of_a_holder(rig *r) {
    if (r->boards[1].session->chain.holds_kv && r->polls > victim) r->boards[2].dead = 1;
}

/* It must let go of its frame to hear that the job is off. */
static void a_board_that_holds_a_frame_for_a_dead_one_comes_back(void **state) {
    (void)state;
    fixture f;
    fixture_of_six_layers(&f);
    for (victim = 0; victim < 400; victim += 9) {
        rig r;
        rig_answer a;
        const rig_options o = {
            .go_on = 1, .cap_frames = 8, .change = keep_few_layers, .config = {.frame_tokens = 1}};
        rig_open(&r, &f.model, BOARDS, &o);
        r.before_turn = kill_the_next_of_a_holder;
        ask(&f, &r, &a);
        if (r.boards[2].dead) {
            rig_idle(&r, 3 * LIMIT_US); /* nothing moves for stall_timeout_ms, which is the timeout here; then nobody
                                         * speaks to it */
            assert_int_equal(r.boards[1].session->chain.state, KVRI_CHAIN_IDLE);
            for (int question = 0; question < 2; question++) ask(&f, &r, &a);
            assert_int_equal(a.stats.n_boards, BOARDS - 1);
        }
        rig_close(&r);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helpers_that_finish_what_they_were_taken_off_take_part_again),
        cmocka_unit_test(a_board_with_a_window_whose_layers_take_long_does_not_give_its_lead_up),
        cmocka_unit_test(a_board_that_holds_a_frame_for_a_dead_one_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
