/*
 * place.cl - keys and values into the cache. The host joins this piece once per KV type: KVT, KV_STORE16(v, p),
 * KV_STORE(x, i, p).
 */

/* Columns i .. end - 1 of a row, rounded to nearest even. */
static void KV(convert)(global const float *from, global KVT *to, uint i, uint end) {
    for (; i + 16u <= end; i += 16u) KV_STORE16(vload16(0, from + i), to + i);
    for (; i < end; i++) KV_STORE(from[i], i, to);
}

/* dst[t] = src[t], of 8 bits before when eight_bits. Work-item: KVR_CHUNK columns of one row. */
kernel void KV(store)(global const float *src, uint src_row, global KVT *dst, uint dst_row, uint cols, uint rows,
                      uint eight_bits) {
    const uint t = (uint)get_global_id(1);
    uint i = (uint)get_global_id(0) * KVR_CHUNK;
    if (t >= rows || i >= cols) return;
    const uint end = min(i + KVR_CHUNK, cols);
    global const float *from = src + (size_t)(src_row + t) * cols;
    global KVT *to = dst + (size_t)(dst_row + t) * cols;
    for (; eight_bits && i < end; i += 32u) {
        const float16 lo = vload16(0, from + i);
        const float16 hi = vload16(1, from + i);
        const int e = exponent_8bit(lo, hi);
        /* what is no number, or too large, makes all of the block one: kvr_q8.c */
        const int fits = all((fabs(lo) < 65520.0f) & (fabs(hi) < 65520.0f));
        KV_STORE16(fits ? round_8bit(lo, e) : (float16)NAN, to + i);
        KV_STORE16(fits ? round_8bit(hi, e) : (float16)NAN, to + i + 16u);
    }
    KV(convert)(from, to, i, end);
}

/*
 * rope of q (H heads, 0: none) and of k (G heads), then both caches; cache_row: that of the first token. Work-items: 16
 * pairs of row t, as rope; behind these `turns` (at least one, which takes what is not rotated too) KVR_CHUNK columns
 * of v.
 */
kernel void KV(place)(global float *q, uint q_row, global float *k, uint k_row, global const float *v, uint v_row,
                      global KVT *k_cache, uint k_cache_row, global KVT *v_cache, uint v_cache_row,
                      global const void *freq, uint freq_half, uint rows, uint H, uint G, uint pairs, uint halves,
                      float magnitude, uint first, uint turns) {
    const uint item = (uint)get_global_id(0);
    const uint t = (uint)get_global_id(1);
    const uint cols = G * KVR_D;
    if (t >= rows) return;
    if (item >= turns) {
        const uint from = (item - turns) * KVR_CHUNK;
        if (from < cols)
            KV(convert)(v + (size_t)(v_row + t) * cols, v_cache + (size_t)(v_cache_row + t) * cols, from,
                        min(from + KVR_CHUNK, cols));
        return;
    }
    const uint i = item * 16u;
    const uint here = min(16u, pairs - i);
    const float16 angle = rope_angles(freq, freq_half, i, here, first + t);
    const float16 c = cos(angle) * magnitude;
    const float16 s = sin(angle) * magnitude;
    global float *key = k + (size_t)(k_row + t) * cols;
    global KVT *to = k_cache + (size_t)(k_cache_row + t) * cols;
    if (H != 0u) rotate_heads(q + (size_t)(q_row + t) * H * KVR_D, H, i, here, pairs, halves, c, s);
    rotate_heads(key, G, i, here, pairs, halves, c, s);
    for (uint h = 0; h < G; h++, key += KVR_D, to += KVR_D) {
        if (halves) {
            KV(convert)(key, to, i, i + here);
            KV(convert)(key, to, pairs + i, pairs + i + here);
        } else {
            KV(convert)(key, to, 2u * i, 2u * (i + here));
        }
        if (i == 0u) KV(convert)(key, to, 2u * pairs, KVR_D);
    }
}
