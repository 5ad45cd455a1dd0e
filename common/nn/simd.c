#include "nn/simd.h"

#include <stdatomic.h>

static _Atomic int limit = SIMD_AVX512;

void simd_limit(enum simd_level most)
{
    atomic_store(&limit, (int)most);
}

enum simd_level simd_level(void)
{
#ifdef __x86_64__
    const int most = atomic_load_explicit(&limit, memory_order_relaxed);
    if (most >= SIMD_AVX512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        return SIMD_AVX512;
    if (most >= SIMD_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return SIMD_AVX2;
#endif
    return SIMD_BASE;
}
