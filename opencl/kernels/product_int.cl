/*
 * product_int.cl - the same products in integers, for weights of 4 or 8 bits: activations are quantised to 8 bits per block
 * of 32 (quantise), the products of a block are summed exactly, and only the sums are scaled, in ascending blocks. The host
 * joins this piece once per such type, with DT(name) = name_<type>; dot.cl and dtype.cl have the layouts.
 *
 * A weight's byte is its value + OFFSET, which the start of the block's sum takes back: x_sum is the sum of a block's x.
 */
#ifndef QUANT_BLOCK
#define QUANT_BLOCK 32u
#define NEAREST 12582912.0f /* 1.5 * 2^23: floats from here on are whole, so adding it rounds to nearest even */

/*
 * Rows of src as bytes: x [rows][K], with scale and sum [rows][K / 32]. Round to nearest even; a block's largest value
 * becomes 127. Work-item: KVR_CHUNK columns of one row.
 */
kernel void quantise(global const float *src, uint src_row, uint K, uint rows, global char *x, global float *x_scale,
                  global int *x_sum) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint t = (uint)get_global_id(1);
    if (t >= rows || first >= K) return;
    global const float *from = src + (size_t)(src_row + t) * K;
    for (uint k = first; k < min(first + KVR_CHUNK, K); k += QUANT_BLOCK) {
        const float16 lo = vload16(0, from + k);
        const float16 hi = vload16(1, from + k);
        const float16 m = fmax(fabs(lo), fabs(hi));
        const float8 m8 = fmax(m.lo, m.hi);
        const float4 m4 = fmax(m8.lo, m8.hi);
        const float most = fmax(fmax(m4.x, m4.y), fmax(m4.z, m4.w));
        const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
        const int16 q_lo = as_int16(fma(lo, (float16)inverse, (float16)NEAREST)) - as_int(NEAREST);
        const int16 q_hi = as_int16(fma(hi, (float16)inverse, (float16)NEAREST)) - as_int(NEAREST);
        const int16 s = q_lo + q_hi;
        const int8 s8 = s.lo + s.hi;
        const int4 s4 = s8.lo + s8.hi;
        const size_t block = (size_t)t * (K / QUANT_BLOCK) + k / QUANT_BLOCK;
        vstore16(convert_char16(q_lo), 0, x + block * QUANT_BLOCK);
        vstore16(convert_char16(q_hi), 1, x + block * QUANT_BLOCK);
        x_scale[block] = most / 127.0f;
        x_sum[block] = s4.x + s4.y + s4.z + s4.w;
    }
}

#define OFFSET_q8_0 KVR_DOT_OFFSET
#define OFFSET_q4_0 8
#define UINTS_q8_0 128u /* of a strip's block */
#define UINTS_q4_0 64u

/* Vector g of a block: four k of 16 rows, k = 4 g .. */
static uint16 four_q8_0(global const uint *block, uint g) {
    return vload16(g, block);
}
static uint16 four_q4_0(global const uint *block, uint g) {
    const uint16 v = vload16(g & 3u, block);
    return (g < 4u ? v : v >> 4) & 0x0f0f0f0fu;
}
#endif

kernel void DT(gemm_int)(global const uchar *w, uint k_pad, uint scale_at, global const int *x,
                         global const float *x_scale, global const int *x_sum, uint rows, global float *dst, uint dst_row,
                         uint N, uint add, uint item_rows) {
    const uint n = (uint)get_global_id(0) * KVR_STRIP;
    const uint t_first = (uint)get_global_id(1) * item_rows;
    if (n >= N || t_first >= rows) return;
    const uint t_end = min(t_first + item_rows, rows);
    const uint last_strip = (N - 1u) / 16u;
    const uint blocks = k_pad / QUANT_BLOCK;
    uint base[KVR_TILE_VECS];
#pragma unroll
    for (uint c = 0; c < KVR_TILE_VECS; c++) base[c] = min(n / 16u + c, last_strip) * blocks;
    for (uint t = t_first; t < t_end; t += KVR_DOT_ROWS) {
        size_t row[KVR_DOT_ROWS];
        float16 acc[KVR_DOT_ROWS][KVR_TILE_VECS];
#pragma unroll
        for (uint r = 0; r < KVR_DOT_ROWS; r++) {
            row[r] = (size_t)min(t + r, t_end - 1u) * blocks;
#pragma unroll
            for (uint c = 0; c < KVR_TILE_VECS; c++) acc[r][c] = 0.0f;
        }
        for (uint b = 0; b < blocks; b++) {
            int16 sum[KVR_DOT_ROWS][KVR_TILE_VECS];
#pragma unroll
            for (uint r = 0; r < KVR_DOT_ROWS; r++) {
                const int start = x_sum[row[r] + b] * -DT(OFFSET);
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) sum[r][c] = start;
            }
#pragma unroll
            for (uint g = 0; g < 8u; g++) {
                uint16 four[KVR_TILE_VECS];
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++)
                    four[c] = DT(four)((global const uint *)w + (size_t)(base[c] + b) * DT(UINTS), g);
#pragma unroll
                for (uint r = 0; r < KVR_DOT_ROWS; r++)
#pragma unroll
                    for (uint c = 0; c < KVR_TILE_VECS; c++)
                        sum[r][c] = dot4x8(sum[r][c], four[c], x + (row[r] + b) * 8u + g);
            }
#pragma unroll
            for (uint c = 0; c < KVR_TILE_VECS; c++) {
                const float16 scale = scales16(w, scale_at, base[c] + b);
#pragma unroll
                for (uint r = 0; r < KVR_DOT_ROWS; r++)
                    acc[r][c] = convert_float16(sum[r][c]) * (scale * x_scale[row[r] + b]) + acc[r][c];
            }
        }
        for (uint r = 0; r < KVR_DOT_ROWS && t + r < t_end; r++) {
            global float *to = dst + (size_t)(dst_row + t + r) * N;
            for (uint c = 0; c < KVR_TILE_VECS && n + c * 16u < N; c++)
                put16(add ? get16(to, n + c * 16u, N) + acc[r][c] : acc[r][c], to, n + c * 16u, N);
        }
    }
}

/* One row: decode. Work-item: one strip. */
kernel void DT(matvec_int)(global const uchar *w, uint k_pad, uint scale_at, global const int *x,
                           global const float *x_scale, global const int *x_sum, uint rows, global float *dst,
                           uint dst_row, uint N, uint add) {
    const uint n = (uint)get_global_id(0) * 16u;
    if (n >= N || rows == 0u) return;
    const uint blocks = k_pad / QUANT_BLOCK;
    const uint base = n / 16u * blocks;
    float16 acc = 0.0f;
    for (uint b = 0; b < blocks; b++) {
        global const uint *block = (global const uint *)w + (size_t)(base + b) * DT(UINTS);
        int16 sum = x_sum[b] * -DT(OFFSET);
#pragma unroll
        for (uint g = 0; g < 8u; g++) sum = dot4x8(sum, DT(four)(block, g), x + b * 8u + g);
        acc = convert_float16(sum) * (scales16(w, scale_at, base + b) * x_scale[b]) + acc;
    }
    global float *to = dst + (size_t)dst_row * N;
    put16(add ? get16(to, n, N) + acc : acc, to, n, N);
}
