/* Block layouts: ggml/docs and ggml-common.h of the GGUF format (block_q4_0, block_q8_0). */
#include "kvr_dtype.h"

#include "kvr_gguf.h"

#include <string.h>

typedef struct dtype_entry {
    uint32_t dtype, block, block_bytes;
    const char *name;
    void (*to_f32)(const uint8_t *src, uint32_t cols, float *out);
} dtype_entry;

float kvri_f16_to_f32(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 0x1fu;
    const uint32_t mantissa = half & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 31) { /* infinity, NaN */
        bits = sign | 0x7f800000u | mantissa << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112u) << 23 | mantissa << 13;
    } else { /* zero, subnormal: mantissa * 2^-24, exact in F32 */
        value = (float)mantissa * 5.9604644775390625e-8f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t kvri_f32_to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds past 65504 */
    if (magnitude < 0x33000001u) return (uint16_t)sign;              /* rounds to zero: at most 2^-25 */
    uint32_t exponent = magnitude >> 23;
    uint32_t mantissa = magnitude & 0x7fffffu;
    uint32_t shift = 13;
    uint32_t result;
    if (exponent < 113) { /* subnormal half */
        mantissa |= 0x800000u;
        shift = 126u - exponent;
        result = 0;
    } else {
        result = (exponent - 112u) << 10;
    }
    result += mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1u);
    const uint32_t halfway = 1u << (shift - 1);
    if (rest > halfway || (rest == halfway && (result & 1u))) result++; /* a carry moves into the exponent, as it should */
    return (uint16_t)(sign | result);
}

static void f32_row(const uint8_t *src, uint32_t cols, float *out) { memcpy(out, src, (size_t)cols * sizeof *out); }

static void f16_row(const uint8_t *src, uint32_t cols, float *out) {
    for (uint32_t i = 0; i < cols; i++) out[i] = kvri_f16_to_f32(kvri_le16(src + (size_t)i * 2));
}

static void q4_0_row(const uint8_t *block, uint32_t cols, float *out) {
    for (uint32_t c = 0; c < cols; c += KVRI_BLOCK, block += 18, out += KVRI_BLOCK) {
        const float d = kvri_f16_to_f32(kvri_le16(block));
        for (uint32_t i = 0; i < 16; i++) {
            out[i] = (float)((int)(block[2 + i] & 15u) - 8) * d;
            out[i + 16] = (float)((int)(block[2 + i] >> 4) - 8) * d;
        }
    }
}

static void q8_0_row(const uint8_t *block, uint32_t cols, float *out) {
    for (uint32_t c = 0; c < cols; c += KVRI_BLOCK, block += 34, out += KVRI_BLOCK) {
        const float d = kvri_f16_to_f32(kvri_le16(block));
        for (uint32_t i = 0; i < 32; i++) out[i] = (float)(int8_t)block[2 + i] * d;
    }
}

static const dtype_entry table[] = {
    {KVR_DTYPE_F32, 1, 4, "F32", f32_row},
    {KVR_DTYPE_F16, 1, 2, "F16", f16_row},
    {KVR_DTYPE_Q4_0, KVRI_BLOCK, 18, "Q4_0", q4_0_row},
    {KVR_DTYPE_Q8_0, KVRI_BLOCK, 34, "Q8_0", q8_0_row},
};

static const dtype_entry *find(uint32_t dtype) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].dtype == dtype) return &table[i];
    return NULL;
}

uint32_t kvri_dtype_block(uint32_t dtype) {
    const dtype_entry *e = find(dtype);
    return e != NULL ? e->block : 0;
}

uint64_t kvr_dtype_row_bytes(uint32_t dtype, uint64_t cols) {
    const dtype_entry *e = find(dtype);
    if (e == NULL || cols % e->block != 0 || cols / e->block > UINT64_MAX / e->block_bytes) return 0;
    return cols / e->block * e->block_bytes;
}

const char *kvr_dtype_name(uint32_t dtype) {
    const dtype_entry *e = find(dtype);
    return e != NULL ? e->name : "?";
}

void kvri_dtype_to_f32(uint32_t dtype, const void *src, uint32_t cols, float *out) {
    const dtype_entry *e = find(dtype);
    if (e != NULL) e->to_f32(src, cols, out);
}

void kvri_dtype_from_f32(uint32_t dtype, const float *src, uint32_t cols, void *out) {
    if (dtype == KVR_DTYPE_F32) memcpy(out, src, (size_t)cols * sizeof *src);
    if (dtype == KVR_DTYPE_F16) {
        for (uint32_t c = 0; c < cols; c++) {
            const uint16_t half = kvri_f32_to_f16(src[c]);
            memcpy((uint8_t *)out + (size_t)c * 2, &half, sizeof half);
        }
    }
}
