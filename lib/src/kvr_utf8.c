#include "kvr_utf8.h"

int kvri_utf8_check(const uint8_t *bytes, size_t n) {
    const uint8_t lead = bytes[0];
    if (lead < 0x80) return 1;
    /* the second byte's range is what excludes overlong forms, surrogates and codes above U+10FFFF */
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    int want = 0;
    if (lead >= 0xC2 && lead <= 0xDF) {
        want = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        want = 3;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        want = 4;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    } else {
        return -1;
    }
    for (int i = 1; i < want; i++) {
        if ((size_t)i >= n) return 0;
        if (bytes[i] < low || bytes[i] > high) return -1;
        low = 0x80;
        high = 0xBF;
    }
    return want;
}

uint32_t kvri_utf8_next(const uint8_t *text, size_t n, size_t *at) {
    const uint8_t *p = text + *at;
    const int bytes = kvri_utf8_check(p, n - *at);
    if (bytes <= 0) {
        *at += 1;
        return KVRI_UTF8_REPLACEMENT;
    }
    *at += (size_t)bytes;
    if (bytes == 1) return p[0];
    uint32_t code = p[0] & (0x7Fu >> bytes);
    for (int i = 1; i < bytes; i++) code = (code << 6) | (p[i] & 0x3Fu);
    return code;
}

uint32_t kvri_utf8_put(uint32_t code, uint8_t out[4]) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    const uint32_t bytes = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (uint32_t i = bytes; i-- > 1;) {
        out[i] = (uint8_t)(0x80u | (code & 0x3Fu));
        code >>= 6;
    }
    out[0] = (uint8_t)((0xF00u >> bytes) | code);
    return bytes;
}
