/* The event loop of a service: sockets, file descriptors, timers on the monotonic clock, and
 * signals. The first SIGTERM or SIGINT sets draining and calls on_drain; a second one ends the
 * process at once (signals have their default action again by then).
 *
 * loop_open blocks both signals for the calling thread, so it must run before any other thread
 * starts (the context of wire_net_open has threads).  Thread rule: one thread.
 *
 *     loop_open(&l, e);
 *     loop_add_wire(l, inbox, on_message, self);
 *     loop_add_timer(l, 1000, on_tick, self);
 *     rc = loop_run(l, e);                        // until loop_stop
 *
 * A service that computes in the foreground calls loop_poll(l, 0, e) between its steps instead. */
#ifndef DAGLINE_WIRE_LOOP_H
#define DAGLINE_WIRE_LOOP_H

#include "base/err.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define LOOP_WATCHES_MAX 4096 /* a scorer has one for each call, 192 for each of 16 rewards */
#define LOOP_TIMERS_MAX 64

#define LOOP_READ 1
#define LOOP_WRITE 2

struct loop;

/* A callback that returns -1 with e set ends loop_run with that error. */
typedef int (*loop_fn)(void *arg, struct err *e);
typedef int (*loop_fd_fn)(void *arg, int fd, int events, struct err *e);

int loop_open(struct loop **out, struct err *e) MUST_USE;
void loop_close(struct loop *l);

/* on_ready runs while the socket is readable: it must wire_recv(w, &m, 0, e) at least once and may
 * stop after a bounded number of messages. */
int loop_add_wire(struct loop *l, struct wire *w, loop_fn on_ready, void *arg,
                  struct err *e) MUST_USE;
void loop_remove_wire(struct loop *l, struct wire *w);

/* events: LOOP_READ | LOOP_WRITE; adding a descriptor again changes its events. */
int loop_add_fd(struct loop *l, int fd, int events, loop_fd_fn on_ready, void *arg,
                struct err *e) MUST_USE;
void loop_remove_fd(struct loop *l, int fd);

/* Every interval_ms (> 0); first after one interval.  *id, where not NULL, is for
 * loop_remove_timer. */
int loop_add_timer(struct loop *l, uint32_t interval_ms, loop_fn on_time, void *arg, int *id,
                   struct err *e) MUST_USE;
void loop_remove_timer(struct loop *l, int id);

/* Called once, when the first signal arrives; without one the loop stops by itself. */
void loop_on_drain(struct loop *l, loop_fn on_drain, void *arg);

/* One round: waits up to timeout_ms (0: not at all, < 0: until something happens), runs what is
 * due. */
int loop_poll(struct loop *l, int timeout_ms, struct err *e) MUST_USE;

/* Rounds until loop_stop or a callback's error. */
int loop_run(struct loop *l, struct err *e) MUST_USE;
void loop_stop(struct loop *l);

/* Whether a signal to end has come that no loop has read yet: for code that blocks for long. */
bool loop_signal_waits(void);

bool loop_draining(const struct loop *l);
bool loop_stopped(const struct loop *l);

#endif
