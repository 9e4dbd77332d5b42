/*
 * timeline.h - where the time of a prompt went, board by board: a file for Perfetto (Chrome's trace format), and a picture.
 */
#ifndef KVR_CLI_TIMELINE_H
#define KVR_CLI_TIMELINE_H

#include "chain.h"

/* Spans that a helper keeps for a lead that asks, and that a lead keeps for each board. A model of 32 layers on 8 boards
 * makes a few hundred to 2000 a board, by the order in which frames arrive. */
#define TIMELINE_SPANS_PER_BOARD 4096u

/* Writes what kvr_session_get_trace has of the last prompt. path may be NULL: nothing. An exit code, with a sentence. */
int timeline_write_trace(const chain *c, const char *path);
int timeline_write_picture(const chain *c, const char *path);

#endif
