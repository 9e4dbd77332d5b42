/*
 * paper_runs.h - chains of emulated boards that were run, as tests/bench/paper.sh writes them, to stand beside
 * predictions:
 *
 *   kvr-runs 1
 *   # remarks
 *   board a100
 *   run llama-7b paper-fast 4 4096 tsp 140.9 6442450944     model, network, boards, tokens, strategy, ms, bytes moved
 *
 * ms: time to the first token, in the board's own time (a run may have been slowed down). Bytes: over all links.
 */
#ifndef KVR_CLI_PAPER_RUNS_H
#define KVR_CLI_PAPER_RUNS_H

#include <stddef.h>
#include <stdint.h>

enum { PAPER_RUNS_CAP = 256 };

typedef struct paper_run {
    char model[64], link[64], strategy[16]; /* strategy: as --strategy names it */
    uint32_t n_boards, n_tokens;
    double ttft_ms;
    uint64_t bytes_moved;
} paper_run;

typedef struct paper_runs {
    uint32_t n;
    paper_run runs[PAPER_RUNS_CAP];
} paper_runs;

/* Adds the runs in a file that are of this board. An exit code, with a sentence that names the line. */
int paper_runs_read(paper_runs *runs, const char *path, const char *board);
/* The last of such runs; NULL: none. */
const paper_run *paper_runs_find(const paper_runs *runs, const char *model, const char *link, uint32_t n_boards,
                                 uint32_t n_tokens, const char *strategy);

#endif
