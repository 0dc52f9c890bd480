// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations that fail, one by one, under each system call that changes
 * mappings; fork that fails; cgroups that run out of memory. Nothing may leak,
 * and an address space that a failed call has left must be what it was.
 */
#include <limits.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "rmap_util.h"

#define PAGES	8
#define TO	(FAR_AWAY + (1UL << 30))
#define FILLERS	(FAR_AWAY + (2UL << 30))
#define MIDDLE(p) ((p) + 2 * page)
#define LAST	3000		/* no call here makes that many allocations */

/*
 * One line per mapping of this process, without malloc(). Neighbours that
 * differ in nothing are one: a call that splits twice may be left with the
 * first split, which nobody can tell by its effects.
 */
static ssize_t maps_read(char *out, size_t size)
{
	static char buf[65536];
	unsigned long start, end, last_start = 0, last_end = 0;
	char *line, *save, *rest, last[256] = "";
	int len = 0;

	if (read_file("/proc/self/maps", buf, sizeof(buf)) < 0)
		return -1;
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		start = strtoul(line, &rest, 16);
		end = strtoul(rest + 1, &rest, 16);
		if (start == last_end && !strcmp(rest, last)) {
			last_end = end;
			continue;
		}
		if (last_end)
			len += snprintf(out + len, size - len, "%lx-%lx%s\n",
					last_start, last_end, last);
		last_start = start;
		last_end = end;
		snprintf(last, sizeof(last), "%s", rest);
	}
	len += snprintf(out + len, size - len, "%lx-%lx%s\n", last_start,
			last_end, last);
	return len < size ? len : -1;
}

/* The calls. p: PAGES touched pages. Each is undone by the next one's setup. */
static int call_mmap(char *p)
{
	return map_at(TO, 1) ? 0 : -1;
}

static int call_munmap(char *p)
{
	return munmap(p, PAGES * page);
}

static int call_munmap_middle(char *p)
{
	return munmap(MIDDLE(p), page);
}

static int call_mmap_over(char *p)
{
	return mmap(MIDDLE(p), page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0;
}

static int call_brk(char *p)
{
	return sbrk(4 * page) == (void *)-1 ? -1 : 0;
}

static int call_brk_shrink(char *p)
{
	void *top = sbrk(0);

	/* libc does not tell a failed shrink from a done one */
	if (syscall(SYS_brk, top - 2 * page) == (long)top) {
		errno = ENOMEM;
		return -1;
	}
	brk(top - 2 * page);
	return 0;
}

static int call_mprotect(char *p)
{
	return mprotect(MIDDLE(p), page, PROT_READ);
}

static int call_mremap_move(char *p)
{
	return mremap(p, PAGES * page, PAGES * page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, TO) == TO ? 0 : -1;
}

static int call_mremap_move_middle(char *p)
{
	return mremap(MIDDLE(p), page, page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, TO) == TO ? 0 : -1;
}

static int call_mremap_shrink(char *p)
{
	return mremap(p, PAGES * page, 2 * page, 0) == p ? 0 : -1;
}

static int call_madvise(char *p)
{
	return madvise(MIDDLE(p), page, MADV_DONTFORK);
}

static int call_mlock(char *p)
{
	return mlock(MIDDLE(p), page);
}

/* Each time a name that the process has not given before: it has to be allocated. */
static int call_name(char *p)
{
	static unsigned int n;
	char name[16];

	snprintf(name, sizeof(name), "name %u", n++);
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, MIDDLE(p), page, name);
}

static int call_fork(char *p)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -1;
	if (!pid)
		_exit(fill_cache(TO) ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -1;
}

static int name_each_page(char *p)
{
	int i, err = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGES * page, "many");

	for (i = 1; i < PAGES; i += 2)
		err |= mprotect(p + i * page, page, PROT_READ);
	return err;
}

/* The status of a child whose exec meets a failure: 0 or an errno, or killed. */
static int call_exec(const char *path, int nth)
{
	char *argv[] = { "fail", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };
	pid_t pid = fork();
	int status, fd, err;

	if (pid < 0)
		return -1;
	if (!pid) {
		/* the injection is not inherited: arm it here */
		fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
		if (fd < 0 || arm(fd, nth))
			_exit(255);
		execve(path, argv, envp);
		err = errno;
		_exit(arm(fd, 0) || fill_cache(TO) ? 255 : err);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void __attribute__((constructor)) exec_child(void)
{
	if (getenv("VMLEAN_EXEC"))
		_exit(0);
}

FIXTURE(failslab) {
	int nth_fd;
};

FIXTURE_VARIANT(failslab) {
	int (*call)(char *p);
	bool spares;		/* needs no more than VMAs: prepopulated or not, it gets them */
	bool named;		/* a VMA for each page, all with one name */
	bool gap;		/* may leave a hole at MIDDLE when it fails */
};

#define CALL(name, ...)							\
FIXTURE_VARIANT_ADD(failslab, name) { .call = call_##name, __VA_ARGS__ }

CALL(mmap, .spares = true);
CALL(munmap, .spares = true);
CALL(munmap_middle);
/* mm/vma.c, vms_abort_munmap_vmas(): what is gone does not come back */
CALL(mmap_over, .gap = true);
CALL(brk, .spares = true);
CALL(brk_shrink, .spares = true);
CALL(mprotect);
CALL(mremap_move);
CALL(mremap_move_middle);
CALL(mremap_shrink, .spares = true);
CALL(madvise);
CALL(mlock);
CALL(name);
CALL(fork);
/* fork takes references to a name at once: it must, too, where it fails half-way */
FIXTURE_VARIANT_ADD(failslab, fork_named) { .call = call_fork, .named = true };

FIXTURE_SETUP(failslab)
{
	INJECT_OPEN(self->nth_fd);
}

FIXTURE_TEARDOWN(failslab)
{
	inject_close(self->nth_fd);
}

static void check_call(struct __test_metadata *_metadata,
		       FIXTURE_DATA(failslab) *self,
		       const FIXTURE_VARIANT(failslab) *variant, bool full)
{
	static char before[65536], after[65536];
	int nth, left, ret, err, failed = 0;
	bool gap = false;
	char *heap = sbrk(8 * page);

	ASSERT_NE((void *)-1, heap);
	for (nth = 1; nth < LAST; nth++) {
		char *p;

		brk(heap + 8 * page);
		munmap(FAR_AWAY, PAGES * page);
		munmap(TO, PAGES * page);
		p = map_at(FAR_AWAY, PAGES);
		ASSERT_NE(NULL, p);
		memset(p, nth, PAGES * page);
		ASSERT_TRUE(!variant->named || !name_each_page(p));
		ASSERT_EQ(0, full ? fill_cache(FILLERS) : empty_cache(FILLERS));
		ASSERT_LT(0, maps_read(before, sizeof(before)));

		ASSERT_EQ(0, arm(self->nth_fd, nth));
		ret = variant->call(p);
		err = errno;
		left = armed(self->nth_fd);
		ASSERT_EQ(0, arm(self->nth_fd, 0));

		ASSERT_LT(0, maps_read(after, sizeof(after)));
		if (ret) {
			failed++;
			/* mlock(2): EAGAIN if pages could not be locked */
			ASSERT_TRUE(err == ENOMEM || err == EAGAIN) {
				TH_LOG("allocation %d: %s", nth, strerror(err));
			}
			gap = variant->gap && strcmp(before, after) &&
			      map_at(MIDDLE(p), 1) &&
			      maps_read(after, sizeof(after)) > 0;
			ASSERT_STREQ(before, after) {
				TH_LOG("allocation %d failed, and the mappings differ",
				       nth);
			}
			for (int i = 0; i < PAGES; i++)
				ASSERT_EQ(gap && i == 2 ? 0 : (char)nth,
					  p[i * page]);
			/*
			 * "mm: change anon_vma linking ...": to link a VMA with
			 * anon_vmas may fail, and must not leave half of the links
			 */
			ASSERT_EQ(0, faults_of(getpid()));
		}
		if (!full)
			munmap(FILLERS, 16 * page);
		if (left)
			break;
	}
	ASSERT_EQ(0, ret) {
		TH_LOG("fails without any injection: %s", strerror(err));
	}
	ASSERT_LT(nth, LAST);
	/* a refill that fails is tried again, under the lock */
	EXPECT_TRUE(failed || full || variant->spares) {
		TH_LOG("%d allocations were failed, and the call never was", nth - 1);
	}
	TH_LOG("%d allocations, %d of them needed", nth - 1, failed);
}

TEST_F(failslab, cache_empty)
{
	check_call(_metadata, self, variant, false);
}

TEST_F(failslab, cache_full)
{
	check_call(_metadata, self, variant, true);
}

FIXTURE(failure) {
	bool inject;
};

FIXTURE_SETUP(failure)
{
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("fail"));
}

FIXTURE_TEARDOWN(failure)
{
	cg_leave();
	EXPECT_TRUE(cg_remove("fail"));
	if (self->inject)
		inject_setup(false);
}

TEST_F(failure, exec)
{
	int nth, n = 100, status, killed = 0, failed = 0, done = 0;
	char self_path[PATH_MAX] = "";

	if (!*kconfig("CONFIG_FAILSLAB") ||
	    !*kconfig("CONFIG_FAULT_INJECTION_DEBUG_FS"))
		SKIP(return, "kernel without FAILSLAB and FAULT_INJECTION_DEBUG_FS");
	/* not through /proc, where failed allocations are ENOENT */
	ASSERT_LT(0, readlink("/proc/self/exe", self_path, PATH_MAX - 1));
	self->inject = true;
	ASSERT_EQ(0, inject_setup(true));
	for (nth = 1; nth <= n; nth++) {
		status = call_exec(self_path, nth);
		if (WIFSIGNALED(status)) {
			killed++;	/* past the point of no return */
		} else if (!status) {
			done++;
		} else {
			/* what exec makes of ENOMEM for arguments and headers */
			int err = WEXITSTATUS(status);

			failed++;
			ASSERT_TRUE(err == ENOMEM || err == E2BIG || err == ENOEXEC) {
				TH_LOG("allocation %d: %s", nth, strerror(err));
			}
		}
	}
	EXPECT_LT(0, failed);
	TH_LOG("%d allocations: exec failed %d, killed %d, done %d times", n,
	       failed, killed, done);
}

/* Charges of a cgroup come back to what they were; a page or two may stay. */
#define CHARGE_BACK(before)						\
	EXPECT_TRUE(UNTIL(cg_charge("fail") <= (before) + 4L * page)) {	\
		TH_LOG("%ld bytes are still charged, %ld before",	\
		       cg_charge("fail"), (long)(before));		\
	}

/* cgroup_can_fork() says no after the whole mm has been copied. */
TEST_F(failure, fork_pids_max)
{
	int i, n = rounds(500);
	long before = 0;

	ASSERT_EQ(0, cg_write("fail", "pids.max", "1"));
	ASSERT_EQ(0, cg_enter("fail"));
	for (i = 0; i <= n; i++) {
		ASSERT_EQ(0, fill_cache(FAR_AWAY));
		if (i == 1)
			before = cg_charge("fail");
		ASSERT_EQ(-1, fork());
		ASSERT_EQ(EAGAIN, errno);
	}
	CHARGE_BACK(before);
}

/* RLIMIT_NPROC says no before. */
TEST_F(failure, fork_nproc)
{
	struct rlimit none = { 0, 0 };
	int i, n = rounds(500), status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		if (setrlimit(RLIMIT_NPROC, &none) || setuid(65534))
			_exit(1);
		for (i = 0; i < n; i++) {
			if (fill_cache(FAR_AWAY))
				_exit(2);
			if (fork() != -1 || errno != EAGAIN)
				_exit(3);
		}
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

static void touch_forever(void)
{
	char *p = mmap(NULL, 256UL << 20, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS |
		       MAP_NORESERVE, -1, 0);

	for (size_t i = 0; i < 256UL << 20; i += page)
		p[i] = 1;
}

/* Nothing is charged but VMAs: one of their allocations meets the limit. */
static void map_forever(void)
{
	for (size_t i = 0; map_at(FAR_AWAY + 2 * i * page, 1); i++)
		if (i % 64 == 0)
			fill_cache(TO);
}

static void *churn(void *arg)
{
	char *at = arg;

	for (size_t i = 0;; i++) {
		char *p = map_at(at + 16 * i * page, 4);

		if (p) {
			memset(p, 1, 4 * page);
			mprotect(p + page, page, PROT_READ);
			munmap(MIDDLE(p), page);
		}
	}
	return NULL;
}

static void churn_forever(void)
{
	pthread_t thread;

	for (int i = 1; i < 4; i++)
		pthread_create(&thread, NULL, churn, FAR_AWAY + (i * 1UL << 40));
	churn(FAR_AWAY);
}

FIXTURE(oom) {
};

FIXTURE_VARIANT(oom) {
	void (*eat)(void);
};

FIXTURE_VARIANT_ADD(oom, pages) { .eat = touch_forever };
FIXTURE_VARIANT_ADD(oom, vmas) { .eat = map_forever };
FIXTURE_VARIANT_ADD(oom, threads) { .eat = churn_forever };

FIXTURE_SETUP(oom)
{
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("fail"));
}

FIXTURE_TEARDOWN(oom)
{
	EXPECT_TRUE(cg_remove("fail"));
}

TEST_F(oom, killed_and_gone)
{
	int i, n = rounds(4), status;

	for (i = 0; i < n; i++) {
		pid_t pid;

		ASSERT_EQ(0, cg_write("fail", "memory.max", "max"));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			/* no swap file where the kernel has no swap */
			cg_write("fail", "memory.swap.max", "0");
			if (cg_enter("fail") || fill_cache(TO) ||
			    cg_write("fail", "memory.max", "%ld",
				     cg_charge("fail") + (1L << 20)))
				_exit(1);
			variant->eat();
			_exit(2);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
			TH_LOG("not killed: status %#x", status);
		}
		EXPECT_LE(i + 1, cg_read("fail", "memory.events", "oom_kill"));
		EXPECT_TRUE(UNTIL(!cg_read("fail", "pids.current", NULL)));
		CHARGE_BACK(0);
	}
}

TEST_HARNESS_MAIN
