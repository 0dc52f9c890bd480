// SPDX-License-Identifier: GPL-2.0
/*
 * Each system call that may need a VMA has one at hand before it takes
 * mmap_lock: from an empty cache, a call that needs one VMA allocates one, before
 * the lock, and none under it. Calls that need none ask for none.
 *
 * The counters are the whole system's. What others do can only spoil a try, so
 * a call that is as it should be passes one of several.
 */
#include <linux/aio_abi.h>
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/shm.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define PAGES	8
#define TO	(FAR_AWAY + (1UL << 30))
#define FILLERS	(FAR_AWAY + (2UL << 30))

#ifndef SYS_mseal
#define SYS_mseal			462
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node	450
#endif

static size_t page;
static int memfd, uffd, shmid;
static char *attached;
static aio_context_t aio;

#define END(p)		((p) + (PAGES - 1) * page)

/* p: PAGES anonymous pages, far from all others. */
static int call_mmap(char *p)
{
	return !map_at(TO, 1);
}

static int call_munmap(char *p)
{
	return munmap(END(p), page);
}

static int prepare_brk(char *p)
{
	return sbrk(4 * page) == (void *)-1;
}

/* Not sbrk(), which asks where the break is first, or may. */
static int call_brk_shrink(char *p)
{
	char *top = sbrk(0);

	return syscall(SYS_brk, top - page) != (long)(top - page);
}

static int call_brk_asks(char *p)
{
	return !syscall(SYS_brk, 0);
}

static int call_mprotect(char *p)
{
	return mprotect(END(p), page, PROT_READ);
}

static int call_mremap_move(char *p)
{
	return mremap(p, PAGES * page, PAGES * page,
		      MREMAP_MAYMOVE | MREMAP_FIXED, TO) != TO;
}

static int call_mremap_shrink(char *p)
{
	return mremap(p, PAGES * page, (PAGES - 1) * page, 0) != p;
}

static int call_madvise(char *p)
{
	return madvise(END(p), page, MADV_DONTFORK);
}

static int call_name(char *p)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, END(p), page, "vmlean");
}

static int call_mlock(char *p)
{
	return mlock(END(p), page);
}

static int prepare_munlock(char *p)
{
	return mlock(p, PAGES * page);
}

static int call_munlock(char *p)
{
	return munlock(END(p), page);
}

static int call_mlockall(char *p)
{
	return mlockall(MCL_CURRENT);
}

static int call_munlockall(char *p)
{
	return munlockall();
}

static unsigned long node0 = 1;

static int call_mbind(char *p)
{
	return syscall(SYS_mbind, END(p), page, MPOL_BIND, &node0, 8, 0);
}

static int prepare_home_node(char *p)
{
	return syscall(SYS_mbind, p, PAGES * page, MPOL_BIND, &node0, 8, 0);
}

static int call_home_node(char *p)
{
	return syscall(SYS_set_mempolicy_home_node, END(p), page, 0, 0);
}

static int call_mseal(char *p)
{
	return syscall(SYS_mseal, END(p), page, 0);
}

static int prepare_remap_file_pages(char *p)
{
	return mmap(TO, page, PROT_RW, MAP_SHARED | MAP_FIXED_NOREPLACE,
		    memfd, page) != TO;
}

static int call_remap_file_pages(char *p)
{
	return remap_file_pages(TO, page, 0, 0, 0);
}

static int prepare_shmat(char *p)
{
	shmid = shmget(IPC_PRIVATE, page, 0600);
	return shmid < 0;
}

static int call_shmat(char *p)
{
	attached = shmat(shmid, TO, 0);
	return attached != TO;
}

static int prepare_shmdt(char *p)
{
	return prepare_shmat(p) || call_shmat(p);
}

static int call_shmdt(char *p)
{
	return shmdt(attached);
}

static int prepare_uffd(char *p)
{
	struct uffdio_api api = { .api = UFFD_API };

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	return uffd < 0 || ioctl(uffd, UFFDIO_API, &api);
}

static int uffd_register(char *p, size_t len)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)p, len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static int call_uffd_register(char *p)
{
	return uffd_register(END(p), page);
}

static int prepare_uffd_unregister(char *p)
{
	return prepare_uffd(p) || uffd_register(p, PAGES * page);
}

static int call_uffd_unregister(char *p)
{
	struct uffdio_range range = { (unsigned long)END(p), page };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

static int call_io_setup(char *p)
{
	return syscall(SYS_io_setup, 8, &aio);
}

/* What a case leaves behind that its process does not take along. */
static void undo(void)
{
	if (shmid > 0)
		shmctl(shmid, IPC_RMID, NULL);
}

FIXTURE(sites) {
	int stats;
	bool on;
};

FIXTURE_VARIANT(sites) {
	int (*prepare)(char *p);
	int (*call)(char *p);
	int before;		/* refills before the lock */
};

#define SITE(name, ...)							\
FIXTURE_VARIANT_ADD(sites, name) { .call = call_##name, __VA_ARGS__ }

SITE(mmap, .before = 1);
SITE(munmap, .before = 1);
SITE(brk_shrink, .before = 1, .prepare = prepare_brk);
SITE(brk_asks, .before = 0);
SITE(mprotect, .before = 1);
SITE(mremap_move, .before = 1);
SITE(mremap_shrink, .before = 1);
SITE(madvise, .before = 1);
SITE(name, .before = 1);
SITE(mlock, .before = 1);
SITE(munlock, .before = 1, .prepare = prepare_munlock);
SITE(mlockall, .before = 0);
SITE(munlockall, .before = 0);
SITE(mbind, .before = 1);
SITE(home_node, .before = 1, .prepare = prepare_home_node);
SITE(mseal, .before = 1);
SITE(remap_file_pages, .before = 1, .prepare = prepare_remap_file_pages);
SITE(shmat, .before = 1, .prepare = prepare_shmat);
/* needs none here; it would if only the end of the segment were left */
SITE(shmdt, .before = 1, .prepare = prepare_shmdt);
SITE(uffd_register, .before = 1, .prepare = prepare_uffd);
SITE(uffd_unregister, .before = 1, .prepare = prepare_uffd_unregister);
SITE(io_setup, .before = 1);

FIXTURE_SETUP(sites)
{
	page = getpagesize();
	STATS_OPEN(self->stats);
	self->on = recycling();
	memfd = memfd_create("sites", MFD_CLOEXEC);
	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, 2 * page));
}

FIXTURE_TEARDOWN(sites)
{
	stats_close(self->stats);
}

struct outcome {
	int err;
	struct vma_stats a, b;
};

/* In a child, since some of what is done here cannot be undone. */
static void measure(const FIXTURE_VARIANT(sites) *variant, struct outcome *out)
{
	char *p = map_at(FAR_AWAY, PAGES);

	out->err = -1;
	if (!p)
		_exit(1);
	if (variant->prepare && variant->prepare(p))
		_exit(2);
	if (empty_cache(FILLERS))
		_exit(3);
	if (vma_stats_read(&out->a))
		_exit(4);
	out->err = variant->call(p) ? errno : 0;
	if (vma_stats_read(&out->b))
		_exit(5);
	undo();
	_exit(0);
}

#define GREW(name) (out->b.name - out->a.name)

TEST_F(sites, before_the_lock)
{
	struct outcome *out = mmap(NULL, sizeof(*out), PROT_RW,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int try, status;

	ASSERT_NE(MAP_FAILED, out);
	for (try = 0; try < 5; try++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid)
			measure(variant, out);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		ASSERT_EQ(0, out->err) {
			TH_LOG("the call itself failed: %s", strerror(out->err));
		}
		if (!self->on) {
			ASSERT_TRUE(vma_stats_zero(&out->b));
			return;
		}
		if (GREW(prepopulated) == variant->before * recycle_depth() &&
		    !GREW(locked_allocs) && !GREW(prepopulated_contended))
			return;
	}
	EXPECT_TRUE(false) {
		TH_LOG("%ld VMAs by a refill, %ld of these under the lock",
		       GREW(prepopulated), GREW(prepopulated_contended));
		TH_LOG("%ld VMAs under the lock and not by a refill", GREW(locked_allocs));
	}
}

/* The vDSO takes some VMAs at each exec: the first of them is at hand. */
static void __attribute__((constructor)) exec_child(void)
{
	if (getenv("VMLEAN_EXEC"))
		_exit(0);
}

/* Apart from vfork() returning twice. */
static __attribute__((noinline)) int special_mappings(void)
{
	static char buf[65536];
	char *at = buf;
	int n = 0;

	if (read_file("/proc/self/maps", buf, sizeof(buf)) < 0)
		return -1;
	while ((at = strstr(at, "[v"))) {
		n += !strncmp(at, "[vdso", 5) || !strncmp(at, "[vvar", 5);
		at++;
	}
	return n;
}

TEST(exec)
{
	char *argv[] = { "sites", NULL }, *envp[] = { "VMLEAN_EXEC=1", NULL };
	int stats, try, status, special = special_mappings();
	struct vma_stats a, b;
	long locked = 0;

	STATS_OPEN(stats);
	ASSERT_LT(0, special);
	for (try = 0; try < 5; try++) {
		pid_t pid;

		ASSERT_EQ(0, vma_stats_read(&a));
		pid = vfork();
		ASSERT_LE(0, pid);
		if (!pid) {
			execve("/proc/self/exe", argv, envp);
			_exit(1);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		ASSERT_EQ(0, vma_stats_read(&b));
		locked = b.locked_allocs - a.locked_allocs;
		if (locked <= special - 1)
			break;
	}
	EXPECT_GE(special - 1, locked) {
		TH_LOG("exec allocated %ld VMAs under the lock, for %d special mappings",
		       locked, special);
	}
	stats_close(stats);
}

TEST_HARNESS_MAIN
