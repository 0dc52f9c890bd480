// SPDX-License-Identifier: GPL-2.0
/*
 * Guard regions of VMAs that have no anon_vma: whatever becomes of the VMA, and
 * in whatever child, the guards are where they were put and the other pages are
 * what they were. What does not need vmlean.ko's counters runs, and passes, on
 * any kernel with guard regions; where one without CONFIG_ANON_VMA_FLAGS behaves
 * differently (FIXTURE(effects), huge pages), that is expected of it.
 *
 * Pages are written as text, a character for each:
 *	g	guarded
 *	w	written to
 *	r	read, before that nothing
 *	.	not touched
 *	z	zero
 *	p	poisoned (UFFDIO_POISON)
 *	-	not mapped
 */
#include <elf.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/uio.h>

#include "vmlean_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM	(1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED	(1 << 13)
#endif
#ifndef UFFDIO_POISON
#define UFFD_FEATURE_POISON	(1 << 14)
#define UFFDIO_POISON		_IOWR(UFFDIO, 0x08, struct uffdio_poison)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#endif
#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE	(1 << 16)
#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};
#endif

#define FILE_PAGES	64
#define AT		(FAR_AWAY + 16 * page)
#define AWAY		(FAR_AWAY + (1UL << 30))
#define HUGE		(2UL << 20)

#define GUARDED		(-SIGSEGV)
#define POISONED	(-SIGBUS)

static size_t page;

/* What all VMAs of a test map: files at the offset of the address to FAR_AWAY. */
enum backing { ANON, PRIVATE, SHARED, DISK };

static struct {
	enum backing backing;
	int fd, flags;
} map = { .fd = -1, .flags = MAP_PRIVATE | MAP_ANONYMOUS };

static bool flags_here(void)
{
	return *kconfig("CONFIG_ANON_VMA_FLAGS");
}

/* A kernel that checks all it does takes a tenth of a second for a fork. */
static bool slow(void)
{
	return rounds(5) < 5;
}

/* There, each kind of VMA gets a third of some tests. */
static bool left_to_others(unsigned int i)
{
	return slow() && i % 3 != map.backing % 3;
}

/* Touches of what may not be touched. */
static __thread sigjmp_buf fault_jmp;
static __thread bool fault_expected;

static void on_fault(int sig)
{
	if (!__atomic_exchange_n(&fault_expected, false, __ATOMIC_SEQ_CST)) {
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(fault_jmp, sig);
}

static void __attribute__((constructor)) catch_faults(void)
{
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	page = getpagesize();
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

/* The byte at an address, or the signal, negative, that a look at it costs. */
static int look(const char *at)
{
	int sig = sigsetjmp(fault_jmp, 0), c;

	if (sig)
		return -sig;
	__atomic_store_n(&fault_expected, true, __ATOMIC_SEQ_CST);
	c = __atomic_load_n((const unsigned char *)at, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fault_expected, false, __ATOMIC_SEQ_CST);
	return c;
}

static int poke(char *at, int c)
{
	int sig = sigsetjmp(fault_jmp, 0);

	if (sig)
		return -sig;
	__atomic_store_n(&fault_expected, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(at, (char)c, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fault_expected, false, __ATOMIC_SEQ_CST);
	return 0;
}

static int guard(char *at, size_t pages)
{
	return madvise(at, pages * page, MADV_GUARD_INSTALL);
}

static int unguard(char *at, size_t pages)
{
	return madvise(at, pages * page, MADV_GUARD_REMOVE);
}

/* Waits for a child that exits with 0. */
static bool succeeds(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

/*
 * A small disk with a file system, for files whose pages can be dropped. It is
 * unmounted at once, and goes with the last file that is open or mapped.
 */
static int disk_file(void)
{
	static const char dev[] = "/dev/ram1";
	char dir[] = "/tmp/vmlean-XXXXXX", path[64];
	int fd = -1;

	if (!mkdtemp(dir))
		return -1;
	if (mount(dev, dir, "ext2", 0, NULL)) {
		/* make none where there is something else */
		char head[65536], none[sizeof(head)] = "";
		int disk = open(dev, O_RDONLY | O_EXCL | O_CLOEXEC);

		if (disk < 0 || read(disk, head, sizeof(head)) != sizeof(head) ||
		    memcmp(head, none, sizeof(head)) || close(disk) ||
		    system("mke2fs /dev/ram1 >/dev/null 2>&1") ||
		    mount(dev, dir, "ext2", 0, NULL))
			goto out;
	}
	snprintf(path, sizeof(path), "%s/guard", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
out:
	rmdir(dir);
	return fd;
}

/* Each page of the file begins with a byte of its own. */
static int file_fill(int fd)
{
	int err = ftruncate(fd, 0) || ftruncate(fd, FILE_PAGES * page);

	for (int i = 0; i < FILE_PAGES; i++) {
		char c = i + 1;

		err |= pwrite(fd, &c, 1, i * page) != 1;
	}
	return err;
}

/* Why there is no such backing, or NULL. */
static const char *backing_open(enum backing backing)
{
	char *p;
	int err;

	map.backing = backing;
	if (backing == ANON) {
		map.fd = -1;
		map.flags = MAP_PRIVATE | MAP_ANONYMOUS;
	} else {
		map.fd = backing == DISK ? disk_file() : memfd_create("guard", MFD_CLOEXEC);
		if (map.fd < 0)
			return backing == DISK ? "no ext2 on /dev/ram1" : "no memfd";
		if (file_fill(map.fd))
			return "the file cannot be filled";
		map.flags = backing == SHARED ? MAP_SHARED : MAP_PRIVATE;
	}
	p = mmap(NULL, page, PROT_RW, map.flags, map.fd, 0);
	if (p == MAP_FAILED)
		return "cannot map it";
	err = guard(p, 1);
	munmap(p, page);
	return err ? "kernel without guard regions of such mappings" : NULL;
}

/* For FIXTURE_SETUP(). */
#define BACKING_OPEN(backing)						\
do {									\
	const char *__why = backing_open(backing);			\
	if (__why)							\
		SKIP(return, "%s", __why);				\
} while (0)

/* For what differs from a kernel without the flags. */
#define EXPECTATIONS()							\
do {									\
	if (!*kconfig_text)						\
		SKIP(return, "no /proc/config.gz: is it with or without?"); \
} while (0)

static bool shared(void)
{
	return map.flags & MAP_SHARED;
}

/* A new mapping, of which nothing has been touched. */
static bool put_prot(char *at, size_t pages, int prot)
{
	return mmap(at, pages * page, prot, map.flags | MAP_FIXED_NOREPLACE, map.fd,
		    map.fd < 0 ? 0 : (at - FAR_AWAY) % (FILE_PAGES * page)) == at;
}

static bool put(char *at, size_t pages)
{
	return put_prot(at, pages, PROT_RW);
}

static unsigned int index_of(const char *at)
{
	return (at - FAR_AWAY) / page % FILE_PAGES;
}

/* The first byte of a page that was laid at @from. */
static int expected(char what, const char *from)
{
	switch (what) {
	case 'g':
	case '-':
		return GUARDED;
	case 'p':
		return POISONED;
	case 'z':
		return 0;
	}
	/* where others would see it, what is written is what is there */
	if (what == 'w' && !shared())
		return 0x80 | index_of(from);
	return map.fd < 0 ? 0 : index_of(from) + 1;
}

static bool fill(char *at, const char *pages)
{
	for (; *pages; pages++, at += page) {
		if (*pages == 'g' && guard(at, 1))
			return false;
		if (*pages == 'w' && poke(at, expected('w', at)))
			return false;
		if (*pages == 'r' && look(at) < 0)
			return false;
	}
	return true;
}

static bool lay(char *at, const char *pages)
{
	return put(at, strlen(pages)) && fill(at, pages);
}

/* Are pages that were laid at @from, and are now at @at, what they should be? */
static bool as_laid(const char *who, const char *at, const char *from, const char *pages)
{
	bool ok = true;

	for (int i = 0; pages[i]; i++) {
		int seen = look(at + i * page), due = expected(pages[i], from + i * page);

		if (seen == due)
			continue;
		fprintf(stderr, "# page %d of \"%s\", in %s: %d instead of %d\n", i, pages, who,
			seen, due);
		ok = false;
	}
	return ok;
}

/* Write to all of them, which no guard allows: an anon_vma is needed now. */
static bool write_all(char *at, char *from, const char *pages, int change)
{
	for (; *pages; pages++, at += page, from += page)
		if (poke(at, expected(*pages, from) ^ change) != GUARDED && *pages == 'g')
			return false;
	return true;
}

/* What is there already. */
static bool rewrite(char *at, char *from, const char *pages)
{
	return write_all(at, from, pages, 0);
}

static bool kept_in_child(char *at, char *from, const char *pages, int depth)
{
	pid_t pid = fork();

	if (!pid) {
		const char *who = depth > 1 ? "a child" : "the last child";
		bool ok = depth <= 1 || kept_in_child(at, from, pages, depth - 1);

		_exit(!(as_laid(who, at, from, pages) && rewrite(at, from, pages) &&
			as_laid("a child that wrote", at, from, pages) &&
			/* which is nobody else's business */
			(shared() || write_all(at, from, pages, 0x55)) && ok));
	}
	return succeeds(pid);
}

/* In a child, its child and so on first, as a fault here could help them. */
static bool kept_deep(char *at, char *from, const char *pages, int depth)
{
	bool ok = kept_in_child(at, from, pages, slow() ? 1 : depth);

	return as_laid("the parent", at, from, pages) && ok;
}

/* The same again when the VMA has the anon_vma that it may have lacked. */
static bool kept_moved(char *at, char *from, const char *pages)
{
	return kept_deep(at, from, pages, 2) && rewrite(at, from, pages) &&
	       (slow() ? as_laid("the parent that wrote", at, from, pages) :
			 kept_deep(at, from, pages, 1));
}

static bool kept(char *at, const char *pages)
{
	return kept_moved(at, at, pages);
}

/* How many VMAs there are in a range. */
static int vmas(const char *at, size_t pages)
{
	static char buf[1 << 17];
	unsigned long start, end;
	int n = 0;

	if (read_file("/proc/self/maps", buf, sizeof(buf)) < 0)
		return -1;
	for (char *line = strtok(buf, "\n"); line; line = strtok(NULL, "\n"))
		n += sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		     start < (unsigned long)at + pages * page && end > (unsigned long)at;
	return n;
}

/* What /proc/self/smaps says after "KEY:" for the VMA that begins at an address. */
static const char *smaps_of(const char *at, const char *key)
{
	static char buf[1 << 18], text[256];
	char head[32], *line;

	if (read_file("/proc/self/smaps", buf, sizeof(buf)) < 0)
		return "";
	snprintf(head, sizeof(head), "%lx-", (unsigned long)at);
	line = strstr(buf, head);
	snprintf(head, sizeof(head), "\n%s:", key);
	line = line ? strstr(line, head) : NULL;
	snprintf(text, sizeof(text), "%s", line ? line + strlen(head) : "");
	text[strcspn(text, "\n")] = '\0';
	return text;
}

/* Page tables of this process, in kB. */
static long page_tables(void)
{
	char buf[8192], *line;

	if (read_file("/proc/self/status", buf, sizeof(buf)) < 0)
		return -1;
	line = strstr(buf, "\nVmPTE:");
	return line ? atol(line + 7) : -1;
}

static bool swapped(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)at / page * 8) != 8)
		entry = 0;
	close(fd);
	return entry >> 62 & 1;
}

/* What user space sees of guards, whatever they are made of. */
FIXTURE(guard) {
};

FIXTURE_VARIANT(guard) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(guard, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(guard, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(guard, shared) { .backing = SHARED };

FIXTURE_SETUP(guard)
{
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(guard)
{
}

TEST_F(guard, fork)
{
	static const char * const pages[] = {
		"g", "gg", "g...", ".g", ".gr.gg.g", "gw", "wg", "gwwrg.wgg", "....",
	};

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (left_to_others(i))
			continue;
		ASSERT_TRUE(lay(AT, pages[i]));
		EXPECT_TRUE(kept(AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, strlen(pages[i]) * page));
	}
	ASSERT_TRUE(lay(AT, "g.rg"));
	EXPECT_TRUE(kept_in_child(AT, AT, "g.rg", 5));
	EXPECT_TRUE(kept(AT, "g.rg"));
}

/*
 * Many VMAs in a row: with a hole or with others between them, in one page table
 * or in several, up to the highest.
 */
#define NOT_FORKED	527

static const struct {
	unsigned long at;	/* in pages */
	const char *pages;
} many[] = {
	{ 510, "gg" },
	{ 512, "g.g" },
	{ 516, ".r" },
	{ 519, "g" },
	{ 520, "wg" },
	{ 523, ".gr" },
	{ NOT_FORKED, "g.g" },
	{ 531, "gg" },
	{ 6 * 512 - 1, "g" },
	{ 6 * 512, "r.w." },
	{ 8 * 512 - 9, "...g..." },
	{ 512 * 512 + 2, "..g" },
	{ 3 * 512 * 512 - 1, "g" },
	{ 5 * 512 * 512, "g" },
	{ 5 * 512 * 512 + 511, "g" },
	{ 512 * 512 * 512 + 5, "gg." },
	{ 3UL * 512 * 512 * 512, "w" },
	{ 5UL * 512 * 512 * 512 + 63, "g" },
};

static bool many_kept(const char *who, bool child)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		char *at = FAR_AWAY + many[i].at * page;
		const char *pages = child && many[i].at == NOT_FORKED ? "---" : many[i].pages;

		ok &= as_laid(who, at, at, pages) && rewrite(at, at, pages) &&
		      as_laid(who, at, at, pages);
	}
	return ok;
}

static bool many_laid(void)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		ok &= lay(FAR_AWAY + many[i].at * page, many[i].pages);
	return ok && !madvise(FAR_AWAY + NOT_FORKED * page, 3 * page, MADV_DONTFORK);
}

TEST_F(guard, fork_many)
{
	pid_t pid;

	ASSERT_TRUE(many_laid());
	for (int i = 0; i < 2; i++) {
		pid = fork();
		if (!pid) {
			pid = fork();
			if (!pid)
				_exit(!many_kept("a grandchild", true));
			_exit(!(succeeds(pid) && many_kept("a child", true)));
		}
		EXPECT_TRUE(succeeds(pid));
		EXPECT_TRUE(many_kept("the parent", false));
	}
}

/* The last of all VMAs: nothing comes after it that could do its work, too. */
TEST_F(guard, fork_last)
{
	char *last = (char *)(1UL << 47) - 2 * page;

	if (!put(last, 1))
		SKIP(return, "no room above the stack");
	ASSERT_EQ(0, guard(last, 1));
	EXPECT_TRUE(kept_moved(last, last, "g"));
}

/* Guards of a child are its own, whatever its parent or its child does. */
TEST_F(guard, parent_and_child)
{
	int go[2];
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	for (int unmap = 0; unmap < 2; unmap++) {
		ASSERT_TRUE(lay(AT, "g..gw"));
		pid = fork();
		if (!pid) {
			if (read(go[0], &c, 1) != 1)
				_exit(1);
			_exit(!kept(AT, "g..gw"));
		}
		EXPECT_EQ(0, unmap ? munmap(AT, 5 * page) : unguard(AT, 5));
		EXPECT_TRUE(kept(AT, unmap ? "-----" : "....w"));
		ASSERT_EQ(1, write(go[1], &c, 1));
		EXPECT_TRUE(succeeds(pid));
		munmap(AT, 5 * page);
	}

	ASSERT_TRUE(lay(AT, "g..g"));
	pid = fork();
	if (!pid)
		_exit(!(!unguard(AT, 4) && !guard(AT + page, 1) && kept(AT, ".g..")));
	EXPECT_TRUE(succeeds(pid));
	EXPECT_TRUE(kept(AT, "g..g"));
}

TEST_F(guard, remove)
{
	/* all of it, in one call and in two */
	ASSERT_TRUE(lay(AT, "gg.g"));
	ASSERT_EQ(0, unguard(AT, 4));
	EXPECT_TRUE(kept(AT, "...."));
	ASSERT_EQ(0, guard(AT + page, 2));
	EXPECT_TRUE(kept(AT, ".gg."));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	ASSERT_TRUE(lay(AT, "gggg"));
	ASSERT_EQ(0, unguard(AT, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "..gg", 2));
	ASSERT_EQ(0, unguard(AT + 2 * page, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "....", 2));
	ASSERT_EQ(0, guard(AT + 3 * page, 1));
	EXPECT_TRUE(kept(AT, "...g"));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* and what a child got is there, though the parent's was removed whole before */
	ASSERT_TRUE(lay(AT, "g.r."));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, unguard(AT, 4));
		EXPECT_TRUE(kept_deep(AT, AT, "....", 1));
		ASSERT_EQ(0, guard(AT + i * page, 1));
		EXPECT_TRUE(kept_deep(AT, AT, i ? i == 1 ? ".g.." : "..g." : "g...", 2));
	}
}

/* Several VMAs in one call, with a hole amid, which is an error, and no more. */
TEST_F(guard, remove_from_many)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	ASSERT_TRUE(lay(AT + 6 * page, "ggwg"));
	ASSERT_TRUE(put_prot(AT + 10 * page, 2, PROT_READ));
	ASSERT_TRUE(fill(AT + 10 * page, "g."));
	ASSERT_EQ(-1, unguard(AT, 14));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "....--..w...--", 2));
	ASSERT_EQ(-1, guard(AT + 3 * page, 5));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g--ggw...--", 2));
	ASSERT_EQ(0, unguard(AT + 7 * page, 4));
	EXPECT_TRUE(kept(AT, "...g--g.w...--"));
}

/* A vector of ranges goes on where a lock had to be dropped. */
TEST_F(guard, remove_vector)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec vec[4] = {
		{ AT, 4 * page }, { AT + 6 * page, 2 * page },
		{ AT + 12 * page, page }, { AT + 16 * page, 4 * page },
	};

	ASSERT_LE(0, pidfd);
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(put(vec[i].iov_base, vec[i].iov_len / page));
	ASSERT_EQ(11 * page, syscall(SYS_process_madvise, pidfd, vec, 4, MADV_GUARD_INSTALL, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gggg--gg----g---gggg", 2));
	/* one of them in part only */
	vec[3].iov_len = 3 * page;
	ASSERT_EQ(10 * page, syscall(SYS_process_madvise, pidfd, vec, 4, MADV_GUARD_REMOVE, 0));
	EXPECT_TRUE(kept(AT, "....--..----.---...g"));
}

/* Each part of a VMA that is split has its guards. */
TEST_F(guard, split)
{
	static const char pages[] = "gwg.rggw";

	for (int what = 0; what < 4; what++) {
		for (int i = 0; i < 8; i++) {
			char left[sizeof(pages)];
			char *p = AT + i * page;

			if (left_to_others(what + i))
				continue;
			memcpy(left, pages, sizeof(left));
			/* guards alone, or with pages of its own */
			for (char *c = left; i & 1 && (c = strchr(c, 'w')); )
				*c = '.';
			ASSERT_TRUE(lay(AT, left));
			if (what == 0)
				ASSERT_EQ(0, mprotect(p, page, PROT_READ));
			if (what == 1)
				ASSERT_EQ(0, mprotect(AT, p - AT, PROT_READ));
			if (what == 2)
				ASSERT_EQ(0, madvise(p, 8 * page - (p - AT), MADV_DONTDUMP));
			if (what == 3) {
				ASSERT_EQ(0, munmap(p, page));
				left[i] = '-';
			}
			EXPECT_TRUE(kept_deep(AT, AT, left, 1)) {
				TH_LOG("split %d at page %d", what, i);
			}
			munmap(AT, 8 * page);
		}
	}
}

TEST_F(guard, protection)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_NONE));
	EXPECT_TRUE(kept_deep(AT, AT, "gggg", 1));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ));
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	ASSERT_EQ(0, guard(AT + page, 1));
	EXPECT_TRUE(kept_deep(AT, AT, "ggwg", 2));
	ASSERT_EQ(0, unguard(AT, 2));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_RW));
	EXPECT_TRUE(kept(AT, "..wg"));

	/* a guard where nothing else may be */
	ASSERT_TRUE(put_prot(AWAY, 4, PROT_NONE));
	ASSERT_EQ(0, guard(AWAY + page, 2));
	ASSERT_EQ(0, mprotect(AWAY, 4 * page, PROT_RW));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, ".gg."));
}

/* A part of a VMA, or all of it, and back. */
TEST_F(guard, mremap)
{
	static const struct { int first, n; } parts[] = {
		{ 0, 8 }, { 0, 3 }, { 2, 1 }, { 3, 2 }, { 5, 3 }, { 7, 1 },
	};
	static const char * const all[] = { "g.wg.gwg", "g..g.grg" };

	for (size_t i = 0; i < ARRAY_SIZE(parts) * 2; i++) {
		int first = parts[i / 2].first, n = parts[i / 2].n;
		char left[9], moved[9], *from = AT + first * page;

		if (left_to_others(i))
			continue;
		snprintf(left, sizeof(left), "%s", all[i & 1]);
		snprintf(moved, sizeof(moved), "%.*s", n, left + first);
		memset(left + first, '-', n);
		ASSERT_TRUE(lay(AT, all[i & 1]));
		ASSERT_EQ(AWAY, mremap(from, n * page, n * page, MREMAP_MAYMOVE | MREMAP_FIXED,
				       AWAY));
		EXPECT_TRUE(kept_deep(AWAY, from, moved, 2));
		EXPECT_TRUE(kept_deep(AT, AT, left, 1));
		ASSERT_EQ(from, mremap(AWAY, n * page, n * page, MREMAP_MAYMOVE | MREMAP_FIXED,
				       from));
		EXPECT_TRUE(kept(AT, all[i & 1]));
		EXPECT_TRUE(as_laid("the place it was moved from", AWAY, AWAY, "--------"));
		ASSERT_EQ(0, munmap(AT, 8 * page));
	}
}

TEST_F(guard, mremap_grow_and_shrink)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_EQ(AT, mremap(AT, 4 * page, 8 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg....", 2));
	ASSERT_EQ(0, guard(AT + 7 * page, 1));
	ASSERT_EQ(AWAY, mremap(AT, 8 * page, 10 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	EXPECT_TRUE(kept_moved(AWAY, AT, "g.wg...g.."));
	ASSERT_EQ(AWAY, mremap(AWAY, 10 * page, page, 0));
	EXPECT_TRUE(kept_moved(AWAY, AT, "g---------"));

	/* nothing but guards */
	ASSERT_TRUE(lay(AT, "gg.g"));
	ASSERT_EQ(AT, mremap(AT, 4 * page, 6 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gg.g..", 2));
	ASSERT_EQ(AT, mremap(AT, 6 * page, 2 * page, 0));
	EXPECT_TRUE(kept_deep(AT, AT, "gg----", 2));
	ASSERT_EQ(AT, mremap(AT, 2 * page, 3 * page, 0));
	EXPECT_TRUE(kept(AT, "gg.---"));
}

/* An anonymous VMA that was never faulted in merges with where it comes from. */
TEST_F(guard, mremap_beside_itself)
{
	static const char * const pages[] = { "g.gg", "g.wg" };
	char *at = AT + 8 * page;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		ASSERT_TRUE(lay(at, pages[i]));
		for (int step = 1; step < 4; step++) {
			char *from = at + 4 * (step - 1) * page, *to = from + 4 * page;

			ASSERT_EQ(to, mremap(from, 4 * page, 4 * page,
					     MREMAP_MAYMOVE | MREMAP_FIXED, to));
			EXPECT_TRUE(left_to_others(step) || kept_deep(to, at, pages[i], 1));
			EXPECT_TRUE(as_laid("the right", from, from, "----"));
		}
		for (int step = 3; step >= -1; step--) {
			char *from = at + 4 * step * page, *to = from - 4 * page;

			ASSERT_EQ(to, mremap(from, 4 * page, 4 * page,
					     MREMAP_MAYMOVE | MREMAP_FIXED, to));
			EXPECT_TRUE(left_to_others(step) || kept_deep(to, at, pages[i], 1));
			EXPECT_TRUE(as_laid("the left", from, from, "----"));
		}
		EXPECT_TRUE(kept_moved(at - 8 * page, at, pages[i]));
		ASSERT_EQ(0, munmap(at - 8 * page, 4 * page));

		/* between two others; the pages that it moves from are its neighbours, too */
		ASSERT_TRUE(lay(at, pages[i]));
		ASSERT_TRUE(lay(at + 8 * page, "g."));
		ASSERT_EQ(at + 4 * page, mremap(at, 4 * page, 4 * page,
						MREMAP_MAYMOVE | MREMAP_FIXED, at + 4 * page));
		EXPECT_TRUE(kept_moved(at + 4 * page, at, pages[i]));
		EXPECT_TRUE(kept(at + 8 * page, "g."));
		EXPECT_TRUE(as_laid("between", at, at, "----"));
		ASSERT_EQ(0, munmap(at, 10 * page));
	}
}

/* What is left behind where page tables move and the VMA stays. */
static void stay(char *left, const char *pages)
{
	do {
		*left++ = *pages == 'g' || (*pages == 'w' && !shared()) ? '.' : *pages;
	} while (*pages++);
}

TEST_F(guard, mremap_dontunmap)
{
	static const char * const pages[] = { "g.wg", "g.rg", "gggg" };
	static const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char left[8], *beside = AT + 4 * page;

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (left_to_others(i))
			continue;
		stay(left, pages[i]);
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, flags, AWAY));
		EXPECT_TRUE(kept_deep(AWAY, AT, pages[i], 2));
		EXPECT_TRUE(kept_deep(AT, AT, left, 2));
		/* which is as good as new */
		ASSERT_EQ(0, guard(AT + page, 1));
		left[1] = 'g';
		EXPECT_TRUE(kept(AT, left));
		EXPECT_TRUE(kept_moved(AWAY, AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, 4 * page) | munmap(AWAY, 4 * page));

		/* a part of it */
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(AWAY, mremap(AT + 3 * page, page, page, flags, AWAY));
		EXPECT_TRUE(kept_moved(AWAY, AT + 3 * page, "g"));
		snprintf(left, sizeof(left), "%.3s.", pages[i]);
		EXPECT_TRUE(kept(AT, left));
		ASSERT_EQ(0, munmap(AT, 4 * page) | munmap(AWAY, page));

		/* beside where it was */
		stay(left, pages[i]);
		ASSERT_TRUE(lay(AT, pages[i]));
		ASSERT_EQ(beside, mremap(AT, 4 * page, 4 * page, flags, beside));
		EXPECT_TRUE(kept_deep(beside, AT, pages[i], 2));
		EXPECT_TRUE(kept(AT, left));
		EXPECT_TRUE(kept_moved(beside, AT, pages[i]));
		ASSERT_EQ(0, munmap(AT, 8 * page));
	}
}

/* Several VMAs, of which some are flagged, in one call. */
TEST_F(guard, mremap_many)
{
	ASSERT_TRUE(lay(AT, "g.rg"));
	ASSERT_TRUE(put_prot(AT + 4 * page, 4, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(fill(AT + 4 * page, "gwg."));
	ASSERT_TRUE(lay(AT + 8 * page, "...."));
	if (mremap(AT, 12 * page, 12 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY) != AWAY &&
	    errno == EFAULT)
		SKIP(return, "kernel that moves one mapping at a time");
	EXPECT_TRUE(kept_moved(AWAY, AT, "g.rggwg....."));
	EXPECT_TRUE(as_laid("the old place", AT, AT, "------------"));
}

/* A second mapping of what is shared has no guards; of what is not, there is none. */
TEST_F(guard, mremap_duplicate)
{
	char *p;

	ASSERT_TRUE(lay(AT, "g.wg"));
	p = mremap(AT, 0, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
	EXPECT_EQ(shared() ? AWAY : MAP_FAILED, p);
	if (shared())
		EXPECT_TRUE(kept_moved(AWAY, AT, "..w."));
	EXPECT_TRUE(kept(AT, "g.wg"));
}

TEST_F(guard, dontfork)
{
	ASSERT_TRUE(lay(AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT + 2 * page, 2 * page, MADV_DONTFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "g.--.g", 2));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_DONTFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "------", 1));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg.g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_DOFORK));
	EXPECT_TRUE(kept(AT, "g.wg.g"));
}

TEST_F(guard, mlock)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	/* pages are locked up to the first guard, and the VMA is */
	EXPECT_EQ(-1, mlock(AT, 4 * page));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	EXPECT_EQ(-1, guard(AT + page, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "g.wg", 2));
	EXPECT_EQ(0, unguard(AT, 2));
	EXPECT_TRUE(kept_deep(AT, AT, "..wg", 2));
	ASSERT_EQ(0, munlock(AT, 4 * page));
	EXPECT_EQ(0, guard(AT + page, 1));
	EXPECT_TRUE(kept(AT, ".gwg"));

	/* one that never had a page */
	ASSERT_TRUE(lay(AWAY, ".g.g"));
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	EXPECT_TRUE(kept_deep(AWAY, AWAY, ".g.g", 2));
	EXPECT_EQ(-1, guard(AWAY, 1));
	EXPECT_EQ(0, unguard(AWAY, 4));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, guard(AWAY, 1));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..."));
	/* all that comes later */
	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	ASSERT_TRUE(put(AWAY + 8 * page, 1));
	EXPECT_EQ(-1, guard(AWAY + 8 * page, 1));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlockall());
}

TEST_F(guard, advice)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
		MADV_RANDOM, MADV_NORMAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		bool drops = advices[i] == MADV_DONTNEED || advices[i] == MADV_DONTNEED_LOCKED;
		const char *left = drops && !shared() ? "g..g.." : "g.wg.w";

		for (int k = 0; k < 2; k++) {
			if (left_to_others(i + k))
				continue;
			ASSERT_TRUE(lay(AT, k ? "g.wg.w" : "g..g.r"));
			ASSERT_EQ(0, madvise(AT, 6 * page, advices[i])) {
				TH_LOG("advice %d: %s", advices[i], strerror(errno));
			}
			EXPECT_TRUE(kept(AT, k ? left : "g..g..")) {
				TH_LOG("advice %d", advices[i]);
			}
			ASSERT_EQ(0, munmap(AT, 6 * page));
		}
	}
}

TEST_F(guard, populate)
{
	ASSERT_TRUE(lay(AT, "...g."));
	EXPECT_EQ(-1, madvise(AT, 5 * page, MADV_POPULATE_READ));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g.", 2));
	EXPECT_EQ(0, madvise(AT, 3 * page, MADV_POPULATE_READ));
	EXPECT_EQ(-1, madvise(AT, 5 * page, MADV_POPULATE_WRITE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(kept_deep(AT, AT, "...g.", 2));
	EXPECT_EQ(0, madvise(AT + 4 * page, page, MADV_POPULATE_WRITE));
	EXPECT_TRUE(kept(AT, "...g."));
	EXPECT_EQ(-1, madvise(AT + 3 * page, page, MADV_POPULATE_WRITE));
	EXPECT_EQ(0, unguard(AT, 5));
	EXPECT_EQ(0, madvise(AT, 5 * page, MADV_POPULATE_WRITE));
}

/* Others than the process itself: the kernel on its behalf, a debugger. */
TEST_F(guard, system_calls)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), fd = memfd_create("x", 0);
	char c = 0x80 | (index_of(AT) + 1);
	struct iovec here = { &c, 1 }, there = { AT, 1 };

	ASSERT_LE(0, mem);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(lay(AT, "g..g"));
	EXPECT_EQ(-1, pwrite(fd, AT, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pwrite(mem, &c, 1, (off_t)AT));
	EXPECT_TRUE(kept_deep(AT, AT, "g..g", 2));

	/* the one who writes where the process may not gives it a page of its own */
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ));
	EXPECT_EQ(-1, pwrite(mem, &c, 1, (off_t)AT));
	if (!shared()) {
		EXPECT_EQ(1, pwrite(mem, &c, 1, (off_t)(AT + page)));
		EXPECT_TRUE(kept_deep(AT, AT, "gw.g", 2));
	}
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_RW));
	EXPECT_TRUE(kept(AT, shared() ? "g..g" : "gw.g"));
}

/* Whatever it was that it did, nothing of it stays: kmemleak has the last word. */
static void busy(unsigned int seed)
{
	for (unsigned int i = 0;; i++) {
		char *at = AT + (i % 3) * 8 * page;
		pid_t pid;

		if (!put(at, 6))
			munmap(at, 6 * page);
		guard(at + i % 5 * page, 2);
		switch (rand_r(&seed) % 8) {
		case 0:
			mprotect(at + 2 * page, page, PROT_READ);
			break;
		case 1:
			poke(at, 1);
			break;
		case 2:
			mremap(at, 6 * page, 6 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
			break;
		case 3:
			munmap(at + 3 * page, page);
			break;
		case 4:
			pid = fork();
			if (!pid)
				_exit(unguard(at, 6));
			waitpid(pid, NULL, 0);
			break;
		default:
			unguard(at, 6);
		}
	}
}

TEST_F(guard, killed)
{
	for (int i = 0, n = rounds(40); i < n; i++) {
		struct timespec life = { .tv_nsec = 200000L * (1 + i * 7 % 50) };
		int done[2], status;
		char c;
		pid_t pid;

		ASSERT_EQ(0, pipe(done));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			busy(i);
		close(done[1]);
		nanosleep(&life, NULL);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		/* nor are its children left */
		EXPECT_EQ(0, read(done[0], &c, 1));
		close(done[0]);
	}
}

/* What only files have: they get shorter, or a hole. Guards stay, as they always did. */
FIXTURE(file) {
};

FIXTURE_VARIANT(file) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(file, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(file, shared) { .backing = SHARED };
FIXTURE_VARIANT_ADD(file, disk) { .backing = DISK };

FIXTURE_SETUP(file)
{
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(file)
{
}

TEST_F(file, truncate_and_punch)
{
	ASSERT_TRUE(lay(AT, "grr.g"));
	ASSERT_EQ(0, ftruncate(map.fd, AT - FAR_AWAY + 2 * page));
	/* a SIGBUS is not only for poison */
	EXPECT_TRUE(kept_deep(AT, AT, "g.ppg", 2));
	ASSERT_EQ(0, ftruncate(map.fd, FILE_PAGES * page));
	EXPECT_TRUE(kept_deep(AT, AT, "g.zzg", 2));
	/* ext2 has no such call */
	if (variant->backing != DISK) {
		ASSERT_EQ(0, fallocate(map.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       AT - FAR_AWAY, 5 * page));
		EXPECT_TRUE(kept_deep(AT, AT, "gzzzg", 2));
	}
	ASSERT_EQ(0, unguard(AT, 1));
	EXPECT_TRUE(kept(AT, variant->backing == DISK ? "..zzg" : "zzzzg"));
}

/* Pages of which no process has anything, and the kernel nothing for long. */
TEST_F(file, reclaim)
{
	ASSERT_TRUE(lay(AT, "grr.g"));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_PAGEOUT));
	EXPECT_TRUE(kept_deep(AT, AT, "g...g", 2));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_DONTNEED));
	ASSERT_EQ(0, fsync(map.fd) | posix_fadvise(map.fd, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_TRUE(kept(AT, "g...g"));
}

/* A file that may only be read. */
TEST_F(file, read_only)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", map.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map.fd = fd;
	ASSERT_TRUE(put_prot(AT, 4, PROT_READ));
	ASSERT_TRUE(fill(AT, "g.rg"));
	EXPECT_TRUE(kept_deep(AT, AT, "g.rg", 2));
	ASSERT_EQ(0, unguard(AT, 4));
	EXPECT_TRUE(kept_deep(AT, AT, "....", 2));
}

/* Faults map pages around the one that they are for. */
TEST_F(file, fault_around)
{
	ASSERT_TRUE(put(AT, 32));
	for (int i = 0; i < 32; i += 3)
		ASSERT_EQ(0, guard(AT + i * page, 1));
	ASSERT_EQ(expected('.', AT + 16 * page), look(AT + 16 * page));
	EXPECT_TRUE(kept(AT, "g..g..g..g..g..g..g..g..g..g..g."));
}

/*
 * All merges: the VMA in the middle, M, has something that keeps it apart from
 * its neighbours L and R, until a call takes that away.
 */
enum state {
	NONE,		/* not mapped */
	EMPTY,		/* no anon_vma */
	FLAGGED,	/* no anon_vma, but guards */
	FAULTED,	/* an anon_vma, the same as a neighbour's where that can be */
	OWN,		/* an anon_vma that nobody else has */
	FORKED,		/* FAULTED, and then the process was forked */
	FORKED_FLAGGED,	/* FLAGGED, and then the process was forked */
	STATES
};

#define SIDE	2	/* pages of L and R */
#define MIDDLE	4	/* pages of M */
#define ALL	(2 * SIDE + MIDDLE)

static const char * const side[STATES] = {
	"--", ".r", "g.", "wg", "", "gw", ".g",
};

static const char * const middle[STATES] = {
	"....", ".rr.", "g..g", "gwwg", "wggw", "gw.g", "g.gg",
};

/* What L, M and R are in a row, and how many VMAs they have become. */
static unsigned char (*merged)[STATES][STATES][STATES];

static char *place_of_m(void)
{
	return AT + SIDE * page;
}

static int merge_mprotect(void)
{
	return mprotect(place_of_m(), MIDDLE * page, PROT_RW);
}

static int merge_mprotect_head(void)
{
	return mprotect(place_of_m(), MIDDLE / 2 * page, PROT_RW);
}

static int merge_mprotect_tail(void)
{
	return mprotect(place_of_m() + MIDDLE / 2 * page, MIDDLE / 2 * page, PROT_RW);
}

static int merge_mmap(void)
{
	return put(place_of_m(), MIDDLE) ? 0 : -1;
}

static int apart_mremap(void)
{
	return mremap(place_of_m(), MIDDLE * page, MIDDLE * page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      AWAY) != AWAY || mprotect(AWAY, MIDDLE * page, PROT_RW);
}

static int merge_mremap(void)
{
	return mremap(AWAY, MIDDLE * page, MIDDLE * page, MREMAP_MAYMOVE | MREMAP_FIXED,
		      place_of_m()) != place_of_m();
}

static int name_m(const char *name)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, place_of_m(), MIDDLE * page, name);
}

static int apart_name(void)
{
	return name_m("apart") || mprotect(place_of_m(), MIDDLE * page, PROT_RW);
}

static int merge_name(void)
{
	return name_m(NULL);
}

FIXTURE(merge) {
	int nth_fd;
};

FIXTURE_VARIANT(merge) {
	enum backing backing;
	int (*apart)(void);	/* what else is needed to make M different */
	int (*merge)(void);
	bool hole;		/* there is no M before */
	bool no_left, no_right;
};

#define MERGE(kind, KIND, name, ...)					\
FIXTURE_VARIANT_ADD(merge, kind##_##name)				\
	{ .backing = KIND, .merge = merge_##name, __VA_ARGS__ }

MERGE(anon, ANON, mprotect);
MERGE(anon, ANON, mprotect_head, .no_right = true);
MERGE(anon, ANON, mprotect_tail, .no_left = true);
MERGE(anon, ANON, mmap, .hole = true);
MERGE(anon, ANON, mremap, .apart = apart_mremap);
MERGE(anon, ANON, name, .apart = apart_name);
MERGE(private, PRIVATE, mprotect);
MERGE(private, PRIVATE, mprotect_head, .no_right = true);
MERGE(private, PRIVATE, mprotect_tail, .no_left = true);
MERGE(private, PRIVATE, mmap, .hole = true);
MERGE(private, PRIVATE, mremap, .apart = apart_mremap);
MERGE(shared, SHARED, mprotect);
MERGE(shared, SHARED, mprotect_head, .no_right = true);
MERGE(shared, SHARED, mprotect_tail, .no_left = true);
MERGE(shared, SHARED, mmap, .hole = true);
MERGE(shared, SHARED, mremap, .apart = apart_mremap);

FIXTURE_SETUP(merge)
{
	BACKING_OPEN(variant->backing);
	if (variant->merge == merge_name) {
		ASSERT_TRUE(put(place_of_m(), MIDDLE));
		if (name_m("x"))
			SKIP(return, "kernel without CONFIG_ANON_VMA_NAME");
		munmap(place_of_m(), MIDDLE * page);
	}
	merged = mmap(NULL, sizeof(*merged), PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)merged);
}

FIXTURE_TEARDOWN(merge)
{
	inject_close(self->nth_fd);
}

static bool forked(enum state s)
{
	return s == FORKED || s == FORKED_FLAGGED;
}

static bool place_m(enum state m)
{
	char *p = place_of_m();

	/* as it may be executed, it cannot merge, but can share an anon_vma */
	if (!put_prot(p, MIDDLE, PROT_RW | PROT_EXEC))
		return false;
	return !(m == OWN && madvise(p, MIDDLE * page, MADV_DONTDUMP)) && fill(p, middle[m]);
}

/* Before a fork, or after it. */
static bool place(enum state l, enum state m, enum state r, bool before)
{
	char *right = AT + (SIDE + MIDDLE) * page;

	return (l == NONE || forked(l) != before || lay(AT, side[l])) &&
	       (m == NONE || forked(m) != before || place_m(m)) &&
	       (r == NONE || forked(r) != before || lay(right, side[r]));
}

/* L, M and R are there, and M is different. */
static bool placed(const FIXTURE_VARIANT(merge) *variant, enum state m)
{
	if (m == OWN && madvise(place_of_m(), MIDDLE * page, MADV_DODUMP))
		return false;
	return !variant->apart || !variant->apart();
}

static void clear(void)
{
	munmap(AT, ALL * page);
	munmap(AWAY, MIDDLE * page);
}

static void check_merge(struct __test_metadata *_metadata, const FIXTURE_VARIANT(merge) *variant,
			enum state l, enum state m, enum state r)
{
	char pages[ALL + 1];
	pid_t pid = 0;
	bool child = forked(l) || forked(m) || forked(r);

	snprintf(pages, sizeof(pages), "%s%s%s", side[l], middle[m], side[r]);
	clear();
	if (child) {
		EXPECT_TRUE(place(l, m, r, true));
		pid = fork();
	}
	if (!pid) {
		EXPECT_TRUE(place(l, m, r, false) && placed(variant, m) && !variant->merge()) {
			TH_LOG("%s: %s", pages, strerror(errno));
		}
		(*merged)[l][m][r] = vmas(AT, ALL);
		EXPECT_TRUE(kept_deep(AT, AT, pages, 1) && rewrite(AT, AT, pages) &&
			    (slow() || kept_deep(AT, AT, pages, 1))) {
			TH_LOG("%d, %d, %d: guards or data are lost", l, m, r);
		}
		if (child)
			_exit(_metadata->exit_code);
	} else {
		EXPECT_TRUE(succeeds(pid));
	}
}

/* What it would be without guards. */
static enum state unguarded(enum state s)
{
	return s == FLAGGED || s == FORKED_FLAGGED ? EMPTY : s;
}

TEST_F(merge, keeps_guards)
{
	/* where fork is dear, a part of them, another one for each kind of VMA */
	unsigned int every = slow() ? 11 : 1, n = variant->backing;

	for (enum state l = NONE; l < STATES; l++) {
		for (enum state m = variant->hole ? NONE : EMPTY; m < STATES; m++) {
			for (enum state r = NONE; r < STATES; r++) {
				if (l == OWN || r == OWN || (variant->no_left && l) ||
				    (variant->no_right && r) || (variant->hole && m) ||
				    (!l && !r) || n++ % every)
					continue;
				check_merge(_metadata, variant, l, m, r);
				/* a flagged VMA merges as one without guards does */
				if (!flags_here() ||
				    !(*merged)[unguarded(l)][unguarded(m)][unguarded(r)])
					continue;
				ASSERT_EQ((*merged)[unguarded(l)][unguarded(m)][unguarded(r)],
					  (*merged)[l][m][r]) {
					TH_LOG("%d, %d, %d: other VMAs than without guards",
					       l, m, r);
				}
			}
		}
	}
	/* it is merges that we look at: all become one, or M is halved */
	check_merge(_metadata, variant, variant->no_left ? NONE : EMPTY,
		    variant->hole ? NONE : EMPTY, variant->no_right ? NONE : EMPTY);
	EXPECT_EQ(1 + (variant->no_left || variant->no_right),
		  (*merged)[variant->no_left ? NONE : EMPTY][variant->hole ? NONE : EMPTY]
			   [variant->no_right ? NONE : EMPTY]);
}

TEST_F(merge, allocations_fail)
{
	/* first those whose target has a flag and is lent an anon_vma, see left_to_others() */
	static const enum state cases[][3] = {
		{ FLAGGED, FAULTED, FLAGGED }, { FLAGGED, FLAGGED, FAULTED },
		{ FLAGGED, FLAGGED, FLAGGED }, { FLAGGED, FAULTED, FAULTED },
		{ FAULTED, FLAGGED, FLAGGED }, { EMPTY, FLAGGED, EMPTY },
		{ EMPTY, FLAGGED, FAULTED }, { EMPTY, FAULTED, FLAGGED },
		{ FAULTED, FLAGGED, FAULTED }, { FAULTED, FAULTED, FLAGGED },
	};
	int failed = 0, done = 0;

	INJECT_OPEN(self->nth_fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum state l = variant->no_left ? NONE : cases[i][0],
			   m = variant->hole ? NONE : cases[i][1],
			   r = variant->no_right ? NONE : cases[i][2];
		char pages[ALL + 1];

		if (left_to_others(i))
			continue;
		snprintf(pages, sizeof(pages), "%s%s%s", side[l], middle[m], side[r]);
		for (int nth = 1, left = 0; !left; nth++) {
			int err;

			ASSERT_LT(nth, 100);
			clear();
			ASSERT_TRUE(place(l, m, r, false) && placed(variant, m));
			ASSERT_EQ(0, arm(self->nth_fd, nth));
			err = variant->merge();
			left = armed(self->nth_fd);
			ASSERT_EQ(0, arm(self->nth_fd, 0));
			if (err) {
				failed++;
				/* where it was, that is, and nothing where it was to be */
				if (variant->hole || variant->merge == merge_mremap) {
					char hole[ALL + 1];

					memcpy(hole, pages, sizeof(hole));
					memset(hole + SIDE, '-', MIDDLE);
					EXPECT_TRUE(kept_deep(AT, AT, hole, 1));
					if (!variant->hole)
						EXPECT_TRUE(kept_deep(AWAY, place_of_m(),
								      middle[m], 1));
				} else {
					EXPECT_TRUE(kept_deep(AT, AT, pages, 1));
				}
				ASSERT_EQ(0, variant->merge());
			}
			done += !err;
			EXPECT_TRUE(kept_deep(AT, AT, pages, 1)) {
				TH_LOG("%s: allocation %d, %s", pages, nth,
				       err ? "then done" : "done");
			}
		}
	}
	EXPECT_LT(0, done);
	TH_LOG("failed %d times, done %d times", failed, done);
}

/*
 * Memory runs out in all else that a flag goes through. Where that is long, each
 * kind of VMA has a third of the allocations fail.
 */
FIXTURE(fail) {
	int nth_fd;
};

FIXTURE_VARIANT(fail) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(fail, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(fail, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(fail, shared) { .backing = SHARED };

FIXTURE_SETUP(fail)
{
	BACKING_OPEN(variant->backing);
	INJECT_OPEN(self->nth_fd);
}

FIXTURE_TEARDOWN(fail)
{
	inject_close(self->nth_fd);
}

TEST_F(fail, fork)
{
	int failed = 0, status;

	ASSERT_TRUE(many_laid());
	for (int nth = 1 + map.backing, left = 0; !left; nth += 3) {
		pid_t pid;

		ASSERT_LT(nth, 2000);
		ASSERT_EQ(0, arm(self->nth_fd, nth));
		pid = fork();
		if (!pid)
			_exit(!many_kept("a child", true));
		left = armed(self->nth_fd);
		ASSERT_EQ(0, arm(self->nth_fd, 0));
		if (pid < 0) {
			failed++;
			EXPECT_EQ(ENOMEM, errno);
			continue;
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) {
			TH_LOG("allocation %d: there is a child, but not as it should be", nth);
		}
	}
	EXPECT_TRUE(many_kept("the parent", false));
	/* a page table for each of them, a third of them here */
	EXPECT_LT(10, failed);
	TH_LOG("fork failed %d times", failed);
}

/* Over several page tables: what is guarded when that fails stays so in a child. */
TEST_F(fail, install)
{
	int failed = 0;

	for (int nth = 1, left = 0; !left; nth++) {
		char *at = FAR_AWAY + HUGE - 2 * page, is[5] = "";
		int err;

		ASSERT_LT(nth, 100);
		/* not one VMA where it is a file, and each with a page table of its own */
		ASSERT_TRUE(put(at, 2) && put(at + 2 * page, 2));
		ASSERT_EQ(0, arm(self->nth_fd, nth));
		err = guard(at, 4);
		left = armed(self->nth_fd);
		ASSERT_EQ(0, arm(self->nth_fd, 0));
		failed += !!err;
		for (int i = 0; i < 4; i++)
			is[i] = look(at + i * page) == GUARDED ? 'g' : '.';
		EXPECT_TRUE(err || !strcmp(is, "gggg"));
		EXPECT_TRUE(kept_deep(at, at, is, 1)) {
			TH_LOG("allocation %d: %s", nth, is);
		}
		ASSERT_EQ(0, guard(at, 4));
		EXPECT_TRUE(kept_deep(at, at, "gggg", 1));
		ASSERT_EQ(0, munmap(at, 4 * page));
	}
	EXPECT_LT(0, failed);
}

TEST_F(fail, split_and_move)
{
	static const char * const all[] = { "g.gg.g", "gwgg.g" };
	int failed = 0;

	for (int what = 0; what < 10; what++) {
		const char *pages = all[what & 1];
		char *part = AT + 2 * page, left_over[7];

		for (int nth = 1 + map.backing, left = 0; !left; nth += 3) {
			char *to = NULL;
			int err = 0;

			ASSERT_LT(nth, 100);
			ASSERT_TRUE(lay(AT, pages));
			ASSERT_EQ(0, arm(self->nth_fd, nth));
			switch (what / 2) {
			case 0:
				err = mprotect(part, 2 * page, PROT_READ);
				break;
			case 1:
				err = munmap(part, 2 * page);
				break;
			case 2:
				to = mremap(part, 2 * page, 2 * page,
					    MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
				break;
			case 3:
				to = mremap(part, 2 * page, 3 * page,
					    MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
				break;
			case 4:
				to = mremap(part, 2 * page, 2 * page, MREMAP_MAYMOVE |
					    MREMAP_FIXED | MREMAP_DONTUNMAP, AWAY);
				break;
			}
			left = armed(self->nth_fd);
			ASSERT_EQ(0, arm(self->nth_fd, 0));
			memcpy(left_over, pages, sizeof(left_over));
			/* what has moved may still be mapped where it was, if it had to be split */
			if (err || to == MAP_FAILED)
				failed++;
			else if (what / 2)
				memset(left_over + 2, vmas(part, 2) ? '.' : '-', 2);
			EXPECT_TRUE(!vmas(part, 2) || what / 2 != 1 || err);
			EXPECT_TRUE(kept_deep(AT, AT, left_over, 1)) {
				TH_LOG("%d, allocation %d: %d, %p", what, nth, err, to);
			}
			EXPECT_TRUE(to != AWAY || kept_deep(AWAY, part, "gg", 1)) {
				TH_LOG("%d, allocation %d: moved", what, nth);
			}
			munmap(AT, 6 * page);
			munmap(AWAY, 3 * page);
		}
	}
	EXPECT_LT(3, failed);
}

/* Pages beside guards that are somewhere else meanwhile. */
FIXTURE(swap) {
	bool on;
};

FIXTURE_VARIANT(swap) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(swap, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(swap, private) { .backing = PRIVATE };

#define SWAP	"/dev/ram0"

/* Of a disk on which there is nothing else. */
static bool swap_on(void)
{
	static char head[1 << 16], none[1 << 16];
	int fd = open(SWAP, O_RDWR | O_EXCL | O_CLOEXEC);
	unsigned long size;
	uint32_t *info = (uint32_t *)(head + 1024);
	bool ok = fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head) &&
		  (!memcmp(head, none, sizeof(head)) ||
		   !memcmp(head + page - 10, "SWAPSPACE2", 10)) &&
		  !ioctl(fd, BLKGETSIZE64, &size);

	if (ok) {
		memset(head, 0, page);
		memcpy(head + page - 10, "SWAPSPACE2", 10);
		info[0] = 1;
		info[1] = size / page - 1;
		ok = pwrite(fd, head, page, 0) == (ssize_t)page && !fsync(fd);
	}
	if (fd >= 0)
		close(fd);
	return ok && !swapon(SWAP, 0);
}

FIXTURE_SETUP(swap)
{
	BACKING_OPEN(variant->backing);
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	self->on = swap_on();
	if (!self->on)
		SKIP(return, "no swap on " SWAP);
	ASSERT_EQ(0, cg_make("guard"));
	ASSERT_EQ(0, cg_enter("guard"));
}

FIXTURE_TEARDOWN(swap)
{
	cg_leave();
	EXPECT_TRUE(cg_remove("guard"));
	EXPECT_TRUE(!self->on || !swapoff(SWAP));
}

/* All of the cgroup, as a page that several map is not for MADV_PAGEOUT. */
static bool swap_out(const char *at)
{
	return UNTIL((cg_write("guard", "memory.reclaim", "16M swappiness=200"), swapped(at)));
}

static bool page_out(char *at)
{
	return UNTIL((madvise(at, page, MADV_PAGEOUT), swapped(at)));
}

TEST_F(swap, out_and_in)
{
	ASSERT_TRUE(lay(AT, "g.g.g"));
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(page_out(AT + page));
	EXPECT_TRUE(kept_deep(AT, AT, "gwg.g", 2));
	EXPECT_TRUE(page_out(AT + page));
	/* by writing to it */
	EXPECT_TRUE(rewrite(AT, AT, "gwg.g"));
	EXPECT_TRUE(kept(AT, "gwg.g"));
	/* and where it is when it has moved, merged and been split */
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	EXPECT_TRUE(kept_deep(AWAY, AT, "gwg.", 1));
	EXPECT_TRUE(page_out(AWAY + page));
	ASSERT_EQ(AT, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AT));
	ASSERT_EQ(0, munmap(AT, page));
	EXPECT_TRUE(kept(AT, "-wg.g"));
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_EQ(-1, guard(AT, 5));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(kept(AT, "-gggg"));
}

/* An anon_vma that each of them got on its own is the one of its page. */
TEST_F(swap, after_fork)
{
	pid_t pid;

	ASSERT_TRUE(lay(AT, "g..g"));
	pid = fork();
	if (!pid) {
		pid_t child = fork();

		if (!child)
			_exit(!(rewrite(AT, AT, "g..g") && page_out(AT + page) &&
				page_out(AT + 2 * page) && kept(AT, "g..g") &&
				page_out(AT + page) && kept(AT, "g..g")));
		_exit(!(fill(AT + page, "w") && page_out(AT + page) && succeeds(child) &&
			kept(AT, "gw.g") && page_out(AT + page) && kept(AT, "gw.g")));
	}
	ASSERT_TRUE(fill(AT + 2 * page, "w"));
	EXPECT_TRUE(page_out(AT + 2 * page));
	EXPECT_TRUE(kept(AT, "g.wg"));
	EXPECT_TRUE(succeeds(pid));
	EXPECT_TRUE(page_out(AT + 2 * page));
	EXPECT_TRUE(kept(AT, "g.wg"));
}

/*
 * A maps, forks B, a page goes to swap, B has it back first, then A, and B exits:
 * A's page must belong to an anon_vma that is still there. A first, or B first.
 */
TEST_F(swap, child_in_first)
{
	int up[2], down[2];
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(up) | pipe(down));
	for (int late = 0; late < 2; late++) {
		ASSERT_TRUE(lay(AT, "g.g."));
		ASSERT_TRUE(fill(AT + page, "w"));
		if (late)
			ASSERT_TRUE(page_out(AT + page));
		pid = fork();
		if (!pid) {
			bool ok = (late || swap_out(AT + page)) && swapped(AT + page) &&
				  as_laid("B", AT, AT, "gwg.");

			ok &= write(up[1], &c, 1) == 1 && read(down[0], &c, 1) == 1;
			_exit(!ok);
		}
		ASSERT_EQ(1, read(up[0], &c, 1));
		EXPECT_TRUE(as_laid("A", AT, AT, "gwg."));
		ASSERT_EQ(1, write(down[1], &c, 1));
		EXPECT_TRUE(succeeds(pid));
		EXPECT_TRUE(as_laid("A", AT, AT, "gwg."));
		/* to find its PTE is to use that anon_vma */
		EXPECT_TRUE(page_out(AT + page));
		EXPECT_TRUE(kept(AT, "gwg."));
		EXPECT_TRUE(page_out(AT + page));
		EXPECT_TRUE(kept(AT, "gwg."));
		ASSERT_EQ(0, munmap(AT, 4 * page));
	}
}

/* The same with more of them, the last of whom has it back first. */
static bool generation(int depth)
{
	pid_t pid;

	if (!depth)
		return swap_out(AT + page) && as_laid("the last", AT, AT, "gwg.");
	pid = fork();
	if (!pid)
		_exit(!generation(depth - 1));
	return succeeds(pid) && as_laid("one of them", AT, AT, "gwg.") &&
	       page_out(AT + page) && as_laid("one of them, again", AT, AT, "gwg.") &&
	       rewrite(AT, AT, "gwg.") && page_out(AT + page) &&
	       as_laid("one that wrote", AT, AT, "gwg.");
}

TEST_F(swap, depth_3)
{
	ASSERT_TRUE(lay(AT, "g.g."));
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(generation(3));
	EXPECT_TRUE(kept(AT, "gwg."));
}

/* swapoff looks for pages in each VMA that may have one. */
TEST_F(swap, swapoff)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	ASSERT_TRUE(lay(AT + 8 * page, "g..g"));
	ASSERT_TRUE(fill(AT + page, "w"));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_READ));
	EXPECT_TRUE(page_out(AT + page));
	ASSERT_EQ(0, swapoff(SWAP));
	self->on = false;
	EXPECT_FALSE(swapped(AT + page));
	EXPECT_TRUE(kept(AT, "gw.g----g..g"));
}

/* Pages that somebody else puts there. */
FIXTURE(uffd) {
	int fd;
};

FIXTURE_VARIANT(uffd) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(uffd, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(uffd, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(uffd, shared) { .backing = SHARED };

/* A signal for a page that is missing: nobody need wait for it. */
static int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS |
		UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
		UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED |
		UFFD_FEATURE_POISON | UFFD_FEATURE_MOVE };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	/* nothing is missing from a file that has pages */
	if (map.fd >= 0 && (ftruncate(map.fd, 0) || ftruncate(map.fd, FILE_PAGES * page)))
		return -1;
	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -1 : fd;
}

FIXTURE_SETUP(uffd)
{
	BACKING_OPEN(variant->backing);
	self->fd = uffd_open();
	if (self->fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
}

FIXTURE_TEARDOWN(uffd)
{
}

static int uffd_register(int fd, char *at, size_t pages, int mode)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)at, pages * page }, .mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

static int uffd_unregister(int fd, char *at, size_t pages)
{
	struct uffdio_range range = { (unsigned long)at, pages * page };

	return ioctl(fd, UFFDIO_UNREGISTER, &range);
}

/* 0, or an errno. */
static int uffd_copy(int fd, char *at)
{
	static char from[65536] __attribute__((aligned(65536)));
	struct uffdio_copy copy = {
		.dst = (unsigned long)at, .src = (unsigned long)from, .len = page,
	};

	from[0] = expected('w', at);
	return ioctl(fd, UFFDIO_COPY, &copy) ? errno : 0;
}

static int uffd_zero(int fd, char *at)
{
	struct uffdio_zeropage zero = { .range = { (unsigned long)at, page } };

	return ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? errno : 0;
}

static int uffd_poison(int fd, char *at)
{
	struct uffdio_poison poison = { .range = { (unsigned long)at, page } };

	return ioctl(fd, UFFDIO_POISON, &poison) ? errno : 0;
}

static int uffd_protect(int fd, char *at, size_t pages, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)at, pages * page },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? errno : 0;
}

TEST_F(uffd, pages_beside_guards)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 8));
	ASSERT_EQ(0, guard(p + 2 * page, 1) | guard(p + 5 * page, 1));
	ASSERT_EQ(0, uffd_register(self->fd, p, 8, UFFDIO_REGISTER_MODE_MISSING));
	/* a page that is missing is not what a guard is */
	EXPECT_TRUE(as_laid("the parent", p, p, "ppgppgpp"));
	/* to copy a page there would be to remove the guard */
	EXPECT_EQ(EEXIST, uffd_poison(self->fd, p + 5 * page));
	EXPECT_EQ(0, uffd_zero(self->fd, p + 3 * page));
	EXPECT_TRUE(as_laid("the parent", p, p, "ppgzpgpp"));
	EXPECT_EQ(0, uffd_copy(self->fd, p + page));
	EXPECT_EQ(0, uffd_copy(self->fd, p + 6 * page));
	EXPECT_EQ(0, uffd_poison(self->fd, p + 4 * page));
	EXPECT_TRUE(as_laid("the parent", p, p, "pwgzpgwp"));
	/* a child has no userfaultfd: what is missing is zero there */
	EXPECT_TRUE(kept_in_child(p, p, "zwgzpgwz", 2));
	ASSERT_EQ(0, uffd_unregister(self->fd, p, 8));
	EXPECT_TRUE(kept(p, "zwgzpgwz"));
}

/* The first page of its own that a flagged VMA gets is one that is copied in. */
TEST_F(uffd, first_page)
{
	char *p = AT;

	for (int zero = 0; zero < 2; zero++, p += 8 * page) {
		ASSERT_TRUE(put(p, 4));
		ASSERT_EQ(0, guard(p, 1) | guard(p + 2 * page, 1));
		ASSERT_EQ(0, uffd_register(self->fd, p, 4, UFFDIO_REGISTER_MODE_MISSING));
		EXPECT_EQ(0, zero ? uffd_zero(self->fd, p + page) :
				    uffd_copy(self->fd, p + page));
		ASSERT_EQ(0, uffd_unregister(self->fd, p, 4));
		EXPECT_TRUE(kept(p, zero ? "gzgz" : "gwgz"));
	}
}

/* Poison is no guard, but as long as there was one, fork copied it. */
TEST_F(uffd, poison_left)
{
	char *p = AT;

	for (int first = 0; first < 2; first++, p += 8 * page) {
		ASSERT_TRUE(put(p, 4));
		if (first)
			ASSERT_EQ(0, guard(p, 1));
		ASSERT_EQ(0, uffd_register(self->fd, p, 4, UFFDIO_REGISTER_MODE_MISSING));
		EXPECT_EQ(0, uffd_poison(self->fd, p + 2 * page));
		ASSERT_EQ(0, uffd_unregister(self->fd, p, 4));
		if (!first)
			ASSERT_EQ(0, guard(p, 1));
		EXPECT_TRUE(kept_deep(p, p, "gzpz", 2));
		ASSERT_EQ(0, unguard(p, 4));
		EXPECT_TRUE(kept(p, "zzpz"));
	}
}

/* One that is poisoned and has no guard has neighbours that do. */
TEST_F(uffd, poison_between)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 2));
	ASSERT_EQ(0, guard(p, 2));
	ASSERT_TRUE(put_prot(p + 2 * page, 2, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(put(p + 4 * page, 2));
	ASSERT_EQ(0, guard(p + 4 * page, 1));
	ASSERT_EQ(0, uffd_register(self->fd, p + 2 * page, 2, UFFDIO_REGISTER_MODE_MISSING));
	EXPECT_EQ(0, uffd_poison(self->fd, p + 3 * page));
	ASSERT_EQ(0, uffd_unregister(self->fd, p + 2 * page, 2));
	EXPECT_TRUE(as_laid("the parent", p, p, "ggzpgz"));
	/* what is shared has no anon_vma: fork copies nothing of it */
	EXPECT_TRUE(kept_in_child(p, p, shared() ? "ggzzgz" : "ggzpgz", 2));
}

TEST_F(uffd, write_protect)
{
	char *p = AT;

	ASSERT_TRUE(put(p, 6));
	ASSERT_EQ(0, guard(p, 1) | guard(p + 3 * page, 1));
	ASSERT_EQ(0, look(p + page));
	ASSERT_EQ(0, uffd_register(self->fd, p, 6, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(self->fd, p, 6, true));
	EXPECT_TRUE(as_laid("the parent", p, p, "gzzgzz"));
	for (int i = 0; i < 6; i++)
		EXPECT_EQ(i % 3 ? POISONED : GUARDED, poke(p + i * page, 1));
	EXPECT_TRUE(kept_in_child(p, p, "gzzgzz", 2));
	/*
	 * A guard that comes later. Not in a file: to drop a page that is write-protected
	 * leaves a marker there, and the call would be restarted for ever.
	 */
	if (variant->backing == ANON) {
		ASSERT_EQ(0, guard(p + 4 * page, 1));
		EXPECT_TRUE(kept_in_child(p, p, "gzzggz", 2));
	}
	ASSERT_EQ(0, uffd_protect(self->fd, p, 6, false));
	EXPECT_EQ(0, poke(p + 2 * page, 0));
	EXPECT_TRUE(kept_deep(p, p, variant->backing == ANON ? "gzzggz" : "gzzgzz", 2));
	ASSERT_EQ(0, unguard(p, 6));
	EXPECT_TRUE(kept_deep(p, p, "zzzzzz", 2));
	ASSERT_EQ(0, guard(p, 2));
	ASSERT_EQ(0, uffd_unregister(self->fd, p, 6));
	EXPECT_TRUE(kept(p, "ggzzzz"));
}

/* Pages that become one with others. */
#define KSM	"/sys/kernel/mm/ksm/"

FIXTURE(ksm) {
	char run[32], sleep[32], scan[32];
};

FIXTURE_VARIANT(ksm) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(ksm, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(ksm, private) { .backing = PRIVATE };

static long ksm_read(const char *file)
{
	char path[64], buf[64];

	snprintf(path, sizeof(path), KSM "%s", file);
	return read_file(path, buf, sizeof(buf)) < 0 ? -1 : atol(buf);
}

FIXTURE_SETUP(ksm)
{
	BACKING_OPEN(variant->backing);
	if (read_file(KSM "run", self->run, sizeof(self->run)) < 0)
		SKIP(return, "kernel without KSM");
	read_file(KSM "sleep_millisecs", self->sleep, sizeof(self->sleep));
	read_file(KSM "pages_to_scan", self->scan, sizeof(self->scan));
	ASSERT_EQ(0, write_file(KSM "sleep_millisecs", "1"));
	ASSERT_EQ(0, write_file(KSM "pages_to_scan", "1000"));
	ASSERT_EQ(0, write_file(KSM "run", "1"));
}

FIXTURE_TEARDOWN(ksm)
{
	if (!*self->run)
		return;
	write_file(KSM "run", "2");
	write_file(KSM "run", self->run);
	write_file(KSM "sleep_millisecs", self->sleep);
	write_file(KSM "pages_to_scan", self->scan);
}

static bool ksm_scans(int n)
{
	long end = ksm_read("full_scans") + n;

	return UNTIL(ksm_read("full_scans") >= end);
}

TEST_F(ksm, merges_beside_guards)
{
	bool alike = true;

	ASSERT_TRUE(lay(AT, "g....g"));
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_MERGEABLE));
	EXPECT_TRUE(ksm_scans(3));
	EXPECT_TRUE(kept_deep(AT, AT, "g....g", 2));
	for (int i = 1; i < 5; i++) {
		ASSERT_EQ(0, poke(AT + i * page, 1));
		memset(AT + i * page, 0x5a, page);
	}
	EXPECT_TRUE(UNTIL(ksm_read("pages_sharing") >= 3));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			for (int k = 1; k < 5; k++)
				alike &= look(AT + k * page) == 0x5a;
			alike &= !poke(AT + page, 1) && look(AT + page) == 1;
			_exit(!(alike && look(AT) == GUARDED && look(AT + 5 * page) == GUARDED));
		}
		EXPECT_TRUE(succeeds(pid));
		/* a guard instead of a shared page, and another such page */
		ASSERT_EQ(0, guard(AT + 4 * page, 1));
		EXPECT_EQ(GUARDED, look(AT + 4 * page));
		ASSERT_EQ(0, unguard(AT + 4 * page, 1));
		EXPECT_EQ(expected('.', AT + 4 * page), look(AT + 4 * page));
		memset(AT + 4 * page, 0x5a, page);
	}
	ASSERT_EQ(0, madvise(AT, 6 * page, MADV_UNMERGEABLE));
	for (int i = 1; i < 5; i++)
		ASSERT_TRUE(fill(AT + i * page, "w"));
	EXPECT_TRUE(kept(AT, "gwwwwg"));
}

/* Huge pages: page tables that are there no more, or must be. */
FIXTURE(huge) {
	char *a;
};

FIXTURE_VARIANT(huge) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(huge, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(huge, shared) { .backing = SHARED };

FIXTURE_SETUP(huge)
{
	if (!*kconfig("CONFIG_TRANSPARENT_HUGEPAGE"))
		SKIP(return, "kernel without CONFIG_TRANSPARENT_HUGEPAGE");
	BACKING_OPEN(variant->backing);
	self->a = FAR_AWAY;
}

FIXTURE_TEARDOWN(huge)
{
}

/* A file of so many huge pages, all of them small ones now; mapped at @a. */
static bool huge_file(char *a, int n)
{
	close(map.fd);
	map.fd = memfd_create("huge", MFD_CLOEXEC);
	if (ftruncate(map.fd, n * HUGE))
		return false;
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < HUGE / page; k++) {
			char c = k + 1;

			if (pwrite(map.fd, &c, 1, i * HUGE + k * page) != 1)
				return false;
		}
	return mmap(a, n * HUGE, PROT_RW, map.flags | MAP_FIXED, map.fd, 0) == a;
}

/* By a mapping of another process: how it ended. */
static int collapse_there(char *a, char *b, size_t at)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		munmap(a, 64 * HUGE);
		if (mmap(b, HUGE, PROT_RW, MAP_SHARED | MAP_FIXED, map.fd, at) != b)
			_exit(255);
		for (int i = 0; i < 10; i++) {
			if (!madvise(b, HUGE, MADV_COLLAPSE))
				_exit(0);
			if (errno != EAGAIN && errno != EBUSY)
				break;
		}
		_exit(errno);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool touch_all(char *a)
{
	bool ok = true;

	for (size_t k = 0; k < HUGE / page; k++)
		ok &= look(a + k * page) == ((k + 1) & 0xff);
	return ok;
}

/* Without a guard ever, with them all removed, with them removed one by one. */
TEST_F(huge, collapse_after_remove)
{
	for (int what = 0; what < 3; what++) {
		bool freed = !what || (what == 1 && flags_here());
		long before;

		ASSERT_TRUE(huge_file(self->a, 1));
		ASSERT_TRUE(touch_all(self->a));
		if (what) {
			ASSERT_EQ(0, guard(self->a + 3 * page, 3));
			ASSERT_EQ(GUARDED, look(self->a + 4 * page));
		}
		if (what == 1)
			ASSERT_EQ(0, unguard(self->a, HUGE / page));
		if (what == 2)
			ASSERT_EQ(0, unguard(self->a, 5) | unguard(self->a + 5 * page, 1));
		before = page_tables();
		ASSERT_EQ(0, collapse_there(self->a, AWAY, 0));
		EXPECT_EQ(freed ? 4 : 0, before - page_tables()) {
			TH_LOG("%d: freed %ld kB of page tables", what, before - page_tables());
		}
		EXPECT_EQ(2, look(self->a + page));
		EXPECT_EQ(freed ? 2048 : 0, atol(smaps_of(self->a, "ShmemPmdMapped"))) {
			TH_LOG("%d: ShmemPmdMapped: %s", what, smaps_of(self->a, "ShmemPmdMapped"));
		}
		EXPECT_TRUE(touch_all(self->a));
		ASSERT_EQ(0, munmap(self->a, HUGE));
	}
}

TEST_F(huge, guard_survives_collapse)
{
	ASSERT_TRUE(huge_file(self->a, 1));
	ASSERT_TRUE(touch_all(self->a));
	ASSERT_EQ(0, guard(self->a + 3 * page, 1) | guard(self->a + 511 * page, 1));
	ASSERT_EQ(0, collapse_there(self->a, AWAY, 0));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(self->a + 3 * page) != GUARDED || look(self->a) != 1 ||
			      look(self->a + 511 * page) != GUARDED ||
			      look(self->a + 510 * page) != 255);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(self->a + 3 * page));
		EXPECT_EQ(GUARDED, look(self->a + 511 * page));
		EXPECT_EQ(3, look(self->a + 2 * page));
		EXPECT_EQ(5, look(self->a + 4 * page));
		/* nor can it be mapped huge here */
		EXPECT_EQ(-1, madvise(self->a, HUGE, MADV_COLLAPSE));
		EXPECT_EQ(GUARDED, look(self->a + 3 * page));
		EXPECT_EQ(GUARDED, look(self->a + 511 * page));
		EXPECT_EQ(0, atol(smaps_of(self->a, "ShmemPmdMapped")));
	}
	/* but can, then */
	ASSERT_EQ(0, unguard(self->a, HUGE / page));
	EXPECT_EQ(0, madvise(self->a, HUGE, MADV_COLLAPSE));
	EXPECT_EQ(2048, atol(smaps_of(self->a, "ShmemPmdMapped")));
	EXPECT_TRUE(touch_all(self->a));

	/* a guard in what is huge */
	ASSERT_EQ(0, guard(self->a + 7 * page, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(self->a + 7 * page) != GUARDED || look(self->a) != 1 ||
			      look(self->a + 511 * page) != 0);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(self->a + 7 * page));
		EXPECT_EQ(9, look(self->a + 8 * page));
		EXPECT_EQ(0, look(self->a + 511 * page));
	}
}

/*
 * What an anon_vma that was there only for guards did to others: not with the
 * flags, and still without.
 */
FIXTURE(effects) {
	char pattern[256];
};

FIXTURE_VARIANT(effects) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(effects, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(effects, private) { .backing = PRIVATE };

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/vmlean-guard-core"

FIXTURE_SETUP(effects)
{
	EXPECTATIONS();
	BACKING_OPEN(variant->backing);
}

FIXTURE_TEARDOWN(effects)
{
	if (*self->pattern)
		write_file(CORE_PATTERN, self->pattern);
	unlink(CORE);
}

/* How much of the mapping at an address a core file has; -1 if there is none. */
static long dumped(const char *at)
{
	int fd = open(CORE, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr head;
	Elf64_Phdr seg;
	long size = -1;

	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	for (int i = 0; i < head.e_phnum; i++)
		if (pread(fd, &seg, sizeof(seg), head.e_phoff + i * sizeof(seg)) == sizeof(seg) &&
		    seg.p_type == PT_LOAD && seg.p_vaddr == (unsigned long)at)
			size = seg.p_filesz;
	close(fd);
	return size;
}

TEST_F(effects, coredump)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int status;
	pid_t pid;

	if (!*kconfig("CONFIG_ELF_CORE") || !*kconfig("CONFIG_COREDUMP"))
		SKIP(return, "kernel without CONFIG_COREDUMP and CONFIG_ELF_CORE");
	ASSERT_LT(0, read_file(CORE_PATTERN, self->pattern, sizeof(self->pattern)));
	ASSERT_EQ(0, write_file(CORE_PATTERN, CORE));
	unlink(CORE);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		if (!lay(AT, ".r......") || guard(AT + 2 * page, 2) ||	/* guarded */
		    !lay(AT + 9 * page, ".r......") ||			/* never */
		    !lay(AT + 18 * page, ".r.w.g..") ||			/* written to */
		    !lay(AT + 27 * page, ".ggg....") || unguard(AT + 27 * page, 8) ||
		    setrlimit(RLIMIT_CORE, &all) || prctl(PR_SET_DUMPABLE, 1) ||
		    write_file("/proc/self/coredump_filter", "0x33"))
			_exit(1);
		kill(getpid(), SIGSEGV);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_EQ(flags_here() ? 0 : 8 * page, dumped(AT));
	EXPECT_EQ(0, dumped(AT + 9 * page));
	EXPECT_EQ(8 * page, dumped(AT + 18 * page));
	EXPECT_EQ(flags_here() ? 0 : 8 * page, dumped(AT + 27 * page));
}

/* fork leaves page tables in which there is nothing to copy. */
TEST_F(effects, fork_after_remove)
{
	enum { TABLES = 16 };
	long size[4];

	for (int what = 0; what < 4; what++) {
		int up[2];
		pid_t pid;

		ASSERT_EQ(0, pipe(up));
		ASSERT_NE(MAP_FAILED, mmap(AWAY, TABLES * HUGE, PROT_RW, map.flags | MAP_FIXED,
					   map.fd, 0));
		for (int i = 0; what && i < TABLES; i++)
			ASSERT_EQ(0, guard(AWAY + i * HUGE, 1));
		if (what == 2)
			ASSERT_EQ(0, unguard(AWAY, TABLES * HUGE / page));
		for (int i = 0; what == 3 && i < TABLES; i++)
			ASSERT_EQ(0, unguard(AWAY + i * HUGE, 1));
		pid = fork();
		if (!pid) {
			long n = page_tables();

			_exit(write(up[1], &n, sizeof(n)) != sizeof(n));
		}
		ASSERT_TRUE(succeeds(pid));
		ASSERT_EQ(sizeof(size[what]), read(up[0], &size[what], sizeof(size[what])));
		close(up[0]);
		close(up[1]);
		munmap(AWAY, TABLES * HUGE);
	}
	/* with the one or two tables above them */
	EXPECT_LE(TABLES * 4, size[1] - size[0]);
	for (int what = 2; what < 4; what++) {
		EXPECT_TRUE(flags_here() ? size[what] == size[0] :
					   size[what] - size[0] >= TABLES * 4) {
			TH_LOG("%ld kB, %ld kB without guards", size[what], size[0]);
		}
	}
}

/* The lines of /proc/slabinfo: objects of a cache that has a name of its own. */
static long slab_objects(const char *cache)
{
	static char buf[1 << 17];
	char line[64], *at;

	if (read_file("/proc/slabinfo", buf, sizeof(buf)) < 0)
		return -1;
	snprintf(line, sizeof(line), "\n%s ", cache);
	at = strstr(buf, line);
	return at ? atol(at + strlen(line)) : -1;
}

TEST_F(effects, no_anon_vma)
{
	int n = rounds(2000), up[2];
	long before = slab_objects("anon_vma"), here, child = 0;
	pid_t pid;

	if (before < 0)
		SKIP(return, "no line \"anon_vma\" in /proc/slabinfo");
	/* not beside each other: they would share it */
	ASSERT_EQ(0, pipe(up));
	for (int i = 0; i < n; i++)
		ASSERT_NE(MAP_FAILED, mmap(AWAY + 2 * i * page, page, PROT_RW, map.flags |
					   MAP_FIXED, map.fd, 0));
	for (int i = 0; i < n; i++)
		ASSERT_EQ(0, guard(AWAY + 2 * i * page, 1));
	here = slab_objects("anon_vma") - before;
	pid = fork();
	if (!pid) {
		child = slab_objects("anon_vma") - before;
		_exit(write(up[1], &child, sizeof(child)) != sizeof(child));
	}
	ASSERT_TRUE(succeeds(pid));
	ASSERT_EQ(sizeof(child), read(up[0], &child, sizeof(child)));
	/* it counts those that are cached as well: some for each CPU */
	if (flags_here()) {
		EXPECT_GT(n / 4, here);
		EXPECT_GT(n / 4, child);
	} else {
		EXPECT_LT(n * 3 / 4, here);
		EXPECT_LT(n * 7 / 4, child);
	}
	TH_LOG("%d guarded VMAs: %ld anon_vmas, %ld with a child", n, here, child);
}

/* What only anonymous memory has. */
FIXTURE(anon) {
};

FIXTURE_SETUP(anon)
{
	BACKING_OPEN(ANON);
}

FIXTURE_TEARDOWN(anon)
{
}

TEST_F(anon, wipeonfork)
{
	ASSERT_TRUE(lay(AT, "g.wg"));
	ASSERT_TRUE(lay(AWAY, "g..g"));
	ASSERT_EQ(0, madvise(AT, 4 * page, MADV_WIPEONFORK));
	ASSERT_EQ(0, madvise(AWAY, 4 * page, MADV_WIPEONFORK));
	EXPECT_TRUE(kept_in_child(AT, AT, "zzzz", 2));
	EXPECT_TRUE(kept_in_child(AWAY, AWAY, "zzzz", 2));
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.wg"));
	EXPECT_TRUE(as_laid("the parent", AWAY, AWAY, "g..g"));
	ASSERT_EQ(0, madvise(AT, 4 * page, MADV_KEEPONFORK));
	ASSERT_EQ(0, madvise(AWAY, 4 * page, MADV_KEEPONFORK));
	EXPECT_TRUE(kept(AT, "g.wg"));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..g"));
}

/* A stack that grows needs an anon_vma for that. */
TEST_F(anon, growsdown)
{
	char *top = AWAY;

	ASSERT_EQ(top, mmap(top, 4 * page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN |
			    MAP_FIXED_NOREPLACE, -1, 0));
	ASSERT_TRUE(fill(top, ".g.g"));
	ASSERT_EQ(0, look(top - page));
	EXPECT_TRUE(kept_deep(top - page, top - page, "..g.g", 2));
	/* one at its end stops it */
	ASSERT_EQ(0, guard(top - page, 1));
	ASSERT_EQ(GUARDED, poke(top - page, 1));
	EXPECT_TRUE(kept_moved(top - page, top - page, "g.g.g"));
}

TEST_F(anon, lazyfree)
{
	ASSERT_TRUE(lay(AT, "g..rg"));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_FREE));
	EXPECT_TRUE(kept_deep(AT, AT, "g...g", 2));
	ASSERT_EQ(0, poke(AT + page, 1));
	ASSERT_EQ(0, madvise(AT, 5 * page, MADV_FREE));
	EXPECT_EQ(GUARDED, look(AT));
	EXPECT_EQ(GUARDED, look(AT + 4 * page));
	/* written after that, a page stays */
	ASSERT_TRUE(fill(AT + page, "w"));
	EXPECT_TRUE(kept(AT, "gw..g"));
}

/* The heap grows over what it was shrunk to, with a guard at that end. */
TEST_F(anon, heap)
{
	char *heap = sbrk(0), *at = (char *)(((unsigned long)heap + page) & -page), *was;

	ASSERT_EQ(0, brk(at + 4 * page));
	was = at;
	ASSERT_EQ(0, guard(at, 1) | guard(at + 3 * page, 1));
	ASSERT_EQ(0, brk(at + 8 * page));
	EXPECT_TRUE(kept_deep(at, was, "g..g....", 2));
	ASSERT_EQ(0, brk(at + 4 * page));
	ASSERT_EQ(0, brk(at + 6 * page));
	EXPECT_TRUE(kept(at, "g..g.."));
	ASSERT_EQ(0, unguard(at, 6));
	ASSERT_EQ(0, brk(heap));
}

/* A page that moves from one VMA to another has the other's anon_vma. */
TEST_F(anon, uffd_move)
{
	struct uffdio_move move = { .dst = (unsigned long)AT, .src = (unsigned long)AWAY,
				    .len = page };
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_TRUE(put(AWAY, 4));
	ASSERT_EQ(0, guard(AT + page, 1) | guard(AWAY + page, 1));
	ASSERT_EQ(0, poke(AWAY, expected('w', AT)));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move));
	move.dst += page;
	ASSERT_EQ(0, poke(AWAY + 2 * page, 7));
	move.src += 2 * page;
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_MOVE, &move));
	EXPECT_EQ(EEXIST, errno);
	ASSERT_EQ(0, uffd_unregister(fd, AT, 4));
	EXPECT_TRUE(kept_deep(AT, AT, "wg..", 2));
	EXPECT_EQ(GUARDED, look(AWAY + page));
	EXPECT_EQ(7, look(AWAY + 2 * page));
	EXPECT_TRUE(kept(AT, "wg.."));
}

TEST_F(anon, huge_page)
{
	char *p = FAR_AWAY;

	if (!*kconfig("CONFIG_TRANSPARENT_HUGEPAGE"))
		SKIP(return, "kernel without CONFIG_TRANSPARENT_HUGEPAGE");
	ASSERT_TRUE(put(p, HUGE / page));
	ASSERT_EQ(0, madvise(p, HUGE, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, guard(p, HUGE / page));
	ASSERT_EQ(0, unguard(p, HUGE / page));
	for (size_t k = 0; k < HUGE / page; k++)
		ASSERT_EQ(0, poke(p + k * page, k + 1));
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	ASSERT_EQ(0, madvise(p, HUGE, MADV_HUGEPAGE));
	ASSERT_EQ(-1, madvise(p, HUGE, MADV_COLLAPSE));
	EXPECT_EQ(GUARDED, look(p + 5 * page));
	EXPECT_EQ(7, look(p + 6 * page));
	ASSERT_EQ(0, unguard(p + 5 * page, 1));
	ASSERT_EQ(0, poke(p + 5 * page, 6));
	ASSERT_TRUE(UNTIL(!madvise(p, HUGE, MADV_COLLAPSE)));
	EXPECT_EQ(2048, atol(smaps_of(p, "AnonHugePages")));
	EXPECT_TRUE(touch_all(p));

	/* a guard in what is huge */
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(p + 5 * page) != GUARDED || look(p) != 1 ||
			      look(p + 511 * page) != 0 || look(p + 6 * page) != 7);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(p + 5 * page));
		EXPECT_EQ(7, look(p + 6 * page));
	}
}

/* A huge page that a fault maps where there was nothing but a removed guard. */
TEST_F(anon, huge_fault)
{
	char *p = FAR_AWAY;

	if (!*kconfig("CONFIG_TRANSPARENT_HUGEPAGE"))
		SKIP(return, "kernel without CONFIG_TRANSPARENT_HUGEPAGE");
	ASSERT_TRUE(put(p, 2 * HUGE / page));
	ASSERT_EQ(0, madvise(p, 2 * HUGE, MADV_HUGEPAGE));
	/* in one of two: the other has no page table, and is flagged */
	ASSERT_EQ(0, guard(p + 5 * page, 1));
	ASSERT_EQ(0, poke(p + HUGE, 1));
	ASSERT_EQ(0, poke(p, 1));
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(look(p + 5 * page) != GUARDED || look(p) != 1 ||
			      look(p + HUGE) != 1 || look(p + HUGE + page) != 0);
		EXPECT_TRUE(succeeds(pid));
		EXPECT_EQ(GUARDED, look(p + 5 * page));
		EXPECT_EQ(1, look(p + HUGE));
	}
}

static bool accounted(const char *at)
{
	return strstr(smaps_of(at, "VmFlags"), " ac ");
}

TEST_F(anon, account)
{
	EXPECTATIONS();
	ASSERT_TRUE(lay(AT, "...."));
	ASSERT_TRUE(lay(AWAY, "g..g"));
	ASSERT_TRUE(lay(AWAY + 8 * page, "g.wg"));
	ASSERT_TRUE(accounted(AT) && accounted(AWAY) && accounted(AWAY + 8 * page));
	ASSERT_EQ(0, mprotect(AT, 4 * page, PROT_READ) | mprotect(AWAY, 4 * page, PROT_READ) |
		     mprotect(AWAY + 8 * page, 4 * page, PROT_READ));
	EXPECT_FALSE(accounted(AT));
	EXPECT_EQ(!flags_here(), accounted(AWAY));
	EXPECT_TRUE(accounted(AWAY + 8 * page));
	EXPECT_TRUE(kept_deep(AWAY, AWAY, "g..g", 2));
	ASSERT_EQ(0, mprotect(AWAY, 4 * page, PROT_RW));
	EXPECT_TRUE(accounted(AWAY));
	EXPECT_TRUE(kept_moved(AWAY, AWAY, "g..g----g.wg"));
}

/* An offset that nobody needs yet becomes the one of the new place. */
TEST_F(anon, merge_where_it_moves)
{
	int due[] = { 1, flags_here() ? 1 : 3, 3 };

	EXPECTATIONS();
	for (int what = 0; what < 3; what++) {
		ASSERT_TRUE(lay(AT, "...."));
		ASSERT_TRUE(lay(AT + 8 * page, ".r.."));
		ASSERT_TRUE(put(AWAY, 4));
		if (what)
			ASSERT_TRUE(fill(AWAY, what == 1 ? "gr.g" : "gw.g"));
		ASSERT_EQ(AT + 4 * page, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE |
						MREMAP_FIXED, AT + 4 * page));
		EXPECT_EQ(due[what], vmas(AT, 12));
		if (what)
			EXPECT_TRUE(kept_moved(AT + 4 * page, AWAY, what == 1 ? "gr.g" : "gw.g"));
		EXPECT_TRUE(kept(AT, "...."));
		ASSERT_EQ(0, munmap(AT, 12 * page));
	}
}

/* A cgroup that runs out of memory, with all that guards need charged to it. */
FIXTURE(oom) {
};

FIXTURE_VARIANT(oom) {
	bool forks;
};

FIXTURE_VARIANT_ADD(oom, install) { .forks = false };
FIXTURE_VARIANT_ADD(oom, fork) { .forks = true };

FIXTURE_SETUP(oom)
{
	BACKING_OPEN(ANON);
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, cg_make("guard"));
}

FIXTURE_TEARDOWN(oom)
{
	EXPECT_TRUE(cg_remove("guard"));
}

static void guard_forever(bool forks)
{
	for (size_t i = 0;; i++) {
		/* a page table each, and each fourth an anon_vma */
		char *at = AWAY + i * HUGE;
		pid_t pid;

		put(at, 2);
		guard(at, 1);
		if (i % 4 == 3)
			poke(at + page, 1);
		if (i % 8 == 7)
			unguard(at, 2);
		if (!forks || i % 4)
			continue;
		pid = fork();
		if (!pid)
			pause();
	}
}

TEST_F(oom, killed_and_gone)
{
	for (int i = 0, n = rounds(3); i < n; i++) {
		int status;
		pid_t pid;

		ASSERT_EQ(0, cg_write("guard", "memory.max", "max"));
		ASSERT_EQ(0, cg_write("guard", "memory.oom.group", "1"));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			/* no swap file where the kernel has no swap */
			cg_write("guard", "memory.swap.max", "0");
			if (cg_enter("guard") || cg_write("guard", "memory.max", "%ld",
							  cg_charge("guard") + (2L << 20)))
				_exit(1);
			guard_forever(variant->forks);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
			TH_LOG("not killed: status %#x", status);
		}
		EXPECT_LE(i + 1, cg_read("guard", "memory.events", "oom_kill"));
		EXPECT_TRUE(UNTIL(!cg_read("guard", "pids.current", NULL)));
		EXPECT_TRUE(UNTIL(cg_charge("guard") <= (long)(4 * page))) {
			TH_LOG("%ld bytes are still charged", cg_charge("guard"));
		}
	}
}

/* What is counted, exactly: nobody else in the guest has guards. */
static const char * const counters[] = {
	"flagged", "upgraded", "upgraded_merge", "split", "merged", "copied", "forked",
	"cleared", "cleared_moved", "refused_marker", "refused_changed",
};

enum {
	FLAG, UPGRADE, UPGRADE_MERGE, SPLIT, MERGED, COPIED, FORK,
	CLEARED, CLEARED_MOVED, REFUSED_MARKER, REFUSED_CHANGED,
};

FIXTURE(count) {
	int how;
	long was[ARRAY_SIZE(counters)];
};

FIXTURE_VARIANT(count) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(count, anon) { .backing = ANON };
FIXTURE_VARIANT_ADD(count, private) { .backing = PRIVATE };
FIXTURE_VARIANT_ADD(count, shared) { .backing = SHARED };

static int counters_read(long *to)
{
	char buf[4096];

	if (read_file(VMLEAN_DEBUGFS "/anon_vma/stats", buf, sizeof(buf)) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		to[i] = keyed_value(buf, counters[i]);
		if (to[i] < 0)
			return -1;
	}
	return 0;
}

FIXTURE_SETUP(count)
{
	STATS_OPEN(self->how);
	if (!flags_here() || counters_read(self->was))
		SKIP(return, "kernel without CONFIG_ANON_VMA_FLAGS, or its counters");
	BACKING_OPEN(variant->backing);
	ASSERT_EQ(0, counters_read(self->was));
}

FIXTURE_TEARDOWN(count)
{
	stats_close(self->how);
}

/* Since it was called last: COUNTED([FLAG] = 1, ...), and nothing else. */
#define COUNTED(...)							\
do {									\
	const long __due[ARRAY_SIZE(counters)] = { __VA_ARGS__ };	\
	long __now[ARRAY_SIZE(counters)];				\
	ASSERT_EQ(0, counters_read(__now));				\
	for (size_t __i = 0; __i < ARRAY_SIZE(counters); __i++) {	\
		EXPECT_EQ(__due[__i], __now[__i] - self->was[__i]) {	\
			TH_LOG("%s", counters[__i]);			\
		}							\
	}								\
	memcpy(self->was, __now, sizeof(__now));			\
} while (0)

TEST_F(count, flagged_and_cleared)
{
	char *p = AT;

	COUNTED();
	for (int i = 0; i < 5; i++)
		ASSERT_TRUE(put(p + 3 * i * page, 2));
	COUNTED();
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 1));
	COUNTED([FLAG] = 5);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 2));
	COUNTED();
	/* in halves: nobody has seen that there are none */
	ASSERT_EQ(0, unguard(p, 1) | unguard(p + page, 1));
	COUNTED();
	ASSERT_EQ(0, unguard(p, 2));
	COUNTED([CLEARED] = 1);
	ASSERT_EQ(0, unguard(p, 2));
	COUNTED();
	/* all in one */
	ASSERT_EQ(-1, unguard(p, 20));
	ASSERT_EQ(ENOMEM, errno);
	COUNTED([CLEARED] = 4);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, guard(p + 3 * i * page, 1));
	COUNTED([FLAG] = 5);
	/* the first and the last in part only */
	ASSERT_EQ(-1, unguard(p + page, 12));
	COUNTED([CLEARED] = 3);
	ASSERT_EQ(0, munmap(p, 15 * page));
	COUNTED();
}

TEST_F(count, vector)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec vec[3];

	for (int i = 0; i < 3; i++) {
		vec[i].iov_base = AT + 4 * i * page;
		vec[i].iov_len = 2 * page;
		ASSERT_TRUE(put(vec[i].iov_base, 2));
	}
	ASSERT_EQ(6 * page, syscall(SYS_process_madvise, pidfd, vec, 3, MADV_GUARD_INSTALL, 0));
	COUNTED([FLAG] = 3);
	ASSERT_EQ(6 * page, syscall(SYS_process_madvise, pidfd, vec, 3, MADV_GUARD_REMOVE, 0));
	COUNTED([CLEARED] = 3);
}

/* Faults: who reads needs no anon_vma, nor does who writes to a shared file. */
TEST_F(count, upgraded)
{
	int upgrade = !shared(), mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(put(AT, 4));
		ASSERT_EQ(0, guard(AT, 1));
		COUNTED([FLAG] = 1);
		ASSERT_TRUE(fill(AT + page, "rrr"));
		ASSERT_EQ(GUARDED, look(AT));
		ASSERT_EQ(0, madvise(AT + page, 3 * page, MADV_POPULATE_READ));
		COUNTED();
		/* a guard is not written to */
		ASSERT_EQ(GUARDED, poke(AT, 1));
		COUNTED();
		ASSERT_TRUE(i == 0 ? fill(AT + page, "w") :
			    i == 1 ? !madvise(AT + page, page, MADV_POPULATE_WRITE) :
				     pwrite(mem, "x", 1, (off_t)(AT + page)) == 1);
		COUNTED([UPGRADE] = upgrade);
		ASSERT_TRUE(fill(AT + page, "www"));
		COUNTED();
		/* an anon_vma is for good */
		ASSERT_EQ(0, guard(AT, 2));
		ASSERT_EQ(0, unguard(AT, 4));
		COUNTED([CLEARED] = !upgrade);
		ASSERT_EQ(0, munmap(AT, 4 * page));
	}

	/* one that has it already */
	ASSERT_TRUE(lay(AT, "wg"));
	COUNTED([FLAG] = !upgrade);
}

/* All of whom find a flag, and one of whom replaces it. */
struct writer {
	pthread_t thread;
	pthread_barrier_t *start;
	char *at;
};

static void *write_once(void *arg)
{
	struct writer *w = arg;

	pthread_barrier_wait(w->start);
	return poke(w->at, expected('w', w->at)) ? "failed" : NULL;
}

TEST_F(count, upgraded_once)
{
	struct writer w[4];
	pthread_barrier_t start;
	void *failed;

	pthread_barrier_init(&start, NULL, 4);
	for (int round = 0; round < 10; round++) {
		ASSERT_TRUE(lay(AT, "g....g"));
		for (int i = 0; i < 4; i++) {
			w[i] = (struct writer){ .start = &start, .at = AT + (i + 1) * page };
			ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, write_once, &w[i]));
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(w[i].thread, &failed);
			EXPECT_EQ(NULL, failed);
		}
		COUNTED([FLAG] = 1, [UPGRADE] = !shared());
		EXPECT_TRUE(kept_in_child(AT, AT, "gwwwwg", 1));
		COUNTED([FORK] = shared());
		ASSERT_EQ(0, munmap(AT, 6 * page));
	}
}

TEST_F(count, split_and_merged)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_READ));
	COUNTED([SPLIT] = 2);
	/* all of them have it */
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED();
	ASSERT_EQ(0, munmap(AT + page, page));
	COUNTED([SPLIT] = 2);
	/* the hole had none */
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED();
	ASSERT_EQ(0, munmap(AT, 4 * page));
	COUNTED();

	/* one that is not, left of one that is */
	ASSERT_TRUE(put(AT, 2));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + 3 * page, 1));
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	EXPECT_EQ(GUARDED, look(AT + 3 * page));
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* one between: the left one gets what the right one has */
	ASSERT_TRUE(put(AT, 1));
	ASSERT_TRUE(lay(AT + 2 * page, "g"));
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 3));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	ASSERT_EQ(0, munmap(AT, 3 * page));

	/* the right one grows over what was flagged */
	ASSERT_TRUE(put_prot(AT, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + page, 1));
	ASSERT_TRUE(put(AT + 2 * page, 2));
	ASSERT_EQ(0, mprotect(AT + page, page, PROT_RW));
	ASSERT_EQ(2, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = 1);
	/* and moves beside one that was not, with the other one's */
	ASSERT_TRUE(put(AT + 8 * page, 1));
	ASSERT_EQ(0, munmap(AT, page));
	COUNTED();
	if (map.fd < 0) {
		ASSERT_EQ(AT + 9 * page, mremap(AT + page, 3 * page, 3 * page, MREMAP_MAYMOVE |
						MREMAP_FIXED, AT + 9 * page));
		ASSERT_EQ(1, vmas(AT + 8 * page, 4));
		COUNTED([MERGED] = 1);
	}
}

TEST_F(count, upgraded_by_merge)
{
	int upgrade = !shared();

	/* the target has the flag, the other one the anon_vma */
	ASSERT_TRUE(lay(AT, "g."));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_RW | PROT_EXEC));
	ASSERT_TRUE(fill(AT + 2 * page, "w."));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([UPGRADE_MERGE] = upgrade);
	EXPECT_TRUE(as_laid("the parent", AT, AT, "g.w."));
	ASSERT_TRUE(fill(AT + page, "w"));
	COUNTED();
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* a hole between them */
	ASSERT_TRUE(lay(AT, "g"));
	ASSERT_TRUE(lay(AT + 2 * page, "w"));
	ASSERT_TRUE(put(AT + page, 1));
	ASSERT_EQ(1, vmas(AT, 3));
	COUNTED([FLAG] = 1, [UPGRADE_MERGE] = upgrade);
	ASSERT_EQ(0, munmap(AT, 4 * page));

	/* the target has the anon_vma: a flag less, and nothing is given to anybody */
	ASSERT_TRUE(lay(AT, "w."));
	ASSERT_TRUE(put_prot(AT + 2 * page, 2, PROT_READ));
	ASSERT_EQ(0, guard(AT + 2 * page, 1));
	ASSERT_EQ(0, mprotect(AT + 2 * page, 2 * page, PROT_RW));
	ASSERT_EQ(1, vmas(AT, 4));
	COUNTED([FLAG] = 1, [MERGED] = !upgrade);
	EXPECT_TRUE(kept(AT, "w.g."));
}

TEST_F(count, moved)
{
	ASSERT_TRUE(lay(AT, "g..g"));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(AWAY, mremap(AT, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	COUNTED([COPIED] = 1);
	ASSERT_EQ(AT, mremap(AWAY, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED |
			     MREMAP_DONTUNMAP, AT));
	COUNTED([COPIED] = 1, [CLEARED_MOVED] = 1);
	/* the old one is like new: */
	ASSERT_EQ(0, unguard(AWAY, 4));
	COUNTED();
	ASSERT_EQ(0, guard(AWAY, 1));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, unguard(AWAY, 4));
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([CLEARED] = 2);
	ASSERT_EQ(0, munmap(AWAY, 4 * page));
	/* a part, which is split off first and leaves its flag there */
	ASSERT_EQ(0, guard(AT + page, 1));
	ASSERT_EQ(AWAY, mremap(AT + page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED |
			       MREMAP_DONTUNMAP, AWAY));
	EXPECT_EQ(GUARDED, look(AWAY));
	EXPECT_EQ(expected('.', AT + page), look(AT + page));
	COUNTED([FLAG] = 1, [COPIED] = 1);
	ASSERT_EQ(0, munmap(AWAY, page));
	ASSERT_EQ(AWAY, mremap(AT + page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY));
	COUNTED([SPLIT] = 2, [COPIED] = 1);
}

TEST_F(count, forked)
{
	pid_t pid;

	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(lay(AT + 4 * i * page, "g."));
	ASSERT_TRUE(put(AWAY, 2));
	COUNTED([FLAG] = 4);
	for (int i = 0; i < 3; i++) {
		pid = fork();
		if (!pid)
			_exit(!succeeds(fork() ?: (_exit(0), 0)));
		ASSERT_TRUE(succeeds(pid));
		COUNTED([FORK] = 8);
	}
	/* neither those that have an anon_vma, nor those that have no guard */
	ASSERT_TRUE(fill(AT + page, "w"));
	ASSERT_EQ(0, unguard(AT + 4 * page, 2));
	ASSERT_EQ(0, madvise(AT + 8 * page, 2 * page, MADV_DONTFORK));
	COUNTED([UPGRADE] = !shared(), [CLEARED] = 1);
	pid = fork();
	if (!pid)
		_exit(0);
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1 + shared());
	if (map.fd < 0) {
		/* a child that has none has none to give to its own */
		ASSERT_EQ(0, madvise(AT + 12 * page, 2 * page, MADV_WIPEONFORK));
		pid = fork();
		if (!pid)
			_exit(madvise(AT + 12 * page, 2 * page, MADV_KEEPONFORK) ||
			      !succeeds(fork() ?: (_exit(0), 0)));
		ASSERT_TRUE(succeeds(pid));
		COUNTED();
	}
	/* the child's is its own */
	ASSERT_TRUE(lay(AWAY + 4 * page, "g."));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, munmap(AT, 16 * page));
	pid = fork();
	if (!pid)
		_exit(shared() ? 0 : poke(AWAY + 5 * page, 1));
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1, [UPGRADE] = !shared());
	pid = fork();
	if (!pid)
		_exit(unguard(AWAY + 4 * page, 2));
	ASSERT_TRUE(succeeds(pid));
	COUNTED([FORK] = 1, [CLEARED] = 1);
	EXPECT_EQ(GUARDED, look(AWAY + 4 * page));
}

/* Poison is a marker, too, and must be copied as long as there was a flag. */
TEST_F(count, refused_marker)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, uffd_poison(fd, AT + 2 * page));
	ASSERT_EQ(0, uffd_unregister(fd, AT, 4));
	/* who may need an anon_vma gets it first */
	COUNTED([UPGRADE] = !shared());
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = shared());
	EXPECT_TRUE(kept_in_child(AT, AT, "zzpz", 1));
	COUNTED([FORK] = shared());
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = shared());
}

/* So is write protection, of pages that are not there. */
TEST_F(count, refused_write_protection)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(fd, AT, 4, true));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([REFUSED_MARKER] = 1);
	EXPECT_EQ(POISONED, poke(AT + page, 1));
	ASSERT_EQ(0, uffd_protect(fd, AT, 4, false));
	ASSERT_EQ(0, unguard(AT, 4));
	COUNTED([CLEARED] = 1);
}

TEST_F(count, userfaultfd)
{
	int fd = uffd_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd with all that is needed");
	ASSERT_TRUE(put(AT, 4));
	ASSERT_EQ(0, guard(AT, 1));
	ASSERT_EQ(0, uffd_register(fd, AT, 4, UFFDIO_REGISTER_MODE_MISSING));
	COUNTED([FLAG] = 1);
	ASSERT_EQ(0, uffd_copy(fd, AT + page));
	COUNTED([UPGRADE] = !shared());
	ASSERT_EQ(0, uffd_copy(fd, AT + 2 * page));
	COUNTED();
}

/* Two who remove the same guards at once: one of them is late. */
static void *remove_once(void *arg)
{
	pthread_barrier_wait(arg);
	return unguard(FAR_AWAY, 16 * HUGE / page) ? "failed" : NULL;
}

TEST_F(count, refused_changed)
{
	long is[ARRAY_SIZE(counters)], cleared = 0, changed = 0;

	/* whether they meet is up to the scheduler */
	EXPECT_TRUE(UNTIL(({
		pthread_barrier_t start;
		pthread_t thread;
		void *failed;

		ASSERT_EQ(FAR_AWAY, mmap(FAR_AWAY, 16 * HUGE, PROT_RW, map.flags | MAP_FIXED,
					 map.fd, 0));
		ASSERT_EQ(0, guard(FAR_AWAY, 16 * HUGE / page));
		pthread_barrier_init(&start, NULL, 2);
		ASSERT_EQ(0, pthread_create(&thread, NULL, remove_once, &start));
		EXPECT_EQ(NULL, remove_once(&start));
		pthread_join(thread, &failed);
		EXPECT_EQ(NULL, failed);
		munmap(FAR_AWAY, 16 * HUGE);
		ASSERT_EQ(0, counters_read(is));
		cleared = is[CLEARED] - self->was[CLEARED];
		changed = is[REFUSED_CHANGED] - self->was[REFUSED_CHANGED];
		changed;
	})));
	/* but one of them it always is */
	EXPECT_EQ(is[FLAG] - self->was[FLAG], cleared);
	EXPECT_LE(changed, cleared);
}

TEST_HARNESS_MAIN
