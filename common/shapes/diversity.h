/* How diverse the pictures of one under-specified prompt are, by what the judge sees in them.
 *
 * Entropies are plug-in estimates in bits over the pictures with an object, of one attribute at a
 * time: a colour that is uniform over eight gives 3.0.  Plug-in entropies are biased low by about
 * (values - 1) / (2 n ln 2), so compare sets of equal size: diversity_relative against the base
 * model's pictures of the same prompts.  Pure functions; any thread. */
#ifndef DAGLINE_SHAPES_DIVERSITY_H
#define DAGLINE_SHAPES_DIVERSITY_H

#include "shapes/judge.h"

#include <stddef.h>

#define DIVERSITY_SAMPLES_MAX 4096
#define DIVERSITY_PER 64 /* distinct tuples are counted per this many pictures */

struct diversity {
    double colour_bits, size_bits, place_bits, background_bits, texture_bits;
    double total_bits; /* their sum: 3 + 1.6 + 3.2 + 2.6 + 2 = 12.3 at most */
    double distinct;   /* different (shape, colour, size, place, background, texture) among
                        * DIVERSITY_PER:   the expectation over random subsets where n is larger, the
                        * count where smaller */
    double seen;       /* share of the pictures with an object */
};

/* a[i], of n <= DIVERSITY_SAMPLES_MAX pictures; seen[i] false where no object was found (then a[i]
 * is not read).  All zero where nothing was seen. */
void diversity_of(struct diversity *d, const struct judge_attributes *a, const bool *seen,
                  size_t n);

/* Means of the fields over prompts: n >= 1. */
void diversity_mean(struct diversity *d, const struct diversity *each, size_t n);

/* The single figure: total_bits now over those of the base model; 1 = as diverse as the base. */
double diversity_relative(const struct diversity *now, const struct diversity *base);

/* Entropy in bits of a histogram; 0 for an empty one. */
double diversity_entropy(const int *histogram, int values);

#endif
