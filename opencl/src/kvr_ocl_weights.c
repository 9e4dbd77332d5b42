/*
 * kvr_ocl_weights.c - weights at open: vectors as they are, matrices through a staging buffer into the layout that the
 * kernels read (kernels/plain.cl, quantised.cl). The file stays the only other copy.
 */
#include "kvr_ocl.h"

#include "kvr_checked.h"

#define STAGING_BYTES (4u << 20)
#define CHUNK 256u /* KVR_CHUNK of common.cl */

/* Whole strips of the matrix that fit the staging buffer, at least one. */
static uint32_t strips_at_a_time(uint64_t row_bytes) {
    const uint64_t strips = STAGING_BYTES / (16u * row_bytes);
    return strips == 0 ? 1 : (uint32_t)strips;
}

uint64_t kvri_ocl_weights_staging(const kvr_backend_need *need) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        if (desc->role != KVR_ROLE_MATRIX || desc->rows == 0) continue;
        const uint64_t row_bytes = kvri_ocl_type_row_bytes(kvri_ocl_type_of(desc->dtype), desc->cols);
        const uint64_t rows = kvri_min(desc->rows, 16ull * strips_at_a_time(row_bytes));
        if (rows * row_bytes > most) most = rows * row_bytes;
    }
    return most;
}

static kvr_status unwritten(kvr_error *error, cl_int native) {
    return kvri_ocl_fail(error, KVR_ERR_NOMEM, "a weight could not be written to the device: it may be out of memory",
                         native);
}

/* In the operators' queue: after the kernel that still reads the rows before. */
static cl_int stage(const kvr_opencl *cl, cl_mem staging, const kvri_ocl_tensor *tensor, const kvr_tensor_desc *desc,
                    uint32_t first, uint32_t rows) {
    const size_t file_bytes = (size_t)(desc->bytes / desc->rows);
    const uint8_t *from = (const uint8_t *)desc->data + first * file_bytes;
    const size_t bytes = (size_t)rows * tensor->row_bytes;
    if (!kvri_ocl_convert_is_needed(desc->dtype))
        return clEnqueueWriteBuffer(cl->compute, staging, CL_TRUE, 0, bytes, from, 0, NULL, NULL);
    cl_int native = CL_SUCCESS;
    uint8_t *to = clEnqueueMapBuffer(cl->compute, staging, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, bytes, 0, NULL,
                                     NULL, &native);
    if (native != CL_SUCCESS) return native;
    for (uint32_t r = 0; r < rows; r++)
        kvri_ocl_convert_row(desc->dtype, from + r * file_bytes, tensor->cols, to + (size_t)r * tensor->row_bytes);
    return clEnqueueUnmapMemObject(cl->compute, staging, to, 0, NULL, NULL);
}

static kvr_status upload_matrix(kvr_opencl *cl, kvri_ocl_session *session, const kvri_ocl_tensor *tensor,
                                const kvr_tensor_desc *desc, kvr_error *error) {
    const cl_mem staging = session->scratch[KVRI_OCL_STAGING];
    const uint32_t step = 16u * strips_at_a_time(tensor->row_bytes);
    for (uint32_t row = 0; row < tensor->rows; row += step) {
        const uint32_t rows = (uint32_t)kvri_min(step, tensor->rows - row);
        const cl_int native = stage(cl, staging, tensor, desc, row, rows);
        if (native != CL_SUCCESS) return unwritten(error, native);
        kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_PACK + tensor->type);
        kvri_ocl_call_mem(&call, staging);
        kvri_ocl_call_u32(&call, tensor->row_bytes);
        kvri_ocl_call_u32(&call, rows);
        kvri_ocl_call_u32(&call, tensor->cols);
        kvri_ocl_call_weight(&call, tensor);
        kvri_ocl_call_u32(&call, row / 16u);
        if (kvri_ocl_call_run(&call, kvri_ceil_div(rows, 16), kvri_ceil_div(tensor->k_pad, CHUNK),
                              "pack could not be enqueued") != KVR_OK)
            return unwritten(error, (cl_int)cl->last.native);
    }
    return KVR_OK;
}

kvr_status kvri_ocl_weights_upload(kvr_opencl *cl, kvri_ocl_session *session, const kvr_backend_need *need,
                                   kvr_error *error) {
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        const kvri_ocl_tensor *tensor = &session->tensors[i];
        if (desc->role != KVR_ROLE_MATRIX && desc->role != KVR_ROLE_VECTOR) continue;
        if (desc->data == NULL) return kvri_fail(error, KVR_ERR_ARG, "opencl", "a weight without data");
        if (desc->role == KVR_ROLE_MATRIX) {
            KVRI_TRY(upload_matrix(cl, session, tensor, desc, error));
            continue;
        }
        const cl_int native = clEnqueueWriteBuffer(cl->compute, tensor->buffer, CL_TRUE, 0, (size_t)desc->bytes,
                                                   desc->data, 0, NULL, NULL);
        if (native != CL_SUCCESS) return unwritten(error, native);
    }
    const cl_int native = clFinish(cl->compute);
    if (native != CL_SUCCESS) return unwritten(error, native);
    if (session->scratch[KVRI_OCL_STAGING] != NULL) clReleaseMemObject(session->scratch[KVRI_OCL_STAGING]);
    session->scratch[KVRI_OCL_STAGING] = NULL;
    return KVR_OK;
}
