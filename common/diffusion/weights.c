#include "diffusion/weights.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* values = the tensor's elements; real may be double. */
static int convert(real *values, const struct safetensors_tensor *t, struct err *e)
{
#ifdef DAGLINE_REAL_DOUBLE
    float *const narrow = mem_new(t->count, sizeof *narrow);
    const int rc = safetensors_to_float(t, narrow, e);
    for (size_t i = 0; rc == 0 && i < t->count; i++)
        values[i] = (real)narrow[i];
    mem_free(narrow);
    return rc;
#else
    return safetensors_to_float(t, values, e);
#endif
}

static bool same_shape(const struct param *a, const struct safetensors_tensor *t)
{
    for (int i = 0; i < a->dims || i < t->rank; i++)
        if ((i < a->dims ? a->dim[i] : 1) != (i < t->rank ? t->shape[i] : 1))
            return false;
    return true;
}

static void expected_shape(const struct param *a, struct buf *text)
{
    for (int i = 0; i < a->dims; i++)
        buf_format(text, "%s%lld", i == 0 ? "[" : ",", (long long)a->dim[i]);
    buf_add_text(text, "]");
}

static const struct safetensors_tensor *find(const struct safetensors *f, const char *name,
                                             struct weights_rules rules)
{
    char alias[SAFETENSORS_NAME_BYTES_MAX];
    const struct safetensors_tensor *t = safetensors_find(f, name);
    if (t == NULL && rules.alias != NULL && rules.alias(name, alias))
        t = safetensors_find(f, alias);
    return t;
}

/* Tensors come in the order of their names. */
static size_t index_of(const struct safetensors *f, const char *name)
{
    size_t low = 0, high = safetensors_count(f);
    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (strcmp(safetensors_at(f, mid)->name, name) <= 0)
            low = mid;
        else
            high = mid;
    }
    return low;
}

struct differences {
    struct buf *report;
    size_t missing, misshapen, extra;
    char first[ERR_TEXT_BYTES_MAX / 2];
};

static void note(struct differences *d, size_t *count, const char *line)
{
    if (d->missing + d->misshapen + d->extra == 0) {
        const size_t n = strlen(line) < sizeof d->first ? strlen(line) : sizeof d->first - 1;
        memcpy(d->first, line, n);
        d->first[n] = '\0';
    }
    (*count)++;
    if (d->report != NULL)
        buf_format(d->report, "%s\n", line);
}

/* Marks used tensors and notes what does not fit. */
static void compare(const struct params *p, int first, int last, const struct safetensors *f,
                    struct weights_rules rules, struct differences *d)
{
    struct buf line;
    const size_t count = safetensors_count(f);
    bool *const used = mem_new(count, sizeof *used);
    buf_init(&line, 4 * SAFETENSORS_NAME_BYTES_MAX);
    for (int id = first; id < last; id++) {
        const struct param *const a = params_at(p, id);
        const struct safetensors_tensor *const t = find(f, a->name, rules);
        char shape[SAFETENSORS_SHAPE_TEXT_MAX];
        buf_clear(&line);
        if (t == NULL) {
            buf_format(&line, "missing %s ", a->name);
            expected_shape(a, &line);
            note(d, &d->missing, buf_text(&line));
            continue;
        }
        used[index_of(f, t->name)] = true;
        if (!same_shape(a, t)) {
            buf_format(&line, "misshapen %s is %s, expected ", t->name,
                       safetensors_shape_text(t, shape));
            expected_shape(a, &line);
            note(d, &d->misshapen, buf_text(&line));
        }
    }
    for (size_t i = 0; i < count; i++) {
        const char *const name = safetensors_at(f, i)->name;
        if (used[i] || (rules.ignored != NULL && rules.ignored(name)))
            continue;
        buf_clear(&line);
        buf_format(&line, "extra %s", name);
        note(d, &d->extra, buf_text(&line));
    }
    buf_done(&line);
    mem_free(used);
}

int weights_load(struct params *p, int first, int last, const struct safetensors *f,
                 struct weights_rules rules, struct buf *report, struct err *e)
{
    struct differences d = {.report = report};
    compare(p, first, last, f, rules, &d);
    if (d.missing + d.misshapen + d.extra > 0)
        return err_set(e, ERR_SHAPE,
                       "weights do not fit the config: %zu missing, %zu misshapen, %zu extra; "
                       "first: %s",
                       d.missing, d.misshapen, d.extra, d.first);
    for (int id = first; id < last; id++) {
        const struct param *const a = params_at(p, id);
        if (convert(a->value, find(f, a->name, rules), e) < 0)
            return err_wrap(e, "weight %s", a->name);
    }
    params_touch_all(p);
    return 0;
}

/* ---- writing ---- */

struct items {
    struct safetensors_item *at;
    size_t count;
    float *narrow; /* the values as float, where real is not */
};

static void items_done(struct items *s)
{
    mem_free(s->at);
    mem_free(s->narrow);
}

static struct items items_of(const struct params *p, weights_filter *filter, enum dtype dtype)
{
    struct items s = {mem_new(params_length(p), sizeof *s.at), 0, NULL};
#ifdef DAGLINE_REAL_DOUBLE
    s.narrow = mem_new(params_count(p, false), sizeof *s.narrow);
    float *next = s.narrow;
#endif
    for (int id = 0; (size_t)id < params_length(p); id++) {
        const struct param *const a = params_at(p, id);
        if (filter != NULL && !filter(a))
            continue;
        struct safetensors_item *const item = &s.at[s.count++];
        *item = (struct safetensors_item){.name = a->name, .dtype = dtype, .rank = a->dims};
        memcpy(item->shape, a->dim, (size_t)a->dims * sizeof *a->dim);
#ifdef DAGLINE_REAL_DOUBLE
        for (size_t i = 0; i < a->count; i++)
            next[i] = (float)a->value[i];
        item->data = next;
        next += a->count;
#else
        item->data = a->value;
#endif
    }
    return s;
}

int weights_save(const struct params *p, weights_filter *filter, enum dtype dtype, const char *path,
                 struct err *e)
{
    struct items s = items_of(p, filter, dtype);
    const int rc = safetensors_write(path, s.at, s.count, NULL, 0, e);
    items_done(&s);
    return rc;
}

int weights_encode(const struct params *p, weights_filter *filter, enum dtype dtype,
                   uint8_t **bytes, size_t *size, struct err *e)
{
    struct items s = items_of(p, filter, dtype);
    const int rc = safetensors_encode(bytes, size, s.at, s.count, NULL, 0, e);
    items_done(&s);
    return rc;
}

/* Forms of the same weights, the one that is read first first; the last is another reader's. */
static const char *const ends[] = {".safetensors", ".fp16.safetensors", ".safetensors.index.json",
                                   ".fp16.safetensors.index.json", ".safetensors.index.fp16.json"};
#define ENDS (sizeof ends / sizeof *ends)

int weights_find(const char *folder, const char *name, char path[FILE_PATH_BYTES_MAX],
                 struct err *e)
{
    char file[256];
    for (size_t i = 0; i < ENDS - 1; i++) {
        snprintf(file, sizeof file, "%s%s", name, ends[i]);
        if (file_join(path, folder, file, e) < 0)
            return -1;
        if (file_exists(path))
            return 0;
    }
    return err_set(e, ERR_NOT_FOUND,
                   "%s: no %s.safetensors; pickled .bin weights are not read, save the model with "
                   "safe_serialization",
                   folder, name);
}

int weights_remove_others(const char *folder, const char *name, struct err *e)
{
    char file[256], path[FILE_PATH_BYTES_MAX];
    for (size_t i = 1; i < ENDS; i++) {
        snprintf(file, sizeof file, "%s%s", name, ends[i]);
        if (file_join(path, folder, file, e) < 0 || file_remove_tree(path, e) < 0)
            return -1;
    }
    return 0;
}
