#include "io/httpd.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <microhttpd.h>

#define THREADS_DEFAULT 1U
#define THREADS_MAX 64U
#define CONNECTIONS_DEFAULT 64U
#define IDLE_S_DEFAULT 30U
#define BODY_BYTES_DEFAULT ((size_t)64 << 10)
#define REPLY_BYTES_DEFAULT ((size_t)4 << 20)
#define HEADER_BYTES_MAX ((size_t)32 << 10)
#define UPLOAD_S_MAX 120 /* a body that drips in is cut off, although it never is idle */
#define DRAIN_STEP_NS (5 * CLOCK_NS_PER_MS)

struct httpd {
    struct MHD_Daemon *daemon;
    httpd_handler *handler;
    void *arg;
    size_t body_bytes_max, reply_bytes_max;
    atomic_int active; /* requests begun and not answered in full */
};

/* One request, from its headers to the end of its reply. */
struct exchange {
    struct httpd *server;
    struct buf body;
    int64_t began_ns;
};

static enum MHD_Result send_reply(struct MHD_Connection *connection, struct httpd_reply *r)
{
    if (r->body.overflowed) {
        buf_clear(&r->body);
        r->status = 500;
    }
    if (r->body.bytes == 0 && r->status >= 400)
        buf_format(&r->body, "%s\n", MHD_get_reason_phrase_for((unsigned)r->status));
    size_t bytes;
    char *text = buf_take(&r->body, &bytes);
    struct MHD_Response *response = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        mem_free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (r->extra_name != NULL)
        MHD_add_response_header(response, r->extra_name, r->extra_value);
    if (r->retry_after_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", r->retry_after_s);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    const enum MHD_Result rc = MHD_queue_response(connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return rc;
}

static struct httpd_reply new_reply(const struct httpd *h, int status)
{
    struct httpd_reply r = {.status = status, .content_type = "text/plain; charset=utf-8"};
    buf_init(&r.body, h->reply_bytes_max);
    return r;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, const struct httpd *h, int status)
{
    struct httpd_reply r = new_reply(h, status);
    return send_reply(connection, &r);
}

/* True where the announced length is beyond the bound (or is no number: the library refuses those). */
static bool announces_too_much(struct MHD_Connection *connection, size_t bytes_max)
{
    const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t announced = 0;
    for (; text != NULL && *text >= '0' && *text <= '9'; text++) {
        announced = announced * 10 + (uint64_t)(*text - '0');
        if (announced > bytes_max)
            return true;
    }
    return false;
}

/* The library calls this once with the headers, then with each piece of the body, then once more. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *piece, size_t *piece_bytes, void **state)
{
    struct httpd *h = arg;
    struct exchange *x = *state;
    (void)version;
    if (x == NULL) {
        x = mem_new(1, sizeof *x);
        x->server = h;
        x->began_ns = clock_mono_ns(NULL);
        buf_init(&x->body, h->body_bytes_max);
        *state = x;
        atomic_fetch_add(&h->active, 1);
        return announces_too_much(connection, h->body_bytes_max) ? refuse(connection, h, 413) : MHD_YES;
    }
    if (*piece_bytes > 0) {
        buf_add(&x->body, piece, *piece_bytes);
        *piece_bytes = 0;
        /* A chunked body may be endless and cannot be answered before its end: close. */
        const bool slow = clock_mono_ns(NULL) - x->began_ns > UPLOAD_S_MAX * CLOCK_NS_PER_S;
        return x->body.overflowed || slow ? MHD_NO : MHD_YES;
    }
    const struct httpd_request q = {.method = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0 ? MHD_HTTP_METHOD_GET : method,
                                    .path = path,
                                    .body = x->body.data,
                                    .body_bytes = x->body.bytes,
                                    .connection = connection};
    struct httpd_reply r = new_reply(h, 200);
    h->handler(h->arg, &q, &r);
    assert(r.status >= 200 && r.status <= 599 && r.content_type != NULL);
    const enum MHD_Result rc = send_reply(connection, &r);
    buf_done(&r.body);
    return rc;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
    struct httpd *h = arg;
    struct exchange *x = *state;
    (void)connection;
    (void)why;
    if (x == NULL)
        return;
    buf_done(&x->body);
    mem_free(x);
    *state = NULL;
    atomic_fetch_sub(&h->active, 1);
}

const char *httpd_header(const struct httpd_request *q, const char *name)
{
    return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

const char *httpd_query(const struct httpd_request *q, const char *name)
{
    return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* "host:port" or "[v6]:port" with numeric addresses (and localhost). */
static int parse_address(const char *listen, struct addrinfo **out, struct err *e)
{
    char host[128];
    const char *colon = strrchr(listen, ':');
    const size_t n = colon != NULL ? (size_t)(colon - listen) : 0;
    if (n == 0 || n >= sizeof host || colon[1] == 0)
        return err_set(e, ERR_INVALID, "listen \"%.100s\": expected address:port, such as 127.0.0.1:9100", listen);
    /* getaddrinfo cuts a greater number to 16 bits */
    const size_t digits = strspn(colon + 1, "0123456789");
    if (colon[1 + digits] != 0 || digits > 5 || strtoul(colon + 1, NULL, 10) > UINT16_MAX)
        return err_set(e, ERR_INVALID, "listen \"%.100s\": the port is a number from 0 to 65535", listen);
    const bool brackets = listen[0] == '[' && listen[n - 1] == ']';
    memcpy(host, listen + brackets, n - 2 * brackets);
    host[n - 2 * brackets] = 0;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    const int rc = getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, colon + 1, &hints, out);
    if (rc != 0)
        return err_set(e, ERR_INVALID, "listen \"%.100s\": %s; expected address:port, such as 127.0.0.1:9100", listen,
                       gai_strerror(rc));
    return 0;
}

static unsigned or_default(unsigned value, unsigned otherwise)
{
    return value != 0 ? value : otherwise;
}

int httpd_start(struct httpd **out, const struct httpd_options *o, httpd_handler *handler, void *arg, struct err *e)
{
    struct addrinfo *address = NULL;
    *out = NULL;
    if (parse_address(o->listen, &address, e) < 0)
        return -1;
    struct httpd *h = mem_new(1, sizeof *h);
    h->handler = handler;
    h->arg = arg;
    h->body_bytes_max = o->body_bytes_max != 0 ? o->body_bytes_max : BODY_BYTES_DEFAULT;
    h->reply_bytes_max = o->reply_bytes_max != 0 ? o->reply_bytes_max : REPLY_BYTES_DEFAULT;
    const unsigned threads = or_default(o->threads, THREADS_DEFAULT);
    const unsigned connections = or_default(o->connections_max, CONNECTIONS_DEFAULT);
    assert(threads <= THREADS_MAX);
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC |
                           (address->ai_family == AF_INET6 ? (unsigned)MHD_USE_IPv6 : 0U);
    const struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL}, {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}}; /* the library wants a pool of 2 or none */
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h,                                 //
                                 MHD_OPTION_SOCK_ADDR, address->ai_addr,                              //
                                 MHD_OPTION_CONNECTION_LIMIT, connections > threads ? connections : threads,  //
                                 MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->connections_each,             //
                                 MHD_OPTION_CONNECTION_TIMEOUT, or_default(o->idle_s, IDLE_S_DEFAULT),  //
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_BYTES_MAX,                //
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,                        //
                                 MHD_OPTION_ARRAY, threads > 1 ? pool : none,                         //
                                 MHD_OPTION_END);
    freeaddrinfo(address);
    if (h->daemon == NULL) {
        mem_free(h);
        return err_set(e, ERR_IO, "cannot listen on %s: is another process on that port?", o->listen);
    }
    *out = h;
    return 0;
}

uint16_t httpd_port(const struct httpd *h)
{
    return MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void httpd_stop(struct httpd *h, int drain_ms)
{
    if (h == NULL)
        return;
    const MHD_socket listening = MHD_quiesce_daemon(h->daemon);
    const int64_t until = clock_mono_ns(NULL) + drain_ms * CLOCK_NS_PER_MS;
    while (atomic_load(&h->active) > 0 && clock_mono_ns(NULL) < until)
        clock_sleep_ns(NULL, DRAIN_STEP_NS);
    MHD_stop_daemon(h->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening); /* quiescing handed it to us */
    mem_free(h);
}
