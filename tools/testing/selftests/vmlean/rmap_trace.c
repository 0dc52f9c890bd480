// SPDX-License-Identifier: GPL-2.0
/*
 * The trace events of the reverse map: each comes where it should, with the values it
 * should; and anon_vma/rmap_depth of vmlean.ko, which counts from them.
 */
#include <sys/mount.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

#define TRACEFS	"/sys/kernel/tracing"
#define HERE	TRACEFS "/instances/rmap_test/"
#define EVENTS	HERE "events/rmap/"

static char text[1 << 18];

/* From now on, and no other process than the caller, and those that it forks. */
static bool trace(const char *event)
{
	int fd = open(HERE "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);	/* clears it */
	char path[128], pid[16];

	snprintf(path, sizeof(path), EVENTS "%s", event);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return !close(fd) &&
	       !write_file(HERE "options/event-fork", "1") &&
	       !write_file(HERE "set_event_pid", pid) && !write_file(path, "1");
}

/* How many events since then have all of that in their line? */
static int traced(const char *a, const char *b, const char *c)
{
	int n = 0;

	if (write_file(EVENTS "enable", "0") || read_file(HERE "trace", text, sizeof(text)) < 0)
		return -1;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		n += *line != '#' && strstr(line, a) && strstr(line, b) && strstr(line, c);
		*end = '\n';
	}
	return n;
}

/* As the events name a VMA. */
static const char *vma_at(const char *at, size_t pages)
{
	static char name[64];

	snprintf(name, sizeof(name), "vma=%lx-%lx ", (unsigned long)at,
		 (unsigned long)at + pages * page);
	return name;
}

static bool tracefs_here(void)
{
	return !access(TRACEFS "/instances", F_OK) || !mount("none", TRACEFS, "tracefs", 0, "");
}

FIXTURE(events) {
	bool made;
};

FIXTURE_SETUP(events)
{
	if (!*kconfig("CONFIG_RMAP_TRACE"))
		SKIP(return, "kernel without CONFIG_RMAP_TRACE");
	ASSERT_TRUE(tracefs_here());
	rmdir(HERE);		/* of a test that was killed */
	ASSERT_EQ(0, mkdir(HERE, 0700));
	self->made = true;
}

FIXTURE_TEARDOWN(events)
{
	if (self->made)
		EXPECT_EQ(0, rmdir(HERE));
}

#define SHOW()	ksft_print_msg("%s", text)

TEST_F(events, first_fault)
{
	ASSERT_NE(NULL, map_at(AT, 4));
	ASSERT_TRUE(trace("enable"));
	*AT = 'a';
	AT[page] = 'b';
	EXPECT_EQ(1, traced("anon_vma_alloc: ", "", ""));
	EXPECT_EQ(1, traced("anon_vma_link: ", vma_at(AT, 4), ""));
	EXPECT_EQ(1, traced("anon_vma_prepare: ", vma_at(AT, 4), "anon_vma="));
	ASSERT_TRUE(trace("enable"));
	ASSERT_EQ(0, munmap(AT, 4 * page));
	EXPECT_EQ(1, traced("anon_vma_unlink: ", vma_at(AT, 4), ""));
	EXPECT_EQ(1, traced("anon_vma_free: ", "", ""));
	EXPECT_EQ(2, traced("anon_vma_", "", ""));
}

/* A VMA takes the anon_vma of a neighbour that differs only in what is allowed. */
TEST_F(events, neighbour)
{
	ASSERT_NE(NULL, map_at(AT, 2));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_RW | PROT_EXEC));
	*AT = 'a';
	ASSERT_TRUE(trace("enable"));
	AT[page] = 'b';
	EXPECT_EQ(1, traced("anon_vma_prepare: ", vma_at(AT + page, 1), ""));
	EXPECT_EQ(0, traced("anon_vma_alloc: ", "", ""));
}

TEST_F(events, clone)
{
	ASSERT_NE(NULL, map_at(AT, 4));
	*AT = 'a';
	ASSERT_TRUE(trace("enable"));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_READ));
	EXPECT_EQ(2, traced("anon_vma_clone: ", "operation=split", "ret=0"));
	ASSERT_TRUE(trace("enable"));
	ASSERT_EQ(AWAY, mremap(AT, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	EXPECT_EQ(1, traced("anon_vma_clone: ", "operation=remap", "ret=0"));
	EXPECT_EQ(1, traced("anon_vma_unlink: ", vma_at(AT, 1), ""));
}

/* A child's anon_vma is used again by its grandchild when the child is gone. */
TEST_F(events, fork)
{
	struct child child;
	pid_t pid;

	ASSERT_NE(NULL, map_at(AT, 2));
	*AT = 'a';
	ASSERT_TRUE(trace("enable"));
	pid = child_fork(&child);
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	ASSERT_TRUE(child_ends(&child));
	EXPECT_EQ(1, traced("anon_vma_clone: ", vma_at(AT, 2), "operation=fork"));
	EXPECT_EQ(1, traced("anon_vma_fork: ", vma_at(AT, 2), ""));
	EXPECT_EQ(2, traced("anon_vma_link: ", vma_at(AT, 2), ""));
	EXPECT_EQ(2, traced("anon_vma_unlink: ", vma_at(AT, 2), ""));

	pid = child_fork(&child);
	ASSERT_LE(0, pid);
	if (!pid) {
		struct child next;

		/* orphaned: its parent, whose child this is, exits at once */
		pid = fork();
		if (pid)
			_exit(pid < 0);
		if (!child_waits(&child))
			_exit(1);
		if (!trace("enable"))
			_exit(2);
		pid = child_fork(&next);
		if (!pid)
			_exit(0);
		if (!child_ends(&next) || traced("anon_vma_reuse: ", vma_at(AT, 2), "") != 1)
			_exit(3);
		child_waits(&child);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	ASSERT_TRUE(child_ready(&child) && child_go(&child));
	EXPECT_TRUE(child_ready(&child));
	close(child.to);
}

TEST_F(events, guard_flag)
{
	char line[64];
	int status;
	pid_t pid;

	if (!*kconfig("CONFIG_GUARD_NO_ANON_VMA"))
		SKIP(return, "kernel without CONFIG_GUARD_NO_ANON_VMA");
	ASSERT_NE(NULL, map_at(AT, 4));
	ASSERT_TRUE(trace("enable"));
	ASSERT_EQ(0, madvise(AT, page, MADV_GUARD_INSTALL));
	ASSERT_EQ(0, madvise(AT + page, page, MADV_GUARD_INSTALL));
	EXPECT_EQ(1, traced("guard_flag_set: ", vma_at(AT, 4), "anon_vma=0000000000000000"));
	EXPECT_EQ(0, traced("anon_vma_", "", ""));
	ASSERT_EQ(0, madvise(AT, 2 * page, MADV_GUARD_REMOVE));
	ASSERT_TRUE(trace("enable"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	snprintf(line, sizeof(line), "%s", vma_at(AT, 4));
	EXPECT_EQ(2, traced("guard_flag_clear: ", line, ""));
}

/* A clone that fails has linked nothing, and says so. */
TEST_F(events, clone_fails)
{
	int fd = -1, failed = 0, linked = 0;

	INJECT_OPEN(fd);
	/* how many allocations come before that of the link is not the same each time */
	for (int nth = 1, tries = 0; tries < 100 && !failed; tries++) {
		munmap(AT, 4 * page);
		if (map_at(AT, 4))
			*AT = 'a';
		empty_cache(AWAY);
		trace("enable");
		arm(fd, nth);
		mprotect(AT, page, PROT_READ);	/* one split: before it no link is made */
		nth = armed(fd) ? 1 : nth + 1;
		arm(fd, 0);
		failed = traced("anon_vma_clone: ", "operation=split", "ret=-12");
		linked = traced("anon_vma_link: ", "", "");
	}
	inject_close(fd);
	EXPECT_EQ(1, failed);
	EXPECT_EQ(0, linked);
	EXPECT_EQ(0, faults_of(getpid()));
}

FIXTURE(walks) {
	bool on, made;
	int how;
};

FIXTURE_SETUP(walks)
{
	if (!*kconfig("CONFIG_RMAP_TRACE"))
		SKIP(return, "kernel without CONFIG_RMAP_TRACE");
	SWAP_OPEN(self->on);
	STATS_OPEN(self->how);
	ASSERT_TRUE(tracefs_here());
	rmdir(HERE);
	ASSERT_EQ(0, mkdir(HERE, 0700));
	self->made = true;
}

FIXTURE_TEARDOWN(walks)
{
	write_file(RMAP_DEPTH, "0");
	SWAP_CLOSE(self->on);
	if (self->made)
		EXPECT_EQ(0, rmdir(HERE));
	stats_close(self->how);
}

static long depth(const char *name)
{
	return read_file(RMAP_DEPTH, text, sizeof(text)) < 0 ? -1 : keyed_value(text, name);
}

/*
 * A page that all children share is found in as many VMAs; a page that a child has
 * written in one. "mm: change anon_vma linking to fix multi-process server scalability
 * issue".
 */
#define CHILDREN	16

TEST_F(walks, shared_and_own)
{
	struct child child[CHILDREN];
	long walks, visited;

	ASSERT_NE(NULL, map_at(AT, 2));
	AT[0] = 's';
	AT[page] = 'p';
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = child_fork(&child[i]);

		ASSERT_LE(0, pid);
		if (!pid) {
			AT[page] = 'c';
			if (!child_waits(&child[i]))
				_exit(1);
			_exit(!(UNTIL((madvise(AT + page, page, MADV_PAGEOUT),
				       swapped(AT + page))) && child_waits(&child[i])));
		}
		ASSERT_TRUE(child_ready(&child[i]));
	}

	/* the child's own: no walk visits more than one VMA */
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	for (int i = 0; i < CHILDREN; i++)
		ASSERT_TRUE(child_go(&child[i]) && child_ready(&child[i]));
	walks = depth("anon_walks");
	visited = depth("anon_visited");
	EXPECT_LE(CHILDREN, walks);
	EXPECT_LE(CHILDREN, depth("anon_visited_1"));
	EXPECT_LE(CHILDREN, depth("anon_hit_1"));
	/* others may walk meanwhile */
	EXPECT_LE(visited, 2 * walks) {
		SHOW();
	}

	/* the shared one: all */
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	ASSERT_TRUE(trace("rmap_walk_end/enable"));
	ASSERT_TRUE(swap_out(AT));
	EXPECT_LE(1, traced("rmap_walk_end: ", "type=anon visited=17 hit=17", "contended=0")) {
		SHOW();
	}
	EXPECT_LE(1, depth("anon_visited_16"));
	EXPECT_LE(1, depth("anon_hit_16"));
	for (int i = 0; i < CHILDREN; i++)
		EXPECT_TRUE(child_go(&child[i]) && child_ends(&child[i]));
}

/* Both walks of a migration find all: one takes the page away, the other puts it back. */
TEST_F(walks, migration)
{
	int to = 1;
	struct child child[3];

	NODES_NEEDED();
	ASSERT_NE(NULL, map_at(AT, 1));
	*AT = 'm';
	for (int i = 0; i < 3; i++) {
		ASSERT_LE(0, child_fork(&child[i]));
		if (!child[i].pid)
			_exit(!(child_waits(&child[i]) && *AT == 'm'));
		ASSERT_TRUE(child_ready(&child[i]));
	}
	ASSERT_TRUE(UNTIL(trace("rmap_walk_begin/enable") &&
			  !write_file(EVENTS "rmap_walk_end/enable", "1") &&
			  (to = !to, move_to(AT, to) == to) &&
			  traced("rmap_walk_end: ", "type=anon visited=4 hit=4", "") >= 2));
	EXPECT_LE(2, traced("rmap_walk_begin: ", "type=anon", "locked=")) {
		SHOW();
	}
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(child_go(&child[i]) && child_ends(&child[i]));
}

/* A page of a file: as many VMAs as map that offset. */
TEST_F(walks, file)
{
	int fd = memfd_create("walks", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, page));
	for (int i = 0; i < 5; i++) {
		char *p = mmap(AT + 2 * i * page, page, PROT_RW, MAP_SHARED | MAP_FIXED, fd, 0);

		ASSERT_NE(MAP_FAILED, p);
		*p = 'f';
	}
	ASSERT_TRUE(trace("rmap_walk_end/enable"));
	ASSERT_TRUE(swap_out(AT));
	EXPECT_LE(1, traced("rmap_walk_end: ", "type=file visited=5 hit=5", "contended=0")) {
		SHOW();
	}
	close(fd);
}

/* A page that KSM has merged: found by its stable node, of each of the two VMAs. */
TEST_F(walks, ksm)
{
	if (!*kconfig("CONFIG_KSM"))
		SKIP(return, "kernel without CONFIG_KSM");
	ASSERT_TRUE(ksm_share(AT, AWAY));
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	ASSERT_TRUE(trace("rmap_walk_end/enable"));
	ASSERT_TRUE(swap_out(AT));
	EXPECT_LE(1, traced("rmap_walk_end: ", "type=ksm visited=2 hit=2", "contended=0")) {
		SHOW();
	}
	EXPECT_LE(1, depth("ksm_walks"));
	EXPECT_LE(1, depth("ksm_hit_2"));
	ASSERT_TRUE(ksm_unshare());
}

/* What anon_vma/stats says of a first fault, of a fork, and of what fork need not make. */
struct counted {
	long allocated, freed, prepared, forked, depth, reused, chains, anon_vmas;
};

static struct counted counted(void)
{
	char stats[4096] = "";

	read_file(VMLEAN_DEBUGFS "/anon_vma/stats", stats, sizeof(stats));
	return (struct counted){
		.allocated = keyed_value(stats, "allocated"),
		.freed = keyed_value(stats, "freed"),
		.prepared = keyed_value(stats, "prepared"),
		.forked = keyed_value(stats, "forked"),
		.depth = keyed_value(stats, "depth"),
		.reused = keyed_value(stats, "reused"),
		.chains = keyed_value(stats, "chains"),
		.anon_vmas = keyed_value(stats, "anon_vmas"),
	};
}

TEST_F(walks, counters)
{
	struct counted before, after;
	struct child child;

	ASSERT_NE(NULL, map_at(AT, 1));
	before = counted();
	*AT = 'a';
	after = counted();
	EXPECT_EQ(before.allocated + 1, after.allocated);
	EXPECT_EQ(before.prepared + 1, after.prepared);
	EXPECT_EQ(before.anon_vmas + 1, after.anon_vmas);
	EXPECT_EQ(before.chains + 1, after.chains);

	/* a child has one more for each VMA with pages, one fork away from its root */
	before = counted();
	ASSERT_LE(0, child_fork(&child));
	if (!child.pid)
		_exit(!child_waits(&child));
	ASSERT_TRUE(child_ready(&child));
	after = counted();
	EXPECT_LT(before.forked, after.forked);
	EXPECT_LE(after.forked - before.forked, after.depth - before.depth);
	EXPECT_EQ(before.anon_vmas + after.forked - before.forked, after.anon_vmas);
	EXPECT_LE(before.chains + 2 * (after.forked - before.forked), after.chains);
	EXPECT_EQ(before.reused, after.reused);

	/* and all of it goes with the child */
	EXPECT_TRUE(child_go(&child) && child_ends(&child));
	EXPECT_TRUE(UNTIL(counted().chains == before.chains &&
			  counted().anon_vmas == before.anon_vmas));
	EXPECT_LE(after.freed + after.forked - before.forked, counted().freed);

	before = counted();
	ASSERT_EQ(0, munmap(AT, page));
	after = counted();
	EXPECT_EQ(before.freed + 1, after.freed);
	EXPECT_EQ(before.chains - 1, after.chains);
}

/* It counts when it is asked to, not before and not after; a start clears. */
TEST_F(walks, counts_when_asked)
{
	long walks;

	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	EXPECT_EQ(1, depth("counting"));
	*(volatile char *)map_at(AT, 1) = 'a';
	ASSERT_TRUE(swap_out(AT));
	walks = depth("anon_walks");
	EXPECT_LT(0, walks);
	EXPECT_EQ(-1, write_file(RMAP_DEPTH, "x"));

	/* twice is as once */
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "0\n"));
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "0"));
	EXPECT_EQ(0, depth("counting"));
	walks = depth("anon_walks");
	*(volatile char *)AT = 'b';
	ASSERT_TRUE(swap_out(AT));
	EXPECT_EQ(walks, depth("anon_walks"));

	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	ASSERT_EQ(0, write_file(RMAP_DEPTH, "1"));
	/* others may walk meanwhile */
	EXPECT_TRUE(UNTIL(!write_file(RMAP_DEPTH, "1") && !depth("anon_walks") &&
			  depth("anon_visited_1") == -1));
}

TEST_HARNESS_MAIN
