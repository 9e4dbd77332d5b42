/* Every architecture on the reference backend. */
#include "golden.h"
#include "kvr_model.h"

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

/* Files from before llama.cpp had these keys, and what transformers' Gemma2Config says then. */
static void a_gemma2_that_is_silent_on_caps_and_window_has_those_of_its_family(void **state) {
    (void)state;
    static const char *const keys[] = {"gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping",
                                       "gemma2.attention.sliding_window"};
    size_t bytes = 0;
    uint8_t *file = read_file(KVR_GOLDEN_DIR "/models/gemma2.gguf", &bytes);
    rig_model m;
    assert_non_null(file);
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        const size_t n = strlen(keys[k]);
        size_t at = 0;
        while (at + n <= bytes && memcmp(file + at, keys[k], n) != 0) at++;
        assert_true(at + n <= bytes);
        file[at + n - 1] = 'X';
    }
    rig_model_open(&m, file, bytes);
    assert_true(m.model->traits.attn_soft_cap == 50.0f && m.model->traits.logit_soft_cap == 30.0f);
    assert_int_equal(m.info->window_tokens, 4096);
    rig_model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_has_the_logits_and_the_text_of_transformers),
        cmocka_unit_test(chains_of_every_architecture_give_the_bits_of_one_board),
        cmocka_unit_test(a_gemma2_that_is_silent_on_caps_and_window_has_those_of_its_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
