/* The address at which a helper reaches this board. */
#define _POSIX_C_SOURCE 200809L
#include "kvr/kvr_zmq.h"
#include "kvr_zmq_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* tcp://host:port or tcp://[host]:port, with port and key of our inbox. */
static kvr_status compose(const char *host, const kvri_zmq_address *own, int is_v6, char *out, size_t cap) {
    char key[KVR_ZMQ_KEY_TEXT] = "";
    if (own->has_key) kvr_zmq_key_format(own->key, key);
    const char *const parts[] = {is_v6 ? "tcp://[" : "tcp://", host, is_v6 ? "]:" : ":", own->port,
                                 own->has_key ? "@" : "", key};
    const size_t n_parts = sizeof parts / sizeof parts[0];
    size_t need = 1;
    for (size_t i = 0; i < n_parts; i++) need += strlen(parts[i]);
    if (need > cap || need > KVR_ADDRESS_CAP) return KVR_ERR_NOMEM;
    out[0] = 0;
    for (size_t i = 0; i < n_parts; i++) strcat(out, parts[i]);
    return KVR_OK;
}

/* The source address the kernel would use towards `to`: connecting a datagram socket picks the route, sends nothing. */
static kvr_status source_towards(const struct addrinfo *to, const kvri_zmq_address *inbox, char *out, size_t cap) {
    const int fd = socket(to->ai_family, SOCK_DGRAM, 0);
    if (fd < 0) return KVR_ERR_ADDRESS;
    struct sockaddr_storage own;
    socklen_t own_bytes = sizeof own;
    char host[KVR_ADDRESS_CAP];
    const int known = connect(fd, to->ai_addr, to->ai_addrlen) == 0 &&
                      getsockname(fd, (struct sockaddr *)&own, &own_bytes) == 0 &&
                      getnameinfo((struct sockaddr *)&own, own_bytes, host, sizeof host, NULL, 0, NI_NUMERICHOST) == 0;
    close(fd);
    if (!known) return KVR_ERR_ADDRESS;
    const kvr_status status = compose(host, inbox, to->ai_family == AF_INET6, out, cap);
    if (status != KVR_OK) return status;
    /* A link-local address with a scope ("fe80::1%eth0") means nothing to another board: the parser refuses it. */
    kvri_zmq_address check;
    return kvri_zmq_address_parse(out, KVRI_ZMQ_CONNECT, &check);
}

kvr_status kvr_zmq_own_address(const char *helper_address, const char *own_endpoint, char *out, size_t cap) {
    kvri_zmq_address helper;
    kvri_zmq_address own;
    if (out == NULL || cap == 0) return KVR_ERR_ARG;
    out[0] = 0;
    if (kvri_zmq_address_parse(helper_address, KVRI_ZMQ_CONNECT, &helper) != KVR_OK ||
        kvri_zmq_address_parse(own_endpoint, KVRI_ZMQ_LISTEN, &own) != KVR_OK || own.port[0] == '*') {
        return KVR_ERR_ADDRESS;
    }
    if (!own.is_any) {
        if (own.is_loopback && !helper.is_loopback) return KVR_ERR_ADDRESS;
        return compose(own.host, &own, own.is_v6, out, cap);
    }
    if (helper.is_loopback) return compose("127.0.0.1", &own, 0, out, cap);

    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_DGRAM;
    /* An inbox on IPv4 only cannot be reached over IPv6, whatever the helper has. */
    hints.ai_family = own.is_v6 ? (helper.is_v6 ? AF_INET6 : AF_UNSPEC) : AF_INET;
    struct addrinfo *list = NULL;
    if (getaddrinfo(helper.host, helper.port, &hints, &list) != 0) return KVR_ERR_ADDRESS;
    kvr_status status = KVR_ERR_ADDRESS;
    for (const struct addrinfo *to = list; to != NULL && status != KVR_OK; to = to->ai_next) {
        status = source_towards(to, &own, out, cap);
    }
    freeaddrinfo(list);
    if (status != KVR_OK) out[0] = 0;
    return status;
}
