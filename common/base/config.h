/* Settings: one table per section gives the struct, defaults, bounds, units, help, the parser of every
 * source and --print-config.  A binary loads all of its sections with one call.
 *
 * A section is declared in a header and defined in one .c file:
 *
 *     #define TRAINER_PARAMS(P, S)                                                              \
 *         P(S, real, lr, "6e-5", "0", "1", "1/step", "AdamW learning rate")                     \
 *         P(S, integer, batch, "64", "1", "4096", "items", "trajectories in one update")        \
 *         P(S, choice, objective, "dag_db", "dag_db|dag_kl|ddpo", "", "", "the loss")           \
 *         P(S, duration, ack_timeout, "5s", "10ms", "1h", "", "resend after this long")
 *     CONFIG_STRUCT(trainer_params, TRAINER_PARAMS);                                in params.h
 *     extern const struct config_table trainer_table;
 *     CONFIG_TABLE(trainer_table, "trainer", "the learner", trainer_params, TRAINER_PARAMS);   in a .c
 *
 * A row is P(S, kind, name, default, min, max, unit, help).  Kinds, the member that they declare, and
 * how values are written:
 *     integer   int64_t name                       64
 *     real      double name                        6e-5        (always finite)
 *     flag      bool name                          true false yes no on off
 *     text      char name[CONFIG_TEXT_BYTES_MAX]   any UTF-8; the max column bounds its bytes.  A YAML
 *                                                  list of scalars is joined with commas
 *     choice    int name                           one of the names in the min column "a|b|c"; the
 *                                                  member is its index, so keep an enum in that order
 *     size      int64_t name_bytes                 4096, 64KiB, 1.5GiB (binary units only)
 *     duration  int64_t name_ms                    250ms, 5s, 2m, 1h, 1d; a bare 0 needs no unit
 *     secret    char name[CONFIG_TEXT_BYTES_MAX]   the path of a file that holds the secret; read it
 *                                                  with config_read_secret
 * Empty min or max columns mean no bound.  Names are lower_snake without double underscores.
 *
 * The key of a setting is section.name ("trainer.lr"); a section may itself have dots ("reward.http").
 * Sources, each stronger than the one before: default; YAML files (app.preset, $DAGLINE_CONFIG, then
 * --config FILE, repeatable), whose nested mappings are the dots; environment DAGLINE_TRAINER__LR (any
 * name that begins with DAGLINE_ and holds "__"); --set trainer.lr=1e-4.  All go through one parser.  An
 * unknown key is an error that offers the nearest known one; a bad value is one line with the value,
 * where it came from and what is accepted.
 *
 * A repeated section (CONFIG_TABLE_REPEATED, e.g. the reward backends) holds named copies of itself:
 * key "reward.aesthetic.url" is field url of the copy "aesthetic".
 *
 * Sections of other binaries may be present in the same file or environment: name them in
 * `app.foreign`.  Their settings are kept as text for config_given (`dagline run` hands them on) and
 * checked by the binary that owns them.
 *
 * Threads: a struct config belongs to one thread; the loaded params are plain memory.
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct run_params run;
 *         struct trainer_params p;
 *         const struct config_binding bindings[] = {{&run_table, &run}, {&trainer_table, &p}};
 *         const struct config_app app = {.name = "dagline-trainer", .about = "the learner",
 *                                        .foreign = config_sections};
 *         struct config *c = config_new(&app, bindings, 2);
 *         const int status = config_main(c, argc, argv);     // prints help, errors ...
 *         if (status >= 0)
 *             return config_free(c), status;
 *         ...                                                // run and p are filled
 */
#ifndef DAGLINE_BASE_CONFIG_H
#define DAGLINE_BASE_CONFIG_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_TEXT_BYTES_MAX 1024 /* of one value, with its NUL */
#define CONFIG_KEY_BYTES_MAX 128   /* of a whole dotted key, with its NUL */
#define CONFIG_FILE_BYTES_MAX (1 << 20)
#define CONFIG_GIVEN_MAX 4096 /* settings given explicitly, all sources together */
#define CONFIG_COPIES_MAX 16  /* copies of a repeated section */
#define CONFIG_NAME_BYTES_MAX 64

/* ---- tables ------------------------------------------------------------------------------------- */

enum config_kind {
    CONFIG_integer,
    CONFIG_real,
    CONFIG_flag,
    CONFIG_text,
    CONFIG_choice,
    CONFIG_size,
    CONFIG_duration,
    CONFIG_secret,
};

struct config_field {
    enum config_kind kind;
    size_t offset; /* of the member in the section's struct */
    const char *name, *otherwise, *min, *max, *unit, *help;
};

struct config_table {
    const char *section, *help;
    const struct config_field *fields;
    size_t count;
    size_t bytes;  /* of the section's struct */
    bool repeated; /* the binding's `out` is a struct config_copies */
    bool options;  /* every field is also the long option --name VALUE (command lines of people); none has the name of a
                      general option */
};

#define CONFIG_MEMBER_integer(name) int64_t name
#define CONFIG_MEMBER_real(name) double name
#define CONFIG_MEMBER_flag(name) bool name
#define CONFIG_MEMBER_text(name) char name[CONFIG_TEXT_BYTES_MAX]
#define CONFIG_MEMBER_choice(name) int name
#define CONFIG_MEMBER_size(name) int64_t name##_bytes
#define CONFIG_MEMBER_duration(name) int64_t name##_ms
#define CONFIG_MEMBER_secret(name) char name[CONFIG_TEXT_BYTES_MAX]
#define CONFIG_OFFSET_integer(S, name) offsetof(struct S, name)
#define CONFIG_OFFSET_real(S, name) offsetof(struct S, name)
#define CONFIG_OFFSET_flag(S, name) offsetof(struct S, name)
#define CONFIG_OFFSET_text(S, name) offsetof(struct S, name)
#define CONFIG_OFFSET_choice(S, name) offsetof(struct S, name)
#define CONFIG_OFFSET_size(S, name) offsetof(struct S, name##_bytes)
#define CONFIG_OFFSET_duration(S, name) offsetof(struct S, name##_ms)
#define CONFIG_OFFSET_secret(S, name) offsetof(struct S, name)

#define CONFIG_ROW_MEMBER(S, kind, name, otherwise, min, max, unit, help) CONFIG_MEMBER_##kind(name);
#define CONFIG_ROW_FIELD(S, kind, name, otherwise, min, max, unit, help)                           \
    {CONFIG_##kind, CONFIG_OFFSET_##kind(S, name), #name, otherwise, min, max, unit, help},

/* `CONFIG_STRUCT(trainer_params, TRAINER_PARAMS);` declares struct trainer_params. */
#define CONFIG_STRUCT(S, PARAMS)                                                                   \
    struct S {                                                                                     \
        PARAMS(CONFIG_ROW_MEMBER, S)                                                               \
    }

#define CONFIG_TABLE_WITH(variable, section_, help_, S, PARAMS, ...)                               \
    static const struct config_field variable##_fields[] = {PARAMS(CONFIG_ROW_FIELD, S)};          \
    const struct config_table variable = {.section = (section_),                                   \
                                          .help = (help_),                                         \
                                          .fields = variable##_fields,                             \
                                          .count = sizeof variable##_fields / sizeof(struct config_field), \
                                          .bytes = sizeof(struct S),                               \
                                          __VA_ARGS__}

/* Define one of these in a .c file, declare `extern const struct config_table variable;` in a header. */
#define CONFIG_TABLE(variable, section, help, S, PARAMS)                                           \
    CONFIG_TABLE_WITH(variable, section, help, S, PARAMS, .repeated = false)
#define CONFIG_TABLE_REPEATED(variable, section, help, S, PARAMS)                                  \
    CONFIG_TABLE_WITH(variable, section, help, S, PARAMS, .repeated = true)
#define CONFIG_TABLE_OPTIONS(variable, section, help, S, PARAMS)                                   \
    CONFIG_TABLE_WITH(variable, section, help, S, PARAMS, .options = true)

/* What a repeated section loads into; items has room for CONFIG_COPIES_MAX structs of the table and is
 * the caller's: `struct backend_params items[CONFIG_COPIES_MAX]; struct config_copies c = {.items = items};`
 * Copies are in the order in which they were first named. */
struct config_copies {
    void *items;
    size_t count;
    char names[CONFIG_COPIES_MAX][CONFIG_NAME_BYTES_MAX]; /* [a-z0-9_-]+ */
};

struct config_binding {
    const struct config_table *table;
    void *out; /* the section's struct, or a struct config_copies; kept by pointer */
};

/* ---- loading ------------------------------------------------------------------------------------ */

struct config_app {
    const char *name;           /* "dagline-trainer" */
    const char *about;          /* one line for --help */
    const char *arguments;      /* "PROMPT..." in the usage line; NULL: positional arguments are refused */
    const char *output;         /* the field of an options table that -o VALUE sets; NULL: no -o */
    const char *const *foreign; /* NULL-ended sections of other binaries; those bound here are skipped */
    const char *preset;         /* path of a settings file that is weaker than every source but the defaults; NULL: none */
    /* Rules between settings, after every load but for --print-config; says which setting to change.  May be NULL. */
    int (*check)(void *arg, struct err *e);
    void *check_arg;
};

/* Every section of the product, of the services and of the command line's verbs, NULL-ended: the usual value of
 * `foreign`, so that a file or an environment may serve all of them. */
extern const char *const config_sections[];

struct config;

/* Fills every bound struct with its defaults.  app and bindings' tables are kept by pointer, the array
 * of bindings is copied. A default that its own bounds refuse is a bug and asserts. */
struct config *config_new(const struct config_app *app, const struct config_binding *bindings, size_t count) MUST_USE;
void config_free(struct config *c); /* accepts NULL; the bound structs stay */

/* Reads arguments (argv[0] is skipped), files and environ; the bound structs are complete only after 0.
 * ERR_USAGE for a command line that makes no sense, ERR_INVALID for settings.  Once per config. */
int config_load(struct config *c, int argc, char *const *argv, char *const *environ, struct err *e) MUST_USE;

/* What the command line asked for. */
enum config_wish { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION, CONFIG_PRINT, CONFIG_CHECK };
enum config_wish config_wish(const struct config *c);

/* The whole beginning of a main: loads; --help, --version, --print-config and --check answer on
 * stdout, errors on stderr.  Returns the exit status (0; 2 usage; 1 settings), or -1 to go on. */
int config_main(struct config *c, int argc, char *const *argv);

/* Positional arguments, borrowed from argv. */
size_t config_arguments(const struct config *c, const char *const **out);

/* One setting from elsewhere (a run's settings received from the store); `origin` is for messages and
 * is copied.  Stronger than what was there. */
int config_put(struct config *c, const char *key, const char *value, const char *origin, struct err *e) MUST_USE;

/* ---- looking ------------------------------------------------------------------------------------ */

/* The effective settings of the bound sections as YAML that loads again to the same, each line with
 * its origin and bounds in a comment. */
void config_print(const struct config *c, struct buf *out);
void config_help(const struct config *c, struct buf *out);

/* Settings that were given explicitly, the strongest of each key, foreign ones too, in order of first
 * mention; i < config_given_count.  To start another binary with them, pass "--set", "key=value". */
struct config_given {
    const char *key, *value; /* the value as it was written */
    const char *origin;      /* "run.yaml:12", "DAGLINE_TRAINER__LR", "--set", or as put */
};
size_t config_given_count(const struct config *c);
struct config_given config_given(const struct config *c, size_t i);
/* The value of one of them, NULL where the key was not given. */
const char *config_given_value(const struct config *c, const char *key);

/* Where the value of a known key came from ("default" where nowhere else); NULL for an unknown key. */
const char *config_origin(const struct config *c, const char *key);

/* The explicitly given settings as YAML, for a file that another binary reads with --config. */
void config_print_given(const struct config *c, struct buf *out);

/* ---- values ------------------------------------------------------------------------------------- */

/* The text of a secret file without its last newline; at most out_bytes - 1 bytes, ERR_INVALID for an
 * empty one, for NUL bytes, for a second line, and for a file that others than its owner's group may write. */
int config_read_secret(const char *path, char *out, size_t out_bytes, struct err *e) MUST_USE;

/* Walks a comma-separated text value: *cursor starts at the value; false at the end.  Items are trimmed
 * of spaces; empty items are skipped; an item that does not fit is cut (give CONFIG_TEXT_BYTES_MAX). */
bool config_list_next(const char **cursor, char *item, size_t item_bytes);

#endif
