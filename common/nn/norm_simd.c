#include "nn/norm_simd.h"

#include "nn/simd_vec.h"

#include <assert.h>

/* Channels go in blocks of NV vectors, whose accumulators stay in registers while the rows run by;
 * with a narrow block several rows are in flight, so that the latency of one addition does not set
 * the pace. */

SIMD_INLINE void add_lanes(double *total, vr x, size_t n)
{
    real lane[SIMD_N];
    v_store(lane, x);
    if (n == SIMD_N)
        for (size_t i = 0; i < SIMD_N; i++)
            total[i] += (double)lane[i];
    else
        for (size_t i = 0; i < n; i++)
            total[i] += (double)lane[i];
}

/* The last vector of a row whose C is no multiple of SIMD_N. */
SIMD_INLINE vr load_at(const real *p, size_t left)
{
    return left >= SIMD_N ? v_load(p) : v_load_part(p, left);
}

SIMD_INLINE void store_at(real *p, vr x, size_t left)
{
    if (left >= SIMD_N)
        v_store(p, x);
    else
        v_store_part(p, x, left);
}

/* ---- group norm, forward
 * ------------------------------------------------------------------------- */

SIMD_INLINE void gather_block(double *sum, double *square, const real *x, const real *pivot,
                              size_t rows, size_t C, size_t left, const size_t NV, const size_t NR)
{
    vr shift[4], s[4], q[4];
    for (size_t v = 0; v < NV; v++)
        shift[v] = load_at(pivot + v * SIMD_N, left - v * SIMD_N);
    for (size_t i = 0; i < NV * NR; i++)
        s[i] = q[i] = (vr){0};
    size_t row = 0;
    for (; row + NR <= rows; row += NR)
        for (size_t r = 0; r < NR; r++)
            for (size_t v = 0; v < NV; v++) {
                const vr d = load_at(x + (row + r) * C + v * SIMD_N, left - v * SIMD_N) - shift[v];
                s[r * NV + v] += d;
                q[r * NV + v] = v_fma(d, d, q[r * NV + v]);
            }
    for (; row < rows; row++)
        for (size_t v = 0; v < NV; v++) {
            const vr d = load_at(x + row * C + v * SIMD_N, left - v * SIMD_N) - shift[v];
            s[v] += d;
            q[v] = v_fma(d, d, q[v]);
        }
    for (size_t v = 0; v < NV; v++) {
        for (size_t r = 1; r < NR; r++) {
            s[v] += s[r * NV + v];
            q[v] += q[r * NV + v];
        }
        const size_t n = left - v * SIMD_N < SIMD_N ? left - v * SIMD_N : SIMD_N;
        add_lanes(sum + v * SIMD_N, s[v], n);
        add_lanes(square + v * SIMD_N, q[v], n);
    }
}

void SIMD(norm_gather)(double *sum, double *square, const real *x, const real *pivot, size_t rows,
                       size_t C)
{
    size_t c = 0;
    for (; c + 4 * SIMD_N <= C; c += 4 * SIMD_N)
        gather_block(sum + c, square + c, x + c, pivot + c, rows, C, 4 * SIMD_N, 4, 1);
    for (; c + 2 * SIMD_N <= C; c += 2 * SIMD_N)
        gather_block(sum + c, square + c, x + c, pivot + c, rows, C, 2 * SIMD_N, 2, 2);
    for (; c + SIMD_N <= C; c += SIMD_N)
        gather_block(sum + c, square + c, x + c, pivot + c, rows, C, SIMD_N, 1, 4);
    if (c < C)
        gather_block(sum + c, square + c, x + c, pivot + c, rows, C, C - c, 1, 4);
}

SIMD_INLINE void apply_block(real *y, const real *x, const real *m, const real *a, const real *b,
                             size_t rows, size_t C, size_t left, const size_t NV, const bool silu)
{
    vr mean[2], scale[2], shift[2];
    for (size_t v = 0; v < NV; v++) {
        mean[v] = load_at(m + v * SIMD_N, left - v * SIMD_N);
        scale[v] = load_at(a + v * SIMD_N, left - v * SIMD_N);
        shift[v] = load_at(b + v * SIMD_N, left - v * SIMD_N);
    }
    for (size_t row = 0; row < rows; row++)
        for (size_t v = 0; v < NV; v++) {
            const size_t at = row * C + v * SIMD_N, rest = left - v * SIMD_N;
            const vr z = v_fma(load_at(x + at, rest) - mean[v], scale[v], shift[v]);
            store_at(y + at, silu ? v_gate(z, z) : z, rest);
        }
}

SIMD_INLINE void apply(real *y, const real *x, const real *m, const real *a, const real *b,
                       size_t rows, size_t C, const bool silu)
{
    size_t c = 0;
    for (; c + 2 * SIMD_N <= C; c += 2 * SIMD_N)
        apply_block(y + c, x + c, m + c, a + c, b + c, rows, C, 2 * SIMD_N, 2, silu);
    for (; c + SIMD_N <= C; c += SIMD_N)
        apply_block(y + c, x + c, m + c, a + c, b + c, rows, C, SIMD_N, 1, silu);
    if (c < C)
        apply_block(y + c, x + c, m + c, a + c, b + c, rows, C, C - c, 1, silu);
}

void SIMD(norm_apply)(real *y, const real *x, const real *m, const real *a, const real *beta,
                      size_t rows, size_t C, bool silu)
{
    if (silu)
        apply(y, x, m, a, beta, rows, C, true);
    else
        apply(y, x, m, a, beta, rows, C, false);
}

/* ---- group norm, backward
 * ------------------------------------------------------------------------ */

SIMD_INLINE void gather_backward_block(double *sum, double *dot, real *d_z, const real *d_y,
                                       const real *x, struct norm_affine f, size_t rows, size_t C,
                                       size_t left, const size_t NV, const size_t NR,
                                       const bool silu)
{
    vr m[2], r[2], gamma[2], beta[2], total[4], product[4];
    for (size_t v = 0; v < NV; v++) {
        const size_t at = v * SIMD_N, rest = left - v * SIMD_N;
        m[v] = load_at(f.m + at, rest);
        r[v] = load_at(f.r + at, rest);
        gamma[v] = load_at(f.gamma + at, rest);
        beta[v] = load_at(f.beta + at, rest);
    }
    for (size_t i = 0; i < NV * NR; i++)
        total[i] = product[i] = (vr){0};
    for (size_t row = 0; row < rows; row += NR)
        for (size_t k = 0; k < NR && row + k < rows; k++)
            for (size_t v = 0; v < NV; v++) {
                const size_t at = (row + k) * C + v * SIMD_N, rest = left - v * SIMD_N;
                const vr xhat = (load_at(x + at, rest) - m[v]) * r[v];
                vr g = load_at(d_y + at, rest);
                if (silu) {
                    /* silu'(z) = sig (1 + z (1 - sig)) = sig + silu (1 - sig) */
                    const vr z = v_fma(xhat, gamma[v], beta[v]);
                    const vr sig = v_gate(v_set1((real)1), z);
                    g *= v_fma(z * sig, 1.0f - sig, sig);
                    store_at(d_z + at, g, rest);
                }
                total[k * NV + v] += g;
                product[k * NV + v] = v_fma(g, xhat, product[k * NV + v]);
            }
    for (size_t v = 0; v < NV; v++) {
        for (size_t k = 1; k < NR; k++) {
            total[v] += total[k * NV + v];
            product[v] += product[k * NV + v];
        }
        const size_t n = left - v * SIMD_N < SIMD_N ? left - v * SIMD_N : SIMD_N;
        add_lanes(sum + v * SIMD_N, total[v], n);
        add_lanes(dot + v * SIMD_N, product[v], n);
    }
}

SIMD_INLINE struct norm_affine affine_at(const struct norm_affine *f, size_t c)
{
    return (struct norm_affine){f->m + c, f->r + c, f->gamma + c, f->beta + c};
}

SIMD_INLINE void gather_backward(double *sum, double *dot, real *d_z, const real *d_y,
                                 const real *x, const struct norm_affine *f, size_t rows, size_t C,
                                 const bool silu)
{
    size_t c = 0;
    for (; c + 2 * SIMD_N <= C; c += 2 * SIMD_N)
        gather_backward_block(sum + c, dot + c, d_z + c, d_y + c, x + c, affine_at(f, c), rows, C,
                              2 * SIMD_N, 2, 2, silu);
    for (; c + SIMD_N <= C; c += SIMD_N)
        gather_backward_block(sum + c, dot + c, d_z + c, d_y + c, x + c, affine_at(f, c), rows, C,
                              SIMD_N, 1, 4, silu);
    if (c < C)
        gather_backward_block(sum + c, dot + c, d_z + c, d_y + c, x + c, affine_at(f, c), rows, C,
                              C - c, 1, 4, silu);
}

void SIMD(norm_gather_backward)(double *sum, double *dot, real *d_z, const real *d_y, const real *x,
                                const struct norm_affine *affine, size_t rows, size_t C, bool silu)
{
    if (silu)
        gather_backward(sum, dot, d_z, d_y, x, affine, rows, C, true);
    else
        gather_backward(sum, dot, d_z, d_y, x, affine, rows, C, false);
}

SIMD_INLINE void apply_backward(real *d_x, const real *d_z, const real *x, const real *m,
                                const real *p, const real *q, const real *t, size_t rows, size_t C,
                                const bool accumulate, const bool whole)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t c = 0; c < C; c += SIMD_N) {
            const size_t at = row * C + c, rest = whole ? SIMD_N : C - c;
            vr d = v_fma(load_at(x + at, rest) - load_at(m + c, rest), load_at(q + c, rest),
                         load_at(t + c, rest));
            d = v_fma(load_at(d_z + at, rest), load_at(p + c, rest), d);
            store_at(d_x + at, accumulate ? load_at(d_x + at, rest) + d : d, rest);
        }
}

void SIMD(norm_apply_backward)(real *d_x, const real *d_z, const real *x, const real *m,
                               const real *p, const real *q, const real *t, size_t rows, size_t C,
                               bool accumulate)
{
    const bool whole = C % SIMD_N == 0;
    if (accumulate && whole)
        apply_backward(d_x, d_z, x, m, p, q, t, rows, C, true, true);
    else if (whole)
        apply_backward(d_x, d_z, x, m, p, q, t, rows, C, false, true);
    else
        apply_backward(d_x, d_z, x, m, p, q, t, rows, C, accumulate, false);
}

/* ---- layer norm
 * ---------------------------------------------------------------------------------- */

/* Lanes past the end of a row are 0 after loading; subtracting the mean would wake them. */
SIMD_INLINE vr centred_at(const real *x, vr mean, size_t left)
{
    if (left >= SIMD_N)
        return v_load(x) - mean;
    vi lane;
    for (size_t i = 0; i < SIMD_N; i++)
        lane[i] = (simd_int)i;
    return v_select(lane < (simd_int)left, v_load_part(x, left) - mean, (vr){0});
}

/* whole: C is a multiple of SIMD_N, so that no vector need be asked whether it is the last. */
SIMD_INLINE void rows_forward(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                              const real *beta, size_t rows, size_t C, real eps, const bool whole)
{
    const real per_channel = (real)1 / (real)C;
    /* A vector's worth of rows at a time, so that one root and one division serve them all. */
    for (size_t row = 0; row < rows; row += SIMD_N) {
        const size_t run = rows - row < SIMD_N ? rows - row : SIMD_N;
        real m[SIMD_N] = {0}, r[SIMD_N] = {0};
        for (size_t i = 0; i < run; i++) {
            const real *const from = x + (row + i) * C;
            vr s = {0}, q = {0};
            for (size_t c = 0; c < C; c += SIMD_N)
                s += load_at(from + c, whole ? SIMD_N : C - c);
            m[i] = v_sum(s) * per_channel;
            for (size_t c = 0; c < C; c += SIMD_N) {
                const vr d = centred_at(from + c, v_set1(m[i]), whole ? SIMD_N : C - c);
                q = v_fma(d, d, q);
            }
            r[i] = v_sum(q);
        }
        v_store(r, (real)1 / v_sqrt(v_load(r) * per_channel + eps));
        for (size_t i = 0; i < run; i++) {
            const real *const from = x + (row + i) * C;
            real *const to = y + (row + i) * C;
            for (size_t c = 0; c < C; c += SIMD_N) {
                const size_t left = whole ? SIMD_N : C - c;
                const vr d = (load_at(from + c, left) - m[i]) * r[i];
                store_at(to + c, v_fma(d, load_at(gamma + c, left), load_at(beta + c, left)), left);
            }
        }
        if (mean != NULL)
            memcpy(mean + row, m, run * sizeof *m);
        if (rstd != NULL)
            memcpy(rstd + row, r, run * sizeof *r);
    }
}

void SIMD(norm_rows)(real *y, real *mean, real *rstd, const real *x, const real *gamma,
                     const real *beta, size_t rows, size_t C, real eps)
{
    if (C % SIMD_N == 0)
        rows_forward(y, mean, rstd, x, gamma, beta, rows, C, eps, true);
    else
        rows_forward(y, mean, rstd, x, gamma, beta, rows, C, eps, false);
}

SIMD_INLINE void rows_backward(real *d_x, real *part_gamma, real *part_beta, const real *d_y,
                               const real *x, const real *gamma, const real *mean, const real *rstd,
                               size_t rows, size_t C, const bool accumulate, const bool whole)
{
    const real per_channel = (real)1 / (real)C;
    for (size_t row = 0; row < rows; row++, x += C, d_y += C, d_x += C) {
        const vr m = v_set1(mean[row]), r = v_set1(rstd[row]);
        vr sum = {0}, dot = {0};
        for (size_t c = 0; c < C; c += SIMD_N) {
            const size_t left = whole ? SIMD_N : C - c;
            const vr dy = load_at(d_y + c, left), xhat = (load_at(x + c, left) - m) * r;
            const vr g = dy * load_at(gamma + c, left);
            sum += g;
            dot = v_fma(g, xhat, dot); /* past the end g is 0 */
            store_at(part_gamma + c, v_fma(dy, xhat, load_at(part_gamma + c, left)), left);
            store_at(part_beta + c, load_at(part_beta + c, left) + dy, left);
        }
        const vr s = v_set1(v_sum(sum) * per_channel), d = v_set1(v_sum(dot) * per_channel);
        for (size_t c = 0; c < C; c += SIMD_N) {
            const size_t left = whole ? SIMD_N : C - c;
            const vr xhat = (load_at(x + c, left) - m) * r;
            const vr g = load_at(d_y + c, left) * load_at(gamma + c, left);
            vr dx = (g - v_fma(xhat, d, s)) * r;
            if (accumulate)
                dx += load_at(d_x + c, left);
            store_at(d_x + c, dx, left);
        }
    }
}

void SIMD(norm_rows_backward)(real *d_x, real *part_gamma, real *part_beta, const real *d_y,
                              const real *x, const real *gamma, const real *mean, const real *rstd,
                              size_t rows, size_t C, bool accumulate)
{
    if (C % SIMD_N == 0)
        rows_backward(d_x, part_gamma, part_beta, d_y, x, gamma, mean, rstd, rows, C, accumulate,
                      true);
    else
        rows_backward(d_x, part_gamma, part_beta, d_y, x, gamma, mean, rstd, rows, C, accumulate,
                      false);
}
