// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions: what it costs to install one, to fork with many, and to fault
 * beside one, and how many objects they take.
 *
 * Each VMA has two pages and a gap behind it, so that none merges with its
 * neighbour or shares its anon_vma; the first page may be used, the second one
 * guarded.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"
#include "util.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define MODULE_RMAP	"/sys/module/vmbench/parameters/rmap"
#define FILE_PATH	"/tmp/bench.guard"
#define STRIDE		3UL	/* pages */

enum kind { ANON, FILE_PRIVATE, FILE_SHARED };

static char *nth(unsigned int i)
{
	return ARENA + i * STRIDE * PAGE;
}

static void map_vmas(unsigned int n, enum kind kind)
{
	int flags = kind == FILE_SHARED ? MAP_SHARED : MAP_PRIVATE;
	static int fd = -1;
	unsigned int i;

	if (kind == ANON) {
		flags |= MAP_ANONYMOUS;
	} else if (fd < 0) {
		fd = open(FILE_PATH, O_RDWR | O_CREAT, 0600);
		if (fd < 0 || ftruncate(fd, 2 * PAGE) || unlink(FILE_PATH))
			die(FILE_PATH ": %s", strerror(errno));
	}
	for (i = 0; i < n; i++)
		if (mmap(nth(i), 2 * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			 kind == ANON ? -1 : fd, 0) == MAP_FAILED)
			die("mmap: %s", strerror(errno));
}

static void unmap_vmas(unsigned int n)
{
	if (munmap(ARENA, n * STRIDE * PAGE))
		die("munmap: %s", strerror(errno));
}

static void advise(char *addr, unsigned long pages, int advice)
{
	if (madvise(addr, pages * PAGE, advice))
		die("madvise(%d): %s", advice, strerror(errno));
}

static void touch(char *p)
{
	__asm__ volatile("movb $1, %0" : "=m"(*p));
}

/* Slabs as full as they can be: what rows before this one left costs no slow paths. */
static void shrink_slabs(void)
{
	static const char *const caches[] = { "anon_vma", "anon_vma_chain", "vm_area_struct" };
	char path[64];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(caches); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", caches[i]);
		write_file(path, "1");
	}
}

/* No row is about page tables: one page of this one stays in use. */
void setup_guard(void)
{
	shrink_slabs();
	touch(map(nth(GUARD_VMAS + 1), 1, PROT_READ | PROT_WRITE));
}

/*
 * Not in the batch: what was unmapped is freed by RCU, some ticks later; and pages
 * that are new go to the LRU lists some at a time (MADV_COLD lets none wait).
 */
static void map_again(enum kind kind)
{
	unmap_vmas(GUARD_VMAS);
	map_vmas(GUARD_VMAS, kind);
	advise(nth(GUARD_VMAS + 1), 1, MADV_COLD);
	usleep(50000);
}

void before_install_anon(void)
{
	map_again(ANON);
}

void before_install_file(void)
{
	map_again(FILE_PRIVATE);
}

void guard_install(unsigned int n)
{
	while (n--)
		advise(nth(n) + PAGE, 1, MADV_GUARD_INSTALL);
}

/* As before_flagged(), for the page that is left. */
void before_install_again(void)
{
	before_flagged();
}

void guard_install_again(unsigned int n)
{
	while (n--)
		advise(nth(n), 1, MADV_GUARD_INSTALL);
}

/* What is to be guarded is in use: it must be zapped. */
void before_install_mapped(void)
{
	unsigned int i;

	before_install_anon();
	for (i = 0; i < GUARD_VMAS; i++)
		touch(nth(i) + PAGE);
	advise(nth(GUARD_VMAS + 1), 1, MADV_COLD);
	usleep(50000);
}

void before_flagged(void)
{
	before_install_anon();
	guard_install(GUARD_VMAS);
	usleep(50000);
}

void first_fault(unsigned int n)
{
	while (n--)
		touch(nth(n));
}

/* Who pays for the anon_vma, in the end, is all the same. */
void guard_and_fault(unsigned int n)
{
	while (n--) {
		advise(nth(n) + PAGE, 1, MADV_GUARD_INSTALL);
		touch(nth(n));
	}
}

/*
 * The child must not run before fork has returned, and must not inherit what
 * keeps it from that.
 */
static void setup_fork(enum kind kind)
{
	struct sched_param first = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first))
		die("sched_setscheduler: %s", strerror(errno));
	map_vmas(FORK_GUARDS, kind);
}

void setup_fork_anon(void)
{
	setup_fork(ANON);
}

void setup_fork_file(void)
{
	setup_fork(FILE_PRIVATE);
}

static void advise_all(unsigned int n, unsigned long first, unsigned long pages, int advice)
{
	while (n--)
		advise(nth(n) + first * PAGE, pages, advice);
}

void setup_fork_guarded_anon(void)
{
	setup_fork_anon();
	advise_all(FORK_GUARDS, 1, 1, MADV_GUARD_INSTALL);
}

void setup_fork_guarded_file(void)
{
	setup_fork_file();
	advise_all(FORK_GUARDS, 1, 1, MADV_GUARD_INSTALL);
}

void setup_fork_removed_anon(void)
{
	setup_fork_guarded_anon();
	advise_all(FORK_GUARDS, 0, 2, MADV_GUARD_REMOVE);
}

void setup_fork_removed_file(void)
{
	setup_fork_guarded_file();
	advise_all(FORK_GUARDS, 0, 2, MADV_GUARD_REMOVE);
}

void before_fork_first(void)
{
	advise_all(FORK_GUARDS, 1, 1, MADV_GUARD_INSTALL);
	advise_all(FORK_GUARDS, 0, 2, MADV_GUARD_REMOVE);
}

/* Only what the parent does in fork, however many VMAs @n says there are. */
uint64_t time_fork(unsigned int n)
{
	uint64_t t = now();
	pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	(void)n;
	if (!pid)
		syscall(SYS_exit_group, 0);
	t = now() - t;
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork: %s", strerror(errno));
	return t;
}

static struct rmap {
	unsigned long anon_vmas, chains, bytes;
} before;

static struct rmap rmap(void)
{
	struct rmap r;
	char text[64];

	read_file(MODULE_RMAP, text, sizeof(text));
	if (sscanf(text, "%lu %lu %lu", &r.anon_vmas, &r.chains, &r.bytes) != 3)
		die("no numbers in " MODULE_RMAP ": %s", text);
	return r;
}

static void setup_objects(enum kind kind)
{
	map_vmas(OBJECT_GUARDS, kind);
	before = rmap();
	advise_all(OBJECT_GUARDS, 1, 1, MADV_GUARD_INSTALL);
}

void setup_objects_anon(void)
{
	setup_objects(ANON);
}

void setup_objects_file(void)
{
	setup_objects(FILE_PRIVATE);
}

void setup_objects_shared(void)
{
	setup_objects(FILE_SHARED);
}

uint64_t count_rmap_objects(unsigned int n)
{
	struct rmap r = rmap();

	(void)n;
	return r.anon_vmas - before.anon_vmas + r.chains - before.chains;
}

uint64_t count_rmap_bytes(unsigned int n)
{
	(void)n;
	return rmap().bytes - before.bytes;
}
