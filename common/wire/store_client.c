#include "wire/store_client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/loop.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A request that is not answered after this long is sent again; doubled for each try. */
#define TRY_MS_FIRST 1000
#define TRY_MS_MAX 8000
#define LISTEN_MS 250 /* between two looks for a signal to end, once a first try was not answered */

struct store_client {
    struct wire_net *net;
    struct wire *wire;
    uint32_t timeout_ms;
    uint64_t request, token;
};

int store_client_open(struct store_client **out, struct wire_net *net,
                      const struct store_client_options *o, struct err *e)
{
    *out = NULL;
    struct store_client *c = mem_new(1, sizeof *c);
    c->net = net;
    c->timeout_ms = o->timeout_ms == 0 ? STORE_CLIENT_TIMEOUT_MS : o->timeout_ms;
    if (wire_open(&c->wire, net, WIRE_STORE_CLIENT, o->endpoint, e) < 0) {
        store_client_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void store_client_close(struct store_client *c)
{
    if (c == NULL)
        return;
    wire_close(c->wire);
    mem_free(c);
}

void store_client_timeout(struct store_client *c, uint32_t timeout_ms)
{
    assert(timeout_ms > 0);
    c->timeout_ms = timeout_ms;
}

/* ---- one request, one reply ---- */

/* A copy that shares the body's and payload's bytes; `original` must outlive what is sent of it, so
 * its payload is never handed over without a copy. */
static struct message *copy_of(const struct message *original)
{
    struct message *m = message_new(original->kind);
    m->request = original->request;
    m->token = original->token;
    m->body = original->body;
    m->body_bytes = original->body_bytes;
    m->payload = original->payload;
    m->payload_bytes = original->payload_bytes;
    return m;
}

/* What a wait may take of the time left. */
static int slice(int64_t until_ms)
{
    const int64_t left = until_ms - clock_mono_ms(NULL);
    return left <= 0 ? 0 : left < LISTEN_MS ? (int)left : LISTEN_MS;
}

/* After a wait without its event: 0 to wait on, -1 with ERR_TIMEOUT when the try is over. */
static int wait_on(int64_t until_ms, bool again, struct err *e)
{
    if (e->code != ERR_TIMEOUT || clock_mono_ms(NULL) >= until_ms)
        return -1;
    return again && loop_signal_waits() ? err_set(e, ERR_UNAVAILABLE, "asked to end while the store did not answer") : 0;
}

static int try_once(struct store_client *c, const struct message *request, int64_t until_ms, bool again,
                    struct message **reply, struct err *e)
{
    while (wire_wait_writable(c->wire, slice(until_ms), e) < 0)
        if (wait_on(until_ms, again, e) < 0)
            return -1;
    struct message *m = copy_of(request);
    if (wire_send(c->wire, &m, e) < 0) {
        message_free(m);
        return -1;
    }
    for (;;) {
        while (wire_recv(c->wire, reply, slice(until_ms), e) < 0)
            if (wait_on(until_ms, again, e) < 0)
                return -1;
        if ((*reply)->request == request->request)
            return 0;
        message_free(*reply); /* the late answer of a request that was given up */
        *reply = NULL;
    }
}

/* Takes the request. On success *reply has the wanted kind and is the caller's. */
static int ask(struct store_client *c, struct message *request, enum message_kind want,
               struct message **reply, struct err *e)
{
    *reply = NULL;
    request->request = ++c->request;
    request->token = c->token;
    const int64_t deadline = clock_mono_ms(NULL) + c->timeout_ms;
    int64_t patience = TRY_MS_FIRST;
    int rc = -1;
    for (;;) {
        const int64_t now = clock_mono_ms(NULL);
        if (now >= deadline) {
            err_set(e, ERR_UNAVAILABLE, "store %s: no answer to %s within %u ms",
                    wire_endpoint(c->wire), message_kind_name(request->kind), c->timeout_ms);
            goto out;
        }
        struct err why;
        const int64_t until = now + patience < deadline ? now + patience : deadline;
        if (try_once(c, request, until, patience > TRY_MS_FIRST, reply, &why) == 0)
            break;
        if (why.code != ERR_TIMEOUT && why.code != ERR_FULL) {
            err_set(e, why.code, "%s", why.text);
            goto out;
        }
        if (patience == TRY_MS_FIRST)
            log_event(LOG_WARN, "store_away", "endpoint=%s request=%s patience_ms=%u", wire_endpoint(c->wire),
                      message_kind_name(request->kind), c->timeout_ms);
        patience = patience * 2 < TRY_MS_MAX ? patience * 2 : TRY_MS_MAX;
    }
    if ((*reply)->kind == want) {
        rc = 0;
    } else if ((*reply)->kind == MESSAGE_ERROR) {
        struct err said;
        if (codec_get_error(*reply, &said, e) == 0)
            err_set(e, said.code, "store: %s", said.text);
    } else {
        err_set(e, ERR_INVALID, "store %s: answered %s with %s", wire_endpoint(c->wire),
                message_kind_name(request->kind), message_kind_name((*reply)->kind));
    }
out:
    if (rc < 0) {
        message_free(*reply);
        *reply = NULL;
    }
    message_free(request);
    return rc;
}

static struct message *empty(enum message_kind kind)
{
    struct message *m = message_new(kind);
    codec_put_empty(m);
    return m;
}

/* ---- requests ---- */

int store_client_run(struct store_client *c, struct run_spec *out, struct err *e)
{
    struct message *reply;
    *out = (struct run_spec){0};
    if (ask(c, empty(MESSAGE_GET_RUN), MESSAGE_RUN, &reply, e) < 0)
        return -1;
    const int rc = codec_get_run(reply, out, e);
    if (rc == 0)
        wire_net_run(c->net, out->run_id);
    message_free(reply);
    return rc;
}

int store_client_slot_take(struct store_client *c, uint32_t *slot, struct err *e)
{
    char host[CODEC_HOST_BYTES];
    struct message *m = message_new(MESSAGE_TAKE_SLOT), *reply;
    if (gethostname(host, sizeof host) < 0)
        host[0] = 0;
    host[sizeof host - 1] = 0;
    codec_put_take_slot(m, host);
    if (ask(c, m, MESSAGE_SLOT, &reply, e) < 0)
        return -1;
    const int rc = codec_get_slot(reply, slot, e);
    message_free(reply);
    return rc;
}

int store_client_token_take(struct store_client *c, uint64_t *token, struct err *e)
{
    struct message *reply;
    if (ask(c, empty(MESSAGE_TAKE_TOKEN), MESSAGE_TOKEN, &reply, e) < 0)
        return -1;
    const int rc = codec_get_token(reply, token, e);
    if (rc == 0)
        c->token = *token;
    message_free(reply);
    return rc;
}

int store_client_policy(struct store_client *c, const uint8_t *digest, struct policy_ref *out,
                        struct err *e)
{
    struct message *m = message_new(MESSAGE_GET_POLICY), *reply;
    codec_put_get_policy(m, digest);
    if (ask(c, m, MESSAGE_POLICY, &reply, e) < 0)
        return -1;
    const int rc = codec_get_policy(reply, out, e);
    message_free(reply);
    return rc;
}

int store_client_policy_publish(struct store_client *c, const struct policy_publish *p,
                                struct policy_ref *out, struct err *e)
{
    struct message *m = message_new(MESSAGE_PUBLISH_POLICY), *reply;
    struct policy_ref got;
    codec_put_publish_policy(m, p);
    if (ask(c, m, MESSAGE_POLICY, &reply, e) < 0)
        return -1;
    const int rc = codec_get_policy(reply, &got, e);
    if (rc == 0 && out != NULL)
        *out = got;
    message_free(reply);
    return rc;
}

int store_client_checkpoint_publish(struct store_client *c, const struct checkpoint_ref *ck,
                                    struct err *e)
{
    struct message *m = message_new(MESSAGE_PUBLISH_CHECKPOINT), *reply;
    codec_put_publish_checkpoint(m, ck);
    if (ask(c, m, MESSAGE_CHECKPOINT, &reply, e) < 0)
        return -1;
    message_free(reply);
    return 0;
}

int store_client_checkpoint_get(struct store_client *c, struct checkpoint_ref *out, struct err *e)
{
    struct message *reply;
    if (ask(c, empty(MESSAGE_GET_CHECKPOINT), MESSAGE_CHECKPOINT, &reply, e) < 0)
        return -1;
    const int rc = codec_get_checkpoint(reply, out, e);
    message_free(reply);
    return rc;
}

int store_client_report(struct store_client *c, const struct report *r, struct err *e)
{
    struct message *m = message_new(MESSAGE_REPORT), *reply;
    codec_put_report(m, r);
    if (r->step == 0) {
        struct err ignored;
        /* Nobody waits for its answer; left unread, three of them stop the socket's input, and libzmq 4.3.4 ends the
         * process (`!_io_error`) when the store then closes the connection. */
        while (wire_recv(c->wire, &reply, 0, &ignored) == 0)
            message_free(reply);
        m->request = ++c->request;
        if (wire_send(c->wire, &m, &ignored) < 0)
            message_free(m);
        return 0;
    }
    if (ask(c, m, MESSAGE_OK, &reply, e) < 0)
        return -1;
    message_free(reply);
    return 0;
}

int store_client_status(struct store_client *c, struct status *out, struct err *e)
{
    struct message *reply;
    *out = (struct status){0};
    if (ask(c, empty(MESSAGE_GET_STATUS), MESSAGE_STATUS, &reply, e) < 0)
        return -1;
    const int rc = codec_get_status(reply, out, e);
    message_free(reply);
    return rc;
}

int store_client_stop(struct store_client *c, struct err *e)
{
    struct message *reply;
    if (ask(c, empty(MESSAGE_STOP), MESSAGE_OK, &reply, e) < 0)
        return -1;
    message_free(reply);
    return 0;
}

/* ---- blobs ---- */

/* One chunk at `offset`; the payload is read from *reply, which the caller frees. */
static int chunk_get(struct store_client *c, const uint8_t *digest, uint64_t offset,
                     struct blob_chunk *chunk, struct message **reply, struct err *e)
{
    struct message *m = message_new(MESSAGE_GET_BLOB);
    struct blob_range range = {.offset = offset, .length_max = CODEC_CHUNK_BYTES_MAX};
    memcpy(range.digest, digest, sizeof range.digest);
    codec_put_get_blob(m, &range);
    if (ask(c, m, MESSAGE_BLOB, reply, e) < 0)
        return -1;
    if (codec_get_blob(*reply, chunk, e) < 0)
        goto fail;
    if (memcmp(chunk->digest, digest, sizeof chunk->digest) != 0 || chunk->offset != offset ||
        ((*reply)->payload_bytes == 0 && offset < chunk->bytes_total)) {
        err_set(e, ERR_INVALID, "store: answered with another part of another blob");
        goto fail;
    }
    return 0;
fail:
    message_free(*reply);
    *reply = NULL;
    return -1;
}

/* Hands every chunk in order to `take`, which is told the blob's size with the first one. */
typedef int chunk_taker(void *arg, const struct blob_chunk *chunk, const uint8_t *data,
                        size_t bytes, struct err *e);

static int blob_stream(struct store_client *c, const uint8_t *digest, chunk_taker *take, void *arg,
                       struct err *e)
{
    struct hash_sha256 h;
    uint8_t got[HASH_SHA256_BYTES];
    uint64_t offset = 0, total = 0;
    hash_sha256_begin(&h);
    do {
        struct blob_chunk chunk;
        struct message *reply;
        if (chunk_get(c, digest, offset, &chunk, &reply, e) < 0)
            return -1;
        int rc = 0;
        if (offset > 0 && chunk.bytes_total != total)
            rc = err_set(e, ERR_INVALID, "store: a blob changed its size");
        total = chunk.bytes_total;
        if (rc == 0)
            rc = take(arg, &chunk, reply->payload, reply->payload_bytes, e);
        hash_sha256_add(&h, reply->payload, reply->payload_bytes);
        offset += reply->payload_bytes;
        message_free(reply);
        if (rc < 0)
            return -1;
    } while (offset < total);
    hash_sha256_end(&h, got);
    if (memcmp(got, digest, sizeof got) != 0)
        return err_set(e, ERR_CONFLICT, "store: a blob's bytes do not have its digest");
    return 0;
}

struct memory {
    uint8_t *data;
    size_t bytes, bytes_max;
};

static int take_to_memory(void *arg, const struct blob_chunk *chunk, const uint8_t *data,
                          size_t bytes, struct err *e)
{
    struct memory *m = arg;
    if (m->data == NULL) {
        if (chunk->bytes_total > m->bytes_max)
            return err_set(e, ERR_FULL, "blob of %llu bytes, at most %zu are taken",
                           (unsigned long long)chunk->bytes_total, m->bytes_max);
        m->bytes = (size_t)chunk->bytes_total;
        if ((m->data = mem_slab(m->bytes, "a blob", e)) == NULL)
            return -1;
    }
    if (bytes > 0)
        memcpy(m->data + chunk->offset, data, bytes);
    return 0;
}

int store_client_blob_get(struct store_client *c, const uint8_t digest[CODEC_DIGEST_BYTES],
                          size_t bytes_max, uint8_t **out, size_t *bytes, struct err *e)
{
    struct memory m = {.bytes_max = bytes_max};
    *out = NULL;
    if (blob_stream(c, digest, take_to_memory, &m, e) < 0) {
        mem_free(m.data);
        return -1;
    }
    *out = m.data;
    *bytes = m.bytes;
    return 0;
}

/* One chunk, or with bytes == 0 the question how much is there. */
static int chunk_put(struct store_client *c, const struct blob_chunk *chunk, const uint8_t *data,
                     size_t bytes, uint64_t *have, struct err *e)
{
    struct message *m = message_new(MESSAGE_PUT_BLOB), *reply;
    struct blob_have put;
    /* Borrowed, so that a repeated try needs no copy; wire_send copies what it does not own. */
    m->payload = bytes == 0 ? NULL : data + chunk->offset;
    m->payload_bytes = bytes;
    codec_put_put_blob(m, chunk);
    if (ask(c, m, MESSAGE_PUT, &reply, e) < 0)
        return -1;
    int rc = codec_get_put(reply, &put, e);
    if (rc == 0 && (memcmp(put.digest, chunk->digest, sizeof put.digest) != 0 ||
                    put.bytes_have > chunk->bytes_total))
        rc = err_set(e, ERR_INVALID, "store: acknowledged another blob");
    *have = put.bytes_have;
    message_free(reply);
    return rc;
}

int store_client_blob_put(struct store_client *c, const void *data, size_t bytes,
                          uint8_t digest[CODEC_DIGEST_BYTES], struct err *e)
{
    struct blob_chunk chunk = {.bytes_total = bytes};
    hash_sha256(chunk.digest, data, bytes);
    memcpy(digest, chunk.digest, sizeof chunk.digest);
    uint64_t have;
    if (chunk_put(c, &chunk, data, 0, &have, e) < 0)
        return -1;
    /* A store that was restarted begins again at 0: the loop follows what it says, but not for
     * ever. */
    const int64_t patience_ms = 4 * (int64_t)c->timeout_ms;
    int64_t progress_ms = clock_mono_ms(NULL);
    uint64_t most = have;
    while (have < bytes) {
        if (clock_mono_ms(NULL) - progress_ms > patience_ms)
            return err_set(e, ERR_UNAVAILABLE, "store %s: the upload of %zu bytes does not get on",
                           wire_endpoint(c->wire), bytes);
        chunk.offset = have;
        const uint64_t left = bytes - have;
        if (chunk_put(c, &chunk, data,
                      left < CODEC_CHUNK_BYTES_MAX ? (size_t)left : CODEC_CHUNK_BYTES_MAX, &have,
                      e) < 0)
            return -1;
        if (have > most) {
            most = have;
            progress_ms = clock_mono_ms(NULL);
        }
    }
    return 0;
}

/* ---- the model ---- */

static int take_to_file(void *arg, const struct blob_chunk *chunk, const uint8_t *data,
                        size_t bytes, struct err *e)
{
    (void)chunk;
    return file_write(*(const int *)arg, data, bytes, "model file", e);
}

struct fetch {
    struct store_client *client;
    const struct model_file *file;
};

static int fill_file(int fd, const char *path, void *arg, struct err *e)
{
    const struct fetch *f = arg;
    (void)path;
    return blob_stream(f->client, f->file->digest, take_to_file, &fd, e);
}

static bool is_there(const char *path, const struct model_file *f)
{
    struct file_map map;
    struct err ignored;
    if (file_map_open(&map, path, CODEC_BLOB_BYTES_MAX, &ignored) < 0)
        return false;
    bool same = map.bytes == f->bytes;
    if (same) {
        uint8_t digest[HASH_SHA256_BYTES];
        hash_sha256(digest, map.data, map.bytes);
        same = memcmp(digest, f->digest, sizeof digest) == 0;
    }
    file_map_close(&map);
    return same;
}

int store_client_model_fetch(struct store_client *c, const struct run_spec *run, const char *folder,
                             struct err *e)
{
    uint32_t fetched = 0;
    for (uint32_t i = 0; i < run->model_count; i++) {
        const struct model_file *f = &run->model[i];
        char path[FILE_PATH_BYTES_MAX], parent[FILE_PATH_BYTES_MAX];
        if (file_join(path, folder, f->path, e) < 0)
            return -1;
        if (is_there(path, f))
            continue;
        snprintf(parent, sizeof parent, "%s", path);
        *strrchr(parent, '/') = 0;
        struct fetch fetch = {c, f};
        if (file_make_folders(parent, e) < 0 ||
            file_replace_with(path, 0644, fill_file, &fetch, e) < 0)
            return err_wrap(e, "model file %s", f->path);
        fetched++;
    }
    log_event(LOG_INFO, "model_ready", "folder=%s files=%u fetched=%u", folder, run->model_count,
              fetched);
    return 0;
}

/* ---- announcements ---- */

struct news {
    struct wire *wire;
};

int news_open(struct news **out, struct wire_net *net, const char *endpoint, unsigned want,
              struct err *e)
{
    static const enum message_kind kinds[] = {MESSAGE_NEWS_POLICY, MESSAGE_NEWS_REPORT,
                                              MESSAGE_NEWS_STOP};
    *out = NULL;
    struct news *n = mem_new(1, sizeof *n);
    int rc = wire_open(&n->wire, net, WIRE_NEWS_CLIENT, endpoint, e);
    for (unsigned i = 0; rc == 0 && i < 3; i++)
        if ((want & (1u << i)) != 0)
            rc = wire_subscribe(n->wire, kinds[i], e);
    if (rc < 0) {
        news_close(n);
        return -1;
    }
    *out = n;
    return 0;
}

void news_close(struct news *n)
{
    if (n == NULL)
        return;
    wire_close(n->wire);
    mem_free(n);
}

struct wire *news_wire(struct news *n)
{
    return n->wire;
}

int news_poll(struct news *n, struct news_item *out, int timeout_ms, struct err *e)
{
    struct message *m;
    if (wire_recv(n->wire, &m, timeout_ms, e) < 0)
        return -1;
    int rc = 0;
    if (m->kind == MESSAGE_NEWS_POLICY) {
        out->kind = NEWS_POLICY;
        rc = codec_get_policy(m, &out->policy, e);
    } else if (m->kind == MESSAGE_NEWS_REPORT) {
        out->kind = NEWS_REPORT;
        rc = codec_get_report(m, &out->report, e);
    } else {
        out->kind = NEWS_STOP;
    }
    message_free(m);
    return rc;
}
