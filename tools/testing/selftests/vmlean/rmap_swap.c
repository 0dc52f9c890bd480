// SPDX-License-Identifier: GPL-2.0
/*
 * The reverse map of anonymous pages that go to swap and come back; see rmap.c.
 */
#include "../kselftest_harness.h"
#include "rmap_util.h"

/* The youngest of a line of @depth descendants returns 0; the others wait for theirs. */
static pid_t descend(struct child *child, int depth)
{
	pid_t pid = child_fork(child);

	while (!pid && --depth > 0) {
		int status;

		pid = fork();
		if (pid)
			_exit(pid < 0 || waitpid(pid, &status, 0) != pid || status);
	}
	return pid;
}

FIXTURE(swap) {
	bool on;
};

FIXTURE_SETUP(swap)
{
	SWAP_OPEN(self->on);
}

FIXTURE_TEARDOWN(swap)
{
	SWAP_CLOSE(self->on);
}

/*
 * A page that processes share in swap must not get the anon_vma of the one that reads
 * it first: that process may exit, and then nobody finds the page. It gets the oldest
 * one: "anonvma: when setting up page->mapping, we need to pick the _oldest_ anonvma".
 */
static void child_reads_first(struct __test_metadata *_metadata, bool guards, int depth)
{
	struct child child;
	pid_t pid;

	ASSERT_NE(NULL, map_at(AT, 2));
	if (guards && madvise(AT + page, page, MADV_GUARD_INSTALL))
		SKIP(return, "no MADV_GUARD_INSTALL");
	*AT = 'A';
	pid = descend(&child, depth);
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!(child_waits(&child) && *AT == 'A' && !faults_of(getpid()) &&
			child_waits(&child)));
	ASSERT_TRUE(child_ready(&child));
	ASSERT_TRUE(swap_out(AT));
	ASSERT_TRUE(child_go(&child) && child_ready(&child));
	EXPECT_EQ('A', *(volatile char *)AT);
	EXPECT_EQ(0, faults_of(getpid()));
	ASSERT_TRUE(child_go(&child) && child_ends(&child));
	/* it is found, or it would never be swapped out */
	EXPECT_EQ(0, faults_of(getpid()));
	EXPECT_TRUE(swap_out(AT));
	EXPECT_EQ('A', *(volatile char *)AT);
}

TEST_F(swap, child_reads_first)
{
	child_reads_first(_metadata, false, 1);
}

TEST_F(swap, child_reads_first_beside_guard)
{
	child_reads_first(_metadata, true, 1);
}

TEST_F(swap, grandchild_reads_first)
{
	child_reads_first(_metadata, false, 3);
}

/*
 * The counts of swap entries were a byte, and beyond that another page: with more
 * than 62 processes, or where that failed, a page was lost: "swap_info: swap count
 * continuations".
 */
#define MANY	80

TEST_F(swap, many_share)
{
	struct child child[MANY];

	ASSERT_NE(NULL, map_at(AT, 1));
	*AT = 'A';
	for (int i = 0; i < MANY; i++) {
		pid_t pid = child_fork(&child[i]);

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(!(child_waits(&child[i]) && *AT == 'A' &&
				child_waits(&child[i]) && *AT == 'A' && (*AT = i, *AT == (char)i)));
		ASSERT_TRUE(child_ready(&child[i]));
	}
	ASSERT_TRUE(swap_out(AT));
	/* half of them see it before swapoff, the others by it */
	for (int i = 0; i < MANY; i += 2)
		ASSERT_TRUE(child_go(&child[i]) && child_ready(&child[i]));
	ASSERT_TRUE(swap_off());
	self->on = false;
	for (int i = 1; i < MANY; i += 2)
		ASSERT_TRUE(child_go(&child[i]) && child_ready(&child[i]));
	for (int i = 0; i < MANY; i++)
		EXPECT_TRUE(child_go(&child[i]) && child_ends(&child[i]));
	EXPECT_EQ('A', *(volatile char *)AT);
	EXPECT_EQ(0, faults_of(getpid()));
}

/*
 * What two VMAs of different anon_vmas shared through KSM is in swap one page. Who
 * reads it second needs a copy: the page can have one anon_vma only. 5ad6468801d2,
 * "ksm: let shared pages be swappable".
 */
TEST_F(swap, ksm_copies)
{
	long copies;

	if (!*kconfig("CONFIG_KSM"))
		SKIP(return, "kernel without CONFIG_KSM");
	ASSERT_TRUE(ksm_share(AT, AWAY));

	ASSERT_TRUE(swap_out(AT));
	ASSERT_TRUE(swapped(AWAY));
	copies = number_in("/proc/vmstat", "ksm_swpin_copy ");
	EXPECT_EQ('k', AT[page - 1]);
	EXPECT_EQ('k', AWAY[page - 1]);
	EXPECT_EQ(copies + 1, number_in("/proc/vmstat", "ksm_swpin_copy "));
	EXPECT_EQ(0, faults_of(getpid()));
	AT[0] = 'a';
	EXPECT_EQ('k', AWAY[0]);
	EXPECT_TRUE(ksm_unshare());
	EXPECT_EQ('a', AT[0]);
	EXPECT_EQ('k', AWAY[0]);
	EXPECT_EQ(0, faults_of(getpid()));
}

/*
 * A page is charged to one cgroup from its first mapping to its last, wherever it is
 * meanwhile: shared after fork, copied, on another node, in swap. "memcg: remove refcnt
 * from page_cgroup" on try_to_unmap() and page_remove_rmap().
 */
#define CHARGED	64

static int child_is_charged(struct child *child)
{
	int status, wrong = 0;

	for (int round = 0; round < rounds(20); round++) {
		pid_t pid;

		if (!map_at(AT, CHARGED))
			return 1;
		for (int i = 0; i < CHARGED; i++)
			AT[i * page] = 'c';
		pid = fork();
		if (!pid) {
			for (int i = 0; i < CHARGED; i += 2)
				AT[i * page] = 'g';
			_exit(!swap_out(AT));
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			return 2;
		/* all are here, and its own; and now they move, if they can */
		for (int i = 0; i < CHARGED; i++)
			wrong += *(volatile char *)(AT + i * page) != 'c';
		for (int i = 0; two_nodes() && i < CHARGED; i++)
			wrong += move_to(AT + i * page, (i + round) & 1) != ((i + round) & 1);
		for (int i = 0; i < CHARGED; i++)
			wrong += *(volatile char *)(AT + i * page) != 'c';
		if (wrong || (!round && !child_waits(child)) || !swap_out(AT))
			return 3;
		for (int i = 0; i < CHARGED; i += 3)
			wrong += *(volatile char *)(AT + i * page) != 'c';
		if (wrong || munmap(AT, CHARGED * page))
			return 4;
	}
	return 0;
}

TEST_F(swap, charges_go_along)
{
	struct child child;
	long before;

	ASSERT_EQ(0, cg_leave());
	before = cg_charge(CGROUP);
	ASSERT_LE(0, child_fork(&child));
	if (!child.pid)
		_exit(cg_enter(CGROUP) ? 5 : child_is_charged(&child));
	ASSERT_TRUE(child_ready(&child));
	EXPECT_LE(CHARGED * page, cg_read(CGROUP, "memory.stat", "anon"));
	EXPECT_LE(CHARGED * page, cg_read(CGROUP, "memory.current", NULL));
	EXPECT_TRUE(child_go(&child) && child_ends(&child));
	EXPECT_TRUE(UNTIL(cg_charge(CGROUP) <= before + 4L * page)) {
		TH_LOG("%ld bytes are charged, %ld before", cg_charge(CGROUP), before);
	}
	EXPECT_EQ(0, cg_read(CGROUP, "memory.stat", "anon"));
	EXPECT_EQ(0, cg_read(CGROUP, "memory.swap.current", NULL));
}

TEST_HARNESS_MAIN
