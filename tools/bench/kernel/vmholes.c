// SPDX-License-Identifier: GPL-2.0
/*
 * Makes holes in the vmalloc space and keeps them until it is removed: maps one
 * page again and again, and takes every other mapping away.
 */
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

static unsigned int holes = 30000;
module_param(holes, uint, 0444);
MODULE_PARM_DESC(holes, "how many");

static struct page *page;
static void **stay;

static void vmholes_exit(void)
{
	unsigned int i;

	for (i = 0; stay && i < holes; i++) {
		vunmap(stay[i]);
		cond_resched();
	}
	vfree(stay);
	__free_page(page);
	vm_unmap_aliases();
}
module_exit(vmholes_exit);

static int __init vmholes_init(void)
{
	void **hole;
	unsigned int i;
	int ret = 0;

	page = alloc_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	stay = vcalloc(holes, sizeof(*stay));
	hole = vcalloc(holes, sizeof(*hole));
	if (!stay || !hole)
		ret = -ENOMEM;

	for (i = 0; !ret && i < holes; i++) {
		hole[i] = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
		stay[i] = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
		if (!hole[i] || !stay[i])
			ret = -ENOMEM;
		cond_resched();
	}
	for (i = 0; hole && i < holes; i++) {
		vunmap(hole[i]);
		cond_resched();
	}
	vfree(hole);
	vm_unmap_aliases();
	if (ret)
		vmholes_exit();
	return ret;
}
module_init(vmholes_init);

MODULE_DESCRIPTION("Holes in the vmalloc space");
MODULE_LICENSE("GPL");
