/* Blocks of 32: a scale, for some a least value, then the low four bits (first half of the block in the low nibbles).
 */
#include "kvr_dtype_blocks.h"

#include "kvr_dtype.h"
#include "kvr_gguf.h"

/* Element i of 16 bytes of nibbles. */
static int nibble(const uint8_t *q, uint32_t i) {
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

static float half_at(const uint8_t *at) {
    return kvri_f16_to_f32(kvri_le16(at));
}

/* f16 scale, nibbles: (q - 8) * d */
void kvri_block_q4_0(const uint8_t *block, float *out) {
    const float d = half_at(block);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)(nibble(block + 2, i) - 8) * d;
}

/* f16 scale, f16 least, nibbles: q * d + m */
void kvri_block_q4_1(const uint8_t *block, float *out) {
    const float d = half_at(block), m = half_at(block + 2);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)nibble(block + 4, i) * d + m;
}

/* f16 scale, 32 fifth bits, nibbles: (q - 16) * d */
void kvri_block_q5_0(const uint8_t *block, float *out) {
    const float d = half_at(block);
    const uint32_t high = kvri_le32(block + 2);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)((nibble(block + 6, i) | (int)((high >> i & 1u) << 4)) - 16) * d;
}

/* f16 scale, f16 least, 32 fifth bits, nibbles: q * d + m */
void kvri_block_q5_1(const uint8_t *block, float *out) {
    const float d = half_at(block), m = half_at(block + 2);
    const uint32_t high = kvri_le32(block + 4);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)(nibble(block + 8, i) | (int)((high >> i & 1u) << 4)) * d + m;
}

/* f16 scale, 32 int8: q * d */
void kvri_block_q8_0(const uint8_t *block, float *out) {
    const float d = half_at(block);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)(int8_t)block[2 + i] * d;
}

/* f16 scale, nibbles that choose one of 16 unevenly spaced values */
void kvri_block_iq4_nl(const uint8_t *block, float *out) {
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    const float d = half_at(block);
    for (uint32_t i = 0; i < 32; i++) out[i] = (float)values[nibble(block + 2, i)] * d;
}
