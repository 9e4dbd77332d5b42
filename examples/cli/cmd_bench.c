/* kvr bench: tokens per second and time to the first token, in the columns of llama-bench. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chain.h"
#include "commands.h"
#include "engine.h"
#include "kernels.h"
#include "kvr/kvr_version.h"
#include "measure.h"
#include "output.h"
#include "say.h"

static const command_help HELP = {
    "bench",
    "-m FILE [--kernels | -p N,... -n N,... --local-boards P,P,... | --boards ADDR,...]\n"
    "       [--depth N,...] [-r N] [-o md|csv|json]",
    "Measures prompts (pp: until the first token is known) and answers (tg: tokens after one id, by the lead alone).",
    "With --local-boards each board is held to --board-cores cores, also for P = 1, so that chains of different "
    "length compare. ttft_ms is the median time to the first token of the prompt; with --trace json and csv have "
    "bytes_moved, what went over all links in the last run.\n"
    "planned is what 'kvr plan' says of this board's host and device memory; resident is the most that its process "
    "had, with the pages of the model file and what drivers take.\n"
    "--kernels enqueues every operator of a prompt's micro-batch and of a token again and again, on the tensors of "
    "all layers in turn, and shows the median time of a call, its calls in a pass, and its share of what small "
    "kernels of kvr's own reach on this device: multiply-adds of floats and of bytes, reading. -p and -n do not "
    "matter then."};
static const option_id ACCEPTS[] = {
    OPT_MODEL,       OPT_BENCH_PROMPT,      OPT_BENCH_GEN,   OPT_BENCH_DEPTH,   OPT_BENCH_KERNELS,
    OPT_REPETITIONS, OPT_NO_WARMUP,         OPT_TRACE,       OPT_OUTPUT,        OPT_CONTEXT,
    OPT_DEVICE,      OPT_THREADS,           OPT_KV,          OPT_GEMM,          OPT_PRECISION,
    OPT_BATCH,       OPT_LOCAL_BOARDS_LIST, OPT_BOARD_CORES, OPT_BOARD_TIMEOUT, OPT_START_TIMEOUT,
    OPT_PAPER,       OPT_PROFILE,           OPT_RUN_LINK,    OPT_EVEN,          OPT_PROFILES,
    OPT_EMULATE,     OPT_STRATEGY,          OPT_BOARDS,      OPT_LISTEN_LEAD,   OPT_KEY,
    OPT_ALLOWED,     OPT_INSECURE,          OPT_WIRE_KV,     OPT_KV_WINDOW,     OPT_CHUNK,
    OPT_END};

enum { CAP_SAMPLES_TEXT = 24 * MEASURE_CAP_SAMPLES + 8 };

typedef struct report {
    output out;
    const kvr_model_info *info;
    const char *model;
    char type[96];
    uint32_t strategy;
} report;

static double mean(const double *x, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : 0;
}

static double deviation(const double *x, uint32_t n) {
    double average = mean(x, n), sum = 0;
    if (n < 2) return 0;
    for (uint32_t i = 0; i < n; i++) sum += (x[i] - average) * (x[i] - average);
    return sqrt(sum / (n - 1));
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median_ms(const uint64_t *us, uint32_t n) {
    static uint64_t sorted[MEASURE_CAP_SAMPLES];
    if (n == 0) return 0;
    memcpy(sorted, us, n * sizeof *us);
    qsort(sorted, n, sizeof *sorted, ascending);
    return (double)(sorted[(n - 1) / 2] + sorted[n / 2]) / 2000.0;
}

static double least_ms(const uint64_t *us, uint32_t n) {
    uint64_t least = n > 0 ? us[0] : 0;
    for (uint32_t i = 1; i < n; i++)
        if (us[i] < least) least = us[i];
    return (double)least / 1000;
}

/* "[1,2,3]" */
static const char *samples_text(const double *x, uint32_t n, const char *format, char *out, size_t cap) {
    size_t at = 0;
    out[at++] = '[';
    for (uint32_t i = 0; i < n && at + 32 < cap; i++) {
        if (i) out[at++] = ',';
        at += (size_t)snprintf(out + at, 28, format, x[i]);
    }
    out[at++] = ']';
    out[at] = '\0';
    return out;
}

static const char *number(char *out, size_t cap, const char *format, double x) {
    snprintf(out, cap, format, x);
    return out;
}

static const char *bytes(char out[32], uint64_t n) {
    return number(out, 32, "%.0f", (double)n);
}

static int on_result(void *user, const measure_result *r) {
    static double ns[MEASURE_CAP_SAMPLES], ts[MEASURE_CAP_SAMPLES];
    static char ns_text[CAP_SAMPLES_TEXT], ts_text[CAP_SAMPLES_TEXT];
    report *rep = user;
    const kvr_model_info *info = rep->info;
    double n_tokens = r->n_prompt + r->n_gen;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        ns[i] = (double)r->sample_ns[i];
        ts[i] = r->sample_ns[i] ? n_tokens * 1e9 / ns[i] : 0;
    }
    char size[32], params[32], test[48], rate[64], when[32] = "", ttft[32] = "", planned[32], resident[32];
    char c[21][32], depth[24] = "";
    if (r->n_depth) snprintf(depth, sizeof depth, " @ d%u", r->n_depth);
    snprintf(test, sizeof test, "%s%u%s", r->n_prompt ? "pp" : "tg", r->n_prompt ? r->n_prompt : r->n_gen, depth);
    snprintf(rate, sizeof rate, "%.2f ± %.2f", mean(ts, r->n_samples), deviation(ts, r->n_samples));
    if (r->n_prompt) number(ttft, sizeof ttft, "%.2f", median_ms(r->ttft_us, r->n_samples));
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    uint64_t exact = 0;
    for (uint32_t region = 0; region <= KVR_REGION_DEVICE; region++) exact += r->region_bytes[region];
    const char *kv = r->kv_dtype == KVR_DTYPE_F32 ? "f32" : "f16";

    const cell cells[] = {
        {"build_commit", NULL, KVR_VERSION, CELL_TEXT, 0},
        {"backends", NULL, r->backend, CELL_TEXT, 0},
        {"gpu_info", NULL, r->device, CELL_TEXT, 0},
        {"model_filename", NULL, rep->model, CELL_TEXT, 0},
        {"model_type", "model", rep->type, CELL_TEXT, -30},
        {"model_size", NULL, number(c[0], 32, "%.0f", (double)info->weight_bytes), CELL_NUMBER, 0},
        {"model_n_params", NULL, number(c[1], 32, "%.0f", (double)info->n_params), CELL_NUMBER, 0},
        {NULL, "size", output_size(info->weight_bytes, size, sizeof size), CELL_TEXT, 10},
        {NULL, "params", output_count(info->n_params, params, sizeof params), CELL_TEXT, 10},
        {NULL, "backend", r->backend, CELL_TEXT, -10},
        {"n_batch", NULL, number(c[2], 32, "%.0f", r->batch_tokens), CELL_NUMBER, 0},
        {"n_threads", "threads", number(c[3], 32, "%.0f", r->n_threads), CELL_NUMBER, 7},
        {"boards", "boards", number(c[4], 32, "%.0f", r->n_boards), CELL_NUMBER, 6},
        {"strategy", NULL, chain_strategy_name(r->n_boards, rep->strategy), CELL_TEXT, 0},
        {"partition", NULL, r->n_prompt ? r->partition : "", CELL_TEXT, 0},
        {"type_k", NULL, kv, CELL_TEXT, 0},
        {"type_v", NULL, kv, CELL_TEXT, 0},
        {"n_prompt", NULL, number(c[5], 32, "%.0f", r->n_prompt), CELL_NUMBER, 0},
        {"n_gen", NULL, number(c[6], 32, "%.0f", r->n_gen), CELL_NUMBER, 0},
        {"n_depth", NULL, number(c[11], 32, "%.0f", r->n_depth), CELL_NUMBER, 0},
        {NULL, "test", test, CELL_TEXT, 15},
        {"test_time", NULL, when, CELL_TEXT, 0},
        {"avg_ns", NULL, number(c[7], 32, "%.0f", mean(ns, r->n_samples)), CELL_NUMBER, 0},
        {"stddev_ns", NULL, number(c[8], 32, "%.0f", deviation(ns, r->n_samples)), CELL_NUMBER, 0},
        {"avg_ts", NULL, number(c[9], 32, "%.6f", mean(ts, r->n_samples)), CELL_NUMBER, 0},
        {"stddev_ts", NULL, number(c[10], 32, "%.6f", deviation(ts, r->n_samples)), CELL_NUMBER, 0},
        {NULL, "t/s", rate, CELL_TEXT, 20},
        {"ttft_ms", "ttft_ms", ttft, CELL_NUMBER, 10},
        {"least_ttft_ms", NULL, r->n_prompt ? number(c[18], 32, "%.3f", least_ms(r->ttft_us, r->n_samples)) : "",
         CELL_NUMBER, 0},
        {"expected_ttft_ms", NULL, r->expected_us > 0 ? number(c[19], 32, "%.3f", r->expected_us / 1e3) : "",
         CELL_NUMBER, 0},
        {"bytes_moved", NULL, r->bytes_moved > 0 ? bytes(c[20], r->bytes_moved) : "", CELL_NUMBER, 0},
        {NULL, "planned", output_size(exact, planned, sizeof planned), CELL_TEXT, 11},
        {NULL, "resident", output_size(r->peak_bytes, resident, sizeof resident), CELL_TEXT, 11},
        {"mem_model", NULL, bytes(c[12], r->region_bytes[KVR_REGION_MODEL]), CELL_NUMBER, 0},
        {"mem_session", NULL, bytes(c[13], r->region_bytes[KVR_REGION_SESSION]), CELL_NUMBER, 0},
        {"mem_device", NULL, bytes(c[14], r->region_bytes[KVR_REGION_DEVICE]), CELL_NUMBER, 0},
        {"mem_mapped", NULL, bytes(c[15], r->region_bytes[KVR_REGION_MAPPED]), CELL_NUMBER, 0},
        {"mem_driver_estimate", NULL, bytes(c[16], r->region_bytes[KVR_REGION_DRIVER]), CELL_NUMBER, 0},
        {"mem_peak_resident", NULL, bytes(c[17], r->peak_bytes), CELL_NUMBER, 0},
        {"samples_ns", NULL, samples_text(ns, r->n_samples, "%.0f", ns_text, sizeof ns_text), CELL_SAMPLES, 0},
        {"samples_ts", NULL, samples_text(ts, r->n_samples, "%.6f", ts_text, sizeof ts_text), CELL_SAMPLES, 0},
    };
    return output_row(&rep->out, cells, sizeof cells / sizeof cells[0]);
}

/* "llama 1.10 B Q4_0": the architecture, the parameters, the type that most bytes have. */
static void name_type(const kvr_model_info *info, char *out, size_t cap) {
    char count[32];
    uint32_t best = 0;
    for (uint32_t i = 1; i < info->n_types && i < KVR_TYPE_KINDS; i++)
        if (info->types[i].bytes > info->types[best].bytes) best = i;
    snprintf(out, cap, "%s %s %s", info->architecture, output_count(info->n_params, count, sizeof count),
             info->n_types ? kvr_dtype_name(info->types[best].dtype) : "");
}

static int any_above(const number_list *list, uint32_t limit) {
    for (uint32_t i = 0; i < list->n; i++)
        if (list->values[i] > limit) return 1;
    return 0;
}

int cmd_bench(int argc, char **argv) {
    options opt;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--paper") == 0) return cmd_bench_paper(argc, argv);
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    opt.need_all_boards = 1; /* a figure from fewer boards than asked for would be another one */
    if ((code = chain_check_needs(&opt, HELP.name)) != EXIT_OK) return code;
    if (opt.kernels && opt.local_boards_list.n)
        return say_usage(HELP.name, "--kernels looks at one board: leave --local-boards away");
    if (opt.kernels && opt.trace != NULL)
        return say_usage(HELP.name, "--kernels runs no prompt that --trace could write: leave one of them away");
    if (opt.kernels) return kernels_run(&opt);
    if (!any_above(&opt.bench_prompt, 0) && !any_above(&opt.bench_gen, 0))
        return say_usage(HELP.name, "nothing to measure: all lengths of -p and -n are 0");
    uint32_t n_boards = 0;
    if (opt.boards != NULL && opt.local_boards_list.n != 0)
        return say_usage(HELP.name, "--local-boards starts helpers and --boards names running ones: give one of them");
    if (opt.boards != NULL && (code = chain_check_options(&opt, HELP.name, &n_boards)) != EXIT_OK) return code;
    if (opt.bench_depth.n == 0) opt.bench_depth.n = 1; /* depth 0 */
    if (any_above(&opt.bench_depth, 0) && (n_boards > 1 || any_above(&opt.local_boards_list, 1)))
        return say_usage(HELP.name, "tokens are cached ahead on one board only: give --depth without other boards");
    engine e = {0};
    code = engine_open_model(&e, opt.model);
    if (code == EXIT_OK) {
        report rep = {0};
        rep.info = kvr_model_get_info(e.model);
        rep.model = opt.model;
        rep.strategy = opt.strategy;
        name_type(rep.info, rep.type, sizeof rep.type);
        output_begin(&rep.out, (output_format)opt.output);
        uint32_t n_chains = opt.local_boards_list.n ? opt.local_boards_list.n : 1;
        for (uint32_t i = 0; i < n_chains && code == EXIT_OK; i++)
            code = measure_run(&opt, opt.local_boards_list.n ? opt.local_boards_list.values[i] : n_boards, on_result,
                               &rep);
        output_end(&rep.out);
    }
    engine_close(&e);
    return code;
}
