/* kvr info: architecture, sizes, tensor types, tokenizer. */
#include <stdio.h>

#include "commands.h"
#include "engine.h"
#include "output.h"
#include "say.h"

static const command_help HELP = {"info", "-m FILE",
                                  "Shows what a model file says of itself; the weights are not needed.", NULL};
static const option_id ACCEPTS[] = {OPT_MODEL, OPT_END};

static const char *vocab_kind_name(uint32_t kind) {
    switch ((kvr_vocab_kind)kind) {
    case KVR_VOCAB_NONE: return "none";
    case KVR_VOCAB_SPM: return "SentencePiece (SPM)";
    case KVR_VOCAB_BPE: return "byte-level BPE";
    }
    return "?";
}

static void print_geometry(const kvr_model_info *info) {
    char size[32], count[32];
    printf("parameters      %s\n", output_count(info->n_params, count, sizeof count));
    printf("weights         %s in %u tensors\n", output_size(info->weight_bytes, size, sizeof size), info->n_tensors);
    for (uint32_t i = 0; i < info->n_types && i < KVR_TYPE_KINDS; i++)
        printf("  %-13s %s in %u tensors\n", kvr_dtype_name(info->types[i].dtype),
               output_size(info->types[i].bytes, size, sizeof size), info->types[i].n_tensors);
    printf("layers          %u\n", info->n_layers);
    printf("model dim       %u\n", info->model_dim);
    printf("feed-forward    %u\n", info->ffn_dim);
    printf("heads           %u of %u, %u for keys and values\n", info->n_heads, info->head_dim, info->n_kv_heads);
    printf("trained context %u tokens\n", info->train_ctx_tokens);
    if (info->window_tokens != 0) printf("window          %u tokens in some layers or all\n", info->window_tokens);
    printf("rope            %u dims, base %g, positions divided by %g\n", info->rope_dims, (double)info->rope_base,
           (double)info->rope_scale);
    printf("norm epsilon    %g\n", (double)info->norm_eps);
    printf("output head     %s\n", info->tied_head ? "the token embedding" : "separate");
}

static void print_id(const char *what, int32_t id) {
    if (id >= 0) printf("%-15s %d\n", what, id);
    else printf("%-15s none\n", what);
}

static void print_vocab(const kvr_model_info *info) {
    printf("tokenizer       %s%s%s%s%s\n", vocab_kind_name(info->vocab_kind), info->vocab_model[0] ? ", model " : "",
           info->vocab_model, info->vocab_pre[0] ? ", pre-tokenizer " : "", info->vocab_pre);
    printf("vocabulary      %u tokens, %u merges\n", info->n_vocab, info->n_merges);
    print_id("BOS", info->bos_id);
    print_id("EOS", info->eos_id);
    print_id("unknown", info->unk_id);
    printf("puts in front   %s%s\n", info->add_bos ? "BOS" : "no BOS", info->add_space_prefix ? ", a space" : "");
}

int cmd_info(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    engine e = {0};
    code = engine_open_model(&e, opt.model);
    if (code == EXIT_OK) {
        char size[32];
        const kvr_model_info *info = kvr_model_get_info(e.model);
        printf("file            GGUF version %u, %s\n", info->gguf_version,
               output_size(info->file_bytes, size, sizeof size));
        printf("architecture    %s\n", info->architecture);
        printf("name            %s\n", info->name[0] ? info->name : "(none)");
        printf("fingerprint     %016llx\n", (unsigned long long)info->fingerprint);
        printf("tables          %llu bytes of memory\n", (unsigned long long)info->state_bytes);
        if (info->n_tensors != 0) print_geometry(info);
        else printf("weights         none: a vocabulary-only file\n");
        print_vocab(info);
    }
    engine_close(&e);
    return code;
}
