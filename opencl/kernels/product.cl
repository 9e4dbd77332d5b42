/*
 * product.cl - the own products for any number of rows: dst[t][n] = sum_k src[t][k] * weight[n][k], added to dst[t][n] when
 * add. A work-item owns KVR_TILE_VECS strips of 16 columns and item_rows rows, which it takes in register tiles. Each value
 * is one chain of operations over ascending k, so neither tiles nor neighbours change a bit. Rows past the end repeat the
 * last one and are not written. The host joins this piece once per type, with DT(name) = name_<type>.
 */

/*
 * Float: KVR_PANEL_K columns of the weight are dequantised into private memory, then all rows go over them; in between, sums
 * rest in dst.
 */
kernel void DT(gemm)(global const uchar *w, uint k_pad, uint scale_at, uint K, global const float *src, uint src_row,
                     uint rows, global float *dst, uint dst_row, uint N, uint add, uint item_rows) {
    const uint n = (uint)get_global_id(0) * KVR_STRIP;
    const uint t_first = (uint)get_global_id(1) * item_rows;
    if (n >= N || t_first >= rows) return;
    const uint t_end = min(t_first + item_rows, rows);
    const uint last_strip = (N - 1u) / 16u;
    float16 panel[KVR_PANEL_K * KVR_TILE_VECS];
    for (uint k0 = 0; k0 < K; k0 += KVR_PANEL_K) {
        const uint here = min(KVR_PANEL_K, K - k0);
        for (uint b = 0; b * 32u < here; b++) {
            float16 block[32];
#pragma unroll
            for (uint c = 0; c < KVR_TILE_VECS; c++) {
                DT(block32)(w, k_pad, scale_at, min(n / 16u + c, last_strip), k0 / 32u + b, block);
#pragma unroll
                for (uint i = 0; i < 32u; i++) panel[(b * 32u + i) * KVR_TILE_VECS + c] = block[i];
            }
        }
        for (uint t = t_first; t < t_end; t += KVR_TILE_ROWS) {
            global const float *x[KVR_TILE_ROWS];
            float16 acc[KVR_TILE_ROWS][KVR_TILE_VECS];
#pragma unroll
            for (uint r = 0; r < KVR_TILE_ROWS; r++) {
                const uint row = min(t + r, t_end - 1u);
                x[r] = src + (size_t)(src_row + row) * K + k0;
                global const float *from = dst + (size_t)(dst_row + row) * N;
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) {
                    acc[r][c] = 0.0f;
                    if (k0 != 0u || add) acc[r][c] = get16(from, min(n + c * 16u, last_strip * 16u), N);
                }
            }
            for (uint k = 0; k < here; k++) {
                float16 wk[KVR_TILE_VECS];
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) wk[c] = panel[k * KVR_TILE_VECS + c];
#pragma unroll
                for (uint r = 0; r < KVR_TILE_ROWS; r++) {
                    const float16 xk = x[r][k];
#pragma unroll
                    for (uint c = 0; c < KVR_TILE_VECS; c++) acc[r][c] = xk * wk[c] + acc[r][c];
                }
            }
            for (uint r = 0; r < KVR_TILE_ROWS && t + r < t_end; r++)
                for (uint c = 0; c < KVR_TILE_VECS && n + c * 16u < N; c++)
                    put16(acc[r][c], dst + (size_t)(dst_row + t + r) * N, n + c * 16u, N);
        }
    }
}
