#define _POSIX_C_SOURCE 200809L
#include "signals.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t caught;
static int repeated;

/* The second one of a kind is for a program that does not get round to asking; where signals are repeated, only one of
 * the terminal's is surely a second. */
static void note_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    if (caught == number && (!repeated || info->si_code > 0)) {
        signal(number, SIG_DFL);
        raise(number);
    }
    caught = number;
}

void signals_are_repeated(void) {
    repeated = 1;
}

void signals_ignore_pipe(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

void signals_catch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = note_signal;
    action.sa_flags = (int)SA_SIGINFO;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void signals_forget(void) {
    caught = 0;
    signals_catch();
}

int signals_caught(void) {
    return (int)caught;
}
