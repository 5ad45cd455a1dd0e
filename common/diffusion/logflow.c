#include "diffusion/logflow.h"

#include "diffusion/unet_block.h"

#define LOGFLOW_EPS 1e-5

static int level(struct graph *g, const struct logflow_config *c, size_t i, int h, int time,
                 int context)
{
    graph_enter(g, "down_blocks.%zu", i);
    graph_enter(g, "resnets.0");
    h = resnet_block(g, h,
                     (struct resnet_options){c->channels[i], c->norm_groups, LOGFLOW_EPS, time});
    graph_leave(g);
    if (i + 1 < c->levels) {
        graph_enter(g, "attentions.0");
        h = transformer_block(g, h, context,
                              (struct transformer_options){c->heads, c->norm_groups, false, 1});
        graph_leave(g);
    }
    h = graph_conv(g, h, "downsamplers.0.conv",
                   (struct graph_conv){.out = c->channels[i], .kernel = 3, .stride = 2});
    graph_leave(g);
    return h;
}

void logflow_build(struct graph *g, const void *arg)
{
    const struct logflow_shape *const s = arg;
    const struct logflow_config *const c = s->config;
    const struct graph_dense embed = {.out = 4 * c->channels[0], .bias = true};
    int h = graph_input(g, s->H, s->W, c->in_channels, 0);
    const int times = graph_input_times(g);
    const int context = graph_input(g, s->L, 1, c->cross_attention_dim, GRAPH_STEADY);
    int t = graph_time_embed(g, times, c->channels[0], true, 0.0);
    t = graph_act(g, graph_dense(g, t, "time_embedding.linear_1", embed), ACT_SILU);
    t = graph_act(g, graph_dense(g, t, "time_embedding.linear_2", embed), ACT_SILU);
    h = graph_conv(g, h, "conv_in",
                   (struct graph_conv){.out = c->channels[0], .kernel = 3, .stride = 1});
    for (size_t i = 0; i < c->levels; i++)
        h = level(g, c, i, h, t, context);
    h = graph_mean_pool(g, h);
    graph_output(g, graph_dense(g, h, "head", (struct graph_dense){.out = 1, .bias = true}), 0);
}

void logflow_declare(struct params *p, const struct logflow_config *c)
{
    const size_t side = (size_t)1 << c->levels;
    const struct logflow_shape s = {c, side, side, 1};
    struct graph *const g = graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE});
    logflow_build(g, &s);
    graph_free(g);
}
