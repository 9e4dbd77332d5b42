/*
 * kvr_ocl_transfer.c - writes on the upload queue, reads, and a fixed pool of fences. A read that follows all operators
 * goes into their queue; one that follows a mark goes into the download queue and waits for the marker's event only, so
 * it neither waits for the operators behind the mark nor delays them.
 */
#include "kvr_ocl.h"

static const char closed[] = "the backend is not open";

/* The bytes of `rows` rows at a view, checked; NULL when outside. */
static const kvri_ocl_tensor *range_of(const kvr_opencl *cl, kvr_view view, uint32_t rows, size_t *out_at,
                                       size_t *out_bytes) {
    if (view.tensor >= cl->session->n_tensors) return NULL;
    const kvri_ocl_tensor *tensor = &cl->session->tensors[view.tensor];
    if (tensor->role == KVR_ROLE_MATRIX || view.row > tensor->rows || rows > tensor->rows - view.row) return NULL;
    *out_at = (size_t)view.row * tensor->row_bytes;
    *out_bytes = (size_t)rows * tensor->row_bytes;
    return tensor;
}

static kvr_status transfer_write(void *user, kvr_view dst, uint32_t rows, const void *src) {
    kvr_opencl *cl = user;
    size_t at = 0;
    size_t bytes = 0;
    if (cl->session == NULL) return kvri_ocl_refused(cl, KVR_ERR_STATE, closed);
    const kvri_ocl_tensor *tensor = range_of(cl, dst, rows, &at, &bytes);
    if (tensor == NULL || src == NULL) return kvri_ocl_refused(cl, KVR_ERR_ARG, "write outside a tensor");
    if (bytes == 0) return KVR_OK;
    kvri_ocl_matmul_changed(cl, dst.tensor);
    const cl_int native = clEnqueueWriteBuffer(cl->upload, tensor->buffer, CL_TRUE, at, bytes, src, 0, NULL, NULL);
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(cl, native, "a write to the device failed");
}

static kvr_status transfer_mark(void *user, kvr_mark mark) {
    kvr_opencl *cl = user;
    if (cl->session == NULL) return kvri_ocl_refused(cl, KVR_ERR_STATE, closed);
    if (mark == 0 || mark > KVR_BACKEND_MARKS) return kvri_ocl_refused(cl, KVR_ERR_ARG, "no such mark");
    cl_event *const event = &cl->session->marks[mark - 1u];
    if (*event != NULL) clReleaseEvent(*event);
    *event = NULL;
    cl_int native = clEnqueueMarkerWithWaitList(cl->compute, 0, NULL, event);
    if (native != CL_SUCCESS) {
        *event = NULL;
        return kvri_ocl_broken(cl, native, "a marker could not be enqueued");
    }
    native = clFlush(cl->compute);
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(cl, native, "the device does not take its commands");
}

static int is_mark(const kvr_opencl *cl, kvr_mark after) {
    return after == KVR_AFTER_ALL || after == KVR_AFTER_NOTHING ||
           (after <= KVR_BACKEND_MARKS && cl->session->marks[after - 1u] != NULL);
}

static kvr_status transfer_read(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after,
                                kvr_fence *out_fence) {
    kvr_opencl *cl = user;
    size_t at = 0;
    size_t bytes = 0;
    if (cl->session == NULL) return kvri_ocl_refused(cl, KVR_ERR_STATE, closed);
    const kvri_ocl_tensor *tensor = range_of(cl, src, rows, &at, &bytes);
    if (tensor == NULL || dst == NULL || out_fence == NULL)
        return kvri_ocl_refused(cl, KVR_ERR_ARG, "read outside a tensor");
    if (!is_mark(cl, after)) return kvri_ocl_refused(cl, KVR_ERR_ARG, "a read waits for a mark that was never set");
    *out_fence = 0;
    if (bytes == 0) return KVR_OK;
    uint32_t slot = 0;
    while (slot < KVR_BACKEND_FENCES && cl->session->fences[slot] != NULL) slot++;
    if (slot == KVR_BACKEND_FENCES)
        return kvri_ocl_refused(cl, KVR_ERR_STATE, "more reads outstanding than KVR_BACKEND_FENCES: ask done() first");
    cl_event *const fence = &cl->session->fences[slot];
    cl_int native = CL_SUCCESS;
    if (after == KVR_AFTER_ALL) {
        native = clEnqueueReadBuffer(cl->compute, tensor->buffer, CL_FALSE, at, bytes, dst, 0, NULL, fence);
    } else {
        /* not behind the operators that follow the mark; writes are complete when they return */
        const cl_event *const mark = after != KVR_AFTER_NOTHING ? &cl->session->marks[after - 1u] : NULL;
        native = clEnqueueReadBuffer(cl->download, tensor->buffer, CL_FALSE, at, bytes, dst, mark != NULL, mark, fence);
    }
    if (native != CL_SUCCESS) {
        *fence = NULL;
        return kvri_ocl_broken(cl, native, "a read from the device could not be enqueued");
    }
    *out_fence = slot + 1u;
    native = clFlush(after == KVR_AFTER_ALL ? cl->compute : cl->download);
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(cl, native, "the device does not take its commands");
}

static kvr_status release_fence(kvr_opencl *cl, kvr_fence fence) {
    const cl_int native = clReleaseEvent(cl->session->fences[fence - 1u]);
    cl->session->fences[fence - 1u] = NULL;
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(cl, native, "an event could not be released");
}

static int is_fence(const kvr_opencl *cl, kvr_fence fence) {
    return fence <= KVR_BACKEND_FENCES && cl->session->fences[fence - 1u] != NULL;
}

static kvr_status transfer_done(void *user, kvr_fence fence) {
    kvr_opencl *cl = user;
    if (fence == 0) return KVR_OK;
    if (cl->session == NULL || !is_fence(cl, fence))
        return kvri_ocl_refused(cl, KVR_ERR_STATE, "no read has this fence");
    cl_int state = CL_QUEUED;
    const cl_int native =
        clGetEventInfo(cl->session->fences[fence - 1u], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    if (native == CL_SUCCESS && state > CL_COMPLETE) return KVR_AGAIN;
    const kvr_status released = release_fence(cl, fence);
    if (native != CL_SUCCESS) return kvri_ocl_broken(cl, native, "the state of a read could not be asked");
    if (state < 0) return kvri_ocl_broken(cl, state, "a read, or an operator before it, failed on the device");
    return released;
}

static kvr_status transfer_wait(void *user, kvr_fence fence) {
    kvr_opencl *cl = user;
    if (fence == 0) return KVR_OK;
    if (cl->session == NULL || !is_fence(cl, fence))
        return kvri_ocl_refused(cl, KVR_ERR_STATE, "no read has this fence");
    const cl_int native = clWaitForEvents(1, &cl->session->fences[fence - 1u]);
    return native == CL_SUCCESS ? KVR_OK
                                : kvri_ocl_broken(cl, native, "a read, or an operator before it, failed on the device");
}

static kvr_status transfer_flush(void *user) {
    kvr_opencl *cl = user;
    if (cl->session == NULL) return kvri_ocl_refused(cl, KVR_ERR_STATE, closed);
    const cl_int native = clFlush(cl->compute);
    return native == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(cl, native, "the device does not take its commands");
}

void kvri_ocl_transfer_close(kvri_ocl_session *session) {
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        if (session->fences[i] != NULL) clReleaseEvent(session->fences[i]);
        session->fences[i] = NULL;
    }
    for (uint32_t i = 0; i < KVR_BACKEND_MARKS; i++) {
        if (session->marks[i] != NULL) clReleaseEvent(session->marks[i]);
        session->marks[i] = NULL;
    }
}

void kvri_ocl_transfer_table(kvr_backend *out) {
    out->write = transfer_write;
    out->mark = transfer_mark;
    out->read = transfer_read;
    out->done = transfer_done;
    out->wait = transfer_wait;
    out->flush = transfer_flush;
}
