/*
 * progress.h - one line on stderr that moves while the prompt is computed; nothing when stderr is no terminal.
 */
#ifndef KVR_CLI_PROGRESS_H
#define KVR_CLI_PROGRESS_H

#include <stdint.h>

typedef struct progress {
    int on;            /* stderr is a terminal */
    int shown;         /* there is a line to wipe */
    uint32_t permille; /* last drawn, so that a fast prompt does not flood the terminal */
} progress;

void progress_begin(progress *bar);
void progress_show(progress *bar, uint32_t done, uint32_t total);
/* Wipes the line; call before anything else is written. Harmless when nothing is shown. */
void progress_end(progress *bar);

#endif
