/* The densities of known answer, optimal transport, and the training loop on them. */
#include "dagline/target.h"
#include "dagline/target_train.h"
#include "dagline/transport.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {"25gmm", "funnel", "manywell", "9of25"};

static const struct target *find(const char *name)
{
    const struct target *t;
    struct err e;
    ck_assert_msg(target_find(&t, name, &e) == 0, "%s", e.text);
    return t;
}

START_TEST(gradients_are_those_of_the_densities)
{
    struct rng g = rng_stream(1, 2, 3);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const struct target *t = find(names[n]);
        for (int round = 0; round < 20; round++) {
            double x[TARGET_D_MAX], grad[TARGET_D_MAX];
            t->draw(x, &g);
            t->gradient(grad, x);
            for (size_t i = 0; i < t->D; i++) {
                const double h = 1e-5, at = x[i];
                x[i] = at + h;
                const double up = t->log_density(x);
                x[i] = at - h;
                const double down = t->log_density(x);
                x[i] = at;
                const double slope = (up - down) / (2.0 * h);
                ck_assert_msg(fabs(slope - grad[i]) < 1e-4 * fmax(1.0, fabs(slope)), "%s: %g, differences give %g",
                              names[n], grad[i], slope);
            }
        }
    }
    const struct target *t;
    struct err e;
    ck_assert_int_eq(target_find(&t, "40gmm", &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "manywell"));
}
END_TEST

/* Integrals by the midpoint rule. */
START_TEST(the_known_answers_are_right)
{
    const struct target *gmm = find("25gmm"), *wells = find("manywell"), *funnel = find("funnel");
    double sum = 0.0, x[TARGET_D_MAX] = {0};
    for (double a = -14.0; a < 14.0; a += 0.05)
        for (double b = -14.0; b < 14.0; b += 0.05) {
            x[0] = a + 0.025;
            x[1] = b + 0.025;
            sum += exp(gmm->log_density(x)) * 0.05 * 0.05;
        }
    ck_assert_double_eq_tol(log(sum), gmm->log_z, 1e-4);
    /* the wells are independent: one of them, the others at 0 */
    memset(x, 0, sizeof x);
    sum = 0.0;
    for (double u = -4.0; u < 4.0; u += 1e-4) {
        x[0] = u + 5e-5;
        sum += exp(wells->log_density(x)) * 1e-4;
    }
    ck_assert_double_eq_tol(16.0 * (log(sum) + 0.5 * log(2.0 * 3.14159265358979)), wells->log_z, 1e-4);
    ck_assert_double_eq_tol(wells->log_z, 164.696, 1e-3);
    /* the funnel is a product of conditionals: where its neck is given, the others are normal */
    memset(x, 0, sizeof x);
    ck_assert_double_eq_tol(funnel->log_density(x), -5.0 * log(2.0 * 3.14159265358979) - log(3.0), 1e-9);
}
END_TEST

static double squared(const double *x, const double *y, size_t D)
{
    double s = 0.0;
    for (size_t i = 0; i < D; i++)
        s += (x[i] - y[i]) * (x[i] - y[i]);
    return s;
}

/* Every permutation of the rest. */
static double brute(const double *x, const double *y, size_t n, size_t D, size_t at, unsigned taken)
{
    double best = at == n ? 0.0 : HUGE_VAL;
    for (size_t j = 0; at < n && j < n; j++)
        if ((taken >> j & 1) == 0)
            best = fmin(best, squared(x + at * D, y + j * D, D) + brute(x, y, n, D, at + 1, taken | 1u << j));
    return best;
}

START_TEST(transport_is_the_best_of_all_permutations)
{
    enum { N = 7, D = 3, MANY = 200 };
    struct rng g = rng_stream(4, 5, 6);
    double x[N * D], y[N * D], a[MANY * D], b[MANY * D];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N * D; i++) {
            x[i] = rng_uniform(&g);
            y[i] = round < 10 ? rng_uniform(&g) : floor(3.0 * rng_uniform(&g)); /* with ties */
        }
        ck_assert_double_eq_tol(transport_w2(x, y, N, D), sqrt(brute(x, y, N, D, 0, 0) / N), 1e-12);
    }
    /* a set moved as a whole, in another order */
    for (int i = 0; i < MANY * D; i++)
        a[i] = rng_uniform(&g);
    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < D; k++)
            b[(MANY - 1 - i) * D + k] = a[i * D + k] + (k == 0 ? 10.0 : 0.0);
    ck_assert_double_eq_tol(transport_w2(a, b, MANY, D), 10.0, 1e-9);
}
END_TEST

/* ---- T8: 25 Gaussians tilted to nine ---- */

/* log density at time t of the reference process that ends in the mixture, up to a constant. */
static double log_at(const struct target_mixture *m, double sigma2, double a, double b, double t)
{
    const double variance = t * t * TARGET_MIXTURE_VARIANCE + sigma2 * t * (1.0 - t);
    double sum = 0.0;
    for (size_t i = 0; i < m->count; i++)
        sum += m->weight[i] *
               exp(-(pow(a - t * m->mean[i][0], 2.0) + pow(b - t * m->mean[i][1], 2.0)) / (2.0 * variance));
    return log(sum);
}

START_TEST(the_drift_to_a_mixture_is_its_score)
{
    const struct target *t = find("9of25");
    struct rng g = rng_stream(5, 5, 5);
    for (int round = 0; round < 50; round++) {
        double x[2], u[2];
        const double at = 0.05 + 0.9 * rng_uniform(&g), h = 1e-5;
        t->draw(x, &g);
        x[0] *= at;
        x[1] *= at;
        target_mixture_drift(u, t->mixture, t->sigma2, x, at);
        for (int i = 0; i < 2; i++) {
            const double a = i == 0 ? h : 0.0, b = h - a;
            const double score = (log_at(t->mixture, t->sigma2, x[0] + a, x[1] + b, at) -
                                  log_at(t->mixture, t->sigma2, x[0] - a, x[1] - b, at)) / (2.0 * h);
            const double want = t->sigma2 * score + x[i] / at;
            ck_assert_msg(fabs(u[i] - want) < 1e-4 * (1.0 + fabs(want)), "t %g: got %g want %g", at, u[i], want);
        }
    }
    /* at the origin before the first step: the mixture's mean */
    double u[2], mean = 0.0;
    target_mixture_drift(u, t->mixture, t->sigma2, (const double[2]){0.0, 0.0}, 0.0);
    for (size_t i = 0; i < t->mixture->count; i++)
        mean += t->mixture->weight[i] * t->mixture->mean[i][0];
    ck_assert_double_eq_tol(u[0], mean, 1e-12);
}
END_TEST

enum { TILTED_CHAINS = 2000, TILTED_STEPS = 100 };

struct tilted {
    double delta_rms;   /* of relative trajectory balance with log Z = 0 */
    double log_z_bound; /* mean of log R - sum (log p_F - log p_base) */
    double chi2;        /* of the mode weights, 8 degrees of freedom */
};

/* Chains of the reference process that ends in `policy`, whose balance with the prior of 9of25 is taken by the trainer's own
 * objective: where the policy is the posterior's process, nothing is left but what steps of finite length cost. */
static struct tilted tilt(const struct target_mixture *policy)
{
    const struct target *t = find("9of25");
    const double dt = 1.0 / TILTED_STEPS, variance = t->sigma2 * dt;
    static struct objective_transition transition[TILTED_CHAINS * TILTED_STEPS];
    static struct objective_cotangent cotangent[TILTED_CHAINS * TILTED_STEPS];
    static struct objective_chain chain[TILTED_CHAINS];
    struct tilted out = {0};
    double count[TARGET_MODES_MAX] = {0};
    struct rng g = rng_stream(8, 8, 8);
    for (size_t b = 0; b < TILTED_CHAINS; b++) {
        double x[2] = {0.0, 0.0};
        for (size_t k = 0; k < TILTED_STEPS; k++) {
            struct objective_transition *const row = &transition[b * TILTED_STEPS + k];
            double u[2], u0[2];
            target_mixture_drift(u, policy, t->sigma2, x, (double)k * dt);
            target_mixture_drift(u0, t->prior, t->sigma2, x, (double)k * dt);
            *row = (struct objective_transition){.step = (uint32_t)k, .terminal = k + 1 == TILTED_STEPS};
            for (int i = 0; i < 2; i++) {
                const double z = sqrt(variance) * target_normal(&g), base = z + dt * (u[i] - u0[i]);
                row->log_ratio_base += (base * base - z * z) / (2.0 * variance);
                x[i] += dt * u[i] + z;
            }
            out.log_z_bound -= row->log_ratio_base / TILTED_CHAINS;
        }
        chain[b] = (struct objective_chain){.first = b * TILTED_STEPS,
                                            .count = TILTED_STEPS,
                                            .reward = t->log_density(x) - target_mixture_log_density(t->prior, x)};
        out.log_z_bound += chain[b].reward / TILTED_CHAINS;
        count[target_mixture_nearest(t->mixture, x)]++;
    }
    objective_run(cotangent,
                  &(struct objective_batch){.transition = transition,
                                            .chain = chain,
                                            .m = TILTED_CHAINS,
                                            .transitions = TILTED_CHAINS * TILTED_STEPS,
                                            .chains = TILTED_CHAINS},
                  &(struct objective_settings){.kind = OBJECTIVE_RTB, .scale = 1.0, .beta = 1.0});
    for (size_t b = 0; b < TILTED_CHAINS; b++)
        out.delta_rms += cotangent[chain[b].first].delta * cotangent[chain[b].first].delta / TILTED_CHAINS;
    out.delta_rms = sqrt(out.delta_rms);
    for (size_t i = 0; i < t->mixture->count; i++) {
        const double expected = TILTED_CHAINS * t->mixture->weight[i];
        out.chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    }
    return out;
}

#define CHI2_8_PERMILLE 26.12 /* exceeded by chance once in a thousand */

START_TEST(t8_the_posterior_of_a_tilted_mixture_balances_and_has_its_mode_weights)
{
    const struct target *t = find("9of25");
    const struct tilted exact = tilt(t->mixture);
    ck_assert_double_lt(exact.chi2, CHI2_8_PERMILLE);
    ck_assert_double_lt(fabs(exact.log_z_bound), 0.05);
    ck_assert_double_lt(exact.delta_rms, 0.5);

    /* must fail: the right modes with equal weights; the prior itself */
    struct target_mixture equal = *t->mixture;
    static const double ninth[9] = {1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0, 1 / 9.0};
    equal.weight = ninth;
    const struct tilted wrong = tilt(&equal), untrained = tilt(t->prior);
    ck_assert_double_gt(wrong.chi2, 2.0 * CHI2_8_PERMILLE);
    ck_assert_double_lt(wrong.log_z_bound, -0.1);
    ck_assert_double_gt(wrong.delta_rms, 1.5 * exact.delta_rms);
    ck_assert_double_lt(untrained.log_z_bound, -10.0);
}
END_TEST

static struct target_result train(struct target_options o)
{
    struct target_result r;
    struct err e;
    o.target = find("25gmm");
    o.batch = 48;
    o.steps = 10;
    o.samples = 480;
    o.seed = 3;
    o.lambda = 2.0;
    o.lr_final = o.lr_final == 0.0 ? 1.0 : o.lr_final;
    o.threads = 2;
    ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) == 0, "%s", e.text);
    return r;
}

static double reference_log_density(const double *x)
{
    return -(x[0] * x[0] + x[1] * x[1]) / 10.0 - log(2.0 * 3.14159265358979323846 * 5.0);
}

static void reference_draw(double *x, struct rng *g)
{
    const double radius = sqrt(-10.0 * log(1.0 - rng_uniform(g))), angle = 6.283185307179586 * rng_uniform(g);
    x[0] = radius * cos(angle);
    x[1] = radius * sin(angle);
}

/* Without learning the chain is the reference process, and sum (log q - log p_F) telescopes to -log N(x_T; 0, 5 I):
 * where that is the target, every weight is 1. */
START_TEST(an_untrained_chain_has_the_weights_of_the_reference_process)
{
    const struct target reference = {
        .name = "reference", .D = 2, .sigma2 = 5.0, .log_density = reference_log_density, .draw = reference_draw};
    const struct target_options o = {.target = &reference,
                                     .objective = OBJECTIVE_TB,
                                     .iterations = 1,
                                     .lr_final = 1.0,
                                     .seed = 3,
                                     .batch = 64,
                                     .steps = 20,
                                     .samples = 512,
                                     .threads = 2};
    struct target_result r;
    struct err e;
    ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) == 0, "%s", e.text);
    ck_assert_double_eq_tol(r.dlogz, 0.0, 1e-4);
    ck_assert_double_eq_tol(r.dlogz_rw, 0.0, 1e-4);
    ck_assert_double_lt(r.w2, 1.0); /* 512 samples of each */
}
END_TEST

START_TEST(every_objective_and_replay_learns)
{
    static const struct target_options runs[] = {
        {.objective = OBJECTIVE_TB},
        {.objective = OBJECTIVE_VARGRAD, .exploration = 0.2, .exploration_steps = 100},
        {.objective = OBJECTIVE_DAG_SUBTB, .forward_looking = true},
        {.objective = OBJECTIVE_DAG_DB, .forward_looking = true},
        {.objective = OBJECTIVE_TB, .replay = TARGET_REPLAY_UNIFORM},
        {.objective = OBJECTIVE_TB, .replay = TARGET_REPLAY_RANK},
        {.objective = OBJECTIVE_TB, .replay = TARGET_REPLAY_LOCAL},
    };
    const double before = train((struct target_options){.objective = OBJECTIVE_TB, .iterations = 1}).dlogz;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct target_options o = runs[i];
        o.iterations = 300;
        o.lr = 2e-3;
        o.flow_lr = 1e-2;
        o.log_z_lr = 0.1;
        const double after = train(o).dlogz;
        ck_assert_msg(after < 0.8 * before, "run %zu: %g, was %g", i, after, before);
    }
}
END_TEST

START_TEST(options_that_do_not_go_together_are_refused)
{
    static const struct {
        struct target_options o;
        const char *want;
    } cases[] = {
        {{.objective = OBJECTIVE_RTB}, "wants a prior"},
        {{.objective = OBJECTIVE_TB, .replay = TARGET_REPLAY_PRIOR}, "wants a prior"},
        {{.objective = OBJECTIVE_DAG_KL, .exploration = 0.1}, "own actions"},
        {{.objective = OBJECTIVE_DAG_KL, .replay = TARGET_REPLAY_RANK}, "own actions"},
        {{.objective = OBJECTIVE_TB, .forward_looking = true}, "looks forward"},
        {{.objective = OBJECTIVE_VARGRAD, .forward_looking = true}, "looks forward"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct target_options o = cases[i].o;
        struct target_result r;
        struct err e = {0};
        o.target = find("25gmm");
        o.batch = 10, o.steps = 5, o.samples = 10, o.iterations = 1, o.threads = 1;
        ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) < 0, "case %zu is taken", i);
        ck_assert_msg(strstr(e.text, cases[i].want) != NULL, "case %zu: %s", i, e.text);
    }
}
END_TEST

SUITE("dagline/target", 120, options_that_do_not_go_together_are_refused, gradients_are_those_of_the_densities, the_known_answers_are_right,
      transport_is_the_best_of_all_permutations, an_untrained_chain_has_the_weights_of_the_reference_process,
      the_drift_to_a_mixture_is_its_score, t8_the_posterior_of_a_tilted_mixture_balances_and_has_its_mode_weights,
      every_objective_and_replay_learns)
