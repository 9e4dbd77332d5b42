/*
 * kvr_ocl.h - internal to opencl/: the object, the session inside it, and what the files give each other.
 *
 * kvr_ocl_device   which device, its limits           kvr_ocl_tuning   what measuring it found best
 * kvr_ocl_program  build, binary cache use, kernels
 * kvr_ocl_cache    the file of a program binary       kvr_ocl_memory   the list of device buffers
 * kvr_ocl_types    how tensor types lie there         kvr_ocl_convert  blocks of a file as they are staged
 * kvr_ocl_weights  weights into the device's layout   kvr_ocl_matmul   which product, and the own ones
 * kvr_ocl_clblast  the product by CLBlast             kvr_ocl_attention  attention
 * kvr_ocl_ops      the other operators
 * kvr_ocl_transfer write, read, fences                kvr_ocl_session  backend open and close
 * kvr_ocl_peaks    what the device does at best
 */
#ifndef KVR_OCL_H
#define KVR_OCL_H

#include <CL/cl.h>

#include "kvr/kvr_opencl.h"
#include "kvr_error.h"

/*
 * The weight types as the device has them: X(enum suffix, kernel name, then the numbers of kernels/quantised.cl: low
 * and high bits of a code, offset, parts of a block, has least values, has small scales). Those with 16 or 32 bits have
 * no codes. kvri_ocl_type_of tells which tensor type becomes which.
 */
#define KVRI_OCL_TYPE_LIST(X)                                                                                          \
    X(F32, f32, 32, 0, 0, 0, 0, 0)                                                                                     \
    X(F16, f16, 16, 0, 0, 0, 0, 0)                                                                                     \
    X(BF16, bf16, 16, 0, 0, 0, 0, 0)                                                                                   \
    X(Q4_0, q4_0, 4, 0, 8, 1, 0, 0)                                                                                    \
    X(Q4_1, q4_1, 4, 0, 0, 1, 1, 0)                                                                                    \
    X(Q5_0, q5_0, 4, 1, 16, 1, 0, 0)                                                                                   \
    X(Q5_1, q5_1, 4, 1, 0, 1, 1, 0)                                                                                    \
    X(Q8_0, q8_0, 8, 0, 128, 1, 0, 0)                                                                                  \
    X(Q2_K, q2_k, 2, 0, 0, 2, 1, 1)                                                                                    \
    X(Q3_K, q3_k, 2, 1, 4, 2, 0, 1)                                                                                    \
    X(Q4_K, q4_k, 4, 0, 0, 1, 1, 1)                                                                                    \
    X(Q5_K, q5_k, 4, 1, 0, 1, 1, 1)                                                                                    \
    X(Q6_K, q6_k, 4, 2, 32, 2, 0, 1)

enum {
#define KVRI_OCL_ENUM(id, name, low, high, offset, parts, least, small) KVRI_OCL_##id,
    KVRI_OCL_TYPE_LIST(KVRI_OCL_ENUM)
#undef KVRI_OCL_ENUM
    KVRI_OCL_DTYPES
};

typedef struct kvri_ocl_type {
    const char *name;
    uint32_t low, high; /* bits */
    uint32_t parts;
    uint32_t has_least, has_small; /* 0 or 1 */
} kvri_ocl_type;

/* Kernels that exist once per type, X(enum suffix, name, whose types): name_<type>, and the others. */
#define KVRI_OCL_TYPED_KERNEL_LIST(X)                                                                                  \
    X(PACK, pack, WEIGHTS)                                                                                             \
    X(UNPACK, unpack, WEIGHTS)                                                                                         \
    X(MATVEC, matvec, WEIGHTS)                                                                                         \
    X(EMBED, embed, WEIGHTS)                                                                                           \
    X(GEMM, gemm, WEIGHTS)                                                                                             \
    X(GEMM_PAIR, gemm_pair, PAIRED)                                                                                    \
    X(GEMM_INT, gemm_int, QUANTISED)                                                                                   \
    X(MATVEC_INT, matvec_int, QUANTISED)                                                                               \
    X(STORE, store, KV)                                                                                                \
    X(PLACE, place, KV)                                                                                                \
    X(ATTENTION, attention, KV)                                                                                        \
    X(ATTENTION_LIMITED, attention_limited, KV)                                                                        \
    X(ATTENTION_ONE, attention_one, KV)
#define KVRI_OCL_KERNEL_LIST(X)                                                                                        \
    X(QUANTISE, quantise)                                                                                              \
    X(PAIR, pair)                                                                                                      \
    X(PACK_ROWS, pack_rows)                                                                                            \
    X(UNPAD, unpad)                                                                                                    \
    X(NORM, norm)                                                                                                      \
    X(ADD_BIAS, add_bias)                                                                                              \
    X(SCALE, scale)                                                                                                    \
    X(ROPE, rope)                                                                                                      \
    X(ACTIVATE, activate)                                                                                              \
    X(ATTENTION_MERGE, attention_merge)

enum {
#define KVRI_OCL_ENUM(id, name, whose) KVRI_OCL_FAMILY_##id,
    KVRI_OCL_TYPED_KERNEL_LIST(KVRI_OCL_ENUM)
#undef KVRI_OCL_ENUM
    KVRI_OCL_FAMILIES
};

/* A typed kernel is first + type. Those of types that the session does not use are NULL. */
typedef enum kvri_ocl_kernel {
#define KVRI_OCL_ENUM(id, name, whose) KVRI_OCL_##id = KVRI_OCL_FAMILY_##id * KVRI_OCL_DTYPES,
    KVRI_OCL_TYPED_KERNEL_LIST(KVRI_OCL_ENUM)
#undef KVRI_OCL_ENUM
    KVRI_OCL_TYPED_KERNELS = KVRI_OCL_FAMILIES * KVRI_OCL_DTYPES,
    KVRI_OCL_BEFORE_PLAIN = KVRI_OCL_TYPED_KERNELS - 1,
#define KVRI_OCL_ENUM(id, name) KVRI_OCL_##id,
    KVRI_OCL_KERNEL_LIST(KVRI_OCL_ENUM)
#undef KVRI_OCL_ENUM
    KVRI_OCL_KERNELS
} kvri_ocl_kernel;

typedef struct kvri_ocl_limits {
    uint64_t max_alloc_bytes, global_mem_bytes;
    uint32_t work_group; /* local size of every own kernel: 1 on CPUs, where one work-item is a whole vector loop */
    uint32_t tile_rows, tile_vecs; /* register tile of the own products, vecs of 16 floats */
    uint32_t dot_rows;             /* rows of the tile of the integer products */
    uint32_t panel_k;              /* columns of a weight that the float product dequantises at a time */
    uint32_t dot;                  /* KVR_DOT of dot.cl: how four bytes are multiplied; 0 = no instruction for it */
    uint32_t pair;                 /* KVR_PAIR of pair.cl: how two bfloat16 are; 0 = no instruction for it */
    int is_cpu;
    int is_pocl; /* clang for the processor that we run on: assembly and builtins of its own are safe */
    int exact_divide; /* -cl-fp32-correctly-rounded-divide-sqrt is available */
} kvri_ocl_limits;

/* Scratch buffers, placed after the tensors in the list of device buffers. */
typedef enum kvri_ocl_scratch {
    KVRI_OCL_PANEL = 0,   /* CLBlast: one dequantised panel of a weight */
    KVRI_OCL_PACKED = 1,  /* CLBlast: transposed activations [k_pad][t_pad] */
    KVRI_OCL_PRODUCT = 2, /* CLBlast: result [t_pad][n_pad] */
    KVRI_OCL_TEMP = 3,    /* CLBlast: its own scratch, 0 bytes when its tiles divide our padding */
    KVRI_OCL_QUANT = 4,   /* integer products: activations as bytes [batch][K] */
    KVRI_OCL_QSCALE = 5,  /* their scales, float [batch][K/32] */
    KVRI_OCL_QSUM = 6,    /* sums of half blocks, int [batch][K/16] */
    KVRI_OCL_PARTIAL = 7, /* parts of the attention of one row, float [splits][n_heads][head_dim + 2] */
    KVRI_OCL_STAGING = 8, /* rows of the file on their way into the device's layout; given back at the end of open */
    KVRI_OCL_PAIRS = 9,   /* products in pairs: activations as bfloat16 [batch][k_pad] */
    KVRI_OCL_SCRATCHES = 10
} kvri_ocl_scratch;

/* Everything that sizes device memory; pure arithmetic on a need. */
typedef struct kvri_ocl_layout {
    uint64_t weight_bytes, kv_bytes, work_bytes;
    uint64_t scratch_bytes[KVRI_OCL_SCRATCHES];
    uint64_t host_bytes;
} kvri_ocl_layout;

typedef struct kvri_ocl_tensor {
    cl_mem buffer;
    uint32_t rows, cols;
    uint32_t row_bytes; /* in transfers; matrices: staged */
    uint32_t k_pad;     /* matrices: columns in the device's layout (kernels/quantised.cl, plain.cl) */
    uint32_t scale_at;  /* matrices: byte where the scales begin */
    uint32_t type;      /* KVRI_OCL_F32.. */
    uint32_t role;
} kvri_ocl_tensor;

typedef struct kvri_ocl_session {
    cl_program program;
    cl_kernel kernels[KVRI_OCL_KERNELS];
    uint32_t weight_types, kv_types; /* bit per type in use; the program has kernels for these */
    kvri_ocl_tensor *tensors;
    uint32_t n_tensors;
    cl_mem scratch[KVRI_OCL_SCRATCHES];
    uint32_t batch_tokens, ctx_tokens, n_heads, n_kv_heads, head_dim;
    uint32_t kv_8bit;
    int use_clblast;
    int from_cache;                      /* the program came from the binary cache */
    uint32_t panel_tensor, panel_first;  /* what the panel holds; panel_tensor == n_tensors: nothing */
    kvr_view quant_view;                 /* what the byte activations are made of; tensor n_tensors: nothing */
    uint32_t quant_rows;
    kvr_view pairs_view;                 /* the same of the pairs */
    uint32_t pairs_rows;
    uint32_t quant_cols; /* most columns that fit there */
    cl_event fences[KVR_BACKEND_FENCES]; /* NULL = free */
    cl_event marks[KVR_BACKEND_MARKS];   /* NULL = never set */
} kvri_ocl_session;

struct kvr_opencl {
    cl_device_id device; /* the root or the sub-device */
    cl_device_id root;
    cl_context context;
    cl_command_queue compute, upload, download;
    kvri_ocl_limits limits;
    kvr_opencl_info info;
    kvr_port port; /* log, and now_us for the peaks */
    const char *cache_dir;
    uint64_t memory_limit_bytes;
    uint32_t gemm;             /* kvr_opencl_gemm; AUTO: as tuned, or by the class of the device */
    kvr_opencl_tuning tuning;  /* zeros: not tuned */
    uint32_t precision;        /* kvr_opencl_precision */
    kvri_ocl_session *session; /* NULL while closed */
    kvr_error last;            /* last failure of an operator */
};

/* kvr_opencl.c */
void kvri_ocl_log(const kvr_opencl *cl, kvr_log_level level, const char *text);
/* Remembers the failure for explain(); returns KVR_ERR_DEVICE. text is static. */
kvr_status kvri_ocl_broken(kvr_opencl *cl, cl_int native, const char *text);
kvr_status kvri_ocl_refused(kvr_opencl *cl, kvr_status status, const char *text);
/* kvri_fail with a native code. */
kvr_status kvri_ocl_fail(kvr_error *error, kvr_status status, const char *text, cl_int native);

/* kvr_ocl_device.c */
kvr_status kvri_ocl_device_choose(kvr_opencl *cl, const char *device, kvr_error *error);
kvr_status kvri_ocl_device_divide(kvr_opencl *cl, uint32_t compute_units, kvr_error *error);
void kvri_ocl_device_limits(kvr_opencl *cl);

/* kvr_ocl_tuning.c: forgets a tuning of another device. */
void kvri_ocl_tuning_check(kvr_opencl *cl);

/* kvr_ocl_program.c */
kvr_status kvri_ocl_program_open(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error);
kvr_status kvri_ocl_program_build(kvr_opencl *cl, const char *const *sources, cl_uint n, const char *options,
                                  cl_program *out, kvr_error *error);
/* Writes the binary to the cache; after the kernels ran once, because some drivers compile that late. */
void kvri_ocl_program_keep(const kvr_opencl *cl, const kvri_ocl_session *session);
void kvri_ocl_program_close(kvri_ocl_session *session);

/* kvr_ocl_cache.c: out_binary comes from malloc and is the caller's to free; NULL when there is none that is whole. */
unsigned char *kvri_ocl_cache_load(const char *dir, const uint64_t key[2], size_t *out_bytes);
int kvri_ocl_cache_save(const char *dir, const uint64_t key[2], const unsigned char *binary, size_t bytes);
/* FNV-1a, 64 bits, continued from `hash`. */
#define KVRI_OCL_HASH_START 14695981039346656037u
uint64_t kvri_ocl_cache_hash(uint64_t hash, const void *data, size_t bytes);

/* kvr_ocl_memory.c */
kvr_status kvri_ocl_memory_layout(const kvr_opencl *cl, const kvr_backend_need *need, kvri_ocl_layout *out,
                                  kvr_error *error);
/* Places the session in mem and takes every buffer of the layout. On error kvri_ocl_memory_close tidies up. */
kvr_status kvri_ocl_memory_open(kvr_opencl *cl, const kvr_backend_need *need, const kvri_ocl_layout *layout, void *mem,
                                kvri_ocl_session **out, kvr_error *error);
void kvri_ocl_memory_close(kvri_ocl_session *session);

/* kvr_ocl_types.c */
uint32_t kvri_ocl_type_of(uint32_t dtype); /* KVRI_OCL_DTYPES for one that is not supported */
const kvri_ocl_type *kvri_ocl_type_at(uint32_t type);
int kvri_ocl_type_has_codes(uint32_t type); /* quantised */
int kvri_ocl_type_has_pairs(uint32_t type); /* 16 bits: products in pairs of bfloat16 exist */
uint32_t kvri_ocl_type_group(uint32_t type);                    /* columns that share the halves */
uint32_t kvri_ocl_type_head_bytes(uint32_t type);               /* of a row for such a group, apart from codes */
uint64_t kvri_ocl_type_row_bytes(uint32_t type, uint32_t cols); /* staged; as many as in the device's layout */
/* Bytes of a matrix in the device's layout, and where in it the scales begin. UINT64_MAX: more than 64 bits can say. */
uint64_t kvri_ocl_type_bytes(uint32_t type, uint32_t rows, uint32_t cols, uint32_t *out_scale_at);

/* kvr_ocl_convert.c */
int kvri_ocl_convert_is_needed(uint32_t dtype); /* 0: rows are staged as they are in the file */
void kvri_ocl_convert_row(uint32_t dtype, const uint8_t *src, uint32_t cols, uint8_t *out);

/* kvr_ocl_weights.c */
uint64_t kvri_ocl_weights_staging(const kvr_backend_need *need);
/* Copies every weight of the need into its buffer; needs the kernels. */
kvr_status kvri_ocl_weights_upload(kvr_opencl *cl, kvri_ocl_session *session, const kvr_backend_need *need,
                                   kvr_error *error);

/* kvr_ocl_clblast.c */
#define KVRI_OCL_PANEL_BYTES (16u << 20)       /* bound of panel and of product; more does not make it faster */
#define KVRI_OCL_ROW_CHUNK 512u                /* rows of activations packed at a time */
void kvri_ocl_clblast_prepare(kvr_opencl *cl); /* tuning parameters, once per device */
kvr_status kvri_ocl_clblast_scratch(const kvr_opencl *cl, const kvr_backend_need *need, uint64_t *scratch_bytes,
                                    kvr_error *error);
/* Known product through CLBlast; decides use_clblast. */
kvr_status kvri_ocl_clblast_check(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error);
/* The kernels around the product, once on no rows. */
kvr_status kvri_ocl_clblast_warm_up(kvr_opencl *cl, kvr_view work, uint32_t weight);
kvr_status kvri_ocl_clblast_run(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, int add);

/* kvr_ocl_ops.c: a kernel call under construction; the first error sticks. */
typedef struct kvri_ocl_call {
    kvr_opencl *cl;
    cl_kernel kernel;
    cl_uint n_args;
    cl_int status;
} kvri_ocl_call;
kvri_ocl_call kvri_ocl_call_begin(kvr_opencl *cl, uint32_t kernel);
void kvri_ocl_call_mem(kvri_ocl_call *call, cl_mem mem);
void kvri_ocl_call_u32(kvri_ocl_call *call, uint32_t value);
void kvri_ocl_call_f32(kvri_ocl_call *call, float value);
void kvri_ocl_call_view(kvri_ocl_call *call, kvr_view view);                    /* buffer, row */
void kvri_ocl_call_weight(kvri_ocl_call *call, const kvri_ocl_tensor *tensor); /* buffer, k_pad, scale_at */
/* Enqueues x * y work-items (at least one; kernels check their bounds). */
kvr_status kvri_ocl_call_run(kvri_ocl_call *call, uint64_t x, uint64_t y, const char *text);

void kvri_ocl_ops_table(kvr_backend *out);
/* Runs every kernel this session can need once, on no rows: drivers that compile at first use do it now. */
kvr_status kvri_ocl_ops_warm_up(kvr_opencl *cl);

/* kvr_ocl_matmul.c */
int kvri_ocl_matmul_may_use_clblast(const kvr_opencl *cl); /* for any weight */
/* Weights of this type, in prompts: pairs of bfloat16. */
int kvri_ocl_matmul_rounds(const kvr_opencl *cl, uint32_t type);
int kvri_ocl_matmul_uses_clblast(const kvr_opencl *cl, uint32_t type, uint32_t rows);
kvr_status kvri_ocl_matmul_scratch(const kvr_opencl *cl, const kvr_backend_need *need, uint64_t *scratch_bytes,
                                   kvr_error *error);
kvr_status kvri_ocl_matmul_warm_up(kvr_opencl *cl, kvr_view work, uint32_t weight);
kvr_status kvri_ocl_matmul_run(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows,
                               kvr_path path, int add);
/* As matmul_many of kvr_backend.h; one launch for neighbours of one type. */
kvr_status kvri_ocl_matmul_many_run(kvr_opencl *cl, const kvr_product *products, uint32_t n, kvr_view src);
/* An activation tensor changed: byte activations made of it are stale. */
void kvri_ocl_matmul_changed(kvr_opencl *cl, uint32_t tensor);
/* The last arguments of an operator that makes these rows: whether, and where to, it writes them as bytes too. wanted
 * 0: not. */
void kvri_ocl_matmul_bytes_args(kvri_ocl_call *call, kvr_view made, uint32_t rows, int wanted);

/* kvr_ocl_attention.c */
uint32_t kvri_ocl_attention_queries(uint32_t head_dim);
uint64_t kvri_ocl_attention_scratch(const kvr_backend_need *need); /* bytes of KVRI_OCL_PARTIAL */
kvr_status kvri_ocl_attention_run(kvr_opencl *cl, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                  const kvr_attention *how, uint32_t rows, uint32_t first_token);
kvr_status kvri_ocl_attention_warm_up(kvr_opencl *cl, kvr_view work, uint32_t kv);

/* kvr_ocl_selfcheck.c: every operator on a few rows against plain C; DEVICE names the one that is wrong. Overwrites
 * activations and the first rows of caches. */
kvr_status kvri_ocl_selfcheck(kvr_opencl *cl, const kvr_backend_need *need, kvr_error *error);

/* kvr_ocl_transfer.c */
void kvri_ocl_transfer_table(kvr_backend *out);
void kvri_ocl_transfer_close(kvri_ocl_session *session);

/* kvr_ocl_session.c */
void kvri_ocl_session_table(kvr_backend *out);
void kvri_ocl_session_close(void *user);

#endif
