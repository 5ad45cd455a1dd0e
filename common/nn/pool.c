#include "nn/pool.h"

#include "base/cpu.h"
#include "base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

struct pool {
    size_t threads;
    size_t started; /* workers 1..started run */
    pthread_t *thread;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t wake, done;
    unsigned long round;
    size_t busy;
    bool quit;
    void (*work)(void *arg, size_t worker);
    void *arg;
};

struct start {
    struct pool *pool;
    size_t worker;
};

static void *worker_main(void *arg)
{
    const struct start s = *(struct start *)arg;
    struct pool *const p = s.pool;
    unsigned long seen = 0;
    mem_free(arg);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->quit && p->round == seen)
            pthread_cond_wait(&p->wake, &p->lock);
        if (p->quit)
            break;
        seen = p->round;
        pthread_mutex_unlock(&p->lock);
        p->work(p->arg, s.worker);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals belong to the thread that owns the event loop: the workers start with all of them
 * blocked. */
static int start_worker(struct pool *p, size_t worker)
{
    struct start *const s = mem_new(1, sizeof *s);
    sigset_t all, before;
    *s = (struct start){p, worker};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&p->thread[worker], NULL, worker_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        mem_free(s);
    return rc;
}

int pool_new(struct pool **out, size_t threads, struct err *e)
{
    threads = threads > 0 ? threads : cpu_count();
    threads = threads < POOL_THREADS_MAX ? threads : POOL_THREADS_MAX;
    struct pool *const p = mem_new(1, sizeof *p);
    p->threads = threads;
    p->thread = mem_new(threads, sizeof *p->thread);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (size_t i = 1; i < threads; i++) {
        const int rc = start_worker(p, i);
        if (rc != 0) {
            err_sys(e, rc, "starting compute thread %zu of %zu", i, threads);
            pool_free(p);
            return -1;
        }
        p->started = i;
    }
    *out = p;
    return 0;
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 1; i <= p->started; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->thread);
    mem_free(p);
}

size_t pool_threads(const struct pool *p)
{
    return p->threads;
}

void pool_run(struct pool *p, void (*work)(void *arg, size_t worker), void *arg)
{
    if (p->threads > 1) {
        pthread_mutex_lock(&p->lock);
        p->work = work;
        p->arg = arg;
        p->busy = p->threads - 1;
        p->round++;
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(arg, 0);
    if (p->threads > 1) {
        pthread_mutex_lock(&p->lock);
        while (p->busy > 0)
            pthread_cond_wait(&p->done, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
}
