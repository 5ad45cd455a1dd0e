/* The engine's own single-precision matrix kernels for x86-64, chosen at run time: AVX-512 (tiles
 * of 14 x 32) and AVX2 with FMA (6 x 16).  Model code calls gemm() of nn/gemm.h; convolutions call
 * gemm_kernel_panels on weights that they have packed once.
 *
 * A tile reads A where it lies, by one broadcast per row and step of k, so A needs no packing and
 * may be a transposed view; B comes in panels of `columns` columns.  Each element of C is one chain
 * of fused multiply-adds over ascending k, so results do not depend on how rows are cut into tiles.
 * Thread rule: pure. */
#ifndef DAGLINE_NN_GEMM_KERNEL_H
#define DAGLINE_NN_GEMM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#define GEMM_KERNEL_ROWS_MAX 14
#define GEMM_KERNEL_COLUMNS_MAX 32

/* C [rows,n] = alpha A B + beta C for the fixed number of rows of this tile; n <= columns.
 * A(r, k) = A[r * a_row + k * a_col]; B(k, j) = B[k * b_row + j], readable for all `columns`
 * columns whatever n is; C(r, j) = C[r * c_row + j].  beta = 0 does not read C. */
typedef void gemm_tile(size_t K, const float *A, size_t a_row, size_t a_col, const float *B,
                       size_t b_row, float *C, size_t c_row, float alpha, float beta, size_t n);

struct gemm_kernel {
    const char *name; /* "avx512", "avx2" */
    size_t rows_max, columns;
    gemm_tile *tile[GEMM_KERNEL_ROWS_MAX + 1];   /* by rows, from 1 */
    gemm_tile *narrow[GEMM_KERNEL_ROWS_MAX + 1]; /* for n <= columns / 2 */
};

/* The best one this processor can run; NULL where it has neither. */
const struct gemm_kernel *gemm_kernel_best(void);

/* The one of that name, NULL where this processor cannot run it. */
const struct gemm_kernel *gemm_kernel_named(const char *name);

/* C [M,N] = alpha A B + beta C with B in panels: panel p holds the columns from p * columns and
 * starts at B + p * b_panel; the last one must be readable to its full width. */
void gemm_kernel_panels(const struct gemm_kernel *g, size_t M, size_t N, size_t K, const float *A,
                        size_t a_row, size_t a_col, const float *B, size_t b_row, size_t b_panel,
                        float *C, size_t c_row, float alpha, float beta);

/* gemm() of nn/gemm.h on this kernel, in float. */
void gemm_kernel_run(const struct gemm_kernel *g, bool trans_a, bool trans_b, size_t M, size_t N,
                     size_t K, float alpha, const float *A, size_t lda, const float *B, size_t ldb,
                     float beta, float *C, size_t ldc);

#endif
