#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64 /* model files exceed 2 GiB also on 32-bit systems, where the check below refuses them */
#include "kvr_posix_os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static kvr_status fail(kvr_error *error, kvr_status status, const char *text, int native, const char *path) {
    if (error == NULL || error->status != KVR_OK) return status;
    memset(error, 0, sizeof *error);
    error->status = status;
    error->module = "posix";
    error->text = text;
    error->native = native;
    /* Of a long path the end tells more than the beginning. */
    const size_t n = strlen(path);
    const size_t room = sizeof error->detail - 1;
    const char *const from = n > room ? path + (n - room) : path;
    for (size_t i = 0; from[i] != 0; i++) error->detail[i] = (from[i] >= 0x20 && from[i] <= 0x7e) ? from[i] : '?';
    return status;
}

static const char *open_text(int native) {
    switch (native) {
    case ENOENT:
    case ENOTDIR: return "no such file: check the path";
    case EACCES:
    case EPERM: return "no permission to read this file: check owner and mode of it and its directories";
    case EMFILE:
    case ENFILE: return "too many open files: close some or raise the limit (ulimit -n)";
    case ELOOP: return "a loop of symbolic links: check the path";
    case ENAMETOOLONG: return "the path is too long";
    default: return "the file cannot be opened";
    }
}

static kvr_status map_fd(int fd, const char *path, const void **out_data, size_t *out_bytes, kvr_error *error) {
    struct stat st;
    if (fstat(fd, &st) != 0) return fail(error, KVR_ERR_IO, "the file's size cannot be read", errno, path);
    if (S_ISDIR(st.st_mode)) {
        return fail(error, KVR_ERR_IO, "this is a directory: name the .gguf file in it", EISDIR, path);
    }
    if (!S_ISREG(st.st_mode)) {
        return fail(error, KVR_ERR_IO, "not a regular file: it cannot be mapped, copy it to one", ENODEV, path);
    }
    if (st.st_size <= 0) return fail(error, KVR_ERR_TRUNCATED, "the file is empty: copy or download it again", 0, path);
    if ((uint64_t)st.st_size > SIZE_MAX / 2) {
        return fail(error, KVR_ERR_IO, "the file does not fit this system's address space: use a smaller model", EFBIG,
                    path);
    }
    void *const data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        return fail(error, KVR_ERR_IO,
                    errno == ENOMEM ? "no room to map the file: check the address space limit (ulimit -v)"
                                    : "the file cannot be mapped: copy it to a local file system",
                    errno, path);
    }
    *out_data = data;
    *out_bytes = (size_t)st.st_size;
    return KVR_OK;
}

kvr_status kvri_posix_map(void *user, const char *path, const void **out_data, size_t *out_bytes, kvr_error *error) {
    (void)user;
    if (path == NULL || out_data == NULL || out_bytes == NULL) {
        return fail(error, KVR_ERR_ARG, "map needs a path and two outputs", 0, path != NULL ? path : "");
    }
    int fd;
    do {
        /* O_NONBLOCK: opening a FIFO would otherwise wait for a writer; it changes nothing for regular files. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return fail(error, KVR_ERR_IO, open_text(errno), errno, path);
    const kvr_status status = map_fd(fd, path, out_data, out_bytes, error);
    close(fd); /* the mapping keeps the file */
    return status;
}

void kvri_posix_unmap(void *user, const void *data, size_t bytes) {
    (void)user;
    if (data != NULL) munmap((void *)(uintptr_t)data, bytes);
}
