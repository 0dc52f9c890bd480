// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of guard regions share, see guard_util.h.
 */
#include "guard_util.h"

size_t page;
struct map map = { .fd = -1, .flags = MAP_PRIVATE | MAP_ANONYMOUS };

bool flags_here(void)
{
	return *kconfig("CONFIG_ANON_VMA_FLAGS");
}

bool option_here(void)
{
	return *kconfig("CONFIG_GUARD_NO_ANON_VMA");
}

const char *smaps_of(const char *at, const char *key)
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

bool maybe_guarded(const char *at)
{
	return strstr(smaps_of(at, "VmFlags"), " gu");
}

bool maybe_guard(void)
{
	static int known = -1;
	char *p;

	if (known < 0) {
		p = mmap(NULL, page, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* not to be merged with what is beside it */
		mprotect(p, page, PROT_READ | PROT_EXEC);
		known = !madvise(p, page, MADV_GUARD_INSTALL) && maybe_guarded(p);
		munmap(p, page);
	}
	return known;
}

bool bare_guards(void)
{
	return flags_here() || option_here() || (map.backing != ANON && maybe_guard());
}

bool slow(void)
{
	return rounds(5) < 5;
}

bool left_to_others(unsigned int i)
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

int look(const char *at)
{
	int sig = sigsetjmp(fault_jmp, 0), c;

	if (sig)
		return -sig;
	__atomic_store_n(&fault_expected, true, __ATOMIC_SEQ_CST);
	c = __atomic_load_n((const unsigned char *)at, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fault_expected, false, __ATOMIC_SEQ_CST);
	return c;
}

int poke(char *at, int c)
{
	int sig = sigsetjmp(fault_jmp, 0);

	if (sig)
		return -sig;
	__atomic_store_n(&fault_expected, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(at, (char)c, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fault_expected, false, __ATOMIC_SEQ_CST);
	return 0;
}

int guard(char *at, size_t pages)
{
	return madvise(at, pages * page, MADV_GUARD_INSTALL);
}

int unguard(char *at, size_t pages)
{
	return madvise(at, pages * page, MADV_GUARD_REMOVE);
}

bool succeeds(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

int disk_file(void)
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

const char *backing_open(enum backing backing)
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

bool shared(void)
{
	return map.flags & MAP_SHARED;
}

bool put_prot(char *at, size_t pages, int prot)
{
	return mmap(at, pages * page, prot, map.flags | MAP_FIXED_NOREPLACE, map.fd,
		    map.fd < 0 ? 0 : (at - FAR_AWAY) % (FILE_PAGES * page)) == at;
}

bool put(char *at, size_t pages)
{
	return put_prot(at, pages, PROT_RW);
}

unsigned int index_of(const char *at)
{
	return (at - FAR_AWAY) / page % FILE_PAGES;
}

int expected(char what, const char *from)
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

bool fill(char *at, const char *pages)
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

bool lay(char *at, const char *pages)
{
	return put(at, strlen(pages)) && fill(at, pages);
}

bool as_laid(const char *who, const char *at, const char *from, const char *pages)
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

bool rewrite(char *at, char *from, const char *pages)
{
	return write_all(at, from, pages, 0);
}

bool kept_in_child(char *at, char *from, const char *pages, int depth)
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

bool kept_deep(char *at, char *from, const char *pages, int depth)
{
	bool ok = kept_in_child(at, from, pages, slow() ? 1 : depth);

	return as_laid("the parent", at, from, pages) && ok;
}

bool kept_moved(char *at, char *from, const char *pages)
{
	return kept_deep(at, from, pages, 2) && rewrite(at, from, pages) &&
	       (slow() ? as_laid("the parent that wrote", at, from, pages) :
			 kept_deep(at, from, pages, 1));
}

bool kept(char *at, const char *pages)
{
	return kept_moved(at, at, pages);
}

int vmas(const char *at, size_t pages)
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

long page_tables(void)
{
	char buf[8192], *line;

	if (read_file("/proc/self/status", buf, sizeof(buf)) < 0)
		return -1;
	line = strstr(buf, "\nVmPTE:");
	return line ? atol(line + 7) : -1;
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

bool many_kept(const char *who, bool child)
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

bool many_laid(void)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		ok &= lay(FAR_AWAY + many[i].at * page, many[i].pages);
	return ok && !madvise(FAR_AWAY + NOT_FORKED * page, 3 * page, MADV_DONTFORK);
}

int uffd_open_with(unsigned long long features, int flags)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features | UFFD_FEATURE_SIGBUS |
		UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
		UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED |
		UFFD_FEATURE_POISON | UFFD_FEATURE_MOVE };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | flags);

	/* nothing is missing from a file that has pages */
	if (map.fd >= 0 && (ftruncate(map.fd, 0) || ftruncate(map.fd, FILE_PAGES * page)))
		return -1;
	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -1 : fd;
}

int uffd_open(void)
{
	return uffd_open_with(0, O_NONBLOCK);
}

int uffd_register(int fd, char *at, size_t pages, int mode)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)at, pages * page }, .mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

int uffd_unregister(int fd, char *at, size_t pages)
{
	struct uffdio_range range = { (unsigned long)at, pages * page };

	return ioctl(fd, UFFDIO_UNREGISTER, &range);
}

int uffd_copy(int fd, char *at)
{
	static char from[65536] __attribute__((aligned(65536)));
	struct uffdio_copy copy = {
		.dst = (unsigned long)at, .src = (unsigned long)from, .len = page,
	};

	from[0] = expected('w', at);
	return ioctl(fd, UFFDIO_COPY, &copy) ? errno : 0;
}

int uffd_zero(int fd, char *at)
{
	struct uffdio_zeropage zero = { .range = { (unsigned long)at, page } };

	return ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? errno : 0;
}

int uffd_poison(int fd, char *at)
{
	struct uffdio_poison poison = { .range = { (unsigned long)at, page } };

	return ioctl(fd, UFFDIO_POISON, &poison) ? errno : 0;
}

int uffd_protect(int fd, char *at, size_t pages, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)at, pages * page },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? errno : 0;
}
