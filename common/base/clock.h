/* Time, passed as a value so that a scenario can put its own clock in place of the system's.
 *
 * Timeouts, leases and rates use the monotonic clock alone; wall time is for display and file names.
 * Every function takes NULL for the system clock.  Units are in the names; nothing here fails.
 * Threads: the system clock may be used from any thread; a fake clock belongs to one thread.
 *
 *     struct clock_fake fake = {.mono_ns = 0, .wall_ns = 1700000000000000000};
 *     const struct clock c = clock_fake(&fake);
 *     clock_sleep_ns(&c, 5 * CLOCK_NS_PER_MS);        // returns at once, fake.mono_ns is 5000000 */
#ifndef DAGLINE_BASE_CLOCK_H
#define DAGLINE_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_US INT64_C(1000)
#define CLOCK_NS_PER_MS INT64_C(1000000)
#define CLOCK_NS_PER_S INT64_C(1000000000)
#define CLOCK_TEXT_BYTES 25 /* "2026-01-31T23:59:59.999Z" and its NUL */

struct clock {
    int64_t (*mono_ns)(void *arg);
    int64_t (*wall_ns)(void *arg);
    void (*sleep_ns)(void *arg, int64_t ns);
    void *arg;
};

extern const struct clock clock_system;

/* Nanoseconds since an arbitrary start; never goes back. */
int64_t clock_mono_ns(const struct clock *c);
int64_t clock_mono_ms(const struct clock *c);
double clock_mono_s(const struct clock *c);

/* Nanoseconds since 1970-01-01 UTC; may jump either way. */
int64_t clock_wall_ns(const struct clock *c);

/* Sleeps at least ns (signals do not shorten it); 0 or less returns at once. */
void clock_sleep_ns(const struct clock *c, int64_t ns);

/* RFC 3339 in UTC with milliseconds.  Years outside 0..9999 are clipped. */
void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_BYTES]);

/* A clock that stands still until it is told; sleeping advances both of its times. */
struct clock_fake {
    int64_t mono_ns;
    int64_t wall_ns;
};
struct clock clock_fake(struct clock_fake *fake);
void clock_fake_advance(struct clock_fake *fake, int64_t ns);

#endif
