#include "dagline/cmd_generate.h"

#include "base/file.h"
#include "base/mem.h"
#include "diffusion/pipeline.h"
#include "io/png.h"
#include "run/generate.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 256

static const char usage[] =
    "usage: dagline generate --model DIR --prompt TEXT -o FILE.png\n"
    "  --policy FILE   safetensors: adapters (diffusers, PEFT or kohya naming) or all UNet "
    "weights\n"
    "  --steps N       DDIM steps (50)             --eta E       0 deterministic .. 1 (0)\n"
    "  --guidance G    1: none (1)                 --seed S      (0)\n"
    "  --count N       pictures; more than one are numbered before .png (1)\n"
    "  --threads K     0: all of the machine's (0)\n";

struct request {
    const char *model, *policy, *prompt, *out;
    long steps, count, threads;
    double eta, guidance;
    unsigned long long seed;
};

static int whole(long *out, const char *name, const char *text, long min, long max, struct err *e)
{
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < min || v > max)
        return err_set(e, ERR_USAGE, "--%s is '%s'; give a whole number from %ld to %ld", name,
                       text, min, max);
    *out = v;
    return 0;
}

static int number(double *out, const char *name, const char *text, double min, double max,
                  struct err *e)
{
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(v >= min && v <= max))
        return err_set(e, ERR_USAGE, "--%s is '%s'; give a number from %g to %g", name, text, min,
                       max);
    *out = v;
    return 0;
}

static int seed(unsigned long long *out, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || text[0] == '-')
        return err_set(e, ERR_USAGE, "--seed is '%s'; give a whole number from 0 to 2^64 - 1",
                       text);
    return 0;
}

static int parse_args(struct request *r, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"policy", required_argument, NULL, 'p'},
                                            {"prompt", required_argument, NULL, 't'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"eta", required_argument, NULL, 'e'},
                                            {"guidance", required_argument, NULL, 'g'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"count", required_argument, NULL, 'c'},
                                            {"threads", required_argument, NULL, 'k'},
                                            {"output", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    int rc = 0;
    optind = 1;
    opterr = 0;
    for (int o; rc == 0 && (o = getopt_long(argc, argv, "o:", options, NULL)) != -1;)
        switch (o) {
        case 'm':
            r->model = optarg;
            break;
        case 'p':
            r->policy = optarg;
            break;
        case 't':
            r->prompt = optarg;
            break;
        case 'o':
            r->out = optarg;
            break;
        case 'n':
            rc = whole(&r->steps, "steps", optarg, 1, 1000, e);
            break;
        case 'c':
            rc = whole(&r->count, "count", optarg, 1, COUNT_MAX, e);
            break;
        case 'k':
            rc = whole(&r->threads, "threads", optarg, 0, 256, e);
            break;
        case 'e':
            rc = number(&r->eta, "eta", optarg, 0.0, 1.0, e);
            break;
        case 'g':
            rc = number(&r->guidance, "guidance", optarg, 0.0, 100.0, e);
            break;
        case 's':
            rc = seed(&r->seed, optarg, e);
            break;
        default:
            rc = err_set(e, ERR_USAGE, "unknown or incomplete option '%s'", argv[optind - 1]);
        }
    if (rc == 0 && (r->model == NULL || r->prompt == NULL || r->out == NULL || optind != argc))
        rc = err_set(e, ERR_USAGE,
                     optind != argc ? "unexpected '%s'" : "--model, --prompt and -o are needed%s",
                     optind != argc ? argv[optind] : "");
    return rc;
}

/* picture.png, or picture-003.png of several. */
static int picture_path(char path[FILE_PATH_BYTES_MAX], const struct request *r, long i,
                        struct err *e)
{
    const size_t n = strlen(r->out);
    const size_t stem = n > 4 && strcmp(r->out + n - 4, ".png") == 0 ? n - 4 : n;
    const int length =
        r->count == 1 ? snprintf(path, FILE_PATH_BYTES_MAX, "%s", r->out)
                      : snprintf(path, FILE_PATH_BYTES_MAX, "%.*s-%03ld.png", (int)stem, r->out, i);
    return length < FILE_PATH_BYTES_MAX
               ? 0
               : err_set(e, ERR_INVALID, "-o is longer than %d bytes", FILE_PATH_BYTES_MAX - 1);
}

/* How the picture was made, in the form that other tools read from PNG files. */
static int write_pictures(const struct request *r, const struct pipeline_shape *s, uint8_t *rgb,
                          struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    const size_t room = strlen(r->prompt) + 512;
    char *const text = mem_new(room, 1);
    int rc = 0;
    for (long i = 0; rc == 0 && i < r->count; i++) {
        const struct image view = {(int)s->image_width, (int)s->image_height,
                                   rgb + (size_t)i * s->image_height * s->image_width * 3};
        snprintf(
            text, room,
            "%s\nSteps: %ld, Sampler: DDIM, CFG scale: %g, Seed: %llu, Size: %zux%zu, Eta: %g, "
            "Picture: %ld",
            r->prompt, r->steps, r->guidance, r->seed, s->image_width, s->image_height, r->eta, i);
        rc = picture_path(path, r, i, e);
        if (rc == 0)
            rc = png_write(path, &view, text, e);
    }
    mem_free(text);
    return rc;
}

static int draw(const struct request *r, struct pipeline *p, struct err *e)
{
    const struct pipeline_shape *const s = pipeline_shape(p);
    const size_t count = (size_t)r->count, bytes = s->image_height * s->image_width * 3;
    const struct plan_options plan = {.steps = (int)r->steps, .eta = r->eta};
    struct transition_kernel *const kernels = mem_new((size_t)r->steps, sizeof *kernels);
    const char **const prompts = mem_new(count, sizeof *prompts);
    uint64_t *const streams = mem_new(count, sizeof *streams);
    uint8_t *const rgb = mem_new(count, bytes);
    const real *condition;
    bool truncated = false;
    for (size_t i = 0; i < count; i++) {
        prompts[i] = r->prompt;
        streams[i] = i;
    }
    const struct generate_request q = {.kernels = kernels,
                                       .steps = (int)r->steps,
                                       .guidance = r->guidance,
                                       .seed = r->seed,
                                       .prompts = prompts,
                                       .streams = streams,
                                       .count = count};
    int rc = schedule_plan(kernels, pipeline_schedule(p), &plan, e);
    if (rc == 0)
        rc = pipeline_condition(p, r->prompt, &condition, &truncated, e);
    if (rc == 0 && truncated)
        fprintf(stderr, "dagline generate: the prompt is longer than %zu tokens and was cut\n",
                s->tokens);
    if (rc == 0)
        rc = generate(rgb, p, &q, NULL, NULL, e);
    if (rc == 0)
        rc = write_pictures(r, s, rgb, e);
    mem_free(rgb);
    mem_free(streams);
    mem_free(prompts);
    mem_free(kernels);
    return rc;
}

int cmd_generate(int argc, char **argv)
{
    struct request r = {.steps = 50, .count = 1, .guidance = 1.0};
    struct pipeline *p = NULL;
    struct err e;
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (parse_args(&r, argc, argv, &e) < 0) {
        fprintf(stderr, "dagline generate: %s\n%s", e.text, usage);
        return 2;
    }
    const struct pipeline_options o = {.threads = (int)r.threads};
    int rc = pipeline_open(&p, r.model, &o, &e);
    if (rc == 0)
        rc = r.policy == NULL ? 0 : pipeline_policy_load(p, r.policy, &e);
    if (rc == 0)
        rc = draw(&r, p, &e);
    pipeline_close(p);
    if (rc < 0)
        fprintf(stderr, "dagline generate: %s\n", e.text);
    return rc < 0 ? 1 : 0;
}
