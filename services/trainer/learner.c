#include "trainer/learner.h"

#include "base/mem.h"
#include "diffusion/chain.h"
#include "diffusion/logflow.h"
#include "diffusion/step.h"
#include "io/safetensors.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "trainer/objective.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FLOW_HEADS 4
#define FLOW_NORM_GROUPS 8
#define FLOW_SEED 0x666c6f77u
#define KL_STREAM 0x6b6c00u

struct learner {
    struct learner_options o;
    const struct pipeline_shape *shape;
    struct pipeline *pipeline;
    struct optim policy, flow;
    struct params *flow_params;
    struct logflow_config flow_config;
    struct logflow_shape flow_shape;
    struct runner *flow_runner;
    uint64_t step;
    size_t states_max; /* of a micro-batch */

    /* the micro-batch under way, [states_max] each */
    size_t n_states, n_policy, n_transitions;
    uint32_t *place;                  /* of each trajectory's states among `states` */
    const struct trajectory **states; /* whose state it is */
    real *x, *out, *d_out;     /* [.,D] */
    double *times;
    const real **conditions;
    real *contexts;            /* [.,L,d], gathered for the flow network */
    real *flow_out, *d_flow;   /* [.,1] */
    /* its transitions */
    struct objective_transition *in;
    struct objective_cotangent *cotangent;
    const struct trajectory_transition **transition;
    uint32_t *from, *to;       /* indices into states */
    real *noise, *out_old;     /* [D] */
};

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
    if (l->o.scale == 0.0)
        l->o.scale = density_scale(DENSITY_MEAN, l->shape->latent_elements);
    if (optim_open(&l->policy, pipeline_params(l->pipeline), pipeline_pool(l->pipeline), false, e) < 0 ||
        open_flow(l, e) < 0)
        goto fail;

    /* whole trajectories go into a micro-batch, so it must hold at least one */
    const size_t most = pipeline_train_batch_max(l->pipeline);
    const size_t n = l->states_max = most > o->steps + 1 ? most : o->steps + 1;
    const size_t D = l->shape->latent_elements, context = l->shape->tokens * l->shape->condition_width;
    l->place = mem_new(n, sizeof *l->place);
    l->states = mem_new(n, sizeof *l->states);
    l->x = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->out = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->d_out = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->contexts = mem_slab(n * context * sizeof(real), "a micro-batch", e);
    if (l->x == NULL || l->out == NULL || l->d_out == NULL || l->contexts == NULL)
        goto fail;
    l->times = mem_new(n, sizeof *l->times);
    l->conditions = mem_new(n, sizeof *l->conditions);
    l->flow_out = mem_new(n, sizeof *l->flow_out);
    l->d_flow = mem_new(n, sizeof *l->d_flow);
    l->in = mem_new(n, sizeof *l->in);
    l->cotangent = mem_new(n, sizeof *l->cotangent);
    l->transition = mem_new(n, sizeof *l->transition);
    l->from = mem_new(n, sizeof *l->from);
    l->to = mem_new(n, sizeof *l->to);
    l->noise = mem_new(D, sizeof *l->noise);
    l->out_old = mem_new(D, sizeof *l->out_old);
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
    mem_free(l->place);
    mem_free(l->states);
    mem_free(l->x);
    mem_free(l->out);
    mem_free(l->d_out);
    mem_free(l->contexts);
    mem_free(l->times);
    mem_free(l->conditions);
    mem_free(l->flow_out);
    mem_free(l->d_flow);
    mem_free(l->in);
    mem_free(l->cotangent);
    mem_free(l->transition);
    mem_free(l->from);
    mem_free(l->to);
    mem_free(l->noise);
    mem_free(l->out_old);
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
    const uint64_t D = l->shape->latent_elements, context = l->shape->tokens * l->shape->condition_width;
    return pipeline_bytes(l->pipeline) + runner_bytes(l->flow_runner) +
           (3 * l->policy.count + 4 * l->flow.count + l->states_max * (3 * D + context)) * sizeof(real);
}

/* ---- one micro-batch: whole trajectories [first, last) of the batch ---- */

/* Whether a transition starts at state j: only those states go through the policy's network. */
static bool starts_transition(const struct trajectory *t, uint32_t j)
{
    for (uint32_t i = 0; i < t->transition_count; i++)
        if (t->transitions[i].from == j)
            return true;
    return false;
}

/* Lists the states that a transition starts from, then the other non-terminal ones (which the flow network
 * alone has to see), and every transition over them. */
static void gather(struct learner *l, struct trajectory *const *batch, size_t first, size_t last)
{
    const size_t D = l->shape->latent_elements;
    l->n_states = l->n_policy = l->n_transitions = 0;
    for (int starting = 1; starting >= 0; starting--) {
        uint32_t *place = l->place;
        for (size_t i = first; i < last; place += batch[i++]->state_count) {
            const struct trajectory *t = batch[i];
            for (uint32_t j = 0; j < t->state_count; j++) {
                if (t->states[j].terminal || starts_transition(t, j) != (starting == 1))
                    continue;
                place[j] = (uint32_t)l->n_states;
                l->states[l->n_states] = t;
                l->times[l->n_states] = (double)t->states[j].timestep;
                memcpy(l->x + l->n_states * D, t->latents + j * D, D * sizeof *l->x);
                l->n_states++;
            }
        }
        if (starting == 1)
            l->n_policy = l->n_states;
    }
    const uint32_t *place = l->place;
    for (size_t i = first; i < last; place += batch[i++]->state_count)
        for (uint32_t j = 0; j < batch[i]->transition_count; j++) {
            const struct trajectory_transition *x = &batch[i]->transitions[j];
            l->transition[l->n_transitions] = x;
            l->from[l->n_transitions] = place[x->from];
            l->to[l->n_transitions++] = place[x->to]; /* not read where x->to is terminal */
        }
}

static double psi_weight(const struct learner *l, const struct transition_kernel *kernel)
{
    switch (l->o.psi) {
    case PSI_BEHAVIOUR: return 1.0;
    case PSI_ABAR: return kernel->abar_t;
    case PSI_NONE: break;
    }
    return 0.0;
}

/* psi of a state: its predicted clean image's reward, weighted; the final reward itself where terminal. */
static double psi_of(const struct learner *l, const struct trajectory *t, const struct trajectory_state *s)
{
    if (s->terminal)
        return t->reward;
    const double weight = psi_weight(l, &l->o.kernels[s->step]);
    return weight == 0.0 || !s->has_image ? 0.0 : weight * s->reward;
}

static void fill_transition(struct learner *l, size_t i)
{
    const size_t D = l->shape->latent_elements;
    const struct trajectory_transition *x = l->transition[i];
    const struct trajectory *t = l->states[l->from[i]];
    const struct transition_kernel *kernel = &l->o.kernels[x->step];
    const real *x_t = l->x + (size_t)l->from[i] * D;
    const float *x_s = t->latents + (size_t)x->to * D;
    const bool terminal = t->states[x->to].terminal;
    l->in[i] = (struct objective_transition){
        .log_pf = step_log_pf(kernel, x_t, l->out + (size_t)l->from[i] * D, x_s, D),
        .log_pb = step_log_q(kernel, x_t, x_s, D),
        .flow_t = l->o.flow_scale * (double)l->flow_out[l->from[i]],
        .flow_s = terminal ? 0.0 : l->o.flow_scale * (double)l->flow_out[l->to[i]],
        .psi_t = psi_of(l, t, &t->states[x->from]),
        .psi_s = psi_of(l, t, &t->states[x->to]),
        .terminal = terminal,
    };
}

/* dL/d out of transition i, the proximal term included. */
static double add_cotangent(struct learner *l, size_t i, size_t count)
{
    const size_t D = l->shape->latent_elements;
    const struct trajectory_transition *x = l->transition[i];
    const struct trajectory *t = l->states[l->from[i]];
    const struct transition_kernel *kernel = &l->o.kernels[x->step];
    const real *x_t = l->x + (size_t)l->from[i] * D, *out = l->out + (size_t)l->from[i] * D;
    const float *x_s = t->latents + (size_t)x->to * D;
    real *d_out = l->d_out + (size_t)l->from[i] * D;
    step_log_pf_backward(d_out, kernel, x_t, out, x_s, D, l->cotangent[i].d_log_pf);
    l->d_flow[l->from[i]] += (real)(l->o.flow_scale * l->cotangent[i].d_flow_t);
    if (!l->in[i].terminal)
        l->d_flow[l->to[i]] += (real)(l->o.flow_scale * l->cotangent[i].d_flow_s);
    if (l->o.proximal == 0.0)
        return 0.0;

    /* The rollout's noise has an address: its mean, and with it what its network said, come back from x_s. */
    chain_noise(l->noise, l->o.seed, t->id, x->step + 1, D);
    const double sd = sqrt(kernel->var), weight = 2.0 * l->o.proximal / ((double)D * (double)count);
    double square = 0.0;
    for (size_t j = 0; j < D; j++) {
        const double mean_old = (double)x_s[j] - sd * (double)l->noise[j];
        const double out_old = (mean_old - kernel->mean_x * (double)x_t[j]) / kernel->mean_out;
        const double gap = (double)out[j] - out_old;
        square += gap * gap;
        d_out[j] += (real)(weight * gap);
    }
    return l->o.proximal * square / ((double)D * (double)count);
}

static int forward(struct learner *l, struct err *e)
{
    const size_t context = l->shape->tokens * l->shape->condition_width;
    for (size_t i = 0; i < l->n_states; i++) {
        if (pipeline_condition(l->pipeline, l->states[i]->prompt, &l->conditions[i], NULL, e) < 0)
            return -1;
        memcpy(l->contexts + i * context, l->conditions[i], context * sizeof *l->contexts);
    }
    const void *const inputs[] = {l->x, l->times, l->contexts};
    real *const outputs[] = {l->flow_out};
    return pipeline_train_forward(l->pipeline, l->out, l->x, l->times, l->conditions, l->n_policy,
                                  l->o.guidance, e) < 0 ||
                   runner_forward(l->flow_runner, inputs, outputs, l->n_states, e) < 0
               ? -1
               : 0;
}

static int backward(struct learner *l, struct err *e)
{
    const real *const d_outputs[] = {l->d_flow};
    return pipeline_train_backward(l->pipeline, l->policy.grads, l->d_out, e) < 0 ||
                   runner_backward(l->flow_runner, d_outputs, NULL, l->flow.grads, e) < 0
               ? -1
               : 0;
}

/* Trajectories [first, last): adds to the gradients, to the sums in `stats`, and to delta_abs. */
static int micro_batch(struct learner *l, struct trajectory *const *batch, size_t first, size_t last,
                       size_t count, const struct objective_settings *objective, struct learner_stats *stats,
                       double *delta_abs, struct err *e)
{
    gather(l, batch, first, last);
    if (forward(l, e) < 0)
        return -1;
    for (size_t i = 0; i < l->n_transitions; i++)
        fill_transition(l, i);
    objective_dag_db(l->cotangent, l->in, l->n_transitions, count, objective);
    memset(l->d_flow, 0, l->n_states * sizeof *l->d_flow);
    const double share = 1.0 / (double)count;
    size_t i = 0;
    for (size_t k = first; k < last; k++) {
        double sum = 0.0;
        for (uint32_t j = 0; j < batch[k]->transition_count; j++, i++) {
            const struct objective_cotangent *c = &l->cotangent[i];
            stats->loss += c->loss + add_cotangent(l, i, count);
            stats->delta_mean += share * c->delta;
            stats->delta_abs += share * fabs(c->delta);
            stats->delta_rms += share * c->delta * c->delta;
            stats->log_pf += share * objective->scale * l->in[i].log_pf;
            stats->log_pb += share * objective->scale * l->in[i].log_pb;
            stats->log_ratio += share * objective->scale * (l->in[i].log_pf - l->transition[i]->log_prob);
            stats->flow_mean += share * l->in[i].flow_t;
            sum += fabs(c->delta);
        }
        if (delta_abs != NULL)
            delta_abs[k] = sum / (double)batch[k]->transition_count;
    }
    return backward(l, e);
}

/* ---- the update ---- */

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
    const size_t K = l->o.kl_states < l->states_max ? l->o.kl_states : l->states_max;
    if (K == 0)
        return 0;
    struct rng g = rng_stream(l->o.seed, KL_STREAM, (uint32_t)l->step);
    const struct transition_kernel *kernel[TRAJECTORY_STATES_MAX];
    double scale = 0.0;
    for (size_t i = 0; i < K; i++) {
        const struct trajectory *t = batch[rng_below(&g, n)];
        const struct trajectory_transition *x = &t->transitions[rng_below(&g, t->transition_count)];
        if (pipeline_condition(l->pipeline, t->prompt, &l->conditions[i], NULL, e) < 0)
            return -1;
        kernel[i] = &l->o.kernels[x->step];
        l->times[i] = (double)kernel[i]->t;
        memcpy(l->x + i * D, t->latents + (size_t)x->from * D, D * sizeof *l->x);
        scale = fmax(scale, (double)t->states[t->state_count - 1].step); /* trainable steps of the chain */
    }
    if (pipeline_predict(l->pipeline, l->out, NULL, l->x, l->times, l->conditions, K, l->o.guidance, e) < 0 ||
        pipeline_predict_base(l->pipeline, l->d_out, l->x, l->times, l->conditions, K, l->o.guidance, e) < 0)
        return -1;
    *kl = 0.0;
    for (size_t i = 0; i < K; i++)
        *kl += scale / (double)K * step_kl(kernel[i], l->out + i * D, l->d_out + i * D, D);
    return 0;
}

int learner_update(struct learner *l, struct trajectory *const *batch, size_t n, struct learner_stats *stats,
                   double *delta_abs, int (*poll)(void *, struct err *), void *arg, struct err *e)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += batch[i]->transition_count;
    *stats = (struct learner_stats){.path_kl = (double)NAN, .transitions = count};
    describe_batch(l, batch, n, stats);
    stats->beta = objective_beta(l->o.beta, l->o.beta_warmup, l->step, l->o.updates_total);
    const struct objective_settings objective = {
        .scale = l->o.scale, .beta = stats->beta, .delta_max = l->o.delta_max};
    optim_zero_grads(&l->policy);
    optim_zero_grads(&l->flow);

    for (size_t first = 0; first < n;) {
        size_t last = first, states = 0;
        while (last < n && states + batch[last]->state_count <= l->states_max)
            states += batch[last++]->state_count;
        assert(last > first);
        if (micro_batch(l, batch, first, last, count, &objective, stats, delta_abs, e) < 0 ||
            (poll != NULL && poll(arg, e) < 0))
            return -1;
        first = last;
    }
    stats->delta_rms = sqrt(stats->delta_rms);
    if (!isfinite(stats->loss))
        return err_set(e, ERR_NONFINITE, "step %llu: loss %g", (unsigned long long)l->step + 1, stats->loss);
    if (step_both(l, stats, e) < 0)
        return err_wrap(e, "step %llu", (unsigned long long)l->step + 1);
    l->step++;
    return measure_kl(l, batch, n, &stats->path_kl, e);
}

/* ---- what survives ---- */

int learner_policy(const struct learner *l, uint8_t **bytes, size_t *n, struct err *e)
{
    return pipeline_policy_get(l->pipeline, bytes, n, e);
}

static int save_flow(const struct learner *l, struct learner_blob *out, struct err *e)
{
    const size_t n = params_length(l->flow_params);
    struct safetensors_item *item = mem_new(n, sizeof *item);
    for (size_t i = 0; i < n; i++) {
        const struct param *p = params_at(l->flow_params, (int)i);
        item[i] = (struct safetensors_item){.name = p->name, .dtype = DTYPE_F32, .rank = p->dims, .data = p->value};
        memcpy(item[i].shape, p->dim, (size_t)p->dims * sizeof *p->dim);
    }
    const int rc = safetensors_encode(&out->bytes, &out->n, item, n, NULL, 0, e);
    mem_free(item);
    return rc;
}

static int restore_flow(struct learner *l, const struct learner_blob *in, struct err *e)
{
    struct safetensors *f;
    if (safetensors_open_memory(&f, in->bytes, in->n, in->name, e) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < params_length(l->flow_params); i++) {
        const struct param *p = params_at(l->flow_params, (int)i);
        rc = safetensors_load(f, p->name, p->dim, p->dims, p->value, e);
    }
    safetensors_close(f);
    params_touch_all(l->flow_params);
    return rc;
}

/* Both optimisers' moments in the order of their gradient slabs. */
static void moments_of(const struct learner *l, struct safetensors_item item[4])
{
    const struct {
        const char *name;
        float *data;
        size_t n;
    } slab[4] = {{"policy.m", l->policy.m, l->policy.count},
                 {"policy.v", l->policy.v, l->policy.count},
                 {"flow.m", l->flow.m, l->flow.count},
                 {"flow.v", l->flow.v, l->flow.count}};
    for (int i = 0; i < 4; i++)
        item[i] = (struct safetensors_item){.name = slab[i].name, .dtype = DTYPE_F32, .rank = 1,
                                            .shape = {(int64_t)slab[i].n}, .data = slab[i].data};
}

int learner_save(const struct learner *l, struct learner_blob out[LEARNER_BLOBS], struct err *e)
{
    memset(out, 0, LEARNER_BLOBS * sizeof *out);
    out[0].name = "policy";
    out[1].name = "flow";
    out[2].name = "optimizer";
    struct safetensors_item moments[4];
    moments_of(l, moments);
    char step[24];
    snprintf(step, sizeof step, "%llu", (unsigned long long)l->step);
    const struct safetensors_meta meta = {"step", step};
    if (learner_policy(l, &out[0].bytes, &out[0].n, e) < 0 || save_flow(l, &out[1], e) < 0 ||
        safetensors_encode(&out[2].bytes, &out[2].n, moments, 4, &meta, 1, e) < 0) {
        for (int i = 0; i < LEARNER_BLOBS; i++)
            mem_free(out[i].bytes);
        memset(out, 0, LEARNER_BLOBS * sizeof *out);
        return -1;
    }
    return 0;
}

static int restore_optimizer(struct learner *l, const struct learner_blob *in, struct err *e)
{
    struct safetensors *f;
    if (safetensors_open_memory(&f, in->bytes, in->n, in->name, e) < 0)
        return -1;
    struct safetensors_item moments[4];
    moments_of(l, moments);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 4; i++)
        rc = safetensors_load(f, moments[i].name, moments[i].shape, 1, (float *)(uintptr_t)moments[i].data, e);
    const char *step = safetensors_metadata(f, "step");
    if (rc == 0 && (step == NULL || sscanf(step, "%" SCNu64, &l->step) != 1))
        rc = err_set(e, ERR_INVALID, "%s: metadata has no step", in->name);
    safetensors_close(f);
    return rc;
}

int learner_restore(struct learner *l, const struct learner_blob in[LEARNER_BLOBS], struct err *e)
{
    static const char *const names[LEARNER_BLOBS] = {"policy", "flow", "optimizer"};
    for (int i = 0; i < LEARNER_BLOBS; i++)
        if (in[i].name == NULL || strcmp(in[i].name, names[i]) != 0)
            return err_set(e, ERR_INVALID, "blob %d of the checkpoint is '%s', expected '%s'", i,
                           in[i].name == NULL ? "" : in[i].name, names[i]);
    if (pipeline_policy_set(l->pipeline, in[0].bytes, in[0].n, e) < 0 || restore_flow(l, &in[1], e) < 0 ||
        restore_optimizer(l, &in[2], e) < 0)
        return -1;
    return 0;
}
