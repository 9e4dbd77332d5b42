/*
 * pair.cl - activations as pairs of bfloat16, for products with weights of 16 bits (dot2x16 of dot.cl): a step does the
 * work of two. Operands are rounded to 8 significant bits (weights that are BF16 already are not), sums are floats.
 */

/* bfloat16 in the upper half of each lane, rounded to nearest even; not-a-number stays one. */
static uint16 to_bf16(float16 v) {
    const uint16 bits = as_uint16(v);
    const uint16 rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    return select(rounded, bits | 0x00400000u, isnan(v)) & 0xffff0000u;
}

/* to[t][k_pad / 2] = pairs of row src_row + t of K columns, zero past the end. Work-item: KVR_CHUNK columns of one
 * row. */
kernel void pair(global const float *src, uint src_row, uint K, uint rows, global uint *to, uint k_pad) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint t = (uint)get_global_id(1);
    if (t >= rows || first >= k_pad) return;
    global const float *from = src + (size_t)(src_row + t) * K;
    global uint *out = to + (size_t)t * (k_pad / 2u);
    for (uint k = first; k < min(first + KVR_CHUNK, k_pad); k += 16u) {
        float16 v = 0.0f;
        if (k + 16u <= K) v = vload16(0, from + k);
        else
            for (uint i = 0; i < 16u && k + i < K; i++) ((float *)&v)[i] = from[k + i];
        const uint16 bits = to_bf16(v);
        vstore8(bits.even >> 16 | bits.odd, 0, out + k / 2u);
    }
}
