/* Lets calls of the operating system fail, as FAULTS says: a file of lines "<call> <errno> <part of a path>".
   "clock <seconds> clock" sets the clock forth, or back. Loaded into the server with LD_PRELOAD; an empty file, or none, and everything works. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* By system calls, so that it does not meet itself. */
static int failing(const char *call, const char *path)
{
    const char *name = getenv("FAULTS");
    char text[2048], *line, *rest = text;
    int saved = errno, found = 0;
    long size, fd = name ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        errno = saved;
        return 0;
    }
    size = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[size > 0 ? size : 0] = 0;
    while (!found && (line = strsep(&rest, "\n")) != NULL) {
        char *verb = strsep(&line, " "), *number = strsep(&line, " ");
        if (number != NULL && line != NULL && strcmp(verb, call) == 0 && strstr(path ? path : "", line) != NULL)
            found = atoi(number);
    }
    errno = found ? found : saved;
    return found;
}

static int failing_fd(const char *call, int fd)
{
    char link[40], path[4096];
    long size;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return failing(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                                  \
    int name(const char *path, int flags, ...)                                       \
    {                                                                                \
        mode_t mode = 0;                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                         \
            va_list rest;                                                            \
            va_start(rest, flags);                                                   \
            mode = va_arg(rest, mode_t);                                             \
            va_end(rest);                                                            \
        }                                                                            \
        if (failing("open", path) || (flags & O_ACCMODE && failing("create", path))) \
            return -1;                                                               \
        return NEXT(name)(path, flags, mode);                                        \
    }
OPENS(open)
OPENS(open64)

#define ON_FD(type, name, call, parameters, arguments)    \
    type name parameters                                  \
    {                                                     \
        return failing_fd(call, fd) ? -1 : NEXT(name) arguments; \
    }
ON_FD(ssize_t, write, "write", (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pwrite, "write", (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, "write", (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, read, "read", (int fd, void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pread, "read", (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pread64, "read", (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(int, fsync, "fsync", (int fd), (fd))
ON_FD(int, fdatasync, "fsync", (int fd), (fd))
ON_FD(int, ftruncate, "write", (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, "write", (int fd, off64_t size), (fd, size))

#define ON_PATH(name, path, parameters, arguments)          \
    int name parameters                                     \
    {                                                       \
        return failing(#name, path) ? -1 : NEXT(name) arguments; \
    }
ON_PATH(rename, to, (const char *from, const char *to), (from, to))
ON_PATH(link, to, (const char *from, const char *to), (from, to))
ON_PATH(unlink, path, (const char *path), (path))
ON_PATH(mkdir, path, (const char *path, mode_t mode), (path, mode))

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    return failing("link", to) ? -1 : NEXT(linkat)(from_fd, from, to_fd, to, flags);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += failing("clock", "clock");
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *kind, void *(*run)(void *), void *argument)
{
    int error = failing("thread", "thread");
    return error ? error : NEXT(pthread_create)(thread, kind, run, argument);
}
