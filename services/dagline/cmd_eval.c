#include "dagline/cmd_eval.h"

#include "base/file.h"
#include "base/mem.h"
#include "dagline/command.h"
#include "dagline/embedded_model.h"
#include "dagline/evaluate.h"
#include "dagline/grid.h"
#include "dagline/round_trip.h"

#include <stdio.h>

#define STEPS_MAX 1000

#define EVAL_PARAMS(P, S)                                                                          \
    P(S, text, model, "", "", "1000", "", "model folder; empty: the embedded model")               \
    P(S, text, policy, "", "", "1000", "",                                                         \
      "trained weights (safetensors); empty: the model as it is")                                  \
    P(S, integer, steps, "10", "2", "1000", "steps", "of the chain")                               \
    P(S, real, guidance, "1", "0", "100", "", "classifier-free guidance; 1 is none")               \
    P(S, real, variance_floor, "0.25", "0", "1", "", "kappa of the variance floor")                \
    P(S, integer, seed, "1000003", "0", "", "", "prompts, pictures")                               \
    P(S, flag, held_out, "yes", "", "", "", "captions kept from training")                         \
    P(S, integer, prompts, "40", "1", "1000", "prompts", "of each tag")                            \
    P(S, integer, pictures, "4", "1", "64", "pictures", "of each prompt")                          \
    P(S, integer, round_trip, "0", "0", "1000000", "pictures", "through the autoencoder; 0: none") \
    P(S, text, grid, "", "", "1000", "", "also draw a sheet of samples into this PNG")             \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")
CONFIG_STRUCT(eval_params, EVAL_PARAMS);
CONFIG_TABLE_OPTIONS(eval_table, "eval", "what a model of the embedded world can do", eval_params,
                     EVAL_PARAMS);

static void print_share(const char *name, const struct evaluate_share *s)
{
    const struct stats_interval ci = stats_share_95(s->hits, s->n > 0 ? s->n : 1);
    printf("%-22s %6.2f %%  [%5.2f, %5.2f]  of %llu\n", name, 100.0 * evaluate_rate(s),
           100.0 * ci.low, 100.0 * ci.high, (unsigned long long)s->n);
}

static void print_clauses(const struct evaluate_share clause[CLAUSES])
{
    for (int i = 0; i < CLAUSES; i++) {
        char name[32];
        snprintf(name, sizeof name, "  %s", evaluate_clause_names[i]);
        print_share(name, &clause[i]);
    }
}

static int eval(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct eval_params *o = params;
    struct transition_kernel kernels[STEPS_MAX];
    struct pipeline *p = NULL;
    char model[FILE_PATH_BYTES_MAX];
    struct evaluation ev;
    int rc = -1;
    (void)arguments, (void)count;
    const struct pipeline_options po = {.threads = (int)o->threads};
    const struct evaluate_options eo = {.kernels = kernels,
                                        .steps = (int)o->steps,
                                        .guidance = o->guidance,
                                        .seed = (uint64_t)o->seed,
                                        .held_out = o->held_out,
                                        .prompts_per_tag = (size_t)o->prompts,
                                        .pictures = (size_t)o->pictures,
                                        .open_prompts = 14,
                                        .open_pictures = 32};
    if (embedded_model_unless(model, o->model, e) < 0 || pipeline_open(&p, model, &po, e) < 0 ||
        (o->policy[0] != 0 && pipeline_policy_load(p, o->policy, e) < 0) ||
        evaluate_plan(kernels, p, (int)o->steps, o->variance_floor, e) < 0 ||
        evaluate(&ev, p, &eo, NULL, NULL, e) < 0)
        goto out;
    for (int tag = 0; tag < TAG_COUNT; tag++)
        print_share(caption_tag_names[tag], &ev.tag[tag]);
    print_share("single objects", &ev.single);
    print_clauses(ev.single_clause);
    print_share("harder prompts", &ev.hard);
    print_clauses(ev.hard_clause);
    const struct stats_interval soft = stats_mean_95(&ev.soft);
    printf("%-22s %6.4f    [%.4f, %.4f]\n", "soft alignment", ev.soft.mean, soft.low, soft.high);
    printf("%-22s %6.2f bits (colour %.2f, size %.2f, place %.2f, background %.2f, texture %.2f)\n",
           "diversity", ev.diversity.total_bits, ev.diversity.colour_bits, ev.diversity.size_bits,
           ev.diversity.place_bits, ev.diversity.background_bits, ev.diversity.texture_bits);
    printf("%-22s %6.1f s\n", "time", ev.seconds);
    if (o->round_trip > 0) {
        struct round_trip trip;
        if (round_trip(&trip, model, (size_t)o->round_trip, (uint64_t)o->seed, (int)o->threads,
                       e) < 0)
            goto out;
        print_share("drawn pictures, strict", &trip.truth);
        print_share("round trip, strict", &trip.after);
        print_clauses(trip.clause);
        printf("%-22s %6.2f dB\n", "round trip, PSNR", trip.psnr);
    }
    rc = o->grid[0] == 0 ? 0
                         : grid_of_prompts(o->grid, p, kernels, (int)o->steps, o->guidance,
                                           (uint64_t)o->seed, e);
out:
    pipeline_close(p);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    struct eval_params p;
    const struct command command = {
        .name = "dagline eval",
        .about = "strict alignment by tag, diversity and the autoencoder's fidelity, by the judge",
        .table = &eval_table,
        .params = &p,
        .work = eval,
    };
    return command_main(&command, argc, argv);
}
