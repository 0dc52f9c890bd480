/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The reverse map of anonymous pages: what the tests of it have in common. The
 * pages they look at are those of a cgroup of their own, so that all of it can be
 * swapped out at once.
 */
#ifndef RMAP_UTIL_H
#define RMAP_UTIL_H

#include "vmlean_util.h"

#define CGROUP		"rmap"
#define CHECK		VMLEAN_DEBUGFS "/anon_vma/check"
#define RMAP_DEPTH	VMLEAN_DEBUGFS "/anon_vma/rmap_depth"

extern size_t page;

/* Apart from each other, and from all that is mapped otherwise. */
#define AT	(FAR_AWAY + 16 * page)
#define AWAY	(FAR_AWAY + (1UL << 30))

/* The number after KEY in a file, or its first one where KEY is ""; -1 if there is none. */
long number_in(const char *path, const char *key);

/* Swap out all of the cgroup, until the caller has no page there any more. */
bool swap_out(const char *at);

/*
 * What the kernel's checker finds wrong in the anon_vmas of a process, and prints;
 * -1 if it does not look. 0 as well on a kernel without one.
 */
long faults_of(pid_t pid);

/* A child that waits for go() before it goes on, and tells its parent so. */
struct child {
	pid_t pid;
	int from, to;
};

/* As fork(): 0 in the child. */
pid_t child_fork(struct child *child);

/* In the child: the parent may go on, and wait for it to say so. */
bool child_waits(struct child *child);

/* In the parent: wait until the child waits; let it go on; see how it ends. */
bool child_ready(struct child *child);
bool child_go(struct child *child);
bool child_ends(struct child *child);

/* On which node is a page of the caller? Negative: an errno. */
int node_of(char *at);

/* Move it, whoever else maps it: as node_of() then. */
int move_to(char *at, int node);

/* What /proc/kpageflags says of the page there; false if there is none. */
bool kpageflags_of(const char *at, uint64_t *flags);

/* Map a page full of 'k' at each address, and have KSM make them one. */
bool ksm_share(char *a, char *b);

/* Give all pages that KSM has merged back to those who shared them. */
bool ksm_unshare(void);

/* Two nodes, between which pages migrate. */
bool two_nodes(void);

#define NODES_NEEDED()							\
do {									\
	if (!two_nodes())						\
		SKIP(return, "one node only: boot with numa=fake=2");	\
} while (0)

/* For FIXTURE_SETUP() and FIXTURE_TEARDOWN(). */
#define SWAP_OPEN(on)							\
do {									\
	if (!cg_usable())						\
		SKIP(return, "no cgroup2 with memory and pids controllers"); \
	(on) = swap_on();						\
	if (!(on))							\
		SKIP(return, "no swap on " SWAP);			\
	/* What another CPU has read waits there for the LRU lists. */	\
	ASSERT_EQ(0, pin_to_one_cpu());					\
	ASSERT_EQ(0, cg_make(CGROUP));					\
	ASSERT_EQ(0, cg_enter(CGROUP));					\
} while (0)

#define SWAP_CLOSE(on)							\
do {									\
	cg_leave();							\
	EXPECT_TRUE(cg_remove(CGROUP));					\
	EXPECT_TRUE(!(on) || swap_off());				\
} while (0)

#endif /* RMAP_UTIL_H */
