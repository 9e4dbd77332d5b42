/* fuzz_target.h - the one function of a target (libFuzzer's name for it), and memory whose end is exact. */
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L /* posix_memalign; include this header first */
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise ends the process, so that the fuzzer keeps the input. */
#define FUZZ_CHECK(what) \
    do { \
        if (!(what)) abort(); \
    } while (0)

/* Memory aligned to 64 that ends with its allocation, so that sanitizers see every byte too far. free() it. */
static inline void *alloc_exact(size_t bytes) {
    void *mem = NULL;
    FUZZ_CHECK(posix_memalign(&mem, 64, bytes) == 0);
    return mem;
}

#endif
