/* The evaluation against the same pictures drawn and judged one by one. */
#include "dagline/evaluate.h"

#include "base/mem.h"
#include "run/generate.h"
#include "support/suite.h"

#include <string.h>

#define MODEL "models/shapes"
#define STEPS 3
#define PER_TAG 2
#define PICTURES 2
#define GUIDANCE 4.0
#define SEED 77

static struct pipeline *p;
static struct transition_kernel kernels[STEPS];

static void stop(const struct err *e)
{
    ck_abort_msg("%s", e->text);
}

static void open_model(void)
{
    struct err e;
    if (pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 2}, &e) < 0 || evaluate_plan(kernels, p, STEPS, 0.25, &e) < 0)
        stop(&e);
}

static struct evaluation evaluation_of(void)
{
    struct evaluation v;
    struct err e;
    const struct evaluate_options o = {.kernels = kernels, .steps = STEPS, .guidance = GUIDANCE, .seed = SEED, .held_out = true,
                                       .prompts_per_tag = PER_TAG, .pictures = PICTURES};
    if (evaluate(&v, p, &o, NULL, NULL, &e) < 0)
        stop(&e);
    return v;
}

/* Strict hits and the sum of soft scores of a tag's pictures, each drawn alone. */
static uint64_t hits_of(enum caption_tag tag, double *soft, uint64_t clause[CLAUSES])
{
    struct prompt prompt[PER_TAG];
    struct err e;
    static uint8_t rgb[WORLD_RGB_BYTES];
    struct judge *judge = judge_new();
    uint64_t hits = 0;
    const struct prompts_options po = {.tags = PROMPTS_TAG(tag), .held_out = true, .seed = SEED};
    if (prompts_draw(prompt, PER_TAG, &po, &e) < 0)
        stop(&e);
    for (uint64_t i = 0; i < PER_TAG; i++)
        for (uint64_t j = 0; j < PICTURES; j++) {
            const char *text = prompt[i].text;
            const uint64_t stream = (((uint64_t)tag << 20) + i) << 32 | j;
            const struct generate_request q = {kernels, STEPS, GUIDANCE, SEED, &text, &stream, 1};
            struct judge_view view;
            struct judge_verdict v;
            if (generate(rgb, p, &q, NULL, NULL, &e) < 0)
                stop(&e);
            judge_look(judge, &view, rgb);
            judge_score(&v, &view, &prompt[i].spec);
            const bool each[CLAUSES] = {v.count, v.shape, v.colour, v.size, v.position, v.background};
            for (int c = 0; c < CLAUSES; c++)
                clause[c] += each[c];
            hits += v.strict;
            *soft += v.soft;
        }
    judge_free(judge);
    return hits;
}

START_TEST(shares_are_those_of_the_pictures_one_by_one)
{
    open_model();
    const struct evaluation v = evaluation_of();
    uint64_t single = 0, hard = 0, clause[2][CLAUSES] = {{0}};
    double soft = 0.0;
    for (int tag = 0; tag < TAG_COUNT; tag++) {
        const bool is_hard = (PROMPTS_HARD & PROMPTS_TAG(tag)) != 0;
        const uint64_t hits = hits_of((enum caption_tag)tag, &soft, clause[is_hard]);
        ck_assert_uint_eq(v.tag[tag].n, PER_TAG * PICTURES);
        ck_assert_msg(v.tag[tag].hits == hits, "%s: %llu hits, one by one %llu", caption_tag_names[tag],
                      (unsigned long long)v.tag[tag].hits, (unsigned long long)hits);
        *(is_hard ? &hard : &single) += hits;
    }
    ck_assert_uint_eq(v.hard.hits, hard);
    ck_assert_uint_eq(v.single.hits, single);
    ck_assert(hard != single && single > 0); /* or nothing was seen */
    ck_assert_uint_eq(v.hard.n, 4 * PER_TAG * PICTURES);
    ck_assert_uint_eq(v.single.n, (TAG_COUNT - 4) * PER_TAG * PICTURES);
    for (int c = 0; c < CLAUSES; c++) {
        ck_assert_uint_eq(v.hard_clause[c].hits, clause[1][c]);
        ck_assert_uint_eq(v.single_clause[c].hits, clause[0][c]);
    }
    ck_assert_uint_eq(v.soft.count, TAG_COUNT * PER_TAG * PICTURES);
    ck_assert_double_eq_tol(v.soft.mean, soft / (TAG_COUNT * PER_TAG * PICTURES), 1e-9);
    ck_assert_double_eq(v.diversity.total_bits, 0.0); /* not asked for */
    pipeline_close(p);
}
END_TEST

SUITE("dagline/evaluate", 60, shares_are_those_of_the_pictures_one_by_one)
