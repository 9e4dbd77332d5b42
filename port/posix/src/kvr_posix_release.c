#define _DEFAULT_SOURCE /* madvise */
#include "kvr/kvr_posix.h"

#include <stdint.h>
#include <sys/mman.h>

void kvr_posix_release_pages(const void *data, size_t bytes) {
#ifdef MADV_DONTNEED
    /* of a mapping that is only read, this drops clean pages; posix_madvise does nothing on some systems */
    if (data != NULL && bytes > 0) (void)madvise((void *)(uintptr_t)data, bytes, MADV_DONTNEED);
#else
    (void)data, (void)bytes;
#endif
}
