#include "base/mem.h"
#include "nn/conv2d.h"
#include "support/suite.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Central differences of L = sum of d_y * y.  L is linear in each of x, w and b, so the step leaves
 * no error of its own and may be large; what is left is rounding. */
#define STEP 0.5
#define TOLERANCE 1e-10

static const struct conv2d_shape shapes[] = {
    /* B, H, W, C, O, K, stride, pad */
    {2, 5, 7, 6, 3, 3, 1, CONV2D_PAD_SAME},         {2, 5, 7, 3, 4, 3, 2, CONV2D_PAD_SAME},
    {2, 6, 5, 2, 3, 3, 2, CONV2D_PAD_BOTTOM_RIGHT}, {2, 4, 4, 3, 2, 3, 1, CONV2D_PAD_BOTTOM_RIGHT},
    {2, 5, 7, 6, 3, 1, 1, CONV2D_PAD_SAME},         {2, 5, 7, 3, 2, 1, 2, CONV2D_PAD_SAME},
    {1, 1, 1, 2, 2, 3, 1, CONV2D_PAD_SAME},
};

struct layer {
    struct conv2d_plan plan;
    size_t nx, ny, nw;
    real *x, *w, *b, *y, *d_y;
    void *derived, *work;
};

static real *numbers(size_t n, uint32_t seed)
{
    real *const p = mem_new(n, sizeof *p);
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u ^ seed * 40503u;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        p[i] = (real)((double)h / 2147483648.0 - 1.0);
    }
    return p;
}

static struct layer layer_open(struct conv2d_shape s)
{
    struct layer l;
    struct err e;
    ck_assert_int_eq(conv2d_plan_open(&l.plan, s, CONV2D_FAST, &e), 0);
    l.nx = s.B * s.H * s.W * s.C;
    l.ny = s.B * l.plan.Ho * l.plan.Wo * s.O;
    l.nw = s.O * s.C * s.K * s.K;
    l.x = numbers(l.nx, 1);
    l.w = numbers(l.nw, 2);
    l.b = numbers(s.O, 3);
    l.y = numbers(l.ny, 4);
    l.d_y = numbers(l.ny, 5);
    l.derived = mem_slab(conv2d_derived_bytes(&l.plan, true) + 1, "derived", &e);
    l.work = mem_slab(conv2d_work_bytes(&l.plan, true) + 1, "work", &e);
    return l;
}

static void layer_close(struct layer *l)
{
    mem_free(l->x);
    mem_free(l->w);
    mem_free(l->b);
    mem_free(l->y);
    mem_free(l->d_y);
    mem_free(l->derived);
    mem_free(l->work);
    conv2d_plan_close(&l->plan);
}

static double loss(struct layer *l)
{
    double sum = 0.0;
    conv2d_prepare(&l->plan, l->derived, l->w, true);
    conv2d_forward(&l->plan, l->plan.shape.B, l->y, l->x, l->w, l->derived, l->b, l->work);
    for (size_t i = 0; i < l->ny; i++)
        sum += (double)l->y[i] * (double)l->d_y[i];
    return sum;
}

/* The largest difference between grad and the central difference, over every element of at. */
static double worst(struct layer *l, real *at, const real *grad, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++) {
        const real kept = at[i];
        at[i] = kept + (real)STEP;
        const double above = loss(l);
        at[i] = kept - (real)STEP;
        const double below = loss(l);
        at[i] = kept;
        const double d = fabs((above - below) / (2.0 * STEP) - (double)grad[i]);
        if (!(d <= most)) /* NaN too */
            most = d;
    }
    return most;
}

START_TEST(every_gradient_agrees_with_central_differences)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct layer l = layer_open(shapes[i]);
        real *const d_x = mem_new(l.nx, sizeof *d_x), *const d_w = mem_new(l.nw, sizeof *d_w);
        real *const d_b = mem_new(shapes[i].O, sizeof *d_b);
        conv2d_prepare(&l.plan, l.derived, l.w, true);
        conv2d_backward(&l.plan, shapes[i].B, d_x, false, d_w, d_b, l.d_y, l.x, l.w, l.derived,
                        l.work);
        const double x = worst(&l, l.x, d_x, l.nx), w = worst(&l, l.w, d_w, l.nw);
        const double b = worst(&l, l.b, d_b, shapes[i].O);
        ck_assert_msg(x < TOLERANCE, "d_x of shape %zu: %.3g", i, x);
        ck_assert_msg(w < TOLERANCE, "d_w of shape %zu: %.3g", i, w);
        ck_assert_msg(b < TOLERANCE, "d_b of shape %zu: %.3g", i, b);
        d_w[l.nw / 2] += (real)1e-6; /* and a wrong one is caught */
        ck_assert(worst(&l, l.w, d_w, l.nw) > TOLERANCE);
        mem_free(d_x);
        mem_free(d_w);
        mem_free(d_b);
        layer_close(&l);
    }
}
END_TEST

START_TEST(a_second_pass_doubles_what_accumulates)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct layer l = layer_open(shapes[i]);
        real *const once = mem_new(l.nx, sizeof *once), *const twice = mem_new(l.nx, sizeof *once);
        real *const w1 = mem_new(l.nw, sizeof *w1), *const w2 = mem_new(l.nw, sizeof *w2);
        const size_t B = shapes[i].B;
        conv2d_prepare(&l.plan, l.derived, l.w, true);
        conv2d_backward(&l.plan, B, once, false, w1, NULL, l.d_y, l.x, l.w, l.derived, l.work);
        for (int pass = 0; pass < 2; pass++)
            conv2d_backward(&l.plan, B, twice, true, w2, NULL, l.d_y, l.x, l.w, l.derived, l.work);
        for (size_t k = 0; k < l.nx; k++)
            ck_assert(fabs((double)twice[k] - 2.0 * (double)once[k]) < TOLERANCE);
        for (size_t k = 0; k < l.nw; k++)
            ck_assert(fabs((double)w2[k] - 2.0 * (double)w1[k]) < TOLERANCE);
        mem_free(once);
        mem_free(twice);
        mem_free(w1);
        mem_free(w2);
        layer_close(&l);
    }
}
END_TEST

SUITE("grad/conv2d", 60, every_gradient_agrees_with_central_differences,
      a_second_pass_doubles_what_accumulates)
