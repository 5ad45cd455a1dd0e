#include "scorer/endpoint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void endpoint_init(struct endpoint *p, double calls_max)
{
    *p = (struct endpoint){.limit = calls_max, .calls_max = calls_max, .pause_ms = ENDPOINT_PAUSE_MS};
}

size_t endpoint_room(const struct endpoint *p, int64_t now_ms)
{
    if (p->breaker == ENDPOINT_HALF_OPEN || (p->breaker == ENDPOINT_OPEN && now_ms >= p->open_until_ms))
        return p->running == 0;
    if (p->breaker == ENDPOINT_OPEN)
        return 0;
    const size_t limit = (size_t)p->limit;
    return limit > p->running ? limit - p->running : 0;
}

int64_t endpoint_opens_ms(const struct endpoint *p)
{
    return p->breaker == ENDPOINT_OPEN && p->running == 0 ? p->open_until_ms : INT64_MAX;
}

void endpoint_begin(struct endpoint *p, int64_t now_ms)
{
    assert(endpoint_room(p, now_ms) > 0);
    if (p->breaker == ENDPOINT_OPEN)
        p->breaker = ENDPOINT_HALF_OPEN;
    p->running++;
}

static void open_breaker(struct endpoint *p, int64_t now_ms)
{
    p->breaker = ENDPOINT_OPEN;
    p->open_until_ms = now_ms + p->pause_ms;
    p->pause_ms = p->pause_ms * 2 < ENDPOINT_PAUSE_MS_MAX ? p->pause_ms * 2 : ENDPOINT_PAUSE_MS_MAX;
}

void endpoint_end(struct endpoint *p, enum endpoint_outcome outcome, int64_t latency_ms, int64_t now_ms)
{
    assert(p->running > 0);
    p->running--;
    if (outcome == ENDPOINT_CANCELLED) {
        /* a probe that was given up proved nothing: another one may be sent */
        if (p->breaker == ENDPOINT_HALF_OPEN)
            p->breaker = ENDPOINT_OPEN;
        return;
    }
    if (outcome == ENDPOINT_BUSY || outcome == ENDPOINT_LOST)
        p->limit = p->limit * 0.5 > 1.0 ? p->limit * 0.5 : 1.0;
    if (outcome == ENDPOINT_FAULT || outcome == ENDPOINT_LOST) {
        p->faults++;
        if (p->breaker == ENDPOINT_HALF_OPEN || (p->breaker == ENDPOINT_CLOSED && p->faults >= ENDPOINT_FAULTS_MAX))
            open_breaker(p, now_ms);
        return;
    }
    /* it is there */
    p->faults = 0;
    p->breaker = ENDPOINT_CLOSED;
    p->pause_ms = ENDPOINT_PAUSE_MS;
    if (outcome == ENDPOINT_BUSY)
        return;
    p->limit += 1.0 / p->limit;
    if (p->limit > p->calls_max)
        p->limit = p->calls_max;
    p->latency_ms[p->latencies++ % ENDPOINT_LATENCIES] = (uint32_t)(latency_ms > 0 ? latency_ms : 0);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

int64_t endpoint_latency_ms(const struct endpoint *p, double share)
{
    uint32_t sorted[ENDPOINT_LATENCIES];
    const size_t n = p->latencies < ENDPOINT_LATENCIES ? (size_t)p->latencies : ENDPOINT_LATENCIES;
    if (n < ENDPOINT_LATENCIES_LEAST)
        return -1;
    memcpy(sorted, p->latency_ms, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    return sorted[(size_t)(share * (double)(n - 1))];
}
