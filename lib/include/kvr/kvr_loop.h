/*
 * kvr_loop.h - the link inside one process: boards in one address space, for tests and for several devices on one
 * board. Single-threaded: all sessions are polled from one thread. Addresses are "loop:0", "loop:1", ...
 */
#ifndef KVR_LOOP_H
#define KVR_LOOP_H

#include "kvr/kvr_link.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvr_loop kvr_loop;

/* Memory for n_boards inboxes of cap_frames frames of at most frame_bytes each; 0 on overflow. */
size_t kvr_loop_bytes(uint32_t n_boards, uint32_t cap_frames, size_t frame_bytes);
/* mem 64-byte aligned. ARG, NOMEM. */
kvr_status kvr_loop_open(void *mem, size_t mem_bytes, uint32_t n_boards, uint32_t cap_frames, size_t frame_bytes,
                         kvr_loop **out);
/* The link of board `board` (0..n_boards-1), valid while the loop's memory is. */
kvr_status kvr_loop_link(kvr_loop *loop, uint32_t board, kvr_link *out);

#ifdef __cplusplus
}
#endif
#endif
