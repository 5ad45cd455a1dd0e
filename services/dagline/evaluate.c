#include "dagline/evaluate.h"

#include "base/clock.h"
#include "base/mem.h"
#include "run/generate.h"

#include <string.h>

#define PICTURE_STREAM(i, j) ((uint64_t)(i) << 32 | (uint64_t)(j))
#define OPEN_FIRST (1u << 24) /* prompts of the diversity set are numbered from here */

static int check_size(const struct pipeline *p, struct err *e)
{
    const struct pipeline_shape *s = pipeline_shape(p);
    if (s->image_height == WORLD_SIDE && s->image_width == WORLD_SIDE)
        return 0;
    return err_set(e, ERR_SHAPE, "the judge reads pictures of %dx%d, this model makes %zux%zu", WORLD_SIDE, WORLD_SIDE,
                   s->image_width, s->image_height);
}

int evaluate_plan(struct transition_kernel *kernels, const struct pipeline *p, int steps, double floor_kappa, struct err *e)
{
    const struct plan_options plan = {.steps = steps,
                                      .eta = 1.0,
                                      .variance = VARIANCE_FLOOR,
                                      .floor_kappa = floor_kappa,
                                      .last_step_mean = true,
                                      .clamp_last = true};
    return check_size(p, e) < 0 ? -1 : schedule_plan(kernels, pipeline_schedule(p), &plan, e);
}

double evaluate_rate(const struct evaluate_share *s)
{
    return s->n > 0 ? (double)s->hits / (double)s->n : 0.0;
}

const char *const evaluate_clause_names[CLAUSES] = {"count", "shape", "colour", "size", "position", "background"};

void evaluate_add(struct evaluate_share *s, bool hit)
{
    s->hits += hit;
    s->n++;
}

void evaluate_add_clauses(struct evaluate_share clause[CLAUSES], const struct judge_verdict *v)
{
    const bool hit[CLAUSES] = {v->count, v->shape, v->colour, v->size, v->position, v->background};
    for (int i = 0; i < CLAUSES; i++)
        evaluate_add(&clause[i], hit[i]);
}

/* The work of one call. */
struct work {
    struct pipeline *p;
    const struct evaluate_options *o;
    struct judge *judge;
    uint8_t *rgb;
    const char **prompts; /* [n] of the set under way */
    uint64_t *streams;
    size_t room;
    int (*poll)(void *, struct err *);
    void *arg;
};

/* Pictures 0..each-1 of n prompts, numbered from `first`. */
static int make(struct work *w, const struct prompt *prompt, size_t n, size_t each, uint64_t first, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < each; j++) {
            w->prompts[i * each + j] = prompt[i].text;
            w->streams[i * each + j] = PICTURE_STREAM(first + i, j);
        }
    const struct generate_request q = {.kernels = w->o->kernels,
                                       .steps = w->o->steps,
                                       .guidance = w->o->guidance,
                                       .seed = w->o->seed,
                                       .prompts = w->prompts,
                                       .streams = w->streams,
                                       .count = n * each};
    return generate(w->rgb, w->p, &q, w->poll, w->arg, e);
}

static int alignment(struct evaluation *out, struct work *w, enum caption_tag tag, struct err *e)
{
    const size_t want = w->o->prompts_per_tag;
    struct prompt *prompt = mem_new(want, sizeof *prompt);
    const struct prompts_options po = {.tags = PROMPTS_TAG(tag), .held_out = w->o->held_out, .seed = w->o->seed};
    size_t n = want;
    int rc = -1;
    /* the grammar has few captions of some tags: take what there is */
    while (n > 0 && (rc = prompts_draw(prompt, n, &po, e)) < 0 && e->code == ERR_FULL)
        n = n * 3 / 4;
    if (rc == 0)
        rc = make(w, prompt, n, w->o->pictures, (uint64_t)tag << 20, e);
    for (size_t i = 0; rc == 0 && i < n * w->o->pictures; i++) {
        struct judge_view view;
        struct judge_verdict v;
        judge_look(w->judge, &view, w->rgb + i * WORLD_RGB_BYTES);
        judge_score(&v, &view, &prompt[i / w->o->pictures].spec);
        stats_add(&out->soft, v.soft);
        const bool hard = (PROMPTS_TAG(tag) & PROMPTS_HARD) != 0;
        evaluate_add(&out->tag[tag], v.strict);
        evaluate_add(hard ? &out->hard : &out->single, v.strict);
        evaluate_add_clauses(hard ? out->hard_clause : out->single_clause, &v);
    }
    mem_free(prompt);
    return rc;
}

static int diversity(struct evaluation *out, struct work *w, struct err *e)
{
    const size_t n = w->o->open_prompts, each = w->o->open_pictures;
    struct prompt prompt[PROMPTS_OPEN_MAX];
    struct diversity of[PROMPTS_OPEN_MAX];
    struct judge_attributes *a = mem_new(each, sizeof *a);
    bool *seen = mem_new(each, sizeof *seen);
    prompts_open(prompt, n);
    const int rc = make(w, prompt, n, each, OPEN_FIRST, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        for (size_t j = 0; j < each; j++) {
            struct judge_view view;
            judge_look(w->judge, &view, w->rgb + (i * each + j) * WORLD_RGB_BYTES);
            seen[j] = judge_attributes(&a[j], &view);
        }
        diversity_of(&of[i], a, seen, each);
    }
    if (rc == 0)
        diversity_mean(&out->diversity, of, n);
    mem_free(seen);
    mem_free(a);
    return rc;
}

int evaluate(struct evaluation *out, struct pipeline *p, const struct evaluate_options *o,
             int (*poll)(void *, struct err *), void *arg, struct err *e)
{
    if (check_size(p, e) < 0)
        return -1;
    const double from = clock_mono_s(NULL);
    struct work w = {.p = p, .o = o, .judge = judge_new(), .poll = poll, .arg = arg};
    const size_t a = o->prompts_per_tag * o->pictures, b = o->open_prompts * o->open_pictures;
    w.room = a > b ? a : b;
    w.rgb = mem_new(w.room, WORLD_RGB_BYTES);
    w.prompts = mem_new(w.room, sizeof *w.prompts);
    w.streams = mem_new(w.room, sizeof *w.streams);
    memset(out, 0, sizeof *out);
    stats_init(&out->soft);
    int rc = 0;
    for (int tag = 0; rc == 0 && tag < TAG_COUNT; tag++)
        rc = alignment(out, &w, (enum caption_tag)tag, e);
    if (rc == 0 && o->open_prompts > 0)
        rc = diversity(out, &w, e);
    mem_free(w.streams);
    mem_free(w.prompts);
    mem_free(w.rgb);
    judge_free(w.judge);
    out->seconds = clock_mono_s(NULL) - from;
    return rc;
}
