/* kvr run: answers a prompt, on this board or as the lead of a chain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance.h"
#include "chain.h"
#include "commands.h"
#include "say.h"
#include "statistics.h"
#include "text_input.h"
#include "timeline.h"

static const command_help HELP = {
    "run", "-m FILE (-p TEXT | -f FILE | --ids A,B,...) [-n N] [--local-boards P | --boards ADDR,ADDR] [options]",
    "Answers a prompt: text on stdout, statistics on stderr.",
    "-n is 128 unless given. Sampling is greedy unless --temp is given. Keys of --boards: 'kvr keygen --help'."};
static const option_id ACCEPTS[] = {
    OPT_MODEL,       OPT_PROMPT,  OPT_FILE,        OPT_IDS,       OPT_N,         OPT_CONTEXT,
    OPT_DEVICE,      OPT_THREADS, OPT_KV,          OPT_GEMM, OPT_PRECISION,      OPT_BATCH,     OPT_LOCAL_BOARDS,
    OPT_BOARD_CORES, OPT_BOARDS,  OPT_LISTEN_LEAD, OPT_KEY,       OPT_ALLOWED,   OPT_INSECURE,
    OPT_NEED_ALL_BOARDS,          OPT_PARTITION,   OPT_BOARD_TIMEOUT,            OPT_START_TIMEOUT,
    OPT_VERBOSE,     OPT_TEMP,    OPT_TOP_K,       OPT_TOP_P,     OPT_MIN_P,     OPT_REPEAT_PENALTY,
    OPT_REPEAT_LAST, OPT_SEED,    OPT_IGNORE_EOS,  OPT_SPECIAL,   OPT_PRINT_IDS, OPT_STATS_JSON,
    OPT_TRACE,       OPT_TIMELINE, OPT_EMULATE,    OPT_PROFILE,   OPT_RUN_LINK,  OPT_EVEN,      OPT_PROFILES,
    OPT_STRATEGY,    OPT_WIRE_KV, OPT_KV_WINDOW, OPT_CHUNK, OPT_END};

enum { DEFAULT_NEW_TOKENS = 128 };

typedef struct printer {
    const kvr_model *model;
    kvr_text_stream stream;
    char *piece; /* [piece_cap] */
    size_t piece_cap;
    int print_ids;
    uint32_t n;
    int ended_at_full_context;
} printer;

static int on_event(void *user, const kvr_event *event) {
    printer *out = user;
    size_t bytes = 0;
    if (event->kind == KVR_EVENT_END) out->ended_at_full_context = !event->is_eos;
    if (event->kind != KVR_EVENT_TOKEN) return 0;
    if (out->print_ids) {
        printf("%s%d", out->n ? " " : "", event->id);
    } else if (kvr_text_decode(out->model, &out->stream, event->id, out->piece, out->piece_cap, &bytes) == KVR_OK) {
        fwrite(out->piece, 1, bytes, stdout);
    }
    out->n++;
    return say_flush_output(); /* not 0: nobody reads any more */
}

static void print_rest(printer *out) {
    size_t bytes = 0;
    if (!out->print_ids && kvr_text_finish(&out->stream, out->piece, out->piece_cap, &bytes) == KVR_OK)
        fwrite(out->piece, 1, bytes, stdout);
    putchar('\n');
}

static int answer(chain *c, const options *opt, const int32_t *ids, uint32_t n_ids) {
    kvr_prompt prompt;
    printer out = {0};
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.ids = ids;
    prompt.n_ids = n_ids;
    prompt.max_new_tokens = opt->n;
    prompt.ignore_eos = opt->ignore_eos;
    engine_fill_sampling(opt, &prompt.sampling);
    chain_fill_prompt(c, opt, &prompt);
    uint32_t sizes[KVR_MAX_BOARDS];
    int code = balance_prompt(c, opt, &prompt, sizes);
    if (code != EXIT_OK) return code;
    out.model = c->e.model;
    out.print_ids = opt->print_ids != 0;
    out.piece_cap = kvr_text_piece_cap(c->e.model) + 4;
    out.piece = malloc(out.piece_cap);
    if (out.piece == NULL) return say_error("not enough memory for a piece of text: end other programs");
    /* an SPM vocabulary drops the space before the first word of a text; here the text goes on */
    out.stream.started = 1;
    code = chain_answer(c, &prompt, on_event, &out);
    if (out.n > 0) print_rest(&out);
    free(out.piece);
    if (code != EXIT_OK || say_flush_output() != 0) return code;
    if (out.ended_at_full_context && out.n < opt->n)
        say_note("the context of %u tokens is full: raise -c for a longer answer", c->e.plan.ctx_tokens);
    statistics_print(c, &prompt);
    static timeline lanes;
    timeline_of_session(c, &lanes);
    code = timeline_write_trace(&lanes, opt->trace);
    if (code == EXIT_OK) code = timeline_write_picture(&lanes, opt->timeline);
    if (code == EXIT_OK && opt->stats_json != NULL) code = statistics_write_json(c, &prompt, opt->stats_json);
    return code;
}

int cmd_run(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    uint32_t n_boards = 1;
    if (code != OPTIONS_DONE) return code;
    if ((opt.prompt != NULL) + (opt.file != NULL) + (opt.ids != NULL) != 1)
        return say_usage(HELP.name, "give one prompt: -p TEXT, -f FILE or --ids A,B,...");
    if ((code = chain_check_options(&opt, HELP.name, &n_boards)) != EXIT_OK) return code;
    if (!opt.given[OPT_N]) opt.n = DEFAULT_NEW_TOKENS;

    chain c = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    code = engine_open_model(&c.e, opt.model);
    if (code == EXIT_OK) code = text_input_prompt(&opt, c.e.model, &ids, &n_ids);
    if (code == EXIT_OK && !opt.print_ids && opt.n > 0 &&
        kvr_model_get_info(c.e.model)->vocab_kind == KVR_VOCAB_NONE)
        code = say_error("%s has no vocabulary of a supported kind (llama, gpt2) to write text with: add --print-ids",
                         opt.model);
    uint32_t ctx_tokens = code == EXIT_OK ? engine_ctx_tokens(&c.e, &opt, (uint64_t)n_ids + opt.n) : 0;
    if (code == EXIT_OK) code = engine_check_fits(n_ids, ctx_tokens);
    if (code == EXIT_OK) code = chain_open(&c, &opt, n_boards, ctx_tokens);
    if (code == EXIT_OK) code = answer(&c, &opt, ids, (uint32_t)n_ids);
    chain_close(&c);
    free(ids);
    return code;
}
