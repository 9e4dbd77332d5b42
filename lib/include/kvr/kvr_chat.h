/*
 * kvr_chat.h - conversations as the text a model was trained on. A file's own template is a program in a language of
 * its own (Jinja); it is not run, but recognised as one of the families below.
 */
#ifndef KVR_CHAT_H
#define KVR_CHAT_H

#include "kvr/kvr_text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvr_chat_role { KVR_CHAT_SYSTEM = 0, KVR_CHAT_USER = 1, KVR_CHAT_ASSISTANT = 2 } kvr_chat_role;

typedef struct kvr_chat_message {
    uint32_t role; /* kvr_chat_role */
    const char *text;
    size_t bytes;
} kvr_chat_message;

/* Families by number, "chatml", "llama3", ...; NULL behind the last one. */
const char *kvr_chat_name(uint32_t index);
/* The number of a name; UINT32_MAX: no such family. */
uint32_t kvr_chat_find(const char *name);
/* The family of the file's template. UNSUPPORTED: the file has none, or one that is not recognised; name a family then.
 */
kvr_status kvr_chat_of_model(const kvr_model *model, uint32_t *out_family, kvr_error *error);

/*
 * Writes the conversation as text, up to where the assistant's next answer begins; at most cap bytes and cap_parts
 * parts for kvr_text_encode_parts (markers are trusted, messages are not). *out_bytes and *out_n_parts are the full
 * counts (also on NOMEM: they do not fit). A system message comes first or not at all; where a family has no place for
 * one it goes into a user's message, so there must be one. BOS and EOS are those of the model; KVR_TEXT_BOS adds the
 * former where it belongs. Errors: ARG (no such family or role, a system message that is not first or alone), VOCAB,
 * NOMEM.
 */
kvr_status kvr_chat_render(const kvr_model *model, uint32_t family, const kvr_chat_message *messages, size_t n_messages,
                           char *out, size_t cap, size_t *out_bytes, kvr_text_part *parts, size_t cap_parts,
                           size_t *out_n_parts, kvr_error *error);

/* 1 when id ends an answer of this family: EOS, or the marker behind the assistant's messages. */
int kvr_chat_is_end(const kvr_model *model, uint32_t family, int32_t id);
/* Text that ends an answer where the family has no marker token for it ("\nUser:"); "" = none. */
const char *kvr_chat_end_text(uint32_t family);

#ifdef __cplusplus
}
#endif
#endif
