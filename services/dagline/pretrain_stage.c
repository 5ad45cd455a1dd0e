#include "dagline/pretrain_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WARMUP_STEPS 300
#define AVERAGE_DECAY 0.999

/* ---- state on disk ---- */

static void state_items(const struct stage *s, struct safetensors_item *item, char (*name)[32], size_t *count)
{
    static const char *const slab_names[] = {"value", "m", "v", "average"};
    size_t n = 0;
    for (size_t k = 0; k < s->networks; k++) {
        const struct optim *o = &s->optim[k];
        struct param_run run;
        size_t at = 0;
        const bool any = params_next_run(o->params, &at, &run);
        assert(any && run.grad == 0); /* a wholly trainable registry is one run */
        real *const slab[] = {run.value, o->m, o->v, o->average};
        for (size_t j = 0; j < 4; j++, n++) {
            snprintf(name[n], sizeof name[n], "%zu.%s", k, slab_names[j]);
            item[n] = (struct safetensors_item){
                .name = name[n], .dtype = DTYPE_F32, .rank = 1, .shape = {(int64_t)run.count}, .data = slab[j]};
        }
    }
    *count = n;
}

static int state_path(const struct pretraining *t, const struct stage *s, char path[FILE_PATH_BYTES_MAX], struct err *e)
{
    char name[32];
    snprintf(name, sizeof name, "%s.state", s->name);
    return file_join(path, t->o->work, name, e);
}

static int state_save(const struct pretraining *t, struct stage *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], name[8][32], step[24];
    struct safetensors_item item[8];
    size_t n;
    state_items(s, item, name, &n);
    snprintf(step, sizeof step, "%" PRIu64, s->step);
    const struct safetensors_meta meta = {"step", step};
    s->saved_ns = clock_mono_ns(NULL);
    return state_path(t, s, path, e) < 0 ? -1 : safetensors_write(path, item, n, &meta, 1, e);
}

/* Goes on where a killed run was; a fresh start where there is no state. */
static int state_load(const struct pretraining *t, struct stage *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], name[8][32];
    struct safetensors_item item[8];
    struct safetensors *f;
    size_t n;
    if (state_path(t, s, path, e) < 0)
        return -1;
    if (access(path, F_OK) != 0)
        return 0;
    if (safetensors_open(&f, path, e) < 0)
        return -1;
    state_items(s, item, name, &n);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = safetensors_load(f, item[i].name, item[i].shape, 1, (float *)(uintptr_t)item[i].data, e);
    const char *step = safetensors_metadata(f, "step");
    if (rc == 0 && (step == NULL || sscanf(step, "%" SCNu64, &s->step) != 1))
        rc = err_set(e, ERR_INVALID, "%s: no step in its metadata", path);
    safetensors_close(f);
    for (size_t k = 0; k < s->networks; k++)
        params_touch_all(s->optim[k].params);
    if (rc == 0)
        printf("%s: going on from step %" PRIu64 "\n", s->name, s->step);
    return rc;
}

/* ---- one step ---- */

static double learning_rate(const struct stage *s)
{
    const double low = s->lr_max / 20.0;
    if (s->step < WARMUP_STEPS)
        return s->lr_max * (double)(s->step + 1) / WARMUP_STEPS;
    const double at = (double)(s->step - WARMUP_STEPS) / (double)(s->steps - WARMUP_STEPS);
    return low + (s->lr_max - low) * 0.5 * (1.0 + cos(3.14159265358979323846 * at));
}

static int apply_gradients(struct stage *s, struct err *e)
{
    double square = 0.0;
    for (size_t k = 0; k < s->networks; k++) {
        double norm;
        if (optim_grad_norm(&s->optim[k], &norm, e) < 0)
            return err_wrap(e, "%s, step %" PRIu64, s->name, s->step + 1);
        square += norm * norm;
    }
    const struct adamw_settings adamw = {
        .lr = learning_rate(s), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 1e-4};
    const double factor = adamw_clip_factor(sqrt(square), 1.0);
    /* the average forgets the first, random weights faster */
    const double decay = fmin(AVERAGE_DECAY, (1.0 + (double)s->step) / (10.0 + (double)s->step));
    for (size_t k = 0; k < s->networks; k++) {
        optim_step(&s->optim[k], &adamw, s->step + 1, factor);
        optim_average(&s->optim[k], decay);
        optim_zero_grads(&s->optim[k]);
    }
    s->step++;
    return 0;
}

int stage_log(struct stage *s, const struct pretraining *t, struct json *record, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    json_set_string(record, "stage", s->name);
    json_set_int(record, "step", (int64_t)s->step);
    json_set_number(record, "loss", s->loss);
    json_set_number(record, "lr", learning_rate(s));
    json_set_number(record, "seconds", (double)(clock_mono_ns(NULL) - s->started_ns) * 1e-9);
    char *line = json_print(record, JSON_LINE, NULL);
    const size_t n = strlen(line);
    line[n] = '\n';
    const int rc = file_join(path, t->o->work, "log.jsonl", e) < 0 ? -1 : file_append(path, line, n + 1, e);
    line[n] = 0;
    mem_free(line);
    json_free(record);
    return rc;
}

static void progress(const struct stage *s, uint64_t from, const char *note)
{
    const double seconds = (double)(clock_mono_ns(NULL) - s->started_ns) * 1e-9;
    const double left = s->step > from ? seconds / (double)(s->step - from) * (double)(s->steps - s->step) : 0.0;
    printf("%s %6" PRIu64 "/%" PRIu64 "  loss %.4f  lr %.2e  %s  ETA %d:%02d\n", s->name, s->step, s->steps, s->loss,
           learning_rate(s), note, (int)left / 60, (int)left % 60);
    fflush(stdout);
}

/* ---- all steps ---- */

static int one_step(struct stage *s, struct pretraining *t, double *loss, struct err *e)
{
    const uint32_t B = s->batch;
    *loss = 0.0;
    for (uint32_t at = 0; at < B; at += PRETRAIN_PART_MAX) {
        const size_t n = B - at < PRETRAIN_PART_MAX ? B - at : PRETRAIN_PART_MAX;
        if (s->part(t, s, s->step * B + at, n, (double)n / (double)B, loss, e) < 0)
            return -1;
    }
    return apply_gradients(s, e);
}

static int all_steps(struct stage *s, struct pretraining *t, struct err *e)
{
    const uint64_t from = s->step;
    s->started_ns = clock_mono_ns(NULL);
    while (s->step < s->steps) {
        double loss;
        if (one_step(s, t, &loss, e) < 0)
            return -1;
        s->loss = s->step == from + 1 ? loss : 0.98 * s->loss + 0.02 * loss;
        const bool last = s->step == s->steps;
        if (last || clock_mono_ns(NULL) - s->saved_ns > (int64_t)t->o->save_seconds * CLOCK_NS_PER_S)
            if (state_save(t, s, e) < 0)
                return -1;
        const bool looking = s->look != NULL && (last || s->step % t->o->look_every == 0);
        if (looking || s->step % 100 == 0) {
            char note[96] = "";
            if ((looking ? s->look(t, s, note, e) : stage_log(s, t, json_new_object(), e)) < 0)
                return -1;
            progress(s, from, note);
        }
    }
    return 0;
}

void stage_swap_average(struct stage *s)
{
    for (size_t k = 0; k < s->networks; k++)
        optim_swap_average(&s->optim[k]);
}

int stage_train(struct stage *s, struct pretraining *t, struct params *const *params, size_t n, struct err *e)
{
    int rc = 0;
    for (; rc == 0 && s->networks < n; s->networks++)
        rc = optim_open(&s->optim[s->networks], params[s->networks], t->pool, true, e);
    if (rc < 0 || state_load(t, s, e) < 0 || all_steps(s, t, e) < 0)
        rc = -1;
    else
        stage_swap_average(s);
    for (size_t k = 0; k < s->networks; k++)
        optim_done(&s->optim[k]);
    for (size_t k = 0; k < n; k++)
        params_set_trainable(params[k], "", "", false);
    return rc;
}
