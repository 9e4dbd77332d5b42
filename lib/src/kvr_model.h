/*
 * kvr_model.h - internal: the opened model, and which tensor is which.
 */
#ifndef KVRI_MODEL_H
#define KVRI_MODEL_H

#include "kvr_vocab.h"

/* X(name, GGUF name, role, rows, cols) per layer; sizes in the letters of kvri_dim. */
#define KVRI_LAYER_TENSORS(X) \
    X(KVRI_ATTN_NORM, "attn_norm", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_ATTN_Q, "attn_q", KVR_ROLE_MATRIX, HD, M) \
    X(KVRI_ATTN_K, "attn_k", KVR_ROLE_MATRIX, GD, M) \
    X(KVRI_ATTN_V, "attn_v", KVR_ROLE_MATRIX, GD, M) \
    X(KVRI_ATTN_OUT, "attn_output", KVR_ROLE_MATRIX, M, HD) \
    X(KVRI_FFN_NORM, "ffn_norm", KVR_ROLE_VECTOR, ONE, M) \
    X(KVRI_FFN_GATE, "ffn_gate", KVR_ROLE_MATRIX, F, M) \
    X(KVRI_FFN_UP, "ffn_up", KVR_ROLE_MATRIX, F, M) \
    X(KVRI_FFN_DOWN, "ffn_down", KVR_ROLE_MATRIX, M, F)

typedef enum kvri_layer_tensor {
#define KVRI_ENUM(name, text, role, rows, cols) name,
    KVRI_LAYER_TENSORS(KVRI_ENUM)
#undef KVRI_ENUM
    KVRI_PER_LAYER
} kvri_layer_tensor;

/* Indices into the weight list: two global ones, KVRI_PER_LAYER per layer, and last the head, unless it is tied. */
enum { KVRI_EMBED = 0, KVRI_OUT_NORM = 1, KVRI_GLOBALS = 2 };

static inline uint32_t kvri_weight(uint32_t layer, kvri_layer_tensor which) {
    return (uint32_t)KVRI_GLOBALS + layer * (uint32_t)KVRI_PER_LAYER + (uint32_t)which;
}

/* Room behind the weights: rope frequencies, activations, keys and values per layer. */
#define KVRI_SESSION_TENSORS(n_layers) (16u + 2u * (n_layers))

struct kvr_model {
    kvr_model_info info;
    kvri_gguf gguf;
    kvri_vocab vocab;
    uint32_t n_weights;       /* 0 for a vocabulary-only file */
    /* [n_weights + KVRI_SESSION_TENSORS(L)]. The entries behind the weights are filled for each plan by kvr_layout.c, so
     * a model serves one plan or open at a time. */
    kvr_tensor_desc *tensors;
    const uint8_t *rope_factors; /* [rope_dims/2] F32, unaligned: frequencies are divided by them; NULL = none */
};

/* Index of the tensor that serves as the output head. */
uint32_t kvri_model_head(const kvr_model *model);
/* freq[i] in radians per token, i < rope_dims/2. Computed in double. */
void kvri_model_rope_freq(const kvr_model *model, float *freq);

#endif
