/* A bounded memo in the replay's Redis: short texts by key, such as what a reward service said about a picture.  What is
 * kept is a convenience and may be lost at any time.
 *
 * Bounded by count, without clocks: two generations of one hash each.  Puts go to the newer one; when it holds half of
 * items_max, the older one is dropped and a new one begun.  So the last items_max / 2 puts are always there, and never
 * more than items_max (and what several writers put in one moment). */
#ifndef DAGLINE_REPLAY_REPLAY_MEMO_H
#define DAGLINE_REPLAY_REPLAY_MEMO_H

#include "replay/replay.h"

#define REPLAY_MEMO_KEY_BYTES 16
#define REPLAY_MEMO_TEXT_BYTES_MAX 4096

struct replay_memo_key {
    uint8_t bytes[REPLAY_MEMO_KEY_BYTES];
};

/* texts[i]: the text of keys[i], the caller's (mem_free), or NULL.  On -1 all are NULL. */
int replay_memo_get(struct replay *r, const struct replay_memo_key *keys, size_t n, char **texts,
                    struct err *e) MUST_USE;

/* texts[i]: at most REPLAY_MEMO_TEXT_BYTES_MAX bytes, borrowed. */
int replay_memo_put(struct replay *r, const struct replay_memo_key *keys, const char *const *texts, size_t n,
                    uint64_t items_max, struct err *e) MUST_USE;

#endif
