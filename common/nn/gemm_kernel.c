#include "nn/gemm_kernel.h"

#include <assert.h>
#include <string.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define SIMD_AVX512
#include "nn/simd.inc"

#include "nn/gemm_kernel_tile.inc"
#undef SIMD_AVX512
#define SIMD_AVX2
#include "nn/simd.inc"

#include "nn/gemm_kernel_tile.inc"
#undef SIMD_AVX2

#define ROWS_6(F, isa) NULL, F##1_##isa, F##2_##isa, F##3_##isa, F##4_##isa, F##5_##isa, F##6_##isa
#define ROWS_14(F, isa)                                                                            \
    ROWS_6(F, isa), F##7_##isa, F##8_##isa, F##9_##isa, F##10_##isa, F##11_##isa, F##12_##isa,     \
        F##13_##isa, F##14_##isa

static const struct gemm_kernel kernel_avx512 = {
    .name = "avx512",
    .rows_max = 14,
    .columns = 32,
    .tile = {ROWS_14(tile, avx512)},
    .narrow = {ROWS_14(narrow, avx512)},
};

static const struct gemm_kernel kernel_avx2 = {
    .name = "avx2",
    .rows_max = 6,
    .columns = 16,
    .tile = {ROWS_6(tile, avx2)},
    .narrow = {ROWS_6(narrow, avx2)},
};

/* Four floats in the baseline of x86-64: P (k, n) = B (n, k) for a 4 x 4 block. */
static void transpose_4x4(float *P, size_t p_row, const float *B, size_t b_row)
{
    __m128 r0 = _mm_loadu_ps(B), r1 = _mm_loadu_ps(B + b_row);
    __m128 r2 = _mm_loadu_ps(B + 2 * b_row), r3 = _mm_loadu_ps(B + 3 * b_row);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(P, r0);
    _mm_storeu_ps(P + p_row, r1);
    _mm_storeu_ps(P + 2 * p_row, r2);
    _mm_storeu_ps(P + 3 * p_row, r3);
}

const struct gemm_kernel *gemm_kernel_named(const char *name)
{
    if (strcmp(name, kernel_avx512.name) == 0 && __builtin_cpu_supports("avx512f"))
        return &kernel_avx512;
    if (strcmp(name, kernel_avx2.name) == 0 && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return &kernel_avx2;
    return NULL;
}

#else /* another processor: BLAS does the work */

static void transpose_4x4(float *P, size_t p_row, const float *B, size_t b_row)
{
    for (size_t k = 0; k < 4; k++)
        for (size_t n = 0; n < 4; n++)
            P[k * p_row + n] = B[n * b_row + k];
}

const struct gemm_kernel *gemm_kernel_named(const char *name)
{
    (void)name;
    return NULL;
}

#endif

/* A panel of B lies on the stack: K in steps that keep it in the first-level cache. */
#define PANEL_STEPS_MAX 384
/* Rows are taken in blocks so that their part of A stays in the second-level cache meanwhile. */
#define BLOCK_FLOATS 262144
#define BLOCK_ROWS_MIN 448
/* Below this many rows a panel that can be read where it lies is not worth a copy. */
#define COPY_ROWS_MIN 64

const struct gemm_kernel *gemm_kernel_best(void)
{
    const struct gemm_kernel *const best = gemm_kernel_named("avx512");
    return best != NULL ? best : gemm_kernel_named("avx2");
}

/* One panel of n columns against all M rows, cut into tiles of nearly equal height. */
static void panel_run(const struct gemm_kernel *g, size_t M, size_t n, size_t K, const float *A,
                      size_t a_row, size_t a_col, const float *B, size_t b_row, float *C,
                      size_t c_row, float alpha, float beta)
{
    gemm_tile *const *const tile = n <= g->columns / 2 ? g->narrow : g->tile;
    const size_t tiles = (M + g->rows_max - 1) / g->rows_max;
    const size_t rows = M / tiles, taller = M % tiles;
    for (size_t i = 0, r = 0; i < tiles; i++) {
        const size_t height = rows + (i < taller);
        tile[height](K, A + r * a_row, a_row, a_col, B, b_row, C + r * c_row, c_row, alpha, beta,
                     n);
        r += height;
    }
}

void gemm_kernel_panels(const struct gemm_kernel *g, size_t M, size_t N, size_t K, const float *A,
                        size_t a_row, size_t a_col, const float *B, size_t b_row, size_t b_panel,
                        float *C, size_t c_row, float alpha, float beta)
{
    if (M == 0)
        return;
    for (size_t j = 0; j < N; j += g->columns, B += b_panel) {
        const size_t n = N - j < g->columns ? N - j : g->columns;
        panel_run(g, M, n, K, A, a_row, a_col, B, b_row, C + j, c_row, alpha, beta);
    }
}

/* P [K,columns] = n columns of op(B), zeros behind them. */
static void panel_pack(float *P, size_t columns, bool trans_b, size_t n, size_t K, const float *B,
                       size_t ldb)
{
    if (!trans_b) {
        for (size_t k = 0; k < K; k++) {
            memcpy(P + k * columns, B + k * ldb, n * sizeof *P);
            memset(P + k * columns + n, 0, (columns - n) * sizeof *P);
        }
        return;
    }
    if (n < columns)
        memset(P, 0, K * columns * sizeof *P);
    const size_t n4 = n - n % 4, k4 = K - K % 4;
    for (size_t k = 0; k < k4; k += 4)
        for (size_t j = 0; j < n4; j += 4)
            transpose_4x4(P + k * columns + j, columns, B + j * ldb + k, ldb);
    for (size_t j = 0; j < n; j++)
        for (size_t k = j < n4 ? k4 : 0; k < K; k++)
            P[k * columns + j] = B[j * ldb + k];
}

void gemm_kernel_run(const struct gemm_kernel *g, bool trans_a, bool trans_b, size_t M, size_t N,
                     size_t K, float alpha, const float *A, size_t lda, const float *B, size_t ldb,
                     float beta, float *C, size_t ldc)
{
    _Alignas(64) float panel[PANEL_STEPS_MAX * GEMM_KERNEL_COLUMNS_MAX];
    const size_t a_row = trans_a ? 1 : lda, a_col = trans_a ? lda : 1;
    size_t k = 0;
    if (M == 0 || N == 0)
        return;
    do { /* once for K = 0 too, which scales C */
        const size_t steps = K - k < PANEL_STEPS_MAX ? K - k : PANEL_STEPS_MAX;
        const float beta_k = k == 0 ? beta : 1.0f;
        size_t block = steps > 0 ? BLOCK_FLOATS / steps : M;
        if (block < BLOCK_ROWS_MIN)
            block = BLOCK_ROWS_MIN;
        for (size_t i = 0; i < M; i += block) {
            const size_t rows = M - i < block ? M - i : block;
            for (size_t j = 0; j < N; j += g->columns) {
                const size_t n = N - j < g->columns ? N - j : g->columns;
                const float *const b = trans_b ? B + j * ldb + k : B + k * ldb + j;
                const bool copy = trans_b || n < g->columns || rows >= COPY_ROWS_MIN;
                if (copy)
                    panel_pack(panel, g->columns, trans_b, n, steps, b, ldb);
                panel_run(g, rows, n, steps, A + i * a_row + k * a_col, a_row, a_col,
                          copy ? panel : b, copy ? g->columns : ldb, C + i * ldc + j, ldc, alpha,
                          beta_k);
            }
        }
        k += steps;
    } while (k < K);
}
