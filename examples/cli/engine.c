#define _POSIX_C_SOURCE 200809L
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#include "kvr/kvr_posix.h"
#ifdef KVR_HAVE_ZMQ
#include "kvr/kvr_zmq.h"
#endif
#include "limits.h"
#include "say.h"

enum { MEMORY_ALIGNMENT = 64 };
#define LEAST_DEAD_MS 30000u /* kvr_zmq_config.dead_after_ms */
#define MOST_DEAD_MS 600000u
#define LINGER_MS 300u /* a goodbye to a board that is gone must not hold up the end */

static void *take(uint64_t bytes) {
    void *memory = NULL;
    if (bytes > SIZE_MAX) return NULL;
    return posix_memalign(&memory, MEMORY_ALIGNMENT, bytes ? (size_t)bytes : 1) == 0 ? memory : NULL;
}

static void log_line(void *user, kvr_log_level level, const char *module, const char *text) {
    (void)user;
    if (level == KVR_LOG_ERROR) say_error("%s: %s", module, text);
    if (level == KVR_LOG_WARN) say_note("%s: %s", module, text);
}

int engine_open_model(engine *e, const char *path) {
    kvr_error error = {0};
    kvr_model_info info;
    memset(&info, 0, sizeof info);
    info.struct_bytes = sizeof info;
    kvr_posix_port(&e->port);
    e->port.log = log_line;
    if (e->port.map(e->port.user, path, &e->file, &e->file_bytes, &error) != KVR_OK) return say_kvr_error(path, &error);
    if (kvr_model_probe(e->file, e->file_bytes, &info, &error) != KVR_OK) return say_kvr_error(path, &error);
    e->model_memory = take(info.state_bytes);
    if (e->model_memory == NULL)
        return say_error("%s: its tables want %llu bytes of memory: end other programs", path,
                         (unsigned long long)info.state_bytes);
    if (kvr_model_open(e->model_memory, (size_t)info.state_bytes, e->file, e->file_bytes, &e->model, &error) != KVR_OK)
        return say_kvr_error(path, &error);
    if (info.unknown_pre)
        say_note(
            "%s: this version does not know its pre-tokenizer '%s' and cuts texts by the default rule: some token ids "
            "will differ from the model's own",
            path, info.vocab_pre);
    return EXIT_OK;
}

double engine_board_timeout_s(const options *opt) {
    if (opt->board_timeout_s > 0) return opt->board_timeout_s;
    return opt->need_all_boards ? 30 : 2;
}

int engine_make_plan(engine *e, const options *opt, uint32_t ctx_tokens, uint32_t max_boards) {
    kvr_error error = {0};
    if (kvr_model_get_info(e->model)->n_tensors == 0)
        return say_error("%s: holds a vocabulary but no weights: use a whole model here, or 'kvr tokenize'",
                         opt->model);
    const device_choice choice = {opt->device,  opt->threads,
                                  opt->gemm,    opt->precision,
                                  opt->emulate, max_boards > 0 ? max_boards - 1 : 0,
                                  max_boards};
    int code = device_open(&choice, &e->port, &e->dev);
    if (code != EXIT_OK) return code;
    e->backend = *device_backend(e->dev);
    memset(&e->config, 0, sizeof e->config);
    e->config.struct_bytes = sizeof e->config;
    e->config.ctx_tokens = ctx_tokens;
    e->config.batch_tokens = opt->batch_tokens;
    e->config.kv_dtype = opt->kv_dtype;
    e->config.wire_kv = opt->wire_kv;
    e->config.kv_window_layers = opt->kv_window;
    e->config.chunk_tokens = opt->chunk;
    e->config.all_keys = opt->all_keys;
    e->config.max_boards = max_boards;
    double timeout_ms = engine_board_timeout_s(opt) * 1000.0;
    e->config.peer_timeout_ms = timeout_ms < 1.0 ? 1u : (uint32_t)timeout_ms;
    memset(&e->plan, 0, sizeof e->plan);
    e->plan.struct_bytes = sizeof e->plan;
    if (kvr_plan_make(e->model, &e->config, &e->backend, &e->plan, &error) != KVR_OK)
        return say_kvr_error("cannot plan", &error);
    return EXIT_OK;
}

/* Before anything large is taken; the model's tables are there already. */
static int check_memory(const engine *e) {
    const uint64_t *regions = e->plan.region_bytes;
    uint64_t exact = regions[KVR_REGION_MODEL] + regions[KVR_REGION_SESSION];
    if (device_is_in_host(e->dev)) exact += regions[KVR_REGION_DEVICE];
    return limits_check(exact, regions[KVR_REGION_DRIVER] + engine_link_bytes(&e->plan));
}

int engine_open_session(engine *e) {
    kvr_error error = {0};
    uint64_t bytes = e->plan.region_bytes[KVR_REGION_SESSION];
    int code = check_memory(e);
    if (code != EXIT_OK) return code;
    e->session_memory = take(bytes);
    if (e->session_memory == NULL)
        return say_error("the session wants %llu bytes of memory: lower -c, or use --kv f16",
                         (unsigned long long)bytes);
    if (kvr_session_open(e->session_memory, (size_t)bytes, e->model, &e->config, &e->backend, &e->port,
                         &e->session, &error) != KVR_OK)
        return say_kvr_error("cannot open the session", &error);
    /* the device has its own copy of the weights */
    if (e->plan.region_bytes[KVR_REGION_DEVICE] > 0) kvr_posix_release_pages(e->file, e->file_bytes);
    return EXIT_OK;
}

int engine_keep_timeline(engine *e, uint32_t cap_spans) {
    e->spans = malloc(cap_spans * sizeof *e->spans);
    if (e->spans == NULL) return say_error("not enough memory for a timeline: end other programs");
    kvr_status status = kvr_session_set_trace(e->session, e->spans, cap_spans);
    return status == KVR_OK ? EXIT_OK : say_error("cannot keep a timeline: %s", kvr_status_text(status));
}

int engine_load_keys(engine *e, const options *opt) {
    e->keys = calloc(1, sizeof *e->keys);
    return e->keys != NULL ? keys_load(e->keys, opt) : say_error("not enough memory for keys: end other programs");
}

#ifdef KVR_HAVE_ZMQ
uint64_t engine_link_bytes(const kvr_plan *plan) {
    kvr_zmq_config config = {0};
    if (plan->max_boards < 2) return 0;
    config.struct_bytes = sizeof config;
    config.max_peers = plan->max_boards;
    config.listen = "tcp://127.0.0.1:*";
    config.frame_bytes = plan->frame_bytes;
    return kvr_zmq_library_bytes(&config, plan->max_boards - 1);
}

int engine_check_link(void) {
    return EXIT_OK;
}

int engine_open_link(engine *e, const options *opt, const char *listen) {
    kvr_error error = {0};
    kvr_link link;
    kvr_zmq_config config;
    memset(&link, 0, sizeof link);
    memset(&config, 0, sizeof config);
    config.struct_bytes = sizeof config;
    config.max_peers = KVR_ZMQ_MAX_PEERS;
    config.listen = listen;
    config.frame_bytes = e->plan.frame_bytes;
    config.allow_plain_remote = opt->insecure;
    if (e->keys->has_key) config.secret_key = e->keys->secret;
    if (e->keys->has_list) {
        config.allowed_keys = e->keys->allowed[0];
        config.n_allowed = e->keys->n_allowed;
    }
    config.linger_ms = LINGER_MS;
    if (e->plan.peer_timeout_ms > LEAST_DEAD_MS)
        config.dead_after_ms = e->plan.peer_timeout_ms < MOST_DEAD_MS ? e->plan.peer_timeout_ms : MOST_DEAD_MS;
    size_t bytes = kvr_zmq_bytes(config.max_peers);
    e->link_memory = take(bytes);
    if (e->link_memory == NULL) return say_error("the link wants %zu bytes of memory: end other programs", bytes);
    if (kvr_zmq_open(e->link_memory, bytes, &config, &e->zmq, &error) != KVR_OK)
        return say_kvr_error("cannot listen", &error);
    strncpy(e->inbox, kvr_zmq_endpoint(e->zmq), sizeof e->inbox - 1);
    kvr_status status = kvr_zmq_link(e->zmq, &link);
    if (status == KVR_OK) status = kvr_session_set_link(e->session, &link);
    if (status != KVR_OK) return say_error("cannot use the link: %s", kvr_status_text(status));
    return EXIT_OK;
}

int engine_set_boards(engine *e, const char *const *addresses, uint32_t n_helpers) {
    /* One own address serves all helpers, so one that is reachable from elsewhere wins over loopback. */
    char own[KVR_ADDRESS_CAP] = "";
    char resolved[BOARDS_CAP_HELPERS][KVR_ADDRESS_CAP];
    const char *list[BOARDS_CAP_HELPERS];
    for (uint32_t i = 0; i < n_helpers; i++) {
        char each[KVR_ADDRESS_CAP];
        int code = keys_resolve(e->keys, addresses[i], resolved[i]);
        if (code != EXIT_OK) return code;
        list[i] = resolved[i];
        kvr_status status = kvr_zmq_own_address(resolved[i], e->inbox, each, sizeof each);
        if (status != KVR_OK)
            return say_error("cannot reach '%s' from %s: %s; check its name, and give --listen an address it can reach",
                             addresses[i], e->inbox, kvr_status_text(status));
        if (own[0] == '\0' || engine_is_loopback(own)) memcpy(own, each, sizeof own);
    }
    if (kvr_session_set_boards(e->session, list, n_helpers, own) != KVR_OK)
        return say_kvr_error("cannot use these boards", kvr_session_get_error(e->session));
    return EXIT_OK;
}

int engine_is_loopback(const char *address) {
    return keys_is_loopback(address);
}

static void get_stats(const engine *e, kvr_zmq_stats *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    if (e->zmq != NULL) kvr_zmq_get_stats(e->zmq, out);
}

void engine_say_strangers(const engine *e, engine_strangers *said, int last) {
    kvr_zmq_stats s;
    get_stats(e, &s);
    if (s.unknown_keys > 0 && !said->said_key)
        say_note("turned away a connection from %s: its key is not in --allowed; further ones are only counted",
                 s.last_unknown);
    if (s.no_handshake > 0 && !said->said_handshake)
        say_note("turned away a connection that has no key or is no board; further ones are only counted");
    if (s.refused_frames > 0 && !said->said_frame)
        say_note("dropped a message that is no frame; further ones are only counted");
    said->said_key = s.unknown_keys > 0;
    said->said_handshake = s.no_handshake > 0;
    said->said_frame = s.refused_frames > 0;
    if (last && (s.unknown_keys | s.no_handshake | s.refused_frames) != 0)
        say_note("turned away: %llu unknown keys, %llu without a handshake, %llu messages",
                 (unsigned long long)s.unknown_keys, (unsigned long long)s.no_handshake,
                 (unsigned long long)s.refused_frames);
}

uint64_t engine_refusals(const engine *e) {
    kvr_zmq_stats s;
    get_stats(e, &s);
    return s.refusing;
}
#else
uint64_t engine_link_bytes(const kvr_plan *plan) {
    (void)plan;
    return 0;
}

int engine_check_link(void) {
    return say_error("this kvr was built without ZeroMQ and works alone; build it with -DKVR_WITH_ZMQ=ON");
}

int engine_open_link(engine *e, const options *opt, const char *listen) {
    (void)e, (void)opt, (void)listen;
    return engine_check_link();
}

int engine_set_boards(engine *e, const char *const *addresses, uint32_t n_helpers) {
    (void)e, (void)addresses, (void)n_helpers;
    return engine_check_link();
}

int engine_is_loopback(const char *address) {
    (void)address;
    return 0;
}

void engine_say_strangers(const engine *e, engine_strangers *said, int last) {
    (void)e, (void)said, (void)last;
}

uint64_t engine_refusals(const engine *e) {
    (void)e;
    return 0;
}
#endif

void engine_close(engine *e) {
    if (e->session != NULL) kvr_session_close(e->session);
#ifdef KVR_HAVE_ZMQ
    if (e->zmq != NULL) kvr_zmq_close(e->zmq);
#endif
    device_close(e->dev);
    free(e->link_memory);
    if (e->keys != NULL) memset(e->keys->secret, 0, sizeof e->keys->secret);
    free(e->keys);
    free(e->spans);
    free(e->session_memory);
    free(e->model_memory);
    if (e->file != NULL) e->port.unmap(e->port.user, e->file, e->file_bytes);
    memset(e, 0, sizeof *e);
}

uint32_t engine_ctx_tokens(const engine *e, const options *opt, uint64_t needed_tokens) {
    if (opt->ctx_tokens != 0) return opt->ctx_tokens;
    uint32_t trained = kvr_model_get_info(e->model)->train_ctx_tokens;
    if (trained == 0) trained = ENGINE_DEFAULT_CTX_TOKENS;
    uint64_t wanted = needed_tokens > ENGINE_DEFAULT_CTX_TOKENS ? needed_tokens : ENGINE_DEFAULT_CTX_TOKENS;
    return wanted < trained ? (uint32_t)wanted : trained;
}

int engine_check_fits(size_t n_prompt_tokens, uint32_t ctx_tokens) {
    if (n_prompt_tokens <= ctx_tokens) return EXIT_OK;
    return say_error("the prompt has %zu tokens, the context holds %u: raise -c or shorten it", n_prompt_tokens,
                     ctx_tokens);
}

void engine_fill_sampling(const options *opt, kvr_sampling *out) {
    out->struct_bytes = sizeof *out;
    out->temperature = (float)opt->temperature;
    out->top_k = opt->top_k;
    out->top_p = (float)opt->top_p;
    out->min_p = (float)opt->min_p;
    out->repeat_penalty = (float)opt->repeat_penalty;
    out->repeat_last_tokens = opt->repeat_last;
    out->seed = opt->seed;
}

uint64_t engine_now_us(const engine *e) {
    return e->port.now_us(e->port.user);
}
