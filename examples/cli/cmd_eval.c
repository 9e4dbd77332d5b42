/* kvr eval: logits and greedy ids, in a form that other implementations can be compared with. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "commands.h"
#include "say.h"
#include "text_input.h"

static const command_help HELP = {
    "eval", "-m FILE --ids A,B,... -n N",
    "Writes one line of logits for every prompt token and every greedy token fed back, then the N greedy ids.",
    "Each line: step, the token fed, the five largest logits, the sum of all logits and of their squares. A chain "
    "computes no logits before the last prompt token, so its first line is that step; --from-prefill makes one board "
    "do the same."};
static const option_id ACCEPTS[] = {OPT_MODEL,
                                    OPT_IDS,
                                    OPT_N,
                                    OPT_CONTEXT,
                                    OPT_DEVICE,
                                    OPT_THREADS,
                                    OPT_KV,
                                    OPT_GEMM, OPT_PRECISION,
                                    OPT_BATCH,
                                    OPT_GREEDY_ONLY,
                                    OPT_FROM_PREFILL,
                                    OPT_RAW,
                                    OPT_LOCAL_BOARDS,
                                    OPT_STRATEGY,
                                    OPT_BOARD_CORES,
                                    OPT_BOARDS,
                                    OPT_LISTEN_LEAD, OPT_KEY, OPT_ALLOWED, OPT_INSECURE,
                                    OPT_PARTITION,
                                    OPT_BOARD_TIMEOUT,
                                    OPT_START_TIMEOUT,
                                    OPT_VERBOSE,
                                    OPT_WIRE_KV, OPT_KV_WINDOW, OPT_CHUNK, OPT_END};

enum { N_TOP = 5 };

typedef struct listing {
    const kvr_session *session;
    uint32_t n_vocab, n_prompt, n_new, cap_new;
    const int32_t *ids; /* of the prompt */
    int32_t *greedy;    /* [cap_new] */
    uint32_t next_step; /* lowest that was not printed yet */
    int steps;          /* print them */
    FILE *raw;          /* NULL = none */
} listing;

/* The five largest, the lowest id first among equals. */
static void find_top(const float *logits, uint32_t n_vocab, uint32_t *out_ids, uint32_t *out_n) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < n_vocab; id++) {
        uint32_t at = n;
        while (at > 0 && logits[id] > logits[out_ids[at - 1]]) at--;
        if (at >= N_TOP) continue;
        if (n < N_TOP) n++;
        for (uint32_t i = n - 1; i > at; i--) out_ids[i] = out_ids[i - 1];
        out_ids[at] = id;
    }
    *out_n = n;
}

static void print_step(const listing *list, uint32_t step, int32_t id, const float *logits) {
    uint32_t top[N_TOP], n_top = 0;
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < list->n_vocab; i++) {
        sum += (double)logits[i];
        squares += (double)logits[i] * (double)logits[i];
    }
    find_top(logits, list->n_vocab, top, &n_top);
    printf("step %u token %d top", step, id);
    for (uint32_t i = 0; i < n_top; i++) printf(" %u:%.6f", top[i], (double)logits[top[i]]);
    printf(" sum %.6f sq %.6f\n", sum, squares);
}

static int write_raw(FILE *file, const float *logits, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &logits[i], sizeof bits);
        unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                                  (unsigned char)(bits >> 24)};
        if (fwrite(bytes, 1, sizeof bytes, file) != sizeof bytes) return 0;
    }
    return 1;
}

static int on_event(void *user, const kvr_event *event) {
    listing *list = user;
    if (event->kind == KVR_EVENT_TOKEN && list->n_new < list->cap_new) list->greedy[list->n_new++] = event->id;
    if (event->kind != KVR_EVENT_LOGITS || event->position < list->next_step) return 0;
    uint32_t step = event->position;
    list->next_step = step + 1;
    if (step >= list->n_prompt + list->n_new) return 0;
    int32_t id = step < list->n_prompt ? list->ids[step] : list->greedy[step - list->n_prompt];
    const float *logits = kvr_session_logits(list->session);
    if (list->steps) print_step(list, step, id, logits);
    if (say_flush_output() != 0) return 1; /* nobody reads any more */
    return list->raw != NULL && !write_raw(list->raw, logits, list->n_vocab);
}

static int evaluate(chain *c, const options *opt, const int32_t *ids, uint32_t n_ids, listing *list) {
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.sampling.struct_bytes = sizeof prompt.sampling;
    prompt.ids = ids;
    prompt.n_ids = n_ids;
    prompt.max_new_tokens = opt->n;
    prompt.ignore_eos = 1;
    prompt.all_logits = c->n_boards == 1 && opt->local_boards == 0 && !opt->from_prefill && list->steps;
    chain_fill_prompt(c, opt, &prompt);
    list->session = c->e.session;
    list->n_vocab = kvr_model_get_info(c->e.model)->n_vocab;
    int code = chain_answer(c, &prompt, on_event, list);
    if (list->raw != NULL && (fflush(list->raw) != 0 || ferror(list->raw)))
        return say_error("cannot write '%s': %s; free some space", opt->raw, strerror(errno));
    if (code != EXIT_OK || say_flush_output() != 0) return code;
    printf("greedy");
    for (uint32_t i = 0; i < list->n_new; i++) printf(" %d", list->greedy[i]);
    printf("\n");
    if (list->n_new < opt->n)
        return say_error("the context of %u tokens is full after %u greedy ids: raise -c", c->e.plan.ctx_tokens,
                         list->n_new);
    return EXIT_OK;
}

int cmd_eval(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    uint32_t n_boards = 1;
    if (code != OPTIONS_DONE) return code;
    opt.even = opt.partition.n == 0; /* all boards, whatever they can do: it is their arithmetic that counts */
    opt.need_all_boards = 1; /* a figure from fewer boards than asked for would be another one */
    if (opt.ids == NULL) return say_usage(HELP.name, "no prompt given: use --ids 1,2,3");
    if ((code = chain_check_options(&opt, HELP.name, &n_boards)) != EXIT_OK) return code;

    chain c = {0};
    listing list = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    code = engine_open_model(&c.e, opt.model);
    if (code == EXIT_OK) code = text_input_prompt(&opt, c.e.model, &ids, &n_ids);
    uint32_t ctx_tokens = code == EXIT_OK ? engine_ctx_tokens(&c.e, &opt, (uint64_t)n_ids + opt.n) : 0;
    if (code == EXIT_OK) code = engine_check_fits(n_ids, ctx_tokens);
    if (code == EXIT_OK && (list.greedy = malloc(((size_t)opt.n + 1) * sizeof *list.greedy)) == NULL)
        code = say_error("not enough memory for %u ids: lower -n", opt.n);
    if (code == EXIT_OK && opt.raw != NULL && (list.raw = fopen(opt.raw, "wb")) == NULL)
        code = say_error("cannot write '%s': %s; choose another name", opt.raw, strerror(errno));
    if (code == EXIT_OK) code = chain_open(&c, &opt, n_boards, ctx_tokens);
    if (code == EXIT_OK) {
        list.ids = ids;
        list.n_prompt = (uint32_t)n_ids;
        list.cap_new = opt.n;
        list.steps = !opt.greedy_only;
        code = evaluate(&c, &opt, ids, (uint32_t)n_ids, &list);
    }
    chain_close(&c);
    if (list.raw != NULL) fclose(list.raw);
    free(list.greedy);
    free(ids);
    return code;
}
