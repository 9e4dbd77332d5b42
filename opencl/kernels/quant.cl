/*
 * quant.cl - activations as bytes, for the integer products (product_int.cl): x [rows][K], with scale [rows][K / 32]
 * and the sums of half blocks [rows][K / 16].
 * Round to nearest even; a block's largest value becomes 127. The operators whose results are mostly multiplied next
 * (norm, activate) do it for the columns they have just made; others are followed by quantise.
 */
#define QUANT_BLOCK 32u
#define NEAREST 12582912.0f /* 1.5 * 2^23: floats from here on are whole, so adding it rounds to nearest even */

/* Columns first .. end - 1 (whole blocks) of row t of K columns, which begins at `from`. */
static void quantise_row(global const float *from, uint t, uint first, uint end, uint K, global char *x,
                         global float *x_scale, global int *x_sum) {
    for (uint k = first; k < end; k += QUANT_BLOCK) {
        const float16 lo = vload16(0, from + k);
        const float16 hi = vload16(1, from + k);
        const float16 m = fmax(fabs(lo), fabs(hi));
        const float8 m8 = fmax(m.lo, m.hi);
        const float4 m4 = fmax(m8.lo, m8.hi);
        const float most = fmax(fmax(m4.x, m4.y), fmax(m4.z, m4.w));
        const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
        const int16 q_lo = as_int16(fma(lo, (float16)inverse, (float16)NEAREST)) - as_int(NEAREST);
        const int16 q_hi = as_int16(fma(hi, (float16)inverse, (float16)NEAREST)) - as_int(NEAREST);
        const int8 lo8 = q_lo.lo + q_lo.hi;
        const int8 hi8 = q_hi.lo + q_hi.hi;
        const int8 both = (int8)(lo8.lo + lo8.hi, hi8.lo + hi8.hi);
        const int4 s4 = both.even + both.odd;
        const size_t block = (size_t)t * (K / QUANT_BLOCK) + k / QUANT_BLOCK;
        vstore16(convert_char16(q_lo), 0, x + block * QUANT_BLOCK);
        vstore16(convert_char16(q_hi), 1, x + block * QUANT_BLOCK);
        /* fmax passes over what is no number, and a byte cannot say it */
        x_scale[block] = any(isnan(lo) | isnan(hi)) ? NAN : most / 127.0f;
        vstore2(s4.even + s4.odd, block, x_sum);
    }
}

/* Work-item: KVR_CHUNK columns of one row. */
kernel void quantise(global const float *src, uint src_row, uint K, uint rows, global char *x, global float *x_scale,
                     global int *x_sum) {
    const uint first = (uint)get_global_id(0) * KVR_CHUNK;
    const uint t = (uint)get_global_id(1);
    if (t >= rows || first >= K) return;
    quantise_row(src + (size_t)(src_row + t) * K, t, first, min(first + KVR_CHUNK, K), K, x, x_scale, x_sum);
}
