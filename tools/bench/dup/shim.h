/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As much of the kernel as its functions for the names of anonymous VMAs need
 * in user space.
 */
#ifndef DUP_SHIM_H
#define DUP_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t u32;
typedef unsigned int gfp_t;

#define GFP_KERNEL		0
#define GFP_KERNEL_ACCOUNT	0
#define __GFP_NORETRY		0
#define __GFP_NOWARN		0
#define REFCOUNT_MAX		INT32_MAX

#define unlikely(x)		__builtin_expect(!!(x), 0)
#define likely(x)		__builtin_expect(!!(x), 1)
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define BIT(n)			(1UL << (n))
#define BUILD_BUG_ON(cond)	_Static_assert(!(cond), #cond)
#define IS_ENABLED(symbol)	ENABLED(symbol)
#define ENABLED(value)		(sizeof(#value) == sizeof("1"))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member)	((type *)((char *)(ptr) - offsetof(type, member)))
/* Of char, as in a name. */
#define struct_size(p, member, n)	(offsetof(__typeof__(*(p)), member) + (n))
#define cmpxchg(ptr, old, new)	__sync_val_compare_and_swap(ptr, old, new)
#define lockdep_assert_held(l)	do { } while (0)
#define mmap_assert_locked(mm)	do { } while (0)
#define KUNIT_STATIC_STUB_REDIRECT(...)	do { } while (0)
#define vmlean_count(...)	do { } while (0)
#define vmlean_count_if(...)	do { } while (0)
#define vmlean_add(...)		do { } while (0)

typedef struct { int refs; } refcount_t;

static inline void refcount_add(int n, refcount_t *r)
{
	__atomic_fetch_add(&r->refs, n, __ATOMIC_RELAXED);
}

static inline bool refcount_sub_and_test(int n, refcount_t *r)
{
	return __atomic_fetch_sub(&r->refs, n, __ATOMIC_RELEASE) == n;
}

struct kref {
	refcount_t refcount;
};

static inline void kref_init(struct kref *k)
{
	k->refcount.refs = 1;
}

static inline unsigned int kref_read(const struct kref *k)
{
	return READ_ONCE(k->refcount.refs);
}

static inline void kref_get(struct kref *k)
{
	refcount_add(1, &k->refcount);
}

static inline void kref_put(struct kref *k, void (*release)(struct kref *k))
{
	if (refcount_sub_and_test(1, &k->refcount))
		release(k);
}

typedef struct { int locked; } spinlock_t;

static inline void spin_lock_init(spinlock_t *l)
{
	l->locked = 0;
}

/* One thread. */
#define scoped_guard(kind, lock)	for (int once = 1; once; once = 0)

/* One object after the other, in the size that slab would give it. */
void *kmalloc(size_t size, gfp_t gfp);

#define kmalloc_obj(obj, ...)		kmalloc(sizeof(obj), 0)
#define kmalloc_flex(obj, member, n)	kmalloc(struct_size(&(obj), member, n), 0)
/* from a cache of their own, which is off here */
#define anon_vma_name_new(n)		NULL

static inline void kfree(const void *p)
{
	(void)p;
}

static inline u32 full_name_hash(const void *salt, const char *name, unsigned int len)
{
	u32 hash = 0;

	(void)salt;
	while (len--)
		hash = hash * 31 + (unsigned char)*name++;
	return hash;
}

struct anon_vma_name {
	struct kref kref;
	char name[];
};

#define ANON_VMA_NAME_MAX_LEN	80

struct mm_struct {
	struct anon_vma_names *anon_vma_names;
};

/* Of the size that it has, and the name where it is there. */
struct vm_area_struct {
	struct mm_struct *vm_mm;
	char before[128];
	struct anon_vma_name *anon_name;
	char after[48];
};

static inline struct anon_vma_name *anon_vma_name(struct vm_area_struct *vma)
{
	return vma->anon_name;
}

struct anon_vma_name *anon_vma_name_alloc(const char *name);
void anon_vma_name_free(struct kref *kref);

#endif /* DUP_SHIM_H */
