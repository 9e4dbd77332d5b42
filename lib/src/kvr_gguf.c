/* Every count is compared with the bytes that remain before it is used; no size is trusted, no recursion. */
#include "kvr_gguf.h"

#include "kvr_checked.h"
#include "kvr_error.h"

#include <string.h>

#define MODULE "gguf"
#define DEFAULT_ALIGNMENT 32u
#define MAX_ALIGNMENT (1u << 20)
#define MAX_NAME_BYTES 1024u   /* keys and tensor names; the format's own limits are 65535 and 64 */
#define MAX_DIM (1ull << 40)
#define LEAST_KV_BYTES 14u     /* length, one letter, type, one byte */
#define LEAST_TENSOR_BYTES 33u /* length, one letter, number of dimensions, one of them, type, offset */

uint16_t kvri_le16(const uint8_t *p) { return (uint16_t)(p[0] | (uint32_t)p[1] << 8); }
uint32_t kvri_le32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
uint64_t kvri_le64(const uint8_t *p) { return (uint64_t)kvri_le32(p) | (uint64_t)kvri_le32(p + 4) << 32; }

float kvri_lef32(const uint8_t *p) {
    const uint32_t bits = kvri_le32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

kvri_str kvri_gguf_string(const uint8_t *p) {
    const kvri_str s = {p + 8, kvri_le64(p)};
    return s;
}

int kvri_gguf_next_string(const kvri_gguf_value *array, uint64_t *at, kvri_str *out) {
    if (array->bytes - *at < 8) return 0;
    const kvri_str text = kvri_gguf_string(array->data + *at);
    if (text.n > array->bytes - *at - 8) return 0;
    *at += 8 + text.n;
    *out = text;
    return 1;
}

int kvri_str_eq(kvri_str s, const char *text) {
    const size_t n = strlen(text);
    return s.n == n && memcmp(s.at, text, n) == 0;
}

/* Bytes of a scalar; 0 for strings, arrays and unknown types. */
static uint32_t scalar_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

/* A position that cannot pass the end of the file. */
typedef struct reader {
    const uint8_t *file;
    uint64_t at, end;
} reader;

static int take(reader *r, uint64_t bytes, const uint8_t **out) {
    if (bytes > r->end - r->at) return 0;
    *out = r->file + r->at;
    r->at += bytes;
    return 1;
}

static int take_u32(reader *r, uint32_t *out) {
    const uint8_t *p;
    if (!take(r, 4, &p)) return 0;
    *out = kvri_le32(p);
    return 1;
}

static int take_u64(reader *r, uint64_t *out) {
    const uint8_t *p;
    if (!take(r, 8, &p)) return 0;
    *out = kvri_le64(p);
    return 1;
}

static int take_str(reader *r, kvri_str *out) {
    uint64_t n;
    const uint8_t *p;
    if (!take_u64(r, &n) || !take(r, n, &p)) return 0;
    out->at = p;
    out->n = n;
    return 1;
}

static kvr_status truncated(const reader *r, kvr_error *error) {
    return kvri_fail_n(error, KVR_ERR_TRUNCATED, MODULE,
                       "the header runs past the end of the file: copy or download it again", r->at, r->end);
}

/* Key and value at r. */
static kvr_status read_kv(reader *r, kvri_str *key, kvri_gguf_value *value, kvr_error *error) {
    if (!take_str(r, key) || !take_u32(r, &value->type)) return truncated(r, error);
    if (key->n == 0 || key->n > MAX_NAME_BYTES)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "a key's length is out of range", key->n, MAX_NAME_BYTES);
    value->count = 1;
    value->is_array = value->type == KVRI_GGUF_ARRAY;
    if (value->is_array && (!take_u32(r, &value->type) || !take_u64(r, &value->count))) return truncated(r, error);
    if (value->is_array && value->type == KVRI_GGUF_ARRAY)
        return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "an array of arrays, which no model needs, in key", key->at,
                           key->n);
    const uint64_t start = r->at;
    const uint8_t *p;
    const uint32_t each = scalar_bytes(value->type);
    if (each != 0) {
        uint64_t bytes;
        if (!kvri_mul(value->count, each, &bytes) || !take(r, bytes, &p)) return truncated(r, error);
    } else if (value->type == KVRI_GGUF_STRING) {
        /* each string takes at least its length field, so a count beyond the file ends the loop early */
        kvri_str s;
        for (uint64_t i = 0; i < value->count; i++)
            if (!take_str(r, &s)) return truncated(r, error);
    } else {
        return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "an unknown value type in key", key->at, key->n);
    }
    value->data = r->file + start;
    value->bytes = r->at - start;
    return KVR_OK;
}

static kvr_status read_tensor(reader *r, kvri_gguf_tensor *t, kvr_error *error) {
    if (!take_str(r, &t->name) || !take_u32(r, &t->n_dims)) return truncated(r, error);
    if (t->name.n == 0 || t->name.n > MAX_NAME_BYTES)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "a tensor name's length is out of range", t->name.n,
                           MAX_NAME_BYTES);
    if (t->n_dims < 1 || t->n_dims > 4)
        return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "not 1 to 4 dimensions in tensor", t->name.at, t->name.n);
    for (uint32_t d = 0; d < 4; d++) {
        t->dims[d] = 1;
        if (d < t->n_dims && !take_u64(r, &t->dims[d])) return truncated(r, error);
        if (t->dims[d] == 0 || t->dims[d] > MAX_DIM)
            return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "a dimension out of range in tensor", t->name.at,
                               t->name.n);
    }
    if (!take_u32(r, &t->type) || !take_u64(r, &t->offset)) return truncated(r, error);
    return KVR_OK;
}

/* Turns the stored offset into one from the start of the file and proves that the tensor lies inside. */
static kvr_status locate_tensor(const kvri_gguf *g, kvri_gguf_tensor *t, kvr_error *error) {
    uint64_t rows = 1;
    uint64_t row_bytes = kvr_dtype_row_bytes(t->type, t->dims[0]);
    uint64_t begin, end;
    t->bytes = 0;
    for (uint32_t d = 1; d < 4; d++)
        if (!kvri_mul(rows, t->dims[d], &rows)) goto outside;
    if (!kvri_mul(rows, row_bytes, &t->bytes)) goto outside;
    if (t->offset % g->alignment != 0)
        return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "not at a multiple of the file's alignment: tensor",
                           t->name.at, t->name.n);
    if (!kvri_add(g->data_at, t->offset, &begin) || !kvri_add(begin, t->bytes, &end) || end > g->file_bytes)
        goto outside;
    t->offset = begin;
    return KVR_OK;
outside:
    return kvri_fail_s(error, KVR_ERR_TRUNCATED, MODULE,
                       "runs past the end of the file (copy or download it again): tensor", t->name.at, t->name.n);
}

static kvr_status read_alignment(const kvri_gguf_value *value, uint32_t *out, kvr_error *error) {
    if (value->is_array || value->type != KVRI_GGUF_U32)
        return kvri_fail(error, KVR_ERR_CORRUPT, MODULE, "general.alignment is not a 32-bit number");
    *out = kvri_le32(value->data);
    if (*out < 8 || *out > MAX_ALIGNMENT || (*out & (*out - 1)) != 0)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "general.alignment is not a power of two from 8 to 2^20",
                           DEFAULT_ALIGNMENT, *out);
    return KVR_OK;
}

kvr_status kvri_gguf_open(const void *file, uint64_t file_bytes, kvri_gguf *out, kvr_error *error) {
    kvri_gguf g;
    memset(&g, 0, sizeof g);
    g.file = file;
    g.file_bytes = file_bytes;
    g.alignment = DEFAULT_ALIGNMENT;
    reader r = {file, 0, file_bytes};
    const uint8_t *magic;
    if (!take(&r, 4, &magic))
        return kvri_fail_n(error, KVR_ERR_MAGIC, MODULE, "too short for a model file", 24, file_bytes);
    if (memcmp(magic, "GGUF", 4) != 0)
        return kvri_fail_s(error, KVR_ERR_MAGIC, MODULE, "give a .gguf model file; this one starts with", magic, 4);
    if (!take_u32(&r, &g.version)) return truncated(&r, error);
    if (g.version != 0 && (g.version & 0xFFFFu) == 0)
        return kvri_fail(error, KVR_ERR_VERSION, MODULE,
                         "a big-endian file: convert the model for little-endian processors");
    if (g.version != 2 && g.version != 3)
        return kvri_fail_n(error, KVR_ERR_VERSION, MODULE,
                           "only GGUF versions 2 and 3 are read: convert the file again with current tools", 3,
                           g.version);
    if (!take_u64(&r, &g.n_tensors) || !take_u64(&r, &g.n_kv)) return truncated(&r, error);

    if (g.n_kv > (r.end - r.at) / LEAST_KV_BYTES || g.n_tensors > (r.end - r.at) / LEAST_TENSOR_BYTES)
        return kvri_fail(error, KVR_ERR_TRUNCATED, MODULE,
                         "more keys or tensors than the file has bytes for: copy or download it again");

    int has_alignment = 0;
    g.kv_at = r.at;
    for (uint64_t i = 0; i < g.n_kv; i++) {
        kvri_str key;
        kvri_gguf_value value;
        KVRI_TRY(read_kv(&r, &key, &value, error));
        if (!kvri_str_eq(key, "general.alignment")) continue;
        if (has_alignment) return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "there twice: key", key.at, key.n);
        has_alignment = 1;
        KVRI_TRY(read_alignment(&value, &g.alignment, error));
    }
    g.tensors_at = r.at;
    for (uint64_t i = 0; i < g.n_tensors; i++) {
        kvri_gguf_tensor t;
        KVRI_TRY(read_tensor(&r, &t, error));
    }
    if (!kvri_align_up(r.at, g.alignment, &g.data_at)) return truncated(&r, error);
    if (g.n_tensors > 0 && g.data_at > file_bytes) return truncated(&r, error);

    /* Second walk: where the data starts is known only now. Writers lay tensors out in the order of their
     * descriptions; holding them to it rules out overlaps without a quadratic check. */
    r.at = g.tensors_at;
    uint64_t last_end = g.data_at;
    for (uint64_t i = 0; i < g.n_tensors; i++) {
        kvri_gguf_tensor t;
        KVRI_TRY(read_tensor(&r, &t, error));
        KVRI_TRY(locate_tensor(&g, &t, error));
        if (t.offset < last_end)
            return kvri_fail_s(error, KVR_ERR_CORRUPT, MODULE, "overlaps the tensor before it: tensor", t.name.at,
                               t.name.n);
        last_end = t.offset + t.bytes;
    }
    *out = g;
    return KVR_OK;
}

kvri_gguf_cursor kvri_gguf_first_kv(const kvri_gguf *gguf) {
    const kvri_gguf_cursor c = {gguf->kv_at, gguf->n_kv};
    return c;
}

kvri_gguf_cursor kvri_gguf_first_tensor(const kvri_gguf *gguf) {
    const kvri_gguf_cursor c = {gguf->tensors_at, gguf->n_tensors};
    return c;
}

kvr_status kvri_gguf_next_kv(const kvri_gguf *gguf, kvri_gguf_cursor *cursor, kvri_str *out_key,
                             kvri_gguf_value *out_value) {
    if (cursor->left == 0) return KVR_END;
    reader r = {gguf->file, cursor->at, gguf->file_bytes};
    KVRI_TRY(read_kv(&r, out_key, out_value, NULL));
    cursor->at = r.at;
    cursor->left--;
    return KVR_OK;
}

kvr_status kvri_gguf_next_tensor(const kvri_gguf *gguf, kvri_gguf_cursor *cursor, kvri_gguf_tensor *out) {
    if (cursor->left == 0) return KVR_END;
    reader r = {gguf->file, cursor->at, gguf->file_bytes};
    KVRI_TRY(read_tensor(&r, out, NULL));
    KVRI_TRY(locate_tensor(gguf, out, NULL));
    cursor->at = r.at;
    cursor->left--;
    return KVR_OK;
}
