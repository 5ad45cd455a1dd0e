#include "metrics/metrics.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum type { COUNTER, GAUGE, HISTOGRAM };

/* A double that is updated as its bits: 0.0 is all zero bits, so zeroed memory is a zero. */
typedef _Atomic uint64_t cell;

struct metric {
    enum type type;
    char *name, *help, *labels; /* labels: `a="x",b="y"`, escaped; "" for none */
    cell value;                 /* the sum, for a histogram */
    double bounds[METRICS_BUCKETS_MAX];
    size_t bounds_count;
    _Atomic uint64_t counts[METRICS_BUCKETS_MAX + 1]; /* per bucket, the last is +Inf */
};

struct metrics {
    char *prefix;
    int64_t started_ns;
    pthread_mutex_t lock; /* guards series and count, not the values */
    struct metric *series[METRICS_SERIES_MAX];
    size_t count;
};

const double metrics_seconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0};
const size_t metrics_seconds_count = sizeof metrics_seconds / sizeof *metrics_seconds;

/* ---- cells -------------------------------------------------------------------------------------- */

static double from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint64_t to_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static void cell_add(cell *c, double by)
{
    uint64_t before = atomic_load_explicit(c, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(c, &before, to_bits(from_bits(before) + by), memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

static double cell_get(const cell *c)
{
    return from_bits(atomic_load_explicit(c, memory_order_relaxed));
}

/* ---- registration -------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    if (name[0] == 0 || (name[0] >= '0' && name[0] <= '9'))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

struct metrics *metrics_new(const char *service)
{
    assert(is_name(service));
    struct metrics *m = mem_new(1, sizeof *m);
    struct buf prefix;
    buf_init(&prefix, 256);
    buf_format(&prefix, "dagline_%s_", service);
    m->prefix = buf_take(&prefix, NULL);
    m->started_ns = clock_wall_ns(NULL);
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->count; i++) {
        mem_free(m->series[i]->name);
        mem_free(m->series[i]->help);
        mem_free(m->series[i]->labels);
        mem_free(m->series[i]);
    }
    pthread_mutex_destroy(&m->lock);
    mem_free(m->prefix);
    mem_free(m);
}

static void add_escaped(struct buf *b, const char *text, bool quotes)
{
    for (const char *p = text; *p != 0; p++) {
        if (*p == '\n')
            buf_add_text(b, "\\n");
        else if (*p == '\\' || (quotes && *p == '"'))
            buf_format(b, "\\%c", *p);
        else
            buf_add_byte(b, *p);
    }
}

static char *label_text(struct metrics_labels labels)
{
    struct buf b;
    buf_init(&b, 1024);
    for (size_t i = 0; i < 2 && labels.name[i] != NULL; i++) {
        assert(is_name(labels.name[i]) && labels.value[i] != NULL);
        buf_format(&b, "%s%s=\"", i > 0 ? "," : "", labels.name[i]);
        add_escaped(&b, labels.value[i], true);
        buf_add_byte(&b, '"');
    }
    assert(!b.overflowed);
    return buf_take(&b, NULL);
}

static struct metric *series(struct metrics *m, enum type type, const char *name, const char *help,
                             struct metrics_labels labels, const double *bounds, size_t bounds_count)
{
    assert(is_name(name) && bounds_count <= METRICS_BUCKETS_MAX);
    char *text = label_text(labels);
    pthread_mutex_lock(&m->lock);
    struct metric *s = NULL;
    for (size_t i = 0; i < m->count && s == NULL; i++)
        if (strcmp(m->series[i]->name, name) == 0) {
            assert(m->series[i]->type == type);
            if (strcmp(m->series[i]->labels, text) == 0)
                s = m->series[i];
        }
    if (s == NULL) {
        assert(m->count < METRICS_SERIES_MAX);
        s = mem_new(1, sizeof *s);
        s->type = type;
        s->name = mem_strdup(name);
        s->help = mem_strdup(help);
        s->labels = text;
        text = NULL;
        s->bounds_count = bounds_count;
        for (size_t i = 0; i < bounds_count; i++) {
            assert(isfinite(bounds[i]) && (i == 0 || bounds[i] > bounds[i - 1]));
            s->bounds[i] = bounds[i];
        }
        m->series[m->count++] = s;
    }
    pthread_mutex_unlock(&m->lock);
    mem_free(text);
    return s;
}

struct metric *metrics_counter(struct metrics *m, const char *name, const char *help, struct metrics_labels labels)
{
    return series(m, COUNTER, name, help, labels, NULL, 0);
}

struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help, struct metrics_labels labels)
{
    return series(m, GAUGE, name, help, labels, NULL, 0);
}

struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help, struct metrics_labels labels,
                                 const double *bounds, size_t count)
{
    return series(m, HISTOGRAM, name, help, labels, bounds, count);
}

/* ---- updates ------------------------------------------------------------------------------------- */

void metrics_add(struct metric *counter, double by)
{
    assert(counter->type == COUNTER && by >= 0.0 && isfinite(by));
    cell_add(&counter->value, by);
}

void metrics_set(struct metric *gauge, double value)
{
    assert(gauge->type == GAUGE);
    atomic_store_explicit(&gauge->value, to_bits(value), memory_order_relaxed);
}

void metrics_shift(struct metric *gauge, double by)
{
    assert(gauge->type == GAUGE);
    cell_add(&gauge->value, by);
}

void metrics_observe(struct metric *h, double value)
{
    assert(h->type == HISTOGRAM);
    size_t bucket = 0;
    while (bucket < h->bounds_count && !(value <= h->bounds[bucket]))
        bucket++;
    atomic_fetch_add_explicit(&h->counts[bucket], 1, memory_order_relaxed);
    if (!isnan(value))
        cell_add(&h->value, value);
}

static uint64_t observations(const struct metric *h)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= h->bounds_count; i++)
        count += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
    return count;
}

double metrics_value(const struct metric *s)
{
    return s->type == HISTOGRAM ? (double)observations(s) : cell_get(&s->value);
}

/* ---- the page ------------------------------------------------------------------------------------ */

static void add_number(struct buf *out, double v)
{
    if (isnan(v)) {
        buf_add_text(out, "NaN");
    } else if (isinf(v)) {
        buf_add_text(out, v > 0 ? "+Inf" : "-Inf");
    } else {
        char text[40];
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
        buf_add_text(out, text);
    }
}

/* name_suffix{labels,extra} value */
static void add_sample(struct buf *out, const char *prefix, const struct metric *s, const char *suffix, const char *extra,
                       double value)
{
    const bool both = s->labels[0] != 0 && extra[0] != 0, any = s->labels[0] != 0 || extra[0] != 0;
    buf_format(out, "%s%s%s%s%s%s%s%s ", prefix, s->name, suffix, any ? "{" : "", s->labels, both ? "," : "", extra,
               any ? "}" : "");
    add_number(out, value);
    buf_add_byte(out, '\n');
}

static void add_histogram(struct buf *out, const char *prefix, const struct metric *s)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= s->bounds_count; i++) {
        struct buf bound;
        buf_init(&bound, 64);
        buf_add_text(&bound, "le=\"");
        add_number(&bound, i < s->bounds_count ? s->bounds[i] : (double)INFINITY);
        buf_add_byte(&bound, '"');
        count += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        add_sample(out, prefix, s, "_bucket", buf_text(&bound), (double)count);
        buf_done(&bound);
    }
    add_sample(out, prefix, s, "_sum", "", cell_get(&s->value));
    add_sample(out, prefix, s, "_count", "", (double)count); /* the +Inf bucket, as one reading */
}

static void add_process(struct buf *out, const struct metrics *m)
{
    struct timespec cpu = {0};
    unsigned long long pages = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%*u %llu", &pages) != 1)
            pages = 0;
        fclose(f);
    }
    buf_format(out,
               "# HELP process_cpu_seconds_total User and system time of this process.\n"
               "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.3f\n"
               "# HELP process_resident_memory_bytes Memory of this process.\n"
               "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %llu\n"
               "# HELP process_start_time_seconds When this process started.\n"
               "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n",
               (double)cpu.tv_sec + 1e-9 * (double)cpu.tv_nsec, pages * (unsigned long long)sysconf(_SC_PAGESIZE),
               1e-9 * (double)m->started_ns);
}

void metrics_print(struct metrics *m, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    bool shown[METRICS_SERIES_MAX] = {false};
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        const struct metric *first = m->series[i];
        if (shown[i])
            continue;
        buf_format(out, "# HELP %s%s ", m->prefix, first->name);
        add_escaped(out, first->help, false);
        buf_format(out, "\n# TYPE %s%s %s\n", m->prefix, first->name, types[first->type]);
        for (size_t k = i; k < m->count; k++) {
            const struct metric *s = m->series[k];
            if (strcmp(s->name, first->name) != 0)
                continue;
            shown[k] = true;
            if (s->type == HISTOGRAM)
                add_histogram(out, m->prefix, s);
            else
                add_sample(out, m->prefix, s, "", "", cell_get(&s->value));
        }
    }
    pthread_mutex_unlock(&m->lock);
    add_process(out, m);
}
