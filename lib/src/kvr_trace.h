/*
 * kvr_trace.h - internal: who waits for what since when. Sums are always kept (kvr_stats); spans only where the
 * application gave memory.
 *
 * The device runs behind the host, so its times come from marks: small reads whose completion says that everything
 * enqueued before has run.
 */
#ifndef KVRI_TRACE_H
#define KVRI_TRACE_H

#include "kvr/kvr_trace.h"

typedef struct kvri_trace {
    const kvr_port *port;
    kvr_span *spans;
    uint32_t cap, n, lost;
    uint8_t rank;
    uint64_t sum_us[KVR_SPAN_KINDS];
    uint64_t busy_from_us; /* the device works since; 0 = idle */
    uint64_t idle_from_us; /* it ran dry at; 0 = it works, or had nothing to do yet */
    uint64_t send_from_us; /* waits for the link since; 0 = does not */
    kvr_span transfer;     /* not put down yet: frames of one layer in a row share a span; to_us 0 = none */
} kvri_trace;

/* A question or job begins; memory and port stay. */
void kvri_trace_begin(kvri_trace *t, uint32_t rank);
uint64_t kvri_trace_now(const kvri_trace *t);
/* Puts a span down; 0: it had no place, or nobody wants any. */
int kvri_trace_put(kvri_trace *t, const kvr_span *span);
/* One of this board, counted in the sums too. */
void kvri_trace_add(kvri_trace *t, kvr_span_kind kind, uint32_t layer, uint64_t from_us, uint64_t to_us);

/* The device gets work. */
void kvri_trace_work(kvri_trace *t);
/* Everything up to some point of a layer has run; more: work was enqueued behind it. */
void kvri_trace_ran(kvri_trace *t, uint32_t layer, int more);
/* The device gets work again after it ran dry waiting for a layer's keys and values. */
void kvri_trace_prefix_came(kvri_trace *t, uint32_t layer);
/* Whether nothing is left but to wait for the link. */
void kvri_trace_note_send(kvri_trace *t, uint32_t layer, int waits, uint64_t now_us);
/* A frame arrived; sent_us by its sender's clock. */
void kvri_trace_arrived(kvri_trace *t, uint32_t layer, uint32_t bytes, uint64_t sent_us, uint64_t now_us);
/* Nothing more arrives. */
void kvri_trace_end_transfers(kvri_trace *t);

#endif
