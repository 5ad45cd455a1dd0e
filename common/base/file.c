#define _GNU_SOURCE /* F_OFD_SETLK */
#include "base/file.h"

#include "base/mem.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_FIRST_BYTES 4096
#define TEMP_TRIES_MAX 100

static int failed(struct err *e, const char *step, const char *path)
{
    const int why = errno;
    err_sys(e, why, "%s %s", step, path);
    if (e != NULL && (why == ENOENT || why == ENOTDIR))
        e->code = ERR_NOT_FOUND;
    return -1;
}

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static ssize_t read_retry(int fd, void *data, size_t bytes)
{
    ssize_t n;
    do
        n = read(fd, data, bytes);
    while (n < 0 && errno == EINTR);
    return n;
}

/* ---- reading ------------------------------------------------------------------------------------ */

static int too_large(struct err *e, const char *path, size_t bytes_max)
{
    return err_set(e, ERR_FULL, "read %s: larger than the bound of %zu bytes", path, bytes_max);
}

int file_read_all(const char *path, size_t bytes_max, char **out, size_t *bytes, struct err *e)
{
    assert(bytes_max < SIZE_MAX / 2);
    char *data = NULL;
    size_t used = 0, capacity = 0;
    int rc = -1;
    *out = NULL;
    const int fd = open_retry(path, O_RDONLY, 0);
    if (fd < 0)
        return failed(e, "open", path);
    struct stat st;
    if (fstat(fd, &st) < 0) {
        failed(e, "stat", path);
        goto done;
    }
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > bytes_max) {
        too_large(e, path, bytes_max);
        goto done;
    }
    /* The size is a hint: files of /proc say 0 and a file may grow while it is read. */
    capacity = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size + 1 : READ_FIRST_BYTES;
    data = mem_new(capacity + 1, 1);
    for (;;) {
        if (used == capacity) {
            capacity = capacity * 2 < bytes_max + 1 ? capacity * 2 : bytes_max + 1;
            data = mem_grow(data, capacity + 1, 1);
        }
        const ssize_t n = read_retry(fd, data + used, capacity - used);
        if (n < 0) {
            failed(e, "read", path);
            goto done;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > bytes_max) {
            too_large(e, path, bytes_max);
            goto done;
        }
    }
    data[used] = 0;
    *out = data;
    data = NULL;
    if (bytes != NULL)
        *bytes = used;
    rc = 0;
done:
    mem_free(data);
    close(fd);
    return rc;
}

int file_map_open(struct file_map *m, const char *path, size_t bytes_max, struct err *e)
{
    *m = (struct file_map){0};
    const int fd = open_retry(path, O_RDONLY, 0);
    if (fd < 0)
        return failed(e, "open", path);
    int rc = -1;
    struct stat st;
    if (fstat(fd, &st) < 0) {
        failed(e, "stat", path);
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INVALID, "map %s: not a regular file", path);
    } else if ((uint64_t)st.st_size > bytes_max) {
        too_large(e, path, bytes_max);
    } else if (st.st_size == 0) {
        rc = 0;
    } else {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            failed(e, "map", path);
        } else {
            *m = (struct file_map){.data = data, .bytes = (size_t)st.st_size};
            rc = 0;
        }
    }
    close(fd); /* the map keeps the file */
    return rc;
}

void file_map_close(struct file_map *m)
{
    if (m->data != NULL)
        munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (struct file_map){0};
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* The number of bytes that could be written; errno says why they are fewer. */
static size_t write_up_to(int fd, const void *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        done += (size_t)n;
    }
    return done;
}

int file_write(int fd, const void *data, size_t bytes, const char *path, struct err *e)
{
    return write_up_to(fd, data, bytes) < bytes ? failed(e, "write", path) : 0;
}

/* The folder of a path, as a path. */
static void folder_of(const char *path, char out[FILE_PATH_BYTES_MAX])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(out, FILE_PATH_BYTES_MAX, ".");
    else if (slash == path)
        snprintf(out, FILE_PATH_BYTES_MAX, "/");
    else
        snprintf(out, FILE_PATH_BYTES_MAX, "%.*s", (int)(slash - path), path);
}

int file_check_place(const char *path, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX];
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* a link, a device: what it is shows when it is written */
        return S_ISDIR(st.st_mode) ? err_set(e, ERR_INVALID, "%s is a folder", path) : 0;
    folder_of(path, folder);
    return faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0 ? 0 : err_sys(e, errno, "%s cannot be made in %s", path, folder);
}

static int lock_whole(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole);
}

static bool is_held(void)
{
    return errno == EAGAIN || errno == EACCES;
}

/* Whether name is `base`.tmp-NUMBER-NUMBER. */
static bool is_temp_of(const char *name, const char *base)
{
    const size_t n = strlen(base), mark = strlen(".tmp-");
    if (strncmp(name, base, n) != 0 || strncmp(name + n, ".tmp-", mark) != 0)
        return false;
    const char *const pid = name + n + mark, *const rest = pid + strspn(pid, "0123456789");
    return rest > pid && *rest == '-' && rest[1] != 0 && rest[1 + strspn(rest + 1, "0123456789")] == 0;
}

/* Removes what crashed writers of `path` left beside it.  Who writes such a file holds its lock. */
static void remove_orphans(const char *path)
{
    char folder[FILE_PATH_BYTES_MAX];
    const char *const slash = strrchr(path, '/'), *const base = slash == NULL ? path : slash + 1;
    folder_of(path, folder);
    DIR *const d = opendir(folder);
    for (const struct dirent *x; d != NULL && (x = readdir(d)) != NULL;) {
        if (!is_temp_of(x->d_name, base))
            continue;
        struct stat st, there;
        const int fd = openat(dirfd(d), x->d_name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lock_whole(fd) == 0 &&
            fstatat(dirfd(d), x->d_name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == st.st_ino)
            unlinkat(dirfd(d), x->d_name, 0);
        close(fd);
    }
    if (d != NULL)
        closedir(d);
}

/* A new file beside `path`, locked; a name that is in the way is passed over, not reused. */
static int open_temp(const char *path, unsigned mode, char temp[FILE_PATH_BYTES_MAX], struct err *e)
{
    for (int i = 0; i < TEMP_TRIES_MAX; i++) {
        const int n = snprintf(temp, FILE_PATH_BYTES_MAX, "%s.tmp-%ld-%d", path, (long)getpid(), i);
        if (n < 0 || n >= FILE_PATH_BYTES_MAX)
            return err_set(e, ERR_INVALID, "create %.80s...: the path is too long", path);
        const int fd = open_retry(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, (mode_t)mode);
        if (fd < 0 && errno != EEXIST)
            return failed(e, "create", temp);
        if (fd < 0)
            continue;
        /* another writer may have taken it for an orphan before it was locked */
        struct stat st;
        const bool lost = lock_whole(fd) < 0 && is_held();
        if (!lost && (fstat(fd, &st) < 0 || st.st_nlink > 0))
            return fd;
        close(fd);
    }
    return err_set(e, ERR_IO, "create %s: %d older temporary files are in the way", temp, TEMP_TRIES_MAX);
}

/* A device or a pipe cannot be whole or absent, and a rename over its name would take it from everybody. */
static int fill_in_place(const char *path, file_fill *fill, void *arg, struct err *e)
{
    const int fd = open_retry(path, O_WRONLY, 0);
    if (fd < 0)
        return failed(e, "open", path);
    int rc = fill(fd, path, arg, e);
    if (close(fd) < 0 && rc == 0)
        rc = failed(e, "close", path);
    return rc;
}

int file_replace_with(const char *path, unsigned mode, file_fill *fill, void *arg, struct err *e)
{
    char temp[FILE_PATH_BYTES_MAX], folder[FILE_PATH_BYTES_MAX], target[FILE_PATH_BYTES_MAX];
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return fill_in_place(path, fill, arg, e);
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
        if (realpath(path, target) == NULL)
            return failed(e, "follow", path);
        path = target;
    }
    remove_orphans(path);
    const int fd = open_temp(path, mode, temp, e);
    if (fd < 0)
        return -1;
    int rc = fill(fd, temp, arg, e);
    if (rc == 0 && fsync(fd) < 0)
        rc = failed(e, "fsync", temp);
    if (rc == 0 && rename(temp, path) < 0) /* while it is locked, or it might be taken for an orphan */
        rc = failed(e, "rename", temp);
    if (rc < 0)
        unlink(temp);
    if (close(fd) < 0 && rc == 0)
        rc = failed(e, "close", path);
    if (rc < 0)
        return -1;
    folder_of(path, folder);
    if (file_sync_folder(folder, e) < 0)
        return err_wrap(e, "%s is written but may not survive a power cut", path);
    return 0;
}

struct bytes {
    const void *data;
    size_t bytes;
};

static int fill_bytes(int fd, const char *path, void *arg, struct err *e)
{
    const struct bytes *b = arg;
    return file_write(fd, b->data, b->bytes, path, e);
}

int file_replace(const char *path, const void *data, size_t bytes, unsigned mode, struct err *e)
{
    struct bytes b = {data, bytes};
    return file_replace_with(path, mode, fill_bytes, &b, e);
}

int file_append(const char *path, const void *data, size_t bytes, struct err *e)
{
    const int fd = open_retry(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0)
        return failed(e, "open", path);
    const size_t done = write_up_to(fd, data, bytes);
    int rc = done < bytes ? failed(e, "write", path) : 0;
    /* What a full disk took of a line is taken back where nobody has gone on behind it: the next one begins a line. */
    const off_t end = lseek(fd, 0, SEEK_CUR);
    if (rc < 0 && done > 0 && lseek(fd, 0, SEEK_END) == end && ftruncate(fd, end - (off_t)done) < 0)
        err_wrap(e, "its last line is torn");
    if (close(fd) < 0 && rc == 0)
        rc = failed(e, "close", path);
    return rc;
}

/* ---- folders ------------------------------------------------------------------------------------ */

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

int file_size(const char *path, uint64_t *bytes, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return failed(e, "stat", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "stat %s: not a regular file", path);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int make_folder(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0777) == 0)
        return 0;
    if (errno == EEXIST && stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        errno = ENOTDIR;
    }
    err_sys(e, errno, "mkdir %s", path);
    return -1;
}

int file_make_folders(const char *path, struct err *e)
{
    char part[FILE_PATH_BYTES_MAX];
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return err_set(e, ERR_INVALID, "mkdir \"%.80s\": the path is %s", path, length == 0 ? "empty" : "too long");
    memcpy(part, path, length + 1);
    for (char *p = part + 1; *p != 0; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (make_folder(part, e) < 0)
            return -1;
        *p = '/';
    }
    return make_folder(part, e);
}

int file_sync_folder(const char *path, struct err *e)
{
    const int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return failed(e, "open", path);
    int rc = 0;
    /* Some file systems have no fsync for folders and say so with EINVAL: nothing is lost there. */
    if (fsync(fd) < 0 && errno != EINVAL)
        rc = failed(e, "fsync", path);
    close(fd);
    return rc;
}

/* Empties the folder open at fd (owned: closed here).  Works by descriptors and never follows a link,
 * so that nothing outside can be reached by swapping an entry. */
static int empty_folder(int fd, const char *path, int depth, struct err *e)
{
    if (depth > FILE_TREE_DEPTH_MAX) {
        close(fd);
        return err_set(e, ERR_INVALID, "remove %s: folders nested deeper than %d", path, FILE_TREE_DEPTH_MAX);
    }
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        failed(e, "list", path);
        close(fd);
        return -1;
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (errno = 0, entry = readdir(d)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            rc = failed(e, "remove", path);
            break;
        }
        const int below = openat(dirfd(d), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0)
            rc = failed(e, "open folder in", path);
        else
            rc = empty_folder(below, path, depth + 1, e);
        if (rc == 0 && unlinkat(dirfd(d), name, AT_REMOVEDIR) < 0)
            rc = failed(e, "remove folder in", path);
    }
    closedir(d);
    return rc;
}

int file_remove_tree(const char *path, struct err *e)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return failed(e, "remove", path);
    const int fd = open_retry(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return failed(e, "open", path);
    if (empty_folder(fd, path, 1, e) < 0)
        return -1;
    return rmdir(path) < 0 ? failed(e, "remove", path) : 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int file_list(const char *folder, size_t entries_max, file_visit *each, void *arg, struct err *e)
{
    char **names = NULL;
    size_t count = 0, capacity = 0;
    int rc = 0;
    DIR *d = opendir(folder);
    if (d == NULL)
        return failed(e, "list", folder);
    const struct dirent *entry;
    while (rc == 0 && (errno = 0, entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (count == entries_max) {
            rc = err_set(e, ERR_FULL, "list %s: more than %zu entries", folder, entries_max);
            break;
        }
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            names = mem_grow(names, capacity, sizeof *names);
        }
        names[count++] = mem_strdup(entry->d_name);
    }
    closedir(d);
    if (count > 0)
        qsort(names, count, sizeof *names, by_bytes);
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = each(names[i], arg, e);
        mem_free(names[i]);
    }
    mem_free(names);
    return rc;
}

static bool stays_inside(const char *name)
{
    if (name[0] == 0 || name[0] == '/')
        return false;
    for (const char *p = name; p != NULL;) {
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == 0))
            return false;
        p = strchr(p, '/');
        if (p != NULL)
            p++;
    }
    return true;
}

int file_join(char out[FILE_PATH_BYTES_MAX], const char *folder, const char *name, struct err *e)
{
    out[0] = 0;
    if (!stays_inside(name))
        return err_set(e, ERR_INVALID, "\"%.200s\" is not a name inside a folder (empty, absolute or with ..)", name);
    const size_t length = strlen(folder);
    const char *between = length == 0 || folder[length - 1] == '/' ? "" : "/";
    const int n = snprintf(out, FILE_PATH_BYTES_MAX, "%s%s%s", folder, between, name);
    if (n < 0 || n >= FILE_PATH_BYTES_MAX) {
        out[0] = 0;
        return err_set(e, ERR_INVALID, "the path of \"%.200s\" is longer than %d bytes", name, FILE_PATH_BYTES_MAX - 1);
    }
    return 0;
}

/* ---- locks -------------------------------------------------------------------------------------- */

int file_lock_take(struct file_lock *l, const char *path, struct err *e)
{
    *l = (struct file_lock){0};
    const int fd = open_retry(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
    if (fd < 0)
        return failed(e, "open", path);
    if (lock_whole(fd) < 0) {
        if (is_held())
            err_set(e, ERR_CONFLICT, "lock %s: another process holds it", path);
        else
            failed(e, "lock", path);
        close(fd);
        return -1;
    }
    l->fd_plus_1 = fd + 1;
    return 0;
}

void file_lock_drop(struct file_lock *l)
{
    if (l->fd_plus_1 > 0)
        close(l->fd_plus_1 - 1);
    *l = (struct file_lock){0};
}
