#include "dagline/shapes_model.h"

#include "base/file.h"
#include "shapes/tokens.h"

#include <stdio.h>
#include <string.h>

static const char model_index[] =
    "{\n"
    "  \"_class_name\": \"StableDiffusionPipeline\",\n"
    "  \"_diffusers_version\": \"0.18.0\",\n"
    "  \"feature_extractor\": [null, null],\n"
    "  \"requires_safety_checker\": false,\n"
    "  \"safety_checker\": [null, null],\n"
    "  \"scheduler\": [\"diffusers\", \"DDIMScheduler\"],\n"
    "  \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],\n"
    "  \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],\n"
    "  \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],\n"
    "  \"vae\": [\"diffusers\", \"AutoencoderKL\"]\n"
    "}\n";

/* These pictures are flat: 256 latents that agree make a ground's colour visible at noise levels where a photograph is
 * lost.  Stable Diffusion's schedule ends too early for them (at t = 914 it would give the ground away in training, and
 * pure noise would pass for such a hint in sampling), so DDPM's own is used; and v, because at its end eps says next to
 * nothing about x0.  Trailing steps begin where there is only noise, and spend none where there is hardly any. */
static const char scheduler_config[] =
    "{\n"
    "  \"_class_name\": \"DDIMScheduler\",\n"
    "  \"_diffusers_version\": \"0.18.0\",\n"
    "  \"beta_end\": 0.02,\n"
    "  \"beta_schedule\": \"linear\",\n"
    "  \"beta_start\": 0.0001,\n"
    "  \"clip_sample\": false,\n"
    "  \"num_train_timesteps\": 1000,\n"
    "  \"prediction_type\": \"v_prediction\",\n"
    "  \"set_alpha_to_one\": false,\n"
    "  \"steps_offset\": 1,\n"
    "  \"timestep_spacing\": \"trailing\"\n"
    "}\n";

static const char unet_config[] =
    "{\n"
    "  \"_class_name\": \"UNet2DConditionModel\",\n"
    "  \"_diffusers_version\": \"0.18.0\",\n"
    "  \"act_fn\": \"silu\",\n"
    "  \"attention_head_dim\": 4,\n"
    "  \"block_out_channels\": [32, 64, 96],\n"
    "  \"center_input_sample\": false,\n"
    "  \"cross_attention_dim\": 96,\n"
    "  \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],\n"
    "  \"downsample_padding\": 1,\n"
    "  \"flip_sin_to_cos\": true,\n"
    "  \"freq_shift\": 0,\n"
    "  \"in_channels\": 4,\n"
    "  \"layers_per_block\": 1,\n"
    "  \"mid_block_scale_factor\": 1,\n"
    "  \"norm_eps\": 1e-05,\n"
    "  \"norm_num_groups\": 8,\n"
    "  \"out_channels\": 4,\n"
    "  \"sample_size\": 16,\n"
    "  \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"]\n"
    "}\n";

static const char vae_config[] =
    "{\n"
    "  \"_class_name\": \"AutoencoderKL\",\n"
    "  \"_diffusers_version\": \"0.18.0\",\n"
    "  \"act_fn\": \"silu\",\n"
    "  \"block_out_channels\": [24, 32, 48],\n"
    "  \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],\n"
    "  \"in_channels\": 3,\n"
    "  \"latent_channels\": 4,\n"
    "  \"layers_per_block\": 1,\n"
    "  \"norm_num_groups\": 8,\n"
    "  \"out_channels\": 3,\n"
    "  \"sample_size\": 64,\n"
    "  \"scaling_factor\": %.9g,\n"
    "  \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]\n"
    "}\n";

static const char text_config[] =
    "{\n"
    "  \"architectures\": [\"CLIPTextModel\"],\n"
    "  \"bos_token_id\": %d,\n"
    "  \"eos_token_id\": %d,\n"
    "  \"hidden_act\": \"quick_gelu\",\n"
    "  \"hidden_size\": 96,\n"
    "  \"intermediate_size\": 384,\n"
    "  \"layer_norm_eps\": 1e-05,\n"
    "  \"max_position_embeddings\": %d,\n"
    "  \"model_type\": \"clip_text_model\",\n"
    "  \"num_attention_heads\": 4,\n"
    "  \"num_hidden_layers\": 3,\n"
    "  \"pad_token_id\": %d,\n"
    "  \"projection_dim\": 96,\n"
    "  \"vocab_size\": %d\n"
    "}\n";

static int write_text(const char *folder, const char *name, const char *text, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], parent[FILE_PATH_BYTES_MAX];
    if (file_join(path, folder, name, e) < 0)
        return -1;
    memcpy(parent, path, sizeof parent);
    *strrchr(parent, '/') = 0;
    return file_make_folders(parent, e) < 0 ? -1 : file_replace(path, text, strlen(text), 0644, e);
}

int shapes_model_write(const char *folder, double vae_scaling_factor, struct err *e)
{
    static struct tokens tokens;
    char vae[sizeof vae_config + 64], text[sizeof text_config + 64], tokenizer[FILE_PATH_BYTES_MAX];
    tokens_init(&tokens);
    snprintf(vae, sizeof vae, vae_config, vae_scaling_factor);
    snprintf(text, sizeof text, text_config, tokens.begin_id, tokens.end_id, TOKENS_LENGTH_MAX, tokens.end_id,
             tokens.vocabulary);
    if (write_text(folder, "model_index.json", model_index, e) < 0 ||
        write_text(folder, "scheduler/scheduler_config.json", scheduler_config, e) < 0 ||
        write_text(folder, "unet/config.json", unet_config, e) < 0 ||
        write_text(folder, "vae/config.json", vae, e) < 0 ||
        write_text(folder, "text_encoder/config.json", text, e) < 0 ||
        file_join(tokenizer, folder, "tokenizer", e) < 0)
        return -1;
    return shapes_tokenizer_write(tokenizer, e);
}
