/* kvr plan: memory by region and row, before anything is taken; or, for boards by profile, the time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "engine.h"
#include "forecast.h"
#include "own_profile.h"
#include "say.h"

static const command_help HELP = {
    "plan",
    "-m FILE [-c CTX] [--boards P]\n"
    "       kvr plan -m FILE|NAME --boards NAMES [--link NAMES] [-p N,...] [--search -o FILE]\n"
    "       kvr plan -m FILE --measure -o FILE [-t N]",
    "Shows, to the byte, what a session will take. Nothing is taken and no weight is read. For boards by the names "
    "of their profiles: predicts the time to the first token, finds the best partition and the boards worth using.",
    "Regions 'mapped' (the file, shared with other processes) and 'driver' (an estimate) are not part of the exact "
    "total.\n"
    "A prediction is as good as the profiles: text files that name their sources; -m takes a shape from there, too."};
static const option_id ACCEPTS[] = {OPT_MODEL,       OPT_CONTEXT,   OPT_PLAN_BOARDS, OPT_DEVICE,      OPT_THREADS,
                                    OPT_KV,          OPT_GEMM,      OPT_PRECISION,   OPT_BATCH,       OPT_LINK,
                                    OPT_PLAN_PROMPT, OPT_PARTITION, OPT_SEARCH,      OPT_TABLE,       OPT_TABLE_OUT,
                                    OPT_PROFILES,    OPT_MEASURE,   OPT_NAME,        OPT_TRACE,       OPT_TIMELINE,
                                    OPT_WIRE_KV,     OPT_KV_WINDOW, OPT_CHUNK,       OPT_END};

#define NAMES "--boards NAMES, as in --boards 3xrpi5,rk3588"
static const option_need NEEDS[] = {{OPT_NAME, {OPT_MEASURE, OPT_END}, "--measure"},
                                    {OPT_SEARCH, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_TABLE, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_LINK, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_PROFILES, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_PLAN_PROMPT, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_PARTITION, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_TRACE, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_TIMELINE, {OPT_PLAN_BOARDS, OPT_END}, NAMES},
                                    {OPT_TABLE_OUT, {OPT_SEARCH, OPT_MEASURE}, "--search or --measure"},
                                    {OPT_END, {OPT_END, OPT_END}, NULL}};

enum { MEASURE_US = 5000000 }; /* of work, with --measure */

static void print_bytes(const char *left, const char *right, uint64_t bytes) {
    printf("%-18s %-30s %16llu %12.2f\n", left, right, (unsigned long long)bytes, (double)bytes / 1048576.0);
}

static void print_plan(const kvr_plan *plan) {
    uint64_t exact = 0;
    printf("%-18s %-30s %16s %12s\n", "region", "what", "bytes", "MiB");
    for (uint32_t region = 0; region < KVR_REGION_COUNT; region++) {
        for (uint32_t i = 0; i < plan->n_rows && i < KVR_PLAN_ROWS; i++)
            if (plan->rows[i].region == region)
                print_bytes(kvr_region_name((kvr_region)region), plan->rows[i].name, plan->rows[i].bytes);
        print_bytes(kvr_region_name((kvr_region)region), "= sum", plan->region_bytes[region]);
        if (region <= KVR_REGION_DEVICE) exact += plan->region_bytes[region];
    }
    print_bytes("total", "exact (model, session, device)", exact);
}

/* The even cut that a chain uses when no --partition is given, for a prompt as long as the context. */
static void print_even_partition(uint32_t ctx_tokens, uint32_t n_boards) {
    uint32_t sizes[KVR_MAX_BOARDS];
    printf("even partition of %u prompt tokens:", ctx_tokens);
    if (kvr_partition_even(ctx_tokens, n_boards, sizes) != KVR_OK) printf(" none, there are fewer tokens than boards");
    else
        for (uint32_t i = 0; i < n_boards; i++) printf("%s%u", i == 0 ? " " : ",", sizes[i]);
    printf("\n");
}

/* --boards as a number. */
static int take_number(options *opt) {
    if (opt->boards == NULL) return EXIT_OK;
    const unsigned long n = strlen(opt->boards) > 4 ? 0 : strtoul(opt->boards, NULL, 10);
    if (n < 1 || n > KVR_MAX_BOARDS)
        return say_usage("plan", "--boards wants a number from 1 to %u, or names of profiles, not '%.60s'",
                         KVR_MAX_BOARDS, opt->boards);
    opt->max_boards = (uint32_t)n;
    return EXIT_OK;
}

/* As a line of a profile holds it: some bytes that print, not blanks alone. */
static int is_profile_name(const char *name) {
    size_t n_visible = 0, n = 0;
    for (; name[n] != '\0'; n++) {
        const unsigned char c = (unsigned char)name[n];
        if (c < 0x20 || c == 0x7f) return 0;
        n_visible += c != ' ';
    }
    return n_visible > 0 && n < KVR_PROFILE_NAME;
}

static int write_profile(const kvr_board_profile *profile, const char *path) {
    static char text[KVR_PROFILE_MAX_BYTES];
    const size_t n = kvr_board_profile_write(profile, text, sizeof text);
    FILE *file = path != NULL ? fopen(path, "w") : stdout;
    if (file == NULL) return say_error("cannot write %s: %s; choose another name", path, strerror(errno));
    const int whole = fwrite(text, 1, n, file) == n;
    if (path != NULL && (fclose(file) != 0 || !whole))
        return say_error("cannot write %s: %s; free some space or choose another name", path, strerror(errno));
    return EXIT_OK;
}

/* A board measures itself as it does when it is started first, only for longer. */
static int measure_board(const options *opt) {
    engine e = {0};
    kvr_board_profile profile;
    memset(&profile, 0, sizeof profile);
    int code = engine_open_model(&e, opt->model);
    if (code == EXIT_OK) {
        const uint32_t most = kvr_model_get_info(e.model)->train_ctx_tokens;
        const uint32_t usual = most != 0 && most < OWN_PROFILE_CTX ? most : OWN_PROFILE_CTX;
        /* 2 boards: frames are measured, too */
        code = engine_make_plan(&e, opt, opt->ctx_tokens ? opt->ctx_tokens : usual, 2);
    }
    if (code == EXIT_OK) code = engine_open_session(&e);
    if (code == EXIT_OK) code = own_profile_measure(&e, MEASURE_US, &profile);
    if (code == EXIT_OK && profile.name[0] == '\0')
        code = say_error("no profile: %s",
                         kvr_model_get_info(e.model)->n_layers < 2
                             ? "a model of one layer tells nothing of a board; use another"
                             : "the measured times fit none; run again when the board has less to do");
    engine_close(&e);
    if (code != EXIT_OK) return code;
    if (opt->name != NULL) snprintf(profile.name, sizeof profile.name, "%s", opt->name);
    return write_profile(&profile, opt->table_out);
}

int cmd_plan(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    if (opt.measure && opt.boards != NULL)
        return say_usage("plan", "--measure is about this board: leave --boards out");
    opt.given[OPT_PLAN_BOARDS] = forecast_wanted(&opt) != 0; /* a number is no NAMES */
    if ((code = options_check_needs("plan", NEEDS, &opt)) != EXIT_OK) return code;
    if (opt.name != NULL && !is_profile_name(opt.name))
        return say_usage("plan", "--name wants 1 to %u characters that print", KVR_PROFILE_NAME - 1);
    if (opt.measure) return measure_board(&opt);
    if (forecast_wanted(&opt)) return forecast(&opt);
    code = take_number(&opt);
    if (code != EXIT_OK) return code;
    engine e = {0};
    code = engine_open_model(&e, opt.model);
    if (code == EXIT_OK) code = engine_make_plan(&e, &opt, opt.ctx_tokens, opt.max_boards);
    if (code == EXIT_OK) {
        const kvr_plan *plan = &e.plan;
        printf("device %s, context %u tokens, batch %u, keys and values %s, boards %u\n\n", device_name(e.dev),
               plan->ctx_tokens, plan->batch_tokens, plan->kv_dtype == KVR_DTYPE_F32 ? "f32" : "f16", plan->max_boards);
        print_plan(plan);
        if (plan->ring_tokens < plan->ctx_tokens)
            printf("\nlayers with a sliding window keep the latest %u tokens\n", plan->ring_tokens);
        if (plan->max_boards > 1) {
            printf("\nlargest frame on the wire: %llu bytes (%u tokens of a layer)\n",
                   (unsigned long long)plan->frame_bytes, plan->frame_tokens);
            if (engine_link_bytes(plan) > 0)
                printf("libzmq beside it, all queues full (estimate): %.2f MiB\n",
                       (double)engine_link_bytes(plan) / 1048576.0);
            print_even_partition(plan->ctx_tokens, plan->max_boards);
        }
    }
    engine_close(&e);
    return code;
}
