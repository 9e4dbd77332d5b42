/*
 * dot.cl - the primitives of products that are not plain floats. The host chooses the variants by what device and CPU
 * say of themselves (kvr_ocl_device.c), never by trial.
 *
 * dot4x8, integers: lane i of the result is acc[i] + sum over j of w[i].byte[j] * x.byte[j]; x is four signed bytes,
 * the same for all lanes. Bytes of w are weights + KVR_DOT_OFFSET, so unsigned, or signed when the offset is 0.
 */
#define KVR_DOT_PLAIN 0 /* C */
#define KVR_DOT_VNNI 1  /* x86 vpdpbusd on 512 bits; asm because PoCL's code generator does not know the builtin */
#define KVR_DOT_KHR 2   /* cl_khr_integer_dot_product */
#define KVR_DOT_ARM 3   /* cl_arm_integer_dot_product_accumulate_int8 (Mali) */
#define KVR_DOT_VEX 4   /* x86 vpdpbusd on 256 bits (AVX-VNNI) */
#define KVR_DOT_NEON 5  /* aarch64 sdot (DotProd) */

#define KVR_EACH16(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(a) OP(b) OP(c) OP(d) OP(e) OP(f)

#if KVR_DOT == KVR_DOT_VNNI
#define KVR_DOT_OFFSET 128
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
    return acc;
}
#elif KVR_DOT == KVR_DOT_VEX
#define KVR_DOT_OFFSET 128
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    const int8 four = *x;
    int8 lo = acc.lo;
    int8 hi = acc.hi;
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(lo) : "x"(w.lo), "x"(four));
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(hi) : "x"(w.hi), "x"(four));
    return (int16)(lo, hi);
}
#elif KVR_DOT == KVR_DOT_NEON
#define KVR_DOT_OFFSET 0
static int4 sdot(int4 acc, uint4 w, int4 four) {
    __asm__(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(four));
    return acc;
}
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    const int4 four = *x;
    return (int16)(sdot(acc.lo.lo, w.lo.lo, four), sdot(acc.lo.hi, w.lo.hi, four), sdot(acc.hi.lo, w.hi.lo, four),
                   sdot(acc.hi.hi, w.hi.hi, four));
}
#elif KVR_DOT == KVR_DOT_KHR
#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable
#define KVR_DOT_OFFSET 128
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    const uint four = as_uint(*x);
#define KVR_LANE(i) acc.s##i += dot_4x8packed_us_int(w.s##i, four);
    KVR_EACH16(KVR_LANE)
#undef KVR_LANE
    return acc;
}
#elif KVR_DOT == KVR_DOT_ARM
#pragma OPENCL EXTENSION cl_arm_integer_dot_product_accumulate_int8 : enable
#define KVR_DOT_OFFSET 0
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    const char4 four = as_char4(*x);
#define KVR_LANE(i) acc.s##i = arm_dot_acc(as_char4(w.s##i), four, acc.s##i);
    KVR_EACH16(KVR_LANE)
#undef KVR_LANE
    return acc;
}
#else
#define KVR_DOT_OFFSET 0
static int16 dot4x8(int16 acc, uint16 w, global const int *x) {
    const int four = *x;
    const int16 v = as_int16(w);
    acc += (v << 24 >> 24) * (four << 24 >> 24);
    acc += (v << 16 >> 24) * (four << 16 >> 24);
    acc += (v << 8 >> 24) * (four << 8 >> 24);
    acc += (v >> 24) * (four >> 24);
    return acc;
}
#endif

/*
 * dot2x16, bfloat16: lane i is acc[i] + the products of both halves of w[i] and *x, which are two neighbouring columns,
 * the lower one in the lower half. Sums are floats.
 */
#define KVR_PAIR_PLAIN 0 /* C, for comparing */
#define KVR_PAIR_AVX 1   /* x86 vdpbf16ps on 512 bits; subnormals count as zero there */

#if KVR_PAIR == KVR_PAIR_AVX
static float16 dot2x16(float16 acc, uint16 w, global const uint *x) {
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
    return acc;
}
#else
static float16 dot2x16(float16 acc, uint16 w, global const uint *x) {
    acc = as_float16(w << 16) * as_float(*x << 16) + acc;
    return as_float16(w & 0xffff0000u) * as_float(*x & 0xffff0000u) + acc;
}
#endif
