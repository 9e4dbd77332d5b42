/*
 * A driver that builds every kernel, reports success and computes wrongly is caught when a session opens, and the
 * message says what is wrong. Here launches of one kernel are left out, or cut short, behind kvr's back.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

enum { SOUND, LEFT_OUT, CUT_SHORT };

static const char *victim; /* kernels whose names begin so */
static int harm;
static unsigned harmed;

static int is_victim(cl_kernel kernel) {
    char name[64] = "";
    if (harm == SOUND || clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL) != CL_SUCCESS)
        return 0;
    return strncmp(name, victim, strlen(victim)) == 0;
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
                              const size_t *global, const size_t *local, cl_uint n, const cl_event *wait,
                              cl_event *event) {
    cl_int (*real)(cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *, cl_uint,
                   const cl_event *, cl_event *);
    void *symbol = dlsym(RTLD_NEXT, "clEnqueueNDRangeKernel");
    assert_non_null(symbol);
    memcpy(&real, &symbol, sizeof real);
    if (is_victim(kernel)) {
        size_t less[3] = {global[0], dims > 1 ? global[1] : 1, dims > 2 ? global[2] : 1};
        harmed++;
        if (harm == LEFT_OUT) return CL_SUCCESS;
        if (less[0] > local[0]) less[0] -= local[0];
        else if (dims > 1 && less[1] > local[1]) less[1] -= local[1];
        else return CL_SUCCESS;
        return real(queue, kernel, dims, offset, less, local, n, wait, event);
    }
    return real(queue, kernel, dims, offset, global, local, n, wait, event);
}

/* A layer's worth: weights of this type, norm, rotation, caches, activations. */
static void need_of(rig *r, kvr_dtype dtype, kvr_dtype kv) {
    rig_begin(r, 8, 100, 4, 2, 16);
    rig_add(r, KVR_ROLE_MATRIX, dtype, 96, 64);
    rig_add(r, KVR_ROLE_MATRIX, dtype, 64, 96);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 64);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 8);
    for (int i = 0; i < 4; i++) rig_add(r, KVR_ROLE_KV, kv, i < 2 ? 100 : 64, 32); /* the second pair is a ring */
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 8, 64);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 8, 64);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 8, 96);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 8, 32);
}

static kvr_status open_with(rig *r, uint32_t precision, uint32_t gemm, kvr_error *error) {
    kvr_opencl_config config = {0};
    config.device = rig_device();
    config.gemm = gemm;
    config.precision = precision;
    r->opencl_mem = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(r->opencl_mem, kvr_opencl_bytes(), &config, NULL, &r->opencl, error), KVR_OK);
    kvr_opencl_backend(r->opencl, &r->sides[0].backend);
    return rig_open_side(r, &r->sides[0], 0, error);
}

/* The kernel's harm is found, told as this, and closing is legal. */
static void caught(const char *kernel, kvr_dtype dtype, uint32_t precision, const char *told, const char *offered) {
    for (int how = LEFT_OUT; how <= CUT_SHORT; how++) {
        rig r;
        kvr_error error = {0};
        need_of(&r, dtype, KVR_DTYPE_F16);
        victim = kernel;
        harm = how;
        harmed = 0;
        const kvr_status status = open_with(&r, precision, KVR_OPENCL_GEMM_OWN, &error);
        harm = SOUND;
        if (status != KVR_ERR_DEVICE || harmed == 0)
            fail_msg("%s, harm %d: not caught (%u launches)", kernel, how, harmed);
        if (strcmp(error.detail, told) != 0) fail_msg("%s, harm %d: told as '%s'", kernel, how, error.detail);
        assert_non_null(strstr(error.text, offered));
        assert_non_null(strstr(error.text, "-d reference"));
        rig_close(&r);
    }
}

static void wrong_operators_are_named(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const struct {
        const char *kernel, *told;
    } rows[] = {{"norm", "a norm"},
                {"rope", "a rotation of positions"},
                {"activate", "an activation"},
                {"embed_", "an embedding"},
                {"store_", "storing keys and values"},
                {"attention_f16", "attention of a prompt"},
                {"attention_limited_f16", "attention of a prompt"},
                {"attention_one_f16", "attention of one token"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        caught(rows[i].kernel, KVR_DTYPE_F16, KVR_OPENCL_PRECISION_EXACT, rows[i].told, "another device");
}

static void wrong_products_are_named_and_another_way_is_offered(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const kvr_dtype dtypes[] = {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        caught("gemm_", dtypes[i], KVR_OPENCL_PRECISION_EXACT, "a product of prompts", "another device");
        caught("matvec_", dtypes[i], KVR_OPENCL_PRECISION_EXACT, "a matrix times a vector", "another device");
        if (dtypes[i] == KVR_DTYPE_F16)
            caught("gemm_pair_", dtypes[i], KVR_OPENCL_PRECISION_INTEGER, "a product of prompts", "--precision exact");
        if (i < 2) continue;
        caught("gemm_int_", dtypes[i], KVR_OPENCL_PRECISION_INTEGER, "a product of prompts", "--precision exact");
        caught("matvec_int_", dtypes[i], KVR_OPENCL_PRECISION_INTEGER, "a matrix times a vector", "--precision exact");
    }
}

static void sound_devices_pass_with_every_type(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const kvr_dtype dtypes[] = {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        for (uint32_t precision = 0; precision <= KVR_OPENCL_PRECISION_INTEGER; precision++)
            for (uint32_t gemm = KVR_OPENCL_GEMM_CLBLAST; gemm <= KVR_OPENCL_GEMM_OWN; gemm++) {
                if (gemm == KVR_OPENCL_GEMM_CLBLAST && (rig_small() || getenv("KVR_TEST_GEMM_OWN") != NULL)) continue;
                rig r;
                kvr_error error = {0};
                need_of(&r, dtypes[i], i % 2 == 0 ? KVR_DTYPE_F16 : KVR_DTYPE_F32);
                if (open_with(&r, precision, gemm, &error) != KVR_OK)
                    fail_msg("type %u, precision %u, gemm %u: %s %s", dtypes[i], precision, gemm, error.text,
                             error.detail);
                rig_close(&r);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_devices_pass_with_every_type),
        cmocka_unit_test(wrong_operators_are_named),
        cmocka_unit_test(wrong_products_are_named_and_another_way_is_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
