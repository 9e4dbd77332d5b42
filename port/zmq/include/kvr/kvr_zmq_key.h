/*
 * kvr_zmq_key.h - keys of boards: pairs for CURVE (RFC 26/CurveZMQ, Curve25519), and their texts.
 *
 * The secret key stays on its board. The public key, as 64 hexadecimal digits, is what other boards are told: in their
 * list of allowed keys, and behind the address of the board: tcp://10.0.0.2:7000@9f3c...
 */
#ifndef KVR_ZMQ_KEY_H
#define KVR_ZMQ_KEY_H

#include "kvr/kvr_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_ZMQ_KEY_BYTES 32u
#define KVR_ZMQ_KEY_TEXT 65u /* bytes of a key's text with its terminator */

/* A new pair, from the system's random numbers. UNSUPPORTED: this libzmq was built without CURVE. */
kvr_status kvr_zmq_key_make(uint8_t out_secret[KVR_ZMQ_KEY_BYTES], uint8_t out_public[KVR_ZMQ_KEY_BYTES]);
/* The public key of a secret one. Errors as above. */
kvr_status kvr_zmq_key_public(const uint8_t secret[KVR_ZMQ_KEY_BYTES], uint8_t out_public[KVR_ZMQ_KEY_BYTES]);
/* 64 digits in lower case and a terminator. */
void kvr_zmq_key_format(const uint8_t key[KVR_ZMQ_KEY_BYTES], char out[KVR_ZMQ_KEY_TEXT]);
/* Exactly 64 digits 0-9 a-f; what follows is not looked at. ARG: something else. */
kvr_status kvr_zmq_key_parse(const char *text, uint8_t out[KVR_ZMQ_KEY_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
