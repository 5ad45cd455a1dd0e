#include "base/mem.h"
#include "nn/gemm.h"
#include "nn/gemm_kernel.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct gemm_case {
    size_t M, N, K, pad; /* pad: extra reals in every row as stored */
    bool trans_a, trans_b;
    float alpha, beta;
};

static const struct gemm_case cases[] = {
    {1, 1, 1, 0, false, false, 1.0f, 0.0f},      {14, 32, 16, 0, false, false, 1.0f, 0.0f},
    {15, 33, 7, 3, false, false, 0.5f, 1.0f},    {128, 64, 64, 0, false, true, 1.0f, 0.0f},
    {37, 50, 401, 1, false, true, -2.0f, 0.25f}, {96, 96, 130, 0, true, false, 1.0f, 1.0f},
    {61, 17, 45, 5, true, true, 1.5f, -1.0f},    {8, 96, 96, 0, false, false, 1.0f, 0.0f},
    {500, 16, 800, 0, false, false, 1.0f, 1.0f}, {70, 3, 27, 0, false, true, 1.0f, 0.0f},
    {3, 31, 5, 0, false, false, 1.0f, 0.0f},     {29, 48, 1, 0, true, false, 1.0f, 0.0f},
    {2, 9, 770, 2, false, true, 1.0f, 3.0f},     {1200, 40, 300, 0, true, false, 1.0f, 0.0f},
    {13, 16, 12, 0, false, false, 0.125f, 0.0f}, {6, 8, 9, 1, true, true, 1.0f, 1.0f},
    {65, 65, 65, 0, false, false, 1.0f, 0.0f},   {20, 20, 0, 0, false, false, 1.0f, 0.5f},
};

static const char *const kernels[] = {"blas", "avx2", "avx512"};

/* Values in [-1, 1) from a counter. */
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

static void naive(const struct gemm_case *c, const float *A, size_t lda, const float *B, size_t ldb,
                  float *C, size_t ldc)
{
    for (size_t i = 0; i < c->M; i++) {
        for (size_t j = 0; j < c->N; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < c->K; k++)
                sum += (double)(c->trans_a ? A[k * lda + i] : A[i * lda + k]) *
                       (double)(c->trans_b ? B[j * ldb + k] : B[k * ldb + j]);
            const double old = c->beta == 0.0f ? 0.0 : (double)c->beta * (double)C[i * ldc + j];
            C[i * ldc + j] = (float)((double)c->alpha * sum + old);
        }
    }
}

static void run(const char *kernel, const struct gemm_case *c, const float *A, size_t lda,
                const float *B, size_t ldb, float *C, size_t ldc)
{
    if (strcmp(kernel, "blas") == 0)
        gemm_blas(c->trans_a, c->trans_b, c->M, c->N, c->K, c->alpha, A, lda, B, ldb, c->beta, C,
                  ldc);
    else
        gemm_kernel_run(gemm_kernel_named(kernel), c->trans_a, c->trans_b, c->M, c->N, c->K,
                        c->alpha, A, lda, B, ldb, c->beta, C, ldc);
}

START_TEST(every_kernel_agrees_with_the_plain_sum)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct gemm_case *const c = &cases[i];
        const size_t lda = (c->trans_a ? c->M : c->K) + c->pad;
        const size_t ldb = (c->trans_b ? c->K : c->N) + c->pad, ldc = c->N + c->pad;
        const size_t na = (c->trans_a ? c->K : c->M) * lda, nb = (c->trans_b ? c->N : c->K) * ldb;
        float *const A = mem_new(na, sizeof *A), *const B = mem_new(nb, sizeof *B);
        float *const want = mem_new(c->M * ldc, sizeof *want);
        float *const got = mem_new(c->M * ldc, sizeof *got);
        fill(A, na, 1);
        fill(B, nb, 2);
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
            if (k > 0 && gemm_kernel_named(kernels[k]) == NULL) {
                test_skip("this processor has not the instructions");
                continue;
            }
            fill(want, c->M * ldc, 3);
            fill(got, c->M * ldc, 3);
            if (c->beta == 0.0f) /* not even a NaN may be read */
                for (size_t r = 0; r < c->M; r++)
                    for (size_t j = 0; j < c->N; j++)
                        got[r * ldc + j] = NAN;
            naive(c, A, lda, B, ldb, want, ldc);
            run(kernels[k], c, A, lda, B, ldb, got, ldc);
            size_t at = 0;
            const double worst = near_worst_float(got, want, c->M * ldc, &at);
            ck_assert_msg(worst < 2e-6, "%s case %zu [%zu,%zu]: got %.9g want %.9g (%.3g)",
                          kernels[k], i, at / ldc, at % ldc, (double)got[at], (double)want[at],
                          worst);
        }
        mem_free(A);
        mem_free(B);
        mem_free(want);
        mem_free(got);
    }
}
END_TEST

START_TEST(a_row_does_not_depend_on_the_rows_beside_it)
{
    enum { M = 61, N = 45, K = 500 };
    if (gemm_kernel_best() == NULL) {
        test_skip("no kernel of our own on this processor");
        return;
    }
    float *const A = mem_new(M * K, sizeof *A), *const B = mem_new(N * K, sizeof *B);
    float *const all = mem_new(M * N, sizeof *all), *const one = mem_new(M * N, sizeof *one);
    fill(A, M * K, 4);
    fill(B, N * K, 5);
    for (int trans_b = 0; trans_b < 2; trans_b++) {
        const size_t ldb = trans_b ? K : N;
        gemm(false, trans_b, M, N, K, 1.0f, A, K, B, ldb, 0.0f, all, N);
        for (size_t r = 0; r < M; r++)
            gemm(false, trans_b, 1, N, K, 1.0f, A + r * K, K, B, ldb, 0.0f, one + r * N, N);
        ck_assert_int_eq(memcmp(all, one, M * N * sizeof *all), 0);
    }
    mem_free(A);
    mem_free(B);
    mem_free(all);
    mem_free(one);
}
END_TEST

START_TEST(panels_give_what_gemm_gives)
{
    enum { M = 33, N = 70, K = 24 };
    const struct gemm_kernel *const g = gemm_kernel_best();
    if (g == NULL) {
        test_skip("no kernel of our own on this processor");
        return;
    }
    float A[M * K], B[K * N], want[M * N], got[M * N], P[K * (N + GEMM_KERNEL_COLUMNS_MAX)];
    fill(A, M * K, 6);
    fill(B, K * N, 7);
    memset(P, 0, sizeof P);
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < N; j++)
            P[j / g->columns * K * g->columns + k * g->columns + j % g->columns] = B[k * N + j];
    gemm(false, false, M, N, K, 1.0f, A, K, B, N, 0.0f, want, N);
    gemm_kernel_panels(g, M, N, K, A, K, 1, P, g->columns, K * g->columns, got, N, 1.0f, 0.0f);
    ck_assert_int_eq(memcmp(got, want, sizeof got), 0);
}
END_TEST

SUITE("nn/gemm", 60, every_kernel_agrees_with_the_plain_sum,
      a_row_does_not_depend_on_the_rows_beside_it, panels_give_what_gemm_gives)
