#include "dagline/cmd_generate.h"

#include "base/file.h"
#include "base/mem.h"
#include "dagline/command.h"
#include "dagline/embedded_model.h"
#include "diffusion/pipeline.h"
#include "io/png.h"
#include "run/generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GENERATE_PARAMS(P, S)                                                                      \
    P(S, text, model, "", "", "1000", "", "model folder; empty: the embedded model")               \
    P(S, text, policy, "", "", "1000", "",                                                         \
      "adapters (diffusers, PEFT or kohya naming) or all UNet weights; empty: none")               \
    P(S, text, prompt, "", "", "", "", "what to draw; empty: nothing in particular")               \
    P(S, text, output, "", "", "1000", "", "the PNG; several are numbered before .png")            \
    P(S, integer, steps, "50", "1", "1000", "steps", "of DDIM")                                    \
    P(S, real, eta, "0", "0", "1", "", "0: deterministic; 1: as in training")                      \
    P(S, real, guidance, "1", "0", "100", "", "classifier-free guidance; 1 is none")               \
    P(S, integer, seed, "0", "0", "", "", "of the noise")                                          \
    P(S, integer, count, "1", "1", "256", "pictures", "to draw")                                   \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")
CONFIG_STRUCT(generate_params, GENERATE_PARAMS);
CONFIG_TABLE_OPTIONS(generate_table, "generate", "a picture", generate_params, GENERATE_PARAMS);

/* picture.png, or picture-003.png of several. */
static int picture_path(char path[FILE_PATH_BYTES_MAX], const struct generate_params *o, int64_t i,
                        struct err *e)
{
    const size_t n = strlen(o->output);
    const size_t stem = n > 4 && strcmp(o->output + n - 4, ".png") == 0 ? n - 4 : n;
    const int length = o->count == 1 ? snprintf(path, FILE_PATH_BYTES_MAX, "%s", o->output)
                                     : snprintf(path, FILE_PATH_BYTES_MAX, "%.*s-%03" PRId64 ".png",
                                                (int)stem, o->output, i);
    return length < FILE_PATH_BYTES_MAX
               ? 0
               : err_set(e, ERR_INVALID, "-o is longer than %d bytes", FILE_PATH_BYTES_MAX - 1);
}

/* How the picture was made, in the form that other tools read from PNG files. */
static int write_pictures(const struct generate_params *o, const struct pipeline_shape *s,
                          uint8_t *rgb, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    const size_t room = strlen(o->prompt) + 512;
    char *const text = mem_new(room, 1);
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < o->count; i++) {
        const struct image view = {(int)s->image_width, (int)s->image_height,
                                   rgb + (size_t)i * s->image_height * s->image_width * 3};
        snprintf(text, room,
                 "%s\nSteps: %" PRId64 ", Sampler: DDIM, CFG scale: %g, Seed: %" PRId64
                 ", Size: %zux%zu, Eta: %g, "
                 "Picture: %" PRId64,
                 o->prompt, o->steps, o->guidance, o->seed, s->image_width, s->image_height, o->eta,
                 i);
        rc = picture_path(path, o, i, e);
        if (rc == 0)
            rc = png_write(path, &view, text, e);
    }
    mem_free(text);
    return rc;
}

static int draw(const struct generate_params *o, struct pipeline *p, struct err *e)
{
    const struct pipeline_shape *const s = pipeline_shape(p);
    const size_t count = (size_t)o->count, bytes = s->image_height * s->image_width * 3;
    const struct plan_options plan = {.steps = (int)o->steps, .eta = o->eta};
    struct transition_kernel *const kernels = mem_new((size_t)o->steps, sizeof *kernels);
    const char **const prompts = mem_new(count, sizeof *prompts);
    uint64_t *const streams = mem_new(count, sizeof *streams);
    uint8_t *const rgb = mem_new(count, bytes);
    const real *condition;
    bool truncated = false;
    for (size_t i = 0; i < count; i++) {
        prompts[i] = o->prompt;
        streams[i] = i;
    }
    const struct generate_request q = {.kernels = kernels,
                                       .steps = (int)o->steps,
                                       .guidance = o->guidance,
                                       .seed = (uint64_t)o->seed,
                                       .prompts = prompts,
                                       .streams = streams,
                                       .count = count};
    int rc = schedule_plan(kernels, pipeline_schedule(p), &plan, e);
    if (rc == 0)
        rc = pipeline_condition(p, o->prompt, &condition, &truncated, e);
    if (rc == 0 && truncated)
        fprintf(stderr, "dagline generate: the prompt is longer than %zu tokens and was cut\n",
                s->tokens);
    if (rc == 0)
        rc = generate(rgb, p, &q, NULL, NULL, e);
    if (rc == 0)
        rc = write_pictures(o, s, rgb, e);
    mem_free(rgb);
    mem_free(streams);
    mem_free(prompts);
    mem_free(kernels);
    return rc;
}

static int generate_pictures(const void *params, const char *const *arguments, size_t count,
                             struct err *e)
{
    const struct generate_params *o = params;
    const struct pipeline_options po = {.threads = (int)o->threads};
    struct pipeline *p = NULL;
    char model[FILE_PATH_BYTES_MAX];
    (void)arguments, (void)count;
    if (o->output[0] == 0)
        return err_set(e, ERR_USAGE, "-o FILE.png is needed");
    const int rc = file_check_place(o->output, e) < 0 || embedded_model_unless(model, o->model, e) < 0 ||
                           pipeline_open(&p, model, &po, e) < 0 ||
                           (o->policy[0] != 0 && pipeline_policy_load(p, o->policy, e) < 0) ||
                           draw(o, p, e) < 0
                       ? -1
                       : 0;
    pipeline_close(p);
    return rc;
}

int cmd_generate(int argc, char **argv)
{
    struct generate_params p;
    const struct command command = {
        .name = "dagline generate",
        .about = "draws pictures from a prompt",
        .output = "output",
        .table = &generate_table,
        .params = &p,
        .work = generate_pictures,
    };
    return command_main(&command, argc, argv);
}
