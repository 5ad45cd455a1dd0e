#include "store/store.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "metrics/events.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "store/run.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SMALL_FILE_BYTES_MAX 65536
#define POLICY_RECORDS_MAX 512 /* known by digest; the weights of fewer are kept */
#define ALIVE_S 30.0
#define TOKENS_KNOWN 8

struct service {
    struct report report;
    int64_t heard_ns;
};

/* Who was given a token by which request. */
struct token_given {
    uint8_t peer[MESSAGE_PEER_BYTES_MAX];
    size_t peer_bytes; /* 0: none yet */
    uint64_t request, token;
};

struct store {
    struct clock clock;
    char *data;
    struct file_lock lock;
    struct blobs *blobs;
    struct manifests *policies, *checkpoints;
    struct run_spec run;
    size_t keep_policies;
    uint64_t token;
    struct token_given given[TOKENS_KNOWN]; /* the last ones, by token */
    uint32_t next_slot;
    bool stopped;
    struct service *services; /* [service_count], at most CODEC_SERVICES_MAX */
    size_t service_count;
    struct message *news[STORE_NEWS_MAX];
    size_t news_count;
    struct events *events;
    struct store_figures figures;
};

static int data_path(const struct store *s, const char *name, char out[FILE_PATH_BYTES_MAX],
                     struct err *e)
{
    return file_join(out, s->data, name, e);
}

/* ---- what is known of one run ---- */

/* The first line in which two identities differ, "run.steps=20", of the first one. */
static void first_difference(const char *a, const char *b, char out[128])
{
    while (*a != 0) {
        const size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || memcmp(a, b, n) != 0)
            break;
        a += n + (a[n] != 0);
        b += m + (b[m] != 0);
    }
    snprintf(out, 128, "%.*s", (int)strcspn(a, "\n"), a);
}

/* The run that the folder holds; refused where it was made with other settings. */
static int same_run(char id[CODEC_RUN_ID_BYTES], const char *path, const char *identity, struct err *e)
{
    struct json *doc;
    const char *old_id, *old_identity;
    if (json_read_object(&doc, path, SMALL_FILE_BYTES_MAX, e) < 0)
        return -1;
    int rc = -1;
    if (json_get_string(doc, "run_id", CODEC_RUN_ID_BYTES - 1, &old_id, e) < 0 ||
        json_get_string(doc, "identity", SMALL_FILE_BYTES_MAX, &old_identity, e) < 0) {
        err_wrap(e, "%s", path);
    } else if (strcmp(old_identity, identity) != 0) {
        char was[128], is[128];
        first_difference(old_identity, identity, was);
        first_difference(identity, old_identity, is);
        err_set(e, ERR_CONFLICT,
                "store.data holds run %s, which was made with %s, not %s: use the old settings, or "
                "another store.data for a new run (%s)",
                old_id, was, is, path);
    } else {
        snprintf(id, CODEC_RUN_ID_BYTES, "%s", old_id);
        rc = 0;
    }
    json_free(doc);
    return rc;
}

static int settle_run(struct store *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    char *identity = run_identity(&s->run);
    int rc = -1;
    if (data_path(s, "run.json", path, e) < 0 ||
        (file_exists(path) ? same_run(s->run.run_id, path, identity, e) : run_id_new(s->run.run_id, identity, e)) < 0)
        goto out;
    struct json *doc = json_new_object();
    size_t n;
    json_set_string(doc, "run_id", s->run.run_id);
    json_set_string(doc, "identity", identity);
    json_set_int(doc, "iterations", (int64_t)s->run.iterations);
    char *text = json_print(doc, JSON_INDENTED, &n);
    rc = file_replace(path, text, n, 0644, e);
    mem_free(text);
    json_free(doc);
out:
    mem_free(identity);
    return rc;
}

static int save_counters(const struct store *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct json *doc = json_new_object();
    size_t n;
    json_set_int(doc, "next_slot", s->next_slot);
    json_set_int(doc, "token", (int64_t)s->token);
    char *text = json_print(doc, JSON_LINE, &n);
    const int rc =
        data_path(s, "counters.json", path, e) < 0 ? -1 : file_replace(path, text, n, 0644, e);
    mem_free(text);
    json_free(doc);
    return rc;
}

static int load_counters(struct store *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct json *doc;
    int64_t slot, token;
    if (data_path(s, "counters.json", path, e) < 0)
        return -1;
    if (!file_exists(path)) {
        /* Tokens that were handed out must never come again: manifests remember them too. */
        if (manifests_count(s->policies) > 0 || manifests_count(s->checkpoints) > 0)
            return err_set(e, ERR_INVALID,
                           "%s is missing beside published checkpoints: restore it, or write "
                           "{\"next_slot\":N,\"token\":T} above every slot and token used",
                           path);
        return 0;
    }
    if (json_read_object(&doc, path, SMALL_FILE_BYTES_MAX, e) < 0)
        return -1;
    int rc = -1;
    if (json_get_int(doc, "next_slot", 0, UINT32_MAX, &slot, e) == 0 &&
        json_get_int(doc, "token", 0, INT64_MAX, &token, e) == 0) {
        s->next_slot = (uint32_t)slot;
        s->token = (uint64_t)token;
        rc = 0;
    } else {
        err_wrap(e, "%s", path);
    }
    json_free(doc);
    return rc;
}

static int open_parts(struct store *s, const struct store_options *o, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct err why;
    if (file_make_folders(s->data, e) < 0 || data_path(s, "lock", path, e) < 0)
        return -1;
    if (file_lock_take(&s->lock, path, e) < 0)
        return err_wrap(e, "another store runs on %s", s->data);
    if (data_path(s, "blobs", path, e) < 0 || blobs_open(&s->blobs, path, e) < 0 ||
        data_path(s, "policies", path, e) < 0 ||
        manifests_open(&s->policies, path, POLICY_RECORDS_MAX, e) < 0 ||
        data_path(s, "checkpoints", path, e) < 0 ||
        manifests_open(&s->checkpoints, path, o->keep_checkpoints, e) < 0 ||
        load_counters(s, e) < 0)
        return -1;
    run_params_apply(&s->run, o->run);
    s->run.settings = mem_strdup(o->settings);
    if (run_latent_size(&s->run, o->model, e) < 0 ||
        run_import_model(&s->run, s->blobs, o->model, e) < 0 ||
        run_import_prompts(&s->run, s->blobs, o->prompts, o->prompts_column, e) < 0 || settle_run(s, e) < 0)
        return -1;
    /* Curves are a convenience: a store without them still keeps every promise. */
    if (data_path(s, "tensorboard", path, &why) < 0 ||
        events_open(&s->events, path, &s->clock, &why) < 0)
        log_err("tensorboard_off", &why);
    return 0;
}

int store_open(struct store **out, const struct store_options *o, struct err *e)
{
    *out = NULL;
    if (strlen(o->settings) > CODEC_SETTINGS_BYTES_MAX)
        return err_set(e, ERR_INVALID, "settings: more than %zu bytes", CODEC_SETTINGS_BYTES_MAX);
    struct store *s = mem_new(1, sizeof *s);
    s->clock = o->clock == NULL ? clock_system : *o->clock;
    s->data = mem_strdup(o->data);
    s->keep_policies = o->keep_policies;
    if (open_parts(s, o, e) < 0) {
        store_close(s);
        return -1;
    }
    log_event(LOG_INFO, "run", "run=%s files=%u prompts=%u policies=%zu checkpoints=%zu token=%llu",
              s->run.run_id, s->run.model_count, s->run.prompt_count, manifests_count(s->policies),
              manifests_count(s->checkpoints), (unsigned long long)s->token);
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->news_count; i++)
        message_free(s->news[i]);
    events_close(s->events);
    manifests_close(s->checkpoints);
    manifests_close(s->policies);
    blobs_close(s->blobs);
    run_spec_done(&s->run);
    file_lock_drop(&s->lock);
    mem_free(s->services);
    mem_free(s->data);
    mem_free(s);
}

const struct run_spec *store_run(const struct store *s)
{
    return &s->run;
}

bool store_stopped(const struct store *s)
{
    return s->stopped;
}

/* ---- announcements ---- */

static struct policy_ref policy_of(const struct checkpoint_ref *m)
{
    struct policy_ref p = {.version = m->step, .token = m->token, .bytes = m->blobs[0].bytes};
    memcpy(p.digest, m->blobs[0].digest, sizeof p.digest);
    return p;
}

static struct policy_ref newest_policy(const struct store *s)
{
    const struct checkpoint_ref *m = manifests_at(s->policies, 0);
    return m == NULL ? (struct policy_ref){0} : policy_of(m);
}

static void queue_news(struct store *s, struct message *m)
{
    if (s->news_count == STORE_NEWS_MAX) {
        size_t give_way = 0;
        while (give_way + 1 < s->news_count && s->news[give_way]->kind != MESSAGE_NEWS_REPORT)
            give_way++;
        message_free(s->news[give_way]);
        s->news_count--;
        memmove(&s->news[give_way], &s->news[give_way + 1],
                (s->news_count - give_way) * sizeof *s->news);
    }
    s->news[s->news_count++] = m;
}

struct message *store_news(struct store *s)
{
    if (s->news_count == 0)
        return NULL;
    struct message *m = s->news[0];
    s->news_count--;
    memmove(&s->news[0], &s->news[1], s->news_count * sizeof *s->news);
    return m;
}

void store_announce(struct store *s)
{
    const struct policy_ref p = newest_policy(s);
    struct message *m = message_new(MESSAGE_NEWS_POLICY);
    codec_put_policy(m, &p);
    queue_news(s, m);
    if (s->stopped) {
        m = message_new(MESSAGE_NEWS_STOP);
        codec_put_empty(m);
        queue_news(s, m);
    }
}

/* ---- requests: each fills `reply` or fails ---- */

static int fence(const struct store *s, uint64_t token, struct err *e)
{
    if (token == 0)
        return err_set(e, ERR_INVALID, "no fencing token: take one first");
    if (token < s->token)
        return err_set(e, ERR_STALE,
                       "fencing token %llu is older than %llu: a newer trainer has taken over",
                       (unsigned long long)token, (unsigned long long)s->token);
    if (token > s->token)
        return err_set(e, ERR_INVALID, "fencing token %llu was not handed out by this store",
                       (unsigned long long)token);
    return 0;
}

static int take_slot(struct store *s, const struct message *m, struct message *reply, struct err *e)
{
    char host[CODEC_HOST_BYTES];
    if (codec_get_take_slot(m, host, e) < 0)
        return -1;
    if (s->next_slot == UINT32_MAX)
        return err_set(e, ERR_FULL, "all slots of this run are taken");
    const uint32_t slot = s->next_slot++;
    if (save_counters(s, e) < 0)
        return -1; /* the number is burnt: never handed out twice, whatever the disk kept */
    codec_put_slot(reply, slot);
    log_event(LOG_INFO, "slot_taken", "slot=%u host=%s", slot, host);
    return 0;
}

/* A copy of a request that was answered gets the same token: another one would fence out the
 * trainer that already works under the first. */
static int take_token(struct store *s, const struct message *m, struct message *reply,
                      struct err *e)
{
    for (size_t i = 0; i < TOKENS_KNOWN; i++) {
        const struct token_given *g = &s->given[i];
        if (g->peer_bytes > 0 && g->peer_bytes == m->peer_bytes && g->request == m->request &&
            memcmp(g->peer, m->peer, g->peer_bytes) == 0) {
            codec_put_token(reply, g->token);
            return 0;
        }
    }
    s->token++;
    if (save_counters(s, e) < 0)
        return -1;
    struct token_given *g = &s->given[s->token % TOKENS_KNOWN];
    *g = (struct token_given){.peer_bytes = m->peer_bytes, .request = m->request, .token = s->token};
    memcpy(g->peer, m->peer, m->peer_bytes);
    codec_put_token(reply, s->token);
    log_event(LOG_INFO, "token_taken", "token=%llu", (unsigned long long)s->token);
    return 0;
}

static int get_policy(struct store *s, const struct message *m, struct message *reply,
                      struct err *e)
{
    uint8_t digest[CODEC_DIGEST_BYTES];
    static const uint8_t base[CODEC_DIGEST_BYTES];
    bool newest;
    struct policy_ref p = newest_policy(s);
    if (codec_get_get_policy(m, digest, &newest, e) < 0)
        return -1;
    if (!newest && memcmp(digest, base, sizeof base) == 0)
        p = (struct policy_ref){0};
    else if (!newest) {
        const struct checkpoint_ref *found = NULL;
        for (size_t i = 0; i < manifests_count(s->policies) && found == NULL; i++) {
            const struct checkpoint_ref *x = manifests_at(s->policies, i);
            if (memcmp(x->blobs[0].digest, digest, sizeof digest) == 0)
                found = x;
        }
        if (found == NULL)
            return err_set(e, ERR_NOT_FOUND, "no policy has this digest");
        p = policy_of(found);
    }
    codec_put_policy(reply, &p);
    return 0;
}

static int get_blob(struct store *s, const struct message *m, struct message *reply, struct err *e)
{
    struct blob_range range;
    if (codec_get_get_blob(m, &range, e) < 0)
        return -1;
    struct blob_chunk chunk = {.offset = range.offset};
    size_t n;
    uint8_t *bytes = mem_new(range.length_max, 1);
    if (blobs_get(s->blobs, range.digest, range.offset, range.length_max, bytes, &n,
                  &chunk.bytes_total, e) < 0) {
        mem_free(bytes);
        return -1;
    }
    if (range.offset > chunk.bytes_total) {
        mem_free(bytes);
        return err_set(e, ERR_INVALID, "offset %llu lies behind the blob's %llu bytes",
                       (unsigned long long)range.offset, (unsigned long long)chunk.bytes_total);
    }
    memcpy(chunk.digest, range.digest, sizeof chunk.digest);
    message_own_payload(reply, bytes, n);
    codec_put_blob(reply, &chunk);
    s->figures.bytes_out += n;
    return 0;
}

static int put_blob(struct store *s, const struct message *m, struct message *reply, struct err *e)
{
    struct blob_chunk chunk;
    struct blob_have have = {0};
    if (codec_get_put_blob(m, &chunk, e) < 0 || fence(s, m->token, e) < 0 ||
        blobs_put(s->blobs, &chunk, m->payload, m->payload_bytes, &have.bytes_have, e) < 0)
        return -1;
    memcpy(have.digest, chunk.digest, sizeof have.digest);
    codec_put_put(reply, &have);
    s->figures.bytes_in += m->payload_bytes;
    return 0;
}

/* ---- publishing ---- */

static bool names(const struct checkpoint_ref *m, const uint8_t *digest)
{
    for (uint32_t i = 0; i < m->blob_count; i++)
        if (memcmp(m->blobs[i].digest, digest, CODEC_DIGEST_BYTES) == 0)
            return true;
    return false;
}

static bool is_wanted(void *arg, const uint8_t *digest)
{
    const struct store *s = arg;
    if (memcmp(digest, s->run.prompts_digest, CODEC_DIGEST_BYTES) == 0)
        return true;
    for (uint32_t i = 0; i < s->run.model_count; i++)
        if (memcmp(digest, s->run.model[i].digest, CODEC_DIGEST_BYTES) == 0)
            return true;
    for (size_t i = 0; i < manifests_count(s->checkpoints); i++)
        if (names(manifests_at(s->checkpoints, i), digest))
            return true;
    for (size_t i = 0; i < manifests_count(s->policies) && i < s->keep_policies; i++)
        if (names(manifests_at(s->policies, i), digest))
            return true;
    return false;
}

/* Whether (version, digest) may be published under the current token: 1 new, 0 there already as
 * *there. */
static int judge_policy(const struct store *s, const struct policy_publish *p,
                        struct checkpoint_ref *there, struct err *e)
{
    for (size_t i = 0; i < manifests_count(s->policies); i++) {
        const struct checkpoint_ref *m = manifests_at(s->policies, i);
        if (m->step != p->version || m->token < s->token)
            continue;
        *there = *m;
        if (memcmp(m->blobs[0].digest, p->digest, sizeof p->digest) == 0)
            return 0;
        return err_set(e, ERR_CONFLICT, "policy %llu is published already with other weights",
                       (unsigned long long)p->version);
    }
    const struct policy_ref newest = newest_policy(s);
    if (newest.token == s->token && p->version < newest.version)
        return err_set(e, ERR_STALE, "policy %llu is older than the newest, %llu",
                       (unsigned long long)p->version, (unsigned long long)newest.version);
    return 1;
}

static int publish_policy(struct store *s, const struct message *m, struct message *reply,
                          struct err *e)
{
    struct policy_publish p;
    struct checkpoint_ref manifest = {.blob_count = 1};
    if (codec_get_publish_policy(m, &p, e) < 0 || fence(s, m->token, e) < 0)
        return -1;
    const int verdict = judge_policy(s, &p, &manifest, e);
    if (verdict < 0)
        return -1;
    if (verdict == 1) {
        manifest.step = p.version;
        manifest.token = s->token;
        snprintf(manifest.blobs[0].name, sizeof manifest.blobs[0].name, "policy");
        memcpy(manifest.blobs[0].digest, p.digest, sizeof p.digest);
        if (blobs_verify(s->blobs, p.digest, &manifest.blobs[0].bytes, e) < 0 ||
            manifests_publish(s->policies, &manifest, e) < 0)
            return -1;
        blobs_sweep(s->blobs, is_wanted, s);
        s->figures.policies_published++;
        char hex[HASH_SHA256_HEX_BYTES];
        hash_hex(hex, p.digest, CODEC_DIGEST_BYTES);
        log_event(LOG_INFO, "policy_published", "version=%llu digest=%.12s token=%llu",
                  (unsigned long long)p.version, hex, (unsigned long long)s->token);
        store_announce(s);
    }
    const struct policy_ref done = policy_of(&manifest);
    codec_put_policy(reply, &done);
    return 0;
}

static int publish_checkpoint(struct store *s, const struct message *m, struct message *reply,
                              struct err *e)
{
    struct checkpoint_ref ck;
    if (codec_get_publish_checkpoint(m, &ck, e) < 0 || fence(s, m->token, e) < 0)
        return -1;
    ck.token = s->token;
    const struct checkpoint_ref *newest = manifests_at(s->checkpoints, 0);
    if (newest != NULL && newest->token == s->token && ck.step < newest->step)
        return err_set(e, ERR_STALE, "checkpoint %llu is older than the newest, %llu",
                       (unsigned long long)ck.step, (unsigned long long)newest->step);
    for (uint32_t i = 0; i < ck.blob_count; i++) {
        uint64_t bytes;
        if (blobs_verify(s->blobs, ck.blobs[i].digest, &bytes, e) < 0)
            return err_wrap(e, "checkpoint blob %s", ck.blobs[i].name);
        if (ck.blobs[i].bytes != bytes)
            return err_set(e, ERR_CONFLICT, "checkpoint blob %s: %llu bytes, the store has %llu",
                           ck.blobs[i].name, (unsigned long long)ck.blobs[i].bytes,
                           (unsigned long long)bytes);
    }
    /* The old ones go only now that the new one is whole, on disk and read back. */
    if (manifests_publish(s->checkpoints, &ck, e) < 0)
        return -1;
    const size_t removed = blobs_sweep(s->blobs, is_wanted, s);
    s->figures.checkpoints_published++;
    log_event(LOG_INFO, "checkpoint_published", "step=%llu token=%llu blobs=%u swept=%zu",
              (unsigned long long)ck.step, (unsigned long long)ck.token, ck.blob_count, removed);
    codec_put_checkpoint(reply, &ck);
    return 0;
}

/* Whether every blob is there with its size and digest; -1 where that cannot be told now. */
static int judge_checkpoint(struct store *s, const struct checkpoint_ref *ck, bool *good, struct err *e)
{
    *good = true;
    for (uint32_t i = 0; i < ck->blob_count && *good; i++) {
        uint64_t bytes = 0;
        const int rc = blobs_verify(s->blobs, ck->blobs[i].digest, &bytes, e);
        if (rc < 0 && e->code != ERR_NOT_FOUND)
            return err_wrap(e, "checkpoint %llu", (unsigned long long)ck->step);
        *good = rc == 0 && bytes == ck->blobs[i].bytes;
        if (!*good)
            log_event(LOG_ERROR, "checkpoint_damaged",
                      "step=%llu token=%llu blob=%s left=%zu using=previous",
                      (unsigned long long)ck->step, (unsigned long long)ck->token,
                      ck->blobs[i].name, manifests_count(s->checkpoints) - 1);
    }
    return 0;
}

/* The newest checkpoint all of whose blobs verify; a damaged one is set aside, loudly. */
static int get_checkpoint(struct store *s, struct message *reply, struct err *e)
{
    const struct checkpoint_ref none = {0};
    const struct checkpoint_ref *ck;
    while ((ck = manifests_at(s->checkpoints, 0)) != NULL) {
        bool good;
        if (judge_checkpoint(s, ck, &good, e) < 0)
            return -1;
        if (good)
            break;
        manifests_discard(s->checkpoints, 0);
    }
    codec_put_checkpoint(reply, ck == NULL ? &none : ck);
    return 0;
}

/* ---- reports and status ---- */

static double now_s(const struct store *s, int64_t since_ns)
{
    return (double)(clock_mono_ns(&s->clock) - since_ns) * 1e-9;
}

static struct service *service_of(struct store *s, const char *name)
{
    for (size_t i = 0; i < s->service_count; i++)
        if (strcmp(s->services[i].report.service, name) == 0)
            return &s->services[i];
    if (s->service_count < CODEC_SERVICES_MAX) {
        s->services = mem_grow(s->services, s->service_count + 1, sizeof *s->services);
        s->services[s->service_count] = (struct service){0};
        return &s->services[s->service_count++];
    }
    struct service *longest = &s->services[0];
    for (size_t i = 1; i < s->service_count; i++)
        if (s->services[i].heard_ns < longest->heard_ns)
            longest = &s->services[i];
    *longest = (struct service){0};
    return longest;
}

static char *report_line(const struct store *s, const struct report *r, size_t *bytes)
{
    struct json *doc = json_new_object();
    char when[CLOCK_TEXT_BYTES], hex[HASH_SHA256_HEX_BYTES];
    clock_format(clock_wall_ns(&s->clock), when);
    hash_hex(hex, r->policy_digest, CODEC_DIGEST_BYTES);
    hex[12] = 0;
    json_set_int(doc, "step", (int64_t)r->step);
    json_set_string(doc, "time", when);
    json_set_string(doc, "run", s->run.run_id);
    json_set_string(doc, "service", r->service);
    json_set_int(doc, "policy_version", (int64_t)r->policy_version);
    json_set_string(doc, "policy", hex);
    for (uint32_t i = 0; i < r->metric_count; i++)
        json_set_number(doc, r->metrics[i].name, r->metrics[i].value);
    size_t n;
    char *text = json_print(doc, JSON_LINE, &n);
    text = mem_grow(text, n + 2, 1);
    text[n] = '\n';
    *bytes = n + 1;
    json_free(doc);
    return text;
}

static int record(struct store *s, const struct report *r, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    size_t n;
    if (data_path(s, "metrics.jsonl", path, e) < 0)
        return -1;
    char *line = report_line(s, r, &n);
    const int rc = file_append(path, line, n, e);
    mem_free(line);
    struct err why;
    for (uint32_t i = 0; rc == 0 && s->events != NULL && i < r->metric_count; i++)
        if (events_scalar(s->events, r->metrics[i].name, (int64_t)r->step, r->metrics[i].value,
                          &why) < 0) {
            log_err("tensorboard_off", &why);
            events_close(s->events);
            s->events = NULL;
        }
    return rc;
}

static int take_report(struct store *s, const struct message *m, struct message *reply,
                       struct err *e)
{
    struct report r;
    if (codec_get_report(m, &r, e) < 0)
        return -1;
    struct service *v = service_of(s, r.service);
    /* The same record sent again, because its answer was lost, is one line all the same. */
    const bool again = r.step != 0 && memcmp(&r, &v->report, sizeof r) == 0;
    if (r.step != 0 && !again && record(s, &r, e) < 0)
        return -1;
    v->report = r;
    v->heard_ns = clock_mono_ns(&s->clock);
    if (!again) {
        struct message *news = message_new(MESSAGE_NEWS_REPORT);
        codec_put_report(news, &r);
        queue_news(s, news);
        s->figures.reports++;
    }
    codec_put_empty(reply);
    return 0;
}

static int get_status(struct store *s, struct message *reply)
{
    struct status st = {.policy = newest_policy(s), .service_count = (uint32_t)s->service_count};
    const struct checkpoint_ref *ck = manifests_at(s->checkpoints, 0);
    snprintf(st.run_id, sizeof st.run_id, "%s", s->run.run_id);
    if (ck != NULL)
        st.checkpoint = *ck;
    st.services = mem_new(s->service_count, sizeof *st.services);
    st.age_seconds = mem_new(s->service_count, sizeof *st.age_seconds);
    for (size_t i = 0; i < s->service_count; i++) {
        st.services[i] = s->services[i].report;
        st.age_seconds[i] = now_s(s, s->services[i].heard_ns);
    }
    codec_put_status(reply, &st);
    status_done(&st);
    return 0;
}

static int stop(struct store *s, const struct message *m, struct message *reply, struct err *e)
{
    /* A fenced trainer must not end the run of its successor; an operator has no token. */
    if (m->token != 0 && fence(s, m->token, e) < 0)
        return -1;
    if (!s->stopped)
        log_event(LOG_INFO, "stop", "by=%s", m->sender);
    s->stopped = true;
    store_announce(s);
    codec_put_empty(reply);
    return 0;
}

static int handle(struct store *s, const struct message *m, struct message *reply, struct err *e)
{
    if (m->run_id[0] != 0 && strcmp(m->run_id, s->run.run_id) != 0 && m->kind != MESSAGE_GET_RUN)
        return err_set(e, ERR_CONFLICT,
                       "this store serves run %s, not %s: restart the service that asks",
                       s->run.run_id, m->run_id);
        /* Every request kind stands here; message kinds that are no requests are errors. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
    switch (m->kind) {
    case MESSAGE_GET_RUN:
        reply->kind = MESSAGE_RUN;
        codec_put_run(reply, &s->run);
        return 0;
    case MESSAGE_TAKE_SLOT:
        reply->kind = MESSAGE_SLOT;
        return take_slot(s, m, reply, e);
    case MESSAGE_TAKE_TOKEN:
        reply->kind = MESSAGE_TOKEN;
        return take_token(s, m, reply, e);
    case MESSAGE_GET_POLICY:
        reply->kind = MESSAGE_POLICY;
        return get_policy(s, m, reply, e);
    case MESSAGE_GET_BLOB:
        reply->kind = MESSAGE_BLOB;
        return get_blob(s, m, reply, e);
    case MESSAGE_PUT_BLOB:
        reply->kind = MESSAGE_PUT;
        return put_blob(s, m, reply, e);
    case MESSAGE_PUBLISH_POLICY:
        reply->kind = MESSAGE_POLICY;
        return publish_policy(s, m, reply, e);
    case MESSAGE_PUBLISH_CHECKPOINT:
        reply->kind = MESSAGE_CHECKPOINT;
        return publish_checkpoint(s, m, reply, e);
    case MESSAGE_GET_CHECKPOINT:
        reply->kind = MESSAGE_CHECKPOINT;
        return get_checkpoint(s, reply, e);
    case MESSAGE_REPORT:
        reply->kind = MESSAGE_OK;
        return take_report(s, m, reply, e);
    case MESSAGE_GET_STATUS:
        reply->kind = MESSAGE_STATUS;
        return get_status(s, reply);
    case MESSAGE_STOP:
        reply->kind = MESSAGE_OK;
        return stop(s, m, reply, e);
    default:
        return err_set(e, ERR_INVALID, "%s is not a request", message_kind_name(m->kind));
    }
#pragma GCC diagnostic pop
}

struct message *store_answer(struct store *s, const struct message *request)
{
    struct message *reply = message_reply(request, MESSAGE_ERROR);
    struct err e = {0};
    s->figures.requests++;
    if (handle(s, request, reply, &e) == 0)
        return reply;
    s->figures.errors++;
    log_event(e.code == ERR_IO ? LOG_ERROR : LOG_WARN, "request_refused",
              "kind=%s from=%s error=%s", message_kind_name(request->kind), request->sender,
              e.text);
    message_free(reply);
    reply = message_reply(request, MESSAGE_ERROR);
    codec_put_error(reply, &e);
    return reply;
}

struct store_figures store_figures(const struct store *s)
{
    struct store_figures f = s->figures;
    const struct checkpoint_ref *ck = manifests_at(s->checkpoints, 0);
    f.policy_version = newest_policy(s).version;
    f.checkpoint_step = ck == NULL ? 0 : ck->step;
    for (size_t i = 0; i < s->service_count; i++)
        f.services += now_s(s, s->services[i].heard_ns) < ALIVE_S;
    return f;
}
