/* Vectors of `real` as wide as the instruction set, for the hot loops of the engine.
 *
 * A file X_simd.c is compiled once for each instruction set (the Makefile's ISAS): its public
 * functions are named SIMD(f), which becomes f_base, f_avx2 or f_avx512.  X_simd.h declares all of
 * them with SIMD_DECLARE, and X.c calls SIMD_PICK(f)(...), which asks the processor.  So one binary
 * runs on any x86-64 at the speed of each. Only X_simd.c files may use the vectors; nothing here is
 * part of a module's interface.
 *
 * The arithmetic is explicit (fused only where v_fma says so), so a result depends on the
 * instruction set and the shape alone, never on alignment, threads or the compiler. */
#ifndef DAGLINE_NN_SIMD_H
#define DAGLINE_NN_SIMD_H

#include "nn/real.h"

#include <stddef.h>
#include <stdint.h>

enum simd_level { SIMD_BASE, SIMD_AVX2, SIMD_AVX512 };

/* The best level that this processor (and simd_limit) allows. */
enum simd_level simd_level(void);

/* Test hook: nothing above `most` from now on; SIMD_AVX512 restores. */
void simd_limit(enum simd_level most);

#ifndef SIMD_ISA
#define SIMD_ISA base
#endif
#define SIMD_JOIN2(a, b) a##_##b
#define SIMD_JOIN(a, b) SIMD_JOIN2(a, b)
#define SIMD(name) SIMD_JOIN(name, SIMD_ISA)

#ifdef __x86_64__
#define SIMD_DECLARE(result, name, ...)                                                            \
    result name##_base(__VA_ARGS__);                                                               \
    result name##_avx2(__VA_ARGS__);                                                               \
    result name##_avx512(__VA_ARGS__)
#define SIMD_PICK(name)                                                                            \
    (simd_level() == SIMD_AVX512 ? name##_avx512                                                   \
                                 : (simd_level() == SIMD_AVX2 ? name##_avx2 : name##_base))
#else
#define SIMD_DECLARE(result, name, ...) result name##_base(__VA_ARGS__)
#define SIMD_PICK(name) name##_base
#endif

#endif
