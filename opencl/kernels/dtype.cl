/*
 * dtype.cl - weights as the device holds them: strips of 16 rows n of the matrix, 16 lanes of a vector, so that every
 * operator reads them straight on. k_pad = columns rounded up to 32; what is past the end is zero.
 *
 *   f32, f16   [strip][k][16 n]
 *   q8_0       [strip][block of 32 k][8 groups][16 n][4 k] bytes (weight), and from byte scale_at on
 *   q4_0       [strip][block of 32 k][4 groups][16 n][4 k] bytes (low nibble: k = 4 group + j, high: 16 more); scales
 *              [strip][block][16 n] halfs
 *
 * A group of 64 bytes is one vector of four k per lane: the operand of dot4x8. put16 writes 32 columns k.. of 16 rows that
 * lie row_bytes apart in the file, the last n_rows of them real; block32 reads a block as 32 vectors of floats.
 */

/* Scales are halfs; vload_half16 is one instruction on CPUs where its scalar form is a call. */
static float16 scales16(global const uchar *w, uint scale_at, uint index) {
    return vload_half16(index, (global const half *)(w + scale_at));
}

static void put16_f32(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w, uint k_pad,
                      uint scale_at, uint strip) {
    global float *out = (global float *)w + ((size_t)strip * k_pad + k) * 16u;
    for (uint i = 0; i < 32u; i++)
        for (uint r = 0; r < 16u; r++)
            out[i * 16u + r] =
                r < n_rows && k + i < K ? ((global const float *)(rows + (size_t)r * row_bytes))[k + i] : 0.0f;
}

static void put16_f16(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w, uint k_pad,
                      uint scale_at, uint strip) {
    global ushort *out = (global ushort *)w + ((size_t)strip * k_pad + k) * 16u;
    for (uint i = 0; i < 32u; i++)
        for (uint r = 0; r < 16u; r++)
            out[i * 16u + r] =
                r < n_rows && k + i < K ? ((global const ushort *)(rows + (size_t)r * row_bytes))[k + i] : (ushort)0;
}

static void put16_q8_0(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w, uint k_pad,
                       uint scale_at, uint strip) {
    const size_t index = (size_t)strip * (k_pad / 32u) + k / 32u;
    global uint *out = (global uint *)w + index * 128u;
    global ushort *scale = (global ushort *)(w + scale_at) + index * 16u;
    for (uint r = 0; r < 16u; r++) {
        global const ushort *block = (global const ushort *)(rows + (size_t)min(r, n_rows - 1u) * row_bytes) + k / 32u * 17u;
        const uint8 v = as_uint8(vload16(0, block + 1)) ^ (uint8)(KVR_DOT_OFFSET * 0x01010101u);
        uint four[8];
        vstore8(v, 0, four);
        for (uint g = 0; g < 8u; g++) out[g * 16u + r] = four[g];
        scale[r] = r < n_rows ? block[0] : (ushort)0;
    }
}

static void put16_q4_0(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w, uint k_pad,
                       uint scale_at, uint strip) {
    const size_t index = (size_t)strip * (k_pad / 32u) + k / 32u;
    global uint *out = (global uint *)w + index * 64u;
    global ushort *scale = (global ushort *)(w + scale_at) + index * 16u;
    for (uint r = 0; r < 16u; r++) {
        global const ushort *block = (global const ushort *)(rows + (size_t)min(r, n_rows - 1u) * row_bytes) + k / 32u * 9u;
        uint four[4];
        vstore4(as_uint4(vload8(0, block + 1)), 0, four);
        for (uint g = 0; g < 4u; g++) out[g * 16u + r] = four[g];
        scale[r] = r < n_rows ? block[0] : (ushort)0;
    }
}

static void block32_f32(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    global const float *from = (global const float *)w + ((size_t)strip * k_pad + b * 32u) * 16u;
#pragma unroll
    for (uint i = 0; i < 32u; i++) out[i] = vload16(i, from);
}

static void block32_f16(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    global const half *from = (global const half *)w + ((size_t)strip * k_pad + b * 32u) * 16u;
#pragma unroll
    for (uint i = 0; i < 32u; i++) out[i] = vload_half16(i, from);
}

static void block32_q8_0(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    const uint index = strip * (k_pad / 32u) + b;
    global const uint *from = (global const uint *)w + (size_t)index * 128u;
    const float16 scale = scales16(w, scale_at, index);
#pragma unroll
    for (uint g = 0; g < 8u; g++) {
        const int16 v = as_int16(vload16(g, from) ^ (uint16)(KVR_DOT_OFFSET * 0x01010101u));
        out[4u * g] = convert_float16(v << 24 >> 24) * scale;
        out[4u * g + 1u] = convert_float16(v << 16 >> 24) * scale;
        out[4u * g + 2u] = convert_float16(v << 8 >> 24) * scale;
        out[4u * g + 3u] = convert_float16(v >> 24) * scale;
    }
}

static void block32_q4_0(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    const uint index = strip * (k_pad / 32u) + b;
    global const uint *from = (global const uint *)w + (size_t)index * 64u;
    const float16 scale = scales16(w, scale_at, index);
#pragma unroll
    for (uint g = 0; g < 4u; g++) {
        const int16 v = as_int16(vload16(g, from));
#pragma unroll
        for (uint j = 0; j < 4u; j++) {
            out[4u * g + j] = convert_float16((v >> (int)(8u * j) & 15) - 8) * scale;
            out[16u + 4u * g + j] = convert_float16((v >> (int)(8u * j + 4u) & 15) - 8) * scale;
        }
    }
}
