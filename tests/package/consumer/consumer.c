/* What a consumer of the installed package compiles: the version, and a file that is no model, refused. */
#include <kvr/kvr.h>
#include <stdio.h>

int main(void) {
    static const char text[64] = "this is not a model";
    kvr_model_info info = {0};
    kvr_error error = {0};
    char line[256];
    const kvr_status status = kvr_model_probe(text, sizeof text, &info, &error);
    kvr_error_format(&error, line, sizeof line);
    printf("kvr %s: %s: %s\n", KVR_VERSION, kvr_status_name(status), line);
    return status == KVR_ERR_MAGIC ? 0 : 1;
}
