#include "nn/runner.h"

#include "base/mem.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* A graph and what it is there for. */
struct slot {
    struct graph *graph;
    enum graph_mode mode;
    size_t B;
    size_t worker; /* GRAPH_INFER: whose it is */
    size_t chunk;  /* GRAPH_TRAIN: which chunk of the batch it keeps */
    uint64_t pass; /* its last one */
};

struct runner {
    struct runner_options o;
    size_t threads;
    struct slot *slots; /* at most RUNNER_SIZES_MAX for each worker, or chunk */
    size_t slot_count;
    uint64_t passes;
    real **grads; /* [threads]; worker 0 adds to the caller's */
    size_t grad_count;
    size_t samples_max[2]; /* by GRAPH_TRAIN; 0: not yet known */

    /* the pass under way */
    enum graph_mode mode;
    size_t B, chunk, chunks;
    struct graph **graphs; /* [chunks] */
    size_t graphs_room;
    const void *const *inputs;
    real *const *outputs;
    const real *const *d_outputs;
    real *const *d_inputs;
    real *caller_grads;
};

struct runner *runner_new(struct runner_options o)
{
    struct runner *const r = mem_new(1, sizeof *r);
    r->o = o;
    r->threads = pool_threads(o.pool);
    r->grads = mem_new(r->threads, sizeof *r->grads);
    return r;
}

void runner_free(struct runner *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->slot_count; i++)
        graph_free(r->slots[i].graph);
    for (size_t w = 0; w < r->threads; w++)
        mem_free(r->grads[w]);
    mem_free(r->slots);
    mem_free(r->grads);
    mem_free(r->graphs);
    mem_free(r);
}

static struct graph *build(const struct runner *r, size_t B, enum graph_mode mode)
{
    struct graph *const g = graph_new(
        r->o.params, B,
        (struct graph_options){.mode = mode, .reference = r->o.reference, .adapter = r->o.adapter});
    r->o.build(g, r->o.arg);
    return g;
}

/* The most samples that keep a graph within RUNNER_GRAPH_BYTES; memory is about linear in them. */
static int samples_max(struct runner *r, enum graph_mode mode, size_t *out, struct err *e)
{
    size_t *const known = &r->samples_max[mode == GRAPH_TRAIN];
    if (*known == 0) {
        struct graph *const g = build(r, 1, mode);
        const int rc = graph_measure(g, e);
        const size_t bytes = graph_bytes(g);
        graph_free(g);
        if (rc < 0)
            return -1;
        *known = bytes >= RUNNER_GRAPH_BYTES ? 1 : RUNNER_GRAPH_BYTES / (bytes + 1);
    }
    *out = *known;
    return 0;
}

int runner_chunk(struct runner *r, size_t B, enum graph_mode mode, size_t *chunk, struct err *e)
{
    const size_t share = (B + r->threads - 1) / r->threads;
    size_t most;
    if (r->o.chunk > 0) {
        *chunk = r->o.chunk;
        return 0;
    }
    if (samples_max(r, mode, &most, e) < 0)
        return -1;
    most = most < RUNNER_CHUNK ? most : RUNNER_CHUNK;
    *chunk = share < most ? share : most;
    return 0;
}

static size_t chunk_length(const struct runner *r, size_t i)
{
    const size_t left = r->B - i * r->chunk;
    return left < r->chunk ? left : r->chunk;
}

static int find_graph(struct runner *r, size_t i, struct graph **out, struct err *e)
{
    const struct slot want = {NULL, r->mode, chunk_length(r, i), i % r->threads, i, r->passes};
    struct slot *oldest = NULL;
    size_t sizes = 0;
    for (size_t k = 0; k < r->slot_count; k++) {
        struct slot *const s = &r->slots[k];
        if (s->mode != want.mode || (want.mode == GRAPH_INFER ? s->worker != want.worker : s->chunk != want.chunk))
            continue;
        if (s->B == want.B) {
            s->pass = r->passes;
            *out = s->graph;
            return 0;
        }
        oldest = oldest == NULL || s->pass < oldest->pass ? s : oldest;
        sizes++;
    }
    struct graph *const g = build(r, want.B, want.mode);
    if (graph_plan(g, e) < 0) {
        graph_free(g);
        return -1;
    }
    if (sizes == RUNNER_SIZES_MAX) {
        graph_free(oldest->graph);
    } else {
        r->slots = mem_grow(r->slots, r->slot_count + 1, sizeof *r->slots);
        oldest = &r->slots[r->slot_count++];
    }
    *oldest = want;
    oldest->graph = *out = g;
    return 0;
}

static int prepare(struct runner *r, size_t B, enum graph_mode mode, struct err *e)
{
    assert(B > 0);
    r->B = B;
    r->mode = mode;
    r->passes++;
    if (runner_chunk(r, B, mode, &r->chunk, e) < 0)
        return -1;
    r->chunks = (B + r->chunk - 1) / r->chunk;
    if (r->chunks > r->graphs_room) {
        r->graphs = mem_grow(r->graphs, r->chunks, sizeof *r->graphs);
        r->graphs_room = r->chunks;
    }
    for (size_t i = 0; i < r->chunks; i++)
        if (find_graph(r, i, &r->graphs[i], e) < 0)
            return -1;
    return params_refresh(r->o.params, r->o.pool, e);
}

static void forward_worker(void *arg, size_t worker)
{
    struct runner *const r = arg;
    for (size_t i = worker; i < r->chunks; i += r->threads) {
        struct graph *const g = r->graphs[i];
        for (size_t k = 0; k < graph_input_count(g); k++) {
            const size_t bytes = graph_input_numbers(g, k) * graph_input_element_bytes(g, k);
            graph_write(g, k, (const char *)r->inputs[k] + i * r->chunk * bytes);
        }
        graph_forward(g);
        for (size_t k = 0; k < graph_output_count(g); k++)
            graph_read(g, k, r->outputs[k] + i * r->chunk * graph_output_numbers(g, k));
    }
}

static int forward(struct runner *r, const void *const *inputs, real *const *outputs, size_t B,
                   enum graph_mode mode, struct err *e)
{
    if (prepare(r, B, mode, e) < 0)
        return -1;
    r->inputs = inputs;
    r->outputs = outputs;
    pool_run(r->o.pool, forward_worker, r);
    return 0;
}

int runner_infer(struct runner *r, const void *const *inputs, real *const *outputs, size_t B,
                 struct err *e)
{
    return forward(r, inputs, outputs, B, GRAPH_INFER, e);
}

int runner_forward(struct runner *r, const void *const *inputs, real *const *outputs, size_t B,
                   struct err *e)
{
    return forward(r, inputs, outputs, B, GRAPH_TRAIN, e);
}

static void backward_worker(void *arg, size_t worker)
{
    struct runner *const r = arg;
    real *const grads = worker == 0 ? r->caller_grads : r->grads[worker];
    if (worker != 0 && grads != NULL)
        memset(grads, 0, r->grad_count * sizeof(real));
    for (size_t i = worker; i < r->chunks; i += r->threads) {
        struct graph *const g = r->graphs[i];
        for (size_t k = 0; k < graph_output_count(g); k++)
            graph_write_grad(g, k, r->d_outputs[k] + i * r->chunk * graph_output_numbers(g, k));
        graph_backward(g, grads);
        for (size_t k = 0; r->d_inputs != NULL && k < graph_input_count(g); k++)
            if (r->d_inputs[k] != NULL)
                graph_read_grad(g, k, r->d_inputs[k] + i * r->chunk * graph_input_numbers(g, k));
    }
}

/* Each worker sums its own stretch of the gradient over all workers, in their order. */
static void reduce_worker(void *arg, size_t worker)
{
    struct runner *const r = arg;
    const size_t from = r->grad_count * worker / r->threads;
    const size_t to = r->grad_count * (worker + 1) / r->threads;
    for (size_t w = 1; w < r->threads && w < r->chunks; w++)
        for (size_t i = from; i < to; i++)
            r->caller_grads[i] += r->grads[w][i];
}

static int grow_grads(struct runner *r, struct err *e)
{
    const size_t count = params_grad_count(r->o.params);
    if (count == r->grad_count)
        return 0;
    for (size_t w = 1; w < r->threads; w++) {
        mem_free(r->grads[w]);
        r->grads[w] = mem_slab(count * sizeof(real), "gradients of a worker", e);
        if (r->grads[w] == NULL)
            return -1;
    }
    r->grad_count = count;
    return 0;
}

int runner_backward(struct runner *r, const real *const *d_outputs, real *const *d_inputs,
                    real *grads, struct err *e)
{
    assert(r->mode == GRAPH_TRAIN && r->chunks > 0);
    if (grads != NULL && grow_grads(r, e) < 0)
        return -1;
    r->d_outputs = d_outputs;
    r->d_inputs = d_inputs;
    r->caller_grads = grads;
    pool_run(r->o.pool, backward_worker, r);
    if (grads != NULL && r->threads > 1)
        pool_run(r->o.pool, reduce_worker, r);
    return 0;
}

size_t runner_bytes(const struct runner *r)
{
    size_t bytes = 0;
    for (size_t i = 0; i < r->slot_count; i++)
        bytes += graph_bytes(r->slots[i].graph);
    for (size_t w = 1; w < r->threads; w++)
        bytes += r->grads[w] == NULL ? 0 : r->grad_count * sizeof(real);
    return bytes;
}
