#define _GNU_SOURCE /* sched_setaffinity */
#include "affinity.h"

#include <errno.h>
#include <sched.h>

uint32_t affinity_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (uint32_t)n : 1u;
}

int affinity_hold(uint32_t rank, uint32_t n_cores) {
    cpu_set_t allowed, wanted;
    uint32_t cores[CPU_SETSIZE], n = 0;
    CPU_ZERO(&allowed);
    CPU_ZERO(&wanted);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return errno;
    for (uint32_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed)) cores[n++] = i;
    if (n == 0) return EINVAL;
    for (uint64_t i = 0; i < n_cores && i < n; i++) CPU_SET(cores[((uint64_t)rank * n_cores + i) % n], &wanted);
    return sched_setaffinity(0, sizeof wanted, &wanted) == 0 ? 0 : errno;
}
