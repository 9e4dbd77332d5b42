/*
 * kvr_ocl_memory.c - the list of device buffers of a need: every tensor, then the scratch of the tiled product. The
 * same layout is measured and taken.
 */
#include "kvr_ocl.h"

#include <string.h>

#include "kvr_carve.h"
#include "kvr_checked.h"

static int type_fits_role(const kvr_tensor_desc *desc) {
    const uint32_t type = kvri_ocl_type_of(desc->dtype);
    switch ((kvr_tensor_role)desc->role) {
    case KVR_ROLE_MATRIX: return type < KVRI_OCL_DTYPES;
    case KVR_ROLE_VECTOR:
    case KVR_ROLE_KV: return type <= KVRI_OCL_F16;
    case KVR_ROLE_WORK: return type == KVRI_OCL_F32;
    }
    return 0;
}

/* *out_bytes: of its buffer. */
static kvr_status check_tensor(const kvr_opencl *cl, const kvr_tensor_desc *desc, uint64_t *out_bytes,
                               kvr_error *error) {
    uint64_t bytes = 0;
    if (!type_fits_role(desc))
        return kvri_fail_s(
            error, KVR_ERR_TYPE, "opencl",
            "matrices are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K or IQ4_NL, all else "
            "F32 or F16; not",
            kvr_dtype_name(desc->dtype), strlen(kvr_dtype_name(desc->dtype)));
    /* Kernels count bytes of a row in 32 bits. */
    if (desc->rows == 0 || desc->cols == 0 || desc->cols > (1u << 28) ||
        !kvri_mul(desc->rows, kvr_dtype_row_bytes(desc->dtype, desc->cols), &bytes) || bytes != desc->bytes ||
        bytes == 0)
        return kvri_fail_n(error, KVR_ERR_ARG, "opencl", "a tensor's bytes are not rows * row bytes", bytes,
                           desc->bytes);
    uint32_t scale_at = 0;
    if (desc->role == KVR_ROLE_MATRIX)
        bytes = kvri_ocl_type_bytes(kvri_ocl_type_of(desc->dtype), desc->rows, desc->cols, &scale_at);
    /* kernels count bytes of a matrix in 32 bits */
    const uint64_t most = kvri_min(cl->limits.max_alloc_bytes, UINT32_MAX);
    if (bytes > most)
        return kvri_fail_n(
            error, KVR_ERR_NOMEM, "opencl",
            "a tensor is larger than one buffer of this device can be (CL_DEVICE_MAX_MEM_ALLOC_SIZE): use a "
            "smaller tensor type, a smaller ctx_tokens or another device",
            bytes, most);
    *out_bytes = bytes;
    return KVR_OK;
}

static int host_layout(const kvr_backend_need *need, kvri_carve *carve, kvri_ocl_session **out_session,
                       kvri_ocl_tensor **out_tensors) {
    *out_session = kvri_carve_take(carve, 1, sizeof(kvri_ocl_session));
    *out_tensors = kvri_carve_take(carve, need->n_tensors, sizeof(kvri_ocl_tensor));
    return !carve->overflow;
}

kvr_status kvri_ocl_memory_layout(const kvr_opencl *cl, const kvr_backend_need *need, kvri_ocl_layout *out,
                                  kvr_error *error) {
    memset(out, 0, sizeof *out);
    if (need == NULL || need->tensors == NULL || need->n_tensors == 0 || need->batch_tokens == 0 ||
        need->n_kv_heads == 0 || need->n_heads % need->n_kv_heads != 0)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "a need without tensors, rows or heads");
    if (need->head_dim == 0 || need->head_dim % 2 != 0 || need->head_dim > 1024)
        return kvri_fail_n(error, KVR_ERR_UNSUPPORTED, "opencl",
                           "head_dim must be even and at most 1024: use the reference backend", need->head_dim, 1024);
    if (need->kv_8bit && need->n_kv_heads * need->head_dim % 32 != 0)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "rows of keys of 8 bits are multiples of 32");
    int fits = 1;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        uint64_t bytes = 0;
        KVRI_TRY(check_tensor(cl, desc, &bytes, error));
        uint64_t *sum = &out->weight_bytes;
        if (desc->role == KVR_ROLE_KV) sum = &out->kv_bytes;
        if (desc->role == KVR_ROLE_WORK) sum = &out->work_bytes;
        fits = fits && kvri_add(*sum, bytes, sum);
    }
    KVRI_TRY(kvri_ocl_matmul_scratch(cl, need, out->scratch_bytes, error));
    kvri_carve carve = {NULL, 0, 0};
    kvri_ocl_session *session = NULL;
    kvri_ocl_tensor *tensors = NULL;
    if (!fits || !host_layout(need, &carve, &session, &tensors))
        return kvri_fail(error, KVR_ERR_NOMEM, "opencl", "the sizes of this model do not fit 64 bits");
    out->host_bytes = carve.used;
    return KVR_OK;
}

/* Where a buffer is plain memory of this process the port may give it large pages, before it is touched: every token
 * reads all weights, and each page of 4 KiB costs a walk through the tables. */
#define LARGE_BYTES (1u << 20)

static cl_int offer_large_pages(kvr_opencl *cl, cl_mem buffer, uint64_t bytes) {
    cl_int native = CL_SUCCESS;
    if (cl->port.large_pages == NULL || !cl->limits.is_pocl || bytes < LARGE_BYTES) return CL_SUCCESS;
    void *at = clEnqueueMapBuffer(cl->compute, buffer, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, (size_t)bytes, 0,
                                  NULL, NULL, &native);
    if (native != CL_SUCCESS) return native;
    cl->port.large_pages(cl->port.user, at, (size_t)bytes);
    return clEnqueueUnmapMemObject(cl->compute, buffer, at, 0, NULL, NULL);
}

/* Filling takes the memory now: some drivers give a buffer no memory before its first use. Zeros also keep the padding
 * of the tiled product finite. */
static kvr_status take(kvr_opencl *cl, uint64_t bytes, int fill, cl_mem_flags flags, cl_mem *out, kvr_error *error) {
    static const char full[] = "the device is out of memory: lower ctx_tokens or batch_tokens";
    const cl_uint zero = 0;
    cl_int native = CL_SUCCESS;
    *out = clCreateBuffer(cl->context, flags, (size_t)bytes, NULL, &native);
    if (native == CL_SUCCESS) native = offer_large_pages(cl, *out, bytes);
    if (native != CL_SUCCESS) return kvri_ocl_fail(error, KVR_ERR_NOMEM, full, native);
    if (!fill) return KVR_OK;
    const size_t pattern = bytes % sizeof zero == 0 ? sizeof zero : 1;
    native = clEnqueueFillBuffer(cl->compute, *out, &zero, pattern, 0, (size_t)bytes, 0, NULL, NULL);
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_fail(error, KVR_ERR_NOMEM, full, native);
}

kvr_status kvri_ocl_memory_open(kvr_opencl *cl, const kvr_backend_need *need, const kvri_ocl_layout *layout, void *mem,
                                kvri_ocl_session **out, kvr_error *error) {
    kvri_carve carve = {mem, 0, 0};
    kvri_ocl_session *session = NULL;
    kvri_ocl_tensor *tensors = NULL;
    host_layout(need, &carve, &session, &tensors);
    memset(session, 0, sizeof *session);
    memset(tensors, 0, need->n_tensors * sizeof *tensors);
    session->tensors = tensors;
    session->n_tensors = need->n_tensors;
    session->batch_tokens = need->batch_tokens;
    session->ctx_tokens = need->ctx_tokens;
    session->n_heads = need->n_heads;
    session->n_kv_heads = need->n_kv_heads;
    session->head_dim = need->head_dim;
    session->kv_8bit = need->kv_8bit;
    session->panel_tensor = need->n_tensors;
    session->quant_view.tensor = need->n_tensors;
    session->pairs_view.tensor = need->n_tensors;
    session->quant_cols = (uint32_t)(layout->scratch_bytes[KVRI_OCL_QUANT] / need->batch_tokens);
    *out = session;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        const int is_weight = desc->role == KVR_ROLE_MATRIX || desc->role == KVR_ROLE_VECTOR;
        kvri_ocl_tensor *tensor = &tensors[i];
        uint64_t bytes = desc->bytes;
        tensor->rows = desc->rows;
        tensor->cols = desc->cols;
        tensor->row_bytes = (uint32_t)kvr_dtype_row_bytes(desc->dtype, desc->cols);
        tensor->type = kvri_ocl_type_of(desc->dtype);
        tensor->role = desc->role;
        tensor->k_pad = (uint32_t)kvri_ceil_div(desc->cols, 32) * 32u;
        if (desc->role == KVR_ROLE_KV) session->kv_types |= 1u << tensor->type;
        if (desc->role == KVR_ROLE_MATRIX) {
            session->weight_types |= 1u << tensor->type;
            tensor->row_bytes = (uint32_t)kvri_ocl_type_row_bytes(tensor->type, desc->cols);
            bytes = kvri_ocl_type_bytes(tensor->type, desc->rows, desc->cols, &tensor->scale_at);
        }
        KVRI_TRY(take(cl, bytes, !is_weight, CL_MEM_READ_WRITE, &tensor->buffer, error));
    }
    for (uint32_t i = 0; i < KVRI_OCL_SCRATCHES; i++)
        if (layout->scratch_bytes[i] != 0)
            KVRI_TRY(take(cl, layout->scratch_bytes[i], 1, CL_MEM_READ_WRITE, &session->scratch[i], error));
    const cl_int native = clFinish(cl->compute);
    if (native != CL_SUCCESS)
        return kvri_ocl_fail(error, KVR_ERR_NOMEM,
                             "the device could not provide its buffers: lower ctx_tokens or batch_tokens", native);
    return KVR_OK;
}

void kvri_ocl_memory_close(kvri_ocl_session *session) {
    for (uint32_t i = 0; i < session->n_tensors; i++)
        if (session->tensors[i].buffer != NULL) clReleaseMemObject(session->tensors[i].buffer);
    for (uint32_t i = 0; i < KVRI_OCL_SCRATCHES; i++)
        if (session->scratch[i] != NULL) clReleaseMemObject(session->scratch[i]);
}
