/* What the files of base/config share; nobody else includes this. */
#ifndef DAGLINE_BASE_CONFIG_PRIVATE_H
#define DAGLINE_BASE_CONFIG_PRIVATE_H

#include "base/config.h"

/* The text and the origin of one effective value. */
struct slot {
    char *value, *origin;
};

/* One bound section: slots is [copies][table->count], where copies is 1 unless it is repeated. */
struct section {
    const struct config_table *table;
    void *out;
    struct slot *slots;
};

struct given {
    char *key, *value, *origin;
};

struct config {
    const struct config_app *app;
    struct section *sections;
    size_t count;
    struct given *given;
    size_t given_count;
    const char **arguments;
    size_t arguments_count;
    enum config_wish wish;
};

/* Parses text as f's kind into `member` (where the section's struct has it) and checks its bounds.  The
 * error says what is wrong and what is accepted, without the key. */
int config_value_parse(const struct config_field *f, const char *text, void *member, struct err *e) MUST_USE;

/* "a number, 0 to 1, 1/step": what config_value_parse accepts. */
void config_value_describe(const struct config_field *f, struct buf *out);

/* 1 for a plain section, config_copies.count for a repeated one. */
size_t config_section_copies(const struct section *s);

/* "trainer" or "reward.aesthetic". */
void config_section_title(const struct section *s, size_t copy, char out[CONFIG_KEY_BYTES_MAX]);

#endif
