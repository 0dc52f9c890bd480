/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the benchmarks need: the clock, a cgroup, the form of a result.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stddef.h>
#include <stdint.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

#define PAGE		4096UL

/* Far from everything else, so that nothing here merges with a neighbour. */
#define ARENA		((char *)0x100000000000UL)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Under QEMU's -icount shift=0 this counts instructions, see unit(). */
static inline uint64_t now(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) :: "memory");
	return (uint64_t)hi << 32 | lo;
}

/*
 * Instructions with no effect, which the QEMU plugin takes for "begin to count"
 * and "stop": nopl with a displacement that no compiler makes.
 */
static inline void mark_begin(void)
{
	__asm__ volatile(".byte 0x0f, 0x1f, 0x80, 'v', 'm', 'l', 1" ::: "memory");
}

static inline void mark_end(void)
{
	__asm__ volatile(".byte 0x0f, 0x1f, 0x80, 'v', 'm', 'l', 2" ::: "memory");
}

void die(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
const char *unit(void);
void result(const char *name, const char *unit, double value, unsigned long operations);
int compare_u64(const void *a, const void *b);
void read_file(const char *path, char *text, size_t size);
char *map(char *addr, unsigned long pages, int prot);
void map_many(unsigned int n);
void write_file(const char *path, const char *text);
void cgroup_make(const char *name);
void cgroup_enter(const char *name);
void cgroup_remove(const char *name);

#endif /* BENCH_UTIL_H */
