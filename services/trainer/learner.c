#include "trainer/learner.h"

#include "base/mem.h"
#include "diffusion/chain.h"
#include "diffusion/logflow.h"
#include "diffusion/step.h"
#include "io/safetensors.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "trainer/advantage.h"

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
    real *base;                /* [.,D] the base model's output, where the objective wants it */
    /* its transitions */
    const struct trajectory_transition **transition;
    uint32_t *from, *to;       /* indices into states */
    real *noise;               /* [D] */
    /* RATIO_RESAMPLED, else NULL: the actions that the current policy draws in place of the stored ones */
    size_t n_fresh;
    uint32_t *fresh_row;                /* of each transition, or NO_ROW */
    real *fresh, *fresh_contexts, *fresh_flow; /* [.,D], [.,L,d], [.,1] */
    double *fresh_times;

    /* the whole update */
    struct objective_needs needs;
    struct advantage *advantage, *advantage_next; /* DDPO alone, else NULL; with the update under way */
    struct objective_transition *in;         /* [transitions_room] */
    struct objective_cotangent *cotangent;   /* [transitions_room] */
    struct objective_chain *chain;           /* [chains_room] */
    size_t transitions_room, chains_room;
};

#define NO_ROW UINT32_MAX
#define FRESH_SEED 0x66726573u
#define REWARD_ROWS_MAX (1 << 24)
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

static bool resamples(const struct learner *l)
{
    return l->o.objective.kind == OBJECTIVE_DAG_KL && l->o.objective.ratio == RATIO_RESAMPLED;
}

static bool wants_base(const struct learner *l)
{
    return l->needs.base || l->o.anchor > 0.0;
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
    const size_t n = l->states_max = most > o->steps + 1 ? most : o->steps + 1;
    const size_t D = l->shape->latent_elements, context = l->shape->tokens * l->shape->condition_width;
    l->place = mem_new(n, sizeof *l->place);
    l->states = mem_new(n, sizeof *l->states);
    l->x = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->out = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->d_out = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    l->contexts = mem_slab(n * context * sizeof(real), "a micro-batch", e);
    if (wants_base(l))
        l->base = mem_slab(n * D * sizeof(real), "a micro-batch", e);
    if (resamples(l)) {
        l->fresh = mem_slab(n * D * sizeof(real), "a micro-batch", e);
        l->fresh_contexts = mem_slab(n * context * sizeof(real), "a micro-batch", e);
        l->fresh_flow = mem_new(n, sizeof *l->fresh_flow);
        l->fresh_times = mem_new(n, sizeof *l->fresh_times);
        l->fresh_row = mem_new(n, sizeof *l->fresh_row);
    }
    if (l->x == NULL || l->out == NULL || l->d_out == NULL || l->contexts == NULL || (wants_base(l) && l->base == NULL) ||
        (resamples(l) && (l->fresh == NULL || l->fresh_contexts == NULL)))
        goto fail;
    l->times = mem_new(n, sizeof *l->times);
    l->conditions = mem_new(n, sizeof *l->conditions);
    l->flow_out = mem_new(n, sizeof *l->flow_out);
    l->d_flow = mem_new(n, sizeof *l->d_flow);
    l->transition = mem_new(n, sizeof *l->transition);
    l->from = mem_new(n, sizeof *l->from);
    l->to = mem_new(n, sizeof *l->to);
    l->noise = mem_new(D, sizeof *l->noise);
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
    mem_free(l->base);
    mem_free(l->in);
    mem_free(l->cotangent);
    mem_free(l->chain);
    advantage_free(l->advantage);
    advantage_free(l->advantage_next);
    mem_free(l->transition);
    mem_free(l->from);
    mem_free(l->to);
    mem_free(l->noise);
    mem_free(l->fresh);
    mem_free(l->fresh_contexts);
    mem_free(l->fresh_flow);
    mem_free(l->fresh_times);
    mem_free(l->fresh_row);
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
           (3 * l->policy.count + 4 * l->flow.count + l->states_max * ((wants_base(l) ? 4 : 3) * D + context + (resamples(l) ? D + context : 0))) * sizeof(real);
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

/* log N(x; 0, I), nats. */
static double log_standard_normal(const float *x, size_t n)
{
    double square = 0.0;
    for (size_t i = 0; i < n; i++)
        square += (double)x[i] * (double)x[i];
    return -0.5 * (square + (double)n * log(2.0 * 3.14159265358979323846));
}

/* The action that the current policy drew for transition i of the micro-batch, or NULL. */
static const real *fresh_action(const struct learner *l, size_t i)
{
    return resamples(l) && l->fresh_row[i] != NO_ROW ? l->fresh + l->fresh_row[i] * l->shape->latent_elements : NULL;
}

/* What an objective sees of transition i of the micro-batch, from l->out and l->flow_out. */
static struct objective_transition describe_transition(const struct learner *l, size_t i)
{
    const size_t D = l->shape->latent_elements;
    const struct trajectory_transition *x = l->transition[i];
    const struct trajectory *t = l->states[l->from[i]];
    const struct transition_kernel *kernel = &l->o.kernels[x->step];
    const real *x_t = l->x + (size_t)l->from[i] * D, *out = l->out + (size_t)l->from[i] * D;
    const float *x_s = t->latents + (size_t)x->to * D;
    const bool terminal = t->states[x->to].terminal;
    struct objective_transition y = {
        .log_pf = step_log_pf(kernel, x_t, out, x_s, D),
        .log_pf_old = x->log_prob,
        .psi_t = psi_of(l, t, &t->states[x->from]),
        .psi_s = psi_of(l, t, &t->states[x->to]),
        .step = x->step,
        .terminal = terminal,
    };
    if (kernel->q_var > 0.0)
        y.log_pb = step_log_q(kernel, x_t, x_s, D);
    const real *const fresh = fresh_action(l, i);
    if (fresh != NULL) {
        y.fresh.drawn = true;
        y.fresh.log_pf = step_log_pf(kernel, x_t, out, fresh, D);
        y.fresh.log_pb = step_log_q(kernel, x_t, fresh, D);
        y.fresh.flow_s = l->o.flow_scale * (double)l->fresh_flow[l->fresh_row[i]];
    }
    if (l->needs.base)
        y.log_ratio_base = step_log_ratio(kernel, x_t, out, l->base + (size_t)l->from[i] * D, x_s, D);
    if (l->needs.flow) {
        y.flow_t = l->o.flow_scale * (double)l->flow_out[l->from[i]];
        y.flow_s = terminal ? 0.0 : l->o.flow_scale * (double)l->flow_out[l->to[i]];
    }
    return y;
}

/* d_out += dL/d out of lambda mean (out - ref)^2 over the update's transitions; returns its value. */
static double pull(real *d_out, const real *out, const real *ref, size_t D, double lambda, size_t count)
{
    const double weight = 2.0 * lambda / ((double)D * (double)count);
    double square = 0.0;
    for (size_t j = 0; j < D; j++) {
        const double gap = (double)out[j] - (double)ref[j];
        square += gap * gap;
        d_out[j] += (real)(weight * gap);
    }
    return lambda * square / ((double)D * (double)count);
}

/* What the network said at rollout.  Its noise has an address: the mean, and with it the output, come back from x_s. */
static void recover_output(real *out_old, const struct learner *l, const struct trajectory *t,
                           const struct trajectory_transition *x, const real *x_t, const float *x_s)
{
    const size_t D = l->shape->latent_elements;
    const struct transition_kernel *kernel = &l->o.kernels[x->step];
    const double sd = sqrt(kernel->var);
    chain_noise(out_old, l->o.seed, t->id, x->step + 1, D);
    for (size_t j = 0; j < D; j++) {
        const double mean_old = (double)x_s[j] - sd * (double)out_old[j];
        out_old[j] = (real)((mean_old - kernel->mean_x * (double)x_t[j]) / kernel->mean_out);
    }
}

/* dL/d out of transition i of the micro-batch and dL/d flow of its ends; returns the value of the pulls. */
static double add_cotangent(struct learner *l, size_t i, const struct objective_cotangent *c, bool terminal, size_t count)
{
    const size_t D = l->shape->latent_elements, at = (size_t)l->from[i] * D;
    const struct trajectory_transition *x = l->transition[i];
    const struct trajectory *t = l->states[l->from[i]];
    const float *x_s = t->latents + (size_t)x->to * D;
    const real *const fresh = fresh_action(l, i);
    step_log_pf_backward(l->d_out + at, &l->o.kernels[x->step], l->x + at, l->out + at, fresh != NULL ? fresh : x_s, D,
                         c->d_log_pf);
    l->d_flow[l->from[i]] += (real)(l->o.flow_scale * c->d_flow_t);
    if (!terminal)
        l->d_flow[l->to[i]] += (real)(l->o.flow_scale * c->d_flow_s);
    double value = 0.0;
    if (l->o.proximal > 0.0) {
        recover_output(l->noise, l, t, x, l->x + at, x_s);
        value += pull(l->d_out + at, l->out + at, l->noise, D, l->o.proximal, count);
    }
    if (l->o.anchor > 0.0)
        value += pull(l->d_out + at, l->out + at, l->base + at, D, l->o.anchor, count);
    return value;
}

/* Draws an action of the policy for every transition but those to a terminal state, from noise that is a function of (run,
 * trajectory, update, step), and its flow. */
static int resample(struct learner *l, struct err *e)
{
    const size_t D = l->shape->latent_elements, context = l->shape->tokens * l->shape->condition_width;
    l->n_fresh = 0;
    for (size_t i = 0; i < l->n_transitions; i++) {
        const struct trajectory_transition *x = l->transition[i];
        const struct trajectory *t = l->states[l->from[i]];
        const size_t row = l->n_fresh, at = (size_t)l->from[i] * D;
        l->fresh_row[i] = NO_ROW;
        if (t->states[x->to].terminal)
            continue;
        chain_noise(l->noise, l->o.seed ^ FRESH_SEED, t->id, (uint32_t)l->step * l->o.steps + x->step, D);
        step_sample(l->fresh + row * D, &l->o.kernels[x->step], l->x + at, l->out + at, l->noise, D);
        memcpy(l->fresh_contexts + row * context, l->contexts + l->from[i] * context, context * sizeof *l->contexts);
        l->fresh_times[row] = (double)t->states[x->to].timestep;
        l->fresh_row[i] = (uint32_t)l->n_fresh++;
    }
    const void *const inputs[] = {l->fresh, l->fresh_times, l->fresh_contexts};
    real *const outputs[] = {l->fresh_flow};
    return l->n_fresh > 0 ? runner_infer(l->flow_runner, inputs, outputs, l->n_fresh, e) : 0;
}

/* Policy and flow at the gathered states; `train`: kept for a backward pass. */
static int forward(struct learner *l, bool train, struct err *e)
{
    const size_t context = l->shape->tokens * l->shape->condition_width;
    for (size_t i = 0; i < l->n_states; i++) {
        if (pipeline_condition(l->pipeline, l->states[i]->prompt, &l->conditions[i], NULL, e) < 0)
            return -1;
        memcpy(l->contexts + i * context, l->conditions[i], context * sizeof *l->contexts);
    }
    const void *const inputs[] = {l->x, l->times, l->contexts};
    real *const outputs[] = {l->flow_out};
    /* the base model first: it may not come between a forward pass and its backward pass */
    if (wants_base(l) && pipeline_predict_base(l->pipeline, l->base, l->x, l->times, l->conditions, l->n_policy,
                                               l->o.guidance, e) < 0)
        return -1;
    if (train ? pipeline_train_forward(l->pipeline, l->out, l->x, l->times, l->conditions, l->n_policy, l->o.guidance, e) < 0
              : pipeline_predict(l->pipeline, l->out, NULL, l->x, l->times, l->conditions, l->n_policy, l->o.guidance, e) < 0)
        return -1;
    /* as with the base model: no pass of the flow network between its forward and its backward pass */
    if (resamples(l) && resample(l, e) < 0)
        return -1;
    if (!l->needs.flow)
        return 0;
    return train ? runner_forward(l->flow_runner, inputs, outputs, l->n_states, e)
                 : runner_infer(l->flow_runner, inputs, outputs, l->n_states, e);
}

static int backward(struct learner *l, struct err *e)
{
    const real *const d_outputs[] = {l->d_flow};
    if (pipeline_train_backward(l->pipeline, l->policy.grads, l->d_out, e) < 0)
        return -1;
    return l->needs.flow ? runner_backward(l->flow_runner, d_outputs, NULL, l->flow.grads, e) : 0;
}

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
    gather(l, u->batch, first, last);
    if (forward(l, train, e) < 0)
        return -1;
    for (size_t i = 0; i < l->n_transitions; i++)
        l->in[l->chain[first].first + i] = describe_transition(l, i);
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
        u->stats->loss += add_cotangent(l, i, &l->cotangent[at + i], l->in[at + i].terminal, u->transitions);
    return backward(l, e);
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
    struct safetensors_item item[5];
    float *rewards = NULL;
    size_t items = 4, rows = 0;
    moments_of(l, item);
    if (l->advantage != NULL)
        rewards = advantage_save(l->advantage, &rows);
    if (rows > 0)
        item[items++] = (struct safetensors_item){.name = "rewards", .dtype = DTYPE_F32, .rank = 2,
                                                  .shape = {(int64_t)rows, ADVANTAGE_ROW}, .data = rewards};
    char step[24];
    snprintf(step, sizeof step, "%llu", (unsigned long long)l->step);
    const struct safetensors_meta meta = {"step", step};
    const int rc = learner_policy(l, &out[0].bytes, &out[0].n, e) < 0 || save_flow(l, &out[1], e) < 0 ||
                           safetensors_encode(&out[2].bytes, &out[2].n, item, items, &meta, 1, e) < 0
                       ? -1
                       : 0;
    mem_free(rewards);
    if (rc < 0) {
        for (int i = 0; i < LEARNER_BLOBS; i++)
            mem_free(out[i].bytes);
        memset(out, 0, LEARNER_BLOBS * sizeof *out);
    }
    return rc;
}

static int restore_rewards(struct learner *l, const struct safetensors *f, struct err *e)
{
    const struct safetensors_tensor *t = safetensors_find(f, "rewards");
    if (l->advantage == NULL || t == NULL)
        return l->advantage == NULL ? 0 : advantage_restore(l->advantage, NULL, 0, e);
    if (t->rank != 2 || t->shape[0] < 1 || t->shape[0] > REWARD_ROWS_MAX || t->shape[1] != ADVANTAGE_ROW)
        return err_set(e, ERR_SHAPE, "the per-prompt rewards are no table of %d columns", ADVANTAGE_ROW);
    float *const state = mem_new((size_t)t->shape[0] * ADVANTAGE_ROW, sizeof *state);
    int rc = safetensors_load(f, "rewards", t->shape, 2, state, e);
    if (rc == 0)
        rc = advantage_restore(l->advantage, state, (size_t)t->shape[0], e);
    mem_free(state);
    return rc;
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
    if (rc == 0)
        rc = restore_rewards(l, f, e);
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
