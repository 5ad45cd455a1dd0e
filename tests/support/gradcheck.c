#include "support/gradcheck.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double gradcheck_worst(double (*loss)(void *arg), void *arg, real *values, const real *gradient,
                       size_t n, size_t *at)
{
    double worst = 0.0, scale = 0.0;
    for (size_t i = 0; i < n; i++) {
        const real keep = values[i];
        values[i] = keep + (real)GRADCHECK_STEP;
        const double above = loss(arg);
        values[i] = keep - (real)GRADCHECK_STEP;
        const double below = loss(arg);
        values[i] = keep;
        const double slope = (above - below) / (2.0 * GRADCHECK_STEP);
        const double error = fabs(slope - (double)gradient[i]);
        scale = fmax(scale, fabs(slope));
        if (!(error <= worst)) {
            worst = isfinite(error) ? error : (double)INFINITY;
            if (at != NULL)
                *at = i;
        }
    }
    return worst == 0.0 ? 0.0 : worst / (scale > 0.0 ? scale : 1.0);
}

void gradcheck_claim(const char *name, double (*loss)(void *arg), void *arg, real *values,
                     const real *gradient, size_t n)
{
    size_t at = 0;
    const double worst = gradcheck_worst(loss, arg, values, gradient, n, &at);
    ck_assert_msg(worst <= GRADCHECK_TOLERANCE, "%s[%zu] of %zu: off by %g of the largest", name,
                  at, n, worst);

    real *const wrong = gradcheck_new(n);
    double scale = 0.0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs((double)gradient[i]));
    ck_assert_msg(scale > 0.0, "%s: the gradient is all zero, which proves nothing", name);
    memcpy(wrong, gradient, n * sizeof *wrong);
    wrong[n / 2] += (real)(0.01 * scale);
    ck_assert_msg(gradcheck_worst(loss, arg, values, wrong, n, NULL) > GRADCHECK_TOLERANCE,
                  "%s: a wrong gradient goes unnoticed", name);
}

void gradcheck_same(const char *name, const real *got, const real *want, size_t n)
{
    const double tolerance = sizeof(real) == sizeof(double) ? 1e-12 : 1e-5;
    double scale = 0.0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - (double)want[i]);
        ck_assert_msg(error <= tolerance * scale, "%s[%zu]: got %.9g want %.9g", name, i,
                      (double)got[i], (double)want[i]);
    }
}

void gradcheck_twice(const char *name, const real *twice, const real *once, size_t n)
{
    real *const want = gradcheck_new(n);
    for (size_t i = 0; i < n; i++)
        want[i] = 2 * once[i];
    gradcheck_same(name, twice, want, n);
}

void gradcheck_fill(real *values, size_t n, uint64_t seed, double scale)
{
    for (size_t i = 0; i < n; i++) {
        /* splitmix64 */
        uint64_t z = seed * 0x632be59bd9b4e019u + (i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        values[i] = (real)(scale * ((double)(z >> 11) * 0x1p-52 - 1.0));
    }
}

double gradcheck_dot(const real *a, const real *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Every block begins with a line that leads to the one before, so that a leak checker sees them in
 * use. */
struct block {
    struct block *before;
};
static struct block *newest;

real *gradcheck_new(size_t n)
{
    const size_t bytes = (64 + n * sizeof(real) + 127) & ~(size_t)63;
    char *const p = aligned_alloc(64, bytes);
    ck_assert_ptr_nonnull(p);
    memset(p, 0, bytes);
    struct block *const b = (struct block *)(void *)p;
    b->before = newest;
    newest = b;
    return (real *)(void *)(p + 64);
}
