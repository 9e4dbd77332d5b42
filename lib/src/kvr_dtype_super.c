/*
 * Blocks of 256 ("K" types): f16 scales of the block, small whole-number scales of its parts, packed bits. Where bits
 * of 256 elements share bytes, the elements of a byte are 32 apart, four (2 bits) or two (4 bits) of them, group by
 * group. Least values are subtracted: their common scale is taken with the other sign.
 */
#include "kvr_dtype_blocks.h"

#include "kvr_gguf.h"

#define SIGN_OF_HALF 0x8000u

/* Two bits of each element out of 64 bytes: groups of 128 elements in 32 bytes. */
static void two_bits(const uint8_t *q, uint32_t shift, uint8_t *code) {
    for (uint32_t g = 0; g < 8; g++)
        for (uint32_t i = 0; i < 32; i++)
            code[32 * g + i] = (uint8_t)(code[32 * g + i] | (q[g / 4 * 32 + i] >> (g % 4 * 2) & 3u) << shift);
}

/* A bit of each element out of 32 bytes. */
static void one_bit(const uint8_t *q, uint32_t shift, uint8_t *code) {
    for (uint32_t g = 0; g < 8; g++)
        for (uint32_t i = 0; i < 32; i++)
            code[32 * g + i] = (uint8_t)(code[32 * g + i] | (q[i] >> g & 1u) << shift);
}

static void no_bits(uint8_t *code) {
    for (uint32_t i = 0; i < 256; i++) code[i] = 0;
}

/* Four bits of each element out of 128 bytes, whose two nibbles are `apart` elements apart. */
static void four_bits(const uint8_t *q, uint32_t apart, uint8_t *code) {
    for (uint32_t first = 0; first < 256; first += 2 * apart, q += apart) {
        for (uint32_t i = 0; i < apart; i++) code[first + i] = q[i] & 15u;
        for (uint32_t i = 0; i < apart; i++) code[first + apart + i] = q[i] >> 4;
    }
}

/* 16 bytes of (scale, least) nibbles, 64 bytes of 2 bits, f16 scale, f16 scale of the leasts */
void kvri_block_q2_k(const uint8_t *block, kvri_dtype_block_parts *out) {
    out->scale = kvri_le16(block + 80);
    out->least = kvri_le16(block + 82) ^ SIGN_OF_HALF;
    for (uint32_t part = 0; part < 16; part++) {
        out->scales[part] = (int8_t)(block[part] & 15);
        out->leasts[part] = (int8_t)(block[part] >> 4);
    }
    no_bits(out->code);
    two_bits(block + 16, 0, out->code);
}

/* 32 bytes of third bits, 64 bytes of 2 bits, 12 bytes of 6-bit scales (32 more than they are), f16 scale */
void kvri_block_q3_k(const uint8_t *block, kvri_dtype_block_parts *out) {
    const uint8_t *scales = block + 96; /* 8 bytes of low nibbles (0..7, 8..15), 4 of high pairs (j, j+4, j+8, j+12) */
    out->scale = kvri_le16(block + 108);
    out->least = 0;
    for (uint32_t part = 0; part < 16; part++) {
        const uint32_t low = (uint32_t)scales[part % 8] >> (part / 8 * 4) & 15u;
        const uint32_t high = (uint32_t)scales[8 + part % 4] >> (part / 4 * 2) & 3u;
        out->scales[part] = (int8_t)((int)(low | high << 4) - 32);
    }
    no_bits(out->code);
    two_bits(block + 32, 0, out->code);
    one_bit(block, 2, out->code);
}

/* f16 scale, f16 scale of the leasts, then 6-bit scales and leasts of 8 parts in 12 bytes: the last four parts keep
 * their upper two bits beside the first four. */
static void six_bit_scales(const uint8_t *block, kvri_dtype_block_parts *out) {
    const uint8_t *packed = block + 4;
    out->scale = kvri_le16(block);
    out->least = kvri_le16(block + 2) ^ SIGN_OF_HALF;
    for (uint32_t part = 0; part < 4; part++) {
        out->scales[part] = (int8_t)(packed[part] & 63);
        out->leasts[part] = (int8_t)(packed[part + 4] & 63);
        out->scales[part + 4] = (int8_t)((packed[part + 8] & 15) | packed[part] >> 6 << 4);
        out->leasts[part + 4] = (int8_t)(packed[part + 8] >> 4 | packed[part + 4] >> 6 << 4);
    }
}

/* scales, 128 bytes of nibbles */
void kvri_block_q4_k(const uint8_t *block, kvri_dtype_block_parts *out) {
    six_bit_scales(block, out);
    four_bits(block + 16, 32, out->code);
}

/* scales, 32 bytes of fifth bits, 128 bytes of nibbles */
void kvri_block_q5_k(const uint8_t *block, kvri_dtype_block_parts *out) {
    six_bit_scales(block, out);
    four_bits(block + 48, 32, out->code);
    one_bit(block + 16, 4, out->code);
}

/* 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales, f16 scale. Here the nibbles of a byte are 64 apart. */
void kvri_block_q6_k(const uint8_t *block, kvri_dtype_block_parts *out) {
    out->scale = kvri_le16(block + 208);
    out->least = 0;
    for (uint32_t part = 0; part < 16; part++) out->scales[part] = (int8_t)block[192 + part];
    four_bits(block, 64, out->code);
    two_bits(block + 128, 4, out->code);
}
