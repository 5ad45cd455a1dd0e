/* The builder functions of graph.h: shapes are checked here, parameters named and registered. */
#include "nn/graph_internal.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The id of scope + name + suffix: found in a sealed registry, registered in an open one. */
static int parameter(struct graph *g, const char *name, const char *suffix, int dims,
                     const int64_t *dim, bool tight, struct param_init init)
{
    char full[PARAM_NAME_BYTES_MAX];
    const int n = snprintf(full, sizeof full, "%s%s%s", g->scope, name, suffix);
    assert(n > 0 && (size_t)n < sizeof full);
    if (g->mode != GRAPH_DECLARE) {
        const int id = params_find(g->params, full);
        assert(id != PARAM_NONE && params_at(g->params, id)->dims == dims &&
               memcmp(params_at(g->params, id)->dim, dim, (size_t)dims * sizeof *dim) == 0);
        return id;
    }
    return params_add(g->params, full, dims, dim, tight, init);
}

static int vector(struct graph *g, const char *name, const char *suffix, size_t count, bool tight,
                  struct param_init init)
{
    return parameter(g, name, suffix, 1, (const int64_t[]){(int64_t)count}, tight, init);
}

/* PyTorch's kaiming_uniform(a = sqrt 5) of linear and convolution layers comes to this bound, for
 * the weight and for the bias. */
static struct param_init uniform(size_t fan_in)
{
    return (struct param_init){PARAM_INIT_UNIFORM, 1.0 / sqrt((double)fan_in)};
}

static bool same_shape(const struct graph *g, int a, int b)
{
    const struct value *const x = &g->values[a], *const y = &g->values[b];
    return x->H == y->H && x->W == y->W && x->C == y->C;
}

static bool selected(const struct graph *g, const char *name)
{
    char full[PARAM_NAME_BYTES_MAX];
    if (g->adapter.rank == 0)
        return false;
    const int n = snprintf(full, sizeof full, "%s%s", g->scope, name);
    assert(n > 0 && (size_t)n < sizeof full);
    return g->adapter.selects(full);
}

static void add_branches(struct graph *g, struct dense_node *d, const char *const *names)
{
    const int64_t rank = (int64_t)g->adapter.rank;
    const struct param_init gaussian = {PARAM_INIT_NORMAL, 1.0 / (double)rank};
    const struct param_init zero = {PARAM_INIT_ZERO, 0.0};
    const char *chosen[GRAPH_PARTS_MAX];
    d->rank = g->adapter.rank;
    for (size_t p = 0; p < d->parts; p++)
        if (selected(g, names[p])) {
            d->branch[d->branches].column = p * d->out;
            chosen[d->branches++] = names[p];
        }
    for (size_t b = 0; b < d->branches; b++)
        d->branch[b].a = parameter(g, chosen[b], ".lora_A.weight", 2,
                                   (const int64_t[]){rank, (int64_t)d->in}, b > 0, gaussian);
    for (size_t b = 1; b < d->branches; b++)
        assert(d->branch[b].a == d->branch[0].a + (int)b);
    for (size_t b = 0; b < d->branches; b++)
        d->branch[b].b = parameter(g, chosen[b], ".lora_B.weight", 2,
                                   (const int64_t[]){(int64_t)d->out, rank}, b > 0, zero);
}

int graph_dense_parts(struct graph *g, int x, const char *const *names, size_t parts,
                      struct graph_dense o)
{
    assert(parts >= 1 && parts <= GRAPH_PARTS_MAX && o.residual != x);
    const struct value v = g->values[x];
    const int64_t dim[4] = {(int64_t)o.out, (int64_t)v.C, 1, 1};
    struct dense_node d = {.in = v.C, .out = o.out, .parts = parts, .bias = PARAM_NONE};
    for (size_t p = 0; p < parts; p++) {
        const int id =
            parameter(g, names[p], ".weight", o.kernel_dims ? 4 : 2, dim, p > 0, uniform(v.C));
        d.weight = p == 0 ? id : d.weight;
        assert(id == d.weight + (int)p);
    }
    for (size_t p = 0; o.bias && p < parts; p++) {
        const int id = vector(g, names[p], ".bias", o.out, p > 0, uniform(v.C));
        d.bias = p == 0 ? id : d.bias;
        assert(id == d.bias + (int)p);
    }
    if (g->adapter.rank > 0)
        add_branches(g, &d, names);
    const int y = graph_add_value(g, v.H, v.W, o.out * parts);
    assert(o.residual == 0 || same_shape(g, y, o.residual));
    graph_add_node(g, NODE_DENSE, x, o.residual, 0, y)->u.dense = d;
    return y;
}

int graph_dense(struct graph *g, int x, const char *name, struct graph_dense o)
{
    return graph_dense_parts(g, x, &name, 1, o);
}

int graph_conv(struct graph *g, int x, const char *name, struct graph_conv o)
{
    const struct value v = g->values[x];
    assert(o.residual != x && o.kernel > 0 && o.stride > 0);
    const size_t pad = o.kernel / 2 * (o.pad_end_only ? 1 : 2);
    const struct conv2d_shape s = {.B = g->B,
                                   .H = v.H,
                                   .W = v.W,
                                   .C = v.C,
                                   .O = o.out,
                                   .K = o.kernel,
                                   .stride = o.stride,
                                   .pad =
                                       o.pad_end_only ? CONV2D_PAD_BOTTOM_RIGHT : CONV2D_PAD_SAME};
    const struct param_init init = uniform(v.C * o.kernel * o.kernel);
    const int64_t k = (int64_t)o.kernel;
    const int weight = parameter(
        g, name, ".weight", 4, (const int64_t[]){(int64_t)o.out, (int64_t)v.C, k, k}, false, init);
    const int bias = vector(g, name, ".bias", o.out, false, init);
    const int y = graph_add_value(g, (v.H + pad - o.kernel) / o.stride + 1,
                                  (v.W + pad - o.kernel) / o.stride + 1, o.out);
    assert(o.residual == 0 || same_shape(g, y, o.residual));
    graph_add_node(g, NODE_CONV, x, o.residual, 0, y)->u.conv =
        (struct conv_node){.shape = s, .weight = weight, .bias = bias, .form = PARAM_NONE};
    return y;
}

static int norm(struct graph *g, enum node_kind kind, int x, const char *name,
                struct norm_node settings)
{
    const struct value v = g->values[x];
    settings.gamma =
        vector(g, name, ".weight", v.C, false, (struct param_init){PARAM_INIT_ONE, 0.0});
    settings.beta = vector(g, name, ".bias", v.C, false, (struct param_init){PARAM_INIT_ZERO, 0.0});
    const int y = graph_add_value(g, v.H, v.W, v.C);
    graph_add_node(g, kind, x, 0, 0, y)->u.norm = settings;
    return y;
}

int graph_group_norm(struct graph *g, int x, const char *name, size_t groups, double eps, bool silu)
{
    const struct value v = g->values[x];
    assert(groups > 0 && v.C % groups == 0);
    return norm(
        g, NODE_GROUP_NORM, x, name,
        (struct norm_node){.shape = {g->B, v.H * v.W, v.C, groups}, .eps = eps, .silu = silu});
}

int graph_layer_norm(struct graph *g, int x, const char *name, double eps)
{
    const struct value v = g->values[x];
    return norm(g, NODE_LAYER_NORM, x, name,
                (struct norm_node){.shape = {g->B, v.H * v.W, v.C, 1}, .eps = eps});
}

int graph_act(struct graph *g, int x, enum act kind)
{
    const struct value v = g->values[x];
    const int y = graph_add_value(g, v.H, v.W, v.C);
    graph_add_node(g, NODE_ACT, x, 0, 0, y)->u.act = kind;
    return y;
}

int graph_geglu(struct graph *g, int x)
{
    const struct value v = g->values[x];
    assert(v.C % 2 == 0);
    const int y = graph_add_value(g, v.H, v.W, v.C / 2);
    graph_add_node(g, NODE_GEGLU, x, 0, 0, y);
    return y;
}

int graph_self_attention(struct graph *g, int qkv, size_t heads, bool causal)
{
    const struct value v = g->values[qkv];
    assert(heads > 0 && v.C % (3 * heads) == 0);
    const size_t C = v.C / 3, L = v.H * v.W, d = C / heads;
    const int y = graph_add_value(g, v.H, v.W, C);
    graph_add_node(g, NODE_SELF_ATTENTION, qkv, 0, 0, y)->u.attention =
        (struct attention_shape){.B = g->B,
                                 .heads = heads,
                                 .Lq = L,
                                 .Lk = L,
                                 .d = d,
                                 .q_stride = 3 * C,
                                 .k_stride = 3 * C,
                                 .v_stride = 3 * C,
                                 .y_stride = C,
                                 .scale = 1.0 / sqrt((double)d),
                                 .causal = causal};
    return y;
}

int graph_cross_attention(struct graph *g, int q, int kv, size_t heads)
{
    const struct value a = g->values[q], b = g->values[kv];
    assert(heads > 0 && a.C % heads == 0 && b.C == 2 * a.C);
    const size_t d = a.C / heads;
    const int y = graph_add_value(g, a.H, a.W, a.C);
    graph_add_node(g, NODE_CROSS_ATTENTION, q, kv, 0, y)->u.attention =
        (struct attention_shape){.B = g->B,
                                 .heads = heads,
                                 .Lq = a.H * a.W,
                                 .Lk = b.H * b.W,
                                 .d = d,
                                 .q_stride = a.C,
                                 .k_stride = b.C,
                                 .v_stride = b.C,
                                 .y_stride = a.C,
                                 .scale = 1.0 / sqrt((double)d)};
    return y;
}

int graph_add(struct graph *g, int a, int b)
{
    assert(a != b && same_shape(g, a, b));
    const struct value v = g->values[a];
    const int y = graph_add_value(g, v.H, v.W, v.C);
    graph_add_node(g, NODE_ADD, a, b, 0, y);
    return y;
}

int graph_add_sample_bias(struct graph *g, int x, int bias)
{
    const struct value v = g->values[x], b = g->values[bias];
    assert(b.H == 1 && b.W == 1 && b.C == v.C);
    const int y = graph_add_value(g, v.H, v.W, v.C);
    graph_add_node(g, NODE_SAMPLE_BIAS, x, bias, 0, y);
    return y;
}

int graph_concat(struct graph *g, int a, int b)
{
    const struct value v = g->values[a], w = g->values[b];
    assert(a != b && v.H == w.H && v.W == w.W);
    const int y = graph_add_value(g, v.H, v.W, v.C + w.C);
    graph_add_node(g, NODE_CONCAT, a, b, 0, y);
    return y;
}

int graph_resize(struct graph *g, int x, size_t H, size_t W)
{
    const int y = graph_add_value(g, H, W, g->values[x].C);
    graph_add_node(g, NODE_RESIZE, x, 0, 0, y);
    return y;
}

int graph_mean_pool(struct graph *g, int x)
{
    const int y = graph_add_value(g, 1, 1, g->values[x].C);
    graph_add_node(g, NODE_MEAN_POOL, x, 0, 0, y);
    return y;
}

int graph_time_embed(struct graph *g, int times, size_t dim, bool flip_sin_to_cos,
                     double freq_shift)
{
    assert(g->values[times].element_bytes == sizeof(double));
    const int y = graph_add_value(g, 1, 1, dim);
    struct node *const n = graph_add_node(g, NODE_TIME_EMBED, times, 0, 0, y);
    n->u.time.dim = dim;
    n->u.time.flip = flip_sin_to_cos;
    n->u.time.shift = freq_shift;
    return y;
}

int graph_token_embed(struct graph *g, int ids, const char *token, const char *position,
                      size_t positions, size_t C)
{
    const struct value v = g->values[ids];
    assert(v.vocabulary > 0 && v.H <= positions);
    const struct param_init init = {PARAM_INIT_NORMAL, 0.02}; /* CLIP's own */
    const int64_t token_dim[2] = {(int64_t)v.vocabulary, (int64_t)C};
    const int64_t position_dim[2] = {(int64_t)positions, (int64_t)C};
    const int token_id = parameter(g, token, ".weight", 2, token_dim, false, init);
    const int position_id = parameter(g, position, ".weight", 2, position_dim, false, init);
    const int y = graph_add_value(g, v.H, v.W, C);
    struct node *const n = graph_add_node(g, NODE_TOKEN_EMBED, ids, 0, 0, y);
    n->u.token.token = token_id;
    n->u.token.position = position_id;
    n->u.token.vocabulary = v.vocabulary;
    return y;
}
