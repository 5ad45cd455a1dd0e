/* The judge of the delivery guarantee: a journal of acknowledged trajectories kept outside the
 * system, and an audit of Redis by its own reading of the keys (common/replay/replay_keys.h is
 * their table; no code is shared with it: this file speaks RESP over the unix socket by itself).
 *
 * Invariants of the audit:
 *   nothing lost   every acknowledged id is present (header, meta and latents) or has a tombstone
 *   stored once    no id is both present and a tombstone; the number of admissions that Redis
 *                  counted is the number of ids it holds or has buried
 *   trained once   a step's batch never changes once it is logged; no id is in the batches of two
 *                  steps, nor twice in one; every step was logged once
 *
 *     checker_open(&c, "/tmp/x/redis.sock", run_id, "/tmp/x/journal");
 *     checker_acked(&c, id);          // at every acknowledgement
 *     checker_look(&c);               // often: batches are forgotten once a checkpoint covers them
 *     violations = checker_audit(&c, 8, &found);
 *
 * Thread rule: one thread. */
#ifndef DAGLINE_TESTS_CHECKER_H
#define DAGLINE_TESTS_CHECKER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CHECKER_ID_BYTES 16
#define CHECKER_HEX_BYTES 33

struct checker_id {
    char hex[CHECKER_HEX_BYTES];
    uint64_t step; /* of a batch entry */
};

struct checker {
    char socket[108], prefix[80]; /* 108: the most that a unix address holds */
    int fd;                       /* -1: not connected */
    FILE *journal;
    struct checker_id *acked, *trained; /* as they came */
    size_t acked_count, trained_count;
    uint64_t *steps; /* [step_count], rising: whose batches were seen */
    size_t step_count;
    size_t changed; /* batches that were not what they had been */
    char in[1 << 16];
    size_t in_at, in_end;
    char **words; /* of the last reply, flattened; NULL for nil */
    size_t word_count;
};

struct checker_found {
    size_t acked;                                         /* distinct ids in the journal */
    size_t present, tombstones;                           /* ids in Redis */
    size_t batches, trained;                              /* seen by checker_look */
    size_t lost, torn, both, doubled, uncounted, changed; /* violations, by kind */
};

void checker_open(struct checker *c, const char *socket, const char *run_id, const char *journal);
void checker_close(struct checker *c);

/* Appends to the journal file before it returns. */
void checker_acked(struct checker *c, const uint8_t id[CHECKER_ID_BYTES]);
void checker_acked_hex(struct checker *c, const char *hex);

/* Notes the logged batches; nothing where Redis is away just now. */
void checker_look(struct checker *c);

/* Everything at once, on a quiet ring; batch: trajectories of one update. Prints each violation
 * (the first of a kind) and returns their number.  Aborts the test where Redis does not answer. */
size_t checker_audit(struct checker *c, size_t batch, struct checker_found *out);

#endif
