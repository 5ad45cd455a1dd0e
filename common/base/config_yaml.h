/* The YAML of a settings file as dotted keys with their lines; the door to libyaml.  Private to
 * base/config*.c.  Plain YAML only: nested mappings of scalars, and lists of scalars; no anchors,
 * aliases, tags or second documents.  Depth, key length and value length are bounded; a key given
 * twice is an error. */
#ifndef DAGLINE_BASE_CONFIG_YAML_H
#define DAGLINE_BASE_CONFIG_YAML_H

#include "base/err.h"

#include <stddef.h>

#define CONFIG_YAML_DEPTH_MAX 8

/* One setting; a list arrives as its items joined with commas.  Returns 0, or -1 to stop. */
typedef int config_yaml_put(void *arg, const char *key, const char *value, int line, struct err *e);

/* Errors begin with "name:line: ". */
int config_yaml_read(const char *text, size_t bytes, const char *name, config_yaml_put *put, void *arg,
                     struct err *e) MUST_USE;

#endif
