/* The memory of a session, to the byte: what the plan says is what open takes and a whole question touches. */
#include "fenced.h"

#include "gguf_maker.h"
#include "kvr/kvr_session.h"
#include "kvr/kvr_cpu.h"
#include "kvr_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t no_time(void *user) {
    (void)user;
    return 0;
}

typedef struct made {
    uint8_t *file;
    size_t bytes;
    void *block;
    kvr_model *model;
    kvr_cpu cpu;
    kvr_backend backend;
    kvr_port port;
} made;

static gguf_shape base_shape(void) {
    gguf_shape s;
    memset(&s, 0, sizeof s);
    s.n_layers = 2;
    s.model_dim = 32;
    s.ffn_dim = 48;
    s.n_heads = 4;
    s.n_kv_heads = 2;
    s.n_vocab = 20;
    s.ctx = 40;
    s.seed = 3;
    return s;
}

static made make(const gguf_shape *shape) {
    made m;
    memset(&m, 0, sizeof m);
    m.file = gguf_make_llama(shape, &m.bytes);
    kvr_model_info info;
    assert_int_equal(kvr_model_probe(m.file, m.bytes, &info, NULL), KVR_OK);
    m.block = malloc((size_t)info.state_bytes + 64);
    assert_non_null(m.block);
    uint8_t *mem = (uint8_t *)m.block + (64 - (uintptr_t)m.block % 64) % 64;
    assert_int_equal(kvr_model_open(mem, (size_t)info.state_bytes, m.file, m.bytes, &m.model, NULL), KVR_OK);
    m.port.struct_bytes = sizeof m.port;
    m.port.now_us = no_time;
    return m;
}

/* The backend points into m, so m must be where it stays. */
static void use_cpu(made *m) { kvr_cpu_backend(&m->cpu, &m->backend); }

static void unmake(made *m) {
    free(m->block);
    free(m->file);
}

static kvr_config config_of(uint32_t ctx, uint32_t batch, uint32_t chunk, uint32_t boards) {
    kvr_config c;
    memset(&c, 0, sizeof c);
    c.struct_bytes = sizeof c;
    c.ctx_tokens = ctx;
    c.batch_tokens = batch;
    c.chunk_tokens = chunk;
    c.max_boards = boards;
    return c;
}

static kvr_status plan_of(made *m, const kvr_config *c, kvr_plan *out, kvr_error *error) {
    return kvr_plan_make(m->model, c, &m->backend, out, error);
}

static void zero_config_gives_the_documented_defaults(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    kvr_config c;
    memset(&c, 0, sizeof c);
    kvr_plan p, q;
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    assert_int_equal(p.ctx_tokens, 40); /* the model's training context */
    assert_int_equal(p.chunk_tokens, 40);
    assert_int_equal(p.batch_tokens, 40); /* 256, but never more than a chunk */
    assert_int_equal(p.kv_dtype, KVR_DTYPE_F16);
    assert_int_equal(p.max_boards, 1);
    assert_int_equal(p.frame_tokens, 128);
    assert_int_equal(p.peer_timeout_ms, 2000);
    assert_int_equal(p.stall_timeout_ms, 30000);
    assert_int_equal(plan_of(&m, NULL, &q, NULL), KVR_OK); /* no config is a zero config */
    assert_memory_equal(&p, &q, sizeof p);
    c.ctx_tokens = 1000; /* beyond the training context is the user's choice */
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    assert_int_equal(p.batch_tokens, 256);
    unmake(&m);
}

static void fields_out_of_range_are_refused(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    static const struct { size_t field; uint32_t value; kvr_status status; } rows[] = {
        {offsetof(kvr_config, ctx_tokens), 1, KVR_OK},
        {offsetof(kvr_config, ctx_tokens), 1u << 20, KVR_OK},
        {offsetof(kvr_config, ctx_tokens), (1u << 20) + 1, KVR_ERR_ARG},
        {offsetof(kvr_config, ctx_tokens), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, batch_tokens), 1, KVR_OK},
        {offsetof(kvr_config, batch_tokens), 4096, KVR_OK},
        {offsetof(kvr_config, batch_tokens), 4097, KVR_ERR_ARG},
        {offsetof(kvr_config, batch_tokens), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, chunk_tokens), 40, KVR_OK},
        {offsetof(kvr_config, chunk_tokens), 41, KVR_ERR_ARG},
        {offsetof(kvr_config, chunk_tokens), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, kv_dtype), KVR_DTYPE_F16, KVR_OK},
        {offsetof(kvr_config, kv_dtype), KVR_KV_F32, KVR_OK},
        {offsetof(kvr_config, kv_dtype), KVR_DTYPE_Q8_0, KVR_ERR_ARG},
        {offsetof(kvr_config, kv_dtype), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, wire_kv), KVR_DTYPE_F16, KVR_OK}, /* as cached */
        {offsetof(kvr_config, wire_kv), KVR_KV_F32, KVR_ERR_ARG},
        {offsetof(kvr_config, wire_kv), KVR_DTYPE_Q4_0, KVR_ERR_ARG},
        {offsetof(kvr_config, max_boards), 64, KVR_OK},
        {offsetof(kvr_config, max_boards), 65, KVR_ERR_ARG},
        {offsetof(kvr_config, max_boards), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, frame_tokens), 1, KVR_OK},
        {offsetof(kvr_config, frame_tokens), 4096, KVR_OK},
        {offsetof(kvr_config, frame_tokens), 4097, KVR_ERR_ARG},
        {offsetof(kvr_config, frame_tokens), UINT32_MAX, KVR_ERR_ARG},
        {offsetof(kvr_config, peer_timeout_ms), UINT32_MAX, KVR_OK}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kvr_config c;
        kvr_plan p, before;
        kvr_error error = {0};
        memset(&c, 0, sizeof c);
        memcpy((uint8_t *)&c + rows[i].field, &rows[i].value, sizeof rows[i].value);
        memset(&p, 0x5A, sizeof p);
        before = p;
        if (plan_of(&m, &c, &p, &error) != rows[i].status) fail_msg("row %u", (unsigned)i);
        if (rows[i].status == KVR_OK) continue;
        assert_memory_equal(&p, &before, sizeof p);
        assert_int_equal(error.status, rows[i].status);
        assert_int_equal(error.had, rows[i].value);
    }
    unmake(&m);
}

static void keys_of_8_bits_want_rows_of_whole_blocks(void **state) {
    (void)state;
    const gguf_shape shape = base_shape(); /* rows of 16 */
    made m = make(&shape);
    use_cpu(&m);
    kvr_config c = config_of(40, 8, 40, 2);
    kvr_plan p;
    kvr_error error = {0};
    c.wire_kv = KVR_DTYPE_Q8_0;
    assert_int_equal(plan_of(&m, &c, &p, &error), KVR_ERR_UNSUPPORTED);
    assert_int_equal(error.wanted, 32);
    unmake(&m);
}

static void a_training_context_too_large_for_a_session_asks_for_a_smaller_one(void **state) {
    (void)state;
    gguf_shape shape = base_shape();
    shape.ctx = 1u << 21;
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    const kvr_config c = config_of(100, 0, 0, 0);
    assert_int_equal(plan_of(&m, NULL, &p, NULL), KVR_ERR_ARG);
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    unmake(&m);
}

static void a_vocabulary_alone_cannot_be_planned(void **state) {
    (void)state;
    gguf_shape shape = base_shape();
    shape.vocab_only = 1;
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    kvr_error error = {0};
    assert_int_equal(plan_of(&m, NULL, &p, &error), KVR_ERR_UNSUPPORTED);
    assert_non_null(error.text);
    assert_int_equal(kvr_plan_make(NULL, NULL, &m.backend, &p, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_plan_make(m.model, NULL, NULL, &p, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_plan_make(m.model, NULL, &m.backend, NULL, NULL), KVR_ERR_ARG);
    unmake(&m);
}

static uint64_t row_bytes(const kvr_plan *p, const char *name) {
    for (uint32_t i = 0; i < p->n_rows; i++)
        if (strcmp(p->rows[i].name, name) == 0) return p->rows[i].bytes;
    return 0;
}

static void check_rows(const kvr_plan *p) {
    uint64_t sum[KVR_REGION_COUNT] = {0};
    assert_in_range(p->n_rows, 1, KVR_PLAN_ROWS);
    for (uint32_t i = 0; i < p->n_rows; i++) {
        assert_true(p->rows[i].region < KVR_REGION_COUNT && p->rows[i].name != NULL && p->rows[i].bytes > 0);
        sum[p->rows[i].region] += p->rows[i].bytes;
    }
    for (uint32_t r = 0; r < KVR_REGION_COUNT; r++) assert_true(sum[r] == p->region_bytes[r]);
}

static void rows_sum_to_the_regions(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    for (uint32_t boards = 1; boards <= 4; boards += 3) {
        kvr_plan p;
        kvr_config c = config_of(96, 16, 48, boards);
        c.frame_tokens = 8;
        assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
        check_rows(&p);
        assert_int_equal(p.struct_bytes, sizeof p);
        assert_int_equal(p.region_bytes[KVR_REGION_MAPPED], m.bytes);
        assert_int_equal(p.region_bytes[KVR_REGION_MODEL], kvr_model_get_info(m.model)->state_bytes);
        assert_int_equal(p.region_bytes[KVR_REGION_DEVICE], 0); /* the reference backend is all host */
        assert_int_equal(row_bytes(&p, "keys and values"), 2 * 2 * 96 * 16 * 2); /* L, K and V, S, G*D, F16 */
        const uint64_t work =
            4u * (48 * 32 + 16 * (32 + 2 * 32 + 2 * 16 + 2 * 48) + 20); /* C*M + B*(M+2HD+2GD+2F) + V */
        assert_in_range(row_bytes(&p, "activations"), work, work + 9 * 64);
        assert_int_equal(row_bytes(&p, "link buffers") != 0, boards > 1);
        assert_int_equal(row_bytes(&p, "chain tables") != 0, boards > 1);
        if (boards > 1) assert_true(row_bytes(&p, "link buffers") >= 3 * p.frame_bytes);
        assert_true(p.frame_bytes >= 2 * 8 * 16 * 2);
    }
    unmake(&m);
}

static void every_region_has_a_name(void **state) {
    (void)state;
    for (int r = 0; r < KVR_REGION_COUNT; r++) {
        assert_string_not_equal(kvr_region_name((kvr_region)r), "?");
        for (int k = 0; k < r; k++)
            assert_string_not_equal(kvr_region_name((kvr_region)r), kvr_region_name((kvr_region)k));
    }
    assert_string_equal(kvr_region_name(KVR_REGION_COUNT), "?");
}

static void f32_keys_and_values_take_twice_the_bytes(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan half, full;
    kvr_config c = config_of(64, 0, 0, 2);
    assert_int_equal(plan_of(&m, &c, &half, NULL), KVR_OK);
    c.kv_dtype = KVR_KV_F32;
    assert_int_equal(plan_of(&m, &c, &full, NULL), KVR_OK);
    assert_int_equal(full.kv_dtype, KVR_DTYPE_F32);
    assert_int_equal(row_bytes(&full, "keys and values"), 2 * row_bytes(&half, "keys and values"));
    assert_int_equal(full.frame_bytes - 64, 2 * (half.frame_bytes - 64));
    unmake(&m);
}

/* A prompt of the whole chunk and as many answers as fit. */
static void ask_until_full(kvr_session *s, const kvr_plan *p, uint32_t n_vocab) {
    int32_t ids[256];
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.n_ids = p->chunk_tokens < 256 ? p->chunk_tokens : 256;
    for (uint32_t i = 0; i < prompt.n_ids; i++) ids[i] = (int32_t)(i * 7 % n_vocab);
    prompt.ids = ids;
    prompt.max_new_tokens = UINT32_MAX;
    prompt.ignore_eos = 1;
    prompt.sampling.temperature = 1.0f;
    prompt.sampling.top_p = 0.9f;
    assert_int_equal(kvr_session_prompt(s, &prompt), KVR_OK);
    assert_int_equal(kvr_session_run(s, NULL, NULL), KVR_OK);
    kvr_stats stats;
    kvr_session_get_stats(s, &stats);
    assert_int_equal(stats.n_new_tokens, p->ctx_tokens - prompt.n_ids + 1);
}

/* Logits after a prompt of 40 tokens and the token that follows. */
static void logits_of(made *m, const kvr_config *c, float out[20]) {
    kvr_plan p;
    kvr_session *s;
    int32_t ids[40];
    kvr_prompt prompt;
    assert_int_equal(plan_of(m, c, &p, NULL), KVR_OK);
    fenced f = fenced_alloc((size_t)p.region_bytes[KVR_REGION_SESSION]);
    assert_int_equal(kvr_session_open(f.at, f.bytes, m->model, c, &m->backend, &m->port, &s, NULL), KVR_OK);
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.n_ids = 40;
    for (int32_t i = 0; i < 40; i++) ids[i] = i * 11 % 20;
    prompt.ids = ids;
    prompt.max_new_tokens = 2;
    prompt.ignore_eos = 1;
    assert_int_equal(kvr_session_prompt(s, &prompt), KVR_OK);
    assert_int_equal(kvr_session_run(s, NULL, NULL), KVR_OK);
    memcpy(out, kvr_session_logits(s), 20 * sizeof *out);
    kvr_session_close(s);
    fenced_free(&f);
}

static void no_size_in_the_plan_changes_a_bit_of_the_logits(void **state) {
    (void)state;
    gguf_shape shape = base_shape();
    shape.ffn_dim = 100;
    made m = make(&shape);
    use_cpu(&m);
    const kvr_config whole = config_of(41, 40, 0, 1);
    float want[20], got[20];
    logits_of(&m, &whole, want);
    for (uint32_t batch = 1; batch < 40; batch += 1 + batch / 3) {
        const kvr_config c = config_of(41 + batch * 10, batch, 40, batch % 3);
        logits_of(&m, &c, got);
        assert_memory_equal(got, want, sizeof got);
    }
    unmake(&m);
}

/* Opens in exactly the planned bytes, between guard bytes and an unreadable page, and fills the context. */
static void check_exact(made *m, const kvr_config *c) {
    kvr_plan p;
    kvr_error error = {0};
    kvr_session *s = NULL;
    assert_int_equal(plan_of(m, c, &p, &error), KVR_OK);
    check_rows(&p);
    const size_t bytes = (size_t)p.region_bytes[KVR_REGION_SESSION];

    fenced f = fenced_alloc(64 + bytes); /* ends exactly: nothing behind is read or written */
    memset(f.at, 0xA5, f.bytes);
    assert_int_equal(kvr_session_open(f.at + 64, bytes - 1, m->model, c, &m->backend, &m->port, &s, &error),
                     KVR_ERR_NOMEM);
    assert_true(error.wanted == bytes && error.had == bytes - 1);
    for (size_t i = 0; i < f.bytes; i++) assert_int_equal(f.at[i], 0xA5);
    assert_null(s);
    assert_int_equal(kvr_session_open(f.at + 64, bytes, m->model, c, &m->backend, &m->port, &s, NULL), KVR_OK);
    assert_memory_equal(kvr_session_get_plan(s), &p, sizeof p);
    ask_until_full(s, &p, kvr_model_get_info(m->model)->n_vocab);
    kvr_session_close(s);
    for (size_t i = 0; i < 64; i++) assert_int_equal(f.at[i], 0xA5);
    fenced_free(&f);
}

static void the_exact_size_works_and_one_byte_less_touches_nothing(void **state) {
    (void)state;
    static const struct { uint32_t layers, dim, ffn, heads, kv_heads, head_dim, vocab, dtype, tied; } shapes[] = {
        {1, 4, 3, 2, 1, 0, 5, KVR_DTYPE_F32, 0},   {3, 30, 17, 3, 3, 0, 33, KVR_DTYPE_F16, 1},
        {2, 64, 96, 4, 2, 32, 20, KVR_DTYPE_Q8_0, 0}, {1, 32, 32, 8, 1, 8, 301, KVR_DTYPE_Q4_0, 1}};
    static const struct { uint32_t ctx, batch, chunk, boards, frame, kv; } configs[] = {
        {1, 0, 0, 0, 0, 0},   {2, 1, 1, 2, 1, 0},   {17, 5, 13, 3, 4, KVR_KV_F32},
        {70, 70, 0, 64, 3, 0}, {130, 64, 100, 1, 0, 0}, {66, 7, 0, 5, 4096, KVR_KV_F32}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        gguf_shape shape = base_shape();
        shape.n_layers = shapes[i].layers;
        shape.model_dim = shapes[i].dim;
        shape.ffn_dim = shapes[i].ffn;
        shape.n_heads = shapes[i].heads;
        shape.n_kv_heads = shapes[i].kv_heads;
        shape.head_dim = shapes[i].head_dim;
        shape.n_vocab = shapes[i].vocab;
        shape.dtype = shapes[i].dtype;
        shape.tied_head = shapes[i].tied;
        made m = make(&shape);
        use_cpu(&m);
        for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
            kvr_config c = config_of(configs[k].ctx, configs[k].batch, configs[k].chunk, configs[k].boards);
            c.frame_tokens = configs[k].frame;
            c.kv_dtype = configs[k].kv;
            check_exact(&m, &c);
        }
        unmake(&m);
    }
}

static void more_memory_than_planned_stays_untouched_behind(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    kvr_session *s;
    const kvr_config c = config_of(40, 8, 0, 3);
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    const size_t bytes = (size_t)p.region_bytes[KVR_REGION_SESSION];
    fenced f = fenced_alloc(bytes + 4096);
    memset(f.at, 0xA5, f.bytes);
    assert_int_equal(kvr_session_open(f.at, f.bytes, m.model, &c, &m.backend, &m.port, &s, NULL), KVR_OK);
    ask_until_full(s, &p, 20);
    kvr_session_close(s);
    for (size_t i = bytes; i < f.bytes; i++) assert_int_equal(f.at[i], 0xA5);
    assert_int_equal(kvr_session_open(f.at + 32, f.bytes - 32, m.model, &c, &m.backend, &m.port, &s, NULL),
                     KVR_ERR_ARG);
    fenced_free(&f);
    unmake(&m);
}

static void the_plan_is_what_the_backend_measures(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    kvr_backend_need need;
    kvr_backend_size size;
    const kvr_config c = config_of(50, 10, 30, 1);
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    assert_int_equal(kvri_layout_need(m.model, &p, NULL, &need), KVR_OK);
    assert_int_equal(m.backend.measure(m.backend.user, &need, &size, NULL), KVR_OK);
    assert_int_equal(row_bytes(&p, "keys and values"), size.kv_bytes);
    assert_int_equal(row_bytes(&p, "activations"), size.work_bytes);
    assert_int_equal(row_bytes(&p, "scratch"), size.scratch_bytes);
    assert_int_equal(row_bytes(&p, "backend state") + size.kv_bytes + size.work_bytes + size.scratch_bytes,
                     size.host_bytes);
    assert_int_equal(need.batch_tokens, 10);
    assert_int_equal(need.ctx_tokens, 50);
    unmake(&m);
}

/* A backend on a device: nothing in the host, large numbers. */
static kvr_backend_size device_size;
static kvr_status measure_device(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    (void)user;
    (void)need;
    (void)error;
    *out = device_size;
    return KVR_OK;
}

static void device_memory_and_estimates_have_their_own_regions(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    m.backend.measure = measure_device;
    memset(&device_size, 0, sizeof device_size);
    device_size.host_bytes = 640;
    device_size.weight_bytes = UINT64_C(5) << 32;
    device_size.kv_bytes = 1000;
    device_size.work_bytes = 200;
    device_size.scratch_bytes = 30;
    device_size.driver_bytes = 4;
    kvr_plan p;
    assert_int_equal(plan_of(&m, NULL, &p, NULL), KVR_OK);
    check_rows(&p);
    assert_true(p.region_bytes[KVR_REGION_DEVICE] == (UINT64_C(5) << 32) + 1230);
    assert_int_equal(p.region_bytes[KVR_REGION_DRIVER], 4);
    assert_int_equal(row_bytes(&p, "backend state"), 640);
    device_size.host_bytes = UINT64_MAX - 10; /* does not fit any address space */
    assert_int_equal(plan_of(&m, NULL, &p, NULL), KVR_ERR_NOMEM);
    unmake(&m);
}

static kvr_status refuse_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    (void)user;
    (void)need;
    (void)out;
    if (error != NULL) error->status = KVR_ERR_TYPE;
    return KVR_ERR_TYPE;
}

static void what_the_backend_refuses_is_passed_on(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    m.backend.measure = refuse_measure;
    kvr_plan p;
    kvr_error error = {0};
    assert_int_equal(plan_of(&m, NULL, &p, &error), KVR_ERR_TYPE);
    assert_int_equal(error.status, KVR_ERR_TYPE);
    unmake(&m);
}

/* A file whose header promises a giant: many wide layers, whose tensors are not there, cannot exist; so a small file
 * is opened and its numbers are made large in the tables, as arithmetic sees them. */
static void sizes_beyond_64_bits_are_refused(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    kvr_error error = {0};
    kvr_config c = config_of(1u << 20, 4096, 1u << 20, 64);
    c.kv_dtype = KVR_KV_F32;
    c.frame_tokens = 4096;
    const kvr_model_info whole = m.model->info;
    m.model->info.n_kv_heads = m.model->info.n_heads = 1u << 30;
    m.model->info.head_dim = 1u << 30;
    assert_true(plan_of(&m, &c, &p, &error) < 0);
    m.model->info = whole;
    m.model->info.n_heads = m.model->info.head_dim = 1u << 20; /* a row of 2^40 numbers */
    m.model->info.n_kv_heads = 1;
    memset(&error, 0, sizeof error);
    c.frame_tokens = 1;
    assert_int_equal(plan_of(&m, &c, &p, &error), KVR_ERR_NOMEM);
    m.model->info = whole;
    m.model->info.model_dim = UINT32_MAX;
    m.model->info.ffn_dim = UINT32_MAX;
    memset(&error, 0, sizeof error);
    const kvr_status status = plan_of(&m, &c, &p, &error); /* 2^52 * 4 bytes: fits 64 bits, not 32 */
    assert_int_equal(status, sizeof(size_t) > 4 ? KVR_OK : KVR_ERR_NOMEM);
    m.model->info = whole;
    unmake(&m);
}

static void a_larger_context_never_needs_less(void **state) {
    (void)state;
    const gguf_shape shape = base_shape();
    made m = make(&shape);
    use_cpu(&m);
    uint64_t last = 0;
    for (uint32_t ctx = 1; ctx < 3000; ctx += 1 + ctx / 3) {
        kvr_plan p;
        const kvr_config c = config_of(ctx, 0, 0, 4);
        assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
        assert_true(p.region_bytes[KVR_REGION_SESSION] >= last);
        last = p.region_bytes[KVR_REGION_SESSION];
    }
    unmake(&m);
}

static void the_smallest_legal_frame_holds_every_message(void **state) {
    (void)state;
    gguf_shape shape = base_shape();
    shape.model_dim = 4;
    shape.n_heads = shape.n_kv_heads = 2;
    made m = make(&shape);
    use_cpu(&m);
    kvr_plan p;
    kvr_config c = config_of(2, 0, 0, 2);
    c.frame_tokens = 1;
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    assert_true(p.frame_bytes >= 64 + 8 + 5 * 4 + KVR_ADDRESS_CAP); /* a HELLO */
    c.ctx_tokens = 4000;
    assert_int_equal(plan_of(&m, &c, &p, NULL), KVR_OK);
    assert_true(p.frame_bytes >= 64 + 4 * 4000); /* a JOB with all its tokens */
    unmake(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_config_gives_the_documented_defaults),
        cmocka_unit_test(fields_out_of_range_are_refused),
        cmocka_unit_test(keys_of_8_bits_want_rows_of_whole_blocks),
        cmocka_unit_test(a_training_context_too_large_for_a_session_asks_for_a_smaller_one),
        cmocka_unit_test(a_vocabulary_alone_cannot_be_planned),
        cmocka_unit_test(rows_sum_to_the_regions),
        cmocka_unit_test(every_region_has_a_name),
        cmocka_unit_test(f32_keys_and_values_take_twice_the_bytes),
        cmocka_unit_test(no_size_in_the_plan_changes_a_bit_of_the_logits),
        cmocka_unit_test(the_exact_size_works_and_one_byte_less_touches_nothing),
        cmocka_unit_test(more_memory_than_planned_stays_untouched_behind),
        cmocka_unit_test(the_plan_is_what_the_backend_measures),
        cmocka_unit_test(device_memory_and_estimates_have_their_own_regions),
        cmocka_unit_test(what_the_backend_refuses_is_passed_on),
        cmocka_unit_test(sizes_beyond_64_bits_are_refused),
        cmocka_unit_test(a_larger_context_never_needs_less),
        cmocka_unit_test(the_smallest_legal_frame_holds_every_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
