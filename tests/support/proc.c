#include "support/proc.h"

#include "base/file.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 5

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap(void)
{
    const struct timespec t = {.tv_nsec = POLL_MS * 1000000L};
    nanosleep(&t, NULL);
}

extern char **environ;

/* posix_spawn, not fork: a test may have threads, and what libraries do at fork can hang the child.
 */
void proc_start(struct proc *p, const char *const *argv, const char *log)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (log != NULL) {
        posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        posix_spawn_file_actions_adddup2(&files, 1, 2);
    }
    const int rc = posix_spawnp(&p->pid, argv[0], &files, &attributes,
                                (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    ck_assert_msg(rc == 0, "%s: %s", argv[0], strerror(rc));
}

void proc_signal(const struct proc *p, int signal)
{
    if (p->pid > 0)
        kill(p->pid, signal);
}

int proc_wait(struct proc *p, int timeout_ms)
{
    const int64_t end = now_ms() + timeout_ms;
    int status;
    while (waitpid(p->pid, &status, WNOHANG) == 0) {
        if (now_ms() > end)
            return -1;
        nap();
    }
    p->pid = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void proc_kill(struct proc *p)
{
    if (p->pid <= 0)
        return;
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}

void proc_binary(char out[PROC_PATH_BYTES], const char *name)
{
    char self[PROC_PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    ck_assert(n > 0);
    self[n] = 0;
    char *tests = NULL;
    for (char *at = self; (at = strstr(at, "/tests/")) != NULL; at++)
        tests = at;
    ck_assert_ptr_nonnull(tests);
    /* build/MODE/tests/unit/tests/... does not occur: the last one of the path below build is ours.
     */
    for (char *at = self; at < tests; at++)
        if (strncmp(at, "/build/", 7) == 0 && strstr(at, "/tests/") != NULL)
            tests = strstr(at, "/tests/");
    *tests = 0;
    ck_assert_int_lt(snprintf(out, PROC_PATH_BYTES, "%s/bin/%s", self, name), PROC_PATH_BYTES);
    ck_assert_msg(access(out, X_OK) == 0, "%s: %s (build it first)", out, strerror(errno));
}

void proc_folder(char out[PROC_PATH_BYTES])
{
    snprintf(out, PROC_PATH_BYTES, "/tmp/dagline-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(out));
}

void proc_folder_remove(const char *folder)
{
    struct err e;
    if (file_remove_tree(folder, &e) < 0)
        fprintf(stderr, "%s\n", e.text);
}

static int connect_loopback(uint16_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

uint16_t proc_free_port(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

void proc_wait_port(uint16_t port, int timeout_ms)
{
    const int64_t end = now_ms() + timeout_ms;
    for (int fd; (fd = connect_loopback(port)) < 0 || (close(fd), false);) {
        ck_assert_msg(now_ms() < end, "nobody listens on port %u after %d ms", port, timeout_ms);
        nap();
    }
}

char *proc_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    ck_assert_ptr_nonnull(text);
    if (f != NULL) {
        const size_t n = fread(text, 1, (1 << 20) - 1, f);
        text[n] = 0;
        fclose(f);
    }
    return text;
}

/* ---- redis ---- */

static int connect_unix(const char *path)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

/* false while nobody answers. */
static bool say(const char *socket_path, const char *command, char *out, size_t bytes)
{
    const int fd = connect_unix(socket_path);
    if (fd < 0)
        return false;
    char line[512];
    const int n = snprintf(line, sizeof line, "%s\r\n", command);
    bool ok = send(fd, line, (size_t)n, MSG_NOSIGNAL) == n;
    size_t used = 0;
    out[0] = 0;
    while (ok && used + 1 < bytes && strchr(out, '\n') == NULL) {
        const ssize_t got = read(fd, out + used, bytes - used - 1);
        ok = got > 0;
        used += ok ? (size_t)got : 0;
        out[used] = 0;
    }
    close(fd);
    out[strcspn(out, "\r\n")] = 0;
    return ok;
}

void proc_redis_say(const struct proc_redis *r, const char *command, char *out, size_t bytes)
{
    ck_assert_msg(say(r->socket, command, out, bytes), "redis does not answer %s", command);
}

bool proc_redis_answers(const struct proc_redis *r)
{
    char reply[64] = "";
    return say(r->socket, "PING", reply, sizeof reply) && strcmp(reply, "+PONG") == 0;
}

void proc_redis_again(struct proc_redis *r, const char *const *extra)
{
    const char *argv[48] = {PROC_REDIS_ARGUMENTS(r->socket, r->folder)};
    size_t n = 15;
    for (; extra != NULL && *extra != NULL && n < 47; extra++)
        argv[n++] = *extra;
    unlink(r->socket);
    proc_start(&r->proc, argv, r->log);
    const int64_t end = now_ms() + 10000;
    while (!proc_redis_answers(r)) {
        ck_assert_msg(now_ms() < end, "redis-server does not start: see %s", r->log);
        nap();
    }
}

void proc_redis_start(struct proc_redis *r, const char *folder, const char *const *extra)
{
    memset(r, 0, sizeof *r);
    snprintf(r->folder, sizeof r->folder, "%s", folder);
    ck_assert_int_lt(snprintf(r->socket, sizeof r->socket, "%.200s/redis.sock", folder), 108);
    snprintf(r->log, sizeof r->log, "%.200s/redis.log", folder);
    snprintf(r->address, sizeof r->address, "unix:%s", r->socket);
    proc_redis_again(r, extra);
}

void proc_redis_kill(struct proc_redis *r)
{
    proc_kill(&r->proc);
}
