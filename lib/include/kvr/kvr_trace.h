/*
 * kvr_trace.h - where the time of a question went, as spans of a timeline: what each board's device and links did,
 * layer by layer. Off unless the application gives memory for it; then a span costs a clock reading and 32 bytes of
 * that memory.
 *
 * The lead asks the helpers of a traced question for their spans when the answer is complete, and moves them to its own
 * clock: boards have clocks of their own, whose offsets are estimated from the frames that meet a board (Mills 1985,
 * RFC 958: of all exchanges the one with the shortest round trip), so they are as good as
 * kvr_trace_board.clock_error_us.
 */
#ifndef KVR_TRACE_H
#define KVR_TRACE_H

#include "kvr/kvr_session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvr_span_kind {
    KVR_SPAN_COMPUTE = 0,     /* the device works on a layer; layer n_layers is the output head */
    KVR_SPAN_WAIT_PREFIX = 1, /* the device is idle: keys and values of a layer have not arrived */
    KVR_SPAN_WAIT_SEND = 2,   /* nothing to compute: keys and values still wait for the link */
    KVR_SPAN_TRANSFER = 3,    /* keys and values of a layer from the board before: first frame sent to last one here */
    KVR_SPAN_CONNECT = 4,     /* lead: until all boards had their job */
    KVR_SPAN_KINDS = 5
} kvr_span_kind;

/* "compute", "wait_prefix", ...; "?" beyond the list. */
const char *kvr_span_kind_name(kvr_span_kind kind);

typedef struct kvr_span {
    uint64_t from_us, to_us; /* of this board's kvr_port.now_us */
    uint32_t bytes;          /* TRANSFER: of the frames; else 0 */
    uint16_t layer;
    uint8_t kind; /* kvr_span_kind */
    uint8_t rank;
} kvr_span;

/* One board of the last question. */
typedef struct kvr_trace_board {
    uint32_t struct_bytes;
    uint32_t first, tokens;   /* its chunk */
    uint32_t known;           /* 1: its spans are here; 0: it did not answer, or gives none */
    uint32_t n_spans, n_lost; /* here; had no place, on the board or here */
    int64_t clock_offset_us;  /* its clock minus this board's */
    uint64_t clock_error_us;  /* at most so far off */
} kvr_trace_board;

/*
 * From the next question (a helper: job) on, spans are written to spans[cap_spans] (caller's, in use until the next
 * call or kvr_session_close); each question starts anew, and spans beyond the last place are counted, not kept. A board
 * of L layers has about 4 * L. NULL, 0: off. On a lead, a traced question ends (KVR_EVENT_END) only when all helpers
 * have sent theirs, or after peer_timeout_ms; helpers need memory for spans of their own. ARG; STATE: a question or job
 * is under way.
 */
kvr_status kvr_session_set_trace(kvr_session *session, kvr_span *spans, uint32_t cap_spans);
/* Spans so far, boards mixed, each board's about in order of time; and when the question began. */
uint32_t kvr_session_get_trace(const kvr_session *session, uint64_t *out_start_us);
/* ARG: no board of this rank took part in the last question. */
kvr_status kvr_session_get_trace_board(const kvr_session *session, uint32_t rank, kvr_trace_board *out);

#ifdef __cplusplus
}
#endif
#endif
