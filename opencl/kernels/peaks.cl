/*
 * peaks.cl - what the device does at best, to judge the other kernels by: multiply-adds of floats, of bytes and of
 * bfloat16 in registers, and reading memory once. A program of its own, with dot.cl in front. Options: KVR_CPU,
 * KVR_DOT, KVR_PAIR, KVR_PEAK_VECS = accumulators of 16 lanes in a work-item.
 */
#pragma OPENCL FP_CONTRACT ON

/* KVR_PEAK_VECS independent chains of fused multiply-adds. x and y come from memory, so that nothing can be computed
 * ahead; with 0.5 for both the sums go to 1, so none becomes subnormal. */
kernel void peak_fma(global const float *in, global float *out, uint steps) {
    const float16 x = in[0];
    const float16 y = in[1];
    float16 sums[KVR_PEAK_VECS];
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = x * (float)i;
    for (uint k = 0; k < steps; k++) {
#pragma unroll
        for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = fma(sums[i], x, y);
    }
    float16 all = 0.0f;
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) all += sums[i];
    const float8 half_way = all.lo + all.hi;
    const float4 quarter = half_way.lo + half_way.hi;
    out[get_global_id(0)] = quarter.x + quarter.y + quarter.z + quarter.w;
}

/* The same with dot4x8. Four different weights and moving x, so that no product can be shared or hoisted. */
kernel void peak_dot(global const int *in, global int *out, uint steps) {
    uint16 weights[4];
    int16 sums[KVR_PEAK_VECS];
#pragma unroll
    for (uint i = 0; i < 4u; i++) weights[i] = vload16(i, (global const uint *)in);
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = (int16)(int)i;
    for (uint k = 0; k < steps; k++) {
        global const int *x = in + (k & 7u);
#pragma unroll
        for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = dot4x8(sums[i], weights[i & 3u], x + i / 4u);
    }
    int16 all = 0;
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) all += sums[i];
    const int8 half_way = all.lo + all.hi;
    const int4 quarter = half_way.lo + half_way.hi;
    out[get_global_id(0)] = quarter.x + quarter.y + quarter.z + quarter.w;
}

/* The same with dot2x16; memory holds pairs of 0 and 0.5, so sums grow slowly. */
kernel void peak_pair(global const uint *in, global float *out, uint steps) {
    uint16 weights[4];
    float16 sums[KVR_PEAK_VECS];
#pragma unroll
    for (uint i = 0; i < 4u; i++) weights[i] = vload16(i, in);
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = (float)i;
    for (uint k = 0; k < steps; k++) {
        global const uint *x = in + (k & 7u);
#pragma unroll
        for (uint i = 0; i < KVR_PEAK_VECS; i++) sums[i] = dot2x16(sums[i], weights[i & 3u], x + i / 4u);
    }
    float16 all = 0.0f;
#pragma unroll
    for (uint i = 0; i < KVR_PEAK_VECS; i++) all += sums[i];
    const float8 half_way = all.lo + all.hi;
    const float4 quarter = half_way.lo + half_way.hi;
    out[get_global_id(0)] = quarter.x + quarter.y + quarter.z + quarter.w;
}

/* Each work-item reads `count` vectors: its own run of them on a CPU, every n-th elsewhere, so that neighbours read
 * neighbours. count is a multiple of 4. */
#if KVR_CPU
#define PEAK_VEC float16
#define PEAK_FIRST (get_global_id(0) * (size_t)count)
#define PEAK_STRIDE ((size_t)1)
#else
#define PEAK_VEC float4
#define PEAK_FIRST get_global_id(0)
#define PEAK_STRIDE get_global_size(0)
#endif
kernel void peak_read(global const PEAK_VEC *in, global float *out, uint count) {
    global const PEAK_VEC *p = in + PEAK_FIRST;
    PEAK_VEC a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
    for (uint i = 0; i < count; i += 4u) {
        a += p[0];
        b += p[PEAK_STRIDE];
        c += p[2 * PEAK_STRIDE];
        d += p[3 * PEAK_STRIDE];
        p += 4 * PEAK_STRIDE;
    }
    a += b + c + d;
#if KVR_CPU
    const float8 half_way = a.lo + a.hi;
    const float4 quarter = half_way.lo + half_way.hi;
#else
    const float4 quarter = a;
#endif
    out[get_global_id(0)] = quarter.x + quarter.y + quarter.z + quarter.w;
}
