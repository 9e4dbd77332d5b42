/*
 * kvr_session.h - a prompt in, tokens out; on one board, or as the lead or a helper of a chain.
 *
 * A session is a state machine that is polled. poll() does a bounded piece of work and never blocks
 * (on the reference backend a piece is one operator group over one micro-batch); run() is the loop over it.
 * Not thread-safe: one session, one thread.
 */
#ifndef KVR_SESSION_H
#define KVR_SESSION_H

#include "kvr/kvr_link.h"
#include "kvr/kvr_plan.h"
#include "kvr/kvr_port.h"
#include "kvr/kvr_profile.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvr_session kvr_session;

/* How the next token is chosen. Zero = greedy (the largest logit, the lowest id among equals). */
typedef struct kvr_sampling {
    uint32_t struct_bytes;
    float temperature;     /* 0 = greedy; otherwise logits are divided by it, 0.01..10 */
    uint32_t top_k;        /* keep the k likeliest; 0 = all */
    float top_p;           /* keep the likeliest whose sum reaches p, 0..1; 0 = all */
    float min_p;           /* keep those with at least p times the likeliest's probability, 0..1; 0 = all */
    float repeat_penalty;  /* 0.1..10; > 1 makes recent tokens less likely (Keskar 2019); 0 or 1 = off. Applies to
                            * greedy too */
    uint32_t repeat_last_tokens; /* how many recent tokens it looks at; 0 = 64 */
    uint64_t seed;         /* same seed, same text */
} kvr_sampling;

/* How boards share a prompt. The numbers are those of kvr_cost_strategy. The answer is the same, bit for bit. */
typedef enum kvr_strategy {
    KVR_STRATEGY_CHAIN = 0,   /* KV-Runahead: what this library is for */
    KVR_STRATEGY_TSP = 2,     /* the baseline of its paper: keys and values of each layer to all boards by a ring
                               * all-gather, attention only then; all products, masked ones too, and every layer in
                               * full */
    KVR_STRATEGY_TSP_SKIP = 3 /* the same without what nobody reads: masked products, the last layer's other rows */
} kvr_strategy;

/* What a lead does when a board of the chain is lost: dead, silent for peer_timeout_ms, cut off, failed, or working for
 * another lead (perhaps one that is gone). Boards that do not fit (another model, version, type, context) fail the
 * question in any case. */
typedef enum kvr_on_board_loss {
    KVR_LOSS_CONTINUE = 0, /* begin again with the boards that are left, or alone: the same text, later */
    KVR_LOSS_FAIL = 1      /* fail with PEER_LOST, TIMEOUT, PEER_FAILED, PEER_BUSY or LINK */
} kvr_on_board_loss;

/* One question. Arrays need to live only during the call. */
typedef struct kvr_prompt {
    uint32_t struct_bytes;
    uint32_t n_ids;         /* 1..ctx_tokens */
    const int32_t *ids;
    uint32_t max_new_tokens; /* 0 = none: prefill only. Ends earlier at EOS or a full context */
    uint32_t ignore_eos;     /* 1: go on after EOS (benchmarks) */
    uint32_t all_logits;     /* 1: an event with logits after every prompt token (single board only) */
    uint32_t logits_from;    /* all_logits: the first position that gets one, below n_ids; earlier ones cost less */
    uint32_t keep_tokens;    /* the first so many ids are those of the last question and its answer: their keys and
                              * values are still cached and not computed again. Below n_ids; single board only. Where
                              * layers have a sliding window and no longer hold what is seen from there
                              * (kvr_plan.ring_tokens), all is computed again: the same answer, later;
                              * kvr_stats.own_first is 0 then */
    kvr_sampling sampling;
    /* Chain, lead only. n_boards 0 or 1: this board alone. Boards 0..n_boards-2 are the peers given to
     * kvr_session_set_boards; this board is the last. */
    uint32_t n_boards;
    const uint32_t *partition; /* n_boards chunk sizes in tokens, each >= 1, sum n_ids. NULL = the best cut by the
                                * boards' profiles and the links as they were met (kvr_session_meet), over as many of
                                * the boards as are worth using; even (kvr_partition_even) where these are not known,
                                * and with TSP */
    uint32_t strategy;         /* kvr_strategy of several boards; with TSP each needs a context for the whole prompt */
    uint32_t on_board_loss;    /* kvr_on_board_loss; to go on alone chunk_tokens must hold the prompt */
} kvr_prompt;

typedef enum kvr_event_kind {
    KVR_EVENT_NONE = 0,
    KVR_EVENT_PROGRESS = 1, /* a step of prefill finished: done of total */
    KVR_EVENT_LOGITS = 2,   /* logits after token `position` are in kvr_session_logits (all_logits, and before each
                             * token) */
    KVR_EVENT_TOKEN = 3,    /* a new token: id, at position */
    KVR_EVENT_END = 4,      /* the answer is complete: EOS, max_new_tokens, or a full context */
    KVR_EVENT_BOARD_LOST = 5, /* the question goes on without a board: id = its place in set_boards, -1 = without any;
                               * kvr_session_get_loss tells why */
    KVR_EVENT_BOARD_BACK = 6 /* a board that was lost takes part again: id */
} kvr_event_kind;

typedef struct kvr_event {
    uint32_t kind; /* kvr_event_kind */
    int32_t id;
    uint32_t position;
    uint32_t done, total;
    uint32_t is_eos; /* END: 1 when EOS ended it */
} kvr_event;

/* Where the time of the last prompt went, microseconds. */
typedef struct kvr_stats {
    uint32_t struct_bytes;
    uint32_t n_prompt_tokens, n_new_tokens, n_boards; /* boards: those that took part in the end */
    uint32_t own_first, own_tokens;           /* this board's chunk; kept tokens are before it */
    uint64_t ttft_us;                         /* prompt() to the first token known */
    uint64_t decode_us;                       /* first token to the last one */
    uint64_t connect_us;                      /* part of ttft: until all boards were ready */
    uint64_t compute_us;                      /* the device worked on the prompt */
    uint64_t wait_prefix_us, wait_send_us;    /* it was idle: for keys and values to come; for the last ones to leave */
    uint64_t expected_us; /* ttft as predicted when the prompt was cut; 0 = too little was known */
    uint64_t plan_us;     /* part of ttft: planning */
    uint64_t frames_in, frames_out, bytes_in, bytes_out, frames_dropped;
    uint64_t frames_refused; /* since open, not of this prompt alone: damaged, no frames at all, or of no job of this
                              * chain. The first that is damaged is logged */
} kvr_stats;

/*
 * Opens a session in mem (64-byte aligned, at least plan.region_bytes[KVR_REGION_SESSION]; less is KVR_ERR_NOMEM and
 * touches nothing). Takes the device memory of the plan through backend->open. After this call neither the library nor
 * the backend allocates. config, backend, port: copied; what they point to must outlive the session.
 */
kvr_status kvr_session_open(void *mem, size_t mem_bytes, const kvr_model *model, const kvr_config *config,
                            const kvr_backend *backend, const kvr_port *port, kvr_session **out_session,
                            kvr_error *error);
void kvr_session_close(kvr_session *session);

/* The plan in force; never NULL. */
const kvr_plan *kvr_session_get_plan(const kvr_session *session);

/* --- chain --------------------------------------------------------------------------------------------------- */

/* Gives the session its link (copied). Needed before set_boards and serve. ARG: the session was planned for one board
 * (kvr_config.max_boards below 2). */
kvr_status kvr_session_set_link(kvr_session *session, const kvr_link *link);
/* Lead: where the helpers listen, rank 0 first, and the address at which they reach this board's inbox.
 * Addresses are copied. Checks nothing yet; the boards are met at the next prompt. A board that was lost is asked again
 * at every prompt, without waiting for it. */
kvr_status kvr_session_set_boards(kvr_session *session, const char *const *helper_addresses, uint32_t n_helpers,
                                  const char *own_address);
/* Helper: from now on poll() serves whichever lead says hello. KVR_AGAIN from poll = idle or waiting. A job that
 * fails is reported to the lead and through kvr_session_get_error; the helper then waits for the next one. */
kvr_status kvr_session_serve(kvr_session *session);

/* --- what boards can do -------------------------------------------------------------------------------------- */

/* Lead: first contact, after set_boards; poll until KVR_END. Says HELLO to all boards and measures the path from each
 * to this one, board by board: at most a second for the answers and half a second for a path, less with a short
 * peer_timeout_ms; on a good network milliseconds. Never fails for a board that is missing or does not fit: the next
 * question tells. Without this the paths are not known and prompts are cut evenly. STATE: no boards are set, or
 * something is under way. */
kvr_status kvr_session_meet(kvr_session *session);
/* This board's profile, for its answers to leads and for its own plans. NULL: unknown, as at first; then chains with it
 * are cut evenly. Copied. ARG: a number is beyond kvr_profile.h's ranges; the profile is unknown then. */
kvr_status kvr_session_set_profile(kvr_session *session, const kvr_board_profile *profile);
/* Lets this board measure its profile: poll until KVR_END, or a failure of the device. Takes about budget_us (one round
 * of a few rows through one layer is the least), less with small models, up to three times as much where other work
 * disturbs it. Reads no weights from elsewhere and sends nothing; what was cached is given up. STATE: something is
 * under way; ARG: 0; UNSUPPORTED: a model of one layer. */
kvr_status kvr_session_measure(kvr_session *session, uint32_t budget_us);
/* The profile set or measured, without texts. STATE: it is unknown. */
kvr_status kvr_session_get_profile(const kvr_session *session, kvr_board_profile *out);

/* --- work ---------------------------------------------------------------------------------------------------- */

/* Starts a question; what was cached before is given up, but for keep_tokens. Errors: ARG (also: keep_tokens of ids
 * that are not cached), CTX_FULL, PARTITION; STATE: a helper, or a question is under way (its own error record is left
 * alone). */
kvr_status kvr_session_prompt(kvr_session *session, const kvr_prompt *prompt);
/* KVR_OK: *out is an event or KIND_NONE (work was done), KVR_AGAIN: waiting for device or network, KVR_END: nothing to
 * do. Negative: the question failed (kvr_session_get_error tells why); the session can take the next one. */
kvr_status kvr_session_poll(kvr_session *session, kvr_event *out);
/* Loop over poll until the end, sleeping while it waits. callback may be NULL; non-zero stops. May block. */
typedef int (*kvr_event_fn)(void *user, const kvr_event *event);
kvr_status kvr_session_run(kvr_session *session, kvr_event_fn callback, void *user);
/* Sleeps until poll may have something to do, at most max_us (and what the port's sleep or the link's wait may be late
 * by): for loops of the application's own. UINT64_MAX: as kvr_session_run does, in the device for as long as its
 * operators take, without the port's sleep, which costs up to 0.2 ms per token. */
void kvr_session_idle(kvr_session *session, uint64_t max_us);
/* Ends the question under way, or a helper's service; other boards are told. Poll until KVR_END (or the failure) before
 * the next prompt: the device may still be writing. */
kvr_status kvr_session_stop(kvr_session *session);
/* Lead: says goodbye to the helpers (they wait for the next lead). */
kvr_status kvr_session_dismiss(kvr_session *session);

/* Logits after the last LOGITS or TOKEN event, [n_vocab] floats, valid until the next poll. */
const float *kvr_session_logits(const kvr_session *session);
void kvr_session_get_stats(const kvr_session *session, kvr_stats *out);
/* The first failure of the last question, meeting, measurement or job, or of a call after it that was refused;
 * status KVR_OK when there was none. A call that is refused because something is under way changes nothing here. Never
 * NULL. */
const kvr_error *kvr_session_get_error(const kvr_session *session);
/* Why the last board was left out (KVR_EVENT_BOARD_LOST); status KVR_OK when none was. Never NULL. */
const kvr_error *kvr_session_get_loss(const kvr_session *session);
/* Place in set_boards of the board a PEER_* or TIMEOUT failure is about; -1 = none. */
int32_t kvr_session_failed_rank(const kvr_session *session);

#ifdef __cplusplus
}
#endif
#endif
