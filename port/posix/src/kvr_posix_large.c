#define _DEFAULT_SOURCE /* madvise */
#include "kvr_posix_os.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void kvri_posix_large_pages(void *user, void *at, size_t bytes) {
    (void)user;
#ifdef MADV_HUGEPAGE
    const long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || bytes == 0) return;
    /* from the beginning of a page, as madvise wants it */
    const size_t before = (size_t)((uintptr_t)at % (uintptr_t)page);
    (void)madvise((char *)at - before, before + bytes, MADV_HUGEPAGE);
#else
    (void)at, (void)bytes;
#endif
}
