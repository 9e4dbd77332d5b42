/* kvr keygen: a pair of keys for one board. */
#include "commands.h"
#include "keys.h"
#include "say.h"

static const command_help HELP = {
    "keygen", "FILE [--name NAME]",
    "Makes the keys of a board: the secret one in FILE (readable by you only), the public one in FILE.pub and on "
    "stdout.",
    "With keys, frames between boards are encrypted and strangers are turned away:\n"
    "  kvr keygen board.key                                              # on each board\n"
    "  cat *.pub > boards.allowed                                        # once; copy it to each board\n"
    "  kvr board -m FILE --key board.key --allowed boards.allowed --listen tcp://*:7000       # on each helper\n"
    "  kvr run -m FILE --key board.key --allowed boards.allowed --boards tcp://10.0.0.2:7000@rpi1 ...\n"
    "Or one key for all boards: copy board.key itself to each and leave --allowed out. That is shorter, but a board "
    "that is lost then takes everyone's key with it."};
static const option_id ACCEPTS[] = {OPT_OPERAND, OPT_KEY_NAME, OPT_END};

int cmd_keygen(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    if (code != OPTIONS_DONE) return code;
    if (opt.operand == NULL || opt.operand[0] == '\0')
        return say_usage(HELP.name, "no file given: use 'kvr keygen board.key'");
    return keys_make(opt.operand, opt.name);
}
