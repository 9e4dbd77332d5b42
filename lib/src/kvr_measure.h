/*
 * kvr_measure.h - internal: a board measures itself, a few layers at a time, within a budget. What it finds are the
 * numbers of its profile. How they follow from the times: lib/README.md, "The default cut".
 */
#ifndef KVR_MEASURE_H
#define KVR_MEASURE_H

#include "kvr/kvr_status.h"

typedef enum kvri_measure_step {
    KVRI_MEASURE_WARM = 0, /* compilers, caches; how much the budget is worth */
    KVRI_MEASURE_FEW,      /* a quarter of the rows of MANY */
    KVRI_MEASURE_MANY,     /* a micro-batch, or what the budget allows of it */
    KVRI_MEASURE_DEEP,     /* the same rows with a context before them */
    KVRI_MEASURE_ONE,      /* one row: reading the weights, of more layers than a cache holds */
    KVRI_MEASURE_STEPS
} kvri_measure_step;

typedef struct kvri_measure {
    kvri_measure_step step;
    uint32_t rounds; /* of WARM; then of all the others in turn */
    int drains;
    uint32_t rows[KVRI_MEASURE_STEPS], first[KVRI_MEASURE_STEPS], n_layers[KVRI_MEASURE_STEPS]; /* of a pass */
    double layer_us[KVRI_MEASURE_STEPS], second_us[KVRI_MEASURE_STEPS]; /* least two of all passes; 0 = none */
    uint64_t budget_us;
    uint64_t begun_us, round_us, pass_us; /* when it all began, this round, this pass */
} kvri_measure;

struct kvr_session;

/* budget_us > 0. The model has two layers or more. */
void kvri_measure_begin(struct kvr_session *s, uint64_t now_us, uint64_t budget_us);
/* KVR_OK, KVR_AGAIN; KVR_END: session.speed is there, or unknown where the times fit no profile. Negative: the
 * device. */
kvr_status kvri_measure_poll(struct kvr_session *s);

#endif
