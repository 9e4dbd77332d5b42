#include "calibrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvr/kvr_cost.h"
#include "measure.h"
#include "say.h"

/* Prompt lengths in micro-batches of the usual size; one again in small ones, which tells what a call costs. */
static const number_list LENGTHS = {6, {64, 128, 256, 384, 512, 1024}};
#define SMALL_BATCH 64u
#define N_GEN 16u
#define CAP_SAMPLES 128u

/* Of the attention kernels: masked keys are skipped in blocks of about this many (opencl/kernels/attention_tile.cl). */
#define ATTENTION_TILE 16u
/* Bytes of frames that a processor copies and checks in a second: not measured here. */
#define FRAME_GBS 1.5

typedef struct calibration {
    kvr_cost_sample samples[CAP_SAMPLES];
    uint32_t n_samples;
    double token_us; /* of generation */
    char device[128];
} calibration;

/* Other processes only ever add time. */
static double least(const uint64_t *values, uint32_t n) {
    uint64_t best = n > 0 ? values[0] : 0;
    for (uint32_t i = 1; i < n; i++)
        if (values[i] < best) best = values[i];
    return (double)best;
}

static void on_result(void *user, const measure_result *r) {
    calibration *c = user;
    memcpy(c->device, r->device, sizeof c->device);
    if (r->n_gen != 0) {
        c->token_us = least(r->sample_ns, r->n_samples) / 1e3 / r->n_gen;
        say_note("%u tokens generated: %.2f ms each", r->n_gen, c->token_us / 1e3);
        return;
    }
    if (c->n_samples == CAP_SAMPLES) return;
    kvr_cost_sample *s = &c->samples[c->n_samples++];
    s->n_tokens = r->n_prompt;
    s->batch_tokens = r->batch_tokens;
    s->ttft_us = least(r->ttft_us, r->n_samples);
    say_note("prompt of %u tokens, %u at a time: %.1f ms", s->n_tokens, s->batch_tokens, s->ttft_us / 1e3);
}

/* What the profile gives for the samples it was made from. */
static double worst_error(const kvr_geometry *g, const kvr_board_profile *profile, const calibration *c) {
    double worst = 0;
    const kvr_board_profile *const only[1] = {profile};
    for (uint32_t i = 0; i < c->n_samples; i++) {
        kvr_cost_job job;
        kvr_cost_result result;
        memset(&job, 0, sizeof job);
        job.struct_bytes = sizeof job;
        job.strategy = KVR_COST_SINGLE;
        job.geometry = g;
        job.boards = only;
        job.n_boards = 1;
        job.n_tokens = c->samples[i].n_tokens;
        job.batch_tokens = c->samples[i].batch_tokens;
        const size_t bytes = kvr_cost_work_bytes(&job);
        void *work = malloc(bytes ? bytes : 1);
        if (work != NULL && kvr_cost_run(&job, work, bytes, &result, NULL, NULL) == KVR_OK) {
            double error = result.ttft_us / c->samples[i].ttft_us - 1;
            if (error < 0) error = -error;
            if (error > worst) worst = error;
        }
        free(work);
    }
    return worst;
}

static int write_profile(const kvr_board_profile *profile, const char *path) {
    static char text[KVR_PROFILE_MAX_BYTES];
    const size_t n = kvr_board_profile_write(profile, text, sizeof text);
    FILE *file = path != NULL ? fopen(path, "w") : stdout;
    if (file == NULL) return say_error("cannot write %s: %s", path, strerror(errno));
    const int whole = fwrite(text, 1, n, file) == n;
    if (path != NULL && (fclose(file) != 0 || !whole)) return say_error("cannot write %s: %s", path, strerror(errno));
    return EXIT_OK;
}

/* Runs what fits the model's context. batch: tokens per operator call, 0 = the usual. */
static int measure(const options *opt, const number_list *lengths, uint32_t most, uint32_t batch, uint32_t n_gen,
                   calibration *c) {
    options own = *opt;
    own.bench_prompt.n = 0;
    for (uint32_t i = 0; i < lengths->n; i++)
        if (lengths->values[i] < most) own.bench_prompt.values[own.bench_prompt.n++] = lengths->values[i];
    own.bench_gen.n = n_gen != 0;
    own.bench_gen.values[0] = n_gen;
    own.bench_depth.n = 1;
    own.bench_depth.values[0] = 0;
    own.batch_tokens = batch != 0 ? batch : opt->batch_tokens;
    own.ctx_tokens = 0;
    return measure_run(&own, 0, on_result, c);
}

int calibrate(const options *opt) {
    static calibration c;
    static engine e;
    kvr_geometry geometry;
    kvr_board_profile profile;
    memset(&c, 0, sizeof c);
    memset(&profile, 0, sizeof profile);
    int code = engine_open_model(&e, opt->model);
    if (code == EXIT_OK && kvr_geometry_of(kvr_model_get_info(e.model), &geometry) != KVR_OK)
        code = say_error("%s: holds a vocabulary but no weights: use a whole model here", opt->model);
    uint32_t most = code == EXIT_OK ? kvr_model_get_info(e.model)->train_ctx_tokens : 0;
    engine_close(&e);
    if (code != EXIT_OK) return code;
    if (most == 0) most = ENGINE_DEFAULT_CTX_TOKENS;

    const number_list *lengths = opt->plan_prompt.n != 0 ? &opt->plan_prompt : &LENGTHS;
    number_list middle = {1, {0}};
    for (uint32_t i = 0; i < lengths->n; i++)
        if (lengths->values[i] < most && lengths->values[i] <= 512 && lengths->values[i] > middle.values[0])
            middle.values[0] = lengths->values[i];
    code = measure(opt, lengths, most, 0, N_GEN, &c);
    if (code == EXIT_OK && middle.values[0] >= 2 * SMALL_BATCH) code = measure(opt, &middle, most, SMALL_BATCH, 0, &c);
    if (code != EXIT_OK) return code;

    const double weights = (double)geometry.model_dim * geometry.n_vocab +
                           geometry.n_layers * (double)geometry.model_dim *
                               (2.0 * geometry.head_dim * (geometry.n_heads + geometry.n_kv_heads) +
                                (double)geometry.ffn_products * geometry.ffn_dim);
    snprintf(profile.name, sizeof profile.name, "%s", opt->name != NULL ? opt->name : "this-board");
    snprintf(profile.source, sizeof profile.source, "measured with %.80s on %.100s", geometry.name, c.device);
    profile.measured = 1;
    profile.attention_tile = ATTENTION_TILE;
    profile.frame_gbs = FRAME_GBS;
    profile.memory_gbs = c.token_us > 0 ? weights * geometry.weight_bytes / c.token_us / 1e3 : 0;
    if (kvr_board_profile_fit(&geometry, c.samples, c.n_samples, &profile) != KVR_OK)
        return say_error("the measured times fit no profile; run again, with more or longer prompts (-p)");
    say_note("the profile gives these times again within %.1f %%", 100 * worst_error(&geometry, &profile, &c));
    return write_profile(&profile, opt->table_out);
}
