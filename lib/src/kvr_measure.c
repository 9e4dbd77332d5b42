#include "kvr_measure.h"

#include "kvr_checked.h"
#include "kvr_cost_core.h"
#include "kvr_session_state.h"

#include <string.h>

#define WARM_ROWS 16u
#define WARM_ROUNDS 3u
#define LEAST_ROWS 8u
#define LEAST_ROUNDS 2u /* that rows are chosen for */
#define GOOD_ROUNDS 8u  /* that layers are chosen for: short passes find quiet moments, long ones more layers */
#define MOST_ROUNDS 12u
#define AGREE 1.05      /* the second least time of a pass beside the least: nothing disturbed both */
#define AWAKE_US 100.0  /* of a pass: how soon a thread is woken is no other work */
#define MOST_BUDGETS 3u /* while some do not agree */
#define MOST_DEPTH 2048u /* tokens before DEEP */
#define ROUND_ROWS 2.75  /* rows of a round in MANY's: FEW 1/4, MANY 1, DEEP about 1.5 */
#define ONE_LAYERS 4u
#define TILE 16u       /* masked products are skipped in about such squares (opencl/kernels/attention_tile.cl) */
#define FRAME_RUNS 16u
#define FRAME_ROUNDS 4u
#define MOST_GMACS 1e6 /* what takes no measurable time */
#define MOST_PAIRS 0.9 /* of MANY's time */

static double us_of(const kvri_measure *m, kvri_measure_step step) { return m->layer_us[step]; }

/* --- the passes ---------------------------------------------------------------------------------------------- */

static void begin_pass(kvr_session *s, kvri_measure_step step, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    m->step = step;
    m->pass_us = now_us;
    m->drains = 0;
    kvri_forward_begin(&s->forward, m->first[step], m->rows[step], KVR_PATH_PREFILL, KVRI_GOAL_CACHE);
}

static uint32_t most_rows(const kvr_session *s) {
    return (uint32_t)kvri_min(s->plan.chunk_tokens, s->plan.batch_tokens);
}

/* Of the layers that are computed in full. */
static uint32_t some_layers(const kvr_session *s, double wanted) {
    const uint32_t all = s->model->info.n_layers - 1;
    return wanted < 1 ? 1 : wanted < all ? (uint32_t)wanted : all;
}

void kvri_measure_begin(kvr_session *s, uint64_t now_us, uint64_t budget_us) {
    kvri_measure *m = &s->measure;
    memset(m, 0, sizeof *m);
    memset(&s->stats, 0, sizeof s->stats);
    s->n_cached = 0;
    s->square = 0;
    for (uint32_t i = 0; i < s->plan.ctx_tokens; i++) s->parts.tokens[i] = (int32_t)(i % s->model->info.n_vocab);
    m->budget_us = budget_us;
    m->begun_us = now_us;
    m->rows[KVRI_MEASURE_WARM] = (uint32_t)kvri_min(most_rows(s), WARM_ROWS);
    m->n_layers[KVRI_MEASURE_WARM] = 1;
    kvri_trace_begin(&s->trace, 0);
    begin_pass(s, KVRI_MEASURE_WARM, now_us);
}

/* By WARM: rows and layers that the budget holds a few rounds of. */
static void choose_sizes(kvr_session *s) {
    kvri_measure *m = &s->measure;
    const double round_us = ROUND_ROWS * us_of(m, KVRI_MEASURE_WARM) / m->rows[KVRI_MEASURE_WARM]; /* of a row */
    uint32_t rows = most_rows(s);
    while (rows > LEAST_ROWS && rows * round_us * LEAST_ROUNDS > (double)m->budget_us) rows /= 2;
    const uint32_t layers = some_layers(s, (double)m->budget_us / GOOD_ROUNDS / (rows * round_us + 1));
    for (int step = KVRI_MEASURE_FEW; step < KVRI_MEASURE_STEPS; step++) {
        m->rows[step] = rows;
        m->n_layers[step] = layers;
    }
    m->rows[KVRI_MEASURE_FEW] = rows >= 4 ? rows / 4 : 1;
    m->first[KVRI_MEASURE_DEEP] = (uint32_t)kvri_min(s->plan.ctx_tokens - rows, MOST_DEPTH);
    m->rows[KVRI_MEASURE_ONE] = 1;
    if (layers < ONE_LAYERS) m->n_layers[KVRI_MEASURE_ONE] = some_layers(s, ONE_LAYERS);
}

/* From the beginning of the pass, when the device was idle: the least of times between two layers seen done would be
 * the one whose first layer was seen late. */
static void end_pass(kvr_session *s, uint32_t done, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    const double us = (double)(now_us - m->pass_us) / done;
    double *const least = &m->layer_us[m->step], *const second = &m->second_us[m->step];
    if (*least <= 0 || us < *least) {
        *second = *least;
        *least = us;
    } else if (*second <= 0 || us < *second) {
        *second = us;
    }
    kvri_forward_abandon(&s->forward, &s->compute, &s->parts);
    m->drains = 1;
}

/* ONE is not asked: it is short, and only says below how many rows weights are waited for. */
static int all_agree(const kvri_measure *m) {
    for (int step = KVRI_MEASURE_FEW; step < KVRI_MEASURE_ONE; step++)
        if (m->second_us[step] <= 0 ||
            m->second_us[step] > m->layer_us[step] * AGREE + AWAKE_US / m->n_layers[step])
            return 0;
    return 1;
}

/* One more round: the budget has room for it, or what other work did to the passes shows. */
static int wants_more(const kvri_measure *m, uint64_t now_us) {
    const uint64_t after_us = now_us - m->begun_us + (now_us - m->round_us);
    return all_agree(m) ? m->rounds < MOST_ROUNDS && after_us <= m->budget_us : after_us <= MOST_BUDGETS * m->budget_us;
}

static void begin_round(kvr_session *s, uint64_t now_us) {
    s->measure.round_us = now_us;
    begin_pass(s, KVRI_MEASURE_FEW, now_us);
}

/*
 * The steps take turns, so that each has a pass in every quiet moment of a board that has other work, too: what follows
 * from differences of least times of different moments would be wrong by more than the times are.
 */
static void next_pass(kvr_session *s, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    if (m->step != KVRI_MEASURE_WARM && m->step != KVRI_MEASURE_ONE) {
        begin_pass(s, (kvri_measure_step)(m->step + 1), now_us);
        return;
    }
    m->rounds++;
    if (m->step == KVRI_MEASURE_WARM) {
        if (m->rounds < WARM_ROUNDS && (now_us - m->begun_us) * LEAST_ROUNDS < m->budget_us) {
            begin_pass(s, KVRI_MEASURE_WARM, now_us);
            return;
        }
        choose_sizes(s);
        m->rounds = 0;
        begin_round(s, now_us);
    } else if (wants_more(m, now_us)) {
        begin_round(s, now_us);
    } else {
        m->step = KVRI_MEASURE_STEPS;
    }
}

/* --- what follows -------------------------------------------------------------------------------------------- */

/* Bytes of frames that this processor checks and copies in a second, in 10^9; 0 = too fast to tell. */
static double frame_speed(kvr_session *s) {
    uint32_t sum = 0;
    uint64_t least_us = UINT64_MAX;
    if (s->plan.max_boards < 2) return 0;
    for (uint32_t round = 0; round < FRAME_ROUNDS; round++) {
        const uint64_t begun_us = kvri_session_now(s);
        for (uint32_t i = 0; i < FRAME_RUNS; i++) {
            sum += (uint32_t)kvri_frame_check(s->parts.rx, s->plan.frame_bytes);
            memcpy(s->parts.tx[0], s->parts.rx, (size_t)s->plan.frame_bytes);
            s->parts.rx[0] = (uint8_t)sum;
        }
        least_us = kvri_min(least_us, kvri_session_now(s) - begun_us);
    }
    return least_us > 0 ? 1e-3 * FRAME_RUNS * (double)s->plan.frame_bytes / (double)least_us : 0;
}

/* Of a step, as the cost model counts them. */
static double pairs_of(const kvri_measure *m, kvri_measure_step step) {
    const kvri_costs none = {0};
    return (double)kvri_share_of(&none, m->first[step], m->rows[step], 0, TILE, m->rows[step]).products;
}

/* DEEP less MANY. Noise may say that attention is all there is, or nothing. */
static double pair_time(const kvri_measure *m) {
    const double many_pairs = pairs_of(m, KVRI_MEASURE_MANY), more_pairs = pairs_of(m, KVRI_MEASURE_DEEP) - many_pairs;
    const double us = more_pairs > 0 ? (us_of(m, KVRI_MEASURE_DEEP) - us_of(m, KVRI_MEASURE_MANY)) / more_pairs : 0;
    const double most_us = MOST_PAIRS * us_of(m, KVRI_MEASURE_MANY) / many_pairs;
    return us < 0 ? 0 : us < most_us ? us : most_us;
}

/*
 * A layer over n rows: 2 calls + n x dense + pairs x pair. MANY less FEW, their pairs taken off, is what rows cost;
 * what is left of MANY are the calls.
 */
static void conclude(kvr_session *s) {
    const kvri_measure *m = &s->measure;
    kvr_geometry g;
    kvr_board_profile p;
    memset(&p, 0, sizeof p);
    memset(&s->speed, 0, sizeof s->speed);
    if (kvr_geometry_of(&s->model->info, &g) != KVR_OK) return;
    const double M = g.model_dim, H = g.n_heads, G = g.n_kv_heads, D = g.head_dim;
    const double weights = 2 * M * D * (G + H) + g.ffn_products * M * g.ffn_dim; /* of a layer */
    const double many = m->rows[KVRI_MEASURE_MANY], few = m->rows[KVRI_MEASURE_FEW];
    const double pair_us = pair_time(m);
    const double many_us = us_of(m, KVRI_MEASURE_MANY) - pairs_of(m, KVRI_MEASURE_MANY) * pair_us;
    const double few_us = us_of(m, KVRI_MEASURE_FEW) - pairs_of(m, KVRI_MEASURE_FEW) * pair_us;
    double row_us = many > few ? (many_us - few_us) / (many - few) : many_us / many;
    if (row_us * many > many_us || row_us <= 0) row_us = many_us / many; /* noise: calls cost nothing, or rows do not */
    p.dense_gmacs = 1e-3 * weights / row_us;
    p.attention_gmacs = 1e-3 * 2 * H * D / (pair_us + 1e-3 * 2 * H * D / MOST_GMACS);
    p.memory_gbs = 1e-3 * weights * g.weight_bytes / us_of(m, KVRI_MEASURE_ONE);
    p.call_us = (many_us - many * row_us) / 2;
    p.frame_gbs = frame_speed(s);
    p.attention_tile = TILE;
    p.measured = 1;
    s->speed = kvri_speed_of(&p);
}

kvr_status kvri_measure_poll(kvr_session *s) {
    kvri_measure *m = &s->measure;
    kvri_forward_news news;
    if (m->step == KVRI_MEASURE_STEPS) return KVR_END;
    if (m->drains) {
        if (kvri_forward_drain(&s->forward, &s->compute) == KVR_AGAIN) return KVR_AGAIN;
        next_pass(s, kvri_session_now(s));
        if (m->step == KVRI_MEASURE_STEPS) {
            conclude(s);
            kvri_trace_begin(&s->trace, 0);
        }
        return KVR_OK;
    }
    const int may_go = s->forward.layer < m->n_layers[m->step]; /* nothing is enqueued that is not measured */
    const kvr_status status = kvri_forward_step(&s->forward, &s->compute, &s->plan, &s->parts, may_go, &news);
    if (status < 0) return status;
    const uint64_t now_us = kvri_session_now(s);
    const uint32_t done = kvri_forward_done_layers(&s->forward);
    if (done >= m->n_layers[m->step]) end_pass(s, done, now_us);
    return status == KVR_AGAIN ? KVR_AGAIN : KVR_OK;
}
