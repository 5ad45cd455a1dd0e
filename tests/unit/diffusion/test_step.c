#include "diffusion/step.h"
#include "support/suite.h"

#include <math.h>

#define N 6

static const struct plan_options ETA_1 = {.eta = 1.0};

static struct transition_kernel kernel_of(double abar_t, double abar_s, enum prediction_type type,
                                          struct plan_options o)
{
    struct transition_kernel k;
    struct err e;
    ck_assert_msg(transition_kernel_init(&k, abar_t, abar_s, type, &o, 0, &e) == 0, "%s", e.text);
    return k;
}

static const real X_T[N] = {0.3f, -1.1f, 2.0f, 0.0f, 0.7f, -0.4f};
static const real OUT[N] = {0.1f, -0.9f, 1.5f, 0.2f, -0.6f, 0.5f};
static const real NOISE[N] = {1.2f, -0.3f, 0.4f, -2.0f, 0.0f, 0.9f};

static void near(const char *what, double got, double want, double tolerance)
{
    ck_assert_msg(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)), "%s: got %.12g want %.12g",
                  what, got, want);
}

START_TEST(density_of_a_sample_is_that_of_its_noise)
{
    const struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_EPSILON, ETA_1);
    real x_s[N];
    step_sample(x_s, &k, X_T, OUT, NOISE, N);
    double want = 0.0;
    for (int i = 0; i < N; i++)
        want += -0.5 * (double)NOISE[i] * (double)NOISE[i] -
                0.5 * log(2 * 3.14159265358979323846 * k.var);
    near("log p_F", step_log_pf(&k, X_T, OUT, x_s, N), want, 1e-5);
}
END_TEST

START_TEST(density_of_the_noising_kernel_is_that_of_its_noise)
{
    const struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_EPSILON, ETA_1);
    real x_t[N];
    step_noise(x_t, &k, OUT, NOISE, N);
    double want = 0.0;
    for (int i = 0; i < N; i++)
        want += -0.5 * (double)NOISE[i] * (double)NOISE[i] -
                0.5 * log(2 * 3.14159265358979323846 * (1 - 0.3 / 0.4));
    near("log q", step_log_q(&k, x_t, OUT, N), want, 1e-5);
}
END_TEST

START_TEST(backward_is_the_derivative_of_the_density)
{
    static const enum prediction_type types[] = {PREDICTION_EPSILON, PREDICTION_V,
                                                 PREDICTION_SAMPLE};
    for (size_t p = 0; p < sizeof types / sizeof *types; p++) {
        const struct transition_kernel k = kernel_of(0.3, 0.4, types[p], ETA_1);
        real x_s[N], d_out[N];
        step_sample(x_s, &k, X_T, OUT, NOISE, N);
        step_log_pf_backward(d_out, &k, X_T, OUT, x_s, N, 3.0);
        for (int i = 0; i < N; i++) {
            /* the density is a parabola in out: central differences are exact up to rounding */
            const real h = 0.125f;
            real up[N], down[N];
            for (int j = 0; j < N; j++) {
                up[j] = OUT[j] + (j == i ? h : 0);
                down[j] = OUT[j] - (j == i ? h : 0);
            }
            const double want =
                3.0 * (step_log_pf(&k, X_T, up, x_s, N) - step_log_pf(&k, X_T, down, x_s, N)) /
                ((double)up[i] - (double)down[i]);
            near("d log p_F/d out", (double)d_out[i], want, 1e-5);
        }
    }
}
END_TEST

START_TEST(a_step_by_its_mean_reads_no_noise)
{
    struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_EPSILON, ETA_1);
    k.stochastic = false;
    real x_s[N], mean[N];
    step_sample(x_s, &k, X_T, OUT, NULL, N);
    step_mean(mean, &k, X_T, OUT, N);
    for (int i = 0; i < N; i++)
        ck_assert(x_s[i] == mean[i]);
}
END_TEST

START_TEST(x0_undoes_the_noising)
{
    const struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_EPSILON, ETA_1);
    real x_t[N], x0[N];
    for (int i = 0; i < N; i++)
        x_t[i] = (real)(sqrt(0.3) * (double)X_T[i] + sqrt(0.7) * (double)NOISE[i]);
    step_x0(x0, &k, x_t, NOISE, N);
    for (int i = 0; i < N; i++)
        near("x0", (double)x0[i], (double)X_T[i], 1e-6);
}
END_TEST

START_TEST(ratio_to_the_base_is_the_difference_of_the_densities)
{
    const struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_V, ETA_1);
    real other[N], x_s[N];
    for (int i = 0; i < N; i++)
        other[i] = OUT[i] + (real)0.1 * NOISE[i];
    step_sample(x_s, &k, X_T, OUT, NOISE, N);
    ck_assert(step_log_ratio(&k, X_T, OUT, OUT, x_s, N) == 0.0);
    near("ratio", step_log_ratio(&k, X_T, OUT, other, x_s, N),
         step_log_pf(&k, X_T, OUT, x_s, N) - step_log_pf(&k, X_T, other, x_s, N), 1e-9);
}
END_TEST

START_TEST(kl_is_zero_for_itself_and_quadratic_in_the_difference)
{
    const struct transition_kernel k = kernel_of(0.3, 0.4, PREDICTION_EPSILON, ETA_1);
    real other[N], mean[N], mean_other[N];
    double want = 0.0;
    for (int i = 0; i < N; i++)
        other[i] = OUT[i] + NOISE[i];
    step_mean(mean, &k, X_T, OUT, N);
    step_mean(mean_other, &k, X_T, other, N);
    for (int i = 0; i < N; i++)
        want += pow((double)mean[i] - (double)mean_other[i], 2) / (2 * k.var);
    ck_assert(step_kl(&k, OUT, OUT, N) == 0.0);
    near("kl", step_kl(&k, other, OUT, N), want, 1e-5);
}
END_TEST

START_TEST(guidance_and_its_cotangents_are_each_others_transpose)
{
    const double w = 5.0;
    real out[N], d_u[N], d_c[N];
    step_guide(out, X_T, OUT, w, N);
    step_guide_backward(d_u, d_c, NOISE, w, N);
    double forward = 0.0, backward = 0.0;
    for (int i = 0; i < N; i++) {
        near("guided", (double)out[i], (double)X_T[i] + w * ((double)OUT[i] - (double)X_T[i]),
             1e-6);
        forward += (double)out[i] * (double)NOISE[i];
        backward += (double)d_u[i] * (double)X_T[i] + (double)d_c[i] * (double)OUT[i];
    }
    near("<G, guide(u,c)> = <G_u,u> + <G_c,c>", backward, forward, 1e-5);
    step_guide_backward(NULL, d_c, NOISE, 1.0, N);
    for (int i = 0; i < N; i++)
        ck_assert(d_c[i] == NOISE[i]);
}
END_TEST

START_TEST(scales_are_one_over_n_and_its_root)
{
    near("sum", density_scale(DENSITY_SUM, 16384), 1.0, 0);
    near("mean", density_scale(DENSITY_MEAN, 16384), 1.0 / 16384, 0);
    near("sqrt", density_scale(DENSITY_SQRT, 16384), 1.0 / 128, 0);
}
END_TEST

/* Data N(m, s2): with the exact score and the exact variance, detailed balance holds for any pair
 * of states, however unlikely: log F_t + log p_F = log F_s + log q. */
START_TEST(detailed_balance_is_exact_for_gaussian_data)
{
    static const struct {
        double m, s2;
    } data[] = {{.7, 1.0}, {.7, .25}, {-1.3, 4.0}};
    const double half_pi = 1.5707963267948966;
    for (size_t c = 0; c < sizeof data / sizeof *data; c++)
        for (int t = 10; t > 1; t--) {
            const double m = data[c].m, s2 = data[c].s2;
            const double at = pow(cos(half_pi * t / 10 * .9999), 2),
                         as = pow(cos(half_pi * (t - 1) / 10 * .9999), 2);
            const double vt = at * s2 + 1 - at, vs = as * s2 + 1 - as;
            const struct plan_options o = {.eta = 1, .variance = VARIANCE_CUSTOM};
            struct transition_kernel k;
            ck_assert_int_eq(transition_kernel_init(&k, at, as, PREDICTION_EPSILON, &o,
                                                    (1 - at / as) * vs / vt, NULL),
                             0);
            double flow = 0.0;
            real out[N];
            for (int i = 0; i < N; i++) {
                out[i] = (real)(sqrt(1 - at) * ((double)X_T[i] - sqrt(at) * m) / vt);
                flow += -pow((double)X_T[i] - sqrt(at) * m, 2) / (2 * vt) - 0.5 * log(vt);
                flow -= -pow((double)NOISE[i] - sqrt(as) * m, 2) / (2 * vs) - 0.5 * log(vs);
            }
            const double delta =
                flow + step_log_pf(&k, X_T, out, NOISE, N) - step_log_q(&k, X_T, NOISE, N);
            /* out is rounded to real: 1e-11 in double, the score's rounding in float */
            const double tolerance = sizeof(real) == sizeof(double) ? 1e-11 : 1e-4;
            ck_assert_msg(fabs(delta) < tolerance, "data %zu, t %d: delta %g", c, t, delta);
        }
}
END_TEST

SUITE("diffusion/step", 20, density_of_a_sample_is_that_of_its_noise,
      density_of_the_noising_kernel_is_that_of_its_noise, backward_is_the_derivative_of_the_density,
      a_step_by_its_mean_reads_no_noise, x0_undoes_the_noising,
      ratio_to_the_base_is_the_difference_of_the_densities,
      kl_is_zero_for_itself_and_quadratic_in_the_difference,
      guidance_and_its_cotangents_are_each_others_transpose, scales_are_one_over_n_and_its_root,
      detailed_balance_is_exact_for_gaussian_data)
