#include "store/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/httpd.h"
#include "metrics/metrics.h"
#include "store/store.h"
#include "wire/loop.h"
#include "wire/wire.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define TICK_MS 1000
#define REQUESTS_A_ROUND 64
/* A first read of a blob hashes it whole, which takes a while for one of gigabytes. */
#define ALIVE_MS 60000

CONFIG_TABLE(store_table, "store", "the checkpoint store", store_params, STORE_PARAMS);

struct server {
    struct store *store;
    struct loop *loop;
    struct wire *rpc, *news;
    struct httpd *httpd;
    struct metrics *metrics;
    struct metric *requests, *errors, *bytes_in, *bytes_out, *policy, *checkpoint, *services,
        *dropped;
    struct store_figures shown;
    uint64_t shown_dropped;
    atomic_int_fast64_t alive_ms; /* read by HTTP threads */
};

static void send_news(struct server *s)
{
    for (struct message *m; (m = store_news(s->store)) != NULL;) {
        struct err e;
        if (wire_send(s->news, &m, &e) < 0) {
            log_err("news_lost", &e); /* announced again by the timer */
            message_free(m);
        }
    }
}

static int on_request(void *arg, struct err *e)
{
    struct server *s = arg;
    for (int i = 0; i < REQUESTS_A_ROUND; i++) {
        struct message *m;
        struct err why;
        if (wire_recv(s->rpc, &m, 0, &why) < 0) {
            if (why.code == ERR_TIMEOUT)
                break;
            return err_set(e, why.code, "%s", why.text);
        }
        struct message *reply = store_answer(s->store, m);
        if (wire_send(s->rpc, &reply, &why) < 0) {
            /* The peer is gone or does not read: it asks again when it is back. */
            log_event(LOG_DEBUG, "reply_lost", "to=%s error=%s", m->sender, why.text);
            message_free(reply);
        }
        message_free(m);
    }
    send_news(s);
    return 0;
}

static int on_subscription(void *arg, struct err *e)
{
    struct server *s = arg;
    (void)e;
    if (wire_subscriptions(s->news) > 0) {
        store_announce(s->store);
        send_news(s);
    }
    return 0;
}

static int on_announce(void *arg, struct err *e)
{
    struct server *s = arg;
    (void)e;
    store_announce(s->store);
    send_news(s);
    return 0;
}

static int on_tick(void *arg, struct err *e)
{
    struct server *s = arg;
    const struct store_figures f = store_figures(s->store);
    const struct wire_stats w = wire_stats(s->rpc);
    const uint64_t dropped =
        w.dropped_malformed + w.dropped_crc + w.dropped_version + w.dropped_kind + w.dropped_banned;
    (void)e;
    atomic_store(&s->alive_ms, clock_mono_ms(NULL));
    metrics_add(s->requests, (double)(f.requests - s->shown.requests));
    metrics_add(s->errors, (double)(f.errors - s->shown.errors));
    metrics_add(s->bytes_in, (double)(f.bytes_in - s->shown.bytes_in));
    metrics_add(s->bytes_out, (double)(f.bytes_out - s->shown.bytes_out));
    metrics_add(s->dropped, (double)(dropped - s->shown_dropped));
    metrics_set(s->policy, (double)f.policy_version);
    metrics_set(s->checkpoint, (double)f.checkpoint_step);
    metrics_set(s->services, (double)f.services);
    s->shown = f;
    s->shown_dropped = dropped;
    return 0;
}

/* Runs on HTTP threads: only atomics and the metrics registry are touched. */
static void on_http(void *arg, const struct httpd_request *q, struct httpd_reply *r)
{
    struct server *s = arg;
    if (strcmp(q->path, "/healthz") == 0) {
        const int64_t silent_ms = clock_mono_ms(NULL) - atomic_load(&s->alive_ms);
        r->status = silent_ms < ALIVE_MS ? 200 : 503;
        buf_format(&r->body, "%s\n", silent_ms < ALIVE_MS ? "ok" : "the main loop hangs");
    } else if (strcmp(q->path, "/metrics") == 0) {
        r->content_type = METRICS_CONTENT_TYPE;
        metrics_print(s->metrics, &r->body);
    } else {
        r->status = 404;
    }
}

static void open_metrics(struct server *s)
{
    struct metrics *m = s->metrics = metrics_new("store");
    s->requests = metrics_counter(m, "requests_total", "requests answered", METRICS_NO_LABELS);
    s->errors = metrics_counter(m, "errors_total", "requests refused", METRICS_NO_LABELS);
    s->bytes_in =
        metrics_counter(m, "received_bytes_total", "blob bytes uploaded", METRICS_NO_LABELS);
    s->bytes_out = metrics_counter(m, "served_bytes_total", "blob bytes served", METRICS_NO_LABELS);
    s->dropped =
        metrics_counter(m, "dropped_total", "messages that broke a rule", METRICS_NO_LABELS);
    s->policy = metrics_gauge(m, "policy_version", "newest policy", METRICS_NO_LABELS);
    s->checkpoint = metrics_gauge(m, "checkpoint_step", "newest checkpoint", METRICS_NO_LABELS);
    s->services = metrics_gauge(m, "services", "services heard of lately", METRICS_NO_LABELS);
}

static int open_sockets(struct server *s, struct wire_net *net, const struct net_params *np,
                        const struct store_params *p, struct err *e)
{
    if (wire_open(&s->rpc, net, WIRE_STORE_RPC, np->store, e) < 0 ||
        wire_open(&s->news, net, WIRE_STORE_NEWS, np->news, e) < 0 ||
        loop_add_wire(s->loop, s->rpc, on_request, s, e) < 0 ||
        loop_add_wire(s->loop, s->news, on_subscription, s, e) < 0 ||
        loop_add_timer(s->loop, TICK_MS, on_tick, s, NULL, e) < 0 ||
        loop_add_timer(s->loop, (uint32_t)p->announce_ms, on_announce, s, NULL, e) < 0)
        return -1;
    const struct httpd_options http = {.listen = p->listen, .connections_each = HTTPD_PAGE_CONNECTIONS_EACH};
    return p->listen[0] == 0 ? 0 : httpd_start(&s->httpd, &http, on_http, s, e);
}

int serve(const struct store_params *p, const struct net_params *np, const struct run_params *run,
          const char *settings, struct err *e)
{
    struct server *s = mem_new(1, sizeof *s);
    struct wire_net *net = NULL;
    const struct wire_net_options options = net_options(np, PARTY_STORE, "store");
    const struct store_options store = {.data = p->data,
                                        .model = p->model,
                                        .prompts = p->prompts,
                                        .prompts_column = p->prompts_column,
                                        .run = run,
                                        .settings = settings,
                                        .keep_checkpoints = (size_t)p->keep_checkpoints,
                                        .keep_policies = (size_t)p->keep_policies};
    int rc = -1;
    atomic_init(&s->alive_ms, clock_mono_ms(NULL));
    open_metrics(s);
    if (loop_open(&s->loop, e) < 0 || store_open(&s->store, &store, e) < 0 ||
        wire_net_open(&net, &options, e) < 0)
        goto out;
    wire_net_run(net, store_run(s->store)->run_id);
    if (open_sockets(s, net, np, p, e) < 0)
        goto out;
    log_event(LOG_INFO, "ready", "store=%s news=%s run=%s bytes_bound=%llu", wire_endpoint(s->rpc),
              wire_endpoint(s->news), store_run(s->store)->run_id,
              (unsigned long long)(wire_bytes_bound(s->rpc, (uint32_t)p->peers) +
                                   wire_bytes_bound(s->news, (uint32_t)p->peers)));
    rc = loop_run(s->loop, e);
    if (rc == 0)
        rc = on_request(s, e);
out:
    httpd_stop(s->httpd, 1000);
    wire_close(s->news);
    wire_close(s->rpc);
    wire_net_close(net);
    store_close(s->store);
    loop_close(s->loop);
    metrics_free(s->metrics);
    mem_free(s);
    return rc;
}
