/* A reward service over HTTP, in the form that reward.backend names (form.h), at one endpoint or several.
 *
 * A call is a request that is built once and may be tried several times.  Only what may be better later is tried
 * again (no connection, cut answer, timeout, 408, 425, 429, 5xx), after a decorrelated-jitter backoff (sleep =
 * uniform(backoff, 3 x the last one), capped) or the service's own Retry-After.  Each try goes to the endpoint with the
 * most room; how many calls an endpoint has at once, and when it is left alone, is its health's (endpoint.h).
 *
 * With reward.hedge a call whose answer takes longer than the endpoint's 95th percentile is sent once more, to another
 * endpoint where there is one; the first whole answer counts and the other try is given up. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "scorer/address.h"
#include "scorer/backend.h"
#include "scorer/endpoint.h"
#include "scorer/exchange.h"
#include "scorer/form.h"
#include "scorer/oip.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_BYTES_MAX ((size_t)512 << 20)
#define BACKOFF_MS_MAX 20000
#define DESCRIBE_RETRY_MS_MAX 2000
#define DESCRIBE_ANSWER_BYTES_MAX (256u << 10)
#define CALLS_MAX 192 /* at once over all endpoints: each has a socket in the loop (LOOP_WATCHES_MAX) */
#define TRIES_AT_ONCE 2
#define HEDGE_LATENCY 0.95
#define HEDGE_SHARE 0.1 /* of all calls, at most: where every call is slow a second one makes it worse */
#define HEDGE_MS_LEAST 10

enum call_state { CALL_FREE, CALL_WAITING, CALL_RUNNING };

struct call;

/* One try on the wire. */
struct attempt {
    struct call *call;
    struct exchange *exchange;
    size_t endpoint;
    int64_t began_ms;
};

/* What the end of a try means. */
struct verdict {
    enum backend_failure failure;
    bool again; /* may be better later */
    bool unreached;
    enum endpoint_outcome outcome;
    char reason[BACKEND_REASON_BYTES_MAX];
};

struct call {
    struct http *http;
    enum call_state state;
    bool describe; /* asks an endpoint what it takes; `only` is that endpoint */
    size_t only;
    uint64_t batch;
    size_t n;
    char id[OIP_ID_BYTES_MAX];
    struct buf body;
    char content_type[FORM_HEADER_BYTES_MAX], header[FORM_LINE_BYTES_MAX];
    uint32_t tries;
    struct verdict last; /* of the last try, where there was one */
    bool hedged;
    int64_t deadline_ms, next_ms, delay_ms;
    struct attempt attempt[TRIES_AT_ONCE];
};

struct http_endpoint {
    char base_url[ADDRESS_URL_BYTES_MAX];
    struct address_rule rule;
    struct endpoint health;
    bool described; /* said what it takes, or need not */
};

struct http {
    struct reward_params p;
    struct loop *loop;
    backend_done *done;
    void *arg;
    struct form form;
    uint8_t digest[HASH_SHA256_BYTES]; /* form_digest */
    char bearer[CONFIG_TEXT_BYTES_MAX], header[CONFIG_TEXT_BYTES_MAX]; /* secrets */

    struct exchange_options exchange_options;
    struct exchange_pool *pool;
    struct http_endpoint endpoint[BACKEND_ENDPOINTS_MAX];
    size_t endpoints, turn; /* turn: which one is looked at first */
    struct call *calls;     /* [count]: one an endpoint for its description, the others for batches */
    size_t count;

    int timer; /* of the loop, -1: none */
    char waiting[ADDRESS_URL_BYTES_MAX + BACKEND_REASON_BYTES_MAX]; /* the last failure to say what it takes */
    uint64_t jitter;
    struct backend_counters counters;
    struct backend_score scores[BACKEND_BATCH_MAX];
};

static int drive(struct http *h, struct err *e);

static uint64_t next_jitter(struct http *h)
{
    h->jitter ^= h->jitter << 13;
    h->jitter ^= h->jitter >> 7;
    h->jitter ^= h->jitter << 17;
    return h->jitter;
}

/* ---- one try ---- */

static struct http_endpoint *endpoint_of(const struct attempt *a)
{
    return &a->call->http->endpoint[a->endpoint];
}

static int begin(struct attempt *a, size_t endpoint, struct err *e)
{
    struct call *c = a->call;
    struct http *h = c->http;
    const int64_t now_ms = clock_mono_ms(NULL), left_ms = c->deadline_ms - now_ms;
    char url[ADDRESS_URL_BYTES_MAX + FORM_PATH_BYTES_MAX];
    char line[3][FORM_LINE_BYTES_MAX + 64];
    a->endpoint = endpoint;
    a->began_ms = now_ms;
    c->state = CALL_RUNNING;
    struct exchange_request q = {.url = url,
                                 .rule = &endpoint_of(a)->rule,
                                 .timeout_ms = h->p.timeout_ms < left_ms ? h->p.timeout_ms
                                               : left_ms > 1             ? left_ms
                                                                         : 1};
    size_t n = 0;
    q.headers[n++] = "Accept: application/json, application/octet-stream";
    if (h->bearer[0] != 0) {
        snprintf(line[0], sizeof line[0], "Authorization: Bearer %s", h->bearer);
        q.headers[n++] = line[0];
    }
    if (h->header[0] != 0)
        q.headers[n++] = h->header;
    if (!c->describe) {
        snprintf(line[1], sizeof line[1], "Content-Type: %s", c->content_type);
        snprintf(line[2], sizeof line[2], "Idempotency-Key: %s", c->id);
        q.headers[n++] = line[1];
        q.headers[n++] = line[2];
        if (c->header[0] != 0)
            q.headers[n++] = c->header;
        q.body = buf_text(&c->body);
        q.body_bytes = c->body.bytes;
        endpoint_begin(&endpoint_of(a)->health, now_ms);
        h->counters.calls++;
    }
    snprintf(url, sizeof url, "%s%s", endpoint_of(a)->base_url,
             c->describe ? h->form.describe_path : h->form.score_path);
    return exchange_begin(a->exchange, &q, e);
}

static void give_up(struct attempt *a)
{
    if (!exchange_running(a->exchange))
        return;
    exchange_cancel(a->exchange);
    endpoint_end(&endpoint_of(a)->health, ENDPOINT_CANCELLED, 0, 0);
}

/* ---- what an end means ---- */

static struct verdict verdict_without_answer(const struct http *h, const struct exchange_result *r)
{
    struct verdict v = {.failure = BACKEND_TRANSPORT, .again = true, .outcome = ENDPOINT_LOST};
    if (r->end == EXCHANGE_TOO_LARGE) {
        v = (struct verdict){.failure = BACKEND_TOO_LARGE, .outcome = ENDPOINT_ANSWERED};
        if (r->headers_too_large)
            snprintf(v.reason, sizeof v.reason, "the answer's headers are larger than %u bytes", EXCHANGE_HEADERS_BYTES_MAX);
        else
            snprintf(v.reason, sizeof v.reason, "the answer is larger than %" PRId64 " bytes", h->p.answer_max_bytes);
        return v;
    }
    if (r->end == EXCHANGE_TIMEOUT)
        v.failure = BACKEND_TIMEOUT;
    v.again = r->end != EXCHANGE_HOPELESS;
    v.unreached = r->end == EXCHANGE_UNREACHED || r->end == EXCHANGE_HOPELESS;
    snprintf(v.reason, sizeof v.reason, "%.190s", r->reason);
    return v;
}

/* A quota that is used up comes as 429 too, and no waiting mends it. */
static bool quota_is_used_up(const struct exchange_result *r)
{
    static const char code[] = "insufficient_quota";
    const char *text = r->answer;
    for (size_t i = 0; i + sizeof code - 1 <= r->answer_bytes; i++)
        if (memcmp(text + i, code, sizeof code - 1) == 0)
            return true;
    return false;
}

static struct verdict verdict_of_status(const struct exchange_result *r)
{
    struct verdict v = {.failure = BACKEND_ANSWER, .outcome = ENDPOINT_ANSWERED};
    if (r->status >= 300 && r->status < 400)
        v.failure = BACKEND_REDIRECT;
    else if (r->status == 429 && quota_is_used_up(r))
        v.failure = BACKEND_REFUSED;
    else if (r->status == 429 || r->status == 503)
        v = (struct verdict){.failure = BACKEND_BUSY, .again = true, .outcome = ENDPOINT_BUSY};
    else if (r->status == 408 || r->status == 425)
        v = (struct verdict){.failure = BACKEND_BUSY, .again = true, .outcome = ENDPOINT_ANSWERED};
    else if (r->status >= 500)
        v = (struct verdict){.failure = BACKEND_SERVER, .again = true, .outcome = ENDPOINT_FAULT};
    else if (r->status >= 400)
        v.failure = BACKEND_REFUSED;
    char text[120];
    oip_read_error(text, sizeof text, r->answer, r->answer_bytes);
    snprintf(v.reason, sizeof v.reason, "status %ld%s%s", r->status, text[0] != 0 ? ": " : "", text);
    return v;
}

static struct verdict verdict_of_answer(struct call *c, const struct exchange_result *r)
{
    struct http *h = c->http;
    struct verdict v = {.failure = BACKEND_OK, .outcome = ENDPOINT_ANSWERED};
    struct err e = {0};
    const struct form_answer a = {.body = r->answer, .bytes = r->answer_bytes, .json_bytes = r->json_bytes};
    const int rc = c->describe ? h->form.describe(h->form.self, &a, &e)
                               : h->form.read(h->form.self, h->scores, c->n, c->id, &a, &e);
    if (rc < 0) {
        v.failure = BACKEND_ANSWER;
        snprintf(v.reason, sizeof v.reason, "%.190s", e.text);
    }
    return v;
}

static struct verdict verdict_of(struct call *c, const struct exchange_result *r)
{
    return r->end != EXCHANGE_ANSWERED ? verdict_without_answer(c->http, r)
           : r->status != 200          ? verdict_of_status(r)
                                       : verdict_of_answer(c, r);
}

/* ---- ends ---- */

static int64_t delay_ms(struct call *c, int64_t retry_after_s)
{
    struct http *h = c->http;
    const int64_t cap_ms = c->describe ? DESCRIBE_RETRY_MS_MAX : BACKOFF_MS_MAX;
    if (retry_after_s >= 0)
        return retry_after_s * 1000 + (int64_t)(next_jitter(h) % 100);
    const int64_t least = h->p.backoff_ms, most = c->delay_ms * 3 > least ? c->delay_ms * 3 : least;
    c->delay_ms = least + (int64_t)(next_jitter(h) % (uint64_t)(most - least + 1));
    if (c->delay_ms > cap_ms)
        c->delay_ms = cap_ms;
    return c->delay_ms;
}

/* An endpoint is asked what it takes until it says so: no batch goes there before. */
static void end_describe(struct call *c, const struct verdict *v, int64_t retry_after_s)
{
    struct http *h = c->http;
    struct http_endpoint *p = &h->endpoint[c->only];
    if (v->failure == BACKEND_OK) {
        p->described = true;
        c->state = CALL_FREE;
        log_event(LOG_INFO, "reward_service_ready", "url=%s model=%s form=%s", p->base_url, h->p.model, h->p.backend);
        return;
    }
    snprintf(h->waiting, sizeof h->waiting, "%s: %s", p->base_url, v->reason);
    if ((c->tries & (c->tries - 1)) == 0) /* the 1st, 2nd, 4th, 8th ... time */
        log_event(LOG_WARN, "reward_service_waiting", "url=%s tries=%u failure=%s reason=%s", p->base_url, c->tries,
                  backend_failure_name(v->failure), v->reason);
    c->state = CALL_WAITING;
    c->next_ms = clock_mono_ms(NULL) + 50 + delay_ms(c, retry_after_s);
}

static void finish(struct call *c, const struct verdict *v, int64_t seconds_ms)
{
    struct http *h = c->http;
    struct backend_result result = {.batch = c->batch,
                                    .failure = v->failure,
                                    .unreached = v->unreached,
                                    .scores = h->scores,
                                    .count = c->n,
                                    .seconds = (double)seconds_ms / 1000.0};
    snprintf(result.reason, sizeof result.reason, "%s", v->reason);
    h->counters.failures[v->failure]++;
    buf_done(&c->body);
    c->state = CALL_FREE;
    h->done(h->arg, &result);
}

static int on_end(void *arg, const struct exchange_result *r, struct err *e)
{
    struct attempt *a = arg;
    struct call *c = a->call;
    struct http *h = c->http;
    const int64_t now_ms = clock_mono_ms(NULL);
    const struct verdict v = verdict_of(c, r);
    if (c->describe) {
        end_describe(c, &v, r->retry_after_s);
        return drive(h, e);
    }
    struct endpoint *health = &endpoint_of(a)->health;
    const enum endpoint_breaker before = health->breaker;
    endpoint_end(health, v.outcome, now_ms - a->began_ms, now_ms);
    if (health->breaker != before)
        log_event(health->breaker == ENDPOINT_CLOSED ? LOG_INFO : LOG_WARN, "reward_service_breaker",
                  "url=%s state=%s reason=%s", endpoint_of(a)->base_url,
                  health->breaker == ENDPOINT_CLOSED ? "closed" : "open", v.reason);
    struct attempt *other = &c->attempt[a == &c->attempt[0]];
    if (v.failure != BACKEND_OK && exchange_running(other->exchange))
        return drive(h, e); /* the other try decides */
    give_up(other);
    if (v.again && c->tries <= (uint32_t)h->p.retries) {
        c->next_ms = now_ms + delay_ms(c, r->retry_after_s);
        if (c->next_ms < c->deadline_ms) {
            c->last = v;
            c->state = CALL_WAITING;
            return drive(h, e);
        }
    }
    finish(c, &v, now_ms - a->began_ms);
    return drive(h, e);
}

/* ---- driving ---- */

/* The endpoint with the most room, one other than `but` where there is one; before all others one that is due for a
 * probe: without it, it would never be taken back. */
static bool pick(struct http *h, size_t but, size_t *out, int64_t now_ms)
{
    size_t best = 0;
    for (size_t i = 0; i < h->endpoints; i++) {
        const size_t k = (h->turn + i) % h->endpoints;
        if (!h->endpoint[k].described || (k == but && h->endpoints > 1))
            continue;
        size_t room = endpoint_room(&h->endpoint[k].health, now_ms);
        if (room > 0 && h->endpoint[k].health.breaker != ENDPOINT_CLOSED)
            room = SIZE_MAX;
        if (room > best) {
            best = room;
            *out = k;
        }
    }
    h->turn++;
    return best > 0;
}

static int try_waiting(struct http *h, struct call *c, int64_t now_ms, struct err *e)
{
    size_t k = c->only;
    if (c->next_ms > now_ms)
        return 0;
    if (!c->describe && c->deadline_ms <= now_ms) {
        struct verdict late = {.failure = BACKEND_BUSY, .reason = "no endpoint had room before the deadline"};
        if (c->tries > 0) {
            late = c->last;
            snprintf(late.reason, sizeof late.reason, "%.170s (gave up at the deadline)", c->last.reason);
        }
        finish(c, &late, 0);
        return 0;
    }
    if (!c->describe && !pick(h, SIZE_MAX, &k, now_ms))
        return 0;
    h->counters.retries += !c->describe && c->tries > 0;
    c->tries++;
    c->hedged = false;
    return begin(&c->attempt[0], k, e);
}

/* When a running call is to be sent once more; INT64_MAX: not. */
static int64_t hedge_ms(const struct http *h, const struct call *c)
{
    if (!h->p.hedge || c->describe || c->hedged || c->state != CALL_RUNNING ||
        (double)(h->counters.hedges + 1) > HEDGE_SHARE * (double)h->counters.calls)
        return INT64_MAX;
    const int64_t usual_ms = endpoint_latency_ms(&h->endpoint[c->attempt[0].endpoint].health, HEDGE_LATENCY);
    return usual_ms < 0 ? INT64_MAX : c->attempt[0].began_ms + (usual_ms > HEDGE_MS_LEAST ? usual_ms : HEDGE_MS_LEAST);
}

static int try_hedge(struct http *h, struct call *c, int64_t now_ms, struct err *e)
{
    size_t k = 0;
    if (hedge_ms(h, c) > now_ms)
        return 0;
    c->hedged = true;
    if (!pick(h, c->attempt[0].endpoint, &k, now_ms))
        return 0;
    h->counters.hedges++;
    return begin(&c->attempt[1], k, e);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When there is something to do that no socket tells of; INT64_MAX: nothing. */
static int64_t next_due_ms(const struct http *h, int64_t now_ms)
{
    int64_t due_ms = INT64_MAX, opens_ms = INT64_MAX;
    for (size_t i = 0; i < h->endpoints; i++)
        opens_ms = least(opens_ms, endpoint_opens_ms(&h->endpoint[i].health));
    for (size_t i = 0; i < h->count; i++) {
        const struct call *c = &h->calls[i];
        if (c->state == CALL_WAITING) /* for its time, or for room */
            due_ms = least(due_ms, c->next_ms > now_ms ? c->next_ms : least(opens_ms, c->deadline_ms));
        else if (c->state == CALL_RUNNING)
            due_ms = least(due_ms, hedge_ms(h, c));
    }
    return due_ms;
}

static int on_timer(void *arg, struct err *e)
{
    return drive(arg, e);
}

static int drive(struct http *h, struct err *e)
{
    const int64_t now_ms = clock_mono_ms(NULL);
    for (size_t i = 0; i < h->count; i++) {
        struct call *c = &h->calls[i];
        const int rc = c->state == CALL_WAITING   ? try_waiting(h, c, now_ms, e)
                       : c->state == CALL_RUNNING ? try_hedge(h, c, now_ms, e)
                                                  : 0;
        if (rc < 0)
            return -1;
    }
    if (h->timer >= 0)
        loop_remove_timer(h->loop, h->timer);
    h->timer = -1;
    const int64_t due_ms = next_due_ms(h, now_ms);
    if (due_ms == INT64_MAX)
        return 0;
    const int64_t wait_ms = due_ms - now_ms;
    return loop_add_timer(h->loop,
                          (uint32_t)(wait_ms < 1       ? 1
                                     : wait_ms > 60000 ? 60000
                                                       : wait_ms),
                          on_timer, h, &h->timer, e);
}

/* ---- the interface ---- */

/* What the call asks, as a name: the same question of the same reward has the same key, in another process too. */
static void content_key(char out[OIP_ID_BYTES_MAX], const struct http *http, const struct backend_item *items, size_t n)
{
    struct hash_sha256 h;
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_begin(&h);
    hash_sha256_add(&h, http->digest, sizeof http->digest);
    for (size_t i = 0; i < n; i++)
        backend_hash_item(&h, &items[i]);
    hash_sha256_end(&h, digest);
    hash_hex(out, digest, 16);
}

static struct call *free_call(struct http *h)
{
    for (size_t i = h->endpoints; i < h->count; i++)
        if (h->calls[i].state == CALL_FREE)
            return &h->calls[i];
    return NULL;
}

static int http_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n, struct err *e)
{
    struct http *h = self;
    struct call *c = free_call(h);
    assert(c != NULL && n <= h->form.items_max);
    content_key(c->id, h, items, n);
    buf_init(&c->body, REQUEST_BYTES_MAX);
    struct form_request r = {.body = &c->body};
    if (h->form.write(h->form.self, &r, c->id, items, n, e) < 0) {
        buf_done(&c->body);
        return -1;
    }
    memcpy(c->content_type, r.content_type, sizeof c->content_type);
    memcpy(c->header, r.header, sizeof c->header);
    c->batch = batch;
    c->n = n;
    c->tries = 0;
    c->delay_ms = 0;
    c->deadline_ms = clock_mono_ms(NULL) + h->p.deadline_ms;
    c->next_ms = 0;
    c->state = CALL_WAITING;
    return drive(h, e);
}

static size_t http_room(void *self)
{
    const struct http *h = self;
    const int64_t now_ms = clock_mono_ms(NULL);
    size_t room = 0, waiting = 0, slots = 0;
    for (size_t i = 0; i < h->endpoints; i++)
        room += h->endpoint[i].described ? endpoint_room(&h->endpoint[i].health, now_ms) : 0;
    for (size_t i = h->endpoints; i < h->count; i++) {
        waiting += h->calls[i].state == CALL_WAITING;
        slots += h->calls[i].state == CALL_FREE;
    }
    room = room > waiting ? room - waiting : 0;
    return room < slots ? room : slots;
}

static bool http_ready(void *self)
{
    const struct http *h = self;
    for (size_t i = 0; i < h->endpoints; i++)
        if (h->endpoint[i].described)
            return true;
    return false;
}

static const char *http_waiting(void *self)
{
    return ((const struct http *)self)->waiting;
}

static uint64_t http_bytes(void *self, size_t image_bytes)
{
    const struct http *h = self;
    const uint64_t text = TRAJECTORY_PROMPT_BYTES_MAX + TRAJECTORY_METADATA_BYTES_MAX;
    const uint64_t calls = h->count - h->endpoints, batch = (uint64_t)h->p.batch;
    /* a batch ends before reward.batch_max, but with one picture */
    const uint64_t fit = (uint64_t)h->p.batch_max_bytes > image_bytes ? (uint64_t)h->p.batch_max_bytes : image_bytes;
    const uint64_t pixels = batch * image_bytes < fit ? batch * image_bytes : fit;
    return calls * (h->form.image_factor * pixels + batch * 2 * text + TRIES_AT_ONCE * (uint64_t)h->p.answer_max_bytes) +
           sizeof *h;
}

static void http_counters(void *self, struct backend_counters *out)
{
    *out = ((const struct http *)self)->counters;
}

static size_t http_endpoints(void *self, struct backend_endpoint *out, size_t max)
{
    const struct http *h = self;
    const size_t n = h->endpoints < max ? h->endpoints : max;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct backend_endpoint){.reward = "", .index = i, .health = &h->endpoint[i].health};
    return n;
}

static void http_close(void *self)
{
    struct http *h = self;
    for (size_t i = 0; h->calls != NULL && i < h->count; i++) {
        for (size_t k = 0; k < TRIES_AT_ONCE; k++)
            exchange_free(h->calls[i].attempt[k].exchange);
        buf_done(&h->calls[i].body);
    }
    exchange_pool_close(h->pool);
    if (h->timer >= 0)
        loop_remove_timer(h->loop, h->timer);
    mem_free(h->calls);
    form_close(&h->form);
    for (volatile char *b = h->bearer; *b != 0; b++)
        *b = 0;
    for (volatile char *b = h->header; *b != 0; b++)
        *b = 0;
    mem_free(h);
}

static int read_urls(struct http *h, struct err *e)
{
    char url[CONFIG_TEXT_BYTES_MAX];
    for (const char *at = h->p.url; config_list_next(&at, url, sizeof url);) {
        if (h->endpoints == BACKEND_ENDPOINTS_MAX)
            return err_set(e, ERR_INVALID, "reward.url: more than %d endpoints", BACKEND_ENDPOINTS_MAX);
        struct http_endpoint *p = &h->endpoint[h->endpoints++];
        p->rule = (struct address_rule){.allow_private = h->p.allow_private, .allow_plain = h->p.allow_plain};
        endpoint_init(&p->health, (double)h->p.concurrency);
        p->described = h->form.describe_path[0] == 0;
        if (address_read_url(p->base_url, &p->rule, url, e) < 0)
            return err_wrap(e, "reward.url");
    }
    if (h->endpoints == 0)
        return err_set(e, ERR_INVALID, "reward.url is empty: write http://HOST:PORT or https://HOST:PORT");
    if (h->endpoints * (size_t)h->p.concurrency > CALLS_MAX)
        return err_set(e, ERR_INVALID, "reward.concurrency %" PRId64 " at %zu endpoints is more than %d calls at once",
                       h->p.concurrency, h->endpoints, CALLS_MAX);
    return 0;
}

/* One line "Name: value": what could begin another line would be a request of its own. */
static int read_header(struct http *h, struct err *e)
{
    if (config_read_secret(h->p.header, h->header, sizeof h->header, e) < 0)
        return err_wrap(e, "reward.header");
    const char *colon = strchr(h->header, ':');
    const bool line = colon != NULL && colon > h->header && strpbrk(h->header, "\r\n") == NULL &&
                      strcspn(h->header, " \t") > (size_t)(colon - h->header);
    return line ? 0 : err_set(e, ERR_INVALID, "reward.header: %s holds no line \"Name: value\"", h->p.header);
}

static int make_calls(struct http *h, struct err *e)
{
    h->count = h->endpoints * ((size_t)h->p.concurrency + 1);
    h->calls = mem_new(h->count, sizeof *h->calls);
    for (size_t i = 0; i < h->count; i++) {
        struct call *c = &h->calls[i];
        c->http = h;
        c->describe = i < h->endpoints;
        c->only = i;
        if (c->describe && !h->endpoint[i].described) {
            c->state = CALL_WAITING;
            c->deadline_ms = INT64_MAX / 2;
        }
        for (size_t k = 0; k < TRIES_AT_ONCE; k++) {
            c->attempt[k].call = c;
            if (exchange_new(&c->attempt[k].exchange, h->pool,
                             c->describe ? DESCRIBE_ANSWER_BYTES_MAX : (size_t)h->p.answer_max_bytes, on_end,
                             &c->attempt[k], e) < 0)
                return -1;
        }
    }
    return 0;
}

/* What can be read without a connection, into h->p's forms, addresses and secrets. */
static int read_settings(struct http *h, const struct reward_params *p, struct err *e)
{
    h->p = *p;
    h->timer = -1;
    if (form_open(&h->form, &h->p, e) < 0 || form_digest(h->digest, &h->p, e) < 0 || read_urls(h, e) < 0)
        return -1;
    if (p->bearer[0] != 0 && config_read_secret(p->bearer, h->bearer, sizeof h->bearer, e) < 0)
        return err_wrap(e, "reward.bearer");
    return p->header[0] == 0 ? 0 : read_header(h, e);
}

int backend_check_http(const struct reward_params *p, struct err *e)
{
    struct http *h = mem_new(1, sizeof *h);
    const int rc = read_settings(h, p, e);
    http_close(h);
    return rc;
}

int backend_open_http(struct backend *out, const struct reward_params *p, struct loop *loop, backend_done *done,
                      void *arg, struct err *e)
{
    struct http *h = mem_new(1, sizeof *h);
    h->loop = loop;
    h->done = done;
    h->arg = arg;
    h->jitter = (uint64_t)clock_mono_ns(NULL) | 1;
    if (read_settings(h, p, e) < 0)
        goto fail;
    h->exchange_options = (struct exchange_options){.ca_file = h->p.ca_file,
                                                    .client_cert = h->p.client_cert,
                                                    .client_key = h->p.client_key,
                                                    .connections_max = h->endpoints * ((size_t)p->concurrency + 1)};
    if (exchange_pool_open(&h->pool, loop, &h->exchange_options, e) < 0 || make_calls(h, e) < 0 || drive(h, e) < 0)
        goto fail;
    *out = (struct backend){.self = h,
                            .submit = http_submit,
                            .takes_latents = h->form.takes_latents,
                            .items_max = h->form.items_max,
                            .batches_max = h->count - h->endpoints,
                            .room = http_room,
                            .ready = http_ready,
                            .waiting = http_waiting,
                            .bytes_bound = http_bytes,
                            .counters = http_counters,
                            .endpoints = http_endpoints,
                            .close = http_close};
    return 0;
fail:
    http_close(h);
    return -1;
}
