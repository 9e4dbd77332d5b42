/*
 * A whole life - device, session, prompt, decode, close - in which the nth OpenCL call of a kind fails, with each code
 * that drivers give. Then: a named error and never a wrong text, close is legal and gives everything back, and the next
 * run answers as if nothing had been. Marks belong to chains: test_ocl_faults.c.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

#include "gguf_maker.h"
#include "kvr/kvr.h"

enum {
    PLATFORMS,
    INFO,
    CONTEXT,
    QUEUE,
    BUFFER,
    FILL,
    WRITE,
    READ,
    SOURCE,
    BUILD,
    KERNEL,
    ARG,
    RANGE,
    FINISH,
    FLUSH,
    WAIT,
    STATE,
    KINDS
};
static const char *const kind_names[KINDS] = {"platforms", "info",   "context", "queue", "buffer", "fill",
                                              "write",     "read",   "source",  "build", "kernel", "arg",
                                              "range",     "finish", "flush",   "wait",  "state"};
static const cl_int codes[] = {CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_BUILD_PROGRAM_FAILURE,
                               CL_DEVICE_NOT_AVAILABLE, CL_OUT_OF_HOST_MEMORY};
#define N_CODES (sizeof codes / sizeof codes[0])

static int armed = KINDS; /* the kind of call that fails */
static unsigned countdown;
static cl_int code;
static int fired;
static int live; /* objects made and not given back */
static int no_devices; /* 1: platforms are there, and fail */

static int fails(int kind) {
    if (kind != armed || fired || countdown-- > 0) return 0;
    fired = 1;
    return 1;
}

static void *next(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    assert_non_null(symbol);
    return symbol;
}

#define REAL(type, name, types)                                                                                        \
    type(*real) types;                                                                                                 \
    void *symbol = next(#name);                                                                                        \
    memcpy(&real, &symbol, sizeof real)

/* A call that makes an object, and one that does not. */
#define MAKES(kind, type, name, types, args)                                                                           \
    type name types {                                                                                                  \
        REAL(type, name, types);                                                                                       \
        if (fails(kind)) {                                                                                             \
            if (status != NULL) *status = code;                                                                        \
            return NULL;                                                                                               \
        }                                                                                                              \
        type made = real args;                                                                                         \
        live += made != NULL;                                                                                          \
        return made;                                                                                                   \
    }
#define DOES(kind, name, types, args)                                                                                  \
    cl_int name types {                                                                                                \
        REAL(cl_int, name, types);                                                                                     \
        return fails(kind) ? code : real args;                                                                         \
    }
/* The same with an event, when it is wanted. */
#define ENQUEUES(kind, name, types, args)                                                                              \
    cl_int name types {                                                                                                \
        REAL(cl_int, name, types);                                                                                     \
        if (fails(kind)) return code;                                                                                  \
        const cl_int result = real args;                                                                               \
        live += result == CL_SUCCESS && event != NULL;                                                                 \
        return result;                                                                                                 \
    }
#define GIVES_BACK(name, type)                                                                                         \
    cl_int name(type object) {                                                                                         \
        REAL(cl_int, name, (type));                                                                                    \
        live--;                                                                                                        \
        return real(object);                                                                                           \
    }

MAKES(CONTEXT, cl_context, clCreateContext,
      (const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
       void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *data, cl_int *status),
      (properties, n, devices, notify, data, status))
MAKES(QUEUE, cl_command_queue, clCreateCommandQueue,
      (cl_context context, cl_device_id device, cl_command_queue_properties properties, cl_int *status),
      (context, device, properties, status))
MAKES(BUFFER, cl_mem, clCreateBuffer,
      (cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *status),
      (context, flags, bytes, host, status))
MAKES(SOURCE, cl_program, clCreateProgramWithSource,
      (cl_context context, cl_uint n, const char **texts, const size_t *lengths, cl_int *status),
      (context, n, texts, lengths, status))
MAKES(KERNEL, cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *status),
      (program, name, status))
DOES(PLATFORMS, clGetPlatformIDs, (cl_uint n, cl_platform_id *out, cl_uint *out_n), (n, out, out_n))
DOES(INFO, clGetDeviceInfo, (cl_device_id device, cl_device_info what, size_t cap, void *out, size_t *out_n),
     (device, what, cap, out, out_n))
DOES(BUILD, clBuildProgram,
     (cl_program program, cl_uint n, const cl_device_id *devices, const char *options,
      void(CL_CALLBACK *notify)(cl_program, void *), void *data),
     (program, n, devices, options, notify, data))
DOES(ARG, clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t bytes, const void *value),
     (kernel, index, bytes, value))
DOES(FINISH, clFinish, (cl_command_queue queue), (queue))
DOES(FLUSH, clFlush, (cl_command_queue queue), (queue))
DOES(WAIT, clWaitForEvents, (cl_uint n, const cl_event *events), (n, events))
DOES(STATE, clGetEventInfo, (cl_event event, cl_event_info what, size_t cap, void *out, size_t *out_n),
     (event, what, cap, out, out_n))
ENQUEUES(FILL, clEnqueueFillBuffer,
         (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t size, size_t at, size_t bytes, cl_uint n,
          const cl_event *wait, cl_event *event),
         (queue, buffer, pattern, size, at, bytes, n, wait, event))
ENQUEUES(WRITE, clEnqueueWriteBuffer,
         (cl_command_queue queue, cl_mem buffer, cl_bool block, size_t at, size_t bytes, const void *src, cl_uint n,
          const cl_event *wait, cl_event *event),
         (queue, buffer, block, at, bytes, src, n, wait, event))
ENQUEUES(READ, clEnqueueReadBuffer,
         (cl_command_queue queue, cl_mem buffer, cl_bool block, size_t at, size_t bytes, void *dst, cl_uint n,
          const cl_event *wait, cl_event *event),
         (queue, buffer, block, at, bytes, dst, n, wait, event))
ENQUEUES(RANGE, clEnqueueNDRangeKernel,
         (cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset, const size_t *global,
          const size_t *local, cl_uint n, const cl_event *wait, cl_event *event),
         (queue, kernel, dims, offset, global, local, n, wait, event))
GIVES_BACK(clReleaseContext, cl_context)
GIVES_BACK(clReleaseCommandQueue, cl_command_queue)
GIVES_BACK(clReleaseMemObject, cl_mem)
GIVES_BACK(clReleaseProgram, cl_program)
GIVES_BACK(clReleaseKernel, cl_kernel)
GIVES_BACK(clReleaseEvent, cl_event)

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint cap, cl_device_id *out, cl_uint *out_n) {
    REAL(cl_int, clGetDeviceIDs, (cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *));
    return no_devices ? CL_OUT_OF_HOST_MEMORY : real(platform, type, cap, out, out_n);
}

/* --- one life ----------------------------------------------------------------------------------------------------- */

#define NEW_TOKENS 5u

typedef struct life {
    const kvr_model *model;
    void *opencl_mem, *session_mem;
    kvr_opencl *opencl;
    kvr_session *session;
    int32_t answer[NEW_TOKENS];
    uint32_t n_answer;
    kvr_error error;
} life;

static uint64_t some_time(void *user) {
    (void)user;
    return 0;
}

static int keep(void *user, const kvr_event *event) {
    life *l = user;
    if (event->kind == KVR_EVENT_TOKEN && l->n_answer < NEW_TOKENS) l->answer[l->n_answer++] = event->id;
    return 0;
}

static kvr_status open_device(life *l) {
    kvr_opencl_config config = {0};
    config.device = rig_device();
    config.gemm = KVR_OPENCL_GEMM_OWN; /* CLBlast's own calls are not ours to count */
    return kvr_opencl_open(l->opencl_mem, kvr_opencl_bytes(), &config, NULL, &l->opencl, &l->error);
}

static kvr_status open_session(life *l) {
    kvr_backend backend;
    kvr_plan plan;
    kvr_config config = {0};
    kvr_port port = {0};
    port.now_us = some_time;
    config.struct_bytes = sizeof config;
    config.batch_tokens = 4;
    kvr_opencl_backend(l->opencl, &backend);
    const kvr_status planned = kvr_plan_make(l->model, &config, &backend, &plan, &l->error);
    if (planned != KVR_OK) return planned;
    const size_t bytes = (size_t)plan.region_bytes[KVR_REGION_SESSION];
    free(l->session_mem);
    l->session_mem = rig_alloc(bytes);
    return kvr_session_open(l->session_mem, bytes, l->model, &config, &backend, &port, &l->session, &l->error);
}

static kvr_status ask(life *l) {
    static const int32_t ids[9] = {1, 5, 9, 13, 17, 21, 25, 29, 33};
    kvr_prompt prompt = {0};
    prompt.struct_bytes = sizeof prompt;
    prompt.ids = ids;
    prompt.n_ids = 9;
    prompt.max_new_tokens = NEW_TOKENS;
    l->n_answer = 0;
    kvr_status status = kvr_session_prompt(l->session, &prompt);
    if (status == KVR_OK) status = kvr_session_run(l->session, keep, l);
    if (status != KVR_OK) l->error = *kvr_session_get_error(l->session);
    return status;
}

/* A failure has its name, and a second try of what failed succeeds. */
static kvr_status again(life *l, kvr_status status, kvr_status (*step)(life *l)) {
    if (status == KVR_OK) return KVR_OK;
    assert_true(status < 0);
    assert_int_equal(l->error.status, status);
    assert_non_null(l->error.module);
    assert_non_null(l->error.text);
    assert_int_equal(fired, 1);
    memset(&l->error, 0, sizeof l->error);
    return step(l);
}

/* What went wrong; the answer is right either way. */
static kvr_status live_once(life *l) {
    kvr_status first = open_device(l), status = again(l, first, open_device);
    assert_int_equal(status, KVR_OK);
    status = open_session(l);
    if (first == KVR_OK) first = status;
    /* what the device says of itself is asked once: a wrong answer stays until it is opened again */
    if (status != KVR_OK && armed == INFO) {
        kvr_opencl_close(l->opencl);
        memset(&l->error, 0, sizeof l->error);
        assert_int_equal(open_device(l), KVR_OK);
        status = open_session(l);
    }
    assert_int_equal(again(l, status, open_session), KVR_OK);
    status = ask(l);
    if (first == KVR_OK) first = status;
    assert_int_equal(again(l, status, ask), KVR_OK);
    kvr_session_close(l->session);
    kvr_opencl_close(l->opencl);
    return first;
}

static unsigned step_after(unsigned n) {
    return 1 + n / 2;
}

static void every_call_of_a_life_may_fail(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    gguf_shape shape = {0};
    kvr_model_info info;
    kvr_model *model = NULL;
    life l = {0};
    int32_t wanted[NEW_TOKENS];
    size_t bytes = 0;
    shape.n_layers = 2;
    shape.model_dim = shape.ffn_dim = 64;
    shape.n_heads = 4;
    shape.n_kv_heads = 2;
    shape.n_vocab = 40;
    shape.ctx = 32;
    shape.dtype = KVR_DTYPE_Q8_0;
    shape.seed = 3;
    uint8_t *file = gguf_make_llama(&shape, &bytes);
    assert_int_equal(kvr_model_probe(file, bytes, &info, NULL), KVR_OK);
    void *mem = rig_alloc((size_t)info.state_bytes);
    assert_int_equal(kvr_model_open(mem, (size_t)info.state_bytes, file, bytes, &model, NULL), KVR_OK);
    l.model = model;
    l.opencl_mem = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(live_once(&l), KVR_OK);
    assert_int_equal(live, 0);
    assert_int_equal(l.n_answer, NEW_TOKENS);
    memcpy(wanted, l.answer, sizeof wanted);

    unsigned lives = 0, failed = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        unsigned of_kind = 0;
        for (unsigned n = 0, turn = 0;; turn++) {
            armed = kind;
            countdown = n;
            code = codes[turn % N_CODES];
            fired = 0;
            const kvr_status status = live_once(&l);
            armed = KINDS;
            if (!fired) break;
            lives++;
            of_kind++;
            failed += status != KVR_OK;
            if (live != 0) fail_msg("%s call %u: %d objects are not given back", kind_names[kind], n, live);
            if (l.n_answer != NEW_TOKENS || memcmp(wanted, l.answer, sizeof wanted) != 0)
                fail_msg("%s call %u: another answer", kind_names[kind], n);
            if (turn + 1 >= N_CODES) n += step_after(n); /* the first call fails with every code */
        }
        if (of_kind == 0) fail_msg("no call of the kind %s", kind_names[kind]);
    }
    print_message("%u lives with a fault, %u of them told of it\n", lives, failed);
    free(l.session_mem);
    free(l.opencl_mem);
    free(mem);
    free(file);
}

/* A driver that is there but fails at once: told as that, with the way out. */
static void a_broken_driver_is_told_apart_from_none(void **state) {
    (void)state;
    uint32_t n = 7;
    kvr_error error = {0};
    life l = {0};
    if (rig_no_device()) skip();
    no_devices = 1;
    assert_int_equal(kvr_opencl_list(NULL, 0, &n, &error), KVR_ERR_NO_DEVICE);
    assert_int_equal(n, 0);
    assert_int_equal(error.native, CL_OUT_OF_HOST_MEMORY);
    assert_non_null(strstr(error.text, "driver is installed but fails"));
    assert_non_null(strstr(error.text, "-d reference"));
    l.opencl_mem = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(open_device(&l), KVR_ERR_NO_DEVICE);
    no_devices = 0;
    assert_string_equal(l.error.text, error.text);
    assert_int_equal(live, 0);
    free(l.opencl_mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_broken_driver_is_told_apart_from_none),
                                       cmocka_unit_test(every_call_of_a_life_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
