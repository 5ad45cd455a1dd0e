#include "run/monitor.h"

#include "base/clock.h"
#include "base/mem.h"
#include "io/httpd.h"

#include <stdatomic.h>
#include <string.h>

#define DRAIN_MS 1000

struct monitor {
    struct metrics *metrics;
    struct httpd *httpd;
    int64_t alive_ms;
    atomic_int_fast64_t heard_ms; /* read by HTTP threads */
};

static void on_http(void *arg, const struct httpd_request *q, struct httpd_reply *r)
{
    struct monitor *m = arg;
    if (strcmp(q->path, "/healthz") == 0) {
        const bool alive = clock_mono_ms(NULL) - atomic_load(&m->heard_ms) < m->alive_ms;
        r->status = alive ? 200 : 503;
        buf_format(&r->body, "%s\n", alive ? "ok" : "the main loop hangs");
    } else if (strcmp(q->path, "/metrics") == 0) {
        r->content_type = METRICS_CONTENT_TYPE;
        metrics_print(m->metrics, &r->body);
    } else {
        r->status = 404;
    }
}

int monitor_open(struct monitor **out, const char *service, const char *listen, int64_t alive_ms, struct err *e)
{
    struct monitor *m = mem_new(1, sizeof *m);
    m->metrics = metrics_new(service);
    m->alive_ms = alive_ms;
    atomic_init(&m->heard_ms, clock_mono_ms(NULL));
    const struct httpd_options http = {.listen = listen, .connections_each = HTTPD_PAGE_CONNECTIONS_EACH};
    if (listen[0] != 0 && httpd_start(&m->httpd, &http, on_http, m, e) < 0) {
        monitor_close(m);
        return -1;
    }
    *out = m;
    return 0;
}

void monitor_close(struct monitor *m)
{
    if (m == NULL)
        return;
    httpd_stop(m->httpd, DRAIN_MS);
    metrics_free(m->metrics);
    mem_free(m);
}

struct metrics *monitor_metrics(struct monitor *m)
{
    return m->metrics;
}

void monitor_alive(struct monitor *m)
{
    atomic_store(&m->heard_ms, clock_mono_ms(NULL));
}
