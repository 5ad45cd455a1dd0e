#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CGROUP "/sys/fs/cgroup"

/* The numbers at the beginning of a file, which may be fewer than two. */
static int numbers_of(const char *folder, const char *name, long long value[2])
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *const f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
    if (f == NULL)
        return 0;
    const int found = fscanf(f, "%lld %lld", &value[0], &value[1]);
    fclose(f);
    return found > 0 ? found : 0;
}

static size_t rounded_up(long long quota, long long period)
{
    return quota <= 0 || period <= 0 ? 0 : (size_t)((quota + period - 1) / period);
}

size_t cpu_quota(const char *cgroup, const char *path)
{
    char folder[PATH_MAX];
    long long v2[2], quota[2], period[2];
    size_t least = 0;
    for (size_t n = strlen(path);;) { /* from the group outwards */
        const int length = snprintf(folder, sizeof folder, "%s%.*s", cgroup, (int)n, path);
        if (length > 0 && (size_t)length < sizeof folder && numbers_of(folder, "cpu.max", v2) == 2) { /* "max 100000" is none */
            const size_t here = rounded_up(v2[0], v2[1]);
            least = here > 0 && (least == 0 || here < least) ? here : least;
        }
        if (n == 0)
            break;
        while (path[--n] != '/' && n > 0)
            ;
    }
    if (least > 0 || numbers_of(cgroup, "cpu/cpu.cfs_quota_us", quota) < 1 ||
        numbers_of(cgroup, "cpu/cpu.cfs_period_us", period) < 1)
        return least;
    return rounded_up(quota[0], period[0]);
}

/* The path of this process' group in the unified hierarchy, "" where there is none. */
static void own_group(char path[PATH_MAX])
{
    char line[PATH_MAX + 8];
    FILE *const f = fopen("/proc/self/cgroup", "re");
    path[0] = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(path, PATH_MAX, "%.*s", PATH_MAX - 1, line + 3);
    }
    if (f != NULL)
        fclose(f);
}

size_t cpu_count(void)
{
    cpu_set_t mine;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    char group[PATH_MAX];
    own_group(group);
    const size_t quota = cpu_quota(CGROUP, group);
    size_t n = online > 0 ? (size_t)online : 1;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) > 0) /* fails beyond 1,024 CPUs */
        n = (size_t)CPU_COUNT(&mine);
    return quota > 0 && quota < n ? quota : n;
}
