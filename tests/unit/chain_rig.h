/*
 * chain_rig.h - boards of one process over the in-memory link, under a clock that the test owns. A turn polls one
 * board; time passes a little with every turn and jumps ahead when all boards wait, so that a timeout takes no time.
 *
 *     rig_model model;
 *     rig r;
 *     rig_answer a;
 *     rig_model_make(&model, &RIG_TINY);
 *     rig_open(&r, &model, 3, &(rig_options){0});
 *     rig_prompt(&r, ids, n, max_new, 3, partition);
 *     rig_run(&r, &a);
 *
 * The lead is the last board of the rig; boards 0..n-2 serve.
 */
#ifndef CHAIN_RIG_H
#define CHAIN_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gguf_maker.h"
#include "kvr/kvr_cpu.h"
#include "kvr/kvr_loop.h"
#include "kvr/kvr_session.h"
#include "test_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RIG_MAX_NEW 512u
#define RIG_POLL_US 5u          /* how long a turn takes */
#define RIG_TIMEOUT_MS 8000u    /* peer_timeout_ms unless the options say otherwise */
#define RIG_MOST_POLLS 4000000u /* a run that takes more hangs */

/* --- memory and models --------------------------------------------------------------------------------------- */

typedef struct rig_memory {
    void *raw, *at; /* at: 64-byte aligned */
    size_t bytes;
} rig_memory;

static inline rig_memory rig_take(uint64_t bytes) {
    rig_memory m;
    m.raw = malloc((size_t)bytes + 64);
    if (m.raw == NULL) abort();
    m.at = (void *)(((uintptr_t)m.raw + 63) & ~(uintptr_t)63);
    m.bytes = (size_t)bytes;
    memset(m.at, 0xff, m.bytes); /* memory comes as it is: here as numbers that are none */
    return m;
}

typedef struct rig_model {
    void *file;
    size_t file_bytes;
    rig_memory memory;
    kvr_model *model;
    const kvr_model_info *info;
} rig_model;

/* Takes the file over. */
static inline void rig_model_open(rig_model *m, void *file, size_t file_bytes) {
    kvr_error error;
    kvr_model_info info;
    memset(&error, 0, sizeof error);
    memset(&info, 0, sizeof info);
    assert_int_equal(kvr_model_probe(file, file_bytes, &info, &error), KVR_OK);
    m->file = file;
    m->file_bytes = file_bytes;
    m->memory = rig_take(info.state_bytes);
    assert_int_equal(kvr_model_open(m->memory.at, m->memory.bytes, file, file_bytes, &m->model, &error), KVR_OK);
    m->info = kvr_model_get_info(m->model);
}

/* 256 rows of attention fit a tiny model in a blink; logits spread over several units. */
static const gguf_shape RIG_TINY = {.n_layers = 2,
                                    .model_dim = 32,
                                    .ffn_dim = 64,
                                    .n_heads = 4,
                                    .n_kv_heads = 2,
                                    .n_vocab = 48,
                                    .ctx = 256,
                                    .dtype = KVR_DTYPE_F32,
                                    .seed = 7};

static inline void rig_model_make(rig_model *m, const gguf_shape *shape) {
    size_t bytes = 0;
    uint8_t *file = gguf_make_llama(shape, &bytes);
    rig_model_open(m, file, bytes);
}

/* 0: not there; the reason is printed. */
static inline int rig_model_stories(rig_model *m) {
    size_t bytes = 0;
    void *file = read_conformance("models/stories260K.gguf", &bytes);
    if (file == NULL) return 0;
    rig_model_open(m, file, bytes);
    return 1;
}

static inline void rig_model_close(rig_model *m) {
    free(m->memory.raw);
    free(m->file);
    memset(m, 0, sizeof *m);
}

/* Ids for a prompt, without the special ones. */
static inline void rig_ids(int32_t *ids, uint32_t n, uint32_t n_vocab, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(3 + gguf_random(&seed) % (n_vocab - 3));
}

/* --- boards -------------------------------------------------------------------------------------------------- */

typedef struct rig rig;

typedef struct rig_options {
    kvr_config config;      /* max_boards and timeouts 0: those of the rig */
    uint32_t go_on;         /* 1: a lost board does not end the question */
    uint32_t cap_frames;    /* of each inbox; 0 = 4 */
    uint64_t order;         /* 0 = round robin, else the seed of a random order of turns */
    uint64_t boot_us;       /* what the clock shows at first */
    uint32_t spare_inboxes; /* of the loop, behind those of the boards */
    /* deviations, board by board; NULL = none */
    void (*change)(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link);
    const rig_model *other_model; /* of board `other` */
    uint32_t other;
    void *user;
} rig_options;

typedef struct rig_board {
    kvr_session *session;
    rig_memory memory;
    kvr_cpu cpu;
    int open, dead, waits;
    uint32_t polls;
    kvr_status last; /* what its last poll said */
} rig_board;

struct rig {
    const rig_model *model;
    rig_options options;
    uint32_t n;
    rig_board boards[KVR_MAX_BOARDS];
    rig_memory loop_memory;
    kvr_loop *loop;
    uint64_t now_us;
    uint64_t rng;
    uint32_t next, polls;
    /* called before every turn; may kill, stop, or restart */
    void (*before_turn)(rig *r);
};

static inline uint64_t rig_now(void *user) {
    return ((rig *)user)->now_us;
}

static inline kvr_session *rig_lead(rig *r) {
    return r->boards[r->n - 1].session;
}

static inline void rig_board_open(rig *r, uint32_t b) {
    rig_board *board = &r->boards[b];
    const rig_model *model =
        r->options.other_model != NULL && r->options.other == b ? r->options.other_model : r->model;
    kvr_config config = r->options.config;
    kvr_backend backend;
    kvr_port port;
    kvr_link link;
    kvr_plan plan;
    kvr_error error;
    memset(&error, 0, sizeof error);
    memset(&port, 0, sizeof port);
    memset(&board->cpu, 0, sizeof board->cpu);
    port.struct_bytes = sizeof port;
    port.user = r;
    port.now_us = rig_now;
    if (config.max_boards == 0) config.max_boards = r->n > 1 ? r->n : 2;
    if (config.peer_timeout_ms == 0) config.peer_timeout_ms = RIG_TIMEOUT_MS;
    if (config.stall_timeout_ms == 0) config.stall_timeout_ms = config.peer_timeout_ms;
    kvr_cpu_backend(&board->cpu, &backend);
    assert_int_equal(kvr_loop_link(r->loop, b, &link), KVR_OK);
    if (r->options.change != NULL) r->options.change(r, b, &config, &backend, &link);
    assert_int_equal(kvr_plan_make(model->model, &config, &backend, &plan, &error), KVR_OK);
    board->memory = rig_take(plan.region_bytes[KVR_REGION_SESSION]);
    assert_int_equal(kvr_session_open(board->memory.at, board->memory.bytes, model->model, &config, &backend, &port,
                                      &board->session, &error),
                     KVR_OK);
    if (config.max_boards > 1) assert_int_equal(kvr_session_set_link(board->session, &link), KVR_OK);
    board->open = 1;
    board->dead = 0;
}

static inline void rig_board_close(rig *r, uint32_t b) {
    rig_board *board = &r->boards[b];
    if (!board->open) return;
    kvr_session_close(board->session);
    free(board->memory.raw);
    board->open = 0;
}

static inline char *rig_address(char out[KVR_ADDRESS_CAP], uint32_t b) {
    snprintf(out, KVR_ADDRESS_CAP, "loop:%u", (unsigned)b);
    return out;
}

/* Makes board `lead` the lead of boards 0..n_helpers-1. */
static inline kvr_status rig_make_lead(rig *r, uint32_t lead, uint32_t n_helpers) {
    char addresses[KVR_MAX_BOARDS][KVR_ADDRESS_CAP];
    const char *list[KVR_MAX_BOARDS];
    char own[KVR_ADDRESS_CAP];
    for (uint32_t b = 0; b < n_helpers; b++) list[b] = rig_address(addresses[b], b);
    return kvr_session_set_boards(r->boards[lead].session, list, n_helpers, rig_address(own, lead));
}

static inline void rig_open(rig *r, const rig_model *model, uint32_t n_boards, const rig_options *options) {
    memset(r, 0, sizeof *r);
    r->model = model;
    r->options = *options;
    r->n = n_boards;
    r->now_us = options->boot_us;
    r->rng = options->order;
    const uint32_t inboxes = n_boards + options->spare_inboxes;
    const uint32_t cap = options->cap_frames != 0 ? options->cap_frames : 4;
    const size_t frame_bytes = 64u * 1024u;
    r->loop_memory = rig_take(kvr_loop_bytes(inboxes, cap, frame_bytes));
    assert_int_equal(kvr_loop_open(r->loop_memory.at, r->loop_memory.bytes, inboxes, cap, frame_bytes, &r->loop),
                     KVR_OK);
    for (uint32_t b = 0; b < n_boards; b++) rig_board_open(r, b);
    if (n_boards > 1) assert_int_equal(rig_make_lead(r, n_boards - 1, n_boards - 1), KVR_OK);
    for (uint32_t b = 0; b + 1 < n_boards; b++) assert_int_equal(kvr_session_serve(r->boards[b].session), KVR_OK);
}

static inline void rig_close(rig *r) {
    for (uint32_t b = 0; b < r->n; b++) rig_board_close(r, b);
    free(r->loop_memory.raw);
    memset(r, 0, sizeof *r);
}

/* --- turns --------------------------------------------------------------------------------------------------- */

static inline uint32_t rig_choose(rig *r) {
    if (r->options.order != 0) return (uint32_t)(gguf_random(&r->rng) % r->n);
    r->next = (r->next + 1) % r->n;
    return r->next;
}

/* Polls one board. Returns which one; its event is in *event. */
static inline uint32_t rig_turn(rig *r, kvr_event *event) {
    if (r->before_turn != NULL) r->before_turn(r);
    const uint32_t b = rig_choose(r);
    rig_board *board = &r->boards[b];
    memset(event, 0, sizeof *event);
    r->now_us += RIG_POLL_US;
    r->polls++;
    if (board->dead || !board->open) {
        board->waits = 1;
    } else {
        board->polls++;
        board->last = kvr_session_poll(board->session, event);
        board->waits = board->last != KVR_OK;
        if (board->last == KVR_OK)
            for (uint32_t i = 0; i < r->n; i++) r->boards[i].waits = i == b ? 0 : r->boards[i].waits;
    }
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < r->n; i++) waiting += r->boards[i].waits != 0;
    if (waiting == r->n) { /* nobody will do anything before some time has passed */
        r->now_us += RIG_TIMEOUT_MS * 1000u / 32u;
        for (uint32_t i = 0; i < r->n; i++) r->boards[i].waits = 0;
    }
    return b;
}

/* Turns for so long, whatever the boards do. */
static inline void rig_idle(rig *r, uint64_t us) {
    kvr_event event;
    const uint64_t until = r->now_us + us;
    while (r->now_us < until) rig_turn(r, &event);
}

/* --- a question ---------------------------------------------------------------------------------------------- */

typedef struct rig_answer {
    kvr_status status; /* KVR_OK: complete */
    int32_t ids[RIG_MAX_NEW];
    uint32_t n_ids;
    float *logits; /* after the last prompt token; NULL when it never came so far */
    uint32_t ended, is_eos;
    uint64_t lost, back; /* bit per board that an event told of */
    uint32_t n_lost;
    uint32_t polls;
    uint64_t took_us;
    int32_t failed_rank;
    kvr_error error;
    kvr_stats stats;
} rig_answer;

static inline void rig_answer_free(rig_answer *a) {
    free(a->logits);
    a->logits = NULL;
}

static inline kvr_status rig_prompt_by(rig *r, kvr_strategy strategy, const int32_t *ids, uint32_t n, uint32_t max_new,
                                       uint32_t n_boards, const uint32_t *partition) {
    kvr_prompt p;
    memset(&p, 0, sizeof p);
    p.struct_bytes = sizeof p;
    p.ids = ids;
    p.n_ids = n;
    p.max_new_tokens = max_new;
    p.ignore_eos = 1;
    p.n_boards = n_boards;
    p.partition = partition;
    p.strategy = (uint32_t)strategy;
    p.on_board_loss = r->options.go_on ? KVR_LOSS_CONTINUE : KVR_LOSS_FAIL;
    return kvr_session_prompt(rig_lead(r), &p);
}

static inline kvr_status rig_prompt(rig *r, const int32_t *ids, uint32_t n, uint32_t max_new, uint32_t n_boards,
                                    const uint32_t *partition) {
    return rig_prompt_by(r, KVR_STRATEGY_CHAIN, ids, n, max_new, n_boards, partition);
}

static inline void rig_take_event(rig *r, uint32_t board, const kvr_event *event, rig_answer *a) {
    const size_t n_vocab = r->model->info->n_vocab;
    const kvr_session *s = r->boards[board].session;
    if (event->kind == KVR_EVENT_LOGITS && a->n_ids == 0) {
        if (a->logits == NULL) a->logits = (float *)malloc(n_vocab * sizeof *a->logits);
        if (a->logits == NULL) abort();
        memcpy(a->logits, kvr_session_logits(s), n_vocab * sizeof *a->logits);
    }
    if (event->kind == KVR_EVENT_TOKEN) {
        assert_true(a->n_ids < RIG_MAX_NEW);
        a->ids[a->n_ids++] = event->id;
    }
    if (event->kind == KVR_EVENT_BOARD_LOST) {
        a->lost |= event->id >= 0 ? 1ull << event->id : 0;
        a->n_lost++;
    }
    if (event->kind == KVR_EVENT_BOARD_BACK) a->back |= 1ull << event->id;
    if (event->kind == KVR_EVENT_END) {
        a->ended++;
        a->is_eos = event->is_eos;
    }
}

/* Turns until board's question is over. */
static inline void rig_run_on(rig *r, uint32_t board, rig_answer *a) {
    kvr_event event;
    memset(a, 0, sizeof *a);
    const uint32_t first_poll = r->polls;
    const uint64_t from_us = r->now_us;
    for (;;) {
        if (r->polls - first_poll > RIG_MOST_POLLS) fail_msg("the question hangs");
        if (rig_turn(r, &event) != board || r->boards[board].dead) continue;
        const kvr_status status = r->boards[board].last;
        if (status == KVR_OK) rig_take_event(r, board, &event, a);
        if (status < 0 || status == KVR_END) {
            a->status = status < 0 ? status : KVR_OK;
            break;
        }
    }
    a->polls = r->polls - first_poll;
    a->took_us = r->now_us - from_us;
    a->failed_rank = kvr_session_failed_rank(r->boards[board].session);
    a->error = *kvr_session_get_error(r->boards[board].session);
    kvr_session_get_stats(r->boards[board].session, &a->stats);
}

static inline void rig_run(rig *r, rig_answer *a) {
    rig_run_on(r, r->n - 1, a);
}

/* What one board on its own answers; the truth for all chains. config 0: defaults. */
static inline void rig_single(const rig_model *model, const kvr_config *config, const int32_t *ids, uint32_t n,
                              uint32_t max_new, rig_answer *a) {
    rig r;
    rig_options o;
    memset(&o, 0, sizeof o);
    if (config != NULL) o.config = *config;
    rig_open(&r, model, 1, &o);
    assert_int_equal(rig_prompt(&r, ids, n, max_new, 1, NULL), KVR_OK);
    rig_run(&r, a);
    assert_int_equal(a->status, KVR_OK);
    rig_close(&r);
}

/* Bit for bit. */
static inline int rig_same(const rig_model *model, const rig_answer *a, const rig_answer *b) {
    return a->n_ids == b->n_ids && memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0 && a->logits != NULL &&
           b->logits != NULL && memcmp(a->logits, b->logits, model->info->n_vocab * sizeof *a->logits) == 0;
}

#endif
