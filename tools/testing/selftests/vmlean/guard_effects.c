// SPDX-License-Identifier: GPL-2.0
/*
 * What guards without an anon_vma save, and what no longer comes of them; what the
 * counters say.
 */
#include <elf.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "guard_util.h"

/*
 * What an anon_vma that was there only for guards did to others: not with the
 * flags, and still without.
 */
FIXTURE(effects) {
	char pattern[256];
};

FIXTURE_VARIANT(effects) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(effects, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(effects, private) { .backing = PRIVATE };

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/vmlean-guard-core"

FIXTURE_SETUP(effects)
{
	EXPECTATIONS();
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(effects)
{
	if (*self->pattern)
		write_file(CORE_PATTERN, self->pattern);
	unlink(CORE);
}

/* How much of the mapping at an address a core file has; -1 if there is none. */
static long dumped(const char *at)
{
	int fd = open(CORE, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr head;
	Elf64_Phdr seg;
	long size = -1;

	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	for (int i = 0; i < head.e_phnum; i++)
		if (pread(fd, &seg, sizeof(seg), head.e_phoff + i * sizeof(seg)) == sizeof(seg) &&
		    seg.p_type == PT_LOAD && seg.p_vaddr == (unsigned long)at)
			size = seg.p_filesz;
	close(fd);
	return size;
}

TEST_F(effects, coredump)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int status;
	pid_t pid;

	if (!*kconfig("CONFIG_ELF_CORE") || !*kconfig("CONFIG_COREDUMP"))
		SKIP(return, "kernel without CONFIG_COREDUMP and CONFIG_ELF_CORE");
	ASSERT_LT(0, read_file(CORE_PATTERN, self->pattern, sizeof(self->pattern)));
	ASSERT_EQ(0, write_file(CORE_PATTERN, CORE));
	unlink(CORE);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		if (!lay(AT, ".r......") || guard(AT + 2 * page, 2) ||	/* guarded */
		    !lay(AT + 9 * page, ".r......") ||			/* never */
		    !lay(AT + 18 * page, ".r.w.g..") ||			/* written to */
		    !lay(AT + 27 * page, ".ggg....") || unguard(AT + 27 * page, 8) ||
		    setrlimit(RLIMIT_CORE, &all) || prctl(PR_SET_DUMPABLE, 1) ||
		    write_file("/proc/self/coredump_filter", "0x33"))
			_exit(1);
		kill(getpid(), SIGSEGV);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_EQ(bare_guards() ? 0 : 8 * page, dumped(AT));
	EXPECT_EQ(0, dumped(AT + 9 * page));
	EXPECT_EQ(8 * page, dumped(AT + 18 * page));
	EXPECT_EQ(bare_guards() ? 0 : 8 * page, dumped(AT + 27 * page));
}

/* fork leaves page tables in which there is nothing to copy. */
TEST_F(effects, fork_after_remove)
{
	enum { TABLES = 16 };
	long size[4];

	for (int what = 0; what < 4; what++) {
		int up[2];
		pid_t pid;

		ASSERT_EQ(0, pipe(up));
		ASSERT_NE(MAP_FAILED, mmap(AWAY, TABLES * HUGE, PROT_RW, map.flags | MAP_FIXED,
					   map.fd, 0));
		for (int i = 0; what && i < TABLES; i++)
			ASSERT_EQ(0, guard(AWAY + i * HUGE, 1));
		if (what == 2)
			ASSERT_EQ(0, unguard(AWAY, TABLES * HUGE / page));
		for (int i = 0; what == 3 && i < TABLES; i++)
			ASSERT_EQ(0, unguard(AWAY + i * HUGE, 1));
		pid = fork();
		if (!pid) {
			long n = page_tables();

			_exit(write(up[1], &n, sizeof(n)) != sizeof(n));
		}
		ASSERT_TRUE(succeeds(pid));
		ASSERT_EQ(sizeof(size[what]), read(up[0], &size[what], sizeof(size[what])));
		close(up[0]);
		close(up[1]);
		munmap(AWAY, TABLES * HUGE);
	}
	/* with the one or two tables above them */
	EXPECT_LE(TABLES * 4, size[1] - size[0]);
	for (int what = 2; what < 4; what++) {
		EXPECT_TRUE(flags_here() || option_here() ? size[what] == size[0] :
					   size[what] - size[0] >= TABLES * 4) {
			TH_LOG("%ld kB, %ld kB without guards", size[what], size[0]);
		}
	}
}

/* The lines of /proc/slabinfo: objects of a cache that has a name of its own. */
static long slab_objects(const char *cache)
{
	static char buf[1 << 17];
	char line[64], *at;

	if (read_file("/proc/slabinfo", buf, sizeof(buf)) < 0)
		return -1;
	snprintf(line, sizeof(line), "\n%s ", cache);
	at = strstr(buf, line);
	return at ? atol(at + strlen(line)) : -1;
}

TEST_F(effects, no_anon_vma)
{
	int n = rounds(2000), up[2];
	long before = slab_objects("anon_vma"), here, child = 0;
	pid_t pid;

	if (before < 0)
		SKIP(return, "no line \"anon_vma\" in /proc/slabinfo");
	/* not beside each other: they would share it */
	ASSERT_EQ(0, pipe(up));
	for (int i = 0; i < n; i++)
		ASSERT_NE(MAP_FAILED, mmap(AWAY + 2 * i * page, page, PROT_RW, map.flags |
					   MAP_FIXED, map.fd, 0));
	for (int i = 0; i < n; i++)
		ASSERT_EQ(0, guard(AWAY + 2 * i * page, 1));
	here = slab_objects("anon_vma") - before;
	pid = fork();
	if (!pid) {
		child = slab_objects("anon_vma") - before;
		_exit(write(up[1], &child, sizeof(child)) != sizeof(child));
	}
	ASSERT_TRUE(succeeds(pid));
	ASSERT_EQ(sizeof(child), read(up[0], &child, sizeof(child)));
	/* it counts those that are cached as well: some for each CPU */
	if (bare_guards()) {
		EXPECT_GT(n / 4, here);
		EXPECT_GT(n / 4, child);
	} else {
		EXPECT_LT(n * 3 / 4, here);
		EXPECT_LT(n * 7 / 4, child);
	}
	TH_LOG("%d guarded VMAs: %ld anon_vmas, %ld with a child", n, here, child);
}

/* A cgroup that runs out of memory, with all that guards need charged to it. */
FIXTURE(oom) {
};

FIXTURE_VARIANT(oom) {
	bool forks;
};

FIXTURE_VARIANT_ADD(oom, install) { .forks = false };
FIXTURE_VARIANT_ADD(oom, fork) { .forks = true };

FIXTURE_SETUP(oom)
{
	BACKING_OPEN(ANON);
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("guard"));
}

FIXTURE_TEARDOWN(oom)
{
	EXPECT_TRUE(cg_remove("guard"));
}

static void guard_forever(bool forks)
{
	for (size_t i = 0;; i++) {
		/* a page table each, and each fourth an anon_vma */
		char *at = AWAY + i * HUGE;
		pid_t pid;

		put(at, 2);
		guard(at, 1);
		if (i % 4 == 3)
			poke(at + page, 1);
		if (i % 8 == 7)
			unguard(at, 2);
		if (!forks || i % 4)
			continue;
		pid = fork();
		if (!pid)
			pause();
	}
}

TEST_F(oom, killed_and_gone)
{
	for (int i = 0, n = rounds(3); i < n; i++) {
		int status;
		pid_t pid;

		ASSERT_EQ(0, cg_write("guard", "memory.max", "max"));
		ASSERT_EQ(0, cg_write("guard", "memory.oom.group", "1"));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			/* no swap file where the kernel has no swap */
			cg_write("guard", "memory.swap.max", "0");
			if (cg_enter("guard") || cg_write("guard", "memory.max", "%ld",
							  cg_charge("guard") + (2L << 20)))
				_exit(1);
			guard_forever(variant->forks);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
			TH_LOG("not killed: status %#x", status);
		}
		EXPECT_LE(i + 1, cg_read("guard", "memory.events", "oom_kill"));
		EXPECT_TRUE(UNTIL(!cg_read("guard", "pids.current", NULL)));
		EXPECT_TRUE(UNTIL(cg_charge("guard") <= (long)(4 * page))) {
			TH_LOG("%ld bytes are still charged", cg_charge("guard"));
		}
	}
}

/* What is counted on 6.18, exactly: nobody else in the guest has guards. */
static const char * const counters[] = {
	"flagged", "upgraded", "upgraded_merge", "split", "merged", "copied", "forked",
	"cleared", "cleared_moved", "refused_marker", "refused_changed",
};

enum {
	FLAG, UPGRADE, UPGRADE_MERGE, SPLIT, MERGED, COPIED, FORK,
	CLEARED, CLEARED_MOVED, REFUSED_MARKER, REFUSED_CHANGED,
};

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

static int counters_read(long *to)
{
	char buf[4096];

	if (read_file(VMLEAN_DEBUGFS "/anon_vma/stats", buf, sizeof(buf)) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		to[i] = keyed_value(buf, counters[i]);
		if (to[i] < 0)
			return -1;
	}
	return 0;
}

FIXTURE_SETUP(count)
{
	STATS_OPEN(self->how);
	if (!flags_here() || counters_read(self->was))
		SKIP(return, "kernel without CONFIG_ANON_VMA_FLAGS, or its counters");
	BACKING_OPEN(variant->backing);
	ASSERT_EQ(0, counters_read(self->was));
}

FIXTURE_TEARDOWN(count)
{
	stats_close(self->how);
}

/* Since it was called last: COUNTED([FLAG] = 1, ...), and nothing else. */
#define COUNTED(...)							\
do {									\
	const long __due[ARRAY_SIZE(counters)] = { __VA_ARGS__ };	\
	long __now[ARRAY_SIZE(counters)];				\
	ASSERT_EQ(0, counters_read(__now));				\
	for (size_t __i = 0; __i < ARRAY_SIZE(counters); __i++) {	\
		EXPECT_EQ(__due[__i], __now[__i] - self->was[__i]) {	\
			TH_LOG("%s", counters[__i]);			\
		}							\
	}								\
	memcpy(self->was, __now, sizeof(__now));			\
} while (0)

TEST_F(count, flagged_and_cleared)
{
	char *p = AT;

	COUNTED();
	for (int i = 0; i < 5; i++)
		ASSERT_TRUE(put(p + 3 * i * page, 2));
	COUNTED();
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 1));
	COUNTED([FLAG] = 5);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 2));
	COUNTED();
	/* in halves: nobody has seen that there are none */
	ASSERT_EQ(0, unguard(p, 1) | unguard(p + page, 1));
	COUNTED();
	ASSERT_EQ(0, unguard(p, 2));
	COUNTED([CLEARED] = 1);
	ASSERT_EQ(0, unguard(p, 2));
	COUNTED();
	/* all in one */
	ASSERT_EQ(-1, unguard(p, 20));
	ASSERT_EQ(ENOMEM, errno);
	COUNTED([CLEARED] = 4);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 1));
	COUNTED([FLAG] = 5);
	/* the first and the last in part only */
	ASSERT_EQ(-1, unguard(p + page, 12));
	COUNTED([CLEARED] = 3);
	ASSERT_EQ(0, munmap(p, 15 * page));
	COUNTED();
}

TEST_F(count, vector)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec vec[3];

	for (int i = 0; i < 3; i++) {
		vec[i].iov_base = AT + 4 * i * page;
		vec[i].iov_len = 2 * page;
		ASSERT_TRUE(put(vec[i].iov_base, 2));
	}
	ASSERT_EQ(6 * page, syscall(SYS_process_madvise, pidfd, vec, 3, MADV_GUARD_INSTALL, 0));
	COUNTED([FLAG] = 3);
	ASSERT_EQ(6 * page, syscall(SYS_process_madvise, pidfd, vec, 3, MADV_GUARD_REMOVE, 0));
	COUNTED([CLEARED] = 3);
}

/* Faults: who reads needs no anon_vma, nor does who writes to a shared file. */
TEST_F(count, upgraded)
{
	int upgrade = !shared(), mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(put(AT, 4));
		ASSERT_EQ(0, guard(AT, 1));
		COUNTED([FLAG] = 1);
		ASSERT_TRUE(fill(AT + page, "rrr"));
		ASSERT_EQ(GUARDED, look(AT));
		ASSERT_EQ(0, madvise(AT + page, 3 * page, MADV_POPULATE_READ));
		COUNTED();
		/* a guard is not written to */
		ASSERT_EQ(GUARDED, poke(AT, 1));
		COUNTED();
		ASSERT_TRUE(i == 0 ? fill(AT + page, "w") :
			    i == 1 ? !madvise(AT + page, page, MADV_POPULATE_WRITE) :
				     pwrite(mem, "x", 1, (off_t)(AT + page)) == 1);
		COUNTED([UPGRADE] = upgrade);
		ASSERT_TRUE(fill(AT + page, "www"));
		COUNTED();
		/* an anon_vma is for good */
		ASSERT_EQ(0, guard(AT, 2));
		ASSERT_EQ(0, unguard(AT, 4));
		COUNTED([CLEARED] = !upgrade);
		ASSERT_EQ(0, munmap(AT, 4 * page));
	}

	/* one that has it already */
	ASSERT_TRUE(lay(AT, "wg"));
	COUNTED([FLAG] = !upgrade);
}

/* All of whom find a flag, and one of whom replaces it. */
struct writer {
	pthread_t thread;
	pthread_barrier_t *start;
	char *at;
};

static void *write_once(void *arg)
{
	struct writer *w = arg;

	pthread_barrier_wait(w->start);
	return poke(w->at, expected('w', w->at)) ? "failed" : NULL;
}

TEST_F(count, upgraded_once)
{
	struct writer w[4];
	pthread_barrier_t start;
	void *failed;

	pthread_barrier_init(&start, NULL, 4);
	for (int round = 0; round < 10; round++) {
		ASSERT_TRUE(lay(AT, "g....g"));
		for (int i = 0; i < 4; i++) {
			w[i] = (struct writer){ .start = &start, .at = AT + (i + 1) * page };
			ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, write_once, &w[i]));
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(w[i].thread, &failed);
			EXPECT_EQ(NULL, failed);
		}
		COUNTED([FLAG] = 1, [UPGRADE] = !shared());
		EXPECT_TRUE(kept_in_child(AT, AT, "gwwwwg", 1));
		COUNTED([FORK] = shared());
		ASSERT_EQ(0, munmap(AT, 6 * page));
	}
}

TEST_F(count, split_and_merged)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_READ));
	COUNTED([SPLIT] = 2);
	/* all of them have it */
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED();
	ASSERT_EQ(0, munmap(AT + page, page));
	COUNTED([SPLIT] = 2);
	/* the hole had none */
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED();
	ASSERT_EQ(0, munmap(AT, 4 * page));
	COUNTED();

	/* one that is not, left of one that is */
	ASSERT_TRUE(put(AT, 2));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + 3 * page, 1));
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	EXPECT_EQ(GUARDED, look(AT + 3 * page));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* one between: the left one gets what the right one has */
	ASSERT_TRUE(put(AT, 1));
	ASSERT_TRUE(lay(AT + 2 * page, "g"));
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 3));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	ASSERT_EQ(0, munmap(AT, 3 * page));

	/* the right one grows over what was flagged */
	ASSERT_TRUE(put_prot(AT, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + page, 1));
	ASSERT_TRUE(put(AT + 2 * page, 2));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_RW));
	ASSERT_EQ(2, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	/* and moves beside one that was not, with the other one's */
	ASSERT_TRUE(put(AT + 8 * page, 1));
	ASSERT_EQ(0, munmap(AT, page));
	COUNTED();
	if (map.fd < 0) {
		ASSERT_EQ(AT + 9 * page, mremap(AT + page, 3 * page, 3 * page, MREMAP_MAYMOVE |
						MREMAP_FIXED, AT + 9 * page));
		ASSERT_EQ(1, vmas(AT + 8 * page, 4));
		COUNTED([MERGED] = 1);
	}
}

TEST_F(count, upgraded_by_merge)
{
	int upgrade = !shared();

	/* the target has the flag, the other one the anon_vma */
	ASSERT_TRUE(lay(AT, "g."));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(fill(AT + 2 * page, "w."));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([UPGRADE_MERGE] = upgrade);
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.w."));
	ASSERT_TRUE(fill(AT + page, "w"));
	COUNTED();
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* a hole between them */
	ASSERT_TRUE(lay(AT, "g"));
	ASSERT_TRUE(lay(AT + 2 * page, "w"));
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 3));
	COUNTED([FLAG] = 1, [UPGRADE_MERGE] = upgrade);
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* the target has the anon_vma: a flag less, and nothing is given to anybody */
	ASSERT_TRUE(lay(AT, "w."));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + 2 * page, 1));
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = !upgrade);
	EXPECT_TRUE(kept(AT, "w.g."));
}

TEST_F(count, moved)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	COUNTED([COPIED] = 1);
	ASSERT_EQ(AT, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED |
			     MREMAP_DONTUNMAP, AT));
	COUNTED([COPIED] = 1, [CLEARED_MOVED] = 1);
	/* the old one is like new: */
	ASSERT_EQ(0, unguard(AWAY, 4));
	COUNTED();
	ASSERT_EQ(0, guard(AWAY, 1));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, unguard(AWAY, 4));
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([CLEARED] = 2);
	ASSERT_EQ(0, munmap(AWAY, 4 * page));
	/* a part, which is split off first and leaves its flag there */
	ASSERT_EQ(0, guard(AT + page, 1));
	ASSERT_EQ(AWAY, mremap(AT + page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED |
			       MREMAP_DONTUNMAP, AWAY));
	EXPECT_EQ(GUARDED, look(AWAY));
	EXPECT_EQ(expected('.', AT + page), look(AT + page));
	COUNTED([FLAG] = 1, [COPIED] = 1);
	ASSERT_EQ(0, munmap(AWAY, page));
	ASSERT_EQ(AWAY, mremap(AT + page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	COUNTED([SPLIT] = 2, [COPIED] = 1);
}

TEST_F(count, forked)
{
	pid_t pid;

	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(lay(AT + 4 * i * page, "g."));
	ASSERT_TRUE(put(AWAY, 2));
	COUNTED([FLAG] = 4);
	for (int i = 0; i < 3; i++) {
		pid = fork();
		if (!pid)
			_exit(!succeeds(fork() ?: (_exit(0), 0)));
		ASSERT_TRUE(succeeds(pid));
		COUNTED([FORK] = 8);
	}
	/* neither those that have an anon_vma, nor those that have no guard */
	ASSERT_TRUE(fill(AT + page, "w"));
	ASSERT_EQ(0, unguard(AT + 4 * page, 2));
	ASSERT_EQ(0, madvise(AT + 8 * page, 2 * page, MADV_DONTFORK));
	COUNTED([UPGRADE] = !shared(), [CLEARED] = 1);
	pid = fork();
	if (!pid)
		_exit(0);
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1 + shared());
	if (map.fd < 0) {
		/* a child that has none has none to give to its own */
		ASSERT_EQ(0, madvise(AT + 12 * page, 2 * page, MADV_WIPEONFORK));
		pid = fork();
		if (!pid)
			_exit(madvise(AT + 12 * page, 2 * page, MADV_KEEPONFORK) ||
			      !succeeds(fork() ?: (_exit(0), 0)));
		ASSERT_TRUE(succeeds(pid));
		COUNTED();
	}
	/* the child's is its own */
	ASSERT_TRUE(lay(AWAY + 4 * page, "g."));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, munmap(AT, 16 * page));
	pid = fork();
	if (!pid)
		_exit(shared() ? 0 : poke(AWAY + 5 * page, 1));
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1, [UPGRADE] = !shared());
	pid = fork();
	if (!pid)
		_exit(unguard(AWAY + 4 * page, 2));
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1, [CLEARED] = 1);
	EXPECT_EQ(GUARDED, look(AWAY + 4 * page));
}

/* Poison is a marker, too, and must be copied as long as there was a flag. */
TEST_F(count, refused_marker)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, uffd_poison(fd, AT + 2 * page));
	ASSERT_EQ(0, uffd_unregister(fd, AT, 4));
	/* who may need an anon_vma gets it first */
	COUNTED([UPGRADE] = !shared());
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = shared());
	EXPECT_TRUE(kept_in_child(AT, AT, "zzpz", 1));
	COUNTED([FORK] = shared());
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = shared());
}

/* So is write protection, of pages that are not there. */
TEST_F(count, refused_write_protection)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(fd, AT, 4, true));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = 1);
	EXPECT_EQ(POISONED, poke(AT + page, 1));
	ASSERT_EQ(0, uffd_protect(fd, AT, 4, false));
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([CLEARED] = 1);
}

TEST_F(count, userfaultfd)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, uffd_copy(fd, AT + page));
	COUNTED([UPGRADE] = !shared());
	ASSERT_EQ(0, uffd_copy(fd, AT + 2 * page));
	COUNTED();
}

/* Two who remove the same guards at once: one of them is late. */
static void *remove_once(void *arg)
{
	pthread_barrier_wait(arg);
	return unguard(FAR_AWAY, 16 * HUGE / page) ? "failed" : NULL;
}

TEST_F(count, refused_changed)
{
	long is[ARRAY_SIZE(counters)], cleared = 0, changed = 0;

	/* whether they meet is up to the scheduler */
	EXPECT_TRUE(UNTIL(({
		pthread_barrier_t start;
		pthread_t thread;
		void *failed;

		ASSERT_EQ(FAR_AWAY, mmap(FAR_AWAY, 16 * HUGE, PROT_RW, map.flags | MAP_FIXED,
					 map.fd, 0));
		ASSERT_EQ(0, guard(FAR_AWAY, 16 * HUGE / page));
		pthread_barrier_init(&start, NULL, 2);
		ASSERT_EQ(0, pthread_create(&thread, NULL, remove_once, &start));
		EXPECT_EQ(NULL, remove_once(&start));
		pthread_join(thread, &failed);
		EXPECT_EQ(NULL, failed);
		munmap(FAR_AWAY, 16 * HUGE);
		ASSERT_EQ(0, counters_read(is));
		cleared = is[CLEARED] - self->was[CLEARED];
		changed = is[REFUSED_CHANGED] - self->was[REFUSED_CHANGED];
		changed;
	})));
	/* but one of them it always is */
	EXPECT_EQ(is[FLAG] - self->was[FLAG], cleared);
	EXPECT_LE(changed, cleared);
}

TEST_HARNESS_MAIN
