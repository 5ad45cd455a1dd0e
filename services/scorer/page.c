#include "scorer/page.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/httpd.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct letter {
    uint8_t id[TRAJECTORY_ID_BYTES];
    enum backend_failure failure;
    char reason[BACKEND_REASON_BYTES_MAX];
    int64_t wall_ns;
};

struct page {
    struct httpd *httpd;
    struct metrics *metrics;
    struct page_series series;
    _Atomic int64_t beat_ms;
    pthread_mutex_t lock; /* guards letters and letter_count */
    struct letter letters[PAGE_DEAD_LETTERS_MAX];
    uint64_t letter_count; /* ever; the ring holds the last ones */
};

static void print_letters(struct page *p, struct buf *out)
{
    pthread_mutex_lock(&p->lock);
    const uint64_t n = p->letter_count;
    for (uint64_t i = n > PAGE_DEAD_LETTERS_MAX ? n - PAGE_DEAD_LETTERS_MAX : 0; i < n; i++) {
        const struct letter *l = &p->letters[i % PAGE_DEAD_LETTERS_MAX];
        char id_hex[2 * TRAJECTORY_ID_BYTES + 1], when[CLOCK_TEXT_BYTES];
        hash_hex(id_hex, l->id, sizeof l->id);
        clock_format(l->wall_ns, when);
        struct json *line = json_new_object();
        json_set_string(line, "time", when);
        json_set_string(line, "trajectory", id_hex);
        json_set_string(line, "failure", backend_failure_name(l->failure));
        json_set_string(line, "reason", l->reason);
        char *text = json_print(line, JSON_LINE, NULL);
        buf_format(out, "%s\n", text);
        mem_free(text);
        json_free(line);
    }
    pthread_mutex_unlock(&p->lock);
}

static void handle(void *arg, const struct httpd_request *q, struct httpd_reply *r)
{
    struct page *p = arg;
    if (strcmp(q->method, "GET") != 0) {
        r->status = 405;
    } else if (strcmp(q->path, "/healthz") == 0) {
        const bool alive = clock_mono_ms(NULL) - atomic_load(&p->beat_ms) < PAGE_STALL_MS;
        r->status = alive ? 200 : 503;
        buf_add_text(&r->body, alive ? "ok\n" : "the main thread does not answer\n");
    } else if (strcmp(q->path, "/metrics") == 0) {
        r->content_type = METRICS_CONTENT_TYPE;
        metrics_print(p->metrics, &r->body);
    } else if (strcmp(q->path, "/dead-letters") == 0) {
        r->content_type = "application/x-ndjson";
        print_letters(p, &r->body);
    } else {
        r->status = 404;
    }
}

static void make_series(struct page *p)
{
    struct metrics *m = p->metrics;
    struct page_series *s = &p->series;
    const struct metrics_labels none = METRICS_NO_LABELS;
    static const double rewards[] = {-100, -10, -1,  -0.5, 0,   0.1, 0.2, 0.3, 0.4,
                                     0.5,  0.6, 0.7, 0.8,  0.9, 1,   10,  100};
    s->received = metrics_counter(m, "received_total", "trajectories that came", none);
    s->stored = metrics_counter(m, "stored_total", "trajectories stored in the replay", none);
    s->duplicate =
        metrics_counter(m, "duplicates_total", "trajectories that were there already", none);
    s->conflict = metrics_counter(m, "conflicts_total",
                                  "the same id with other contents; the first won", none);
    s->rejected =
        metrics_counter(m, "rejected_total", "trajectories that can never be accepted", none);
    s->too_old =
        metrics_counter(m, "too_old_total", "trajectories of a policy that is too old", none);
    s->dropped = metrics_counter(m, "dropped_total", "messages beyond credit or unreadable", none);
    for (int f = BACKEND_OK + 1; f < BACKEND_FAILURES; f++)
        s->failed[f] = metrics_counter(
            m, "failed_total", "trajectories without a reward",
            METRICS_LABEL("failure", backend_failure_name((enum backend_failure)f)));
    s->images = metrics_counter(m, "images_scored_total", "images that got a score", none);
    s->calls =
        metrics_counter(m, "calls_total", "calls of the reward service, retries included", none);
    s->retries = metrics_counter(m, "retries_total", "calls made again", none);
    s->hedges =
        metrics_counter(m, "hedges_total", "calls sent once more because they were slow", none);
    s->cache_hits =
        metrics_counter(m, "cache_hits_total", "images whose score was known already", none);
    s->call_seconds = metrics_histogram(m, "call_seconds", "calls that were answered with scores",
                                        none, metrics_seconds, metrics_seconds_count);
    s->in_hand =
        metrics_gauge(m, "in_hand_items", "trajectories between arrival and acknowledgement", none);
    s->held_bytes = metrics_gauge(m, "held_bytes", "bytes of the trajectories in hand", none);
    s->outstanding = metrics_gauge(m, "credit_outstanding_items", "granted and not come yet", none);
    s->room = metrics_gauge(m, "replay_room_items", "what the replay still wants", none);
    s->peers = metrics_gauge(m, "peers", "samplers heard of lately", none);
    s->ready = metrics_gauge(m, "reward_service_ready",
                             "1 once the reward service said what it takes", none);
    s->ack_seconds = metrics_histogram(m, "ack_seconds", "from arrival to acknowledgement", none,
                                       metrics_seconds, metrics_seconds_count);
    s->reward = metrics_histogram(m, "reward", "rewards of final images", none, rewards,
                                  sizeof rewards / sizeof *rewards);
}

int page_open(struct page **out, const char *listen, struct err *e)
{
    struct page *p = mem_new(1, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    p->metrics = metrics_new("scorer");
    make_series(p);
    page_beat(p);
    if (listen[0] != 0 &&
        httpd_start(&p->httpd,
                    &(struct httpd_options){.listen = listen, .idle_s = 10, .connections_each = HTTPD_PAGE_CONNECTIONS_EACH},
                    handle, p, e) < 0) {
        page_close(p);
        return err_wrap(e, "scorer.http");
    }
    *out = p;
    return 0;
}

void page_close(struct page *p)
{
    if (p == NULL)
        return;
    httpd_stop(p->httpd, 500);
    metrics_free(p->metrics);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

struct page_series *page_series(struct page *p)
{
    return &p->series;
}

struct page_endpoint page_endpoint(struct page *p, const struct backend_endpoint *endpoint)
{
    char index[24];
    struct metrics *m = p->metrics;
    snprintf(index, sizeof index, "%zu", endpoint->index);
    const struct metrics_labels labels =
        METRICS_LABELS2("reward", endpoint->reward, "endpoint", index);
    return (struct page_endpoint){
        .limit = metrics_gauge(m, "endpoint_calls_max",
                               "calls at once that the endpoint bears, learnt", labels),
        .running = metrics_gauge(m, "endpoint_calls", "calls under way", labels),
        .open = metrics_gauge(m, "endpoint_breaker_open",
                              "1 while the endpoint is left alone after failures", labels),
        .latency =
            metrics_gauge(m, "endpoint_latency_seconds",
                          "95th percentile of the last answers; -1 while there are few", labels),
    };
}

void page_beat(struct page *p)
{
    atomic_store(&p->beat_ms, clock_mono_ms(NULL));
}

void page_dead_letter(struct page *p, const uint8_t id[TRAJECTORY_ID_BYTES],
                      enum backend_failure failure, const char *reason)
{
    pthread_mutex_lock(&p->lock);
    struct letter *l = &p->letters[p->letter_count++ % PAGE_DEAD_LETTERS_MAX];
    memcpy(l->id, id, sizeof l->id);
    l->failure = failure;
    l->wall_ns = clock_wall_ns(NULL);
    snprintf(l->reason, sizeof l->reason, "%s", reason);
    pthread_mutex_unlock(&p->lock);
}
