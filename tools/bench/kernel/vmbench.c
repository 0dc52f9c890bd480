// SPDX-License-Identifier: GPL-2.0
/*
 * What tools/bench must be inside the kernel to see: the time of pairs of
 * vm_area_alloc() and vm_area_free(), and how many objects the names of a
 * process take.
 *
 * The two functions are not exported, and the kernel under test must not be changed for being
 * measured: whoever inserts the module gives their addresses (/proc/kallsyms).
 * A write of N to the parameter "pair" times N pairs in the context, with the
 * mm and in the memcg of the writer; a read returns "COUNT EMPTY", the time of
 * the pairs and that of a loop of N nothings, in units of rdtsc. A read of
 * "names" returns how many different objects the VMAs of the reader have for
 * names.
 */
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <asm/msr.h>
#include <asm/sections.h>

static unsigned long alloc_addr, free_addr;
module_param_named(vm_area_alloc, alloc_addr, ulong, 0);
MODULE_PARM_DESC(vm_area_alloc, "address of that function");
module_param_named(vm_area_free, free_addr, ulong, 0);
MODULE_PARM_DESC(vm_area_free, "address of that function");

static u64 count, empty;

static int pair_set(const char *val, const struct kernel_param *kp)
{
	struct vm_area_struct *(*alloc)(struct mm_struct *mm) = (void *)alloc_addr;
	void (*release)(struct vm_area_struct *vma) = (void *)free_addr;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned int i, n;
	u64 t0, t1, t2;
	int err;

	err = kstrtouint(val, 0, &n);
	if (err)
		return err;
	if (!mm || !n)
		return -EINVAL;

	t0 = rdtsc_ordered();
	for (i = 0; i < n; i++) {
		vma = alloc(mm);
		if (!vma)
			return -ENOMEM;
		release(vma);
	}
	t1 = rdtsc_ordered();
	for (i = 0; i < n; i++)
		barrier();
	t2 = rdtsc_ordered();

	count = t1 - t0;
	empty = t2 - t1;
	return 0;
}

static int pair_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%llu %llu\n", count, empty);
}

static const struct kernel_param_ops pair_ops = {
	.set = pair_set,
	.get = pair_get,
};
module_param_cb(pair, &pair_ops, NULL, 0600);
MODULE_PARM_DESC(pair, "time that many pairs of vm_area_alloc() and vm_area_free()");

static int compare_names(const void *a, const void *b)
{
	const struct anon_vma_name *x = *(void **)a, *y = *(void **)b;

	return x < y ? -1 : x > y;
}

static int names_get(char *buffer, const struct kernel_param *kp)
{
	struct mm_struct *mm = current->mm;
	struct anon_vma_name **names;
	struct vm_area_struct *vma;
	unsigned int i, n = 0, different = 0;
	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	names = kvmalloc_array(mm->map_count, sizeof(*names), GFP_KERNEL);
	if (names)
		for_each_vma(vmi, vma)
			if (vma->anon_name)
				names[n++] = vma->anon_name;
	mmap_read_unlock(mm);
	if (!names)
		return -ENOMEM;

	sort(names, n, sizeof(*names), compare_names, NULL);
	for (i = 0; i < n; i++)
		different += !i || names[i] != names[i - 1];
	kvfree(names);
	return sysfs_emit(buffer, "%u\n", different);
}

static const struct kernel_param_ops names_ops = {
	.get = names_get,
};
module_param_cb(names, &names_ops, NULL, 0400);
MODULE_PARM_DESC(names, "how many objects the names of the reader's VMAs are");

static int __init vmbench_init(void)
{
	if (alloc_addr && free_addr)
		return 0;
	pr_err("vm_area_alloc= and vm_area_free= must be the addresses of these functions\n");
	return -EINVAL;
}
module_init(vmbench_init);

static void __exit vmbench_exit(void)
{
}
module_exit(vmbench_exit);

MODULE_DESCRIPTION("What tools/bench must be inside the kernel to see");
MODULE_LICENSE("GPL");
