/*
 * recorder.h - a backend in front of another that remembers which operators a session enqueues, so that exactly these
 * can be enqueued again and timed.
 */
#ifndef KVR_CLI_RECORDER_H
#define KVR_CLI_RECORDER_H

#include "kvr/kvr_backend.h"

typedef enum recorded_op {
    OP_EMBED,
    OP_NORM,
    OP_MATMUL,
    OP_ROPE,
    OP_STORE,
    OP_ATTENTION,
    OP_ACTIVATE,
    OP_ADD_BIAS,
    OP_SCALE,
    OP_COUNT
} recorded_op;

/* One call, arguments as in kvr_backend.h; those that an operator lacks are 0. */
typedef struct recorded_call {
    recorded_op op;
    uint32_t phase;    /* recorder.phase at the time */
    kvr_view dst, src; /* in place: the same; activate: src is the factor, or KVR_NO_TENSOR */
    uint32_t weight;   /* matrix, or the norm's weight, or bias */
    uint32_t keys, values;
    uint32_t rows, n_heads, first_token;
    kvr_path path;
    int add;
    kvr_norm norm;
    kvr_rope rope;
    kvr_attention attention;
    kvr_activation activation;
    float factor, soft_cap;
} recorded_call;

typedef struct recorder {
    kvr_backend inner;
    uint32_t phase;           /* set by the user between prompts and tokens; goes into every call */
    kvr_tensor_desc *tensors; /* of open, malloc'ed */
    uint32_t n_tensors, n_heads, n_kv_heads, head_dim;
    recorded_call *calls; /* malloc'ed */
    size_t n_calls, cap_calls;
} recorder;

/* Makes *backend (in and out) a recording one. *r must outlive its use. */
void recorder_wrap(recorder *r, kvr_backend *backend);
void recorder_free(recorder *r);

/* Enqueues a call again on the inner backend, at another first_token. ids: at least call->rows of them, for embed. */
kvr_status recorder_repeat(const recorder *r, const recorded_call *call, uint32_t first_token, const int32_t *ids);
const char *recorder_op_name(recorded_op op);

#endif
