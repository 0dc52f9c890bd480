// SPDX-License-Identifier: GPL-2.0
/*
 * Names of anonymous VMAs: one object for all VMAs that a process names alike,
 * and nothing else that user space could tell from a kernel without sharing.
 * What does not need vmlean.ko's counters runs, and passes, on any kernel.
 */
#include <ctype.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "../kselftest_harness.h"
#include "vmlean_util.h"

#define NAME_MAX_LEN	80	/* with the NUL at its end */
#define SLOTS		32	/* of a process's table, see mm/anon_vma_name.c */
#define MANY		65536

static size_t page;

/*
 * A kernel that checks its tree of VMAs looks at all of them in each change, and
 * where loops are to be short, this one is, too.
 */
static unsigned int many_vmas(void)
{
	return *kconfig("CONFIG_DEBUG_VM_MAPLE_TREE") || getenv("VMLEAN_SCALE") ?
	       MANY / 64 : MANY;
}

/* For FIXTURE_SETUP(). */
#define SKIP_WITHOUT(symbol)						\
do {									\
	if (!*kconfig(symbol))						\
		SKIP(return, "kernel without " symbol);			\
} while (0)

#define SKIP_WITHOUT_SHARING()	SKIP_WITHOUT("CONFIG_ANON_VMA_NAME_SHARE")

static int name_range(const char *at, size_t len, const char *name)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, len, name);
}

static int name_pages(const char *at, size_t pages, const char *name)
{
	return name_range(at, pages * page, name);
}

/* Neighbours differ in their protection: they stay VMAs of their own. */
static int map_many(char *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (mmap(at + i * page, page, i & 1 ? PROT_READ : PROT_RW, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			return -1;
	return 0;
}

/*
 * The mapping at an address, from /proc/PID/maps: "PAGES NAME", where NAME is
 * what the kernel shows for it, [anon:…] as a rule; "" if there is none.
 */
static const char *mapping(pid_t pid, const char *at)
{
	static char text[256];
	unsigned long start, end;
	char path[64], line[512], name[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	*text = '\0';
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		*name = '\0';
		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %255[^\n]", &start, &end, name) < 2 ||
		    (unsigned long)at < start || (unsigned long)at >= end)
			continue;
		snprintf(text, sizeof(text), "%lu %s", (end - start) / page, name);
	}
	if (f)
		fclose(f);
	return text;
}

#define EXPECT_MAPPING(at, expected)	EXPECT_STREQ(expected, mapping(getpid(), at))

static long stat_of(const char *name)
{
	return stat_read("anon_name", name);
}

/* Waits for a child that exits with 0. */
static bool succeeds(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static int raise_map_count(void)
{
	return write_file("/proc/sys/vm/max_map_count", "200000");
}

/* What user space can see of names. */
FIXTURE(names) {
	char *p;	/* 8 pages */
};

FIXTURE_SETUP(names)
{
	page = getpagesize();
	self->p = map_at(FAR_AWAY, 8);
	ASSERT_NE(NULL, self->p);
	if (name_pages(self->p, 8, "all") && errno == EINVAL)
		SKIP(return, "kernel without CONFIG_ANON_VMA_NAME");
	EXPECT_MAPPING(self->p, "8 [anon:all]");
}

FIXTURE_TEARDOWN(names)
{
}

TEST_F(names, set_change_remove)
{
	ASSERT_EQ(0, name_pages(self->p, 8, "other"));
	EXPECT_MAPPING(self->p, "8 [anon:other]");
	ASSERT_EQ(0, name_pages(self->p, 8, "other"));
	EXPECT_MAPPING(self->p, "8 [anon:other]");
	ASSERT_EQ(0, name_pages(self->p, 8, ""));
	EXPECT_MAPPING(self->p, "8 [anon:]");
	ASSERT_EQ(0, name_pages(self->p, 8, NULL));
	EXPECT_MAPPING(self->p, "8 ");
	ASSERT_EQ(0, name_pages(self->p, 8, NULL));
	EXPECT_MAPPING(self->p, "8 ");
}

TEST_F(names, split_and_merge)
{
	ASSERT_EQ(0, name_pages(self->p + 2 * page, 2, "middle"));
	EXPECT_MAPPING(self->p, "2 [anon:all]");
	EXPECT_MAPPING(self->p + 2 * page, "2 [anon:middle]");
	EXPECT_MAPPING(self->p + 4 * page, "4 [anon:all]");

	/* split by something else: each part keeps the name */
	ASSERT_EQ(0, mprotect(self->p + 5 * page, page, PROT_READ));
	EXPECT_MAPPING(self->p + 4 * page, "1 [anon:all]");
	EXPECT_MAPPING(self->p + 5 * page, "1 [anon:all]");
	EXPECT_MAPPING(self->p + 6 * page, "2 [anon:all]");
	ASSERT_EQ(0, mprotect(self->p + 5 * page, page, PROT_RW));
	EXPECT_MAPPING(self->p + 4 * page, "4 [anon:all]");

	/* the same name again makes it one */
	ASSERT_EQ(0, name_pages(self->p + 2 * page, 2, "all"));
	EXPECT_MAPPING(self->p, "8 [anon:all]");

	/* over several, one of which has it already */
	ASSERT_EQ(0, name_pages(self->p, 2, "x"));
	ASSERT_EQ(0, name_pages(self->p + 4 * page, 2, "y"));
	ASSERT_EQ(0, name_pages(self->p, 8, "x"));
	EXPECT_MAPPING(self->p + 7 * page, "8 [anon:x]");

	/* a new mapping beside it merges once it is named alike, not before */
	ASSERT_EQ(0, munmap(self->p + 6 * page, 2 * page));
	ASSERT_NE(NULL, map_at(self->p + 6 * page, 2));
	EXPECT_MAPPING(self->p + 6 * page, "2 ");
	ASSERT_EQ(0, name_pages(self->p + 6 * page, 2, "x"));
	EXPECT_MAPPING(self->p, "8 [anon:x]");
}

/* Several VMAs that have the name already: nothing changes, nothing merges. */
TEST_F(names, again_over_several)
{
	ASSERT_EQ(0, mprotect(self->p + 2 * page, 2 * page, PROT_READ));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, name_pages(self->p + page, 6, "all"));
		EXPECT_MAPPING(self->p, "2 [anon:all]");
		EXPECT_MAPPING(self->p + 2 * page, "2 [anon:all]");
		EXPECT_MAPPING(self->p + 4 * page, "4 [anon:all]");
	}
	/* the last one has another */
	ASSERT_EQ(0, name_pages(self->p + 6 * page, 2, "z"));
	ASSERT_EQ(0, name_pages(self->p, 8, "all"));
	EXPECT_MAPPING(self->p + 4 * page, "4 [anon:all]");
	/* and with a hole behind it, it is still an error */
	ASSERT_EQ(-1, name_pages(self->p, 9, "all"));
	EXPECT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, munmap(self->p + 3 * page, page));
	ASSERT_EQ(-1, name_pages(self->p, 8, "all"));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_MAPPING(self->p + 4 * page, "4 [anon:all]");
}

TEST_F(names, mremap)
{
	char *to = self->p + (1UL << 30);

	ASSERT_EQ(to, mremap(self->p + 2 * page, 2 * page, 4 * page,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_MAPPING(to, "4 [anon:all]");
	EXPECT_MAPPING(self->p, "2 [anon:all]");
	ASSERT_EQ(to, mremap(to, 4 * page, page, 0));
	EXPECT_MAPPING(to, "1 [anon:all]");
	ASSERT_EQ(self->p + 3 * page, mremap(to, page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
					     self->p + 3 * page));
	/* it is back beside what it came from, and merges */
	EXPECT_MAPPING(self->p + 3 * page, "5 [anon:all]");
	EXPECT_MAPPING(to, "");
}

/* What mremap() leaves behind keeps its name, too. */
TEST_F(names, mremap_dontunmap)
{
	char *to = self->p + (1UL << 30);

	ASSERT_EQ(to, mremap(self->p, 8 * page, 8 * page, MREMAP_MAYMOVE |
			     MREMAP_FIXED | MREMAP_DONTUNMAP, to));
	EXPECT_MAPPING(to, "8 [anon:all]");
	EXPECT_MAPPING(self->p, "8 [anon:all]");
	ASSERT_EQ(0, name_pages(to, 8, "moved"));
	EXPECT_MAPPING(to, "8 [anon:moved]");
	EXPECT_MAPPING(self->p, "8 [anon:all]");
}

/* A child has its parent's names, and neither changes the other's. */
TEST_F(names, fork)
{
	pid_t pid;

	ASSERT_EQ(0, name_pages(self->p + 4 * page, 1, "stays"));
	ASSERT_EQ(0, madvise(self->p + 4 * page, page, MADV_DONTFORK));
	ASSERT_EQ(0, name_pages(self->p + 6 * page, 1, NULL));
	pid = fork();
	if (!pid) {
		EXPECT_MAPPING(self->p, "4 [anon:all]");
		EXPECT_MAPPING(self->p + 4 * page, "");
		EXPECT_MAPPING(self->p + 5 * page, "1 [anon:all]");
		EXPECT_MAPPING(self->p + 6 * page, "1 ");
		EXPECT_EQ(0, name_pages(self->p, 2, "child"));
		EXPECT_EQ(0, name_pages(self->p + 2 * page, 2, "all"));
		EXPECT_EQ(0, name_pages(self->p + 6 * page, 1, "all"));
		EXPECT_MAPPING(self->p, "2 [anon:child]");
		EXPECT_MAPPING(self->p + 2 * page, "2 [anon:all]");
		/* named by the child, what is beside it by the parent: equal */
		EXPECT_MAPPING(self->p + 6 * page, "3 [anon:all]");
		_exit(_metadata->exit_code);
	}
	EXPECT_TRUE(succeeds(pid));
	EXPECT_MAPPING(self->p, "4 [anon:all]");
	EXPECT_MAPPING(self->p + 4 * page, "1 [anon:stays]");
	EXPECT_MAPPING(self->p + 6 * page, "1 ");
}

/* A child that lives on when its parent has gone, with it the one who named. */
TEST_F(names, outlive_the_parent)
{
	int up[2], down[2];
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(up) | pipe(down));
	pid = fork();
	if (!pid) {
		pid_t parent = getpid();

		if (fork())
			_exit(0);
		/* until the parent is gone, its mm, too */
		while (getppid() == parent)
			sched_yield();
		if (read(down[0], &c, 1) != 1)
			_exit(1);
		EXPECT_MAPPING(self->p, "8 [anon:all]");
		EXPECT_EQ(0, name_pages(self->p, 1, "late"));
		EXPECT_MAPPING(self->p, "1 [anon:late]");
		c = _metadata->exit_code;
		if (write(up[1], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	ASSERT_TRUE(succeeds(pid));
	ASSERT_EQ(1, write(down[1], &c, 1));
	ASSERT_EQ(1, read(up[0], &c, 1));
	EXPECT_EQ(0, c);
}

/* Anonymous shared memory can be named, too, and is shown as that. */
TEST_F(names, shmem)
{
	char *p = mmap(NULL, 2 * page, PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, name_pages(p, 2, "all"));
	EXPECT_MAPPING(p, "2 [anon_shmem:all]");
	ASSERT_EQ(0, name_pages(p, 2, "all"));
	ASSERT_EQ(0, name_pages(p, 2, NULL));
	ASSERT_EQ(0, name_pages(p, 2, NULL));
	EXPECT_EQ(NULL, strstr(mapping(getpid(), p), "anon_shmem"));
}

/* Sharing starts over in a new program. */
TEST_F(names, exec)
{
	pid_t pid = fork();
	char command[64];

	if (!pid) {
		snprintf(command, sizeof(command), "! grep -q anon: /proc/self/maps");
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	EXPECT_TRUE(succeeds(pid));
}

/* All characters, each alone: what is valid stands in anonymous_vma_name.rst. */
TEST_F(names, characters)
{
	char name[] = "a?b", expected[32];

	for (int c = 1; c < 256; c++) {
		bool valid = c >= 0x20 && c < 0x7f && !strchr("\\`$[]", c);

		name[1] = c;
		errno = 0;
		ASSERT_EQ(0, name_pages(self->p, 8, "before"));
		ASSERT_EQ(valid ? 0 : -1, name_pages(self->p, 8, name)) {
			TH_LOG("character %#x", c);
		}
		ASSERT_TRUE(valid || errno == EINVAL);
		snprintf(expected, sizeof(expected), "8 [anon:%s]", valid ? name : "before");
		EXPECT_MAPPING(self->p, expected);
	}
}

/* Each error as it was before names were shared, and nothing is changed. */
TEST_F(names, invalid)
{
	char longest[NAME_MAX_LEN + 1], *edge = map_at(FAR_AWAY + (1UL << 30), 2);
	char *file = mmap(NULL, page, PROT_READ, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
	char *p = self->p, *hole = self->p + 16 * page, *bad = (char *)8;
	const unsigned long huge = ~0UL;
	/* the last page that can be mapped, or what the stack has there */
	char *top = (char *)0x7ffffffff000;
	char expected[128];

	ASSERT_TRUE(map_at(top - page, 1) || errno == EEXIST);
	ASSERT_NE(NULL, edge);
	ASSERT_NE(MAP_FAILED, file);
	ASSERT_EQ(0, munmap(edge + page, page));
	memset(longest, 'l', NAME_MAX_LEN);
	longest[NAME_MAX_LEN] = '\0';

	const struct {
		const char *what;
		char *at;
		size_t len;
		const char *name;
		int err;
	} calls[] = {
		{ "80 characters", p, page, longest, EINVAL },
		{ "unprintable", p, page, "\x1f", EINVAL },
		{ "DEL", p, page, "\x7f", EINVAL },
		{ "beyond ASCII", p, page, "\xe9", EINVAL },
		{ "newline", p, page, "a\n", EINVAL },
		{ "name not mapped", p, page, bad, EFAULT },
		{ "name of the kernel", p, page, (char *)(huge - 4095), EFAULT },
		{ "invalid name, bad address", bad, page, "[", EINVAL },
		{ "unaligned", p + 1, page, "x", EINVAL },
		{ "unaligned, invalid name", p + 1, page, "$", EINVAL },
		{ "nothing mapped", hole, page, "x", ENOMEM },
		{ "nothing mapped, no name", hole, page, NULL, ENOMEM },
		{ "file", file, page, "x", EBADF },
		{ "file, no name", file, page, NULL, EBADF },
		{ "overflow", p, huge - page * 4, "x", EINVAL },
		{ "length rounded up to 0", p, huge, "x", EINVAL },
		{ "beyond the end", (char *)(huge - 2 * page + 1), page, "x", ENOMEM },
		{ "no length", p, 0, "x", 0 },
		{ "no length, no mapping", hole, 0, "x", 0 },
		{ "no length, unaligned", p + 1, 0, "x", EINVAL },
		{ "no length, invalid name", p, 0, "$", EINVAL },
		{ "same name, unaligned", p + 1, page, "kept", EINVAL },
		{ "same name, length rounded up to 0", p, huge, "kept", EINVAL },
		{ "same name, from before", p - page, 9 * page, "kept", ENOMEM },
		{ "same name, to behind", p, 9 * page, "kept", ENOMEM },
		{ "name at the end of user space", p, page, top - 80, EINVAL },
		{ "longer one, beyond the end", p, page, top - 79, EFAULT },
		{ "nothing there", p, page, top, EFAULT },
		{ "81 before a hole", p, page, edge + page - 81, EINVAL },
		{ "80 before a hole", p, page, edge + page - 80, EINVAL },
		{ "79 before a hole", p, page, edge + page - 79, EFAULT },
		{ "1 before a hole", p, page, edge + page - 1, EFAULT },
		{ "at the hole", p, page, edge + page, EFAULT },
	};

	memset(top - 80, 'f', 80);

	/* 79 characters and no NUL before the hole */
	memset(edge + page - 80, 'f', 80);
	ASSERT_EQ(0, name_pages(p, 8, "kept"));
	ASSERT_EQ(-1, name_range(p, page, edge + page - 79));
	EXPECT_EQ(EFAULT, errno);
	/* 80 that are there are too many already, whatever follows */
	ASSERT_EQ(-1, name_range(p, page, edge + page - 80));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_MAPPING(p, "8 [anon:kept]");

	/* and at its end, all is well */
	edge[page - 1] = '\0';
	ASSERT_EQ(0, name_range(p, 8 * page, edge + page - 80));
	snprintf(expected, sizeof(expected), "8 [anon:%.79s]", edge + page - 80);
	EXPECT_MAPPING(p, expected);

	memset(edge + page - 81, 'f', 81);
	ASSERT_EQ(0, name_pages(p, 8, "kept"));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int err;

		err = name_range(calls[i].at, calls[i].len, calls[i].name) ? errno : 0;
		EXPECT_EQ(calls[i].err, err) {
			TH_LOG("%s: %s", calls[i].what, strerror(err));
		}
		EXPECT_MAPPING(p, "8 [anon:kept]");
	}
	EXPECT_EQ(-1, prctl(PR_SET_VMA, 1, p, page, "x"));
	EXPECT_EQ(EINVAL, errno);

	/* a hole amid: what is there is named, and it is an error */
	ASSERT_EQ(0, munmap(p + 2 * page, page));
	EXPECT_EQ(-1, name_pages(p, 8, "part"));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_MAPPING(p, "2 [anon:part]");
	EXPECT_MAPPING(p + 3 * page, "5 [anon:part]");
}

/* To take away a name is an error, too, if all or a part of the range is a file. */
TEST_F(names, file)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *file = self->p + 8 * page;

	ASSERT_EQ(file, mmap(file, page, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0));
	ASSERT_EQ(0, name_pages(self->p, 8, NULL));
	ASSERT_EQ(-1, name_pages(file, 1, NULL));
	EXPECT_EQ(EBADF, errno);
	ASSERT_EQ(-1, name_pages(self->p, 9, NULL));
	EXPECT_EQ(EBADF, errno);
	ASSERT_EQ(-1, name_pages(self->p, 9, "x"));
	EXPECT_EQ(EBADF, errno);
	EXPECT_MAPPING(self->p, "8 [anon:x]");
}

/* A name at the end of a page is read without a look at the next page. */
static int name_is_read;

static void *name_from_edge(void *name)
{
	long err = name_pages(FAR_AWAY, 8, name) ? errno : 0;

	__atomic_store_n(&name_is_read, 1, __ATOMIC_RELEASE);
	return (void *)err;
}

TEST_F(names, next_page_is_not_read)
{
	char *edge = map_at(FAR_AWAY + (1UL << 30), 2);
	struct uffdio_register reg = {
		.range = { (unsigned long)edge + page, page },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_zeropage zero = { .range = reg.range };
	struct uffdio_api api = { .api = UFFD_API };
	struct pollfd poll_fd = { .events = POLLIN };
	pthread_t thread;
	void *err;

	ASSERT_NE(NULL, edge);
	strcpy(edge + page - 4, "end");
	poll_fd.fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (poll_fd.fd < 0)
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(poll_fd.fd, UFFDIO_API, &api));
	ASSERT_EQ(0, ioctl(poll_fd.fd, UFFDIO_REGISTER, &reg));

	ASSERT_EQ(0, pthread_create(&thread, NULL, name_from_edge, edge + page - 4));
	EXPECT_TRUE(UNTIL(__atomic_load_n(&name_is_read, __ATOMIC_ACQUIRE) ||
			  poll(&poll_fd, 1, 0)));
	EXPECT_EQ(0, poll(&poll_fd, 1, 0)) {
		TH_LOG("the next page was read");
		ioctl(poll_fd.fd, UFFDIO_ZEROPAGE, &zero);
	}
	ASSERT_EQ(0, pthread_join(thread, &err));
	EXPECT_EQ(NULL, err);
	EXPECT_MAPPING(self->p, "8 [anon:end]");
	close(poll_fd.fd);
}

/* A length is rounded up to pages. */
TEST_F(names, length)
{
	ASSERT_EQ(0, name_range(self->p, 1, "one"));
	EXPECT_MAPPING(self->p, "1 [anon:one]");
	ASSERT_EQ(0, name_range(self->p, page + 1, "two"));
	EXPECT_MAPPING(self->p, "2 [anon:two]");
	ASSERT_EQ(0, name_range(self->p, page + 1, "two"));
	EXPECT_MAPPING(self->p, "2 [anon:two]");
}

/*
 * Renames while others read: each name has a length and a letter of its own, so
 * that one that is torn, or of freed memory, is none of them.
 */
struct race {
	char *p;
	int stop, torn, seen, failed;
	const char *file;
};

static void one_name(char *name, unsigned int n)
{
	size_t len = 1 + n % (NAME_MAX_LEN - 1);

	memset(name, 'a' + len % 26, len);
	name[len] = '\0';
}

/* Any of one_name(), or none of this test. */
static bool whole(const char *name)
{
	size_t len = strcspn(name, "]");

	if (!len || len >= NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] != 'a' + len % 26)
			return false;
	return true;
}

static void *read_names(void *arg)
{
	struct race *r = arg;
	char line[512];
	int passes = 0;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED) || !passes) {
		FILE *f = fopen(r->file, "re");

		while (f && fgets(line, sizeof(line), f)) {
			unsigned long start = strtoul(line, NULL, 16);
			char *name = strstr(line, "[anon:");

			if (start < (unsigned long)r->p || start >= (unsigned long)r->p + 64 * page)
				continue;
			if (!isxdigit(*line) || !strchr(line, '-'))
				continue;
			if (name && !whole(name + 6))
				__atomic_fetch_add(&r->torn, 1, __ATOMIC_RELAXED);
			if (name)
				__atomic_fetch_add(&r->seen, 1, __ATOMIC_RELAXED);
		}
		if (f)
			fclose(f);
		passes++;
	}
	return NULL;
}

static void *rename_pages(void *arg)
{
	struct race *r = arg;
	unsigned int seed = (unsigned long)pthread_self();
	char name[NAME_MAX_LEN];
	int i, n = rounds(2500);

	for (i = 0; i < n; i++) {
		size_t first = rand_r(&seed) % 64, len = 1 + rand_r(&seed) % (64 - first);

		one_name(name, rand_r(&seed) % 100);
		/* there is never a hole: nothing can fail */
		switch (rand_r(&seed) % 8) {
		case 0:
			r->failed += mmap(r->p + first * page, len * page, PROT_RW, MAP_PRIVATE |
					  MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
			break;
		case 1:
			r->failed += !!mprotect(r->p + first * page, len * page, PROT_READ);
			break;
		case 2:
			r->failed += !!mprotect(r->p + first * page, len * page, PROT_RW);
			break;
		default:
			r->failed += !!name_pages(r->p + first * page, len, name);
		}
	}
	return NULL;
}

TEST_F(names, readers_race_renames)
{
	struct race r[2] = { { .file = "/proc/self/maps" }, { .file = "/proc/self/smaps" } };
	pthread_t reader[2], writer[2];
	char *p = map_at(FAR_AWAY + (1UL << 32), 64);

	ASSERT_NE(NULL, p);
	for (int i = 0; i < 2; i++) {
		r[i].p = p;
		ASSERT_EQ(0, pthread_create(&reader[i], NULL, read_names, &r[i]));
		ASSERT_EQ(0, pthread_create(&writer[i], NULL, rename_pages, &r[i]));
	}
	for (int i = 0; i < 2; i++)
		pthread_join(writer[i], NULL);
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&r[i].stop, 1, __ATOMIC_RELAXED);
		pthread_join(reader[i], NULL);
		EXPECT_EQ(0, r[i].torn) {
			TH_LOG("%s: %d names that nobody gave", r[i].file, r[i].torn);
		}
		EXPECT_LT(0, r[i].seen);
		EXPECT_EQ(0, r[i].failed);
	}
}

/*
 * One thread names a range, again and again, while another changes it. Between
 * two changes the range is in a state in which the call's result is known; a
 * result counts if the state was the same before and after the call.
 */
enum { WHOLE, HOLE, UNNAMED, SPLIT, RENAMED, NR_STATES };

struct noop_race {
	char *p;
	unsigned int turn;	/* odd: being changed; else 2 * (n * NR_STATES + state) */
	unsigned int calls;
	int rounds, failed;	/* of the thread that changes */
};

static void *change_range(void *arg)
{
	struct noop_race *r = arg;
	unsigned int seed = 1;
	char *p = r->p;

	for (int i = 1; i < r->rounds * NR_STATES; i++) {
		unsigned int calls = __atomic_load_n(&r->calls, __ATOMIC_RELAXED);
		/* in mid-call, or when the state has been seen */
		unsigned int wait = rand_r(&seed) % 4;
		int err = 0;

		while (__atomic_load_n(&r->calls, __ATOMIC_RELAXED) - calls < wait)
			sched_yield();
		__atomic_fetch_add(&r->turn, 1, __ATOMIC_SEQ_CST);
		switch (i % NR_STATES) {
		case WHOLE:
			err = name_pages(p, 8, "x");
			break;
		case HOLE:
			err = munmap(p + 3 * page, page);
			break;
		case UNNAMED:
			err = !map_at(p + 3 * page, 1);
			break;
		case SPLIT:
			err = name_pages(p, 8, "x") | mprotect(p + 5 * page, page, PROT_READ);
			break;
		case RENAMED:
			err = mprotect(p + 5 * page, page, PROT_RW) |
			      name_pages(p + 2 * page, 1, "y");
			break;
		}
		r->failed += !!err;
		__atomic_fetch_add(&r->turn, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&r->turn, -1U, __ATOMIC_SEQ_CST);
	return NULL;
}

TEST_F(names, noop_races_changes)
{
	struct noop_race r = { .p = FAR_AWAY + (1UL << 31), .rounds = rounds(250) };
	unsigned int turn, last = -1U, checked[NR_STATES] = {}, looked[NR_STATES] = {};
	pthread_t thread;

	ASSERT_NE(NULL, map_at(r.p, 8));
	ASSERT_EQ(0, name_pages(r.p, 8, "x"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, change_range, &r));
	while ((turn = __atomic_load_n(&r.turn, __ATOMIC_SEQ_CST)) != -1U) {
		int err = name_pages(r.p, 8, "x") ? errno : 0;
		unsigned int state = turn / 2 % NR_STATES;
		const char *name;

		__atomic_fetch_add(&r.calls, 1, __ATOMIC_RELAXED);
		ASSERT_TRUE(!err || err == ENOMEM);
		if (turn & 1 || __atomic_load_n(&r.turn, __ATOMIC_SEQ_CST) != turn)
			continue;
		ASSERT_EQ(state == HOLE ? ENOMEM : 0, err) {
			TH_LOG("state %u", state);
		}
		checked[state]++;
		if (turn == last)
			continue;
		last = turn;

		/* and it was done */
		name = mapping(getpid(), r.p + (state == RENAMED ? 2 : 3) * page);
		if (__atomic_load_n(&r.turn, __ATOMIC_SEQ_CST) != turn)
			continue;
		looked[state]++;
		ASSERT_TRUE(state == HOLE ? !*name : !!strstr(name, " [anon:x]")) {
			TH_LOG("state %u: %s", state, name);
		}
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, r.failed);
	for (int i = 0; i < NR_STATES; i++) {
		EXPECT_LT(0, checked[i]);
		EXPECT_LT(0, looked[i]);
	}
}

/* What vmlean.ko counts. */
FIXTURE(counted) {
	int stats;
	long names, vmas;	/* before */
};

FIXTURE_VARIANT(counted) {
	unsigned int names;
};

FIXTURE_VARIANT_ADD(counted, one) { .names = 1 };
FIXTURE_VARIANT_ADD(counted, two) { .names = 2 };
FIXTURE_VARIANT_ADD(counted, sixteen) { .names = 16 };
FIXTURE_VARIANT_ADD(counted, seventeen) { .names = 17 };
FIXTURE_VARIANT_ADD(counted, distinct) { .names = MANY };

FIXTURE_SETUP(counted)
{
	page = getpagesize();
	STATS_OPEN(self->stats);
	SKIP_WITHOUT_SHARING();
	ASSERT_EQ(0, raise_map_count());
	/* nobody else should name anything meanwhile */
	self->names = stat_of("names");
	self->vmas = stat_of("vmas");
}

FIXTURE_TEARDOWN(counted)
{
	EXPECT_TRUE(UNTIL(stat_of("names") == self->names && stat_of("vmas") == self->vmas)) {
		TH_LOG("%ld names and %ld VMAs that have one are left",
		       stat_of("names") - self->names, stat_of("vmas") - self->vmas);
	}
	stats_close(self->stats);
}

static void nth_name(char *name, unsigned int n)
{
	snprintf(name, NAME_MAX_LEN, "%079u", n);
}

/* In a child, so that all must be gone when it is. */
TEST_F(counted, objects)
{
	const unsigned int many = many_vmas();
	const unsigned int names = variant->names < many ? variant->names : many;
	pid_t pid = fork();

	if (!pid) {
		char name[NAME_MAX_LEN], expected[128];
		long saved = stat_of("bytes_saved"), hits = stat_of("hits");

		ASSERT_EQ(0, map_many(FAR_AWAY, many));
		for (unsigned int i = 0; i < many; i++) {
			nth_name(name, i % names);
			ASSERT_EQ(0, name_pages(FAR_AWAY + i * page, 1, name));
		}
		EXPECT_EQ(self->names + names, stat_of("names"));
		EXPECT_EQ(self->vmas + many, stat_of("vmas"));
		EXPECT_EQ(hits + many - names, stat_of("hits"));
		EXPECT_EQ(saved + (many - names) *
			  (*kconfig("CONFIG_ANON_VMA_NAME_ACCOUNT") ? 88L : 96L),
			  stat_of("bytes_saved"));
		for (unsigned int i = 0; i < many; i += many / 3 + 1) {
			nth_name(name, i % names);
			snprintf(expected, sizeof(expected), "1 [anon:%s]", name);
			EXPECT_MAPPING(FAR_AWAY + i * page, expected);
		}

		/* a child of its own, and what it leaves behind */
		pid = fork();
		if (!pid) {
			ASSERT_EQ(self->names + names, stat_of("names"));
			ASSERT_EQ(self->vmas + 2 * many, stat_of("vmas"));
			ASSERT_EQ(0, munmap(FAR_AWAY, many / 2 * page));
			ASSERT_EQ(self->vmas + 2 * many - many / 2, stat_of("vmas"));
			_exit(0);
		}
		EXPECT_TRUE(succeeds(pid));
		EXPECT_TRUE(UNTIL(stat_of("vmas") == self->vmas + many));
		EXPECT_EQ(self->names + names, stat_of("names"));

		/* only the table has them now */
		ASSERT_EQ(0, munmap(FAR_AWAY, many * page));
		EXPECT_EQ(self->vmas, stat_of("vmas"));
		EXPECT_EQ(self->names + (names < SLOTS ? names : SLOTS), stat_of("names"));
		_exit(_metadata->exit_code);
	}
	EXPECT_TRUE(succeeds(pid));
}

FIXTURE(stats) {
	int stats;
	long names, vmas;	/* before */
	char *p;
};

FIXTURE_SETUP(stats)
{
	page = getpagesize();
	STATS_OPEN(self->stats);
	SKIP_WITHOUT_SHARING();
	self->names = stat_of("names");
	self->vmas = stat_of("vmas");
	self->p = map_at(FAR_AWAY, 8);
	ASSERT_NE(NULL, self->p);
}

FIXTURE_TEARDOWN(stats)
{
	stats_close(self->stats);
}

/* Nothing to change in one VMA: seen by the counter. In some VMAs: not on each base. */
TEST_F(stats, noops)
{
	long noops = stat_of("noops"), in_some;

	ASSERT_EQ(0, name_pages(self->p, 8, NULL));
	EXPECT_EQ(noops + 1, stat_of("noops"));
	ASSERT_EQ(0, name_pages(self->p, 8, "x"));
	EXPECT_EQ(noops + 1, stat_of("noops"));
	ASSERT_EQ(0, name_pages(self->p, 8, "x"));
	ASSERT_EQ(0, name_pages(self->p + page, 1, "x"));
	EXPECT_EQ(noops + 3, stat_of("noops"));
	ASSERT_EQ(0, mprotect(self->p + 2 * page, page, PROT_READ));
	ASSERT_EQ(0, name_pages(self->p, 8, "x"));
	in_some = stat_of("noops") - (noops + 3);
	EXPECT_TRUE(in_some == 0 || in_some == 1);
	ASSERT_EQ(0, name_pages(self->p + 6 * page, 1, "y"));
	ASSERT_EQ(0, name_pages(self->p, 8, "x"));
	EXPECT_EQ(noops + 3 + in_some, stat_of("noops"));
}

#ifndef SYS_mseal
#define SYS_mseal	462
#endif

#define EXPECT_REFS(nr_names, nr_vmas)					\
do {									\
	EXPECT_EQ(self->names + (nr_names), stat_of("names"));		\
	EXPECT_EQ(self->vmas + (nr_vmas), stat_of("vmas"));		\
} while (0)

/* Each VMA that has a name has one reference, whatever becomes of it. */
TEST_F(stats, references)
{
	char *p = self->p, *to = p + (1UL << 30);
	pid_t pid;

	ASSERT_EQ(0, name_pages(p, 8, "x"));
	EXPECT_REFS(1, 1);

	/* mremap(): a copy, and one that is left behind */
	ASSERT_EQ(to, mremap(p + 6 * page, 2 * page, 2 * page,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_REFS(1, 2);
	ASSERT_EQ(to + 4 * page, mremap(to, 2 * page, 2 * page, MREMAP_MAYMOVE |
					MREMAP_FIXED | MREMAP_DONTUNMAP, to + 4 * page));
	EXPECT_REFS(1, 3);
	ASSERT_EQ(0, munmap(to, 6 * page));
	EXPECT_REFS(1, 1);

	/* names that are equal on both sides */
	ASSERT_EQ(0, name_pages(p + 2 * page, 2, "y"));
	EXPECT_REFS(2, 3);
	ASSERT_EQ(0, name_pages(p + 2 * page, 2, "x"));
	EXPECT_REFS(2, 1);

	/* munmap() that meets a sealed VMA attaches again what it has detached */
	pid = fork();
	if (!pid) {
		/* the parent's table has a "y", this process's has none yet */
		self->vmas = stat_of("vmas") - 1;
		EXPECT_EQ(0, name_pages(p + 2 * page, 2, "y"));
		EXPECT_REFS(3, 3);
		ASSERT_EQ(0, syscall(SYS_mseal, p + 4 * page, page, 0));
		EXPECT_REFS(3, 4);
		EXPECT_EQ(-1, munmap(p + page, 4 * page));
		EXPECT_EQ(EPERM, errno);
		EXPECT_REFS(3, 5);
		EXPECT_MAPPING(p + page, "1 [anon:x]");
		EXPECT_MAPPING(p + 2 * page, "2 [anon:y]");
		EXPECT_MAPPING(p + 4 * page, "1 [anon:x]");
		_exit(_metadata->exit_code);
	}
	EXPECT_TRUE(succeeds(pid));
	EXPECT_TRUE(UNTIL(stat_of("vmas") == self->vmas + 1));
}

/* The names that VMAs have stay in the table, those that none has go. */
TEST_F(stats, replacement)
{
	long hits, misses, replacements = stat_of("replacements");
	char name[NAME_MAX_LEN];

	/* seven names with a VMA each, one with none; then a flood */
	for (int i = 0; i < 8; i++) {
		nth_name(name, i);
		ASSERT_EQ(0, name_pages(self->p + i * page, 1, name));
	}
	for (int i = 8; i < 500; i++) {
		nth_name(name, i);
		ASSERT_EQ(0, name_pages(self->p + 7 * page, 1, name));
	}
	EXPECT_EQ(replacements + 500 - SLOTS, stat_of("replacements"));
	EXPECT_EQ(self->names + SLOTS, stat_of("names"));
	EXPECT_EQ(self->vmas + 8, stat_of("vmas"));

	hits = stat_of("hits");
	misses = stat_of("misses");
	for (int i = 0; i < 7; i++) {
		nth_name(name, i);
		/* not where it has the name: that needs no table */
		ASSERT_EQ(0, name_pages(self->p + 7 * page, 1, name));
	}
	EXPECT_EQ(hits + 7, stat_of("hits"));
	EXPECT_EQ(misses, stat_of("misses"));
}

/* Threads of one process that give the same names at the same time. */
static void *name_some(void *arg)
{
	static unsigned int turn;
	char *p = (char *)arg + __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) * 256 * page;
	char name[NAME_MAX_LEN];

	if (map_many(p, 256))
		return p;
	/* at least once around, so that each VMA has a name */
	for (int i = 0, n = rounds(200); i < n || i < 16; i++)
		for (unsigned int j = 0; j < 16; j++) {
			nth_name(name, j);
			if (name_pages(p + ((i * 16 + j) % 256) * page, 1, name))
				return p;
		}
	return NULL;
}

TEST_F(stats, threads_share)
{
	pthread_t thread[4];
	void *failed;

	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, name_some, FAR_AWAY + (1UL << 32)));
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], &failed));
		EXPECT_EQ(NULL, failed);
	}
	EXPECT_EQ(self->names + 16, stat_of("names"));
	EXPECT_EQ(self->vmas + 4 * 256, stat_of("vmas"));
}

/* Allocations that fail, and calls that make none. */
FIXTURE(failslab) {
	int nth_fd;
	char *p;
};

FIXTURE_SETUP(failslab)
{
	page = getpagesize();
	SKIP_WITHOUT_SHARING();
	self->p = map_at(FAR_AWAY, 8);
	ASSERT_NE(NULL, self->p);
	INJECT_OPEN(self->nth_fd);
}

FIXTURE_TEARDOWN(failslab)
{
	inject_close(self->nth_fd);
}

/* All of a VMA that has no like neighbour: nothing is split, nothing merged. */
TEST_F(failslab, known_name_allocates_nothing)
{
	int left[4], err = 0;

	ASSERT_EQ(0, name_pages(self->p, 8, "a"));
	ASSERT_EQ(0, name_pages(self->p, 8, "b"));
	ASSERT_EQ(0, fill_cache(FAR_AWAY + (1UL << 30)));
	ASSERT_EQ(0, arm(self->nth_fd, 1));
	err |= name_pages(self->p, 8, "a");
	left[0] = armed(self->nth_fd);
	err |= name_pages(self->p, 8, "b");
	left[1] = armed(self->nth_fd);
	err |= name_pages(self->p, 8, "b");
	left[2] = armed(self->nth_fd);
	err |= name_pages(self->p, 8, NULL);
	left[3] = armed(self->nth_fd);
	ASSERT_EQ(0, arm(self->nth_fd, 0));
	EXPECT_EQ(0, err);
	if (*kconfig("CONFIG_VMA_RECYCLE") && !recycling())
		SKIP(return, "without VMA recycling, prctl() may allocate a VMA beforehand");
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(1, left[i]);
}

/*
 * A process's first name, which needs a table, and a later one. All of a VMA, so
 * that there is nothing to allocate but for the name.
 */
static int failing_child(int nth, bool first, char *p, int *left)
{
	int fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC), err;

	if (fd < 0 || (!first && name_pages(p, 8, "old")) ||
	    fill_cache(FAR_AWAY + (1UL << 30)) || arm(fd, nth))
		return -1;
	err = name_pages(p, 8, "new") ? errno : 0;
	*left = armed(fd);
	return arm(fd, 0) ? -1 : err;
}

static void failing(struct __test_metadata *_metadata, char *p, bool first)
{
	int nth, status = 0, failed = 0, survived = 0;

	for (nth = 1; nth < 20; nth++) {
		pid_t pid = fork();

		if (!pid) {
			int left = 0, err = failing_child(nth, first, p, &left);

			ASSERT_LE(0, err);
			if (err) {
				EXPECT_EQ(ENOMEM, err);
				EXPECT_MAPPING(p, first ? "8 " : "8 [anon:old]");
				/* the next one works */
				EXPECT_EQ(0, name_pages(p, 8, "new"));
			}
			EXPECT_MAPPING(p, "8 [anon:new]");
			_exit(_metadata->exit_code ?: err ? 100 : left ? 101 : 102);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
		ASSERT_LE(100, status);
		failed += status == 100;
		survived += status == 102;
		if (status == 101)
			break;
	}
	EXPECT_EQ(101, status);
	/* the name cannot be done without; the table, which comes first, can */
	EXPECT_LE(1, failed);
	EXPECT_LE(first, survived);
}

TEST_F(failslab, first_name)
{
	failing(_metadata, self->p, true);
}

TEST_F(failslab, later_name)
{
	failing(_metadata, self->p, false);
}

/* Names come from a cache of their own, which /proc/slabinfo shows. */
FIXTURE(slabinfo) {
};

/* What CPUs have at hand counts as active: they give it back first. */
static long active_names(void)
{
	static char buf[1 << 16];
	char *line;

	if (write_file("/sys/kernel/slab/anon_vma_name/shrink", "1"))
		return -1;
	if (read_file("/proc/slabinfo", buf, sizeof(buf)) < 0)
		return -1;
	line = strstr(buf, "\nanon_vma_name ");
	return line ? atol(line + strlen("\nanon_vma_name ")) : -1;
}

FIXTURE_SETUP(slabinfo)
{
	page = getpagesize();
	SKIP_WITHOUT("CONFIG_ANON_VMA_NAME_ACCOUNT");
	SKIP_WITHOUT("CONFIG_SLUB_DEBUG");
	ASSERT_EQ(0, raise_map_count());
}

FIXTURE_TEARDOWN(slabinfo)
{
}

TEST_F(slabinfo, counts_names)
{
	const long many = many_vmas() / 2, before = active_names();
	char name[16];

	ASSERT_LE(0, before);
	ASSERT_EQ(0, map_many(FAR_AWAY, many));
	if (*kconfig("CONFIG_ANON_VMA_NAME_SHARE")) {
		for (long i = 0; i < many; i++)
			ASSERT_EQ(0, name_pages(FAR_AWAY + i * page, 1, "alike"));
		EXPECT_GT(before + many / 2, active_names());
	}
	for (long i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "%ld", i);
		ASSERT_EQ(0, name_pages(FAR_AWAY + i * page, 1, name));
	}
	EXPECT_LE(before + many / 2, active_names());
	ASSERT_EQ(0, munmap(FAR_AWAY, many * page));
	EXPECT_TRUE(UNTIL(active_names() < before + many / 2));
}

/* Names are charged: a cgroup cannot be made to pay for VMAs only. */
FIXTURE(flood) {
};

FIXTURE_SETUP(flood)
{
	page = getpagesize();
	if (!cg_usable())
		SKIP(return, "no cgroup2 with memory and pids controllers");
	SKIP_WITHOUT_SHARING();
	SKIP_WITHOUT("CONFIG_ANON_VMA_NAME_ACCOUNT");
	ASSERT_EQ(0, pin_to_one_cpu());
	ASSERT_EQ(0, raise_map_count());
	ASSERT_EQ(0, cg_make("flood"));
}

FIXTURE_TEARDOWN(flood)
{
	EXPECT_TRUE(cg_remove("flood"));
}

TEST_F(flood, is_held_by_the_limit)
{
	const unsigned int many = many_vmas() / 2;
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		char name[NAME_MAX_LEN];

		cg_write("flood", "memory.swap.max", "0");
		if (cg_enter("flood") || map_many(FAR_AWAY, many) ||
		    cg_write("flood", "memory.max", "%ld", cg_charge("flood") + many * 32L))
			_exit(1);
		/* alike: costs nothing */
		for (unsigned int i = 0; i < many; i++)
			if (name_pages(FAR_AWAY + i * page, 1, "alike"))
				_exit(2);
		/* all different: 96 bytes each at least, three times what is left */
		for (unsigned int i = 0; i < many; i++) {
			nth_name(name, i);
			if (name_pages(FAR_AWAY + i * page, 1, name))
				_exit(errno == ENOMEM ? 0 : 3);
		}
		_exit(4);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || !status) {
		TH_LOG("not held: status %#x", status);
	}
	EXPECT_TRUE(UNTIL(!cg_read("flood", "pids.current", NULL)));
}

/*
 * A child names what its parent has named so, in a cgroup that is full: nothing
 * is charged. A new name then meets the limit. The two take turns by a shared
 * word; a pipe would be charged, too.
 */
TEST_F(flood, no_change_no_charge)
{
	volatile int *turn = mmap(NULL, page, PROT_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *p = map_at(FAR_AWAY, 8);
	int status;
	long max;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)turn);
	ASSERT_NE(NULL, p);
	*turn = 0;
	ASSERT_EQ(0, name_pages(p, 8, "known"));
	pid = fork();
	if (!pid) {
		char name[NAME_MAX_LEN];

		cg_write("flood", "memory.swap.max", "0");
		if (cg_enter("flood"))
			_exit(1);
		*turn = 1;
		while (*turn != 2)
			sched_yield();
		for (int i = 0; i < 8; i++)
			if (name_pages(p + i * page, 8 - i, "known"))
				_exit(2);
		*turn = 3;
		while (*turn != 4)
			sched_yield();
		for (int i = 0; i < 100; i++) {
			nth_name(name, i);
			if (name_pages(p, 8, name))
				break;
		}
		_exit(0);
	}
	ASSERT_TRUE(UNTIL(*turn == 1));
	/* not by the child, which would be charged for what it opens, and killed */
	ASSERT_EQ(0, cg_write("flood", "memory.max", "%ld", cg_charge("flood")));
	max = cg_read("flood", "memory.events", "max");
	*turn = 2;
	EXPECT_TRUE(UNTIL(*turn == 3));
	EXPECT_EQ(max, cg_read("flood", "memory.events", "max"));
	*turn = 4;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || !status) {
		TH_LOG("status %#x", status);
	}
	EXPECT_LT(max, cg_read("flood", "memory.events", "max"));
	EXPECT_TRUE(UNTIL(!cg_read("flood", "pids.current", NULL)));
}

TEST_HARNESS_MAIN
