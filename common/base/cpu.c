#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
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

size_t cpu_quota(const char *cgroup)
{
    long long v2[2], quota[2], period[2];
    if (numbers_of(cgroup, "cpu.max", v2) < 2) { /* "max 100000" has no quota */
        if (numbers_of(cgroup, "cpu/cpu.cfs_quota_us", quota) < 1 || numbers_of(cgroup, "cpu/cpu.cfs_period_us", period) < 1)
            return 0;
        v2[0] = quota[0], v2[1] = period[0];
    }
    return v2[0] <= 0 || v2[1] <= 0 ? 0 : (size_t)((v2[0] + v2[1] - 1) / v2[1]);
}

size_t cpu_count(void)
{
    cpu_set_t mine;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t quota = cpu_quota(CGROUP);
    size_t n = online > 0 ? (size_t)online : 1;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) > 0) /* fails beyond 1,024 CPUs */
        n = (size_t)CPU_COUNT(&mine);
    return quota > 0 && quota < n ? quota : n;
}
