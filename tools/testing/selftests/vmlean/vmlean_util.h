/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the vmlean selftests share: the counters of vmlean.ko, control groups,
 * and a place in the address space with nothing near it to merge with.
 */
#ifndef __VMLEAN_UTIL_H
#define __VMLEAN_UTIL_H

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "../kselftest_harness.h"

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
#define VMA_STATS	VMLEAN_DEBUGFS "/vma_recycle/stats"

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

static inline char *map_at(char *at, size_t pages)
{
	char *p = mmap(at, pages * getpagesize(), PROT_RW, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * Free more VMAs than a task keeps: its cache is full then. No libc in here,
 * as this runs in vfork() children too.
 */
static inline int fill_cache(char *at)
{
	size_t size = getpagesize();
	int i, err = 0;

	for (i = 0; i < 8; i++)
		err |= !map_at(at + 2 * i * size, 1);
	for (i = 0; i < 8; i++)
		err |= munmap(at + 2 * i * size, size);
	return err;
}

/* Apart from its callers, whose variables vfork() returning twice could spoil. */
static __attribute__((noinline, unused)) pid_t vfork_child(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(fill_cache(FAR_AWAY) ? 1 : 0);
	return pid;
}

static inline ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	buf[len] = '\0';
	close(fd);
	return len;
}

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -1;
	err = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return err;
}

/* The kernel's own .config: read once, for all tests of a program. */
static char kconfig_text[1 << 18];

static void __attribute__((constructor)) kconfig_read(void)
{
	FILE *f;

	if (getenv("VMLEAN_EXEC"))	/* no test, but what a test has execed */
		return;
	f = popen("zcat /proc/config.gz 2>/dev/null", "r");
	if (!f)
		return;
	kconfig_text[fread(kconfig_text, 1, sizeof(kconfig_text) - 1, f)] = '\0';
	pclose(f);
}

/* Value of a symbol; "" if it is not set. */
static inline const char *kconfig(const char *symbol)
{
	static char val[64];
	char key[64];
	char *at;

	snprintf(key, sizeof(key), "\n%s=", symbol);
	at = strstr(kconfig_text, key);
	snprintf(val, sizeof(val), "%s", at ? at + strlen(key) : "");
	val[strcspn(val, "\n")] = '\0';
	return val;
}

/*
 * Rounds of a loop: all of them, or a part where VMLEAN_SCALE says so. A kernel
 * that checks all it does is some five times slower.
 */
static inline int rounds(int n)
{
	const char *scale = getenv("VMLEAN_SCALE");
	static int div;

	if (!div)
		div = scale ? atoi(scale) : *kconfig("CONFIG_KASAN") ? 5 : 1;
	return div > 1 ? (n + div - 1) / div : n;
}

/* How many VMAs a task may cache. */
static inline int recycle_depth(void)
{
	return atoi(kconfig("CONFIG_VMA_RECYCLE_DEPTH")) ?: 1;
}

/* Take all that is cached: there is no more, and no refill before the next call. */
static inline int empty_cache(char *at)
{
	size_t size = getpagesize();
	int i, err = fill_cache(at);

	for (i = 0; i < recycle_depth(); i++)
		err |= !map_at(at + 2 * i * size, 1);
	return err;
}

/* Does this kernel recycle VMAs? As mm/vma_recycle.c decides it at boot. */
static inline bool recycling(void)
{
	static const char * const debugging[] = {
		"CONFIG_KASAN", "CONFIG_KMSAN", "CONFIG_SLUB_RCU_DEBUG",
		"CONFIG_SLUB_DEBUG_ON", "CONFIG_DEBUG_LOCK_ALLOC",
		"CONFIG_DEBUG_OBJECTS_FREE", "CONFIG_DEBUG_KMEMLEAK",
		"CONFIG_FAILSLAB",
	};
	char cmdline[4096];

	if (read_file("/proc/cmdline", cmdline, sizeof(cmdline)) < 0)
		return true;
	if (strstr(cmdline, "vma_recycle=force"))
		return true;
	if (strstr(cmdline, "vma_recycle=off") ||
	    strstr(cmdline, "slub_debug") || strstr(cmdline, "slab_debug"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(debugging); i++)
		if (*kconfig(debugging[i]))
			return false;
	return true;
}

/* The number in the line "KEY number" of a text; -1 if there is no such line. */
static inline long keyed_value(const char *text, const char *key)
{
	size_t len = strlen(key);

	while (text && (strncmp(text, key, len) || text[len] != ' ')) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text ? atol(text + len + 1) : -1;
}

/* The counters of feature 1, by the names that the module gives them. */
struct vma_stats {
	long hits, misses, misses_memcg, locked_allocs, puts, refused_full,
	     refused_mm, refused_memcg, prepopulated, prepopulated_contended,
	     prepopulate_failed, drained;
};

static inline int vma_stats_read(struct vma_stats *s)
{
	/* not every base has those that are late */
	const struct { const char *name; long *to; bool late; } lines[] = {
		{ "hits", &s->hits },
		{ "misses", &s->misses },
		{ "misses_memcg", &s->misses_memcg },
		{ "locked_allocs", &s->locked_allocs },
		{ "puts", &s->puts },
		{ "refused_full", &s->refused_full },
		{ "refused_mm", &s->refused_mm },
		{ "refused_memcg", &s->refused_memcg },
		{ "prepopulated", &s->prepopulated },
		{ "prepopulated_contended", &s->prepopulated_contended, .late = true },
		{ "prepopulate_failed", &s->prepopulate_failed },
		{ "drained", &s->drained },
	};
	char buf[4096];

	if (read_file(VMA_STATS, buf, sizeof(buf)) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		*lines[i].to = keyed_value(buf, lines[i].name);
		if (*lines[i].to < 0 && !lines[i].late)
			return -1;
		if (*lines[i].to < 0)
			*lines[i].to = 0;
	}
	return 0;
}

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
static inline int stats_open(void)
{
	const char *ko = getenv("VMLEAN_KO") ?: "/lib/vmlean/vmlean.ko";
	int fd, err;

	if (!access(VMLEAN_DEBUGFS, X_OK))
		return STATS_HERE;
	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return system("modprobe -q vmlean 2>/dev/null") ||
		       access(VMLEAN_DEBUGFS, X_OK) ? STATS_NONE : STATS_LOADED;
	err = syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return err || access(VMLEAN_DEBUGFS, X_OK) ? STATS_BROKEN : STATS_LOADED;
}

static inline void stats_close(int how)
{
	if (how == STATS_LOADED)
		syscall(SYS_delete_module, "vmlean", O_NONBLOCK);
}

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
static inline long stat_read(const char *feature, const char *name)
{
	char path[128], buf[4096];

	snprintf(path, sizeof(path), VMLEAN_DEBUGFS "/%s/stats", feature);
	return read_file(path, buf, sizeof(buf)) < 0 ? -1 : keyed_value(buf, name);
}

/* Allocations that fail on demand: /proc/thread-self/fail-nth, see fault-injection.rst. */
#define INJECT_NEEDS	"FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS"

static inline bool inject_usable(void)
{
	return *kconfig("CONFIG_FAILSLAB") && *kconfig("CONFIG_FAIL_PAGE_ALLOC") &&
	       *kconfig("CONFIG_FAULT_INJECTION_DEBUG_FS");
}

/* Fail what may sleep as well, and do not print a trace for each. */
static const struct { const char *file, *on, *off; } inject[] = {
	{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/failslab/verbose", "0", "2" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/fail_page_alloc/min-order", "0", "1" },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0", "2" },
};

static inline int inject_setup(bool on)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(inject); i++)
		err |= write_file(inject[i].file, on ? inject[i].on : inject[i].off);
	return err;
}

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
static inline void inject_close(int fd)
{
	if (fd > 0)
		inject_setup(false);
}

static inline int arm(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(fd, text, len, 0) == len ? 0 : -1;
}

static inline int armed(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : -1;
}

/* Control groups, version 2. All of them are children of the root. */
static inline char *cg_path(const char *name, const char *file)
{
	static char path[2][256];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), CGROUP_ROOT "/vmlean-%s%s%s",
		 name, *file ? "/" : "", file);
	return path[turn];
}

static inline int cg_write(const char *name, const char *file, const char *fmt, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return write_file(cg_path(name, file), text);
}

/* A number from a file of a cgroup, after KEY where the file has keys. */
static inline long cg_read(const char *name, const char *file, const char *key)
{
	char buf[8192];

	if (read_file(cg_path(name, file), buf, sizeof(buf)) < 0)
		return -1;
	return key ? keyed_value(buf, key) : atol(buf);
}

/* False if there is no version 2 hierarchy with the controllers we need. */
static inline bool cg_usable(void)
{
	char buf[256];

	if (write_file(CGROUP_ROOT "/cgroup.subtree_control", "+memory +pids") &&
	    errno != EBUSY)
		return false;
	return read_file(CGROUP_ROOT "/cgroup.subtree_control", buf,
			 sizeof(buf)) > 0 &&
	       strstr(buf, "memory") && strstr(buf, "pids");
}

/* A dead process leaves its cgroup a little after its parent has seen it. */
static inline bool cg_remove(const char *name)
{
	return UNTIL(!rmdir(cg_path(name, "")) || errno == ENOENT);
}

/* One that a test has left behind when it was killed must not spoil the next. */
static inline int cg_make(const char *name)
{
	cg_write(name, "cgroup.kill", "1");
	return cg_remove(name) ? mkdir(cg_path(name, ""), 0755) : -1;
}

static inline int cg_enter(const char *name)
{
	return cg_write(name, "cgroup.procs", "0");
}

static inline int cg_leave(void)
{
	return write_file(CGROUP_ROOT "/cgroup.procs", "0");
}

/*
 * What a cgroup is charged for, in bytes. Each CPU holds back the last pages
 * that it put on an LRU list, until drop_caches flushes them (4: quietly), and
 * up to 64 charged pages in stock, which crossing memory.high gives back, at
 * once on this CPU. To look is to allocate: do it from outside of the cgroup.
 */
static inline long cg_charge(const char *name)
{
	char home[128], *path, procs[256];
	long charge = -1;

	if (read_file("/proc/self/cgroup", home, sizeof(home)) < 0)
		return -1;
	path = strstr(home, "0::/");
	if (!path || cg_leave())
		return -1;
	path[strcspn(path, "\n")] = '\0';
	snprintf(procs, sizeof(procs), CGROUP_ROOT "%s/cgroup.procs", path + 3);
	write_file("/proc/sys/vm/drop_caches", "4");
	write_file("/proc/sys/vm/drop_caches", "1");
	if (!cg_write(name, "memory.high", "0") &&
	    !cg_write(name, "memory.high", "max"))
		charge = cg_read(name, "memory.current", NULL);
	return write_file(procs, "0") ? -1 : charge;
}

/* So that the stock of one CPU is all there is. */
static inline int pin_to_one_cpu(void)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : cpu, &one);
	return sched_setaffinity(0, sizeof(one), &one);
}

#endif /* __VMLEAN_UTIL_H */
