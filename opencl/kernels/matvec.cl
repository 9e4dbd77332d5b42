/*
 * matvec.cl - one row times a weight matrix in floats: decode, which lives on memory bandwidth. A work-item is one
 * strip of 16 columns; even and odd blocks of 32 k have accumulators of their own. The host joins this piece once per
 * type, with DT(name) = name_<type>.
 */

/* dst[n] = sum_k src[k] * w[n][k], + dst[n] when add. */
kernel void DT(matvec)(WEIGHTS_ARGS, uint k_pad, uint K, global const float *src, uint src_row, uint rows, uint add) {
    WEIGHTS_PICK
    if (n >= N || rows == 0u) return;
    global const float *x = src + (size_t)src_row * K;
    float16 acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint b = 0;
    for (; (b + 1u) * 32u <= K; b++) {
        float16 block[32];
        DT(block32)(w, k_pad, scale_at, n / 16u, b, block);
#pragma unroll
        for (uint i = 0; i < 32u; i++) acc[i & 3u] = block[i] * x[b * 32u + i] + acc[i & 3u];
    }
    if (b * 32u < K) {
        float16 block[32];
        DT(block32)(w, k_pad, scale_at, n / 16u, b, block);
        for (uint i = 0; b * 32u + i < K; i++) acc[0] = block[i] * x[b * 32u + i] + acc[0];
    }
    global float *to = dst + (size_t)dst_row * N;
    const float16 value = (acc[0] + acc[1]) + (acc[2] + acc[3]);
    put16(add ? get16(to, n, N) + value : value, to, n, N);
}
