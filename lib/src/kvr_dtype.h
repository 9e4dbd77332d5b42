/*
 * kvr_dtype.h - internal: one table of element types, and rows of them as floats.
 */
#ifndef KVR_DTYPE_H
#define KVR_DTYPE_H

#include "kvr/kvr_backend.h"

/* Elements per block; 0 for an unknown type. */
uint32_t kvri_dtype_block(uint32_t dtype);

float kvri_f16_to_f32(uint16_t half);
/* Round to nearest even, overflow to infinity, as hardware and OpenCL's vstore_half_rte do. */
uint16_t kvri_f32_to_f16(float value);

/* out[0..cols) = the elements of one row; cols a multiple of the block. src may be unaligned. */
void kvri_dtype_to_f32(uint32_t dtype, const void *src, uint32_t cols, float *out);
/* The way back, for F32 and F16 only. */
void kvri_dtype_from_f32(uint32_t dtype, const float *src, uint32_t cols, void *out);

#endif
