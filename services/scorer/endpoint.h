/* How one endpoint of a reward service fares: how many calls it may have at once, whether it is left alone for a
 * while, how long its answers take.
 *
 *   limit    additive increase, multiplicative decrease: an answer adds 1/limit, an overload (429, 503, a failed
 *            connection) halves it; between 1 and calls_max
 *   breaker  closed -> open after ENDPOINT_FAULTS_MAX faults in a row -> half-open after a pause, for one call: an
 *            answer closes it, a fault opens it again for twice as long (ENDPOINT_PAUSE_MS .. ENDPOINT_PAUSE_MS_MAX)
 *
 * Pure: no sockets, no clock; times are the caller's monotonic milliseconds.  Thread rule: one thread. */
#ifndef DAGLINE_SCORER_ENDPOINT_H
#define DAGLINE_SCORER_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENDPOINT_FAULTS_MAX 5
#define ENDPOINT_PAUSE_MS 1000
#define ENDPOINT_PAUSE_MS_MAX 30000
#define ENDPOINT_LATENCIES 64 /* the last ones, for quantiles */
#define ENDPOINT_LATENCIES_LEAST 16

enum endpoint_breaker { ENDPOINT_CLOSED, ENDPOINT_OPEN, ENDPOINT_HALF_OPEN };

enum endpoint_outcome {
    ENDPOINT_ANSWERED, /* whatever it said: it is there and not overloaded */
    ENDPOINT_BUSY,     /* it asks for fewer calls */
    ENDPOINT_FAULT,    /* it failed: 5xx */
    ENDPOINT_LOST,     /* no connection, cut answer, timeout: a fault, and fewer calls */
    ENDPOINT_CANCELLED /* we gave the call up: nothing is learnt */
};

struct endpoint {
    double limit, calls_max;
    unsigned running, faults; /* faults: in a row */
    enum endpoint_breaker breaker;
    int64_t open_until_ms, pause_ms;
    uint32_t latency_ms[ENDPOINT_LATENCIES];
    uint64_t latencies; /* ever; the array is a ring */
};

void endpoint_init(struct endpoint *p, double calls_max);

/* Calls that may begin now. */
size_t endpoint_room(const struct endpoint *p, int64_t now_ms);

/* When a breaker that is open lets a call through; INT64_MAX where none is open, or where calls are still under way: then
 * it is known once the last of them has ended. */
int64_t endpoint_opens_ms(const struct endpoint *p);

void endpoint_begin(struct endpoint *p, int64_t now_ms);
/* latency_ms counts for ENDPOINT_ANSWERED alone. */
void endpoint_end(struct endpoint *p, enum endpoint_outcome outcome, int64_t latency_ms, int64_t now_ms);

/* The share-th quantile of the last latencies, ms; -1 before ENDPOINT_LATENCIES_LEAST of them. */
int64_t endpoint_latency_ms(const struct endpoint *p, double share);

#endif
