/*
 * vector.cl - norm, rotary embedding, gate, conversion of keys and values.
 */

/* dst[t] = src[t] / sqrt(mean(src[t]^2) + eps) * w. Work-item: one row of M columns. */
kernel void rms_norm(global const float *src, uint src_row, global float *dst, uint dst_row, global const void *w,
                     uint w_half, uint M, uint rows, float eps) {
    const uint t = (uint)get_global_id(0);
    if (t >= rows) return;
    global const float *x = src + (size_t)(src_row + t) * M;
    global float *y = dst + (size_t)(dst_row + t) * M;
    float16 squares = 0.0f;
    float rest = 0.0f;
    uint i = 0;
    for (; i + 16u <= M; i += 16u) {
        const float16 v = vload16(0, x + i);
        squares = v * v + squares;
    }
    for (; i < M; i++) rest += x[i] * x[i];
    const float scale = 1.0f / sqrt((sum16(squares) + rest) / (float)M + eps);
    for (i = 0; i + 16u <= M; i += 16u) vstore16(vload16(0, x + i) * scale * vector_at16(w, w_half, i), 0, y + i);
    for (; i < M; i++) y[i] = x[i] * scale * vector_at(w, w_half, i);
}

/* Rotates pair i of every head of row t by (first + t) * freq[i]. x: [rows][heads * KVR_D]. Work-item: 16 pairs of row t,
 * whose angles all heads share. */
kernel void rope(global float *x, uint x_row, global const void *freq, uint freq_half, uint rows, uint heads,
                 uint pairs, uint first) {
    const uint i = (uint)get_global_id(0) * 16u;
    const uint t = (uint)get_global_id(1);
    if (i >= pairs || t >= rows) return;
    const uint here = min(16u, pairs - i);
    float f[16];
    for (uint p = 0; p < 16u; p++) f[p] = p < here ? vector_at(freq, freq_half, i + p) : 0.0f;
    const float16 angle = (float)(first + t) * vload16(0, f);
    const float16 c = cos(angle);
    const float16 s = sin(angle);
    global float *pair = x + (size_t)(x_row + t) * heads * KVR_D + 2u * i;
    if (here == 16u)
        for (uint h = 0; h < heads; h++, pair += KVR_D) {
            const float16 lo = vload16(0, pair);
            const float16 hi = vload16(1, pair);
            const float16 a = (float16)(lo.even, hi.even);
            const float16 b = (float16)(lo.odd, hi.odd);
            const float16 even = a * c - b * s;
            const float16 odd = a * s + b * c;
            float16 out;
            out.even = even.lo;
            out.odd = odd.lo;
            vstore16(out, 0, pair);
            out.even = even.hi;
            out.odd = odd.hi;
            vstore16(out, 1, pair);
        }
    else {
        float cs[16], sn[16];
        vstore16(c, 0, cs);
        vstore16(s, 0, sn);
        for (uint h = 0; h < heads; h++, pair += KVR_D)
            for (uint p = 0; p < here; p++) {
                const float a = pair[2u * p];
                const float b = pair[2u * p + 1u];
                pair[2u * p] = a * cs[p] - b * sn[p];
                pair[2u * p + 1u] = a * sn[p] + b * cs[p];
            }
    }
}

/* gate[t][i] = silu(gate[t][i]) * up[t][i]. Work-item: KVR_CHUNK columns of one row. */
kernel void silu_mul(global float *gate, uint gate_row, global const float *up, uint up_row, uint F, uint rows) {
    const uint t = (uint)get_global_id(1);
    uint i = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || i >= F) return;
    const uint end = min(i + KVR_CHUNK, F);
    global float *g = gate + (size_t)(gate_row + t) * F;
    global const float *u = up + (size_t)(up_row + t) * F;
    for (; i + 16u <= end; i += 16u) {
        const float16 v = vload16(0, g + i);
        vstore16(v / (1.0f + exp(-v)) * vload16(0, u + i), 0, g + i);
    }
    for (; i < end; i++) g[i] = g[i] / (1.0f + exp(-g[i])) * u[i];
}

/* dst[t] = src[t] as F32 or F16 (round to nearest even). Work-item: KVR_CHUNK columns of one row. */
kernel void store_f32(global const float *src, uint src_row, global float *dst, uint dst_row, uint cols, uint rows) {
    const uint t = (uint)get_global_id(1);
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || first >= cols) return;
    const uint end = min(first + KVR_CHUNK, cols);
    for (uint i = first; i < end; i++) dst[(size_t)(dst_row + t) * cols + i] = src[(size_t)(src_row + t) * cols + i];
}

kernel void store_f16(global const float *src, uint src_row, global half *dst, uint dst_row, uint cols, uint rows) {
    const uint t = (uint)get_global_id(1);
    uint i = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || i >= cols) return;
    const uint end = min(i + KVR_CHUNK, cols);
    global const float *from = src + (size_t)(src_row + t) * cols;
    global half *to = dst + (size_t)(dst_row + t) * cols;
    for (; i + 16u <= end; i += 16u) vstore_half16_rte(vload16(0, from + i), 0, to + i);
    for (; i < end; i++) vstore_half_rte(from[i], i, to);
}
