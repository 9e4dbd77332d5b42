/*
 * Gives a fuzz target every file named on the command line, damaged in one byte of its header: each bit flipped, all
 * bits 0, all bits 1. Then the header cut at every length. -s N: only every Nth byte.
 */
#include "fuzz_target.h"

#include <stdio.h>
#include <string.h>

#include "kvr_gguf.h"

#define VALUES 10u /* 8 bits, 0, 0xFF */

static uint8_t *read_whole(const char *path, size_t *out_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
    const long n = ftell(file);
    uint8_t *bytes = n > 0 ? (uint8_t *)malloc((size_t)n) : NULL; /* exactly its size */
    rewind(file);
    if (bytes != NULL && fread(bytes, 1, (size_t)n, file) != (size_t)n) return NULL;
    fclose(file);
    *out_bytes = (size_t)n;
    return bytes;
}

static uint8_t damaged(uint8_t byte, uint32_t how) {
    if (how < 8) return (uint8_t)(byte ^ 1u << how);
    return how == 8 ? 0 : 0xFF;
}

static unsigned long mutate(const char *path, size_t step) {
    size_t n = 0;
    unsigned long runs = 0;
    kvri_gguf gguf;
    uint8_t *file = read_whole(path, &n);
    if (file == NULL || kvri_gguf_open(file, n, &gguf, NULL) != KVR_OK) {
        fprintf(stderr, "%s is no model file\n", path);
        exit(1);
    }
    const size_t header = (size_t)(gguf.data_at < n ? gguf.data_at : n);
    for (size_t at = 0; at < header; at += step) {
        const uint8_t was = file[at];
        for (uint32_t how = 0; how < VALUES; how++) {
            if (damaged(was, how) == was) continue;
            file[at] = damaged(was, how);
            LLVMFuzzerTestOneInput(file, n);
            runs++;
        }
        file[at] = was;
        uint8_t *cut = (uint8_t *)malloc(at > 0 ? at : 1);
        FUZZ_CHECK(cut != NULL);
        memcpy(cut, file, at);
        LLVMFuzzerTestOneInput(cut, at);
        free(cut);
        runs++;
    }
    free(file);
    return runs;
}

int main(int argc, char **argv) {
    size_t step = 1;
    unsigned long runs = 0;
    int i = 1;
    if (argc > 2 && strcmp(argv[1], "-s") == 0) {
        step = (size_t)strtoul(argv[2], NULL, 10);
        i = 3;
    }
    if (i >= argc || step == 0) {
        fprintf(stderr, "usage: mutate_model [-s STEP] FILE...\n");
        return 1;
    }
    for (; i < argc; i++) runs += mutate(argv[i], step);
    printf("%lu damaged headers\n", runs);
    return 0;
}
