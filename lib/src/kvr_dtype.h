/*
 * kvr_dtype.h - internal: one table of element types, and rows of them as floats.
 */
#ifndef KVR_DTYPE_H
#define KVR_DTYPE_H

#include "kvr/kvr_backend.h"

/* Elements per block; 0 for an unknown type. */
uint32_t kvri_dtype_block(uint32_t dtype);

/*
 * A block of a quantised type as whole numbers. Element i of part p is
 * (code[i] - offset) * (scale * scales[p]) + least * leasts[p], the last term only where the type has one.
 */
typedef struct kvri_dtype_block_parts {
    uint16_t scale, least;         /* halves, of the block */
    int8_t scales[16], leasts[16]; /* of its parts */
    uint8_t code[256];
} kvri_dtype_block_parts;

/* What is the same in all blocks of a type. */
typedef struct kvri_dtype_form {
    uint32_t block, block_bytes; /* elements, bytes */
    uint32_t part;               /* elements; 0: not quantised */
    int32_t offset;
    int has_least;
} kvri_dtype_form;
/* NULL for an unknown type. */
const kvri_dtype_form *kvri_dtype_form_of(uint32_t dtype);
/* One block of a quantised type; `block` may be unaligned. leasts are undefined where the type has none. */
void kvri_dtype_parts(uint32_t dtype, const uint8_t *block, kvri_dtype_block_parts *out);

float kvri_f16_to_f32(uint16_t half);
/* Round to nearest even, overflow to infinity, as hardware and OpenCL's vstore_half_rte do. */
uint16_t kvri_f32_to_f16(float value);

/* out[0..cols) = the elements of one row, little-endian as in files, caches and frames; cols a multiple of the block.
 * src may be unaligned. */
void kvri_dtype_to_f32(uint32_t dtype, const void *src, uint32_t cols, float *out);
/* The way back, for F32 and F16 only. For F32 out may be src. */
void kvri_dtype_from_f32(uint32_t dtype, const float *src, uint32_t cols, void *out);

#endif
