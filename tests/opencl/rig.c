#define _POSIX_C_SOURCE 200112L
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kvr_dtype.h"

const kvr_dtype rig_types[RIG_TYPES] = {
    KVR_DTYPE_F32,  KVR_DTYPE_F16,    KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0, KVR_DTYPE_BF16, KVR_DTYPE_Q4_1, KVR_DTYPE_Q5_0,
    KVR_DTYPE_Q5_1, KVR_DTYPE_IQ4_NL, KVR_DTYPE_Q2_K, KVR_DTYPE_Q3_K, KVR_DTYPE_Q4_K, KVR_DTYPE_Q5_K, KVR_DTYPE_Q6_K};

int rig_type_fits(kvr_dtype dtype, uint32_t cols) {
    return kvr_dtype_row_bytes(dtype, cols) != 0;
}

int rig_small(void) {
    return getenv("KVR_TEST_SMALL") != NULL;
}

static int has_few(void) {
    return getenv("KVR_TEST_FEW") != NULL;
}

int rig_has_case(size_t i) {
    return !has_few() || i % 8 == 0;
}

int rig_has_type(kvr_dtype dtype) {
    if (!has_few()) return 1;
    return dtype == KVR_DTYPE_F32 || dtype == KVR_DTYPE_F16 || dtype == KVR_DTYPE_Q4_0 || dtype == KVR_DTYPE_Q8_0 ||
           dtype == KVR_DTYPE_Q4_K || dtype == KVR_DTYPE_Q6_K;
}

void *rig_alloc(size_t bytes) {
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes + 64), 0);
    return p;
}

float rig_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

void rig_fill(float *out, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) out[i] = rig_random(&seed);
}

double rig_half(uint16_t bits) {
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

/* Nearest even by search over the neighbours; normal range only, as the tests use it. */
uint16_t rig_to_half(float value) {
    const double magnitude = fabs((double)value);
    uint16_t best = 0;
    uint32_t low = 0;
    uint32_t high = 0x7bff;
    while (low < high) {
        const uint32_t mid = (low + high + 1) / 2;
        if (rig_half((uint16_t)mid) <= magnitude) low = mid;
        else high = mid - 1;
    }
    best = (uint16_t)low;
    if (low < 0x7bff) {
        const double below = magnitude - rig_half((uint16_t)low);
        const double above = rig_half((uint16_t)(low + 1)) - magnitude;
        if (above < below || (above == below && (low & 1))) best = (uint16_t)(low + 1);
    }
    return (uint16_t)(best | (value < 0 || (value == 0 && 1 / value < 0) ? 0x8000u : 0u));
}

void rig_begin(rig *r, uint32_t batch_tokens, uint32_t ctx_tokens, uint32_t H, uint32_t G, uint32_t D) {
    memset(r, 0, sizeof *r);
    r->need.struct_bytes = sizeof r->need;
    r->need.tensors = r->tensors;
    r->need.batch_tokens = batch_tokens;
    r->need.ctx_tokens = ctx_tokens;
    r->need.n_heads = H;
    r->need.n_kv_heads = G;
    r->need.head_dim = D;
}

static void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

/* Where the halves are in a block, and about what they multiply. */
static const struct { kvr_dtype dtype; uint32_t n, at[2]; float size; } halves_of[] = {
    {KVR_DTYPE_Q8_0, 1, {0, 0}, 0.01f},     {KVR_DTYPE_Q4_0, 1, {0, 0}, 0.01f},   {KVR_DTYPE_Q4_1, 2, {0, 2}, 0.1f},
    {KVR_DTYPE_Q5_0, 1, {0, 0}, 0.05f},     {KVR_DTYPE_Q5_1, 2, {0, 2}, 0.05f},   {KVR_DTYPE_IQ4_NL, 1, {0, 0}, 0.01f},
    {KVR_DTYPE_Q2_K, 2, {80, 82}, 0.02f},   {KVR_DTYPE_Q3_K, 1, {108, 0}, 0.01f}, {KVR_DTYPE_Q4_K, 2, {0, 2}, 0.002f},
    {KVR_DTYPE_Q5_K, 2, {0, 2}, 0.001f},    {KVR_DTYPE_Q6_K, 1, {208, 0}, 0.0005f}};

static void randomise(uint8_t *bytes, uint32_t dtype, size_t n, uint32_t *seed) {
    if (dtype == KVR_DTYPE_F32) {
        for (size_t i = 0; i < n; i++) ((float *)(void *)bytes)[i] = rig_random(seed);
        return;
    }
    if (dtype == KVR_DTYPE_F16 || dtype == KVR_DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            const float value = rig_random(seed);
            uint32_t bits = 0;
            memcpy(&bits, &value, sizeof bits);
            put16(bytes + 2 * i, dtype == KVR_DTYPE_F16 ? rig_to_half(value) : (uint16_t)(bits >> 16));
        }
        return;
    }
    const kvri_dtype_form *form = kvri_dtype_form_of(dtype);
    size_t h = 0;
    while (halves_of[h].dtype != dtype) h++;
    for (size_t b = 0; b < n / form->block; b++, bytes += form->block_bytes) {
        for (size_t i = 0; i < form->block_bytes; i++) bytes[i] = (uint8_t)(int)(rig_random(seed) * 127.9f + 128.0f);
        for (size_t i = 0; i < halves_of[h].n; i++)
            put16(bytes + halves_of[h].at[i], rig_to_half(rig_random(seed) * halves_of[h].size));
    }
}

static int reads_itself(uint32_t dtype) {
    return dtype == KVR_DTYPE_F32 || dtype == KVR_DTYPE_F16 || dtype == KVR_DTYPE_Q8_0 || dtype == KVR_DTYPE_Q4_0;
}

uint32_t rig_add(rig *r, kvr_tensor_role role, kvr_dtype dtype, uint32_t rows, uint32_t cols) {
    const uint32_t i = r->need.n_tensors++;
    assert_true(i < RIG_TENSORS);
    kvr_tensor_desc *desc = &r->tensors[i];
    desc->rows = rows;
    desc->cols = cols;
    desc->dtype = (uint8_t)dtype;
    desc->role = (uint8_t)role;
    desc->bytes = rows * kvr_dtype_row_bytes(dtype, cols);
    if (role == KVR_ROLE_MATRIX || role == KVR_ROLE_VECTOR) {
        uint32_t seed = 77u + i;
        r->data[i] = rig_alloc((size_t)desc->bytes);
        randomise(r->data[i], dtype, (size_t)rows * cols, &seed);
        desc->data = r->data[i];
        if (!reads_itself(dtype)) {
            const size_t row_bytes = (size_t)kvr_dtype_row_bytes(dtype, cols);
            r->values[i] = rig_alloc(sizeof(float) * rows * cols);
            for (size_t t = 0; t < rows; t++)
                kvri_dtype_to_f32(dtype, (uint8_t *)r->data[i] + t * row_bytes, cols, r->values[i] + t * cols);
        }
    }
    return i;
}

double rig_value(const rig *r, uint32_t tensor, uint32_t row, uint32_t col) {
    const kvr_tensor_desc *desc = &r->tensors[tensor];
    if (!reads_itself(desc->dtype)) return (double)r->values[tensor][(size_t)row * desc->cols + col];
    const uint8_t *at = (const uint8_t *)r->data[tensor] + row * kvr_dtype_row_bytes(desc->dtype, desc->cols);
    const uint32_t i = col % 32;
    const uint8_t *block = at + (size_t)(col / 32) * (desc->dtype == KVR_DTYPE_Q8_0 ? 34 : 18);
    switch (desc->dtype) {
    case KVR_DTYPE_F32: return (double)((const float *)(const void *)at)[col];
    case KVR_DTYPE_F16: return rig_half((uint16_t)(at[2 * col] | at[2 * col + 1] << 8));
    case KVR_DTYPE_Q8_0: return rig_half((uint16_t)(block[0] | block[1] << 8)) * (double)(int8_t)block[2 + i];
    default:
        return rig_half((uint16_t)(block[0] | block[1] << 8)) *
               ((i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) - 8);
    }
}

kvr_status rig_open_side(rig *r, rig_side *side, size_t less, kvr_error *error) {
    kvr_backend_size size = {0};
    const kvr_status measured = side->backend.measure(side->backend.user, &r->need, &size, error);
    if (measured != KVR_OK) return measured;
    free(side->mem);
    side->mem = rig_alloc((size_t)size.host_bytes);
    return side->backend.open(side->backend.user, &r->need, side->mem, (size_t)size.host_bytes - less, error);
}

static void die(const kvr_error *error) {
    char text[400];
    kvr_error_format(error, text, sizeof text);
    fail_msg("%s", text);
}

static void print_log(void *user, kvr_log_level level, const char *module, const char *text) {
    (void)user;
    if (level != KVR_LOG_INFO) print_message("log %d %s: %s\n", (int)level, module, text);
}

void rig_open(rig *r, const kvr_opencl_config *config) {
    kvr_opencl_config mine = {0};
    kvr_error error = {0};
    kvr_port port = {0};
    if (config != NULL) mine = *config;
    if (mine.device == NULL) mine.device = rig_device();
    /* Unless a test chooses: floats, which are what the oracles know; and CLBlast, which the default would pass over on
     * CPU devices. */
    if (mine.gemm == KVR_OPENCL_GEMM_AUTO) mine.gemm = KVR_OPENCL_GEMM_CLBLAST;
    if (mine.precision == KVR_OPENCL_PRECISION_FAST) mine.precision = KVR_OPENCL_PRECISION_EXACT;
    if (mine.cache_dir == NULL) mine.cache_dir = getenv("KVR_TEST_CACHE"); /* most rigs have the same programs */
    if (getenv("KVR_TEST_GEMM_OWN") != NULL) mine.gemm = KVR_OPENCL_GEMM_OWN;
    port.log = print_log;
    r->opencl_mem = rig_alloc(kvr_opencl_bytes());
    if (kvr_opencl_open(r->opencl_mem, kvr_opencl_bytes(), &mine, &port, &r->opencl, &error) != KVR_OK) die(&error);
    kvr_opencl_backend(r->opencl, &r->sides[0].backend);
    r->sides[0].name = "opencl";
    kvr_cpu_backend(&r->cpu, &r->sides[1].backend);
    r->sides[1].name = "reference";
    for (size_t i = 0; i < 2; i++)
        if (rig_open_side(r, &r->sides[i], 0, &error) != KVR_OK) die(&error);
}

void rig_close(rig *r) {
    for (size_t i = 0; i < 2; i++) {
        if (r->sides[i].backend.close != NULL) r->sides[i].backend.close(r->sides[i].backend.user);
        free(r->sides[i].mem);
    }
    kvr_opencl_close(r->opencl);
    free(r->opencl_mem);
    for (size_t i = 0; i < RIG_TENSORS; i++) {
        free(r->data[i]);
        free(r->values[i]);
    }
    memset(r, 0, sizeof *r);
}

void rig_ok(const rig_side *side, kvr_status status) {
    if (status == KVR_OK) return;
    kvr_error error = {0};
    if (side->backend.explain != NULL) side->backend.explain(side->backend.user, &error);
    error.status = status;
    die(&error);
}

void rig_write(const rig_side *side, uint32_t tensor, uint32_t row, uint32_t rows, const void *src) {
    const kvr_view view = {tensor, row};
    rig_ok(side, side->backend.write(side->backend.user, view, rows, src));
}

void rig_read(const rig_side *side, uint32_t tensor, uint32_t row, uint32_t rows, void *dst) {
    const kvr_view view = {tensor, row};
    kvr_fence fence = 0;
    rig_ok(side, side->backend.read(side->backend.user, view, rows, dst, KVR_AFTER_ALL, &fence));
    if (side->backend.wait != NULL) rig_ok(side, side->backend.wait(side->backend.user, fence));
    rig_ok(side, side->backend.done(side->backend.user, fence));
}
