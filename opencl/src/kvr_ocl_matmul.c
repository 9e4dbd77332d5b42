/*
 * kvr_ocl_matmul.c - dst = src * weight^T: which product runs, and the own ones.
 *
 *              prefill                                      decode (one row)
 *   own        product in integers, pairs or floats         integer or float matvec
 *   CLBlast    CLBlast                                      integer or float matvec
 *
 * Integers where precision allows them, the weight is quantised and the device has an instruction for them; pairs of
 * bfloat16 likewise for weights of 16 bits, which one row alone would not gain from: it waits for memory. Own or
 * CLBlast: as configured, else as tuned, else own on CPUs, where it is two to four times as fast (README.md, "Speed
 * now"), and CLBlast elsewhere. The choice depends on weight and path only, never on the number of rows.
 */
#include "kvr_ocl.h"

#include "kvr_checked.h"

#define CHUNK 256u /* KVR_CHUNK of common.cl */
#define QUANT_BLOCK 32u

/* What the rows of a product are multiplied as. */
typedef enum operand { FLOATS, PAIRS, INTEGERS } operand;

static int is_fast(const kvr_opencl *cl, uint32_t instruction) {
    return cl->precision == KVR_OPENCL_PRECISION_INTEGER ||
           (cl->precision == KVR_OPENCL_PRECISION_FAST && instruction != 0);
}

static operand operand_of(const kvr_opencl *cl, uint32_t type) {
    if (kvri_ocl_type_has_codes(type) && is_fast(cl, cl->limits.dot)) return INTEGERS;
    if (kvri_ocl_type_has_pairs(type) && is_fast(cl, cl->limits.pair)) return PAIRS;
    return FLOATS;
}

int kvri_ocl_matmul_rounds(const kvr_opencl *cl, uint32_t type) { return operand_of(cl, type) == PAIRS; }

#define NARROW_ROWS 1024u /* kvr_opencl_tuning */

static uint32_t choice(const kvr_opencl *cl, uint32_t tuned) {
    if (cl->gemm != KVR_OPENCL_GEMM_AUTO) return cl->gemm;
    if (tuned != KVR_OPENCL_GEMM_AUTO) return tuned;
    return cl->limits.is_cpu ? KVR_OPENCL_GEMM_OWN : KVR_OPENCL_GEMM_CLBLAST;
}

int kvri_ocl_matmul_uses_clblast(const kvr_opencl *cl, uint32_t type, uint32_t rows) {
    const kvr_opencl_tuning *t = &cl->tuning;
    const int is_float = operand_of(cl, type) == FLOATS;
    const uint32_t narrow = is_float ? t->narrow_float : t->narrow_int;
    const uint32_t wide = is_float ? t->wide_float : t->wide_int;
    return choice(cl, rows < NARROW_ROWS ? narrow : wide) == KVR_OPENCL_GEMM_CLBLAST;
}

int kvri_ocl_matmul_may_use_clblast(const kvr_opencl *cl) {
    static const uint32_t types[] = {KVRI_OCL_F32, KVRI_OCL_Q8_0};
    for (size_t i = 0; i < 2; i++)
        if (kvri_ocl_matmul_uses_clblast(cl, types[i], 0) || kvri_ocl_matmul_uses_clblast(cl, types[i], NARROW_ROWS))
            return 1;
    return 0;
}

kvr_status kvri_ocl_matmul_scratch(const kvr_opencl *cl, const kvr_backend_need *need, uint64_t *scratch_bytes,
                                   kvr_error *error) {
    uint64_t blocks = 0, pair_blocks = 0; /* of 32 columns, of the widest row */
    for (uint32_t i = 0; i < KVRI_OCL_SCRATCHES; i++) scratch_bytes[i] = 0;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *desc = &need->tensors[i];
        if (desc->role != KVR_ROLE_MATRIX) continue;
        const operand as = operand_of(cl, kvri_ocl_type_of(desc->dtype));
        if (as == INTEGERS && desc->cols / QUANT_BLOCK > blocks) blocks = desc->cols / QUANT_BLOCK;
        if (as == PAIRS && kvri_ceil_div(desc->cols, QUANT_BLOCK) > pair_blocks)
            pair_blocks = kvri_ceil_div(desc->cols, QUANT_BLOCK);
    }
    blocks *= need->batch_tokens; /* below 2^23 * 2^12 */
    scratch_bytes[KVRI_OCL_PAIRS] = pair_blocks * need->batch_tokens * QUANT_BLOCK * sizeof(cl_ushort);
    scratch_bytes[KVRI_OCL_QUANT] = blocks * QUANT_BLOCK;
    scratch_bytes[KVRI_OCL_QSCALE] = blocks * sizeof(cl_float);
    scratch_bytes[KVRI_OCL_QSUM] = blocks * 2u * sizeof(cl_int);
    scratch_bytes[KVRI_OCL_PARTIAL] = kvri_ocl_attention_scratch(need);
    scratch_bytes[KVRI_OCL_STAGING] = kvri_ocl_weights_staging(need);
    if (kvri_ocl_matmul_may_use_clblast(cl)) KVRI_TRY(kvri_ocl_clblast_scratch(cl, need, scratch_bytes, error));
    for (uint32_t i = 0; i < KVRI_OCL_SCRATCHES; i++)
        if (scratch_bytes[i] > cl->limits.max_alloc_bytes)
            return kvri_fail_n(error, KVR_ERR_NOMEM, "opencl",
                               "scratch of the products is larger than one buffer of this device can be: lower "
                               "batch_tokens",
                               scratch_bytes[i], cl->limits.max_alloc_bytes);
    return KVR_OK;
}

void kvri_ocl_matmul_changed(kvr_opencl *cl, uint32_t tensor) {
    kvri_ocl_session *session = cl->session;
    if (session->quant_view.tensor == tensor) session->quant_view.tensor = session->n_tensors;
    if (session->pairs_view.tensor == tensor) session->pairs_view.tensor = session->n_tensors;
}

static void bytes_mems(kvri_ocl_call *call) {
    static const uint32_t order[] = {KVRI_OCL_QUANT, KVRI_OCL_QSCALE, KVRI_OCL_QSUM};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        kvri_ocl_call_mem(call, call->cl->session->scratch[order[i]]);
}

void kvri_ocl_matmul_bytes_args(kvri_ocl_call *call, kvr_view made, uint32_t rows, int wanted) {
    kvri_ocl_session *session = call->cl->session;
    const kvri_ocl_tensor *tensor = &session->tensors[made.tensor];
    const int here = wanted && session->scratch[KVRI_OCL_QUANT] != NULL && tensor->cols % QUANT_BLOCK == 0 &&
                     tensor->cols <= session->quant_cols;
    kvri_ocl_call_u32(call, here);
    if (here) {
        bytes_mems(call);
        session->quant_view = made;
        session->quant_rows = rows;
        return;
    }
    for (int i = 0; i < 3; i++) kvri_ocl_call_mem(call, tensor->buffer); /* not touched */
}

static int is_made(kvr_view of, uint32_t of_rows, kvr_view src, uint32_t rows) {
    return rows != 0 && of.tensor == src.tensor && of.row == src.row && of_rows >= rows;
}

/* Once for all weights that are multiplied with the same rows. */
static kvr_status quantise(kvr_opencl *cl, kvr_view src, uint32_t rows) {
    kvri_ocl_session *session = cl->session;
    const uint32_t cols = session->tensors[src.tensor].cols;
    if (is_made(session->quant_view, session->quant_rows, src, rows)) return KVR_OK;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_QUANTISE);
    kvri_ocl_call_view(&call, src);
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows);
    bytes_mems(&call);
    session->quant_view.tensor = session->n_tensors;
    KVRI_TRY(kvri_ocl_call_run(&call, kvri_ceil_div(cols, CHUNK), rows, "quant could not be enqueued"));
    session->quant_view = src;
    session->quant_rows = rows;
    return KVR_OK;
}

static kvr_status make_pairs(kvr_opencl *cl, kvr_view src, uint32_t rows) {
    kvri_ocl_session *session = cl->session;
    const uint32_t cols = session->tensors[src.tensor].cols;
    const uint32_t k_pad = (uint32_t)kvri_ceil_div(cols, QUANT_BLOCK) * QUANT_BLOCK;
    if (is_made(session->pairs_view, session->pairs_rows, src, rows)) return KVR_OK;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_PAIR);
    kvri_ocl_call_view(&call, src);
    kvri_ocl_call_u32(&call, cols);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_mem(&call, session->scratch[KVRI_OCL_PAIRS]);
    kvri_ocl_call_u32(&call, k_pad);
    session->pairs_view.tensor = session->n_tensors;
    KVRI_TRY(kvri_ocl_call_run(&call, kvri_ceil_div(k_pad, CHUNK), rows, "pairs could not be enqueued"));
    session->pairs_view = src;
    session->pairs_rows = rows;
    return KVR_OK;
}

static kvr_status make_operand(kvr_opencl *cl, operand as, kvr_view src, uint32_t rows) {
    switch (as) {
    case INTEGERS: return quantise(cl, src, rows);
    case PAIRS: return make_pairs(cl, src, rows);
    case FLOATS: break;
    }
    return KVR_OK;
}

/* k_pad: of the weight, and of the pairs. */
static void source_args(kvri_ocl_call *call, operand as, kvr_view src, uint32_t k_pad) {
    const kvri_ocl_session *session = call->cl->session;
    if (as == INTEGERS) {
        bytes_mems(call);
        return;
    }
    kvri_ocl_call_u32(call, as == PAIRS ? k_pad : session->tensors[src.tensor].cols);
    if (as == FLOATS) {
        kvri_ocl_call_view(call, src);
        return;
    }
    kvri_ocl_call_mem(call, session->scratch[KVRI_OCL_PAIRS]);
    kvri_ocl_call_u32(call, 0); /* its first row */
}

/* Rows of a work-item: all of them, so that a strip of the weight is read once; fewer where the strips alone would not
 * occupy the device. */
static uint32_t rows_of_item(const kvr_opencl *cl, uint32_t strips, uint32_t rows, uint32_t tile_rows) {
    const uint64_t wanted = 8ull * (cl->info.compute_units == 0 ? 1 : cl->info.compute_units);
    if (!cl->limits.is_cpu) return tile_rows;
    const uint64_t groups = kvri_ceil_div(wanted, strips);
    return (uint32_t)kvri_ceil_div(kvri_ceil_div(rows == 0 ? 1 : rows, groups), tile_rows) * tile_rows;
}

static kvr_status product(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, int add) {
    const kvri_ocl_tensor *tensor = &cl->session->tensors[weight];
    static const uint32_t kernels[] = {KVRI_OCL_GEMM, KVRI_OCL_GEMM_PAIR, KVRI_OCL_GEMM_INT};
    const operand as = operand_of(cl, tensor->type);
    const uint32_t tile_rows = as == INTEGERS ? cl->limits.dot_rows : cl->limits.tile_rows;
    const uint32_t strips = (uint32_t)kvri_ceil_div(tensor->rows, 16u * cl->limits.tile_vecs);
    const uint32_t item_rows = rows_of_item(cl, strips, rows, tile_rows);
    KVRI_TRY(make_operand(cl, as, src, rows));
    kvri_ocl_call call = kvri_ocl_call_begin(cl, kernels[as] + tensor->type);
    kvri_ocl_call_weight(&call, tensor);
    source_args(&call, as, src, tensor->k_pad);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_view(&call, dst);
    kvri_ocl_call_u32(&call, tensor->rows);
    kvri_ocl_call_u32(&call, add != 0);
    kvri_ocl_call_u32(&call, item_rows);
    return kvri_ocl_call_run(&call, strips, kvri_ceil_div(rows, item_rows), "the product could not be enqueued");
}

/* n weights of one type, in one launch (WEIGHTS_ARGS of common.cl). */
static kvr_status matvec(kvr_opencl *cl, const kvr_product *products, uint32_t n, kvr_view src, uint32_t rows,
                         int add) {
    const kvri_ocl_tensor *tensors = cl->session->tensors;
    const kvri_ocl_tensor *first = &tensors[products[0].weight];
    const operand as = operand_of(cl, first->type) == INTEGERS ? INTEGERS : FLOATS;
    uint64_t strips = 0;
    KVRI_TRY(make_operand(cl, as, src, rows));
    kvri_ocl_call call =
        kvri_ocl_call_begin(cl, (as == INTEGERS ? KVRI_OCL_MATVEC_INT : KVRI_OCL_MATVEC) + first->type);
    for (uint32_t i = 0; i < KVR_BACKEND_PRODUCTS; i++) {
        const kvr_product *product = &products[i < n ? i : 0];
        const kvri_ocl_tensor *tensor = &tensors[product->weight];
        const uint32_t here = i < n ? tensor->rows : 0;
        kvri_ocl_call_mem(&call, tensor->buffer);
        kvri_ocl_call_u32(&call, tensor->scale_at);
        kvri_ocl_call_view(&call, product->dst);
        kvri_ocl_call_u32(&call, here);
        strips += kvri_ceil_div(here, 16);
    }
    kvri_ocl_call_u32(&call, first->k_pad);
    source_args(&call, as, src, first->k_pad);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_call_u32(&call, add != 0);
    return kvri_ocl_call_run(&call, strips, 1, "matvec could not be enqueued");
}

static int clblast_takes(const kvr_opencl *cl, uint32_t weight) {
    const kvri_ocl_tensor *tensor = &cl->session->tensors[weight];
    return cl->session->use_clblast && kvri_ocl_matmul_uses_clblast(cl, tensor->type, tensor->rows);
}

kvr_status kvri_ocl_matmul_run(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows,
                               kvr_path path, int add) {
    kvri_ocl_matmul_changed(cl, dst.tensor);
    if (path == KVR_PATH_DECODE) {
        const kvr_product one = {dst, weight};
        return matvec(cl, &one, 1, src, rows, add);
    }
    if (clblast_takes(cl, weight)) return kvri_ocl_clblast_run(cl, dst, weight, src, rows, add);
    return product(cl, dst, weight, src, rows, add);
}

kvr_status kvri_ocl_matmul_many_run(kvr_opencl *cl, const kvr_product *products, uint32_t n, kvr_view src) {
    const kvri_ocl_tensor *tensors = cl->session->tensors;
    uint32_t done = 0;
    for (uint32_t i = 0; i < n; i++) kvri_ocl_matmul_changed(cl, products[i].dst.tensor);
    while (done < n) {
        uint32_t alike = 1;
        while (done + alike < n && tensors[products[done + alike].weight].type == tensors[products[done].weight].type)
            alike++;
        KVRI_TRY(matvec(cl, products + done, alike, src, 1, 0));
        done += alike;
    }
    return KVR_OK;
}

kvr_status kvri_ocl_matmul_warm_up(kvr_opencl *cl, kvr_view work, uint32_t weight) {
    const kvr_product one = {work, weight};
    KVRI_TRY(matvec(cl, &one, 1, work, 0, 0));
    kvri_ocl_matmul_changed(cl, work.tensor);
    if (clblast_takes(cl, weight)) KVRI_TRY(kvri_ocl_clblast_warm_up(cl, work, weight));
    return product(cl, work, weight, work, 0, 0);
}
