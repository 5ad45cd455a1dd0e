/* Random bytes that nobody can foresee or draw again (getrandom(2)): for names that must not come twice.  What a run
 * draws comes from rng.h. */
#ifndef DAGLINE_BASE_ENTROPY_H
#define DAGLINE_BASE_ENTROPY_H

#include "base/err.h"

#include <stddef.h>

/* bytes: at most 256. */
int entropy_fill(void *out, size_t bytes, struct err *e) MUST_USE;

#endif
