/*
 * After open nothing takes device memory and nothing is compiled: the OpenCL calls that do so are interposed, which
 * also catches what CLBlast calls.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

static unsigned n_calls;
static unsigned n_seen; /* over the whole run: proves that the interposition works */

static void *next(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    assert_non_null(symbol);
    n_calls++;
    n_seen++;
    return symbol;
}

/* Object pointers become function pointers the way POSIX asks for. */
#define REAL(type, name)                                                                                               \
    type real;                                                                                                         \
    void *symbol = next(name);                                                                                         \
    memcpy(&real, &symbol, sizeof real)

typedef cl_mem (*create_buffer)(cl_context, cl_mem_flags, size_t, void *, cl_int *);
typedef cl_mem (*create_sub_buffer)(cl_mem, cl_mem_flags, cl_buffer_create_type, const void *, cl_int *);
typedef cl_int (*build_program)(cl_program, cl_uint, const cl_device_id *, const char *,
                                void(CL_CALLBACK *)(cl_program, void *), void *);
typedef cl_program (*create_source)(cl_context, cl_uint, const char **, const size_t *, cl_int *);
typedef cl_program (*create_binary)(cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **,
                                    cl_int *, cl_int *);

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *status) {
    REAL(create_buffer, "clCreateBuffer");
    return real(context, flags, bytes, host, status);
}

cl_mem clCreateSubBuffer(cl_mem parent, cl_mem_flags flags, cl_buffer_create_type type, const void *info,
                         cl_int *status) {
    REAL(create_sub_buffer, "clCreateSubBuffer");
    return real(parent, flags, type, info, status);
}

cl_int clBuildProgram(cl_program program, cl_uint n, const cl_device_id *devices, const char *options,
                      void(CL_CALLBACK *notify)(cl_program, void *), void *data) {
    REAL(build_program, "clBuildProgram");
    return real(program, n, devices, options, notify, data);
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint n, const char **texts, const size_t *lengths,
                                     cl_int *status) {
    REAL(create_source, "clCreateProgramWithSource");
    return real(context, n, texts, lengths, status);
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint n, const cl_device_id *devices, const size_t *lengths,
                                     const unsigned char **binaries, cl_int *each, cl_int *status) {
    REAL(create_binary, "clCreateProgramWithBinary");
    return real(context, n, devices, lengths, binaries, each, status);
}

enum { W_A, W_B, NORM, FREQ, KEYS, VALUES, X, F, ROOM };

static void open_rig(rig *r, uint32_t gemm) {
    kvr_opencl_config config = {0};
    config.gemm = gemm;
    rig_begin(r, 40, 64, 4, 2, 16);
    rig_add(r, KVR_ROLE_MATRIX, KVR_DTYPE_Q8_0, 96, 64);
    rig_add(r, KVR_ROLE_MATRIX, KVR_DTYPE_F16, 64, 96);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 64);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 8);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, 64, 32);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, 64, 32);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 40, 64);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 40, 96);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 40, 32);
    rig_open(r, &config);
}

static void use_everything(const rig_side *b, uint32_t rows) {
    const kvr_view x = {X, 0};
    const kvr_view f = {F, 0};
    const kvr_view kv = {ROOM, 0};
    const kvr_view k = {KEYS, 0};
    const kvr_view v = {VALUES, 0};
    void *u = b->backend.user;
    int32_t ids[40];
    float out[96];
    for (int i = 0; i < 40; i++) ids[i] = i;
    rig_ok(b, b->backend.embed(u, x, W_A, ids, rows));
    rig_ok(b, rig_rms_norm(b, x, x, NORM, rows));
    rig_ok(b, b->backend.matmul(u, f, W_A, x, rows, KVR_PATH_PREFILL, 0));
    rig_ok(b, rig_silu_mul(b, f, f, rows));
    rig_ok(b, b->backend.matmul(u, x, W_B, f, rows, KVR_PATH_PREFILL, 1));
    rig_ok(b, rig_rope(b, x, FREQ, rows, 4, 16, 3));
    rig_ok(b, b->backend.store(u, k, kv, rows));
    rig_ok(b, b->backend.store(u, v, kv, rows));
    const kvr_place what = {{KVR_NO_TENSOR, 0}, kv, kv, k, v, 4, 2};
    const kvr_rope how = {FREQ, 16, KVR_ROPE_PAIRS, 1.0f};
    rig_ok(b, b->backend.place(u, &what, &how, rows, 3));
    rig_ok(b, rig_attention(b, x, x, KEYS, VALUES, rows, 0));
    rig_ok(b, b->backend.add_bias(u, x, NORM, rows));
    rig_ok(b, b->backend.scale(u, x, 0.5f, 1.0f, rows));
    rig_ok(b, b->backend.matmul(u, f, W_A, x, 1, KVR_PATH_DECODE, 1));
    rig_ok(b, b->backend.matmul(u, x, W_B, f, 1, KVR_PATH_DECODE, 0));
    rig_write(b, X, 0, 1, out);
    rig_read(b, F, 0, 1, out);
}

static void check(uint32_t gemm) {
    rig first;
    rig second;
    open_rig(&first, gemm);
    open_rig(&second, gemm); /* a second session must not make the first one compile again */
    assert_true(n_seen > 0);
    n_calls = 0;
    for (uint32_t rows = 1; rows <= 40; rows += 13) {
        use_everything(&first.sides[0], rows);
        use_everything(&second.sides[0], rows);
    }
    assert_int_equal(n_calls, 0);
    rig_close(&second);
    use_everything(&first.sides[0], 40); /* nor must its end */
    assert_int_equal(n_calls, 0);
    rig_close(&first);
}

static void after_open_nothing_is_allocated_or_built(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check(KVR_OPENCL_GEMM_CLBLAST);
}

static void nor_with_the_own_product(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check(KVR_OPENCL_GEMM_OWN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_open_nothing_is_allocated_or_built),
        cmocka_unit_test(nor_with_the_own_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
