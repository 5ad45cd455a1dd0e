#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line goes out in one write of at most PIPE_BUF bytes, which a pipe takes whole or not at all. */
#define LINE_BYTES_MAX 4096
#define PATIENCE_MS 100
#define EVENTS_MAX 64 /* that are counted; those beyond are not bounded */
#define WINDOW_MS 60000

/* Warnings and errors of one name in the window that began at from_ms. */
struct events {
    const char *name;
    int64_t from_ms;
    uint64_t count, left_out;
};

/* The log sink: the one piece of state that the whole process shares. */
static struct {
    pthread_mutex_t lock; /* guards every field */
    const char *service;
    enum log_level level;
    bool json, colour;
    bool stuck; /* the reader of stderr has stopped reading: do not wait for it again */
    uint64_t dropped;
    struct events events[EVENTS_MAX];
    int64_t window_ms;
    void (*sink)(const char *line, void *arg);
    void *sink_arg;
} the_log = {.lock = PTHREAD_MUTEX_INITIALIZER, .service = "dagline", .level = LOG_INFO, .json = true,
             .window_ms = WINDOW_MS};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_format(enum log_format format)
{
    const char *no_colour = getenv("NO_COLOR");
    const bool terminal = isatty(STDERR_FILENO) == 1;
    the_log.json = format == LOG_JSON || (format == LOG_AUTO && !terminal);
    the_log.colour = !the_log.json && terminal && (no_colour == NULL || no_colour[0] == 0);
}

static void set_defaults(void)
{
    set_format(LOG_AUTO);
}

void log_open(const char *service, enum log_level level, enum log_format format)
{
    pthread_once(&once, set_defaults);
    pthread_mutex_lock(&the_log.lock);
    the_log.service = service;
    the_log.level = level;
    set_format(format);
    pthread_mutex_unlock(&the_log.lock);
}

void log_window(int64_t ms)
{
    pthread_mutex_lock(&the_log.lock);
    the_log.window_ms = ms;
    pthread_mutex_unlock(&the_log.lock);
}

void log_sink(void (*sink)(const char *line, void *arg), void *arg)
{
    pthread_mutex_lock(&the_log.lock);
    the_log.sink = sink;
    the_log.sink_arg = arg;
    pthread_mutex_unlock(&the_log.lock);
}

/* ---- building a line ---------------------------------------------------------------------------- */

struct line {
    char text[LINE_BYTES_MAX];
    size_t used; /* room for the closing "}" and newline is kept: see add */
};

static void add(struct line *l, const char *text, size_t bytes)
{
    if (bytes > sizeof l->text - 8 - l->used)
        return; /* whole pieces only, so that an escape is never cut */
    memcpy(l->text + l->used, text, bytes);
    l->used += bytes;
}

static void add_text(struct line *l, const char *text)
{
    add(l, text, strlen(text));
}

/* The value in quotes; JSON's escapes serve both formats. */
static void add_quoted(struct line *l, const char *value)
{
    const size_t bytes = strlen(value);
    const size_t keep = bytes <= LOG_VALUE_BYTES_MAX ? bytes : LOG_VALUE_BYTES_MAX;
    add_text(l, "\"");
    for (size_t i = 0; i < keep;) {
        uint32_t c = 0;
        char escape[16];
        const size_t n = utf8_next(value + i, bytes - i, &c);
        if (n == 0) {
            snprintf(escape, sizeof escape, "\\\\x%02x", (unsigned char)value[i]);
            add_text(l, escape);
        } else if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            add(l, escape, 2);
        } else if (c == '\n' || c == '\t') {
            add_text(l, c == '\n' ? "\\n" : "\\t");
        } else if (utf8_is_control(c)) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
            add_text(l, escape);
        } else {
            add(l, value + i, n);
        }
        i += n == 0 ? 1 : n;
    }
    if (keep < bytes)
        add_text(l, "...");
    add_text(l, "\"");
}

static bool is_plain(const char *value)
{
    if (value[0] == 0 || strlen(value) > LOG_VALUE_BYTES_MAX)
        return false;
    for (const char *p = value; *p != 0; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '=')
            return false;
    return true;
}

static void add_pair(struct line *l, bool json, const char *key, size_t key_bytes, const char *value, bool number)
{
    add_text(l, json ? ",\"" : " ");
    add(l, key, key_bytes);
    add_text(l, json ? "\":" : "=");
    if (json ? number : is_plain(value))
        add_text(l, value);
    else
        add_quoted(l, value);
}

/* ---- the pairs of a format ---------------------------------------------------------------------- */

#define SPEC_BYTES_MAX 32

/* Renders one conversion of fmt (from its '%'), taking its argument from ap; *number tells whether
 * the text is a JSON number.  Returns the conversion's length.  The formats are literals that the
 * compiler has checked, so anything else is a mistake in this program. */
static size_t format_value(const char *fmt, va_list *ap, char *out, size_t out_bytes, bool *number)
{
    char spec[SPEC_BYTES_MAX];
    size_t n = 1;
    int star[2] = {0, 0}, stars = 0, longs = 0;
    char size = 0;
    n += strspn(fmt + n, "-+ #0123456789.*");
    assert(n < SPEC_BYTES_MAX - 8);
    for (size_t i = 1; i < n; i++)
        if (fmt[i] == '*') {
            assert(stars < 2);
            star[stars++] = va_arg(*ap, int);
        }
    for (; fmt[n] != 0 && strchr("hlzjt", fmt[n]) != NULL; n++) {
        longs += fmt[n] == 'l';
        size = fmt[n];
    }
    const char conversion = fmt[n++];
    assert(n < SPEC_BYTES_MAX);
    memcpy(spec, fmt, n);
    spec[n] = 0;
    *number = strchr("diufFeEgG", conversion) != NULL;

/* The stars of the specification first, then the value. */
#define RENDER(value)                                                                              \
    (stars == 0   ? snprintf(out, out_bytes, spec, (value))                                        \
     : stars == 1 ? snprintf(out, out_bytes, spec, star[0], (value))                               \
                  : snprintf(out, out_bytes, spec, star[0], star[1], (value)))
/* spec is a piece of the caller's literal, which the compiler has checked there. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    switch (conversion) {
    case 'd':
    case 'i':
        if (longs == 1 || size == 'z' || size == 't')
            RENDER(va_arg(*ap, long));
        else if (longs == 2 || size == 'j')
            RENDER(va_arg(*ap, long long));
        else
            RENDER(va_arg(*ap, int));
        break;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
    case 'c':
        if (longs == 1 || size == 'z' || size == 't')
            RENDER(va_arg(*ap, unsigned long));
        else if (longs == 2 || size == 'j')
            RENDER(va_arg(*ap, unsigned long long));
        else
            RENDER(va_arg(*ap, unsigned));
        break;
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
    case 'a': {
        const double value = va_arg(*ap, double);
        *number = *number && isfinite(value);
        RENDER(value);
        break;
    }
    case 's': {
        const char *value = va_arg(*ap, const char *);
        RENDER(value != NULL ? value : "(null)");
        break;
    }
    case 'p':
        RENDER(va_arg(*ap, void *));
        break;
    default:
        assert(0 && "a conversion that the log does not know");
    }
#pragma GCC diagnostic pop
#undef RENDER
    return n;
}

/* Whether the line is one too many of its event; *left_out: how many were since the last one that was not.  Under the lock. */
static bool too_many(const char *event, uint64_t *left_out)
{
    const int64_t now = clock_mono_ms(NULL);
    *left_out = 0;
    for (struct events *w = the_log.events; w < the_log.events + EVENTS_MAX; w++) {
        if (w->name == NULL)
            *w = (struct events){.name = event, .from_ms = now};
        if (strcmp(w->name, event) != 0)
            continue;
        if (now - w->from_ms >= the_log.window_ms) {
            *left_out = w->left_out;
            *w = (struct events){.name = event, .from_ms = now};
        }
        w->left_out += w->count >= LOG_ALIKE_MAX;
        return w->count++ >= LOG_ALIKE_MAX;
    }
    return false;
}

static void add_count(struct line *l, const char *key, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    if (value > 0)
        add_pair(l, the_log.json, key, strlen(key), text, true);
}

/* `key=value key=value` of fmt onto the line. */
static void add_pairs(struct line *l, bool json, const char *fmt, va_list *ap)
{
    char value[LOG_VALUE_BYTES_MAX + 8]; /* longer ones are seen to be longer, and cut */
    while (*(fmt += strspn(fmt, " ")) != 0) {
        const char *key = fmt;
        const size_t key_bytes = strcspn(fmt, "=");
        fmt += key_bytes;
        assert(*fmt == '='); /* the contract of log_event */
        fmt++;
        bool number = false;
        if (*fmt == '%' && fmt[1] != '%') {
            fmt += format_value(fmt, ap, value, sizeof value, &number);
            /* a unit after the conversion belongs to the value and makes it text */
            const size_t rest = strcspn(fmt, " ");
            if (rest > 0) {
                const size_t used = strlen(value);
                snprintf(value + used, sizeof value - used, "%.*s", (int)rest, fmt);
                number = false;
            }
            fmt += rest;
        } else {
            const size_t n = strcspn(fmt, " ");
            snprintf(value, sizeof value, "%.*s", (int)n, fmt);
            fmt += n;
        }
        /* JSON has no leading plus and no spaces of a width */
        number = number && value[0] != '+' && value[0] != ' ' && value[strlen(value) - 1] != ' ' &&
                 !(value[0] == '0' && value[1] >= '0' && value[1] <= '9');
        add_pair(l, json, key, key_bytes, value, number);
    }
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* One write; a reader that has stopped costs PATIENCE_MS once, then lines are counted and dropped
 * until it reads again.  A log must never hold a service up.  Called under the lock. */
static void put_line(struct line *l)
{
    l->text[l->used] = '\n';
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    int ready;
    do
        ready = poll(&p, 1, the_log.stuck ? 0 : PATIENCE_MS);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0 || (p.revents & POLLOUT) == 0) {
        the_log.stuck = true;
        the_log.dropped++;
        return;
    }
    ssize_t n;
    do
        n = write(STDERR_FILENO, l->text, l->used + 1);
    while (n < 0 && errno == EINTR);
    the_log.stuck = n < 0;
    the_log.dropped += n < 0;
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    return names[level];
}

static void begin_line(struct line *l, enum log_level level, const char *event)
{
    static const char *const colours[] = {"\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m"};
    char time[CLOCK_TEXT_BYTES], head[256];
    clock_format(clock_wall_ns(NULL), time);
    l->used = 0;
    if (the_log.json)
        snprintf(head, sizeof head, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":\"%s\",\"event\":\"%s\"", time, level_name(level),
                 the_log.service, event);
    else
        snprintf(head, sizeof head, "%.12s %s%-5s%s %s %s", time + 11, the_log.colour ? colours[level] : "",
                 level_name(level), the_log.colour ? "\x1b[0m" : "", the_log.service, event);
    add_text(l, head);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    pthread_once(&once, set_defaults);
    pthread_mutex_lock(&the_log.lock);
    uint64_t left_out = 0;
    if (level <= the_log.level && !(level <= LOG_WARN && too_many(event, &left_out))) {
        struct line l;
        va_list ap;
        begin_line(&l, level, event);
        va_start(ap, fmt);
        add_pairs(&l, the_log.json, fmt, &ap);
        va_end(ap);
        add_count(&l, "alike_left_out", left_out);
        add_count(&l, "log_lines_dropped", the_log.dropped);
        if (the_log.json)
            l.text[l.used++] = '}'; /* add() keeps room for this */
        if (the_log.sink != NULL) {
            l.text[l.used] = 0;
            the_log.sink(l.text, the_log.sink_arg);
        } else {
            const uint64_t before = the_log.dropped;
            put_line(&l);
            if (the_log.dropped == before)
                the_log.dropped = 0; /* told */
        }
    }
    pthread_mutex_unlock(&the_log.lock);
}

void log_err(const char *event, const struct err *e)
{
    log_event(LOG_ERROR, event, "code=%s error=%s", err_name(e->code), e->text);
}
