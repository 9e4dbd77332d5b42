/*
 * conversation.h - what was said so far, as messages and as the ids that the session still has in its cache.
 */
#ifndef KVR_CLI_CONVERSATION_H
#define KVR_CLI_CONVERSATION_H

#include "kvr/kvr.h"

typedef struct conversation {
    kvr_chat_message *messages; /* texts are malloc'ed */
    size_t n, cap;
    int32_t *ids; /* of the last question and its answer */
    size_t n_ids, cap_ids;
    size_t n_cached; /* how many of them the session has computed */
} conversation;

/* Exit codes with sentences. A conversation starts zeroed. */

int conversation_add(conversation *talk, kvr_chat_role role, const char *text, size_t bytes);
/* Takes the last message back. */
void conversation_drop(conversation *talk);
/* Everything but a system message. */
void conversation_reset(conversation *talk);
void conversation_free(conversation *talk);

/* The ids of everything, up to where the next answer begins, in talk->ids; *out_keep of them are cached. */
int conversation_encode(conversation *talk, const kvr_model *model, uint32_t family, uint32_t *out_keep);
/* An id of the answer, behind them. */
int conversation_add_id(conversation *talk, int32_t id);

#endif
