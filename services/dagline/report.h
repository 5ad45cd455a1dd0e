/* What a run ends with: the table before/after with 95 % intervals on held-out prompts and seeds, printed and kept as
 * report.md, and the commands for what comes next; and the same numbers for programs as report.json:
 *   run, updates, updates_wanted, trajectories, seconds, reward_first, reward_last (means of training batches),
 *   model_cpu_seconds, pipeline_cpu_seconds, and where
 *   held-out prompts were drawn `before` and `after`: one share in 0..1 for each tag, single, hard, soft, diversity_bits.
 * With a reward of one's own the table is of that reward, and so are `reward_before`, `reward_after`, `reward_change`: mean,
 * low and high of the 95 % interval over prompts; the pictures are in evaluation/before and evaluation/after. */
#ifndef DAGLINE_DAGLINE_REPORT_H
#define DAGLINE_DAGLINE_REPORT_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"
#include "run/prompt_set.h"
#include "wire/codec.h"

#include <stddef.h>
#include <stdint.h>

struct report_options {
    const char *dir;
    const char *model; /* folder of the base model, for the commands; NULL: the embedded one */
    struct pipeline *pipeline;
    const struct transition_kernel *kernels;
    const struct run_spec *run;
    const uint8_t *policy; /* NULL: no update was made */
    size_t policy_bytes;
    uint64_t step;
    double seconds, trajectories, reward_first, reward_last;
    double model_cpu_s, pipeline_cpu_s; /* of sampler and trainer, with the judge; of scorer, store and Redis */
    size_t evaluate_prompts, evaluate_pictures; /* of each tag, of each prompt; 0: no table */
    uint64_t evaluate_seed;
    /* NULL: the judge's table.  Else evaluate_prompts of these are scored by the run's reward. */
    const struct prompt_set *prompts;
    const char *prompts_name; /* where they are from, in words */
    const char *binaries;     /* folder of dagline-scorer */
};

int report_write(const struct report_options *o, struct err *e) MUST_USE;

#endif
