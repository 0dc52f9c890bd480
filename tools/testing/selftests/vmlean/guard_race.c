// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions, installed and removed by several threads at once, while others
 * fault, fork, change the mappings, collapse the file into huge pages, or die.
 *
 * Two things hold in whatever order all that comes: a guard whose installation
 * has returned is there until somebody begins to remove it; and a child has the
 * guards that its parent had in the moment of the fork, no more and no less.
 */
#include <limits.h>
#include <linux/falloc.h>
#include <linux/mman.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>

#include "vmlean_util.h"

#define TABLE		512		/* pages of a page table */
#define MAX_PAGES	(8 * TABLE)
#define MAX_AREAS	16
#define PM_GUARD	(1ULL << 58)	/* in /proc/PID/pagemap */
#define THP		"/sys/kernel/mm/transparent_hugepage/"

#define load(p)		__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store(p, v)	__atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

static size_t page;
static int pagemap = -1;

/* Races want a khugepaged that never sleeps, and preemption wherever it can be. */
static struct knob {
	const char *file, *value;
	char old[64];
} knobs[] = {
	{ THP "khugepaged/scan_sleep_millisecs", "0", "" },
	{ THP "khugepaged/pages_to_scan", "65536", "" },
	{ THP "shmem_enabled", "advise", "" },
	{ "/sys/kernel/debug/sched/preempt", "full", "" },
};

/* Of a list of choices the one in [] or () is in force. */
static void __attribute__((constructor)) knobs_turn(void)
{
	char text[256], *s;

	if (getenv("VMLEAN_EXEC"))	/* what a test has execed */
		_exit(0);
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		if (read_file(knobs[i].file, text, sizeof(text)) <= 0)
			continue;
		s = strpbrk(text, "[(");
		s = s ? s + 1 : text;
		s[strcspn(s, "])\n")] = '\0';
		snprintf(knobs[i].old, sizeof(knobs[i].old), "%.63s", s);
		write_file(knobs[i].file, knobs[i].value);
	}
}

/* Only the process that main() is in gets here: tests end in _exit(). */
static void __attribute__((destructor)) knobs_return(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++)
		if (*knobs[i].old)
			write_file(knobs[i].file, knobs[i].old);
}

/*
 * Waiting is spinning. An emulated CPU gives way to another at a pause, but gets
 * it back only when that one pauses, or much later.
 */
#define spin_until(cond)			\
do {						\
	while (!(cond)) {			\
		sched_yield();			\
		__builtin_ia32_pause();		\
	}					\
} while (0)

/* What all threads work on: VMAs that are alike, each with nothing near it. */
static struct {
	int pages, nr, fd;
	bool private, huge;
} area = { .fd = -1 };

static size_t bytes(void)
{
	return area.pages * page;
}

static char *at(int nr)
{
	return FAR_AWAY + (nr + 1) * 2L * MAX_PAGES * page;
}

static int area_map(int nr)
{
	int flags = area.private ? MAP_PRIVATE : MAP_SHARED;

	if (area.fd < 0)
		flags |= MAP_ANONYMOUS;
	if (mmap(at(nr), bytes(), PROT_RW, flags | MAP_FIXED, area.fd, 0) != at(nr))
		return -1;
	return area.huge ? madvise(at(nr), bytes(), MADV_HUGEPAGE) : 0;
}

static int area_unmap(int nr)
{
	return munmap(at(nr), bytes());
}

static int install(char *p, int pages)
{
	return madvise(p, pages * page, MADV_GUARD_INSTALL);
}

static int uninstall(char *p, int pages)
{
	return madvise(p, pages * page, MADV_GUARD_REMOVE);
}

/* The kernel reads a path there, which is empty, or cannot. */
static bool guarded(const char *p)
{
	return syscall(SYS_access, p, F_OK) && errno == EFAULT;
}

/* A write fault, unless there is a guard. */
static bool poke(char *p)
{
	return !syscall(SYS_clock_getres, CLOCK_MONOTONIC, p);
}

/* Which pages have guards, without a fault. */
static int guards_read(int fd, const char *p, int pages, uint64_t *map)
{
	return pread(fd, map, pages * 8, (unsigned long)p / page * 8) ==
	       pages * 8 ? 0 : -1;
}

/* What processes of a test have in common. */
static struct common {
	int seen[MAX_AREAS];
	long collapsed, tried;
	int ready;
} *common;

/* The threads of a test: all at work, or all waiting. */
static struct {
	int nr, arrived, round, end;
	int acts, busy;			/* who has so much to do, and is not done */
	int writes;
	long forks;			/* that have begun */
	uint32_t removals;		/* of all guards; odd while at it */
} team;

struct worker {
	void (*act)(struct worker *w);
	bool background;		/* at work as long as somebody else is */
	pthread_t thread;
	int nr;
	uint32_t random;
	const char *err;
	int err_nr;
};

static int broken;			/* one of them has failed */

static uint32_t rnd(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 17;
	w->random ^= w->random << 5;
	return w->random;
}

static void failed(struct worker *w, const char *what)
{
	w->err = what;
	w->err_nr = errno;
	store(&broken, 1);
}

static void wrong(struct worker *w, const char *what)
{
	errno = 0;
	failed(w, what);
}

static void meet(void)
{
	int round = load(&team.round);

	if (__atomic_add_fetch(&team.arrived, 1, __ATOMIC_SEQ_CST) == team.nr) {
		store(&team.arrived, 0);
		store(&team.round, round + 1);
	} else {
		spin_until(load(&team.round) != round);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int i;

	for (;;) {
		meet();
		if (load(&team.end))
			return NULL;
		for (i = 0; w->background ? load(&team.busy) : i < team.acts; i++)
			w->act(w);
		if (!w->background)
			__atomic_sub_fetch(&team.busy, 1, __ATOMIC_SEQ_CST);
		meet();
	}
}

static int team_start(struct worker *w, int n, int acts)
{
	int i;

	team.nr = n + 1;
	team.acts = acts;
	for (i = 0; i < n; i++) {
		w[i].nr = i;
		w[i].random = 88172645 + 2463534242U * i + getpid();
		if (pthread_create(&w[i].thread, NULL, work, &w[i]))
			return -1;
	}
	return 0;
}

static void team_begin(struct worker *w)
{
	int i, busy = 0;

	for (i = 0; i < team.nr - 1; i++)
		busy += !w[i].background;
	store(&team.busy, busy);
	meet();
}

/* What went wrong in the threads, if anything. */
static const char *team_end(struct worker *w, int n)
{
	static char text[128];
	int i;

	store(&team.end, 1);
	meet();
	*text = '\0';
	for (i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		if (w[i].err)
			snprintf(text, sizeof(text), "thread %d: %s%s%s", i,
				 w[i].err, w[i].err_nr ? ": " : "",
				 w[i].err_nr ? strerror(w[i].err_nr) : "");
	}
	return text;
}

/* Wait for a child that says with its status how many pages were wrong. */
static int child_wrong(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/*
 * While nobody changes anything: for how many pages of the areas does a child
 * not have what its parent has?
 */
static int compare_with_child(int areas)
{
	static uint64_t here[2 * MAX_PAGES], there[2 * MAX_PAGES];
	int n = area.pages, a, i, fd, wrong = 0;
	pid_t pid;

	for (a = 0; a < areas; a++)
		if (guards_read(pagemap, at(a), n, here + a * n))
			return -1;
	pid = fork();
	if (pid)
		return child_wrong(pid);
	fd = open("/proc/self/pagemap", O_RDONLY);
	for (a = 0; a < areas; a++)
		if (guards_read(fd, at(a), n, there + a * n))
			_exit(255);
	for (i = 0; i < areas * n; i++)
		wrong += (here[i] & PM_GUARD) != (there[i] & PM_GUARD);
	/* and are these guards what pagemap says they are? */
	for (a = 0; a < areas; a++)
		for (i = 0; i < n; i += n > 8 ? 97 : 1)
			wrong += guarded(at(a) + i * page) !=
				 !!(here[a * n + i] & PM_GUARD);
	_exit(wrong > 200 ? 200 : wrong);
}

/* The same, all being guarded. */
static int all_in_child(const char *p, int pages)
{
	int i, wrong = 0;
	pid_t pid = fork();

	if (pid)
		return child_wrong(pid);
	for (i = 0; i < pages; i += i % TABLE > 8 ? 97 : 1)
		wrong += !guarded(p + i * page);
	_exit(wrong > 200 ? 200 : wrong);
}

static int setup(void)
{
	page = getpagesize();
	common = mmap(NULL, sizeof(*common), PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	return common == MAP_FAILED || pagemap < 0;
}

/* Is there anything to test? */
static bool guards_here(void)
{
	char *p = map_at(FAR_AWAY, 1);
	bool here = p && !install(p, 1);

	if (p)
		munmap(p, page);
	return here;
}

#define SETUP()							\
do {								\
	ASSERT_EQ(0, setup());					\
	if (!guards_here())					\
		SKIP(return, "no MADV_GUARD_INSTALL");		\
} while (0)

/* How many times as long as usual it may take. */
static double times(void)
{
	const char *n = getenv("VMLEAN_TIMES");

	return n ? atof(n) : 1;
}

/* As many rounds as are asked for, or fit into the time there is; but a few. */
#define for_rounds(i, n, seconds)					\
	for (double __begin = (i = 0, now());				\
	     i < 16 || (i < rounds(n) * times() &&			\
			now() < __begin + (seconds) * times()); i++)

#define report(fmt, ...)						\
	ksft_print_msg("%s.%s: " fmt "\n", _metadata->fixture->name,	\
		       _metadata->name, ##__VA_ARGS__)

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
	if (variant->file) {
		area.fd = memfd_create("guard_race", 0);
		ASSERT_LE(0, area.fd);
		ASSERT_EQ(0, ftruncate(area.fd, bytes()));
	}
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
	area.fd = memfd_create("guard_race", 0);
	ASSERT_LE(0, area.fd);
	ASSERT_EQ(0, ftruncate(area.fd, bytes()));
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
	if (variant->file) {
		area.fd = memfd_create("guard_race", 0);
		ASSERT_LE(0, area.fd);
		ASSERT_EQ(0, ftruncate(area.fd, bytes()));
	}
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

/* The same threads; but their process is killed, or it exits or execs. */
static void (* const *mortal)(struct worker *w);

FIXTURE(death) {
	struct worker worker[4];
};

FIXTURE_VARIANT(death) {
	void (*act[4])(struct worker *w);
	int pages;
	bool file;
};

FIXTURE_VARIANT_ADD(death, area) {
	.act = { act_install, act_install, act_remove, act_fault }, .pages = TABLE
};
FIXTURE_VARIANT_ADD(death, collapse) {
	.act = { act_guard, act_guard, act_collapse, act_collapse },
	.pages = MAX_PAGES, .file = true
};
FIXTURE_VARIANT_ADD(death, change) {
	.act = { act_change, act_install_some, act_remove_all, act_remove_ranges },
	.pages = TABLE,
};

FIXTURE_SETUP(death)
{
	SETUP();
	mortal = variant->act;
	area.pages = variant->pages;
	area.private = !variant->file;
	if (variant->file) {
		area.fd = memfd_create("guard_race", 0);
		ASSERT_LE(0, area.fd);
		ASSERT_EQ(0, ftruncate(area.fd, bytes()));
		ASSERT_EQ(0, collapse_map());
		ASSERT_EQ(0, area_map(1));
	}
	ASSERT_EQ(0, area_map(0));
	team.writes = 1;
}

FIXTURE_TEARDOWN(death)
{
}

enum { KILL, EXIT, EXEC, SUICIDE, WAYS };

static int way, deadline, ready[2];

/* The last of so many acts, of all threads. */
static void act_mortal(struct worker *w)
{
	char *argv[] = { "guard_race", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };

	if (__atomic_sub_fetch(&deadline, 1, __ATOMIC_SEQ_CST)) {
		mortal[w->nr](w);
		return;
	}
	switch (way) {
	case KILL:
		if (write(ready[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	case EXIT:
		_exit(0);
	case EXEC:
		execve("/proc/self/exe", argv, envp);
		_exit(1);
	case SUICIDE:
		kill(getpid(), SIGKILL);
	}
}

TEST_F(death, by)
{
	static const char * const ways[] = { "kill", "exit", "exec", "suicide" };
	struct worker *w = self->worker;
	int i, k, expected = 0, status = 0;
	char c;

	ASSERT_EQ(0, pipe(ready));
	for (k = 0; k < 4; k++)
		w[k].act = act_mortal;
	for_rounds (i, 3000, 2) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		way = i % WAYS;
		deadline = 1 + i * 7 % 41;
		if (!pid) {
			if (team_start(w, 4, INT_MAX))
				_exit(1);
			team_begin(w);
			for (;;)
				pause();
		}
		if (way == KILL) {
			ASSERT_EQ(1, read(ready[0], &c, 1));
			ASSERT_EQ(0, kill(pid, SIGKILL));
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		expected = way == KILL || way == SUICIDE ? SIGKILL : 0;
		if (status != expected)
			break;
	}
	EXPECT_EQ(expected, status) {
		TH_LOG("round %d: %s", i, ways[way]);
	}
	report("%d processes", i);
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
	void (*act[3])(struct worker *w);
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
