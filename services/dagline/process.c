#include "dagline/process.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 20

void process_init(struct process *p, const char *name, const char *log,
                  const char *const *arguments)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->log = mem_strdup(log);
    for (size_t i = 0; arguments[i] != NULL; i++) {
        assert(i < PROCESS_ARGUMENTS_MAX);
        p->arguments[i] = mem_strdup(arguments[i]);
    }
}

void process_done(struct process *p)
{
    for (size_t i = 0; i < PROCESS_ARGUMENTS_MAX; i++)
        mem_free(p->arguments[i]);
    mem_free(p->log);
    memset(p, 0, sizeof *p);
}

/* In the child: nothing here may allocate or return. */
static void become(const struct process *p, int log, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(p->arguments[0], p->arguments);
    dprintf(STDERR_FILENO, "%s: %s\n", p->arguments[0], strerror(errno));
    _exit(127);
}

int process_start(struct process *p, struct err *e)
{
    assert(p->pid == 0);
    const int log = open(p->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return err_sys(e, errno, "open %s", p->log);
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(p, log, parent);
    close(log);
    if (pid < 0)
        return err_sys(e, errno, "fork for %s", p->name);
    p->pid = pid;
    p->wanted = true;
    p->started_ms = clock_mono_ms(NULL);
    return 0;
}

static bool reaped(struct process *p, int options)
{
    int status;
    siginfo_t info = {0};
    /* seen first and collected then: its times can be read in between */
    if (p->pid == 0 || waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOWAIT | options) < 0 || info.si_pid != p->pid)
        return false;
    p->ended_cpu_s = process_cpu_s(p);
    if (waitpid(p->pid, &status, 0) != p->pid)
        return false;
    p->pid = 0;
    p->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

bool process_watch(struct process *p, int64_t now_ms)
{
    const bool end = reaped(p, WNOHANG);
    if (end) {
        p->ends_in_a_row = now_ms - p->started_ms > PROCESS_STEADY_MS ? 1 : p->ends_in_a_row + 1;
        int64_t delay = PROCESS_BACKOFF_MS_MIN;
        for (uint32_t i = 1; i < p->ends_in_a_row && delay < PROCESS_BACKOFF_MS_MAX; i++)
            delay *= 2;
        p->restart_ms = now_ms + (delay < PROCESS_BACKOFF_MS_MAX ? delay : PROCESS_BACKOFF_MS_MAX);
    }
    if (p->pid == 0 && p->wanted && now_ms >= p->restart_ms) {
        struct err e;
        p->restarts++;
        if (process_start(p, &e) < 0)
            log_err("restart", &e);
    }
    return end;
}

void process_end(struct process *p)
{
    p->wanted = false;
    if (p->pid > 0)
        kill(p->pid, SIGTERM);
}

bool process_wait(struct process *p, int timeout_ms, bool (*stop)(void))
{
    const int64_t until = clock_mono_ms(NULL) + timeout_ms;
    while (p->pid > 0 && !reaped(p, WNOHANG) && clock_mono_ms(NULL) < until && (stop == NULL || !stop()))
        clock_sleep_ns(NULL, WAIT_MS * CLOCK_NS_PER_MS);
    return p->pid == 0;
}

void process_wait_gone(struct process *p, int timeout_ms)
{
    if (!process_wait(p, timeout_ms, NULL)) {
        kill(p->pid, SIGKILL);
        reaped(p, 0);
    }
}

double process_cpu_s(const struct process *p)
{
    char path[64], text[1024];
    unsigned long long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)p->pid);
    FILE *f = p->pid > 0 ? fopen(path, "r") : NULL;
    if (f == NULL)
        return p->ended_cpu_s;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    /* the name, in parentheses, may hold anything; fields 14 and 15 come after it */
    const char *rest = strrchr(text, ')');
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return p->ended_cpu_s;
    return p->ended_cpu_s + (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Of a service's log line the error alone. */
static void put_words(char *out, size_t bytes)
{
    struct json *line;
    struct err none;
    const char *text;
    if (json_parse(&line, out, strlen(out), bytes, &none) < 0)
        return;
    if (json_is_object(line) && json_get_string(line, "error", bytes - 1, &text, &none) == 0)
        snprintf(out, bytes, "%s", text);
    json_free(line);
}

void process_last_line(const struct process *p, char *out, size_t bytes)
{
    FILE *f = fopen(p->log, "r");
    out[0] = 0;
    if (f == NULL)
        return;
    char line[1024];
    while (fgets(line, sizeof line, f) != NULL)
        if (line[0] != '\n')
            snprintf(out, bytes, "%.*s", (int)strcspn(line, "\n"), line);
    fclose(f);
    put_words(out, bytes);
}

int process_own_folder(char folder[FILE_PATH_BYTES_MAX], struct err *e)
{
    const ssize_t n = readlink("/proc/self/exe", folder, FILE_PATH_BYTES_MAX - 1);
    if (n < 0)
        return err_sys(e, errno, "readlink /proc/self/exe");
    folder[n] = 0;
    *strrchr(folder, '/') = 0;
    return 0;
}

static bool in_path(const char *folder)
{
    const size_t n = strlen(folder);
    for (const char *at = getenv("PATH"); at != NULL && *at != 0;) {
        const size_t length = strcspn(at, ":");
        if (length == n && strncmp(at, folder, n) == 0)
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

void process_own_command(struct buf *out)
{
    char folder[FILE_PATH_BYTES_MAX], binary[FILE_PATH_BYTES_MAX], here[FILE_PATH_BYTES_MAX];
    struct err e;
    if (process_own_folder(folder, &e) < 0 || in_path(folder) || file_join(binary, folder, "dagline", &e) < 0) {
        buf_add_text(out, "dagline");
        return;
    }
    const size_t n = getcwd(here, sizeof here) != NULL ? strlen(here) : 0;
    buf_add_shell_word(out, n > 1 && strncmp(binary, here, n) == 0 && binary[n] == '/' ? binary + n + 1 : binary);
}
