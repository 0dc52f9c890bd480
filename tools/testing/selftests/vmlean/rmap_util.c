// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of the reverse map share, see rmap_util.h.
 */
#include "rmap_util.h"

size_t page;

static __attribute__((constructor)) void page_size(void)
{
	page = getpagesize();
}

static uint64_t pagemap_of(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)at / page * 8) != 8)
		entry = 0;
	close(fd);
	return entry;
}

bool swapped(const char *at)
{
	return pagemap_of(at) >> 62 & 1;
}

static bool present(const char *at)
{
	return pagemap_of(at) >> 63;
}

bool swap_out(const char *at)
{
	return UNTIL((cg_write(CGROUP, "memory.reclaim", "64M swappiness=200"), !present(at)));
}

bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
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
