/*
 * kvr_ocl_device.c - enumeration, choice, sub-devices, and the limits that kernels and layout depend on.
 */
#include "kvr_ocl.h"

#include <string.h>
#if (defined __x86_64__ || defined __i386__) && defined __GNUC__
#include <cpuid.h>
#elif defined __aarch64__ && defined __linux__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* More than any board has; the rest is not seen. */
#define MAX_PLATFORMS 16u
#define MAX_DEVICES 32u

static const char no_device[] =
    "no OpenCL device: install a driver (on Debian: pocl-opencl-icd for the CPU), or use the "
    "reference backend (kvr: -d reference)";
static const char broken_driver[] =
    "an OpenCL driver is installed but fails before it names a device: install it again or another one, "
    "or use the reference backend (kvr: -d reference)";

/* Without blanks at its ends, as files keep it (brand strings of processors are padded); "-" when nothing is left. */
static void put_text(const char *text, char *out, size_t cap) {
    const char *begin = text + strspn(text, " \t");
    kvri_copy_printable(out, cap, begin, strlen(begin));
    for (size_t n = strlen(out); n > 0 && out[n - 1] == ' '; n--) out[n - 1] = '\0';
    if (out[0] == '\0') out[0] = '-', out[1] = '\0';
}

static void device_text(cl_device_id device, cl_device_info what, char *out, size_t cap) {
    char text[1024];
    size_t n = 0;
    memset(text, 0, sizeof text);
    if (clGetDeviceInfo(device, what, sizeof text - 1, text, &n) != CL_SUCCESS) text[0] = 0;
    put_text(text, out, cap);
}

static uint64_t device_u64(cl_device_id device, cl_device_info what) {
    cl_ulong value = 0;
    return clGetDeviceInfo(device, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}

static uint32_t device_u32(cl_device_id device, cl_device_info what) {
    cl_uint value = 0;
    return clGetDeviceInfo(device, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}

static cl_device_type device_type(cl_device_id device) {
    cl_device_type type = 0;
    return clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof type, &type, NULL) == CL_SUCCESS ? type : 0;
}

/* Extension lists reach several KiB and are asked for whole; a list that does not fit counts as empty: nothing that
 * is looked for there is required. */
static int has_extension(cl_device_id device, const char *name) {
    char list[8192];
    size_t n = 0;
    memset(list, 0, sizeof list);
    if (clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof list - 1, list, &n) != CL_SUCCESS) return 0;
    return strstr(list, name) != NULL;
}

static int can_divide(cl_device_id device) {
    cl_device_partition_property kinds[16];
    size_t bytes = 0;
    if (clGetDeviceInfo(device, CL_DEVICE_PARTITION_PROPERTIES, sizeof kinds, kinds, &bytes) != CL_SUCCESS) return 0;
    for (size_t i = 0; i < bytes / sizeof kinds[0]; i++)
        if (kinds[i] == CL_DEVICE_PARTITION_BY_COUNTS) return 1;
    return 0;
}

static void describe(cl_platform_id platform, cl_device_id device, kvr_opencl_info *out) {
    char text[256];
    memset(text, 0, sizeof text);
    if (clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof text - 1, text, NULL) != CL_SUCCESS) text[0] = 0;
    put_text(text, out->platform_name, sizeof out->platform_name);
    device_text(device, CL_DEVICE_NAME, out->name, sizeof out->name);
    device_text(device, CL_DEVICE_VERSION, out->version, sizeof out->version);
    device_text(device, CL_DRIVER_VERSION, out->driver_version, sizeof out->driver_version);
    const cl_device_type type = device_type(device);
    const char *name = "other";
    if (type & CL_DEVICE_TYPE_GPU) name = "GPU";
    else if (type & CL_DEVICE_TYPE_CPU) name = "CPU";
    else if (type & CL_DEVICE_TYPE_ACCELERATOR) name = "accelerator";
    kvri_copy_printable(out->type, sizeof out->type, name, strlen(name));
    out->compute_units = device_u32(device, CL_DEVICE_MAX_COMPUTE_UNITS);
    out->can_divide = (uint32_t)can_divide(device);
    out->max_alloc_bytes = device_u64(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    out->global_mem_bytes = device_u64(device, CL_DEVICE_GLOBAL_MEM_SIZE);
    out->local_mem_bytes = device_u64(device, CL_DEVICE_LOCAL_MEM_SIZE);
    size_t group = 0;
    if (clGetDeviceInfo(device, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL) != CL_SUCCESS) group = 1;
    out->max_work_group = group;
    out->fp16 = (uint32_t)has_extension(device, "cl_khr_fp16");
    out->subgroups =
        (uint32_t)(has_extension(device, "cl_khr_subgroups") || has_extension(device, "cl_intel_subgroups"));
    out->unified_memory = device_u32(device, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
}

typedef struct found {
    cl_platform_id platform;
    cl_device_id device;
    uint32_t platform_index, device_index;
} found;

/* All devices of all platforms, in the loader's order. Platforms without devices (a driver for hardware that is not
 * there) and those that fail are passed over but keep their number; *out_native is the last failure. */
static uint32_t find_all(found *out, uint32_t cap, cl_int *out_native) {
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0;
    uint32_t n = 0;
    *out_native = clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms);
    if (*out_native != CL_SUCCESS) return 0;
    if (n_platforms > MAX_PLATFORMS) n_platforms = MAX_PLATFORMS;
    for (cl_uint p = 0; p < n_platforms; p++) {
        cl_device_id devices[MAX_DEVICES];
        cl_uint n_devices = 0;
        const cl_int native = clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices);
        if (native != CL_SUCCESS && native != CL_DEVICE_NOT_FOUND) *out_native = native;
        if (native != CL_SUCCESS) continue;
        if (n_devices > MAX_DEVICES) n_devices = MAX_DEVICES;
        for (cl_uint d = 0; d < n_devices && n < cap; d++) {
            const found one = {platforms[p], devices[d], p, d};
            out[n++] = one;
        }
    }
    return n;
}

/* The loader alone says CL_PLATFORM_NOT_FOUND_KHR (-1001): there is no driver. */
static kvr_status none_found(cl_int native, kvr_error *error) {
    const int broken = native != CL_SUCCESS && native != -1001;
    return kvri_ocl_fail(error, KVR_ERR_NO_DEVICE, broken ? broken_driver : no_device, native);
}

/* First GPU, else first CPU, else the first; n > 0. */
static uint32_t pick(const found *all, uint32_t n) {
    static const cl_device_type order[] = {CL_DEVICE_TYPE_GPU, CL_DEVICE_TYPE_CPU};
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++)
        for (uint32_t i = 0; i < n; i++)
            if (device_type(all[i].device) & order[k]) return i;
    return 0;
}

static void fill(const found *one, int is_default, kvr_opencl_info *out) {
    memset(out, 0, sizeof *out);
    describe(one->platform, one->device, out);
    out->platform = one->platform_index;
    out->device = one->device_index;
    out->is_default = (uint32_t)is_default;
}

kvr_status kvr_opencl_list(kvr_opencl_info *infos, uint32_t cap, uint32_t *out_n, kvr_error *error) {
    found all[MAX_DEVICES];
    cl_int native = CL_SUCCESS;
    const uint32_t n = find_all(all, MAX_DEVICES, &native);
    if (out_n != NULL) *out_n = n;
    if (n == 0) return none_found(native, error);
    const uint32_t chosen = pick(all, n);
    for (uint32_t i = 0; i < n && i < cap; i++) fill(&all[i], i == chosen, &infos[i]);
    return KVR_OK;
}

/* Decimal digits at *text, at most 4 of them; moves *text past them. */
static int read_index(const char **text, uint32_t *out) {
    uint32_t value = 0;
    int digits = 0;
    for (; **text >= '0' && **text <= '9' && digits < 4; (*text)++, digits++)
        value = value * 10u + (uint32_t)(**text - '0');
    *out = value;
    return digits > 0;
}

/* Weights go to the device as the file has them. */
static int is_big_endian(cl_device_id device) {
    cl_bool little = CL_TRUE;
    return clGetDeviceInfo(device, CL_DEVICE_ENDIAN_LITTLE, sizeof little, &little, NULL) == CL_SUCCESS && !little;
}

kvr_status kvri_ocl_device_choose(kvr_opencl *cl, const char *device, kvr_error *error) {
    found all[MAX_DEVICES];
    cl_int native = CL_SUCCESS;
    const uint32_t n = find_all(all, MAX_DEVICES, &native);
    if (n == 0) return none_found(native, error);
    const uint32_t standard = pick(all, n);
    uint32_t chosen = standard;
    if (device != NULL) {
        uint32_t p = 0;
        uint32_t d = 0;
        const char *at = device;
        if (!read_index(&at, &p) || *at++ != '.' || !read_index(&at, &d) || *at != 0)
            return kvri_fail_s(error, KVR_ERR_ARG, "opencl", "a device is written platform.device, such as 0.0", device,
                               strlen(device));
        for (chosen = 0; chosen < n; chosen++)
            if (all[chosen].platform_index == p && all[chosen].device_index == d) break;
        if (chosen == n)
            return kvri_fail_s(error, KVR_ERR_NO_DEVICE, "opencl", "no device of this number: list the devices", device,
                               strlen(device));
    }
    if (is_big_endian(all[chosen].device))
        return kvri_fail(
            error, KVR_ERR_NO_DEVICE, "opencl",
            "this device stores numbers big-endian, which kvr's kernels do not: use the reference backend");
    cl->device = all[chosen].device;
    cl->root = cl->device;
    fill(&all[chosen], chosen == standard, &cl->info);
    return KVR_OK;
}

kvr_status kvri_ocl_device_divide(kvr_opencl *cl, uint32_t compute_units, kvr_error *error) {
    if (compute_units >= cl->info.compute_units) return KVR_OK;
    if (!cl->info.can_divide) {
        kvri_ocl_log(cl, KVR_LOG_WARN, "this device cannot be divided: max_compute_units is ignored, all are used");
        return KVR_OK;
    }
    const cl_device_partition_property how[] = {CL_DEVICE_PARTITION_BY_COUNTS,
                                                (cl_device_partition_property)compute_units,
                                                CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0};
    cl_device_id part = NULL;
    cl_uint n = 0;
    const cl_int native = clCreateSubDevices(cl->root, how, 1, &part, &n);
    if (native != CL_SUCCESS || n == 0)
        return kvri_ocl_fail(error, KVR_ERR_DEVICE, "the device could not be divided: set max_compute_units to 0",
                             native);
    cl->device = part;
    cl->info.compute_units = device_u32(part, CL_DEVICE_MAX_COMPUTE_UNITS);
    return KVR_OK;
}

/* KVR_DOT of dot.cl, by what device and CPU say of themselves. The asm forms are for PoCL, whose compiler is clang for
 * the processor that we run on; 512 bits only where the driver itself says that it compiles for them. */
enum { DOT_PLAIN = 0, DOT_VNNI = 1, DOT_KHR = 2, DOT_ARM = 3, DOT_VEX = 4, DOT_NEON = 5 };

#if (defined __x86_64__ || defined __i386__) && defined __GNUC__
/* Bit of EAX of leaf 7.1: what older compilers do not know by name. */
enum { CPU_AVX_VNNI = 4, CPU_AVX512_BF16 = 5 };
static int cpu_has(unsigned bit) {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> bit & 1u);
}
#endif

static uint32_t dot_of_cpu(int wide) {
#if (defined __x86_64__ || defined __i386__) && defined __GNUC__
    __builtin_cpu_init();
    if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni")) return DOT_VNNI;
    if (__builtin_cpu_supports("avx2") && cpu_has(CPU_AVX_VNNI)) return DOT_VEX;
    return DOT_PLAIN;
#elif defined __aarch64__ && defined __linux__
    (void)wide;
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? DOT_NEON : DOT_PLAIN;
#else
    (void)wide;
    return DOT_PLAIN;
#endif
}

static uint32_t dot_of(const kvr_opencl *cl, int wide) {
    if (cl->limits.is_cpu) return cl->limits.is_pocl ? dot_of_cpu(wide) : DOT_PLAIN;
    if (cl->precision == KVR_OPENCL_PRECISION_EXACT) return DOT_PLAIN; /* a way out where the others do not compile */
    if (has_extension(cl->device, "cl_khr_integer_dot_product")) return DOT_KHR;
    if (has_extension(cl->device, "cl_arm_integer_dot_product_accumulate_int8")) return DOT_ARM;
    return DOT_PLAIN;
}

/* KVR_PAIR of pair.cl, likewise. */
enum { PAIR_PLAIN = 0, PAIR_AVX = 1 };

static uint32_t pair_of_cpu(int wide) {
#if (defined __x86_64__ || defined __i386__) && defined __GNUC__
    __builtin_cpu_init();
    if (wide && __builtin_cpu_supports("avx512f") && cpu_has(CPU_AVX512_BF16)) return PAIR_AVX;
#else
    (void)wide;
#endif
    return PAIR_PLAIN;
}

void kvri_ocl_device_limits(kvr_opencl *cl) {
    kvri_ocl_limits *limits = &cl->limits;
    limits->is_cpu = (device_type(cl->device) & CL_DEVICE_TYPE_CPU) != 0;
    limits->is_pocl = limits->is_cpu && strcmp(cl->info.platform_name, "Portable Computing Language") == 0;
    limits->max_alloc_bytes = cl->info.max_alloc_bytes;
    limits->global_mem_bytes = cl->info.global_mem_bytes;
    limits->work_group = 1;
    if (!limits->is_cpu) limits->work_group = cl->info.max_work_group < 64 ? (uint32_t)cl->info.max_work_group : 64u;
    /* 8 x 2 accumulators of 16 floats and the weights beside them in the 32 registers of AVX-512; 6 x 1 fit 16
     * registers of 8 floats (AVX2) and 32 of 4 (NEON). kvr tune finds better ones. */
    const int wide = device_u32(cl->device, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT) >= 16u;
    limits->tile_rows = wide ? 8u : 6u;
    limits->tile_vecs = wide ? 2u : 1u;
    /* two kinds of accumulators; 16 lanes are 1 register, or 2 (AVX2), or 4 (NEON) */
    limits->dot_rows = wide ? 6u : 3u;
    limits->panel_k = limits->is_cpu ? 256u : 32u; /* 32 KiB with two vecs */
    limits->dot = dot_of(cl, wide);
    limits->pair = limits->is_pocl ? pair_of_cpu(wide) : PAIR_PLAIN;
    const kvr_opencl_tuning *tuning = &cl->tuning;
    if (tuning->tile_rows != 0) limits->tile_rows = tuning->tile_rows;
    if (tuning->tile_vecs != 0) limits->tile_vecs = tuning->tile_vecs;
    if (tuning->dot_rows != 0) limits->dot_rows = tuning->dot_rows;
    if (tuning->panel_k != 0) limits->panel_k = tuning->panel_k;
    cl_device_fp_config fp = 0;
    if (clGetDeviceInfo(cl->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof fp, &fp, NULL) != CL_SUCCESS) fp = 0;
    limits->exact_divide = (fp & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
}
