/* Settings as text: --help, --print-config, and the file that hands them to another binary. */
#include "base/config_private.h"

#include <stdbool.h>
#include <string.h>

/* A scalar that YAML reads back as the same text. */
static void add_scalar(struct buf *out, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+-";
    if (value[0] != 0 && value[0] != '-' && strcmp(value, "null") != 0 && strspn(value, plain) == strlen(value)) {
        buf_add_text(out, value);
        return;
    }
    buf_add_byte(out, '"');
    for (const char *p = value; *p != 0; p++) {
        if (*p == '"' || *p == '\\')
            buf_format(out, "\\%c", *p);
        else if (*p == '\n')
            buf_add_text(out, "\\n");
        else if (*p == '\t')
            buf_add_text(out, "\\t");
        else
            buf_add_byte(out, *p);
    }
    buf_add_byte(out, '"');
}

/* A comment ends at its line whatever it quotes. */
static void add_comment(struct buf *out, const char *text)
{
    for (const char *p = text; *p != 0; p++)
        buf_add_byte(out, (unsigned char)*p < 0x20 ? '?' : *p);
}

void config_print(const struct config *c, struct buf *out)
{
    buf_format(out, "# the effective settings of %s\n", c->app->name);
    for (size_t i = 0; i < c->count; i++) {
        const struct section *s = &c->sections[i];
        for (size_t copy = 0; copy < config_section_copies(s); copy++) {
            char title[CONFIG_KEY_BYTES_MAX];
            config_section_title(s, copy, title);
            buf_format(out, "%s: # %s\n", title, s->table->help);
            for (size_t k = 0; k < s->table->count; k++) {
                const struct config_field *f = &s->table->fields[k];
                const struct slot *slot = &s->slots[copy * s->table->count + k];
                buf_format(out, "  %s: ", f->name);
                add_scalar(out, slot->value);
                buf_add_text(out, " # ");
                add_comment(out, slot->origin);
                buf_add_text(out, "; ");
                config_value_describe(f, out);
                buf_add_byte(out, '\n');
            }
        }
    }
}

void config_print_given(const struct config *c, struct buf *out)
{
    for (size_t i = 0; i < c->given_count; i++) {
        buf_format(out, "%s: ", c->given[i].key);
        add_scalar(out, c->given[i].value);
        buf_add_text(out, " # ");
        add_comment(out, c->given[i].origin);
        buf_add_byte(out, '\n');
    }
}

static void add_option(struct buf *out, const struct config_field *f, const char *output)
{
    buf_add_text(out, output != NULL && strcmp(f->name, output) == 0 ? "  -o, --" : "  --");
    for (const char *p = f->name; *p != 0; p++)
        buf_add_byte(out, *p == '_' ? '-' : *p);
    if (f->kind != CONFIG_flag)
        buf_add_text(out, " VALUE");
}

static void help_field(const struct section *s, const struct config_field *f, const char *output, struct buf *out)
{
    if (s->table->options)
        add_option(out, f, output);
    else
        buf_format(out, "  %s%s.%s", s->table->section, s->table->repeated ? ".NAME" : "", f->name);
    buf_add_text(out, " (");
    config_value_describe(f, out);
    buf_add_text(out, "; default ");
    add_scalar(out, f->otherwise);
    buf_format(out, ")\n      %s\n", f->help);
}

void config_help(const struct config *c, struct buf *out)
{
    const struct config_app *app = c->app;
    buf_format(out, "%s: %s\n\nusage: %s [OPTION...]%s%s\n\n", app->name, app->about, app->name,
               app->arguments != NULL ? " " : "", app->arguments != NULL ? app->arguments : "");
    buf_add_text(out, "  --config FILE      settings as YAML; may be repeated, the last one wins\n"
                      "  --set KEY=VALUE    one setting; stronger than files and environment\n"
                      "  --print-config     the effective settings with their origins, as YAML\n"
                      "  --check            check the settings and exit\n"
                      "  --version          version and libraries\n"
                      "  --help             this text\n\n"
                      "Environment: DAGLINE_SECTION__NAME=VALUE sets section.name; DAGLINE_CONFIG names a file.\n");
    for (size_t i = 0; i < c->count; i++) {
        const struct section *s = &c->sections[i];
        buf_format(out, "\n%s: %s\n", s->table->section, s->table->help);
        for (size_t k = 0; k < s->table->count; k++)
            help_field(s, &s->table->fields[k], app->output, out);
    }
}
