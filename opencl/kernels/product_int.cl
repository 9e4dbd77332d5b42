/*
 * product_int.cl - the same products in integers, for quantised weights: activations are quantised to 8 bits per block
 * of 32 (quant.cl), the products of a part of a block are summed exactly, and only the sums are scaled, in ascending
 * blocks. The host joins this piece once per such type, behind quantised.cl.
 *
 * A weight's byte is its value + STORED_OFFSET, which the start of the sum takes back: x_sum has the sums of the x of
 * half blocks. A least value is the same for a whole part, so it is multiplied with the part's sum of x.
 */
#if PARTS == 1
#define SUM_OF_PART(block, p) (x_sum[2u * (block)] + x_sum[2u * (block) + 1u])
#else
#define SUM_OF_PART(block, p) x_sum[2u * (block) + (p)]
#endif

kernel void DT(gemm_int)(global const uchar *w, uint k_pad, uint scale_at, global const int *x,
                         global const float *x_scale, global const int *x_sum, uint rows, global float *dst,
                         uint dst_row, uint N, uint add, uint item_rows) {
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
#pragma unroll
            for (uint p = 0; p < PARTS; p++) {
                int16 sum[KVR_DOT_ROWS][KVR_TILE_VECS];
#pragma unroll
                for (uint r = 0; r < KVR_DOT_ROWS; r++) {
                    const int start = STORED_OFFSET == 0 ? 0 : SUM_OF_PART(row[r] + b, p) * -STORED_OFFSET;
#pragma unroll
                    for (uint c = 0; c < KVR_TILE_VECS; c++) sum[r][c] = start;
                }
#pragma unroll
                for (uint i = 0; i < GROUPS_OF_PART; i++) {
                    const uint g = p * GROUPS_OF_PART + i;
                    uint16 four[KVR_TILE_VECS];
#pragma unroll
                    for (uint c = 0; c < KVR_TILE_VECS; c++)
                        four[c] = DT(four)((global const uint *)w + (size_t)(base[c] + b) * (VECTORS * 16u), g);
#pragma unroll
                    for (uint r = 0; r < KVR_DOT_ROWS; r++)
#pragma unroll
                        for (uint c = 0; c < KVR_TILE_VECS; c++)
                            sum[r][c] = dot4x8(sum[r][c], four[c], x + (row[r] + b) * 8u + g);
                }
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) {
                    const float16 scale = DT(scale16)(w, scale_at, base[c] + b, p, 0u);
#if LEAST
                    const float16 least = DT(scale16)(w, scale_at, base[c] + b, p, 1u);
#endif
#pragma unroll
                    for (uint r = 0; r < KVR_DOT_ROWS; r++) {
                        const float its = x_scale[row[r] + b];
                        acc[r][c] = convert_float16(sum[r][c]) * (scale * its) + acc[r][c];
#if LEAST
                        acc[r][c] = least * (its * (float)SUM_OF_PART(row[r] + b, p)) + acc[r][c];
#endif
                    }
                }
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
kernel void DT(matvec_int)(WEIGHTS_ARGS, uint k_pad, global const int *x, global const float *x_scale,
                           global const int *x_sum, uint rows, uint add) {
    WEIGHTS_PICK
    if (n >= N || rows == 0u) return;
    const uint blocks = k_pad / QUANT_BLOCK;
    const uint base = n / 16u * blocks;
    float16 acc = 0.0f;
    for (uint b = 0; b < blocks; b++) {
        global const uint *block = (global const uint *)w + (size_t)(base + b) * (VECTORS * 16u);
        LOOK_AHEAD(block, VECTORS * 64u);
#pragma unroll
        for (uint p = 0; p < PARTS; p++) {
            int16 sum = STORED_OFFSET == 0 ? 0 : SUM_OF_PART(b, p) * -STORED_OFFSET;
#pragma unroll
            for (uint i = 0; i < GROUPS_OF_PART; i++) {
                const uint g = p * GROUPS_OF_PART + i;
                sum = dot4x8(sum, DT(four)(block, g), x + b * 8u + g);
            }
            acc = convert_float16(sum) * (DT(scale16)(w, scale_at, base + b, p, 0u) * x_scale[b]) + acc;
#if LEAST
            acc = DT(scale16)(w, scale_at, base + b, p, 1u) * (x_scale[b] * (float)SUM_OF_PART(b, p)) + acc;
#endif
        }
    }
    global float *to = dst + (size_t)dst_row * N;
    put16(add ? get16(to, n, N) + acc : acc, to, n, N);
}
#undef SUM_OF_PART
