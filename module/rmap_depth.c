// SPDX-License-Identifier: GPL-2.0
/*
 * anon_vma/rmap_depth: how many VMAs the walks of the reverse map visit, and in
 * how many of them they find the folio; see Documentation/ABI/testing/debugfs-vmlean.
 *
 * A walk that is counted looks twice at each VMA, so it counts only from when
 * somebody asks for it until he has seen enough.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/kstrtox.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <trace/events/rmap.h>

#include "anon_vma.h"
#include "stats.h"

/* Bucket 0 is for none, bucket n for 2^(n-1) up to 2^n - 1, the last for all above. */
#define BUCKETS 18

static const char *const type_names[] = {
	[RMAP_WALK_ANON] = "anon",
	[RMAP_WALK_KSM] = "ksm",
	[RMAP_WALK_FILE] = "file",
};

/* In the order in which they are shown. */
struct rmap_depth {
	unsigned long walks, contended, visited, hit;
	unsigned long visited_by[BUCKETS], hit_by[BUCKETS];
};

struct rmap_depths {
	struct rmap_depth of[ARRAY_SIZE(type_names)];
};

static struct rmap_depths __percpu *depths;

static DEFINE_MUTEX(counting_lock);
static bool counting;

static unsigned int bucket(unsigned int n)
{
	return min(n ? ilog2(n) + 1 : 0, BUCKETS - 1);
}

static void count_walk(void *unused, const struct folio *folio, enum rmap_walk_type type,
		       unsigned int visited, unsigned int hit, bool contended)
{
	this_cpu_inc(depths->of[type].walks);
	if (contended) {
		this_cpu_inc(depths->of[type].contended);
		return;
	}
	this_cpu_add(depths->of[type].visited, visited);
	this_cpu_add(depths->of[type].hit, hit);
	this_cpu_inc(depths->of[type].visited_by[bucket(visited)]);
	this_cpu_inc(depths->of[type].hit_by[bucket(hit)]);
}

/* All CPUs together: one word of struct rmap_depth, at @offset. */
static unsigned long sum(enum rmap_walk_type type, size_t offset)
{
	unsigned long all = 0;
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		all += *(unsigned long *)((void *)&per_cpu_ptr(depths, cpu)->of[type] + offset);
	return all;
}

#define show_sum(m, type, member)					\
	seq_printf(m, "%s_" #member " %lu\n", type_names[type],		\
		   sum(type, offsetof(struct rmap_depth, member)))

/* A line for each bucket up to the last that is not empty, named by its lower end. */
static void show_buckets(struct seq_file *m, enum rmap_walk_type type, const char *what,
			 size_t offset)
{
	unsigned long nr[BUCKETS];
	int i, last = -1;

	for (i = 0; i < BUCKETS; i++) {
		nr[i] = sum(type, offset + i * sizeof(*nr));
		if (nr[i])
			last = i;
	}
	for (i = 0; i <= last; i++)
		seq_printf(m, "%s_%s_%lu %lu\n", type_names[type], what,
			   i ? BIT(i - 1) : 0, nr[i]);
}

static int rmap_depth_show(struct seq_file *m, void *unused)
{
	enum rmap_walk_type type;

	seq_puts(m, VMLEAN_FORMAT);
	seq_printf(m, "counting %d\n", READ_ONCE(counting));
	for (type = 0; type < ARRAY_SIZE(type_names); type++) {
		show_sum(m, type, walks);
		show_sum(m, type, contended);
		show_sum(m, type, visited);
		show_sum(m, type, hit);
		show_buckets(m, type, "visited", offsetof(struct rmap_depth, visited_by));
		show_buckets(m, type, "hit", offsetof(struct rmap_depth, hit_by));
	}
	return 0;
}

static int count_from_now(void)
{
	unsigned int cpu;
	int err;

	guard(mutex)(&counting_lock);
	/* a walk that ends at this moment may be lost, or stay */
	for_each_possible_cpu(cpu)
		memset(per_cpu_ptr(depths, cpu), 0, sizeof(*depths));
	err = counting ? 0 : register_trace_rmap_walk_end(count_walk, NULL);
	if (!err)
		WRITE_ONCE(counting, true);
	return err;
}

static void count_no_more(void)
{
	guard(mutex)(&counting_lock);
	if (counting)
		unregister_trace_rmap_walk_end(count_walk, NULL);
	WRITE_ONCE(counting, false);
}

static ssize_t rmap_depth_write(struct file *file, const char __user *from, size_t len,
				loff_t *pos)
{
	int err;
	bool on;

	err = kstrtobool_from_user(from, len, &on);
	if (err)
		return err;
	if (on)
		err = count_from_now();
	else
		count_no_more();
	return err ? err : len;
}
DEFINE_SHOW_STORE_ATTRIBUTE(rmap_depth);

/**
 * vmlean_rmap_depth_init() - have room for what is counted
 *
 * Return: 0 or -ENOMEM.
 */
int vmlean_rmap_depth_init(void)
{
	depths = alloc_percpu(struct rmap_depths);
	return depths ? 0 : -ENOMEM;
}

/**
 * vmlean_rmap_depth_files() - show what was counted
 * @dir: the folder for it
 */
void vmlean_rmap_depth_files(struct dentry *dir)
{
	debugfs_create_file("rmap_depth", 0600, dir, NULL, &rmap_depth_fops);
}

/**
 * vmlean_rmap_depth_exit() - stop counting
 *
 * Context: The file is gone.
 */
void vmlean_rmap_depth_exit(void)
{
	count_no_more();
	/* also for walks that were counted until a moment ago */
	tracepoint_synchronize_unregister();
	free_percpu(depths);
}
