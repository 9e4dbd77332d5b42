/*
 * kvr_ocl_session.c - measure, open and close of the backend table.
 */
#include "kvr_ocl.h"

#include <string.h>

#include "kvr_checked.h"

/* Resident memory of a process with one small session on PoCL 3.1 and on rusticl/llvmpipe: 245-265 MiB at the first
 * start, when they compile, about 100 MiB (PoCL) later. For GPUs a guess: half of it is the driver's compiler. */
#define DRIVER_BYTES_CPU (256u << 20)
#define DRIVER_BYTES_OTHER (128u << 20)

static kvr_status measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    const kvr_opencl *cl = user;
    kvri_ocl_layout layout;
    KVRI_TRY(kvri_ocl_memory_layout(cl, need, &layout, error));
    memset(out, 0, sizeof *out);
    out->host_bytes = layout.host_bytes;
    out->weight_bytes = layout.weight_bytes;
    out->kv_bytes = layout.kv_bytes;
    out->work_bytes = layout.work_bytes;
    for (uint32_t i = 0; i < KVRI_OCL_SCRATCHES; i++) out->scratch_bytes += layout.scratch_bytes[i];
    out->driver_bytes = cl->limits.is_cpu ? DRIVER_BYTES_CPU : DRIVER_BYTES_OTHER;
    return KVR_OK;
}

static kvr_status check_room(const kvr_opencl *cl, const kvr_backend_size *size, kvr_error *error) {
    uint64_t total = 0;
    if (!kvri_add(size->weight_bytes, size->kv_bytes, &total) || !kvri_add(total, size->work_bytes, &total) ||
        !kvri_add(total, size->scratch_bytes, &total))
        return kvri_fail(error, KVR_ERR_NOMEM, "opencl", "the sizes of this model do not fit 64 bits");
    if (cl->memory_limit_bytes != 0 && total > cl->memory_limit_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, "opencl",
                           "the session needs more device memory than memory_limit_bytes allows: lower ctx_tokens or "
                           "batch_tokens, or raise the limit",
                           total, cl->memory_limit_bytes);
    if (total > cl->limits.global_mem_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, "opencl",
                           "the session needs more memory than the device has: lower ctx_tokens or use a smaller model",
                           total, cl->limits.global_mem_bytes);
    return KVR_OK;
}

/* The kernels run once before open returns, so that no driver compiles later. */
static kvr_status prepare(kvr_opencl *cl, kvri_ocl_session *session, const kvr_backend_need *need, kvr_error *error) {
    KVRI_TRY(kvri_ocl_program_open(cl, session, error));
    KVRI_TRY(kvri_ocl_weights_upload(cl, session, need, error));
    KVRI_TRY(kvri_ocl_clblast_check(cl, session, error));
    const kvr_status status = kvri_ocl_ops_warm_up(cl);
    if (status != KVR_OK) return kvri_ocl_fail(error, status, cl->last.text, (cl_int)cl->last.native);
    KVRI_TRY(kvri_ocl_selfcheck(cl, need, error));
    kvri_ocl_program_keep(cl, session);
    return KVR_OK;
}

static kvr_status session_open(void *user, const kvr_backend_need *need, void *mem, size_t mem_bytes,
                               kvr_error *error) {
    kvr_opencl *cl = user;
    kvri_ocl_layout layout;
    kvr_backend_size size;
    if (cl->session != NULL)
        return kvri_fail(error, KVR_ERR_STATE, "opencl", "one object serves one session: close it first");
    KVRI_TRY(kvri_ocl_memory_layout(cl, need, &layout, error));
    KVRI_TRY(measure(cl, need, &size, error));
    if (mem == NULL || ((uintptr_t)mem & 63u) != 0)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "the backend's memory must be 64-byte aligned");
    if (mem_bytes < layout.host_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, "opencl", "the backend's host memory is smaller than measured",
                           layout.host_bytes, mem_bytes);
    KVRI_TRY(check_room(cl, &size, error));
    kvr_status status = kvri_ocl_memory_open(cl, need, &layout, mem, &cl->session, error);
    if (status == KVR_OK) status = prepare(cl, cl->session, need, error);
    if (status != KVR_OK) kvri_ocl_session_close(cl);
    return status;
}

void kvri_ocl_session_close(void *user) {
    kvr_opencl *cl = user;
    kvri_ocl_session *session = cl->session;
    if (session == NULL) return;
    /* Nothing may still run when buffers and the memory of reads go; a device that fails here fails unheard. */
    clFinish(cl->upload);
    clFinish(cl->compute);
    clFinish(cl->download);
    kvri_ocl_transfer_close(session);
    kvri_ocl_program_close(session);
    kvri_ocl_memory_close(session);
    cl->session = NULL;
}

static void explain(void *user, kvr_error *error) {
    const kvr_opencl *cl = user;
    if (error != NULL && error->status == KVR_OK) *error = cl->last;
}

void kvri_ocl_session_table(kvr_backend *out) {
    out->measure = measure;
    out->open = session_open;
    out->close = kvri_ocl_session_close;
    out->explain = explain;
}
