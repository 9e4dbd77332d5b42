/*
 * gguf_maker.h - GGUF files in memory for tests: keys, arrays and tensors as the test wants them (also wrong ones), and
 * whole small Llama models with random weights. The same shape and seed give the same bytes.
 *
 *     const gguf_shape shape = {.n_layers = 2, .model_dim = 64, .ffn_dim = 96, .n_heads = 4, .n_kv_heads = 2,
 *                               .n_vocab = 300, .ctx = 128, .dtype = KVR_DTYPE_F16, .seed = 1};
 *     size_t bytes;
 *     uint8_t *file = gguf_make_llama(&shape, &bytes);      free() it
 *
 * Source of the format: ggml/docs/gguf.md.
 */
#ifndef GGUF_MAKER_H
#define GGUF_MAKER_H

#include "kvr_dtype.h"
#include "kvr_gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- bytes --------------------------------------------------------------------------------------------------- */

typedef struct gguf_bytes {
    uint8_t *at;
    size_t n, cap;
} gguf_bytes;

static inline void gguf_put(gguf_bytes *b, const void *bytes, size_t n) {
    if (n == 0) return;
    if (n > b->cap - b->n) {
        b->cap = (b->cap + n) * 2;
        b->at = (uint8_t *)realloc(b->at, b->cap);
        if (b->at == NULL) abort();
    }
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

static inline void gguf_put_le(gguf_bytes *b, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));
        gguf_put(b, &byte, 1);
    }
}

static inline void gguf_put_f32(gguf_bytes *b, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    gguf_put_le(b, bits, 4);
}

static inline void gguf_put_string(gguf_bytes *b, const void *text, size_t n) {
    gguf_put_le(b, n, 8);
    gguf_put(b, text, n);
}

/* --- a file -------------------------------------------------------------------------------------------------- */

typedef struct gguf_maker {
    gguf_bytes kv, infos, data;
    uint64_t n_kv, n_tensors;
    uint32_t version;   /* 2 and 3 differ in nothing that is written here */
    uint32_t alignment; /* of tensor data; the key general.alignment is the test's own business */
    gguf_bytes instead; /* a model's keys that gguf_shape.more writes itself */
} gguf_maker;

static inline gguf_maker gguf_start(void) {
    gguf_maker m;
    memset(&m, 0, sizeof m);
    m.version = 3;
    m.alignment = 32;
    return m;
}

/* A key's name and type; the value follows through gguf_put_*(&m->kv, ...). */
static inline void gguf_key(gguf_maker *m, const char *key, uint32_t type) {
    gguf_put_string(&m->kv, key, strlen(key));
    gguf_put_le(&m->kv, type, 4);
    m->n_kv++;
}

static inline void gguf_key_u32(gguf_maker *m, const char *key, uint32_t value) {
    gguf_key(m, key, KVRI_GGUF_U32);
    gguf_put_le(&m->kv, value, 4);
}

static inline void gguf_key_f32(gguf_maker *m, const char *key, float value) {
    gguf_key(m, key, KVRI_GGUF_F32);
    gguf_put_f32(&m->kv, value);
}

static inline void gguf_key_bool(gguf_maker *m, const char *key, int value) {
    gguf_key(m, key, KVRI_GGUF_BOOL);
    gguf_put_le(&m->kv, value != 0, 1);
}

static inline void gguf_key_text(gguf_maker *m, const char *key, const char *text) {
    gguf_key(m, key, KVRI_GGUF_STRING);
    gguf_put_string(&m->kv, text, strlen(text));
}

/* elements: count of them as they lie in the file. */
static inline void gguf_key_array(gguf_maker *m, const char *key, uint32_t element_type, uint64_t count,
                                  const gguf_bytes *elements) {
    gguf_key(m, key, KVRI_GGUF_ARRAY);
    gguf_put_le(&m->kv, element_type, 4);
    gguf_put_le(&m->kv, count, 8);
    gguf_put(&m->kv, elements->at, elements->n);
}

/* Only the description of a tensor, with any offset. */
static inline void gguf_tensor_info(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dims,
                                    const uint64_t *dims, uint64_t offset) {
    gguf_put_string(&m->infos, name, strlen(name));
    gguf_put_le(&m->infos, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++) gguf_put_le(&m->infos, dims[d], 8);
    gguf_put_le(&m->infos, type, 4);
    gguf_put_le(&m->infos, offset, 8);
    m->n_tensors++;
}

static inline void gguf_pad(gguf_bytes *b, size_t to) {
    while (b->n % to != 0) gguf_put_le(b, 0, 1);
}

static inline void gguf_tensor(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
                               const void *data, size_t bytes) {
    gguf_pad(&m->data, m->alignment);
    gguf_tensor_info(m, name, type, n_dims, dims, m->data.n);
    gguf_put(&m->data, data, bytes);
}

/* The whole file in malloc memory of exactly its size; the maker starts anew afterwards. */
static inline uint8_t *gguf_finish(gguf_maker *m, size_t *out_bytes) {
    gguf_bytes file = {NULL, 0, 0};
    gguf_put(&file, "GGUF", 4);
    gguf_put_le(&file, m->version, 4);
    gguf_put_le(&file, m->n_tensors, 8);
    gguf_put_le(&file, m->n_kv, 8);
    gguf_put(&file, m->kv.at, m->kv.n);
    gguf_put(&file, m->infos.at, m->infos.n);
    if (m->n_tensors > 0) gguf_pad(&file, m->alignment);
    gguf_put(&file, m->data.at, m->data.n);
    uint8_t *exact = (uint8_t *)malloc(file.n);
    if (exact == NULL) abort();
    memcpy(exact, file.at, file.n);
    *out_bytes = file.n;
    free(file.at);
    free(m->kv.at);
    free(m->infos.at);
    free(m->data.at);
    free(m->instead.at);
    *m = gguf_start();
    return exact;
}

/* --- random weights ------------------------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t gguf_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in -1..1. */
static inline float gguf_random_float(uint64_t *state) {
    return (float)(gguf_random(state) >> 40) * (2.0f / 16777216.0f) - 1.0f;
}

#define GGUF_BLOCK 32u

/* One block of 32 values as F16 scale and whole numbers from -limit to limit (Q4_0 stores them plus 8 in nibbles). */
static inline void gguf_put_block(gguf_bytes *b, uint32_t dtype, const float *values) {
    const float limit = dtype == KVR_DTYPE_Q8_0 ? 127.0f : 7.0f;
    float most = 0.0f;
    int q[GGUF_BLOCK];
    for (uint32_t i = 0; i < GGUF_BLOCK; i++) most = fmaxf(most, fabsf(values[i]));
    const uint16_t scale = kvri_f32_to_f16(most / limit);
    const float d = kvri_f16_to_f32(scale);
    for (uint32_t i = 0; i < GGUF_BLOCK; i++) {
        const float x = d > 0.0f ? values[i] / d : 0.0f;
        q[i] = (int)lrintf(fminf(fmaxf(x, -limit), limit));
    }
    gguf_put_le(b, scale, 2);
    if (dtype == KVR_DTYPE_Q8_0) {
        for (uint32_t i = 0; i < GGUF_BLOCK; i++) gguf_put_le(b, (uint8_t)q[i], 1);
    } else {
        for (uint32_t i = 0; i < 16; i++) gguf_put_le(b, (uint32_t)(q[i] + 8) | (uint32_t)(q[i + 16] + 8) << 4, 1);
    }
}

/* n values in a dtype that kvr computes with; n a multiple of its block. */
static inline void gguf_put_values(gguf_bytes *b, uint32_t dtype, const float *values, uint64_t n) {
    if (kvri_dtype_block(dtype) == 0 || n % kvri_dtype_block(dtype) != 0) abort();
    for (uint64_t i = 0; i < n; i += kvri_dtype_block(dtype)) {
        if (dtype == KVR_DTYPE_F32) gguf_put_f32(b, values[i]);
        else if (dtype == KVR_DTYPE_F16) gguf_put_le(b, kvri_f32_to_f16(values[i]), 2);
        else gguf_put_block(b, dtype, values + i);
    }
}

/* --- a model ------------------------------------------------------------------------------------------------- */

typedef struct gguf_shape gguf_shape;
struct gguf_shape {
    uint32_t n_layers, model_dim, ffn_dim, n_heads, n_kv_heads; /* n_kv_heads 0 = n_heads, and no key for it */
    uint32_t head_dim;  /* 0 = model_dim / n_heads, and no key for it */
    uint32_t n_vocab;   /* from 300 on with the 256 byte tokens */
    uint32_t ctx;
    uint32_t dtype;        /* of the matrices: F32, F16, Q8_0, Q4_0 */
    uint32_t vector_dtype; /* of the norms: F32, F16 */
    uint32_t tied_head;    /* 1: no output.weight */
    uint32_t vocab_only;   /* 1: no tensors */
    uint64_t seed;
    uint32_t version; /* 0 = 3 */
    /* rope; 0 = no key */
    uint32_t rope_dims;
    float rope_base, rope_factor;
    const char *rope_scaling; /* NULL = no key */
    uint32_t rope_freqs;      /* 1: a tensor of factors */
    /* deviations: names of a key or a tensor as they are in the file, NULL = none */
    const char *without;    /* left out */
    const char *twice;      /* tensor: described a second time */
    const char *wrong_type; /* key: of a type that it never has; tensor: of ggml type 4 (withdrawn long ago) */
    const char *wrong_shape; /* tensor: one column more in an F32 row, one block more otherwise */
    const char *architecture; /* NULL = "llama" */
    void (*more)(gguf_maker *m); /* further keys (or other values of the model's) and tensors, after all others */
};

/* The smallest whole model. */
static inline gguf_shape gguf_shape_tiny(void) {
    gguf_shape s;
    memset(&s, 0, sizeof s);
    s.n_layers = 1;
    s.model_dim = 4;
    s.ffn_dim = 4;
    s.n_heads = 2;
    s.n_kv_heads = 1;
    s.n_vocab = 12;
    s.ctx = 16;
    s.seed = 1;
    return s;
}

static inline int gguf_named(const char *deviation, const char *name) {
    return deviation != NULL && strcmp(deviation, name) == 0;
}

static inline int gguf_holds(const gguf_bytes *b, const char *text) {
    const size_t n = strlen(text);
    for (size_t at = 0; at + n <= b->n; at++)
        if (memcmp(b->at + at, text, n) == 0) return 1;
    return 0;
}

/* 1 when the key is left out, comes from `more` or was written with another type. */
static inline int gguf_key_deviates(gguf_maker *m, const gguf_shape *s, const char *key) {
    if (gguf_holds(&m->instead, key)) return 1;
    if (gguf_named(s->wrong_type, key)) {
        gguf_key(m, key, KVRI_GGUF_F64);
        gguf_put_le(&m->kv, 0, 8);
        return 1;
    }
    return gguf_named(s->without, key);
}

static inline void gguf_model_u32(gguf_maker *m, const gguf_shape *s, const char *key, uint32_t value) {
    if (!gguf_key_deviates(m, s, key)) gguf_key_u32(m, key, value);
}

static inline void gguf_model_f32(gguf_maker *m, const gguf_shape *s, const char *key, float value) {
    if (!gguf_key_deviates(m, s, key)) gguf_key_f32(m, key, value);
}

static inline void gguf_model_text(gguf_maker *m, const gguf_shape *s, const char *key, const char *text) {
    if (!gguf_key_deviates(m, s, key)) gguf_key_text(m, key, text);
}

/* Token texts of a vocabulary like SentencePiece's: unknown, begin, end, 256 bytes, then words of one to three letters
 * with and without the space mark; scores fall with the id. Returns the token type. */
static inline uint32_t gguf_token_text(uint32_t id, uint32_t n_vocab, char text[16]) {
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    if (id < 3) {
        strcpy(text, first[id]);
        return id == 0 ? 2 : 3;
    }
    uint32_t i = id - 3;
    if (n_vocab >= 300) {
        if (i < 256) {
            snprintf(text, 16, "<0x%02X>", (unsigned)i);
            return 6;
        }
        i -= 256;
    }
    size_t n = 0;
    if (i % 2 == 0) {
        memcpy(text, "\xE2\x96\x81", 3);
        n = 3;
    }
    i /= 2;
    while (i > 0) { /* 0 -> "", 1 -> a, 26 -> z, 27 -> aa: every text once */
        text[n++] = (char)('a' + (i - 1) % 26);
        i = (i - 1) / 26;
    }
    text[n] = 0;
    if (n == 0) strcpy(text, "."); /* i == 0 without the space mark */
    return 1;
}

static inline void gguf_model_vocab(gguf_maker *m, const gguf_shape *s) {
    gguf_bytes tokens = {NULL, 0, 0}, scores = {NULL, 0, 0}, types = {NULL, 0, 0};
    for (uint32_t id = 0; id < s->n_vocab; id++) {
        char text[16];
        const uint32_t type = gguf_token_text(id, s->n_vocab, text);
        gguf_put_string(&tokens, text, strlen(text));
        gguf_put_f32(&scores, type == 1 ? -(float)id : 0.0f);
        gguf_put_le(&types, type, 4);
    }
    gguf_model_text(m, s, "tokenizer.ggml.model", "llama");
    if (!gguf_key_deviates(m, s, "tokenizer.ggml.tokens"))
        gguf_key_array(m, "tokenizer.ggml.tokens", KVRI_GGUF_STRING, s->n_vocab, &tokens);
    if (!gguf_key_deviates(m, s, "tokenizer.ggml.scores"))
        gguf_key_array(m, "tokenizer.ggml.scores", KVRI_GGUF_F32, s->n_vocab, &scores);
    if (!gguf_key_deviates(m, s, "tokenizer.ggml.token_type"))
        gguf_key_array(m, "tokenizer.ggml.token_type", KVRI_GGUF_I32, s->n_vocab, &types);
    gguf_model_u32(m, s, "tokenizer.ggml.bos_token_id", 1);
    gguf_model_u32(m, s, "tokenizer.ggml.eos_token_id", 2);
    free(tokens.at);
    free(scores.at);
    free(types.at);
}

/* A tensor of values around `middle`, at most `spread` away. */
static inline void gguf_model_tensor(gguf_maker *m, const gguf_shape *s, uint64_t *rng, const char *name,
                                     uint32_t dtype, uint64_t rows, uint64_t cols, float middle, float spread) {
    gguf_bytes data = {NULL, 0, 0};
    if (gguf_named(s->without, name)) return;
    const uint32_t block = kvri_dtype_block(dtype);
    if (block == 0 || cols % block != 0) abort(); /* the shape does not suit the dtype */
    if (gguf_named(s->wrong_shape, name)) cols += block;
    float *values = (float *)malloc((size_t)(rows * cols) * sizeof *values);
    if (values == NULL) abort();
    for (uint64_t i = 0; i < rows * cols; i++) values[i] = middle + spread * gguf_random_float(rng);
    gguf_put_values(&data, dtype, values, rows * cols);
    const uint64_t dims[2] = {cols, rows};
    if (gguf_named(s->wrong_type, name)) dtype = 4;
    const uint32_t n_dims = middle != 0.0f ? 1 : 2;
    gguf_tensor(m, name, dtype, n_dims, dims, data.at, data.n);
    if (gguf_named(s->twice, name)) gguf_tensor(m, name, dtype, n_dims, dims, data.at, data.n);
    free(values);
    free(data.at);
}

static inline void gguf_model_matrix(gguf_maker *m, const gguf_shape *s, uint64_t *rng, const char *name, uint64_t rows,
                                     uint64_t cols, float gain) {
    /* uniform values of this width keep the variance of a product at gain^2 */
    gguf_model_tensor(m, s, rng, name, s->dtype, rows, cols, 0.0f, gain * sqrtf(3.0f / (float)cols));
}

static inline void gguf_model_norm(gguf_maker *m, const gguf_shape *s, uint64_t *rng, const char *name) {
    gguf_model_tensor(m, s, rng, name, s->vector_dtype, 1, s->model_dim, 1.0f, 0.2f);
}

static inline void gguf_model_layer(gguf_maker *m, const gguf_shape *s, uint64_t *rng, uint32_t layer) {
    const uint32_t head_dim = s->head_dim != 0 ? s->head_dim : s->model_dim / s->n_heads;
    const uint32_t G = s->n_kv_heads != 0 ? s->n_kv_heads : s->n_heads;
    const uint32_t M = s->model_dim, F = s->ffn_dim, HD = s->n_heads * head_dim, GD = G * head_dim;
    const struct { const char *name; uint32_t rows, cols; } matrices[] = {
        {"attn_q", HD, M}, {"attn_k", GD, M}, {"attn_v", GD, M}, {"attn_output", M, HD},
        {"ffn_gate", F, M}, {"ffn_up", F, M}, {"ffn_down", M, F}};
    char name[64];
    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", (unsigned)layer);
    gguf_model_norm(m, s, rng, name);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        snprintf(name, sizeof name, "blk.%u.%s.weight", (unsigned)layer, matrices[i].name);
        gguf_model_matrix(m, s, rng, name, matrices[i].rows, matrices[i].cols, 1.0f);
    }
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", (unsigned)layer);
    gguf_model_norm(m, s, rng, name);
}

static inline void gguf_model_keys(gguf_maker *m, const gguf_shape *s) {
    gguf_model_text(m, s, "general.architecture", s->architecture != NULL ? s->architecture : "llama");
    gguf_model_text(m, s, "general.name", "made for a test");
    gguf_model_u32(m, s, "llama.context_length", s->ctx);
    gguf_model_u32(m, s, "llama.embedding_length", s->model_dim);
    gguf_model_u32(m, s, "llama.block_count", s->n_layers);
    gguf_model_u32(m, s, "llama.feed_forward_length", s->ffn_dim);
    gguf_model_u32(m, s, "llama.attention.head_count", s->n_heads);
    if (s->n_kv_heads != 0) gguf_model_u32(m, s, "llama.attention.head_count_kv", s->n_kv_heads);
    if (s->head_dim != 0) {
        gguf_model_u32(m, s, "llama.attention.key_length", s->head_dim);
        gguf_model_u32(m, s, "llama.attention.value_length", s->head_dim);
    }
    gguf_model_f32(m, s, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (s->rope_dims != 0) gguf_model_u32(m, s, "llama.rope.dimension_count", s->rope_dims);
    if (s->rope_base != 0.0f) gguf_model_f32(m, s, "llama.rope.freq_base", s->rope_base);
    if (s->rope_scaling != NULL) gguf_model_text(m, s, "llama.rope.scaling.type", s->rope_scaling);
    if (s->rope_factor != 0.0f) gguf_model_f32(m, s, "llama.rope.scaling.factor", s->rope_factor);
}

/* The whole model in malloc memory of exactly its size. Logits spread over several units. */
static inline uint8_t *gguf_make_llama(const gguf_shape *s, size_t *out_bytes) {
    gguf_maker m = gguf_start();
    uint64_t rng = s->seed;
    if (s->version != 0) m.version = s->version;
    if (s->more != NULL) {
        gguf_maker more = gguf_start();
        s->more(&more);
        m.instead = more.kv;
        free(more.infos.at);
        free(more.data.at);
    }
    gguf_model_keys(&m, s);
    gguf_model_vocab(&m, s);
    if (!s->vocab_only) {
        const uint32_t head_dim = s->head_dim != 0 ? s->head_dim : s->model_dim / s->n_heads;
        const uint32_t rope_dims = s->rope_dims != 0 ? s->rope_dims : head_dim;
        gguf_model_matrix(&m, s, &rng, "token_embd.weight", s->n_vocab, s->model_dim, 3.0f);
        if (s->rope_freqs)
            gguf_model_tensor(&m, s, &rng, "rope_freqs.weight", KVR_DTYPE_F32, 1, rope_dims / 2, 2.0f, 1.0f);
        for (uint32_t layer = 0; layer < s->n_layers; layer++) gguf_model_layer(&m, s, &rng, layer);
        gguf_model_norm(&m, s, &rng, "output_norm.weight");
        if (!s->tied_head) gguf_model_matrix(&m, s, &rng, "output.weight", s->n_vocab, s->model_dim, 3.0f);
    }
    if (s->more != NULL) s->more(&m);
    return gguf_finish(&m, out_bytes);
}

#endif
