/*
 * plain.cl - weights without blocks: [strip][k][16 n], WORDs as in the file. k_pad = columns rounded up to 32; what is
 * past the end is zero. The host joins this piece (or quantised.cl, for the other types) once per type, with DT(name) =
 * name_<type>, WORD and FLOATS(i, p) = vector i from p as floats; those of 16 bits
 * have BF16S(i, p), the same as bfloat16 in upper halves.
 *
 * put16 writes 32 columns k.. of 16 rows that lie row_bytes apart as they were staged, n_rows of them real; block32
 * reads a block as 32 vectors of floats, pairs32 as 16 vectors of pairs of bfloat16 (pair.cl).
 */
static void DT(put16)(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w,
                      uint k_pad, uint scale_at, uint strip) {
    global WORD *out = (global WORD *)w + ((size_t)strip * k_pad + k) * 16u;
    for (uint i = 0; i < 32u; i++)
        for (uint r = 0; r < 16u; r++)
            out[i * 16u + r] =
                r < n_rows && k + i < K ? ((global const WORD *)(rows + (size_t)r * row_bytes))[k + i] : (WORD)0;
}

static void DT(block32)(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    global const WORD *from = (global const WORD *)w + ((size_t)strip * k_pad + b * 32u) * 16u;
    LOOK_AHEAD(from, sizeof(WORD) * 512u);
#pragma unroll
    for (uint i = 0; i < 32u; i++) out[i] = FLOATS(i, from);
}

#ifdef BF16S
static void DT(pairs32)(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, uint16 *out) {
    global const WORD *from = (global const WORD *)w + ((size_t)strip * k_pad + b * 32u) * 16u;
#pragma unroll
    for (uint i = 0; i < 16u; i++) out[i] = BF16S(2u * i, from) >> 16 | BF16S(2u * i + 1u, from);
}
#endif
