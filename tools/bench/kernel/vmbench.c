// SPDX-License-Identifier: GPL-2.0
/*
 * What tools/bench must be inside the kernel to see: the time of pairs of
 * vm_area_alloc() and vm_area_free(), how many objects the names of a process
 * take, and how many its reverse map.
 *
 * The two functions are not exported, and the kernel under test must not be changed for being
 * measured: whoever inserts the module gives their addresses (/proc/kallsyms).
 * A write of N to the parameter "pair" times N pairs in the context, with the
 * mm and in the memcg of the writer; a read returns "COUNT EMPTY", the time of
 * the pairs and that of a loop of N nothings, in units of rdtsc. A read of
 * "names" returns how many different objects the VMAs of the reader have for
 * names; one of "rmap" returns "ANON_VMAS CHAINS BYTES", the different anon_vmas
 * that these VMAs are linked to, the links, and the size of both.
 */
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/rmap.h>
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

static int compare(const void *a, const void *b)
{
	const void *x = *(void **)a, *y = *(void **)b;

	return x < y ? -1 : x > y;
}

static unsigned int different(void **objects, unsigned int n)
{
	unsigned int i, different = 0;

	sort(objects, n, sizeof(*objects), compare, NULL);
	for (i = 0; i < n; i++)
		different += !i || objects[i] != objects[i - 1];
	return different;
}

static int names_get(char *buffer, const struct kernel_param *kp)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);
	unsigned int n = 0;
	void **names;

	mmap_read_lock(mm);
	names = kvmalloc_array(mm->map_count, sizeof(*names), GFP_KERNEL);
	if (names)
		for_each_vma(vmi, vma)
			if (vma->anon_name)
				names[n++] = vma->anon_name;
	mmap_read_unlock(mm);
	if (!names)
		return -ENOMEM;

	n = different(names, n);
	kvfree(names);
	return sysfs_emit(buffer, "%u\n", n);
}

static const struct kernel_param_ops names_ops = {
	.get = names_get,
};
module_param_cb(names, &names_ops, NULL, 0400);
MODULE_PARM_DESC(names, "how many objects the names of the reader's VMAs are");

static int rmap_get(char *buffer, const struct kernel_param *kp)
{
	unsigned int chains, n = 0, room = 4 * current->mm->map_count;
	struct mm_struct *mm = current->mm;
	struct anon_vma_chain *avc;
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);
	void **anon_vmas;

	anon_vmas = kvmalloc_array(room, sizeof(*anon_vmas), GFP_KERNEL);
	if (!anon_vmas)
		return -ENOMEM;
	mmap_read_lock(mm);
	for_each_vma(vmi, vma)
		list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
			if (n < room)
				anon_vmas[n++] = avc->anon_vma;
	mmap_read_unlock(mm);

	chains = n;
	n = different(anon_vmas, n);
	kvfree(anon_vmas);
	return sysfs_emit(buffer, "%u %u %zu\n", n, chains, n * sizeof(struct anon_vma) +
			  chains * sizeof(struct anon_vma_chain));
}

static const struct kernel_param_ops rmap_ops = {
	.get = rmap_get,
};
module_param_cb(rmap, &rmap_ops, NULL, 0400);
MODULE_PARM_DESC(rmap, "anon_vmas and links to them of the reader's VMAs, and their size");

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
