#include "base/mem.h"
#include "nn/conv2d.h"
#include "nn/conv2d_winograd.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Of the output's largest value; the transforms of Winograd cost an order of magnitude. */
#define TOLERANCE_DIRECT 2e-6
#define TOLERANCE_WINOGRAD 1e-5

static const struct conv2d_shape shapes[] = {
    /* B, H, W, C, O, K, stride, pad */
    {2, 16, 16, 32, 32, 3, 1, CONV2D_PAD_SAME},
    {3, 8, 8, 160, 64, 3, 1, CONV2D_PAD_SAME},
    {4, 4, 4, 192, 96, 3, 1, CONV2D_PAD_SAME},
    {2, 16, 16, 4, 32, 3, 1, CONV2D_PAD_SAME},
    {2, 16, 16, 32, 4, 3, 1, CONV2D_PAD_SAME},
    {1, 32, 32, 24, 16, 3, 1, CONV2D_PAD_SAME},
    {1, 32, 32, 16, 3, 3, 1, CONV2D_PAD_SAME},
    {2, 7, 5, 20, 12, 3, 1, CONV2D_PAD_SAME},
    {5, 1, 1, 3, 5, 3, 1, CONV2D_PAD_SAME},
    {1, 2, 9, 33, 49, 3, 1, CONV2D_PAD_SAME},
    {1, 11, 13, 7, 40, 3, 1, CONV2D_PAD_SAME},
    {2, 16, 16, 32, 32, 3, 2, CONV2D_PAD_SAME},
    {2, 7, 9, 5, 6, 3, 2, CONV2D_PAD_SAME},
    {2, 16, 16, 16, 16, 3, 2, CONV2D_PAD_BOTTOM_RIGHT},
    {2, 9, 6, 5, 3, 3, 2, CONV2D_PAD_BOTTOM_RIGHT},
    {1, 5, 5, 3, 2, 3, 1, CONV2D_PAD_BOTTOM_RIGHT},
    {2, 8, 8, 64, 96, 1, 1, CONV2D_PAD_SAME},
    {2, 5, 7, 6, 3, 1, 2, CONV2D_PAD_SAME},
};

struct tensors {
    size_t nx, ny, nw, Ho, Wo;
    float *x, *w, *b, *y, *d_x, *d_w, *d_b, *d_y;
};

static void fill(float *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u ^ seed * 40503u;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        p[i] = (float)(h >> 8) / 8388608.0f - 1.0f;
    }
}

static struct tensors tensors_new(struct conv2d_shape s)
{
    const size_t border = s.K / 2 * (s.pad == CONV2D_PAD_SAME ? 2 : 1);
    struct tensors t = {.Ho = (s.H + border - s.K) / s.stride + 1,
                        .Wo = (s.W + border - s.K) / s.stride + 1};
    t.nx = s.B * s.H * s.W * s.C;
    t.ny = s.B * t.Ho * t.Wo * s.O;
    t.nw = s.O * s.C * s.K * s.K;
    float **const all[] = {&t.x, &t.w, &t.b, &t.y, &t.d_x, &t.d_w, &t.d_b, &t.d_y};
    const size_t sizes[] = {t.nx, t.nw, s.O, t.ny, t.nx, t.nw, s.O, t.ny};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *all[i] = mem_new(sizes[i], sizeof **all[i]);
        fill(*all[i], sizes[i], (uint32_t)i + 1);
    }
    return t;
}

static void tensors_free(struct tensors t)
{
    float *const all[] = {t.x, t.w, t.b, t.y, t.d_x, t.d_w, t.d_b, t.d_y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]);
}

/* The sums as the definition has them, in double; all of the gradients added to what is there. */
static void naive(struct conv2d_shape s, struct tensors t)
{
    double *const y = mem_new(t.ny, sizeof *y), *const d_x = mem_new(t.nx, sizeof *d_x);
    double *const d_w = mem_new(t.nw, sizeof *d_w), *const d_b = mem_new(s.O, sizeof *d_b);
    const size_t before = s.pad == CONV2D_PAD_SAME ? s.K / 2 : 0;
    for (size_t p = 0; p < s.B * t.Ho * t.Wo; p++) {
        const size_t b = p / (t.Ho * t.Wo), i = p / t.Wo % t.Ho, j = p % t.Wo;
        for (size_t o = 0; o < s.O; o++) {
            const double d = (double)t.d_y[p * s.O + o];
            y[p * s.O + o] += (double)t.b[o];
            d_b[o] += d;
            for (size_t tap = 0; tap < s.K * s.K; tap++) {
                const size_t yy = i * s.stride + tap / s.K - before;
                const size_t xx = j * s.stride + tap % s.K - before;
                if (yy >= s.H || xx >= s.W)
                    continue;
                const size_t at = ((b * s.H + yy) * s.W + xx) * s.C;
                for (size_t c = 0; c < s.C; c++) {
                    const size_t iw = (o * s.C + c) * s.K * s.K + tap;
                    y[p * s.O + o] += (double)t.x[at + c] * (double)t.w[iw];
                    d_x[at + c] += d * (double)t.w[iw];
                    d_w[iw] += d * (double)t.x[at + c];
                }
            }
        }
    }
    for (size_t i = 0; i < t.ny; i++)
        t.y[i] = (float)y[i];
    for (size_t i = 0; i < t.nx; i++)
        t.d_x[i] = (float)((double)t.d_x[i] + d_x[i]);
    for (size_t i = 0; i < t.nw; i++)
        t.d_w[i] = (float)((double)t.d_w[i] + d_w[i]);
    for (size_t i = 0; i < s.O; i++)
        t.d_b[i] = (float)((double)t.d_b[i] + d_b[i]);
    mem_free(y);
    mem_free(d_x);
    mem_free(d_w);
    mem_free(d_b);
}

static void expect_near(const char *what, const char *algo, size_t shape, const float *got,
                        const float *want, size_t n, double tolerance)
{
    size_t at = 0;
    const double worst = near_worst_float(got, want, n, &at);
    ck_assert_msg(worst < tolerance, "%s %s, shape %zu: [%zu] got %.9g want %.9g (%.3g)", algo,
                  what, shape, at, (double)got[at], (double)want[at], worst);
}

/* One algorithm in all passes that it can serve, gradients accumulated. */
static void run_algo(size_t index, enum conv2d_algo algo, struct tensors want)
{
    const struct conv2d_shape s = shapes[index];
    const enum conv2d_algo algos[CONV2D_PASSES] = {algo, algo, algo};
    const struct tensors t = tensors_new(s);
    struct conv2d_plan p;
    struct err e;
    ck_assert_msg(conv2d_plan_open_with(&p, s, algos, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(p.Ho, t.Ho);
    ck_assert_uint_eq(p.Wo, t.Wo);
    void *const derived = mem_slab(conv2d_derived_bytes(&p, true) + 1, "derived", &e);
    void *const work = mem_slab(conv2d_work_bytes(&p, true) + 1, "work", &e);
    memset(work, 0xff, conv2d_work_bytes(&p, true)); /* NaN, should anything be read unwritten */
    memset(derived, 0xff, conv2d_derived_bytes(&p, true));
    conv2d_prepare(&p, derived, t.w, true);
    conv2d_forward(&p, s.B, t.y, t.x, t.w, derived, t.b, work);
    conv2d_backward(&p, s.B, t.d_x, true, t.d_w, t.d_b, t.d_y, t.x, t.w, derived, work);
    const char *const name = conv2d_algo_name(algo);
    const double tolerance = algo == CONV2D_WINOGRAD ? TOLERANCE_WINOGRAD : TOLERANCE_DIRECT;
    expect_near("y", name, index, t.y, want.y, t.ny, tolerance);
    expect_near("d_x", name, index, t.d_x, want.d_x, t.nx, tolerance);
    expect_near("d_w", name, index, t.d_w, want.d_w, t.nw, tolerance);
    expect_near("d_b", name, index, t.d_b, want.d_b, s.O, tolerance);
    mem_free(derived);
    mem_free(work);
    conv2d_plan_close(&p);
    tensors_free(t);
}

START_TEST(every_algorithm_agrees_with_the_definition)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct tensors want = tensors_new(shapes[i]);
        naive(shapes[i], want);
        for (int algo = CONV2D_IM2COL_BLAS; algo <= CONV2D_DNNL; algo++) {
            if (conv2d_can(shapes[i], (enum conv2d_algo)algo))
                run_algo(i, (enum conv2d_algo)algo, want);
        }
        tensors_free(want);
    }
}
END_TEST

START_TEST(winograd_of_every_instruction_set_agrees_with_the_definition)
{
    static const char *const names[] = {"avx2", "avx512"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const struct winograd *const g = winograd_named(names[k]);
        if (g == NULL) {
            test_skip("this processor has not the instructions");
            continue;
        }
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const struct conv2d_shape s = shapes[i];
            if (s.K != 3 || s.stride != 1 || s.pad != CONV2D_PAD_SAME)
                continue;
            const struct winograd_shape to = {s.B, s.H, s.W, s.C, s.O};
            const struct winograd_shape back = {s.B, s.H, s.W, s.O, s.C};
            const struct tensors want = tensors_new(s), t = tensors_new(s);
            struct err e;
            naive(s, want);
            float *const U = mem_slab(winograd_filter_bytes(g, s.C, s.O), "U", &e);
            float *const U_back = mem_slab(winograd_filter_bytes(g, s.O, s.C), "U", &e);
            void *const work =
                mem_slab(winograd_work_bytes(g, to) + winograd_work_bytes(g, back), "work", &e);
            winograd_filter(g, U, t.w, s.O, s.C, false);
            winograd_filter(g, U_back, t.w, s.O, s.C, true);
            winograd_convolve(g, t.y, false, t.x, U, t.b, to, work);
            winograd_convolve(g, t.d_x, true, t.d_y, U_back, NULL, back, work);
            winograd_filter_gradient(g, t.d_w, t.d_y, t.x, to, work);
            expect_near("y", names[k], i, t.y, want.y, t.ny, TOLERANCE_WINOGRAD);
            expect_near("d_x", names[k], i, t.d_x, want.d_x, t.nx, TOLERANCE_WINOGRAD);
            expect_near("d_w", names[k], i, t.d_w, want.d_w, t.nw, TOLERANCE_WINOGRAD);
            mem_free(U);
            mem_free(U_back);
            mem_free(work);
            tensors_free(want);
            tensors_free(t);
        }
    }
}
END_TEST

/* A plan of the fast backend with its memory. */
struct layer {
    struct conv2d_plan plan;
    void *derived, *work;
};

static struct layer layer_open(struct conv2d_shape s, const float *w)
{
    struct layer l;
    struct err e;
    ck_assert_int_eq(conv2d_plan_open(&l.plan, s, CONV2D_FAST, &e), 0);
    l.derived = mem_slab(conv2d_derived_bytes(&l.plan, true) + 1, "derived", &e);
    l.work = mem_slab(conv2d_work_bytes(&l.plan, true) + 1, "work", &e);
    conv2d_prepare(&l.plan, l.derived, w, true);
    return l;
}

static void layer_close(struct layer *l)
{
    mem_free(l->derived);
    mem_free(l->work);
    conv2d_plan_close(&l->plan);
}

START_TEST(a_sample_does_not_depend_on_its_batch)
{
    if (winograd_best() == NULL) {
        test_skip("BLAS promises no such thing");
        return;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct conv2d_shape s = shapes[i];
        s.B = 5;
        const struct tensors t = tensors_new(s);
        struct layer l = layer_open(s, t.w);
        float *const one = mem_new(t.ny, sizeof *one);
        conv2d_forward(&l.plan, s.B, t.y, t.x, t.w, l.derived, t.b, l.work);
        for (size_t b = 0; b < s.B; b++)
            conv2d_forward(&l.plan, 1, one + b * (t.ny / s.B), t.x + b * (t.nx / s.B), t.w,
                           l.derived, t.b, l.work);
        ck_assert_msg(memcmp(one, t.y, t.ny * sizeof *one) == 0, "shape %zu", i);
        mem_free(one);
        layer_close(&l);
        tensors_free(t);
    }
}
END_TEST

START_TEST(gradients_not_wanted_are_not_touched_and_d_x_is_overwritten_by_default)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct conv2d_shape s = shapes[i];
        const struct tensors t = tensors_new(s);
        struct layer l = layer_open(s, t.w);
        float *const d_x = mem_new(t.nx, sizeof *d_x), *const d_w = mem_new(t.nw, sizeof *d_w);
        conv2d_backward(&l.plan, s.B, NULL, false, NULL, NULL, t.d_y, t.x, t.w, NULL, l.work);
        conv2d_backward(&l.plan, s.B, d_x, true, d_w, NULL, t.d_y, t.x, t.w, l.derived, l.work);
        for (size_t k = 0; k < t.nx; k++)
            t.d_x[k] = NAN; /* must not be read */
        conv2d_backward(&l.plan, s.B, t.d_x, false, NULL, NULL, t.d_y, NULL, t.w, l.derived,
                        l.work);
        expect_near("d_x", "overwritten", i, t.d_x, d_x, t.nx, 1e-12);
        conv2d_backward(&l.plan, s.B, NULL, false, d_w, NULL, t.d_y, t.x, t.w, NULL, l.work);
        memset(t.d_w, 0, t.nw * sizeof *t.d_w);
        conv2d_backward(&l.plan, s.B, NULL, false, t.d_w, NULL, t.d_y, t.x, t.w, NULL, l.work);
        for (size_t k = 0; k < t.nw; k++)
            t.d_w[k] *= 2.0f;
        expect_near("d_w", "twice", i, d_w, t.d_w, t.nw, 1e-6);
        mem_free(d_x);
        mem_free(d_w);
        layer_close(&l);
        tensors_free(t);
    }
}
END_TEST

START_TEST(the_choice_does_not_depend_on_the_batch)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int pass = 0; pass < CONV2D_PASSES; pass++) {
            struct conv2d_shape one = shapes[i], many = shapes[i];
            one.B = 1;
            many.B = 64;
            ck_assert_int_eq(conv2d_choose(one, (enum conv2d_pass)pass, CONV2D_FAST),
                             conv2d_choose(many, (enum conv2d_pass)pass, CONV2D_FAST));
        }
}
END_TEST

START_TEST(the_reference_backend_is_blas_everywhere)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int pass = 0; pass < CONV2D_PASSES; pass++)
            ck_assert_int_eq(conv2d_choose(shapes[i], (enum conv2d_pass)pass, CONV2D_REFERENCE),
                             CONV2D_IM2COL_BLAS);
}
END_TEST

SUITE("nn/conv2d", 120, every_algorithm_agrees_with_the_definition,
      winograd_of_every_instruction_set_agrees_with_the_definition,
      a_sample_does_not_depend_on_its_batch,
      gradients_not_wanted_are_not_touched_and_d_x_is_overwritten_by_default,
      the_choice_does_not_depend_on_the_batch, the_reference_backend_is_blas_everywhere)
