/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that work on guard regions at once, and what comes out of it: for the
 * tests of races, guard_race*.c.
 *
 * Two things hold in whatever order all that comes: a guard whose installation
 * has returned is there until somebody begins to remove it; and a child has the
 * guards that its parent had in the moment of the fork, no more and no less.
 */
#ifndef GUARD_TEAM_H
#define GUARD_TEAM_H

#include <limits.h>
#include <linux/falloc.h>
#include <linux/mman.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>

#include "vmlean_util.h"

#define TABLE		512		/* pages of a page table */
#define MAX_PAGES	(8 * TABLE)
#define MAX_AREAS	16
#define PM_GUARD	(1ULL << 58)	/* in /proc/PID/pagemap */
#define THP		"/sys/kernel/mm/transparent_hugepage/"

#define load(p)		__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store(p, v)	__atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

/*
 * Waiting is spinning. An emulated CPU gives way to another at a pause, but gets
 * it back only when that one pauses, or much later.
 */
#define spin_until(cond)			\
do {						\
	while (!(cond)) {			\
		sched_yield();			\
		__builtin_ia32_pause();		\
	}					\
} while (0)

/* What all threads work on: VMAs that are alike, each with nothing near it. */
extern struct area {
	int pages, nr, fd;
	bool private, huge;
} area;

extern size_t page;

size_t bytes(void);
char *at(int nr);
int area_map(int nr);
int area_unmap(int nr);
/* area.fd becomes a file as large as one of them; 0 if it did. */
int area_file(void);

int install(char *p, int pages);
int uninstall(char *p, int pages);

/* Is there a guard? The kernel reads a path there, which is empty, or cannot. */
bool guarded(const char *p);

/* A write fault, unless there is a guard. */
bool poke(char *p);

/* What processes of a test have in common. */
extern struct common {
	int seen[MAX_AREAS];
	long collapsed, tried;
	int ready;
} *common;

/* The threads of a test: all at work, or all waiting. */
extern struct team {
	int nr, arrived, round, end;
	int acts, busy;			/* who has so much to do, and is not done */
	int writes;
	long forks;			/* that have begun */
	uint32_t removals;		/* of all guards; odd while at it */
} team;

struct worker;
typedef void (*act_t)(struct worker *w);

struct worker {
	act_t act;
	bool background;		/* at work as long as somebody else is */
	pthread_t thread;
	int nr;
	uint32_t random;
	const char *err;
	int err_nr;
};

extern int broken;			/* one of them has failed */

uint32_t rnd(struct worker *w);
void failed(struct worker *w, const char *what);
void wrong(struct worker *w, const char *what);
void meet(void);
int team_start(struct worker *w, int n, int acts);
void team_begin(struct worker *w);

/* What went wrong in the threads, if anything. */
const char *team_end(struct worker *w, int n);

/*
 * Four threads, over and over; but their process is killed, or it exits or execs,
 * after some of their acts. Returns "", or how one did not end as it should.
 */
const char *team_dies(act_t const act[4], int *processes);

/* Wait for a child that says with its status how many pages were wrong. */
int child_wrong(pid_t pid);

/*
 * While nobody changes anything: for how many pages of the areas does a child
 * not have what its parent has?
 */
int compare_with_child(int areas);

/* The same, all being guarded. */
int all_in_child(const char *p, int pages);

/* For SETUP(). */
int team_setup(void);
bool guards_here(void);

#define SETUP()							\
do {								\
	ASSERT_EQ(0, team_setup());				\
	if (!guards_here())					\
		SKIP(return, "no MADV_GUARD_INSTALL");		\
} while (0)

/* How many times as long as usual it may take. */
double times(void);

/* As many rounds as are asked for, or fit into the time there is; but a few. */
#define for_rounds(i, n, seconds)					\
	for (double __begin = (i = 0, now());				\
	     i < 16 || (i < rounds(n) * times() &&			\
			now() < __begin + (seconds) * times()); i++)

#define report(fmt, ...)						\
	ksft_print_msg("%s.%s: " fmt "\n", _metadata->fixture->name,	\
		       _metadata->name, ##__VA_ARGS__)

#endif /* GUARD_TEAM_H */
