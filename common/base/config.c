/* Settings: where they come from, and which key is which member. */
#include "base/config.h"

#include "base/config_private.h"
#include "base/config_yaml.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/version.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENV_PREFIX "DAGLINE_"
#define ENV_CONFIG "DAGLINE_CONFIG"
#define FILES_MAX 16
#define PRINT_BYTES_MAX (4 << 20)

extern char **environ;

const char *const config_sections[] = {
    /* services */ "run", "store", "sampler", "scorer", "reward", "rewards", "trainer", "replay", "net", "judge", "log",
    /* verbs of dagline */ "bench", "eval", "export", "generate", "keys", "local", "parity", "pretrain", "status", "sweep",
    "target", "tempered", "tokenize", "trial", "world", NULL};

/* ---- sections and slots --------------------------------------------------------------------------- */

size_t config_section_copies(const struct section *s)
{
    return s->table->repeated ? ((const struct config_copies *)s->out)->count : 1;
}

void config_section_title(const struct section *s, size_t copy, char out[CONFIG_KEY_BYTES_MAX])
{
    if (s->table->repeated)
        snprintf(out, CONFIG_KEY_BYTES_MAX, "%s.%s", s->table->section,
                 ((const struct config_copies *)s->out)->names[copy]);
    else
        snprintf(out, CONFIG_KEY_BYTES_MAX, "%s", s->table->section);
}

static char *struct_of(const struct section *s, size_t copy)
{
    char *base = s->table->repeated ? ((struct config_copies *)s->out)->items : s->out;
    return base + copy * s->table->bytes;
}

static struct slot *slot_of(const struct section *s, size_t copy, size_t field)
{
    return &s->slots[copy * s->table->count + field];
}

static void replace(char **text, const char *with)
{
    char *copy = mem_strdup(with);
    mem_free(*text);
    *text = copy;
}

/* An option of every command line, which a table of options may not take for itself. */
static bool is_general(const char *name)
{
    static const char *const names[] = {"config", "set", "print_config", "check", "version", "help"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void set_defaults(const struct section *s, size_t copy)
{
    char *base = struct_of(s, copy);
    memset(base, 0, s->table->bytes);
    for (size_t i = 0; i < s->table->count; i++) {
        const struct config_field *f = &s->table->fields[i];
        struct err e = {0};
        const int rc = config_value_parse(f, f->otherwise, base + f->offset, &e);
        if (rc < 0)
            fprintf(stderr, "default of %s.%s: %s\n", s->table->section, f->name, e.text);
        assert(rc == 0); /* a default that its own bounds refuse is a mistake in the table */
        assert(!s->table->options || !is_general(f->name));
        replace(&slot_of(s, copy, i)->value, f->otherwise);
        replace(&slot_of(s, copy, i)->origin, "default");
    }
}

struct config *config_new(const struct config_app *app, const struct config_binding *bindings, size_t count)
{
    struct config *c = mem_new(1, sizeof *c);
    c->app = app;
    c->sections = mem_new(count, sizeof *c->sections);
    c->count = count;
    c->given = mem_new(CONFIG_GIVEN_MAX, sizeof *c->given);
    for (size_t i = 0; i < count; i++) {
        struct section *s = &c->sections[i];
        s->table = bindings[i].table;
        s->out = bindings[i].out;
        const size_t copies = s->table->repeated ? CONFIG_COPIES_MAX : 1;
        s->slots = mem_new(copies * s->table->count, sizeof *s->slots);
        if (s->table->repeated)
            ((struct config_copies *)s->out)->count = 0;
        else
            set_defaults(s, 0);
    }
    return c;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++) {
        struct section *s = &c->sections[i];
        const size_t copies = s->table->repeated ? CONFIG_COPIES_MAX : 1;
        for (size_t k = 0; k < copies * s->table->count; k++) {
            mem_free(s->slots[k].value);
            mem_free(s->slots[k].origin);
        }
        mem_free(s->slots);
    }
    for (size_t i = 0; i < c->given_count; i++) {
        mem_free(c->given[i].key);
        mem_free(c->given[i].value);
        mem_free(c->given[i].origin);
    }
    mem_free(c->sections);
    mem_free(c->given);
    mem_free(c->arguments);
    mem_free(c);
}

/* ---- keys ------------------------------------------------------------------------------------------ */

/* What follows "section." in key, or NULL where key is not of that section. */
static const char *after_section(const char *key, const char *section)
{
    const size_t n = strlen(section);
    return strncmp(key, section, n) == 0 && key[n] == '.' ? key + n + 1 : NULL;
}

static bool is_copy_name(const char *name, size_t bytes)
{
    if (bytes == 0 || bytes >= CONFIG_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", name[i]) == NULL)
            return false;
    return true;
}

static const struct config_field *field_named(const struct config_table *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->fields[i].name, name) == 0)
            return &t->fields[i];
    return NULL;
}

struct place {
    const struct section *section;
    const struct config_field *field;
    const char *copy_name; /* of a repeated section, copy_bytes long, not terminated */
    size_t copy_bytes;
};

static bool find(const struct config *c, const char *key, struct place *p)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct section *s = &c->sections[i];
        const char *name = after_section(key, s->table->section);
        if (name == NULL)
            continue;
        *p = (struct place){.section = s};
        if (s->table->repeated) {
            p->copy_name = name;
            p->copy_bytes = strcspn(name, ".");
            if (name[p->copy_bytes] == 0 || !is_copy_name(name, p->copy_bytes))
                continue;
            name += p->copy_bytes + 1;
        }
        p->field = field_named(s->table, name);
        if (p->field != NULL)
            return true;
    }
    return false;
}

/* Levenshtein's distance, for keys of bounded length. */
static size_t distance(const char *a, const char *b)
{
    size_t row[CONFIG_KEY_BYTES_MAX + 1];
    const size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != 0; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t substituted = diagonal + (a[i] != b[j]);
            const size_t shorter = row[j] < row[j + 1] ? row[j] : row[j + 1];
            diagonal = row[j + 1];
            row[j + 1] = substituted < shorter + 1 ? substituted : shorter + 1;
        }
    }
    return row[n];
}

static int unknown_key(const struct config *c, const char *key, struct err *e)
{
    char best[CONFIG_KEY_BYTES_MAX] = "";
    size_t nearest = SIZE_MAX;
    for (size_t i = 0; i < c->count; i++) {
        const struct config_table *t = c->sections[i].table;
        const char *rest = after_section(key, t->section);
        const size_t copy = rest != NULL && t->repeated ? strcspn(rest, ".") : 0;
        for (size_t k = 0; k < t->count; k++) {
            char known[CONFIG_KEY_BYTES_MAX];
            if (t->repeated)
                snprintf(known, sizeof known, "%s.%.*s.%s", t->section, copy > 0 ? (int)copy : 4, copy > 0 ? rest : "NAME",
                         t->fields[k].name);
            else
                snprintf(known, sizeof known, "%s.%s", t->section, t->fields[k].name);
            const size_t d = distance(key, known);
            if (d < nearest) {
                nearest = d;
                memcpy(best, known, sizeof best);
            }
        }
    }
    if (nearest != SIZE_MAX)
        return err_set(e, ERR_INVALID, "unknown setting; the nearest known one is %s", best);
    return err_set(e, ERR_INVALID, "unknown setting");
}

/* A key of a section that another binary owns. */
static bool is_foreign(const struct config *c, const char *key)
{
    for (size_t i = 0; i < c->count; i++)
        if (after_section(key, c->sections[i].table->section) != NULL)
            return false;
    for (const char *const *s = c->app->foreign; s != NULL && *s != NULL; s++)
        if (after_section(key, *s) != NULL)
            return true;
    return false;
}

/* ---- one setting ------------------------------------------------------------------------------------ */

static int remember(struct config *c, const char *key, const char *value, const char *origin, struct err *e)
{
    size_t i = 0;
    while (i < c->given_count && strcmp(c->given[i].key, key) != 0)
        i++;
    if (i == CONFIG_GIVEN_MAX)
        return err_set(e, ERR_FULL, "more than %d settings", CONFIG_GIVEN_MAX);
    if (i == c->given_count) {
        c->given[i].key = mem_strdup(key);
        c->given_count++;
    }
    replace(&c->given[i].value, value);
    replace(&c->given[i].origin, origin);
    return 0;
}

/* The copy of that name, made with its defaults where it is new. */
static int copy_named(const struct place *p, size_t *out, struct err *e)
{
    *out = 0;
    if (!p->section->table->repeated)
        return 0;
    struct config_copies *copies = p->section->out;
    size_t i = 0;
    while (i < copies->count &&
           (strlen(copies->names[i]) != p->copy_bytes || strncmp(copies->names[i], p->copy_name, p->copy_bytes) != 0))
        i++;
    if (i == CONFIG_COPIES_MAX)
        return err_set(e, ERR_FULL, "more than %d copies of section %s", CONFIG_COPIES_MAX, p->section->table->section);
    if (i == copies->count) {
        memcpy(copies->names[i], p->copy_name, p->copy_bytes);
        copies->names[i][p->copy_bytes] = 0;
        copies->count++;
        set_defaults(p->section, i);
    }
    *out = i;
    return 0;
}

static int put(struct config *c, const char *key, const char *value, const char *origin, struct err *e)
{
    struct place p;
    size_t copy;
    if (strlen(key) >= CONFIG_KEY_BYTES_MAX)
        return err_set(e, ERR_INVALID, "the key is longer than %d bytes", CONFIG_KEY_BYTES_MAX - 1);
    if (is_foreign(c, key)) {
        if (strlen(value) >= CONFIG_TEXT_BYTES_MAX)
            return err_set(e, ERR_INVALID, "the value is longer than %d bytes", CONFIG_TEXT_BYTES_MAX - 1);
        return remember(c, key, value, origin, e);
    }
    if (!find(c, key, &p))
        return unknown_key(c, key, e);
    if (copy_named(&p, &copy, e) < 0)
        return -1;
    if (config_value_parse(p.field, value, struct_of(p.section, copy) + p.field->offset, e) < 0)
        return -1;
    struct slot *slot = slot_of(p.section, copy, (size_t)(p.field - p.section->table->fields));
    replace(&slot->value, value);
    replace(&slot->origin, origin);
    return remember(c, key, value, origin, e);
}

int config_put(struct config *c, const char *key, const char *value, const char *origin, struct err *e)
{
    if (put(c, key, value, origin, e) < 0)
        return err_wrap(e, "%s: %.*s", origin, CONFIG_KEY_BYTES_MAX, key);
    return 0;
}

/* ---- sources ---------------------------------------------------------------------------------------- */

struct file_source {
    struct config *c;
    const char *path;
};

static int put_from_file(void *arg, const char *key, const char *value, int line, struct err *e)
{
    const struct file_source *source = arg;
    char origin[FILE_PATH_BYTES_MAX];
    snprintf(origin, sizeof origin, "%.4000s:%d", source->path, line);
    return config_put(source->c, key, value, origin, e);
}

static int load_file(struct config *c, const char *path, struct err *e)
{
    char *text;
    size_t bytes;
    if (file_read_all(path, CONFIG_FILE_BYTES_MAX, &text, &bytes, e) < 0)
        return err_wrap(e, "--config");
    struct file_source source = {c, path};
    const int rc = config_yaml_read(text, bytes, path, put_from_file, &source, e);
    mem_free(text);
    return rc;
}

/* DAGLINE_TRAINER__LR=v: the key is trainer.lr. */
static int load_environment(struct config *c, char *const *env, struct err *e)
{
    for (; env != NULL && *env != NULL; env++) {
        const char *name = *env, *equals = strchr(name, '=');
        char origin[CONFIG_KEY_BYTES_MAX], key[CONFIG_KEY_BYTES_MAX];
        size_t n = 0;
        if (equals == NULL || strncmp(name, ENV_PREFIX, sizeof ENV_PREFIX - 1) != 0)
            continue;
        const size_t bytes = (size_t)(equals - name);
        if (bytes >= sizeof origin)
            continue; /* longer than any key */
        memcpy(origin, name, bytes);
        origin[bytes] = 0;
        const char *p = origin + sizeof ENV_PREFIX - 1;
        if (strstr(p, "__") == NULL)
            continue;
        while (*p != 0) {
            const bool dot = p[0] == '_' && p[1] == '_';
            key[n++] = dot ? '.' : (char)tolower((unsigned char)*p);
            p += dot ? 2 : 1;
        }
        key[n] = 0;
        if (config_put(c, key, equals + 1, origin, e) < 0)
            return -1;
    }
    return 0;
}

static int put_assignment(struct config *c, const char *text, struct err *e)
{
    const char *equals = strchr(text, '=');
    char key[CONFIG_KEY_BYTES_MAX];
    const size_t n = equals != NULL ? (size_t)(equals - text) : 0;
    if (n == 0 || n >= sizeof key)
        return err_set(e, ERR_USAGE, "--set \"%.100s\": expected section.name=value", text);
    memcpy(key, text, n);
    key[n] = 0;
    return config_put(c, key, equals + 1, "--set", e);
}

/* ---- the command line ------------------------------------------------------------------------------- */

struct command_line {
    const char *files[FILES_MAX];
    size_t files_count;
    struct { /* in order: an option of a table, or --set */
        const char *key, *value;
    } * puts;
    size_t puts_count;
};

/* The value of "--name=value" or "--name value"; NULL where arg is another option. */
static const char *option_value(const char *name, int argc, char *const *argv, int *i, struct err *e)
{
    const char *arg = argv[*i];
    const size_t n = strlen(name);
    if (strncmp(arg, name, n) != 0 || (arg[n] != 0 && arg[n] != '='))
        return NULL;
    if (arg[n] == '=')
        return arg + n + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    err_set(e, ERR_USAGE, "%s needs a value", name);
    return NULL;
}

/* --some-name of a section of options: its field; *negated for --no-some-name. */
static const struct config_field *option_field(const struct config *c, const char *arg, char key[CONFIG_KEY_BYTES_MAX],
                                               bool *negated)
{
    char name[CONFIG_NAME_BYTES_MAX];
    size_t n = strcspn(arg + 2, "=");
    if (n >= sizeof name)
        return NULL;
    for (size_t i = 0; i < n; i++)
        name[i] = arg[2 + i] == '-' ? '_' : arg[2 + i];
    name[n] = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct config_table *t = c->sections[i].table;
        if (!t->options)
            continue;
        const struct config_field *f = field_named(t, name);
        *negated = false;
        if (f == NULL && strncmp(name, "no_", 3) == 0) {
            f = field_named(t, name + 3);
            *negated = f != NULL && f->kind == CONFIG_flag;
            f = *negated ? f : NULL;
        }
        if (f != NULL) {
            snprintf(key, CONFIG_KEY_BYTES_MAX, "%s.%s", t->section, f->name);
            return f;
        }
    }
    return NULL;
}

/* arg: the option as --name or --name=value; its value is the next argument where it needs one. */
static int read_table_option(struct config *c, const char *arg, int argc, char *const *argv, int *i,
                             struct command_line *line, struct err *e)
{
    const char *equals = strchr(arg, '=');
    char key[CONFIG_KEY_BYTES_MAX];
    bool negated = false;
    const struct config_field *f = option_field(c, arg, key, &negated);
    if (f == NULL)
        return err_set(e, ERR_USAGE, "unknown option %.100s (see --help)", arg);
    const char *value;
    if (f->kind == CONFIG_flag && equals == NULL)
        value = negated ? "false" : "true";
    else if (negated)
        return err_set(e, ERR_USAGE, "%.100s takes no value", arg);
    else if (equals != NULL)
        value = equals + 1;
    else if (*i + 1 < argc)
        value = argv[++*i];
    else
        return err_set(e, ERR_USAGE, "%.100s needs a value", arg);
    line->puts[line->puts_count].key = mem_strdup(key);
    line->puts[line->puts_count++].value = value;
    return 0;
}

static int read_argument(struct config *c, int argc, char *const *argv, int *i, struct command_line *line, struct err *e)
{
    static const struct {
        const char *name;
        enum config_wish wish;
    } wishes[] = {{"--help", CONFIG_HELP},
                  {"-h", CONFIG_HELP},
                  {"--version", CONFIG_VERSION},
                  {"--print-config", CONFIG_PRINT},
                  {"--check", CONFIG_CHECK}};
    const char *arg = argv[*i], *value;
    char key[CONFIG_KEY_BYTES_MAX], output[CONFIG_KEY_BYTES_MAX];
    bool negated;
    struct err missing = {0};
    if (strncmp(arg, "--", 2) == 0 && option_field(c, arg, key, &negated) != NULL)
        return read_table_option(c, arg, argc, argv, i, line, e);
    if (strcmp(arg, "-o") == 0 && c->app->output != NULL) {
        snprintf(output, sizeof output, "--%s", c->app->output);
        return read_table_option(c, output, argc, argv, i, line, e);
    }
    for (size_t k = 0; k < sizeof wishes / sizeof *wishes; k++)
        if (strcmp(arg, wishes[k].name) == 0) {
            if (c->wish == CONFIG_RUN || wishes[k].wish == CONFIG_HELP)
                c->wish = wishes[k].wish;
            return 0;
        }
    if ((value = option_value("--config", argc, argv, i, &missing)) != NULL) {
        if (line->files_count == FILES_MAX)
            return err_set(e, ERR_USAGE, "more than %d --config files", FILES_MAX);
        line->files[line->files_count++] = value;
        return 0;
    }
    if (missing.code == ERR_NONE && (value = option_value("--set", argc, argv, i, &missing)) != NULL) {
        line->puts[line->puts_count++].value = value;
        return 0;
    }
    if (missing.code != ERR_NONE)
        return err_set(e, ERR_USAGE, "%s", missing.text);
    if (arg[0] == '-' && arg[1] != 0)
        return err_set(e, ERR_USAGE, "unknown option %.100s (see --help)", arg);
    if (c->app->arguments == NULL)
        return err_set(e, ERR_USAGE, "unexpected argument \"%.100s\" (see --help)", arg);
    c->arguments[c->arguments_count++] = arg;
    return 0;
}

static int read_command_line(struct config *c, int argc, char *const *argv, struct command_line *line, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            if (i + 1 < argc && c->app->arguments == NULL)
                return err_set(e, ERR_USAGE, "unexpected argument \"%.100s\" (see --help)", argv[i + 1]);
            while (++i < argc)
                c->arguments[c->arguments_count++] = argv[i];
        } else if (read_argument(c, argc, argv, &i, line, e) < 0) {
            return -1;
        }
    }
    return 0;
}

static const char *environment_file(char *const *env)
{
    for (; env != NULL && *env != NULL; env++)
        if (strncmp(*env, ENV_CONFIG "=", sizeof ENV_CONFIG) == 0 && (*env)[sizeof ENV_CONFIG] != 0)
            return *env + sizeof ENV_CONFIG;
    return NULL;
}

static int load_sources(struct config *c, const struct command_line *line, char *const *env, struct err *e)
{
    const char *file = environment_file(env);
    if (c->app->preset != NULL && load_file(c, c->app->preset, e) < 0)
        return -1;
    if (file != NULL && load_file(c, file, e) < 0)
        return err_wrap(e, ENV_CONFIG);
    for (size_t i = 0; i < line->files_count; i++)
        if (load_file(c, line->files[i], e) < 0)
            return -1;
    if (load_environment(c, env, e) < 0)
        return -1;
    for (size_t i = 0; i < line->puts_count; i++) {
        const char *key = line->puts[i].key, *value = line->puts[i].value;
        if (key == NULL ? put_assignment(c, value, e) == 0 : config_put(c, key, value, "command line", e) == 0)
            continue;
        if (key != NULL)
            e->code = ERR_USAGE;
        return -1;
    }
    return c->app->check != NULL && c->wish != CONFIG_PRINT ? c->app->check(c->app->check_arg, e) : 0;
}

int config_load(struct config *c, int argc, char *const *argv, char *const *env, struct err *e)
{
    struct command_line line = {0};
    assert(c->arguments == NULL); /* once per config */
    const size_t slots = argc > 0 ? (size_t)argc : 1;
    line.puts = mem_new(slots, sizeof *line.puts);
    c->arguments = mem_new(slots, sizeof *c->arguments);
    int rc = read_command_line(c, argc, argv, &line, e);
    if (rc == 0 && c->wish != CONFIG_HELP && c->wish != CONFIG_VERSION)
        rc = load_sources(c, &line, env, e);
    for (size_t i = 0; i < line.puts_count; i++)
        mem_free((void *)(uintptr_t)line.puts[i].key);
    mem_free(line.puts);
    return rc;
}

enum config_wish config_wish(const struct config *c)
{
    return c->wish;
}

size_t config_arguments(const struct config *c, const char *const **out)
{
    *out = c->arguments;
    return c->arguments_count;
}

int config_main(struct config *c, int argc, char *const *argv)
{
    struct err e = {0};
    struct buf text;
    if (config_load(c, argc, argv, environ, &e) < 0) {
        fprintf(stderr, "%s: %s\n", c->app->name, e.text);
        return e.code == ERR_USAGE ? 2 : 1;
    }
    buf_init(&text, PRINT_BYTES_MAX);
    switch (c->wish) {
    case CONFIG_RUN: return -1;
    case CONFIG_HELP: config_help(c, &text); break;
    case CONFIG_VERSION: buf_format(&text, "%s\n%s\n", version_line(), version_libraries()); break;
    case CONFIG_PRINT: config_print(c, &text); break;
    case CONFIG_CHECK: buf_format(&text, "%s: the settings are good\n", c->app->name); break;
    }
    fwrite(buf_text(&text), 1, text.bytes, stdout);
    buf_done(&text);
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- looking ---------------------------------------------------------------------------------------- */

size_t config_given_count(const struct config *c)
{
    return c->given_count;
}

struct config_given config_given(const struct config *c, size_t i)
{
    assert(i < c->given_count);
    return (struct config_given){c->given[i].key, c->given[i].value, c->given[i].origin};
}

const char *config_given_value(const struct config *c, const char *key)
{
    for (size_t i = 0; i < c->given_count; i++)
        if (strcmp(c->given[i].key, key) == 0)
            return c->given[i].value;
    return NULL;
}

const char *config_origin(const struct config *c, const char *key)
{
    struct place p;
    if (!find(c, key, &p))
        return NULL;
    size_t copy = 0;
    if (p.section->table->repeated) {
        const struct config_copies *copies = p.section->out;
        while (copy < copies->count && (strlen(copies->names[copy]) != p.copy_bytes ||
                                        strncmp(copies->names[copy], p.copy_name, p.copy_bytes) != 0))
            copy++;
        if (copy == copies->count)
            return NULL;
    }
    return slot_of(p.section, copy, (size_t)(p.field - p.section->table->fields))->origin;
}
