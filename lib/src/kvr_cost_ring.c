/*
 * TSP in virtual time: every rank computes Q, K, V of its tokens; a ring all-gather in P-1 steps, in each of which
 * every rank sends on the block that it got last; all wait for all; then attention and the rest.
 */
#include "kvr_cost_core.h"

#include "kvr_frame.h"

/* Everyone's K and V of a layer to everyone. clock[r]: when r has its own; returns when the last rank has all. */
static double all_gather(kvri_sim *sim, uint32_t layer, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards;
    double all_us = 0;
    for (uint32_t r = 0; r < P; r++) {
        sim->ready[r] = sim->clock[r];
        sim->scratch[r] = -1;
        if (sim->clock[r] > all_us) all_us = sim->clock[r];
    }
    for (uint32_t step = 0; step + 1 < P; step++) {
        double carry = 0; /* what rank P-1 sends to rank 0 replaces ready[0] only after rank 0 has sent */
        for (uint32_t r = 0; r < P; r++) {
            const uint32_t block = (r + P - step % P) % P;
            const uint32_t n = sim->first[block + 1] - sim->first[block], frames = kvri_sim_frames(sim, n);
            const double bytes = (double)frames * KVRI_FRAME_HEADER + n * sim->token_bytes;
            double begin_us;
            const double at_us = kvri_wire_send(&sim->wires[r], sim->ready[r], bytes, frames, &begin_us);
            if (sim->scratch[r] < 0) sim->scratch[r] = begin_us;
            if (r > 0) sim->ready[r] = carry;
            carry = at_us;
            if (at_us > all_us) all_us = at_us;
            sim->ranks[r].frames_out += frames;
            sim->ranks[r].bytes_out += (uint64_t)bytes;
        }
        sim->ready[0] = carry;
    }
    for (uint32_t r = 0; P > 1 && r < P; r++)
        kvri_sim_span(sim, span, r, layer, KVR_COST_TRANSFER, sim->scratch[r],
                      sim->wires[r].free_us + sim->wires[r].latency_us);
    return all_us;
}

double kvri_cost_ring(kvri_sim *sim, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards, lead = P - 1;
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
        const double all_us = all_gather(sim, l, span);
        for (uint32_t r = 0; r < P; r++) {
            /* a block passes each rank at most once in and once out */
            const double handled = P == 1 ? 0 : 2.0 * sim->job->n_tokens - (double)sim->ranks[r].n_tokens;
            double work_us = kvri_sim_handling(sim, r, handled);
            if (!last || !skip) work_us += sim->shares[r].attend_us;
            else if (r == lead) work_us += sim->shares[r].last_us;
            if (last && r == lead) work_us += sim->costs[r].head_us;
            kvri_sim_span(sim, span, r, l, KVR_COST_WAIT_PREFIX, sim->clock[r], all_us);
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, all_us, all_us + work_us);
            sim->ranks[r].wait_prefix_us += all_us - sim->clock[r];
            sim->ranks[r].compute_us += sim->shares[r].kv_us + work_us;
            sim->ranks[r].done_us = sim->clock[r] = all_us + work_us;
        }
    }
    return sim->clock[lead];
}
