/* The test as a sampler on the wire: synthetic trajectories of its own slot under the run's newest
 * policy, sent within the credit, kept until they are answered, sent again in a new session.
 * Every Ack STORED or DUPLICATE is told to `acked` before anything else happens.
 * Thread rule: one thread. */
#ifndef DAGLINE_TESTS_WIRE_SAMPLER_H
#define DAGLINE_TESTS_WIRE_SAMPLER_H

#include "rollout/trajectory.h"
#include "wire/store_client.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_SAMPLER_FLIGHT 8 /* unless `flight` is set to more after opening */
#define WIRE_SAMPLER_FLIGHT_MAX 256

struct wire_sampler {
    void (*acked)(void *arg, const uint8_t id[TRAJECTORY_ID_BYTES]);
    void *arg;
    struct wire_net *net;
    struct wire *wire;
    struct store_client *store;
    struct news *news;
    struct run_spec run;
    uint8_t chain[32];
    struct policy_ref policy;
    uint32_t slot;
    uint64_t counter;
    bool stopped; /* the run has ended */
    bool drained; /* makes nothing new */
    size_t flight; /* trajectories that wait for their answer, at most */
    int64_t hello_ms;
    uint64_t session, items_granted, bytes_granted, items_sent, bytes_sent;
    size_t sessions, stored, duplicate, failed; /* answers, by outcome */
    char reason[CODEC_REASON_BYTES];            /* of the last that failed */
    struct {
        struct trajectory *t; /* NULL: free */
        uint64_t bytes;
        int64_t sent_ms; /* -1: not in this session */
    } item[WIRE_SAMPLER_FLIGHT_MAX];
};

/* Endpoints as the services have them.  Waits for the store. */
void wire_sampler_open(struct wire_sampler *s, const char *store, const char *news,
                       const char *scorer,
                       void (*acked)(void *arg, const uint8_t id[TRAJECTORY_ID_BYTES]), void *arg);
void wire_sampler_close(struct wire_sampler *s);

/* One turn: hears news, says hello, makes and sends what may be sent, takes what came. */
void wire_sampler_turn(struct wire_sampler *s);

/* Trajectories that wait for their answer. */
size_t wire_sampler_waiting(const struct wire_sampler *s);

#endif
