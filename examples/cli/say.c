#include "say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int quiet;        /* set once at start-up */
static int output_errno; /* of the first failed write to stdout */

int say_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("kvr: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILED;
}

int say_usage(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("kvr: ", stderr);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; see 'kvr %s%s--help'\n", command ? command : "", command ? " " : "");
    va_end(args);
    return EXIT_USAGE;
}

void say_note(const char *format, ...) {
    if (quiet) return;
    va_list args;
    va_start(args, format);
    fputs("kvr: note: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void say_be_quiet(void) {
    quiet = 1;
}

int say_kvr_error(const char *what, const kvr_error *error) {
    char line[512];
    kvr_error_format(error, line, sizeof line);
    const int of_device = error->status == KVR_ERR_DEVICE || error->status == KVR_ERR_NO_DEVICE;
    const int offers = strstr(line, "-d reference") != NULL || strstr(what, "-d reference") != NULL;
    return say_error("%s: %s%s", what, line, of_device && !offers ? "; -d reference works without OpenCL" : "");
}

int say_flush_output(void) {
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && output_errno == 0) output_errno = errno ? errno : EIO;
    return output_errno;
}

int say_finish_output(int exit_code) {
    if (say_flush_output() == 0) return exit_code;
    if (exit_code != EXIT_OK) return exit_code;
    if (output_errno == EPIPE) return EXIT_FAILED;
    return say_error("cannot write the output: %s; free some space or choose another file", strerror(output_errno));
}
