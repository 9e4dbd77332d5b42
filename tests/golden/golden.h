/*
 * golden.h - the models of this folder and what transformers made of them (make_models.py), against a backend: logits
 * of every prompt token, 64 greedy tokens, and the same bits from chains.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "chain_rig.h"

#include <math.h>

#define GOLDEN_NEW 64u
#define GOLDEN_CHUNK 14u /* the longest of golden_check_chains */

static const char *const golden_names[] = {"llama3",     "mistral", "smollm",     "mixed",      "qwen2",
                                           "qwen2-yarn", "qwen3",   "falcon-7b",  "falcon-40b", "gemma",
                                           "gemma2",     "gemma3",  "phi3-short", "phi3-long",  "qwen3-yarn"};
#define GOLDEN_MODELS (sizeof golden_names / sizeof golden_names[0])

/* What numpy wrote on a little-endian machine, as this machine's words. */
static inline void golden_words(uint8_t *bytes, size_t n) {
    for (size_t i = 0; i + 4 <= n; i += 4) {
        const uint32_t word = kvri_le32(bytes + i);
        memcpy(bytes + i, &word, sizeof word);
    }
}

typedef struct golden {
    rig_model model;
    uint8_t *file;
    uint32_t n_prompt, n_vocab, ctx;
    const int32_t *prompt;
    const float *logits; /* [n_prompt][n_vocab] */
    const int32_t *ids;  /* [GOLDEN_NEW] */
    const float *last;   /* [n_vocab] after the last of ids */
} golden;

static inline void golden_open(golden *g, const char *name) {
    char path[512];
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/models/%s.gguf", KVR_GOLDEN_DIR, name);
    void *file = read_file(path, &bytes);
    assert_non_null(file);
    rig_model_open(&g->model, file, bytes);
    snprintf(path, sizeof path, "%s/models/%s.bin", KVR_GOLDEN_DIR, name);
    g->file = (uint8_t *)read_file(path, &bytes);
    assert_non_null(g->file);
    g->n_prompt = kvri_le32(g->file);
    g->n_vocab = kvri_le32(g->file + 8);
    g->ctx = kvri_le32(g->file + 12);
    assert_int_equal(kvri_le32(g->file + 4), GOLDEN_NEW);
    assert_int_equal(bytes, 16 + 4 * (g->n_prompt + g->n_prompt * g->n_vocab + GOLDEN_NEW + g->n_vocab));
    assert_int_equal(g->model.info->n_vocab, g->n_vocab);
    golden_words(g->file + 16, bytes - 16);
    g->prompt = (const int32_t *)(const void *)(g->file + 16);
    g->logits = (const float *)(g->prompt + g->n_prompt);
    g->ids = (const int32_t *)(const void *)(g->logits + g->n_prompt * g->n_vocab);
    g->last = (const float *)(g->ids + GOLDEN_NEW);
}

static inline void golden_close(golden *g) {
    rig_model_close(&g->model);
    free(g->file);
}

/* Largest difference as a part of the largest logit. */
static inline double golden_difference(const float *got, const float *want, uint32_t n) {
    double worst = 0.0, most = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - (double)want[i]));
        most = fmax(most, fabs((double)want[i]));
    }
    return worst / most;
}

static inline rig_options golden_options(const golden *g, const rig_options *like) {
    rig_options o = *like;
    o.config.ctx_tokens = g->ctx;
    o.config.batch_tokens = 7;
    o.config.frame_tokens = 5;
    return o;
}

/* One board on its own, which keeps what windows show only; all logits. */
static inline void golden_check_logits(const golden *g, const char *name, const rig_options *options,
                                       double tolerance) {
    rig r;
    kvr_event event;
    kvr_prompt p;
    uint32_t n_logits = 0, n_ids = 0;
    double worst = 0.0;
    rig_options o = golden_options(g, options);
    o.config.kv_dtype = KVR_KV_F32;
    o.config.max_boards = 1; /* windows then keep 64 tokens, fewer than prompt and answer have */
    rig_open(&r, &g->model, 1, &o);
    memset(&p, 0, sizeof p);
    p.struct_bytes = sizeof p;
    p.ids = g->prompt;
    p.n_ids = g->n_prompt;
    p.max_new_tokens = GOLDEN_NEW + 1; /* for the logits before it */
    p.ignore_eos = 1;
    p.all_logits = 1;
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
    while (n_ids < GOLDEN_NEW + 1) {
        rig_turn(&r, &event);
        assert_true(r.boards[0].last >= KVR_OK);
        if (event.kind == KVR_EVENT_LOGITS) {
            const float *got = kvr_session_logits(rig_lead(&r));
            if (n_logits < g->n_prompt)
                worst = fmax(worst, golden_difference(got, g->logits + (size_t)n_logits * g->n_vocab, g->n_vocab));
            if (n_logits == g->n_prompt + GOLDEN_NEW - 1)
                worst = fmax(worst, golden_difference(got, g->last, g->n_vocab));
            n_logits++;
        }
        if (event.kind == KVR_EVENT_TOKEN) {
            if (n_ids < GOLDEN_NEW && event.id != g->ids[n_ids])
                fail_msg("%s: greedy token %u is %d, not %d (logits differ by %.2g)", name, n_ids, event.id,
                         g->ids[n_ids], worst);
            n_ids++;
        }
    }
    assert_int_equal(n_logits, g->n_prompt + GOLDEN_NEW);
    printf("%-12s logits differ by %.1e of the largest\n", name, worst);
    if (!(worst <= tolerance)) fail_msg("%s: logits differ by %.2g of the largest", name, worst);
    rig_close(&r);
}

static inline void golden_answer(const golden *g, const rig_options *options, kvr_strategy strategy, uint32_t boards,
                                 const uint32_t *cut, rig_answer *out) {
    rig r;
    rig_options o = golden_options(g, options);
    if (strategy == KVR_STRATEGY_CHAIN && boards > 1) o.config.chunk_tokens = GOLDEN_CHUNK; /* the same of a chain */
    rig_open(&r, &g->model, boards, &o);
    assert_int_equal(rig_prompt_by(&r, strategy, g->prompt, g->n_prompt, GOLDEN_NEW, boards, cut), KVR_OK);
    rig_run(&r, out);
    assert_int_equal(out->status, KVR_OK);
    rig_close(&r);
}

static inline void golden_check_chains(const golden *g, const char *name, const rig_options *options) {
    static const struct { kvr_strategy strategy; uint32_t boards, cut[4]; } cuts[] = {
        {KVR_STRATEGY_CHAIN, 2, {12, 12}}, {KVR_STRATEGY_CHAIN, 3, {1, 14, 9}}, {KVR_STRATEGY_CHAIN, 4, {11, 6, 6, 1}},
        {KVR_STRATEGY_TSP, 3, {8, 8, 8}}};
    rig_answer single, chain;
    golden_answer(g, options, KVR_STRATEGY_CHAIN, 1, NULL, &single);
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        golden_answer(g, options, cuts[c].strategy, cuts[c].boards, cuts[c].cut, &chain);
        if (!rig_same(&g->model, &single, &chain)) fail_msg("%s: a chain of %u differs", name, cuts[c].boards);
        rig_answer_free(&chain);
    }
    rig_answer_free(&single);
}

#endif
