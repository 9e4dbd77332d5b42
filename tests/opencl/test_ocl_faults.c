/*
 * The nth call fails: every OpenCL call that open makes is made to fail in turn. Open then says so (or does without),
 * nothing crashes, and the same object opens afterwards. The same for the calls of operators and transfers.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

enum { BUFFER, FILL, WRITE, READ, MAP, UNMAP, KERNEL, ARG, RANGE, FINISH, MARKER, SOURCE, BUILD, KINDS };

static int armed = KINDS; /* the kind of call that fails */
static unsigned countdown;
static int fired;

static int fails(int kind) {
    if (kind != armed || fired) return 0;
    if (countdown-- > 0) return 0;
    fired = 1;
    return 1;
}

static void *next(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    assert_non_null(symbol);
    return symbol;
}

#define REAL(name)                                                                                                     \
    void *symbol = next(#name);                                                                                        \
    memcpy(&real, &symbol, sizeof real)

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *status) {
    cl_mem (*real)(cl_context, cl_mem_flags, size_t, void *, cl_int *);
    REAL(clCreateBuffer);
    if (!fails(BUFFER)) return real(context, flags, bytes, host, status);
    if (status != NULL) *status = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
}

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem buffer, const void *pattern, size_t size, size_t at,
                           size_t bytes, cl_uint n, const cl_event *wait, cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_mem, const void *, size_t, size_t, size_t, cl_uint, const cl_event *,
                   cl_event *);
    REAL(clEnqueueFillBuffer);
    return fails(FILL) ? CL_OUT_OF_RESOURCES : real(queue, buffer, pattern, size, at, bytes, n, wait, event);
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool block, size_t at, size_t bytes,
                            const void *src, cl_uint n, const cl_event *wait, cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint, const cl_event *,
                   cl_event *);
    REAL(clEnqueueWriteBuffer);
    return fails(WRITE) ? CL_OUT_OF_RESOURCES : real(queue, buffer, block, at, bytes, src, n, wait, event);
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool block, size_t at, size_t bytes, void *dst,
                           cl_uint n, const cl_event *wait, cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_mem, cl_bool, size_t, size_t, void *, cl_uint, const cl_event *, cl_event *);
    REAL(clEnqueueReadBuffer);
    return fails(READ) ? CL_OUT_OF_RESOURCES : real(queue, buffer, block, at, bytes, dst, n, wait, event);
}

void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool block, cl_map_flags flags, size_t at,
                         size_t bytes, cl_uint n, const cl_event *wait, cl_event *event, cl_int *status) {
    void *(*real)(cl_command_queue, cl_mem, cl_bool, cl_map_flags, size_t, size_t, cl_uint, const cl_event *,
                  cl_event *, cl_int *);
    REAL(clEnqueueMapBuffer);
    if (!fails(MAP)) return real(queue, buffer, block, flags, at, bytes, n, wait, event, status);
    if (status != NULL) *status = CL_OUT_OF_RESOURCES;
    return NULL;
}

cl_int clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem buffer, void *mapped, cl_uint n, const cl_event *wait,
                               cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_mem, void *, cl_uint, const cl_event *, cl_event *);
    REAL(clEnqueueUnmapMemObject);
    return fails(UNMAP) ? CL_OUT_OF_RESOURCES : real(queue, buffer, mapped, n, wait, event);
}

cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *status) {
    cl_kernel (*real)(cl_program, const char *, cl_int *);
    REAL(clCreateKernel);
    if (!fails(KERNEL)) return real(program, name, status);
    if (status != NULL) *status = CL_OUT_OF_HOST_MEMORY;
    return NULL;
}

cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t bytes, const void *value) {
    cl_int (*real)(cl_kernel, cl_uint, size_t, const void *);
    REAL(clSetKernelArg);
    return fails(ARG) ? CL_INVALID_ARG_SIZE : real(kernel, index, bytes, value);
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
                              const size_t *global, const size_t *local, cl_uint n, const cl_event *wait,
                              cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *, cl_uint,
                   const cl_event *, cl_event *);
    REAL(clEnqueueNDRangeKernel);
    return fails(RANGE) ? CL_OUT_OF_RESOURCES : real(queue, kernel, dims, offset, global, local, n, wait, event);
}

cl_int clFinish(cl_command_queue queue) {
    cl_int (*real)(cl_command_queue);
    REAL(clFinish);
    return fails(FINISH) ? CL_OUT_OF_RESOURCES : real(queue);
}

cl_int clEnqueueMarkerWithWaitList(cl_command_queue queue, cl_uint n, const cl_event *wait, cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_uint, const cl_event *, cl_event *);
    REAL(clEnqueueMarkerWithWaitList);
    return fails(MARKER) ? CL_OUT_OF_RESOURCES : real(queue, n, wait, event);
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint n, const char **texts, const size_t *lengths,
                                     cl_int *status) {
    cl_program (*real)(cl_context, cl_uint, const char **, const size_t *, cl_int *);
    REAL(clCreateProgramWithSource);
    if (!fails(SOURCE)) return real(context, n, texts, lengths, status);
    if (status != NULL) *status = CL_OUT_OF_HOST_MEMORY;
    return NULL;
}

cl_int clBuildProgram(cl_program program, cl_uint n, const cl_device_id *devices, const char *options,
                      void(CL_CALLBACK *notify)(cl_program, void *), void *data) {
    cl_int (*real)(cl_program, cl_uint, const cl_device_id *, const char *, void(CL_CALLBACK *)(cl_program, void *),
                   void *);
    REAL(clBuildProgram);
    return fails(BUILD) ? CL_BUILD_PROGRAM_FAILURE : real(program, n, devices, options, notify, data);
}

/* ---- the sweep ---- */

static void arm(int kind, unsigned nth) {
    armed = kind;
    countdown = nth;
    fired = 0;
}

static int was_fired(void) {
    const int yes = fired;
    armed = KINDS;
    return yes;
}

static void need_of(rig *r) {
    rig_begin(r, 4, 16, 2, 1, 16);
    rig_add(r, KVR_ROLE_MATRIX, KVR_DTYPE_Q8_0, 48, 32);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 32);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, 16, 16);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, 32);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, 48);
    rig_add(r, KVR_ROLE_MATRIX, KVR_DTYPE_Q5_0, 16, 32); /* one whose rows are converted */
}

/* A session does its work, and a failure comes back as a status with words. */
static kvr_status use(const rig_side *b) {
    static float room[4 * 48]; /* static: a read that is never asked for may still be written */
    const kvr_view x = {3, 0};
    const kvr_view y = {4, 0};
    const kvr_view kv = {2, 0};
    void *u = b->backend.user;
    const int32_t ids[] = {1, 2, 3, 4};
    kvr_fence fence = 0;
    kvr_status status = b->backend.write(u, x, 4, room);
    if (status == KVR_OK) status = b->backend.embed(u, x, 0, ids, 4);
    if (status == KVR_OK) status = rig_rms_norm(b, x, x, 1, 4);
    if (status == KVR_OK) status = rig_rope(b, x, 1, 4, 2, 16, 0);
    if (status == KVR_OK) status = rig_attention(b, x, x, 2, 2, 4, 0);
    if (status == KVR_OK) status = b->backend.matmul(u, y, 0, x, 4, KVR_PATH_PREFILL, 1);
    if (status == KVR_OK) status = b->backend.matmul(u, y, 0, x, 1, KVR_PATH_DECODE, 0);
    if (status == KVR_OK) status = rig_silu_mul(b, y, y, 4);
    if (status == KVR_OK) status = b->backend.mark(u, 1);
    if (status == KVR_OK) status = b->backend.read(u, kv, 2, room, 1, &fence);
    if (status == KVR_OK) status = b->backend.wait(u, fence);
    if (status == KVR_OK) status = b->backend.done(u, fence);
    if (status == KVR_OK) status = b->backend.read(u, kv, 4, room, KVR_AFTER_ALL, &fence);
    if (status == KVR_OK) status = b->backend.wait(u, fence);
    if (status == KVR_OK) status = b->backend.done(u, fence);
    return status;
}

static void open_object(rig *r) {
    kvr_opencl_config config = {0};
    kvr_error error = {0};
    config.device = rig_device();
    config.gemm = getenv("KVR_TEST_GEMM_OWN") != NULL ? KVR_OPENCL_GEMM_OWN : KVR_OPENCL_GEMM_CLBLAST;
    r->opencl_mem = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(r->opencl_mem, kvr_opencl_bytes(), &config, NULL, &r->opencl, &error), KVR_OK);
    kvr_opencl_backend(r->opencl, &r->sides[0].backend);
}

/* Arguments, launches and the transfers of the self-check are hundreds in one open: those are sampled. */
static unsigned step_after(int kind, unsigned n) {
    return kind == ARG || kind == RANGE || kind == WRITE || kind == READ ? 1 + n / 2 : 1;
}

static void every_call_of_open_may_fail(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    rig r;
    need_of(&r);
    open_object(&r);
    for (int kind = 0; kind < KINDS; kind++)
        for (unsigned n = 0;; n += step_after(kind, n)) {
            kvr_error error = {0};
            arm(kind, n);
            const kvr_status status = rig_open_side(&r, &r.sides[0], 0, &error);
            if (!was_fired()) {
                assert_int_equal(status, KVR_OK);
                r.sides[0].backend.close(r.sides[0].backend.user);
                break;
            }
            /* A failure inside CLBlast, or of its check, is survived with the own product. */
            if (status != KVR_OK) {
                assert_int_equal(error.status, status);
                assert_string_equal(error.module, "opencl");
                assert_true(error.native != 0 || error.text[0] != 0);
                assert_int_equal(r.sides[0].backend.flush(r.sides[0].backend.user), KVR_ERR_STATE);
            } else {
                assert_int_equal(use(&r.sides[0]), KVR_OK);
            }
            r.sides[0].backend.close(r.sides[0].backend.user);
        }
    kvr_error error = {0};
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
    assert_int_equal(use(&r.sides[0]), KVR_OK);
    rig_close(&r);
}

static void every_call_of_an_operator_may_fail(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    static const int kinds[] = {WRITE, READ, KERNEL, ARG, RANGE, MARKER};
    rig r;
    kvr_error opened = {0};
    need_of(&r);
    open_object(&r);
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &opened), KVR_OK);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (unsigned n = 0;; n++) {
            arm(kinds[k], n);
            const kvr_status status = use(&r.sides[0]);
            if (!was_fired()) {
                assert_int_equal(status, KVR_OK);
                break;
            }
            kvr_error error = {0};
            assert_int_equal(status, KVR_ERR_DEVICE);
            r.sides[0].backend.explain(r.sides[0].backend.user, &error);
            assert_int_equal(error.status, KVR_ERR_DEVICE);
            assert_true(error.native != 0 && error.text[0] != 0);
            assert_int_equal(use(&r.sides[0]), KVR_OK); /* the next one works */
        }
    rig_close(&r);
}

static uint64_t some_clock(void *user) {
    uint64_t *us = user;
    return *us += 30000u; /* every run takes long enough */
}

static void every_call_of_the_peaks_may_fail(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    static const int kinds[] = {BUFFER, FILL, SOURCE, BUILD, KERNEL, ARG, RANGE, FINISH};
    uint64_t clock_us = 0;
    kvr_port port = {0};
    kvr_opencl_config config = {0};
    kvr_opencl *cl = NULL;
    kvr_error opened = {0};
    port.user = &clock_us;
    port.now_us = some_clock;
    config.device = rig_device();
    void *mem = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes(), &config, &port, &cl, &opened), KVR_OK);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (unsigned n = 0;; n += step_after(kinds[k], n)) {
            kvr_error error = {0};
            kvr_opencl_peaks peaks = {0};
            arm(kinds[k], n);
            const kvr_status status = kvr_opencl_measure_peaks(cl, &peaks, &error);
            const int fell = was_fired();
            if (!fell) {
                assert_int_equal(status, KVR_OK);
                break;
            }
            if (kinds[k] == FINISH && status == KVR_OK) continue; /* the last one only tidies up */
            assert_int_equal(status, KVR_ERR_DEVICE);
            assert_int_equal(error.status, KVR_ERR_DEVICE);
            assert_true(error.native != 0);
            assert_int_equal(peaks.struct_bytes, 0);
        }
    kvr_opencl_close(cl);
    free(mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_open_may_fail),
        cmocka_unit_test(every_call_of_an_operator_may_fail),
        cmocka_unit_test(every_call_of_the_peaks_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
