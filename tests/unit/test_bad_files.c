/* Every hostile file of the catalogue gets its own sentence; those that are harmless are read and used. */
#include "fenced.h"

#include "bad_files.h"

#include "kvr/kvr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t no_time(void *user) {
    (void)user;
    return 0;
}

static void use_vocabulary(const kvr_model *model) {
    static const char text[] = "a b ab \xC3\xA4\xFF<s>";
    const size_t work_bytes = kvr_text_work_bytes(model, sizeof text);
    const size_t cap = kvr_text_piece_cap(model);
    fenced piece = fenced_alloc(cap);
    void *work = malloc(work_bytes);
    int32_t ids[64];
    size_t n = 0;
    kvr_text_stream stream = {{0}, 0, 0};
    const kvr_status status =
        kvr_text_encode(model, text, sizeof text, KVR_TEXT_SPECIAL, work, work_bytes, ids, 64, &n, NULL);
    assert_true(status == KVR_OK || status == KVR_ERR_TEXT);
    for (int32_t id = 0; id < (int32_t)kvr_model_get_info(model)->n_vocab; id++)
        assert_int_equal(kvr_text_decode(model, &stream, id, (char *)piece.at, cap, &n), KVR_OK);
    uint32_t family = 0;
    const kvr_status found = kvr_chat_of_model(model, &family, NULL);
    assert_true(found == KVR_OK || found == KVR_ERR_UNSUPPORTED);
    free(work);
    fenced_free(&piece);
}

static void use_weights(const kvr_model *model) {
    kvr_cpu cpu = {NULL};
    kvr_backend backend;
    kvr_plan plan;
    kvr_config config = {0};
    kvr_session *session = NULL;
    kvr_port port = {0};
    kvr_prompt prompt = {0};
    const int32_t ids[3] = {1, 11, 5};
    port.now_us = no_time;
    config.struct_bytes = sizeof config;
    kvr_cpu_backend(&cpu, &backend);
    assert_int_equal(kvr_plan_make(model, &config, &backend, &plan, NULL), KVR_OK);
    const size_t bytes = (size_t)plan.region_bytes[KVR_REGION_SESSION];
    assert_int_equal(bytes % 64, 0);
    fenced mem = fenced_alloc(bytes);
    assert_int_equal(kvr_session_open(mem.at, bytes, model, &config, &backend, &port, &session, NULL), KVR_OK);
    prompt.struct_bytes = sizeof prompt;
    prompt.n_ids = 3;
    prompt.ids = ids;
    prompt.max_new_tokens = 2;
    assert_int_equal(kvr_session_prompt(session, &prompt), KVR_OK);
    const kvr_status status = kvr_session_run(session, NULL, NULL);
    assert_true(status == KVR_OK || status == KVR_ERR_NUMERIC);
    kvr_session_close(session);
    fenced_free(&mem);
}

/* The file ends where memory ends. */
static kvr_status try_file(const bad_file *bad, kvr_error *error) {
    size_t n = 0;
    uint8_t *made = bad_file_make(bad, &n);
    fenced file = fenced_copy(made, n);
    kvr_model_info info;
    kvr_model *model = NULL;
    free(made);
    kvr_status status = kvr_model_probe(file.at, n, &info, error);
    if (status == KVR_OK) {
        fenced mem = fenced_alloc((size_t)info.state_bytes);
        status = kvr_model_open(mem.at, (size_t)info.state_bytes, file.at, n, &model, error);
        if (status == KVR_OK) {
            use_vocabulary(model);
            use_weights(model);
        }
        fenced_free(&mem);
    }
    fenced_free(&file);
    return status;
}

static void every_bad_file_gets_its_sentence(void **state) {
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < N_BAD_FILES; i++) {
        kvr_error error = {0};
        char line[300] = "";
        const kvr_status status = try_file(&bad_files[i], &error);
        if (status != KVR_OK) kvr_error_format(&error, line, sizeof line);
        if (status == bad_files[i].status && error.status == status && strstr(line, bad_files[i].sentence) == line)
            continue;
        print_error("%s: %s: %s\n", bad_files[i].name, kvr_status_name(status), line);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void the_sound_file_is_read(void **state) {
    (void)state;
    const bad_file sound = {.name = "sound"};
    kvr_error error = {0};
    assert_int_equal(try_file(&sound, &error), KVR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sound_file_is_read),
        cmocka_unit_test(every_bad_file_gets_its_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
