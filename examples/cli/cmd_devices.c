/* kvr devices: every platform and device, its limits, which one is used. */
#include "commands.h"
#include "device.h"
#include "options.h"

static const command_help HELP = {
    "devices", "", "Lists every OpenCL platform and device with its limits, and which one is used by default.", NULL};
static const option_id ACCEPTS[] = {OPT_END};

int cmd_devices(int argc, char **argv) {
    options opt;
    int code = options_parse(&HELP, ACCEPTS, argc, argv, &opt);
    return code == OPTIONS_DONE ? device_list() : code;
}
