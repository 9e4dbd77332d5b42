/*
 * kvr_opencl.h - the OpenCL backend: any OpenCL 1.2 device through the ICD loader; dense products by CLBlast,
 * everything else by own kernels embedded in the library. Needs neither fp16 arithmetic nor subgroups.
 *
 * Order of calls: kvr_opencl_open -> kvr_opencl_backend -> (plan, session open ... session close) -> kvr_opencl_close.
 */
#ifndef KVR_OPENCL_H
#define KVR_OPENCL_H

#include "kvr/kvr_backend.h"
#include "kvr/kvr_port.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvr_opencl kvr_opencl;

typedef enum kvr_opencl_gemm {
    KVR_OPENCL_GEMM_AUTO = 0,    /* by device class, as measured: the own kernel on CPUs, CLBlast on all others */
    KVR_OPENCL_GEMM_CLBLAST = 1, /* CLBlast; the own kernel, with a warning, when CLBlast fails its check at open */
    KVR_OPENCL_GEMM_OWN = 2      /* the own kernel: no CLBlast compile at first start, no padded copies */
} kvr_opencl_gemm;

/* Whether products may round what they multiply, where the device has an instruction that then does more at a time:
 * with quantised weights activations become 8 bits (a scale per 32) and the product runs in integers; with weights of
 * 16 bits, of a prompt, both become bfloat16 (8 significant bits; sums are floats). Either way a row's bits do not
 * depend on its neighbours, so a chain of equal boards answers as one board does. */
typedef enum kvr_opencl_precision {
    KVR_OPENCL_PRECISION_FAST = 0,   /* yes, where the device has an instruction for it: x86 VNNI on PoCL,
                                      * cl_khr_integer_dot_product, cl_arm_integer_dot_product_accumulate_int8;
                                      * x86 AVX512-BF16 on PoCL */
    KVR_OPENCL_PRECISION_EXACT = 1,  /* no: weights become floats, nothing is rounded but sums */
    KVR_OPENCL_PRECISION_INTEGER = 2 /* yes, on any device, without an instruction in plain C (slow): for comparing */
} kvr_opencl_precision;

/*
 * What measuring a device found best (`kvr tune`); all of it changes time and, as any other device would, the last
 * bits, never which bits a row's neighbours change. Zero or empty: the library's choice for this class of device.
 */
typedef struct kvr_opencl_tuning {
    uint32_t struct_bytes;
    char device[96], platform[64], driver[64]; /* whom it was measured on: name, platform_name, driver_version */
    uint32_t tile_rows, tile_vecs; /* register tile of the own products: rows (1..16) x vecs of 16 columns (1, 2) */
    uint32_t dot_rows;             /* rows of the tile in integers (1..16) */
    uint32_t panel_k;              /* columns of a weight dequantised at a time (32..512, a multiple of 32) */
    uint32_t clblast_set;          /* its parameters: 1 = its own table, 2.. = sets of kvr_ocl_clblast.c */
    /* kvr_opencl_gemm of prompts, by rows of the weight (narrow: fewer than 1024) and by its type (int: quantised,
     * where precision lets it run in integers) */
    uint32_t narrow_float, narrow_int, wide_float, wide_int;
} kvr_opencl_tuning;

#define KVR_OPENCL_TUNING_MAX_BYTES 4096u

/* Zero is the default of every field. */
typedef struct kvr_opencl_config {
    uint32_t struct_bytes;
    const char *device;         /* "platform.device" as kvr_opencl_list numbers them ("0.0"); NULL = first GPU, else
                                 * first CPU, else the first device */
    uint32_t max_compute_units; /* use only so many, through a sub-device; 0 = all. A device that cannot be divided
                                 * is used whole, with a warning in the log */
    const char *cache_dir;      /* existing directory for program binaries; NULL = no cache. Must stay valid while
                                 * open. CLBlast's kernels are not in it. Drivers with a disk cache of their own (PoCL,
                                 * Mesa) need it only where theirs cannot be written */
    uint64_t
        memory_limit_bytes; /* most device memory (weights + KV + work + scratch) a session may take; 0 = no limit */
    uint32_t gemm;          /* kvr_opencl_gemm */
    uint32_t precision;     /* kvr_opencl_precision */
    const kvr_opencl_tuning *tuning; /* copied; NULL = none. One of another device is passed over: a line in the log */
} kvr_opencl_config;

/* What a device says of itself. Strings are printable copies, cut to fit. */
typedef struct kvr_opencl_info {
    uint32_t platform, device; /* the "0.1" of kvr_opencl_config.device */
    char platform_name[64];
    char name[96];
    char version[96];        /* CL_DEVICE_VERSION, "OpenCL 3.0 ..." */
    char driver_version[64]; /* CL_DRIVER_VERSION */
    char type[16];           /* "CPU", "GPU", "accelerator", "other" */
    uint32_t compute_units;
    uint32_t can_divide; /* 1: max_compute_units works */
    uint64_t max_alloc_bytes, global_mem_bytes, local_mem_bytes;
    uint64_t max_work_group;
    uint32_t fp16, subgroups, unified_memory; /* 1 = has it; none is required */
    uint32_t is_default;                      /* 1: what NULL selects */
} kvr_opencl_info;

/*
 * Writes the first cap devices into out and the full count into *out_n; infos may be NULL when cap is 0. Starts no
 * driver work beyond enumeration. NO_DEVICE: there is none at all.
 */
kvr_status kvr_opencl_list(kvr_opencl_info *infos, uint32_t cap, uint32_t *out_n, kvr_error *error);

/*
 * A tuning as a text of "name value" lines after "kvr-tuning 1", '#' starts a comment; hostile text is refused. Read:
 * *out is unchanged on error; MAGIC, VERSION, KEY, TRUNCATED. Write: bytes written, 0 when cap is too small.
 */
kvr_status kvr_opencl_tuning_read(const char *text, size_t bytes, kvr_opencl_tuning *out, kvr_error *error);
size_t kvr_opencl_tuning_write(const kvr_opencl_tuning *tuning, char *out, size_t cap);
/* A file name of its own for each device and driver: "tuning-0123456789abcdef.txt". */
void kvr_opencl_tuning_name(const kvr_opencl_info *device, char out[32]);

/* Bytes of a kvr_opencl object. */
size_t kvr_opencl_bytes(void);

/*
 * Chooses the device, makes context and queues in mem (64-byte aligned, kvr_opencl_bytes long). Cheap: programs are
 * built and device memory is taken by backend->open. config may be NULL (all defaults); port may be NULL (no log, no
 * peaks, no large pages) and is copied. mem is unchanged on error. Errors: ARG (device text, gemm, precision), NOMEM
 * (mem), NO_DEVICE (none, or no such one), DEVICE (native = cl_int).
 */
kvr_status kvr_opencl_open(void *mem, size_t mem_bytes, const kvr_opencl_config *config, const kvr_port *port,
                           kvr_opencl **out, kvr_error *error);

/*
 * The table of this backend, valid until kvr_opencl_close. One object serves one session at a time. backend->open ends
 * with a self-check: every operator that the session can use runs on a few rows of its own weights and is compared with
 * plain C. A driver that computes wrongly is KVR_ERR_DEVICE, with the operator in error->detail. It takes no memory and
 * 1-2 ms (PoCL, a 1.1B layer); a weight type whose smallest matrix is large costs two passes over that one.
 */
void kvr_opencl_backend(kvr_opencl *opencl, kvr_backend *out);

/* The device in use. */
void kvr_opencl_device(const kvr_opencl *opencl, kvr_opencl_info *out);

/* What the device does at best, by small kernels of kvr's own; shares of it tell what is left to gain. */
typedef struct kvr_opencl_peaks {
    uint32_t struct_bytes;
    double fma_gflops;  /* fused multiply-adds of floats in registers, two operations each */
    double int8_gmacs;  /* multiply-adds of bytes into 32 bits, 10^9 a second, by the instruction that dot.cl chose, or
                           in C */
    double pair_gmacs;  /* the same of bfloat16 into floats */
    double read_gbytes; /* 10^9 bytes per second, reading memory once */
} kvr_opencl_peaks;

/*
 * Measures them: builds a program, takes up to 256 MiB of the device, runs for a second or two (a simulator: minutes),
 * gives all back. For tools; blocks; works beside an open session. *out is unchanged on error. Errors: ARG (no port
 * with a clock was given to open), DEVICE.
 */
kvr_status kvr_opencl_measure_peaks(kvr_opencl *opencl, kvr_opencl_peaks *out, kvr_error *error);

/*
 * Gives back everything, including an open session. NULL is harmless. CLBlast keeps its compiled kernels (and with them
 * the context) until the process ends; clear them with CLBlastClearCache() when no kvr_opencl is open.
 */
void kvr_opencl_close(kvr_opencl *opencl);

#ifdef __cplusplus
}
#endif
#endif
