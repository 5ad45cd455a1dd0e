#include "nn/graph.h"

#include "nn/graph_internal.h"

#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct graph *graph_new(struct params *p, size_t B, struct graph_options o)
{
    assert(B > 0);
    struct graph *const g = mem_new(1, sizeof *g);
    g->params = p;
    g->B = B;
    g->mode = o.mode;
    g->reference = o.reference;
    g->adapter = o.adapter;
    g->value_count = g->value_room = 1;
    g->values = mem_new(1, sizeof *g->values);
    return g;
}

void graph_free(struct graph *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->node_count; i++)
        node_close(&g->nodes[i]);
    mem_free(g->slab);
    mem_free(g->inputs);
    mem_free(g->outputs);
    mem_free(g->buffers);
    mem_free(g->nodes);
    mem_free(g->values);
    mem_free(g);
}

size_t graph_batch(const struct graph *g)
{
    return g->B;
}

void graph_enter(struct graph *g, const char *fmt, ...)
{
    assert(g->depth < GRAPH_NAME_DEPTH_MAX);
    const size_t end = strlen(g->scope);
    g->scope_end[g->depth++] = end;
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(g->scope + end, sizeof g->scope - end, fmt, ap);
    va_end(ap);
    assert(n >= 0 && end + (size_t)n + 1 < sizeof g->scope);
    g->scope[end + (size_t)n] = '.';
    g->scope[end + (size_t)n + 1] = '\0';
}

void graph_leave(struct graph *g)
{
    assert(g->depth > 0);
    g->scope[g->scope_end[--g->depth]] = '\0';
}

size_t graph_height(const struct graph *g, int value)
{
    return g->values[value].H;
}

size_t graph_width(const struct graph *g, int value)
{
    return g->values[value].W;
}

size_t graph_channels(const struct graph *g, int value)
{
    return g->values[value].C;
}

int graph_add_value(struct graph *g, size_t H, size_t W, size_t C)
{
    assert(!g->planned && H > 0 && W > 0 && C > 0);
    if (g->value_count == g->value_room) {
        g->value_room *= 2;
        g->values = mem_grow(g->values, g->value_room, sizeof *g->values);
    }
    g->values[g->value_count] = (struct value){.H = H,
                                               .W = W,
                                               .C = C,
                                               .node = -1,
                                               .data = NO_BUFFER,
                                               .grad = NO_BUFFER,
                                               .element_bytes = sizeof(real)};
    return (int)g->value_count++;
}

struct node *graph_add_node(struct graph *g, enum node_kind kind, int in0, int in1, int in2,
                            int out)
{
    if (g->node_count == g->node_room) {
        g->node_room = g->node_room == 0 ? 64 : 2 * g->node_room;
        g->nodes = mem_grow(g->nodes, g->node_room, sizeof *g->nodes);
    }
    struct node *const n = &g->nodes[g->node_count];
    *n = (struct node){.kind = kind,
                       .in = {in0, in1, in2},
                       .out = out,
                       .saved = {NO_BUFFER, NO_BUFFER},
                       .work_forward = NO_BUFFER,
                       .work_backward = NO_BUFFER};
    g->values[out].node = (int)g->node_count++;
    return n;
}

static int add_port(struct graph *g, struct port **ports, size_t *count, int value, unsigned flags)
{
    assert(!g->planned && value > 0);
    *ports = mem_grow(*ports, *count + 1, sizeof **ports);
    (*ports)[(*count)++] = (struct port){value, flags};
    return value;
}

int graph_input(struct graph *g, size_t H, size_t W, size_t C, unsigned flags)
{
    const int v = graph_add_value(g, H, W, C);
    g->values[v].needs_grad = g->mode == GRAPH_TRAIN && (flags & GRAPH_GRAD) != 0;
    g->values[v].steady = g->mode == GRAPH_INFER && (flags & GRAPH_STEADY) != 0;
    return add_port(g, &g->inputs, &g->input_count, v, flags);
}

int graph_input_ids(struct graph *g, size_t L, size_t vocabulary)
{
    const int v = graph_add_value(g, L, 1, 1);
    g->values[v].element_bytes = sizeof(int32_t);
    g->values[v].vocabulary = vocabulary;
    assert(vocabulary > 0 && vocabulary <= INT32_MAX);
    return add_port(g, &g->inputs, &g->input_count, v, 0);
}

int graph_input_times(struct graph *g)
{
    const int v = graph_add_value(g, 1, 1, 1);
    g->values[v].element_bytes = sizeof(double);
    return add_port(g, &g->inputs, &g->input_count, v, 0);
}

void graph_output(struct graph *g, int value, unsigned flags)
{
    g->values[value].is_output = true;
    add_port(g, &g->outputs, &g->output_count, value, flags);
}

/* ---- planning: steps are 0 (inputs written), 1..n (forward), n+1 (d_outputs written), n+2..2n+1
 * (backward, last node first), 2n+2 (d_inputs read) ---- */

static int step_forward(size_t node)
{
    return (int)node + 1;
}

static int step_outputs(const struct graph *g)
{
    return (int)g->node_count + 1;
}

static int step_backward(const struct graph *g, size_t node)
{
    return (int)(2 * g->node_count + 1 - node);
}

static int step_last(const struct graph *g)
{
    return g->mode == GRAPH_TRAIN ? (int)(2 * g->node_count + 2) : step_outputs(g);
}

static int new_buffer(struct graph *g, size_t bytes, int start, int end)
{
    if (bytes == 0)
        return NO_BUFFER;
    if (g->buffer_count == g->buffer_room) {
        g->buffer_room = g->buffer_room == 0 ? 256 : 2 * g->buffer_room;
        g->buffers = mem_grow(g->buffers, g->buffer_room, sizeof *g->buffers);
    }
    bytes = (bytes + MEM_ALIGN_BYTES - 1) / MEM_ALIGN_BYTES * MEM_ALIGN_BYTES;
    g->buffers[g->buffer_count] = (struct buffer){bytes, start, end, 0, NULL};
    return (int)g->buffer_count++;
}

static void live_until(struct graph *g, int buffer, int step)
{
    if (g->buffers[buffer].end < step)
        g->buffers[buffer].end = step;
}

/* Which values and nodes carry gradients, and which are steady. */
static void mark_nodes(struct graph *g)
{
    for (size_t i = 0; i < g->node_count; i++) {
        struct node *const n = &g->nodes[i];
        bool needs = g->mode == GRAPH_TRAIN && node_has_trainable(g, n);
        bool steady = g->mode == GRAPH_INFER;
        for (int k = 0; k < NODE_INPUTS_MAX; k++)
            if (n->in[k] != 0) {
                needs |= g->values[n->in[k]].needs_grad;
                steady &= g->values[n->in[k]].steady;
            }
        n->runs_backward = needs;
        n->steady = g->values[n->out].steady = steady;
        g->values[n->out].needs_grad = needs;
    }
}

/* The last step at which value v is read. */
static int last_read(const struct graph *g, int v)
{
    int last = g->values[v].is_output || g->values[v].steady ? step_last(g) : 0;
    for (size_t i = 0; i < g->node_count; i++) {
        const struct node *const n = &g->nodes[i];
        const unsigned reads = n->runs_backward ? node_backward_reads(g, n) : 0;
        for (int k = 0; k < NODE_INPUTS_MAX; k++)
            if (n->in[k] == v) {
                const int step = reads >> k & 1u ? step_backward(g, i) : step_forward(i);
                last = step > last ? step : last;
            }
        if (n->out == v && (reads & GRAPH_READS_OUT) != 0 && step_backward(g, i) > last)
            last = step_backward(g, i);
    }
    return last;
}

static void plan_data(struct graph *g)
{
    for (size_t i = 0; i < g->input_count; i++) {
        struct value *const v = &g->values[g->inputs[i].value];
        v->data = new_buffer(g, v->H * v->W * v->C * g->B * v->element_bytes, 0,
                             last_read(g, g->inputs[i].value));
    }
    for (size_t i = 0; i < g->node_count; i++) {
        struct node *const n = &g->nodes[i];
        struct value *const out = &g->values[n->out];
        const int last = last_read(g, n->out);
        const int now = step_forward(i);
        /* a value that nobody reads is still written */
        const int end = last > now ? last : now;
        const struct value *const in = &g->values[n->in[0]];
        n->in_place = node_may_run_in_place(n) && in->node >= 0 && !in->is_output &&
                      last_read(g, n->in[0]) == now && n->in[1] != n->in[0];
        if (n->in_place) {
            out->data = in->data;
            live_until(g, out->data, end);
        } else {
            /* steady values outlive the pass: nothing may lie there before them either */
            out->data =
                new_buffer(g, value_count_of(g, n->out) * sizeof(real), n->steady ? 0 : now, end);
        }
        const struct node_memory m = node_memory(g, n);
        const int kept = n->runs_backward ? step_backward(g, i) : now;
        for (int k = 0; k < 2; k++)
            n->saved[k] = new_buffer(g, m.saved[k], now, kept);
        n->work_forward = new_buffer(g, m.forward, now, now);
    }
}

/* Walks the backward pass: who writes each gradient first, who adds, whose buffer is handed on. */
static void plan_gradients(struct graph *g)
{
    for (size_t i = 0; i < g->output_count; i++) {
        struct value *const v = &g->values[g->outputs[i].value];
        if (v->needs_grad && v->grad == NO_BUFFER)
            v->grad = new_buffer(g, value_count_of(g, g->outputs[i].value) * sizeof(real),
                                 step_outputs(g), step_outputs(g));
    }
    for (size_t i = g->node_count; i-- > 0;) {
        struct node *const n = &g->nodes[i];
        const int d_out = g->values[n->out].grad;
        n->runs_backward &= d_out != NO_BUFFER;
        if (!n->runs_backward)
            continue;
        const int now = step_backward(g, i);
        live_until(g, d_out, now);
        bool handed = false;
        for (int k = 0; k < NODE_INPUTS_MAX; k++) {
            struct value *const in = &g->values[n->in[k]];
            if (n->in[k] == 0 || !in->needs_grad)
                continue;
            n->accumulate[k] = in->grad != NO_BUFFER;
            if (n->accumulate[k]) {
                live_until(g, in->grad, now);
            } else if (!handed && node_passes_gradient(n, k)) {
                n->hand_over[k] = handed = true;
                in->grad = d_out;
            } else {
                in->grad = new_buffer(g, value_count_of(g, n->in[k]) * sizeof(real), now, now);
            }
        }
        n->work_backward = new_buffer(g, node_memory(g, n).backward, now, now);
    }
    for (size_t i = 0; i < g->input_count; i++)
        if (g->values[g->inputs[i].value].grad != NO_BUFFER)
            live_until(g, g->values[g->inputs[i].value].grad, step_last(g));
}

static int larger_first(const void *a, const void *b)
{
    const struct buffer *const x = *(const struct buffer *const *)a;
    const struct buffer *const y = *(const struct buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : 1;
}

static int lower_first(const void *a, const void *b)
{
    const struct buffer *const x = *(const struct buffer *const *)a;
    const struct buffer *const y = *(const struct buffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Largest first, each at the lowest offset where no buffer alive at the same time lies. */
static void place_buffers(struct graph *g)
{
    const size_t count = g->buffer_count;
    struct buffer **const order = mem_new(count, sizeof *order);
    struct buffer **const near = mem_new(count, sizeof *near);
    for (size_t i = 0; i < count; i++)
        order[i] = &g->buffers[i];
    qsort(order, count, sizeof *order, larger_first);
    for (size_t i = 0; i < count; i++) {
        struct buffer *const b = order[i];
        size_t n = 0;
        for (size_t j = 0; j < i; j++)
            if (order[j]->start <= b->end && b->start <= order[j]->end)
                near[n++] = order[j];
        qsort(near, n, sizeof *near, lower_first);
        size_t at = 0;
        for (size_t j = 0; j < n; j++) {
            if (near[j]->offset >= at + b->bytes)
                break;
            if (near[j]->offset + near[j]->bytes > at)
                at = near[j]->offset + near[j]->bytes;
        }
        b->offset = at;
        if (at + b->bytes > g->bytes)
            g->bytes = at + b->bytes;
    }
    mem_free(order);
    mem_free(near);
}

int graph_measure(struct graph *g, struct err *e)
{
    assert(!g->planned && g->mode != GRAPH_DECLARE && g->depth == 0);
    mark_nodes(g);
    for (size_t i = 0; i < g->node_count; i++)
        if (node_open(g, &g->nodes[i], e) < 0)
            return -1;
    plan_data(g);
    if (g->mode == GRAPH_TRAIN)
        plan_gradients(g);
    place_buffers(g);
    return 0;
}

int graph_plan(struct graph *g, struct err *e)
{
    if (graph_measure(g, e) < 0)
        return -1;
    g->slab = mem_slab(g->bytes, "activations", e);
    if (g->slab == NULL)
        return -1;
    for (size_t i = 0; i < g->buffer_count; i++)
        g->buffers[i].at = g->slab + g->buffers[i].offset;
    g->steady_fresh = true;
    g->planned = true;
    return 0;
}

size_t graph_bytes(const struct graph *g)
{
    return g->bytes;
}

size_t graph_input_count(const struct graph *g)
{
    return g->input_count;
}

size_t graph_output_count(const struct graph *g)
{
    return g->output_count;
}

static size_t numbers(const struct graph *g, const struct port *p)
{
    return value_count_of(g, p->value) / g->B;
}

size_t graph_input_numbers(const struct graph *g, size_t i)
{
    assert(i < g->input_count);
    return numbers(g, &g->inputs[i]);
}

size_t graph_output_numbers(const struct graph *g, size_t i)
{
    assert(i < g->output_count);
    return numbers(g, &g->outputs[i]);
}

size_t graph_input_element_bytes(const struct graph *g, size_t i)
{
    assert(i < g->input_count);
    return g->values[g->inputs[i].value].element_bytes;
}

bool graph_wants_grad(const struct graph *g, size_t i)
{
    assert(i < g->input_count);
    return g->values[g->inputs[i].value].grad != NO_BUFFER;
}

/* ---- running ---- */

/* dst [B,HW,C] = src [B,C,HW] */
static void interleave(real *dst, const real *src, size_t B, size_t HW, size_t C)
{
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < HW; i++)
                dst[(b * HW + i) * C + c] = src[(b * C + c) * HW + i];
}

/* dst [B,C,HW] = src [B,HW,C] */
static void deinterleave(real *dst, const real *src, size_t B, size_t HW, size_t C)
{
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < HW; i++)
                dst[(b * C + c) * HW + i] = src[(b * HW + i) * C + c];
}

static void take_in(const struct graph *g, const struct port *p, real *dst, const real *src)
{
    const struct value *const v = &g->values[p->value];
    if (p->flags & GRAPH_PLANAR)
        interleave(dst, src, g->B, v->H * v->W, v->C);
    else
        memcpy(dst, src, value_count_of(g, p->value) * sizeof(real));
}

static void give_out(const struct graph *g, const struct port *p, real *dst, const real *src)
{
    const struct value *const v = &g->values[p->value];
    if (p->flags & GRAPH_PLANAR)
        deinterleave(dst, src, g->B, v->H * v->W, v->C);
    else
        memcpy(dst, src, value_count_of(g, p->value) * sizeof(real));
}

void graph_write(struct graph *g, size_t i, const void *src)
{
    assert(g->planned && i < g->input_count);
    const struct port *const p = &g->inputs[i];
    const struct value *const v = &g->values[p->value];
    void *const dst = buffer_at(g, v->data);
    const size_t bytes = value_count_of(g, p->value) * v->element_bytes;
    if (v->element_bytes != sizeof(real) || (p->flags & GRAPH_PLANAR) == 0) {
        if (v->steady && memcmp(dst, src, bytes) == 0)
            return;
        memcpy(dst, src, bytes);
    } else {
        take_in(g, p, dst, src);
    }
    g->steady_fresh |= v->steady;
}

void graph_read(const struct graph *g, size_t i, real *dst)
{
    assert(g->planned && i < g->output_count);
    give_out(g, &g->outputs[i], dst, buffer_at(g, g->values[g->outputs[i].value].data));
}

void graph_forward(struct graph *g)
{
    assert(g->planned);
    const bool again = g->steady_fresh || g->steady_version != params_version(g->params);
    for (size_t i = 0; i < g->node_count; i++)
        if (again || !g->nodes[i].steady)
            node_forward(g, &g->nodes[i]);
    g->steady_fresh = false;
    g->steady_version = params_version(g->params);
}

void graph_write_grad(struct graph *g, size_t output, const real *d_output)
{
    assert(g->planned && g->mode == GRAPH_TRAIN && output < g->output_count);
    const struct port *const p = &g->outputs[output];
    real *const dst = buffer_at(g, g->values[p->value].grad);
    if (dst != NULL)
        take_in(g, p, dst, d_output);
}

void graph_backward(struct graph *g, real *param_grads)
{
    assert(g->planned && g->mode == GRAPH_TRAIN);
    for (size_t i = g->node_count; i-- > 0;)
        if (g->nodes[i].runs_backward)
            node_backward(g, &g->nodes[i], param_grads);
}

void graph_read_grad(const struct graph *g, size_t input, real *d_input)
{
    assert(g->planned && input < g->input_count);
    const struct port *const p = &g->inputs[input];
    const real *const src = buffer_at(g, g->values[p->value].grad);
    assert(src != NULL);
    give_out(g, p, d_input, src);
}
