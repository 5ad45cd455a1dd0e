#include "diffusion/unet.h"

#include "diffusion/unet_block.h"

#include <assert.h>

#define SKIPS_MAX (UNET_LEVELS_MAX * (UNET_LAYERS_MAX + 1) + 1)

struct skips {
    int at[SKIPS_MAX];
    size_t count;
};

static void push(struct skips *s, int value)
{
    assert(s->count < SKIPS_MAX);
    s->at[s->count++] = value;
}

static struct resnet_options resnet(const struct unet_config *c, size_t out, int time)
{
    return (struct resnet_options){out, c->norm_groups, c->norm_eps, time};
}

static struct transformer_options transformer(const struct unet_config *c, size_t level)
{
    return (struct transformer_options){c->heads[level], c->norm_groups, c->linear_projection,
                                        c->depth[level]};
}

static int in_block(struct graph *g, const char *kind, size_t i, int x, struct resnet_options o)
{
    graph_enter(g, "%s.%zu", kind, i);
    const int y = resnet_block(g, x, o);
    graph_leave(g);
    return y;
}

static int in_transformer(struct graph *g, size_t i, int x, int context,
                          struct transformer_options o)
{
    graph_enter(g, "attentions.%zu", i);
    const int y = transformer_block(g, x, context, o);
    graph_leave(g);
    return y;
}

/* silu(time embedding): each resnet applies the silu first, so it is taken once here. */
static int time_embedding(struct graph *g, const struct unet_config *c, int times)
{
    const size_t width = 4 * c->channels[0];
    const struct graph_dense o = {.out = width, .bias = true};
    int t = graph_time_embed(g, times, c->channels[0], c->flip_sin_to_cos, c->freq_shift);
    graph_enter(g, "time_embedding");
    t = graph_act(g, graph_dense(g, t, "linear_1", o), ACT_SILU);
    t = graph_act(g, graph_dense(g, t, "linear_2", o), ACT_SILU);
    graph_leave(g);
    return t;
}

static int down_block(struct graph *g, const struct unet_config *c, size_t level, int h, int time,
                      int context, struct skips *skips)
{
    graph_enter(g, "down_blocks.%zu", level);
    for (size_t j = 0; j < c->layers[level]; j++) {
        h = in_block(g, "resnets", j, h, resnet(c, c->channels[level], time));
        if (c->down_attention[level])
            h = in_transformer(g, j, h, context, transformer(c, level));
        push(skips, h);
    }
    if (level + 1 < c->levels) {
        h = graph_conv(g, h, "downsamplers.0.conv",
                       (struct graph_conv){.out = c->channels[level], .kernel = 3, .stride = 2});
        push(skips, h);
    }
    graph_leave(g);
    return h;
}

static int mid_block(struct graph *g, const struct unet_config *c, int h, int time, int context)
{
    const size_t last = c->levels - 1;
    graph_enter(g, "mid_block");
    h = in_block(g, "resnets", 0, h, resnet(c, c->channels[last], time));
    h = in_transformer(g, 0, h, context, transformer(c, last));
    h = in_block(g, "resnets", 1, h, resnet(c, c->channels[last], time));
    graph_leave(g);
    return h;
}

static int up_block(struct graph *g, const struct unet_config *c, size_t i, int h, int time,
                    int context, struct skips *skips)
{
    const size_t level = c->levels - 1 - i;
    graph_enter(g, "up_blocks.%zu", i);
    for (size_t j = 0; j < c->layers[level] + 1; j++) {
        h = graph_concat(g, h, skips->at[--skips->count]); /* the hidden state first */
        h = in_block(g, "resnets", j, h, resnet(c, c->channels[level], time));
        if (c->up_attention[i])
            h = in_transformer(g, j, h, context, transformer(c, level));
    }
    if (i + 1 < c->levels) {
        const int next = skips->at[skips->count - 1];
        h = graph_resize(g, h, graph_height(g, next), graph_width(g, next));
        h = graph_conv(g, h, "upsamplers.0.conv",
                       (struct graph_conv){.out = c->channels[level], .kernel = 3, .stride = 1});
    }
    graph_leave(g);
    return h;
}

void unet_build(struct graph *g, const void *arg)
{
    const struct unet_shape *const s = arg;
    const struct unet_config *const c = s->config;
    struct skips skips = {.count = 0};
    int h = graph_input(g, s->H, s->W, c->in_channels, s->flags);
    const int times = graph_input_times(g);
    const int context =
        graph_input(g, s->L, 1, c->cross_attention_dim, (s->flags & GRAPH_GRAD) | GRAPH_STEADY);
    const int time = time_embedding(g, c, times);
    h = graph_conv(g, h, "conv_in",
                   (struct graph_conv){.out = c->channels[0], .kernel = 3, .stride = 1});
    push(&skips, h);
    for (size_t i = 0; i < c->levels; i++)
        h = down_block(g, c, i, h, time, context, &skips);
    h = mid_block(g, c, h, time, context);
    for (size_t i = 0; i < c->levels; i++)
        h = up_block(g, c, i, h, time, context, &skips);
    h = graph_group_norm(g, h, "conv_norm_out", c->norm_groups, c->norm_eps, true);
    h = graph_conv(g, h, "conv_out",
                   (struct graph_conv){.out = c->out_channels, .kernel = 3, .stride = 1});
    graph_output(g, h, s->flags & GRAPH_PLANAR);
}

void unet_declare(struct params *p, const struct unet_config *c, struct graph_adapter adapter)
{
    /* names and shapes do not depend on the size; every level halves it */
    const size_t side = (size_t)1 << c->levels;
    const struct unet_shape s = {c, side, side, 1, 0};
    struct graph *const g =
        graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE, .adapter = adapter});
    unet_build(g, &s);
    graph_free(g);
}
