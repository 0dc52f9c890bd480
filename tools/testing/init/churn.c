// SPDX-License-Identifier: GPL-2.0
/*
 * Work for the VMA code, as programs make it:
 *
 *   churn threads N ROUNDS	N threads that allocate and free big blocks
 *   churn storm N		N children, every second of which calls exec
 *   churn names N		N mappings, each named twice, and a child
 *   churn guards N		N mappings with a guard, two children, half of them without,
 *				and one more child
 */
#include <linux/prctl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* above malloc's threshold: each block is an mmap of its own */
#define BLOCK	(256 << 10)
#define KEPT	8

static long rounds;

static void *allocator(void *unused)
{
	char *kept[KEPT] = { NULL };
	long i;

	for (i = 0; i < rounds; i++) {
		char **slot = &kept[i % KEPT];

		free(*slot);
		*slot = malloc(BLOCK);
		if (!*slot)
			return "malloc";
		memset(*slot, (int)i, 4096);
		if (i % 4 == 0) {
			char *p = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			/* a split, a hole punched, and all of it gone */
			if (p == MAP_FAILED || mprotect(p + 4096, 4096, PROT_READ) ||
			    madvise(p, 16 * 4096, MADV_DONTNEED) || munmap(p, 16 * 4096))
				return "mmap";
		}
	}
	for (i = 0; i < KEPT; i++)
		free(kept[i]);
	return unused;
}

static int threads(int n)
{
	pthread_t t[64];
	int i, failed = 0;
	void *error;

	for (i = 0; i < n && i < 64; i++) {
		if (pthread_create(&t[i], NULL, allocator, NULL))
			return 1;
	}
	while (i--) {
		pthread_join(t[i], &error);
		if (error) {
			fprintf(stderr, "churn: %s failed\n", (char *)error);
			failed = 1;
		}
	}
	return failed;
}

static int storm(int n)
{
	int i, status;

	for (i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0) {
			if (i % 2)
				execl("/bin/true", "true", NULL);
			_exit(i % 2);
		}
		if (waitpid(pid, &status, 0) != pid || status)
			return 1;
	}
	return 0;
}

/* As allocators do: few names for many mappings, given again when they are used again. */
static int names(int n)
{
	static const char * const given[] = {
		"glibc: malloc", "glibc: malloc arena", "Go: heap", "Go: gc bits",
		"scudo:primary", "scudo:secondary", "dalvik-main space", "mimalloc",
	};
	char *base = mmap(NULL, n * 4096UL, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	if (base == MAP_FAILED)
		return 1;
	for (i = 0; i < 2 * n; i++) {
		if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base + i % n * 4096UL, 4096,
			  given[i % n % 8]))
			return 1;
	}
	return storm(2);
}

/* As stacks of threads have one: a guard, and nothing used yet; half of them go again. */
static int guards(int n)
{
	const size_t size = 3 * 4096;
	char *base = mmap(NULL, n * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	if (base == MAP_FAILED || munmap(base, n * size))
		return 1;
	for (i = 0; i < n; i++)
		if (mmap(base + i * size, 2 * 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
		    madvise(base + i * size, 4096, MADV_GUARD_INSTALL))
			return 1;
	if (storm(2))
		return 1;
	for (i = 0; i < n; i += 2)
		if (madvise(base + i * size, 2 * 4096, MADV_GUARD_REMOVE))
			return 1;
	return storm(1);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "threads")) {
		rounds = atol(argv[3]);
		return threads(atoi(argv[2]));
	}
	if (argc == 3 && !strcmp(argv[1], "storm"))
		return storm(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "names"))
		return names(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "guards"))
		return guards(atoi(argv[2]));
	fprintf(stderr, "usage: churn threads N ROUNDS | churn storm|names|guards N\n");
	return 2;
}
