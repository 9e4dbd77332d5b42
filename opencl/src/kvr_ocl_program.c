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

/* What a type's pieces see of KVRI_OCL_TYPE_LIST. */
static const char *const defines_of[KVRI_OCL_DTYPES] = {
#define KVRI_OCL_ROW(id, name, low, high, offset, parts, least, small)                                                 \
    "#define DT(name) name##_" #name "\n#define LOW " #low "u\n#define HIGH " #high "u\n"                             \
    "#define OFFSET " #offset "\n#define PARTS " #parts "u\n#define LEAST " #least "\n#define SMALL " #small "\n",
    KVRI_OCL_TYPE_LIST(KVRI_OCL_ROW)
#undef KVRI_OCL_ROW
};
static const char words_of_f32[] = "#define WORD uint\n#define FLOATS(i, p) vload16(i, (global const float *)(p))\n";
static const char words_of_f16[] =
    "#define WORD ushort\n#define FLOATS(i, p) vload_half16(i, (global const half *)(p))\n"
    "#define BF16S(i, p) to_bf16(FLOATS(i, p))\n";
static const char words_of_bf16[] =
    "#define WORD ushort\n#define FLOATS(i, p) as_float16(convert_uint16(vload16(i, p)) << 16)\n"
    "#define BF16S(i, p) (convert_uint16(vload16(i, p)) << 16)\n";
/* The operands of product.cl. */
static const char in_floats[] =
    "#define PRODUCT DT(gemm)\n#define STEP 1u\n#define SRC float\n#define PANEL float16\n#define TAKE32 DT(block32)\n"
    "#define MAC(acc, w, x) acc = *(x) * (w) + acc\n";
static const char in_pairs[] = "#define PRODUCT DT(gemm_pair)\n#define STEP 2u\n#define SRC uint\n"
                               "#define PANEL uint16\n#define TAKE32 DT(pairs32)\n"
                               "#define MAC(acc, w, x) acc = dot2x16(acc, w, x)\n";
static const char forget_type[] =
    "\n#undef DT\n#undef LOW\n#undef HIGH\n#undef OFFSET\n#undef PARTS\n#undef LEAST\n#undef SMALL\n"
    "#undef WORD\n#undef FLOATS\n#undef BF16S\n"
    "#undef HALVES\n#undef GROUP\n#undef HEAD\n#undef VECTORS\n#undef GROUPS_OF_PART\n#undef STORED_OFFSET\n";

static const char kv_f32[] = "#define KV(name) name##_f32\n#define KVT float\n#define KV_LOAD(p) VLOADW(p)\n"
                             "#define KV_STORE16(v, p) PUT16(v, p)\n#define KV_STORE(x, i, p) PUT(x, i, p)\n";
static const char kv_f16[] = "#define KV(name) name##_f16\n#define KVT half\n#define KV_LOAD(p) VLOADW_HALF(p)\n"
                             "#define KV_STORE16(v, p) PUT_HALF16(v, p)\n#define KV_STORE(x, i, p) PUT_HALF(x, i, p)\n";
static const char forget_kv[] = "\n#undef KV\n#undef KVT\n#undef KV_LOAD\n#undef KV_STORE16\n#undef KV_STORE\n";

/* The program's source, in pieces. */
#define PIECES_OF_TYPE 10u
#define PIECES_OF_KV 6u
typedef struct kvri_source {
    const char *pieces[12u + PIECES_OF_TYPE * KVRI_OCL_DTYPES + 2u * PIECES_OF_KV];
    cl_uint n;
} kvri_source;

static void join(kvri_source *s, const char *piece) { s->pieces[s->n++] = piece; }

/* A piece that ends in a line of its own. */
static void join_file(kvri_source *s, const char *piece) {
    join(s, piece);
    join(s, "\n");
}

static void join_type(kvri_source *s, uint32_t type) {
    join(s, defines_of[type]);
    if (kvri_ocl_type_has_codes(type)) {
        join(s, kvri_ocl_source_quantised);
    } else {
        join(s, type == KVRI_OCL_F32 ? words_of_f32 : type == KVRI_OCL_F16 ? words_of_f16 : words_of_bf16);
        join(s, kvri_ocl_source_plain);
    }
    join(s, kvri_ocl_source_weight);
    join(s, kvri_ocl_source_matvec);
    join(s, in_floats);
    join(s, kvri_ocl_source_product);
    if (kvri_ocl_type_has_codes(type)) join(s, kvri_ocl_source_product_int);
    if (kvri_ocl_type_has_pairs(type)) {
        join(s, in_pairs);
        join(s, kvri_ocl_source_product);
    }
    join(s, forget_type);
}

static void join_kv(kvri_source *s, uint32_t type) {
    join(s, type == KVRI_OCL_F32 ? kv_f32 : kv_f16);
    join(s, kvri_ocl_source_place);
    join(s, kvri_ocl_source_attention);
    join(s, kvri_ocl_source_attention_tile);
    join(s, kvri_ocl_source_attention_one);
    join(s, forget_kv);
}

/* Only what the session's types need, because drivers take seconds to compile each. */
static void source_of(const kvri_ocl_session *session, kvri_source *out) {
    out->n = 0;
    join_file(out, kvri_ocl_source_common);
    join_file(out, kvri_ocl_source_dot);
    join_file(out, kvri_ocl_source_gemm);
    join_file(out, kvri_ocl_source_quant);
    join_file(out, kvri_ocl_source_pair);
    for (uint32_t t = 0; t < KVRI_OCL_DTYPES; t++)
        if (session->weight_types >> t & 1u) join_type(out, t);
    join_file(out, kvri_ocl_source_vector);
    for (uint32_t t = KVRI_OCL_F32; t <= KVRI_OCL_F16; t++)
        if (session->kv_types >> t & 1u) join_kv(out, t);
}

#define OPTIONS_CAP 256u

static void options_of(const kvr_opencl *cl, const kvri_ocl_session *session, char *out) {
    snprintf(out, OPTIONS_CAP,
             "-DKVR_D=%u -DKVR_CPU=%u -DKVR_QUERIES=%u -DKVR_TILE_ROWS=%uu -DKVR_TILE_VECS=%uu -DKVR_DOT_ROWS=%uu "
             "-DKVR_PANEL_K=%uu -DKVR_DOT=%u -DKVR_PAIR=%u -DKVR_POCL=%u%s",
             (unsigned)session->head_dim, (unsigned)cl->limits.is_cpu,
             (unsigned)kvri_ocl_attention_queries(session->head_dim), (unsigned)cl->limits.tile_rows,
             (unsigned)cl->limits.tile_vecs, (unsigned)cl->limits.dot_rows, (unsigned)cl->limits.panel_k,
             (unsigned)cl->limits.dot, (unsigned)cl->limits.pair, (unsigned)cl->limits.is_pocl,
             cl->limits.exact_divide ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
}

/* Two 64-bit hashes from different starts: the first names the file, both are checked. */
static void key_of(const kvr_opencl *cl, const kvri_source *source, const char *options, uint64_t key[2]) {
    key[0] = KVRI_OCL_HASH_START;
    key[1] = ~(uint64_t)KVRI_OCL_HASH_START;
    const char *const texts[] = {options,          cl->info.platform_name,  cl->info.name,
                                 cl->info.version, cl->info.driver_version, KVR_VERSION};
    for (size_t k = 0; k < 2; k++) {
        for (cl_uint i = 0; i < source->n; i++)
            key[k] = kvri_ocl_cache_hash(key[k], source->pieces[i], strlen(source->pieces[i]) + 1);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            key[k] = kvri_ocl_cache_hash(key[k], texts[i], strlen(texts[i]) + 1);
    }
}

/* NULL on any failure: then the source is built. */
static cl_program from_cache(kvr_opencl *cl, const kvri_source *source, const char *options) {
    uint64_t key[2];
    size_t bytes = 0;
    key_of(cl, source, options, key);
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
    size_t bytes = 0; /* a smaller buffer gets nothing at all */
    if (clGetProgramBuildInfo(*out, cl->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) != CL_SUCCESS) bytes = 0;
    char *log = bytes > 0 ? calloc(1, bytes + 1) : NULL; /* while opening only, as in kvr_ocl_cache.c */
    if (log != NULL && clGetProgramBuildInfo(*out, cl->device, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) == CL_SUCCESS)
        kvri_ocl_log(cl, KVR_LOG_ERROR, log);
    free(log);
    return kvri_ocl_fail(error, KVR_ERR_DEVICE,
                         "the driver cannot build the kernels (its words are in the log): try precision exact (kvr: "
                         "--precision exact), or another device",
                         native);
}

static kvr_status make_kernel(kvri_ocl_session *session, uint32_t i, const char *name, kvr_error *error) {
    cl_int native = CL_SUCCESS;
    session->kernels[i] = clCreateKernel(session->program, name, &native);
    if (native == CL_SUCCESS) return KVR_OK;
    kvri_ocl_fail(error, KVR_ERR_DEVICE, "the driver does not make this kernel: choose another device", native);
    if (error != NULL) kvri_copy_printable(error->detail, sizeof error->detail, name, strlen(name));
    return KVR_ERR_DEVICE;
}

typedef enum kvri_whose { WEIGHTS, QUANTISED, PAIRED, KV } kvri_whose;

static int is_needed(const kvri_ocl_session *session, kvri_whose whose, uint32_t type) {
    const uint32_t types = whose == KV ? session->kv_types : session->weight_types;
    return (types >> type & 1u) && (whose != QUANTISED || kvri_ocl_type_has_codes(type)) &&
           (whose != PAIRED || kvri_ocl_type_has_pairs(type));
}

static kvr_status make_kernels(kvri_ocl_session *session, kvr_error *error) {
    static const struct { const char *name; kvri_whose whose; } families[] = {
#define KVRI_OCL_ROW(id, name, whose) {#name, whose},
        KVRI_OCL_TYPED_KERNEL_LIST(KVRI_OCL_ROW)
#undef KVRI_OCL_ROW
    };
    static const char *const names[] = {
#define KVRI_OCL_NAME(id, name) #name,
        KVRI_OCL_KERNEL_LIST(KVRI_OCL_NAME)
#undef KVRI_OCL_NAME
    };
    for (uint32_t i = 0; i < KVRI_OCL_TYPED_KERNELS; i++) {
        const uint32_t family = i / KVRI_OCL_DTYPES, type = i % KVRI_OCL_DTYPES;
        char name[48];
        if (!is_needed(session, families[family].whose, type)) continue;
        snprintf(name, sizeof name, "%s_%s", families[family].name, kvri_ocl_type_at(type)->name);
        KVRI_TRY(make_kernel(session, i, name, error));
    }
    for (uint32_t i = KVRI_OCL_TYPED_KERNELS; i < KVRI_OCL_KERNELS; i++)
        KVRI_TRY(make_kernel(session, i, names[i - KVRI_OCL_TYPED_KERNELS], error));
    return KVR_OK;
}

kvr_status kvri_ocl_program_open(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error) {
    char options[OPTIONS_CAP];
    kvri_source source;
    source_of(session, &source);
    options_of(cl, session, options);
    if (cl->cache_dir != NULL) session->program = from_cache(cl, &source, options);
    session->from_cache = session->program != NULL;
    kvri_ocl_log(cl, KVR_LOG_INFO,
                 session->from_cache ? "kernels come from the binary cache" : "kernels are built from source");
    if (session->program == NULL)
        KVRI_TRY(kvri_ocl_program_build(cl, source.pieces, source.n, options, &session->program, error));
    return make_kernels(session, error);
}

void kvri_ocl_program_keep(const kvr_opencl *cl, const kvri_ocl_session *session) {
    if (cl->cache_dir == NULL || session->from_cache) return;
    uint64_t key[2];
    size_t bytes = 0;
    char options[OPTIONS_CAP];
    kvri_source source;
    source_of(session, &source);
    options_of(cl, session, options);
    key_of(cl, &source, options, key);
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
