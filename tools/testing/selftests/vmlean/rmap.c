// SPDX-License-Identifier: GPL-2.0
/*
 * What the reverse map of anonymous pages has promised since 2.6.34, and the bugs that
 * its history knows of: a test for each, which fails where the bug is back. Each names
 * the commit that mended it.
 */
#include <linux/mempolicy.h>
#include <pthread.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

#define AT	(FAR_AWAY + 16 * page)
#define AWAY	(FAR_AWAY + (1UL << 30))

/* A number after "KEY" in a file. */
static long number_in(const char *path, const char *key)
{
	static char text[1 << 16];
	const char *at;

	at = read_file(path, text, sizeof(text)) < 0 ? NULL : strstr(text, key);
	return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

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
#define KSM_DIR	"/sys/kernel/mm/ksm/"

static bool ksm_merged(void)
{
	return number_in(KSM_DIR "pages_sharing", "") > 0;
}

TEST_F(swap, ksm_copies)
{
	char old[16];
	long copies;

	if (access(KSM_DIR, F_OK))
		SKIP(return, "kernel without CONFIG_KSM");
	ASSERT_LT(0, read_file(KSM_DIR "pages_to_scan", old, sizeof(old)));
	ASSERT_NE(NULL, map_at(AT, 1));
	ASSERT_NE(NULL, map_at(AWAY, 1));
	memset(AT, 'k', page);
	memset(AWAY, 'k', page);
	ASSERT_EQ(0, madvise(AT, page, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(AWAY, page, MADV_MERGEABLE));
	ASSERT_EQ(0, write_file(KSM_DIR "pages_to_scan", "1000"));
	ASSERT_EQ(0, write_file(KSM_DIR "run", "1"));
	EXPECT_TRUE(UNTIL(ksm_merged()));
	ASSERT_EQ(0, write_file(KSM_DIR "run", "0"));
	ASSERT_EQ(0, write_file(KSM_DIR "pages_to_scan", old));

	ASSERT_TRUE(swap_out(AT));
	ASSERT_TRUE(swapped(AWAY));
	copies = number_in("/proc/vmstat", "ksm_swpin_copy ");
	EXPECT_EQ('k', AT[page - 1]);
	EXPECT_EQ('k', AWAY[page - 1]);
	EXPECT_EQ(copies + 1, number_in("/proc/vmstat", "ksm_swpin_copy "));
	EXPECT_EQ(0, faults_of(getpid()));
	AT[0] = 'a';
	EXPECT_EQ('k', AWAY[0]);
	EXPECT_EQ(0, write_file(KSM_DIR "run", "2"));
	EXPECT_EQ(0, write_file(KSM_DIR "run", "0"));
	EXPECT_EQ('a', AT[0]);
	EXPECT_EQ('k', AWAY[0]);
	EXPECT_EQ(0, faults_of(getpid()));
}

/* On which node is it? Negative: an errno. */
static int node_of(char *at)
{
	void *pages[] = { at };
	int status = -ENODEV;

	if (syscall(SYS_move_pages, 0, 1, pages, NULL, &status, 0))
		return -errno;
	return status;
}

/*
 * While pages migrate, migration entries stand for them, and a walk finds these to
 * put the pages back. A child that is forked meanwhile has copies: these must be found
 * as well, or the child waits forever. And a copy must not be writable, or the child
 * writes into the parent's page. "Swapless page migration: add R/W migration entries",
 * and "mm: change anon_vma linking to fix multi-process server scalability issue", since
 * which the order of the VMAs in a walk matters.
 */
#define MOVED	256

struct mover {
	pthread_t thread;
	bool stop;
	long moves;	/* of all pages, or as many as could be */
	long moved;	/* pages */
};

static void *move_to_and_fro(void *arg)
{
	struct mover *m = arg;
	static void *pages[MOVED];
	static int nodes[MOVED], status[MOVED];

	for (int i = 0; i < MOVED; i++)
		pages[i] = AT + i * page;
	while (!__atomic_load_n(&m->stop, __ATOMIC_SEQ_CST)) {
		for (int i = 0; i < MOVED; i++)
			nodes[i] = m->moves & 1;
		/* what the child maps as well does not move but with MPOL_MF_MOVE_ALL */
		syscall(SYS_move_pages, 0, MOVED, pages, nodes, status, MPOL_MF_MOVE_ALL);
		for (int i = 0; i < MOVED; i++)
			m->moved += status[i] == nodes[i];
		__atomic_add_fetch(&m->moves, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* Reads all, writes all; returns how many pages were not as they should be. */
static int child_looks(void)
{
	int wrong = 0;

	for (int i = 0; i < MOVED; i++)
		wrong += AT[i * page] != 'p';
	for (int i = 0; i < MOVED; i++)
		AT[i * page] = 'c';
	for (int i = 0; i < MOVED; i++)
		wrong += AT[i * page] != 'c';
	return wrong;
}

TEST(fork_while_pages_migrate)
{
	struct mover mover = {};
	int wrong = 0, status;
	long before;

	NODES_NEEDED();
	ASSERT_NE(NULL, map_at(AT, MOVED));
	for (int i = 0; i < MOVED; i++)
		AT[i * page] = 'p';
	ASSERT_EQ(0, pthread_create(&mover.thread, NULL, move_to_and_fro, &mover));
	for (int i = 0; i < rounds(100); i++) {
		pid_t pid;

		before = __atomic_load_n(&mover.moves, __ATOMIC_SEQ_CST);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			alarm(100);	/* for a page that never comes */
			_exit(!!child_looks());
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		for (int j = 0; j < MOVED; j++)
			wrong += *(volatile char *)(AT + j * page) != 'p';
		ASSERT_EQ(0, wrong);
		/* it moves as well where a fork takes no time */
		ASSERT_TRUE(UNTIL(__atomic_load_n(&mover.moves, __ATOMIC_SEQ_CST) > before));
		for (int j = i & 1; j < MOVED; j += 2)	/* pages of its own again */
			*(volatile char *)(AT + j * page) = 'p';
	}
	__atomic_store_n(&mover.stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(mover.thread, NULL));
	EXPECT_EQ(0, faults_of(getpid()));
	/* those that a child has just unmapped, or a CPU holds back, do not move */
	EXPECT_LT(mover.moves * MOVED / 4, mover.moved);
	ksft_print_msg("%ld pages moved, %ld times\n", mover.moved, mover.moves);
}

/*
 * mbind() moves the pages of all VMAs of its range, not of the first one only:
 * "Migration: find correct vma in new_vma_page()".
 */
TEST(mbind_moves_all)
{
	unsigned long node;
	char *file = AT + 2 * page, *guarded = AT + 4 * page;

	NODES_NEEDED();
	ASSERT_EQ(AT, mmap(AT, 2 * page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(file, mmap(file, 2 * page, PROT_RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			     -1, 0));
	ASSERT_EQ(guarded, mmap(guarded, 3 * page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS |
				MAP_FIXED | MAP_NORESERVE, -1, 0));
	if (madvise(guarded + page, page, MADV_GUARD_INSTALL))
		SKIP(return, "no MADV_GUARD_INSTALL");
	for (int i = 0; i < 7; i++)
		if (i != 5)
			AT[i * page] = i;
	for (int round = 0; round < 4; round++) {
		node = 1UL << (round & 1);
		ASSERT_EQ(0, syscall(SYS_mbind, AT, 7 * page, MPOL_BIND, &node, 64UL,
				     MPOL_MF_MOVE | MPOL_MF_STRICT));
		for (int i = 0; i < 7; i++) {
			if (i == 5)	/* the guard */
				continue;
			EXPECT_EQ(round & 1, node_of(AT + i * page)) {
				TH_LOG("round %d, page %d", round, i);
			}
			EXPECT_EQ(i, AT[i * page]);
		}
	}
	EXPECT_EQ(0, faults_of(getpid()));
}

/*
 * Pages that were locked, and made inaccessible, are unlocked all the same: "mlock:
 * mlocked pages are unevictable" got the pages by a fault, which PROT_NONE refuses.
 */
static long mlocked(void)
{
	write_file("/proc/sys/vm/drop_caches", "1");	/* what CPUs hold back */
	write_file("/proc/sys/vm/stat_refresh", "1");
	return number_in("/proc/meminfo", "Mlocked:");
}

TEST(munlock_of_prot_none)
{
	long before = mlocked();

	ASSERT_NE(NULL, map_at(AT, 64));
	ASSERT_EQ(0, mlock(AT, 64 * page));
	EXPECT_TRUE(UNTIL(mlocked() == before + 64 * (long)page / 1024));
	ASSERT_EQ(0, mprotect(AT, 64 * page, PROT_NONE));
	ASSERT_EQ(0, munlock(AT, 64 * page));
	EXPECT_TRUE(UNTIL(mlocked() == before));
	EXPECT_EQ(0, faults_of(getpid()));
}

/*
 * mremap() has both mappings for a moment, which must not show in VmPeak: "mm:
 * update_hiwaters just in time". From the second round on with recycled VMAs.
 */
TEST(mremap_is_no_peak)
{
	size_t size = 64UL << 20;
	long peak;

	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(AT, mmap(AT, size, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS |
				   MAP_NORESERVE | MAP_FIXED, -1, 0));
		*AT = 'a';
		peak = number_in("/proc/self/status", "VmPeak:");
		ASSERT_LT(0, peak);
		ASSERT_EQ(AWAY, mremap(AT, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
		EXPECT_EQ(peak, number_in("/proc/self/status", "VmPeak:"));
		EXPECT_EQ('a', *AWAY);
		ASSERT_EQ(0, munmap(AWAY, size));
	}
	EXPECT_EQ(0, faults_of(getpid()));
}

TEST_HARNESS_MAIN
