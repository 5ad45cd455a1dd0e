#include "wire/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <zmq.h>

struct watch {
    bool used;
    uint64_t serial; /* tells a slot that was given away and taken again during a round */
    struct wire *wire;
    int fd, events;
    loop_fn on_wire;
    loop_fd_fn on_fd;
    void *arg;
};

struct timer {
    bool used;
    int64_t interval_ms, due_ms;
    loop_fn on_time;
    void *arg;
};

struct loop {
    int signal_fd;
    bool draining, stopped;
    loop_fn on_drain;
    void *drain_arg;
    uint64_t serials;
    struct watch watches[LOOP_WATCHES_MAX];
    size_t watch_end; /* places in use are below it */
    struct timer timers[LOOP_TIMERS_MAX];
};

static sigset_t stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

int loop_open(struct loop **out, struct err *e)
{
    *out = NULL;
    const sigset_t set = stop_signals();
    const int failed = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (failed != 0)
        return err_sys(e, failed, "blocking signals");
    /* A peer that closes its end must be an error of the write, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "signalfd");
    struct loop *l = mem_new(1, sizeof *l);
    l->signal_fd = fd;
    *out = l;
    return 0;
}

void loop_close(struct loop *l)
{
    if (l == NULL)
        return;
    close(l->signal_fd);
    mem_free(l);
}

static struct watch *watch_new(struct loop *l, struct err *e)
{
    for (size_t i = 0; i < LOOP_WATCHES_MAX; i++)
        if (!l->watches[i].used) {
            l->watches[i] = (struct watch){.used = true, .serial = ++l->serials, .fd = -1};
            l->watch_end = i < l->watch_end ? l->watch_end : i + 1;
            return &l->watches[i];
        }
    err_set(e, ERR_FULL, "event loop: more than %d sockets and descriptors", LOOP_WATCHES_MAX);
    return NULL;
}

int loop_add_wire(struct loop *l, struct wire *w, loop_fn on_ready, void *arg, struct err *e)
{
    struct watch *x = watch_new(l, e);
    if (x == NULL)
        return -1;
    x->wire = w;
    x->on_wire = on_ready;
    x->arg = arg;
    return 0;
}

void loop_remove_wire(struct loop *l, struct wire *w)
{
    for (size_t i = 0; i < l->watch_end; i++)
        if (l->watches[i].used && l->watches[i].wire == w)
            l->watches[i].used = false;
}

int loop_add_fd(struct loop *l, int fd, int events, loop_fd_fn on_ready, void *arg, struct err *e)
{
    assert(fd >= 0 && (events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    struct watch *x = NULL;
    for (size_t i = 0; i < l->watch_end && x == NULL; i++)
        if (l->watches[i].used && l->watches[i].fd == fd)
            x = &l->watches[i];
    if (x == NULL && (x = watch_new(l, e)) == NULL)
        return -1;
    x->fd = fd;
    x->events = events;
    x->on_fd = on_ready;
    x->arg = arg;
    return 0;
}

void loop_remove_fd(struct loop *l, int fd)
{
    for (size_t i = 0; i < l->watch_end; i++)
        if (l->watches[i].used && l->watches[i].fd == fd)
            l->watches[i].used = false;
}

int loop_add_timer(struct loop *l, uint32_t interval_ms, loop_fn on_time, void *arg, int *id,
                   struct err *e)
{
    assert(interval_ms > 0);
    for (int i = 0; i < LOOP_TIMERS_MAX; i++)
        if (!l->timers[i].used) {
            l->timers[i] = (struct timer){.used = true,
                                          .interval_ms = interval_ms,
                                          .due_ms = clock_mono_ms(NULL) + interval_ms,
                                          .on_time = on_time,
                                          .arg = arg};
            if (id != NULL)
                *id = i;
            return 0;
        }
    return err_set(e, ERR_FULL, "event loop: more than %d timers", LOOP_TIMERS_MAX);
}

void loop_remove_timer(struct loop *l, int id)
{
    assert(id >= 0 && id < LOOP_TIMERS_MAX);
    l->timers[id].used = false;
}

void loop_on_drain(struct loop *l, loop_fn on_drain, void *arg)
{
    l->on_drain = on_drain;
    l->drain_arg = arg;
}

static int read_signal(struct loop *l, struct err *e)
{
    struct signalfd_siginfo info;
    if (read(l->signal_fd, &info, sizeof info) != (ssize_t)sizeof info || l->draining)
        return 0;
    l->draining = true;
    log_event(LOG_INFO, "draining", "signal=%u", info.ssi_signo);
    /* From here on the kernel's default applies: a second signal ends the process at once, whatever
     * it is computing. */
    const sigset_t set = stop_signals();
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (l->on_drain != NULL)
        return l->on_drain(l->drain_arg, e);
    l->stopped = true;
    return 0;
}

static int run_timers(struct loop *l, struct err *e)
{
    const int64_t now = clock_mono_ms(NULL);
    for (int i = 0; i < LOOP_TIMERS_MAX && !l->stopped; i++) {
        struct timer *t = &l->timers[i];
        if (!t->used || t->due_ms > now)
            continue;
        /* A late round does not make up for missed ones. */
        t->due_ms = now + t->interval_ms;
        if (t->on_time(t->arg, e) < 0)
            return -1;
    }
    return 0;
}

static long wait_ms(const struct loop *l, int timeout_ms)
{
    int64_t wait = timeout_ms;
    const int64_t now = clock_mono_ms(NULL);
    for (int i = 0; i < LOOP_TIMERS_MAX; i++)
        if (l->timers[i].used) {
            const int64_t left = l->timers[i].due_ms > now ? l->timers[i].due_ms - now : 0;
            wait = wait < 0 || left < wait ? left : wait;
        }
    return (long)wait;
}

static int run_watch(const struct watch *w, short revents, struct err *e)
{
    if (w->wire != NULL)
        return w->on_wire(w->arg, e);
    /* An error on the descriptor is told as both: the next read or write gives its reason. */
    const int events = (revents & (ZMQ_POLLIN | ZMQ_POLLERR) ? LOOP_READ : 0) |
                       (revents & (ZMQ_POLLOUT | ZMQ_POLLERR) ? LOOP_WRITE : 0);
    return w->on_fd(w->arg, w->fd, events, e);
}

int loop_poll(struct loop *l, int timeout_ms, struct err *e)
{
    zmq_pollitem_t items[LOOP_WATCHES_MAX + 1];
    size_t from[LOOP_WATCHES_MAX + 1];
    uint64_t serial[LOOP_WATCHES_MAX + 1];
    int n = 0;
    items[n++] = (zmq_pollitem_t){.fd = l->signal_fd, .events = ZMQ_POLLIN};
    for (size_t i = 0; i < l->watch_end; i++) {
        const struct watch *w = &l->watches[i];
        if (!w->used)
            continue;
        from[n] = i;
        serial[n] = w->serial;
        if (w->wire != NULL)
            items[n++] = (zmq_pollitem_t){.socket = wire_socket(w->wire), .events = ZMQ_POLLIN};
        else
            items[n++] =
                (zmq_pollitem_t){.fd = w->fd,
                                 .events = (short)((w->events & LOOP_READ ? ZMQ_POLLIN : 0) |
                                                   (w->events & LOOP_WRITE ? ZMQ_POLLOUT : 0))};
    }
    const int ready = zmq_poll(items, n, wait_ms(l, timeout_ms));
    if (ready < 0 && errno != EINTR)
        return err_set(e, ERR_CLOSED, "event loop: %s", zmq_strerror(errno));
    if (ready > 0 && items[0].revents != 0 && read_signal(l, e) < 0)
        return -1;
    for (int i = 1; ready > 0 && i < n && !l->stopped; i++) {
        const struct watch *w = &l->watches[from[i]];
        if (items[i].revents == 0 || !w->used || w->serial != serial[i])
            continue;
        const struct watch copy = *w;
        if (run_watch(&copy, items[i].revents, e) < 0)
            return -1;
    }
    return l->stopped ? 0 : run_timers(l, e);
}

int loop_run(struct loop *l, struct err *e)
{
    while (!l->stopped)
        if (loop_poll(l, -1, e) < 0)
            return -1;
    return 0;
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}

bool loop_signal_waits(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

bool loop_draining(const struct loop *l)
{
    return l->draining;
}

bool loop_stopped(const struct loop *l)
{
    return l->stopped;
}
