#define _POSIX_C_SOURCE 200809L
#include "kvr_posix_os.h"

#include <time.h>

uint64_t kvri_posix_now_us(void *user) {
    (void)user;
    struct timespec now;
    /* Cannot fail: the clock is mandatory on the systems this port is for and the pointer is valid. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void kvri_posix_idle(void *user, uint64_t max_us) {
    (void)user;
    const uint64_t most_us = 3600u * UINT64_C(1000000); /* fits time_t everywhere; callers loop anyway */
    const uint64_t us = max_us < most_us ? max_us : most_us;
    const struct timespec span = {.tv_sec = (time_t)(us / 1000000u), .tv_nsec = (long)(us % 1000000u) * 1000};
    /* A signal ends it early: the application may want to stop. */
    nanosleep(&span, NULL);
}
