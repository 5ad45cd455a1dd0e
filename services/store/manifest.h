/* Manifests: small files that name blobs.  Two lists of them, checkpoints and policies, each in a
 * folder:
 *
 *     checkpoints/000000000120-3.json    step 120, published under token 3
 *     checkpoints/LATEST                 the name of the newest
 *
 * A manifest is one line of JSON and one line with its SHA-256; it is written whole or not at all,
 * and read back.  The newest is the one with the highest (token, step): a trainer that resumed
 * further back under a newer token supersedes what a fenced one left.  LATEST is for people and
 * tools; the list itself is what counts. A policy is a manifest with one blob named "policy", its
 * version being the step. Thread rule: one thread. */
#ifndef DAGLINE_STORE_MANIFEST_H
#define DAGLINE_STORE_MANIFEST_H

#include "base/err.h"
#include "wire/codec.h"

#include <stddef.h>
#include <stdint.h>

#define MANIFESTS_MAX 1024

struct manifests;

/* Reads every manifest of the folder (made if missing); one that does not verify is moved to
 * NAME.corrupt with an error event.  keep: how many of the newest stay after a publish. */
int manifests_open(struct manifests **out, const char *folder, size_t keep, struct err *e) MUST_USE;
void manifests_close(struct manifests *l);

/* Newest first: i = 0 is the newest; NULL past the end. */
const struct checkpoint_ref *manifests_at(const struct manifests *l, size_t i);
size_t manifests_count(const struct manifests *l);

/* Writes and verifies the manifest, then LATEST, then removes those beyond `keep`, and an older one
 * of the same step. */
int manifests_publish(struct manifests *l, const struct checkpoint_ref *m, struct err *e) MUST_USE;

/* Takes the i-th out of the list (its blobs are damaged): its file is moved to NAME.corrupt. */
void manifests_discard(struct manifests *l, size_t i);

#endif
