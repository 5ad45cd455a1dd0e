#include "scorer/window.h"

#include "base/mem.h"

#include <math.h>

#define DEVIATION_LEAST 1e-12 /* beside the mean: less is rounding */

void window_init(struct window *w, size_t room)
{
    *w = (struct window){.value = mem_new(room, sizeof *w->value), .room = room};
}

void window_done(struct window *w)
{
    mem_free(w->value);
    *w = (struct window){0};
}

void window_add(struct window *w, double v)
{
    w->value[w->added++ % w->room] = v;
    w->count += w->count < w->room;
}

double window_zscore(const struct window *w, double v)
{
    double sum = 0.0, square = 0.0;
    if (w->count < 2)
        return 0.0;
    for (size_t i = 0; i < w->count; i++)
        sum += w->value[i];
    const double mean = sum / (double)w->count;
    for (size_t i = 0; i < w->count; i++)
        square += (w->value[i] - mean) * (w->value[i] - mean);
    const double deviation = sqrt(square / (double)w->count);
    return deviation > DEVIATION_LEAST * fabs(mean) ? (v - mean) / deviation : 0.0;
}

double window_share(const struct window *w, double v)
{
    double below = 0.0;
    if (w->count == 0)
        return 0.5;
    for (size_t i = 0; i < w->count; i++)
        below += w->value[i] < v ? 1.0 : w->value[i] > v ? 0.0 : 0.5;
    return below / (double)w->count;
}
