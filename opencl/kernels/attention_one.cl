/*
 * attention_one.cl - attention of one row (decode) on CPU devices, split over the context: a work-item takes up to
 * KVR_HEADS heads of one KV head and the keys of one split, which begins at a multiple of KVR_SPLIT, and leaves its
 * part (weighted values, their weight, the largest score) to attention_merge. The row's few query vectors do not pay
 * for turning keys as attention_tile.cl does: a key is multiplied as it lies, and 16 sums of lanes are added up
 * together. Values are read from memory once for all heads of a group. The host joins this piece once per KV type.
 */
#if KVR_CPU && KVR_D % 16 == 0
#ifndef KVR_HEADS
#define KVR_HEADS 8
#define KVR_DV (KVR_D / 16)
#if KVR_DV % 4 == 0
#define KVR_DV_TILE 4
#elif KVR_DV % 3 == 0
#define KVR_DV_TILE 3
#elif KVR_DV % 2 == 0
#define KVR_DV_TILE 2
#else
#define KVR_DV_TILE 1
#endif

/* Lane j = sum of the lanes of a[j]: halves, quarters, pairs, single lanes are added up in turn, two vectors into
 * one. */
static float16 sums16(const float16 *a) {
    float16 b[8];
    float16 c[4];
#pragma unroll
    for (int i = 0; i < 8; i++) b[i] = (float16)(a[i].lo, a[i + 8].lo) + (float16)(a[i].hi, a[i + 8].hi);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float16 x = b[i];
        const float16 y = b[i + 4];
        c[i] = (float16)(x.s0123, x.s89ab, y.s0123, y.s89ab) + (float16)(x.s4567, x.scdef, y.s4567, y.scdef);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float16 x = c[i];
        const float16 y = c[i + 2];
        b[i] = (float16)(x.s01, y.s01, x.s45, y.s45, x.s89, y.s89, x.scd, y.scd) +
               (float16)(x.s23, y.s23, x.s67, y.s67, x.sab, y.sab, x.sef, y.sef);
    }
    const float16 x = b[0];
    const float16 y = b[1];
    const float16 z = (float16)(x.s02, y.s02, x.s46, y.s46, x.s8a, y.s8a, x.sce, y.sce) +
                      (float16)(x.s13, y.s13, x.s57, y.s57, x.s9b, y.s9b, x.sdf, y.sdf);
    return (float16)(z.s0213, z.s8a9b, z.s4657, z.scedf);
}

/* Asks for n rows of keys or values ahead of their use: rows of one head are far apart. */
static void fetch(global const uchar *at, size_t step_bytes, int n, int bytes) {
#if KVR_POCL /* others have no such builtin, or compile it for another machine */
    for (int j = 0; j < n; j++, at += step_bytes)
        for (int i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)(size_t)(at + i));
#endif
}
#endif

/* q, dst: row [H * KVR_D]; k, v: [ring][G * KVR_D]; keys start .. end - 1. Work-item: (KV head and KVR_HEADS of its
 * heads, split). partial: [split][H][KVR_D] and, from stats_at on, [split][H][2]; unused when direct (one split).
 * as_bytes, with direct only and KVR_D in whole blocks: also quantised. */
kernel void KV(attention_one)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                              global float *dst, uint dst_row, uint H, uint G, uint rows, uint start, uint end,
                              uint ring, float scale, float cap, uint first_split, uint direct, global float *partial,
                              uint stats_at, uint as_bytes, global char *bytes, global float *scales,
                              global int *block_sums) {
    const uint group = H / G;
    const uint pieces = (group + KVR_HEADS - 1u) / KVR_HEADS;
    const uint g = (uint)get_global_id(0) / pieces;
    const uint split = (uint)get_global_id(1);
    const uint h_first = g * group + (uint)get_global_id(0) % pieces * KVR_HEADS;
    if (rows == 0u || g >= G) return;
    const int n_heads = (int)min((uint)KVR_HEADS, (g + 1u) * group - h_first);
    const int from = (int)max((first_split + split) * KVR_SPLIT, start);
    const int to = (int)min((first_split + split + 1u) * KVR_SPLIT, end);
    const size_t step = (size_t)G * KVR_D;
    global const KVT *k_head = k + (size_t)g * KVR_D;
    global const KVT *v_head = v + (size_t)g * KVR_D;

    float16 query[KVR_HEADS * KVR_DV];
    float16 acc[KVR_HEADS * KVR_DV];
    float16 block[KVR_KEYS * KVR_DV]; /* keys, then values */
    float p[KVR_HEADS * KVR_KEYS];
    float most[KVR_HEADS];
    float sum[KVR_HEADS];
    float fade[KVR_HEADS];
    for (int h = 0; h < KVR_HEADS; h++) {
        global const float *x = q + ((size_t)q_row * H + h_first + (uint)min(h, n_heads - 1)) * KVR_D;
        for (int d = 0; d < KVR_DV; d++) {
            query[h * KVR_DV + d] = vload16(d, x) * scale;
            acc[h * KVR_DV + d] = 0.0f;
        }
        most[h] = -INFINITY;
        sum[h] = 0.0f;
        fade[h] = 0.0f;
    }
    for (int i = 0; i < KVR_HEADS * KVR_KEYS; i++) p[i] = 0.0f;

    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int base = from / KVR_KEYS * KVR_KEYS; base < to; base += KVR_KEYS) {
        /* of this block keys first .. last are seen; other rows may hold anything and are not read */
        const int row = (int)((uint)base % ring);
        const int first = row + max(from - base, 0);
        const int last = row + min(to - base, KVR_KEYS) - 1;
        for (int j = 0; j < KVR_KEYS; j++) {
            global const KVT *key = k_head + (size_t)clamp(row + j, first, last) * step;
#pragma unroll
            for (int d = 0; d < KVR_DV; d++) block[j * KVR_DV + d] = KV_LOAD(key + d * 16);
        }
        fetch((global const uchar *)(v_head + row * step), step * sizeof(KVT), min(KVR_KEYS, to - base),
              KVR_D * (int)sizeof(KVT));
        for (int h = 0; h < n_heads; h++)
            for (int j = 0; j < KVR_KEYS; j += 16) {
                float16 a[16];
#pragma unroll
                for (int i = 0; i < 16; i++) a[i] = block[(j + i) * KVR_DV] * query[h * KVR_DV];
                for (int d = 1; d < KVR_DV; d++) {
                    const float16 x = query[h * KVR_DV + d];
#pragma unroll
                    for (int i = 0; i < 16; i++) a[i] = block[(j + i) * KVR_DV + d] * x + a[i];
                }
                vstore16(sums16(a), 0, p + h * KVR_KEYS + j);
            }
        if (cap != 0.0f)
            for (int i = 0; i < n_heads * KVR_KEYS; i += 16)
                vstore16(cap * tanh(vload16(0, p + i) / cap), 0, p + i);
        for (int h = 0; h < n_heads; h++) {
            const int16 lo_key = lane + base;
            const int16 hi_key = lane + (base + 16);
            float16 lo = select((float16)(-INFINITY), vload16(0, p + h * KVR_KEYS), (lo_key >= from) & (lo_key < to));
            float16 hi = select((float16)(-INFINITY), vload16(1, p + h * KVR_KEYS), (hi_key >= from) & (hi_key < to));
            const float now_most = fmax(most[h], max16(fmax(lo, hi)));
            lo = exp_down16(lo - now_most);
            hi = exp_down16(hi - now_most);
            vstore16(lo, 0, p + h * KVR_KEYS);
            vstore16(hi, 1, p + h * KVR_KEYS);
            fade[h] = exp_down16(most[h] - now_most).s0;
            most[h] = now_most;
            sum[h] = sum[h] * fade[h] + sum16(lo + hi);
        }
        for (int j = 0; j < KVR_KEYS; j++) {
            global const KVT *value = v_head + (size_t)clamp(row + j, first, last) * step;
#pragma unroll
            for (int d = 0; d < KVR_DV; d++) block[j * KVR_DV + d] = KV_LOAD(value + d * 16);
        }
        fetch((global const uchar *)(k_head + (uint)(base + KVR_KEYS) % ring * step), step * sizeof(KVT),
              min(KVR_KEYS, to - base - KVR_KEYS), KVR_D * (int)sizeof(KVT));
        for (int h = 0; h < n_heads; h += 4)
            for (int d0 = 0; d0 < KVR_DV; d0 += KVR_DV_TILE) {
                float16 a[4][KVR_DV_TILE];
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int d = 0; d < KVR_DV_TILE; d++) a[r][d] = acc[(h + r) * KVR_DV + d0 + d] * fade[h + r];
                for (int j = 0; j < KVR_KEYS; j++) {
                    float16 value[KVR_DV_TILE];
#pragma unroll
                    for (int d = 0; d < KVR_DV_TILE; d++) value[d] = block[j * KVR_DV + d0 + d];
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        const float16 x = p[(h + r) * KVR_KEYS + j];
#pragma unroll
                        for (int d = 0; d < KVR_DV_TILE; d++) a[r][d] = x * value[d] + a[r][d];
                    }
                }
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int d = 0; d < KVR_DV_TILE; d++) acc[(h + r) * KVR_DV + d0 + d] = a[r][d];
            }
    }
    for (int h = 0; h < n_heads; h++) {
        const size_t part = (size_t)split * H + h_first + (uint)h;
        global float *out = direct ? dst + ((size_t)dst_row * H + h_first + (uint)h) * KVR_D : partial + part * KVR_D;
        for (int d = 0; d < KVR_DV; d++)
            vstore16(direct ? acc[h * KVR_DV + d] / sum[h] : acc[h * KVR_DV + d], d, out);
        if (direct) continue;
        partial[stats_at + 2u * part] = most[h];
        partial[stats_at + 2u * part + 1u] = sum[h];
    }
    if (as_bytes)
        quantise_row(dst + (size_t)dst_row * H * KVR_D, 0, h_first * KVR_D, (h_first + (uint)n_heads) * KVR_D,
                     H * KVR_D, bytes, scales, block_sums);
}
#endif
