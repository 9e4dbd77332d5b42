/*
 * kvr_ocl_cache.c - one file per program binary. The only part of kvr that writes files and, during open only, uses the
 * heap. The file: a header with the key and the binary's length and hash, then the binary. Whatever does not fit - a
 * torn, flipped or foreign file - counts as absent, and the program is built from source. Written to a temporary name
 * and renamed, so that readers see a whole file or none; byte order is the machine's own, as the binary is.
 */
#include "kvr_ocl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAGIC 0x31425256u /* "VRB1" */
#define MAX_BINARY_BYTES (64u << 20)
#define PATH_CAP 1024u

typedef struct cache_header {
    uint32_t magic;
    uint32_t header_bytes;
    uint64_t key[2];
    uint64_t binary_bytes;
    uint64_t binary_hash;
} cache_header;

uint64_t kvri_ocl_cache_hash(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ at[i]) * 1099511628211u;
    return hash;
}

static int path_of(char *out, const char *dir, const uint64_t key[2], const char *suffix) {
    const int n = snprintf(out, PATH_CAP, "%s/kvr-%08lx%08lx%s", dir, (unsigned long)(key[0] >> 32),
                           (unsigned long)(key[0] & 0xffffffffu), suffix);
    return n > 0 && (size_t)n < PATH_CAP;
}

unsigned char *kvri_ocl_cache_load(const char *dir, const uint64_t key[2], size_t *out_bytes) {
    char path[PATH_CAP];
    cache_header header;
    unsigned char *binary = NULL;
    int whole = 0;
    if (!path_of(path, dir, key, ".bin")) return NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    if (fread(&header, sizeof header, 1, file) == 1 && header.magic == MAGIC && header.header_bytes == sizeof header &&
        header.key[0] == key[0] && header.key[1] == key[1] && header.binary_bytes > 0 &&
        header.binary_bytes <= MAX_BINARY_BYTES) {
        const size_t bytes = (size_t)header.binary_bytes;
        binary = malloc(bytes);
        whole = binary != NULL && fread(binary, 1, bytes, file) == bytes && fgetc(file) == EOF &&
                kvri_ocl_cache_hash(KVRI_OCL_HASH_START, binary, bytes) == header.binary_hash;
        *out_bytes = bytes;
    }
    fclose(file);
    if (whole) return binary;
    free(binary);
    return NULL;
}

int kvri_ocl_cache_save(const char *dir, const uint64_t key[2], const unsigned char *binary, size_t bytes) {
    char path[PATH_CAP];
    char temporary[PATH_CAP];
    char suffix[40];
    if (bytes == 0 || bytes > MAX_BINARY_BYTES) return 0;
    /* Several boards start at once on one machine: time, processor time and a stack address tell their files apart;
     * should two still meet, the hash in the header finds it. */
    const uintptr_t place = (uintptr_t)&path;
    const time_t now = time(NULL);
    const clock_t used = clock();
    uint64_t unique = kvri_ocl_cache_hash(KVRI_OCL_HASH_START, &place, sizeof place);
    unique = kvri_ocl_cache_hash(unique, &now, sizeof now);
    unique = kvri_ocl_cache_hash(unique, &used, sizeof used);
    snprintf(suffix, sizeof suffix, ".%08lx.tmp", (unsigned long)(unique & 0xffffffffu));
    if (!path_of(path, dir, key, ".bin") || !path_of(temporary, dir, key, suffix)) return 0;
    cache_header header;
    memset(&header, 0, sizeof header);
    header.magic = MAGIC;
    header.header_bytes = sizeof header;
    header.key[0] = key[0];
    header.key[1] = key[1];
    header.binary_bytes = bytes;
    header.binary_hash = kvri_ocl_cache_hash(KVRI_OCL_HASH_START, binary, bytes);
    FILE *file = fopen(temporary, "wb");
    if (file == NULL) return 0;
    const int written = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(binary, 1, bytes, file) == bytes;
    if (fclose(file) != 0 || !written || rename(temporary, path) != 0) {
        remove(temporary);
        return 0;
    }
    return 1;
}
