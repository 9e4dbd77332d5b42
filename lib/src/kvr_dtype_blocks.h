/*
 * kvr_dtype_blocks.h - internal: one block of each quantised type as whole numbers, for the table in kvr_dtype.c.
 * Layouts: ggml-common.h of the GGUF format (block_q4_0, block_q4_K, ...).
 */
#ifndef KVR_DTYPE_BLOCKS_H
#define KVR_DTYPE_BLOCKS_H

#include "kvr_dtype.h"

/* kvr_dtype_small.c: blocks of 32. */
void kvri_block_q4_0(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q4_1(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q5_0(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q5_1(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q8_0(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_iq4_nl(const uint8_t *block, kvri_dtype_block_parts *out);

/* kvr_dtype_super.c: blocks of 256, in parts of 16 or 32 with small scales of their own. */
void kvri_block_q2_k(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q3_k(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q4_k(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q5_k(const uint8_t *block, kvri_dtype_block_parts *out);
void kvri_block_q6_k(const uint8_t *block, kvri_dtype_block_parts *out);

#endif
