/*
 * kvr_cpu.h - the reference backend: plain portable C99, one core, weights used in place from the mapped file.
 * Simple enough to believe; every other backend is tested against it.
 */
#ifndef KVR_CPU_H
#define KVR_CPU_H

#include "kvr/kvr_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fixed-size object, owned by the caller; contents are private. */
typedef struct kvr_cpu {
    void *state; /* inside the memory given to open; NULL while closed */
} kvr_cpu;

/* Fills out with the table of this backend. cpu must outlive it and start as {0}. One object serves one session. */
void kvr_cpu_backend(kvr_cpu *cpu, kvr_backend *out);

#ifdef __cplusplus
}
#endif
#endif
