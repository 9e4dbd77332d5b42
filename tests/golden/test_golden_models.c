/* Every architecture on the reference backend. */
#include "golden.h"

static void every_architecture_has_the_logits_and_the_text_of_transformers(void **state) {
    (void)state;
    const rig_options options = {0};
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;
        golden_open(&g, golden_names[i]);
        golden_check_logits(&g, golden_names[i], &options, 2e-3);
        golden_close(&g);
    }
}

static void chains_of_every_architecture_give_the_bits_of_one_board(void **state) {
    (void)state;
    const rig_options options = {0};
    for (size_t i = 0; i < GOLDEN_MODELS; i++) {
        golden g;
        golden_open(&g, golden_names[i]);
        golden_check_chains(&g, golden_names[i], &options);
        golden_close(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_has_the_logits_and_the_text_of_transformers),
        cmocka_unit_test(chains_of_every_architecture_give_the_bits_of_one_board),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
