#include "wire/keys.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

#define PATH_BYTES_MAX 4096
#define ALLOW_BYTES_MAX 65536
#define KEY_CHARS 40

void keys_wipe(struct keys_pair *k)
{
    sodium_memzero(k, sizeof *k);
}

int keys_make(struct keys_pair *k, struct err *e)
{
    if (zmq_curve_keypair(k->public_text, k->secret_text) < 0)
        return err_set(e, ERR_INVALID, "this libzmq makes no CURVE keys: %s", zmq_strerror(errno));
    return 0;
}

static int key_path(char out[PATH_BYTES_MAX], const char *folder, const char *name,
                    const char *suffix, struct err *e)
{
    const int n = snprintf(out, PATH_BYTES_MAX, "%s/%s%s", folder, name, suffix);
    if (n < 0 || n >= PATH_BYTES_MAX)
        return err_set(e, ERR_INVALID, "keys folder: the path is longer than %d bytes",
                       PATH_BYTES_MAX);
    return 0;
}

/* Reads a small file whole; refuses one that others could have read where it is `secret`. */
static int read_small(const char *path, char *out, size_t capacity, size_t *bytes, int secret,
                      struct err *e)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    int rc = -1;
    struct stat st;
    if (fstat(fd, &st) < 0) {
        err_sys(e, errno, "%s", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INVALID, "%s: not a regular file", path);
        goto out;
    }
    if (secret && (st.st_mode & 077) != 0) {
        err_set(e, ERR_INVALID, "%s: mode %04o lets others read the secret key: chmod 0400 it",
                path, (unsigned)(st.st_mode & 07777));
        goto out;
    }
    size_t have = 0;
    for (;;) {
        const ssize_t n = read(fd, out + have, capacity - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_sys(e, errno, "%s", path);
            goto out;
        }
        have += (size_t)n;
        if (n == 0)
            break;
        if (have == capacity) {
            err_set(e, ERR_INVALID, "%s: more than %zu bytes", path, capacity - 1);
            goto out;
        }
    }
    *bytes = have;
    rc = 0;
out:
    close(fd);
    return rc;
}

static int key_text(char out[KEYS_TEXT_BYTES], const char *path, int secret, struct err *e)
{
    char text[KEYS_TEXT_BYTES + 8];
    size_t n = 0;
    uint8_t raw[KEYS_RAW_BYTES];
    int rc = read_small(path, text, sizeof text, &n, secret, e);
    if (rc == 0) {
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
            n--;
        if (n != KEY_CHARS || memchr(text, 0, n) != NULL) {
            rc = err_set(e, ERR_INVALID, "%s: not a key of %d characters", path, KEY_CHARS);
        } else {
            memcpy(out, text, KEY_CHARS);
            out[KEY_CHARS] = 0;
            if (zmq_z85_decode(raw, out) == NULL)
                rc = err_set(e, ERR_INVALID, "%s: not Z85 text", path);
        }
    }
    sodium_memzero(text, sizeof text);
    sodium_memzero(raw, sizeof raw);
    return rc;
}

int keys_load_public(char out[KEYS_TEXT_BYTES], const char *folder, const char *name, struct err *e)
{
    char path[PATH_BYTES_MAX];
    if (key_path(path, folder, name, ".pub", e) < 0)
        return -1;
    return key_text(out, path, 0, e);
}

int keys_load(struct keys_pair *k, const char *folder, const char *name, struct err *e)
{
    char path[PATH_BYTES_MAX], derived[KEYS_TEXT_BYTES];
    if (key_path(path, folder, name, ".key", e) < 0 || key_text(k->secret_text, path, 1, e) < 0)
        goto fail;
    if (keys_load_public(k->public_text, folder, name, e) < 0)
        goto fail;
    if (zmq_curve_public(derived, k->secret_text) < 0 || strcmp(derived, k->public_text) != 0) {
        err_set(e, ERR_INVALID, "%s: does not belong to %s.pub beside it", path, name);
        goto fail;
    }
    return 0;
fail:
    keys_wipe(k);
    return -1;
}

/* A new file of one line, or nothing. */
static int write_new(const char *path, const char *line, mode_t mode, struct err *e)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST)
        return err_set(e, ERR_CONFLICT, "%s: exists already", path);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    const size_t n = strlen(line);
    int rc = 0;
    /* fchmod: the umask must not decide who reads a key. */
    if (fchmod(fd, mode) < 0 || write(fd, line, n) != (ssize_t)n || fsync(fd) < 0)
        rc = err_sys(e, errno, "%s", path);
    if (close(fd) < 0 && rc == 0)
        rc = err_sys(e, errno, "%s", path);
    if (rc < 0)
        unlink(path);
    return rc;
}

int keys_create(const char *folder, const char *name, struct keys_pair *k, struct err *e)
{
    char secret_path[PATH_BYTES_MAX], public_path[PATH_BYTES_MAX];
    char line[KEYS_TEXT_BYTES + 1];
    if (key_path(secret_path, folder, name, ".key", e) < 0 ||
        key_path(public_path, folder, name, ".pub", e) < 0 || keys_make(k, e) < 0)
        return -1;
    snprintf(line, sizeof line, "%s\n", k->secret_text);
    int rc = write_new(secret_path, line, 0400, e);
    sodium_memzero(line, sizeof line);
    if (rc < 0)
        goto fail;
    snprintf(line, sizeof line, "%s\n", k->public_text);
    if (write_new(public_path, line, 0444, e) < 0) {
        unlink(secret_path);
        goto fail;
    }
    return 0;
fail:
    keys_wipe(k);
    return -1;
}

/* ---- allow-list ---- */

static int allow_line(struct keys_allow_list *out, char *line, size_t number, struct err *e)
{
    /* '#' is a Z85 character too: a comment's # stands alone, a key's has neighbours. */
    for (size_t i = 0; line[i] != 0; i++)
        if (line[i] == '#' && (i == 0 || strchr(" \t", line[i - 1]) != NULL) &&
            strchr(" \t\r", line[i + 1]) != NULL) {
            line[i] = 0;
            break;
        }
    char key[KEYS_TEXT_BYTES + 1], party[32], rest[2];
    const int n = sscanf(line, "%41s %31s %1s", key, party, rest);
    if (n <= 0)
        return 0;
    if (n != 2)
        return err_set(e, ERR_INVALID, "allow-list line %zu: must be 'PUBLIC_KEY PARTY'", number);
    if (out->count == KEYS_ALLOWED_MAX)
        return err_set(e, ERR_INVALID, "allow-list line %zu: more than %d keys", number,
                       KEYS_ALLOWED_MAX);
    struct keys_allowed *a = &out->entries[out->count];
    if (strlen(key) != KEY_CHARS || zmq_z85_decode(a->key, key) == NULL)
        return err_set(e, ERR_INVALID, "allow-list line %zu: not a key of %d characters", number,
                       KEY_CHARS);
    a->party = message_party_of(party);
    if (a->party == PARTY_COUNT)
        return err_set(
            e, ERR_INVALID,
            "allow-list line %zu: '%s' is not store, scorer, sampler, trainer or dagline", number,
            party);
    const enum message_party other = keys_allow_find(out, a->key);
    if (other != PARTY_LOCAL)
        return err_set(e, ERR_INVALID, "allow-list line %zu: that key is listed already as %s",
                       number, message_party_name(other));
    out->count++;
    return 0;
}

int keys_allow_parse(struct keys_allow_list *out, const char *text, size_t bytes, struct err *e)
{
    *out = (struct keys_allow_list){0};
    size_t number = 0;
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t n = end == NULL ? bytes - at : (size_t)(end - (text + at));
        char line[256];
        number++;
        if (n >= sizeof line || memchr(text + at, 0, n) != NULL)
            return err_set(e, ERR_INVALID, "allow-list line %zu: longer than %zu bytes or not text",
                           number, sizeof line - 1);
        memcpy(line, text + at, n);
        line[n] = 0;
        if (allow_line(out, line, number, e) < 0)
            return -1;
        at += n + 1;
    }
    if (out->count == 0)
        return err_set(e, ERR_INVALID, "allow-list: no keys; nobody could connect");
    return 0;
}

int keys_allow_load(struct keys_allow_list *out, const char *path, struct err *e)
{
    char *text = mem_new(ALLOW_BYTES_MAX, 1);
    size_t n = 0;
    int rc = read_small(path, text, ALLOW_BYTES_MAX, &n, 0, e);
    if (rc == 0 && (rc = keys_allow_parse(out, text, n, e)) < 0)
        err_wrap(e, "%s", path);
    mem_free(text);
    return rc;
}

enum message_party keys_allow_find(const struct keys_allow_list *a,
                                   const uint8_t key[KEYS_RAW_BYTES])
{
    enum message_party found = PARTY_LOCAL;
    for (size_t i = 0; i < a->count; i++)
        if (sodium_memcmp(a->entries[i].key, key, KEYS_RAW_BYTES) == 0)
            found = a->entries[i].party;
    return found;
}

/* ---- `dagline keys` ---- */

static int append_allow(FILE *f, const char *public_text, const char *party)
{
    return fprintf(f, "%s %s\n", public_text, party) < 0 ? -1 : 0;
}

int keys_create_folder(const char *folder, struct err *e)
{
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "%s", folder);
    char path[PATH_BYTES_MAX], temp[PATH_BYTES_MAX];
    if (key_path(path, folder, "allow", "", e) < 0 ||
        key_path(temp, folder, ".allow", ".new", e) < 0)
        return -1;
    /* Lines of an allow-list that is there are the operator's: only what is missing is added. */
    struct keys_allow_list old = {0};
    if (access(path, F_OK) == 0 && keys_allow_load(&old, path, e) < 0)
        return -1;
    FILE *f = fopen(temp, "w");
    if (f == NULL)
        return err_sys(e, errno, "%s", temp);
    int rc = fputs("# public key (Z85) and the party it stands for\n", f) < 0 ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < old.count; i++) {
        char text[KEYS_TEXT_BYTES];
        zmq_z85_encode(text, old.entries[i].key, KEYS_RAW_BYTES);
        rc = append_allow(f, text, message_party_name(old.entries[i].party));
    }
    if (rc < 0)
        err_sys(e, errno, "%s", temp);
    for (enum message_party p = PARTY_STORE; rc == 0 && p < PARTY_COUNT; p++) {
        struct keys_pair k;
        const char *name = message_party_name(p);
        struct err why;
        rc = keys_create(folder, name, &k, &why);
        if (rc < 0 && why.code == ERR_CONFLICT)
            rc = keys_load(&k, folder, name, &why);
        if (rc < 0) {
            err_set(e, why.code, "%s", why.text);
            break;
        }
        uint8_t raw[KEYS_RAW_BYTES];
        const uint8_t *decoded = zmq_z85_decode(raw, k.public_text);
        assert(decoded != NULL);
        if (keys_allow_find(&old, raw) == PARTY_LOCAL &&
            (rc = append_allow(f, k.public_text, name)) < 0)
            err_sys(e, errno, "%s", temp);
        keys_wipe(&k);
    }
    if (rc == 0 && (fflush(f) != 0 || fsync(fileno(f)) < 0))
        rc = err_sys(e, errno, "%s", temp);
    if (fclose(f) != 0 && rc == 0)
        rc = err_sys(e, errno, "%s", temp);
    if (rc == 0 && rename(temp, path) < 0)
        rc = err_sys(e, errno, "%s", path);
    if (rc < 0)
        unlink(temp);
    return rc;
}
