/* kvr board: a helper that serves whichever lead says hello, until it is told to end. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "engine.h"
#include "own_profile.h"
#include "say.h"
#include "signals.h"
#include "timeline.h"

static const command_help HELP = {
    "board", "-m FILE --listen ADDR [options]",
    "Helps other boards with their prompts: waits at ADDR until a lead ('kvr run --boards') calls, and then for the "
    "next.",
    "Use the same model file on all boards. Keys: 'kvr keygen --help'. SIGINT and SIGTERM end it."};
static const option_id ACCEPTS[] = {
    OPT_MODEL,   OPT_LISTEN_BOARD, OPT_KEY,       OPT_ALLOWED, OPT_INSECURE,   OPT_CONTEXT,       OPT_DEVICE,
    OPT_THREADS, OPT_KV,           OPT_GEMM,      OPT_PRECISION, OPT_BATCH,    OPT_MAX_BOARDS,    OPT_BOARD_TIMEOUT,
    OPT_ANNOUNCE_FD, OPT_EMULATE,  OPT_WIRE_KV,   OPT_KV_WINDOW, OPT_CHUNK, OPT_EVEN, OPT_END};

enum { DEFAULT_MAX_BOARDS = 8, IDLE_US = 100000 };

/* Tells whoever started this helper where it listens. */
static int announce(int fd, const char *address) {
    char line[KVR_ADDRESS_CAP + 1];
    int bytes = snprintf(line, sizeof line, "%s\n", address);
    ssize_t written = write(fd, line, (size_t)bytes);
    if (written != bytes) return say_error("cannot announce %s: %s", address, strerror(errno));
    close(fd);
    return EXIT_OK;
}

/* A broken session fails at every poll: after so many in a row without one good step, waiting no longer helps. */
enum { MAX_FAILURES_IN_A_ROW = 100 };

/* Says on stderr when a prompt begins and ends. The statistics of a helper count from the lead's go-ahead. */
static void say_work(const kvr_session *session, int *working) {
    kvr_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    kvr_session_get_stats(session, &stats);
    int works = stats.n_prompt_tokens != 0 && stats.ttft_us == 0;
    if (works && !*working)
        fprintf(stderr, "working on tokens %u to %u of a prompt of %u, %u boards\n", stats.own_first,
                stats.own_first + stats.own_tokens - 1, stats.n_prompt_tokens, stats.n_boards);
    if (!works && *working) fprintf(stderr, "done after %.1f ms\n", (double)stats.ttft_us / 1000.0);
    *working = works;
}

static int serve(engine *e, int talk) {
    unsigned failures = 0;
    int working = 0;
    engine_strangers said = {0, 0, 0};
    while (!signals_caught()) {
        kvr_event event;
        memset(&event, 0, sizeof event);
        kvr_status status = kvr_session_poll(e->session, &event);
        if (status < 0) {
            say_kvr_error("a job failed, waiting for the next one", kvr_session_get_error(e->session));
            if (++failures == MAX_FAILURES_IN_A_ROW) return say_error("giving up after %u failures in a row", failures);
            continue;
        }
        if (status == KVR_OK) {
            failures = 0;
            if (talk) say_work(e->session, &working);
        } else {
            kvr_session_idle(e->session, IDLE_US);
            engine_say_strangers(e, &said, 0);
        }
    }
    engine_say_strangers(e, &said, 1);
    kvr_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    kvr_session_get_stats(e->session, &stats);
    if (stats.frames_refused > 0)
        say_note("dropped %llu frames that were damaged or of no job", (unsigned long long)stats.frames_refused);
    return EXIT_OK;
}

int cmd_board(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    if (opt.listen == NULL) return say_usage(HELP.name, "no address given: use --listen tcp://*:7000");
    if (opt.announce_fd >= 0) say_be_quiet();

    engine e = {0};
    code = engine_check_link();
    if (code == EXIT_OK) code = engine_load_keys(&e, &opt);
    if (code == EXIT_OK) code = keys_check_address(e.keys, &opt, opt.listen, 1);
    if (code == EXIT_OK) code = engine_open_model(&e, opt.model);
    if (code == EXIT_OK)
        code = engine_make_plan(&e, &opt, engine_ctx_tokens(&e, &opt, 0),
                                opt.max_boards ? opt.max_boards : DEFAULT_MAX_BOARDS);
    if (code == EXIT_OK) code = engine_open_session(&e);
    if (code == EXIT_OK && !opt.even) code = own_profile_take(&e, &opt);
    if (code == EXIT_OK) code = engine_keep_timeline(&e, TIMELINE_SPANS_PER_BOARD); /* a lead may ask for it */
    if (code == EXIT_OK) code = engine_open_link(&e, &opt, opt.listen);
    if (code == EXIT_OK && kvr_session_serve(e.session) != KVR_OK)
        code = say_kvr_error("cannot serve", kvr_session_get_error(e.session));
    if (code == EXIT_OK) {
        signals_catch(); /* only now: before, there is nothing to put in order and a signal may simply end it */
        if (opt.announce_fd >= 0) code = announce(opt.announce_fd, e.inbox);
        else fprintf(stderr, "listening on %s\n", e.inbox);
    }
    if (code == EXIT_OK) code = serve(&e, opt.announce_fd < 0);
    engine_close(&e);
    return code;
}
