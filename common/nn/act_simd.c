#include "nn/act_simd.h"

#include "nn/simd_vec.h"

#define SQRT_HALF_LOG2_E ((real)0.84932180028801904272) /* sqrt(log2(e) / 2) */
#define INVERSE_SQRT_2PI ((real)0.39894228040143267794)
#define QUICK ((real)1.702)

/* gelu(x) = x Phi(x) = max(x, 0) - |x| Phi(-|x|): one tail serves both signs. */
SIMD_INLINE vr gelu(vr x, vr tail)
{
    return v_fma(-v_abs(x), tail, v_max(v_set1(0), x));
}

/* Phi(x) + x phi(x), phi the normal density exp(-x^2 / 2) / sqrt(2 pi). */
SIMD_INLINE vr gelu_slope(vr x, vr tail)
{
    const vr t = x * SQRT_HALF_LOG2_E;
    const vr density = v_exp2(-(t * t)) * INVERSE_SQRT_2PI;
    return v_fma(x, density, v_select(x < (real)0, tail, (real)1 - tail));
}

SIMD_INLINE vr value_of(vr x, const enum act kind)
{
    switch (kind) {
    case ACT_NONE:
        return x;
    case ACT_SILU:
        return v_gate(x, x);
    case ACT_GELU:
        return gelu(x, v_normal_tail(v_abs(x)));
    case ACT_QUICK_GELU:
        return v_gate(x, x * QUICK);
    case ACT_LEAKY:
        return v_select(x > (real)0, x, x * (real)ACT_LEAKY_SLOPE);
    }
    return x;
}

/* f'(x); for x sigmoid(k x) it is s + k x s (1 - s). */
SIMD_INLINE vr slope_of(vr x, const enum act kind)
{
    const vr one = v_set1((real)1);
    vr s;
    switch (kind) {
    case ACT_NONE:
        return one;
    case ACT_SILU:
        s = v_gate(one, x);
        return v_fma(x * s, one - s, s);
    case ACT_GELU:
        return gelu_slope(x, v_normal_tail(v_abs(x)));
    case ACT_QUICK_GELU:
        s = v_gate(one, x * QUICK);
        return v_fma(x * s * QUICK, one - s, s);
    case ACT_LEAKY:
        return v_select(x > (real)0, one, v_set1((real)ACT_LEAKY_SLOPE));
    }
    return one;
}

/* `kind` is a constant in each caller, so that the switch is gone from the loops. */
SIMD_INLINE void fill(real *y, const real *x, size_t n, const enum act kind)
{
    size_t i = 0;
    for (; i + SIMD_N <= n; i += SIMD_N)
        v_store(y + i, value_of(v_load(x + i), kind));
    if (i < n)
        v_store_part(y + i, value_of(v_load_part(x + i, n - i), kind), n - i);
}

SIMD_INLINE void fill_backward(real *d_x, const real *d_y, const real *x, size_t n,
                               const enum act kind, bool accumulate)
{
    size_t i = 0;
    for (; i + SIMD_N <= n; i += SIMD_N) {
        const vr d = v_load(d_y + i) * slope_of(v_load(x + i), kind);
        v_store(d_x + i, accumulate ? v_load(d_x + i) + d : d);
    }
    if (i < n) {
        const vr d = v_load_part(d_y + i, n - i) * slope_of(v_load_part(x + i, n - i), kind);
        v_store_part(d_x + i, accumulate ? v_load_part(d_x + i, n - i) + d : d, n - i);
    }
}

#define FOR_EACH_KIND(P) P(ACT_NONE) P(ACT_SILU) P(ACT_GELU) P(ACT_QUICK_GELU) P(ACT_LEAKY)

void SIMD(act_fill)(real *y, const real *x, size_t n, enum act kind)
{
    switch (kind) {
#define P(k)                                                                                       \
    case k:                                                                                        \
        fill(y, x, n, k);                                                                          \
        break;
        FOR_EACH_KIND(P)
#undef P
    }
}

void SIMD(act_fill_backward)(real *d_x, const real *d_y, const real *x, size_t n, enum act kind,
                             bool accumulate)
{
    switch (kind) {
#define P(k)                                                                                       \
    case k:                                                                                        \
        fill_backward(d_x, d_y, x, n, k, accumulate);                                              \
        break;
        FOR_EACH_KIND(P)
#undef P
    }
}

void SIMD(act_geglu)(real *y, const real *x, size_t rows, size_t F)
{
    for (size_t row = 0; row < rows; row++, x += 2 * F, y += F) {
        size_t f = 0;
        for (; f + SIMD_N <= F; f += SIMD_N)
            v_store(y + f, v_load(x + f) * value_of(v_load(x + F + f), ACT_GELU));
        if (f < F)
            v_store_part(y + f,
                         v_load_part(x + f, F - f) *
                             value_of(v_load_part(x + F + f, F - f), ACT_GELU),
                         F - f);
    }
}

void SIMD(act_geglu_backward)(real *d_x, const real *d_y, const real *x, size_t rows, size_t F,
                              bool accumulate)
{
    for (size_t row = 0; row < rows; row++, x += 2 * F, d_x += 2 * F, d_y += F) {
        for (size_t f = 0; f < F; f += SIMD_N) {
            const size_t left = F - f < SIMD_N ? F - f : SIMD_N;
            const bool whole = left == SIMD_N;
            const vr value = whole ? v_load(x + f) : v_load_part(x + f, left);
            const vr gate = whole ? v_load(x + F + f) : v_load_part(x + F + f, left);
            const vr dy = whole ? v_load(d_y + f) : v_load_part(d_y + f, left);
            const vr tail = v_normal_tail(v_abs(gate));
            vr d_value = dy * gelu(gate, tail);
            vr d_gate = dy * value * gelu_slope(gate, tail);
            if (accumulate) {
                d_value += whole ? v_load(d_x + f) : v_load_part(d_x + f, left);
                d_gate += whole ? v_load(d_x + F + f) : v_load_part(d_x + F + f, left);
            }
            if (whole) {
                v_store(d_x + f, d_value);
                v_store(d_x + F + f, d_gate);
            } else {
                v_store_part(d_x + f, d_value, left);
                v_store_part(d_x + F + f, d_gate, left);
            }
        }
    }
}
