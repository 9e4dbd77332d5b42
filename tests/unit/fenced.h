/*
 * fenced.h - memory that ends where nothing may be read or written any more, so that one byte too far is a crash and
 * not luck. A page without access on POSIX systems, else memory from malloc without a fence. Include it first: it asks
 * the system headers for mmap.
 */
#ifndef FENCED_H
#define FENCED_H

#if defined(__unix__) || defined(__APPLE__)
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include <sys/mman.h>
#include <unistd.h>
#define FENCED_PAGES 1
#endif

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct fenced {
    uint8_t *at; /* aligned only as far as bytes is a multiple of the alignment */
    size_t bytes;
    void *mapped;
    size_t mapped_bytes;
} fenced;

static inline fenced fenced_alloc(size_t bytes) {
    fenced f;
    memset(&f, 0, sizeof f);
    f.bytes = bytes;
#ifdef FENCED_PAGES
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (bytes + page - 1) / page * page;
    uint8_t *p = (uint8_t *)mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if ((void *)p == MAP_FAILED || mprotect(p + body, page, PROT_NONE) != 0) abort();
    f.mapped = p;
    f.mapped_bytes = body + page;
    f.at = p + body - bytes;
#else
    f.mapped = malloc(bytes + 64);
    if (f.mapped == NULL) abort();
    f.at = (uint8_t *)f.mapped + (64 - (uintptr_t)f.mapped % 64); /* as aligned as a page is */
#endif
    return f;
}

static inline fenced fenced_copy(const void *bytes, size_t n) {
    fenced f = fenced_alloc(n);
    if (n > 0) memcpy(f.at, bytes, n);
    return f;
}

/* The last n bytes of the fenced memory: what a shorter input looks like. */
static inline uint8_t *fenced_tail(const fenced *f, size_t n) { return f->at + (f->bytes - n); }

static inline void fenced_free(fenced *f) {
#ifdef FENCED_PAGES
    munmap(f->mapped, f->mapped_bytes);
#else
    free(f->mapped);
#endif
    memset(f, 0, sizeof *f);
}

#endif
