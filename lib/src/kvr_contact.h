/*
 * kvr_contact.h - internal: first contact. The lead says HELLO to every board and measures the path from each to
 * itself, one after the other, before there is a prompt. A board is asked for empty frames (their least round trip is
 * twice the latency), then for 8 long ones and, when those came fast, for 32: the later half of them gives the
 * bandwidth, because the first ones may pass a shaper's bucket or a window that still opens.
 */
#ifndef KVR_CONTACT_H
#define KVR_CONTACT_H

#include "kvr_frame.h"

typedef enum kvri_contact_step {
    KVRI_CONTACT_HELLO = 0,
    KVRI_CONTACT_PING,
    KVRI_CONTACT_SHORT,
    KVRI_CONTACT_LONG
} kvri_contact_step;

/* Lead. */
typedef struct kvri_contact {
    kvri_contact_step step;
    uint32_t board;   /* whose path is measured */
    uint32_t pings;   /* answered */
    uint32_t probe;   /* number of the last one sent */
    uint32_t is_sent; /* it left; else the link had no room yet */
    uint32_t got;     /* answers to it */
    uint64_t begun_us;       /* HELLO, or this board */
    uint64_t sent_us;        /* of the probe */
    uint64_t half_us, end_us; /* arrival of the middle one of the answers, of the last one so far */
    uint64_t round_trip_us;  /* least; 0 = none */
} kvri_contact;

/* Helper. */
typedef struct kvri_probed {
    uint32_t probe, left, bytes;
} kvri_probed;

struct kvr_session;

/* Lead. KVR_END: everybody is met, or was given the time for it. Boards that do not answer or do not fit are left to
 * the next question, which says so. */
void kvri_contact_begin(struct kvr_session *s, uint64_t now_us);
kvr_status kvri_contact_poll(struct kvr_session *s, uint64_t now_us);
kvr_status kvri_contact_answer(struct kvr_session *s, const kvri_frame *f);

/* Helper. */
kvr_status kvri_contact_on_probe(struct kvr_session *s, const kvri_frame *f);
kvr_status kvri_contact_send_probed(struct kvr_session *s);

#endif
