/* Optimal transport between two sets of points of one size: the assignment problem, solved exactly. */
#ifndef DAGLINE_DAGLINE_TRANSPORT_H
#define DAGLINE_DAGLINE_TRANSPORT_H

#include <stddef.h>

/* sqrt(min over permutations p of mean_i |x_i - y_p(i)|^2), x and y [n, D].  O(n^3) at the worst, n^2 doubles of memory. */
double transport_w2(const double *x, const double *y, size_t n, size_t D);

#endif
