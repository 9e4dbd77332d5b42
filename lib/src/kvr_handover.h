/*
 * kvr_handover.h - internal: keys and values on their way along the chain. Arriving pieces go straight to their
 * reserved place in the cache and are relayed at once; own pieces are read back from the cache. Nothing is kept twice:
 * what cannot be sent now is only remembered by number and read back later.
 */
#ifndef KVR_HANDOVER_H
#define KVR_HANDOVER_H

#include "kvr_frame.h"
#include "kvr_layer.h"
#include "kvr_partition.h"

#define KVRI_SLOT_LEAD 0u /* a helper's peers on its link; a lead's are its helpers, rank by rank */
#define KVRI_SLOT_NEXT 1u
#define KVRI_SLOT_REFUSE 2u

typedef struct kvri_tx {
    uint32_t busy; /* 0 free, 1 being read back, 2 ready to send */
    uint32_t layer, piece;
    kvr_fence fences[4]; /* keys and values, each cut in two where a ring begins again */
} kvri_tx;

typedef struct kvri_handover {
    kvri_partition partition;
    const kvri_traits *traits;
    uint32_t rank, n_layers, kv_dtype, kv_row_bytes;
    uint32_t wire_kv, wire_row_bytes; /* the same of frames */
    int ring;           /* TSP: everyone's keys and values go round to everyone; else each rank's to all later ones */
    uint32_t next_slot; /* of the link: the board after this one */
    uint32_t n_offered; /* layers whose own keys and values were queued, or wait for their layer to be open */
    /* Windows of layers. This board takes a layer's pieces when the layer that had their place before is released; the
     * next one is sent a layer's pieces when all those of the layer that had their place there are out: so what it
     * waits for is never behind what it cannot take. */
    uint32_t released;    /* layers that this board is through with */
    uint32_t next_window; /* layers that the next board keeps; 0 = all */
    uint32_t n_open;      /* layers that may be sent */
    uint32_t cap_pieces;
    uint64_t session;
    uint32_t epoch;
    uint32_t out_head, out_tail; /* outbox[out_head .. out_tail) waits to be read back and sent */
    uint32_t oldest_tx;
    kvri_tx tx[KVRI_TX_SLOTS];
    uint64_t frames_in, frames_out, bytes_in, bytes_out, frames_dropped;
} kvri_handover;

/* What the functions work on besides their own state. */
typedef struct kvri_handover_env {
    const kvri_compute *compute;
    const kvri_parts *parts;
    const kvr_link *link;
    uint64_t now_us;
} kvri_handover_env;

void kvri_handover_begin(kvri_handover *h, const kvri_parts *parts, uint32_t n_layers);
/* Own keys and values of a layer have just been enqueued: mark the place, queue their pieces for the next rank. */
kvr_status kvri_handover_offer(kvri_handover *h, const kvri_handover_env *env, uint32_t layer);
/* A KV frame of this session and epoch. frame bytes: the whole frame, its header is restamped for the relay.
 * KVR_OK, KVR_AGAIN: its layer has no place yet, nothing was done; KVR_ERR_FRAME: not a piece of this job, a wrong size
 * or type, or there already. */
kvr_status kvri_handover_accept(kvri_handover *h, const kvri_handover_env *env, const kvri_frame *frame,
                                uint8_t *bytes);
/* Moves the outbox on. KVR_OK: something moved; KVR_AGAIN: nothing to move now. */
kvr_status kvri_handover_pump(kvri_handover *h, const kvri_handover_env *env);
/* Frees the places of layers below done_layers whose pieces are all out; returns of how many. */
uint32_t kvri_handover_release(kvri_handover *h, const kvri_parts *parts, uint32_t done_layers);
/* 1: the cache has a place for a layer. */
int kvri_handover_has_place(const kvri_handover *h, const kvri_ids *ids, uint32_t layer);
/* 1: the keys and values of others that a layer's attention wants are here. In a ring that is everybody's, and this
 * board has handed on its part (a blocking collective is the barrier of TSP). */
int kvri_handover_has_prefix(const kvri_handover *h, const kvri_parts *parts, uint32_t layer);
/* 1: all that is to come arrived in all layers, and nothing is left to be sent. */
int kvri_handover_complete(const kvri_handover *h, const kvri_parts *parts);
/* 1: a frame is being read back from the device. */
int kvri_handover_reading(const kvri_handover *h);
/* Waits out the reads under way: KVR_AGAIN until the buffers are free. */
kvr_status kvri_handover_drain(kvri_handover *h, const kvri_compute *c);

#endif
