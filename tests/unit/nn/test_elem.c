#include "nn/elem.h"

#include "nn/resample.h"
#include "nn/simd.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <math.h>

START_TEST(sums_of_any_length_at_every_level)
{
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t n = 0; n < 40; n++) {
            real a[41], b[41], y[41] = {0};
            gradcheck_fill(a, 41, 1, 1.0);
            gradcheck_fill(b, 41, 2, 1.0);
            y[n] = 7.0f;
            elem_add(y, a, b, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(y[i] == a[i] + b[i]);
            ck_assert(y[n] == 7.0f);
            elem_accumulate(a, b, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(a[i] == y[i]);
            elem_scale(y, y, 2.0, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(y[i] == 2.0f * a[i]);
        }
    }
}
END_TEST

START_TEST(column_sums_agree_with_double_and_accumulate)
{
    for (int level = SIMD_BASE; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t C = 1; C < 150; C += 13) {
            const size_t rows = 311;
            real *const x = gradcheck_new(rows * C), *const sum = gradcheck_new(C);
            gradcheck_fill(x, rows * C, C, 1.0);
            elem_add_bias_backward(sum, x, rows, C);
            elem_add_bias_backward(sum, x, rows, C);
            for (size_t c = 0; c < C; c++) {
                double want = 0.0;
                for (size_t r = 0; r < rows; r++)
                    want += 2.0 * (double)x[r * C + c];
                ck_assert_msg(fabs((double)sum[c] - want) < 1e-4, "C=%zu column %zu", C, c);
            }
        }
    }
}
END_TEST

START_TEST(split_undoes_concat_and_skips_what_is_not_wanted)
{
    real a[3 * 4], b[3 * 5], y[3 * 9], a_back[3 * 4], b_back[3 * 5];
    gradcheck_fill(a, 12, 1, 1.0);
    gradcheck_fill(b, 15, 2, 1.0);
    elem_concat(y, a, b, 3, 4, 5);
    ck_assert(y[0] == a[0] && y[4] == b[0] && y[9] == a[4] && y[13] == b[5]);
    elem_split(a_back, b_back, y, 3, 4, 5, false, false);
    elem_split(NULL, b_back, y, 3, 4, 5, false, true);
    for (size_t i = 0; i < 12; i++)
        ck_assert(a_back[i] == a[i]);
    for (size_t i = 0; i < 15; i++)
        ck_assert(b_back[i] == 2.0f * b[i]);
}
END_TEST

START_TEST(nearest_takes_the_pixel_that_torch_takes)
{
    /* torch.nn.functional.interpolate(arange(3), size=7, mode="nearest"): 0 0 0 1 1 2 2 */
    const real x[3] = {0, 1, 2};
    const real want[7] = {0, 0, 0, 1, 1, 2, 2};
    real y[7 * 2];
    resample_nearest_forward(y, x, (struct resample_shape){1, 1, 3, 1, 2, 7});
    for (size_t i = 0; i < 14; i++)
        ck_assert(y[i] == want[i % 7]);
}
END_TEST

SUITE("nn/elem", 20, sums_of_any_length_at_every_level,
      column_sums_agree_with_double_and_accumulate,
      split_undoes_concat_and_skips_what_is_not_wanted, nearest_takes_the_pixel_that_torch_takes)
