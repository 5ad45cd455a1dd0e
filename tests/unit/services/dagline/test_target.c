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

/* The draws are of the densities: shares of the modes, moments of the funnel, and of a well by the midpoint rule. */
START_TEST(the_draws_are_of_the_densities)
{
    enum { N = 20000 };
    struct rng g = rng_stream(7, 7, 7);
    const struct target *nine = find("9of25"), *funnel = find("funnel"), *wells = find("manywell");
    double count[TARGET_MODES_MAX] = {0}, chi2 = 0.0, x[TARGET_D_MAX], neck = 0.0, wide = 0.0, right = 0.0, square = 0.0;
    for (int n = 0; n < N; n++) {
        nine->draw(x, &g);
        count[target_mixture_nearest(nine->mixture, x)]++;
        funnel->draw(x, &g);
        neck += x[0] * x[0] / N;
        wide += x[9] * x[9] * exp(-x[0]) / N;
    }
    for (size_t i = 0; i < nine->mixture->count; i++) {
        const double expected = N * nine->mixture->weight[i];
        chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    }
    ck_assert_double_lt(chi2, 26.12); /* 8 degrees of freedom: exceeded by chance once in a thousand */
    ck_assert_double_eq_tol(neck, 9.0, 4.0 * 9.0 * sqrt(2.0 / N));
    ck_assert_double_eq_tol(wide, 1.0, 4.0 * sqrt(2.0 / N));

    double whole = 0.0, want_right = 0.0, want_square = 0.0;
    for (double u = -4.0; u < 4.0; u += 1e-3) {
        const double at = u + 5e-4, p = exp(-at * at * at * at + 6.0 * at * at + 0.5 * at);
        whole += p;
        want_right += at > 0.0 ? p : 0.0;
        want_square += at * at * p;
    }
    for (int n = 0; n < N / 16; n++) {
        wells->draw(x, &g);
        for (int i = 0; i < 16; i++) {
            right += (x[2 * i] > 0.0) / (double)N;
            square += x[2 * i] * x[2 * i] / N;
        }
    }
    ck_assert_double_eq_tol(right, want_right / whole, 4.0 * 0.5 / sqrt(N));
    ck_assert_double_eq_tol(square, want_square / whole, 0.02); /* its standard deviation is 0.6 */
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
    o.target = o.target == NULL ? find("25gmm") : o.target;
    o.batch = 48;
    o.steps = 10;
    o.samples = 480;
    o.width = o.width == 0 ? 64 : o.width;
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

static void reference_gradient(double *grad, const double *x)
{
    grad[0] = -x[0] / 5.0;
    grad[1] = -x[1] / 5.0;
}

/* Steps so long that it is the acceptance which keeps the density: without it the variance would be 5 / (1 - h / 20). */
START_TEST(langevin_chains_stay_in_the_density)
{
    enum { N = 100000 };
    const struct target reference = {.name = "reference", .D = 2, .sigma2 = 5.0, .log_density = reference_log_density,
                                     .gradient = reference_gradient, .draw = reference_draw};
    struct rng g = rng_stream(2, 2, 2);
    double x[2], square = 0.0, accepted = 0.0;
    reference.draw(x, &g);
    double log_r = reference.log_density(x);
    for (int n = 0; n < N; n++) {
        accepted += target_langevin(&reference, x, &log_r, 8.0, &g) ? 1.0 / N : 0.0;
        ck_assert_double_eq(log_r, reference.log_density(x));
        square += (x[0] * x[0] + x[1] * x[1]) / (2.0 * N);
    }
    ck_assert_double_eq_tol(square, 5.0, 0.1);
    ck_assert(accepted > 0.5 && accepted < 0.99);
}
END_TEST

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
                                     .width = 64,
                                     .threads = 2};
    struct target_result r;
    struct err e;
    ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) == 0, "%s", e.text);
    ck_assert_double_eq_tol(r.dlogz, 0.0, 1e-4);
    ck_assert_double_eq_tol(r.dlogz_rw, 0.0, 1e-4);
    ck_assert_double_lt(r.w2, 1.0); /* 512 samples of each */
}
END_TEST

static double narrow_log_density(const double *x)
{
    return -(x[0] * x[0] + x[1] * x[1]) / 5.0 - log(2.0 * 3.14159265358979323846 * 2.5);
}

/* The reference process ends in N(0, 5 I).  Towards N(0, 2.5 I) its log weights have a mean of log 2 - 1 and a standard
 * deviation of 1, the weights themselves a mean of 1; of its samples exp(-0.75) lie beyond 5 standard deviations of a mode
 * at the origin. */
START_TEST(the_figures_of_an_untrained_chain_are_the_known_ones)
{
    static const double at_origin[1][2] = {{0.0, 0.0}}, apart[2][2] = {{-1.0, 0.0}, {1.0, 0.0}};
    static const double one[] = {1.0}, halves[] = {0.5, 0.5}, uneven[] = {0.25, 0.75};
    const struct target_mixture mixture[] = {{1, at_origin, one}, {2, apart, halves}, {2, apart, uneven}};
    struct target_result r[3];
    struct err e;
    for (int i = 0; i < 3; i++) {
        const struct target narrow = {.name = "narrow", .D = 2, .sigma2 = 5.0, .log_density = narrow_log_density,
                                      .draw = reference_draw, .mixture = &mixture[i]};
        const struct target_options o = {.target = &narrow, .objective = OBJECTIVE_TB, .iterations = 1, .lr_final = 1.0, .seed = 4,
                                         .batch = 64, .steps = 10, .samples = 500, .width = 64, .threads = 2}; /* in batches, the last one shorter */
        ck_assert_msg(target_train(&r[i], &o, NULL, NULL, 1, &e) == 0, "%s", e.text);
    }
    ck_assert_double_eq_tol(r[0].dlogz, 1.0 - log(2.0), 4.0 / sqrt(500.0));
    ck_assert_double_eq_tol(r[0].dlogz_rw, 0.0, 0.1);
    ck_assert_double_eq_tol(r[0].far, exp(-0.75), 4.0 * 0.5 / sqrt(500.0));
    ck_assert_double_eq_tol(r[0].modes_chi2, 0.0, 1e-12);
    ck_assert_double_lt(r[1].modes_chi2, 10.83); /* 1 degree of freedom: exceeded by chance once in a thousand */
    ck_assert_double_eq_tol(r[2].modes_chi2, 500.0 / 3.0, 80.0); /* halves where a quarter and three are wanted */
}
END_TEST

static double prior_log_density(const double *x)
{
    return target_mixture_log_density(find("9of25")->prior, x);
}

/* Where the target is the prior itself there is nothing to learn: the reward is 0 everywhere, and so is every residual. */
START_TEST(a_target_that_is_the_prior_leaves_the_policy_where_it_is)
{
    static const struct target_options runs[] = {{.objective = OBJECTIVE_RTB},
                                                 {.objective = OBJECTIVE_RTB, .replay = TARGET_REPLAY_PRIOR},
                                                 {.objective = OBJECTIVE_RELATIVE_VARGRAD},
                                                 {.objective = OBJECTIVE_RESIDUAL_DB, .forward_looking = true}};
    struct target same = *find("9of25");
    same.log_density = prior_log_density;
    same.mixture = same.prior;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct target_options o = runs[i];
        struct target_result r;
        struct err e;
        o.target = &same;
        o.iterations = 6;
        o.seed = 5;
        o.batch = 32;
        o.steps = 50;
        o.samples = 320;
        o.width = 64;
        o.lr = o.flow_lr = o.log_z_lr = 1e-2;
        o.lr_final = 1.0;
        o.threads = 2;
        ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) == 0, "%s", e.text);
        ck_assert_msg(fabs(r.dlogz) < 1e-3, "run %zu: %g", i, r.dlogz);
        ck_assert_msg(r.modes_chi2 < 51.2, "run %zu: %g", i, r.modes_chi2); /* 24 degrees of freedom: once in a thousand */
    }
}
END_TEST

struct heard {
    double mean[2]; /* loss of every even and every odd update */
    int n[2];
};

static void hear(void *arg, uint64_t iteration, double loss, const struct target_result *r)
{
    struct heard *h = arg;
    const size_t i = iteration % 2;
    (void)r;
    h->mean[i] += (loss - h->mean[i]) / ++h->n[i];
}

enum { HEARD_STEPS = 10 };

/* Losses of a policy that never moves. */
static struct heard losses(const struct target *t, struct target_options o)
{
    struct heard h = {0};
    struct target_result r;
    struct err e;
    o.target = t;
    o.iterations = 25;
    o.seed = 6;
    o.batch = 256;
    o.steps = HEARD_STEPS;
    o.samples = 8;
    o.width = 64;
    o.lr_final = 1.0;
    o.threads = 2;
    ck_assert_msg(target_train(&r, &o, hear, &h, 1, &e) == 0, "%s", e.text);
    return h;
}

static double log_plane(const double *x, double variance)
{
    return -(x[0] * x[0] + x[1] * x[1]) / (2.0 * variance) - log(2.0 * 3.14159265358979323846 * variance);
}

/* E of one transition's squared residual, of chains made here: psi(x_k) + log p_F - log q - psi(x_{k+1}) of the reference
 * process, psi(x_k) - psi(x_{k+1}) of the prior's. */
static double expected_loss(const struct target *t)
{
    enum { N = 20000 };
    struct rng g = rng_stream(9, 9, 9);
    const double dt = 1.0 / HEARD_STEPS, v = t->sigma2 * dt;
    double sum = 0.0;
    for (int n = 0; n < N; n++) {
        double x[2] = {0.0, 0.0}, psi = 0.0;
        for (int k = 0; k < HEARD_STEPS; k++) {
            const double share = k / (k + 1.0), at = (k + 1) * dt;
            double u[2] = {0.0, 0.0}, next[2], off[2], back[2];
            if (t->prior != NULL)
                target_mixture_drift(u, t->prior, t->sigma2, x, k * dt);
            for (int i = 0; i < 2; i++) {
                off[i] = sqrt(v) * target_normal(&g);
                next[i] = x[i] + dt * u[i] + off[i];
                back[i] = x[i] - share * next[i];
            }
            const double ratio = t->prior != NULL ? 0.0 : log_plane(off, v) - (k == 0 ? 0.0 : log_plane(back, v * share));
            const double log_r = t->log_density(next) - (t->prior != NULL ? target_mixture_log_density(t->prior, next) : 0.0);
            const double there = at * log_r + (t->prior != NULL || k + 1 == HEARD_STEPS ? 0.0 : (1.0 - at) * log_plane(next, t->sigma2 * at));
            sum += pow(psi + ratio - there, 2.0) / ((double)N * HEARD_STEPS);
            psi = there;
            memcpy(x, next, sizeof x);
        }
    }
    return sum;
}

START_TEST(the_losses_of_an_untrained_chain_are_those_of_its_process)
{
    const struct target reference = {
        .name = "reference", .D = 2, .sigma2 = 5.0, .log_density = reference_log_density, .draw = reference_draw};
    /* chains made backwards from the process's own ends are the process's */
    const struct heard replayed = losses(&reference, (struct target_options){.objective = OBJECTIVE_DAG_DB, .replay = TARGET_REPLAY_UNIFORM});
    ck_assert_double_eq_tol(replayed.mean[0] / replayed.mean[1], 1.0, 0.08);
    /* what looks forward is the target near the end and the reference process near the beginning, or the reward alone */
    struct heard h = losses(&reference, (struct target_options){.objective = OBJECTIVE_DAG_DB, .forward_looking = true});
    ck_assert_double_eq_tol(h.mean[1] / expected_loss(&reference), 1.0, 0.08);
    h = losses(find("9of25"), (struct target_options){.objective = OBJECTIVE_RESIDUAL_DB, .forward_looking = true});
    ck_assert_double_eq_tol(h.mean[1] / expected_loss(find("9of25")), 1.0, 0.08);
}
END_TEST

START_TEST(exploration_has_fallen_to_nothing_after_its_steps)
{
    const struct target_options plain = {.objective = OBJECTIVE_TB, .iterations = 4, .lr = 1e-2, .log_z_lr = 0.1};
    struct target_options explores = plain;
    explores.exploration = 1.0;
    const double none = train(plain).dlogz;
    ck_assert_double_eq(train(explores).dlogz, none); /* over no update at all */
    explores.exploration_steps = 2;
    ck_assert_double_ne(train(explores).dlogz, none);
}
END_TEST

/* N(0, diag(1, 10)): narrower than the reference process one way, wider the other. */
static double valley_log_density(const double *x)
{
    return -0.5 * x[0] * x[0] - 0.05 * x[1] * x[1] - log(2.0 * 3.14159265358979323846 * sqrt(10.0));
}

static void valley_gradient(double *grad, const double *x)
{
    grad[0] = -x[0];
    grad[1] = -0.1 * x[1];
}

static void steep_gradient(double *grad, const double *x)
{
    grad[0] = copysign(1e300, x[0]);
    grad[1] = copysign(1e300, x[1]);
}

START_TEST(the_targets_slope_is_part_of_the_drift)
{
    struct target valley = {.name = "valley", .D = 2, .sigma2 = 5.0, .log_density = valley_log_density,
                            .gradient = valley_gradient, .draw = reference_draw};
    struct target_options o = {.target = &valley, .objective = OBJECTIVE_TB, .iterations = 10, .lr = 3e-3, .log_z_lr = 0.1};
    const double without = train(o).dlogz;
    o.langevin = true;
    const struct target_result with = train(o);
    ck_assert_msg(with.dlogz < 0.5 * without, "%g, %g without", with.dlogz, without);
    ck_assert_double_lt(with.dlogz_rw, 0.02); /* chains are drawn by the drift that their densities are of */
    valley.gradient = steep_gradient;
    ck_assert(isfinite(train(o).dlogz));
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
        {.objective = OBJECTIVE_TB, .replay = TARGET_REPLAY_LOCAL_UNIFORM},
        {.objective = OBJECTIVE_TB, .langevin = true},
        {.objective = OBJECTIVE_TB, .width = 96},
    };
    const double before = train((struct target_options){.objective = OBJECTIVE_TB, .iterations = 1}).dlogz;
    double after[sizeof runs / sizeof *runs];
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct target_options o = runs[i];
        o.iterations = 300;
        o.lr = 2e-3;
        o.flow_lr = 1e-2;
        o.log_z_lr = 0.1;
        after[i] = train(o).dlogz;
        ck_assert_msg(after[i] < 0.8 * before, "run %zu: %g, was %g", i, after[i], before);
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(after[j] != after[i], "runs %zu and %zu are the same", j, i);
    }
    /* and beside a prior */
    struct target_options o = {.target = find("9of25"), .objective = OBJECTIVE_RTB, .iterations = 1};
    const double prior = train(o).dlogz;
    o.iterations = 200;
    o.lr = 2e-3;
    o.log_z_lr = 0.1;
    const double beside = train(o).dlogz;
    ck_assert_msg(beside < 0.9 * prior, "%g, was %g", beside, prior);
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
        o.batch = 10, o.steps = 5, o.samples = 10, o.width = 64, o.iterations = 1, o.threads = 1;
        ck_assert_msg(target_train(&r, &o, NULL, NULL, 1, &e) < 0, "case %zu is taken", i);
        ck_assert_msg(strstr(e.text, cases[i].want) != NULL, "case %zu: %s", i, e.text);
    }
}
END_TEST

START_TEST(a_run_that_diverges_says_when)
{
    const struct target_options o = {.target = find("25gmm"), .objective = OBJECTIVE_DAG_DB, .iterations = 50, .seed = 1, .batch = 10,
                                     .steps = 20, .samples = 10, .width = 64, .lr = 0.9, .flow_lr = 1, .lr_final = 1, .threads = 1};
    struct target_result r = {0};
    struct err e = {0};
    ck_assert_int_eq(target_train(&r, &o, NULL, NULL, 1, &e), -1);
    ck_assert_msg(e.code == ERR_NONFINITE, "%s", e.text);
    ck_assert_uint_lt(r.updates, 50);
}
END_TEST

SUITE("dagline/target", 120, a_run_that_diverges_says_when, options_that_do_not_go_together_are_refused, gradients_are_those_of_the_densities, the_known_answers_are_right,
      the_draws_are_of_the_densities, the_figures_of_an_untrained_chain_are_the_known_ones,
      langevin_chains_stay_in_the_density, the_losses_of_an_untrained_chain_are_those_of_its_process, a_target_that_is_the_prior_leaves_the_policy_where_it_is, exploration_has_fallen_to_nothing_after_its_steps,
      transport_is_the_best_of_all_permutations, an_untrained_chain_has_the_weights_of_the_reference_process,
      the_drift_to_a_mixture_is_its_score, t8_the_posterior_of_a_tilted_mixture_balances_and_has_its_mode_weights,
      every_objective_and_replay_learns, the_targets_slope_is_part_of_the_drift)
