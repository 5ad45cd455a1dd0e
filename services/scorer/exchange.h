/* HTTP/1.1 exchanges on the service's loop, many at once: the only door to libcurl.  What leaves and what comes in is
 * bounded: no redirects, no proxy, no .netrc, TLS 1.2 or newer with verified peers, addresses by address.h looked at
 * when the socket is made, answers and headers no larger than said.  No tries and no judgement of answers here
 * (backend_http.c).
 *
 *     exchange_pool_open(&pool, loop, &options, e);
 *     x = exchange_new(pool, answer_bytes_max, on_end, self);
 *     exchange_begin(x, &request);     // on_end follows once, from the loop, unless it is cancelled
 *
 * Thread rule: the thread of the loop. */
#ifndef DAGLINE_SCORER_EXCHANGE_H
#define DAGLINE_SCORER_EXCHANGE_H

#include "base/err.h"
#include "scorer/address.h"
#include "wire/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXCHANGE_HEADERS_MAX 8
#define EXCHANGE_HEADERS_BYTES_MAX (64u << 10) /* of an answer */
#define EXCHANGE_RETRY_AFTER_S_MAX 60

struct exchange_options {
    const char *ca_file, *client_cert, *client_key; /* "": the system's, none, none */
    size_t connections_max;
};

struct exchange_pool;
struct exchange;

enum exchange_end {
    EXCHANGE_ANSWERED,  /* with whatever status */
    EXCHANGE_LOST,      /* cut answer */
    EXCHANGE_UNREACHED, /* no connection */
    EXCHANGE_TIMEOUT,
    EXCHANGE_TOO_LARGE,
    EXCHANGE_HOPELESS /* the address, the certificate, the settings: another try ends the same */
};

struct exchange_request {
    const char *url;
    const struct address_rule *rule;            /* borrowed until the end */
    const char *headers[EXCHANGE_HEADERS_MAX];  /* lines; copied; NULL ends them */
    const void *body;                           /* borrowed until the end; NULL: a GET, else a POST */
    size_t body_bytes;
    int64_t timeout_ms;
};

struct exchange_result { /* valid during the call */
    enum exchange_end end;
    long status;        /* of an answer */
    const char *reason; /* one line, where there was no answer */
    bool headers_too_large; /* of EXCHANGE_TOO_LARGE: beyond EXCHANGE_HEADERS_BYTES_MAX; else the answer was */
    const void *answer;
    size_t answer_bytes;
    size_t json_bytes;     /* header Inference-Header-Content-Length, else answer_bytes; SIZE_MAX: no number */
    int64_t retry_after_s; /* capped; -1: not said */
};

/* -1 with e set ends the loop with that error. */
typedef int exchange_done(void *arg, const struct exchange_result *r, struct err *e);

/* `options` and its texts are borrowed. */
int exchange_pool_open(struct exchange_pool **out, struct loop *loop, const struct exchange_options *options,
                       struct err *e) MUST_USE;
/* After its exchanges; accepts NULL. */
void exchange_pool_close(struct exchange_pool *p);

int exchange_new(struct exchange **out, struct exchange_pool *p, size_t answer_bytes_max, exchange_done *done, void *arg,
                 struct err *e) MUST_USE;
void exchange_free(struct exchange *x); /* cancels; accepts NULL */

/* One at a time for each exchange. */
int exchange_begin(struct exchange *x, const struct exchange_request *q, struct err *e) MUST_USE;
void exchange_cancel(struct exchange *x);
bool exchange_running(const struct exchange *x);

#endif
