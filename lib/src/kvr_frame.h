/*
 * kvr_frame.h - internal: the wire. One message = one frame = 64 bytes of header, little-endian, then the payload.
 * Every field is checked before a byte of payload is used.
 *
 *  0 magic "KVRF"   4 wire version u16   6 kind u16      8 session u64
 * 16 epoch u32     20 rank u32 (sender) 24 layer u32    28 first token u32   32 count u32   36 dtype u32
 * 40 payload bytes u32                  44 header check u32 (over bytes 0..43 and 48..63)
 * 48 payload check u64                  56 sender's clock u64, microseconds
 *
 * The checks find damage, not malice: two sums over 32-bit words (Fletcher 1982, modulo 2^32), kept apart so that a
 * relay restamps the header without reading the payload again. Bytes 0..7 keep their place in every wire version.
 */
#ifndef KVR_FRAME_H
#define KVR_FRAME_H

#include "kvr/kvr_link.h"
#include "kvr/kvr_trace.h"
#include "kvr_speed.h"

#define KVRI_WIRE_VERSION 5u
#define KVRI_FRAME_HEADER 64u

typedef enum kvri_frame_kind {
    KVRI_FRAME_HELLO = 1,  /* both ways: kvri_hello */
    KVRI_FRAME_JOB = 2,    /* lead -> helper: kvri_job */
    KVRI_FRAME_GO = 3,     /* lead -> helper: all boards have their job; no payload */
    KVRI_FRAME_KV = 4,     /* rank -> rank + 1 (TSP: and lead -> 0): K rows then V rows of one piece of one layer. In a
                            * chain of a layer with a window only from the piece on that the first window of rank + 1
                            * begins in */
    KVRI_FRAME_STATUS = 5, /* helper -> lead: kvri_report */
    KVRI_FRAME_ABORT = 6,  /* lead -> helper: drop the job; no payload */
    KVRI_FRAME_BYE = 7,    /* lead -> helper: the lead leaves; no payload */
    KVRI_FRAME_SPANS = 8,   /* helper -> lead, after DONE, when JOB asked for it: kvri_spans; first, count: which
                             * spans */
    KVRI_FRAME_PROBE = 9 /* lead -> idle helper: kvri_probe, answer with `count` frames; the answers: zeros, as many
                            bytes as wanted; first: which probe, both ways */
} kvri_frame_kind;

typedef struct kvri_frame {
    uint16_t version, kind;
    uint64_t session;
    uint32_t epoch, rank, layer, first, count, dtype, payload_bytes;
    uint64_t payload_check;
    uint64_t clock_us; /* when it was sent */
} kvri_frame;

/* Who a board is. A chain needs the first four to be equal. */
typedef struct kvri_hello {
    uint64_t fingerprint;
    uint32_t kv_dtype, wire_kv, frame_tokens, ctx_tokens, chunk_tokens, max_boards;
    uint32_t kv_window; /* layers that it keeps at a time; 0 = all */
    char address[KVR_ADDRESS_CAP]; /* where the lead's inbox is reached; "" from a helper */
    kvri_speed speed; /* of a helper. The lead's HELLO has none, so that it looks the same in every wire version */
} kvri_hello;

#define KVRI_HELLO_WORDS 7u
#define KVRI_HELLO_BYTES (8u + 4u * KVRI_HELLO_WORDS + KVR_ADDRESS_CAP) /* without a speed */
#define KVRI_HELLO_MOST (KVRI_HELLO_BYTES + KVRI_SPEED_BYTES)

/* Frames and bytes of an answer to PROBE, at most. */
#define KVRI_PROBE_FRAMES 64u
#define KVRI_PROBE_BYTES 4u
typedef struct kvri_probe {
    uint32_t answer_bytes; /* of payload, each frame */
} kvri_probe;

typedef enum kvri_stage {
    KVRI_STAGE_REFUSED = 1, /* to HELLO or JOB: status says why */
    KVRI_STAGE_READY = 2,   /* job accepted */
    KVRI_STAGE_WORKING = 3, /* still alive; progress counts its steps */
    KVRI_STAGE_DONE = 4,    /* all keys and values passed on */
    KVRI_STAGE_FAILED = 5   /* job given up: status and text say why */
} kvri_stage;

#define KVRI_REPORT_TEXT 120u
typedef struct kvri_report {
    uint32_t stage; /* kvri_stage */
    int32_t status;
    uint32_t progress;
    char text[KVRI_REPORT_TEXT]; /* printable, terminated */
    uint64_t echo_us, heard_us;  /* clock of the last frame from the lead; when it came, by the sender's clock. 0 =
                                  * none */
    uint64_t compute_us; /* how long its device has worked on the job */
} kvri_report;

#define KVRI_REPORT_BYTES (12u + KVRI_REPORT_TEXT + 24u)

/* kvri_job.flags */
#define KVRI_JOB_TRACED 1u /* the lead wants the spans */
#define KVRI_JOB_RING 2u   /* TSP: keys and values go round, the lead's to rank 0 */
#define KVRI_JOB_SQUARE 4u /* masked products are computed too, and every layer in full */

/* JOB: fixed part, then the cut points u32 [n_boards + 1], then the helper's own ids i32. */
typedef struct kvri_job {
    uint32_t rank, n_boards, flags;
    uint32_t next_window; /* layers that rank + 1 keeps at a time; 0 = all */
    char next[KVR_ADDRESS_CAP]; /* address of rank + 1 */
    const uint8_t *cuts, *ids;   /* inside the frame, unaligned */
    uint32_t n_ids;
} kvri_job;

#define KVRI_JOB_FIXED (16u + KVR_ADDRESS_CAP)

uint64_t kvri_frame_check(const void *payload, uint64_t bytes);

/* Writes the header for frame->payload_bytes of payload that already lies behind it; computes payload_check. */
void kvri_frame_seal(kvri_frame *frame, uint8_t *bytes);
/* Writes the header only: payload_check is already right (a relay). */
void kvri_frame_restamp(const kvri_frame *frame, uint8_t *bytes);
/* FRAME: not a frame, damaged, or bytes is not header + payload. PEER_WIRE: another version; then only version and kind
 * are set. */
kvr_status kvri_frame_open(const uint8_t *bytes, uint64_t n, kvri_frame *out);

/* Payloads. The put functions write behind the header and return the payload's bytes; the get functions check. */
uint32_t kvri_hello_put(const kvri_hello *hello, uint8_t *payload);
kvr_status kvri_hello_get(const uint8_t *payload, uint32_t n, kvri_hello *out);
uint32_t kvri_probe_put(const kvri_probe *probe, uint8_t *payload);
kvr_status kvri_probe_get(const uint8_t *payload, uint32_t n, kvri_probe *out);
uint32_t kvri_report_put(const kvri_report *report, uint8_t *payload);
kvr_status kvri_report_get(const uint8_t *payload, uint32_t n, kvri_report *out);
uint32_t kvri_job_put(uint32_t rank, uint32_t n_boards, uint32_t flags, uint32_t next_window, const char *next,
                      const uint32_t *cuts, const int32_t *ids, uint32_t n_ids, uint8_t *payload);
kvr_status kvri_job_get(const uint8_t *payload, uint32_t n, kvri_job *out);

/* SPANS: fixed part, then frame.count spans: from u64, to u64, bytes u32, layer u16, kind u8, 0. */
typedef struct kvri_spans {
    uint32_t total, lost; /* spans of the job; those that had no place */
} kvri_spans;

#define KVRI_SPANS_FIXED 8u
#define KVRI_SPAN_BYTES 24u
#define KVRI_MAX_SPANS (1u << 20) /* of a job */

uint32_t kvri_spans_put(const kvri_spans *head, const kvr_span *spans, uint32_t n_spans, uint8_t *payload);
/* FRAME: n does not hold frame_count spans, or a total beyond KVRI_MAX_SPANS. */
kvr_status kvri_spans_get(const uint8_t *payload, uint32_t n, uint32_t frame_count, kvri_spans *out);
/* One of them; rank 0. FRAME: no such kind. */
kvr_status kvri_span_get(const uint8_t *payload, uint32_t index, kvr_span *out);

/* Largest legal frame for these numbers; 0 on overflow or beyond what a frame's 32-bit size holds. */
uint64_t kvri_frame_cap(uint64_t kv_row_bytes, uint32_t frame_tokens, uint32_t chunk_tokens, uint32_t max_boards);

#endif
