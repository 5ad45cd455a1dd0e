#include "nn/norm.h"

#include "nn/norm_simd.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Rows summed in float before they go to double; also what keeps a large plane in the cache while
 * its channels are visited block by block. */
#define RUN_ROWS 256
#define RUN_REALS (16 * 1024)

#define ALIGN_UP(bytes) (((bytes) + 63) & ~(size_t)63)

static size_t run_rows(size_t C)
{
    const size_t fit = RUN_REALS / C;
    return fit > RUN_ROWS ? RUN_ROWS : (fit < 16 ? 16 : fit);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- group norm
 * ---------------------------------------------------------------------------------- */

/* Scratch of one call: doubles [C] x 2, reals [C] x 5, and for the backward pass d_z of one sample.
 */
struct scratch {
    double *sum, *square; /* contiguous, so that one memset clears both */
    real *row[5];
    real *plane;
};

static struct scratch scratch_of(void *work, size_t C)
{
    assert(((uintptr_t)work & 63) == 0);
    char *at = work;
    struct scratch w = {.sum = (double *)(void *)at};
    w.square = w.sum + C;
    at += ALIGN_UP(2 * C * sizeof(double));
    for (int i = 0; i < 5; i++, at += ALIGN_UP(C * sizeof(real)))
        w.row[i] = (real *)(void *)at;
    w.plane = (real *)(void *)at;
    return w;
}

size_t group_norm_forward_work_bytes(struct group_norm_shape s)
{
    return ALIGN_UP(2 * s.C * sizeof(double)) + 5 * ALIGN_UP(s.C * sizeof(real));
}

size_t group_norm_backward_work_bytes(struct group_norm_shape s)
{
    return group_norm_forward_work_bytes(s) + ALIGN_UP(s.HW * s.C * sizeof(real));
}

static void check_shape(struct group_norm_shape s)
{
    assert(s.C > 0 && s.G > 0 && s.C % s.G == 0 && s.HW > 0);
}

/* The pivot of a group is its first number: any value near the data will do. */
static void set_pivot(real *pivot, const real *x, struct group_norm_shape s)
{
    const size_t width = s.C / s.G;
    for (size_t g = 0; g < s.G; g++)
        for (size_t c = 0; c < width; c++)
            pivot[g * width + c] = x[g * width];
}

/* Sums of one sample [HW,C] by channel, about the pivots. */
static void gather_sample(struct scratch w, const real *x, struct group_norm_shape s)
{
    set_pivot(w.row[0], x, s);
    memset(w.sum, 0, 2 * s.C * sizeof *w.sum);
    const size_t run = run_rows(s.C);
    for (size_t row = 0; row < s.HW; row += run)
        SIMD_PICK(norm_gather)
    (w.sum, w.square, x + row * s.C, w.row[0], smaller(run, s.HW - row), s.C);
}

void group_norm_forward(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                        const real *beta, struct group_norm_shape s, double eps, bool silu,
                        void *work)
{
    check_shape(s);
    const struct scratch w = scratch_of(work, s.C);
    const size_t width = s.C / s.G;
    const double per_group = 1.0 / ((double)s.HW * (double)width);
    real *const pivot = w.row[0], *const centre = w.row[1], *const a = w.row[2];
    for (size_t i = 0; i < s.B; i++, x += s.HW * s.C, y += s.HW * s.C) {
        gather_sample(w, x, s);
        for (size_t g = 0; g < s.G; g++) {
            double sum = 0.0, square = 0.0;
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                sum += w.sum[c];
                square += w.square[c];
            }
            const double off = sum * per_group;
            const double spread = square * per_group - off * off;
            const double var = spread < 0.0 ? 0.0 : spread; /* a NaN stays */
            const double m = (double)pivot[g * width] + off, r = 1.0 / sqrt(var + eps);
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                centre[c] = (real)m;
                a[c] = (real)r * gamma[c];
            }
            if (mean != NULL)
                mean[i * s.G + g] = (real)m;
            if (rstd != NULL)
                rstd[i * s.G + g] = (real)r;
        }
        SIMD_PICK(norm_apply)(y, x, centre, a, beta, s.HW, s.C, silu);
    }
}

/* With n elements in a group, S = sum gamma d_z and D = sum gamma d_z xhat over the group:
 * d_x = rstd (gamma d_z - (S + xhat D) / n), which is linear in d_z and x for each channel. */
void group_norm_backward(real *d_x, real *d_gamma, real *d_beta, const real *d_y, const real *x,
                         const real *gamma, const real *beta, const real *mean, const real *rstd,
                         struct group_norm_shape s, bool silu, bool accumulate, void *work)
{
    check_shape(s);
    const struct scratch w = scratch_of(work, s.C);
    const size_t width = s.C / s.G, sample = s.HW * s.C, run = run_rows(s.C);
    const double per_group = 1.0 / ((double)s.HW * (double)width);
    real *const m = w.row[0], *const r = w.row[1];
    real *const p = w.row[2], *const q = w.row[3], *const t = w.row[4];
    const struct norm_affine affine = {m, r, gamma, beta};
    for (size_t i = 0; i < s.B; i++, x += sample, d_y += sample, d_x += sample) {
        for (size_t c = 0; c < s.C; c++) {
            r[c] = rstd[i * s.G + c / width];
            m[c] = mean[i * s.G + c / width];
        }
        memset(w.sum, 0, 2 * s.C * sizeof *w.sum);
        const real *const d_z = silu ? w.plane : d_y;
        for (size_t row = 0; row < s.HW; row += run)
            SIMD_PICK(norm_gather_backward)
        (w.sum, w.square, w.plane + row * s.C, d_y + row * s.C, x + row * s.C, &affine,
         smaller(run, s.HW - row), s.C, silu);
        for (size_t g = 0; g < s.G; g++) {
            double sum = 0.0, dot = 0.0;
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                sum += (double)gamma[c] * w.sum[c];
                dot += (double)gamma[c] * w.square[c];
            }
            const double k = (double)rstd[i * s.G + g];
            const double slope = -k * k * dot * per_group;
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                p[c] = (real)(k * (double)gamma[c]);
                q[c] = (real)slope;
                t[c] = (real)(-k * sum * per_group);
            }
        }
        for (size_t c = 0; c < s.C && d_gamma != NULL; c++)
            d_gamma[c] += (real)w.square[c];
        for (size_t c = 0; c < s.C && d_beta != NULL; c++)
            d_beta[c] += (real)w.sum[c];
        SIMD_PICK(norm_apply_backward)(d_x, d_z, x, m, p, q, t, s.HW, s.C, accumulate);
    }
}

/* ---- layer norm
 * ---------------------------------------------------------------------------------- */

void layer_norm_forward(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                        const real *beta, size_t rows, size_t C, double eps)
{
    assert(C > 0);
    SIMD_PICK(norm_rows)(y, mean, rstd, x, gamma, beta, rows, C, (real)eps);
}

size_t layer_norm_backward_work_bytes(size_t C)
{
    return 2 * ALIGN_UP(C * sizeof(double)) + 2 * ALIGN_UP(C * sizeof(real));
}

void layer_norm_backward(real *d_x, real *d_gamma, real *d_beta, const real *d_y, const real *x,
                         const real *gamma, const real *mean, const real *rstd, size_t rows,
                         size_t C, bool accumulate, void *work)
{
    assert(C > 0 && ((uintptr_t)work & 63) == 0);
    double *const sum_gamma = work;
    double *const sum_beta = sum_gamma + C;
    real *const part_gamma = (real *)(void *)((char *)work + 2 * ALIGN_UP(C * sizeof(double)));
    real *const part_beta = part_gamma + C;
    memset(sum_gamma, 0, 2 * C * sizeof *sum_gamma);
    for (size_t row = 0; row < rows; row += RUN_ROWS) {
        memset(part_gamma, 0, 2 * C * sizeof *part_gamma);
        SIMD_PICK(norm_rows_backward)
        (d_x + row * C, part_gamma, part_beta, d_y + row * C, x + row * C, gamma, mean + row,
         rstd + row, smaller(RUN_ROWS, rows - row), C, accumulate);
        for (size_t c = 0; c < C; c++) {
            sum_gamma[c] += (double)part_gamma[c];
            sum_beta[c] += (double)part_beta[c];
        }
    }
    for (size_t c = 0; c < C && d_gamma != NULL; c++)
        d_gamma[c] += (real)sum_gamma[c];
    for (size_t c = 0; c < C && d_beta != NULL; c++)
        d_beta[c] += (real)sum_beta[c];
}
