/* The job, what a share of it costs, and the way from a strategy's run to a result. */
#include "kvr_cost_core.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_frame.h"

#include <string.h>

#define MODULE "cost"
#define MAX_TOKENS (1u << 20)
#define MAX_KV_BYTES 8.0

const char *kvr_cost_strategy_name(kvr_cost_strategy strategy) {
    static const char *const names[KVR_COST_STRATEGIES] = {"chain", "single", "tsp", "tsp-skip", "fan-out", "tensor"};
    return (uint32_t)strategy < KVR_COST_STRATEGIES ? names[strategy] : "?";
}

/* --- what things cost ---------------------------------------------------------------------------------------- */

kvri_costs kvri_costs_of(const kvr_board_profile *board, const kvr_geometry *g) {
    const double M = g->model_dim, G = g->n_kv_heads, H = g->n_heads, D = g->head_dim;
    const double kv_weights = 2 * M * G * D;
    const double rest_weights = 2 * M * H * D + g->ffn_products * M * g->ffn_dim;
    const double head_weights = M * g->n_vocab;
    const double mac_us = 1e-3 / board->dense_gmacs;                       /* 10^9 per second = 10^3 per microsecond */
    const double weight_us = 1e-3 * g->weight_bytes / board->memory_gbs;
    kvri_costs c;
    c.kv_token_us = kv_weights * mac_us;
    c.kv_floor_us = kv_weights * weight_us;
    c.rest_token_us = rest_weights * mac_us;
    c.rest_floor_us = rest_weights * weight_us;
    c.pair_us = 1e-3 * (2 * H * D / board->attention_gmacs + H * board->score_bytes / board->memory_gbs);
    c.call_us = board->call_us;
    const double head_read_us = head_weights * weight_us, head_mac_us = head_weights * mac_us;
    c.head_us = c.call_us + (head_read_us > head_mac_us ? head_read_us : head_mac_us);
    c.prompt_us = board->prompt_us;
    c.frame_byte_us = board->frame_gbs > 0 ? 1e-3 / board->frame_gbs : 0;
    c.tile = board->attention_tile;
    return c;
}

static double call_us(const kvri_costs *c, double n, double token_us, double floor_us) {
    return c->call_us + (n * token_us > floor_us ? n * token_us : floor_us);
}

/* All micro-batches of a chunk through one half of a layer. */
static double half_us(const kvri_costs *c, uint32_t n, uint32_t batch, double token_us, double floor_us) {
    const double whole = n / batch * call_us(c, batch, token_us, floor_us);
    return n % batch != 0 ? whole + call_us(c, n % batch, token_us, floor_us) : whole;
}

/* Keys that the queries 0 .. q-1 meet when each square of t x t tokens counts unless it is masked altogether. */
static uint64_t keys_until(uint64_t q, uint64_t t) {
    const uint64_t k = q / t;
    return t * t * (k * (k + 1) / 2) + q % t * t * (k + 1);
}

/* Without skipping every query meets all keys up to the end of its micro-batch: the operator is told no more of them.
 */
static uint64_t rectangles(uint64_t first, uint64_t n, uint64_t batch) {
    const uint64_t whole = n / batch;
    return batch * (whole * first + batch * (whole * (whole + 1) / 2)) + n % batch * (first + n);
}

static uint64_t products_of(uint32_t first, uint32_t n, uint32_t tile, uint32_t batch) {
    if (tile == 0) return rectangles(first, n, batch);
    const uint64_t end = (uint64_t)first + n, t = tile;
    uint64_t pairs = keys_until(end, t) - keys_until(first, t);
    const uint64_t last_tile = end / t * t; /* its squares end with the keys, not with the tile */
    if (end % t != 0) pairs -= (end - (first > last_tile ? first : last_tile)) * (last_tile + t - end);
    return pairs;
}

kvri_share kvri_share_of(const kvri_costs *c, uint32_t first, uint32_t n, uint32_t square, uint32_t tile,
                         uint32_t batch_tokens) {
    const uint32_t key_end = square != 0 ? square : first + n;
    kvri_share s;
    s.products = square != 0 ? (uint64_t)n * square : products_of(first, n, tile, batch_tokens);
    s.kv_us = half_us(c, n, batch_tokens, c->kv_token_us, c->kv_floor_us);
    s.attend_us = half_us(c, n, batch_tokens, c->rest_token_us, c->rest_floor_us) + (double)s.products * c->pair_us;
    s.last_us = call_us(c, 1, c->rest_token_us, c->rest_floor_us) + key_end * c->pair_us;
    return s;
}

double kvri_single_us(const kvri_costs *c, uint32_t n_tokens, uint32_t tile, uint32_t n_layers, uint32_t batch_tokens) {
    const kvri_share s = kvri_share_of(c, 0, n_tokens, 0, tile, batch_tokens);
    return c->prompt_us + n_layers * s.kv_us + (n_layers - 1) * s.attend_us + s.last_us + c->head_us;
}

/* --- links --------------------------------------------------------------------------------------------------- */

/* splitmix64, Steele, Lea, Flood 2014: the n-th number of a seed without a state. */
static double chance(uint64_t key, uint64_t n) {
    uint64_t z = key + (n + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

#define MOST_PERIODS 4096.0

/* End of a transfer over periods of different bandwidth. */
static double send_varying(const kvri_wire *w, double t, double bytes) {
    double left_us = bytes * w->byte_us; /* at full bandwidth */
    const double mean = 1 - w->slow_chance * (1 - w->slow_factor);
    /* chance has evened out, to 1 % if half of the periods are slow */
    if (left_us > MOST_PERIODS * mean * w->period_us) return t + left_us / mean;
    for (uint64_t period = (uint64_t)(t / w->period_us);; period++) {
        const double factor = chance(w->key, period) < w->slow_chance ? w->slow_factor : 1;
        const double end = (double)(period + 1) * w->period_us;
        if (t >= end) continue; /* rounding at the border */
        if (left_us <= (end - t) * factor) return t + left_us / factor;
        left_us -= (end - t) * factor;
        t = end;
    }
}

double kvri_wire_send(kvri_wire *w, double ready_us, double bytes, uint32_t n_messages, double *out_begin_us) {
    const double begin = ready_us > w->free_us ? ready_us : w->free_us;
    const double t = begin + n_messages * w->message_us;
    *out_begin_us = begin;
    w->free_us = w->slow_chance > 0 ? send_varying(w, t, bytes) : t + bytes * w->byte_us;
    return w->free_us + w->latency_us;
}

static kvri_wire wire_of(const kvri_sim *sim, uint32_t rank) {
    kvri_wire w;
    memset(&w, 0, sizeof w);
    if (sim->free_links || sim->links == NULL) return w;
    const kvr_link_profile *l = sim->links[rank];
    w.byte_us = 8.0 / (sim->mbit > 0 ? sim->mbit : l->mbit); /* bits / (bits per microsecond) */
    w.latency_us = l->latency_us;
    w.message_us = l->message_us;
    w.slow_chance = sim->mbit > 0 ? 0 : l->slow_chance;
    w.slow_factor = l->slow_factor;
    w.period_us = l->period_ms * 1000;
    w.key = sim->job->seed * 0x2545f4914f6cdd1dull + rank;
    return w;
}

double kvri_sim_latency(const kvri_sim *sim) {
    double most = 0;
    if (sim->n_boards == 1) return 0;
    for (uint32_t r = 0; r < sim->n_boards; r++)
        if (sim->wires[r].latency_us > most) most = sim->wires[r].latency_us;
    return most;
}

/* --- the simulation's frame ---------------------------------------------------------------------------------- */

void kvri_sim_even(uint32_t n_tokens, uint32_t n_boards, uint32_t *out_sizes) {
    for (uint32_t r = 0; r < n_boards; r++) out_sizes[r] = n_tokens / n_boards + (r < n_tokens % n_boards);
}

uint32_t kvri_sim_frames(const kvri_sim *sim, uint32_t n_tokens) {
    return (uint32_t)kvri_ceil_div(n_tokens, sim->frame_tokens);
}

double kvri_sim_handling(const kvri_sim *sim, uint32_t rank, double n_tokens) {
    return n_tokens * sim->token_bytes * sim->costs[rank].frame_byte_us;
}

void kvri_sim_span(const kvri_sim *sim, kvr_cost_span_fn span, uint32_t rank, uint32_t layer, kvr_cost_span kind,
                   double begin_us, double end_us) {
    if (span != NULL && end_us > begin_us) span(sim->job->span_user, rank, layer, kind, begin_us, end_us);
}

static int has_rates(const kvr_link_profile *l) {
    return l != NULL && l->mbit > 0 && (!(l->slow_chance > 0) || (l->slow_factor > 0 && l->period_ms > 0));
}

static kvr_status check(const kvr_cost_job *job, kvr_error *error) {
    if (job == NULL || job->geometry == NULL || job->boards == NULL)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "geometry and boards must not be NULL");
    if (job->n_boards < 1 || job->n_boards > KVR_COST_MAX_BOARDS)
        return kvri_fail_n(error, KVR_ERR_ARG, MODULE, "n_boards out of range", KVR_COST_MAX_BOARDS, job->n_boards);
    if (job->n_tokens < 1 || job->n_tokens > MAX_TOKENS)
        return kvri_fail_n(error, KVR_ERR_ARG, MODULE, "n_tokens out of range", MAX_TOKENS, job->n_tokens);
    if (job->strategy >= KVR_COST_STRATEGIES)
        return kvri_fail_n(error, KVR_ERR_ARG, MODULE, "no such strategy", KVR_COST_STRATEGIES - 1, job->strategy);
    if (!(job->kv_bytes >= 0 && job->kv_bytes <= MAX_KV_BYTES))
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "kv_bytes must be 0 (F16) .. 8");
    if (job->geometry->n_layers == 0)
        return kvri_fail(error, KVR_ERR_ARG, MODULE,
                         "the geometry has no layers: fill it with kvr_geometry_read or _of");
    for (uint32_t r = 0; r < job->n_boards; r++)
        if (job->boards[r] == NULL || !(job->boards[r]->dense_gmacs > 0) || !(job->boards[r]->attention_gmacs > 0) ||
            !(job->boards[r]->memory_gbs > 0) ||
            (job->links != NULL && !has_rates(job->links[r])))
            return kvri_fail_n(error, KVR_ERR_ARG, MODULE, "a board or link has no rates; wanted = its rank", r, 0);
    return KVR_OK;
}

static void lay_out(kvri_sim *s, kvri_carve *carve) {
    const uint64_t P = s->n_boards, L = s->n_layers;
    const uint64_t pieces = kvri_ceil_div(s->job->n_tokens, s->frame_tokens) + P;
    const int chain = s->strategy == KVR_COST_CHAIN || s->strategy == KVR_COST_SINGLE;
    const int fan_out = s->strategy == KVR_COST_FAN_OUT;
    const int ring = s->strategy == KVR_COST_TSP || s->strategy == KVR_COST_TSP_SKIP;
    s->first = kvri_carve_take(carve, P + 1, sizeof *s->first);
    s->costs = kvri_carve_take(carve, P, sizeof *s->costs);
    s->shares = kvri_carve_take(carve, P, sizeof *s->shares);
    s->wires = kvri_carve_take(carve, P, sizeof *s->wires);
    s->clock = kvri_carve_take(carve, P, sizeof *s->clock);
    s->ready = kvri_carve_take(carve, P > L ? P : L, sizeof *s->ready);
    s->kv_done = kvri_carve_take(carve, L, sizeof *s->kv_done);
    s->span_from = kvri_carve_take(carve, L, sizeof *s->span_from);
    s->span_to = kvri_carve_take(carve, L, sizeof *s->span_to);
    s->ring = kvri_carve_take(carve, ring ? P : 0, sizeof *s->ring);
    s->in = kvri_carve_take(carve, chain ? L * pieces : ring ? P * pieces : 0, sizeof *s->in);
    s->out = kvri_carve_take(carve, chain ? L * pieces : 0, sizeof *s->out);
    s->sent = kvri_carve_take(carve, fan_out ? P * P * L : 0, sizeof *s->sent);
    s->ranks = kvri_carve_take(carve, P, sizeof *s->ranks);
    s->sizes = kvri_carve_take(carve, P, sizeof *s->sizes);
    s->best = kvri_carve_take(carve, P, sizeof *s->best);
    s->trial = kvri_carve_take(carve, P, sizeof *s->trial);
    s->kept = kvri_carve_take(carve, P, sizeof *s->kept);
    s->weights = kvri_carve_take(carve, P, sizeof *s->weights);
    s->used = kvri_carve_take(carve, P, sizeof *s->used);
    s->tried = kvri_carve_take(carve, P, sizeof *s->tried);
    s->some_boards = kvri_carve_take(carve, P, sizeof *s->some_boards);
    s->some_links = kvri_carve_take(carve, P, sizeof *s->some_links);
    s->scratch = kvri_carve_take(carve, P, sizeof *s->scratch);
}

kvr_status kvri_sim_begin(kvri_sim *sim, const kvr_cost_job *job, void *work, size_t work_bytes, size_t *out_bytes,
                          kvr_error *error) {
    KVRI_TRY(check(job, error));
    kvri_carve carve = {NULL, 0, 0};
    memset(sim, 0, sizeof *sim);
    sim->job = job;
    sim->strategy = (kvr_cost_strategy)job->strategy;
    sim->n_boards = job->n_boards;
    sim->n_layers = job->geometry->n_layers;
    sim->batch_tokens = job->batch_tokens != 0 ? job->batch_tokens : 256;
    sim->frame_tokens = job->frame_tokens != 0 ? job->frame_tokens : 128;
    const double element = job->kv_bytes > 0 ? job->kv_bytes : 2;
    sim->token_bytes = 2.0 * job->geometry->n_kv_heads * job->geometry->head_dim * element;
    lay_out(sim, &carve);
    if (carve.overflow)
        return kvri_fail(error, KVR_ERR_NOMEM, MODULE, "too many boards, layers and frames to simulate");
    if (out_bytes != NULL) *out_bytes = (size_t)carve.used;
    if (work == NULL) return KVR_OK;
    if (work_bytes < carve.used)
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE, "give the working memory that kvr_cost_work_bytes says",
                           carve.used, work_bytes);
    carve.base = work;
    carve.used = 0;
    lay_out(sim, &carve);
    kvri_sim_use(sim, job->boards, job->links, job->n_boards);
    return KVR_OK;
}

size_t kvri_sim_room(uint32_t n_boards, uint32_t n_layers, uint32_t pieces) {
    kvri_carve carve = {NULL, 0, 0};
    kvr_cost_job job;
    kvri_sim sim;
    memset(&job, 0, sizeof job);
    memset(&sim, 0, sizeof sim);
    job.n_tokens = pieces;
    sim.job = &job;
    sim.strategy = KVR_COST_CHAIN;
    sim.n_boards = n_boards;
    sim.n_layers = n_layers;
    sim.frame_tokens = 1;
    lay_out(&sim, &carve);
    return carve.overflow ? SIZE_MAX : (size_t)carve.used;
}

void kvri_sim_use(kvri_sim *sim, const kvr_board_profile *const *boards, const kvr_link_profile *const *links,
                  uint32_t n_boards) {
    sim->boards = boards;
    sim->links = links;
    sim->n_boards = n_boards;
    for (uint32_t r = 0; r < n_boards; r++) sim->costs[r] = kvri_costs_of(boards[r], sim->job->geometry);
}

double kvri_sim_run(kvri_sim *sim, const uint32_t *sizes, kvr_cost_span_fn span) {
    const uint32_t C = sim->job->n_tokens, P = sim->n_boards;
    const int square = sim->strategy == KVR_COST_TSP;
    sim->first[0] = 0;
    for (uint32_t r = 0; r < P; r++) {
        const uint32_t end = sim->first[r] + sizes[r];
        kvr_cost_rank *rank = &sim->ranks[r];
        sim->first[r + 1] = end;
        sim->shares[r] = kvri_share_of(&sim->costs[r], sim->first[r], sizes[r], square ? C : 0, sim->costs[r].tile,
                                       sim->batch_tokens);
        sim->wires[r] = wire_of(sim, r);
        memset(rank, 0, sizeof *rank);
        rank->first = sim->first[r];
        rank->n_tokens = sizes[r];
        rank->products = sim->shares[r].products;
    }
    switch (sim->strategy) {
    case KVR_COST_CHAIN:
    case KVR_COST_SINGLE: return kvri_cost_chain(sim, span);
    case KVR_COST_TSP:
    case KVR_COST_TSP_SKIP: return kvri_cost_ring(sim, span);
    case KVR_COST_FAN_OUT: return kvri_cost_fan_out(sim, span);
    case KVR_COST_TENSOR: return kvri_cost_tensor(sim, span);
    }
    return 0;
}

/* --- public -------------------------------------------------------------------------------------------------- */

size_t kvr_cost_work_bytes(const kvr_cost_job *job) {
    kvri_sim sim;
    size_t bytes = 0;
    return kvri_sim_begin(&sim, job, NULL, 0, &bytes, NULL) == KVR_OK ? bytes : 0;
}

static kvr_status take_sizes(kvri_sim *sim, kvr_error *error) {
    const kvr_cost_job *job = sim->job;
    uint64_t sum = 0;
    if (job->n_tokens < sim->n_boards)
        return kvri_fail_n(error, KVR_ERR_PARTITION, MODULE, "every board needs a token: use fewer boards",
                           sim->n_boards, job->n_tokens);
    if (job->sizes == NULL || sim->n_boards == 1) {
        kvri_sim_even(job->n_tokens, sim->n_boards, sim->sizes);
        return KVR_OK;
    }
    for (uint32_t r = 0; r < sim->n_boards; r++) {
        if (job->sizes[r] == 0)
            return kvri_fail_n(error, KVR_ERR_PARTITION, MODULE, "every board needs a token; wanted = rank without", r,
                               0);
        sim->sizes[r] = job->sizes[r];
        sum += job->sizes[r];
    }
    if (sum != job->n_tokens)
        return kvri_fail_n(error, KVR_ERR_PARTITION, MODULE, "the sizes do not add up to the prompt", job->n_tokens,
                           sum);
    return KVR_OK;
}

/* The least work there is, divided perfectly by speed. */
static double split_bound(const kvri_sim *sim) {
    double speed = 0;
    for (uint32_t r = 0; r < sim->n_boards; r++)
        speed += 1 / kvri_single_us(&sim->costs[r], sim->job->n_tokens, 1, sim->n_layers, sim->batch_tokens);
    return 1 / speed;
}

/* K and V rows that cross a link in one layer, link by link; TENSOR moves activations instead. */
static uint64_t entries_of(const kvri_sim *sim) {
    const uint64_t P = sim->n_boards, C = sim->job->n_tokens;
    uint64_t n = 0;
    switch (sim->strategy) {
    case KVR_COST_CHAIN:
        for (uint32_t r = 1; r < P; r++) n += 2u * (uint64_t)sim->first[r];
        return n;
    case KVR_COST_TSP:
    case KVR_COST_TSP_SKIP: return 2 * (P - 1) * C;
    case KVR_COST_FAN_OUT:
        for (uint32_t r = 0; r < P; r++) n += 2 * (P - 1 - r) * (uint64_t)(sim->first[r + 1] - sim->first[r]);
        return n;
    case KVR_COST_SINGLE:
    case KVR_COST_TENSOR: break;
    }
    return 0;
}

kvr_status kvr_cost_run(const kvr_cost_job *job, void *work, size_t work_bytes, kvr_cost_result *out,
                        kvr_cost_rank *out_ranks, kvr_error *error) {
    kvri_sim sim;
    if (work == NULL || out == NULL) return kvri_fail(error, KVR_ERR_ARG, MODULE, "work and out must not be NULL");
    KVRI_TRY(kvri_sim_begin(&sim, job, work, work_bytes, NULL, error));
    const uint32_t lead = sim.n_boards - 1;
    if (sim.strategy == KVR_COST_SINGLE) kvri_sim_use(&sim, job->boards + lead, NULL, 1);
    KVRI_TRY(take_sizes(&sim, error));

    kvr_cost_result r;
    memset(&r, 0, sizeof r);
    const kvri_costs *own = &sim.costs[sim.n_boards - 1];
    r.single_us = kvri_single_us(own, job->n_tokens, own->tile, sim.n_layers, sim.batch_tokens);
    r.bound_split_us = split_bound(&sim);
    sim.free_links = 1;
    r.free_us = kvri_sim_run(&sim, sim.sizes, NULL);
    sim.free_links = 0;
    if (sim.strategy == KVR_COST_CHAIN) {
        sim.hide_attention = 1;
        r.bound_overlap_us = kvri_sim_run(&sim, sim.sizes, NULL);
        sim.hide_attention = 0;
    }
    r.ttft_us = kvri_sim_run(&sim, sim.sizes, job->span);
    if (sim.strategy != KVR_COST_CHAIN) r.bound_overlap_us = r.ttft_us; /* nothing there waits for a board before it */
    r.entries_moved = entries_of(&sim);
    for (uint32_t i = 0; i < sim.n_boards; i++) {
        if (sim.ranks[i].compute_us > r.bound_busiest_us) r.bound_busiest_us = sim.ranks[i].compute_us;
        r.bytes_moved += sim.ranks[i].bytes_out;
    }
    if (out_ranks != NULL) memset(out_ranks, 0, job->n_boards * sizeof *out_ranks);
    if (out_ranks != NULL)
        memcpy(out_ranks + (job->n_boards - sim.n_boards), sim.ranks, sim.n_boards * sizeof *out_ranks);
    *out = r;
    return KVR_OK;
}
