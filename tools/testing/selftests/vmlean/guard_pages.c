// SPDX-License-Identifier: GPL-2.0
/*
 * Guards, and what is beside them in the same VMA: pages that are swapped out, put
 * there by userfaultfd, merged by KSM or collapsed; and what only anonymous memory
 * has.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

/* Pages beside guards that are somewhere else meanwhile. */
FIXTURE(swap) {
	bool on;
};

FIXTURE_VARIANT(swap) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(swap, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(swap, private) { .backing = PRIVATE };

FIXTURE_SETUP(swap)
{
	BACKING_OPEN(variant->backing);
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	self->on = swap_on();
	if (!self->on)
		SKIP(return, "no swap on " SWAP);
	/*
	 * What another CPU has read from swap waits there for the LRU lists, and
	 * MADV_PAGEOUT lets only its own CPU's pages go there.
	 */
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("guard"));
	ASSERT_EQ(0, cg_enter("guard"));
}

FIXTURE_TEARDOWN(swap)
{
	cg_leave();
	EXPECT_TRUE(cg_remove("guard"));
	EXPECT_TRUE(!self->on || swap_off());
}

/* All of the cgroup, as a page that several map is not for MADV_PAGEOUT. */
static bool swap_out(const char *at)
{
	return UNTIL((cg_write("guard", "memory.reclaim", "16M swappiness=200"), swapped(at)));
}

static bool page_out(char *at)
{
	return UNTIL((madvise(at, page, MADV_PAGEOUT), swapped(at)));
}

TEST_F(swap, out_and_in)
{
	ASSERT_TRUE(lay(AT, "g.g.g"));
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(page_out(AT + page));
	EXPECT_TRUE(kept_deep(AT, AT, "gwg.g", 2));
	EXPECT_TRUE(page_out(AT + page));
	/* by writing to it */
	EXPECT_TRUE(rewrite(AT, AT, "gwg.g"));
	EXPECT_TRUE(kept(AT, "gwg.g"));
	/* and where it is when it has moved, merged and been split */
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	EXPECT_TRUE(kept_deep(AWAY, AT, "gwg.", 1));
	EXPECT_TRUE(page_out(AWAY + page));
	ASSERT_EQ(AT, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AT));
	ASSERT_EQ(0, munmap(AT, page));
	EXPECT_TRUE(kept(AT, "-wg.g"));
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_EQ(-1, guard(AT, 5));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept(AT, "-gggg"));
}

/* An anon_vma that each of them got on its own is the one of its page. */
TEST_F(swap, after_fork)
{
	pid_t pid;

	ASSERT_TRUE(lay(AT, "g..g"));
	pid = fork();
	if (!pid) {
		pid_t child = fork();

		if (!child)
			_exit(!(rewrite(AT, AT, "g..g") && page_out(AT + page) &&
				page_out(AT + 2 * page) && kept(AT, "g..g") &&
				page_out(AT + page) && kept(AT, "g..g")));
		_exit(!(fill(AT + page, "w") && page_out(AT + page) && succeeds(child) &&
			kept(AT, "gw.g") && page_out(AT + page) && kept(AT, "gw.g")));
	}
	ASSERT_TRUE(fill(AT + 2 * page, "w"));
	EXPECT_TRUE(page_out(AT + 2 * page));
	EXPECT_TRUE(kept(AT, "g.wg"));
	EXPECT_TRUE(succeeds(pid));
	EXPECT_TRUE(page_out(AT + 2 * page));
	EXPECT_TRUE(kept(AT, "g.wg"));
}

/*
 * A maps, forks B, a page goes to swap, B has it back first, then A, and B exits:
 * A's page must belong to an anon_vma that is still there. A first, or B first.
 */
TEST_F(swap, child_in_first)
{
	int up[2], down[2];
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(up) | pipe(down));
	for (int late = 0; late < 2; late++) {
		ASSERT_TRUE(lay(AT, "g.g."));
		ASSERT_TRUE(fill(AT + page, "w"));
		if (late)
			ASSERT_TRUE(page_out(AT + page));
		pid = fork();
		if (!pid) {
			bool ok = (late || swap_out(AT + page)) && swapped(AT + page) &&
				  as_laid("B", AT, AT, "gwg.");

			ok &= write(up[1], &c, 1) == 1 && read(down[0], &c, 1) == 1;
			_exit(!ok);
		}
		ASSERT_EQ(1, read(up[0], &c, 1));
		EXPECT_TRUE(as_laid("A", AT, AT, "gwg."));
		ASSERT_EQ(1, write(down[1], &c, 1));
		EXPECT_TRUE(succeeds(pid));
		EXPECT_TRUE(as_laid("A", AT, AT, "gwg."));
		/* to find its PTE is to use that anon_vma */
		EXPECT_TRUE(page_out(AT + page));
		EXPECT_TRUE(kept(AT, "gwg."));
		EXPECT_TRUE(page_out(AT + page));
		EXPECT_TRUE(kept(AT, "gwg."));
		ASSERT_EQ(0, munmap(AT, 4 * page));
	}
}

/* The same with more of them, the last of whom has it back first. */
static bool generation(int depth)
{
	pid_t pid;

	if (!depth)
		return swap_out(AT + page) && as_laid("the last", AT, AT, "gwg.");
	pid = fork();
	if (!pid)
		_exit(!generation(depth - 1));
	return succeeds(pid) && as_laid("one of them", AT, AT, "gwg.") &&
	       page_out(AT + page) && as_laid("one of them, again", AT, AT, "gwg.") &&
	       rewrite(AT, AT, "gwg.") && page_out(AT + page) &&
	       as_laid("one that wrote", AT, AT, "gwg.");
}

TEST_F(swap, depth_3)
{
	ASSERT_TRUE(lay(AT, "g.g."));
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(generation(3));
	EXPECT_TRUE(kept(AT, "gwg."));
}

/* swapoff looks for pages in each VMA that may have one. */
TEST_F(swap, swapoff)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	ASSERT_TRUE(lay(AT + 8 * page, "g..g"));
	ASSERT_TRUE(fill(AT + page, "w"));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_READ));
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_TRUE(swap_off());
	self->on = false;
	EXPECT_FALSE(swapped(AT + page));
	EXPECT_TRUE(kept(AT, "gw.g----g..g"));
}

/* Pages that somebody else puts there. */
FIXTURE(uffd) {
	int fd;
};

FIXTURE_VARIANT(uffd) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(uffd, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(uffd, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(uffd, shared) { .backing = SHARED };

FIXTURE_SETUP(uffd)
{
	BACKING_OPEN(variant->backing);
	self->fd = uffd_open();
	if (self->fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
}

FIXTURE_TEARDOWN(uffd)
{
}

TEST_F(uffd, pages_beside_guards)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 8));
	ASSERT_EQ(0, guard(p + 2 * page, 1) | guard(p + 5 * page, 1));
	ASSERT_EQ(0, uffd_register(self->fd, p, 8, UFFDIO_REGISTER_MODE_MISSING));
	/* a page that is missing is not what a guard is */
	EXPECT_TRUE(as_laid("the parent", p, p, "ppgppgpp"));
	/* to copy a page there would be to remove the guard */
	EXPECT_EQ(EEXIST, uffd_poison(self->fd, p + 5 * page));
	EXPECT_EQ(0, uffd_zero(self->fd, p + 3 * page));
	EXPECT_TRUE(as_laid("the parent", p, p, "ppgzpgpp"));
	EXPECT_EQ(0, uffd_copy(self->fd, p + page));
	EXPECT_EQ(0, uffd_copy(self->fd, p + 6 * page));
	EXPECT_EQ(0, uffd_poison(self->fd, p + 4 * page));
	EXPECT_TRUE(as_laid("the parent", p, p, "pwgzpgwp"));
	/* a child has no userfaultfd: what is missing is zero there */
	EXPECT_TRUE(kept_in_child(p, p, "zwgzpgwz", 2));
	ASSERT_EQ(0, uffd_unregister(self->fd, p, 8));
	EXPECT_TRUE(kept(p, "zwgzpgwz"));
}

/* The first page of its own that a flagged VMA gets is one that is copied in. */
TEST_F(uffd, first_page)
{
	char *p = AT;

	for (int zero = 0; zero < 2; zero++, p += 8 * page) {
		ASSERT_TRUE(put(p, 4));
		ASSERT_EQ(0, guard(p, 1) | guard(p + 2 * page, 1));
		ASSERT_EQ(0, uffd_register(self->fd, p, 4, UFFDIO_REGISTER_MODE_MISSING));
		EXPECT_EQ(0, zero ? uffd_zero(self->fd, p + page) :
				    uffd_copy(self->fd, p + page));
		ASSERT_EQ(0, uffd_unregister(self->fd, p, 4));
		EXPECT_TRUE(kept(p, zero ? "gzgz" : "gwgz"));
	}
}

/* Poison is no guard, but as long as there was one, fork copied it. */
TEST_F(uffd, poison_left)
{
	char *p = AT;

	for (int first = 0; first < 2; first++, p += 8 * page) {
		ASSERT_TRUE(put(p, 4));
		if (first)
			ASSERT_EQ(0, guard(p, 1));
		ASSERT_EQ(0, uffd_register(self->fd, p, 4, UFFDIO_REGISTER_MODE_MISSING));
		EXPECT_EQ(0, uffd_poison(self->fd, p + 2 * page));
		ASSERT_EQ(0, uffd_unregister(self->fd, p, 4));
		if (!first)
			ASSERT_EQ(0, guard(p, 1));
		EXPECT_TRUE(kept_deep(p, p, "gzpz", 2));
		ASSERT_EQ(0, unguard(p, 4));
		EXPECT_TRUE(kept(p, "zzpz"));
	}
}

/* One that is poisoned and has no guard has neighbours that do. */
TEST_F(uffd, poison_between)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 2));
	ASSERT_EQ(0, guard(p, 2));
	ASSERT_TRUE(put_prot(p + 2 * page, 2, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(put(p + 4 * page, 2));
	ASSERT_EQ(0, guard(p + 4 * page, 1));
	ASSERT_EQ(0, uffd_register(self->fd, p + 2 * page, 2, UFFDIO_REGISTER_MODE_MISSING));
	EXPECT_EQ(0, uffd_poison(self->fd, p + 3 * page));
	ASSERT_EQ(0, uffd_unregister(self->fd, p + 2 * page, 2));
	EXPECT_TRUE(as_laid("the parent", p, p, "ggzpgz"));
	/* what is shared has no anon_vma: fork copies nothing of it */
	EXPECT_TRUE(kept_in_child(p, p, shared() ? "ggzzgz" : "ggzpgz", 2));
}

TEST_F(uffd, write_protect)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 6));
	ASSERT_EQ(0, guard(p, 1) | guard(p + 3 * page, 1));
	ASSERT_EQ(0, look(p + page));
	ASSERT_EQ(0, uffd_register(self->fd, p, 6, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(self->fd, p, 6, true));
	EXPECT_TRUE(as_laid("the parent", p, p, "gzzgzz"));
	for (int i = 0; i < 6; i++)
		EXPECT_EQ(i % 3 ? POISONED : GUARDED, poke(p + i * page, 1));
	EXPECT_TRUE(kept_in_child(p, p, "gzzgzz", 2));
	/*
	 * A guard that comes later. Not in a file: to drop a page that is write-protected
	 * leaves a marker there, and the call would be restarted for ever.
	 */
	if (variant->backing == ANON) {
		ASSERT_EQ(0, guard(p + 4 * page, 1));
		EXPECT_TRUE(kept_in_child(p, p, "gzzggz", 2));
	}
	ASSERT_EQ(0, uffd_protect(self->fd, p, 6, false));
	EXPECT_EQ(0, poke(p + 2 * page, 0));
	EXPECT_TRUE(kept_deep(p, p, variant->backing == ANON ? "gzzggz" : "gzzgzz", 2));
	ASSERT_EQ(0, unguard(p, 6));
	EXPECT_TRUE(kept_deep(p, p, "zzzzzz", 2));
	ASSERT_EQ(0, guard(p, 2));
	ASSERT_EQ(0, uffd_unregister(self->fd, p, 6));
	EXPECT_TRUE(kept(p, "ggzzzz"));
}

/* A child that is watched, too: each fork waits until somebody has taken its descriptor. */
static void *uffd_fork_event(void *arg)
{
	struct uffd_msg msg;

	if (read(*(int *)arg, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_FORK)
		return NULL;
	*(int *)arg = msg.arg.fork.ufd;
	return arg;
}

TEST_F(uffd, write_protect_in_child)
{
	int fd = uffd_open_with(UFFD_FEATURE_EVENT_FORK, 0), child_fd = fd;
	pthread_t thread;
	void *taken;
	char *p = AT;
	pid_t pid;

	if (fd < 0)
		SKIP(return, "no userfaultfd with UFFD_FEATURE_EVENT_FORK");
	/* guarded, and a page that is there; neighbours of which fork copies guards only */
	ASSERT_TRUE(put(p, 2));
	ASSERT_EQ(0, guard(p, 1));
	ASSERT_TRUE(put_prot(p + 2 * page, 4, PROT_RW | PROT_EXEC));
	ASSERT_EQ(0, guard(p + 2 * page, 1));
	ASSERT_TRUE(put(p + 6 * page, 2));
	ASSERT_EQ(0, guard(p + 7 * page, 1));
	ASSERT_EQ(0, look(p + 3 * page));
	ASSERT_EQ(0, uffd_register(fd, p + 2 * page, 4, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(fd, p + 2 * page, 4, true));
	ASSERT_EQ(POISONED, poke(p + 3 * page, 1));

	ASSERT_EQ(0, pthread_create(&thread, NULL, uffd_fork_event, &child_fd));
	pid = fork();
	if (!pid) {
		bool ok = as_laid("the child", p, p, "gzgzzzzg");

		/* what was there, and what was not */
		ok &= poke(p + 3 * page, 1) == POISONED;
		ok &= poke(p + 4 * page, 1) == POISONED;
		_exit(!ok);
	}
	pthread_join(thread, &taken);
	EXPECT_EQ(&child_fd, taken);
	EXPECT_TRUE(succeeds(pid));
	close(child_fd);
	EXPECT_EQ(POISONED, poke(p + 3 * page, 1));
	close(fd);
}

/* Pages that become one with others. */
#define KSM	"/sys/kernel/mm/ksm/"

FIXTURE(ksm) {
	char run[32], sleep[32], scan[32];
};

FIXTURE_VARIANT(ksm) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(ksm, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(ksm, private) { .backing = PRIVATE };

static long ksm_read(const char *file)
{
	char path[64], buf[64];

	snprintf(path, sizeof(path), KSM "%s", file);
	return read_file(path, buf, sizeof(buf)) < 0 ? -1 : atol(buf);
}

FIXTURE_SETUP(ksm)
{
	BACKING_OPEN(variant->backing);
	if (read_file(KSM "run", self->run, sizeof(self->run)) < 0)
		SKIP(return, "kernel without KSM");
	read_file(KSM "sleep_millisecs", self->sleep, sizeof(self->sleep));
	read_file(KSM "pages_to_scan", self->scan, sizeof(self->scan));
	ASSERT_EQ(0, write_file(KSM "sleep_millisecs", "1"));
	ASSERT_EQ(0, write_file(KSM "pages_to_scan", "1000"));
	ASSERT_EQ(0, write_file(KSM "run", "1"));
}

FIXTURE_TEARDOWN(ksm)
{
	if (!*self->run)
		return;
	write_file(KSM "run", "2");
	write_file(KSM "run", self->run);
	write_file(KSM "sleep_millisecs", self->sleep);
	write_file(KSM "pages_to_scan", self->scan);
}

static bool ksm_scans(int n)
{
	long end = ksm_read("full_scans") + n;

	return UNTIL(ksm_read("full_scans") >= end);
}

TEST_F(ksm, merges_beside_guards)
{
	bool alike = true;

	ASSERT_TRUE(lay(AT, "g....g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_MERGEABLE));
	EXPECT_TRUE(ksm_scans(3));
	EXPECT_TRUE(kept_deep(AT, AT, "g....g", 2));
	for (int i = 1; i < 5; i++) {
		ASSERT_EQ(0, poke(AT + i * page, 1));
		memset(AT + i * page, 0x5a, page);
	}
	EXPECT_TRUE(UNTIL(ksm_read("pages_sharing") >= 3));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			for (int k = 1; k < 5; k++)
				alike &= look(AT + k * page) == 0x5a;
			alike &= !poke(AT + page, 1) && look(AT + page) == 1;
			_exit(!(alike && look(AT) == GUARDED && look(AT + 5 * page) == GUARDED));
		}
		EXPECT_TRUE(succeeds(pid));
		/* a guard instead of a shared page, and another such page */
		ASSERT_EQ(0, guard(AT + 4 * page, 1));
		EXPECT_EQ(GUARDED, look(AT + 4 * page));
		ASSERT_EQ(0, unguard(AT + 4 * page, 1));
		EXPECT_EQ(expected('.', AT + 4 * page), look(AT + 4 * page));
		memset(AT + 4 * page, 0x5a, page);
	}
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_UNMERGEABLE));
	for (int i = 1; i < 5; i++)
		ASSERT_TRUE(fill(AT + i * page, "w"));
	EXPECT_TRUE(kept(AT, "gwwwwg"));
}

/* Huge pages: page tables that are there no more, or must be. */
FIXTURE(huge) {
	char *a;
};

FIXTURE_VARIANT(huge) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(huge, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(huge, shared) { .backing = SHARED };

FIXTURE_SETUP(huge)
{
	NEEDS_HUGE_PAGES();
	BACKING_OPEN(variant->backing);
	self->a = FAR_AWAY;
}

FIXTURE_TEARDOWN(huge)
{
}

/* A file of so many huge pages, all of them small ones now; mapped at @a. */
static bool huge_file(char *a, int n)
{
	close(map.fd);
	map.fd = memfd_create("huge", MFD_CLOEXEC);
	if (ftruncate(map.fd, n * HUGE))
		return false;
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < HUGE / page; k++) {
			char c = k + 1;

			if (pwrite(map.fd, &c, 1, i * HUGE + k * page) != 1)
				return false;
		}
	return mmap(a, n * HUGE, PROT_RW, map.flags | MAP_FIXED, map.fd, 0) == a;
}

/* By a mapping of another process: how it ended. */
static int collapse_there(char *a, char *b, size_t at)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		munmap(a, 64 * HUGE);
		if (mmap(b, HUGE, PROT_RW, MAP_SHARED | MAP_FIXED, map.fd, at) != b)
			_exit(255);
		for (int i = 0; i < 10; i++) {
			if (!madvise(b, HUGE, MADV_COLLAPSE))
				_exit(0);
			if (errno != EAGAIN && errno != EBUSY)
				break;
		}
		_exit(errno);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool touch_all(char *a)
{
	bool ok = true;

	for (size_t k = 0; k < HUGE / page; k++)
		ok &= look(a + k * page) == ((k + 1) & 0xff);
	return ok;
}

/* Without a guard ever, with them all removed, with them removed one by one. */
TEST_F(huge, collapse_after_remove)
{
	for (int what = 0; what < 3; what++) {
		/* 7.3 looks into the page table, 6.18 knows of a removal of all */
		bool freed = !what || option_here() || (what == 1 && flags_here());
		long before;

		ASSERT_TRUE(huge_file(self->a, 1));
		ASSERT_TRUE(touch_all(self->a));
		if (what) {
			ASSERT_EQ(0, guard(self->a + 3 * page, 3));
			ASSERT_EQ(GUARDED, look(self->a + 4 * page));
		}
		if (what == 1)
			ASSERT_EQ(0, unguard(self->a, HUGE / page));
		if (what == 2)
			ASSERT_EQ(0, unguard(self->a, 5) | unguard(self->a + 5 * page, 1));
		before = page_tables();
		ASSERT_EQ(0, collapse_there(self->a, AWAY, 0));
		EXPECT_EQ(freed ? 4 : 0, before - page_tables()) {
			TH_LOG("%d: freed %ld kB of page tables", what, before - page_tables());
		}
		EXPECT_EQ(2, look(self->a + page));
		EXPECT_EQ(freed ? 2048 : 0, atol(smaps_of(self->a, "ShmemPmdMapped"))) {
			TH_LOG("%d: ShmemPmdMapped: %s", what, smaps_of(self->a, "ShmemPmdMapped"));
		}
		EXPECT_TRUE(touch_all(self->a));
		ASSERT_EQ(0, munmap(self->a, HUGE));
	}
}

TEST_F(huge, guard_survives_collapse)
{
	ASSERT_TRUE(huge_file(self->a, 1));
	ASSERT_TRUE(touch_all(self->a));
	ASSERT_EQ(0, guard(self->a + 3 * page, 1) | guard(self->a + 511 * page, 1));
	ASSERT_EQ(0, collapse_there(self->a, AWAY, 0));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(self->a + 3 * page) != GUARDED || look(self->a) != 1 ||
			      look(self->a + 511 * page) != GUARDED ||
			      look(self->a + 510 * page) != 255);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(self->a + 3 * page));
		EXPECT_EQ(GUARDED, look(self->a + 511 * page));
		EXPECT_EQ(3, look(self->a + 2 * page));
		EXPECT_EQ(5, look(self->a + 4 * page));
		/* nor can it be mapped huge here */
		EXPECT_EQ(-1, madvise(self->a, HUGE, MADV_COLLAPSE));
		EXPECT_EQ(GUARDED, look(self->a + 3 * page));
		EXPECT_EQ(GUARDED, look(self->a + 511 * page));
		EXPECT_EQ(0, atol(smaps_of(self->a, "ShmemPmdMapped")));
	}
	/* but can, then */
	ASSERT_EQ(0, unguard(self->a, HUGE / page));
	EXPECT_EQ(0, madvise(self->a, HUGE, MADV_COLLAPSE));
	EXPECT_EQ(2048, atol(smaps_of(self->a, "ShmemPmdMapped")));
	EXPECT_TRUE(touch_all(self->a));

	/* a guard in what is huge */
	ASSERT_EQ(0, guard(self->a + 7 * page, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(self->a + 7 * page) != GUARDED || look(self->a) != 1 ||
			      look(self->a + 511 * page) != 0);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(self->a + 7 * page));
		EXPECT_EQ(9, look(self->a + 8 * page));
		EXPECT_EQ(0, look(self->a + 511 * page));
	}
}

/* To look whether a guard is left splits nothing. */
TEST_F(huge, remove_beside_huge_page)
{
	char *second = self->a + HUGE;

	ASSERT_TRUE(huge_file(self->a, 2));
	ASSERT_EQ(0, madvise(self->a, 2 * HUGE, MADV_COLLAPSE));
	ASSERT_EQ(4096, atol(smaps_of(self->a, "ShmemPmdMapped")));
	ASSERT_EQ(0, guard(second + 3 * page, 1));
	ASSERT_EQ(2048, atol(smaps_of(self->a, "ShmemPmdMapped")));
	ASSERT_EQ(0, unguard(self->a, 2 * HUGE / page));
	EXPECT_EQ(2048, atol(smaps_of(self->a, "ShmemPmdMapped")));
	EXPECT_TRUE(touch_all(self->a));
	EXPECT_EQ(5, look(second + 4 * page));
}

/* What only anonymous memory has. */
FIXTURE(anon) {
};

FIXTURE_SETUP(anon)
{
	BACKING_OPEN(ANON);
}

FIXTURE_TEARDOWN(anon)
{
}

TEST_F(anon, wipeonfork)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_TRUE(lay(AWAY, "g..g"));
	ASSERT_EQ(0, madvise(AT, 4 * page, MADV_WIPEONFORK));
	ASSERT_EQ(0, madvise(AWAY, 4 * page, MADV_WIPEONFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "zzzz", 2));
	EXPECT_TRUE(kept_in_child(AWAY, AWAY, "zzzz", 2));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg"));
	EXPECT_TRUE(as_laid("the parent", AWAY, AWAY, "g..g"));
	ASSERT_EQ(0, madvise(AT, 4 * page, MADV_KEEPONFORK));
	ASSERT_EQ(0, madvise(AWAY, 4 * page, MADV_KEEPONFORK));
	EXPECT_TRUE(kept(AT, "g.wg"));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..g"));
}

/* A stack that grows needs an anon_vma for that. */
TEST_F(anon, growsdown)
{
	char *top = AWAY;

	ASSERT_EQ(top, mmap(top, 4 * page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN |
			    MAP_FIXED_NOREPLACE, -1, 0));
	ASSERT_TRUE(fill(top, ".g.g"));
	ASSERT_EQ(0, look(top - page));
	EXPECT_TRUE(kept_deep(top - page, top - page, "..g.g", 2));
	/* one at its end stops it */
	ASSERT_EQ(0, guard(top - page, 1));
	ASSERT_EQ(GUARDED, poke(top - page, 1));
	EXPECT_TRUE(kept_moved(top - page, top - page, "g.g.g"));
}

TEST_F(anon, lazyfree)
{
	ASSERT_TRUE(lay(AT, "g..rg"));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_FREE));
	EXPECT_TRUE(kept_deep(AT, AT, "g...g", 2));
	ASSERT_EQ(0, poke(AT + page, 1));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_FREE));
	EXPECT_EQ(GUARDED, look(AT));
	EXPECT_EQ(GUARDED, look(AT + 4 * page));
	/* written after that, a page stays */
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(kept(AT, "gw..g"));
}

/* The heap grows over what it was shrunk to, with a guard at that end. */
TEST_F(anon, heap)
{
	char *heap = sbrk(0), *at = (char *)(((unsigned long)heap + page) & -page), *was;

	ASSERT_EQ(0, brk(at + 4 * page));
	was = at;
	ASSERT_EQ(0, guard(at, 1) | guard(at + 3 * page, 1));
	ASSERT_EQ(0, brk(at + 8 * page));
	EXPECT_TRUE(kept_deep(at, was, "g..g....", 2));
	ASSERT_EQ(0, brk(at + 4 * page));
	ASSERT_EQ(0, brk(at + 6 * page));
	EXPECT_TRUE(kept(at, "g..g.."));
	ASSERT_EQ(0, unguard(at, 6));
	ASSERT_EQ(0, brk(heap));
}

/* A page that moves from one VMA to another has the other's anon_vma. */
TEST_F(anon, uffd_move)
{
	struct uffdio_move move = { .dst = (unsigned long)AT, .src = (unsigned long)AWAY,
				    .len = page };
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_TRUE(put(AWAY, 4));
	ASSERT_EQ(0, guard(AT + page, 1) | guard(AWAY + page, 1));
	ASSERT_EQ(0, poke(AWAY, expected('w', AT)));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move));
	move.dst += page;
	ASSERT_EQ(0, poke(AWAY + 2 * page, 7));
	move.src += 2 * page;
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_MOVE, &move));
	EXPECT_EQ(EEXIST, errno);
	ASSERT_EQ(0, uffd_unregister(fd, AT, 4));
	EXPECT_TRUE(kept_deep(AT, AT, "wg..", 2));
	EXPECT_EQ(GUARDED, look(AWAY + page));
	EXPECT_EQ(7, look(AWAY + 2 * page));
	EXPECT_TRUE(kept(AT, "wg.."));
}

TEST_F(anon, huge_page)
{
	char *p = FAR_AWAY;

	NEEDS_HUGE_PAGES();
	ASSERT_TRUE(put(p, HUGE / page));
	ASSERT_EQ(0, madvise(p, HUGE, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, guard(p, HUGE / page));
	ASSERT_EQ(0, unguard(p, HUGE / page));
	for (size_t k = 0; k < HUGE / page; k++)
		ASSERT_EQ(0, poke(p + k * page, k + 1));
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	ASSERT_EQ(0, madvise(p, HUGE, MADV_HUGEPAGE));
	ASSERT_EQ(-1, madvise(p, HUGE, MADV_COLLAPSE));
	EXPECT_EQ(GUARDED, look(p + 5 * page));
	EXPECT_EQ(7, look(p + 6 * page));
	ASSERT_EQ(0, unguard(p + 5 * page, 1));
	ASSERT_EQ(0, poke(p + 5 * page, 6));
	ASSERT_TRUE(UNTIL(!madvise(p, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(2048, atol(smaps_of(p, "AnonHugePages")));
	EXPECT_TRUE(touch_all(p));

	/* a guard in what is huge */
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(p + 5 * page) != GUARDED || look(p) != 1 ||
			      look(p + 511 * page) != 0 || look(p + 6 * page) != 7);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(p + 5 * page));
		EXPECT_EQ(7, look(p + 6 * page));
	}
}

/* A huge page that a fault maps where there was nothing but a removed guard. */
TEST_F(anon, huge_fault)
{
	char *p = FAR_AWAY;

	NEEDS_HUGE_PAGES();
	ASSERT_TRUE(put(p, 2 * HUGE / page));
	ASSERT_EQ(0, madvise(p, 2 * HUGE, MADV_HUGEPAGE));
	/* in one of two: the other has no page table, and is flagged */
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	ASSERT_EQ(0, poke(p + HUGE, 1));
	ASSERT_EQ(0, poke(p, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(p + 5 * page) != GUARDED || look(p) != 1 ||
			      look(p + HUGE) != 1 || look(p + HUGE + page) != 0);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(p + 5 * page));
		EXPECT_EQ(1, look(p + HUGE));
	}
}

/* No huge page where no page is: to collapse takes an anon_vma. */
TEST_F(anon, huge_unfaulted)
{
	char *p = FAR_AWAY;

	EXPECTATIONS();
	NEEDS_HUGE_PAGES();
	ASSERT_TRUE(put(p, 2 * HUGE / page));
	ASSERT_EQ(0, madvise(p, 2 * HUGE, MADV_HUGEPAGE));
	ASSERT_EQ(0, guard(p + HUGE + 5 * page, 1));
	/* a page table, and nothing in it */
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	ASSERT_EQ(0, unguard(p + 5 * page, 1));
	EXPECT_TRUE(bare_guards() ? madvise(p, HUGE, MADV_COLLAPSE) == -1 :
				   UNTIL(!madvise(p, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(GUARDED, look(p + HUGE + 5 * page));
	EXPECT_EQ(0, look(p + 5 * page));
	/* it has one now */
	ASSERT_EQ(0, poke(p, 1));
	EXPECT_TRUE(UNTIL(!madvise(p, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(GUARDED, look(p + HUGE + 5 * page));
	EXPECT_EQ(1, look(p));
}

static bool accounted(const char *at)
{
	return strstr(smaps_of(at, "VmFlags"), " ac ");
}

TEST_F(anon, account)
{
	EXPECTATIONS();
	ASSERT_TRUE(lay(AT, "...."));
	ASSERT_TRUE(lay(AWAY, "g..g"));
	ASSERT_TRUE(lay(AWAY + 8 * page, "g.wg"));
	ASSERT_TRUE(accounted(AT) && accounted(AWAY) && accounted(AWAY + 8 * page));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ) | mprotect(AWAY, 4 * page, PROT_READ) |
		     mprotect(AWAY + 8 * page, 4 * page, PROT_READ));
	EXPECT_FALSE(accounted(AT));
	EXPECT_EQ(!bare_guards(), accounted(AWAY));
	EXPECT_TRUE(accounted(AWAY + 8 * page));
	EXPECT_TRUE(kept_deep(AWAY, AWAY, "g..g", 2));
	ASSERT_EQ(0, mprotect(AWAY, 4 * page, PROT_RW));
	EXPECT_TRUE(accounted(AWAY));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..g----g.wg"));
}

/* An offset that nobody needs yet becomes the one of the new place. */
TEST_F(anon, merge_where_it_moves)
{
	int due[] = { 1, bare_guards() ? 1 : 3, 3 };

	EXPECTATIONS();
	for (int what = 0; what < 3; what++) {
		ASSERT_TRUE(lay(AT, "...."));
		ASSERT_TRUE(lay(AT + 8 * page, ".r.."));
		ASSERT_TRUE(put(AWAY, 4));
		if (what)
			ASSERT_TRUE(fill(AWAY, what == 1 ? "gr.g" : "gw.g"));
		ASSERT_EQ(AT + 4 * page, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE |
						MREMAP_FIXED, AT + 4 * page));
		EXPECT_EQ(due[what], vmas(AT, 12));
		if (what)
			EXPECT_TRUE(kept_moved(AT + 4 * page, AWAY, what == 1 ? "gr.g" : "gw.g"));
		EXPECT_TRUE(kept(AT, "...."));
		ASSERT_EQ(0, munmap(AT, 12 * page));
	}
}

TEST_HARNESS_MAIN
