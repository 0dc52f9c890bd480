// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of the reverse map share, see rmap_util.h.
 */
#include <linux/mempolicy.h>

#include "rmap_util.h"

#define KSM_DIR	"/sys/kernel/mm/ksm/"

size_t page;

static __attribute__((constructor)) void page_size(void)
{
	page = getpagesize();
}

static bool present(const char *at)
{
	return pagemap_of(at) >> 63;
}

static uint64_t pfn_of(const char *at)
{
	return present(at) ? pagemap_of(at) & ((1ULL << 55) - 1) : 0;
}

/*
 * As if nobody had used it of late, or reclaim makes it active. Then it may stay so, as
 * the last page of its LRU list: whether there are enough inactive ones is decided by
 * statistics of the cgroup, which an idle CPU may leave as they are for a long time.
 */
static void make_idle(const char *at)
{
	int fd = open("/sys/kernel/mm/page_idle/bitmap", O_WRONLY | O_CLOEXEC);
	uint64_t pfn = pfn_of(at), bits = 1ULL << pfn % 64;

	/* for others who map it, and then for us and for the page */
	if (fd >= 0 && pfn && pwrite(fd, &bits, 8, pfn / 64 * 8) != 8)
		ksft_print_msg("page frame %#llx cannot be made idle\n", (unsigned long long)pfn);
	close(fd);
	write_file("/proc/self/clear_refs", "1");
}

bool swap_out(const char *at)
{
	uint64_t flags = 0;
	bool out = UNTIL((make_idle(at), cg_write(CGROUP, "memory.reclaim", "64M swappiness=200"),
			  !present(at)));

	if (!out && kpageflags_of(at, &flags))
		ksft_print_msg("%p stays; /proc/kpageflags: %llx\n", at, (unsigned long long)flags);
	return out;
}

int node_of(char *at)
{
	void *pages[] = { at };
	int status = -ENODEV;

	if (syscall(SYS_move_pages, 0, 1, pages, NULL, &status, 0))
		return -errno;
	return status;
}

int move_to(char *at, int node)
{
	void *pages[] = { at };
	int status;

	/* what others map as well does not move otherwise */
	return syscall(SYS_move_pages, 0, 1UL, pages, &node, &status, MPOL_MF_MOVE_ALL) ?
	       -errno : status;
}

bool kpageflags_of(const char *at, uint64_t *flags)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t pfn = pfn_of(at);
	bool ok = pfn && pread(fd, flags, 8, pfn * 8) == 8;

	close(fd);
	return ok;
}

bool ksm_share(char *a, char *b)
{
	char old[16];
	bool ok = map_at(a, 1) && map_at(b, 1) && memset(a, 'k', page) && memset(b, 'k', page) &&
		  !madvise(a, page, MADV_MERGEABLE) && !madvise(b, page, MADV_MERGEABLE) &&
		  read_file(KSM_DIR "pages_to_scan", old, sizeof(old)) > 0 &&
		  !write_file(KSM_DIR "pages_to_scan", "1000") &&
		  !write_file(KSM_DIR "run", "1") &&
		  UNTIL(number_in(KSM_DIR "pages_sharing", "") > 0);

	return !write_file(KSM_DIR "run", "0") && !write_file(KSM_DIR "pages_to_scan", old) && ok;
}

bool ksm_unshare(void)
{
	return !write_file(KSM_DIR "run", "2") && !write_file(KSM_DIR "run", "0");
}

bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

long number_in(const char *path, const char *key)
{
	static char text[1 << 16];
	const char *at;

	at = read_file(path, text, sizeof(text)) < 0 ? NULL : strstr(text, key);
	return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

/* Of a kernel with the checker; the module may have to be loaded first. */
static int check_open(void)
{
	int fd = open(CHECK, O_RDWR | O_CLOEXEC);

	if (fd < 0 && stats_open() == STATS_LOADED)
		fd = open(CHECK, O_RDWR | O_CLOEXEC);
	return fd;
}

long faults_of(pid_t pid)
{
	int fd = *kconfig("CONFIG_ANON_VMA_CHECK") ? check_open() : -1;
	char text[1024], *first;
	ssize_t len;

	if (fd < 0)
		return *kconfig("CONFIG_ANON_VMA_CHECK") ? -1 : 0;
	snprintf(text, sizeof(text), "%d", pid);
	len = write(fd, text, strlen(text)) < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (len < 0)
		return -1;
	text[len] = 0;
	first = strstr(text, "\nfirst ");
	if (first)
		ksft_print_msg("process %d: %s", pid, first + 1);
	return keyed_value(text, "faults");
}

pid_t child_fork(struct child *child)
{
	int up[2], down[2];

	if (pipe(up) || pipe(down))
		return -1;
	child->pid = fork();
	child->from = child->pid ? up[0] : down[0];
	child->to = child->pid ? down[1] : up[1];
	close(child->pid ? up[1] : up[0]);
	close(child->pid ? down[0] : down[1]);
	return child->pid;
}

bool child_ready(struct child *child)
{
	char c;

	return read(child->from, &c, 1) == 1;
}

bool child_go(struct child *child)
{
	return write(child->to, "", 1) == 1;
}

bool child_waits(struct child *child)
{
	return child_go(child) && child_ready(child);
}

bool child_ends(struct child *child)
{
	int status;

	close(child->to);
	close(child->from);
	return waitpid(child->pid, &status, 0) == child->pid && !status;
}
