/* What a scorer shows over HTTP: /healthz (the main thread lives), /metrics, /dead-letters (the
 * last trajectories whose reward could not be had, as JSON lines).  The only state that two threads
 * share is in here: atomics and one lock. */
#ifndef DAGLINE_SCORER_PAGE_H
#define DAGLINE_SCORER_PAGE_H

#include "base/err.h"
#include "metrics/metrics.h"
#include "rollout/trajectory.h"
#include "scorer/backend.h"

#define PAGE_DEAD_LETTERS_MAX 256
#define PAGE_STALL_MS 15000 /* the main thread is taken for hung after so long */

struct page_series {
    struct metric *received, *stored, *duplicate, *conflict, *rejected, *too_old, *dropped;
    struct metric *failed[BACKEND_FAILURES];
    struct metric *images, *calls, *retries, *hedges, *cache_hits, *call_seconds;
    struct metric *in_hand, *held_bytes, *outstanding, *room, *peers, *ready;
    struct metric *ack_seconds, *reward;
};

/* Of one endpoint of a reward service. */
struct page_endpoint {
    struct metric *limit, *running, *open, *latency;
};

struct page;

/* listen "": counts, and shows nothing. */
int page_open(struct page **out, const char *listen, struct err *e) MUST_USE;
void page_close(struct page *p);
struct page_series *page_series(struct page *p);

/* The series of this endpoint; made when it is first asked for. */
struct page_endpoint page_endpoint(struct page *p, const struct backend_endpoint *endpoint);

/* The main thread is alive. */
void page_beat(struct page *p);
void page_dead_letter(struct page *p, const uint8_t id[TRAJECTORY_ID_BYTES],
                      enum backend_failure failure, const char *reason);

#endif
