/* SIMD_CLONES before a function with a plain inner loop: the compiler makes one copy per instruction
 * set and the loader picks the widest one that this processor has.  Results are the same bit for bit
 * in every copy, because multiply-add is never fused (-ffp-contract=off) and our loops over
 * independent elements have no order of summation.  A loop that sums must fix its order itself.
 *
 * Empty under sanitizers, whose run-time is not ready when the loader asks, and off x86-64. */
#ifndef DAGLINE_BASE_SIMD_H
#define DAGLINE_BASE_SIMD_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SIMD_NO_CLONES 1
#endif
#endif

#if defined(__x86_64__) && defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) &&              \
    !defined(__SANITIZE_THREAD__) && !defined(SIMD_NO_CLONES)
#define SIMD_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define SIMD_CLONES
#endif

#endif
