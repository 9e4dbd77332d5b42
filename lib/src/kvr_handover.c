#include "kvr_handover.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_q8.h"

#include <string.h>

/* layer << PIECE_BITS | piece; 1024 layers and 2^20 + 64 pieces fit 32 bits */
#define PIECE_BITS 21u

static uint32_t next_rank(const kvri_handover *h) { return (h->rank + 1) % h->partition.n_boards; }
static uint32_t rank_before(const kvri_handover *h) { return (h->rank ? h->rank : h->partition.n_boards) - 1; }
static int passes_on(const kvri_handover *h) { return h->ring || h->rank + 1 < h->partition.n_boards; }

static int is_of(const kvri_handover *h, uint32_t piece, uint32_t rank) {
    return piece >= h->partition.first_piece[rank] && piece < h->partition.first_piece[rank + 1];
}

/*
 * The first piece of a layer that comes to a rank, or passes it. In a chain those of its own tokens' windows and on:
 * later ranks see no further back, so what is relayed is among what is kept.
 */
static uint32_t first_due(const kvri_handover *h, uint32_t layer, uint32_t rank) {
    const uint32_t reach = kvri_window_reach(h->traits), cut = h->partition.cut[rank];
    if (h->ring || !kvri_layer_has_window(h->traits, layer) || cut <= reach) return 0;
    return kvri_partition_piece_of(&h->partition, cut - reach);
}

/* Tokens of others that come to this board in a layer. */
static uint32_t tokens_due(const kvri_handover *h, uint32_t layer) {
    const uint32_t *cut = h->partition.cut;
    uint32_t first, count;
    if (h->ring) return cut[h->partition.n_boards] - (cut[h->rank + 1] - cut[h->rank]);
    kvri_partition_piece(&h->partition, first_due(h, layer, h->rank), &first, &count);
    return cut[h->rank] - first;
}

void kvri_handover_begin(kvri_handover *h, const kvri_parts *parts, uint32_t n_layers) {
    h->n_layers = n_layers;
    h->out_head = h->out_tail = 0;
    h->oldest_tx = h->n_offered = h->released = 0;
    h->n_open = h->next_window != 0 && h->next_window < n_layers ? h->next_window : n_layers;
    memset(parts->sent_pieces, 0, (size_t)n_layers * sizeof *parts->sent_pieces);
    h->frames_in = h->frames_out = h->bytes_in = h->bytes_out = h->frames_dropped = 0;
    memset(h->tx, 0, sizeof h->tx);
    memset(parts->arrived, 0, (size_t)(n_layers * kvri_ceil_div(h->cap_pieces, 8)));
    memset(parts->arrived_tokens, 0, (size_t)n_layers * sizeof *parts->arrived_tokens);
}

/* Pieces of a layer that pass to the next board of a chain. */
static uint32_t pieces_to_send(const kvri_handover *h, uint32_t layer) {
    return passes_on(h) ? h->partition.first_piece[h->rank + 1] - first_due(h, layer, h->rank + 1) : 0;
}

uint32_t kvri_handover_release(kvri_handover *h, const kvri_parts *parts, uint32_t done_layers) {
    const uint32_t before = h->released;
    while (h->released < done_layers &&
           (h->ring || parts->sent_pieces[h->released] == pieces_to_send(h, h->released)))
        h->released++;
    return h->released - before;
}

int kvri_handover_has_place(const kvri_handover *h, const kvri_ids *ids, uint32_t layer) {
    return layer < h->released + ids->kv_layers;
}

/* A piece enters the outbox at most once per layer, so it never grows past n_layers * cap_pieces. */
static void queue_piece(kvri_handover *h, const kvri_parts *parts, uint32_t layer, uint32_t piece) {
    parts->outbox[h->out_tail++] = layer << PIECE_BITS | piece;
}

static void queue_own(kvri_handover *h, const kvri_parts *parts, uint32_t layer) {
    const uint32_t own = h->partition.first_piece[h->rank], due = first_due(h, layer, next_rank(h));
    for (uint32_t p = own > due ? own : due; p < h->partition.first_piece[h->rank + 1]; p++)
        queue_piece(h, parts, layer, p);
}

static uint8_t *arrived_bits(const kvri_handover *h, const kvri_parts *parts, uint32_t layer) {
    return parts->arrived + layer * kvri_ceil_div(h->cap_pieces, 8);
}

/* A piece is out: it may have been the last one that kept a layer from being sent. */
static void note_sent(kvri_handover *h, const kvri_parts *parts, uint32_t layer) {
    parts->sent_pieces[layer]++;
    while (h->n_open < h->n_layers &&
           parts->sent_pieces[h->n_open - h->next_window] == pieces_to_send(h, h->n_open - h->next_window)) {
        const uint32_t open = h->n_open++;
        const uint8_t *bits = arrived_bits(h, parts, open);
        for (uint32_t p = first_due(h, open, next_rank(h)); p < h->partition.first_piece[h->rank]; p++)
            if (bits[p / 8] >> (p & 7u) & 1u) queue_piece(h, parts, open, p);
        if (h->n_offered > open) queue_own(h, parts, open);
    }
}

/* A few layers share a mark; one that is set again before all pieces are out only makes them wait longer. */
static kvr_mark mark_of(uint32_t layer) { return 1u + layer % KVR_BACKEND_MARKS; }

kvr_status kvri_handover_offer(kvri_handover *h, const kvri_handover_env *env, uint32_t layer) {
    const kvr_backend *b = env->compute->backend;
    h->n_offered++;
    if (!passes_on(h)) return KVR_OK;
    if (layer < h->n_open) queue_own(h, env->parts, layer);
    return b->mark != NULL ? b->mark(b->user, mark_of(layer)) : KVR_OK;
}

/* Own pieces leave as soon as they are computed, whatever else is enqueued; relayed ones are there already. */
static kvr_mark ready_after(const kvri_handover *h, const kvr_backend *b, uint32_t layer, uint32_t piece) {
    if (!is_of(h, piece, h->rank)) return KVR_AFTER_NOTHING;
    return b->mark != NULL ? mark_of(layer) : KVR_AFTER_ALL;
}

static kvr_status send_next(kvri_handover *h, const kvri_handover_env *env, uint32_t layer, const uint8_t *bytes,
                            uint32_t payload) {
    const size_t n = (size_t)KVRI_FRAME_HEADER + payload;
    const kvr_status status = env->link->send(env->link->user, h->next_slot, bytes, n);
    if (status != KVR_OK) return status;
    h->frames_out++;
    h->bytes_out += n;
    note_sent(h, env->parts, layer);
    return KVR_OK;
}

static uint32_t payload_bytes(const kvri_handover *h, uint32_t count) { return 2u * count * h->wire_row_bytes; }

/* Numbers in a frame's keys and values. */
static uint32_t elements(const kvri_handover *h, uint32_t count) {
    return 2u * count * (uint32_t)(h->kv_row_bytes / kvr_dtype_row_bytes(h->kv_dtype, 1));
}

kvr_status kvri_handover_accept(kvri_handover *h, const kvri_handover_env *env, const kvri_frame *frame,
                                uint8_t *bytes) {
    const uint32_t piece = kvri_partition_find(&h->partition, frame->first, frame->count);
    if (frame->rank != rank_before(h) || frame->layer >= h->n_layers || frame->dtype != h->wire_kv ||
        piece == UINT32_MAX || is_of(h, piece, h->rank) ||
        piece < first_due(h, frame->layer, h->rank) || (!h->ring && piece >= h->partition.first_piece[h->rank]) ||
        frame->payload_bytes != 2ull * frame->count * h->wire_row_bytes)
        return KVR_ERR_FRAME;
    uint8_t *bits = arrived_bits(h, env->parts, frame->layer) + piece / 8;
    const uint8_t bit = (uint8_t)(1u << (piece & 7u));
    if (*bits & bit) return KVR_ERR_FRAME;
    if (!kvri_handover_has_place(h, &env->compute->ids, frame->layer)) return KVR_AGAIN;

    /* cut-through: relay before the local copy; a layer that may not be sent yet is relayed when it may */
    if (passes_on(h) && frame->layer < h->n_open && piece >= first_due(h, frame->layer, next_rank(h)) &&
        !(h->ring && is_of(h, piece, next_rank(h)))) {
        kvri_frame relay = *frame;
        relay.rank = h->rank;
        relay.clock_us = env->now_us;
        kvri_frame_restamp(&relay, bytes);
        const kvr_status sent = send_next(h, env, frame->layer, bytes, frame->payload_bytes);
        if (sent == KVR_AGAIN) queue_piece(h, env->parts, frame->layer, piece);
        else if (sent != KVR_OK) return sent;
    }
    const kvr_backend *b = env->compute->backend;
    const kvri_ids *ids = &env->compute->ids;
    if (h->wire_kv != h->kv_dtype) kvri_q8_unpack(h->kv_dtype, bytes + KVRI_FRAME_HEADER, elements(h, frame->count));
    const uint8_t *keys = bytes + KVRI_FRAME_HEADER;
    const uint8_t *values = keys + (size_t)frame->count * h->kv_row_bytes;
    const uint32_t rows = kvri_kv_rows(ids, h->traits, frame->layer);
    for (uint32_t i = 0, n; i < frame->count; i += n) {
        const kvr_view k = {kvri_keys(ids, frame->layer), (frame->first + i) % rows};
        const kvr_view v = {kvri_values(ids, frame->layer), k.row};
        n = kvri_kv_run(rows, frame->first + i, frame->count - i);
        KVRI_TRY(b->write(b->user, k, n, keys + (size_t)i * h->kv_row_bytes));
        KVRI_TRY(b->write(b->user, v, n, values + (size_t)i * h->kv_row_bytes));
    }
    *bits |= bit;
    env->parts->arrived_tokens[frame->layer] += frame->count;
    h->frames_in++;
    h->bytes_in += (uint64_t)KVRI_FRAME_HEADER + frame->payload_bytes;
    kvri_trace_arrived(env->compute->trace, frame->layer, KVRI_FRAME_HEADER + frame->payload_bytes, frame->clock_us,
                       env->now_us);
    return KVR_OK;
}

/* Starts to read the next queued piece back into a free buffer. */
static kvr_status start_read(kvri_handover *h, const kvri_handover_env *env, uint32_t slot) {
    const kvr_backend *b = env->compute->backend;
    const kvri_ids *ids = &env->compute->ids;
    const uint32_t entry = env->parts->outbox[h->out_head];
    kvri_tx *tx = &h->tx[slot];
    uint32_t first, count;
    tx->layer = entry >> PIECE_BITS;
    tx->piece = entry & ((1u << PIECE_BITS) - 1u);
    kvri_partition_piece(&h->partition, tx->piece, &first, &count);
    uint8_t *keys = env->parts->tx[slot] + KVRI_FRAME_HEADER, *values = keys + (size_t)count * h->kv_row_bytes;
    const uint32_t rows = kvri_kv_rows(ids, h->traits, tx->layer);
    const kvr_mark after = ready_after(h, b, tx->layer, tx->piece);
    kvr_fence *fence = tx->fences;
    for (uint32_t i = 0, n; i < count; i += n) {
        const kvr_view k = {kvri_keys(ids, tx->layer), (first + i) % rows};
        const kvr_view v = {kvri_values(ids, tx->layer), k.row};
        n = kvri_kv_run(rows, first + i, count - i);
        KVRI_TRY(b->read(b->user, k, n, keys + (size_t)i * h->kv_row_bytes, after, fence++));
        if (i == 0) h->out_head++;
        tx->busy = 1;
        KVRI_TRY(b->read(b->user, v, n, values + (size_t)i * h->kv_row_bytes, after, fence++));
    }
    return b->flush != NULL ? b->flush(b->user) : KVR_OK;
}

static int is_read(const kvri_tx *tx) {
    for (size_t i = 0; i < sizeof tx->fences / sizeof tx->fences[0]; i++)
        if (tx->fences[i] != 0) return 0;
    return 1;
}

/* All are asked even when one has failed: the others may still write into the buffer. */
static kvr_status settle_fences(const kvri_compute *c, kvri_tx *tx) {
    kvr_status failed = KVR_OK;
    for (size_t i = 0; i < sizeof tx->fences / sizeof tx->fences[0]; i++) {
        if (tx->fences[i] == 0) continue;
        const kvr_status status = c->backend->done(c->backend->user, tx->fences[i]);
        if (status == KVR_AGAIN) continue;
        tx->fences[i] = 0;
        if (failed == KVR_OK) failed = status;
    }
    if (failed != KVR_OK) return failed;
    return is_read(tx) ? KVR_OK : KVR_AGAIN;
}

static kvr_status move_tx(kvri_handover *h, const kvri_handover_env *env, uint32_t slot) {
    kvri_tx *tx = &h->tx[slot];
    uint32_t first, count;
    kvri_partition_piece(&h->partition, tx->piece, &first, &count);
    if (tx->busy == 1) {
        KVRI_TRY(settle_fences(env->compute, tx));
        kvri_frame f;
        memset(&f, 0, sizeof f);
        f.kind = KVRI_FRAME_KV;
        f.session = h->session;
        f.epoch = h->epoch;
        f.rank = h->rank;
        f.layer = tx->layer;
        f.first = first;
        f.count = count;
        f.dtype = h->wire_kv;
        f.payload_bytes = payload_bytes(h, count);
        f.clock_us = env->now_us;
        if (h->wire_kv != h->kv_dtype)
            kvri_q8_pack(h->kv_dtype, env->parts->tx[slot] + KVRI_FRAME_HEADER, elements(h, count));
        kvri_frame_seal(&f, env->parts->tx[slot]);
        tx->busy = 2;
    }
    KVRI_TRY(send_next(h, env, tx->layer, env->parts->tx[slot], payload_bytes(h, count)));
    tx->busy = 0;
    return KVR_OK;
}

kvr_status kvri_handover_pump(kvri_handover *h, const kvri_handover_env *env) {
    kvr_status result = KVR_AGAIN;
    for (uint32_t turn = 0; turn < KVRI_TX_SLOTS; turn++) {
        const uint32_t slot = h->oldest_tx;
        if (h->tx[slot].busy == 0) break;
        const kvr_status status = move_tx(h, env, slot);
        if (status == KVR_AGAIN) break;
        if (status != KVR_OK) return status;
        h->oldest_tx = (slot + 1) % KVRI_TX_SLOTS;
        result = KVR_OK;
    }
    for (uint32_t i = 0; i < KVRI_TX_SLOTS && h->out_head < h->out_tail; i++) {
        const uint32_t slot = (h->oldest_tx + i) % KVRI_TX_SLOTS;
        if (h->tx[slot].busy != 0) continue;
        KVRI_TRY(start_read(h, env, slot));
        result = KVR_OK;
    }
    return result;
}

static int all_sent(const kvri_handover *h) {
    if (h->out_head < h->out_tail) return 0;
    for (uint32_t i = 0; i < KVRI_TX_SLOTS; i++)
        if (h->tx[i].busy != 0) return 0;
    return 1;
}

int kvri_handover_has_prefix(const kvri_handover *h, const kvri_parts *parts, uint32_t layer) {
    return parts->arrived_tokens[layer] == tokens_due(h, layer) && (!h->ring || all_sent(h));
}

int kvri_handover_complete(const kvri_handover *h, const kvri_parts *parts) {
    for (uint32_t l = 0; l < h->n_layers; l++)
        if (parts->arrived_tokens[l] < tokens_due(h, l)) return 0;
    return all_sent(h) && (!passes_on(h) || h->n_offered == h->n_layers);
}

int kvri_handover_reading(const kvri_handover *h) {
    for (uint32_t i = 0; i < KVRI_TX_SLOTS; i++)
        if (h->tx[i].busy == 1) return 1;
    return 0;
}

kvr_status kvri_handover_drain(kvri_handover *h, const kvri_compute *c) {
    kvr_status result = KVR_OK;
    for (uint32_t i = 0; i < KVRI_TX_SLOTS; i++) {
        kvri_tx *tx = &h->tx[i];
        settle_fences(c, tx); /* a read that failed is over too */
        if (is_read(tx)) tx->busy = 0;
        else result = KVR_AGAIN;
    }
    if (result == KVR_OK) h->out_head = h->out_tail = 0;
    return result;
}
