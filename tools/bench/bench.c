// SPDX-License-Identifier: GPL-2.0
/*
 * Microbenchmarks of what the series touches; one table below defines the rows.
 *
 * Each row runs in a fresh process, once in the root cgroup and once in a child
 * cgroup made for it, without address space randomisation. A row's value is the
 * mean of the middle half of its batches, divided by the operations of a batch:
 * timer ticks hit few batches and so do not count.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"
#include "names.h"
#include "rmap.h"
#include "util.h"

#define MODULE_KO	"/lib/vmlean/vmbench.ko"
#define MODULE_PAIR	"/sys/module/vmbench/parameters/pair"
#define FAULT_PAGES	2048	/* far more than the page allocator keeps per CPU */
#define MANY_VMAS	64
#define FORK_VMAS	256
#define BRK_PAGES	8
#define STACK_PAGES	16
#define NEIGHBOURS	6
#define MAX_BATCHES	10000

static const char *nop_path;

static void unmap(char *addr, unsigned long pages)
{
	if (munmap(addr, pages * PAGE))
		die("munmap: %s", strerror(errno));
}

static void protect(char *addr, unsigned long pages, int prot)
{
	if (mprotect(addr, pages * PAGE, prot))
		die("mprotect: %s", strerror(errno));
}

static void touch(char *p)
{
	__asm__ volatile("movb $1, %0" : "=m"(*p));
}

/*
 * A few VMAs below which new mappings land. They do not merge with those; and
 * the leaf of the maple tree is neither full nor nearly empty, so that no row
 * has it split and joined all the time, which costs half as much again.
 */
static void setup_neighbours(void)
{
	unsigned int i;

	for (i = 0; i < NEIGHBOURS; i++)
		map(NULL, 1, i & 1 ? PROT_READ : PROT_NONE);
}

static void do_getppid(unsigned int n)
{
	while (n--)
		syscall(SYS_getppid);
}

static void do_mmap_munmap(unsigned int n)
{
	while (n--)
		unmap(map(NULL, 1, PROT_READ | PROT_WRITE), 1);
}

static char *brk_base;

static void setup_brk(void)
{
	brk_base = sbrk(4 * PAGE) + 4 * PAGE;
	brk_base = (char *)(((unsigned long)brk_base + PAGE - 1) & ~(PAGE - 1));
	if (brk(brk_base))
		die("brk: %s", strerror(errno));
}

static void do_brk(unsigned int n)
{
	while (n--) {
		if (syscall(SYS_brk, brk_base + BRK_PAGES * PAGE) !=
		    (long)(brk_base + BRK_PAGES * PAGE))
			die("brk: cannot grow");
		touch(brk_base);
		syscall(SYS_brk, brk_base);
	}
}

static void setup_protect(void)
{
	map(ARENA, 4, PROT_READ | PROT_WRITE);
	touch(ARENA);
	touch(ARENA + PAGE);
}

static void do_protect(unsigned int n)
{
	while (n--) {
		protect(ARENA, 1, PROT_READ);
		protect(ARENA, 1, PROT_READ | PROT_WRITE);
	}
}

static void do_protect_middle(unsigned int n)
{
	while (n--) {
		protect(ARENA + PAGE, 1, PROT_READ);
		protect(ARENA + PAGE, 1, PROT_READ | PROT_WRITE);
	}
}

static void do_hole(unsigned int n)
{
	while (n--) {
		unmap(ARENA + PAGE, 1);
		map(ARENA + PAGE, 1, PROT_READ | PROT_WRITE);
	}
}

static void move(char *from, char *to)
{
	if (mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		die("mremap: %s", strerror(errno));
}

static void setup_move(void)
{
	touch(map(ARENA, 1, PROT_READ | PROT_WRITE));
}

static void do_move(unsigned int n)
{
	while (n--) {
		move(ARENA, ARENA + 2 * PAGE);
		move(ARENA + 2 * PAGE, ARENA);
	}
}

static void do_fork(unsigned int n)
{
	while (n--) {
		pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

		if (!pid)
			syscall(SYS_exit_group, 0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			die("fork: %s", strerror(errno));
	}
}

static void setup_fork_vmas(void)
{
	map_many(FORK_VMAS);
}

static void do_exec(unsigned int n)
{
	static char *const argv[] = { "nop", NULL };
	static char *const envp[] = { NULL };
	int status;

	while (n--) {
		pid_t pid = vfork();

		if (!pid) {
			execve(nop_path, argv, envp);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			die("cannot execute %s", nop_path);
	}
}

static void *thread(void *arg)
{
	return arg;
}

/* As glibc does for a stack that is not in its cache. */
static void do_thread(unsigned int n)
{
	pthread_attr_t attr;
	pthread_t t;

	while (n--) {
		char *stack = map(NULL, STACK_PAGES, PROT_NONE);

		protect(stack + PAGE, STACK_PAGES - 1, PROT_READ | PROT_WRITE);
		pthread_attr_init(&attr);
		pthread_attr_setstack(&attr, stack + PAGE, (STACK_PAGES - 1) * PAGE);
		if (pthread_create(&t, &attr, thread, NULL) || pthread_join(t, NULL))
			die("pthread_create: %s", strerror(errno));
		unmap(stack, STACK_PAGES);
	}
}

static void setup_fault(void)
{
	map(ARENA, FAULT_PAGES, PROT_READ | PROT_WRITE);
}

static void before_fault(void)
{
	if (madvise(ARENA, FAULT_PAGES * PAGE, MADV_DONTNEED))
		die("madvise: %s", strerror(errno));
}

static void do_fault(unsigned int n)
{
	while (n--)
		touch(ARENA + n * PAGE);
}

/*
 * Each CPU holds what a cgroup is charged for objects by the page, so whether a
 * batch of few operations gives back one page more, or does so with each object,
 * depends on where in a page it begins. That is neither kernel's merit: each batch
 * begins elsewhere. A timer is charged, and fork does not copy it.
 */
static void shift_charge(void)
{
	struct sigevent quiet = { .sigev_notify = SIGEV_NONE };
	static timer_t timers[20];
	static unsigned int n;

	if (n == ARRAY_SIZE(timers))
		while (n)
			timer_delete(timers[--n]);
	if (timer_create(CLOCK_MONOTONIC, &quiet, &timers[n++]))
		die("timer_create: %s", strerror(errno));
}

static void before_munmap_many(void)
{
	map_many(MANY_VMAS);
}

static void do_munmap_many(unsigned int n)
{
	(void)n;
	unmap(ARENA, MANY_VMAS);
}

static void setup_mmap_many(void)
{
	map_many(MANY_VMAS);
}

static void before_mmap_many(void)
{
	unmap(ARENA, MANY_VMAS);
}

/* The kernel times this one by itself, see kernel/vmbench.c. */
static uint64_t time_vma_pair(unsigned int n)
{
	unsigned long long count, empty;
	char text[64];

	/* again, if an interrupt came into the empty loop */
	do {
		snprintf(text, sizeof(text), "%u", n);
		write_file(MODULE_PAIR, text);
		read_file(MODULE_PAIR, text, sizeof(text));
		if (sscanf(text, "%llu %llu", &count, &empty) != 2)
			die("no numbers in " MODULE_PAIR ": %s", text);
	} while (empty > count);
	return count - empty;
}

#define ROOT	1
#define MEMCG	2

/**
 * struct row - one row of the result
 * @name: in bench.json, there followed by the cgroup
 * @help: what is counted
 * @ops: operations of one batch
 * @batches: how many batches; the result is the mean of their middle half
 * @once: not in both cgroups, and no suffix to its name
 * @first: the row of the root cgroup runs before there is any other cgroup
 * @bare: no suffix to its name in the root cgroup
 * @asked: only if it is asked for by its name
 * @unit: of the result, where it is not what now() counts
 * @module: needs vmbench.ko
 * @children: how many are forked, see rmap.c
 * @setup: called once
 * @before: called before each batch, not timed
 * @run: the batch
 * @time: the batch, when it comes with a clock of its own
 */
struct row {
	const char *name;
	const char *help;
	unsigned int ops;
	unsigned int batches;
	bool once;
	bool first;
	bool bare;
	bool asked;
	const char *unit;
	bool module;
	unsigned int children;
	void (*setup)(void);
	void (*before)(void);
	void (*run)(unsigned int n);
	uint64_t (*time)(unsigned int n);
};

static const struct row rows[] = {
	{ "vma_pair", "vm_area_alloc() + vm_area_free() in the kernel",
	  .ops = 100, .batches = 201, .module = true, .first = true, .time = time_vma_pair },
	{ "vma_pair_beside", "the same in the root cgroup, beside others",
	  .ops = 100, .batches = 201, .module = true, .once = true, .time = time_vma_pair },
	{ "mmap_munmap", "mmap + munmap of one anonymous page, untouched",
	  .ops = 20, .batches = 301, .run = do_mmap_munmap },
	{ "mmap_many", "mmap beside 0 to 63 VMAs that stay, one page each",
	  .ops = MANY_VMAS, .batches = 101, .setup = setup_mmap_many,
	  .before = before_mmap_many, .run = map_many },
	{ "munmap_many", "one munmap of 64 VMAs, one untouched page each",
	  .ops = 1, .batches = 301,
	  .before = before_munmap_many, .run = do_munmap_many },
	{ "munmap_hole", "munmap of a page amid a mapping + mmap into the hole",
	  .ops = 62, .batches = 101, .setup = setup_protect, .run = do_hole },
	{ "brk", "brk grows the heap by 8 pages, one is written, brk shrinks it",
	  .ops = 62, .batches = 101, .setup = setup_brk, .run = do_brk },
	{ "mprotect_split_merge", "mprotect of a mapping's first page, in use, + back",
	  .ops = 20, .batches = 301, .setup = setup_protect, .run = do_protect },
	{ "mprotect_middle", "mprotect of a page in use amid a mapping + back",
	  .ops = 20, .batches = 301, .setup = setup_protect, .run = do_protect_middle },
	{ "mremap_move", "mremap of one touched page there + back",
	  .ops = 20, .batches = 301, .setup = setup_move, .run = do_move },
	{ "fork_exit", "fork + exit of the child + wait",
	  .ops = 5, .batches = 201, .run = do_fork },
	{ "fork_vmas", "the same with 256 more VMAs",
	  .ops = 1, .batches = 201, .setup = setup_fork_vmas, .run = do_fork },
	{ "exec", "vfork + exec of a static program that does nothing + wait",
	  .ops = 5, .batches = 201, .run = do_exec },
	{ "thread", "pthread_create + pthread_join on a newly mapped stack",
	  .ops = 31, .batches = 101, .run = do_thread },
	{ "page_fault", "first write to one of 2048 anonymous pages",
	  .ops = FAULT_PAGES, .batches = 41,
	  .setup = setup_fault, .before = before_fault, .run = do_fault },
	{ "prctl_name/known", "a VMA is given one of two names, 79 characters each, in turns",
	  .ops = 20, .batches = 101, .bare = true, .setup = setup_name, .run = name_known },
	{ "prctl_name/noop", "a VMA is given the name that it has",
	  .ops = 20, .batches = 101, .bare = true, .setup = setup_name, .run = name_noop },
	{ "prctl_name/unique", "a VMA is given a name that none ever had",
	  .ops = 20, .batches = 101, .bare = true,
	  .setup = setup_name, .before = before_name, .run = name_unique },
	{ "fork64k/unnamed", "fork_exit with 64K more VMAs, no pages",
	  .ops = 1, .batches = 8, .once = true, .setup = setup_unnamed, .run = do_fork },
	{ "fork64k/shared", "the same, each with the same name of 79 characters",
	  .ops = 1, .batches = 8, .once = true, .setup = setup_same, .run = do_fork },
	{ "fork64k/distinct", "the same, each with a name of its own",
	  .ops = 1, .batches = 8, .once = true, .setup = setup_distinct, .run = do_fork },
	{ "fork64k/strdup", "as shared, for a kernel whose fork copies each name",
	  .ops = 1, .batches = 8, .once = true, .asked = true,
	  .setup = setup_same, .run = do_fork },
	{ "anon_name_objects/same64k", "name objects of 64K VMAs that were given the same name",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_same, .time = count_names },
	{ "anon_name_objects/alt2", "the same with two names in turns",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_two, .time = count_names },
	{ "anon_name_objects/names16", "the same with 16 names in turns",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_sixteen, .time = count_names },
	{ "anon_name_objects/distinct", "the same with a name for each",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_distinct, .time = count_names },
	{ "guard_install/anon", "MADV_GUARD_INSTALL of one page of an unfaulted anonymous VMA",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_anon, .run = guard_install },
	{ "guard_install/file", "the same, of a private file mapping",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_file, .run = guard_install },
	{ "guard_install/again", "the same, of an anonymous VMA that has a guard elsewhere",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_again, .run = guard_install_again },
	{ "guard_install/mapped", "the same, of an anonymous page in use, first guard of its VMA",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_mapped, .run = guard_install },
	{ "first_fault/plain", "first write to an unfaulted anonymous VMA",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_anon, .run = first_fault },
	{ "first_fault/flagged", "the same, with a guard in the VMA",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_flagged, .run = first_fault },
	{ "first_fault/with_install", "installing that guard and the first write",
	  .ops = GUARD_VMAS, .batches = 101, .once = true, .setup = setup_guard,
	  .before = before_install_anon, .run = guard_and_fault },
	{ "fork_guard/none/anon", "fork with 4000 more anonymous VMAs, no pages: for each VMA",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_anon, .time = time_fork },
	{ "fork_guard/none/file", "the same with private file mappings",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_file, .time = time_fork },
	{ "fork_guard/guarded/anon", "as none, with a guard in each VMA",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_guarded_anon, .time = time_fork },
	{ "fork_guard/guarded/file", "the same with private file mappings",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_guarded_file, .time = time_fork },
	{ "fork_guard/removed/anon", "as none, after guards were installed and removed",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_removed_anon, .time = time_fork },
	{ "fork_guard/removed/file", "the same with private file mappings",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_removed_file, .time = time_fork },
	{ "fork_guard/first/anon", "as removed, but each fork is the first one after that",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_anon, .before = before_fork_first, .time = time_fork },
	{ "fork_guard/first/file", "the same with private file mappings",
	  .ops = FORK_GUARDS, .batches = 31, .once = true,
	  .setup = setup_fork_file, .before = before_fork_first, .time = time_fork },
	{ "guard_objects/anon", "anon_vmas and links to them of 20000 VMAs with a guard each",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_objects_anon, .time = count_rmap_objects },
	{ "guard_objects/file", "the same of private file mappings",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_objects_file, .time = count_rmap_objects },
	{ "guard_objects/shared", "the same of shared file mappings",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "objects",
	  .setup = setup_objects_shared, .time = count_rmap_objects },
	{ "guard_bytes/anon", "the size of these objects, of anonymous VMAs",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "bytes",
	  .setup = setup_objects_anon, .time = count_rmap_bytes },
	{ "guard_bytes/file", "the same of private file mappings",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "bytes",
	  .setup = setup_objects_file, .time = count_rmap_bytes },
	{ "guard_bytes/shared", "the same of shared file mappings",
	  .ops = 1, .batches = 1, .once = true, .module = true, .unit = "bytes",
	  .setup = setup_objects_shared, .time = count_rmap_bytes },
	{ "rmap_walk/child/16", "a walk for a page that one of 16 children wrote",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 16,
	  .time = time_walks_child },
	{ "rmap_walk/shared/16", "a walk for a page that 16 children share",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 16,
	  .time = time_walks_shared },
	{ "rmap_walk/child/64", "a walk for a page that one of 64 children wrote",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 64,
	  .time = time_walks_child },
	{ "rmap_walk/shared/64", "a walk for a page that 64 children share",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 64,
	  .time = time_walks_shared },
	{ "rmap_walk/child/256", "a walk for a page that one of 256 children wrote",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 256,
	  .time = time_walks_child },
	{ "rmap_walk/shared/256", "a walk for a page that 256 children share",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 256,
	  .time = time_walks_shared },
	{ "rmap_walk/child/1024", "a walk for a page that one of 1024 children wrote",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 1024,
	  .time = time_walks_child },
	{ "rmap_walk/shared/1024", "a walk for a page that 1024 children share",
	  .ops = RMAP_WALKS, .batches = 21, .once = true, .children = 1024,
	  .time = time_walks_shared },
	{ "rmap_visits/child/16", "VMAs visited in a walk when the first of these is swapped out",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 16, .time = count_visits_child },
	{ "rmap_visits/shared/16", "the same of the second",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 16, .time = count_visits_shared },
	{ "rmap_visits/child/64", "VMAs visited in a walk when the first of these is swapped out",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 64, .time = count_visits_child },
	{ "rmap_visits/shared/64", "the same of the second",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 64, .time = count_visits_shared },
	{ "rmap_visits/child/256", "VMAs visited in a walk when the first of these is swapped out",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 256, .time = count_visits_child },
	{ "rmap_visits/shared/256", "the same of the second",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 256, .time = count_visits_shared },
	{ "rmap_visits/child/1024", "VMAs visited in a walk when the first of these is swapped out",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 1024, .time = count_visits_child },
	{ "rmap_visits/shared/1024", "the same of the second",
	  .ops = RMAP_PARTS, .batches = 1, .once = true, .asked = true, .unit = "VMAs",
	  .children = 1024, .time = count_visits_shared },
	{ "anon_vma_check/65000", "anon_vma/check of a process with 65000 VMAs: for each VMA",
	  .ops = CHECKED_VMAS, .batches = 4, .once = true, .asked = true,
	  .setup = setup_check, .time = time_check },
	{ "getppid", "the cheapest system call", .once = true,
	  .ops = 1000, .batches = 51, .run = do_getppid },
};

static uint64_t batch(const struct row *r)
{
	uint64_t t;

	if (r->time)
		return r->time(r->ops);
	t = now();
	r->run(r->ops);
	return now() - t;
}

static double mean(const uint64_t *t, unsigned int n)
{
	double sum = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		sum += t[i];
	return sum / n;
}

/* In the process and the cgroup that are the row's own. */
static void measure(const struct row *r, const char *name, unsigned int batches)
{
	static uint64_t t[MAX_BATCHES];
	const char *what = r->unit ?: unit();
	unsigned int i, warm = batches / 4 + 5;
	double middle, all;

	setup_neighbours();
	if (r->children)
		setup_family(r->children);
	if (r->setup)
		r->setup();
	memset(t, 0, sizeof(t));
	for (i = 0; i < warm + batches; i++) {
		shift_charge();
		if (r->before)
			r->before();
		if (i < warm) {
			batch(r);
			continue;
		}
		mark_begin();
		t[i - warm] = batch(r);
		mark_end();
	}

	qsort(t, batches, sizeof(*t), compare_u64);
	middle = mean(t + batches / 4, batches - batches / 4 * 2) / r->ops;
	all = mean(t, batches) / r->ops;
	result(name, what, middle, (unsigned long)batches * r->ops);
	printf("# %-28s %12.2f %s; min %.2f, mean %.2f, max %.2f\n", name, middle, what,
	       (double)t[0] / r->ops, all, (double)t[batches - 1] / r->ops);
	fflush(stdout);
}

static void full_name(char *buf, size_t size, const struct row *r, int where)
{
	snprintf(buf, size, "%s%s", r->name,
		 where == MEMCG ? "/memcg" : r->once || r->bare ? "" : "/root");
}

static unsigned long symbol(const char *name)
{
	unsigned long addr, found = 0;
	char line[512], sym[256];
	FILE *f = fopen("/proc/kallsyms", "r");

	if (!f)
		die("cannot read /proc/kallsyms: %s", strerror(errno));
	while (!found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx %*c %255s", &addr, sym) == 2 && !strcmp(sym, name))
			found = addr;
	fclose(f);
	if (!found)
		die("no address of %s in /proc/kallsyms (root? CONFIG_KALLSYMS?)", name);
	return found;
}

static void load_module(void)
{
	char args[128];
	int fd;

	snprintf(args, sizeof(args), "vm_area_alloc=%#lx vm_area_free=%#lx",
		 symbol("vm_area_alloc"), symbol("vm_area_free"));
	fd = open(MODULE_KO, O_RDONLY);
	if (fd < 0 || syscall(SYS_finit_module, fd, args, 0))
		die("cannot insert " MODULE_KO ": %s", strerror(errno));
	close(fd);
}

/*
 * Give back the slabs that are empty, and sort the others. How full the slabs are
 * that a row begins with depends on the rows before it.
 */
static void shrink_slabs(void)
{
	glob_t files;
	size_t i;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &files))
		return;
	for (i = 0; i < files.gl_pathc; i++) {
		int fd = open(files.gl_pathv[i], O_WRONLY);

		if (fd < 0 || write(fd, "1", 1) != 1)
			die("%s: %s", files.gl_pathv[i], strerror(errno));
		close(fd);
	}
	globfree(&files);
}

/* A fresh process, and program, so that no row sees what another one left. */
static void run_row(const struct row *r, int where, char *batches)
{
	char *argv[] = { "bench", "-n", batches, "-c", (char *)r->name,
			 where == ROOT ? "root" : "memcg", NULL };
	char *envp[] = { NULL };
	char group[64], *slash;
	int status;
	pid_t pid;

	snprintf(group, sizeof(group), "bench.%s", r->name);
	for (slash = group; (slash = strchr(slash, '/')); )
		*slash = '.';
	if (where == MEMCG)
		cgroup_make(group);
	shrink_slabs();
	pid = fork();
	if (!pid) {
		if (where == MEMCG)
			cgroup_enter(group);
		if (personality(ADDR_NO_RANDOMIZE) < 0)
			die("personality: %s", strerror(errno));
		execve("/proc/self/exe", argv, envp);
		die("cannot execute /proc/self/exe: %s", strerror(errno));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die("row %s failed", r->name);
	if (where == MEMCG)
		cgroup_remove(group);
}

static bool wanted(const struct row *r, const char *name, int argc, char **argv)
{
	int i;

	for (i = 0; i < argc; i++)
		if (!fnmatch(argv[i], name, 0) || !fnmatch(argv[i], r->name, 0))
			return true;
	return !argc && !r->asked;
}

static bool module_loaded;

static bool run_wanted(const struct row *r, int where, char *batches, int argc, char **argv)
{
	char name[64];

	full_name(name, sizeof(name), r, where);
	if (!wanted(r, name, argc, argv))
		return false;
	if (r->module && !module_loaded)
		load_module();
	module_loaded |= r->module;
	run_row(r, where, batches);
	return true;
}

static void find_nop(void)
{
	static char path[256];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 8);

	if (len < 0)
		die("cannot read /proc/self/exe: %s", strerror(errno));
	path[len] = '\0';
	memcpy(strrchr(path, '/') + 1, "nop", sizeof("nop"));
	nop_path = path;
}

static void help(void)
{
	unsigned int i;

	printf("usage: bench [-r] [-n BATCHES] [ROW[/root|/memcg]]...\n"
	       "ROW may be a pattern: 'rmap_*'\n"
	       "-r: from the last row to the first\nrows:\n");
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		printf("  %-22s %s\n", rows[i].name, rows[i].help);
}

int main(int argc, char **argv)
{
	char *batches = "0";
	bool child = false, reversed = false;
	unsigned int i, n, done = 0;
	char name[64];
	int c, where;

	while ((c = getopt(argc, argv, "n:crh")) != -1) {
		switch (c) {
		case 'n':
			batches = optarg;
			break;
		case 'c':
			child = true;
			break;
		case 'r':
			reversed = true;
			break;
		default:
			help();
			return c != 'h';
		}
	}
	argc -= optind;
	argv += optind;
	n = atoi(batches);
	if (n > MAX_BATCHES)
		die("-n: at most %u", MAX_BATCHES);

	if (child) {
		for (i = 0; strcmp(argv[0], rows[i].name); i++)
			;
		find_nop();
		where = strcmp(argv[1], "root") ? MEMCG : ROOT;
		full_name(name, sizeof(name), &rows[i], where);
		measure(&rows[i], name, n ? n : rows[i].batches);
		return 0;
	}

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].first)
			done += run_wanted(&rows[i], ROOT, batches, argc, argv);
	cgroup_make("bench");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[reversed ? ARRAY_SIZE(rows) - 1 - i : i];

		for (where = r->first ? MEMCG : ROOT; where <= (r->once ? ROOT : MEMCG); where++)
			done += run_wanted(r, where, batches, argc, argv);
	}
	cgroup_remove("bench");
	if (module_loaded && syscall(SYS_delete_module, "vmbench", 0))
		die("cannot remove vmbench: %s", strerror(errno));
	if (!done)
		die("no such row (bench -h lists them)");
	return 0;
}
