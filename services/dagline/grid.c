#include "dagline/grid.h"

#include "base/mem.h"
#include "io/chart.h"
#include "run/generate.h"
#include "shapes/judge.h"

#include <math.h>
#include <stdio.h>

#define ROWS 8
#define COLUMNS 8
#define STREAM_FIRST ((uint64_t)1 << 40)

static const char *const prompts[ROWS] = {
    "a red circle",
    "a large yellow star on a plain navy background",
    "a small green cross in the top left",
    "two blue squares",
    "three orange triangles on a gray background",
    "four small purple diamonds",
    "a white ring and a red square",
    "a blue star left of a yellow circle",
};

int grid_of_prompts(const char *path, struct pipeline *p, const struct transition_kernel *kernels, int steps,
                    double guidance, uint64_t seed, struct err *e)
{
    const struct pipeline_shape *s = pipeline_shape(p);
    const size_t bytes = s->image_height * s->image_width * 3;
    const char *text[ROWS * COLUMNS], *columns[COLUMNS];
    uint64_t streams[ROWS * COLUMNS];
    struct image image[ROWS * COLUMNS];
    struct chart_tile tiles[ROWS * COLUMNS];
    char captions[ROWS * COLUMNS][8], titles[COLUMNS][16];
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        text[i] = prompts[i / COLUMNS];
        streams[i] = STREAM_FIRST + (uint64_t)i;
    }
    for (int j = 0; j < COLUMNS; j++) {
        snprintf(titles[j], sizeof titles[j], "%d", j + 1);
        columns[j] = titles[j];
    }
    uint8_t *rgb = mem_new(ROWS * COLUMNS, bytes);
    struct judge *judge = judge_new();
    const struct generate_request q = {.kernels = kernels, .steps = steps, .guidance = guidance, .seed = seed,
                                       .prompts = text, .streams = streams, .count = ROWS * COLUMNS};
    int rc = generate(rgb, p, &q, NULL, NULL, e);
    for (int i = 0; rc == 0 && i < ROWS * COLUMNS; i++) {
        struct caption_spec spec;
        struct judge_view view;
        struct judge_verdict v;
        rc = caption_parse(&spec, text[i], e);
        judge_look(judge, &view, rgb + (size_t)i * bytes);
        judge_score(&v, &view, &spec);
        snprintf(captions[i], sizeof captions[i], "%.2f%s", v.soft, v.strict ? "*" : "");
        image[i] = (struct image){(int)s->image_width, (int)s->image_height, rgb + (size_t)i * bytes};
        tiles[i] = (struct chart_tile){&image[i], captions[i], v.soft};
    }
    const struct chart_grid grid = {ROWS, COLUMNS, prompts, columns, "seed", tiles};
    const struct chart_page page = {.title = "Samples", .grid = &grid,
                                    .footnote = "soft alignment under each picture; * = strict: every clause holds"};
    if (rc == 0)
        rc = chart_write(path, &page, e);
    judge_free(judge);
    mem_free(rgb);
    return rc;
}
