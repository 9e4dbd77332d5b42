/*
 * kvr_link.h - the seam to the network: whole frames to numbered peers, and whatever arrives.
 *
 * A board has one inbox and one outgoing connection per peer slot. Frames arrive whole and, per
 * sender, in order, or not at all. Nothing blocks but wait().
 */
#ifndef KVR_LINK_H
#define KVR_LINK_H

#include "kvr/kvr_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_ADDRESS_CAP 128u /* bytes of an address with its terminator */

typedef struct kvr_link {
    uint32_t struct_bytes;
    void *user;

    /* Points slot `peer` at an address ("tcp://10.0.0.2:7000", "loop:2"), giving up what the slot pointed at before;
     * the same address again keeps the connection. KVR_ERR_ADDRESS: not one this link takes. Addresses come from the
     * network too: an implementation checks them before use. */
    kvr_status (*connect)(void *user, uint32_t peer, const char *address);
    /* KVR_OK: the frame was taken whole (copied). KVR_AGAIN: no room now. KVR_ERR_LINK: failed, see native. */
    kvr_status (*send)(void *user, uint32_t peer, const void *frame, size_t bytes);
    /* KVR_OK: a frame of *out_bytes. KVR_AGAIN: none. KVR_ERR_FRAME: one longer than cap arrived and was dropped. */
    kvr_status (*recv)(void *user, void *buf, size_t cap, size_t *out_bytes);
    /* Optional: blocks until a frame may have arrived or timeout_us passed. */
    void (*wait)(void *user, uint64_t timeout_us);
} kvr_link;

#ifdef __cplusplus
}
#endif
#endif
