// SPDX-License-Identifier: GPL-2.0
/*
 * anon_vma/check of vmlean.ko: who may ask, about whom, and what the answer counts.
 * What the checker finds is tested by mm/tests/anon_vma_check_kunit.c.
 */
#include <pthread.h>
#include <grp.h>
#include <signal.h>
#include <sys/time.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

#define NOBODY	65534

/* What a check says. */
struct verdict {
	long pid, vmas, chains, anon_vmas, folios, faults;
};

static int ask(int fd, pid_t pid)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", pid);

	return write(fd, text, len) == len ? 0 : -errno;
}

static bool answer(int fd, struct verdict *v)
{
	char text[1024];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	if (len < 0)
		return false;
	text[len] = 0;
	*v = (struct verdict){
		.pid = keyed_value(text, "pid"),
		.vmas = keyed_value(text, "vmas"),
		.chains = keyed_value(text, "chains"),
		.anon_vmas = keyed_value(text, "anon_vmas"),
		.folios = keyed_value(text, "folios"),
		.faults = keyed_value(text, "faults"),
	};
	return !strncmp(text, "version 1\n", 10);
}

FIXTURE(check) {
	int how, fd;
};

FIXTURE_SETUP(check)
{
	if (!*kconfig("CONFIG_ANON_VMA_CHECK"))
		SKIP(return, "kernel without CONFIG_ANON_VMA_CHECK");
	STATS_OPEN(self->how);
	self->fd = open(CHECK, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(check)
{
	close(self->fd);
	stats_close(self->how);
}

/* All mappings but the kernel's own page, which is no VMA. */
static int mappings(void)
{
	static char text[1 << 16];
	int n = 0;

	if (read_file("/proc/self/maps", text, sizeof(text)) < 0)
		return -1;
	for (char *at = text; (at = strchr(at, '\n')); at++)
		n++;
	return n - !!strstr(text, "[vsyscall]");
}

TEST_F(check, counts)
{
	int here = mappings();		/* and its buffer has its pages */
	struct verdict before, after;

	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_TRUE(answer(self->fd, &before));
	EXPECT_EQ(getpid(), before.pid);
	EXPECT_EQ(here, before.vmas);
	EXPECT_EQ(0, before.faults);
	EXPECT_LT(0, before.folios);

	ASSERT_NE(NULL, map_at(AT, 8));
	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_TRUE(answer(self->fd, &after));
	EXPECT_EQ(before.vmas + 1, after.vmas);
	EXPECT_EQ(before.chains, after.chains);

	for (int i = 0; i < 5; i++)
		AT[i * page] = 'a';
	ASSERT_EQ(0, mprotect(AT + 2 * page, page, PROT_READ));
	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_TRUE(answer(self->fd, &after));
	EXPECT_EQ(before.vmas + 3, after.vmas);
	EXPECT_EQ(before.chains + 3, after.chains);
	EXPECT_EQ(before.anon_vmas + 1, after.anon_vmas);
	EXPECT_EQ(before.folios + 5, after.folios);
	EXPECT_EQ(0, after.faults);
}

TEST_F(check, of_a_child)
{
	struct verdict own, v;
	struct child child;
	pid_t pid;

	ASSERT_NE(NULL, map_at(AT, 1));
	*AT = 'a';
	pid = child_fork(&child);
	ASSERT_LE(0, pid);
	if (!pid) {
		*AT = 'b';
		_exit(!child_waits(&child));
	}
	ASSERT_TRUE(child_ready(&child));
	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_TRUE(answer(self->fd, &own));
	EXPECT_EQ(0, own.faults);
	ASSERT_EQ(0, ask(self->fd, pid));
	ASSERT_TRUE(answer(self->fd, &v));
	EXPECT_EQ(pid, v.pid);
	EXPECT_EQ(0, v.faults);
	/* each VMA has the chain of its parent's, and one more */
	EXPECT_LT(own.chains, v.chains);
	EXPECT_TRUE(child_go(&child) && child_ends(&child));
}

/* A process that has exited, before and after somebody has waited for it. */
TEST_F(check, nobody_there)
{
	struct verdict v;
	pid_t pid = fork();
	siginfo_t info;

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-ESRCH, ask(self->fd, pid));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(-ESRCH, ask(self->fd, pid));
	/* what a check that failed leaves is the verdict before it */
	ASSERT_EQ(0, ask(self->fd, getpid()));
	EXPECT_EQ(-ESRCH, ask(self->fd, pid));
	ASSERT_TRUE(answer(self->fd, &v));
	EXPECT_EQ(getpid(), v.pid);
}

TEST_F(check, no_process)
{
	static const char *const text[] = { "\n", "x", "1x", "0", "-1", "99999999999", "1 2" };

	EXPECT_EQ(-EINVAL, ask(self->fd, 2));	/* kthreadd */
	for (int i = 0; i < 7; i++) {
		ssize_t n = write(self->fd, text[i], strlen(text[i]));

		EXPECT_EQ(-1, n) {
			TH_LOG("\"%s\" was taken", text[i]);
		}
		EXPECT_TRUE(errno == EINVAL || errno == ERANGE);
	}
}

/* Who opened the file may hand it on; what counts is who writes. */
TEST_F(check, as_for_ptrace)
{
	int status, fd = self->fd;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(2);
		_exit(ask(fd, getppid()) != -EACCES);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, seteuid(NOBODY));
	EXPECT_EQ(-1, open(CHECK, O_RDWR));
	EXPECT_EQ(EACCES, errno);
	ASSERT_EQ(0, seteuid(0));
}

/* Each file has its own verdict; a new one has the latest. */
TEST_F(check, whose_verdict)
{
	int other = open(CHECK, O_RDWR | O_CLOEXEC);
	struct verdict v;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_EQ(0, ask(other, 1));
	ASSERT_TRUE(answer(self->fd, &v));
	EXPECT_EQ(getpid(), v.pid);
	ASSERT_TRUE(answer(other, &v));
	EXPECT_EQ(1, v.pid);
	close(other);
	other = open(CHECK, O_RDONLY | O_CLOEXEC);
	ASSERT_TRUE(answer(other, &v));
	EXPECT_EQ(1, v.pid);
	close(other);
}

struct asker {
	pthread_t thread;
	pid_t pid;
	int n, wrong;
};

static void *ask_often(void *arg)
{
	struct asker *a = arg;
	int fd = open(CHECK, O_RDWR | O_CLOEXEC);
	struct verdict v;

	for (int i = 0; i < a->n; i++)
		a->wrong += ask(fd, a->pid) || !answer(fd, &v) || v.pid != a->pid || v.faults;
	close(fd);
	return NULL;
}

TEST_F(check, two_at_once)
{
	struct asker asker[2] = {
		{ .pid = getpid(), .n = rounds(200) },
		{ .pid = getppid(), .n = rounds(200) },
	};

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&asker[i].thread, NULL, ask_often, &asker[i]));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_join(asker[i].thread, NULL));
		EXPECT_EQ(0, asker[i].wrong);
	}
}

/* Whom it looks at maps, unmaps, faults, forks and exits meanwhile. */
TEST_F(check, while_it_changes)
{
	struct child child;
	struct verdict v;
	pid_t pid = child_fork(&child);
	int n = 0, err;

	ASSERT_LE(0, pid);
	if (!pid) {
		if (!child_waits(&child))
			_exit(1);
		for (int i = 0; i < rounds(300); i++) {
			pid_t grandchild;

			if (!map_at(AT, 8))
				_exit(2);
			for (int j = 0; j < 8; j++)
				AT[j * page] = j;
			mprotect(AT + page, page, PROT_READ);
			grandchild = i % 4 ? 0 : fork();
			if (!grandchild && !(i % 4)) {
				AT[0] = 'g';
				_exit(0);
			}
			if (grandchild)
				waitpid(grandchild, NULL, 0);
			mremap(AT, 8 * page, 8 * page, MREMAP_MAYMOVE | MREMAP_FIXED,
			       AT + 64 * page);
			munmap(AT, 8 * page);
			munmap(AT + 64 * page, 8 * page);
		}
		_exit(0);
	}
	ASSERT_TRUE(child_ready(&child));
	ASSERT_TRUE(child_go(&child));
	while (!(err = ask(self->fd, pid))) {
		ASSERT_TRUE(answer(self->fd, &v));
		ASSERT_EQ(0, v.faults);
		n++;
	}
	EXPECT_EQ(-ESRCH, err);
	EXPECT_LT(0, n);
	EXPECT_TRUE(child_ends(&child));
	ksft_print_msg("%d checks\n", n);
}

#define MANY	(64 << 10)

static void nothing(int sig)
{
}

/*
 * As many VMAs as a process may have, all of one anon_vma; a few where the kernel looks
 * at the whole tree of them whenever it changes one.
 */
TEST_F(check, many_vmas)
{
	struct sigaction act = { .sa_handler = nothing };
	struct itimerval soon = { .it_value.tv_usec = 1000, .it_interval.tv_usec = 1000 };
	int n = *kconfig("CONFIG_DEBUG_VM_MAPLE_TREE") ? 1 << 10 : MANY - mappings() - 16;
	struct itimerval never = {};
	struct verdict v;

	ASSERT_NE(NULL, map_at(AT, n));
	*AT = 'a';
	for (int i = 1; i < n; i += 2)
		ASSERT_EQ(0, mprotect(AT + i * page, page, PROT_READ));
	ASSERT_EQ(0, ask(self->fd, getpid()));
	ASSERT_TRUE(answer(self->fd, &v));
	EXPECT_EQ(0, v.faults);
	EXPECT_LT(n, v.vmas);
	EXPECT_LT(n, v.chains);
	EXPECT_GT(32, v.anon_vmas);

	/* a signal comes before its end, sooner or later */
	ASSERT_EQ(0, sigaction(SIGALRM, &act, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_TRUE(UNTIL(ask(self->fd, getpid()) == -EINTR));
	setitimer(ITIMER_REAL, &never, NULL);
	EXPECT_EQ(0, ask(self->fd, getpid()));
}

/* The module stays as long as the file is open. */
TEST_F(check, keeps_the_module)
{
	EXPECT_EQ(-1, syscall(SYS_delete_module, "vmlean", O_NONBLOCK));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, ask(self->fd, getpid()));
}

TEST_HARNESS_MAIN
