#define _POSIX_C_SOURCE 200809L
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "cache_dir.h"
#include "emulate.h"
#include "kvr/kvr_cpu.h"
#ifdef KVR_HAVE_OPENCL
#include "kvr/kvr_opencl.h"
#include "tuning_file.h"
#endif
#include "limits.h"
#include "output.h"
#include "say.h"

enum { CAP_DEVICES = 64, MEMORY_ALIGNMENT = 64 };

struct device {
    kvr_backend backend;
    kvr_cpu cpu;
    emulate emulated;
    char name[128];
    char identity[400];
    int emulates;
    char cache_dir[1024];
    void *memory; /* of the OpenCL object */
    int in_host;  /* its memory is this machine's */
    struct kvr_opencl *opencl;
};

const kvr_backend *device_backend(const device *dev) {
    return &dev->backend;
}
const char *device_name(const device *dev) {
    return dev->name;
}
int device_is_in_host(const device *dev) {
    return dev->in_host;
}

const char *device_identity(const device *dev) {
    return dev->identity[0] != '\0' ? dev->identity : dev->name;
}

const kvr_board_profile *device_emulated(const device *dev) {
    return dev->emulates ? &dev->emulated.profile : NULL;
}

static void use_reference(device *dev) {
    kvr_cpu_backend(&dev->cpu, &dev->backend);
    snprintf(dev->name, sizeof dev->name, "reference (portable C)");
}

#ifdef KVR_HAVE_OPENCL
/* The tuning of the device that `place` chooses, if it was measured once. */
static int find_tuning(const char *place, kvr_opencl_tuning *out) {
    static kvr_opencl_info infos[CAP_DEVICES];
    kvr_error error = {0};
    uint32_t n = 0;
    if (kvr_opencl_list(infos, CAP_DEVICES, &n, &error) != KVR_OK) return 0;
    for (uint32_t i = 0; i < n && i < CAP_DEVICES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%u.%u", infos[i].platform, infos[i].device);
        if (place == NULL ? infos[i].is_default : strcmp(name, place) == 0) return tuning_file_load(&infos[i], out);
    }
    return 0;
}

static int use_opencl(device *dev, const char *place, const device_choice *choice, const kvr_port *port) {
    kvr_opencl_tuning tuning;
    const char *why = limits_no_driver();
    if (why != NULL) return say_error("cannot use OpenCL: %s; use -d reference, or raise the limit", why);
    const uint32_t n_cores = choice->n_cores;
    kvr_error error = {0};
    kvr_opencl_config config;
    memset(&config, 0, sizeof config);
    config.struct_bytes = sizeof config;
    config.device = place;
    config.max_compute_units = n_cores;
    config.gemm = choice->gemm;
    config.precision = choice->precision;
    config.tuning = find_tuning(place, &tuning) ? &tuning : NULL;
    config.cache_dir = cache_dir_find(dev->cache_dir, sizeof dev->cache_dir) ? dev->cache_dir : NULL;
    /* A driver's threads inherit this; without it a sub-device of one unit may still wander over all cores. */
    if (n_cores != 0 && affinity_hold(0, n_cores) != 0) say_note("cannot hold this process to %u cores", n_cores);
    if (posix_memalign(&dev->memory, MEMORY_ALIGNMENT, kvr_opencl_bytes()) != 0)
        return say_error("the OpenCL backend wants %zu bytes of memory: end other programs", kvr_opencl_bytes());
    if (kvr_opencl_open(dev->memory, kvr_opencl_bytes(), &config, port, &dev->opencl, &error) != KVR_OK) {
        char what[192];
        const char *space = limits_space();
        snprintf(what, sizeof what, "cannot use OpenCL (%s)",
                 space != NULL ? space : "'kvr devices' lists what there is");
        return say_kvr_error(what, &error);
    }
    kvr_opencl_info info;
    memset(&info, 0, sizeof info);
    kvr_opencl_device(dev->opencl, &info);
    kvr_opencl_backend(dev->opencl, &dev->backend);
    snprintf(dev->name, sizeof dev->name, "opencl:%u.%u %s", info.platform, info.device, info.name);
    snprintf(dev->identity, sizeof dev->identity, "%s|%s|%s|%s%s", info.platform_name, info.name, info.version,
             info.driver_version, config.tuning != NULL ? "|tuned" : "");
    dev->in_host = strcmp(info.type, "CPU") == 0;
    return EXIT_OK;
}

/* NULL: there is a device; else why there is none. */
static const char *why_reference(void) {
    uint32_t n = 0;
    kvr_error error = {0};
    const char *why = limits_no_driver();
    if (why != NULL || kvr_opencl_list(NULL, 0, &n, &error) == KVR_OK) return why;
    return limits_space() != NULL ? limits_space() : error.text;
}
#else
static int use_opencl(device *dev, const char *place, const device_choice *choice, const kvr_port *port) {
    (void)dev, (void)place, (void)choice, (void)port;
    return say_error("this kvr was built without OpenCL; use -d reference, or build it with -DKVR_WITH_OPENCL=ON");
}

static const char *why_reference(void) {
    return "this kvr was built without OpenCL";
}
#endif

int device_open(const device_choice *choice, const kvr_port *port, device **out) {
    const char *name = choice->name;
    device *dev = calloc(1, sizeof *dev);
    if (dev == NULL) return say_error("not enough memory for a device: end other programs");
    *out = dev; /* also after a failure, for device_close */
    if (choice->emulate != NULL) {
        int code = emulate_open(&dev->emulated, choice->emulate, choice->rank, choice->n_boards, &dev->backend);
        snprintf(dev->name, sizeof dev->name, "emulated %s", dev->emulated.profile.name);
        dev->emulates = 1;
        return code;
    }
    const char *why = name == NULL ? why_reference() : NULL;
    if (why != NULL) {
        say_note("using the slow reference backend: %s", why);
        use_reference(dev);
        return EXIT_OK;
    }
    if (name == NULL || strcmp(name, "opencl") == 0) return use_opencl(dev, NULL, choice, port);
    if (strncmp(name, "opencl:", 7) == 0) return use_opencl(dev, name + 7, choice, port);
    if (strcmp(name, "reference") == 0) {
        use_reference(dev);
        return EXIT_OK;
    }
    return say_usage(
        NULL, "-d '%.60s' is no backend: use reference, opencl or opencl:PLATFORM.DEVICE as 'kvr devices' lists", name);
}

void device_close(device *dev) {
    if (dev == NULL) return;
#ifdef KVR_HAVE_OPENCL
    kvr_opencl_close(dev->opencl);
#endif
    free(dev->memory);
    free(dev);
}

#ifdef KVR_HAVE_OPENCL
static void print_device(const kvr_opencl_info *info) {
    char memory[32], most[32], local[32];
    printf("opencl:%u.%u  %s%s\n", info->platform, info->device, info->name, info->is_default ? "  (default)" : "");
    printf("    platform %s, %s, driver %s\n", info->platform_name, info->version, info->driver_version);
    printf("    %s, %u compute units%s, work-group up to %llu\n", info->type, info->compute_units,
           info->can_divide ? " (divisible)" : "", (unsigned long long)info->max_work_group);
    printf("    memory %s%s, one allocation up to %s, local %s\n",
           output_size(info->global_mem_bytes, memory, sizeof memory), info->unified_memory ? " (unified)" : "",
           output_size(info->max_alloc_bytes, most, sizeof most),
           output_size(info->local_mem_bytes, local, sizeof local));
    printf("    fp16 arithmetic %s, subgroups %s\n", info->fp16 ? "yes" : "no", info->subgroups ? "yes" : "no");
}

int device_measure_peaks(device *dev, device_peaks *out) {
    kvr_error error = {0};
    kvr_opencl_peaks peaks = {0};
    memset(out, 0, sizeof *out);
    if (dev->opencl == NULL) return EXIT_OK;
    if (kvr_opencl_measure_peaks(dev->opencl, &peaks, &error) != KVR_OK)
        return say_kvr_error("cannot measure the device", &error);
    out->known = 1;
    out->fma_gflops = peaks.fma_gflops;
    out->int8_gmacs = peaks.int8_gmacs;
    out->pair_gmacs = peaks.pair_gmacs;
    out->read_gbytes = peaks.read_gbytes;
    return EXIT_OK;
}

int device_list(void) {
    static kvr_opencl_info infos[CAP_DEVICES];
    kvr_error error = {0};
    uint32_t n = 0;
    kvr_status status = kvr_opencl_list(infos, CAP_DEVICES, &n, &error);
    if (status != KVR_OK && status != KVR_ERR_NO_DEVICE) return say_kvr_error("cannot list OpenCL devices", &error);
    for (uint32_t i = 0; i < n && i < CAP_DEVICES; i++) print_device(&infos[i]);
    if (n == 0) printf("%s\n", error.text);
    printf("reference  portable C, one core%s\n", n == 0 ? "  (default)" : "");
    return EXIT_OK;
}
#else
int device_measure_peaks(device *dev, device_peaks *out) {
    (void)dev;
    memset(out, 0, sizeof *out);
    return EXIT_OK;
}

int device_list(void) {
    printf("OpenCL is not built in: build with -DKVR_WITH_OPENCL=ON\n");
    printf("reference  portable C, one core  (default)\n");
    return EXIT_OK;
}
#endif
