#include "trainer/learner_parts.h"

#include "base/mem.h"
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REWARD_ROWS_MAX (1 << 24)

int learner_policy(const struct learner *l, uint8_t **bytes, size_t *n, struct err *e)
{
    return pipeline_policy_get(l->pipeline, bytes, n, e);
}

static int save_flow(const struct learner *l, struct learner_blob *out, struct err *e)
{
    const size_t n = params_length(l->flow_params);
    struct safetensors_item *item = mem_new(n, sizeof *item);
    for (size_t i = 0; i < n; i++) {
        const struct param *p = params_at(l->flow_params, (int)i);
        item[i] = (struct safetensors_item){.name = p->name, .dtype = DTYPE_F32, .rank = p->dims, .data = p->value};
        memcpy(item[i].shape, p->dim, (size_t)p->dims * sizeof *p->dim);
    }
    const int rc = safetensors_encode(&out->bytes, &out->n, item, n, NULL, 0, e);
    mem_free(item);
    return rc;
}

static int restore_flow(struct learner *l, const struct learner_blob *in, struct err *e)
{
    struct safetensors *f;
    if (safetensors_open_memory(&f, in->bytes, in->n, in->name, e) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < params_length(l->flow_params); i++) {
        const struct param *p = params_at(l->flow_params, (int)i);
        rc = safetensors_load(f, p->name, p->dim, p->dims, p->value, e);
    }
    safetensors_close(f);
    params_touch_all(l->flow_params);
    return rc;
}

/* Both optimisers' moments in the order of their gradient slabs. */
static void moments_of(const struct learner *l, struct safetensors_item item[4])
{
    const struct {
        const char *name;
        float *data;
        size_t n;
    } slab[4] = {{"policy.m", l->policy.m, l->policy.count},
                 {"policy.v", l->policy.v, l->policy.count},
                 {"flow.m", l->flow.m, l->flow.count},
                 {"flow.v", l->flow.v, l->flow.count}};
    for (int i = 0; i < 4; i++)
        item[i] = (struct safetensors_item){.name = slab[i].name, .dtype = DTYPE_F32, .rank = 1,
                                            .shape = {(int64_t)slab[i].n}, .data = slab[i].data};
}

int learner_save(const struct learner *l, struct learner_blob out[LEARNER_BLOBS], struct err *e)
{
    memset(out, 0, LEARNER_BLOBS * sizeof *out);
    out[0].name = "policy";
    out[1].name = "flow";
    out[2].name = "optimizer";
    struct safetensors_item item[5];
    float *rewards = NULL;
    size_t items = 4, rows = 0;
    moments_of(l, item);
    if (l->advantage != NULL)
        rewards = advantage_save(l->advantage, &rows);
    if (rows > 0)
        item[items++] = (struct safetensors_item){.name = "rewards", .dtype = DTYPE_F32, .rank = 2,
                                                  .shape = {(int64_t)rows, ADVANTAGE_ROW}, .data = rewards};
    char step[24];
    snprintf(step, sizeof step, "%llu", (unsigned long long)l->step);
    const struct safetensors_meta meta = {"step", step};
    const int rc = learner_policy(l, &out[0].bytes, &out[0].n, e) < 0 || save_flow(l, &out[1], e) < 0 ||
                           safetensors_encode(&out[2].bytes, &out[2].n, item, items, &meta, 1, e) < 0
                       ? -1
                       : 0;
    mem_free(rewards);
    if (rc < 0) {
        for (int i = 0; i < LEARNER_BLOBS; i++)
            mem_free(out[i].bytes);
        memset(out, 0, LEARNER_BLOBS * sizeof *out);
    }
    return rc;
}

static int restore_rewards(struct learner *l, const struct safetensors *f, struct err *e)
{
    const struct safetensors_tensor *t = safetensors_find(f, "rewards");
    if (l->advantage == NULL || t == NULL)
        return l->advantage == NULL ? 0 : advantage_restore(l->advantage, NULL, 0, e);
    if (t->rank != 2 || t->shape[0] < 1 || t->shape[0] > REWARD_ROWS_MAX || t->shape[1] != ADVANTAGE_ROW)
        return err_set(e, ERR_SHAPE, "the per-prompt rewards are no table of %d columns", ADVANTAGE_ROW);
    float *const state = mem_new((size_t)t->shape[0] * ADVANTAGE_ROW, sizeof *state);
    int rc = safetensors_load(f, "rewards", t->shape, 2, state, e);
    if (rc == 0)
        rc = advantage_restore(l->advantage, state, (size_t)t->shape[0], e);
    mem_free(state);
    return rc;
}

static int restore_optimizer(struct learner *l, const struct learner_blob *in, struct err *e)
{
    struct safetensors *f;
    if (safetensors_open_memory(&f, in->bytes, in->n, in->name, e) < 0)
        return -1;
    struct safetensors_item moments[4];
    moments_of(l, moments);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 4; i++)
        rc = safetensors_load(f, moments[i].name, moments[i].shape, 1, (float *)(uintptr_t)moments[i].data, e);
    const char *step = safetensors_metadata(f, "step");
    if (rc == 0 && (step == NULL || sscanf(step, "%" SCNu64, &l->step) != 1))
        rc = err_set(e, ERR_INVALID, "%s: metadata has no step", in->name);
    if (rc == 0)
        rc = restore_rewards(l, f, e);
    safetensors_close(f);
    return rc;
}

int learner_restore(struct learner *l, const struct learner_blob in[LEARNER_BLOBS], struct err *e)
{
    static const char *const names[LEARNER_BLOBS] = {"policy", "flow", "optimizer"};
    for (int i = 0; i < LEARNER_BLOBS; i++)
        if (in[i].name == NULL || strcmp(in[i].name, names[i]) != 0)
            return err_set(e, ERR_INVALID, "blob %d of the checkpoint is '%s', expected '%s'", i,
                           in[i].name == NULL ? "" : in[i].name, names[i]);
    if (pipeline_policy_set(l->pipeline, in[0].bytes, in[0].n, e) < 0 || restore_flow(l, &in[1], e) < 0 ||
        restore_optimizer(l, &in[2], e) < 0)
        return -1;
    return 0;
}
