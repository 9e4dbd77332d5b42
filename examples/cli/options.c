/* Every option is a row of TABLE; parsing, ranges and --help are made from it. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvr/kvr_plan.h"
#include "say.h"

typedef enum value_kind {
    VALUE_TEXT,
    VALUE_U32,
    VALUE_U64,
    VALUE_REAL,
    VALUE_REAL_OR_0, /* 0, or in the range */
    VALUE_LIST,
    VALUE_FLAG,
    VALUE_KV,
    VALUE_WIRE_KV,
    VALUE_GEMM,
    VALUE_STRATEGY,
    VALUE_PRECISION,
    VALUE_OUTPUT
} value_kind;

typedef struct option_row {
    option_id id;
    char letter; /* 0 = long form only */
    const char *name;
    const char *value; /* NULL for a flag */
    value_kind kind;
    size_t offset;    /* in struct options */
    double low, high; /* of a number or of each list entry, inclusive */
    const char *help;
} option_row;

static const char *const STRATEGIES[4] = {"chain", "single", "tsp", "tsp-skip"};
const char *const OPTIONS_GEMM[3] = {"auto", "clblast", "own"};
const char *const OPTIONS_PRECISION[3] = {"fast", "exact", "integer"};

#define AT(field) offsetof(options, field)
#define MAX_TOKENS 1048576.0

static const option_row TABLE[] = {
    {OPT_MODEL, 'm', "model", "FILE", VALUE_TEXT, AT(model), 0, 0, "model file (GGUF)"},
    {OPT_DEVICE, 'd', "device", "NAME", VALUE_TEXT, AT(device), 0, 0,
     "reference, opencl, or opencl:PLATFORM.DEVICE as listed by 'kvr devices' (default: opencl where there is a "
     "device)"},
    {OPT_CONTEXT, 'c', "ctx", "N", VALUE_U32, AT(ctx_tokens), 1, MAX_TOKENS,
     "context in tokens: prompt and answer together (default: what the model was trained with, at most 4096, or what "
     "is needed)"},
    {OPT_THREADS, 't', "threads", "N", VALUE_U32, AT(threads), 0, 4096,
     "CPU cores an OpenCL CPU device may use (default 0: all)"},
    {OPT_KV_WINDOW, 0, "kv-window", "W", VALUE_U32, AT(kv_window), 1, 4096,
     "helpers keep keys and values of W layers at a time, for boards with little memory (default: all layers)"},
    {OPT_CHUNK, 0, "chunk", "N", VALUE_U32, AT(chunk), 1, MAX_TOKENS,
     "most tokens of a prompt that one board of a chain computes (default: the context). Less costs less memory, much "
     "less where layers have a sliding window"},
    {OPT_WIRE_KV, 0, "wire-kv", "TYPE", VALUE_WIRE_KV, AT(wire_kv), 0, 0,
     "type of keys and values on the way to other boards: f16, f32 (as cached: the default), or q8_0 with about half "
     "the bytes of f16; then every board rounds to 8 bits what it caches, also one alone. All boards must agree"},
    {OPT_KV, 0, "kv", "TYPE", VALUE_KV, AT(kv_dtype), 0, 0, "type of cached keys and values: f16 or f32 (default f16)"},
    {OPT_GEMM, 0, "gemm", "NAME", VALUE_GEMM, AT(gemm), 0, 0,
     "dense products of OpenCL: auto, clblast or own (default auto: own on CPUs, else clblast)"},
    {OPT_PRECISION, 0, "precision", "NAME", VALUE_PRECISION, AT(precision), 0, 0,
     "fast: quantised weights times 8 bit activations, 16 bit weights of prompts in bfloat16, where the device has an "
     "instruction for it (default); exact: all products in floats; integer: as fast, on any device"},
    {OPT_BATCH, 0, "batch", "N", VALUE_U32, AT(batch_tokens), 1, 4096, "tokens per operator call (default 256)"},
    {OPT_BOARD_TIMEOUT, 0, "board-timeout", "SEC", VALUE_REAL, AT(board_timeout_s), 0.001, 86400,
     "silence after which a board counts as lost (default 2; 30 where all boards are needed)"},
    {OPT_LISTEN_LEAD, 0, "listen", "ADDR", VALUE_TEXT, AT(listen), 0, 0,
     "where this board receives, when --boards is given (default tcp://*:*)"},
    {OPT_LISTEN_BOARD, 0, "listen", "ADDR", VALUE_TEXT, AT(listen), 0, 0,
     "where this board receives, for example tcp://*:7000"},
    {OPT_MAX_BOARDS, 0, "max-boards", "N", VALUE_U32, AT(max_boards), 2, KVR_MAX_BOARDS,
     "longest chain this board can be part of (default 8)"},
    {OPT_ANNOUNCE_FD, 0, "announce-fd", "FD", VALUE_U32, AT(announce_fd), 3, 1e6,
     "write the resolved address to this file descriptor when ready, and say nothing else"},
    {OPT_LOCAL_BOARDS, 0, "local-boards", "P", VALUE_U32, AT(local_boards), 1, KVR_MAX_BOARDS,
     "be the lead of a chain of P boards on this machine: starts and ends P-1 helpers"},
    {OPT_LOCAL_BOARDS_LIST, 0, "local-boards", "P,P,...", VALUE_LIST, AT(local_boards_list), 1, KVR_MAX_BOARDS,
     "measure chains of P boards on this machine, one after the other"},
    {OPT_PLAN_BOARDS, 0, "boards", "P|NAMES", VALUE_TEXT, AT(boards), 0, 0,
     "memory of one board of a chain of P (default 1); or the profiles of the boards, the lead last, as in "
     "3xrpi5,rk3588: predicts instead"},
    {OPT_BOARDS, 0, "boards", "ADDR,ADDR", VALUE_TEXT, AT(boards), 0, 0,
     "helpers that are running elsewhere ('kvr board'), in chain order; this board is the last"},
    {OPT_BOARD_CORES, 0, "board-cores", "N", VALUE_U32, AT(board_cores), 1, 4096,
     "CPU cores of each local board (default 1)"},
    {OPT_PARTITION, 0, "partition", "A,B,...", VALUE_LIST, AT(partition), 1, MAX_TOKENS,
     "prompt tokens of each board, this one last (default: by what the boards measured, and only those worth using; "
     "see --even)"},
    {OPT_STRATEGY, 0, "strategy", "NAME", VALUE_STRATEGY, AT(strategy), 0, 0,
     "how boards share the prompt: chain, single (the lead alone), or for comparison tsp (all keys and values to all "
     "boards layer by layer, masked products too) or tsp-skip (without those); the answer is the same (default chain)"},
    {OPT_START_TIMEOUT, 0, "start-timeout", "SEC", VALUE_REAL, AT(start_timeout_s), 0, 86400,
     "how long local helpers may take to come up (default 60)"},
    {OPT_PROMPT, 'p', "prompt", "TEXT", VALUE_TEXT, AT(prompt), 0, 0, "the prompt"},
    {OPT_FILE, 'f', "file", "FILE", VALUE_TEXT, AT(file), 0, 0, "read the prompt from a file; '-' is stdin"},
    {OPT_TEXT_FILE, 'f', "file", "FILE", VALUE_TEXT, AT(file), 0, 0, "the text to score; '-' is stdin"},
    {OPT_CHUNK_TOKENS, 'c', "ctx", "N", VALUE_U32, AT(ctx_tokens), 4, MAX_TOKENS, "tokens of a chunk (default 512)"},
    {OPT_CHUNKS, 0, "chunks", "N", VALUE_U32, AT(chunks), 1, 1e9, "score only the first N chunks (default: all)"},
    {OPT_IDS, 0, "ids", "A,B,...", VALUE_TEXT, AT(ids), 0, 0, "the prompt as token ids"},
    {OPT_N, 'n', "n", "N", VALUE_U32, AT(n), 0, MAX_TOKENS, "most new tokens"},
    {OPT_PRINT_IDS, 0, "print-ids", NULL, VALUE_FLAG, AT(print_ids), 0, 0, "print token ids rather than text"},
    {OPT_STATS_JSON, 0, "stats-json", "FILE", VALUE_TEXT, AT(stats_json), 0, 0, "write the statistics as JSON"},
    {OPT_TRACE, 0, "trace", "FILE", VALUE_TEXT, AT(trace), 0, 0,
     "write what every board did (plan: will do) when, in Chrome's trace format (opens in Perfetto);\n"
     "bench: in the last run"},
    {OPT_TIMELINE, 0, "timeline", "FILE", VALUE_TEXT, AT(timeline), 0, 0,
     "draw what every board did (plan: will do) when (SVG)"},
    {OPT_EMULATE, 0, "emulate", "FILE[,FILE]", VALUE_TEXT, AT(emulate), 0, 0,
     "compute nothing, take the time that a board's profile says (one for all boards, or one each): frames and links "
     "are real, the answer means nothing"},
    /* ranges of sampling: as kvr_sampling */
    {OPT_TEMP, 0, "temp", "X", VALUE_REAL_OR_0, AT(temperature), 0.01, 10, "temperature; 0 is greedy (default 0)"},
    {OPT_TOP_K, 0, "top-k", "N", VALUE_U32, AT(top_k), 0, 1e6, "keep the N likeliest; 0 is all (default 0)"},
    {OPT_TOP_P, 0, "top-p", "X", VALUE_REAL, AT(top_p), 0, 1,
     "keep the likeliest whose sum reaches X; 0 is all (default 0)"},
    {OPT_MIN_P, 0, "min-p", "X", VALUE_REAL, AT(min_p), 0, 1,
     "keep those with X times the likeliest's probability; 0 is all (default 0)"},
    {OPT_REPEAT_PENALTY, 0, "repeat-penalty", "X", VALUE_REAL_OR_0, AT(repeat_penalty), 0.1, 10,
     "above 1: recent tokens become less likely; 0 is off, as 1 (default 1)"},
    {OPT_REPEAT_LAST, 0, "repeat-last", "N", VALUE_U32, AT(repeat_last), 0, MAX_TOKENS,
     "how many recent tokens the penalty looks at (default 64)"},
    {OPT_SEED, 0, "seed", "N", VALUE_U64, AT(seed), 0, 0, "same seed, same text (default 0)"},
    {OPT_IGNORE_EOS, 0, "ignore-eos", NULL, VALUE_FLAG, AT(ignore_eos), 0, 0, "go on after the end-of-text token"},
    {OPT_SPECIAL, 0, "special", NULL, VALUE_FLAG, AT(special), 0, 0,
     "texts of control tokens (\"<s>\") become their ids; only for text you trust"},
    {OPT_SYSTEM, 0, "system", "TEXT", VALUE_TEXT, AT(system), 0, 0, "what the model is told before the conversation"},
    {OPT_TEMPLATE, 0, "template", "NAME", VALUE_TEXT, AT(chat_template), 0, 0,
     "how conversations are written: chatml, llama2, llama3, mistral, gemma, phi3, zephyr, falcon, deepseek, plain, "
     "... (default: as the file's template says)"},
    {OPT_STOP, 0, "stop", "TEXT", VALUE_TEXT, AT(stop), 0, 0, "text that ends an answer and is not part of it"},
    {OPT_GREEDY_ONLY, 0, "greedy-only", NULL, VALUE_FLAG, AT(greedy_only), 0, 0, "print only the line of greedy ids"},
    {OPT_FROM_PREFILL, 0, "from-prefill", NULL, VALUE_FLAG, AT(from_prefill), 0, 0,
     "start with the step of the last prompt token, as a chain does"},
    {OPT_RAW, 0, "raw", "FILE", VALUE_TEXT, AT(raw), 0, 0,
     "write the logits of each printed step, little-endian float32"},
    {OPT_BENCH_PROMPT, 'p', "n-prompt", "N,...", VALUE_LIST, AT(bench_prompt), 0, MAX_TOKENS,
     "prompt lengths to measure; 0 is none (default 512)"},
    {OPT_BENCH_GEN, 'n', "n-gen", "N,...", VALUE_LIST, AT(bench_gen), 0, MAX_TOKENS,
     "answer lengths to measure; 0 is none (default 128)"},
    {OPT_BENCH_DEPTH, 0, "depth", "N,...", VALUE_LIST, AT(bench_depth), 0, MAX_TOKENS,
     "measure behind so many tokens that are cached already (default 0; --kernels: attention at 0,1024,4096)"},
    {OPT_BENCH_KERNELS, 0, "kernels", NULL, VALUE_FLAG, AT(kernels), 0, 0,
     "measure each operator by itself, on the model's shapes"},
    {OPT_REPETITIONS, 'r', "repetitions", "N", VALUE_U32, AT(repetitions), 1, 1000, "runs of each test (default 5)"},
    {OPT_NO_WARMUP, 0, "no-warmup", NULL, VALUE_FLAG, AT(no_warmup), 0, 0,
     "measure the first run, too; without, every test runs once before"},
    {OPT_VERBOSE, 'v', "verbose", NULL, VALUE_FLAG, AT(verbose), 0, 0, "say on stderr what is started, and where"},
    {OPT_PROFILES, 0, "profiles", "DIR", VALUE_TEXT, AT(profiles), 0, 0,
     "folder with boards/, links/ and models/ (default: the one that comes with kvr)"},
    {OPT_LINK, 0, "link", "NAME,...", VALUE_TEXT, AT(link), 0, 0,
     "what the boards send through: one profile for all, or one for each (default 1gbit)"},
    {OPT_PLAN_PROMPT, 'p', "n-prompt", "N,...", VALUE_LIST, AT(plan_prompt), 1, MAX_TOKENS,
     "prompt lengths to predict (default 512,1024,2048,4096,8192,16384)"},
    {OPT_SEARCH, 0, "search", NULL, VALUE_FLAG, AT(search), 0, 0,
     "write the best partitions as a table (default -p: powers of two from 16 to 16384)"},
    {OPT_TABLE, 0, "table", "FILE", VALUE_TEXT, AT(table), 0, 0, "take the partition from such a table"},
    {OPT_TABLE_OUT, 'o', "output", "FILE", VALUE_TEXT, AT(table_out), 0, 0,
     "where --search and --measure write (default: stdout)"},
    {OPT_PROFILE, 0, "profile", "NAME,...", VALUE_TEXT, AT(profile), 0, 0,
     "cut the prompt by what the boards can do, and leave out those that do not help: profiles ('kvr plan --measure' "
     "writes them), one for all boards or one for each, this one last"},
    {OPT_RUN_LINK, 0, "link", "NAME,...", VALUE_TEXT, AT(link), 0, 0,
     "with --profile: what the boards send through (default: loopback for --local-boards, else 1gbit)"},
    {OPT_EVEN, 0, "even", NULL, VALUE_FLAG, AT(even), 0, 0,
     "cut the prompt evenly over all boards (with --profile: and predict it); a board measures nothing then"},
    {OPT_MEASURE, 0, "measure", NULL, VALUE_FLAG, AT(measure), 0, 0,
     "let this board measure itself with this model, about five seconds of work, and write its profile"},
    {OPT_NAME, 0, "name", "NAME", VALUE_TEXT, AT(name), 0, 0, "name in the measured profile (default this-board)"},
    {OPT_PAPER, 0, "paper", NULL, VALUE_FLAG, AT(paper), 0, 0,
     "predict the comparison of the KV-Runahead paper instead ('kvr bench --paper --help')"},
    {OPT_PAPER_MODELS, 0, "models", "NAME,...", VALUE_TEXT, AT(paper_models), 0, 0,
     "shapes by name, or .gguf files (default llama-7b,falcon-7b)"},
    {OPT_PAPER_LINK, 0, "link", "NAME,...", VALUE_TEXT, AT(link), 0, 0,
     "networks, one after the other (default paper-fast,paper-slow,paper-slow-unsteady)"},
    {OPT_PAPER_BOARDS, 0, "boards", "P,...", VALUE_LIST, AT(paper_boards), 1, KVR_MAX_BOARDS,
     "lengths of the chain (default 2,4,8)"},
    {OPT_PAPER_PROMPT, 'p', "n-prompt", "N,...", VALUE_LIST, AT(plan_prompt), 4, MAX_TOKENS / 2,
     "prompt lengths (default 1024,2048,4096,8192,16384)"},
    {OPT_PAPER_BOARD, 0, "board", "NAME", VALUE_TEXT, AT(paper_board), 0, 0, "profile of all boards (default a100)"},
    {OPT_PAPER_BATCH, 0, "batch", "N", VALUE_U32, AT(batch_tokens), 1, 1048576,
     "tokens per operator call (default: a chunk at once)"},
    {OPT_PAPER_RUNS, 0, "runs", "FILE", VALUE_TEXT, AT(paper_runs), 0, 0,
     "what chains really took, from tests/bench/paper.sh (default: runs/BOARD.txt of the profiles, if there)"},
    {OPT_KEY, 0, "key", "FILE", VALUE_TEXT, AT(key), 0, 0,
     "this board's secret key ('kvr keygen'): frames are encrypted, strangers turned away"},
    {OPT_ALLOWED, 0, "allowed", "FILE", VALUE_TEXT, AT(allowed), 0, 0,
     "public keys of the boards of this chain, 'KEY name' a line (default: only who holds the same --key)"},
    {OPT_INSECURE, 0, "insecure", NULL, VALUE_FLAG, AT(insecure), 0, 0,
     "use addresses beyond this machine without keys: everyone who reaches them can read and interfere"},
    {OPT_NEED_ALL_BOARDS, 0, "need-all-boards", NULL, VALUE_FLAG, AT(need_all_boards), 0, 0,
     "fail when a board is lost (default: the boards that are left answer, or this one alone)"},
    {OPT_KEY_NAME, 0, "name", "NAME", VALUE_TEXT, AT(name), 0, 0,
     "the board's name in lists of keys (default: this machine's)"},
    {OPT_OUTPUT, 'o', "output", "FORMAT", VALUE_OUTPUT, AT(output), 0, 0, "md, csv or json (default md)"},
};
#define N_ROWS (sizeof TABLE / sizeof TABLE[0])

static const option_row *row_of(option_id id) {
    for (size_t i = 0; i < N_ROWS; i++)
        if (TABLE[i].id == id) return &TABLE[i];
    return NULL;
}

/* --- values --------------------------------------------------------------------------------------------------- */

int options_parse_whole(const char *text, uint64_t *out, const char **end) {
    if (*text < '0' || *text > '9') return 0; /* strtoull would take blanks and a sign */
    char *stop = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, 10);
    if (errno != 0) return 0;
    *out = value;
    *end = stop;
    return 1;
}

static int parse_list(const option_row *row, const char *text, number_list *out) {
    out->n = 0;
    for (;;) {
        uint64_t value = 0;
        const char *end = text;
        if (out->n == OPTIONS_CAP_LIST || !options_parse_whole(text, &value, &end)) return 0;
        if ((double)value < row->low || (double)value > row->high) return 0;
        out->values[out->n++] = (uint32_t)value;
        if (*end == '\0') return 1;
        if (*end != ',') return 0;
        text = end + 1;
    }
}

static int parse_u32(const option_row *row, const char *text, uint32_t *out) {
    uint64_t value = 0;
    const char *end = text;
    if (!options_parse_whole(text, &value, &end) || *end != '\0') return 0;
    if ((double)value < row->low || (double)value > row->high) return 0;
    *out = (uint32_t)value;
    return 1;
}

static int parse_real(const option_row *row, const char *text, double *out) {
    char *end = NULL;
    if (*text == '\0') return 0;
    *out = strtod(text, &end);
    if (*end != '\0') return 0;
    if (row->kind == VALUE_REAL_OR_0 && *out == 0) return 1;
    return *out >= row->low && *out <= row->high; /* NaN fails the comparison */
}

static int parse_choice(const char *text, const char *const *names, const uint32_t *values, size_t n, uint32_t *out) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *out = values[i];
        return 1;
    }
    return 0;
}

static int parse_value(const option_row *row, const char *text, options *out) {
    static const char *const kv_names[] = {"f16", "f32", "q8_0"};
    static const uint32_t indices[] = {0, 1, 2, 3};
    static const uint32_t kv_values[] = {KVR_DTYPE_F16, KVR_KV_F32, KVR_DTYPE_Q8_0};
    static const char *const output_names[] = {"md", "csv", "json"};
    static const uint32_t output_values[] = {OUTPUT_MD, OUTPUT_CSV, OUTPUT_JSON};
    void *place = (char *)out + row->offset;
    switch (row->kind) {
    case VALUE_TEXT: *(const char **)place = text; return 1;
    case VALUE_FLAG: *(uint32_t *)place = 1; return 1;
    case VALUE_U32: return parse_u32(row, text, place);
    case VALUE_U64: {
        const char *end = text;
        return options_parse_whole(text, place, &end) && *end == '\0';
    }
    case VALUE_REAL:
    case VALUE_REAL_OR_0: return parse_real(row, text, place);
    case VALUE_LIST: return parse_list(row, text, place);
    case VALUE_GEMM: return parse_choice(text, OPTIONS_GEMM, indices, 3, place);
    case VALUE_STRATEGY: return parse_choice(text, STRATEGIES, indices, 4, place);
    case VALUE_PRECISION: return parse_choice(text, OPTIONS_PRECISION, indices, 3, place);
    case VALUE_KV: return parse_choice(text, kv_names, kv_values, 2, place);
    case VALUE_WIRE_KV: return parse_choice(text, kv_names, kv_values, 3, place);
    case VALUE_OUTPUT: return parse_choice(text, output_names, output_values, 3, place);
    }
    return 0;
}

/* "-n" or "--temp". Returns out. */
static const char *short_name(const option_row *row, char out[40]) {
    if (row->letter) snprintf(out, 40, "-%c", row->letter);
    else snprintf(out, 40, "--%s", row->name);
    return out;
}

static int say_bad_value(const command_help *help, const option_row *row, const char *text) {
    char name[40];
    short_name(row, name);
    switch (row->kind) {
    case VALUE_GEMM: return say_usage(help->name, "%s is auto, clblast or own, not '%.60s'", name, text);
    case VALUE_STRATEGY: return say_usage(help->name, "%s is chain, single, tsp or tsp-skip, not '%.60s'", name, text);
    case VALUE_PRECISION: return say_usage(help->name, "%s is fast, exact or integer, not '%.60s'", name, text);
    case VALUE_WIRE_KV: return say_usage(help->name, "%s is f16, f32 or q8_0, not '%.60s'", name, text);
    case VALUE_KV: return say_usage(help->name, "%s is f16 or f32, not '%.60s'", name, text);
    case VALUE_OUTPUT: return say_usage(help->name, "%s is md, csv or json, not '%.60s'", name, text);
    case VALUE_U64: return say_usage(help->name, "%s wants a whole number, not '%.60s'", name, text);
    case VALUE_U32:
        return say_usage(help->name, "%s wants a whole number from %.0f to %.0f, not '%.60s'", name, row->low,
                         row->high, text);
    case VALUE_LIST:
        return say_usage(help->name,
                         "%s wants at most %u whole numbers from %.0f to %.0f with commas between, not '%.60s'", name,
                         OPTIONS_CAP_LIST, row->low, row->high, text);
    case VALUE_REAL:
        return say_usage(help->name, "%s wants a number from %g to %g, not '%.60s'", name, row->low, row->high, text);
    case VALUE_REAL_OR_0:
        return say_usage(help->name, "%s wants 0, or a number from %g to %g, not '%.60s'", name, row->low, row->high,
                         text);
    case VALUE_TEXT:
    case VALUE_FLAG: break;
    }
    return say_usage(help->name, "%s has a bad value", name);
}

size_t options_parse_ids(const char *text, int32_t **out_ids, const char **out_why) {
    size_t n = 0, cap = strlen(text) / 2 + 1; /* an id and its separator take two characters at least */
    int32_t *ids = malloc(cap * sizeof *ids);
    *out_ids = NULL;
    *out_why = "not enough memory for the list of ids";
    if (ids == NULL) return 0;
    *out_why = "ids are whole numbers with commas between, for example 1,403,407";
    for (const char *at = text; *at != '\0';) {
        uint64_t value = 0;
        const char *end = at;
        if (!options_parse_whole(at, &value, &end) || value > INT32_MAX || n == cap) goto bad;
        ids[n++] = (int32_t)value;
        if (*end != '\0' && strchr(", \t\n", *end) == NULL) goto bad;
        at = end + strspn(end, ", \t\n");
    }
    if (n == 0) goto bad;
    *out_ids = ids;
    return n;
bad:
    free(ids);
    return 0;
}

/* --- help ----------------------------------------------------------------------------------------------------- */

#define HELP_FROM 33  /* column where an option's text begins */
#define HELP_UPTO 120 /* and the one that it does not pass */

/* Words, in lines that fit behind `from` columns. A line that the text ends itself is kept as it is where it fits. */
static void print_wrapped(const char *text, int from) {
    const size_t room = (size_t)(HELP_UPTO - from);
    for (;;) {
        const size_t line = strcspn(text, "\n");
        size_t n = line;
        if (n > room) {
            n = room;
            while (n > 0 && text[n] != ' ') n--;
            if (n == 0) n = strcspn(text, " \n"); /* a word that fits nowhere */
        }
        printf("%.*s\n", (int)n, text);
        text += n;
        if (*text == '\0') return;
        text++; /* the blank or the end of line */
        if (from > 0) printf("%*s", from, "");
    }
}

static void print_row(const option_row *row) {
    char left[48];
    char letter[5] = "    ";
    if (row->letter) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->value ? " " : "", row->value ? row->value : "");
    printf("  %-30s ", left);
    print_wrapped(row->help, HELP_FROM);
}

static void print_help(const command_help *help, const option_id *accepts) {
    printf("usage: kvr %s %s\n\n", help->name, help->synopsis);
    print_wrapped(help->summary, 0);
    printf("\noptions:\n");
    for (; *accepts != OPT_END; accepts++) {
        const option_row *row = row_of(*accepts);
        if (row != NULL) print_row(row);
    }
    printf("  %-30s this text\n", "-h, --help");
    if (help->notes == NULL) return;
    putchar('\n');
    print_wrapped(help->notes, 0);
}

/* --- getopt_long ---------------------------------------------------------------------------------------------- */

enum { LONG_BASE = 1000 }; /* getopt value of a row = LONG_BASE + option_id: letters stay below */

static void set_defaults(options *out) {
    memset(out, 0, sizeof *out);
    out->announce_fd = -1;
    out->board_cores = 1;
    out->repetitions = 5;
    out->start_timeout_s = 60;
    out->repeat_penalty = 1;
    out->bench_prompt.n = 1;
    out->bench_prompt.values[0] = 512;
    out->bench_gen.n = 1;
    out->bench_gen.values[0] = 128;
}

int options_parse(const command_help *help, const option_id *accepts, int argc, char **argv, options *out) {
    struct option longs[N_ROWS + 2];
    char letters[2 * N_ROWS + 4] = ":h"; /* ':' first: a missing value is told from an unknown option */
    size_t n_longs = 0, n_letters = 2;
    memset(longs, 0, sizeof longs);
    for (const option_id *id = accepts; *id != OPT_END; id++) {
        const option_row *row = row_of(*id);
        if (row == NULL) continue;
        longs[n_longs].name = row->name;
        longs[n_longs].has_arg = row->value ? required_argument : no_argument;
        longs[n_longs++].val = LONG_BASE + (int)row->id;
        if (!row->letter) continue;
        letters[n_letters++] = row->letter;
        if (row->value) letters[n_letters++] = ':';
    }
    letters[n_letters] = '\0';
    longs[n_longs].name = "help";
    longs[n_longs].val = 'h';

    set_defaults(out);
    opterr = 0;
    optind = 1;
    for (int got; (got = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (got == 'h') {
            print_help(help, accepts);
            return say_finish_output(EXIT_OK);
        }
        if (got == ':') return say_usage(help->name, "'%.60s' wants a value", argv[optind - 1]);
        if (got == '?' && optopt > 0 && optopt < 256) return say_usage(help->name, "unknown option '-%c'", optopt);
        if (got == '?') return say_usage(help->name, "unknown option '%.60s'", argv[optind - 1]);
        const option_row *row = NULL;
        for (const option_id *id = accepts; *id != OPT_END; id++) {
            const option_row *each = row_of(*id);
            if (each != NULL && (got == LONG_BASE + (int)each->id || got == each->letter)) row = each;
        }
        if (row == NULL) return say_usage(help->name, "unknown option '-%c'", got);
        if (!parse_value(row, optarg ? optarg : "", out)) return say_bad_value(help, row, optarg ? optarg : "");
        out->given[row->id] = 1;
    }
    for (const option_id *id = accepts; *id != OPT_END; id++)
        if (*id == OPT_OPERAND && optind < argc) out->operand = argv[optind++];
    if (optind < argc) return say_usage(help->name, "unexpected argument '%.60s'", argv[optind]);
    for (const option_id *id = accepts; *id != OPT_END; id++)
        if (*id == OPT_MODEL && out->model == NULL) return say_usage(help->name, "no model given: use -m FILE");
    return OPTIONS_DONE;
}

int options_check_needs(const char *command, const option_need *needs, const options *opt) {
    char name[40];
    for (; needs->option != OPT_END; needs++) {
        if (!opt->given[needs->option] || opt->given[needs->any_of[0]] || opt->given[needs->any_of[1]]) continue;
        return say_usage(command, "%s does nothing without %s", short_name(row_of(needs->option), name),
                         needs->without);
    }
    return EXIT_OK;
}
