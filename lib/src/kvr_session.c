/*
 * The session as a state machine: gather the boards, prefill, sample, decode, end. See kvri_phase.
 */
#include "kvr_session_state.h"

#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_error.h"
#include "kvr_plan_core.h"

#include <string.h>

#define MODULE "session"
#define DEFAULT_REPEAT_LAST 64u
#define LONGEST_IDLE_US 50000u /* waiting for the network: how often to look at the clocks */
#define PROBE_IDLE_US 1000u    /* a lead that waits for boards which may not come */
#define DEVICE_IDLE_US 200u    /* waiting for device and network at once */

uint64_t kvri_session_now(const kvr_session *s) { return s->port.now_us(s->port.user); }

kvr_status kvri_session_device_failed(kvr_session *s, kvr_status status) {
    if (s->error.status == KVR_OK && s->backend.explain != NULL) s->backend.explain(s->backend.user, &s->error);
    return kvri_fail(&s->error, status, MODULE, "an operator failed");
}

/* --- open, close --------------------------------------------------------------------------------------------- */

kvr_status kvr_session_open(void *mem, size_t mem_bytes, const kvr_model *model, const kvr_config *config,
                            const kvr_backend *backend, const kvr_port *port, kvr_session **out_session,
                            kvr_error *error) {
    kvr_plan plan;
    kvr_backend_size size;
    kvr_backend_need need;
    kvri_parts_bytes bytes;
    kvri_carve carve = {mem, 0, 0};
    if (mem == NULL || model == NULL || backend == NULL || port == NULL || port->now_us == NULL ||
        out_session == NULL || ((uintptr_t)mem & (KVRI_CARVE_ALIGN - 1)) != 0)
        return kvri_fail(error, KVR_ERR_ARG, MODULE,
                         "mem must be aligned to 64 bytes; only config may be NULL, and the "
                         "port needs a clock");
    KVRI_TRY(kvri_plan_compute(model, config, backend, &plan, &size, error));
    if (mem_bytes < plan.region_bytes[KVR_REGION_SESSION])
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE,
                           "the session's memory is too small: give what kvr_plan_make says, or lower ctx_tokens",
                           plan.region_bytes[KVR_REGION_SESSION], mem_bytes);
    const kvri_parts parts = kvri_layout_session(model, &plan, size.host_bytes, &carve, &bytes);
    for (int set = 0; set < KVRI_ROPE_SETS; set++)
        kvri_rope_freq(model, set, plan.ctx_tokens, parts.freq + (size_t)set * (model->info.rope_dims / 2));
    /* from here on it is a tensor as those of the file are */
    kvri_dtype_from_f32(KVR_DTYPE_F32, parts.freq, KVRI_ROPE_SETS * (model->info.rope_dims / 2), parts.freq);
    KVRI_TRY(kvri_layout_need(model, &plan, parts.freq, &need));
    KVRI_TRY(backend->open(backend->user, &need, parts.backend_mem, (size_t)size.host_bytes, error));

    kvr_session *s = parts.session;
    memset(s, 0, sizeof *s);
    s->plan = plan;
    s->model = model;
    s->backend = *backend;
    s->port = *port;
    s->parts = parts;
    kvri_compute_init(&s->compute, model, &s->plan, &s->backend);
    s->compute.trace = &s->trace;
    s->trace.port = &s->port;
    s->failed_rank = -1;
    kvri_handover *h = &s->chain.handover;
    h->traits = &model->traits;
    h->kv_dtype = plan.kv_dtype;
    h->kv_row_bytes =
        (uint32_t)kvr_dtype_row_bytes(plan.kv_dtype, (uint64_t)model->info.n_kv_heads * model->info.head_dim);
    h->wire_kv = plan.wire_kv;
    h->wire_row_bytes =
        (uint32_t)kvr_dtype_row_bytes(plan.wire_kv, (uint64_t)model->info.n_kv_heads * model->info.head_dim);
    h->cap_pieces = kvri_layout_max_pieces(&plan);
    *out_session = s;
    return KVR_OK;
}

void kvr_session_close(kvr_session *s) {
    if (s != NULL) s->backend.close(s->backend.user);
}

const kvr_plan *kvr_session_get_plan(const kvr_session *s) { return &s->plan; }
const float *kvr_session_logits(const kvr_session *s) { return s->parts.logits; }
const kvr_error *kvr_session_get_error(const kvr_session *s) { return &s->error; }
const kvr_error *kvr_session_get_loss(const kvr_session *s) { return &s->loss; }
int32_t kvr_session_failed_rank(const kvr_session *s) { return s->failed_rank; }

/* Of calls that begin nothing: told as a question's failure is, unless that would hide what is under way. */
static kvr_status refuse_call(kvr_session *s, kvr_status status, const char *text) {
    if (s->phase != KVRI_PHASE_IDLE) return status;
    memset(&s->error, 0, sizeof s->error);
    return kvri_fail(&s->error, status, MODULE, text);
}

/* --- chain --------------------------------------------------------------------------------------------------- */

static const char no_link[] = "give the session its link first, and let what is under way end";

kvr_status kvr_session_set_link(kvr_session *s, const kvr_link *link) {
    if (s->plan.max_boards < 2 || link == NULL)
        return refuse_call(s, KVR_ERR_ARG, "a session with a link is planned with max_boards of 2 or more");
    s->chain.link = *link;
    s->chain.linked = 1;
    return KVR_OK;
}

static kvr_status copy_address(const char *from, char *to) {
    const void *end = from != NULL ? memchr(from, 0, KVR_ADDRESS_CAP) : NULL;
    if (end == NULL) return KVR_ERR_ADDRESS;
    memset(to, 0, KVR_ADDRESS_CAP);
    memcpy(to, from, (size_t)((const char *)end - from));
    return KVR_OK;
}

kvr_status kvr_session_set_boards(kvr_session *s, const char *const *helper_addresses, uint32_t n_helpers,
                                  const char *own_address) {
    kvri_chain *c = &s->chain;
    if (!c->linked || s->phase != KVRI_PHASE_IDLE) return refuse_call(s, KVR_ERR_STATE, no_link);
    if (n_helpers == 0 || n_helpers >= s->plan.max_boards || helper_addresses == NULL)
        return refuse_call(s, KVR_ERR_ARG, "helpers are 1 up to one less than the max_boards of the plan");
    memset(c->peers, 0, sizeof c->peers);
    kvri_balance_changed(s);
    c->state = KVRI_CHAIN_IDLE;
    c->role = KVRI_ALONE; /* until all are taken: half a list is none */
    if (copy_address(own_address, c->own_address) != KVR_OK)
        return refuse_call(s, KVR_ERR_ADDRESS, "this board's own address is missing or too long");
    for (uint32_t r = 0; r < n_helpers; r++) {
        char *place = s->parts.addresses + (size_t)r * KVR_ADDRESS_CAP;
        kvr_status status = copy_address(helper_addresses[r], place);
        if (status != KVR_OK) return refuse_call(s, status, "a helper's address is missing or too long");
        status = c->link.connect(c->link.user, r, place);
        if (status != KVR_OK) {
            memset(&s->error, 0, sizeof s->error);
            return kvri_fail_s(&s->error, status, MODULE, "the link cannot connect to", place, strlen(place));
        }
    }
    c->n_helpers = n_helpers;
    c->role = KVRI_LEAD;
    /* Distinguishes leads and restarts of the same lead; damage and confusion, not malice, are what it guards
     * against. */
    c->session = (kvri_session_now(s) + 1u) * 0x9e3779b97f4a7c15ull ^ kvri_frame_check(c->own_address, KVR_ADDRESS_CAP);
    c->epoch = 0;
    return KVR_OK;
}

kvr_status kvr_session_serve(kvr_session *s) {
    if (!s->chain.linked || s->phase != KVRI_PHASE_IDLE) return refuse_call(s, KVR_ERR_STATE, no_link);
    kvri_chain *c = &s->chain;
    memset(c->peers, 0, sizeof c->peers); /* no lead yet, whatever this session was before */
    c->state = KVRI_CHAIN_IDLE;
    c->session = 0;
    c->epoch = 0;
    c->holds = c->holds_kv = 0;
    c->refusal.status = KVR_OK;
    c->role = KVRI_HELPER;
    s->n_cached = 0; /* jobs overwrite the cache */
    s->phase = KVRI_PHASE_SERVE;
    return KVR_OK;
}

static const char no_boards[] = "only a lead that has its boards (kvr_session_set_boards) and is at rest does this";

kvr_status kvr_session_dismiss(kvr_session *s) {
    if (s->chain.role != KVRI_LEAD || s->phase != KVRI_PHASE_IDLE) return refuse_call(s, KVR_ERR_STATE, no_boards);
    kvri_lead_bye(s);
    return KVR_OK;
}

/* --- what boards can do -------------------------------------------------------------------------------------- */

kvr_status kvr_session_meet(kvr_session *s) {
    if (s->chain.role != KVRI_LEAD || s->phase != KVRI_PHASE_IDLE) return refuse_call(s, KVR_ERR_STATE, no_boards);
    memset(&s->error, 0, sizeof s->error);
    s->failed_rank = -1;
    kvri_contact_begin(s, kvri_session_now(s));
    s->phase = KVRI_PHASE_MEET;
    return KVR_OK;
}

static kvr_status poll_meet(kvr_session *s, uint64_t now_us) {
    const kvr_status status = kvri_contact_poll(s, now_us);
    if (status == KVR_END) s->phase = KVRI_PHASE_IDLE;
    return status;
}

kvr_status kvr_session_set_profile(kvr_session *s, const kvr_board_profile *profile) {
    memset(&s->speed, 0, sizeof s->speed);
    memset(&s->chain.own, 0, sizeof s->chain.own);
    kvri_balance_changed(s);
    if (profile != NULL) s->speed = kvri_speed_of(profile);
    if (profile == NULL || s->speed.known) return KVR_OK;
    return refuse_call(s, KVR_ERR_ARG, "a number of the board's profile is outside its range (kvr_profile.h)");
}

kvr_status kvr_session_get_profile(const kvr_session *s, kvr_board_profile *out) {
    if (!s->speed.known) return KVR_ERR_STATE;
    *out = kvri_speed_profile(&s->speed, 1);
    return KVR_OK;
}

kvr_status kvr_session_measure(kvr_session *s, uint32_t budget_us) {
    if (s->phase != KVRI_PHASE_IDLE) return KVR_ERR_STATE;
    if (budget_us == 0) return refuse_call(s, KVR_ERR_ARG, "a measurement needs time: budget_us is 0");
    if (s->model->info.n_layers < 2)
        return refuse_call(s, KVR_ERR_UNSUPPORTED, "a model of one layer cannot be measured layer by layer");
    memset(&s->error, 0, sizeof s->error);
    kvr_session_set_profile(s, NULL);
    kvri_measure_begin(s, kvri_session_now(s), budget_us);
    s->phase = KVRI_PHASE_MEASURE;
    return KVR_OK;
}

/* --- the question -------------------------------------------------------------------------------------------- */

static kvr_status refuse(kvr_session *s, kvr_status status, const char *text, uint64_t wanted, uint64_t had) {
    return kvri_fail_n(&s->error, status, MODULE, text, wanted, had);
}

static kvr_status check_prompt(kvr_session *s, const kvr_prompt *p) {
    const uint32_t n_vocab = s->model->info.n_vocab;
    if (!kvri_size_fits(p->struct_bytes, sizeof *p))
        return refuse(s, KVR_ERR_ARG, KVRI_OTHER_SIZE, sizeof *p, p->struct_bytes);
    const uint32_t n_boards = p->n_boards > 1 ? p->n_boards : 1;
    if (s->plan.kv_window_layers < s->model->info.n_layers)
        return refuse(s, KVR_ERR_ARG, "a session that keeps a window of layers (kv_window_layers) can only serve",
                      s->model->info.n_layers, s->plan.kv_window_layers);
    if (p->ids == NULL || p->n_ids == 0) return refuse(s, KVR_ERR_ARG, "an empty prompt", 0, 0);
    if (p->n_ids > s->plan.ctx_tokens)
        return refuse(s, KVR_ERR_CTX_FULL, "the prompt is longer than the context: raise ctx_tokens or shorten it",
                      p->n_ids, s->plan.ctx_tokens);
    if (!kvri_sampling_valid(&p->sampling))
        return refuse(s, KVR_ERR_ARG, "a sampling field is out of its range (kvr_sampling in kvr_session.h)", 0, 0);
    for (uint32_t i = 0; i < p->n_ids; i++)
        if (p->ids[i] < 0 || (uint32_t)p->ids[i] >= n_vocab)
            return refuse(s, KVR_ERR_ARG, "a token id is outside the vocabulary", n_vocab, (uint32_t)p->ids[i]);
    if (n_boards > 1 && (s->chain.role != KVRI_LEAD || n_boards > s->chain.n_helpers + 1))
        return refuse(s, KVR_ERR_ARG, "more boards than kvr_session_set_boards named", n_boards,
                      s->chain.n_helpers + 1);
    if (p->on_board_loss > KVR_LOSS_FAIL)
        return refuse(s, KVR_ERR_ARG, "no such policy", KVR_LOSS_FAIL, p->on_board_loss);
    if (p->strategy != KVR_STRATEGY_CHAIN && p->strategy != KVR_STRATEGY_TSP && p->strategy != KVR_STRATEGY_TSP_SKIP)
        return refuse(s, KVR_ERR_ARG, "no such strategy", KVR_STRATEGY_TSP_SKIP, p->strategy);
    if (n_boards > 1 && p->strategy != KVR_STRATEGY_CHAIN && s->plan.ring_tokens < s->plan.ctx_tokens)
        return refuse(s, KVR_ERR_ARG,
                      "TSP wants the keys of all tokens, windows or not: set all_keys, or chunk_tokens to ctx_tokens",
                      s->plan.ctx_tokens, s->plan.ring_tokens);
    if (n_boards > 1 && (p->all_logits || p->keep_tokens != 0))
        return refuse(s, KVR_ERR_ARG, "logits of every token, and kept tokens, are for a single board", 1, n_boards);
    if (p->all_logits && p->logits_from >= p->n_ids)
        return refuse(s, KVR_ERR_ARG, "logits_from is behind the prompt", p->n_ids - 1, p->logits_from);
    if (p->keep_tokens >= p->n_ids)
        return refuse(s, KVR_ERR_ARG, "keep_tokens leaves no token to compute", p->n_ids - 1, p->keep_tokens);
    if (p->keep_tokens > s->n_cached)
        return refuse(s, KVR_ERR_ARG, "fewer tokens are cached than keep_tokens says", p->keep_tokens, s->n_cached);
    if (memcmp(p->ids, s->parts.tokens, p->keep_tokens * sizeof *p->ids) != 0)
        return refuse(s, KVR_ERR_ARG, "the ids to keep are not those that are cached", p->keep_tokens, s->n_cached);
    return KVR_OK;
}

/* sizes NULL: even. kept: tokens that a single board has in its cache. */
static kvr_status cut_prompt(kvr_session *s, uint32_t n_ids, uint32_t kept, uint32_t n_boards, const uint32_t *sizes,
                             kvri_partition *out) {
    if (kvri_partition_make(n_ids, n_boards, sizes, s->plan.frame_tokens, out) != KVR_OK)
        return refuse(s, KVR_ERR_PARTITION, "every board needs at least one token, and all chunks together the prompt",
                      n_ids, n_boards);
    const uint32_t own = n_ids - (n_boards > 1 ? out->cut[n_boards - 1] : kept);
    if (own > s->plan.chunk_tokens)
        return refuse(s, KVR_ERR_PARTITION, "the last chunk is longer than this board's chunk_tokens", own,
                      s->plan.chunk_tokens);
    return KVR_OK;
}

/* Tokens up to `end` are about to be cached behind the n_cached ones, of which a chain brings only what the chunk
 * sees. */
static void note_windows(kvr_session *s, uint32_t chunk_first, uint32_t end) {
    const uint32_t reach = kvri_window_reach(&s->model->traits), ring = s->plan.ring_tokens;
    if (s->model->traits.window == 0) return;
    if (s->n_cached == 0) s->window_first = chunk_first > reach ? chunk_first - reach : 0;
    if (end > ring && s->window_first < end - ring) s->window_first = end - ring;
}

/* Of the tokens to keep all, or none: what a window has lost of them depends on all tokens before. */
static uint32_t kept_tokens(const kvr_session *s, uint32_t wanted) {
    const uint32_t reach = kvri_window_reach(&s->model->traits);
    return s->window_first == 0 || wanted >= s->window_first + reach ? wanted : 0;
}

kvr_status kvri_session_begin_chunk(kvr_session *s, uint32_t n_boards, const uint32_t *sizes) {
    kvri_handover *h = &s->chain.handover;
    kvri_partition partition;
    KVRI_TRY(cut_prompt(s, s->n_prompt, s->n_cached, n_boards, sizes, &partition));
    h->partition = partition;
    const uint32_t first = n_boards > 1 ? partition.cut[n_boards - 1] : s->n_cached;
    const uint32_t n = s->n_prompt - first;
    note_windows(s, n_boards > 1 && s->strategy == KVR_STRATEGY_CHAIN ? first : 0, s->n_prompt);
    s->stats.n_boards = n_boards;
    s->stats.own_first = first;
    s->stats.own_tokens = n;
    kvri_trace_begin(&s->trace, n_boards - 1);
    kvri_forward_begin(&s->forward, first, n, KVR_PATH_PREFILL,
                       s->goal == KVRI_GOAL_ALL ? KVRI_GOAL_ALL : KVRI_GOAL_LAST);
    if (s->logits_from > first) s->forward.read_from = s->logits_from - first;
    h->rank = n_boards - 1;
    h->ring = n_boards > 1 && s->strategy != KVR_STRATEGY_CHAIN;
    s->square = n_boards > 1 && s->strategy == KVR_STRATEGY_TSP;
    if (s->square) s->forward.square_tokens = s->n_prompt;
    return KVR_OK;
}

/* Asks the boards that are left, or goes on alone. */
static kvr_status begin_question(kvr_session *s, uint64_t now_us, int again) {
    kvri_chain *c = &s->chain;
    const uint32_t n_left = kvri_lead_left(s);
    if (n_left == 0) {
        c->state = KVRI_CHAIN_IDLE;
        c->n_used = 0;
        s->phase = KVRI_PHASE_PREFILL;
        return kvri_session_begin_chunk(s, 1, NULL);
    }
    s->stats.n_boards = n_left + 1;
    kvri_lead_begin(s, now_us, again);
    s->phase = KVRI_PHASE_GATHER;
    return KVR_OK;
}

/* By what is known from before: then nobody has to be asked. A board that was never met might not fit, which must be
 * told. */
static int alone_is_best(kvr_session *s) {
    kvri_chain *c = &s->chain;
    uint32_t boards[KVR_MAX_BOARDS], sizes[KVR_MAX_BOARDS];
    for (uint32_t b = 0; b < c->n_asked; b++) {
        if (!c->peers[b].path.known) return 0;
        boards[b] = b;
    }
    if (!kvri_balance_cut(s, boards, c->n_asked, NULL, sizes) || sizes[c->n_asked] != s->n_prompt) return 0;
    kvri_balance_forgive(s, boards, c->n_asked, sizes);
    return 1;
}

kvr_status kvr_session_prompt(kvr_session *s, const kvr_prompt *p) {
    if (s == NULL || p == NULL) return KVR_ERR_ARG;
    kvri_chain *c = &s->chain;
    kvri_partition partition;
    if (s->phase != KVRI_PHASE_IDLE) return KVR_ERR_STATE; /* the error is kept for the question under way */
    memset(&s->error, 0, sizeof s->error);
    memset(&s->loss, 0, sizeof s->loss);
    s->failed_rank = -1;
    KVRI_TRY(check_prompt(s, p));
    const uint32_t n_boards = p->n_boards > 1 ? p->n_boards : 1;
    const uint32_t kept = kept_tokens(s, p->keep_tokens);
    KVRI_TRY(cut_prompt(s, p->n_ids, kept, n_boards, n_boards > 1 ? p->partition : NULL, &partition));
    s->strategy = p->strategy;
    s->goal = p->all_logits ? KVRI_GOAL_ALL : KVRI_GOAL_LAST;
    s->logits_from = !p->all_logits ? 0 : p->logits_from > p->keep_tokens ? p->logits_from : p->keep_tokens;
    memcpy(s->parts.tokens, p->ids, p->n_ids * sizeof *p->ids);
    s->n_prompt = s->n_tokens = p->n_ids;
    s->n_cached = kept;
    s->n_new = s->is_eos = 0;
    s->max_new = p->max_new_tokens;
    s->ignore_eos = p->ignore_eos;
    s->sampling = p->sampling;
    s->rng = p->sampling.seed;
    memset(&s->stats, 0, sizeof s->stats);
    s->stats.n_prompt_tokens = p->n_ids;
    s->start_us = s->first_token_us = kvri_session_now(s);
    c->n_asked = n_boards - 1;
    c->on_loss = p->on_board_loss;
    c->lost_news = c->back_news = 0;
    for (uint32_t r = 0; r < n_boards; r++) {
        c->share[r] = partition.cut[r + 1] - partition.cut[r];
        c->peers[r].out = 0;
        if (c->on_loss == KVR_LOSS_FAIL) c->peers[r].absent = 0; /* no question without it */
    }
    c->is_planned = n_boards > 1 && p->partition == NULL && p->strategy == KVR_STRATEGY_CHAIN;
    kvri_balance_learn(s);
    if (c->is_planned && alone_is_best(s)) c->n_asked = 0;
    return begin_question(s, s->start_us, 0);
}

/* --- poll ---------------------------------------------------------------------------------------------------- */

/* Ends the question; what the device still does is waited out before the next one. */
static kvr_status give_up(kvr_session *s, kvr_status status) {
    if (s->phase == KVRI_PHASE_GATHER || s->phase == KVRI_PHASE_PREFILL) kvri_balance_forget(s);
    kvri_lead_abort(s);
    kvri_forward_abandon(&s->forward, &s->compute, &s->parts);
    s->phase = KVRI_PHASE_DRAIN;
    s->drain_status = status;
    return KVR_OK;
}

/* A board is lost: the others are told to drop the job, and the question begins again when the device has settled. */
static kvr_status go_on_without(kvr_session *s) {
    s->loss = s->error;
    kvri_balance_forget(s);
    memset(&s->error, 0, sizeof s->error);
    s->failed_rank = -1;
    kvri_lead_abort(s);
    kvri_forward_abandon(&s->forward, &s->compute, &s->parts);
    s->phase = KVRI_PHASE_REFORM;
    return KVR_OK;
}

static kvr_status poll_measure(kvr_session *s) {
    const kvr_status status = kvri_measure_poll(s);
    if (status == KVR_END) s->phase = KVRI_PHASE_IDLE;
    if (status >= 0) return status;
    kvri_session_device_failed(s, status);
    return give_up(s, status);
}

static kvr_status poll_reform(kvr_session *s, uint64_t now_us) {
    if (kvri_forward_drain(&s->forward, &s->compute) == KVR_AGAIN) return KVR_AGAIN;
    if (kvri_handover_drain(&s->chain.handover, &s->compute) == KVR_AGAIN) return KVR_AGAIN;
    const kvr_status status = begin_question(s, now_us, 1);
    return status < 0 ? give_up(s, status) : KVR_OK;
}

static void report_progress(kvr_session *s, kvr_event *out) {
    out->kind = KVR_EVENT_PROGRESS;
    out->total = s->model->info.n_layers * s->forward.n;
    out->done = s->forward.layer * s->forward.n;
    if (s->forward.stage == KVRI_FWD_ATTEND) out->done += s->forward.at;
    if (s->forward.stage == KVRI_FWD_KV) out->done += s->forward.from; /* a later stretch of a layer with a window */
    if (out->done > out->total) out->done = out->total;
}

/* One step of the forward pass, prefill or decode. */
static kvr_status poll_forward(kvr_session *s, uint64_t now_us, kvr_event *out) {
    kvri_forward *f = &s->forward;
    kvri_forward_news news;
    const int shared = s->stats.n_boards > 1 && s->phase == KVRI_PHASE_PREFILL; /* else everything before is ours */
    const int may_go =
        f->stage != KVRI_FWD_PREFIX || !shared || kvri_handover_has_prefix(&s->chain.handover, &s->parts, f->layer);
    kvr_status status = kvri_forward_step(f, &s->compute, &s->plan, &s->parts, may_go, &news);
    if (status >= 0 && shared && news.kv_of_layer >= 0) {
        const kvri_handover_env env = kvri_chain_env(s, now_us);
        const kvr_status offered = kvri_handover_offer(&s->chain.handover, &env, (uint32_t)news.kv_of_layer);
        if (offered != KVR_OK) status = offered;
    }
    if (status < 0) {
        kvri_session_device_failed(s, status);
        return give_up(s, status);
    }
    if (status == KVR_AGAIN) return KVR_AGAIN;
    if (status == KVR_END) {
        s->n_cached = f->first + f->n;
        if (s->phase == KVRI_PHASE_PREFILL) s->chain.own.took_us = s->trace.sum_us[KVR_SPAN_COMPUTE];
        s->phase = KVRI_PHASE_SAMPLE;
        return KVR_OK;
    }
    if (news.logits_ready) {
        out->kind = KVR_EVENT_LOGITS;
        out->position = news.position;
    } else if (s->phase == KVRI_PHASE_PREFILL) {
        report_progress(s, out);
    }
    return KVR_OK;
}

static void end_question(kvr_session *s, uint32_t is_eos) {
    s->phase = KVRI_PHASE_ENDING;
    s->is_eos = is_eos;
    s->ending_us = kvri_session_now(s);
}

static kvr_status poll_sample(kvr_session *s, uint64_t now_us, kvr_event *out) {
    int32_t id = -1;
    if (s->n_new == s->max_new || s->n_tokens > s->plan.ctx_tokens) {
        if (s->n_new == 0) s->stats.ttft_us = now_us - s->start_us; /* prefill only */
        end_question(s, 0);
        return KVR_OK;
    }
    const uint32_t last = s->sampling.repeat_last_tokens != 0 ? s->sampling.repeat_last_tokens : DEFAULT_REPEAT_LAST;
    const uint32_t n_recent = (uint32_t)kvri_min(last, s->n_tokens);
    const kvr_status status = kvri_sample(&s->sampling, s->parts.logits, s->model->info.n_vocab,
                                          s->parts.tokens + (s->n_tokens - n_recent), n_recent, &s->rng,
                                          s->parts.candidates, &id);
    if (status != KVR_OK) {
        kvri_fail(&s->error, status, MODULE,
                  "the logits hold no number to choose from: the file's weights are damaged, or make keys that F16 "
                  "does not hold (kv_dtype F32 does)");
        return give_up(s, status);
    }
    if (s->n_new == 0) {
        s->first_token_us = now_us;
        s->stats.ttft_us = now_us - s->start_us;
    }
    s->stats.decode_us = now_us - s->first_token_us;
    if (id == s->model->info.eos_id && !s->ignore_eos) {
        end_question(s, 1);
        return KVR_OK;
    }
    s->n_new++;
    s->stats.n_new_tokens = s->n_new;
    out->kind = KVR_EVENT_TOKEN;
    out->id = id;
    out->position = s->n_tokens;
    if (s->n_new == s->max_new || s->n_tokens == s->plan.ctx_tokens) {
        end_question(s, 0); /* no place, or no need, for another step */
        return KVR_OK;
    }
    s->parts.tokens[s->n_tokens] = id;
    kvri_forward_begin(&s->forward, s->n_tokens, 1, KVR_PATH_DECODE, KVRI_GOAL_LAST);
    s->n_tokens++;
    note_windows(s, 0, s->n_tokens);
    s->phase = KVRI_PHASE_DECODE;
    return KVR_OK;
}

static kvr_status poll_lead(kvr_session *s, uint64_t now_us) {
    if (s->chain.role != KVRI_LEAD || s->stats.n_boards < 2) return KVR_AGAIN;
    if (s->phase == KVRI_PHASE_IDLE || s->phase == KVRI_PHASE_DRAIN || s->phase == KVRI_PHASE_REFORM ||
        s->phase == KVRI_PHASE_MEET || s->phase == KVRI_PHASE_MEASURE)
        return KVR_AGAIN;
    const kvri_chain_state before = s->chain.state;
    const kvr_status status = kvri_lead_poll(s, now_us);
    if (status < 0) {
        kvri_fail(&s->error, status, MODULE, "the chain failed");
        return kvri_lead_shrink(s, status) ? go_on_without(s) : give_up(s, status);
    }
    const int alone = before == KVRI_CHAIN_HELLO && s->chain.state == KVRI_CHAIN_IDLE;
    if (s->phase == KVRI_PHASE_GATHER && (alone || (before == KVRI_CHAIN_JOB && s->chain.state != KVRI_CHAIN_JOB))) {
        s->stats.connect_us = now_us - s->start_us;
        kvri_trace_add(&s->trace, KVR_SPAN_CONNECT, 0, s->start_us, now_us);
        s->phase = KVRI_PHASE_PREFILL;
    }
    return status;
}

static void copy_counts(kvr_session *s) {
    const kvri_handover *h = &s->chain.handover;
    s->stats.frames_in = h->frames_in;
    s->stats.frames_out = h->frames_out;
    s->stats.bytes_in = h->bytes_in;
    s->stats.bytes_out = h->bytes_out;
    s->stats.frames_dropped = h->frames_dropped;
}

static int lowest_bit(uint64_t *bits) {
    int n = 0;
    while ((*bits >> n & 1u) == 0) n++;
    *bits &= *bits - 1;
    return n;
}

/* 1: *out tells of a board that is lost or back. */
static int tell_news(kvr_session *s, kvr_event *out) {
    kvri_chain *c = &s->chain;
    if (c->lost_news == 0 && c->back_news == 0) return 0;
    out->kind = c->lost_news != 0 ? KVR_EVENT_BOARD_LOST : KVR_EVENT_BOARD_BACK;
    const int board = lowest_bit(c->lost_news != 0 ? &c->lost_news : &c->back_news);
    out->id = 1ull << board == KVRI_NEWS_ALL ? -1 : board;
    return 1;
}

kvr_status kvr_session_poll(kvr_session *s, kvr_event *out) {
    memset(out, 0, sizeof *out);
    const uint64_t now_us = kvri_session_now(s);
    const kvr_status chain = poll_lead(s, now_us);
    if (s->phase != KVRI_PHASE_DRAIN && s->phase != KVRI_PHASE_IDLE && tell_news(s, out)) return KVR_OK;
    switch (s->phase) {
    case KVRI_PHASE_IDLE: return KVR_END;
    case KVRI_PHASE_SERVE: return kvri_helper_poll(s, now_us);
    case KVRI_PHASE_MEET: return poll_meet(s, now_us);
    case KVRI_PHASE_MEASURE: return poll_measure(s);
    case KVRI_PHASE_GATHER: return chain;
    case KVRI_PHASE_REFORM: return poll_reform(s, now_us);
    case KVRI_PHASE_PREFILL:
    case KVRI_PHASE_DECODE: {
        const kvr_status status = poll_forward(s, now_us, out);
        return status == KVR_AGAIN ? chain : status;
    }
    case KVRI_PHASE_SAMPLE: return poll_sample(s, now_us, out);
    case KVRI_PHASE_ENDING:
        if (s->stats.n_boards > 1 && !kvri_lead_has_spans(s) &&
            now_us - s->ending_us <= (uint64_t)s->plan.peer_timeout_ms * 1000u)
            return chain; /* the answer is complete, its timeline is not */
        if (s->stats.n_boards > 1) copy_counts(s);
        out->kind = KVR_EVENT_END;
        out->position = s->n_tokens;
        out->is_eos = s->is_eos;
        s->phase = KVRI_PHASE_IDLE;
        return KVR_OK;
    case KVRI_PHASE_DRAIN:
        if (kvri_forward_drain(&s->forward, &s->compute) == KVR_AGAIN) return KVR_AGAIN;
        if (kvri_handover_drain(&s->chain.handover, &s->compute) == KVR_AGAIN) return KVR_AGAIN;
        s->chain.state = KVRI_CHAIN_IDLE;
        s->phase = KVRI_PHASE_IDLE;
        return s->drain_status;
    }
    return KVR_END;
}

void kvr_session_idle(kvr_session *s, uint64_t max_us) {
    const kvri_chain *c = &s->chain;
    const kvr_fence fence = kvri_forward_fence(&s->forward);
    const int network = s->phase == KVRI_PHASE_SERVE || s->phase == KVRI_PHASE_MEET ||
                        (s->stats.n_boards > 1 && c->state != KVRI_CHAIN_IDLE);
    if (max_us == UINT64_MAX && fence != 0 && !network && s->backend.wait != NULL) {
        s->backend.wait(s->backend.user, fence);
        return;
    }
    /* while a frame is held the inbox is not empty: nothing to wait for there */
    const int device = fence != 0 || kvri_handover_reading(&c->handover) || c->holds_kv;
    if (network && !device && c->link.wait != NULL) {
        c->link.wait(c->link.user, kvri_min(max_us, kvri_lead_probes(s) ? PROBE_IDLE_US : LONGEST_IDLE_US));
    } else if (s->port.idle != NULL) {
        s->port.idle(s->port.user, kvri_min(max_us, DEVICE_IDLE_US));
    }
}

kvr_status kvr_session_run(kvr_session *s, kvr_event_fn callback, void *user) {
    for (;;) {
        kvr_event event;
        const kvr_status status = kvr_session_poll(s, &event);
        if (status == KVR_END) return KVR_OK;
        if (status < 0) return status;
        if (status == KVR_AGAIN) kvr_session_idle(s, UINT64_MAX);
        if (event.kind != KVR_EVENT_NONE && callback != NULL && callback(user, &event) != 0) kvr_session_stop(s);
    }
}

kvr_status kvr_session_stop(kvr_session *s) {
    if (s->phase == KVRI_PHASE_SERVE) {
        kvri_helper_leave(s, kvri_session_now(s));
        s->phase = s->chain.state == KVRI_CHAIN_IDLE ? KVRI_PHASE_IDLE : KVRI_PHASE_DRAIN;
        s->drain_status = KVR_END;
        return KVR_OK;
    }
    if (s->phase != KVRI_PHASE_IDLE && s->phase != KVRI_PHASE_DRAIN) give_up(s, KVR_END);
    return KVR_OK;
}

void kvr_session_get_stats(const kvr_session *s, kvr_stats *out) {
    *out = s->stats;
    out->struct_bytes = sizeof *out;
    out->frames_refused = s->chain.refused;
    out->compute_us = s->trace.sum_us[KVR_SPAN_COMPUTE];
    out->wait_prefix_us = s->trace.sum_us[KVR_SPAN_WAIT_PREFIX];
    out->wait_send_us = s->trace.sum_us[KVR_SPAN_WAIT_SEND];
}

/* --- timeline ------------------------------------------------------------------------------------------------ */

kvr_status kvr_session_set_trace(kvr_session *s, kvr_span *spans, uint32_t cap_spans) {
    if ((spans == NULL) != (cap_spans == 0) || cap_spans > KVRI_MAX_SPANS)
        return refuse_call(s, KVR_ERR_ARG, "spans and their number belong together, up to 2^20");
    if (s->phase != KVRI_PHASE_IDLE) return KVR_ERR_STATE;
    s->trace.spans = spans;
    s->trace.cap = cap_spans;
    s->trace.n = s->trace.lost = 0;
    return KVR_OK;
}

uint32_t kvr_session_get_trace(const kvr_session *s, uint64_t *out_start_us) {
    *out_start_us = s->start_us;
    return s->trace.n;
}

kvr_status kvr_session_get_trace_board(const kvr_session *s, uint32_t rank, kvr_trace_board *out) {
    const kvri_partition *p = &s->chain.handover.partition;
    const uint32_t own = s->chain.handover.rank;
    kvr_trace_board b;
    if (rank >= p->n_boards) return KVR_ERR_ARG;
    memset(&b, 0, sizeof b);
    b.struct_bytes = sizeof b;
    b.first = p->cut[rank];
    b.tokens = p->cut[rank + 1] - p->cut[rank];
    b.known = 1;
    b.n_spans = s->trace.n;
    b.n_lost = s->trace.lost;
    for (uint32_t r = 0; r < own && s->chain.role == KVRI_LEAD; r++) {
        const kvri_peer *peer = kvri_lead_peer(s, r);
        b.n_spans -= peer->spans_kept;
        b.n_lost -= peer->spans_got - peer->spans_kept;
    }
    if (rank != own) {
        const int lead = s->chain.role == KVRI_LEAD;
        const kvri_peer *peer = &s->chain.peers[lead ? s->chain.board_at[rank] : 0];
        b.known = lead && peer->spans_known && peer->spans.total > 0;
        b.n_spans = lead ? peer->spans_kept : 0;
        b.n_lost = lead ? peer->spans_got - peer->spans_kept + peer->spans.lost : 0;
        b.clock_offset_us = lead ? peer->offset_us : 0;
        b.clock_error_us = lead ? (peer->round_trip_us + 1) / 2 : 0;
    }
    *out = b;
    return KVR_OK;
}
