#define _POSIX_C_SOURCE 200809L
#include "emulate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "say.h"
#include "text_input.h"

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The device works so long on top of what it has to do already. */
static kvr_status work(emulate *e, double us) {
    const double now = now_us();
    if (e->free_us < now) e->free_us = now;
    e->free_us += us;
    return KVR_OK;
}

/* --- memory: as on the board, but none is taken here -------------------------------------------------------------- */

static kvr_status measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    (void)user, (void)error;
    memset(out, 0, sizeof *out);
    out->host_bytes = (uint64_t)need->n_tensors * sizeof *need->tensors;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *t = &need->tensors[i];
        switch ((kvr_tensor_role)t->role) {
        case KVR_ROLE_MATRIX:
        case KVR_ROLE_VECTOR: out->weight_bytes += t->bytes; break;
        case KVR_ROLE_WORK: out->work_bytes += t->bytes; break;
        case KVR_ROLE_KV: out->kv_bytes += t->bytes; break;
        }
    }
    return KVR_OK;
}

static kvr_status open_board(void *user, const kvr_backend_need *need, void *mem, size_t mem_bytes, kvr_error *error) {
    emulate *e = user;
    (void)error;
    if (mem_bytes < need->n_tensors * sizeof *need->tensors) return KVR_ERR_NOMEM;
    e->tensors = mem;
    memcpy(e->tensors, need->tensors, need->n_tensors * sizeof *need->tensors);
    e->n_heads = need->n_heads;
    e->first_kv = need->n_tensors;
    while (e->first_kv > 0 && e->tensors[e->first_kv - 1].role == KVR_ROLE_KV) e->first_kv--;
    return KVR_OK;
}

static void close_board(void *user) {
    (void)user;
}

/* --- operators ---------------------------------------------------------------------------------------------------- */

static kvr_status embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    (void)dst, (void)weight, (void)ids, (void)rows;
    return work(user, 0);
}

static kvr_status norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    (void)dst, (void)src, (void)how, (void)rows;
    return work(user, 0);
}

static kvr_status matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                         int add) {
    emulate *e = user;
    const kvr_tensor_desc *w = &e->tensors[weight];
    (void)src, (void)path, (void)add;
    const double macs_us = 1e-3 * (double)rows * w->rows * w->cols / e->profile.dense_gmacs;
    const double read_us = 1e-3 * (double)w->bytes / e->profile.memory_gbs;
    const int head = dst.tensor + 1 == e->first_kv; /* logits are the last activations */
    return work(e, (macs_us > read_us ? macs_us : read_us) + (head ? e->profile.call_us : 0));
}

static kvr_status rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                       uint32_t first_token) {
    (void)x, (void)how, (void)rows, (void)n_heads, (void)first_token;
    return work(user, 0);
}

/* Keys, then values: the first half of a layer is called when the values are stored. */
static kvr_status store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    emulate *e = user;
    (void)src, (void)rows;
    return work(e, (dst.tensor - e->first_kv) % 2 == 1 ? e->profile.call_us : 0);
}

/* Keys that queries 0..q-1 meet when squares of t x t tokens count unless they are masked altogether. */
static double keys_until(uint64_t q, uint64_t t) {
    const uint64_t k = q / t;
    return (double)(t * t * (k * (k + 1) / 2) + q % t * t * (k + 1));
}

static double attention_us(const emulate *e, uint32_t q_tensor, double products) {
    const kvr_board_profile *p = &e->profile;
    const kvr_tensor_desc *q = &e->tensors[q_tensor];
    return 1e-3 * products * (2.0 * q->cols / p->attention_gmacs + e->n_heads * p->score_bytes / p->memory_gbs);
}

static kvr_status attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                            uint32_t rows, uint32_t first_token) {
    emulate *e = user;
    const uint32_t tile = e->profile.attention_tile;
    const uint64_t end = (uint64_t)first_token + rows;
    double products = (double)rows * (double)end;
    (void)dst, (void)k, (void)v, (void)how;
    if (tile != 0) {
        const uint64_t last_tile = end / tile * tile; /* its squares end with the keys */
        products = keys_until(end, tile) - keys_until(first_token, tile);
        if (end % tile != 0)
            products -=
                (double)(end - (first_token > last_tile ? first_token : last_tile)) * (double)(last_tile + tile - end);
    }
    return work(e, e->profile.call_us + attention_us(e, q.tensor, products));
}

static kvr_status attention_square(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                   const kvr_attention *how, uint32_t rows, uint32_t first_token, uint32_t n_keys) {
    emulate *e = user;
    (void)dst, (void)k, (void)v, (void)how, (void)first_token;
    return work(e, e->profile.call_us + attention_us(e, q.tensor, (double)rows * n_keys));
}

static kvr_status activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    (void)x, (void)up, (void)activation, (void)rows;
    return work(user, 0);
}

static kvr_status add_bias(void *user, kvr_view x, uint32_t bias, uint32_t rows) {
    (void)x, (void)bias, (void)rows;
    return work(user, 0);
}

static kvr_status scale(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    (void)x, (void)factor, (void)soft_cap, (void)rows;
    return work(user, 0);
}

/* --- transfers ---------------------------------------------------------------------------------------------------- */

/* Time that a board's processor spends on the bytes of a frame. */
static double frame_us(const emulate *e, uint32_t tensor, uint32_t rows) {
    const kvr_tensor_desc *t = &e->tensors[tensor];
    if (t->role != KVR_ROLE_KV || e->profile.frame_gbs <= 0) return 0;
    return 1e-3 * (double)rows * (double)(t->bytes / t->rows) / e->profile.frame_gbs;
}

static kvr_status write_rows(void *user, kvr_view dst, uint32_t rows, const void *src) {
    emulate *e = user;
    (void)src;
    return work(e, frame_us(e, dst.tensor, rows));
}

static kvr_status mark(void *user, kvr_mark which) {
    emulate *e = user;
    e->marks_us[which - 1] = e->free_us;
    return KVR_OK;
}

static kvr_status read_rows(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after, kvr_fence *out_fence) {
    emulate *e = user;
    const kvr_tensor_desc *t = &e->tensors[src.tensor];
    uint32_t slot = 0;
    while (slot < KVR_BACKEND_FENCES && e->fences_us[slot] > 0) slot++;
    if (slot == KVR_BACKEND_FENCES) return KVR_ERR_STATE;
    double done_us = now_us();
    if (after == KVR_AFTER_ALL && e->free_us > done_us) done_us = e->free_us;
    if (after >= 1 && after <= KVR_BACKEND_MARKS && e->marks_us[after - 1] > done_us) done_us = e->marks_us[after - 1];
    memset(dst, 0, (size_t)rows * (size_t)(t->bytes / t->rows));
    work(e, frame_us(e, src.tensor, rows));
    e->fences_us[slot] = done_us;
    *out_fence = slot + 1;
    return KVR_OK;
}

static kvr_status done(void *user, kvr_fence fence) {
    emulate *e = user;
    if (now_us() < e->fences_us[fence - 1]) return KVR_AGAIN;
    e->fences_us[fence - 1] = 0;
    return KVR_OK;
}

static kvr_status wait_until_done(void *user, kvr_fence fence) {
    const emulate *e = user;
    const double at = e->fences_us[fence - 1];
    struct timespec t;
    t.tv_sec = (time_t)(at / 1e6);
    t.tv_nsec = (long)((at - (double)t.tv_sec * 1e6) * 1e3);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); /* a signal ends it early: the loop asks again */
    return KVR_OK;
}

/* --- profiles ----------------------------------------------------------------------------------------------------- */

const char *emulate_file(const char *list, uint32_t rank, uint32_t n_boards, size_t *out_bytes) {
    uint32_t n = 1;
    for (const char *at = list; *at; at++) n += *at == ',';
    if (n != 1 && n != n_boards) return NULL;
    for (uint32_t i = 0; n > 1 && i < rank; i++) list = strchr(list, ',') + 1;
    *out_bytes = strcspn(list, ",");
    return *out_bytes > 0 ? list : NULL;
}

int emulate_open(emulate *e, const char *list, uint32_t rank, uint32_t n_boards, kvr_backend *out) {
    char path[1024], *text = NULL;
    size_t bytes = 0;
    kvr_error error = {0};
    const char *file = emulate_file(list, rank, n_boards, &bytes);
    if (file == NULL)
        return say_usage(NULL,
                         "--emulate wants one profile for all boards, or one for each of the %u boards with commas "
                         "between",
                         n_boards);
    if (bytes >= sizeof path) return say_error("the name of a profile is too long: %.60s", file);
    memcpy(path, file, bytes);
    path[bytes] = '\0';
    memset(e, 0, sizeof *e);
    int code = text_input_read(path, &text, &bytes);
    if (code != EXIT_OK) return code;
    kvr_status status = kvr_board_profile_read(text, bytes, &e->profile, &error);
    free(text);
    if (status != KVR_OK) return say_kvr_error(path, &error);
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = e;
    out->name = "emulate";
    out->measure = measure;
    out->open = open_board;
    out->close = close_board;
    out->embed = embed;
    out->norm = norm;
    out->matmul = matmul;
    out->rope = rope;
    out->store = store;
    out->attention = attention;
    out->attention_square = attention_square;
    out->activate = activate;
    out->add_bias = add_bias;
    out->scale = scale;
    out->write = write_rows;
    out->mark = mark;
    out->read = read_rows;
    out->done = done;
    out->wait = wait_until_done;
    out->is_emulated = 1;
    return EXIT_OK;
}
