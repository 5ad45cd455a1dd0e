/* How much of a picture survives the autoencoder: signal-to-noise ratio, and whether the judge still sees what was drawn. */
#ifndef DAGLINE_DAGLINE_ROUND_TRIP_H
#define DAGLINE_DAGLINE_ROUND_TRIP_H

#include "base/err.h"
#include "dagline/evaluate.h"

#include <stddef.h>
#include <stdint.h>

struct round_trip {
    double psnr;                        /* dB, of the mean squared error over all pictures */
    struct evaluate_share truth, after; /* strict alignment of drawn pictures, and of their reconstructions */
    struct evaluate_share clause[CLAUSES]; /* of the reconstructions, each clause alone */
};

/* Draws `pictures` scenes with captions, encodes (by the mean) and decodes them. */
int round_trip(struct round_trip *out, const char *model_folder, size_t pictures, uint64_t seed, int threads,
               struct err *e) MUST_USE;

#endif
