/* Where the scores stand in an answer: names and positions separated by /, from the top; * is the
 * item's own place in a list as long as the batch, ? the only member of an object or a list, $model
 * the name given to pointer_parse.  Without a * it leads to a list of one number an item (or, of
 * one item, to the number). */
#ifndef DAGLINE_SCORER_POINTER_H
#define DAGLINE_SCORER_POINTER_H

#include "base/json.h"
#include "scorer/backend.h"

#define POINTER_STEPS_MAX 16
#define POINTER_STEP_BYTES_MAX 128

struct pointer {
    char step[POINTER_STEPS_MAX][POINTER_STEP_BYTES_MAX];
    size_t steps;
};

int pointer_parse(struct pointer *p, const char *text, const char *model, struct err *e) MUST_USE;

/* scores [n]: finite, within p's score_min..score_max; without components. */
int pointer_scores(struct backend_score *scores, size_t n, const struct pointer *at,
                   const struct json *doc, const struct reward_params *p, struct err *e) MUST_USE;

#endif
