#include "support/bench.h"

#include "base/mem.h"
#include "nn/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLOOR_SECONDS 0.4
#define COPY_SECONDS 0.05

static double read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_thread_s(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

double bench_wall_s(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static void gemm_work(void *arg, size_t worker)
{
    enum { M = 252, N = 256, K = 256 };
    double *const gflops = arg;
    real *const A = mem_new(M * K, sizeof *A), *const B = mem_new(K * N, sizeof *B);
    real *const C = mem_new(M * N, sizeof *C);
    for (size_t i = 0; i < M * K; i++)
        A[i] = (real)((double)(i % 97) / 97.0 - 0.5);
    for (size_t i = 0; i < K * N; i++)
        B[i] = (real)((double)(i % 89) / 89.0 - 0.5);
    double best = 1e9;
    const double start = bench_thread_s();
    do {
        const double t = bench_thread_s();
        gemm(false, false, M, N, K, 1, A, K, B, N, 0, C, N);
        const double took = bench_thread_s() - t;
        best = took < best ? took : best;
    } while (bench_thread_s() - start < FLOOR_SECONDS);
    gflops[worker] = 2e-9 * M * N * K / best;
    mem_free(A);
    mem_free(B);
    mem_free(C);
}

double bench_gemm_gflops(struct pool *pool)
{
    double each[POOL_THREADS_MAX] = {0}, sum = 0.0;
    if (pool != NULL)
        pool_run(pool, gemm_work, each);
    else
        gemm_work(each, 0);
    for (size_t i = 0; i < POOL_THREADS_MAX; i++)
        sum += each[i];
    return sum;
}

double bench_memcpy_s(size_t bytes)
{
    uint8_t *const from = mem_new(bytes, 1), *const to = mem_new(bytes, 1);
    memset(from, 1, bytes); /* zeroed pages are one page */
    double best = 1e9;
    const double start = bench_thread_s();
    do {
        const double t = bench_thread_s();
        memcpy(to, from, bytes);
        __asm__ volatile("" : : "r"(to) : "memory");
        const double took = bench_thread_s() - t;
        best = took < best ? took : best;
    } while (bench_thread_s() - start < COPY_SECONDS);
    mem_free(from);
    mem_free(to);
    return best;
}

void bench_print(const struct bench_figure *f)
{
    printf("{\"bench\":\"%s\",\"what\":\"%s\",\"figure\":%.4g,\"unit\":\"%s\",\"floor\":%.4g,"
           "\"floor_name\":\"%s\",\"percent\":%.0f%s}\n",
           f->bench, f->what, f->figure, f->unit, f->floor, f->floor_name,
           100.0 * f->figure / f->floor, f->more);
    fflush(stdout);
}
