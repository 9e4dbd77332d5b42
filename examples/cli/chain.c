#include "chain.h"

#include <stdlib.h>
#include <string.h>

#include "emulate.h"
#include "kvr/kvr_cost.h"
#include "own_profile.h"
#include "progress.h"
#include "say.h"
#include "signals.h"
#include "timeline.h"

enum { IDLE_US = 10000, CHECK_US = 20000 };

static uint32_t count_addresses(const char *list) {
    uint32_t n = 1;
    for (; *list; list++) n += *list == ',';
    return n;
}

static const option_need NEEDS[] = {
    {OPT_KEY, {OPT_BOARDS, OPT_END}, "--boards"},
    {OPT_ALLOWED, {OPT_BOARDS, OPT_END}, "--boards"},
    {OPT_PROFILES, {OPT_PROFILE, OPT_END}, "--profile"},
    {OPT_RUN_LINK, {OPT_PROFILE, OPT_END}, "--profile"},
    {OPT_END, {OPT_END, OPT_END}, NULL}};

int chain_check_needs(const options *opt, const char *command) {
    return options_check_needs(command, NEEDS, opt);
}

int chain_check_options(const options *opt, const char *command, uint32_t *out_n_boards) {
    uint32_t n_boards = 1;
    const int code = chain_check_needs(opt, command);
    if (code != EXIT_OK) return code;
    if (opt->local_boards != 0 && opt->boards != NULL)
        return say_usage(command, "--local-boards starts helpers and --boards names running ones: give one of them");
    if (opt->local_boards != 0) n_boards = opt->local_boards;
    if (opt->boards != NULL) {
        n_boards = count_addresses(opt->boards) + 1;
        if (n_boards > KVR_MAX_BOARDS)
            return say_usage(command, "--boards names more than %u helpers", BOARDS_CAP_HELPERS);
        if (opt->boards[0] == '\0' || opt->boards[0] == ',' || strstr(opt->boards, ",,") != NULL ||
            opt->boards[strlen(opt->boards) - 1] == ',')
            return say_usage(command, "--boards wants addresses with commas between, as in tcp://10.0.0.2:7000");
    }
    if (opt->partition.n != 0 && opt->partition.n != n_boards)
        return say_usage(command,
                         "--partition has %u parts for %u board%s: give one part for each board, this one last",
                         opt->partition.n, n_boards, n_boards == 1 ? "" : "s");
    size_t bytes = 0;
    if (opt->emulate != NULL && emulate_file(opt->emulate, 0, n_boards, &bytes) == NULL)
        return say_usage(command, "--emulate wants one profile, or one for each of %u boards with commas between",
                         n_boards);
    *out_n_boards = n_boards;
    return EXIT_OK;
}

/* Two slots of the chain with one board would wait for each other. */
static const char *named_twice(const chain *c) {
    for (uint32_t i = 0; i + 1 < c->n_boards; i++)
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(c->addresses[i], c->addresses[j]) == 0) return c->addresses[i];
    return NULL;
}

/* Cuts a copy of --boards at its commas. */
static int split_addresses(chain *c, const char *list) {
    size_t bytes = strlen(list) + 1;
    c->remote = malloc(bytes);
    if (c->remote == NULL) return say_error("not enough memory for the addresses of the boards: end other programs");
    memcpy(c->remote, list, bytes);
    uint32_t n = 0;
    for (char *at = c->remote; at != NULL && n < BOARDS_CAP_HELPERS;) {
        c->addresses[n++] = at;
        at = strchr(at, ',');
        if (at != NULL) *at++ = '\0';
    }
    const char *twice = named_twice(c);
    return twice == NULL ? EXIT_OK
                         : say_error("--boards names '%s' twice: start a second 'kvr board' for a second one", twice);
}

static int start_local(chain *c, const options *opt, uint32_t ctx_tokens) {
    boards_config config;
    memset(&config, 0, sizeof config);
    config.n_boards = c->n_boards;
    config.cores_per_board = opt->board_cores;
    config.model = opt->model;
    config.device = opt->device;
    config.ctx_tokens = ctx_tokens;
    config.batch_tokens = opt->batch_tokens;
    config.kv_dtype = opt->kv_dtype;
    config.wire_kv = opt->wire_kv;
    config.kv_window = opt->kv_window;
    config.chunk = opt->chunk;
    config.gemm = OPTIONS_GEMM[opt->gemm];
    config.precision = OPTIONS_PRECISION[opt->precision];
    config.emulate = opt->emulate;
    config.board_timeout_s = engine_board_timeout_s(opt);
    config.verbose = opt->verbose != 0;
    config.even = !c->plans;
    config.own_group = c->helpers_ignore_keys;
    c->n_cores = opt->board_cores;
    return boards_start(&c->local, &config);
}

/* Then nobody else needs to reach this board. */
static int helpers_are_here(const chain *c, const options *opt) {
    if (opt->local_boards != 0) return 1;
    for (uint32_t i = 0; i + 1 < c->n_boards; i++)
        if (!engine_is_loopback(c->addresses[i])) return 0;
    return 1;
}

static void say_boards(const chain *c) {
    for (uint32_t i = 0; i + 1 < c->n_boards; i++) {
        if (c->local.n_boards > 1)
            say_note("board %u: pid %ld at %s", i, (long)c->local.helpers[i].pid, c->addresses[i]);
        else say_note("board %u: %s", i, c->addresses[i]);
    }
    say_note("board %u: this one, at %s, %s", c->n_boards - 1, c->e.inbox, device_name(c->e.dev));
}

/* First contact: what the boards can do and how fast their paths are. Who is missing is told at the prompt. */
static int meet(chain *c) {
    kvr_event event;
    kvr_status status = kvr_session_meet(c->e.session);
    while (status >= 0 && (status = kvr_session_poll(c->e.session, &event)) != KVR_END) {
        if (signals_caught()) return EXIT_SIGNAL_BASE + signals_caught();
        if (status == KVR_AGAIN) kvr_session_idle(c->e.session, IDLE_US);
    }
    return EXIT_OK;
}

int chain_open(chain *c, const options *opt, uint32_t n_boards, uint32_t ctx_tokens) {
    options own = *opt;
    own.kv_window = 0; /* the lead ends with all keys and values */
    c->n_boards = n_boards;
    c->plans = n_boards > 1 && !opt->even && opt->partition.n == 0 && opt->profile == NULL &&
               opt->strategy == KVR_COST_CHAIN;
    signals_catch();
    int code = n_boards > 1 ? engine_check_link() : EXIT_OK;
    if (opt->boards == NULL) own.key = own.allowed = NULL; /* boards of this machine trust each other */
    if (code == EXIT_OK) code = engine_load_keys(&c->e, &own);
    if (code != EXIT_OK) return code;
    if (opt->local_boards != 0) {
        code = start_local(c, opt, ctx_tokens);
        own.threads = opt->board_cores;
    } else if (opt->boards != NULL) {
        code = split_addresses(c, opt->boards);
    }
    for (uint32_t i = 0; i + 1 < n_boards && opt->local_boards == 0 && code == EXIT_OK; i++)
        code = keys_check_address(c->e.keys, opt, c->addresses[i], 0);
    if (code == EXIT_OK) code = engine_make_plan(&c->e, &own, ctx_tokens, n_boards);
    if (code == EXIT_OK) code = engine_open_session(&c->e);
    if (code == EXIT_OK && (opt->trace != NULL || opt->timeline != NULL))
        code = engine_keep_timeline(&c->e, n_boards * TIMELINE_SPANS_PER_BOARD);
    if (code == EXIT_OK && c->plans) code = own_profile_take(&c->e, &own);
    if (code != EXIT_OK || n_boards == 1) return code;

    const char *listen = opt->listen;
    if (listen == NULL) listen = helpers_are_here(c, opt) ? "tcp://127.0.0.1:*" : "tcp://*:*";
    code = keys_check_address(c->e.keys, opt, listen, 1);
    if (code == EXIT_OK) code = engine_open_link(&c->e, &own, listen);
    if (code == EXIT_OK && opt->local_boards != 0) {
        code = boards_wait_ready(&c->local, opt->start_timeout_s);
        for (uint32_t i = 0; i + 1 < n_boards; i++) c->addresses[i] = c->local.helpers[i].address;
    }
    c->local.go_on = !opt->need_all_boards; /* once they are all up */
    if (code == EXIT_OK) code = engine_set_boards(&c->e, c->addresses, n_boards - 1);
    if (code == EXIT_OK && c->plans) code = meet(c);
    if (code == EXIT_OK && opt->verbose) say_boards(c);
    return code;
}

void chain_close(chain *c) {
    if (c->e.session != NULL && c->n_boards > 1 && c->e.inbox[0] != '\0') kvr_session_dismiss(c->e.session);
    engine_close(&c->e);
    boards_end(&c->local);
    free(c->remote);
    memset(c, 0, sizeof *c);
}

/* One list of strategies for what is run and what is predicted. */
typedef char chain_numbers_are_shared[(int)KVR_STRATEGY_CHAIN == (int)KVR_COST_CHAIN &&
                                              (int)KVR_STRATEGY_TSP == (int)KVR_COST_TSP &&
                                              (int)KVR_STRATEGY_TSP_SKIP == (int)KVR_COST_TSP_SKIP
                                          ? 1
                                          : -1];

const char *chain_strategy_name(uint32_t n_boards, uint32_t strategy) {
    return kvr_cost_strategy_name(n_boards > 1 ? (kvr_cost_strategy)strategy : KVR_COST_SINGLE);
}

void chain_fill_strategy(uint32_t n_boards, const options *opt, kvr_prompt *prompt) {
    prompt->n_boards = opt->strategy == KVR_COST_SINGLE || n_boards == 0 ? 1 : n_boards;
    prompt->strategy = prompt->n_boards > 1 ? opt->strategy : (uint32_t)KVR_STRATEGY_CHAIN;
    prompt->on_board_loss = opt->need_all_boards ? KVR_LOSS_FAIL : KVR_LOSS_CONTINUE;
}

void chain_fill_prompt(const chain *c, const options *opt, kvr_prompt *prompt) {
    chain_fill_strategy(c->n_boards, opt, prompt);
    if (prompt->n_boards == 1) return;
    if (opt->partition.n != 0) {
        prompt->partition = opt->partition.values;
    } else if (prompt->n_ids < c->n_boards) {
        prompt->n_boards = prompt->n_ids; /* a board needs one token at least */
        say_note("the prompt has %u tokens, so only %u of %u boards take part", prompt->n_ids, prompt->n_ids,
                 c->n_boards);
    }
}

/* --- one prompt ------------------------------------------------------------------------------------------------ */

static int say_failure(chain *c) {
    const kvr_error *error = kvr_session_get_error(c->e.session);
    int32_t rank = kvr_session_failed_rank(c->e.session);
    if (boards_check(&c->local, "during the prompt") != EXIT_OK && !c->local.go_on) return EXIT_FAILED;
    if (rank < 0 || (uint32_t)rank + 1 >= c->n_boards) return say_kvr_error("the prompt failed", error);
    if ((engine_refusals(&c->e) >> rank & 1u) != 0)
        return say_error("board %d at %s does not know this board's key: put its line (FILE.pub) into the list that "
                         "'kvr board --allowed' names there, and start it again",
                         rank, c->addresses[rank]);
    char line[512];
    kvr_error_format(error, line, sizeof line);
    if (c->local.n_boards > 1)
        return say_error("board %d (pid %ld): %s; run again, or use fewer boards", rank,
                         (long)c->local.helpers[rank].pid, line);
    const int is_silent = error->status == KVR_ERR_PEER_LOST || error->status == KVR_ERR_TIMEOUT;
    return say_error("board %d at %s: %s%s", rank, c->addresses[rank], line,
                     is_silent ? "; check that 'kvr board' runs there with the same model, or leave it out" : "");
}

/* A board that is lost, or takes part again. */
static void say_news(const chain *c, const kvr_event *event) {
    char line[512];
    if (event->kind == KVR_EVENT_BOARD_BACK)
        say_note("board %d at %s takes part again", event->id, c->addresses[event->id]);
    if (event->kind != KVR_EVENT_BOARD_LOST) return;
    kvr_error_format(kvr_session_get_loss(c->e.session), line, sizeof line);
    if (event->id < 0) say_note("%s; going on alone", line);
    else say_note("board %d at %s is lost: %s; going on without it", event->id, c->addresses[event->id], line);
}

int chain_answer(chain *c, const kvr_prompt *prompt, kvr_event_fn callback, void *user) {
    kvr_session *session = c->e.session;
    progress bar;
    int code = EXIT_OK, in_prompt = 1;
    uint64_t check_us = 0;
    if (boards_check(&c->local, "before the prompt") != EXIT_OK && prompt->on_board_loss == KVR_LOSS_FAIL)
        return EXIT_FAILED;
    if (kvr_session_prompt(session, prompt) != KVR_OK) return say_failure(c);
    progress_begin(&bar);
    for (;;) {
        kvr_event event;
        memset(&event, 0, sizeof event);
        kvr_status status = kvr_session_poll(session, &event);
        if (status < 0) {
            progress_end(&bar);
            return say_failure(c);
        }
        if (status == KVR_END) break;
        if (status == KVR_OK) say_news(c, &event);
        if (status == KVR_OK && event.kind == KVR_EVENT_PROGRESS && in_prompt)
            progress_show(&bar, event.done, event.total);
        if (status == KVR_OK && (event.kind == KVR_EVENT_TOKEN || event.kind == KVR_EVENT_END)) {
            in_prompt = 0; /* from here on the lead needs nobody */
            progress_end(&bar);
        }
        if (status == KVR_OK && callback != NULL && event.kind != KVR_EVENT_NONE && callback(user, &event) != 0) {
            kvr_session_stop(session);
            break;
        }
        if (status == KVR_OK && event.kind == KVR_EVENT_END) break;
        if (signals_caught()) {
            kvr_session_stop(session);
            code = EXIT_SIGNAL_BASE + signals_caught();
            break;
        }
        if (in_prompt && c->local.n_boards > 1 && engine_now_us(&c->e) - check_us > CHECK_US) {
            check_us = engine_now_us(&c->e);
            if (boards_check(&c->local, "during the prompt") != EXIT_OK && prompt->on_board_loss == KVR_LOSS_FAIL) {
                kvr_session_stop(session);
                code = EXIT_FAILED;
                break;
            }
        }
        if (status == KVR_AGAIN) kvr_session_idle(session, UINT64_MAX);
    }
    progress_end(&bar);
    return code;
}

void chain_settle(chain *c) {
    kvr_event event;
    kvr_status status;
    while ((status = kvr_session_poll(c->e.session, &event)) == KVR_OK || status == KVR_AGAIN)
        if (status == KVR_AGAIN) kvr_session_idle(c->e.session, UINT64_MAX);
}
