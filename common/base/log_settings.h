/* The section `log` that every binary has: level and format of its own lines. */
#ifndef DAGLINE_BASE_LOG_SETTINGS_H
#define DAGLINE_BASE_LOG_SETTINGS_H

#include "base/config.h"

/* The choices are in the order of enum log_level and enum log_format. */
#define LOG_SETTINGS(P, S)                                                                         \
    P(S, choice, level, "info", "error|warn|info|debug", "", "", "the quietest level that is written") \
    P(S, choice, format, "auto", "auto|human|json", "", "",                                        \
      "auto: for people on a terminal, one JSON object a line elsewhere")

CONFIG_STRUCT(log_settings, LOG_SETTINGS);
extern const struct config_table log_settings_table; /* section "log" */

/* log_open as the settings say; `service` is kept by pointer. */
void log_open_with(const char *service, const struct log_settings *s);

#endif
