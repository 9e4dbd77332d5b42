/* One board: prompts in, logits and tokens out, through the public interface. */
#include "chain_backend.h"

#include <math.h>

enum { GOLDEN_STEPS = 36, GOLDEN_PROMPT = 5, GOLDEN_NEW = 32, TOP = 5 };
#define GOLDEN_TOLERANCE 0.02f

typedef struct golden_step {
    int32_t token, ids[TOP];
    float logits[TOP];
} golden_step;

/* llama.cpp's own figures; 0: not there. */
static int read_golden(golden_step steps[GOLDEN_STEPS], int32_t greedy[GOLDEN_NEW]) {
    size_t bytes = 0;
    char *text = (char *)read_conformance("golden/stories260K.llamacpp-logits.txt", &bytes);
    if (text == NULL) return 0;
    text = (char *)realloc(text, bytes + 1);
    if (text == NULL) abort();
    text[bytes] = 0;
    const char *at = text;
    for (int i = 0; i < GOLDEN_STEPS; i++) {
        golden_step *s = &steps[i];
        int step = -1, used = 0;
        assert_int_equal(sscanf(at, "step %d token %d top %d:%f %d:%f %d:%f %d:%f %d:%f%n", &step, &s->token,
                                &s->ids[0], &s->logits[0], &s->ids[1], &s->logits[1], &s->ids[2], &s->logits[2],
                                &s->ids[3], &s->logits[3], &s->ids[4], &s->logits[4], &used),
                         12);
        assert_int_equal(step, i);
        at = strchr(at + used, '\n') + 1;
    }
    assert_memory_equal(at, "greedy", 6);
    at += 6;
    for (int i = 0; i < GOLDEN_NEW; i++) greedy[i] = (int32_t)strtol(at, (char **)&at, 10);
    free(text);
    return 1;
}

static void expect_golden(const golden_step *s, const float *logits) {
    for (int i = 0; i < TOP; i++)
        if (!(fabsf(logits[s->ids[i]] - s->logits[i]) <= GOLDEN_TOLERANCE))
            fail_msg("logit of %d is %f, not %f", (int)s->ids[i], (double)logits[s->ids[i]], (double)s->logits[i]);
}

/* A session on its own with a few questions' needs. */
static void open_alone(rig *r, const rig_model *model, const kvr_config *config) {
    rig_options o;
    memset(&o, 0, sizeof o);
    if (config != NULL) o.config = *config;
    rig_open(r, model, 1, &o);
}

static kvr_prompt question(const int32_t *ids, uint32_t n, uint32_t max_new) {
    kvr_prompt p;
    memset(&p, 0, sizeof p);
    p.struct_bytes = sizeof p;
    p.ids = ids;
    p.n_ids = n;
    p.max_new_tokens = max_new;
    return p;
}

/* --- golden -------------------------------------------------------------------------------------------------- */

static void logits_and_greedy_ids_agree_with_llama_cpp(void **state) {
    (void)state;
    static const uint32_t kv_types[2] = {KVR_DTYPE_F16, KVR_KV_F32};
    golden_step steps[GOLDEN_STEPS];
    int32_t greedy[GOLDEN_NEW], ids[GOLDEN_PROMPT];
    rig_model model;
    if (!read_golden(steps, greedy) || !rig_model_stories(&model)) skip();
    for (int i = 0; i < GOLDEN_PROMPT; i++) ids[i] = steps[i].token;
    for (int t = 0; t < 2; t++) {
        rig r;
        kvr_event event;
        kvr_config config = {.kv_dtype = kv_types[t]};
        kvr_prompt p = question(ids, GOLDEN_PROMPT, GOLDEN_NEW);
        p.all_logits = 1;
        open_alone(&r, &model, &config);
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        uint32_t n_logits = 0, n_new = 0;
        while (kvr_session_poll(rig_lead(&r), &event) == KVR_OK) {
            if (event.kind == KVR_EVENT_LOGITS) {
                assert_int_equal(event.position, n_logits);
                expect_golden(&steps[n_logits++], kvr_session_logits(rig_lead(&r)));
            }
            if (event.kind == KVR_EVENT_TOKEN) assert_int_equal(event.id, greedy[n_new++]);
        }
        assert_int_equal(n_new, GOLDEN_NEW);
        assert_int_equal(n_logits, GOLDEN_STEPS);
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void prompts_of_every_length_agree_with_llama_cpp(void **state) {
    (void)state;
    golden_step steps[GOLDEN_STEPS];
    int32_t greedy[GOLDEN_NEW], ids[GOLDEN_STEPS];
    rig_model model;
    rig r;
    rig_answer a;
    if (!read_golden(steps, greedy) || !rig_model_stories(&model)) skip();
    for (int i = 0; i < GOLDEN_STEPS; i++) ids[i] = steps[i].token;
    open_alone(&r, &model, NULL);
    for (uint32_t n = 1; n <= GOLDEN_STEPS; n++) {
        assert_int_equal(rig_prompt(&r, ids, n, 0, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_OK);
        expect_golden(&steps[n - 1], a.logits);
        rig_answer_free(&a);
    }
    rig_close(&r);
    rig_model_close(&model);
}

static void five_hundred_greedy_ids_agree(void **state) {
    (void)state;
    static const int32_t bos[1] = {1};
    rig_model model;
    rig_answer a;
    size_t bytes = 0;
    char *text = (char *)read_conformance("golden/stories260K.greedy500.txt", &bytes);
    if (text == NULL) skip();
    text = (char *)realloc(text, bytes + 1);
    if (text == NULL) abort();
    text[bytes] = 0;
    if (!rig_model_stories(&model)) skip();
    rig_single(&model, NULL, bos, 1, 500, &a);
    char *at = text + strlen("greedy");
    for (uint32_t i = 0; i < 500; i++) assert_int_equal(a.ids[i], strtol(at, &at, 10));
    free(text);
    rig_answer_free(&a);
    rig_model_close(&model);
}

/* --- events -------------------------------------------------------------------------------------------------- */

static void events_come_in_order_and_progress_only_grows(void **state) {
    (void)state;
    enum { N = 50, NEW = 6 };
    static const uint32_t batches[] = {1, 7, 64};
    int32_t ids[N];
    rig_model model;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 1);
    for (int b = 0; b < 3; b++) {
        rig r;
        kvr_event event;
        kvr_status status;
        kvr_config config = {.batch_tokens = batches[b]};
        kvr_prompt p = question(ids, N, NEW);
        p.ignore_eos = 1;
        open_alone(&r, &model, &config);
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        uint32_t done = 0, total = 0, n_new = 0, n_logits = 0, n_end = 0;
        while ((status = kvr_session_poll(rig_lead(&r), &event)) == KVR_OK) {
            assert_int_equal(n_end, 0); /* nothing follows the end */
            if (event.kind == KVR_EVENT_PROGRESS) {
                assert_int_equal(n_logits, 0);
                assert_true(event.done >= done && event.done <= event.total && event.total > 0);
                assert_true(total == 0 || event.total == total);
                done = event.done;
                total = event.total;
            }
            if (event.kind == KVR_EVENT_LOGITS) {
                assert_int_equal(event.position, N - 1 + n_logits);
                assert_int_equal(n_logits++, n_new);
            }
            if (event.kind == KVR_EVENT_TOKEN) {
                assert_int_equal(event.position, N + n_new);
                assert_int_equal(n_logits, ++n_new);
            }
            if (event.kind == KVR_EVENT_END) n_end++;
        }
        assert_int_equal(status, KVR_END);
        assert_int_equal(done, total);
        assert_int_equal(n_new, NEW);
        assert_int_equal(n_end, 1);
        assert_int_equal(kvr_session_poll(rig_lead(&r), &event), KVR_END);
        assert_int_equal(event.kind, KVR_EVENT_NONE);
        rig_close(&r);
    }
    rig_model_close(&model);
}

static void logits_of_all_tokens_are_those_of_each_prefix(void **state) {
    (void)state;
    enum { N = 40 };
    int32_t ids[N];
    float *all;
    rig_model model;
    rig r;
    rig_answer a;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    const size_t V = model.info->n_vocab;
    all = (float *)malloc(N * V * sizeof *all);
    if (all == NULL) abort();
    rig_ids(ids, N, model.info->n_vocab, 2);
    kvr_config config = {.batch_tokens = 16};
    kvr_prompt p = question(ids, N, 0);
    p.all_logits = 1;
    open_alone(&r, &model, &config);
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
    while (kvr_session_poll(rig_lead(&r), &event) == KVR_OK)
        if (event.kind == KVR_EVENT_LOGITS)
            memcpy(all + event.position * V, kvr_session_logits(rig_lead(&r)), V * sizeof *all);
    for (uint32_t n = 1; n <= N; n++) {
        assert_int_equal(rig_prompt(&r, ids, n, 0, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_memory_equal(a.logits, all + (n - 1) * V, V * sizeof *all);
        rig_answer_free(&a);
    }
    free(all);
    rig_close(&r);
    rig_model_close(&model);
}

static void logits_from_a_position_are_the_last_of_all(void **state) {
    (void)state;
    enum { N = 11 };
    int32_t ids[N];
    float *all;
    rig_model model;
    rig r;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    const size_t V = model.info->n_vocab;
    all = (float *)malloc(N * V * sizeof *all);
    if (all == NULL) abort();
    rig_ids(ids, N, model.info->n_vocab, 2);
    kvr_config config = {.batch_tokens = 4};
    open_alone(&r, &model, &config);
    kvr_prompt p = question(ids, N, 0);
    p.all_logits = 1;
    for (p.logits_from = 0; p.logits_from < N; p.logits_from++) {
        for (p.keep_tokens = 0; p.keep_tokens < N; p.keep_tokens += p.logits_from == 0 ? (uint32_t)N : 1) {
            uint32_t at = p.logits_from > p.keep_tokens ? p.logits_from : p.keep_tokens;
            assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
            while (kvr_session_poll(rig_lead(&r), &event) == KVR_OK) {
                if (event.kind != KVR_EVENT_LOGITS) continue;
                assert_int_equal(event.position, at++);
                float *place = all + event.position * V;
                if (p.logits_from == 0) memcpy(place, kvr_session_logits(rig_lead(&r)), V * sizeof *all);
                else assert_memory_equal(place, kvr_session_logits(rig_lead(&r)), V * sizeof *all);
            }
            assert_int_equal(at, N);
        }
    }
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_ERR_ARG); /* logits_from is N now */
    free(all);
    rig_close(&r);
    rig_model_close(&model);
}

/* --- where an answer ends ------------------------------------------------------------------------------------ */

static void no_new_tokens_is_prefill_only_and_one_is_one(void **state) {
    (void)state;
    static const int32_t ids[4] = {3, 9, 4, 12};
    rig_model model;
    rig_answer a, one;
    rig_model_make(&model, &RIG_TINY);
    rig_single(&model, NULL, ids, 4, 0, &a);
    assert_int_equal(a.n_ids, 0);
    assert_int_equal(a.ended, 1);
    assert_non_null(a.logits);
    assert_int_equal(a.stats.n_prompt_tokens, 4);
    assert_int_equal(a.stats.n_new_tokens, 0);
    rig_single(&model, NULL, ids, 4, 1, &one);
    assert_int_equal(one.n_ids, 1);
    assert_int_equal(one.ended, 1);
    assert_int_equal(one.stats.n_new_tokens, 1);
    uint32_t best = 0;
    for (uint32_t i = 1; i < model.info->n_vocab; i++)
        if (one.logits[i] > one.logits[best]) best = i;
    assert_int_equal(one.ids[0], best);
    rig_answer_free(&a);
    rig_answer_free(&one);
    rig_model_close(&model);
}

static uint32_t chosen_eos;
static void add_eos(gguf_maker *m) {
    gguf_key_u32(m, "tokenizer.ggml.eos_token_id", chosen_eos);
}

static void eos_ends_the_answer_unless_ignored(void **state) {
    (void)state;
    static const int32_t ids[4] = {3, 9, 4, 12};
    rig_model model;
    rig_answer free_run, a;
    rig r;
    gguf_shape shape = RIG_TINY;
    shape.without = "tokenizer.ggml.eos_token_id";
    shape.more = add_eos;
    chosen_eos = 0;
    rig_model_make(&model, &shape);
    rig_single(&model, NULL, ids, 4, 20, &free_run);
    rig_model_close(&model);
    /* the same weights with an EOS that will be said; at its first occurrence */
    chosen_eos = (uint32_t)free_run.ids[6];
    uint32_t first = 0;
    while (free_run.ids[first] != (int32_t)chosen_eos) first++;
    rig_model_make(&model, &shape);
    open_alone(&r, &model, NULL);
    for (uint32_t ignore = 0; ignore < 2; ignore++) {
        kvr_prompt p = question(ids, 4, 20);
        p.ignore_eos = ignore;
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_OK);
        assert_int_equal(a.n_ids, ignore ? 20 : first);
        assert_int_equal(a.is_eos, !ignore);
        assert_memory_equal(a.ids, free_run.ids, a.n_ids * sizeof a.ids[0]);
        rig_answer_free(&a);
    }
    rig_answer_free(&free_run);
    rig_close(&r);
    rig_model_close(&model);
}

static void a_context_is_filled_to_its_last_place(void **state) {
    (void)state;
    enum { CTX = 24 };
    int32_t ids[CTX + 1];
    rig_model model;
    rig r;
    rig_answer roomy, a;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, CTX + 1, model.info->n_vocab, 4);
    kvr_config config = {.ctx_tokens = CTX};
    open_alone(&r, &model, &config);
    for (uint32_t n = CTX - 3; n <= CTX; n++) {
        rig_single(&model, NULL, ids, n, 20, &roomy);
        assert_int_equal(rig_prompt(&r, ids, n, 100, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_OK);
        assert_int_equal(a.ended, 1);
        /* the last token needs no place: nothing follows it */
        assert_int_equal(a.n_ids, CTX - n + 1);
        assert_memory_equal(a.ids, roomy.ids, a.n_ids * sizeof a.ids[0]);
        rig_answer_free(&a);
        rig_answer_free(&roomy);
    }
    assert_int_equal(rig_prompt(&r, ids, CTX + 1, 1, 1, NULL), KVR_ERR_CTX_FULL);
    assert_int_equal(kvr_session_get_error(rig_lead(&r))->wanted, CTX + 1);
    assert_int_equal(kvr_session_get_error(rig_lead(&r))->had, CTX);
    rig_close(&r);
    rig_model_close(&model);
}

/* --- refusals ------------------------------------------------------------------------------------------------ */

static void a_wrong_prompt_is_refused_and_the_next_one_is_answered(void **state) {
    (void)state;
    static const int32_t good[3] = {5, 6, 7}, negative[2] = {5, -1}, beyond[2] = {5, 48};
    rig_model model;
    rig r;
    rig_answer truth, a;
    rig_model_make(&model, &RIG_TINY);
    rig_single(&model, NULL, good, 3, 8, &truth);
    open_alone(&r, &model, NULL);
    kvr_session *s = rig_lead(&r);
    kvr_prompt p = question(good, 0, 1);
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    p = question(NULL, 3, 1);
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    p = question(negative, 2, 1);
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    p = question(beyond, 2, 1);
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    assert_non_null(kvr_session_get_error(s)->text);
    p = question(good, 3, 1);
    p.sampling.temperature = -1.0f;
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    p = question(good, 3, 1);
    p.n_boards = 2; /* no boards were named */
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    p.n_boards = UINT32_MAX;
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    assert_int_equal(kvr_session_prompt(s, NULL), KVR_ERR_ARG);
    assert_int_equal(rig_prompt(&r, good, 3, 8, 1, NULL), KVR_OK);
    rig_run(&r, &a);
    assert_true(rig_same(&model, &a, &truth));
    assert_int_equal(a.error.status, KVR_OK);
    rig_answer_free(&a);
    rig_answer_free(&truth);
    rig_close(&r);
    rig_model_close(&model);
}

/* What failed before a refused call is not told as its reason. */
static void a_call_that_is_refused_says_why(void **state) {
    (void)state;
    static const int32_t ids[1] = {999};
    const char *const nowhere[1] = {"loop:9"}, *const none[1] = {NULL};
    rig_model model;
    rig r;
    rig_model_make(&model, &RIG_TINY);
    open_alone(&r, &model, NULL);
    kvr_session *s = rig_lead(&r);
    const kvr_error *e = kvr_session_get_error(s);
    kvr_prompt p = question(ids, 1, 1);
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    assert_int_equal(kvr_session_set_boards(s, nowhere, 1, "loop:0"), KVR_ERR_ADDRESS);
    assert_true(e->status == KVR_ERR_ADDRESS && strstr(e->detail, "loop:9") != NULL);
    assert_int_equal(kvr_session_set_boards(s, none, 1, "loop:0"), KVR_ERR_ADDRESS);
    assert_int_equal(e->status, KVR_ERR_ADDRESS);
    assert_int_equal(kvr_session_set_boards(s, nowhere, 64, "loop:0"), KVR_ERR_ARG);
    assert_true(e->status == KVR_ERR_ARG && strstr(e->text, "max_boards") != NULL);
    assert_int_equal(kvr_session_meet(s), KVR_ERR_STATE);
    assert_true(e->status == KVR_ERR_STATE && strstr(e->text, "set_boards") != NULL);
    assert_int_equal(kvr_session_set_link(s, NULL), KVR_ERR_ARG);
    assert_int_equal(e->status, KVR_ERR_ARG);
    assert_int_equal(kvr_session_measure(s, 0), KVR_ERR_ARG);
    assert_non_null(strstr(e->text, "budget_us"));
    p.struct_bytes--;
    assert_int_equal(kvr_session_prompt(s, &p), KVR_ERR_ARG);
    assert_non_null(strstr(e->text, "struct_bytes"));
    rig_close(&r);
    rig_model_close(&model);
}

static uint32_t blocked;

static kvr_status block(void *user, kvr_fence fence) {
    (void)user;
    (void)fence;
    blocked++;
    return KVR_OK;
}

static void let_wait(rig *r, uint32_t board, kvr_config *config, kvr_backend *backend, kvr_link *link) {
    (void)board, (void)config, (void)link;
    lazy_backend((lazy *)r->options.user, backend);
    backend->wait = block;
}

/* A loop of the application's own has a watchdog to feed. */
static void idle_never_blocks_in_the_device_and_run_may(void **state) {
    (void)state;
    static const int32_t ids[3] = {5, 6, 7};
    static lazy queue;
    rig_model model;
    rig r;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    memset(&queue, 0, sizeof queue);
    queue.per_done = 1;
    rig_open(&r, &model, 1, &(rig_options){.change = let_wait, .user = &queue});
    blocked = 0;
    assert_int_equal(rig_prompt(&r, ids, 3, 2, 1, NULL), KVR_OK);
    while (kvr_session_poll(rig_lead(&r), &event) != KVR_END) kvr_session_idle(rig_lead(&r), 100);
    assert_int_equal(blocked, 0);
    assert_int_equal(rig_prompt(&r, ids, 3, 2, 1, NULL), KVR_OK);
    while (kvr_session_poll(rig_lead(&r), &event) != KVR_END) kvr_session_idle(rig_lead(&r), UINT64_MAX);
    assert_true(blocked > 0);
    blocked = 0;
    assert_int_equal(rig_prompt(&r, ids, 3, 2, 1, NULL), KVR_OK);
    assert_int_equal(kvr_session_run(rig_lead(&r), NULL, NULL), KVR_OK);
    assert_true(blocked > 0);
    rig_close(&r);
    rig_model_close(&model);
}

static void a_prompt_longer_than_this_boards_chunk_is_refused(void **state) {
    (void)state;
    int32_t ids[20];
    rig_model model;
    rig r;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, 20, model.info->n_vocab, 3);
    kvr_config config = {.chunk_tokens = 12};
    open_alone(&r, &model, &config);
    assert_int_equal(rig_prompt(&r, ids, 13, 1, 1, NULL), KVR_ERR_PARTITION);
    assert_int_equal(rig_prompt(&r, ids, 12, 1, 1, NULL), KVR_OK);
    rig_close(&r);
    rig_model_close(&model);
}

static void a_prompt_while_one_is_under_way_changes_nothing(void **state) {
    (void)state;
    static const int32_t good[3] = {5, 6, 7}, other[3] = {9, 9, 9};
    rig_model model;
    rig r;
    rig_answer truth, a;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    rig_single(&model, NULL, good, 3, 8, &truth);
    open_alone(&r, &model, NULL);
    assert_int_equal(rig_prompt(&r, good, 3, 8, 1, NULL), KVR_OK);
    for (int i = 0; i < 3; i++) rig_turn(&r, &event);
    assert_int_equal(rig_prompt(&r, other, 3, 2, 1, NULL), KVR_ERR_STATE);
    rig_run(&r, &a);
    assert_true(rig_same(&model, &a, &truth));
    assert_int_equal(a.error.status, KVR_OK); /* a later failure would still be the first */
    rig_answer_free(&a);
    rig_answer_free(&truth);
    rig_close(&r);
    rig_model_close(&model);
}

static void weights_that_are_no_numbers_are_named(void **state) {
    (void)state;
    static const int32_t ids[3] = {5, 6, 7};
    rig_model model;
    rig r;
    rig_answer a;
    rig_model_make(&model, &RIG_TINY);
    memset((uint8_t *)model.file + model.file_bytes - 64, 0xff, 64); /* the end of the output head */
    open_alone(&r, &model, NULL);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(rig_prompt(&r, ids, 3, 8, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_ERR_NUMERIC);
        assert_int_equal(a.error.status, KVR_ERR_NUMERIC);
        assert_int_equal(a.n_ids, 0);
        rig_answer_free(&a);
    }
    rig_close(&r);
    rig_model_close(&model);
}

/* --- again and again ----------------------------------------------------------------------------------------- */

static void a_stop_after_any_number_of_polls_leaves_the_next_answer_right(void **state) {
    (void)state;
    enum { N = 9, NEW = 4 };
    int32_t ids[N], other[N];
    rig_model model;
    rig r;
    rig_answer truth, a;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 5);
    rig_ids(other, N, model.info->n_vocab, 6);
    kvr_config config = {.batch_tokens = 4};
    rig_single(&model, NULL, ids, N, NEW, &truth);
    open_alone(&r, &model, &config);
    for (uint32_t polls = 0, over = 0; !over; polls++) {
        assert_int_equal(rig_prompt(&r, other, N, NEW, 1, NULL), KVR_OK);
        for (uint32_t i = 0; i < polls && !over; i++) {
            rig_turn(&r, &event);
            over = event.kind == KVR_EVENT_END;
        }
        assert_int_equal(kvr_session_stop(rig_lead(&r)), KVR_OK);
        assert_int_equal(kvr_session_stop(rig_lead(&r)), KVR_OK); /* twice does no harm */
        rig_run(&r, &a);
        assert_int_equal(a.status, KVR_OK);
        assert_int_equal(a.n_ids, 0);
        rig_answer_free(&a);
        assert_int_equal(rig_prompt(&r, ids, N, NEW, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_true(rig_same(&model, &a, &truth));
        rig_answer_free(&a);
    }
    rig_answer_free(&truth);
    rig_close(&r);
    rig_model_close(&model);
}

/* keep_tokens that are refused leave the session as it was. */
static void expect_not_kept(rig *r, const int32_t *ids, uint32_t n, uint32_t keep) {
    kvr_prompt p = question(ids, n, 1);
    p.keep_tokens = keep;
    assert_int_equal(kvr_session_prompt(rig_lead(r), &p), KVR_ERR_ARG);
    assert_non_null(kvr_session_get_error(rig_lead(r))->text);
}

static void kept_tokens_do_not_show_in_a_single_bit(void **state) {
    (void)state;
    enum { N = 21, NEW = 4 };
    int32_t ids[N];
    rig_model model;
    rig r;
    rig_answer truth, a;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 5);
    kvr_config config = {.batch_tokens = 4};
    rig_single(&model, NULL, ids, N, NEW, &truth);
    open_alone(&r, &model, &config);
    for (uint32_t keep = 0; keep < N; keep++) {
        kvr_prompt p = question(ids, N, NEW);
        p.keep_tokens = keep; /* of the round before, whose answer lies behind the prompt */
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        rig_run(&r, &a);
        assert_int_equal(a.stats.own_first, keep);
        assert_int_equal(a.stats.own_tokens, N - keep);
        assert_true(rig_same(&model, &a, &truth));
        rig_answer_free(&a);
    }
    rig_answer_free(&truth);
    rig_close(&r);
    rig_model_close(&model);
}

static void only_cached_tokens_of_the_same_ids_are_kept(void **state) {
    (void)state;
    enum { N = 12, NEW = 5 };
    int32_t ids[N + NEW], other[N + NEW];
    rig_model model;
    rig r;
    rig_answer a;
    kvr_event event;
    rig_model_make(&model, &RIG_TINY);
    rig_ids(ids, N, model.info->n_vocab, 5);
    open_alone(&r, &model, NULL);
    expect_not_kept(&r, ids, N, 1); /* nothing was asked yet */
    assert_int_equal(rig_prompt(&r, ids, N, NEW, 1, NULL), KVR_OK);
    rig_run(&r, &a);
    memcpy(ids + N, a.ids, NEW * sizeof *ids);
    memcpy(other, ids, sizeof other);
    other[N - 1] = (other[N - 1] + 1) % (int32_t)model.info->n_vocab;
    expect_not_kept(&r, other, N + NEW, N);
    expect_not_kept(&r, ids, N, N);                   /* none would be computed */
    expect_not_kept(&r, ids, N + NEW, N + NEW);       /* the last new token was never fed */
    kvr_prompt p = question(ids, N + NEW, 1);
    p.keep_tokens = N + NEW - 1; /* prompt and answer, as a conversation goes on */
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
    rig_answer_free(&a);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    rig_answer_free(&a);
    /* a question that was stopped before its prompt was through leaves what it kept itself */
    p.keep_tokens = 3;
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
    rig_turn(&r, &event);
    assert_int_equal(kvr_session_stop(rig_lead(&r)), KVR_OK);
    rig_run(&r, &a);
    rig_answer_free(&a);
    expect_not_kept(&r, ids, N, 4);
    p.keep_tokens = 3;
    assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
    rig_run(&r, &a);
    assert_int_equal(a.status, KVR_OK);
    rig_answer_free(&a);
    rig_close(&r);
    rig_model_close(&model);
}

static int stop_at_third(void *user, const kvr_event *event) {
    uint32_t *n = (uint32_t *)user;
    *n += event->kind == KVR_EVENT_TOKEN;
    return *n == 3;
}

static void run_ends_when_its_callback_says_so(void **state) {
    (void)state;
    static const int32_t ids[3] = {5, 6, 7};
    rig_model model;
    rig r;
    uint32_t n = 0;
    rig_model_make(&model, &RIG_TINY);
    open_alone(&r, &model, NULL);
    assert_int_equal(rig_prompt(&r, ids, 3, 8, 1, NULL), KVR_OK);
    assert_int_equal(kvr_session_run(rig_lead(&r), stop_at_third, &n), KVR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(rig_prompt(&r, ids, 3, 8, 1, NULL), KVR_OK);
    assert_int_equal(kvr_session_run(rig_lead(&r), NULL, NULL), KVR_OK);
    rig_close(&r);
    rig_model_close(&model);
}

static void questions_in_a_row_are_answered_like_fresh_ones(void **state) {
    (void)state;
    int32_t ids[60];
    rig_model model;
    rig r;
    rig_answer fresh, a;
    rig_model_make(&model, &RIG_TINY);
    open_alone(&r, &model, NULL);
    for (uint32_t q = 0; q < 12; q++) {
        const uint32_t n = 1 + (q * 23) % 60;
        rig_ids(ids, n, model.info->n_vocab, q);
        rig_single(&model, NULL, ids, n, 10, &fresh);
        assert_int_equal(rig_prompt(&r, ids, n, 10, 1, NULL), KVR_OK);
        rig_run(&r, &a);
        assert_true(rig_same(&model, &a, &fresh));
        rig_answer_free(&a);
        rig_answer_free(&fresh);
    }
    rig_close(&r);
    rig_model_close(&model);
}

static void the_same_seed_gives_the_same_text(void **state) {
    (void)state;
    static const int32_t ids[3] = {5, 6, 7};
    rig_model model;
    rig r;
    rig_answer a[3];
    rig_model_make(&model, &RIG_TINY);
    open_alone(&r, &model, NULL);
    for (uint32_t i = 0; i < 3; i++) {
        kvr_prompt p = question(ids, 3, 30);
        p.ignore_eos = 1;
        p.sampling.temperature = 2.0f;
        p.sampling.seed = i == 2 ? 8 : 7;
        assert_int_equal(kvr_session_prompt(rig_lead(&r), &p), KVR_OK);
        rig_run(&r, &a[i]);
    }
    assert_true(rig_same(&model, &a[0], &a[1]));
    assert_false(rig_same(&model, &a[0], &a[2]));
    for (uint32_t i = 0; i < 3; i++) rig_answer_free(&a[i]);
    rig_close(&r);
    rig_model_close(&model);
}

/* Row invariance through the whole model: how a prompt is cut into micro-batches must not show. */
static void the_batch_size_does_not_show_in_a_single_bit(void **state) {
    (void)state;
    enum { N = 150 };
    static const uint32_t batches[] = {1, 3, 63, 64, 65, 149, 150, 256},
                          dtypes[] = {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    int32_t ids[N];
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        gguf_shape shape = RIG_TINY;
        rig_model model;
        rig_answer truth, a;
        shape.dtype = dtypes[d];
        rig_model_make(&model, &shape);
        rig_ids(ids, N, model.info->n_vocab, d);
        rig_single(&model, NULL, ids, N, 10, &truth);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const kvr_config config = {.batch_tokens = batches[b]};
            rig_single(&model, &config, ids, N, 10, &a);
            assert_true(rig_same(&model, &a, &truth));
            rig_answer_free(&a);
        }
        rig_answer_free(&truth);
        rig_model_close(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_greedy_ids_agree_with_llama_cpp),
        cmocka_unit_test(prompts_of_every_length_agree_with_llama_cpp),
        cmocka_unit_test(five_hundred_greedy_ids_agree),
        cmocka_unit_test(events_come_in_order_and_progress_only_grows),
        cmocka_unit_test(logits_of_all_tokens_are_those_of_each_prefix),
        cmocka_unit_test(logits_from_a_position_are_the_last_of_all),
        cmocka_unit_test(no_new_tokens_is_prefill_only_and_one_is_one),
        cmocka_unit_test(eos_ends_the_answer_unless_ignored),
        cmocka_unit_test(a_context_is_filled_to_its_last_place),
        cmocka_unit_test(a_wrong_prompt_is_refused_and_the_next_one_is_answered),
        cmocka_unit_test(a_call_that_is_refused_says_why),
        cmocka_unit_test(idle_never_blocks_in_the_device_and_run_may),
        cmocka_unit_test(a_prompt_longer_than_this_boards_chunk_is_refused),
        cmocka_unit_test(a_prompt_while_one_is_under_way_changes_nothing),
        cmocka_unit_test(weights_that_are_no_numbers_are_named),
        cmocka_unit_test(a_stop_after_any_number_of_polls_leaves_the_next_answer_right),
        cmocka_unit_test(kept_tokens_do_not_show_in_a_single_bit),
        cmocka_unit_test(only_cached_tokens_of_the_same_ids_are_kept),
        cmocka_unit_test(run_ends_when_its_callback_says_so),
        cmocka_unit_test(questions_in_a_row_are_answered_like_fresh_ones),
        cmocka_unit_test(the_same_seed_gives_the_same_text),
        cmocka_unit_test(the_batch_size_does_not_show_in_a_single_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
