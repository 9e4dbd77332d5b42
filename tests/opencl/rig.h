/*
 * rig.h - a small session for operator tests: tensors with random contents, opened on the OpenCL backend and on the
 * reference backend, and their values as doubles: of F32, F16, Q4_0, Q8_0 by code that shares nothing with either, of
 * the other types as the library dequantises them, which tests/golden compares with the gguf package.
 */
#ifndef KVR_TEST_RIG_H
#define KVR_TEST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "device.h"
#include "kvr/kvr_cpu.h"

#define RIG_TENSORS 32u

typedef struct rig_side {
    kvr_backend backend;
    void *mem;
    const char *name;
} rig_side;

typedef struct rig {
    kvr_backend_need need;
    kvr_tensor_desc tensors[RIG_TENSORS];
    void *data[RIG_TENSORS];
    float *values[RIG_TENSORS]; /* of types that rig_value does not read itself */
    rig_side sides[2]; /* OpenCL, reference */
    kvr_opencl *opencl;
    void *opencl_mem;
    kvr_cpu cpu;
} rig;

/* 1 on slow simulators (KVR_TEST_SMALL set): fewer rows. */
int rig_small(void);
/* 0 for what is left out with KVR_TEST_FEW set, for drivers that compile for minutes: rare types, and seven of eight
 * cases that are sessions of their own. */
int rig_has_case(size_t i);
int rig_has_type(kvr_dtype dtype);

/* Every type that a matrix can have. */
#define RIG_TYPES 14u
extern const kvr_dtype rig_types[RIG_TYPES];
int rig_type_fits(kvr_dtype dtype, uint32_t cols); /* a row of so many columns */

void rig_begin(rig *r, uint32_t batch_tokens, uint32_t ctx_tokens, uint32_t H, uint32_t G, uint32_t D);
uint32_t rig_add(rig *r, kvr_tensor_role role, kvr_dtype dtype, uint32_t rows, uint32_t cols);
/* Opens both sides; config may be NULL. KVR_TEST_GEMM_OWN set: never CLBlast, whose kernels checkers complain about. */
void rig_open(rig *r, const kvr_opencl_config *config);
void rig_close(rig *r);
/* open of the OpenCL side alone with a 64-byte aligned block of exactly host_bytes - less. */
kvr_status rig_open_side(rig *r, rig_side *side, size_t less, kvr_error *error);

float rig_random(uint32_t *seed); /* -1..1 */
void rig_fill(float *out, size_t n, uint32_t seed);
double rig_value(const rig *r, uint32_t tensor, uint32_t row, uint32_t col); /* of a weight */
double rig_half(uint16_t bits);
uint16_t rig_to_half(float value);

void rig_write(const rig_side *side, uint32_t tensor, uint32_t row, uint32_t rows, const void *src);
void rig_read(const rig_side *side, uint32_t tensor, uint32_t row, uint32_t rows, void *dst);
void rig_ok(const rig_side *side, kvr_status status); /* fails with explain()'s words */
void *rig_alloc(size_t bytes);                        /* 64-byte aligned, never NULL; free() it */

/* The plain case of an operator. */
static inline kvr_status rig_rms_norm(const rig_side *b, kvr_view dst, kvr_view src, uint32_t weight, uint32_t rows) {
    const kvr_norm how = {weight, KVR_NO_TENSOR, KVR_NORM_RMS, 1e-5f, 0};
    return b->backend.norm(b->backend.user, dst, src, &how, rows);
}
static inline kvr_status rig_rope(const rig_side *b, kvr_view x, uint32_t freq, uint32_t rows, uint32_t n_heads,
                                  uint32_t dims, uint32_t first) {
    const kvr_rope how = {freq, dims, KVR_ROPE_PAIRS, 1.0f};
    return b->backend.rope(b->backend.user, x, &how, rows, n_heads, first);
}
static inline kvr_status rig_attention(const rig_side *b, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                       uint32_t rows, uint32_t first) {
    const kvr_attention how = {0.25f, 0.0f, 0, KVR_PATH_PREFILL};
    return b->backend.attention(b->backend.user, dst, q, k, v, &how, rows, first);
}
static inline kvr_status rig_silu_mul(const rig_side *b, kvr_view gate, kvr_view up, uint32_t rows) {
    return b->backend.activate(b->backend.user, gate, up, KVR_ACT_SILU, rows);
}

#endif
