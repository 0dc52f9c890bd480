// SPDX-License-Identifier: GPL-2.0
/*
 * anon_vma/check: write a PID, read what the kernel's checker says of its
 * anon_vmas; see Documentation/ABI/testing/debugfs-vmlean.
 *
 * Who reads from the file that they wrote to gets that verdict, whoever else
 * checks meanwhile; who opens it anew, as a shell does, the latest of all.
 */
#include <linux/anon_vma_check.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "anon_vma.h"
#include "stats.h"

struct verdict {
	int pid;	/* 0: none yet */
	struct anon_vma_check check;
};

static DEFINE_MUTEX(latest_lock);
static struct verdict latest;

struct check_file {
	struct mutex lock;	/* one check at a time; guards verdict */
	struct verdict verdict;
};

/* In the order of enum anon_vma_fault. */
static const char *const fault_texts[] = {
	"none",
#define X(fault, text) text,
	ANON_VMA_FAULTS(X)
#undef X
};

static void show_verdict(struct seq_file *m, const struct verdict *v)
{
	const struct anon_vma_check *check = &v->check;

	seq_puts(m, VMLEAN_FORMAT);
	if (!v->pid)
		return;
	seq_printf(m, "pid %d\n", v->pid);
	seq_printf(m, "vmas %lu\n", check->vmas);
	seq_printf(m, "chains %lu\n", check->chains);
	seq_printf(m, "anon_vmas %lu\n", check->anon_vmas);
	seq_printf(m, "folios %lu\n", check->folios);
	seq_printf(m, "faults %lu\n", check->faults);
	if (check->faults)
		seq_printf(m, "first VMA %lx, address %lx: %s\n", check->start,
			   check->address, fault_texts[check->first]);
}

static int check_show(struct seq_file *m, void *unused)
{
	struct check_file *file = m->private;

	scoped_cond_guard(mutex_intr, return -EINTR, &file->lock) {
		if (file->verdict.pid) {
			show_verdict(m, &file->verdict);
			return 0;
		}
	}
	guard(mutex)(&latest_lock);
	show_verdict(m, &latest);
	return 0;
}

static int check_open(struct inode *inode, struct file *file)
{
	struct check_file *private = kzalloc_obj(*private);
	int err;

	if (!private)
		return -ENOMEM;
	mutex_init(&private->lock);
	err = single_open(file, check_show, private);
	if (err)
		kfree(private);
	return err;
}

static int check_release(struct inode *inode, struct file *file)
{
	struct seq_file *m = file->private_data;

	kfree(m->private);
	return single_release(inode, file);
}

static ssize_t check_write(struct file *file, const char __user *from,
			   size_t len, loff_t *pos)
{
	struct seq_file *m = file->private_data;
	struct check_file *own = m->private;
	struct verdict verdict = {};
	int err;

	err = kstrtoint_from_user(from, len, 10, &verdict.pid);
	if (err)
		return err;
	if (verdict.pid <= 0)
		return -EINVAL;
	scoped_cond_guard(mutex_intr, return -EINTR, &own->lock) {
		err = anon_vma_check_pid(verdict.pid, &verdict.check);
		if (err)
			return err;
		own->verdict = verdict;
	}
	guard(mutex)(&latest_lock);
	latest = verdict;
	return len;
}

static const struct file_operations check_fops = {
	.owner = THIS_MODULE,
	.open = check_open,
	.read = seq_read,
	.write = check_write,
	.llseek = seq_lseek,
	.release = check_release,
};

/**
 * vmlean_check_files() - offer the check
 * @dir: the folder for it
 */
void vmlean_check_files(struct dentry *dir)
{
	debugfs_create_file("check", 0600, dir, NULL, &check_fops);
}
