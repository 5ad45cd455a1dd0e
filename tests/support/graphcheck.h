/* A whole graph against central differences: every trainable parameter and every input that wants a
 * gradient.  Meant for MODE=grad. */
#ifndef DAGLINE_TESTS_GRAPHCHECK_H
#define DAGLINE_TESTS_GRAPHCHECK_H

#include "nn/graph.h"

struct graphcheck {
    void (*build)(struct graph *g, const void *arg);
    const void *arg;
    size_t B;
    struct graph_adapter adapter;
    const char *frozen_prefix; /* parameters with this prefix are not trainable; NULL: all are */
    double tolerance;          /* relative to the largest entry of each tensor */
};

/* Registers the builder's parameters and fills them with fixed random numbers. */
struct params *graphcheck_params(const struct graphcheck *c);

/* Fills every input with fixed random numbers (ids: small ones, times: some of 0..999). */
void graphcheck_inputs(const struct graph *g, void **inputs);

/* Fails the test, naming the tensor, the index, the analytic value and the error.  Also: a second
 * backward pass adds the same again; spoiling one entry is noticed. */
void graphcheck_claim(const struct graphcheck *c);

#endif
