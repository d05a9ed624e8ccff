/* Faults on purpose: preloaded into a process, this counts the calls by which it changes a folder, and at one of them
 * raises a signal, or fails as a full or broken disk would. faults.py builds and speaks to it.
 *
 *     FAULTS_FOLDER  the calls that count are those on paths below it, and on the folder itself
 *     FAULTS_AT      which call, counted from 1; 0 only counts
 *     FAULTS_FROM    counting begins with the first call, but for removals, on a path that holds this text
 *     FAULTS_ACTION  signal (before the call), group (the same, to the whole process group), later (the same, some time
 *                    after), error, errors (from that call on, except in closing and removing), short (half of a
 *                    write is done)
 *     FAULTS_VALUE   the signal, for `later` and 100 times the milliseconds; or the errno
 *     FAULTS_LOG     a file that gets a line for each call: its number, what it was, errno or 0, the path
 *
 * A process that it forks is left alone. Only what Python calls is here; it calls the 64-bit names.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define FILES 4096

static char folder[PATH_MAX], action[16], logged[PATH_MAX], from[256];
static char *paths[FILES]; /* of the open files that count */
static long at, value, calls;
static pid_t armed;

void faults_arm(const char *below, long which, const char *what, long with, const char *begin, const char *log) {
    snprintf(folder, sizeof folder, "%s", below);
    snprintf(action, sizeof action, "%s", what);
    snprintf(from, sizeof from, "%s", begin);
    snprintf(logged, sizeof logged, "%s", log);
    at = which, value = with, calls = 0, armed = getpid();
}

__attribute__((constructor)) static void from_environment(void) {
    const char *below = getenv("FAULTS_FOLDER"), *which = getenv("FAULTS_AT"), *what = getenv("FAULTS_ACTION");
    const char *with = getenv("FAULTS_VALUE"), *begin = getenv("FAULTS_FROM"), *log = getenv("FAULTS_LOG");
    if (below && which && what && with && begin && log)
        faults_arm(below, atol(which), what, atol(with), begin, log);
}

/* The path as an absolute one, in `full`; whether it counts. */
static int counts(int directory, const char *path, char *full) {
    if (!armed || getpid() != armed)
        return 0;
    int open_folder, end = 0;
    if (sscanf(path, "/proc/self/fd/%d%n", &open_folder, &end) == 1) {
        if (open_folder < 0 || open_folder >= FILES || !paths[open_folder])
            return 0;
        snprintf(full, PATH_MAX, "%.2000s%.2000s", paths[open_folder], path + end);
    } else if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else if (directory != AT_FDCWD) {
        if (directory < 0 || directory >= FILES || !paths[directory])
            return 0;
        snprintf(full, PATH_MAX, "%.2000s/%.2000s", paths[directory], path);
    } else {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here))
            return 0;
        snprintf(full, PATH_MAX, "%.2000s/%.2000s", here, path);
    }
    size_t length = strlen(folder);
    return !strncmp(full, folder, length) && (full[length] == '/' || !full[length]);
}

static void note(const char *what, int error, const char *path) {
    char line[PATH_MAX + 64];
    if (!*logged)
        return;
    int length = snprintf(line, sizeof line, "%ld %s %d %s\n", calls, what, error, path);
    int file = syscall(SYS_openat, AT_FDCWD, logged, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file >= 0) {
        if (syscall(SYS_write, file, line, length) < 0) {}
        syscall(SYS_close, file);
    }
}

static void kill_later(int number, long milliseconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    struct itimerspec when = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000000}};
    timer_t timer;
    if (!timer_create(CLOCK_MONOTONIC, &event, &timer))
        timer_settime(timer, 0, &when, NULL);
}

/* Count a call; the errno it is to fail with, 0 to do it, -1 to do half of it. */
static int fault(const char *what, const char *path) {
    int ends = !strcmp(what, "close") || !strcmp(what, "unlink");
    if (calls || (strstr(path, from) && strcmp(what, "unlink"))) /* what a killed process left is removed before */
        calls++;
    int now = at && calls == at, later = at && calls >= at, error = 0;
    if (now && !strcmp(action, "later"))
        kill_later(value % 100, value / 100);
    int signals = now && (!strcmp(action, "signal") || !strcmp(action, "group"));
    if ((now && !strcmp(action, "error")) || (later && !ends && !strcmp(action, "errors"))) {
        error = value;
    } else if (now && !strcmp(action, "short") && !strcmp(what, "write")) {
        error = -1;
    }
    note(what, error, path); /* first: after a SIGKILL nothing is */
    if (signals)
        kill(!strcmp(action, "group") ? 0 : getpid(), value);
    return error;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define FAIL(what, path)                      \
    do {                                      \
        int error_ = fault(what, path);       \
        if (error_ > 0) {                     \
            errno = error_;                   \
            return -1;                        \
        }                                     \
    } while (0)

static int opened(int directory, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    struct stat found;
    int mine = counts(directory, path, full);
    if (mine && !(flags & (O_WRONLY | O_RDWR | O_CREAT)))
        mine = !stat(full, &found) && S_ISDIR(found.st_mode); /* a folder, to have its names on the disk */
    if (mine)
        FAIL("open", full);
    int file = syscall(SYS_openat, directory, path, flags, mode);
    if (file >= 0 && file < FILES) {
        free(paths[file]);
        paths[file] = mine ? strdup(full) : NULL;
    }
    return file;
}

#define MODE(flags)                               \
    mode_t mode = 0;                              \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {      \
        va_list rest;                             \
        va_start(rest, flags);                    \
        mode = va_arg(rest, mode_t);              \
        va_end(rest);                             \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at_, const char *path, int flags, ...) { MODE(flags) return opened(at_, path, flags, mode); }
int openat64(int at_, const char *path, int flags, ...) { MODE(flags) return opened(at_, path, flags, mode); }

static const char *path_of(int file) {
    return armed && getpid() == armed && file >= 0 && file < FILES ? paths[file] : NULL;
}

ssize_t write(int file, const void *bytes, size_t size) {
    const char *path = path_of(file);
    if (path) {
        int error = fault("write", path);
        if (error > 0) {
            errno = error;
            return -1;
        }
        if (error < 0 && size > 1)
            size /= 2;
    }
    return syscall(SYS_write, file, bytes, size);
}

int fsync(int file) {
    const char *path = path_of(file);
    if (path)
        FAIL("fsync", path);
    return REAL(fsync)(file);
}

int ftruncate64(int file, off64_t size) {
    const char *path = path_of(file);
    if (path)
        FAIL("truncate", path);
    return REAL(ftruncate64)(file, size);
}

int close(int file) {
    char *path = file >= 0 && file < FILES ? paths[file] : NULL;
    if (path) {
        int error = armed && getpid() == armed ? fault("close", path) : 0;
        paths[file] = NULL;
        free(path);
        if (error > 0) { /* as Linux does: the file is closed all the same */
            syscall(SYS_close, file);
            errno = error;
            return -1;
        }
    }
    return syscall(SYS_close, file);
}

int rename(const char *from, const char *to) {
    char full[PATH_MAX];
    if (counts(AT_FDCWD, to, full))
        FAIL("rename", full);
    return REAL(rename)(from, to);
}

int link(const char *from, const char *to) {
    char full[PATH_MAX];
    if (counts(AT_FDCWD, to, full))
        FAIL("link", full);
    return REAL(link)(from, to);
}

int unlink(const char *path) {
    char full[PATH_MAX];
    if (counts(AT_FDCWD, path, full))
        FAIL("unlink", full);
    return REAL(unlink)(path);
}

int chmod(const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (counts(AT_FDCWD, path, full))
        FAIL("chmod", full);
    return REAL(chmod)(path, mode);
}

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (counts(AT_FDCWD, path, full))
        FAIL("mkdir", full);
    return REAL(mkdir)(path, mode);
}
