/* Objectives against exact answers (docs/numerics.md, tests T1 to T7), in double.  Data N(m, s2 I): optimal noise
 * prediction, optimal flow and exact reverse variance are known in closed form; one Gaussian step; a prior chain
 * tilted by a linear reward. */
#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/step.h"
#include "support/suite.h"
#include "objective/objective.h"

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

/* The objective of one transition alone, in an update of `count`. */
static struct objective_cotangent run_one(const struct objective_transition *x, size_t count,
                                          const struct objective_settings *o)
{
    struct objective_cotangent c;
    const struct objective_chain chain = {.count = 1};
    const struct objective_batch b = {x, &chain, 1, count, count};
    objective_run(&c, &b, o);
    return c;
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
    return run_one(&x, 1, &o).delta;
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
        const struct objective_cotangent c = run_one(&x, 1, &o);
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
        const struct objective_cotangent a = run_one(&nats, 7, &(struct objective_settings){.scale = 1.0, .beta = 4.0});
        const struct objective_cotangent b = run_one(&scaled, 7, &(struct objective_settings){.scale = S, .beta = 4.0 * S});
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
        ck_assert_double_eq_tol(run_one(&y, 1, &o).delta, run_one(&x, 1, &o).delta, 1e-12);
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
        const struct objective_cotangent c = run_one(&x, 3, &o);
        double *const fields[] = {&x.log_pf, &x.flow_t, &x.flow_s};
        const double want[] = {c.d_log_pf, c.d_flow_t, c.d_flow_s};
        for (int f = 0; f < 3; f++) {
            const double at = *fields[f];
            *fields[f] = at + h;
            const double up = run_one(&x, 3, &o).loss;
            *fields[f] = at - h;
            const double down = run_one(&x, 3, &o).loss;
            *fields[f] = at;
            ck_assert_double_eq_tol((up - down) / (2.0 * h), want[f], 1e-6);
        }
    }
}
END_TEST

/* ---- values, which derivatives alone do not fix ---- */

START_TEST(the_huber_loss_meets_the_square_where_it_begins)
{
    const struct objective_settings o = {.scale = 1.0, .beta = 1.0, .delta_max = 0.5};
    static const double delta[] = {0.5 - 1e-9, 0.5 + 1e-9, -2.0}, loss[] = {0.25, 0.25, 2.0 * 0.5 * 2.0 - 0.25};
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(run_one(&(struct objective_transition){.flow_t = delta[i]}, 1, &o).loss, loss[i], 1e-8);
}
END_TEST

START_TEST(a_truncated_weight_is_the_ratio_up_to_its_largest)
{
    struct objective_settings o = {.kind = OBJECTIVE_DAG_DB, .scale = 0.5, .beta = 1.0, .ratio = RATIO_TRUNCATED, .weight_max = 2.0,
                                   .policy_weight = 1.0};
    struct objective_transition x = {.log_pf = log(1.5), .flow_t = 1.0}; /* in nats, whatever the scale */
    ck_assert_double_eq_tol(run_one(&x, 1, &o).weight, 1.5, 1e-12);
    ck_assert(!run_one(&x, 1, &o).clipped);
    /* an action drawn anew is the policy's own; where there is none, the stored one is weighed */
    o.kind = OBJECTIVE_DAG_KL;
    o.ratio = RATIO_RESAMPLED;
    ck_assert_double_eq_tol(run_one(&x, 1, &o).weight, 1.5, 1e-12);
    x.fresh.drawn = true;
    ck_assert_double_eq(run_one(&x, 1, &o).weight, 1.0);
    o.kind = OBJECTIVE_DAG_DB;
    o.ratio = RATIO_TRUNCATED;
    x.log_pf = log(5.0);
    const struct objective_cotangent c = run_one(&x, 1, &o);
    ck_assert_double_eq(c.weight, 2.0);
    ck_assert(c.clipped);
    ck_assert_double_eq_tol(c.d_flow_t, 2.0 * 2.0 * (1.0 + 0.5 * log(5.0)), 1e-12);
}
END_TEST

/* Three chains of two steps, whose residuals are far apart from step to step. */
START_TEST(an_advantage_is_over_the_others_at_the_same_step)
{
    enum { M = 3, T = 2 };
    static const double delta[M][T] = {{1.0, -30.0}, {2.0, -31.0}, {6.0, -35.0}};
    struct objective_settings o = {.kind = OBJECTIVE_DAG_KL, .scale = 0.5, .beta = 1.0, .policy_weight = 0.7};
    struct objective_transition x[M * T];
    struct objective_chain chain[M];
    struct objective_cotangent c[M * T];
    for (size_t j = 0; j < M; j++) {
        chain[j] = (struct objective_chain){.first = j * T, .count = T};
        for (size_t k = 0; k < T; k++)
            x[j * T + k] = (struct objective_transition){.flow_t = delta[j][k], .step = (uint32_t)k};
    }
    for (int clamped = 0; clamped < 2; clamped++) {
        o.advantage_max = clamped ? 1.0 : 0.0;
        objective_run(c, &(struct objective_batch){x, chain, M, M * T, M}, &o);
        for (size_t j = 0; j < M; j++)
            for (size_t k = 0; k < T; k++) {
                double A = -delta[j][k];
                for (size_t i = 0; i < M; i++)
                    A += i == j ? 0.0 : delta[i][k] / (M - 1);
                A = clamped ? fmax(-1.0, fmin(1.0, A)) : A;
                ck_assert_double_eq_tol(c[j * T + k].d_log_pf, -0.7 / (M * T) * A * 0.5, 1e-12);
            }
    }
    /* over the deviation of the others; of a single other one there is none */
    o.advantage_max = 0.0;
    o.standardise = true;
    objective_run(c, &(struct objective_batch){x, chain, M, M * T, M}, &o);
    ck_assert_double_eq_tol(c[0].d_log_pf, -0.7 / (M * T) * (3.0 / 2.0) * 0.5, 1e-8); /* 2 and 6: mean 4, deviation 2 */
    objective_run(c, &(struct objective_batch){x, chain, 2, 2 * T, 2}, &o);
    ck_assert_double_eq_tol(c[0].d_log_pf, -0.7 / (2 * T) * 1.0 * 0.5, 1e-7);
}
END_TEST

/* Scores are silent beyond the clip in the unit of the scale; the flow is not. */
START_TEST(the_clip_is_in_the_scaled_unit_and_silences_the_score_alone)
{
    struct objective_settings o = {.kind = OBJECTIVE_DAG_KL, .scale = 0.5, .beta = 1.0, .policy_weight = 1.0, .ratio = RATIO_CLIPPED,
                                   .clip = 0.2};
    for (int beyond = 0; beyond < 2; beyond++) {
        /* the residual is below 0: more of this action is wanted */
        const struct objective_transition x = {.log_pf = beyond ? 0.41 : 0.39, .flow_t = -3.0};
        const struct objective_cotangent c = run_one(&x, 1, &o);
        ck_assert_int_eq(c.clipped, beyond);
        ck_assert_int_eq(c.d_log_pf == 0.0, beyond);
        ck_assert_double_ne(c.d_flow_t, 0.0);
    }
    o.kind = OBJECTIVE_DDPO;
    for (int beyond = 0; beyond < 2; beyond++) {
        const struct objective_transition x = {.log_pf = beyond ? 0.41 : 0.39};
        const struct objective_chain chain = {.count = 1, .advantage = 1.0};
        struct objective_cotangent c;
        objective_run(&c, &(struct objective_batch){&x, &chain, 1, 1, 1}, &o);
        ck_assert_int_eq(c.clipped, beyond);
    }
}
END_TEST

START_TEST(ddpos_loss_is_the_worse_of_the_ratio_and_its_clip_by_a_bounded_advantage)
{
    const struct objective_settings o = {.kind = OBJECTIVE_DDPO, .scale = 1.0, .clip = 1.64, .advantage_max = 5.0};
    static const struct {
        double advantage, log_ratio, loss, slope; /* of an update of two */
    } cases[] = {{1.0, 2.0, -0.5 * 5.155169510, 0.0},  /* exp(1.64) */
                 {-1.0, -2.0, 0.5 * 0.1939800, 0.0},   /* exp(-1.64) */
                 {-1.0, 2.0, 0.5 * 7.389056099, 0.5 * 7.389056099},
                 {100.0, 0.0, -0.5 * 5.0, -0.5 * 5.0},
                 {-100.0, 0.0, 0.5 * 5.0, 0.5 * 5.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct objective_transition x = {.log_pf = cases[i].log_ratio};
        const struct objective_chain chain = {.count = 1, .advantage = cases[i].advantage};
        struct objective_cotangent c;
        objective_run(&c, &(struct objective_batch){&x, &chain, 1, 2, 2}, &o);
        ck_assert_double_eq_tol(c.loss, cases[i].loss, 1e-6);
        ck_assert_double_eq_tol(c.d_log_pf, cases[i].slope, 1e-6);
    }
}
END_TEST

/* A chain of three steps: six stretches, by lambda to the power of their length. */
START_TEST(subtb_weighs_every_stretch_by_its_length)
{
    const double lambda = 0.8, S = 0.5, beta = 2.0;
    const struct objective_settings o = {.kind = OBJECTIVE_DAG_SUBTB, .scale = S, .beta = beta, .lambda = lambda};
    struct rng g = rng_stream(1, 13, 0);
    struct objective_transition x[3];
    struct objective_cotangent c[3];
    for (int i = 0; i < 3; i++) {
        x[i] = any_transition(&g);
        x[i].terminal = i == 2;
    }
    double want = 0.0, total = 0.0, got = 0.0;
    for (int m = 0; m < 3; m++) {
        double sum = x[m].flow_t + beta * x[m].psi_t;
        for (int e = m; e < 3; e++) {
            sum += S * (x[e].log_pf - x[e].log_pb);
            const double delta = sum - (x[e].terminal ? 0.0 : x[e].flow_s) - beta * x[e].psi_s;
            want += pow(lambda, e - m + 1) * delta * delta;
            total += pow(lambda, e - m + 1);
        }
    }
    const struct objective_chain chain = {.count = 3};
    objective_run(c, &(struct objective_batch){x, &chain, 1, 12, 4}, &o); /* of four chains */
    for (int i = 0; i < 3; i++)
        got += c[i].loss;
    ck_assert_double_eq_tol(got, want / total / 4.0, 1e-12);
}
END_TEST

START_TEST(a_chains_residual_is_its_ratios_less_its_reward_and_from_the_start_where_no_prior_is_kept)
{
    static const struct {
        enum objective_kind kind;
        double delta[2];
    } cases[] = {
        /* log Z .3, S 1/2, prior -4 and -6, sum c 1.5 and 3.5 (against the base 1 and 2), beta r 2 and 6 */
        {OBJECTIVE_TB, {0.3 - 2.0 + 1.5 - 2.0, 0.3 - 3.0 + 3.5 - 6.0}},
        {OBJECTIVE_RTB, {0.3 + 1.0 - 2.0, 0.3 + 2.0 - 6.0}},
        {OBJECTIVE_VARGRAD, {(-2.0 + 1.5 - 2.0 + 3.0 - 3.5 + 6.0) / 2.0, -(-2.0 + 1.5 - 2.0 + 3.0 - 3.5 + 6.0) / 2.0}},
        {OBJECTIVE_RELATIVE_VARGRAD, {(1.0 - 2.0 - 2.0 + 6.0) / 2.0, -(1.0 - 2.0 - 2.0 + 6.0) / 2.0}}};
    const struct objective_transition x[] = {
        {.log_pf = 4.0, .log_pb = 2.0, .log_ratio_base = 1.5, .flow_t = 0.3}, {.log_pf = 3.0, .log_pb = 2.0, .log_ratio_base = 0.5, .flow_t = 7.0},
        {.log_pf = 4.0, .log_pb = -2.0, .log_ratio_base = 3.0, .flow_t = 0.3}, {.log_pf = 3.0, .log_pb = 2.0, .log_ratio_base = 1.0, .flow_t = 7.0}};
    const struct objective_chain chain[] = {{.count = 2, .reward = 1.0, .log_prior = -4.0},
                                            {.first = 2, .count = 2, .reward = 3.0, .log_prior = -6.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct objective_cotangent c[4];
        objective_run(c, &(struct objective_batch){x, chain, 2, 4, 2},
                      &(struct objective_settings){.kind = cases[i].kind, .scale = 0.5, .beta = 2.0});
        for (int j = 0; j < 2; j++)
            ck_assert_double_eq_tol(c[2 * j].delta, cases[i].delta[j], 1e-12);
    }
}
END_TEST

START_TEST(a_groups_softmax_is_of_rewards_over_their_unbiased_deviation)
{
    static const double reward[] = {10.0, 13.0, 16.0, 99.0}; /* deviation 3; the last one is of another prompt */
    struct objective_transition x[4] = {{.log_pf = 0.7}, {.log_pf = 0.7}, {.log_pf = 0.7}, {.log_pf = 0.7}};
    struct objective_chain chain[4];
    struct objective_cotangent c[4];
    double sum = 0.0;
    for (size_t j = 0; j < 4; j++)
        chain[j] = (struct objective_chain){.first = j, .count = 1, .group = j < 3, .reward = reward[j]};
    objective_run(c, &(struct objective_batch){x, chain, 4, 4, 4},
                  &(struct objective_settings){.kind = OBJECTIVE_GROUP_SOFTMAX, .scale = 0.5, .beta = 2.0});
    for (int j = 0; j < 3; j++)
        sum += exp(2.0 * j);
    for (int j = 0; j < 3; j++)
        ck_assert_double_eq_tol(c[j].delta, 1.0 / 3.0 - exp(2.0 * j) / sum, 1e-7);
    ck_assert_double_eq(c[3].delta, 0.0);
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


/* ---- every objective's cotangents ---- */

#define CHAINS 7
#define CHAIN_MAX 4

struct any_batch {
    struct objective_transition x[CHAINS * CHAIN_MAX];
    struct objective_chain chain[CHAINS];
    size_t n;
};

/* Chains of 1 to 4 transitions, of three prompts, one of which has one chain alone. */
static void any_batch(struct any_batch *b, struct rng *g)
{
    static const uint32_t group[CHAINS] = {5, 9, 5, 5, 9, 2, 9};
    b->n = 0;
    for (size_t j = 0; j < CHAINS; j++) {
        double z[D];
        draw(z, g, 1.0);
        b->chain[j] = (struct objective_chain){.first = b->n, .count = 1 + j % CHAIN_MAX, .group = group[j], .reward = z[0],
                                               .log_prior = z[1], .advantage = z[2]};
        for (size_t i = 0; i < b->chain[j].count; i++) {
            struct objective_transition *x = &b->x[b->n++];
            *x = any_transition(g);
            x->step = (uint32_t)i;
            x->terminal = i + 1 == b->chain[j].count;
            x->log_pf_old = x->log_pf + 0.1 * z[3];
            x->log_ratio_base = z[4];
        }
    }
}

static double total_loss(const struct any_batch *b, const struct objective_settings *o, struct objective_cotangent *c)
{
    const struct objective_batch all = {b->x, b->chain, CHAINS, b->n, CHAINS};
    objective_run(c, &all, o);
    double sum = 0.0;
    for (size_t i = 0; i < b->n; i++)
        sum += c[i].loss;
    return sum;
}

START_TEST(every_objectives_cotangents_are_the_derivatives_of_its_loss)
{
    static const enum objective_kind kinds[] = {
        OBJECTIVE_DAG_DB, OBJECTIVE_DAG_SUBTB, OBJECTIVE_TB, OBJECTIVE_VARGRAD, OBJECTIVE_RESIDUAL_DB, OBJECTIVE_RTB,
        OBJECTIVE_RELATIVE_VARGRAD, OBJECTIVE_GROUP_SOFTMAX, OBJECTIVE_DDPO};
    struct rng g = rng_stream(1, 8, 0);
    const double h = 1e-5;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const struct objective_settings o = {.kind = kinds[k], .scale = 0.5, .beta = 2.0, .lambda = 0.8, .clip = 0.2,
                                             .delta_max = k % 2 == 0 ? 1.5 : 0.0};
        struct any_batch b;
        struct objective_cotangent c[CHAINS * CHAIN_MAX], unused[CHAINS * CHAIN_MAX];
        double moved = 0.0;
        any_batch(&b, &g);
        total_loss(&b, &o, c);
        for (size_t i = 0; i < b.n; i++) {
            const double want[] = {c[i].d_log_pf, c[i].d_flow_t, c[i].d_flow_s};
            for (int f = 0; f < 3; f++) {
                struct any_batch up = b, down = b;
                double *const at[2][3] = {{&up.x[i].log_pf, &up.x[i].flow_t, &up.x[i].flow_s},
                                          {&down.x[i].log_pf, &down.x[i].flow_t, &down.x[i].flow_s}};
                *at[0][f] += h;
                *at[1][f] -= h;
                if (f == 0) { /* the ratio to the base moves with log p_F */
                    up.x[i].log_ratio_base += h;
                    down.x[i].log_ratio_base -= h;
                }
                const double got = (total_loss(&up, &o, unused) - total_loss(&down, &o, unused)) / (2.0 * h);
                ck_assert_msg(fabs(got - want[f]) < 1e-8, "objective %d, transition %zu, field %d: got %g want %g", (int)kinds[k],
                              i, f, want[f], got);
                moved = fmax(moved, fabs(got));
            }
        }
        ck_assert_double_gt(moved, 1e-3);
    }
}
END_TEST

START_TEST(micro_batches_add_up_to_the_whole)
{
    static const enum objective_kind kinds[] = {OBJECTIVE_DAG_DB, OBJECTIVE_DAG_SUBTB, OBJECTIVE_TB, OBJECTIVE_RESIDUAL_DB,
                                                OBJECTIVE_RTB, OBJECTIVE_DDPO};
    struct rng g = rng_stream(1, 9, 0);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const struct objective_settings o = {.kind = kinds[k], .scale = 0.5, .beta = 2.0, .lambda = 0.8, .clip = 0.2};
        struct any_batch b;
        struct objective_cotangent whole[CHAINS * CHAIN_MAX], parts[CHAINS * CHAIN_MAX];
        any_batch(&b, &g);
        ck_assert(!objective_needs(kinds[k]).whole_batch);
        total_loss(&b, &o, whole);
        for (size_t first = 0; first < CHAINS; first += 3) {
            const struct objective_batch part = {b.x, b.chain + first, first + 3 <= CHAINS ? 3 : CHAINS - first, b.n, CHAINS};
            objective_run(parts, &part, &o);
        }
        for (size_t i = 0; i < b.n; i++) {
            ck_assert_double_eq(parts[i].delta, whole[i].delta);
            ck_assert_double_eq(parts[i].loss, whole[i].loss);
            ck_assert_double_eq(parts[i].d_log_pf, whole[i].d_log_pf);
            ck_assert_double_eq(parts[i].d_flow_t, whole[i].d_flow_t);
            ck_assert_double_eq(parts[i].d_flow_s, whole[i].d_flow_s);
        }
    }
}
END_TEST

/* ---- one Gaussian step: T3 and T4 ---- */

#define T3_MU 0.3
#define T3_SD 0.5
#define T3_EXACT ((T3_MU - 0.9) / 0.64) /* d KL(N(mu, sd^2) || N(.9, .8^2)) / d mu */

static double log_normal_at(double x, double mu, double sd)
{
    return -0.5 * log(2.0 * PI) - log(sd) - 0.5 * (x - mu) * (x - mu) / (sd * sd);
}

/* Mean gradient on mu over n actions from N(mu_b, sd_b^2), in one update; groups of `group`. */
static double t3_gradients(const struct objective_settings *o, double mu_b, double sd_b, size_t n, uint32_t group,
                           double *d_flow)
{
    struct objective_transition *x = mem_new(n, sizeof *x);
    struct objective_chain *chain = mem_new(n, sizeof *chain);
    struct objective_cotangent *c = mem_new(n, sizeof *c);
    double *action = mem_new(n, sizeof *action), sum = 0.0;
    const struct rng g = rng_stream(3, group, 0);
    for (size_t i = 0; i < n; i++) {
        const double a = action[i] = mu_b + sd_b * (double)rng_normal_at(&g, i), reward = log_normal_at(a, 0.9, 0.8);
        x[i] = (struct objective_transition){.log_pf = log_normal_at(a, T3_MU, T3_SD), .log_pf_old = log_normal_at(a, mu_b, sd_b),
                                             .psi_s = reward, .terminal = true};
        chain[i] = (struct objective_chain){.first = i, .count = 1, .group = (uint32_t)(i / group), .reward = reward};
    }
    /* groups are found by search: a part of the chains at a time */
    const size_t step = objective_needs(o->kind).groups ? 64 * group : n;
    for (size_t first = 0; first < n; first += step) {
        const struct objective_batch b = {x, chain + first, step, step, step};
        objective_run(c, &b, o);
        for (size_t i = first; i < first + step; i++)
            sum += (double)step / (double)n * c[i].d_log_pf * (action[i] - T3_MU) / (T3_SD * T3_SD);
    }
    *d_flow = 0.0;
    for (size_t i = 0; i < n; i++)
        *d_flow += c[i].d_flow_t;
    mem_free(action);
    mem_free(c);
    mem_free(chain);
    mem_free(x);
    return sum;
}

static double t3_gradient(const struct objective_settings *o, double mu_b, double sd_b, size_t n, uint32_t group)
{
    double d_flow;
    return t3_gradients(o, mu_b, sd_b, n, group, &d_flow);
}

#define T3_N 1024000
#define T3_TOLERANCE 0.01

START_TEST(t3_the_policy_gradient_is_that_of_the_divergence)
{
    const struct objective_settings kl = {.kind = OBJECTIVE_DAG_KL, .scale = 1.0, .beta = 1.0, .policy_weight = 1.0};
    const struct objective_settings db = {.kind = OBJECTIVE_DAG_DB, .scale = 1.0, .beta = 1.0};
    ck_assert_double_eq_tol(t3_gradient(&kl, T3_MU, T3_SD, T3_N, 1), T3_EXACT, T3_TOLERANCE);
    ck_assert_double_eq_tol(t3_gradient(&db, T3_MU, T3_SD, T3_N, 1), 2.0 * T3_EXACT, 3 * T3_TOLERANCE);
}
END_TEST

START_TEST(t3_another_policys_actions_need_their_weight)
{
    struct objective_settings kl = {.kind = OBJECTIVE_DAG_KL, .scale = 1.0, .beta = 1.0, .policy_weight = 1.0,
                                    .ratio = RATIO_TRUNCATED, .weight_max = 1e9};
    const double mu_b = 0.1, sd_b = 0.6;
    ck_assert_double_eq_tol(t3_gradient(&kl, mu_b, sd_b, T3_N, 1), T3_EXACT, T3_TOLERANCE);
    /* without it E_b[delta score] = -1.00900, less the baseline's part, which is not zero either */
    const double mean_delta = -(0.36 + 0.04) / 0.5 - log(0.5) + (0.36 + 0.64) / 1.28 + log(0.8), mean_score = (mu_b - T3_MU) / 0.25;
    kl.ratio = RATIO_NONE;
    const double biased = t3_gradient(&kl, mu_b, sd_b, T3_N, 1);
    ck_assert_double_eq_tol(biased, -1.00900 - mean_delta * mean_score, T3_TOLERANCE);
    ck_assert_double_gt(fabs(biased - T3_EXACT), 10 * T3_TOLERANCE);
}
END_TEST

START_TEST(t3_a_weighted_balance_is_that_of_the_policys_own_actions)
{
    struct objective_settings db = {.kind = OBJECTIVE_DAG_DB, .scale = 1.0, .beta = 1.0, .ratio = RATIO_TRUNCATED,
                                    .weight_max = 1e9};
    const double divergence = log(0.8 / T3_SD) + (T3_SD * T3_SD + 0.36) / 1.28 - 0.5;
    double d_flow;
    ck_assert_double_eq_tol(t3_gradients(&db, 0.1, 0.8, T3_N, 1, &d_flow), 2.0 * T3_EXACT, 3 * T3_TOLERANCE);
    ck_assert_double_eq_tol(d_flow, 2.0 * divergence, T3_TOLERANCE);
    db.ratio = RATIO_NONE;
    ck_assert_double_gt(fabs(t3_gradients(&db, 0.1, 0.8, T3_N, 1, &d_flow) - 2.0 * T3_EXACT), 30 * T3_TOLERANCE);
    ck_assert_double_gt(fabs(d_flow - 2.0 * divergence), 10 * T3_TOLERANCE);
}
END_TEST

/* Stored actions of another policy, and beside each one that the current policy drew: no weight is needed. */
START_TEST(t3_an_action_drawn_anew_needs_no_weight)
{
    const struct objective_settings kl = {.kind = OBJECTIVE_DAG_KL, .scale = 1.0, .beta = 1.0, .policy_weight = 1.0,
                                          .ratio = RATIO_RESAMPLED, .weight_max = 1e9};
    const double divergence = log(0.8 / T3_SD) + (T3_SD * T3_SD + 0.36) / 1.28 - 0.5;
    struct objective_transition *x = mem_new(T3_N, sizeof *x);
    struct objective_cotangent *c = mem_new(T3_N, sizeof *c);
    struct objective_chain *chain = mem_new(T3_N, sizeof *chain);
    double *fresh = mem_new(T3_N, sizeof *fresh), sum = 0.0, flow = 0.0;
    const struct rng g = rng_stream(3, 5, 0);
    for (size_t i = 0; i < T3_N; i++) {
        const double stored = 0.1 + 0.8 * (double)rng_normal_at(&g, 2 * i);
        fresh[i] = T3_MU + T3_SD * (double)rng_normal_at(&g, 2 * i + 1);
        x[i] = (struct objective_transition){.log_pf = log_normal_at(stored, T3_MU, T3_SD),
                                             .log_pf_old = log_normal_at(stored, 0.1, 0.8),
                                             .flow_s = log_normal_at(stored, 0.9, 0.8),
                                             .fresh = {.drawn = true,
                                                       .log_pf = log_normal_at(fresh[i], T3_MU, T3_SD),
                                                       .flow_s = log_normal_at(fresh[i], 0.9, 0.8)}};
        chain[i] = (struct objective_chain){.first = i, .count = 1};
    }
    objective_run(c, &(struct objective_batch){x, chain, T3_N, T3_N, T3_N}, &kl);
    for (size_t i = 0; i < T3_N; i++) {
        sum += c[i].d_log_pf * (fresh[i] - T3_MU) / (T3_SD * T3_SD);
        flow += c[i].d_flow_t;
        ck_assert_double_eq(c[i].weight, 1.0);
    }
    ck_assert_double_eq_tol(sum, T3_EXACT, T3_TOLERANCE);
    /* the flow learns from the stored actions, as if they were the policy's own */
    ck_assert_double_eq_tol(flow, 2.0 * divergence, T3_TOLERANCE);
    mem_free(fresh);
    mem_free(chain);
    mem_free(c);
    mem_free(x);
}
END_TEST

/* With 1 / (K - 1): 2 grad KL; the form with 1 / K has 2 (K - 1) / K of it, -1.40625. */
START_TEST(t4_the_variance_over_four_chains_has_twice_the_gradient)
{
    const struct objective_settings o = {.kind = OBJECTIVE_VARGRAD, .scale = 1.0, .beta = 1.0};
    ck_assert_double_eq_tol(t3_gradient(&o, T3_MU, T3_SD, T3_N, 4), 2.0 * T3_EXACT, 3 * T3_TOLERANCE);
}
END_TEST

/* ---- a prior chain N(0, I), reward lam . x_0: T5 and T6 ---- */

#define LAM 0.8

static struct transition_kernel prior_kernel(int t)
{
    return kernel_at(t, VARIANCE_LARGE, 1.0);
}

/* Optimal bias on eps, per element, and log of the optimal flow beside the prior's. */
static double best_bias(const struct transition_kernel *k)
{
    return k->q_var * LAM * sqrt(k->abar_s) / k->mean_out;
}

static double best_tilt(const double *x, double abar)
{
    double sum = 0.0;
    for (int i = 0; i < D; i++)
        sum += LAM * sqrt(abar) * x[i] + 0.5 * LAM * LAM * (1.0 - abar);
    return sum;
}

static double tilt_reward(const double *x)
{
    double sum = 0.0;
    for (int i = 0; i < D; i++)
        sum += LAM * x[i];
    return sum;
}

/* Transition t -> t-1 with the policy eps = prior + bias. */
static struct objective_transition tilted(int t, const double *x_t, const double *x_s, double bias)
{
    const struct transition_kernel k = prior_kernel(t);
    double base[D], eps[D];
    best_eps(base, x_t, k.abar_t, 0.0, 1.0);
    for (int i = 0; i < D; i++)
        eps[i] = base[i] + bias;
    const bool terminal = t == 1;
    return (struct objective_transition){.log_pf = step_log_pf(&k, x_t, eps, x_s, D),
                                         .log_ratio_base = step_log_ratio(&k, x_t, eps, base, x_s, D),
                                         .flow_t = best_tilt(x_t, k.abar_t),
                                         .flow_s = terminal ? (double)NAN : best_tilt(x_s, k.abar_s),
                                         .psi_s = terminal ? tilt_reward(x_s) : 0.0,
                                         .step = (uint32_t)(STEPS - t),
                                         .terminal = terminal};
}

START_TEST(t5_residual_balance_holds_exactly_at_the_optimum_for_any_pair)
{
    struct rng g = rng_stream(1, 10, 0);
    const struct objective_settings o = {.kind = OBJECTIVE_RESIDUAL_DB, .scale = 1.0, .beta = 1.0};
    for (int t = STEPS; t >= 1; t--) {
        const struct transition_kernel k = prior_kernel(t);
        double x_t[D], x_s[D];
        draw(x_t, &g, 1.7);
        draw(x_s, &g, 1.7);
        struct objective_transition x = tilted(t, x_t, x_s, best_bias(&k));
        ck_assert_double_eq_tol(run_one(&x, 1, &o).delta, 0.0, 1e-11);
        x = tilted(t, x_t, x_s, 0.9 * best_bias(&k)); /* must fail */
        ck_assert_double_gt(fabs(run_one(&x, 1, &o).delta), 1e-4);
    }
}
END_TEST

START_TEST(t5_relative_balance_of_chains_leaves_what_the_noise_shows_of_the_picture)
{
    struct rng g = rng_stream(1, 11, 0);
    struct objective_transition x[STEPS];
    struct objective_cotangent c[STEPS];
    double path[STEPS + 1][D];
    for (int t = STEPS; t >= 0; t--)
        draw(path[t], &g, 1.3);
    for (int t = STEPS; t >= 1; t--) {
        const struct transition_kernel k = prior_kernel(t);
        x[STEPS - t] = tilted(t, path[t], path[t - 1], best_bias(&k));
    }
    x[0].flow_t = 0.5 * LAM * LAM * D; /* log Z */
    const struct objective_chain chain = {.count = STEPS, .reward = tilt_reward(path[0])};
    const struct objective_batch b = {x, &chain, 1, STEPS, 1};
    objective_run(c, &b, &(struct objective_settings){.kind = OBJECTIVE_RTB, .scale = 1.0, .beta = 1.0});
    /* abar_T is not quite 0: log Z is a number, E[R | x_T] a function, and this is their difference */
    const double left = best_tilt(path[STEPS], abar_at(STEPS)) - 0.5 * LAM * LAM * D;
    ck_assert_double_eq_tol(c[0].delta, -left, 1e-9);
    ck_assert_double_lt(fabs(left), 5e-3);
}
END_TEST

/* Samples a chain of the policy with these biases; returns its reward. */
static double sample_chain(double path[STEPS + 1][D], const double *bias, struct rng *g)
{
    draw(path[STEPS], g, 1.0);
    for (int t = STEPS; t >= 1; t--) {
        const struct transition_kernel k = prior_kernel(t);
        double eps[D], noise[D];
        best_eps(eps, path[t], k.abar_t, 0.0, 1.0);
        for (int i = 0; i < D; i++)
            eps[i] += bias[t];
        draw(noise, g, 1.0);
        step_sample(path[t - 1], &k, path[t], eps, noise, D);
    }
    return tilt_reward(path[0]);
}

/* d log p_F / d bias of a transition: the sum over elements of c_eps z / sqrt(v). */
static double score_of(int t, const double *x_t, const double *x_s, double bias)
{
    const struct transition_kernel k = prior_kernel(t);
    double eps[D], d_eps[D], sum = 0.0;
    best_eps(eps, x_t, k.abar_t, 0.0, 1.0);
    for (int i = 0; i < D; i++)
        eps[i] += bias;
    step_log_pf_backward(d_eps, &k, x_t, eps, x_s, D, 1.0);
    for (int i = 0; i < D; i++)
        sum += d_eps[i];
    return sum;
}

#define LOOP_CHAINS 32
#define LOOP_UPDATES 600
#define BUFFER 8 /* updates whose chains are kept */

/* Learns the biases by residual balance from its own newest chains, or from a buffer of old ones. */
static void learn_biases(double bias[STEPS + 1], bool replay)
{
    static double buffer[BUFFER][LOOP_CHAINS][STEPS + 1][D];
    const struct objective_settings o = {.kind = OBJECTIVE_RESIDUAL_DB, .scale = 1.0, .beta = 1.0};
    struct rng g = rng_stream(5, replay, 0);
    for (int t = 0; t <= STEPS; t++)
        bias[t] = 0.0;
    for (int update = 0; update < LOOP_UPDATES; update++) {
        for (int j = 0; j < LOOP_CHAINS; j++)
            sample_chain(buffer[update % BUFFER][j], bias, &g);
        const int oldest = update < BUFFER ? 0 : (update + 1) % BUFFER;
        double gradient[STEPS + 1] = {0};
        for (int j = 0; j < LOOP_CHAINS; j++)
            for (int t = STEPS; t >= 1; t--) {
                double(*path)[D] = buffer[replay ? oldest : update % BUFFER][j];
                const struct objective_transition x = tilted(t, path[t], path[t - 1], bias[t]);
                gradient[t] += run_one(&x, LOOP_CHAINS, &o).d_log_pf * score_of(t, path[t], path[t - 1], bias[t]);
            }
        for (int t = 1; t <= STEPS; t++) {
            const struct transition_kernel k = prior_kernel(t);
            const double curvature = 2.0 * D * k.mean_out * k.mean_out / k.var; /* of E[delta^2] in the bias, at the optimum */
            bias[t] -= 0.5 * fmin(1.0, 60.0 / (update + 1.0)) * gradient[t] / curvature;
        }
    }
}

START_TEST(t5_a_training_loop_finds_the_bias_on_policy_and_from_replay)
{
    for (int replay = 0; replay < 2; replay++) {
        double bias[STEPS + 1], path[STEPS + 1][D], mean = 0.0;
        learn_biases(bias, replay != 0);
        for (int t = 1; t <= STEPS; t++) {
            const struct transition_kernel k = prior_kernel(t);
            ck_assert_msg(fabs(bias[t] / best_bias(&k) - 1.0) < 0.05, "replay %d, t %d: bias %g, optimum %g", replay, t, bias[t],
                          best_bias(&k));
        }
        enum { N = 4000 };
        struct rng g = rng_stream(6, (uint64_t)replay, 0);
        for (int n = 0; n < N; n++)
            mean += sample_chain(path, bias, &g) / (LAM * D * N);
        ck_assert_double_eq_tol(mean, LAM, 0.03); /* samples are N(lam, 1) */
    }
}
END_TEST

START_TEST(t6_the_clipped_gradient_at_ratio_one_is_the_exact_policy_gradient)
{
    enum { N = 60000 };
    static const double known[][2] = {{1, -0.1267}, {3, -0.2187}, {5, -0.2472}, {8, -0.3010}}; /* per element, lam = .8 */
    const struct objective_settings o = {.kind = OBJECTIVE_DDPO, .scale = 1.0, .clip = 1e-4};
    struct rng g = rng_stream(1, 12, 0);
    double gradient[STEPS + 1] = {0}, path[STEPS + 1][D];
    static const double no_bias[STEPS + 1];
    for (int n = 0; n < N; n++) {
        const double advantage = sample_chain(path, no_bias, &g);
        for (int t = STEPS; t >= 1; t--) {
            struct objective_transition x = tilted(t, path[t], path[t - 1], 0.0);
            x.log_pf_old = x.log_pf;
            struct objective_cotangent c;
            const struct objective_chain chain = {.count = 1, .advantage = advantage};
            objective_run(&c, &(struct objective_batch){&x, &chain, 1, 1, 1}, &o);
            gradient[t] -= c.d_log_pf * score_of(t, path[t], path[t - 1], 0.0) / N; /* of J = -L */
        }
    }
    for (int t = 1; t <= STEPS; t++) {
        const struct transition_kernel k = prior_kernel(t);
        const double want = D * LAM * k.mean_out * sqrt(k.abar_s);
        ck_assert_msg(fabs(gradient[t] / want - 1.0) < 0.1, "t %d: got %g want %g", t, gradient[t], want);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct transition_kernel k = prior_kernel((int)known[i][0]);
        ck_assert_double_eq_tol(LAM * k.mean_out * sqrt(k.abar_s), known[i][1], 5e-5);
    }
}
END_TEST

START_TEST(clipped_ratio_gives_zero_gradient)
{
    const struct objective_settings o = {.kind = OBJECTIVE_DDPO, .scale = 1.0, .clip = 0.1, .advantage_max = 5.0};
    static const struct {
        double advantage, log_ratio;
        bool silent;
    } cases[] = {{1.0, 0.05, false}, {1.0, 0.2, true}, {1.0, -0.2, false}, {-1.0, 0.2, false}, {-1.0, -0.2, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct objective_transition x = {.log_pf = cases[i].log_ratio, .log_pf_old = 0.0};
        const struct objective_chain chain = {.count = 1, .advantage = cases[i].advantage};
        struct objective_cotangent c;
        objective_run(&c, &(struct objective_batch){&x, &chain, 1, 1, 1}, &o);
        ck_assert_int_eq(c.clipped, cases[i].silent);
        ck_assert_int_eq(c.d_log_pf == 0.0, cases[i].silent);
    }
}
END_TEST

/* In nats a ratio of 1 - clip is none; the bound is one of its logarithm. */
START_TEST(a_wide_clip_is_the_same_on_both_sides)
{
    const struct objective_settings o = {.kind = OBJECTIVE_DDPO, .scale = 1.0, .clip = 1.64, .advantage_max = 5.0};
    for (int side = -1; side <= 1; side += 2)
        for (int beyond = 0; beyond <= 1; beyond++) {
            const struct objective_transition x = {.log_pf = side * (beyond ? 1.65 : 1.63)};
            const struct objective_chain chain = {.count = 1, .advantage = side};
            struct objective_cotangent c;
            objective_run(&c, &(struct objective_batch){&x, &chain, 1, 1, 1}, &o);
            ck_assert_int_eq(c.clipped, beyond);
            ck_assert_int_eq(c.d_log_pf == 0.0, beyond);
        }
}
END_TEST

START_TEST(a_group_far_apart_has_a_finite_loss)
{
    enum { K = 16 };
    struct objective_settings o = {.kind = OBJECTIVE_GROUP_SOFTMAX, .scale = 1.0, .beta = 1000.0};
    struct objective_transition x[K];
    struct objective_chain chain[K];
    struct objective_cotangent c[K];
    double sum = 0.0;
    for (size_t i = 0; i < K; i++) {
        x[i] = (struct objective_transition){.log_pf = -2000.0 * (double)i};
        chain[i] = (struct objective_chain){.first = i, .count = 1, .reward = i == K - 1};
    }
    objective_run(c, &(struct objective_batch){x, chain, K, K, K}, &o);
    for (size_t i = 0; i < K; i++) {
        ck_assert(isfinite(c[i].loss) && isfinite(c[i].d_log_pf));
        sum += c[i].loss;
    }
    ck_assert_double_eq_tol(sum, 2000.0 * (K - 1), 1e-6); /* KL: all of q is where log p is this small */
    ck_assert_double_eq_tol(c[0].d_log_pf, 1.0, 1e-12);
    ck_assert_double_eq_tol(c[K - 1].d_log_pf, -1.0, 1e-12);
}
END_TEST

START_TEST(residual_objectives_start_at_minus_the_reward_of_the_end_alone)
{
    /* policy = base, flow 0, psi 0: nothing to mend before the last step */
    const struct objective_settings o = {.kind = OBJECTIVE_RESIDUAL_DB, .scale = 0.25, .beta = 3.0};
    const struct objective_transition middle = {.log_pf = -7.0, .log_pb = 2.0}, last = {.log_pf = -7.0, .psi_s = 0.6, .terminal = true};
    ck_assert_double_eq(run_one(&middle, 1, &o).delta, 0.0);
    ck_assert_double_eq_tol(run_one(&last, 1, &o).delta, -3.0 * 0.6, 1e-15);
}
END_TEST

SUITE("trainer/objective", 30, t1_balance_holds_exactly_at_the_optimum_for_any_pair,
      t1_must_fail_with_another_variance, t1b_small_variance_leaves_the_known_bias_and_spread,
      t2_the_forward_looking_split_balances_exactly,
      t7_scaling_the_unit_multiplies_the_loss_by_its_square,
      t7_a_constant_on_every_reward_moves_only_the_flow, cotangents_are_the_derivatives_of_the_loss,
      every_objectives_cotangents_are_the_derivatives_of_its_loss, micro_batches_add_up_to_the_whole,
      t3_the_policy_gradient_is_that_of_the_divergence, t3_another_policys_actions_need_their_weight,
      t3_a_weighted_balance_is_that_of_the_policys_own_actions, t3_an_action_drawn_anew_needs_no_weight,
      t4_the_variance_over_four_chains_has_twice_the_gradient,
      t5_residual_balance_holds_exactly_at_the_optimum_for_any_pair,
      t5_relative_balance_of_chains_leaves_what_the_noise_shows_of_the_picture,
      t5_a_training_loop_finds_the_bias_on_policy_and_from_replay,
      t6_the_clipped_gradient_at_ratio_one_is_the_exact_policy_gradient, clipped_ratio_gives_zero_gradient,
      a_wide_clip_is_the_same_on_both_sides, a_group_far_apart_has_a_finite_loss,
      the_huber_loss_meets_the_square_where_it_begins, a_truncated_weight_is_the_ratio_up_to_its_largest,
      an_advantage_is_over_the_others_at_the_same_step, the_clip_is_in_the_scaled_unit_and_silences_the_score_alone,
      ddpos_loss_is_the_worse_of_the_ratio_and_its_clip_by_a_bounded_advantage, subtb_weighs_every_stretch_by_its_length,
      a_chains_residual_is_its_ratios_less_its_reward_and_from_the_start_where_no_prior_is_kept,
      a_groups_softmax_is_of_rewards_over_their_unbiased_deviation,
      residual_objectives_start_at_minus_the_reward_of_the_end_alone, beta_warms_up_linearly_and_stays,
      the_learning_rate_falls_over_the_second_half)
