/* Every architecture on the OpenCL backend in float arithmetic. KVR_TEST_DEVICE chooses the device, as for
 * tests/opencl. */
#include "chain_devices.h"
#include "golden.h"

static void check_all(int chains) {
    chain_devices d;
    rig_options options;
    memset(&options, 0, sizeof options);
    chain_devices_open(&d, KVR_OPENCL_PRECISION_EXACT);
    options.change = chain_devices_use;
    options.user = &d;
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;
        golden_open(&g, golden_names[i]);
        if (chains) golden_check_chains(&g, golden_names[i], &options);
        else golden_check_logits(&g, golden_names[i], &options, 5e-3);
        golden_close(&g);
    }
    chain_devices_close(&d);
}

static void every_architecture_has_the_logits_and_the_text_of_transformers(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check_all(0);
}

static void chains_of_every_architecture_give_the_bits_of_one_board(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check_all(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_has_the_logits_and_the_text_of_transformers),
        cmocka_unit_test(chains_of_every_architecture_give_the_bits_of_one_board),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
