/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Included before anything else in the kernel's objects that fork VMAs: names
 * are copied, as they were in the versions of the 2021 series that did not count
 * references. For the row fork64k/strdup, and for no kernel that is used.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>

static inline void strdup_anon_vma_name(struct vm_area_struct *orig_vma,
					struct vm_area_struct *new_vma)
{
	if (orig_vma->anon_name)
		new_vma->anon_name = anon_vma_name_alloc(orig_vma->anon_name->name);
}

#define dup_anon_vma_name	strdup_anon_vma_name
#define fork_anon_vma_name(orig_vma, new_vma, run)	\
	strdup_anon_vma_name(orig_vma, new_vma)
