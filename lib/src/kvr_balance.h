/*
 * kvr_balance.h - internal: the lead's own planner. What it knows of boards and links, the cut that follows, and what
 * it learns from one prompt for the next. The rules with their arithmetic: lib/README.md, "The default cut".
 */
#ifndef KVR_BALANCE_H
#define KVR_BALANCE_H

#include "kvr/kvr_plan.h"
#include "kvr_speed.h"

#include <stddef.h>

/* What was said of a board and what came of it. */
typedef struct kvri_promise {
    double slowness;    /* takes so many times what its profile says; 0 = not learned, as 1 */
    double promised_us; /* of computing in the last planned prompt; 0 = none to compare with */
    uint64_t took_us;   /* what it did compute; 0 = not heard */
    double planned_us;  /* what the kept cut promises */
} kvri_promise;

/* From a board to the lead, measured at first contact. */
typedef struct kvri_path_seen {
    uint32_t known;
    double mbit, latency_us;
} kvri_path_seen;

/* The last cut, for prompts of the same length while nothing else was learned. */
typedef struct kvri_kept_cut {
    uint32_t n_tokens; /* 0 = none */
    uint32_t n;        /* helpers */
    uint32_t boards[KVR_MAX_BOARDS], sizes[KVR_MAX_BOARDS];
    uint64_t expected_us;
} kvri_kept_cut;

struct kvr_session;

/* Working memory of plans for chains of at most max_boards. */
size_t kvri_balance_bytes(uint32_t max_boards, uint32_t n_layers);

/*
 * Cuts the question over boards[0..n) and the lead, which is the last: out_sizes [n + 1], 0 for a board that is not
 * worth using; given: not NULL = that cut, and only what it takes is predicted. 1: done, and noted as what was
 * promised; 0: too little is known, or the cut does not fit the boards (out_sizes untouched).
 */
int kvri_balance_cut(struct kvr_session *s, const uint32_t *boards, uint32_t n, const uint32_t *given,
                     uint32_t *out_sizes);
/* What is known of boards or paths is no longer what it was: the kept cut is none. */
void kvri_balance_changed(struct kvr_session *s);
/* Takes in what the boards took for the last prompt. */
void kvri_balance_learn(struct kvr_session *s);
/* The cut is taken. A board that it leaves out cannot show that it has recovered, so it is forgiven little by
 * little. */
void kvri_balance_forgive(struct kvr_session *s, const uint32_t *boards, uint32_t n, const uint32_t *sizes);
/* The last prompt is nothing to learn from: stopped, failed, or begun again. */
void kvri_balance_forget(struct kvr_session *s);

#endif
