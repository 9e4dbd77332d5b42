/* The table of element types, and the types without blocks. */
#include "kvr_dtype.h"

#include "kvr_dtype_blocks.h"
#include "kvr_gguf.h"

#include <string.h>

typedef struct dtype_entry {
    uint32_t dtype;
    kvri_dtype_form form;
    const char *name;
    void (*row_to_f32)(const uint8_t *src, uint32_t cols, float *out); /* one of the two */
    void (*parts_of)(const uint8_t *block, kvri_dtype_block_parts *out);
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
    if (rest > halfway || (rest == halfway && (result & 1u)))
        result++; /* a carry moves into the exponent, as it should */
    return (uint16_t)(sign | result);
}

/* Compilers know the answer; where it is 0 rows of floats are copied as they are. */
static int is_big_endian(void) {
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 0;
}

static void f32_row(const uint8_t *src, uint32_t cols, float *out) {
    if (is_big_endian())
        for (uint32_t i = 0; i < cols; i++) out[i] = kvri_lef32(src + (size_t)i * 4);
    else
        memcpy(out, src, (size_t)cols * sizeof *out);
}

static void f16_row(const uint8_t *src, uint32_t cols, float *out) {
    for (uint32_t i = 0; i < cols; i++) out[i] = kvri_f16_to_f32(kvri_le16(src + (size_t)i * 2));
}

static void bf16_row(const uint8_t *src, uint32_t cols, float *out) {
    for (uint32_t i = 0; i < cols; i++) {
        const uint32_t bits = (uint32_t)kvri_le16(src + (size_t)i * 2) << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

static const dtype_entry table[] = {
    /* form: block, its bytes, part, offset, has_least */
    {KVR_DTYPE_F32, {1, 4, 0, 0, 0}, "F32", f32_row, NULL},
    {KVR_DTYPE_F16, {1, 2, 0, 0, 0}, "F16", f16_row, NULL},
    {KVR_DTYPE_BF16, {1, 2, 0, 0, 0}, "BF16", bf16_row, NULL},
    {KVR_DTYPE_Q4_0, {32, 18, 32, 8, 0}, "Q4_0", NULL, kvri_block_q4_0},
    {KVR_DTYPE_Q4_1, {32, 20, 32, 0, 1}, "Q4_1", NULL, kvri_block_q4_1},
    {KVR_DTYPE_Q5_0, {32, 22, 32, 16, 0}, "Q5_0", NULL, kvri_block_q5_0},
    {KVR_DTYPE_Q5_1, {32, 24, 32, 0, 1}, "Q5_1", NULL, kvri_block_q5_1},
    {KVR_DTYPE_Q8_0, {32, 34, 32, 128, 0}, "Q8_0", NULL, kvri_block_q8_0},
    {KVR_DTYPE_Q2_K, {256, 84, 16, 0, 1}, "Q2_K", NULL, kvri_block_q2_k},
    {KVR_DTYPE_Q3_K, {256, 110, 16, 4, 0}, "Q3_K", NULL, kvri_block_q3_k},
    {KVR_DTYPE_Q4_K, {256, 144, 32, 0, 1}, "Q4_K", NULL, kvri_block_q4_k},
    {KVR_DTYPE_Q5_K, {256, 176, 32, 0, 1}, "Q5_K", NULL, kvri_block_q5_k},
    {KVR_DTYPE_Q6_K, {256, 210, 16, 32, 0}, "Q6_K", NULL, kvri_block_q6_k},
    {KVR_DTYPE_IQ4_NL, {32, 18, 32, 128, 0}, "IQ4_NL", NULL, kvri_block_iq4_nl},
};

static const dtype_entry *find(uint32_t dtype) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].dtype == dtype) return &table[i];
    return NULL;
}

uint32_t kvri_dtype_block(uint32_t dtype) {
    const dtype_entry *e = find(dtype);
    return e != NULL ? e->form.block : 0;
}

const kvri_dtype_form *kvri_dtype_form_of(uint32_t dtype) {
    const dtype_entry *e = find(dtype);
    return e != NULL ? &e->form : NULL;
}

void kvri_dtype_parts(uint32_t dtype, const uint8_t *block, kvri_dtype_block_parts *out) {
    const dtype_entry *e = find(dtype);
    if (e != NULL && e->parts_of != NULL) e->parts_of(block, out);
}

uint64_t kvr_dtype_row_bytes(uint32_t dtype, uint64_t cols) {
    const dtype_entry *e = find(dtype);
    if (e == NULL || cols % e->form.block != 0 || cols / e->form.block > UINT64_MAX / e->form.block_bytes) return 0;
    return cols / e->form.block * e->form.block_bytes;
}

const char *kvr_dtype_name(uint32_t dtype) {
    const dtype_entry *e = find(dtype);
    return e != NULL ? e->name : "?";
}

/* The order of the roundings is that of ggml's own C code and of its Python package, so that every bit is the same. */
static void block_to_f32(const dtype_entry *e, const uint8_t *block, float *out) {
    const kvri_dtype_form *form = &e->form;
    kvri_dtype_block_parts parts;
    e->parts_of(block, &parts);
    const float block_scale = kvri_f16_to_f32(parts.scale), block_least = kvri_f16_to_f32(parts.least);
    const uint8_t *code = parts.code;
    for (uint32_t p = 0; p < form->block / form->part; p++, code += form->part, out += form->part) {
        const float scale = block_scale * (float)parts.scales[p];
        for (uint32_t i = 0; i < form->part; i++) out[i] = (float)((int32_t)code[i] - form->offset) * scale;
        if (!form->has_least) continue; /* adding 0 would change the sign of zeros */
        const float least = block_least * (float)parts.leasts[p];
        for (uint32_t i = 0; i < form->part; i++) out[i] += least;
    }
}

void kvri_dtype_to_f32(uint32_t dtype, const void *src, uint32_t cols, float *out) {
    const dtype_entry *e = find(dtype);
    const uint8_t *at = src;
    if (e == NULL) return;
    if (e->row_to_f32 != NULL) {
        e->row_to_f32(at, cols, out);
        return;
    }
    for (uint32_t c = 0; c < cols; c += e->form.block, at += e->form.block_bytes) block_to_f32(e, at, out + c);
}

void kvri_dtype_from_f32(uint32_t dtype, const float *src, uint32_t cols, void *out) {
    uint8_t *at = out;
    if (dtype == KVR_DTYPE_F32) {
        for (uint32_t c = 0; c < cols; c++, at += 4) {
            uint32_t bits;
            memcpy(&bits, &src[c], sizeof bits);
            for (uint32_t i = 0; i < 4; i++) at[i] = (uint8_t)(bits >> 8 * i);
        }
    }
    if (dtype == KVR_DTYPE_F16) {
        for (uint32_t c = 0; c < cols; c++, at += 2) {
            const uint16_t half = kvri_f32_to_f16(src[c]);
            at[0] = (uint8_t)half;
            at[1] = (uint8_t)(half >> 8);
        }
    }
}
