/*
 * kvr_template.h - start of a new port: copy this folder, rename template to your system, fill in the functions.
 * port/README.md says what each must guarantee; tests/port shows how each is tested.
 */
#ifndef KVR_TEMPLATE_H
#define KVR_TEMPLATE_H

#include "kvr/kvr_link.h"
#include "kvr/kvr_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What your system needs to keep: handles, a file system, a network interface. Owned by the caller. */
typedef struct kvr_template {
    uint64_t (*clock_us)(void); /* here the skeleton borrows a clock; call your system's instead */
} kvr_template;

void kvr_template_port(kvr_template *self, kvr_port *out);
void kvr_template_link(kvr_template *self, kvr_link *out);

#ifdef __cplusplus
}
#endif
#endif
