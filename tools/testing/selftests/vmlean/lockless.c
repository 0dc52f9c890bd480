// SPDX-License-Identifier: GPL-2.0
/*
 * Readers that take no mmap_lock, page faults and /proc/PID/maps, while VMAs
 * are recycled under them: into other mappings of the same process, and into
 * those of its children. A fault has to see its own page, and a mapping that
 * nobody touches has to be there, whole, in every reading of maps.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define STABLE	16		/* mappings that stay, each with a hole after it */
#define PAGES	4
#define STRIDE	((PAGES + 4) * page)

/*
 * One of the threads of a test: two read, two change, round after round, until
 * they are stopped.
 */
struct worker {
	pthread_t thread;
	const char *(*round)(struct worker *w, long i);
	const char *maps;
	long nr, done;
};

static size_t page;
static int stop;

/* The word that page I of stable mapping N begins with. */
static uint64_t tag(int n, int i)
{
	return 0x5afe000000000000 | n << 8 | i;
}

static char *stable(int n)
{
	return FAR_AWAY + n * STRIDE;
}

static int stable_make(void)
{
	int fd = memfd_create("stable", 0), n, i;

	page = getpagesize();
	if (fd < 0 || ftruncate(fd, STABLE * PAGES * page))
		return -1;
	for (n = 0; n < STABLE; n++) {
		/* the even ones are shared and can be dropped and faulted again */
		char *p = mmap(stable(n), PAGES * page, PROT_RW,
			       MAP_FIXED_NOREPLACE | (n % 2 ? MAP_PRIVATE |
			       MAP_ANONYMOUS : MAP_SHARED), n % 2 ? -1 : fd,
			       n % 2 ? 0 : n * PAGES * page);

		if (p == MAP_FAILED)
			return -1;
		for (i = 0; i < PAGES; i++)
			*(uint64_t *)(p + i * page) = tag(n, i);
	}
	close(fd);
	return 0;
}

/* Fault all in anew where that is possible, and look. */
static int stable_check(void)
{
	int n, i;

	for (n = 0; n < STABLE; n++) {
		if (n % 2 == 0)
			madvise(stable(n), PAGES * page, MADV_DONTNEED);
		for (i = 0; i < PAGES; i++)
			if (__atomic_load_n((uint64_t *)(stable(n) + i * page),
					    __ATOMIC_RELAXED) != tag(n, i))
				return -1;
	}
	return 0;
}

static const char *fault_round(struct worker *w, long i)
{
	return stable_check() ? "a stable page holds something else" : NULL;
}

/* A mapping comes and goes in a hole between the stable ones. */
static const char *change(long i)
{
	char *p = stable(i % STABLE) + (PAGES + 1) * page;

	if (!map_at(p, 2))
		return "mmap failed";
	if (*(uint64_t *)p || *(uint64_t *)(p + page))
		return "a new page is not zero";
	*(uint64_t *)(p + page) = i;
	if (mprotect(p, page, PROT_READ) || mprotect(p, page, PROT_RW))
		return "mprotect failed";
	if (*(uint64_t *)(p + page) != i)
		return "a page has lost its contents";
	return munmap(p, 2 * page) ? "munmap failed" : NULL;
}

/* Two of them: one in the even holes, one in the odd ones. */
static const char *change_round(struct worker *w, long i)
{
	return change(2 * i + w->nr % 2);
}

/* One reading of maps: is each stable mapping there, once, with its rights? */
static const char *maps_check(const char *path)
{
	static __thread char buf[1 << 18];
	char *line, *save, perms[8];
	unsigned long start, end;
	int seen[STABLE] = { 0 }, n;

	if (read_file(path, buf, sizeof(buf)) <= 0)
		return "cannot read maps";
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3)
			return "a line of maps is torn";
		if (start >= end)
			return "a range of maps is empty";
		for (n = 0; n < STABLE; n++) {
			unsigned long from = (unsigned long)stable(n);
			unsigned long to = from + PAGES * page;

			if (end <= from || start >= to)
				continue;
			if (start != from || end != to)
				return "a stable range is torn";
			if (strncmp(perms, n % 2 ? "rw-p" : "rw-s", 4))
				return "a stable range has other rights";
			seen[n]++;
		}
	}
	for (n = 0; n < STABLE; n++)
		if (seen[n] != 1)
			return "a stable range is missing or there twice";
	return NULL;
}

static const char *maps_round(struct worker *w, long i)
{
	return maps_check(w->maps);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const char *err = NULL;

	while (!err && !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		err = w->round(w, w->done);
		__atomic_store_n(&w->done, err ? LONG_MAX : w->done + 1, __ATOMIC_RELAXED);
	}
	return (void *)err;
}

/* Each child gets VMAs that were its parent's a moment ago. */
static void __attribute__((constructor)) exec_child(void)
{
	if (getenv("VMLEAN_EXEC"))
		_exit(fill_cache(FAR_AWAY) ? 1 : 0);
}

static int child_round(int i)
{
	char *argv[] = { "lockless", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };
	int status;
	pid_t pid = i % 4 == 3 ? vfork() : fork();

	if (pid < 0)
		return -1;
	if (!pid) {
		if (i % 4 == 3 || (i % 4 == 2 && !stable_check())) {
			execve("/proc/self/exe", argv, envp);
			_exit(1);
		}
		_exit(stable_check() || fill_cache(stable(2 * STABLE)) ? 1 : 0);
	}
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -1;
}

#define WORKERS		4
#define AT_WORK		3	/* rounds of each, before it counts as a race */

FIXTURE(lockless) {
	struct worker worker[WORKERS];
	char maps[64];
};

FIXTURE_VARIANT(lockless) {
	const char *(*reader)(struct worker *w, long i);
};

FIXTURE_VARIANT_ADD(lockless, faults) { .reader = fault_round };
FIXTURE_VARIANT_ADD(lockless, maps) { .reader = maps_round };

FIXTURE_SETUP(lockless)
{
	int t;

	snprintf(self->maps, sizeof(self->maps), "/proc/%d/maps", getpid());
	ASSERT_EQ(0, stable_make());
	for (t = 0; t < WORKERS; t++) {
		struct worker *w = &self->worker[t];

		w->nr = t;
		w->maps = self->maps;
		w->round = t < 2 ? variant->reader : change_round;
		ASSERT_EQ(0, pthread_create(&w->thread, NULL, work, w));
	}
}

FIXTURE_TEARDOWN(lockless)
{
	void *err;
	int t;

	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (t = 0; t < WORKERS; t++) {
		ASSERT_EQ(0, pthread_join(self->worker[t].thread, &err));
		EXPECT_EQ(NULL, err) {
			TH_LOG("%s", (char *)err);
		}
	}
}

/* However few CPUs there are: no end before each worker has done its part. */
static bool all_at_work(struct worker *w)
{
	int t;

	for (t = 0; t < WORKERS; t++)
		if (__atomic_load_n(&w[t].done, __ATOMIC_RELAXED) < AT_WORK)
			return false;
	return true;
}

/* Recycled within one mm. */
TEST_F(lockless, same_mm)
{
	int i, n = rounds(60), err = 0;

	for (i = 0; i < n || !all_at_work(self->worker); i++)
		err |= fill_cache(stable(2 * STABLE));
	EXPECT_EQ(0, err);
}

/* Recycled into the mm of children, which come, exec and go. */
TEST_F(lockless, fork_exec)
{
	int i, n = rounds(24), bad = 0;

	for (i = 0; i < n || !all_at_work(self->worker); i++)
		bad += child_round(i) != 0;
	EXPECT_EQ(0, bad);
}

/* The same seen from another process, which reads through an mm reference. */
TEST(maps_of_other_process)
{
	int i, n = rounds(100), status;
	const char *err = NULL;
	char maps[64];
	pid_t pid;

	ASSERT_EQ(0, stable_make());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (i = 0;; i++)
			if (change(i) || (i % 16 == 0 && child_round(i / 16)))
				_exit(1);
	}
	snprintf(maps, sizeof(maps), "/proc/%d/maps", pid);
	for (i = 0; i < n && !err; i++)
		err = maps_check(maps);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) {
		TH_LOG("the process gave up");
	}
	EXPECT_EQ(NULL, err) {
		TH_LOG("%s", err);
	}
}

TEST_HARNESS_MAIN
