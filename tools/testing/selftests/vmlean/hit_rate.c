// SPDX-License-Identifier: GPL-2.0
/*
 * Loops of system calls that allocate as many VMAs as they free: after the
 * first round, the task's own cache has to serve them, and nothing may be
 * allocated while mmap_lock is held for write.
 */
#include <linux/mempolicy.h>
#include <linux/prctl.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define PAGES 8

static size_t page;

static int loop_mmap(char *p)
{
	p += 2 * PAGES * page;
	return !map_at(p, 1) || munmap(p, page);
}

static int loop_munmap_end(char *p)
{
	p += (PAGES - 1) * page;
	return munmap(p, page) || !map_at(p, 1);
}

static int loop_munmap_middle(char *p)
{
	p += PAGES / 2 * page;
	return munmap(p, page) || !map_at(p, 1);
}

/* malloc() may have no heap, and none can be cut off then: keep a page. */
static int loop_brk(char *p)
{
	static bool heap;

	if (!heap && sbrk(page) == (void *)-1)
		return -1;
	heap = true;
	return sbrk(2 * page) == (void *)-1 || sbrk(-2 * page) == (void *)-1;
}

static int loop_mprotect_end(char *p)
{
	p += (PAGES - 1) * page;
	return mprotect(p, page, PROT_READ) || mprotect(p, page, PROT_RW);
}

static int loop_mprotect_middle(char *p)
{
	p += PAGES / 2 * page;
	return mprotect(p, page, PROT_READ) || mprotect(p, page, PROT_RW);
}

static int loop_mremap_move(char *p)
{
	char *to = p + 2 * PAGES * page;

	return mremap(p, PAGES * page, PAGES * page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, to) != to ||
	       mremap(to, PAGES * page, PAGES * page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, p) != p;
}

static int loop_mremap_shrink(char *p)
{
	return mremap(p, PAGES * page, (PAGES - 1) * page, 0) != p ||
	       mremap(p, (PAGES - 1) * page, PAGES * page, 0) != p;
}

static int loop_madvise_end(char *p)
{
	p += (PAGES - 1) * page;
	return madvise(p, page, MADV_DONTFORK) || madvise(p, page, MADV_DOFORK);
}

static int loop_mlock_end(char *p)
{
	p += (PAGES - 1) * page;
	return mlock(p, page) || munlock(p, page);
}

static int loop_mbind_end(char *p)
{
	unsigned long node0 = 1;

	p += (PAGES - 1) * page;
	return syscall(SYS_mbind, p, page, MPOL_BIND, &node0, 8, 0) ||
	       syscall(SYS_mbind, p, page, MPOL_DEFAULT, NULL, 0, 0);
}

static int loop_name_end(char *p)
{
	p += (PAGES - 1) * page;
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, page, "vmlean") ||
	       prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, page, NULL);
}

FIXTURE(hit_rate) {
	int stats;
	bool on;
	int depth;
	char *area;
};

FIXTURE_VARIANT(hit_rate) {
	int (*round)(char *p);
	int vmas;	/* that a round allocates, and frees again */
	int at_once;	/* how many of them between two frees */
};

#define LOOP(name, n, once)						\
FIXTURE_VARIANT_ADD(hit_rate, name) {					\
	.round = loop_##name, .vmas = n, .at_once = once,		\
}

LOOP(mmap, 1, 1);
LOOP(munmap_end, 1, 1);
LOOP(munmap_middle, 2, 2);
LOOP(brk, 1, 1);
LOOP(mprotect_end, 1, 1);
LOOP(mprotect_middle, 2, 2);
LOOP(mremap_move, 2, 1);
LOOP(mremap_shrink, 1, 1);
LOOP(madvise_end, 1, 1);
LOOP(mlock_end, 1, 1);
LOOP(mbind_end, 1, 1);
LOOP(name_end, 1, 1);

FIXTURE_SETUP(hit_rate)
{
	page = getpagesize();
	STATS_OPEN(self->stats);
	self->on = recycling();
	self->depth = recycle_depth();
	self->area = map_at(FAR_AWAY, PAGES);
	ASSERT_NE(NULL, self->area);
}

FIXTURE_TEARDOWN(hit_rate)
{
	munmap(self->area, PAGES * page);
	stats_close(self->stats);
}

/*
 * The counters are the whole system's. What others do can only spoil a try,
 * so a loop that is as it should be passes one of three.
 */
static void check_loop(struct __test_metadata *_metadata,
		       FIXTURE_DATA(hit_rate) *self,
		       const FIXTURE_VARIANT(hit_rate) *variant)
{
	int n = rounds(1000), best = variant->at_once;
	struct vma_stats a, b;
	long hits, misses, locked;
	int try, i, err = 0;

	if (best > self->depth)
		best = self->depth;

	ASSERT_EQ(0, variant->round(self->area)) {
		TH_LOG("the loop itself failed: %s", strerror(errno));
	}
	for (try = 0; try < 3; try++) {
		ASSERT_EQ(0, vma_stats_read(&a));
		for (i = 0; i < n; i++)
			err |= variant->round(self->area);
		ASSERT_EQ(0, vma_stats_read(&b));
		ASSERT_EQ(0, err);

		if (!self->on) {
			ASSERT_TRUE(vma_stats_zero(&b)) {
				TH_LOG("recycling is off, and something is counted");
			}
			return;
		}
		hits = b.hits - a.hits;
		misses = b.misses - a.misses;
		locked = b.locked_allocs - a.locked_allocs;
		/* per round: at_once VMAs in a row, of which best are cached */
		if (hits >= (long)n * variant->vmas * best / variant->at_once &&
		    hits * 100 * variant->at_once >= (hits + misses) * 98 * best &&
		    (best < variant->at_once || !locked))
			return;
	}
	EXPECT_TRUE(false) {
		TH_LOG("depth %d, %d rounds of %d VMAs: %ld hits, %ld misses, %ld locked",
		       self->depth, n, variant->vmas, hits, misses, locked);
	}
}

TEST_F(hit_rate, root)
{
	check_loop(_metadata, self, variant);
}

TEST_F(hit_rate, memcg)
{
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, cg_make("hit"));
	ASSERT_EQ(0, cg_write("hit", "memory.max", "64M"));
	ASSERT_EQ(0, cg_enter("hit"));
	check_loop(_metadata, self, variant);
	ASSERT_EQ(0, cg_leave());
	EXPECT_TRUE(cg_remove("hit"));
}

/* Mappings that stay: each VMA comes from slab, but before the lock is taken. */
TEST(mappings_that_stay)
{
	int stats, n = rounds(500), try, i;
	struct vma_stats a, b;
	long locked, before;

	page = getpagesize();
	STATS_OPEN(stats);
	for (try = 0; try < 3; try++) {
		ASSERT_EQ(0, vma_stats_read(&a));
		for (i = 0; i < n; i++)
			ASSERT_NE(NULL, map_at(FAR_AWAY + 2 * i * page, 1));
		ASSERT_EQ(0, vma_stats_read(&b));
		ASSERT_EQ(0, munmap(FAR_AWAY, 2 * n * page));
		locked = b.locked_allocs - a.locked_allocs;
		before = b.prepopulated - a.prepopulated;
		/* a few may have been cached */
		if (!locked && (recycling() ? before > n - 5 : !before))
			break;
	}
	EXPECT_LT(try, 3) {
		TH_LOG("%d VMAs: %ld allocated before the lock, %ld under it", n, before, locked);
	}
	stats_close(stats);
}

/* Or changing the middle of a mapping and back would not be served. */
TEST(default_depth)
{
	EXPECT_LE(3, recycle_depth());
}

TEST_HARNESS_MAIN
