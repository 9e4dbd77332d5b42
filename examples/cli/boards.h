/*
 * boards.h - the helpers of a chain on this machine: processes that this one starts, watches and ends.
 */
#ifndef KVR_CLI_BOARDS_H
#define KVR_CLI_BOARDS_H

#include <stdint.h>
#include <sys/types.h>

#include "kvr/kvr_link.h"
#include "kvr/kvr_plan.h"

#define BOARDS_CAP_HELPERS (KVR_MAX_BOARDS - 1u)

typedef struct board_process {
    pid_t pid;       /* 0 = not running */
    int announce_fd; /* the helper writes its address here when it is ready; -1 = closed */
    int error_fd;    /* its stderr and stdout; -1 = closed */
    char address[KVR_ADDRESS_CAP];
    char line[512]; /* of error_fd, not complete yet */
    uint32_t line_bytes;
} board_process;

typedef struct boards {
    uint32_t n_boards; /* with this one, which is the last; 0 or 1 = no helpers */
    int go_on; /* a helper that ends is worth a note, not the end */
    board_process helpers[BOARDS_CAP_HELPERS];
} boards;

/* What every helper is told; it must agree with the lead's own configuration. */
typedef struct boards_config {
    uint32_t n_boards, cores_per_board;
    const char *model, *device; /* device NULL = the helper's default */
    uint32_t ctx_tokens, batch_tokens, kv_dtype, wire_kv, kv_window, chunk;
    const char *gemm, *precision; /* names of --gemm, --precision: other arithmetic would be another answer */
    const char *emulate; /* list of profiles, as emulate_file reads it; NULL = real boards */
    double board_timeout_s;
    int own_group; /* keys that end programs reach only this one */
    int even;    /* nobody asks what a helper can do: it need not measure itself */
    int verbose; /* name every helper on stderr as it is started */
} boards_config;

/* Starts n_boards - 1 helpers and holds this process to the last board's cores. Call before any driver or link is
 * opened. An exit code; after a failure nothing runs. Always follow with boards_end. */
int boards_start(boards *set, const boards_config *config);
/* Waits until every helper announced its address. An exit code, with a sentence when it is no EXIT_OK. */
int boards_wait_ready(boards *set, double timeout_s);
/* Looks, without waiting, whether all helpers live, and passes on what they say on stderr. EXIT_OK, or EXIT_FAILED with
 * a sentence such as "board 0 (pid 7) was killed by signal 9 during the prompt". */
int boards_check(boards *set, const char *when);
/* Ends and reaps all helpers. Harmless on a zeroed set and when called twice. */
void boards_end(boards *set);

#endif
