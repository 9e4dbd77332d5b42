/*
 * kvr_ocl_convert.c - rows of a file's blocks as they are staged for the device. A staged row is, per group of columns
 * that share the halves (32, or 256 with small scales):
 *
 *   half scale [, half least] [, small scales: a byte per part] [, small leasts]
 *   per block of 32 columns: low bits, high bits
 *
 * Low bits of `low` each are 4 * low bytes; byte i has those of columns i, i + 4 low, i + 8 low .., from its lowest bit
 * on; high bits likewise. 8 bits are stored signed. The kernel `pack` then only has to lay 16 such rows side by side
 * (kernels/quantised.cl). Blocks of Q4_0, Q4_1 and Q8_0 are that already.
 */
#include "kvr_ocl.h"

#include <string.h>

#include "kvr_dtype.h"

int kvri_ocl_convert_is_needed(uint32_t dtype) {
    static const uint32_t straight[] = {KVR_DTYPE_F32,  KVR_DTYPE_F16,  KVR_DTYPE_BF16,
                                        KVR_DTYPE_Q4_0, KVR_DTYPE_Q4_1, KVR_DTYPE_Q8_0};
    for (size_t i = 0; i < sizeof straight / sizeof straight[0]; i++)
        if (dtype == straight[i]) return 0;
    return 1;
}

/* Bits from .. from + bits - 1 of 32 codes. */
static uint8_t *put_bits(const uint8_t *code, uint32_t from, uint32_t bits, uint8_t *out) {
    const uint32_t n = 4u * bits;
    const uint32_t mask = (1u << bits) - 1u;
    for (uint32_t i = 0; i < n; i++) out[i] = (uint8_t)(code[i] >> from & mask);
    for (uint32_t at = bits; at < 8u; at += bits) {
        code += n;
        for (uint32_t i = 0; i < n; i++) out[i] = (uint8_t)(out[i] | (code[i] >> from & mask) << at);
    }
    return out + n;
}

static uint8_t *put_half(uint16_t half, uint8_t *out) {
    memcpy(out, &half, sizeof half); /* the device reads what this processor writes: same order of bytes */
    return out + sizeof half;
}

void kvri_ocl_convert_row(uint32_t dtype, const uint8_t *src, uint32_t cols, uint8_t *out) {
    const kvri_dtype_form *form = kvri_dtype_form_of(dtype);
    const kvri_ocl_type *type = kvri_ocl_type_at(kvri_ocl_type_of(dtype));
    const uint32_t parts = type->has_small ? form->block / form->part : 0;
    for (uint32_t c = 0; c < cols; c += form->block, src += form->block_bytes) {
        kvri_dtype_block_parts block;
        kvri_dtype_parts(dtype, src, &block);
        if (type->low == 8)
            for (uint32_t i = 0; i < form->block; i++) block.code[i] ^= 0x80u;
        out = put_half(block.scale, out);
        if (type->has_least) out = put_half(block.least, out);
        memcpy(out, block.scales, parts);
        out += parts;
        if (type->has_least) memcpy(out, block.leasts, parts);
        out += type->has_least ? parts : 0;
        for (uint32_t b = 0; b < form->block; b += 32u) {
            out = put_bits(block.code + b, 0, type->low, out);
            if (type->high != 0) out = put_bits(block.code + b, type->low, type->high, out);
        }
    }
}
