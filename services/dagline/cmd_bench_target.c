#include "dagline/cmd_bench_target.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "dagline/command.h"
#include "dagline/target_train.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define RESULT_BYTES_MAX 4096
#define REVISION 2 /* of target_train.c: raised where a run comes out otherwise, so that the cache holds none of before */

/* The objectives are in the order of `objective_names` below. */
#define TARGET_PARAMS(P, S)                                                                                            \
    P(S, choice, target, "25gmm", "25gmm|funnel|manywell|9of25", "", "", "the density")                                      \
    P(S, choice, objective, "tb", "tb|vargrad|dag_subtb|dag_db|dag_kl|rtb|relative_vargrad|residual_db", "", "",       \
      "what is trained towards (docs/numerics.md)")                                                                    \
    P(S, flag, forward_looking, "no", "", "", "", "psi = t log R + (1 - t) log of the reference")                      \
    P(S, flag, langevin, "no", "", "", "", "the target's own slope times a learnt gain is part of the drift")           \
    P(S, real, lambda, "2", "1e-6", "1e6", "", "dag_subtb: weight lambda^length of a stretch")                         \
    P(S, real, exploration, "0", "0", "10", "", "deviation of the noise added to every step of rollouts, falling to 0") \
    P(S, integer, exploration_steps, "12500", "0", "1000000000", "updates", "until it is 0")                           \
    P(S, choice, replay, "none", "none|uniform|rank|prior|local|local_uniform", "", "",                                      \
      "every other update's chains: made back from earlier final states (at random, by rank of log R, or "            \
      "what Langevin chains find from those, by rank or not), or the prior's own")                                    \
    P(S, integer, iterations, "25000", "1", "1000000000", "updates", "of a run")                                       \
    P(S, integer, seeds, "1", "1", "1000", "runs", "one JSON line each")                                               \
    P(S, integer, seed, "1", "0", "", "", "of the first run; the others follow")                                       \
    P(S, integer, batch, "300", "1", "100000", "chains", "of an update")                                               \
    P(S, integer, steps, "100", "2", "1000", "steps", "T")                                                             \
    P(S, integer, samples, "2000", "1", "20000", "", "of the evaluation")                                              \
    P(S, integer, width, "64", "1", "4096", "", "of the networks' hidden layers")                                      \
    P(S, real, lr, "1e-3", "0", "1", "1/step", "Adam, the policy")                                                     \
    P(S, real, flow_lr, "1e-2", "0", "1", "1/step", "Adam, the flow network")                                          \
    P(S, real, log_z_lr, "1e-1", "0", "10", "1/step", "Adam, log Z")                                                   \
    P(S, real, lr_final, "1", "0", "1", "share",                                                                       \
      "of all three at the last update; they fall over the second half")                                               \
    P(S, integer, threads, "1", "1", "256", "", "workers")                                                             \
    P(S, text, cache, "build/bench-target", "", "1000", "",                                                            \
      "folder of finished runs: one that is there is not run again; empty: none")                                      \
    P(S, flag, cached, "no", "", "", "", "print what is in the cache, run nothing")                                    \
    P(S, integer, progress, "1000", "0", "1000000000", "updates", "between lines on standard error; 0: none")
CONFIG_STRUCT(target_params, TARGET_PARAMS);
CONFIG_TABLE_OPTIONS(target_table, "target", "a diffusion sampler trained to a known answer", target_params,
                     TARGET_PARAMS);

static const char *const target_names[] = {"25gmm", "funnel", "manywell", "9of25"};
static const char *const objective_names[] = {"tb",     "vargrad", "dag_subtb",        "dag_db",
                                              "dag_kl", "rtb",     "relative_vargrad", "residual_db"};
static const char *const replay_names[] = {"none", "uniform", "rank", "prior", "local", "local_uniform"};

static enum objective_kind kind_of(const struct target_params *o)
{
    enum objective_kind kind = OBJECTIVE_TB;
    const bool known = objective_named(&kind, objective_names[o->objective]);
    assert(known);
    (void)known;
    return kind;
}

/* Everything that decides the result, as JSON: the line's head, and the name of the run in the cache. */
static struct json *settings_of(const struct target_params *o, uint64_t seed)
{
    struct json *v = json_new_object();
    json_set_int(v, "revision", REVISION);
    json_set_string(v, "target", target_names[o->target]);
    json_set_string(v, "objective", objective_names[o->objective]);
    json_set_bool(v, "forward_looking", o->forward_looking);
    if (o->langevin)
        json_set_bool(v, "langevin", true);
    if (kind_of(o) == OBJECTIVE_DAG_SUBTB)
        json_set_number(v, "lambda", o->lambda);
    json_set_string(v, "replay", replay_names[o->replay]);
    json_set_number(v, "exploration", o->exploration);
    if (o->exploration > 0.0)
        json_set_int(v, "exploration_steps", o->exploration_steps);
    json_set_int(v, "iterations", o->iterations);
    json_set_int(v, "batch", o->batch);
    json_set_int(v, "steps", o->steps);
    json_set_int(v, "samples", o->samples);
    if (o->width != 64)
        json_set_int(v, "width", o->width);
    json_set_number(v, "lr", o->lr);
    json_set_number(v, "flow_lr", o->flow_lr);
    json_set_number(v, "log_z_lr", o->log_z_lr);
    json_set_number(v, "lr_final", o->lr_final);
    json_set_int(v, "seed", (int64_t)seed);
    return v;
}

static int cache_path(char path[FILE_PATH_BYTES_MAX], const struct target_params *o, const struct json *settings,
                      struct err *e)
{
    uint8_t digest[HASH_SHA256_BYTES];
    char hex[2 * 12 + 1], name[sizeof hex + 8];
    size_t n;
    char *text = json_print(settings, JSON_LINE, &n);
    hash_sha256(digest, text, n);
    mem_free(text);
    hash_hex(hex, digest, 12);
    snprintf(name, sizeof name, "%s.json", hex);
    return file_make_folders(o->cache, e) < 0 ? -1 : file_join(path, o->cache, name, e);
}

static void tell(void *arg, uint64_t iteration, double loss, const struct target_result *r)
{
    (void)arg;
    fprintf(stderr, "%7" PRIu64 "  loss %10.4g  dlogz %8.4f  reweighted %8.4f  %6.0f s\n", iteration, loss, r->dlogz,
            r->dlogz_rw, r->seconds);
}

static void add_result(struct json *line, const struct target_result *r, bool diverged)
{
    if (diverged) {
        json_set_int(line, "diverged_after", (int64_t)r->updates);
    } else {
        json_set_number(line, "dlogz", r->dlogz);
        json_set_number(line, "dlogz_rw", r->dlogz_rw);
        json_set_number(line, "w2", r->w2);
        if (isfinite(r->modes_chi2)) {
            json_set_number(line, "modes_chi2", r->modes_chi2);
            json_set_number(line, "far", r->far);
        }
    }
    json_set_number(line, "seconds", r->seconds);
}

static int one_run(const struct target_params *o, uint64_t seed, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX] = "";
    struct json *line = settings_of(o, seed);
    char *text = NULL;
    size_t n;
    int rc = o->cache[0] != 0 ? cache_path(path, o, line, e) : 0;
    if (rc == 0 && path[0] != 0 && file_exists(path)) {
        rc = file_read_all(path, RESULT_BYTES_MAX, &text, &n, e);
    } else if (rc == 0 && !o->cached) {
        struct target_options t = {.objective = kind_of(o),
                                   .forward_looking = o->forward_looking,
                                   .langevin = o->langevin,
                                   .lambda = o->lambda,
                                   .exploration = o->exploration,
                                   .exploration_steps = (uint64_t)o->exploration_steps,
                                   .replay = (enum target_replay)o->replay,
                                   .iterations = (uint64_t)o->iterations,
                                   .seed = seed,
                                   .batch = (size_t)o->batch,
                                   .steps = (size_t)o->steps,
                                   .samples = (size_t)o->samples,
                                   .width = (size_t)o->width,
                                   .lr = o->lr,
                                   .flow_lr = o->flow_lr,
                                   .log_z_lr = o->log_z_lr,
                                   .lr_final = o->lr_final,
                                   .threads = (int)o->threads};
        struct target_result r;
        rc = target_find(&t.target, target_names[o->target], e) < 0
                 ? -1
                 : target_train(&r, &t, o->progress > 0 ? tell : NULL, NULL, (uint64_t)o->progress, e);
        const bool diverged = rc < 0 && e->code == ERR_NONFINITE; /* which is a result, and as reproducible as another */
        rc = diverged ? 0 : rc;
        if (rc == 0) {
            add_result(line, &r, diverged);
            text = json_print(line, JSON_LINE, &n);
            if (path[0] != 0)
                rc = file_replace(path, text, n, 0644, e);
        }
    }
    if (text != NULL && rc == 0) {
        printf("%s\n", text);
        fflush(stdout);
    }
    mem_free(text);
    json_free(line);
    return rc;
}

static int work(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct target_params *o = params;
    (void)arguments, (void)count;
    for (int64_t i = 0; i < o->seeds; i++)
        if (one_run(o, (uint64_t)(o->seed + i), e) < 0)
            return -1;
    return 0;
}

int cmd_bench_target(int argc, char **argv)
{
    struct target_params p;
    const struct command command = {
        .name = "dagline bench target",
        .about = "an objective on a density of known answer; one JSON line a seed",
        .table = &target_table,
        .params = &p,
        .work = work,
    };
    return command_main(&command, argc, argv);
}
