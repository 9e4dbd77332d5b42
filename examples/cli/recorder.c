#include "recorder.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CALLS = 256 };

static kvr_status keep(recorder *r, const recorded_call *call) {
    if (r->n_calls == r->cap_calls) {
        size_t cap = r->cap_calls ? 2 * r->cap_calls : FIRST_CALLS;
        recorded_call *more = realloc(r->calls, cap * sizeof *more);
        if (more == NULL) return KVR_ERR_NOMEM;
        r->calls = more;
        r->cap_calls = cap;
    }
    r->calls[r->n_calls] = *call;
    r->calls[r->n_calls++].phase = r->phase;
    return KVR_OK;
}

static recorded_call new_call(recorded_op op, kvr_view dst, kvr_view src, uint32_t rows) {
    recorded_call call;
    memset(&call, 0, sizeof call);
    call.op = op;
    call.dst = dst;
    call.src = src;
    call.rows = rows;
    return call;
}

/* Remembers the call, then makes it. */
static kvr_status pass(recorder *r, const recorded_call *call, const int32_t *ids) {
    kvr_status status = keep(r, call);
    return status == KVR_OK ? recorder_repeat(r, call, call->first_token, ids) : status;
}

/* --- operators -------------------------------------------------------------------------------------------------- */

static kvr_status rec_embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    recorded_call call = new_call(OP_EMBED, dst, dst, rows);
    call.weight = weight;
    return pass(user, &call, ids);
}

static kvr_status rec_norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    recorded_call call = new_call(OP_NORM, dst, src, rows);
    call.weight = how->weight;
    call.add = how->add;
    call.norm = *how;
    return pass(user, &call, NULL);
}

static kvr_status rec_matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                             int add) {
    recorded_call call = new_call(OP_MATMUL, dst, src, rows);
    call.weight = weight;
    call.path = path;
    call.add = add;
    return pass(user, &call, NULL);
}

static kvr_status rec_add_bias(void *user, kvr_view x, uint32_t bias, uint32_t rows) {
    recorded_call call = new_call(OP_ADD_BIAS, x, x, rows);
    call.weight = bias;
    return pass(user, &call, NULL);
}

static kvr_status rec_scale(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    recorded_call call = new_call(OP_SCALE, x, x, rows);
    call.factor = factor;
    call.soft_cap = soft_cap;
    return pass(user, &call, NULL);
}

static kvr_status rec_rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                           uint32_t first_token) {
    recorded_call call = new_call(OP_ROPE, x, x, rows);
    call.n_heads = n_heads;
    call.first_token = first_token;
    call.rope = *how;
    return pass(user, &call, NULL);
}

static kvr_status rec_store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    const recorded_call call = new_call(OP_STORE, dst, src, rows);
    return pass(user, &call, NULL);
}

static kvr_status rec_attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                                uint32_t rows, uint32_t first_token) {
    recorded_call call = new_call(OP_ATTENTION, dst, q, rows);
    call.keys = k;
    call.values = v;
    call.first_token = first_token;
    call.attention = *how;
    return pass(user, &call, NULL);
}

static kvr_status rec_activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    recorded_call call = new_call(OP_ACTIVATE, x, up, rows);
    call.activation = activation;
    return pass(user, &call, NULL);
}

kvr_status recorder_repeat(const recorder *r, const recorded_call *c, uint32_t first_token, const int32_t *ids) {
    const kvr_backend *b = &r->inner;
    switch (c->op) {
    case OP_EMBED: return b->embed(b->user, c->dst, c->weight, ids, c->rows);
    case OP_NORM: return b->norm(b->user, c->dst, c->src, &c->norm, c->rows);
    case OP_MATMUL: return b->matmul(b->user, c->dst, c->weight, c->src, c->rows, c->path, c->add);
    case OP_ROPE: return b->rope(b->user, c->dst, &c->rope, c->rows, c->n_heads, first_token);
    case OP_STORE: return b->store(b->user, c->dst, c->src, c->rows);
    case OP_ATTENTION:
        return b->attention(b->user, c->dst, c->src, c->keys, c->values, &c->attention, c->rows, first_token);
    case OP_ACTIVATE: return b->activate(b->user, c->dst, c->src, c->activation, c->rows);
    case OP_ADD_BIAS: return b->add_bias(b->user, c->dst, c->weight, c->rows);
    case OP_SCALE: return b->scale(b->user, c->dst, c->factor, c->soft_cap, c->rows);
    case OP_COUNT: break;
    }
    return KVR_ERR_ARG;
}

const char *recorder_op_name(recorded_op op) {
    static const char *const names[OP_COUNT] = {"embed",     "norm",     "matmul",   "rope", "store",
                                                "attention", "activate", "add_bias", "scale"};
    return op < OP_COUNT ? names[op] : "?";
}

/* --- the rest is handed through --------------------------------------------------------------------------------- */

static kvr_status rec_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->measure(b->user, need, out, error);
}

static kvr_status rec_open(void *user, const kvr_backend_need *need, void *mem, size_t mem_bytes, kvr_error *error) {
    recorder *r = user;
    r->tensors = malloc(need->n_tensors * sizeof *r->tensors);
    if (r->tensors == NULL) return KVR_ERR_NOMEM;
    memcpy(r->tensors, need->tensors, need->n_tensors * sizeof *r->tensors);
    r->n_tensors = need->n_tensors;
    r->n_heads = need->n_heads;
    r->n_kv_heads = need->n_kv_heads;
    r->head_dim = need->head_dim;
    return r->inner.open(r->inner.user, need, mem, mem_bytes, error);
}

static void rec_close(void *user) {
    const kvr_backend *b = &((recorder *)user)->inner;
    b->close(b->user);
}

static kvr_status rec_write(void *user, kvr_view dst, uint32_t rows, const void *src) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->write(b->user, dst, rows, src);
}

static kvr_status rec_mark(void *user, kvr_mark mark) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->mark(b->user, mark);
}

static kvr_status rec_read(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after, kvr_fence *out_fence) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->read(b->user, src, rows, dst, after, out_fence);
}

static kvr_status rec_done(void *user, kvr_fence fence) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->done(b->user, fence);
}

static kvr_status rec_wait(void *user, kvr_fence fence) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->wait(b->user, fence);
}

static kvr_status rec_flush(void *user) {
    const kvr_backend *b = &((recorder *)user)->inner;
    return b->flush(b->user);
}

static void rec_explain(void *user, kvr_error *error) {
    const kvr_backend *b = &((recorder *)user)->inner;
    b->explain(b->user, error);
}

void recorder_wrap(recorder *r, kvr_backend *backend) {
    memset(r, 0, sizeof *r);
    r->inner = *backend;
    backend->user = r;
    backend->measure = rec_measure;
    backend->open = rec_open;
    backend->close = rec_close;
    backend->embed = rec_embed;
    backend->norm = rec_norm;
    backend->matmul = rec_matmul;
    backend->rope = rec_rope;
    backend->store = rec_store;
    backend->attention = rec_attention;
    backend->activate = rec_activate;
    backend->add_bias = rec_add_bias;
    backend->scale = rec_scale;
    backend->write = rec_write;
    backend->read = rec_read;
    backend->done = rec_done;
    backend->matmul_many = NULL; /* recorded one by one */
    backend->place = NULL;
    /* optional ones stay absent */
    if (backend->mark != NULL) backend->mark = rec_mark;
    if (backend->wait != NULL) backend->wait = rec_wait;
    if (backend->flush != NULL) backend->flush = rec_flush;
    if (backend->explain != NULL) backend->explain = rec_explain;
}

void recorder_free(recorder *r) {
    free(r->tensors);
    free(r->calls);
    memset(r, 0, sizeof *r);
}
