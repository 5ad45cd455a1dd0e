#include "nn/gemm.h"

#include "nn/gemm_kernel.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>

/* From libgomp, which OpenBLAS's OpenMP build and oneDNN both run on; its header is the compiler's.
 */
void omp_set_num_threads(int count);
int omp_get_max_threads(void);

void gemm_single_thread(void)
{
    /* OpenMP keeps this per calling thread; OpenBLAS asks OpenMP, or, in its pthread build, its own
     * setting. */
    if (omp_get_max_threads() != 1)
        omp_set_num_threads(1);
    if (openblas_get_num_threads() != 1)
        openblas_set_num_threads(1);
}

void gemm_blas(bool trans_a, bool trans_b, size_t M, size_t N, size_t K, real alpha, const real *A,
               size_t lda, const real *B, size_t ldb, real beta, real *C, size_t ldc)
{
    assert(M <= INT_MAX && N <= INT_MAX && K <= INT_MAX);
    assert(lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX);
    if (M == 0 || N == 0)
        return;
    if (K == 0) { /* BLAS refuses the leading dimensions that an empty sum may come with */
        for (size_t i = 0; i < M; i++)
            for (size_t j = 0; j < N; j++)
                C[i * ldc + j] = beta == (real)0 ? (real)0 : beta * C[i * ldc + j];
        return;
    }
    gemm_single_thread();
#ifdef DAGLINE_REAL_DOUBLE
    cblas_dgemm(
#else
    cblas_sgemm(
#endif
        CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
        (int)M, (int)N, (int)K, alpha, A, (int)lda, B, (int)ldb, beta, C, (int)ldc);
}

void gemm(bool trans_a, bool trans_b, size_t M, size_t N, size_t K, real alpha, const real *A,
          size_t lda, const real *B, size_t ldb, real beta, real *C, size_t ldc)
{
    assert(lda >= (trans_a ? M : K) && ldb >= (trans_b ? K : N) && ldc >= N);
#ifndef DAGLINE_REAL_DOUBLE
    const struct gemm_kernel *const own = gemm_kernel_best();
    if (own != NULL) {
        gemm_kernel_run(own, trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
        return;
    }
#endif
    gemm_blas(trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}

const char *gemm_kernel_name(void)
{
#ifndef DAGLINE_REAL_DOUBLE
    const struct gemm_kernel *const own = gemm_kernel_best();
    if (own != NULL)
        return own->name;
#endif
    return "blas";
}

const char *gemm_blas_core_name(void)
{
    return openblas_get_corename();
}
