#include "dagline/scored.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "dagline/process.h"
#include "io/png.h"
#include "run/generate.h"
#include "wire/loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL_PICTURES_MAX 16 /* of one call of the scorer */
#define ARGUMENTS 6          /* before the pictures */
#define CALL_MS 600000
#define END_MS 2000
#define ANSWER_BYTES_MAX ((size_t)1 << 20)
#define PATH_BYTES (FILE_PATH_BYTES_MAX + 32)

struct work {
    const struct scored_options *o;
    struct pipeline *p;
    const char *folder;
    uint8_t *rgb; /* [pictures] */
    uint64_t *streams;
    const char **texts;
    char (*path)[PATH_BYTES]; /* [pictures] */
};

static int draw(struct work *w, size_t i, const struct run_prompt *prompt, struct err *e)
{
    const struct pipeline_shape *const s = pipeline_shape(w->p);
    for (size_t j = 0; j < w->o->pictures; j++) {
        w->streams[j] = i * w->o->pictures + j;
        w->texts[j] = prompt->text;
    }
    const struct generate_request q = {.kernels = w->o->kernels,
                                       .steps = w->o->steps,
                                       .guidance = w->o->guidance,
                                       .seed = w->o->seed,
                                       .prompts = w->texts,
                                       .streams = w->streams,
                                       .count = w->o->pictures};
    int rc = generate(w->rgb, w->p, &q, NULL, NULL, e);
    for (size_t j = 0; rc == 0 && j < w->o->pictures; j++) {
        const struct image view = {(int)s->image_width, (int)s->image_height,
                                   w->rgb + j * s->image_height * s->image_width * 3};
        snprintf(w->path[j], PATH_BYTES, "%s/%04zu-%zu.png", w->folder, i, j);
        rc = png_write(w->path[j], &view, prompt->text, e);
    }
    return rc;
}

/* One line for each picture: the score, a tab, more. */
static int read_scores(double *sum, const char *answer, size_t n, struct err *e)
{
    char *text, *at, *end;
    if (file_read_all(answer, ANSWER_BYTES_MAX, &text, NULL, e) < 0)
        return -1;
    at = text;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const double score = strtod(at, &end);
        if (end == at || *end != '\t' || !isfinite(score))
            rc = err_set(e, ERR_INVALID, "%s: line %zu is not a score", answer, i + 1);
        *sum += score;
        at = end + strcspn(end, "\n");
        at += *at == '\n';
    }
    mem_free(text);
    return rc;
}

/* As --prompt-file wants it: a command line has no room for the longest. */
static int write_prompt(const char *path, const struct run_prompt *prompt, struct err *e)
{
    struct json *metadata = NULL;
    if (prompt->metadata[0] != 0 &&
        json_parse(&metadata, prompt->metadata, strlen(prompt->metadata), PROMPT_SET_LINE_BYTES_MAX, e) < 0)
        return -1;
    char *const text = prompt_set_line(prompt->text, prompt->tag, metadata);
    const int rc = file_replace(path, text, strlen(text), 0644, e);
    mem_free(text);
    json_free(metadata);
    return rc;
}

/* Adds the scores of pictures from .. from + n - 1. */
static int ask(double *sum, struct work *w, const struct run_prompt *prompt, size_t from, size_t n, struct err *e)
{
    char binary[FILE_PATH_BYTES_MAX], answer[FILE_PATH_BYTES_MAX], asked[FILE_PATH_BYTES_MAX], why[1024];
    struct process p;
    if (file_join(binary, w->o->binaries, "dagline-scorer", e) < 0 || file_join(answer, w->folder, "scores", e) < 0 ||
        file_join(asked, w->folder, "prompt.jsonl", e) < 0 || write_prompt(asked, prompt, e) < 0)
        return -1;
    const char *arguments[ARGUMENTS + CALL_PICTURES_MAX + 1] = {
        binary, "score", "--config", w->o->config, "--prompt-file", asked};
    for (size_t j = 0; j < n; j++)
        arguments[ARGUMENTS + j] = w->path[from + j];
    unlink(answer);
    process_init(&p, "score", answer, arguments);
    int rc = process_start(&p, e);
    if (!process_wait(&p, CALL_MS, loop_signal_waits)) {
        process_end(&p);
        process_wait_gone(&p, END_MS);
    }
    if (rc == 0 && loop_signal_waits())
        rc = err_set(e, ERR_CLOSED, "stopped");
    if (rc == 0 && p.exit_status != 0) {
        process_last_line(&p, why, sizeof why);
        rc = why[0] != 0 ? err_set(e, ERR_UNAVAILABLE, "%s", why)
                         : err_set(e, ERR_UNAVAILABLE, "%s ended with status %d", binary, p.exit_status);
    }
    if (rc == 0)
        rc = read_scores(sum, answer, n, e);
    unlink(answer);
    unlink(asked);
    process_done(&p);
    return rc;
}

int scored(double *score, struct pipeline *p, const struct scored_options *o, const char *folder, struct err *e)
{
    const struct pipeline_shape *const s = pipeline_shape(p);
    struct work w = {.o = o, .p = p, .folder = folder};
    w.rgb = mem_new(o->pictures, s->image_height * s->image_width * 3);
    w.streams = mem_new(o->pictures, sizeof *w.streams);
    w.texts = mem_new(o->pictures, sizeof *w.texts);
    w.path = mem_new(o->pictures, sizeof *w.path);
    int rc = file_make_folders(folder, e);
    for (size_t i = 0; i < o->count && rc == 0; i++) {
        if (loop_signal_waits()) {
            rc = err_set(e, ERR_CLOSED, "stopped");
            break;
        }
        const struct run_prompt *const prompt = &o->prompts->item[i * o->prompts->count / o->count];
        double sum = 0.0;
        rc = draw(&w, i, prompt, e);
        for (size_t j = 0; j < o->pictures && rc == 0; j += CALL_PICTURES_MAX)
            rc = ask(&sum, &w, prompt, j, o->pictures - j < CALL_PICTURES_MAX ? o->pictures - j : CALL_PICTURES_MAX, e);
        score[i] = sum / (double)o->pictures;
    }
    mem_free(w.path);
    mem_free(w.texts);
    mem_free(w.streams);
    mem_free(w.rgb);
    return rc;
}
