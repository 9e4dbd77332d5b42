/*
 * A chain of OpenCL boards in one process gives one board's answer, bit for bit; and that answer is the reference
 * backend's within the rounding of another order of summation. The rules are those of test_chain.c; only the backend of
 * the boards differs, and with it when transfers complete.
 */
#include "chain_devices.h"

#include <math.h>

#define NEW_TOKENS 64u

static void answer_with(const rig_model *model, chain_devices *d, const kvr_config *config, const int32_t *ids,
                        uint32_t n, uint32_t boards, const uint32_t *partition, rig_answer *out) {
    rig r;
    rig_options o;
    memset(&o, 0, sizeof o);
    o.config = *config;
    o.change = chain_devices_use;
    o.user = d;
    o.config.batch_tokens = 16;
    o.config.frame_tokens = 8;
    rig_open(&r, model, boards, &o);
    assert_int_equal(rig_prompt(&r, ids, n, NEW_TOKENS, boards, partition), KVR_OK);
    rig_run(&r, out);
    assert_int_equal(out->status, KVR_OK);
    rig_close(&r);
}

static void answer(const rig_model *model, chain_devices *d, const int32_t *ids, uint32_t n, uint32_t boards,
                   const uint32_t *partition, rig_answer *out) {
    const kvr_config config = {0};
    answer_with(model, d, &config, ids, n, boards, partition, out);
}

/* Activations of 8 bits move logits further from the reference than another order of summation does. */
static void compare_all(const rig_model *model, uint32_t precision) {
    static const struct {
        uint32_t boards, chunks[CHAIN_DEVICES];
    } cuts[] = {{2, {20, 20}}, {2, {1, 39}},         {2, {39, 1}},        {3, {1, 1, 38}},    {3, {13, 14, 13}},
                {3, {5, 34, 1}}, {4, {10, 10, 10, 10}}, {4, {1, 37, 1, 1}},  {4, {22, 9, 6, 3}}, {5, {8, 8, 8, 8, 8}},
                {5, {36, 1, 1, 1, 1}}, {5, {17, 3, 11, 8, 1}}};
    chain_devices d;
    rig_answer single, reference;
    int32_t ids[40];
    const float far = precision == KVR_OPENCL_PRECISION_EXACT ? 0.02f : 0.2f;
    chain_devices_open(&d, precision);
    rig_ids(ids, 40, model->info->n_vocab, 5);
    answer(model, &d, ids, 40, 1, NULL, &single);
    rig_single(model, NULL, ids, 40, NEW_TOKENS, &reference);
    for (uint32_t i = 0; i < model->info->n_vocab; i++)
        if (fabsf(single.logits[i] - reference.logits[i]) > far)
            fail_msg("logit %u: %f, reference %f", i, (double)single.logits[i], (double)reference.logits[i]);
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        rig_answer chain;
        answer(model, &d, ids, 40, cuts[c].boards, cuts[c].chunks, &chain);
        if (!rig_same(model, &single, &chain)) fail_msg("partition %u differs from one board", (unsigned)c);
        rig_answer_free(&chain);
    }
    rig_answer_free(&single);
    rig_answer_free(&reference);
    chain_devices_close(&d);
}

static void chains_of_opencl_boards_equal_one_board_on_random_models(void **state) {
    static const uint32_t dtypes[] = {KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    (void)state;
    if (rig_no_device()) skip();
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        gguf_shape shape = RIG_TINY;
        rig_model model;
        shape.dtype = dtypes[i];
        rig_model_make(&model, &shape);
        compare_all(&model, KVR_OPENCL_PRECISION_EXACT);
        if (shape.dtype != KVR_DTYPE_F16) compare_all(&model, KVR_OPENCL_PRECISION_INTEGER);
        rig_model_close(&model);
    }
}

static void chains_of_opencl_boards_equal_one_board_on_a_trained_model(void **state) {
    rig_model model;
    (void)state;
    if (rig_no_device() || !rig_model_stories(&model)) skip();
    compare_all(&model, KVR_OPENCL_PRECISION_EXACT);
    rig_model_close(&model);
}

static uint32_t window;
static void add_windows(gguf_maker *m) {
    gguf_key_u32(m, "llama.attention.sliding_window", window);
    gguf_key_u32(m, "llama.attention.sliding_window_pattern", 3);
}

/* One board that keeps all tokens, one that keeps the latest of layers with a window, and chains of such. */
static void layers_with_windows_give_the_same_bits_from_rings(void **state) {
    (void)state;
    enum { N = 170, CHUNK = 60 };
    static const uint32_t windows[] = {7, 40}, heads_of[] = {4, 2}; /* heads of 8 numbers, or of 16 */
    static const uint32_t cuts[][4] = {{50, 60, 60}, {56, 57, 57}, {60, 60, 50}};
    if (rig_no_device()) skip();
    for (size_t w = 0; w < 2; w++)
        for (int f32 = 0; f32 < 2; f32++) {
            gguf_shape shape = RIG_TINY;
            rig_model model;
            chain_devices d;
            int32_t ids[N];
            rig_answer all, ring;
            const kvr_config keeps_all = {.max_boards = 1, .all_keys = 1, .kv_dtype = f32 ? KVR_KV_F32 : 0};
            const kvr_config keeps_some = {.max_boards = 1, .kv_dtype = keeps_all.kv_dtype};
            const kvr_config in_chain = {.chunk_tokens = CHUNK, .kv_dtype = keeps_all.kv_dtype};
            window = windows[w];
            shape.n_layers = 4;
            shape.n_heads = heads_of[w];
            shape.more = add_windows;
            rig_model_make(&model, &shape);
            chain_devices_open(&d, KVR_OPENCL_PRECISION_EXACT);
            rig_ids(ids, N, model.info->n_vocab, 5);
            answer_with(&model, &d, &keeps_all, ids, N, 1, NULL, &all);
            answer_with(&model, &d, &keeps_some, ids, N, 1, NULL, &ring);
            assert_true(rig_same(&model, &all, &ring));
            rig_answer_free(&ring);
            for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
                answer_with(&model, &d, &in_chain, ids, N, 3, cuts[c], &ring);
                if (!rig_same(&model, &all, &ring)) fail_msg("window %u, partition %u differs", window, (unsigned)c);
                rig_answer_free(&ring);
            }
            rig_answer_free(&all);
            chain_devices_close(&d);
            rig_model_close(&model);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_of_opencl_boards_equal_one_board_on_random_models),
        cmocka_unit_test(chains_of_opencl_boards_equal_one_board_on_a_trained_model),
        cmocka_unit_test(layers_with_windows_give_the_same_bits_from_rings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
