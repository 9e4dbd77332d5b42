/* port/posix: clock, mapped files with every way they fail, log. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct rig {
    kvr_port port;
    kvr_error error;
    const void *data;
    size_t bytes;
    char dir[256];
    char path[300];
} rig;

static int set_up(void **state) {
    static rig r;
    memset(&r, 0, sizeof r);
    kvr_posix_port(&r.port);
    const char *tmp = getenv("TMPDIR");
    snprintf(r.dir, sizeof r.dir, "%s/kvr-posix-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(r.dir) == NULL) return -1;
    snprintf(r.path, sizeof r.path, "%s/model.gguf", r.dir);
    *state = &r;
    return 0;
}

static int tear_down(void **state) {
    rig *const r = *state;
    unlink(r->path);
    return rmdir(r->dir);
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static kvr_status map(rig *r, const char *path) {
    memset(&r->error, 0, sizeof r->error);
    return r->port.map(r->port.user, path, &r->data, &r->bytes, &r->error);
}

static void a_file_is_mapped_whole_and_unmapped(void **state) {
    rig *const r = *state;
    write_file(r->path, "GGUF and more");
    assert_int_equal(map(r, r->path), KVR_OK);
    assert_int_equal(r->bytes, 13);
    assert_memory_equal(r->data, "GGUF and more", 13);
    assert_int_equal(r->error.status, KVR_OK);
    r->port.unmap(r->port.user, r->data, r->bytes);
}

static void released_pages_are_read_again(void **state) {
    rig *const r = *state;
    write_file(r->path, "still here");
    assert_int_equal(map(r, r->path), KVR_OK);
    assert_memory_equal(r->data, "still here", 10);
    kvr_posix_release_pages(r->data, r->bytes);
    kvr_posix_release_pages(NULL, 0);
    assert_memory_equal(r->data, "still here", 10);
    r->port.unmap(r->port.user, r->data, r->bytes);
}

static void a_missing_file_is_named_with_its_errno(void **state) {
    rig *const r = *state;
    assert_int_equal(map(r, r->path), KVR_ERR_IO);
    assert_int_equal(r->error.status, KVR_ERR_IO);
    assert_int_equal(r->error.native, ENOENT);
    assert_string_equal(r->error.module, "posix");
    assert_non_null(strstr(r->error.text, "no such file"));
    assert_non_null(strstr(r->error.detail, "model.gguf"));
    assert_null(r->data);
}

static void a_directory_is_not_a_model(void **state) {
    rig *const r = *state;
    assert_int_equal(map(r, r->dir), KVR_ERR_IO);
    assert_int_equal(r->error.native, EISDIR);
    assert_non_null(strstr(r->error.text, "directory"));
}

static void an_empty_file_is_truncated(void **state) {
    rig *const r = *state;
    write_file(r->path, "");
    assert_int_equal(map(r, r->path), KVR_ERR_TRUNCATED);
    assert_non_null(strstr(r->error.text, "empty"));
    assert_non_null(strstr(r->error.detail, "model.gguf"));
}

static void a_fifo_is_refused_without_waiting_for_a_writer(void **state) {
    rig *const r = *state;
    assert_int_equal(mkfifo(r->path, 0600), 0);
    assert_int_equal(map(r, r->path), KVR_ERR_IO);
    assert_int_equal(r->error.native, ENODEV);
}

static void a_file_without_permission_is_named(void **state) {
    rig *const r = *state;
    write_file(r->path, "GGUF");
    assert_int_equal(chmod(r->path, 0), 0);
    const int was_root = geteuid() == 0; /* root reads everything: be somebody else for one call */
    if (was_root && (chmod(r->dir, 0755) != 0 || seteuid(65534) != 0)) {
        print_message("skipped: root cannot become another user here\n");
        skip();
    }
    const kvr_status status = map(r, r->path);
    if (was_root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, KVR_ERR_IO);
    assert_int_equal(r->error.native, EACCES);
    assert_non_null(strstr(r->error.text, "permission"));
}

static void of_a_long_path_the_end_is_told_and_made_printable(void **state) {
    rig *const r = *state;
    char path[256];
    memset(path, 'd', sizeof path);
    memcpy(path + 150, "/\033[31m.gguf", sizeof "/\033[31m.gguf");
    assert_int_equal(map(r, path), KVR_ERR_IO);
    assert_int_equal(strlen(r->error.detail), sizeof r->error.detail - 1);
    assert_non_null(strstr(r->error.detail, "/?[31m.gguf"));
}

static void the_first_error_stays(void **state) {
    rig *const r = *state;
    kvr_error error = {.status = KVR_ERR_KEY, .module = "model", .text = "first"};
    assert_int_equal(r->port.map(r->port.user, r->path, &r->data, &r->bytes, &error), KVR_ERR_IO);
    assert_string_equal(error.text, "first");
    assert_int_equal(r->port.map(r->port.user, r->path, &r->data, &r->bytes, NULL), KVR_ERR_IO);
}

static void a_missing_argument_is_refused(void **state) {
    rig *const r = *state;
    assert_int_equal(map(r, NULL), KVR_ERR_ARG);
    assert_int_equal(r->port.map(r->port.user, r->path, NULL, &r->bytes, NULL), KVR_ERR_ARG);
}

static void the_clock_never_goes_back(void **state) {
    rig *const r = *state;
    uint64_t last = r->port.now_us(r->port.user);
    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = r->port.now_us(r->port.user);
        assert_true(now >= last);
        last = now;
    }
    r->port.idle(r->port.user, 0);
    r->port.idle(r->port.user, 1);
}

static void a_log_line_is_one_line_and_cannot_drive_a_terminal(void **state) {
    rig *const r = *state;
    assert_null(r->port.log);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    const int saved = dup(STDERR_FILENO);
    assert_true(saved >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
    kvr_posix_log_stderr(NULL, KVR_LOG_WARN, "zmq", "red \033[31m\nand \x9b" "2Jmore");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    char line[128] = {0};
    assert_true(read(ends[0], line, sizeof line - 1) > 0);
    close(ends[0]);
    assert_string_equal(line, "kvr: warning: zmq: red ?[31m?and ?2Jmore\n");
}

static void memory_with_large_pages_keeps_what_is_in_it(void **state) {
    rig *r = *state;
    const size_t bytes = 8u << 20;
    unsigned char *memory = malloc(bytes);
    assert_non_null(memory);
    for (size_t i = 0; i < bytes; i++) memory[i] = (unsigned char)(i * 7u);
    r->port.large_pages(r->port.user, memory, bytes);
    r->port.large_pages(r->port.user, memory + 12345, 1);
    r->port.large_pages(r->port.user, memory + bytes - 1, 1);
    r->port.large_pages(r->port.user, NULL, 0);
    for (size_t i = 0; i < bytes; i++)
        if (memory[i] != (unsigned char)(i * 7u)) fail_msg("byte %zu", i);
    free(memory);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_file_is_mapped_whole_and_unmapped),
        T(released_pages_are_read_again),
        T(a_missing_file_is_named_with_its_errno),
        T(a_directory_is_not_a_model),
        T(an_empty_file_is_truncated),
        T(a_fifo_is_refused_without_waiting_for_a_writer),
        T(a_file_without_permission_is_named),
        T(of_a_long_path_the_end_is_told_and_made_printable),
        T(the_first_error_stays),
        T(a_missing_argument_is_refused),
        T(the_clock_never_goes_back),
        T(memory_with_large_pages_keeps_what_is_in_it),
        T(a_log_line_is_one_line_and_cannot_drive_a_terminal),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
