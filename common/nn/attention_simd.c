#include "nn/attention_simd.h"

#include "nn/simd_vec.h"

/* Every product here has a short inner dimension (a head is 16 to 160 wide) and operands that were
 * packed a moment ago and lie in the first-level cache, which is where a general GEMM spends its
 * time on packing. */

#define LOG2_E ((real)1.44269504088896340736)
#define LN_2 ((real)0.69314718055994530942)

/* Rows of a register tile; 2 vectors wide, it fills 16 of 32 registers, or 8 of 16. */
#ifdef __AVX512F__
#define TILE 8
#else
#define TILE 4
#endif

/* ---- products
 * ------------------------------------------------------------------------------------ */

/* C[m][n] = (add ? C[m][n] : 0) + sum over k of A[m row_step + k depth_step] B[k][n], for M rows
 * and NV vectors. */
SIMD_INLINE void tile(real *c, size_t ldc, const real *a, size_t row_step, size_t depth_step,
                      const real *b, size_t ldb, size_t depth, bool add, const size_t M,
                      const size_t NV)
{
    vr sum[TILE][2];
#pragma GCC unroll 8
    for (size_t m = 0; m < M; m++)
#pragma GCC unroll 2
        for (size_t n = 0; n < NV; n++)
            sum[m][n] = add ? v_load(c + m * ldc + n * SIMD_N) : (vr){0};
    for (size_t k = 0; k < depth; k++) {
        vr row[2];
#pragma GCC unroll 2
        for (size_t n = 0; n < NV; n++)
            row[n] = v_load(b + k * ldb + n * SIMD_N);
#pragma GCC unroll 8
        for (size_t m = 0; m < M; m++) {
            const vr x = v_set1(a[m * row_step + k * depth_step]);
#pragma GCC unroll 2
            for (size_t n = 0; n < NV; n++)
                sum[m][n] = v_fma(x, row[n], sum[m][n]);
        }
    }
#pragma GCC unroll 8
    for (size_t m = 0; m < M; m++)
#pragma GCC unroll 2
        for (size_t n = 0; n < NV; n++)
            v_store(c + m * ldc + n * SIMD_N, sum[m][n]);
}

/* C [rows,columns] = or += A B; columns is a multiple of SIMD_N. */
static void product(real *c, size_t ldc, const real *a, size_t row_step, size_t depth_step,
                    const real *b, size_t ldb, size_t rows, size_t columns, size_t depth, bool add)
{
    size_t m = 0;
    for (; m + TILE <= rows; m += TILE) {
        size_t n = 0;
        for (; n + 2 * SIMD_N <= columns; n += 2 * SIMD_N)
            tile(c + m * ldc + n, ldc, a + m * row_step, row_step, depth_step, b + n, ldb, depth,
                 add, TILE, 2);
        if (n < columns)
            tile(c + m * ldc + n, ldc, a + m * row_step, row_step, depth_step, b + n, ldb, depth,
                 add, TILE, 1);
    }
    for (; m < rows; m++)
        for (size_t n = 0; n < columns; n += SIMD_N)
            tile(c + m * ldc + n, ldc, a + m * row_step, row_step, depth_step, b + n, ldb, depth,
                 add, 1, 1);
}

/* ---- packing
 * ------------------------------------------------------------------------------------- */

/* out [d,ld] = factor in^T, in: n rows of d, `stride` apart; columns n.. padded of out are 0. */
static void pack_transposed(real *out, size_t ld, const real *in, size_t stride, size_t n,
                            size_t padded, size_t d, real factor)
{
    size_t j = 0;
#if defined __x86_64__ && !defined DAGLINE_REAL_DOUBLE
    const size_t whole = d & ~(size_t)3;
    const __m128 f = _mm_set1_ps(factor);
    for (; j + 4 <= n; j += 4) {
        for (size_t k = 0; k < whole; k += 4) {
            __m128 a = _mm_mul_ps(_mm_loadu_ps(in + j * stride + k), f);
            __m128 b = _mm_mul_ps(_mm_loadu_ps(in + (j + 1) * stride + k), f);
            __m128 c = _mm_mul_ps(_mm_loadu_ps(in + (j + 2) * stride + k), f);
            __m128 e = _mm_mul_ps(_mm_loadu_ps(in + (j + 3) * stride + k), f);
            _MM_TRANSPOSE4_PS(a, b, c, e);
            _mm_storeu_ps(out + k * ld + j, a);
            _mm_storeu_ps(out + (k + 1) * ld + j, b);
            _mm_storeu_ps(out + (k + 2) * ld + j, c);
            _mm_storeu_ps(out + (k + 3) * ld + j, e);
        }
        for (size_t k = whole; k < d; k++)
            for (size_t i = 0; i < 4; i++)
                out[k * ld + j + i] = in[(j + i) * stride + k] * factor;
    }
#endif
    for (; j < n; j++)
        for (size_t k = 0; k < d; k++)
            out[k * ld + j] = in[j * stride + k] * factor;
    for (size_t k = 0; k < d && n < padded; k++)
        for (j = n; j < padded; j++)
            out[k * ld + j] = 0;
}

/* out [n,ld] = factor in; columns d..ld are 0. */
static void pack_rows(real *out, size_t ld, const real *in, size_t stride, size_t n, size_t d,
                      real factor)
{
    for (size_t j = 0; j < n; j++, out += ld, in += stride) {
        size_t k = 0;
        for (; k + SIMD_N <= d; k += SIMD_N)
            v_store(out + k, v_load(in + k) * factor);
        if (k < d) {
            v_store(out + k, v_load_part(in + k, d - k) * factor);
            k += SIMD_N;
        }
        for (; k < ld; k++)
            out[k] = 0;
    }
}

/* out = (add ? out : 0) + factor in; in: [n,ld], out: n rows of d. */
static void unpack_rows(real *out, size_t stride, const real *in, size_t ld, size_t n, size_t d,
                        real factor, bool add)
{
    for (size_t j = 0; j < n; j++, out += stride, in += ld) {
        size_t k = 0;
        for (; k + SIMD_N <= d; k += SIMD_N) {
            const vr x = v_load(in + k) * factor;
            v_store(out + k, add ? v_load(out + k) + x : x);
        }
        if (k < d) {
            const vr x = v_load(in + k) * factor;
            v_store_part(out + k, add ? v_load_part(out + k, d - k) + x : x, d - k);
        }
    }
}

/* Scores that must not count: padding, and with a causal mask the keys after query `row`.  first:
 * index of the block's first key. */
SIMD_INLINE void mask_row(real *scores, size_t n, size_t padded, size_t first, size_t row,
                          bool causal)
{
    if (causal && row + 1 < first + n)
        n = row + 1 > first ? row + 1 - first : 0;
    for (; n < padded; n++)
        scores[n] = (real)-INFINITY;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pad(size_t n)
{
    return (n + SIMD_N - 1) & ~(SIMD_N - 1);
}

/* ---- forward
 * ------------------------------------------------------------------------------------- */

/* One row of scores (in units of log 2) becomes exp2(score - top); *top and *sum move on.  Returns
 * what the sums so far must be multiplied with. */
SIMD_INLINE real soften_row(real *scores, size_t padded, real *top, real *sum, bool first)
{
    vr most = v_load(scores);
    for (size_t j = SIMD_N; j < padded; j += SIMD_N)
        most = v_max(most, v_load(scores + j));
    const real greatest = v_greatest(most);
    const real now = !first && *top > greatest ? *top : greatest;
    const vr shift = v_set1(now);
    vr total = {0};
    for (size_t j = 0; j < padded; j += SIMD_N) {
        const vr p = v_exp2(v_load(scores + j) - shift);
        v_store(scores + j, p);
        total += p;
    }
    real factor = 0;
    if (!first) {
        const vr f = v_exp2(v_set1(*top - now));
        factor = f[0];
    }
    *sum = (first ? 0 : *sum * factor) + v_sum(total);
    *top = now;
    return factor;
}

/* y = y keep[row] + rows (without the first term in the first block), then divided by the sum after
 * the last. */
static void gather_rows(real *y, size_t stride, const real *rows, size_t ld, size_t n, size_t d,
                        const real *keep, const real *sum, bool first, bool last)
{
    for (size_t i = 0; i < n; i++, y += stride, rows += ld) {
        const real scale = last ? (real)1 / sum[i] : 1;
        for (size_t k = 0; k < d; k += SIMD_N) {
            const size_t left = d - k;
            vr x = v_load(rows + k);
            if (!first)
                x = v_fma(left < SIMD_N ? v_load_part(y + k, left) : v_load(y + k), v_set1(keep[i]),
                          x);
            if (left < SIMD_N)
                v_store_part(y + k, x * scale, left);
            else
                v_store(y + k, x * scale);
        }
    }
}

void SIMD(attention_head_forward)(real *y, real *lse, const struct attention_head *h,
                                  const struct attention_scratch *w)
{
    const size_t dp = pad(h->d);
    for (size_t j = 0; j < h->Lk; j += ATTENTION_KEYS) {
        const size_t n = smaller(ATTENTION_KEYS, h->Lk - j), padded = pad(n);
        const bool first = j == 0, last = j + n == h->Lk;
        const size_t fit = ATTENTION_SCORES / padded;
        const size_t rows_max = smaller(fit & ~(size_t)(TILE - 1), ATTENTION_ROWS);
        pack_transposed(w->keys, padded, h->k + j * h->k_stride, h->k_stride, n, padded, h->d,
                        h->scale * LOG2_E);
        pack_rows(w->values, dp, h->v + j * h->v_stride, h->v_stride, n, h->d, 1);
        for (size_t i = 0; i < h->Lq; i += rows_max) {
            const size_t rows = smaller(rows_max, h->Lq - i);
            real keep[ATTENTION_ROWS];
            product(w->scores, padded, h->q + i * h->q_stride, h->q_stride, 1, w->keys, padded,
                    rows, padded, h->d, false);
            for (size_t r = 0; r < rows; r++) {
                mask_row(w->scores + r * padded, n, padded, j, i + r, h->causal);
                keep[r] = soften_row(w->scores + r * padded, padded, w->top + i + r, w->sum + i + r,
                                     first);
            }
            product(w->rows, dp, w->scores, padded, 1, w->values, dp, rows, dp, n, false);
            gather_rows(y + i * h->y_stride, h->y_stride, w->rows, dp, rows, h->d, keep, w->sum + i,
                        first, last);
        }
    }
    for (size_t i = 0; lse != NULL && i < h->Lq; i += SIMD_N) {
        const size_t left = h->Lq - i;
        /* top and sum are padded */
        const vr x = v_fma(v_load(w->top + i), v_set1(LN_2), v_log(v_load(w->sum + i)));
        if (left < SIMD_N)
            v_store_part(lse + i, x, left);
        else
            v_store(lse + i, x);
    }
}

/* ---- backward
 * ------------------------------------------------------------------------------------ */

/* scores = P = exp(score - lse);  d_scores = P (d_P - D), D = d_y . y of the row.  score is in
 * units of log 2. */
static void probabilities(const struct attention_scratch *w, const struct attention_head *h,
                          size_t i, size_t rows, size_t j, size_t n, size_t padded)
{
    for (size_t r = 0; r < rows; r++) {
        real *const p = w->scores + r * padded, *const d_p = w->d_scores + r * padded;
        const real *const y = h->y + (i + r) * h->y_stride;
        const real *const d_y = w->d_y_rows + r * pad(h->d);
        vr dot = {0};
        for (size_t k = 0; k < h->d; k += SIMD_N) {
            const size_t left = h->d - k;
            dot = v_fma(left < SIMD_N ? v_load_part(y + k, left) : v_load(y + k), v_load(d_y + k),
                        dot);
        }
        const vr D = v_set1(v_sum(dot)), shift = v_set1(h->lse[i + r] * LOG2_E);
        mask_row(p, n, padded, j, i + r, h->causal);
        for (size_t k = 0; k < padded; k += SIMD_N) {
            const vr x = v_exp2(v_load(p + k) - shift);
            v_store(p + k, x);
            v_store(d_p + k, x * (v_load(d_p + k) - D));
        }
    }
}

void SIMD(attention_head_backward)(real *d_q, real *d_k, real *d_v, const struct attention_head *h,
                                   const struct attention_scratch *w)
{
    const size_t dp = pad(h->d);
    for (size_t j = 0; j < h->Lk; j += ATTENTION_KEYS_BACKWARD) {
        const size_t n = smaller(ATTENTION_KEYS_BACKWARD, h->Lk - j), padded = pad(n);
        const real *const k = h->k + j * h->k_stride, *const v = h->v + j * h->v_stride;
        pack_transposed(w->keys, padded, k, h->k_stride, n, padded, h->d, h->scale * LOG2_E);
        pack_transposed(w->values, padded, v, h->v_stride, n, padded, h->d, 1);
        pack_rows(w->keys_rows, dp, k, h->k_stride, n, h->d, h->scale);
        for (size_t i = 0; i < h->Lq; i += ATTENTION_ROWS) {
            const size_t rows = smaller(ATTENTION_ROWS, h->Lq - i);
            pack_rows(w->q_rows, dp, h->q + i * h->q_stride, h->q_stride, rows, h->d, 1);
            pack_rows(w->d_y_rows, dp, h->d_y + i * h->y_stride, h->y_stride, rows, h->d, 1);
            product(w->scores, padded, w->q_rows, dp, 1, w->keys, padded, rows, padded, h->d,
                    false);
            product(w->d_scores, padded, w->d_y_rows, dp, 1, w->values, padded, rows, padded, h->d,
                    false);
            probabilities(w, h, i, rows, j, n, padded);
            product(w->rows, dp, w->d_scores, padded, 1, w->keys_rows, dp, rows, dp, n, false);
            unpack_rows(d_q + i * h->q_stride, h->q_stride, w->rows, dp, rows, h->d, 1, j > 0);
            if (d_k == NULL)
                continue;
            product(w->d_keys, dp, w->d_scores, 1, padded, w->q_rows, dp, n, dp, rows, i > 0);
            product(w->d_values, dp, w->scores, 1, padded, w->d_y_rows, dp, n, dp, rows, i > 0);
        }
        if (d_k == NULL)
            continue;
        unpack_rows(d_k + j * h->k_stride, h->k_stride, w->d_keys, dp, n, h->d, h->scale, false);
        unpack_rows(d_v + j * h->v_stride, h->v_stride, w->d_values, dp, n, h->d, 1, false);
    }
}
