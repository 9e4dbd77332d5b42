/*
 * Blocks of 32: a scale, for some a least value, then the low four bits (first half of the block in the low nibbles).
 * They are one part, with no small scales.
 */
#include "kvr_dtype_blocks.h"

#include "kvr_gguf.h"

static void scale_alone(const uint8_t *block, kvri_dtype_block_parts *out) {
    out->scale = kvri_le16(block);
    out->least = 0;
    out->scales[0] = 1;
    out->leasts[0] = 1;
}

static void scale_and_least(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_alone(block, out);
    out->least = kvri_le16(block + 2);
}

static void nibbles(const uint8_t *q, uint8_t *code) {
    for (uint32_t i = 0; i < 16; i++) code[i] = q[i] & 15u;
    for (uint32_t i = 0; i < 16; i++) code[16 + i] = q[i] >> 4;
}

/* Bit i of 32 becomes the fifth of element i. */
static void fifth_bits(const uint8_t *bits, uint8_t *code) {
    const uint32_t high = kvri_le32(bits);
    for (uint32_t i = 0; i < 32; i++) code[i] = (uint8_t)(code[i] | (high >> i & 1u) << 4);
}

/* f16 scale, nibbles */
void kvri_block_q4_0(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_alone(block, out);
    nibbles(block + 2, out->code);
}

/* f16 scale, f16 least, nibbles */
void kvri_block_q4_1(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_and_least(block, out);
    nibbles(block + 4, out->code);
}

/* f16 scale, 32 fifth bits, nibbles */
void kvri_block_q5_0(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_alone(block, out);
    nibbles(block + 6, out->code);
    fifth_bits(block + 2, out->code);
}

/* f16 scale, f16 least, 32 fifth bits, nibbles */
void kvri_block_q5_1(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_and_least(block, out);
    nibbles(block + 8, out->code);
    fifth_bits(block + 4, out->code);
}

/* f16 scale, 32 int8 */
void kvri_block_q8_0(const uint8_t *block, kvri_dtype_block_parts *out) {
    scale_alone(block, out);
    for (uint32_t i = 0; i < 32; i++) out->code[i] = block[2 + i] ^ 0x80u; /* signed: 128 more */
}

/* f16 scale, nibbles that choose one of 16 unevenly spaced values */
void kvri_block_iq4_nl(const uint8_t *block, kvri_dtype_block_parts *out) {
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    scale_alone(block, out);
    nibbles(block + 2, out->code);
    for (uint32_t i = 0; i < 32; i++) out->code[i] = (uint8_t)(values[out->code[i]] + 128);
}
