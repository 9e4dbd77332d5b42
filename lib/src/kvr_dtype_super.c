/*
 * Blocks of 256 ("K" types): f16 scales of the block, small whole-number scales of its parts, packed bits. Where bits
 * of 256 elements share bytes, the elements of a byte are 32 apart, four (2 bits) or two (4 bits) of them, group by
 * group.
 */
#include "kvr_dtype_blocks.h"

#include "kvr_dtype.h"
#include "kvr_gguf.h"

static float half_at(const uint8_t *at) {
    return kvri_f16_to_f32(kvri_le16(at));
}

/* Two bits of element i out of 64 bytes: groups of 128 elements in 32 bytes. */
static uint32_t two_bits(const uint8_t *q, uint32_t i) {
    return (uint32_t)q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3u;
}

/* Bit of element i out of 32 bytes. */
static uint32_t one_bit(const uint8_t *q, uint32_t i) {
    return (uint32_t)q[i % 32] >> (i / 32) & 1u;
}

/* Four bits of element i out of 128 bytes: groups of 64 elements in 32 bytes. */
static uint32_t four_bits(const uint8_t *q, uint32_t i) {
    return (uint32_t)q[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15u;
}

/* 16 bytes of (scale, least) nibbles, 64 bytes of 2 bits, f16 d, f16 dmin: d * scale * q - dmin * least */
void kvri_block_q2_k(const uint8_t *block, float *out) {
    const float d = half_at(block + 80), dmin = half_at(block + 82);
    for (uint32_t part = 0; part < 16; part++) {
        const float dl = d * (float)(block[part] & 15), ml = dmin * (float)(block[part] >> 4);
        for (uint32_t i = part * 16; i < part * 16 + 16; i++) out[i] = dl * (float)two_bits(block + 16, i) - ml;
    }
}

/* 32 bytes of third bits (0: subtract 4), 64 bytes of 2 bits, 12 bytes of 6-bit scales, f16 d: d * (scale - 32) * q */
void kvri_block_q3_k(const uint8_t *block, float *out) {
    const uint8_t *scales = block + 96; /* 8 bytes of low nibbles (0..7, 8..15), 4 of high pairs (j, j+4, j+8, j+12) */
    const float d = half_at(block + 108);
    for (uint32_t part = 0; part < 16; part++) {
        const uint32_t low = (uint32_t)scales[part % 8] >> (part / 8 * 4) & 15u;
        const uint32_t high = (uint32_t)scales[8 + part % 4] >> (part / 4 * 2) & 3u;
        const float dl = d * (float)((int)(low | high << 4) - 32);
        for (uint32_t i = part * 16; i < part * 16 + 16; i++)
            out[i] = dl * (float)((int)two_bits(block + 32, i) - (one_bit(block, i) ? 0 : 4));
    }
}

/* 6-bit scale and least of part 0..7 out of 12 bytes: the last four parts keep their upper two bits beside the first
 * four. */
static void scale_and_least(const uint8_t *packed, uint32_t part, float *scale, float *least) {
    if (part < 4) {
        *scale = (float)(packed[part] & 63);
        *least = (float)(packed[part + 4] & 63);
    } else {
        *scale = (float)((packed[part + 4] & 15) | (packed[part - 4] >> 6 << 4));
        *least = (float)((packed[part + 4] >> 4) | (packed[part] >> 6 << 4));
    }
}

/* f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles: d * scale * q - dmin * least */
void kvri_block_q4_k(const uint8_t *block, float *out) {
    const float d = half_at(block), dmin = half_at(block + 2);
    for (uint32_t part = 0; part < 8; part++) {
        float scale, least;
        scale_and_least(block + 4, part, &scale, &least);
        const float dl = d * scale, ml = dmin * least;
        for (uint32_t i = part * 32; i < part * 32 + 32; i++) out[i] = dl * (float)four_bits(block + 16, i) - ml;
    }
}

/* As Q4_K with 32 bytes of fifth bits before the nibbles. */
void kvri_block_q5_k(const uint8_t *block, float *out) {
    const float d = half_at(block), dmin = half_at(block + 2);
    for (uint32_t part = 0; part < 8; part++) {
        float scale, least;
        scale_and_least(block + 4, part, &scale, &least);
        const float dl = d * scale, ml = dmin * least;
        for (uint32_t i = part * 32; i < part * 32 + 32; i++)
            out[i] = dl * (float)(four_bits(block + 48, i) | one_bit(block + 16, i) << 4) - ml;
    }
}

/* 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales, f16 d: d * scale * (q - 32). Here the nibbles of a byte
 * are 64 apart. */
void kvri_block_q6_k(const uint8_t *block, float *out) {
    const float d = half_at(block + 208);
    for (uint32_t part = 0; part < 16; part++) {
        const float dl = d * (float)(int8_t)block[192 + part];
        for (uint32_t i = part * 16; i < part * 16 + 16; i++) {
            const uint32_t low = (uint32_t)block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15u;
            out[i] = dl * (float)((int)(low | two_bits(block + 128, i) << 4) - 32);
        }
    }
}
