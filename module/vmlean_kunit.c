// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit suite of what vmlean.ko shows and accepts, against counters of its own:
 * it needs the header of the series, but none of its features.
 */
#include <kunit/test.h>
#include <linux/ctype.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/sizes.h>

/* Not a shared object: the suite sees what is static, vmlean.ko stays as it is. */
#include "stats.c"

static struct vmlean_events fake;

/* CPUs differ by a number that no gauge notices: its weights add up to 0. */
static void fake_snapshot(unsigned int cpu, struct vmlean_events *to)
{
	int i;

	for (i = 0; i < NR_VMLEAN_EVENTS; i++)
		to->nr[i] = fake.nr[i] + cpu;
}

static struct vmlean_stats stats = {
	.snapshot = fake_snapshot,
	.lock = __MUTEX_INITIALIZER(stats.lock),
};

static const struct vmlean_counter *const first = vmlean_counters;
static int nr_first;	/* events of the first feature: 0 .. nr_first - 1 */

static int vmlean_test_init(struct kunit *test)
{
	int i;

	nr_first = event(vmlean_next_feature(first));
	stats.base = alloc_percpu(struct vmlean_events);
	if (!stats.base)
		return -ENOMEM;
	for (i = 0; i < NR_VMLEAN_EVENTS; i++)
		fake.nr[i] = 1000 * (i + 1);
	return 0;
}

static void vmlean_test_exit(struct kunit *test)
{
	free_percpu(stats.base);
}

/* What all CPUs together have counted of event @i since boot. */
static unsigned long raw_sum(int i)
{
	unsigned long sum = 0;
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		sum += fake.nr[i] + cpu;
	return sum;
}

enum view { STATS, PERCPU, HELP };

static void show(struct seq_file *m, enum view view)
{
	if (view == STATS)
		vmlean_show_stats(m, &stats, first);
	else if (view == PERCPU)
		vmlean_show_percpu(m, &stats, first);
	else
		vmlean_show_help(m, first);
}

/* As seq_read() does: a larger buffer until the text fits. */
static const char *text(struct kunit *test, enum view view, size_t size)
{
	for (; size <= SZ_1M; size *= 2) {
		struct seq_file m = {
			.buf = kunit_kzalloc(test, size, GFP_KERNEL),
			.size = size,
		};

		KUNIT_ASSERT_NOT_NULL(test, m.buf);
		show(&m, view);
		if (!seq_has_overflowed(&m))
			return m.buf;
	}
	KUNIT_FAIL_AND_ABORT(test, "it never fits");
	return NULL;
}

/* The value in the line of stats that starts with @name. */
static unsigned long value(struct kunit *test, const char *name)
{
	const char *line = text(test, STATS, PAGE_SIZE);
	size_t len = strlen(name);
	unsigned long v;

	for (; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == ' ' &&
		    sscanf(line + len, " %lu", &v) == 1)
			return v;
	}
	KUNIT_FAIL_AND_ABORT(test, "no line %s", name);
	return 0;
}

static bool is_name(const char *name)
{
	if (!islower(*name))
		return false;
	while (*++name)
		if (!islower(*name) && !isdigit(*name) && *name != '_')
			return false;
	return true;
}

static void check_name(struct kunit *test, const struct vmlean_counter *c)
{
	int i, seen = 0;

	KUNIT_EXPECT_TRUE_MSG(test, is_name(c->feature), "%s", c->feature);
	KUNIT_EXPECT_TRUE_MSG(test, is_name(c->name), "%s", c->name);
	KUNIT_EXPECT_STRNEQ(test, c->name, "version");
	KUNIT_EXPECT_STRNEQ(test, c->name, "cpu");
	KUNIT_EXPECT_GT(test, strlen(c->help), 0);
	KUNIT_EXPECT_NULL(test, strchr(c->help, '\n'));

	for (i = 0; i < NR_VMLEAN_EVENTS; i++)
		seen += same_feature(&vmlean_counters[i], c) &&
			!strcmp(vmlean_counters[i].name, c->name);
	for (i = 0; i < ARRAY_SIZE(vmlean_gauges); i++)
		seen += same_feature(&vmlean_gauges[i].is, c) &&
			!strcmp(vmlean_gauges[i].is.name, c->name);
	KUNIT_EXPECT_EQ_MSG(test, seen, 1, "%s/%s", c->feature, c->name);
}

/* Lines, rows and JSON keys need no quoting and no order to be told apart. */
static void names(struct kunit *test)
{
	int i;

	for (i = 0; i < NR_VMLEAN_EVENTS; i++)
		check_name(test, &vmlean_counters[i]);
	for (i = 0; i < ARRAY_SIZE(vmlean_gauges); i++)
		check_name(test, &vmlean_gauges[i].is);
}

/* One folder a feature: its counters follow each other; a gauge has one, too. */
static void features(struct kunit *test)
{
	const struct vmlean_counter *c, *next, *end = vmlean_counters + NR_VMLEAN_EVENTS;
	int i, homes;

	for (c = vmlean_counters; c < end; c = next) {
		next = vmlean_next_feature(c);
		KUNIT_ASSERT_GT(test, next - c, 0);
		for (i = next - vmlean_counters; i < NR_VMLEAN_EVENTS; i++)
			KUNIT_EXPECT_FALSE_MSG(test, same_feature(&vmlean_counters[i], c),
					       "%s is in two places", c->feature);
	}
	for (i = 0; i < ARRAY_SIZE(vmlean_gauges); i++) {
		homes = 0;
		for (c = vmlean_counters; c < end; c = vmlean_next_feature(c))
			homes += same_feature(c, &vmlean_gauges[i].is);
		KUNIT_EXPECT_EQ_MSG(test, homes, 1, "%s", vmlean_gauges[i].is.name);
	}
}

static void stats_lines(struct kunit *test)
{
	const char *line = text(test, STATS, PAGE_SIZE);
	const struct vmlean_gauge *g;
	char expected[80];
	size_t len;
	int i;

	KUNIT_ASSERT_EQ(test, strncmp(line, "version 1\n", 10), 0);
	line += 10;
	for (i = 0; i < nr_first; i++) {
		len = scnprintf(expected, sizeof(expected), "%s %lu\n",
				vmlean_counters[i].name, raw_sum(i));
		KUNIT_ASSERT_EQ_MSG(test, strncmp(line, expected, len), 0,
				    "%s instead of %s", line, expected);
		line += len;
	}
	for (g = vmlean_gauges; g < vmlean_gauges + ARRAY_SIZE(vmlean_gauges); g++) {
		if (!same_feature(&g->is, first))
			continue;
		len = strlen(g->is.name);
		KUNIT_ASSERT_EQ(test, strncmp(line, g->is.name, len), 0);
		line = strchr(line, '\n');
		KUNIT_ASSERT_NOT_NULL(test, line);
		line++;
	}
	KUNIT_EXPECT_STREQ(test, line, "");
}

static void percpu_rows(struct kunit *test)
{
	const char *at = text(test, PERCPU, PAGE_SIZE);
	char expected[80];
	unsigned int cpu;
	size_t len;
	int i;

#define EXPECT_NEXT(...) do {							\
	len = scnprintf(expected, sizeof(expected), __VA_ARGS__);		\
	KUNIT_ASSERT_EQ_MSG(test, strncmp(at, expected, len), 0,		\
			    "%s instead of %s", at, expected);			\
	at += len;								\
} while (0)

	EXPECT_NEXT("version 1\ncpu");
	for (i = 0; i < nr_first; i++)
		EXPECT_NEXT(" %s", vmlean_counters[i].name);
	EXPECT_NEXT("\n");
	for_each_possible_cpu(cpu) {
		EXPECT_NEXT("%u", cpu);
		for (i = 0; i < nr_first; i++)
			EXPECT_NEXT(" %lu", fake.nr[i] + cpu);
		EXPECT_NEXT("\n");
	}
	KUNIT_EXPECT_STREQ(test, at, "");
#undef EXPECT_NEXT
}

static void clear(struct kunit *test)
{
	int i;

	vmlean_clear(&stats, first);
	for (i = 0; i < nr_first; i++)
		KUNIT_EXPECT_EQ(test, value(test, vmlean_counters[i].name), 0);
	for (i = 0; i < nr_first; i++)
		fake.nr[i] += i;
	for (i = 0; i < nr_first; i++)
		KUNIT_EXPECT_EQ(test, value(test, vmlean_counters[i].name),
				(unsigned long)i * num_possible_cpus());
	vmlean_clear(&stats, first);
	KUNIT_EXPECT_EQ(test, value(test, first[1].name), 0);
}

/* A clear of one feature leaves the base of all others alone. */
static void clear_is_of_one_feature(struct kunit *test)
{
	const struct vmlean_events *base;
	unsigned int cpu;
	int i;

	vmlean_clear(&stats, first);
	for_each_possible_cpu(cpu) {
		base = per_cpu_ptr(stats.base, cpu);
		for (i = 0; i < NR_VMLEAN_EVENTS; i++)
			KUNIT_EXPECT_EQ(test, base->nr[i],
					same_feature(&vmlean_counters[i], first) ?
					fake.nr[i] + cpu : 0);
	}
}

static void wrap_around(struct kunit *test)
{
	int i;

	for (i = 0; i < nr_first; i++)
		fake.nr[i] = ULONG_MAX - 2;
	vmlean_clear(&stats, first);
	for (i = 0; i < nr_first; i++)
		fake.nr[i] += 5;
	for (i = 0; i < nr_first; i++)
		KUNIT_EXPECT_EQ(test, value(test, vmlean_counters[i].name),
				5UL * num_possible_cpus());
}

static void cached(struct kunit *test)
{
	unsigned long n = num_possible_cpus();
	unsigned long *nr = fake.nr;

	nr[VMLEAN_vma_recycle_puts] = 70;
	nr[VMLEAN_vma_recycle_prepopulated] = 30;
	nr[VMLEAN_vma_recycle_hits] = 50;
	nr[VMLEAN_vma_recycle_drained] = 10;
	KUNIT_EXPECT_EQ(test, value(test, "cached"), 40 * n);

	/* no event changes by a clear, so no cache does */
	vmlean_clear(&stats, first);
	KUNIT_EXPECT_EQ(test, value(test, "puts"), 0);
	KUNIT_EXPECT_EQ(test, value(test, "cached"), 40 * n);

	/* a put that was read before a hit was counted */
	nr[VMLEAN_vma_recycle_hits] = 91;
	KUNIT_EXPECT_EQ(test, value(test, "cached"), 0);

	nr[VMLEAN_vma_recycle_hits] = ULONG_MAX - 5;
	nr[VMLEAN_vma_recycle_puts] = 4;
	nr[VMLEAN_vma_recycle_prepopulated] = 0;
	nr[VMLEAN_vma_recycle_drained] = 0;
	KUNIT_EXPECT_EQ(test, value(test, "cached"), 10 * n);
}

static void parse(struct kunit *test)
{
	static const char * const refused[] = {
		"", "\n", " ", "1", "00", "0x", "0x0", "-0", "+0", " 0", "0 ",
		"0\n\n", "\n0", "0\t", "0\r\n", "off", "-1", "0.", "a", "0a",
		"00000000000000000000000000000000000000000000000000000000000",
		"18446744073709551616",
	};
	int i;

	KUNIT_EXPECT_EQ(test, vmlean_parse_clear("0", 1), 0);
	KUNIT_EXPECT_EQ(test, vmlean_parse_clear("0\n", 2), 0);
	KUNIT_EXPECT_EQ(test, vmlean_parse_clear("0\0", 2), -EINVAL);
	for (i = 0; i < ARRAY_SIZE(refused); i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    vmlean_parse_clear(refused[i], strlen(refused[i])),
				    "\"%s\"", refused[i]);
}

/* A text that does not fit is shown again, whole, in a larger buffer. */
static void buffer_growth(struct kunit *test)
{
	enum view view;

	for (view = STATS; view <= HELP; view++)
		KUNIT_EXPECT_STREQ(test, text(test, view, 1), text(test, view, SZ_64K));
}

/* The same names as in stats, in the same order; text after each. */
static void help_lines(struct kunit *test)
{
	const char *help = text(test, HELP, PAGE_SIZE);
	const char *line = text(test, STATS, PAGE_SIZE);
	size_t len;

	while (*line) {
		len = strchr(line, ' ') + 1 - line;
		KUNIT_ASSERT_EQ_MSG(test, strncmp(help, line, len), 0,
				    "%s instead of %s", help, line);
		KUNIT_EXPECT_TRUE(test, isgraph(help[len]));
		line = strchr(line, '\n') + 1;
		help = strchr(help, '\n') + 1;
	}
	KUNIT_EXPECT_STREQ(test, help, "");
}

static struct kunit_case vmlean_test_cases[] = {
	KUNIT_CASE(names),
	KUNIT_CASE(features),
	KUNIT_CASE(stats_lines),
	KUNIT_CASE(percpu_rows),
	KUNIT_CASE(help_lines),
	KUNIT_CASE(clear),
	KUNIT_CASE(clear_is_of_one_feature),
	KUNIT_CASE(wrap_around),
	KUNIT_CASE(cached),
	KUNIT_CASE(parse),
	KUNIT_CASE(buffer_growth),
	{}
};

static struct kunit_suite vmlean_test_suite = {
	.name = "vmlean",
	.init = vmlean_test_init,
	.exit = vmlean_test_exit,
	.test_cases = vmlean_test_cases,
};

kunit_test_suite(vmlean_test_suite);

MODULE_DESCRIPTION("KUnit suite of vmlean.ko");
MODULE_LICENSE("GPL");
