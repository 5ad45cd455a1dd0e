#include "dagline/cmd_world.h"

#include "base/file.h"
#include "base/mem.h"
#include "dagline/command.h"
#include "io/png.h"
#include "shapes/degrade.h"
#include "shapes/judge.h"
#include "shapes/prompts.h"
#include "shapes/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GRID_GAP_PX 2

#define WORLD_PARAMS(P, S)                                                                         \
    P(S, integer, count, "0", "0", "3600", "pictures", "to draw, in one sheet (-o)")               \
    P(S, text, output, "", "", "1000", "", "the PNG of --count")                                   \
    P(S, flag, captions, "no", "", "", "", "print row, column and caption of each picture")        \
    P(S, integer, judge, "0", "0", "1000000", "pictures",                                          \
      "to hold the judge against: how well it reads them")                                         \
    P(S, real, blur, "0", "0", "10", "pixels", "blur those first: standard deviation")             \
    P(S, real, noise, "0", "0", "255", "1/255", "and add noise: standard deviation")               \
    P(S, integer, prompts, "0", "0", "4096", "prompts", "to print, as JSON lines")                 \
    P(S, flag, held_out, "no", "", "", "", "prompts that training never sees")                     \
    P(S, flag, open, "no", "", "", "",                                                             \
      "prompts that leave nearly all free, for measures of diversity")                             \
    P(S, integer, seed, "1", "0", "", "", "another world of the same kind")
CONFIG_STRUCT(world_params, WORLD_PARAMS);
CONFIG_TABLE_OPTIONS(world_table, "world", "one of --count, --judge and --prompts", world_params,
                     WORLD_PARAMS);

/* ---- the grid
 * -------------------------------------------------------------------------------------- */

static int draw_grid(const struct world_params *a, struct err *e)
{
    const int columns = (int)ceil(sqrt((double)a->count)),
              rows = (int)((a->count + columns - 1) / columns);
    const int pitch = WORLD_SIDE + GRID_GAP_PX;
    uint8_t rgb[WORLD_RGB_BYTES];
    struct image grid;
    image_init(&grid, columns * pitch - GRID_GAP_PX, rows * pitch - GRID_GAP_PX);
    for (int k = 0; k < a->count; k++) {
        struct scene s;
        struct caption_spec spec;
        char text[CAPTION_BYTES_MAX];
        scene_pair(&s, &spec, (uint64_t)a->seed, (uint64_t)k);
        world_render(rgb, &s);
        for (int y = 0; y < WORLD_SIDE; y++)
            memcpy(grid.rgb +
                       ((k / columns * pitch + y) * (size_t)grid.width + k % columns * pitch) * 3,
                   rgb + y * WORLD_SIDE * 3, WORLD_SIDE * 3);
        caption_write(text, &spec);
        if (a->captions)
            printf("%d %d %s\n", k / columns + 1, k % columns + 1, text);
    }
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = png_encode(&bytes, &size, &grid, NULL, e);
    if (rc == 0)
        rc = file_replace(a->output, bytes, size, 0644, e);
    mem_free(bytes);
    image_done(&grid);
    return rc;
}

/* ---- the judge's table
 * -------------------------------------------------------------------------------- */

struct tally {
    long seen[TAG_COUNT], strict[TAG_COUNT];
    double soft[TAG_COUNT];
    long failed_count, failed_shape, failed_colour, failed_size, failed_position, failed_background;
    long shape[SHAPE_COUNT][SHAPE_COUNT + 1],
        colour[COLOUR_COUNT][COLOUR_COUNT + 1]; /* last: not found */
};

static void tally_objects(struct tally *t, const struct scene *s, const struct judge_view *v)
{
    for (int i = 0; i < s->count; i++) {
        const struct world_object *o = &s->object[i];
        int shape = SHAPE_COUNT, colour = COLOUR_COUNT;
        for (int k = 0; k < v->count; k++)
            if (hypot(v->object[k].x - o->x, v->object[k].y - o->y) < 0.5 * o->radius) {
                shape = (int)v->object[k].shape;
                colour = (int)v->object[k].colour;
            }
        t->shape[o->shape][shape]++;
        t->colour[o->colour][colour]++;
    }
}

static void tally_verdict(struct tally *t, enum caption_tag tag, const struct judge_verdict *v)
{
    t->seen[tag]++;
    t->strict[tag] += v->strict;
    t->soft[tag] += v->soft;
    t->failed_count += !v->count;
    t->failed_shape += !v->shape;
    t->failed_colour += !v->colour;
    t->failed_size += !v->size;
    t->failed_position += !v->position;
    t->failed_background += !v->background;
}

static void print_confusion(const char *what, const char *const *names, int n, const long *counts)
{
    printf("\n%s: drawn (row) and read (column)\n%-9s", what, "");
    for (int k = 0; k <= n; k++)
        printf("%9s", k < n ? names[k] : "missed");
    for (int i = 0; i < n; i++) {
        printf("\n%-9s", names[i]);
        for (int k = 0; k <= n; k++)
            printf("%9ld", counts[i * (n + 1) + k]);
    }
    printf("\n");
}

static void print_tally(const struct tally *t, double seconds)
{
    long seen = 0, strict = 0;
    double soft = 0.0;
    printf("%-14s %8s %9s %9s\n", "tag", "pictures", "strict %", "soft");
    for (int k = 0; k < TAG_COUNT; k++) {
        seen += t->seen[k];
        strict += t->strict[k];
        soft += t->soft[k];
        if (t->seen[k] > 0)
            printf("%-14s %8ld %9.3f %9.4f\n", caption_tag_names[k], t->seen[k],
                   100.0 * (double)t->strict[k] / (double)t->seen[k],
                   t->soft[k] / (double)t->seen[k]);
    }
    printf("%-14s %8ld %9.3f %9.4f\n", "all", seen, 100.0 * (double)strict / (double)seen,
           soft / (double)seen);
    printf("\nclauses that failed: count %ld, shape %ld, colour %ld, size %ld, position %ld, "
           "background %ld\n",
           t->failed_count, t->failed_shape, t->failed_colour, t->failed_size, t->failed_position,
           t->failed_background);
    print_confusion("shapes", world_shape_names, SHAPE_COUNT, &t->shape[0][0]);
    print_confusion("colours", world_colour_names, COLOUR_COUNT, &t->colour[0][0]);
    printf("\n%.0f pictures judged a second on one core\n", (double)seen / seconds);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void judge_truth(const struct world_params *a)
{
    struct judge *j = judge_new();
    struct tally *t = mem_new(1, sizeof *t);
    double seconds = 0.0;
    for (int64_t k = 0; k < a->judge; k++) {
        struct scene s;
        struct caption_spec spec;
        struct judge_view view;
        struct judge_verdict verdict;
        uint8_t rgb[WORLD_RGB_BYTES];
        scene_pair(&s, &spec, (uint64_t)a->seed, (uint64_t)k);
        world_render(rgb, &s);
        const struct rng g = rng_stream((uint64_t)a->seed, (uint64_t)k, 1);
        if (a->blur > 0.0 || a->noise > 0.0)
            degrade(rgb, a->blur, a->noise, &g);
        const double start = cpu_seconds();
        judge_look(j, &view, rgb);
        judge_score(&verdict, &view, &spec);
        seconds += cpu_seconds() - start;
        tally_verdict(t, caption_tag(&spec), &verdict);
        tally_objects(t, &s, &view);
    }
    print_tally(t, seconds);
    mem_free(t);
    judge_free(j);
}

/* ---- prompts
 * ------------------------------------------------------------------------------------------ */

static int print_prompts(const struct world_params *a, struct err *e)
{
    const struct prompts_options o = {PROMPTS_ALL, a->held_out, (uint64_t)a->seed};
    struct prompt *p = mem_new((size_t)a->prompts, sizeof *p);
    int rc = 0;
    if (a->open)
        prompts_open(p, (size_t)a->prompts);
    else
        rc = prompts_draw(p, (size_t)a->prompts, &o, e);
    /* captions and tags are plain ASCII words: nothing to escape */
    for (int64_t k = 0; k < a->prompts && rc == 0; k++)
        printf("{\"prompt\": \"%s\", \"tag\": \"%s\"}\n", p[k].text, caption_tag_names[p[k].tag]);
    mem_free(p);
    return rc;
}

static int world(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct world_params *a = params;
    (void)arguments, (void)count;
    if ((a->count > 0) + (a->judge > 0) + (a->prompts > 0) != 1)
        return err_set(e, ERR_USAGE, "one of --count, --judge and --prompts is needed");
    if (a->count > 0 && a->output[0] == 0)
        return err_set(e, ERR_USAGE, "-o names no file for the sheet; add -o sheet.png");
    if (a->open && a->prompts > PROMPTS_OPEN_MAX)
        return err_set(e, ERR_USAGE, "there are %d open prompts; ask for at most as many",
                       PROMPTS_OPEN_MAX);
    if (a->count > 0)
        return draw_grid(a, e);
    if (a->prompts > 0)
        return print_prompts(a, e);
    judge_truth(a);
    return 0;
}

int cmd_world(int argc, char **argv)
{
    struct world_params p;
    const struct command command = {
        .name = "dagline world",
        .about = "pictures, prompts and the judge of the embedded world",
        .output = "output",
        .table = &world_table,
        .params = &p,
        .work = world,
    };
    return command_main(&command, argc, argv);
}
