/* The lead: gathers the boards, hands out the job, watches until the last piece is here. */
#include "kvr_chain.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_session_state.h"

#include <string.h>

#define MODULE "chain"
#define FRAMES_PER_POLL 16u
#define PROBE_PART 64u /* of the timeout: the longest that boards which were lost before are waited for */
#define LEAST_PROBE_US 1000u
#define MOST_EPOCHS_AHEAD (UINT32_C(1) << 20) /* of a board's jobs; more is a lie */

static kvr_status board_failed(kvr_session *s, uint32_t board, kvr_status status, const char *text,
                               const char *detail) {
    if (s->error.status == KVR_OK) s->failed_rank = (int32_t)board;
    return kvri_fail_s(&s->error, status, MODULE, text, detail, strlen(detail));
}

static const char *address_of(const kvr_session *s, uint32_t board) {
    return s->parts.addresses + (size_t)board * KVR_ADDRESS_CAP;
}

static kvri_peer *peer_of(kvr_session *s, uint32_t rank) { return &s->chain.peers[s->chain.board_at[rank]]; }

const kvri_peer *kvri_lead_peer(const kvr_session *s, uint32_t rank) {
    return &s->chain.peers[s->chain.board_at[rank]];
}

static void enter(kvr_session *s, kvri_chain_state state, uint64_t now_us) {
    s->chain.state = state;
    s->chain.since_us = s->chain.moved_us = now_us;
    for (uint32_t r = 0; r < s->chain.n_used; r++) peer_of(s, r)->seen_us = peer_of(s, r)->beat_us = now_us;
}

void kvri_lead_begin(kvr_session *s, uint64_t now_us, int again) {
    kvri_chain *c = &s->chain;
    uint64_t heard_us[KVR_MAX_BOARDS] = {0};
    kvri_handover *h = &c->handover;
    c->n_used = 0;
    for (uint32_t b = 0; b < c->n_asked; b++)
        if (!c->peers[b].out) c->board_at[c->n_used++] = b;
    c->gathered_us = 0;
    for (uint32_t r = 0; r < c->n_used; r++) heard_us[r] = peer_of(s, r)->seen_us;
    c->epoch++;
    c->hello_epoch = c->epoch;
    h->rank = c->n_used;
    h->next_slot = 0;
    h->next_window = 0;
    h->session = c->session;
    h->epoch = c->epoch;
    kvri_handover_begin(h, &s->parts, s->model->info.n_layers);
    for (uint32_t r = 0; r < c->n_used; r++) {
        kvri_peer *p = peer_of(s, r);
        /* a link may have given the connection up; when that fails again, the board does not answer */
        c->link.connect(c->link.user, c->board_at[r], address_of(s, c->board_at[r]));
        /* hello before every job: since the last one the board may have been restarted, or met another lead */
        p->pending = (p->pending & (uint32_t)KVRI_SEND_ABORT) | (uint32_t)KVRI_SEND_HELLO;
        p->met = p->ready = p->done = p->progress = 0;
        p->round_trip_us = 0;
        p->offset_us = 0;
        p->spans_known = p->spans_got = p->spans_kept = 0;
    }
    enter(s, KVRI_CHAIN_HELLO, now_us);
    for (uint32_t r = 0; r < c->n_used; r++) {
        /* who was silent while another board was lost has used up part of its time, but gets enough for an answer */
        const uint64_t least_us = now_us - (uint64_t)s->plan.peer_timeout_ms * 1000u / 4u * 3u;
        if (again) peer_of(s, r)->seen_us = heard_us[r] > least_us ? heard_us[r] : least_us;
    }
}

/* --- out ----------------------------------------------------------------------------------------------------- */

/* A JOB is long, but is sent only before any keys and values leave, so a transmit buffer is free for it. */
static kvr_status send_one(kvr_session *s, uint32_t rank, uint32_t what) {
    kvri_chain *c = &s->chain;
    const uint32_t board = c->board_at[rank];
    const kvri_partition *p = &c->handover.partition;
    uint8_t small[KVRI_FRAME_HEADER + KVRI_REPORT_BYTES > KVRI_FRAME_HEADER + KVRI_HELLO_MOST
                      ? KVRI_FRAME_HEADER + KVRI_REPORT_BYTES
                      : KVRI_FRAME_HEADER + KVRI_HELLO_MOST];
    uint8_t *bytes = what == KVRI_SEND_JOB ? s->parts.tx[0] : small;
    uint8_t *payload = bytes + KVRI_FRAME_HEADER;
    kvri_frame_kind kind = KVRI_FRAME_ABORT;
    uint32_t n = 0;
    if (what == KVRI_SEND_BYE) kind = KVRI_FRAME_BYE;
    if (what == KVRI_SEND_GO) kind = KVRI_FRAME_GO;
    if (what == KVRI_SEND_HELLO) {
        kvri_hello hello = kvri_chain_hello(s);
        kind = KVRI_FRAME_HELLO;
        memcpy(hello.address, c->own_address, sizeof hello.address);
        n = kvri_hello_put(&hello, payload);
    }
    if (what == KVRI_SEND_ALIVE) {
        kvri_report alive;
        memset(&alive, 0, sizeof alive);
        kind = KVRI_FRAME_STATUS;
        alive.stage = KVRI_STAGE_WORKING;
        n = kvri_report_put(&alive, payload);
    }
    if (what == KVRI_SEND_JOB) {
        const uint32_t first = p->cut[rank], count = p->cut[rank + 1] - first;
        const char *next = rank + 1 == c->n_used ? c->own_address : address_of(s, c->board_at[rank + 1]);
        const uint32_t next_window = rank + 1 == c->n_used ? 0 : peer_of(s, rank + 1)->hello.kv_window;
        const uint32_t flags = (s->trace.cap > 0 ? KVRI_JOB_TRACED : 0) | (c->handover.ring ? KVRI_JOB_RING : 0) |
                               (s->square ? KVRI_JOB_SQUARE : 0);
        kind = KVRI_FRAME_JOB;
        n = kvri_job_put(rank, p->n_boards, flags, next_window, next, p->cut, s->parts.tokens + first, count, payload);
    }
    /* HELLO tells a board by which number it answers until a JOB gives it a rank; all else carries the lead's */
    return kvri_chain_send(s, board, kind, kind == KVRI_FRAME_HELLO ? board : c->n_used, bytes, n);
}

/* What waits for one board. AGAIN: the link has no room now; negative: the link failed. */
static kvr_status send_to(kvr_session *s, uint32_t rank) {
    kvri_peer *p = peer_of(s, rank);
    while (p->pending != 0) {
        const uint32_t what = p->pending & (~p->pending + 1u); /* the lowest bit */
        KVRI_TRY(send_one(s, rank, what));
        p->pending &= ~what;
    }
    return KVR_OK;
}

kvr_status kvri_lead_send(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    for (uint32_t r = 0; r < c->n_used; r++) {
        kvri_peer *p = peer_of(s, r);
        /* a board that has its job waits for the slowest to take theirs: it must not give us up meanwhile */
        const int waits = (c->state == KVRI_CHAIN_RUN && !p->done) || (c->state == KVRI_CHAIN_JOB && p->ready);
        if (waits && now_us - p->beat_us >= kvri_chain_beat_us(s)) {
            p->pending |= KVRI_SEND_ALIVE;
            p->beat_us = now_us;
        }
        const kvr_status status = send_to(s, r);
        const uint32_t board = c->board_at[r];
        if (status < 0) return board_failed(s, board, status, "cannot send to the board at", address_of(s, board));
    }
    return KVR_OK;
}

/* Best effort, board by board: one that does not hear it runs into its own timeout. */
static void take_leave(kvr_session *s, uint32_t what) {
    kvri_chain *c = &s->chain;
    c->state = KVRI_CHAIN_IDLE;
    for (uint32_t r = 0; r < c->n_used; r++) {
        kvri_peer *p = peer_of(s, r);
        p->pending = p->met ? what : 0;
        p->met = 0;
        send_to(s, r);
    }
}

void kvri_lead_abort(kvr_session *s) {
    kvri_chain *c = &s->chain;
    if (c->role == KVRI_LEAD && c->state != KVRI_CHAIN_IDLE) take_leave(s, KVRI_SEND_ABORT);
}

void kvri_lead_bye(kvr_session *s) {
    kvri_chain *c = &s->chain;
    for (c->n_used = 0; c->n_used < c->n_helpers; c->n_used++) c->board_at[c->n_used] = c->n_used;
    take_leave(s, KVRI_SEND_BYE);
}

/* --- in ------------------------------------------------------------------------------------------------------ */

static const char same_model[] = "give all boards the same model file (or all --emulate); another one:";
static const char same_kv[] = "start all boards with the same types of keys and values (cached, on the wire) and "
                              "frame_tokens; others:";

static kvr_status on_hello(kvr_session *s, const kvri_frame *f, uint32_t board) {
    kvri_chain *c = &s->chain;
    kvri_peer *p = &c->peers[board];
    const kvri_hello ours = kvri_chain_hello(s);
    const uint32_t was_absent = p->absent;
    p->absent = 0; /* whatever it answers to: it lives, and is waited for the next time */
    if (c->state != KVRI_CHAIN_HELLO) return was_absent ? KVR_OK : KVR_ERR_FRAME; /* of an older question */
    if (p->out || board >= c->n_asked) return KVR_OK;
    if (f->epoch >= c->epoch && (f->epoch - c->epoch > MOST_EPOCHS_AHEAD || f->epoch > UINT32_MAX / 2))
        return KVR_ERR_FRAME; /* numbers are never used up, and no honest board is ahead of them */
    const kvri_hello before = p->hello;
    KVRI_TRY(kvri_hello_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &p->hello));
    const int same_speed = kvri_speed_equal(&before.speed, &p->hello.speed);
    if (!same_speed) memset(&p->promise, 0, sizeof p->promise);
    if (!same_speed || before.ctx_tokens != p->hello.ctx_tokens || before.chunk_tokens != p->hello.chunk_tokens ||
        before.max_boards != p->hello.max_boards)
        kvri_balance_changed(s);
    switch ((int)kvri_chain_compare(&ours, &p->hello)) {
    case KVR_ERR_PEER_MODEL:
        return board_failed(s, board, KVR_ERR_PEER_MODEL, same_model, address_of(s, board));
    case KVR_ERR_PEER_KV: return board_failed(s, board, KVR_ERR_PEER_KV, same_kv, address_of(s, board));
    default: break;
    }
    p->met = 1;
    if (p->missed) c->back_news |= 1ull << board;
    p->missed = 0;
    /* A board takes only jobs of a higher number than its last. It knows a higher one than we do when this lead was
     * restarted at the same uptime, as boards without a clock of their own may be. */
    if (f->epoch >= c->epoch) c->epoch = c->handover.epoch = f->epoch + 1;
    return KVR_OK;
}

/* What a board may give as its reason; anything else it says is a failure of its own. */
static kvr_status reason_of(const kvri_report *report) {
    switch (report->status) {
    case KVR_ERR_PEER_WIRE:
    case KVR_ERR_PEER_MODEL:
    case KVR_ERR_PEER_KV:
    case KVR_ERR_PEER_CTX:
    case KVR_ERR_PEER_BUSY: return (kvr_status)report->status;
    default: return KVR_ERR_PEER_FAILED;
    }
}

/* What ends the refusal, and whose words follow. */
static const char *advice_on(kvr_status reason) {
    switch ((int)reason) {
    case KVR_ERR_PEER_WIRE: return "give all boards the same version of kvr; one refused to take part:";
    case KVR_ERR_PEER_MODEL: return same_model;
    case KVR_ERR_PEER_KV: return same_kv;
    case KVR_ERR_PEER_CTX: return "start that board with a larger context; it refused to take part:";
    default: return "a board refused to take part:";
    }
}

/* How far the board's clock is ahead of ours: it heard our frame of echo_us at heard_us and sent this one at clock_us;
 * both ways are taken to be as long. The shortest round trip errs the least. */
static void sample_clock(kvri_peer *p, const kvri_report *r, uint64_t clock_us, uint64_t now_us) {
    const uint64_t away_us = now_us - r->echo_us, there_us = clock_us - r->heard_us;
    if (r->echo_us == 0 || r->echo_us > now_us || r->heard_us > clock_us || there_us > away_us) return;
    if (p->round_trip_us != 0 && away_us - there_us >= p->round_trip_us) return;
    p->round_trip_us = away_us - there_us > 0 ? away_us - there_us : 1;
    p->offset_us = (int64_t)((r->heard_us - r->echo_us) + (clock_us - now_us)) / 2;
}

static kvr_status on_status(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_report report;
    KVRI_TRY(kvri_report_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &report));
    const int refused = report.stage == KVRI_STAGE_REFUSED;
    if (f->rank >= (refused ? s->chain.n_helpers : s->chain.n_used)) return KVR_ERR_FRAME;
    const uint32_t board = refused ? f->rank : s->chain.board_at[f->rank]; /* a refusal answers a HELLO */
    kvri_peer *p = &s->chain.peers[board];
    /* what is left of an older job, or the second refusal of an older question */
    if (refused ? f->epoch < s->chain.hello_epoch : f->epoch != s->chain.epoch) return KVR_ERR_FRAME;
    if (refused && p->out) return KVR_OK;
    if (!refused && s->chain.state == KVRI_CHAIN_HELLO) return KVR_ERR_FRAME; /* it has no job yet to tell of */
    p->seen_us = now_us;
    sample_clock(p, &report, f->clock_us, now_us);
    if (report.progress != p->progress) s->chain.moved_us = now_us;
    p->progress = report.progress;
    switch (report.stage) {
    case KVRI_STAGE_READY: p->ready = 1; return KVR_OK;
    case KVRI_STAGE_WORKING: return KVR_OK;
    case KVRI_STAGE_DONE:
        p->done = 1;
        p->promise.took_us = report.compute_us;
        return KVR_OK;
    case KVRI_STAGE_REFUSED:
    case KVRI_STAGE_FAILED: break;
    default: return KVR_ERR_FRAME;
    }
    s->failed_rank = (int32_t)board;
    p->met = 0;
    /* the board's own words go into the detail; the list gives the cause's text */
    if (!refused)
        return kvri_fail_s(&s->error, KVR_ERR_PEER_FAILED, MODULE, "a board failed:", report.text, strlen(report.text));
    const kvr_status reason = reason_of(&report);
    return kvri_fail_s(&s->error, reason, MODULE, advice_on(reason), report.text, strlen(report.text));
}

/* A board's clock to ours. */
static uint64_t our_time(const kvr_session *s, uint32_t rank, uint64_t their_us) {
    return rank < s->chain.n_used ? their_us - (uint64_t)kvri_lead_peer(s, rank)->offset_us : their_us;
}

static void place_span(kvr_session *s, kvr_span *span) {
    /* rank 0's is the lead, in a ring */
    const uint32_t before = (span->rank > 0 ? span->rank : s->chain.n_used + 1) - 1;
    const uint32_t sender = span->kind == KVR_SPAN_TRANSFER ? before : span->rank;
    span->from_us = our_time(s, sender, span->from_us);
    span->to_us = our_time(s, span->rank, span->to_us);
    /* clocks are not that exact, and what a board says may be anything */
    span->to_us = kvri_min(span->to_us, kvri_session_now(s));
    span->from_us = kvri_min(span->from_us, span->to_us);
}

/* In order and each once, as the link promises, or the board's timeline stays incomplete. */
static kvr_status on_spans(kvr_session *s, const kvri_frame *f) {
    kvri_peer *p = peer_of(s, f->rank);
    const uint8_t *payload = s->parts.rx + KVRI_FRAME_HEADER;
    kvri_spans head;
    if (f->epoch != s->chain.epoch || s->trace.cap == 0 || f->first != p->spans_got) return KVR_ERR_FRAME;
    KVRI_TRY(kvri_spans_get(payload, f->payload_bytes, f->count, &head));
    if (f->count > head.total || f->first > head.total - f->count || (f->count == 0 && head.total != 0))
        return KVR_ERR_FRAME;
    for (uint32_t i = 0; i < f->count; i++) {
        kvr_span span;
        KVRI_TRY(kvri_span_get(payload, i, &span));
        if (span.layer > s->model->info.n_layers) return KVR_ERR_FRAME;
        span.rank = (uint8_t)f->rank;
        place_span(s, &span);
        if (kvri_trace_put(&s->trace, &span)) p->spans_kept++;
    }
    p->spans = head;
    p->spans_got += f->count;
    p->spans_known = p->spans_got == head.total;
    return KVR_OK;
}

int kvri_lead_has_spans(const kvr_session *s) {
    if (s->trace.cap == 0) return 1;
    for (uint32_t r = 0; r < s->chain.n_used; r++)
        if (!kvri_lead_peer(s, r)->spans_known) return 0;
    return 1;
}

/* In a ring the lead passes on to rank 0. */
static kvr_status next_failed(kvr_session *s, kvr_status status) {
    const uint32_t board = s->chain.board_at[0];
    return board_failed(s, board, status, "cannot send to the board at", address_of(s, board));
}

/* Of a job that is over: what a board took for it, a last sign of life. */
static kvr_status on_tail(kvr_session *s, const kvri_frame *f) {
    kvri_report report;
    if (f->epoch != s->chain.epoch || f->rank >= s->chain.n_used) return KVR_OK;
    KVRI_TRY(kvri_report_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &report));
    if (report.stage == KVRI_STAGE_DONE) peer_of(s, f->rank)->promise.took_us = report.compute_us;
    return KVR_OK;
}

static kvr_status on_frame(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    if (f->session != c->session || f->rank >= c->n_helpers) return KVR_ERR_FRAME;
    if (f->kind == KVRI_FRAME_HELLO) return on_hello(s, f, f->rank);
    if (f->kind == KVRI_FRAME_SPANS) return f->rank < c->n_used ? on_spans(s, f) : KVR_ERR_FRAME;
    if (f->kind == KVRI_FRAME_PROBE) return kvri_contact_answer(s, f);
    if (c->state == KVRI_CHAIN_IDLE) return f->kind == KVRI_FRAME_STATUS ? on_tail(s, f) : KVR_OK;
    switch (f->kind) {
    case KVRI_FRAME_STATUS: return on_status(s, f, now_us);
    case KVRI_FRAME_KV: {
        const kvri_handover_env env = kvri_chain_env(s, now_us);
        if (f->epoch != c->epoch || f->rank >= c->n_used || (c->state != KVRI_CHAIN_JOB && c->state != KVRI_CHAIN_RUN))
            return KVR_ERR_FRAME;
        peer_of(s, f->rank)->seen_us = now_us;
        kvri_frame kv = *f;
        kv.clock_us = kvri_min(our_time(s, f->rank, f->clock_us), now_us); /* clocks are not that exact */
        const kvr_status status = kvri_handover_accept(&c->handover, &env, &kv, s->parts.rx);
        if (status == KVR_OK) c->moved_us = now_us; /* copies and nonsense are no progress */
        if (status == KVR_OK || status == KVR_ERR_FRAME) return status;
        if (status == KVR_ERR_LINK) return next_failed(s, status);
        return kvri_session_device_failed(s, status);
    }
    default: return KVR_ERR_FRAME;
    }
}

/* A frame of another version does not tell its sender. The board that has not answered, -1 when several. */
static int32_t only_one_missing(const kvr_session *s) {
    int32_t missing = -1;
    for (uint32_t r = 0; r < s->chain.n_used; r++) {
        if (kvri_lead_peer(s, r)->met) continue;
        if (missing >= 0) return -1;
        missing = (int32_t)s->chain.board_at[r];
    }
    return missing;
}

kvr_status kvri_lead_receive(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvr_status result = KVR_AGAIN;
    for (uint32_t i = 0; i < FRAMES_PER_POLL; i++) {
        kvri_frame f;
        size_t n;
        kvr_status status = kvri_chain_receive(s, &f, &n);
        if (status == KVR_AGAIN) break;
        if (status == KVR_ERR_PEER_WIRE && c->state == KVRI_CHAIN_HELLO) {
            s->failed_rank = only_one_missing(s);
            return kvri_fail_n(&s->error, KVR_ERR_PEER_WIRE, MODULE, "install the same version of kvr on all boards",
                               KVRI_WIRE_VERSION, f.version);
        }
        if (status < 0 && status != KVR_ERR_FRAME && status != KVR_ERR_PEER_WIRE) {
            if (c->state == KVRI_CHAIN_IDLE) break; /* everything is here: the answer needs no link */
            return kvri_fail(&s->error, status, MODULE, "the link failed while receiving");
        }
        result = KVR_OK;
        if (status != KVR_OK) continue;
        status = on_frame(s, &f, now_us);
        if (status == KVR_ERR_FRAME) kvri_chain_refuse(s);
        else if (status < 0) return status;
    }
    return result;
}

/* --- states -------------------------------------------------------------------------------------------------- */

static kvr_status check_limits(kvr_session *s) {
    kvri_chain *c = &s->chain;
    const kvri_partition *p = &c->handover.partition;
    for (uint32_t r = 0; r < c->n_used; r++) {
        const kvri_hello *h = &peer_of(s, r)->hello;
        const uint32_t end = c->handover.ring ? p->cut[p->n_boards] : p->cut[r + 1], board = c->board_at[r];
        if (c->handover.ring && h->kv_window != 0)
            return board_failed(s, board, KVR_ERR_PEER_CTX,
                                "TSP wants all layers' keys and values; --kv-window is given at", address_of(s, board));
        if (c->handover.ring && s->model->traits.window != 0 && h->chunk_tokens < h->ctx_tokens)
            return board_failed(
                s, board, KVR_ERR_PEER_CTX,
                "TSP wants the keys of all tokens, windows or not: chunk_tokens of ctx_tokens at the board",
                address_of(s, board));
        if (end > h->ctx_tokens || p->cut[r + 1] - p->cut[r] > h->chunk_tokens || p->n_boards > h->max_boards)
            return board_failed(s, board, KVR_ERR_PEER_CTX,
                                "start the board with a larger context (and chunk, boards):", address_of(s, board));
    }
    return KVR_OK;
}

/* All boards whose time is over are out; the first of them gives its name to the failure. */
static kvr_status check_boards(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    const uint64_t limit = (uint64_t)s->plan.peer_timeout_ms * 1000u;
    const uint64_t stall = (uint64_t)s->plan.stall_timeout_ms * 1000u;
    kvr_status result = KVR_OK;
    for (uint32_t r = 0; r < c->n_used; r++) {
        kvri_peer *p = peer_of(s, r);
        const int runs = c->state == KVRI_CHAIN_RUN;
        const uint32_t answered = runs ? p->done : c->state == KVRI_CHAIN_JOB ? p->ready : p->met | p->absent;
        /* a board that is not ready may say that it lives: its device still works on what it was taken off */
        const int stalls = c->state == KVRI_CHAIN_JOB && now_us - c->since_us > stall;
        if (answered || (now_us - p->seen_us <= limit && !stalls)) continue;
        const uint32_t board = c->board_at[r];
        result = runs ? board_failed(s, board, KVR_ERR_PEER_LOST,
                                     "no sign of life within the timeout from the board at", address_of(s, board))
                      : board_failed(s, board, KVR_ERR_TIMEOUT, "a board does not answer: is `kvr board` running at",
                                     address_of(s, board));
        p->out = p->absent = p->missed = 1;
        c->lost_news |= 1ull << board;
    }
    return result;
}

static kvr_status check_clocks(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    if (c->state == KVRI_CHAIN_IDLE) return KVR_OK; /* nobody is waited for */
    KVRI_TRY(check_boards(s, now_us));
    if (c->state == KVRI_CHAIN_RUN && now_us - c->moved_us > (uint64_t)s->plan.stall_timeout_ms * 1000u)
        return kvri_fail_n(
            &s->error, KVR_ERR_TIMEOUT, MODULE,
            "keys and values stopped arriving; wanted = tokens per layer, has = frames dropped as damaged",
            c->handover.partition.cut[c->n_used], c->handover.frames_dropped);
    return KVR_OK;
}

static int all_ready(const kvr_session *s) {
    for (uint32_t r = 0; r < s->chain.n_used; r++)
        if (!kvri_lead_peer(s, r)->ready) return 0;
    return 1;
}

/* Whether the boards to come are known: all that are waited for have answered, and those that were lost before had as
 * long again for it, but only a small part of the timeout: a board that is up needs a round trip. */
static int all_answered(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    uint32_t n_met = 0, n_absent = 0;
    for (uint32_t r = 0; r < c->n_used; r++) {
        const kvri_peer *p = peer_of(s, r);
        if (!p->met && !p->absent) return 0;
        n_met += p->met;
        n_absent += !p->met;
    }
    if (n_absent == 0) return 1;
    if (c->gathered_us == 0) c->gathered_us = now_us;
    const uint64_t most_us = (uint64_t)s->plan.peer_timeout_ms * 1000u / PROBE_PART;
    const uint64_t as_long_us = c->gathered_us - c->since_us + LEAST_PROBE_US;
    return now_us - c->gathered_us >= (n_met > 0 ? kvri_min(as_long_us, most_us) : most_us);
}

int kvri_lead_probes(const kvr_session *s) {
    if (s->chain.state != KVRI_CHAIN_HELLO) return 0;
    for (uint32_t r = 0; r < s->chain.n_used; r++)
        if (kvri_lead_peer(s, r)->absent) return 1;
    return 0;
}

/* Leaves out the boards without tokens. Returns how many helpers are left. */
static uint32_t take_cut(kvr_session *s, uint32_t n, uint32_t *sizes) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (sizes[i] == 0) continue;
        s->chain.board_at[used] = s->chain.board_at[i];
        sizes[used++] = sizes[i];
    }
    sizes[used] = sizes[n];
    return used;
}

/* Gives the ranks to the boards that answered, in their order, and cuts the prompt over them and us. */
static kvr_status form(kvr_session *s) {
    kvri_chain *c = &s->chain;
    uint32_t weights[KVR_MAX_BOARDS], limits[KVR_MAX_BOARDS], sizes[KVR_MAX_BOARDS], n = 0;
    int is_cut = 0;
    for (uint32_t r = 0; r < c->n_used; r++) {
        const uint32_t b = c->board_at[r];
        if (!c->peers[b].met) continue;
        c->board_at[n] = b;
        weights[n] = c->share[b];
        limits[n++] = c->peers[b].hello.chunk_tokens;
    }
    weights[n] = c->share[c->n_asked];
    limits[n] = s->plan.chunk_tokens;
    kvri_balance_learn(s); /* what came since the question was put */
    if (s->strategy == KVR_STRATEGY_CHAIN && (c->is_planned || n == c->n_asked))
        is_cut = kvri_balance_cut(s, c->board_at, n, c->is_planned ? NULL : c->share, sizes);
    if (is_cut) kvri_balance_forgive(s, c->board_at, n, sizes);
    c->n_used = n = is_cut ? take_cut(s, n, sizes) : n;
    c->handover.next_slot = n > 0 ? c->board_at[0] : 0; /* of a ring */
    if (!is_cut && n == c->n_asked) memcpy(sizes, c->share, (n + 1) * sizeof *sizes); /* as asked for, or even */
    else if (!is_cut && kvri_partition_share(s->n_prompt, weights, limits, n + 1, sizes) != KVR_OK)
        return kvri_fail_n(
            &s->error, KVR_ERR_PARTITION, MODULE,
            "the boards that are left do not hold the prompt: raise chunk_tokens; wanted = tokens, has = boards",
            s->n_prompt, n + 1);
    return kvri_session_begin_chunk(s, n + 1, sizes);
}

/* --- boards that are left ------------------------------------------------------------------------------------ */

uint32_t kvri_lead_left(const kvr_session *s) {
    uint32_t n = 0;
    for (uint32_t b = 0; b < s->chain.n_asked; b++) n += !s->chain.peers[b].out;
    return n;
}

int kvri_lead_shrink(kvr_session *s, kvr_status status) {
    kvri_chain *c = &s->chain;
    /* busy: perhaps with the job of a lead that has given it up, which a board that was away finds out when it is
     * asked */
    const int lost = status == KVR_ERR_PEER_LOST || status == KVR_ERR_TIMEOUT || status == KVR_ERR_PEER_FAILED ||
                     status == KVR_ERR_PEER_BUSY || (status == KVR_ERR_LINK && s->failed_rank >= 0);
    /* a board that has come back as another one is no reason to give up what goes on without it */
    const int unfit = s->failed_rank >= 0 && kvri_lead_left(s) < c->n_asked;
    if (c->on_loss != KVR_LOSS_CONTINUE || c->state == KVRI_CHAIN_IDLE || !(lost || unfit)) return 0;
    if (s->failed_rank >= 0) {
        c->peers[s->failed_rank].out = 1;
        c->lost_news |= 1ull << s->failed_rank;
    } else { /* all live and nothing moves: nobody knows where it is stuck */
        for (uint32_t b = 0; b < c->n_asked; b++) c->peers[b].out = 1;
        c->lost_news = KVRI_NEWS_ALL;
    }
    return 1;
}

/* --- states -------------------------------------------------------------------------------------------------- */

static void pend_all(kvr_session *s, uint32_t what) {
    for (uint32_t r = 0; r < s->chain.n_used; r++) peer_of(s, r)->pending |= what;
}

kvr_status kvri_lead_poll(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    const kvr_status received = kvri_lead_receive(s, now_us);
    if (received < 0) return received;
    if (kvri_chain_clocks_due(s, received)) KVRI_TRY(check_clocks(s, now_us));
    switch (c->state) {
    case KVRI_CHAIN_HELLO:
        if (!all_answered(s, now_us)) break;
        KVRI_TRY(form(s));
        if (c->n_used == 0) {
            c->state = KVRI_CHAIN_IDLE;
            return KVR_OK;
        }
        KVRI_TRY(check_limits(s));
        pend_all(s, KVRI_SEND_JOB);
        enter(s, KVRI_CHAIN_JOB, now_us);
        break;
    case KVRI_CHAIN_JOB:
        if (!all_ready(s)) break;
        pend_all(s, KVRI_SEND_GO);
        enter(s, KVRI_CHAIN_RUN, now_us);
        break;
    case KVRI_CHAIN_RUN:
        if (!kvri_handover_complete(&c->handover, &s->parts)) break;
        kvri_trace_end_transfers(&s->trace);
        c->state = KVRI_CHAIN_IDLE; /* the rest needs no helper; all of them had their GO, or nothing would be here */
        for (uint32_t r = 0; r < c->n_used; r++) peer_of(s, r)->pending = 0;
        break;
    case KVRI_CHAIN_IDLE:
    case KVRI_CHAIN_READY:
    case KVRI_CHAIN_DRAIN: break;
    }
    KVRI_TRY(kvri_lead_send(s, now_us));
    if (!c->handover.ring || c->state != KVRI_CHAIN_RUN) return received;
    const kvri_handover_env env = kvri_chain_env(s, now_us);
    const kvr_status pumped = kvri_handover_pump(&c->handover, &env);
    if (pumped == KVR_ERR_LINK) return next_failed(s, pumped);
    if (pumped < 0) return kvri_session_device_failed(s, pumped);
    return pumped == KVR_OK ? KVR_OK : received;
}
