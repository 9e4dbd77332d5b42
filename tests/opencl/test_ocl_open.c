/*
 * Choosing a device, exact sizes, the binary cache, and what happens when CLBlast is not to be trusted.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <CL/cl.h>
#include <clblast_c.h>
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- CLBlast, made to fail on demand ---- */

static enum { CLBLAST_TRUE, CLBLAST_ERROR, CLBLAST_WRONG } clblast_mode;

typedef CLBlastStatusCode (*sgemm)(CLBlastLayout, CLBlastTranspose, CLBlastTranspose, size_t, size_t, size_t, float,
                                   cl_mem, size_t, size_t, cl_mem, size_t, size_t, float, cl_mem, size_t, size_t,
                                   cl_command_queue *, cl_event *, cl_mem);

CLBlastStatusCode CLBlastSgemmWithTempBuffer(const CLBlastLayout layout, const CLBlastTranspose ta,
                                             const CLBlastTranspose tb, const size_t m, const size_t n, const size_t k,
                                             const float alpha, const cl_mem a, const size_t a_at, const size_t a_ld,
                                             const cl_mem b, const size_t b_at, const size_t b_ld, const float beta,
                                             cl_mem c, const size_t c_at, const size_t c_ld, cl_command_queue *queue,
                                             cl_event *event, cl_mem temp) {
    sgemm real;
    void *symbol = dlsym(RTLD_NEXT, "CLBlastSgemmWithTempBuffer");
    memcpy(&real, &symbol, sizeof real);
    if (clblast_mode == CLBLAST_ERROR) return CLBlastOpenCLBuildProgramFailure;
    if (clblast_mode == CLBLAST_WRONG) return CLBlastSuccess; /* computes nothing */
    return real(layout, ta, tb, m, n, k, alpha, a, a_at, a_ld, b, b_at, b_ld, beta, c, c_at, c_ld, queue, event, temp);
}

/* ---- a log that is remembered ---- */

static char logged[4096];

static void remember(void *user, kvr_log_level level, const char *module, const char *text) {
    (void)user;
    (void)level;
    (void)module;
    strncat(logged, text, sizeof logged - strlen(logged) - 2);
    strcat(logged, "\n");
}

/* ---- a port that would give large pages ---- */

static uint64_t large_bytes;

static void want_large_pages(void *user, void *at, size_t bytes) {
    (void)user;
    assert_non_null(at);
    memset(at, 0x5a, bytes); /* the memory is there, and nothing is in it yet */
    large_bytes += bytes;
}

static void small_need(rig *r) {
    rig_begin(r, 4, 16, 2, 1, 16);
    rig_add(r, KVR_ROLE_MATRIX, KVR_DTYPE_Q8_0, 48, 32);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, 32);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, 16, 16);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, 32);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, 48);
}

static kvr_status open_object(rig *r, const kvr_opencl_config *config, kvr_error *error) {
    kvr_opencl_config mine = *config;
    kvr_port port = {0};
    port.log = remember;
    port.large_pages = want_large_pages;
    large_bytes = 0;
    logged[0] = 0;
    if (mine.device == NULL) mine.device = rig_device();
    if (mine.precision == KVR_OPENCL_PRECISION_FAST) mine.precision = KVR_OPENCL_PRECISION_EXACT;
    r->opencl_mem = rig_alloc(kvr_opencl_bytes());
    const kvr_status status = kvr_opencl_open(r->opencl_mem, kvr_opencl_bytes(), &mine, &port, &r->opencl, error);
    if (status == KVR_OK) kvr_opencl_backend(r->opencl, &r->sides[0].backend);
    return status;
}

/* One product of whole numbers, exact in any order. */
static void product_is_right(rig *r) {
    float x[32];
    float got[48];
    const kvr_view from = {3, 1};
    const kvr_view to = {4, 2};
    const rig_side *b = &r->sides[0];
    for (int i = 0; i < 32; i++) x[i] = (float)(i % 5 - 2);
    rig_write(b, 3, 1, 1, x);
    for (int path = 0; path < 2; path++) {
        rig_ok(b, b->backend.matmul(b->backend.user, to, 0, from, 1, path ? KVR_PATH_DECODE : KVR_PATH_PREFILL, 0));
        rig_read(b, 4, 2, 1, got);
        for (uint32_t n = 0; n < 48; n++) {
            double want = 0;
            for (uint32_t k = 0; k < 32; k++) want += (double)x[k] * rig_value(r, 0, n, k);
            assert_true((double)got[n] - want < 1e-5 && want - (double)got[n] < 1e-5);
        }
    }
}

static void large_buffers_in_plain_memory_are_offered_to_the_port(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    rig r = {0};
    kvr_error error = {0};
    const kvr_opencl_config config = {0};
    kvr_opencl_info info = {0};
    float got[32];
    small_need(&r);
    const uint32_t cache = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 1u << 17, 16); /* 4 MiB */
    assert_int_equal(open_object(&r, &config, &error), KVR_OK);
    kvr_opencl_device(r.opencl, &info);
    rig_ok(&r.sides[0], rig_open_side(&r, &r.sides[0], 0, &error));
    const int is_pocl = strcmp(info.platform_name, "Portable Computing Language") == 0 && strcmp(info.type, "CPU") == 0;
    assert_int_equal(large_bytes, is_pocl ? 4u << 20 : 0);
    rig_read(&r.sides[0], cache, (1u << 17) - 1, 1, got);
    for (int i = 0; i < 8; i++) assert_true(got[i] == 0.0f); /* the zeros came after it */
    product_is_right(&r);
    rig_close(&r);
}

static void devices_are_listed_with_one_default(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_opencl_info infos[8];
    uint32_t n = 0;
    uint32_t defaults = 0;
    kvr_error error = {0};
    assert_int_equal(kvr_opencl_list(infos, 8, &n, &error), KVR_OK);
    for (uint32_t i = 0; i < n && i < 8; i++) {
        print_message("device %u.%u %s / %s, %s, %u units\n", infos[i].platform, infos[i].device,
                      infos[i].platform_name, infos[i].name, infos[i].type, infos[i].compute_units);
        assert_true(infos[i].compute_units > 0 && infos[i].max_alloc_bytes > 0 && infos[i].max_work_group > 0);
        defaults += infos[i].is_default;
    }
    assert_true(n > 8 || defaults == 1);
    memset(infos, 0x5a, sizeof infos);
    assert_int_equal(kvr_opencl_list(infos, 0, &n, &error), KVR_OK); /* a count alone writes nothing */
    assert_int_equal(infos[0].platform, 0x5a5a5a5a);
}

static void a_device_that_is_not_there_is_named(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const struct {
        const char *text;
        kvr_status status;
    } cases[] = {{"99.0", KVR_ERR_NO_DEVICE}, {"0.99", KVR_ERR_NO_DEVICE},
                 {"", KVR_ERR_ARG},           {"0", KVR_ERR_ARG},
                 {"0.", KVR_ERR_ARG},         {".0", KVR_ERR_ARG},
                 {"0.0x", KVR_ERR_ARG},       {"-1.0", KVR_ERR_ARG},
                 {"GPU", KVR_ERR_ARG},        {"00000000000000000000000000.0", KVR_ERR_ARG}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig r = {0};
        kvr_opencl_config config = {0};
        kvr_error error = {0};
        config.device = cases[i].text;
        assert_int_equal(open_object(&r, &config, &error), cases[i].status);
        assert_string_equal(error.module, "opencl");
        assert_null(r.opencl);
        free(r.opencl_mem);
    }
}

static void the_object_takes_exactly_its_bytes(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_error error = {0};
    kvr_opencl *opencl = NULL;
    kvr_opencl_config config = {0};
    config.device = rig_device();
    unsigned char *mem = rig_alloc(kvr_opencl_bytes());
    memset(mem, 0x5a, kvr_opencl_bytes() + 64);
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes() - 1, &config, NULL, &opencl, &error), KVR_ERR_NOMEM);
    for (size_t i = 0; i < kvr_opencl_bytes(); i++) assert_int_equal(mem[i], 0x5a);
    memset(&error, 0, sizeof error);
    config.gemm = 3;
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes(), &config, NULL, &opencl, &error), KVR_ERR_ARG);
    memset(&error, 0, sizeof error);
    config.gemm = 0;
    config.precision = 3;
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes(), &config, NULL, &opencl, &error), KVR_ERR_ARG);
    memset(&error, 0, sizeof error);
    config.precision = 0;
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes(), &config, NULL, &opencl, &error), KVR_OK);
    for (size_t i = 0; i < 64; i++) assert_int_equal(mem[kvr_opencl_bytes() + i], 0x5a);
    kvr_opencl_close(opencl);
    kvr_opencl_close(NULL);
    free(mem);
}

static void the_measured_host_memory_is_exact(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    kvr_error error = {0};
    const kvr_opencl_config config = {0};
    small_need(&r);
    assert_int_equal(open_object(&r, &config, &error), KVR_OK);
    assert_int_equal(rig_open_side(&r, &r.sides[0], 1, &error), KVR_ERR_NOMEM);
    assert_true(error.wanted == error.had + 1);
    memset(&error, 0, sizeof error);
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
    assert_int_equal(r.sides[0].backend.open(r.sides[0].backend.user, &r.need, r.sides[0].mem, 1u << 20, &error),
                     KVR_ERR_STATE);
    product_is_right(&r);
    for (int i = 0; i < 3; i++) { /* closed and opened again */
        r.sides[0].backend.close(r.sides[0].backend.user);
        r.sides[0].backend.close(r.sides[0].backend.user);
        memset(&error, 0, sizeof error);
        assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
        product_is_right(&r);
    }
    rig_close(&r);
}

static void the_memory_limit_is_exact(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    uint64_t total = 0;
    for (int round = 0; round < 3; round++) {
        rig r;
        kvr_error error = {0};
        kvr_backend_size size = {0};
        kvr_opencl_config config = {0};
        if (round > 0) config.memory_limit_bytes = round == 1 ? total : total - 1;
        small_need(&r);
        assert_int_equal(open_object(&r, &config, &error), KVR_OK);
        assert_int_equal(r.sides[0].backend.measure(r.sides[0].backend.user, &r.need, &size, &error), KVR_OK);
        total = size.weight_bytes + size.kv_bytes + size.work_bytes + size.scratch_bytes;
        assert_int_equal(size.weight_bytes, 48 * 34 + 32 * 4);
        assert_int_equal(size.kv_bytes, 16 * 16 * 2);
        assert_int_equal(size.work_bytes, 4 * 32 * 4 + 4 * 48 * 4);
        assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), round < 2 ? KVR_OK : KVR_ERR_NOMEM);
        if (round == 2) assert_true(error.wanted == total && error.had == total - 1);
        rig_close(&r);
    }
}

static void needs_that_cannot_be_met_are_refused(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    kvr_backend_size size;
    const kvr_opencl_config config = {0};
    kvr_error error = {0};
    small_need(&r);
    assert_int_equal(open_object(&r, &config, &error), KVR_OK);
    const kvr_backend *b = &r.sides[0].backend;
    const kvr_tensor_desc weight = r.tensors[0];

    r.tensors[0].rows = 1u << 31;
    r.tensors[0].bytes = (uint64_t)34 << 31;
    r.tensors[0].cols = 32;
    assert_int_equal(b->measure(b->user, &r.need, &size, &error), KVR_ERR_NOMEM);
    assert_true(error.wanted == r.tensors[0].bytes && error.had > 0);

    memset(&error, 0, sizeof error);
    r.tensors[0] = weight;
    r.tensors[0].dtype = 9; /* Q8_1: no file has it */
    assert_int_equal(b->measure(b->user, &r.need, &size, &error), KVR_ERR_TYPE);

    memset(&error, 0, sizeof error);
    r.tensors[0] = weight;
    r.tensors[0].bytes--;
    assert_int_equal(b->measure(b->user, &r.need, &size, &error), KVR_ERR_ARG);

    memset(&error, 0, sizeof error);
    r.tensors[0] = weight;
    r.tensors[2].dtype = KVR_DTYPE_Q8_0;
    assert_int_equal(b->measure(b->user, &r.need, &size, &error), KVR_ERR_TYPE);
    r.tensors[2].dtype = KVR_DTYPE_F16;

    memset(&error, 0, sizeof error);
    r.need.head_dim = 7;
    assert_int_equal(b->measure(b->user, &r.need, &size, &error), KVR_ERR_UNSUPPORTED);
    r.need.head_dim = 16;

    memset(&error, 0, sizeof error);
    r.tensors[0].data = NULL;
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_ERR_ARG);
    rig_close(&r);
}

static void calls_that_do_not_fit_are_refused_with_words(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    const kvr_opencl_config config = {0};
    kvr_error error = {0};
    float x[512];
    kvr_fence fence = 0;
    const int32_t ids[] = {0, 48, -1};
    const kvr_view work = {3, 0};
    const kvr_view wide = {4, 0};
    const kvr_view past = {3, 4};
    const kvr_view nowhere = {99, 0};
    small_need(&r);
    assert_int_equal(open_object(&r, &config, &error), KVR_OK);
    const kvr_backend *b = &r.sides[0].backend;
    void *u = b->user;
    assert_int_equal(rig_silu_mul(&r.sides[0], work, work, 1), KVR_ERR_STATE); /* not open */
    assert_int_equal(b->write(u, work, 1, x), KVR_ERR_STATE);
    assert_int_equal(b->read(u, work, 1, x, KVR_AFTER_ALL, &fence), KVR_ERR_STATE);
    assert_int_equal(b->done(u, 1), KVR_ERR_STATE);
    assert_int_equal(b->flush(u), KVR_ERR_STATE);
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
    assert_int_equal(b->embed(u, work, 0, ids, 2), KVR_ERR_ARG);
    assert_int_equal(b->embed(u, work, 0, ids + 2, 1), KVR_ERR_ARG);
    assert_int_equal(rig_rms_norm(&r.sides[0], work, past, 1, 1), KVR_ERR_ARG);
    assert_int_equal(rig_rms_norm(&r.sides[0], work, nowhere, 1, 1), KVR_ERR_ARG);
    assert_int_equal(b->matmul(u, work, 0, work, 1, KVR_PATH_PREFILL, 0), KVR_ERR_ARG);
    assert_int_equal(b->matmul(u, wide, 0, work, 5, KVR_PATH_PREFILL, 0), KVR_ERR_ARG);
    assert_int_equal(b->matmul(u, wide, 0, work, 2, KVR_PATH_DECODE, 0), KVR_ERR_ARG);
    assert_int_equal(rig_rope(&r.sides[0], work, 1, 1, 3, 16, 0), KVR_ERR_ARG);
    assert_int_equal(b->store(u, work, work, 1), KVR_ERR_ARG);
    assert_int_equal(b->add_bias(u, work, 2, 1), KVR_ERR_ARG); /* not a vector */
    assert_int_equal(b->scale(u, past, 1.0f, 0.0f, 1), KVR_ERR_ARG);
    assert_int_equal(rig_attention(&r.sides[0], work, work, 2, 2, 1, 16), KVR_ERR_ARG); /* past the context */
    assert_int_equal(b->write(u, past, 1, x), KVR_ERR_ARG);
    assert_int_equal(b->read(u, nowhere, 1, x, KVR_AFTER_ALL, &fence), KVR_ERR_ARG);
    memset(&error, 0, sizeof error);
    b->explain(u, &error);
    assert_int_equal(error.status, KVR_ERR_ARG);
    assert_string_equal(error.module, "opencl");
    assert_int_equal(rig_silu_mul(&r.sides[0], past, past, 0), KVR_OK); /* no rows: nothing to do */
    product_is_right(&r);
    rig_close(&r);
}

static void a_part_of_a_device_computes_the_same_bits(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    float got[2][4 * 48];
    float x[4 * 32];
    rig_fill(x, 4 * 32, 3);
    for (uint32_t units = 0; units < 2; units++) {
        rig r;
        kvr_error error = {0};
        kvr_opencl_config config = {0};
        kvr_opencl_info info;
        config.max_compute_units = units;
        small_need(&r);
        assert_int_equal(open_object(&r, &config, &error), KVR_OK);
        kvr_opencl_device(r.opencl, &info);
        if (units == 1) {
            if (info.can_divide || info.compute_units == 1) assert_int_equal(info.compute_units, 1);
            else assert_non_null(strstr(logged, "cannot be divided"));
        }
        assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
        const kvr_view from = {3, 0};
        const kvr_view to = {4, 0};
        rig_write(&r.sides[0], 3, 0, 4, x);
        rig_ok(&r.sides[0], r.sides[0].backend.matmul(r.sides[0].backend.user, to, 0, from, 4, KVR_PATH_PREFILL, 0));
        rig_read(&r.sides[0], 4, 0, 4, got[units]);
        rig_close(&r);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
}

static void a_clblast_that_fails_or_lies_is_replaced(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    for (int mode = 0; mode < 3; mode++)
        for (uint32_t gemm = 0; gemm < 3; gemm++) {
            rig r;
            kvr_error error = {0};
            kvr_opencl_config config = {0};
            config.gemm = gemm;
            small_need(&r);
            clblast_mode = CLBLAST_TRUE;
            if (mode == 1) clblast_mode = CLBLAST_ERROR;
            if (mode == 2) clblast_mode = CLBLAST_WRONG;
            assert_int_equal(open_object(&r, &config, &error), KVR_OK);
            const kvr_status status = rig_open_side(&r, &r.sides[0], 0, &error);
            assert_int_equal(status, KVR_OK);
            product_is_right(&r);
            if (gemm != KVR_OPENCL_GEMM_AUTO) /* there the device's class decides who is asked */
                assert_int_equal(strstr(logged, "own product kernel") != NULL,
                                 gemm == KVR_OPENCL_GEMM_CLBLAST && mode != 0);
            clblast_mode = CLBLAST_TRUE;
            rig_close(&r);
        }
}

/* ---- tuning ---- */

static void a_tuning_is_written_and_read_back_and_damage_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "kvr-tuning 2\n", "kvr-board 1\n", "kvr-tuning 1\ndevice a\nplatform b\n",
        "kvr-tuning 1\ndevice a\nplatform b\ndriver c\ntile_rows 17\n",
        "kvr-tuning 1\ndevice a\nplatform b\ndriver c\npanel_k 100\n",
        "kvr-tuning 1\ndevice a\nplatform b\ndriver c\nwide_int own\n",
        "kvr-tuning 1\ndevice a\nplatform b\ndriver c\nspeed 1\n"};
    kvr_opencl_tuning t;
    kvr_opencl_tuning back;
    char text[KVR_OPENCL_TUNING_MAX_BYTES];
    kvr_error error = {0};
    memset(&t, 0, sizeof t);
    memset(&back, 0, sizeof back);
    strcpy(t.device, "some device (rev 2)");
    strcpy(t.platform, "some platform");
    strcpy(t.driver, "1.2+x");
    t.struct_bytes = sizeof t;
    t.tile_rows = 8;
    t.tile_vecs = 2;
    t.panel_k = 64;
    t.wide_int = KVR_OPENCL_GEMM_OWN;
    const size_t n = kvr_opencl_tuning_write(&t, text, sizeof text);
    assert_true(n > 0);
    assert_int_equal(kvr_opencl_tuning_write(&t, text, n - 1), 0);
    kvr_opencl_tuning_write(&t, text, sizeof text);
    assert_int_equal(kvr_opencl_tuning_read(text, n, &back, &error), KVR_OK);
    assert_memory_equal(&t, &back, sizeof t);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&error, 0, sizeof error);
        assert_true(kvr_opencl_tuning_read(bad[i], strlen(bad[i]), &back, &error) < 0);
        assert_true(error.text[0] != 0);
        assert_memory_equal(&t, &back, sizeof t);
    }
}

/* Tiles of any size give the same product; another device's tuning is named and not used. */
static void a_tuning_changes_the_tiles_of_its_own_device_only(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    for (int is_own = 0; is_own < 2; is_own++) {
        rig r;
        kvr_error error = {0};
        kvr_opencl_config config = {0};
        kvr_opencl_info info;
        kvr_opencl_tuning t;
        small_need(&r);
        assert_int_equal(open_object(&r, &config, &error), KVR_OK);
        kvr_opencl_device(r.opencl, &info);
        rig_close(&r);
        memset(&t, 0, sizeof t);
        t.struct_bytes = sizeof t;
        memcpy(t.device, info.name, sizeof t.device);
        memcpy(t.platform, info.platform_name, sizeof t.platform);
        memcpy(t.driver, is_own ? info.driver_version : "another", is_own ? sizeof t.driver : 8);
        t.tile_rows = 3;
        t.tile_vecs = 1;
        t.panel_k = 32;
        t.narrow_float = KVR_OPENCL_GEMM_OWN;
        config.tuning = &t;
        small_need(&r);
        assert_int_equal(open_object(&r, &config, &error), KVR_OK);
        assert_int_equal(strstr(logged, "tuning is of another device") != NULL, !is_own);
        assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
        product_is_right(&r);
        rig_close(&r);
    }
}

/* ---- binary cache ---- */

static int open_with_cache(const char *dir) {
    rig r;
    kvr_error error = {0};
    kvr_opencl_config config = {0};
    config.cache_dir = dir;
    config.gemm = KVR_OPENCL_GEMM_OWN;
    small_need(&r);
    assert_int_equal(open_object(&r, &config, &error), KVR_OK);
    assert_int_equal(rig_open_side(&r, &r.sides[0], 0, &error), KVR_OK);
    product_is_right(&r);
    const int hit = strstr(logged, "come from the binary cache") != NULL;
    assert_int_equal(hit, strstr(logged, "built from source") == NULL);
    rig_close(&r);
    return hit;
}

/* The only file of the folder; fails when there are others, such as temporary ones left behind. */
static void cache_file(const char *dir, char *out, size_t cap) {
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (e->d_name[0] != '.') {
            n++;
            snprintf(out, cap, "%s/%s", dir, e->d_name);
        }
    closedir(d);
    assert_int_equal(n, 1);
}

static void flip_byte(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    const int c = fgetc(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

static void a_damaged_program_cache_means_a_rebuild(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    char dir[] = "/tmp/kvr-cache-XXXXXX";
    char path[400];
    assert_non_null(mkdtemp(dir));
    assert_false(open_with_cache(dir));
    cache_file(dir, path, sizeof path);
    assert_true(open_with_cache(dir));
    static const long places[] = {0, 9, 25, 33, 60, -1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        flip_byte(path, places[i]);
        assert_false(open_with_cache(dir));
        cache_file(dir, path, sizeof path);
    }
    static const long cuts[] = {0, 7, 48, 1000};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(truncate(path, cuts[i]), 0);
        assert_false(open_with_cache(dir));
    }
    assert_true(open_with_cache(dir));
    remove(path);
    rmdir(dir);
    assert_false(open_with_cache(dir)); /* a folder that is not there is only a warning */
    assert_non_null(strstr(logged, "was not kept"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_listed_with_one_default),
        cmocka_unit_test(large_buffers_in_plain_memory_are_offered_to_the_port),
        cmocka_unit_test(a_device_that_is_not_there_is_named),
        cmocka_unit_test(the_object_takes_exactly_its_bytes),
        cmocka_unit_test(the_measured_host_memory_is_exact),
        cmocka_unit_test(the_memory_limit_is_exact),
        cmocka_unit_test(needs_that_cannot_be_met_are_refused),
        cmocka_unit_test(calls_that_do_not_fit_are_refused_with_words),
        cmocka_unit_test(a_part_of_a_device_computes_the_same_bits),
        cmocka_unit_test(a_clblast_that_fails_or_lies_is_replaced),
        cmocka_unit_test(a_tuning_is_written_and_read_back_and_damage_is_refused),
        cmocka_unit_test(a_tuning_changes_the_tiles_of_its_own_device_only),
        cmocka_unit_test(a_damaged_program_cache_means_a_rebuild),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
