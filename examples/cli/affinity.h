/*
 * affinity.h - which CPU cores a board may use, so that boards on one machine do not take each other's.
 */
#ifndef KVR_CLI_AFFINITY_H
#define KVR_CLI_AFFINITY_H

#include <stdint.h>

/* Cores this process may use now; at least 1. */
uint32_t affinity_cores(void);
/*
 * Holds the process to the cores of board `rank` of n_cores each, counted within the cores allowed now and wrapping
 * around when there are too few. Threads made later inherit it, so call it before any driver starts its own.
 * 0, or an errno.
 */
int affinity_hold(uint32_t rank, uint32_t n_cores);

#endif
