#include "sampler/sampler.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "diffusion/pipeline.h"
#include "run/monitor.h"
#include "run/prompt_set.h"
#include "run/rollout.h"
#include "run/run_chain.h"
#include "sampler/flight.h"
#include "wire/store_client.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REPORT_EVERY_MS 2000
#define HELLO_EVERY_MS 1000
#define FETCH_AGAIN_MS 1000
#define CREDIT_PATIENCE_MS 500 /* a part of a batch is made when no more credit came for so long */
#define RESENDS_PATIENCE 10    /* lockstep: times `resend` without a policy, at first, until its batch is made again */
#define ALIVE_MS 60000 /* one step of a chain, of a large model on a slow machine, stays far below */
#define POLICY_BYTES_MAX ((size_t)8 << 30)

static const char *const outcomes[] = {"none", "stored", "duplicate", "rejected", "failed"};

struct sampler {
    struct sampler_options o;
    struct loop *loop; /* borrowed */
    struct store_client *store;
    struct news *news;
    struct wire *scorer;

    struct run_spec run;
    struct prompt_set prompts;
    struct pipeline *pipeline;
    struct transition_kernel *kernels; /* [run.steps] */
    uint32_t slot;
    uint64_t counter;

    struct policy_ref applied, newest;
    struct flight flight;
    uint64_t item_bytes; /* upper bound of one message, for Hello */
    bool stopping;       /* the run has ended */

    int64_t hello_ms, report_ms, credit_ms; /* last hello and report; when credit last grew */
    int64_t rest_until_ms;                  /* sampler.rate */
    int64_t idle_since_ms, patience_ms;     /* lockstep: nothing to make since; how long that is taken for well */
    int64_t fetch_after_ms;                 /* the store no longer had the policy */
    uint64_t progress;
    double make_seconds;
    struct monitor *monitor;
    struct metric *made, *outcome[ACK_FAILED + 1], *in_flight, *policy_version;
};

/* ---- policy ---- */

/* Fetches the policy announced last, proves that the bytes are the ones announced, applies them. */
static int apply_newest(struct sampler *s, struct err *e)
{
    if (memcmp(s->applied.digest, s->newest.digest, sizeof s->applied.digest) == 0) {
        s->applied = s->newest;
        return 0;
    }
    const struct policy_ref target = s->newest;
    uint8_t *bytes = NULL, digest[HASH_SHA256_BYTES] = {0};
    size_t n = 0;
    int rc = 0;
    if (target.version > 0) {
        rc = store_client_blob_get(s->store, target.digest, POLICY_BYTES_MAX, &bytes, &n, e);
        if (rc == 0)
            hash_sha256(digest, bytes, n);
        if (rc == 0 && memcmp(digest, target.digest, sizeof digest) != 0)
            rc = err_set(e, ERR_INVALID, "policy %llu has other bytes than announced",
                         (unsigned long long)target.version);
    }
    if (rc == 0)
        rc = pipeline_policy_set(s->pipeline, bytes, n, e);
    mem_free(bytes);
    if (rc < 0)
        return err_wrap(e, "policy %llu", (unsigned long long)target.version);
    s->applied = target;
    char hex[HASH_SHA256_HEX_BYTES];
    hash_hex(hex, digest, sizeof digest);
    log_event(LOG_INFO, "policy_applied", "version=%llu digest=%s",
              (unsigned long long)target.version, hex);
    return 0;
}

/* A policy that cannot be had now is no reason to end: the store is away, or it has swept the policy since newer ones took
 * its place, which is then the one to fetch. */
static int follow_newest(struct sampler *s, struct err *e)
{
    if (clock_mono_ms(NULL) < s->fetch_after_ms || apply_newest(s, e) == 0)
        return 0;
    const bool gone = e->code == ERR_NOT_FOUND;
    if (!gone && e->code != ERR_UNAVAILABLE && e->code != ERR_TIMEOUT)
        return -1;
    log_err("policy_fetch", e);
    if (!gone)
        return 0;
    s->fetch_after_ms = clock_mono_ms(NULL) + FETCH_AGAIN_MS;
    struct policy_ref newest;
    if (store_client_policy(s->store, NULL, &newest, e) < 0)
        return e->code == ERR_UNAVAILABLE ? 0 : -1;
    if (memcmp(newest.digest, s->newest.digest, sizeof newest.digest) != 0)
        s->fetch_after_ms = 0;
    s->newest = newest;
    return 0;
}

/* ---- sockets ---- */

static int on_news(void *arg, struct err *e)
{
    struct sampler *s = arg;
    struct news_item item;
    while (news_poll(s->news, &item, 0, e) == 0) {
        if (item.kind == NEWS_STOP)
            s->stopping = true;
        /* never back: an older trainer's late announcement loses by token, then by version */
        else if (item.kind == NEWS_POLICY &&
                 (item.policy.token > s->newest.token ||
                  (item.policy.token == s->newest.token && item.policy.version > s->newest.version)))
            s->newest = item.policy;
    }
    return e->code == ERR_TIMEOUT ? 0 : -1;
}

static int on_reply(struct sampler *s, const struct message *m, struct err *e)
{
    if (m->kind == MESSAGE_CREDIT) {
        struct credit c;
        if (codec_get_credit(m, &c, e) < 0)
            return -1;
        const uint64_t before = s->flight.items_granted;
        if (flight_credit(&s->flight, &c))
            log_event(LOG_INFO, "scorer_session", "session=%llu in_flight=%zu",
                      (unsigned long long)c.session, s->flight.count);
        if (s->flight.items_granted != before)
            s->credit_ms = clock_mono_ms(NULL);
        return 0;
    }
    if (m->kind == MESSAGE_ACK) {
        struct ack a;
        if (codec_get_ack(m, &a, e) < 0)
            return -1;
        /* in lockstep the batch waits for this very one: it is sent again after its time */
        const bool again = a.outcome == ACK_FAILED && s->run.lockstep;
        if (!again && !flight_ack(&s->flight, a.id))
            return 0;
        metrics_add(s->outcome[a.outcome], 1);
        char hex[2 * TRAJECTORY_ID_BYTES + 1];
        hash_hex(hex, a.id, sizeof a.id);
        log_event(LOG_DEBUG, "acknowledged", "trajectory=%s outcome=%s", hex, outcomes[a.outcome]);
        if (a.outcome == ACK_REJECTED || a.outcome == ACK_FAILED)
            log_event(LOG_WARN, a.outcome == ACK_REJECTED ? "trajectory_rejected" : "reward_failed",
                      "trajectory=%s reason=%s", hex, a.reason);
        return 0;
    }
    return err_set(e, ERR_INVALID, "the scorer sent a %s", message_kind_name(m->kind));
}

static int on_scorer(void *arg, struct err *e)
{
    struct sampler *s = arg;
    struct message *m;
    while (wire_recv(s->scorer, &m, 0, e) == 0) {
        const int rc = on_reply(s, m, e);
        message_free(m);
        if (rc < 0)
            log_err("scorer_message", e); /* a bad message is the scorer's fault, not a reason to end */
    }
    return e->code == ERR_TIMEOUT ? 0 : -1;
}

static void say_hello(struct sampler *s)
{
    const int64_t now = clock_mono_ms(NULL);
    if (now - s->hello_ms < HELLO_EVERY_MS)
        return;
    s->hello_ms = now;
    struct err ignored; /* the scorer is away: the next hello tries again */
    struct message *m = message_new(MESSAGE_HELLO);
    codec_put_hello(m, &(struct hello){.item_bytes = s->item_bytes, .slot = s->slot});
    if (wire_send(s->scorer, &m, &ignored) < 0)
        message_free(m);
}

static int send_due(struct sampler *s, struct err *e)
{
    struct flight_item *item;
    while ((item = flight_next(&s->flight, clock_mono_ms(NULL), s->o.resend_ms)) != NULL) {
        struct message *m = message_new(MESSAGE_TRAJECTORY);
        if (codec_put_trajectory(m, item->trajectory, e) < 0) {
            message_free(m);
            return err_wrap(e, "own trajectory");
        }
        if (wire_send(s->scorer, &m, e) < 0) {
            message_free(m);
            if (e->code == ERR_INVALID)
                return -1;
            return 0; /* not connected now, or its queue is full: the next round tries again */
        }
        flight_sent(&s->flight, item, clock_mono_ms(NULL));
    }
    return 0;
}

static int report(struct sampler *s, struct err *e)
{
    const int64_t now = clock_mono_ms(NULL);
    if (now - s->report_ms < REPORT_EVERY_MS)
        return 0;
    s->report_ms = now;
    struct report r = {.policy_version = s->applied.version, .progress = s->progress};
    snprintf(r.service, sizeof r.service, "sampler/%u", s->slot);
    memcpy(r.policy_digest, s->applied.digest, sizeof r.policy_digest);
    report_add(&r, "trajectories_made", metrics_value(s->made));
    report_add(&r, "trajectories_stored", metrics_value(s->outcome[ACK_STORED]));
    report_add(&r, "trajectories_failed",
               metrics_value(s->outcome[ACK_FAILED]) + metrics_value(s->outcome[ACK_REJECTED]));
    report_add(&r, "in_flight", (double)s->flight.count);
    report_add(&r, "make_seconds", s->make_seconds);
    return store_client_report(s->store, &r, e);
}

/* One turn of everything but sampling; also what a rollout calls between its steps. */
static int serve(void *arg, struct err *e)
{
    struct sampler *s = arg;
    s->progress++;
    monitor_alive(s->monitor);
    metrics_set(s->in_flight, (double)s->flight.count);
    metrics_set(s->policy_version, (double)s->applied.version);
    say_hello(s);
    return loop_poll(s->loop, 0, e) < 0 || send_due(s, e) < 0 || report(s, e) < 0 ? -1 : 0;
}

/* ---- sampling ---- */

/* Lockstep, the policy's batch is made and acknowledged: whether to make it again.  Where no other policy comes for long,
 * Redis may have lost what it acknowledged, and the trainer waits for just that; what it has it takes for duplicates.  An
 * update may take long as well, so that the patience grows. */
static bool make_again(struct sampler *s)
{
    const int64_t now = clock_mono_ms(NULL);
    if (s->flight.count > 0 || s->idle_since_ms == 0)
        s->idle_since_ms = now;
    if (now - s->idle_since_ms < s->patience_ms)
        return false;
    log_event(LOG_WARN, "batch_again", "version=%llu waited_seconds=%.1f why=%s", (unsigned long long)s->applied.version,
              (double)s->patience_ms / 1000.0, "no newer policy: was Redis emptied?");
    s->patience_ms *= 2;
    s->idle_since_ms = 0;
    s->counter = s->applied.version * s->run.lockstep_batch;
    return true;
}

/* How many trajectories to make now; 0: wait. */
static size_t batch_size(struct sampler *s)
{
    const struct run_spec *run = &s->run;
    uint64_t n = s->o.batch;
    if (run->lockstep) {
        /* trajectory c is made by policy c / lockstep_batch, never another; where others completed a batch meanwhile,
         * what is left of it is wanted no more */
        uint64_t due = s->counter / run->lockstep_batch;
        if (s->applied.version > due) {
            due = s->applied.version;
            s->counter = due * run->lockstep_batch;
        }
        if (s->applied.version < due) {
            if (!make_again(s))
                return 0;
            due = s->applied.version;
        }
        s->idle_since_ms = 0;
        const uint64_t left = (due + 1) * run->lockstep_batch - s->counter;
        n = n < left ? n : left;
    }
    if (clock_mono_ms(NULL) < s->rest_until_ms)
        return 0;
    const uint64_t spare = flight_spare(&s->flight, s->item_bytes);
    const uint64_t own = s->flight.count < s->o.in_flight_max ? s->o.in_flight_max - s->flight.count : 0;
    const uint64_t may = spare < own ? spare : own;
    if (may >= n)
        return (size_t)n;
    const bool patient = clock_mono_ms(NULL) - s->credit_ms < CREDIT_PATIENCE_MS;
    return patient ? 0 : (size_t)may;
}

static int make(struct sampler *s, size_t n, struct err *e)
{
    struct trajectory **batch = mem_new(n, sizeof *batch);
    const struct rollout_request q = {
        .run = &s->run,
        .kernels = s->kernels,
        .prompts = &s->prompts,
        .policy = &s->applied,
        .slot = s->slot,
        .counter = s->counter,
        .count = n,
    };
    const double from = clock_mono_s(NULL);
    if (s->o.rate > 0.0)
        s->rest_until_ms = clock_mono_ms(NULL) + (int64_t)(1000.0 * (double)n / s->o.rate);
    const int rc = rollout_make(batch, s->pipeline, &q, serve, s, e);
    if (rc == 0) {
        s->counter += n;
        metrics_add(s->made, (double)n);
        s->make_seconds += clock_mono_s(NULL) - from;
        for (size_t i = 0; i < n; i++) {
            const uint64_t bytes = codec_trajectory_bytes(batch[i]);
            flight_add(&s->flight, &batch[i], bytes);
        }
    }
    mem_free(batch);
    return rc;
}

/* Until all is acknowledged; but once the run has ended nobody takes trajectories any more. */
static int drain(struct sampler *s, struct err *e)
{
    const int64_t until = clock_mono_ms(NULL) + 2 * (int64_t)s->o.resend_ms;
    while (s->flight.count > 0 && !s->stopping && clock_mono_ms(NULL) < until)
        if (serve(s, e) < 0 || loop_poll(s->loop, 50, e) < 0)
            return -1;
    log_event(LOG_INFO, "drained", "made=%.0f stored=%.0f unacknowledged=%zu", metrics_value(s->made),
              metrics_value(s->outcome[ACK_STORED]), s->flight.count);
    return 0;
}

/* Without this the loop would stop at the signal, and read no acknowledgement while draining. */
static int go_on(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return 0;
}

int sampler_run(struct sampler *s, struct err *e)
{
    loop_on_drain(s->loop, go_on, s);
    while (!s->stopping && !loop_draining(s->loop)) {
        if (serve(s, e) < 0 || follow_newest(s, e) < 0)
            return -1;
        const size_t n = batch_size(s);
        if (n > 0 ? make(s, n, e) < 0 : loop_poll(s->loop, 20, e) < 0)
            return -1;
    }
    return drain(s, e);
}

/* ---- life ---- */

static int open_model(struct sampler *s, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX];
    uint8_t *text = NULL;
    size_t n = 0;
    if (file_join(folder, s->o.cache, s->run.run_id, e) < 0 ||
        store_client_model_fetch(s->store, &s->run, folder, e) < 0 ||
        store_client_blob_get(s->store, s->run.prompts_digest, PROMPT_SET_BYTES_MAX, &text, &n, e) < 0)
        return err_wrap(e, "fetching the run");
    const int parsed = prompt_set_parse(&s->prompts, (const char *)text, n, e);
    mem_free(text);
    const struct pipeline_options o = {.threads = s->o.threads,
                                       .latent_height = s->run.latent_height,
                                       .latent_width = s->run.latent_width};
    if (parsed < 0 || pipeline_open(&s->pipeline, folder, &o, e) < 0)
        return -1;
    s->kernels = mem_new(s->run.steps, sizeof *s->kernels);
    if (run_chain_plan(s->kernels, &s->run, pipeline_schedule(s->pipeline), e) < 0)
        return -1;
    const uint32_t states = rollout_states(&s->run, s->kernels);
    if (states > TRAJECTORY_STATES_MAX)
        return err_set(e, ERR_INVALID,
                       "a trajectory of this run has up to %u states and %d can be sent: lower run.transition_fraction to %.2f, "
                       "or run.steps",
                       states, TRAJECTORY_STATES_MAX, 50 * TRAJECTORY_STATES_MAX / s->run.steps * 0.01);
    s->item_bytes = rollout_bytes(&s->run, s->kernels, pipeline_shape(s->pipeline));
    if (s->item_bytes > s->o.message_max)
        return err_set(e, ERR_INVALID,
                       "a trajectory of this run has up to %llu bytes and net.trajectory_max is %llu: set it to %lluMiB or more "
                       "for samplers and scorers, or lower run.steps or run.transition_fraction, or raise "
                       "run.forward_looking_abar (or forward_looking: no)",
                       (unsigned long long)s->item_bytes, (unsigned long long)s->o.message_max,
                       (unsigned long long)((s->item_bytes + (1u << 20) - 1) >> 20));
    return 0;
}

static int open_monitor(struct sampler *s, struct err *e)
{
    if (monitor_open(&s->monitor, "sampler", s->o.listen, ALIVE_MS, e) < 0)
        return -1;
    struct metrics *m = monitor_metrics(s->monitor);
    s->made = metrics_counter(m, "trajectories_total", "trajectories made", METRICS_NO_LABELS);
    for (int i = 0; i <= ACK_FAILED; i++)
        s->outcome[i] = metrics_counter(m, "acknowledged_total", "trajectories acknowledged, by outcome",
                                        METRICS_LABEL("outcome", outcomes[i]));
    s->in_flight = metrics_gauge(m, "in_flight", "made and not yet acknowledged", METRICS_NO_LABELS);
    s->policy_version = metrics_gauge(m, "policy_version", "policy applied", METRICS_NO_LABELS);
    return 0;
}

int sampler_open(struct sampler **out, struct wire_net *net, struct loop *loop,
                 const struct sampler_options *o, struct err *e)
{
    struct sampler *s = mem_new(1, sizeof *s);
    char host[CODEC_HOST_BYTES] = "";
    s->o = *o;
    s->loop = loop;
    if (open_monitor(s, e) < 0 ||
        store_client_open(&s->store, net, &(struct store_client_options){.endpoint = o->store}, e) < 0 ||
        store_client_run(s->store, &s->run, e) < 0 || store_client_slot_take(s->store, &s->slot, e) < 0 ||
        store_client_policy(s->store, NULL, &s->newest, e) < 0 || open_model(s, e) < 0 ||
        news_open(&s->news, net, o->news, NEWS_WANT_POLICY | NEWS_WANT_STOP, e) < 0 ||
        wire_open(&s->scorer, net, WIRE_SCORER_CLIENT, o->scorer, e) < 0 ||
        loop_add_wire(loop, news_wire(s->news), on_news, s, e) < 0 ||
        loop_add_wire(loop, s->scorer, on_scorer, s, e) < 0) {
        sampler_close(s);
        return -1;
    }
    /* a sampler that joins late makes the current policy's trajectories, not the first ones */
    s->counter = s->run.lockstep ? s->newest.version * s->run.lockstep_batch : 0;
    s->credit_ms = clock_mono_ms(NULL);
    s->patience_ms = RESENDS_PATIENCE * (int64_t)o->resend_ms;
    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = 0;
    log_event(LOG_INFO, "ready", "run=%s slot=%u host=%s policy=%llu bytes_bound=%llu", s->run.run_id, s->slot,
              host, (unsigned long long)s->newest.version, (unsigned long long)sampler_bytes_bound(s));
    *out = s;
    return 0;
}

void sampler_close(struct sampler *s)
{
    if (s == NULL)
        return;
    if (s->scorer != NULL)
        loop_remove_wire(s->loop, s->scorer);
    if (s->news != NULL)
        loop_remove_wire(s->loop, news_wire(s->news));
    wire_close(s->scorer);
    news_close(s->news);
    store_client_close(s->store);
    flight_done(&s->flight);
    pipeline_close(s->pipeline);
    mem_free(s->kernels);
    prompt_set_done(&s->prompts);
    run_spec_done(&s->run);
    monitor_close(s->monitor);
    mem_free(s);
}

uint64_t sampler_bytes_bound(const struct sampler *s)
{
    return pipeline_bytes(s->pipeline) + (uint64_t)s->o.in_flight_max * s->item_bytes +
           wire_bytes_bound(s->scorer, 1);
}
