// SPDX-License-Identifier: GPL-2.0
/*
 * What the benchmarks need: the clock, a cgroup, the form of a result.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

/**
 * die() - say what is wrong and end with status 1
 * @fmt: as for printf(); one line without its end
 */
void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	fprintf(stderr, "bench: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

/**
 * unit() - what now() counts on this machine
 *
 * Times a loop of known length. QEMU with -icount shift=0 advances the clock
 * by 1 ns an instruction and its TSC by 1 a ns; anything else is cycles.
 *
 * Return: "instructions" or "cycles".
 */
const char *unit(void)
{
	const uint64_t insns = 2000000;
	uint64_t loops, t, best = UINT64_MAX;
	int i;

	for (i = 0; i < 5; i++) {	/* a timer tick may hit some */
		loops = insns / 2;
		t = now();
		__asm__ volatile("1: dec %0; jnz 1b" : "+r"(loops) :: "cc");
		t = now() - t;
		best = t < best ? t : best;
	}
	return best >= insns && best < insns + 100 ? "instructions" : "cycles";
}

/**
 * result() - print one row for scripts/bench and for the reader
 * @name: the row's name in bench.json
 * @unit: what @value counts
 * @value: the result
 * @operations: how many were measured
 */
void result(const char *name, const char *unit, double value, unsigned long operations)
{
	printf("# json bench {\"name\": \"%s\", \"unit\": \"%s\", ", name, unit);
	printf("\"value\": %.2f, \"operations\": %lu}\n", value, operations);
	fflush(stdout);
}

int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("cannot write '%s' to %s: %s", text, path, strerror(errno));
	close(fd);
}

void read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);

	if (len < 0)
		die("cannot read %s: %s", path, strerror(errno));
	close(fd);
	text[len] = '\0';
}

/**
 * map() - map anonymous pages, private
 * @addr: where, or NULL
 * @pages: how many
 * @prot: as for mmap()
 *
 * Return: where they are.
 */
char *map(char *addr, unsigned long pages, int prot)
{
	char *p = mmap(addr, pages * PAGE, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | (addr ? MAP_FIXED : 0), -1, 0);

	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return p;
}

/**
 * map_many() - map many VMAs of one page, from ARENA on
 * @n: how many
 *
 * Neighbours differ in their protection: they stay VMAs of their own.
 */
void map_many(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		map(ARENA + i * PAGE, 1, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
}

static const char *cgroup_path(const char *name, const char *file)
{
	static char path[256];

	snprintf(path, sizeof(path), CGROUP_ROOT "/%s/%s", name, file);
	return path;
}

/**
 * cgroup_make() - make a child of the root cgroup with a memory controller
 * @name: its name
 */
void cgroup_make(const char *name)
{
	if (mkdir(cgroup_path(name, ""), 0755) && errno != EEXIST)
		die("cannot make cgroup %s: %s (is cgroup2 mounted on " CGROUP_ROOT "?)",
		    name, strerror(errno));
	if (access(cgroup_path(name, "memory.max"), W_OK))
		die("cgroup %s has no memory controller (write +memory to "
		    CGROUP_ROOT "/cgroup.subtree_control)", name);
}

/**
 * cgroup_enter() - move this process into a cgroup
 * @name: of the cgroup; "" is the root
 */
void cgroup_enter(const char *name)
{
	write_file(cgroup_path(name, "cgroup.procs"), "0");
}

/**
 * cgroup_remove() - remove an empty cgroup
 * @name: its name
 */
void cgroup_remove(const char *name)
{
	if (rmdir(cgroup_path(name, "")))
		die("cannot remove cgroup %s: %s", name, strerror(errno));
}
