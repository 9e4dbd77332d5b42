/*
 * kvr_backend.h - the seam to a compute device: the operators of one transformer layer over
 * device tensors, and transfers that overlap them.
 *
 * The core decides which tensors exist and hands their list over at open; from then on a tensor is
 * its index in that list. One backend object serves one session. Every operator enqueues and returns
 * at once (or computes at once: allowed, only slower to poll); operators take effect in call order.
 *
 * Two rules that every implementation keeps, or a chain's answer would depend on its cut:
 *  - a row of a result does not depend on how many rows share the call;
 *  - within KVR_PATH_PREFILL the same arithmetic runs for 1 row and for many.
 */
#ifndef KVR_BACKEND_H
#define KVR_BACKEND_H

#include "kvr/kvr_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element types; the numbers are GGUF's (ggml_type). Q types: blocks of 32 elements with one scale; K types: blocks of
 * 256 with a scale per 16 or 32. */
typedef enum kvr_dtype {
    KVR_DTYPE_F32 = 0,
    KVR_DTYPE_F16 = 1,
    KVR_DTYPE_Q4_0 = 2, /* f16 scale, 16 bytes of nibbles (low = elements 0..15), value (q-8)*d */
    KVR_DTYPE_Q4_1 = 3,
    KVR_DTYPE_Q5_0 = 6,
    KVR_DTYPE_Q5_1 = 7,
    KVR_DTYPE_Q8_0 = 8, /* f16 scale, 32 int8, value q*d */
    KVR_DTYPE_Q2_K = 10,
    KVR_DTYPE_Q3_K = 11,
    KVR_DTYPE_Q4_K = 12,
    KVR_DTYPE_Q5_K = 13,
    KVR_DTYPE_Q6_K = 14,
    KVR_DTYPE_IQ4_NL = 20, /* as Q4_0, but the nibble chooses one of 16 fixed values */
    KVR_DTYPE_BF16 = 30
} kvr_dtype;

/* Bytes of `cols` consecutive elements (cols a multiple of the block); 0 for an unknown type. */
uint64_t kvr_dtype_row_bytes(uint32_t dtype, uint64_t cols);
/* "F16", "Q8_0", ...; "?" for an unknown type. */
const char *kvr_dtype_name(uint32_t dtype);

typedef enum kvr_tensor_role {
    KVR_ROLE_MATRIX = 0, /* weight for matmul and embed, any dtype */
    KVR_ROLE_VECTOR = 1, /* norm weight or rope factors, F32 or F16, one row */
    KVR_ROLE_WORK = 2,   /* activations, F32, contents undefined at open */
    /* Keys or values of one layer, F16 or F32, [rows][n_kv_heads*head_dim]: those of token t lie in row t mod rows. A
     * layer whose attention has a window may have fewer rows than ctx_tokens, then a multiple of KVR_BACKEND_RING. */
    KVR_ROLE_KV = 3
} kvr_tensor_role;

/* A multiple of every backend's block of keys, so that no block is cut where a ring of rows begins again. */
#define KVR_BACKEND_RING 64u

/* One tensor, [rows][cols], cols contiguous (file layout for weights). Weights, keys and values are little-endian, also
 * in write() and read(); activations are the host's floats. */
typedef struct kvr_tensor_desc {
    const void *data; /* weights: bytes inside the mapped file, valid while the session is open; else NULL */
    uint64_t bytes;   /* rows * kvr_dtype_row_bytes(dtype, cols) */
    uint32_t rows;
    uint32_t cols;
    uint8_t dtype; /* kvr_dtype */
    uint8_t role;  /* kvr_tensor_role */
    uint16_t layer; /* for messages */
} kvr_tensor_desc;

/* Everything a backend must know to size itself. */
typedef struct kvr_backend_need {
    uint32_t struct_bytes;
    uint32_t n_tensors;
    const kvr_tensor_desc *tensors;
    uint32_t batch_tokens; /* most rows in one operator call */
    uint32_t ctx_tokens;
    uint32_t n_heads, n_kv_heads, head_dim;
    /* 1: store rounds each block of 32 values to q * 2^e, q in -127..127 (ties to even), e the least from -24..9 with
     * which none rounds beyond 127: what Q8_0 holds, so that boards can exchange it without loss. */
    uint32_t kv_8bit;
} kvr_backend_need;

/* What a backend will take for a need. Exact, but for driver_bytes. */
typedef struct kvr_backend_size {
    uint64_t host_bytes;    /* of the memory given to open, aligned to 64 */
    uint64_t weight_bytes;  /* device memory: weights */
    uint64_t kv_bytes;      /* device memory: keys and values */
    uint64_t work_bytes;    /* device memory: activations */
    uint64_t scratch_bytes; /* device memory: dequantised panels, library scratch, constants */
    uint64_t driver_bytes;  /* estimate of what driver and libraries take for themselves */
    uint32_t in_host;       /* 1: kv, work and scratch bytes are part of host_bytes, weights stay in the mapped file */
} kvr_backend_size;

/* A place: row `row` of tensor `tensor`. */
typedef struct kvr_view {
    uint32_t tensor;
    uint32_t row;
} kvr_view;

/* Which arithmetic a matmul uses; chosen by phase, never by row count. */
typedef enum kvr_path {
    KVR_PATH_PREFILL = 0, /* tiled product, any number of rows */
    KVR_PATH_DECODE = 1   /* matrix-vector, rows is 1 */
} kvr_path;

/* In place of an optional tensor that a model does not have. */
#define KVR_NO_TENSOR UINT32_MAX

/* How architectures differ; passed by the operators below and used only during the call. */
typedef enum kvr_norm_kind {
    KVR_NORM_RMS = 0,  /* x / sqrt(mean(x^2) + eps) * weight */
    KVR_NORM_LAYER = 1 /* (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias */
} kvr_norm_kind;

typedef struct kvr_norm {
    uint32_t weight, bias; /* VECTOR; bias or KVR_NO_TENSOR */
    kvr_norm_kind kind;
    float eps;
    int add; /* 1: added to dst instead of stored */
} kvr_norm;

typedef enum kvr_rope_style {
    KVR_ROPE_PAIRS = 0, /* rotates elements (2i, 2i+1) */
    KVR_ROPE_HALVES = 1 /* rotates elements (i, i + dims/2) */
} kvr_rope_style;

typedef struct kvr_rope {
    uint32_t freq;   /* VECTOR [1][dims/2], radians per token */
    uint32_t dims;   /* the first so many elements of a head are rotated */
    kvr_rope_style style;
    float magnitude; /* of the rotated elements; 1 = pure rotation */
} kvr_rope;

typedef struct kvr_attention {
    float scale;     /* of q . k */
    float soft_cap;  /* scores become soft_cap * tanh(score / soft_cap); 0 = none */
    uint32_t window; /* a token sees itself and window - 1 tokens before; 0 = all: the caches then have a row for every
                      * token */
    kvr_path path;   /* DECODE: rows is 1, and the keys may be cut into parts that are merged in ascending order */
} kvr_attention;

typedef enum kvr_activation {
    KVR_ACT_SILU = 0,     /* x / (1 + exp(-x)) */
    KVR_ACT_GELU = 1,     /* x/2 * (1 + erf(x / sqrt(2))) */
    KVR_ACT_GELU_TANH = 2 /* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) (Hendrycks, Gimpel 2016) */
} kvr_activation;

/* One of several products with the same rows. */
typedef struct kvr_product {
    kvr_view dst;
    uint32_t weight;
} kvr_product;
#define KVR_BACKEND_PRODUCTS 3u /* at most so many in a call */

/* Where queries, keys and values of some rows go. */
typedef struct kvr_place {
    kvr_view q; /* WORK, rotated in place; or tensor KVR_NO_TENSOR */
    kvr_view k, v; /* WORK; k is left rotated */
    kvr_view k_cache, v_cache; /* KV */
    uint32_t n_heads, n_kv_heads;
} kvr_place;

/* A transfer under way; 0 = already complete. */
typedef uint32_t kvr_fence;

/* What a read waits for: KVR_AFTER_ALL, a mark 1..KVR_BACKEND_MARKS set by mark(), or KVR_AFTER_NOTHING. */
typedef uint32_t kvr_mark;
#define KVR_AFTER_ALL 0u            /* every operator enqueued so far */
#define KVR_AFTER_NOTHING UINT32_MAX /* the rows are there already: they came through write() */
#define KVR_BACKEND_MARKS 4u

/* At most this many reads are outstanding at a time; a backend may refuse more with KVR_ERR_STATE. */
#define KVR_BACKEND_FENCES 12u

typedef struct kvr_backend {
    uint32_t struct_bytes;
    void *user;
    const char *name; /* "reference", "opencl" */

    /* Arithmetic only: sizes for this need. Fills error on failure (unsupported type, too large for the device). */
    kvr_status (*measure)(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error);
    /* Takes device memory as measured and uploads weights. mem is 64-byte aligned, host_bytes long.
     * The need is copied or used only during the call; tensor data stays valid until close. */
    kvr_status (*open)(void *user, const kvr_backend_need *need, void *mem, size_t mem_bytes, kvr_error *error);
    /* Gives back what open took. Harmless when not open. */
    void (*close)(void *user);

    /* dst[i] = row ids[i] of weight, as F32; rows <= batch_tokens; ids are below weight rows. Ids are copied. */
    kvr_status (*embed)(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows);
    /* dst[t] = norm of src[t]; dst may be src. When the weight is shorter than a row, each stretch of the weight's
     * length is normalised by itself (a norm per head). */
    kvr_status (*norm)(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows);
    /* dst[t][n] = sum_k src[t][k] * weight[n][k]; with add != 0: dst[t][n] += that. */
    kvr_status (*matmul)(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                         int add);
    /* x[t] += bias, a VECTOR. */
    kvr_status (*add_bias)(void *user, kvr_view x, uint32_t bias, uint32_t rows);
    /* x[t] *= factor, then soft_cap * tanh(x / soft_cap) unless soft_cap is 0. */
    kvr_status (*scale)(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows);
    /* In place, rotates pair i of each head of token first_token + t by (first_token + t) * freq[i]. */
    kvr_status (*rope)(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                       uint32_t first_token);
    /* dst[t] = src[t] converted to the dtype of dst (a KV tensor), rounded before when kv_8bit is set. */
    kvr_status (*store)(void *user, kvr_view dst, kvr_view src, uint32_t rows);
    /* dst[t][h] = softmax(cap(q[t][h] . k[seen] * scale)) . v[seen], seen = the window of tokens that ends at
     * first_token + t; online softmax over key blocks at fixed absolute boundaries, merged in ascending order. q, dst:
     * [rows][n_heads*head_dim]; k, v: KV tensors. Rows of the caches that no token of this call sees may hold anything;
     * where they are fewer than the context, rows + window - 1 is at most their number. */
    kvr_status (*attention)(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                            uint32_t rows, uint32_t first_token);
    /* x[t][i] = activation(x[t][i]) * up[t][i]; without the factor when up.tensor is KVR_NO_TENSOR. */
    kvr_status (*activate)(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows);

    /* Optional, because every launch costs time on a device: several operators in one, with the results of these bits.
     * matmul_many: n calls of matmul with one row, path DECODE, without add. place: rope of q and of k, store of k and
     * of v. */
    kvr_status (*matmul_many)(void *user, const kvr_product *products, uint32_t n, kvr_view src);
    kvr_status (*place)(void *user, const kvr_place *what, const kvr_rope *how, uint32_t rows, uint32_t first_token);

    /* Host to device, whole rows in the dtype of dst. src may be reused when the call returns. Does not wait for
     * operators enqueued before; the core writes only rows that none of them reads. */
    kvr_status (*write)(void *user, kvr_view dst, uint32_t rows, const void *src);
    /* Optional: a mark stands for every operator enqueued so far, instead of what it stood for before; later reads may
     * wait for it, while operators behind it run on. NULL: reads wait for all operators. */
    kvr_status (*mark)(void *user, kvr_mark mark);
    /* Device to host, after what `after` says, or later, and after every write so far. dst must stay until the fence is
     * done. */
    kvr_status (*read)(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after, kvr_fence *out_fence);
    /* KVR_OK: done (asked once; the fence is then free), KVR_AGAIN: not yet, negative: failed. */
    kvr_status (*done)(void *user, kvr_fence fence);
    /* Optional: blocks until the fence is done. Used by kvr_session_run only. */
    kvr_status (*wait)(void *user, kvr_fence fence);
    /* Optional: hands enqueued work to the device now. */
    kvr_status (*flush)(void *user);
    /* Optional: text and native code of the last failure of an operator. */
    void (*explain)(void *user, kvr_error *error);
    /* Optional, for the baseline TSP: attention whose rows meet all n_keys keys before the mask is applied. NULL: the
     * core adds the masked products by a second call of attention, whose result is overwritten. */
    kvr_status (*attention_square)(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                   const kvr_attention *how, uint32_t rows, uint32_t first_token, uint32_t n_keys);
    /* Multiply-adds that a call should have at most where operators return only when they are done: boards give signs
     * of life between calls. The default of batch_tokens follows from it; 0 = operators are enqueued, any number. */
    uint64_t call_products;
    /* 1: takes time but computes nothing, its keys and values have no content: boards refuse to share a prompt with
     * such a one unless they are of this kind too. */
    uint32_t is_emulated;
} kvr_backend;

#ifdef __cplusplus
}
#endif
#endif
