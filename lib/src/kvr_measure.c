#include "kvr_measure.h"

#include "kvr_checked.h"
#include "kvr_session_state.h"

#include <string.h>

#define WARM_ROWS 16u
#define LEAST_ROWS 8u
#define LEAST_LAYERS 3u  /* of a pass; the first ones fill the queue */
#define MOST_PASSES 3u   /* of a step: other work on the board only ever adds time */
#define MOST_DEPTH 2048u /* tokens before DEEP */
#define PASS_PART 6u     /* of the budget: what a pass may take */
#define STEP_PART 8u     /* of the budget: a step that took more is not repeated */
#define ROW_LAYERS 14.0  /* rows x layers of a whole measurement with LEAST_LAYERS, in MANY's rows: (1/4 + 1 + 1.5) x
                          * 5 */
#define TILE 16u         /* masked products are skipped in about such squares (opencl/kernels/attention_tile.cl) */
#define FRAME_RUNS 16u
#define MOST_GMACS 1e6   /* what takes no measurable time */

static double us_of(const kvri_measure *m, kvri_measure_step step) { return m->layer_us[step]; }

/* --- the passes ---------------------------------------------------------------------------------------------- */

static void begin_pass(kvr_session *s, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    m->pass_us = now_us;
    m->from_us = 0;
    m->drains = 0;
    kvri_forward_begin(&s->forward, m->first[m->step], m->rows[m->step], KVR_PATH_PREFILL, KVRI_GOAL_CACHE);
}

static void begin_step(kvr_session *s, kvri_measure_step step, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    m->step = step;
    m->passes = 0;
    m->step_us = now_us;
    if (step != KVRI_MEASURE_STEPS) begin_pass(s, now_us);
}

void kvri_measure_begin(kvr_session *s, uint64_t now_us, uint64_t budget_us) {
    kvri_measure *m = &s->measure;
    const uint32_t most = (uint32_t)kvri_min(s->plan.chunk_tokens, s->plan.batch_tokens);
    memset(m, 0, sizeof *m);
    memset(&s->stats, 0, sizeof s->stats);
    s->n_cached = 0;
    s->square = 0;
    for (uint32_t i = 0; i < s->plan.ctx_tokens; i++) s->parts.tokens[i] = (int32_t)(i % s->model->info.n_vocab);
    m->budget_us = budget_us;
    m->rows[KVRI_MEASURE_WARM] = (uint32_t)kvri_min(most, WARM_ROWS);
    m->rows[KVRI_MEASURE_ONE] = 1;
    m->n_layers = (uint32_t)kvri_min(LEAST_LAYERS, s->model->info.n_layers - 1);
    kvri_trace_begin(&s->trace, 0);
    begin_step(s, KVRI_MEASURE_WARM, now_us);
}

/* From the first pass: how many rows and layers the budget holds. */
static void choose_sizes(kvr_session *s) {
    kvri_measure *m = &s->measure;
    const uint32_t most = (uint32_t)kvri_min(s->plan.chunk_tokens, s->plan.batch_tokens);
    const double row_us = us_of(m, KVRI_MEASURE_WARM) / m->rows[KVRI_MEASURE_WARM];
    uint32_t rows = most;
    while (rows > LEAST_ROWS && rows * row_us * ROW_LAYERS > (double)m->budget_us) rows /= 2;
    m->rows[KVRI_MEASURE_MANY] = m->rows[KVRI_MEASURE_DEEP] = rows;
    m->rows[KVRI_MEASURE_FEW] = rows >= 4 ? rows / 4 : 1;
    m->first[KVRI_MEASURE_DEEP] = (uint32_t)kvri_min(s->plan.ctx_tokens - rows, MOST_DEPTH);
    const double layers = (double)m->budget_us / PASS_PART / (rows * row_us + 1);
    const uint32_t all = s->model->info.n_layers - 1;
    m->n_layers = layers < LEAST_LAYERS ? LEAST_LAYERS : layers < all ? (uint32_t)layers : all;
    if (m->n_layers > all) m->n_layers = all;
}

static void end_pass(kvr_session *s, uint32_t done, uint64_t now_us) {
    kvri_measure *m = &s->measure;
    const double us = done > m->from_layers ? (double)(now_us - m->from_us) / (done - m->from_layers)
                                            : (double)(now_us - m->pass_us) / done;
    if (m->layer_us[m->step] <= 0 || us < m->layer_us[m->step]) m->layer_us[m->step] = us;
    m->passes++;
    kvri_forward_abandon(&s->forward, &s->compute, &s->parts);
    m->drains = 1;
}

/* --- what follows -------------------------------------------------------------------------------------------- */

/* Bytes of frames that this processor checks and copies in a second, in 10^9; 0 = too fast to tell. */
static double frame_speed(kvr_session *s) {
    uint32_t sum = 0;
    if (s->plan.max_boards < 2) return 0;
    const uint64_t begun_us = kvri_session_now(s);
    for (uint32_t i = 0; i < FRAME_RUNS; i++) {
        sum += (uint32_t)kvri_frame_check(s->parts.rx, s->plan.frame_bytes);
        memcpy(s->parts.tx[0], s->parts.rx, (size_t)s->plan.frame_bytes);
        s->parts.rx[0] = (uint8_t)sum;
    }
    const uint64_t took_us = kvri_session_now(s) - begun_us;
    return took_us > 0 ? 1e-3 * FRAME_RUNS * (double)s->plan.frame_bytes / (double)took_us : 0;
}

/*
 * A layer over n rows: 2 calls + n x dense + pairs x pair. DEEP less MANY is rows x depth pairs; MANY less FEW, their
 * pairs taken off, is what a row costs; what is left of FEW are the calls.
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
    const double deep_pairs = many * m->first[KVRI_MEASURE_DEEP];
    double pair_us = deep_pairs > 0 ? (us_of(m, KVRI_MEASURE_DEEP) - us_of(m, KVRI_MEASURE_MANY)) / deep_pairs : 0;
    if (pair_us < 0) pair_us = 0;
    const double many_us = us_of(m, KVRI_MEASURE_MANY) - many * many / 2 * pair_us;
    const double few_us = us_of(m, KVRI_MEASURE_FEW) - few * few / 2 * pair_us;
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
        const uint64_t now_us = kvri_session_now(s);
        const int again = m->passes < MOST_PASSES && now_us - m->step_us < m->budget_us / STEP_PART;
        if (m->step == KVRI_MEASURE_WARM && !again) choose_sizes(s);
        if (again) begin_pass(s, now_us);
        else begin_step(s, (kvri_measure_step)(m->step + 1), now_us);
        if (m->step == KVRI_MEASURE_STEPS) {
            conclude(s);
            kvri_trace_begin(&s->trace, 0);
        }
        return KVR_OK;
    }
    const kvr_status status = kvri_forward_step(&s->forward, &s->compute, &s->plan, &s->parts, 1, &news);
    if (status < 0) return status;
    const uint64_t now_us = kvri_session_now(s);
    const uint32_t done = kvri_forward_done_layers(&s->forward);
    if (done > 0 && m->from_us == 0) {
        m->from_us = now_us;
        m->from_layers = done;
    }
    if (done >= m->n_layers || status == KVR_END) end_pass(s, done, now_us);
    return status == KVR_AGAIN ? KVR_AGAIN : KVR_OK;
}
