/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the vmlean selftests share: the counters of vmlean.ko, control groups,
 * and a place in the address space with nothing near it to merge with.
 */
#ifndef __VMLEAN_UTIL_H
#define __VMLEAN_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest.h"

/* An old libc has not heard of them. */
#ifndef MADV_COLD
#define MADV_COLD		20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* An emulated guest with a debug kernel is a hundred times slower. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 200

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define VMLEAN_DEBUGFS	"/sys/kernel/debug/vmlean"

/* Far from what the kernel and libc map on their own. */
#define FAR_AWAY	((char *)0x200000000000)

#define PROT_RW		(PROT_READ | PROT_WRITE)

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* Wait for what the kernel does on its own time, at most 30 seconds. */
#define UNTIL(cond)						\
({								\
	double __end = now() + 30;				\
	bool __ok;						\
	while (!(__ok = (cond)) && now() < __end)		\
		sched_yield();					\
	__ok;							\
})

char *map_at(char *at, size_t pages);

/*
 * Free more VMAs than a task keeps: its cache is full then. No libc in here,
 * as this runs in vfork() children too.
 */
int fill_cache(char *at);

/* Apart from its callers, whose variables vfork() returning twice could spoil. */
pid_t vfork_child(void);
ssize_t read_file(const char *path, char *buf, size_t size);
int write_file(const char *path, const char *text);

/* Can the kernel's own .config be read? */
bool kconfig_known(void);

/* Value of a symbol; "" if it is not set. */
const char *kconfig(const char *symbol);

/*
 * Rounds of a loop: all of them, or a part where VMLEAN_SCALE says so. A kernel
 * that checks all it does is some five times slower.
 */
int rounds(int n);

/* How many VMAs a task may cache. */
int recycle_depth(void);

/* Take all that is cached: there is no more, and no refill before the next call. */
int empty_cache(char *at);

/* Does this kernel recycle VMAs? As mm/vma_recycle.c decides it at boot. */
bool recycling(void);

/* The number in the line "KEY number" of a text; -1 if there is no such line. */
long keyed_value(const char *text, const char *key);

/* The counters of feature 1, by the names that the module gives them. */
struct vma_stats {
	long hits, misses, misses_memcg, locked_allocs, puts, refused_full,
	     refused_mm, refused_memcg, prepopulated, prepopulated_contended,
	     prepopulate_failed, drained;
};

int vma_stats_read(struct vma_stats *s);

/* How many VMAs all tasks have cached; only a difference means something. */
static inline long cached(const struct vma_stats *s)
{
	return s->puts + s->prepopulated - s->hits - s->drained;
}

static inline bool vma_stats_zero(const struct vma_stats *s)
{
	static const struct vma_stats zero;

	return !memcmp(s, &zero, sizeof(zero));
}

enum { STATS_HERE, STATS_LOADED, STATS_NONE, STATS_BROKEN };

/*
 * Make the counters visible: the module may be there already, or wait in
 * VMLEAN_KO or /lib/vmlean, or be installed. A module that is there and does
 * not load is an error, not a reason to skip.
 */
int stats_open(void);
void stats_close(int how);

/* For FIXTURE_SETUP(): counters or a reason. */
#define STATS_OPEN(how)							\
do {									\
	(how) = stats_open();						\
	if ((how) == STATS_NONE)					\
		SKIP(return, "no vmlean.ko: counters are not visible");	\
	ASSERT_NE(STATS_BROKEN, (how))					\
		TH_LOG("vmlean.ko does not load, see dmesg");		\
} while (0)

/* One counter of vmlean.ko; -1 if there is none. */
long stat_read(const char *feature, const char *name);

/* Allocations that fail on demand: /proc/thread-self/fail-nth, see fault-injection.rst. */
#define INJECT_NEEDS	"FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS"

bool inject_usable(void);

/* Fail what may sleep as well, and do not print a trace for each. */
int inject_setup(bool on);

/* For FIXTURE_SETUP(): the file for arm(), and injection on; or a reason. */
#define INJECT_OPEN(fd)							\
do {									\
	if (!inject_usable())						\
		SKIP(return, "kernel without " INJECT_NEEDS);		\
	(fd) = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);	\
	ASSERT_LE(0, (fd));						\
	ASSERT_EQ(0, inject_setup(true));				\
} while (0)

/* For FIXTURE_TEARDOWN(), also of a test that was skipped. */
void inject_close(int fd);
int arm(int fd, int nth);
int armed(int fd);

/* Control groups, version 2. All of them are children of the root. */
char *cg_path(const char *name, const char *file);
int cg_write(const char *name, const char *file, const char *fmt, ...);

/* A number from a file of a cgroup, after KEY where the file has keys. */
long cg_read(const char *name, const char *file, const char *key);

/* False if there is no version 2 hierarchy with the controllers we need. */
bool cg_usable(void);

/* A dead process leaves its cgroup a little after its parent has seen it. */
bool cg_remove(const char *name);

/* One that a test has left behind when it was killed must not spoil the next. */
int cg_make(const char *name);
int cg_enter(const char *name);
int cg_leave(void);

/*
 * What a cgroup is charged for, in bytes. Each CPU holds back the last pages
 * that it put on an LRU list, until drop_caches flushes them (4: quietly), and
 * up to 64 charged pages in stock, which crossing memory.high gives back, at
 * once on this CPU. To look is to allocate: do it from outside of the cgroup.
 */
long cg_charge(const char *name);

/* Swap, on a disk on which there is nothing else. */
#define SWAP	"/dev/ram0"

bool swap_on(void);
bool swap_off(void);

/* What /proc/self/pagemap says of a page of the caller; 0 if nothing. */
uint64_t pagemap_of(const char *at);

/* Is it in swap? If it is shared, nothing says so. */
bool swapped(const char *at);

/* A huge page: that of a PMD. */
#define HUGE	(2UL << 20)

#define NEEDS_HUGE_PAGES()						\
do {									\
	if (!*kconfig("CONFIG_TRANSPARENT_HUGEPAGE"))			\
		SKIP(return, "kernel without CONFIG_TRANSPARENT_HUGEPAGE"); \
} while (0)

/* So that the stock of one CPU is all there is. */
int pin_to_one_cpu(void);

#endif /* __VMLEAN_UTIL_H */
