/* How many threads are worth starting.  Threads: any. */
#ifndef DAGLINE_BASE_CPU_H
#define DAGLINE_BASE_CPU_H

#include <stddef.h>

/* CPUs that this process can keep busy, at least 1: those that it may run on, and no more than its control group's quota,
 * rounded up, which is what a container's limit is (cpu.max of cgroup v2; cpu.cfs_quota_us over cpu.cfs_period_us of v1).
 * More threads than that wait for each other's time slices. */
size_t cpu_count(void);

/* The quota of a group, rounded up: the smallest of its own and of those that it is in.  cgroup: where groups are mounted, such
 * as /sys/fs/cgroup; path: of the group there, such as /system.slice/x.service, or "".  0: none, or nothing that can be read. */
size_t cpu_quota(const char *cgroup, const char *path);

#endif
