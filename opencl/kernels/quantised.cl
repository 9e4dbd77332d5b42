/*
 * quantised.cl - weights in blocks of 32 columns: element = (code - OFFSET) * scale, + least where LEAST; functions as
 * in plain.cl. The host joins this piece once per type, with DT(name) = name_<type> and the numbers of
 * KVRI_OCL_TYPE_LIST (src/kvr_ocl.h):
 *
 *   LOW, HIGH   bits of a code: low ones 2, 4 or 8, high ones 0, 1 or 2
 *   PARTS       of a block that have a scale each: 1, or 2 of 16 columns
 *   LEAST       1: a least value per part; codes are unsigned then, OFFSET 0
 *   SMALL       1: a part's scale is a half of GROUP blocks times a signed byte of its own; 0: a half alone
 *
 *   [strip][block][LOW + HIGH vectors][16 n][4 bytes], and from byte scale_at on
 *   [strip][GROUP blocks] scale [16 n] halfs, least [16 n] halfs, scales [block][part][16 n] bytes, leasts likewise
 *
 * Group g of a block are its columns 4 g .. 4 g + 3, the four bytes of a lane of one vector: the operand of dot4x8. Its
 * low bits are in vector g % LOW from bit LOW * (g / LOW) of each byte on, its high bits likewise in the HIGH vectors
 * behind. Rows are staged with the same bytes in the same order (src/kvr_ocl_convert.c); here 16 of them lie side by
 * side.
 */
#define HALVES (1u + LEAST)
#define GROUP (1u + 7u * SMALL)
#define HEAD (HALVES * (2u + 8u * PARTS * SMALL)) /* bytes of a row for GROUP blocks, apart from codes */
#define VECTORS (LOW + HIGH)
#define GROUPS_OF_PART (8u / PARTS)
#if LOW == 8
#define STORED_OFFSET KVR_DOT_OFFSET /* a file has signed bytes */
#else
#define STORED_OFFSET OFFSET
#endif

static void DT(put16)(global const uchar *rows, uint row_bytes, uint n_rows, uint k, uint K, global uchar *w,
                      uint k_pad, uint scale_at, uint strip) {
    const uint b = k / 32u % GROUP;
    const size_t index = (size_t)strip * (k_pad / 32u) + k / 32u;
    global uint *out = (global uint *)w + index * (VECTORS * 16u);
    global uchar *head = w + scale_at + index / GROUP * (16u * HEAD);
    for (uint r = 0; r < 16u; r++) {
        global const uchar *from = rows + (size_t)min(r, n_rows - 1u) * row_bytes +
                                   (size_t)(k / 32u / GROUP) * (HEAD + GROUP * VECTORS * 4u);
        global const ushort *codes = (global const ushort *)(from + HEAD + b * (VECTORS * 4u));
        for (uint v = 0; v < VECTORS; v++)
            out[v * 16u + r] = (codes[2u * v] | (uint)codes[2u * v + 1u] << 16)
#if LOW == 8
                               ^ KVR_DOT_OFFSET * 0x01010101u
#endif
                ;
        if (b == 0u)
            for (uint i = 0; i < HALVES; i++)
                ((global ushort *)head)[i * 16u + r] = r < n_rows ? ((global const ushort *)from)[i] : (ushort)0;
#if SMALL
        for (uint i = 0; i < HALVES; i++)
            for (uint p = 0; p < PARTS; p++) {
                const uint byte = 2u * HALVES + i * 8u * PARTS + b * PARTS + p;
                head[byte * 16u + r] = from[byte];
            }
#endif
    }
}

/* Codes of group g, without STORED_OFFSET taken away. */
static uint16 DT(four)(global const uint *block, uint g) {
    const uint low_at = LOW * (g / LOW);
    uint16 v = vload16(g % LOW, block) >> low_at;
#if LOW < 8
    v &= ((1u << LOW) - 1u) * 0x01010101u;
#endif
#if HIGH > 0
    const uint high_at = HIGH * (g / HIGH);
    const uint16 high = vload16(LOW + g % HIGH, block);
    v |= (high_at > LOW ? high >> (high_at - LOW) : high << (LOW - high_at)) &
         (((1u << HIGH) - 1u) << LOW) * 0x01010101u;
#endif
    return v;
}

/* Scale (which 0) or least (which 1) of a part of block `index` of the matrix. vload_half16 is one instruction on CPUs
 * where its scalar form is a call. */
static float16 DT(scale16)(global const uchar *w, uint scale_at, uint index, uint part, uint which) {
    global const uchar *head = w + scale_at + (size_t)(index / GROUP) * (16u * HEAD);
    const float16 common = vload_half16(which, (global const half *)head);
#if SMALL
    const uint byte = 2u * HALVES + which * 8u * PARTS + index % GROUP * PARTS + part;
    return common * convert_float16(vload16(byte, (global const char *)head));
#else
    return common;
#endif
}

static void DT(block32)(global const uchar *w, uint k_pad, uint scale_at, uint strip, uint b, float16 *out) {
    const uint index = strip * (k_pad / 32u) + b;
    global const uint *from = (global const uint *)w + (size_t)index * (VECTORS * 16u);
#pragma unroll
    for (uint p = 0; p < PARTS; p++) {
        const float16 scale = DT(scale16)(w, scale_at, index, p, 0u);
#if LEAST
        const float16 least = DT(scale16)(w, scale_at, index, p, 1u);
#endif
#pragma unroll
        for (uint i = 0; i < GROUPS_OF_PART; i++) {
            const uint g = p * GROUPS_OF_PART + i;
#if LOW == 8
            const int16 v = as_int16(DT(four)(from, g) ^ (uint16)(KVR_DOT_OFFSET * 0x01010101u));
            out[4u * g] = convert_float16(v << 24 >> 24) * scale;
            out[4u * g + 1u] = convert_float16(v << 16 >> 24) * scale;
            out[4u * g + 2u] = convert_float16(v << 8 >> 24) * scale;
            out[4u * g + 3u] = convert_float16(v >> 24) * scale;
#else
            const int16 v = as_int16(DT(four)(from, g));
#pragma unroll
            for (uint j = 0; j < 4u; j++) {
                const float16 value = convert_float16((v >> (int)(8u * j) & 255) - OFFSET);
#if LEAST
                out[4u * g + j] = value * scale + least;
#else
                out[4u * g + j] = value * scale;
#endif
            }
#endif
        }
    }
}
