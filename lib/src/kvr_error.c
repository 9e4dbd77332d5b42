#include "kvr_error.h"

#include <string.h>

const char *kvr_status_name(kvr_status status) {
    switch ((int)status) {
#define KVRI_CASE(name, value, text) \
    case value: return #name;
        KVR_STATUS_LIST(KVRI_CASE)
#undef KVRI_CASE
    default: return "KVR_UNKNOWN";
    }
}

const char *kvr_status_text(kvr_status status) {
    switch ((int)status) {
#define KVRI_CASE(name, value, text) \
    case value: return text;
        KVR_STATUS_LIST(KVRI_CASE)
#undef KVRI_CASE
    default: return "unknown status";
    }
}

void kvri_copy_printable(char *out, size_t cap, const void *bytes, uint64_t n) {
    const unsigned char *from = bytes;
    size_t i = 0;
    for (; i < n && i + 1 < cap; i++) out[i] = (from[i] >= 0x20 && from[i] <= 0x7e) ? (char)from[i] : '?';
    out[i] = 0;
}

kvr_status kvri_fail_s(kvr_error *error, kvr_status status, const char *module, const char *text, const void *detail,
                       uint64_t detail_bytes) {
    if (error == NULL || error->status != KVR_OK) return status;
    memset(error, 0, sizeof *error);
    error->status = status;
    error->module = module;
    error->text = text;
    if (detail_bytes > 0) kvri_copy_printable(error->detail, sizeof error->detail, detail, detail_bytes);
    return status;
}

kvr_status kvri_fail_n(kvr_error *error, kvr_status status, const char *module, const char *text, uint64_t wanted,
                       uint64_t had) {
    if (error == NULL || error->status != KVR_OK) return status;
    kvri_fail_s(error, status, module, text, NULL, 0);
    error->wanted = wanted;
    error->had = had;
    return status;
}

kvr_status kvri_fail(kvr_error *error, kvr_status status, const char *module, const char *text) {
    return kvri_fail_s(error, status, module, text, NULL, 0);
}

/* A cursor over a bounded output; stdio is not for embedded cores. */
typedef struct writer {
    char *out;
    size_t cap, n;
} writer;

static void put(writer *w, const char *text) {
    for (; *text != 0 && w->n + 1 < w->cap; text++) w->out[w->n++] = *text;
}

static void put_u64(writer *w, uint64_t value) {
    char digits[21];
    size_t i = sizeof digits;
    digits[--i] = 0;
    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    put(w, digits + i);
}

size_t kvr_error_format(const kvr_error *error, char *out, size_t cap) {
    if (cap == 0) return 0;
    writer w = {out, cap, 0};
    if (error->module != NULL) {
        put(&w, error->module);
        put(&w, ": ");
    }
    put(&w, error->text != NULL ? error->text : kvr_status_text(error->status));
    if (error->detail[0] != 0) {
        put(&w, " '");
        put(&w, error->detail);
        put(&w, "'");
    }
    if (error->wanted != 0 || error->had != 0) {
        put(&w, " (wanted ");
        put_u64(&w, error->wanted);
        put(&w, ", has ");
        put_u64(&w, error->had);
        put(&w, ")");
    }
    if (error->native != 0) {
        put(&w, error->native < 0 ? " [native -" : " [native ");
        put_u64(&w, error->native < 0 ? (uint64_t) - (error->native + 1) + 1u : (uint64_t)error->native);
        put(&w, "]");
    }
    if (error->text != NULL && error->status != KVR_OK) {
        put(&w, ": ");
        put(&w, kvr_status_text(error->status));
    }
    out[w.n] = 0;
    return w.n;
}
