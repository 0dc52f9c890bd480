// SPDX-License-Identifier: GPL-2.0
/*
 * vmlean.ko: what the vmlean series saves, in /sys/kernel/debug/vmlean/.
 *
 * Every file is made from the list of events in <linux/vmlean.h>: a feature
 * that is added there has its folder here.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "anon_vma.h"
#include "stats.h"

static struct vmlean_stats kernel_stats = {
	.snapshot = vmlean_snapshot,
	.lock = __MUTEX_INITIALIZER(kernel_stats.lock),
};

static struct dentry *vmlean_dir;

static int version_show(struct seq_file *m, void *unused)
{
	seq_puts(m, VMLEAN_VERSION "\n");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(version);

static int help_show(struct seq_file *m, void *unused)
{
	vmlean_show_help(m, m->private);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(help);

static int percpu_show(struct seq_file *m, void *unused)
{
	vmlean_show_percpu(m, &kernel_stats, m->private);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(percpu);

static int stats_show(struct seq_file *m, void *unused)
{
	vmlean_show_stats(m, &kernel_stats, m->private);
	return 0;
}

static ssize_t stats_write(struct file *file, const char __user *from,
			   size_t len, loff_t *pos)
{
	struct seq_file *m = file->private_data;
	char buf[2];
	int err;

	if (len > sizeof(buf))
		return -EINVAL;
	if (copy_from_user(buf, from, len))
		return -EFAULT;
	err = vmlean_parse_clear(buf, len);
	if (err)
		return err;
	vmlean_clear(&kernel_stats, m->private);
	return len;
}
DEFINE_SHOW_STORE_ATTRIBUTE(stats);

static int __init vmlean_init(void)
{
	const struct vmlean_counter *c, *end = vmlean_counters + NR_VMLEAN_EVENTS;
	int err;

	kernel_stats.base = alloc_percpu(struct vmlean_events);
	if (!kernel_stats.base)
		return -ENOMEM;

	vmlean_dir = debugfs_create_dir("vmlean", NULL);
	if (IS_ERR(vmlean_dir)) {
		pr_err("no debugfs: it needs CONFIG_DEBUG_FS=y and no debugfs=off on the kernel's command line\n");
		free_percpu(kernel_stats.base);
		return PTR_ERR(vmlean_dir);
	}
	err = vmlean_rmap_depth_init();
	if (err) {
		debugfs_remove(vmlean_dir);
		free_percpu(kernel_stats.base);
		return err;
	}

	/* From here on files may be open: no way back, and debugfs needs none. */
	debugfs_create_file("version", 0400, vmlean_dir, NULL, &version_fops);
	for (c = vmlean_counters; c < end; c = vmlean_next_feature(c)) {
		struct dentry *dir = debugfs_create_dir(c->feature, vmlean_dir);

		debugfs_create_file("stats", 0600, dir, (void *)c, &stats_fops);
		debugfs_create_file("percpu", 0400, dir, (void *)c, &percpu_fops);
		debugfs_create_file("help", 0400, dir, (void *)c, &help_fops);
		if (!strcmp(c->feature, "anon_vma")) {
			vmlean_rmap_depth_files(dir);
			vmlean_check_files(dir);
		}
	}
	return 0;
}
module_init(vmlean_init);

static void __exit vmlean_exit(void)
{
	/* waits for those who are inside a file operation */
	debugfs_remove(vmlean_dir);
	vmlean_rmap_depth_exit();
	free_percpu(kernel_stats.base);
}
module_exit(vmlean_exit);

MODULE_DESCRIPTION("Statistics of the vmlean series in debugfs");
MODULE_VERSION(VMLEAN_VERSION);
MODULE_LICENSE("GPL");
