/*
 * kvr_layout.h - internal: which device tensors a session has, and where everything lies in its memory. The same
 * functions serve the plan (measure) and kvr_session_open (place).
 */
#ifndef KVR_LAYOUT_H
#define KVR_LAYOUT_H

#include "kvr/kvr_session.h"
#include "kvr_carve.h"
#include "kvr_model.h"
#include "kvr_sample.h"

/* X(name, rows, cols) of the activations; letters as in kvr_model.h, B = batch_tokens, C = chunk_tokens. */
#define KVRI_WORK_TENSORS(X) \
    X(KVRI_X, C, M)       /* the residual stream of the whole chunk */ \
    X(KVRI_H, B, M)       /* a normalized micro-batch; in between, a branch before its own norm */ \
    X(KVRI_Q, B, HD) \
    X(KVRI_K, B, GD) \
    X(KVRI_V, B, GD) \
    X(KVRI_ATT, B, HD) \
    X(KVRI_GATE, BG, F)   /* BG = B, or 1 where the feed-forward has no gate */ \
    X(KVRI_UP, B, F) \
    X(KVRI_LOGITS, ONE, V)

typedef enum kvri_work_tensor {
#define KVRI_ENUM(name, rows, cols) name,
    KVRI_WORK_TENSORS(KVRI_ENUM)
#undef KVRI_ENUM
    KVRI_WORK_COUNT
} kvri_work_tensor;

/* Numbering of device tensors: weights, rope frequencies, activations, then K and V of kv_layers layers, which layers
 * beyond take over in turn. */
typedef struct kvri_ids {
    uint32_t freq, n_freq, work, kv, kv_layers, count;
    uint32_t n_layers, ctx_tokens, ring_tokens;
} kvri_ids;

static inline kvr_view kvri_work(const kvri_ids *ids, kvri_work_tensor which, uint32_t row) {
    const kvr_view v = {ids->work + (uint32_t)which, row};
    return v;
}
static inline uint32_t kvri_keys(const kvri_ids *ids, uint32_t layer) {
    return ids->kv + 2 * (layer % ids->kv_layers);
}
static inline uint32_t kvri_values(const kvri_ids *ids, uint32_t layer) { return kvri_keys(ids, layer) + 1; }

/* Rows of a layer's keys: the whole context, or a ring where every layer that has this place sees a window only. */
uint32_t kvri_kv_rows(const kvri_ids *ids, const kvri_traits *traits, uint32_t layer);
/* Of n tokens from `token` on those that lie in rows one behind the other; the first in row token % rows. */
static inline uint32_t kvri_kv_run(uint32_t rows, uint32_t token, uint32_t n) {
    const uint32_t room = rows - token % rows;
    return n < room ? n : room;
}

#define KVRI_TX_SLOTS 2u /* frames being read back or waiting for the link */
#define KVRI_PACE 2u     /* layers that may be enqueued ahead of the device */

/* Everything in session memory. */
typedef struct kvri_parts {
    struct kvr_session *session;
    float *freq;                  /* [KVRI_ROPE_SETS][rope_dims/2] */
    int32_t *tokens;              /* [ctx_tokens] prompt and answer */
    float *logits;                /* [V] */
    kvri_candidate *candidates;   /* [V] */
    float *pace;                  /* [KVRI_PACE + 1][M] where progress marks are read to */
    uint8_t *rx;                  /* [frame_bytes] */
    uint8_t *tx[KVRI_TX_SLOTS];   /* [frame_bytes] each */
    uint8_t *arrived;             /* [L][ceil(max_pieces/8)] bits */
    uint32_t *arrived_tokens;     /* [L] */
    uint32_t *sent_pieces;        /* [L] */
    uint32_t *outbox;             /* [L * max_pieces] */
    char *addresses;              /* [max_boards][KVR_ADDRESS_CAP] */
    void *balance;                /* where the lead plans */
    void *backend_mem;
} kvri_parts;

/* What the backend is asked for, in the tensor list that lies in the model's memory (so the plan needs none of its
 * own; the list is valid until the next call on the same model). freq may be NULL while measuring. NOMEM on
 * overflow. */
kvri_ids kvri_layout_ids(const kvr_model *model, const kvr_plan *plan);
kvr_status kvri_layout_need(const kvr_model *model, const kvr_plan *plan, const float *freq, kvr_backend_need *out);

/* Bytes of each group of parts, for the plan's rows. */
typedef struct kvri_parts_bytes {
    uint64_t state, tokens, logits, link, chain, balance, backend;
} kvri_parts_bytes;

/* Measures or places the session's own parts; the config fields and frame_bytes of plan are in force. */
kvri_parts kvri_layout_session(const kvr_model *model, const kvr_plan *plan, uint64_t backend_host_bytes,
                               kvri_carve *carve, kvri_parts_bytes *out_bytes);

/* kvr_plan.ring_tokens of a plan whose other numbers are in force. */
uint32_t kvri_layout_ring_tokens(const kvr_model *model, const kvr_plan *plan, uint32_t all_keys);

/* Most pieces per layer that a session of this plan can meet. */
uint32_t kvri_layout_max_pieces(const kvr_plan *plan);

#endif
