// SPDX-License-Identifier: GPL-2.0
/*
 * Who pays for a cached VMA: the memory cgroup that it is charged to, for as
 * long as it exists, and nobody else's task may use it. Seen in the charges
 * alone, so the first tests here also run without vmlean.ko.
 *
 * Everything runs on one CPU: see cg_charge().
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define THREADS	32
#define ROUNDS	32
#define VMAS	(THREADS * rounds(ROUNDS))	/* some 50 pages of them */
#define STRIDE	(2UL * getpagesize())
#define CALIB	(FAR_AWAY + (1UL << 40))

FIXTURE(memcg) {
	long vma_bytes;		/* what VMAS of them are charged */
};

/* Unused mappings cost a VMA each, and nothing else that is charged. */
static int map_many(char *at, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (!map_at(at + i * STRIDE, 1))
			return -1;
	return 0;
}

static int unmap_many(char *at, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (munmap(at + i * STRIDE, getpagesize()))
			return -1;
	return 0;
}

FIXTURE_SETUP(memcg)
{
	long before, after;

	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("a"));
	ASSERT_EQ(0, cg_make("b"));

	/* how much is that, on this kernel? */
	ASSERT_EQ(0, cg_make("c"));
	ASSERT_EQ(0, cg_enter("c"));
	ASSERT_EQ(0, map_many(CALIB, 64) || unmap_many(CALIB, 64));
	before = cg_charge("c");
	ASSERT_EQ(0, map_many(CALIB, VMAS));
	after = cg_charge("c");
	ASSERT_EQ(0, unmap_many(CALIB, VMAS));
	ASSERT_EQ(0, cg_leave());
	ASSERT_TRUE(cg_remove("c"));
	self->vma_bytes = after - before;
	ASSERT_LE(20 * getpagesize(), self->vma_bytes) {
		TH_LOG("%d VMAs are charged as %ld bytes only",
		       VMAS, self->vma_bytes);
	}
}

FIXTURE_TEARDOWN(memcg)
{
	cg_leave();
	EXPECT_TRUE(cg_remove("a"));
	EXPECT_TRUE(cg_remove("b"));
}

struct gang {
	pthread_barrier_t step;
	int rounds;
	int next;		/* hands out numbers, so that each has its place */
	int failed;
};

/* Each step is one phase of main's loop; the barrier is passed twice in each. */
static void *member(void *arg)
{
	struct gang *g = arg;
	int me = __atomic_fetch_add(&g->next, 1, __ATOMIC_RELAXED), round;
	char *scratch = FAR_AWAY + (1UL << 36) + me * (1UL << 20);
	char *keep = FAR_AWAY + me * ROUNDS * STRIDE;
	int err = 0;

	for (round = 0; round < g->rounds; round++) {
		pthread_barrier_wait(&g->step);		/* in A: fill the cache */
		err |= fill_cache(scratch);
		pthread_barrier_wait(&g->step);
		pthread_barrier_wait(&g->step);		/* in B: use one VMA */
		err |= !map_at(keep + round * STRIDE, 1);
		pthread_barrier_wait(&g->step);
	}
	if (err)
		__atomic_store_n(&g->failed, 1, __ATOMIC_RELAXED);
	pthread_barrier_wait(&g->step);			/* what a thread costs has to stay */
	return NULL;
}

/*
 * Threads fill their caches in A, are moved to B and map something, over and
 * over. All of these mappings are B's to pay. Were a cached VMA handed out
 * across the border, A would pay for them.
 */
TEST_F(memcg, moved_task_pays_anew)
{
	pthread_t thread[THREADS];
	static struct gang g;
	long a = 0, b = 0, a2, b2;
	int i;

	ASSERT_EQ(0, cg_enter("a"));
	g.rounds = rounds(ROUNDS);
	pthread_barrier_init(&g.step, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, member, &g));
	for (i = 0; i < g.rounds; i++) {
		ASSERT_EQ(0, cg_enter("a"));
		pthread_barrier_wait(&g.step);
		pthread_barrier_wait(&g.step);
		ASSERT_EQ(0, cg_enter("b"));
		pthread_barrier_wait(&g.step);
		pthread_barrier_wait(&g.step);
		if (!i) {	/* all threads have run, and have their stacks */
			a = cg_charge("a");
			b = cg_charge("b");
		}
	}
	a2 = cg_charge("a");
	b2 = cg_charge("b");
	pthread_barrier_wait(&g.step);
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	ASSERT_EQ(0, g.failed);
	/* all but the first round */
	EXPECT_LT(a2 - a, self->vma_bytes / 4) {
		TH_LOG("A pays %ld more bytes for what was mapped in B", a2 - a);
	}
	EXPECT_GT(b2 - b, self->vma_bytes / 2) {
		TH_LOG("B pays %ld bytes of %ld", b2 - b, self->vma_bytes);
	}
}

/*
 * The other way: VMAs that A pays for are unmapped in B, by a task that maps
 * at once anew. Were they kept, A would go on paying.
 */
TEST_F(memcg, moved_task_returns_charge)
{
	int i, n = VMAS;
	long a, a2, b, b2;

	ASSERT_EQ(0, cg_enter("a"));
	a = cg_charge("a");
	ASSERT_EQ(0, map_many(FAR_AWAY, n));
	EXPECT_GT(cg_charge("a") - a, self->vma_bytes * 3 / 4);
	ASSERT_EQ(0, cg_enter("b"));
	b = cg_charge("b");
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, munmap(FAR_AWAY + i * STRIDE, getpagesize()));
		ASSERT_NE(NULL, map_at(FAR_AWAY + i * STRIDE, 1));
	}
	a2 = cg_charge("a");
	b2 = cg_charge("b");
	EXPECT_LT(a2 - a, self->vma_bytes / 4) {
		TH_LOG("A still pays %ld bytes for what is mapped in B", a2 - a);
	}
	EXPECT_GT(b2 - b, self->vma_bytes * 3 / 4) {
		TH_LOG("B pays %ld bytes of %ld", b2 - b, self->vma_bytes);
	}
}

/* The cgroup that paid for a cached VMA is removed while the VMA is cached. */
TEST_F(memcg, cgroup_removed)
{
	int i, n = rounds(20);

	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, cg_make("c"));
		ASSERT_EQ(0, cg_enter("c"));
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
		ASSERT_EQ(0, cg_enter("b"));
		ASSERT_TRUE(cg_remove("c"));
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
	}
}

/*
 * The memory controller is switched off and on over a task: its memory cgroup
 * goes offline, what is charged to it becomes its parent's, and so does the task.
 */
static void *map_and_unmap(void *arg)
{
	int *stop = arg, err = 0;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
		err |= fill_cache(FAR_AWAY + (1UL << 38));
	return err ? arg : NULL;
}

TEST_F(memcg, controller_toggled)
{
	static const char * const toggle[] = { "-memory", "+memory" };
	int i, n = rounds(20), stop = 1;
	pthread_t thread;
	long before;
	void *err;

	ASSERT_EQ(0, cg_write("a", "cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(cg_path("a", "child"), 0755));
	ASSERT_EQ(0, write_file(cg_path("a", "child/cgroup.procs"), "0"));
	ASSERT_EQ(0, fill_cache(FAR_AWAY));
	/* libc keeps the stack of a thread for the next one */
	ASSERT_EQ(0, pthread_create(&thread, NULL, map_and_unmap, &stop));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	before = cg_charge("a");
	stop = 0;
	ASSERT_EQ(0, pthread_create(&thread, NULL, map_and_unmap, &stop));
	for (i = 0; i < n; i++) {
		/* mapped in one, unmapped in the other */
		ASSERT_EQ(0, map_many(FAR_AWAY, 64));
		ASSERT_EQ(0, cg_write("a", "cgroup.subtree_control", toggle[i % 2]));
		ASSERT_EQ(0, unmap_many(FAR_AWAY, 64));
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, &err));
	EXPECT_EQ(NULL, err);
	/* the kernel's stack goes after the thread has */
	EXPECT_TRUE(UNTIL(cg_charge("a") <= before + self->vma_bytes / 2)) {
		TH_LOG("%ld bytes, before: %ld", cg_charge("a"), before);
	}
	ASSERT_EQ(0, cg_leave());
	EXPECT_TRUE(UNTIL(!rmdir(cg_path("a", "child"))));
	ASSERT_EQ(0, cg_write("a", "cgroup.subtree_control", "-memory"));
}

/* What children had cached is paid back once they are gone. */
static void *fill_and_leave(void *at)
{
	return fill_cache(at) ? at : NULL;
}

#define BACK(name, to)							\
	EXPECT_TRUE(UNTIL(cg_charge(name) <= (to))) {			\
		TH_LOG("%ld bytes are still charged, %ld before",	\
		       cg_charge(name), (long)(to));			\
	}

TEST_F(memcg, threads_exit)
{
	/* libc would keep stacks, and how many depends on the timing */
	static char stacks[THREADS][1 << 16] __attribute__((aligned(1 << 16)));
	int i, k, n = rounds(16);
	pthread_attr_t attr[THREADS];
	pthread_t thread[THREADS];
	long before = 0;
	void *err;

	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_attr_init(&attr[i]));
		ASSERT_EQ(0, pthread_attr_setstack(&attr[i], stacks[i],
						   sizeof(stacks[i])));
	}
	ASSERT_EQ(0, cg_enter("a"));
	memset(stacks, 0, sizeof(stacks));
	for (k = 0; k < n + 1; k++) {
		for (i = 0; i < THREADS; i++)
			ASSERT_EQ(0, pthread_create(&thread[i], &attr[i],
						    fill_and_leave,
						    FAR_AWAY + i * (1UL << 20)));
		for (i = 0; i < THREADS; i++) {
			ASSERT_EQ(0, pthread_join(thread[i], &err));
			ASSERT_EQ(NULL, err);
		}
		if (!k)
			before = cg_charge("a");
	}
	BACK("a", before + self->vma_bytes / 8);
}

TEST_F(memcg, fork_exit)
{
	int i, n = rounds(400), status;
	long before = 0;

	ASSERT_EQ(0, cg_enter("a"));
	ASSERT_EQ(0, fill_cache(FAR_AWAY));
	for (i = 0; i < n + 2; i++) {
		pid_t pid = i % 2 ? fork() : vfork_child();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(fill_cache(FAR_AWAY) ? 1 : 0);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		if (i == 1)	/* what one of each leaves, such as a cached stack */
			before = cg_charge("a");
	}
	BACK("a", before + self->vma_bytes / 8);
}

/* All of a process in a cgroup of its own: nothing is left when it is gone. */
TEST_F(memcg, empties)
{
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		if (cg_enter("a") || fill_cache(FAR_AWAY) ||
		    map_many(FAR_AWAY, VMAS))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	BACK("a", 8 * getpagesize());
}

/*
 * The task sleeps with VMAs that one cgroup pays for, while that is removed, and
 * others are made, whose object cgroups may get the memory of the old one's.
 */
TEST_F(memcg, cgroup_remade_while_task_sleeps)
{
	int i, k, stats, n = rounds(30), go[2], done[2], status;
	struct vma_stats s, e;
	pid_t pid;
	char c;

	STATS_OPEN(stats);
	ASSERT_EQ(0, pipe(go) || pipe(done));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (i = 0; i < n; i++) {
			if (fill_cache(FAR_AWAY) || write(done[1], "x", 1) != 1 ||
			    read(go[0], &c, 1) != 1)
				_exit(1);
			/* in another cgroup now: it pays for this one */
			if (!map_at(CALIB + i * STRIDE, 1) ||
			    write(done[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	ASSERT_EQ(0, cg_make("c"));
	ASSERT_EQ(0, vma_stats_read(&s));
	for (i = 0; i < n; i++) {
		/* it has filled its cache in root or in the last "c" */
		ASSERT_EQ(1, read(done[0], &c, 1));
		ASSERT_EQ(0, cg_write("b", "cgroup.procs", "%d", pid));
		for (k = 0; k < 4; k++) {
			ASSERT_TRUE(cg_remove("c"));
			ASSERT_EQ(0, cg_make("c"));
		}
		ASSERT_EQ(0, cg_write("c", "cgroup.procs", "%d", pid));
		ASSERT_EQ(1, write(go[1], "x", 1));
		ASSERT_EQ(1, read(done[0], &c, 1));
		ASSERT_EQ(1, write(go[1], "x", 1));
	}
	ASSERT_EQ(0, vma_stats_read(&e));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	if (recycling())
		EXPECT_LE(n, e.misses_memcg - s.misses_memcg);
	EXPECT_TRUE(cg_remove("c"));
	stats_close(stats);
}

/* The same seen by the counters. */
TEST_F(memcg, counters)
{
	int i, stats, n = rounds(20);
	struct vma_stats s, e;

	STATS_OPEN(stats);
	ASSERT_EQ(0, vma_stats_read(&s));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, cg_enter("a"));
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
		ASSERT_NE(NULL, map_at(CALIB + 3 * i * STRIDE, 1));
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
		ASSERT_EQ(0, cg_enter("b"));
		/* cached in A, not for B */
		ASSERT_NE(NULL, map_at(CALIB + (3 * i + 1) * STRIDE, 1));
		/* the first of a refill */
		ASSERT_NE(NULL, map_at(CALIB + (3 * i + 2) * STRIDE, 1));
		/* mapped in A, not to be cached in B */
		ASSERT_EQ(0, munmap(CALIB + 3 * i * STRIDE, getpagesize()));
	}
	ASSERT_EQ(0, vma_stats_read(&e));
	if (recycling()) {
		EXPECT_LE(n, e.misses_memcg - s.misses_memcg);
		EXPECT_LE(n, e.drained - s.drained);
		/* the refill has left one place */
		if (recycle_depth() > 1)
			EXPECT_LE(n, e.refused_memcg - s.refused_memcg);
	} else {
		EXPECT_TRUE(vma_stats_zero(&e));
	}
	stats_close(stats);
}

/* One counter, from a file that is open: to open it is charged, too. */
static long counter(int fd, const char *name)
{
	static char buf[4096];
	ssize_t len = pread(fd, buf, sizeof(buf) - 1, 0);

	buf[len < 0 ? 0 : len] = '\0';
	return keyed_value(buf, name);
}

/* @pages of memory; @lazy: the kernel may take it back without swap. */
static bool use_memory(int pages, bool lazy)
{
	size_t size = pages * getpagesize();
	char *p = mmap(NULL, size, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p != MAP_FAILED && (!lazy || !madvise(p, size, MADV_FREE));
}

/* Let a child at the limit of group "a", with so much left, and an empty cache, do something. */
static int at_limit(int left, bool lazy, int (*what)(int stats))
{
	int ready[2], go[2], status, stats;
	pid_t pid;
	char c;

	if (pipe(ready) || pipe(go))
		return -1;
	pid = fork();
	if (!pid) {
		stats = open(VMLEAN_DEBUGFS "/vma_recycle/stats", O_RDONLY);
		if (cg_enter("a") || stats < 0 || counter(stats, "hits") < 0 ||
		    !use_memory(2048, lazy) || empty_cache(CALIB - (1UL << 30)) ||
		    write(ready[1], "", 1) != 1 ||
		    read(go[0], &c, 1) != 1)
			_exit(100);
		_exit(what(stats));
	}
	if (pid < 0 || read(ready[0], &c, 1) != 1 ||
	    cg_write("a", "memory.max", "%ld", cg_read("a", "memory.current", NULL) + left) ||
	    write(go[1], "", 1) != 1 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* What can be reclaimed is, before the lock: no refill fails. */
static int map_and_reclaim(int stats)
{
	long failed = counter(stats, "prepopulate_failed");
	long locked = counter(stats, "locked_allocs");

	if (map_many(CALIB, 4000))
		return 1;
	return counter(stats, "prepopulate_failed") != failed ? 2 :
	       counter(stats, "locked_allocs") != locked ? 3 : 0;
}

TEST_F(memcg, refill_reclaims)
{
	int stats;

	STATS_OPEN(stats);
	if (!recycling())
		SKIP(return, "no recycling");
	EXPECT_EQ(0, at_limit(0, true, map_and_reclaim));
	stats_close(stats);
}

/*
 * There is nothing to reclaim. A munmap() of nothing needs no VMA, but refills
 * the cache: that fails one day, and must not have killed anybody.
 */
static int refill_in_vain(int stats)
{
	long failed = counter(stats, "prepopulate_failed"), before, n;
	char *at = CALIB;

	for (int i = 0; i < 20000; i++) {
		before = counter(stats, "prepopulated");
		if (munmap(FAR_AWAY, getpagesize()))
			return 1;
		if (counter(stats, "prepopulate_failed") != failed)
			return 0;
		/* take all of it, and no more: that would be a refill, too */
		n = counter(stats, "prepopulated") - before;
		if (n > recycle_depth() || map_many(at, n))
			return 2;
		at += n * STRIDE;
	}
	return 3;
}

TEST_F(memcg, refill_kills_nobody)
{
	int stats;

	STATS_OPEN(stats);
	if (!recycling())
		SKIP(return, "no recycling");
	EXPECT_EQ(0, at_limit(128 << 10, false, refill_in_vain));
	EXPECT_EQ(0, cg_read("a", "memory.events", "oom_kill"));
	stats_close(stats);
}

TEST_HARNESS_MAIN
