/*
 * From GGUF keys and tensors to geometry. Key names and their meaning: ggml/docs/gguf.md; tensor names and the
 * interleaved RoPE pairs of the llama architecture: llama.cpp's converter.
 */
#include "kvr_model.h"

#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_error.h"
#include "kvr_pretok.h"

#include <math.h>
#include <string.h>

#define MODULE "model"

/* The keys that are read. "%" stands for the architecture's name. */
typedef enum key_id {
    KEY_ARCH, KEY_NAME, KEY_CTX, KEY_DIM, KEY_LAYERS, KEY_FFN, KEY_HEADS, KEY_KV_HEADS, KEY_KEY_LEN, KEY_VALUE_LEN,
    KEY_EPS, KEY_ROPE_DIMS, KEY_ROPE_BASE, KEY_ROPE_SCALE_OLD, KEY_ROPE_SCALING, KEY_ROPE_FACTOR, KEY_EXPERTS,
    KEY_SLIDING, KEY_TOK_MODEL, KEY_TOK_PRE, KEY_TOKENS, KEY_SCORES, KEY_TYPES, KEY_MERGES, KEY_BOS, KEY_EOS, KEY_UNK,
    KEY_ADD_BOS, KEY_ADD_EOS, KEY_ADD_SPACE, KEY_COUNT
} key_id;

static const char *const key_names[KEY_COUNT] = {
    "general.architecture", "general.name", "%.context_length", "%.embedding_length", "%.block_count",
    "%.feed_forward_length", "%.attention.head_count", "%.attention.head_count_kv", "%.attention.key_length",
    "%.attention.value_length", "%.attention.layer_norm_rms_epsilon", "%.rope.dimension_count", "%.rope.freq_base",
    "%.rope.scale_linear", "%.rope.scaling.type", "%.rope.scaling.factor", "%.expert_count",
    "%.attention.sliding_window", "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"};

/* Everything read from one file while it is being understood. */
typedef struct intake {
    kvr_model_info info;
    kvri_gguf gguf;
    kvri_gguf_value keys[KEY_COUNT]; /* data == NULL: absent */
    kvri_vocab vocab;
    kvr_error *error;
} intake;

static int is_string(const kvri_gguf_value *v) {
    return v->data != NULL && !v->is_array && v->type == KVRI_GGUF_STRING;
}

/* key == pattern with "%" replaced by the architecture. */
static int key_matches(kvri_str key, const char *pattern, kvri_str arch) {
    if (pattern[0] != '%') return kvri_str_eq(key, pattern);
    if (key.n < arch.n || memcmp(key.at, arch.at, (size_t)arch.n) != 0) return 0;
    const kvri_str rest = {key.at + arch.n, key.n - arch.n};
    return kvri_str_eq(rest, pattern + 1);
}

static kvr_status collect_keys(intake *in) {
    kvri_str key;
    kvri_gguf_value value;
    kvri_gguf_cursor c = kvri_gguf_first_kv(&in->gguf);
    while (kvri_gguf_next_kv(&in->gguf, &c, &key, &value) == KVR_OK)
        if (kvri_str_eq(key, key_names[KEY_ARCH])) in->keys[KEY_ARCH] = value;
    if (!is_string(&in->keys[KEY_ARCH]))
        return kvri_fail_s(in->error, KVR_ERR_KEY, MODULE, "the file does not say what model it is: needs the text key",
                           key_names[KEY_ARCH], strlen(key_names[KEY_ARCH]));
    const kvri_str arch = kvri_gguf_string(in->keys[KEY_ARCH].data);
    c = kvri_gguf_first_kv(&in->gguf);
    while (kvri_gguf_next_kv(&in->gguf, &c, &key, &value) == KVR_OK)
        for (int k = KEY_NAME; k < KEY_COUNT; k++)
            if (key_matches(key, key_names[k], arch)) in->keys[k] = value;
    kvri_copy_printable(in->info.architecture, sizeof in->info.architecture, arch.at, arch.n);
    if (is_string(&in->keys[KEY_NAME])) {
        const kvri_str name = kvri_gguf_string(in->keys[KEY_NAME].data);
        kvri_copy_printable(in->info.name, sizeof in->info.name, name.at, name.n);
    }
    return KVR_OK;
}

/* Only then may a failure add its numbers: an earlier record is left as it is. */
static int is_first_failure(const intake *in) { return in->error != NULL && in->error->status == KVR_OK; }

static kvr_status bad_key(intake *in, key_id id, const char *text) {
    return kvri_fail_s(in->error, KVR_ERR_KEY, MODULE, text, key_names[id], strlen(key_names[id]));
}

/* A whole number from min to max in any integer type; *out keeps its default when the key is absent and not required. */
static kvr_status get_u32(intake *in, key_id id, int required, uint32_t min, uint32_t max, uint32_t *out) {
    const kvri_gguf_value *v = &in->keys[id];
    uint64_t value = 0;
    if (v->data == NULL) return required ? bad_key(in, id, "a required key is missing:") : KVR_OK;
    if (v->is_array) return bad_key(in, id, "a list where one number is supported, in key");
    switch (v->type) {
    case KVRI_GGUF_U8:
    case KVRI_GGUF_BOOL: value = v->data[0]; break;
    case KVRI_GGUF_U16: value = kvri_le16(v->data); break;
    case KVRI_GGUF_U32: value = kvri_le32(v->data); break;
    case KVRI_GGUF_U64:
    case KVRI_GGUF_I64: value = kvri_le64(v->data); break; /* negative: too large below, as in the smaller types */
    case KVRI_GGUF_I8: value = (uint64_t)(int64_t)(int8_t)v->data[0]; break;
    case KVRI_GGUF_I16: value = (uint64_t)(int64_t)(int16_t)kvri_le16(v->data); break;
    case KVRI_GGUF_I32: value = (uint64_t)(int64_t)(int32_t)kvri_le32(v->data); break;
    default: return bad_key(in, id, "not a whole number: key");
    }
    if (value < min || value > max) {
        const int first = is_first_failure(in);
        bad_key(in, id, "out of the supported range: key");
        if (first) in->error->wanted = max, in->error->had = value;
        return KVR_ERR_KEY;
    }
    *out = (uint32_t)value;
    return KVR_OK;
}

static kvr_status get_f32(intake *in, key_id id, int required, float min, float max, float *out) {
    const kvri_gguf_value *v = &in->keys[id];
    if (v->data == NULL) return required ? bad_key(in, id, "a required key is missing:") : KVR_OK;
    if (v->is_array || v->type != KVRI_GGUF_F32) return bad_key(in, id, "not a 32-bit float: key");
    const float value = kvri_lef32(v->data);
    if (!(value >= min && value <= max)) return bad_key(in, id, "out of the supported range: key");
    *out = value;
    return KVR_OK;
}

/* --- vocabulary ---------------------------------------------------------------------------------------------- */

static kvr_status check_token_array(intake *in, key_id id, uint32_t type, uint32_t other_type) {
    const kvri_gguf_value *v = &in->keys[id];
    if (v->data == NULL) return KVR_OK;
    if (!v->is_array || (v->type != type && v->type != other_type) || v->count != in->info.n_vocab)
        return kvri_fail_s(in->error, KVR_ERR_VOCAB, MODULE, "not one entry per token: key", key_names[id],
                           strlen(key_names[id]));
    return KVR_OK;
}

static kvr_status get_token_id(intake *in, key_id id, int32_t fallback, int32_t *out) {
    uint32_t value = UINT32_MAX;
    *out = fallback >= 0 && (uint32_t)fallback < in->info.n_vocab ? fallback : -1;
    if (in->keys[id].data == NULL) return KVR_OK;
    KVRI_TRY(get_u32(in, id, 0, 0, UINT32_MAX, &value));
    if (value == UINT32_MAX) { /* how some writers say "none" */
        *out = -1;
        return KVR_OK;
    }
    if (value >= in->info.n_vocab)
        return kvri_fail_n(in->error, KVR_ERR_VOCAB, MODULE, "a special token's id is outside the vocabulary",
                           in->info.n_vocab, value);
    *out = (int32_t)value;
    return KVR_OK;
}

static kvr_status read_vocab(intake *in) {
    kvr_model_info *info = &in->info;
    const kvri_gguf_value *tokens = &in->keys[KEY_TOKENS];
    info->bos_id = info->eos_id = info->unk_id = -1;
    if (is_string(&in->keys[KEY_TOK_MODEL])) {
        const kvri_str s = kvri_gguf_string(in->keys[KEY_TOK_MODEL].data);
        kvri_copy_printable(info->vocab_model, sizeof info->vocab_model, s.at, s.n);
    }
    if (is_string(&in->keys[KEY_TOK_PRE])) {
        const kvri_str s = kvri_gguf_string(in->keys[KEY_TOK_PRE].data);
        kvri_copy_printable(info->vocab_pre, sizeof info->vocab_pre, s.at, s.n);
    }
    if (tokens->data == NULL) return KVR_OK; /* ids in, ids out still works */
    if (!tokens->is_array || tokens->type != KVRI_GGUF_STRING || tokens->count == 0 || tokens->count > (1u << 22))
        return bad_key(in, KEY_TOKENS, "not a list of 1 to 2^22 texts: key");
    info->n_vocab = (uint32_t)tokens->count;
    KVRI_TRY(check_token_array(in, KEY_SCORES, KVRI_GGUF_F32, KVRI_GGUF_F32));
    KVRI_TRY(check_token_array(in, KEY_TYPES, KVRI_GGUF_I32, KVRI_GGUF_U32));

    const int spm = strcmp(info->vocab_model, "llama") == 0;
    const int bpe = strcmp(info->vocab_model, "gpt2") == 0;
    info->vocab_kind = spm ? KVR_VOCAB_SPM : bpe ? KVR_VOCAB_BPE : KVR_VOCAB_NONE;
    if (bpe) {
        const kvri_gguf_value *m = &in->keys[KEY_MERGES];
        if (m->data == NULL || !m->is_array || m->type != KVRI_GGUF_STRING || m->count > (1u << 23))
            return bad_key(in, KEY_MERGES, "a byte-level BPE vocabulary needs a list of merges: key");
        info->n_merges = (uint32_t)m->count;
    }
    /* defaults of the two kinds where the keys are absent */
    KVRI_TRY(get_token_id(in, KEY_BOS, spm ? 1 : 11, &info->bos_id));
    KVRI_TRY(get_token_id(in, KEY_EOS, spm ? 2 : 11, &info->eos_id));
    KVRI_TRY(get_token_id(in, KEY_UNK, spm ? 0 : -1, &info->unk_id));
    /* The families that take whole words as tokens are those that start a text with BOS unless the file says otherwise. */
    const kvri_pretok *pre = bpe ? kvri_pretok_find(info->vocab_pre) : NULL;
    info->add_bos = spm || (pre != NULL && pre->ignore_merges);
    info->add_space_prefix = spm;
    KVRI_TRY(get_u32(in, KEY_ADD_BOS, 0, 0, 1, &info->add_bos));
    KVRI_TRY(get_u32(in, KEY_ADD_EOS, 0, 0, 1, &info->add_eos));
    KVRI_TRY(get_u32(in, KEY_ADD_SPACE, 0, 0, 1, &info->add_space_prefix));

    kvri_vocab *v = &in->vocab;
    v->source.tokens = *tokens;
    v->source.scores = in->keys[KEY_SCORES];
    v->source.types = in->keys[KEY_TYPES];
    if (bpe) v->source.merges = in->keys[KEY_MERGES];
    v->kind = info->vocab_kind;
    v->n_vocab = info->n_vocab;
    v->n_merges = info->n_merges;
    v->bos_id = info->bos_id;
    v->eos_id = info->eos_id;
    v->unk_id = info->unk_id;
    v->add_bos = info->add_bos;
    v->add_eos = info->add_eos;
    v->add_space_prefix = info->add_space_prefix;
    return KVR_OK;
}

/* --- geometry ------------------------------------------------------------------------------------------------ */

static kvr_status read_rope(intake *in) {
    kvr_model_info *info = &in->info;
    float factor = 1.0f;
    info->rope_base = 10000.0f; /* the default of the llama architecture */
    info->rope_scale = 1.0f;
    info->rope_dims = info->head_dim;
    KVRI_TRY(get_f32(in, KEY_ROPE_BASE, 0, 1.0f, 1e12f, &info->rope_base));
    KVRI_TRY(get_u32(in, KEY_ROPE_DIMS, 0, 2, info->head_dim, &info->rope_dims));
    if (info->rope_dims % 2 != 0) return bad_key(in, KEY_ROPE_DIMS, "not even: key");
    KVRI_TRY(get_f32(in, KEY_ROPE_SCALE_OLD, 0, 0.0f, 1e6f, &factor));
    if (in->keys[KEY_ROPE_SCALING].data != NULL) {
        if (!is_string(&in->keys[KEY_ROPE_SCALING])) return bad_key(in, KEY_ROPE_SCALING, "not a text: key");
        const kvri_str kind = kvri_gguf_string(in->keys[KEY_ROPE_SCALING].data);
        if (kvri_str_eq(kind, "linear"))
            KVRI_TRY(get_f32(in, KEY_ROPE_FACTOR, 0, 0.0f, 1e6f, &factor));
        else if (!kvri_str_eq(kind, "none"))
            return kvri_fail_s(in->error, KVR_ERR_UNSUPPORTED, MODULE,
                               "this way of stretching positions is not supported (none and linear are):", kind.at,
                               kind.n);
    } else {
        KVRI_TRY(get_f32(in, KEY_ROPE_FACTOR, 0, 0.0f, 1e6f, &factor));
    }
    if (factor > 0.0f) info->rope_scale = factor; /* writers say "none" with 0 */
    return KVR_OK;
}

static kvr_status read_geometry(intake *in) {
    kvr_model_info *info = &in->info;
    uint32_t value_len, experts = 0, window = 0;
    if (strcmp(info->architecture, "llama") != 0)
        return kvri_fail_s(in->error, KVR_ERR_ARCH, MODULE, "only llama models run with this version; this one is",
                           info->architecture, strlen(info->architecture));
    KVRI_TRY(get_u32(in, KEY_LAYERS, 1, 1, 1024, &info->n_layers));
    KVRI_TRY(get_u32(in, KEY_DIM, 1, 2, 1u << 17, &info->model_dim));
    KVRI_TRY(get_u32(in, KEY_FFN, 1, 1, 1u << 20, &info->ffn_dim));
    KVRI_TRY(get_u32(in, KEY_HEADS, 1, 1, 1024, &info->n_heads));
    info->n_kv_heads = info->n_heads;
    KVRI_TRY(get_u32(in, KEY_KV_HEADS, 0, 1, info->n_heads, &info->n_kv_heads));
    KVRI_TRY(get_u32(in, KEY_CTX, 1, 1, 1u << 30, &info->train_ctx_tokens));
    KVRI_TRY(get_f32(in, KEY_EPS, 1, 0.0f, 1.0f, &info->norm_eps));
    KVRI_TRY(get_u32(in, KEY_EXPERTS, 0, 0, UINT32_MAX, &experts));
    if (experts > 1)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE, "mixture-of-experts models are not supported", 1,
                           experts);
    KVRI_TRY(get_u32(in, KEY_SLIDING, 0, 0, UINT32_MAX, &window));
    if (window != 0 && window < info->train_ctx_tokens)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE, "sliding-window attention is not supported",
                           info->train_ctx_tokens, window);
    if (info->n_heads % info->n_kv_heads != 0)
        return kvri_fail_n(in->error, KVR_ERR_CORRUPT, MODULE, "the heads are not a multiple of the KV heads",
                           info->n_heads, info->n_kv_heads);
    if (in->keys[KEY_KEY_LEN].data == NULL && info->model_dim % info->n_heads != 0)
        return kvri_fail_n(in->error, KVR_ERR_CORRUPT, MODULE, "the model dimension is not a multiple of the heads",
                           info->model_dim, info->n_heads);
    info->head_dim = info->model_dim / info->n_heads;
    KVRI_TRY(get_u32(in, KEY_KEY_LEN, 0, 2, 1024, &info->head_dim));
    if (info->head_dim % 2 != 0 || info->head_dim < 2 || info->head_dim > 1024)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE, "the size of a head must be even, 2 to 1024", 1024,
                           info->head_dim);
    value_len = info->head_dim;
    KVRI_TRY(get_u32(in, KEY_VALUE_LEN, 0, 1, 1024, &value_len));
    if (value_len != info->head_dim)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE, "keys and values must have the same size",
                           info->head_dim, value_len);
    return read_rope(in);
}

/* --- tensors ------------------------------------------------------------------------------------------------- */

typedef struct slot {
    uint32_t index; /* in the weight list; UINT32_MAX: not one the core computes with */
    uint8_t role;
    uint64_t rows, cols;
    uint16_t layer;
} slot;

/* "blk.12.attn_q.weight" -> which slot, what shape it must have. */
static slot find_slot(const kvr_model_info *info, kvri_str name) {
    const uint64_t ONE = 1, M = info->model_dim, F = info->ffn_dim;
    const uint64_t HD = (uint64_t)info->n_heads * info->head_dim, GD = (uint64_t)info->n_kv_heads * info->head_dim;
    static const char *const layer_names[] = {
#define KVRI_NAME(id, text, role, rows, cols) text,
        KVRI_LAYER_TENSORS(KVRI_NAME)
#undef KVRI_NAME
    };
    const slot layer_slots[] = {
#define KVRI_SLOT(id, text, role, rows, cols) {id, role, rows, cols, 0},
        KVRI_LAYER_TENSORS(KVRI_SLOT)
#undef KVRI_SLOT
    };
    const slot none = {UINT32_MAX, 0, 0, 0, 0};
    if (kvri_str_eq(name, "token_embd.weight")) return (slot){KVRI_EMBED, KVR_ROLE_MATRIX, 0, M, 0};
    if (kvri_str_eq(name, "output_norm.weight")) return (slot){KVRI_OUT_NORM, KVR_ROLE_VECTOR, ONE, M, 0};
    if (kvri_str_eq(name, "output.weight"))
        return (slot){kvri_weight(info->n_layers, (kvri_layer_tensor)0), KVR_ROLE_MATRIX, 0, M, 0}; /* behind the layers */
    if (name.n < 5 || memcmp(name.at, "blk.", 4) != 0) return none;
    uint64_t i = 4, layer = 0;
    while (i < name.n && name.at[i] >= '0' && name.at[i] <= '9' && layer < info->n_layers)
        layer = layer * 10 + (name.at[i++] - '0');
    if (i == 4 || i >= name.n || name.at[i] != '.' || layer >= info->n_layers) return none;
    i++;
    for (uint32_t k = 0; k < KVRI_PER_LAYER; k++) {
        const uint64_t n = strlen(layer_names[k]);
        const kvri_str tail = {name.at + i + n, name.n - i - n};
        if (name.n - i < n || memcmp(name.at + i, layer_names[k], (size_t)n) != 0 || !kvri_str_eq(tail, ".weight"))
            continue;
        slot s = layer_slots[k];
        s.index = kvri_weight((uint32_t)layer, (kvri_layer_tensor)k);
        s.layer = (uint16_t)layer;
        return s;
    }
    return none;
}

static kvr_status tensor_fail(intake *in, kvr_status status, const char *text, const kvri_gguf_tensor *t) {
    return kvri_fail_s(in->error, status, MODULE, text, t->name.at, t->name.n);
}

static kvr_status check_tensor(intake *in, const kvri_gguf_tensor *t, slot *s) {
    if (s->rows == 0) { /* embedding and head: the vocabulary says how many */
        s->rows = in->info.n_vocab != 0 ? in->info.n_vocab : t->dims[1];
        if (s->rows > (1u << 22)) return tensor_fail(in, KVR_ERR_TENSOR, "more than 2^22 rows in tensor", t);
    }
    if (t->dims[0] != s->cols || t->dims[1] != s->rows || t->dims[2] != 1 || t->dims[3] != 1) {
        const int first = is_first_failure(in);
        tensor_fail(in, KVR_ERR_TENSOR, "not the shape that the file's own keys say: tensor", t);
        if (first) {
            in->error->wanted = s->cols * s->rows;
            in->error->had = t->dims[0] * t->dims[1];
        }
        return KVR_ERR_TENSOR;
    }
    if (kvri_dtype_block(t->type) == 0) {
        const int first = is_first_failure(in);
        tensor_fail(in, KVR_ERR_TYPE,
                    "a tensor type that is not supported (native is its number in the format; F32, F16, BF16, Q4_0, Q4_1, "
                    "Q5_0, Q5_1, Q8_0, Q2_K to Q6_K and IQ4_NL are): tensor",
                    t);
        if (first) in->error->native = (int64_t)t->type;
        return KVR_ERR_TYPE;
    }
    if (s->role == KVR_ROLE_VECTOR && t->type != KVR_DTYPE_F32 && t->type != KVR_DTYPE_F16)
        return tensor_fail(in, KVR_ERR_TYPE, "a vector must be F32 or F16: tensor", t);
    if (t->dims[0] % kvri_dtype_block(t->type) != 0)
        return tensor_fail(in, KVR_ERR_CORRUPT, "rows are not whole blocks in tensor", t);
    return KVR_OK;
}

static void count_type(kvr_model_info *info, const kvri_gguf_tensor *t) {
    uint32_t k = 0;
    while (k < info->n_types && info->types[k].dtype != t->type) k++;
    if (k == KVR_TYPE_KINDS) return;
    if (k == info->n_types) info->types[info->n_types++].dtype = t->type;
    info->types[k].n_tensors++;
    info->types[k].bytes += t->bytes;
}

/* FNV-1a, 64 bit (Fowler, Noll, Vo). */
static uint64_t fnv(uint64_t hash, const uint8_t *bytes, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

/* Once tied_head is known. */
static uint32_t weight_count(const kvr_model_info *info) {
    if (info->n_tensors == 0) return 0;
    return (uint32_t)KVRI_GLOBALS + (uint32_t)KVRI_PER_LAYER * info->n_layers + (info->tied_head ? 0u : 1u);
}

/* Walks the tensors; weights == NULL: only checks. */
static kvr_status read_tensors(intake *in, kvr_tensor_desc *weights, const uint8_t **rope_factors) {
    kvr_model_info *info = &in->info;
    kvri_gguf_tensor t;
    uint32_t found = 0;
    uint64_t head_end = in->gguf.tensors_at;
    int has_head = 0;
    uint64_t hash = 0xcbf29ce484222325ull;
    kvri_gguf_cursor c = kvri_gguf_first_tensor(&in->gguf);
    info->n_types = 0;
    memset(info->types, 0, sizeof info->types);
    info->n_params = info->weight_bytes = 0;
    while (kvri_gguf_next_tensor(&in->gguf, &c, &t) == KVR_OK) {
        head_end = c.at;
        count_type(info, &t);
        info->n_params += t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
        info->weight_bytes += t.bytes;
        const uint64_t sample = kvri_min(t.bytes, 256);
        hash = fnv(hash, in->gguf.file + t.offset, sample);
        hash = fnv(hash, in->gguf.file + t.offset + (t.bytes - sample) / 2, sample);

        if (kvri_str_eq(t.name, "rope_freqs.weight")) {
            if (t.type != KVR_DTYPE_F32 || t.dims[0] != info->rope_dims / 2 || t.n_dims != 1)
                return tensor_fail(in, KVR_ERR_TENSOR, "not one F32 factor per rotated pair: tensor", &t);
            *rope_factors = in->gguf.file + t.offset;
            continue;
        }
        slot s = find_slot(info, t.name);
        if (s.index == UINT32_MAX) {
            /* a bias or a norm that this architecture lacks would change the answer: refuse rather than ignore */
            return tensor_fail(in, KVR_ERR_UNSUPPORTED, "a tensor that llama models do not have:", &t);
        }
        KVRI_TRY(check_tensor(in, &t, &s));
        const int is_head = s.index == kvri_weight(info->n_layers, (kvri_layer_tensor)0);
        has_head |= is_head;
        found++;
        if ((s.index == KVRI_EMBED || is_head) && info->n_vocab == 0) info->n_vocab = (uint32_t)s.rows;
        if (weights == NULL) continue;
        if (weights[s.index].data != NULL) return tensor_fail(in, KVR_ERR_CORRUPT, "there twice: tensor", &t);
        weights[s.index].data = in->gguf.file + t.offset;
        weights[s.index].bytes = t.bytes;
        weights[s.index].rows = (uint32_t)s.rows;
        weights[s.index].cols = (uint32_t)s.cols;
        weights[s.index].dtype = (uint8_t)t.type;
        weights[s.index].role = s.role;
        weights[s.index].layer = s.layer;
    }
    info->tied_head = !has_head;
    info->fingerprint = fnv(hash, in->gguf.file, head_end);
    const uint32_t wanted = weight_count(info);
    if (found > wanted)
        return kvri_fail_n(in->error, KVR_ERR_CORRUPT, MODULE, "tensors of the model are there twice", wanted, found);
    if (found < wanted)
        return kvri_fail_n(in->error, KVR_ERR_TENSOR, MODULE, "tensors of the model are missing: the file is incomplete",
                           wanted, found);
    return KVR_OK;
}

/* --- public -------------------------------------------------------------------------------------------------- */

static kvr_model *place(kvri_carve *carve, uint32_t n_tensors, kvri_vocab *vocab, kvr_tensor_desc **tensors) {
    kvr_model *model = kvri_carve_take(carve, 1, sizeof *model);
    *tensors = kvri_carve_take(carve, n_tensors, sizeof **tensors);
    kvri_vocab_place(vocab, carve);
    return model;
}

static uint32_t tensor_count(const kvr_model_info *info) {
    return info->n_tensors == 0 ? 0 : weight_count(info) + KVRI_SESSION_TENSORS(info->n_layers);
}

static kvr_status take_in(const void *file, size_t file_bytes, intake *in, kvr_error *error) {
    const uint8_t *rope_factors = NULL;
    kvr_tensor_desc *tensors;
    kvri_carve carve = {NULL, 0, 0};
    memset(in, 0, sizeof *in);
    in->error = error;
    in->info.struct_bytes = sizeof in->info;
    in->info.file_bytes = file_bytes;
    KVRI_TRY(kvri_gguf_open(file, file_bytes, &in->gguf, error));
    in->info.gguf_version = in->gguf.version;
    if (in->gguf.n_tensors > 65535)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "more tensors than any supported model has", 65535,
                           in->gguf.n_tensors);
    in->info.n_tensors = (uint32_t)in->gguf.n_tensors;
    KVRI_TRY(collect_keys(in));
    KVRI_TRY(read_vocab(in));
    if (in->info.n_tensors > 0) {
        KVRI_TRY(read_geometry(in));
        KVRI_TRY(read_tensors(in, NULL, &rope_factors));
    }
    place(&carve, tensor_count(&in->info), &in->vocab, &tensors);
    if (carve.overflow)
        return kvri_fail(error, KVR_ERR_NOMEM, MODULE, "the vocabulary's tables do not fit this processor's addresses");
    in->info.state_bytes = carve.used;
    return KVR_OK;
}

kvr_status kvr_model_probe(const void *file, size_t file_bytes, kvr_model_info *out, kvr_error *error) {
    intake in;
    if (file == NULL || out == NULL) return kvri_fail(error, KVR_ERR_ARG, MODULE, "file and out must not be NULL");
    KVRI_TRY(take_in(file, file_bytes, &in, error));
    *out = in.info;
    return KVR_OK;
}

kvr_status kvr_model_open(void *mem, size_t mem_bytes, const void *file, size_t file_bytes, kvr_model **out_model,
                          kvr_error *error) {
    intake in;
    kvri_carve carve = {mem, 0, 0};
    kvr_tensor_desc *tensors;
    const uint8_t *rope_factors = NULL;
    if (mem == NULL || file == NULL || out_model == NULL || ((uintptr_t)mem & (KVRI_CARVE_ALIGN - 1)) != 0)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "mem must be aligned to 64 bytes and no pointer NULL");
    KVRI_TRY(take_in(file, file_bytes, &in, error));
    if (mem_bytes < in.info.state_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE, "the model's memory is too small: give kvr_model_info.state_bytes",
                           in.info.state_bytes, mem_bytes);
    kvr_model *model = place(&carve, tensor_count(&in.info), &in.vocab, &tensors);
    memset(model, 0, sizeof *model);
    model->n_weights = weight_count(&in.info);
    model->tensors = tensors;
    if (model->n_weights > 0) {
        memset(tensors, 0, tensor_count(&in.info) * sizeof *tensors);
        KVRI_TRY(read_tensors(&in, tensors, &rope_factors));
    }
    model->info = in.info;
    model->gguf = in.gguf;
    model->vocab = in.vocab;
    model->vocab.pre = model->info.vocab_pre;
    model->rope_factors = rope_factors;
    if (model->info.vocab_kind != KVR_VOCAB_NONE) KVRI_TRY(kvri_vocab_build(&model->vocab, error));
    *out_model = model;
    return KVR_OK;
}

const kvr_model_info *kvr_model_get_info(const kvr_model *model) { return &model->info; }
const kvri_vocab *kvri_model_vocab(const kvr_model *model) { return &model->vocab; }
uint32_t kvri_model_head(const kvr_model *model) {
    return model->info.tied_head ? (uint32_t)KVRI_EMBED : model->n_weights - 1;
}

void kvri_model_rope_freq(const kvr_model *model, float *freq) {
    const kvr_model_info *info = &model->info;
    for (uint32_t i = 0; i < info->rope_dims / 2; i++) {
        double f = pow((double)info->rope_base, -2.0 * (double)i / (double)info->rope_dims) / (double)info->rope_scale;
        if (model->rope_factors != NULL) f /= (double)kvri_lef32(model->rope_factors + (size_t)i * 4);
        freq[i] = (float)f;
    }
}
