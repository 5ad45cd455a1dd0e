#include "dagline/target_train.h"

#include "base/clock.h"
#include "base/mem.h"
#include "dagline/transport.h"
#include "nn/optim.h"
#include "nn/runner.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WAVES 64
#define WAVE_FIRST 0.1 /* radians in the unit of t */
#define WAVE_LAST 100.0
#define SLOPE_MAX 100.0
#define CHUNK 1500
#define HALF_LOG_TWO_PI 0.91893853320467274178
#define BUFFER_MAX 600000u
#define RANK_K 0.01
#define REFRESH_EVERY 100
#define LOCAL_CHAINS 300
#define LOCAL_STEPS 200
#define LOCAL_BURN_IN 100
#define LOCAL_ACCEPTANCE 0.574
#define FAR 5.0 /* standard deviations */

enum { STREAM_ROLLOUT = 201, STREAM_BACKWARD, STREAM_CHOICE, STREAM_EVALUATE, STREAM_LOCAL, STREAM_TRUTH, STREAM_PHASE };

struct network_shape {
    size_t in, out, width;
    bool langevin;
};

/* A network of state and time.  What it makes of time is the same for every chain, so that part runs once for each step. */
struct network {
    struct network_shape shape;
    struct params *params;
    struct optim optim;
    struct runner *of_time, *of_state;
    real *time, *d_time; /* [T, width]: what of_state gets of each step, and its gradient */
    real *gain, *d_gain; /* [T, out]: of the target's slope, which is added to what of_state says; NULL: nothing is */
};

/* Final states and their log R, the oldest overwritten; ranked now and then. */
struct buffer {
    size_t count, room;
    uint64_t added;
    float *x;        /* [room, D] */
    double *log_r;   /* [room] */
    uint32_t *order; /* [ranked], by falling log R */
    size_t ranked;
};

struct run {
    const struct target_options *o;
    const struct target *target;
    size_t D, T, B;
    double dt, sigma;
    struct pool *pool;
    struct network policy, flow;
    double log_z, log_z_m, log_z_v;
    struct buffer buffer, local;
    double local_step;
    uint32_t refreshed; /* the update of the last ranks and search; 0: none yet */

    /* the chains under way; row (b, k) is b (T + 1) + k of states, b T + k of everything else */
    real *states;                            /* [B, T + 1, D] */
    real *x, *u, *d_u;                       /* [B T, D] */
    real *prior;                             /* [B T, D]: its drift, 0 where there is none */
    real *slope;                             /* [B T, D]: of the target's log density, clamped; NULL where nobody asks */
    real *times, *d_times;                   /* [B T, width]: network.time of each row */
    real *embedded;                          /* [T, 2 WAVES]: sinusoids of each step */
    real *f, *d_f;                           /* [B T] */
    double *log_r;                           /* [B] */
    struct objective_transition *transition; /* [B T] */
    struct objective_cotangent *cotangent;   /* [B T] */
    struct objective_chain *chain;           /* [B] */
};

/* ---- networks: those of the published runs ---- */

static void time_build(struct graph *g, const void *arg)
{
    const struct network_shape *const s = arg;
    const struct graph_dense hidden = {.out = s->width, .bias = true};
    const int t = graph_act(g, graph_dense(g, graph_input(g, 1, 1, (size_t)2 * WAVES, 0), "time.0", hidden), ACT_GELU);
    graph_output(g, graph_dense(g, t, "time.2", hidden), 0);
    if (s->langevin)
        graph_output(g, graph_dense(g, t, "gain", (struct graph_dense){.out = s->out, .bias = true}), 0);
}

static void state_build(struct graph *g, const void *arg)
{
    const struct network_shape *const s = arg;
    const struct graph_dense hidden = {.out = s->width, .bias = true};
    const int x = graph_input(g, 1, 1, s->in, 0), time = graph_input(g, 1, 1, s->width, GRAPH_GRAD);
    struct graph_dense joined = hidden;
    joined.residual = time;
    int h = graph_act(g, graph_dense(g, x, "state", joined), ACT_GELU);
    h = graph_act(g, graph_dense(g, h, "joint.0", hidden), ACT_GELU);
    h = graph_act(g, graph_dense(g, h, "joint.2", hidden), ACT_GELU);
    graph_output(g, graph_dense(g, h, "head", (struct graph_dense){.out = s->out, .bias = true}), 0);
}

static void zero(struct params *p, const char *name)
{
    const struct param *const x = params_at(p, params_find(p, name));
    memset(x->value, 0, x->count * sizeof *x->value);
}

static int network_open(struct network *n, const struct run *r, size_t out, bool langevin, uint64_t seed, struct err *e)
{
    n->shape = (struct network_shape){r->D, out, r->o->width, langevin};
    n->params = params_new();
    void (*const build[])(struct graph *, const void *) = {time_build, state_build};
    for (size_t i = 0; i < 2; i++) {
        struct graph *const g = graph_new(n->params, 1, (struct graph_options){.mode = GRAPH_DECLARE});
        build[i](g, &n->shape);
        graph_free(g);
    }
    if (params_seal(n->params, e) < 0)
        return -1;
    params_init(n->params, 0, seed);
    zero(n->params, "head.weight");
    zero(n->params, "head.bias");
    if (langevin) {
        zero(n->params, "gain.weight");
        zero(n->params, "gain.bias");
        n->gain = mem_new(r->T * out, sizeof *n->gain);
        n->d_gain = mem_new(r->T * out, sizeof *n->d_gain);
    }
    params_touch_all(n->params);
    n->of_time = runner_new((struct runner_options){
        .pool = r->pool, .params = n->params, .build = time_build, .arg = &n->shape, .chunk = r->T});
    n->of_state = runner_new((struct runner_options){
        .pool = r->pool, .params = n->params, .build = state_build, .arg = &n->shape, .chunk = CHUNK});
    n->time = mem_new(r->T * r->o->width, sizeof *n->time);
    n->d_time = mem_new(r->T * r->o->width, sizeof *n->d_time);
    return optim_open(&n->optim, n->params, r->pool, false, e);
}

static void network_close(struct network *n)
{
    runner_free(n->of_time);
    runner_free(n->of_state);
    optim_done(&n->optim);
    params_free(n->params);
    mem_free(n->time);
    mem_free(n->d_time);
    mem_free(n->gain);
    mem_free(n->d_gain);
}

/* To what the network says in row `row` of out, at step k. */
static void add_slope(real *out, const struct network *n, const struct run *r, size_t row, size_t k)
{
    for (size_t i = 0; i < r->D; i++)
        out[row * r->D + i] += n->gain[k * r->D + i] * r->slope[row * r->D + i];
}

/* At every state of the chains, r->x: out [B T, .]. */
static int network_forward(struct network *n, struct run *r, real *out, struct err *e)
{
    const void *const steps[] = {r->embedded}, *const in[] = {r->x, r->times};
    const size_t width = n->shape.width;
    real *const time[] = {n->time, n->gain}, *const values[] = {out};
    if (runner_forward(n->of_time, steps, time, r->T, e) < 0)
        return -1;
    for (size_t b = 0; b < r->B; b++)
        memcpy(r->times + b * r->T * width, n->time, r->T * width * sizeof *n->time);
    if (runner_forward(n->of_state, in, values, r->B * r->T, e) < 0)
        return -1;
    if (n->gain != NULL)
        for (size_t row = 0; row < r->B * r->T; row++)
            add_slope(out, n, r, row, row % r->T);
    return 0;
}

static int network_backward(struct network *n, struct run *r, const real *d_out, struct err *e)
{
    const real *const d_values[] = {d_out}, *const d_time[] = {n->d_time, n->d_gain};
    real *const d_in[] = {NULL, r->d_times};
    const size_t width = n->shape.width;
    if (runner_backward(n->of_state, d_values, d_in, n->optim.grads, e) < 0)
        return -1;
    memset(n->d_time, 0, r->T * width * sizeof *n->d_time);
    for (size_t b = 0; b < r->B; b++)
        for (size_t i = 0; i < r->T * width; i++)
            n->d_time[i] += r->d_times[b * r->T * width + i];
    if (n->gain != NULL) {
        memset(n->d_gain, 0, r->T * r->D * sizeof *n->d_gain);
        for (size_t i = 0; i < r->B * r->T * r->D; i++)
            n->d_gain[i % (r->T * r->D)] += d_out[i] * r->slope[i];
    }
    return runner_backward(n->of_time, d_time, NULL, n->optim.grads, e);
}

/* sin and cos of each step's time at frequencies from WAVE_FIRST to WAVE_LAST, each with a phase of its own. */
static void embed_steps(struct run *r)
{
    float phase[WAVES];
    const struct rng g = rng_stream(r->o->seed, STREAM_PHASE, 0);
    rng_normal_fill(&g, 0, phase, WAVES);
    for (size_t k = 0; k < r->T; k++)
        for (size_t i = 0; i < WAVES; i++) {
            const double frequency = WAVE_FIRST + (WAVE_LAST - WAVE_FIRST) * (double)i / (WAVES - 1);
            const double angle = frequency * (double)k * r->dt + (double)phase[i];
            r->embedded[2 * k * WAVES + i] = (real)sin(angle);
            r->embedded[(2 * k + 1) * WAVES + i] = (real)cos(angle);
        }
}

/* ---- densities of one step ---- */

/* log N(x; 0, variance I) */
static double log_normal(const real *x, size_t D, double variance)
{
    double square = 0.0;
    for (size_t i = 0; i < D; i++)
        square += (double)x[i] * (double)x[i];
    return -square / (2.0 * variance) - (double)D * (HALF_LOG_TWO_PI + 0.5 * log(variance));
}

static double log_forward(const struct run *r, const real *x, const real *u, const real *next)
{
    const double variance = r->sigma * r->sigma * r->dt;
    double square = 0.0;
    for (size_t i = 0; i < r->D; i++) {
        const double z = (double)next[i] - (double)x[i] - r->dt * (double)u[i];
        square += z * z;
    }
    return -square / (2.0 * variance) - (double)r->D * (HALF_LOG_TWO_PI + 0.5 * log(variance));
}

/* Mean share and variance of q(x_k | x_{k+1}); the state before the first step is known. */
static double backward_share(size_t k)
{
    return (double)k / (double)(k + 1);
}

static double log_backward(const struct run *r, size_t k, const real *x, const real *next)
{
    if (k == 0)
        return 0.0;
    const double share = backward_share(k), variance = r->sigma * r->sigma * r->dt * share;
    double square = 0.0;
    for (size_t i = 0; i < r->D; i++) {
        const double z = (double)x[i] - share * (double)next[i];
        square += z * z;
    }
    return -square / (2.0 * variance) - (double)r->D * (HALF_LOG_TWO_PI + 0.5 * log(variance));
}

static double log_density_of(const struct run *r, const real *x)
{
    double v[TARGET_D_MAX];
    for (size_t i = 0; i < r->D; i++)
        v[i] = (double)x[i];
    return r->target->log_density(v);
}

static real *state(const struct run *r, size_t b, size_t k)
{
    return r->states + (b * (r->T + 1) + k) * r->D;
}

/* What the objective wants of a final state. */
static double log_reward(const struct run *r, const real *x)
{
    const double v[2] = {(double)x[0], (double)x[1]};
    const double log_p = log_density_of(r, x);
    return objective_needs(r->o->objective).base ? log_p - target_mixture_log_density(r->target->prior, v) : log_p;
}

/* Adds the prior's drift to the network's, in row `row`, at step k. */
static void add_prior(struct run *r, size_t row, size_t k)
{
    double u[2];
    if (r->target->prior == NULL)
        return;
    const double x[2] = {(double)r->x[2 * row], (double)r->x[2 * row + 1]};
    target_mixture_drift(u, r->target->prior, r->sigma * r->sigma, x, (double)k * r->dt);
    for (size_t i = 0; i < 2; i++) {
        r->prior[2 * row + i] = (real)u[i];
        r->u[2 * row + i] += (real)u[i];
    }
}

/* Of the state in row `row` of r->x. */
static void find_slope(struct run *r, size_t row)
{
    double x[TARGET_D_MAX], slope[TARGET_D_MAX];
    for (size_t i = 0; i < r->D; i++)
        x[i] = (double)r->x[row * r->D + i];
    r->target->gradient(slope, x);
    for (size_t i = 0; i < r->D; i++)
        r->slope[row * r->D + i] = (real)fmax(-SLOPE_MAX, fmin(SLOPE_MAX, slope[i]));
}

/* ---- chains ---- */

/* n chains from the origin by the policy, or by the prior alone, with noise of standard deviation `more`
 * added to every step. */
static int roll_out(struct run *r, bool by_prior, size_t n, uint64_t stream, uint32_t step, double more, struct err *e)
{
    const double spread = sqrt(r->sigma * r->sigma * r->dt + more * more);
    float *noise = mem_new(n * r->D, sizeof *noise);
    const struct rng g = rng_stream(r->o->seed, stream, step);
    const void *const steps[] = {r->embedded};
    const size_t width = r->o->width;
    real *const time[] = {r->policy.time, r->policy.gain};
    int rc = runner_infer(r->policy.of_time, steps, time, r->T, e);
    for (size_t b = 0; b < n; b++)
        memset(state(r, b, 0), 0, r->D * sizeof(real));
    for (size_t k = 0; rc == 0 && k < r->T; k++) {
        for (size_t b = 0; b < n; b++) {
            memcpy(r->x + b * r->D, state(r, b, k), r->D * sizeof(real));
            memcpy(r->times + b * width, r->policy.time + k * width, width * sizeof *r->times);
        }
        const void *const in[] = {r->x, r->times};
        real *const out[] = {r->u};
        if (by_prior)
            memset(r->u, 0, n * r->D * sizeof *r->u);
        else
            rc = runner_infer(r->policy.of_state, in, out, n, e);
        rng_normal_fill(&g, (uint64_t)k * n * r->D, noise, n * r->D);
        for (size_t b = 0; rc == 0 && b < n; b++) {
            if (r->slope != NULL && !by_prior) {
                find_slope(r, b);
                add_slope(r->u, &r->policy, r, b, k);
            }
            add_prior(r, b, k);
            for (size_t i = 0; i < r->D; i++)
                state(r, b, k + 1)[i] = (real)((double)r->x[b * r->D + i] + r->dt * (double)r->u[b * r->D + i] +
                                               spread * (double)noise[b * r->D + i]);
        }
    }
    mem_free(noise);
    return rc;
}

/* The chains that lead to the final states that are there, by q. */
static void roll_back(struct run *r, uint32_t step)
{
    float noise[TARGET_D_MAX];
    const struct rng g = rng_stream(r->o->seed, STREAM_BACKWARD, step);
    for (size_t b = 0; b < r->B; b++) {
        for (size_t k = r->T - 1; k > 0; k--) {
            const double share = backward_share(k), spread = r->sigma * sqrt(r->dt * share);
            rng_normal_fill(&g, (b * r->T + k) * r->D, noise, r->D);
            for (size_t i = 0; i < r->D; i++)
                state(r, b, k)[i] = (real)(share * (double)state(r, b, k + 1)[i] + spread * (double)noise[i]);
        }
        memset(state(r, b, 0), 0, r->D * sizeof(real));
    }
}

/* ---- replay ---- */

static void buffer_open(struct buffer *q, size_t D, size_t room)
{
    *q = (struct buffer){.room = room,
                         .x = mem_new(room * D, sizeof *q->x),
                         .log_r = mem_new(room, sizeof *q->log_r),
                         .order = mem_new(room, sizeof *q->order)};
}

static void buffer_close(struct buffer *q)
{
    mem_free(q->x);
    mem_free(q->log_r);
    mem_free(q->order);
}

static void buffer_add(struct buffer *q, const double *x, size_t D, double log_r)
{
    const size_t at = (size_t)(q->added++ % q->room);
    for (size_t i = 0; i < D; i++)
        q->x[at * D + i] = (float)x[i];
    q->log_r[at] = log_r;
    q->count += q->count < q->room;
}

static const double *ranked_by; /* for qsort, which has no context; one thread trains */

static int by_log_r(const void *a, const void *b)
{
    const double x = ranked_by[*(const uint32_t *)a], y = ranked_by[*(const uint32_t *)b];
    return (x < y) - (x > y);
}

static void buffer_rank(struct buffer *q)
{
    q->ranked = q->count;
    for (size_t i = 0; i < q->ranked; i++)
        q->order[i] = (uint32_t)i;
    ranked_by = q->log_r;
    qsort(q->order, q->ranked, sizeof *q->order, by_log_r);
}

/* p(rank) ~ 1 / (k N + rank), by the inverse of its distribution. */
static size_t buffer_choose(const struct buffer *q, bool by_rank, struct rng *g)
{
    if (!by_rank)
        return (size_t)rng_below(g, q->count);
    const double N = (double)q->ranked, u = rng_uniform(g);
    const double rank = RANK_K * N * (pow(1.0 + 1.0 / RANK_K, u) - 1.0);
    return q->order[rank < N - 1.0 ? (size_t)rank : q->ranked - 1];
}

static bool searches(const struct run *r)
{
    return r->o->replay == TARGET_REPLAY_LOCAL || r->o->replay == TARGET_REPLAY_LOCAL_UNIFORM;
}

static void take_from(struct run *r, struct buffer *q, uint32_t step)
{
    const bool by_rank = r->o->replay == TARGET_REPLAY_RANK || r->o->replay == TARGET_REPLAY_LOCAL;
    struct rng g = rng_stream(r->o->seed, STREAM_CHOICE, step);
    for (size_t b = 0; b < r->B; b++) {
        const size_t at = buffer_choose(q, by_rank, &g);
        for (size_t i = 0; i < r->D; i++)
            state(r, b, r->T)[i] = (real)q->x[at * r->D + i];
    }
}

static void search(struct run *r, uint32_t step)
{
    struct rng g = rng_stream(r->o->seed, STREAM_LOCAL, step);
    for (size_t c = 0; c < LOCAL_CHAINS; c++) {
        double x[TARGET_D_MAX];
        const size_t at = buffer_choose(&r->buffer, true, &g);
        for (size_t i = 0; i < r->D; i++)
            x[i] = (double)r->buffer.x[at * r->D + i];
        double log_r = r->target->log_density(x);
        for (int k = 0; k < LOCAL_STEPS; k++) {
            const bool accepted = target_langevin(r->target, x, &log_r, r->local_step, &g);
            /* towards the wanted rate, slowly */
            r->local_step *= accepted ? exp(1e-4 * (1.0 - LOCAL_ACCEPTANCE)) : exp(-1e-4 * LOCAL_ACCEPTANCE);
            if (accepted && k >= LOCAL_BURN_IN)
                buffer_add(&r->local, x, r->D, log_r);
        }
    }
}

/* Ranks and local search, now and then. */
static void refresh(struct run *r, uint32_t step)
{
    r->refreshed = step;
    if (r->o->replay != TARGET_REPLAY_UNIFORM)
        buffer_rank(&r->buffer);
    if (searches(r))
        search(r, step);
    if (r->o->replay == TARGET_REPLAY_LOCAL)
        buffer_rank(&r->local);
}

/* ---- an update ---- */

static double forward_looking(const struct run *r, size_t k, const real *x)
{
    const double t = (double)k * r->dt;
    if (objective_needs(r->o->objective).base)
        return t * log_reward(r, x);
    return k == 0 ? 0.0 : t * log_density_of(r, x) + (1.0 - t) * log_normal(x, r->D, r->sigma * r->sigma * t);
}

static int predict(struct run *r, bool flow, struct err *e)
{
    for (size_t b = 0; b < r->B; b++)
        memcpy(r->x + b * r->T * r->D, state(r, b, 0), r->T * r->D * sizeof(real));
    if (r->slope != NULL)
        for (size_t row = 0; row < r->B * r->T; row++)
            find_slope(r, row);
    if (network_forward(&r->policy, r, r->u, e) < 0 || (flow && network_forward(&r->flow, r, r->f, e) < 0))
        return -1;
    for (size_t row = 0; row < r->B * r->T; row++)
        add_prior(r, row, row % r->T);
    return 0;
}

static void describe(struct run *r, bool flow)
{
    for (size_t b = 0; b < r->B; b++) {
        r->chain[b] = (struct objective_chain){.first = b * r->T, .count = r->T, .reward = r->log_r[b]};
        double psi = 0.0;
        for (size_t k = 0; k < r->T; k++) {
            const size_t row = b * r->T + k;
            const real *const x = state(r, b, k), *const next = state(r, b, k + 1);
            const bool terminal = k + 1 == r->T;
            const double psi_s = terminal ? r->log_r[b] : r->o->forward_looking ? forward_looking(r, k + 1, next) : 0.0;
            const double log_pf = log_forward(r, x, r->u + row * r->D, next);
            r->transition[row] = (struct objective_transition){
                .log_pf = log_pf,
                .log_pf_old = log_pf,
                .log_ratio_base = log_pf - log_forward(r, x, r->prior + row * r->D, next),
                .log_pb = log_backward(r, k, x, next),
                .flow_t = flow ? (double)r->f[row] : r->log_z,
                .flow_s = !flow || terminal ? 0.0 : (double)r->f[row + 1],
                .psi_t = psi,
                .psi_s = psi_s,
                .step = (uint32_t)k,
                .terminal = terminal,
            };
            psi = psi_s;
        }
    }
}

/* The coefficients of the objective onto the networks' outputs. */
static double spread_cotangents(struct run *r, bool flow, double *d_log_z)
{
    const double slope = r->dt / (r->sigma * r->sigma * r->dt);
    double loss = 0.0;
    *d_log_z = 0.0;
    memset(r->d_f, 0, r->B * r->T * sizeof *r->d_f);
    for (size_t b = 0; b < r->B; b++)
        for (size_t k = 0; k < r->T; k++) {
            const size_t row = b * r->T + k;
            const struct objective_cotangent *const c = &r->cotangent[row];
            const real *const x = state(r, b, k), *const next = state(r, b, k + 1);
            loss += c->loss;
            for (size_t i = 0; i < r->D; i++) {
                const size_t at = row * r->D + i;
                const double off = (double)next[i] - (double)x[i] - r->dt * (double)r->u[at];
                r->d_u[at] = (real)(c->d_log_pf * slope * off);
            }
            if (!flow)
                *d_log_z += c->d_flow_t;
            else {
                r->d_f[row] += (real)c->d_flow_t;
                if (k + 1 < r->T)
                    r->d_f[row + 1] += (real)c->d_flow_s;
            }
        }
    return loss;
}

static double decay(const struct run *r, uint64_t step)
{
    return objective_decay(r->o->lr_final, step - 1, r->o->iterations);
}

static void step_log_z(struct run *r, double d, uint64_t step)
{
    r->log_z_m = 0.9 * r->log_z_m + 0.1 * d;
    r->log_z_v = 0.999 * r->log_z_v + 0.001 * d * d;
    const double m = r->log_z_m / (1.0 - pow(0.9, (double)step)), v = r->log_z_v / (1.0 - pow(0.999, (double)step));
    r->log_z -= r->o->log_z_lr * decay(r, step) * m / (sqrt(v) + 1e-8);
}

static int step_network(struct optim *o, double lr, uint64_t step, struct err *e)
{
    const struct adamw_settings s = {.lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    double norm;
    if (optim_grad_norm(o, &norm, e) < 0)
        return -1;
    optim_step(o, &s, step, 1.0);
    optim_zero_grads(o);
    return 0;
}

/* Balance of whole chains has one flow, log Z, which stands before the first transition alone. */
static bool wants_flow(enum objective_kind kind)
{
    return objective_needs(kind).flow && kind != OBJECTIVE_TB && kind != OBJECTIVE_RTB;
}

static int learn(struct run *r, uint64_t step, double *loss, struct err *e)
{
    const bool flow = wants_flow(r->o->objective);
    const size_t n = r->B * r->T;
    const struct objective_settings settings = {.kind = r->o->objective,
                                                .scale = 1.0,
                                                .beta = 1.0,
                                                .lambda = r->o->lambda,
                                                .policy_weight = 1.0,
                                                .ratio = RATIO_NONE,
                                                .advantage_max = 5.0,
                                                .standardise = true};
    const struct objective_batch batch = {
        .transition = r->transition, .chain = r->chain, .m = r->B, .transitions = n, .chains = r->B};
    double d_log_z;
    if (predict(r, flow, e) < 0)
        return -1;
    describe(r, flow);
    objective_run(r->cotangent, &batch, &settings);
    *loss = spread_cotangents(r, flow, &d_log_z);
    if (!isfinite(*loss))
        return err_set(e, ERR_NONFINITE, "update %llu: the loss is %g", (unsigned long long)step, *loss);
    if (network_backward(&r->policy, r, r->d_u, e) < 0 ||
        step_network(&r->policy.optim, r->o->lr * decay(r, step), step, e) < 0)
        return -1;
    if (flow)
        return network_backward(&r->flow, r, r->d_f, e) < 0
                   ? -1
                   : step_network(&r->flow.optim, r->o->flow_lr * decay(r, step), step, e);
    step_log_z(r, d_log_z, step);
    return 0;
}

static int update(struct run *r, uint64_t step, double *loss, struct err *e)
{
    const struct target_options *o = r->o;
    const bool by_prior = o->replay == TARGET_REPLAY_PRIOR && step % 2 == 0;
    const bool keeps = o->replay != TARGET_REPLAY_NONE && o->replay != TARGET_REPLAY_PRIOR;
    const bool replayed = keeps && step % 2 == 0 && r->buffer.count >= r->B;
    const uint32_t at = (uint32_t)step;
    if (replayed) {
        if (r->refreshed == 0 || step % REFRESH_EVERY == 0)
            refresh(r, at);
        take_from(r, r->local.count >= r->B ? &r->local : &r->buffer, at);
        roll_back(r, at);
    } else {
        const double left = 1.0 - (double)step / (double)(o->exploration_steps + 1);
        if (roll_out(r, by_prior, r->B, STREAM_ROLLOUT, at, by_prior ? 0.0 : o->exploration * fmax(left, 0.0), e) < 0)
            return -1;
    }
    for (size_t b = 0; b < r->B; b++) {
        r->log_r[b] = log_reward(r, state(r, b, r->T));
        if (keeps && !replayed) {
            double x[TARGET_D_MAX];
            for (size_t i = 0; i < r->D; i++)
                x[i] = (double)state(r, b, r->T)[i];
            buffer_add(&r->buffer, x, r->D, r->log_r[b]);
        }
    }
    return learn(r, step, loss, e);
}

/* ---- evaluation ---- */

static void count_modes(struct target_result *out, const struct target_mixture *m, const double *x, size_t n)
{
    double count[TARGET_MODES_MAX] = {0};
    out->modes_chi2 = out->far = (double)NAN;
    if (m == NULL || n == 0)
        return;
    out->modes_chi2 = out->far = 0.0;
    for (size_t i = 0; i < n; i++) {
        const size_t j = target_mixture_nearest(m, x + 2 * i);
        const double a = x[2 * i] - m->mean[j][0], b = x[2 * i + 1] - m->mean[j][1];
        count[j]++;
        out->far += a * a + b * b > FAR * FAR * TARGET_MIXTURE_VARIANCE ? 1.0 / (double)n : 0.0;
    }
    for (size_t j = 0; j < m->count; j++) {
        const double expected = (double)n * m->weight[j];
        out->modes_chi2 += (count[j] - expected) * (count[j] - expected) / expected;
    }
}

static int evaluate(struct run *r, struct target_result *out, uint32_t step, bool distance, struct err *e)
{
    const size_t n = r->o->samples;
    double *log_w = mem_new(n, sizeof *log_w), *x = mem_new(n * r->D, sizeof *x), *y = mem_new(n * r->D, sizeof *y);
    const bool base = objective_needs(r->o->objective).base;
    double sum = 0.0, best = -HUGE_VAL, weights = 0.0;
    int rc = 0;
    for (size_t done = 0; rc == 0 && done < n;) {
        const size_t m = n - done < r->B ? n - done : r->B;
        rc = roll_out(r, false, m, STREAM_EVALUATE + 16 * (1 + done / r->B), step, 0.0, e);
        /* the drifts once more, of all steps at one time */
        const size_t B = r->B;
        r->B = m;
        rc = rc == 0 ? predict(r, false, e) : rc;
        for (size_t b = 0; rc == 0 && b < m; b++) {
            double w = log_reward(r, state(r, b, r->T));
            for (size_t k = 0; k < r->T; k++) {
                const size_t row = (b * r->T + k) * r->D;
                const real *const at = state(r, b, k), *const next = state(r, b, k + 1);
                w += (base ? log_forward(r, at, r->prior + row, next) : log_backward(r, k, at, next)) -
                     log_forward(r, at, r->u + row, next);
            }
            log_w[done + b] = w;
            for (size_t i = 0; i < r->D; i++)
                x[(done + b) * r->D + i] = (double)state(r, b, r->T)[i];
        }
        r->B = B;
        done += m;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        sum += log_w[i];
        best = fmax(best, log_w[i]);
    }
    for (size_t i = 0; rc == 0 && i < n; i++)
        weights += exp(log_w[i] - best);
    out->dlogz = r->target->log_z - sum / (double)n;
    out->dlogz_rw = fabs(r->target->log_z - (best + log(weights / (double)n)));
    count_modes(out, r->target->mixture, x, rc == 0 ? n : 0);
    out->w2 = (double)NAN;
    if (rc == 0 && distance) {
        struct rng g = rng_stream(r->o->seed, STREAM_TRUTH, 0);
        for (size_t i = 0; i < n; i++)
            r->target->draw(y + i * r->D, &g);
        out->w2 = transport_w2(x, y, n, r->D);
    }
    mem_free(y);
    mem_free(x);
    mem_free(log_w);
    return rc;
}

/* ---- all ---- */

static int check_options(const struct target_options *o, struct err *e)
{
    if ((objective_needs(o->objective).base || o->replay == TARGET_REPLAY_PRIOR) && o->target->prior == NULL)
        return err_set(e, ERR_INVALID, "this wants a prior, and target %s has none; 9of25 has", o->target->name);
    if (o->objective == OBJECTIVE_DAG_KL && (o->exploration > 0.0 || o->replay != TARGET_REPLAY_NONE))
        return err_set(e, ERR_INVALID, "dag_kl learns from the policy's own actions alone: leave out exploration and replay");
    if (o->forward_looking && !wants_flow(o->objective))
        return err_set(e, ERR_INVALID, "this objective balances whole chains: nothing in it looks forward");
    return 0;
}

static int open_run(struct run *r, struct err *e)
{
    const size_t rows = r->B * r->T;
    if (pool_new(&r->pool, r->o->threads > 0 ? (size_t)r->o->threads : 1, e) < 0)
        return -1;
    if (network_open(&r->policy, r, r->D, r->o->langevin, r->o->seed, e) < 0 ||
        network_open(&r->flow, r, 1, false, r->o->seed + 1, e) < 0)
        return -1;
    r->states = mem_new(r->B * (r->T + 1) * r->D, sizeof *r->states);
    real **const wide[] = {&r->x, &r->u, &r->d_u, &r->prior};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        *wide[i] = mem_new(rows * r->D, sizeof(real));
    if (r->o->langevin)
        r->slope = mem_new(rows * r->D, sizeof *r->slope);
    r->f = mem_new(rows, sizeof *r->f);
    r->d_f = mem_new(rows, sizeof *r->d_f);
    r->times = mem_new(rows * r->o->width, sizeof *r->times);
    r->d_times = mem_new(rows * r->o->width, sizeof *r->d_times);
    r->embedded = mem_new(2 * r->T * WAVES, sizeof *r->embedded);
    embed_steps(r);
    r->log_r = mem_new(r->B, sizeof *r->log_r);
    r->transition = mem_new(rows, sizeof *r->transition);
    r->cotangent = mem_new(rows, sizeof *r->cotangent);
    r->chain = mem_new(r->B, sizeof *r->chain);
    if (r->o->replay != TARGET_REPLAY_NONE && r->o->replay != TARGET_REPLAY_PRIOR)
        buffer_open(&r->buffer, r->D, BUFFER_MAX);
    if (searches(r))
        buffer_open(&r->local, r->D, BUFFER_MAX);
    r->local_step = 0.01;
    return 0;
}

static void close_run(struct run *r)
{
    network_close(&r->policy);
    network_close(&r->flow);
    pool_free(r->pool);
    buffer_close(&r->buffer);
    buffer_close(&r->local);
    void *const owned[] = {r->states, r->embedded, r->x,   r->u,     r->d_u,        r->prior,     r->f, r->d_f,
                           r->times,  r->d_times,  r->log_r, r->slope, r->transition, r->cotangent, r->chain};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        mem_free(owned[i]);
}

int target_train(struct target_result *out, const struct target_options *o,
                 void (*tell)(void *arg, uint64_t iteration, double loss, const struct target_result *r), void *arg,
                 uint64_t tell_every, struct err *e)
{
    struct run r = {.o = o,
                    .target = o->target,
                    .D = o->target->D,
                    .T = o->steps,
                    .B = o->batch,
                    .dt = 1.0 / (double)o->steps,
                    .sigma = sqrt(o->target->sigma2)};
    const double from = clock_mono_s(NULL);
    double loss = 0.0;
    int rc = check_options(o, e) < 0 ? -1 : open_run(&r, e);
    for (uint64_t step = 1; rc == 0 && step <= o->iterations; step++) {
        rc = update(&r, step, &loss, e);
        out->updates = rc == 0 ? step : step - 1;
        if (rc == 0 && tell != NULL && step % tell_every == 0 && step < o->iterations) {
            rc = evaluate(&r, out, (uint32_t)step, false, e);
            out->seconds = clock_mono_s(NULL) - from;
            if (rc == 0)
                tell(arg, step, loss, out);
        }
    }
    if (rc == 0)
        rc = evaluate(&r, out, (uint32_t)o->iterations, true, e);
    out->seconds = clock_mono_s(NULL) - from;
    close_run(&r);
    return rc;
}
