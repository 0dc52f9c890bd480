// SPDX-License-Identifier: GPL-2.0
/*
 * Guards of VMAs that merge, in all ways, with all kinds of neighbours; and of VMAs
 * for which memory cannot be had.
 */
#include <linux/prctl.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

/*
 * All merges: the VMA in the middle, M, has something that keeps it apart from
 * its neighbours L and R, until a call takes that away.
 */
enum state {
	NONE,		/* not mapped */
	EMPTY,		/* no anon_vma */
	FLAGGED,	/* no anon_vma, but guards */
	FAULTED,	/* an anon_vma, the same as a neighbour's where that can be */
	OWN,		/* an anon_vma that nobody else has */
	FORKED,		/* FAULTED, and then the process was forked */
	FORKED_FLAGGED,	/* FLAGGED, and then the process was forked */
	STATES
};

#define SIDE	2	/* pages of L and R */
#define MIDDLE	4	/* pages of M */
#define ALL	(2 * SIDE + MIDDLE)

static const char * const side[STATES] = {
	"--", ".r", "g.", "wg", "", "gw", ".g",
};

static const char * const middle[STATES] = {
	"....", ".rr.", "g..g", "gwwg", "wggw", "gw.g", "g.gg",
};

/* What L, M and R are in a row, and how many VMAs they have become. */
static unsigned char (*merged)[STATES][STATES][STATES];

static char *place_of_m(void)
{
	return AT + SIDE * page;
}

static int merge_mprotect(void)
{
	return mprotect(place_of_m(), MIDDLE * page, PROT_RW);
}

static int merge_mprotect_head(void)
{
	return mprotect(place_of_m(), MIDDLE / 2 * page, PROT_RW);
}

static int merge_mprotect_tail(void)
{
	return mprotect(place_of_m() + MIDDLE / 2 * page, MIDDLE / 2 * page, PROT_RW);
}

static int merge_mmap(void)
{
	return put(place_of_m(), MIDDLE) ? 0 : -1;
}

static int apart_mremap(void)
{
	return mremap(place_of_m(), MIDDLE * page, MIDDLE * page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      AWAY) != AWAY || mprotect(AWAY, MIDDLE * page, PROT_RW);
}

static int merge_mremap(void)
{
	return mremap(AWAY, MIDDLE * page, MIDDLE * page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      place_of_m()) != place_of_m();
}

static int name_m(const char *name)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, place_of_m(), MIDDLE * page, name);
}

static int apart_name(void)
{
	return name_m("apart") || mprotect(place_of_m(), MIDDLE * page, PROT_RW);
}

static int merge_name(void)
{
	return name_m(NULL);
}

FIXTURE(merge) {
	int nth_fd;
};

FIXTURE_VARIANT(merge) {
	enum backing backing;
	int (*apart)(void);	/* what else is needed to make M different */
	int (*merge)(void);
	bool hole;		/* there is no M before */
	bool no_left, no_right;
};

#define MERGE(kind, KIND, name, ...)					\
FIXTURE_VARIANT_ADD(merge, kind##_##name)				\
	{ .backing = KIND, .merge = merge_##name, __VA_ARGS__ }

MERGE(anon, ANON, mprotect);
MERGE(anon, ANON, mprotect_head, .no_right = true);
MERGE(anon, ANON, mprotect_tail, .no_left = true);
MERGE(anon, ANON, mmap, .hole = true);
MERGE(anon, ANON, mremap, .apart = apart_mremap);
MERGE(anon, ANON, name, .apart = apart_name);
MERGE(private, PRIVATE, mprotect);
MERGE(private, PRIVATE, mprotect_head, .no_right = true);
MERGE(private, PRIVATE, mprotect_tail, .no_left = true);
MERGE(private, PRIVATE, mmap, .hole = true);
MERGE(private, PRIVATE, mremap, .apart = apart_mremap);
MERGE(shared, SHARED, mprotect);
MERGE(shared, SHARED, mprotect_head, .no_right = true);
MERGE(shared, SHARED, mprotect_tail, .no_left = true);
MERGE(shared, SHARED, mmap, .hole = true);
MERGE(shared, SHARED, mremap, .apart = apart_mremap);

FIXTURE_SETUP(merge)
{
	BACKING_OPEN(variant->backing);
	if (variant->merge == merge_name) {
		ASSERT_TRUE(put(place_of_m(), MIDDLE));
		if (name_m("x"))
			SKIP(return, "kernel without CONFIG_ANON_VMA_NAME");
		munmap(place_of_m(), MIDDLE * page);
	}
	merged = mmap(NULL, sizeof(*merged), PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)merged);
}

FIXTURE_TEARDOWN(merge)
{
	inject_close(self->nth_fd);
}

static bool forked(enum state s)
{
	return s == FORKED || s == FORKED_FLAGGED;
}

static bool place_m(enum state m)
{
	char *p = place_of_m();

	/* as it may be executed, it cannot merge, but can share an anon_vma */
	if (!put_prot(p, MIDDLE, PROT_RW | PROT_EXEC))
		return false;
	return !(m == OWN && madvise(p, MIDDLE * page, MADV_DONTDUMP)) && fill(p, middle[m]);
}

/* Before a fork, or after it. */
static bool place(enum state l, enum state m, enum state r, bool before)
{
	char *right = AT + (SIDE + MIDDLE) * page;

	return (l == NONE || forked(l) != before || lay(AT, side[l])) &&
	       (m == NONE || forked(m) != before || place_m(m)) &&
	       (r == NONE || forked(r) != before || lay(right, side[r]));
}

/* L, M and R are there, and M is different. */
static bool placed(const FIXTURE_VARIANT(merge) *variant, enum state m)
{
	if (m == OWN && madvise(place_of_m(), MIDDLE * page, MADV_DODUMP))
		return false;
	return !variant->apart || !variant->apart();
}

static void clear(void)
{
	munmap(AT, ALL * page);
	munmap(AWAY, MIDDLE * page);
}

static void check_merge(struct __test_metadata *_metadata, const FIXTURE_VARIANT(merge) *variant,
			enum state l, enum state m, enum state r)
{
	char pages[ALL + 1];
	pid_t pid = 0;
	bool child = forked(l) || forked(m) || forked(r);

	snprintf(pages, sizeof(pages), "%s%s%s", side[l], middle[m], side[r]);
	clear();
	if (child) {
		EXPECT_TRUE(place(l, m, r, true));
		pid = fork();
	}
	if (!pid) {
		EXPECT_TRUE(place(l, m, r, false) && placed(variant, m) && !variant->merge()) {
			TH_LOG("%s: %s", pages, strerror(errno));
		}
		(*merged)[l][m][r] = vmas(AT, ALL);
		EXPECT_TRUE(kept_deep(AT, AT, pages, 1) && rewrite(AT, AT, pages) &&
			    (slow() || kept_deep(AT, AT, pages, 1))) {
			TH_LOG("%d, %d, %d: guards or data are lost", l, m, r);
		}
		if (child)
			_exit(_metadata->exit_code);
	} else {
		EXPECT_TRUE(succeeds(pid));
	}
}

/* What it would be without guards. */
static enum state unguarded(enum state s)
{
	return s == FLAGGED || s == FORKED_FLAGGED ? EMPTY : s;
}

TEST_F(merge, keeps_guards)
{
	/* where fork is dear, a part of them, another one for each kind of VMA */
	unsigned int every = slow() ? 11 : 1, n = variant->backing;

	for (enum state l = NONE; l < STATES; l++) {
		for (enum state m = variant->hole ? NONE : EMPTY; m < STATES; m++) {
			for (enum state r = NONE; r < STATES; r++) {
				if (l == OWN || r == OWN || (variant->no_left && l) ||
				    (variant->no_right && r) || (variant->hole && m) ||
				    (!l && !r) || n++ % every)
					continue;
				check_merge(_metadata, variant, l, m, r);
				/* a flagged VMA merges as one without guards does */
				if (!bare_guards() ||
				    !(*merged)[unguarded(l)][unguarded(m)][unguarded(r)])
					continue;
				ASSERT_EQ((*merged)[unguarded(l)][unguarded(m)][unguarded(r)],
					  (*merged)[l][m][r]) {
					TH_LOG("%d, %d, %d: other VMAs than without guards",
					       l, m, r);
				}
			}
		}
	}
	/* it is merges that we look at: all become one, or M is halved */
	check_merge(_metadata, variant, variant->no_left ? NONE : EMPTY,
		    variant->hole ? NONE : EMPTY, variant->no_right ? NONE : EMPTY);
	EXPECT_EQ(1 + (variant->no_left || variant->no_right),
		  (*merged)[variant->no_left ? NONE : EMPTY][variant->hole ? NONE : EMPTY]
			   [variant->no_right ? NONE : EMPTY]);
}

TEST_F(merge, allocations_fail)
{
	/* first those whose target has a flag and is lent an anon_vma, see left_to_others() */
	static const enum state cases[][3] = {
		{ FLAGGED, FAULTED, FLAGGED }, { FLAGGED, FLAGGED, FAULTED },
		{ FLAGGED, FLAGGED, FLAGGED }, { FLAGGED, FAULTED, FAULTED },
		{ FAULTED, FLAGGED, FLAGGED }, { EMPTY, FLAGGED, EMPTY },
		{ EMPTY, FLAGGED, FAULTED }, { EMPTY, FAULTED, FLAGGED },
		{ FAULTED, FLAGGED, FAULTED }, { FAULTED, FAULTED, FLAGGED },
	};
	int failed = 0, done = 0;

	INJECT_OPEN(self->nth_fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum state l = variant->no_left ? NONE : cases[i][0],
			   m = variant->hole ? NONE : cases[i][1],
			   r = variant->no_right ? NONE : cases[i][2];
		char pages[ALL + 1];

		if (left_to_others(i))
			continue;
		snprintf(pages, sizeof(pages), "%s%s%s", side[l], middle[m], side[r]);
		for (int nth = 1, left = 0; !left; nth++) {
			int err;

			ASSERT_LT(nth, 100);
			clear();
			ASSERT_TRUE(place(l, m, r, false) && placed(variant, m));
			ASSERT_EQ(0, arm(self->nth_fd, nth));
			err = variant->merge();
			left = armed(self->nth_fd);
			ASSERT_EQ(0, arm(self->nth_fd, 0));
			if (err) {
				failed++;
				/* where it was, that is, and nothing where it was to be */
				if (variant->hole || variant->merge == merge_mremap) {
					char hole[ALL + 1];

					memcpy(hole, pages, sizeof(hole));
					memset(hole + SIDE, '-', MIDDLE);
					EXPECT_TRUE(kept_deep(AT, AT, hole, 1));
					if (!variant->hole)
						EXPECT_TRUE(kept_deep(AWAY, place_of_m(),
								      middle[m], 1));
				} else {
					EXPECT_TRUE(kept_deep(AT, AT, pages, 1));
				}
				ASSERT_EQ(0, variant->merge());
			}
			done += !err;
			EXPECT_TRUE(kept_deep(AT, AT, pages, 1)) {
				TH_LOG("%s: allocation %d, %s", pages, nth,
				       err ? "then done" : "done");
			}
		}
	}
	EXPECT_LT(0, done);
	TH_LOG("failed %d times, done %d times", failed, done);
}

/*
 * Memory runs out in all else that a flag goes through. Where that is long, each
 * kind of VMA has a third of the allocations fail.
 */
FIXTURE(fail) {
	int nth_fd;
};

FIXTURE_VARIANT(fail) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(fail, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(fail, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(fail, shared) { .backing = SHARED };

FIXTURE_SETUP(fail)
{
	BACKING_OPEN(variant->backing);
	INJECT_OPEN(self->nth_fd);
}

FIXTURE_TEARDOWN(fail)
{
	inject_close(self->nth_fd);
}

TEST_F(fail, fork)
{
	int failed = 0, status;

	ASSERT_TRUE(many_laid());
	for (int nth = 1 + map.backing, left = 0; !left; nth += 3) {
		pid_t pid;

		ASSERT_LT(nth, 2000);
		ASSERT_EQ(0, arm(self->nth_fd, nth));
		pid = fork();
		if (!pid)
			_exit(!many_kept("a child", true));
		left = armed(self->nth_fd);
		ASSERT_EQ(0, arm(self->nth_fd, 0));
		if (pid < 0) {
			failed++;
			EXPECT_EQ(ENOMEM, errno);
			continue;
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) {
			TH_LOG("allocation %d: there is a child, but not as it should be", nth);
		}
	}
	EXPECT_TRUE(many_kept("the parent", false));
	/* a page table for each of them, a third of them here */
	EXPECT_LT(10, failed);
	TH_LOG("fork failed %d times", failed);
}

/* Over several page tables: what is guarded when that fails stays so in a child. */
TEST_F(fail, install)
{
	int failed = 0;

	for (int nth = 1, left = 0; !left; nth++) {
		char *at = FAR_AWAY + HUGE - 2 * page, is[5] = "";
		int err;

		ASSERT_LT(nth, 100);
		/* not one VMA where it is a file, and each with a page table of its own */
		ASSERT_TRUE(put(at, 2) && put(at + 2 * page, 2));
		ASSERT_EQ(0, arm(self->nth_fd, nth));
		err = guard(at, 4);
		left = armed(self->nth_fd);
		ASSERT_EQ(0, arm(self->nth_fd, 0));
		failed += !!err;
		for (int i = 0; i < 4; i++)
			is[i] = look(at + i * page) == GUARDED ? 'g' : '.';
		EXPECT_TRUE(err || !strcmp(is, "gggg"));
		EXPECT_TRUE(kept_deep(at, at, is, 1)) {
			TH_LOG("allocation %d: %s", nth, is);
		}
		ASSERT_EQ(0, guard(at, 4));
		EXPECT_TRUE(kept_deep(at, at, "gggg", 1));
		ASSERT_EQ(0, munmap(at, 4 * page));
	}
	EXPECT_LT(0, failed);
}

TEST_F(fail, split_and_move)
{
	static const char * const all[] = { "g.gg.g", "gwgg.g" };
	int failed = 0;

	for (int what = 0; what < 10; what++) {
		const char *pages = all[what & 1];
		char *part = AT + 2 * page, left_over[7];

		for (int nth = 1 + map.backing, left = 0; !left; nth += 3) {
			char *to = NULL;
			int err = 0;

			ASSERT_LT(nth, 100);
			ASSERT_TRUE(lay(AT, pages));
			ASSERT_EQ(0, arm(self->nth_fd, nth));
			switch (what / 2) {
			case 0:
				err = mprotect(part, 2 * page, PROT_READ);
				break;
			case 1:
				err = munmap(part, 2 * page);
				break;
			case 2:
				to = mremap(part, 2 * page, 2 * page,
					    MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
				break;
			case 3:
				to = mremap(part, 2 * page, 3 * page,
					    MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
				break;
			case 4:
				to = mremap(part, 2 * page, 2 * page, MREMAP_MAYMOVE |
					    MREMAP_FIXED | MREMAP_DONTUNMAP, AWAY);
				break;
			}
			left = armed(self->nth_fd);
			ASSERT_EQ(0, arm(self->nth_fd, 0));
			memcpy(left_over, pages, sizeof(left_over));
			/* what has moved may still be mapped where it was, if it had to be split */
			if (err || to == MAP_FAILED)
				failed++;
			else if (what / 2)
				memset(left_over + 2, vmas(part, 2) ? '.' : '-', 2);
			EXPECT_TRUE(!vmas(part, 2) || what / 2 != 1 || err);
			EXPECT_TRUE(kept_deep(AT, AT, left_over, 1)) {
				TH_LOG("%d, allocation %d: %d, %p", what, nth, err, to);
			}
			EXPECT_TRUE(to != AWAY || kept_deep(AWAY, part, "gg", 1)) {
				TH_LOG("%d, allocation %d: moved", what, nth);
			}
			munmap(AT, 6 * page);
			munmap(AWAY, 3 * page);
		}
	}
	EXPECT_LT(3, failed);
}

TEST_HARNESS_MAIN
