/*
 * kvr_weights.h - internal: the tensors of a file, each known by its name, of the shape its keys say, none missing.
 */
#ifndef KVR_WEIGHTS_H
#define KVR_WEIGHTS_H

#include "kvr_arch.h"

/* Factors that rope frequencies are divided by, in the file, unaligned F32 [rope_dims/2]; NULL = none. */
typedef struct kvri_rope_factors {
    const uint8_t *always, *short_ctx, *long_ctx;
} kvri_rope_factors;

typedef struct kvri_weights_found {
    kvri_weights map;
    kvri_rope_factors rope;
    uint32_t n; /* entries of the weight list */
} kvri_weights_found;

/*
 * Walks the tensors. With list NULL it checks them and fills *out and what info says of them (n_vocab when it was 0,
 * tied_head, sizes, fingerprint); with a zeroed list of out->n entries it fills that.
 * Errors: TENSOR, TYPE, CORRUPT, UNSUPPORTED.
 */
kvr_status kvri_weights_read(const kvri_gguf *gguf, const kvri_arch *arch, kvr_model_info *info, kvr_tensor_desc *list,
                             kvri_weights_found *out, kvr_error *error);

#endif
