#include "diffusion/schedule.h"

#include <assert.h>
#include <math.h>

static const double PI = 3.14159265358979323846;

struct schedule_config schedule_config_default(void)
{
    return (struct schedule_config){
        .num_train_timesteps = 1000,
        .beta_start = 0.0001,
        .beta_end = 0.02,
        .beta_schedule = BETA_LINEAR,
        .prediction_type = PREDICTION_EPSILON,
        .timestep_spacing = SPACING_LEADING,
        .steps_offset = 0,
        .clip_sample = true,
        .set_alpha_to_one = true,
        .rescale_betas_zero_snr = false,
    };
}

bool schedule_config_as_pipeline(struct schedule_config *c)
{
    const bool changes = c->steps_offset != 1 || c->clip_sample;
    c->steps_offset = 1;
    c->clip_sample = false;
    return changes;
}

/* ---- alphas -------------------------------------------------------------------------------------
 */

static double cosine_abar(double u)
{
    const double c = cos((u + 0.008) / 1.008 * PI / 2.0);
    return c * c;
}

static double beta_at(const struct schedule_config *c, int i)
{
    const double n = c->num_train_timesteps, u = n > 1 ? (double)i / (n - 1.0) : 0.0;
    switch (c->beta_schedule) {
    case BETA_LINEAR:
        return c->beta_start + u * (c->beta_end - c->beta_start);
    case BETA_SCALED_LINEAR: {
        const double r0 = sqrt(c->beta_start), r = r0 + u * (sqrt(c->beta_end) - r0);
        return r * r;
    }
    case BETA_SQUAREDCOS_CAP_V2:
        return fmin(1.0 - cosine_abar((i + 1.0) / n) / cosine_abar(i / n), 0.999);
    }
    assert(0 && "beta_at: unknown beta_schedule");
    return 0.0;
}

/* arXiv 2305.08891 algorithm 1: shift sqrt(abar) so that its last value is 0, scale it so that the
 * first one stays. */
static void rescale_to_zero_snr(double *abar, int n)
{
    const double first = sqrt(abar[0]), last = sqrt(abar[n - 1]);
    for (int i = 0; i < n; i++) {
        const double r = (sqrt(abar[i]) - last) * first / (first - last);
        abar[i] = r * r;
    }
}

int schedule_init(struct schedule *s, const struct schedule_config *c, struct err *e)
{
    const int n = c->num_train_timesteps;
    if (n < 1 || n > SCHEDULE_TRAIN_STEPS_MAX)
        return err_set(e, ERR_INVALID, "schedule: num_train_timesteps %d is not in 1..%d", n,
                       SCHEDULE_TRAIN_STEPS_MAX);
    s->config = *c;
    double abar = 1.0;
    for (int i = 0; i < n; i++) {
        const double beta = beta_at(c, i);
        if (!(beta > 0.0 && beta < 1.0))
            return err_set(e, ERR_INVALID,
                           "schedule: beta %g at timestep %d is not in (0,1): check beta_start %g "
                           "and beta_end %g",
                           beta, i, c->beta_start, c->beta_end);
        abar *= 1.0 - beta;
        s->abar[i] = abar;
    }
    if (c->rescale_betas_zero_snr) {
        if (n < 2)
            return err_set(e, ERR_INVALID, "schedule: rescale_betas_zero_snr needs 2 timesteps");
        rescale_to_zero_snr(s->abar, n);
    }
    return 0;
}

/* ---- timesteps ----------------------------------------------------------------------------------
 */

/* Halves go to even, as in numpy.round; what is rounded has the last bits of numpy.arange, which adds the difference of its
 * first two values, and of numpy.linspace: they decide which values are halves. */
static int timestep_at(const struct schedule_config *c, int steps, int k)
{
    const int n = c->num_train_timesteps;
    switch (c->timestep_spacing) {
    case SPACING_LEADING:
        return (steps - 1 - k) * (n / steps) + c->steps_offset;
    case SPACING_TRAILING: {
        const double apart = n - (n - (double)n / steps);
        return (int)rint(n - k * apart) - 1;
    }
    case SPACING_LINSPACE: {
        if (steps == 1)
            return 0;
        const double apart = (n - 1.0) / (steps - 1.0);
        return k == 0 ? n - 1 : (int)rint((steps - 1 - k) * apart);
    }
    }
    assert(0 && "timestep_at: unknown spacing");
    return 0;
}

int schedule_timesteps(const struct schedule *s, int steps, int *timesteps, struct err *e)
{
    const int n = s->config.num_train_timesteps;
    if (steps < 1 || steps > n)
        return err_set(e, ERR_INVALID, "schedule: %d sampling steps, must be 1..%d", steps, n);
    for (int k = 0; k < steps; k++) {
        timesteps[k] = timestep_at(&s->config, steps, k);
        if (timesteps[k] < 0 || timesteps[k] >= n)
            return err_set(e, ERR_INVALID,
                           "schedule: %d sampling steps with steps_offset %d reach timestep %d of "
                           "0..%d: take fewer steps",
                           steps, s->config.steps_offset, timesteps[k], n - 1);
    }
    return 0;
}

/* ---- transitions --------------------------------------------------------------------------------
 */

/* x0 = a x_t + b out and eps = c x_t + d out, for what the network predicts. */
struct prediction {
    double x0_x, x0_out, eps_x, eps_out;
};

static struct prediction prediction_of(enum prediction_type type, double abar_t)
{
    const double alpha = sqrt(abar_t), sigma = sqrt(1.0 - abar_t);
    switch (type) {
    case PREDICTION_EPSILON:
        return (struct prediction){1.0 / alpha, -sigma / alpha, 0.0, 1.0};
    case PREDICTION_V:
        return (struct prediction){alpha, -sigma, sigma, alpha};
    case PREDICTION_SAMPLE:
        return (struct prediction){0.0, 1.0, 1.0 / sigma, -alpha / sigma};
    }
    assert(0 && "prediction_of: unknown prediction_type");
    return (struct prediction){0};
}

static int check_options(const struct plan_options *o, struct err *e)
{
    if (!(o->eta >= 0.0 && o->eta <= 1.0))
        return err_set(e, ERR_INVALID, "transition: eta %g is not in [0,1]", o->eta);
    if (o->variance != VARIANCE_SMALL && o->eta != 1.0)
        return err_set(e, ERR_INVALID,
                       "transition: eta %g with a variance that is not eta's own: set eta to 1, or "
                       "the variance to small",
                       o->eta);
    if (o->variance == VARIANCE_FLOOR && !(o->floor_kappa > 0.0 && o->floor_kappa <= 1.0))
        return err_set(e, ERR_INVALID, "transition: variance floor %g is not in (0,1]",
                       o->floor_kappa);
    return 0;
}

int transition_kernel_init(struct transition_kernel *k, double abar_t, double abar_s,
                           enum prediction_type prediction, const struct plan_options *o,
                           double custom, struct err *e)
{
    if (check_options(o, e) < 0)
        return -1;
    if (!(abar_t >= 0.0 && abar_t < 1.0 && abar_s >= abar_t && abar_s <= 1.0 && abar_s > 0.0))
        return err_set(e, ERR_INVALID, "transition: abar %g to %g is no denoising step", abar_t,
                       abar_s);
    if (prediction == PREDICTION_EPSILON && abar_t == 0.0)
        return err_set(e, ERR_INVALID,
                       "transition: a step from zero signal needs v_prediction: epsilon says "
                       "nothing about x0 there");
    const double q_var = 1.0 - abar_t / abar_s;
    const double small = (1.0 - abar_s) / (1.0 - abar_t) * q_var;
    const double mean_var =
        o->eta * o->eta * small; /* the variance that the mean leaves room for */
    const struct prediction p = prediction_of(prediction, abar_t);
    const double to_x0 = sqrt(abar_s), to_eps = sqrt(fmax(0.0, 1.0 - abar_s - mean_var));
    double var = mean_var;
    if (o->variance == VARIANCE_LARGE)
        var = q_var;
    else if (o->variance == VARIANCE_FLOOR)
        var = fmax(small, o->floor_kappa * q_var);
    else if (o->variance == VARIANCE_CUSTOM)
        var = custom;
    if (!(var >= 0.0 && isfinite(var)) || (o->variance == VARIANCE_CUSTOM && var == 0.0))
        return err_set(e, ERR_INVALID, "transition: variance %g is not positive", var);
    *k = (struct transition_kernel){
        .abar_t = abar_t,
        .abar_s = abar_s,
        .mean_x = to_x0 * p.x0_x + to_eps * p.eps_x,
        .mean_out = to_x0 * p.x0_out + to_eps * p.eps_out,
        .x0_x = p.x0_x,
        .x0_out = p.x0_out,
        .var = var,
        .q_gain = sqrt(abar_t / abar_s),
        .q_var = q_var,
        .stochastic = var > 0.0 && q_var > 0.0,
    };
    return 0;
}

int schedule_plan(struct transition_kernel *kernels, const struct schedule *s,
                  const struct plan_options *o, struct err *e)
{
    const struct schedule_config *c = &s->config;
    if (c->clip_sample)
        return err_set(e, ERR_INVALID,
                       "schedule: clip_sample true has no density: set it to false, as "
                       "StableDiffusionPipeline does");
    int timesteps[SCHEDULE_TRAIN_STEPS_MAX];
    if (schedule_timesteps(s, o->steps, timesteps, e) < 0)
        return -1;
    const double last_abar = c->set_alpha_to_one && !o->clamp_last ? 1.0 : s->abar[0];
    for (int k = 0; k < o->steps; k++) {
        const int t = timesteps[k], next = t - c->num_train_timesteps / o->steps;
        const double abar_s = next >= 0 ? s->abar[next] : last_abar;
        const double custom = o->variance == VARIANCE_CUSTOM ? o->custom[k] : 0.0;
        if (transition_kernel_init(&kernels[k], s->abar[t], abar_s, c->prediction_type, o, custom,
                                   e) < 0)
            return err_wrap(e, "step %d of %d (timestep %d)", k + 1, o->steps, t);
        kernels[k].t = t;
        kernels[k].s = next;
    }
    if (o->last_step_mean)
        kernels[o->steps - 1].stochastic = false;
    return 0;
}

bool schedule_plan_departs(const struct schedule *s, const struct plan_options *o)
{
    return s->config.set_alpha_to_one && o->clamp_last;
}
