/* Data-parallel passes of one model over batches of any size.  A batch is cut into chunks; chunk i
 * goes to worker i mod threads, which runs it on a graph of its own.  Graphs are made on first use
 * for each size of chunk; the RUNNER_SIZES_MAX sizes that were used last are kept.
 *
 * Reproducible: which worker computes which sample, and the order in which gradients are summed,
 * depend on the batch size, the chunk and the thread count alone.  Same numbers in, same bits out.
 *
 * Two kinds of pass.  runner_infer: memory of one graph a worker.  runner_forward keeps what the
 * backward pass needs, so every chunk of the batch has a graph: memory grows with B.
 *
 * Thread rule: one thread calls a runner at a time.  Runners that share a registry must not run at
 * the same time as its values change. */
#ifndef DAGLINE_NN_RUNNER_H
#define DAGLINE_NN_RUNNER_H

#include "nn/graph.h"
#include "nn/pool.h"

#define RUNNER_PORTS_MAX 8

struct runner_options {
    struct pool *pool;     /* borrowed */
    struct params *params; /* borrowed; sealed */
    void (*build)(struct graph *g, const void *arg);
    const void *arg; /* borrowed as long as the runner lives */
    size_t chunk;    /* samples a graph; 0: the batch divided by the threads, at most RUNNER_CHUNK,
                        and no more than keep a graph within RUNNER_GRAPH_BYTES */
    bool reference;  /* graph_options.reference */
    struct graph_adapter adapter;
};

#define RUNNER_CHUNK 32
#define RUNNER_SIZES_MAX 4
#define RUNNER_GRAPH_BYTES ((size_t)512 << 20)

struct runner;

struct runner *runner_new(struct runner_options o) MUST_USE;
void runner_free(struct runner *r);

/* outputs[j] [B, numbers of output j] from inputs[i] [B, numbers of input i] (int32_t ids, double
 * times, else real).  Refreshes prepared weights. */
int runner_infer(struct runner *r, const void *const *inputs, real *const *outputs, size_t B,
                 struct err *e) MUST_USE;

/* The same, keeping what runner_backward needs. */
int runner_forward(struct runner *r, const void *const *inputs, real *const *outputs, size_t B,
                   struct err *e) MUST_USE;

/* Once after each runner_forward of the same B.  d_outputs[j]: as outputs.  ACCUMULATES into grads
 * [params_grad_count] (NULL where nothing is trainable).  d_inputs may be NULL; d_inputs[i], where
 * not NULL, is overwritten with the gradient of input i (made with GRAPH_GRAD). */
int runner_backward(struct runner *r, const real *const *d_outputs, real *const *d_inputs,
                    real *grads, struct err *e) MUST_USE;

/* Samples of a chunk that a batch of B would be cut into. */
int runner_chunk(struct runner *r, size_t B, enum graph_mode mode, size_t *chunk,
                 struct err *e) MUST_USE;

/* Bytes of all graphs and gradient slabs so far. */
size_t runner_bytes(const struct runner *r);

#endif
