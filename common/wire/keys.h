/* CURVE key pairs in files, and the allow-list.
 *
 * A keys folder, as `dagline keys DIR` makes it: NAME.key (secret, 40 characters of Z85, mode 0400)
 * and NAME.pub (public, 0444) for each party, and `allow`: one line "PUBLIC PARTY" per key that may
 * connect, a # between blanks starts a comment.  A service needs its own .key and .pub, the .pub of
 * whom it dials, and, where it listens, `allow`.  A .key that group or others can read is refused.
 *
 * Secrets live in struct keys_pair only as long as needed: keys_wipe.  Errors never quote a key. */
#ifndef DAGLINE_WIRE_KEYS_H
#define DAGLINE_WIRE_KEYS_H

#include "base/err.h"
#include "wire/message.h"

#include <stddef.h>
#include <stdint.h>

#define KEYS_TEXT_BYTES 41 /* Z85 with the NUL */
#define KEYS_RAW_BYTES 32
#define KEYS_ALLOWED_MAX 256

struct keys_pair {
    char public_text[KEYS_TEXT_BYTES];
    char secret_text[KEYS_TEXT_BYTES];
};

void keys_wipe(struct keys_pair *k);

int keys_make(struct keys_pair *k, struct err *e) MUST_USE;

/* Reads folder/NAME.key and folder/NAME.pub and checks that they belong together. */
int keys_load(struct keys_pair *k, const char *folder, const char *name, struct err *e) MUST_USE;

/* Reads folder/NAME.pub. */
int keys_load_public(char out[KEYS_TEXT_BYTES], const char *folder, const char *name,
                     struct err *e) MUST_USE;

/* Makes a new pair in folder/NAME.key and .pub; ERR_CONFLICT where either exists. */
int keys_create(const char *folder, const char *name, struct keys_pair *k, struct err *e) MUST_USE;

struct keys_allowed {
    uint8_t key[KEYS_RAW_BYTES];
    enum message_party party;
};

struct keys_allow_list {
    size_t count;
    struct keys_allowed entries[KEYS_ALLOWED_MAX];
};

/* The whole file or an error that names the line; at least one entry. */
int keys_allow_load(struct keys_allow_list *out, const char *path, struct err *e) MUST_USE;
int keys_allow_parse(struct keys_allow_list *out, const char *text, size_t bytes,
                     struct err *e) MUST_USE;

/* PARTY_LOCAL where the key is not listed. Constant time in the key. */
enum message_party keys_allow_find(const struct keys_allow_list *a,
                                   const uint8_t key[KEYS_RAW_BYTES]);

/* The folder of `dagline keys`: pairs for every party and `allow`.  An existing folder is
 * completed, keys that are there stay. */
int keys_create_folder(const char *folder, struct err *e) MUST_USE;

#endif
