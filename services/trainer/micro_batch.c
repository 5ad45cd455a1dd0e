#include "trainer/learner_parts.h"

#include "base/mem.h"
#include "diffusion/chain.h"
#include "diffusion/step.h"

#include <math.h>
#include <string.h>

#define NO_ROW UINT32_MAX
#define FRESH_SEED 0x66726573u

/* Whether the objective draws actions anew. */
static bool resamples(const struct learner *l)
{
    return l->o.objective.kind == OBJECTIVE_DAG_KL && l->o.objective.ratio == RATIO_RESAMPLED;
}

/* Whether the base model's output is wanted. */
static bool wants_base(const struct learner *l)
{
    return l->needs.base || l->o.anchor > 0.0;
}

static size_t context_of(const struct learner *l)
{
    return l->shape->tokens * l->shape->condition_width;
}

static real *new_slab(size_t numbers, struct err *e)
{
    return mem_slab(numbers * sizeof(real), "a micro-batch", e);
}

int micro_batch_open(struct learner *l, size_t states_max, struct err *e)
{
    const size_t n = l->states_max = states_max, D = l->shape->latent_elements, context = context_of(l);
    l->x = new_slab(n * D, e);
    l->out = new_slab(n * D, e);
    l->d_out = new_slab(n * D, e);
    l->contexts = new_slab(n * context, e);
    if (l->x == NULL || l->out == NULL || l->d_out == NULL || l->contexts == NULL)
        return -1;
    if (wants_base(l) && (l->base = new_slab(n * D, e)) == NULL)
        return -1;
    if (resamples(l)) {
        l->fresh = new_slab(n * D, e);
        l->fresh_contexts = new_slab(n * context, e);
        if (l->fresh == NULL || l->fresh_contexts == NULL)
            return -1;
        l->fresh_flow = mem_new(n, sizeof *l->fresh_flow);
        l->fresh_times = mem_new(n, sizeof *l->fresh_times);
        l->fresh_row = mem_new(n, sizeof *l->fresh_row);
    }
    l->place = mem_new(n, sizeof *l->place);
    l->states = mem_new(n, sizeof *l->states);
    l->times = mem_new(n, sizeof *l->times);
    l->conditions = mem_new(n, sizeof *l->conditions);
    l->flow_out = mem_new(n, sizeof *l->flow_out);
    l->d_flow = mem_new(n, sizeof *l->d_flow);
    l->transition = mem_new(n, sizeof *l->transition);
    l->from = mem_new(n, sizeof *l->from);
    l->to = mem_new(n, sizeof *l->to);
    l->noise = mem_new(D, sizeof *l->noise);
    return 0;
}

void micro_batch_close(struct learner *l)
{
    void *const owned[] = {l->x,          l->out,        l->d_out,       l->contexts,  l->base,  l->fresh,    l->fresh_contexts,
                           l->fresh_flow, l->fresh_times, l->fresh_row,   l->place,     l->states, l->times,    l->conditions,
                           l->flow_out,   l->d_flow,      l->transition,  l->from,      l->to,    l->noise};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        mem_free(owned[i]);
}

uint64_t micro_batch_bytes(const struct learner *l)
{
    const uint64_t D = l->shape->latent_elements, context = context_of(l);
    return l->states_max * ((wants_base(l) ? 4 : 3) * D + context + (resamples(l) ? D + context : 0)) *
           sizeof(real);
}

/* Whether a transition starts at state j: only those states go through the policy's network. */
static bool starts_transition(const struct trajectory *t, uint32_t j)
{
    for (uint32_t i = 0; i < t->transition_count; i++)
        if (t->transitions[i].from == j)
            return true;
    return false;
}

void micro_batch_gather(struct learner *l, struct trajectory *const *batch, size_t first, size_t last)
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

/* The action that the current policy drew for transition i of the micro-batch, or NULL. */
static const real *fresh_action(const struct learner *l, size_t i)
{
    return resamples(l) && l->fresh_row[i] != NO_ROW ? l->fresh + l->fresh_row[i] * l->shape->latent_elements : NULL;
}

struct objective_transition micro_batch_transition(const struct learner *l, size_t i)
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

double micro_batch_cotangent(struct learner *l, size_t i, const struct objective_cotangent *c, bool terminal, size_t count)
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
    const size_t D = l->shape->latent_elements, context = context_of(l);
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

int micro_batch_forward(struct learner *l, bool train, struct err *e)
{
    const size_t context = context_of(l);
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

int micro_batch_backward(struct learner *l, struct err *e)
{
    const real *const d_outputs[] = {l->d_flow};
    if (pipeline_train_backward(l->pipeline, l->policy.grads, l->d_out, e) < 0)
        return -1;
    return l->needs.flow ? runner_backward(l->flow_runner, d_outputs, NULL, l->flow.grads, e) : 0;
}
