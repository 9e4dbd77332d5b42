#include "kvr_forward.h"

#include "kvr_checked.h"
#include "kvr_error.h"

#include <string.h>

void kvri_forward_begin(kvri_forward *f, uint32_t first, uint32_t n, kvr_path path, kvri_forward_goal goal) {
    memset(f, 0, sizeof *f);
    f->stage = KVRI_FWD_EMBED;
    f->goal = goal;
    f->path = path;
    f->first = first;
    f->n = f->upto = n;
    f->read_from = goal == KVRI_GOAL_LAST ? n - 1 : 0;
}

static kvri_rows next_rows(const kvri_forward *f, uint32_t batch) {
    const kvri_rows r = {f->at, (uint32_t)kvri_min(batch, f->upto - f->at), f->first + f->at, f->path,
                         f->square_tokens};
    return r;
}

/*
 * First half, for the tokens from `from` on. All of them at once, so that keys and values leave for the next board
 * before attention begins; but a ring takes no more of them than leave what the first of them sees. Its layer then goes
 * through both halves a few micro-batches at a time. A chunk that others wait for always fits: kvri_layout_ring_tokens.
 */
static void enter_kv(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, uint32_t from) {
    const uint32_t rows = kvri_kv_rows(&c->ids, c->traits, f->layer);
    const uint32_t room = rows < plan->ctx_tokens ? rows - kvri_window_reach(c->traits) : f->n;
    const uint32_t left = f->n - from;
    f->stage = KVRI_FWD_KV;
    f->at = f->from = from;
    f->upto = from + (left <= room ? left : room / plan->batch_tokens * plan->batch_tokens);
}

/* KVR_OK: the fence is free. */
static kvr_status settle(const kvri_compute *c, kvr_fence *fence) {
    if (*fence == 0) return KVR_OK;
    const kvr_status status = c->backend->done(c->backend->user, *fence);
    if (status != KVR_AGAIN) *fence = 0;
    return status;
}

/* Asks for a sign that everything enqueued so far has run: one row read back. It keeps the host from enqueueing a
 * whole prompt at once, so that progress is real and a stop takes effect. */
static kvr_status mark_progress(kvri_forward *f, const kvri_compute *c, const kvri_parts *parts) {
    const uint32_t slot = f->layer % KVRI_PACE;
    if (f->path == KVR_PATH_DECODE) return KVR_OK;
    f->pace_work[slot] = f->work;
    KVRI_TRY(c->backend->read(c->backend->user, kvri_work(&c->ids, KVRI_X, 0), 1,
                              parts->pace + (size_t)slot * c->info->model_dim, KVR_AFTER_ALL, &f->pace[slot]));
    if (f->pace[slot] == 0) kvri_trace_ran(c->trace, f->layer, 0);
    return KVR_OK;
}

/* The prefix is missing and nothing else is enqueued: when the device has run what it has, it waits. */
static kvr_status mark_dry(kvri_forward *f, const kvri_compute *c, const kvri_parts *parts) {
    if (f->dry_fence != 0 || f->dry_work == f->work) return KVR_OK;
    f->dry_work = f->work;
    f->dry_layer = f->layer;
    KVRI_TRY(c->backend->read(c->backend->user, kvri_work(&c->ids, KVRI_X, 0), 1,
                              parts->pace + (size_t)KVRI_PACE * c->info->model_dim, KVR_AFTER_ALL, &f->dry_fence));
    if (f->dry_fence == 0) kvri_trace_ran(c->trace, f->layer, 0);
    return c->backend->flush != NULL ? c->backend->flush(c->backend->user) : KVR_OK;
}

/* Looks which marks the device has passed, oldest first. */
static kvr_status observe(kvri_forward *f, const kvri_compute *c) {
    for (uint32_t back = (uint32_t)kvri_min(KVRI_PACE, f->layer); back > 0; back--) {
        const uint32_t layer = f->layer - back, slot = layer % KVRI_PACE;
        if (f->pace[slot] == 0) continue;
        const kvr_status status = settle(c, &f->pace[slot]);
        if (status == KVR_AGAIN) return KVR_OK; /* later ones cannot have been passed */
        if (status != KVR_OK) return status;
        kvri_trace_ran(c->trace, layer, f->work != f->pace_work[slot]);
    }
    if (f->dry_fence == 0) return KVR_OK;
    const kvr_status status = settle(c, &f->dry_fence);
    if (status == KVR_OK && f->work == f->dry_work) kvri_trace_ran(c->trace, f->dry_layer, 0);
    return status == KVR_AGAIN ? KVR_OK : status;
}

static void note_work(kvri_forward *f, const kvri_compute *c) {
    f->work++;
    if (f->path == KVR_PATH_PREFILL) kvri_trace_work(c->trace);
}

static kvr_status leave_layer(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts) {
    KVRI_TRY(mark_progress(f, c, parts));
    f->layer++;
    if (f->layer < c->info->n_layers) {
        enter_kv(f, c, plan, 0);
        return KVR_OK;
    }
    f->stage = KVRI_FWD_HEAD;
    f->at = 0;
    return KVR_OK;
}

static kvr_status step_embed(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts) {
    const kvri_rows r = next_rows(f, plan->batch_tokens);
    note_work(f, c);
    KVRI_TRY(kvri_layer_embed(c, &r, parts->tokens + r.first_token));
    f->at += r.rows;
    if (f->at == f->n) enter_kv(f, c, plan, 0);
    return KVR_OK;
}

static kvr_status step_kv(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts,
                          kvri_forward_news *out) {
    const int last_layer = f->layer + 1 == c->info->n_layers;
    if (f->at == 0 && f->pace[f->layer % KVRI_PACE] != 0) return KVR_AGAIN; /* two layers ahead of the device */
    const kvri_rows r = next_rows(f, plan->batch_tokens);
    note_work(f, c);
    KVRI_TRY(kvri_layer_keys_values(c, f->layer, &r));
    f->at += r.rows;
    if (f->at < f->upto) return KVR_OK;
    if (f->at == f->n) {
        out->kv_of_layer = (int)f->layer;
        if (last_layer && f->goal == KVRI_GOAL_CACHE && f->square_tokens == 0)
            return leave_layer(f, c, plan, parts); /* nobody reads what would follow */
    }
    f->at = f->from;
    f->stage = f->from == 0 ? KVRI_FWD_PREFIX : KVRI_FWD_ATTEND;
    return KVR_OK;
}

static kvr_status step_attend(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts) {
    const int last_layer = f->layer + 1 == c->info->n_layers;
    if (last_layer && f->at < f->read_from && f->square_tokens == 0)
        f->at = (uint32_t)kvri_min(f->read_from, f->upto); /* nobody reads what is before */
    if (f->at < f->upto) {
        const kvri_rows r = next_rows(f, plan->batch_tokens);
        note_work(f, c);
        KVRI_TRY(kvri_layer_attend(c, f->layer, &r, r.rows == f->upto - f->from)); /* H is that of one micro-batch */
        f->at += r.rows;
    }
    if (f->at < f->upto) return KVR_OK;
    if (f->at == f->n) return leave_layer(f, c, plan, parts);
    enter_kv(f, c, plan, f->at);
    return KVR_OK;
}

static kvr_status step_head(kvri_forward *f, const kvri_compute *c, const kvri_parts *parts) {
    if (f->goal == KVRI_GOAL_CACHE) return KVR_END;
    if (f->at < f->read_from) f->at = f->read_from;
    note_work(f, c);
    KVRI_TRY(kvri_layer_head(c, f->at));
    KVRI_TRY(c->backend->read(c->backend->user, kvri_work(&c->ids, KVRI_LOGITS, 0), 1, parts->logits, KVR_AFTER_ALL,
                              &f->logits_fence));
    f->stage = KVRI_FWD_READ;
    return c->backend->flush != NULL ? c->backend->flush(c->backend->user) : KVR_OK;
}

static kvr_status step_read(kvri_forward *f, const kvri_compute *c, kvri_forward_news *out) {
    KVRI_TRY(settle(c, &f->logits_fence));
    if (f->path == KVR_PATH_PREFILL) kvri_trace_ran(c->trace, c->info->n_layers, 0);
    out->logits_ready = 1;
    out->position = f->first + f->at;
    f->at++;
    f->stage = KVRI_FWD_HEAD;
    return KVR_OK;
}

kvr_status kvri_forward_step(kvri_forward *f, const kvri_compute *c, const kvr_plan *plan, const kvri_parts *parts,
                             int may_go, kvri_forward_news *out) {
    kvr_status status = KVR_END;
    memset(out, 0, sizeof *out);
    out->kv_of_layer = -1;
    if (f->stage != KVRI_FWD_IDLE) KVRI_TRY(observe(f, c));
    switch (f->stage) {
    case KVRI_FWD_IDLE: return KVR_END;
    case KVRI_FWD_EMBED: status = step_embed(f, c, plan, parts); break;
    case KVRI_FWD_KV: status = may_go || f->at > 0 ? step_kv(f, c, plan, parts, out) : KVR_AGAIN; break;
    case KVRI_FWD_PREFIX:
        if (!may_go) {
            KVRI_TRY(mark_dry(f, c, parts));
            return KVR_AGAIN;
        }
        if (f->path == KVR_PATH_PREFILL) kvri_trace_prefix_came(c->trace, f->layer);
        f->stage = KVRI_FWD_ATTEND;
        status = KVR_OK;
        break;
    case KVRI_FWD_ATTEND: status = step_attend(f, c, plan, parts); break;
    case KVRI_FWD_HEAD:
        status = f->at == f->n ? KVR_END : step_head(f, c, parts);
        if (status == KVR_END && kvri_forward_fence(f) != 0) status = KVR_AGAIN; /* observe settles them */
        break;
    case KVRI_FWD_READ: status = step_read(f, c, out); break;
    }
    if (status == KVR_OK) f->steps++;
    if (status == KVR_END) f->stage = KVRI_FWD_IDLE;
    return status;
}

uint32_t kvri_forward_done_layers(const kvri_forward *f) {
    for (uint32_t back = (uint32_t)kvri_min(KVRI_PACE, f->layer); back > 0; back--)
        if (f->pace[(f->layer - back) % KVRI_PACE] != 0) return f->layer - back;
    return f->layer;
}

kvr_fence kvri_forward_fence(const kvri_forward *f) {
    if (f->stage == KVRI_FWD_READ) return f->logits_fence;
    if (f->stage == KVRI_FWD_KV && f->at == 0 && f->pace[f->layer % KVRI_PACE] != 0)
        return f->pace[f->layer % KVRI_PACE];
    if (f->stage != KVRI_FWD_HEAD && f->stage != KVRI_FWD_PREFIX && (f->stage != KVRI_FWD_KV || f->at > 0)) return 0;
    for (uint32_t i = 0; i < KVRI_PACE; i++)
        if (f->pace[i] != 0) return f->pace[i];
    return f->dry_fence;
}

void kvri_forward_abandon(kvri_forward *f, const kvri_compute *c, const kvri_parts *parts) {
    const kvr_backend *b = c->backend;
    if (f->stage == KVRI_FWD_IDLE || f->logits_fence != 0) return;
    /* a device that refuses even this runs nothing any more */
    if (b->read(b->user, kvri_work(&c->ids, KVRI_LOGITS, 0), 1, parts->logits, KVR_AFTER_ALL, &f->logits_fence) !=
        KVR_OK)
        f->logits_fence = 0;
    if (b->flush != NULL) b->flush(b->user);
    f->stage = KVRI_FWD_READ;
}

kvr_status kvri_forward_drain(kvri_forward *f, const kvri_compute *c) {
    kvr_status status = KVR_OK;
    for (uint32_t i = 0; i < KVRI_PACE; i++)
        if (settle(c, &f->pace[i]) == KVR_AGAIN) status = KVR_AGAIN;
    if (settle(c, &f->dry_fence) == KVR_AGAIN) status = KVR_AGAIN;
    if (settle(c, &f->logits_fence) == KVR_AGAIN) status = KVR_AGAIN;
    if (status == KVR_OK) f->stage = KVRI_FWD_IDLE;
    return status;
}
