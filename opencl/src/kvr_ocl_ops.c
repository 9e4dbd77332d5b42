/*
 * kvr_ocl_ops.c - the operators of a layer: check the views, set the arguments, enqueue. Each operator is a put_
 * function that enqueues and a checked one in the table; the warm-up uses the former with no rows.
 */
#include "kvr_ocl.h"

#include <string.h>

#include "kvr_checked.h"

#define CHUNK 256u /* KVR_CHUNK of common.cl */

kvri_ocl_call kvri_ocl_call_begin(kvr_opencl *cl, uint32_t kernel) {
    const kvri_ocl_call call = {cl, cl->session->kernels[kernel], 0, CL_SUCCESS};
    return call;
}

static void set(kvri_ocl_call *call, size_t bytes, const void *value) {
    if (call->status == CL_SUCCESS) call->status = clSetKernelArg(call->kernel, call->n_args++, bytes, value);
}

void kvri_ocl_call_mem(kvri_ocl_call *call, cl_mem mem) {
    set(call, sizeof mem, &mem);
}

void kvri_ocl_call_u32(kvri_ocl_call *call, uint32_t value) {
    const cl_uint word = value;
    set(call, sizeof word, &word);
}

void kvri_ocl_call_f32(kvri_ocl_call *call, float value) {
    set(call, sizeof value, &value);
}

kvr_status kvri_ocl_call_run(kvri_ocl_call *call, uint64_t x, uint64_t y, const char *text) {
    const size_t group[] = {call->cl->limits.work_group, 1};
    const size_t global[] = {(size_t)kvri_ceil_div(x == 0 ? 1 : x, group[0]) * group[0], y == 0 ? 1 : (size_t)y};
    if (call->status == CL_SUCCESS)
        call->status = clEnqueueNDRangeKernel(call->cl->compute, call->kernel, 2, NULL, global, group, 0, NULL, NULL);
    return call->status == CL_SUCCESS ? KVR_OK : kvri_ocl_broken(call->cl, call->status, text);
}

static const kvri_ocl_tensor *tensor_of(const kvr_opencl *cl, uint32_t index) {
    return &cl->session->tensors[index];
}

void kvri_ocl_call_view(kvri_ocl_call *call, kvr_view view) {
    kvri_ocl_call_mem(call, tensor_of(call->cl, view.tensor)->buffer);
    kvri_ocl_call_u32(call, view.row);
}

void kvri_ocl_call_weight(kvri_ocl_call *call, const kvri_ocl_tensor *tensor) {
    kvri_ocl_call_mem(call, tensor->buffer);
    kvri_ocl_call_u32(call, tensor->k_pad);
    kvri_ocl_call_u32(call, tensor->scale_at);
}

/* ---- enqueue ---- */

static kvr_status put_embed(kvr_opencl *cl, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    kvri_ocl_matmul_changed(cl, dst.tensor);
    const kvri_ocl_tensor *tensor = tensor_of(cl, weight);
    uint32_t first = 0;
    do {
        cl_int16 words;
        memset(&words, 0, sizeof words);
        const uint32_t n = (uint32_t)kvri_min(16, rows - first);
        for (uint32_t i = 0; i < n; i++) words.s[i] = ids[first + i];
        const kvr_view to = {dst.tensor, dst.row + first};
        kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_EMBED + tensor->type);
        kvri_ocl_call_weight(&call, tensor);
        kvri_ocl_call_u32(&call, tensor->cols);
        kvri_ocl_call_view(&call, to);
        set(&call, sizeof words, &words);
        kvri_ocl_call_u32(&call, n);
        KVRI_TRY(kvri_ocl_call_run(&call, kvri_ceil_div(tensor->cols, CHUNK), n, "embed could not be enqueued"));
        first += n;
    } while (first < rows);
    return KVR_OK;
}

static void vector_args(kvri_ocl_call *call, uint32_t tensor) {
    kvri_ocl_call_mem(call, tensor_of(call->cl, tensor)->buffer);
    kvri_ocl_call_u32(call, tensor_of(call->cl, tensor)->type == KVRI_OCL_F16);
}

static kvr_status put_norm(kvr_opencl *cl, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    kvri_ocl_matmul_changed(cl, dst.tensor);
    const uint32_t cols = tensor_of(cl, how->weight)->cols;
    const uint32_t stretches = tensor_of(cl, src.tensor)->cols / cols; /* of a row; more than one: a norm per head */
    const kvr_view from = {src.tensor, src.row * stretches};
    const kvr_view to = {dst.tensor, dst.row * stretches};
    const uint32_t has_bias = how->bias != KVR_NO_TENSOR;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_NORM);
    kvri_ocl_call_view(&call, from);
    kvri_ocl_call_view(&call, to);
    vector_args(&call, how->weight);
    vector_args(&call, has_bias ? how->bias : how->weight);
    kvri_ocl_call_u32(&call, (how->kind == KVR_NORM_LAYER ? 1u : 0u) | has_bias << 1 | (how->add ? 4u : 0u));
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows * stretches);
    kvri_ocl_call_f32(&call, how->eps);
    kvri_ocl_matmul_bytes_args(&call, dst, rows, stretches == 1 && !how->add);
    return kvri_ocl_call_run(&call, (uint64_t)rows * stretches, 1, "norm could not be enqueued");
}

static kvr_status put_add_bias(kvr_opencl *cl, kvr_view x, uint32_t bias, uint32_t rows) {
    kvri_ocl_matmul_changed(cl, x.tensor);
    const uint32_t cols = tensor_of(cl, x.tensor)->cols;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_ADD_BIAS);
    kvri_ocl_call_view(&call, x);
    vector_args(&call, bias);
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows);
    return kvri_ocl_call_run(&call, kvri_ceil_div(cols, CHUNK), rows, "add_bias could not be enqueued");
}

static kvr_status put_scale(kvr_opencl *cl, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    kvri_ocl_matmul_changed(cl, x.tensor);
    const uint32_t cols = tensor_of(cl, x.tensor)->cols;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_SCALE);
    kvri_ocl_call_view(&call, x);
    kvri_ocl_call_f32(&call, factor);
    kvri_ocl_call_f32(&call, soft_cap);
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows);
    return kvri_ocl_call_run(&call, kvri_ceil_div(cols, CHUNK), rows, "scale could not be enqueued");
}

static kvr_status put_rope(kvr_opencl *cl, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                           uint32_t first_token) {
    kvri_ocl_matmul_changed(cl, x.tensor);
    const uint32_t pairs = how->dims / 2u;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_ROPE);
    kvri_ocl_call_view(&call, x);
    vector_args(&call, how->freq);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_u32(&call, n_heads);
    kvri_ocl_call_u32(&call, pairs);
    kvri_ocl_call_u32(&call, how->style == KVR_ROPE_HALVES);
    kvri_ocl_call_f32(&call, how->magnitude);
    kvri_ocl_call_u32(&call, first_token);
    return kvri_ocl_call_run(&call, kvri_ceil_div(pairs, 16), rows, "rope could not be enqueued");
}

static kvr_status put_store(kvr_opencl *cl, kvr_view dst, kvr_view src, uint32_t rows) {
    const kvri_ocl_tensor *tensor = tensor_of(cl, dst.tensor);
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_STORE + tensor->type);
    kvri_ocl_call_view(&call, src);
    kvri_ocl_call_view(&call, dst);
    kvri_ocl_call_u32(&call, tensor->cols);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_u32(&call, cl->session->kv_8bit);
    return kvri_ocl_call_run(&call, kvri_ceil_div(tensor->cols, CHUNK), rows, "store could not be enqueued");
}

/* One by one: 8 bits are rounded in blocks of 32 columns, which are not those that one rotation has at hand. */
static kvr_status put_place_8bit(kvr_opencl *cl, const kvr_place *what, const kvr_rope *how, uint32_t rows,
                                 uint32_t first_token) {
    if (how->dims != 0 && what->q.tensor != KVR_NO_TENSOR)
        KVRI_TRY(put_rope(cl, what->q, how, rows, what->n_heads, first_token));
    if (how->dims != 0) KVRI_TRY(put_rope(cl, what->k, how, rows, what->n_kv_heads, first_token));
    KVRI_TRY(put_store(cl, what->k_cache, what->k, rows));
    return put_store(cl, what->v_cache, what->v, rows);
}

static kvr_status put_place(kvr_opencl *cl, const kvr_place *what, const kvr_rope *how, uint32_t rows,
                            uint32_t first_token) {
    if (cl->session->kv_8bit) return put_place_8bit(cl, what, how, rows, first_token);
    const kvri_ocl_tensor *cache = tensor_of(cl, what->k_cache.tensor);
    const uint32_t pairs = how->dims / 2u;
    const uint32_t turns = pairs == 0 ? 1u : (uint32_t)kvri_ceil_div(pairs, 16);
    const int has_q = what->q.tensor != KVR_NO_TENSOR;
    if (has_q) kvri_ocl_matmul_changed(cl, what->q.tensor);
    kvri_ocl_matmul_changed(cl, what->k.tensor);
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_PLACE + cache->type);
    kvri_ocl_call_view(&call, has_q ? what->q : what->k);
    kvri_ocl_call_view(&call, what->k);
    kvri_ocl_call_view(&call, what->v);
    kvri_ocl_call_view(&call, what->k_cache);
    kvri_ocl_call_view(&call, what->v_cache);
    vector_args(&call, how->freq);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_u32(&call, has_q ? what->n_heads : 0);
    kvri_ocl_call_u32(&call, what->n_kv_heads);
    kvri_ocl_call_u32(&call, pairs);
    kvri_ocl_call_u32(&call, how->style == KVR_ROPE_HALVES);
    kvri_ocl_call_f32(&call, how->magnitude);
    kvri_ocl_call_u32(&call, first_token);
    kvri_ocl_call_u32(&call, turns);
    return kvri_ocl_call_run(&call, turns + kvri_ceil_div(cache->cols, CHUNK), rows, "place could not be enqueued");
}

static kvr_status put_activate(kvr_opencl *cl, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    kvri_ocl_matmul_changed(cl, x.tensor);
    const uint32_t cols = tensor_of(cl, x.tensor)->cols;
    const int has_up = up.tensor != KVR_NO_TENSOR;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_ACTIVATE);
    kvri_ocl_call_view(&call, x);
    kvri_ocl_call_view(&call, has_up ? up : x);
    kvri_ocl_call_u32(&call, has_up);
    kvri_ocl_call_u32(&call, (uint32_t)activation);
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_matmul_bytes_args(&call, x, rows, 1);
    return kvri_ocl_call_run(&call, kvri_ceil_div(cols, CHUNK), rows, "activate could not be enqueued");
}

/* ---- checks: a wrong index or shape is the caller's mistake and becomes a status, not a wild kernel ---- */

static int has(const kvr_opencl *cl, uint32_t tensor, uint32_t role) {
    return tensor < cl->session->n_tensors && cl->session->tensors[tensor].role == role;
}

static int has_rows(const kvr_opencl *cl, kvr_view view, uint32_t role, uint32_t rows) {
    if (!has(cl, view.tensor, role) || rows > cl->session->batch_tokens) return 0;
    const uint32_t all = cl->session->tensors[view.tensor].rows;
    return view.row <= all && rows <= all - view.row;
}

/* Keys 0 .. first_token + rows - 1 exist, or those of them that the window shows. */
static int in_context(const kvr_opencl *cl, uint32_t tensor, const kvr_attention *how, uint32_t rows,
                      uint32_t first_token) {
    const uint32_t all = tensor_of(cl, tensor)->rows, ctx = cl->session->ctx_tokens;
    if (first_token <= all && rows <= all - first_token) return 1;
    return all % KVR_BACKEND_RING == 0 && how->window != 0 && rows <= all && how->window - 1u <= all - rows &&
           first_token <= ctx && rows <= ctx - first_token;
}

static kvr_status refuse(kvr_opencl *cl, const char *text) {
    if (cl->session == NULL) return kvri_ocl_refused(cl, KVR_ERR_STATE, "the backend is not open");
    return kvri_ocl_refused(cl, KVR_ERR_ARG, text);
}

static kvr_status embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || ids == NULL || !has_rows(cl, dst, KVR_ROLE_WORK, rows) ||
        !has(cl, weight, KVR_ROLE_MATRIX) || tensor_of(cl, weight)->cols != tensor_of(cl, dst.tensor)->cols)
        return refuse(cl, "embed: tensors or rows do not fit");
    for (uint32_t i = 0; i < rows; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= tensor_of(cl, weight)->rows)
            return refuse(cl, "embed: an id past the vocabulary");
    return rows == 0 ? KVR_OK : put_embed(cl, dst, weight, ids, rows);
}

static int has_vector(const kvr_opencl *cl, uint32_t tensor, uint32_t cols) {
    return has(cl, tensor, KVR_ROLE_VECTOR) && tensor_of(cl, tensor)->cols == cols;
}

static kvr_status norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !has_rows(cl, dst, KVR_ROLE_WORK, rows) || !has_rows(cl, src, KVR_ROLE_WORK, rows) ||
        !has(cl, how->weight, KVR_ROLE_VECTOR) ||
        tensor_of(cl, src.tensor)->cols % tensor_of(cl, how->weight)->cols != 0 ||
        (how->bias != KVR_NO_TENSOR && !has_vector(cl, how->bias, tensor_of(cl, how->weight)->cols)) ||
        tensor_of(cl, dst.tensor)->cols != tensor_of(cl, src.tensor)->cols)
        return refuse(cl, "norm: tensors or rows do not fit");
    return rows == 0 ? KVR_OK : put_norm(cl, dst, src, how, rows);
}

static kvr_status add_bias(void *user, kvr_view x, uint32_t bias, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !has_rows(cl, x, KVR_ROLE_WORK, rows) ||
        !has_vector(cl, bias, tensor_of(cl, x.tensor)->cols))
        return refuse(cl, "add_bias: tensors or rows do not fit");
    return rows == 0 ? KVR_OK : put_add_bias(cl, x, bias, rows);
}

static kvr_status scale(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !has_rows(cl, x, KVR_ROLE_WORK, rows)) return refuse(cl, "scale: rows do not fit");
    return rows == 0 ? KVR_OK : put_scale(cl, x, factor, soft_cap, rows);
}

static int fits_matmul(const kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows) {
    return has_rows(cl, dst, KVR_ROLE_WORK, rows) && has_rows(cl, src, KVR_ROLE_WORK, rows) &&
           has(cl, weight, KVR_ROLE_MATRIX) && tensor_of(cl, weight)->cols == tensor_of(cl, src.tensor)->cols &&
           tensor_of(cl, weight)->rows == tensor_of(cl, dst.tensor)->cols;
}

static int fits_rope(const kvr_opencl *cl, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads) {
    return has_rows(cl, x, KVR_ROLE_WORK, rows) && has(cl, how->freq, KVR_ROLE_VECTOR) &&
           how->dims <= cl->session->head_dim && how->dims % 2u == 0 &&
           tensor_of(cl, how->freq)->cols >= how->dims / 2u &&
           (uint64_t)n_heads * cl->session->head_dim == tensor_of(cl, x.tensor)->cols;
}

static int fits_store(const kvr_opencl *cl, kvr_view dst, kvr_view src, uint32_t rows) {
    return has_rows(cl, dst, KVR_ROLE_KV, rows) && has_rows(cl, src, KVR_ROLE_WORK, rows) &&
           tensor_of(cl, dst.tensor)->cols == tensor_of(cl, src.tensor)->cols;
}

static kvr_status matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                         int add) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !fits_matmul(cl, dst, weight, src, rows) || (path == KVR_PATH_DECODE && rows > 1))
        return refuse(cl, "matmul: tensors or rows do not fit");
    return rows == 0 ? KVR_OK : kvri_ocl_matmul_run(cl, dst, weight, src, rows, path, add);
}

static kvr_status matmul_many(void *user, const kvr_product *products, uint32_t n, kvr_view src) {
    kvr_opencl *cl = user;
    int fits = cl->session != NULL && n <= KVR_BACKEND_PRODUCTS;
    for (uint32_t i = 0; fits && i < n; i++) fits = fits_matmul(cl, products[i].dst, products[i].weight, src, 1);
    if (!fits) return refuse(cl, "matmul_many: tensors or rows do not fit");
    return kvri_ocl_matmul_many_run(cl, products, n, src);
}

static kvr_status rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                       uint32_t first_token) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !fits_rope(cl, x, how, rows, n_heads))
        return refuse(cl, "rope: tensors, heads or rows do not fit");
    return rows == 0 || how->dims == 0 ? KVR_OK : put_rope(cl, x, how, rows, n_heads, first_token);
}

static kvr_status store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !fits_store(cl, dst, src, rows)) return refuse(cl, "store: tensors or rows do not fit");
    return rows == 0 ? KVR_OK : put_store(cl, dst, src, rows);
}

static kvr_status place(void *user, const kvr_place *what, const kvr_rope *how, uint32_t rows, uint32_t first_token) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !fits_rope(cl, what->k, how, rows, what->n_kv_heads) ||
        (what->q.tensor != KVR_NO_TENSOR && !fits_rope(cl, what->q, how, rows, what->n_heads)) ||
        !fits_store(cl, what->k_cache, what->k, rows) || !fits_store(cl, what->v_cache, what->v, rows) ||
        tensor_of(cl, what->k_cache.tensor)->cols != tensor_of(cl, what->v_cache.tensor)->cols ||
        tensor_of(cl, what->k_cache.tensor)->type != tensor_of(cl, what->v_cache.tensor)->type)
        return refuse(cl, "place: tensors, heads or rows do not fit");
    return rows == 0 ? KVR_OK : put_place(cl, what, how, rows, first_token);
}

static kvr_status attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                            uint32_t rows, uint32_t first_token) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !has_rows(cl, dst, KVR_ROLE_WORK, rows) || !has_rows(cl, q, KVR_ROLE_WORK, rows) ||
        !has(cl, k, KVR_ROLE_KV) || !has(cl, v, KVR_ROLE_KV) || (how->path == KVR_PATH_DECODE && rows > 1))
        return refuse(cl, "attention: tensors or rows do not fit");
    const uint64_t q_cols = (uint64_t)cl->session->n_heads * cl->session->head_dim;
    const uint64_t kv_cols = (uint64_t)cl->session->n_kv_heads * cl->session->head_dim;
    if (tensor_of(cl, q.tensor)->cols != q_cols || tensor_of(cl, dst.tensor)->cols != q_cols ||
        tensor_of(cl, k)->cols != kv_cols || tensor_of(cl, v)->cols != kv_cols ||
        tensor_of(cl, k)->type != tensor_of(cl, v)->type || !in_context(cl, k, how, rows, first_token) ||
        !in_context(cl, v, how, rows, first_token) || tensor_of(cl, k)->rows != tensor_of(cl, v)->rows)
        return refuse(cl, "attention: shapes, types or context do not fit");
    return rows == 0 ? KVR_OK : kvri_ocl_attention_run(cl, dst, q, k, v, how, rows, first_token);
}

static kvr_status activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    kvr_opencl *cl = user;
    if (cl->session == NULL || !has_rows(cl, x, KVR_ROLE_WORK, rows) ||
        (up.tensor != KVR_NO_TENSOR && (!has_rows(cl, up, KVR_ROLE_WORK, rows) ||
                                        tensor_of(cl, x.tensor)->cols != tensor_of(cl, up.tensor)->cols)))
        return refuse(cl, "activate: tensors or rows do not fit");
    return rows == 0 ? KVR_OK : put_activate(cl, x, up, activation, rows);
}

void kvri_ocl_ops_table(kvr_backend *out) {
    out->embed = embed;
    out->norm = norm;
    out->matmul = matmul;
    out->matmul_many = matmul_many;
    out->place = place;
    out->add_bias = add_bias;
    out->scale = scale;
    out->rope = rope;
    out->store = store;
    out->attention = attention;
    out->activate = activate;
}

/* ---- warm-up ---- */

static kvr_status warm_weight(kvr_opencl *cl, uint32_t weight, uint32_t work) {
    const kvr_view view = {work, 0};
    KVRI_TRY(put_embed(cl, view, weight, NULL, 0));
    return kvri_ocl_matmul_warm_up(cl, view, weight);
}

static kvr_status warm_kv(kvr_opencl *cl, uint32_t kv, uint32_t work, uint32_t vector) {
    const kvr_view view = {work, 0};
    const kvr_view cache = {kv, 0};
    KVRI_TRY(put_store(cl, cache, view, 0));
    if (vector != KVR_NO_TENSOR) {
        const kvr_view none = {KVR_NO_TENSOR, 0};
        const kvr_place what = {none, view, view, cache, cache, 0, 0};
        const kvr_rope how = {vector, 0, KVR_ROPE_PAIRS, 1.0f};
        KVRI_TRY(put_place(cl, &what, &how, 0, 0));
    }
    return kvri_ocl_attention_warm_up(cl, view, kv);
}

static kvr_status warm_vector(kvr_opencl *cl, uint32_t vector, uint32_t work) {
    const kvr_view view = {work, 0};
    const kvr_norm norm_how = {vector, KVR_NO_TENSOR, KVR_NORM_RMS, 1.0f, 0};
    const kvr_rope rope_how = {vector, 0, KVR_ROPE_PAIRS, 1.0f};
    KVRI_TRY(put_norm(cl, view, view, &norm_how, 0));
    KVRI_TRY(put_add_bias(cl, view, vector, 0));
    KVRI_TRY(put_scale(cl, view, 1.0f, 0.0f, 0));
    KVRI_TRY(put_rope(cl, view, &rope_how, 0, 1, 0));
    return put_activate(cl, view, view, KVR_ACT_SILU, 0);
}

static uint32_t first_of(const kvri_ocl_session *session, uint32_t role) {
    for (uint32_t i = 0; i < session->n_tensors; i++)
        if (session->tensors[i].role == role) return i;
    return KVR_NO_TENSOR;
}

kvr_status kvri_ocl_ops_warm_up(kvr_opencl *cl) {
    const kvri_ocl_session *session = cl->session;
    const uint32_t work = first_of(session, KVR_ROLE_WORK);
    if (work == KVR_NO_TENSOR) return KVR_OK;
    uint64_t seen = 0; /* bit per (role, type) */
    for (uint32_t i = 0; i < session->n_tensors; i++) {
        const kvri_ocl_tensor *tensor = &session->tensors[i];
        const uint64_t bit = 1ull << (tensor->role * KVRI_OCL_DTYPES + tensor->type);
        if (seen & bit) continue;
        seen |= bit;
        if (tensor->role == KVR_ROLE_MATRIX) KVRI_TRY(warm_weight(cl, i, work));
        if (tensor->role == KVR_ROLE_KV) KVRI_TRY(warm_kv(cl, i, work, first_of(session, KVR_ROLE_VECTOR)));
        if (tensor->role == KVR_ROLE_VECTOR) KVRI_TRY(warm_vector(cl, i, work));
    }
    const cl_int native = clFinish(cl->compute);
    return native == CL_SUCCESS ? KVR_OK
                                : kvri_ocl_broken(cl, native, "the kernels fail on this device: choose another");
}
