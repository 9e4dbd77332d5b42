/*
 * vector.cl - norms, bias, rotary embedding, activations, conversion of keys and values.
 */

/*
 * dst[t] = (src[t] - mean) / sqrt(mean((src[t] - mean)^2) + eps) * w + bias, mean taken as 0 without KVR_NORM_CENTER;
 * added to dst with KVR_NORM_ADD; as_bytes: also quantised. Rows of M columns; views and rows count such rows.
 * Work-item: one row.
 */
#define KVR_NORM_CENTER 1u
#define KVR_NORM_BIAS 2u
#define KVR_NORM_ADD 4u
kernel void norm(global const float *src, uint src_row, global float *dst, uint dst_row, global const void *w,
                 uint w_half, global const void *bias, uint bias_half, uint flags, uint M, uint rows, float eps,
                 uint as_bytes, global char *bytes, global float *scales, global int *block_sums) {
    const uint t = (uint)get_global_id(0);
    if (t >= rows) return;
    global const float *x = src + (size_t)(src_row + t) * M;
    global float *y = dst + (size_t)(dst_row + t) * M;
    float mean = 0.0f;
    uint i;
    if (flags & KVR_NORM_CENTER) {
        float16 sums = 0.0f;
        float rest = 0.0f;
        for (i = 0; i + 16u <= M; i += 16u) sums += vload16(0, x + i);
        for (; i < M; i++) rest += x[i];
        mean = (sum16(sums) + rest) / (float)M;
    }
    float16 squares = 0.0f;
    float rest = 0.0f;
    for (i = 0; i + 16u <= M; i += 16u) {
        const float16 v = vload16(0, x + i) - mean;
        squares = v * v + squares;
    }
    for (; i < M; i++) rest += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrt((sum16(squares) + rest) / (float)M + eps);
    for (i = 0; i + 16u <= M; i += 16u) {
        float16 v = (vload16(0, x + i) - mean) * scale * vector_at16(w, w_half, i);
        if (flags & KVR_NORM_BIAS) v += vector_at16(bias, bias_half, i);
        if (flags & KVR_NORM_ADD) v += vload16(0, y + i);
        vstore16(v, 0, y + i);
    }
    for (; i < M; i++) {
        float v = (x[i] - mean) * scale * vector_at(w, w_half, i);
        if (flags & KVR_NORM_BIAS) v += vector_at(bias, bias_half, i);
        y[i] = flags & KVR_NORM_ADD ? v + y[i] : v;
    }
    if (as_bytes) quantise_row(y, t, 0, M, M, bytes, scales, block_sums);
}

/* x[t] += bias. Work-item: KVR_CHUNK columns of one row. */
kernel void add_bias(global float *x, uint x_row, global const void *bias, uint bias_half, uint cols, uint rows) {
    const uint t = (uint)get_global_id(1);
    uint i = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || i >= cols) return;
    const uint end = min(i + KVR_CHUNK, cols);
    global float *y = x + (size_t)(x_row + t) * cols;
    for (; i + 16u <= end; i += 16u) vstore16(vload16(0, y + i) + vector_at16(bias, bias_half, i), 0, y + i);
    for (; i < end; i++) y[i] += vector_at(bias, bias_half, i);
}

/* x[t] *= factor, then cap * tanh(x / cap) unless cap is 0. Work-item: KVR_CHUNK columns of one row. */
kernel void scale(global float *x, uint x_row, float factor, float cap, uint cols, uint rows) {
    const uint t = (uint)get_global_id(1);
    uint i = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || i >= cols) return;
    const uint end = min(i + KVR_CHUNK, cols);
    global float *y = x + (size_t)(x_row + t) * cols;
    for (; i < end; i++) {
        const float v = y[i] * factor;
        y[i] = cap != 0.0f ? cap * tanh(v / cap) : v;
    }
}

/* The angles of pairs i .. i + here - 1 (here <= 16) at a token. */
static float16 rope_angles(global const void *freq, uint freq_half, uint i, uint here, uint token) {
    float f[16];
    for (uint p = 0; p < 16u; p++) f[p] = p < here ? vector_at(freq, freq_half, i + p) : 0.0f;
    return (float)token * vload16(0, f);
}

/* Rotates pairs i .. i + here - 1 of every head of a row: elements (2i, 2i + 1), or with halves (i, i + pairs). */
static void rotate_heads(global float *row, uint heads, uint i, uint here, uint pairs, uint halves, float16 c,
                         float16 s) {
    const uint step = halves ? 1u : 2u;
    const uint apart = halves ? pairs : 1u;
    global float *pair = row + step * i;
    if (here == 16u && halves) {
        for (uint h = 0; h < heads; h++, pair += KVR_D) {
            const float16 a = vload16(0, pair);
            const float16 b = vload16(0, pair + apart);
            vstore16(a * c - b * s, 0, pair);
            vstore16(a * s + b * c, 0, pair + apart);
        }
    } else if (here == 16u) {
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
    } else {
        float cs[16], sn[16];
        vstore16(c, 0, cs);
        vstore16(s, 0, sn);
        for (uint h = 0; h < heads; h++, pair += KVR_D)
            for (uint p = 0; p < here; p++) {
                const float a = pair[step * p];
                const float b = pair[step * p + apart];
                pair[step * p] = a * cs[p] - b * sn[p];
                pair[step * p + apart] = a * sn[p] + b * cs[p];
            }
    }
}

/* x: [rows][heads * KVR_D], token first + t. Work-item: 16 pairs of row t, whose angles all heads share. */
kernel void rope(global float *x, uint x_row, global const void *freq, uint freq_half, uint rows, uint heads,
                 uint pairs, uint halves, float magnitude, uint first) {
    const uint i = (uint)get_global_id(0) * 16u;
    const uint t = (uint)get_global_id(1);
    if (i >= pairs || t >= rows) return;
    const uint here = min(16u, pairs - i);
    const float16 angle = rope_angles(freq, freq_half, i, here, first + t);
    rotate_heads(x + (size_t)(x_row + t) * heads * KVR_D, heads, i, here, pairs, halves, cos(angle) * magnitude,
                 sin(angle) * magnitude);
}

/* kind: kvr_activation of kvr_backend.h. */
static float16 activated16(float16 v, uint kind) {
    if (kind == 0u) return v / (1.0f + exp(-v));
    if (kind == 1u) return 0.5f * v * (1.0f + erf(v * 0.70710678f));
    return 0.5f * v * (1.0f + tanh(0.79788456f * (v + 0.044715f * v * v * v)));
}

static float activated(float v, uint kind) {
    if (kind == 0u) return v / (1.0f + exp(-v));
    if (kind == 1u) return 0.5f * v * (1.0f + erf(v * 0.70710678f));
    return 0.5f * v * (1.0f + tanh(0.79788456f * (v + 0.044715f * v * v * v)));
}

/* x[t][i] = activation(x[t][i]), with has_up times up[t][i]; as_bytes: also quantised. Work-item: KVR_CHUNK columns of
 * one row. */
kernel void activate(global float *x, uint x_row, global const float *up, uint up_row, uint has_up, uint kind, uint F,
                     uint rows, uint as_bytes, global char *bytes, global float *scales, global int *block_sums) {
    const uint t = (uint)get_global_id(1);
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || first >= F) return;
    const uint end = min(first + KVR_CHUNK, F);
    uint i = first;
    global float *y = x + (size_t)(x_row + t) * F;
    global const float *u = up + (size_t)(up_row + t) * F;
    for (; i + 16u <= end; i += 16u) {
        const float16 v = activated16(vload16(0, y + i), kind);
        vstore16(has_up ? v * vload16(0, u + i) : v, 0, y + i);
    }
    for (; i < end; i++) y[i] = has_up ? activated(y[i], kind) * u[i] : activated(y[i], kind);
    if (as_bytes) quantise_row(y, t, first, end, F, bytes, scales, block_sums);
}

/* The parts of attention_one, in ascending order of keys; as_bytes: also quantised. Work-item: one head. */
kernel void attention_merge(global const float *partial, uint stats_at, uint splits, uint H, global float *dst,
                            uint dst_row, uint rows, uint as_bytes, global char *bytes, global float *scales,
                            global int *block_sums) {
    const uint h = (uint)get_global_id(0);
    if (rows == 0u || h >= H) return;
    float acc[KVR_D];
    float most = -INFINITY;
    float sum = 0.0f;
    for (uint d = 0; d < KVR_D; d++) acc[d] = 0.0f;
    for (uint s = 0; s < splits; s++) {
        const size_t part = (size_t)s * H + h;
        const float its_most = partial[stats_at + 2u * part];
        const float now_most = fmax(most, its_most);
        const float fade = exp(most - now_most);
        const float weight = exp(its_most - now_most);
        for (uint d = 0; d < KVR_D; d++) acc[d] = acc[d] * fade + partial[part * KVR_D + d] * weight;
        sum = sum * fade + partial[stats_at + 2u * part + 1u] * weight;
        most = now_most;
    }
    for (uint d = 0; d < KVR_D; d++) dst[((size_t)dst_row * H + h) * KVR_D + d] = acc[d] / sum;
    if (as_bytes)
        quantise_row(dst + (size_t)dst_row * H * KVR_D, 0, h * KVR_D, (h + 1u) * KVR_D, H * KVR_D, bytes, scales,
                     block_sums);
}

/* The scale's exponent of 32 values that are rounded to 8 bits: kvr_q8.c has the same arithmetic. */
static int exponent_8bit(float16 lo, float16 hi) {
    float16 m = fmax(fabs(lo), fabs(hi));
    const float8 m8 = fmax(m.lo, m.hi);
    const float4 m4 = fmax(m8.lo, m8.hi);
    const float2 m2 = fmax(m4.lo, m4.hi);
    const uint bits = as_uint(fmax(m2.x, m2.y));
    const int e = (int)(bits >> 23) - 133 + ((bits & 0x7fffffu) >= 0x7f0000u ? 1 : 0);
    return clamp(e, -24, 9);
}

static float16 round_8bit(float16 x, int e) {
    const float16 q = fmin(fmax(rint(x * as_float((uint)(127 - e) << 23)), -127.0f), 127.0f);
    /* whole numbers have no negative zero */
    return convert_float16(convert_int16(q)) * as_float((uint)(127 + e) << 23);
}
