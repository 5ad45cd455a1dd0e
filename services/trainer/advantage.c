#include "trainer/advantage.h"

#include "base/mem.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define TINY 1e-8
#define COUNT_MAX 16777216.0f /* whole numbers of a float end here; more rewards do not matter */

struct entry {
    uint32_t prompt;
    uint32_t count; /* ever; the next one goes to count % window */
    float window[ADVANTAGE_WINDOW];
};

struct advantage {
    struct entry *entry; /* by prompt, rising */
    size_t count, room;
};

struct advantage *advantage_new(void)
{
    return mem_new(1, sizeof(struct advantage));
}

struct advantage *advantage_copy(const struct advantage *a)
{
    struct advantage *b = advantage_new();
    b->count = b->room = a->count;
    b->entry = mem_new(a->count + 1, sizeof *b->entry);
    if (a->count > 0)
        memcpy(b->entry, a->entry, a->count * sizeof *b->entry);
    return b;
}

void advantage_free(struct advantage *a)
{
    if (a == NULL)
        return;
    mem_free(a->entry);
    mem_free(a);
}

static size_t place_of(const struct advantage *a, uint32_t prompt)
{
    size_t low = 0, high = a->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (a->entry[middle].prompt < prompt)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *entry_of(struct advantage *a, uint32_t prompt)
{
    const size_t at = place_of(a, prompt);
    if (at < a->count && a->entry[at].prompt == prompt)
        return &a->entry[at];
    if (a->count == a->room) {
        a->room = a->room == 0 ? 64 : 2 * a->room;
        a->entry = mem_grow(a->entry, a->room, sizeof *a->entry);
    }
    memmove(a->entry + at + 1, a->entry + at, (a->count - at) * sizeof *a->entry);
    a->count++;
    a->entry[at] = (struct entry){.prompt = prompt};
    return &a->entry[at];
}

struct moments {
    double mean, sd;
};

static struct moments moments_of(const double *v, size_t n)
{
    struct moments m = {0};
    double square = 0.0;
    for (size_t i = 0; i < n; i++)
        m.mean += v[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (v[i] - m.mean) * (v[i] - m.mean);
    m.sd = sqrt(square / (double)n);
    return m;
}

void advantage_batch(struct advantage *a, double *out, const double *reward, const uint32_t *prompt, size_t n)
{
    const struct moments batch = moments_of(reward, n);
    for (size_t i = 0; i < n; i++) {
        struct entry *x = entry_of(a, prompt[i]);
        x->window[x->count % ADVANTAGE_WINDOW] = (float)reward[i];
        x->count += x->count < (uint32_t)COUNT_MAX ? 1 : 0;
    }
    for (size_t i = 0; i < n; i++) {
        const struct entry *x = entry_of(a, prompt[i]);
        double window[ADVANTAGE_WINDOW];
        const size_t known = x->count < ADVANTAGE_WINDOW ? x->count : ADVANTAGE_WINDOW;
        for (size_t k = 0; k < known; k++)
            window[k] = (double)x->window[k];
        const struct moments m = known >= ADVANTAGE_REWARDS_MIN ? moments_of(window, known) : batch;
        out[i] = (reward[i] - m.mean) / (m.sd + TINY);
    }
}

float *advantage_save(const struct advantage *a, size_t *rows)
{
    float *state = mem_new(a->count * ADVANTAGE_ROW + 1, sizeof *state);
    for (size_t i = 0; i < a->count; i++) {
        float *row = state + i * ADVANTAGE_ROW;
        row[0] = (float)(a->entry[i].prompt >> 16);
        row[1] = (float)(a->entry[i].prompt & 0xffff);
        row[2] = (float)a->entry[i].count;
        memcpy(row + 3, a->entry[i].window, sizeof a->entry[i].window);
    }
    *rows = a->count;
    return state;
}

static bool whole(float v, float most)
{
    return v >= 0.0f && v <= most && v == floorf(v);
}

int advantage_restore(struct advantage *a, const float *state, size_t rows, struct err *e)
{
    a->count = 0;
    for (size_t i = 0; i < rows; i++) {
        const float *row = state + i * ADVANTAGE_ROW;
        bool good = whole(row[0], 65535.0f) && whole(row[1], 65535.0f) && whole(row[2], COUNT_MAX);
        for (int k = 0; k < ADVANTAGE_WINDOW; k++)
            good = good && isfinite(row[3 + k]);
        if (!good) {
            a->count = 0;
            return err_set(e, ERR_INVALID, "row %zu of the per-prompt rewards is not one", i);
        }
        struct entry *x = entry_of(a, (uint32_t)row[0] << 16 | (uint32_t)row[1]);
        x->count = (uint32_t)row[2];
        memcpy(x->window, row + 3, sizeof x->window);
    }
    return 0;
}
