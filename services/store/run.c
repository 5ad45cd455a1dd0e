#include "store/run.h"

#include "base/buf.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "rollout/trajectory.h"
#include "run/prompt_file.h"
#include "run/prompt_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FOLDER_ENTRIES_MAX 1024
#define FOLDER_DEPTH_MAX 2
#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define IDENTITY_BYTES_MAX 4096

/* ---- the model ---- */

struct walk {
    struct run_spec *run;
    struct blobs *blobs;
    const char *root;
    const char *below; /* "" or "unet/" */
    int depth;
};

static bool ends_with(const char *text, const char *tail)
{
    const size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

static bool is_model_file(const char *name)
{
    return (ends_with(name, ".json") || ends_with(name, ".txt") ||
            ends_with(name, ".safetensors")) &&
           name[0] != '.' && strstr(name, "non_ema") == NULL;
}

/* A half-precision variant or the shards of weights that are there in one file as well, which the readers take first
 * (diffusion/model.h). */
static bool is_superseded(const char *folder, const char *name)
{
    static const char *const marks[] = {".fp16.safetensors", ".safetensors.index.json", "-000"};
    char path[FILE_PATH_BYTES_MAX];
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const char *const at = strstr(name, marks[i]);
        const int n = at == NULL ? -1 : snprintf(path, sizeof path, "%s/%.*s.safetensors", folder, (int)(at - name), name);
        if (n > 0 && (size_t)n < sizeof path && file_exists(path))
            return true;
    }
    return false;
}

static int import_file(const struct walk *w, const char *name, const char *path, struct err *e)
{
    struct run_spec *r = w->run;
    if (r->model_count == CODEC_MODEL_FILES_MAX)
        return err_set(e, ERR_INVALID, "model folder %s: more than %d files", w->root,
                       CODEC_MODEL_FILES_MAX);
    struct model_file f = {0};
    const int n = snprintf(f.path, sizeof f.path, "%s%s", w->below, name);
    if (n < 0 || (size_t)n >= sizeof f.path)
        return err_set(e, ERR_INVALID, "model file %s: its name is longer than %d bytes", path,
                       CODEC_PATH_BYTES - 1);
    if (blobs_import(w->blobs, path, f.digest, &f.bytes, e) < 0)
        return -1;
    r->model = mem_grow(r->model, r->model_count + 1, sizeof *r->model);
    r->model[r->model_count++] = f;
    return 0;
}

static int visit(const char *name, void *arg, struct err *e)
{
    const struct walk *w = arg;
    char folder[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX], below[CODEC_PATH_BYTES];
    struct stat st;
    if (file_join(folder, w->root, w->below[0] == 0 ? "." : w->below, e) < 0 ||
        file_join(path, folder, name, e) < 0)
        return -1;
    if (stat(path, &st) < 0)
        return 0;
    if (S_ISREG(st.st_mode))
        return is_model_file(name) && !is_superseded(folder, name) ? import_file(w, name, path, e) : 0;
    if (!S_ISDIR(st.st_mode) || w->depth == FOLDER_DEPTH_MAX || name[0] == '.' ||
        strcmp(name, "safety_checker") == 0 || strcmp(name, "feature_extractor") == 0)
        return 0;
    const int n = snprintf(below, sizeof below, "%s%s/", w->below, name);
    if (n < 0 || (size_t)n >= sizeof below)
        return 0;
    struct walk deeper = *w;
    deeper.below = below;
    deeper.depth++;
    return file_list(path, FOLDER_ENTRIES_MAX, visit, &deeper, e);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct model_file *)a)->path, ((const struct model_file *)b)->path);
}

static int find_model(const char *folder, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    if (file_join(path, folder, "model_index.json", e) < 0)
        return -1;
    return file_exists(path) ? 0
                             : err_set(e, ERR_NOT_FOUND,
                                       "store.model: %s is not there; give a model folder in the diffusers layout",
                                       path);
}

int run_import_model(struct run_spec *r, struct blobs *b, const char *folder, struct err *e)
{
    struct walk w = {.run = r, .blobs = b, .root = folder, .below = ""};
    if (find_model(folder, e) < 0)
        return -1;
    if (file_list(folder, FOLDER_ENTRIES_MAX, visit, &w, e) < 0)
        return -1;
    qsort(r->model, r->model_count, sizeof *r->model, by_path);
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    for (uint32_t i = 0; i < r->model_count; i++) {
        hash_sha256_add(&h, r->model[i].path, strlen(r->model[i].path) + 1);
        hash_sha256_add(&h, r->model[i].digest, CODEC_DIGEST_BYTES);
    }
    hash_sha256_end(&h, r->model_digest);
    return 0;
}

static int read_sample_size(const struct json *config, int64_t size[2], struct err *e)
{
    const struct json *v = json_get(config, "sample_size");
    size_t n = 0;
    if (json_is_list(v)) {
        if (json_get_ints(config, "sample_size", 1, 512, size, 2, &n, e) < 0)
            return -1;
        return n == 2 ? 0 : err_set(e, ERR_INVALID, "sample_size: must have two numbers");
    }
    if (json_get_int(config, "sample_size", 1, 512, &size[0], e) < 0)
        return -1;
    size[1] = size[0];
    return 0;
}

int run_latent_size(struct run_spec *r, const char *folder, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct json *config = NULL;
    int64_t size[2];
    if (r->latent_height != 0 && r->latent_width != 0)
        return 0;
    if (file_join(path, folder, "unet/config.json", e) < 0 ||
        json_read_object(&config, path, CONFIG_BYTES_MAX, e) < 0)
        return err_wrap(e, "run.latent_height and run.latent_width are not given");
    const int rc = read_sample_size(config, size, e);
    json_free(config);
    if (rc < 0)
        return err_wrap(e, "%s", path);
    if (r->latent_height == 0)
        r->latent_height = (uint32_t)size[0];
    if (r->latent_width == 0)
        r->latent_width = (uint32_t)size[1];
    return 0;
}

/* ---- prompts ---- */

static int read_prompts(struct buf *lines, size_t *count, const char *path, const char *column, struct err *e)
{
    if (path[0] == 0)
        return err_set(e, ERR_INVALID, "store.prompts: not set; give a .txt, .jsonl, .csv or .tsv file");
    return prompt_file_read(lines, count, path, column, e) < 0 ? err_wrap(e, "store.prompts") : 0;
}

int run_import_prompts(struct run_spec *r, struct blobs *b, const char *path, const char *column,
                       struct err *e)
{
    struct buf lines;
    size_t count;
    buf_init(&lines, PROMPT_SET_BYTES_MAX);
    int rc = read_prompts(&lines, &count, path, column, e);
    if (rc == 0)
        rc = blobs_import_bytes(b, lines.data, lines.bytes, r->prompts_digest, e);
    if (rc == 0)
        r->prompt_count = (uint32_t)count;
    buf_done(&lines);
    return rc;
}

int run_check(const char *model, const char *prompts, const char *column, struct err *e)
{
    struct buf lines;
    size_t count;
    buf_init(&lines, PROMPT_SET_BYTES_MAX);
    const int rc = find_model(model, e) < 0 ? -1 : read_prompts(&lines, &count, prompts, column, e);
    buf_done(&lines);
    return rc;
}

/* ---- identity ---- */

char *run_identity(const struct run_spec *r)
{
    struct buf b;
    char model[HASH_SHA256_HEX_BYTES], prompts[HASH_SHA256_HEX_BYTES];
    hash_hex(model, r->model_digest, CODEC_DIGEST_BYTES);
    hash_hex(prompts, r->prompts_digest, CODEC_DIGEST_BYTES);
    buf_init(&b, IDENTITY_BYTES_MAX);
    buf_format(&b, "store.model=%s\nstore.prompts=%s\n", model, prompts);
    buf_format(&b, "run.seed=%llu\nrun.steps=%u\nrun.eta=%.17g\nrun.guidance=%.17g\n",
               (unsigned long long)r->seed, r->steps, r->eta, r->guidance);
    buf_format(&b, "run.variance=%s\nrun.variance_floor=%.17g\nrun.last_step_mean=%d\n",
               r->variance, r->variance_floor, r->last_step_mean);
    buf_format(&b, "run.latent_height=%u\nrun.latent_width=%u\nrun.transition_fraction=%.17g\n",
               r->latent_height, r->latent_width, r->transition_fraction);
    buf_format(&b, "run.group_size=%u\nrun.forward_looking=%d\nrun.lockstep=%d\n", r->group_size,
               r->forward_looking, r->lockstep);
    buf_format(&b, "run.lockstep_batch=%u\n", r->lockstep_batch);
    buf_format(&b, "run.forward_looking_abar=%.17g\nrun.forward_looking_base=%d\n",
               r->forward_looking_abar, r->forward_looking_base);
    if (r->undecoded) /* absent where it is not: runs from before it keep their names */
        buf_add_text(&b, "run.decode=0\n");
    return buf_take(&b, NULL);
}

int run_id_new(char out[CODEC_RUN_ID_BYTES], const char *identity, struct err *e)
{
    enum { HALF = TRAJECTORY_RUN_DIGITS / 2, REST = (CODEC_RUN_ID_BYTES - 1) / 2 - HALF };
    uint8_t digest[HASH_SHA256_BYTES], folder[REST];
    if (entropy_fill(folder, sizeof folder, e) < 0)
        return -1;
    hash_sha256(digest, identity, strlen(identity));
    hash_hex(out, digest, HALF);
    hash_hex(out + TRAJECTORY_RUN_DIGITS, folder, sizeof folder);
    return 0;
}
