/*
 * From GGUF keys to geometry, and the public functions of a model. Key names and their meaning: ggml/docs/gguf.md and
 * the constants of the gguf package.
 */
#include "kvr_model.h"

#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_pretok.h"

#include <math.h>
#include <string.h>

#define MODULE "model"

/* X(id, name): the keys that are read. "%" stands for the architecture's name. */
#define KEY_LIST(X) \
    X(KEY_ARCH, "general.architecture") \
    X(KEY_NAME, "general.name") \
    X(KEY_PARTS, "split.count") \
    X(KEY_CTX, "%.context_length") \
    X(KEY_DIM, "%.embedding_length") \
    X(KEY_LAYERS, "%.block_count") \
    X(KEY_FFN, "%.feed_forward_length") \
    X(KEY_HEADS, "%.attention.head_count") \
    X(KEY_KV_HEADS, "%.attention.head_count_kv") \
    X(KEY_KEY_LEN, "%.attention.key_length") \
    X(KEY_VALUE_LEN, "%.attention.value_length") \
    X(KEY_RMS_EPS, "%.attention.layer_norm_rms_epsilon") \
    X(KEY_LAYER_EPS, "%.attention.layer_norm_epsilon") \
    X(KEY_ATTN_SCALE, "%.attention.scale") \
    X(KEY_CAUSAL, "%.attention.causal") \
    X(KEY_ATTN_CAP, "%.attn_logit_softcapping") \
    X(KEY_LOGIT_CAP, "%.final_logit_softcapping") \
    X(KEY_ROPE_DIMS, "%.rope.dimension_count") \
    X(KEY_ROPE_BASE, "%.rope.freq_base") \
    X(KEY_ROPE_SCALE_OLD, "%.rope.scale_linear") \
    X(KEY_ROPE_SCALING, "%.rope.scaling.type") \
    X(KEY_ROPE_FACTOR, "%.rope.scaling.factor") \
    X(KEY_ROPE_ATTN_FACTOR, "%.rope.scaling.attn_factor") \
    X(KEY_ROPE_ORIGINAL_CTX, "%.rope.scaling.original_context_length") \
    X(KEY_YARN_BETA_FAST, "%.rope.scaling.yarn_beta_fast") \
    X(KEY_YARN_BETA_SLOW, "%.rope.scaling.yarn_beta_slow") \
    X(KEY_YARN_EXT_FACTOR, "%.rope.scaling.yarn_ext_factor") \
    X(KEY_YARN_ATTN_FACTOR, "%.rope.scaling.yarn_attn_factor") \
    X(KEY_ROPE_LOCAL_BASE, "%.rope.freq_base_swa") \
    X(KEY_OTHER_BASE, "%.rope.global.freq_base") \
    X(KEY_OTHER_LOCAL_BASE, "%.rope.local.freq_base") \
    X(KEY_EXPERTS, "%.expert_count") \
    X(KEY_SLIDING, "%.attention.sliding_window") \
    X(KEY_SLIDING_PATTERN, "%.attention.sliding_window_pattern") \
    X(KEY_TOK_MODEL, "tokenizer.ggml.model") \
    X(KEY_TOK_PRE, "tokenizer.ggml.pre") \
    X(KEY_TOKENS, "tokenizer.ggml.tokens") \
    X(KEY_SCORES, "tokenizer.ggml.scores") \
    X(KEY_TYPES, "tokenizer.ggml.token_type") \
    X(KEY_MERGES, "tokenizer.ggml.merges") \
    X(KEY_BOS, "tokenizer.ggml.bos_token_id") \
    X(KEY_EOS, "tokenizer.ggml.eos_token_id") \
    X(KEY_UNK, "tokenizer.ggml.unknown_token_id") \
    X(KEY_ADD_BOS, "tokenizer.ggml.add_bos_token") \
    X(KEY_ADD_EOS, "tokenizer.ggml.add_eos_token") \
    X(KEY_ADD_SPACE, "tokenizer.ggml.add_space_prefix") \
    X(KEY_CHAT_TEMPLATE, "tokenizer.chat_template")

typedef enum key_id {
#define KEY_ENUM(id, name) id,
    KEY_LIST(KEY_ENUM)
#undef KEY_ENUM
    KEY_COUNT
} key_id;

static const char *const key_names[KEY_COUNT] = {
#define KEY_NAME_OF(id, name) name,
    KEY_LIST(KEY_NAME_OF)
#undef KEY_NAME_OF
};

/* Everything read from one file while it is being understood. */
typedef struct intake {
    kvr_model_info info;
    kvri_gguf gguf;
    kvri_gguf_value keys[KEY_COUNT]; /* data == NULL: absent */
    kvri_vocab vocab;
    kvri_traits traits;
    kvri_weights_found weights;
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

/* Loaders differ in which of two values counts, so a file that means one thing here could mean another elsewhere. */
static kvr_status keep_key(intake *in, key_id id, kvri_str key, const kvri_gguf_value *value) {
    if (in->keys[id].data != NULL)
        return kvri_fail_s(in->error, KVR_ERR_CORRUPT, MODULE, "there twice: key", key.at, key.n);
    in->keys[id] = *value;
    return KVR_OK;
}

static kvr_status collect_keys(intake *in) {
    kvri_str key;
    kvri_gguf_value value;
    kvri_gguf_cursor c = kvri_gguf_first_kv(&in->gguf);
    while (kvri_gguf_next_kv(&in->gguf, &c, &key, &value) == KVR_OK)
        if (kvri_str_eq(key, key_names[KEY_ARCH])) KVRI_TRY(keep_key(in, KEY_ARCH, key, &value));
    if (!is_string(&in->keys[KEY_ARCH]))
        return kvri_fail_s(in->error, KVR_ERR_KEY, MODULE, "the file does not say what model it is: needs the text key",
                           key_names[KEY_ARCH], strlen(key_names[KEY_ARCH]));
    const kvri_str arch = kvri_gguf_string(in->keys[KEY_ARCH].data);
    c = kvri_gguf_first_kv(&in->gguf);
    while (kvri_gguf_next_kv(&in->gguf, &c, &key, &value) == KVR_OK)
        for (int k = KEY_NAME; k < KEY_COUNT; k++)
            if (key_matches(key, key_names[k], arch)) KVRI_TRY(keep_key(in, (key_id)k, key, &value));
    kvri_copy_printable(in->info.architecture, sizeof in->info.architecture, arch.at, arch.n);
    if (is_string(&in->keys[KEY_NAME])) {
        const kvri_str name = kvri_gguf_string(in->keys[KEY_NAME].data);
        kvri_copy_printable(in->info.name, sizeof in->info.name, name.at, name.n);
    }
    return KVR_OK;
}

/* Only then may a failure add its numbers: an earlier record is left as it is. */
static int is_first_failure(const intake *in) { return in->error != NULL && in->error->status == KVR_OK; }

/* Names the key as it is in the file. */
static kvr_status fail_key(intake *in, kvr_status status, key_id id, const char *text) {
    char name[96];
    const char *arch = key_names[id][0] == '%' ? in->info.architecture : "";
    const size_t n_arch = strlen(arch), n = strlen(key_names[id]) - (n_arch > 0);
    memcpy(name, arch, n_arch);
    memcpy(name + n_arch, key_names[id] + (n_arch > 0), n);
    return kvri_fail_s(in->error, status, MODULE, text, name, n_arch + n);
}

static kvr_status bad_key(intake *in, key_id id, const char *text) { return fail_key(in, KVR_ERR_KEY, id, text); }

/* A whole number from min to max in any integer type; *out keeps its default when it is absent and not required. */
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

/* Keys that would change what is computed, and the one value with which kvr computes the same; absent means it. */
static const struct {
    key_id id;
    float value;
    const char *otherwise;
} fixed[] = {
    {KEY_CAUSAL, 1, "a model whose tokens see later ones, too, writes no text: key"},
    {KEY_YARN_ATTN_FACTOR, 1, "only the value 1 is supported: key"},
    {KEY_OTHER_BASE, 0, "a name of another program for '.rope.freq_base': convert the model again; key"},
    {KEY_OTHER_LOCAL_BASE, 0, "a name of another program for '.rope.freq_base_swa': convert the model again; key"},
};

static kvr_status check_fixed(intake *in) {
    uint32_t parts = 1;
    KVRI_TRY(get_u32(in, KEY_PARTS, 0, 0, 65535, &parts));
    if (parts > 1)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE,
                           "one part of a model in several files: join them first, with llama-gguf-split --merge", 1,
                           parts);
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const kvri_gguf_value *v = &in->keys[fixed[i].id];
        uint32_t whole = 0;
        float value = 0;
        if (v->data == NULL) continue;
        if (v->type == KVRI_GGUF_F32) KVRI_TRY(get_f32(in, fixed[i].id, 0, -1e12f, 1e12f, &value));
        else KVRI_TRY(get_u32(in, fixed[i].id, 0, 0, UINT32_MAX, &whole));
        if (value + (float)whole != fixed[i].value)
            return fail_key(in, KVR_ERR_UNSUPPORTED, fixed[i].id, fixed[i].otherwise);
    }
    return KVR_OK;
}

/* --- vocabulary ---------------------------------------------------------------------------------------------- */

static kvr_status check_token_array(intake *in, key_id id, uint32_t type, uint32_t other_type) {
    const kvri_gguf_value *v = &in->keys[id];
    if (v->data == NULL) return KVR_OK;
    if (!v->is_array || (v->type != type && v->type != other_type) || v->count != in->info.n_vocab)
        return fail_key(in, KVR_ERR_VOCAB, id, "not one entry per token: key");
    return KVR_OK;
}

/* By custom <unk>, <s>, </s> are the first of an SPM vocabulary. 11 is Falcon's <|endoftext|>, a comma in others. */
static int is_customary(const intake *in, int32_t id) {
    const kvri_gguf_value *tokens = &in->keys[KEY_TOKENS];
    kvri_str text = {NULL, 0};
    if (id < 0 || (uint32_t)id >= in->info.n_vocab) return 0;
    if (in->info.vocab_kind == KVR_VOCAB_SPM) return 1;
    uint64_t at = 0;
    for (int32_t i = 0; i <= id; i++)
        if (!kvri_gguf_next_string(tokens, &at, &text)) return 0;
    return kvri_str_eq(text, "<|endoftext|>");
}

static kvr_status get_token_id(intake *in, key_id id, int32_t fallback, int32_t *out) {
    uint32_t value = UINT32_MAX;
    *out = is_customary(in, fallback) ? fallback : -1;
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
    /* The families that take whole words as tokens are those that start a text with BOS unless the file differs. */
    const kvri_pretok *pre = bpe ? kvri_pretok_find(info->vocab_pre) : NULL;
    info->unknown_pre = bpe && pre == NULL;
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
    kvri_traits *t = &in->traits;
    float factor = 1.0f;
    info->rope_base = 10000.0f; /* the default of the format */
    info->rope_scale = 1.0f;
    info->rope_dims = info->head_dim;
    KVRI_TRY(get_f32(in, KEY_ROPE_BASE, 0, 1.0f, 1e12f, &info->rope_base));
    KVRI_TRY(get_u32(in, KEY_ROPE_DIMS, 0, 2, info->head_dim, &info->rope_dims));
    if (info->rope_dims % 2 != 0) return bad_key(in, KEY_ROPE_DIMS, "not even: key");
    KVRI_TRY(get_f32(in, KEY_ROPE_SCALE_OLD, 0, 0.0f, 1e6f, &factor));
    if (in->keys[KEY_ROPE_SCALING].data != NULL) {
        if (!is_string(&in->keys[KEY_ROPE_SCALING])) return bad_key(in, KEY_ROPE_SCALING, "not a text: key");
        const kvri_str kind = kvri_gguf_string(in->keys[KEY_ROPE_SCALING].data);
        t->rope_is_yarn = (uint32_t)kvri_str_eq(kind, "yarn");
        if (t->rope_is_yarn || kvri_str_eq(kind, "linear"))
            KVRI_TRY(get_f32(in, KEY_ROPE_FACTOR, 0, 0.0f, 1e6f, &factor));
        else if (!kvri_str_eq(kind, "none") && !kvri_str_eq(kind, "longrope")) /* the latter is all in tensors */
            return kvri_fail_s(
                in->error, KVR_ERR_UNSUPPORTED, MODULE,
                "this way of stretching positions is not supported (none, linear, yarn and tensors of factors are):",
                kind.at, kind.n);
    } else {
        KVRI_TRY(get_f32(in, KEY_ROPE_FACTOR, 0, 0.0f, 1e6f, &factor));
    }
    if (factor > 0.0f && factor < 1e-3f) return bad_key(in, KEY_ROPE_FACTOR, "out of the supported range: key");
    if (factor > 0.0f) info->rope_scale = factor; /* writers say "none" with 0 */
    t->rope_magnitude = 1.0f;
    t->rope_original_ctx = info->train_ctx_tokens;
    t->yarn_beta_fast = 32.0f;
    t->yarn_beta_slow = 1.0f;
    t->local_rope_base = t->arch->local_rope_base;
    KVRI_TRY(get_f32(in, KEY_ROPE_ATTN_FACTOR, 0, 1e-3f, 1e3f, &t->rope_magnitude));
    KVRI_TRY(get_u32(in, KEY_ROPE_ORIGINAL_CTX, 0, 1, 1u << 30, &t->rope_original_ctx));
    KVRI_TRY(get_f32(in, KEY_YARN_BETA_FAST, 0, 1e-3f, 1e6f, &t->yarn_beta_fast));
    KVRI_TRY(get_f32(in, KEY_YARN_BETA_SLOW, 0, 1e-3f, 1e6f, &t->yarn_beta_slow));
    if (t->yarn_beta_fast <= t->yarn_beta_slow)
        return bad_key(in, KEY_YARN_BETA_SLOW, "not below yarn_beta_fast (32 where it is not told): key");
    const float by_type = t->rope_is_yarn ? 1.0f : 0.0f;
    float blend = by_type; /* YaRN or not, by another name; -1 leaves it to the type */
    KVRI_TRY(get_f32(in, KEY_YARN_EXT_FACTOR, 0, -1.0f, 1.0f, &blend));
    if (blend != -1.0f && blend != by_type)
        return fail_key(in, KVR_ERR_UNSUPPORTED, KEY_YARN_EXT_FACTOR,
                        "supported are -1, and 1 with the type yarn, 0 without: key");
    KVRI_TRY(get_f32(in, KEY_ROPE_LOCAL_BASE, 0, 1.0f, 1e12f, &t->local_rope_base));
    return KVR_OK;
}

/* Factors for short and long contexts come together, and with a scaling that is told to consist of them. */
static kvr_status check_rope_factors(intake *in) {
    static const char name[] = "rope_factors_long.weight";
    const kvri_rope_factors *f = &in->weights.rope;
    const kvri_gguf_value *kind = &in->keys[KEY_ROPE_SCALING];
    const int told = kind->data != NULL && kvri_str_eq(kvri_gguf_string(kind->data), "longrope");
    if ((f->short_ctx == NULL) != (f->long_ctx == NULL) || (told && f->long_ctx == NULL))
        return kvri_fail_s(in->error, KVR_ERR_TENSOR, MODULE, "a tensor of rope factors is missing: this or its twin",
                           name, sizeof name - 1);
    return KVR_OK;
}

static kvr_status read_attention(intake *in) {
    kvr_model_info *info = &in->info;
    kvri_traits *t = &in->traits;
    const int by_dim = info->n_layers == t->arch->dim_scaled_layers;
    t->attn_scale = 1.0f / sqrtf(by_dim ? (float)info->model_dim / (float)info->n_heads : (float)info->head_dim);
    t->embed_scale = t->arch->scaled_embed ? sqrtf((float)info->model_dim) : 1.0f;
    t->attn_soft_cap = t->arch->attn_soft_cap;
    t->logit_soft_cap = t->arch->logit_soft_cap;
    t->window = t->arch->window;
    t->windows_in = t->arch->windows_in;
    KVRI_TRY(get_f32(in, KEY_ATTN_SCALE, 0, 1e-6f, 1e3f, &t->attn_scale));
    KVRI_TRY(get_f32(in, KEY_ATTN_CAP, 0, 0.0f, 1e6f, &t->attn_soft_cap));
    KVRI_TRY(get_f32(in, KEY_LOGIT_CAP, 0, 0.0f, 1e6f, &t->logit_soft_cap));
    KVRI_TRY(get_u32(in, KEY_SLIDING, 0, 0, UINT32_MAX, &t->window));
    KVRI_TRY(get_u32(in, KEY_SLIDING_PATTERN, 0, 0, 1024, &t->windows_in));
    if (t->windows_in == 1) t->window = 0; /* of every one layer the last one sees all */
    info->window_tokens = t->window;
    return KVR_OK;
}

static kvr_status read_geometry(intake *in) {
    kvr_model_info *info = &in->info;
    uint32_t value_len, experts = 0;
    in->traits.arch = kvri_arch_find(kvri_gguf_string(in->keys[KEY_ARCH].data));
    if (in->traits.arch == NULL)
        return kvri_fail_s(in->error, KVR_ERR_ARCH, MODULE,
                           "supported are llama, qwen2, qwen3, falcon, gemma, gemma2, gemma3 and phi3; this model is",
                           info->architecture, strlen(info->architecture));
    KVRI_TRY(get_u32(in, KEY_LAYERS, 1, 1, 1024, &info->n_layers));
    KVRI_TRY(get_u32(in, KEY_DIM, 1, 2, 1u << 17, &info->model_dim));
    KVRI_TRY(get_u32(in, KEY_FFN, 1, 1, 1u << 20, &info->ffn_dim));
    KVRI_TRY(get_u32(in, KEY_HEADS, 1, 1, 1024, &info->n_heads));
    info->n_kv_heads = info->n_heads;
    KVRI_TRY(get_u32(in, KEY_KV_HEADS, 0, 1, info->n_heads, &info->n_kv_heads));
    KVRI_TRY(get_u32(in, KEY_CTX, 1, 1, 1u << 30, &info->train_ctx_tokens));
    const key_id eps = in->traits.arch->norm == KVR_NORM_RMS ? KEY_RMS_EPS : KEY_LAYER_EPS;
    KVRI_TRY(get_f32(in, eps, 1, 0.0f, 1.0f, &info->norm_eps));
    KVRI_TRY(get_u32(in, KEY_EXPERTS, 0, 0, UINT32_MAX, &experts));
    if (experts > 1)
        return kvri_fail_n(in->error, KVR_ERR_UNSUPPORTED, MODULE, "mixture-of-experts models are not supported", 1,
                           experts);
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
    KVRI_TRY(read_attention(in));
    return read_rope(in);
}

/* --- public -------------------------------------------------------------------------------------------------- */

static kvr_model *place(kvri_carve *carve, uint32_t n_tensors, kvri_vocab *vocab, kvr_tensor_desc **tensors) {
    kvr_model *model = kvri_carve_take(carve, 1, sizeof *model);
    *tensors = kvri_carve_take(carve, n_tensors, sizeof **tensors);
    kvri_vocab_place(vocab, carve);
    return model;
}

static uint32_t tensor_count(const intake *in) {
    return in->info.n_tensors == 0 ? 0 : in->weights.n + KVRI_SESSION_TENSORS(in->info.n_layers);
}

static kvr_status take_in(const void *file, size_t file_bytes, intake *in, kvr_error *error) {
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
    KVRI_TRY(check_fixed(in));
    KVRI_TRY(read_vocab(in));
    if (in->info.n_tensors > 0) {
        KVRI_TRY(read_geometry(in));
        KVRI_TRY(kvri_weights_read(&in->gguf, in->traits.arch, &in->info, NULL, &in->weights, error));
        KVRI_TRY(check_rope_factors(in));
    }
    place(&carve, tensor_count(in), &in->vocab, &tensors);
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
    if (mem == NULL || file == NULL || out_model == NULL || ((uintptr_t)mem & (KVRI_CARVE_ALIGN - 1)) != 0)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "mem must be aligned to 64 bytes and no pointer NULL");
    KVRI_TRY(take_in(file, file_bytes, &in, error));
    if (mem_bytes < in.info.state_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE,
                           "the model's memory is too small: give kvr_model_info.state_bytes", in.info.state_bytes,
                           mem_bytes);
    kvr_model *model = place(&carve, tensor_count(&in), &in.vocab, &tensors);
    memset(model, 0, sizeof *model);
    model->n_weights = in.weights.n;
    model->tensors = tensors;
    if (model->n_weights > 0) {
        memset(tensors, 0, tensor_count(&in) * sizeof *tensors);
        KVRI_TRY(kvri_weights_read(&in.gguf, in.traits.arch, &in.info, tensors, &in.weights, error));
    }
    model->info = in.info;
    model->gguf = in.gguf;
    model->vocab = in.vocab;
    model->vocab.pre = model->info.vocab_pre;
    model->weights = in.weights.map;
    model->rope_factors = in.weights.rope;
    model->traits = in.traits;
    if (is_string(&in.keys[KEY_CHAT_TEMPLATE]))
        model->chat_template = kvri_gguf_string(in.keys[KEY_CHAT_TEMPLATE].data);
    if (model->info.vocab_kind != KVR_VOCAB_NONE) KVRI_TRY(kvri_vocab_build(&model->vocab, error));
    *out_model = model;
    return KVR_OK;
}

const kvr_model_info *kvr_model_get_info(const kvr_model *model) { return &model->info; }
const kvri_vocab *kvri_model_vocab(const kvr_model *model) { return &model->vocab; }
