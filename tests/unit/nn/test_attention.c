#include "nn/attention.h"

#include "nn/simd.h"
#include "support/gradcheck.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>

struct arrays {
    real *q, *k, *v, *y, *lse, *d_y, *d_q, *d_k, *d_v, *work;
};

/* heads, Lq, Lk, d, causal; strides are those of a fused [rows,3 heads d] buffer where fused is
 * set. */
struct layout {
    size_t B, heads, Lq, Lk, d;
    bool causal, fused;
};

static const struct layout layouts[] = {
    {2, 4, 64, 64, 16, false, true}, {2, 4, 64, 32, 16, false, false},
    {2, 4, 16, 16, 24, false, true}, {1, 3, 7, 5, 3, false, false},
    {1, 2, 77, 77, 9, true, true},   {1, 1, 37, 300, 40, false, false},
    {1, 2, 530, 530, 8, true, true}, {1, 1, 9, 257, 70, false, false},
    {1, 1, 1, 1, 1, true, false},
};
#define LAYOUTS (sizeof layouts / sizeof *layouts)

static struct attention_shape shape_of(const struct layout *l)
{
    const size_t width = l->heads * l->d;
    const size_t stride = l->fused ? 3 * width : width;
    return (struct attention_shape){.B = l->B,
                                    .heads = l->heads,
                                    .Lq = l->Lq,
                                    .Lk = l->Lk,
                                    .d = l->d,
                                    .q_stride = stride,
                                    .k_stride = stride,
                                    .v_stride = stride,
                                    .y_stride = width,
                                    .scale = 1.7 / sqrt((double)l->d),
                                    .causal = l->causal};
}

/* In double: y, and with d_y the three gradients (rows dense, [L,heads*d]). */
struct truth {
    double *y, *lse, *d_q, *d_k, *d_v;
};

static double *zeros(size_t n)
{
    double *p = calloc(n, sizeof *p);
    ck_assert_ptr_nonnull(p);
    return p;
}

static void reference_head(struct truth t, const struct arrays *a, struct attention_shape s,
                           size_t b, size_t head)
{
    const size_t width = s.heads * s.d;
    double *const p = zeros(s.Lk), *const d_p = zeros(s.Lk);
    for (size_t i = 0; i < s.Lq; i++) {
        const real *const q = a->q + (b * s.Lq + i) * s.q_stride + head * s.d;
        const real *const d_y = a->d_y + (b * s.Lq + i) * s.y_stride + head * s.d;
        const size_t row = (b * s.Lq + i) * width + head * s.d;
        const size_t n = s.causal ? i + 1 : s.Lk;
        double top = (double)-INFINITY, sum = 0.0, dot = 0.0;
        for (size_t j = 0; j < n; j++) {
            const real *const k = a->k + (b * s.Lk + j) * s.k_stride + head * s.d;
            p[j] = 0.0;
            for (size_t c = 0; c < s.d; c++)
                p[j] += s.scale * (double)q[c] * (double)k[c];
            top = fmax(top, p[j]);
        }
        for (size_t j = 0; j < n; j++)
            sum += exp(p[j] - top);
        t.lse[(b * s.heads + head) * s.Lq + i] = top + log(sum);
        for (size_t j = 0; j < n; j++) {
            const real *const v = a->v + (b * s.Lk + j) * s.v_stride + head * s.d;
            p[j] = exp(p[j] - top) / sum;
            d_p[j] = 0.0;
            for (size_t c = 0; c < s.d; c++) {
                t.y[row + c] += p[j] * (double)v[c];
                d_p[j] += (double)d_y[c] * (double)v[c];
                t.d_v[(b * s.Lk + j) * width + head * s.d + c] += p[j] * (double)d_y[c];
            }
            dot += p[j] * d_p[j];
        }
        for (size_t j = 0; j < n; j++) {
            const real *const k = a->k + (b * s.Lk + j) * s.k_stride + head * s.d;
            const double d_s = s.scale * p[j] * (d_p[j] - dot);
            for (size_t c = 0; c < s.d; c++) {
                t.d_q[row + c] += d_s * (double)k[c];
                t.d_k[(b * s.Lk + j) * width + head * s.d + c] += d_s * (double)q[c];
            }
        }
    }
    free(p);
    free(d_p);
}

static struct arrays make(struct attention_shape s)
{
    const size_t q = s.B * s.Lq * s.q_stride, k = s.B * s.Lk * s.k_stride;
    const size_t v = s.B * s.Lk * s.v_stride, y = s.B * s.Lq * s.y_stride;
    const size_t forward = attention_forward_work_bytes(s),
                 backward = attention_backward_work_bytes(s);
    struct arrays a = {gradcheck_new(q),
                       gradcheck_new(k),
                       gradcheck_new(v),
                       gradcheck_new(y),
                       gradcheck_new(s.B * s.heads * s.Lq),
                       gradcheck_new(y),
                       gradcheck_new(q),
                       gradcheck_new(k),
                       gradcheck_new(v),
                       gradcheck_new((forward > backward ? forward : backward) / sizeof(real))};
    gradcheck_fill(a.q, q, 1, 2.0);
    gradcheck_fill(a.k, k, 2, 2.0);
    gradcheck_fill(a.v, v, 3, 1.0);
    gradcheck_fill(a.d_y, y, 4, 1.0);
    return a;
}

static void check(const char *what, const real *got, const double *want, size_t rows, size_t width,
                  size_t stride, const struct layout *l)
{
    double worst = 0.0, scale = 0.0;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < width; c++) {
            const double error = fabs((double)got[r * stride + c] - want[r * width + c]);
            worst = error <= worst ? worst : (isfinite(error) ? error : (double)INFINITY);
            scale = fmax(scale, fabs(want[r * width + c]));
        }
    ck_assert_msg(worst <= 4e-6 * scale, "%s of %zux%zux%zux%zux%zu level %d: off by %g of %g",
                  what, l->B, l->heads, l->Lq, l->Lk, l->d, (int)simd_level(), worst, scale);
}

static void check_layout(const struct layout *l)
{
    const struct attention_shape s = shape_of(l);
    const struct arrays a = make(s);
    const size_t width = s.heads * s.d, rows_q = s.B * s.Lq, rows_k = s.B * s.Lk;
    const struct truth t = {zeros(rows_q * width), zeros(rows_q * s.heads), zeros(rows_q * width),
                            zeros(rows_k * width), zeros(rows_k * width)};
    for (size_t b = 0; b < s.B; b++)
        for (size_t head = 0; head < s.heads; head++)
            reference_head(t, &a, s, b, head);
    attention_forward(a.y, a.lse, a.q, a.k, a.v, s, a.work);
    attention_backward(a.d_q, a.d_k, a.d_v, a.d_y, a.q, a.k, a.v, a.y, a.lse, s, a.work);
    check("y", a.y, t.y, rows_q, width, s.y_stride, l);
    check("lse", a.lse, t.lse, 1, rows_q * s.heads, 0, l);
    check("d_q", a.d_q, t.d_q, rows_q, width, s.q_stride, l);
    if (s.Lk > 1) {
        check("d_k", a.d_k, t.d_k, rows_k, width, s.k_stride, l);
        check("d_v", a.d_v, t.d_v, rows_k, width, s.v_stride, l);
    }
    free(t.y);
    free(t.lse);
    free(t.d_q);
    free(t.d_k);
    free(t.d_v);
}

static void check_level(enum simd_level level)
{
    simd_limit(level);
    for (size_t i = 0; i < LAYOUTS; i++)
        check_layout(&layouts[i]);
}

START_TEST(avx512_agrees_with_the_definition)
{
    check_level(SIMD_AVX512);
}
END_TEST

START_TEST(avx2_agrees_with_the_definition)
{
    check_level(SIMD_AVX2);
}
END_TEST

START_TEST(base_agrees_with_the_definition)
{
    check_level(SIMD_BASE);
}
END_TEST

START_TEST(scores_beyond_the_range_of_exp_are_no_trouble)
{
    const struct layout l = {1, 1, 64, 300, 16, false, false};
    struct attention_shape s = shape_of(&l);
    s.scale = 400.0;
    const struct arrays a = make(s);
    attention_forward(a.y, a.lse, a.q, a.k, a.v, s, a.work);
    attention_backward(a.d_q, a.d_k, a.d_v, a.d_y, a.q, a.k, a.v, a.y, a.lse, s, a.work);
    for (size_t i = 0; i < 64 * 16; i++)
        ck_assert_msg(isfinite(a.y[i]) && isfinite(a.d_q[i]), "row %zu", i / 16);
}
END_TEST

START_TEST(a_fused_buffer_keeps_what_lies_between_the_heads)
{
    const struct layout l = {1, 2, 20, 20, 6, false, true};
    const struct attention_shape s = shape_of(&l);
    const struct arrays a = make(s);
    gradcheck_fill(a.d_q, 20 * s.q_stride, 9, 1.0);
    real *const before = gradcheck_new(20 * s.q_stride);
    gradcheck_fill(before, 20 * s.q_stride, 9, 1.0);
    attention_forward(a.y, a.lse, a.q, a.k, a.v, s, a.work);
    attention_backward(a.d_q, NULL, NULL, a.d_y, a.q, a.k, a.v, a.y, a.lse, s, a.work);
    for (size_t r = 0; r < 20; r++)
        for (size_t c = 12; c < s.q_stride; c++)
            ck_assert(a.d_q[r * s.q_stride + c] == before[r * s.q_stride + c]);
}
END_TEST

SUITE("nn/attention", 60, avx512_agrees_with_the_definition, avx2_agrees_with_the_definition,
      base_agrees_with_the_definition, scores_beyond_the_range_of_exp_are_no_trouble,
      a_fused_buffer_keeps_what_lies_between_the_heads)
