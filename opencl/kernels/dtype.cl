/*
 * dtype.cl - one pair of readers per weight type: load32 reads elements k..k+31 of a row (k a multiple of 32, all 32
 * inside the row) as two float16; at reads one. Layouts: ggml's block_q4_0, block_q8_0; blocks are 2-byte aligned only.
 */
static void load32_f32(global const uchar *row, uint k, float16 *lo, float16 *hi) {
    *lo = vload16(0, (global const float *)row + k);
    *hi = vload16(0, (global const float *)row + k + 16);
}

static float at_f32(global const uchar *row, uint k) {
    return ((global const float *)row)[k];
}

static void load32_f16(global const uchar *row, uint k, float16 *lo, float16 *hi) {
    *lo = vload_half16(0, (global const half *)row + k);
    *hi = vload_half16(0, (global const half *)row + k + 16);
}

static float at_f16(global const uchar *row, uint k) {
    return vload_half(k, (global const half *)row);
}

/*
 * Scale of a block: a half as float without branches. vload_half is right too, but PoCL makes a loop of its scalar
 * form, which costs more than the block. The exponent is moved from bias 15 to 127; halves below 2^-14 become normal
 * floats by adding and taking away 2^-14, so that devices that flush denormals get them right; infinity and NaN stay.
 */
static float scale_of(global const uchar *block) {
    const uint h = *(global const ushort *)block;
    const uint rest = (h & 0x7fffu) << 13;
    const float small = as_float(rest + 0x38800000u) - as_float(0x38800000u);
    const float normal = as_float(rest + 0x38000000u + (rest >= 0x0f800000u ? 0x38000000u : 0u));
    return as_float(as_uint(rest < 0x00800000u ? small : normal) | (h & 0x8000u) << 16);
}

static void load32_q8_0(global const uchar *row, uint k, float16 *lo, float16 *hi) {
    global const uchar *block = row + (size_t)(k / 32u) * 34u;
    const float d = scale_of(block);
    *lo = convert_float16(vload16(0, (global const char *)(block + 2))) * d;
    *hi = convert_float16(vload16(0, (global const char *)(block + 18))) * d;
}

static float at_q8_0(global const uchar *row, uint k) {
    global const uchar *block = row + (size_t)(k / 32u) * 34u;
    return (float)((global const char *)(block + 2))[k % 32u] * scale_of(block);
}

static void load32_q4_0(global const uchar *row, uint k, float16 *lo, float16 *hi) {
    global const uchar *block = row + (size_t)(k / 32u) * 18u;
    const float d = scale_of(block);
    const uchar16 q = vload16(0, block + 2);
    *lo = (convert_float16(q & (uchar16)15) - 8.0f) * d;
    *hi = (convert_float16(q >> (uchar16)4) - 8.0f) * d;
}

static float at_q4_0(global const uchar *row, uint k) {
    global const uchar *block = row + (size_t)(k / 32u) * 18u;
    const uint i = k % 32u;
    const uint q = i < 16u ? (block[2u + i] & 15u) : (uint)(block[2u + i - 16u] >> 4);
    return ((float)q - 8.0f) * scale_of(block);
}
