/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The text of vmlean.ko's files, apart from where they are and what counts;
 * main.c shows the kernel's counters in it, the KUnit suite its own.
 */
#ifndef _VMLEAN_STATS_H
#define _VMLEAN_STATS_H

#ifndef CONFIG_VMLEAN_STATS
#error "vmlean.ko needs CONFIG_VMLEAN_STATS=y: a kernel with the vmlean series"
#endif

#include <linux/mutex.h>
#include <linux/percpu-defs.h>
#include <linux/rmap.h>
#include <linux/types.h>
#include <linux/vmlean.h>

struct seq_file;

/* Of all files; rises when a line changes its form, not when one is added. */
#define VMLEAN_FORMAT "version 1\n"

/**
 * struct vmlean_counter - one counter, in the order of enum vmlean_event
 * @feature: its folder; the counters of a feature follow each other
 * @name: its line
 * @help: what one unit of it means
 *
 * A pointer to the first counter of a feature stands for that feature.
 */
struct vmlean_counter {
	const char *feature;
	const char *name;
	const char *help;
};

extern const struct vmlean_counter vmlean_counters[NR_VMLEAN_EVENTS];

/**
 * struct vmlean_stats - a source of counters, and when it was cleared
 * @snapshot: copies the counters of one possible CPU
 * @base: what each CPU's counters were at their last clear
 * @lock: guards @base and the scratch: no file shows half a clear
 * @cpu: scratch: the CPU being looked at
 * @sum: scratch: all CPUs
 */
struct vmlean_stats {
	void (*snapshot)(unsigned int cpu, struct vmlean_events *to);
	struct vmlean_events __percpu *base;
	struct mutex lock;	/* guards base, cpu, sum */
	struct vmlean_events cpu;
	struct vmlean_events sum;
};

const struct vmlean_counter *vmlean_next_feature(const struct vmlean_counter *first);
void vmlean_show_stats(struct seq_file *m, struct vmlean_stats *stats,
		       const struct vmlean_counter *first);
void vmlean_show_percpu(struct seq_file *m, struct vmlean_stats *stats,
			const struct vmlean_counter *first);
void vmlean_show_help(struct seq_file *m, const struct vmlean_counter *first);
int vmlean_parse_clear(const char *buf, size_t len);
void vmlean_clear(struct vmlean_stats *stats, const struct vmlean_counter *first);

#endif /* _VMLEAN_STATS_H */
