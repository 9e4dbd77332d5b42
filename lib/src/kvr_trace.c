#include "kvr_trace.h"

#include <string.h>

const char *kvr_span_kind_name(kvr_span_kind kind) {
    static const char *const names[KVR_SPAN_KINDS] = {"compute", "wait_prefix", "wait_send", "transfer", "connect"};
    return (uint32_t)kind < KVR_SPAN_KINDS ? names[kind] : "?";
}

void kvri_trace_begin(kvri_trace *t, uint32_t rank) {
    t->n = t->lost = 0;
    t->rank = (uint8_t)rank;
    memset(t->sum_us, 0, sizeof t->sum_us);
    t->busy_from_us = t->idle_from_us = t->send_from_us = 0;
    t->transfer.to_us = 0;
}

uint64_t kvri_trace_now(const kvri_trace *t) { return t->port->now_us(t->port->user); }

int kvri_trace_put(kvri_trace *t, const kvr_span *span) {
    if (t->cap == 0) return 0;
    if (t->n == t->cap) {
        t->lost++;
        return 0;
    }
    t->spans[t->n++] = *span;
    return 1;
}

void kvri_trace_add(kvri_trace *t, kvr_span_kind kind, uint32_t layer, uint64_t from_us, uint64_t to_us) {
    kvr_span span;
    memset(&span, 0, sizeof span);
    span.from_us = from_us;
    span.to_us = to_us;
    span.layer = (uint16_t)layer;
    span.kind = (uint8_t)kind;
    span.rank = t->rank;
    t->sum_us[kind] += to_us - from_us;
    kvri_trace_put(t, &span);
}

void kvri_trace_work(kvri_trace *t) {
    if (t->busy_from_us == 0) t->busy_from_us = kvri_trace_now(t);
}

void kvri_trace_ran(kvri_trace *t, uint32_t layer, int more) {
    const uint64_t now_us = kvri_trace_now(t);
    if (t->busy_from_us == 0) return;
    kvri_trace_add(t, KVR_SPAN_COMPUTE, layer, t->busy_from_us, now_us);
    t->busy_from_us = more ? now_us : 0;
    t->idle_from_us = more ? 0 : now_us;
}

void kvri_trace_prefix_came(kvri_trace *t, uint32_t layer) {
    if (t->busy_from_us == 0 && t->idle_from_us != 0)
        kvri_trace_add(t, KVR_SPAN_WAIT_PREFIX, layer, t->idle_from_us, kvri_trace_now(t));
    t->idle_from_us = 0;
}

void kvri_trace_note_send(kvri_trace *t, uint32_t layer, int waits, uint64_t now_us) {
    if (waits && t->send_from_us == 0) t->send_from_us = now_us;
    if (waits || t->send_from_us == 0) return;
    kvri_trace_add(t, KVR_SPAN_WAIT_SEND, layer, t->send_from_us, now_us);
    t->send_from_us = 0;
}

void kvri_trace_end_transfers(kvri_trace *t) {
    if (t->transfer.to_us != 0) kvri_trace_put(t, &t->transfer);
    t->transfer.to_us = 0;
}

void kvri_trace_arrived(kvri_trace *t, uint32_t layer, uint32_t bytes, uint64_t sent_us, uint64_t now_us) {
    kvr_span *span = &t->transfer;
    if (t->cap == 0) return;
    if (span->to_us == 0 || span->layer != layer || bytes > UINT32_MAX - span->bytes) {
        kvri_trace_end_transfers(t);
        memset(span, 0, sizeof *span);
        span->from_us = sent_us;
        span->layer = (uint16_t)layer;
        span->kind = KVR_SPAN_TRANSFER;
        span->rank = t->rank;
    }
    span->bytes += bytes;
    span->to_us = now_us;
}
