/*
 * weight.cl - the kernels that move a weight matrix [N][K]: into the device's layout at open, out of it for CLBlast and
 * for the embedding. The host joins this piece once per type, with DT(name) = name_<type>.
 */

/* Rows 16 * strip.. of the matrix, which start at byte 0 of `rows`. Work-item: one strip x KVR_CHUNK columns. */
kernel void DT(pack)(global const uchar *rows, uint row_bytes, uint n_rows, uint K, global uchar *w, uint k_pad,
                     uint scale_at, uint first_strip) {
    const uint s = (uint)get_global_id(0);
    const uint first = (uint)get_global_id(1) * KVR_CHUNK;
    if (s * 16u >= n_rows || first >= k_pad) return;
    for (uint k = first; k < min(first + KVR_CHUNK, k_pad); k += 32u)
        DT(put16)(rows + (size_t)s * 16u * row_bytes, row_bytes, min(16u, n_rows - s * 16u), k, K, w, k_pad, scale_at,
                  first_strip + s);
}

/* panel[k][n] as floats, n_pad columns from strip `first_strip` on; zero past the end. Work-item: one strip x KVR_CHUNK
 * k. */
kernel void DT(unpack)(global const uchar *w, uint k_pad, uint scale_at, uint first_strip, uint strips, uint n_pad,
                       uint panel_k, global float *panel) {
    const uint s = (uint)get_global_id(0);
    const uint first = (uint)get_global_id(1) * KVR_CHUNK;
    if (s * 16u >= n_pad || first >= panel_k) return;
    for (uint k = first; k < min(first + KVR_CHUNK, panel_k); k += 32u) {
        float16 out[32];
        const int is_inside = first_strip + s < strips && k < k_pad;
        if (is_inside) DT(block32)(w, k_pad, scale_at, first_strip + s, k / 32u, out);
        for (uint i = 0; i < min(32u, panel_k - k); i++)
            vstore16(is_inside ? out[i] : (float16)0.0f, 0, panel + (size_t)(k + i) * n_pad + s * 16u);
    }
}

/* dst[i] = row ids[i] as F32, i < n <= 16. The ids are an argument, so no buffer has to outlive the call. */
kernel void DT(embed)(global const uchar *w, uint k_pad, uint scale_at, uint cols, global float *dst, uint dst_row,
                      int16 ids, uint n) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint i = (uint)get_global_id(1);
    if (i >= n || first >= cols) return;
    int id[16];
    vstore16(ids, 0, id);
    const uint row = (uint)id[i];
    global float *to = dst + (size_t)(dst_row + i) * cols;
    for (uint k = first; k < min(first + KVR_CHUNK, cols); k += 32u) {
        float16 out[32];
        DT(block32)(w, k_pad, scale_at, row / 16u, k / 32u, out);
        for (uint j = 0; j < min(32u, cols - k); j++) to[k + j] = ((float *)&out[j])[row % 16u];
    }
}
