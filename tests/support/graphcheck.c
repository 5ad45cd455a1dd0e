#include "support/graphcheck.h"

#include "support/gradcheck.h"

#include <check.h>
#include <math.h>
#include <string.h>

#define INPUTS_MAX 8

struct run {
    struct params *params;
    struct graph *graph;
    void *inputs[INPUTS_MAX];
    real *out, *d_out;
    size_t out_count;
    double scale; /* largest parameter gradient */
};

struct params *graphcheck_params(const struct graphcheck *c)
{
    struct err e;
    struct params *const p = params_new();
    struct graph *const g =
        graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE, .adapter = c->adapter});
    c->build(g, c->arg);
    graph_free(g);
    ck_assert_msg(params_seal(p, &e) == 0, "%s", e.text);
    for (int id = 0; (size_t)id < params_length(p); id++) {
        const struct param *const a = params_at(p, id);
        gradcheck_fill(a->value, a->count, 100 + (uint64_t)id, a->dims == 1 ? 0.5 : 0.7);
        /* a scale of about one keeps the signal alive through many norms */
        for (size_t i = 0; a->init.kind == PARAM_INIT_ONE && i < a->count; i++)
            a->value[i] += 1;
    }
    params_touch_all(p);
    return p;
}

static bool is_times(const struct graph *g, size_t i)
{
    return graph_input_numbers(g, i) == 1 && graph_input_element_bytes(g, i) == sizeof(double);
}

void graphcheck_inputs(const struct graph *g, void **inputs)
{
    for (size_t i = 0; i < graph_input_count(g); i++) {
        const size_t n = graph_batch(g) * graph_input_numbers(g, i);
        inputs[i] = gradcheck_new(2 * n); /* room for doubles, whatever real is */
        if (is_times(g, i))
            for (size_t k = 0; k < n; k++)
                ((double *)inputs[i])[k] = (double)(37 + 411 * k % 1000);
        else if (graph_input_element_bytes(g, i) == sizeof(int32_t) &&
                 sizeof(real) != sizeof(int32_t))
            for (size_t k = 0; k < n; k++)
                ((int32_t *)inputs[i])[k] = (int32_t)(k * 3 % 5);
        else
            gradcheck_fill(inputs[i], n, 7 + i, 1.5);
    }
}

static double loss(void *arg)
{
    struct run *const r = arg;
    struct err e;
    params_touch_all(r->params);
    ck_assert_msg(params_refresh(r->params, NULL, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < graph_input_count(r->graph); i++)
        graph_write(r->graph, i, r->inputs[i]);
    graph_forward(r->graph);
    graph_read(r->graph, 0, r->out);
    return gradcheck_dot(r->out, r->d_out, r->out_count);
}

/* Relative to the largest entry of the tensor, but not below a ten-thousandth of the largest of
 * all: the bias of a key projection, say, has no gradient at all but rounding. */
static double worst(struct run *r, real *values, const real *gradient, size_t n, size_t *at)
{
    double error = 0.0, size = r->scale * 1e-4;
    for (size_t i = 0; i < n; i++) {
        const real kept = values[i];
        values[i] = kept + (real)GRADCHECK_STEP;
        const double above = loss(r);
        values[i] = kept - (real)GRADCHECK_STEP;
        const double difference = (above - loss(r)) / (2.0 * GRADCHECK_STEP);
        const double d = fabs((double)gradient[i] - difference);
        values[i] = kept;
        size = fmax(size, fabs(difference));
        if (!(d <= error)) {
            error = d;
            *at = i;
        }
    }
    return error / size;
}

static void claim(struct run *r, const char *name, real *values, const real *gradient, size_t n,
                  double tolerance)
{
    size_t at = 0;
    const double error = worst(r, values, gradient, n, &at);
    ck_assert_msg(error < tolerance, "%s[%zu]: gradient %.9g, error %.3g", name, at,
                  (double)gradient[at], error);
}

static void backward(struct run *r, real *grads)
{
    loss(r);
    graph_write_grad(r->graph, 0, r->d_out);
    graph_backward(r->graph, grads);
}

/* One entry wrong by a tenth of the largest has to be seen. */
static void notices_a_wrong_gradient(struct run *r, const struct param *a, real *grads)
{
    real *const g = grads + a->grad;
    size_t at = 0;
    const real kept = g[0];
    g[0] += (real)(r->scale / 10.0);
    ck_assert_msg(worst(r, a->value, g, a->count, &at) > 1e-3, "%s: a wrong gradient passed",
                  a->name);
    g[0] = kept;
}

void graphcheck_claim(const struct graphcheck *c)
{
    struct err e;
    struct run r = {.params = graphcheck_params(c)};
    bool spoiled = false;
    if (c->frozen_prefix != NULL)
        params_set_trainable(r.params, c->frozen_prefix, "", false);
    r.graph = graph_new(r.params, c->B,
                        (struct graph_options){.mode = GRAPH_TRAIN, .adapter = c->adapter});
    c->build(r.graph, c->arg);
    ck_assert_msg(graph_plan(r.graph, &e) == 0, "%s", e.text);
    graphcheck_inputs(r.graph, r.inputs);
    r.out_count = c->B * graph_output_numbers(r.graph, 0);
    r.out = gradcheck_new(r.out_count);
    r.d_out = gradcheck_new(r.out_count);
    gradcheck_fill(r.d_out, r.out_count, 5, 1.0);
    const size_t count = params_grad_count(r.params);
    real *const once = gradcheck_new(count + 1), *const twice = gradcheck_new(count + 1);
    backward(&r, once);
    backward(&r, twice);
    backward(&r, twice);
    for (size_t i = 0; i < count; i++)
        r.scale = fmax(r.scale, fabs((double)once[i]));
    gradcheck_twice("parameter gradients", twice, once, count);
    for (int id = 0; (size_t)id < params_length(r.params); id++) {
        const struct param *const a = params_at(r.params, id);
        if (!a->trainable)
            continue;
        claim(&r, a->name, a->value, once + a->grad, a->count, c->tolerance);
        if (!spoiled)
            notices_a_wrong_gradient(&r, a, once);
        spoiled = true;
    }
    for (size_t i = 0; i < graph_input_count(r.graph); i++) {
        const size_t n = c->B * graph_input_numbers(r.graph, i);
        if (!graph_wants_grad(r.graph, i))
            continue;
        real *const d_x = gradcheck_new(n);
        memset(twice, 0, (count + 1) * sizeof *twice);
        backward(&r, twice);
        graph_read_grad(r.graph, i, d_x);
        claim(&r, "input", r.inputs[i], d_x, n, c->tolerance);
    }
    graph_free(r.graph);
    params_free(r.params);
}
