/* Whole networks, every parameter, on shapes small and odd. */
#include "diffusion/logflow.h"
#include "diffusion/lora.h"
#include "diffusion/text_encoder.h"
#include "diffusion/unet.h"
#include "diffusion/vae.h"
#include "support/graphcheck.h"
#include "support/suite.h"

#define TOLERANCE 1e-5

static const struct unet_config unet = {.sample_size = 5,
                                        .in_channels = 3,
                                        .out_channels = 2,
                                        .levels = 2,
                                        .channels = {4, 6},
                                        .down_attention = {false, true},
                                        .up_attention = {true, false},
                                        .heads = {2, 3},
                                        .depth = {1, 1},
                                        .layers = {1, 1},
                                        .cross_attention_dim = 5,
                                        .norm_groups = 2,
                                        .norm_eps = 1e-5,
                                        .flip_sin_to_cos = true};

START_TEST(a_whole_unet_has_the_gradient_of_its_differences)
{
    /* an odd size: the way up resizes to the skip */
    const struct unet_shape s = {&unet, 5, 3, 3, GRAPH_GRAD | GRAPH_PLANAR};
    graphcheck_claim(
        &(struct graphcheck){.build = unet_build, .arg = &s, .B = 2, .tolerance = TOLERANCE});
}
END_TEST

START_TEST(adapters_alone_have_the_gradient_of_their_differences)
{
    const struct unet_shape s = {&unet, 4, 4, 3, 0};
    const struct graphcheck c = {
        .build = unet_build, .arg = &s, .B = 2, .adapter = lora_adapter(2), .tolerance = TOLERANCE};
    struct graphcheck frozen = c;
    frozen.frozen_prefix = "up_blocks.";
    graphcheck_claim(&frozen);
}
END_TEST

START_TEST(both_halves_of_the_vae_have_the_gradient_of_their_differences)
{
    const struct vae_config vae = {.in_channels = 3,
                                   .out_channels = 3,
                                   .latent_channels = 2,
                                   .levels = 2,
                                   .channels = {4, 6},
                                   .layers = 1,
                                   .norm_groups = 2,
                                   .mid_attention = true,
                                   .quant_conv = true,
                                   .post_quant_conv = true};
    const struct vae_shape image = {&vae, 6, 4, GRAPH_GRAD}, latent = {&vae, 3, 2, GRAPH_GRAD};
    graphcheck_claim(&(struct graphcheck){
        .build = vae_encoder_build, .arg = &image, .B = 1, .tolerance = TOLERANCE});
    graphcheck_claim(&(struct graphcheck){
        .build = vae_decoder_build, .arg = &latent, .B = 2, .tolerance = TOLERANCE});
}
END_TEST

START_TEST(the_text_encoder_has_the_gradient_of_its_differences)
{
    const struct text_config text = {.vocabulary = 5,
                                     .width = 6,
                                     .intermediate = 9,
                                     .layers = 2,
                                     .heads = 3,
                                     .positions = 5,
                                     .act = ACT_QUICK_GELU,
                                     .norm_eps = 1e-5};
    const struct text_shape s = {&text, 4};
    graphcheck_claim(&(struct graphcheck){
        .build = text_encoder_build, .arg = &s, .B = 2, .tolerance = TOLERANCE});
}
END_TEST

START_TEST(the_flow_network_has_the_gradient_of_its_differences)
{
    const struct logflow_config flow = {.in_channels = 3,
                                        .levels = 2,
                                        .channels = {4, 6},
                                        .heads = 2,
                                        .norm_groups = 2,
                                        .cross_attention_dim = 5};
    const struct logflow_shape s = {&flow, 5, 4, 3};
    graphcheck_claim(
        &(struct graphcheck){.build = logflow_build, .arg = &s, .B = 2, .tolerance = TOLERANCE});
}
END_TEST

SUITE("grad/unet", 200, a_whole_unet_has_the_gradient_of_its_differences,
      adapters_alone_have_the_gradient_of_their_differences,
      both_halves_of_the_vae_have_the_gradient_of_their_differences,
      the_text_encoder_has_the_gradient_of_its_differences,
      the_flow_network_has_the_gradient_of_its_differences)
