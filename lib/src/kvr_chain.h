/*
 * kvr_chain.h - internal: who is in the chain and what each board is doing. The lead says HELLO, hands out the JOB,
 * says GO when all boards have theirs, and watches; helpers answer with STATUS. Keys and values: kvr_handover.
 */
#ifndef KVR_CHAIN_H
#define KVR_CHAIN_H

#include "kvr_balance.h"
#include "kvr_contact.h"
#include "kvr_handover.h"

typedef enum kvri_role { KVRI_ALONE = 0, KVRI_LEAD = 1, KVRI_HELPER = 2 } kvri_role;

typedef enum kvri_chain_state {
    KVRI_CHAIN_IDLE = 0, /* no job; a helper may or may not have met a lead */
    KVRI_CHAIN_HELLO,    /* lead: until all boards have answered */
    KVRI_CHAIN_JOB,      /* lead: until all boards are ready */
    KVRI_CHAIN_READY,    /* helper: job accepted, waits for GO */
    KVRI_CHAIN_RUN,      /* keys and values travel */
    KVRI_CHAIN_DRAIN     /* helper: job dropped, device reads still under way */
} kvri_chain_state;

/* Frames that wait to be sent to a peer, sent lowest bit first. */
enum {
    KVRI_SEND_BYE = 1,
    KVRI_SEND_ABORT = 2,
    KVRI_SEND_HELLO = 4,
    KVRI_SEND_JOB = 8,
    KVRI_SEND_GO = 16,
    KVRI_SEND_READY = 32,
    KVRI_SEND_ALIVE = 64,
    KVRI_SEND_DONE = 128,
    KVRI_SEND_FAILED = 256,
    KVRI_SEND_SPANS = 512,
    KVRI_SEND_PROBED = 1024
};

/* One board as another sees it. */
typedef struct kvri_peer {
    uint32_t pending; /* KVRI_SEND_ bits */
    uint32_t met, ready, done;
    uint32_t absent; /* lead: lost, and not heard of since: asked, but not waited for */
    uint32_t missed; /* lead: lost, and in no job since: worth an event when it takes part again */
    uint32_t out;    /* lead: left out of this question */
    uint32_t progress;
    uint64_t seen_us;
    uint64_t beat_us; /* when a sign of life was last sent to it */
    kvri_hello hello;
    kvri_promise promise; /* lead */
    kvri_path_seen path;  /* lead */
    /* helper: the last frame of its lead, by the lead's clock and by ours */
    uint64_t echo_us, heard_us;
    /* lead: of the exchanges with the board the shortest round trip, 0 = none yet; its clock minus ours then */
    uint64_t round_trip_us;
    int64_t offset_us;
    kvri_spans spans; /* lead: what it says of its spans, once spans_known */
    uint32_t spans_known, spans_got, spans_kept;
} kvri_peer;

typedef struct kvri_chain {
    kvr_link link;
    int linked;
    kvri_role role;
    kvri_chain_state state;
    uint64_t session;
    uint32_t epoch;
    uint32_t hello_epoch; /* lead: the epoch this job's HELLO was sent under */
    uint32_t n_helpers; /* lead: boards given; a job may use fewer */
    uint32_t n_used;    /* lead: helpers in this job, ranks 0..n_used-1; until they are known, those that are asked */
    uint32_t board_at[KVR_MAX_BOARDS]; /* lead: the board (slot of the link, index of peers) of each rank */
    uint32_t n_asked;                  /* lead: boards 0..n_asked-1 are wanted for this question */
    uint32_t share[KVR_MAX_BOARDS];    /* lead: tokens that the question gave each of them, then the lead */
    uint32_t on_loss;                  /* lead: kvr_on_board_loss */
    int is_planned;                    /* lead: share is only what to fall back to; the boards' profiles say the cut */
    kvri_promise own;                  /* lead: of this board */
    kvri_kept_cut kept;                /* lead */
    kvri_contact contact;              /* lead: first contact */
    kvri_probed probed;                /* helper: what a lead's probe still wants */
    uint32_t hello_rank;               /* helper: the number that the lead's HELLO gave it, by which it answers HELLO
                                        * and PROBE; of a job it speaks under the job's rank */
    uint64_t lost_news, back_news;     /* lead: bit per board, until poll has told it; KVRI_NEWS_ALL: all are left
                                        * out */
    uint64_t gathered_us;              /* lead: when all that are waited for had answered; 0 = not yet */
    char own_address[KVR_ADDRESS_CAP];
    kvri_peer peers[KVR_MAX_BOARDS]; /* lead: helpers as given; helper: KVRI_SLOT_LEAD */
    uint64_t since_us;       /* state entered */
    uint64_t moved_us;       /* last sign of progress: lead: from anywhere; helper: its own */
    uint32_t full_polls;     /* polls in a row that did not empty the inbox */
    uint32_t traced;         /* helper: the lead wants the spans of this job */
    uint32_t spans_sent;     /* helper: so many */
    kvri_report report;      /* helper: last failure, until it is sent */
    kvri_frame held;         /* helper: a JOB that lies in the receive buffer until the one before is drained; its epoch
                              * and rank are in force, for signs of life */
    int holds;
    int holds_kv;            /* helper: the same of a KV frame, until its layer has a place in the window */
    /* helper: what to tell a lead that was turned away, until its link takes it; a later one replaces it */
    struct {
        kvr_status status; /* KVR_OK = nothing to tell */
        uint64_t session;
        uint32_t epoch, rank;
    } refusal;
    uint64_t refused; /* frames since open that were of no use */
    int told_damage;
    kvri_handover handover;
} kvri_chain;

#define KVRI_NEWS_ALL (1ull << 63) /* boards are 0..62 */

struct kvr_session;

/* Lead: asks all boards of the question that are not out; again: because one was lost meanwhile. Who answers gets a
 * job; tokens are in the session. */
void kvri_lead_begin(struct kvr_session *s, uint64_t now_us, int again);
/* Lead: reads what has come / sends what is due, outside of a question too. As kvri_lead_poll. */
kvr_status kvri_lead_receive(struct kvr_session *s, uint64_t now_us);
kvr_status kvri_lead_send(struct kvr_session *s, uint64_t now_us);
/* Lead: how many boards of the question are not out. */
uint32_t kvri_lead_left(const struct kvr_session *s);
/* Lead: after a failure, 1 when the question can go on without those to blame; they are out then. */
int kvri_lead_shrink(struct kvr_session *s, kvr_status status);
/* Lead: 1 while it waits a moment for boards that were lost before. */
int kvri_lead_probes(const struct kvr_session *s);
/* The board of a rank. */
const kvri_peer *kvri_lead_peer(const struct kvr_session *s, uint32_t rank);
/* Lead: reads frames, sends what is due, watches the clocks. KVR_OK: something happened, KVR_AGAIN: not. Negative: the
 * job failed; session error and failed_rank are set. */
kvr_status kvri_lead_poll(struct kvr_session *s, uint64_t now_us);
/* Lead: 1 when the spans of all boards are here, or nobody wants any. */
int kvri_lead_has_spans(const struct kvr_session *s);
/* Lead: tells the boards of a job that it is off / that the lead leaves. */
void kvri_lead_abort(struct kvr_session *s);
void kvri_lead_bye(struct kvr_session *s);

/* Helper: the same, plus its part of the forward pass. A failed job is reported, not returned. */
kvr_status kvri_helper_poll(struct kvr_session *s, uint64_t now_us);
/* Helper: gives up the job under way, if any, and tells the lead. The chain is idle or drains afterwards. */
void kvri_helper_leave(struct kvr_session *s, uint64_t now_us);

/* Shared by both: one frame out of the inbox, opened. KVR_OK, KVR_AGAIN: none, KVR_ERR_FRAME: damaged and counted,
 * KVR_ERR_PEER_WIRE: another version (header only), KVR_ERR_LINK. */
kvr_status kvri_chain_receive(struct kvr_session *s, kvri_frame *out, size_t *out_bytes);
/* Counts a frame that is of no use. */
void kvri_chain_refuse(struct kvr_session *s);
/* Sends a frame whose payload was put behind the header in bytes. */
kvr_status kvri_chain_send(struct kvr_session *s, uint32_t peer, kvri_frame_kind kind, uint32_t rank, uint8_t *bytes,
                           uint32_t payload_bytes);
/* 1: time to look at the clocks. With frames still in the inbox it is too early (we may have been away, and the sign of
 * life we miss may be among them), unless somebody never lets it run empty. */
int kvri_chain_clocks_due(struct kvr_session *s, kvr_status received);
/* How often boards give a sign of life. */
uint64_t kvri_chain_beat_us(const struct kvr_session *s);
kvri_hello kvri_chain_hello(const struct kvr_session *s);
/* What makes two boards unfit for one chain; KVR_OK when they fit. */
kvr_status kvri_chain_compare(const kvri_hello *ours, const kvri_hello *theirs);
kvri_handover_env kvri_chain_env(struct kvr_session *s, uint64_t now_us);

#endif
