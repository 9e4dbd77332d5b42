/*
 * kvr_arch.h - internal: what sets the supported architectures apart, as one table. The layer function (kvr_layer.c)
 * reads it; which tensors a file has decides the rest. Names as llama.cpp's converters write them.
 */
#ifndef KVR_ARCH_H
#define KVR_ARCH_H

#include "kvr_gguf.h"

#include "kvr/kvr_model.h"

/* X(id, GGUF name, role, rows, cols). M model_dim, D head_dim, HD n_heads * head_dim, GD n_kv_heads * head_dim,
 * F ffn_dim, V vocabulary. */
#define KVRI_GLOBAL_TENSORS(X) \
    X(KVRI_EMBED, "token_embd.weight", KVR_ROLE_MATRIX, V, M) \
    X(KVRI_OUT_NORM, "output_norm.weight", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_OUT_NORM_BIAS, "output_norm.bias", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_HEAD, "output.weight", KVR_ROLE_MATRIX, V, M)

/* Names after "blk.<layer>.". */
#define KVRI_LAYER_TENSORS(X) \
    X(KVRI_ATTN_NORM, "attn_norm.weight", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_ATTN_NORM_BIAS, "attn_norm.bias", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_ATTN_NORM_2, "attn_norm_2.weight", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_ATTN_NORM_2_BIAS, "attn_norm_2.bias", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_ATTN_Q, "attn_q.weight", KVR_ROLE_MATRIX, HD, M) \
    X(KVRI_ATTN_K, "attn_k.weight", KVR_ROLE_MATRIX, GD, M) \
    X(KVRI_ATTN_V, "attn_v.weight", KVR_ROLE_MATRIX, GD, M) \
    X(KVRI_ATTN_Q_BIAS, "attn_q.bias", KVR_ROLE_VECTOR, ONE, HD) \
    X(KVRI_ATTN_K_BIAS, "attn_k.bias", KVR_ROLE_VECTOR, ONE, GD) \
    X(KVRI_ATTN_V_BIAS, "attn_v.bias", KVR_ROLE_VECTOR, ONE, GD) \
    X(KVRI_ATTN_Q_NORM, "attn_q_norm.weight", KVR_ROLE_VECTOR, ONE, D) \
    X(KVRI_ATTN_K_NORM, "attn_k_norm.weight", KVR_ROLE_VECTOR, ONE, D) \
    X(KVRI_ATTN_OUT, "attn_output.weight", KVR_ROLE_MATRIX, M, HD) \
    X(KVRI_ATTN_OUT_BIAS, "attn_output.bias", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_POST_ATTN_NORM, "post_attention_norm.weight", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_FFN_NORM, "ffn_norm.weight", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_FFN_GATE, "ffn_gate.weight", KVR_ROLE_MATRIX, F, M) \
    X(KVRI_FFN_UP, "ffn_up.weight", KVR_ROLE_MATRIX, F, M) \
    X(KVRI_FFN_DOWN, "ffn_down.weight", KVR_ROLE_MATRIX, M, F) \
    X(KVRI_POST_FFN_NORM, "post_ffw_norm.weight", KVR_ROLE_VECTOR, ONE, M)

typedef enum kvri_tensor_kind {
#define KVRI_ENUM(id, text, role, rows, cols) id,
    KVRI_GLOBAL_TENSORS(KVRI_ENUM)
    KVRI_LAYER_TENSORS(KVRI_ENUM)
#undef KVRI_ENUM
    KVRI_TENSOR_KINDS,
    KVRI_NO_KIND = KVRI_TENSOR_KINDS /* stands for a tensor that no model has */
} kvri_tensor_kind;

#define KVRI_GLOBALS ((uint32_t)KVRI_ATTN_NORM) /* kinds that are there once, not per layer */

typedef struct kvri_arch {
    const char *name;          /* general.architecture */
    uint32_t needs, may_have;  /* bit per kvri_tensor_kind */
    kvr_norm_kind norm;
    kvr_activation activation; /* gated where the file has ffn_gate */
    kvr_rope_style rope;
    uint8_t parallel;          /* 1: attention and feed-forward read the same x and are added together */
    uint8_t scaled_embed;      /* 1: embeddings are multiplied by sqrt(model_dim) */
    uint8_t windows_in;        /* of so many layers in turn the last one sees all tokens; 0 = all have the window */
    uint16_t dim_scaled_layers; /* models with so many layers scale q . k by 1/sqrt(model_dim/n_heads) */
    float local_rope_base;     /* of layers with a window; 0 = as the others */
    /* where the file does not say otherwise; 0 = none */
    float attn_soft_cap, logit_soft_cap;
    uint16_t window;
} kvri_arch;

/* NULL when the name is none of the supported ones. */
const kvri_arch *kvri_arch_find(kvri_str name);

/* Where tensor kinds are in the weight list: globals, then layer by layer. */
typedef struct kvri_weights {
    uint32_t at[KVRI_TENSOR_KINDS + 1]; /* place among globals or within a layer; KVR_NO_TENSOR: the file has none */
    uint32_t n_globals, n_per_layer;
} kvri_weights;

/* KVR_NO_TENSOR when there is none. layer counts only for kinds that are there per layer. */
static inline uint32_t kvri_weight(const kvri_weights *w, uint32_t layer, kvri_tensor_kind kind) {
    if (w->at[kind] == KVR_NO_TENSOR || (uint32_t)kind < KVRI_GLOBALS) return w->at[kind];
    return w->n_globals + layer * w->n_per_layer + w->at[kind];
}

/* What the keys of one file add to its architecture. */
typedef struct kvri_traits {
    const kvri_arch *arch;
    float attn_scale, attn_soft_cap, logit_soft_cap;
    float embed_scale;
    uint32_t window, windows_in; /* tokens; 0 = none */
    /* rope */
    float local_rope_base;
    float rope_magnitude;        /* rope.scaling.attn_factor */
    uint32_t rope_original_ctx;  /* context before it was stretched; 0 = not told */
    uint32_t rope_is_yarn;
    float yarn_beta_fast, yarn_beta_slow; /* turns within the original context: kept beyond, stretched below */
} kvri_traits;

/* 1 when this layer sees only a window of tokens. */
static inline int kvri_layer_has_window(const kvri_traits *t, uint32_t layer) {
    return t->window != 0 && (t->windows_in == 0 || layer % t->windows_in < t->windows_in - 1);
}

/* Tokens before a chunk whose keys such a layer keeps for it; at least one, so that no board waits for nothing. */
static inline uint32_t kvri_window_reach(const kvri_traits *t) { return t->window > 2 ? t->window - 1 : 1; }

#endif
