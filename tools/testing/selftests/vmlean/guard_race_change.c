// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions, installed and removed by several threads at once, while others
 * change the mappings.
 */
#include "../kselftest_harness.h"
#include "guard_team.h"

/*
 * The removal of all guards of a VMA lets go of mmap_lock, and meanwhile the VMA
 * becomes another one.
 */
FIXTURE(change) {
	struct worker worker[4];
};

FIXTURE_VARIANT(change) {
	int pages;
	bool file, private;
};

FIXTURE_VARIANT_ADD(change, anon_8) { .pages = 8, .private = true };
FIXTURE_VARIANT_ADD(change, shared_8) { .pages = 8, .file = true };
FIXTURE_VARIANT_ADD(change, private_big) {
	.pages = MAX_PAGES / 2, .private = true, .file = true
};

#define ELSEWHERE	at(MAX_AREAS - 1)

static int move(char *from, char *to, int pages)
{
	return mremap(from, pages * page, pages * page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, to) != to;
}

/*
 * Ends with the same mappings as it has begun, though perhaps not the same VMA.
 * Often the second half is another VMA meanwhile.
 */
static void act_change(struct worker *w)
{
	int flags = (area.private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED;
	int n = area.pages, half = rnd(w) % 2;
	int from = half ? n / 2 : rnd(w) % n;
	int len = half ? n - from : 1 + rnd(w) % (n - from);
	char *all = at(0), *p = all + from * page;
	const char *what = NULL;

	switch (rnd(w) % 10) {
	default:
		if (mprotect(p, len * page, PROT_READ) ||
		    mprotect(all, bytes(), PROT_RW))
			what = "mprotect";
		break;
	case 1:
		if (munmap(p, len * page) ||
		    mmap(p, len * page, PROT_RW, area.fd < 0 ? flags |
			 MAP_ANONYMOUS : flags, area.fd, from * page) != p)
			what = "munmap";
		break;
	case 2:
		if (move(p, ELSEWHERE, len) || move(ELSEWHERE, p, len))
			what = "mremap of a part";
		break;
	case 3:
		if (move(all, ELSEWHERE, n) || move(ELSEWHERE, all, n))
			what = "mremap";
		break;
	case 4:
		/* what was moved away leaves no guards behind */
		if (mremap(all, bytes(), bytes(), MREMAP_MAYMOVE | MREMAP_FIXED |
			   MREMAP_DONTUNMAP, ELSEWHERE) != ELSEWHERE ||
		    munmap(ELSEWHERE, bytes()))
			what = "mremap, but not unmap";
		break;
	case 5:
		if (madvise(p, len * page, MADV_DONTDUMP) ||
		    madvise(all, bytes(), MADV_DODUMP))
			what = "madvise";
		break;
	case 6:
		if (madvise(p, len * page, MADV_DONTNEED))
			what = "MADV_DONTNEED";
		break;
	}
	if (what)
		failed(w, what);
}

/* Of what is not mapped in this moment they say so. */
static void act_install_some(struct worker *w)
{
	int from = rnd(w) % area.pages;

	if (install(at(0) + from * page, 1 + rnd(w) % (area.pages - from)) &&
	    errno != ENOMEM)
		failed(w, "install");
}

static void act_remove_all(struct worker *w)
{
	if (rnd(w) % 4 == 0 && uninstall(at(0), area.pages) && errno != ENOMEM)
		failed(w, "remove");
}

/* Most of the time all of what is a VMA, if the second half is another one. */
static void act_remove_ranges(struct worker *w)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0), half = area.pages / 2;
	struct iovec iov[] = {
		{ at(0), half * page },
		{ at(0) + half * page, (area.pages - half) * page },
		{ at(0), bytes() },
	};

	if (pidfd < 0)
		failed(w, "pidfd_open");
	if (syscall(SYS_process_madvise, pidfd, iov, rnd(w) % 4 ? 1 : 3,
		    MADV_GUARD_REMOVE, 0) < 0 && errno != ENOMEM)
		failed(w, "process_madvise");
	close(pidfd);
}

FIXTURE_SETUP(change)
{
	SETUP();
	area.pages = variant->pages;
	area.private = variant->private;
	if (variant->file)
		ASSERT_EQ(0, area_file());
	ASSERT_EQ(0, area_map(0));
}

FIXTURE_TEARDOWN(change)
{
}

TEST_F(change, remove)
{
	struct worker *w = self->worker;
	int i, wrong = 0, lacks = 0;
	const char *err;

	w[0].act = act_change;
	w[1].act = act_install_some;
	w[2].act = act_remove_all;
	w[3].act = act_remove_ranges;
	ASSERT_EQ(0, team_start(w, 4, 4));
	for_rounds (i, 20000, 2) {
		if (i % 16 == 0)
			ASSERT_EQ(0, area_map(0));
		team_begin(w);
		meet();
		wrong = compare_with_child(1);
		if (!wrong && i % 8 == 0) {
			ASSERT_EQ(0, install(at(0), area.pages));
			lacks = all_in_child(at(0), area.pages);
		}
		if (wrong || lacks)
			break;
	}
	err = team_end(w, 4);
	EXPECT_EQ(0, wrong) {
		TH_LOG("round %d: parent and child differ", i);
	}
	EXPECT_EQ(0, lacks) {
		TH_LOG("round %d: a guard is not in the child", i);
	}
	EXPECT_STREQ("", err);
	report("%d rounds", i);
}

/*
 * All guards of a VMA are removed; when that gets mmap_lock for write, the VMA has
 * grown by another one, and has its guards. For this, somebody must have waited
 * for the lock when the removal had it for read, and somebody else still have it.
 */
#define FIRST		FAR_AWAY
#define FIRST_PAGES	(2 * MAX_PAGES)
#define SECOND		at(0)
#define SECOND_PAGES	8
#define HELD		at(1)
#define HELD_PAGES	(4 * MAX_PAGES)

static int started;

static void act_hold(struct worker *w)
{
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	if (install(HELD, HELD_PAGES))
		failed(w, "install");
}

static void act_remove_first(struct worker *w)
{
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	if (uninstall(FIRST, FIRST_PAGES))
		failed(w, "remove");
}

static void act_merge(struct worker *w)
{
	spin_until(load(&started) == 2);
	if (mprotect(SECOND, SECOND_PAGES * page, PROT_RW))
		failed(w, "mprotect");
}

TEST(merge)
{
	struct worker w[3] = {
		{ .act = act_hold }, { .act = act_remove_first }, { .act = act_merge },
	};
	int i, wrong = 0;
	const char *err;

	SETUP();
	area.pages = SECOND_PAGES;
	ASSERT_NE(NULL, map_at(HELD, HELD_PAGES));
	ASSERT_NE(NULL, map_at(FIRST, FIRST_PAGES + SECOND_PAGES));
	/* page tables to walk */
	ASSERT_EQ(0, install(FIRST, FIRST_PAGES));
	ASSERT_EQ(0, uninstall(FIRST, FIRST_PAGES));
	ASSERT_EQ(0, team_start(w, 3, 1));
	for_rounds (i, 20000, 4) {
		ASSERT_EQ(0, mprotect(SECOND, SECOND_PAGES * page, PROT_READ));
		ASSERT_EQ(0, install(FIRST, 1));
		ASSERT_EQ(0, install(SECOND, SECOND_PAGES));
		started = 0;
		team_begin(w);
		meet();
		wrong = all_in_child(SECOND, SECOND_PAGES);
		if (wrong)
			break;
	}
	err = team_end(w, 3);
	EXPECT_EQ(0, wrong) {
		TH_LOG("round %d: a guard is not in the child", i);
	}
	EXPECT_STREQ("", err);
	ksft_print_msg("merge: %d rounds\n", i);
}

/* The same threads; but their process dies. */
TEST(death)
{
	const act_t act[] = {
		act_change, act_install_some, act_remove_all, act_remove_ranges
	};
	int n = 0;

	SETUP();
	area.pages = TABLE;
	area.private = true;
	ASSERT_EQ(0, area_map(0));
	team.writes = 1;
	EXPECT_STREQ("", team_dies(act, &n));
	ksft_print_msg("death: %d processes\n", n);
}

TEST_HARNESS_MAIN
