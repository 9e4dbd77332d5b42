/* Boards that are slow, not dead: a layer may take longer than the timeout, and nobody is lost for it. */
#include "chain_fixture.h"
#include "kvr_session_state.h"
#include "timed_backend.h"

#define TURN_US (LIMIT_US / 100)
#define LAYER_US (20 * (double)LIMIT_US) /* of a helper's chunk; about seven products with weights */

static timed devices[BOARDS];
static uint32_t window, victim;

static void make_slow(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    timed *t = &devices[board];
    (void)link;
    memset(t, 0, sizeof *t);
    t->r = r;
    t->row_us = board + 1 < r->n ? LAYER_US / 7 / (N / (double)r->n) : 0;
    if (board + 1 < r->n) config->kv_window_layers = window;
    timed_backend(t, backend);
}

static rig_options slow_boards(void) {
    const rig_options o = {.go_on = 1, .cap_frames = 8, .change = make_slow, .config = {.stall_timeout_ms = 3600000}};
    return o;
}

/* Devices are waited for: time goes on with every turn instead of in jumps. */
static void tick(rig *r) {
    r->now_us += TURN_US;
    for (uint32_t b = 0; b < r->n; b++) r->boards[b].waits = 0;
}

static void tick_and_kill(rig *r) {
    tick(r);
    if (r->now_us > LIMIT_US / 2) r->boards[victim].dead = 1;
}

static void ask(const fixture *f, rig *r, uint32_t n_boards, rig_answer *a) {
    assert_int_equal(rig_prompt(r, f->ids, N, NEW, n_boards, NULL), KVR_OK);
    rig_run(r, a);
    if (a->status != KVR_OK) fail_msg("%s: %s", kvr_status_name(a->status), a->error.text);
    assert_true(rig_same(&f->model, a, &f->truth));
    rig_answer_free(a);
}

/* Their devices still work on the chunks of the chain that was. */
static void helpers_that_finish_what_they_were_taken_off_take_part_again(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    window = 0;
    for (victim = 0; victim + 1 < BOARDS; victim++) {
        rig r;
        rig_answer a;
        const rig_options o = slow_boards();
        rig_open(&r, &f.model, BOARDS, &o);
        r.before_turn = tick_and_kill;
        ask(&f, &r, BOARDS, &a);
        assert_int_equal(a.lost, 1ull << victim);
        assert_int_equal(a.n_lost, 1);
        assert_int_equal(a.stats.n_boards, BOARDS - 1);
        rig_close(&r);
    }
    fixture_close(&f);
}

/* What the lead says lies behind the frame that such a board has no place for yet. */
static void a_board_with_a_window_whose_layers_take_long_does_not_give_its_lead_up(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f);
    for (window = 1; window <= 3; window++) {
        rig r;
        rig_answer a;
        const rig_options o = slow_boards();
        rig_open(&r, &f.model, 3, &o);
        devices[0].row_us = 0; /* its frames are there at once */
        r.before_turn = tick;
        ask(&f, &r, 3, &a);
        assert_int_equal(a.n_lost, 0);
        assert_int_equal(a.stats.n_boards, 3);
        rig_close(&r);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helpers_that_finish_what_they_were_taken_off_take_part_again),
        cmocka_unit_test(a_board_with_a_window_whose_layers_take_long_does_not_give_its_lead_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
