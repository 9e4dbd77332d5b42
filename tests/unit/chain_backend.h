/*
 * chain_backend.h - a backend in front of another one: reads that take their time, and calls that fail. A slow read
 * takes its snapshot when it is enqueued, as kvr_backend.h has it, but puts it into the caller's buffer only when it is
 * done, so that a buffer given up too early shows.
 */
#ifndef CHAIN_BACKEND_H
#define CHAIN_BACKEND_H

#include "chain_rig.h"

typedef struct wrap_read {
    void *snapshot, *dst;
    size_t bytes;
    uint32_t asks_left;
} wrap_read;

typedef struct wrap {
    kvr_backend inner;
    uint32_t slow;      /* how often a read is asked for before it is done; 0 = done at once */
    uint32_t slow_work; /* the same for reads of activations, when more than slow */
    uint64_t calls;     /* operators, reads, writes and dones so far */
    uint64_t fail_at;   /* this call fails; 0 = none */
    uint32_t failed;    /* how many did */
    wrap_read reads[KVR_BACKEND_FENCES];
    kvr_tensor_desc tensors[256];
} wrap;

static inline int wrap_fails(wrap *w) {
    if (++w->calls != w->fail_at) return 0;
    w->failed++;
    return 1;
}

#define WRAP_OP(name, params, args)                                                                                    \
    static inline kvr_status wrap_##name params {                                                                      \
        wrap *w = (wrap *)user;                                                                                        \
        return wrap_fails(w) ? KVR_ERR_DEVICE : w->inner.name args;                                                    \
    }

WRAP_OP(embed, (void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows),
        (w->inner.user, dst, weight, ids, rows))
WRAP_OP(norm, (void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows),
        (w->inner.user, dst, src, how, rows))
WRAP_OP(add_bias, (void *user, kvr_view x, uint32_t bias, uint32_t rows), (w->inner.user, x, bias, rows))
WRAP_OP(scale, (void *user, kvr_view x, float factor, float soft_cap, uint32_t rows),
        (w->inner.user, x, factor, soft_cap, rows))
WRAP_OP(matmul, (void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path, int add),
        (w->inner.user, dst, weight, src, rows, path, add))
WRAP_OP(rope, (void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads, uint32_t first),
        (w->inner.user, x, how, rows, n_heads, first))
WRAP_OP(store, (void *user, kvr_view dst, kvr_view src, uint32_t rows), (w->inner.user, dst, src, rows))
WRAP_OP(attention,
        (void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how, uint32_t rows,
         uint32_t first),
        (w->inner.user, dst, q, k, v, how, rows, first))
WRAP_OP(activate, (void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows),
        (w->inner.user, x, up, activation, rows))
WRAP_OP(write, (void *user, kvr_view dst, uint32_t rows, const void *src), (w->inner.user, dst, rows, src))

static inline kvr_status wrap_read_rows(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after,
                                        kvr_fence *out_fence) {
    wrap *w = (wrap *)user;
    if (wrap_fails(w)) return KVR_ERR_DEVICE;
    const kvr_tensor_desc *t = &w->tensors[src.tensor];
    const uint32_t slow = t->role == KVR_ROLE_WORK && w->slow_work > w->slow ? w->slow_work : w->slow;
    if (slow == 0) return w->inner.read(w->inner.user, src, rows, dst, after, out_fence);
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        wrap_read *r = &w->reads[i];
        kvr_fence none = 0;
        if (r->snapshot != NULL) continue;
        r->bytes = (size_t)(rows * kvr_dtype_row_bytes(t->dtype, t->cols));
        r->snapshot = malloc(r->bytes);
        if (r->snapshot == NULL) abort();
        r->dst = dst;
        r->asks_left = slow;
        *out_fence = i + 1;
        return w->inner.read(w->inner.user, src, rows, r->snapshot, after, &none);
    }
    return KVR_ERR_STATE; /* more than KVR_BACKEND_FENCES */
}

static inline kvr_status wrap_done(void *user, kvr_fence fence) {
    wrap *w = (wrap *)user;
    wrap_read *r = &w->reads[fence - 1];
    assert_in_range(fence, 1, KVR_BACKEND_FENCES);
    assert_non_null(r->snapshot); /* asked once more after it was done */
    if (r->asks_left > 0) {
        r->asks_left--;
        return KVR_AGAIN;
    }
    memcpy(r->dst, r->snapshot, r->bytes);
    free(r->snapshot);
    r->snapshot = NULL;
    return wrap_fails(w) ? KVR_ERR_DEVICE : KVR_OK;
}

static inline kvr_status wrap_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out,
                                      kvr_error *error) {
    wrap *w = (wrap *)user;
    return w->inner.measure(w->inner.user, need, out, error);
}

static inline kvr_status wrap_open(void *user, const kvr_backend_need *need, void *mem, size_t bytes,
                                   kvr_error *error) {
    wrap *w = (wrap *)user;
    assert_true(need->n_tensors <= sizeof w->tensors / sizeof w->tensors[0]);
    memcpy(w->tensors, need->tensors, need->n_tensors * sizeof *need->tensors);
    return w->inner.open(w->inner.user, need, mem, bytes, error);
}

static inline void wrap_close(void *user) {
    wrap *w = (wrap *)user;
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        free(w->reads[i].snapshot);
        w->reads[i].snapshot = NULL;
    }
    w->inner.close(w->inner.user);
}

static inline void wrap_explain(void *user, kvr_error *error) {
    (void)user;
    if (error->status != KVR_OK) return;
    error->status = KVR_ERR_DEVICE;
    error->module = "wrap";
    error->text = "this call was to fail";
}

/* --- a device with a queue ----------------------------------------------------------------------------------- */

/* Operators and reads only wait in a queue; each done() runs the next few. Writes do not wait, as kvr_backend.h has it.
 * So whatever the core enqueues and forgets happens as late as possible; and a read behind a mark happens as early as
 * the mark allows, so that a mark set too early shows. */
typedef struct lazy_op {
    enum {
        LAZY_EMBED, LAZY_NORM, LAZY_MATMUL, LAZY_BIAS, LAZY_SCALE, LAZY_ROPE, LAZY_STORE, LAZY_ATTENTION,
        LAZY_ACTIVATE, LAZY_READ
    } kind;
    kvr_view dst, src;
    uint32_t a, b, c, d;
    float e, f;
    kvr_norm norm;
    kvr_rope rope;
    kvr_attention attention;
    kvr_activation activation;
    kvr_path path;
    int add;
    int32_t *ids;
    void *host;
    kvr_fence fence;
} lazy_op;

enum { LAZY_QUEUE = 4096 };

typedef struct lazy {
    kvr_backend inner;
    uint32_t per_done; /* operators that run while the core asks once */
    uint32_t n;
    lazy_op ops[LAZY_QUEUE];
    uint32_t marks[KVR_BACKEND_MARKS]; /* how many of ops stand before each */
    uint32_t under_way[KVR_BACKEND_FENCES]; /* 1 = enqueued, 2 = has run */
} lazy;

static inline kvr_status lazy_put(void *user, lazy_op op) {
    lazy *l = (lazy *)user;
    assert_true(l->n < LAZY_QUEUE);
    l->ops[l->n++] = op;
    return KVR_OK;
}

static inline kvr_status lazy_embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    int32_t *copy = (int32_t *)malloc(rows * sizeof *copy);
    if (copy == NULL) abort();
    memcpy(copy, ids, rows * sizeof *copy);
    return lazy_put(user, (lazy_op){.kind = LAZY_EMBED, .dst = dst, .a = weight, .b = rows, .ids = copy});
}
static inline kvr_status lazy_norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    return lazy_put(user, (lazy_op){.kind = LAZY_NORM, .dst = dst, .src = src, .norm = *how, .b = rows});
}
static inline kvr_status lazy_bias(void *user, kvr_view x, uint32_t bias, uint32_t rows) {
    return lazy_put(user, (lazy_op){.kind = LAZY_BIAS, .dst = x, .a = bias, .b = rows});
}
static inline kvr_status lazy_scale(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    return lazy_put(user, (lazy_op){.kind = LAZY_SCALE, .dst = x, .e = factor, .f = soft_cap, .b = rows});
}
static inline kvr_status lazy_matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows,
                                     kvr_path path, int add) {
    return lazy_put(
        user, (lazy_op){.kind = LAZY_MATMUL, .dst = dst, .src = src, .a = weight, .b = rows, .path = path, .add = add});
}
static inline kvr_status lazy_rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                                   uint32_t first) {
    return lazy_put(user, (lazy_op){.kind = LAZY_ROPE, .dst = x, .rope = *how, .b = rows, .c = n_heads, .d = first});
}
static inline kvr_status lazy_store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    return lazy_put(user, (lazy_op){.kind = LAZY_STORE, .dst = dst, .src = src, .b = rows});
}
static inline kvr_status lazy_attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                        const kvr_attention *how, uint32_t rows, uint32_t first) {
    return lazy_put(user, (lazy_op){.kind = LAZY_ATTENTION, .dst = dst, .src = q, .a = k, .b = v, .attention = *how,
                                    .c = rows, .d = first});
}
static inline kvr_status lazy_activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    return lazy_put(user, (lazy_op){.kind = LAZY_ACTIVATE, .dst = x, .src = up, .activation = activation, .b = rows});
}
static inline void lazy_run(lazy *l, lazy_op *o) {
    const kvr_backend *b = &l->inner;
    kvr_fence none = 0;
    switch (o->kind) {
    case LAZY_EMBED: b->embed(b->user, o->dst, o->a, o->ids, o->b); break;
    case LAZY_NORM: b->norm(b->user, o->dst, o->src, &o->norm, o->b); break;
    case LAZY_MATMUL: b->matmul(b->user, o->dst, o->a, o->src, o->b, o->path, o->add); break;
    case LAZY_BIAS: b->add_bias(b->user, o->dst, o->a, o->b); break;
    case LAZY_SCALE: b->scale(b->user, o->dst, o->e, o->f, o->b); break;
    case LAZY_ROPE: b->rope(b->user, o->dst, &o->rope, o->b, o->c, o->d); break;
    case LAZY_STORE: b->store(b->user, o->dst, o->src, o->b); break;
    case LAZY_ATTENTION: b->attention(b->user, o->dst, o->src, o->a, o->b, &o->attention, o->c, o->d); break;
    case LAZY_ACTIVATE: b->activate(b->user, o->dst, o->src, o->activation, o->b); break;
    case LAZY_READ:
        b->read(b->user, o->src, o->b, o->host, KVR_AFTER_ALL, &none);
        l->under_way[o->fence - 1] = 2;
        break;
    }
    free(o->ids);
}

static inline kvr_status lazy_mark(void *user, kvr_mark mark) {
    lazy *l = (lazy *)user;
    assert_in_range(mark, 1, KVR_BACKEND_MARKS);
    l->marks[mark - 1] = l->n;
    return KVR_OK;
}
static inline kvr_status lazy_read(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after,
                                   kvr_fence *out_fence) {
    lazy *l = (lazy *)user;
    uint32_t slot = 0;
    while (slot < KVR_BACKEND_FENCES && l->under_way[slot] != 0) slot++;
    if (slot == KVR_BACKEND_FENCES) return KVR_ERR_STATE;
    l->under_way[slot] = 1;
    *out_fence = slot + 1;
    lazy_op op = {.kind = LAZY_READ, .src = src, .b = rows, .host = dst, .fence = slot + 1};
    if (after == KVR_AFTER_ALL) return lazy_put(user, op);
    const uint32_t at = after == KVR_AFTER_NOTHING ? 0 : l->marks[after - 1];
    if (at == 0) {
        lazy_run(l, &op);
        return KVR_OK;
    }
    assert_true(l->n < LAZY_QUEUE);
    memmove(l->ops + at + 1, l->ops + at, (l->n - at) * sizeof l->ops[0]);
    l->ops[at] = op;
    l->n++;
    for (uint32_t m = 0; m < KVR_BACKEND_MARKS; m++) l->marks[m] += l->marks[m] > at;
    return KVR_OK;
}

static inline kvr_status lazy_done(void *user, kvr_fence fence) {
    lazy *l = (lazy *)user;
    uint32_t ran = 0;
    assert_in_range(fence, 1, KVR_BACKEND_FENCES);
    assert_true(l->under_way[fence - 1] != 0);
    while (ran < l->n && ran < l->per_done && l->under_way[fence - 1] != 2) lazy_run(l, &l->ops[ran++]);
    memmove(l->ops, l->ops + ran, (l->n - ran) * sizeof l->ops[0]);
    l->n -= ran;
    for (uint32_t m = 0; m < KVR_BACKEND_MARKS; m++) l->marks[m] = l->marks[m] > ran ? l->marks[m] - ran : 0;
    if (l->under_way[fence - 1] != 2) return KVR_AGAIN;
    l->under_way[fence - 1] = 0;
    return KVR_OK;
}

static inline kvr_status lazy_write(void *user, kvr_view dst, uint32_t rows, const void *src) {
    lazy *l = (lazy *)user;
    return l->inner.write(l->inner.user, dst, rows, src);
}
static inline kvr_status lazy_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out,
                                      kvr_error *error) {
    lazy *l = (lazy *)user;
    return l->inner.measure(l->inner.user, need, out, error);
}
static inline kvr_status lazy_open(void *user, const kvr_backend_need *need, void *mem, size_t bytes,
                                   kvr_error *error) {
    lazy *l = (lazy *)user;
    return l->inner.open(l->inner.user, need, mem, bytes, error);
}
static inline void lazy_close(void *user) {
    lazy *l = (lazy *)user;
    for (uint32_t i = 0; i < l->n; i++) free(l->ops[i].ids);
    l->n = 0;
    l->inner.close(l->inner.user);
}

/* Puts l, zeroed but for per_done, in front of *backend. */
static inline void lazy_backend(lazy *l, kvr_backend *backend) {
    l->inner = *backend;
    backend->user = l;
    backend->matmul_many = NULL;
    backend->place = NULL;
    backend->measure = lazy_measure;
    backend->open = lazy_open;
    backend->close = lazy_close;
    backend->embed = lazy_embed;
    backend->norm = lazy_norm;
    backend->add_bias = lazy_bias;
    backend->scale = lazy_scale;
    backend->matmul = lazy_matmul;
    backend->rope = lazy_rope;
    backend->store = lazy_store;
    backend->attention = lazy_attention;
    backend->activate = lazy_activate;
    backend->write = lazy_write;
    backend->mark = lazy_mark;
    backend->read = lazy_read;
    backend->done = lazy_done;
    backend->wait = NULL;
    backend->flush = NULL;
    backend->explain = NULL;
}

/* Reads under way; 0 when the core has let go of everything. */
static inline uint32_t wrap_under_way(const wrap *w) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) n += w->reads[i].snapshot != NULL;
    return n;
}

/* Puts w in front of *backend. */
static inline void wrap_backend(wrap *w, kvr_backend *backend) {
    w->inner = *backend;
    w->calls = 0;
    w->failed = 0;
    memset(w->reads, 0, sizeof w->reads);
    backend->user = w;
    backend->matmul_many = NULL;
    backend->place = NULL;
    backend->measure = wrap_measure;
    backend->open = wrap_open;
    backend->close = wrap_close;
    backend->embed = wrap_embed;
    backend->norm = wrap_norm;
    backend->add_bias = wrap_add_bias;
    backend->scale = wrap_scale;
    backend->matmul = wrap_matmul;
    backend->rope = wrap_rope;
    backend->store = wrap_store;
    backend->attention = wrap_attention;
    backend->activate = wrap_activate;
    backend->write = wrap_write;
    backend->read = wrap_read_rows;
    backend->done = wrap_done;
    backend->wait = NULL;
    backend->flush = NULL;
    backend->explain = wrap_explain;
}

#endif
