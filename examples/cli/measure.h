/*
 * measure.h - timed repetitions of prompt and answer on one chain, in a process of its own: boards of different chains
 * must be held to different cores, and a driver's threads cannot be moved once they run.
 */
#ifndef KVR_CLI_MEASURE_H
#define KVR_CLI_MEASURE_H

#include "chain.h"

#define MEASURE_CAP_SAMPLES 1000u

/* One test on one chain. */
typedef struct measure_result {
    uint32_t n_prompt, n_gen, n_depth; /* n_depth tokens were cached before */
    uint32_t n_boards, n_threads, batch_tokens, kv_dtype;
    char backend[16], device[128];
    double expected_us; /* predicted time to the first token; 0 = not predicted */
    char partition[8 * KVR_MAX_BOARDS]; /* of the last repetition: "1010,1038" */
    uint64_t bytes_moved; /* over all links, in the last repetition; 0 = not traced, or not by all boards */
    uint32_t n_samples;
    uint64_t region_bytes[KVR_REGION_COUNT]; /* planned, of this board */
    uint64_t peak_bytes;                     /* most memory this board's process had resident, file pages included */
    uint64_t sample_ns[MEASURE_CAP_SAMPLES];
    uint64_t ttft_us[MEASURE_CAP_SAMPLES];
} measure_result;

/* Not EXIT_OK ends the measurement. */
typedef int (*measure_fn)(void *user, const measure_result *result);

/*
 * Opens a chain of n_boards (0: this board alone, not held to cores) in a child process and runs every test of opt on
 * it; callback sees each result in this process as soon as it is known. An exit code, with a sentence.
 */
int measure_run(const options *opt, uint32_t n_boards, measure_fn callback, void *user);

#endif
