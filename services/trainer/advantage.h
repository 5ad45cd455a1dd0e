/* Standardised rewards: (r - mean) / deviation of the prompt's last rewards, or of the batch while a prompt has too few
 * (ddpo-pytorch's PerPromptStatTracker, MIT: window and minimum are its defaults).  What is remembered is part of the
 * trainer's state.
 * Thread rule: one thread. */
#ifndef DAGLINE_TRAINER_ADVANTAGE_H
#define DAGLINE_TRAINER_ADVANTAGE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define ADVANTAGE_WINDOW 32  /* rewards of a prompt */
#define ADVANTAGE_REWARDS_MIN 16

struct advantage;

struct advantage *advantage_new(void) MUST_USE;
struct advantage *advantage_copy(const struct advantage *a) MUST_USE;
void advantage_free(struct advantage *a); /* accepts NULL */

/* Adds the batch's rewards, then out [n] from reward [n] and prompt [n] (any numbers below 2^32 - 1). */
void advantage_batch(struct advantage *a, double *out, const double *reward, const uint32_t *prompt, size_t n);

/* The state as rows of ADVANTAGE_ROW floats: prompt number (as two halves of 16 bits), how many rewards were ever added,
 * and the window.  The caller frees with mem_free; *rows may be 0. */
#define ADVANTAGE_ROW (3 + ADVANTAGE_WINDOW)
float *advantage_save(const struct advantage *a, size_t *rows) MUST_USE;
/* Overwrites a; ERR_INVALID leaves it empty. */
int advantage_restore(struct advantage *a, const float *state, size_t rows, struct err *e) MUST_USE;

#endif
