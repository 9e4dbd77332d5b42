/*
 * attention.cl - one query row of one head against the keys of its window, up to its own position, online softmax
 * (Milakov 2018; the blocked form of FlashAttention, Dao 2022) over blocks of KVR_KEYS keys that start at multiples of
 * KVR_KEYS and are merged in ascending order. The host joins this piece once per KV type, with KV(name), KVT and
 * KV_LOAD(p) (KVR_W values as floats). For devices other than CPUs, which have attention_tile.cl
 * and, where head_dim allows it, attention_one.cl.
 */
#ifndef KVR_KEYS
#define KVR_KEYS 32 /* of a block */

/* The widest vector that divides head_dim. */
#if KVR_D % 16 == 0
#define KVR_W 16
typedef float16 floatw;
#define SUMW(v) sum16(v)
#elif KVR_D % 8 == 0
#define KVR_W 8
typedef float8 floatw;
#define SUMW(v) sum8(v)
#else
#define KVR_W 2
typedef float2 floatw;
#define SUMW(v) ((v).x + (v).y)
#endif
#define KVR_DW (KVR_D / KVR_W)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define VLOADW(p) JOIN(vload, KVR_W)(0, p)
#define VLOADW_HALF(p) JOIN(vload_half, KVR_W)(0, p)
#define VSTOREW(v, p) JOIN(vstore, KVR_W)(v, 0, p)
#endif

#if !KVR_CPU || KVR_D % 16 != 0
/* Keys start .. end - 1, of which key j lies in row j mod ring, for the query vector qt: weighted values, their weight
 * and the largest score. */
static void KV(attend_one)(global const float *qt, global const KVT *k_head, global const KVT *v_head, size_t step,
                           uint start, uint end, uint ring, float scale, float cap, floatw *acc, float *out_most,
                           float *out_sum) {
    floatw query[KVR_DW];
    for (uint d = 0; d < KVR_DW; d++) {
        query[d] = VLOADW(qt + d * KVR_W) * scale;
        acc[d] = 0.0f;
    }
    float most = -INFINITY;
    float sum = 0.0f;
    for (uint base = start / KVR_KEYS * KVR_KEYS; base < end; base += KVR_KEYS) {
        const size_t row = base % ring;
        const uint n = min((uint)KVR_KEYS, end - base);
        const uint from = (uint)max((int)start - (int)base, 0);
        float score[KVR_KEYS];
        float block_most = -INFINITY;
        for (int j = 0; j < KVR_KEYS; j++) score[j] = -INFINITY;
        for (uint j = from; j < n; j++) {
            global const KVT *key = k_head + (row + j) * step;
            floatw dot = 0.0f;
            for (uint d = 0; d < KVR_DW; d++) dot = query[d] * KV_LOAD(key + d * KVR_W) + dot;
            score[j] = SUMW(dot);
            if (cap != 0.0f) score[j] = cap * tanh(score[j] / cap);
            block_most = fmax(block_most, score[j]);
        }
        const float now_most = fmax(most, block_most);
        const float fade = exp(most - now_most);
        const float16 p_lo = exp(vload16(0, score) - now_most);
        const float16 p_hi = exp(vload16(1, score) - now_most);
        vstore16(p_lo, 0, score);
        vstore16(p_hi, 1, score);
        most = now_most;
        sum = sum * fade + sum16(p_lo + p_hi);
        for (uint d = 0; d < KVR_DW; d++) acc[d] *= fade;
        for (uint j = from; j < n; j++) {
            global const KVT *value = v_head + (row + j) * step;
            for (uint d = 0; d < KVR_DW; d++) acc[d] = score[j] * KV_LOAD(value + d * KVR_W) + acc[d];
        }
    }
    *out_most = most;
    *out_sum = sum;
}

/* One row (decode), split over the context as in attention_one.cl. Work-item: (head, split). */
kernel void KV(attention_one)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                              global float *dst, uint dst_row, uint H, uint G, uint rows, uint start, uint end,
                              uint ring, float scale, float cap, uint first_split, uint direct, global float *partial,
                              uint stats_at, uint as_bytes, global char *bytes, global float *scales,
                              global int *block_sums) {
    const uint h = (uint)get_global_id(0);
    const uint split = (uint)get_global_id(1);
    if (rows == 0u || h >= H) return;
    const size_t head = (size_t)(h / (H / G)) * KVR_D;
    const size_t part = (size_t)split * H + h;
    floatw acc[KVR_DW];
    float most;
    float sum;
    KV(attend_one)(q + ((size_t)q_row * H + h) * KVR_D, k + head, v + head, (size_t)G * KVR_D,
               max((first_split + split) * KVR_SPLIT, start), min((first_split + split + 1u) * KVR_SPLIT, end), ring,
               scale, cap, acc, &most, &sum);
    global float *out = direct ? dst + ((size_t)dst_row * H + h) * KVR_D : partial + part * KVR_D;
    for (uint d = 0; d < KVR_DW; d++) VSTOREW(direct ? acc[d] / sum : acc[d], out + d * KVR_W);
    if (as_bytes)
        quantise_row(dst + (size_t)dst_row * H * KVR_D, 0, h * KVR_D, (h + 1u) * KVR_D, H * KVR_D, bytes, scales,
                     block_sums);
    if (direct) return;
    partial[stats_at + 2u * part] = most;
    partial[stats_at + 2u * part + 1u] = sum;
}
#endif

#if !KVR_CPU
/* q, dst: [rows][H * KVR_D]; k, v: [ring][G * KVR_D], H a multiple of G. Work-item: (head, row). */
static void KV(attend)(global const float *q, uint q_row, global const KVT *k, global const KVT *v, global float *dst,
                       uint dst_row, uint H, uint G, uint rows, uint first, float scale, float cap, uint window,
                       uint ring) {
    const uint h = (uint)get_global_id(0);
    const uint t = (uint)get_global_id(1);
    if (h >= H || t >= rows) return;
    const uint end = first + t + 1u;
    const size_t head = (size_t)(h / (H / G)) * KVR_D;
    floatw acc[KVR_DW];
    float most;
    float sum;
    KV(attend_one)(q + ((size_t)(q_row + t) * H + h) * KVR_D, k + head, v + head, (size_t)G * KVR_D,
               window_start(end, window), end, ring, scale, cap, acc, &most, &sum);
    global float *out = dst + ((size_t)(dst_row + t) * H + h) * KVR_D;
    for (uint d = 0; d < KVR_DW; d++) VSTOREW(acc[d] / sum, out + d * KVR_W);
}

kernel void KV(attention)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                          global float *dst, uint dst_row, uint H, uint G, uint rows, uint first, float scale,
                          float cap, uint window, uint ring) {
    KV(attend)(q, q_row, k, v, dst, dst_row, H, G, rows, first, scale, 0.0f, UINT_MAX, UINT_MAX);
}

kernel void KV(attention_limited)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                                  global float *dst, uint dst_row, uint H, uint G, uint rows, uint first, float scale,
                                  float cap, uint window, uint ring) {
    KV(attend)(q, q_row, k, v, dst, dst_row, H, G, rows, first, scale, cap, window, ring);
}
#endif
