// SPDX-License-Identifier: GPL-2.0
/*
 * The cache of a task through the task's life: it starts empty, belongs to one
 * thread, survives exec and is given back at exit.
 */
#include <pthread.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define SLACK	8	/* VMAs that others may cache meanwhile */

/* exec_child() runs instead of main() in what TEST_F(task_life, exec) execs. */
static void __attribute__((constructor)) exec_child(void)
{
	if (getenv("VMLEAN_EXEC"))
		_exit(fill_cache(FAR_AWAY) ? 1 : 0);
}

FIXTURE(task_life) {
	int stats;
	bool on;
	struct vma_stats a, b;	/* before and after */
};

FIXTURE_SETUP(task_life)
{
	STATS_OPEN(self->stats);
	self->on = recycling();
	ASSERT_EQ(0, fill_cache(FAR_AWAY));
	ASSERT_EQ(0, vma_stats_read(&self->a));
}

FIXTURE_TEARDOWN(task_life)
{
	stats_close(self->stats);
}

/* How many more VMAs are cached than before? Our own cache is full again. */
static long more_cached(FIXTURE_DATA(task_life) *self)
{
	if (fill_cache(FAR_AWAY) || vma_stats_read(&self->b))
		return -1000000;
	return cached(&self->b) - cached(&self->a);
}

static long drained(FIXTURE_DATA(task_life) *self)
{
	return self->b.drained - self->a.drained;
}

/* N tasks have each filled a cache and gone: all of it must have come back. */
#define CHECK_GIVEN_BACK(n)						\
do {									\
	bool back = UNTIL(labs(more_cached(self)) <= SLACK &&		\
			  (!self->on || drained(self) >= (n)));		\
	EXPECT_TRUE(back) {						\
		TH_LOG("%d tasks are gone: %ld VMAs drained, %ld more cached", \
		       (int)(n), drained(self), more_cached(self));	\
	}								\
	if (!self->on)							\
		EXPECT_TRUE(vma_stats_zero(&self->b));			\
} while (0)

static int wait_all(int n)
{
	int status, err = 0;

	while (n-- > 0)
		err |= wait(&status) < 0 || status;
	return err;
}

TEST_F(task_life, fork_exit)
{
	int i, n = rounds(100);

	for (i = 0; i < n; i++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(fill_cache(FAR_AWAY) ? 1 : 0);
		ASSERT_EQ(0, wait_all(1));
	}
	CHECK_GIVEN_BACK(n);
	/* a child that had inherited a full cache would not have filled it */
	if (self->on)
		EXPECT_LE(n, self->b.prepopulated - self->a.prepopulated);
}

/* Children of a full parent that are killed while they are at it. */
TEST_F(task_life, fork_kill)
{
	int i, n = rounds(100);

	for (i = 0; i < n; i++) {
		int ready[2], status;
		char c;
		pid_t pid;

		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			if (fill_cache(FAR_AWAY) || write(ready[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				fill_cache(FAR_AWAY);
		}
		ASSERT_EQ(1, read(ready[0], &c, 1));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		close(ready[0]);
		close(ready[1]);
	}
	CHECK_GIVEN_BACK(1);	/* others die with all of it in use */
}

TEST_F(task_life, vfork_exit)
{
	int i, n = rounds(100);

	for (i = 0; i < n; i++) {
		ASSERT_LT(0, vfork_child());
		ASSERT_EQ(0, wait_all(1));
	}
	CHECK_GIVEN_BACK(n);
	if (self->on)
		EXPECT_LE(n, self->b.prepopulated - self->a.prepopulated);
}

static int clone_child(void *at)
{
	return fill_cache(at) ? 1 : 0;
}

/* Processes of their own in one address space, all at once. */
TEST_F(task_life, clone_vm)
{
	enum { TASKS = 16, STACK = 65536 };
	static char stacks[TASKS][STACK] __attribute__((aligned(16)));
	int i, k, n = rounds(10);

	for (k = 0; k < n; k++) {
		for (i = 0; i < TASKS; i++)
			ASSERT_LT(0, clone(clone_child, stacks[i] + STACK,
					   CLONE_VM | SIGCHLD,
					   FAR_AWAY + (i + 1) * (1UL << 20)));
		ASSERT_EQ(0, wait_all(TASKS));
	}
	CHECK_GIVEN_BACK(n * TASKS);
}

TEST_F(task_life, exec)
{
	char *argv[] = { "task_life", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };
	int i, n = rounds(40);

	for (i = 0; i < n; i++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			fill_cache(FAR_AWAY);
			execve("/proc/self/exe", argv, envp);
			_exit(1);
		}
		ASSERT_EQ(0, wait_all(1));
	}
	CHECK_GIVEN_BACK(n);
}

/* The new mm of an exec that fails is freed by a task that never ran in it. */
TEST_F(task_life, exec_fails)
{
	char name[] = "/tmp/vmlean-exec-XXXXXX", *argv[] = { name, NULL };
	int i, n = rounds(100), fd = mkstemp(name);

	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "junk", 4));
	ASSERT_EQ(0, fchmod(fd, 0755));
	ASSERT_EQ(0, close(fd));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(-1, execve(name, argv, environ));
		EXPECT_EQ(ENOEXEC, errno);
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
	}
	unlink(name);
	CHECK_GIVEN_BACK(0);
	if (self->on)
		EXPECT_LE(n, self->b.refused_mm - self->a.refused_mm);
}

/* exit_mmap() frees what the task must not keep any more. */
TEST_F(task_life, exit_frees_mappings)
{
	int i, n = 200;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		for (i = 0; i < n; i++)
			if (!map_at(FAR_AWAY + 2L * i * getpagesize(), 1))
				_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, wait_all(1));
	CHECK_GIVEN_BACK(0);
	if (self->on)
		EXPECT_LE(n, self->b.refused_mm - self->a.refused_mm);
}

struct worker {
	pthread_t thread;
	pthread_barrier_t *filled, *leave;
	char *at;
	int err;
};

static void *worker(void *arg)
{
	struct worker *w = arg;

	w->err = fill_cache(w->at);
	pthread_barrier_wait(w->filled);
	pthread_barrier_wait(w->leave);
	return NULL;
}

TEST_F(task_life, threads)
{
	enum { MAX = 64 };
	int i, n = rounds(MAX);
	static struct worker w[MAX];
	pthread_barrier_t filled, leave;
	long more;

	pthread_barrier_init(&filled, NULL, n + 1);
	pthread_barrier_init(&leave, NULL, n + 1);
	for (i = 0; i < n; i++) {
		w[i].filled = &filled;
		w[i].leave = &leave;
		w[i].at = FAR_AWAY + (i + 1) * (1UL << 20);
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, worker, &w[i]));
	}
	pthread_barrier_wait(&filled);
	more = more_cached(self);
	if (self->on)
		EXPECT_LE(n - SLACK, more) {
			TH_LOG("%d threads with a full cache each, %ld more VMAs cached",
			       n, more);
		}
	pthread_barrier_wait(&leave);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, pthread_join(w[i].thread, NULL));
		EXPECT_EQ(0, w[i].err);
	}
	CHECK_GIVEN_BACK(n);
}

/* Threads that come and go; exit_group() takes the last ones along. */
TEST_F(task_life, exit_group)
{
	enum { MAX = 16 };
	int i, k, n = rounds(20);

	for (k = 0; k < n; k++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			static struct worker w[MAX];
			pthread_barrier_t filled, leave;

			pthread_barrier_init(&filled, NULL, MAX + 1);
			pthread_barrier_init(&leave, NULL, MAX + 1);
			for (i = 0; i < MAX; i++) {
				w[i].filled = &filled;
				w[i].leave = &leave;
				w[i].at = FAR_AWAY + (i + 1) * (1UL << 20);
				if (pthread_create(&w[i].thread, NULL, worker, &w[i]))
					_exit(1);
			}
			pthread_barrier_wait(&filled);
			_exit(0);	/* the others wait at the second barrier */
		}
		ASSERT_EQ(0, wait_all(1));
	}
	CHECK_GIVEN_BACK(n * MAX);
}

TEST_HARNESS_MAIN
