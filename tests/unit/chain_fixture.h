/*
 * chain_fixture.h - two questions of N tokens to a tiny model, and what one board answers: for tests of what goes wrong
 * on the way.
 */
#ifndef CHAIN_FIXTURE_H
#define CHAIN_FIXTURE_H

#include "chain_backend.h"

enum { N = 24, NEW = 3, BOARDS = 4 };
#define LIMIT_US (RIG_TIMEOUT_MS * 1000ull)

typedef struct fixture {
    rig_model model;
    rig_answer truth, other_truth;
    int32_t ids[N], other[N];
} fixture;

static inline void fixture_open_shape(fixture *f, const gguf_shape *shape) {
    rig_model_make(&f->model, shape);
    rig_ids(f->ids, N, f->model.info->n_vocab, 1);
    rig_ids(f->other, N, f->model.info->n_vocab, 2);
    rig_single(&f->model, NULL, f->ids, N, NEW, &f->truth);
    rig_single(&f->model, NULL, f->other, N, NEW, &f->other_truth);
}

static inline void fixture_open(fixture *f) { fixture_open_shape(f, &RIG_TINY); }

static inline void fixture_close(fixture *f) {
    rig_answer_free(&f->truth);
    rig_answer_free(&f->other_truth);
    rig_model_close(&f->model);
}

#endif
