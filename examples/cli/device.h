/*
 * device.h - which backend computes: the reference one, or an OpenCL device by the name that -d takes.
 */
#ifndef KVR_CLI_DEVICE_H
#define KVR_CLI_DEVICE_H

#include "kvr/kvr_backend.h"
#include "kvr/kvr_port.h"
#include "kvr/kvr_profile.h"

typedef struct device device;

typedef struct device_choice {
    const char *name;   /* "reference", "opencl", "opencl:P.D" or NULL for the default (OpenCL where there is a device,
                          * else the reference with a note) */
    uint32_t n_cores;   /* CPU cores of an OpenCL CPU device, 0 = all; holds this process to as many */
    uint32_t gemm;      /* kvr_opencl_gemm */
    uint32_t precision; /* kvr_opencl_precision */
    const char *emulate; /* profiles of boards to emulate in place of `name`; NULL = none */
    uint32_t rank, n_boards; /* which of them */
} device_choice;

/* port: for warnings.
 * *out: malloc'ed, for device_close. An exit code, with a sentence when it is no EXIT_OK. */
int device_open(const device_choice *choice, const kvr_port *port, device **out);
void device_close(device *dev);

/* The table for kvr_plan_make and kvr_session_open; lives as long as the device. */
const kvr_backend *device_backend(const device *dev);
/* 1: what the plan says of device memory is taken from this machine's. */
int device_is_in_host(const device *dev);
/* What it is, for people: "reference (1 core, portable C)" or the device's own name. */
const char *device_name(const device *dev);
/* With its driver and their versions: what a measurement is valid for. */
const char *device_identity(const device *dev);
/* The board that it emulates; NULL = it is a real one. */
const kvr_board_profile *device_emulated(const device *dev);
/* As kvr_opencl_peaks; all 0 for the reference backend, whose compiler's doing nobody can predict. */
typedef struct device_peaks {
    int known;
    double fma_gflops, int8_gmacs, pair_gmacs, read_gbytes;
} device_peaks;
/* Takes a second or two. An exit code, with a sentence. */
int device_measure_peaks(device *dev, device_peaks *out);
/* Prints every platform and device; an exit code. */
int device_list(void);

#endif
