/*
 * kvr_none.h - the port for a machine without an operating system: a clock made from a hardware tick counter. Models
 * are linked into the program or lie in flash, so there is no map; idle and log may be set by the application.
 */
#ifndef KVR_NONE_H
#define KVR_NONE_H

#include "kvr/kvr_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A free-running counter that wraps at 2^32 (a millisecond SysTick, a cycle counter). */
typedef uint32_t (*kvr_none_tick_fn)(void *user);

/* Fixed-size object, owned by the caller; contents are private. */
typedef struct kvr_none {
    kvr_none_tick_fn tick;
    void *tick_user;
    uint32_t ticks_per_second;
    uint32_t last;
    uint64_t total;
} kvr_none;

/*
 * Fills out with a clock that starts at 0. `none` must outlive it. The clock must be read at least once per wrap of the
 * counter (49 days at 1 kHz, 4.2 s at 1 GHz). A session that is polled does that, between operators: divide a counter
 * that wraps within the longest of them. Not for use from interrupts.
 * ARG: a NULL pointer, or ticks_per_second 0.
 */
kvr_status kvr_none_port(kvr_none *none, kvr_none_tick_fn tick, void *tick_user, uint32_t ticks_per_second,
                         kvr_port *out);

#ifdef __cplusplus
}
#endif
#endif
