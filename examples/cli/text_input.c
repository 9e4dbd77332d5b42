#include "text_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

enum { FIRST_BYTES = 1 << 16 };

int text_input_read(const char *path, char **out_text, size_t *out_bytes) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL) return say_error("cannot read '%s': %s; check the name", path, strerror(errno));
    size_t cap = FIRST_BYTES, bytes = 0;
    char *text = malloc(cap);
    while (text != NULL) {
        bytes += fread(text + bytes, 1, cap - 1 - bytes, file);
        if (bytes < cap - 1) break;
        char *more = cap <= SIZE_MAX / 2 ? realloc(text, cap * 2) : NULL;
        if (more == NULL) free(text);
        text = more;
        cap *= 2;
    }
    int why = text == NULL ? ENOMEM : ferror(file) ? (errno ? errno : EIO) : 0;
    if (file != stdin) fclose(file);
    if (why != 0) {
        free(text);
        return say_error("cannot read '%s': %s; check the file", path, strerror(why));
    }
    text[bytes] = '\0';
    *out_text = text;
    *out_bytes = bytes;
    return EXIT_OK;
}

int text_input_encode(const kvr_model *model, const char *text, size_t bytes, uint32_t flags, int32_t **out_ids,
                      size_t *out_n) {
    kvr_error error = {0};
    /* A byte gives three ids at most (U+FFFD in bytes), and a few stand in front or behind. */
    size_t work_bytes = kvr_text_work_bytes(model, bytes), cap = 3 * bytes + 16;
    void *work = malloc(work_bytes ? work_bytes : 1);
    int32_t *ids = malloc(cap * sizeof *ids);
    int code = EXIT_OK;
    *out_n = 0;
    if (work == NULL || ids == NULL)
        code = say_error("a text of %zu bytes wants %zu bytes of memory: shorten it", bytes,
                         work_bytes + cap * sizeof *ids);
    else if (kvr_text_encode(model, text, bytes, flags, work, work_bytes, ids, cap, out_n, &error) != KVR_OK)
        code = say_kvr_error("cannot tokenize", &error);
    free(work);
    if (code != EXIT_OK) free(ids);
    else *out_ids = ids;
    return code;
}

static int ids_from_list(const options *opt, const kvr_model *model, int32_t **out_ids, size_t *out_n) {
    const char *why = NULL;
    uint32_t n_vocab = kvr_model_get_info(model)->n_vocab;
    size_t n = options_parse_ids(opt->ids, out_ids, &why);
    if (n == 0) return say_error("--ids '%.60s': %s", opt->ids, why);
    for (size_t i = 0; i < n; i++) {
        if ((uint32_t)(*out_ids)[i] < n_vocab) continue;
        int32_t bad = (*out_ids)[i];
        free(*out_ids);
        *out_ids = NULL;
        return say_error("--ids: the vocabulary has the ids 0 to %u, not %d", n_vocab ? n_vocab - 1 : 0, bad);
    }
    *out_n = n;
    return EXIT_OK;
}

int text_input_prompt(const options *opt, const kvr_model *model, int32_t **out_ids, size_t *out_n) {
    if (opt->ids != NULL) return ids_from_list(opt, model, out_ids, out_n);
    char *read = NULL;
    const char *text = opt->prompt;
    size_t bytes = text ? strlen(text) : 0;
    if (text == NULL) {
        int code = text_input_read(opt->file, &read, &bytes);
        if (code != EXIT_OK) return code;
        text = read;
    }
    uint32_t flags = KVR_TEXT_BOS | (opt->special ? (uint32_t)KVR_TEXT_SPECIAL : 0u);
    int code = text_input_encode(model, text, bytes, flags, out_ids, out_n);
    free(read);
    if (code == EXIT_OK && *out_n == 0) {
        free(*out_ids);
        *out_ids = NULL;
        return say_error("the prompt is empty and this model puts no token in front: give it some text");
    }
    return code;
}
