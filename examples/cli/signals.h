/*
 * signals.h - SIGINT and SIGTERM become a question that loops ask; SIGPIPE becomes a failed write.
 */
#ifndef KVR_CLI_SIGNALS_H
#define KVR_CLI_SIGNALS_H

/* SIGPIPE is ignored from here on: a closed stdout shows up as EPIPE. */
void signals_ignore_pipe(void);
/* From here on the first SIGINT or SIGTERM is only noted; a second one of its kind ends the process at once. */
void signals_catch(void);
/* Another process passes on signals which may have come here, too. */
void signals_are_repeated(void);
/* The signal that asked to stop; 0 = none. */
int signals_caught(void);
/* Forgets it and catches the next one again. */
void signals_forget(void);

#endif
