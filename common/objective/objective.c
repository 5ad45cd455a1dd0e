#include "objective/objective.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TINY 1e-8 /* beside standard deviations */

double objective_beta(double beta, double fraction, uint64_t step, uint64_t steps_total)
{
    const double ramp = fraction * (double)steps_total;
    return ramp <= 0.0 || (double)step >= ramp ? beta : beta * (double)step / ramp;
}

double objective_decay(double last, uint64_t step, uint64_t steps_total)
{
    const double half = 0.5 * (double)steps_total, past = (double)step - half;
    const double most = (double)steps_total - 1.0 - half; /* steps count from 0 */
    if (past <= 0.0 || most <= 0.0)
        return 1.0;
    return past >= most ? last : 1.0 + (last - 1.0) * past / most;
}

bool objective_named(enum objective_kind *out, const char *name)
{
    const char *at = OBJECTIVE_NAMES;
    for (int kind = 0; kind < OBJECTIVE_KINDS; kind++) {
        const size_t n = strcspn(at, "|");
        if (strlen(name) == n && memcmp(at, name, n) == 0) {
            *out = (enum objective_kind)kind;
            return true;
        }
        at += n + (at[n] != 0);
    }
    return false;
}

struct objective_needs objective_needs(enum objective_kind kind)
{
    static const struct objective_needs needs[OBJECTIVE_KINDS] = {
        [OBJECTIVE_DAG_DB] = {.flow = true, .noising = true},
        [OBJECTIVE_DAG_SUBTB] = {.flow = true, .noising = true, .whole_chain = true},
        [OBJECTIVE_DAG_KL] = {.flow = true, .noising = true, .whole_batch = true},
        [OBJECTIVE_TB] = {.flow = true, .noising = true, .whole_chain = true},
        [OBJECTIVE_VARGRAD] = {.noising = true, .whole_chain = true, .whole_batch = true, .groups = true},
        [OBJECTIVE_RESIDUAL_DB] = {.flow = true, .base = true},
        [OBJECTIVE_RTB] = {.flow = true, .base = true, .whole_chain = true},
        [OBJECTIVE_RELATIVE_VARGRAD] = {.base = true, .whole_chain = true, .whole_batch = true, .groups = true},
        [OBJECTIVE_GROUP_SOFTMAX] = {.whole_chain = true, .whole_batch = true, .groups = true},
        [OBJECTIVE_DDPO] = {0},
    };
    assert(kind < OBJECTIVE_KINDS);
    return needs[kind];
}

/* ---- pieces ---- */

/* c of a transition: the log-ratio that is balanced. */
static double ratio_term(const struct objective_transition *x, const struct objective_settings *o)
{
    return o->scale * (objective_needs(o->kind).base ? x->log_ratio_base : x->log_pf - x->log_pb);
}

/* log F at both ends, forward-looking part included. */
static double log_f_t(const struct objective_transition *x, const struct objective_settings *o)
{
    return x->flow_t + o->beta * x->psi_t;
}

static double log_f_s(const struct objective_transition *x, const struct objective_settings *o)
{
    return (x->terminal ? 0.0 : x->flow_s) + o->beta * x->psi_s;
}

static double residual(const struct objective_transition *x, const struct objective_settings *o)
{
    return log_f_t(x, o) + ratio_term(x, o) - log_f_s(x, o);
}

/* delta^2, or beyond delta_max 2 delta_max |delta| - delta_max^2; *half_slope is half of its derivative. */
static double square(double delta, const struct objective_settings *o, double *half_slope)
{
    if (o->delta_max > 0.0 && fabs(delta) > o->delta_max) {
        *half_slope = copysign(o->delta_max, delta);
        return o->delta_max * (2.0 * fabs(delta) - o->delta_max);
    }
    *half_slope = delta;
    return delta * delta;
}

static double clamp(double v, double most)
{
    return most > 0.0 ? fmax(-most, fmin(most, v)) : v;
}

/* ---- by transition ---- */

static size_t end_of(const struct objective_chain *t)
{
    return t->first + t->count;
}

/* The factor on a score when the action was another policy's. */
static double action_weight(const struct objective_transition *x, double advantage, enum objective_ratio ratio,
                            const struct objective_settings *o, bool *clipped)
{
    const double log_w = x->log_pf - x->log_pf_old;
    *clipped = false;
    if (ratio == RATIO_NONE || (ratio == RATIO_RESAMPLED && x->fresh.drawn))
        return 1.0;
    if (ratio != RATIO_CLIPPED) {
        *clipped = log_w > log(o->weight_max);
        return *clipped ? o->weight_max : exp(log_w);
    }
    *clipped = advantage > 0.0 ? o->scale * log_w > o->clip : o->scale * log_w < -o->clip;
    return exp(o->scale * log_w);
}

static void detailed_balance(struct objective_cotangent *out, const struct objective_batch *b,
                             const struct objective_settings *o)
{
    const double share = 1.0 / (double)b->transitions;
    /* where the policy's actions are drawn anew, the flow still learns from those that were scored */
    const bool weighed = o->ratio == RATIO_TRUNCATED || (o->ratio == RATIO_RESAMPLED && o->kind == OBJECTIVE_DAG_KL);
    for (size_t j = 0; j < b->m; j++)
        for (size_t i = b->chain[j].first; i < end_of(&b->chain[j]); i++) {
            const struct objective_transition *x = &b->transition[i];
            const double delta = residual(x, o);
            double slope;
            bool cut = false;
            const double w = weighed ? action_weight(x, 0.0, RATIO_TRUNCATED, o, &cut) : 1.0;
            const double loss = square(delta, o, &slope), d_delta = 2.0 * slope * share * w;
            out[i] = (struct objective_cotangent){
                .delta = delta,
                .loss = loss * share * w,
                .weight = w,
                .clipped = cut,
                .d_log_pf = d_delta * o->scale,
                .d_flow_t = d_delta,
                .d_flow_s = x->terminal ? 0.0 : -d_delta,
            };
        }
}

/* Sums over the transitions of one step of the chain. */
struct at_step {
    double sum, squares;
    uint32_t count;
};

/* v less the mean of the others at the same step (a mean over several steps would not be a baseline), clamped. */
static double leave_one_out(double v, const struct at_step *all, const struct objective_settings *o)
{
    const double others = all->count - 1.0, mean = others > 0.0 ? (all->sum - v) / others : 0.0;
    const double var = others > 1.0 ? (all->squares - v * v) / others - mean * mean : 1.0;
    return clamp(o->standardise ? (v - mean) / (sqrt(fmax(var, 0.0)) + TINY) : v - mean, o->advantage_max);
}

/* The residual of the action that the policy is judged by. */
static double action_residual(const struct objective_transition *x, const struct objective_settings *o)
{
    if (o->ratio != RATIO_RESAMPLED || !x->fresh.drawn)
        return residual(x, o);
    return log_f_t(x, o) + o->scale * (x->fresh.log_pf - x->fresh.log_pb) - x->fresh.flow_s;
}

static void dag_kl(struct objective_cotangent *out, const struct objective_batch *b, const struct objective_settings *o)
{
    struct at_step at[OBJECTIVE_STEPS_MAX] = {0};
    detailed_balance(out, b, o);
    for (size_t j = 0; j < b->m; j++)
        for (size_t i = b->chain[j].first; i < end_of(&b->chain[j]); i++) {
            assert(b->transition[i].step < OBJECTIVE_STEPS_MAX);
            struct at_step *k = &at[b->transition[i].step];
            const double delta = action_residual(&b->transition[i], o);
            k->sum -= delta;
            k->squares += delta * delta;
            k->count++;
        }
    for (size_t j = 0; j < b->m; j++)
        for (size_t i = b->chain[j].first; i < end_of(&b->chain[j]); i++) {
            const double A = leave_one_out(-action_residual(&b->transition[i], o), &at[b->transition[i].step], o);
            out[i].weight = action_weight(&b->transition[i], A, o->ratio, o, &out[i].clipped);
            const bool silent = out[i].clipped && o->ratio == RATIO_CLIPPED;
            out[i].d_log_pf = silent ? 0.0 : -o->policy_weight / (double)b->transitions * A * out[i].weight * o->scale;
        }
}

static void ddpo(struct objective_cotangent *out, const struct objective_batch *b, const struct objective_settings *o)
{
    const double share = 1.0 / (double)b->transitions;
    for (size_t j = 0; j < b->m; j++)
        for (size_t i = b->chain[j].first; i < end_of(&b->chain[j]); i++) {
            const double A = clamp(b->chain[j].advantage, o->advantage_max);
            struct objective_cotangent *c = &out[i];
            *c = (struct objective_cotangent){.delta = A};
            c->weight = action_weight(&b->transition[i], A, RATIO_CLIPPED, o, &c->clipped);
            const double rho = fmax(exp(-o->clip), fmin(exp(o->clip), c->weight));
            c->loss = share * fmax(-A * c->weight, -A * rho);
            c->d_log_pf = c->clipped ? 0.0 : -share * A * c->weight * o->scale;
        }
}

/* ---- by chain ---- */

static void subtb(struct objective_cotangent *out, const struct objective_batch *b, const struct objective_settings *o)
{
    const double share = 1.0 / (double)b->chains;
    double weight[OBJECTIVE_STEPS_MAX], sum[OBJECTIVE_STEPS_MAX]; /* by length less 1; of c from m to each end */
    for (size_t j = 0; j < b->m; j++) {
        const size_t first = b->chain[j].first, n = b->chain[j].count;
        const struct objective_transition *x = b->transition + first;
        struct objective_cotangent *c = out + first;
        double total = 0.0;
        assert(n <= OBJECTIVE_STEPS_MAX);
        for (size_t k = 0; k < n; k++) { /* as many stretches of k + 1 steps as fit */
            weight[k] = pow(o->lambda, (double)(k + 1));
            total += (double)(n - k) * weight[k];
        }
        memset(c, 0, n * sizeof *c);
        for (size_t m = 0; m < n; m++) {
            double covered = 0.0; /* what the stretches from m to e and beyond want of every step up to e */
            for (size_t e = m; e < n; e++)
                sum[e] = (e > m ? sum[e - 1] : 0.0) + ratio_term(&x[e], o);
            for (size_t e = n; e-- > m;) {
                const double delta = log_f_t(&x[m], o) + sum[e] - log_f_s(&x[e], o);
                const double w = share * weight[e - m] / total;
                double slope;
                const double loss = w * square(delta, o, &slope), d_delta = 2.0 * w * slope;
                c[m].d_flow_t += d_delta;
                c[e].d_flow_s -= x[e].terminal ? 0.0 : d_delta;
                c[m].loss += loss;
                covered += d_delta;
                c[e].d_log_pf += covered * o->scale;
                if (e == m)
                    c[m].delta = delta;
            }
            c[m].weight = 1.0;
        }
    }
}

/* Sum of c over a chain less its log-reward; with the initial density where the prior is not kept. */
static double chain_energy(const struct objective_batch *b, const struct objective_chain *t,
                           const struct objective_settings *o)
{
    double sum = objective_needs(o->kind).base ? 0.0 : o->scale * t->log_prior;
    for (size_t i = t->first; i < end_of(t); i++)
        sum += ratio_term(&b->transition[i], o);
    return sum - o->beta * t->reward;
}

/* One coefficient on every log p_F of a chain. */
static void chain_fill(struct objective_cotangent *out, const struct objective_chain *t, double delta, double loss,
                       double d_log_pf)
{
    for (size_t i = t->first; i < end_of(t); i++)
        out[i] = (struct objective_cotangent){
            .delta = delta, .loss = loss / (double)t->count, .weight = 1.0, .d_log_pf = d_log_pf};
}

static void trajectory_balance(struct objective_cotangent *out, const struct objective_batch *b,
                               const struct objective_settings *o)
{
    const double share = 1.0 / (double)b->chains;
    for (size_t j = 0; j < b->m; j++) {
        const struct objective_chain *t = &b->chain[j];
        const double delta = b->transition[t->first].flow_t + chain_energy(b, t, o);
        double slope;
        const double loss = share * square(delta, o, &slope), d_delta = 2.0 * share * slope;
        chain_fill(out, t, delta, loss, d_delta * o->scale);
        out[t->first].d_flow_t = d_delta;
    }
}

/* Mean and unbiased variance of v over the chains of j's group. */
struct group {
    size_t count;
    double mean, var;
};

static struct group group_of(const struct objective_batch *b, size_t j, const double *v)
{
    struct group g = {0};
    for (size_t i = 0; i < b->m; i++)
        if (b->chain[i].group == b->chain[j].group) {
            g.mean += v[i];
            g.count++;
        }
    g.mean /= (double)g.count;
    for (size_t i = 0; i < b->m; i++)
        if (b->chain[i].group == b->chain[j].group)
            g.var += (v[i] - g.mean) * (v[i] - g.mean) / (g.count > 1 ? (double)(g.count - 1) : 1.0);
    return g;
}

/* L: mean over chains of the group's variance of e; the gradient through the mean cancels, so a chain's
 * coefficient is 2 (e - mean) / (K - 1).  A chain without another of its prompt says nothing. */
static void vargrad(struct objective_cotangent *out, const struct objective_batch *b, const struct objective_settings *o)
{
    double *e = mem_new(b->m, sizeof *e);
    for (size_t j = 0; j < b->m; j++)
        e[j] = chain_energy(b, &b->chain[j], o);
    for (size_t j = 0; j < b->m; j++) {
        const struct group g = group_of(b, j, e);
        const double share = (double)g.count / (double)b->chains, delta = e[j] - g.mean;
        const double each = g.count > 1 ? share / (double)(g.count - 1) : 0.0;
        chain_fill(out, &b->chain[j], delta, each * delta * delta, 2.0 * each * delta * o->scale);
    }
    mem_free(e);
}

/* Log of the softmax of factor * v over the chains of j's group, at j. */
static double log_softmax(const struct objective_batch *b, size_t j, const double *v, double factor)
{
    double most = -HUGE_VAL, sum = 0.0;
    for (size_t i = 0; i < b->m; i++)
        if (b->chain[i].group == b->chain[j].group)
            most = fmax(most, factor * v[i]);
    for (size_t i = 0; i < b->m; i++)
        if (b->chain[i].group == b->chain[j].group)
            sum += exp(factor * v[i] - most);
    return factor * v[j] - most - log(sum);
}

static void softmax_match(struct objective_cotangent *out, const struct objective_batch *b,
                          const struct objective_settings *o)
{
    double *chain_p = mem_new(2 * b->m, sizeof *chain_p), *const reward = chain_p + b->m;
    for (size_t j = 0; j < b->m; j++) {
        reward[j] = b->chain[j].reward;
        for (size_t i = b->chain[j].first; i < end_of(&b->chain[j]); i++)
            chain_p[j] += o->scale * b->transition[i].log_pf;
    }
    for (size_t j = 0; j < b->m; j++) {
        const struct group g = group_of(b, j, reward);
        const double share = (double)g.count / (double)b->chains;
        const double log_q = log_softmax(b, j, reward, o->beta / (sqrt(g.var) + TINY)), q = exp(log_q);
        const double log_p = log_softmax(b, j, chain_p, 1.0), p = exp(log_p);
        chain_fill(out, &b->chain[j], p - q, q > 0.0 ? share * q * (log_q - log_p) : 0.0, share * (p - q) * o->scale);
    }
    mem_free(chain_p);
}

void objective_run(struct objective_cotangent *out, const struct objective_batch *b, const struct objective_settings *o)
{
    assert(b->m > 0 && b->transitions > 0 && b->chains >= b->m && o->scale > 0.0);
    assert(!objective_needs(o->kind).whole_batch || b->chains == b->m);
    switch (o->kind) {
    case OBJECTIVE_DAG_DB:
    case OBJECTIVE_RESIDUAL_DB: detailed_balance(out, b, o); break;
    case OBJECTIVE_DAG_SUBTB: subtb(out, b, o); break;
    case OBJECTIVE_DAG_KL: dag_kl(out, b, o); break;
    case OBJECTIVE_TB:
    case OBJECTIVE_RTB: trajectory_balance(out, b, o); break;
    case OBJECTIVE_VARGRAD:
    case OBJECTIVE_RELATIVE_VARGRAD: vargrad(out, b, o); break;
    case OBJECTIVE_GROUP_SOFTMAX: softmax_match(out, b, o); break;
    case OBJECTIVE_DDPO: ddpo(out, b, o); break;
    case OBJECTIVE_KINDS: assert(0 && "objective_run: no such objective");
    }
}
