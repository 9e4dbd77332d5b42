/*
 * options.h - one table of all options of all commands: names, ranges, help texts. A command names the ones it takes.
 */
#ifndef KVR_CLI_OPTIONS_H
#define KVR_CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#define OPTIONS_CAP_LIST 64u /* entries of a list of numbers or addresses: as many as a chain has boards */

typedef enum option_id {
    OPT_END = 0,
    OPT_MODEL,
    OPT_DEVICE,
    OPT_CONTEXT,
    OPT_THREADS,
    OPT_KV,
    OPT_GEMM,
    OPT_PRECISION,
    OPT_BATCH,
    OPT_BOARD_TIMEOUT,
    OPT_LISTEN_LEAD,
    OPT_LISTEN_BOARD,
    OPT_MAX_BOARDS,
    OPT_ANNOUNCE_FD,
    OPT_LOCAL_BOARDS,
    OPT_LOCAL_BOARDS_LIST,
    OPT_PLAN_BOARDS,
    OPT_BOARDS,
    OPT_BOARD_CORES,
    OPT_PARTITION,
    OPT_START_TIMEOUT,
    OPT_PROMPT,
    OPT_FILE,
    OPT_IDS,
    OPT_N,
    OPT_PRINT_IDS,
    OPT_STATS_JSON,
    OPT_TRACE,
    OPT_TIMELINE,
    OPT_EMULATE,
    OPT_STRATEGY,
    OPT_WIRE_KV,
    OPT_KV_WINDOW,
    OPT_CHUNK,
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT_PENALTY,
    OPT_REPEAT_LAST,
    OPT_SEED,
    OPT_IGNORE_EOS,
    OPT_SPECIAL,
    OPT_SYSTEM,
    OPT_TEMPLATE,
    OPT_STOP,
    OPT_GREEDY_ONLY,
    OPT_FROM_PREFILL,
    OPT_RAW,
    OPT_BENCH_PROMPT,
    OPT_BENCH_GEN,
    OPT_BENCH_DEPTH,
    OPT_BENCH_KERNELS,
    OPT_REPETITIONS,
    OPT_NO_WARMUP,
    OPT_OUTPUT,
    OPT_TEXT_FILE,
    OPT_CHUNK_TOKENS,
    OPT_CHUNKS,
    OPT_VERBOSE,
    OPT_PROFILES,
    OPT_LINK,
    OPT_PLAN_PROMPT,
    OPT_SEARCH,
    OPT_TABLE,
    OPT_TABLE_OUT,
    OPT_PROFILE,
    OPT_RUN_LINK,
    OPT_EVEN,
    OPT_MEASURE,
    OPT_NAME,
    OPT_PAPER,
    OPT_PAPER_MODELS,
    OPT_PAPER_LINK,
    OPT_PAPER_BOARDS,
    OPT_PAPER_PROMPT,
    OPT_PAPER_BOARD,
    OPT_PAPER_BATCH,
    OPT_PAPER_RUNS,
    OPT_KEY,
    OPT_ALLOWED,
    OPT_INSECURE,
    OPT_NEED_ALL_BOARDS,
    OPT_KEY_NAME,
    OPT_OPERAND, /* one argument that is no option, optional */
    OPT_COUNT
} option_id;

typedef enum output_format { OUTPUT_MD = 0, OUTPUT_CSV = 1, OUTPUT_JSON = 2 } output_format;

typedef struct number_list {
    uint32_t n;
    uint32_t values[OPTIONS_CAP_LIST];
} number_list;

/* The names of --gemm, by kvr_opencl_gemm. */
extern const char *const OPTIONS_GEMM[3];
/* The names of --precision, by kvr_opencl_precision. */
extern const char *const OPTIONS_PRECISION[3];

/* Parsed values; zero = not given, unless options_parse's defaults say otherwise. */
typedef struct options {
    const char *system, *chat_template, *stop;
    const char *model, *device, *listen, *prompt, *file, *ids, *stats_json, *raw, *boards, *trace, *timeline, *emulate;
    const char *key, *allowed, *operand;
    uint32_t ctx_tokens, threads, batch_tokens;
    uint32_t kv_dtype; /* as kvr_config.kv_dtype */
    uint32_t wire_kv;  /* as kvr_config.wire_kv */
    uint32_t kv_window; /* as kvr_config.kv_window_layers, of helpers */
    uint32_t chunk;     /* as kvr_config.chunk_tokens */
    uint32_t all_keys;  /* as kvr_config.all_keys; no option, kvr bench wants it */
    uint32_t gemm;     /* kvr_opencl_gemm, index of OPTIONS_GEMM */
    uint32_t strategy;  /* kvr_cost_strategy */
    uint32_t precision; /* kvr_opencl_precision, index of OPTIONS_PRECISION */
    uint32_t max_boards, local_boards, board_cores;
    int32_t announce_fd; /* -1 = none */
    uint32_t n, repetitions, chunks;
    number_list partition, local_boards_list, bench_prompt, bench_gen, bench_depth;
    double board_timeout_s, start_timeout_s;
    double temperature, top_p, min_p, repeat_penalty;
    uint32_t top_k, repeat_last;
    uint64_t seed;
    uint32_t insecure, need_all_boards;
    uint32_t print_ids, ignore_eos, special, greedy_only, from_prefill, verbose, kernels, no_warmup;
    uint32_t output; /* output_format */
    /* predictions */
    const char *profiles, *profile, *link, *table, *table_out, *name, *paper_models, *paper_board, *paper_runs;
    number_list plan_prompt, paper_boards;
    uint32_t search, measure, paper, even;
    uint8_t given[OPT_COUNT]; /* by option_id: it was on the command line */
} options;

/* What a command is, for its --help. */
typedef struct command_help {
    const char *name;     /* "run" */
    const char *synopsis; /* "-m FILE (-p TEXT | -f FILE) [options]" */
    const char *summary;  /* one line */
    const char *notes;    /* shown after the options; may be NULL */
} command_help;

#define OPTIONS_DONE (-1) /* options_parse: go on with the command */

/*
 * Parses argv[1..] into *out (set to the defaults first). accepts ends with OPT_END. Returns OPTIONS_DONE, or the exit
 * code of a program that is finished: EXIT_OK after --help, EXIT_USAGE after a sentence about what is wrong.
 */
int options_parse(const command_help *help, const option_id *accepts, int argc, char **argv, options *out);

/* An option that does nothing unless one of others is given as well. */
typedef struct option_need {
    option_id option;
    option_id any_of[2]; /* the second may be OPT_END */
    const char *without; /* what the sentence calls them */
} option_need;

/* EXIT_OK, or EXIT_USAGE with a sentence about the first option that was given in vain. needs ends with OPT_END. */
int options_check_needs(const char *command, const option_need *needs, const options *opt);

/* A whole number at the beginning of the text, without blanks or a sign before it; *end is behind it. 0: there is none,
 * or it does not fit. */
int options_parse_whole(const char *text, uint64_t *out, const char **end);

/* "1,403,407" (commas or blanks) -> ids, malloc'ed. Returns the count, 0 with a sentence in *out_why. */
size_t options_parse_ids(const char *text, int32_t **out_ids, const char **out_why);

#endif
