/* A board's profile from measured prompts: the cost model of one board is linear in what is looked for. */
#include "kvr_cost_core.h"

#include <math.h>
#include <string.h>

enum { PROMPT = 0, DENSE = 1, ATTENTION = 2, CALL = 3, UNKNOWNS = 4 };

#define MOST_GMACS 1e6   /* what takes no measurable time */
#define SINGULAR 1e-12   /* of the diagonal: the samples do not tell these two apart */

/* How much of each unknown is in a prompt; times come out in us. */
static void row_of(const kvr_geometry *g, const kvr_board_profile *profile, const kvr_cost_sample *s, double *out) {
    kvr_board_profile unit = *profile;
    unit.dense_gmacs = unit.attention_gmacs = unit.memory_gbs = 1;
    unit.score_bytes = 0;
    const kvri_costs all = kvri_costs_of(&unit, g);
    for (int i = 0; i < UNKNOWNS; i++) {
        kvri_costs only;
        memset(&only, 0, sizeof only);
        if (i == PROMPT) only.prompt_us = 1;
        if (i == DENSE) only.kv_token_us = all.kv_token_us;
        if (i == DENSE) only.rest_token_us = all.rest_token_us;
        if (i == ATTENTION) only.pair_us = all.pair_us;
        if (i == CALL) only.call_us = only.head_us = 1;
        out[i] = kvri_single_us(&only, s->n_tokens, profile->attention_tile, g->n_layers, s->batch_tokens);
    }
}

/* Gauss with a symmetric matrix; unknowns that are not `free` stay 0. 0: singular. */
static int solve(double a[UNKNOWNS][UNKNOWNS], const double *right, const int *is_free, double *out) {
    double m[UNKNOWNS][UNKNOWNS + 1];
    for (int i = 0; i < UNKNOWNS; i++) {
        for (int k = 0; k < UNKNOWNS; k++) m[i][k] = is_free[i] && is_free[k] ? a[i][k] : i == k;
        m[i][UNKNOWNS] = is_free[i] ? right[i] : 0;
    }
    for (int i = 0; i < UNKNOWNS; i++) {
        if (!(m[i][i] > SINGULAR * (is_free[i] ? a[i][i] : 1))) return 0;
        for (int r = i + 1; r < UNKNOWNS; r++) {
            const double factor = m[r][i] / m[i][i];
            for (int k = i; k <= UNKNOWNS; k++) m[r][k] -= factor * m[i][k];
        }
    }
    for (int i = UNKNOWNS - 1; i >= 0; i--) {
        out[i] = m[i][UNKNOWNS];
        for (int k = i + 1; k < UNKNOWNS; k++) out[i] -= m[i][k] * out[k];
        out[i] /= m[i][i];
    }
    return 1;
}

/* How much one of an unknown weighs in all samples together. */
static double weight_of(double a[UNKNOWNS][UNKNOWNS], int i) { return sqrt(a[i][i]); }

kvr_status kvr_board_profile_fit(const kvr_geometry *geometry, const kvr_cost_sample *samples, uint32_t n_samples,
                                 kvr_board_profile *profile) {
    double a[UNKNOWNS][UNKNOWNS] = {{0}}, right[UNKNOWNS] = {0}, x[UNKNOWNS] = {0};
    int is_free[UNKNOWNS] = {1, 1, 1, 1};
    if (geometry == NULL || geometry->n_layers == 0 || samples == NULL || profile == NULL || !(profile->memory_gbs > 0))
        return KVR_ERR_ARG;
    const double head_us =
        1e-3 * (double)geometry->model_dim * geometry->n_vocab * geometry->weight_bytes / profile->memory_gbs;
    for (uint32_t n = 0; n < n_samples; n++) {
        const kvr_cost_sample *s = &samples[n];
        double row[UNKNOWNS];
        if (s->n_tokens == 0 || s->batch_tokens == 0 || !(s->ttft_us > 0)) return KVR_ERR_ARG;
        row_of(geometry, profile, s, row);
        const double weight = 1 / s->ttft_us; /* relative errors */
        for (int i = 0; i < UNKNOWNS; i++) {
            right[i] += row[i] * weight * (s->ttft_us - head_us) * weight;
            for (int k = 0; k < UNKNOWNS; k++) a[i][k] += row[i] * weight * row[k] * weight;
        }
    }
    /* A time below zero is noise: without it the others are found again. Products with weights are always there; when
     * noise says otherwise, attention has taken their part. Each round drops one. */
    for (int round = 0; round < UNKNOWNS; round++) {
        int out = -1;
        if (!solve(a, right, is_free, x)) return KVR_ERR_ARG;
        for (int i = 0; i < UNKNOWNS; i++)
            if (i != DENSE && is_free[i] && x[i] < 0 &&
                (out < 0 || x[i] * weight_of(a, i) < x[out] * weight_of(a, out)))
                out = i;
        if (out < 0 && x[DENSE] <= 0)
            out = is_free[ATTENTION] ? ATTENTION : is_free[CALL] ? CALL : is_free[PROMPT] ? PROMPT : -1;
        if (out < 0) break;
        is_free[out] = 0;
    }
    if (!(x[DENSE] > 0)) return KVR_ERR_ARG;
    profile->dense_gmacs = 1 / x[DENSE];
    profile->attention_gmacs = x[ATTENTION] > 1 / MOST_GMACS ? 1 / x[ATTENTION] : MOST_GMACS;
    profile->call_us = x[CALL];
    profile->prompt_us = x[PROMPT];
    return KVR_OK;
}
