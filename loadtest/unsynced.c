/* A disk that forgets: what was written to files under a directory and not yet synced can be undone after kill -9.
 *
 * Preloaded (LD_PRELOAD) into a process. Every write, ftruncate and fallocate to a file under UNSYNCED_DIR is first
 * recorded, with the old bytes and the new, in the file UNSYNCED_LOG, which lies elsewhere and so survives the kill in
 * the page cache. An fsync or fdatasync that succeeded is recorded too; once everything is synced the log starts over.
 * loadtest/power_cut.py reads the log and undoes what was not synced: all of it, or a random part.
 *
 * While the file UNSYNCED_FULL exists, writing and growing files under the directory fails with ENOSPC.
 *
 * Left alone: files whose name ends in -shm (SQLite's shared memory, mapped, made anew after a power cut), and names:
 * creating, renaming and removing files counts as on disk at once. One process at a time writes under the directory.
 * For 64-bit Linux.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC 0x4f444e55u
#define MAX_FILES 256
#define MAX_PATH 4096

enum kind { WRITE = 1, RESIZE = 2, SYNCED = 3 };

struct record {
    uint32_t magic, kind;
    uint64_t number;      /* of this record; for SYNCED: all of the file up to this one is on disk */
    uint64_t size_before; /* of the file */
    uint64_t offset;      /* of a WRITE; the new size of a RESIZE */
    uint64_t old_bytes, new_bytes, path_bytes;
};

struct file {
    dev_t device;
    ino_t inode;
    uint64_t written, synced; /* numbers of records */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[MAX_FILES];
static int file_count;
static uint64_t newest;
static int log_handle = -1;

static void give_up(const char *what) {
    char text[256];
    int length = snprintf(text, sizeof text, "unsynced.c: %s: %s\n", what, strerror(errno));
    syscall(SYS_write, 2, text, length);
    abort();
}

/* Whether a handle is a file that is watched; its path goes to `path`. */
static int watched(int handle, char *path) {
    static const char *directory;
    char link[64];
    if (directory == NULL && (directory = getenv("UNSYNCED_DIR")) == NULL) directory = "";
    if (*directory == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, MAX_PATH - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(directory);
    if (strncmp(path, directory, prefix) != 0 || path[prefix] != '/') return 0;
    return !(length > 4 && strcmp(path + length - 4, "-shm") == 0);
}

static int disk_is_full(void) {
    const char *control = getenv("UNSYNCED_FULL");
    return control != NULL && *control != 0 && access(control, F_OK) == 0;
}

static struct file *file_of(const struct stat *status) {
    for (int at = 0; at < file_count; at++)
        if (files[at].device == status->st_dev && files[at].inode == status->st_ino) return &files[at];
    if (file_count == MAX_FILES) {
        errno = ENFILE;
        give_up("too many files");
    }
    files[file_count] = (struct file){status->st_dev, status->st_ino, 0, 0};
    return &files[file_count++];
}

static void put(const void *bytes, size_t count) {
    for (const char *at = bytes; count > 0;) {
        ssize_t done = syscall(SYS_write, log_handle, at, count);
        if (done < 0) give_up("the log cannot be written");
        at += done;
        count -= (size_t)done;
    }
}

/* Write one record. What it tells of happens after it is written, so that a record cut short tells of nothing. */
static void tell(struct record record, const char *path, const char *old, const struct iovec *parts, int count) {
    if (log_handle < 0) {
        const char *name = getenv("UNSYNCED_LOG");
        if (name == NULL) give_up("UNSYNCED_LOG is not set");
        log_handle = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_handle < 0) give_up("the log cannot be opened");
    }
    record.magic = MAGIC;
    record.path_bytes = strlen(path);
    put(&record, sizeof record);
    put(path, record.path_bytes);
    put(old, record.old_bytes);
    for (int at = 0; at < count; at++) put(parts[at].iov_base, parts[at].iov_len);
}

/* Record a change of `length` bytes at `offset` (a WRITE), or of the size to `offset` (a RESIZE). */
static void remember(int handle, const char *path, enum kind kind, uint64_t offset, uint64_t length,
                     const struct iovec *parts, int count) {
    struct stat status;
    if (fstat(handle, &status) != 0) give_up("fstat");
    uint64_t size = (uint64_t)status.st_size, end = kind == WRITE ? offset + length : size;
    if (end > size) end = size;
    uint64_t old_bytes = end > offset ? end - offset : 0;
    char *old = malloc(old_bytes + 1);
    if (old == NULL) give_up("no memory");
    /* The handle may be for writing only. */
    int reader = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (reader < 0) give_up(path);
    for (uint64_t have = 0; have < old_bytes;) {
        ssize_t got = pread(reader, old + have, old_bytes - have, (off_t)(offset + have));
        if (got <= 0) give_up("old bytes cannot be read");
        have += (uint64_t)got;
    }
    syscall(SYS_close, reader);
    struct file *file = file_of(&status);
    file->written = ++newest;
    tell((struct record){.kind = kind, .number = newest, .size_before = size, .offset = offset,
                         .old_bytes = old_bytes, .new_bytes = kind == WRITE ? length : 0},
         path, old, parts, count);
    free(old);
}

/* `offset` -1: where the handle stands. */
static ssize_t write_parts(int handle, const struct iovec *parts, int count, off_t offset) {
    char path[MAX_PATH];
    if (!watched(handle, path))
        return offset < 0 ? syscall(SYS_writev, handle, parts, count) : syscall(SYS_pwritev, handle, parts, count, offset, 0);
    if (disk_is_full()) {
        errno = ENOSPC;
        return -1;
    }
    uint64_t length = 0;
    for (int at = 0; at < count; at++) length += parts[at].iov_len;
    pthread_mutex_lock(&lock);
    off_t place = offset;
    if (offset < 0) {
        struct stat status;
        int appends = (fcntl(handle, F_GETFL) & O_APPEND) != 0;
        if (appends && fstat(handle, &status) != 0) give_up("fstat");
        place = appends ? status.st_size : lseek(handle, 0, SEEK_CUR);
    }
    remember(handle, path, WRITE, (uint64_t)place, length, parts, count);
    ssize_t done = offset < 0 ? syscall(SYS_writev, handle, parts, count)
                              : syscall(SYS_pwritev, handle, parts, count, offset, 0);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

/* Change the size of a file to `size` with a system call; `keep_larger`: never make it smaller. */
static int resize(int handle, off_t size, int keep_larger, int mode, off_t offset, off_t length) {
    char path[MAX_PATH];
    struct stat status;
    int is_watched = watched(handle, path);
    if (is_watched && fstat(handle, &status) == 0) {
        if (size > status.st_size && disk_is_full()) {
            errno = ENOSPC;
            return -1;
        }
        if (keep_larger && size <= status.st_size) is_watched = 0;
    }
    if (is_watched) {
        pthread_mutex_lock(&lock);
        remember(handle, path, RESIZE, (uint64_t)size, 0, NULL, 0);
    }
    int done = (int)(keep_larger ? syscall(SYS_fallocate, handle, mode, offset, length)
                                 : syscall(SYS_ftruncate, handle, size));
    int error = errno;
    if (is_watched) pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

static int sync_file(int handle, long call) {
    char path[MAX_PATH];
    struct stat status;
    if (!watched(handle, path) || fstat(handle, &status) != 0) return (int)syscall(call, handle);
    /* What is written while the sync runs may be too late for it. */
    pthread_mutex_lock(&lock);
    uint64_t through = newest;
    pthread_mutex_unlock(&lock);
    int done = (int)syscall(call, handle), error = errno;
    if (done == 0) {
        pthread_mutex_lock(&lock);
        struct file *file = file_of(&status);
        if (file->synced < through) file->synced = through;
        tell((struct record){.kind = SYNCED, .number = through}, path, "", NULL, 0);
        int all = 1;
        for (int at = 0; at < file_count; at++) all &= files[at].written <= files[at].synced;
        if (all && ftruncate(log_handle, 0) != 0) give_up("the log cannot start over");
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

ssize_t write(int handle, const void *bytes, size_t count) {
    struct iovec part = {(void *)bytes, count};
    return write_parts(handle, &part, 1, -1);
}

ssize_t pwrite(int handle, const void *bytes, size_t count, off_t offset) {
    struct iovec part = {(void *)bytes, count};
    return write_parts(handle, &part, 1, offset);
}

ssize_t pwrite64(int handle, const void *bytes, size_t count, off64_t offset) { return pwrite(handle, bytes, count, offset); }

ssize_t writev(int handle, const struct iovec *parts, int count) { return write_parts(handle, parts, count, -1); }

ssize_t pwritev(int handle, const struct iovec *parts, int count, off_t offset) {
    return write_parts(handle, parts, count, offset);
}

ssize_t pwritev64(int handle, const struct iovec *parts, int count, off64_t offset) {
    return write_parts(handle, parts, count, offset);
}

/* The flags ask for speed, or for a sync that is not needed to be right: without them the caller is served too. */
ssize_t pwritev2(int handle, const struct iovec *parts, int count, off_t offset, int flags) {
    (void)flags;
    return write_parts(handle, parts, count, offset);
}

ssize_t pwritev64v2(int handle, const struct iovec *parts, int count, off64_t offset, int flags) {
    return pwritev2(handle, parts, count, offset, flags);
}

int ftruncate(int handle, off_t size) { return resize(handle, size, 0, 0, 0, 0); }

int ftruncate64(int handle, off64_t size) { return resize(handle, size, 0, 0, 0, 0); }

int fallocate(int handle, int mode, off_t offset, off_t length) {
    char path[MAX_PATH];
    if (mode != 0 && watched(handle, path)) {
        errno = EOPNOTSUPP; /* Holes and the like cannot be undone here; callers do without. */
        return -1;
    }
    return resize(handle, offset + length, 1, mode, offset, length);
}

int fallocate64(int handle, int mode, off64_t offset, off64_t length) { return fallocate(handle, mode, offset, length); }

/* Tells its error as its result. */
int posix_fallocate(int handle, off_t offset, off_t length) { return fallocate(handle, 0, offset, length) == 0 ? 0 : errno; }

int posix_fallocate64(int handle, off64_t offset, off64_t length) { return posix_fallocate(handle, offset, length); }

int fsync(int handle) { return sync_file(handle, SYS_fsync); }

int fdatasync(int handle) { return sync_file(handle, SYS_fdatasync); }
