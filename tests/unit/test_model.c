/* From a GGUF file to geometry and tensors: what is required, what is refused, and whose memory is touched. */
#include "fenced.h"

#include "gguf_maker.h"
#include "kvr/kvr_chat.h"
#include "kvr_rope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Two layers, grouped heads, separate head, no byte tokens: a header of few bytes. */
static gguf_shape small_shape(void) {
    gguf_shape s;
    memset(&s, 0, sizeof s);
    s.n_layers = 2;
    s.model_dim = 32;
    s.ffn_dim = 64;
    s.n_heads = 4;
    s.n_kv_heads = 2;
    s.n_vocab = 40;
    s.ctx = 64;
    s.dtype = KVR_DTYPE_Q8_0;
    s.seed = 1;
    return s;
}

/* A model open in memory of exactly state_bytes. */
typedef struct opened {
    uint8_t *file;
    size_t bytes;
    fenced mem;
    kvr_model *model;
    kvr_model_info info;
    kvr_error error;
} opened;

static kvr_status open_bytes(opened *o, uint8_t *file, size_t bytes) {
    memset(o, 0, sizeof *o);
    o->file = file;
    o->bytes = bytes;
    kvr_status status = kvr_model_probe(file, bytes, &o->info, &o->error);
    if (status != KVR_OK) return status;
    o->mem = fenced_alloc((size_t)o->info.state_bytes);
    status = kvr_model_open(o->mem.at, o->mem.bytes, file, bytes, &o->model, &o->error);
    return status;
}

static void close_opened(opened *o) {
    if (o->mem.at != NULL) fenced_free(&o->mem);
    free(o->file);
}

static kvr_status open_shape(opened *o, const gguf_shape *shape) {
    size_t bytes;
    uint8_t *file = gguf_make_llama(shape, &bytes);
    return open_bytes(o, file, bytes);
}

/* The status that a file of this shape gives, from probe and open alike; checks that an error says something. */
static kvr_status status_of(const gguf_shape *shape) {
    opened o;
    const kvr_status status = open_shape(&o, shape);
    assert_int_equal(status, o.error.status);
    if (status != KVR_OK) assert_true(o.error.text != NULL && o.error.module != NULL);
    close_opened(&o);
    return status;
}

static void a_whole_file_is_described_by_its_info(void **state) {
    (void)state;
    const gguf_shape shape = small_shape();
    opened o;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    const kvr_model_info *i = kvr_model_get_info(o.model);
    assert_memory_equal(i, &o.info, sizeof *i);
    assert_string_equal(i->architecture, "llama");
    assert_string_equal(i->name, "made for a test");
    assert_int_equal(i->gguf_version, 3);
    assert_int_equal(i->file_bytes, o.bytes);
    assert_int_equal(i->n_tensors, 3 + 2 * 9);
    assert_int_equal(i->n_layers, 2);
    assert_int_equal(i->model_dim, 32);
    assert_int_equal(i->ffn_dim, 64);
    assert_int_equal(i->n_heads, 4);
    assert_int_equal(i->n_kv_heads, 2);
    assert_int_equal(i->head_dim, 8);
    assert_int_equal(i->rope_dims, 8);
    assert_int_equal(i->train_ctx_tokens, 64);
    assert_true(i->norm_eps == 1e-5f && i->rope_base == 10000.0f && i->rope_scale == 1.0f);
    assert_int_equal(i->tied_head, 0);
    const uint64_t matrices = 2u * 40 * 32 + 2u * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32), vectors = 5 * 32;
    assert_int_equal(i->n_params, matrices + vectors);
    assert_int_equal(i->weight_bytes, matrices / 32 * 34 + vectors * 4);
    assert_int_equal(i->n_types, 2);
    assert_int_equal(i->types[0].dtype, KVR_DTYPE_Q8_0);
    assert_int_equal(i->types[0].n_tensors, 16);
    assert_int_equal(i->types[0].bytes, matrices / 32 * 34);
    assert_int_equal(i->types[1].n_tensors, 5);
    assert_int_equal(i->vocab_kind, KVR_VOCAB_SPM);
    assert_int_equal(i->n_vocab, 40);
    assert_int_equal(i->bos_id, 1);
    assert_int_equal(i->eos_id, 2);
    assert_int_equal(i->unk_id, 0);
    assert_true(i->add_bos && !i->add_eos && i->add_space_prefix);
    close_opened(&o);
}

static void every_weight_is_found_where_the_file_has_it(void **state) {
    (void)state;
    const gguf_shape shape = small_shape();
    opened o;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    kvri_gguf_tensor t;
    kvri_gguf_cursor c = kvri_gguf_first_tensor(&o.model->gguf);
    uint32_t met = 0;
    while (kvri_gguf_next_tensor(&o.model->gguf, &c, &t) == KVR_OK) {
        for (uint32_t w = 0; w < o.model->n_weights; w++) {
            const kvr_tensor_desc *d = &o.model->tensors[w];
            if (d->data != (const uint8_t *)o.file + t.offset) continue;
            assert_true(d->bytes == t.bytes && d->cols == t.dims[0] && d->rows == t.dims[1] && d->dtype == t.type);
            met++;
        }
    }
    assert_int_equal(met, 21);
    assert_int_equal(o.model->n_weights, 21);
    assert_int_equal(o.model->tensors[kvri_weight(&o.model->weights, 1, KVRI_FFN_DOWN)].rows, 32);
    assert_int_equal(o.model->tensors[kvri_weight(&o.model->weights, 1, KVRI_FFN_DOWN)].cols, 64);
    assert_int_equal(o.model->tensors[kvri_weight(&o.model->weights, 1, KVRI_FFN_DOWN)].layer, 1);
    assert_int_equal(kvri_weight(&o.model->weights, 0, KVRI_HEAD), 2);
    close_opened(&o);
}

static void every_dtype_and_version_2_are_read(void **state) {
    (void)state;
    static const uint32_t types[] = {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_Q4_0, KVR_DTYPE_Q8_0};
    for (size_t t = 0; t < 4; t++) {
        gguf_shape shape = small_shape();
        shape.dtype = types[t];
        shape.vector_dtype = t % 2 == 0 ? KVR_DTYPE_F16 : KVR_DTYPE_F32;
        shape.version = 2 + (uint32_t)t % 2;
        assert_int_equal(status_of(&shape), KVR_OK);
    }
}

static void a_required_key_that_is_missing_or_of_another_type_is_refused(void **state) {
    (void)state;
    static const char *const keys[] = {
        "general.architecture", "llama.context_length", "llama.embedding_length", "llama.block_count",
        "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        opened o;
        gguf_shape shape = small_shape();
        shape.without = keys[i];
        assert_int_equal(open_shape(&o, &shape), KVR_ERR_KEY);
        assert_non_null(strstr(keys[i], o.error.detail[0] == '%' ? o.error.detail + 1 : o.error.detail)); /* named */
        close_opened(&o);
        shape.without = NULL;
        shape.wrong_type = keys[i];
        assert_int_equal(status_of(&shape), KVR_ERR_KEY);
    }
}

static void an_optional_key_of_another_type_is_refused_too(void **state) {
    (void)state;
    static const struct { const char *key; kvr_status status; } rows[] = {
        {"llama.attention.head_count_kv", KVR_ERR_KEY}, {"llama.attention.key_length", KVR_ERR_KEY},
        {"llama.attention.value_length", KVR_ERR_KEY},  {"llama.rope.dimension_count", KVR_ERR_KEY},
        {"llama.rope.freq_base", KVR_ERR_KEY},          {"llama.rope.scaling.type", KVR_ERR_KEY},
        {"llama.rope.scaling.factor", KVR_ERR_KEY},     {"tokenizer.ggml.tokens", KVR_ERR_KEY},
        {"tokenizer.ggml.scores", KVR_ERR_VOCAB},       {"tokenizer.ggml.token_type", KVR_ERR_VOCAB},
        {"tokenizer.ggml.bos_token_id", KVR_ERR_KEY},   {"tokenizer.ggml.eos_token_id", KVR_ERR_KEY}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gguf_shape shape = small_shape();
        shape.head_dim = 8;
        shape.rope_dims = 8;
        shape.rope_base = 1e6f;
        shape.rope_scaling = "linear";
        shape.rope_factor = 2.0f;
        assert_int_equal(status_of(&shape), KVR_OK);
        shape.wrong_type = rows[i].key;
        assert_int_equal(status_of(&shape), rows[i].status);
    }
}

static const char *const tensor_names[] = {
    "token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
    "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "blk.1.attn_q.weight", "blk.1.ffn_down.weight", "output.weight"};
#define N_NAMES (sizeof tensor_names / sizeof tensor_names[0])

static void a_tensor_that_is_missing_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i + 1 < N_NAMES; i++) { /* without output.weight the head is tied */
        gguf_shape shape = small_shape();
        shape.without = tensor_names[i];
        assert_int_equal(status_of(&shape), KVR_ERR_TENSOR);
    }
}

static void a_tensor_of_another_shape_is_refused_by_its_name(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        opened o;
        gguf_shape shape = small_shape();
        shape.wrong_shape = tensor_names[i];
        assert_int_equal(open_shape(&o, &shape), KVR_ERR_TENSOR);
        assert_string_equal(o.error.detail, tensor_names[i]);
        assert_true(o.error.wanted != 0 && o.error.had > o.error.wanted);
        close_opened(&o);
    }
}

static void a_tensor_of_an_unknown_type_is_refused_by_its_name(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        opened o;
        gguf_shape shape = small_shape();
        shape.wrong_type = tensor_names[i];
        assert_int_equal(open_shape(&o, &shape), KVR_ERR_TYPE);
        assert_string_equal(o.error.detail, tensor_names[i]);
        assert_int_equal(o.error.native, 4);
        close_opened(&o);
    }
}

static void a_vector_in_blocks_is_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.vector_dtype = KVR_DTYPE_Q8_0;
    assert_int_equal(status_of(&shape), KVR_ERR_TYPE);
}

static void add_head_of_three_dimensions(gguf_maker *m) {
    static const float data[32 * 40 * 2] = {0};
    const uint64_t dims[3] = {32, 40, 2};
    gguf_tensor(m, "output.weight", KVR_DTYPE_F32, 3, dims, data, sizeof data);
}

static void a_matrix_of_three_dimensions_is_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.tied_head = 1;
    shape.more = add_head_of_three_dimensions;
    assert_int_equal(status_of(&shape), KVR_ERR_TENSOR);
}

static void add_head_in_broken_blocks(gguf_maker *m) {
    static const uint8_t data[4096] = {0};
    const uint64_t dims[2] = {40, 40};
    gguf_tensor(m, "output.weight", KVR_DTYPE_Q8_0, 2, dims, data, sizeof data);
}

static void rows_that_are_not_whole_blocks_are_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.dtype = KVR_DTYPE_F32;
    shape.model_dim = 40;
    shape.tied_head = 1;
    shape.more = add_head_in_broken_blocks;
    assert_int_equal(status_of(&shape), KVR_ERR_CORRUPT);
}

static void add_thousands_of_tensors(gguf_maker *m) {
    const uint64_t dims[1] = {1};
    for (uint32_t i = 0; i < 65536; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", (unsigned)i);
        gguf_tensor(m, name, KVR_DTYPE_F32, 1, dims, "\0\0\0", 4);
    }
}

static void more_tensors_than_any_model_has_are_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.more = add_thousands_of_tensors;
    assert_int_equal(status_of(&shape), KVR_ERR_CORRUPT);
}

static void a_tensor_that_is_there_twice_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        gguf_shape shape = small_shape();
        shape.twice = tensor_names[i];
        assert_int_not_equal(status_of(&shape), KVR_OK);
        shape.without = tensor_names[(i + 1) % (N_NAMES - 1)]; /* also when the number of tensors is right */
        if (strcmp(shape.without, shape.twice) != 0) assert_int_not_equal(status_of(&shape), KVR_OK);
    }
}

static void add_named(gguf_maker *m, const char *name) {
    const uint64_t dims[1] = {32};
    const float data[32] = {0};
    gguf_tensor(m, name, KVR_DTYPE_F32, 1, dims, data, sizeof data);
}
static void add_bias(gguf_maker *m) { add_named(m, "blk.0.attn_q.bias"); }
static void add_head_norm(gguf_maker *m) { add_named(m, "blk.0.attn_q_norm.weight"); }
static void add_third_layer(gguf_maker *m) { add_named(m, "blk.2.attn_norm.weight"); }
static void add_huge_layer(gguf_maker *m) { add_named(m, "blk.99999999999999999999.attn_norm.weight"); }
static void add_no_layer(gguf_maker *m) { add_named(m, "blk..attn_norm.weight"); }
static void add_longer_name(gguf_maker *m) { add_named(m, "blk.0.attn_norm.weight2"); }
static void add_shorter_name(gguf_maker *m) { add_named(m, "blk.0."); }

static void a_tensor_that_llama_does_not_have_is_refused(void **state) {
    (void)state;
    static void (*const extras[])(gguf_maker *) = {add_head_norm, add_third_layer, add_huge_layer, add_no_layer,
                                                   add_longer_name, add_shorter_name};
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        gguf_shape shape = small_shape();
        shape.more = extras[i];
        assert_int_equal(status_of(&shape), KVR_ERR_UNSUPPORTED);
    }
}

static void longrope_without_its_factors_is_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.rope_scaling = "longrope";
    assert_int_equal(status_of(&shape), KVR_ERR_TENSOR);
}

static void a_bias_that_only_one_layer_has_is_refused(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.more = add_bias;
    assert_int_equal(open_shape(&o, &shape), KVR_ERR_TENSOR);
    assert_string_equal(o.error.detail, "attn_q.bias");
    close_opened(&o);
}

static void an_architecture_that_does_not_run_is_named(void **state) {
    (void)state;
    static const char *const others[] = {"mamba", "llama4", "llam",
                                         "",      "\xff\n", "llamallamallamallamallamallamallamallama"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        opened o;
        gguf_shape shape = small_shape();
        shape.architecture = others[i];
        assert_int_equal(open_shape(&o, &shape), KVR_ERR_ARCH);
        assert_true(strlen(o.error.detail) < 32);
        close_opened(&o);
    }
}

static void heads_that_do_not_divide_are_refused(void **state) {
    (void)state;
    static const struct { uint32_t dim, heads, kv_heads, head_dim; kvr_status status; } rows[] = {
        {32, 4, 4, 0, KVR_OK},           {32, 4, 1, 0, KVR_OK},
        {32, 4, 0, 0, KVR_OK},           {32, 4, 3, 0, KVR_ERR_CORRUPT}, /* 4 heads on 3 */
        {32, 4, 8, 0, KVR_ERR_KEY},      {64, 3, 1, 0, KVR_ERR_CORRUPT}, /* 64 over 3 heads */
        {32, 4, 2, 16, KVR_OK},          {32, 3, 1, 32, KVR_OK}, /* a head size of its own: only the keys divide */
        {32, 32, 32, 0, KVR_ERR_UNSUPPORTED}, /* one number per head cannot be rotated */
        {96, 32, 32, 0, KVR_ERR_UNSUPPORTED}}; /* three neither */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gguf_shape shape = small_shape();
        shape.dtype = KVR_DTYPE_F32;
        shape.model_dim = rows[i].dim;
        shape.n_heads = rows[i].heads;
        shape.n_kv_heads = rows[i].kv_heads;
        shape.head_dim = rows[i].head_dim;
        if (status_of(&shape) != rows[i].status) fail_msg("row %u", (unsigned)i);
    }
}

static void add_experts(gguf_maker *m) { gguf_key_u32(m, "llama.expert_count", 8); }
static void add_window(gguf_maker *m) { gguf_key_u32(m, "llama.attention.sliding_window", 32); }
static void add_wide_window(gguf_maker *m) { gguf_key_u32(m, "llama.attention.sliding_window", 64); }
static void add_value_length(gguf_maker *m) { gguf_key_u32(m, "llama.attention.value_length", 16); }
static void add_zero_layers(gguf_maker *m) { gguf_key_u32(m, "llama.block_count", 0); }
static void add_negative_layers(gguf_maker *m) {
    gguf_key(m, "llama.block_count", KVRI_GGUF_I32);
    gguf_put_le(&m->kv, UINT32_MAX, 4);
}
static void add_layers_u64(gguf_maker *m) {
    gguf_key(m, "llama.block_count", KVRI_GGUF_U64);
    gguf_put_le(&m->kv, (UINT64_C(1) << 32) + 2, 8);
}
static void add_nan_eps(gguf_maker *m) { gguf_key_f32(m, "llama.attention.layer_norm_rms_epsilon", NAN); }
static void add_negative_base(gguf_maker *m) { gguf_key_f32(m, "llama.rope.freq_base", -1.0f); }
static void add_infinite_base(gguf_maker *m) { gguf_key_f32(m, "llama.rope.freq_base", INFINITY); }
static void add_odd_rope(gguf_maker *m) { gguf_key_u32(m, "llama.rope.dimension_count", 3); }
static void add_wide_rope(gguf_maker *m) { gguf_key_u32(m, "llama.rope.dimension_count", 10); }
static void add_bos_outside(gguf_maker *m) { gguf_key_u32(m, "tokenizer.ggml.bos_token_id", 40); }
static void add_bos_none(gguf_maker *m) { gguf_key_u32(m, "tokenizer.ggml.bos_token_id", UINT32_MAX); }
static void add_short_scores(gguf_maker *m) {
    gguf_bytes four = {NULL, 0, 0};
    gguf_put_le(&four, 0, 4);
    gguf_key_array(m, "tokenizer.ggml.scores", KVRI_GGUF_F32, 1, &four);
    free(four.at);
}
static void add_no_tokens(gguf_maker *m) {
    gguf_key_array(m, "tokenizer.ggml.tokens", KVRI_GGUF_STRING, 0, &(gguf_bytes){NULL, 0, 0});
}
static void add_list_of_heads(gguf_maker *m) {
    gguf_bytes eight = {NULL, 0, 0};
    gguf_put_le(&eight, 4, 4);
    gguf_put_le(&eight, 2, 4);
    gguf_key_array(m, "llama.attention.head_count", KVRI_GGUF_U32, 2, &eight);
    free(eight.at);
}
static void add_layers_in_other_widths(gguf_maker *m) {
    gguf_key(m, "llama.block_count", KVRI_GGUF_U8);
    gguf_put_le(&m->kv, 2, 1);
    gguf_key(m, "llama.attention.head_count", KVRI_GGUF_I16);
    gguf_put_le(&m->kv, 4, 2);
    gguf_key(m, "llama.embedding_length", KVRI_GGUF_I64);
    gguf_put_le(&m->kv, 32, 8);
    gguf_key(m, "llama.feed_forward_length", KVRI_GGUF_U16);
    gguf_put_le(&m->kv, 64, 2);
    gguf_key(m, "llama.attention.head_count_kv", KVRI_GGUF_I8);
    gguf_put_le(&m->kv, 2, 1);
}
static void add_negative_in_a_byte(gguf_maker *m) {
    gguf_key(m, "llama.block_count", KVRI_GGUF_I8);
    gguf_put_le(&m->kv, 0xfe, 1);
}

static void add_one_part(gguf_maker *m) {
    gguf_key_u32(m, "split.count", 1);
}
static void add_causal(gguf_maker *m) {
    gguf_key_bool(m, "llama.attention.causal", 1);
}
static void add_yarn(gguf_maker *m) {
    gguf_key_text(m, "llama.rope.scaling.type", "yarn");
    gguf_key_f32(m, "llama.rope.scaling.yarn_ext_factor", -1.0f);
    gguf_key_f32(m, "llama.rope.scaling.yarn_attn_factor", 1.0f);
    gguf_key_f32(m, "llama.rope.scaling.yarn_beta_fast", 4.0f);
    gguf_key_f32(m, "llama.rope.scaling.yarn_beta_slow", 0.5f);
}
static void add_yarn_ends_first(gguf_maker *m) {
    gguf_key_f32(m, "llama.rope.scaling.yarn_beta_slow", 32.0f);
}

static void keys_out_of_range_are_refused(void **state) {
    (void)state;
    static const struct { void (*add)(gguf_maker *); kvr_status status; } rows[] = {
        {add_experts, KVR_ERR_UNSUPPORTED}, {add_window, KVR_OK}, {add_wide_window, KVR_OK},
        {add_value_length, KVR_ERR_UNSUPPORTED}, {add_zero_layers, KVR_ERR_KEY}, {add_negative_layers, KVR_ERR_KEY},
        {add_layers_u64, KVR_ERR_KEY}, {add_nan_eps, KVR_ERR_KEY}, {add_negative_base, KVR_ERR_KEY},
        {add_infinite_base, KVR_ERR_KEY}, {add_odd_rope, KVR_ERR_KEY}, {add_wide_rope, KVR_ERR_KEY},
        {add_bos_outside, KVR_ERR_VOCAB}, {add_bos_none, KVR_OK}, {add_short_scores, KVR_ERR_VOCAB},
        {add_no_tokens, KVR_ERR_KEY}, {add_list_of_heads, KVR_ERR_KEY}, {add_layers_in_other_widths, KVR_OK},
        {add_negative_in_a_byte, KVR_ERR_KEY}, {add_one_part, KVR_OK}, {add_causal, KVR_OK}, {add_yarn, KVR_OK},
        {add_yarn_ends_first, KVR_ERR_KEY}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gguf_shape shape = small_shape();
        shape.more = rows[i].add;
        if (status_of(&shape) != rows[i].status) fail_msg("row %u", (unsigned)i);
    }
}

static void add_window_in_1(gguf_maker *m) {
    add_window(m);
    gguf_key_u32(m, "llama.attention.sliding_window_pattern", 1);
}

/* The last one of so many layers sees all tokens: of 1, every one. */
static void a_window_in_every_layer_but_the_last_of_one_is_none(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.more = add_window;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.window_tokens, 32);
    close_opened(&o);
    shape.more = add_window_in_1;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.window_tokens, 0);
    close_opened(&o);
}

static void a_recorded_failure_is_kept_whole(void **state) {
    (void)state;
    static const char *const deviations[] = {"llama.block_count", "token_embd.weight"};
    for (size_t i = 0; i < 3; i++) {
        gguf_shape shape = small_shape();
        if (i == 0) shape.more = add_zero_layers;
        else shape.wrong_shape = i == 1 ? deviations[1] : NULL;
        if (i == 2) shape.wrong_type = deviations[1];
        size_t bytes;
        uint8_t *file = gguf_make_llama(&shape, &bytes);
        kvr_error error = {0};
        error.status = KVR_ERR_IO;
        error.module = "earlier";
        const kvr_error before = error;
        kvr_model_info info;
        assert_true(kvr_model_probe(file, bytes, &info, &error) < 0);
        assert_memory_equal(&error, &before, sizeof error);
        free(file);
    }
}

static void a_tied_head_is_the_embedding(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.tied_head = 1;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.tied_head, 1);
    assert_int_equal(kvri_weight(&o.model->weights, 0, KVRI_HEAD), KVR_NO_TENSOR);
    /* no hole */
    assert_int_equal(o.model->n_weights, kvri_weight(&o.model->weights, o.model->info.n_layers, KVRI_ATTN_NORM));
    close_opened(&o);
}

/* Frequencies by the definition (Su et al. 2021). */
static void check_freq(const gguf_shape *shape, double base, double scale, uint32_t dims) {
    opened o;
    float freq[64];
    assert_int_equal(open_shape(&o, shape), KVR_OK);
    assert_int_equal(o.info.rope_dims, dims);
    assert_true(o.info.rope_scale == (float)scale);
    kvri_rope_freq(o.model, KVRI_ROPE_GLOBAL, o.model->info.train_ctx_tokens, freq);
    const uint8_t *factors = o.model->rope_factors.always;
    assert_int_equal(factors != NULL, shape->rope_freqs != 0);
    for (uint32_t i = 0; i < dims / 2; i++) {
        double want = pow(base, -2.0 * i / dims) / scale;
        if (factors != NULL) want /= (double)kvri_lef32(factors + 4 * (size_t)i);
        assert_true(fabs((double)freq[i] - want) <= 1e-6 * want);
    }
    close_opened(&o);
}

static void add_zero_factor(gguf_maker *m) { gguf_key_f32(m, "llama.rope.scaling.factor", 0.0f); }

static void rotary_frequencies_follow_the_keys(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    check_freq(&shape, 10000.0, 1.0, 8);
    shape.more = add_zero_factor; /* some writers mean "none" */
    check_freq(&shape, 10000.0, 1.0, 8);
    shape.more = NULL;
    shape.rope_base = 500000.0f;
    check_freq(&shape, 500000.0, 1.0, 8);
    shape.rope_scaling = "linear";
    shape.rope_factor = 4.0f;
    check_freq(&shape, 500000.0, 4.0, 8);
    shape.rope_scaling = "none";
    check_freq(&shape, 500000.0, 1.0, 8);
    shape.rope_scaling = NULL; /* older files have only the factor */
    check_freq(&shape, 500000.0, 4.0, 8);
    shape.rope_dims = 4;
    shape.rope_freqs = 1;
    check_freq(&shape, 500000.0, 4.0, 4);
}

static void another_stretching_of_positions_is_refused_by_its_name(void **state) {
    (void)state;
    static const char *const kinds[] = {"dynamic", "", "linear2"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        opened o;
        gguf_shape shape = small_shape();
        shape.rope_scaling = kinds[i];
        shape.rope_factor = 4.0f;
        assert_int_equal(open_shape(&o, &shape), KVR_ERR_UNSUPPORTED);
        assert_string_equal(o.error.detail, kinds[i]);
        close_opened(&o);
    }
}

static void rope_factors_of_another_shape_are_refused(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.rope_freqs = 1;
    shape.wrong_shape = "rope_freqs.weight";
    assert_int_equal(status_of(&shape), KVR_ERR_TENSOR);
    shape.wrong_shape = NULL;
    shape.wrong_type = "rope_freqs.weight";
    assert_int_equal(status_of(&shape), KVR_ERR_TENSOR);
    shape.wrong_type = NULL;
    shape.twice = "rope_freqs.weight";
    assert_int_equal(status_of(&shape), KVR_ERR_CORRUPT);
}

static void a_file_with_only_a_vocabulary_opens(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.vocab_only = 1;
    shape.architecture = "phi3"; /* tokenizers of other models are welcome */
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.n_tensors, 0);
    assert_int_equal(o.info.n_layers, 0);
    assert_int_equal(o.info.model_dim, 0);
    assert_int_equal(o.info.n_vocab, 40);
    assert_int_equal(o.model->n_weights, 0);
    close_opened(&o);
}

static void a_model_without_a_vocabulary_takes_its_size_from_the_embedding(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.without = "tokenizer.ggml.tokens";
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.n_vocab, 40);
    assert_int_equal(o.info.vocab_kind, KVR_VOCAB_NONE);
    close_opened(&o);
}

static void add_merges(gguf_maker *m) {
    gguf_bytes list = {NULL, 0, 0};
    gguf_put_string(&list, "a b", 3);
    gguf_key_text(m, "tokenizer.ggml.model", "gpt2");
    gguf_key_text(m, "tokenizer.ggml.pre", "gpt-2");
    gguf_key_array(m, "tokenizer.ggml.merges", KVRI_GGUF_STRING, 1, &list);
    free(list.at);
}
static void add_bpe_without_merges(gguf_maker *m) { gguf_key_text(m, "tokenizer.ggml.model", "gpt2"); }
static void add_merges_of_numbers(gguf_maker *m) {
    add_bpe_without_merges(m);
    gguf_key_array(m, "tokenizer.ggml.merges", KVRI_GGUF_U8, 0, &(gguf_bytes){NULL, 0, 0});
}
static void add_unknown_tokenizer(gguf_maker *m) { gguf_key_text(m, "tokenizer.ggml.model", "bert"); }

static void a_byte_level_vocabulary_needs_its_merges(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.more = add_merges;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.vocab_kind, KVR_VOCAB_BPE);
    assert_int_equal(o.info.n_merges, 1);
    assert_string_equal(o.info.vocab_model, "gpt2");
    assert_string_equal(o.info.vocab_pre, "gpt-2");
    assert_int_equal(o.info.add_space_prefix, 0);
    assert_int_equal(o.info.eos_id, 2);
    close_opened(&o);
    shape.without = "tokenizer.ggml.eos_token_id"; /* by custom 11, a word here */
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.eos_id, -1);
    close_opened(&o);
    shape.more = add_bpe_without_merges;
    assert_int_equal(status_of(&shape), KVR_ERR_KEY);
    shape.more = add_merges_of_numbers;
    assert_int_equal(status_of(&shape), KVR_ERR_KEY);
}

static void an_unknown_tokenizer_leaves_ids_in_and_ids_out(void **state) {
    (void)state;
    opened o;
    gguf_shape shape = small_shape();
    shape.more = add_unknown_tokenizer;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    assert_int_equal(o.info.vocab_kind, KVR_VOCAB_NONE);
    assert_int_equal(o.info.n_vocab, 40);
    for (int32_t id = -1; id <= 40; id++) assert_int_equal(kvr_chat_is_end(o.model, 0, id), id == 2);
    close_opened(&o);
}

static void one_byte_of_memory_less_than_asked_touches_nothing(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.n_vocab = 300;
    size_t bytes;
    uint8_t *file = gguf_make_llama(&shape, &bytes);
    kvr_model_info info;
    assert_int_equal(kvr_model_probe(file, bytes, &info, NULL), KVR_OK);
    fenced mem = fenced_alloc((size_t)info.state_bytes + 64);
    memset(mem.at, 0xA5, mem.bytes);
    kvr_model *model = NULL;
    for (size_t less = 1; less < info.state_bytes; less = less * 3) {
        kvr_error error = {0};
        assert_int_equal(kvr_model_open(mem.at, (size_t)info.state_bytes - less, file, bytes, &model, &error),
                         KVR_ERR_NOMEM);
        assert_true(error.wanted == info.state_bytes && error.had == info.state_bytes - less);
    }
    for (size_t i = 0; i < mem.bytes; i++) assert_int_equal(mem.at[i], 0xA5);
    assert_null(model);
    assert_int_equal(kvr_model_open(mem.at, (size_t)info.state_bytes, file, bytes, &model, NULL), KVR_OK);
    for (size_t i = (size_t)info.state_bytes; i < mem.bytes; i++) assert_int_equal(mem.at[i], 0xA5); /* behind it */
    assert_int_equal(kvr_model_open(mem.at + 8, mem.bytes - 8, file, bytes, &model, NULL), KVR_ERR_ARG); /* alignment */
    fenced_free(&mem);
    free(file);
}

static void null_arguments_are_refused(void **state) {
    (void)state;
    kvr_model_info info;
    kvr_model *model;
    uint8_t byte = 0;
    assert_int_equal(kvr_model_probe(NULL, 0, &info, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_model_probe(&byte, 1, NULL, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_model_open(NULL, 0, &byte, 1, &model, NULL), KVR_ERR_ARG);
}

static void an_error_leaves_the_info_alone(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.without = "blk.1.ffn_down.weight";
    size_t bytes;
    uint8_t *file = gguf_make_llama(&shape, &bytes);
    kvr_model_info info, before;
    memset(&info, 0x5A, sizeof info);
    memcpy(&before, &info, sizeof info);
    assert_int_equal(kvr_model_probe(file, bytes, &info, NULL), KVR_ERR_TENSOR);
    assert_memory_equal(&info, &before, sizeof info);
    free(file);
}

static uint64_t fingerprint_of(const uint8_t *file, size_t bytes) {
    kvr_model_info info;
    memset(&info, 0, sizeof info);
    return kvr_model_probe(file, bytes, &info, NULL) == KVR_OK ? info.fingerprint : 0;
}

static void the_fingerprint_covers_the_header_and_the_samples_of_weights(void **state) {
    (void)state;
    const gguf_shape shape = small_shape();
    opened o;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    const uint64_t ours = o.info.fingerprint;
    assert_int_equal(fingerprint_of(o.file, o.bytes), ours);
    /* any other token text, key or name: flip the lowest bit of each header byte that still gives a valid file */
    uint32_t valid = 0;
    for (uint64_t i = 0; i < o.model->gguf.data_at - 32; i++) {
        o.file[i] ^= 1;
        const uint64_t other = fingerprint_of(o.file, o.bytes);
        if (other != 0) valid++;
        assert_true(other != ours);
        o.file[i] ^= 1;
    }
    assert_true(valid > 100);
    for (uint32_t w = 0; w < o.model->n_weights; w++) {
        const kvr_tensor_desc *t = &o.model->tensors[w];
        uint8_t *data = o.file + ((const uint8_t *)t->data - o.file);
        const uint64_t sample = t->bytes < 256 ? t->bytes : 256, middle = (t->bytes - sample) / 2;
        const uint64_t places[] = {0, sample - 1, middle, middle + sample - 1};
        for (size_t k = 0; k < 4; k++) {
            data[places[k]] ^= 0x10;
            assert_true(fingerprint_of(o.file, o.bytes) != ours);
            data[places[k]] ^= 0x10;
        }
    }
    close_opened(&o);
}

/* Both calls on bytes that end where nothing may be read. */
static kvr_status try_fenced(const uint8_t *file, size_t bytes, fenced *mem) {
    kvr_model_info info;
    kvr_model *model;
    kvr_error error = {0};
    kvr_status status = kvr_model_probe(file, bytes, &info, &error);
    assert_true(status <= 0 && error.status == status);
    if (status != KVR_OK || info.state_bytes > mem->bytes) return status;
    status = kvr_model_open(mem->at, (size_t)info.state_bytes, file, bytes, &model, &error);
    assert_true(status <= 0 && error.status == status);
    return status;
}

static void damaged_files_are_refused_or_read_within_their_bounds(void **state) {
    (void)state;
    gguf_shape shape = small_shape();
    shape.n_layers = 1;
    shape.n_vocab = 8;
    opened o;
    assert_int_equal(open_shape(&o, &shape), KVR_OK);
    const size_t header = (size_t)o.model->gguf.data_at;
    fenced f = fenced_alloc(o.bytes), mem = fenced_alloc(1u << 20);
    for (size_t n = 0; n < o.bytes; n++) {
        if (n == header + 64) n = o.bytes - 300; /* in between only tensors are cut */
        memcpy(fenced_tail(&f, n), o.file, n);
        assert_true(try_fenced(fenced_tail(&f, n), n, &mem) < 0);
    }
    memcpy(f.at, o.file, o.bytes);
    for (size_t bit = 0; bit < header * 8; bit++) {
        f.at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        try_fenced(f.at, o.bytes, &mem);
        f.at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_int_equal(try_fenced(f.at, o.bytes, &mem), KVR_OK);
    fenced_free(&f);
    fenced_free(&mem);
    close_opened(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_described_by_its_info),
        cmocka_unit_test(every_weight_is_found_where_the_file_has_it),
        cmocka_unit_test(every_dtype_and_version_2_are_read),
        cmocka_unit_test(a_required_key_that_is_missing_or_of_another_type_is_refused),
        cmocka_unit_test(an_optional_key_of_another_type_is_refused_too),
        cmocka_unit_test(a_tensor_that_is_missing_is_refused),
        cmocka_unit_test(a_tensor_of_another_shape_is_refused_by_its_name),
        cmocka_unit_test(a_tensor_of_an_unknown_type_is_refused_by_its_name),
        cmocka_unit_test(a_vector_in_blocks_is_refused),
        cmocka_unit_test(a_matrix_of_three_dimensions_is_refused),
        cmocka_unit_test(rows_that_are_not_whole_blocks_are_refused),
        cmocka_unit_test(more_tensors_than_any_model_has_are_refused),
        cmocka_unit_test(a_tensor_that_is_there_twice_is_refused),
        cmocka_unit_test(a_tensor_that_llama_does_not_have_is_refused),
        cmocka_unit_test(a_bias_that_only_one_layer_has_is_refused),
        cmocka_unit_test(longrope_without_its_factors_is_refused),
        cmocka_unit_test(an_architecture_that_does_not_run_is_named),
        cmocka_unit_test(heads_that_do_not_divide_are_refused),
        cmocka_unit_test(keys_out_of_range_are_refused),
        cmocka_unit_test(a_window_in_every_layer_but_the_last_of_one_is_none),
        cmocka_unit_test(a_recorded_failure_is_kept_whole),
        cmocka_unit_test(a_tied_head_is_the_embedding),
        cmocka_unit_test(rotary_frequencies_follow_the_keys),
        cmocka_unit_test(another_stretching_of_positions_is_refused_by_its_name),
        cmocka_unit_test(rope_factors_of_another_shape_are_refused),
        cmocka_unit_test(a_file_with_only_a_vocabulary_opens),
        cmocka_unit_test(a_model_without_a_vocabulary_takes_its_size_from_the_embedding),
        cmocka_unit_test(a_byte_level_vocabulary_needs_its_merges),
        cmocka_unit_test(an_unknown_tokenizer_leaves_ids_in_and_ids_out),
        cmocka_unit_test(one_byte_of_memory_less_than_asked_touches_nothing),
        cmocka_unit_test(null_arguments_are_refused),
        cmocka_unit_test(an_error_leaves_the_info_alone),
        cmocka_unit_test(the_fingerprint_covers_the_header_and_the_samples_of_weights),
        cmocka_unit_test(damaged_files_are_refused_or_read_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
