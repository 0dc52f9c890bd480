// SPDX-License-Identifier: GPL-2.0
/*
 * The reverse map of anonymous pages that migrate, between nodes and by compaction; see
 * rmap.c. mm/tests/rmap_kunit.c stops a migration half-way.
 */
#include <limits.h>
#include <linux/mempolicy.h>
#include <pthread.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

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

/* Compaction all the time, of memory of which every other page is free. */
#define SPARSE	(FAR_AWAY + (1UL << 30))
#define SPARSE_PAGES	4096

struct compactor {
	pthread_t thread;
	bool stop;
	long runs;
	long migrated;		/* pages, before */
};

static void *compact(void *arg)
{
	struct compactor *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_SEQ_CST)) {
		write_file("/proc/sys/vm/compact_memory", "1");
		__atomic_add_fetch(&c->runs, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static long migrated(void)
{
	return number_in("/proc/vmstat", "pgmigrate_success ");
}

static bool compactor_start(struct compactor *c)
{
	*c = (struct compactor){ .migrated = migrated() };
	if (!map_at(SPARSE, SPARSE_PAGES))
		return false;
	for (int i = 0; i < SPARSE_PAGES; i++)
		SPARSE[i * page] = 's';
	for (int i = 0; i < SPARSE_PAGES; i += 2)
		if (madvise(SPARSE + i * page, page, MADV_DONTNEED))
			return false;
	return !pthread_create(&c->thread, NULL, compact, c);
}

/* All of memory was gone through since the last call. */
static bool compactor_ran(struct compactor *c, long *seen)
{
	long runs = *seen;

	return UNTIL((*seen = __atomic_load_n(&c->runs, __ATOMIC_SEQ_CST)) > runs);
}

/* How many pages it has moved; -1 if one of them is lost. */
static long compactor_stop(struct compactor *c)
{
	__atomic_store_n(&c->stop, true, __ATOMIC_SEQ_CST);
	if (pthread_join(c->thread, NULL))
		return -1;
	for (int i = 1; i < SPARSE_PAGES; i += 2)
		if (SPARSE[i * page] != 's')
			return -1;
	return migrated() - c->migrated;
}

#define COMPACTION_NEEDED()						\
do {									\
	if (!*kconfig("CONFIG_COMPACTION"))				\
		SKIP(return, "kernel without CONFIG_COMPACTION");	\
} while (0)

/* Each child copies some pages, unmaps some, and exits. */
static int child_comes_and_goes(void)
{
	int wrong = 0;

	for (int i = 0; i < MOVED; i += 2)
		AT[i * page] = 'c';
	for (int i = 0; i < MOVED; i++)
		wrong += AT[i * page] != (i & 1 ? 'p' : 'c');
	return wrong || munmap(AT + MOVED / 2 * page, MOVED / 4 * page);
}

/*
 * Compaction holds no mmap_lock. The anon_vma of a page that it moves must stay, even if
 * all who map the page are gone: "mm: migration: take a reference to the anon_vma before
 * migrating". A kernel with KASAN sees it if it does not.
 */
TEST(come_and_go_while_pages_compact)
{
	struct compactor compactor;
	long seen = 0, moved;
	int status;

	COMPACTION_NEEDED();
	ASSERT_TRUE(compactor_start(&compactor));
	for (int i = 0; i < rounds(40); i++) {
		pid_t pid;

		ASSERT_NE(NULL, map_at(AT, MOVED));
		for (int j = 0; j < MOVED; j++)
			AT[j * page] = 'p';
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			alarm(100);
			_exit(child_comes_and_goes());
		}
		ASSERT_EQ(0, munmap(AT, MOVED * page));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		ASSERT_TRUE(i % 8 || compactor_ran(&compactor, &seen));
	}
	moved = compactor_stop(&compactor);
	EXPECT_LT(0, moved);
	EXPECT_EQ(0, faults_of(getpid()));
	ksft_print_msg("%ld pages moved, %ld times all memory\n", moved, compactor.runs);
}

/*
 * exec() moves the arguments to where the stack will be, first the VMA and then its page
 * tables: "mm: migration: avoid race between shift_arg_pages() and rmap_walk() during
 * migration by not migrating temporary stacks".
 */
#define ARGS		32
#define ARG_SIZE	4096

static __attribute__((constructor)) void exec_child(int argc, char **argv)
{
	if (!getenv("RMAP_EXEC"))
		return;
	for (int i = 1; i < argc; i++)
		if (strspn(argv[i], (char []){ 'a' + i % 26, 0 }) != ARG_SIZE - 1)
			_exit(1);
	_exit(argc != ARGS + 1);
}

TEST(exec_while_stack_compacts)
{
	static char args[ARGS][ARG_SIZE], path[PATH_MAX];
	static char *argv[ARGS + 2] = { "exec" }, *envp[] = { "RMAP_EXEC=1", NULL };
	struct compactor compactor;
	int status;
	long seen = 0, moved;

	COMPACTION_NEEDED();
	ASSERT_LT(0, readlink("/proc/self/exe", path, sizeof(path) - 1));
	for (int i = 1; i <= ARGS; i++) {
		argv[i] = args[i - 1];
		memset(argv[i], 'a' + i % 26, ARG_SIZE - 1);
	}
	ASSERT_TRUE(compactor_start(&compactor));
	for (int i = 0; i < rounds(40); i++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			alarm(100);
			execve(path, argv, envp);
			_exit(2);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		ASSERT_TRUE(i % 8 || compactor_ran(&compactor, &seen));
	}
	moved = compactor_stop(&compactor);
	EXPECT_LT(0, moved);
	ksft_print_msg("%ld pages moved, %ld times all memory\n", moved, compactor.runs);
}

TEST_HARNESS_MAIN
