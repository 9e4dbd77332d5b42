/*
 * matvec.cl - one row times a weight matrix as it lies in the file: decode, which lives on memory bandwidth. The host
 * joins this piece once per weight type, after weight.cl, with DT(name) = name_<type>.
 *
 * A work-item walks over MATVEC_ITEM rows of the weight in groups of DT_ROWS rows, so that it reads one contiguous
 * piece of memory; the group shares the loads of x. Columns go in chunks of 16 blocks of 32, whose 16 scales are
 * converted together; a block's products are summed before its scale is applied. Even and odd blocks have accumulators
 * of their own. A value's arithmetic depends on its columns only.
 */
#ifndef MATVEC_ITEM
#define MATVEC_ITEM 16u
#define CHUNK_BLOCKS 16

/* The scales of 16 blocks that are `stride` bytes apart, as floats. */
static void scales16(global const uchar *block, uint stride, float *out) {
    ushort raw[16];
#pragma unroll
    for (int i = 0; i < 16; i++) raw[i] = *(global const ushort *)(block + (uint)i * stride);
    vstore16(vload_half16(0, (const half *)raw), 0, out);
}

/* Sum of a block's 32 products before scaling, lane by lane. */
static float16 block_q8_0(global const uchar *block, float16 x_lo, float16 x_hi, float16 less) {
    const float16 lo = convert_float16(vload16(0, (global const char *)(block + 2)));
    const float16 hi = convert_float16(vload16(0, (global const char *)(block + 18)));
    return hi * x_hi + lo * x_lo;
}

/* less = -8 * (x_lo + x_hi): nibbles are used as they are, 0 to 15. */
static float16 block_q4_0(global const uchar *block, float16 x_lo, float16 x_hi, float16 less) {
    const int16 q = convert_int16(vload16(0, block + 2));
    const float16 lo = convert_float16(q & 15);
    const float16 hi = convert_float16(q >> 4);
    return hi * x_hi + (lo * x_lo + less);
}

#define ROWS_f32 4
#define ROWS_f16 4
#define ROWS_q4_0 4
#define ROWS_q8_0 2
#define BYTES_q4_0 18u
#define BYTES_q8_0 34u
#define LESS_q4_0(lo, hi) (((lo) + (hi)) * -8.0f)
#define LESS_q8_0(lo, hi) (lo)
#define IS_PLAIN_f32 1
#define IS_PLAIN_f16 1
#define IS_PLAIN_q4_0 0
#define IS_PLAIN_q8_0 0
#endif

#define DT_ROWS DT(ROWS)

/* Columns 0 .. blocks * 32 - 1 of DT_ROWS rows; acc: [row][even, odd block]. */
static void DT(dot)(global const uchar *const *row, uint blocks, global const float *x, float16 acc[DT_ROWS][2]) {
    uint b = 0;
#if DT(IS_PLAIN)
    for (; b + 2u <= blocks; b += 2u, x += 64) {
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const float16 x_lo = vload16(2 * odd, x);
            const float16 x_hi = vload16(2 * odd + 1, x);
#pragma unroll
            for (int r = 0; r < DT_ROWS; r++) {
                float16 lo, hi;
                DT(load32)(row[r], (b + (uint)odd) * 32u, &lo, &hi);
                acc[r][odd] = lo * x_lo + acc[r][odd];
                acc[r][odd] = hi * x_hi + acc[r][odd];
            }
        }
    }
    if (b < blocks)
#pragma unroll
        for (int r = 0; r < DT_ROWS; r++) {
            float16 lo, hi;
            DT(load32)(row[r], b * 32u, &lo, &hi);
            acc[r][0] = lo * vload16(0, x) + acc[r][0];
            acc[r][0] = hi * vload16(1, x) + acc[r][0];
        }
#else
    for (; b + CHUNK_BLOCKS <= blocks; b += CHUNK_BLOCKS, x += CHUNK_BLOCKS * 32) {
        float scale[DT_ROWS][16];
#pragma unroll
        for (int r = 0; r < DT_ROWS; r++) scales16(row[r] + b * DT(BYTES), DT(BYTES), scale[r]);
#pragma unroll
        for (int i = 0; i < CHUNK_BLOCKS; i++) {
            const float16 x_lo = vload16(2 * i, x);
            const float16 x_hi = vload16(2 * i + 1, x);
            const float16 less = DT(LESS)(x_lo, x_hi);
#pragma unroll
            for (int r = 0; r < DT_ROWS; r++)
                acc[r][i & 1] =
                    DT(block)(row[r] + (b + (uint)i) * DT(BYTES), x_lo, x_hi, less) * scale[r][i] + acc[r][i & 1];
        }
    }
    for (; b < blocks; b++, x += 32) {
        const float16 x_lo = vload16(0, x);
        const float16 x_hi = vload16(1, x);
        const float16 less = DT(LESS)(x_lo, x_hi);
#pragma unroll
        for (int r = 0; r < DT_ROWS; r++) {
            global const uchar *block = row[r] + b * DT(BYTES);
            const float16 sum = DT(block)(block, x_lo, x_hi, less);
            if (b & 1u) acc[r][1] = sum * scale_of(block) + acc[r][1];
            else acc[r][0] = sum * scale_of(block) + acc[r][0];
        }
    }
#endif
}

/* dst[n] = sum_k src[k] * w[n][k], + dst[n] when add. Work-item: MATVEC_ITEM values of n. */
kernel void DT(matvec)(global const uchar *w, uint row_bytes, uint N, uint K, global const float *src, uint src_row,
                       global float *dst, uint dst_row, uint add, uint rows) {
    const uint first = (uint)get_global_id(0) * MATVEC_ITEM;
    if (first >= N || rows == 0u) return;
    global const float *x = src + (size_t)src_row * K;
    global float *out = dst + (size_t)dst_row * N;
    const uint end = min(first + MATVEC_ITEM, N);
    for (uint n = first; n < end; n += DT_ROWS) {
        global const uchar *row[DT_ROWS];
        float16 acc[DT_ROWS][2];
#pragma unroll
        for (int r = 0; r < DT_ROWS; r++) {
            row[r] = w + (size_t)min(n + (uint)r, N - 1u) * row_bytes;
            acc[r][0] = 0.0f;
            acc[r][1] = 0.0f;
        }
        DT(dot)(row, K / 32u, x, acc);
#pragma unroll
        for (int r = 0; r < DT_ROWS; r++) {
            if (n + (uint)r >= end) break;
            float value = sum16(acc[r][0] + acc[r][1]);
            for (uint k = K / 32u * 32u; k < K; k++) value += DT(at)(row[r], k) * x[k];
            out[n + (uint)r] = add ? out[n + (uint)r] + value : value;
        }
    }
}
#undef DT_ROWS
