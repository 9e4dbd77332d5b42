/*
 * emulate.h - a board that is not there: a backend that takes the time a profile says (kvr_profile.h) and computes
 * nothing. Everything around it is real: the session, its scheduling, frames and links. Keys and values have their size
 * but no content, are not kept, and the answer means nothing. The device is a queue whose end is a moment in time;
 * nothing spins.
 *
 * What operators cost is what kvr_cost.h predicts with, operator by operator: a product max(multiply-adds /
 * dense_gmacs, weight bytes / memory_gbs), attention by its query-key products, call_us for each half of a layer and
 * micro-batch, frames by frame_gbs. prompt_us is not taken: the real program's own time stands for it.
 */
#ifndef KVR_CLI_EMULATE_H
#define KVR_CLI_EMULATE_H

#include "kvr/kvr_backend.h"
#include "kvr/kvr_profile.h"

typedef struct emulate {
    kvr_board_profile profile;
    kvr_tensor_desc *tensors; /* in the memory given to open */
    uint32_t first_kv, n_heads;
    double free_us;                    /* when the device has run everything; on the monotonic clock */
    double marks_us[KVR_BACKEND_MARKS];
    double fences_us[KVR_BACKEND_FENCES]; /* when a read is done; 0 = free */
} emulate;

/* The board of rank `rank` of n_boards from a list of files, "A" for all or "A,B,C" in chain order. An exit code, with
 * a sentence when it is no EXIT_OK. */
int emulate_open(emulate *e, const char *list, uint32_t rank, uint32_t n_boards, kvr_backend *out);
/* The file of one board of such a list; how many bytes of *out_path. NULL: the list has another length than 1 or
 * n_boards. */
const char *emulate_file(const char *list, uint32_t rank, uint32_t n_boards, size_t *out_bytes);

#endif
