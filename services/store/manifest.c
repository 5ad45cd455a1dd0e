#include "store/manifest.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MANIFEST_BYTES_MAX 65536
#define ENTRIES_MAX 16384
#define NAME_BYTES 64

struct manifests {
    char *folder;
    size_t keep, count;
    struct checkpoint_ref *list; /* [MANIFESTS_MAX], newest first */
};

static void manifest_name(const struct checkpoint_ref *m, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%012llu-%llu.json", (unsigned long long)m->step,
             (unsigned long long)m->token);
}

static int older(const struct checkpoint_ref *a, const struct checkpoint_ref *b)
{
    return a->token != b->token ? a->token < b->token : a->step < b->step;
}

/* ---- text ---- */

static char *manifest_text(const struct checkpoint_ref *m, size_t *bytes)
{
    struct json *doc = json_new_object(), *blobs = json_new_list();
    json_set_int(doc, "step", (int64_t)m->step);
    json_set_int(doc, "token", (int64_t)m->token);
    for (uint32_t i = 0; i < m->blob_count; i++) {
        char hex[HASH_SHA256_HEX_BYTES];
        struct json *b = json_new_object();
        hash_hex(hex, m->blobs[i].digest, CODEC_DIGEST_BYTES);
        json_set_string(b, "name", m->blobs[i].name);
        json_set_string(b, "sha256", hex);
        json_set_int(b, "bytes", (int64_t)m->blobs[i].bytes);
        json_append(blobs, &b);
    }
    json_set(doc, "blobs", &blobs);
    size_t n;
    char *line = json_print(doc, JSON_LINE, &n), hex[HASH_SHA256_HEX_BYTES];
    uint8_t digest[HASH_SHA256_BYTES];
    json_free(doc);
    hash_sha256(digest, line, n);
    hash_hex(hex, digest, sizeof digest);
    const size_t room = n + sizeof hex + 8;
    char *text = mem_new(room, 1);
    *bytes = (size_t)snprintf(text, room, "%s\n%s\n", line, hex);
    mem_free(line);
    return text;
}

static int read_blob(const struct json *doc, struct named_blob *b, struct err *e)
{
    const char *name, *hex;
    int64_t bytes;
    if (json_get_string(doc, "name", sizeof b->name - 1, &name, e) < 0 ||
        json_get_string(doc, "sha256", HASH_SHA256_HEX_BYTES, &hex, e) < 0 ||
        hash_unhex(b->digest, sizeof b->digest, hex, e) < 0 ||
        json_get_int(doc, "bytes", 0, (int64_t)CODEC_BLOB_BYTES_MAX, &bytes, e) < 0)
        return -1;
    snprintf(b->name, sizeof b->name, "%s", name);
    b->bytes = (uint64_t)bytes;
    return 0;
}

static int read_document(const struct json *doc, struct checkpoint_ref *m, struct err *e)
{
    int64_t step, token;
    const struct json *blobs;
    if (!json_is_object(doc))
        return err_set(e, ERR_INVALID, "not an object");
    if (json_get_int(doc, "step", 0, INT64_MAX, &step, e) < 0 ||
        json_get_int(doc, "token", 0, INT64_MAX, &token, e) < 0 ||
        json_get_list(doc, "blobs", CODEC_CHECKPOINT_BLOBS_MAX, &blobs, e) < 0)
        return -1;
    *m = (struct checkpoint_ref){.step = (uint64_t)step, .token = (uint64_t)token};
    for (size_t i = 0; i < json_count(blobs); i++) {
        const struct json *b = json_at(blobs, i);
        if (!json_is_object(b))
            return err_set(e, ERR_INVALID, "blobs[%zu] is not an object", i);
        if (read_blob(b, &m->blobs[i], e) < 0)
            return -1;
    }
    m->blob_count = (uint32_t)json_count(blobs);
    return 0;
}

static int manifest_read(const char *path, struct checkpoint_ref *m, struct err *e)
{
    char *text, hex[HASH_SHA256_HEX_BYTES];
    size_t bytes;
    uint8_t digest[HASH_SHA256_BYTES];
    struct json *doc = NULL;
    if (file_read_all(path, MANIFEST_BYTES_MAX, &text, &bytes, e) < 0)
        return -1;
    int rc = -1;
    const char *end = memchr(text, '\n', bytes);
    const size_t line = end == NULL ? 0 : (size_t)(end - text);
    hash_sha256(digest, text, line);
    hash_hex(hex, digest, sizeof digest);
    if (end == NULL || bytes != line + 1 + sizeof hex ||
        strncmp(end + 1, hex, sizeof hex - 1) != 0 || text[bytes - 1] != '\n') {
        err_set(e, ERR_INVALID, "%s: does not have its own checksum", path);
        goto out;
    }
    if (json_parse(&doc, text, line, MANIFEST_BYTES_MAX, e) < 0 || read_document(doc, m, e) < 0) {
        err_wrap(e, "%s", path);
        goto out;
    }
    rc = 0;
out:
    json_free(doc);
    mem_free(text);
    return rc;
}

/* ---- the list ---- */

static void insert(struct manifests *l, const struct checkpoint_ref *m)
{
    size_t at = 0;
    while (at < l->count && older(m, &l->list[at]))
        at++;
    if (at == MANIFESTS_MAX)
        return; /* older than all that are kept */
    const size_t tail = (l->count < MANIFESTS_MAX ? l->count : MANIFESTS_MAX - 1) - at;
    memmove(&l->list[at + 1], &l->list[at], tail * sizeof *l->list);
    l->list[at] = *m;
    if (l->count < MANIFESTS_MAX)
        l->count++;
}

static void erase(struct manifests *l, size_t i)
{
    memmove(&l->list[i], &l->list[i + 1], (l->count - i - 1) * sizeof *l->list);
    l->count--;
}

static void set_aside(const char *path)
{
    char aside[FILE_PATH_BYTES_MAX + 16];
    snprintf(aside, sizeof aside, "%s.corrupt", path);
    if (rename(path, aside) < 0)
        log_event(LOG_ERROR, "manifest_not_moved", "path=%s", path);
}

static int visit(const char *name, void *arg, struct err *e)
{
    struct manifests *l = arg;
    struct checkpoint_ref m;
    char path[FILE_PATH_BYTES_MAX], want[NAME_BYTES];
    struct err why;
    const size_t n = strlen(name);
    if (file_join(path, l->folder, name, e) < 0)
        return -1;
    if (strstr(name, ".tmp-") != NULL)
        return file_remove_tree(path, e); /* left by a crash */
    if (n < 5 || strcmp(name + n - 5, ".json") != 0)
        return 0;
    if (manifest_read(path, &m, &why) == 0) {
        manifest_name(&m, want);
        if (strcmp(name, want) == 0) {
            insert(l, &m);
            return 0;
        }
        err_set(&why, ERR_INVALID, "%s: its contents are those of %s", path, want);
    }
    log_err("manifest_corrupt", &why);
    set_aside(path);
    return 0;
}

int manifests_open(struct manifests **out, const char *folder, size_t keep, struct err *e)
{
    *out = NULL;
    assert(keep > 0 && keep < MANIFESTS_MAX);
    struct manifests *l = mem_new(1, sizeof *l);
    l->folder = mem_strdup(folder);
    l->keep = keep;
    l->list = mem_new(MANIFESTS_MAX, sizeof *l->list);
    if (file_make_folders(folder, e) < 0 || file_list(folder, ENTRIES_MAX, visit, l, e) < 0) {
        manifests_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

void manifests_close(struct manifests *l)
{
    if (l == NULL)
        return;
    mem_free(l->folder);
    mem_free(l->list);
    mem_free(l);
}

size_t manifests_count(const struct manifests *l)
{
    return l->count;
}

const struct checkpoint_ref *manifests_at(const struct manifests *l, size_t i)
{
    return i < l->count ? &l->list[i] : NULL;
}

static int same(const struct checkpoint_ref *a, const struct checkpoint_ref *b)
{
    if (a->step != b->step || a->token != b->token || a->blob_count != b->blob_count)
        return 0;
    for (uint32_t i = 0; i < a->blob_count; i++)
        if (strcmp(a->blobs[i].name, b->blobs[i].name) != 0 ||
            a->blobs[i].bytes != b->blobs[i].bytes ||
            memcmp(a->blobs[i].digest, b->blobs[i].digest, CODEC_DIGEST_BYTES) != 0)
            return 0;
    return 1;
}

static void remove_file(const struct manifests *l, const struct checkpoint_ref *m)
{
    char name[NAME_BYTES], path[FILE_PATH_BYTES_MAX];
    struct err e;
    manifest_name(m, name);
    if (file_join(path, l->folder, name, &e) < 0 || file_remove_tree(path, &e) < 0)
        log_err("manifest_not_removed", &e);
}

/* The manifests that the new one supersedes: beyond `keep`, or of its step under an older token. */
static void prune(struct manifests *l, const struct checkpoint_ref *newest)
{
    size_t kept = 0;
    while (kept < l->count) {
        const struct checkpoint_ref *m = &l->list[kept];
        if (kept < l->keep && (m->step != newest->step || m->token >= newest->token)) {
            kept++;
            continue;
        }
        remove_file(l, m);
        erase(l, kept);
    }
}

int manifests_publish(struct manifests *l, const struct checkpoint_ref *m, struct err *e)
{
    char name[NAME_BYTES], path[FILE_PATH_BYTES_MAX], line[NAME_BYTES + 1];
    struct checkpoint_ref back;
    size_t bytes;
    manifest_name(m, name);
    if (file_join(path, l->folder, name, e) < 0)
        return -1;
    char *text = manifest_text(m, &bytes);
    const int written = file_replace(path, text, bytes, 0644, e);
    mem_free(text);
    if (written < 0 || manifest_read(path, &back, e) < 0)
        return -1;
    if (!same(m, &back))
        return err_set(e, ERR_IO, "%s: the disk gave back another manifest", path);
    for (size_t i = l->count; i-- > 0;)
        if (l->list[i].step == m->step && l->list[i].token == m->token)
            erase(l, i);
    insert(l, m);
    manifest_name(&l->list[0], name);
    const int n = snprintf(line, sizeof line, "%s\n", name);
    if (file_join(path, l->folder, "LATEST", e) < 0 ||
        file_replace(path, line, (size_t)n, 0644, e) < 0)
        return -1;
    prune(l, m);
    return 0;
}

void manifests_discard(struct manifests *l, size_t i)
{
    char name[NAME_BYTES], path[FILE_PATH_BYTES_MAX];
    struct err e;
    assert(i < l->count);
    manifest_name(&l->list[i], name);
    log_event(LOG_ERROR, "manifest_discarded", "name=%s", name);
    if (file_join(path, l->folder, name, &e) == 0)
        set_aside(path);
    erase(l, i);
}
