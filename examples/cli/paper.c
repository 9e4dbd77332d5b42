/* kvr bench --paper: the comparison of the KV-Runahead paper, from the cost model and profiles. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "forecast.h"
#include "output.h"
#include "paper_runs.h"
#include "profiles.h"
#include "say.h"

static const command_help HELP = {
    "bench --paper",
    "[--models NAMES] [--link NAMES] [--boards P,...] [-p N,...] [--board NAME]\n"
    "       [--runs FILE] [-o md|csv|json]",
    "Predicts the time to the first token by the paper's strategies: nothing is run. Profiles say what is assumed.",
    "All times in ms. TSP: even cut, ring all-gather of K and V in every layer, the full square of products.\n"
    "TSP-skip: the same without keys after a rank's chunk. KVR-E: chain, even cut. KVR-S: chain, searched cut and "
    "boards. KVR-P: cut interpolated between searches at 3/4 and 3/2 of the length. bound: no cut can be faster "
    "(least work divided perfectly, links free). lost: what an unsteady link costs KVR-S and TSP against the same "
    "link steady (means of 16 seeds). ran: rows that chains of emulated boards were run for, by which time, and the "
    "larger of both deviations from the prediction. csv and json also have the bytes moved, the network's shares, "
    "and overlap: KVR-S if all attention could be done while a board waits for keys and values, an upper bound of "
    "what that would give."};
static const option_id ACCEPTS[] = {OPT_PAPER,        OPT_PAPER_MODELS, OPT_PAPER_LINK,  OPT_PAPER_BOARDS,
                                    OPT_PAPER_PROMPT, OPT_PAPER_BOARD,  OPT_PAPER_BATCH, OPT_PROFILES,
                                    OPT_PAPER_RUNS,   OPT_OUTPUT,       OPT_END};

#define DEFAULT_MODELS "llama-7b,falcon-7b"
#define DEFAULT_LINKS "paper-fast,paper-slow,paper-slow-unsteady"
#define DEFAULT_BOARD "a100"
#define DEFAULT_BATCH (1u << 20) /* a chunk at once */
#define N_SEEDS 16u
static const number_list DEFAULT_BOARDS = {3, {2, 4, 8}};
static const number_list DEFAULT_PROMPTS = {5, {1024, 2048, 4096, 8192, 16384}};

typedef struct paper {
    output out;
    kvr_geometry geometry;
    kvr_link_profile steady; /* the link without its bad times */
    const kvr_link_profile *link;
    const kvr_board_profile *boards[KVR_MAX_BOARDS];
    const kvr_link_profile *links[KVR_MAX_BOARDS], *steady_links[KVR_MAX_BOARDS];
    kvr_cost_job job;
    forecast_memory memory;
    paper_runs runs;
} paper;

/* One strategy: the mean over seeds when the link is unsteady. sizes with zeros: the boards without are left out. */
static int predict(paper *p, kvr_cost_strategy strategy, const uint32_t *sizes, double *out_us, kvr_cost_result *out) {
    const kvr_board_profile *boards[KVR_MAX_BOARDS];
    uint32_t some[KVR_MAX_BOARDS], n = 0;
    kvr_cost_job job = p->job;
    kvr_error error = {0};
    job.strategy = strategy;
    if (sizes != NULL) {
        for (uint32_t r = 0; r < p->job.n_boards; r++) {
            if (sizes[r] == 0) continue;
            boards[n] = p->boards[r];
            some[n++] = sizes[r];
        }
        job.boards = boards;
        job.n_boards = n;
        job.sizes = some;
    }
    int code = forecast_memory_for(&p->memory, &job);
    const uint32_t n_seeds = job.links[0]->slow_chance > 0 ? N_SEEDS : 1;
    *out_us = 0;
    for (job.seed = 0; job.seed < n_seeds && code == EXIT_OK; job.seed++) {
        if (kvr_cost_run(&job, p->memory.work, p->memory.bytes, out, NULL, &error) != KVR_OK)
            return say_kvr_error("cannot predict", &error);
        *out_us += out->ttft_us / n_seeds;
    }
    return code;
}

/* Searched for the steady link: nobody knows when it will be slow. */
static int search(paper *p, uint32_t n_tokens, uint32_t *sizes, uint32_t *out_used) {
    kvr_cost_job job = p->job;
    kvr_error error = {0};
    double ttft;
    job.n_tokens = n_tokens;
    job.links = p->steady_links;
    const int code = forecast_memory_for(&p->memory, &job);
    if (code != EXIT_OK) return code;
    if (kvr_cost_choose(&job, p->memory.work, p->memory.bytes, sizes, out_used, &ttft, &error) != KVR_OK)
        return say_kvr_error("cannot search", &error);
    return EXIT_OK;
}

/* KVR-P without the search at this length: between its neighbours in a table. */
static int interpolate(paper *p, uint32_t n_tokens, uint32_t *sizes) {
    uint32_t tokens[2], used, rows[2 * KVR_MAX_BOARDS];
    const uint32_t P = p->job.n_boards;
    tokens[0] = n_tokens - n_tokens / 4;
    tokens[1] = n_tokens + n_tokens / 2;
    for (int i = 0; i < 2; i++) {
        const int code = search(p, tokens[i], rows + (size_t)i * P, &used);
        if (code != EXIT_OK) return code;
    }
    const kvr_table table = {P, 2, tokens, rows};
    if (kvr_table_predict(&table, n_tokens, sizes) == KVR_OK) return EXIT_OK;
    return say_error("the table gives no partition of %u tokens", n_tokens);
}

static const char *ms(double us, char *out) {
    snprintf(out, 32, "%.1f", us / 1e3);
    return out;
}

static const char *ratio(double a, double b, char *out) {
    snprintf(out, 32, "%.2f", a / b);
    return out;
}

static const char *percent(double x, char *out) {
    snprintf(out, 32, "%.1f", 100 * x);
    return out;
}

/* What was run of this row; empty texts where nothing was. */
typedef struct row_runs {
    char tsp_ms[32], kvr_s_ms[32], ratio[32], off[32], tsp_bytes[32], kvr_s_bytes[32], tsp_share[32], kvr_s_share[32];
} row_runs;

static void say_run(const paper_run *run, const kvr_cost_result *predicted, char *out_ms, char *out_bytes,
                    char *out_share, double *off) {
    if (run == NULL) return;
    const double ran_us = run->ttft_ms * 1e3;
    const double deviation = fabs(ran_us / predicted->ttft_us - 1);
    if (deviation > *off) *off = deviation;
    ms(ran_us, out_ms);
    snprintf(out_bytes, 32, "%llu", (unsigned long long)run->bytes_moved);
    percent(1 - predicted->free_us / ran_us, out_share);
}

static void find_runs(const paper *p, uint32_t n_tokens, const kvr_cost_result *tsp, const kvr_cost_result *kvr_s,
                      row_runs *out) {
    const uint32_t P = p->job.n_boards;
    const paper_run *a = paper_runs_find(&p->runs, p->geometry.name, p->link->name, P, n_tokens, "tsp");
    const paper_run *b = paper_runs_find(&p->runs, p->geometry.name, p->link->name, P, n_tokens, "chain");
    double off = 0;
    memset(out, 0, sizeof *out);
    say_run(a, tsp, out->tsp_ms, out->tsp_bytes, out->tsp_share, &off);
    say_run(b, kvr_s, out->kvr_s_ms, out->kvr_s_bytes, out->kvr_s_share, &off);
    if (a != NULL && b != NULL) ratio(a->ttft_ms, b->ttft_ms, out->ratio);
    if (a != NULL || b != NULL) percent(off, out->off);
}

static int one_row(paper *p, uint32_t n_tokens) {
    uint32_t cut_s[KVR_MAX_BOARDS], cut_p[KVR_MAX_BOARDS], used = 0;
    double us[KVR_COST_STRATEGIES], kvr_s, kvr_p, steady_s, steady_tsp;
    kvr_cost_result results[KVR_COST_STRATEGIES], s, other;
    p->job.n_tokens = n_tokens;
    if (n_tokens < 4 * p->job.n_boards)
        return say_error("%u tokens are too few for %u boards here: give longer prompts (-p)", n_tokens,
                         p->job.n_boards);
    int code = search(p, n_tokens, cut_s, &used);
    if (code == EXIT_OK) code = interpolate(p, n_tokens, cut_p);
    for (uint32_t i = 0; i < KVR_COST_STRATEGIES && code == EXIT_OK; i++)
        code = predict(p, (kvr_cost_strategy)i, NULL, &us[i], &results[i]);
    if (code == EXIT_OK) code = predict(p, KVR_COST_CHAIN, cut_s, &kvr_s, &s);
    if (code == EXIT_OK) code = predict(p, KVR_COST_CHAIN, cut_p, &kvr_p, &other);
    p->job.links = p->steady_links;
    if (code == EXIT_OK) code = predict(p, KVR_COST_CHAIN, cut_s, &steady_s, &other);
    if (code == EXIT_OK) code = predict(p, KVR_COST_TSP, NULL, &steady_tsp, &other);
    p->job.links = p->links;
    if (code != EXIT_OK) return code;

    const int unsteady = p->link->slow_chance > 0;
    const double tsp = us[KVR_COST_TSP];
    char c[24][32], boards[16], tokens[16], n_used[16];
    row_runs ran;
    find_runs(p, n_tokens, &results[KVR_COST_TSP], &s, &ran);
    snprintf(boards, sizeof boards, "%u", p->job.n_boards);
    snprintf(tokens, sizeof tokens, "%u", n_tokens);
    snprintf(n_used, sizeof n_used, "%u", used);
    snprintf(c[0], 32, "%llu", (unsigned long long)s.bytes_moved);
    snprintf(c[1], 32, "%llu", (unsigned long long)results[KVR_COST_TSP].bytes_moved);
    const cell cells[] = {
        {"model", "model", p->geometry.name, CELL_TEXT, -14},
        {"link", "network", p->link->name, CELL_TEXT, -19},
        {"boards", "P", boards, CELL_NUMBER, 2},
        {"n_prompt", "tokens", tokens, CELL_NUMBER, 6},
        {"single_ms", "single", ms(us[KVR_COST_SINGLE], c[2]), CELL_NUMBER, 8},
        {"tsp_ms", "TSP", ms(tsp, c[3]), CELL_NUMBER, 8},
        {"tsp_skip_ms", "TSP-skip", ms(us[KVR_COST_TSP_SKIP], c[4]), CELL_NUMBER, 8},
        {"kvr_e_ms", "KVR-E", ms(us[KVR_COST_CHAIN], c[5]), CELL_NUMBER, 8},
        {"kvr_s_ms", "KVR-S", ms(kvr_s, c[6]), CELL_NUMBER, 8},
        {"kvr_p_ms", "KVR-P", ms(kvr_p, c[7]), CELL_NUMBER, 8},
        {"kvr_s_boards", "used", n_used, CELL_NUMBER, 4},
        {"bound_split_ms", "bound", ms(s.bound_split_us, c[8]), CELL_NUMBER, 8},
        {"bound_busiest_ms", NULL, ms(s.bound_busiest_us, c[9]), CELL_NUMBER, 0},
        {"fan_out_ms", NULL, ms(us[KVR_COST_FAN_OUT], c[10]), CELL_NUMBER, 0},
        {"tensor_ms", NULL, ms(us[KVR_COST_TENSOR], c[11]), CELL_NUMBER, 0},
        {"tsp_by_kvr_e", NULL, ratio(tsp, us[KVR_COST_CHAIN], c[12]), CELL_NUMBER, 0},
        {"tsp_by_kvr_s", "TSP/KVR-S", ratio(tsp, kvr_s, c[13]), CELL_NUMBER, 9},
        {"tsp_by_kvr_p", "TSP/KVR-P", ratio(tsp, kvr_p, c[14]), CELL_NUMBER, 9},
        {"tsp_skip_by_kvr_s", NULL, ratio(us[KVR_COST_TSP_SKIP], kvr_s, c[15]), CELL_NUMBER, 0},
        {"network_share_kvr_s", NULL, percent(1 - s.free_us / s.ttft_us, c[16]), CELL_NUMBER, 0},
        {"network_share_tsp", NULL,
         percent(1 - results[KVR_COST_TSP].free_us / results[KVR_COST_TSP].ttft_us, c[17]), CELL_NUMBER, 0},
        {"lost_kvr_s_ms", "KVR lost", unsteady ? ms(kvr_s - steady_s, c[18]) : "", CELL_NUMBER, 8},
        {"lost_tsp_ms", "TSP lost", unsteady ? ms(tsp - steady_tsp, c[19]) : "", CELL_NUMBER, 8},
        {"ran_tsp_ms", "ran TSP", ran.tsp_ms, CELL_NUMBER, 8},
        {"ran_kvr_s_ms", "ran KVR-S", ran.kvr_s_ms, CELL_NUMBER, 9},
        {"ran_tsp_by_kvr_s", "ratio", ran.ratio, CELL_NUMBER, 5},
        {"ran_off_percent", "off %", ran.off, CELL_NUMBER, 5},
        {"ran_network_share_kvr_s", NULL, ran.kvr_s_share, CELL_NUMBER, 0},
        {"ran_network_share_tsp", NULL, ran.tsp_share, CELL_NUMBER, 0},
        {"ran_bytes_kvr_s", NULL, ran.kvr_s_bytes, CELL_NUMBER, 0},
        {"ran_bytes_tsp", NULL, ran.tsp_bytes, CELL_NUMBER, 0},
        {"overlap_ms", NULL, ms(s.bound_overlap_us, c[20]), CELL_NUMBER, 0},
        {"bytes_kvr_s", NULL, c[0], CELL_NUMBER, 0},
        {"bytes_tsp", NULL, c[1], CELL_NUMBER, 0},
    };
    return output_row(&p->out, cells, sizeof cells / sizeof cells[0]);
}

static int one_network(paper *p, profiles *store, const options *opt, const char *name,
                       const kvr_board_profile *board) {
    const number_list *chains = opt->paper_boards.n != 0 ? &opt->paper_boards : &DEFAULT_BOARDS;
    const number_list *prompts = opt->plan_prompt.n != 0 ? &opt->plan_prompt : &DEFAULT_PROMPTS;
    int code = profiles_link(store, name, &p->link);
    if (code != EXIT_OK) return code;
    p->steady = *p->link;
    p->steady.slow_chance = 0;
    for (uint32_t r = 0; r < KVR_MAX_BOARDS; r++) {
        p->boards[r] = board;
        p->links[r] = p->link;
        p->steady_links[r] = &p->steady;
    }
    for (uint32_t i = 0; i < chains->n; i++) {
        p->job.n_boards = chains->values[i];
        for (uint32_t k = 0; k < prompts->n && code == EXIT_OK; k++) code = one_row(p, prompts->values[k]);
    }
    return code;
}

/* path NULL: the file that comes with the profiles, for boards that have one. */
static int read_runs(paper *p, const profiles *store, const char *path, const char *board) {
    char own[1400];
    if (path == NULL) {
        snprintf(own, sizeof own, "%s/runs/%s.txt", store->dir, board);
        if (access(own, R_OK) != 0) return EXIT_OK;
        path = own;
    }
    return paper_runs_read(&p->runs, path, board);
}

int cmd_bench_paper(int argc, char **argv) {
    static profiles store;
    static paper p;
    options opt;
    const kvr_board_profile *board = NULL;
    char model[256], link[256];
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    memset(&store, 0, sizeof store);
    memset(&p, 0, sizeof p);
    code = profiles_begin(&store, opt.profiles);
    if (code == EXIT_OK)
        code = profiles_board(&store, opt.paper_board != NULL ? opt.paper_board : DEFAULT_BOARD, &board);
    if (code == EXIT_OK) code = read_runs(&p, &store, opt.paper_runs, board->name);
    if (code != EXIT_OK) return code;
    p.job.struct_bytes = sizeof p.job;
    p.job.geometry = &p.geometry;
    p.job.boards = p.boards;
    p.job.links = p.links;
    p.job.batch_tokens = opt.batch_tokens != 0 ? opt.batch_tokens : DEFAULT_BATCH;
    output_begin(&p.out, (output_format)opt.output);
    for (const char *m = opt.paper_models != NULL ? opt.paper_models : DEFAULT_MODELS;
         code == EXIT_OK && profiles_next_name(&m, model, sizeof model);) {
        code = profiles_geometry(&store, model, &p.geometry);
        for (const char *l = opt.link != NULL ? opt.link : DEFAULT_LINKS;
             code == EXIT_OK && profiles_next_name(&l, link, sizeof link);)
            code = one_network(&p, &store, &opt, link, board);
    }
    output_end(&p.out);
    if (code == EXIT_OK && opt.output == OUTPUT_MD) printf("\nboard %s: %s\n", board->name, board->source);
    forecast_memory_free(&p.memory);
    return code;
}
