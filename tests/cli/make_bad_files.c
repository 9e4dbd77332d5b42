/* make_bad_files FOLDER: writes the catalogue of hostile files there, and LIST: name, status, sentence, between tabs.
 */
#include "bad_files.h"

#include <stdio.h>

static FILE *create(const char *folder, const char *name, const char *ending) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        fprintf(stderr, "cannot write %s\n", path);
        exit(1);
    }
    return file;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: make_bad_files FOLDER\n");
        return 1;
    }
    FILE *list = create(argv[1], "LIST", "");
    int failed = 0;
    for (size_t i = 0; i < N_BAD_FILES; i++) {
        size_t n = 0;
        uint8_t *bytes = bad_file_make(&bad_files[i], &n);
        FILE *file = create(argv[1], bad_files[i].name, ".gguf");
        failed |= fwrite(bytes, 1, n, file) != n;
        failed |= fclose(file) != 0;
        fprintf(list, "%s\t%s\t%s\n", bad_files[i].name, kvr_status_name(bad_files[i].status), bad_files[i].sentence);
        free(bytes);
    }
    return failed | (fclose(list) != 0);
}
