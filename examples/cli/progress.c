#define _POSIX_C_SOURCE 200809L
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR_COLUMNS = 30 };

void progress_begin(progress *bar) {
    bar->on = isatty(STDERR_FILENO);
    bar->shown = 0;
    bar->permille = 0;
}

void progress_show(progress *bar, uint32_t done, uint32_t total) {
    if (!bar->on || total == 0) return;
    uint32_t permille = (uint32_t)((uint64_t)done * 1000u / total);
    if (bar->shown && permille == bar->permille) return;
    char cells[BAR_COLUMNS + 1];
    for (uint32_t i = 0; i < BAR_COLUMNS; i++) cells[i] = i * 1000u < permille * BAR_COLUMNS ? '#' : '.';
    cells[BAR_COLUMNS] = '\0';
    fprintf(stderr, "\rprompt [%s] %3u %%", cells, permille / 10u);
    fflush(stderr);
    bar->shown = 1;
    bar->permille = permille;
}

void progress_end(progress *bar) {
    if (!bar->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar->shown = 0;
}
