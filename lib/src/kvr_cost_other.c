/* Two more ways to share a prompt, for comparison only: nothing in this library runs them. */
#include "kvr_cost_core.h"

#include "kvr_checked.h"
#include "kvr_frame.h"

/* When rank's whole prefix of every layer is in: messages of all lower ranks share its incoming link, which is as fast
 * as its outgoing one. span_from[l] is used to remember which sender's message of which layer comes next. */
static void gather(kvri_sim *sim, uint32_t rank) {
    const uint32_t L = sim->n_layers, P = sim->n_boards;
    double free_us = 0;
    for (uint32_t l = 0; l < L; l++) sim->ready[l] = 0;
    for (uint32_t j = 0; j < rank; j++) sim->tried[j] = 0;
    for (uint32_t n = 0; n < rank * L; n++) {
        uint32_t next = 0;
        double first_us = -1;
        for (uint32_t j = 0; j < rank; j++) {
            if (sim->tried[j] == L) continue;
            const double at_us = sim->sent[((size_t)j * P + rank) * L + sim->tried[j]];
            if (first_us >= 0 && at_us >= first_us) continue;
            first_us = at_us;
            next = j;
        }
        const uint32_t tokens = sim->ranks[next].n_tokens, layer = sim->tried[next]++;
        const double bytes = (double)kvri_sim_frames(sim, tokens) * KVRI_FRAME_HEADER + tokens * sim->token_bytes;
        const double length_us = bytes * sim->wires[rank].byte_us;
        /* received while it is sent, unless another message is still coming in */
        free_us = first_us > free_us + length_us ? first_us : free_us + length_us;
        sim->ready[layer] = free_us > sim->ready[layer] ? free_us : sim->ready[layer];
    }
}

double kvri_cost_fan_out(kvri_sim *sim, kvr_cost_span_fn span) {
    const uint32_t P = sim->n_boards, L = sim->n_layers;
    const double start_us = sim->costs[P - 1].prompt_us + 5 * kvri_sim_latency(sim);
    double t = 0;
    for (uint32_t r = 0; r < P; r++) {
        const int lead = r + 1 == P;
        kvr_cost_rank *rank = &sim->ranks[r];
        const uint32_t frames = kvri_sim_frames(sim, rank->n_tokens);
        const double bytes = (double)frames * KVRI_FRAME_HEADER + rank->n_tokens * sim->token_bytes;
        const double handling_us =
            kvri_sim_handling(sim, r, (double)rank->first + (double)rank->n_tokens * (double)(P - 1 - r));
        gather(sim, r);
        t = start_us;
        for (uint32_t l = 0; l < L; l++) {
            const int last = l + 1 == L;
            double work_us = handling_us, begin_us = 0, first_us = -1, end_us = 0;
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, t, t + sim->shares[r].kv_us);
            t += sim->shares[r].kv_us;
            for (uint32_t to = r + 1; to < P; to++) {
                end_us = kvri_wire_send(&sim->wires[r], t, bytes, frames, &begin_us);
                if (first_us < 0) first_us = begin_us;
                sim->sent[((size_t)r * P + to) * L + l] = end_us;
                rank->frames_out += frames;
                rank->bytes_out += (uint64_t)bytes;
            }
            kvri_sim_span(sim, span, r, l, KVR_COST_TRANSFER, first_us, end_us);
            if (!last || lead) {
                if (sim->ready[l] > t) {
                    kvri_sim_span(sim, span, r, l, KVR_COST_WAIT_PREFIX, t, sim->ready[l]);
                    rank->wait_prefix_us += sim->ready[l] - t;
                    t = sim->ready[l];
                }
                work_us += last ? sim->shares[r].last_us : sim->shares[r].attend_us;
            }
            if (last && lead) work_us += sim->costs[r].head_us;
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, t, t + work_us);
            rank->compute_us += sim->shares[r].kv_us + work_us;
            t += work_us;
        }
        rank->done_us = t;
        if (!lead && sim->wires[r].free_us > t) {
            kvri_sim_span(sim, span, r, L - 1, KVR_COST_WAIT_SEND, t, sim->wires[r].free_us);
            rank->wait_send_us = sim->wires[r].free_us - t;
            rank->done_us = sim->wires[r].free_us;
        }
    }
    return t;
}

/* Weights and heads in P equal parts; a part cannot be smaller than a head. The activations of all tokens are summed
 * over the boards twice a layer, each by a ring: P-1 steps to sum, P-1 to spread, C/P rows of F16 a step. */
double kvri_cost_tensor(kvri_sim *sim, kvr_cost_span_fn span) {
    const kvr_geometry *g = sim->job->geometry;
    const uint32_t P = sim->n_boards, C = sim->job->n_tokens, L = sim->n_layers;
    const double heads = (double)kvri_ceil_div(g->n_heads, P) / g->n_heads; /* the largest part */
    const double rows = (double)C / P * g->model_dim * 2;
    double t = sim->costs[P - 1].prompt_us + 5 * kvri_sim_latency(sim);
    double step_us = 0;
    for (uint32_t r = 0; r < P; r++) {
        double begin_us;
        const double us = P > 1 ? kvri_wire_send(&sim->wires[r], 0, rows + KVRI_FRAME_HEADER, 1, &begin_us) : 0;
        if (us > step_us) step_us = us;
        sim->ranks[r].products = (uint64_t)C * C; /* of its heads */
    }
    const double sum_us = 2.0 * (P - 1) * step_us;
    for (uint32_t l = 0; l < L; l++) {
        const int last = l + 1 == L;
        double work_us = 0;
        for (uint32_t r = 0; r < P; r++) {
            kvri_costs part = sim->costs[r];
            part.kv_token_us /= P;
            part.kv_floor_us /= P;
            part.rest_token_us /= P;
            part.rest_floor_us /= P;
            part.pair_us *= heads;
            const kvri_share s = kvri_share_of(&part, 0, C, 0, part.tile, sim->batch_tokens);
            const double head_us = last ? part.head_us / P : 0;
            const double us = s.kv_us + (last ? s.last_us : s.attend_us) + head_us;
            sim->ranks[r].compute_us += us;
            sim->ranks[r].bytes_out += (uint64_t)(last ? 0 : 4.0 * (P - 1) * (rows + KVRI_FRAME_HEADER));
            kvri_sim_span(sim, span, r, l, KVR_COST_COMPUTE, t, t + us);
            sim->clock[r] = t + us;
            if (us > work_us) work_us = us;
        }
        const double sums_us = last ? 0 : 2 * sum_us; /* the last layer's is one row: nothing */
        const double summed = t + work_us, end = summed + sums_us;
        for (uint32_t r = 0; r < P; r++) {
            kvri_sim_span(sim, span, r, l, KVR_COST_TRANSFER, summed, end);
            kvri_sim_span(sim, span, r, l, KVR_COST_WAIT_PREFIX, sim->clock[r], end);
            sim->ranks[r].wait_prefix_us += end - sim->clock[r];
            sim->ranks[r].done_us = end;
        }
        t = end;
    }
    return t;
}
