#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "affinity.h"
#include "balance.h"
#include "child.h"
#include "say.h"
#include "statistics.h"
#include "timeline.h"

/* --- in the child --------------------------------------------------------------------------------------------- */

/* Ids from a fixed seed (xorshift64*, Vigna 2016), with BOS in front where the model wants it. */
static void fill_ids(const kvr_model_info *info, int32_t *ids, uint32_t n) {
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (uint32_t i = 0; i < n; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        ids[i] = (int32_t)((state * 0x2545F4914F6CDD1Du >> 33) % info->n_vocab);
    }
    if (n > 0 && info->add_bos && info->bos_id >= 0) ids[0] = info->bos_id;
}

/* One repetition: the time from the question to the end of the answer. n_kept of the ids are cached already. */
static int run_once(chain *c, const options *opt, const int32_t *ids, uint32_t n_ids, uint32_t n_kept, uint32_t n_new,
                    uint32_t n_boards, uint64_t *out_ns, uint64_t *out_ttft_us) {
    kvr_prompt prompt;
    kvr_stats stats;
    memset(&prompt, 0, sizeof prompt);
    memset(&stats, 0, sizeof stats);
    prompt.struct_bytes = sizeof prompt;
    prompt.sampling.struct_bytes = sizeof prompt.sampling;
    prompt.ids = ids;
    prompt.n_ids = n_ids;
    prompt.keep_tokens = n_kept;
    prompt.max_new_tokens = n_new;
    prompt.ignore_eos = 1;
    chain_fill_strategy(n_boards < n_ids ? n_boards : n_ids, opt, &prompt);
    uint32_t sizes[KVR_MAX_BOARDS];
    int code = n_kept == 0 && n_ids > 1 ? balance_prompt(c, opt, &prompt, sizes) : EXIT_OK;
    if (code != EXIT_OK) return code;
    uint64_t start_us = engine_now_us(&c->e);
    code = chain_answer(c, &prompt, NULL, NULL);
    *out_ns = (engine_now_us(&c->e) - start_us) * 1000u;
    stats.struct_bytes = sizeof stats;
    kvr_session_get_stats(c->e.session, &stats);
    *out_ttft_us = stats.ttft_us;
    return code;
}

static uint64_t peak_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024u : 0;
}

/* 0: some board's spans are not here, or not all. */
static uint64_t bytes_moved(const timeline *lanes) {
    uint64_t sum = 0;
    for (uint32_t r = 0; r < lanes->n_boards; r++) {
        if (!lanes->boards[r].known || lanes->boards[r].n_lost > 0) return 0;
        sum += lanes->bytes[r];
    }
    return sum;
}

/* pp: the prompt and its first token, by the whole chain. tg: n_gen tokens after one id, by the lead alone. Both behind
 * n_depth ids, which are computed once, before. */
static int run_test(chain *c, const options *opt, const int32_t *ids, measure_result *result, int fd) {
    uint32_t depth = result->n_depth, n_ids = depth + (result->n_prompt ? result->n_prompt : 1);
    uint32_t n_new = result->n_prompt ? 1 : result->n_gen;
    uint32_t n_boards = result->n_prompt ? c->n_boards : 1;
    uint64_t ns = 0, ttft_us = 0;
    int code = depth ? run_once(c, opt, ids, depth, 0, 0, 1, &ns, &ttft_us) : EXIT_OK;
    if (code == EXIT_OK && !opt->no_warmup) code = run_once(c, opt, ids, n_ids, depth, n_new, n_boards, &ns, &ttft_us);
    for (uint32_t i = 0; i < opt->repetitions && code == EXIT_OK; i++)
        code = run_once(c, opt, ids, n_ids, depth, n_new, n_boards, &result->sample_ns[i], &result->ttft_us[i]);
    result->n_samples = opt->repetitions;
    kvr_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    kvr_session_get_stats(c->e.session, &stats);
    result->expected_us = result->n_prompt != 0 ? statistics_expected_us(c, &stats) : 0;
    statistics_partition(c, result->partition, sizeof result->partition);
    result->peak_bytes = peak_bytes();
    if (code == EXIT_OK && opt->trace != NULL) {
        static timeline lanes;
        timeline_of_session(c, &lanes);
        result->bytes_moved = bytes_moved(&lanes);
        code = timeline_write_trace(&lanes, opt->trace);
    }
    return code == EXIT_OK ? child_send(fd, result, sizeof *result) : code;
}

static uint64_t longest(const number_list *list) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < list->n; i++)
        if (list->values[i] > most) most = list->values[i];
    return most;
}

/* What all tests on a chain have in common. */
static void describe(const chain *c, const options *opt, measure_result *result) {
    memset(result, 0, sizeof *result);
    result->n_boards = c->n_boards;
    result->n_threads = c->n_cores ? c->n_cores : opt->threads ? opt->threads : affinity_cores();
    result->batch_tokens = c->e.plan.batch_tokens;
    result->kv_dtype = c->e.plan.kv_dtype;
    memcpy(result->region_bytes, c->e.plan.region_bytes, sizeof result->region_bytes);
    snprintf(result->backend, sizeof result->backend, "%s", device_backend(c->e.dev)->name);
    if (strcmp(result->backend, "reference") == 0) result->n_threads = 1;
    snprintf(result->device, sizeof result->device, "%s", device_name(c->e.dev));
}

static int run_tests(chain *c, const options *opt, const int32_t *ids, uint32_t depth, int fd) {
    static measure_result result; /* large for a stack */
    int code = EXIT_OK;
    for (int gen = 0; gen < 2; gen++) {
        const number_list *list = gen ? &opt->bench_gen : &opt->bench_prompt;
        for (uint32_t i = 0; i < list->n && code == EXIT_OK; i++) {
            if (list->values[i] == 0) continue;
            describe(c, opt, &result);
            result.n_depth = depth;
            if (gen) result.n_gen = list->values[i];
            else result.n_prompt = list->values[i];
            code = run_test(c, opt, ids, &result, fd);
        }
    }
    return code;
}

static int run_chain(const options *opt, uint32_t n_boards, int fd) {
    chain c = {0};
    options own = *opt;
    if (opt->boards == NULL) own.local_boards = n_boards;
    uint64_t n_prompt = longest(&opt->bench_prompt), n_gen = longest(&opt->bench_gen);
    own.all_keys = longest(&opt->bench_depth) > 0; /* each repetition goes back to the tokens before it */
    uint64_t n_depth = longest(&opt->bench_depth), n_ids = n_depth + n_prompt + 1;
    uint64_t needed = n_depth + (n_prompt > n_gen ? n_prompt : n_gen) + 1;
    int code = engine_open_model(&c.e, opt->model);
    uint32_t ctx_tokens = opt->ctx_tokens ? opt->ctx_tokens : (uint32_t)needed;
    if (code == EXIT_OK && kvr_model_get_info(c.e.model)->n_vocab == 0)
        code = say_error("%s: has no vocabulary: use a whole model", opt->model);
    if (code == EXIT_OK) code = engine_check_fits((size_t)needed, ctx_tokens);
    int32_t *ids = code == EXIT_OK ? malloc((size_t)n_ids * sizeof *ids) : NULL;
    if (code == EXIT_OK && ids == NULL)
        code = say_error("not enough memory for %llu ids: lower -p", (unsigned long long)n_ids);
    if (code == EXIT_OK) {
        fill_ids(kvr_model_get_info(c.e.model), ids, (uint32_t)n_ids);
        code = chain_open(&c, &own, n_boards ? n_boards : 1, ctx_tokens);
    }
    for (uint32_t i = 0; i < opt->bench_depth.n && code == EXIT_OK; i++)
        code = run_tests(&c, opt, ids, opt->bench_depth.values[i], fd);
    chain_close(&c);
    free(ids);
    return code;
}

/* --- in the parent -------------------------------------------------------------------------------------------- */

typedef struct chain_job {
    const options *opt;
    uint32_t n_boards;
    measure_fn callback;
    void *user;
} chain_job;

static int measure_chain(void *arg, int fd) {
    const chain_job *job = arg;
    return run_chain(job->opt, job->n_boards, fd);
}

static int take_result(void *user, const void *result) {
    const chain_job *job = user;
    return job->callback(job->user, result);
}

int measure_run(const options *opt, uint32_t n_boards, measure_fn callback, void *user) {
    static measure_result result; /* large for a stack */
    chain_job job = {opt, n_boards, callback, user};
    return child_run(measure_chain, &job, &result, sizeof result, take_result, &job);
}
