/*
 * kvr_speed.h - internal: what a board can do, as it travels in HELLO: the numbers of a kvr_board_profile without its
 * texts.
 */
#ifndef KVR_SPEED_H
#define KVR_SPEED_H

#include "kvr/kvr_profile.h"

typedef struct kvri_speed {
    uint32_t known; /* 0: the others mean nothing */
    uint32_t attention_tile;
    float dense_gmacs, attention_gmacs, memory_gbs, score_bytes, call_us, frame_gbs, prompt_us;
} kvri_speed;

#define KVRI_SPEED_BYTES 32u /* on the wire: the tile as u32, then the seven others in their order as IEEE 754 bits */

/* known = 0 when a number is not finite or beyond the ranges of kvr_profile.h. */
kvri_speed kvri_speed_of(const kvr_board_profile *profile);
/* A board that takes `slowness` times as long. The speed must be known. */
kvr_board_profile kvri_speed_profile(const kvri_speed *speed, double slowness);
int kvri_speed_equal(const kvri_speed *a, const kvri_speed *b);

void kvri_speed_put(const kvri_speed *speed, uint8_t *bytes);
/* Nonsense gives an unknown speed. */
kvri_speed kvri_speed_get(const uint8_t *bytes);

#endif
