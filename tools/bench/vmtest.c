// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own lib/test_vmalloc.c as rows: test_vmalloc/MASK, with /512 for
 * areas of so many pages, /holes for a space with 30,000 holes between areas that
 * stay, /up where the machine has no second CPU and could get none.
 *
 * A row's value is what the module says a test took, in units of the TSC as in
 * now(), divided by its loops; the lowest of three.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util.h"

#define TEST_KO		"/lib/vmlean/test_vmalloc.ko"
#define HOLES_KO	"/lib/vmlean/vmholes.ko"
#define HOLES		30000
#define RUNS		3

enum { KLOG_READ_ALL = 3, KLOG_CLEAR = 5 };

static const struct row {
	unsigned int mask, pages;
	unsigned int loops;	/* that the test does; those of 1 do not count them */
	unsigned int repeat;	/* more than once, as it is short */
	bool holes;
} rows[] = {
	{ .mask = 1, .pages = 1, .loops = 5000 }, /* fix_size */
	{ .mask = 2, .pages = 1, .loops = 5000 }, /* full_fit */
	{ .mask = 4, .pages = 1, .loops = 500 }, /* long_busy_list */
	{ .mask = 8, .pages = 1, .loops = 10000 }, /* random_size, for a steady mean */
	{ .mask = 16, .pages = 1, .loops = 2000 }, /* fix_align */
	{ .mask = 32, .pages = 1, .loops = 2000 }, /* random_size_align */
	{ .mask = 64, .pages = 1, .loops = 1, .repeat = 16 }, /* align_shift, meant to fail */
	{ .mask = 128, .pages = 1, .loops = 1 }, /* pcpu */
	{ .mask = 256, .pages = 1, .loops = 2000 }, /* kvfree_rcu_1_arg */
	{ .mask = 512, .pages = 1, .loops = 2000 }, /* kvfree_rcu_2_arg */
	{ .mask = 1024, .pages = 1, .loops = 5000 }, /* vm_map_ram */
	{ .mask = 1, .pages = 512, .loops = 200 },
	{ .mask = 1024, .pages = 512, .loops = 500 },
	{ .mask = 1, .pages = 512, .loops = 200, .holes = true },
};

static const char *suffix = "";

static void name_of(char *name, size_t size, const struct row *r)
{
	snprintf(name, size, "test_vmalloc/%u%s%s%s", r->mask, r->pages > 1 ? "/512" : "",
		 r->holes ? "/holes" : "", suffix);
}

/* Returns errno: the test's module is never there for long. */
static int insert(const char *path, const char *args)
{
	int fd = open(path, O_RDONLY), err;

	if (fd < 0)
		die("cannot open %s: %s", path, strerror(errno));
	err = syscall(SYS_finit_module, fd, args, 0) ? errno : 0;
	close(fd);
	return err;
}

static void remove_module(const char *name)
{
	if (syscall(SYS_delete_module, name, O_NONBLOCK))
		die("cannot remove %s: %s", name, strerror(errno));
}

static unsigned int repeats(const struct row *r)
{
	return r->repeat ? r->repeat : 1;
}

static double run(const struct row *r)
{
	static char log[1 << 16];
	unsigned long took;
	char args[128], *line;
	int n, err;

	snprintf(args, sizeof(args),
		 "nr_threads=1 run_test_mask=%u nr_pages=%u test_loop_count=%u test_repeat_count=%u",
		 r->mask, r->pages, r->loops, repeats(r));
	klogctl(KLOG_CLEAR, NULL, 0);
	mark_begin();
	err = insert(TEST_KO, args);
	mark_end();
	if (err != EAGAIN)
		die("%s %s: %s", TEST_KO, args, strerror(err));
	n = klogctl(KLOG_READ_ALL, log, sizeof(log) - 1);
	log[n > 0 ? n : 0] = '\0';
	line = strstr(log, "All test took ");
	if (!line || sscanf(line, "All test took worker0=%lu cycles", &took) != 1)
		die("%s %s said nothing", TEST_KO, args);
	return (double)took / repeats(r) / r->loops;
}

/* Where the page allocator stands moves single runs by some percent. */
static double lowest(const struct row *r)
{
	double best = run(r), t;
	int i;

	for (i = 1; i < RUNS; i++) {
		t = run(r);
		best = t < best ? t : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	char possible[16] = "", name[64];
	FILE *f = fopen("/sys/devices/system/cpu/possible", "r");
	bool found = false;
	unsigned int i;

	if (!f || !fgets(possible, sizeof(possible), f))
		die("how many CPUs are possible?");
	fclose(f);
	if (!strcmp(possible, "0\n"))
		suffix = "/up";

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		name_of(name, sizeof(name), &rows[i]);
		if (argc > 1 && strcmp(argv[1], name))
			continue;
		found = true;
		if (rows[i].holes) {
			char args[32];

			snprintf(args, sizeof(args), "holes=%u", HOLES);
			if (insert(HOLES_KO, args))
				die("cannot insert %s: %s", HOLES_KO, strerror(errno));
		}
		/* the guest's clock counts instructions, or this is not exact */
		result(name, unit(), lowest(&rows[i]), RUNS * repeats(&rows[i]) * rows[i].loops);
		if (rows[i].holes)
			remove_module("vmholes");
	}
	if (!found)
		die("no row %s", argv[1]);
	return 0;
}
