/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The files of the folder anon_vma that are not counters.
 */
#ifndef _VMLEAN_ANON_VMA_H
#define _VMLEAN_ANON_VMA_H

struct dentry;

#ifdef CONFIG_RMAP_TRACE
int vmlean_rmap_depth_init(void);
void vmlean_rmap_depth_files(struct dentry *dir);
void vmlean_rmap_depth_exit(void);
#else
static inline int vmlean_rmap_depth_init(void) { return 0; }
static inline void vmlean_rmap_depth_files(struct dentry *dir) { }
static inline void vmlean_rmap_depth_exit(void) { }
#endif

#ifdef CONFIG_ANON_VMA_CHECK
void vmlean_check_files(struct dentry *dir);
#else
static inline void vmlean_check_files(struct dentry *dir) { }
#endif

#endif /* _VMLEAN_ANON_VMA_H */
