#include "kvr/kvr_zmq_key.h"

#include <string.h>
#include <zmq.h>

#define Z85_CAP 41 /* how libzmq hands out keys: 40 characters (ZeroMQ RFC 32) and a terminator */

static kvr_status from_z85(const char *text, uint8_t out[KVR_ZMQ_KEY_BYTES]) {
    return zmq_z85_decode(out, text) != NULL ? KVR_OK : KVR_ERR_UNSUPPORTED;
}

kvr_status kvr_zmq_key_make(uint8_t out_secret[KVR_ZMQ_KEY_BYTES], uint8_t out_public[KVR_ZMQ_KEY_BYTES]) {
    char public_text[Z85_CAP], secret_text[Z85_CAP];
    if (zmq_curve_keypair(public_text, secret_text) != 0) return KVR_ERR_UNSUPPORTED;
    const kvr_status status = from_z85(secret_text, out_secret);
    return status == KVR_OK ? from_z85(public_text, out_public) : status;
}

kvr_status kvr_zmq_key_public(const uint8_t secret[KVR_ZMQ_KEY_BYTES], uint8_t out_public[KVR_ZMQ_KEY_BYTES]) {
    char public_text[Z85_CAP], secret_text[Z85_CAP];
    if (zmq_z85_encode(secret_text, secret, KVR_ZMQ_KEY_BYTES) == NULL) return KVR_ERR_UNSUPPORTED;
    if (zmq_curve_public(public_text, secret_text) != 0) return KVR_ERR_UNSUPPORTED;
    return from_z85(public_text, out_public);
}

void kvr_zmq_key_format(const uint8_t key[KVR_ZMQ_KEY_BYTES], char out[KVR_ZMQ_KEY_TEXT]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < KVR_ZMQ_KEY_BYTES; i++) {
        out[2 * i] = digits[key[i] >> 4];
        out[2 * i + 1] = digits[key[i] & 15];
    }
    out[KVR_ZMQ_KEY_TEXT - 1] = 0;
}

static int value_of(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return -1;
}

kvr_status kvr_zmq_key_parse(const char *text, uint8_t out[KVR_ZMQ_KEY_BYTES]) {
    for (size_t i = 0; i < KVR_ZMQ_KEY_BYTES; i++) {
        const int high = value_of(text[2 * i]);
        if (high < 0) return KVR_ERR_ARG; /* also the terminator: nothing behind it is read */
        const int low = value_of(text[2 * i + 1]);
        if (low < 0) return KVR_ERR_ARG;
        out[i] = (uint8_t)(high * 16 + low);
    }
    return KVR_OK;
}
