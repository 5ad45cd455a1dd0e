/* The last values of a stream of numbers, and where one stands among them.  Pure.  Thread rule: one thread. */
#ifndef DAGLINE_SCORER_WINDOW_H
#define DAGLINE_SCORER_WINDOW_H

#include <stddef.h>
#include <stdint.h>

struct window {
    double *value; /* owned [room], a ring */
    size_t room, count;
    uint64_t added; /* ever */
};

void window_init(struct window *w, size_t room);
void window_done(struct window *w); /* accepts a zeroed one */

void window_add(struct window *w, double v);

/* (v - mean) / deviation of the values in the window (population); 0 where they are all the same or fewer than two. */
double window_zscore(const struct window *w, double v);

/* Share of the values below v, equal ones counting half; 0.5 for an empty window. */
double window_share(const struct window *w, double v);

#endif
