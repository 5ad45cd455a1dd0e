/* What a model of the embedded world can do, by the analytic judge: alignment by GenEval's tags on a prompt set,
 * and diversity on under-specified prompts.  A function of (model, settings, seed): picture j of prompt i has
 * the same starting noise whatever the model, so that before and after are paired. */
#ifndef DAGLINE_DAGLINE_EVALUATE_H
#define DAGLINE_DAGLINE_EVALUATE_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"
#include "metrics/stats.h"
#include "shapes/diversity.h"
#include "shapes/judge.h"
#include "shapes/prompts.h"

#include <stddef.h>
#include <stdint.h>

struct evaluate_options {
    const struct transition_kernel *kernels; /* [steps] */
    int steps;
    double guidance;
    uint64_t seed;          /* of prompts and pictures */
    bool held_out;          /* captions kept from training, or the others */
    size_t prompts_per_tag; /* different captions of each tag */
    size_t pictures;        /* of each caption */
    size_t open_prompts;    /* under-specified ones, for diversity; 0: not measured */
    size_t open_pictures;   /* of each */
};

/* hits of n pictures. */
struct evaluate_share {
    uint64_t hits, n;
};

/* The judge's clauses, each alone: what goes wrong where a picture fails. */
enum { CLAUSE_COUNT, CLAUSE_SHAPE, CLAUSE_COLOUR, CLAUSE_SIZE, CLAUSE_POSITION, CLAUSE_BACKGROUND, CLAUSES };
extern const char *const evaluate_clause_names[CLAUSES];

struct evaluation {
    struct evaluate_share tag[TAG_COUNT]; /* strict alignment */
    struct evaluate_share single, hard;   /* PROMPTS_EASY and PROMPTS_HARD */
    struct evaluate_share single_clause[CLAUSES], hard_clause[CLAUSES];
    struct stats soft;                    /* soft alignment over all pictures */
    struct diversity diversity;
    double seconds;
};

/* The chain that the embedded world's pictures are drawn by: eta 1, the variance floored at `floor_kappa`, the last step by its
 * mean.  ERR_SHAPE where the model makes pictures of another size than the judge reads. */
int evaluate_plan(struct transition_kernel *kernels, const struct pipeline *p, int steps, double floor_kappa,
                  struct err *e) MUST_USE;

double evaluate_rate(const struct evaluate_share *s);
void evaluate_add(struct evaluate_share *s, bool hit);
void evaluate_add_clauses(struct evaluate_share clause[CLAUSES], const struct judge_verdict *v);

int evaluate(struct evaluation *out, struct pipeline *p, const struct evaluate_options *o,
             int (*poll)(void *, struct err *), void *arg, struct err *e) MUST_USE;

#endif
