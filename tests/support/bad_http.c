#include "support/bad_http.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX (16 << 20)

struct bad_http {
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_int mode, percent;
    atomic_uint times, posts, bad, delay_ms;
    atomic_ullong id;
    atomic_bool stop, other_tensors;
    atomic_int visits; /* connections being served */
};

struct visit {
    struct bad_http *b;
    int fd;
};

static bool put(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = send(fd, text, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool put_text(int fd, const char *text)
{
    return put(fd, text, strlen(text));
}

static void put_reply(int fd, const char *status, const char *headers, const char *body)
{
    char head[512];
    snprintf(head, sizeof head,
             "HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
             status, headers, strlen(body));
    if (put_text(fd, head))
        put_text(fd, body);
}

static const char metadata[] =
    "{\"name\":\"m\",\"platform\":\"test\",\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\","
    "\"shape\":[-1,-1,-1,3]},{\"name\":\"prompt\",\"datatype\":\"BYTES\",\"shape\":[-1]}],"
    "\"outputs\":[{\"name\":\"score\",\"datatype\":\"FP32\",\"shape\":[-1]},"
    "{\"name\":\"strict\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

static const char metadata_other[] =
    "{\"name\":\"m\",\"platform\":\"test\",\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\","
    "\"shape\":[-1,-1,-1,3]},{\"name\":\"prompt\",\"datatype\":\"BYTES\",\"shape\":[-1]}],"
    "\"outputs\":[{\"name\":\"score\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

/* [v, v, ...] of n values, `last` in place of the last one. */
static void add_values(char *out, size_t bytes, unsigned n, const char *v, const char *last)
{
    size_t used = strlen(out);
    for (unsigned i = 0; i < n && used + 32 < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s", i > 0 ? "," : "",
                                 i + 1 == n ? last : v);
}

static void add_output(char *out, size_t bytes, const char *name, unsigned shape, unsigned n,
                       const char *v, const char *last)
{
    size_t used = strlen(out);
    snprintf(out + used, bytes - used,
             "{\"name\":\"%s\",\"shape\":[%u],\"datatype\":\"FP32\",\"data\":[", name, shape);
    add_values(out, bytes, n, v, last);
    used = strlen(out);
    snprintf(out + used, bytes - used, "]}");
}

static void put_scores(int fd, enum bad_mode mode, unsigned n, const char *id)
{
    static _Thread_local char body[256 << 10];
    const unsigned count = mode == BAD_SHORT_COUNT || mode == BAD_SHAPE_LIE ? n - 1
                           : mode == BAD_LONG_COUNT                         ? n + 1
                                                                            : n;
    const char *last = mode == BAD_NAN      ? "NaN"
                       : mode == BAD_STRING ? "\"0.5\""
                       : mode == BAD_NULL   ? "null"
                       : mode == BAD_1E999  ? "1e999"
                       : mode == BAD_RANGE  ? "7"
                                            : "0.5";
    snprintf(body, sizeof body, "{\"model_name\":\"m\",\"id\":\"%s\",%s\"outputs\":[",
             mode == BAD_OTHER_ID ? "another" : id,
             mode == BAD_DUPLICATE_KEY ? "\"outputs\":[]," : "");
    if (mode == BAD_DEEP) {
        const size_t used = strlen(body);
        memset(body + used, '[', 5000);
        body[used + 5000] = 0;
        put_reply(fd, "200 OK", "", body);
        return;
    }
    add_output(body, sizeof body, "score", mode == BAD_SHAPE_LIE ? n : count, count, "0.5", last);
    strncat(body, ",", sizeof body - strlen(body) - 1);
    if (mode == BAD_DUPLICATE_OUTPUT) {
        add_output(body, sizeof body, "score", n, n, "0.5", "0.5");
        strncat(body, ",", sizeof body - strlen(body) - 1);
    }
    if (mode == BAD_MISSING_OUTPUT)
        body[strlen(body) - 1] = 0;
    else
        add_output(body, sizeof body, "strict", n, n, "1", "1");
    strncat(body, mode == BAD_TRAILING ? "]} and more" : "]}", sizeof body - strlen(body) - 1);
    put_reply(fd, "200 OK", mode == BAD_GZIP ? "Content-Encoding: gzip\r\n" : "",
              mode == BAD_GZIP ? "\x1f\x8b\x08" : body);
}

static void put_binary(int fd, enum bad_mode mode, unsigned n, const char *id)
{
    char head[256], json[512];
    float values[1024];
    const size_t bytes = n * sizeof(float),
                 sent = mode == BAD_BINARY_SHORT ? 2 * bytes - 1 : 2 * bytes;
    for (unsigned i = 0; i < 2 * n && i < 1024; i++)
        values[i] = 0.5f;
    if (mode == BAD_BINARY_NAN)
        memcpy(&values[n - 1], &(uint32_t){0x7fc00000}, 4);
    snprintf(json, sizeof json,
             "{\"model_name\":\"m\",\"id\":\"%s\",\"outputs\":[{\"name\":\"score\",\"shape\":[%u],"
             "\"datatype\":\"FP32\","
             "\"parameters\":{\"binary_data_size\":%zu}},{\"name\":\"strict\",\"shape\":[%u],"
             "\"datatype\":\"FP32\","
             "\"parameters\":{\"binary_data_size\":%zu}}]}",
             id, n, bytes, n, bytes);
    snprintf(
        head, sizeof head,
        "HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n\r\n",
        strlen(json), strlen(json) + sent);
    if (put_text(fd, head) && put_text(fd, json))
        put(fd, (const char *)values, sent);
}

static void wait_s(struct bad_http *b, int seconds)
{
    for (int i = 0; i < 20 * seconds && !atomic_load(&b->stop); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

/* False: the connection is to be closed. */
static bool misbehave(struct bad_http *b, int fd, enum bad_mode mode, unsigned n, const char *id)
{
    static const char junk[65536] = {'x'};
    switch ((int)mode) {
    case BAD_500:
        put_reply(fd, "500 Internal Server Error", "", "{\"error\":\"oops\"}");
        return true;
    case BAD_503_RETRY_AFTER:
        put_reply(fd, "503 Service Unavailable", "Retry-After: 1\r\n", "busy");
        return true;
    case BAD_429:
        put_reply(fd, "429 Too Many Requests", "", "slow down");
        return true;
    case BAD_QUOTA:
        put_reply(fd, "429 Too Many Requests", "", "{\"error\":{\"code\":\"insufficient_quota\"}}");
        return true;
    case BAD_400:
        put_reply(fd, "400 Bad Request", "", "{\"error\":\"no such tensor\"}");
        return true;
    case BAD_404:
        put_reply(fd, "404 Not Found", "", "");
        return true;
    case BAD_204:
        put_text(fd, "HTTP/1.1 204 No Content\r\n\r\n");
        return true;
    case BAD_REDIRECT:
        put_reply(fd, "302 Found", "Location: file:///etc/passwd\r\n", "");
        return true;
    case BAD_CLOSE:
        return false;
    case BAD_CUT:
        put_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"outputs\":");
        return false;
    case BAD_DRIP:
        put_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (int i = 0; i < 1000 && !atomic_load(&b->stop) && put_text(fd, " "); i++)
            wait_s(b, 1);
        return false;
    case BAD_SILENT:
        wait_s(b, 30);
        return false;
    case BAD_HUGE_LENGTH:
        put_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        for (int i = 0; i < 1024 && put(fd, junk, sizeof junk); i++)
            ;
        return false;
    case BAD_ENDLESS_CHUNKS:
        put_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while (!atomic_load(&b->stop) && put_text(fd, "10000\r\n") && put(fd, junk, sizeof junk) &&
               put_text(fd, "\r\n"))
            ;
        return false;
    case BAD_HUGE_HEADERS:
        put_text(fd, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i < 100000 && put_text(fd, "X-Filler: abcdefghijklmnopqrstuvwxyz\r\n"); i++)
            ;
        return false;
    case BAD_GARBAGE:
        put_reply(fd, "200 OK", "", "<html>not JSON</html>");
        return true;
    case BAD_EMPTY:
        put_reply(fd, "200 OK", "", "");
        return true;
    case BAD_ERROR_200:
        put_reply(fd, "200 OK", "", "{\"error\":\"the model crashed\"}");
        return true;
    case BAD_BINARY_NAN:
    case BAD_BINARY_SHORT:
        put_binary(fd, mode, n, id);
        return mode == BAD_BINARY_NAN;
    default:
        put_scores(fd, mode, n, id);
        return true;
    }
}

static enum bad_mode next_mode(struct bad_http *b)
{
    const unsigned post = atomic_fetch_add(&b->posts, 1);
    const int percent = atomic_load(&b->percent);
    if (percent > 0) {
        /* slow ones are left out: they would only wait */
        const enum bad_mode m = (enum bad_mode)(1 + post * 7 % (BAD_MODES - 1));
        const bool slow = m == BAD_DRIP || m == BAD_SILENT || m == BAD_503_RETRY_AFTER;
        return (int)(post * 37 % 100) < percent && !slow ? m : BAD_GOOD;
    }
    const unsigned times = atomic_load(&b->times);
    return times > 0 && post >= times ? BAD_GOOD : (enum bad_mode)atomic_load(&b->mode);
}

/* The request's id and number of images, from its text. */
static unsigned look_into(const char *body, char id[80])
{
    const char *at = strstr(body, "\"id\":\"");
    snprintf(id, 80, "%.*s", at != NULL ? (int)strcspn(at + 6, "\"") : 0, at != NULL ? at + 6 : "");
    at = strstr(body, "\"shape\":[");
    return at != NULL ? (unsigned)strtoul(at + 9, NULL, 10) : 1;
}

static bool serve_one(struct bad_http *b, int fd, char *in)
{
    size_t used = 0, want = 0;
    char *end = NULL;
    while (end == NULL || used < want) {
        const ssize_t n = recv(fd, in + used, REQUEST_BYTES_MAX - used, 0);
        if (n <= 0)
            return false;
        used += (size_t)n;
        in[used] = 0;
        end = strstr(in, "\r\n\r\n");
        if (end == NULL)
            continue;
        const char *length = strstr(in, "\r\nContent-Length: "); /* not Inference-Header-... */
        want = (size_t)(end + 4 - in) +
               (length != NULL && length < end ? strtoul(length + 18, NULL, 10) : 0);
        if (want > REQUEST_BYTES_MAX)
            return false;
    }
    if (strncmp(in, "GET ", 4) == 0) {
        put_reply(fd, "200 OK", "", atomic_load(&b->other_tensors) ? metadata_other : metadata);
        return true;
    }
    char id[80];
    const unsigned n = look_into(end + 4, id);
    char first[16];
    snprintf(first, sizeof first, "%.15s", id);
    atomic_store(&b->id, strtoull(first, NULL, 16));
    const unsigned delay_ms = atomic_load(&b->delay_ms);
    if (delay_ms > 0)
        nanosleep(&(struct timespec){.tv_sec = delay_ms / 1000, .tv_nsec = delay_ms % 1000 * 1000000L}, NULL);
    const enum bad_mode mode = next_mode(b);
    atomic_fetch_add(&b->bad, mode != BAD_GOOD);
    const bool other = mode == BAD_GOOD && atomic_load(&b->other_tensors);
    return misbehave(b, fd, other ? BAD_MISSING_OUTPUT : mode, n, id);
}

static void *visit(void *arg)
{
    struct visit *v = arg;
    char *in = malloc(REQUEST_BYTES_MAX + 1);
    while (in != NULL && !atomic_load(&v->b->stop) && serve_one(v->b, v->fd, in))
        ;
    shutdown(v->fd, SHUT_WR);
    close(v->fd);
    free(in);
    atomic_fetch_sub(&v->b->visits, 1);
    free(v);
    return NULL;
}

static void *listen_on(void *arg)
{
    struct bad_http *b = arg;
    while (!atomic_load(&b->stop)) {
        const int fd = accept(b->listener, NULL, NULL);
        if (fd < 0)
            continue;
        const struct timeval tv = {.tv_sec = 5};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* headers and body are sent apart */
        struct visit *v = malloc(sizeof *v);
        *v = (struct visit){b, fd};
        pthread_t t;
        atomic_fetch_add(&b->visits, 1);
        ck_assert_int_eq(pthread_create(&t, NULL, visit, v), 0);
        pthread_detach(t);
    }
    return NULL;
}

struct bad_http *bad_http_start(enum bad_mode mode)
{
    struct bad_http *b = calloc(1, sizeof *b);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    atomic_store(&b->mode, mode);
    const struct timeval tv = {.tv_usec = 100000};
    setsockopt(b->listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    ck_assert_int_eq(bind(b->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(b->listener, 64), 0);
    getsockname(b->listener, (struct sockaddr *)&a, &n);
    b->port = ntohs(a.sin_port);
    ck_assert_int_eq(pthread_create(&b->thread, NULL, listen_on, b), 0);
    return b;
}

/* Waits for the open connections: the client closes them, or they time out. */
void bad_http_stop(struct bad_http *b)
{
    atomic_store(&b->stop, true);
    pthread_join(b->thread, NULL);
    close(b->listener);
    while (atomic_load(&b->visits) > 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    free(b);
}

uint16_t bad_http_port(const struct bad_http *b)
{
    return b->port;
}

void bad_http_mode(struct bad_http *b, enum bad_mode mode, unsigned times)
{
    atomic_store(&b->posts, 0);
    atomic_store(&b->times, times);
    atomic_store(&b->mode, mode);
}

void bad_http_mix(struct bad_http *b, unsigned percent)
{
    atomic_store(&b->percent, (int)percent);
}

void bad_http_delay(struct bad_http *b, unsigned millis)
{
    atomic_store(&b->delay_ms, millis);
}

void bad_http_other_tensors(struct bad_http *b)
{
    atomic_store(&b->other_tensors, true);
}

unsigned bad_http_bad(struct bad_http *b)
{
    return atomic_load(&b->bad);
}

unsigned bad_http_posts(struct bad_http *b)
{
    return atomic_load(&b->posts);
}

uint64_t bad_http_id(struct bad_http *b)
{
    return atomic_load(&b->id);
}
