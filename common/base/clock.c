#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    const int rc = clock_gettime(id, &t);
    assert(rc == 0); /* both clocks exist on every Linux */
    return (int64_t)t.tv_sec * CLOCK_NS_PER_S + t.tv_nsec;
}

static int64_t system_mono_ns(void *arg)
{
    (void)arg;
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t system_wall_ns(void *arg)
{
    (void)arg;
    return read_clock(CLOCK_REALTIME);
}

static void system_sleep_ns(void *arg, int64_t ns)
{
    (void)arg;
    struct timespec left = {.tv_sec = (time_t)(ns / CLOCK_NS_PER_S), .tv_nsec = ns % CLOCK_NS_PER_S};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

const struct clock clock_system = {system_mono_ns, system_wall_ns, system_sleep_ns, NULL};

static const struct clock *or_system(const struct clock *c)
{
    return c != NULL ? c : &clock_system;
}

int64_t clock_mono_ns(const struct clock *c)
{
    c = or_system(c);
    return c->mono_ns(c->arg);
}

int64_t clock_mono_ms(const struct clock *c)
{
    return clock_mono_ns(c) / CLOCK_NS_PER_MS;
}

double clock_mono_s(const struct clock *c)
{
    return (double)clock_mono_ns(c) * 1e-9;
}

int64_t clock_wall_ns(const struct clock *c)
{
    c = or_system(c);
    return c->wall_ns(c->arg);
}

void clock_sleep_ns(const struct clock *c, int64_t ns)
{
    c = or_system(c);
    if (ns > 0)
        c->sleep_ns(c->arg, ns);
}

void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_BYTES])
{
    int64_t s = wall_ns / CLOCK_NS_PER_S;
    int64_t ns = wall_ns % CLOCK_NS_PER_S;
    if (ns < 0) {
        s--;
        ns += CLOCK_NS_PER_S;
    }
    const time_t when = (time_t)s;
    struct tm t;
    if (gmtime_r(&when, &t) == NULL || t.tm_year + 1900 < 0 || t.tm_year + 1900 > 9999) {
        memcpy(out, s < 0 ? "0000-01-01T00:00:00.000Z" : "9999-12-31T23:59:59.999Z", CLOCK_TEXT_BYTES);
        return;
    }
    char text[64]; /* room for what the compiler must assume of the fields */
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    text[19] = 0; /* the year has four digits, so this changes nothing */
    snprintf(out, CLOCK_TEXT_BYTES, "%.19s.%03dZ", text, (int)(ns / CLOCK_NS_PER_MS));
}

static int64_t fake_mono_ns(void *arg)
{
    return ((const struct clock_fake *)arg)->mono_ns;
}

static int64_t fake_wall_ns(void *arg)
{
    return ((const struct clock_fake *)arg)->wall_ns;
}

static void fake_sleep_ns(void *arg, int64_t ns)
{
    clock_fake_advance(arg, ns);
}

struct clock clock_fake(struct clock_fake *fake)
{
    return (struct clock){fake_mono_ns, fake_wall_ns, fake_sleep_ns, fake};
}

void clock_fake_advance(struct clock_fake *fake, int64_t ns)
{
    assert(ns >= 0);
    fake->mono_ns += ns;
    fake->wall_ns += ns;
}
