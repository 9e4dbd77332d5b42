#define _POSIX_C_SOURCE 200809L
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"

#ifdef KVR_HAVE_ZMQ
#include "kvr/kvr_zmq.h"

#define SECRET_WORD "kvr-secret"
enum { FILE_CAP = 64 * 1024, HEX = 2 * KEYS_BYTES };

/* --- reading --------------------------------------------------------------------------------------------------- */

/* The file as text; the caller frees. is_secret: nobody else may be able to read it. */
static int read_file(const char *path, int is_secret, char **out) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd < 0) return say_error("cannot read '%s': %s; check the name", path, strerror(errno));
    int code = EXIT_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        code = say_error("'%s' is no file: name one that 'kvr keygen' wrote", path);
    } else if (is_secret && (info.st_mode & 077) != 0) {
        code = say_error("other users can read the secret key in '%s': 'chmod 600' it, or make a new one", path);
    } else if (info.st_size >= FILE_CAP) {
        code = say_error("'%s' is too long for a file of keys: name one that 'kvr keygen' wrote", path);
    }
    char *text = code == EXIT_OK ? calloc(1, FILE_CAP) : NULL;
    if (code == EXIT_OK && text == NULL) code = say_error("not enough memory for '%s': end other programs", path);
    size_t n = 0;
    while (code == EXIT_OK && n < FILE_CAP - 1) {
        ssize_t got = read(fd, text + n, FILE_CAP - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) code = say_error("cannot read '%s': %s", path, strerror(errno));
        if (got <= 0) break;
        n += (size_t)got;
    }
    close(fd);
    if (code != EXIT_OK) {
        free(text);
        return code;
    }
    *out = text;
    return EXIT_OK;
}

/* Cuts the next line off *at: its first two words, comments left out. 0: no more lines. */
static int next_line(char **at, char *words[2]) {
    static char none[1];
    if (**at == '\0') return 0;
    char *line = *at;
    char *end = strchr(line, '\n');
    *at = end != NULL ? end + 1 : line + strlen(line);
    if (end != NULL) *end = '\0';
    line[strcspn(line, "#")] = '\0';
    for (int i = 0; i < 2; i++) {
        line += strspn(line, " \t\r");
        words[i] = *line != '\0' ? line : none;
        line += strcspn(line, " \t\r");
        if (*line != '\0') *line++ = '\0';
    }
    return 1;
}

static int is_key(const char *text, uint8_t out[KEYS_BYTES]) {
    return strlen(text) == HEX && kvr_zmq_key_parse(text, out) == KVR_OK;
}

static int is_name(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return text[strspn(text, letters)] == '\0' && strlen(text) < KEYS_NAME_CAP;
}

/* Overwrites before it gives back: freed memory may reach a core dump. */
static void forget(char *text) {
    for (volatile char *at = text; at < text + FILE_CAP; at++) *at = 0;
    free(text);
}

static int load_secret(key_ring *k, const char *path) {
    char *text = NULL, *words[2] = {NULL, NULL};
    int code = read_file(path, 1, &text), found = 0;
    if (code != EXIT_OK) return code;
    for (char *at = text; !found && next_line(&at, words);)
        found = strcmp(words[0], SECRET_WORD) == 0 && is_key(words[1], k->secret);
    forget(text);
    if (!found)
        return say_error("'%s' holds no secret key: name the file that 'kvr keygen' wrote, not its .pub", path);
    if (kvr_zmq_key_public(k->secret, k->own) != KVR_OK)
        return say_error("the secret key in '%s' cannot be used: this libzmq was built without CURVE", path);
    k->has_key = 1;
    return EXIT_OK;
}

static int allow(key_ring *k, const char *path, unsigned line, char *words[2]) {
    if (strcmp(words[0], SECRET_WORD) == 0)
        return say_error("'%s' line %u is a secret key: take it out and make that board a new one", path, line);
    if (k->n_allowed == KEYS_MAX_ALLOWED)
        return say_error("'%s' has more than %u keys: leave some out", path, KEYS_MAX_ALLOWED);
    if (!is_key(words[0], k->allowed[k->n_allowed]))
        return say_error("'%s' line %u is not a public key: copy the line that 'kvr keygen' printed", path, line);
    if (!is_name(words[1]))
        return say_error("'%s' line %u: a name has up to %u letters, digits, dots, - and _", path, line,
                         KEYS_NAME_CAP - 1);
    for (uint32_t i = 0; i < k->n_allowed && words[1][0] != '\0'; i++)
        if (strcmp(words[1], k->names[i]) == 0)
            return say_error("'%s' line %u: the name '%s' stands there twice; rename one of them", path, line,
                             words[1]);
    strcpy(k->names[k->n_allowed++], words[1]);
    return EXIT_OK;
}

static int load_allowed(key_ring *k, const char *path) {
    char *text = NULL, *words[2] = {NULL, NULL};
    unsigned line = 0;
    int code = read_file(path, 0, &text);
    if (code != EXIT_OK) return code;
    for (char *at = text; code == EXIT_OK && next_line(&at, words);) {
        line++;
        if (words[0][0] != '\0') code = allow(k, path, line, words);
    }
    forget(text);
    if (code == EXIT_OK && k->n_allowed == 0)
        return say_error("'%s' allows no board: put the .pub lines of all boards into it", path);
    k->has_list = 1;
    return code;
}

int keys_load(key_ring *k, const options *opt) {
    memset(k, 0, sizeof *k);
    if (opt->key == NULL && opt->allowed != NULL)
        return say_error("--allowed needs --key: a board has a key of its own to be known by ('kvr keygen FILE')");
    if (opt->key == NULL) return EXIT_OK;
    int code = load_secret(k, opt->key);
    if (code == EXIT_OK && opt->allowed != NULL) code = load_allowed(k, opt->allowed);
    return code;
}

/* --- addresses ------------------------------------------------------------------------------------------------- */

static const uint8_t *key_named(const key_ring *k, const char *name, size_t n) {
    for (uint32_t i = 0; i < k->n_allowed; i++)
        if (n > 0 && strlen(k->names[i]) == n && memcmp(k->names[i], name, n) == 0) return k->allowed[i];
    return NULL;
}

/* Boards talk both ways, so who is called must be let in. */
static int is_allowed(const key_ring *k, const uint8_t *key) {
    for (uint32_t i = 0; i < k->n_allowed; i++)
        if (memcmp(k->allowed[i], key, KEYS_BYTES) == 0) return 1;
    return !k->has_list && memcmp(k->own, key, KEYS_BYTES) == 0;
}

/* "tcp://rpi1:7000" -> "rpi1" */
static const char *host_of(const char *address, size_t *out_n) {
    const char *host = strncmp(address, "tcp://", 6) == 0 ? address + 6 : address;
    *out_n = strcspn(host, ":");
    return host;
}

int keys_resolve(const key_ring *k, const char *typed, char out[KVR_ADDRESS_CAP]) {
    const char *at = strchr(typed, '@');
    const size_t n = at != NULL ? (size_t)(at - typed) : strlen(typed);
    uint8_t given[KEYS_BYTES];
    const uint8_t *key = NULL;
    size_t host_n = 0;
    const char *host = host_of(typed, &host_n);
    if (n >= KVR_ADDRESS_CAP || (k->has_key && n + 1 + HEX >= KVR_ADDRESS_CAP))
        return say_error("the address '%.40s...' is too long: use a numeric one", typed);
    if (!k->has_key && at != NULL)
        return say_error("'%s' names a key, and this board has none: give --key FILE ('kvr keygen FILE' makes one)",
                         typed);
    memcpy(out, typed, n);
    out[n] = '\0';
    if (!k->has_key) return EXIT_OK;
    if (at != NULL && is_key(at + 1, given)) key = given;
    else if (at != NULL) key = key_named(k, at + 1, strlen(at + 1));
    else key = k->has_list ? key_named(k, host, host_n) : k->own;
    if (key == NULL && at != NULL)
        return say_error("'%s': no key named '%s' in --allowed; its lines read 'KEY name'", typed, at + 1);
    if (key == NULL)
        return say_error("which key has the board at '%s'? Name a line of --allowed behind it, as in %s@rpi1", typed,
                         typed);
    if (!is_allowed(k, key))
        return say_error("'%s': this key is not in --allowed, so the board there could not answer: add the line of its "
                         "FILE.pub",
                         typed);
    out[n] = '@';
    kvr_zmq_key_format(key, out + n + 1);
    return EXIT_OK;
}

/* Without "@NAME". */
static const char *plain_address(const char *typed, char out[KVR_ADDRESS_CAP]) {
    snprintf(out, KVR_ADDRESS_CAP, "%.*s", (int)strcspn(typed, "@"), typed);
    return out;
}

int keys_is_loopback(const char *address) {
    char plain[KVR_ADDRESS_CAP];
    return kvr_zmq_is_loopback(plain_address(address, plain));
}

int keys_check_address(const key_ring *k, const options *opt, const char *address, int to_listen) {
    char plain[KVR_ADDRESS_CAP];
    if (strlen(address) < sizeof plain && !kvr_zmq_is_address(plain_address(address, plain), to_listen))
        return say_error("'%s' is no address: write tcp://HOST:PORT, as in tcp://%s:7000, PORT up to 65535", address,
                         to_listen ? "*" : "10.0.0.2");
    if (k->has_key || opt->insecure || keys_is_loopback(address)) return EXIT_OK;
    return say_error("'%s' is beyond this machine and this board has no key: make one with 'kvr keygen FILE' and give "
                     "--key FILE, or say --insecure if you trust everyone who can reach it",
                     address);
}

/* --- making ---------------------------------------------------------------------------------------------------- */

/* Writes a new file; -1 and errno on failure, and then there is none. */
static int write_new(const char *path, mode_t mode, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) return -1;
    const size_t n = strlen(text);
    const int written = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    const int why = errno;
    if (close(fd) == 0 && written) return 0;
    unlink(path);
    errno = why != 0 ? why : EIO;
    return -1;
}

int keys_make(const char *path, const char *name) {
    uint8_t secret[KEYS_BYTES], own[KEYS_BYTES];
    char secret_text[KVR_ZMQ_KEY_TEXT], own_text[KVR_ZMQ_KEY_TEXT];
    char line[KVR_ZMQ_KEY_TEXT + KEYS_NAME_CAP + 16], pub[4096];
    char host[KEYS_NAME_CAP] = "";
    if (name == NULL) {
        if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
        name = is_name(host) ? host : "";
    }
    if (!is_name(name))
        return say_error("'%.80s' is no name for a key: up to %u letters, digits, dots, - and _", name,
                         KEYS_NAME_CAP - 1);
    if ((size_t)snprintf(pub, sizeof pub, "%s.pub", path) >= sizeof pub)
        return say_error("the name of the file is too long: choose a shorter one");
    if (access(pub, F_OK) == 0) return say_error("'%s' is there already: choose another name, or delete it", pub);
    if (kvr_zmq_key_make(secret, own) != KVR_OK)
        return say_error("this libzmq was built without CURVE: install one with libsodium");
    kvr_zmq_key_format(secret, secret_text);
    kvr_zmq_key_format(own, own_text);
    snprintf(line, sizeof line, "%s %s\n", SECRET_WORD, secret_text);
    if (write_new(path, 0600, line) != 0)
        return say_error("cannot write '%s': %s; choose another name", path, strerror(errno));
    snprintf(line, sizeof line, "%s%s%s\n", own_text, name[0] ? " " : "", name);
    if (write_new(pub, 0644, line) != 0) {
        int why = errno;
        unlink(path);
        return say_error("cannot write '%s': %s; choose another name", pub, strerror(why));
    }
    fputs(line, stdout);
    say_note("the secret key is in '%s': it stays on this board. The line above, also in '%s', is for the lists of the "
             "other boards (--allowed)",
             path, pub);
    return EXIT_OK;
}

#else
int keys_load(key_ring *k, const options *opt) {
    memset(k, 0, sizeof *k);
    if (opt->key == NULL && opt->allowed == NULL) return EXIT_OK;
    return say_error("this kvr was built without ZeroMQ and has no use for keys; build it with -DKVR_WITH_ZMQ=ON");
}

int keys_resolve(const key_ring *k, const char *typed, char out[KVR_ADDRESS_CAP]) {
    (void)k;
    snprintf(out, KVR_ADDRESS_CAP, "%s", typed);
    return EXIT_OK;
}

int keys_is_loopback(const char *address) {
    (void)address;
    return 0;
}

int keys_check_address(const key_ring *k, const options *opt, const char *address, int to_listen) {
    (void)k, (void)opt, (void)address, (void)to_listen;
    return EXIT_OK;
}

int keys_make(const char *path, const char *name) {
    (void)path, (void)name;
    return say_error("this kvr was built without ZeroMQ and makes no keys; build it with -DKVR_WITH_ZMQ=ON");
}
#endif
