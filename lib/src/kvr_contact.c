#include "kvr_contact.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_session_state.h"

#include <string.h>

#define MOST_HELLO_US 1000000u /* for all boards to answer; less where peer_timeout_ms is short */
#define MOST_BOARD_US 500000u  /* for one path */
#define PINGS 4u
#define SHORT_FRAMES 8u
#define LONG_FRAMES 32u
#define FRAME_BYTES 32768u     /* of payload; less where frames are smaller */
#define FAST_US 20000u         /* SHORT_FRAMES within this time say too little */
#define MOST_MBIT 1e6          /* as good as no time at all */
#define LEAST_MBIT 0.1

typedef char kvri_room_for_probes[LONG_FRAMES <= KVRI_PROBE_FRAMES ? 1 : -1];

static uint64_t within(const kvr_session *s, uint64_t us) {
    return kvri_min(us, (uint64_t)s->plan.peer_timeout_ms * 1000u / 2u);
}

/* --- lead ---------------------------------------------------------------------------------------------------- */

static uint32_t frames_wanted(const kvri_contact *t) {
    return t->step == KVRI_CONTACT_PING ? 1 : t->step == KVRI_CONTACT_SHORT ? SHORT_FRAMES : LONG_FRAMES;
}

static uint32_t answer_bytes(const kvr_session *s) {
    if (s->chain.contact.step == KVRI_CONTACT_PING) return 0;
    return (uint32_t)kvri_min(FRAME_BYTES, s->plan.frame_bytes - KVRI_FRAME_HEADER);
}

static void enter(kvri_contact *t, kvri_contact_step step) {
    t->step = step;
    t->is_sent = 0;
    t->probe++;
    t->got = 0;
}

/* The first board from `board` on that answered; the end of the list when there is none. */
static void begin_board(kvr_session *s, uint32_t board, uint64_t now_us) {
    kvri_contact *t = &s->chain.contact;
    while (board < s->chain.n_helpers && !s->chain.peers[board].met) board++;
    t->board = board;
    t->begun_us = now_us;
    t->pings = 0;
    t->round_trip_us = 0;
    enter(t, KVRI_CONTACT_PING);
}

void kvri_contact_begin(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    c->n_asked = c->n_helpers;
    for (uint32_t b = 0; b < c->n_helpers; b++) c->peers[b].out = 0;
    kvri_lead_begin(s, now_us, 0);
    c->contact.step = KVRI_CONTACT_HELLO;
    c->contact.begun_us = now_us;
}

/* One frame of HELLO's answers may tell that a board does not fit: it is left out of this meeting. */
static void excuse(kvr_session *s) {
    if (s->failed_rank >= 0) {
        kvri_peer *p = &s->chain.peers[s->failed_rank];
        p->out = 1;
        p->met = p->pending = 0;
    }
    s->failed_rank = -1;
    memset(&s->error, 0, sizeof s->error);
}

static int all_answered(const kvr_session *s) {
    for (uint32_t b = 0; b < s->chain.n_helpers; b++)
        if (!s->chain.peers[b].met && !s->chain.peers[b].out) return 0;
    return 1;
}

static kvr_status send_probe(kvr_session *s) {
    kvri_contact *t = &s->chain.contact;
    uint8_t bytes[KVRI_FRAME_HEADER + KVRI_PROBE_BYTES];
    const kvri_probe probe = {answer_bytes(s)};
    kvri_frame f;
    memset(&f, 0, sizeof f);
    f.kind = KVRI_FRAME_PROBE;
    f.session = s->chain.session;
    f.epoch = s->chain.epoch;
    f.rank = s->chain.n_helpers;
    f.first = t->probe;
    f.count = frames_wanted(t);
    f.payload_bytes = kvri_probe_put(&probe, bytes + KVRI_FRAME_HEADER);
    f.clock_us = t->sent_us = kvri_session_now(s);
    kvri_frame_seal(&f, bytes);
    return s->chain.link.send(s->chain.link.user, t->board, bytes, sizeof bytes);
}

kvr_status kvri_contact_answer(kvr_session *s, const kvri_frame *f) {
    kvri_contact *t = &s->chain.contact;
    const uint64_t now_us = kvri_session_now(s); /* not the poll's: several may have come since */
    if (s->phase != KVRI_PHASE_MEET || t->step == KVRI_CONTACT_HELLO) return KVR_OK; /* too late */
    if (f->rank != t->board || f->first != t->probe || f->payload_bytes != answer_bytes(s) || !t->is_sent ||
        t->got == frames_wanted(t))
        return KVR_ERR_FRAME;
    t->got++;
    t->end_us = now_us;
    if (t->got == frames_wanted(t) / 2) t->half_us = now_us;
    return KVR_OK;
}

/* From what has come, be it all or not. */
static void note_path(kvr_session *s, uint64_t now_us) {
    const kvri_contact *t = &s->chain.contact;
    kvri_path_seen *path = &s->chain.peers[t->board].path;
    const uint32_t half = frames_wanted(t) / 2;
    double bits = 8.0 * (KVRI_FRAME_HEADER + (double)answer_bytes(s)), us = (double)(now_us - t->sent_us);
    if (t->round_trip_us == 0) return; /* no answer at all: nothing is known */
    if (t->got > half) {
        bits *= t->got - half;
        us = (double)(t->end_us - t->half_us);
    } else if (t->got > 0) {
        bits *= t->got;
    }
    kvri_balance_changed(s);
    path->known = 1;
    path->latency_us = (double)t->round_trip_us / 2;
    path->mbit = us > 0 ? bits / us : MOST_MBIT;
    if (path->mbit > MOST_MBIT) path->mbit = MOST_MBIT;
    if (path->mbit < LEAST_MBIT) path->mbit = LEAST_MBIT;
}

/* All answers to a probe are here. */
static void next_step(kvr_session *s, uint64_t now_us) {
    kvri_contact *t = &s->chain.contact;
    if (t->step == KVRI_CONTACT_PING) {
        const uint64_t took_us = t->end_us > t->sent_us ? t->end_us - t->sent_us : 1;
        if (t->round_trip_us == 0 || took_us < t->round_trip_us) t->round_trip_us = took_us;
        enter(t, ++t->pings < PINGS ? KVRI_CONTACT_PING : KVRI_CONTACT_SHORT);
    } else if (t->step == KVRI_CONTACT_SHORT && t->end_us - t->sent_us < FAST_US) {
        enter(t, KVRI_CONTACT_LONG);
    } else {
        note_path(s, now_us);
        begin_board(s, t->board + 1, now_us);
    }
}

static kvr_status poll_paths(kvr_session *s, uint64_t now_us) {
    kvri_contact *t = &s->chain.contact;
    if (t->board == s->chain.n_helpers) return KVR_END;
    if (!t->is_sent) {
        const kvr_status sent = send_probe(s);
        if (sent == KVR_OK) t->is_sent = 1;
        if (sent < 0) t->begun_us = now_us - MOST_BOARD_US; /* this path is none */
    }
    if (t->is_sent && t->got == frames_wanted(t)) {
        next_step(s, now_us);
        return KVR_OK;
    }
    if (now_us - t->begun_us < within(s, MOST_BOARD_US)) return KVR_AGAIN;
    if (t->step != KVRI_CONTACT_PING && t->is_sent) note_path(s, now_us);
    begin_board(s, t->board + 1, now_us);
    return KVR_OK;
}

kvr_status kvri_contact_poll(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_contact *t = &c->contact;
    kvr_status status = kvri_lead_receive(s, now_us);
    if (status >= 0) {
        const kvr_status sent = kvri_lead_send(s, now_us);
        if (sent < 0) status = sent;
    }
    /* nobody to excuse: no longer than this */
    if (status < 0 && s->failed_rank < 0) t->begun_us = now_us - MOST_HELLO_US;
    if (status < 0) excuse(s);
    if (t->step == KVRI_CONTACT_HELLO) {
        if (!all_answered(s) && now_us - t->begun_us < within(s, MOST_HELLO_US))
            return status == KVR_OK ? KVR_OK : KVR_AGAIN;
        begin_board(s, 0, now_us);
    }
    const kvr_status step = poll_paths(s, now_us);
    if (step == KVR_END) c->state = KVRI_CHAIN_IDLE;
    return step == KVR_AGAIN && status == KVR_OK ? KVR_OK : step;
}

/* --- helper -------------------------------------------------------------------------------------------------- */

kvr_status kvri_contact_on_probe(kvr_session *s, const kvri_frame *f) {
    kvri_chain *c = &s->chain;
    kvri_probe probe;
    KVRI_TRY(kvri_probe_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &probe));
    const int at_rest = c->state == KVRI_CHAIN_IDLE || c->state == KVRI_CHAIN_DRAIN; /* or soon will be */
    if (!at_rest || f->count == 0 || f->count > KVRI_PROBE_FRAMES ||
        probe.answer_bytes > s->plan.frame_bytes - KVRI_FRAME_HEADER)
        return KVR_ERR_FRAME;
    c->probed.probe = f->first;
    c->probed.left = f->count;
    c->probed.bytes = probe.answer_bytes;
    c->peers[KVRI_SLOT_LEAD].pending |= KVRI_SEND_PROBED;
    return KVR_OK;
}

/* No job is under way, so a transmit buffer is free, or soon will be. */
kvr_status kvri_contact_send_probed(kvr_session *s) {
    kvri_chain *c = &s->chain;
    uint8_t *bytes = s->parts.tx[0];
    if (c->state == KVRI_CHAIN_DRAIN) return KVR_AGAIN;
    if (c->state != KVRI_CHAIN_IDLE) return KVR_OK; /* a job came instead: the lead no longer asks */
    memset(bytes + KVRI_FRAME_HEADER, 0, c->probed.bytes);
    for (; c->probed.left > 0; c->probed.left--) {
        kvri_frame f;
        memset(&f, 0, sizeof f);
        f.kind = KVRI_FRAME_PROBE;
        f.session = c->session;
        f.epoch = c->epoch;
        f.rank = c->hello_rank;
        f.first = c->probed.probe;
        f.count = c->probed.left;
        f.payload_bytes = c->probed.bytes;
        f.clock_us = kvri_session_now(s);
        kvri_frame_seal(&f, bytes);
        KVRI_TRY(c->link.send(c->link.user, KVRI_SLOT_LEAD, bytes, (size_t)KVRI_FRAME_HEADER + f.payload_bytes));
    }
    return KVR_OK;
}
