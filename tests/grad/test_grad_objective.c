/* Detailed balance against exact answers: data N(m, s2 I), for which optimal noise prediction, optimal flow and exact
 * reverse variance are known in closed form (docs/numerics.md, tests T1, T1b, T2, T7).  In double. */
#include "base/rng.h"
#include "diffusion/step.h"
#include "support/suite.h"
#include "trainer/objective.h"

#include <math.h>

#define STEPS 10
#define D 5
#define PI 3.14159265358979323846

static double abar_at(int t)
{
    const double c = cos(0.5 * PI * (double)t / STEPS * 0.9999);
    return c * c;
}

/* Kernel t -> t-1; sd_data^2 < 0: the mode as it is, else CUSTOM with the exact reverse variance (1-a) v_s / v_t. */
static struct transition_kernel kernel_at(int t, enum variance_mode mode, double s2)
{
    const double abar_t = abar_at(t), abar_s = abar_at(t - 1), a = abar_t / abar_s;
    const double v_t = abar_t * s2 + 1.0 - abar_t, v_s = abar_s * s2 + 1.0 - abar_s;
    const double exact = (1.0 - a) * v_s / v_t;
    const struct plan_options o = {.steps = 1, .eta = 1.0, .variance = mode, .custom = &exact};
    struct transition_kernel k;
    struct err e;
    ck_assert_msg(transition_kernel_init(&k, abar_t, abar_s, PREDICTION_EPSILON, &o, exact, &e) == 0,
                  "%s", e.text);
    return k;
}

static void best_eps(double *eps, const double *x, double abar, double m, double s2)
{
    const double v = abar * s2 + 1.0 - abar;
    for (int i = 0; i < D; i++)
        eps[i] = sqrt(1.0 - abar) * (x[i] - sqrt(abar) * m) / v;
}

/* log F*(x, t) - log Z for data N(m, s2 I). */
static double best_log_flow(const double *x, double abar, double m, double s2)
{
    const double v = abar * s2 + 1.0 - abar;
    double sum = 0.0;
    for (int i = 0; i < D; i++)
        sum += -0.5 * log(2.0 * PI * v) - 0.5 * (x[i] - sqrt(abar) * m) * (x[i] - sqrt(abar) * m) / v;
    return sum;
}

static void draw(double *x, struct rng *g, double scale)
{
    const uint64_t first = g->next;
    for (int i = 0; i < D; i++)
        x[i] = scale * (double)rng_normal_at(g, first + (uint64_t)i);
    g->next += D;
}

/* delta of an arbitrary pair (x_t, x_s). */
static double residual(const struct transition_kernel *k, const double *x_t, const double *x_s,
                       double m, double s2, double log_z)
{
    double eps[D];
    best_eps(eps, x_t, k->abar_t, m, s2);
    const struct objective_transition x = {
        .log_pf = step_log_pf(k, x_t, eps, x_s, D),
        .log_pb = step_log_q(k, x_t, x_s, D),
        .flow_t = log_z + best_log_flow(x_t, k->abar_t, m, s2),
        .flow_s = log_z + best_log_flow(x_s, k->abar_s, m, s2),
    };
    const struct objective_settings o = {.scale = 1.0, .beta = 0.0};
    struct objective_cotangent c;
    objective_dag_db(&c, &x, 1, 1, &o);
    return c.delta;
}

START_TEST(t1_balance_holds_exactly_at_the_optimum_for_any_pair)
{
    static const double data[][2] = {{0.7, 1.0}, {0.7, 0.25}, {-1.3, 4.0}};
    struct rng g = rng_stream(1, 1, 0);
    for (size_t j = 0; j < sizeof data / sizeof *data; j++)
        for (int t = STEPS; t >= 1; t--) {
            const struct transition_kernel k = kernel_at(t, VARIANCE_CUSTOM, data[j][1]);
            double x_t[D], x_s[D];
            draw(x_t, &g, 1.7);
            draw(x_s, &g, 1.7);
            ck_assert_double_eq_tol(residual(&k, x_t, x_s, data[j][0], data[j][1], 3.25), 0.0, 1e-11);
        }
}
END_TEST

START_TEST(t1_must_fail_with_another_variance)
{
    struct rng g = rng_stream(1, 2, 0);
    const struct transition_kernel k = kernel_at(5, VARIANCE_SMALL, 0.25);
    double x_t[D], x_s[D];
    draw(x_t, &g, 1.7);
    draw(x_s, &g, 1.7);
    ck_assert_double_gt(fabs(residual(&k, x_t, x_s, 0.7, 0.25, 0.0)), 1e-2);
}
END_TEST

/* With unit-variance data and the small variance, rho = v / (1-a): per element
 * E[delta] = (rho - 1 - ln rho)/2 and Var[delta] = (rho - 1)^2 / 2, on-policy. */
START_TEST(t1b_small_variance_leaves_the_known_bias_and_spread)
{
    enum { N = 20000 };
    struct rng g = rng_stream(1, 3, 0);
    const struct transition_kernel k = kernel_at(4, VARIANCE_SMALL, 1.0);
    const double rho = k.var / k.q_var;
    double sum = 0.0, square = 0.0;
    for (int n = 0; n < N; n++) {
        double x_t[D], eps[D], noise[D], x_s[D];
        draw(x_t, &g, 1.0);
        best_eps(eps, x_t, k.abar_t, 0.0, 1.0);
        draw(noise, &g, 1.0);
        step_sample(x_s, &k, x_t, eps, noise, D);
        const double delta = residual(&k, x_t, x_s, 0.0, 1.0, 0.0);
        sum += delta;
        square += delta * delta;
    }
    const double mean = sum / N, var = square / N - mean * mean;
    const double want_mean = D * 0.5 * (rho - 1.0 - log(rho)), want_var = D * 0.5 * (rho - 1.0) * (rho - 1.0);
    ck_assert_double_eq_tol(mean, want_mean, 5.0 * sqrt(want_var / N));
    ck_assert_double_eq_tol(var / want_var, 1.0, 0.08);
    ck_assert_double_gt(want_mean, 10.0 * sqrt(want_var / N)); /* the bias is not zero within the noise */
}
END_TEST

/* Reward -|x - m|^2 / 2 on unit-variance data: psi_t = -abar |x - sqrt(abar) m|^2 / 2 and
 * log F~ = -(1 - abar)|x - sqrt(abar) m|^2 / 2 balance exactly, and log F~ vanishes as t -> 0. */
START_TEST(t2_the_forward_looking_split_balances_exactly)
{
    const double m = 0.7, beta = 2.5;
    struct rng g = rng_stream(1, 4, 0);
    for (int t = STEPS; t >= 1; t--) {
        const struct transition_kernel k = kernel_at(t, VARIANCE_LARGE, 1.0);
        double x_t[D], x_s[D], eps[D], r_t = 0.0, r_s = 0.0;
        draw(x_t, &g, 1.5);
        draw(x_s, &g, 1.5);
        best_eps(eps, x_t, k.abar_t, m, 1.0);
        for (int i = 0; i < D; i++) {
            r_t -= 0.5 * (x_t[i] - sqrt(k.abar_t) * m) * (x_t[i] - sqrt(k.abar_t) * m);
            r_s -= 0.5 * (x_s[i] - sqrt(k.abar_s) * m) * (x_s[i] - sqrt(k.abar_s) * m);
        }
        const bool terminal = t == 1;
        const struct objective_transition x = {
            .log_pf = step_log_pf(&k, x_t, eps, x_s, D),
            .log_pb = step_log_q(&k, x_t, x_s, D),
            .flow_t = (1.0 - k.abar_t) * r_t,
            .flow_s = terminal ? (double)NAN : (1.0 - k.abar_s) * r_s,
            .psi_t = k.abar_t * r_t / beta,
            .psi_s = k.abar_s * r_s / beta, /* abar_0 = 1: the reward itself */
            .terminal = terminal,
        };
        const struct objective_settings o = {.scale = 1.0, .beta = beta};
        struct objective_cotangent c;
        objective_dag_db(&c, &x, 1, 1, &o);
        ck_assert_double_eq_tol(c.delta, 0.0, 1e-10);
        ck_assert_double_eq(c.d_flow_s, terminal ? 0.0 : -c.d_flow_t);
    }
}
END_TEST

static struct objective_transition any_transition(struct rng *g)
{
    double z[D];
    draw(z, g, 1.0);
    return (struct objective_transition){
        .log_pf = 3.0 * z[0], .log_pb = 2.0 * z[1], .flow_t = z[2], .flow_s = z[3], .psi_t = 0.3, .psi_s = z[4]};
}

START_TEST(t7_scaling_the_unit_multiplies_the_loss_by_its_square)
{
    struct rng g = rng_stream(1, 5, 0);
    const double S = 1.0 / 1024.0;
    for (int n = 0; n < 20; n++) {
        struct objective_transition nats = any_transition(&g), scaled = nats;
        scaled.flow_t *= S;
        scaled.flow_s *= S;
        struct objective_cotangent a, b;
        objective_dag_db(&a, &nats, 1, 7, &(struct objective_settings){.scale = 1.0, .beta = 4.0});
        objective_dag_db(&b, &scaled, 1, 7, &(struct objective_settings){.scale = S, .beta = 4.0 * S});
        ck_assert_double_eq_tol(b.loss, a.loss * S * S, 1e-12 * (a.loss + 1.0));
        ck_assert_double_eq_tol(b.d_log_pf, a.d_log_pf * S * S, 1e-12);
    }
}
END_TEST

START_TEST(t7_a_constant_on_every_reward_moves_only_the_flow)
{
    struct rng g = rng_stream(1, 6, 0);
    const struct objective_settings o = {.scale = 0.5, .beta = 4.0};
    for (int terminal = 0; terminal <= 1; terminal++) {
        struct objective_transition x = any_transition(&g);
        x.terminal = terminal != 0;
        struct objective_transition y = x;
        y.psi_t += 0.2;
        y.psi_s += 0.2;
        struct objective_cotangent a, b;
        objective_dag_db(&a, &x, 1, 1, &o);
        objective_dag_db(&b, &y, 1, 1, &o);
        ck_assert_double_eq_tol(b.delta, a.delta, 1e-12);
    }
}
END_TEST

START_TEST(cotangents_are_the_derivatives_of_the_loss)
{
    struct rng g = rng_stream(1, 7, 0);
    const double h = 1e-6;
    static const double huber[] = {0.0, 0.5, 100.0};
    for (int n = 0; n < 60; n++) {
        const struct objective_settings o = {.scale = 0.5, .beta = 2.0, .delta_max = huber[n % 3]};
        struct objective_transition x = any_transition(&g);
        x.terminal = n % 2 == 1;
        struct objective_cotangent c, up, down;
        objective_dag_db(&c, &x, 1, 3, &o);
        double *const fields[] = {&x.log_pf, &x.flow_t, &x.flow_s};
        const double want[] = {c.d_log_pf, c.d_flow_t, c.d_flow_s};
        for (int f = 0; f < 3; f++) {
            const double at = *fields[f];
            *fields[f] = at + h;
            objective_dag_db(&up, &x, 1, 3, &o);
            *fields[f] = at - h;
            objective_dag_db(&down, &x, 1, 3, &o);
            *fields[f] = at;
            ck_assert_double_eq_tol((up.loss - down.loss) / (2.0 * h), want[f], 1e-6);
        }
    }
}
END_TEST

START_TEST(beta_warms_up_linearly_and_stays)
{
    ck_assert_double_eq(objective_beta(100.0, 0.5, 0, 40), 0.0);
    ck_assert_double_eq(objective_beta(100.0, 0.5, 10, 40), 50.0);
    ck_assert_double_eq(objective_beta(100.0, 0.5, 20, 40), 100.0);
    ck_assert_double_eq(objective_beta(100.0, 0.5, 39, 40), 100.0);
    ck_assert_double_eq(objective_beta(100.0, 0.0, 0, 40), 100.0);
}
END_TEST

START_TEST(the_learning_rate_falls_over_the_second_half)
{
    ck_assert_double_eq(objective_decay(0.1, 0, 40), 1.0);
    ck_assert_double_eq(objective_decay(0.1, 20, 40), 1.0);
    ck_assert_double_eq_tol(objective_decay(0.0, 30, 40), 9.0 / 19.0, 1e-12);
    ck_assert_double_eq(objective_decay(0.1, 39, 40), 0.1);
    ck_assert_double_eq(objective_decay(0.1, 45, 40), 0.1); /* a run whose end was brought forward */
    ck_assert_double_eq(objective_decay(0.1, 0, 1), 1.0);
}
END_TEST

SUITE("trainer/objective", 30, t1_balance_holds_exactly_at_the_optimum_for_any_pair,
      t1_must_fail_with_another_variance, t1b_small_variance_leaves_the_known_bias_and_spread,
      t2_the_forward_looking_split_balances_exactly,
      t7_scaling_the_unit_multiplies_the_loss_by_its_square,
      t7_a_constant_on_every_reward_moves_only_the_flow, cotangents_are_the_derivatives_of_the_loss,
      beta_warms_up_linearly_and_stays, the_learning_rate_falls_over_the_second_half)
