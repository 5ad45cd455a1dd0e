#include "store/blobs.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERIFIED_MAX 256
#define FRESH_MAX 256
#define READ_BYTES ((size_t)1 << 20)
#define HEX_BYTES HASH_SHA256_HEX_BYTES

struct upload {
    bool used;
    int fd;
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t have, total, last_used;
    struct hash_sha256 hash;
};

/* A file whose bytes were hashed, as it was then. */
struct verified {
    uint8_t digest[CODEC_DIGEST_BYTES];
    struct stat st;
};

struct fresh {
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t sweep;
};

struct blobs {
    char *folder;
    uint8_t *scratch; /* [READ_BYTES] */
    struct upload uploads[BLOBS_UPLOADS_MAX];
    uint64_t uses;
    struct verified verified[VERIFIED_MAX];
    size_t verified_count, verified_next;
    struct fresh fresh[FRESH_MAX];
    size_t fresh_next;
    uint64_t sweeps;
};

/* ---- names ---- */

static void folder_path(const struct blobs *b, const uint8_t *digest, char out[FILE_PATH_BYTES_MAX])
{
    const int n = snprintf(out, FILE_PATH_BYTES_MAX, "%s/%02x", b->folder, digest[0]);
    assert(n > 0 && n < FILE_PATH_BYTES_MAX);
}

static void blob_path(const struct blobs *b, const uint8_t *digest, const char *suffix,
                      char out[FILE_PATH_BYTES_MAX])
{
    char hex[HEX_BYTES];
    hash_hex(hex, digest, CODEC_DIGEST_BYTES);
    const int n =
        snprintf(out, FILE_PATH_BYTES_MAX, "%s/%02x/%s%s", b->folder, digest[0], hex, suffix);
    assert(n > 0 && n < FILE_PATH_BYTES_MAX);
}

static const char *shown(const uint8_t *digest)
{
    static char hex[HEX_BYTES];
    hash_hex(hex, digest, CODEC_DIGEST_BYTES);
    hex[12] = 0;
    return hex;
}

/* ---- open ---- */

static int remove_part(const char *name, void *arg, struct err *e)
{
    const char *folder = arg;
    const size_t n = strlen(name);
    char path[FILE_PATH_BYTES_MAX];
    if (n < 5 || strcmp(name + n - 5, ".part") != 0)
        return 0;
    if (file_join(path, folder, name, e) < 0)
        return -1;
    log_event(LOG_WARN, "unfinished_upload_removed", "blob=%.12s", name);
    return file_remove_tree(path, e);
}

int blobs_open(struct blobs **out, const char *folder, struct err *e)
{
    *out = NULL;
    struct blobs *b = mem_new(1, sizeof *b);
    char path[FILE_PATH_BYTES_MAX];
    b->folder = mem_strdup(folder);
    b->scratch = mem_new(READ_BYTES, 1);
    if (strlen(folder) + HEX_BYTES + 16 >= FILE_PATH_BYTES_MAX) {
        err_set(e, ERR_INVALID, "store.data: the path is too long");
        goto fail;
    }
    snprintf(path, sizeof path, "%s/corrupt", folder);
    if (file_make_folders(path, e) < 0)
        goto fail;
    for (int i = 0; i < 256; i++) {
        const uint8_t first = (uint8_t)i;
        folder_path(b, &first, path);
        if (file_make_folders(path, e) < 0 ||
            file_list(path, BLOBS_ENTRIES_MAX, remove_part, path, e) < 0)
            goto fail;
    }
    if (file_sync_folder(folder, e) < 0)
        goto fail;
    *out = b;
    return 0;
fail:
    blobs_close(b);
    return -1;
}

static void upload_drop(struct blobs *b, struct upload *u)
{
    char path[FILE_PATH_BYTES_MAX];
    if (!u->used)
        return;
    blob_path(b, u->digest, ".part", path);
    close(u->fd);
    unlink(path);
    u->used = false;
}

void blobs_close(struct blobs *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < BLOBS_UPLOADS_MAX; i++)
        upload_drop(b, &b->uploads[i]);
    mem_free(b->folder);
    mem_free(b->scratch);
    mem_free(b);
}

/* ---- verification ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool is_verified(const struct blobs *b, const uint8_t *digest, const struct stat *st)
{
    for (size_t i = 0; i < b->verified_count; i++)
        if (memcmp(b->verified[i].digest, digest, CODEC_DIGEST_BYTES) == 0 &&
            same_file(&b->verified[i].st, st))
            return true;
    return false;
}

static void set_verified(struct blobs *b, const uint8_t *digest, const struct stat *st)
{
    struct verified *v = &b->verified[b->verified_next];
    b->verified_next = (b->verified_next + 1) % VERIFIED_MAX;
    if (b->verified_count < VERIFIED_MAX)
        b->verified_count++;
    memcpy(v->digest, digest, CODEC_DIGEST_BYTES);
    v->st = *st;
}

static int hash_file(struct blobs *b, int fd, uint8_t out[HASH_SHA256_BYTES])
{
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    for (off_t at = 0;;) {
        const ssize_t n = pread(fd, b->scratch, READ_BYTES, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        hash_sha256_add(&h, b->scratch, (size_t)n);
        at += n;
    }
    hash_sha256_end(&h, out);
    return 0;
}

static void quarantine(struct blobs *b, const uint8_t *digest, const char *path)
{
    char aside[FILE_PATH_BYTES_MAX], hex[HEX_BYTES];
    hash_hex(hex, digest, CODEC_DIGEST_BYTES);
    snprintf(aside, sizeof aside, "%.3900s/corrupt/%s", b->folder, hex);
    if (rename(path, aside) < 0)
        unlink(path);
    log_event(LOG_ERROR, "blob_corrupt", "blob=%s moved_to=%s", shown(digest), aside);
}

/* An open descriptor of a blob whose bytes have their digest, or -1. */
static int open_verified(struct blobs *b, const uint8_t *digest, struct stat *st, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    uint8_t got[HASH_SHA256_BYTES];
    blob_path(b, digest, "", path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ERR_NOT_FOUND, "no blob %s", shown(digest));
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    if (fstat(fd, st) < 0) {
        err_sys(e, errno, "stat %s", path);
        goto fail;
    }
    if (is_verified(b, digest, st))
        return fd;
    const int failed = hash_file(b, fd, got) < 0 ? errno : 0;
    if (failed != 0 && failed != EIO) {
        err_sys(e, failed, "read %s", path);
        goto fail;
    }
    if (failed == EIO || memcmp(got, digest, sizeof got) != 0) { /* a bad sector stays bad */
        quarantine(b, digest, path);
        err_set(e, ERR_NOT_FOUND, "blob %s is damaged on disk and was taken out of use",
                shown(digest));
        goto fail;
    }
    set_verified(b, digest, st);
    return fd;
fail:
    close(fd);
    return -1;
}

int blobs_verify(struct blobs *b, const uint8_t *digest, uint64_t *bytes, struct err *e)
{
    struct stat st;
    const int fd = open_verified(b, digest, &st, e);
    if (fd < 0)
        return -1;
    close(fd);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int blobs_get(struct blobs *b, const uint8_t *digest, uint64_t offset, size_t length_max,
              uint8_t *out, size_t *bytes, uint64_t *bytes_total, struct err *e)
{
    struct stat st;
    const int fd = open_verified(b, digest, &st, e);
    if (fd < 0)
        return -1;
    int rc = 0;
    size_t have = 0;
    *bytes_total = (uint64_t)st.st_size;
    const uint64_t left = offset < *bytes_total ? *bytes_total - offset : 0;
    const size_t want = left < length_max ? (size_t)left : length_max;
    while (rc == 0 && have < want) {
        const ssize_t n = pread(fd, out + have, want - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            rc = err_set(e, ERR_IO, "blob %s: read failed at %llu", shown(digest),
                         (unsigned long long)(offset + have));
        else
            have += (size_t)n;
    }
    close(fd);
    *bytes = have;
    return rc;
}

/* ---- uploads ---- */

static void set_fresh(struct blobs *b, const uint8_t *digest)
{
    struct fresh *f = &b->fresh[b->fresh_next];
    b->fresh_next = (b->fresh_next + 1) % FRESH_MAX;
    memcpy(f->digest, digest, CODEC_DIGEST_BYTES);
    f->sweep = b->sweeps;
}

static struct upload *upload_find(struct blobs *b, const uint8_t *digest)
{
    for (size_t i = 0; i < BLOBS_UPLOADS_MAX; i++)
        if (b->uploads[i].used &&
            memcmp(b->uploads[i].digest, digest, sizeof b->uploads[i].digest) == 0)
            return &b->uploads[i];
    return NULL;
}

static struct upload *upload_begin(struct blobs *b, const struct blob_chunk *chunk, struct err *e)
{
    struct upload *u = &b->uploads[0];
    for (size_t i = 0; i < BLOBS_UPLOADS_MAX; i++) {
        struct upload *x = &b->uploads[i];
        if (!x->used) {
            u = x;
            break;
        }
        if (x->last_used < u->last_used)
            u = x;
    }
    upload_drop(b, u);
    char path[FILE_PATH_BYTES_MAX];
    blob_path(b, chunk->digest, ".part", path);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        err_sys(e, errno, "create %s", path);
        return NULL;
    }
    /* Space is reserved before the first byte: a full disk is found now, not at the end. */
    const int full =
        chunk->bytes_total == 0 ? 0 : posix_fallocate(fd, 0, (off_t)chunk->bytes_total);
    if (full != 0 && full != EOPNOTSUPP && full != EINVAL) {
        err_sys(e, full, "reserving %llu bytes for blob %s", (unsigned long long)chunk->bytes_total,
                shown(chunk->digest));
        close(fd);
        unlink(path);
        return NULL;
    }
    *u = (struct upload){.used = true, .fd = fd, .total = chunk->bytes_total};
    memcpy(u->digest, chunk->digest, sizeof u->digest);
    hash_sha256_begin(&u->hash);
    return u;
}

static int upload_add(struct upload *u, const uint8_t *data, size_t bytes, struct err *e)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = pwrite(u->fd, data + done, bytes - done, (off_t)(u->have + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "writing blob %s", shown(u->digest));
        done += (size_t)n;
    }
    hash_sha256_add(&u->hash, data, bytes);
    u->have += bytes;
    return 0;
}

/* fsync -> read back -> rename -> fsync of the folder. A failed fsync is not tried again on this
 * descriptor: the kernel may have forgotten the pages it could not write. */
static int upload_finish(struct blobs *b, struct upload *u, struct err *e)
{
    char part[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX], folder[FILE_PATH_BYTES_MAX];
    uint8_t got[HASH_SHA256_BYTES];
    struct stat st;
    blob_path(b, u->digest, ".part", part);
    blob_path(b, u->digest, "", path);
    folder_path(b, u->digest, folder);
    hash_sha256_end(&u->hash, got);
    if (memcmp(got, u->digest, sizeof got) != 0)
        return err_set(e, ERR_CONFLICT, "blob %s: the bytes sent do not have this digest",
                       shown(u->digest));
    if (fsync(u->fd) < 0)
        return err_sys(e, errno, "fsync %s", part);
    /* From the disk, where it can be: the page cache would only repeat what we wrote. */
    posix_fadvise(u->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (hash_file(b, u->fd, got) < 0)
        return err_sys(e, errno, "reading back %s", part);
    if (memcmp(got, u->digest, sizeof got) != 0)
        return err_set(e, ERR_IO, "blob %s: the disk gave back other bytes than were written",
                       shown(u->digest));
    if (fstat(u->fd, &st) < 0 || rename(part, path) < 0)
        return err_sys(e, errno, "rename %s", part);
    if (file_sync_folder(folder, e) < 0)
        return -1;
    set_verified(b, u->digest, &st);
    return 0;
}

int blobs_put(struct blobs *b, const struct blob_chunk *chunk, const uint8_t *data, size_t bytes,
              uint64_t *have, struct err *e)
{
    struct upload *u = upload_find(b, chunk->digest);
    uint64_t there;
    struct err ignored;
    assert(bytes <= chunk->bytes_total && chunk->offset <= chunk->bytes_total - bytes);
    if (u == NULL && blobs_verify(b, chunk->digest, &there, &ignored) == 0) {
        if (there != chunk->bytes_total)
            return err_set(e, ERR_CONFLICT, "blob %s has %llu bytes, not %llu",
                           shown(chunk->digest), (unsigned long long)there,
                           (unsigned long long)chunk->bytes_total);
        set_fresh(b, chunk->digest);
        *have = there;
        return 0;
    }
    if (u == NULL && (u = upload_begin(b, chunk, e)) == NULL)
        return -1;
    u->last_used = ++b->uses;
    if (u->total != chunk->bytes_total) {
        upload_drop(b, u);
        return err_set(e, ERR_CONFLICT, "blob %s: its size changed within the upload",
                       shown(chunk->digest));
    }
    if (chunk->offset == u->have && upload_add(u, data, bytes, e) < 0) {
        upload_drop(b, u);
        return -1;
    }
    *have = u->have;
    if (u->have < u->total)
        return 0;
    if (upload_finish(b, u, e) < 0) {
        upload_drop(b, u);
        return -1;
    }
    close(u->fd);
    u->used = false;
    set_fresh(b, chunk->digest);
    return 0;
}

/* ---- imports ---- */

int blobs_import_bytes(struct blobs *b, const void *data, size_t bytes,
                       uint8_t digest[CODEC_DIGEST_BYTES], struct err *e)
{
    struct blob_chunk chunk = {.bytes_total = bytes};
    const uint8_t *p = data;
    uint64_t have = 0;
    hash_sha256(chunk.digest, data, bytes);
    memcpy(digest, chunk.digest, sizeof chunk.digest);
    do {
        const uint64_t left = bytes - have;
        chunk.offset = have;
        if (blobs_put(b, &chunk, p + have, left < READ_BYTES ? (size_t)left : READ_BYTES, &have,
                      e) < 0)
            return -1;
    } while (have < bytes);
    return 0;
}

int blobs_import(struct blobs *b, const char *path, uint8_t digest[CODEC_DIGEST_BYTES],
                 uint64_t *bytes, struct err *e)
{
    struct file_map map;
    if (file_map_open(&map, path, CODEC_BLOB_BYTES_MAX, e) < 0)
        return -1;
    *bytes = map.bytes;
    const int rc = blobs_import_bytes(b, map.data, map.bytes, digest, e);
    file_map_close(&map);
    return rc < 0 ? err_wrap(e, "importing %s", path) : 0;
}

/* ---- sweeping ---- */

struct sweep {
    struct blobs *blobs;
    bool (*keep)(void *arg, const uint8_t *digest);
    void *arg;
    const char *folder;
    size_t removed;
};

static bool is_fresh(const struct blobs *b, const uint8_t *digest)
{
    for (size_t i = 0; i < FRESH_MAX; i++)
        if (memcmp(b->fresh[i].digest, digest, CODEC_DIGEST_BYTES) == 0 &&
            b->fresh[i].sweep + 2 > b->sweeps)
            return true;
    return false;
}

static int sweep_one(const char *name, void *arg, struct err *e)
{
    struct sweep *s = arg;
    uint8_t digest[CODEC_DIGEST_BYTES];
    struct err ignored;
    char path[FILE_PATH_BYTES_MAX];
    if (hash_unhex(digest, sizeof digest, name, &ignored) < 0 || s->keep(s->arg, digest) ||
        is_fresh(s->blobs, digest))
        return 0;
    if (file_join(path, s->folder, name, e) < 0)
        return -1;
    if (unlink(path) == 0)
        s->removed++;
    return 0;
}

size_t blobs_sweep(struct blobs *b, bool (*keep)(void *arg, const uint8_t *digest), void *arg)
{
    struct sweep s = {.blobs = b, .keep = keep, .arg = arg};
    struct err e;
    /* What was uploaded just before a restart is as fresh as what came just after it. */
    if (++b->sweeps < 2)
        return 0;
    for (int i = 0; i < 256; i++) {
        const uint8_t first = (uint8_t)i;
        char path[FILE_PATH_BYTES_MAX];
        folder_path(b, &first, path);
        s.folder = path;
        if (file_list(path, BLOBS_ENTRIES_MAX, sweep_one, &s, &e) < 0)
            log_err("sweep_failed", &e);
    }
    return s.removed;
}
