/*
 * kvr_model.h - internal: the opened model.
 */
#ifndef KVRI_MODEL_H
#define KVRI_MODEL_H

#include "kvr_vocab.h"
#include "kvr_weights.h"

/* Room behind the weights: rope frequencies, activations, keys and values per layer. */
#define KVRI_SESSION_TENSORS(n_layers) (16u + 2u * (n_layers))

struct kvr_model {
    kvr_model_info info;
    kvri_gguf gguf;
    kvri_vocab vocab;
    kvri_traits traits;
    kvri_weights weights;
    kvri_rope_factors rope_factors;
    kvri_str chat_template;   /* in the file; n == 0: none */
    uint32_t n_weights;       /* 0 for a vocabulary-only file */
    /* [n_weights + KVRI_SESSION_TENSORS(L)]. The entries behind the weights are filled for each plan by kvr_layout.c,
     * so a model serves one plan or open at a time. */
    kvr_tensor_desc *tensors;
};

#endif
