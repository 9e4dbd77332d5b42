/*
 * product_int.cl - the same products in integers, for weights of 4 or 8 bits: activations are quantised to 8 bits per block
 * of 32 (quant.cl), the products of a block are summed exactly, and only the sums are scaled, in ascending blocks. The host
 * joins this piece once per such type, with DT(name) = name_<type>; dot.cl and dtype.cl have the layouts.
 *
 * A weight's byte is its value + OFFSET, which the start of the block's sum takes back: x_sum is the sum of a block's x.
 */
#ifndef OFFSET_q8_0
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
