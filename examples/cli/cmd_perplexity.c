/* kvr perplexity: how surprised a model is by a text, by llama.cpp's definition, so that figures compare. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "commands.h"
#include "say.h"
#include "text_input.h"

static const command_help HELP = {
    "perplexity", "-m FILE -f TEXT [-c N] [--chunks N]",
    "Scores a text: exp of the mean negative log-likelihood of its tokens, each given those before it in its chunk.",
    "As llama.cpp does it: the text is cut into chunks of -c tokens, each starts with BOS where the model wants one "
    "(in the place of its first token), and the tokens of its second half are scored. Prints the running value after "
    "each chunk."};
static const option_id ACCEPTS[] = {OPT_MODEL, OPT_TEXT_FILE, OPT_CHUNK_TOKENS, OPT_CHUNKS, OPT_DEVICE, OPT_THREADS,
                                    OPT_KV,    OPT_GEMM,      OPT_PRECISION,    OPT_BATCH,  OPT_WIRE_KV, OPT_END};

enum { DEFAULT_CHUNK_TOKENS = 512 };

/* Negative log-likelihoods so far. */
typedef struct score {
    const kvr_session *session;
    const int32_t *ids; /* of this chunk */
    uint32_t n_ids, n_vocab;
    uint64_t n;
    double sum, sum_of_squares;
    int is_broken; /* a logit was no number */
} score;

/* -log softmax(logits)[id], summed in double. */
static double surprise(const float *logits, uint32_t n_vocab, int32_t id) {
    float most = logits[0];
    double sum = 0;
    for (uint32_t i = 1; i < n_vocab; i++)
        if (logits[i] > most) most = logits[i];
    for (uint32_t i = 0; i < n_vocab; i++) sum += (double)expf(logits[i] - most);
    return log(sum) - (double)(logits[id] - most);
}

static int on_event(void *user, const kvr_event *event) {
    score *s = user;
    if (event->kind != KVR_EVENT_LOGITS || event->position + 1 >= s->n_ids) return 0; /* nothing follows the last one */
    const double nll = surprise(kvr_session_logits(s->session), s->n_vocab, s->ids[event->position + 1]);
    if (!isfinite(nll)) {
        s->is_broken = 1;
        return 1;
    }
    s->n++;
    s->sum += nll;
    s->sum_of_squares += nll * nll;
    return 0;
}

static int score_chunk(chain *c, int32_t *ids, uint32_t n_ids, score *s) {
    const kvr_model_info *info = kvr_model_get_info(c->e.model);
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.sampling.struct_bytes = sizeof prompt.sampling;
    prompt.ids = ids;
    prompt.n_ids = n_ids;
    prompt.n_boards = 1;
    prompt.all_logits = 1;
    prompt.logits_from = n_ids / 2;
    s->ids = ids;
    s->n_ids = n_ids;
    const int32_t own = ids[0];
    if (info->add_bos && info->bos_id >= 0) ids[0] = info->bos_id;
    const int code = chain_answer(c, &prompt, on_event, s);
    ids[0] = own;
    return code;
}

static int score_text(chain *c, const options *opt, int32_t *ids, size_t n_ids, uint32_t chunk_tokens) {
    score s;
    uint64_t n_chunks = n_ids / chunk_tokens;
    if (opt->chunks != 0 && opt->chunks < n_chunks) n_chunks = opt->chunks;
    memset(&s, 0, sizeof s);
    s.session = c->e.session;
    s.n_vocab = kvr_model_get_info(c->e.model)->n_vocab;
    printf("perplexity: %zu tokens, %llu chunks of %u, %s\n", n_ids, (unsigned long long)n_chunks, chunk_tokens,
           device_name(c->e.dev));
    for (uint64_t i = 0; i < n_chunks; i++) {
        int code = score_chunk(c, ids + i * chunk_tokens, chunk_tokens, &s);
        if (code == EXIT_OK && s.is_broken)
            code = say_error("the text cannot be scored: the model produced a value that is not a number: the file's "
                             "weights are damaged; get the file again");
        if (code != EXIT_OK) return code;
        printf("[%llu]%.4f,", (unsigned long long)(i + 1), exp(s.sum / (double)s.n));
        code = say_finish_output(EXIT_OK); /* a chunk takes a while: show what is known */
        if (code != EXIT_OK) return code;
    }
    const double mean = s.sum / (double)s.n;
    const double variance = s.sum_of_squares / (double)s.n - mean * mean;
    const double error = s.n > 1 && variance > 0 ? sqrt(variance / (double)(s.n - 1)) : 0;
    printf("\nFinal estimate: PPL = %.4f +/- %.5f\n", exp(mean), exp(mean) * error);
    return EXIT_OK;
}

/* At least two chunks of a text, as llama.cpp wants it. */
static int read_ids(const options *opt, const kvr_model *model, uint32_t chunk_tokens, int32_t **out_ids,
                    size_t *out_n) {
    char *text = NULL;
    size_t bytes = 0;
    int code = text_input_read(opt->file, &text, &bytes);
    if (code != EXIT_OK) return code;
    if (bytes > 0 && text[bytes - 1] == '\n') bytes--; /* llama.cpp drops it, too */
    code = text_input_encode(model, text, bytes, KVR_TEXT_BOS, out_ids, out_n);
    free(text);
    if (code == EXIT_OK && *out_n < 2 * (size_t)chunk_tokens)
        return say_error("'%s' has %zu tokens, two chunks want %zu: lower -c, or give a longer text", opt->file, *out_n,
                         2 * (size_t)chunk_tokens);
    return code;
}

int cmd_perplexity(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    if (opt.file == NULL) return say_usage(HELP.name, "no text given: use -f FILE");
    const uint32_t chunk_tokens = opt.ctx_tokens ? opt.ctx_tokens : DEFAULT_CHUNK_TOKENS;

    chain c = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    code = engine_open_model(&c.e, opt.model);
    if (code == EXIT_OK) code = read_ids(&opt, c.e.model, chunk_tokens, &ids, &n_ids);
    if (code == EXIT_OK) code = chain_open(&c, &opt, 1, chunk_tokens);
    if (code == EXIT_OK) code = score_text(&c, &opt, ids, n_ids, chunk_tokens);
    chain_close(&c);
    free(ids);
    return code;
}
