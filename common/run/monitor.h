/* /healthz and /metrics of a service.  Healthy while the main thread has said so lately: a hung loop answers 503, even
 * though this server's own thread still runs.
 * Threads: monitor_alive from the main thread; metrics from any. */
#ifndef DAGLINE_RUN_MONITOR_H
#define DAGLINE_RUN_MONITOR_H

#include "base/err.h"
#include "metrics/metrics.h"

#include <stdint.h>

struct monitor;

/* listen: "127.0.0.1:7712"; "" opens no port, and metrics are only counted.  alive_ms: silence after which the
 * service counts as hung.  `service` is the middle part of every metric's name. */
int monitor_open(struct monitor **out, const char *service, const char *listen, int64_t alive_ms,
                 struct err *e) MUST_USE;
void monitor_close(struct monitor *m); /* accepts NULL */

struct metrics *monitor_metrics(struct monitor *m);
void monitor_alive(struct monitor *m);

#endif
