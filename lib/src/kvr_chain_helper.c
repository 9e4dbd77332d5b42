/* A helper: meets a lead, takes a job, computes its chunk's keys and values, passes everything on. */
#include "kvr_chain.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_gguf.h" /* little-endian loads */
#include "kvr_session_state.h"

#include <string.h>

#define MODULE "chain"
#define FRAMES_PER_POLL 16u
#define SMALL_FRAME (KVRI_FRAME_HEADER + KVRI_HELLO_MOST) /* HELLO is the largest thing a helper says */

static kvri_peer *lead_of(kvr_session *s) { return &s->chain.peers[KVRI_SLOT_LEAD]; }

static void enter(kvr_session *s, kvri_chain_state state, uint64_t now_us) {
    s->chain.state = state;
    s->chain.since_us = now_us;
    lead_of(s)->seen_us = lead_of(s)->beat_us = now_us;
}

static int has_job(const kvr_session *s) {
    return s->chain.state == KVRI_CHAIN_READY || s->chain.state == KVRI_CHAIN_RUN;
}

/* --- out ----------------------------------------------------------------------------------------------------- */

static kvr_status send_report(kvr_session *s, uint32_t peer, kvri_stage stage, kvr_status status, const char *text) {
    uint8_t bytes[SMALL_FRAME];
    kvri_report r;
    memset(&r, 0, sizeof r);
    r.stage = (uint32_t)stage;
    r.status = (int32_t)status;
    r.progress = s->forward.steps + (uint32_t)s->chain.handover.frames_in + (uint32_t)s->chain.handover.frames_out;
    r.echo_us = lead_of(s)->echo_us;
    r.heard_us = lead_of(s)->heard_us;
    r.compute_us = s->trace.sum_us[KVR_SPAN_COMPUTE];
    kvri_copy_printable(r.text, sizeof r.text, text, strlen(text));
    return kvri_chain_send(s, peer, KVRI_FRAME_STATUS, s->chain.handover.rank, bytes,
                           kvri_report_put(&r, bytes + KVRI_FRAME_HEADER));
}

static kvr_status send_hello(kvr_session *s) {
    uint8_t bytes[SMALL_FRAME];
    kvri_hello hello = kvri_chain_hello(s);
    hello.speed = s->speed;
    return kvri_chain_send(s, KVRI_SLOT_LEAD, KVRI_FRAME_HELLO, s->chain.hello_rank, bytes,
                           kvri_hello_put(&hello, bytes + KVRI_FRAME_HEADER));
}

/* The job is over, so its transmit buffer is free. KVR_OK: all are sent. */
static kvr_status send_spans(kvr_session *s) {
    kvri_chain *c = &s->chain;
    const kvri_trace *t = &s->trace;
    const kvri_spans head = {t->n, t->lost};
    uint8_t *bytes = s->parts.tx[0];
    const uint32_t cap = (uint32_t)((s->plan.frame_bytes - KVRI_FRAME_HEADER - KVRI_SPANS_FIXED) / KVRI_SPAN_BYTES);
    do { /* a board that kept none says so too: the lead waits for it */
        kvri_frame f;
        memset(&f, 0, sizeof f);
        f.kind = KVRI_FRAME_SPANS;
        f.session = c->session;
        f.epoch = c->epoch;
        f.rank = c->handover.rank;
        f.first = c->spans_sent;
        f.count = (uint32_t)kvri_min(cap, t->n - c->spans_sent);
        f.payload_bytes =
            kvri_spans_put(&head, t->n > 0 ? t->spans + f.first : NULL, f.count, bytes + KVRI_FRAME_HEADER);
        kvri_frame_seal(&f, bytes);
        KVRI_TRY(c->link.send(c->link.user, KVRI_SLOT_LEAD, bytes, (size_t)KVRI_FRAME_HEADER + f.payload_bytes));
        c->spans_sent += f.count;
    } while (c->spans_sent < t->n);
    return KVR_OK;
}

/* Speaks under the name that the other lead knows: its session and epoch, the rank it gave. */
static void send_refusal(kvr_session *s) {
    kvri_chain *c = &s->chain;
    const uint64_t own_session = c->session;
    const uint32_t own_epoch = c->epoch, own_rank = c->handover.rank;
    if (c->refusal.status == KVR_OK) return;
    c->session = c->refusal.session;
    c->epoch = c->refusal.epoch;
    c->handover.rank = c->refusal.rank;
    const kvr_status sent = send_report(s, KVRI_SLOT_REFUSE, KVRI_STAGE_REFUSED, c->refusal.status,
                                        kvr_status_text(c->refusal.status));
    if (sent != KVR_AGAIN) c->refusal.status = KVR_OK;
    c->session = own_session;
    c->epoch = own_epoch;
    c->handover.rank = own_rank;
}

static void send_pending(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_peer *lead = lead_of(s);
    send_refusal(s);
    if ((has_job(s) || c->holds) && now_us - lead->beat_us >= kvri_chain_beat_us(s)) {
        lead->pending |= KVRI_SEND_ALIVE;
        lead->beat_us = now_us;
    }
    while (lead->pending != 0) {
        const uint32_t what = lead->pending & (~lead->pending + 1u);
        kvr_status status = KVR_OK;
        if (what == KVRI_SEND_HELLO) status = send_hello(s);
        if (what == KVRI_SEND_READY) status = send_report(s, KVRI_SLOT_LEAD, KVRI_STAGE_READY, KVR_OK, "");
        if (what == KVRI_SEND_ALIVE) status = send_report(s, KVRI_SLOT_LEAD, KVRI_STAGE_WORKING, KVR_OK, "");
        if (what == KVRI_SEND_DONE) status = send_report(s, KVRI_SLOT_LEAD, KVRI_STAGE_DONE, KVR_OK, "");
        if (what == KVRI_SEND_FAILED)
            status = send_report(s, KVRI_SLOT_LEAD, KVRI_STAGE_FAILED, (kvr_status)c->report.status, c->report.text);
        if (what == KVRI_SEND_SPANS) status = send_spans(s);
        if (what == KVRI_SEND_PROBED) status = kvri_contact_send_probed(s);
        if (status == KVR_AGAIN) return; /* a lead that is gone for good ends the job by its timeout */
        lead->pending &= ~what;
    }
}

/* --- the job's end ------------------------------------------------------------------------------------------- */

/* The device may still write into our buffers: wait that out before the next job. */
static void drop_job(kvr_session *s) {
    s->chain.holds_kv = 0;
    if (has_job(s)) {
        kvri_forward_abandon(&s->forward, &s->compute, &s->parts);
        s->chain.state = KVRI_CHAIN_DRAIN;
    }
    lead_of(s)->pending &= (uint32_t)(KVRI_SEND_HELLO | KVRI_SEND_FAILED);
}

static void fail_job(kvr_session *s, kvr_status status, const char *text) {
    kvri_fail(&s->error, status, MODULE, text);
    char words[KVRI_REPORT_TEXT];
    kvr_error_format(&s->error, words, sizeof words);
    memcpy(s->chain.report.text, words, sizeof words);
    s->chain.report.status = (int32_t)status;
    lead_of(s)->pending |= KVRI_SEND_FAILED;
    drop_job(s);
}

/* An operator, or the link to the next board. */
static void fail_work(kvr_session *s, kvr_status status, const char *text) {
    if (status != KVR_ERR_LINK) kvri_session_device_failed(s, status); /* the backend's own words come first */
    fail_job(s, status, text);
}

static int drained(kvr_session *s) {
    const kvr_status forward = kvri_forward_drain(&s->forward, &s->compute);
    return kvri_handover_drain(&s->chain.handover, &s->compute) == KVR_OK && forward == KVR_OK;
}

/* --- in ------------------------------------------------------------------------------------------------------ */

static void refuse(kvr_session *s, uint64_t session, uint32_t epoch, uint32_t rank, const char *address,
                   kvr_status status) {
    kvri_chain *c = &s->chain;
    if (c->link.connect(c->link.user, KVRI_SLOT_REFUSE, address) != KVR_OK) return;
    c->refusal.status = status;
    c->refusal.session = session;
    c->refusal.epoch = epoch;
    c->refusal.rank = rank;
}

/* The header's rank field of a lead's HELLO is the rank it gives this board. */
static kvr_status on_hello(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_hello hello;
    const kvri_hello ours = kvri_chain_hello(s);
    KVRI_TRY(kvri_hello_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &hello));
    if (f->rank >= KVR_MAX_BOARDS - 1) return KVR_ERR_FRAME;
    if (has_job(s) && f->session != c->session) {
        refuse(s, f->session, f->epoch, f->rank, hello.address, KVR_ERR_PEER_BUSY);
        return KVR_OK;
    }
    const kvr_status fit = kvri_chain_compare(&ours, &hello);
    if (fit != KVR_OK) {
        refuse(s, f->session, f->epoch, f->rank, hello.address, fit);
        return KVR_OK;
    }
    if (c->link.connect(c->link.user, KVRI_SLOT_LEAD, hello.address) != KVR_OK) return KVR_ERR_FRAME;
    if (f->session != c->session) {
        c->epoch = 0;
        lead_of(s)->pending = 0; /* what was due to another lead */
    }
    c->session = f->session;
    c->hello_rank = f->rank;
    lead_of(s)->met = 1;
    lead_of(s)->pending |= KVRI_SEND_HELLO;
    lead_of(s)->seen_us = now_us;
    return KVR_OK;
}

static kvr_status read_job(kvr_session *s, const kvri_frame *f, kvri_job *job) {
    kvri_chain *c = &s->chain;
    uint32_t sizes[KVR_MAX_BOARDS];
    KVRI_TRY(kvri_job_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, job));
    c->handover.rank = job->rank; /* also what is wrong with the job is said under its rank */
    const int ring = (job->flags & KVRI_JOB_RING) != 0;
    if (ring && (s->plan.kv_window_layers < s->model->info.n_layers || s->plan.ring_tokens < s->plan.ctx_tokens))
        return KVR_ERR_PEER_CTX;
    if (kvri_le32(job->cuts) != 0 || job->n_boards > s->plan.max_boards) return KVR_ERR_PARTITION;
    for (uint32_t r = 0; r < job->n_boards; r++) {
        const uint32_t a = kvri_le32(job->cuts + 4 * r), b = kvri_le32(job->cuts + 4 * r + 4);
        if (b <= a) return KVR_ERR_PARTITION;
        sizes[r] = b - a;
    }
    const uint32_t total = kvri_le32(job->cuts + 4 * job->n_boards);
    const uint32_t end = kvri_le32(job->cuts + 4 * (job->rank + 1));
    if ((ring ? total : end) > s->plan.ctx_tokens || sizes[job->rank] > s->plan.chunk_tokens) return KVR_ERR_PEER_CTX;
    if (job->n_ids != sizes[job->rank] || total > (1u << 20)) return KVR_ERR_PARTITION;
    KVRI_TRY(kvri_partition_make(total, job->n_boards, sizes, s->plan.frame_tokens, &c->handover.partition));
    /* in a chain pieces of later ranks are counted too but never pass here; all others must fit the tables */
    if (c->handover.partition.first_piece[ring ? job->n_boards : job->rank + 1] > kvri_layout_max_pieces(&s->plan))
        return KVR_ERR_PEER_CTX;
    for (uint32_t i = 0; i < job->n_ids; i++) {
        const uint32_t id = kvri_le32(job->ids + (size_t)i * 4);
        if (id >= s->model->info.n_vocab) return KVR_ERR_FRAME;
        s->parts.tokens[kvri_le32(job->cuts + 4 * job->rank) + i] = (int32_t)id;
    }
    return KVR_OK;
}

static kvr_status begin_job(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_job job;
    memset(&s->error, 0, sizeof s->error);
    kvr_status status = read_job(s, f, &job);
    if (status == KVR_OK) status = c->link.connect(c->link.user, KVRI_SLOT_NEXT, job.next);
    if (status != KVR_OK) {
        fail_job(s, status, "the lead's job cannot be taken");
        return KVR_OK;
    }
    kvri_handover *h = &c->handover;
    c->traced = job.flags & KVRI_JOB_TRACED;
    c->spans_sent = 0;
    kvri_trace_begin(&s->trace, job.rank);
    h->rank = job.rank;
    h->ring = (job.flags & KVRI_JOB_RING) != 0;
    h->next_slot = KVRI_SLOT_NEXT;
    h->next_window = job.next_window;
    s->square = (job.flags & KVRI_JOB_SQUARE) != 0;
    h->session = c->session;
    h->epoch = c->epoch;
    kvri_handover_begin(h, &s->parts, s->model->info.n_layers);
    s->forward.steps = 0;
    enter(s, KVRI_CHAIN_READY, now_us);
    lead_of(s)->pending |= KVRI_SEND_READY;
    return KVR_OK;
}

static kvr_status on_job(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_job job;
    if (f->epoch <= c->epoch) return KVR_ERR_FRAME;
    /* The lead has what it wanted of a job under way, or gave it up: only this board has not noticed yet. */
    drop_job(s);
    c->epoch = f->epoch;
    lead_of(s)->pending &= (uint32_t)KVRI_SEND_HELLO; /* a report about an older job must not go out as this one's */
    if (c->state != KVRI_CHAIN_DRAIN) return begin_job(s, f, now_us);
    KVRI_TRY(kvri_job_get(s->parts.rx + KVRI_FRAME_HEADER, f->payload_bytes, &job));
    c->handover.rank = job.rank;
    c->held = *f;
    c->holds = 1;
    return KVR_OK;
}

static kvr_status on_go(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    const kvri_partition *p = &c->handover.partition;
    if (c->state == KVRI_CHAIN_RUN) return KVR_OK; /* keys and values came first */
    if (c->state != KVRI_CHAIN_READY) return KVR_ERR_FRAME;
    const uint32_t first = p->cut[c->handover.rank];
    kvri_forward_begin(&s->forward, first, p->cut[c->handover.rank + 1] - first, KVR_PATH_PREFILL, KVRI_GOAL_CACHE);
    if (s->square) s->forward.square_tokens = p->cut[p->n_boards];
    enter(s, KVRI_CHAIN_RUN, now_us);
    c->moved_us = now_us;
    memset(&s->stats, 0, sizeof s->stats);
    s->stats.n_boards = p->n_boards;
    s->stats.n_prompt_tokens = p->cut[p->n_boards];
    s->stats.own_first = first;
    s->stats.own_tokens = s->forward.n;
    s->start_us = now_us;
    return KVR_OK;
}

static kvr_status on_frame(kvr_session *s, const kvri_frame *f, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    if (f->kind == KVRI_FRAME_HELLO) return on_hello(s, f, now_us);
    if (!lead_of(s)->met || f->session != c->session) return KVR_ERR_FRAME;
    if (f->kind != KVRI_FRAME_KV) {
        lead_of(s)->echo_us = f->clock_us;
        lead_of(s)->heard_us = now_us;
    }
    if (f->kind == KVRI_FRAME_JOB) return on_job(s, f, now_us);
    if (f->kind == KVRI_FRAME_PROBE) return kvri_contact_on_probe(s, f);
    /* leaving a job needs no exact epoch: an ABORT may be sent late, under the number of the job to come */
    const int leaving = f->kind == KVRI_FRAME_BYE || (f->kind == KVRI_FRAME_ABORT && f->epoch >= c->epoch);
    if (!leaving && f->epoch != c->epoch) return KVR_ERR_FRAME;
    switch (f->kind) {
    case KVRI_FRAME_GO: lead_of(s)->seen_us = now_us; return on_go(s, now_us);
    case KVRI_FRAME_STATUS: lead_of(s)->seen_us = now_us; return KVR_OK;
    case KVRI_FRAME_KV: {
        const kvri_handover_env env = kvri_chain_env(s, now_us);
        if (!has_job(s)) return KVR_ERR_FRAME;
        const kvr_status accepted = kvri_handover_accept(&c->handover, &env, f, s->parts.rx);
        if (accepted != KVR_AGAIN) return accepted;
        /* No place for this layer yet: nothing else is read before there is one. The lead's GO may be behind it; it was
         * said to all boards, or this frame would not be here. */
        c->held = *f;
        c->holds_kv = 1;
        return on_go(s, now_us);
    }
    case KVRI_FRAME_ABORT: drop_job(s); return KVR_OK;
    case KVRI_FRAME_BYE:
        drop_job(s);
        lead_of(s)->met = 0;
        return KVR_OK;
    default: return KVR_ERR_FRAME;
    }
}

static kvr_status receive(kvr_session *s, uint64_t now_us) {
    kvr_status result = KVR_AGAIN;
    if (s->chain.holds_kv && s->chain.state == KVRI_CHAIN_RUN) {
        s->chain.holds_kv = 0;
        const kvr_status status = on_frame(s, &s->chain.held, now_us);
        if (status < 0 && status != KVR_ERR_FRAME)
            fail_work(s, status, "taking keys and values, or passing them on, failed");
        result = s->chain.holds_kv ? KVR_AGAIN : KVR_OK;
    }
    for (uint32_t i = 0; i < FRAMES_PER_POLL && !s->chain.holds_kv && !s->chain.holds; i++) {
        kvri_frame f;
        size_t n;
        kvr_status status = kvri_chain_receive(s, &f, &n);
        if (status == KVR_AGAIN) break;
        if (status < 0 && status != KVR_ERR_FRAME && status != KVR_ERR_PEER_WIRE) {
            if (s->chain.state == KVRI_CHAIN_DRAIN) break; /* told once the device is at rest */
            if (!has_job(s)) return status;                /* the link itself is broken */
            fail_job(s, status, "the link failed while receiving");
        }
        result = KVR_OK;
        if (status == KVR_ERR_PEER_WIRE && f.kind == KVRI_FRAME_HELLO && n == KVRI_FRAME_HEADER + KVRI_HELLO_BYTES) {
            /* A lead's HELLO keeps its shape in all versions so far: answer in ours, the lead then knows the cause. */
            const uint8_t *payload = s->parts.rx + KVRI_FRAME_HEADER;
            kvri_hello hello;
            if (kvri_hello_get(payload, KVRI_HELLO_BYTES, &hello) == KVR_OK)
                refuse(s, kvri_le64(s->parts.rx + 8), 0, 0, hello.address, KVR_ERR_PEER_WIRE);
            continue;
        }
        if (status != KVR_OK) continue;
        status = on_frame(s, &f, now_us);
        if (status == KVR_ERR_FRAME) kvri_chain_refuse(s);
        else if (status < 0) fail_work(s, status, "taking keys and values, or passing them on, failed");
    }
    return result;
}

/* --- work ---------------------------------------------------------------------------------------------------- */

static kvr_status work(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvri_handover *h = &c->handover;
    const kvri_handover_env env = kvri_chain_env(s, now_us);
    kvri_forward_news news;
    const uint32_t released = kvri_handover_release(h, &s->parts, kvri_forward_done_layers(&s->forward));
    const kvr_status pumped = kvri_handover_pump(h, &env);
    if (pumped < 0) {
        fail_work(s, pumped, "passing keys and values on failed");
        return KVR_OK;
    }
    const int may_go = s->forward.stage == KVRI_FWD_PREFIX ? kvri_handover_has_prefix(h, &s->parts, s->forward.layer)
                       : s->forward.stage == KVRI_FWD_KV ? kvri_handover_has_place(h, &s->compute.ids, s->forward.layer)
                                                         : 1;
    kvr_status stepped = kvri_forward_step(&s->forward, &s->compute, &s->plan, &s->parts, may_go, &news);
    if (stepped >= 0 && news.kv_of_layer >= 0) {
        const kvr_status offered = kvri_handover_offer(h, &env, (uint32_t)news.kv_of_layer);
        if (offered != KVR_OK) stepped = offered;
    }
    if (stepped < 0) {
        fail_work(s, stepped, "computing keys and values failed");
        return KVR_OK;
    }
    const int complete = s->forward.stage == KVRI_FWD_IDLE && kvri_handover_complete(h, &s->parts);
    /* own work done: what remains is passing on */
    kvri_trace_note_send(&s->trace, h->n_layers - 1, stepped == KVR_END && !complete, now_us);
    if (complete) {
        kvri_trace_end_transfers(&s->trace);
        lead_of(s)->pending |= KVRI_SEND_DONE;
        if (c->traced) lead_of(s)->pending |= KVRI_SEND_SPANS;
        s->stats.ttft_us = now_us - s->start_us;
        s->stats.frames_in = h->frames_in;
        s->stats.frames_out = h->frames_out;
        s->stats.bytes_in = h->bytes_in;
        s->stats.bytes_out = h->bytes_out;
        s->stats.frames_dropped = h->frames_dropped;
        c->state = KVRI_CHAIN_IDLE;
        return KVR_OK;
    }
    const int moved = stepped == KVR_OK || pumped == KVR_OK || released > 0;
    /* the lead's signs of life lie unread behind a held frame, while the device or the next board is slow */
    if (moved) c->moved_us = now_us;
    if (c->holds_kv && now_us - c->moved_us <= (uint64_t)s->plan.stall_timeout_ms * 1000u)
        lead_of(s)->seen_us = now_us;
    return moved ? KVR_OK : KVR_AGAIN;
}

kvr_status kvri_helper_poll(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    kvr_status result = receive(s, now_us);
    if (result < 0) return kvri_fail(&s->error, result, MODULE, "the link failed while receiving");
    if (kvri_chain_clocks_due(s, result) && has_job(s) &&
        now_us - lead_of(s)->seen_us > (uint64_t)s->plan.peer_timeout_ms * 1000u) {
        fail_job(s, KVR_ERR_PEER_LOST, "the lead gave no sign of life within the timeout; waiting for the next one");
        result = KVR_OK;
    }
    if (c->state == KVRI_CHAIN_RUN && work(s, now_us) == KVR_OK) result = KVR_OK;
    if (c->state == KVRI_CHAIN_DRAIN && drained(s)) {
        c->state = KVRI_CHAIN_IDLE;
        result = KVR_OK;
        if (c->holds) begin_job(s, &c->held, now_us);
        c->holds = 0;
    }
    send_pending(s, now_us);
    return result;
}

void kvri_helper_leave(kvr_session *s, uint64_t now_us) {
    kvri_chain *c = &s->chain;
    if (has_job(s)) fail_job(s, KVR_ERR_STATE, "the board's own application stopped it");
    send_pending(s, now_us); /* best effort: a lead that does not hear it runs into its timeout */
    c->holds = c->holds_kv = 0;
    lead_of(s)->met = 0;
    lead_of(s)->pending = 0;
    if (drained(s)) c->state = KVRI_CHAIN_IDLE;
}
