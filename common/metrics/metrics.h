/* Counters, gauges and histograms, shown as one page in the Prometheus text format 0.0.4.
 *
 * A metric is registered once, at start, and updated from any thread without locks or allocation.
 * Names are completed to dagline_<service>_<name>; `name` ends in its unit ("_seconds", "_bytes",
 * "_ratio"), counters in "_total".  Labels are few and fixed: never an id, a prompt or an address.
 *
 * Threads: everything may be called from any thread; metrics_free only after all others are done.
 *
 *     struct metrics *m = metrics_new("scorer");
 *     struct metric *calls = metrics_counter(m, "calls_total", "reward calls", METRICS_LABEL("backend", "judge"));
 *     metrics_add(calls, 1); */
#ifndef DAGLINE_METRICS_METRICS_H
#define DAGLINE_METRICS_METRICS_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

#define METRICS_SERIES_MAX 512
#define METRICS_BUCKETS_MAX 32
#define METRICS_PAGE_BYTES_MAX (1 << 20)
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics; /* the registry */
struct metric;  /* one series; owned by its registry */

/* Up to two labels; a NULL name ends them.  Copied. */
struct metrics_labels {
    const char *name[2], *value[2];
};
#define METRICS_NO_LABELS ((struct metrics_labels){{0}, {0}})
#define METRICS_LABEL(n, v) ((struct metrics_labels){{(n)}, {(v)}})
#define METRICS_LABELS2(n0, v0, n1, v1) ((struct metrics_labels){{(n0), (n1)}, {(v0), (v1)}})

struct metrics *metrics_new(const char *service) MUST_USE;
void metrics_free(struct metrics *m);

/* The series of this name and these labels; asked for again, the same one.  A name that Prometheus
 * would refuse, one name with two types, or more than METRICS_SERIES_MAX series are bugs and assert. */
struct metric *metrics_counter(struct metrics *m, const char *name, const char *help, struct metrics_labels labels);
struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help, struct metrics_labels labels);

/* bounds: [count] rising upper bounds, the last bucket (+Inf) is added; copied. */
struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help, struct metrics_labels labels,
                                 const double *bounds, size_t count);

/* 1 ms .. 60 s in steps of about 2: for metrics_histogram of latencies in seconds. */
extern const double metrics_seconds[];
extern const size_t metrics_seconds_count;

/* Counter += by; by must be finite and >= 0. */
void metrics_add(struct metric *counter, double by);
/* Gauge = value (NaN and infinity are allowed and shown as such); gauge += by. */
void metrics_set(struct metric *gauge, double value);
void metrics_shift(struct metric *gauge, double by);
/* One observation of a histogram; NaN counts in +Inf and leaves the sum alone. */
void metrics_observe(struct metric *histogram, double value);

/* The value of a counter or gauge; the number of observations of a histogram. */
double metrics_value(const struct metric *s);

/* The page, families in order of registration, then process_* of this process. */
void metrics_print(struct metrics *m, struct buf *out);

#endif
