/*
 * TSP in virtual time: every rank computes Q, K, V of its tokens; a ring all-gather, in which every rank sends its own
 * frames and hands on those of others except to the one they came from; a rank goes on when it has everything and has
 * handed on its part; then attention and the rest. A ring's links depend on each other in a circle, so here frames are
 * taken in the order of their departures.
 */
#include "kvr_cost_core.h"

#include "kvr_checked.h"
#include "kvr_frame.h"

static int has_relay(const kvri_ring_link *l) { return l->n_out < l->n_in; }

/* When the next frame of a link could leave; -1: nothing waits. */
static double next_departure(const kvri_sim *sim, const kvri_ring_link *l, uint32_t rank, uint32_t frames,
                             int *out_relay) {
    const double relay_us = has_relay(l) ? sim->in[(size_t)rank * frames + l->n_out].at_us : -1;
    const double own_us = l->own_left > 0 ? sim->clock[rank] : -1;
    *out_relay = relay_us >= 0 && (own_us < 0 || relay_us <= own_us);
    const double ready_us = *out_relay ? relay_us : own_us;
    return ready_us < 0 || ready_us > sim->wires[rank].free_us ? ready_us : sim->wires[rank].free_us;
}

static void deliver(kvri_sim *sim, kvri_ring_link *to, uint32_t rank, uint32_t frames, const kvri_arrival *frame) {
    to->all_in_us = frame->at_us;
    if (frame->layer == (rank + 1) % sim->n_boards) return; /* its owner is next: the end of its way */
    sim->in[(size_t)rank * frames + to->n_in++] = *frame;
}

/* All frames of one layer. An arrival's `layer` is here the rank it began at. */
static void all_gather(kvri_sim *sim, uint32_t frames, uint32_t layer, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards;
    kvri_ring_link *links = sim->ring;
    for (uint32_t r = 0; r < P; r++) {
        const kvri_ring_link fresh = {0, 0, P > 1 ? sim->ranks[r].n_tokens : 0, -1, sim->clock[r]};
        links[r] = fresh;
    }
    for (;;) {
        uint32_t who = P;
        double first_us = -1;
        int relay = 0;
        for (uint32_t r = 0; r < P; r++) {
            int is_relay;
            const double at_us = next_departure(sim, &links[r], r, frames, &is_relay);
            if (at_us < 0 || (first_us >= 0 && at_us >= first_us)) continue;
            first_us = at_us;
            who = r;
            relay = is_relay;
        }
        if (who == P) break;
        kvri_ring_link *l = &links[who];
        kvri_arrival frame = {sim->clock[who], who, (uint32_t)kvri_min(sim->frame_tokens, l->own_left)};
        if (relay) frame = sim->in[(size_t)who * frames + l->n_out++];
        else l->own_left -= frame.n_tokens;
        const double bytes = KVRI_FRAME_HEADER + frame.n_tokens * sim->token_bytes;
        double begin_us;
        frame.at_us = kvri_wire_send(&sim->wires[who], frame.at_us, bytes, 1, &begin_us);
        if (l->from_us < 0) l->from_us = begin_us;
        sim->ranks[who].frames_out++;
        sim->ranks[who].bytes_out += (uint64_t)bytes;
        deliver(sim, &links[(who + 1) % P], (who + 1) % P, frames, &frame);
    }
    for (uint32_t r = 0; r < P; r++) {
        const double sent_us = sim->wires[r].free_us;
        sim->ready[r] = links[r].all_in_us > sent_us ? links[r].all_in_us : sent_us;
        if (P > 1)
            kvri_sim_span(sim, span, r, layer, KVR_COST_TRANSFER, links[r].from_us, sent_us + sim->wires[r].latency_us);
    }
}

double kvri_cost_ring(kvri_sim *sim, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards, lead = P - 1;
    const uint32_t frames = (uint32_t)kvri_ceil_div(sim->job->n_tokens, sim->frame_tokens) + P;
    const int skip = sim->strategy == KVR_COST_TSP_SKIP;
    const double start_us = sim->costs[lead].prompt_us + 5 * kvri_sim_latency(sim); /* the chain's hand-shake */
    for (uint32_t r = 0; r < P; r++) sim->clock[r] = start_us;
    for (uint32_t l = 0; l < sim->n_layers; l++) {
        const int last = l + 1 == sim->n_layers;
        for (uint32_t r = 0; r < P; r++) {
            const double begin = sim->clock[r];
            sim->clock[r] += sim->shares[r].kv_us;
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, begin, sim->clock[r]);
        }
        all_gather(sim, frames, l, span);
        for (uint32_t r = 0; r < P; r++) {
            /* every frame comes in once and goes out once, except own ones (out) and the next rank's (in) */
            const double handled =
                P == 1 ? 0 : 2.0 * sim->job->n_tokens - sim->ranks[r].n_tokens - sim->ranks[(r + 1) % P].n_tokens;
            const double ready_us = sim->ready[r] > sim->clock[r] ? sim->ready[r] : sim->clock[r];
            double work_us = kvri_sim_handling(sim, r, handled);
            if (!last || !skip) work_us += sim->shares[r].attend_us;
            else if (r == lead) work_us += sim->shares[r].last_us;
            if (last && r == lead) work_us += sim->costs[r].head_us;
            kvri_sim_span(sim, span, r, l, KVR_COST_WAIT_PREFIX, sim->clock[r], ready_us);
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, ready_us, ready_us + work_us);
            sim->ranks[r].wait_prefix_us += ready_us - sim->clock[r];
            sim->ranks[r].compute_us += sim->shares[r].kv_us + work_us;
            sim->ranks[r].done_us = sim->clock[r] = ready_us + work_us;
        }
    }
    return sim->clock[lead];
}
