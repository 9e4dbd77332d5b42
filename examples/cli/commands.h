/*
 * commands.h - one function per command; argv[0] is the command's name. Each returns an exit code.
 */
#ifndef KVR_CLI_COMMANDS_H
#define KVR_CLI_COMMANDS_H

int cmd_info(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_board(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_tune(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_bench_paper(int argc, char **argv); /* kvr bench --paper */

#endif
