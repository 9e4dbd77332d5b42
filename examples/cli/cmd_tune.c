/* kvr tune: measures the products of prompts on a device and keeps what is fastest there. */
#define _POSIX_C_SOURCE 200809L
#include "commands.h"
#include "options.h"
#include "say.h"

static const command_help HELP = {
    "tune", "[-d opencl:P.D] [-t N]",
    "Measures, on the device at hand, CLBlast's and kvr's own products with several parameters, and keeps the "
    "fastest in a small text file that every later command finds by device and driver. Takes a minute or a few.",
    "What is measured: 256 rows of activations x weights of 2048 columns and 256 (narrow) or 2048 (wide) rows."};
static const option_id ACCEPTS[] = {OPT_DEVICE, OPT_THREADS, OPT_END};

#ifdef KVR_HAVE_OPENCL
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "affinity.h"
#include "child.h"
#include "kvr/kvr_session.h"
#include "tuning_file.h"

enum { ROWS = 256, COLUMNS = 2048, NARROW = 256, WIDE = 2048, WEIGHT = 0, SOURCE = 1, RESULT = 2, ROUNDS = 5 };

typedef struct bench_case {
    uint32_t dtype, weight_rows, gemm, precision;
} bench_case;

typedef struct tuner {
    kvr_opencl_config config; /* device and units */
    kvr_opencl_tuning best;
    void *weight; /* of any type and shape here */
    int failed;
    int code; /* not EXIT_OK: stop */
} tuner;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Enqueues n products and waits for them; seconds, or a negative number after a failure. */
static double time_products(const kvr_backend *b, uint32_t n, float *out) {
    const kvr_view dst = {RESULT, 0};
    const kvr_view src = {SOURCE, 0};
    kvr_fence fence = 0;
    const double begin = now_s();
    for (uint32_t i = 0; i < n; i++)
        if (b->matmul(b->user, dst, WEIGHT, src, ROWS, KVR_PATH_PREFILL, 0) != KVR_OK) return -1;
    if (b->read(b->user, dst, 1, out, KVR_AFTER_ALL, &fence) != KVR_OK || b->wait(b->user, fence) != KVR_OK ||
        b->done(b->user, fence) != KVR_OK)
        return -1;
    return now_s() - begin;
}

/* 10^9 multiply-adds per second, the best of a few rounds; 0 after a failure. */
static double rate_of(const kvr_backend *b, uint32_t weight_rows) {
    static float out[WIDE];
    double best = 0;
    uint32_t n = 1;
    double s = time_products(b, n, out);
    while (s >= 0 && s < 0.05 && n < 4096) s = time_products(b, n *= 2, out);
    for (int i = 0; i < ROUNDS && s > 0; i++) {
        const double rate = (double)n * ROWS * COLUMNS * weight_rows / s * 1e-9;
        if (rate > best) best = rate;
        s = time_products(b, n, out);
    }
    return s < 0 ? 0 : best;
}

static kvr_tensor_desc tensor(uint32_t role, uint32_t dtype, uint32_t rows, uint32_t cols, const void *data) {
    kvr_tensor_desc t;
    memset(&t, 0, sizeof t);
    t.role = (uint8_t)role;
    t.dtype = (uint8_t)dtype;
    t.rows = rows;
    t.cols = cols;
    t.bytes = rows * kvr_dtype_row_bytes(dtype, cols);
    t.data = data;
    return t;
}

static double measure_on(const tuner *u, const kvr_backend *b, const bench_case *c, kvr_error *error) {
    const kvr_tensor_desc tensors[] = {tensor(KVR_ROLE_MATRIX, c->dtype, c->weight_rows, COLUMNS, u->weight),
                                       tensor(KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, COLUMNS, NULL),
                                       tensor(KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, c->weight_rows, NULL)};
    kvr_backend_need need;
    kvr_backend_size size;
    void *memory = NULL;
    double rate = 0;
    memset(&need, 0, sizeof need);
    need.struct_bytes = sizeof need;
    need.n_tensors = 3;
    need.tensors = tensors;
    need.batch_tokens = ROWS;
    need.ctx_tokens = ROWS;
    need.n_heads = need.n_kv_heads = 1;
    need.head_dim = 64;
    if (b->measure(b->user, &need, &size, error) != KVR_OK ||
        posix_memalign(&memory, 64, (size_t)size.host_bytes) != 0)
        return 0;
    if (b->open(b->user, &need, memory, (size_t)size.host_bytes, error) == KVR_OK) rate = rate_of(b, c->weight_rows);
    b->close(b->user);
    free(memory);
    return rate;
}

static double measure_here(const tuner *u, const bench_case *c) {
    kvr_opencl_config config = u->config;
    kvr_opencl *opencl = NULL;
    kvr_backend backend;
    kvr_error error = {0};
    void *memory = NULL;
    double rate = 0;
    config.tuning = &u->best;
    config.gemm = c->gemm;
    config.precision = c->precision;
    if (posix_memalign(&memory, 64, kvr_opencl_bytes()) != 0) return 0;
    if (kvr_opencl_open(memory, kvr_opencl_bytes(), &config, NULL, &opencl, &error) == KVR_OK) {
        kvr_opencl_backend(opencl, &backend);
        rate = measure_on(u, &backend, c, &error);
        kvr_opencl_close(opencl);
    }
    free(memory);
    return rate;
}

typedef struct measuring {
    const tuner *u;
    const bench_case *c;
} measuring;

static int send_rate(void *arg, int fd) {
    const measuring *m = arg;
    signal(SIGINT, SIG_DFL); /* nothing here asks for them */
    signal(SIGTERM, SIG_DFL);
    const double rate = measure_here(m->u, m->c);
    return child_send(fd, &rate, sizeof rate);
}

/* In a process of its own: parameters of CLBlast that a process has used cannot be taken back. A candidate that the
 * device refuses, or dies of, counts as 0: it is not the best. */
static double measure(tuner *u, const bench_case *c) {
    measuring m = {u, c};
    double rate = 0;
    if (u->code != EXIT_OK) return 0;
    const int code = child_run(send_rate, &m, &rate, sizeof rate, NULL, NULL);
    if (code >= EXIT_SIGNAL_BASE) u->code = code;
    return rate;
}

static const bench_case FLOATS = {KVR_DTYPE_F16, WIDE, KVR_OPENCL_GEMM_OWN, KVR_OPENCL_PRECISION_EXACT};
static const bench_case INTEGERS = {KVR_DTYPE_Q8_0, WIDE, KVR_OPENCL_GEMM_OWN, KVR_OPENCL_PRECISION_FAST};
static const bench_case CLBLAST = {KVR_DTYPE_F16, WIDE, KVR_OPENCL_GEMM_CLBLAST, KVR_OPENCL_PRECISION_EXACT};

/* Tries values of one or two fields (the second may be NULL), keeps the best in u->best. */
static void try_values(tuner *u, const char *what, const bench_case *c, uint32_t *first, uint32_t *second,
                       const uint32_t (*values)[2], size_t n) {
    double best_rate = 0;
    uint32_t best[2] = {0, 0};
    printf("%s\n", what);
    for (size_t i = 0; i < n; i++) {
        *first = values[i][0];
        if (second != NULL) *second = values[i][1];
        const double rate = measure(u, c);
        if (second != NULL) printf("  %2u x %u  %8.1f Gmac/s\n", values[i][0], 16 * values[i][1], rate);
        else printf("  %7u  %8.1f Gmac/s\n", values[i][0], rate);
        fflush(stdout);
        if (rate <= best_rate) continue;
        best_rate = rate;
        memcpy(best, values[i], sizeof best);
    }
    *first = best[0];
    if (second != NULL) *second = best[1];
    u->failed |= best_rate <= 0;
}

/* CLBlast or own, for one kind of weight. */
static void decide(tuner *u, const char *what, const bench_case *own, uint32_t weight_rows, uint32_t *out) {
    bench_case c = *own;
    c.weight_rows = weight_rows;
    const double mine = measure(u, &c);
    c.gemm = KVR_OPENCL_GEMM_CLBLAST;
    const double theirs = measure(u, &c);
    /* without CLBlast, kvr's own is measured twice */
    const int is_theirs = theirs > mine * 1.05;
    *out = is_theirs ? KVR_OPENCL_GEMM_CLBLAST : KVR_OPENCL_GEMM_OWN;
    printf("%-22s own %8.1f, CLBlast %8.1f Gmac/s: %s\n", what, mine, theirs, is_theirs ? "CLBlast" : "own");
    fflush(stdout);
    u->failed |= mine <= 0 && theirs <= 0;
}

static int tune(tuner *u, const kvr_opencl_info *device) {
    static const uint32_t tiles[][2] = {{12, 2}, {14, 2}, {8, 2}, {6, 2}, {12, 1}, {8, 1}, {6, 1}, {4, 1}};
    static const uint32_t panels[][2] = {{64, 0}, {128, 0}, {256, 0}};
    static const uint32_t dots[][2] = {{6, 0}, {4, 0}, {5, 0}, {8, 0}, {3, 0}};
    /* CLBlast's own table first */
    static const uint32_t sets[][2] = {{1, 0}, {2, 0}, {3, 0}, {4, 0}};
    kvr_opencl_tuning *best = &u->best;
    char path[1100];
    if (!tuning_file_path(device, path, sizeof path))
        return say_error("there is no folder to keep the result in: set KVR_CACHE_DIR to one that can be written");
    memset(best, 0, sizeof *best);
    best->struct_bytes = sizeof *best;
    memcpy(best->device, device->name, sizeof best->device);
    memcpy(best->platform, device->platform_name, sizeof best->platform);
    memcpy(best->driver, device->driver_version, sizeof best->driver);
    printf("device %s (%s, driver %s)\n", device->name, device->platform_name, device->driver_version);
    try_values(u, "CLBlast's parameters (set)", &CLBLAST, &best->clblast_set, NULL, sets, 4);
    try_values(u, "own product in floats (rows x columns of a tile)", &FLOATS, &best->tile_rows, &best->tile_vecs,
               tiles, 8);
    try_values(u, "columns of a weight dequantised at a time", &FLOATS, &best->panel_k, NULL, panels, 3);
    try_values(u, "own product of 8 bit weights (rows of a tile)", &INTEGERS, &best->dot_rows, NULL, dots, 5);
    decide(u, "narrow weights, floats", &FLOATS, NARROW, &best->narrow_float);
    decide(u, "wide weights, floats", &FLOATS, WIDE, &best->wide_float);
    decide(u, "narrow weights, 8 bits", &INTEGERS, NARROW, &best->narrow_int);
    decide(u, "wide weights, 8 bits", &INTEGERS, WIDE, &best->wide_int);
    if (u->code != EXIT_OK) return u->code;
    if (u->failed)
        return say_error("a product failed in every form on this device; nothing was kept, try -d with another");
    const int code = tuning_file_save(path, best);
    if (code == EXIT_OK) printf("kept in %s\n", path);
    return code;
}

/* The device that the options name; in a child, so that every measurement begins with drivers at rest. */
static int send_device(void *arg, int fd) {
    const tuner *u = arg;
    kvr_error error = {0};
    kvr_opencl_info device;
    kvr_opencl *opencl = NULL;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, kvr_opencl_bytes()) != 0)
        return say_error("not enough memory to measure: end other programs");
    if (kvr_opencl_open(memory, kvr_opencl_bytes(), &u->config, NULL, &opencl, &error) != KVR_OK)
        return say_kvr_error("cannot use OpenCL ('kvr devices' lists what there is)", &error);
    kvr_opencl_device(opencl, &device);
    kvr_opencl_close(opencl);
    return child_send(fd, &device, sizeof device);
}

static int run(const options *opt) {
    tuner u;
    const char *place = opt->device;
    kvr_opencl_info device;
    memset(&u, 0, sizeof u);
    if (place != NULL && strcmp(place, "opencl") == 0) place = NULL;
    if (place != NULL && strncmp(place, "opencl:", 7) == 0) place += 7;
    u.config.struct_bytes = sizeof u.config;
    u.config.device = place;
    u.config.max_compute_units = opt->threads;
    if (opt->threads != 0 && affinity_hold(0, opt->threads) != 0)
        say_note("cannot hold this process to %u cores", opt->threads);
    u.weight = calloc((size_t)WIDE * COLUMNS, sizeof(float));
    if (u.weight == NULL) return say_error("not enough memory to measure: end other programs");
    int code = child_run(send_device, &u, &device, sizeof device, NULL, NULL);
    if (code == EXIT_OK) code = tune(&u, &device);
    free(u.weight);
    return code;
}
#else
static int run(const options *opt) {
    (void)opt;
    return say_error(
        "this kvr was built without OpenCL, so there is nothing to tune; build it with -DKVR_WITH_OPENCL=ON");
}
#endif

int cmd_tune(int argc, char **argv) {
    options opt;
    const int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    return code == OPTIONS_DONE ? run(&opt) : code;
}
