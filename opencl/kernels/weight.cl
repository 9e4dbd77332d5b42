/*
 * weight.cl - the kernels that read a weight matrix [N][K] as it lies in the file. The host joins this piece once per
 * type, with DT(name) = name_<type>.
 */

/*
 * Dequantises and transposes N-rows n0.. of the weight for the tiled product; n counts from n0, zero where n or k is
 * past the end. whole: panel[k][n], n_pad columns (CLBlast); else strips of KVR_STRIP columns, panel[n /
 * KVR_STRIP][k][n % KVR_STRIP] (gemm_own). Work-item: 16 columns of the panel x KVR_CHUNK of k.
 */
kernel void DT(unpack)(global const uchar *w, uint row_bytes, uint N, uint K, uint n0, uint n_pad, uint k_pad,
                       uint whole, global float *panel) {
    const uint n = (uint)get_global_id(0) * 16u;
    const uint k_first = (uint)get_global_id(1) * KVR_CHUNK;
    if (n >= n_pad || k_first >= k_pad) return;
    const uint k_end = min(k_first + KVR_CHUNK, k_pad);
    const uint width = whole ? n_pad : KVR_STRIP;
    global float *out = whole ? panel + n : panel + (size_t)(n / KVR_STRIP) * KVR_STRIP * k_pad + n % KVR_STRIP;
    for (uint k = k_first; k < k_end; k += 32u) {
        float tile[16 * 32]; /* [n][k] */
        for (uint r = 0; r < 16u; r++) {
            float16 lo = 0.0f, hi = 0.0f;
            const uint row = n0 + n + r;
            global const uchar *from = w + (size_t)min(row, N - 1u) * row_bytes;
            if (row < N && k + 32u <= K) {
                DT(load32)(from, k, &lo, &hi);
            }
            vstore16(lo, 0, tile + r * 32u);
            vstore16(hi, 0, tile + r * 32u + 16u);
            if (row < N && k + 32u > K)
                for (uint i = 0; k + i < K; i++) tile[r * 32u + i] = DT(at)(from, k + i);
        }
        const uint here = min(32u, k_end - k);
        for (uint i = 0; i < here; i++) {
            const float16 column =
                (float16)(tile[i], tile[32 + i], tile[64 + i], tile[96 + i], tile[128 + i], tile[160 + i],
                          tile[192 + i], tile[224 + i], tile[256 + i], tile[288 + i], tile[320 + i], tile[352 + i],
                          tile[384 + i], tile[416 + i], tile[448 + i], tile[480 + i]);
            vstore16(column, 0, out + (size_t)(k + i) * width);
        }
    }
}

/* dst[i] = row ids[i] as F32, i < n <= 16. The ids are an argument, so no buffer has to outlive the call. */
kernel void DT(embed)(global const uchar *w, uint row_bytes, uint cols, global float *dst, uint dst_row, int16 ids,
                      uint n) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint i = (uint)get_global_id(1);
    if (i >= n || first >= cols) return;
    int id[16];
    vstore16(ids, 0, id);
    global const uchar *row = w + (size_t)id[i] * row_bytes;
    global float *out = dst + (size_t)(dst_row + i) * cols;
    const uint end = min(first + KVR_CHUNK, cols);
    uint k = first;
    for (; k + 32u <= end; k += 32u) {
        float16 lo, hi;
        DT(load32)(row, k, &lo, &hi);
        vstore16(lo, 0, out + k);
        vstore16(hi, 0, out + k + 16u);
    }
    for (; k < end; k++) out[k] = DT(at)(row, k);
}
