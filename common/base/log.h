/* One line per event on stderr: time, level, service, event, key=value pairs.  Human-readable on a
 * terminal, one JSON object per line otherwise (or as log_open is told).  Foreign text is escaped and
 * cut at LOG_VALUE_BYTES_MAX; never log prompts, keys or tokens.  Never log in a hot loop.
 * Thread rule: every function may be called from any thread once log_open has run. */
#ifndef DAGLINE_BASE_LOG_H
#define DAGLINE_BASE_LOG_H

#include "base/err.h"

#include <stdint.h>

#define LOG_VALUE_BYTES_MAX 256
#define LOG_ALIKE_MAX 60

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_AUTO, LOG_HUMAN, LOG_JSON };

/* `service` is kept by pointer (a literal).  Without this call: service "dagline", info, auto. */
void log_open(const char *service, enum log_level level, enum log_format format);

/* event: a stable lower_snake name.  fmt: logfmt pairs "key=%d other=%s"; every value in fmt is a
 * single conversion, keys are [a-z0-9_]+.  A string value may hold spaces: it is quoted on output.
 * Of the warnings and errors of one event LOG_ALIKE_MAX a minute are told; the next minute's first says how many were left out.
 * Its name is kept by pointer (a literal).
 * Example: log_event(LOG_INFO, "policy_applied", "version=%llu digest=%s", v, hex); */
void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* log_event(LOG_ERROR, event, "code=... error=...") for an err. */
void log_err(const char *event, const struct err *e);

/* Test hook: how long the minute of LOG_ALIKE_MAX is. */
void log_window(int64_t ms);

/* Test hook: lines (without newline) go to sink instead of stderr; NULL restores.  The sink is called
 * under the log's lock: it must not log. */
void log_sink(void (*sink)(const char *line, void *arg), void *arg);

#endif
