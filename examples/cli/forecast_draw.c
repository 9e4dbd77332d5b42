#include "forecast_draw.h"

#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "timeline.h"

/* A rank has at most this many in a layer: K and V, a wait, the rest, a transfer; and one wait at the end. */
enum { SPANS_PER_LAYER = 5 };

typedef struct collection {
    kvr_span *spans;
    uint32_t n, cap, n_boards;
} collection;

static void collect(void *user, uint32_t rank, uint32_t layer, kvr_cost_span span, double begin_us, double end_us) {
    static const kvr_span_kind kinds[] = {KVR_SPAN_COMPUTE, KVR_SPAN_WAIT_PREFIX, KVR_SPAN_WAIT_SEND,
                                          KVR_SPAN_TRANSFER};
    collection *c = user;
    if (c->n == c->cap) return;
    kvr_span *s = &c->spans[c->n++];
    memset(s, 0, sizeof *s);
    s->from_us = (uint64_t)(begin_us + 0.5);
    s->to_us = (uint64_t)(end_us + 0.5);
    s->layer = (uint16_t)layer;
    s->kind = (uint8_t)kinds[span];
    /* a timeline shows transfers where they arrive */
    s->rank = (uint8_t)(span == KVR_COST_TRANSFER ? (rank + 1) % c->n_boards : rank);
}

/* Every layer of a chain carries as much. */
static void fill_bytes(collection *c, const kvr_cost_rank *ranks, uint32_t n_layers) {
    for (uint32_t i = 0; i < c->n; i++)
        if (c->spans[i].kind == KVR_SPAN_TRANSFER)
            c->spans[i].bytes = (uint32_t)(ranks[c->spans[i].rank - 1].bytes_out / n_layers);
}

int forecast_draw(const kvr_cost_job *job, forecast_memory *memory, const options *opt) {
    static timeline lanes;
    static kvr_cost_rank ranks[KVR_MAX_BOARDS];
    kvr_cost_job own = *job;
    kvr_cost_result result;
    kvr_error error = {0};
    if (opt->trace == NULL && opt->timeline == NULL) return EXIT_OK;
    const uint32_t n_layers = job->geometry->n_layers;
    collection c = {NULL, 0, job->n_boards * (SPANS_PER_LAYER * n_layers + 1), job->n_boards};
    c.spans = calloc(c.cap, sizeof *c.spans);
    if (c.spans == NULL) return say_error("not enough memory for a timeline: end other programs");
    own.span = collect;
    own.span_user = &c;
    int code = forecast_memory_for(memory, &own);
    if (code == EXIT_OK && kvr_cost_run(&own, memory->work, memory->bytes, &result, ranks, &error) != KVR_OK)
        code = say_kvr_error("cannot predict", &error);
    if (code == EXIT_OK) {
        fill_bytes(&c, ranks, n_layers);
        memset(&lanes, 0, sizeof lanes);
        lanes.spans = c.spans;
        lanes.n_spans = c.n;
        lanes.n_boards = job->n_boards;
        lanes.n_layers = n_layers;
        lanes.n_tokens = job->n_tokens;
        lanes.ttft_us = (uint64_t)(result.ttft_us + 0.5);
        lanes.is_predicted = 1;
        for (uint32_t r = 0; r < job->n_boards; r++) {
            lanes.boards[r].known = 1;
            lanes.boards[r].first = ranks[r].first;
            lanes.boards[r].tokens = ranks[r].n_tokens;
        }
        timeline_add_up(&lanes);
        code = timeline_write_trace(&lanes, opt->trace);
    }
    if (code == EXIT_OK) code = timeline_write_picture(&lanes, opt->timeline);
    free(c.spans);
    return code;
}
