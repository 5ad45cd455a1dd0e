#include "diffusion/step.h"

#include <assert.h>
#include <math.h>

static const double LN_2PI = 1.8378770664093454836;

double density_scale(enum density_scale scale, size_t n)
{
    assert(n > 0);
    switch (scale) {
    case DENSITY_SUM:
        return 1.0;
    case DENSITY_MEAN:
        return 1.0 / (double)n;
    case DENSITY_SQRT:
        return 1.0 / sqrt((double)n);
    }
    assert(0 && "density_scale: unknown scale");
    return 0.0;
}

static double mean_at(const struct transition_kernel *k, real x_t, real out)
{
    return k->mean_x * (double)x_t + k->mean_out * (double)out;
}

void step_mean(real *mean, const struct transition_kernel *k, const real *x_t, const real *out,
               size_t n)
{
    for (size_t i = 0; i < n; i++)
        mean[i] = (real)mean_at(k, x_t[i], out[i]);
}

void step_x0(real *x0, const struct transition_kernel *k, const real *x_t, const real *out,
             size_t n)
{
    for (size_t i = 0; i < n; i++)
        x0[i] = (real)(k->x0_x * (double)x_t[i] + k->x0_out * (double)out[i]);
}

void step_sample(real *x_s, const struct transition_kernel *k, const real *x_t, const real *out,
                 const real *noise, size_t n)
{
    if (!k->stochastic) {
        step_mean(x_s, k, x_t, out, n);
        return;
    }
    const double sigma = sqrt(k->var);
    for (size_t i = 0; i < n; i++)
        x_s[i] = (real)(mean_at(k, x_t[i], out[i]) + sigma * (double)noise[i]);
}

void step_noise(real *x_t, const struct transition_kernel *k, const real *x_s, const real *noise,
                size_t n)
{
    const double sigma = sqrt(k->q_var);
    for (size_t i = 0; i < n; i++)
        x_t[i] = (real)(k->q_gain * (double)x_s[i] + sigma * (double)noise[i]);
}

/* log N(difference; 0, var I), the differences already squared and summed. */
static double log_normal(double sum_of_squares, double var, size_t n)
{
    return -sum_of_squares / (2.0 * var) - 0.5 * (double)n * (LN_2PI + log(var));
}

double step_log_pf(const struct transition_kernel *k, const real *x_t, const real *out,
                   const real *x_s, size_t n)
{
    assert(k->var > 0.0 && n > 0);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x_s[i] - mean_at(k, x_t[i], out[i]);
        sum += d * d;
    }
    return log_normal(sum, k->var, n);
}

double step_log_ratio(const struct transition_kernel *k, const real *x_t, const real *out,
                      const real *out_base, const real *x_s, size_t n)
{
    assert(k->var > 0.0 && n > 0);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double mean = mean_at(k, x_t[i], out[i]), base = mean_at(k, x_t[i], out_base[i]);
        sum += k->mean_out * ((double)out[i] - (double)out_base[i]) * (2.0 * (double)x_s[i] - mean - base);
    }
    return sum / (2.0 * k->var);
}

double step_log_q(const struct transition_kernel *k, const real *x_t, const real *x_s, size_t n)
{
    assert(k->q_var > 0.0 && n > 0);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x_t[i] - k->q_gain * (double)x_s[i];
        sum += d * d;
    }
    return log_normal(sum, k->q_var, n);
}

void step_log_pf_backward(real *d_out, const struct transition_kernel *k, const real *x_t,
                          const real *out, const real *x_s, size_t n, double coefficient)
{
    assert(k->var > 0.0);
    const double gain = coefficient * k->mean_out / k->var;
    for (size_t i = 0; i < n; i++)
        d_out[i] = (real)(gain * ((double)x_s[i] - mean_at(k, x_t[i], out[i])));
}

double step_kl(const struct transition_kernel *k, const real *out, const real *out_ref, size_t n)
{
    assert(k->var > 0.0);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)out[i] - (double)out_ref[i];
        sum += d * d;
    }
    return k->mean_out * k->mean_out * sum / (2.0 * k->var);
}

void step_guide(real *out, const real *uncond, const real *cond, double weight, size_t n)
{
    const real w = (real)weight;
    for (size_t i = 0; i < n; i++)
        out[i] = uncond[i] + w * (cond[i] - uncond[i]);
}

void step_guide_backward(real *d_uncond, real *d_cond, const real *d_out, double weight, size_t n)
{
    const real w = (real)weight, rest = (real)(1.0 - weight);
    for (size_t i = 0; i < n && d_uncond != NULL; i++)
        d_uncond[i] = rest * d_out[i];
    for (size_t i = 0; i < n && d_cond != NULL; i++)
        d_cond[i] = w * d_out[i];
}
