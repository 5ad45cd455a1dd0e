#include "diffusion/unet_block.h"

#define TRANSFORMER_GROUP_NORM_EPS 1e-6 /* Transformer2DModel; not the model's norm_eps */
#define LAYER_NORM_EPS 1e-5

int resnet_block(struct graph *g, int x, struct resnet_options o)
{
    int h = graph_group_norm(g, x, "norm1", o.groups, o.eps, true);
    h = graph_conv(g, h, "conv1", (struct graph_conv){.out = o.out, .kernel = 3, .stride = 1});
    if (o.time != 0) {
        const int t = graph_dense(g, o.time, "time_emb_proj",
                                  (struct graph_dense){.out = o.out, .bias = true});
        h = graph_add_sample_bias(g, h, t);
    }
    h = graph_group_norm(g, h, "norm2", o.groups, o.eps, true);
    int shortcut = x;
    if (graph_channels(g, x) != o.out)
        shortcut =
            graph_dense(g, x, "conv_shortcut",
                        (struct graph_dense){.out = o.out, .bias = true, .kernel_dims = true});
    return graph_conv(
        g, h, "conv2",
        (struct graph_conv){.out = o.out, .kernel = 3, .stride = 1, .residual = shortcut});
}

/* h + to_out(attention(norm(h), context or itself)) */
static int attention_layer(struct graph *g, int h, int n, int context, const char *name,
                           size_t heads)
{
    static const char *const self[] = {"to_q", "to_k", "to_v"};
    const struct graph_dense plain = {.out = graph_channels(g, h)};
    int a;
    graph_enter(g, "%s", name);
    if (context == 0) {
        a = graph_self_attention(g, graph_dense_parts(g, n, self, 3, plain), heads, false);
    } else {
        const int q = graph_dense(g, n, "to_q", plain);
        const int kv = graph_dense_parts(g, context, self + 1, 2, plain);
        a = graph_cross_attention(g, q, kv, heads);
    }
    const int y = graph_dense(g, a, "to_out.0",
                              (struct graph_dense){.out = plain.out, .bias = true, .residual = h});
    graph_leave(g);
    return y;
}

static int block(struct graph *g, int h, int context, size_t heads)
{
    const size_t C = graph_channels(g, h);
    int n = graph_layer_norm(g, h, "norm1", LAYER_NORM_EPS);
    h = attention_layer(g, h, n, 0, "attn1", heads);
    n = graph_layer_norm(g, h, "norm2", LAYER_NORM_EPS);
    h = attention_layer(g, h, n, context, "attn2", heads);
    n = graph_layer_norm(g, h, "norm3", LAYER_NORM_EPS);
    n = graph_dense(g, n, "ff.net.0.proj", (struct graph_dense){.out = 8 * C, .bias = true});
    n = graph_geglu(g, n);
    return graph_dense(g, n, "ff.net.2",
                       (struct graph_dense){.out = C, .bias = true, .residual = h});
}

int transformer_block(struct graph *g, int x, int context, struct transformer_options o)
{
    const struct graph_dense project = {
        .out = graph_channels(g, x), .bias = true, .kernel_dims = !o.linear_projection};
    int h = graph_group_norm(g, x, "norm", o.groups, TRANSFORMER_GROUP_NORM_EPS, false);
    h = graph_dense(g, h, "proj_in", project);
    for (size_t i = 0; i < o.depth; i++) {
        graph_enter(g, "transformer_blocks.%zu", i);
        h = block(g, h, context, o.heads);
        graph_leave(g);
    }
    struct graph_dense last = project;
    last.residual = x;
    return graph_dense(g, h, "proj_out", last);
}
