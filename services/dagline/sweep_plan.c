#include "dagline/sweep_plan.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct axis {
    const char *key;
    const char *value[SWEEP_VALUES_MAX];
    size_t values;
};

struct axes {
    struct axis axis[SWEEP_AXES_MAX];
    size_t count;
    const char *variant[SWEEP_VALUES_MAX];
    size_t variants;
    struct axis seed; /* run.seed, which makes no group */
};

static bool is_taken(const struct axes *a, const char *key)
{
    bool taken = a->seed.key != NULL && strcmp(a->seed.key, key) == 0;
    for (size_t i = 0; i < a->count; i++)
        taken |= strcmp(a->axis[i].key, key) == 0;
    return taken;
}

static int add_axis(struct axes *a, char *text, struct err *e)
{
    char *values = strchr(text, '=');
    *values++ = 0;
    const bool is_seed = strcmp(text, "run.seed") == 0;
    struct axis *x = is_seed ? &a->seed : &a->axis[a->count];
    if (strchr(text, '.') == NULL)
        return err_set(e, ERR_USAGE, "\"%.100s\": an axis is section.name=V1,V2,...", text);
    if (!is_seed && a->count == SWEEP_AXES_MAX)
        return err_set(e, ERR_USAGE, "more than %d axes", SWEEP_AXES_MAX);
    if (is_taken(a, text))
        return err_set(e, ERR_USAGE, "axis %.100s is given twice", text);
    x->key = text;
    for (char *v = values, *next; v != NULL; v = next) {
        next = strchr(v, ',');
        if (next != NULL)
            *next++ = 0;
        if (*v == 0)
            return err_set(e, ERR_USAGE, "axis %.100s has an empty value", text);
        if (x->values == SWEEP_VALUES_MAX)
            return err_set(e, ERR_USAGE, "axis %.100s has more than %d values", text, SWEEP_VALUES_MAX);
        x->value[x->values++] = v;
    }
    if (!is_seed)
        a->count++;
    return 0;
}

static int add_variant(struct axes *a, const char *path, struct err *e)
{
    const char *dot = strrchr(path, '.');
    if (dot == NULL || (strcmp(dot, ".yaml") != 0 && strcmp(dot, ".yml") != 0))
        return err_set(e, ERR_USAGE, "\"%.100s\" is neither an axis (section.name=V1,V2) nor a file of settings (.yaml)", path);
    if (a->variants == SWEEP_VALUES_MAX)
        return err_set(e, ERR_USAGE, "more than %d files of settings", SWEEP_VALUES_MAX);
    a->variant[a->variants++] = path;
    return 0;
}

/* What is chosen of axis i in group g; the last axis varies fastest. */
static size_t chosen(const struct axes *a, size_t g, size_t i)
{
    for (size_t k = a->count; k > i + 1; k--)
        g /= a->axis[k - 1].values;
    return g % a->axis[i].values;
}

/* The key without its section, where that names no other axis. */
static const char *short_key(const struct axes *a, size_t i)
{
    const char *name = strrchr(a->axis[i].key, '.') + 1;
    for (size_t k = 0; k < a->count; k++)
        if (k != i && strcmp(strrchr(a->axis[k].key, '.') + 1, name) == 0)
            return a->axis[i].key;
    return name;
}

static void make_label(char label[SWEEP_LABEL_BYTES_MAX], const struct sweep_run *r, const struct axes *a)
{
    size_t n = 0;
    label[0] = 0;
    if (r->variant != NULL) {
        const char *slash = strrchr(r->variant, '/'), *name = slash != NULL ? slash + 1 : r->variant;
        n += (size_t)snprintf(label, SWEEP_LABEL_BYTES_MAX, "%.*s", (int)(strrchr(name, '.') - name), name);
    }
    for (size_t i = 0; i < a->count && n < SWEEP_LABEL_BYTES_MAX; i++)
        if (a->axis[i].values > 1)
            n += (size_t)snprintf(label + n, SWEEP_LABEL_BYTES_MAX - n, "%s%s=%s", n > 0 ? " " : "", short_key(a, i), r->value[i]);
    if (label[0] == 0)
        snprintf(label, SWEEP_LABEL_BYTES_MAX, "as given");
}

static int expand(struct sweep_plan *out, const struct axes *a, struct err *e)
{
    const size_t variants = a->variants > 0 ? a->variants : 1, seeds = a->seed.key != NULL ? a->seed.values : 1;
    size_t combinations = 1;
    for (size_t i = 0; i < a->count; i++) {
        combinations *= a->axis[i].values;
        if (combinations > SWEEP_RUNS_MAX)
            break;
    }
    if (combinations > SWEEP_RUNS_MAX || combinations * variants * seeds > SWEEP_RUNS_MAX)
        return err_set(e, ERR_USAGE, "more than %d runs", SWEEP_RUNS_MAX);
    out->groups = combinations * variants;
    out->runs = out->groups * seeds;
    out->run = mem_new(out->runs, sizeof *out->run);
    out->label = mem_new(out->groups, sizeof *out->label);
    for (size_t s = 0; s < seeds; s++)
        for (size_t g = 0; g < out->groups; g++) {
            struct sweep_run *r = &out->run[s * out->groups + g];
            r->group = g;
            r->variant = a->variants > 0 ? a->variant[g / combinations] : NULL;
            for (size_t i = 0; i < a->count; i++) {
                r->key[i] = a->axis[i].key;
                r->value[i] = a->axis[i].value[chosen(a, g % combinations, i)];
            }
            r->settings = a->count;
            if (s == 0)
                make_label(out->label[g], r, a);
            if (a->seed.key != NULL) {
                r->key[r->settings] = a->seed.key;
                r->value[r->settings++] = a->seed.value[s];
            }
        }
    return 0;
}

int sweep_plan_read(struct sweep_plan *out, const char *const *arguments, size_t count, struct err *e)
{
    struct axes *a = mem_new(1, sizeof *a);
    size_t bytes = 1;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(arguments[i]) + 1;
    *out = (struct sweep_plan){.text = mem_new(bytes, 1)};
    int rc = 0;
    for (size_t i = 0, at = 0; i < count && rc == 0; at += strlen(arguments[i++]) + 1) {
        memcpy(out->text + at, arguments[i], strlen(arguments[i]) + 1);
        rc = strchr(arguments[i], '=') != NULL ? add_axis(a, out->text + at, e) : add_variant(a, arguments[i], e);
    }
    if (rc == 0)
        rc = expand(out, a, e);
    mem_free(a);
    if (rc < 0)
        sweep_plan_done(out);
    return rc;
}

void sweep_plan_done(struct sweep_plan *p)
{
    mem_free(p->run);
    mem_free(p->label);
    mem_free(p->text);
    *p = (struct sweep_plan){0};
}
