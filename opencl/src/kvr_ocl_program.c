/*
 * kvr_ocl_program.c - the one program of a session: sources joined, built for this model's head_dim, or read from the
 * binary cache.
 */
#include "kvr_ocl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvr/kvr_version.h"
#include "kvr_ocl_source.h"

/* weight.cl, matvec.cl and product.cl once per weight type, product_int.cl per type of 4 or 8 bits, attention.cl per KV
 * type. */
#define PIECE_OF_TYPE(type)                                                                                            \
    "#define DT(name) name##_" #type "\n", kvri_ocl_source_weight, kvri_ocl_source_matvec, kvri_ocl_source_product,   \
        "\n#undef DT\n"
#define PIECE_OF_INTEGERS(type) "#define DT(name) name##_" #type "\n", kvri_ocl_source_product_int, "\n#undef DT\n"
#define PIECE_OF_KV(suffix, type, load)                                                                                \
    "#define KV(name) name##_" #suffix "\n#define KVT " #type "\n#define KV_LOAD(p) " #load "(p)\n",                   \
        kvri_ocl_source_attention, kvri_ocl_source_attention_tile,                                             \
        kvri_ocl_source_attention_one, "\n#undef KV\n#undef KVT\n#undef KV_LOAD\n"

static const char *const pieces[] = {
    kvri_ocl_source_common,
    "\n",
    kvri_ocl_source_dot,
    "\n",
    kvri_ocl_source_dtype,
    "\n",
    kvri_ocl_source_gemm,
    "\n",
    kvri_ocl_source_quant,
    "\n",
    PIECE_OF_TYPE(f32),
    PIECE_OF_TYPE(f16),
    PIECE_OF_TYPE(q4_0),
    PIECE_OF_TYPE(q8_0),
    PIECE_OF_INTEGERS(q4_0),
    PIECE_OF_INTEGERS(q8_0),
    kvri_ocl_source_vector,
    "\n",
    PIECE_OF_KV(f32, float, VLOADW),
    PIECE_OF_KV(f16, half, VLOADW_HALF),
};
#define N_PIECES ((cl_uint)(sizeof pieces / sizeof pieces[0]))

#define OPTIONS_CAP 256u

static void options_of(const kvr_opencl *cl, const kvri_ocl_session *session, char *out) {
    snprintf(out, OPTIONS_CAP,
             "-DKVR_D=%u -DKVR_CPU=%u -DKVR_QUERIES=%u -DKVR_TILE_ROWS=%uu -DKVR_TILE_VECS=%uu -DKVR_DOT_ROWS=%uu "
             "-DKVR_PANEL_K=%uu -DKVR_DOT=%u -DKVR_POCL=%u%s",
             (unsigned)session->head_dim, (unsigned)cl->limits.is_cpu,
             (unsigned)kvri_ocl_attention_queries(session->head_dim), (unsigned)cl->limits.tile_rows,
             (unsigned)cl->limits.tile_vecs, (unsigned)cl->limits.dot_rows, (unsigned)cl->limits.panel_k,
             (unsigned)cl->limits.dot, (unsigned)cl->limits.is_pocl, cl->limits.exact_divide ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
}

/* Two 64-bit hashes from different starts: the first names the file, both are checked. */
static void key_of(const kvr_opencl *cl, const char *options, uint64_t key[2]) {
    key[0] = KVRI_OCL_HASH_START;
    key[1] = ~(uint64_t)KVRI_OCL_HASH_START;
    const char *const texts[] = {options,          cl->info.platform_name,  cl->info.name,
                                 cl->info.version, cl->info.driver_version, KVR_VERSION};
    for (size_t k = 0; k < 2; k++) {
        for (cl_uint i = 0; i < N_PIECES; i++) key[k] = kvri_ocl_cache_hash(key[k], pieces[i], strlen(pieces[i]) + 1);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            key[k] = kvri_ocl_cache_hash(key[k], texts[i], strlen(texts[i]) + 1);
    }
}

/* NULL on any failure: then the source is built. */
static cl_program from_cache(kvr_opencl *cl, const char *options) {
    uint64_t key[2];
    size_t bytes = 0;
    key_of(cl, options, key);
    unsigned char *binary = kvri_ocl_cache_load(cl->cache_dir, key, &bytes);
    if (binary == NULL) return NULL;
    cl_int taken = CL_SUCCESS;
    cl_int native = CL_SUCCESS;
    const unsigned char *const binaries[] = {binary};
    cl_program program = clCreateProgramWithBinary(cl->context, 1, &cl->device, &bytes,
                                                   (const unsigned char **)binaries, &taken, &native);
    free(binary);
    if (native != CL_SUCCESS || program == NULL) return NULL;
    if (clBuildProgram(program, 1, &cl->device, options, NULL, NULL) == CL_SUCCESS) return program;
    clReleaseProgram(program);
    return NULL;
}

kvr_status kvri_ocl_program_build(kvr_opencl *cl, const char *const *sources, cl_uint n, const char *options,
                                  cl_program *out, kvr_error *error) {
    cl_int native = CL_SUCCESS;
    *out = clCreateProgramWithSource(cl->context, n, (const char **)sources, NULL, &native);
    if (native != CL_SUCCESS)
        return kvri_ocl_fail(error, KVR_ERR_DEVICE, "the driver does not take the kernels' source", native);
    native = clBuildProgram(*out, 1, &cl->device, options, NULL, NULL);
    if (native == CL_SUCCESS) return KVR_OK;
    char log[2048];
    memset(log, 0, sizeof log);
    if (clGetProgramBuildInfo(*out, cl->device, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL) == CL_SUCCESS)
        kvri_ocl_log(cl, KVR_LOG_ERROR, log);
    return kvri_ocl_fail(error, KVR_ERR_DEVICE,
                         "the driver cannot build the kernels (its words are in the log): choose another device",
                         native);
}

kvr_status kvri_ocl_program_open(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error) {
    static const char *const names[] = {
#define KVRI_OCL_NAME(id, name) #name,
        KVRI_OCL_KERNEL_LIST(KVRI_OCL_NAME)
#undef KVRI_OCL_NAME
    };
    char options[OPTIONS_CAP];
    options_of(cl, session, options);
    if (cl->cache_dir != NULL) session->program = from_cache(cl, options);
    session->from_cache = session->program != NULL;
    kvri_ocl_log(cl, KVR_LOG_INFO,
                 session->from_cache ? "kernels come from the binary cache" : "kernels are built from source");
    if (session->program == NULL) KVRI_TRY(kvri_ocl_program_build(cl, pieces, N_PIECES, options, &session->program, error));
    for (uint32_t i = 0; i < KVRI_OCL_KERNELS; i++) {
        cl_int native = CL_SUCCESS;
        session->kernels[i] = clCreateKernel(session->program, names[i], &native);
        if (native != CL_SUCCESS) {
            kvri_ocl_fail(error, KVR_ERR_DEVICE, "the driver does not make this kernel: choose another device", native);
            if (error != NULL) kvri_copy_printable(error->detail, sizeof error->detail, names[i], strlen(names[i]));
            return KVR_ERR_DEVICE;
        }
    }
    return KVR_OK;
}

void kvri_ocl_program_keep(const kvr_opencl *cl, const kvri_ocl_session *session) {
    if (cl->cache_dir == NULL || session->from_cache) return;
    uint64_t key[2];
    size_t bytes = 0;
    char options[OPTIONS_CAP];
    options_of(cl, session, options);
    key_of(cl, options, key);
    int kept = 0;
    if (clGetProgramInfo(session->program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) == CL_SUCCESS &&
        bytes > 0) {
        unsigned char *binary = malloc(bytes);
        if (binary != NULL &&
            clGetProgramInfo(session->program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
            kept = kvri_ocl_cache_save(cl->cache_dir, key, binary, bytes);
        free(binary);
    }
    if (!kept) kvri_ocl_log(cl, KVR_LOG_WARN, "the program binary was not kept: the next start builds it again");
}

void kvri_ocl_program_close(kvri_ocl_session *session) {
    for (uint32_t i = 0; i < KVRI_OCL_KERNELS; i++)
        if (session->kernels[i] != NULL) clReleaseKernel(session->kernels[i]);
    if (session->program != NULL) clReleaseProgram(session->program);
}
