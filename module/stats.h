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

/*
 * X(feature, gauge, help, weight of each event)
 *
 * A gauge is a state of now: the weighted sum of events since boot, which no
 * clear changes. Counters themselves are listed in <linux/vmlean.h>.
 */
#define VMLEAN_GAUGES(X)						\
	X(vma_recycle, cached, "VMAs in the tasks' caches now",		\
	  [VMLEAN_vma_recycle_puts] = 1,				\
	  [VMLEAN_vma_recycle_prepopulated] = 1,			\
	  [VMLEAN_vma_recycle_hits] = -1,				\
	  [VMLEAN_vma_recycle_drained] = -1)				\
	X(anon_name, names, "name objects that exist now",		\
	  [VMLEAN_anon_name_copies] = 1,				\
	  [VMLEAN_anon_name_freed] = -1)				\
	X(anon_name, vmas, "VMAs that have a name now",			\
	  [VMLEAN_anon_name_shares] = 1,				\
	  [VMLEAN_anon_name_saturation_copies] = 1,			\
	  [VMLEAN_anon_name_dropped] = -1)				\
	X(anon_vma, anon_vmas_avoided,					\
	  "anon_vmas not allocated, less those that faults then needed", \
	  VMLEAN_AVOIDED(1, 0, 1))					\
	X(anon_vma, chains_avoided,					\
	  "links to anon_vmas not allocated, less those likewise",	\
	  VMLEAN_AVOIDED(1, 1, 2))					\
	X(anon_vma, bytes_saved,					\
	  "the size of both",						\
	  VMLEAN_AVOIDED(sizeof(struct anon_vma) + sizeof(struct anon_vma_chain), \
			 sizeof(struct anon_vma_chain),			\
			 sizeof(struct anon_vma) + 2 * sizeof(struct anon_vma_chain)))

/*
 * What a VMA would have had allocated that a guard flagged, that was copied (by
 * a split or mremap) from one that is flagged, and that a child got.
 */
#define VMLEAN_AVOIDED(guard, copy, child)				\
	  [VMLEAN_anon_vma_flagged] = guard,				\
	  [VMLEAN_anon_vma_upgraded] = -(s16)(guard),			\
	  [VMLEAN_anon_vma_split] = copy,				\
	  [VMLEAN_anon_vma_copied] = copy,				\
	  [VMLEAN_anon_vma_forked] = child

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
