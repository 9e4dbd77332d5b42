#include "kvr/kvr_none.h"

#include <string.h>

static uint64_t now_us(void *user) {
    kvr_none *const none = user;
    const uint32_t tick = none->tick(none->tick_user);
    none->total += (uint32_t)(tick - none->last); /* modulo 2^32: right across a wrap */
    none->last = tick;
    const uint64_t seconds = none->total / none->ticks_per_second;
    const uint64_t rest = none->total % none->ticks_per_second;
    return seconds * 1000000u + rest * 1000000u / none->ticks_per_second;
}

kvr_status kvr_none_port(kvr_none *none, kvr_none_tick_fn tick, void *tick_user, uint32_t ticks_per_second,
                         kvr_port *out) {
    if (none == NULL || tick == NULL || out == NULL || ticks_per_second == 0) return KVR_ERR_ARG;
    memset(none, 0, sizeof *none);
    none->tick = tick;
    none->tick_user = tick_user;
    none->ticks_per_second = ticks_per_second;
    none->last = tick(tick_user);
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = none;
    out->now_us = now_us;
    return KVR_OK;
}
