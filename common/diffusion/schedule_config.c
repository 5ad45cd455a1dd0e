#include "base/json.h"
#include "diffusion/schedule.h"

#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)

/* One choice by name: the index of the value in `names`, or an error that lists them. */
static int get_choice(const struct json *config, const char *field, const char *const *names,
                      int otherwise, int *out, struct err *e)
{
    const char *value;
    char known[256] = "";
    if (json_get_string_or(config, field, 64, names[otherwise], &value, e) < 0)
        return -1;
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            *out = i;
            return 0;
        }
        strncat(known, i == 0 ? "" : ", ", sizeof known - strlen(known) - 1);
        strncat(known, names[i], sizeof known - strlen(known) - 1);
    }
    return err_set(e, ERR_INVALID, "%s \"%s\" is not implemented: expected one of %s", field, value,
                   known);
}

/* A switch that is only implemented in its off position. */
static int refuse_true(const struct json *config, const char *field, struct err *e)
{
    bool on;
    if (json_get_bool_or(config, field, false, &on, e) < 0)
        return -1;
    return on ? err_set(e, ERR_INVALID, "%s true is not implemented: set it to false", field) : 0;
}

static int get_numbers(struct schedule_config *c, const struct json *config, struct err *e)
{
    int64_t timesteps, offset;
    if (json_get_int_or(config, "num_train_timesteps", 1, SCHEDULE_TRAIN_STEPS_MAX,
                        c->num_train_timesteps, &timesteps, e) < 0 ||
        json_get_int_or(config, "steps_offset", 0, SCHEDULE_TRAIN_STEPS_MAX, c->steps_offset,
                        &offset, e) < 0 ||
        json_get_number_or(config, "beta_start", 0.0, 1.0, c->beta_start, &c->beta_start, e) < 0 ||
        json_get_number_or(config, "beta_end", 0.0, 1.0, c->beta_end, &c->beta_end, e) < 0)
        return -1;
    c->num_train_timesteps = (int)timesteps;
    c->steps_offset = (int)offset;
    return 0;
}

static int get_choices(struct schedule_config *c, const struct json *config, struct err *e)
{
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2", NULL};
    static const char *const predictions[] = {"epsilon", "v_prediction", "sample", NULL};
    static const char *const spacings[] = {"leading", "trailing", "linspace", NULL};
    int beta, prediction, spacing;
    if (get_choice(config, "beta_schedule", betas, (int)c->beta_schedule, &beta, e) < 0 ||
        get_choice(config, "prediction_type", predictions, (int)c->prediction_type, &prediction,
                   e) < 0 ||
        get_choice(config, "timestep_spacing", spacings, (int)c->timestep_spacing, &spacing, e) < 0)
        return -1;
    c->beta_schedule = (enum beta_schedule)beta;
    c->prediction_type = (enum prediction_type)prediction;
    c->timestep_spacing = (enum timestep_spacing)spacing;
    return 0;
}

/* DDIMScheduler.from_config takes a PNDM file with PNDM's own defaults filled in: set_alpha_to_one
 * is false there. */
static int get_class(struct schedule_config *c, const struct json *config, struct err *e)
{
    static const char *const classes[] = {"DDIMScheduler", "PNDMScheduler", NULL};
    int class;
    if (get_choice(config, "_class_name", classes, 0, &class, e) < 0)
        return -1;
    if (class == 1)
        c->set_alpha_to_one = false;
    return 0;
}

static int read_config(struct schedule_config *c, const struct json *config, struct err *e)
{
    const struct json *betas = json_get(config, "trained_betas");
    if (betas != NULL && strcmp(json_type_name(betas), "null") != 0)
        return err_set(
            e, ERR_INVALID,
            "trained_betas is not implemented: set it to null and beta_schedule to a name");
    if (get_class(c, config, e) < 0 || get_numbers(c, config, e) < 0 ||
        get_choices(c, config, e) < 0 ||
        json_get_bool_or(config, "clip_sample", c->clip_sample, &c->clip_sample, e) < 0 ||
        json_get_bool_or(config, "set_alpha_to_one", c->set_alpha_to_one, &c->set_alpha_to_one, e) <
            0 ||
        json_get_bool_or(config, "rescale_betas_zero_snr", false, &c->rescale_betas_zero_snr, e) <
            0)
        return -1;
    return refuse_true(config, "thresholding", e);
}

int schedule_config_parse(struct schedule_config *c, const char *json, size_t n, const char *where,
                          struct err *e)
{
    struct json *config = NULL;
    struct schedule_config parsed = schedule_config_default();
    int rc = json_parse(&config, json, n, CONFIG_BYTES_MAX, e);
    if (rc == 0 && !json_is_object(config))
        rc = err_set(e, ERR_INVALID, "is a %s, expected an object", json_type_name(config));
    if (rc == 0)
        rc = read_config(&parsed, config, e);
    json_free(config);
    if (rc < 0)
        return err_wrap(e, "%s", where);
    *c = parsed;
    return 0;
}
