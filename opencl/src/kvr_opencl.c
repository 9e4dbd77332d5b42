/*
 * kvr_opencl.c - the public object: open, the backend table, close, and how failures are kept.
 */
#include "kvr_ocl.h"

#include "kvr_checked.h"

#include <string.h>

size_t kvr_opencl_bytes(void) {
    return sizeof(kvr_opencl);
}

void kvri_ocl_log(const kvr_opencl *cl, kvr_log_level level, const char *text) {
    if (cl->port.log != NULL) cl->port.log(cl->port.user, level, "opencl", text);
}

kvr_status kvri_ocl_fail(kvr_error *error, kvr_status status, const char *text, cl_int native) {
    if (error == NULL || error->status != KVR_OK) return status;
    kvri_fail(error, status, "opencl", text);
    error->native = native;
    return status;
}

kvr_status kvri_ocl_broken(kvr_opencl *cl, cl_int native, const char *text) {
    memset(&cl->last, 0, sizeof cl->last);
    return kvri_ocl_fail(&cl->last, KVR_ERR_DEVICE, text, native);
}

kvr_status kvri_ocl_refused(kvr_opencl *cl, kvr_status status, const char *text) {
    memset(&cl->last, 0, sizeof cl->last);
    return kvri_ocl_fail(&cl->last, status, text, 0);
}

static void release(kvr_opencl *cl) {
    if (cl->download != NULL) clReleaseCommandQueue(cl->download);
    if (cl->upload != NULL) clReleaseCommandQueue(cl->upload);
    if (cl->compute != NULL) clReleaseCommandQueue(cl->compute);
    if (cl->context != NULL) clReleaseContext(cl->context);
    if (cl->device != NULL && cl->device != cl->root) clReleaseDevice(cl->device);
}

/* Queues: operators run in order on one; transfers have their own, so that neither direction waits for the other or
 * for operators enqueued before. */
static kvr_status make(kvr_opencl *cl, const kvr_opencl_config *config, kvr_error *error) {
    KVRI_TRY(kvri_ocl_device_choose(cl, config->device, error));
    if (config->max_compute_units != 0) KVRI_TRY(kvri_ocl_device_divide(cl, config->max_compute_units, error));
    kvri_ocl_tuning_check(cl);
    kvri_ocl_device_limits(cl);
    cl_int native = CL_SUCCESS;
    cl->context = clCreateContext(NULL, 1, &cl->device, NULL, NULL, &native);
    if (native != CL_SUCCESS)
        return kvri_ocl_fail(error, KVR_ERR_DEVICE, "the driver makes no context for this device: choose another",
                             native);
    cl_command_queue *const queues[] = {&cl->compute, &cl->upload, &cl->download};
    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        *queues[i] = clCreateCommandQueue(cl->context, cl->device, 0, &native);
        if (native != CL_SUCCESS)
            return kvri_ocl_fail(error, KVR_ERR_DEVICE, "the driver makes no command queue: choose another device",
                                 native);
    }
    if (kvri_ocl_matmul_may_use_clblast(cl)) kvri_ocl_clblast_prepare(cl);
    return KVR_OK;
}

kvr_status kvr_opencl_open(void *mem, size_t mem_bytes, const kvr_opencl_config *config, const kvr_port *port,
                           kvr_opencl **out, kvr_error *error) {
    static const kvr_opencl_config defaults = {sizeof(kvr_opencl_config), NULL, 0, NULL, 0, 0, 0, NULL};
    if (config == NULL) config = &defaults;
    if (!kvri_size_fits(config->struct_bytes, sizeof *config))
        return kvri_fail_n(error, KVR_ERR_ARG, "opencl", KVRI_OTHER_SIZE, sizeof *config, config->struct_bytes);
    if (out == NULL || mem == NULL || ((uintptr_t)mem & 63u) != 0)
        return kvri_fail(error, KVR_ERR_ARG, "opencl",
                         "kvr_opencl_open wants 64-byte aligned memory and a place for the object");
    if (mem_bytes < sizeof(kvr_opencl))
        return kvri_fail_n(error, KVR_ERR_NOMEM, "opencl", "the object needs kvr_opencl_bytes() bytes",
                           sizeof(kvr_opencl), mem_bytes);
    if (config->gemm > KVR_OPENCL_GEMM_OWN)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "gemm is auto, clblast or own (0, 1, 2)");
    if (config->precision > KVR_OPENCL_PRECISION_INTEGER)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "precision is fast, exact or integer (0, 1, 2)");
    kvr_opencl cl;
    memset(&cl, 0, sizeof cl);
    cl.cache_dir = config->cache_dir;
    cl.memory_limit_bytes = config->memory_limit_bytes;
    cl.gemm = config->gemm;
    cl.precision = config->precision;
    if (config->tuning != NULL) cl.tuning = *config->tuning;
    if (port != NULL) cl.port = *port;
    const kvr_status status = make(&cl, config, error);
    if (status != KVR_OK) {
        release(&cl);
        return status;
    }
    memcpy(mem, &cl, sizeof cl);
    *out = mem;
    return KVR_OK;
}

void kvr_opencl_backend(kvr_opencl *opencl, kvr_backend *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = opencl;
    out->name = "opencl";
    kvri_ocl_session_table(out);
    kvri_ocl_ops_table(out);
    kvri_ocl_transfer_table(out);
}

void kvr_opencl_device(const kvr_opencl *opencl, kvr_opencl_info *out) {
    *out = opencl->info;
}

void kvr_opencl_close(kvr_opencl *opencl) {
    if (opencl == NULL || opencl->context == NULL) return;
    kvri_ocl_session_close(opencl);
    release(opencl);
    memset(opencl, 0, sizeof *opencl);
}
