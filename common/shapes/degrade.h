/* Spoils a picture of the world in known ways: Gaussian blur and pixel noise stand in for an
 * autoencoder's round trip and for half-denoised pictures when the judge is measured. */
#ifndef DAGLINE_SHAPES_DEGRADE_H
#define DAGLINE_SHAPES_DEGRADE_H

#include "base/rng.h"

#include <stdint.h>

#define DEGRADE_BLUR_MAX 10.0

/* rgb[WORLD_RGB_BYTES] in place: a Gaussian of standard deviation blur_px (0..DEGRADE_BLUR_MAX,
 * edges repeated), then normal noise of standard deviation noise (of 255) from the address's
 * normals; rounded and clipped. */
void degrade(uint8_t *rgb, double blur_px, double noise, const struct rng *g);

#endif
