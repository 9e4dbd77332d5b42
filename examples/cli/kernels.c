#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "output.h"
#include "recorder.h"
#include "say.h"

/* A sample lasts at least so long: then what the read behind it costs is lost in it. */
#define LEAST_US 50000u
#define MOST_CALLS 20000u
#define CAP_SAMPLES 1000u /* of -r */

enum { PREFILL = 0, DECODE = 1, PHASES = 2 }; /* recorder.phase */

typedef struct bench {
    const options *opt;
    engine e;
    recorder rec;
    device_peaks peaks;
    output out;
    uint32_t batch;
    int32_t *ids;          /* [batch] */
    float *row;            /* any row of a WORK tensor, as float */
    kvr_view mark;         /* the narrowest row to read behind a sample */
    size_t *group;         /* [n_calls] calls that are alike */
    size_t n_group, turn;  /* turn: which comes next */
    uint8_t *taken;        /* [n_calls] */
    double sum_us[PHASES]; /* at the first depth */
} bench;

/* What a call must do at least. */
typedef struct effort {
    double flops; /* 0: it only moves bytes */
    double bytes;
} effort;

static const kvr_tensor_desc *tensor(const bench *b, uint32_t index) {
    return &b->rec.tensors[index];
}

static double row_bytes(const kvr_tensor_desc *t) {
    return (double)t->bytes / t->rows;
}

/* Keys that the rows of an attention see, all together; and how many different ones. */
static double keys_seen(const recorded_call *c, uint32_t first_token, double *out_different) {
    const uint32_t window = c->attention.window;
    double sum = 0;
    for (uint32_t t = 0; t < c->rows; t++) {
        const uint32_t all = first_token + t + 1;
        sum += window != 0 && all > window ? window : all;
    }
    const double all = (double)first_token + c->rows, most = (double)window + c->rows - 1.0;
    *out_different = window != 0 && all > most ? most : all;
    return sum;
}

static effort effort_of(const bench *b, const recorded_call *c, uint32_t first_token) {
    const kvr_tensor_desc *dst = tensor(b, c->dst.tensor), *w = tensor(b, c->weight);
    const double rows = c->rows, dst_bytes = rows * row_bytes(dst);
    const double src_bytes = c->src.tensor != KVR_NO_TENSOR ? rows * row_bytes(tensor(b, c->src.tensor)) : 0;
    double keys = 0;
    effort e = {0, 0};
    switch (c->op) {
    case OP_EMBED: e.bytes = dst_bytes + rows * row_bytes(w); break;
    case OP_NORM: e.bytes = dst_bytes * (c->add ? 2 : 1) + src_bytes + (double)w->bytes; break;
    case OP_MATMUL:
        e.flops = 2.0 * rows * w->rows * w->cols;
        e.bytes = (double)w->bytes + src_bytes + dst_bytes * (c->add ? 2 : 1);
        break;
    case OP_ROPE: e.bytes = 8.0 * rows * c->n_heads * c->rope.dims; break;
    case OP_STORE: e.bytes = src_bytes + dst_bytes; break;
    case OP_ATTENTION:
        e.flops = 4.0 * keys_seen(c, first_token, &keys) * b->rec.n_heads * b->rec.head_dim;
        e.bytes = dst_bytes + src_bytes + 2.0 * keys * row_bytes(tensor(b, c->keys));
        break;
    case OP_ACTIVATE: e.bytes = 2.0 * dst_bytes + src_bytes; break;
    case OP_ADD_BIAS: e.bytes = 2.0 * dst_bytes + (double)w->bytes; break;
    case OP_SCALE: e.bytes = 2.0 * dst_bytes; break;
    case OP_COUNT: break;
    }
    return e;
}

/* --- timing --------------------------------------------------------------------------------------------------- */

static int say_device_failure(const bench *b, const char *what) {
    kvr_error error = {0};
    const kvr_backend *inner = &b->rec.inner;
    if (inner->explain != NULL) inner->explain(inner->user, &error);
    if (error.status != KVR_OK) return say_kvr_error(what, &error);
    return say_error("%s: the device failed; choose another with -d", what);
}

/* Waits until everything that was enqueued has run. */
static kvr_status settle(const bench *b) {
    const kvr_backend *inner = &b->rec.inner;
    kvr_fence fence = 0;
    kvr_status status = inner->read(inner->user, b->mark, 1, b->row, KVR_AFTER_ALL, &fence);
    if (status != KVR_OK || fence == 0) return status;
    if (inner->wait != NULL) status = inner->wait(inner->user, fence);
    while (status == KVR_OK && (status = inner->done(inner->user, fence)) == KVR_AGAIN) status = KVR_OK;
    return status;
}

/* Enqueues n calls of the group in turn; microseconds until the last has run, 0 after a failure. */
static uint64_t sample(bench *b, uint32_t n, uint32_t first_token) {
    const uint64_t begin = engine_now_us(&b->e);
    for (uint32_t i = 0; i < n; i++) {
        const recorded_call *call = &b->rec.calls[b->group[b->turn]];
        b->turn = (b->turn + 1) % b->n_group;
        if (recorder_repeat(&b->rec, call, first_token, b->ids) != KVR_OK) return 0;
    }
    if (settle(b) != KVR_OK) return 0;
    const uint64_t us = engine_now_us(&b->e) - begin;
    return us ? us : 1;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median microseconds of one call; 0 after a failure. */
static double time_group(bench *b, uint32_t first_token) {
    static double us[CAP_SAMPLES];
    const uint32_t n_samples = b->opt->repetitions;
    uint32_t n = 1;
    uint64_t took = sample(b, n, first_token); /* warm-up */
    while (took != 0 && took < LEAST_US && n < MOST_CALLS) {
        const uint64_t more = took * 16 < LEAST_US ? 16u : LEAST_US / took + 1;
        n = n * more < MOST_CALLS ? (uint32_t)(n * more) : MOST_CALLS;
        took = sample(b, n, first_token);
    }
    for (uint32_t i = 0; i < n_samples; i++) {
        if ((took = sample(b, n, first_token)) == 0) return 0;
        us[i] = (double)took / n;
    }
    qsort(us, n_samples, sizeof *us, ascending);
    return (us[(n_samples - 1) / 2] + us[n_samples / 2]) / 2.0;
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

static const char *shape_of(const bench *b, const recorded_call *c, char *out, size_t cap) {
    const kvr_tensor_desc *w = tensor(b, c->weight);
    const uint32_t cols = tensor(b, c->dst.tensor)->cols;
    switch (c->op) {
    case OP_EMBED:
    case OP_MATMUL: snprintf(out, cap, "%ux%u%s", w->rows, w->cols, c->add ? " +=" : ""); break;
    case OP_NORM:
        if (w->cols < cols) snprintf(out, cap, "%ux%u", cols / w->cols, w->cols); /* per head */
        else snprintf(out, cap, "%u%s", cols, c->add ? " +=" : "");
        break;
    case OP_ROPE: snprintf(out, cap, "%ux%u", c->n_heads, c->rope.dims); break;
    case OP_ATTENTION:
        snprintf(out, cap, "%u/%ux%u", b->rec.n_heads, b->rec.n_kv_heads, b->rec.head_dim);
        if (c->attention.window != 0) snprintf(out + strlen(out), cap - strlen(out), " w%u", c->attention.window);
        break;
    case OP_STORE:
    case OP_ACTIVATE:
    case OP_ADD_BIAS:
    case OP_SCALE:
    case OP_COUNT: snprintf(out, cap, "%u", cols); break;
    }
    return out;
}

/* The type that the device stores: of the weight, or of the cache. */
static uint32_t type_of(const bench *b, const recorded_call *c) {
    if (c->op == OP_EMBED || c->op == OP_MATMUL) return tensor(b, c->weight)->dtype;
    if (c->op == OP_ATTENTION) return tensor(b, c->keys)->dtype;
    return tensor(b, c->dst.tensor)->dtype;
}

static const char *number(char *out, size_t cap, const char *format, double x, int shown) {
    if (shown) snprintf(out, cap, format, x);
    else out[0] = '\0';
    return out;
}

static int print_row(bench *b, const recorded_call *c, uint32_t first_token, double us) {
    const effort e = effort_of(b, c, first_token);
    const uint32_t type = type_of(b, c);
    const kvr_tensor_desc *w = tensor(b, c->weight);
    /* many rows reuse what they read, so arithmetic bounds them; one row reads everything once */
    const int arithmetic = e.flops > 0 && c->rows > 1;
    const int in_bytes =
        arithmetic && c->op == OP_MATMUL && row_bytes(w) < 2.0 * w->cols; /* may be multiplied as such */
    const int in_pairs = arithmetic && c->op == OP_MATMUL && row_bytes(w) == 2.0 * w->cols;
    const double gflops = e.flops / us * 1e-3, gbytes = e.bytes / us * 1e-3;
    const int head = c->op == OP_MATMUL && w->rows == kvr_model_get_info(b->e.model)->n_vocab;
    const device_peaks *peak = &b->peaks;
    char shape[48], t[12][32];
    const cell cells[] = {
        {"phase", "phase", c->phase == PREFILL ? "prefill" : "decode", CELL_TEXT, -7},
        {"op", "operator", head ? "head" : recorder_op_name(c->op), CELL_TEXT, -9},
        {"shape", "shape", shape_of(b, c, shape, sizeof shape), CELL_TEXT, -13},
        {"type", "type", kvr_dtype_name(type), CELL_TEXT, -6},
        {"rows", "rows", number(t[0], 32, "%.0f", c->rows, 1), CELL_NUMBER, 5},
        {"first_token", "at", number(t[1], 32, "%.0f", first_token, c->op == OP_ATTENTION), CELL_NUMBER, 5},
        {"median_us", "us", number(t[2], 32, "%.1f", us, 1), CELL_NUMBER, 10},
        {"calls", "calls", number(t[3], 32, "%.0f", (double)b->n_group, 1), CELL_NUMBER, 5},
        {"pass_ms", "ms/pass", number(t[4], 32, "%.2f", us * (double)b->n_group * 1e-3, 1), CELL_NUMBER, 8},
        {"gflops", "GFLOP/s", number(t[5], 32, "%.1f", gflops, arithmetic), CELL_NUMBER, 8},
        {"gbytes", "GB/s", number(t[6], 32, "%.1f", gbytes, !arithmetic), CELL_NUMBER, 6},
        {"fma_share", "FMA %", number(t[7], 32, "%.0f", 100 * gflops / peak->fma_gflops, arithmetic && peak->known),
         CELL_NUMBER, 5},
        {"int8_share", "int8 %", number(t[8], 32, "%.0f", 50 * gflops / peak->int8_gmacs, in_bytes && peak->known),
         CELL_NUMBER, 6},
        {"pair_share", "bf16 %", number(t[10], 32, "%.0f", 50 * gflops / peak->pair_gmacs, in_pairs && peak->known),
         CELL_NUMBER, 6},
        {"read_share", "read %", number(t[9], 32, "%.0f", 100 * gbytes / peak->read_gbytes, !arithmetic && peak->known),
         CELL_NUMBER, 6},
    };
    return output_row(&b->out, cells, sizeof cells / sizeof cells[0]);
}

/* --- which calls ----------------------------------------------------------------------------------------------- */

/* Prompts: whole micro-batches only. The last layer computes one row; its calls are those of the others. */
static int is_wanted(const bench *b, const recorded_call *c) {
    return c->phase == DECODE || c->rows == b->batch;
}

static int same_shape(const bench *b, uint32_t x, uint32_t y) {
    const kvr_tensor_desc *s = tensor(b, x), *t = tensor(b, y);
    return s->rows == t->rows && s->cols == t->cols && s->dtype == t->dtype;
}

/* Calls that differ only in the layer. */
static int alike(const bench *b, const recorded_call *x, const recorded_call *y) {
    return x->op == y->op && x->phase == y->phase && x->rows == y->rows && x->path == y->path && x->add == y->add &&
           x->n_heads == y->n_heads && x->attention.window == y->attention.window &&
           same_shape(b, x->weight, y->weight) && same_shape(b, x->dst.tensor, y->dst.tensor) &&
           same_shape(b, x->keys, y->keys);
}

static void collect(bench *b, size_t first) {
    b->n_group = 0;
    b->turn = 0;
    for (size_t i = first; i < b->rec.n_calls; i++) {
        if (b->taken[i] || !alike(b, &b->rec.calls[first], &b->rec.calls[i])) continue;
        b->taken[i] = 1;
        b->group[b->n_group++] = i;
    }
}

static int fill_values(bench *b, uint32_t index, float first, float step);

/*
 * These operators work in place, so each call gets what the one before has made: most values would run off to zero or
 * infinity, where arithmetic takes another time. These stay where they are. With a factor: x = -1 and factor
 * -1 / activation(-1), where small errors shrink; without: large enough for activation(x) = x.
 */
static int hold_still(bench *b, const recorded_call *c) {
    static const float factors[] = {3.7182818f, 6.3029742f, 6.2969130f}; /* by kvr_activation */
    if (c->op == OP_SCALE) return fill_values(b, c->dst.tensor, 0.0f, 0.0f);
    if (c->op != OP_ACTIVATE) return EXIT_OK;
    if (c->src.tensor == KVR_NO_TENSOR) return fill_values(b, c->dst.tensor, 100.0f, 0.0f);
    const int code = fill_values(b, c->dst.tensor, -1.0f, 0.0f);
    return code == EXIT_OK ? fill_values(b, c->src.tensor, factors[c->activation], 0.0f) : code;
}

static int time_calls(bench *b, const number_list *depths) {
    for (size_t i = 0; i < b->rec.n_calls; i++) {
        const recorded_call *c = &b->rec.calls[i];
        if (b->taken[i] || !is_wanted(b, c)) continue;
        collect(b, i);
        int code = hold_still(b, c);
        if (code != EXIT_OK) return code;
        for (uint32_t d = 0; d < (c->op == OP_ATTENTION ? depths->n : 1); d++) {
            const uint32_t first_token = c->op == OP_ATTENTION ? depths->values[d] : c->first_token;
            const double us = time_group(b, first_token);
            if (us <= 0) return say_device_failure(b, recorder_op_name(c->op));
            code = print_row(b, c, first_token, us);
            if (code != EXIT_OK) return code;
            if (d == 0) b->sum_us[c->phase] += us * (double)b->n_group;
        }
    }
    return EXIT_OK;
}

/* --- before ---------------------------------------------------------------------------------------------------- */

/* The first rows of a WORK tensor: first, first + step, ... and back to first after 64 of them. */
static int fill_values(bench *b, uint32_t index, float first, float step) {
    const kvr_tensor_desc *t = tensor(b, index);
    const kvr_backend *inner = &b->rec.inner;
    const uint32_t rows = t->rows < b->batch ? t->rows : b->batch;
    for (uint32_t i = 0; i < t->cols; i++) b->row[i] = first + step * (float)(i % 64u);
    for (uint32_t r = 0; r < rows; r++) {
        const kvr_view view = {index, r};
        if (inner->write(inner->user, view, 1, b->row) != KVR_OK) return say_device_failure(b, "a write");
    }
    return EXIT_OK;
}

/* Activations between -1 and 1, and keys and values of them in the whole context. */
static int fill_all(bench *b) {
    for (uint32_t i = 0; i < b->rec.n_tensors; i++) {
        if (tensor(b, i)->role != KVR_ROLE_WORK) continue;
        const int code = fill_values(b, i, -0.97f, 0.03f);
        if (code != EXIT_OK) return code;
    }
    for (size_t i = 0; i < b->rec.n_calls; i++) {
        recorded_call c = b->rec.calls[i];
        if (c.op != OP_STORE || c.phase != PREFILL || c.rows != b->batch) continue;
        const uint32_t n_rows = tensor(b, c.dst.tensor)->rows;
        for (uint32_t at = 0; at < n_rows; at += b->batch) {
            c.dst.row = at;
            c.rows = n_rows - at < b->batch ? n_rows - at : b->batch;
            if (recorder_repeat(&b->rec, &c, 0, b->ids) != KVR_OK) return say_device_failure(b, "store");
        }
    }
    return settle(b) == KVR_OK ? EXIT_OK : say_device_failure(b, "store");
}

static int on_event(void *user, const kvr_event *event) {
    recorder *r = user;
    if (event->kind == KVR_EVENT_TOKEN) r->phase = DECODE;
    return 0;
}

/* One micro-batch of a prompt and one token behind it. */
static int record(bench *b) {
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.sampling.struct_bytes = sizeof prompt.sampling;
    prompt.ids = b->ids;
    prompt.n_ids = b->batch;
    prompt.max_new_tokens = 2;
    prompt.ignore_eos = 1;
    if (kvr_session_prompt(b->e.session, &prompt) != KVR_OK ||
        kvr_session_run(b->e.session, on_event, &b->rec) != KVR_OK)
        return say_kvr_error("the prompt failed", kvr_session_get_error(b->e.session));
    return EXIT_OK;
}

static int take_memory(bench *b) {
    uint32_t widest = 0;
    for (uint32_t i = 0; i < b->rec.n_tensors; i++) {
        const kvr_tensor_desc *t = tensor(b, i);
        if (t->role != KVR_ROLE_WORK) continue;
        if (t->cols > widest) widest = t->cols;
        if (b->mark.tensor == 0 || t->cols < tensor(b, b->mark.tensor)->cols) b->mark.tensor = i;
    }
    b->row = malloc((size_t)widest * sizeof *b->row);
    b->group = malloc(b->rec.n_calls * sizeof *b->group);
    b->taken = calloc(b->rec.n_calls, 1);
    if (b->row == NULL || b->group == NULL || b->taken == NULL)
        return say_error("not enough memory to measure: end other programs");
    return EXIT_OK;
}

static int prepare(bench *b, uint32_t deepest) {
    int code = engine_open_model(&b->e, b->opt->model);
    b->batch = b->opt->batch_tokens ? b->opt->batch_tokens : 256;
    const uint64_t needed = (uint64_t)deepest + b->batch + 2;
    const uint32_t ctx_tokens = b->opt->ctx_tokens ? b->opt->ctx_tokens : (uint32_t)needed;
    if (code == EXIT_OK) code = engine_check_fits((size_t)needed, ctx_tokens);
    if (code == EXIT_OK) code = engine_make_plan(&b->e, b->opt, ctx_tokens, 1);
    if (code == EXIT_OK) code = device_measure_peaks(b->e.dev, &b->peaks);
    if (code != EXIT_OK) return code;
    recorder_wrap(&b->rec, &b->e.backend);
    code = engine_open_session(&b->e);
    if (code != EXIT_OK) return code;
    b->ids = calloc(b->batch, sizeof *b->ids);
    if (b->ids == NULL) return say_error("not enough memory for %u ids: lower --batch", b->batch);
    for (uint32_t i = 0; i < b->batch; i++)
        b->ids[i] = (int32_t)(i * 7919u % kvr_model_get_info(b->e.model)->n_vocab); /* scattered */
    code = record(b);
    if (code == EXIT_OK) code = take_memory(b);
    return code == EXIT_OK ? fill_all(b) : code;
}

/* --- the command ----------------------------------------------------------------------------------------------- */

static void print_head(const bench *b) {
    const device_peaks *p = &b->peaks;
    if (b->opt->output != OUTPUT_MD) return;
    printf("%s", device_name(b->e.dev));
    if (p->known)
        printf(": FMA %.0f GFLOP/s, int8 %.0f Gmac/s, bf16 %.0f Gmac/s, read %.1f GB/s (measured)", p->fma_gflops,
               p->int8_gmacs, p->pair_gmacs, p->read_gbytes);
    printf("\n\n");
    fflush(stdout);
}

static void print_sums(const bench *b, uint32_t first_depth) {
    if (b->opt->output != OUTPUT_MD) return;
    printf("\nsum at depth %u: %u prompt tokens %.2f ms (%.1f t/s), one token of an answer %.2f ms (%.1f t/s)\n",
           first_depth, b->batch, b->sum_us[PREFILL] * 1e-3, b->batch * 1e6 / b->sum_us[PREFILL],
           b->sum_us[DECODE] * 1e-3, 1e6 / b->sum_us[DECODE]);
}

int kernels_run(const options *opt) {
    static const number_list standard = {3, {0, 1024, 4096}};
    const number_list *depths = opt->bench_depth.n ? &opt->bench_depth : &standard;
    uint32_t deepest = 0;
    for (uint32_t i = 0; i < depths->n; i++)
        if (depths->values[i] > deepest) deepest = depths->values[i];
    bench b;
    memset(&b, 0, sizeof b);
    b.opt = opt;
    int code = prepare(&b, deepest);
    if (code == EXIT_OK) {
        print_head(&b);
        output_begin(&b.out, (output_format)opt->output);
        code = time_calls(&b, depths);
        output_end(&b.out);
        if (code == EXIT_OK) print_sums(&b, depths->values[0]);
    }
    engine_close(&b.e);
    recorder_free(&b.rec);
    free(b.ids);
    free(b.row);
    free(b.group);
    free(b.taken);
    return code;
}
