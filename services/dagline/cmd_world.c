#include "dagline/cmd_world.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/png.h"
#include "shapes/degrade.h"
#include "shapes/judge.h"
#include "shapes/prompts.h"
#include "shapes/scene.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT_MAX 1000000
#define GRID_COUNT_MAX 3600
#define GRID_GAP_PX 2

struct world_args {
    uint64_t seed;
    long count, judge, prompts;
    double blur, noise;
    bool captions, held_out, open, help;
    const char *out;
};

static const char usage[] =
    "usage: dagline world --count N -o GRID.png [--captions]   pictures of the embedded world\n"
    "       dagline world --judge N [--blur PX] [--noise S]    how well the judge reads N of them\n"
    "       dagline world --prompts N [--held-out | --open]    a set of prompts as JSON lines\n"
    "  --seed S      another world of the same kind (default 1)\n"
    "  --captions    print row, column and caption of each picture\n"
    "  --blur PX     blur the pictures first: standard deviation, 0 to 10 pixels\n"
    "  --noise S     and add noise: standard deviation in 1/255, 0 to 255\n"
    "  --held-out    prompts that training never sees\n"
    "  --open        prompts that leave nearly all free, for measures of diversity\n";

/* ---- arguments
 * ------------------------------------------------------------------------------------ */

static int read_count(long *out, const char *name, const char *text, long most, struct err *e)
{
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < 1 || v > most)
        return err_set(e, ERR_USAGE, "--%s is '%s'; give a whole number from 1 to %ld", name, text,
                       most);
    *out = v;
    return 0;
}

static int read_seed(uint64_t *out, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return err_set(e, ERR_USAGE, "--seed is '%s'; give a whole number from 0", text);
    *out = v;
    return 0;
}

static int read_real(double *out, const char *name, const char *text, double most, struct err *e)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= 0.0 && v <= most))
        return err_set(e, ERR_USAGE, "--%s is '%s'; give a number from 0 to %g", name, text, most);
    *out = v;
    return 0;
}

static int take(struct world_args *a, int option, struct err *e)
{
    switch (option) {
    case 's':
        return read_seed(&a->seed, optarg, e);
    case 'n':
        return read_count(&a->count, "count", optarg, GRID_COUNT_MAX, e);
    case 'j':
        return read_count(&a->judge, "judge", optarg, COUNT_MAX, e);
    case 'p':
        return read_count(&a->prompts, "prompts", optarg, PROMPTS_MAX, e);
    case 'b':
        return read_real(&a->blur, "blur", optarg, DEGRADE_BLUR_MAX, e);
    case 'z':
        return read_real(&a->noise, "noise", optarg, 255.0, e);
    case 'o':
        a->out = optarg;
        return 0;
    case 'c':
        a->captions = true;
        return 0;
    case 'x':
        a->held_out = true;
        return 0;
    case 'f':
        a->open = true;
        return 0;
    case 'h':
        a->help = true;
        return 0;
    default:
        return err_set(e, ERR_USAGE, "an option is unknown or lacks its value");
    }
}

static int parse(struct world_args *a, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},  {"count", required_argument, NULL, 'n'},
        {"judge", required_argument, NULL, 'j'}, {"prompts", required_argument, NULL, 'p'},
        {"blur", required_argument, NULL, 'b'},  {"noise", required_argument, NULL, 'z'},
        {"captions", no_argument, NULL, 'c'},    {"held-out", no_argument, NULL, 'x'},
        {"open", no_argument, NULL, 'f'},        {"help", no_argument, NULL, 'h'},
        {"out", required_argument, NULL, 'o'},   {NULL, 0, NULL, 0}};
    int option;
    *a = (struct world_args){.seed = 1};
    optind = 1;
    while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1)
        if (take(a, option, e) < 0)
            return -1;
    if (optind < argc)
        return err_set(e, ERR_USAGE, "'%s' is not an option", argv[optind]);
    if (!a->help && (a->count > 0) + (a->judge > 0) + (a->prompts > 0) != 1)
        return err_set(e, ERR_USAGE, "one of --count, --judge and --prompts is needed");
    if (!a->help && a->count > 0 && a->out == NULL)
        return err_set(e, ERR_USAGE, "-o names no file for the grid; add -o grid.png");
    if (a->open && a->prompts > PROMPTS_OPEN_MAX)
        return err_set(e, ERR_USAGE, "there are %d open prompts; ask for at most as many",
                       PROMPTS_OPEN_MAX);
    return 0;
}

/* ---- the grid
 * -------------------------------------------------------------------------------------- */

static int draw_grid(const struct world_args *a, struct err *e)
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
        scene_pair(&s, &spec, a->seed, (uint64_t)k);
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
        rc = file_replace(a->out, bytes, size, 0644, e);
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

static void judge_truth(const struct world_args *a)
{
    struct judge *j = judge_new();
    struct tally *t = mem_new(1, sizeof *t);
    double seconds = 0.0;
    for (long k = 0; k < a->judge; k++) {
        struct scene s;
        struct caption_spec spec;
        struct judge_view view;
        struct judge_verdict verdict;
        uint8_t rgb[WORLD_RGB_BYTES];
        scene_pair(&s, &spec, a->seed, (uint64_t)k);
        world_render(rgb, &s);
        const struct rng g = rng_stream(a->seed, (uint64_t)k, 1);
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

static int print_prompts(const struct world_args *a, struct err *e)
{
    const struct prompts_options o = {PROMPTS_ALL, a->held_out, a->seed};
    struct prompt *p = mem_new((size_t)a->prompts, sizeof *p);
    int rc = 0;
    if (a->open)
        prompts_open(p, (size_t)a->prompts);
    else
        rc = prompts_draw(p, (size_t)a->prompts, &o, e);
    /* captions and tags are plain ASCII words: nothing to escape */
    for (long k = 0; k < a->prompts && rc == 0; k++)
        printf("{\"prompt\": \"%s\", \"tag\": \"%s\"}\n", p[k].text, caption_tag_names[p[k].tag]);
    mem_free(p);
    return rc;
}

int cmd_world(int argc, char **argv)
{
    struct world_args a;
    struct err e = {0};
    int rc = parse(&a, argc, argv, &e);
    if (rc == 0 && a.help)
        fputs(usage, stdout);
    else if (rc == 0 && a.count > 0)
        rc = draw_grid(&a, &e);
    else if (rc == 0 && a.prompts > 0)
        rc = print_prompts(&a, &e);
    else if (rc == 0)
        judge_truth(&a);
    if (rc < 0)
        fprintf(stderr, "dagline world: %s\n", e.text);
    if (rc < 0 && e.code == ERR_USAGE)
        fputs(usage, stderr);
    return rc == 0 ? 0 : e.code == ERR_USAGE ? 2 : 1;
}
