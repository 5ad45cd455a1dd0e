/* Every key that Dagline keeps in Redis: one table.  All keys start with "dagline:{RUN}:" (the
 * braces keep one run in one slot of a cluster); ID is the trajectory's 32 hex digits, STEP a
 * decimal number. */
/* clang-format off */
/*   name        suffix     type    what                                        lifetime
 *   EPOCH       epoch      string  32 random hex digits of this data set       until Redis is emptied
 *   FENCE       fence      string  highest trainer token seen                  the run
 *   VERSION     version    string  newest policy version told by the trainer   the run
 *   SEQ         seq        string  insertion counter (may have gaps)           the run
 *   NEED        need       string  inserts after which a waiting batch fills   until it is filled
 *   STATS       stats      hash    counters; `bytes` = payload held now        the run
 *   ITEM        i:ID       hash    crc bytes version slot counter uses         with the item
 *   META        m:ID       string  stored form but latents (replay_codec.h)    with the item
 *   LATENTS     x:ID       string  float32 [states][H,W,C], little-endian      with the item
 *   BY_INSERT   z:insert   zset    every item by insertion                     with the item
 *   BY_VERSION  z:version  zset    every item by policy version                with the item
 *   READY       z:ready    zset    what may still be handed out, by insertion  until used up, too old
 *   BY_DELTA    z:delta    zset    the same by |delta| (+inf: never trained)   until used up, too old
 *   BY_REWARD   z:reward   zset    the same by reward                          until used up, too old
 *   BATCH       b:STEP     list    ids of one batch in order                   until its step is committed
 *   BATCHES     z:batches  zset    logged steps                                until committed
 *   PINS        z:pins     zset    ids that logged batches name, by last step  until committed
 *   TOMB        t:ID       string  crc of an item that is gone                 REPLAY_TOMBSTONE_VERSIONS
 *   TOMBS       z:tombs    zset    tombstones by policy version                REPLAY_TOMBSTONE_VERSIONS
 *   MEMO_NEWEST memo       string  the memo's newest generation                the run
 *   MEMO        memo:GEN   hash    texts by key (replay_memo.h)                two generations
 */
/* clang-format on */
/* Nothing has a TTL: Redis expiry follows the wall clock, and a clock that jumps would open the
 * window in which an item could be stored twice.  Tombstones are dropped by policy version instead,
 * and an item whose policy is older than they reach is refused (REPLAY_TOO_OLD), so the window
 * never opens. */
#ifndef DAGLINE_REPLAY_REPLAY_KEYS_H
#define DAGLINE_REPLAY_REPLAY_KEYS_H

#define REPLAY_KEY_BYTES_MAX 160
#define REPLAY_RUN_BYTES_MAX 64

#define KEY_EPOCH "epoch"
#define KEY_FENCE "fence"
#define KEY_VERSION "version"
#define KEY_SEQ "seq"
#define KEY_NEED "need"
#define KEY_STATS "stats"
#define KEY_ITEM "i:"
#define KEY_META "m:"
#define KEY_LATENTS "x:"
#define KEY_BY_INSERT "z:insert"
#define KEY_BY_VERSION "z:version"
#define KEY_READY "z:ready"
#define KEY_BY_DELTA "z:delta"
#define KEY_BY_REWARD "z:reward"
#define KEY_BATCH "b:"
#define KEY_BATCHES "z:batches"
#define KEY_PINS "z:pins"
#define KEY_TOMB "t:"
#define KEY_TOMBS "z:tombs"
#define KEY_MEMO_NEWEST "memo"
#define KEY_MEMO "memo:"

/* How many policy versions a tombstone outlives the newest version at its making. */
#define REPLAY_TOMBSTONE_VERSIONS 1000
/* Bookkeeping of one item beside its payload (keys, hash, five index entries), counted into its
 * bytes. */
#define REPLAY_ITEM_OVERHEAD_BYTES 1536

#endif
