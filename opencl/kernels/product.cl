/*
 * product.cl - the own products for any number of rows: dst[t][n] = sum_k src[t][k] * weight[n][k], added to dst[t][n]
 * when add. A work-item owns KVR_TILE_VECS strips of 16 columns and item_rows rows, which it takes in register tiles.
 * Each value is one chain of operations over ascending k, so neither tiles nor neighbours change a bit. Rows past the
 * end repeat the last one and are not written.
 *
 * Some columns of the weight are brought into private memory, then all rows go over them; in between, sums rest in dst.
 * The host joins this piece once per type and kind of operand, with PRODUCT = the kernel's name and, from one of two
 * other pieces, what a step is:
 *
 *           STEP columns   SRC, of src   PANEL, of 16 rows   TAKE32 32 columns of a strip   MAC(acc, panel, src)
 *   floats       1           float          float16                 (weight as floats)
 *   pairs        2           uint           uint16                  (pair.cl)
 */
#define STEPS (KVR_PANEL_K * KVR_TILE_VECS) /* in the panel: as many bytes for either kind */
#define PANEL_COLUMNS (KVR_PANEL_K * STEP)
#define IN_BLOCK (32u / STEP)

kernel void PRODUCT(global const uchar *w, uint k_pad, uint scale_at, uint K, global const SRC *src, uint src_row,
                    uint rows, global float *dst, uint dst_row, uint N, uint add, uint item_rows) {
    const uint n = (uint)get_global_id(0) * KVR_STRIP;
    const uint t_first = (uint)get_global_id(1) * item_rows;
    if (n >= N || t_first >= rows) return;
    const uint t_end = min(t_first + item_rows, rows);
    const uint last_strip = (N - 1u) / 16u;
    PANEL panel[STEPS];
    for (uint k0 = 0; k0 < K; k0 += PANEL_COLUMNS) {
        const uint here = min(PANEL_COLUMNS, K - k0);
        for (uint b = 0; b * 32u < here; b++) {
            PANEL block[IN_BLOCK];
#pragma unroll
            for (uint c = 0; c < KVR_TILE_VECS; c++) {
                TAKE32(w, k_pad, scale_at, min(n / 16u + c, last_strip), k0 / 32u + b, block);
#pragma unroll
                for (uint i = 0; i < IN_BLOCK; i++) panel[(b * IN_BLOCK + i) * KVR_TILE_VECS + c] = block[i];
            }
        }
        for (uint t = t_first; t < t_end; t += KVR_TILE_ROWS) {
            global const SRC *x[KVR_TILE_ROWS];
            float16 acc[KVR_TILE_ROWS][KVR_TILE_VECS];
#pragma unroll
            for (uint r = 0; r < KVR_TILE_ROWS; r++) {
                const uint row = min(t + r, t_end - 1u);
                x[r] = src + ((size_t)(src_row + row) * K + k0) / STEP;
                global const float *from = dst + (size_t)(dst_row + row) * N;
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) {
                    acc[r][c] = 0.0f;
                    if (k0 != 0u || add) acc[r][c] = get16(from, min(n + c * 16u, last_strip * 16u), N);
                }
            }
            for (uint i = 0; i < here / STEP; i++) {
                PANEL here_w[KVR_TILE_VECS];
#pragma unroll
                for (uint c = 0; c < KVR_TILE_VECS; c++) here_w[c] = panel[i * KVR_TILE_VECS + c];
#pragma unroll
                for (uint r = 0; r < KVR_TILE_ROWS; r++)
#pragma unroll
                    for (uint c = 0; c < KVR_TILE_VECS; c++) MAC(acc[r][c], here_w[c], x[r] + i);
            }
            for (uint r = 0; r < KVR_TILE_ROWS && t + r < t_end; r++)
                for (uint c = 0; c < KVR_TILE_VECS && n + c * 16u < N; c++)
                    put16(acc[r][c], dst + (size_t)(dst_row + t + r) * N, n + c * 16u, N);
        }
    }
}
#undef STEPS
#undef PANEL_COLUMNS
#undef IN_BLOCK
#undef PRODUCT
#undef STEP
#undef SRC
#undef PANEL
#undef TAKE32
#undef MAC
