// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions of VMAs that have no anon_vma: whatever becomes of the VMA, and
 * in whatever child, the guards are where they were put and the other pages are
 * what they were.
 */
#include <linux/falloc.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

/* What user space sees of guards, whatever they are made of. */
FIXTURE(guard) {
};

FIXTURE_VARIANT(guard) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(guard, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(guard, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(guard, shared) { .backing = SHARED };

FIXTURE_SETUP(guard)
{
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(guard)
{
}

TEST_F(guard, fork)
{
	static const char * const pages[] = {
		"g", "gg", "g...", ".g", ".gr.gg.g", "gw", "wg", "gwwrg.wgg", "....",
	};

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (left_to_others(i))
			continue;
		ASSERT_TRUE(lay(AT, pages[i]));
		EXPECT_TRUE(kept(AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, strlen(pages[i]) * page));
	}
	ASSERT_TRUE(lay(AT, "g.rg"));
	EXPECT_TRUE(kept_in_child(AT, AT, "g.rg", 5));
	EXPECT_TRUE(kept(AT, "g.rg"));
}

TEST_F(guard, fork_many)
{
	pid_t pid;

	ASSERT_TRUE(many_laid());
	for (int i = 0; i < 2; i++) {
		pid = fork();
		if (!pid) {
			pid = fork();
			if (!pid)
				_exit(!many_kept("a grandchild", true));
			_exit(!(succeeds(pid) && many_kept("a child", true)));
		}
		EXPECT_TRUE(succeeds(pid));
		EXPECT_TRUE(many_kept("the parent", false));
	}
}

/* The last of all VMAs: nothing comes after it that could do its work, too. */
TEST_F(guard, fork_last)
{
	char *last = (char *)(1UL << 47) - 2 * page;

	if (!put(last, 1))
		SKIP(return, "no room above the stack");
	ASSERT_EQ(0, guard(last, 1));
	EXPECT_TRUE(kept_moved(last, last, "g"));
}

/* Guards of a child are its own, whatever its parent or its child does. */
TEST_F(guard, parent_and_child)
{
	int go[2];
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	for (int unmap = 0; unmap < 2; unmap++) {
		ASSERT_TRUE(lay(AT, "g..gw"));
		pid = fork();
		if (!pid) {
			if (read(go[0], &c, 1) != 1)
				_exit(1);
			_exit(!kept(AT, "g..gw"));
		}
		EXPECT_EQ(0, unmap ? munmap(AT, 5 * page) : unguard(AT, 5));
		EXPECT_TRUE(kept(AT, unmap ? "-----" : "....w"));
		ASSERT_EQ(1, write(go[1], &c, 1));
		EXPECT_TRUE(succeeds(pid));
		munmap(AT, 5 * page);
	}

	ASSERT_TRUE(lay(AT, "g..g"));
	pid = fork();
	if (!pid)
		_exit(!(!unguard(AT, 4) && !guard(AT + page, 1) && kept(AT, ".g..")));
	EXPECT_TRUE(succeeds(pid));
	EXPECT_TRUE(kept(AT, "g..g"));
}

TEST_F(guard, remove)
{
	/* all of it, in one call and in two */
	ASSERT_TRUE(lay(AT, "gg.g"));
	ASSERT_EQ(0, unguard(AT, 4));
	EXPECT_TRUE(kept(AT, "...."));
	ASSERT_EQ(0, guard(AT + page, 2));
	EXPECT_TRUE(kept(AT, ".gg."));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	ASSERT_TRUE(lay(AT, "gggg"));
	ASSERT_EQ(0, unguard(AT, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "..gg", 2));
	ASSERT_EQ(0, unguard(AT + 2 * page, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "....", 2));
	ASSERT_EQ(0, guard(AT + 3 * page, 1));
	EXPECT_TRUE(kept(AT, "...g"));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* and what a child got is there, though the parent's was removed whole before */
	ASSERT_TRUE(lay(AT, "g.r."));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, unguard(AT, 4));
		EXPECT_TRUE(kept_deep(AT, AT, "....", 1));
		ASSERT_EQ(0, guard(AT + i * page, 1));
		EXPECT_TRUE(kept_deep(AT, AT, i ? i == 1 ? ".g.." : "..g." : "g...", 2));
	}
}

/* Several VMAs in one call, with a hole amid, which is an error, and no more. */
TEST_F(guard, remove_from_many)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	ASSERT_TRUE(lay(AT + 6 * page, "ggwg"));
	ASSERT_TRUE(put_prot(AT + 10 * page, 2, PROT_READ));
	ASSERT_TRUE(fill(AT + 10 * page, "g."));
	ASSERT_EQ(-1, unguard(AT, 14));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "....--..w...--", 2));
	ASSERT_EQ(-1, guard(AT + 3 * page, 5));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g--ggw...--", 2));
	ASSERT_EQ(0, unguard(AT + 7 * page, 4));
	EXPECT_TRUE(kept(AT, "...g--g.w...--"));
}

/* A vector of ranges goes on where a lock had to be dropped. */
TEST_F(guard, remove_vector)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec vec[4] = {
		{ AT, 4 * page }, { AT + 6 * page, 2 * page },
		{ AT + 12 * page, page }, { AT + 16 * page, 4 * page },
	};

	ASSERT_LE(0, pidfd);
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(put(vec[i].iov_base, vec[i].iov_len / page));
	ASSERT_EQ(11 * page, syscall(SYS_process_madvise, pidfd, vec, 4, MADV_GUARD_INSTALL, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gggg--gg----g---gggg", 2));
	/* one of them in part only */
	vec[3].iov_len = 3 * page;
	ASSERT_EQ(10 * page, syscall(SYS_process_madvise, pidfd, vec, 4, MADV_GUARD_REMOVE, 0));
	EXPECT_TRUE(kept(AT, "....--..----.---...g"));
}

/* Each part of a VMA that is split has its guards. */
TEST_F(guard, split)
{
	static const char pages[] = "gwg.rggw";

	for (int what = 0; what < 4; what++) {
		for (int i = 0; i < 8; i++) {
			char left[sizeof(pages)];
			char *p = AT + i * page;

			if (left_to_others(what + i))
				continue;
			memcpy(left, pages, sizeof(left));
			/* guards alone, or with pages of its own */
			for (char *c = left; i & 1 && (c = strchr(c, 'w')); )
				*c = '.';
			ASSERT_TRUE(lay(AT, left));
			if (what == 0)
				ASSERT_EQ(0, mprotect(p, page, PROT_READ));
			if (what == 1)
				ASSERT_EQ(0, mprotect(AT, p - AT, PROT_READ));
			if (what == 2)
				ASSERT_EQ(0, madvise(p, 8 * page - (p - AT), MADV_DONTDUMP));
			if (what == 3) {
				ASSERT_EQ(0, munmap(p, page));
				left[i] = '-';
			}
			EXPECT_TRUE(kept_deep(AT, AT, left, 1)) {
				TH_LOG("split %d at page %d", what, i);
			}
			munmap(AT, 8 * page);
		}
	}
}

TEST_F(guard, protection)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_NONE));
	EXPECT_TRUE(kept_deep(AT, AT, "gggg", 1));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ));
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	ASSERT_EQ(0, guard(AT + page, 1));
	EXPECT_TRUE(kept_deep(AT, AT, "ggwg", 2));
	ASSERT_EQ(0, unguard(AT, 2));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_RW));
	EXPECT_TRUE(kept(AT, "..wg"));

	/* a guard where nothing else may be */
	ASSERT_TRUE(put_prot(AWAY, 4, PROT_NONE));
	ASSERT_EQ(0, guard(AWAY + page, 2));
	ASSERT_EQ(0, mprotect(AWAY, 4 * page, PROT_RW));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, ".gg."));
}

/* A part of a VMA, or all of it, and back. */
TEST_F(guard, mremap)
{
	static const struct { int first, n; } parts[] = {
		{ 0, 8 }, { 0, 3 }, { 2, 1 }, { 3, 2 }, { 5, 3 }, { 7, 1 },
	};
	static const char * const all[] = { "g.wg.gwg", "g..g.grg" };

	for (size_t i = 0; i < ARRAY_SIZE(parts) * 2; i++) {
		int first = parts[i / 2].first, n = parts[i / 2].n;
		char left[9], moved[9], *from = AT + first * page;

		if (left_to_others(i))
			continue;
		snprintf(left, sizeof(left), "%s", all[i & 1]);
		snprintf(moved, sizeof(moved), "%.*s", n, left + first);
		memset(left + first, '-', n);
		ASSERT_TRUE(lay(AT, all[i & 1]));
		ASSERT_EQ(AWAY, mremap(from, n * page, n * page, MREMAP_MAYMOVE | MREMAP_FIXED,
				       AWAY));
		EXPECT_TRUE(kept_deep(AWAY, from, moved, 2));
		EXPECT_TRUE(kept_deep(AT, AT, left, 1));
		ASSERT_EQ(from, mremap(AWAY, n * page, n * page, MREMAP_MAYMOVE | MREMAP_FIXED,
				       from));
		EXPECT_TRUE(kept(AT, all[i & 1]));
		EXPECT_TRUE(as_laid("the place it was moved from", AWAY, AWAY, "--------"));
		ASSERT_EQ(0, munmap(AT, 8 * page));
	}
}

TEST_F(guard, mremap_grow_and_shrink)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_EQ(AT, mremap(AT, 4 * page, 8 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg....", 2));
	ASSERT_EQ(0, guard(AT + 7 * page, 1));
	ASSERT_EQ(AWAY, mremap(AT, 8 * page, 10 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	EXPECT_TRUE(kept_moved(AWAY, AT, "g.wg...g.."));
	ASSERT_EQ(AWAY, mremap(AWAY, 10 * page, page, 0));
	EXPECT_TRUE(kept_moved(AWAY, AT, "g---------"));

	/* nothing but guards */
	ASSERT_TRUE(lay(AT, "gg.g"));
	ASSERT_EQ(AT, mremap(AT, 4 * page, 6 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gg.g..", 2));
	ASSERT_EQ(AT, mremap(AT, 6 * page, 2 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gg----", 2));
	ASSERT_EQ(AT, mremap(AT, 2 * page, 3 * page, 0));
	EXPECT_TRUE(kept(AT, "gg.---"));
}

/* An anonymous VMA that was never faulted in merges with where it comes from. */
TEST_F(guard, mremap_beside_itself)
{
	static const char * const pages[] = { "g.gg", "g.wg" };
	char *at = AT + 8 * page;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		ASSERT_TRUE(lay(at, pages[i]));
		for (int step = 1; step < 4; step++) {
			char *from = at + 4 * (step - 1) * page, *to = from + 4 * page;

			ASSERT_EQ(to, mremap(from, 4 * page, 4 * page,
					     MREMAP_MAYMOVE | MREMAP_FIXED, to));
			EXPECT_TRUE(left_to_others(step) || kept_deep(to, at, pages[i], 1));
			EXPECT_TRUE(as_laid("the right", from, from, "----"));
		}
		for (int step = 3; step >= -1; step--) {
			char *from = at + 4 * step * page, *to = from - 4 * page;

			ASSERT_EQ(to, mremap(from, 4 * page, 4 * page,
					     MREMAP_MAYMOVE | MREMAP_FIXED, to));
			EXPECT_TRUE(left_to_others(step) || kept_deep(to, at, pages[i], 1));
			EXPECT_TRUE(as_laid("the left", from, from, "----"));
		}
		EXPECT_TRUE(kept_moved(at - 8 * page, at, pages[i]));
		ASSERT_EQ(0, munmap(at - 8 * page, 4 * page));

		/* between two others; the pages that it moves from are its neighbours, too */
		ASSERT_TRUE(lay(at, pages[i]));
		ASSERT_TRUE(lay(at + 8 * page, "g."));
		ASSERT_EQ(at + 4 * page, mremap(at, 4 * page, 4 * page,
						MREMAP_MAYMOVE | MREMAP_FIXED, at + 4 * page));
		EXPECT_TRUE(kept_moved(at + 4 * page, at, pages[i]));
		EXPECT_TRUE(kept(at + 8 * page, "g."));
		EXPECT_TRUE(as_laid("between", at, at, "----"));
		ASSERT_EQ(0, munmap(at, 10 * page));
	}
}

/* What is left behind where page tables move and the VMA stays. */
static void stay(char *left, const char *pages)
{
	do {
		*left++ = *pages == 'g' || (*pages == 'w' && !shared()) ? '.' : *pages;
	} while (*pages++);
}

TEST_F(guard, mremap_dontunmap)
{
	static const char * const pages[] = { "g.wg", "g.rg", "gggg" };
	static const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char left[8], *beside = AT + 4 * page;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (left_to_others(i))
			continue;
		stay(left, pages[i]);
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, flags, AWAY));
		EXPECT_TRUE(kept_deep(AWAY, AT, pages[i], 2));
		EXPECT_TRUE(kept_deep(AT, AT, left, 2));
		/* which is as good as new */
		ASSERT_EQ(0, guard(AT + page, 1));
		left[1] = 'g';
		EXPECT_TRUE(kept(AT, left));
		EXPECT_TRUE(kept_moved(AWAY, AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, 4 * page) | munmap(AWAY, 4 * page));

		/* a part of it */
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(AWAY, mremap(AT + 3 * page, page, page, flags, AWAY));
		EXPECT_TRUE(kept_moved(AWAY, AT + 3 * page, "g"));
		snprintf(left, sizeof(left), "%.3s.", pages[i]);
		EXPECT_TRUE(kept(AT, left));
		ASSERT_EQ(0, munmap(AT, 4 * page) | munmap(AWAY, page));

		/* beside where it was */
		stay(left, pages[i]);
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(beside, mremap(AT, 4 * page, 4 * page, flags, beside));
		EXPECT_TRUE(kept_deep(beside, AT, pages[i], 2));
		EXPECT_TRUE(kept(AT, left));
		EXPECT_TRUE(kept_moved(beside, AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, 8 * page));
	}
}

/* Several VMAs, of which some are flagged, in one call. */
TEST_F(guard, mremap_many)
{
	ASSERT_TRUE(lay(AT, "g.rg"));
	ASSERT_TRUE(put_prot(AT + 4 * page, 4, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(fill(AT + 4 * page, "gwg."));
	ASSERT_TRUE(lay(AT + 8 * page, "...."));
	if (mremap(AT, 12 * page, 12 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY) != AWAY &&
	    errno == EFAULT)
		SKIP(return, "kernel that moves one mapping at a time");
	EXPECT_TRUE(kept_moved(AWAY, AT, "g.rggwg....."));
	EXPECT_TRUE(as_laid("the old place", AT, AT, "------------"));
}

/* A second mapping of what is shared has no guards; of what is not, there is none. */
TEST_F(guard, mremap_duplicate)
{
	char *p;

	ASSERT_TRUE(lay(AT, "g.wg"));
	p = mremap(AT, 0, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
	EXPECT_EQ(shared() ? AWAY : MAP_FAILED, p);
	if (shared())
		EXPECT_TRUE(kept_moved(AWAY, AT, "..w."));
	EXPECT_TRUE(kept(AT, "g.wg"));
}

TEST_F(guard, dontfork)
{
	ASSERT_TRUE(lay(AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT + 2 * page, 2 * page, MADV_DONTFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "g.--.g", 2));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_DONTFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "------", 1));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_DOFORK));
	EXPECT_TRUE(kept(AT, "g.wg.g"));
}

/* A child maps something where it has a hole: no guard of the parent's is there. */
TEST_F(guard, dontfork_between)
{
	ASSERT_TRUE(lay(AT, "ggggggg"));
	ASSERT_EQ(0, madvise(AT + 2 * page, 3 * page, MADV_DONTFORK));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			bool ok = as_laid("the child", AT, AT, "gg---gg");

			ok &= put(AT + 2 * page, 3);
			_exit(!(as_laid("the child with a new mapping", AT, AT, "ggrrrgg") && ok));
		}
		EXPECT_TRUE(succeeds(pid));
		/* alone, and with other VMAs in the hole */
		ASSERT_EQ(0, mprotect(AT + 3 * page, page, PROT_READ));
	}
	EXPECT_TRUE(as_laid("the parent", AT, AT, "ggggggg"));
}

TEST_F(guard, mlock)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	/* pages are locked up to the first guard, and the VMA is */
	EXPECT_EQ(-1, mlock(AT, 4 * page));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	EXPECT_EQ(-1, guard(AT + page, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	EXPECT_EQ(0, unguard(AT, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "..wg", 2));
	ASSERT_EQ(0, munlock(AT, 4 * page));
	EXPECT_EQ(0, guard(AT + page, 1));
	EXPECT_TRUE(kept(AT, ".gwg"));

	/* one that never had a page */
	ASSERT_TRUE(lay(AWAY, ".g.g"));
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	EXPECT_TRUE(kept_deep(AWAY, AWAY, ".g.g", 2));
	EXPECT_EQ(-1, guard(AWAY, 1));
	EXPECT_EQ(0, unguard(AWAY, 4));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, guard(AWAY, 1));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..."));
	/* all that comes later */
	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	ASSERT_TRUE(put(AWAY + 8 * page, 1));
	EXPECT_EQ(-1, guard(AWAY + 8 * page, 1));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlockall());
}

TEST_F(guard, advice)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
		MADV_RANDOM, MADV_NORMAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(advice); i++) {
		bool drops = advice[i] == MADV_DONTNEED || advice[i] == MADV_DONTNEED_LOCKED;
		const char *left = drops && !shared() ? "g..g.." : "g.wg.w";

		for (int k = 0; k < 2; k++) {
			if (left_to_others(i + k))
				continue;
			ASSERT_TRUE(lay(AT, k ? "g.wg.w" : "g..g.r"));
			ASSERT_EQ(0, madvise(AT, 6 * page, advice[i])) {
				TH_LOG("advice %d: %s", advice[i], strerror(errno));
			}
			EXPECT_TRUE(kept(AT, k ? left : "g..g..")) {
				TH_LOG("advice %d", advice[i]);
			}
			ASSERT_EQ(0, munmap(AT, 6 * page));
		}
	}
}

TEST_F(guard, populate)
{
	ASSERT_TRUE(lay(AT, "...g."));
	EXPECT_EQ(-1, madvise(AT, 5 * page, MADV_POPULATE_READ));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g.", 2));
	EXPECT_EQ(0, madvise(AT, 3 * page, MADV_POPULATE_READ));
	EXPECT_EQ(-1, madvise(AT, 5 * page, MADV_POPULATE_WRITE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g.", 2));
	EXPECT_EQ(0, madvise(AT + 4 * page, page, MADV_POPULATE_WRITE));
	EXPECT_TRUE(kept(AT, "...g."));
	EXPECT_EQ(-1, madvise(AT + 3 * page, page, MADV_POPULATE_WRITE));
	EXPECT_EQ(0, unguard(AT, 5));
	EXPECT_EQ(0, madvise(AT, 5 * page, MADV_POPULATE_WRITE));
}

/* Others than the process itself: the kernel on its behalf, a debugger. */
TEST_F(guard, system_calls)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), fd = memfd_create("x", 0);
	char c = 0x80 | (index_of(AT) + 1);
	struct iovec here = { &c, 1 }, there = { AT, 1 };

	ASSERT_LE(0, mem);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(lay(AT, "g..g"));
	EXPECT_EQ(-1, pwrite(fd, AT, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pwrite(mem, &c, 1, (off_t)AT));
	EXPECT_TRUE(kept_deep(AT, AT, "g..g", 2));

	/* the one who writes where the process may not gives it a page of its own */
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ));
	EXPECT_EQ(-1, pwrite(mem, &c, 1, (off_t)AT));
	if (!shared()) {
		EXPECT_EQ(1, pwrite(mem, &c, 1, (off_t)(AT + page)));
		EXPECT_TRUE(kept_deep(AT, AT, "gw.g", 2));
	}
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_RW));
	EXPECT_TRUE(kept(AT, shared() ? "g..g" : "gw.g"));
}

/* Whatever it was that it did, nothing of it stays: kmemleak has the last word. */
static void busy(unsigned int seed)
{
	for (unsigned int i = 0;; i++) {
		char *at = AT + (i % 3) * 8 * page;
		pid_t pid;

		if (!put(at, 6))
			munmap(at, 6 * page);
		guard(at + i % 5 * page, 2);
		switch (rand_r(&seed) % 8) {
		case 0:
			mprotect(at + 2 * page, page, PROT_READ);
			break;
		case 1:
			poke(at, 1);
			break;
		case 2:
			mremap(at, 6 * page, 6 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
			break;
		case 3:
			munmap(at + 3 * page, page);
			break;
		case 4:
			pid = fork();
			if (!pid)
				_exit(unguard(at, 6));
			waitpid(pid, NULL, 0);
			break;
		default:
			unguard(at, 6);
		}
	}
}

TEST_F(guard, killed)
{
	for (int i = 0, n = rounds(40); i < n; i++) {
		struct timespec life = { .tv_nsec = 200000L * (1 + i * 7 % 50) };
		int done[2], status;
		char c;
		pid_t pid;

		ASSERT_EQ(0, pipe(done));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			busy(i);
		close(done[1]);
		nanosleep(&life, NULL);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		/* nor are its children left */
		EXPECT_EQ(0, read(done[0], &c, 1));
		close(done[0]);
	}
}

/* What only files have: they get shorter, or a hole. Guards stay, as they always did. */
FIXTURE(file) {
};

FIXTURE_VARIANT(file) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(file, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(file, shared) { .backing = SHARED };
FIXTURE_VARIANT_ADD(file, disk) { .backing = DISK };

FIXTURE_SETUP(file)
{
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(file)
{
}

TEST_F(file, truncate_and_punch)
{
	ASSERT_TRUE(lay(AT, "grr.g"));
	ASSERT_EQ(0, ftruncate(map.fd, AT - FAR_AWAY + 2 * page));
	/* a SIGBUS is not only for poison */
	EXPECT_TRUE(kept_deep(AT, AT, "g.ppg", 2));
	ASSERT_EQ(0, ftruncate(map.fd, FILE_PAGES * page));
	EXPECT_TRUE(kept_deep(AT, AT, "g.zzg", 2));
	/* ext2 has no such call */
	if (variant->backing != DISK) {
		ASSERT_EQ(0, fallocate(map.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       AT - FAR_AWAY, 5 * page));
		EXPECT_TRUE(kept_deep(AT, AT, "gzzzg", 2));
	}
	ASSERT_EQ(0, unguard(AT, 1));
	EXPECT_TRUE(kept(AT, variant->backing == DISK ? "..zzg" : "zzzzg"));
}

/* Pages of which no process has anything, and the kernel nothing for long. */
TEST_F(file, reclaim)
{
	ASSERT_TRUE(lay(AT, "grr.g"));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_PAGEOUT));
	EXPECT_TRUE(kept_deep(AT, AT, "g...g", 2));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_DONTNEED));
	ASSERT_EQ(0, fsync(map.fd) | posix_fadvise(map.fd, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_TRUE(kept(AT, "g...g"));
}

/* A file that may only be read. */
TEST_F(file, read_only)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", map.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map.fd = fd;
	ASSERT_TRUE(put_prot(AT, 4, PROT_READ));
	ASSERT_TRUE(fill(AT, "g.rg"));
	EXPECT_TRUE(kept_deep(AT, AT, "g.rg", 2));
	ASSERT_EQ(0, unguard(AT, 4));
	EXPECT_TRUE(kept_deep(AT, AT, "....", 2));
}

/* Faults map pages around the one that they are for. */
TEST_F(file, fault_around)
{
	ASSERT_TRUE(put(AT, 32));
	for (int i = 0; i < 32; i += 3)
		ASSERT_EQ(0, guard(AT + i * page, 1));
	ASSERT_EQ(expected('.', AT + 16 * page), look(AT + 16 * page));
	EXPECT_TRUE(kept(AT, "g..g..g..g..g..g..g..g..g..g..g."));
}

TEST_HARNESS_MAIN
