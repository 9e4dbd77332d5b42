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

/* First key that a window of so many keys shows, when the last one is end - 1. In longs, because compilers make a saturating
 * subtraction of the plain form, which Oclgrind does not know. */
static uint window_start(uint end, uint window) {
    return (uint)max((long)end - (long)window, 0L);
}

/* Pairwise, in one fixed order. */
static float sum8(float8 v) {
    const float4 a = v.lo + v.hi;
    const float2 b = a.lo + a.hi;
    return b.x + b.y;
}

static float sum16(float16 v) {
    return sum8(v.lo + v.hi);
}

/* Element i of a vector tensor, F32 or F16. */
static float vector_at(global const void *w, uint is_half, uint i) {
    return is_half ? vload_half(i, (global const half *)w) : ((global const float *)w)[i];
}

static float16 vector_at16(global const void *w, uint is_half, uint i) {
    return is_half ? vload_half16(0, (global const half *)w + i) : vload16(0, (global const float *)w + i);
}
