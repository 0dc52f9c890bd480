// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions of a file, installed and removed by several threads at once, while
 * others collapse the file into huge pages.
 */
#include "../kselftest_harness.h"
#include "guard_team.h"

/*
 * A file that is collapsed into a huge page, over and over, which frees the page
 * tables of all others that map it, and a mapping of it that gets guards.
 */
FIXTURE(collapse) {
	struct worker worker[3];
	pid_t child;
};

FIXTURE_VARIANT(collapse) {
	bool process, fresh;
};

FIXTURE_VARIANT_ADD(collapse, fresh) { .fresh = true };
FIXTURE_VARIANT_ADD(collapse, removed) { };
FIXTURE_VARIANT_ADD(collapse, fresh_process) { .fresh = true, .process = true };
FIXTURE_VARIANT_ADD(collapse, removed_process) { .process = true };

static bool fresh;

/* The range has one page, then one huge page, and then none again. */
static void act_collapse(struct worker *w)
{
	char *p = at(MAX_AREAS);

	if (pwrite(area.fd, "x", 1, 0) != 1)
		failed(w, "pwrite");
	if (!madvise(p, TABLE * page, MADV_COLLAPSE))
		__atomic_add_fetch(&common->collapsed, 1, __ATOMIC_SEQ_CST);
	if (fallocate(area.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      TABLE * page))
		failed(w, "fallocate");
	__atomic_add_fetch(&common->tried, 1, __ATOMIC_SEQ_CST);
}

static int collapse_map(void)
{
	char *p = mmap(at(MAX_AREAS), TABLE * page, PROT_RW, MAP_SHARED |
		       MAP_FIXED, area.fd, 0);

	return p == MAP_FAILED || madvise(p, TABLE * page, MADV_HUGEPAGE);
}

/* One page table of the area is the one that others free. */
static bool lost(const char *p, int pages)
{
	int last = (pages < TABLE ? pages : TABLE) - 1;

	return !guarded(p) || !guarded(p + last * page);
}

/*
 * What can be lost are the first markers while the last ones are not there yet,
 * so one thread installs many; and a page table whose VMA has its flag only just
 * now, so the other one is quick.
 */
static void act_guard(struct worker *w)
{
	int pages = w->nr ? 1 + rnd(w) % 8 : area.pages;
	bool child = rnd(w) % 8 == 0, wait = rnd(w) % 8 == 0;
	char *p = at(w->nr);
	long tried;

	if (fresh && area_map(w->nr))
		failed(w, "mmap");
	if (install(p, pages))
		failed(w, "install");
	if (lost(p, pages))
		wrong(w, "a guard is not there");
	if (wait) {
		tried = load(&common->tried);
		spin_until(load(&common->tried) > tried + 1 || load(&broken));
		if (lost(p, pages))
			wrong(w, "a guard has vanished");
	}
	if (child && all_in_child(p, pages))
		wrong(w, "a guard is not in the child");
	/* the whole area: only that ends the flag */
	if (fresh ? area_unmap(w->nr) : uninstall(p, area.pages))
		failed(w, "the end");
	common->seen[w->nr]++;
}

FIXTURE_SETUP(collapse)
{
	SETUP();
	area.pages = MAX_PAGES;
	area.huge = true;
	ASSERT_EQ(0, area_file());
	ASSERT_EQ(0, area_map(0));
	ASSERT_EQ(0, area_map(1));
	fresh = variant->fresh;
	if (!variant->process) {
		ASSERT_EQ(0, collapse_map());
		return;
	}
	self->child = fork();
	ASSERT_LE(0, self->child);
	if (!self->child) {
		struct worker w = {};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (area_unmap(0) || area_unmap(1) || collapse_map())
			_exit(1);
		while (!w.err)
			act_collapse(&w);
		_exit(1);
	}
}

FIXTURE_TEARDOWN(collapse)
{
	int status;

	if (self->child <= 0)
		return;
	EXPECT_EQ(0, kill(self->child, SIGKILL));
	ASSERT_EQ(self->child, waitpid(self->child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) {
		TH_LOG("the process that collapses has given up");
	}
}

TEST_F(collapse, install)
{
	struct worker *w = self->worker;
	int i, n = variant->process ? 2 : 3;
	const char *err;

	w[0].act = act_guard;
	w[1].act = act_guard;
	w[2].act = act_collapse;
	w[2].background = true;
	ASSERT_EQ(0, team_start(w, n, 16));
	for_rounds (i, 4000, 3) {
		team_begin(w);
		meet();
		if (load(&broken))
			break;
	}
	err = team_end(w, n);
	EXPECT_STREQ("", err);
	/* or it was no race */
	EXPECT_LT(0, common->collapsed);
	report("%d installations, %ld of %ld times collapsed",
	       common->seen[0] + common->seen[1], common->collapsed,
	       common->tried);
}

/* The same threads; but their process dies. */
TEST(death)
{
	const act_t act[] = {
		act_guard, act_guard, act_collapse, act_collapse
	};
	int n = 0;

	SETUP();
	area.pages = MAX_PAGES;
	ASSERT_EQ(0, area_file());
	ASSERT_EQ(0, collapse_map());
	ASSERT_EQ(0, area_map(0));
	ASSERT_EQ(0, area_map(1));
	team.writes = 1;
	EXPECT_STREQ("", team_dies(act, &n));
	ksft_print_msg("death: %d processes\n", n);
}

TEST_HARNESS_MAIN
