/*
 * timeline.h - where the time of a prompt went, or is predicted to go, board by board: a file for Perfetto (Chrome's
 * trace format), and a picture.
 */
#ifndef KVR_CLI_TIMELINE_H
#define KVR_CLI_TIMELINE_H

#include "chain.h"

/* Spans that a helper keeps for a lead that asks, and that a lead keeps for each board. A model of 32 layers on 8
 * boards makes a few hundred to 2000 a board, by the order in which frames arrive. */
#define TIMELINE_SPANS_PER_BOARD 4096u

/* A prompt's spans and what its boards are; large for a stack. */
typedef struct timeline {
    const kvr_span *spans;
    uint32_t n_spans, n_boards, n_layers, n_tokens;
    uint64_t start_us, end_us; /* end: the last span's */
    uint64_t ttft_us;
    int is_predicted;
    kvr_trace_board boards[KVR_MAX_BOARDS];
    uint64_t sum_us[KVR_MAX_BOARDS][KVR_SPAN_KINDS];
    uint64_t bytes[KVR_MAX_BOARDS]; /* that came to it */
} timeline;

/* What kvr_session_get_trace has of the last prompt. */
void timeline_of_session(const chain *c, timeline *out);
/* Sums up spans and finds their end; all other fields are there. */
void timeline_add_up(timeline *t);

/* path may be NULL: nothing. An exit code, with a sentence. */
int timeline_write_trace(const timeline *t, const char *path);
int timeline_write_picture(const timeline *t, const char *path);

#endif
