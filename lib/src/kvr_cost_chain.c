/*
 * The chain in virtual time. Nothing flows back to a lower rank, so the ranks are computed one after the other: each
 * takes the arrivals of the one before, gives its own times, and merges both into what it sends.
 */
#include "kvr_cost_core.h"

#include "kvr_checked.h"
#include "kvr_frame.h"

/* Messages one way before the lead computes: HELLO, its answer, JOB, READY; helpers also wait for GO. */
#define LEAD_HOPS 4
#define HELPER_HOPS 5

/* One rank through all layers. Returns when it has computed everything. */
static double compute(kvri_sim *sim, uint32_t rank, double start_us, kvr_cost_span_fn span) {
    const kvri_share *share = &sim->shares[rank];
    const int lead = rank + 1 == sim->n_boards;
    kvr_cost_rank *out = &sim->ranks[rank];
    const double passing = (double)sim->first[rank] + (lead ? 0 : (double)sim->first[rank + 1]);
    const double handling_us = kvri_sim_handling(sim, rank, passing);
    double t = start_us;
    for (uint32_t l = 0; l < sim->n_layers; l++) {
        const int last = l + 1 == sim->n_layers;
        double work_us = handling_us;
        const double begin = t;
        sim->kv_done[l] = t = t + share->kv_us;
        kvri_sim_span(sim, span, rank, l, KVR_COST_COMPUTE, begin, t);
        if (!last || lead) { /* a helper stops after K and V of the last layer */
            if (rank > 0 && sim->ready[l] > t) {
                kvri_sim_span(sim, span, rank, l, KVR_COST_WAIT_PREFIX, t, sim->ready[l]);
                const double wait_us = sim->ready[l] - t;
                out->wait_prefix_us += wait_us;
                t = sim->ready[l];
                const double pairs_us = (double)share->products * sim->costs[rank].pair_us;
                if (sim->hide_attention && !last) work_us -= wait_us < pairs_us ? wait_us : pairs_us;
            }
            work_us += last ? share->last_us : share->attend_us;
        }
        if (last && lead) work_us += sim->costs[rank].head_us;
        kvri_sim_span(sim, span, rank, l, KVR_COST_COMPUTE, t, t + work_us);
        out->compute_us += share->kv_us + work_us;
        t += work_us;
    }
    return t;
}

/* First come, first served: frames of lower ranks are relayed as they arrive, own ones follow their layer's K and V. */
static uint32_t send(kvri_sim *sim, uint32_t rank, uint32_t n_in) {
    const uint32_t own_tokens = sim->first[rank + 1] - sim->first[rank];
    kvri_wire *wire = &sim->wires[rank];
    uint32_t n_out = 0, i = 0, layer = 0, sent = 0;
    for (uint32_t l = 0; l < sim->n_layers; l++) sim->ready[l] = sim->span_from[l] = -1;
    while (i < n_in || layer < sim->n_layers) {
        const int relay = i < n_in && (layer == sim->n_layers || sim->in[i].at_us <= sim->kv_done[layer]);
        kvri_arrival frame;
        double ready_us, begin_us;
        if (relay) {
            frame = sim->in[i++];
            ready_us = frame.at_us;
        } else {
            frame.layer = layer;
            frame.n_tokens = (uint32_t)kvri_min(sim->frame_tokens, own_tokens - sent);
            ready_us = sim->kv_done[layer];
            sent += frame.n_tokens;
            if (sent == own_tokens) {
                sent = 0;
                layer++;
            }
        }
        frame.at_us =
            kvri_wire_send(wire, ready_us, KVRI_FRAME_HEADER + frame.n_tokens * sim->token_bytes, 1, &begin_us);
        if (sim->span_from[frame.layer] < 0) sim->span_from[frame.layer] = begin_us;
        sim->ready[frame.layer] = frame.at_us; /* arrivals ascend */
        sim->out[n_out++] = frame;
    }
    return n_out;
}

double kvri_cost_chain(kvri_sim *sim, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards;
    const double hop_us = kvri_sim_latency(sim), prompt_us = sim->costs[P - 1].prompt_us;
    uint32_t n_in = 0;
    double t = 0;
    for (uint32_t r = 0; r < P; r++) {
        const int lead = r + 1 == P;
        t = compute(sim, r, prompt_us + (lead ? LEAD_HOPS : HELPER_HOPS) * hop_us, span);
        sim->ranks[r].done_us = t;
        if (lead) break;
        const uint32_t n_out = send(sim, r, n_in);
        for (uint32_t l = 0; l < sim->n_layers; l++)
            kvri_sim_span(sim, span, r, l, KVR_COST_TRANSFER, sim->span_from[l], sim->ready[l]);
        if (sim->wires[r].free_us > t) {
            kvri_sim_span(sim, span, r, sim->n_layers - 1, KVR_COST_WAIT_SEND, t, sim->wires[r].free_us);
            sim->ranks[r].wait_send_us = sim->wires[r].free_us - t;
            sim->ranks[r].done_us = sim->wires[r].free_us;
        }
        sim->ranks[r].frames_out = n_out;
        sim->ranks[r].bytes_out = (uint64_t)n_out * KVRI_FRAME_HEADER +
                                  (uint64_t)((double)sim->n_layers * sim->first[r + 1] * sim->token_bytes);
        kvri_arrival *swap = sim->in;
        sim->in = sim->out;
        sim->out = swap;
        n_in = n_out;
    }
    return t;
}
