#include "trainer/learner_parts.h"

#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/step.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define FLOW_HEADS 4
#define FLOW_NORM_GROUPS 8
#define FLOW_SEED 0x666c6f77u
#define KL_STREAM 0x6b6c00u
#define CLIP_NATS 1.64 /* 1e-4 in the mean over the 16384 elements of a latent of Stable Diffusion */

/* ---- life ---- */

static int open_flow(struct learner *l, struct err *e)
{
    struct logflow_config *c = &l->flow_config;
    c->in_channels = l->shape->latent_channels;
    c->cross_attention_dim = l->shape->condition_width;
    c->heads = FLOW_HEADS;
    c->norm_groups = FLOW_NORM_GROUPS;
    c->levels = l->o.flow_levels;
    for (size_t i = 0; i < c->levels; i++) {
        c->channels[i] = l->o.flow_channels[i];
        if (c->channels[i] % FLOW_NORM_GROUPS != 0)
            return err_set(e, ERR_INVALID, "flow network: %zu channels; every level needs a multiple of %d",
                           c->channels[i], FLOW_NORM_GROUPS);
    }
    l->flow_params = params_new();
    logflow_declare(l->flow_params, c);
    if (params_seal(l->flow_params, e) < 0)
        return -1;
    params_init(l->flow_params, 0, l->o.seed ^ FLOW_SEED);
    params_touch_all(l->flow_params);
    l->flow_shape = (struct logflow_shape){.config = c,
                                           .H = l->shape->latent_height,
                                           .W = l->shape->latent_width,
                                           .L = l->shape->tokens};
    l->flow_runner = runner_new((struct runner_options){.pool = pipeline_pool(l->pipeline),
                                                        .params = l->flow_params,
                                                        .build = logflow_build,
                                                        .arg = &l->flow_shape});
    return optim_open(&l->flow, l->flow_params, pipeline_pool(l->pipeline), false, e);
}

int learner_open(struct learner **out, const struct learner_options *o, struct err *e)
{
    struct learner *l = mem_new(1, sizeof *l);
    l->o = *o;
    const struct pipeline_options po = {.threads = o->threads,
                                        .train = true,
                                        .lora_rank = o->lora_rank,
                                        .latent_height = o->latent_height,
                                        .latent_width = o->latent_width};
    if (pipeline_open(&l->pipeline, o->model_folder, &po, e) < 0)
        goto fail;
    l->o.model_folder = NULL; /* read; the caller's string may go */
    l->shape = pipeline_shape(l->pipeline);
    struct objective_settings *const objective = &l->o.objective;
    if (objective->scale == 0.0)
        objective->scale = density_scale(DENSITY_MEAN, l->shape->latent_elements);
    if (objective->clip == 0.0)
        objective->clip = CLIP_NATS * objective->scale;
    l->needs = objective_needs(objective->kind);
    if (objective->kind == OBJECTIVE_DDPO)
        l->advantage = advantage_new();
    if (optim_open(&l->policy, pipeline_params(l->pipeline), pipeline_pool(l->pipeline), false, e) < 0 ||
        open_flow(l, e) < 0)
        goto fail;

    /* whole trajectories go into a micro-batch, so it must hold at least one */
    const size_t allowed = pipeline_train_batch_max(l->pipeline);
    const size_t most = o->micro_batch > 0 && o->micro_batch < allowed ? o->micro_batch : allowed;
    if (micro_batch_open(l, most > o->steps + 1 ? most : o->steps + 1, e) < 0)
        goto fail;
    *out = l;
    return 0;
fail:
    learner_close(l);
    return -1;
}

void learner_close(struct learner *l)
{
    if (l == NULL)
        return;
    runner_free(l->flow_runner);
    optim_done(&l->flow);
    optim_done(&l->policy);
    params_free(l->flow_params);
    pipeline_close(l->pipeline);
    micro_batch_close(l);
    mem_free(l->in);
    mem_free(l->cotangent);
    mem_free(l->chain);
    advantage_free(l->advantage);
    advantage_free(l->advantage_next);
    mem_free(l);
}

uint64_t learner_step(const struct learner *l)
{
    return l->step;
}

const struct schedule *learner_schedule(const struct learner *l)
{
    return pipeline_schedule(l->pipeline);
}

uint64_t learner_latent_bytes(const struct learner *l)
{
    return l->shape->latent_elements * sizeof(float);
}

uint64_t learner_bytes(const struct learner *l)
{
    return pipeline_bytes(l->pipeline) + runner_bytes(l->flow_runner) +
           (3 * l->policy.count + 4 * l->flow.count) * sizeof(real) + micro_batch_bytes(l);
}

/* ---- the update ---- */

/* An update under way: its batch, cut into micro-batches of whole trajectories. */
struct update {
    struct trajectory *const *batch;
    size_t n, transitions;
    struct objective_settings objective;
    struct learner_stats *stats;
    double *delta_abs; /* [n] or NULL */
    int (*poll)(void *, struct err *);
    void *poll_arg;
};

/* The end of the micro-batch that begins at `first`. */
static size_t micro_batch_end(const struct learner *l, const struct update *u, size_t first)
{
    size_t last = first, states = 0;
    while (last < u->n && states + u->batch[last]->state_count <= l->states_max)
        states += u->batch[last++]->state_count;
    assert(last > first);
    return last;
}

/* Scores trajectories [first, last): l->in of their transitions. */
static int score(struct learner *l, const struct update *u, size_t first, size_t last, bool train, struct err *e)
{
    micro_batch_gather(l, u->batch, first, last);
    if (micro_batch_forward(l, train, e) < 0)
        return -1;
    for (size_t i = 0; i < l->n_transitions; i++)
        l->in[l->chain[first].first + i] = micro_batch_transition(l, i);
    return 0;
}

static void objective(struct learner *l, const struct update *u, size_t first, size_t last)
{
    const struct objective_batch b = {.transition = l->in,
                                      .chain = l->chain + first,
                                      .m = last - first,
                                      .transitions = u->transitions,
                                      .chains = u->n};
    objective_run(l->cotangent, &b, &u->objective);
}

/* Backward through the trajectories from `first` on that were scored last. */
static int learn(struct learner *l, const struct update *u, size_t first, struct err *e)
{
    const size_t at = l->chain[first].first;
    memset(l->d_flow, 0, l->n_states * sizeof *l->d_flow);
    for (size_t i = 0; i < l->n_transitions; i++)
        u->stats->loss += micro_batch_cotangent(l, i, &l->cotangent[at + i], l->in[at + i].terminal, u->transitions);
    return micro_batch_backward(l, e);
}

/* Every gradient of the update, once or twice through its trajectories. */
static int gradients(struct learner *l, const struct update *u, struct err *e)
{
    const bool twice = l->needs.whole_batch && micro_batch_end(l, u, 0) < u->n;
    for (int pass = twice ? 0 : 1; pass < 2; pass++) {
        for (size_t first = 0, last; first < u->n; first = last) {
            last = micro_batch_end(l, u, first);
            if (score(l, u, first, last, pass == 1, e) < 0)
                return -1;
            if (!twice)
                objective(l, u, first, last);
            if (pass == 1 && learn(l, u, first, e) < 0)
                return -1;
            if (u->poll != NULL && u->poll(u->poll_arg, e) < 0)
                return -1;
        }
        if (pass == 0)
            objective(l, u, 0, u->n);
    }
    return 0;
}

static void describe_batch(const struct learner *l, struct trajectory *const *batch, size_t n,
                           struct learner_stats *stats)
{
    const size_t D = l->shape->latent_elements;
    double sum = 0.0, square = 0.0, distance = 0.0;
    size_t pairs = 0;
    for (size_t i = 0; i < n; i++) {
        sum += batch[i]->reward;
        square += batch[i]->reward * batch[i]->reward;
        for (size_t j = i + 1; j < n; j++) {
            if (batch[i]->prompt_index != batch[j]->prompt_index)
                continue;
            const float *a = batch[i]->latents + (batch[i]->state_count - 1) * D;
            const float *b = batch[j]->latents + (batch[j]->state_count - 1) * D;
            double d2 = 0.0;
            for (size_t k = 0; k < D; k++)
                d2 += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
            distance += sqrt(d2 / (double)D);
            pairs++;
        }
    }
    stats->reward_mean = sum / (double)n;
    const double var = square / (double)n - stats->reward_mean * stats->reward_mean;
    stats->reward_sd = var > 0.0 ? sqrt(var) : 0.0;
    stats->spread = pairs > 0 ? distance / (double)pairs : (double)NAN;
}

/* Both networks step, or neither does. */
static int step_both(struct learner *l, struct learner_stats *stats, struct err *e)
{
    if (optim_grad_norm(&l->policy, &stats->grad_norm, e) < 0 ||
        optim_grad_norm(&l->flow, &stats->flow_grad_norm, e) < 0)
        return -1;
    const double share = objective_decay(l->o.lr_final, l->step, l->o.updates_total);
    struct adamw_settings s = {.lr = l->o.lr * share,
                               .beta1 = l->o.beta1,
                               .beta2 = l->o.beta2,
                               .eps = l->o.eps,
                               .weight_decay = l->o.weight_decay};
    optim_step(&l->policy, &s, l->step + 1, adamw_clip_factor(stats->grad_norm, l->o.grad_norm_max));
    s.lr = l->o.flow_lr * share;
    optim_step(&l->flow, &s, l->step + 1, adamw_clip_factor(stats->flow_grad_norm, l->o.grad_norm_max));
    return pipeline_touch(l->pipeline, e);
}

/* The path-KL to the base model, sum over the chain of |mean - mean_base|^2 / 2v, estimated on kl_states transitions of
 * the batch that are drawn by (seed, step). */
static int measure_kl(struct learner *l, struct trajectory *const *batch, size_t n, double *kl, struct err *e)
{
    const size_t D = l->shape->latent_elements;
    const size_t most = l->states_max < LEARNER_KL_STATES_MAX ? l->states_max : LEARNER_KL_STATES_MAX;
    const size_t K = l->o.kl_states < most ? l->o.kl_states : most;
    if (K == 0)
        return 0;
    struct rng g = rng_stream(l->o.seed, KL_STREAM, (uint32_t)l->step);
    const struct transition_kernel *kernel[LEARNER_KL_STATES_MAX];
    double share[LEARNER_KL_STATES_MAX];
    for (size_t i = 0; i < K; i++) {
        const struct trajectory *t = batch[rng_below(&g, n)];
        const uint32_t trainable = t->states[t->state_count - 1].step, at = (uint32_t)rng_below(&g, t->transition_count);
        const struct trajectory_transition *x = &t->transitions[at];
        uint32_t first;
        if (pipeline_condition(l->pipeline, t->prompt, &l->conditions[i], NULL, e) < 0)
            return -1;
        kernel[i] = &l->o.kernels[x->step];
        l->times[i] = (double)kernel[i]->t;
        memcpy(l->x + i * D, t->latents + (size_t)x->from * D, D * sizeof *l->x);
        /* drawn with probability 1 / (count * its stratum) */
        share[i] = t->transition_count * trajectory_stratum(trainable, t->transition_count, at, &first) / (double)K;
    }
    if (pipeline_predict(l->pipeline, l->out, NULL, l->x, l->times, l->conditions, K, l->o.guidance, e) < 0 ||
        pipeline_predict_base(l->pipeline, l->d_out, l->x, l->times, l->conditions, K, l->o.guidance, e) < 0)
        return -1;
    *kl = 0.0;
    for (size_t i = 0; i < K; i++)
        *kl += share[i] * step_kl(kernel[i], l->out + i * D, l->d_out + i * D, D);
    return 0;
}

/* log N(x; 0, I), nats. */
static double log_standard_normal(const float *x, size_t n)
{
    double square = 0.0;
    for (size_t i = 0; i < n; i++)
        square += (double)x[i] * (double)x[i];
    return -0.5 * (square + (double)n * log(2.0 * 3.14159265358979323846));
}

/* Room for the update's transitions and chains; the chains themselves. */
static void lay_out(struct learner *l, const struct update *u)
{
    if (u->transitions > l->transitions_room) {
        l->in = mem_grow(l->in, u->transitions, sizeof *l->in);
        l->cotangent = mem_grow(l->cotangent, u->transitions, sizeof *l->cotangent);
        l->transitions_room = u->transitions;
    }
    if (u->n > l->chains_room) {
        l->chain = mem_grow(l->chain, u->n, sizeof *l->chain);
        l->chains_room = u->n;
    }
    size_t at = 0;
    for (size_t k = 0; k < u->n; k++) {
        const struct trajectory *t = u->batch[k];
        l->chain[k] = (struct objective_chain){
            .first = at,
            .count = t->transition_count,
            .group = t->prompt_index,
            .reward = t->reward,
            .log_prior = log_standard_normal(t->latents, l->shape->latent_elements),
        };
        at += t->transition_count;
    }
    if (l->advantage == NULL)
        return;
    double *const reward = mem_new(2 * u->n, sizeof *reward), *const advantage = reward + u->n;
    uint32_t *const prompt = mem_new(u->n, sizeof *prompt);
    for (size_t k = 0; k < u->n; k++) {
        reward[k] = u->batch[k]->reward;
        prompt[k] = u->batch[k]->prompt_index;
    }
    advantage_free(l->advantage_next);
    l->advantage_next = advantage_copy(l->advantage);
    advantage_batch(l->advantage_next, advantage, reward, prompt, u->n);
    for (size_t k = 0; k < u->n; k++)
        l->chain[k].advantage = advantage[k];
    mem_free(prompt);
    mem_free(reward);
}

/* What the update's transitions were like. */
static void describe_transitions(const struct learner *l, const struct update *u, struct learner_stats *stats)
{
    const double share = 1.0 / (double)u->transitions, S = u->objective.scale;
    size_t in_quarter[LEARNER_QUARTERS] = {0};
    double squares = 0.0;
    for (int q = 0; q < LEARNER_QUARTERS; q++)
        stats->quarter[q].delta_abs = stats->quarter[q].clipped = 0.0;
    for (size_t i = 0; i < u->transitions; i++) {
        const struct objective_cotangent *c = &l->cotangent[i];
        const struct objective_transition *x = &l->in[i];
        const uint32_t q = x->step * LEARNER_QUARTERS / l->o.steps;
        stats->loss += c->loss;
        stats->delta_mean += share * c->delta;
        stats->delta_abs += share * fabs(c->delta);
        stats->delta_rms += share * c->delta * c->delta;
        stats->log_pf += share * S * x->log_pf;
        stats->log_pb += share * S * x->log_pb;
        stats->log_ratio += share * S * (x->log_pf - x->log_pf_old);
        stats->flow_mean += share * x->flow_t;
        stats->weight_mean += share * c->weight;
        squares += c->weight * c->weight;
        stats->clipped += c->clipped ? share : 0.0;
        stats->quarter[q].delta_abs += fabs(c->delta);
        stats->quarter[q].clipped += c->clipped;
        in_quarter[q]++;
    }
    stats->delta_rms = sqrt(stats->delta_rms);
    stats->weight_ess = stats->weight_mean * stats->weight_mean / (squares * share);
    for (int q = 0; q < LEARNER_QUARTERS; q++) {
        const double each = in_quarter[q] > 0 ? 1.0 / (double)in_quarter[q] : (double)NAN;
        stats->quarter[q].delta_abs *= each;
        stats->quarter[q].clipped *= each;
    }
    for (size_t k = 0; u->delta_abs != NULL && k < u->n; k++) {
        const struct objective_chain *t = &l->chain[k];
        u->delta_abs[k] = 0.0;
        for (size_t i = t->first; i < t->first + t->count; i++)
            u->delta_abs[k] += fabs(l->cotangent[i].delta) / (double)t->count;
    }
}

int learner_update(struct learner *l, struct trajectory *const *batch, size_t n, struct learner_stats *stats,
                   double *delta_abs, int (*poll)(void *, struct err *), void *arg, struct err *e)
{
    struct update u = {.batch = batch, .n = n, .objective = l->o.objective, .stats = stats, .delta_abs = delta_abs,
                       .poll = poll, .poll_arg = arg};
    for (size_t i = 0; i < n; i++)
        u.transitions += batch[i]->transition_count;
    *stats = (struct learner_stats){.path_kl = (double)NAN, .transitions = u.transitions};
    describe_batch(l, batch, n, stats);
    u.objective.beta = stats->beta = objective_beta(l->o.objective.beta, l->o.beta_warmup, l->step, l->o.updates_total);
    lay_out(l, &u);
    optim_zero_grads(&l->policy);
    optim_zero_grads(&l->flow);
    if (gradients(l, &u, e) < 0)
        return -1;
    describe_transitions(l, &u, stats);
    if (!isfinite(stats->loss))
        return err_set(e, ERR_NONFINITE, "step %llu: loss %g", (unsigned long long)l->step + 1, stats->loss);
    if (step_both(l, stats, e) < 0)
        return err_wrap(e, "step %llu", (unsigned long long)l->step + 1);
    if (l->advantage != NULL) {
        advantage_free(l->advantage);
        l->advantage = l->advantage_next;
        l->advantage_next = NULL;
    }
    l->step++;
    return measure_kl(l, batch, n, &stats->path_kl, e);
}
