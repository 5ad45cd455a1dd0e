#include "scorer/pointer.h"

#include "scorer/form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct json *only_member(const struct json *v)
{
    const char *key;
    const struct json *member = NULL;
    void *c = NULL;
    if (json_is_list(v))
        return json_count(v) == 1 ? json_at(v, 0) : NULL;
    return json_is_object(v) && json_count(v) == 1 && json_next(v, &c, &key, &member) ? member
                                                                                      : NULL;
}

/* One step from v; NULL where it leads nowhere. */
static const struct json *step_from(const struct json *v, const char *step)
{
    if (strcmp(step, "?") == 0)
        return only_member(v);
    if (json_is_object(v))
        return json_get(v, step);
    if (!json_is_list(v) || step[strspn(step, "0123456789")] != 0)
        return NULL;
    const unsigned long at = strtoul(step, NULL, 10);
    return at < json_count(v) ? json_at(v, at) : NULL;
}

/* The value that the pointer leads to for item `at` of n; *starred: a * chose among them. */
static int follow(const struct json **out, const struct pointer *p, const struct json *v, size_t at,
                  size_t n, bool *starred, struct err *e)
{
    *starred = false;
    for (size_t i = 0; i < p->steps; i++) {
        const bool star = strcmp(p->step[i], "*") == 0;
        if (star && (!json_is_list(v) || json_count(v) != n))
            return err_set(e, ERR_INVALID,
                           "step %zu of reward.scores: a %s of %zu, expected a list of %zu", i + 1,
                           json_type_name(v),
                           json_is_list(v) || json_is_object(v) ? json_count(v) : 1, n);
        v = star ? json_at(v, at) : step_from(v, p->step[i]);
        *starred |= star;
        if (v == NULL)
            return err_set(e, ERR_INVALID, "the answer has no %s (step %zu of reward.scores)",
                           p->step[i], i + 1);
    }
    *out = v;
    return 0;
}

int pointer_scores(struct backend_score *scores, size_t n, const struct pointer *at,
                   const struct json *doc, const struct reward_params *p, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const struct json *v = NULL;
        bool starred;
        char what[64];
        snprintf(what, sizeof what, "score %zu of %zu", i + 1, n);
        if (follow(&v, at, doc, i, n, &starred, e) < 0)
            return -1;
        if (!starred && json_is_list(v)) {
            if (json_count(v) != n)
                return err_set(e, ERR_INVALID, "%zu scores for %zu images", json_count(v), n);
            v = json_at(v, i);
        } else if (!starred && n > 1) {
            return err_set(e, ERR_INVALID,
                           "reward.scores leads to a %s, expected a list of %zu numbers",
                           json_type_name(v), n);
        }
        scores[i] = (struct backend_score){0};
        if (form_score(&scores[i].value, v, what, p, e) < 0)
            return -1;
    }
    return 0;
}

int pointer_parse(struct pointer *p, const char *text, const char *model, struct err *e)
{
    p->steps = 0;
    if (text[0] != 0 && text[0] != '/')
        return err_set(e, ERR_INVALID, "reward.scores %s: begin with /, as in /rewards", text);
    while (*text == '/') {
        const size_t n = strcspn(++text, "/");
        if (p->steps == POINTER_STEPS_MAX || n >= POINTER_STEP_BYTES_MAX)
            return err_set(e, ERR_INVALID,
                           "reward.scores: more than %d steps, or one longer than %d bytes",
                           POINTER_STEPS_MAX, POINTER_STEP_BYTES_MAX - 1);
        char *step = p->step[p->steps++];
        snprintf(step, POINTER_STEP_BYTES_MAX, "%.*s", (int)n, text);
        if (strcmp(step, "$model") == 0)
            snprintf(step, POINTER_STEP_BYTES_MAX, "%.*s", POINTER_STEP_BYTES_MAX - 1, model);
        text += n;
    }
    return 0;
}
