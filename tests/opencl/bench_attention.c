/*
 * bench_attention - attention and matrix-vector products of the OpenCL backend beside the peaks of the same device in
 * the same run: multiply-adds in registers, and reading memory once. Prints medians; not a test.
 *
 *     KVR_TEST_DEVICE=0.0 taskset -c 1 ./bench_attention [units [attention|decode|all]]
 *
 * units: compute units to use (a sub-device), 0 = all. Shapes are those of a 1.1B Llama.
 */
#define _POSIX_C_SOURCE 200112L
#include <CL/cl.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "rig.h"

#define H 32u
#define G 4u
#define D 64u
#define ROUNDS 7u
#define READ_FLOATS (64u << 20) /* 256 MiB: more than any last-level cache here */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times) {
    qsort(times, ROUNDS, sizeof *times, ascending);
    return times[ROUNDS / 2];
}

/* ---- peaks, by kernels of our own on the same device ---- */

static const char peak_source[] =
    "kernel void fma_peak(global float *out, uint n) {\n"
    "    float16 a[16];\n"
    "    const float16 x = out[get_global_id(0)] + 1.0f, y = out[0];\n"
    "#pragma unroll\n    for (int i = 0; i < 16; i++) a[i] = (float)i;\n"
    "    for (uint k = 0; k < n; k++)\n"
    "#pragma unroll\n        for (int i = 0; i < 16; i++) a[i] = fma(a[i], x, y);\n"
    "    float16 s = 0.0f;\n"
    "#pragma unroll\n    for (int i = 0; i < 16; i++) s += a[i];\n"
    "    out[get_global_id(0)] = s.s0 + s.s1 + s.s2 + s.s3 + s.s4 + s.s5 + s.s6 + s.s7 + s.s8 + s.s9;\n"
    "}\n"
    "kernel void read_peak(global const float *in, global float *out, uint n) {\n"
    "    global const float *p = in + (size_t)get_global_id(0) * n;\n"
    "    float16 a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;\n"
    "    for (uint i = 0; i < n; i += 64) {\n"
    "        a += vload16(0, p + i); b += vload16(1, p + i); c += vload16(2, p + i); d += vload16(3, p + i);\n"
    "    }\n"
    "    a += b + c + d;\n"
    "    out[get_global_id(0)] = a.s0 + a.s1 + a.s2 + a.s3 + a.s4 + a.s5 + a.s6 + a.s7 + a.s8 + a.s9;\n"
    "}\n";

typedef struct peaks {
    cl_context context;
    cl_command_queue queue;
    cl_kernel fma, read;
    cl_mem in, out;
    double gflops, gbytes;
} peaks;

static void must(cl_int status, const char *what) {
    if (status == CL_SUCCESS) return;
    fprintf(stderr, "%s: OpenCL status %d\n", what, (int)status);
    exit(1);
}

static void peaks_open(peaks *p, uint32_t units) {
    cl_platform_id platforms[16];
    cl_uint n = 0;
    unsigned platform = 0;
    unsigned index = 0;
    cl_device_id devices[16];
    cl_int status = CL_SUCCESS;
    if (rig_device() != NULL && sscanf(rig_device(), "%u.%u", &platform, &index) != 2) platform = index = 0;
    must(clGetPlatformIDs(16, platforms, &n), "platforms");
    must(platform < n ? clGetDeviceIDs(platforms[platform], CL_DEVICE_TYPE_ALL, 16, devices, &n) : -1, "devices");
    cl_device_id device = devices[index < n ? index : 0];
    if (units != 0) {
        const cl_device_partition_property how[] = {CL_DEVICE_PARTITION_BY_COUNTS, (cl_device_partition_property)units,
                                                    CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0};
        cl_device_id part = NULL;
        if (clCreateSubDevices(device, how, 1, &part, &n) == CL_SUCCESS) device = part;
    }
    p->context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
    must(status, "context");
    p->queue = clCreateCommandQueue(p->context, device, 0, &status);
    must(status, "queue");
    const char *source = peak_source;
    cl_program program = clCreateProgramWithSource(p->context, 1, &source, NULL, &status);
    must(status, "program");
    must(clBuildProgram(program, 1, &device, "", NULL, NULL), "build");
    p->fma = clCreateKernel(program, "fma_peak", &status);
    must(status, "kernel");
    p->read = clCreateKernel(program, "read_peak", &status);
    must(status, "kernel");
    p->in = clCreateBuffer(p->context, CL_MEM_READ_ONLY, sizeof(float) * READ_FLOATS, NULL, &status);
    must(status, "buffer");
    p->out = clCreateBuffer(p->context, CL_MEM_READ_WRITE, 65536, NULL, &status);
    must(status, "buffer");
    const cl_float zero = 0;
    must(clEnqueueFillBuffer(p->queue, p->in, &zero, sizeof zero, 0, sizeof(float) * READ_FLOATS, 0, NULL, NULL),
         "fill");
    must(clEnqueueFillBuffer(p->queue, p->out, &zero, sizeof zero, 0, 65536, 0, NULL, NULL), "fill");
    must(clFinish(p->queue), "finish");
}

static double peak_run(const peaks *p, cl_kernel kernel, size_t items) {
    const size_t one = 1;
    const double start = now();
    must(clEnqueueNDRangeKernel(p->queue, kernel, 1, NULL, &items, &one, 0, NULL, NULL), "enqueue");
    must(clFinish(p->queue), "finish");
    return now() - start;
}

static void peaks_measure(peaks *p) {
    double compute[ROUNDS];
    double read[ROUNDS];
    const cl_uint steps = 100000;
    const cl_uint share = READ_FLOATS / 256u;
    clSetKernelArg(p->fma, 0, sizeof p->out, &p->out);
    clSetKernelArg(p->fma, 1, sizeof steps, &steps);
    clSetKernelArg(p->read, 0, sizeof p->in, &p->in);
    clSetKernelArg(p->read, 1, sizeof p->out, &p->out);
    clSetKernelArg(p->read, 2, sizeof share, &share);
    for (size_t i = 0; i < ROUNDS; i++) {
        compute[i] = peak_run(p, p->fma, 16);
        read[i] = peak_run(p, p->read, 256);
    }
    p->gflops = 2.0 * 16 * 16 * 16 * steps / median(compute) * 1e-9;
    p->gbytes = sizeof(float) * (double)READ_FLOATS / median(read) * 1e-9;
    printf("peak: %.0f GFLOP/s multiply-add, %.1f GB/s read\n", p->gflops, p->gbytes);
}

/* ---- the backend ---- */

typedef struct bench {
    rig r;
    peaks peak;
    uint32_t units;
    float *host;
} bench;

static void bench_open(bench *b) {
    kvr_opencl_config config = {0};
    config.max_compute_units = b->units;
    config.gemm = KVR_OPENCL_GEMM_OWN;
    rig_open(&b->r, &config);
}

static void settle(const bench *b, uint32_t tensor) {
    rig_read(&b->r.sides[0], tensor, 0, 1, b->host);
}

static void attention_case(bench *b, uint32_t rows, uint32_t first, kvr_dtype type) {
    double times[ROUNDS];
    const uint32_t ctx = first + rows;
    rig_begin(&b->r, rows, ctx, H, G, D);
    const uint32_t k = rig_add(&b->r, KVR_ROLE_KV, type, ctx, G * D);
    const uint32_t v = rig_add(&b->r, KVR_ROLE_KV, type, ctx, G * D);
    const uint32_t q = rig_add(&b->r, KVR_ROLE_WORK, KVR_DTYPE_F32, rows, H * D);
    const uint32_t out = rig_add(&b->r, KVR_ROLE_WORK, KVR_DTYPE_F32, rows, H * D);
    const uint32_t kv = rig_add(&b->r, KVR_ROLE_WORK, KVR_DTYPE_F32, rows, G * D);
    bench_open(b);
    const rig_side *side = &b->r.sides[0];
    const kvr_view dst = {out, 0};
    const kvr_view src = {q, 0};
    const kvr_view some = {kv, 0};
    rig_fill(b->host, rows * H * D, 1);
    rig_write(side, q, 0, rows, b->host);
    rig_write(side, kv, 0, rows, b->host);
    for (uint32_t at = 0; at < ctx; at += rows) {
        const kvr_view keys = {k, at + rows <= ctx ? at : ctx - rows};
        const kvr_view values = {v, keys.row};
        rig_ok(side, side->backend.store(side->backend.user, keys, some, rows));
        rig_ok(side, side->backend.store(side->backend.user, values, some, rows));
    }
    const uint32_t calls = rows == 1 ? 16 : 1;
    for (size_t i = 0; i <= ROUNDS; i++) {
        settle(b, out);
        const double start = now();
        for (uint32_t c = 0; c < calls; c++)
            rig_ok(side, rig_attention(side, dst, src, k, v, rows, first));
        settle(b, out);
        if (i > 0) times[i - 1] = (now() - start) / calls;
    }
    const double t = median(times);
    const double keys = (double)rows * (first + 1) + (double)rows * (rows - 1) / 2; /* seen by all rows together */
    const double gflops = keys * H * D * 4 / t * 1e-9;
    const double gbytes = 2.0 * ctx * G * D * (type == KVR_DTYPE_F16 ? 2 : 4) / t * 1e-9;
    if (rows > 1)
        printf("attention %s %4u rows at %5u: %9.3f ms %7.1f GFLOP/s %3.0f %%\n", kvr_dtype_name(type), rows, first,
               t * 1e3, gflops, 100 * gflops / b->peak.gflops);
    else
        printf("attention %s    1 row  at %5u: %9.3f ms %7.1f GB/s %3.0f %%\n", kvr_dtype_name(type), first, t * 1e3,
               gbytes, 100 * gbytes / b->peak.gbytes);
    fflush(stdout);
    rig_close(&b->r);
}

/* Several copies of one weight, so that each pass comes from memory and not from a cache. */
static void decode_case(bench *b, kvr_dtype type, uint32_t N, uint32_t K) {
    double times[ROUNDS];
    const uint64_t bytes = N * kvr_dtype_row_bytes(type, K);
    uint32_t copies = (uint32_t)((128u << 20) / bytes);
    if (copies < 2) copies = 2;
    if (copies > RIG_TENSORS - 2) copies = RIG_TENSORS - 2;
    rig_begin(&b->r, 1, 1, H, G, D);
    for (uint32_t i = 0; i < copies; i++) {
        kvr_tensor_desc *desc = &b->r.tensors[b->r.need.n_tensors++];
        desc->rows = N;
        desc->cols = K;
        desc->dtype = (uint8_t)type;
        desc->role = KVR_ROLE_MATRIX;
        desc->bytes = bytes;
        desc->data = b->host;
    }
    const uint32_t x = rig_add(&b->r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, K);
    const uint32_t y = rig_add(&b->r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, N);
    memset(b->host, 0, (size_t)bytes);
    bench_open(b);
    const rig_side *side = &b->r.sides[0];
    const kvr_view dst = {y, 0};
    const kvr_view src = {x, 0};
    for (size_t i = 0; i <= ROUNDS; i++) {
        settle(b, y);
        const double start = now();
        for (uint32_t w = 0; w < copies; w++)
            rig_ok(side, side->backend.matmul(side->backend.user, dst, w, src, 1, KVR_PATH_DECODE, 0));
        settle(b, y);
        if (i > 0) times[i - 1] = (now() - start) / copies;
    }
    const double t = median(times);
    const double gbytes = (double)bytes / t * 1e-9;
    printf("decode %-4s %5u x %5u: %8.3f ms %6.1f GB/s %3.0f %%  %5.1f Gmac/s\n", kvr_dtype_name(type), N, K, t * 1e3,
           gbytes, 100 * gbytes / b->peak.gbytes, (double)N * K / t * 1e-9);
    fflush(stdout);
    rig_close(&b->r);
}

int main(int argc, char **argv) {
    bench b;
    memset(&b, 0, sizeof b);
    if (rig_no_device()) return 0;
    if (argc > 1) b.units = (uint32_t)strtoul(argv[1], NULL, 10);
    const char *what = argc > 2 ? argv[2] : "all";
    b.host = rig_alloc(256u << 20);
    peaks_open(&b.peak, b.units);
    peaks_measure(&b.peak);
    if (strcmp(what, "decode") != 0) {
        attention_case(&b, 256, 0, KVR_DTYPE_F16);
        attention_case(&b, 256, 1024, KVR_DTYPE_F16);
        attention_case(&b, 128, 4096, KVR_DTYPE_F16);
        attention_case(&b, 128, 4096, KVR_DTYPE_F32);
        attention_case(&b, 1, 512, KVR_DTYPE_F16);
        attention_case(&b, 1, 4096, KVR_DTYPE_F16);
    }
    if (strcmp(what, "attention") != 0) {
        static const kvr_dtype types[] = {KVR_DTYPE_Q4_0, KVR_DTYPE_Q8_0, KVR_DTYPE_F16, KVR_DTYPE_F32};
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            decode_case(&b, types[i], 5632, 2048);
            decode_case(&b, types[i], 2048, 5632);
            decode_case(&b, types[i], 256, 2048);
        }
    }
    peaks_measure(&b.peak);
    free(b.host);
    return 0;
}
