/* kvr chat: a conversation, a line at a time. Answers on stdout, everything else on stderr. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "commands.h"
#include "conversation.h"
#include "say.h"
#include "signals.h"
#include "statistics.h"
#include "stops.h"

static const command_help HELP = {
    "chat", "-m FILE [--system TEXT] [--template NAME] [--stop TEXT] [options]",
    "A conversation: every line of stdin is a message, the answers go to stdout.",
    "/reset forgets the conversation, /stats tells where the time of the last answer went, /quit or the end of the "
    "input ends. Ctrl-C ends an answer, and the program between answers. Control tokens in messages are plain text.\n"
    "-n is 1024 unless given. Keys of --boards: 'kvr keygen --help'."};
static const option_id ACCEPTS[] = {
    OPT_MODEL,   OPT_SYSTEM,      OPT_TEMPLATE,       OPT_STOP,          OPT_N,       OPT_CONTEXT,      OPT_DEVICE,
    OPT_THREADS, OPT_KV,          OPT_GEMM,           OPT_PRECISION,     OPT_BATCH,   OPT_LOCAL_BOARDS, OPT_BOARD_CORES,
    OPT_BOARDS,  OPT_LISTEN_LEAD, OPT_KEY,            OPT_ALLOWED,       OPT_INSECURE, OPT_NEED_ALL_BOARDS,
    OPT_BOARD_TIMEOUT,            OPT_START_TIMEOUT,  OPT_VERBOSE,       OPT_TEMP,    OPT_TOP_K,
    OPT_TOP_P,   OPT_MIN_P,       OPT_REPEAT_PENALTY, OPT_REPEAT_LAST,   OPT_SEED,    OPT_WIRE_KV, OPT_EVEN, OPT_END};

enum { DEFAULT_NEW_TOKENS = 1024 };

typedef struct chat {
    chain c;
    const options *opt;
    uint32_t family;
    conversation talk;
    stops stops;
    kvr_text_stream stream;
    char *piece; /* [piece_cap] */
    size_t piece_cap;
    kvr_prompt last; /* for /stats; n_ids 0: nothing was asked yet */
    uint32_t n_new;
    int broken; /* no memory for the answer */
    int is_tty; /* somebody is typing */
} chat;

/* --- one answer ------------------------------------------------------------------------------------------------ */

static void show(chat *t, size_t from) {
    fwrite(t->stops.text + from, 1, t->stops.shown - from, stdout);
}

static int on_event(void *user, const kvr_event *event) {
    chat *t = user;
    size_t bytes = 0, from = 0;
    if (event->kind != KVR_EVENT_TOKEN) return 0;
    t->n_new++;
    t->broken |= conversation_add_id(&t->talk, event->id) != EXIT_OK;
    if (t->broken || kvr_chat_is_end(t->c.e.model, t->family, event->id)) return 1;
    if (kvr_text_decode(t->c.e.model, &t->stream, event->id, t->piece, t->piece_cap, &bytes) != KVR_OK) return 0;
    if (!stops_feed(&t->stops, t->piece, bytes, &from)) t->broken = 1;
    else show(t, from);
    return say_flush_output() != 0 || t->broken || t->stops.ended;
}

static void show_rest(chat *t) {
    size_t bytes = 0, from = 0;
    if (!t->stops.ended && kvr_text_finish(&t->stream, t->piece, t->piece_cap, &bytes) == KVR_OK &&
        stops_feed(&t->stops, t->piece, bytes, &from)) {
        show(t, from);
        stops_finish(&t->stops, &from);
        show(t, from);
    }
    putchar('\n');
}

static int ask(chat *t, const char *text, size_t bytes) {
    kvr_prompt prompt;
    uint32_t keep = 0;
    const uint32_t ctx_tokens = t->c.e.plan.ctx_tokens;
    int code = conversation_add(&t->talk, KVR_CHAT_USER, text, bytes);
    if (code == EXIT_OK) code = conversation_encode(&t->talk, t->c.e.model, t->family, &keep);
    if (code != EXIT_OK) return code;
    if (t->talk.n_ids >= ctx_tokens) {
        say_note("the conversation has %zu tokens, the context holds %u: /reset, or start with a larger -c",
                 t->talk.n_ids, ctx_tokens);
        conversation_drop(&t->talk);
        return EXIT_OK;
    }
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.ids = t->talk.ids;
    prompt.n_ids = (uint32_t)t->talk.n_ids;
    prompt.max_new_tokens = t->opt->n;
    engine_fill_sampling(t->opt, &prompt.sampling);
    chain_fill_prompt(&t->c, t->opt, &prompt);
    if (prompt.n_boards < 2) prompt.keep_tokens = keep;
    t->n_new = 0;
    t->broken = 0;
    t->stream.n_held = 0;
    t->stream.started = 1;
    stops_begin(&t->stops);
    code = chain_answer(&t->c, &prompt, on_event, t);
    chain_settle(&t->c);
    show_rest(t);
    t->last = prompt;
    t->last.ids = NULL;
    if (t->n_new > 0) t->talk.n_cached = prompt.n_ids + t->n_new - 1;
    else /* ended while the prompt was read: a window that had lost what was to keep began again from nothing */
        t->talk.n_cached = kvr_model_get_info(t->c.e.model)->window_tokens != 0 ? 0 : prompt.keep_tokens;
    if (t->broken) return say_error("not enough memory for the answer: end other programs");
    if (code == EXIT_SIGNAL_BASE + SIGINT) {
        signals_forget();
        code = EXIT_OK;
    }
    if (code == EXIT_OK)
        code = conversation_add(&t->talk, KVR_CHAT_ASSISTANT, t->stops.text ? t->stops.text : "", t->stops.bytes);
    if (code == EXIT_OK && prompt.n_ids + t->n_new > ctx_tokens)
        say_note("the context of %u tokens is full: /reset, or start with a larger -c", ctx_tokens);
    return code;
}

/* --- the conversation ------------------------------------------------------------------------------------------ */

static int is_command(const char *line, const char *name) {
    return strcmp(line, name) == 0;
}

/* One line without its end. *quit ends the program. */
static int take_line(chat *t, char *line, size_t bytes, int *quit) {
    if (bytes == 0) return EXIT_OK;
    if (line[0] != '/') return ask(t, line, bytes);
    if (is_command(line, "/quit") || is_command(line, "/exit")) *quit = 1;
    else if (is_command(line, "/reset")) conversation_reset(&t->talk);
    else if (is_command(line, "/stats") && t->last.n_ids != 0) statistics_print(&t->c, &t->last);
    else if (is_command(line, "/stats")) say_note("nothing was asked yet");
    else say_note("no command '%.60s': /reset, /stats, /quit; a message cannot begin with /", line);
    return EXIT_OK;
}

static int talk(chat *t) {
    char *line = NULL;
    size_t cap = 0;
    int code = EXIT_OK, quit = 0;
    while (code == EXIT_OK && !quit) {
        if (t->is_tty) fputs("> ", stderr);
        errno = 0;
        ssize_t n = getline(&line, &cap, stdin);
        if (signals_caught()) code = EXIT_SIGNAL_BASE + signals_caught();
        else if (n < 0 && ferror(stdin)) code = say_error("cannot read the next message: %s", strerror(errno));
        if (n < 0 || code != EXIT_OK) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = '\0';
        code = take_line(t, line, (size_t)n, &quit);
        if (say_flush_output() != 0) break;
    }
    if (t->is_tty && !quit) fputc('\n', stderr);
    free(line);
    return code;
}

static int choose_family(chat *t) {
    kvr_error error = {0};
    if (t->opt->chat_template == NULL) {
        if (kvr_chat_of_model(t->c.e.model, &t->family, &error) == KVR_OK) return EXIT_OK;
        say_kvr_error("cannot tell how to chat with this model (--template NAME)", &error);
    } else {
        t->family = kvr_chat_find(t->opt->chat_template);
        if (t->family != UINT32_MAX) return EXIT_OK;
        say_error("--template: no '%.60s'", t->opt->chat_template);
    }
    fputs("templates:", stderr);
    for (uint32_t i = 0; kvr_chat_name(i) != NULL; i++) fprintf(stderr, " %s", kvr_chat_name(i));
    fputc('\n', stderr);
    return EXIT_FAILED;
}

int cmd_chat(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    uint32_t n_boards = 1;
    if (code != OPTIONS_DONE) return code;
    if ((code = chain_check_options(&opt, HELP.name, &n_boards)) != EXIT_OK) return code;
    if (!opt.given[OPT_N]) opt.n = DEFAULT_NEW_TOKENS;

    chat t;
    memset(&t, 0, sizeof t);
    t.opt = &opt;
    t.is_tty = isatty(STDIN_FILENO);
    t.c.helpers_ignore_keys = 1;
    code = engine_open_model(&t.c.e, opt.model);
    if (code == EXIT_OK) code = choose_family(&t);
    if (code == EXIT_OK) {
        stops_add(&t.stops, opt.stop);
        stops_add(&t.stops, kvr_chat_end_text(t.family));
        t.piece_cap = kvr_text_piece_cap(t.c.e.model) + 4;
        t.piece = malloc(t.piece_cap);
        if (t.piece == NULL) code = say_error("not enough memory for a piece of text: end other programs");
    }
    if (code == EXIT_OK && opt.system != NULL)
        code = conversation_add(&t.talk, KVR_CHAT_SYSTEM, opt.system, strlen(opt.system));
    if (code == EXIT_OK) code = chain_open(&t.c, &opt, n_boards, engine_ctx_tokens(&t.c.e, &opt, opt.n));
    if (code == EXIT_OK && t.is_tty) say_note("template %s; /reset, /stats, /quit", kvr_chat_name(t.family));
    if (code == EXIT_OK) code = talk(&t);
    chain_close(&t.c);
    conversation_free(&t.talk);
    stops_free(&t.stops);
    free(t.piece);
    return code;
}
