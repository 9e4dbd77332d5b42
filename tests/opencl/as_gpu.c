/*
 * as_gpu.c - linked into a test: the device calls itself a GPU, so that the kernels and work-groups for GPUs run where
 * there is none. KVR_TEST_GROUP: its largest work-group, too.
 */
#define _GNU_SOURCE
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdlib.h>

typedef cl_int (*info_fn)(cl_device_id, cl_device_info, size_t, void *, size_t *);

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info what, size_t bytes, void *out, size_t *out_bytes) {
    info_fn real;
    *(void **)&real = dlsym(RTLD_NEXT, "clGetDeviceInfo");
    const cl_int status = real(device, what, bytes, out, out_bytes);
    const char *group = getenv("KVR_TEST_GROUP");
    if (status != CL_SUCCESS || out == NULL) return status;
    if (what == CL_DEVICE_TYPE) *(cl_device_type *)out = CL_DEVICE_TYPE_GPU;
    if (what == CL_DEVICE_MAX_WORK_GROUP_SIZE && group != NULL) *(size_t *)out = (size_t)atoi(group);
    return status;
}
