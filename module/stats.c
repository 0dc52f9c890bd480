// SPDX-License-Identifier: GPL-2.0
/*
 * Counters to text, and the clear; see Documentation/ABI/testing/debugfs-vmlean.
 *
 * All arithmetic is that of unsigned long: a difference stays right when a
 * counter wraps.
 */
#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/cpumask.h>
#include <linux/errno.h>
#include <linux/lockdep.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "stats.h"

const struct vmlean_counter vmlean_counters[] = {
#define X(feature, event, help) { #feature, #event, help },
	VMLEAN_EVENTS(X)
#undef X
};

static const struct vmlean_gauge {
	struct vmlean_counter is;
	s16 weight[NR_VMLEAN_EVENTS];
} vmlean_gauges[] = {
#define X(feature, gauge, help, ...) { { #feature, #gauge, help }, { __VA_ARGS__ } },
	VMLEAN_GAUGES(X)
#undef X
};

static bool same_feature(const struct vmlean_counter *a,
			 const struct vmlean_counter *b)
{
	return !strcmp(a->feature, b->feature);
}

/**
 * vmlean_next_feature() - where the counters of a feature end
 * @first: first counter of the feature
 *
 * Return: the first counter of the next feature, or the end of vmlean_counters.
 */
const struct vmlean_counter *vmlean_next_feature(const struct vmlean_counter *first)
{
	const struct vmlean_counter *c = first;

	while (c < vmlean_counters + NR_VMLEAN_EVENTS && same_feature(c, first))
		c++;
	return c;
}

static int event(const struct vmlean_counter *c)
{
	return c - vmlean_counters;
}

/* Since boot into @stats->cpu; returns the base to count from. */
static struct vmlean_events *look_at_cpu(struct vmlean_stats *stats, unsigned int cpu)
{
	lockdep_assert_held(&stats->lock);
	stats->snapshot(cpu, &stats->cpu);
	return per_cpu_ptr(stats->base, cpu);
}

/**
 * vmlean_show_stats() - "name value" lines: counters, then gauges
 * @m: where to print them
 * @stats: source
 * @first: feature
 */
void vmlean_show_stats(struct seq_file *m, struct vmlean_stats *stats,
		       const struct vmlean_counter *first)
{
	const struct vmlean_counter *c, *end = vmlean_next_feature(first);
	const struct vmlean_gauge *g;
	unsigned int cpu;
	int i;

	guard(mutex)(&stats->lock);
	memset(&stats->sum, 0, sizeof(stats->sum));
	for_each_possible_cpu(cpu) {
		look_at_cpu(stats, cpu);
		for (i = 0; i < NR_VMLEAN_EVENTS; i++)
			stats->sum.nr[i] += stats->cpu.nr[i];
	}

	seq_puts(m, VMLEAN_FORMAT);
	for (c = first; c < end; c++) {
		unsigned long value = stats->sum.nr[event(c)];

		for_each_possible_cpu(cpu)
			value -= per_cpu_ptr(stats->base, cpu)->nr[event(c)];
		seq_printf(m, "%s %lu\n", c->name, value);
	}
	for (g = vmlean_gauges; g < vmlean_gauges + ARRAY_SIZE(vmlean_gauges); g++) {
		unsigned long value = 0;

		if (!same_feature(&g->is, first))
			continue;
		for (i = 0; i < NR_VMLEAN_EVENTS; i++)
			value += g->weight[i] * stats->sum.nr[i];
		/* events are not read all at once: it may seem to be below 0 */
		seq_printf(m, "%s %lu\n", g->is.name, (long)value < 0 ? 0 : value);
	}
}

/**
 * vmlean_show_percpu() - a row of counters for each possible CPU
 * @m: where to print them
 * @stats: source
 * @first: feature
 */
void vmlean_show_percpu(struct seq_file *m, struct vmlean_stats *stats,
			const struct vmlean_counter *first)
{
	const struct vmlean_counter *c, *end = vmlean_next_feature(first);
	unsigned int cpu;

	seq_puts(m, VMLEAN_FORMAT "cpu");
	for (c = first; c < end; c++)
		seq_printf(m, " %s", c->name);
	seq_putc(m, '\n');

	guard(mutex)(&stats->lock);
	for_each_possible_cpu(cpu) {
		const struct vmlean_events *base = look_at_cpu(stats, cpu);

		seq_printf(m, "%u", cpu);
		for (c = first; c < end; c++)
			seq_printf(m, " %lu", stats->cpu.nr[event(c)] - base->nr[event(c)]);
		seq_putc(m, '\n');
	}
}

/**
 * vmlean_show_help() - "name meaning" lines, in the order of the stats
 * @m: where to print them
 * @first: feature
 */
void vmlean_show_help(struct seq_file *m, const struct vmlean_counter *first)
{
	const struct vmlean_counter *c, *end = vmlean_next_feature(first);
	const struct vmlean_gauge *g;

	seq_puts(m, VMLEAN_FORMAT);
	for (c = first; c < end; c++)
		seq_printf(m, "%s %s\n", c->name, c->help);
	for (g = vmlean_gauges; g < vmlean_gauges + ARRAY_SIZE(vmlean_gauges); g++)
		if (same_feature(&g->is, first))
			seq_printf(m, "%s %s\n", g->is.name, g->is.help);
}

/**
 * vmlean_parse_clear() - is it the one thing that may be written to stats?
 * @buf: what was written
 * @len: its length
 *
 * Return: 0 for "0" with or without a newline, else -EINVAL.
 */
int vmlean_parse_clear(const char *buf, size_t len)
{
	if ((len == 1 || (len == 2 && buf[1] == '\n')) && buf[0] == '0')
		return 0;
	return -EINVAL;
}

/**
 * vmlean_clear() - let the counters of a feature start from 0
 * @stats: source
 * @first: feature
 *
 * The kernel's counters go on; only where they are counted from changes.
 */
void vmlean_clear(struct vmlean_stats *stats, const struct vmlean_counter *first)
{
	const struct vmlean_counter *c, *end = vmlean_next_feature(first);
	unsigned int cpu;

	guard(mutex)(&stats->lock);
	for_each_possible_cpu(cpu) {
		struct vmlean_events *base = look_at_cpu(stats, cpu);

		for (c = first; c < end; c++)
			base->nr[event(c)] = stats->cpu.nr[event(c)];
	}
}
