/* Matrix products of one thread at the shapes of the embedded model and of larger ones: one JSON
 * line per shape and form, in GFLOP/s and as a percentage of the floor, which is the best product
 * measured in the same run. */
#include "base/mem.h"
#include "nn/gemm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECONDS_MIN 0.05
#define FLOOR_SIZE 1024

static const size_t shapes[][3] = {
    /* M, K, N */
    {128, 32, 32},   {32, 64, 64},    {16, 96, 96},    {4096, 32, 32},
    {2048, 64, 64},  {2048, 64, 192}, {512, 64, 512},  {512, 256, 64},
    {2048, 96, 768}, {2048, 384, 96}, {256, 96, 768},  {256, 384, 96},
    {64, 16, 64},    {64, 64, 16},    {1024, 576, 64}, {4096, 768, 384}};

static const struct {
    const char *name;
    bool trans_a, trans_b;
} forms[] = {{"NN", false, false}, {"NT", false, true}, {"TN", true, false}};

typedef void product(bool, bool, size_t, size_t, size_t, real, const real *, size_t, const real *,
                     size_t, real, real *, size_t);

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of the quickest of many runs: other work on the machine can only slow one down. */
static double rate(product *f, size_t form, size_t M, size_t N, size_t K, const real *A,
                   const real *B, real *C)
{
    const bool ta = forms[form].trans_a, tb = forms[form].trans_b;
    const double start = now_s();
    double best = 1e9;
    do {
        const double t = now_s();
        f(ta, tb, M, N, K, 1, A, ta ? M : K, B, tb ? K : N, 0, C, N);
        const double took = now_s() - t;
        best = took < best ? took : best;
    } while (now_s() - start < SECONDS_MIN);
    return 2e-9 * (double)M * (double)N * (double)K / best;
}

static real *numbers(size_t n)
{
    real *const p = mem_new(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (real)((double)(i * 2654435761u % 1000) / 1000.0 - 0.5);
    return p;
}

int main(void)
{
    const size_t room = (size_t)4096 * 768;
    real *const A = numbers(room), *const B = numbers(room), *const C = numbers(room);
    const double own = rate(gemm, 0, FLOOR_SIZE, FLOOR_SIZE, FLOOR_SIZE, A, B, C);
    const double blas = rate(gemm_blas, 0, FLOOR_SIZE, FLOOR_SIZE, FLOOR_SIZE, A, B, C);
    const double cached = rate(gemm, 0, 252, 256, 256, A, B, C);
    double floor_rate = own > blas ? own : blas;
    floor_rate = cached > floor_rate ? cached : floor_rate;
    printf("{\"bench\":\"gemm\",\"kernel\":\"%s\",\"blas_core\":\"%s\",\"floor_gflops\":%.1f,"
           "\"gemm_1024\":%.1f,\"blas_1024\":%.1f}\n",
           gemm_kernel_name(), gemm_blas_core_name(), floor_rate, own, blas);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            const size_t M = shapes[i][0], K = shapes[i][1], N = shapes[i][2];
            const double r = rate(gemm, f, M, N, K, A, B, C);
            const double b = rate(gemm_blas, f, M, N, K, A, B, C);
            printf("{\"bench\":\"gemm\",\"form\":\"%s\",\"M\":%zu,\"K\":%zu,\"N\":%zu,"
                   "\"gflops\":%.1f,\"floor_percent\":%.0f,\"blas_gflops\":%.1f}\n",
                   forms[f].name, M, K, N, r, 100.0 * r / floor_rate, b);
        }
    }
    mem_free(A);
    mem_free(B);
    mem_free(C);
    return 0;
}
