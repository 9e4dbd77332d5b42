/*
 * kvr_ocl_clblast.c - the tiled product by CLBlast: the weight goes panel by panel through a float panel.
 *
 * In its (column-major) words: A = panel [k_pad][n_pad], B = packed activations [k_pad][t_pad] transposed, C =
 * product [t_pad][n_pad]. These are the layouts of its indirect kernel, and all dimensions are multiples of its tiles,
 * so it runs that one kernel with no copies of its own, and each result is one chain of multiply-adds over k whatever
 * stands beside it: a row's bits do not depend on the number of rows. Its other ("direct") kernel for small sizes is
 * switched off for the same reason.
 */
#include "kvr_ocl.h"

#include <clblast_c.h>

#include "kvr_checked.h"

/* Padding of weight rows (n), activation rows (t), columns (k): whole tiles. */
typedef struct units {
    uint32_t n, t, k;
} units;

/* Parameter sets for its Xgemm. */
enum { MWG = 6, NWG = 9, KWG = 2, N_NAMES = 16 };
static const char *const parameter_names[N_NAMES] = {"GEMMK", "KREG", "KWG", "KWI", "MDIMA", "MDIMC", "MWG", "NDIMB",
                                                     "NDIMC", "NWG",  "SA",  "SB",  "STRM",  "STRN",  "VWM", "VWN"};
static const size_t sets[][N_NAMES] = {
    /* Tuned on PoCL: work-groups of one, a 32 x 8 tile in registers, no local memory. 65-100 GFLOP/s on two AVX-512
     * cores where CLBlast's values for an unknown device give 11-16. */
    {0, 1, 16, 2, 1, 1, 32, 1, 1, 8, 0, 0, 0, 0, 8, 4},
    /* 8 x 8 work-items, both operands in local memory: GPUs that CLBlast's table does not know. */
    {0, 1, 16, 2, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 4, 4},
    /* The same without local memory (Mali, whose local memory is main memory). */
    {0, 1, 16, 2, 8, 8, 64, 8, 8, 64, 0, 0, 0, 0, 4, 4},
};
#define N_SETS (sizeof sets / sizeof sets[0])
#define OWN_TABLE 1u

/* NULL: CLBlast's own table. */
static const size_t *set_of(const kvr_opencl *cl) {
    const uint32_t tuned = cl->tuning.clblast_set;
    if (tuned == OWN_TABLE || tuned > OWN_TABLE + N_SETS) return NULL;
    if (tuned > OWN_TABLE) return sets[tuned - OWN_TABLE - 1u];
    return cl->limits.is_cpu ? sets[0] : NULL;
}

static units units_of(const kvr_opencl *cl) {
    const size_t *set = set_of(cl);
    const units table = {128, 128, 32}; /* multiples of every tile in CLBlast's tables (GEMMK 0) */
    if (set == NULL) return table;
    const units own = {(uint32_t)set[MWG], (uint32_t)set[NWG], (uint32_t)set[KWG]};
    return own;
}

static uint64_t pad(uint64_t value, uint32_t unit) {
    return kvri_ceil_div(value, unit) * unit;
}

static CLBlastStatusCode temp_size(const kvr_opencl *cl, size_t n, size_t t, size_t k, size_t *out_bytes) {
    cl_command_queue queue = cl->compute;
    return CLBlastSGemmTempBufferSize(CLBlastLayoutColMajor, CLBlastTransposeNo, CLBlastTransposeYes, n, t, k, 0, n, 0,
                                      t, 0, n, &queue, out_bytes);
}

/*
 * Overriding parameters drops CLBlast's compiled kernels of that device, also those that another session of this
 * process uses, so it is done once: the size that CLBlast wants for a shape that fits no tile tells whether it was.
 */
void kvri_ocl_clblast_prepare(kvr_opencl *cl) {
    static const char *const route_names[] = {"XGEMM_MIN_INDIRECT_SIZE"};
    static const size_t route_values[] = {0};
    const size_t *set = set_of(cl);
    const units unit = units_of(cl);
    const size_t n = 33;
    const size_t t = 9;
    const size_t k = 17;
    size_t bytes = 0;
    const CLBlastStatusCode asked = temp_size(cl, n, t, k, &bytes);
    /* A, B and C padded to the tiles. The direct kernel would want nothing. */
    const uint64_t ours = sizeof(float) * (pad(n, unit.n) * pad(k, unit.k) + pad(t, unit.t) * pad(k, unit.k) +
                                           pad(n, unit.n) * pad(t, unit.t));
    if (asked == CLBlastSuccess && (set != NULL ? bytes == ours : bytes != 0)) return;
    CLBlastStatusCode status = CLBlastSuccess;
    if (set != NULL)
        status = CLBlastOverrideParameters(cl->device, "Xgemm", CLBlastPrecisionSingle, N_NAMES,
                                           (const char **)parameter_names, set);
    if (status == CLBlastSuccess)
        status = CLBlastOverrideParameters(cl->device, "GemmRoutine", CLBlastPrecisionSingle, 1,
                                           (const char **)route_names, route_values);
    if (status == CLBlastSuccess) return;
    kvri_ocl_log(cl, KVR_LOG_WARN, "CLBlast does not take its tuning parameters: the own product kernel is used");
    cl->gemm = KVR_OPENCL_GEMM_OWN;
}

static uint64_t row_chunk(const kvr_opencl *cl, uint32_t batch_tokens) {
    return pad(kvri_min(batch_tokens, KVRI_OCL_ROW_CHUNK), units_of(cl).t);
}

/* How a weight [rows][cols] is cut. */
typedef struct split {
    uint32_t k_pad;
    uint32_t panel_cols; /* rows of the weight per panel, a multiple of the padding unit */
} split;

static split split_of(const kvr_opencl *cl, uint32_t batch_tokens, uint32_t cols) {
    const units unit = units_of(cl);
    const uint64_t k_pad = pad(cols, unit.k);
    uint64_t longest = k_pad;
    if (row_chunk(cl, batch_tokens) > longest) longest = row_chunk(cl, batch_tokens);
    uint64_t panel_cols = KVRI_OCL_PANEL_BYTES / (longest * sizeof(float)) / unit.n * unit.n;
    if (panel_cols == 0) panel_cols = unit.n;
    const split whole = {(uint32_t)k_pad, (uint32_t)panel_cols};
    return whole;
}

static void grow(uint64_t *bytes, uint64_t rows, uint64_t cols) {
    const uint64_t wanted = rows * cols * sizeof(float); /* rows and cols are below 2^33, one of them below 2^24 */
    if (wanted > *bytes) *bytes = wanted;
}

kvr_status kvri_ocl_clblast_scratch(const kvr_opencl *cl, const kvr_backend_need *need, uint64_t *scratch_bytes,
                                    kvr_error *error) {
    const units unit = units_of(cl);
    const uint64_t t_pad = row_chunk(cl, need->batch_tokens);
    uint64_t asked_n = 0;
    uint64_t asked_k = 0;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        if (desc->role != KVR_ROLE_MATRIX ||
            !kvri_ocl_matmul_uses_clblast(cl, kvri_ocl_type_of(desc->dtype), desc->rows))
            continue;
        const split cut = split_of(cl, need->batch_tokens, desc->cols);
        const uint64_t n_pad = pad(kvri_min(desc->rows, cut.panel_cols), unit.n);
        grow(&scratch_bytes[KVRI_OCL_PANEL], n_pad, cut.k_pad);
        grow(&scratch_bytes[KVRI_OCL_PACKED], t_pad, cut.k_pad);
        grow(&scratch_bytes[KVRI_OCL_PRODUCT], t_pad, n_pad);
        if (n_pad == asked_n && cut.k_pad == asked_k) continue;
        asked_n = n_pad;
        asked_k = cut.k_pad;
        size_t temp = 0;
        if (temp_size(cl, (size_t)n_pad, (size_t)t_pad, cut.k_pad, &temp) != CLBlastSuccess)
            return kvri_fail(error, KVR_ERR_DEVICE, "opencl",
                             "CLBlast does not tell its scratch size: choose the own product kernel (gemm = own)");
        if (temp > scratch_bytes[KVRI_OCL_TEMP]) scratch_bytes[KVRI_OCL_TEMP] = temp;
    }
    return KVR_OK;
}

static CLBlastStatusCode clblast_product(const kvr_opencl *cl, const kvri_ocl_session *session, size_t n, size_t t,
                                         size_t k) {
    cl_command_queue queue = cl->compute;
    return CLBlastSgemmWithTempBuffer(CLBlastLayoutColMajor, CLBlastTransposeNo, CLBlastTransposeYes, n, t, k, 1.0f,
                                      session->scratch[KVRI_OCL_PANEL], 0, n, session->scratch[KVRI_OCL_PACKED], 0, t,
                                      0.0f, session->scratch[KVRI_OCL_PRODUCT], 0, n, &queue, NULL,
                                      session->scratch[KVRI_OCL_TEMP]);
}

/* Small whole numbers, so that the product is exact in any order of summation. */
static float known_a(uint32_t k, uint32_t n) {
    return (float)((k * 7u + n * 3u) % 5u) - 2.0f;
}
static float known_b(uint32_t k, uint32_t t) {
    return (float)((k * 3u + t * 5u) % 7u) - 3.0f;
}

static cl_int write_known(const kvr_opencl *cl, cl_mem buffer, float (*value)(uint32_t, uint32_t), uint32_t rows,
                          uint32_t cols) {
    float row[128];
    cl_int native = CL_SUCCESS;
    for (uint32_t k = 0; k < rows && native == CL_SUCCESS; k++) {
        for (uint32_t i = 0; i < cols; i++) row[i] = value(k, i);
        native = clEnqueueWriteBuffer(cl->compute, buffer, CL_TRUE, sizeof(float) * k * cols, sizeof(float) * cols, row,
                                      0, NULL, NULL);
    }
    return native;
}

static int is_known_product(const kvr_opencl *cl, cl_mem product, units unit) {
    float row[128];
    for (uint32_t t = 0; t < unit.t; t++) {
        if (clEnqueueReadBuffer(cl->compute, product, CL_TRUE, sizeof(float) * t * unit.n, sizeof(float) * unit.n, row,
                                0, NULL, NULL) != CL_SUCCESS)
            return 0;
        for (uint32_t n = 0; n < unit.n; n++) {
            float sum = 0.0f;
            for (uint32_t k = 0; k < unit.k; k++) sum += known_a(k, n) * known_b(k, t);
            if (row[n] != sum) return 0;
        }
    }
    return 1;
}

kvr_status kvri_ocl_clblast_check(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error) {
    session->use_clblast = 0;
    if (!kvri_ocl_matmul_may_use_clblast(cl) || session->scratch[KVRI_OCL_PANEL] == NULL) return KVR_OK;
    const units unit = units_of(cl);
    if (write_known(cl, session->scratch[KVRI_OCL_PANEL], known_a, unit.k, unit.n) != CL_SUCCESS ||
        write_known(cl, session->scratch[KVRI_OCL_PACKED], known_b, unit.k, unit.t) != CL_SUCCESS)
        return kvri_fail(error, KVR_ERR_DEVICE, "opencl", "scratch of the tiled product cannot be written");
    const CLBlastStatusCode status = clblast_product(cl, session, unit.n, unit.t, unit.k);
    if (status == CLBlastSuccess && is_known_product(cl, session->scratch[KVRI_OCL_PRODUCT], unit)) {
        session->use_clblast = 1;
        return KVR_OK;
    }
    kvri_ocl_log(cl, KVR_LOG_WARN, "CLBlast fails its check on this device: the own product kernel is used");
    return KVR_OK;
}

static kvr_status unpack(kvr_opencl *cl, uint32_t weight, uint32_t first, uint32_t n_pad, uint32_t k_pad) {
    kvri_ocl_session *session = cl->session;
    const kvri_ocl_tensor *tensor = &session->tensors[weight];
    if (n_pad != 0 && session->panel_tensor == weight && session->panel_first == first) return KVR_OK;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_UNPACK + tensor->type);
    kvri_ocl_call_weight(&call, tensor);
    kvri_ocl_call_u32(&call, first / 16u);
    kvri_ocl_call_u32(&call, (uint32_t)kvri_ceil_div(tensor->rows, 16));
    kvri_ocl_call_u32(&call, n_pad);
    kvri_ocl_call_u32(&call, k_pad);
    kvri_ocl_call_mem(&call, session->scratch[KVRI_OCL_PANEL]);
    session->panel_tensor = session->n_tensors;
    KVRI_TRY(kvri_ocl_call_run(&call, n_pad / 16u, kvri_ceil_div(k_pad, 256), "unpack could not be enqueued"));
    session->panel_tensor = weight;
    session->panel_first = first;
    return KVR_OK;
}

static kvr_status pack(kvr_opencl *cl, kvr_view src, uint32_t rows, uint32_t t_pad, uint32_t k_pad) {
    const kvri_ocl_tensor *tensor = &cl->session->tensors[src.tensor];
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_PACK_ROWS);
    kvri_ocl_call_mem(&call, tensor->buffer);
    kvri_ocl_call_u32(&call, src.row);
    kvri_ocl_call_u32(&call, tensor->cols);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_u32(&call, k_pad);
    kvri_ocl_call_u32(&call, t_pad);
    kvri_ocl_call_mem(&call, cl->session->scratch[KVRI_OCL_PACKED]);
    return kvri_ocl_call_run(&call, t_pad / 8u, kvri_ceil_div(k_pad, 256), "pack_rows could not be enqueued");
}

/* Where a panel's result goes: columns first .. first + count of dst. */
typedef struct target {
    kvr_view dst;
    uint32_t first, count;
    int add;
} target;

static kvr_status unpad(kvr_opencl *cl, const target *to, uint32_t n_pad, uint32_t rows) {
    const kvri_ocl_tensor *tensor = &cl->session->tensors[to->dst.tensor];
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_UNPAD);
    kvri_ocl_call_mem(&call, cl->session->scratch[KVRI_OCL_PRODUCT]);
    kvri_ocl_call_u32(&call, n_pad);
    kvri_ocl_call_u32(&call, to->count);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_mem(&call, tensor->buffer);
    kvri_ocl_call_u32(&call, to->dst.row);
    kvri_ocl_call_u32(&call, tensor->cols);
    kvri_ocl_call_u32(&call, to->first);
    kvri_ocl_call_u32(&call, to->add != 0);
    return kvri_ocl_call_run(&call, kvri_ceil_div(to->count, 256), rows, "unpad could not be enqueued");
}

kvr_status kvri_ocl_clblast_run(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, int add) {
    const kvri_ocl_session *session = cl->session;
    const kvri_ocl_tensor *tensor = &session->tensors[weight];
    const units unit = units_of(cl);
    const split cut = split_of(cl, session->batch_tokens, tensor->cols);
    for (uint32_t first = 0; first < tensor->rows; first += cut.panel_cols) {
        const uint32_t count = (uint32_t)kvri_min(cut.panel_cols, tensor->rows - first);
        const uint32_t n_pad = (uint32_t)pad(count, unit.n);
        KVRI_TRY(unpack(cl, weight, first, n_pad, cut.k_pad));
        for (uint32_t t = 0; t < rows; t += KVRI_OCL_ROW_CHUNK) {
            const uint32_t here = (uint32_t)kvri_min(KVRI_OCL_ROW_CHUNK, rows - t);
            const kvr_view from = {src.tensor, src.row + t};
            const target to = {{dst.tensor, dst.row + t}, first, count, add};
            const uint32_t t_pad = (uint32_t)pad(here, unit.t);
            if (first == 0 || rows > KVRI_OCL_ROW_CHUNK) KVRI_TRY(pack(cl, from, here, t_pad, cut.k_pad));
            const CLBlastStatusCode status = clblast_product(cl, session, n_pad, t_pad, cut.k_pad);
            if (status != CLBlastSuccess) return kvri_ocl_broken(cl, status, "CLBlast reported a failure");
            KVRI_TRY(unpad(cl, &to, n_pad, here));
        }
    }
    return KVR_OK;
}

kvr_status kvri_ocl_clblast_warm_up(kvr_opencl *cl, kvr_view work, uint32_t weight) {
    const target to = {work, 0, 0, 0};
    KVRI_TRY(unpack(cl, weight, 0, 0, 0));
    cl->session->panel_tensor = cl->session->n_tensors;
    KVRI_TRY(pack(cl, work, 0, 0, 0));
    return unpad(cl, &to, 0, 0);
}
