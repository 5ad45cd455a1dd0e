/* What the programs of tests/bench share: the clocks, the machine's floors, and the one form in
 * which a figure is printed, so that tests/bench/table can set them side by side.
 *
 * Figures are of the quickest of many runs: other work on the machine can only slow one down. */
#ifndef DAGLINE_TESTS_BENCH_H
#define DAGLINE_TESTS_BENCH_H

#include "nn/pool.h"

#include <stddef.h>

/* The thread's own time on its core, for work of one thread that never waits. */
double bench_thread_s(void);
/* Time that passes, for work of several threads or processes. */
double bench_wall_s(void);

/* The engine's matrix product at its best, 252x256x256, in GFLOP/s: of the calling thread, or with
 * a pool of all its threads at once, added up. */
double bench_gemm_gflops(struct pool *pool);

/* Seconds of one memcpy of so many bytes. */
double bench_memcpy_s(size_t bytes);

struct bench_figure {
    const char *bench;      /* "codec" */
    const char *what;       /* "encode 20 states of 16x16x4" */
    double figure, floor;   /* both in `unit` */
    const char *unit;       /* "GFLOP/s" */
    const char *floor_name; /* "sgemm" */
    const char *more;       /* further members, ",\"blas\":1.5", or "" */
};

/* Prints it as one JSON line with floor and percent of the floor. */
void bench_print(const struct bench_figure *f);

#endif
