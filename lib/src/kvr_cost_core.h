/*
 * kvr_cost_core.h - internal: what the strategies of the cost model share. Times in microseconds, as double.
 */
#ifndef KVR_COST_CORE_H
#define KVR_COST_CORE_H

#include "kvr/kvr_cost.h"
#include "kvr_carve.h"

/* A board on one geometry: what a token, a call, a product costs in one layer. */
typedef struct kvri_costs {
    double kv_token_us, kv_floor_us;     /* first half of a layer: K and V; floor = its weights read once */
    double rest_token_us, rest_floor_us; /* second half without attention: Q, output, feed-forward */
    double pair_us;                      /* one query with one key, all heads */
    double call_us, head_us, prompt_us;
    double frame_byte_us;
    uint32_t tile;
} kvri_costs;

/* A rank's share in one layer. */
typedef struct kvri_share {
    double kv_us, attend_us, last_us; /* last_us: second half of the last layer, as far as somebody reads it */
    uint64_t products;
} kvri_share;

/* An outgoing link: first come, first served. */
typedef struct kvri_wire {
    double byte_us, latency_us, message_us;
    double slow_chance, slow_factor, period_us;
    uint64_t key;
    double free_us; /* when its last byte leaves */
} kvri_wire;

/* A frame under way. */
typedef struct kvri_arrival {
    double at_us;
    uint32_t layer, n_tokens;
} kvri_arrival;

/* A link of a ring during one all-gather: kvr_cost_ring.c. */
typedef struct kvri_ring_link {
    uint32_t n_in, n_out;      /* frames of others that wait or waited here, and those of them that left */
    uint32_t own_left;         /* own tokens that have not left */
    double from_us, all_in_us; /* first departure, -1 = none; last arrival here */
} kvri_ring_link;

typedef struct kvri_sim {
    const kvr_cost_job *job;
    kvr_cost_strategy strategy;
    uint32_t n_boards, n_layers, batch_tokens, frame_tokens;
    double token_bytes; /* K and V of a token in one layer */
    int free_links;
    int hide_attention; /* bound_overlap_us */
    double mbit; /* in place of the links' own; 0 = theirs */
    const kvr_board_profile *const *boards;
    const kvr_link_profile *const *links;
    uint32_t *first;    /* [P + 1] cuts */
    kvri_costs *costs;  /* [P] */
    kvri_share *shares; /* [P] */
    kvri_wire *wires;   /* [P] */
    double *clock;      /* [P] */
    double *ready;      /* [L] when the prefix of a layer is there; ring: [P] */
    double *kv_done;    /* [L] */
    double *span_from, *span_to; /* [L] transfers of a layer */
    kvri_arrival *in, *out;      /* [L * pieces] chain; ring: in [P][pieces], by the rank where they wait */
    kvri_ring_link *ring;        /* [P] */
    double *sent;                /* [P][P][L] fan-out */
    kvr_cost_rank *ranks;        /* [P] */
    /* search and choice */
    uint32_t *sizes, *best, *trial, *kept; /* [P] */
    double *weights;                       /* [P] */
    uint32_t *used, *tried;                /* [P] indices of boards */
    const kvr_board_profile **some_boards; /* [P] */
    const kvr_link_profile **some_links;   /* [P] */
    double *scratch;                       /* [P] */
} kvri_sim;

/* Checks the job and lays everything out in work (NULL: measures only, *out_bytes is set). */
kvr_status kvri_sim_begin(kvri_sim *sim, const kvr_cost_job *job, void *work, size_t work_bytes, size_t *out_bytes,
                          kvr_error *error);
/* Working memory of any chain of n_boards whose prompt is cut into `pieces` frames, but for one more that each board
 * may have. */
size_t kvri_sim_room(uint32_t n_boards, uint32_t n_layers, uint32_t pieces);
/* Takes a subset of boards and links; all further runs are about them. */
void kvri_sim_use(kvri_sim *sim, const kvr_board_profile *const *boards, const kvr_link_profile *const *links,
                  uint32_t n_boards);
/* Cuts by sizes (valid, sum = n_tokens) and runs the strategy: TTFT. ranks are filled. span may be NULL. */
double kvri_sim_run(kvri_sim *sim, const uint32_t *sizes, kvr_cost_span_fn span);
void kvri_sim_even(uint32_t n_tokens, uint32_t n_boards, uint32_t *out_sizes);

kvri_costs kvri_costs_of(const kvr_board_profile *board, const kvr_geometry *g);
/* n tokens from `first` on. square != 0: every query meets so many keys; 0: those before it, as far as `tile` (as in
 * the profile) lets it skip the others. */
kvri_share kvri_share_of(const kvri_costs *c, uint32_t first, uint32_t n, uint32_t square, uint32_t tile,
                         uint32_t batch_tokens);
/* One board, the whole prompt. */
double kvri_single_us(const kvri_costs *c, uint32_t n_tokens, uint32_t tile, uint32_t n_layers, uint32_t batch_tokens);

/* Queues bytes that are ready at ready_us; returns their arrival at the other end. */
double kvri_wire_send(kvri_wire *w, double ready_us, double bytes, uint32_t n_messages, double *out_begin_us);
/* Frames that carry n tokens of a layer. */
uint32_t kvri_sim_frames(const kvri_sim *sim, uint32_t n_tokens);
/* Time that a board's own processor spends on the frames of one layer. */
double kvri_sim_handling(const kvri_sim *sim, uint32_t rank, double n_tokens);
void kvri_sim_span(const kvri_sim *sim, kvr_cost_span_fn span, uint32_t rank, uint32_t layer, kvr_cost_span kind,
                   double begin_us, double end_us);
/* Latest one-way latency: what a message of the hand-shake takes. */
double kvri_sim_latency(const kvri_sim *sim);

/* As kvr_cost_choose (kvr_cost.h) in a small part of the time, for plans that are made while a prompt waits: shares
 * that let all boards compute equally long, then moves; boards are left out in the order of what they would cost. */
kvr_status kvri_search_quick(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                             double *out_ttft_us);

double kvri_cost_chain(kvri_sim *sim, kvr_cost_span_fn span);
double kvri_cost_ring(kvri_sim *sim, kvr_cost_span_fn span);
double kvri_cost_fan_out(kvri_sim *sim, kvr_cost_span_fn span);
double kvri_cost_tensor(kvri_sim *sim, kvr_cost_span_fn span);

#endif
