/* The densities of known answer, optimal transport, and the training loop on them. */
#include "dagline/target.h"
#include "dagline/target_train.h"
#include "dagline/transport.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {"25gmm", "funnel", "manywell"};

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
    for (size_t n = 0; n < 3; n++) {
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

SUITE("dagline/target", 120, gradients_are_those_of_the_densities, the_known_answers_are_right,
      transport_is_the_best_of_all_permutations, an_untrained_chain_has_the_weights_of_the_reference_process,
      every_objective_and_replay_learns)
