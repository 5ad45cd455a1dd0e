/* A fixed set of threads for data-parallel work.  The caller is worker 0, so a pool of one starts
 * no thread.  Work is handed out by worker number, never by who is free first: what a worker
 * computes, and in which order, depends on the thread count alone.
 *
 * Thread rule: one thread uses a pool at a time; pools do not nest. */
#ifndef DAGLINE_NN_POOL_H
#define DAGLINE_NN_POOL_H

#include "base/err.h"

#include <stddef.h>

#define POOL_THREADS_MAX 256

struct pool;

/* threads: 0 for as many as this process can keep busy (base/cpu.h); POOL_THREADS_MAX of them where there are more. */
int pool_new(struct pool **out, size_t threads, struct err *e) MUST_USE;
void pool_free(struct pool *p);

size_t pool_threads(const struct pool *p);

/* Calls work(arg, worker) once for each worker 0..threads-1, each on its own thread, and returns
 * when all are done. */
void pool_run(struct pool *p, void (*work)(void *arg, size_t worker), void *arg);

#endif
