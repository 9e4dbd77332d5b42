#include "kvr_arch.h"

#define BIT(kind) (UINT32_C(1) << (kind))
#define QKV (BIT(KVRI_ATTN_Q) | BIT(KVRI_ATTN_K) | BIT(KVRI_ATTN_V))
#define QKV_BIAS (BIT(KVRI_ATTN_Q_BIAS) | BIT(KVRI_ATTN_K_BIAS) | BIT(KVRI_ATTN_V_BIAS))
#define QK_NORM (BIT(KVRI_ATTN_Q_NORM) | BIT(KVRI_ATTN_K_NORM))
#define POST_NORMS (BIT(KVRI_POST_ATTN_NORM) | BIT(KVRI_POST_FFN_NORM))
/* What every decoder has, and what most add to it. */
#define CORE                                                                                                           \
    (BIT(KVRI_EMBED) | BIT(KVRI_OUT_NORM) | BIT(KVRI_ATTN_NORM) | QKV | BIT(KVRI_ATTN_OUT) | BIT(KVRI_FFN_UP) |        \
     BIT(KVRI_FFN_DOWN))
#define GATED (CORE | BIT(KVRI_FFN_NORM) | BIT(KVRI_FFN_GATE))
#define HEAD BIT(KVRI_HEAD)

#define RMS_HALVES(act) .norm = KVR_NORM_RMS, .activation = (act), .rope = KVR_ROPE_HALVES

static const kvri_arch table[] = {
    {.name = "llama",
     .needs = GATED,
     .may_have = HEAD | QKV_BIAS | BIT(KVRI_ATTN_OUT_BIAS),
     .norm = KVR_NORM_RMS,
     .activation = KVR_ACT_SILU,
     .rope = KVR_ROPE_PAIRS},
    {.name = "qwen2", .needs = GATED | QKV_BIAS, .may_have = HEAD, RMS_HALVES(KVR_ACT_SILU)},
    {.name = "qwen3", .needs = GATED | QK_NORM, .may_have = HEAD, RMS_HALVES(KVR_ACT_SILU)},
    /* attn_norm_2 (40B) is attention's norm; attn_norm is then the feed-forward's alone */
    {.name = "falcon",
     .needs = CORE | BIT(KVRI_OUT_NORM_BIAS) | BIT(KVRI_ATTN_NORM_BIAS),
     .may_have = HEAD | BIT(KVRI_ATTN_NORM_2) | BIT(KVRI_ATTN_NORM_2_BIAS),
     .norm = KVR_NORM_LAYER,
     .activation = KVR_ACT_GELU,
     .rope = KVR_ROPE_HALVES,
     .parallel = 1},
    {.name = "gemma", .needs = GATED, .may_have = HEAD, RMS_HALVES(KVR_ACT_GELU_TANH), .scaled_embed = 1},
    {.name = "gemma2",
     .needs = GATED | POST_NORMS,
     .may_have = HEAD,
     RMS_HALVES(KVR_ACT_GELU_TANH),
     .scaled_embed = 1,
     .windows_in = 2,
     .window = 4096, /* these three: transformers' Gemma2Config */
     .attn_soft_cap = 50.0f,
     .logit_soft_cap = 30.0f,
     .dim_scaled_layers = 46},
    {.name = "gemma3",
     .needs = GATED | POST_NORMS | QK_NORM,
     .may_have = HEAD,
     RMS_HALVES(KVR_ACT_GELU_TANH),
     .scaled_embed = 1,
     .windows_in = 6,
     .dim_scaled_layers = 62,
     .local_rope_base = 10000.0f},
    {.name = "phi3", .needs = GATED, .may_have = HEAD, RMS_HALVES(KVR_ACT_SILU)},
};

const kvri_arch *kvri_arch_find(kvri_str name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (kvri_str_eq(name, table[i].name)) return &table[i];
    return NULL;
}
