/*
 * common.cl - shared by all kernels. Options from the host: KVR_D = head_dim, KVR_TILE_ROWS and KVR_TILE_VECS = the
 * register tile of the own product.
 *
 * Every kernel is written so that one work-item computes whole results alone: no barriers, no local memory, any
 * work-group size. The path a value takes depends on its column only, never on its row or on the number of rows:
 * that keeps a row's bits the same in every call.
 */
#pragma OPENCL FP_CONTRACT ON

#define KVR_SPLIT 256u                  /* keys of one part of the attention of a single row */
#define KVR_CHUNK 256u                  /* columns per work-item of the element-wise kernels */
#define KVR_STRIP (16u * KVR_TILE_VECS) /* columns of a register tile; a constant, so that no division is left */

/* Asks for the `bytes` that are read KVR_AHEAD bytes after these: decode reads a strip from end to end, and the
 * processor's own prefetching stops at every page. A hint only; it may point behind the buffer. */
#define KVR_AHEAD 8192u
#if KVR_POCL
#define LOOK_AHEAD(from, bytes)                                                                                        \
    do {                                                                                                               \
        _Pragma("unroll") for (uint line = 0; line < (bytes); line += 64u)                                             \
            __builtin_prefetch((global const char *)(from) + KVR_AHEAD + line);                                        \
    } while (0)
#else
#define LOOK_AHEAD(from, bytes)
#endif

/* First key that a window of so many keys shows, when the last one is end - 1. In longs, because compilers make a
 * saturating subtraction of the plain form, which Oclgrind does not know. */
static uint window_start(uint end, uint window) {
    return (uint)max((long)end - (long)window, 0L);
}

/*
 * Up to three weights of one type times the same row in one launch (matvec, matvec_int): their strips one behind the
 * other, those that are not there with N = 0. The prologue picks this work-item's: w, scale_at, dst, dst_row, N, and
 * its column n.
 */
#define WEIGHTS_ARGS                                                                                                   \
    global const uchar *w_a, uint scale_at_a, global float *dst_a, uint dst_row_a, uint N_a, global const uchar *w_b,  \
        uint scale_at_b, global float *dst_b, uint dst_row_b, uint N_b, global const uchar *w_c, uint scale_at_c,      \
        global float *dst_c, uint dst_row_c, uint N_c
#define WEIGHTS_PICK                                                                                                   \
    const uint strip = (uint)get_global_id(0);                                                                         \
    const uint to_b = (N_a + 15u) / 16u;                                                                               \
    const uint to_c = to_b + (N_b + 15u) / 16u;                                                                        \
    const int is_a = strip < to_b;                                                                                     \
    const int is_b = strip < to_c;                                                                                     \
    global const uchar *w = is_a ? w_a : is_b ? w_b : w_c;                                                             \
    const uint scale_at = is_a ? scale_at_a : is_b ? scale_at_b : scale_at_c;                                          \
    global float *dst = is_a ? dst_a : is_b ? dst_b : dst_c;                                                           \
    const uint dst_row = is_a ? dst_row_a : is_b ? dst_row_b : dst_row_c;                                              \
    const uint N = is_a ? N_a : is_b ? N_b : N_c;                                                                      \
    const uint n = (strip - (is_a ? 0u : is_b ? to_b : to_c)) * 16u;

/* Pairwise, in one fixed order. */
static float sum8(float8 v) {
    const float4 a = v.lo + v.hi;
    const float2 b = a.lo + a.hi;
    return b.x + b.y;
}

static float sum16(float16 v) {
    return sum8(v.lo + v.hi);
}

/* One value or 16 as F32 or F16, rounded to nearest even. */
#define PUT16(v, p) vstore16(v, 0, p)
#define PUT(x, i, p) ((p)[i] = (x))
#define PUT_HALF16(v, p) vstore_half16_rte(v, 0, p)
#define PUT_HALF(x, i, p) vstore_half_rte(x, i, p)

/* Element i of a vector tensor, F32 or F16. */
static float vector_at(global const void *w, uint is_half, uint i) {
    return is_half ? vload_half(i, (global const half *)w) : ((global const float *)w)[i];
}

static float16 vector_at16(global const void *w, uint is_half, uint i) {
    return is_half ? vload_half16(0, (global const half *)w + i) : vload16(0, (global const float *)w + i);
}
