#include "kvr_sample.h"

#include <math.h>

int kvri_sampling_valid(const kvr_sampling *s) {
    return (s->temperature == 0.0f || (s->temperature >= 0.01f && s->temperature <= 10.0f)) && s->top_p >= 0.0f &&
           s->top_p <= 1.0f && s->min_p >= 0.0f && s->min_p <= 1.0f &&
           (s->repeat_penalty == 0.0f || (s->repeat_penalty >= 0.1f && s->repeat_penalty <= 10.0f));
}

/* Higher logit first; among equals the lower id, so that greedy and sorted order agree. */
static int before(kvri_candidate a, kvri_candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(kvri_candidate *heap, uint32_t n, uint32_t at) {
    const kvri_candidate moving = heap[at];
    for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], moving)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void penalize(float penalty, const int32_t *recent, uint32_t n_recent, uint32_t n_vocab,
                     kvri_candidate *by_id, const float *logits) {
    for (uint32_t i = 0; i < n_recent; i++) {
        const uint32_t id = (uint32_t)recent[i];
        if (id >= n_vocab) continue;
        /* from the untouched logit, so that a token seen twice is penalized once (CTRL, Keskar 2019) */
        by_id[id].logit = logits[id] > 0.0f ? logits[id] / penalty : logits[id] * penalty;
    }
}

/* splitmix64 (Steele, Lea, Flood 2014); 24 bits make a float in [0, 1). */
static float draw(uint64_t *rng) {
    *rng += 0x9e3779b97f4a7c15ull;
    uint64_t z = *rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return (float)(z >> 40) * (1.0f / 16777216.0f);
}

kvr_status kvri_sample(const kvr_sampling *sampling, const float *logits, uint32_t n_vocab, const int32_t *recent,
                       uint32_t n_recent, uint64_t *rng, kvri_candidate *scratch, int32_t *out_id) {
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (isnan(logits[i])) return KVR_ERR_NUMERIC;
        scratch[i].logit = logits[i];
        scratch[i].id = (int32_t)i;
    }
    if (sampling->repeat_penalty != 0.0f && sampling->repeat_penalty != 1.0f)
        penalize(sampling->repeat_penalty, recent, n_recent, n_vocab, scratch, logits);

    kvri_candidate best = scratch[0];
    for (uint32_t i = 1; i < n_vocab; i++)
        if (before(scratch[i], best)) best = scratch[i];
    if (isinf(best.logit)) return KVR_ERR_NUMERIC;
    if (sampling->temperature == 0.0f) {
        *out_id = best.id;
        return KVR_OK;
    }

    /* The likeliest move, in order, to the end of the array: kept = scratch[n_left .. n_vocab). */
    uint32_t n_left = n_vocab;
    const uint32_t most = sampling->top_k != 0 && sampling->top_k < n_vocab ? sampling->top_k : n_vocab;
    const int filtered = most < n_vocab || sampling->top_p > 0.0f || sampling->min_p > 0.0f;
    if (filtered) {
        double total = 0.0; /* mass that top_p is a share of: what top_k leaves */
        double mass = 0.0;
        for (uint32_t i = n_vocab / 2; i-- > 0;) sift_down(scratch, n_vocab, i);
        if (most == n_vocab)
            for (uint32_t i = 0; i < n_vocab; i++) total += exp((double)scratch[i].logit - (double)best.logit);
        while (n_vocab - n_left < most) {
            const kvri_candidate top = scratch[0];
            const double p = exp((double)top.logit - (double)best.logit);
            /* with top_k the mass is known only once all k are out; then top_p cuts below */
            if (most == n_vocab && n_left < n_vocab &&
                ((sampling->top_p > 0.0f && mass >= (double)sampling->top_p * total) || p < (double)sampling->min_p))
                break;
            mass += p;
            scratch[0] = scratch[--n_left];
            scratch[n_left] = top;
            sift_down(scratch, n_left, 0);
        }
        if (most < n_vocab) {
            uint32_t keep = 0;
            double seen = 0.0;
            total = mass;
            while (keep < most) {
                const double p = exp((double)scratch[n_vocab - 1 - keep].logit - (double)best.logit);
                if (keep > 0 && ((sampling->top_p > 0.0f && seen >= (double)sampling->top_p * total) ||
                                 p < (double)sampling->min_p))
                    break;
                seen += p;
                keep++;
            }
            n_left = n_vocab - keep;
        }
    } else {
        n_left = 0;
    }

    double sum = 0.0;
    for (uint32_t i = n_left; i < n_vocab; i++)
        sum += exp(((double)scratch[i].logit - (double)best.logit) / (double)sampling->temperature);
    double rest = (double)draw(rng) * sum;
    for (uint32_t i = n_vocab; i-- > n_left;) {
        rest -= exp(((double)scratch[i].logit - (double)best.logit) / (double)sampling->temperature);
        *out_id = scratch[i].id;
        if (rest < 0.0) break;
    }
    return KVR_OK;
}
