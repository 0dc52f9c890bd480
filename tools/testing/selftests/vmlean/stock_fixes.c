// SPDX-License-Identifier: GPL-2.0
/*
 * Mistakes of stock that the topic "fixes" mends: each test here fails without the
 * patch of its name. Nothing of this needs vmlean.ko or a feature.
 *
 * For a race, two threads share a CPU. One of them is a real-time thread that sleeps
 * for some time and then runs at once, wherever the other one is: in the middle of a
 * system call, or right after a spinlock that it held when the timer came. That needs
 * no second CPU. A race is run until it is lost, or for some time; and if the one was
 * not often enough in the middle of the other, the test fails, too.
 */
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

#ifndef FALLOC_FL_PUNCH_HOLE
#define FALLOC_FL_KEEP_SIZE	1
#define FALLOC_FL_PUNCH_HOLE	2
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA		0x53564d41
#define PR_SET_VMA_ANON_NAME	0
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef SYS_mseal
#define SYS_mseal		462
#endif

#define PREEMPT		"/sys/kernel/debug/sched/preempt"
#define ENOUGH		100		/* times in the middle of a call */
#define SECONDS		5		/* of a race that is not lost, at least */
#define MAX_SECONDS	60		/* if that is not enough */

#ifndef MIN
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#endif
#define load(p)		__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store(p, v)	__atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

static int name(char *at, size_t pages, const char *as)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, pages * page, as);
}

/* Has the VMA at this address a flag, as in the VmFlags of smaps? -1: no such VMA. */
static int vm_flag(const char *at, const char *flag)
{
	unsigned long start, end;
	char line[512], word[8];
	bool here = false;
	int found = -1;
	FILE *f;

	f = fopen("/proc/self/smaps", "re");
	if (!f)
		return -1;
	snprintf(word, sizeof(word), " %s", flag);
	while (found < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (unsigned long)at >= start && (unsigned long)at < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = !!strstr(line + 8, word);
	}
	fclose(f);
	return found;
}

/* What a child sees there. */
static int look_in_child(const char *at)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(look(at) == GUARDED ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -EINVAL;
	return WEXITSTATUS(status) ? 0 : GUARDED;
}

/* ---- Naming: the flags that a merge brings stay ---------------------------- */

static char *put_shared(char *at, size_t pages)
{
	return mmap(at, pages * page, PROT_RW, MAP_SHARED | MAP_ANONYMOUS |
		    MAP_FIXED_NOREPLACE, -1, 0);
}

FIXTURE(naming) {
	char *p;
};

FIXTURE_SETUP(naming)
{
	if (!*kconfig("CONFIG_ANON_VMA_NAME"))
		SKIP(return, "no CONFIG_ANON_VMA_NAME");
	self->p = AT;
}

FIXTURE_TEARDOWN(naming)
{
	munmap(self->p, 8 * page);
}

/* "a" and "b" of one shared mapping; b is called a and merges to the left. */
TEST_F(naming, merge_left_keeps_guards)
{
	char *p = self->p;

	ASSERT_EQ(p, put_shared(p, 4));
	ASSERT_EQ(0, name(p, 2, "a"));
	ASSERT_EQ(0, name(p + 2 * page, 2, "b"));
	ASSERT_EQ(2, vmas(p, 4));
	ASSERT_EQ(0, guard(p, 1));
	ASSERT_EQ(1, vm_flag(p, "gu"));
	ASSERT_EQ(GUARDED, look_in_child(p));

	ASSERT_EQ(0, name(p + 2 * page, 2, "a"));
	ASSERT_EQ(1, vmas(p, 4));
	EXPECT_EQ(1, vm_flag(p, "gu"));
	EXPECT_EQ(GUARDED, look(p));
	EXPECT_EQ(GUARDED, look_in_child(p));
}

/* The other way round; and one between two that are guarded. */
TEST_F(naming, merge_right_keeps_guards)
{
	char *p = self->p;

	ASSERT_EQ(p, put_shared(p, 4));
	ASSERT_EQ(0, name(p, 2, "a"));
	ASSERT_EQ(0, name(p + 2 * page, 2, "b"));
	ASSERT_EQ(0, guard(p + 3 * page, 1));

	ASSERT_EQ(0, name(p, 2, "b"));
	ASSERT_EQ(1, vmas(p, 4));
	EXPECT_EQ(1, vm_flag(p, "gu"));
	EXPECT_EQ(GUARDED, look_in_child(p + 3 * page));
}

TEST_F(naming, merge_both_keeps_guards)
{
	char *p = self->p;

	ASSERT_EQ(p, put_shared(p, 6));
	ASSERT_EQ(0, name(p, 2, "a"));
	ASSERT_EQ(0, name(p + 2 * page, 2, "b"));
	ASSERT_EQ(0, name(p + 4 * page, 2, "a"));
	ASSERT_EQ(0, guard(p, 1));
	ASSERT_EQ(0, guard(p + 5 * page, 1));

	ASSERT_EQ(0, name(p + 2 * page, 2, "a"));
	ASSERT_EQ(1, vmas(p, 6));
	EXPECT_EQ(1, vm_flag(p, "gu"));
	EXPECT_EQ(GUARDED, look_in_child(p));
	EXPECT_EQ(GUARDED, look_in_child(p + 5 * page));
}

/* Bit 55 of pagemap: what an incremental checkpoint saves. */
static int soft_dirty(const char *at)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t n = pread(fd, &entry, 8, (unsigned long)at / page * 8);

	close(fd);
	return n == 8 ? !!(entry & (1ULL << 55)) : -1;
}

TEST_F(naming, merge_keeps_soft_dirty)
{
	char *p = self->p;

	if (!*kconfig("CONFIG_MEM_SOFT_DIRTY"))
		SKIP(return, "no CONFIG_MEM_SOFT_DIRTY");
	ASSERT_TRUE(put(p, 2));
	ASSERT_EQ(0, name(p, 2, "a"));
	ASSERT_EQ(0, write_file("/proc/self/clear_refs", "4"));
	ASSERT_EQ(0, vm_flag(p, "sd"));

	/* a new mapping is dirty as a whole: what was there before is gone */
	ASSERT_TRUE(put(p + 2 * page, 2));
	ASSERT_EQ(1, vm_flag(p + 2 * page, "sd"));
	ASSERT_EQ(1, soft_dirty(p + 2 * page));

	ASSERT_EQ(0, name(p, 2, NULL));
	ASSERT_EQ(1, vmas(p, 4));
	EXPECT_EQ(1, vm_flag(p, "sd"));
	EXPECT_EQ(1, soft_dirty(p + 2 * page));
}

/* What is not to change. */
TEST_F(naming, leaves_other_flags_alone)
{
	char *p = self->p;

	ASSERT_TRUE(put(p, 4));
	ASSERT_EQ(0, madvise(p, 4 * page, MADV_DONTDUMP));
	ASSERT_EQ(0, name(p, 4, "a"));
	EXPECT_EQ(1, vm_flag(p, "dd"));
	ASSERT_EQ(0, name(p + page, 1, "b"));
	EXPECT_EQ(3, vmas(p, 4));
	EXPECT_EQ(1, vm_flag(p + page, "dd"));
	ASSERT_EQ(0, name(p, 4, NULL));
	EXPECT_EQ(1, vmas(p, 4));
	EXPECT_EQ(1, vm_flag(p, "dd"));
	EXPECT_EQ(0, vm_flag(p, "gu"));
}

/* ---- Two threads that do something at the same time ------------------------ */

/* Somewhere in the kernel is where they are to meet: preemption helps. */
static char preempt_old[64];

static void __attribute__((constructor)) preempt_full(void)
{
	char text[256], *s;

	if (read_file(PREEMPT, text, sizeof(text)) <= 0)
		return;
	s = strchr(text, '(');
	if (!s)
		return;
	s[1 + strcspn(s + 1, ")")] = '\0';
	snprintf(preempt_old, sizeof(preempt_old), "%.63s", s + 1);
	write_file(PREEMPT, "full");
}

static void __attribute__((destructor)) preempt_back(void)
{
	if (*preempt_old)
		write_file(PREEMPT, preempt_old);
}

static long nsecs(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

static void sleep_ns(long ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

/* This thread comes first on this CPU from now on; those it has started are here, too. */
static int come_first(void)
{
	struct sched_param param = { .sched_priority = 10 };

	return sched_setscheduler(0, SCHED_FIFO, &param);
}

static uint32_t rnd(uint32_t below)
{
	static uint32_t x = 88172645;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x % below;
}

/* Go on with a race, that was in the middle so many times? */
static bool more(double begun, long middle)
{
	double seconds = now() - begun;

	return seconds < SECONDS || (seconds < MAX_SECONDS && middle < ENOUGH);
}

/* ---- The first guard region of a VMA, while somebody changes the VMA ------- */

#define RACES		64		/* VMAs of a batch: one race each */
#define RACE_PAGES	4

enum change { DUMP, PROTECT, LOCK, NAME, SPLIT, UNMAP };

static struct {
	enum change change;
	bool anon;
	int fd;
	int go, done;			/* of which VMA */
	int err;
	long when, begin, end;
} race;

static char *race_at(int nr)
{
	return AT + nr * 2 * RACE_PAGES * page;
}

/* All of them change, split off or unmap something else than the first page. */
static int race_change(char *p)
{
	size_t all = RACE_PAGES * page;

	switch (race.change) {
	case DUMP:
		return madvise(p, all, MADV_DONTDUMP);
	case PROTECT:
		return mprotect(p, all, PROT_READ);
	case LOCK:
		return syscall(SYS_mlock2, p, all, 1 /* MLOCK_ONFAULT */);
	case NAME:
		return name(p, RACE_PAGES, "a");
	case SPLIT:
		return mprotect(p + 2 * page, page, PROT_READ);
	case UNMAP:
		return munmap(p + 3 * page, page);
	}
	return -1;
}

static void *race_changer(void *arg)
{
	int nr = 0;

	for (;;) {
		while (load(&race.go) == nr)
			sched_yield();
		nr = load(&race.go);
		if (nr < 0)
			return NULL;
		if (!nr)
			continue;	/* a new batch */
		while (nsecs() < race.when)
			;
		race.begin = nsecs();
		race.err |= race_change(race_at(nr - 1));
		race.end = nsecs();
		store(&race.done, nr);
	}
}

static int race_map(void)
{
	for (int i = 0; i < RACES; i++) {
		int flags = race.anon ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
		char *p = race_at(i);

		if (race.change == NAME)	/* file mappings have no name */
			flags = MAP_SHARED | MAP_ANONYMOUS;
		if (mmap(p, RACE_PAGES * page, PROT_RW, flags | MAP_FIXED,
			 flags & MAP_ANONYMOUS ? -1 : race.fd, 0) != p)
			return -1;
		/* an anon_vma: the VMA lock is enough for guards then */
		if (race.anon && poke(p + page, 1))
			return -1;
	}
	return 0;
}

/* How many of the VMAs have lost the flag? One look at smaps for all. */
static int race_lost(int *lost)
{
	unsigned long start, end;
	char line[512];
	int found = 0, nr = -1;
	FILE *f = fopen("/proc/self/smaps", "re");

	*lost = -1;
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			nr = -1;
			if ((char *)start >= race_at(0) && (char *)start < race_at(RACES) &&
			    (start - (unsigned long)race_at(0)) % (2 * RACE_PAGES * page) == 0)
				nr = (start - (unsigned long)race_at(0)) / (2 * RACE_PAGES * page);
		} else if (nr >= 0 && !strncmp(line, "VmFlags:", 8)) {
			found++;
			if (!strstr(line + 8, " gu"))
				*lost = nr;
		}
	}
	fclose(f);
	return found == RACES ? 0 : -1;
}

FIXTURE(first_guard) {
	pthread_t changer;
	bool started;
};

FIXTURE_VARIANT(first_guard) {
	enum change change;
	bool anon;
};

#define FIRST_GUARD(_name, _change, _anon)			\
FIXTURE_VARIANT_ADD(first_guard, _name) {			\
	.change = _change, .anon = _anon,			\
}

FIRST_GUARD(file_madvise, DUMP, false);
FIRST_GUARD(file_mprotect, PROTECT, false);
FIRST_GUARD(file_mlock, LOCK, false);
FIRST_GUARD(file_split, SPLIT, false);
FIRST_GUARD(file_munmap, UNMAP, false);
FIRST_GUARD(shmem_name, NAME, false);
FIRST_GUARD(anon_madvise, DUMP, true);
FIRST_GUARD(anon_split, SPLIT, true);

FIXTURE_SETUP(first_guard)
{
	memset(&race, 0, sizeof(race));
	race.change = variant->change;
	race.anon = variant->anon;
	race.fd = memfd_create("first_guard", MFD_CLOEXEC);
	ASSERT_LE(0, race.fd);
	ASSERT_EQ(0, ftruncate(race.fd, RACE_PAGES * page));
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, pthread_create(&self->changer, NULL, race_changer, NULL));
	self->started = true;
	ASSERT_EQ(0, come_first());
}

FIXTURE_TEARDOWN(first_guard)
{
	if (self->started) {
		store(&race.go, -1);
		pthread_join(self->changer, NULL);
	}
	munmap(race_at(0), 2 * RACES * RACE_PAGES * page);
	close(race.fd);
}

TEST_F(first_guard, is_remembered)
{
	int lost = -1, middle = 0, races = 0;
	/* how long a nap is, and a call of the other one, about */
	long nap = 100000, call = 20000;
	double begun = now();

	while (lost < 0 && more(begun, middle)) {
		ASSERT_EQ(0, race_map());
		for (int i = 0; i < RACES; i++) {
			long start = nsecs(), begin;
			int err;

			/* so that the nap ends at some time of that call */
			race.when = start + nap - rnd(call + call / 4);
			store(&race.go, i + 1);
			sleep_ns(50000);
			begin = nsecs();
			err = guard(race_at(i), 1);
			while (load(&race.done) != i + 1)
				sleep_ns(1000);
			/* mlock() may have come first */
			ASSERT_TRUE(!err || (race.change == LOCK && errno == EINVAL));
			if (err) {
				ASSERT_EQ(0, munlock(race_at(i), RACE_PAGES * page));
				ASSERT_EQ(0, guard(race_at(i), 1));
			}
			middle += race.begin < begin && begin < race.end;
			/* what took very long was somebody else's fault */
			nap += (MIN(begin - start, 4 * nap) - nap) / 8;
			call += (MIN(race.end - race.begin, 2 * call) - call) / 8;
			call = call < 1000 ? 1000 : call;
			races++;
		}
		ASSERT_EQ(0, race.err);
		ASSERT_EQ(0, race_lost(&lost));
		store(&race.go, 0);
		store(&race.done, 0);
		ASSERT_EQ(0, lost >= 0 ? 0 : munmap(race_at(0), 2 * RACES * RACE_PAGES * page));
	}
	TH_LOG("%d races, in %d the guard came in the middle of the other call", races, middle);
	EXPECT_EQ(-1, lost) {
		char *p = race_at(lost);

		TH_LOG("the flag is lost; guarded here: %d, in a child: %d",
		       look(p) == GUARDED, look_in_child(p) == GUARDED);
	}
	if (lost < 0)
		EXPECT_LE(ENOUGH, middle);
}

/* ---- Markers in page tables that khugepaged wants to free ------------------ */

static int uffd_missing(char *at, size_t pages)
{
	int fd;

	map.fd = -1;			/* uffd_open() is to truncate nothing */
	fd = uffd_open();
	if (fd >= 0 && uffd_register(fd, at, pages, UFFDIO_REGISTER_MODE_MISSING)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Two shared mappings of a file without holes, both at the beginning of a page table. */
FIXTURE(collapse) {
	char *a, *b;
	int fd, uffd;
};

FIXTURE_SETUP(collapse)
{
	NEEDS_HUGE_PAGES();
	self->uffd = -1;
	self->fd = memfd_create("collapse", MFD_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, HUGE));
	self->a = mmap(FAR_AWAY, HUGE, PROT_RW, MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, 0);
	ASSERT_EQ(FAR_AWAY, self->a);
	self->b = mmap(AWAY, HUGE, PROT_RW, MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, 0);
	ASSERT_EQ(AWAY, self->b);
	for (size_t i = 0; i < HUGE; i += page)
		self->a[i] = 1;
}

FIXTURE_TEARDOWN(collapse)
{
	if (self->uffd >= 0)
		close(self->uffd);
	munmap(self->a, HUGE);
	munmap(self->b, HUGE);
	close(self->fd);
}

/* No race: the page table of b holds nothing else. */
TEST_F(collapse, keeps_poison_of_other_mappings)
{
	char *p = self->b + 3 * page;

	self->uffd = uffd_missing(self->b, HUGE / page);
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, uffd_poison(self->uffd, p));
	ASSERT_EQ(POISONED, look(p));
	/* it may fail for a while, while others hold a page */
	ASSERT_TRUE(UNTIL(!madvise(self->a, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(POISONED, look(p));
	EXPECT_EQ(1, look(self->b));
}

TEST_F(collapse, keeps_guards_of_other_mappings)
{
	char *p = self->b + 3 * page;

	ASSERT_EQ(0, guard(p, 1));
	ASSERT_TRUE(UNTIL(!madvise(self->a, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(GUARDED, look(p));
	EXPECT_EQ(1, look(self->b));
}

/*
 * A file of several huge pages, all of them mapped by page tables that are empty. One
 * thread collapses all. The other one interrupts it, sees from pagemap how far it is,
 * and puts a marker into the page table that is next, or is being emptied just now.
 */
#define TABLES		16

static struct {
	char *b;
	int go, done, inside;
	long collapsed, refused, end;
} collapser;

static void *collapse_thread(void *arg)
{
	int nr = 0;

	for (;;) {
		while (load(&collapser.go) == nr)
			sched_yield();
		nr = load(&collapser.go);
		if (nr < 0)
			return NULL;
		store(&collapser.inside, 1);
		if (madvise(collapser.b, TABLES * HUGE, MADV_COLLAPSE))
			collapser.refused++;
		else
			collapser.collapsed++;
		store(&collapser.inside, 0);
		collapser.end = nsecs();
		store(&collapser.done, nr);
	}
}

FIXTURE(collapse_race) {
	char *b;
	int fd, uffd, pagemap;
};

FIXTURE_VARIANT(collapse_race) {
	bool poison;
};

FIXTURE_VARIANT_ADD(collapse_race, guard) { .poison = false };
FIXTURE_VARIANT_ADD(collapse_race, poison) { .poison = true };

FIXTURE_SETUP(collapse_race)
{
	if (!*kconfig("CONFIG_TRANSPARENT_HUGEPAGE"))
		SKIP(return, "no CONFIG_TRANSPARENT_HUGEPAGE");
	memset(&collapser, 0, sizeof(collapser));
	self->uffd = -1;
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->pagemap);
	self->fd = memfd_create("collapse", MFD_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, TABLES * HUGE));
	self->b = mmap(AWAY, TABLES * HUGE, PROT_RW, MAP_SHARED | MAP_FIXED_NOREPLACE,
		       self->fd, 0);
	ASSERT_EQ(AWAY, self->b);
	for (size_t i = 0; i < TABLES * HUGE; i += page)
		self->b[i] = 1;
	/* from here on the file is huge pages; what changes is how they are mapped */
	ASSERT_TRUE(UNTIL(!madvise(self->b, TABLES * HUGE, MADV_COLLAPSE)));
	if (variant->poison) {
		self->uffd = uffd_missing(self->b, TABLES * HUGE / page);
		ASSERT_LE(0, self->uffd);
	}
	collapser.b = self->b;
	ASSERT_EQ(0, pin_to_one_cpu());
}

FIXTURE_TEARDOWN(collapse_race)
{
	if (self->uffd >= 0)
		close(self->uffd);
	munmap(self->b, TABLES * HUGE);
	close(self->fd);
	close(self->pagemap);
}

static int marker_put(int uffd, char *p)
{
	if (uffd < 0)
		return guard(p, 1);
	/* poison replaces nothing, and no huge page */
	return uffd_poison(uffd, p) && (madvise(p, page, MADV_DONTNEED) || uffd_poison(uffd, p));
}

static int marker_take(int uffd, char *p)
{
	return uffd < 0 ? unguard(p, 1) : madvise(p, page, MADV_DONTNEED);
}

/* The first page table that is one: the huge pages before it are mapped again. */
static int table_next(int pagemap, const char *b)
{
	uint64_t entry;
	int t;

	for (t = 0; t < TABLES; t++) {
		if (pread(pagemap, &entry, 8, ((unsigned long)b + t * HUGE) / page * 8) != 8)
			return -1;
		if (!(entry & (1ULL << 63)))
			break;
	}
	return t;
}

TEST_F(collapse_race, keeps_markers)
{
	long rounds = 0, middle = 0, takes = 1000000;
	bool lost = false;
	double begun = now();
	pthread_t thread;
	char *p = NULL;

	ASSERT_EQ(0, pthread_create(&thread, NULL, collapse_thread, NULL));
	ASSERT_EQ(0, come_first());
	while (!lost && more(begun, middle)) {
		long start;
		int t;

		for (t = 0; t < TABLES; t++) {
			p = self->b + t * HUGE + 77 * page;
			ASSERT_EQ(0, marker_put(self->uffd, p));
			ASSERT_EQ(0, marker_take(self->uffd, p));
		}
		rounds++;
		start = nsecs();
		store(&collapser.go, rounds);
		sleep_ns(rnd(takes + takes / 8));
		t = table_next(self->pagemap, self->b);
		ASSERT_LE(0, t);
		p = NULL;
		if (t < TABLES) {
			p = self->b + t * HUGE + 77 * page;
			middle += load(&collapser.inside);
			ASSERT_EQ(0, marker_put(self->uffd, p));
		}
		while (load(&collapser.done) != rounds)
			sleep_ns(1000);
		if (p) {
			/* whoever may read the page finds no marker; there is no signal for it */
			lost = !madvise(p, page, MADV_POPULATE_READ);
			ASSERT_EQ(0, lost ? 0 : marker_take(self->uffd, p));
		}
		takes += (collapser.end - start - takes) / 16;
		takes = takes < 1000 ? 1000 : takes > 100000000 ? 100000000 : takes;
	}
	store(&collapser.go, -1);
	pthread_join(thread, NULL);
	TH_LOG("%ld rounds, in %ld the marker came in the middle; %ld collapsed, %ld refused",
	       rounds, middle, collapser.collapsed, collapser.refused);
	EXPECT_FALSE(lost) {
		TH_LOG("the marker is gone, a look at the page says %d", look(p));
	}
	if (!lost) {
		EXPECT_LE(ENOUGH, middle);
		EXPECT_LT(0, collapser.refused);
	}
}

/* ---- Pages of a file that go, with a reader who maps them again ------------- */

static struct {
	volatile char *last;
	int stop;
	long faults, reads;
} reader;

/* Reads the last page, which is the last to go, all the time. */
static void *reader_thread(void *arg)
{
	struct rusage use;

	while (!load(&reader.stop)) {
		(void)*reader.last;
		getrusage(RUSAGE_THREAD, &use);
		store(&reader.faults, use.ru_minflt + use.ru_majflt);
		__atomic_add_fetch(&reader.reads, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

FIXTURE(file_pages) {
	char *guarded, *read, *zero;
	size_t size;
	int fd;
};

FIXTURE_VARIANT(file_pages) {
	bool direct;
};

FIXTURE_VARIANT_ADD(file_pages, punched) { .direct = false };
FIXTURE_VARIANT_ADD(file_pages, written_directly) { .direct = true };

FIXTURE_SETUP(file_pages)
{
	memset(&reader, 0, sizeof(reader));
	/* the disk is a small one */
	self->size = (variant->direct ? 512 : 2048) * page;
	self->fd = variant->direct ? disk_file() : memfd_create("punch", MFD_CLOEXEC);
	if (variant->direct && self->fd < 0)
		SKIP(return, "no ext2 on /dev/ram1");
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, self->size));
	self->guarded = mmap(NULL, self->size, PROT_READ, MAP_SHARED, self->fd, 0);
	self->read = mmap(NULL, self->size, PROT_READ, MAP_SHARED, self->fd, 0);
	self->zero = mmap(NULL, self->size, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->guarded);
	ASSERT_NE(MAP_FAILED, self->read);
	ASSERT_NE(MAP_FAILED, self->zero);
	reader.last = self->read + self->size - page;
}

FIXTURE_TEARDOWN(file_pages)
{
	munmap(self->guarded, self->size);
	munmap(self->read, self->size);
	munmap(self->zero, self->size);
	close(self->fd);
}

/* Put pages there, and take them away again. */
static int pages_go(int fd, bool direct, char *zero, size_t size)
{
	int flags = fcntl(fd, F_GETFL), err;

	if (!direct)
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
	if (fcntl(fd, F_SETFL, flags | O_DIRECT))
		return -1;
	err = pwrite(fd, zero, size, 0) == size ? 0 : -1;
	return fcntl(fd, F_SETFL, flags) ?: err;
}

TEST_F(file_pages, leave_guards)
{
	size_t size = self->size;
	char *p = self->guarded + size - page;
	double stop = now() + MAX_SECONDS;
	int rounds = 0, remapped = 0;
	pthread_t thread;
	bool lost = false;

	ASSERT_EQ(0, guard(p, 1));
	ASSERT_EQ(GUARDED, look(p));
	ASSERT_EQ(size, pwrite(self->fd, self->zero, size, 0));
	ASSERT_EQ(0, pages_go(self->fd, variant->direct, self->zero, size));
	ASSERT_EQ(GUARDED, look(p)) TH_LOG("not even without a reader");

	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_thread, NULL));
	while (!lost && remapped < 20 && now() < stop) {
		long faults, reads;

		if (pwrite(self->fd, self->zero, size, 0) != size)
			break;
		/* the reader has it mapped, and is at it */
		reads = load(&reader.reads);
		UNTIL(load(&reader.reads) >= reads + 2);
		faults = load(&reader.faults);
		if (pages_go(self->fd, variant->direct, self->zero, size))
			break;
		/*
		 * One fault is that of the page that came instead. A second one
		 * means that the old page was mapped again before it went.
		 */
		reads = load(&reader.reads);
		UNTIL(load(&reader.reads) >= reads + 2);
		remapped += load(&reader.faults) - faults >= 2;
		rounds++;
		lost = look(p) != GUARDED;
	}
	store(&reader.stop, 1);
	pthread_join(thread, NULL);
	TH_LOG("gone %d times, mapped again meanwhile %d times", rounds, remapped);
	EXPECT_FALSE(lost);
	if (!lost)
		EXPECT_LE(20, remapped);
}

/* They go with the mapping, though, while its neighbours keep the page table. */
TEST(guards_go_with_the_mapping)
{
	ASSERT_TRUE(put(AT, 6));
	ASSERT_EQ(0, guard(AT, 6));
	ASSERT_EQ(0, munmap(AT + page, 2 * page));
	ASSERT_TRUE(put(AT + page, 2));
	EXPECT_EQ(0, look(AT + page));
	/* over what is there */
	ASSERT_EQ(AT + 4 * page, mmap(AT + 4 * page, page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS |
				      MAP_FIXED, -1, 0));
	EXPECT_EQ(0, look(AT + 4 * page));
	EXPECT_EQ(GUARDED, look(AT));
	EXPECT_EQ(GUARDED, look(AT + 3 * page));
	EXPECT_EQ(GUARDED, look(AT + 5 * page));
	munmap(AT, 6 * page);
}

/* ---- brk() that fails -------------------------------------------------------- */

/*
 * Two VMAs: one that is registered with userfaultfd, and above it one that is
 * sealed, so that nothing unmaps both.
 */
static int sealed_and_watched(char *p, int *uffd)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP,
	};

	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (*uffd < 0 || ioctl(*uffd, UFFDIO_API, &api) ||
	    uffd_register(*uffd, p, 2, UFFDIO_REGISTER_MODE_MISSING))
		return -1;
	return syscall(SYS_mseal, p + 2 * page, 2 * page, 0);
}

static struct {
	int uffd, events;
	struct uffd_msg msg;
} monitor;

static void *monitor_thread(void *arg)
{
	for (;;) {
		struct uffd_msg msg;

		if (read(monitor.uffd, &msg, sizeof(msg)) != sizeof(msg)) {
			sched_yield();
			continue;
		}
		monitor.msg = msg;
		__atomic_add_fetch(&monitor.events, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* In a process that has nothing to do with its heap any more. 0, or what is wrong. */
static int unmap_fails(bool with_brk)
{
	char *p = (char *)syscall(SYS_brk, 0), *top;
	pthread_t thread;
	int err;

	p += -(unsigned long)p % page;
	top = p + 4 * page;
	if (!with_brk) {
		p = AT;
		if (!put(p, 4))
			return 2;
	} else if ((char *)syscall(SYS_brk, top) != top) {
		return 2;
	}
	if (sealed_and_watched(p, &monitor.uffd))
		return errno == ENOSYS ? 3 : 4;
	if (pthread_create(&thread, NULL, monitor_thread, NULL))
		return 5;
	/* it works before */
	err = uffd_copy(monitor.uffd, p);
	if (err)
		return 6;

	if (with_brk) {
		if ((char *)syscall(SYS_brk, p) != top)
			return 7;	/* it worked */
	} else {
		if (!munmap(p, 4 * page) || errno != EPERM)
			return 7;
	}

	/* and after */
	err = uffd_copy(monitor.uffd, p + page);
	if (err == EAGAIN)
		return 10;		/* for ever: mmap_changing */
	if (err)
		return 11;
	/* as munmap() does it, whatever one may think of that */
	if (!UNTIL(load(&monitor.events) == 1) || monitor.msg.event != UFFD_EVENT_UNMAP)
		return 12;
	if (monitor.msg.arg.remove.start != (unsigned long)p)
		return 13;
	return 0;
}

static int unmap_fails_in_child(bool with_brk)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(unmap_fails(with_brk));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST(munmap_that_fails_completes_unmap_events)
{
	int err = unmap_fails_in_child(false);

	if (err == 3)
		SKIP(return, "no mseal()");
	EXPECT_EQ(0, err);
}

TEST(brk_that_fails_completes_unmap_events)
{
	int err = unmap_fails_in_child(true);

	if (err == 3)
		SKIP(return, "no mseal()");
	EXPECT_EQ(0, err) {
		if (err == 10)
			TH_LOG("UFFDIO_COPY returns EAGAIN from now on");
	}
}

TEST_HARNESS_MAIN
