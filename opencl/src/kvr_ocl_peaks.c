/*
 * kvr_ocl_peaks.c - the peaks of a device, measured: a program, a queue and two buffers of its own, all given back
 * before it returns.
 */
#include "kvr_ocl.h"

#include <stdio.h>
#include <string.h>

#include "kvr_ocl_source.h"

#define ROUNDS 5u               /* the best of so many counts: a peak is what nothing disturbs */
#define READ_BYTES (256u << 20) /* more than the last-level cache of any board */
#define LEAST_US 20000u         /* a run shorter than this is repeated with more steps */
#define MOST_STEPS (1u << 26)
#define LANES 16u    /* of an accumulator */
#define DOT_BYTES 4u /* products per lane of dot4x8 */
#define DOT_PAIR 2u  /* of dot2x16 */

typedef struct peaks_run {
    kvr_opencl *cl;
    cl_program program;
    cl_command_queue queue;
    cl_mem in, out;
    uint64_t in_bytes;
    size_t items, group; /* work-items of a run, and of a work-group */
    uint32_t vecs;       /* accumulators per work-item */
    cl_int native;       /* first failure */
} peaks_run;

static int good(peaks_run *run, cl_int native) {
    if (run->native == CL_SUCCESS) run->native = native;
    return run->native == CL_SUCCESS;
}

/* Runs once; microseconds by the host's clock, because some drivers' events tell no time. */
static uint64_t time_once(peaks_run *run, cl_kernel kernel) {
    const kvr_port *port = &run->cl->port;
    const uint64_t begin = port->now_us(port->user);
    if (good(run, clEnqueueNDRangeKernel(run->queue, kernel, 1, NULL, &run->items, &run->group, 0, NULL, NULL)))
        good(run, clFinish(run->queue));
    const uint64_t us = port->now_us(port->user) - begin;
    return us != 0 ? us : 1u; /* a coarse clock */
}

static uint64_t best_of(peaks_run *run, cl_kernel kernel) {
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < ROUNDS && run->native == CL_SUCCESS; i++) {
        const uint64_t us = time_once(run, kernel);
        if (us < best) best = us;
    }
    return best;
}

/* A kernel whose arguments are (in, out, number). */
static cl_kernel kernel_of(peaks_run *run, const char *name, cl_uint number) {
    cl_int native = CL_SUCCESS;
    cl_kernel kernel = clCreateKernel(run->program, name, &native);
    if (!good(run, native)) return NULL;
    good(run, clSetKernelArg(kernel, 0, sizeof run->in, &run->in));
    good(run, clSetKernelArg(kernel, 1, sizeof run->out, &run->out));
    good(run, clSetKernelArg(kernel, 2, sizeof number, &number));
    return kernel;
}

/* Steps of a chain per nanosecond, all work-items together. */
static double chain_rate(peaks_run *run, const char *name) {
    cl_uint steps = 16;
    cl_kernel kernel = kernel_of(run, name, steps);
    if (kernel == NULL) return 0;
    time_once(run, kernel); /* drivers that compile at first use do it now */
    while (run->native == CL_SUCCESS && time_once(run, kernel) < LEAST_US && steps < MOST_STEPS) {
        steps *= 2u;
        good(run, clSetKernelArg(kernel, 2, sizeof steps, &steps));
    }
    const uint64_t us = best_of(run, kernel);
    clReleaseKernel(kernel);
    return (double)steps * (double)run->items / ((double)us * 1000.0);
}

static double read_rate(peaks_run *run) {
    const uint64_t vec_bytes = run->cl->limits.is_cpu ? 64u : 16u;
    const cl_uint count = (cl_uint)(run->in_bytes / vec_bytes / run->items & ~(uint64_t)3u);
    cl_kernel kernel = kernel_of(run, "peak_read", count);
    if (kernel == NULL) return 0;
    time_once(run, kernel);
    const uint64_t us = best_of(run, kernel);
    clReleaseKernel(kernel);
    return (double)count * (double)vec_bytes * (double)run->items / ((double)us * 1000.0);
}

/* Buffers as large as the device allows, up to READ_BYTES; filled, so that lazy drivers take them. */
static void take_buffers(peaks_run *run) {
    const kvri_ocl_limits *limits = &run->cl->limits;
    const cl_float half_of_one = 0.5f;
    cl_int native = CL_SUCCESS;
    run->in_bytes = READ_BYTES;
    if (run->in_bytes > limits->max_alloc_bytes) run->in_bytes = limits->max_alloc_bytes;
    if (run->in_bytes > limits->global_mem_bytes / 4u) run->in_bytes = limits->global_mem_bytes / 4u;
    run->in_bytes &= ~(uint64_t)4095u;
    run->in = clCreateBuffer(run->cl->context, CL_MEM_READ_ONLY, (size_t)run->in_bytes, NULL, &native);
    if (!good(run, native)) return;
    run->out = clCreateBuffer(run->cl->context, CL_MEM_WRITE_ONLY, run->items * sizeof(cl_float), NULL, &native);
    if (!good(run, native)) return;
    good(run, clEnqueueFillBuffer(run->queue, run->in, &half_of_one, sizeof half_of_one, 0, (size_t)run->in_bytes, 0,
                                  NULL, NULL));
}

static kvr_status prepare(peaks_run *run, kvr_error *error) {
    const kvr_opencl *cl = run->cl;
    const char *const sources[] = {kvri_ocl_source_dot, "\n", kvri_ocl_source_peaks};
    char options[96];
    cl_int native = CL_SUCCESS;
    /* On CPUs three quarters of the registers that the tile of the own product fills: enough chains to hide the
     * latency, and room for x and y. */
    run->vecs = cl->limits.is_cpu ? (cl->limits.tile_rows * cl->limits.tile_vecs * 3u + 3u) / 4u : 2u;
    run->group = cl->limits.work_group;
    run->items = (size_t)cl->info.compute_units * (cl->limits.is_cpu ? 64u : 2048u);
    snprintf(options, sizeof options, "-DKVR_CPU=%u -DKVR_DOT=%u -DKVR_PAIR=%u -DKVR_PEAK_VECS=%uu",
             (unsigned)cl->limits.is_cpu, (unsigned)cl->limits.dot, (unsigned)cl->limits.pair, (unsigned)run->vecs);
    KVRI_TRY(
        kvri_ocl_program_build(run->cl, sources, sizeof sources / sizeof sources[0], options, &run->program, error));
    run->queue = clCreateCommandQueue(cl->context, cl->device, 0, &native);
    if (good(run, native)) take_buffers(run);
    return KVR_OK;
}

static void give_back(peaks_run *run) {
    if (run->queue != NULL) clFinish(run->queue);
    if (run->in != NULL) clReleaseMemObject(run->in);
    if (run->out != NULL) clReleaseMemObject(run->out);
    if (run->queue != NULL) clReleaseCommandQueue(run->queue);
    if (run->program != NULL) clReleaseProgram(run->program);
}

kvr_status kvr_opencl_measure_peaks(kvr_opencl *opencl, kvr_opencl_peaks *out, kvr_error *error) {
    peaks_run run;
    if (opencl->port.now_us == NULL)
        return kvri_fail(error, KVR_ERR_ARG, "opencl", "measuring wants a clock: give kvr_opencl_open a port");
    memset(&run, 0, sizeof run);
    run.cl = opencl;
    kvr_opencl_peaks peaks;
    memset(&peaks, 0, sizeof peaks);
    peaks.struct_bytes = sizeof peaks;
    kvr_status status = prepare(&run, error);
    if (status == KVR_OK) {
        peaks.fma_gflops = 2.0 * LANES * run.vecs * chain_rate(&run, "peak_fma");
        peaks.int8_gmacs = (double)DOT_BYTES * LANES * run.vecs * chain_rate(&run, "peak_dot");
        peaks.pair_gmacs = (double)DOT_PAIR * LANES * run.vecs * chain_rate(&run, "peak_pair");
        peaks.read_gbytes = read_rate(&run);
        if (run.native != CL_SUCCESS)
            status = kvri_ocl_fail(error, KVR_ERR_DEVICE, "the peaks of this device cannot be measured", run.native);
    }
    give_back(&run);
    if (status == KVR_OK) *out = peaks;
    return status;
}
