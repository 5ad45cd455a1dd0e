/* The only door to libcurl: a reward service over HTTP/1.1, in the form that reward.backend names
 * (form.h).
 *
 * One connection pool, driven by the service's loop.  A call is a POST that is built once and may
 * be tried several times; only what may be better later is tried again (no connection, cut answer,
 * timeout, 408, 425, 429, 5xx), after a full-jitter exponential backoff or the service's own
 * Retry-After. How many calls run at once is learnt: halved by 429, 503 and failed transport, grown
 * by answers. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "scorer/backend.h"
#include "scorer/form.h"
#include "scorer/oip.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define URL_BYTES_MAX 8192
#define REQUEST_BYTES_MAX ((size_t)512 << 20)
#define HEADERS_BYTES_MAX (64u << 10)
#define RETRY_AFTER_S_MAX 60
#define BACKOFF_MS_MAX 20000
#define METADATA_RETRY_MS_MAX 2000
#define METADATA_ANSWER_BYTES_MAX (256u << 10)

enum call_state { CALL_FREE, CALL_WAITING, CALL_RUNNING };

struct http;

struct call {
    struct http *http;
    enum call_state state;
    bool metadata;
    uint64_t batch;
    size_t n;
    char id[OIP_ID_BYTES_MAX];
    struct buf body;
    char content_type[FORM_HEADER_BYTES_MAX], header[FORM_LINE_BYTES_MAX];

    uint32_t tries;
    int64_t deadline_ms, next_ms, began_ms;
    CURL *easy;
    struct curl_slist *headers;
    struct buf answer;
    size_t answer_json_bytes, header_bytes;
    bool answer_has_json_bytes, too_large, refused_address;
    int64_t retry_after_s;
    char why[CURL_ERROR_SIZE];
};

struct http {
    struct reward_params p;
    struct loop *loop;
    backend_done *done;
    void *arg;
    struct form form;
    char base_url[URL_BYTES_MAX];
    char bearer[CONFIG_TEXT_BYTES_MAX], header[CONFIG_TEXT_BYTES_MAX]; /* secrets */

    CURLM *multi;
    struct call *calls; /* [count]: one for metadata, the others for batches */
    size_t count;
    bool ready;
    double limit; /* calls at once, learnt */

    int timer;           /* of the loop, -1: none */
    int64_t curl_due_ms; /* INT64_MAX: none */
    uint64_t jitter;
    struct err loop_error; /* of a watch that could not be added */
    struct backend_counters counters;
    struct backend_score scores[BACKEND_BATCH_MAX];
};

static int on_timer(void *arg, struct err *e);

/* ---- curl's callbacks ---- */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
    struct call *c = arg;
    (void)one;
    buf_add(&c->answer, data, n);
    c->too_large = c->answer.overflowed;
    return c->too_large ? 0 : n;
}

static bool header_value(const char *line, size_t n, const char *name, char *out, size_t out_bytes)
{
    const size_t k = strlen(name);
    if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0)
        return false;
    const char *v = line + k + 1;
    const char *end = line + n;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    snprintf(out, out_bytes, "%.*s", (int)(end - v), v);
    return true;
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    struct call *c = arg;
    char value[64];
    (void)one;
    c->header_bytes += n;
    c->too_large |= c->header_bytes > HEADERS_BYTES_MAX;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
        c->retry_after_s = -1;
        c->answer_has_json_bytes = false;
    } else if (header_value(line, n, "Retry-After", value, sizeof value)) {
        c->retry_after_s =
            oip_retry_after_s(value, clock_wall_ns(NULL) / CLOCK_NS_PER_S, RETRY_AFTER_S_MAX);
    } else if (header_value(line, n, "Inference-Header-Content-Length", value, sizeof value)) {
        char *end = value;
        c->answer_json_bytes = strtoul(value, &end, 10);
        /* A length that is no number fits no answer: it is refused when the answer is read. */
        c->answer_has_json_bytes = true;
        if (*end != 0 || value[0] < '0' || value[0] > '9')
            c->answer_json_bytes = SIZE_MAX;
    }
    return c->too_large ? 0 : n;
}

/* Addresses that no reward service has: link-local (cloud metadata), unspecified, multicast. Looked
 * at when the socket is made, so that no name can resolve around it. */
static bool address_allowed(const struct curl_sockaddr *a)
{
    if (a->family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &a->addr, sizeof in);
        const uint32_t ip = ntohl(in.sin_addr.s_addr);
        return ip >> 16 != 0xa9fe && ip >> 24 != 0 && ip >> 28 < 14;
    }
    if (a->family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, &a->addr, sizeof in);
        return !IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr) && !IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr) &&
               !IN6_IS_ADDR_MULTICAST(&in.sin6_addr) && !IN6_IS_ADDR_V4MAPPED(&in.sin6_addr);
    }
    return false;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct call *c = arg;
    (void)purpose;
    if (!address_allowed(a)) {
        c->refused_address = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int on_fd(void *arg, int fd, int events, struct err *e);

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http *h = arg;
    (void)easy;
    (void)socket_arg;
    if (what == CURL_POLL_REMOVE) {
        loop_remove_fd(h->loop, fd);
        return 0;
    }
    const int events =
        (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);
    return loop_add_fd(h->loop, fd, events, on_fd, h, &h->loop_error);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *h = arg;
    (void)multi;
    h->curl_due_ms = timeout_ms < 0 ? INT64_MAX : clock_mono_ms(NULL) + timeout_ms;
    return 0;
}

/* ---- one call ---- */

static uint64_t next_jitter(struct http *h)
{
    h->jitter ^= h->jitter << 13;
    h->jitter ^= h->jitter >> 7;
    h->jitter ^= h->jitter << 17;
    return h->jitter;
}

static void add_header(struct call *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_header(struct call *c, const char *fmt, ...)
{
    char line[FORM_LINE_BYTES_MAX + 64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    c->headers = curl_slist_append(c->headers, line);
}

static void make_headers(struct call *c)
{
    const struct http *h = c->http;
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    add_header(c, "Accept: application/json, application/octet-stream");
    add_header(c, "Expect:");
    if (h->bearer[0] != 0)
        add_header(c, "Authorization: Bearer %s", h->bearer);
    if (h->header[0] != 0)
        add_header(c, "%s", h->header);
    if (c->metadata)
        return;
    add_header(c, "Content-Type: %s", c->content_type);
    if (c->header[0] != 0)
        add_header(c, "%s", c->header);
    add_header(c, "Idempotency-Key: %s", c->id);
}

static void set_safety(struct call *c)
{
    CURL *x = c->easy;
    curl_easy_setopt(x, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x, CURLOPT_PROXY,
                     ""); /* and the proxy variables of the environment are ignored */
    curl_easy_setopt(x, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(x, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(x, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(x, CURLOPT_OPENSOCKETDATA, c);
    curl_easy_setopt(x, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(x, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(x, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (c->http->p.ca_file[0] != 0)
        curl_easy_setopt(x, CURLOPT_CAINFO, c->http->p.ca_file);
    if (c->http->p.client_cert[0] != 0)
        curl_easy_setopt(x, CURLOPT_SSLCERT, c->http->p.client_cert);
    if (c->http->p.client_key[0] != 0)
        curl_easy_setopt(x, CURLOPT_SSLKEY, c->http->p.client_key);
}

static void start(struct call *c)
{
    struct http *h = c->http;
    const int64_t now_ms = clock_mono_ms(NULL);
    char url[URL_BYTES_MAX + FORM_PATH_BYTES_MAX];
    snprintf(url, sizeof url, "%s%s", h->base_url,
             c->metadata ? h->form.describe_path : h->form.score_path);
    const int64_t left_ms = c->deadline_ms - now_ms;
    const long timeout_ms = (long)(h->p.timeout_ms < left_ms ? h->p.timeout_ms
                                   : left_ms > 1             ? left_ms
                                                             : 1);
    c->tries++;
    c->began_ms = now_ms;
    c->state = CALL_RUNNING;
    c->answer_has_json_bytes = c->too_large = c->refused_address = false;
    c->header_bytes = 0;
    c->retry_after_s = -1;
    c->why[0] = 0;
    buf_clear(&c->answer);
    make_headers(c);
    curl_easy_reset(c->easy);
    set_safety(c);
    curl_easy_setopt(c->easy, CURLOPT_URL, url);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->why);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
    curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms < 5000 ? timeout_ms : 5000L);
    if (!c->metadata) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, c->body.data);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.bytes);
        h->counters.calls++;
        h->counters.retries += c->tries > 1;
    }
    curl_multi_add_handle(h->multi, c->easy);
}

struct verdict {
    enum backend_failure failure;
    bool again; /* may be better later */
    bool spare; /* the service is overloaded or away: fewer calls at once */
    char reason[BACKEND_REASON_BYTES_MAX];
};

static struct verdict verdict_of_curl(const struct call *c, CURLcode code)
{
    struct verdict v = {.failure = BACKEND_TRANSPORT, .again = true, .spare = true};
    if (c->too_large) {
        v = (struct verdict){.failure = BACKEND_TOO_LARGE};
        snprintf(v.reason, sizeof v.reason, "the answer is larger than %zu bytes",
                 c->answer.bytes_max);
        return v;
    }
    if (code == CURLE_OPERATION_TIMEDOUT)
        v.failure = BACKEND_TIMEOUT;
    /* What a configuration error or a certificate causes stays so. */
    v.again = !c->refused_address && code != CURLE_UNSUPPORTED_PROTOCOL &&
              code != CURLE_URL_MALFORMAT && code != CURLE_PEER_FAILED_VERIFICATION &&
              code != CURLE_SSL_CACERT_BADFILE;
    snprintf(v.reason, sizeof v.reason, "%.150s",
             c->refused_address ? "the service's address is link-local, unspecified or multicast"
             : c->why[0] != 0   ? c->why
                                : curl_easy_strerror(code));
    return v;
}

static struct verdict verdict_of_status(const struct call *c, long status)
{
    struct verdict v = {.failure = BACKEND_ANSWER};
    if (status >= 300 && status < 400)
        v.failure = BACKEND_REDIRECT;
    else if (status == 408 || status == 425 || status == 429 || status == 503)
        v = (struct verdict){
            .failure = BACKEND_BUSY, .again = true, .spare = status == 429 || status == 503};
    else if (status >= 500)
        v = (struct verdict){.failure = BACKEND_SERVER, .again = true};
    else if (status >= 400)
        v.failure = BACKEND_REFUSED;
    char text[120];
    oip_read_error(text, sizeof text, c->answer.data, c->answer.bytes);
    snprintf(v.reason, sizeof v.reason, "status %ld%s%s", status, text[0] != 0 ? ": " : "", text);
    return v;
}

static struct verdict judge_answer(struct call *c)
{
    struct http *h = c->http;
    struct verdict v = {.failure = BACKEND_OK};
    struct err e = {0};
    const struct form_answer a = {.body = c->answer.data,
                                  .bytes = c->answer.bytes,
                                  .json_bytes = c->answer_has_json_bytes ? c->answer_json_bytes
                                                                         : c->answer.bytes};
    const int rc = c->metadata ? h->form.describe(h->form.self, &a, &e)
                               : h->form.read(h->form.self, h->scores, c->n, c->id, &a, &e);
    if (rc < 0) {
        v.failure = BACKEND_ANSWER;
        snprintf(v.reason, sizeof v.reason, "%.190s", e.text);
    }
    return v;
}

static void release(struct call *c)
{
    buf_done(&c->body);
    buf_done(&c->answer);
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    c->state = CALL_FREE;
}

/* Full jitter: uniform in [0, min(cap, first * 2^tries)], or what the service asked for. */
static int64_t delay_ms(struct call *c)
{
    struct http *h = c->http;
    if (c->retry_after_s >= 0)
        return c->retry_after_s * 1000 + (int64_t)(next_jitter(h) % 100);
    int64_t cap_ms = h->p.backoff_ms;
    for (uint32_t i = 1; i < c->tries && cap_ms < BACKOFF_MS_MAX; i++)
        cap_ms *= 2;
    cap_ms = cap_ms < BACKOFF_MS_MAX ? cap_ms : BACKOFF_MS_MAX;
    if (c->metadata && cap_ms > METADATA_RETRY_MS_MAX)
        cap_ms = METADATA_RETRY_MS_MAX;
    return (int64_t)(next_jitter(h) % (uint64_t)(cap_ms + 1));
}

static void learn(struct http *h, const struct verdict *v)
{
    if (v->failure == BACKEND_OK)
        h->limit += 1.0 / h->limit;
    else if (v->spare)
        h->limit *= 0.5;
    if (h->limit > (double)h->p.concurrency)
        h->limit = (double)h->p.concurrency;
    if (h->limit < 1.0)
        h->limit = 1.0;
}

/* The service is asked what it takes until it says so: no batch is sent before. */
static void end_metadata(struct call *c, const struct verdict *v)
{
    struct http *h = c->http;
    if (v->failure == BACKEND_OK) {
        h->ready = true;
        log_event(LOG_INFO, "reward_service_ready", "url=%s model=%s form=%s", h->p.url, h->p.model,
                  h->p.backend);
        release(c);
        return;
    }
    if ((c->tries & (c->tries - 1)) == 0) /* the 1st, 2nd, 4th, 8th ... time */
        log_event(LOG_WARN, "reward_service_waiting", "url=%s tries=%u failure=%s reason=%s",
                  h->p.url, c->tries, backend_failure_name(v->failure), v->reason);
    c->state = CALL_WAITING;
    c->next_ms = clock_mono_ms(NULL) + 50 + delay_ms(c);
    c->deadline_ms = INT64_MAX / 2;
}

static void end_batch(struct call *c, const struct verdict *v)
{
    struct http *h = c->http;
    learn(h, v);
    const int64_t now_ms = clock_mono_ms(NULL);
    if (v->again && c->tries <= (uint32_t)h->p.retries) {
        c->next_ms = now_ms + delay_ms(c);
        if (c->next_ms < c->deadline_ms) {
            c->state = CALL_WAITING;
            return;
        }
    }
    struct backend_result result = {
        .batch = c->batch, .failure = v->failure, .scores = h->scores, .count = c->n};
    snprintf(result.reason, sizeof result.reason, "%s", v->reason);
    h->counters.failures[v->failure]++;
    if (v->failure == BACKEND_OK)
        h->counters.seconds += (double)(now_ms - c->began_ms) / 1000.0;
    release(c);
    h->done(h->arg, &result);
}

static void collect(struct http *h)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left)) != NULL;) {
        if (m->msg != CURLMSG_DONE)
            continue;
        struct call *c = NULL;
        long status = 0;
        const CURLcode code = m->data.result;
        CURL *easy = m->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&c);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(h->multi, easy);
        const struct verdict v = code != CURLE_OK ? verdict_of_curl(c, code)
                                 : status != 200  ? verdict_of_status(c, status)
                                                  : judge_answer(c);
        if (c->metadata)
            end_metadata(c, &v);
        else
            end_batch(c, &v);
    }
}

/* ---- driving ---- */

static int drive(struct http *h, struct err *e)
{
    const int64_t now_ms = clock_mono_ms(NULL);
    int running;
    for (size_t i = 0; i < h->count; i++)
        if (h->calls[i].state == CALL_WAITING && h->calls[i].next_ms <= now_ms)
            start(&h->calls[i]);
    if (h->curl_due_ms <= now_ms) {
        h->curl_due_ms = INT64_MAX;
        curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect(h);
    if (h->loop_error.code != ERR_NONE) {
        *e = h->loop_error;
        return -1;
    }
    int64_t due_ms = h->curl_due_ms;
    for (size_t i = 0; i < h->count; i++)
        if (h->calls[i].state == CALL_WAITING && h->calls[i].next_ms < due_ms)
            due_ms = h->calls[i].next_ms;
    if (h->timer >= 0)
        loop_remove_timer(h->loop, h->timer);
    h->timer = -1;
    if (due_ms == INT64_MAX)
        return 0;
    int64_t wait_ms = due_ms - clock_mono_ms(NULL);
    wait_ms = wait_ms < 1 ? 1 : wait_ms > 60000 ? 60000 : wait_ms;
    return loop_add_timer(h->loop, (uint32_t)wait_ms, on_timer, h, &h->timer, e);
}

static int on_timer(void *arg, struct err *e)
{
    return drive(arg, e);
}

static int on_fd(void *arg, int fd, int events, struct err *e)
{
    struct http *h = arg;
    int running;
    const int what =
        (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(h->multi, fd, what, &running);
    return drive(h, e);
}

/* ---- the interface ---- */

/* What the call asks, as a name: the same question has the same key, in another process too. */
static void content_key(char out[OIP_ID_BYTES_MAX], const struct backend_item *items, size_t n)
{
    struct hash_sha256 h;
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_begin(&h);
    for (size_t i = 0; i < n; i++) {
        const uint32_t size[2] = {items[i].height, items[i].width};
        hash_sha256_add(&h, size, sizeof size);
        hash_sha256_add(&h, items[i].rgb, (size_t)size[0] * size[1] * 3);
        hash_sha256_add(&h, items[i].prompt, strlen(items[i].prompt) + 1);
        hash_sha256_add(&h, items[i].metadata, strlen(items[i].metadata) + 1);
    }
    hash_sha256_end(&h, digest);
    hash_hex(out, digest, 16);
}

static struct call *free_call(struct http *h)
{
    for (size_t i = 1; i < h->count; i++)
        if (h->calls[i].state == CALL_FREE)
            return &h->calls[i];
    return NULL;
}

static size_t active(const struct http *h)
{
    size_t n = 0;
    for (size_t i = 1; i < h->count; i++)
        n += h->calls[i].state != CALL_FREE;
    return n;
}

static int http_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n,
                       struct err *e)
{
    struct http *h = self;
    struct call *c = free_call(h);
    assert(c != NULL && h->ready && n <= h->form.items_max);
    content_key(c->id, items, n);
    buf_init(&c->body, REQUEST_BYTES_MAX);
    buf_init(&c->answer, (size_t)h->p.answer_max_bytes);
    struct form_request r = {.body = &c->body};
    if (h->form.write(h->form.self, &r, c->id, items, n, e) < 0) {
        release(c);
        return -1;
    }
    memcpy(c->content_type, r.content_type, sizeof c->content_type);
    memcpy(c->header, r.header, sizeof c->header);
    c->metadata = false;
    c->batch = batch;
    c->n = n;
    c->tries = 0;
    c->deadline_ms = clock_mono_ms(NULL) + h->p.deadline_ms;
    c->next_ms = 0;
    c->state = CALL_WAITING;
    return drive(h, e);
}

static size_t http_room(void *self)
{
    const struct http *h = self;
    const size_t busy = active(h), limit = (size_t)h->limit;
    return h->ready && limit > busy ? limit - busy : 0;
}

static bool http_ready(void *self)
{
    return ((const struct http *)self)->ready;
}

static uint64_t http_bytes(void *self, size_t image_bytes)
{
    const struct http *h = self;
    const uint64_t text = TRAJECTORY_PROMPT_BYTES_MAX + TRAJECTORY_METADATA_BYTES_MAX;
    const uint64_t item = h->form.image_factor * (uint64_t)image_bytes + 2 * text;
    const uint64_t calls = (uint64_t)h->p.concurrency;
    return calls * ((uint64_t)h->p.batch * item + (uint64_t)h->p.answer_max_bytes) + sizeof *h;
}

static void http_counters(void *self, struct backend_counters *out)
{
    *out = ((const struct http *)self)->counters;
}

static void http_close(void *self)
{
    struct http *h = self;
    for (size_t i = 0; h->calls != NULL && i < h->count; i++) {
        struct call *c = &h->calls[i];
        if (c->state == CALL_RUNNING)
            curl_multi_remove_handle(h->multi, c->easy);
        release(c);
        if (c->easy != NULL)
            curl_easy_cleanup(c->easy);
    }
    if (h->multi != NULL)
        curl_multi_cleanup(h->multi);
    if (h->timer >= 0)
        loop_remove_timer(h->loop, h->timer);
    mem_free(h->calls);
    form_close(&h->form);
    for (volatile char *b = h->bearer; *b != 0; b++)
        *b = 0;
    for (volatile char *b = h->header; *b != 0; b++)
        *b = 0;
    mem_free(h);
    curl_global_cleanup();
}

static int make_base_url(struct http *h, struct err *e)
{
    const struct reward_params *p = &h->p;
    size_t n = strlen(p->url);
    if (strncmp(p->url, "http://", 7) != 0 && strncmp(p->url, "https://", 8) != 0)
        return err_set(e, ERR_INVALID, "reward.url %s: write http://HOST:PORT or https://HOST:PORT",
                       p->url);
    for (const char *c = p->url; *c != 0; c++)
        if (*c <= ' ' || *c == '@' || *c == '?' || *c == '#' || *c == '\\' || *c > '~')
            return err_set(e, ERR_INVALID,
                           "reward.url %s: no user, query, fragment or space may be in it", p->url);
    while (n > 0 && p->url[n - 1] == '/')
        n--;
    snprintf(h->base_url, sizeof h->base_url, "%.*s", (int)n, p->url);
    return 0;
}

/* One line "Name: value": what could begin another line would be a request of its own. */
static int read_header(struct http *h, struct err *e)
{
    if (config_read_secret(h->p.header, h->header, sizeof h->header, e) < 0)
        return -1;
    const char *colon = strchr(h->header, ':');
    const bool line = colon != NULL && colon > h->header && strpbrk(h->header, "\r\n") == NULL &&
                      strcspn(h->header, " \t") > (size_t)(colon - h->header);
    return line ? 0
                : err_set(e, ERR_INVALID, "reward.header: %s holds no line \"Name: value\"",
                          h->p.header);
}

int backend_open_http(struct backend *out, const struct reward_params *p, struct loop *loop,
                      backend_done *done, void *arg, struct err *e)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct http *h = mem_new(1, sizeof *h);
    h->p = *p;
    h->loop = loop;
    h->done = done;
    h->arg = arg;
    h->timer = -1;
    h->curl_due_ms = INT64_MAX;
    h->limit = (double)p->concurrency;
    h->jitter = (uint64_t)clock_mono_ns(NULL) | 1;
    if (make_base_url(h, e) < 0 || form_open(&h->form, &h->p, e) < 0 ||
        (p->bearer[0] != 0 && config_read_secret(p->bearer, h->bearer, sizeof h->bearer, e) < 0) ||
        (p->header[0] != 0 && read_header(h, e) < 0))
        goto fail;
    h->multi = curl_multi_init();
    h->count = (size_t)p->concurrency + 1;
    h->calls = mem_new(h->count, sizeof *h->calls);
    for (size_t i = 0; i < h->count; i++) {
        h->calls[i].http = h;
        h->calls[i].easy = curl_easy_init();
        if (h->calls[i].easy == NULL || h->multi == NULL) {
            err_set(e, ERR_IO, "libcurl could not be set up");
            goto fail;
        }
    }
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)h->count);
    h->ready = h->form.describe_path[0] == 0;
    if (!h->ready) {
        struct call *c = &h->calls[0];
        c->metadata = true;
        c->state = CALL_WAITING;
        c->deadline_ms = INT64_MAX / 2;
        buf_init(&c->answer, METADATA_ANSWER_BYTES_MAX);
    }
    if (drive(h, e) < 0)
        goto fail;
    *out = (struct backend){.self = h,
                            .submit = http_submit,
                            .items_max = h->form.items_max,
                            .room = http_room,
                            .ready = http_ready,
                            .bytes_bound = http_bytes,
                            .counters = http_counters,
                            .close = http_close};
    return 0;
fail:
    http_close(h);
    return -1;
}
