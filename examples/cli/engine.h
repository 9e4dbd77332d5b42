/*
 * engine.h - everything that answers a prompt, opened in the order that a program needs: file, device, plan, session,
 * link.
 */
#ifndef KVR_CLI_ENGINE_H
#define KVR_CLI_ENGINE_H

#include "boards.h"
#include "device.h"
#include "keys.h"
#include "kvr/kvr.h"
#include "options.h"

#define ENGINE_DEFAULT_CTX_TOKENS 4096u /* cap of the default context: a long trained context costs memory */

typedef struct engine {
    kvr_port port;
    const void *file;
    size_t file_bytes;
    void *model_memory, *session_memory, *link_memory;
    kvr_model *model;
    device *dev;
    kvr_backend backend; /* of dev; replaced by who wants to look at its calls */
    kvr_config config;
    kvr_plan plan;
    kvr_session *session;
    kvr_span *spans; /* of a timeline; NULL = none is kept */
    key_ring *keys; /* NULL until loaded */
    struct kvr_zmq *zmq;
    char inbox[KVR_ADDRESS_CAP]; /* where it listens; "" without a link */
} engine;

/* All of these return an exit code, with a sentence on stderr when it is no EXIT_OK. engine_close is harmless at any
 * stage of a zeroed engine. */

/* Maps the file and opens it as a model. */
int engine_open_model(engine *e, const char *path);
/* Opens the device that the options ask for and makes the plan for ctx_tokens and max_boards. Takes no memory for the
 * session. A vocabulary-only file is refused. */
int engine_make_plan(engine *e, const options *opt, uint32_t ctx_tokens, uint32_t max_boards);
/* --board-timeout in force. */
double engine_board_timeout_s(const options *opt);
/* Takes the planned memory and opens the session. */
int engine_open_session(engine *e);
/* Keeps the timeline of every prompt from now on; needs the session, and a helper does it before it serves. */
int engine_keep_timeline(engine *e, uint32_t cap_spans);
/* What libzmq takes beside the plan with all its queues full, an estimate; 0 for one board. */
uint64_t engine_link_bytes(const kvr_plan *plan);
/* Whether this program has a link at all: EXIT_OK, or EXIT_FAILED with a sentence. */
int engine_check_link(void);
/* Loads --key and --allowed; needed before the link. */
int engine_load_keys(engine *e, const options *opt);
/* Gives the session its link, which receives at `listen`. */
int engine_open_link(engine *e, const options *opt, const char *listen);
/* As the lead: names the helpers, as typed (keys_resolve). Needs the link. */
int engine_set_boards(engine *e, const char *const *addresses, uint32_t n_helpers);
void engine_close(engine *e);

/* The context to plan for: what -c says, else what the model was trained with up to a cap, else what is needed. */
uint32_t engine_ctx_tokens(const engine *e, const options *opt, uint64_t needed_tokens);
/* EXIT_OK when a prompt of so many tokens fits, else a sentence. */
int engine_check_fits(size_t n_prompt_tokens, uint32_t ctx_tokens);
/* Whether an address is on this machine. */
int engine_is_loopback(const char *address);
/* Whom the link turned away: a note when it happens first, and then, with `last`, how many. */
typedef struct engine_strangers {
    int said_key, said_handshake, said_frame;
} engine_strangers;
void engine_say_strangers(const engine *e, engine_strangers *said, int last);
/* Bit per board that does not know this board's key. */
uint64_t engine_refusals(const engine *e);
/* Sampling as the options say; *out is zeroed. */
void engine_fill_sampling(const options *opt, kvr_sampling *out);
/* Monotonic microseconds of the port. */
uint64_t engine_now_us(const engine *e);

#endif
