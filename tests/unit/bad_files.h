/*
 * bad_files.h - a catalogue of hostile model files, one per known kind of hole in loaders of such files, each with what
 * kvr says to it. All are one small sound model with one thing wrong.
 */
#ifndef BAD_FILES_H
#define BAD_FILES_H

#include "gguf_maker.h"

typedef struct bad_file {
    const char *name;
    kvr_status status;
    const char
        *sentence; /* what kvr_error_format gives, up to where it ends here; "" with KVR_OK: read, and harmless */
    void (*more)(gguf_maker *m); /* keys and tensors of its own */
    struct {
        const char *behind; /* NULL: nothing is patched; else the bytes at .. behind the first such text in the file */
        uint32_t at, n;
        uint64_t value;
    } patch;
    size_t keep; /* bytes of the file that are left; 0 = all */
} bad_file;

/* Where things lie behind a key ... */
enum { KEY_TYPE = 0, KEY_VALUE = 4, KEY_ELEMENT = 4, KEY_COUNT = 8, KEY_FIRST = 16 };
/* ... behind the name of a matrix, of a vector, and behind the magic. */
enum { MATRIX_DIMS = 0, MATRIX_COLS = 4, MATRIX_ROWS = 12, MATRIX_TYPE = 20, MATRIX_OFFSET = 24 };
enum { VECTOR_TYPE = 12, VECTOR_OFFSET = 16 };
enum { FILE_VERSION = 0, FILE_TENSORS = 4, FILE_KEYS = 12 };

#define BAD_NAN 0x7FC00000u
#define BAD_INFINITY 0x7F800000u

/* Arrays in arrays: each level is a type and a count; a reader that follows them needs a stack as deep. */
static inline void bad_nested_arrays(gguf_maker *m) {
    gguf_key(m, "test.nested", KVRI_GGUF_ARRAY);
    for (uint32_t level = 0; level < 10000; level++) {
        gguf_put_le(&m->kv, KVRI_GGUF_ARRAY, 4);
        gguf_put_le(&m->kv, 1, 8);
    }
}
static inline void bad_key_twice(gguf_maker *m) {
    gguf_key_u32(m, "llama.context_length", 16);
    gguf_key_u32(m, "llama.context_length", 1u << 20);
}
static inline void bad_alignment_twice(gguf_maker *m) {
    gguf_key_u32(m, "general.alignment", 32);
    gguf_key_u32(m, "general.alignment", 8);
}
static inline void bad_alignment_of_0(gguf_maker *m) {
    gguf_key_u32(m, "general.alignment", 0);
}
static inline void bad_alignment_of_24(gguf_maker *m) {
    gguf_key_u32(m, "general.alignment", 24);
}
/* The start of the data is rounded up beyond the end. */
static inline void bad_padding(gguf_maker *m) {
    gguf_key_u32(m, "general.alignment", 1u << 20);
}
static inline void bad_tensor_twice(gguf_maker *m) {
    static const float norm[4] = {1, 1, 1, 1};
    const uint64_t cols = 4;
    gguf_tensor(m, "output_norm.weight", KVR_DTYPE_F32, 1, &cols, norm, sizeof norm);
}
static inline void bad_tensor_unknown(gguf_maker *m) {
    static const float values[4] = {1, 1, 1, 1};
    const uint64_t cols = 4;
    gguf_tensor(m, "blk.0.attn_sinks.weight", KVR_DTYPE_F32, 1, &cols, values, sizeof values);
}
static inline void bad_layer_beyond(gguf_maker *m) {
    static const float values[4] = {1, 1, 1, 1};
    const uint64_t cols = 4;
    gguf_tensor(m, "blk.18446744073709551616.attn_norm.weight", KVR_DTYPE_F32, 1, &cols, values, sizeof values);
}
static inline void bad_rope_factors(gguf_maker *m, float second) {
    gguf_bytes data = {NULL, 0, 0};
    const uint64_t pairs = 1; /* head_dim 2 */
    gguf_put_f32(&data, second);
    gguf_tensor(m, "rope_freqs.weight", KVR_DTYPE_F32, 1, &pairs, data.at, data.n);
    free(data.at);
}
static inline void bad_rope_factor_zero(gguf_maker *m) {
    bad_rope_factors(m, 0.0f);
}
static inline void bad_rope_factor_nan(gguf_maker *m) {
    bad_rope_factors(m, (float)NAN);
}
static inline void bad_rope_base(gguf_maker *m) {
    gguf_key(m, "llama.rope.freq_base", KVRI_GGUF_F32);
    gguf_put_le(&m->kv, BAD_INFINITY, 4);
}
static inline void bad_rope_scale(gguf_maker *m) {
    gguf_key_text(m, "llama.rope.scaling.type", "linear");
    gguf_key_f32(m, "llama.rope.scaling.factor", 1e-30f);
}
static inline void bad_rope_dims(gguf_maker *m) {
    gguf_key_u32(m, "llama.rope.dimension_count", 4);
}
static inline void bad_part(gguf_maker *m) {
    gguf_key(m, "split.count", KVRI_GGUF_U16);
    gguf_put_le(&m->kv, 2, 2);
}
static inline void bad_causal(gguf_maker *m) {
    gguf_key_bool(m, "llama.attention.causal", 0);
}
static inline void bad_yarn_attn_factor(gguf_maker *m) {
    gguf_key_text(m, "llama.rope.scaling.type", "yarn");
    gguf_key_f32(m, "llama.rope.scaling.yarn_attn_factor", 3);
}
static inline void bad_yarn_ext_factor(gguf_maker *m) {
    gguf_key_f32(m, "llama.rope.scaling.yarn_ext_factor", 1);
}
static inline void bad_rope_base_of_others(gguf_maker *m) {
    gguf_key_f32(m, "llama.rope.global.freq_base", 1e6f);
}
static inline void bad_attention_scale(gguf_maker *m) {
    gguf_key(m, "llama.attention.scale", KVRI_GGUF_F32);
    gguf_put_le(&m->kv, BAD_NAN, 4);
}
static inline void bad_token_types(gguf_maker *m) {
    gguf_bytes types = {NULL, 0, 0};
    for (uint32_t i = 0; i < 3; i++) gguf_put_le(&types, 1, 4);
    gguf_key_array(m, "tokenizer.ggml.token_type", KVRI_GGUF_I32, 3, &types);
    free(types.at);
}
static inline void bad_merges(gguf_maker *m) {
    gguf_bytes list = {NULL, 0, 0};
    gguf_key_text(m, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(&list, "a b", 3);
    gguf_put_string(&list, "ab", 2);
    gguf_key_array(m, "tokenizer.ggml.merges", KVRI_GGUF_STRING, 2, &list);
    free(list.at);
}
/* Read without harm: halves that are no tokens never meet. */
static inline void bad_merges_of_unknown(gguf_maker *m) {
    gguf_bytes list = {NULL, 0, 0};
    gguf_key_text(m, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(&list, "no token", 8);
    gguf_key_array(m, "tokenizer.ggml.merges", KVRI_GGUF_STRING, 1, &list);
    free(list.at);
}
static inline void bad_template_without_end(gguf_maker *m) {
    gguf_key_text(m, "tokenizer.chat_template", "{{ {% [INST] <<SYS>> {{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{");
}

#define BAD_PAST_END "gguf: the header runs past the end of the file: copy or download it again"
#define BAD_TENSOR_PAST_END                                                                                            \
    "gguf: runs past the end of the file (copy or download it again): tensor 'blk.0.attn_q.weight'"
#define BAD_KEY_RANGE(key) "model: out of the supported range: key '" key "'"
#define BAD_SHAPE(tensor) "model: not the shape that the file's own keys say: tensor '" tensor "'"

static const bad_file bad_files[] = {
    /* the frame of the file */
    {.name = "magic",
     .status = KVR_ERR_MAGIC,
     .sentence = "gguf: give a .gguf model file; this one starts with 'FUGG'",
     .patch = {"", 0, 4, 0x47475546}},
    {.name = "version-of-the-future",
     .status = KVR_ERR_VERSION,
     .sentence = "gguf: only GGUF versions 2 and 3 are read: convert the file again with current tools",
     .patch = {"GGUF", FILE_VERSION, 4, 4}},
    {.name = "big-endian",
     .status = KVR_ERR_VERSION,
     .sentence = "gguf: a big-endian file: convert the model for little-endian processors",
     .patch = {"GGUF", FILE_VERSION, 4, 0x03000000}},
    {.name = "cut-in-the-header", .status = KVR_ERR_TRUNCATED, .sentence = BAD_PAST_END, .keep = 1000},
    {.name = "more-keys-than-bytes",
     .status = KVR_ERR_TRUNCATED,
     .sentence = "gguf: more keys or tensors than the file has bytes for: copy or download it again",
     .patch = {"GGUF", FILE_KEYS, 8, UINT64_MAX}},
    {.name = "more-tensors-than-bytes",
     .status = KVR_ERR_TRUNCATED,
     .sentence = "gguf: more keys or tensors than the file has bytes for: copy or download it again",
     .patch = {"GGUF", FILE_TENSORS, 8, UINT64_MAX}},
    /* strings and arrays: lengths and counts that overflow or pass the end */
    {.name = "string-longer-than-the-file",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_PAST_END,
     .patch = {"general.name", KEY_VALUE, 8, 1u << 20}},
    {.name = "string-length-that-overflows",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_PAST_END,
     .patch = {"general.name", KEY_VALUE, 8, UINT64_MAX}},
    {.name = "token-length-that-overflows",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_PAST_END,
     .patch = {"tokenizer.ggml.tokens", KEY_FIRST, 8, UINT64_MAX - 7}},
    {.name = "array-count-that-overflows",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_PAST_END,
     .patch = {"tokenizer.ggml.scores", KEY_COUNT, 8, (UINT64_MAX >> 2) + 2}},
    {.name = "array-longer-than-the-file",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_PAST_END,
     .patch = {"tokenizer.ggml.tokens", KEY_COUNT, 8, 1u << 22}},
    {.name = "nested-arrays",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: an array of arrays, which no model needs, in key 'test.nested'",
     .more = bad_nested_arrays},
    {.name = "value-type-unknown",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: an unknown value type in key 'llama.block_count'",
     .patch = {"llama.block_count", KEY_TYPE, 4, 13}},
    {.name = "key-twice",
     .status = KVR_ERR_CORRUPT,
     .sentence = "model: there twice: key 'llama.context_length'",
     .more = bad_key_twice},
    {.name = "alignment-twice",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: there twice: key 'general.alignment'",
     .more = bad_alignment_twice},
    /* where tensors lie */
    {.name = "alignment-of-0",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: general.alignment is not a power of two from 8 to 2^20",
     .more = bad_alignment_of_0},
    {.name = "alignment-of-24",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: general.alignment is not a power of two from 8 to 2^20",
     .more = bad_alignment_of_24},
    {.name = "padding-past-the-end", .status = KVR_ERR_TRUNCATED, .sentence = BAD_PAST_END, .more = bad_padding},
    {.name = "no-dimensions",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: not 1 to 4 dimensions in tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_DIMS, 4, 0}},
    {.name = "five-dimensions",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: not 1 to 4 dimensions in tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_DIMS, 4, 5}},
    {.name = "dimension-of-0",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: a dimension out of range in tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_COLS, 8, 0}},
    {.name = "dimension-beyond-any-memory",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: a dimension out of range in tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_COLS, 8, 1ull << 62}},
    /* 2^40 rows of 4 times 4 bytes; 2^32 of them would be 0 to 32 bits */
    {.name = "product-of-dimensions-past-the-end",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_TENSOR_PAST_END,
     .patch = {"blk.0.attn_q.weight", MATRIX_ROWS, 8, 1ull << 40}},
    {.name = "product-of-dimensions-of-32-bits",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_TENSOR_PAST_END,
     .patch = {"blk.0.attn_q.weight", MATRIX_ROWS, 8, 1ull << 32}},
    {.name = "offset-past-the-end",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_TENSOR_PAST_END,
     .patch = {"blk.0.attn_q.weight", MATRIX_OFFSET, 8, 1u << 20}},
    {.name = "offset-that-overflows",
     .status = KVR_ERR_TRUNCATED,
     .sentence = BAD_TENSOR_PAST_END,
     .patch = {"blk.0.attn_q.weight", MATRIX_OFFSET, 8, UINT64_MAX - 31}},
    {.name = "offset-unaligned",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: not at a multiple of the file's alignment: tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_OFFSET, 8, 260}},
    {.name = "tensors-that-overlap",
     .status = KVR_ERR_CORRUPT,
     .sentence = "gguf: overlaps the tensor before it: tensor 'blk.0.attn_q.weight'",
     .patch = {"blk.0.attn_q.weight", MATRIX_OFFSET, 8, 0}},
    {.name = "tensor-twice",
     .status = KVR_ERR_CORRUPT,
     .sentence = "model: tensors of the model are there twice: 'output_norm.weight'",
     .more = bad_tensor_twice},
    {.name = "tensor-of-no-model",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: a tensor that models of this architecture do not have: 'blk.0.attn_sinks.weight'",
     .more = bad_tensor_unknown},
    {.name = "layer-number-that-overflows",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: a tensor that models of this architecture do not have: 'blk.18446744073709551616.attn_norm",
     .more = bad_layer_beyond},
    {.name = "tensor-type-withdrawn",
     .status = KVR_ERR_TYPE,
     .sentence = "model: a tensor type that is not supported",
     .patch = {"blk.0.attn_q.weight", MATRIX_TYPE, 4, 4}},
    {.name = "tensor-type-of-the-future",
     .status = KVR_ERR_TYPE,
     .sentence = "model: a tensor type that is not supported",
     .patch = {"blk.0.attn_q.weight", MATRIX_TYPE, 4, UINT32_MAX}},
    {.name = "cut-in-the-last-tensor",
     .status = KVR_ERR_TRUNCATED,
     .sentence = "gguf: runs past the end of the file (copy or download it again): tensor 'output.weight'",
     .keep = SIZE_MAX},
    /* hyper-parameters against shapes and ranges */
    {.name = "architecture-unknown",
     .status = KVR_ERR_ARCH,
     .sentence =
         "model: supported are llama, qwen2, qwen3, falcon, gemma, gemma2, gemma3 and phi3; this model is 'xlama'",
     .patch = {"general.architecture", KEY_VALUE + 8, 1, 'x'}},
    {.name = "dimension-unlike-the-tensors",
     .status = KVR_ERR_TENSOR,
     .sentence = BAD_SHAPE("token_embd.weight"),
     .patch = {"llama.embedding_length", KEY_VALUE, 4, 8}},
    {.name = "heads-unlike-the-tensors",
     .status = KVR_ERR_TENSOR,
     .sentence = BAD_SHAPE("blk.0.attn_k.weight"),
     .patch = {"llama.attention.head_count_kv", KEY_VALUE, 4, 2}},
    {.name = "feed-forward-unlike-the-tensors",
     .status = KVR_ERR_TENSOR,
     .sentence = BAD_SHAPE("blk.0.ffn_gate.weight"),
     .patch = {"llama.feed_forward_length", KEY_VALUE, 4, 1u << 20}},
    {.name = "more-layers-than-tensors",
     .status = KVR_ERR_TENSOR,
     .sentence =
         "model: tensors of the model are missing, the file is incomplete: 'attn_norm.weight' (wanted 2, has 1)",
     .patch = {"llama.block_count", KEY_VALUE, 4, 2}},
    {.name = "layers-without-end",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.block_count"),
     .patch = {"llama.block_count", KEY_VALUE, 4, UINT32_MAX}},
    {.name = "no-layers",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.block_count"),
     .patch = {"llama.block_count", KEY_VALUE, 4, 0}},
    {.name = "no-heads",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.attention.head_count"),
     .patch = {"llama.attention.head_count", KEY_VALUE, 4, 0}},
    {.name = "heads-that-do-not-divide",
     .status = KVR_ERR_CORRUPT,
     .sentence = "model: the model dimension is not a multiple of the heads",
     .patch = {"llama.attention.head_count", KEY_VALUE, 4, 3}},
    {.name = "context-without-end",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.context_length"),
     .patch = {"llama.context_length", KEY_VALUE, 4, UINT32_MAX}},
    {.name = "epsilon-nan",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.attention.layer_norm_rms_epsilon"),
     .patch = {"llama.attention.layer_norm_rms_epsilon", KEY_VALUE, 4, BAD_NAN}},
    {.name = "attention-scale-nan",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.attention.scale"),
     .more = bad_attention_scale},
    {.name = "one-part-of-several",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: one part of a model in several files: join them first, with llama-gguf-split --merge "
                 "(wanted 1, has 2)",
     .more = bad_part},
    {.name = "not-causal",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: a model whose tokens see later ones, too, writes no text: key 'llama.attention.causal'",
     .more = bad_causal},
    {.name = "yarn-attn-factor",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: only the value 1 is supported: key 'llama.rope.scaling.yarn_attn_factor'",
     .more = bad_yarn_attn_factor},
    {.name = "yarn-ext-factor-without-yarn",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: supported are -1, and 1 with the type yarn, 0 without: key "
                 "'llama.rope.scaling.yarn_ext_factor'",
     .more = bad_yarn_ext_factor},
    {.name = "rope-base-by-another-name",
     .status = KVR_ERR_UNSUPPORTED,
     .sentence = "model: a name of another program for '.rope.freq_base': convert the model again; key "
                 "'llama.rope.global.freq_base'",
     .more = bad_rope_base_of_others},
    {.name = "rope-base-infinite",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.rope.freq_base"),
     .more = bad_rope_base},
    {.name = "rope-scale-near-0",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.rope.scaling.factor"),
     .more = bad_rope_scale},
    {.name = "rope-wider-than-a-head",
     .status = KVR_ERR_KEY,
     .sentence = BAD_KEY_RANGE("llama.rope.dimension_count"),
     .more = bad_rope_dims},
    {.name = "rope-factor-0",
     .status = KVR_ERR_CORRUPT,
     .sentence = "model: rope factors must be from 0.001 to 1000000: tensor 'rope_freqs.weight'",
     .more = bad_rope_factor_zero},
    {.name = "rope-factor-nan",
     .status = KVR_ERR_CORRUPT,
     .sentence = "model: rope factors must be from 0.001 to 1000000: tensor 'rope_freqs.weight'",
     .more = bad_rope_factor_nan},
    /* the vocabulary */
    {.name = "token-id-beyond-the-vocabulary",
     .status = KVR_ERR_VOCAB,
     .sentence = "model: a special token's id is outside the vocabulary (wanted 12, has 12)",
     .patch = {"tokenizer.ggml.bos_token_id", KEY_VALUE, 4, 12}},
    {.name = "fewer-types-than-tokens",
     .status = KVR_ERR_VOCAB,
     .sentence = "model: not one entry per token: key 'tokenizer.ggml.token_type'",
     .more = bad_token_types},
    {.name = "token-type-of-none",
     .status = KVR_ERR_VOCAB,
     .sentence = "vocab: tokenizer.ggml.token_type has a type that is none (wanted 6, has 77)",
     .patch = {"tokenizer.ggml.token_type", KEY_FIRST, 4, 77}},
    {.name = "merge-of-one-text",
     .status = KVR_ERR_VOCAB,
     .sentence = "vocab: a merge is not two texts with a space between: 'ab'",
     .more = bad_merges},
    {.name = "merge-of-no-tokens", .status = KVR_OK, .sentence = "", .more = bad_merges_of_unknown},
    {.name = "token-text-not-utf8",
     .status = KVR_OK,
     .sentence = "",
     .patch = {"tokenizer.ggml.tokens", KEY_FIRST + 8, 5, 0xFFC0E080F5}},
    {.name = "token-text-with-zeros",
     .status = KVR_OK,
     .sentence = "",
     .patch = {"tokenizer.ggml.tokens", KEY_FIRST + 8, 5, 0}},
    {.name = "score-nan",
     .status = KVR_OK,
     .sentence = "",
     .patch = {"tokenizer.ggml.scores", KEY_FIRST + 20, 4, BAD_NAN}},
    {.name = "template-that-is-no-program", .status = KVR_OK, .sentence = "", .more = bad_template_without_end},
    {.name = "weights-nan", .status = KVR_OK, .sentence = "", .keep = 0},
};
#define N_BAD_FILES (sizeof bad_files / sizeof bad_files[0])

/* The file in malloc memory of exactly its size. */
static inline uint8_t *bad_file_make(const bad_file *bad, size_t *out_bytes) {
    gguf_shape s = gguf_shape_tiny();
    s.more = bad->more;
    uint8_t *file = gguf_make_llama(&s, out_bytes);
    if (bad->patch.behind != NULL) {
        const size_t n = strlen(bad->patch.behind);
        size_t at = 0;
        while (at + n < *out_bytes && memcmp(file + at, bad->patch.behind, n) != 0) at++;
        if (at + n + bad->patch.at + bad->patch.n > *out_bytes) abort();
        for (uint32_t i = 0; i < bad->patch.n; i++)
            file[at + n + bad->patch.at + i] = (uint8_t)(bad->patch.value >> (8 * i));
    }
    if (strcmp(bad->name, "weights-nan") == 0) memset(file + *out_bytes - 64, 0xFF, 64);
    if (bad->keep != 0) *out_bytes = bad->keep < *out_bytes ? bad->keep : *out_bytes - 1;
    uint8_t *exact = (uint8_t *)realloc(file, *out_bytes);
    if (exact == NULL) abort();
    return exact;
}

#endif
