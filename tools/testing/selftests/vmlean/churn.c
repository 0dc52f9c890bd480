// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that changes mappings, from several threads of one process at
 * once, and all that changes those of another process: each call must do what
 * it does alone, and the pages must keep their contents.
 */
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/shm.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define PAGES	8
#define THREADS	4

static size_t page;

/* A thread's own place: p, PAGES pages, mapped anew for each call. */
struct place {
	char *p;
	int memfd, uffd;
};

#define END(pl)		((pl)->p + (PAGES - 1) * page)
#define MIDDLE(pl)	((pl)->p + PAGES / 2 * page)
#define ELSEWHERE(pl)	((pl)->p + 4 * PAGES * page)

static int do_munmap(struct place *pl)
{
	return munmap(MIDDLE(pl), page) || munmap(END(pl), page) ||
	       !map_at(MIDDLE(pl), 1) || !map_at(END(pl), 1);
}

static int do_mmap_over(struct place *pl)
{
	return mmap(MIDDLE(pl), page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_FIXED, -1, 0) != MIDDLE(pl) ||
	       mprotect(MIDDLE(pl), page, PROT_RW);
}

static int do_mmap_file(struct place *pl)
{
	char *p = mmap(ELSEWHERE(pl), 2 * page, PROT_RW, MAP_SHARED |
		       MAP_FIXED_NOREPLACE, pl->memfd, 0);

	if (p == MAP_FAILED)
		return -1;
	*p = 1;
	return mprotect(p, page, PROT_READ) || munmap(p, 2 * page);
}

static int do_mprotect(struct place *pl)
{
	return mprotect(MIDDLE(pl), page, PROT_READ) ||
	       mprotect(pl->p, PAGES * page, PROT_READ) ||
	       mprotect(pl->p, PAGES * page, PROT_RW);
}

static int do_mremap(struct place *pl)
{
	return mremap(MIDDLE(pl), page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      ELSEWHERE(pl)) != ELSEWHERE(pl) ||
	       mremap(ELSEWHERE(pl), page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      MIDDLE(pl)) != MIDDLE(pl) ||
	       mremap(pl->p, PAGES * page, PAGES * page, MREMAP_MAYMOVE |
		      MREMAP_FIXED, ELSEWHERE(pl)) != ELSEWHERE(pl) ||
	       mremap(ELSEWHERE(pl), PAGES * page, PAGES * page, MREMAP_MAYMOVE |
		      MREMAP_FIXED, pl->p) != pl->p;
}

static int do_mremap_resize(struct place *pl)
{
	return mremap(pl->p, PAGES * page, 2 * PAGES * page, 0) != pl->p ||
	       mremap(pl->p, 2 * PAGES * page, PAGES * page, 0) != pl->p;
}

static int do_madvise(struct place *pl)
{
	return madvise(MIDDLE(pl), page, MADV_DONTFORK) ||
	       madvise(MIDDLE(pl), page, MADV_DOFORK) ||
	       madvise(END(pl), page, MADV_WIPEONFORK) ||
	       madvise(END(pl), page, MADV_KEEPONFORK) ||
	       madvise(pl->p, 2 * page, MADV_SEQUENTIAL) ||
	       madvise(pl->p, 2 * page, MADV_NORMAL);
}

static int do_mlock(struct place *pl)
{
	return mlock(MIDDLE(pl), page) || mlock2(END(pl), page, MLOCK_ONFAULT) ||
	       munlock(pl->p, PAGES * page);
}

static int do_mbind(struct place *pl)
{
	unsigned long node0 = 1;

	return syscall(SYS_mbind, MIDDLE(pl), page, MPOL_BIND, &node0, 8, 0) ||
	       syscall(SYS_mbind, MIDDLE(pl), page, MPOL_DEFAULT, NULL, 0, 0);
}

static int do_name(struct place *pl)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, MIDDLE(pl), page, "churn") ||
	       prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, MIDDLE(pl), page, NULL);
}

static int do_brk(struct place *pl)
{
	/* shared by all threads: the heap only has to stay a heap */
	sbrk(page);
	sbrk(-page);
	return 0;
}

static int do_uffd(struct place *pl)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)MIDDLE(pl), page },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(pl->uffd, UFFDIO_REGISTER, &reg) ||
	       ioctl(pl->uffd, UFFDIO_UNREGISTER, &reg.range);
}

static int do_shm(struct place *pl)
{
	int id = shmget(IPC_PRIVATE, 2 * page, IPC_CREAT | 0600);
	char *p;
	int err;

	if (id < 0)
		return -1;
	p = shmat(id, ELSEWHERE(pl), 0);
	err = p != ELSEWHERE(pl);
	if (!err) {
		*p = 1;
		err = mprotect(p, page, PROT_READ) || shmdt(p);
	}
	return shmctl(id, IPC_RMID, NULL) || err;
}

static int do_remap_file_pages(struct place *pl)
{
	char *p = mmap(ELSEWHERE(pl), 4 * page, PROT_RW, MAP_SHARED |
		       MAP_FIXED_NOREPLACE, pl->memfd, 0);

	if (p == MAP_FAILED)
		return -1;
	return remap_file_pages(p + page, page, 0, 3, 0) ||
	       munmap(p, 4 * page);
}

static int (* const calls[])(struct place *pl) = {
	do_munmap, do_mmap_over, do_mmap_file, do_mprotect, do_mremap,
	do_mremap_resize, do_madvise, do_mlock, do_mbind, do_name, do_brk,
	do_uffd, do_shm, do_remap_file_pages,
};

static const char * const call_names[] = {
	"munmap", "mmap over", "mmap file", "mprotect", "mremap",
	"mremap resize", "madvise", "mlock", "mbind", "name", "brk",
	"userfaultfd", "shmat", "remap_file_pages",
};

struct job {
	pthread_t thread;
	struct place place;
	int me, n;
	char error[128];
};

static int place_open(struct place *pl, int me)
{
	struct uffdio_api api = { .api = UFFD_API };

	pl->p = FAR_AWAY + (me + 1L) * (1L << 30);
	pl->memfd = memfd_create("churn", 0);
	pl->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	return pl->memfd < 0 || ftruncate(pl->memfd, 4 * page) ||
	       pl->uffd < 0 || ioctl(pl->uffd, UFFDIO_API, &api);
}

/* All calls, n times, each thread in another order. */
static void *churn(void *arg)
{
	static const int step[] = { 1, 3, 5, 9 };	/* odd and not 7: all 14 */
	struct job *j = arg;
	struct place *pl = &j->place;
	int i, c = j->me;

	for (i = 0; i < j->n * (int)ARRAY_SIZE(calls); i++) {
		c = (c + step[j->me % 4]) % ARRAY_SIZE(calls);
		if (!map_at(pl->p, PAGES)) {
			snprintf(j->error, sizeof(j->error), "no place after %s",
				 call_names[c]);
			break;
		}
		*(int *)pl->p = i;
		*(int *)(pl->p + page) = j->me;
		if (calls[c](pl)) {
			snprintf(j->error, sizeof(j->error), "%s: %s",
				 call_names[c], strerror(errno));
			break;
		}
		if (*(int *)pl->p != i || *(int *)(pl->p + page) != j->me) {
			snprintf(j->error, sizeof(j->error), "%s lost a page",
				 call_names[c]);
			break;
		}
		munmap(pl->p, PAGES * page);
	}
	close(pl->memfd);
	close(pl->uffd);
	return NULL;
}

FIXTURE(churn) {
	struct job job[THREADS];
};

FIXTURE_SETUP(churn)
{
	page = getpagesize();
	for (int i = 0; i < THREADS; i++) {
		self->job[i].me = i;
		ASSERT_EQ(0, place_open(&self->job[i].place, i));
	}
}

FIXTURE_TEARDOWN(churn)
{
}

TEST_F(churn, each_alone)
{
	struct job *j = &self->job[0];

	j->n = 2;
	churn(j);
	EXPECT_STREQ("", j->error);
}

static void run_threads(struct __test_metadata *_metadata, struct job *job, int n)
{
	int i;

	for (i = 0; i < THREADS; i++) {
		job[i].n = n;
		ASSERT_EQ(0, pthread_create(&job[i].thread, NULL, churn, &job[i]));
	}
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(job[i].thread, NULL));
		EXPECT_STREQ("", job[i].error);
	}
}

TEST_F(churn, threads)
{
	run_threads(_metadata, self->job, rounds(12));
}

/* Where each page is locked and populated when it is mapped. */
TEST_F(churn, mlockall)
{
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	run_threads(_metadata, self->job, rounds(3));
	ASSERT_EQ(0, munlockall());
}

TEST_F(churn, memcg)
{
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, cg_make("churn"));
	ASSERT_EQ(0, cg_write("churn", "memory.max", "16M"));
	ASSERT_EQ(0, cg_enter("churn"));
	run_threads(_metadata, self->job, rounds(6));
	ASSERT_EQ(0, cg_leave());
	EXPECT_TRUE(cg_remove("churn"));
}

/* The same process, and forks of it while it is at it. */
TEST_F(churn, fork)
{
	int i, n = rounds(20), status;

	for (i = 0; i < THREADS; i++) {
		self->job[i].n = rounds(6);
		ASSERT_EQ(0, pthread_create(&self->job[i].thread, NULL, churn,
					    &self->job[i]));
	}
	for (i = 0; i < n; i++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(fill_cache(FAR_AWAY) ? 1 : 0);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(self->job[i].thread, NULL));
		EXPECT_STREQ("", self->job[i].error);
	}
}

/* What a task does to the mappings of another one is not in its own cache. */
TEST_F(churn, process_madvise)
{
	int i, n = rounds(100), pidfd, status;
	struct iovec iov[2];
	char *p = map_at(FAR_AWAY, PAGES);
	pid_t pid;

	ASSERT_NE(NULL, p);
	memset(p, 1, PAGES * page);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		for (i = 0;; i++)
			if (mprotect(p + page, page, i % 2 ? PROT_READ : PROT_RW))
				_exit(1);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	for (i = 0; i < n; i++) {
		iov[0] = (struct iovec){ p, 2 * page };
		iov[1] = (struct iovec){ p + 4 * page, 2 * page };
		ASSERT_EQ(4 * page, syscall(SYS_process_madvise, pidfd, iov, 2,
					    MADV_COLD, 0));
		ASSERT_EQ(0, fill_cache(FAR_AWAY + (1L << 30)));
	}
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(1, p[i * page]);
}

TEST_HARNESS_MAIN
