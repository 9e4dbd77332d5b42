/*
 * timed_backend.h - boards that take time on the rig's clock: the reference backend computes, and a queue whose end is
 * a moment in time says when a read is done. And links that carry so many bits per second.
 */
#ifndef TIMED_BACKEND_H
#define TIMED_BACKEND_H

#include "chain_rig.h"

typedef struct timed {
    kvr_backend inner;
    rig *r;
    double row_us, pair_us, call_us; /* of a product with weights, by rows; of attention, by query-key pairs; of any */
    double free_us;                  /* when everything enqueued has run */
    double marks_us[KVR_BACKEND_MARKS];
    double due_us[KVR_BACKEND_FENCES]; /* 0 = free */
    int is_idle;                       /* only passes the time: for measurements, whose results nobody reads */
} timed;

typedef struct timed_link {
    kvr_link inner;
    rig *r;
    double mbit; /* 0 = free */
    double free_us;
    int is_cut; /* nothing leaves any more */
} timed_link;

static inline void timed_work(timed *t, double us) {
    const double now_us = (double)t->r->now_us;
    t->free_us = (t->free_us > now_us ? t->free_us : now_us) + us + t->call_us;
}

static inline kvr_status timed_matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows,
                                      kvr_path path, int add) {
    timed *t = (timed *)user;
    timed_work(t, rows * t->row_us);
    return t->is_idle ? KVR_OK : t->inner.matmul(t->inner.user, dst, weight, src, rows, path, add);
}
static inline kvr_status timed_attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                         const kvr_attention *how, uint32_t rows, uint32_t first) {
    timed *t = (timed *)user;
    timed_work(t, rows * (first + rows / 2.0) * t->pair_us);
    return t->is_idle ? KVR_OK : t->inner.attention(t->inner.user, dst, q, k, v, how, rows, first);
}
static inline kvr_status timed_read(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after,
                                    kvr_fence *out_fence) {
    timed *t = (timed *)user;
    kvr_fence none = 0;
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        if (t->due_us[i] > 0) continue;
        const double after_us = after == KVR_AFTER_ALL       ? t->free_us
                                : after == KVR_AFTER_NOTHING ? 0
                                                             : t->marks_us[after - 1];
        t->due_us[i] = after_us > 1 ? after_us : 1;
        *out_fence = i + 1;
        return t->inner.read(t->inner.user, src, rows, dst, KVR_AFTER_ALL, &none);
    }
    return KVR_ERR_STATE;
}
static inline kvr_status timed_mark(void *user, kvr_mark mark) {
    timed *t = (timed *)user;
    t->marks_us[mark - 1] = t->free_us;
    return KVR_OK;
}
static inline kvr_status timed_done(void *user, kvr_fence fence) {
    timed *t = (timed *)user;
    if ((double)t->r->now_us < t->due_us[fence - 1]) return KVR_AGAIN;
    t->due_us[fence - 1] = 0;
    return KVR_OK;
}

#define TIMED_PASS(name, params, args)                                                                                 \
    static inline kvr_status timed_##name params {                                                                     \
        timed *t = (timed *)user;                                                                                      \
        return t->is_idle ? KVR_OK : t->inner.name args;                                                               \
    }
TIMED_PASS(measure, (void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error),
           (t->inner.user, need, out, error))
TIMED_PASS(open, (void *user, const kvr_backend_need *need, void *mem, size_t bytes, kvr_error *error),
           (t->inner.user, need, mem, bytes, error))
TIMED_PASS(embed, (void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows),
           (t->inner.user, dst, weight, ids, rows))
TIMED_PASS(norm, (void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows),
           (t->inner.user, dst, src, how, rows))
TIMED_PASS(add_bias, (void *user, kvr_view x, uint32_t bias, uint32_t rows), (t->inner.user, x, bias, rows))
TIMED_PASS(scale, (void *user, kvr_view x, float factor, float soft_cap, uint32_t rows),
           (t->inner.user, x, factor, soft_cap, rows))
TIMED_PASS(rope, (void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads, uint32_t first),
           (t->inner.user, x, how, rows, n_heads, first))
TIMED_PASS(store, (void *user, kvr_view dst, kvr_view src, uint32_t rows), (t->inner.user, dst, src, rows))
TIMED_PASS(activate, (void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows),
           (t->inner.user, x, up, activation, rows))
TIMED_PASS(write, (void *user, kvr_view dst, uint32_t rows, const void *src), (t->inner.user, dst, rows, src))
static inline void timed_close(void *user) {
    timed *t = (timed *)user;
    t->inner.close(t->inner.user);
}

/* Puts t, whose costs and rig are set, in front of *backend. */
static inline void timed_backend(timed *t, kvr_backend *backend) {
    t->inner = *backend;
    backend->user = t;
    backend->matmul_many = NULL;
    backend->place = NULL;
    backend->mark = timed_mark;
    backend->measure = timed_measure;
    backend->open = timed_open;
    backend->close = timed_close;
    backend->embed = timed_embed;
    backend->norm = timed_norm;
    backend->add_bias = timed_add_bias;
    backend->scale = timed_scale;
    backend->matmul = timed_matmul;
    backend->rope = timed_rope;
    backend->store = timed_store;
    backend->attention = timed_attention;
    backend->activate = timed_activate;
    backend->write = timed_write;
    backend->read = timed_read;
    backend->done = timed_done;
    backend->wait = NULL;
    backend->flush = NULL;
    backend->explain = NULL;
}

static inline kvr_status timed_connect(void *user, uint32_t peer, const char *address) {
    timed_link *l = (timed_link *)user;
    return l->inner.connect(l->inner.user, peer, address);
}
static inline kvr_status timed_send(void *user, uint32_t peer, const void *frame, size_t bytes) {
    timed_link *l = (timed_link *)user;
    const double now_us = (double)l->r->now_us;
    if (l->is_cut) return KVR_OK; /* lost on the way */
    if (l->mbit > 0 && now_us < l->free_us) return KVR_AGAIN;
    const kvr_status status = l->inner.send(l->inner.user, peer, frame, bytes);
    if (status == KVR_OK && l->mbit > 0) l->free_us = now_us + 8.0 * (double)bytes / l->mbit;
    return status;
}
static inline kvr_status timed_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    timed_link *l = (timed_link *)user;
    return l->inner.recv(l->inner.user, buf, cap, out_bytes);
}
static inline void timed_link_in_front(timed_link *l, kvr_link *link) {
    l->inner = *link;
    link->user = l;
    link->connect = timed_connect;
    link->send = timed_send;
    link->recv = timed_recv;
    link->wait = NULL;
}

#endif
