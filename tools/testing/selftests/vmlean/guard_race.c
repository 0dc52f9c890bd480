// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions, installed and removed by several threads at once, while others
 * fault and fork, or die.
 */
#include "../kselftest_harness.h"
#include "guard_team.h"

FIXTURE(area) {
	struct worker worker[4];
	int areas;
};

FIXTURE_VARIANT(area) {
	int pages;
	bool file, private, huge;
};

FIXTURE_VARIANT_ADD(area, anon_1) { .pages = 1, .private = true };
FIXTURE_VARIANT_ADD(area, anon_8) { .pages = 8, .private = true };
FIXTURE_VARIANT_ADD(area, anon_big) { .pages = MAX_PAGES, .private = true };
FIXTURE_VARIANT_ADD(area, private_3) { .pages = 3, .private = true, .file = true };
FIXTURE_VARIANT_ADD(area, shared_8) { .pages = 8, .file = true };
FIXTURE_VARIANT_ADD(area, shared_huge) { .pages = TABLE, .file = true, .huge = true };
FIXTURE_VARIANT_ADD(area, shared_big) { .pages = MAX_PAGES, .file = true };

FIXTURE_SETUP(area)
{
	SETUP();
	area.pages = variant->pages;
	area.private = variant->private;
	area.huge = variant->huge;
	if (variant->file)
		ASSERT_EQ(0, area_file());
	self->areas = area.pages > 8 ? 1 : MAX_AREAS;
}

FIXTURE_TEARDOWN(area)
{
}

/* Two of these: each its half, now and then all. */
static void act_install(struct worker *w)
{
	int n = area.pages, half = (n + 1) / 2;
	bool all = rnd(w) % 4 == 0;

	if (install(at(area.nr) + (all || !w->nr ? 0 : n - half) * page,
		    all ? n : half))
		failed(w, "install");
}

static void act_remove(struct worker *w)
{
	__atomic_add_fetch(&team.removals, 1, __ATOMIC_SEQ_CST);
	if (uninstall(at(area.nr), area.pages))
		failed(w, "remove");
	__atomic_add_fetch(&team.removals, 1, __ATOMIC_SEQ_CST);
}

/* Most of the time only reads. */
static void act_fault(struct worker *w)
{
	char *p = at(area.nr) + rnd(w) % area.pages * page;

	if (load(&team.writes) && rnd(w) % 4 == 0)
		poke(p);
	else
		guarded(p);
}

/*
 * All begin at the same time, on area after area. Then they wait, and what has
 * come out of it is compared with what a child has.
 */
TEST_F(area, in_step)
{
	/* on 7.3 fork does it */
	bool at_fork = *kconfig("CONFIG_GUARD_NO_ANON_VMA");
	const char *feature = at_fork ? "guard" : "anon_vma";
	const char *event = at_fork ? "forgotten" : "cleared";
	long cleared = stat_read(feature, event);
	struct worker *w = self->worker;
	int i, a, wrong = 0;
	const char *err;

	w[0].act = act_install;
	w[1].act = act_install;
	w[2].act = act_remove;
	w[3].act = act_fault;
	ASSERT_EQ(0, team_start(w, 4, 1));
	for_rounds (i, 20000, 1.5) {
		/* a write that comes through ends what there is to see */
		if (i % 8 == 0)
			for (a = 0; a < self->areas; a++)
				ASSERT_EQ(0, area_map(a));
		team.writes = i % 8 > 5;
		for (a = 0; a < self->areas; a++) {
			area.nr = a;
			team_begin(w);
			meet();
		}
		wrong = compare_with_child(self->areas);
		if (wrong)
			break;
	}
	err = team_end(w, 4);
	EXPECT_EQ(0, wrong) {
		TH_LOG("round %d: parent and child differ", i);
	}
	EXPECT_STREQ("", err);
	/* or nothing of it was a race with the end of a flag */
	if (cleared >= 0)
		EXPECT_LT(cleared, stat_read(feature, event));
	report("%d rounds of %d areas", i, self->areas);
}

/*
 * What a thread says about its pages, in one word: the state, a count of its
 * changes, and which number the removals of everything had.
 */
enum { BUSY, BARE, MAYBE, SURE };

static struct slot {
	uint64_t word;
	uint32_t changes;
} slots[4];

static void slot_set(struct slot *s, int state, uint32_t removals)
{
	s->changes++;
	store(&s->word, (uint64_t)removals << 32 | s->changes << 2 | state);
}

static int slot_from(int s)
{
	return s * area.pages / 4;
}

static int slot_pages(int s)
{
	return slot_from(s + 1) - slot_from(s);
}

/* First, last and a page in between. */
static int slot_guards(int s)
{
	char *p = at(0) + slot_from(s) * page;
	int n = slot_pages(s);

	return guarded(p) + 2 * guarded(p + (n - 1) * page) +
	       4 * guarded(p + n / 2 * page);
}

static void act_slot(struct worker *w)
{
	int i = w->nr + 2 * (rnd(w) % 2), n = slot_pages(i);
	char *p = at(0) + slot_from(i) * page;
	uint32_t before, after;
	long forks;

	if (!n)
		return;
	slot_set(&slots[i], BUSY, 0);
	before = load(&team.removals);
	if (install(p, n))
		failed(w, "install");
	after = load(&team.removals);
	slot_set(&slots[i], before == after && before % 2 == 0 ? SURE : MAYBE, before);
	/* Where forks take long, none would begin and end between two changes. */
	if (rnd(w) % 8 == 0) {
		forks = load(&team.forks);
		spin_until(load(&team.forks) > forks + 1 || load(&broken));
	}
	if (rnd(w) % 4)
		return;
	slot_set(&slots[i], BUSY, 0);
	if (uninstall(p, n))
		failed(w, "remove");
	slot_set(&slots[i], BARE, 0);
}

static void act_remove_seldom(struct worker *w)
{
	if (rnd(w) % 4 == 0)
		act_remove(w);
}

static const char *fork_meanwhile(long *sure, long *maybe)
{
	uint64_t before[4], after[4];
	uint32_t removals[3];
	int s, here[4];
	pid_t pid;

	store(&team.forks, team.forks + 1);
	for (s = 0; s < 4; s++)
		before[s] = load(&slots[s].word);
	removals[0] = load(&team.removals);
	pid = fork();
	if (!pid) {
		for (s = 0; s < 4; s++)
			common->seen[s] = slot_pages(s) ? slot_guards(s) : 0;
		_exit(0);
	}
	removals[1] = load(&team.removals);
	for (s = 0; s < 4; s++) {
		here[s] = slot_pages(s) ? slot_guards(s) : 0;
		after[s] = load(&slots[s].word);
	}
	removals[2] = load(&team.removals);
	if (child_wrong(pid))
		return "the child died";
	for (s = 0; s < 4; s++) {
		int state = before[s] % 4;
		bool known = state == SURE && before[s] >> 32 == removals[0];

		if (!slot_pages(s) || before[s] != after[s] || state < MAYBE)
			continue;
		/* nobody has begun to remove it until after the fork */
		if (known && removals[0] == removals[1]) {
			(*sure)++;
			if (common->seen[s] != 7)
				return "a guard is not in the child";
		}
		if (known && removals[0] == removals[2] && here[s] != 7)
			return "a guard has vanished";
		/* nobody has installed it since before the fork */
		*maybe += here[s] && !known;
		if (here[s] & ~common->seen[s])
			return "a guard is only in the parent";
	}
	return NULL;
}

/* All as fast as they can; and forks, whatever they are doing. */
TEST_F(area, at_will)
{
	struct worker *w = self->worker;
	long sure = 0, maybe = 0;
	const char *err = NULL, *end;
	int i, wrong = 0;

	w[0].act = act_slot;
	w[1].act = act_slot;
	w[2].act = act_remove_seldom;
	w[3].act = act_fault;
	w[3].background = true;
	ASSERT_EQ(0, team_start(w, 4, area.pages > 8 ? 4 : 12));
	/* until something was known, if there is more than one page to know about */
	for_rounds (i, 4000, sure + maybe || area.pages == 1 ? 1.5 : 100) {
		ASSERT_EQ(0, area_map(0));
		memset(slots, 0, sizeof(slots));
		team.writes = i % 4 == 3;
		team_begin(w);
		while (!err && load(&team.busy)) {
			err = fork_meanwhile(&sure, &maybe);
			if (err)
				store(&broken, 1);
		}
		meet();
		if (!err)
			wrong = compare_with_child(1);
		if (err || wrong)
			break;
	}
	end = team_end(w, 4);
	EXPECT_EQ(NULL, err) {
		TH_LOG("round %d: %s", i, err);
	}
	EXPECT_EQ(0, wrong) {
		TH_LOG("round %d: parent and child differ", i);
	}
	EXPECT_STREQ("", end);
	EXPECT_TRUE(sure + maybe || area.pages == 1);
	report("%d rounds, %ld forks, %ld guards surely there, %ld found there",
	       i, team.forks, sure, maybe);
}

/* The same threads; but their process dies. */
TEST(death)
{
	const act_t act[] = {
		act_install, act_install, act_remove, act_fault
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

/*
 * A flag gives way to one anon_vma, whoever faults first, and a VMA that several
 * guard at once is flagged once.
 */
static void act_write_own(struct worker *w)
{
	store(at(area.nr) + (1 + w->nr) * page, 1 + w->nr);
}

static void act_install_last(struct worker *w)
{
	if (install(at(area.nr) + 3 * page, 1))
		failed(w, "install");
}

FIXTURE(count) {
	struct worker worker[3];
	int stats;
};

FIXTURE_VARIANT(count) {
	act_t act[3];
	bool guard, write;	/* there is one before; some write */
	bool split;		/* two VMAs, which may share an anon_vma */
};

FIXTURE_VARIANT_ADD(count, install) {
	.act = { act_install, act_install, act_install }
};
FIXTURE_VARIANT_ADD(count, write) {
	.act = { act_write_own, act_write_own, act_install_last },
	.guard = true, .write = true
};
FIXTURE_VARIANT_ADD(count, install_and_write) {
	.act = { act_write_own, act_write_own, act_install_last }, .write = true
};
FIXTURE_VARIANT_ADD(count, neighbours) {
	.act = { act_write_own, act_write_own, act_install_last },
	.write = true, .split = true
};

FIXTURE_SETUP(count)
{
	SETUP();
	STATS_OPEN(self->stats);
	if (stat_read("anon_vma", "upgraded") < 0)
		SKIP(return, "kernel without CONFIG_ANON_VMA_FLAGS");
	area.pages = 4;
	area.private = true;
}

FIXTURE_TEARDOWN(count)
{
	stats_close(self->stats);
}

TEST_F(count, at_once)
{
	struct worker *w = self->worker;
	long upgraded, flagged;
	const char *err;
	int i, a;

	for (a = 0; a < 3; a++)
		w[a].act = variant->act[a];
	ASSERT_EQ(0, team_start(w, 3, 1));
	for_rounds (i, 3000, 2) {
		flagged = stat_read("anon_vma", "flagged");
		upgraded = stat_read("anon_vma", "upgraded");
		for (a = 0; a < MAX_AREAS; a++) {
			ASSERT_EQ(0, area_map(a));
			if (variant->split)
				ASSERT_EQ(0, mprotect(at(a) + 2 * page, 2 * page,
						      PROT_RW | PROT_EXEC));
			if (variant->guard || variant->split)
				ASSERT_EQ(0, install(at(a), 1));
		}
		for (area.nr = 0; area.nr < MAX_AREAS; area.nr++) {
			team_begin(w);
			meet();
		}
		flagged = stat_read("anon_vma", "flagged") - flagged;
		upgraded = stat_read("anon_vma", "upgraded") - upgraded;
		/* if a write comes first there is no flag */
		if (variant->guard || !variant->write)
			ASSERT_EQ(MAX_AREAS, flagged);
		ASSERT_EQ(variant->write ? flagged : 0, upgraded);
		for (a = 0; a < MAX_AREAS && variant->write; a++) {
			ASSERT_EQ(1, at(a)[page]);
			ASSERT_EQ(2, at(a)[2 * page]);
		}
		ASSERT_EQ(0, compare_with_child(MAX_AREAS));
	}
	err = team_end(w, 3);
	EXPECT_STREQ("", err);
	report("%d rounds of %d areas", i, MAX_AREAS);
}

TEST_HARNESS_MAIN
