// SPDX-License-Identifier: GPL-2.0
/*
 * What the vmlean selftests share, see vmlean_util.h.
 */
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>

#include "vmlean_util.h"

char *map_at(char *at, size_t pages)
{
	char *p = mmap(at, pages * getpagesize(), PROT_RW, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int fill_cache(char *at)
{
	size_t size = getpagesize();
	int i, err = 0;

	for (i = 0; i < 8; i++)
		err |= !map_at(at + 2 * i * size, 1);
	for (i = 0; i < 8; i++)
		err |= munmap(at + 2 * i * size, size);
	return err;
}

__attribute__((noinline)) pid_t vfork_child(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(fill_cache(FAR_AWAY) ? 1 : 0);
	return pid;
}

ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	buf[len] = '\0';
	close(fd);
	return len;
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -1;
	err = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return err;
}

/* The kernel's own .config: read once, for all tests of a program. */
static char kconfig_text[1 << 18];

static void __attribute__((constructor)) kconfig_read(void)
{
	FILE *f;

	if (getenv("VMLEAN_EXEC"))	/* no test, but what a test has execed */
		return;
	f = popen("zcat /proc/config.gz 2>/dev/null", "r");
	if (!f)
		return;
	kconfig_text[fread(kconfig_text, 1, sizeof(kconfig_text) - 1, f)] = '\0';
	pclose(f);
}

bool kconfig_known(void)
{
	return *kconfig_text;
}

const char *kconfig(const char *symbol)
{
	static char val[64];
	char key[64];
	char *at;

	snprintf(key, sizeof(key), "\n%s=", symbol);
	at = strstr(kconfig_text, key);
	snprintf(val, sizeof(val), "%s", at ? at + strlen(key) : "");
	val[strcspn(val, "\n")] = '\0';
	return val;
}

int rounds(int n)
{
	const char *scale = getenv("VMLEAN_SCALE");
	static int div;

	if (!div)
		div = scale ? atoi(scale) : *kconfig("CONFIG_KASAN") ? 5 : 1;
	return div > 1 ? (n + div - 1) / div : n;
}

int recycle_depth(void)
{
	return atoi(kconfig("CONFIG_VMA_RECYCLE_DEPTH")) ?: 1;
}

int empty_cache(char *at)
{
	size_t size = getpagesize();
	int i, err = fill_cache(at);

	for (i = 0; i < recycle_depth(); i++)
		err |= !map_at(at + 2 * i * size, 1);
	return err;
}

bool recycling(void)
{
	static const char * const debugging[] = {
		"CONFIG_KASAN", "CONFIG_KMSAN", "CONFIG_SLUB_RCU_DEBUG",
		"CONFIG_SLUB_DEBUG_ON", "CONFIG_DEBUG_LOCK_ALLOC",
		"CONFIG_DEBUG_OBJECTS_FREE", "CONFIG_DEBUG_KMEMLEAK",
		"CONFIG_FAILSLAB",
	};
	char cmdline[4096];

	if (read_file("/proc/cmdline", cmdline, sizeof(cmdline)) < 0)
		return true;
	if (strstr(cmdline, "vma_recycle=force"))
		return true;
	if (strstr(cmdline, "vma_recycle=off") ||
	    strstr(cmdline, "slub_debug") || strstr(cmdline, "slab_debug"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(debugging); i++)
		if (*kconfig(debugging[i]))
			return false;
	return true;
}

long keyed_value(const char *text, const char *key)
{
	size_t len = strlen(key);

	while (text && (strncmp(text, key, len) || text[len] != ' ')) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text ? atol(text + len + 1) : -1;
}

int vma_stats_read(struct vma_stats *s)
{
	const struct { const char *name; long *to; } lines[] = {
		{ "hits", &s->hits },
		{ "misses", &s->misses },
		{ "misses_memcg", &s->misses_memcg },
		{ "locked_allocs", &s->locked_allocs },
		{ "puts", &s->puts },
		{ "refused_full", &s->refused_full },
		{ "refused_mm", &s->refused_mm },
		{ "refused_memcg", &s->refused_memcg },
		{ "prepopulated", &s->prepopulated },
		{ "prepopulated_contended", &s->prepopulated_contended },
		{ "prepopulate_failed", &s->prepopulate_failed },
		{ "drained", &s->drained },
	};
	char buf[4096];

	if (read_file(VMLEAN_DEBUGFS "/vma_recycle/stats", buf, sizeof(buf)) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		*lines[i].to = keyed_value(buf, lines[i].name);
		if (*lines[i].to >= 0)
			continue;
		/* not every base has it */
		if (lines[i].to != &s->prepopulated_contended)
			return -1;
		*lines[i].to = 0;
	}
	return 0;
}

int stats_open(void)
{
	const char *ko = getenv("VMLEAN_KO") ?: "/lib/vmlean/vmlean.ko";
	int fd, err;

	if (!access(VMLEAN_DEBUGFS, X_OK))
		return STATS_HERE;
	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return system("modprobe -q vmlean 2>/dev/null") ||
		       access(VMLEAN_DEBUGFS, X_OK) ? STATS_NONE : STATS_LOADED;
	err = syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return err || access(VMLEAN_DEBUGFS, X_OK) ? STATS_BROKEN : STATS_LOADED;
}

void stats_close(int how)
{
	if (how == STATS_LOADED)
		syscall(SYS_delete_module, "vmlean", O_NONBLOCK);
}

long stat_read(const char *feature, const char *name)
{
	char path[128], buf[4096];

	snprintf(path, sizeof(path), VMLEAN_DEBUGFS "/%s/stats", feature);
	return read_file(path, buf, sizeof(buf)) < 0 ? -1 : keyed_value(buf, name);
}

bool inject_usable(void)
{
	return *kconfig("CONFIG_FAILSLAB") && *kconfig("CONFIG_FAIL_PAGE_ALLOC") &&
	       *kconfig("CONFIG_FAULT_INJECTION_DEBUG_FS");
}

static const struct { const char *file, *on, *off; } inject[] = {
	{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/failslab/verbose", "0", "2" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/fail_page_alloc/min-order", "0", "1" },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0", "2" },
};

int inject_setup(bool on)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(inject); i++)
		err |= write_file(inject[i].file, on ? inject[i].on : inject[i].off);
	return err;
}

void inject_close(int fd)
{
	if (fd > 0)
		inject_setup(false);
}

int arm(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(fd, text, len, 0) == len ? 0 : -1;
}

int armed(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : -1;
}

char *cg_path(const char *name, const char *file)
{
	static char path[2][256];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), CGROUP_ROOT "/vmlean-%s%s%s",
		 name, *file ? "/" : "", file);
	return path[turn];
}

int cg_write(const char *name, const char *file, const char *fmt, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return write_file(cg_path(name, file), text);
}

long cg_read(const char *name, const char *file, const char *key)
{
	char buf[8192];

	if (read_file(cg_path(name, file), buf, sizeof(buf)) < 0)
		return -1;
	return key ? keyed_value(buf, key) : atol(buf);
}

bool cg_usable(void)
{
	char buf[256];

	if (write_file(CGROUP_ROOT "/cgroup.subtree_control", "+memory +pids") &&
	    errno != EBUSY)
		return false;
	return read_file(CGROUP_ROOT "/cgroup.subtree_control", buf,
			 sizeof(buf)) > 0 &&
	       strstr(buf, "memory") && strstr(buf, "pids");
}

bool cg_remove(const char *name)
{
	return UNTIL(!rmdir(cg_path(name, "")) || errno == ENOENT);
}

int cg_make(const char *name)
{
	cg_write(name, "cgroup.kill", "1");
	return cg_remove(name) ? mkdir(cg_path(name, ""), 0755) : -1;
}

int cg_enter(const char *name)
{
	return cg_write(name, "cgroup.procs", "0");
}

int cg_leave(void)
{
	return write_file(CGROUP_ROOT "/cgroup.procs", "0");
}

long cg_charge(const char *name)
{
	char home[128], *path, procs[256];
	long charge = -1;

	if (read_file("/proc/self/cgroup", home, sizeof(home)) < 0)
		return -1;
	path = strstr(home, "0::/");
	if (!path || cg_leave())
		return -1;
	path[strcspn(path, "\n")] = '\0';
	snprintf(procs, sizeof(procs), CGROUP_ROOT "%s/cgroup.procs", path + 3);
	write_file("/proc/sys/vm/drop_caches", "4");
	write_file("/proc/sys/vm/drop_caches", "1");
	if (!cg_write(name, "memory.high", "0") &&
	    !cg_write(name, "memory.high", "max"))
		charge = cg_read(name, "memory.current", NULL);
	return write_file(procs, "0") ? -1 : charge;
}

uint64_t pagemap_of(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, 8, (unsigned long)at / getpagesize() * 8) != 8)
		entry = 0;
	close(fd);
	return entry;
}

bool swapped(const char *at)
{
	return pagemap_of(at) >> 62 & 1;
}

int pin_to_one_cpu(void)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : cpu, &one);
	return sched_setaffinity(0, sizeof(one), &one);
}

bool swap_on(void)
{
	static char head[1 << 16], none[1 << 16];
	size_t page = getpagesize();
	uint32_t *info = (uint32_t *)(head + 1024);
	unsigned long size;
	bool ok;
	int fd;

	swapoff(SWAP);		/* a test that was killed has left it on */
	fd = open(SWAP, O_RDWR | O_EXCL | O_CLOEXEC);
	ok = fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head) &&
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

bool swap_off(void)
{
	return !swapoff(SWAP);
}
