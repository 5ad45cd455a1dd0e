#include "dagline/cmd_export.h"

#include "base/file.h"
#include "dagline/command.h"
#include "dagline/embedded_model.h"
#include "diffusion/model.h"
#include "diffusion/weights.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define EXPORT_PARAMS(P, S)                                                                        \
    P(S, text, model, "", "", "1000", "", "base model folder; empty: the embedded model")          \
    P(S, text, policy, "", "", "1000", "",                                                         \
      "trained weights or adapters (policy.safetensors of a run)")                                 \
    P(S, text, out, "", "", "1000", "",                                                            \
      "folder to write: the whole model with the policy merged in")                                \
    P(S, choice, dtype, "f16", "f16|f32", "", "", "of the weights")
CONFIG_STRUCT(export_params, EXPORT_PARAMS);
CONFIG_TABLE_OPTIONS(export_table, "export", "a policy for other tools", export_params,
                     EXPORT_PARAMS);

static int merge(struct model *m, const struct safetensors *f, const char *out, size_t rank,
                 struct err *e)
{
    static const struct {
        const char *file;
        enum lora_naming naming;
    } files[] = {{"pytorch_lora_weights.safetensors", LORA_DIFFUSERS},
                 {"lora_kohya.safetensors", LORA_KOHYA}};
    struct params *p = m->params[MODEL_UNET];
    if (rank == 0)
        return weights_load(p, 0, (int)params_length(p), f, (struct weights_rules){0}, NULL, e);
    if (lora_load(p, f, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[FILE_PATH_BYTES_MAX];
        if (file_join(path, out, files[i].file, e) < 0 ||
            lora_save(p, path, files[i].naming, DTYPE_F16, e) < 0)
            return -1;
    }
    lora_merge(p, 1);
    return 0;
}

static bool is_same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int export_policy(const void *params, const char *const *arguments, size_t count,
                         struct err *e)
{
    const struct export_params *o = params;
    struct safetensors *f = NULL;
    struct model *m = NULL;
    char model[FILE_PATH_BYTES_MAX];
    size_t rank = 0; /* no adapters: all weights */
    int rc = -1;
    (void)arguments, (void)count;
    if (o->policy[0] == 0 || o->out[0] == 0)
        return err_set(e, ERR_USAGE, "--policy FILE and --out FOLDER are needed");
    if (embedded_model_unless(model, o->model, e) < 0)
        return -1;
    if (is_same_folder(model, o->out))
        return err_set(e, ERR_USAGE, "--out %s is the base model's own folder, which would be lost: give another", o->out);
    if (safetensors_open(&f, o->policy, e) < 0)
        return -1;
    const bool known = lora_file_rank(f, &rank, e) == 0 || e->code == ERR_NOT_FOUND;
    const struct model_options mo = {.parts = MODEL_HAS_ALL, .lora_rank = rank};
    if (known && model_open(&m, model, mo, e) == 0 && file_make_folders(o->out, e) == 0 &&
        merge(m, f, o->out, rank, e) == 0)
        rc = model_save(m, o->out, o->dtype == 0 ? DTYPE_F16 : DTYPE_F32, e);
    if (rc == 0)
        printf("%s: the model with %s merged in%s\n", o->out, o->policy,
               rank > 0 ? "; adapters in the diffusers and the kohya naming beside it" : "");
    model_close(m);
    safetensors_close(f);
    return rc;
}

int cmd_export(int argc, char **argv)
{
    struct export_params p;
    const struct command command = {
        .name = "dagline export",
        .about = "writes a trained policy as a diffusers model folder",
        .output = "out",
        .table = &export_table,
        .params = &p,
        .work = export_policy,
    };
    return command_main(&command, argc, argv);
}
