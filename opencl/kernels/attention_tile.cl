/*
 * attention_tile.cl - attention on CPU devices: a work-item owns up to KVR_QUERIES (an option) query vectors of one KV
 * head (all heads of the group, row by row), walks over blocks of KVR_KEYS keys that start at multiples of KVR_KEYS,
 * converts each block of keys and values to floats once, and merges the blocks in ascending order by online softmax
 * (Milakov 2018, FlashAttention, Dao 2022). The host joins this piece once per KV type, as attention.cl, which has the
 * kernel of the same name for other devices.
 *
 * Within a block a register tile of KVR_TILE_QUERIES query vectors is multiplied with the transposed keys, one column
 * of d at a time, then with the values, one key at a time. Every value is one chain of multiply-adds in ascending order
 * (d for a score, keys for a result), whatever stands beside it: tile height, rows of the call and idle lanes of the
 * tile do not change a bit. Keys outside a row's window take no part in its arithmetic.
 */
#if KVR_CPU
#ifndef KVR_BLOCK_VECS
#define KVR_BLOCK_VECS (KVR_KEYS / 16)
#define KVR_VECS ((int)KVR_TILE_VECS)
#define KVR_D_VECS ((KVR_D + 16 * KVR_VECS - 1) / (16 * KVR_VECS) * KVR_VECS) /* whole tiles */
#define KVR_D_PAD (KVR_D_VECS * 16)
#define KVR_TILE_QUERIES (4 * KVR_VECS)

static float max16(float16 v) {
    const float8 a = fmax(v.lo, v.hi);
    const float4 b = fmax(a.lo, a.hi);
    const float2 c = fmax(b.lo, b.hi);
    return fmax(c.x, c.y);
}

/*
 * exp(x) for x <= 0, within 1 ulp; 0 below -87.3, where floats end. x = n ln 2 + r; the polynomial is a minimax fit of
 * e^r over |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
 */
static float16 exp_down16(float16 x) {
    const float16 inside = fmax(x, -87.3f);
    const float16 shifted = inside * 1.44269504f + 12582912.0f;
    const float16 n = shifted - 12582912.0f;
    const float16 r = n * 2.12194440e-4f + (n * -0.693359375f + inside);
    float16 p = r * 1.3814313570e-03f + 8.3688516170e-03f;
    p = p * r + 4.1668400168e-02f;
    p = p * r + 1.6666519642e-01f;
    p = p * r + 4.9999994040e-01f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    p = as_float16(as_int16(p) + (as_int16(shifted) << 23));
    /* fmax passes over what is no number, which must be seen in the end */
    return select(select(p, (float16)0.0f, x < -87.3f), x, isnan(x));
}

/* One of four steps: after all of them v[i].s<j> is what v[j].s<i> was. */
static void transpose_step(float16 *v, float16 *out) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float16 a = v[2 * i];
        const float16 b = v[2 * i + 1];
        out[i] = (float16)(a.even, b.even);
        out[i + 8] = (float16)(a.odd, b.odd);
    }
}
#endif

/* Elements d .. d + 15 of a key or value, zeros past KVR_D. */
static float16 KV(part16)(global const KVT *from, int d) {
#if KVR_D % 16 == 0
    if (d >= KVR_D) return 0.0f;
    return KV_LOAD(from + d);
#else
    float part[16];
    vstore16((float16)0.0f, 0, part);
    for (int i = 0; i < 16 && d + i < KVR_D; i += KVR_W) VSTOREW(KV_LOAD(from + d + i), part + i);
    return vload16(0, part);
#endif
}

/* Keys 0 .. n - 1 of a block as out[d][key]; the columns of keys past n repeat the last one. */
static void KV(turn_keys)(global const KVT *k, size_t step, int n, float *out) {
    for (int half_block = 0; half_block < KVR_BLOCK_VECS; half_block++)
        for (int d = 0; d < KVR_D_PAD; d += 16) {
            float16 a[16];
            float16 b[16];
#pragma unroll
            for (int j = 0; j < 16; j++)
                a[j] = KV(part16)(k + (size_t)min(half_block * 16 + j, n - 1) * step, d);
            transpose_step(a, b);
            transpose_step(b, a);
            transpose_step(a, b);
            transpose_step(b, a);
#pragma unroll
            for (int j = 0; j < 16; j++) vstore16(a[j], half_block, out + (d + j) * KVR_KEYS);
        }
}

/* q, dst: [rows][H * KVR_D]; k, v: [ring][G * KVR_D], H a multiple of G. Work-item: per_item <= KVR_QUERIES of the
 * rows * (H / G) query vectors (row-major) of one KV head. limited is a constant: what only soft caps and windows need
 * (and rings, which only windows have) is left out of the kernel without them, where it would cost registers and half
 * of the speed. */
static void KV(attend)(global const float *q, uint q_row, global const KVT *k, global const KVT *v, global float *dst,
                       uint dst_row, uint H, uint G, uint rows, uint first, float scale, float cap, uint window,
                       uint ring, uint per_item, const int limited) {
    const uint g = (uint)get_global_id(0);
    const uint u_first = (uint)get_global_id(1) * per_item;
    if (g >= G) return;
    const uint group = H / G;
    if (u_first >= rows * group) return;
    const int n_queries = (int)min(per_item, rows * group - u_first);
    const size_t step = (size_t)G * KVR_D;
    const int end_of_all = (int)(first + (u_first + (uint)n_queries - 1u) / group + 1u);

    float query[KVR_QUERIES * KVR_D_PAD]; /* scaled; rows past n_queries repeat the last one */
    float acc[KVR_QUERIES * KVR_D_PAD];
    float most[KVR_QUERIES];
    float sum[KVR_QUERIES];
    int starts[KVR_QUERIES]; /* keys starts .. ends - 1 are seen */
    int ends[KVR_QUERIES];
    const int n_padded = (n_queries + KVR_TILE_QUERIES - 1) / KVR_TILE_QUERIES * KVR_TILE_QUERIES;
    for (int i = 0; i < n_padded; i++) {
        const uint u = u_first + (uint)min(i, n_queries - 1);
        const uint t = u / group;
        global const float *from = q + ((size_t)(q_row + t) * H + g * group + u % group) * KVR_D;
        ends[i] = (int)(first + t + 1u);
        starts[i] = limited ? (int)window_start((uint)ends[i], window) : 0;
        most[i] = -INFINITY;
        sum[i] = 0.0f;
        for (int d = 0; d < KVR_D; d += KVR_W) VSTOREW(VLOADW(from + d) * scale, query + i * KVR_D_PAD + d);
        for (int d = 0; d < KVR_D_PAD; d += 16) vstore16((float16)0.0f, 0, acc + i * KVR_D_PAD + d);
    }

    float keys[KVR_D_PAD * KVR_KEYS];   /* [d][key] */
    float values[KVR_KEYS * KVR_D_PAD]; /* [key][d] */
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int base = limited ? starts[0] / KVR_KEYS * KVR_KEYS : 0; base < end_of_all; base += KVR_KEYS) {
        const int n_here = min(KVR_KEYS, end_of_all - base);
        const size_t at = (size_t)(limited ? (uint)base % ring : (uint)base) * step + (size_t)g * KVR_D;
        KV(turn_keys)(k + at, step, n_here, keys);
        for (int j = 0; j < n_here; j++)
            for (int d = 0; d < KVR_D_PAD; d += 16)
                vstore16(KV(part16)(v + at + (size_t)j * step, d), 0, values + j * KVR_D_PAD + d);

        for (int i = 0; i < n_queries; i += KVR_TILE_QUERIES) {
            if (ends[i + KVR_TILE_QUERIES - 1] <= base) continue; /* the whole tile is before this block */
            if (limited && starts[i] >= base + KVR_KEYS) continue; /* or its windows start behind it */
            float p[KVR_TILE_QUERIES * KVR_KEYS];
            float fade[KVR_TILE_QUERIES];
#pragma unroll
            for (int half_block = 0; half_block < KVR_BLOCK_VECS; half_block += KVR_VECS) {
                float16 score[KVR_TILE_QUERIES][KVR_VECS];
#pragma unroll
                for (int r = 0; r < KVR_TILE_QUERIES; r++)
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++) score[r][c] = 0.0f;
                const float *x = query + i * KVR_D_PAD;
                const float *y = keys + half_block * 16;
                for (int d = 0; d < KVR_D; d++, x++, y += KVR_KEYS) {
                    float16 key[KVR_VECS];
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++) key[c] = vload16(c, y);
#pragma unroll
                    for (int r = 0; r < KVR_TILE_QUERIES; r++) {
                        const float16 xr = x[r * KVR_D_PAD];
#pragma unroll
                        for (int c = 0; c < KVR_VECS; c++) score[r][c] = xr * key[c] + score[r][c];
                    }
                }
#pragma unroll
                for (int r = 0; r < KVR_TILE_QUERIES; r++)
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++)
                        vstore16(score[r][c], half_block + c, p + r * KVR_KEYS);
            }
#pragma unroll
            for (int r = 0; r < KVR_TILE_QUERIES; r++) {
                float16 lo = vload16(0, p + r * KVR_KEYS);
                float16 hi = vload16(1, p + r * KVR_KEYS);
                const int seen = ends[i + r] - base;
                const int from = limited ? starts[i + r] - base : 0;
                if (limited && cap != 0.0f) {
                    lo = cap * tanh(lo / cap);
                    hi = cap * tanh(hi / cap);
                }
                lo = select((float16)(-INFINITY), lo, limited ? (lane < seen) & (lane >= from) : lane < seen);
                hi = select((float16)(-INFINITY), hi,
                            limited ? (lane < seen - 16) & (lane >= from - 16) : lane < seen - 16);
                const float now_most = fmax(most[i + r], max16(fmax(lo, hi)));
                const float zero = limited && now_most == -INFINITY ? 0.0f : now_most; /* nothing seen yet */
                lo = exp_down16(lo - zero);
                hi = exp_down16(hi - zero);
                vstore16(lo, 0, p + r * KVR_KEYS);
                vstore16(hi, 1, p + r * KVR_KEYS);
                fade[r] = exp_down16(most[i + r] - zero).s0;
                most[i + r] = now_most;
                sum[i + r] = sum[i + r] * fade[r] + sum16(lo + hi);
            }
            /* Keys that only earlier rows of the tile see (their windows start first), keys that all see, keys that
             * only later rows see. Rows without a key in common: all of them in the first or the last part. */
            const int n_first = !limited ? 0 : clamp(starts[i + KVR_TILE_QUERIES - 1] - base, 0, KVR_KEYS);
            const int n_common = max(clamp(ends[i] - base, 0, KVR_KEYS), n_first);
            const int is_split = ends[i + KVR_TILE_QUERIES - 1] - base > n_common && n_common < KVR_KEYS;
            float *to = acc + i * KVR_D_PAD;
            if (n_first > 0)
                for (int r = 0; r < KVR_TILE_QUERIES; r++) {
                    const int n_own = min(ends[i + r] - base, n_first);
                    for (int c = 0; c < KVR_D_VECS; c++) {
                        float16 a = vload16(c, to + r * KVR_D_PAD) * fade[r];
                        for (int j = max(starts[i + r] - base, 0); j < n_own; j++)
                            a = p[r * KVR_KEYS + j] * vload16(c, values + j * KVR_D_PAD) + a;
                        vstore16(a, c, to + r * KVR_D_PAD);
                    }
                    fade[r] = 1.0f;
                }
#pragma unroll
            for (int c_first = 0; c_first < KVR_D_VECS; c_first += KVR_VECS) {
                float16 a[KVR_TILE_QUERIES][KVR_VECS];
#pragma unroll
                for (int r = 0; r < KVR_TILE_QUERIES; r++)
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++) a[r][c] = vload16(c_first + c, to + r * KVR_D_PAD) * fade[r];
                const float *y = values + n_first * KVR_D_PAD + c_first * 16;
                for (int j = n_first; j < n_common; j++, y += KVR_D_PAD) {
                    float16 value[KVR_VECS];
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++) value[c] = vload16(c, y);
#pragma unroll
                    for (int r = 0; r < KVR_TILE_QUERIES; r++) {
                        const float16 pr = p[r * KVR_KEYS + j];
#pragma unroll
                        for (int c = 0; c < KVR_VECS; c++) a[r][c] = pr * value[c] + a[r][c];
                    }
                }
#pragma unroll
                for (int r = 0; r < KVR_TILE_QUERIES; r++)
#pragma unroll
                    for (int c = 0; c < KVR_VECS; c++) vstore16(a[r][c], c_first + c, to + r * KVR_D_PAD);
            }
            if (is_split)
                for (int r = 0; r < KVR_TILE_QUERIES; r++) {
                    const int n_own = min(ends[i + r] - base, KVR_KEYS);
                    for (int c = 0; c < KVR_D_VECS; c++) {
                        float16 a = vload16(c, to + r * KVR_D_PAD);
                        for (int j = limited ? max(n_common, starts[i + r] - base) : n_common; j < n_own; j++)
                            a = p[r * KVR_KEYS + j] * vload16(c, values + j * KVR_D_PAD) + a;
                        vstore16(a, c, to + r * KVR_D_PAD);
                    }
                }
        }
    }
    for (int i = 0; i < n_queries; i++) {
        const uint u = u_first + (uint)i;
        global float *out = dst + ((size_t)(dst_row + u / group) * H + g * group + u % group) * KVR_D;
        for (int d = 0; d < KVR_D; d += KVR_W) VSTOREW(VLOADW(acc + i * KVR_D_PAD + d) / sum[i], out + d);
    }
}

kernel void KV(attention)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                          global float *dst, uint dst_row, uint H, uint G, uint rows, uint first, float scale,
                          float cap, uint window, uint ring, uint per_item) {
    KV(attend)(q, q_row, k, v, dst, dst_row, H, G, rows, first, scale, 0.0f, UINT_MAX, UINT_MAX, per_item, 0);
}

kernel void KV(attention_limited)(global const float *q, uint q_row, global const KVT *k, global const KVT *v,
                                  global float *dst, uint dst_row, uint H, uint G, uint rows, uint first, float scale,
                                  float cap, uint window, uint ring, uint per_item) {
    KV(attend)(q, q_row, k, v, dst, dst_row, H, G, rows, first, scale, cap, window, ring, per_item, 1);
}
#endif
