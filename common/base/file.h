/* Files: whole reads with a bound, read-only maps, writes that are whole or absent, folders, locks.
 *
 * Every error names the path and the step that failed ("fsync /d/x: No space left on device");
 * a missing file is ERR_NOT_FOUND, everything else the system refuses is ERR_IO.
 * Threads: every function may be called from any thread; a handle belongs to one thread at a time. */
#ifndef DAGLINE_BASE_FILE_H
#define DAGLINE_BASE_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILE_PATH_BYTES_MAX 4096 /* with its NUL */
#define FILE_TREE_DEPTH_MAX 64

/* ---- reading ------------------------------------------------------------------------------------ */

/* The whole regular file (or pipe) in *out, a NUL after it, its size in *bytes (may be NULL).  The
 * caller frees with mem_free.  More than bytes_max bytes is ERR_FULL; *out is NULL on failure. */
int file_read_all(const char *path, size_t bytes_max, char **out, size_t *bytes, struct err *e) MUST_USE;

/* A read-only map of a regular file.  data is NULL where bytes is 0.  A file that is cut short by
 * someone else while it is mapped kills the reader, so map only files that are replaced whole. */
struct file_map {
    const uint8_t *data;
    size_t bytes;
};
int file_map_open(struct file_map *m, const char *path, size_t bytes_max, struct err *e) MUST_USE;
void file_map_close(struct file_map *m); /* accepts zeroed memory */

/* ---- writing ------------------------------------------------------------------------------------ */

/* All of data to fd, whatever the pieces; `path` is for the error. */
int file_write(int fd, const void *data, size_t bytes, const char *path, struct err *e) MUST_USE;

/* Puts a new file at `path`, whole or not at all: a temporary file in the same folder (created
 * exclusively, permission `mode`, locked), contents, fsync, rename, fsync of the folder.  On failure
 * the old file, if any, is untouched and the temporary one is removed; fsync is never tried twice on
 * one descriptor, since the kernel forgets the lost pages.  If only the folder's fsync fails, the
 * new file is in place and the error says that it may not survive a power cut.
 * What killed writers of the same path have left, temporary files that nobody has locked, is removed first.
 * A link stays, what it points to is replaced; a device or a pipe (/dev/null, /dev/stdout) is written into as it is. */
int file_replace(const char *path, const void *data, size_t bytes, unsigned mode, struct err *e) MUST_USE;

/* The same; `fill` writes the contents to fd (file_write) and returns 0, or -1 with its error set. */
typedef int file_fill(int fd, const char *path, void *arg, struct err *e);
int file_replace_with(const char *path, unsigned mode, file_fill *fill, void *arg, struct err *e) MUST_USE;

/* Whether file_replace(path) finds a folder that it may write into: asked before the work whose result goes there. */
int file_check_place(const char *path, struct err *e) MUST_USE;

/* Appends with one write call, so that lines of several writers do not mix; creates the file.  What could not be appended
 * whole is not there at all. */
int file_append(const char *path, const void *data, size_t bytes, struct err *e) MUST_USE;

/* ---- folders ------------------------------------------------------------------------------------ */

bool file_exists(const char *path);

/* The size of a regular file. */
int file_size(const char *path, uint64_t *bytes, struct err *e) MUST_USE;

/* mkdir -p with permission 0777 minus the umask; an existing folder is fine. */
int file_make_folders(const char *path, struct err *e) MUST_USE;

/* Makes the entries of a folder durable after renames or removals in it. */
int file_sync_folder(const char *path, struct err *e) MUST_USE;

/* Removes a file, a link (never what it points to) or a folder with all that is in it; nothing there
 * is fine. Folders nested deeper than FILE_TREE_DEPTH_MAX are refused. */
int file_remove_tree(const char *path, struct err *e) MUST_USE;

/* Calls each(name) for every entry but "." and "..", in byte order of the names; stops at the first
 * -1 and returns it. More than entries_max entries is ERR_FULL. */
typedef int file_visit(const char *name, void *arg, struct err *e);
int file_list(const char *folder, size_t entries_max, file_visit *each, void *arg, struct err *e) MUST_USE;

/* out = folder + "/" + name, for a name that stays inside the folder: ERR_INVALID for an empty or
 * absolute name, a ".." component, or a result of FILE_PATH_BYTES_MAX or more. An empty folder means
 * the current one. */
int file_join(char out[FILE_PATH_BYTES_MAX], const char *folder, const char *name, struct err *e) MUST_USE;

/* ---- locks -------------------------------------------------------------------------------------- */

/* An exclusive lock for one process at a time, by an open-file-description lock on a file that is
 * created where it is missing and stays.  The kernel drops it when the process ends, however it ends.
 * ERR_CONFLICT where someone else holds it. */
struct file_lock {
    int fd_plus_1; /* zeroed memory is "not held" */
};
int file_lock_take(struct file_lock *l, const char *path, struct err *e) MUST_USE;
void file_lock_drop(struct file_lock *l);

#endif
