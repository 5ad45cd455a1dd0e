#include "nn/vmath_simd.h"

#include "nn/simd_vec.h"

#define FILL(name, function)                                                                       \
    void SIMD(name)(real * y, const real *x, size_t n)                                             \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + SIMD_N <= n; i += SIMD_N)                                                       \
            v_store(y + i, function(v_load(x + i)));                                               \
        if (i < n)                                                                                 \
            v_store_part(y + i, function(v_load_part(x + i, n - i)), n - i);                       \
    }

FILL(vmath_fill_exp, v_exp)
FILL(vmath_fill_sigmoid, v_sigmoid)
FILL(vmath_fill_tanh, v_tanh)
FILL(vmath_fill_erf, v_erf)
FILL(vmath_fill_log, v_log)
