// SPDX-License-Identifier: GPL-2.0
/*
 * Names of anonymous VMAs: what it costs to give one, and how many objects
 * hold them.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "names.h"
#include "util.h"

#define NAME_MAX_LEN	80	/* with the NUL at its end */
#define NAMES		20	/* in a batch of name_unique() */
#define MODULE_NAMES	"/sys/module/vmbench/parameters/names"

/* As long as can be, and different at its end, where it costs most. */
#define NAME_FORMAT	\
	"runtime: heap of the old generation, size class 64, thread pool 3, number %05u"

static char names[NAMES][NAME_MAX_LEN];

static void make_name(char *name, unsigned int n)
{
	if (snprintf(name, NAME_MAX_LEN, NAME_FORMAT, n % 100000) != NAME_MAX_LEN - 1)
		die("a name is not of %d characters", NAME_MAX_LEN - 1);
}

static void set_name(char *addr, const char *name)
{
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, PAGE, name))
		die("prctl(PR_SET_VMA): %s", strerror(errno));
}

void setup_name(void)
{
	map_many(1);
	make_name(names[0], 0);
	make_name(names[1], 1);
	set_name(ARENA, names[0]);
}

void before_name(void)
{
	static unsigned int next;
	unsigned int i;

	for (i = 0; i < NAMES; i++)
		make_name(names[i], next++);
}

void name_known(unsigned int n)
{
	while (n--)
		set_name(ARENA, names[~n & 1]);
}

void name_noop(unsigned int n)
{
	while (n--)
		set_name(ARENA, names[0]);
}

void name_unique(unsigned int n)
{
	while (n--)
		set_name(ARENA, names[n % NAMES]);
}

/* One by one, as an allocator names what it has just mapped. */
static void setup_many(unsigned int different)
{
	char name[NAME_MAX_LEN];
	unsigned int i;

	write_file("/proc/sys/vm/max_map_count", "100000");
	map_many(NAMED_VMAS);
	for (i = 0; different && i < NAMED_VMAS; i++) {
		make_name(name, i % different);
		set_name(ARENA + i * PAGE, name);
	}
}

void setup_unnamed(void)
{
	setup_many(0);
}

void setup_same(void)
{
	setup_many(1);
}

void setup_two(void)
{
	setup_many(2);
}

void setup_sixteen(void)
{
	setup_many(16);
}

void setup_distinct(void)
{
	setup_many(NAMED_VMAS);
}

uint64_t count_names(unsigned int n)
{
	char text[64], *end;
	uint64_t objects;

	(void)n;
	read_file(MODULE_NAMES, text, sizeof(text));
	objects = strtoull(text, &end, 10);
	if (end == text)
		die("no number in " MODULE_NAMES ": %s", text);
	return objects;
}
