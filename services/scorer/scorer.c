#include "scorer/scorer.h"

#include "base/clock.h"
#include "base/entropy.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/jpeg.h"
#include "run/run_chain.h"
#include "scorer/backend.h"
#include "scorer/credit.h"
#include "scorer/page.h"
#include "scorer/work.h"
#include "wire/store_client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_POLICIES_MAX 4096
#define MESSAGES_PER_ROUND 64
#define ADMISSIONS_PER_ROUND 32
#define STORE_TIMEOUT_MS 1000
#define START_TIMEOUT_MS 500 /* of one try while waiting for store and Redis */
#define RETRY_MS 200         /* between tries of what is away */
#define REPORT_EVERY_MS 2000
#define ROUNDS_MAX 64 /* batches made in one turn of the loop */
#define TICK_MS 500
#define THUMBNAIL_SIDE 64
#define THUMBNAIL_QUALITY 85
#define SILENT_MS 1500 /* a sampler says hello every second */
#define ENDPOINTS_MAX (BACKEND_ENDPOINTS_MAX * CONFIG_COPIES_MAX)

struct scorer {
    const struct scorer_settings *o;
    size_t batch_max;         /* pictures of one call */
    uint64_t batch_bytes_max; /* and their pixels, as RGB */
    int64_t linger_ms;
    char sender[MESSAGE_SENDER_BYTES];
    struct loop *loop;
    struct page *page;
    struct page_series *series;
    struct wire_net *net;
    struct store_client *store;
    struct news *news;
    struct wire *inbox;
    struct run_spec run;
    uint8_t chain[HASH_SHA256_BYTES];
    struct replay *replay;
    struct backend backend;
    struct work *work;
    struct credit_ledger *credit;

    struct policy_ref known[KNOWN_POLICIES_MAX]; /* ring */
    size_t known_count;
    struct policy_ref newest;

    bool draining;
    int64_t drain_end_ms, admit_after_ms, prove_after_ms, batch_since_ms, room_due_ms,
        report_due_ms;
    uint64_t room; /* items that the replay wants, those in hand included */
    bool replay_away;
    uint64_t progress, stored, failed;
    double reward_sum;
};

/* ---- which policies the store knows ---- */

static void know_policy(struct scorer *s, const struct policy_ref *p)
{
    if (p->version >= s->newest.version)
        s->newest = *p;
    s->known[s->known_count++ % KNOWN_POLICIES_MAX] = *p;
}

static bool is_known(const struct scorer *s, const struct trajectory *t)
{
    if (t->policy_version == 0)
        return true; /* the base model; trajectory_check saw that its digest is empty */
    const size_t n = s->known_count < KNOWN_POLICIES_MAX ? s->known_count : KNOWN_POLICIES_MAX;
    for (size_t i = 0; i < n; i++)
        if (s->known[i].version == t->policy_version &&
            memcmp(s->known[i].digest, t->policy_digest, sizeof t->policy_digest) == 0)
            return true;
    return false;
}

/* 1: known; 0: the store cannot be asked now; -1: refused, with the reason. */
static int prove_policy(struct scorer *s, const struct trajectory *t, struct err *e)
{
    if (is_known(s, t))
        return 1;
    struct policy_ref p;
    if (store_client_policy(s->store, t->policy_digest, &p, e) < 0)
        return e->code == ERR_UNAVAILABLE || e->code == ERR_TIMEOUT ? 0 : -1;
    if (p.version < t->policy_version)
        return err_set(e, ERR_INVALID,
                       "the store knows this digest as policy %" PRIu64 ", not %" PRIu64, p.version,
                       t->policy_version);
    /* Updates that change nothing give several versions the same bytes; the store names the newest. */
    p.version = t->policy_version;
    know_policy(s, &p);
    return 1;
}

/* ---- answering ---- */

static void answer(struct scorer *s, const uint8_t *peer, size_t peer_bytes, uint64_t session,
                   const uint8_t id[TRAJECTORY_ID_BYTES], enum ack_outcome outcome,
                   const char *reason)
{
    struct ack ack = {.outcome = outcome, .session = session};
    memcpy(ack.id, id, sizeof ack.id);
    snprintf(ack.reason, sizeof ack.reason, "%.250s", reason);
    struct message *m = message_new(MESSAGE_ACK);
    memcpy(m->peer, peer, peer_bytes);
    m->peer_bytes = peer_bytes;
    codec_put_ack(m, &ack);
    struct err gone; /* that sampler is away: it will send again, and be told then */
    if (wire_send(s->inbox, &m, &gone) < 0)
        message_free(m);
}

static void finish(struct scorer *s, size_t i, enum ack_outcome outcome, const char *reason)
{
    const struct work_item *item = work_at(s->work, i);
    answer(s, item->peer, item->peer_bytes, item->session, item->trajectory->id, outcome, reason);
    metrics_observe(s->series->ack_seconds, (double)(clock_mono_ms(NULL) - item->came_ms) / 1000.0);
    credit_release(s->credit, item->bytes);
    work_remove(s->work, i);
}

static void finish_rejected(struct scorer *s, size_t i, const char *reason)
{
    metrics_add(s->series->rejected, 1);
    finish(s, i, ACK_REJECTED, reason);
}

static void finish_failed(struct scorer *s, size_t i)
{
    const struct work_item *item = work_at(s->work, i);
    char id_hex[2 * TRAJECTORY_ID_BYTES + 1], reason[CODEC_REASON_BYTES];
    hash_hex(id_hex, item->trajectory->id, TRAJECTORY_ID_BYTES);
    snprintf(reason, sizeof reason, "%s: %s", backend_failure_name(item->failure), item->reason);
    log_event(LOG_WARN, "reward_failed", "trajectory=%s failure=%s reason=%s", id_hex,
              backend_failure_name(item->failure), item->reason);
    metrics_add(s->series->failed[item->failure], 1);
    page_dead_letter(s->page, item->trajectory->id, item->failure, item->reason);
    s->failed++;
    finish(s, i, ACK_FAILED, reason);
}

/* ---- taking trajectories ---- */

/* The trainer indexes the run's kernels by step and reads latents of the run's size. */
static int check_form(const struct run_spec *run, const struct trajectory *t, struct err *e)
{
    if (t->latent_height != run->latent_height || t->latent_width != run->latent_width)
        return err_set(e, ERR_INVALID, "latents of %ux%u, this run's are %ux%u", t->latent_height,
                       t->latent_width, run->latent_height, run->latent_width);
    if (t->undecoded != run->undecoded)
        return err_set(e, ERR_INVALID, "it carries %s, this run's trajectories carry %s",
                       t->undecoded ? "clean latents" : "pictures", run->undecoded ? "clean latents" : "pictures");
    for (uint32_t i = 0; i < t->state_count; i++)
        if (t->states[i].step > run->steps - (t->states[i].terminal ? 0 : 1))
            return err_set(e, ERR_INVALID, "state %u is of step %u, this run's chain has %u", i,
                           t->states[i].step, run->steps);
    return 0; /* a transition's steps are those of its states: trajectory_check */
}

/* What only this run's own sampler can have made. */
static int check_own(const struct scorer *s, const struct message *m, const struct trajectory *t,
                     struct err *e)
{
    uint8_t id[TRAJECTORY_ID_BYTES];
    if (strcmp(m->run_id, s->run.run_id) != 0)
        return err_set(e, ERR_INVALID, "trajectory of run %.32s, this is %s", m->run_id,
                       s->run.run_id);
    trajectory_id(id, s->run.run_id, t->slot, t->counter);
    if (memcmp(id, t->id, sizeof id) != 0)
        return err_set(e, ERR_INVALID, "the id is not that of slot %u, counter %" PRIu64, t->slot,
                       t->counter);
    if (memcmp(s->chain, t->schedule_digest, sizeof s->chain) != 0)
        return err_set(e, ERR_INVALID,
                       "sampled with another chain (steps, eta, variance, guidance or model)");
    return check_form(&s->run, t, e);
}

/* The socket hangs up on a message above net.trajectory_max, and one above the budget is never asked
 * for: neither would be seen from outside. */
static void check_size(const struct scorer *s, const struct hello *h)
{
    const uint64_t message_max = (uint64_t)s->o->net.trajectory_max_bytes;
    const uint64_t budget = (uint64_t)s->o->scorer.budget_bytes;
    if (h->item_bytes <= message_max && h->item_bytes <= budget)
        return;
    log_event(LOG_ERROR, "sampler_too_large",
              "slot=%u item_bytes=%" PRIu64 " trajectory_max=%" PRIu64 " budget=%" PRIu64 " mend=%s",
              h->slot, h->item_bytes, message_max, budget,
              h->item_bytes > message_max
                  ? "its trajectories do not come through: raise net.trajectory_max of the scorer"
                  : "it gets no credit: raise scorer.budget");
}

static void take_hello(struct scorer *s, const struct message *m)
{
    struct hello h;
    struct err e;
    if (codec_get_hello(m, &h, &e) < 0) {
        metrics_add(s->series->dropped, 1);
        return;
    }
    const bool stranger = credit_find(s->credit, m->peer, m->peer_bytes) == NULL;
    const struct credit_peer *p =
        credit_hello(s->credit, m->peer, m->peer_bytes, h.item_bytes, clock_mono_ms(NULL));
    if (!stranger || p == NULL)
        return;
    log_event(LOG_INFO, "sampler_came", "slot=%u sender=%s session=%llu item_bytes=%llu", h.slot,
              m->sender, (unsigned long long)p->session, (unsigned long long)h.item_bytes);
    check_size(s, &h);
}

static void take_trajectory(struct scorer *s, const struct message *m)
{
    struct trajectory *t = NULL;
    struct err e;
    metrics_add(s->series->received, 1);
    struct credit_peer *p = credit_find(s->credit, m->peer, m->peer_bytes);
    /* From before this scorer's start: it comes again with the new session's credit. */
    if (p == NULL) {
        metrics_add(s->series->dropped, 1);
        return;
    }
    if (codec_get_trajectory(m, &t, &e) < 0) {
        log_event(LOG_WARN, "trajectory_unreadable", "sender=%s error=%s", m->sender, e.text);
        metrics_add(s->series->dropped, 1);
        return;
    }
    const uint64_t bytes = codec_trajectory_bytes(t);
    struct work_item *twin = work_find(s->work, t->id);
    if (!credit_take(s->credit, p, bytes, clock_mono_ms(NULL))) {
        metrics_add(s->series->dropped, 1);
    } else if (twin != NULL) {
        /* It is in hand already: its answer goes to whoever sent it last. */
        credit_release(s->credit, bytes);
        memcpy(twin->peer, m->peer, m->peer_bytes);
        twin->peer_bytes = m->peer_bytes;
        twin->session = p->session;
    } else {
        const int own = check_own(s, m, t, &e);
        struct work_item *item =
            work_add(s->work, &t, is_known(s, t) ? WORK_SCORING : WORK_UNPROVEN);
        memcpy(item->peer, m->peer, m->peer_bytes);
        item->peer_bytes = m->peer_bytes;
        item->session = p->session;
        item->bytes = bytes;
        item->came_ms = clock_mono_ms(NULL);
        if (own < 0)
            finish_rejected(s, work_count(s->work) - 1, e.text);
    }
    trajectory_free(t);
}

static int on_inbox(void *arg, struct err *e)
{
    struct scorer *s = arg;
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        struct message *m = NULL;
        if (wire_recv(s->inbox, &m, 0, e) < 0)
            return e->code == ERR_TIMEOUT ? 0 : -1;
        if (m->kind == MESSAGE_HELLO)
            take_hello(s, m);
        else if (m->kind == MESSAGE_TRAJECTORY)
            take_trajectory(s, m);
        else
            metrics_add(s->series->dropped, 1);
        message_free(m);
    }
    return 0;
}

static void begin_drain(struct scorer *s, const char *why)
{
    if (s->draining)
        return;
    s->draining = true;
    s->drain_end_ms = clock_mono_ms(NULL) + s->o->scorer.drain_ms;
    log_event(LOG_INFO, "draining", "why=%s in_hand=%zu", why, work_count(s->work));
}

static int on_news(void *arg, struct err *e)
{
    struct scorer *s = arg;
    struct news_item item;
    while (news_poll(s->news, &item, 0, e) == 0) {
        if (item.kind == NEWS_POLICY && item.policy.version > 0)
            know_policy(s, &item.policy);
        else if (item.kind == NEWS_STOP)
            begin_drain(s, "the run has ended");
    }
    return e->code == ERR_TIMEOUT ? 0 : -1;
}

static int on_signal(void *arg, struct err *e)
{
    (void)e;
    begin_drain(arg, "signal");
    return 0;
}

/* ---- working ---- */

static void prove_waiting(struct scorer *s)
{
    const int64_t now_ms = clock_mono_ms(NULL);
    for (size_t i = 0; i < work_count(s->work);) {
        struct work_item *item = work_at(s->work, i);
        struct err e;
        if (item->state != WORK_UNPROVEN) {
            i++;
            continue;
        }
        if (now_ms < s->prove_after_ms && !is_known(s, item->trajectory)) {
            i++;
            continue;
        }
        const int proven = prove_policy(s, item->trajectory, &e);
        if (proven < 0) {
            finish_rejected(s, i, e.text);
            continue;
        }
        if (proven == 0)
            s->prove_after_ms = clock_mono_ms(NULL) + RETRY_MS;
        else
            item->state = WORK_SCORING;
        i++;
    }
}

static void on_scores(void *arg, const struct backend_result *r)
{
    struct scorer *s = arg;
    s->progress++;
    if (r->failure == BACKEND_OK)
        metrics_add(s->series->images, (double)r->count);
    if (r->failure == BACKEND_OK && r->seconds > 0.0)
        metrics_observe(s->series->call_seconds, r->seconds);
    work_done(s->work, r);
}

static int submit_batches(struct scorer *s, struct err *e)
{
    struct backend_item items[BACKEND_BATCH_MAX];
    const size_t max = s->batch_max;
    for (int round = 0; round < ROUNDS_MAX && s->backend.room(s->backend.self) > 0; round++) {
        const size_t waiting = work_waiting(s->work);
        const int64_t now_ms = clock_mono_ms(NULL);
        if (waiting == 0) {
            s->batch_since_ms = 0;
            return 0;
        }
        if (s->batch_since_ms == 0)
            s->batch_since_ms = now_ms;
        if (waiting < max && now_ms - s->batch_since_ms < s->linger_ms)
            return 0;
        s->batch_since_ms = 0;
        uint64_t batch;
        const size_t n = work_batch(s->work, items, max, s->batch_bytes_max, &batch);
        struct err why;
        if (n == 0 || s->backend.submit(s->backend.self, batch, items, n, &why) == 0)
            continue;
        struct backend_result failed = {.batch = batch, .failure = BACKEND_INPUT};
        snprintf(failed.reason, sizeof failed.reason, "%.190s", why.text);
        if (why.code != ERR_INVALID && why.code != ERR_FULL) {
            *e = why;
            return -1;
        }
        work_done(s->work, &failed);
    }
    return 0;
}

/* A small JPEG of the final image (a PNG takes ten times as long), for the pages that show what was
 * made: every so many-th pixel of larger ones. */
static void make_thumbnail(struct trajectory *t)
{
    const uint32_t side = t->image_width > t->image_height ? t->image_width : t->image_height;
    const uint32_t step = (side + THUMBNAIL_SIDE - 1) / THUMBNAIL_SIDE;
    struct image small;
    struct err e;
    image_init(&small, (int)(t->image_width / step > 0 ? t->image_width / step : 1),
               (int)(t->image_height / step > 0 ? t->image_height / step : 1));
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++)
            memcpy(small.rgb + 3 * ((size_t)y * small.width + x),
                   t->final_image + 3 * ((size_t)y * step * t->image_width + (size_t)x * step), 3);
    if (jpeg_encode(&t->thumbnail, &t->thumbnail_bytes, &small, THUMBNAIL_QUALITY, &e) < 0) {
        t->thumbnail = NULL; /* a trajectory without its small picture is still one */
        t->thumbnail_bytes = 0;
    }
    image_done(&small);
}

static void forget_images(struct trajectory *t)
{
    mem_free(t->images);
    mem_free(t->final_image);
    t->images = t->final_image = NULL;
}

/* 0: answered; 1: the replay cannot take it now. */
static int admit(struct scorer *s, size_t i)
{
    struct work_item *item = work_at(s->work, i);
    struct trajectory *t = item->trajectory;
    enum replay_outcome outcome;
    struct err e;
    if (t->final_image != NULL) {
        if (!t->undecoded)
            make_thumbnail(t);
        forget_images(t);
    }
    if (replay_admit(s->replay, t, &outcome, &e) < 0) {
        if (e.code == ERR_UNAVAILABLE || e.code == ERR_FULL) {
            if (!s->replay_away)
                log_err("replay_away", &e);
            s->replay_away = true;
            s->admit_after_ms = clock_mono_ms(NULL) + RETRY_MS;
            return 1;
        }
        log_err("replay_refused", &e);
        finish_rejected(s, i, e.text);
        return 0;
    }
    if (s->replay_away)
        log_event(LOG_INFO, "replay_back", "waiting=%zu", work_count(s->work));
    s->replay_away = false;
    s->progress++;
    switch (outcome) {
    case REPLAY_STORED:
        metrics_add(s->series->stored, 1);
        metrics_observe(s->series->reward, t->reward);
        s->stored++;
        s->reward_sum += t->reward;
        s->room -= s->room > 0;
        finish(s, i, ACK_STORED, "");
        break;
    case REPLAY_DUPLICATE:
        metrics_add(s->series->duplicate, 1);
        finish(s, i, ACK_DUPLICATE, "");
        break;
    case REPLAY_CONFLICT:
        metrics_add(s->series->conflict, 1);
        finish(s, i, ACK_DUPLICATE, "the same id with other contents was there first");
        break;
    case REPLAY_TOO_OLD:
    default:
        metrics_add(s->series->too_old, 1);
        finish_rejected(s, i, "its policy is too old");
        break;
    }
    return 0;
}

static void finish_ready(struct scorer *s)
{
    int admissions = 0;
    for (size_t i = 0; i < work_count(s->work);) {
        const enum work_state state = work_at(s->work, i)->state;
        if (state == WORK_FAILED) {
            finish_failed(s, i);
        } else if (state == WORK_SCORED && admissions < ADMISSIONS_PER_ROUND &&
                   clock_mono_ms(NULL) >= s->admit_after_ms) {
            admissions++;
            i += admit(s, i) != 0;
        } else {
            i++;
        }
    }
}

static void send_credits(struct scorer *s)
{
    const bool give = !s->draining && s->backend.ready(s->backend.self);
    credit_grant(s->credit, give ? s->room : 0);
    for (size_t i = 0; i < s->credit->peer_count; i++) {
        struct credit_peer *p = &s->credit->peers[i];
        if (!p->tell || p->id_bytes == 0)
            continue;
        struct message *m = message_new(MESSAGE_CREDIT);
        memcpy(m->peer, p->id, p->id_bytes);
        m->peer_bytes = p->id_bytes;
        codec_put_credit(m, &(struct credit){.session = p->session,
                                             .items = p->items_granted,
                                             .bytes = p->bytes_granted});
        struct err gone;
        p->tell = false;
        if (wire_send(s->inbox, &m, &gone) < 0) {
            message_free(m);
            p->tell = gone.code == ERR_FULL;
            if (gone.code == ERR_UNAVAILABLE) {
                log_event(LOG_INFO, "sampler_gone", "session=%llu granted=%llu got=%llu",
                          (unsigned long long)p->session, (unsigned long long)p->items_granted,
                          (unsigned long long)p->items_got);
                credit_forget(p);
            }
        }
    }
}

static void ask_room(struct scorer *s)
{
    const int64_t now_ms = clock_mono_ms(NULL);
    struct err e;
    if (now_ms < s->room_due_ms)
        return;
    s->room_due_ms = now_ms + s->o->scorer.grant_every_ms;
    if (replay_room(s->replay, &s->room, &e) < 0) {
        if (!s->replay_away)
            log_err("replay_away", &e);
        s->replay_away = true;
        s->room = 0;
    }
}

static int work_round(struct scorer *s, struct err *e)
{
    prove_waiting(s);
    if (submit_batches(s, e) < 0)
        return -1;
    finish_ready(s);
    ask_room(s);
    send_credits(s);
    page_beat(s->page);
    return 0;
}

/* ---- telling ---- */

static size_t endpoints(struct scorer *s, struct backend_endpoint out[ENDPOINTS_MAX])
{
    return s->backend.endpoints == NULL ? 0 : s->backend.endpoints(s->backend.self, out, ENDPOINTS_MAX);
}

static void update_endpoints(struct scorer *s)
{
    struct backend_endpoint endpoint[ENDPOINTS_MAX];
    const size_t n = endpoints(s, endpoint);
    for (size_t i = 0; i < n; i++) {
        const struct page_endpoint series = page_endpoint(s->page, &endpoint[i]);
        const struct endpoint *health = endpoint[i].health;
        const int64_t latency_ms = endpoint_latency_ms(health, 0.95);
        metrics_set(series.limit, health->limit);
        metrics_set(series.running, health->running);
        metrics_set(series.open, health->breaker != ENDPOINT_CLOSED);
        metrics_set(series.latency, latency_ms < 0 ? -1.0 : (double)latency_ms / 1000.0);
    }
}

static void update_series(struct scorer *s)
{
    struct backend_counters c;
    struct page_series *m = s->series;
    s->backend.counters(s->backend.self, &c);
    metrics_add(m->calls, (double)c.calls - metrics_value(m->calls));
    metrics_add(m->retries, (double)c.retries - metrics_value(m->retries));
    metrics_add(m->hedges, (double)c.hedges - metrics_value(m->hedges));
    metrics_add(m->cache_hits, (double)c.cache_hits - metrics_value(m->cache_hits));
    update_endpoints(s);
    metrics_set(m->in_hand, (double)work_count(s->work));
    metrics_set(m->held_bytes, (double)s->credit->bytes_held);
    metrics_set(m->outstanding, (double)credit_items_outstanding(s->credit));
    metrics_set(m->room, (double)s->room);
    size_t peers = 0;
    for (size_t i = 0; i < s->credit->peer_count; i++)
        peers += s->credit->peers[i].id_bytes > 0;
    metrics_set(m->peers, (double)peers);
    metrics_set(m->ready, s->backend.ready(s->backend.self) ? 1 : 0);
}

static void report(struct scorer *s)
{
    const int64_t now_ms = clock_mono_ms(NULL);
    if (now_ms < s->report_due_ms)
        return;
    s->report_due_ms = now_ms + REPORT_EVERY_MS;
    struct report r = {.policy_version = s->newest.version, .progress = ++s->progress};
    snprintf(r.service, sizeof r.service, "%s", s->sender);
    memcpy(r.policy_digest, s->newest.digest, sizeof r.policy_digest);
    report_add(&r, "stored", (double)s->stored);
    report_add(&r, "failed", (double)s->failed);
    report_add(&r, "in_hand", (double)work_count(s->work));
    report_add(&r, "images", metrics_value(s->series->images));
    report_add(&r, "calls", metrics_value(s->series->calls));
    report_add(&r, "retries", metrics_value(s->series->retries));
    if (s->stored > 0)
        report_add(&r, "reward_mean", s->reward_sum / (double)s->stored);
    struct err ignored;
    if (store_client_report(s->store, &r, &ignored) < 0)
        log_err("report_lost", &ignored);
}

static int on_tick(void *arg, struct err *e)
{
    struct scorer *s = arg;
    (void)e;
    /* Telling a dead sampler's socket fails at once: its credit is for the others, long before the
     * timeout of one that is connected and says nothing. */
    credit_tell_silent(s->credit, clock_mono_ms(NULL) - SILENT_MS);
    const size_t gone =
        credit_expire(s->credit, clock_mono_ms(NULL) - s->o->scorer.peer_timeout_ms);
    if (gone > 0)
        log_event(LOG_INFO, "samplers_gone", "count=%zu", gone);
    update_series(s);
    report(s);
    return 0;
}

static int on_wake(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return 0; /* the round after the poll does the work */
}

/* ---- opening ---- */

/* Rounds of the loop until `ms` are over; false where a signal came. */
static bool wait_a_little(struct scorer *s, int ms, struct err *e)
{
    page_beat(s->page);
    return loop_poll(s->loop, ms, e) == 0 && !s->draining && !loop_stopped(s->loop);
}

/* 0: got it; 1: a signal came. */
static int wait_for_run(struct scorer *s, struct err *e)
{
    bool told = false;
    store_client_timeout(s->store, START_TIMEOUT_MS);
    while (store_client_run(s->store, &s->run, e) < 0) {
        if (e->code != ERR_UNAVAILABLE && e->code != ERR_TIMEOUT)
            return -1;
        if (!told)
            log_event(LOG_INFO, "waiting_for_store", "endpoint=%s", s->o->net.store);
        told = true;
        if (!wait_a_little(s, RETRY_MS, e))
            return s->draining ? 1 : -1;
    }
    store_client_timeout(s->store, STORE_TIMEOUT_MS);
    run_chain_digest(s->chain, &s->run);
    return 0;
}

static int wait_for_replay(struct scorer *s, struct err *e)
{
    struct replay_options o;
    char password[CONFIG_TEXT_BYTES_MAX];
    bool told = false;
    int rc = replay_options_of(&o, &s->o->replay, s->run.run_id, password, e);
    while (rc == 0 && replay_open(&s->replay, &o, e) < 0) {
        if (e->code != ERR_UNAVAILABLE && e->code != ERR_FULL) {
            rc = -1;
            break;
        }
        if (!told)
            log_event(LOG_INFO, "waiting_for_redis", "address=%s error=%s", s->o->replay.address,
                      e->text);
        told = true;
        if (!wait_a_little(s, RETRY_MS, e))
            rc = s->draining ? 1 : -1;
    }
    for (volatile char *p = password; *p != 0; p++)
        *p = 0;
    return rc;
}

static int open_backend(struct scorer *s, struct err *e)
{
    const struct reward_params *p = &s->o->reward;
    const struct config_copies *several = &s->o->rewards;
    const struct backend_context context = {.loop = s->loop, .replay = s->replay};
    /* of several rewards the smallest batch and the longest linger */
    s->batch_max = several->count > 0 ? BACKEND_BATCH_MAX : (size_t)p->batch;
    s->batch_bytes_max = several->count > 0 ? UINT64_MAX : (uint64_t)p->batch_max_bytes;
    s->linger_ms = several->count > 0 ? 0 : p->linger_ms;
    for (size_t i = 0; i < several->count; i++) {
        const struct reward_params *one = &s->o->rewards_items[i];
        if ((size_t)one->batch < s->batch_max)
            s->batch_max = (size_t)one->batch;
        if ((uint64_t)one->batch_max_bytes < s->batch_bytes_max)
            s->batch_bytes_max = (uint64_t)one->batch_max_bytes;
        if (one->linger_ms > s->linger_ms)
            s->linger_ms = one->linger_ms;
    }
    if (several->count > 0)
        return backend_open_combined(&s->backend, &s->o->rewards,
                                     (enum backend_combination)s->o->scorer.combine, &context,
                                     on_scores, s, e);
    return backend_open(&s->backend, p, &context, on_scores, s, e);
}

static int open_rewards(struct scorer *s, struct err *e)
{
    if (open_backend(s, e) < 0)
        return -1;
    if (s->backend.takes_latents != s->run.undecoded)
        return err_set(e, ERR_INVALID, s->run.undecoded
                                           ? "run.decode is no, so that there are no pictures: reward.backend must be latents"
                                           : "reward.backend latents wants run.decode: no");
    if (s->backend.items_max < s->batch_max)
        s->batch_max = s->backend.items_max;
    return 0;
}

static void tell_bounds(struct scorer *s)
{
    const uint64_t message = (uint64_t)s->o->net.trajectory_max_bytes;
    const uint64_t sockets = wire_bytes_bound(s->inbox, (uint32_t)s->o->scorer.peers);
    /* by the autoencoder of Stable Diffusion, which makes eight pixels of a latent's one; the embedded one makes four */
    const size_t picture = (size_t)3 * 8 * s->run.latent_height * 8 * s->run.latent_width;
    const uint64_t calls = s->backend.bytes_bound(s->backend.self, picture);
    const uint64_t budget = (uint64_t)s->o->scorer.budget_bytes;
    log_event(LOG_INFO, "memory_bound",
              "bytes=%llu budget=%llu sockets=%llu peers=%lld decode=%llu calls=%llu",
              (unsigned long long)(budget + sockets + 2 * message + calls),
              (unsigned long long)budget, (unsigned long long)sockets,
              (long long)s->o->scorer.peers, (unsigned long long)(2 * message),
              (unsigned long long)calls);
}

static int open_all(struct scorer *s, struct err *e)
{
    uint32_t session;
    const struct scorer_settings *o = s->o;
    const struct wire_net_options net = net_options(&o->net, PARTY_SCORER, s->sender);
    if (loop_open(&s->loop, e) < 0)
        return -1;
    loop_on_drain(s->loop, on_signal, s);
    if (page_open(&s->page, o->scorer.listen, e) < 0 || wire_net_open(&s->net, &net, e) < 0)
        return -1;
    s->series = page_series(s->page);
    /* several rewards have been scaled where they were combined */
    s->work =
        o->rewards.count > 0 ? work_new(1.0, 0.0) : work_new(o->reward.scale, o->reward.offset);
    if (entropy_fill(&session, sizeof session, e) < 0)
        return -1;
    s->credit = mem_new(1, sizeof *s->credit);
    credit_init(s->credit, ((uint64_t)session << 20) + 1, (uint64_t)o->scorer.budget_bytes,
                (uint64_t)o->scorer.window);
    const struct store_client_options store = {.endpoint = o->net.store,
                                               .timeout_ms = START_TIMEOUT_MS};
    if (store_client_open(&s->store, s->net, &store, e) < 0)
        return -1;
    int rc = wait_for_run(s, e);
    if (rc == 0)
        rc = wait_for_replay(s, e);
    if (rc != 0)
        return rc;
    if (news_open(&s->news, s->net, o->net.news, NEWS_WANT_POLICY | NEWS_WANT_STOP, e) < 0 ||
        loop_add_wire(s->loop, news_wire(s->news), on_news, s, e) < 0 || open_rewards(s, e) < 0 ||
        wire_open(&s->inbox, s->net, WIRE_SCORER_INBOX, o->net.scorer, e) < 0 ||
        loop_add_wire(s->loop, s->inbox, on_inbox, s, e) < 0 ||
        loop_add_timer(s->loop, TICK_MS, on_tick, s, NULL, e) < 0)
        return -1;
    /* What waits for its time (a fuller batch, the next try, new room) is looked at so often. */
    const int64_t wake_ms = o->scorer.grant_every_ms < 20 ? o->scorer.grant_every_ms : 20;
    if (loop_add_timer(s->loop, (uint32_t)wake_ms, on_wake, s, NULL, e) < 0)
        return -1;
    tell_bounds(s);
    log_event(LOG_INFO, "ready", "run=%s inbox=%s reward=%s", s->run.run_id,
              wire_endpoint(s->inbox), o->rewards.count > 0 ? "combined" : o->reward.backend);
    return 0;
}

int scorer_open(struct scorer **out, const struct scorer_settings *settings, struct err *e)
{
    struct scorer *s = mem_new(1, sizeof *s);
    *out = NULL;
    s->o = settings;
    snprintf(s->sender, sizeof s->sender, "scorer/%.32s", settings->scorer.name);
    const int rc = open_all(s, e);
    if (rc == 0)
        *out = s;
    else
        scorer_close(s);
    return rc < 0 ? -1 : 0;
}

/* Every endpoint is left alone and nothing is scored: what is in hand would only wait, and its samplers send it again. */
static bool is_stuck(struct scorer *s)
{
    struct backend_endpoint endpoint[ENDPOINTS_MAX];
    const size_t n = s->backend.computes ? 0 : endpoints(s, endpoint);
    for (size_t i = 0; i < n; i++)
        if (endpoint[i].health->breaker != ENDPOINT_OPEN || endpoint[i].health->running > 0)
            return false;
    for (size_t i = 0; i < work_count(s->work); i++)
        if (work_at(s->work, i)->state == WORK_SCORED)
            return false;
    return n > 0;
}

int scorer_run(struct scorer *s, struct err *e)
{
    while (!loop_stopped(s->loop)) {
        if (loop_poll(s->loop, -1, e) < 0 || work_round(s, e) < 0)
            return -1;
        if (!s->draining)
            continue;
        if (work_count(s->work) == 0 || is_stuck(s) || clock_mono_ms(NULL) > s->drain_end_ms)
            break;
    }
    update_series(s);
    s->report_due_ms = 0;
    report(s);
    log_event(LOG_INFO, "stopped", "stored=%llu failed=%llu left=%zu",
              (unsigned long long)s->stored, (unsigned long long)s->failed, work_count(s->work));
    return 0;
}

void scorer_close(struct scorer *s)
{
    if (s == NULL)
        return;
    if (s->backend.close != NULL)
        s->backend.close(s->backend.self);
    work_free(s->work);
    mem_free(s->credit);
    replay_close(s->replay);
    wire_close(s->inbox);
    news_close(s->news);
    store_client_close(s->store);
    run_spec_done(&s->run);
    wire_net_close(s->net);
    page_close(s->page);
    loop_close(s->loop);
    mem_free(s);
}
