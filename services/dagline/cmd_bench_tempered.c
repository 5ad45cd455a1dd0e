#include "dagline/cmd_bench_tempered.h"

#include "base/mem.h"
#include "dagline/command.h"
#include "dagline/embedded_model.h"
#include "dagline/evaluate.h"
#include "diffusion/pipeline.h"
#include "run/generate.h"
#include "shapes/judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEPS_MAX 1000
#define PROMPT_BYTES_MAX 32
#define BINS (COLOUR_COUNT + 1) /* and pictures without an object, which count as the first colour */

#define TEMPERED_PARAMS(P, S)                                                                                          \
    P(S, text, model, "", "", "1000", "", "model folder; empty: the embedded model")                                   \
    P(S, text, policy, "", "", "1000", "", "trained weights (safetensors); empty: the model as it is")                 \
    P(S, real, beta, "2", "0", "1000", "nats", "of the reward 0..1")                                                   \
    P(S, integer, pictures, "256", "8", "100000", "pictures", "of each of the seven prompts \"a SHAPE\"")              \
    P(S, integer, steps, "10", "2", "1000", "steps", "of the chain")                                                   \
    P(S, real, variance_floor, "0.25", "0", "1", "", "kappa of the variance floor")                                    \
    P(S, integer, seed, "4000037", "0", "", "", "of the pictures")                                                     \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")
CONFIG_STRUCT(tempered_params, TEMPERED_PARAMS);
CONFIG_TABLE_OPTIONS(tempered_table, "tempered", "colours of a trained policy against the tempered base model",
                     tempered_params, TEMPERED_PARAMS);

struct histogram {
    double share[SHAPE_COUNT][BINS]; /* of each prompt's pictures */
};

struct work {
    const struct tempered_params *o;
    struct pipeline *p;
    struct judge *judge;
    struct transition_kernel kernels[STEPS_MAX];
};

/* Pictures of "a SHAPE" for every shape, from starting noise of their own for every `set`. */
static int draw(struct histogram *h, struct work *w, uint64_t set, struct err *e)
{
    const size_t n = (size_t)w->o->pictures;
    uint8_t *rgb = mem_new(n, WORLD_RGB_BYTES);
    const char **prompts = mem_new(n, sizeof *prompts);
    uint64_t *streams = mem_new(n, sizeof *streams);
    int rc = 0;
    *h = (struct histogram){0};
    for (size_t shape = 0; rc == 0 && shape < SHAPE_COUNT; shape++) {
        char prompt[PROMPT_BYTES_MAX];
        snprintf(prompt, sizeof prompt, "a %s", world_shape_names[shape]);
        for (size_t i = 0; i < n; i++) {
            prompts[i] = prompt;
            streams[i] = set << 56 | (uint64_t)shape << 32 | i;
        }
        const struct generate_request q = {.kernels = w->kernels, .steps = (int)w->o->steps, .guidance = 1.0,
                                           .seed = (uint64_t)w->o->seed, .prompts = prompts, .streams = streams, .count = n};
        rc = generate(rgb, w->p, &q, NULL, NULL, e);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            struct judge_view view;
            struct judge_attributes a;
            judge_look(w->judge, &view, rgb + i * WORLD_RGB_BYTES);
            h->share[shape][judge_attributes(&a, &view) ? a.colour : COLOUR_COUNT] += 1.0 / (double)n;
        }
    }
    mem_free(streams);
    mem_free(prompts);
    mem_free(rgb);
    return rc;
}

static double reward_of_bin(int bin)
{
    return bin == COLOUR_COUNT ? 0.0 : (double)bin / (COLOUR_COUNT - 1);
}

/* p(bin | prompt) exp(beta r) / Z. */
static struct histogram temper(const struct histogram *base, double beta)
{
    struct histogram h = *base;
    for (int s = 0; s < SHAPE_COUNT; s++) {
        double sum = 0.0;
        for (int b = 0; b < BINS; b++)
            sum += h.share[s][b] *= exp(beta * reward_of_bin(b));
        for (int b = 0; b < BINS; b++)
            h.share[s][b] /= sum;
    }
    return h;
}

/* Share of a bin over all prompts. */
static double pooled(const struct histogram *h, int bin)
{
    double sum = 0.0;
    for (int s = 0; s < SHAPE_COUNT; s++)
        sum += h->share[s][bin];
    return sum / SHAPE_COUNT;
}

/* Total variation of the pooled histograms. */
static double distance(const struct histogram *x, const struct histogram *y)
{
    double sum = 0.0;
    for (int b = 0; b < BINS; b++)
        sum += 0.5 * fabs(pooled(x, b) - pooled(y, b));
    return sum;
}

static void print_row(const char *name, const struct histogram *h)
{
    printf("| %s |", name);
    double reward = 0.0;
    for (int b = 0; b < BINS; b++) {
        reward += pooled(h, b) * reward_of_bin(b);
        printf(" %.1f |", 100.0 * pooled(h, b));
    }
    printf(" %.3f |\n", reward);
}

static int compare(struct work *w, struct err *e)
{
    struct histogram base, again, policy;
    if (draw(&base, w, 0, e) < 0 || draw(&again, w, 1, e) < 0)
        return -1;
    if (w->o->policy[0] != 0 && pipeline_policy_load(w->p, w->o->policy, e) < 0)
        return -1;
    if (draw(&policy, w, 2, e) < 0)
        return -1;
    const struct histogram target = temper(&base, w->o->beta), chance = temper(&again, w->o->beta);
    printf("| %% of the pictures |");
    for (int b = 0; b < COLOUR_COUNT; b++)
        printf(" %s |", world_colour_names[b]);
    printf(" none | reward |\n|---|");
    for (int b = 0; b <= BINS; b++)
        printf("---|");
    printf("\n");
    print_row("base", &base);
    print_row("asked for", &target);
    print_row("policy", &policy);
    printf("\ntotal variation from what was asked for: base %.3f, policy %.3f, by chance alone %.3f\n", distance(&base, &target),
           distance(&policy, &target), distance(&chance, &target));
    return 0;
}

static int tempered(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct tempered_params *o = params;
    struct work *w = mem_new(1, sizeof *w);
    char model[FILE_PATH_BYTES_MAX];
    (void)arguments, (void)count;
    w->o = o;
    w->judge = judge_new();
    const struct pipeline_options po = {.threads = (int)o->threads};
    const int rc = embedded_model_unless(model, o->model, e) < 0 || pipeline_open(&w->p, model, &po, e) < 0 ||
                           evaluate_plan(w->kernels, w->p, (int)o->steps, o->variance_floor, e) < 0
                       ? -1
                       : compare(w, e);
    pipeline_close(w->p);
    judge_free(w->judge);
    mem_free(w);
    return rc;
}

int cmd_bench_tempered(int argc, char **argv)
{
    struct tempered_params p;
    const struct command command = {
        .name = "dagline bench tempered",
        .about = "colours of a policy trained on builtin:shapes_colour against p_base exp(beta r) / Z",
        .table = &tempered_table,
        .params = &p,
        .work = tempered,
    };
    return command_main(&command, argc, argv);
}
