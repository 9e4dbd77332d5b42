#define _POSIX_C_SOURCE 200809L
#include "kvr_zmq_address.h"

#include "kvr/kvr_zmq.h"

#include <arpa/inet.h>
#include <string.h>

/* Not <ctype.h>: its answer depends on the locale. */
static int is_digit(char c) {
    return c >= '0' && c <= '9';
}
static int is_alnum(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Decimal, no leading zero, 1..65535. */
static int port_is_valid(const char *at, size_t n) {
    if (n < 1 || n > 5 || at[0] == '0') return 0;
    uint32_t port = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(at[i])) return 0;
        port = port * 10 + (uint32_t)(at[i] - '0');
    }
    return port <= 65535;
}

static kvr_status check_v6(kvri_zmq_address *a) {
    struct in6_addr ip;
    if (inet_pton(AF_INET6, a->host, &ip) != 1) return KVR_ERR_ADDRESS;
    static const struct in6_addr any = IN6ADDR_ANY_INIT;
    static const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
    a->is_any = memcmp(&ip, &any, sizeof ip) == 0;
    a->is_loopback = memcmp(&ip, &loopback, sizeof ip) == 0;
    return KVR_OK;
}

/* A dotted quad or a name. What looks like a quad must be one: "127.1" would be a name to one resolver and loopback
 * to another. */
static kvr_status check_name(kvri_zmq_address *a) {
    int numeric = 1;
    if (!is_alnum(a->host[0])) return KVR_ERR_ADDRESS;
    for (const char *c = a->host; *c != 0; c++) {
        if (!is_alnum(*c) && *c != '.' && *c != '-') return KVR_ERR_ADDRESS;
        if (!is_digit(*c) && *c != '.') numeric = 0;
    }
    if (!numeric) {
        a->is_loopback = strcmp(a->host, "localhost") == 0;
        return KVR_OK;
    }
    struct in_addr ip;
    if (inet_pton(AF_INET, a->host, &ip) != 1) return KVR_ERR_ADDRESS;
    a->is_any = ip.s_addr == 0;
    a->is_loopback = (ntohl(ip.s_addr) >> 24) == 127;
    return KVR_OK;
}

kvr_status kvri_zmq_address_parse(const char *text, kvri_zmq_use use, kvri_zmq_address *out) {
    memset(out, 0, sizeof *out);
    if (text == NULL) return KVR_ERR_ADDRESS;
    size_t n = 0;
    while (n < KVR_ADDRESS_CAP && text[n] != 0) n++;
    if (n == KVR_ADDRESS_CAP || n < 6 || memcmp(text, "tcp://", 6) != 0) return KVR_ERR_ADDRESS;

    const char *const at = memchr(text, '@', n);
    if (at != NULL) {
        if (n - (size_t)(at - text) != KVR_ZMQ_KEY_TEXT || kvr_zmq_key_parse(at + 1, out->key) != KVR_OK)
            return KVR_ERR_ADDRESS;
        out->has_key = 1;
        n = (size_t)(at - text);
        if (n < 6) return KVR_ERR_ADDRESS;
    }
    memcpy(out->plain, text, n);
    const char *const host = text + 6;
    const char *const end = text + n;
    const char *colon = end; /* the last one: IPv6 has others */
    while (colon > host && *colon != ':') colon--;
    if (colon == host || *colon != ':') return KVR_ERR_ADDRESS;

    const size_t port_n = (size_t)(end - colon) - 1;
    const int any_port = use == KVRI_ZMQ_LISTEN && port_n == 1 && colon[1] == '*';
    if (!any_port && !port_is_valid(colon + 1, port_n)) return KVR_ERR_ADDRESS;
    memcpy(out->port, colon + 1, port_n);

    const size_t host_n = (size_t)(colon - host);
    kvr_status status;
    if (host[0] == '[') {
        if (host_n < 3 || host[host_n - 1] != ']') return KVR_ERR_ADDRESS;
        memcpy(out->host, host + 1, host_n - 2);
        out->is_v6 = 1;
        status = check_v6(out);
    } else {
        memcpy(out->host, host, host_n);
        if (use == KVRI_ZMQ_LISTEN && strcmp(out->host, "*") == 0) {
            out->is_any = 1;
            return KVR_OK;
        }
        status = check_name(out);
    }
    if (status == KVR_OK && out->is_any && use == KVRI_ZMQ_CONNECT) return KVR_ERR_ADDRESS;
    return status;
}

int kvr_zmq_is_address(const char *address, int to_listen) {
    kvri_zmq_address a;
    return kvri_zmq_address_parse(address, to_listen ? KVRI_ZMQ_LISTEN : KVRI_ZMQ_CONNECT, &a) == KVR_OK;
}

int kvr_zmq_is_loopback(const char *address) {
    kvri_zmq_address a;
    return kvri_zmq_address_parse(address, KVRI_ZMQ_LISTEN, &a) == KVR_OK && a.is_loopback;
}
