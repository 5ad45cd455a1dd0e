/* Content-addressed blobs in a folder: blobs/ab/<64 hex digits of the SHA-256>.
 *
 * A blob is whole or absent: it grows in <digest>.part (created exclusively, space reserved first),
 * is fsynced, read back and hashed, then renamed, and its folder fsynced.  Parts left by a crash
 * are removed at open.  A blob is hashed again before its first byte is served, and whenever its
 * file has changed since; one that does not have its digest is moved to blobs/corrupt and is absent
 * from then on. Thread rule: one thread. */
#ifndef DAGLINE_STORE_BLOBS_H
#define DAGLINE_STORE_BLOBS_H

#include "base/err.h"
#include "wire/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOBS_UPLOADS_MAX 8     /* at a time; the least recent one is given up for a ninth */
#define BLOBS_ENTRIES_MAX 65536 /* in one folder */

struct blobs;

int blobs_open(struct blobs **out, const char *folder, struct err *e) MUST_USE;
void blobs_close(struct blobs *b);

/* One chunk of an upload: *have is how much of the blob is there now (the next offset wanted).  A
 * chunk that was taken before, and one that comes too early, change nothing; bytes == 0 only asks.
 * *have == bytes_total: verified and in place.  On any failure nothing of the upload is left. */
int blobs_put(struct blobs *b, const struct blob_chunk *chunk, const uint8_t *data, size_t bytes,
              uint64_t *have, struct err *e) MUST_USE;

/* Up to length_max bytes at offset into out; ERR_NOT_FOUND, also for a blob that is damaged. */
int blobs_get(struct blobs *b, const uint8_t *digest, uint64_t offset, size_t length_max,
              uint8_t *out, size_t *bytes, uint64_t *bytes_total, struct err *e) MUST_USE;

/* Whether the blob is there, whole, by hashing it (again, if its file changed since); its size.
 * ERR_NOT_FOUND: absent or damaged; any other failure tells nothing about the blob. */
int blobs_verify(struct blobs *b, const uint8_t *digest, uint64_t *bytes, struct err *e) MUST_USE;

/* Copies a file in. */
int blobs_import(struct blobs *b, const char *path, uint8_t digest[CODEC_DIGEST_BYTES],
                 uint64_t *bytes, struct err *e) MUST_USE;
int blobs_import_bytes(struct blobs *b, const void *data, size_t bytes,
                       uint8_t digest[CODEC_DIGEST_BYTES], struct err *e) MUST_USE;

/* Removes every blob that `keep` does not want and that was not uploaded since the second last
 * sweep (an upload comes before the manifest that names it; what was there at the start may have
 * come just before it, so the first sweep removes nothing).  Returns the number removed. */
size_t blobs_sweep(struct blobs *b, bool (*keep)(void *arg, const uint8_t *digest), void *arg);

#endif
