/* The default cut: what boards say of themselves, how their paths are met, and what is learned from prompt to
 * prompt. */
#include "kvr_session_state.h"
#include "timed_backend.h"

#include <math.h>

enum { N = 200, MOST_BOARDS = 4, TURN_US = 20 };
#define ROW_US 8.0 /* a board of speed 1: about 45 ms for the prompt */

static const gguf_shape SHAPE = {.n_layers = 4,
                                 .model_dim = 32,
                                 .ffn_dim = 64,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .n_vocab = 48,
                                 .ctx = 256,
                                 .dtype = KVR_DTYPE_F32,
                                 .seed = 7};

typedef struct scene {
    rig r;
    rig_model model;
    timed devices[MOST_BOARDS];
    timed_link links[MOST_BOARDS];
    uint32_t n;
    int32_t ids[N];
    rig_answer truth, a;
} scene;

static void set_speed(scene *s, uint32_t board, double speed) {
    s->devices[board].row_us = ROW_US / speed;
    s->devices[board].pair_us = 0.01 / speed;
    s->devices[board].call_us = 1 / speed;
}

/* Time goes on with every turn instead of in jumps: devices are waited for. */
static void tick(rig *r) {
    r->now_us += TURN_US;
    for (uint32_t b = 0; b < r->n; b++) r->boards[b].waits = 0;
}

static void put_in_front(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    scene *s = (scene *)r->options.user;
    (void)config;
    s->devices[board].r = s->links[board].r = r;
    timed_backend(&s->devices[board], backend);
    timed_link_in_front(&s->links[board], link);
}

/* What the boards are worth, measured by themselves on the clock of the rig. */
static void measure(scene *s, uint32_t board) {
    kvr_session *session = s->r.boards[board].session;
    kvr_event event;
    kvr_status status;
    uint32_t polls = 0;
    s->devices[board].is_idle = 1;
    assert_int_equal(kvr_session_measure(session, 1000000), KVR_OK);
    assert_int_equal(kvr_session_measure(session, 1), KVR_ERR_STATE);
    while ((status = kvr_session_poll(session, &event)) != KVR_END) {
        assert_true(status >= 0);
        assert_true(++polls < RIG_MOST_POLLS);
        s->r.now_us += TURN_US;
    }
    s->devices[board].is_idle = 0;
}

/* The same while other work takes two thirds of the board, from a moment to another. */
static void measure_disturbed(scene *s, uint32_t board, uint64_t from_us, uint64_t upto_us, uint32_t budget_us) {
    kvr_session *session = s->r.boards[board].session;
    const uint64_t begun_us = s->r.now_us;
    kvr_event event;
    kvr_status status;
    s->devices[board].is_idle = 1;
    assert_int_equal(kvr_session_measure(session, budget_us), KVR_OK);
    do {
        const uint64_t since_us = s->r.now_us - begun_us;
        set_speed(s, board, since_us >= from_us && since_us < upto_us ? 1.0 / 3 : 1);
        status = kvr_session_poll(session, &event);
        assert_true(status >= 0);
        s->r.now_us += TURN_US;
    } while (status != KVR_END);
    s->devices[board].is_idle = 0;
    set_speed(s, board, 1);
}

static void serve_again(scene *s, uint32_t board) {
    kvr_session *session = s->r.boards[board].session;
    kvr_event event;
    kvr_session_stop(session);
    while (kvr_session_poll(session, &event) != KVR_END) {}
    measure(s, board);
    assert_int_equal(kvr_session_serve(session), KVR_OK);
}

static void open_scene(scene *s, uint32_t n_boards, const double *speeds) {
    memset(s, 0, sizeof *s);
    s->n = n_boards;
    rig_model_make(&s->model, &SHAPE);
    rig_ids(s->ids, N, s->model.info->n_vocab, 3);
    rig_options o = {.change = put_in_front, .user = s, .go_on = 1, .config = {.frame_tokens = 16}};
    rig_single(&s->model, &o.config, s->ids, N, 4, &s->truth);
    for (uint32_t b = 0; b < n_boards; b++) set_speed(s, b, speeds[b]);
    rig_open(&s->r, &s->model, n_boards, &o);
    s->r.before_turn = tick;
    s->r.now_us = 1000;
}

static void measure_all(scene *s) {
    for (uint32_t b = 0; b + 1 < s->n; b++) serve_again(s, b);
    measure(s, s->n - 1);
}

/* First contact, by turns of all boards. */
static void meet(scene *s) {
    kvr_event event;
    const uint64_t begun_us = s->r.now_us;
    assert_int_equal(kvr_session_meet(rig_lead(&s->r)), KVR_OK);
    assert_int_equal(kvr_session_meet(rig_lead(&s->r)), KVR_ERR_STATE);
    while (rig_turn(&s->r, &event) != s->n - 1 || s->r.boards[s->n - 1].last != KVR_END)
        assert_true(s->r.now_us - begun_us < 10000000);
    assert_int_equal(kvr_session_get_error(rig_lead(&s->r))->status, KVR_OK);
}

static void close_scene(scene *s) {
    rig_close(&s->r);
    rig_answer_free(&s->truth);
    rig_model_close(&s->model);
}

/* One question by the default cut: the answer of one board, bit for bit. sizes: tokens of each board that took part. */
static uint32_t ask(scene *s, uint32_t sizes[MOST_BOARDS]) {
    assert_int_equal(rig_prompt(&s->r, s->ids, N, 4, s->n, NULL), KVR_OK);
    rig_run(&s->r, &s->a);
    assert_int_equal(s->a.status, KVR_OK);
    assert_true(rig_same(&s->model, &s->a, &s->truth));
    rig_answer_free(&s->a);
    const kvri_partition *p = &rig_lead(&s->r)->chain.handover.partition;
    memset(sizes, 0, MOST_BOARDS * sizeof *sizes);
    for (uint32_t r = 0; r < p->n_boards; r++) sizes[r] = p->cut[r + 1] - p->cut[r];
    return p->n_boards;
}

static int is_even(const uint32_t *sizes, uint32_t n) {
    uint32_t even[MOST_BOARDS];
    assert_int_equal(kvr_partition_even(N, n, even), KVR_OK);
    return memcmp(sizes, even, n * sizeof *sizes) == 0;
}

static void assert_about(double value, double wanted, double tolerance) {
    if (fabs(value / wanted - 1) > tolerance) fail_msg("%g is not about %g", value, wanted);
}

/* --- profiles ------------------------------------------------------------------------------------------------ */

static void a_board_that_measured_itself_predicts_its_own_prompt(void **state) {
    (void)state;
    static const double speeds[] = {1, 0.5};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    kvr_board_profile helper, lead;
    open_scene(&s, 2, speeds);
    assert_int_equal(kvr_session_get_profile(rig_lead(&s.r), &lead), KVR_ERR_STATE);
    measure_all(&s);
    assert_int_equal(kvr_session_get_profile(s.r.boards[0].session, &helper), KVR_OK);
    assert_int_equal(kvr_session_get_profile(rig_lead(&s.r), &lead), KVR_OK);
    assert_true(kvr_board_profile_valid(&lead));
    assert_about(helper.dense_gmacs / lead.dense_gmacs, 2, 0.2);
    meet(&s);
    ask(&s, sizes);
    assert_about((double)s.a.stats.expected_us, (double)s.a.stats.ttft_us, 0.15);
    close_scene(&s);
}

static void a_profile_out_of_range_is_unknown(void **state) {
    (void)state;
    static const double speeds[] = {1};
    scene s;
    kvr_board_profile p, out;
    memset(&p, 0, sizeof p);
    p.dense_gmacs = p.attention_gmacs = p.memory_gbs = 1;
    open_scene(&s, 1, speeds);
    assert_int_equal(kvr_session_set_profile(rig_lead(&s.r), &p), KVR_OK);
    p.memory_gbs = (double)NAN;
    assert_int_equal(kvr_session_set_profile(rig_lead(&s.r), &p), KVR_ERR_ARG);
    assert_int_equal(kvr_session_get_profile(rig_lead(&s.r), &out), KVR_ERR_STATE);
    assert_int_equal(kvr_session_set_profile(rig_lead(&s.r), NULL), KVR_OK);
    assert_int_equal(kvr_session_measure(rig_lead(&s.r), 0), KVR_ERR_ARG);
    assert_int_equal(kvr_session_meet(rig_lead(&s.r)), KVR_ERR_STATE); /* no boards */
    close_scene(&s);
}

/* --- the cut ------------------------------------------------------------------------------------------------- */

static void a_board_half_as_fast_gets_about_half_of_the_tokens(void **state) {
    (void)state;
    static const double pairs[][2] = {{1, 0.5}, {0.5, 1}};
    for (uint32_t i = 0; i < 2; i++) {
        scene s;
        uint32_t sizes[MOST_BOARDS];
        open_scene(&s, 2, pairs[i]);
        measure_all(&s);
        meet(&s);
        assert_int_equal(ask(&s, sizes), 2);
        assert_about((double)sizes[0] / sizes[1], pairs[i][0] / pairs[i][1], 0.25);
        const uint64_t planned_us = s.a.stats.ttft_us;
        static const uint32_t even[2] = {N / 2, N / 2};
        assert_int_equal(rig_prompt(&s.r, s.ids, N, 4, 2, even), KVR_OK); /* a cut by hand stays what it is */
        rig_run(&s.r, &s.a);
        assert_int_equal(s.a.stats.own_tokens, N / 2);
        assert_true(s.a.stats.expected_us > 0);
        assert_true(planned_us * 5 < s.a.stats.ttft_us * 4);
        rig_answer_free(&s.a);
        close_scene(&s);
    }
}

static void without_profiles_or_a_meeting_the_cut_is_even(void **state) {
    (void)state;
    static const double speeds[] = {1, 0.5, 0.25};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 3, speeds);
    assert_int_equal(ask(&s, sizes), 3); /* nothing is known */
    assert_true(is_even(sizes, 3));
    assert_int_equal(s.a.stats.expected_us, 0);
    measure_all(&s);
    assert_int_equal(ask(&s, sizes), 3); /* no path is known */
    assert_true(is_even(sizes, 3));
    meet(&s);
    ask(&s, sizes);
    assert_false(is_even(sizes, 3));
    kvr_session_set_profile(s.r.boards[1].session, NULL); /* as a board that was restarted without one */
    assert_int_equal(ask(&s, sizes), 3);
    assert_true(is_even(sizes, 3));
    close_scene(&s);
}

static void nonsense_in_a_hello_gives_the_even_cut(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    const float nonsense[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e30f, 1e-30f};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 2, speeds);
    measure_all(&s);
    meet(&s);
    const kvri_speed sound = s.r.boards[0].session->speed;
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++)
        for (uint32_t field = 0; field < 3; field++) {
            kvri_speed *speed = &s.r.boards[0].session->speed;
            *speed = sound;
            float *const fields[3] = {&speed->dense_gmacs, &speed->attention_gmacs, &speed->memory_gbs};
            *fields[field] = nonsense[i];
            assert_int_equal(ask(&s, sizes), 2);
            assert_true(is_even(sizes, 2));
        }
    close_scene(&s);
}

static void the_wildest_profiles_in_range_answer_all_the_same(void **state) {
    (void)state;
    static const double speeds[] = {1, 1, 1};
    static const float extremes[] = {1e9f, 1.1e-6f, 1, 1e3f};
    uint64_t rng = 5;
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 3, speeds);
    measure_all(&s);
    meet(&s);
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t b = 0; b < 3; b++) {
            kvri_speed *speed = &s.r.boards[b].session->speed;
            speed->dense_gmacs = extremes[gguf_random(&rng) % 4];
            speed->attention_gmacs = extremes[gguf_random(&rng) % 4];
            speed->memory_gbs = extremes[gguf_random(&rng) % 4];
            speed->call_us = gguf_random(&rng) % 2 ? 1e6f : 0;
            speed->prompt_us = gguf_random(&rng) % 2 ? 1e9f : 0;
            speed->frame_gbs = gguf_random(&rng) % 2 ? 1.1e-6f : 0;
            speed->attention_tile = gguf_random(&rng) % 2 ? 1u << 20 : 0;
        }
        ask(&s, sizes);
    }
    close_scene(&s);
}

/* --- paths --------------------------------------------------------------------------------------------------- */

static void a_meeting_measures_what_a_path_carries(void **state) {
    (void)state;
    static const double speeds[] = {1, 1, 1};
    static const double rates[] = {1, 5, 20};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        scene s;
        open_scene(&s, 3, speeds);
        s.links[0].mbit = rates[i];
        s.links[1].mbit = 10;
        meet(&s);
        const kvri_peer *peers = rig_lead(&s.r)->chain.peers;
        assert_true(peers[0].path.known && peers[1].path.known);
        assert_about(peers[0].path.mbit, rates[i], 0.25);
        assert_about(peers[1].path.mbit, 10, 0.25);
        assert_in_range((uint64_t)peers[0].path.latency_us, 1, 20 * TURN_US);
        close_scene(&s);
    }
}

static void a_hopeless_path_makes_the_lead_answer_alone(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 2, speeds);
    measure_all(&s);
    s.links[0].mbit = 0.5;
    meet(&s);
    const uint32_t polls = s.r.boards[0].session->chain.epoch;
    assert_int_equal(ask(&s, sizes), 1);
    assert_int_equal(s.a.stats.n_boards, 1);
    assert_int_equal(s.r.boards[0].session->chain.epoch, polls); /* nobody was asked */
    assert_int_equal(s.a.n_lost, 0);
    close_scene(&s);
}

static void of_three_boards_the_one_behind_a_hopeless_path_is_left_out(void **state) {
    (void)state;
    static const double speeds[] = {1, 1, 1};
    for (uint32_t bad = 0; bad < 2; bad++) {
        scene s;
        uint32_t sizes[MOST_BOARDS];
        open_scene(&s, 3, speeds);
        measure_all(&s);
        s.links[bad].mbit = 0.5;
        meet(&s);
        assert_int_equal(ask(&s, sizes), 2);
        assert_int_equal(rig_lead(&s.r)->chain.board_at[0], 1 - bad);
        close_scene(&s);
    }
}

static void a_short_prompt_is_the_leads_own(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    scene s;
    open_scene(&s, 2, speeds);
    measure_all(&s);
    s.links[0].mbit = 20;
    meet(&s);
    assert_int_equal(rig_prompt(&s.r, s.ids, 2, 1, 2, NULL), KVR_OK);
    rig_run(&s.r, &s.a);
    assert_int_equal(s.a.status, KVR_OK);
    assert_int_equal(s.a.stats.n_boards, 1);
    rig_answer_free(&s.a);
    close_scene(&s);
}

static void a_lost_board_does_not_hang_a_meeting(void **state) {
    (void)state;
    static const double speeds[] = {1, 1, 1};
    for (uint32_t how = 0; how < 3; how++) {
        scene s;
        uint32_t sizes[MOST_BOARDS];
        open_scene(&s, 3, speeds);
        measure_all(&s);
        kvr_event event;
        if (how == 0) s.r.boards[0].dead = 1; /* never answers */
        const uint64_t begun_us = s.r.now_us;
        assert_int_equal(kvr_session_meet(rig_lead(&s.r)), KVR_OK);
        while (rig_turn(&s.r, &event) != 2 || s.r.boards[2].last != KVR_END) {
            assert_true(s.r.now_us - begun_us < 3000000);
            if (how == 1 && rig_lead(&s.r)->chain.contact.step == KVRI_CONTACT_PING) s.links[0].is_cut = 1;
            if (how == 2 && rig_lead(&s.r)->chain.contact.step == KVRI_CONTACT_SHORT) s.links[0].is_cut = 1;
        }
        assert_true(rig_lead(&s.r)->chain.peers[1].path.known);
        if (how != 2) assert_false(rig_lead(&s.r)->chain.peers[0].path.known);
        s.links[0].is_cut = 0;
        s.r.boards[0].dead = 0;
        ask(&s, sizes); /* it is back */
        close_scene(&s);
    }
}

static void a_meeting_can_be_stopped_at_any_turn(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 2, speeds);
    measure_all(&s);
    for (uint32_t turns = 1; turns < 120; turns += 7) {
        kvr_event event;
        assert_int_equal(kvr_session_meet(rig_lead(&s.r)), KVR_OK);
        for (uint32_t i = 0; i < turns; i++) rig_turn(&s.r, &event);
        kvr_session_stop(rig_lead(&s.r));
        while (rig_turn(&s.r, &event) != 1 || s.r.boards[1].last != KVR_END) {}
        ask(&s, sizes);
    }
    close_scene(&s);
}

static void other_work_for_a_part_of_a_measurement_changes_nothing(void **state) {
    (void)state;
    static const double speeds[] = {1};
    enum { BUDGET_US = 200000 };
    for (uint32_t part = 0; part < 4; part++) {
        scene s;
        kvr_board_profile quiet, disturbed;
        open_scene(&s, 1, speeds);
        measure_disturbed(&s, 0, 0, 0, BUDGET_US);
        assert_int_equal(kvr_session_get_profile(rig_lead(&s.r), &quiet), KVR_OK);
        measure_disturbed(&s, 0, part * BUDGET_US / 6, (part + 3) * BUDGET_US / 6, BUDGET_US);
        assert_int_equal(kvr_session_get_profile(rig_lead(&s.r), &disturbed), KVR_OK);
        assert_about(disturbed.dense_gmacs, quiet.dense_gmacs, 0.05);
        assert_about(disturbed.memory_gbs, quiet.memory_gbs, 0.05);
        close_scene(&s);
    }
}

static void a_measurement_can_be_stopped_at_any_poll(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 2, speeds);
    for (uint32_t polls = 1; polls < 400; polls += 37) {
        kvr_session *lead = rig_lead(&s.r);
        kvr_event event;
        assert_int_equal(kvr_session_measure(lead, 1000000), KVR_OK);
        for (uint32_t i = 0; i < polls; i++) {
            kvr_session_poll(lead, &event);
            s.r.now_us += TURN_US;
        }
        kvr_session_stop(lead);
        while (kvr_session_poll(lead, &event) != KVR_END) s.r.now_us += TURN_US;
        ask(&s, sizes);
    }
    close_scene(&s);
}

/* --- from prompt to prompt ----------------------------------------------------------------------------------- */

static void a_board_that_becomes_slow_loses_tokens_and_gets_them_back(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    for (uint32_t board = 0; board < 2; board++) {
        scene s;
        uint32_t before[MOST_BOARDS], now[MOST_BOARDS];
        open_scene(&s, 2, speeds);
        measure_all(&s);
        meet(&s);
        assert_int_equal(ask(&s, before), 2);
        set_speed(&s, board, 1.0 / 3); /* it throttles */
        ask(&s, now);
        assert_memory_equal(now, before, sizeof now); /* nobody knew */
        assert_int_equal(ask(&s, now), 2);
        assert_true(now[board] * 5 < before[board] * 4);
        assert_about((double)now[board] / now[1 - board], (double)before[board] / before[1 - board] / 3, 0.3);
        const uint64_t slow_us = s.a.stats.ttft_us;
        assert_int_equal(ask(&s, now), 2);
        assert_about((double)s.a.stats.ttft_us, (double)slow_us, 0.1); /* and stays there */
        set_speed(&s, board, 1);
        ask(&s, now);
        assert_int_equal(ask(&s, now), 2);
        assert_about(now[board], before[board], 0.15);
        close_scene(&s);
    }
}

static void noise_moves_no_tokens(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    static const double noise[] = {1.06, 0.95, 1.02, 0.94, 1};
    scene s;
    uint32_t before[MOST_BOARDS], now[MOST_BOARDS];
    open_scene(&s, 2, speeds);
    measure_all(&s);
    meet(&s);
    ask(&s, before);
    ask(&s, before); /* what the profile erred by is learned */
    for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
        set_speed(&s, 0, noise[i]);
        ask(&s, now);
        assert_memory_equal(now, before, sizeof now);
    }
    close_scene(&s);
}

static void a_board_that_is_left_out_is_forgiven_in_time(void **state) {
    (void)state;
    static const double speeds[] = {1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS], prompts = 0;
    open_scene(&s, 2, speeds);
    measure_all(&s);
    meet(&s);
    rig_lead(&s.r)->chain.peers[0].promise.slowness = 60;
    rig_lead(&s.r)->chain.peers[0].path.latency_us = 1000;
    assert_int_equal(ask(&s, sizes), 1);
    while (ask(&s, sizes) == 1) assert_true(++prompts < 60);
    assert_true(prompts > 3);
    close_scene(&s);
}

static uint32_t helpers_chunk;

static void put_in_front_with_chunk(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    if (board == 0) config->chunk_tokens = helpers_chunk;
    put_in_front(r, board, config, backend, link);
}

/* The cut that was kept does not fit it any more. */
static void a_board_that_comes_back_with_less_room_gets_less(void **state) {
    (void)state;
    static const double even[] = {1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    helpers_chunk = 0;
    open_scene(&s, 2, even);
    s.r.options.change = put_in_front_with_chunk;
    measure_all(&s);
    meet(&s);
    assert_int_equal(ask(&s, sizes), 2);
    assert_true(sizes[0] > N / 4);
    const kvri_path_seen path = rig_lead(&s.r)->chain.peers[0].path;
    kvr_board_profile profile;
    assert_int_equal(kvr_session_get_profile(s.r.boards[0].session, &profile), KVR_OK);
    helpers_chunk = N / 8;
    rig_board_close(&s.r, 0);
    rig_board_open(&s.r, 0);
    assert_int_equal(kvr_session_set_profile(s.r.boards[0].session, &profile), KVR_OK);
    assert_int_equal(kvr_session_serve(s.r.boards[0].session), KVR_OK);
    for (int question = 0; question < 3; question++) {
        rig_lead(&s.r)->chain.peers[0].path = path;
        ask(&s, sizes); /* and none fails for want of room */
    }
    close_scene(&s);
}

static void a_lost_board_is_planned_around(void **state) {
    (void)state;
    static const double speeds[] = {0.5, 1, 1};
    scene s;
    uint32_t sizes[MOST_BOARDS];
    open_scene(&s, 3, speeds);
    measure_all(&s);
    meet(&s);
    assert_int_equal(ask(&s, sizes), 3);
    s.r.boards[0].dead = 1;
    assert_int_equal(ask(&s, sizes), 2);
    assert_int_equal(s.a.n_lost, 1);
    assert_about(sizes[0], N / 2.0, 0.3);
    close_scene(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_board_that_measured_itself_predicts_its_own_prompt),
        cmocka_unit_test(a_profile_out_of_range_is_unknown),
        cmocka_unit_test(a_board_half_as_fast_gets_about_half_of_the_tokens),
        cmocka_unit_test(without_profiles_or_a_meeting_the_cut_is_even),
        cmocka_unit_test(nonsense_in_a_hello_gives_the_even_cut),
        cmocka_unit_test(the_wildest_profiles_in_range_answer_all_the_same),
        cmocka_unit_test(a_meeting_measures_what_a_path_carries),
        cmocka_unit_test(a_hopeless_path_makes_the_lead_answer_alone),
        cmocka_unit_test(of_three_boards_the_one_behind_a_hopeless_path_is_left_out),
        cmocka_unit_test(a_short_prompt_is_the_leads_own),
        cmocka_unit_test(a_lost_board_does_not_hang_a_meeting),
        cmocka_unit_test(a_meeting_can_be_stopped_at_any_turn),
        cmocka_unit_test(other_work_for_a_part_of_a_measurement_changes_nothing),
        cmocka_unit_test(a_measurement_can_be_stopped_at_any_poll),
        cmocka_unit_test(a_board_that_becomes_slow_loses_tokens_and_gets_them_back),
        cmocka_unit_test(noise_moves_no_tokens),
        cmocka_unit_test(a_board_that_is_left_out_is_forgiven_in_time),
        cmocka_unit_test(a_board_that_comes_back_with_less_room_gets_less),
        cmocka_unit_test(a_lost_board_is_planned_around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
