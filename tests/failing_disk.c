/* failing_disk: preloaded into a process, makes chosen calls on files below one folder fail, as a bad disk would.
 *
 * The plan lies in a small file (named by FAILING_DISK) that all processes of a command map: fault_injection.py writes
 * it, and reads how many calls were counted, how many failed, and which was the first.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, READ = 2, OPEN = 4, CREATE = 8, RENAME = 16, SYNC = 32, CLOSE = 64, MKDIR = 128, REMOVE = 256,
       RESERVE = 512, STAT = 1024, LIST = 2048 };
enum { ONCE, EVERY, FROM_THEN_ON };

struct plan {
    uint32_t armed, call;
    int32_t error;
    uint32_t how;
    uint64_t nth, failed, counted[12];
    char below[1024], first[1024];
};

static struct plan *plan;

__attribute__((constructor)) static void map_plan(void) {
    const char *path = getenv("FAILING_DISK");
    int handle = path ? open(path, O_RDWR) : -1;
    if (handle < 0) return;
    void *mapped = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (mapped != MAP_FAILED) plan = mapped;
}

/* Whether this call fails; sets errno where it does. */
static int fails(uint32_t call, const char *name, const char *path) {
    size_t length = strlen(plan->below);
    if (strncmp(path, plan->below, length) || (path[length] && path[length] != '/')) return 0;
    uint64_t number = __sync_add_and_fetch(&plan->counted[__builtin_ctz(call)], 1);
    if (call != plan->call) return 0;
    int hit = plan->how == ONCE ? number == plan->nth : plan->how == EVERY ? number % plan->nth == 0
                                                                          : number >= plan->nth;
    if (!hit) return 0;
    if (__sync_add_and_fetch(&plan->failed, 1) == 1)
        snprintf(plan->first, sizeof plan->first, "%.20s %.990s", name, path);
    errno = plan->error;
    return 1;
}

static int handle_fails(uint32_t call, const char *name, int handle) {
    if (!plan || !plan->armed || handle < 0) return 0;
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, name, path);
}

static int path_fails(uint32_t call, const char *name, int folder, const char *path) {
    if (!plan || !plan->armed || !path || !*path) return 0;
    if (*path == '/') return fails(call, name, path);
    char link[64], whole[2 * PATH_MAX];
    int before = errno;
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX);
    errno = before;
    if (length < 0) return 0;
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return fails(call, name, whole);
}

#define TRUE(type, name, ...) \
    static type (*true_##name)(__VA_ARGS__); \
    if (!true_##name) true_##name = dlsym(RTLD_NEXT, #name)

#define BY_HANDLE(call, bad, type, name, declared, handle, given) \
    type name declared { \
        TRUE(type, name, ); \
        if (handle_fails(call, #name, handle)) return bad; \
        return ((type (*) declared)true_##name) given; \
    }

#define BY_PATH(call, bad, type, name, declared, folder, path, given) \
    type name declared { \
        TRUE(type, name, ); \
        if (path_fails(call, #name, folder, path)) return bad; \
        return ((type (*) declared)true_##name) given; \
    }

BY_HANDLE(WRITE, -1, ssize_t, write, (int h, const void *b, size_t n), h, (h, b, n))
BY_HANDLE(WRITE, -1, ssize_t, pwrite, (int h, const void *b, size_t n, off_t o), h, (h, b, n, o))
BY_HANDLE(WRITE, -1, ssize_t, pwrite64, (int h, const void *b, size_t n, off64_t o), h, (h, b, n, o))
BY_HANDLE(WRITE, -1, ssize_t, writev, (int h, const struct iovec *v, int n), h, (h, v, n))
BY_HANDLE(WRITE, -1, ssize_t, sendfile, (int h, int f, off_t *o, size_t n), h, (h, f, o, n))
BY_HANDLE(WRITE, -1, ssize_t, sendfile64, (int h, int f, off64_t *o, size_t n), h, (h, f, o, n))
BY_HANDLE(WRITE, -1, ssize_t, copy_file_range,
          (int f, off64_t *a, int h, off64_t *o, size_t n, unsigned int flags), h, (f, a, h, o, n, flags))
BY_HANDLE(WRITE, 0, size_t, fwrite, (const void *b, size_t s, size_t n, FILE *f), fileno(f), (b, s, n, f))
BY_HANDLE(READ, -1, ssize_t, read, (int h, void *b, size_t n), h, (h, b, n))
BY_HANDLE(READ, -1, ssize_t, pread, (int h, void *b, size_t n, off_t o), h, (h, b, n, o))
BY_HANDLE(READ, -1, ssize_t, pread64, (int h, void *b, size_t n, off64_t o), h, (h, b, n, o))
BY_HANDLE(READ, -1, ssize_t, readv, (int h, const struct iovec *v, int n), h, (h, v, n))
BY_HANDLE(READ, 0, size_t, fread, (void *b, size_t s, size_t n, FILE *f), fileno(f), (b, s, n, f))
BY_HANDLE(SYNC, -1, int, fsync, (int h), h, (h))
BY_HANDLE(SYNC, -1, int, fdatasync, (int h), h, (h))
BY_HANDLE(RESERVE, -1, int, ftruncate, (int h, off_t n), h, (h, n))
BY_HANDLE(RESERVE, -1, int, ftruncate64, (int h, off64_t n), h, (h, n))
BY_HANDLE(RESERVE, errno, int, posix_fallocate, (int h, off_t o, off_t n), h, (h, o, n))
BY_HANDLE(RESERVE, errno, int, posix_fallocate64, (int h, off64_t o, off64_t n), h, (h, o, n))
BY_HANDLE(STAT, -1, int, fstat, (int h, struct stat *s), h, (h, s))
BY_HANDLE(STAT, -1, int, fstat64, (int h, struct stat64 *s), h, (h, s))
BY_HANDLE(LIST, NULL, DIR *, fdopendir, (int h), h, (h))
BY_PATH(LIST, NULL, DIR *, opendir, (const char *p), AT_FDCWD, p, (p))
BY_PATH(STAT, -1, int, stat, (const char *p, struct stat *s), AT_FDCWD, p, (p, s))
BY_PATH(STAT, -1, int, stat64, (const char *p, struct stat64 *s), AT_FDCWD, p, (p, s))
BY_PATH(STAT, -1, int, lstat, (const char *p, struct stat *s), AT_FDCWD, p, (p, s))
BY_PATH(STAT, -1, int, lstat64, (const char *p, struct stat64 *s), AT_FDCWD, p, (p, s))
BY_PATH(STAT, -1, int, fstatat, (int d, const char *p, struct stat *s, int f), d, p, (d, p, s, f))
BY_PATH(STAT, -1, int, fstatat64, (int d, const char *p, struct stat64 *s, int f), d, p, (d, p, s, f))
BY_PATH(MKDIR, -1, int, mkdir, (const char *p, mode_t m), AT_FDCWD, p, (p, m))
BY_PATH(MKDIR, -1, int, mkdirat, (int d, const char *p, mode_t m), d, p, (d, p, m))
BY_PATH(REMOVE, -1, int, unlink, (const char *p), AT_FDCWD, p, (p))
BY_PATH(REMOVE, -1, int, unlinkat, (int d, const char *p, int f), d, p, (d, p, f))
BY_PATH(REMOVE, -1, int, rmdir, (const char *p), AT_FDCWD, p, (p))
BY_PATH(RENAME, -1, int, rename, (const char *a, const char *b), AT_FDCWD, b, (a, b))
BY_PATH(RENAME, -1, int, renameat, (int c, const char *a, int d, const char *b), d, b, (c, a, d, b))
BY_PATH(RENAME, -1, int, renameat2, (int c, const char *a, int d, const char *b, unsigned int f), d, b, (c, a, d, b, f))
BY_PATH(RENAME, -1, int, link, (const char *a, const char *b), AT_FDCWD, b, (a, b))

/* A file is closed even where close reports an error, as network file systems do. */
int close(int handle) {
    TRUE(int, close, int);
    int failed = handle_fails(CLOSE, "close", handle), error = errno;
    int result = true_close(handle);
    if (!failed) return result;
    errno = error;
    return -1;
}

static uint32_t opening(int flags) {
    return (flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT) ? OPEN : CREATE;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        TRUE(int, name, const char *, int, mode_t); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        if (path_fails(opening(flags), #name, AT_FDCWD, path)) return -1; \
        return true_##name(path, flags, mode); \
    }

#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        TRUE(int, name, int, const char *, int, mode_t); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        if (path_fails(opening(flags), #name, folder, path)) return -1; \
        return true_##name(folder, path, flags, mode); \
    }

#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        TRUE(FILE *, name, const char *, const char *); \
        if (path_fails(*mode == 'r' && !strchr(mode, '+') ? OPEN : CREATE, #name, AT_FDCWD, path)) return NULL; \
        return true_##name(path, mode); \
    }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)
