/* Every architecture on the OpenCL backend in float arithmetic. KVR_TEST_DEVICE chooses the device, as for
 * tests/opencl. */
#include "golden.h"

#include "kvr/kvr_opencl.h"

#define BOARDS 4u

typedef struct devices {
    kvr_opencl *opencl[BOARDS];
    rig_memory memory[BOARDS];
    kvr_backend backend[BOARDS];
} devices;

static int no_device(void) {
    uint32_t n = 0;
    kvr_error error;
    memset(&error, 0, sizeof error);
    if (kvr_opencl_list(NULL, 0, &n, &error) == KVR_OK) return 0;
    printf("skipped: no OpenCL device on this machine\n");
    return 1;
}

static void devices_open(devices *d) {
    kvr_opencl_config config;
    kvr_error error;
    memset(&config, 0, sizeof config);
    memset(&error, 0, sizeof error);
    config.struct_bytes = sizeof config;
    config.device = getenv("KVR_TEST_DEVICE");
    config.precision = KVR_OPENCL_PRECISION_EXACT;
    for (uint32_t b = 0; b < BOARDS; b++) {
        d->memory[b] = rig_take(kvr_opencl_bytes());
        assert_int_equal(kvr_opencl_open(d->memory[b].at, d->memory[b].bytes, &config, NULL, &d->opencl[b], &error),
                         KVR_OK);
        kvr_opencl_backend(d->opencl[b], &d->backend[b]);
    }
}

static void devices_close(devices *d) {
    for (uint32_t b = 0; b < BOARDS; b++) {
        kvr_opencl_close(d->opencl[b]);
        free(d->memory[b].raw);
    }
}

static kvr_backend plain; /* the table without the change below; user is passed through */

static kvr_status wait_and_ask(void *user, kvr_fence fence) {
    plain.wait(user, fence);
    return plain.done(user, fence);
}

/* The rig's clock jumps while all boards wait, here also for the device: nothing may count as a timeout. */
static void on_opencl(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    devices *d = r->options.user;
    (void)link;
    config->peer_timeout_ms = UINT32_MAX;
    *backend = plain = d->backend[board];
    backend->done = wait_and_ask;
}

static void check_all(int chains) {
    devices d;
    rig_options options;
    memset(&options, 0, sizeof options);
    devices_open(&d);
    options.change = on_opencl;
    options.user = &d;
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;
        golden_open(&g, golden_names[i]);
        if (chains) golden_check_chains(&g, golden_names[i], &options);
        else golden_check_logits(&g, golden_names[i], &options, 5e-3);
        golden_close(&g);
    }
    devices_close(&d);
}

static void every_architecture_has_the_logits_and_the_text_of_transformers(void **state) {
    (void)state;
    if (no_device()) skip();
    check_all(0);
}

static void chains_of_every_architecture_give_the_bits_of_one_board(void **state) {
    (void)state;
    if (no_device()) skip();
    check_all(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_has_the_logits_and_the_text_of_transformers),
        cmocka_unit_test(chains_of_every_architecture_give_the_bits_of_one_board),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
