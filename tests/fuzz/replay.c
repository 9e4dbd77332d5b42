/* Gives each file named on the command line to a fuzz target, each in memory of exactly its size. */
#include "fuzz_target.h"

#include <stdio.h>
#include <stdlib.h>

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        return 1;
    }
    size_t n = 0, cap = 4096;
    uint8_t *bytes = (uint8_t *)malloc(cap);
    for (size_t got; bytes != NULL && (got = fread(bytes + n, 1, cap - n, file)) > 0;) {
        n += got;
        if (n == cap) bytes = (uint8_t *)realloc(bytes, cap *= 2);
    }
    fclose(file);
    if (bytes == NULL) return 1;
    if (n > 0) {
        uint8_t *exact = (uint8_t *)realloc(bytes, n);
        if (exact != NULL) bytes = exact;
    }
    LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    return 0;
}

int main(int argc, char **argv) {
    int failures = argc < 2;
    for (int i = 1; i < argc; i++) failures += replay(argv[i]);
    printf("%d files replayed, %d could not be read\n", argc - 1, failures);
    return failures != 0;
}
