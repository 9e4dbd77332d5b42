/*
 * kvr_status.h - every outcome of every call, and the record of a first failure.
 *
 * Negative = failure, 0 = success, positive = news. Values never change; new ones are appended.
 */
#ifndef KVR_STATUS_H
#define KVR_STATUS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text). The only list of statuses: enum, names and texts are made from it. */
#define KVR_STATUS_LIST(X) \
    X(KVR_END,               2, "finished: no more events") \
    X(KVR_AGAIN,             1, "nothing to do yet: call again") \
    X(KVR_OK,                0, "success") \
    X(KVR_ERR_ARG,          -1, "an argument is out of its range") \
    X(KVR_ERR_NOMEM,        -2, "a memory region is smaller than planned") \
    X(KVR_ERR_IO,           -3, "the operating system refused a file or a call") \
    X(KVR_ERR_MAGIC,        -4, "another kind of file") \
    X(KVR_ERR_VERSION,      -5, "a file version that is not supported") \
    X(KVR_ERR_TRUNCATED,    -6, "the file ends before its contents do") \
    X(KVR_ERR_CORRUPT,      -7, "the file contradicts itself") \
    X(KVR_ERR_KEY,          -8, "a required key is missing or has the wrong type") \
    X(KVR_ERR_ARCH,         -9, "a model architecture that is not supported") \
    X(KVR_ERR_TYPE,        -10, "a tensor type that is not supported") \
    X(KVR_ERR_TENSOR,      -11, "a required tensor is missing or has the wrong shape") \
    X(KVR_ERR_VOCAB,       -12, "a vocabulary that is missing or not supported") \
    X(KVR_ERR_TEXT,        -13, "text that cannot be tokenized") \
    X(KVR_ERR_CTX_FULL,    -14, "more tokens than the planned context holds") \
    X(KVR_ERR_STATE,       -15, "a call that does not fit the state of the object") \
    X(KVR_ERR_UNSUPPORTED, -16, "a feature that this version does not have") \
    X(KVR_ERR_DEVICE,      -17, "a compute device reported a failure") \
    X(KVR_ERR_NO_DEVICE,   -18, "no such compute device") \
    X(KVR_ERR_LINK,        -19, "a link reported a failure") \
    X(KVR_ERR_ADDRESS,     -20, "an address that cannot be used") \
    X(KVR_ERR_FRAME,       -21, "a frame that is damaged or not of this job") \
    X(KVR_ERR_PEER_WIRE,   -22, "a board speaks another wire version") \
    X(KVR_ERR_PEER_MODEL,  -23, "a board has another model file") \
    X(KVR_ERR_PEER_KV,     -24, "a board keeps keys and values in another type") \
    X(KVR_ERR_PEER_CTX,    -25, "a board planned a context too small for this prompt") \
    X(KVR_ERR_PEER_BUSY,   -26, "a board is working for another lead") \
    X(KVR_ERR_PEER_LOST,   -27, "a board stopped answering") \
    X(KVR_ERR_PEER_FAILED, -28, "a board reported a failure of its own") \
    X(KVR_ERR_TIMEOUT,     -29, "something did not happen in time") \
    X(KVR_ERR_PARTITION,   -30, "a partition that does not fit the prompt or the boards") \
    X(KVR_ERR_NUMERIC,     -31, "the model produced a value that is not a number")

typedef enum kvr_status {
#define KVR_STATUS_ENUM(name, value, text) name = value,
    KVR_STATUS_LIST(KVR_STATUS_ENUM)
#undef KVR_STATUS_ENUM
    KVR_STATUS_LAST_ = 1000 /* keeps the enum wide; never returned */
} kvr_status;

/* "KVR_ERR_NOMEM"; "KVR_UNKNOWN" for a value outside the list. Never NULL. */
const char *kvr_status_name(kvr_status status);

/* One sentence fragment, lower case, no full stop. Never NULL. */
const char *kvr_status_text(kvr_status status);

/*
 * The first failure of a call. Zero it ({0}) before first use; a call that fails fills it only when
 * it is still KVR_OK, so the first cause wins. All pointers are to static text.
 */
typedef struct kvr_error {
    kvr_status status;
    const char *module;  /* "gguf", "plan", "opencl", ... */
    const char *text;    /* what failed and what to do about it */
    int64_t native;      /* cl_int, zmq errno, errno; 0 = none */
    uint64_t wanted;     /* meaning given by text; wanted == had == 0: not used */
    uint64_t had;
    char detail[96];     /* a name out of the data (key, tensor, address), made printable; "" = none */
} kvr_error;

/*
 * Writes one line "module: text 'detail' (wanted 8, has 4) [native -5]: status text" without a newline.
 * Always terminates within cap bytes (cap >= 1); returns the length written.
 */
size_t kvr_error_format(const kvr_error *error, char *out, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
