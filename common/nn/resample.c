#include "nn/resample.h"

#include "nn/elem.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* All by rows of C reals: a pixel is the unit that moves. */

static void check_shape(struct resample_shape s)
{
    assert(s.H > 0 && s.W > 0 && s.C > 0);
}

void resample_nearest_forward(real *y, const real *x, struct resample_shape s)
{
    check_shape(s);
    for (size_t b = 0; b < s.B; b++) {
        size_t drawn = SIZE_MAX; /* the source row that the output row above was made from */
        for (size_t i = 0; i < s.H_out; i++, y += s.W_out * s.C) {
            const size_t from = i * s.H / s.H_out;
            const real *const row = x + (b * s.H + from) * s.W * s.C;
            if (from == drawn)
                memcpy(y, y - s.W_out * s.C, s.W_out * s.C * sizeof *y);
            else
                for (size_t j = 0; j < s.W_out; j++)
                    memcpy(y + j * s.C, row + (j * s.W / s.W_out) * s.C, s.C * sizeof *y);
            drawn = from;
        }
    }
}

void resample_nearest_backward(real *d_x, const real *d_y, struct resample_shape s, bool accumulate)
{
    check_shape(s);
    if (!accumulate)
        memset(d_x, 0, s.B * s.H * s.W * s.C * sizeof *d_x);
    for (size_t b = 0; b < s.B; b++)
        for (size_t i = 0; i < s.H_out; i++) {
            real *const row = d_x + (b * s.H + i * s.H / s.H_out) * s.W * s.C;
            for (size_t j = 0; j < s.W_out; j++, d_y += s.C)
                elem_accumulate(row + (j * s.W / s.W_out) * s.C, d_y, s.C);
        }
}

void resample_mean_forward(real *y, const real *x, size_t B, size_t HW, size_t C)
{
    assert(HW > 0);
    elem_add_sample_bias_backward(y, x, B, HW, C, false);
    elem_scale(y, y, 1.0 / (double)HW, B * C);
}

void resample_mean_backward(real *d_x, const real *d_y, size_t B, size_t HW, size_t C,
                            bool accumulate)
{
    assert(HW > 0);
    const real share = (real)(1.0 / (double)HW);
    for (size_t b = 0; b < B; b++, d_y += C)
        for (size_t i = 0; i < HW; i++, d_x += C)
            for (size_t c = 0; c < C; c++)
                d_x[c] = accumulate ? d_x[c] + d_y[c] * share : d_y[c] * share;
}
