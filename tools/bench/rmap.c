// SPDX-License-Identifier: GPL-2.0
/*
 * What a walk of the reverse map costs a family: a process forks N children, each writes
 * some pages, and all share some others. With one anon_vma for all, a walk for a page that
 * one child has visits N VMAs: "mm: change anon_vma linking to fix multi-process server
 * scalability issue", of 2010, whose workload this is.
 *
 * What a single walk costs is seen by idle page tracking: to mark a page idle is to look
 * up who maps it, and little else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rmap.h"
#include "util.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define PAGES		4UL	/* that are shared, and as many that each child writes */
#define SHARED		ARENA
#define OWN		(ARENA + PAGES * PAGE)
#define SAMPLES		16	/* children whose pages are looked up */
#define PINNED		1024	/* reclaim takes a page with so many references for pinned */
#define GROUP		"bench.shared"
#define IDLE		"/sys/kernel/mm/page_idle/bitmap"
#define RMAP_DEPTH	"/sys/kernel/debug/vmlean/anon_vma/rmap_depth"

/*
 * What a child is told to do, by a word in memory that all share: thousands of pipes, and
 * to close them, would cost more than all that is measured.
 */
enum order { DONE, WRITE, READ, PAGE_OUT };

struct child {
	unsigned int order;
	uint64_t pfn;		/* of its first own page, once that is done */
};

static struct child *children;
static unsigned int nr_children;
static uint64_t own_pfn[SAMPLES], shared_pfn;

static uint64_t pfn_of(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, 8, (unsigned long)at / PAGE * 8) != 8)
		die("cannot read /proc/self/pagemap: %s", strerror(errno));
	close(fd);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* 64 page frames have a word; those whose bits are set become idle. */
static void mark_idle(int fd, uint64_t pfn, uint64_t bit)
{
	uint64_t word = bit << pfn % 64;

	if (pwrite(fd, &word, 8, pfn / 64 * 8) != 8)
		die("cannot write to " IDLE ": %s", strerror(errno));
}

static int open_idle(void)
{
	int fd = open(IDLE, O_RDWR);

	if (fd < 0)
		die("cannot open " IDLE ": %s", strerror(errno));
	return fd;
}

/* What CPUs hold back goes to the LRU lists. */
static void drain(void)
{
	write_file("/proc/sys/vm/drop_caches", "4");	/* quietly, from now on */
	write_file("/proc/sys/vm/drop_caches", "1");
}

static void set_order(struct child *child, enum order order)
{
	__atomic_store_n(&child->order, order, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &child->order, FUTEX_WAKE, 1, NULL);
}

/* Wait until it is another one. */
static enum order order_after(struct child *child, enum order order)
{
	while (__atomic_load_n(&child->order, __ATOMIC_SEQ_CST) == order)
		syscall(SYS_futex, &child->order, FUTEX_WAIT, order, NULL);
	return child->order;
}

static void serve(struct child *self)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		enum order order = order_after(self, DONE);

		for (unsigned int i = 0; i < PAGES && order == WRITE; i++)
			*(volatile char *)(OWN + i * PAGE) = order;
		for (unsigned int i = 0; i < PAGES && order == READ; i++)
			(void)*(volatile char *)(SHARED + i * PAGE);
		if (order == PAGE_OUT)
			madvise(OWN, PAGES * PAGE, MADV_PAGEOUT);
		self->pfn = pfn_of(OWN);
		set_order(self, DONE);
	}
}

static void order_all(enum order order)
{
	for (unsigned int i = 0; i < nr_children; i++) {
		set_order(&children[i], order);
		order_after(&children[i], order);
		if (i % (nr_children / SAMPLES) == 0)
			own_pfn[i / (nr_children / SAMPLES)] = children[i].pfn;
	}
}

static void fork_children(void)
{
	children = mmap(NULL, nr_children * sizeof(*children), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (children == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	for (unsigned int i = 0; i < nr_children; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork: %s", strerror(errno));
		if (!pid)
			serve(&children[i]);
	}
}

static void remove_group(void)
{
	cgroup_remove(GROUP);
}

void setup_family(unsigned int n)
{
	map(ARENA, 2 * PAGES, PROT_READ | PROT_WRITE);
	/* what all share is in a cgroup of its own, so that it alone can be reclaimed */
	cgroup_make(GROUP);
	atexit(remove_group);
	cgroup_enter(GROUP);
	for (unsigned int i = 0; i < PAGES; i++)
		SHARED[i * PAGE] = 's';
	cgroup_enter("");
	nr_children = n;
	fork_children();
	order_all(READ);
	order_all(WRITE);
	shared_pfn = pfn_of(SHARED);
	drain();
}

/* As often without any page: what remains are the walks. */
static uint64_t time_walks(const uint64_t *pfn, unsigned int pfns, unsigned int n)
{
	uint64_t t, empty, word;
	int fd = open_idle();

	do {		/* again, if an interrupt came into the empty loop */
		empty = now();
		for (unsigned int i = 0; i < n; i++)
			mark_idle(fd, pfn[i % pfns], 0);
		empty = now() - empty;
		t = now();
		for (unsigned int i = 0; i < n; i++)
			mark_idle(fd, pfn[i % pfns], 1);
		t = now() - t;
	} while (empty > t);
	if (pread(fd, &word, 8, pfn[0] / 64 * 8) != 8 || !(word >> pfn[0] % 64 & 1))
		die("page frame %#llx is not idle", (unsigned long long)pfn[0]);
	close(fd);
	return t - empty;
}

uint64_t time_walks_child(unsigned int n)
{
	return time_walks(own_pfn, SAMPLES, n);
}

uint64_t time_walks_shared(unsigned int n)
{
	return time_walks(&shared_pfn, 1, n);
}

static uint64_t counted(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static uint64_t visits(unsigned int parts)
{
	char text[8192];

	read_file(RMAP_DEPTH, text, sizeof(text));
	write_file(RMAP_DEPTH, "0");
	if (!counted(text, "anon_walks "))
		die("no walks in " RMAP_DEPTH);
	return counted(text, "anon_visited ") * parts / counted(text, "anon_walks ");
}

uint64_t count_visits_child(unsigned int parts)
{
	order_all(WRITE);
	drain();
	write_file(RMAP_DEPTH, "1");
	order_all(PAGE_OUT);
	return visits(parts);
}

/* As if nobody had used them of late: reclaim takes them at once, and activates none. */
static void forget_use(void)
{
	int fd = open_idle();

	for (unsigned int i = 0; i < PAGES; i++)
		mark_idle(fd, pfn_of(SHARED + i * PAGE), 1);
	close(fd);
	write_file("/proc/self/clear_refs", "1");
}

uint64_t count_visits_shared(unsigned int parts)
{
	int fd = open(CGROUP_ROOT "/" GROUP "/memory.reclaim", O_WRONLY);

	for (unsigned int i = 0; i < PAGES; i++)
		(void)*(volatile char *)(SHARED + i * PAGE);
	order_all(READ);
	drain();
	forget_use();
	write_file(RMAP_DEPTH, "1");
	/* it may find less, and says so */
	if (fd < 0 || (write(fd, "1M swappiness=200", 17) < 0 && errno != EAGAIN))
		die("cannot reclaim from cgroup " GROUP ": %s", strerror(errno));
	close(fd);
	if (pfn_of(SHARED) && nr_children + 1 < PINNED)
		die("a page that %u children share is not swapped out", nr_children);
	return visits(parts);
}

#define CHECK	"/sys/kernel/debug/vmlean/anon_vma/check"

/* As many VMAs as a process may have, nearly, all linked to one anon_vma. */
void setup_check(void)
{
	map(ARENA, CHECKED_VMAS, PROT_READ | PROT_WRITE);
	*ARENA = 'a';
	for (unsigned int i = 1; i < CHECKED_VMAS; i += 2)
		if (mprotect(ARENA + i * PAGE, PAGE, PROT_READ))
			die("mprotect: %s", strerror(errno));
}

uint64_t time_check(unsigned int n)
{
	char pid[16];
	uint64_t t;

	(void)n;
	snprintf(pid, sizeof(pid), "%d", getpid());
	t = now();
	write_file(CHECK, pid);
	return now() - t;
}
