/*
 * test_tokenizers.h - encoding for tests, with scratch of exactly the promised size, and the recorded results of the
 * conformance folder: 46 texts per vocabulary with the ids that another implementation gave them.
 */
#ifndef TEST_TOKENIZERS_H
#define TEST_TOKENIZERS_H

#include "kvr/kvr_text.h"
#include "test_files.h"
#include "test_vocab_file.h"

#define CONFORMANCE_TEXTS 46u
#define TEST_IDS_CAP 4096u

/* The text is copied to the end of its memory. */
static inline kvr_status encode_bytes(const kvr_model *model, const void *text, size_t n, uint32_t flags, int32_t *ids,
                                      size_t *out_n, kvr_error *error) {
    const size_t work_bytes = kvr_text_work_bytes(model, n);
    void *work = malloc(work_bytes > 0 ? work_bytes : 1);
    char *exact = (char *)malloc(n > 0 ? n : 1);
    if (work == NULL || exact == NULL) abort();
    if (n > 0) memcpy(exact, text, n);
    const kvr_status status =
        kvr_text_encode(model, exact, n, flags, work, work_bytes, ids, TEST_IDS_CAP, out_n, error);
    free(exact);
    free(work);
    return status;
}

/* The ids of a text, written out: "1 2 3"; a failure as the status' name. */
static inline const char *encoded(const kvr_model *model, const char *text, uint32_t flags) {
    static char line[512];
    int32_t ids[TEST_IDS_CAP];
    size_t n = 0;
    kvr_error error;
    memset(&error, 0, sizeof error);
    const kvr_status status = encode_bytes(model, text, strlen(text), flags, ids, &n, &error);
    if (status != KVR_OK) return kvr_status_name(status);
    line[0] = 0;
    size_t used = 0;
    for (size_t i = 0; i < n && used + 16 < sizeof line; i++) {
        used += (size_t)snprintf(line + used, sizeof line - used, i == 0 ? "%d" : " %d", (int)ids[i]);
    }
    return line;
}

/* Where needle starts in [at, end); end = not there. */
static inline const char *find_bytes(const char *at, const char *end, const char *needle) {
    const size_t n = strlen(needle);
    for (; (size_t)(end - at) >= n; at++) {
        if (memcmp(at, needle, n) == 0) return at;
    }
    return end;
}

/* Texts whose ids differ from the recorded ones; -1 = the data is not there. */
static inline int conformance_differences(const char *name) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[128];
    vocab_file f;
    memset(&f, 0, sizeof f);
    size_t in_bytes = 0;
    size_t out_bytes = 0;
    snprintf(path, sizeof path, "tokenizers/ggml-vocab-%s.gguf", name);
    f.file = (uint8_t *)read_conformance(path, &f.file_bytes);
    snprintf(path, sizeof path, "tokenizers/ggml-vocab-%s.gguf.inp", name);
    char *in = (char *)read_conformance(path, &in_bytes);
    snprintf(path, sizeof path, "tokenizers/ggml-vocab-%s.gguf.out", name);
    char *out = (char *)read_conformance(path, &out_bytes);
    int different = -1;
    kvr_error error;
    memset(&error, 0, sizeof error);
    if (f.file != NULL && in != NULL && out != NULL) {
        different = vocab_file_open_bytes(&f, &error) == KVR_OK ? 0 : (int)CONFORMANCE_TEXTS;
        const char *text = in;
        const char *line = out;
        for (uint32_t i = 0; different < (int)CONFORMANCE_TEXTS && i < CONFORMANCE_TEXTS; i++) {
            const char *text_end = find_bytes(text, in + in_bytes, separator);
            const char *line_end = find_bytes(line, out + out_bytes, "\n");
            int32_t ids[TEST_IDS_CAP];
            size_t n = 0;
            int same = encode_bytes(f.model, text, (size_t)(text_end - text), 0, ids, &n, &error) == KVR_OK;
            for (size_t k = 0; k < n; k++) {
                char *behind = NULL;
                same = same && line < line_end && strtol(line, &behind, 10) == ids[k];
                if (same) line = behind;
            }
            if (!same || line != line_end) {
                printf("%s: text %u differs: '%.*s'\n", name, (unsigned)i, (int)(text_end - text), text);
                different++;
            }
            text = text_end < in + in_bytes ? text_end + sizeof separator - 1 : text_end;
            line = line_end < out + out_bytes ? line_end + 1 : line_end;
        }
    }
    free(in);
    free(out);
    vocab_file_close(&f);
    return different;
}

#endif
