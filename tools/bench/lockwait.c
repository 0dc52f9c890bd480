// SPDX-License-Identifier: GPL-2.0
/*
 * How long a thread waits for mmap_lock while another one maps in a full cgroup.
 *
 * The process is in a cgroup at its memory.max, most of its memory in swap on
 * /dev/ram0. One thread maps thousands of single pages, which it never touches:
 * the VMAs are all that is charged, and about every 30 pages of them somebody
 * has to reclaim. Stock does that with mmap_lock held for write. The other
 * thread wakes up at irregular times, with real-time priority, and times one
 * mincore() of a page of its own, that is, one mmap_lock taken for read.
 *
 * There is one CPU, so the kernel is switched to full preemption: else nobody
 * would notice how long the lock is held. The waiting thread's own memory is
 * locked: it never waits for a page.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

#define GROUP		"lockwait"
#define MEMORY_MAX	(16UL << 20)
#define FILL		(32UL << 20)
#define SWAP_MIN	(48UL << 20)
#define SWAP_DEV	"/dev/ram0"
#define PREEMPT		"/sys/kernel/debug/sched/preempt"
#define PAGE		4096UL
#define VMAS		8192UL
#define LONG_WAIT	50000	/* several times what any mmap takes */
#define MAX_CALLS	200000
#define WARM_UP		1

static uint64_t calls[MAX_CALLS];
static unsigned long nr_calls, nr_blocked;
static volatile bool go, stop;
static char own_page[PAGE] __attribute__((aligned(PAGE)));

static void make_swap(void)
{
	static union {
		char bytes[PAGE];
		struct {
			char boot[1024];
			uint32_t version, last_page, nr_bad;
		};
	} header = { .version = 1 };
	uint64_t size = 0;
	int fd = open(SWAP_DEV, O_RDWR);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
		die("cannot open " SWAP_DEV ": %s", strerror(errno));
	if (size < SWAP_MIN)
		die(SWAP_DEV " has %lu MB, %lu are needed (boot with ramdisk_size=%lu)",
		    size >> 20, SWAP_MIN >> 20, SWAP_MIN >> 10);
	header.last_page = size / PAGE - 1;
	memcpy(header.bytes + PAGE - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, &header, PAGE, 0) != (ssize_t)PAGE || fsync(fd) || close(fd) ||
	    swapon(SWAP_DEV, 0))
		die("cannot swap on " SWAP_DEV ": %s", strerror(errno));
}

static unsigned long memory_stat(const char *key)
{
	unsigned long value, found = 0;
	char name[64];
	FILE *f = fopen(CGROUP_ROOT "/" GROUP "/memory.stat", "r");

	if (!f)
		die("cannot read memory.stat: %s", strerror(errno));
	while (fscanf(f, "%63s %lu", name, &value) == 2)
		if (!strcmp(name, key))
			found = value;
	fclose(f);
	return found;
}

static long context_switches(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_nvcsw;
}

static void *waiter(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct timespec pause = {};
	unsigned char vec;
	uint32_t seed = 1;

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("sched_setscheduler: %s", strerror(errno));
	while (!stop && nr_calls < MAX_CALLS) {
		long before;
		uint64_t t;

		seed = seed * 1664525 + 1013904223;
		pause.tv_nsec = 100000 + (seed >> 8) % 200000;
		nanosleep(&pause, NULL);
		before = context_switches();
		t = now();
		mincore(own_page, PAGE, &vec);
		t = now() - t;
		if (!go)
			continue;
		calls[nr_calls++] = t;
		nr_blocked += context_switches() != before;
	}
	return arg;
}

static char *vma_at(unsigned long i)
{
	return (char *)0x100000000000UL + i * PAGE;
}

static void map_all(void)
{
	unsigned long i;

	for (i = 0; i < VMAS; i++)
		if (mmap(vma_at(i), PAGE, i & 1 ? PROT_READ : PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != vma_at(i))
			die("mmap: %s", strerror(errno));
}

static void unmap_all(void)
{
	unsigned long i;

	for (i = 0; i < VMAS; i++)
		if (munmap(vma_at(i), PAGE))
			die("munmap: %s", strerror(errno));
}

/* Touch memory that is in swap until the cgroup is full again. */
static void fill(char *memory)
{
	static unsigned long at;
	unsigned long i;

	for (i = 0; i < 1024; i++, at = (at + PAGE) % FILL)
		memory[at]++;
}

int main(int argc, char **argv)
{
	int i, rounds = argc > 1 ? atoi(argv[1]) : 10;
	unsigned long scanned = 0, nr_long = 0, n, j;
	const char *what = unit();
	char text[32], *memory;
	pthread_t thread;

	write_file(PREEMPT, "full");
	make_swap();
	cgroup_make(GROUP);
	snprintf(text, sizeof(text), "%lu", MEMORY_MAX);
	write_file(CGROUP_ROOT "/" GROUP "/memory.max", text);
	cgroup_enter(GROUP);

	memset(calls, 0, sizeof(calls));
	if (pthread_create(&thread, NULL, waiter, NULL) || mlockall(MCL_CURRENT))
		die("cannot start the waiting thread: %s", strerror(errno));
	memory = mmap(NULL, FILL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	memset(memory, 1, FILL);

	for (i = 0; i < rounds + WARM_UP; i++) {
		unsigned long before;

		fill(memory);
		before = memory_stat("pgscan");
		go = i >= WARM_UP;
		map_all();
		go = false;
		if (i >= WARM_UP)
			scanned += memory_stat("pgscan") - before;
		unmap_all();
	}
	stop = true;
	pthread_join(thread, NULL);
	n = nr_calls;
	if (!n)
		die("the waiting thread never ran");
	if (!scanned)
		die("no page was reclaimed while mapping: this measures nothing");

	qsort(calls, n, sizeof(*calls), compare_u64);
	for (j = 0; j < n; j++)
		nr_long += calls[j] > LONG_WAIT;
	result("lock_wait/p50", what, calls[n / 2], n);
	result("lock_wait/p99", what, calls[n * 99 / 100], n);
	result("lock_wait/max", what, calls[n - 1], n);
	result("lock_wait/long", "waits", nr_long, n);
	printf("# lock_wait: %lu calls, %lu found the lock taken, %lu waited more than %d %s\n",
	       n, nr_blocked, nr_long, LONG_WAIT, what);
	printf("# lock_wait: p50 %lu, p99 %lu, max %lu\n",
	       calls[n / 2], calls[n * 99 / 100], calls[n - 1]);
	printf("# lock_wait: %lu pages scanned by reclaim inside %lu calls of mmap\n",
	       scanned, rounds * VMAS);
	return 0;
}
