#include "conversation.h"

#include <stdlib.h>
#include <string.h>

#include "say.h"

static int no_memory(void) {
    return say_error("not enough memory for the conversation: end other programs, or /reset");
}

int conversation_add(conversation *talk, kvr_chat_role role, const char *text, size_t bytes) {
    if (talk->n == talk->cap) {
        size_t cap = talk->cap ? 2 * talk->cap : 16;
        kvr_chat_message *more = realloc(talk->messages, cap * sizeof *more);
        if (more == NULL) return no_memory();
        talk->messages = more;
        talk->cap = cap;
    }
    char *copy = malloc(bytes + 1);
    if (copy == NULL) return no_memory();
    memcpy(copy, text, bytes);
    kvr_chat_message *m = &talk->messages[talk->n++];
    m->role = role;
    m->text = copy;
    m->bytes = bytes;
    return EXIT_OK;
}

static void free_text(kvr_chat_message *m) {
    free((char *)(uintptr_t)m->text);
}

void conversation_drop(conversation *talk) {
    if (talk->n > 0) free_text(&talk->messages[--talk->n]);
}

void conversation_reset(conversation *talk) {
    while (talk->n > 0 && talk->messages[talk->n - 1].role != KVR_CHAT_SYSTEM) conversation_drop(talk);
}

void conversation_free(conversation *talk) {
    while (talk->n > 0) conversation_drop(talk);
    free(talk->messages);
    free(talk->ids);
    memset(talk, 0, sizeof *talk);
}

/* Room for so many ids; what is there stays. */
static int have_room(conversation *talk, size_t n) {
    if (n <= talk->cap_ids) return EXIT_OK;
    const size_t cap = n + n / 2;
    int32_t *more = realloc(talk->ids, cap * sizeof *more);
    if (more == NULL) return no_memory();
    talk->ids = more;
    talk->cap_ids = cap;
    return EXIT_OK;
}

/* Memory for one rendering. */
typedef struct room {
    char *text;
    kvr_text_part *parts;
    void *work;
    int32_t *ids;
} room;

static void free_room(room *r) {
    free(r->text);
    free(r->parts);
    free(r->work);
    free(r->ids);
}

static int encode(const conversation *talk, const kvr_model *model, uint32_t family, room *r, size_t *out_n) {
    kvr_error error = {0};
    size_t bytes = 0, n_parts = 0;
    const kvr_status measured =
        kvr_chat_render(model, family, talk->messages, talk->n, NULL, 0, &bytes, NULL, 0, &n_parts, &error);
    if (measured != KVR_OK && measured != KVR_ERR_NOMEM) return say_kvr_error("cannot write the conversation", &error);
    memset(&error, 0, sizeof error);
    const size_t work_bytes = kvr_text_work_bytes(model, bytes), cap = 3 * bytes + 16; /* as text_input_encode */
    r->text = malloc(bytes + 1);
    r->parts = malloc((n_parts + 1) * sizeof *r->parts);
    r->work = malloc(work_bytes ? work_bytes : 1);
    r->ids = malloc(cap * sizeof *r->ids);
    if (r->text == NULL || r->parts == NULL || r->work == NULL || r->ids == NULL) return no_memory();
    if (kvr_chat_render(model, family, talk->messages, talk->n, r->text, bytes, &bytes, r->parts, n_parts, &n_parts,
                        &error) != KVR_OK ||
        kvr_text_encode_parts(model, r->text, bytes, r->parts, n_parts, KVR_TEXT_BOS, r->work, work_bytes, r->ids, cap,
                              out_n, &error) != KVR_OK)
        return say_kvr_error("cannot write the conversation", &error);
    if (*out_n == 0) return say_error("nothing was said: write something");
    return EXIT_OK;
}

int conversation_encode(conversation *talk, const kvr_model *model, uint32_t family, uint32_t *out_keep) {
    room r = {0};
    size_t n = 0, keep = 0;
    int code = encode(talk, model, family, &r, &n);
    if (code == EXIT_OK) code = have_room(talk, n);
    if (code == EXIT_OK) {
        while (keep < talk->n_cached && keep + 1 < n && talk->ids[keep] == r.ids[keep]) keep++;
        memcpy(talk->ids, r.ids, n * sizeof *r.ids);
        talk->n_ids = n;
        talk->n_cached = keep;
        *out_keep = (uint32_t)keep;
    }
    free_room(&r);
    return code;
}

int conversation_add_id(conversation *talk, int32_t id) {
    int code = have_room(talk, talk->n_ids + 1);
    if (code == EXIT_OK) talk->ids[talk->n_ids++] = id;
    return code;
}
