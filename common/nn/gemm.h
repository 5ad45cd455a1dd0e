/* Matrix product, row-major: the only door to BLAS.
 *
 * gemm() runs on the calling thread alone.  Single precision goes to the engine's own microkernels
 * (nn/gemm_kernel.h) where the processor has AVX-512 or AVX2 with FMA, anything else to BLAS.  With
 * the own kernels an element of C is one chain of multiply-adds over k in ascending order, whatever
 * M and N are: the result for a row does not depend on how many rows came along with it, so a step
 * can be replayed alone.  BLAS does not promise that.
 *
 * Thread rule: pure; any number of threads at once.  Each call may use 48 KiB of its stack. */
#ifndef DAGLINE_NN_GEMM_H
#define DAGLINE_NN_GEMM_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

/* C = alpha op(A) op(B) + beta C, where op(X) is X, or its transpose where trans_x is set.
 * op(A): [M,K], so A is [M,K] or, transposed, [K,M]; op(B): [K,N], so B is [K,N] or [N,K]; C:
 * [M,N]. lda, ldb, ldc: reals from one row of A, B, C as stored to the next. beta = 0 overwrites C
 * without reading it.  C must not overlap A or B.  M, N or K may be 0.
 *
 * A linear layer with the weight w [O,I] of the diffusers layout, over x [M,I]:
 *     gemm(false, true, M, O, I, 1, x, I, w, I, 0, y, O);          y = x w^T
 *     gemm(false, false, M, I, O, 1, d_y, O, w, I, 0, d_x, I);     d_x = d_y w
 *     gemm(true, false, O, I, M, 1, d_y, O, x, I, 1, d_w, I);      d_w += d_y^T x */
void gemm(bool trans_a, bool trans_b, size_t M, size_t N, size_t K, real alpha, const real *A,
          size_t lda, const real *B, size_t ldb, real beta, real *C, size_t ldc);

/* The same by cblas_sgemm or cblas_dgemm: the reference that the tests hold gemm() against. */
void gemm_blas(bool trans_a, bool trans_b, size_t M, size_t N, size_t K, real alpha, const real *A,
               size_t lda, const real *B, size_t ldb, real beta, real *C, size_t ldc);

/* Makes OpenBLAS and OpenMP (and so oneDNN) run on the calling thread alone.  gemm_blas and the
 * convolutions call it themselves; another use of OpenMP in the process calls it once per thread.
 */
void gemm_single_thread(void);

/* "avx512", "avx2" or "blas": what gemm() runs on here.  And OpenBLAS's own choice of kernel, which
 * for a processor it does not know can be one from 2004 ("Prescott", a fifth of the speed). */
const char *gemm_kernel_name(void);
const char *gemm_blas_core_name(void);

#endif
