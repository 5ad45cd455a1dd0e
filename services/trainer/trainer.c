#include "trainer/trainer.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "metrics/stats.h"
#include "run/monitor.h"
#include "run/run_chain.h"
#include "run/run_rules.h"
#include "wire/store_client.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 50            /* between looks into a replay that has too little */
#define ROOM_EVERY_MS 5000    /* a wait for a batch asks so often whether there is room for one */
#define ALIVE_EVERY_MS 2000
#define ALIVE_MS 120000 /* one micro-batch, of a large model on a slow machine, stays far below */
#define BLOB_BYTES_MAX ((size_t)32 << 30)

struct trainer {
    struct trainer_options o;
    struct loop *loop; /* borrowed */
    struct store_client *store;
    struct replay *replay;
    struct learner *learner;
    struct run_spec run;
    struct transition_kernel *kernels;
    uint8_t chain[HASH_SHA256_BYTES]; /* schedule digest that every trajectory must carry */
    uint64_t token;

    struct policy_ref policy;   /* published last */
    uint64_t checkpoint_step;   /* durable */
    uint64_t progress;
    int64_t alive_ms;
    char gauge[TRAJECTORY_COMPONENTS_MAX][TRAJECTORY_NAME_BYTES_MAX]; /* components that /metrics shows */
    size_t gauges;
    double wait_seconds, train_seconds, publish_seconds; /* of the step under way */
    struct monitor *monitor;
    bool replay_away;
    double path_kl[TRAINER_GUARD_UPDATES]; /* of the newest updates of this process */
    size_t path_kls;
    bool too_far;
};

static int report_alive(struct trainer *t, struct err *e)
{
    const int64_t now = clock_mono_ms(NULL);
    if (now - t->alive_ms < ALIVE_EVERY_MS)
        return 0;
    t->alive_ms = now;
    struct report r = {.policy_version = t->policy.version, .progress = t->progress};
    snprintf(r.service, sizeof r.service, "trainer");
    memcpy(r.policy_digest, t->policy.digest, sizeof r.policy_digest);
    return store_client_report(t->store, &r, e);
}

static int serve(void *arg, struct err *e)
{
    struct trainer *t = arg;
    t->progress++;
    monitor_alive(t->monitor);
    return loop_poll(t->loop, 0, e) < 0 ? -1 : report_alive(t, e);
}

/* ---- while Redis is away ---- */

/* A full one (OOM) takes nothing now, as one that is not there. */
static bool is_away(const struct err *e)
{
    return e->code == ERR_UNAVAILABLE || e->code == ERR_FULL;
}

/* Whether a call that failed for want of Redis is to be made again: after a moment, and not once we are asked to end. */
static bool again(struct trainer *t, struct err *e)
{
    struct err why;
    if (!is_away(e))
        return false;
    if (!t->replay_away)
        log_err("replay_away", e);
    t->replay_away = true;
    if (serve(t, &why) < 0 || loop_poll(t->loop, WAIT_MS, &why) < 0) {
        *e = why;
        return false;
    }
    return !loop_draining(t->loop);
}

static int open_replay(struct trainer *t, struct err *e)
{
    int rc;
    do
        rc = t->replay == NULL && replay_open(&t->replay, &t->o.replay, e) < 0 ? -1 : replay_fence(t->replay, t->token, e);
    while (rc < 0 && again(t, e));
    return rc < 0 && is_away(e) ? err_set(e, ERR_CLOSED, "asked to end") : rc;
}

/* Tells the replay of a step.  Where we are asked to end meanwhile, the next start does it. */
static int tell_step(struct trainer *t, int (*tell)(struct replay *r, uint64_t step, struct err *e), uint64_t step,
                     struct err *e)
{
    int rc;
    do
        rc = tell(t->replay, step, e);
    while (rc < 0 && again(t, e));
    return rc < 0 && is_away(e) ? 0 : rc;
}

/* What the checkpoint of `step` covers may be forgotten. */
static int commit(struct trainer *t, uint64_t step, struct err *e)
{
    return tell_step(t, replay_commit, step, e);
}

/* The updates from `step` on are made (again).  Not in lockstep: there the batches of a committed step cannot come again. */
static int rewind_replay(struct trainer *t, uint64_t step, struct err *e)
{
    return t->run.lockstep ? 0 : tell_step(t, replay_rewind, step, e);
}

/* ---- publishing ---- */

static int publish_policy(struct trainer *t, struct err *e)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    struct policy_publish p = {.version = learner_step(t->learner)};
    int rc = learner_policy(t->learner, &bytes, &n, e);
    if (rc == 0)
        rc = store_client_blob_put(t->store, bytes, n, p.digest, e);
    if (rc == 0)
        rc = store_client_policy_publish(t->store, &p, &t->policy, e);
    mem_free(bytes);
    return rc < 0 ? err_wrap(e, "publishing policy %llu", (unsigned long long)p.version) : 0;
}

static int write_checkpoint(struct trainer *t, struct err *e)
{
    struct learner_blob blob[LEARNER_BLOBS] = {0};
    struct checkpoint_ref ck = {.step = learner_step(t->learner), .blob_count = LEARNER_BLOBS};
    if (ck.step == t->checkpoint_step)
        return 0;
    int rc = learner_save(t->learner, blob, e);
    for (size_t i = 0; rc == 0 && i < LEARNER_BLOBS; i++) {
        snprintf(ck.blobs[i].name, sizeof ck.blobs[i].name, "%s", blob[i].name);
        ck.blobs[i].bytes = blob[i].n;
        rc = store_client_blob_put(t->store, blob[i].bytes, blob[i].n, ck.blobs[i].digest, e);
    }
    if (rc == 0)
        rc = store_client_checkpoint_publish(t->store, &ck, e);
    if (rc == 0)
        rc = commit(t, ck.step, e); /* only now that it is durable */
    for (size_t i = 0; i < LEARNER_BLOBS; i++)
        mem_free(blob[i].bytes);
    if (rc < 0)
        return err_wrap(e, "checkpoint %llu", (unsigned long long)ck.step);
    t->checkpoint_step = ck.step;
    log_event(LOG_INFO, "checkpoint", "step=%llu", (unsigned long long)ck.step);
    return 0;
}

/* The first TRAJECTORY_COMPONENTS_MAX names of this process have a gauge: names are a service's choice, and series are few. */
static bool has_gauge(struct trainer *t, const char *name)
{
    size_t at = 0;
    while (at < t->gauges && strcmp(t->gauge[at], name) != 0)
        at++;
    if (at == TRAJECTORY_COMPONENTS_MAX)
        return false;
    if (at == t->gauges)
        snprintf(t->gauge[t->gauges++], sizeof t->gauge[0], "%s", name);
    return true;
}

/* Means over the batch of what the final rewards were made of, by name; each over the trajectories that have it (some
 * rewards are for some prompts alone). */
static void report_components(struct trainer *t, struct report *r, struct trajectory *const *batch)
{
    struct {
        const char *name;
        struct stats of;
    } found[TRAJECTORY_COMPONENTS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < t->o.batch; i++)
        for (uint32_t k = 0; k < batch[i]->component_count; k++) {
            const struct trajectory_component *c = &batch[i]->components[k];
            size_t at = 0;
            while (at < count && strcmp(found[at].name, c->name) != 0)
                at++;
            if (at == TRAJECTORY_COMPONENTS_MAX)
                continue;
            if (at == count) {
                found[count++].name = c->name;
                stats_init(&found[at].of);
            }
            stats_add(&found[at].of, c->value);
        }
    for (size_t i = 0; i < count; i++) {
        char name[CODEC_NAME_BYTES];
        snprintf(name, sizeof name, "component/%.*s", (int)utf8_fit(found[i].name, 36), found[i].name);
        report_add(r, name, found[i].of.mean);
        if (!has_gauge(t, found[i].name))
            continue;
        metrics_set(metrics_gauge(monitor_metrics(t->monitor), "reward_component", "mean of the newest update's batch",
                                  METRICS_LABEL("name", found[i].name)),
                    found[i].of.mean);
    }
}

static int report_step(struct trainer *t, const struct learner_stats *s, const struct replay_stats *replay,
                       struct trajectory *const *batch, double staleness, struct err *e)
{
    struct report r = {.step = learner_step(t->learner),
                       .policy_version = t->policy.version,
                       .progress = t->progress};
    snprintf(r.service, sizeof r.service, "trainer");
    memcpy(r.policy_digest, t->policy.digest, sizeof r.policy_digest);
    const struct report_metric metrics[] = {
        {"reward_mean", s->reward_mean},
        {"reward_sd", s->reward_sd},
        {"spread", s->spread},
        {"loss", s->loss},
        {"delta_mean", s->delta_mean},
        {"delta_abs", s->delta_abs},
        {"delta_rms", s->delta_rms},
        {"log_pf", s->log_pf},
        {"log_pb", s->log_pb},
        {"log_ratio", s->log_ratio},
        {"flow", s->flow_mean},
        {"grad_norm", s->grad_norm},
        {"flow_grad_norm", s->flow_grad_norm},
        {"beta", s->beta},
        {"weight_mean", s->weight_mean},
        {"weight_ess", s->weight_ess},
        {"clipped", s->clipped},
        {"delta_abs_1", s->quarter[0].delta_abs},
        {"delta_abs_2", s->quarter[1].delta_abs},
        {"delta_abs_3", s->quarter[2].delta_abs},
        {"delta_abs_4", s->quarter[3].delta_abs},
        {"clipped_1", s->quarter[0].clipped},
        {"clipped_2", s->quarter[1].clipped},
        {"clipped_3", s->quarter[2].clipped},
        {"clipped_4", s->quarter[3].clipped},
        {"path_kl", s->path_kl},
        {"staleness", staleness},
        {"trajectories", (double)(t->o.batch) * (double)r.step},
        {"transitions", (double)s->transitions},
        {"replay_items", (double)replay->items},
        {"replay_bytes", (double)replay->bytes},
        {"replay_inserted", (double)replay->inserted},
        {"replay_evicted", (double)(replay->evicted_age + replay->evicted_bytes)},
        {"wait_seconds", t->wait_seconds},
        {"train_seconds", t->train_seconds},
        {"publish_seconds", t->publish_seconds},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        if (isfinite(metrics[i].value)) {
            report_add(&r, metrics[i].name, metrics[i].value);
            metrics_set(metrics_gauge(monitor_metrics(t->monitor), metrics[i].name, "of the newest update",
                                      METRICS_NO_LABELS),
                        metrics[i].value);
        }
    report_components(t, &r, batch);
    log_event(LOG_INFO, "update",
              "step=%llu of=%llu reward_mean=%.4f reward_sd=%.4f loss=%.4g staleness=%.2f wait_seconds=%.2f train_seconds=%.2f",
              (unsigned long long)r.step, (unsigned long long)t->run.iterations, s->reward_mean, s->reward_sd, s->loss,
              staleness, t->wait_seconds, t->train_seconds);
    return store_client_report(t->store, &r, e);
}

/* ---- one step ---- */

/* What logged batches name is not evicted before a checkpoint covers it.  Where it leaves no room for the next batch, that
 * checkpoint is due now. */
static int make_room(struct trainer *t, struct err *e)
{
    struct replay_stats s;
    if (replay_stats(t->replay, &s, e) < 0)
        return is_away(e) ? 0 : -1;
    /* in lockstep a batch waits for the trajectories of its policy alone */
    const uint64_t least = t->run.lockstep ? 0 : t->o.replay.items_min, want = t->o.batch > least ? t->o.batch : least;
    if (s.items == 0 || (s.items_pinned + want + 1) * (s.bytes / s.items) <= t->o.replay.bytes_max)
        return 0;
    const bool due = learner_step(t->learner) != t->checkpoint_step;
    log_event(due ? LOG_WARN : LOG_ERROR, "replay_full", "items=%llu pinned=%llu wanted=%llu bytes=%llu bytes_max=%llu mend=%s",
              (unsigned long long)s.items, (unsigned long long)s.items_pinned, (unsigned long long)want,
              (unsigned long long)s.bytes, (unsigned long long)t->o.replay.bytes_max,
              due ? "a checkpoint is written before its time: raise replay.bytes_max or lower trainer.checkpoint_every"
                  : "replay.bytes_max does not hold a batch: raise it, or lower trainer.batch or replay.items_min");
    return due ? write_checkpoint(t, e) : 0;
}

/* Waits for the batch of the next step; ERR_CLOSED when the loop drains meanwhile. */
static int wait_batch(struct trainer *t, struct trajectory **batch, struct err *e)
{
    const struct replay_batch_request q = {
        .step = learner_step(t->learner) + 1,
        .count = t->o.batch,
        .selector = t->o.selector,
        .priority_k = t->o.priority_k,
        .policy_version = t->policy.version,
        .exact_version = t->run.lockstep,
        .seed = t->run.seed,
    };
    int64_t room_ms = clock_mono_ms(NULL) + ROOM_EVERY_MS;
    for (;;) {
        if (replay_batch(t->replay, &q, batch, e) == 0) {
            t->replay_away = false;
            return 0;
        }
        if (e->code != ERR_TIMEOUT && !is_away(e))
            return err_wrap(e, "batch of step %llu", (unsigned long long)q.step);
        if (is_away(e) && !t->replay_away)
            log_err("replay_away", e);
        t->replay_away = is_away(e);
        if (!t->replay_away && clock_mono_ms(NULL) >= room_ms) {
            if (make_room(t, e) < 0)
                return -1;
            room_ms = clock_mono_ms(NULL) + ROOM_EVERY_MS;
        }
        if (serve(t, e) < 0 || loop_poll(t->loop, WAIT_MS, e) < 0)
            return -1;
        if (loop_draining(t->loop))
            return err_set(e, ERR_CLOSED, "asked to end");
    }
}

static int check_batch(const struct trainer *t, struct trajectory *const *batch, double *staleness, struct err *e)
{
    *staleness = 0.0;
    for (uint32_t i = 0; i < t->o.batch; i++) {
        if (memcmp(batch[i]->schedule_digest, t->chain, sizeof t->chain) != 0)
            return err_set(e, ERR_INVALID, "the replay holds a trajectory of another chain: is its Redis shared with another run?");
        if (trajectory_latent_elements(batch[i]) * sizeof(float) != learner_latent_bytes(t->learner))
            return err_set(e, ERR_INVALID, "the replay holds latents of %ux%ux%u, which this model does not have",
                           batch[i]->latent_height, batch[i]->latent_width, batch[i]->latent_channels);
        *staleness += ((double)t->policy.version - (double)batch[i]->policy_version) / (double)t->o.batch;
    }
    return 0;
}

/* Notes the path-KL of an update, NAN where it was not measured, and whether the policy has gone too far from the base
 * model. */
static void guard(struct trainer *t, double path_kl)
{
    double mean = 0.0;
    if (t->o.path_kl_max <= 0.0 || !isfinite(path_kl))
        return;
    t->path_kl[t->path_kls++ % TRAINER_GUARD_UPDATES] = path_kl;
    for (size_t i = 0; i < TRAINER_GUARD_UPDATES; i++)
        mean += t->path_kl[i] / TRAINER_GUARD_UPDATES;
    t->too_far = t->path_kls >= TRAINER_GUARD_UPDATES && mean > t->o.path_kl_max;
    if (t->too_far)
        log_event(LOG_WARN, "path_kl_reached", "step=%llu mean=%.4g max=%.4g mend=%s",
                  (unsigned long long)learner_step(t->learner), mean, t->o.path_kl_max,
                  "the run ends; to go farther raise trainer.path_kl_max");
}

/* Priorities in, statistics out: neither is worth ending for when Redis is away at the end. */
static int tell_replay(struct trainer *t, uint8_t (*ids)[TRAJECTORY_ID_BYTES], const double *delta, size_t n,
                       struct replay_stats *stats, struct err *e)
{
    int rc;
    do
        rc = replay_prioritise(t->replay, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, n, e) < 0
                 ? -1
                 : replay_stats(t->replay, stats, e); /* which says loudly when Redis was emptied */
    while (rc < 0 && again(t, e));
    return rc < 0 && is_away(e) ? 0 : rc;
}

static int one_step(struct trainer *t, struct err *e)
{
    const uint32_t n = t->o.batch;
    struct trajectory **batch = mem_new(n, sizeof *batch);
    double *delta = mem_new(n, sizeof *delta);
    uint8_t(*ids)[TRAJECTORY_ID_BYTES] = mem_new(n, sizeof *ids);
    struct learner_stats stats;
    struct replay_stats replay = {0};
    double staleness;
    int rc = -1;

    const double begun = clock_mono_s(NULL);
    if (wait_batch(t, batch, e) < 0 || check_batch(t, batch, &staleness, e) < 0)
        goto out;
    const double got = clock_mono_s(NULL);
    if (learner_update(t->learner, batch, n, &stats, delta, serve, t, e) < 0)
        goto out;
    guard(t, stats.path_kl);
    const double trained = clock_mono_s(NULL);
    for (uint32_t i = 0; i < n; i++)
        memcpy(ids[i], batch[i]->id, sizeof ids[i]);
    if (publish_policy(t, e) < 0 || tell_replay(t, ids, delta, n, &replay, e) < 0)
        goto out;
    t->wait_seconds = got - begun;
    t->train_seconds = trained - got;
    t->publish_seconds = clock_mono_s(NULL) - trained;
    if (report_step(t, &stats, &replay, batch, staleness, e) < 0)
        goto out;
    rc = learner_step(t->learner) % t->o.checkpoint_every == 0 ? write_checkpoint(t, e) : 0;
out:
    for (uint32_t i = 0; i < n; i++)
        trajectory_free(batch[i]);
    mem_free(ids);
    mem_free(delta);
    mem_free(batch);
    return rc;
}

static bool is_done(const struct trainer *t)
{
    return t->too_far || learner_step(t->learner) >= t->run.iterations;
}

int trainer_run(struct trainer *t, struct err *e)
{
    while (!is_done(t) && !loop_draining(t->loop))
        if (one_step(t, e) < 0 && e->code != ERR_CLOSED)
            return -1;
    if (write_checkpoint(t, e) < 0)
        return -1;
    log_event(LOG_INFO, "trained", "steps=%llu of=%llu", (unsigned long long)learner_step(t->learner),
              (unsigned long long)t->run.iterations);
    return is_done(t) ? store_client_stop(t->store, e) : 0;
}

/* ---- life ---- */

/* Loads the newest checkpoint, if there is one, and publishes its policy again (a repetition). */
static int restore(struct trainer *t, struct err *e)
{
    struct checkpoint_ref ck;
    struct learner_blob blob[LEARNER_BLOBS] = {0};
    if (store_client_checkpoint_get(t->store, &ck, e) < 0)
        return -1;
    if (ck.blob_count == 0)
        return rewind_replay(t, 0, e) < 0 ? -1 : store_client_policy(t->store, NULL, &t->policy, e);
    int rc = ck.blob_count <= LEARNER_BLOBS ? 0 : err_set(e, ERR_INVALID, "%u blobs", ck.blob_count);
    for (uint32_t i = 0; rc == 0 && i < ck.blob_count; i++) {
        blob[i].name = ck.blobs[i].name;
        rc = store_client_blob_get(t->store, ck.blobs[i].digest, BLOB_BYTES_MAX, &blob[i].bytes, &blob[i].n, e);
    }
    if (rc == 0)
        rc = learner_restore(t->learner, blob, e);
    for (size_t i = 0; i < LEARNER_BLOBS; i++)
        mem_free(blob[i].bytes);
    if (rc < 0)
        return err_wrap(e, "resuming from checkpoint %llu", (unsigned long long)ck.step);
    t->checkpoint_step = ck.step;
    log_event(LOG_INFO, "resumed", "step=%llu", (unsigned long long)ck.step);
    /* it was durable, and perhaps its trainer ended before it could say so */
    return rewind_replay(t, ck.step, e) < 0 || commit(t, ck.step, e) < 0 ? -1 : publish_policy(t, e);
}

static int open_learner(struct trainer *t, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX];
    if (file_join(folder, t->o.cache, t->run.run_id, e) < 0 ||
        store_client_model_fetch(t->store, &t->run, folder, e) < 0)
        return err_wrap(e, "fetching the model");
    t->kernels = mem_new(t->run.steps, sizeof *t->kernels);
    struct learner_options *o = &t->o.learner;
    o->model_folder = folder;
    o->kernels = t->kernels;
    o->steps = t->run.steps;
    o->seed = t->run.seed;
    o->guidance = t->run.guidance;
    o->updates_total = t->run.iterations;
    o->latent_height = t->run.latent_height;
    o->latent_width = t->run.latent_width;
    if (learner_open(&t->learner, o, e) < 0)
        return -1;
    o->model_folder = NULL;
    return run_chain_plan(t->kernels, &t->run, learner_schedule(t->learner), e);
}

int trainer_open(struct trainer **out, struct wire_net *net, struct loop *loop,
                 const struct trainer_options *o, struct err *e)
{
    struct trainer *t = mem_new(1, sizeof *t);
    t->o = *o;
    t->loop = loop;
    if (monitor_open(&t->monitor, "trainer", o->listen, ALIVE_MS, e) < 0 ||
        store_client_open(&t->store, net, &(struct store_client_options){.endpoint = o->store}, e) < 0 ||
        store_client_run(t->store, &t->run, e) < 0 || store_client_token_take(t->store, &t->token, e) < 0)
        goto fail;
    run_chain_digest(t->chain, &t->run);
    t->o.replay.run_id = t->run.run_id;
    if (run_rules_objective(&t->run, o->learner.objective.kind, e) < 0 || run_rules_batch(&t->run, o->batch, e) < 0 ||
        open_learner(t, e) < 0 || open_replay(t, e) < 0 || restore(t, e) < 0)
        goto fail;
    log_event(LOG_INFO, "ready", "run=%s token=%llu step=%llu bytes_bound=%llu", t->run.run_id,
              (unsigned long long)t->token, (unsigned long long)learner_step(t->learner),
              (unsigned long long)trainer_bytes_bound(t));
    *out = t;
    return 0;
fail:
    trainer_close(t);
    return -1;
}

void trainer_close(struct trainer *t)
{
    if (t == NULL)
        return;
    replay_close(t->replay);
    learner_close(t->learner);
    store_client_close(t->store);
    mem_free(t->kernels);
    run_spec_done(&t->run);
    monitor_close(t->monitor);
    mem_free(t);
}

uint64_t trainer_bytes_bound(const struct trainer *t)
{
    /* weights and work memory, and one batch of trajectories */
    const uint64_t states = (uint64_t)t->run.steps + 1;
    return learner_bytes(t->learner) +
           (uint64_t)t->o.batch * states * learner_latent_bytes(t->learner);
}
