/*
 * Sources: Su 2021 (RoPE), Chen 2023 (linear), Peng 2023 (YaRN), Ding 2024 (LongRoPE), the files' own tensors of
 * factors (Llama 3.x, Phi-3).
 */
#include "kvr_rope.h"

#include <math.h>

#define TWO_PI 6.283185307179586

int kvri_rope_is_long(const kvr_model *model, uint32_t ctx_tokens) {
    return model->rope_factors.long_ctx != NULL && ctx_tokens > model->traits.rope_original_ctx;
}

/* The pair that turns so often within the original context. */
static double yarn_pair(const kvr_model *model, double turns) {
    const double ctx = (double)model->traits.rope_original_ctx;
    return (double)model->info.rope_dims * log(ctx / (turns * TWO_PI)) / (2.0 * log((double)model->info.rope_base));
}

/* Fast pairs keep their frequency (1), slow ones are divided by the factor (0), a ramp between. */
static double yarn_keeps(const kvr_model *model, uint32_t i) {
    const double first = fmax(floor(yarn_pair(model, (double)model->traits.yarn_beta_fast)), 0.0);
    const double last =
        fmin(ceil(yarn_pair(model, (double)model->traits.yarn_beta_slow)), (double)model->info.rope_dims - 1.0);
    const double ramp = ((double)i - first) / fmax(last - first, 0.001);
    return 1.0 - fmin(fmax(ramp, 0.0), 1.0);
}

void kvri_rope_freq(const kvr_model *model, int set, uint32_t ctx_tokens, float *freq) {
    const kvr_model_info *info = &model->info;
    const int local = set == KVRI_ROPE_LOCAL && model->traits.local_rope_base != 0.0f;
    const double base = (double)(local ? model->traits.local_rope_base : info->rope_base);
    const uint8_t *factors = model->rope_factors.always;
    if (model->rope_factors.short_ctx != NULL) factors = model->rope_factors.short_ctx;
    if (kvri_rope_is_long(model, ctx_tokens)) factors = model->rope_factors.long_ctx;
    for (uint32_t i = 0; i < info->rope_dims / 2; i++) {
        double f = pow(base, -2.0 * (double)i / (double)info->rope_dims);
        const double keeps = model->traits.rope_is_yarn ? yarn_keeps(model, i) : 0.0;
        if (!local) {
            f = f * keeps + f / (double)info->rope_scale * (1.0 - keeps);
            if (factors != NULL) f /= (double)kvri_lef32(factors + (size_t)i * 4);
        }
        freq[i] = (float)f;
    }
}

float kvri_rope_magnitude(const kvr_model *model, int set) {
    const int local = set == KVRI_ROPE_LOCAL && model->traits.local_rope_base != 0.0f;
    if (local) return 1.0f;
    if (!model->traits.rope_is_yarn || model->info.rope_scale <= 1.0f) return model->traits.rope_magnitude;
    return model->traits.rope_magnitude * (1.0f + 0.1f * logf(model->info.rope_scale));
}
