/*
 * Any bytes as frames from the network. First byte: bit 0 to a lead, else to a helper; bits 1-3 polls that a read
 * takes; bits 4-6 when an operator fails, a lead with 7 is meeting its boards instead of asking them; bit 7 a lead's
 * strategy is TSP. Then entries: a mode byte, a length (u16), bytes. Checksums would stop every
 * guess, so a mode can say that the bytes are a recipe which is made into a sound frame. The backend is the reference
 * with reads that take their time, as on a device.
 */
#include "fuzz_target.h"

#include "gguf_maker.h"
#include "kvr/kvr.h"
#include "kvr_frame.h"
#include "kvr_model.h"

enum {
    /* bytes: kind, rank, epoch, layer, first, count, dtype, then the payload. Without it they are the frame itself, and
     * none at all means that receiving fails, one byte that a frame was dropped (even) or that sending fails (odd). */
    MODE_RECIPE = 1,
    MODE_ECHO = 2,        /* session and epoch of the last frame that the board sent */
    MODE_FINGERPRINT = 4, /* the payload begins with this model's fingerprint */
    MODE_BLOCKED = 8,     /* the link takes nothing until the next entry */
    MODE_POLLS = 48,      /* 0, 1, 4 or 16 polls first */
    MODE_FILL = 64,       /* a payload of as many rows as count says */
    MODE_JUMP = 128       /* 20 s pass */
};

/* Above the kind in a recipe's first byte. */
enum { KIND_BITS = 63, KIND_OTHER_SESSION = 64, KIND_OTHER_VERSION = 128 };

#define FRAME_CAP 4096u
#define N_HELPERS 2u

/* A read whose bytes are taken now and delivered later. */
typedef struct slow_read {
    void *dst;
    uint8_t *bytes;
    size_t n;
    uint32_t polls_left;
} slow_read;

typedef struct world {
    uint64_t now_us;
    uint8_t frame[FRAME_CAP]; /* what recv gives next */
    size_t frame_bytes;       /* 0: nothing */
    int blocked;
    kvr_status trouble;       /* what recv returns once instead; 0: nothing */
    kvr_status send_trouble;  /* the same for send */
    uint64_t session; /* of the last frame sent */
    uint32_t epoch;
    kvr_backend reference;
    const kvr_model *model;
    uint32_t patience; /* polls that a read takes */
    uint32_t fails_at; /* the operator call that fails, once; 0: none */
    slow_read reads[KVR_BACKEND_FENCES];
} world;

static uint8_t *model_file;
static size_t model_bytes;
static kvr_model_info model_info;

static int32_t first_answer = -1; /* to the question at the end */

static uint64_t now(void *user) { return ((world *)user)->now_us; }

static kvr_status link_connect(void *user, uint32_t peer, const char *address) {
    (void)user;
    (void)peer;
    FUZZ_CHECK(memchr(address, 0, KVR_ADDRESS_CAP) != NULL);
    return address[0] == 0 ? KVR_ERR_ADDRESS : KVR_OK;
}

static kvr_status link_send(void *user, uint32_t peer, const void *frame, size_t bytes) {
    world *w = (world *)user;
    kvri_frame f;
    (void)peer;
    FUZZ_CHECK(kvri_frame_open((const uint8_t *)frame, bytes, &f) == KVR_OK); /* a board says nothing unsound */
    const kvr_status trouble = w->send_trouble;
    w->send_trouble = KVR_OK;
    if (trouble != KVR_OK) return trouble;
    if (w->blocked) return KVR_AGAIN;
    w->session = f.session;
    w->epoch = f.epoch;
    return KVR_OK;
}

static kvr_status link_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    world *w = (world *)user;
    const size_t n = w->frame_bytes;
    const kvr_status trouble = w->trouble;
    w->trouble = KVR_OK;
    if (trouble != KVR_OK) return trouble;
    if (n == 0) return KVR_AGAIN;
    w->frame_bytes = 0;
    if (n > cap) return KVR_ERR_FRAME;
    memcpy(buf, w->frame, n);
    *out_bytes = n;
    return KVR_OK;
}

/* --- the slow backend: all but reads goes straight to the reference ------------------------------------------- */

/* Bytes of so many rows of a cache tensor or an activation; the model's tensor list is the one that was opened. */
static size_t row_bytes_of(const world *w, uint32_t tensor) {
    const kvr_tensor_desc *t = &w->model->tensors[tensor];
    return (size_t)kvr_dtype_row_bytes(t->dtype, t->cols);
}

static int fails(world *w) { return w->fails_at != 0 && --w->fails_at == 0; }

static kvr_status slow_start(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after, kvr_fence *out_fence) {
    world *w = (world *)user;
    uint32_t i = 0;
    while (i < KVR_BACKEND_FENCES && w->reads[i].bytes != NULL) i++;
    FUZZ_CHECK(i < KVR_BACKEND_FENCES); /* the core keeps to the limit */
    slow_read *r = &w->reads[i];
    r->n = rows * row_bytes_of(w, src.tensor);
    r->bytes = (uint8_t *)malloc(r->n);
    FUZZ_CHECK(r->bytes != NULL);
    r->dst = dst;
    r->polls_left = w->patience;
    kvr_fence done;
    if (fails(w)) {
        free(r->bytes);
        r->bytes = NULL;
        return KVR_ERR_DEVICE;
    }
    FUZZ_CHECK(w->reference.read(w->reference.user, src, rows, r->bytes, after, &done) == KVR_OK && done == 0);
    memset(dst, 0xEE, r->n); /* may be written from now on */
    *out_fence = i + 1;
    return KVR_OK;
}

static kvr_status slow_done(void *user, kvr_fence fence) {
    world *w = (world *)user;
    FUZZ_CHECK(fence >= 1 && fence <= KVR_BACKEND_FENCES);
    slow_read *r = &w->reads[fence - 1];
    FUZZ_CHECK(r->bytes != NULL); /* asked once more after it was done */
    if (r->polls_left > 0) {
        r->polls_left--;
        return KVR_AGAIN;
    }
    memcpy(r->dst, r->bytes, r->n);
    free(r->bytes);
    r->bytes = NULL;
    return KVR_OK;
}

static void drop_reads(world *w) {
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        free(w->reads[i].bytes);
        w->reads[i].bytes = NULL;
    }
}

static kvr_status slow_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    world *w = (world *)user;
    return w->reference.measure(w->reference.user, need, out, error);
}
static kvr_status slow_open(void *user, const kvr_backend_need *need, void *mem, size_t bytes, kvr_error *error) {
    world *w = (world *)user;
    return w->reference.open(w->reference.user, need, mem, bytes, error);
}
static void slow_close(void *user) {
    world *w = (world *)user;
    drop_reads(w);
    w->reference.close(w->reference.user);
}
static kvr_status slow_embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    world *w = (world *)user;
    for (uint32_t i = 0; i < rows; i++) FUZZ_CHECK(ids[i] >= 0 && (uint32_t)ids[i] < model_info.n_vocab);
    return fails(w) ? KVR_ERR_DEVICE : w->reference.embed(w->reference.user, dst, weight, ids, rows);
}
static kvr_status slow_norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.norm(w->reference.user, dst, src, how, rows);
}
static kvr_status slow_matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                              int add) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.matmul(w->reference.user, dst, weight, src, rows, path, add);
}
static kvr_status slow_rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                            uint32_t first_token) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.rope(w->reference.user, x, how, rows, n_heads, first_token);
}
static kvr_status slow_store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.store(w->reference.user, dst, src, rows);
}
static kvr_status slow_attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                 const kvr_attention *how, uint32_t rows, uint32_t first_token) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.attention(w->reference.user, dst, q, k, v, how, rows, first_token);
}
static kvr_status slow_activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    world *w = (world *)user;
    return fails(w) ? KVR_ERR_DEVICE : w->reference.activate(w->reference.user, x, up, activation, rows);
}
static kvr_status slow_write(void *user, kvr_view dst, uint32_t rows, const void *src) {
    world *w = (world *)user;
    FUZZ_CHECK(dst.row + rows <= w->model->tensors[dst.tensor].rows);
    return fails(w) ? KVR_ERR_DEVICE : w->reference.write(w->reference.user, dst, rows, src);
}

static kvr_backend slow_backend(world *w) {
    kvr_backend b = w->reference;
    b.user = w;
    b.name = "slow";
    b.measure = slow_measure;
    b.open = slow_open;
    b.close = slow_close;
    b.embed = slow_embed;
    b.norm = slow_norm;
    b.matmul = slow_matmul;
    b.rope = slow_rope;
    b.store = slow_store;
    b.attention = slow_attention;
    b.activate = slow_activate;
    b.write = slow_write;
    b.read = slow_start;
    b.done = slow_done;
    return b;
}

/* --- the conversation ------------------------------------------------------------------------------------------ */

static void make_model(void) {
    gguf_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.n_layers = 2;
    shape.model_dim = 8;
    shape.ffn_dim = 8;
    shape.n_heads = 2;
    shape.n_kv_heads = 1;
    shape.n_vocab = 12;
    shape.ctx = 32;
    shape.seed = 1;
    model_file = gguf_make_llama(&shape, &model_bytes);
    FUZZ_CHECK(kvr_model_probe(model_file, model_bytes, &model_info, NULL) == KVR_OK);
}

/* The recipe in data as a frame in w. kv_row_bytes: of one key of this model. */
static void cook(world *w, const uint8_t *data, size_t n, uint32_t mode, uint32_t kv_row_bytes) {
    uint32_t field[7] = {0};
    for (size_t i = 0; i < 7 && i < n; i++) field[i] = data[i];
    kvri_frame f;
    memset(&f, 0, sizeof f);
    f.kind = (uint16_t)(field[0] & KIND_BITS);
    f.rank = field[1];
    f.layer = field[3];
    f.first = field[4];
    f.count = field[5];
    f.dtype = field[6];
    f.session = mode & MODE_ECHO ? w->session : 1;
    if (field[0] & KIND_OTHER_SESSION) f.session++;
    f.epoch = mode & MODE_ECHO ? w->epoch + (int8_t)field[2] : field[2];
    uint8_t *payload = w->frame + KVRI_FRAME_HEADER;
    uint32_t bytes = n > 7 ? (uint32_t)(n - 7) : 0;
    if (bytes > FRAME_CAP - KVRI_FRAME_HEADER) bytes = FRAME_CAP - KVRI_FRAME_HEADER;
    memset(w->frame, 0, sizeof w->frame);
    if (bytes > 0) memcpy(payload, data + 7, bytes);
    if (mode & MODE_FILL) {
        const uint32_t wanted = 2 * f.count * kv_row_bytes;
        bytes = wanted < FRAME_CAP - KVRI_FRAME_HEADER ? wanted : FRAME_CAP - KVRI_FRAME_HEADER;
    }
    if (mode & MODE_FINGERPRINT && bytes >= 8)
        for (uint32_t i = 0; i < 8; i++) payload[i] = (uint8_t)(model_info.fingerprint >> (8 * i));
    f.payload_bytes = bytes;
    kvri_frame_seal(&f, w->frame);
    if (field[0] & KIND_OTHER_VERSION) w->frame[4] = KVRI_WIRE_VERSION + 1;
    w->frame_bytes = KVRI_FRAME_HEADER + bytes;
}

static void poll_times(kvr_session *session, world *w, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        kvr_event event;
        const kvr_status status = kvr_session_poll(session, &event);
        FUZZ_CHECK(status >= KVR_ERR_NUMERIC && status <= KVR_END);
        w->now_us += 1000;
    }
}

static void play(kvr_session *session, world *w, const uint8_t *data, size_t size) {
    static const uint32_t polls[4] = {0, 1, 4, 16};
    const uint32_t kv_row_bytes = 4 * 2; /* one KV head of 4 numbers in F16 */
    while (size >= 3) {
        const uint32_t mode = data[0];
        size_t n = (size_t)data[1] | (size_t)data[2] << 8;
        data += 3;
        size -= 3;
        if (n > size) n = size;
        w->blocked = (mode & MODE_BLOCKED) != 0;
        if (mode & MODE_JUMP) w->now_us += 20000000u;
        poll_times(session, w, polls[(mode & MODE_POLLS) / 16]);
        if (mode & MODE_RECIPE) {
            cook(w, data, n, mode, kv_row_bytes);
        } else if (n == 0) {
            w->trouble = KVR_ERR_LINK;
        } else if (n == 1) {
            if (data[0] & 1) w->send_trouble = KVR_ERR_LINK;
            else w->trouble = KVR_ERR_FRAME;
        } else {
            w->frame_bytes = n < FRAME_CAP ? n : FRAME_CAP;
            if (w->frame_bytes > 0) memcpy(w->frame, data, w->frame_bytes);
        }
        poll_times(session, w, 1);
        data += n;
        size -= n;
    }
    w->blocked = 0;
}

static const kvr_board_profile PROFILE = {
    .attention_tile = 16, .dense_gmacs = 150, .attention_gmacs = 60, .memory_gbs = 6};

static void put_question(kvr_session *session, kvr_strategy strategy) {
    static const int32_t ids[9] = {3, 4, 5, 6, 7, 8, 9, 10, 11};
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.n_ids = 9;
    prompt.ids = ids;
    prompt.max_new_tokens = 2;
    prompt.n_boards = N_HELPERS + 1;
    prompt.strategy = (uint32_t)strategy;
    FUZZ_CHECK(kvr_session_prompt(session, &prompt) == KVR_OK);
}

static void start_lead(kvr_session *session, kvr_strategy strategy, int meets) {
    static const char *const helpers[N_HELPERS] = {"loop:0", "loop:1"};
    FUZZ_CHECK(kvr_session_set_boards(session, helpers, N_HELPERS, "loop:2") == KVR_OK);
    if (!meets) {
        put_question(session, strategy);
        return;
    }
    FUZZ_CHECK(kvr_session_set_profile(session, &PROFILE) == KVR_OK);
    FUZZ_CHECK(kvr_session_meet(session) == KVR_OK);
}

/* Silence ends what is under way within its timeouts. */
static void wait_out(kvr_session *session, world *w) {
    kvr_event event;
    kvr_status status = KVR_AGAIN;
    for (uint32_t i = 0; i < 4000 && status != KVR_END; i++) {
        status = kvr_session_poll(session, &event);
        w->now_us += 100000;
    }
    FUZZ_CHECK(status == KVR_END);
}

static int keep_token(void *user, const kvr_event *event) {
    if (event->kind == KVR_EVENT_TOKEN) *(int32_t *)user = event->id;
    return 0;
}

static int32_t ask_alone(kvr_session *session) {
    static const int32_t ids[5] = {3, 7, 4, 11, 5};
    int32_t answer = -1;
    kvr_prompt alone;
    memset(&alone, 0, sizeof alone);
    alone.struct_bytes = sizeof alone;
    alone.n_ids = 5;
    alone.ids = ids;
    alone.max_new_tokens = 3;
    alone.ignore_eos = 1;
    FUZZ_CHECK(kvr_session_prompt(session, &alone) == KVR_OK);
    FUZZ_CHECK(kvr_session_run(session, keep_token, &answer) == KVR_OK);
    FUZZ_CHECK(answer >= 0);
    return answer;
}

static void with_session(const kvr_model *model, const uint8_t *data, size_t size) {
    static world w; /* large; set anew each time */
    kvr_cpu cpu = {NULL};
    kvr_config config;
    kvr_plan plan;
    kvr_port port;
    kvr_link link;
    kvr_session *session;
    kvr_error error = {0};
    const int lead = (data[0] & 1) != 0;
    const int meets = lead && (data[0] >> 4 & 7) == 7;
    const kvr_strategy strategy = data[0] & 128 ? KVR_STRATEGY_TSP : KVR_STRATEGY_CHAIN;
    memset(&w, 0, sizeof w);
    w.now_us = 1;
    w.model = model;
    w.patience = data[0] >> 1 & 7;
    w.fails_at = meets ? 0 : (data[0] >> 4 & 7) * 10u;
    memset(&port, 0, sizeof port);
    port.user = &w;
    port.now_us = now;
    memset(&link, 0, sizeof link);
    link.user = &w;
    link.connect = link_connect;
    link.send = link_send;
    link.recv = link_recv;
    memset(&config, 0, sizeof config);
    config.batch_tokens = 4;
    config.max_boards = 4;
    config.frame_tokens = 2;
    kvr_cpu_backend(&cpu, &w.reference);
    const kvr_backend backend = slow_backend(&w);
    FUZZ_CHECK(kvr_plan_make(model, &config, &backend, &plan, &error) == KVR_OK);
    const size_t bytes = (size_t)plan.region_bytes[KVR_REGION_SESSION];
    void *mem = alloc_exact(bytes);
    FUZZ_CHECK(kvr_session_open(mem, bytes, model, &config, &backend, &port, &session, &error) == KVR_OK);
    FUZZ_CHECK(kvr_session_set_link(session, &link) == KVR_OK);
    kvr_span spans[8];
    FUZZ_CHECK(kvr_session_set_trace(session, spans, 8) == KVR_OK);
    if (lead) start_lead(session, strategy, meets);
    else FUZZ_CHECK(kvr_session_serve(session) == KVR_OK);
    play(session, &w, data + 1, size - 1);

    /* Whatever was said: the board can go on. */
    w.trouble = w.send_trouble = KVR_OK;
    w.fails_at = 0;
    if (lead) wait_out(session, &w);
    if (meets) {
        put_question(session, strategy);
        wait_out(session, &w);
    }
    if (lead) {
        const int32_t answer = ask_alone(session);
        if (first_answer < 0) first_answer = answer;
        FUZZ_CHECK(answer == first_answer); /* never a wrong text, whatever came before */
    }
    kvr_session_close(session);
    free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (model_file == NULL) make_model();
    if (size == 0) return 0;
    kvri_frame f;
    kvri_frame_open(data, size, &f);
    kvri_job job;
    kvri_hello hello;
    kvri_report report;
    kvri_job_get(data, (uint32_t)size, &job);
    kvri_hello_get(data, (uint32_t)size, &hello);
    kvri_report_get(data, (uint32_t)size, &report);
    kvri_probe probe;
    kvri_probe_get(data, (uint32_t)size, &probe);
    kvri_spans head;
    const uint32_t n_spans = size < KVRI_SPANS_FIXED ? 0 : ((uint32_t)size - KVRI_SPANS_FIXED) / KVRI_SPAN_BYTES;
    kvr_span span;
    if (kvri_spans_get(data, (uint32_t)size, n_spans, &head) == KVR_OK)
        for (uint32_t i = 0; i < n_spans; i++) kvri_span_get(data, i, &span);

    kvr_model *model;
    void *mem = alloc_exact((size_t)model_info.state_bytes);
    FUZZ_CHECK(kvr_model_open(mem, (size_t)model_info.state_bytes, model_file, model_bytes, &model, NULL) == KVR_OK);
    with_session(model, data, size);
    free(mem);
    return 0;
}
