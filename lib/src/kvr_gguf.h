/*
 * kvr_gguf.h - internal: a hardened reader of GGUF headers (versions 2 and 3, little-endian). Works on the mapped file
 * in place. kvri_gguf_open walks and checks everything once; the cursors afterwards cannot leave the file.
 * Source: ggml/docs/gguf.md.
 */
#ifndef KVR_GGUF_H
#define KVR_GGUF_H

#include "kvr/kvr_backend.h"

typedef enum kvri_gguf_type {
    KVRI_GGUF_U8 = 0,
    KVRI_GGUF_I8 = 1,
    KVRI_GGUF_U16 = 2,
    KVRI_GGUF_I16 = 3,
    KVRI_GGUF_U32 = 4,
    KVRI_GGUF_I32 = 5,
    KVRI_GGUF_F32 = 6,
    KVRI_GGUF_BOOL = 7,
    KVRI_GGUF_STRING = 8,
    KVRI_GGUF_ARRAY = 9,
    KVRI_GGUF_U64 = 10,
    KVRI_GGUF_I64 = 11,
    KVRI_GGUF_F64 = 12
} kvri_gguf_type;

typedef struct kvri_str {
    const uint8_t *at; /* not terminated */
    uint64_t n;
} kvri_str;

/* A value inside the file, unaligned. */
typedef struct kvri_gguf_value {
    uint32_t type;       /* kvri_gguf_type; for arrays the element's type */
    uint32_t is_array;
    uint64_t count;      /* elements; 1 for scalars */
    const uint8_t *data; /* first element; strings: each is u64 length + bytes */
    uint64_t bytes;      /* all of it */
} kvri_gguf_value;

typedef struct kvri_gguf_tensor {
    kvri_str name;
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* dims[0] is contiguous; unused ones are 1 */
    uint32_t type;    /* ggml_type; may be one that kvr does not compute with */
    uint64_t offset;  /* from the start of the file */
    uint64_t bytes;   /* 0 when the type is unknown to kvr (then only offset <= file size is checked) */
} kvri_gguf_tensor;

typedef struct kvri_gguf {
    const uint8_t *file;
    uint64_t file_bytes;
    uint32_t version;
    uint32_t alignment;
    uint64_t n_kv, n_tensors;
    uint64_t kv_at, tensors_at, data_at;
} kvri_gguf;

typedef struct kvri_gguf_cursor {
    uint64_t at, left;
} kvri_gguf_cursor;

kvr_status kvri_gguf_open(const void *file, uint64_t file_bytes, kvri_gguf *out, kvr_error *error);

/* Iterate: KVR_OK or KVR_END. Start from the cursor that _first returns. */
kvri_gguf_cursor kvri_gguf_first_kv(const kvri_gguf *gguf);
kvri_gguf_cursor kvri_gguf_first_tensor(const kvri_gguf *gguf);
kvr_status kvri_gguf_next_kv(const kvri_gguf *gguf, kvri_gguf_cursor *cursor, kvri_str *out_key,
                             kvri_gguf_value *out_value);
kvr_status kvri_gguf_next_tensor(const kvri_gguf *gguf, kvri_gguf_cursor *cursor, kvri_gguf_tensor *out);

/* Little-endian loads from unaligned bytes. */
uint16_t kvri_le16(const uint8_t *p);
uint32_t kvri_le32(const uint8_t *p);
uint64_t kvri_le64(const uint8_t *p);
float kvri_lef32(const uint8_t *p);
/* The string at p (u64 length + bytes) inside an array already checked. */
kvri_str kvri_gguf_string(const uint8_t *p);
/* Takes the string at *at of an array and moves *at behind it; 0 when it leaves the array. */
int kvri_gguf_next_string(const kvri_gguf_value *array, uint64_t *at, kvri_str *out);
int kvri_str_eq(kvri_str s, const char *text);

#endif
