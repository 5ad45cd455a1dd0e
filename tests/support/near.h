/* Comparing tensors: NaN-aware, relative to the largest reference value. */
#ifndef DAGLINE_TESTS_NEAR_H
#define DAGLINE_TESTS_NEAR_H

#include <stddef.h>

/* max |got - want| / max |want| (max |got| where want is all zero); INFINITY on the first NaN or
 * infinity in got.  *at, where not NULL, is the index of the worst element. */
double near_worst_float(const float *got, const float *want, size_t n, size_t *at);
double near_worst_double(const double *got, const double *want, size_t n, size_t *at);

#endif
