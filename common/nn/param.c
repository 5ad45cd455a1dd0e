#include "nn/param.h"

#include "base/mem.h"
#include "base/rng.h"

#include <assert.h>
#include <string.h>

#define ALIGN_COUNT (MEM_ALIGN_BYTES / sizeof(real))

struct form {
    int id;
    unsigned char key[PARAM_FORM_KEY_BYTES_MAX];
    size_t key_bytes;
    struct param_form form;
    void *data;
    uint64_t version; /* of the value it was made from; 0 = never */
    bool stale;       /* in the refresh under way, by `worker` */
    size_t worker;
};

struct params {
    struct param *at;
    size_t length, room;
    size_t sealed;   /* parameters that have memory */
    int32_t *bucket; /* name -> id, open addressing */
    size_t buckets;
    real **segments; /* one slab per seal */
    size_t segment_count;
    size_t grad_count;
    uint64_t version;
    struct form *forms;
    size_t form_count;
};

static size_t round_up(size_t n)
{
    return (n + ALIGN_COUNT - 1) / ALIGN_COUNT * ALIGN_COUNT;
}

/* FNV-1a: spreads names over buckets and seeds params_init, so it must never change. */
static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

struct params *params_new(void)
{
    struct params *p = mem_new(1, sizeof *p);
    p->version = 1;
    return p;
}

void params_free(struct params *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->length; i++)
        mem_free(p->at[i].name);
    for (size_t i = 0; i < p->segment_count; i++)
        mem_free(p->segments[i]);
    for (size_t i = 0; i < p->form_count; i++) {
        p->forms[i].form.drop(p->forms[i].form.state);
        mem_free(p->forms[i].data);
    }
    mem_free(p->forms);
    mem_free(p->segments);
    mem_free(p->bucket);
    mem_free(p->at);
    mem_free(p);
}

static size_t slot_of(const struct params *p, const char *name)
{
    size_t s = (size_t)name_hash(name) & (p->buckets - 1);
    while (p->bucket[s] >= 0 && strcmp(p->at[p->bucket[s]].name, name) != 0)
        s = (s + 1) & (p->buckets - 1);
    return s;
}

static void rehash(struct params *p)
{
    p->buckets = p->buckets == 0 ? 256 : 2 * p->buckets;
    mem_free(p->bucket);
    p->bucket = mem_new(p->buckets, sizeof *p->bucket);
    for (size_t i = 0; i < p->buckets; i++)
        p->bucket[i] = PARAM_NONE;
    for (size_t i = 0; i < p->length; i++)
        p->bucket[slot_of(p, p->at[i].name)] = (int32_t)i;
}

int params_find(const struct params *p, const char *name)
{
    return p->buckets == 0 ? PARAM_NONE : p->bucket[slot_of(p, name)];
}

int params_add(struct params *p, const char *name, int dims, const int64_t *dim, bool tight,
               struct param_init init)
{
    assert(dims >= 0 && dims <= PARAM_DIMS_MAX && strlen(name) < PARAM_NAME_BYTES_MAX);
    const int known = params_find(p, name);
    if (known != PARAM_NONE) {
        assert(p->at[known].dims == dims &&
               memcmp(p->at[known].dim, dim, (size_t)dims * sizeof *dim) == 0);
        return known;
    }
    if (p->length == p->room) {
        p->room = p->room == 0 ? 256 : 2 * p->room;
        p->at = mem_grow(p->at, p->room, sizeof *p->at);
    }
    if (2 * (p->length + 1) > p->buckets)
        rehash(p);
    struct param *const a = &p->at[p->length];
    *a = (struct param){.name = mem_strdup(name),
                        .dims = dims,
                        .count = 1,
                        .trainable = true,
                        .tight = tight,
                        .init = init,
                        .version = p->version};
    for (int i = 0; i < dims; i++) {
        assert(dim[i] > 0);
        a->dim[i] = dim[i];
        const int overflow = mem_mul(a->count, (size_t)dim[i], &a->count);
        assert(overflow == 0);
    }
    p->bucket[slot_of(p, name)] = (int32_t)p->length;
    return (int)p->length++;
}

static void place_gradients(struct params *p)
{
    size_t end = 0;
    bool previous = false;
    for (size_t i = 0; i < p->length; i++) {
        struct param *const a = &p->at[i];
        if (a->trainable) {
            /* a tight parameter keeps to its predecessor only if that one has a gradient too */
            a->grad = a->tight && previous ? end : round_up(end);
            end = a->grad + a->count;
        }
        previous = a->trainable;
    }
    p->grad_count = round_up(end);
}

int params_seal(struct params *p, struct err *e)
{
    size_t end = 0;
    for (size_t i = p->sealed; i < p->length; i++)
        end = (p->at[i].tight && i > p->sealed ? end : round_up(end)) + p->at[i].count;
    place_gradients(p);
    if (end == 0)
        return 0;
    real *const slab = mem_slab(round_up(end) * sizeof(real), "model parameters", e);
    if (slab == NULL)
        return -1;
    p->segments = mem_grow(p->segments, p->segment_count + 1, sizeof *p->segments);
    p->segments[p->segment_count++] = slab;
    end = 0;
    for (size_t i = p->sealed; i < p->length; i++) {
        const size_t start = p->at[i].tight && i > p->sealed ? end : round_up(end);
        p->at[i].value = slab + start;
        end = start + p->at[i].count;
    }
    p->sealed = p->length;
    return 0;
}

size_t params_length(const struct params *p)
{
    return p->length;
}

const struct param *params_at(const struct params *p, int id)
{
    assert(id >= 0 && (size_t)id < p->length);
    return &p->at[id];
}

size_t params_count(const struct params *p, bool trainable_only)
{
    size_t n = 0;
    for (size_t i = 0; i < p->length; i++)
        n += p->at[i].trainable || !trainable_only ? p->at[i].count : 0;
    return n;
}

size_t params_set_trainable(struct params *p, const char *prefix, const char *suffix,
                            bool trainable)
{
    const size_t pre = strlen(prefix), suf = strlen(suffix);
    size_t matched = 0;
    for (size_t i = 0; i < p->length; i++) {
        const char *const name = p->at[i].name;
        const size_t n = strlen(name);
        if (n < pre || n < suf || strncmp(name, prefix, pre) != 0 ||
            strcmp(name + n - suf, suffix) != 0)
            continue;
        p->at[i].trainable = trainable;
        matched++;
    }
    place_gradients(p);
    return matched;
}

size_t params_grad_count(const struct params *p)
{
    return p->grad_count;
}

bool params_next_run(const struct params *p, size_t *at, struct param_run *run)
{
    size_t i = *at;
    while (i < p->sealed && !p->at[i].trainable)
        i++;
    if (i >= p->sealed)
        return false;
    const struct param *const first = &p->at[i];
    const struct param *last = first;
    for (i++; i < p->sealed && p->at[i].trainable; i++) {
        const struct param *const a = &p->at[i];
        /* the same distance in both slabs, and the next value is just behind (two seals are two
         * slabs) */
        const size_t step = a->grad - last->grad;
        if (a->value != last->value + step)
            break;
        last = a;
    }
    *run = (struct param_run){first->value, first->grad, last->grad + last->count - first->grad};
    *at = i;
    return true;
}

static double uniform(const struct rng *g, uint64_t element)
{
    return ((double)rng_u32_at(g, element) + 0.5) * 0x1p-32;
}

static void init_one(struct param *a, uint64_t seed)
{
    const struct rng g = rng_stream(seed, name_hash(a->name), 0);
    for (size_t i = 0; i < a->count; i++) {
        double v = a->init.kind == PARAM_INIT_ONE ? 1.0 : 0.0;
        if (a->init.kind == PARAM_INIT_UNIFORM)
            v = a->init.scale * (2.0 * uniform(&g, i) - 1.0);
        else if (a->init.kind == PARAM_INIT_NORMAL)
            v = a->init.scale * (double)rng_normal_at(&g, i);
        a->value[i] = (real)v;
    }
}

void params_init(struct params *p, int first, uint64_t seed)
{
    for (size_t i = (size_t)first; i < p->sealed; i++)
        init_one(&p->at[i], seed);
    params_touch_all(p);
}

void params_touch_trainable(struct params *p)
{
    p->version++;
    for (size_t i = 0; i < p->length; i++)
        if (p->at[i].trainable)
            p->at[i].version = p->version;
}

void params_touch_all(struct params *p)
{
    p->version++;
    for (size_t i = 0; i < p->length; i++)
        p->at[i].version = p->version;
}

uint64_t params_version(const struct params *p)
{
    return p->version;
}

int params_find_form(const struct params *p, int id, const void *key, size_t key_bytes)
{
    for (size_t i = 0; i < p->form_count; i++) {
        const struct form *const f = &p->forms[i];
        if (f->id == id && f->key_bytes == key_bytes && memcmp(f->key, key, key_bytes) == 0)
            return (int)i;
    }
    return PARAM_NONE;
}

int params_add_form(struct params *p, int id, const void *key, size_t key_bytes,
                    struct param_form form)
{
    assert(key_bytes <= PARAM_FORM_KEY_BYTES_MAX && form.bytes > 0);
    p->forms = mem_grow(p->forms, p->form_count + 1, sizeof *p->forms);
    struct form *const f = &p->forms[p->form_count];
    *f = (struct form){.id = id, .key_bytes = key_bytes, .form = form};
    memcpy(f->key, key, key_bytes);
    return (int)p->form_count++;
}

static void refresh_worker(void *arg, size_t worker)
{
    const struct params *const p = arg;
    for (size_t i = 0; i < p->form_count; i++) {
        const struct form *const f = &p->forms[i];
        if (f->stale && f->worker == worker)
            f->form.fill(f->data, p->at[f->id].value, f->form.state);
    }
}

/* Each stale form to the worker that has the fewest bytes so far. */
static size_t share_out(struct params *p, size_t threads)
{
    size_t load[POOL_THREADS_MAX] = {0}, stale = 0;
    for (size_t i = 0; i < p->form_count; i++) {
        struct form *const f = &p->forms[i];
        f->stale = f->version != p->at[f->id].version;
        f->worker = 0;
        for (size_t w = 1; w < threads; w++)
            if (load[w] < load[f->worker])
                f->worker = w;
        load[f->worker] += f->stale ? f->form.bytes : 0;
        stale += f->stale;
    }
    return stale;
}

int params_refresh(struct params *p, struct pool *pool, struct err *e)
{
    for (size_t i = 0; i < p->form_count; i++) {
        struct form *const f = &p->forms[i];
        if (f->data == NULL && (f->data = mem_slab(f->form.bytes, "prepared weights", e)) == NULL)
            return -1;
    }
    if (share_out(p, pool == NULL ? 1 : pool_threads(pool)) == 0)
        return 0;
    if (pool == NULL)
        refresh_worker(p, 0);
    else
        pool_run(pool, refresh_worker, p);
    for (size_t i = 0; i < p->form_count; i++)
        p->forms[i].version = p->at[p->forms[i].id].version;
    return 0;
}

const void *params_prepared(const struct params *p, int slot)
{
    assert(slot >= 0 && (size_t)slot < p->form_count);
    return p->forms[slot].data;
}
