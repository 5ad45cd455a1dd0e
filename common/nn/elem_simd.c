#include "nn/elem_simd.h"

#include "nn/simd_vec.h"

/* Rows summed in real before they go to double. */
#define RUN_ROWS ((size_t)128)
/* Columns whose sums are held at a time. */
#define BLOCK (4 * SIMD_N)

/* Written in vectors because y may be an input: the compiler's own loop would find the overlap and
 * go one by one. */

void SIMD(elem_sum)(real *y, const real *a, const real *b, size_t n)
{
    size_t i = 0;
    for (; i + SIMD_N <= n; i += SIMD_N)
        v_store(y + i, v_load(a + i) + v_load(b + i));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

void SIMD(elem_times)(real *y, const real *x, real factor, size_t n)
{
    size_t i = 0;
    for (; i + SIMD_N <= n; i += SIMD_N)
        v_store(y + i, v_load(x + i) * factor);
    for (; i < n; i++)
        y[i] = x[i] * factor;
}

void SIMD(elem_bias)(real *y, const real *x, const real *bias, size_t rows, size_t C)
{
    for (size_t row = 0; row < rows; row++, x += C, y += C) {
        size_t c = 0;
        for (; c + SIMD_N <= C; c += SIMD_N)
            v_store(y + c, v_load(x + c) + v_load(bias + c));
        for (; c < C; c++)
            y[c] = x[c] + bias[c];
    }
}

/* A block of 4 vectors of columns over a run of rows. */
SIMD_INLINE void columns_block(double *total, const real *x, size_t rows, size_t C)
{
    vr sum[4] = {{0}};
    for (size_t row = 0; row < rows; row++)
        for (size_t v = 0; v < 4; v++)
            sum[v] += v_load(x + row * C + v * SIMD_N);
    for (size_t v = 0; v < 4; v++)
        for (size_t i = 0; i < SIMD_N; i++)
            total[v * SIMD_N + i] += (double)sum[v][i];
}

SIMD_INLINE void columns_vector(double *total, const real *x, size_t rows, size_t C, size_t n)
{
    vr sum[4] = {{0}};
    for (size_t row = 0; row < rows; row++)
        sum[row % 4] += n == SIMD_N ? v_load(x + row * C) : v_load_part(x + row * C, n);
    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (size_t i = 0; i < n; i++)
        total[i] += (double)sum[0][i];
}

void SIMD(elem_columns)(real *sum, const real *x, size_t rows, size_t C)
{
    for (size_t c = 0; c < C;) {
        const size_t left = C - c;
        const size_t width = left >= BLOCK ? BLOCK : (left >= SIMD_N ? SIMD_N : left);
        double total[BLOCK] = {0};
        for (size_t row = 0; row < rows; row += RUN_ROWS) {
            const size_t run = rows - row < RUN_ROWS ? rows - row : RUN_ROWS;
            if (width == BLOCK)
                columns_block(total, x + row * C + c, run, C);
            else
                columns_vector(total, x + row * C + c, run, C, width);
        }
        for (size_t i = 0; i < width; i++)
            sum[c + i] += (real)total[i];
        c += width;
    }
}
