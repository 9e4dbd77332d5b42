/* What lead and helper have in common. */
#include "kvr_chain.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_rope.h"
#include "kvr_session_state.h"

#include <string.h>

#define MOST_BEAT_US 100000u
#define FULL_POLLS 256u /* far more frames than the links between us and all boards hold */

kvr_status kvri_chain_receive(kvr_session *s, kvri_frame *out, size_t *out_bytes) {
    kvri_chain *c = &s->chain;
    kvr_status status = c->link.recv(c->link.user, s->parts.rx, (size_t)s->plan.frame_bytes, out_bytes);
    if (status == KVR_OK) status = kvri_frame_open(s->parts.rx, *out_bytes, out);
    if (status != KVR_ERR_FRAME) return status;
    kvri_chain_refuse(s);
    if (!c->told_damage && s->port.log != NULL)
        s->port.log(s->port.user, KVR_LOG_WARN, "chain",
                    "dropped a message that is damaged or no frame of a chain; further ones are only counted");
    c->told_damage = 1;
    return status;
}

void kvri_chain_refuse(kvr_session *s) {
    s->chain.handover.frames_dropped++;
    s->chain.refused++;
}

kvr_status kvri_chain_send(kvr_session *s, uint32_t peer, kvri_frame_kind kind, uint32_t rank, uint8_t *bytes,
                           uint32_t payload_bytes) {
    kvri_chain *c = &s->chain;
    kvri_frame f;
    memset(&f, 0, sizeof f);
    f.kind = (uint16_t)kind;
    f.session = c->session;
    f.epoch = c->epoch;
    f.rank = rank;
    f.payload_bytes = payload_bytes;
    f.clock_us = kvri_session_now(s);
    kvri_frame_seal(&f, bytes);
    return c->link.send(c->link.user, peer, bytes, (size_t)KVRI_FRAME_HEADER + payload_bytes);
}

int kvri_chain_clocks_due(kvr_session *s, kvr_status received) {
    if (received != KVR_AGAIN && ++s->chain.full_polls < FULL_POLLS) return 0;
    s->chain.full_polls = 0;
    return 1;
}

uint64_t kvri_chain_beat_us(const kvr_session *s) {
    /* the other board may have been given a shorter timeout than this one */
    return kvri_min((uint64_t)s->plan.peer_timeout_ms * 1000u / 8u, MOST_BEAT_US);
}

kvri_hello kvri_chain_hello(const kvr_session *s) {
    kvri_hello h;
    memset(&h, 0, sizeof h);
    /* boards on different sides of a model's original context rotate keys differently */
    h.fingerprint = s->model->info.fingerprint + (uint64_t)kvri_rope_is_long(s->model, s->plan.ctx_tokens);
    if (s->backend.is_emulated) h.fingerprint = ~h.fingerprint; /* its keys and values belong to no model */
    h.kv_dtype = s->plan.kv_dtype;
    h.wire_kv = s->plan.wire_kv;
    h.kv_window = s->plan.kv_window_layers < s->model->info.n_layers ? s->plan.kv_window_layers : 0;
    h.frame_tokens = s->plan.frame_tokens;
    h.ctx_tokens = s->plan.ctx_tokens;
    h.chunk_tokens = s->plan.chunk_tokens;
    h.max_boards = s->plan.max_boards;
    return h;
}

kvr_status kvri_chain_compare(const kvri_hello *ours, const kvri_hello *theirs) {
    if (ours->fingerprint != theirs->fingerprint) return KVR_ERR_PEER_MODEL;
    if (ours->kv_dtype != theirs->kv_dtype || ours->wire_kv != theirs->wire_kv ||
        ours->frame_tokens != theirs->frame_tokens)
        return KVR_ERR_PEER_KV;
    return KVR_OK;
}

kvri_handover_env kvri_chain_env(kvr_session *s, uint64_t now_us) {
    const kvri_handover_env env = {&s->compute, &s->parts, &s->chain.link, now_us};
    return env;
}
