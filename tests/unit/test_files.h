/*
 * test_files.h - whole files for tests: any path, or one of the conformance folder (real files that this project did
 * not make; see KVR_CONFORMANCE_DIR in tests/README.md). A missing file is a reason to skip, not a failure:
 *
 *     size_t bytes = 0;
 *     void *file = read_conformance("models/stories260K.gguf", &bytes);
 *     if (file == NULL) skip();
 */
#ifndef TEST_FILES_H
#define TEST_FILES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_PATH_CAP 4096u

/* The folder by the environment, else ../shared/conformance beside the checkout that this header lies in. */
static inline const char *conformance_dir(void) {
    static char found[TEST_PATH_CAP];
    static const char own_place[] = "tests/unit/test_files.h";
    const char *set = getenv("KVR_CONFORMANCE_DIR");
    if (set != NULL && set[0] != 0) return set;
    const char *here = __FILE__;
    size_t root = strlen(here);
    if (root >= sizeof own_place - 1 && strcmp(here + root - (sizeof own_place - 1), own_place) == 0) {
        root -= sizeof own_place - 1;
    } else {
        root = 0;
    }
    if (root + sizeof "../shared/conformance" > sizeof found) root = 0;
    memcpy(found, here, root);
    strcpy(found + root, "../shared/conformance");
    return found;
}

/* The whole file in malloc memory of exactly its size (so that reading past it is found), NULL when it cannot be read.
 * The caller frees it. */
static inline void *read_file(const char *path, size_t *out_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    char *data = NULL;
    long size = -1;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0) data = (char *)malloc(size > 0 ? (size_t)size : 1u);
    if (data != NULL && fread(data, 1, (size_t)size, file) != (size_t)size) {
        free(data);
        data = NULL;
    }
    fclose(file);
    if (data != NULL) *out_bytes = (size_t)size;
    return data;
}

/* The same for a path inside the conformance folder; prints the reason when it is absent. */
static inline void *read_conformance(const char *relative, size_t *out_bytes) {
    char path[TEST_PATH_CAP];
    const int n = snprintf(path, sizeof path, "%s/%s", conformance_dir(), relative);
    void *data = (n > 0 && (size_t)n < sizeof path) ? read_file(path, out_bytes) : NULL;
    if (data == NULL) {
        printf("skipped: %s is not there; set KVR_CONFORMANCE_DIR to the folder of conformance data\n", path);
    }
    return data;
}

#endif
