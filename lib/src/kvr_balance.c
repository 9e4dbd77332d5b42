#include "kvr_balance.h"

#include "kvr_carve.h"
#include "kvr_checked.h"
#include "kvr_cost_core.h"
#include "kvr_dtype.h"
#include "kvr_session_state.h"

#include <string.h>

#define PIECES 32u          /* frames of a prompt that a plan tells apart: finer ones change it little and cost time */
#define QUIET 0.15          /* measured / promised within 1 +- this is noise */
#define LEAST_US 5000.0     /* shorter work tells nothing of a board's speed */
#define MOST_SLOWNESS 64.0  /* and 1/64: beyond, something else is wrong */
#define FORGOTTEN 1.01      /* as good as 1 */
#define FORGIVEN (7.0 / 8)  /* what is left of a slowness after a prompt without the board */

/* A plan's working memory; what is behind it is the cost model's. */
typedef struct room {
    kvr_geometry *geometry;
    kvr_board_profile *profiles; /* [P] */
    kvr_link_profile *paths;     /* [P] */
    const kvr_board_profile **boards; /* [P] */
    const kvr_link_profile **links;   /* [P] */
    kvr_cost_rank *ranks; /* [P] */
    uint32_t *sizes;      /* [P] */
} room;

static room lay_out(kvri_carve *carve, uint32_t P) {
    room m;
    m.geometry = kvri_carve_take(carve, 1, sizeof *m.geometry);
    m.profiles = kvri_carve_take(carve, P, sizeof *m.profiles);
    m.paths = kvri_carve_take(carve, P, sizeof *m.paths);
    m.boards = kvri_carve_take(carve, P, sizeof *m.boards);
    m.links = kvri_carve_take(carve, P, sizeof *m.links);
    m.ranks = kvri_carve_take(carve, P, sizeof *m.ranks);
    m.sizes = kvri_carve_take(carve, P, sizeof *m.sizes);
    return m;
}

size_t kvri_balance_bytes(uint32_t max_boards, uint32_t n_layers) {
    kvri_carve carve = {NULL, 0, 0};
    lay_out(&carve, max_boards);
    kvri_carve_take(&carve, kvri_sim_room(max_boards, n_layers, PIECES), 1);
    return carve.overflow ? SIZE_MAX : (size_t)carve.used;
}

/* --- what is known ------------------------------------------------------------------------------------------- */

static double slowness_of(const kvri_promise *p) { return p->slowness > 0 ? p->slowness : 1; }

static int all_speeds_known(const kvr_session *s, const uint32_t *boards, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!s->chain.peers[boards[i]].hello.speed.known) return 0;
    return s->speed.known;
}

/*
 * What each board sends through: its measured path to the lead, also where the next board is another helper. All that
 * comes in to a helper on a slow port has to leave through that port again, and more, so the slow port counts where it
 * is the limit. The path of a board that came later is taken for the slowest.
 */
static int find_paths(const kvr_session *s, const uint32_t *boards, uint32_t n, const room *m) {
    const kvri_peer *peers = s->chain.peers;
    kvri_path_seen slowest;
    memset(&slowest, 0, sizeof slowest);
    for (uint32_t i = 0; i < n; i++) {
        const kvri_path_seen *path = &peers[boards[i]].path;
        if (!path->known) continue;
        if (!slowest.known || path->mbit < slowest.mbit) slowest.mbit = path->mbit;
        if (path->latency_us > slowest.latency_us) slowest.latency_us = path->latency_us;
        slowest.known = 1;
    }
    for (uint32_t i = 0; i <= n; i++) { /* the lead sends nothing: its entry only fills the list */
        const kvri_path_seen path = i < n && peers[boards[i]].path.known ? peers[boards[i]].path : slowest;
        memset(&m->paths[i], 0, sizeof m->paths[i]);
        m->paths[i].mbit = path.mbit;
        m->paths[i].latency_us = i < n ? path.latency_us : 0;
        m->links[i] = &m->paths[i];
    }
    return slowest.known;
}

/* --- the cut ------------------------------------------------------------------------------------------------- */

/* The plan minds no board's limits; they are met by moving tokens to others. 0: they do not hold the prompt like
 * this. */
static int respect_limits(const kvr_session *s, const uint32_t *boards, uint32_t n, uint32_t *sizes) {
    uint32_t weights[KVR_MAX_BOARDS], limits[KVR_MAX_BOARDS], shared[KVR_MAX_BOARDS];
    uint32_t used = 0, end = 0;
    int fits = 1;
    for (uint32_t i = 0; i <= n; i++) {
        if (sizes[i] == 0) continue;
        weights[used] = sizes[i];
        limits[used] = i < n ? s->chain.peers[boards[i]].hello.chunk_tokens : s->plan.chunk_tokens;
        fits = fits && weights[used] <= limits[used];
        used++;
    }
    if (!fits && kvri_partition_share(s->n_prompt, weights, limits, used, shared) != KVR_OK) return 0;
    for (uint32_t i = 0, k = 0; i <= n; i++) {
        if (sizes[i] == 0) continue;
        if (!fits) sizes[i] = shared[k];
        k++;
        end += sizes[i];
        if (i < n &&
            (end > s->chain.peers[boards[i]].hello.ctx_tokens || s->chain.peers[boards[i]].hello.max_boards < used))
            return 0;
    }
    return 1;
}

/* Predicts the cut and notes what was promised. */
static int note_promises(kvr_session *s, kvr_cost_job *job, const uint32_t *boards, const uint32_t *sizes,
                         const room *m, void *work, size_t work_bytes) {
    kvri_chain *c = &s->chain;
    kvr_cost_result result;
    const uint32_t n = job->n_boards - 1;
    uint32_t used = 0;
    for (uint32_t i = 0; i <= n; i++) {
        if (sizes[i] == 0) continue;
        m->boards[used] = &m->profiles[i];
        m->links[used] = &m->paths[i];
        m->sizes[used++] = sizes[i];
    }
    job->n_boards = used;
    job->sizes = m->sizes;
    if (kvr_cost_run(job, work, work_bytes, &result, m->ranks, NULL) != KVR_OK) return 0;
    for (uint32_t i = 0, k = 0; i <= n; i++) {
        kvri_promise *p = i < n ? &c->peers[boards[i]].promise : &c->own;
        p->promised_us = p->planned_us = sizes[i] != 0 ? m->ranks[k++].compute_us : 0;
        p->took_us = 0;
    }
    s->stats.expected_us = (uint64_t)(result.ttft_us + 0.5);
    return 1;
}

static void keep(kvr_session *s, const uint32_t *boards, uint32_t n, const uint32_t *sizes) {
    kvri_kept_cut *kept = &s->chain.kept;
    kept->n_tokens = s->n_prompt;
    kept->n = n;
    memcpy(kept->boards, boards, n * sizeof *boards);
    memcpy(kept->sizes, sizes, (n + 1) * sizeof *sizes);
    kept->expected_us = s->stats.expected_us;
}

/* 1: the kept cut serves this prompt, too. */
static int take_kept(kvr_session *s, const uint32_t *boards, uint32_t n, uint32_t *out_sizes) {
    kvri_chain *c = &s->chain;
    if (c->kept.n_tokens != s->n_prompt || c->kept.n != n || memcmp(c->kept.boards, boards, n * sizeof *boards) != 0)
        return 0;
    for (uint32_t i = 0; i <= n; i++) {
        kvri_promise *p = i < n ? &c->peers[boards[i]].promise : &c->own;
        p->promised_us = p->planned_us;
        p->took_us = 0;
    }
    memcpy(out_sizes, c->kept.sizes, (n + 1) * sizeof *out_sizes);
    s->stats.expected_us = c->kept.expected_us;
    return 1;
}

void kvri_balance_changed(kvr_session *s) { s->chain.kept.n_tokens = 0; }

int kvri_balance_cut(kvr_session *s, const uint32_t *boards, uint32_t n, const uint32_t *given, uint32_t *out_sizes) {
    kvri_carve carve = {s->parts.balance, 0, 0};
    kvr_cost_job job;
    uint32_t sizes[KVR_MAX_BOARDS];
    double ttft_us;
    kvri_balance_forget(s);
    s->stats.expected_us = 0;
    if (n + 1 > s->plan.max_boards || !all_speeds_known(s, boards, n)) return 0;
    if (given == NULL && take_kept(s, boards, n, out_sizes)) return 1;
    kvri_balance_changed(s); /* what was promised by it is overwritten */
    const uint64_t begun_us = kvri_session_now(s);
    const room m = lay_out(&carve, s->plan.max_boards);
    void *const work = kvri_carve_take(&carve, kvri_sim_room(s->plan.max_boards, s->model->info.n_layers, PIECES), 1);
    const size_t work_bytes = (size_t)(carve.used - (uint64_t)((uint8_t *)work - (uint8_t *)s->parts.balance));
    if (kvr_geometry_of(&s->model->info, m.geometry) != KVR_OK || (n > 0 && !find_paths(s, boards, n, &m))) return 0;
    for (uint32_t i = 0; i <= n; i++) {
        const kvri_peer *peer = i < n ? &s->chain.peers[boards[i]] : NULL;
        m.profiles[i] = peer != NULL ? kvri_speed_profile(&peer->hello.speed, slowness_of(&peer->promise))
                                     : kvri_speed_profile(&s->speed, slowness_of(&s->chain.own));
        m.boards[i] = &m.profiles[i];
    }
    memset(&job, 0, sizeof job);
    job.struct_bytes = sizeof job;
    job.strategy = KVR_COST_CHAIN;
    job.geometry = m.geometry;
    job.boards = m.boards;
    job.links = n > 0 ? m.links : NULL;
    job.n_boards = n + 1;
    job.n_tokens = s->n_prompt;
    job.batch_tokens = s->plan.batch_tokens;
    job.frame_tokens = (uint32_t)kvri_ceil_div(s->n_prompt, PIECES);
    if (job.frame_tokens < s->plan.frame_tokens) job.frame_tokens = s->plan.frame_tokens;
    job.kv_bytes = (double)kvr_dtype_row_bytes(s->plan.wire_kv, 32) / 32;
    if (given != NULL) memcpy(sizes, given, (n + 1) * sizeof *sizes);
    else if (kvri_search_quick(&job, work, work_bytes, sizes, &ttft_us) != KVR_OK) return 0;
    if (given == NULL && !respect_limits(s, boards, n, sizes)) return 0;
    if (!note_promises(s, &job, boards, sizes, &m, work, work_bytes)) return 0;
    if (given == NULL) keep(s, boards, n, sizes);
    memcpy(out_sizes, sizes, (n + 1) * sizeof *sizes);
    s->stats.plan_us += kvri_session_now(s) - begun_us;
    return 1;
}

/* --- what is learned ----------------------------------------------------------------------------------------- */

/* 1: the board's slowness is another one now. */
static int learn(kvri_promise *p) {
    const double ratio = p->promised_us > 0 ? (double)p->took_us / p->promised_us : 1;
    const int tells = p->took_us > 0 && p->promised_us >= LEAST_US && (ratio > 1 + QUIET || ratio < 1 - QUIET);
    if (p->took_us > 0) p->promised_us = 0;
    if (!tells) return 0;
    p->slowness = slowness_of(p) * ratio;
    if (p->slowness > MOST_SLOWNESS) p->slowness = MOST_SLOWNESS;
    if (p->slowness < 1 / MOST_SLOWNESS) p->slowness = 1 / MOST_SLOWNESS;
    return 1;
}

void kvri_balance_learn(kvr_session *s) {
    int changed = learn(&s->chain.own);
    for (uint32_t b = 0; b < s->chain.n_helpers; b++) changed |= learn(&s->chain.peers[b].promise);
    if (changed) kvri_balance_changed(s);
}

void kvri_balance_forgive(kvr_session *s, const uint32_t *boards, uint32_t n, const uint32_t *sizes) {
    for (uint32_t i = 0; i < n; i++) {
        kvri_promise *p = &s->chain.peers[boards[i]].promise;
        if (sizes[i] != 0 || p->slowness <= 1) continue;
        p->slowness = 1 + (p->slowness - 1) * FORGIVEN;
        if (p->slowness < FORGOTTEN) p->slowness = 1;
        kvri_balance_changed(s);
    }
}

void kvri_balance_forget(kvr_session *s) {
    for (uint32_t b = 0; b < s->chain.n_helpers; b++) s->chain.peers[b].promise.promised_us = 0;
    s->chain.own.promised_us = 0;
}
