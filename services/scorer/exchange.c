#include "scorer/exchange.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "scorer/oip.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define CONNECT_MS_MAX 5000L

struct exchange_pool {
    struct loop *loop;
    const struct exchange_options *options;
    CURLM *multi;
    int timer;             /* of the loop, -1: none */
    int64_t due_ms;        /* when curl wants to be called; INT64_MAX: not */
    struct err loop_error; /* of a watch that could not be added */
};

struct exchange {
    struct exchange_pool *pool;
    exchange_done *done;
    void *arg;
    bool running;
    CURL *easy;
    struct curl_slist *headers;
    const struct address_rule *rule;
    const char *refusal; /* of its address; NULL: none */
    struct buf answer;
    size_t json_bytes, header_bytes;
    bool has_json_bytes, too_large;
    int64_t retry_after_s;
    char why[CURL_ERROR_SIZE];
};

/* ---- curl's callbacks ---- */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    (void)one;
    buf_add(&x->answer, data, n);
    x->too_large |= x->answer.overflowed;
    return x->too_large ? 0 : n;
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
    struct exchange *x = arg;
    char value[64];
    (void)one;
    x->header_bytes += n;
    x->too_large |= x->header_bytes > EXCHANGE_HEADERS_BYTES_MAX;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
        x->retry_after_s = -1;
        x->has_json_bytes = false;
    } else if (header_value(line, n, "Retry-After", value, sizeof value)) {
        x->retry_after_s = oip_retry_after_s(value, clock_wall_ns(NULL) / CLOCK_NS_PER_S, EXCHANGE_RETRY_AFTER_S_MAX);
    } else if (header_value(line, n, "Inference-Header-Content-Length", value, sizeof value)) {
        char *end = value;
        x->json_bytes = strtoul(value, &end, 10);
        /* A length that is no number fits no answer: it is refused when the answer is read. */
        x->has_json_bytes = true;
        if (*end != 0 || value[0] < '0' || value[0] > '9')
            x->json_bytes = SIZE_MAX;
    }
    return x->too_large ? 0 : n;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct exchange *x = arg;
    (void)purpose;
    x->refusal = address_refusal(x->rule, &a->addr);
    return x->refusal != NULL ? CURL_SOCKET_BAD : socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int on_fd(void *arg, int fd, int events, struct err *e);

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct exchange_pool *p = arg;
    (void)easy;
    (void)socket_arg;
    if (what == CURL_POLL_REMOVE) {
        loop_remove_fd(p->loop, fd);
        return 0;
    }
    const int events = (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);
    return loop_add_fd(p->loop, fd, events, on_fd, p, &p->loop_error);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct exchange_pool *p = arg;
    (void)multi;
    p->due_ms = timeout_ms < 0 ? INT64_MAX : clock_mono_ms(NULL) + timeout_ms;
    return 0;
}

/* ---- ends ---- */

static struct exchange_result result_of(const struct exchange *x, CURLcode code)
{
    struct exchange_result r = {.end = EXCHANGE_LOST, .retry_after_s = -1};
    if (code == CURLE_OK) {
        r = (struct exchange_result){.end = EXCHANGE_ANSWERED,
                                     .answer = x->answer.data,
                                     .answer_bytes = x->answer.bytes,
                                     .json_bytes = x->has_json_bytes ? x->json_bytes : x->answer.bytes,
                                     .retry_after_s = x->retry_after_s};
        curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &r.status);
        return r;
    }
    r.reason = x->refusal != NULL ? x->refusal : x->why[0] != 0 ? x->why : curl_easy_strerror(code);
    r.headers_too_large = x->header_bytes > EXCHANGE_HEADERS_BYTES_MAX;
    if (x->too_large)
        r.end = EXCHANGE_TOO_LARGE;
    else if (code == CURLE_OPERATION_TIMEDOUT)
        r.end = EXCHANGE_TIMEOUT;
    else if (x->refusal != NULL || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
             code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
             code == CURLE_SSL_CERTPROBLEM)
        r.end = EXCHANGE_HOPELESS;
    else if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        r.end = EXCHANGE_UNREACHED;
    return r;
}

static void stop(struct exchange *x)
{
    if (x->running)
        curl_multi_remove_handle(x->pool->multi, x->easy);
    x->running = false;
    curl_slist_free_all(x->headers);
    x->headers = NULL;
}

static int set_timer(struct exchange_pool *p, struct err *e);

static int collect(struct exchange_pool *p, struct err *e)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(p->multi, &left)) != NULL;) {
        struct exchange *x = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&x);
        stop(x);
        const struct exchange_result r = result_of(x, code);
        if (x->done(x->arg, &r, e) < 0)
            return -1;
    }
    if (p->loop_error.code != ERR_NONE) {
        *e = p->loop_error;
        return -1;
    }
    return set_timer(p, e);
}

static int on_time(void *arg, struct err *e)
{
    struct exchange_pool *p = arg;
    int running;
    if (p->due_ms <= clock_mono_ms(NULL)) {
        p->due_ms = INT64_MAX;
        curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    return collect(p, e);
}

static int on_fd(void *arg, int fd, int events, struct err *e)
{
    struct exchange_pool *p = arg;
    int running;
    const int what = (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(p->multi, fd, what, &running);
    return collect(p, e);
}

static int set_timer(struct exchange_pool *p, struct err *e)
{
    if (p->timer >= 0)
        loop_remove_timer(p->loop, p->timer);
    p->timer = -1;
    if (p->due_ms == INT64_MAX)
        return 0;
    const int64_t wait_ms = p->due_ms - clock_mono_ms(NULL);
    return loop_add_timer(p->loop,
                          (uint32_t)(wait_ms < 1       ? 1
                                     : wait_ms > 60000 ? 60000
                                                       : wait_ms),
                          on_time, p, &p->timer, e);
}

/* ---- the interface ---- */

int exchange_pool_open(struct exchange_pool **out, struct loop *loop, const struct exchange_options *options,
                       struct err *e)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct exchange_pool *p = mem_new(1, sizeof *p);
    *p = (struct exchange_pool){
        .loop = loop, .options = options, .multi = curl_multi_init(), .timer = -1, .due_ms = INT64_MAX};
    if (p->multi == NULL) {
        exchange_pool_close(p);
        return err_set(e, ERR_IO, "libcurl could not be set up");
    }
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)options->connections_max);
    *out = p;
    return 0;
}

void exchange_pool_close(struct exchange_pool *p)
{
    if (p == NULL)
        return;
    if (p->multi != NULL)
        curl_multi_cleanup(p->multi);
    if (p->timer >= 0)
        loop_remove_timer(p->loop, p->timer);
    mem_free(p);
    curl_global_cleanup();
}

int exchange_new(struct exchange **out, struct exchange_pool *p, size_t answer_bytes_max, exchange_done *done,
                 void *arg, struct err *e)
{
    struct exchange *x = mem_new(1, sizeof *x);
    *x = (struct exchange){.pool = p, .done = done, .arg = arg, .easy = curl_easy_init()};
    buf_init(&x->answer, answer_bytes_max);
    *out = x;
    return x->easy != NULL ? 0 : err_set(e, ERR_IO, "libcurl could not be set up");
}

void exchange_free(struct exchange *x)
{
    if (x == NULL)
        return;
    stop(x);
    buf_done(&x->answer);
    if (x->easy != NULL)
        curl_easy_cleanup(x->easy);
    mem_free(x);
}

static void set_safety(struct exchange *x)
{
    const struct exchange_options *o = x->pool->options;
    curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x->easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x->easy, CURLOPT_PROXY, ""); /* and the proxy variables of the environment are ignored */
    curl_easy_setopt(x->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(x->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(x->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (o->ca_file[0] != 0)
        curl_easy_setopt(x->easy, CURLOPT_CAINFO, o->ca_file);
    if (o->client_cert[0] != 0)
        curl_easy_setopt(x->easy, CURLOPT_SSLCERT, o->client_cert);
    if (o->client_key[0] != 0)
        curl_easy_setopt(x->easy, CURLOPT_SSLKEY, o->client_key);
}

/* libcurl takes "Name:" for the wish to leave it out; "Name;" is a header without a value. */
static void add_header(struct exchange *x, const char *line)
{
    size_t n = strlen(line);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    if (n < 2 || line[n - 1] != ':') {
        x->headers = curl_slist_append(x->headers, line);
        return;
    }
    char *const bare = mem_strdup(line);
    bare[n - 1] = ';';
    bare[n] = 0;
    x->headers = curl_slist_append(x->headers, bare);
    mem_free(bare);
}

int exchange_begin(struct exchange *x, const struct exchange_request *q, struct err *e)
{
    assert(!x->running);
    x->rule = q->rule;
    x->refusal = NULL;
    x->has_json_bytes = x->too_large = false;
    x->header_bytes = 0;
    x->retry_after_s = -1;
    x->why[0] = 0;
    buf_clear(&x->answer);
    for (size_t i = 0; i < EXCHANGE_HEADERS_MAX && q->headers[i] != NULL; i++)
        add_header(x, q->headers[i]);
    x->headers = curl_slist_append(x->headers, "Expect:");
    curl_easy_reset(x->easy);
    set_safety(x);
    curl_easy_setopt(x->easy, CURLOPT_URL, q->url);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->why);
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(x->easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(x->easy, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    curl_easy_setopt(x->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     q->timeout_ms < CONNECT_MS_MAX ? (long)q->timeout_ms : CONNECT_MS_MAX);
    if (q->body != NULL) {
        curl_easy_setopt(x->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, q->body);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_bytes);
    }
    x->running = true;
    curl_multi_add_handle(x->pool->multi, x->easy);
    return set_timer(x->pool, e);
}

void exchange_cancel(struct exchange *x)
{
    stop(x);
}

bool exchange_running(const struct exchange *x)
{
    return x->running;
}
