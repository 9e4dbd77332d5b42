/*
 * kvr_model.h - a GGUF file as a model: geometry, tensors, vocabulary. Reads the mapped file in
 * place; takes only the state memory that the caller gives (tables, no weights).
 */
#ifndef KVR_MODEL_H
#define KVR_MODEL_H

#include "kvr/kvr_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvr_model kvr_model;

typedef enum kvr_vocab_kind { KVR_VOCAB_NONE = 0, KVR_VOCAB_SPM = 1, KVR_VOCAB_BPE = 2 } kvr_vocab_kind;

#define KVR_TYPE_KINDS 16u /* different tensor types listed in kvr_model_info */

/* What a file says of itself. Strings are printable copies, cut to fit. */
typedef struct kvr_model_info {
    uint32_t struct_bytes;
    uint32_t gguf_version;
    char architecture[32]; /* "llama" */
    char name[64];
    uint64_t file_bytes;
    uint64_t fingerprint; /* of header and a sample of every tensor; boards compare it */
    uint64_t state_bytes; /* memory kvr_model_open wants */
    /* geometry; all 0 for a vocabulary-only file (n_tensors == 0) */
    uint32_t n_tensors;
    uint32_t n_layers, model_dim, ffn_dim, n_heads, n_kv_heads, head_dim, rope_dims;
    uint32_t train_ctx_tokens;
    uint32_t window_tokens; /* of the layers that see only a window; 0 = all layers see everything */
    float norm_eps, rope_base, rope_scale; /* rope_scale: positions are divided by it; 1 = none */
    uint32_t tied_head; /* 1: the output head is the token embedding */
    uint64_t n_params;
    uint64_t weight_bytes; /* all tensors, as stored */
    uint32_t n_types;
    struct { uint32_t dtype; uint32_t n_tensors; uint64_t bytes; } types[KVR_TYPE_KINDS];
    /* vocabulary */
    uint32_t vocab_kind; /* kvr_vocab_kind */
    char vocab_model[32], vocab_pre[32]; /* tokenizer.ggml.model and .pre */
    uint32_t unknown_pre; /* 1: vocab_pre is not known here, texts are cut by the default rule: expect other ids */
    uint32_t n_vocab, n_merges;
    int32_t bos_id, eos_id, unk_id; /* -1 = none */
    uint32_t add_bos, add_eos, add_space_prefix;
} kvr_model_info;

/*
 * Reads and checks the header of a mapped file; that no tensor or token is there twice is checked by kvr_model_open.
 * Takes nothing, writes only *out (unchanged on error). Cost: one pass over the header (a few ms for 128k tokens).
 * Errors: ARG, MAGIC, VERSION, TRUNCATED, CORRUPT, KEY, ARCH, TYPE, TENSOR, VOCAB, UNSUPPORTED, NOMEM. A file without
 * tensors is fine here (vocabulary only). Source: GGUF specification, ggml/docs/gguf.md, versions 2 and 3.
 */
kvr_status kvr_model_probe(const void *file, size_t file_bytes, kvr_model_info *out, kvr_error *error);

/*
 * Builds the tables (tensors, token and merge index) in mem: 64-byte aligned, at least info.state_bytes, else
 * KVR_ERR_NOMEM and nothing is touched. The file stays mapped and unchanged while the model lives.
 */
kvr_status kvr_model_open(void *mem, size_t mem_bytes, const void *file, size_t file_bytes, kvr_model **out_model,
                          kvr_error *error);

/* Never NULL; lives as long as the model. */
const kvr_model_info *kvr_model_get_info(const kvr_model *model);

#ifdef __cplusplus
}
#endif
#endif
