// SPDX-License-Identifier: GPL-2.0
/*
 * vmlean-stat: show what vmlean.ko counts, once or every few seconds, or what it
 * finds in the anon_vmas of a process.
 *
 * It knows no counter: names, their order and their meaning come from the files
 * in debugfs (Documentation/ABI/testing/debugfs-vmlean).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define FORMAT 1	/* version of the files that is understood here */
#define HEADER_EVERY 20	/* lines */

/* One line of a stats file. */
struct item {
	char *name;
	char *help;
	bool gauge;		/* a state of now, not a number of events */
	bool shown;
	unsigned long long now;
	unsigned long long before;
};

/* One folder. */
struct feature {
	char *name;
	struct item *items;
	size_t nr;
};

static const char *debugfs = "/sys/kernel/debug";
static const char *only;	/* the feature asked for, or NULL: all */
static bool json, all;
static struct feature *features;
static size_t nr_features;

static const char usage[] =
"usage: vmlean-stat [options] [feature] [interval [count]]\n"
"       vmlean-stat --check PID\n"
"\n"
"Without an interval: what was counted since boot, or since the last clear.\n"
"With one: what was counted in each interval (seconds), count times.\n"
"\n"
"  -a, --all            show counters that are 0, too\n"
"  -c, --check PID      check the anon_vmas of a process; 3 if a fault is found\n"
"  -j, --json           one JSON object a line\n"
"  -d, --debugfs DIR    where debugfs is mounted (/sys/kernel/debug)\n"
"  -h, --help           this text\n"
"  -V, --version        version of this program\n";

static void *check(void *p)
{
	if (!p)
		errx(1, "out of memory");
	return p;
}

/* Name the reason why @path cannot be read, and the way out. */
static void die_unreadable(const char *path)
{
	int err = errno;
	struct statfs fs;

	if (err == EACCES || err == EPERM)
		errx(1, "%s is for root: run it with sudo", path);
	if (err == ENOENT || err == ENOTDIR) {
		if (statfs(debugfs, &fs) || fs.f_type != DEBUGFS_MAGIC)
			errx(1, "debugfs is not mounted: mount -t debugfs none %s", debugfs);
		errx(1, "vmlean.ko is not loaded: modprobe vmlean, or insmod its file");
	}
	errx(1, "%s: %s", path, strerror(err));
}

static FILE *open_file(const char *feature, const char *file)
{
	char *path;
	FILE *f;

	if (asprintf(&path, "%s/vmlean/%s/%s", debugfs, feature, file) < 0)
		errx(1, "out of memory");
	f = fopen(path, "re");
	if (!f)
		die_unreadable(path);
	free(path);
	return f;
}

static struct item *find_item(struct feature *f, const char *name)
{
	size_t i;

	for (i = 0; i < f->nr; i++)
		if (!strcmp(f->items[i].name, name))
			return &f->items[i];
	return NULL;
}

static struct item *add_item(struct feature *f, const char *name)
{
	struct item *item;

	f->items = check(reallocarray(f->items, f->nr + 1, sizeof(*item)));
	item = &f->items[f->nr++];
	*item = (struct item){
		.name = check(strdup(name)),
		.help = check(strdup("")),
		.gauge = true,
	};
	return item;
}

/* Split "name rest\n"; false for anything else. */
static bool split(char *line, char **rest)
{
	size_t len = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_");

	*rest = line + len + 1;
	if (!len || line[len] != ' ')
		return false;
	line[len] = 0;
	(*rest)[strcspn(*rest, "\n")] = 0;
	return **rest;
}

static void read_stats(struct feature *f)
{
	unsigned long long value;
	char *line = NULL, *rest, *end;
	FILE *file = open_file(f->name, "stats");
	struct item *item;
	bool first = true;
	size_t size = 0;

	while (getline(&line, &size, file) > 0) {
		if (!split(line, &rest))
			errx(1, "%s/stats: a line is not \"name value\"", f->name);
		errno = 0;
		value = strtoull(rest, &end, 10);
		if (errno || *end || !isdigit(*rest))
			errx(1, "%s/stats: the value of %s is not a number", f->name, line);
		if (first && (strcmp(line, "version") || value != FORMAT))
			errx(1, "%s/stats has another format: take the vmlean-stat of that module",
			     f->name);
		if (!first) {
			item = find_item(f, line);
			if (!item)
				item = add_item(f, line);
			item->now = value;
		}
		first = false;
	}
	if (ferror(file) || first)
		errx(1, "%s/stats cannot be read: %s", f->name,
		     first ? "it is empty" : strerror(errno));
	free(line);
	fclose(file);
}

/* What has no count of a CPU is no counter but a gauge. */
static void read_kinds(struct feature *f)
{
	FILE *file = open_file(f->name, "percpu");
	char *line = NULL, *name, *rest;
	struct item *item;
	size_t size = 0;

	if (getline(&line, &size, file) > 0 && getline(&line, &size, file) > 0)
		for (rest = line; (name = strsep(&rest, "\n "));) {
			item = find_item(f, name);
			if (item)
				item->gauge = false;
		}
	free(line);
	fclose(file);
}

static void read_help(struct feature *f)
{
	FILE *file = open_file(f->name, "help");
	char *line = NULL, *rest;
	struct item *item;
	size_t size = 0;

	while (getline(&line, &size, file) > 0) {
		item = split(line, &rest) ? find_item(f, line) : NULL;
		if (item) {
			free(item->help);
			item->help = check(strdup(rest));
		}
	}
	free(line);
	fclose(file);
}

static void find_features(void)
{
	struct dirent **entries;
	struct stat st;
	char *path, *stats;
	int i, n;

	if (asprintf(&path, "%s/vmlean", debugfs) < 0)
		errx(1, "out of memory");
	n = scandir(path, &entries, NULL, alphasort);
	if (n < 0)
		die_unreadable(path);
	for (i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;

		if (asprintf(&stats, "%s/%s/stats", path, name) < 0)
			errx(1, "out of memory");
		if (*name != '.' && !stat(stats, &st) && (!only || !strcmp(only, name))) {
			features = check(reallocarray(features, nr_features + 1,
						      sizeof(*features)));
			features[nr_features++] = (struct feature){
				.name = check(strdup(name)),
			};
		}
		free(stats);
		free(entries[i]);
	}
	free(entries);
	if (!nr_features)
		errx(1, only ? "no feature %s: see ls %s" : "no feature%s in %s",
		     only ? only : "", path);
	free(path);
}

/* A counter that fell was cleared meanwhile: it counts from 0. */
static unsigned long long value_of(const struct item *item, bool delta)
{
	if (!delta || item->gauge || item->now < item->before)
		return item->now;
	return item->now - item->before;
}

static double seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void print_json(bool delta, double elapsed)
{
	size_t i, j;

	printf("{\"time\": %.3f", seconds(CLOCK_REALTIME));
	if (delta)
		printf(", \"seconds\": %.3f", elapsed);
	for (i = 0; i < nr_features; i++) {
		printf(", \"%s\": {", features[i].name);
		for (j = 0; j < features[i].nr; j++)
			printf("%s\"%s\": %llu", j ? ", " : "", features[i].items[j].name,
			       value_of(&features[i].items[j], delta));
		putchar('}');
	}
	puts("}");
}

static bool wanted(const struct item *item)
{
	return all || item->gauge || item->now || item->before;
}

static void print_totals(void)
{
	struct item *item;
	size_t i;

	for (i = 0; i < nr_features; i++) {
		printf("%s%s\n", i ? "\n" : "", features[i].name);
		for (item = features[i].items; item < features[i].items + features[i].nr; item++)
			if (wanted(item))
				printf("  %-20s %12llu  %s\n", item->name, item->now, item->help);
	}
}

static int width_of(const struct item *item)
{
	int len = strlen(item->name);

	return len < 8 ? 8 : len;
}

static void print_header(void)
{
	struct item *item;
	size_t i;
	int pad;

	for (i = 0; i < nr_features; i++) {
		pad = 0;
		for (item = features[i].items; item < features[i].items + features[i].nr; item++) {
			item->shown = wanted(item);
			pad += item->shown ? width_of(item) + 1 : 0;
		}
		pad -= strlen(features[i].name) + 3;
		printf("%s- %s ", i ? " " : "", features[i].name);
		while (pad-- > 0)
			putchar('-');
	}
	putchar('\n');
	for (i = 0; i < nr_features; i++) {
		for (item = features[i].items; item < features[i].items + features[i].nr; item++)
			if (item->shown)
				printf(" %*s", width_of(item), item->name);
		printf("%s", i + 1 < nr_features ? " " : "\n");
	}
}

static void print_line(void)
{
	static unsigned int lines;
	struct item *item;
	bool news = false;
	size_t i;

	for (i = 0; i < nr_features; i++)
		for (item = features[i].items; item < features[i].items + features[i].nr; item++)
			news |= wanted(item) && !item->shown;
	if (news || lines % HEADER_EVERY == 0) {
		lines = 0;
		print_header();
	}
	lines++;
	for (i = 0; i < nr_features; i++) {
		for (item = features[i].items; item < features[i].items + features[i].nr; item++)
			if (item->shown)
				printf(" %*llu", width_of(item), value_of(item, true));
		printf("%s", i + 1 < nr_features ? " " : "\n");
	}
}

static void read_all(void)
{
	struct feature *f;
	struct item *item;

	for (f = features; f < features + nr_features; f++) {
		for (item = f->items; item < f->items + f->nr; item++)
			item->before = item->now;
		read_stats(f);
	}
}

static void flush(void)
{
	if (fflush(stdout) || ferror(stdout))
		errx(1, "cannot write the output: %s", strerror(errno));
}

static void watch(double interval, unsigned long count)
{
	double next, before = seconds(CLOCK_MONOTONIC), now;
	struct timespec ts;

	for (next = before + interval; ; next += interval) {
		ts.tv_sec = next;
		ts.tv_nsec = (next - ts.tv_sec) * 1e9;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
		read_all();
		now = seconds(CLOCK_MONOTONIC);
		if (json)
			print_json(true, now - before);
		else
			print_line();
		before = now;
		flush();
		if (count && !--count)
			break;
	}
}

static const char *why_not_checked(void)
{
	switch (errno) {
	case ESRCH:
		return "there is no such process, or it has exited";
	case EINVAL:
		return "no PID of a user process";
	case EACCES:
		return "you may not trace it";
	default:
		return strerror(errno);
	}
}

/* @path is anon_vma/check, which cannot be opened. */
static void die_unchecked(char *path)
{
	int err = errno;

	path[strlen(path) - strlen("/anon_vma/check")] = 0;
	if (err == ENOENT && !access(path, F_OK))
		errx(1, "this kernel checks nothing: CONFIG_ANON_VMA_CHECK is off");
	errno = err;
	die_unreadable(path);
}

/* What the checker of the kernel says of a process: the exit status. */
static int check_process(const char *pid)
{
	unsigned long long faults = 0;
	char *path, *line = NULL;
	size_t size = 0;
	FILE *file;
	int fd;

	if (asprintf(&path, "%s/vmlean/anon_vma/check", debugfs) < 0)
		errx(1, "out of memory");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die_unchecked(path);
	if (write(fd, pid, strlen(pid)) < 0 || lseek(fd, 0, SEEK_SET))
		errx(1, "process %s is not checked: %s", pid, why_not_checked());
	file = check(fdopen(fd, "r"));
	while (getline(&line, &size, file) > 0) {
		if (!strncmp(line, "faults ", 7))
			faults = strtoull(line + 7, NULL, 10);
		if (strncmp(line, "version ", 8))
			fputs(line, stdout);
	}
	if (ferror(file))
		errx(1, "%s cannot be read: %s", path, strerror(errno));
	free(line);
	free(path);
	fclose(file);
	flush();
	return faults ? 3 : 0;
}

static double number(const char *what, const char *text, double min, double max)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= min && v <= max))
		errx(1, "%s is not %s from %g to %g: see vmlean-stat --help", text, what, min, max);
	return v;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "check", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "debugfs", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{}
	};
	const char *pid = NULL;
	unsigned long count = 0;
	double interval = 0;
	size_t i;
	int c;

	while ((c = getopt_long(argc, argv, "ac:jd:hV", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			all = true;
			break;
		case 'c':
			pid = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'd':
			debugfs = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			flush();
			return 0;
		case 'V':
			puts("vmlean-stat " VERSION);
			flush();
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc && islower(*argv[optind]))
		only = argv[optind++];
	if (optind < argc)
		interval = number("an interval in seconds", argv[optind++], 0.01, 1e6);
	if (optind < argc)
		count = number("a count", argv[optind++], 1, 1e9);
	if (optind < argc)
		errx(1, "too many arguments: see vmlean-stat --help");
	if (pid)
		return check_process(pid);

	find_features();
	read_all();
	for (i = 0; i < nr_features; i++) {
		read_kinds(&features[i]);
		read_help(&features[i]);
	}
	if (interval)
		watch(interval, count);
	else if (json)
		print_json(false, 0);
	else
		print_totals();
	flush();
	return 0;
}
