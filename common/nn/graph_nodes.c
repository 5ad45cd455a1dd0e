/* How each kind of node computes: forward, backward, what it keeps and what it reads again. */
#include "nn/graph_internal.h"

#include "nn/elem.h"
#include "nn/embed.h"
#include "nn/gemm.h"
#include "nn/resample.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

static real *data_of(const struct graph *g, int v)
{
    return v == 0 ? NULL : buffer_at(g, g->values[v].data);
}

/* The gradient of input k, or NULL where it is not wanted. */
static real *grad_in(const struct graph *g, const struct node *n, int k)
{
    return n->in[k] == 0 ? NULL : buffer_at(g, g->values[n->in[k]].grad);
}

static const real *grad_out(const struct graph *g, const struct node *n)
{
    return buffer_at(g, g->values[n->out].grad);
}

static const real *param_value(const struct graph *g, int id)
{
    return id == PARAM_NONE ? NULL : params_at(g->params, id)->value;
}

static bool trainable(const struct graph *g, int id)
{
    return id != PARAM_NONE && params_at(g->params, id)->trainable;
}

static real *param_grad(const struct graph *g, int id, real *grads)
{
    return trainable(g, id) ? grads + params_at(g->params, id)->grad : NULL;
}

static size_t plane(const struct graph *g, int v)
{
    return g->values[v].H * g->values[v].W;
}

/* The gradient of an input that is d_out itself: nothing to do where the buffer was handed on. */
static void pass_gradient(struct graph *g, const struct node *n, int k)
{
    real *const d_in = grad_in(g, n, k);
    if (d_in == NULL || n->hand_over[k])
        return;
    const size_t count = value_count_of(g, n->out);
    if (n->accumulate[k])
        elem_accumulate(d_in, grad_out(g, n), count);
    else
        memcpy(d_in, grad_out(g, n), count * sizeof(real));
}

/* ---- dense ---- */

/* Any of `count` parameters from `first` on. */
static bool any_trainable(const struct graph *g, int first, size_t count)
{
    for (size_t i = 0; first != PARAM_NONE && i < count; i++)
        if (trainable(g, first + (int)i))
            return true;
    return false;
}

static bool weight_trainable(const struct graph *g, const struct dense_node *d)
{
    return any_trainable(g, d->weight, d->parts);
}

static bool branch_trainable(const struct graph *g, const struct dense_node *d)
{
    return d->branches > 0 && (any_trainable(g, d->branch[0].a, d->branches) ||
                               any_trainable(g, d->branch[0].b, d->branches));
}

/* gemm on the path that the graph was made for. */
static void product(const struct graph *g, bool trans_a, bool trans_b, size_t M, size_t N, size_t K,
                    const real *A, size_t lda, const real *B, size_t ldb, bool accumulate, real *C,
                    size_t ldc)
{
    const real beta = accumulate ? 1 : 0;
    if (g->reference)
        gemm_blas(trans_a, trans_b, M, N, K, 1, A, lda, B, ldb, beta, C, ldc);
    else
        gemm(trans_a, trans_b, M, N, K, 1, A, lda, B, ldb, beta, C, ldc);
}

/* d_w += d_y^T x for parts that share x [rows,in]; part p owns `out` columns of d_y and parameter
 * first + p.  Neighbours whose gradients are side by side go as one product. */
static void parts_backward(struct graph *g, int first, size_t parts, size_t out, size_t in,
                           size_t rows, const real *d_y, size_t ld, const real *x, real *grads)
{
    for (size_t p = 0, n; p < parts; p += n) {
        real *const d_w = param_grad(g, first + (int)p, grads);
        n = 1;
        if (d_w == NULL)
            continue;
        while (p + n < parts && param_grad(g, first + (int)(p + n), grads) == d_w + n * out * in)
            n++;
        product(g, true, false, n * out, in, rows, d_y + p * out, ld, x, in, true, d_w, in);
    }
}

static void branch_forward(struct graph *g, const struct node *n)
{
    const struct dense_node *const d = &n->u.dense;
    const size_t rows = value_rows(g, n->in[0]), out = d->out * d->parts;
    const size_t r = d->rank, ld = d->branches * r;
    real *const y = data_of(g, n->out);
    real *const h = buffer_at(g, n->saved[0]); /* [rows, branches * rank] */
    product(g, false, true, rows, ld, d->in, data_of(g, n->in[0]), d->in,
            param_value(g, d->branch[0].a), d->in, false, h, ld);
    for (size_t b = 0; b < d->branches; b++)
        product(g, false, true, rows, d->out, r, h + b * r, ld, param_value(g, d->branch[b].b), r,
                true, y + d->branch[b].column, out);
}

static void dense_forward(struct graph *g, const struct node *n)
{
    const struct dense_node *const d = &n->u.dense;
    const size_t rows = value_rows(g, n->in[0]), out = d->out * d->parts;
    const real *const bias = param_value(g, d->bias);
    const real *const residual = data_of(g, n->in[1]);
    real *const y = data_of(g, n->out);
    if (residual != NULL && bias != NULL)
        elem_add_bias(y, residual, bias, rows, out);
    else if (residual != NULL)
        memcpy(y, residual, rows * out * sizeof(real));
    product(g, false, true, rows, out, d->in, data_of(g, n->in[0]), d->in,
            param_value(g, d->weight), d->in, residual != NULL, y, out);
    if (residual == NULL && bias != NULL)
        elem_add_bias(y, y, bias, rows, out);
    if (d->branches > 0)
        branch_forward(g, n);
}

static void branch_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct dense_node *const d = &n->u.dense;
    const size_t rows = value_rows(g, n->in[0]), out = d->out * d->parts;
    const size_t r = d->rank, ld = d->branches * r;
    const real *const d_y = grad_out(g, n);
    const real *const h = buffer_at(g, n->saved[0]);
    real *const d_h = buffer_at(g, n->work_backward);
    for (size_t b = 0; b < d->branches; b++) {
        const struct branch *const br = &d->branch[b];
        product(g, false, false, rows, r, d->out, d_y + br->column, out, param_value(g, br->b), r,
                false, d_h + b * r, ld);
        if (trainable(g, br->b))
            product(g, true, false, d->out, r, rows, d_y + br->column, out, h + b * r, ld, true,
                    param_grad(g, br->b, grads), r);
    }
    parts_backward(g, d->branch[0].a, d->branches, r, d->in, rows, d_h, ld, data_of(g, n->in[0]),
                   grads);
    real *const d_x = grad_in(g, n, 0);
    if (d_x != NULL)
        product(g, false, false, rows, d->in, ld, d_h, ld, param_value(g, d->branch[0].a), d->in,
                true, d_x, d->in);
}

/* The parts' biases are side by side like their weights; a partly frozen set is no use to anyone.
 */
static void bias_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct dense_node *const d = &n->u.dense;
    if (!any_trainable(g, d->bias, d->parts))
        return;
    real *const d_b = param_grad(g, d->bias, grads);
    for (size_t p = 1; p < d->parts; p++)
        assert(param_grad(g, d->bias + (int)p, grads) == d_b + p * d->out);
    elem_add_bias_backward(d_b, grad_out(g, n), value_rows(g, n->out), d->out * d->parts);
}

static void dense_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct dense_node *const d = &n->u.dense;
    const size_t rows = value_rows(g, n->in[0]), out = d->out * d->parts;
    const real *const d_y = grad_out(g, n);
    real *const d_x = grad_in(g, n, 0);
    if (d_x != NULL)
        product(g, false, false, rows, d->in, out, d_y, out, param_value(g, d->weight), d->in,
                n->accumulate[0], d_x, d->in);
    parts_backward(g, d->weight, d->parts, d->out, d->in, rows, d_y, out, data_of(g, n->in[0]),
                   grads);
    bias_backward(g, n, grads);
    if (d->branches > 0)
        branch_backward(g, n, grads);
    pass_gradient(g, n, 1);
}

/* ---- convolution ---- */

static const void *conv_form(const struct graph *g, const struct conv_node *c)
{
    return c->form == PARAM_NONE ? NULL : params_prepared(g->params, c->form);
}

static void conv_forward(struct graph *g, const struct node *n)
{
    const struct conv_node *const c = &n->u.conv;
    const real *const residual = data_of(g, n->in[1]);
    real *const y = data_of(g, n->out);
    conv2d_forward(&c->plan, g->B, y, data_of(g, n->in[0]), param_value(g, c->weight),
                   conv_form(g, c), param_value(g, c->bias), buffer_at(g, n->work_forward));
    if (residual != NULL)
        elem_accumulate(y, residual, value_count_of(g, n->out));
}

static void conv_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct conv_node *const c = &n->u.conv;
    conv2d_backward(&c->plan, g->B, grad_in(g, n, 0), n->accumulate[0],
                    param_grad(g, c->weight, grads), param_grad(g, c->bias, grads), grad_out(g, n),
                    data_of(g, n->in[0]), param_value(g, c->weight), conv_form(g, c),
                    buffer_at(g, n->work_backward));
    pass_gradient(g, n, 1);
}

/* What a prepared convolution weight is made with: a plan of its own, for a batch of one, which
 * outlives any graph. */
struct conv_form_state {
    struct conv2d_plan plan;
    bool backward;
};

struct conv_form_key {
    struct conv2d_shape shape;
    int backend, backward;
};

static void conv_form_fill(void *form, const real *value, const void *state)
{
    const struct conv_form_state *const s = state;
    conv2d_prepare(&s->plan, form, value, s->backward);
}

static void conv_form_drop(void *state)
{
    struct conv_form_state *const s = state;
    conv2d_plan_close(&s->plan);
    mem_free(s);
}

static enum conv2d_backend backend(const struct graph *g)
{
    return g->reference ? CONV2D_REFERENCE : CONV2D_FAST;
}

static int find_conv_form(const struct graph *g, const struct conv_node *c, bool backward,
                          struct conv_form_key *key)
{
    memset(key, 0, sizeof *key); /* padding is compared too */
    key->shape.B = 1;
    key->shape.H = c->shape.H;
    key->shape.W = c->shape.W;
    key->shape.C = c->shape.C;
    key->shape.O = c->shape.O;
    key->shape.K = c->shape.K;
    key->shape.stride = c->shape.stride;
    key->shape.pad = c->shape.pad;
    key->backend = (int)backend(g);
    key->backward = backward;
    return params_find_form(g->params, c->weight, key, sizeof *key);
}

static int open_conv_form(struct graph *g, struct conv_node *c, struct err *e)
{
    const bool backward = g->mode == GRAPH_TRAIN;
    struct conv_form_key key;
    c->form = find_conv_form(g, c, true, &key); /* the larger form serves both */
    if (c->form == PARAM_NONE && !backward)
        c->form = find_conv_form(g, c, false, &key);
    if (c->form != PARAM_NONE || conv2d_derived_bytes(&c->plan, backward) == 0)
        return 0;
    struct conv_form_state *const s = mem_new(1, sizeof *s);
    s->backward = backward;
    if (conv2d_plan_open(&s->plan, key.shape, backend(g), e) < 0) {
        mem_free(s);
        return -1;
    }
    c->form = params_add_form(g->params, c->weight, &key, sizeof key,
                              (struct param_form){conv2d_derived_bytes(&s->plan, backward),
                                                  conv_form_fill, conv_form_drop, s});
    return 0;
}

int node_open(struct graph *g, struct node *n, struct err *e)
{
    if (n->kind != NODE_CONV)
        return 0;
    struct conv_node *const c = &n->u.conv;
    if (conv2d_plan_open(&c->plan, c->shape, backend(g), e) < 0)
        return -1;
    return open_conv_form(g, c, e);
}

void node_close(struct node *n)
{
    if (n->kind == NODE_CONV)
        conv2d_plan_close(&n->u.conv.plan);
}

/* Kernels that must write a gradient nobody wants (a norm or a query below which all is frozen)
 * get a place for it behind their work memory. */
static size_t discard_offset(size_t work_bytes)
{
    return (work_bytes + MEM_ALIGN_BYTES - 1) / MEM_ALIGN_BYTES * MEM_ALIGN_BYTES;
}

static size_t with_discard(const struct graph *g, const struct node *n, size_t work_bytes)
{
    if (g->values[n->in[0]].needs_grad)
        return work_bytes;
    return discard_offset(work_bytes) + value_count_of(g, n->in[0]) * sizeof(real);
}

static real *grad_in_or_discard(const struct graph *g, const struct node *n, size_t work_bytes)
{
    real *const d_x = grad_in(g, n, 0);
    if (d_x != NULL)
        return d_x;
    void *const discard = (char *)buffer_at(g, n->work_backward) + discard_offset(work_bytes);
    return discard;
}

static size_t norm_work_bytes(const struct node *n)
{
    return n->kind == NODE_GROUP_NORM ? group_norm_backward_work_bytes(n->u.norm.shape)
                                      : layer_norm_backward_work_bytes(n->u.norm.shape.C);
}

/* ---- norms ---- */

static void norm_forward(struct graph *g, const struct node *n)
{
    const struct norm_node *const s = &n->u.norm;
    const real *const gamma = param_value(g, s->gamma), *const beta = param_value(g, s->beta);
    real *const mean = buffer_at(g, n->saved[0]), *const rstd = buffer_at(g, n->saved[1]);
    if (n->kind == NODE_GROUP_NORM)
        group_norm_forward(data_of(g, n->out), mean, rstd, data_of(g, n->in[0]), gamma, beta,
                           s->shape, s->eps, s->silu, buffer_at(g, n->work_forward));
    else
        layer_norm_forward(data_of(g, n->out), mean, rstd, data_of(g, n->in[0]), gamma, beta,
                           value_rows(g, n->out), s->shape.C, s->eps);
}

static void norm_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct norm_node *const s = &n->u.norm;
    const real *const gamma = param_value(g, s->gamma), *const beta = param_value(g, s->beta);
    const real *const mean = buffer_at(g, n->saved[0]), *const rstd = buffer_at(g, n->saved[1]);
    real *const d_gamma = param_grad(g, s->gamma, grads), *const d_beta =
                                                              param_grad(g, s->beta, grads);
    const real *const x = data_of(g, n->in[0]), *const d_y = grad_out(g, n);
    real *const d_x = grad_in_or_discard(g, n, norm_work_bytes(n));
    void *const work = buffer_at(g, n->work_backward);
    if (n->kind == NODE_GROUP_NORM)
        group_norm_backward(d_x, d_gamma, d_beta, d_y, x, gamma, beta, mean, rstd, s->shape,
                            s->silu, n->accumulate[0], work);
    else
        layer_norm_backward(d_x, d_gamma, d_beta, d_y, x, gamma, mean, rstd, value_rows(g, n->out),
                            s->shape.C, n->accumulate[0], work);
}

/* ---- attention ---- */

/* Where q, k and v lie: columns of one buffer (self), or q alone and [k | v] (cross). */
struct heads {
    real *q, *k, *v;
};

static struct heads split_heads(const struct node *n, real *first, real *second)
{
    const struct attention_shape *const s = &n->u.attention;
    const size_t C = s->heads * s->d;
    struct heads h = {first, second, NULL};
    if (n->kind == NODE_SELF_ATTENTION)
        h.k = first == NULL ? NULL : first + C;
    h.v = h.k == NULL ? NULL : h.k + C;
    return h;
}

static void attention_node_forward(struct graph *g, const struct node *n)
{
    const struct heads h = split_heads(n, data_of(g, n->in[0]), data_of(g, n->in[1]));
    attention_forward(data_of(g, n->out), buffer_at(g, n->saved[0]), h.q, h.k, h.v, n->u.attention,
                      buffer_at(g, n->work_forward));
}

static void attention_node_backward(struct graph *g, const struct node *n)
{
    const struct heads h = split_heads(n, data_of(g, n->in[0]), data_of(g, n->in[1]));
    const size_t work = attention_backward_work_bytes(n->u.attention);
    const struct heads d = split_heads(n, grad_in_or_discard(g, n, work), grad_in(g, n, 1));
    assert(!n->accumulate[0] && !n->accumulate[1]);
    attention_backward(d.q, d.k, d.v, grad_out(g, n), h.q, h.k, h.v, data_of(g, n->out),
                       buffer_at(g, n->saved[0]), n->u.attention, buffer_at(g, n->work_backward));
}

/* ---- the rest ---- */

static struct resample_shape resize_shape(const struct graph *g, const struct node *n)
{
    const struct value *const x = &g->values[n->in[0]], *const y = &g->values[n->out];
    return (struct resample_shape){g->B, x->H, x->W, x->C, y->H, y->W};
}

static void token_embed_backward(struct graph *g, const struct node *n, real *grads)
{
    const struct value *const y = &g->values[n->out];
    embed_tokens_backward(param_grad(g, n->u.token.token, grads),
                          param_grad(g, n->u.token.position, grads), grad_out(g, n),
                          buffer_at(g, g->values[n->in[0]].data), g->B, y->H, y->C,
                          n->u.token.vocabulary);
}

static void sample_bias_backward(struct graph *g, const struct node *n)
{
    const struct value *const y = &g->values[n->out];
    real *const d_bias = grad_in(g, n, 1);
    if (d_bias != NULL)
        elem_add_sample_bias_backward(d_bias, grad_out(g, n), g->B, y->H * y->W, y->C,
                                      n->accumulate[1]);
    pass_gradient(g, n, 0);
}

void node_forward(struct graph *g, const struct node *n)
{
    const real *const x = data_of(g, n->in[0]);
    real *const y = data_of(g, n->out);
    const size_t C = g->values[n->out].C, count = value_count_of(g, n->out);
    switch (n->kind) {
    case NODE_DENSE:
        dense_forward(g, n);
        break;
    case NODE_CONV:
        conv_forward(g, n);
        break;
    case NODE_GROUP_NORM:
    case NODE_LAYER_NORM:
        norm_forward(g, n);
        break;
    case NODE_ACT:
        act_forward(y, x, count, n->u.act);
        break;
    case NODE_GEGLU:
        geglu_forward(y, x, value_rows(g, n->out), C);
        break;
    case NODE_SELF_ATTENTION:
    case NODE_CROSS_ATTENTION:
        attention_node_forward(g, n);
        break;
    case NODE_ADD:
        elem_add(y, x, data_of(g, n->in[1]), count);
        break;
    case NODE_SAMPLE_BIAS:
        elem_add_sample_bias(y, x, data_of(g, n->in[1]), g->B, plane(g, n->out), C);
        break;
    case NODE_CONCAT:
        elem_concat(y, x, data_of(g, n->in[1]), value_rows(g, n->out), g->values[n->in[0]].C,
                    g->values[n->in[1]].C);
        break;
    case NODE_RESIZE:
        resample_nearest_forward(y, x, resize_shape(g, n));
        break;
    case NODE_MEAN_POOL:
        resample_mean_forward(y, x, g->B, plane(g, n->in[0]), C);
        break;
    case NODE_TIME_EMBED:
        embed_timestep(y, buffer_at(g, g->values[n->in[0]].data), g->B, n->u.time.dim,
                       n->u.time.flip, n->u.time.shift);
        break;
    case NODE_TOKEN_EMBED:
        embed_tokens_forward(y, buffer_at(g, g->values[n->in[0]].data),
                             param_value(g, n->u.token.token), param_value(g, n->u.token.position),
                             g->B, g->values[n->out].H, C, n->u.token.vocabulary);
        break;
    }
}

void node_backward(struct graph *g, const struct node *n, real *param_grads)
{
    const real *const d_y = grad_out(g, n);
    real *const d_x = grad_in(g, n, 0);
    const bool add = n->accumulate[0];
    const size_t C = g->values[n->out].C;
    switch (n->kind) {
    case NODE_DENSE:
        dense_backward(g, n, param_grads);
        break;
    case NODE_CONV:
        conv_backward(g, n, param_grads);
        break;
    case NODE_GROUP_NORM:
    case NODE_LAYER_NORM:
        norm_backward(g, n, param_grads);
        break;
    case NODE_ACT:
        act_backward(d_x, d_y, data_of(g, n->in[0]), value_count_of(g, n->out), n->u.act, add);
        break;
    case NODE_GEGLU:
        geglu_backward(d_x, d_y, data_of(g, n->in[0]), value_rows(g, n->out), C, add);
        break;
    case NODE_SELF_ATTENTION:
    case NODE_CROSS_ATTENTION:
        attention_node_backward(g, n);
        break;
    case NODE_ADD:
        pass_gradient(g, n, 0);
        pass_gradient(g, n, 1);
        break;
    case NODE_SAMPLE_BIAS:
        sample_bias_backward(g, n);
        break;
    case NODE_CONCAT:
        elem_split(d_x, grad_in(g, n, 1), d_y, value_rows(g, n->out), g->values[n->in[0]].C,
                   g->values[n->in[1]].C, add, n->accumulate[1]);
        break;
    case NODE_RESIZE:
        resample_nearest_backward(d_x, d_y, resize_shape(g, n), add);
        break;
    case NODE_MEAN_POOL:
        resample_mean_backward(d_x, d_y, g->B, plane(g, n->in[0]), C, add);
        break;
    case NODE_TIME_EMBED:
        break;
    case NODE_TOKEN_EMBED:
        token_embed_backward(g, n, param_grads);
        break;
    }
}

/* ---- what planning asks ---- */

bool node_has_trainable(const struct graph *g, const struct node *n)
{
    switch (n->kind) {
    case NODE_DENSE:
        return weight_trainable(g, &n->u.dense) ||
               any_trainable(g, n->u.dense.bias, n->u.dense.parts) ||
               branch_trainable(g, &n->u.dense);
    case NODE_CONV:
        return trainable(g, n->u.conv.weight) || trainable(g, n->u.conv.bias);
    case NODE_GROUP_NORM:
    case NODE_LAYER_NORM:
        return trainable(g, n->u.norm.gamma) || trainable(g, n->u.norm.beta);
    case NODE_TOKEN_EMBED:
        return trainable(g, n->u.token.token) || trainable(g, n->u.token.position);
    case NODE_ACT:
    case NODE_GEGLU:
    case NODE_SELF_ATTENTION:
    case NODE_CROSS_ATTENTION:
    case NODE_ADD:
    case NODE_SAMPLE_BIAS:
    case NODE_CONCAT:
    case NODE_RESIZE:
    case NODE_MEAN_POOL:
    case NODE_TIME_EMBED:
        return false;
    }
    return false;
}

unsigned node_backward_reads(const struct graph *g, const struct node *n)
{
    switch (n->kind) {
    case NODE_DENSE:
        return weight_trainable(g, &n->u.dense) || branch_trainable(g, &n->u.dense) ? 1u : 0;
    case NODE_CONV:
        return trainable(g, n->u.conv.weight) ? 1u : 0;
    case NODE_SELF_ATTENTION:
        return 1u | GRAPH_READS_OUT;
    case NODE_CROSS_ATTENTION:
        return 3u | GRAPH_READS_OUT;
    case NODE_GROUP_NORM:
    case NODE_LAYER_NORM:
    case NODE_ACT:
    case NODE_GEGLU:
    case NODE_TOKEN_EMBED:
        return 1u;
    case NODE_ADD:
    case NODE_SAMPLE_BIAS:
    case NODE_CONCAT:
    case NODE_RESIZE:
    case NODE_MEAN_POOL:
    case NODE_TIME_EMBED:
        return 0;
    }
    return 0;
}

bool node_passes_gradient(const struct node *n, int k)
{
    switch (n->kind) {
    case NODE_DENSE:
    case NODE_CONV:
        return k == 1;
    case NODE_ADD:
        return true;
    case NODE_SAMPLE_BIAS:
        return k == 0;
    case NODE_GROUP_NORM:
    case NODE_LAYER_NORM:
    case NODE_ACT:
    case NODE_GEGLU:
    case NODE_SELF_ATTENTION:
    case NODE_CROSS_ATTENTION:
    case NODE_CONCAT:
    case NODE_RESIZE:
    case NODE_MEAN_POOL:
    case NODE_TIME_EMBED:
    case NODE_TOKEN_EMBED:
        return false;
    }
    return false;
}

bool node_may_run_in_place(const struct node *n)
{
    return n->kind == NODE_SAMPLE_BIAS || n->kind == NODE_ADD || n->kind == NODE_ACT ||
           n->kind == NODE_GROUP_NORM || n->kind == NODE_LAYER_NORM;
}

struct node_memory node_memory(const struct graph *g, const struct node *n)
{
    struct node_memory m = {{0, 0}, 0, 0};
    const size_t rows = value_rows(g, n->out);
    switch (n->kind) {
    case NODE_DENSE:
        m.saved[0] = m.backward = rows * n->u.dense.branches * n->u.dense.rank * sizeof(real);
        break;
    case NODE_CONV:
        m.forward = conv2d_work_bytes(&n->u.conv.plan, false);
        m.backward = conv2d_work_bytes(&n->u.conv.plan, true);
        break;
    case NODE_GROUP_NORM:
        m.saved[0] = m.saved[1] = g->B * n->u.norm.shape.G * sizeof(real);
        m.forward = group_norm_forward_work_bytes(n->u.norm.shape);
        m.backward = with_discard(g, n, norm_work_bytes(n));
        break;
    case NODE_LAYER_NORM:
        m.saved[0] = m.saved[1] = rows * sizeof(real);
        m.backward = with_discard(g, n, norm_work_bytes(n));
        break;
    case NODE_SELF_ATTENTION:
    case NODE_CROSS_ATTENTION:
        m.saved[0] =
            n->runs_backward ? g->B * n->u.attention.heads * n->u.attention.Lq * sizeof(real) : 0;
        m.forward = attention_forward_work_bytes(n->u.attention);
        m.backward = with_discard(g, n, attention_backward_work_bytes(n->u.attention));
        break;
    case NODE_ACT:
    case NODE_GEGLU:
    case NODE_ADD:
    case NODE_SAMPLE_BIAS:
    case NODE_CONCAT:
    case NODE_RESIZE:
    case NODE_MEAN_POOL:
    case NODE_TIME_EMBED:
    case NODE_TOKEN_EMBED:
        break;
    }
    return m;
}
