#include "diffusion/unet_block.h"
#include "support/graphcheck.h"
#include "support/suite.h"

#define TOLERANCE 1e-6

static void build_resnet(struct graph *g, const void *arg)
{
    const size_t *const out = arg;
    const int x = graph_input(g, 5, 3, 6, GRAPH_GRAD), t = graph_input(g, 1, 1, 7, GRAPH_GRAD);
    graph_output(g, resnet_block(g, x, (struct resnet_options){*out, 2, 1e-5, t}), 0);
}

static void build_transformer(struct graph *g, const void *arg)
{
    const struct transformer_options *const o = arg;
    const int x = graph_input(g, 3, 5, 6, GRAPH_GRAD), c = graph_input(g, 4, 1, 5, GRAPH_GRAD);
    graph_output(g, transformer_block(g, x, c, *o), 0);
}

START_TEST(a_resnet_block_has_the_gradient_of_its_differences)
{
    graphcheck_claim(&(struct graphcheck){
        .build = build_resnet, .arg = &(size_t){6}, .B = 2, .tolerance = TOLERANCE});
    /* other channels: the shortcut convolution */
    graphcheck_claim(&(struct graphcheck){
        .build = build_resnet, .arg = &(size_t){4}, .B = 2, .tolerance = TOLERANCE});
}
END_TEST

START_TEST(a_transformer_block_has_the_gradient_of_its_differences)
{
    const struct transformer_options convolutional = {3, 2, false, 1}, linear = {2, 3, true, 2};
    graphcheck_claim(&(struct graphcheck){
        .build = build_transformer, .arg = &convolutional, .B = 2, .tolerance = TOLERANCE});
    graphcheck_claim(&(struct graphcheck){
        .build = build_transformer, .arg = &linear, .B = 1, .tolerance = TOLERANCE});
}
END_TEST

SUITE("grad/unet_block", 120, a_resnet_block_has_the_gradient_of_its_differences,
      a_transformer_block_has_the_gradient_of_its_differences)
