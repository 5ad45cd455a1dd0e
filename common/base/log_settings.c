#include "base/log_settings.h"

#include "base/log.h"

CONFIG_TABLE(log_settings_table, "log", "what the service says about itself", log_settings, LOG_SETTINGS);

void log_open_with(const char *service, const struct log_settings *s)
{
    log_open(service, (enum log_level)s->level, (enum log_format)s->format);
}
