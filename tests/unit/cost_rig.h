/* Boards, links and models for the tests of the cost model. */
#ifndef COST_RIG_H
#define COST_RIG_H

#include "kvr/kvr_cost.h"

#include <stdlib.h>
#include <string.h>

#define RIG_BOARDS 64u

typedef struct cost_rig {
    kvr_geometry geometry;
    kvr_board_profile board[RIG_BOARDS];
    kvr_link_profile link;
    const kvr_board_profile *boards[RIG_BOARDS];
    const kvr_link_profile *links[RIG_BOARDS];
    kvr_cost_job job;
    void *work;
    size_t work_bytes;
} cost_rig;

/* Every cost a round number: K and V 1 us a token, the rest of a layer 3 us, a product 1 us, the head 10 us; 20 bytes a
 * token and layer, 1 us a byte. Two layers. */
static inline void rig_tiny(cost_rig *rig, uint32_t n_boards, uint32_t n_tokens) {
    memset(rig, 0, sizeof *rig);
    const kvr_geometry g = {.n_layers = 2, .model_dim = 10, .ffn_dim = 10, .n_heads = 1, .n_kv_heads = 1, .head_dim = 5,
                            .n_vocab = 100, .ffn_products = 2, .weight_bytes = 2};
    const kvr_board_profile b = {.dense_gmacs = 0.1, .attention_gmacs = 0.01, .memory_gbs = 1e9};
    rig->geometry = g;
    rig->link.mbit = 8;
    for (uint32_t r = 0; r < RIG_BOARDS; r++) {
        rig->board[r] = b;
        rig->boards[r] = &rig->board[0];
        rig->links[r] = &rig->link;
    }
    rig->job.struct_bytes = sizeof rig->job;
    rig->job.geometry = &rig->geometry;
    rig->job.boards = rig->boards;
    rig->job.links = rig->links;
    rig->job.n_boards = n_boards;
    rig->job.n_tokens = n_tokens;
}

/* A small board and the 1.1 B Llama shape in Q4_0, gigabit. Round numbers of the right size, no board in particular. */
static inline void rig_edge(cost_rig *rig, uint32_t n_boards, uint32_t n_tokens) {
    rig_tiny(rig, n_boards, n_tokens);
    const kvr_geometry g = {.n_layers = 22, .model_dim = 2048, .ffn_dim = 5632, .n_heads = 32, .n_kv_heads = 4,
                            .head_dim = 64, .n_vocab = 32000, .ffn_products = 3, .weight_bytes = 0.5625};
    const kvr_board_profile b = {.attention_tile = 16, .dense_gmacs = 100, .attention_gmacs = 20, .memory_gbs = 10,
                                 .call_us = 100, .frame_gbs = 2, .prompt_us = 500};
    rig->geometry = g;
    for (uint32_t r = 0; r < RIG_BOARDS; r++) rig->board[r] = b;
    rig->link.mbit = 940;
    rig->link.latency_us = 100;
    rig->link.message_us = 10;
}

/* Working memory for the job as it is now. */
static inline void rig_work(cost_rig *rig) {
    free(rig->work);
    rig->work_bytes = kvr_cost_work_bytes(&rig->job);
    rig->work = malloc(rig->work_bytes ? rig->work_bytes : 1);
}

static inline kvr_cost_result rig_run(cost_rig *rig, kvr_cost_strategy strategy, const uint32_t *sizes,
                                      kvr_cost_rank *ranks) {
    kvr_cost_result result;
    kvr_error error = {0};
    memset(&result, 0, sizeof result);
    rig->job.strategy = strategy;
    rig->job.sizes = sizes;
    rig_work(rig);
    if (kvr_cost_run(&rig->job, rig->work, rig->work_bytes, &result, ranks, &error) != KVR_OK) result.ttft_us = -1;
    return result;
}

static inline void rig_end(cost_rig *rig) {
    free(rig->work);
    rig->work = NULL;
}

#endif
