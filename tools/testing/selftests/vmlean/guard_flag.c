// SPDX-License-Identifier: GPL-2.0
/*
 * VM_MAYBE_GUARD: whoever changes a VMA while its first guard is installed elsewhere
 * in it must not lose it. Where there is a guard, smaps says "gu" and a child has
 * the guard. And what is counted, on 7.3.
 */
#include <linux/mman.h>
#include <pthread.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA		0x53564d41
#define PR_SET_VMA_ANON_NAME	0
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif

#define AREAS	32
#define PAGES	8
#define GUARD	2		/* the page that is guarded */

#define load(p)		__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store(p, v)	__atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

/* An emulated CPU gives way to another at a pause. */
#define spin_until(cond)			\
do {						\
	while (!(cond)) {			\
		sched_yield();			\
		__builtin_ia32_pause();		\
	}					\
} while (0)

static char *area(int i)
{
	return AT + 3 * i * PAGES * page;
}

static int op_protect(char *at)
{
	return mprotect(at, PAGES * page, PROT_READ);
}

static int op_split(char *at)
{
	return mprotect(at + 5 * page, 3 * page, PROT_READ);
}

static int op_lock(char *at)
{
	return syscall(SYS_mlock2, at, PAGES * page, MLOCK_ONFAULT);
}

static int op_dontdump(char *at)
{
	return madvise(at, PAGES * page, MADV_DONTDUMP);
}

static int op_name(char *at)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, PAGES * page, "guard");
}

static int op_unmap(char *at)
{
	return munmap(at + 7 * page, page);
}

/* What is on both sides of a hole becomes one VMA. */
static int op_merge(char *at)
{
	return put(at + PAGES * page, PAGES) ? 0 : -1;
}

FIXTURE(first) {
	pthread_t thread;
};

FIXTURE_VARIANT(first) {
	enum backing backing;
	int (*op)(char *at);
};

#define FIRST(name, ...)						\
FIXTURE_VARIANT_ADD(first, anon_##name) { .backing = ANON, .op = op_##name }; \
FIXTURE_VARIANT_ADD(first, private_##name) { .backing = PRIVATE, .op = op_##name }; \
FIXTURE_VARIANT_ADD(first, shared_##name) { .backing = SHARED, .op = op_##name }

FIRST(protect);
FIRST(split);
FIRST(lock);
FIRST(dontdump);
FIRST(unmap);
FIRST(merge);
FIXTURE_VARIANT_ADD(first, anon_name) { .backing = ANON, .op = op_name };

/* The installer goes from area to area, one behind the other thread's number. */
static struct {
	int go, done;
	bool end;
	int delay;
} step;

static void *installer(void *arg)
{
	for (int n = 1;; n++) {
		spin_until(load(&step.go) == n || load(&step.end));
		if (load(&step.end))
			return NULL;
		for (volatile int i = 0; i < load(&step.delay); i++)
			;
		guard(area((n - 1) % AREAS) + GUARD * page, 1);
		store(&step.done, n);
	}
}

FIXTURE_SETUP(first)
{
	BACKING_OPEN(variant->backing);
	if (variant->op == op_name && !*kconfig("CONFIG_ANON_VMA_NAME"))
		SKIP(return, "kernel without CONFIG_ANON_VMA_NAME");
	memset(&step, 0, sizeof(step));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, installer, NULL));
}

FIXTURE_TEARDOWN(first)
{
	if (self->thread) {
		store(&step.end, true);
		pthread_join(self->thread, NULL);
	}
}

/* Which areas have the guard, as the child finds them; -1: not what the parent has. */
static bool child_has(const bool *guarded)
{
	pid_t pid = fork();

	if (!pid) {
		for (int i = 0; i < AREAS; i++)
			if (guarded[i] != (look(area(i) + GUARD * page) == GUARDED))
				_exit(1);
		_exit(0);
	}
	return succeeds(pid);
}

TEST_F(first, guard_against_a_change)
{
	int n = 0, kept = 0;
	double end = now() + 2;

	/* until the time is over, and once at least */
	do {
		bool guarded[AREAS];

		for (int i = 0; i < AREAS; i++)
			ASSERT_TRUE(put(area(i), PAGES));
		for (int i = 0; i < AREAS; i++) {
			/* from both to neither first */
			store(&step.delay, n / AREAS % 16 * 40);
			store(&step.go, ++n);
			for (volatile int k = 0; k < 300 - n / AREAS % 16 * 20; k++)
				;
			ASSERT_EQ(0, variant->op(area(i)));
			spin_until(load(&step.done) == n);
		}
		for (int i = 0; i < AREAS; i++) {
			/* what is locked takes no guards any more */
			guarded[i] = look(area(i) + GUARD * page) == GUARDED;
			kept += guarded[i];
			if (guarded[i] && i % 8 == 0 && maybe_guard())
				ASSERT_TRUE(maybe_guarded(area(i))) {
					TH_LOG("round %d: a guard in a VMA without \"gu\"", n);
				}
		}
		ASSERT_TRUE(child_has(guarded)) {
			TH_LOG("round %d: a guard is lost in the child", n / AREAS);
		}
		ASSERT_EQ(0, munmap(area(0), 3 * AREAS * PAGES * page));
	} while (now() < end);
	EXPECT_TRUE(variant->op == op_lock || kept == n) {
		TH_LOG("%d guards of %d", kept, n);
	}
}

/* A VMA of guards alone moves beside itself, and merges with where it comes from. */
FIXTURE(move) {
};

FIXTURE_SETUP(move)
{
	BACKING_OPEN(ANON);
}

FIXTURE_TEARDOWN(move)
{
}

TEST_F(move, merges_with_itself)
{
	/* to the right and to the left */
	for (int i = 0; i < 2; i++) {
		char *from = i ? AT + 4 * page : AT, *to = i ? AT : AT + 4 * page;

		ASSERT_TRUE(lay(from, "g.gg"));
		ASSERT_EQ(to, mremap(from, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED |
				     MREMAP_DONTUNMAP, to));
		EXPECT_TRUE(as_laid("the old place", from, from, "...."));
		EXPECT_TRUE(kept_deep(to, from, "g.gg", 2));
		ASSERT_EQ(0, guard(from, 1));
		EXPECT_TRUE(kept_moved(to, from, "g.gg"));
		EXPECT_EQ(GUARDED, look(from));
		ASSERT_EQ(0, munmap(AT, 8 * page));
	}
}

/* What is counted on 7.3: nobody else in the guest has guards. */
static const char * const counters[] = { "unprepared", "forked", "forgotten", "retracted" };

enum { UNPREPARED, FORKED, FORGOTTEN, RETRACTED };

FIXTURE(count) {
	int how;
	long was[ARRAY_SIZE(counters)];
};

FIXTURE_VARIANT(count) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(count, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(count, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(count, shared) { .backing = SHARED };

static void counters_read(long *to)
{
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		to[i] = stat_read("guard", counters[i]);
}

FIXTURE_SETUP(count)
{
	STATS_OPEN(self->how);
	if (!option_here())
		SKIP(return, "kernel without CONFIG_GUARD_NO_ANON_VMA");
	BACKING_OPEN(variant->backing);
	counters_read(self->was);
	ASSERT_LE(0, self->was[UNPREPARED]);
}

FIXTURE_TEARDOWN(count)
{
	stats_close(self->how);
}

/* Since it was called last: COUNTED([FORKED] = 1, ...), and nothing else. */
#define COUNTED(...)							\
do {									\
	const long __due[ARRAY_SIZE(counters)] = { __VA_ARGS__ };	\
	long __now[ARRAY_SIZE(counters)];				\
	counters_read(__now);						\
	for (size_t __i = 0; __i < ARRAY_SIZE(counters); __i++) {	\
		EXPECT_EQ(__due[__i], __now[__i] - self->was[__i]) {	\
			TH_LOG("%s", counters[__i]);			\
		}							\
	}								\
	memcpy(self->was, __now, sizeof(__now));			\
} while (0)

static bool fork_once(void)
{
	return succeeds(fork() ?: (_exit(0), 0));
}

TEST_F(count, each_event)
{
	int anon = map.fd < 0;

	COUNTED();
	for (int i = 0; i < 5; i++)
		ASSERT_TRUE(put(AT + 3 * i * page, 2));
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(AT + 3 * i * page, 1));
	COUNTED([UNPREPARED] = 5 * anon);
	/* a second one */
	ASSERT_EQ(0, guard(AT, 2));
	COUNTED();
	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(fork_once());
		COUNTED([FORKED] = 5);
	}
	/* in halves, as the page tables say it all */
	ASSERT_EQ(0, unguard(AT, 1) | unguard(AT + page, 1));
	COUNTED();
	ASSERT_TRUE(fork_once());
	COUNTED([FORKED] = 4, [FORGOTTEN] = 1);
	ASSERT_TRUE(fork_once());
	COUNTED([FORKED] = 4);
	/* a child forks and forgets on its own */
	ASSERT_TRUE(succeeds(fork() ?: (_exit(unguard(AT + 3 * page, 2) || !fork_once()), 0)));
	COUNTED([FORKED] = 4 + 3, [FORGOTTEN] = 1);
	/* an anon_vma: all is copied */
	ASSERT_EQ(0, poke(AT + 4 * page, 1));
	ASSERT_TRUE(fork_once());
	COUNTED([FORKED] = 3 + shared());
	/* and neither a hole nor a clean slate */
	ASSERT_EQ(0, madvise(AT + 6 * page, 2 * page, MADV_DONTFORK));
	ASSERT_TRUE(fork_once());
	COUNTED([FORKED] = 2 + shared());
	/* the first guard of one that was forgotten, and of one that has an anon_vma */
	ASSERT_EQ(0, guard(AT, 1));
	COUNTED([UNPREPARED] = anon);
	ASSERT_TRUE(lay(AWAY, "w."));
	ASSERT_EQ(0, guard(AWAY + page, 1));
	COUNTED();
}

TEST_HARNESS_MAIN
