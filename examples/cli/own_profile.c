#include "own_profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "affinity.h"
#include "cache_dir.h"
#include "forecast.h"
#include "kvr/kvr_version.h"
#include "say.h"
#include "signals.h"

enum { BUDGET_US = 600000, USUAL_TOKENS = 1024 };
#define VALID_S 3600.0 /* a measurement */

/* FNV-1a (Fowler, Noll, Vo 1991), 64 bits. */
static uint64_t hash_text(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

/* Everything that a measurement depends on goes into the name. 0: there is no folder. */
static int find_path(const engine *e, const options *opt, char *out, size_t cap) {
    char dir[1024], key[1024];
    if (!cache_dir_find(dir, sizeof dir)) return 0;
    const uint32_t threads = opt->threads ? opt->threads : affinity_cores();
    const uint32_t ctx = e->plan.ctx_tokens < OWN_PROFILE_CTX ? e->plan.ctx_tokens : OWN_PROFILE_CTX;
    snprintf(key, sizeof key, "%s|%s|%016" PRIx64 "|threads %u|batch %u|ctx %u|kv %u|wire %u|gemm %u|precision %u",
             KVR_VERSION, device_identity(e->dev), kvr_model_get_info(e->model)->fingerprint, threads,
             e->plan.batch_tokens, ctx, e->plan.kv_dtype, e->plan.wire_kv, opt->gemm, opt->precision);
    const int n = snprintf(out, cap, "%s/profile-%016" PRIx64 ".txt", dir, hash_text(key));
    return n > 0 && (size_t)n < cap;
}

static int load(const char *path, kvr_board_profile *out) {
    static char text[KVR_PROFILE_MAX_BYTES + 1];
    kvr_error error = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    if (kvr_board_profile_read(text, n, out, &error) == KVR_OK) return 1;
    say_note("%s is damaged: measuring this board again", path);
    return 0;
}

/* Best effort: without the file the next start measures again. Boards that start together write one each. */
static void save(const char *path, const kvr_board_profile *profile) {
    static char text[KVR_PROFILE_MAX_BYTES];
    char temporary[1200];
    const size_t n = kvr_board_profile_write(profile, text, sizeof text);
    snprintf(temporary, sizeof temporary, "%.1100s.%ld", path, (long)getpid());
    FILE *file = n > 0 ? fopen(temporary, "wb") : NULL;
    if (file == NULL) return;
    const int written = fwrite(text, 1, n, file) == n;
    if (fclose(file) != 0 || !written || rename(temporary, path) != 0) remove(temporary);
}

int own_profile_measure(engine *e, uint32_t budget_us, kvr_board_profile *out) {
    kvr_event event;
    out->name[0] = '\0';
    kvr_status status = kvr_session_measure(e->session, budget_us);
    if (status == KVR_ERR_UNSUPPORTED) return EXIT_OK;
    while (status >= 0 && (status = kvr_session_poll(e->session, &event)) != KVR_END) {
        if (signals_caught()) {
            kvr_session_stop(e->session);
            while ((status = kvr_session_poll(e->session, &event)) == KVR_OK || status == KVR_AGAIN)
                if (status == KVR_AGAIN) kvr_session_idle(e->session, UINT64_MAX);
            return EXIT_SIGNAL_BASE + signals_caught();
        }
        if (status == KVR_AGAIN) kvr_session_idle(e->session, UINT64_MAX);
    }
    if (status < 0) return say_kvr_error("cannot measure this board", kvr_session_get_error(e->session));
    if (kvr_session_get_profile(e->session, out) != KVR_OK) {
        out->name[0] = '\0';
        return EXIT_OK;
    }
    snprintf(out->name, sizeof out->name, "this-board");
    snprintf(out->source, sizeof out->source, "measured by itself with %.80s on %.100s",
             kvr_model_get_info(e->model)->name, device_name(e->dev));
    return EXIT_OK;
}

/* Whether the last measurement is so long ago that a new one may tell more. Times of files may be a little ahead of
 * time(); far ahead, the clock was set back and nothing is known. */
static int is_old(const char *path) {
    struct stat is;
    if (stat(path, &is) != 0) return 1;
    const double age_s = difftime(time(NULL), is.st_mtime);
    return age_s <= -VALID_S || age_s >= VALID_S;
}

/* A usual prompt on this board alone, by a profile. 0: it cannot be predicted. */
static double usual_us(const engine *e, const kvr_board_profile *profile) {
    const kvr_board_profile *const only[1] = {profile};
    forecast_memory memory = {NULL, 0};
    kvr_geometry geometry;
    kvr_cost_job job;
    kvr_cost_result result;
    double us = 0;
    memset(&job, 0, sizeof job);
    job.struct_bytes = sizeof job;
    job.strategy = KVR_COST_SINGLE;
    job.geometry = &geometry;
    job.boards = only;
    job.n_boards = 1;
    job.n_tokens = e->plan.ctx_tokens < USUAL_TOKENS ? e->plan.ctx_tokens : USUAL_TOKENS;
    job.batch_tokens = e->plan.batch_tokens;
    if (kvr_geometry_of(kvr_model_get_info(e->model), &geometry) == KVR_OK &&
        forecast_memory_for(&memory, &job) == EXIT_OK &&
        kvr_cost_run(&job, memory.work, memory.bytes, &result, NULL, NULL) == KVR_OK)
        us = result.ttft_us;
    forecast_memory_free(&memory);
    return us;
}

int own_profile_take(engine *e, const options *opt) {
    kvr_board_profile kept, profile;
    char path[1100];
    memset(&profile, 0, sizeof profile);
    const kvr_board_profile *emulated = device_emulated(e->dev);
    if (emulated != NULL) {
        kvr_session_set_profile(e->session, emulated);
        return EXIT_OK;
    }
    const int has_path = find_path(e, opt, path, sizeof path);
    const int is_kept = has_path && load(path, &kept);
    if (is_kept && !is_old(path)) {
        kvr_session_set_profile(e->session, &kept);
        return EXIT_OK;
    }
    const int code = own_profile_measure(e, BUDGET_US, &profile);
    if (code != EXIT_OK) return code;
    /* other work on the board, then or now, has only ever added time */
    if (is_kept && (profile.name[0] == '\0' || usual_us(e, &kept) < usual_us(e, &profile))) {
        profile = kept;
        kvr_session_set_profile(e->session, &profile);
    }
    if (profile.name[0] == '\0') say_note("this board has no profile: chains with it cut their prompts evenly");
    else if (has_path) save(path, &profile);
    return EXIT_OK;
}
