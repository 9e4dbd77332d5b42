/*
 * kvr_q8.h - internal: keys and values of 8 bits. Blocks of 32 as GGUF's Q8_0 (f16 scale, 32 int8) whose scale is
 * always a power of two: then a rounded value fits F16 exactly, rounding it again changes nothing, and what is cached
 * can be packed, sent, unpacked and cached elsewhere without losing a bit. That costs up to one of the eight bits.
 */
#ifndef KVR_Q8_H
#define KVR_Q8_H

#include "kvr/kvr_backend.h"

#define KVRI_Q8_BLOCK 32u

/* n (a multiple of 32) values in place. NaN becomes a number; beyond +-65024 saturates. */
void kvri_q8_round(float *x, uint32_t n);
/* n rounded values of type dtype (F16 or F32) as Q8_0 blocks, and back; in place. Packed bytes are fewer. */
void kvri_q8_pack(uint32_t dtype, uint8_t *bytes, uint32_t n);
void kvri_q8_unpack(uint32_t dtype, uint8_t *bytes, uint32_t n);

#endif
