/* Byte-pair merging: a sequence of symbol ids in, the merged ids out, by rank.
 * Time is O(n log n) in the length of the sequence.  A table belongs to one thread while it is
 * filled and to any number of them afterwards. */
#ifndef DAGLINE_DIFFUSION_BPE_H
#define DAGLINE_DIFFUSION_BPE_H

#include <stddef.h>
#include <stdint.h>

struct bpe_slot {
    uint64_t pair; /* left id << 32 | right id */
    int32_t rank;  /* -1: empty */
    int32_t merged;
};

struct bpe {
    struct bpe_slot *slots; /* open addressing */
    size_t mask;
};

/* An empty table for up to merges_max merges. */
void bpe_init(struct bpe *b, size_t merges_max);
/* Accepts zeroed memory. */
void bpe_done(struct bpe *b);

/* The pair (left, right) becomes `merged`; of two merges the one of lower rank goes first.  Returns
 * -1 and changes nothing where the pair is already there. */
int bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t merged, int32_t rank);

/* Merges ids[0..n) in place, returns how many are left.  Of equal ranks the leftmost goes first.
 * Ids that no merge names stay as they are. */
size_t bpe_apply(const struct bpe *b, int32_t *ids, size_t n);

#endif
