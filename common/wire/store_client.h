/* The checkpoint store as seen by the other services: blocking requests with a timeout, sent again
 * until they are answered or the time is over (every request may be repeated), over a socket that
 * reconnects by itself; and its announcements.
 *
 * Errors: ERR_UNAVAILABLE: no answer in time (the store is away; try again later); else what the
 * store answered: ERR_NOT_FOUND, ERR_STALE (a newer trainer exists: stop), ERR_CONFLICT,
 * ERR_INVALID ... Thread rule: each client and each subscriber belongs to the thread that opened
 * it.
 *
 *     store_client_open(&c, net, &(struct store_client_options){.endpoint =
 * "ipc:///run/x/store.sock"}, e); store_client_run(c, &run, e);                // also stamps the
 * run id on messages of `net` store_client_model_fetch(c, &run, "cache/model", e);
 *     store_client_policy(c, NULL, &policy, e);    // the newest
 *     if (policy.version > 0) store_client_blob_get(c, policy.digest, cap, &bytes, &n, e); */
#ifndef DAGLINE_WIRE_STORE_CLIENT_H
#define DAGLINE_WIRE_STORE_CLIENT_H

#include "base/err.h"
#include "wire/codec.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_CLIENT_TIMEOUT_MS 30000

struct store_client_options {
    const char *endpoint;
    uint32_t timeout_ms; /* of one request, over all its tries; 0: STORE_CLIENT_TIMEOUT_MS */
};

struct store_client;

/* Does not wait for the store: the first request does. */
int store_client_open(struct store_client **out, struct wire_net *net,
                      const struct store_client_options *o, struct err *e) MUST_USE;
void store_client_close(struct store_client *c);
void store_client_timeout(struct store_client *c, uint32_t timeout_ms);

/* out: run_spec_done when done with it. */
int store_client_run(struct store_client *c, struct run_spec *out, struct err *e) MUST_USE;
int store_client_slot_take(struct store_client *c, uint32_t *slot, struct err *e) MUST_USE;
/* The fencing token of a trainer; later requests of this client carry it. */
int store_client_token_take(struct store_client *c, uint64_t *token, struct err *e) MUST_USE;

/* digest NULL: the newest (version 0 with a zero digest is the base model). ERR_NOT_FOUND. */
int store_client_policy(struct store_client *c, const uint8_t *digest, struct policy_ref *out,
                        struct err *e) MUST_USE;

/* The whole blob, its digest verified; freed with mem_free.  More than bytes_max is refused. */
int store_client_blob_get(struct store_client *c, const uint8_t digest[CODEC_DIGEST_BYTES],
                          size_t bytes_max, uint8_t **out, size_t *bytes, struct err *e) MUST_USE;

/* Uploads in chunks; resumes where the store is. A blob that is there already costs one request. */
int store_client_blob_put(struct store_client *c, const void *data, size_t bytes,
                          uint8_t digest[CODEC_DIGEST_BYTES], struct err *e) MUST_USE;

/* Every file of run->model into `folder` (made, with parents inside it), each verified and renamed
 * into place; files that are there with the right digest are kept. */
int store_client_model_fetch(struct store_client *c, const struct run_spec *run, const char *folder,
                             struct err *e) MUST_USE;

/* The blob must be in the store.  out may be NULL. */
int store_client_policy_publish(struct store_client *c, const struct policy_publish *p,
                                struct policy_ref *out, struct err *e) MUST_USE;

/* step, blob_count, blobs of `ck` are used; the token is this client's. */
int store_client_checkpoint_publish(struct store_client *c, const struct checkpoint_ref *ck,
                                    struct err *e) MUST_USE;
/* The newest that verifies; out->blob_count == 0: there is none. */
int store_client_checkpoint_get(struct store_client *c, struct checkpoint_ref *out,
                                struct err *e) MUST_USE;

/* A report with a step is sent until it is answered; one without is sent once, and not at all while
 * the store is away (returns 0: it only tells what the next one will tell again). */
int store_client_report(struct store_client *c, const struct report *r, struct err *e) MUST_USE;

int store_client_status(struct store_client *c, struct status *out, struct err *e) MUST_USE;
int store_client_stop(struct store_client *c, struct err *e) MUST_USE;

/* ---- announcements ---- */

enum news_kind { NEWS_POLICY, NEWS_REPORT, NEWS_STOP };
#define NEWS_WANT_POLICY 1u
#define NEWS_WANT_REPORT 2u
#define NEWS_WANT_STOP 4u

struct news_item {
    enum news_kind kind;
    struct policy_ref policy; /* NEWS_POLICY */
    struct report report;     /* NEWS_REPORT */
};

struct news;

/* want: NEWS_WANT_*.  The newest policy (and the stop, once there) is announced again to every new
 * subscriber and periodically, so nothing is lost by joining late; expect repetitions. */
int news_open(struct news **out, struct wire_net *net, const char *endpoint, unsigned want,
              struct err *e) MUST_USE;
void news_close(struct news *n);

/* ERR_TIMEOUT when nothing came within timeout_ms (0: do not wait). */
int news_poll(struct news *n, struct news_item *out, int timeout_ms, struct err *e) MUST_USE;

/* For loop_add_wire. */
struct wire *news_wire(struct news *n);

#endif
