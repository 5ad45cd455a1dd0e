/* A small HTTP/1.1 server inside a process: health, metrics, and the reward judge.  The only door to
 * libmicrohttpd.  Not for the open network: no TLS, loopback unless told otherwise.
 *
 * Bounded: connections, body bytes, idle time, worker threads.  A request beyond a bound is answered
 * with 413 or closed, and never reaches the handler.  Keep-alive is on.
 *
 * Threads: the handler runs on the server's worker threads, several at a time if threads > 1, and must
 * be safe for that; a slow handler holds one worker.  start and stop belong to one thread.
 *
 *     static void handle(void *arg, const struct httpd_request *q, struct httpd_reply *r)
 *     {
 *         if (strcmp(q->path, "/healthz") == 0) buf_add_text(&r->body, "ok\n");
 *         else r->status = 404;
 *     } */
#ifndef DAGLINE_IO_HTTPD_H
#define DAGLINE_IO_HTTPD_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct httpd;

/* Valid during the handler's call. */
struct httpd_request {
    const char *method; /* "GET", "POST", ...; HEAD comes as GET, and the body of its reply is not sent */
    const char *path;   /* decoded, without the query; begins with '/' */
    const void *body;   /* NULL where body_bytes is 0 */
    size_t body_bytes;
    void *connection; /* for httpd_header and httpd_query */
};

/* Preset to 200, text/plain and an empty body of at most reply_bytes_max; the server frees the body.
 * An empty body with a status of 400 or more gets the status' name as text. */
struct httpd_reply {
    int status;
    const char *content_type; /* a literal */
    struct buf body;
    int retry_after_s; /* > 0: adds the header Retry-After */
    const char *extra_name; /* one more header, a literal; NULL for none */
    char extra_value[64];
};

typedef void httpd_handler(void *arg, const struct httpd_request *request, struct httpd_reply *reply);

#define HTTPD_PAGE_CONNECTIONS_EACH 16 /* connections_each of /healthz and /metrics: a client that leaves its open starves nobody else */

struct httpd_options {
    const char *listen;      /* "127.0.0.1:9100", "0.0.0.0:80", "[::1]:0"; port 0 takes a free one */
    unsigned threads;        /* worker threads, 0: 1 */
    unsigned connections_max;/* at one time, 0: 64; more wait */
    unsigned connections_each; /* of one client's address, 0: all of them; more are closed */
    unsigned idle_s;         /* a connection that says nothing is closed, 0: 30 */
    size_t body_bytes_max;   /* of a request, 0: 64 KiB */
    size_t reply_bytes_max;  /* 0: 4 MiB */
};

/* Listens before it returns.  handler and arg are kept. */
int httpd_start(struct httpd **out, const struct httpd_options *options, httpd_handler *handler, void *arg,
                struct err *e) MUST_USE;

/* The port it listens on. */
uint16_t httpd_port(const struct httpd *h);

/* A request's header (case-insensitive) or query argument (decoded); NULL where absent, borrowed. */
const char *httpd_header(const struct httpd_request *request, const char *name);
const char *httpd_query(const struct httpd_request *request, const char *name);

/* Stops listening, lets requests that are being handled finish (at most drain_ms), closes.  Accepts NULL. */
void httpd_stop(struct httpd *h, int drain_ms);

#endif
