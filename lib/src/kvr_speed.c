#include "kvr_speed.h"

#include "kvr_gguf.h" /* little-endian loads */

#include <string.h>

#define N_REALS 7u

static void reals_of(const kvri_speed *s, float out[N_REALS]) {
    const float reals[N_REALS] = {s->dense_gmacs, s->attention_gmacs, s->memory_gbs, s->score_bytes,
                                  s->call_us,     s->frame_gbs,       s->prompt_us};
    memcpy(out, reals, sizeof reals);
}

kvri_speed kvri_speed_of(const kvr_board_profile *p) {
    kvri_speed s;
    memset(&s, 0, sizeof s);
    if (!kvr_board_profile_valid(p)) return s;
    s.known = 1;
    s.attention_tile = p->attention_tile;
    s.dense_gmacs = (float)p->dense_gmacs;
    s.attention_gmacs = (float)p->attention_gmacs;
    s.memory_gbs = (float)p->memory_gbs;
    s.score_bytes = (float)p->score_bytes;
    s.call_us = (float)p->call_us;
    s.frame_gbs = (float)p->frame_gbs;
    s.prompt_us = (float)p->prompt_us;
    return s;
}

kvr_board_profile kvri_speed_profile(const kvri_speed *s, double slowness) {
    kvr_board_profile p;
    memset(&p, 0, sizeof p);
    p.measured = 1;
    p.attention_tile = s->attention_tile;
    p.dense_gmacs = (double)s->dense_gmacs / slowness;
    p.attention_gmacs = (double)s->attention_gmacs / slowness;
    p.memory_gbs = (double)s->memory_gbs / slowness;
    p.score_bytes = (double)s->score_bytes;
    p.call_us = (double)s->call_us * slowness;
    p.frame_gbs = (double)s->frame_gbs / slowness;
    p.prompt_us = (double)s->prompt_us;
    return p;
}

int kvri_speed_equal(const kvri_speed *a, const kvri_speed *b) {
    float x[N_REALS], y[N_REALS];
    reals_of(a, x);
    reals_of(b, y);
    int same = a->known == b->known && a->attention_tile == b->attention_tile;
    for (uint32_t i = 0; i < N_REALS; i++) same = same && x[i] <= y[i] && x[i] >= y[i];
    return same;
}

static void put32(uint8_t *p, uint32_t v) {
    for (uint32_t i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

void kvri_speed_put(const kvri_speed *s, uint8_t *bytes) {
    float reals[N_REALS];
    reals_of(s, reals);
    put32(bytes, s->attention_tile);
    for (uint32_t i = 0; i < N_REALS; i++) {
        uint32_t bits;
        memcpy(&bits, &reals[i], sizeof bits);
        put32(bytes + 4 + 4 * i, bits);
    }
}

kvri_speed kvri_speed_get(const uint8_t *bytes) {
    kvr_board_profile p;
    float reals[N_REALS];
    memset(&p, 0, sizeof p);
    for (uint32_t i = 0; i < N_REALS; i++) {
        const uint32_t bits = kvri_le32(bytes + 4 + 4 * i);
        memcpy(&reals[i], &bits, sizeof bits);
    }
    p.attention_tile = kvri_le32(bytes);
    p.dense_gmacs = (double)reals[0];
    p.attention_gmacs = (double)reals[1];
    p.memory_gbs = (double)reals[2];
    p.score_bytes = (double)reals[3];
    p.call_us = (double)reals[4];
    p.frame_gbs = (double)reals[5];
    p.prompt_us = (double)reals[6];
    return kvri_speed_of(&p);
}
