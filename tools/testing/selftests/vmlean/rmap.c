// SPDX-License-Identifier: GPL-2.0
/*
 * What the reverse map of anonymous pages has promised since 2.6.34, and the bugs that
 * its history knows of: a test for each, which fails where the bug is back. Each names
 * the commit that mended it.
 */
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

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

#define PAGES	(HUGE / page)

/* A huge page at FAR_AWAY, each page of it with a number of its own. */
static bool huge_page(void)
{
	if (mmap(FAR_AWAY, HUGE, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
	    FAR_AWAY)
		return false;
	for (int i = 0; i < PAGES; i++)
		*(int *)(FAR_AWAY + i * page) = i;
	return UNTIL(!madvise(FAR_AWAY, HUGE, MADV_COLLAPSE));
}

static bool huge_page_intact(void)
{
	for (int i = 0; i < PAGES; i++)
		if (*(int *)(FAR_AWAY + i * page) != i)
			return false;
	return true;
}

/* What wants only a part of a huge page splits it, if it can. */
static long splits(const char *key)
{
	return madvise(FAR_AWAY + 5 * page, page, MADV_COLD) ? -1 :
	       number_in("/proc/vmstat", key);
}

#define DONE	"thp_split_page "
#define FAILED	"thp_split_page_failed "

/*
 * A huge page of which somebody holds a page, by no mapping, is not split, and he goes
 * on to see what is written into it: "thp: transparent hugepage core" on O_DIRECT.
 */
TEST(split_of_held)
{
	struct iovec iov = { FAR_AWAY + 3 * page, sizeof(int) };
	long failed = number_in("/proc/vmstat", FAILED);
	long done = number_in("/proc/vmstat", DONE);
	int fds[2], value;

	NEEDS_HUGE_PAGES();
	ASSERT_EQ(0, pipe(fds));
	ASSERT_TRUE(huge_page());
	ASSERT_EQ(sizeof(int), vmsplice(fds[1], &iov, 1, 0));
	EXPECT_EQ(failed + 1, splits(FAILED));
	EXPECT_EQ(done, number_in("/proc/vmstat", DONE));
	*(int *)(FAR_AWAY + 3 * page) = 33;
	ASSERT_EQ(sizeof(int), read(fds[0], &value, sizeof(int)));
	EXPECT_EQ(33, value);
	*(int *)(FAR_AWAY + 3 * page) = 3;
	/* given back */
	EXPECT_EQ(done + 1, splits(DONE));
	EXPECT_TRUE(huge_page_intact());
	EXPECT_EQ(0, faults_of(getpid()));
}

struct holder {
	pthread_t thread;
	int fds[2];
	bool stop;
	long n, wrong;
};

static void *hold_and_look(void *arg)
{
	struct holder *h = arg;

	for (; !__atomic_load_n(&h->stop, __ATOMIC_SEQ_CST); h->n++) {
		int i = h->n % PAGES, value = -1;
		struct iovec iov = { FAR_AWAY + i * page, sizeof(int) };

		h->wrong += vmsplice(h->fds[1], &iov, 1, 0) != sizeof(int) ||
			    read(h->fds[0], &value, sizeof(int)) != sizeof(int) || value != i;
	}
	return NULL;
}

/* The same at any moment of a split, and of the collapse that takes it back. */
TEST(split_while_held)
{
	struct holder holder = {};

	NEEDS_HUGE_PAGES();
	ASSERT_EQ(0, pipe(holder.fds));
	ASSERT_TRUE(huge_page());
	ASSERT_EQ(0, pthread_create(&holder.thread, NULL, hold_and_look, &holder));
	for (int i = 0; i < rounds(40); i++) {
		long done = number_in("/proc/vmstat", DONE);

		EXPECT_TRUE(UNTIL(splits(DONE) > done));
		ASSERT_TRUE(huge_page_intact());
		EXPECT_TRUE(UNTIL(!madvise(FAR_AWAY, HUGE, MADV_COLLAPSE)));
		ASSERT_TRUE(huge_page_intact());
	}
	__atomic_store_n(&holder.stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(holder.thread, NULL));
	EXPECT_LT(0, holder.n);
	EXPECT_EQ(0, holder.wrong);
	EXPECT_EQ(0, faults_of(getpid()));
}

#define POOL	"/proc/sys/vm/nr_hugepages"
#define LRU	5	/* a bit of /proc/kpageflags */

FIXTURE(hugetlb) {
	char before[16];
};

FIXTURE_SETUP(hugetlb)
{
	if (!*kconfig("CONFIG_HUGETLBFS"))
		SKIP(return, "kernel without CONFIG_HUGETLBFS");
	ASSERT_LT(0, read_file(POOL, self->before, sizeof(self->before)));
	ASSERT_EQ(0, write_file(POOL, "8"));
	ASSERT_EQ(8, number_in(POOL, ""));
}

FIXTURE_TEARDOWN(hugetlb)
{
	if (*self->before) {
		EXPECT_EQ(0, write_file(POOL, self->before));
		EXPECT_EQ(0, number_in("/proc/meminfo", "HugePages_Rsvd:"));
	}
}

/*
 * Pages of hugetlb have an anon_vma where the mapping is private, but are on no LRU list,
 * and a guard region is not for them: the comment "The following three functions are
 * for anonymous (private mapped) hugepages".
 */
TEST_F(hugetlb, private)
{
	struct child child;
	uint64_t flags;

	ASSERT_EQ(FAR_AWAY, mmap(FAR_AWAY, HUGE, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS |
				 MAP_FIXED | MAP_HUGETLB, -1, 0));
	EXPECT_EQ(-1, madvise(FAR_AWAY, HUGE, MADV_GUARD_INSTALL));
	EXPECT_EQ(EINVAL, errno);
	*FAR_AWAY = 'p';
	ASSERT_TRUE(kpageflags_of(FAR_AWAY, &flags));
	EXPECT_FALSE(flags >> LRU & 1);

	ASSERT_LE(0, child_fork(&child));
	if (!child.pid)
		_exit(!(child_waits(&child) && *FAR_AWAY == 'p' && (*FAR_AWAY = 'c') &&
			child_waits(&child) && *FAR_AWAY == 'c'));
	ASSERT_TRUE(child_ready(&child));
	if (two_nodes()) {
		/* a walk finds both, there and back */
		for (int to = 1; to >= 0; to--) {
			EXPECT_TRUE(UNTIL(move_to(FAR_AWAY, to) == to && node_of(FAR_AWAY) == to));
			EXPECT_EQ('p', *(volatile char *)FAR_AWAY);
		}
	}
	EXPECT_EQ(0, faults_of(child.pid));
	ASSERT_TRUE(child_go(&child) && child_ready(&child));
	EXPECT_EQ('p', *(volatile char *)FAR_AWAY);
	*FAR_AWAY = 'q';
	EXPECT_EQ(0, faults_of(child.pid));
	EXPECT_EQ(0, faults_of(getpid()));
	EXPECT_TRUE(child_go(&child) && child_ends(&child));
	EXPECT_EQ('q', *(volatile char *)FAR_AWAY);
	ASSERT_EQ(0, munmap(FAR_AWAY, HUGE));
	EXPECT_TRUE(UNTIL(number_in("/proc/meminfo", "HugePages_Free:") == 8));
}

TEST_HARNESS_MAIN
