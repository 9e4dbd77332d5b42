/*
 * gemm.cl - around CLBlast: pack_rows before, unpad after; and what both own products (product.cl) share.
 */

/* Activations for CLBlast, transposed and padded with zeros: out[k][t_pad] = src[t][k]. Work-item: 8 t x KVR_CHUNK k.
 */
kernel void pack_rows(global const float *src, uint src_row, uint K, uint rows, uint k_pad, uint t_pad,
                      global float *out) {
    const uint t = (uint)get_global_id(0) * 8u;
    const uint first = (uint)get_global_id(1) * KVR_CHUNK;
    if (rows == 0u || t >= t_pad || first >= k_pad) return;
    global const float *from[8];
    float keep[8];
    for (uint r = 0; r < 8u; r++) {
        from[r] = src + (size_t)(src_row + min(t + r, rows - 1u)) * K;
        keep[r] = t + r < rows ? 1.0f : 0.0f;
    }
    const uint end = min(first + KVR_CHUNK, k_pad);
    for (uint k = first; k < end; k++) {
        float8 v = 0.0f;
        if (k < K)
            v = (float8)(keep[0] != 0.0f ? from[0][k] : 0.0f, keep[1] != 0.0f ? from[1][k] : 0.0f,
                         keep[2] != 0.0f ? from[2][k] : 0.0f, keep[3] != 0.0f ? from[3][k] : 0.0f,
                         keep[4] != 0.0f ? from[4][k] : 0.0f, keep[5] != 0.0f ? from[5][k] : 0.0f,
                         keep[6] != 0.0f ? from[6][k] : 0.0f, keep[7] != 0.0f ? from[7][k] : 0.0f);
        vstore8(v, 0, out + (size_t)k * t_pad + t);
    }
}

/* dst[t][n0 + n] = c[t][n], or += when add; n < n_count. dst has N columns, c has ldc. */
kernel void unpad(global const float *c, uint ldc, uint n_count, uint rows, global float *dst, uint dst_row, uint N,
                  uint n0, uint add) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint t = (uint)get_global_id(1);
    if (t >= rows || first >= n_count) return;
    const uint end = min(first + KVR_CHUNK, n_count);
    global const float *from = c + (size_t)t * ldc;
    global float *to = dst + (size_t)(dst_row + t) * N + n0;
    if (add)
        for (uint n = first; n < end; n++) to[n] += from[n];
    else
        for (uint n = first; n < end; n++) to[n] = from[n];
}

/* Columns n .. n + 15 of a row of n_count columns, as far as they exist. */
static float16 get16(global const float *from, uint n, uint n_count) {
    if (n + 16u <= n_count) return vload16(0, from + n);
    float value[16];
    for (uint i = 0; i < 16u; i++) value[i] = n + i < n_count ? from[n + i] : 0.0f;
    return vload16(0, value);
}

static void put16(float16 v, global float *to, uint n, uint n_count) {
    if (n + 16u <= n_count) {
        vstore16(v, 0, to + n);
        return;
    }
    float value[16];
    vstore16(v, 0, value);
    for (uint i = 0; i < 16u && n + i < n_count; i++) to[n + i] = value[i];
}
