#include "kvr_frame.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_gguf.h" /* little-endian loads */

#include <string.h>

static void put16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static void put32(uint8_t *p, uint32_t v) {
    put16(p, v & 0xffffu);
    put16(p + 2, v >> 16);
}
static void put64(uint8_t *p, uint64_t v) {
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

uint64_t kvri_frame_check(const void *payload, uint64_t bytes) {
    const uint8_t *p = payload;
    uint32_t a = 1, b = 0; /* 1: a run of zeros does not check as an empty one */
    uint8_t tail[4] = {0};
    for (; bytes >= 4; bytes -= 4, p += 4) {
        a += kvri_le32(p);
        b += a;
    }
    memcpy(tail, p, (size_t)bytes);
    a += kvri_le32(tail);
    b += a + (uint32_t)bytes;
    return (uint64_t)b << 32 | a;
}

/* Bit k of a word moves the plain sum by 2^k and the other one by a whole multiple of that, so it moves sum + 2 * other
 * by an odd multiple of 2^k: never by 0. Folding the two by xor would let some single bits cancel out. */
static uint32_t mix(uint64_t check) { return (uint32_t)check + 2u * (uint32_t)(check >> 32); }

static uint32_t header_check(const uint8_t *bytes) {
    return mix(kvri_frame_check(bytes, 44)) + 5u * mix(kvri_frame_check(bytes + 48, 16));
}

void kvri_frame_restamp(const kvri_frame *f, uint8_t *bytes) {
    memcpy(bytes, "KVRF", 4);
    put16(bytes + 4, f->version);
    put16(bytes + 6, f->kind);
    put64(bytes + 8, f->session);
    const uint32_t words[7] = {f->epoch, f->rank, f->layer, f->first, f->count, f->dtype, f->payload_bytes};
    for (uint32_t i = 0; i < 7; i++) put32(bytes + 16 + 4 * i, words[i]);
    put64(bytes + 48, f->payload_check);
    put64(bytes + 56, f->clock_us);
    put32(bytes + 44, header_check(bytes));
}

void kvri_frame_seal(kvri_frame *f, uint8_t *bytes) {
    f->version = KVRI_WIRE_VERSION;
    f->payload_check = kvri_frame_check(bytes + KVRI_FRAME_HEADER, f->payload_bytes);
    kvri_frame_restamp(f, bytes);
}

kvr_status kvri_frame_open(const uint8_t *bytes, uint64_t n, kvri_frame *out) {
    memset(out, 0, sizeof *out);
    if (n < 8 || memcmp(bytes, "KVRF", 4) != 0) return KVR_ERR_FRAME;
    out->version = kvri_le16(bytes + 4);
    out->kind = kvri_le16(bytes + 6);
    if (out->version != KVRI_WIRE_VERSION) return KVR_ERR_PEER_WIRE;
    if (n < KVRI_FRAME_HEADER || kvri_le32(bytes + 44) != header_check(bytes))
        return KVR_ERR_FRAME;
    out->session = kvri_le64(bytes + 8);
    uint32_t *const words[7] = {&out->epoch, &out->rank,  &out->layer,        &out->first,
                                &out->count, &out->dtype, &out->payload_bytes};
    for (uint32_t i = 0; i < 7; i++) *words[i] = kvri_le32(bytes + 16 + 4 * i);
    out->payload_check = kvri_le64(bytes + 48);
    out->clock_us = kvri_le64(bytes + 56);
    if (out->payload_bytes != n - KVRI_FRAME_HEADER ||
        out->payload_check != kvri_frame_check(bytes + KVRI_FRAME_HEADER, out->payload_bytes))
        return KVR_ERR_FRAME;
    return KVR_OK;
}

/* A fixed field of text: zero-filled, always terminated. */
static void put_text(uint8_t *p, const char *text, uint32_t cap) {
    const size_t n = strlen(text);
    memset(p, 0, cap);
    memcpy(p, text, n < cap ? n : cap - 1);
}

static kvr_status get_text(const uint8_t *p, char *out, uint32_t cap) {
    if (memchr(p, 0, cap) == NULL) return KVR_ERR_FRAME;
    kvri_copy_printable(out, cap, p, strlen((const char *)p));
    return KVR_OK;
}

uint32_t kvri_hello_put(const kvri_hello *h, uint8_t *p) {
    const uint32_t words[KVRI_HELLO_WORDS] = {h->kv_dtype,   h->wire_kv,      h->frame_tokens,
                                              h->ctx_tokens, h->chunk_tokens, h->max_boards, h->kv_window};
    put64(p, h->fingerprint);
    for (uint32_t i = 0; i < KVRI_HELLO_WORDS; i++) put32(p + 8 + 4 * i, words[i]);
    put_text(p + 8 + 4 * KVRI_HELLO_WORDS, h->address, KVR_ADDRESS_CAP);
    if (!h->speed.known) return KVRI_HELLO_BYTES;
    kvri_speed_put(&h->speed, p + KVRI_HELLO_BYTES);
    return KVRI_HELLO_MOST;
}

kvr_status kvri_hello_get(const uint8_t *p, uint32_t n, kvri_hello *h) {
    if (n != KVRI_HELLO_BYTES && n != KVRI_HELLO_MOST) return KVR_ERR_FRAME;
    memset(&h->speed, 0, sizeof h->speed);
    if (n == KVRI_HELLO_MOST) h->speed = kvri_speed_get(p + KVRI_HELLO_BYTES);
    uint32_t *const words[KVRI_HELLO_WORDS] = {&h->kv_dtype,   &h->wire_kv,      &h->frame_tokens,
                                               &h->ctx_tokens, &h->chunk_tokens, &h->max_boards, &h->kv_window};
    h->fingerprint = kvri_le64(p);
    for (uint32_t i = 0; i < KVRI_HELLO_WORDS; i++) *words[i] = kvri_le32(p + 8 + 4 * i);
    return get_text(p + 8 + 4 * KVRI_HELLO_WORDS, h->address, KVR_ADDRESS_CAP);
}

uint32_t kvri_probe_put(const kvri_probe *probe, uint8_t *p) {
    put32(p, probe->answer_bytes);
    return KVRI_PROBE_BYTES;
}

kvr_status kvri_probe_get(const uint8_t *p, uint32_t n, kvri_probe *out) {
    if (n != KVRI_PROBE_BYTES) return KVR_ERR_FRAME;
    out->answer_bytes = kvri_le32(p);
    return KVR_OK;
}

uint32_t kvri_report_put(const kvri_report *r, uint8_t *p) {
    put32(p, r->stage);
    put32(p + 4, (uint32_t)r->status);
    put32(p + 8, r->progress);
    put_text(p + 12, r->text, KVRI_REPORT_TEXT);
    put64(p + 12 + KVRI_REPORT_TEXT, r->echo_us);
    put64(p + 20 + KVRI_REPORT_TEXT, r->heard_us);
    put64(p + 28 + KVRI_REPORT_TEXT, r->compute_us);
    return KVRI_REPORT_BYTES;
}

kvr_status kvri_report_get(const uint8_t *p, uint32_t n, kvri_report *r) {
    if (n != KVRI_REPORT_BYTES) return KVR_ERR_FRAME;
    r->stage = kvri_le32(p);
    r->status = (int32_t)kvri_le32(p + 4);
    r->progress = kvri_le32(p + 8);
    r->echo_us = kvri_le64(p + 12 + KVRI_REPORT_TEXT);
    r->heard_us = kvri_le64(p + 20 + KVRI_REPORT_TEXT);
    r->compute_us = kvri_le64(p + 28 + KVRI_REPORT_TEXT);
    return get_text(p + 12, r->text, KVRI_REPORT_TEXT);
}

uint32_t kvri_job_put(uint32_t rank, uint32_t n_boards, uint32_t flags, uint32_t next_window, const char *next,
                      const uint32_t *cuts, const int32_t *ids, uint32_t n_ids, uint8_t *p) {
    put32(p, rank);
    put32(p + 4, n_boards);
    put32(p + 8, flags);
    put32(p + 12, next_window);
    put_text(p + 16, next, KVR_ADDRESS_CAP);
    uint8_t *at = p + KVRI_JOB_FIXED;
    for (uint32_t i = 0; i <= n_boards; i++, at += 4) put32(at, cuts[i]);
    for (uint32_t i = 0; i < n_ids; i++, at += 4) put32(at, (uint32_t)ids[i]);
    return (uint32_t)(at - p);
}

kvr_status kvri_job_get(const uint8_t *p, uint32_t n, kvri_job *j) {
    if (n < KVRI_JOB_FIXED) return KVR_ERR_FRAME;
    j->rank = kvri_le32(p);
    j->n_boards = kvri_le32(p + 4);
    j->flags = kvri_le32(p + 8);
    j->next_window = kvri_le32(p + 12);
    if (j->n_boards < 2 || j->n_boards > KVR_MAX_BOARDS || j->rank >= j->n_boards - 1) return KVR_ERR_FRAME;
    const uint32_t cut_bytes = 4 * (j->n_boards + 1);
    const uint32_t rest = n - KVRI_JOB_FIXED;
    if (rest < cut_bytes || (rest - cut_bytes) % 4 != 0) return KVR_ERR_FRAME;
    j->cuts = p + KVRI_JOB_FIXED;
    j->ids = j->cuts + cut_bytes;
    j->n_ids = (rest - cut_bytes) / 4;
    return get_text(p + 16, j->next, KVR_ADDRESS_CAP);
}

uint32_t kvri_spans_put(const kvri_spans *head, const kvr_span *spans, uint32_t n_spans, uint8_t *p) {
    put32(p, head->total);
    put32(p + 4, head->lost);
    uint8_t *at = p + KVRI_SPANS_FIXED;
    for (uint32_t i = 0; i < n_spans; i++, at += KVRI_SPAN_BYTES) {
        put64(at, spans[i].from_us);
        put64(at + 8, spans[i].to_us);
        put32(at + 16, spans[i].bytes);
        put16(at + 20, spans[i].layer);
        at[22] = spans[i].kind;
        at[23] = 0;
    }
    return (uint32_t)(at - p);
}

kvr_status kvri_spans_get(const uint8_t *p, uint32_t n, uint32_t frame_count, kvri_spans *out) {
    if (n < KVRI_SPANS_FIXED || (n - KVRI_SPANS_FIXED) / KVRI_SPAN_BYTES != frame_count ||
        (n - KVRI_SPANS_FIXED) % KVRI_SPAN_BYTES != 0)
        return KVR_ERR_FRAME;
    out->total = kvri_le32(p);
    out->lost = kvri_le32(p + 4);
    return out->total > KVRI_MAX_SPANS ? KVR_ERR_FRAME : KVR_OK;
}

kvr_status kvri_span_get(const uint8_t *p, uint32_t index, kvr_span *out) {
    const uint8_t *at = p + KVRI_SPANS_FIXED + (size_t)index * KVRI_SPAN_BYTES;
    memset(out, 0, sizeof *out);
    out->from_us = kvri_le64(at);
    out->to_us = kvri_le64(at + 8);
    out->bytes = kvri_le32(at + 16);
    out->layer = kvri_le16(at + 20);
    out->kind = at[22];
    return out->kind >= KVR_SPAN_KINDS ? KVR_ERR_FRAME : KVR_OK;
}

uint64_t kvri_frame_cap(uint64_t kv_row_bytes, uint32_t frame_tokens, uint32_t chunk_tokens, uint32_t max_boards) {
    uint64_t kv, bytes;
    const uint64_t job = KVRI_JOB_FIXED + 4ull * (max_boards + 1) + 4ull * chunk_tokens;
    if (!kvri_mul(2ull * frame_tokens, kv_row_bytes, &kv)) return 0;
    bytes = kv > job ? kv : job;
    if (bytes < KVRI_HELLO_MOST) bytes = KVRI_HELLO_MOST;
    return bytes > UINT32_MAX - KVRI_FRAME_HEADER ? 0 : bytes + KVRI_FRAME_HEADER;
}
