// SPDX-License-Identifier: GPL-2.0
/*
 * What fork does with the name of each VMA, with the functions of the kernel
 * tree that it is built from, for a look at its cache misses: scripts/dup-misses.
 *
 * usage: dup shared|distinct
 *
 * 64K VMAs are named one by one, all alike or each with a name of its own, and
 * then duplicated. measured() is the part that takes the reference; that the
 * VMAs themselves are not in the cache is not the names' fault, so the caller
 * looks at them first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "shim.h"
#include "cut.h"	/* of mm_inline.h, madvise.c, anon_vma_name.c */

#define VMAS	65536

void *kmalloc(size_t size, gfp_t gfp)
{
	static const size_t classes[] = { 8, 16, 32, 64, 96, 128, 192, 256, 512, 1024 };
	static char *at, *end;
	unsigned int i = 0;
	void *p;

	(void)gfp;
	while (classes[i] < size)
		i++;
	if (!at || at + classes[i] > end) {
		at = aligned_alloc(4096, 16 << 20);
		if (!at)
			exit(1);
		end = at + (16 << 20);
	}
	p = at;
	at += classes[i];
	return p;
}

static void name_vma(struct vm_area_struct *vma, const char *name)
{
#ifdef CONFIG_ANON_VMA_NAME_SHARE
	struct anon_vma_name *anon_name = anon_vma_name_share(vma->vm_mm, name, strlen(name));
#else
	struct anon_vma_name *anon_name = anon_vma_name_alloc(name);
#endif

	vma->anon_name = anon_vma_name_reuse(anon_name);
	anon_vma_name_put(anon_name);
}

/* Called by name: scripts/dup-misses has valgrind look at nothing else. */
#ifdef FORK_RUNS
static struct anon_vma_name_run run;

__attribute__((noinline, noclone, visibility("default")))
void measured(struct vm_area_struct *orig, struct vm_area_struct *new)
{
	fork_anon_vma_name(orig, new, &run);
}
#else
__attribute__((noinline, noclone, visibility("default")))
void measured(struct vm_area_struct *orig, struct vm_area_struct *new)
{
	dup_anon_vma_name(orig, new);
}
#endif

int main(int argc, char **argv)
{
	struct vm_area_struct *orig, *new;
	static struct mm_struct mm;
	bool shared = argc == 2 && !strcmp(argv[1], "shared");
	char name[ANON_VMA_NAME_MAX_LEN];
	unsigned int i;

	if (argc != 2 || (!shared && strcmp(argv[1], "distinct"))) {
		fprintf(stderr, "usage: dup shared|distinct\n");
		return 2;
	}
	orig = aligned_alloc(64, VMAS * sizeof(*orig));
	new = aligned_alloc(64, VMAS * sizeof(*new));
	if (!orig || !new)
		return 1;

	for (i = 0; i < VMAS; i++) {
		snprintf(name, sizeof(name), "%079u", shared ? 0 : i);
		memset(&orig[i], 0, sizeof(orig[i]));
		orig[i].vm_mm = &mm;
		name_vma(&orig[i], name);
	}
	for (i = 0; i < VMAS; i++) {
		new[i] = orig[i];
		measured(&orig[i], &new[i]);
	}
	return 0;
}
