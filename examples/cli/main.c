/*
 * kvr - language models on chains of edge boards, from the command line.
 *
 * Exit codes: 0 done, 1 a failure (one sentence on stderr), 2 wrong usage, 128 + n after signal n.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "kvr/kvr_version.h"
#include "limits.h"
#include "say.h"
#include "signals.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} command;

static const command COMMANDS[] = {
    {"info", cmd_info, "what a model file says of itself"},
    {"plan", cmd_plan, "the memory a model wants, before anything is taken"},
    {"devices", cmd_devices, "what can compute here"},
    {"tokenize", cmd_tokenize, "text on stdin to token ids"},
    {"eval", cmd_eval, "logits and greedy ids of a prompt given as ids"},
    {"perplexity", cmd_perplexity, "score a text"},
    {"run", cmd_run, "answer a prompt, on one board or on a chain"},
    {"chat", cmd_chat, "a conversation, on one board or on a chain"},
    {"board", cmd_board, "be a helper of a chain"},
    {"keygen", cmd_keygen, "make the keys of a board"},
    {"bench", cmd_bench, "measure tokens per second and the time to the first token"},
    {"tune", cmd_tune, "measure a device once, and keep what is fastest on it"},
};
#define N_COMMANDS (sizeof COMMANDS / sizeof COMMANDS[0])

static void print_help(void) {
    printf("usage: kvr COMMAND [options]\n\ncommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) printf("  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    printf("\n'kvr COMMAND --help' lists the options of a command; 'kvr --version' tells the version.\n");
}

/* A standard stream that was closed (">&-") leaves a number that the next file or libzmq's eventfd would get, and then
 * what is printed would go there. It is taken here, the wrong way round, so that using it stays an error (EBADF). */
static void occupy_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
    occupy_standard_streams();
    const int end = limits_begin();
    if (end != LIMITS_GO_ON) return end;
    signals_ignore_pipe();
    if (argc < 2) return say_usage(NULL, "no command given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return say_finish_output(EXIT_OK);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("kvr %s\n", KVR_VERSION);
        return say_finish_output(EXIT_OK);
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], COMMANDS[i].name) == 0) return say_finish_output(COMMANDS[i].run(argc - 1, argv + 1));
    return say_usage(NULL, "no command '%.60s'", argv[1]);
}
