/* kvr tokenize: text on stdin to ids on one line. */
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "engine.h"
#include "say.h"
#include "text_input.h"

static const command_help HELP = {"tokenize", "-m FILE < TEXT",
                                  "Writes the token ids of the text on stdin on one line; no BOS or EOS is added.",
                                  "A vocabulary-only file is enough."};
static const option_id ACCEPTS[] = {OPT_MODEL, OPT_SPECIAL, OPT_END};

int cmd_tokenize(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    engine e = {0};
    char *text = NULL;
    int32_t *ids = NULL;
    size_t bytes = 0, n = 0;
    code = engine_open_model(&e, opt.model);
    if (code == EXIT_OK) code = text_input_read("-", &text, &bytes);
    if (code == EXIT_OK)
        code = text_input_encode(e.model, text, bytes, opt.special ? (uint32_t)KVR_TEXT_SPECIAL : 0u, &ids, &n);
    if (code == EXIT_OK) {
        for (size_t i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
        printf("\n");
    }
    free(ids);
    free(text);
    engine_close(&e);
    return code;
}
