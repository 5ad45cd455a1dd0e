/* The vectors themselves, for X_simd.c files alone: loads, stores, fused multiply-add, selection,
 * reduction, and exp, sigmoid, tanh, erf, log on them.  One body serves SSE2, AVX2 and AVX-512,
 * float and double. In double (MODE=grad) the transcendental functions are libm's, lane by lane:
 * there accuracy is the point. */
#ifndef DAGLINE_NN_SIMD_VEC_H
#define DAGLINE_NN_SIMD_VEC_H

#include "nn/simd.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined __AVX512F__
#define SIMD_BYTES 64
#elif defined __AVX2__
#define SIMD_BYTES 32
#else
#define SIMD_BYTES 16
#endif

/* The functions must vanish into their loops: a vector passed through memory costs more than it
 * saves. */
#define SIMD_INLINE static inline __attribute__((always_inline, unused))
#define SIMD_N (SIMD_BYTES / sizeof(real))

typedef real vr __attribute__((vector_size(SIMD_BYTES)));
typedef real vr_unaligned
    __attribute__((vector_size(SIMD_BYTES), aligned(sizeof(real)), may_alias));
#ifdef DAGLINE_REAL_DOUBLE
typedef int64_t simd_int;
#else
typedef int32_t simd_int;
#endif
typedef simd_int vi __attribute__((vector_size(SIMD_BYTES)));
#ifndef DAGLINE_REAL_DOUBLE
typedef uint32_t vu __attribute__((vector_size(SIMD_BYTES)));
#endif

/* ---- moving data
 * --------------------------------------------------------------------------------- */

SIMD_INLINE vr v_load(const real *p)
{
    return *(const vr_unaligned *)p;
}

SIMD_INLINE void v_store(real *p, vr x)
{
    *(vr_unaligned *)p = x;
}

SIMD_INLINE vr v_set1(real x)
{
    return x - (vr){0};
}

/* The first n < SIMD_N lanes; the others are 0 and not read. */
SIMD_INLINE vr v_load_part(const real *p, size_t n)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return (vr)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#else
    vr x = {0};
    memcpy(&x, p, n * sizeof *p);
    return x;
#endif
}

SIMD_INLINE void v_store_part(real *p, vr x, size_t n)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)x);
#else
    memcpy(p, &x, n * sizeof *p);
#endif
}

/* ---- arithmetic
 * ---------------------------------------------------------------------------------- */

/* a b + c, rounded once where the instruction set can. */
SIMD_INLINE vr v_fma(vr a, vr b, vr c)
{
#if defined __AVX512F__ && defined DAGLINE_REAL_DOUBLE
    return (vr)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined __AVX512F__
    return (vr)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined __AVX2__ && defined DAGLINE_REAL_DOUBLE
    return (vr)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined __AVX2__
    return (vr)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* Where mask is all ones, a; where it is zero, b. */
SIMD_INLINE vr v_select(vi mask, vr a, vr b)
{
    return (vr)((mask & (vi)a) | (~mask & (vi)b));
}

SIMD_INLINE vr v_abs(vr x)
{
    return (vr)((vi)x & ~(vi)v_set1((real)-0.0));
}

/* x > bound ? x : bound; a NaN in x stays.  (The x86 instruction returns its second operand on
 * NaN.) */
SIMD_INLINE vr v_max(vr bound, vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return (vr)_mm512_max_ps((__m512)bound, (__m512)x);
#else
    return v_select(bound > x, bound, x);
#endif
}

SIMD_INLINE vr v_min(vr bound, vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return (vr)_mm512_min_ps((__m512)bound, (__m512)x);
#else
    return v_select(bound < x, bound, x);
#endif
}

/* a / x to within an ulp, for normal x whose inverse is normal. */
SIMD_INLINE vr v_divide(vr a, vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    /* 14 bits from the table, the rest from one Newton step on the quotient with an exact residual.
     */
    const vr inverse = (vr)_mm512_rcp14_ps((__m512)x), q = a * inverse;
    return v_fma((vr)_mm512_fnmadd_ps((__m512)q, (__m512)x, (__m512)a), inverse, q);
#else
    return a / x;
#endif
}

SIMD_INLINE vr v_sqrt(vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return (vr)_mm512_sqrt_ps((__m512)x);
#elif defined __AVX2__ && !defined DAGLINE_REAL_DOUBLE
    return (vr)_mm256_sqrt_ps((__m256)x);
#else
    for (size_t i = 0; i < SIMD_N; i++)
        x[i] = (real)sqrt((double)x[i]);
    return x;
#endif
}

SIMD_INLINE real v_sum(vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return _mm512_reduce_add_ps((__m512)x);
#else
    real lane[SIMD_N];
    memcpy(lane, &x, sizeof lane);
    for (size_t width = SIMD_N / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
#endif
}

SIMD_INLINE real v_greatest(vr x)
{
#if defined __AVX512F__ && !defined DAGLINE_REAL_DOUBLE
    return _mm512_reduce_max_ps((__m512)x);
#else
    real lane[SIMD_N];
    memcpy(lane, &x, sizeof lane);
    for (size_t width = SIMD_N / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
    return lane[0];
#endif
}

/* ---- transcendental functions
 * -------------------------------------------------------------------- */

#ifdef DAGLINE_REAL_DOUBLE

#define SIMD_LANES_OF(name, expression)                                                            \
    SIMD_INLINE vr name(vr v)                                                                      \
    {                                                                                              \
        for (size_t i = 0; i < SIMD_N; i++) {                                                      \
            const double x = v[i];                                                                 \
            v[i] = expression;                                                                     \
        }                                                                                          \
        return v;                                                                                  \
    }
SIMD_LANES_OF(v_exp, exp(x))
SIMD_LANES_OF(v_exp2, exp2(x))
SIMD_LANES_OF(v_log, log(x))
SIMD_LANES_OF(v_sigmoid, 1.0 / (1.0 + exp(-x)))
SIMD_LANES_OF(v_tanh, tanh(x))
SIMD_LANES_OF(v_erf, erf(x))
SIMD_LANES_OF(v_normal_tail, 0.5 * erfc(x * 0.70710678118654752440))
#undef SIMD_LANES_OF

SIMD_INLINE vr v_gate(vr a, vr x)
{
    return a * v_sigmoid(x);
}

#else

/* The polynomials below are Chebyshev fits on the stated intervals, made with mpmath's chebyfit. */

/* p 2^n for integral n in [-252, 254]. */
SIMD_INLINE vr v_scale2(vr p, vr n)
{
#if defined __AVX512F__
    return (vr)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    /* In two steps, since 2^n itself may be out of range where p 2^n is not. */
    const vi whole = __builtin_convertvector(n, vi), half = whole >> 1;
    const vr a = (vr)((half + 127) << 23), b = (vr)((whole - half + 127) << 23);
    return p * a * b;
#endif
}

/* The integer nearest to x, |x| < 2^22. */
SIMD_INLINE vr v_nearest(vr x)
{
#if defined __AVX512F__
    return (vr)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const vr magic = v_set1(0x1.8p23f);
    return (x + magic) - magic;
#endif
}

/* exp(x) = 2^n exp(r), r = x - n ln 2 in two pieces (Cody and Waite), exp(r) = 1 + r + r^2 P(r).
 * -104 <= x <= 89. */
SIMD_INLINE vr v_exp_within(vr x)
{
    const vr n = v_nearest(x * 0x1.715476p+0f);
    const vr r = v_fma(n, v_set1(0x1.bd0106p-13f), v_fma(n, v_set1(-0x1.63p-1f), x));
    vr p = v_set1(1.989108046e-04f);
    p = v_fma(p, r, v_set1(1.393373072e-03f));
    p = v_fma(p, r, v_set1(8.333310845e-03f));
    p = v_fma(p, r, v_set1(4.166646420e-02f));
    p = v_fma(p, r, v_set1(1.666666668e-01f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r * r, r);
    return v_scale2(p + 1.0f, n);
}

SIMD_INLINE vr v_exp(vr x)
{
    return v_exp_within(v_max(v_set1(-104.0f), v_min(v_set1(89.0f), x)));
}

/* 1 / (1 + exp(-x)).  Below -87.3365 it stays at the smallest normal number, so that its inverse is
 * normal. */
SIMD_INLINE vr v_sigmoid(vr x)
{
    const vr e = v_exp_within(v_max(v_set1(-104.0f), v_min(v_set1(87.3365f), -x)));
    return v_divide(v_set1(1.0f), e + 1.0f);
}

/* 2^x = 2^n 2^r, n = floor(x): exact reduction, so that it costs less than exp.  Softmax and the
 * kernels use it. */
SIMD_INLINE vr v_exp2(vr x)
{
#if defined __AVX512DQ__
    /* The scaling takes the floor itself, and both instructions know the infinities. */
    const vr n = x, r = (vr)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
    x = v_max(v_set1(-151.0f), v_min(v_set1(129.0f), x));
    const vr n = v_nearest(x - 0.5f), r = x - n; /* in [0, 1]: either end will do */
#endif
    vr p = v_set1(2.081791504e-04f);
    p = v_fma(p, r, v_set1(1.269216607e-03f));
    p = v_fma(p, r, v_set1(9.652195056e-03f));
    p = v_fma(p, r, v_set1(5.549602356e-02f));
    p = v_fma(p, r, v_set1(2.402272042e-01f));
    p = v_fma(p, r, v_set1(6.931471709e-01f));
    return v_scale2(v_fma(p, r, v_set1(1.0f)), n);
}

/* a sigmoid(x) for the activations: exp(-x) as a power of 2, whose relative error grows as |x|
 * 2^-24, which is what x's own rounding does to it. */
SIMD_INLINE vr v_gate(vr a, vr x)
{
    const vr e = v_exp2(v_min(v_set1(126.0f), x * -0x1.715476p+0f));
    return v_divide(a, e + 1.0f);
}

/* Phi(-t), the upper tail of the normal distribution, t >= 0, as 2^-(1 + t Q(t)): within 6e-8, and
 * falling to 0. */
SIMD_INLINE vr v_normal_tail(vr t)
{
    vr q = v_set1(7.027162649e-07f);
    q = v_fma(q, t, v_set1(-1.261671850e-05f));
    q = v_fma(q, t, v_set1(5.449877694e-05f));
    q = v_fma(q, t, v_set1(4.619047846e-04f));
    q = v_fma(q, t, v_set1(-7.489518989e-03f));
    q = v_fma(q, t, v_set1(5.278439762e-02f));
    q = v_fma(q, t, v_set1(4.591195225e-01f));
    q = v_fma(q, t, v_set1(1.151113950e+00f));
    return v_exp2(v_fma(-q, t, v_set1(-1.0f)));
}

SIMD_INLINE vr v_with_sign_of(vr magnitude, vr sign)
{
    const vi bit = (vi)v_set1(-0.0f);
    return (vr)(((vi)magnitude & ~bit) | ((vi)sign & bit));
}

/* Near 0 an odd polynomial; beyond, 1 - 2 / (exp(2|x|) + 1). */
SIMD_INLINE vr v_tanh(vr x)
{
    const vr t = v_min(v_set1(10.0f), v_abs(x)), s = x * x;
    vr p = v_set1(-6.045165097e-03f);
    p = v_fma(p, s, v_set1(2.096132911e-02f));
    p = v_fma(p, s, v_set1(-5.384326318e-02f));
    p = v_fma(p, s, v_set1(1.333271885e-01f));
    p = v_fma(p, s, v_set1(-3.333332843e-01f));
    const vr near = v_fma(p * s, x, x);
    const vr far = 1.0f - v_divide(v_set1(2.0f), v_exp(t + t) + 1.0f);
    return v_select(t < 0.625f, near, v_with_sign_of(far, x));
}

/* Near 0 an odd polynomial; beyond, 1 - exp(-t (1 + Q(t))), which is what erfc looks like up to 4,
 * where erf is 1. */
SIMD_INLINE vr v_erf(vr x)
{
    const vr t = v_min(v_set1(4.0f), v_abs(x)), s = x * x;
    vr p = v_set1(8.316879718e-05f);
    p = v_fma(p, s, v_set1(-8.130444670e-04f));
    p = v_fma(p, s, v_set1(5.199989255e-03f));
    p = v_fma(p, s, v_set1(-2.685899742e-02f));
    p = v_fma(p, s, v_set1(1.128368872e-01f));
    p = v_fma(p, s, v_set1(-3.761263333e-01f));
    p = v_fma(p, s, v_set1(1.283791666e-01f));
    const vr near = v_fma(p, x, x);
    vr q = v_set1(-1.046065682e-06f);
    q = v_fma(q, t, v_set1(3.438850877e-05f));
    q = v_fma(q, t, v_set1(-4.988250082e-04f));
    q = v_fma(q, t, v_set1(4.303789308e-03f));
    q = v_fma(q, t, v_set1(-2.513955031e-02f));
    q = v_fma(q, t, v_set1(1.078556529e-01f));
    q = v_fma(q, t, v_set1(6.341481838e-01f));
    q = v_fma(q, t, v_set1(1.289027981e-01f));
    const vr far = 1.0f - v_exp(-v_fma(q, t, t));
    return v_select(t < 0.9296875f, near, v_with_sign_of(far, x));
}

/* log(x) = e ln 2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)), log(1 + f) = f - f^2/2 + f^3 P(f).
 */
SIMD_INLINE vr v_log(vr x)
{
    const vi tiny = x < 0x1p-126f;
    const vr y = v_select(tiny, x * 0x1p24f, x);
    /* unsigned, since the bits of a NaN overflow */
    const vi bits = (vi)((vu)y + (0x3f800000u - 0x3f3504f3u));
    const vr e = __builtin_convertvector((bits >> 23) - 127, vr) - (vr)(tiny & (vi)v_set1(24.0f));
    const vr f = (vr)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f, s = f * f;
    vr p = v_set1(6.972518634e-02f);
    p = v_fma(p, f, v_set1(-1.148121206e-01f));
    p = v_fma(p, f, v_set1(1.168578472e-01f));
    p = v_fma(p, f, v_set1(-1.242552336e-01f));
    p = v_fma(p, f, v_set1(1.424900724e-01f));
    p = v_fma(p, f, v_set1(-1.666780713e-01f));
    p = v_fma(p, f, v_set1(2.000071721e-01f));
    p = v_fma(p, f, v_set1(-2.499999693e-01f));
    p = v_fma(p, f, v_set1(3.333333117e-01f));
    vr r = v_fma(p, s * f, e * -2.12194440e-4f);
    r = v_fma(s, v_set1(-0.5f), r) + f;
    r = v_fma(e, v_set1(0.693359375f), r);
    r = v_select(x == INFINITY, x, r);
    r = v_select(x == 0.0f, v_set1(-INFINITY), r);
    return v_select((x < 0.0f) | (x != x), v_set1(NAN), r);
}

#endif

#endif
