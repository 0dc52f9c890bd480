/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol of VM_MAYBE_GUARD with CONFIG_GUARD_NO_ANON_VMA, as a model for spin.
 *
 * The flag says that a VMA may have guard markers. It alone makes fork copy them, and keeps
 * khugepaged from throwing them away. scripts/checks/model runs this file for the base 7.3.
 *
 * Two pages of one process: in one VMA (VMAS=1), or one in each of two VMAs (VMAS=2); under one page
 * table, or under one each (TABLES). At the same time there run:
 *
 *   madviser	THREADS of them, CALLS calls of MADV_GUARD_INSTALL or MADV_GUARD_REMOVE each, of
 *		every range, under the VMA lock where that is enough; the first one in a VMA takes
 *		mmap_lock to set the flag, if there is no writer
 *   forker	FORKS forks, one after the other; a child keeps what it got until the next fork
 *   writer	who holds mmap_lock for write, copies the flags of a VMA, locks it, and writes the copy
 *		back: WRITES=1 all who change flags (mprotect, mlock, madvise), WRITES=2 a split
 *		(VMAS=1), WRITES=3 a merge, WRITES=4 mremap (VMAS=2)
 *   faulter	a write fault (with FAULTS=1)
 *   retractor	retract_page_tables() (RETRACTS of them, one after the other), of parent or child
 *   collapser	collapse_pte_mapped_thp(), as the topic fixes has it (with COLLAPSES=1)
 *   reclaimer	MADV_DONTNEED with PT_RECLAIM, that frees an empty page table (with RECLAIMS=1)
 *   poisoner	UFFDIO_POISON, which needs no flag (with POISONS=1)
 *
 * Each look at what others change meanwhile is a step of its own, and so is each change. A lock is
 * a guard that blocks.
 *
 * What must hold:
 *
 *   P1	a guard is in no VMA without the flag, at any time, in the parent or the child
 *   P2	nothing but MADV_GUARD_REMOVE takes a guard away, from the parent or the child
 *   P3	the child has each guard of the parent; while fork writes to a page table, that stays
 *   P4	no deadlock, no endless loop (spin's own checks: invalid end states, cycles)
 *   P6	an anonymous page is only where there is an anon_vma
 *   P7	when all is quiet, MADV_GUARD_REMOVE of everything and a fork leave no flag, unless there is an
 *	anon_vma or another marker
 *   P8	fork forgets the flag only where there is no marker, of any kind
 *
 * MUTANT_... is the protocol with one mistake, which spin must find; with ONLY=n it looks only for
 * Pn. VARIANT_... lacks a part that nothing of the above needs. REACH=n turns the question round:
 * spin must find a way to get there (see init).
 */

#ifndef VMAS
#define VMAS		1
#endif
#ifndef TABLES
#define TABLES		VMAS
#endif
#ifndef THREADS
#define THREADS		2
#endif
#ifndef CALLS
#define CALLS		1
#endif
#ifndef FORKS
#define FORKS		1
#endif
#ifndef WRITES
#define WRITES		0
#endif
#ifndef FAULTS
#define FAULTS		0
#endif
#ifndef RETRACTS
#define RETRACTS	0
#endif
#ifndef COLLAPSES
#define COLLAPSES	0
#endif
#ifndef RECLAIMS
#define RECLAIMS	0
#endif
#ifndef POISONS
#define POISONS		0
#endif

/* Pages and VMAs of the parent are 0 and 1, those of the child 2 and 3. */
#define CHILD		2
#define NO_VMA		7

/* of a VMA: VM_MAYBE_GUARD, and whether there is an anon_vma */
bit flag[4];
bit anon[4];

/* the pte of a page */
#define NONE		0
#define GUARD		1
#define POISON		2		/* a marker as well */
#define PAGE		3		/* an anonymous page */
#define marker(x)	((x) == GUARD || (x) == POISON)

byte pte[4];

/* Which VMA is a page in? Changes with mmap_lock and i_mmap_rwsem held for write. */
byte vma_of[4];

#define first_page(v)	(vma_of[0] == (v) -> 0 : 1)
#define last_page(v)	(vma_of[1] == (v) -> 1 : 0)

/* The page table of a page; its entry in the pmd, which is not none; another page in that table */
#if TABLES == 1
#define table(p)	((p) & CHILD)
#define neighbour(p)	((p) ^ 1)
#else
#define table(p)	(p)
#define neighbour(p)	(p)
#endif
#define pmd(p)		pmds[table(p)]
#define empty(p)	(pte[p] == NONE && pte[neighbour(p)] == NONE)

bit pmds[4];

/*
 * Spinlocks: pmd_lock() of a process, and the lock of a page table (PTL). What is done under one of
 * them to things that are only touched under it is one step, which waits for the lock. PTL stands
 * for pte_offset_map_lock(): whoever has it looks at the pmd again, for the table may have gone.
 */
bit pmls[4];
bit ptls[4];
bit i_mmap;

#define pml(p)		pmls[(p) & CHILD]
#define ptl(p)		ptls[table(p)]
#define lock(l)		atomic { !l -> l = 1 }
#define unlock(l)	l = 0

/* mmap_lock of the parent, and the locks of its VMAs */
byte mmap_readers;
bit mmap_writer;
byte vma_readers[2];
bit vma_writer[2];

#define mmap_read_lock()	atomic { !mmap_writer -> mmap_readers++ }
#define mmap_read_unlock()	mmap_readers--

inline mmap_write_lock()
{
	atomic { !mmap_writer && mmap_readers == 0 -> mmap_writer = 1 }
}

/* The locks of all VMAs end first: vma_end_write_all(). */
inline mmap_write_unlock()
{
	d_step { vma_writer[0] = 0; vma_writer[1] = 0 }
	mmap_writer = 0
}

/* New readers fail; wait for those who are there. */
inline vma_start_write(v)
{
	vma_writer[v] = 1;
	vma_readers[v] == 0
}

/* Assertions are about variables, so that spin's message has the name (P1 is one of spin's). */
bit p1 = 1, p2 = 1, p3 = 1, p6 = 1, p7 = 1, p8 = 1, r = 1;

#ifdef REACH
#define checked(n)	false
#elif defined(ONLY)
#define checked(n)	(ONLY == n)
#else
#define checked(n)	true
#endif
#define must_hold(n, p, what)	p = p && (!checked(n) || (what)); assert(p)

#ifdef REACH
/* fork forgot; a page table of a VMA with the flag was retracted; one that fork had made was;
 * a flag was set with the VMA locked, and mmap_lock for that moment */
bit forgot, retracted, taken, tried;
#define note(what)	; what
#else
#define note(what)
#endif

/* A page table, if there is none: seen without a lock, done under pmd_lock(). */
inline pte_alloc(p)
{
	if
	:: pmd(p)
	:: atomic { !pmd(p) && !pml(p) -> pmd(p) = 1 }
	fi
}

/* Page table @p is freed, with its two locks held: whoever maps the next page starts from none. */
inline free_table(p)
{
	must_hold(2, p2, pte[p] != GUARD && pte[neighbour(p)] != GUARD);
	pmd(p) = 0;
	pte[p] = NONE;
	pte[neighbour(p)] = NONE
}

/* ---- MADV_GUARD_INSTALL and MADV_GUARD_REMOVE ---- */

inline install(page)
{
	/* vma_set_atomic_flag(), once for each VMA and before its first marker */
#ifndef MUTANT_FLAG_AFTER_MARKER
	if
	:: page == lo || vma_of[page] != vma_of[lo] -> flag[vma_of[page]] = 1
	:: else
	fi;
#else
	skip;
#endif
walk:	pte_alloc(page);
	if
	:: atomic { !ptl(page) && !pmd(page) -> goto walk }	/* gone meanwhile: ACTION_AGAIN */
	:: atomic { !ptl(page) && pmd(page) && pte[page] == PAGE ->
		pte[page] = NONE;				/* zap_vma_range() */
		goto walk }
	:: atomic { !ptl(page) && pmd(page) && pte[page] != PAGE -> pte[page] = GUARD }
	fi
#ifdef MUTANT_FLAG_AFTER_MARKER
	; flag[vma_of[page]] = 1
#endif
}

proctype madviser()
{
	byte calls, lo, hi, page, vma;
	bit remove, vma_locked, seen;

	do
	:: calls < CALLS ->
		atomic {
			calls++;
			if
			:: remove = 0
			:: remove = 1
			fi;
			if
			:: lo = 0; hi = 0
			:: lo = 1; hi = 1
			:: lo = 0; hi = 1
			fi;
			page = lo
		}
#ifdef MUTANT_FLAG_SEEN_UNLOCKED
		seen = flag[vma_of[lo]];
#endif
		/* try_vma_read_lock(): lock_vma_under_rcu() ... */
		atomic {
			vma = vma_of[lo];
			vma_locked = !vma_writer[vma];
			vma_readers[vma] = vma_readers[vma] + vma_locked
		}
		/* ... and what the lock of one VMA is not enough for */
#ifdef MUTANT_INSTALL_VMA_LOCK
		seen = 1;
#elif !defined(MUTANT_FLAG_SEEN_UNLOCKED)
		seen = flag[vma];
#endif
		/* try_set_guard_flag(): whoever has mmap_lock may be waiting for the VMA */
		if
		:: vma_locked && !remove && !seen ->
#ifdef MUTANT_TRY_NO_LOCK
			flag[vma] = 1;
			seen = 1
#elif defined(MUTANT_TRY_WAITS)
			mmap_read_lock();
			flag[vma] = 1;
			mmap_read_unlock();
			seen = 1
#else
			if
			:: atomic { !mmap_writer -> mmap_readers++ }
				flag[vma] = 1 note(tried = 1);
				mmap_read_unlock();
				seen = 1
			:: skip
			fi
#endif
		:: else
		fi;
		if
		:: atomic { vma_locked && (vma_of[hi] != vma || (!remove && !seen)) ->
			vma_readers[vma]--;
			vma_locked = 0 }
		:: vma_locked && !(vma_of[hi] != vma || (!remove && !seen))
		:: !vma_locked
		fi;
		if
		:: !vma_locked -> mmap_read_lock()
		:: else
		fi;
		do
		:: page <= hi && !remove -> install(page); page++
		:: atomic { page <= hi && remove && !ptl(page) ->
			pte[page] = (pte[page] == GUARD -> NONE : pte[page]);
			page++ }
		:: page > hi -> break
		od;
#ifdef MUTANT_CLEAR_IN_REMOVE
		/* all of a VMA, and no marker found, but under a read lock */
		if
		:: remove && lo == first_page(vma_of[lo]) && hi == last_page(vma_of[lo]) &&
		   !marker(pte[lo]) && !marker(pte[hi]) -> flag[vma_of[lo]] = 0
		:: else
		fi;
#endif
		if
		:: vma_locked -> vma_readers[vma]--
		:: else -> mmap_read_unlock()
		fi;
		atomic { vma_locked = 0; seen = 0; vma = 0 }
	:: else -> break
	od
}

/* ---- fork ---- */

#if FORKS > 0
proctype forker()
{
	byte forks, page, vma;
	bit found;

	do
	:: forks < FORKS ->
		forks++;
		mmap_write_lock();
		atomic {
			!i_mmap ->		/* the child before has gone */
			vma_of[2] = NO_VMA; vma_of[3] = NO_VMA;
			pte[2] = NONE; pte[3] = NONE;
			pmds[2] = 0; pmds[3] = 0;
			page = 0
		}
		do
		:: atomic { page < 2 -> vma = vma_of[page] }
			if
			:: page == first_page(vma) ->
#ifndef MUTANT_FORK_NO_VMA_LOCK
				vma_start_write(vma);
#endif
				/* vm_area_dup(), anon_vma_fork() */
				atomic {
					flag[CHILD + vma] = flag[vma];
					anon[CHILD + vma] = anon[vma]
				}
				/* from here on khugepaged can find it */
				atomic { !i_mmap ->
					vma_of[CHILD + page] = CHILD + vma;
					vma_of[CHILD + last_page(vma)] = CHILD + vma }
				found = 0
			:: else
			fi;
			if
			/* copy_page_range(), where there is an anon_vma */
			:: anon[vma] && pmd(page) ->
				pte_alloc(CHILD + page);
				atomic { !ptl(CHILD + page) && !ptl(page) ->
					must_hold(3, p3, pmd(CHILD + page));
					pte[CHILD + page] = pte[page] }
			/* copy_pte_markers(): without PTL of the parent */
			:: !anon[vma] && flag[CHILD + vma] && pmd(page) && marker(pte[page]) ->
#ifdef MUTANT_FORGET_POISON
				found = found || pte[page] == GUARD;
#else
				found = 1;
#endif
again:				pte_alloc(CHILD + page);
				if
#ifndef MUTANT_FORK_NO_RETRY
				:: atomic { !ptl(CHILD + page) && !pmd(CHILD + page)
					note(taken = 1) ->
					goto again }
				:: atomic { !ptl(CHILD + page) && pmd(CHILD + page) ->
#else
				:: atomic { !ptl(CHILD + page) ->
#endif
					must_hold(3, p3, pmd(CHILD + page));
					pte[CHILD + page] = (marker(pte[page]) -> pte[page] : NONE) }
				fi
			:: else
			fi;
			if
			:: page == last_page(vma) && !anon[vma] && flag[CHILD + vma] &&
#ifdef MUTANT_FORGET_WITHOUT_PROOF
			   true ->
#elif defined(MUTANT_FORGET_NEVER)
			   false ->
#else
			   !found ->
#endif
				must_hold(8, p8, pte[first_page(vma)] != POISON &&
						 pte[page] != POISON);
#ifdef MUTANT_FORGET_UNLOCKED
				d_step { vma_writer[0] = 0; vma_writer[1] = 0 }
				mmap_writer = 0;
				flag[vma] = 0;
				mmap_write_lock();
#else
				flag[vma] = 0 note(forgot = 1);
#endif
				flag[CHILD + vma] = 0
			:: else
			fi;
			page++
		:: else -> break
		od;
#ifndef MUTANT_FORGET_UNLOCKED
		atomic {
			must_hold(3, p3, pte[0] != GUARD || pte[CHILD + 0] == GUARD);
			must_hold(3, p3, pte[1] != GUARD || pte[CHILD + 1] == GUARD)
		}
#endif
		mmap_write_unlock()
	:: else -> break
	od
}
#endif

/* ---- who changes VMAs ---- */

#define DST	0
#define SRC	1

#if WRITES > 0
proctype writer()
{
	bit copy;

	mmap_write_lock();
#if WRITES == 1		/* vma_modify_flags() without a split or merge, vm_flags_reset() */
	copy = flag[0];
	vma_start_write(0);
	flag[0] = copy;
#elif WRITES == 2	/* __split_vma(): vm_area_dup() before vma_start_write() */
	copy = flag[0];
	vma_start_write(0);
#ifdef MUTANT_SPLIT_DROPS
	copy = 0;
#endif
	flag[1] = copy;
	atomic { !i_mmap -> vma_of[1] = 1; vma_writer[1] = 1 }
#elif WRITES == 3	/* a merge: the sticky flags of both */
	copy = flag[DST] || flag[SRC];
	vma_start_write(DST);
	vma_start_write(SRC);
#ifdef MUTANT_MERGE_DROPS
	copy = flag[DST];
#endif
	anon[DST] = anon[DST] || anon[SRC];
	flag[DST] = copy;
	atomic { !i_mmap -> vma_of[1] = DST }
#else			/* mremap(): copy_vma() has the flag, then the page tables are moved */
	copy = flag[SRC];
	vma_start_write(SRC);
	vma_start_write(DST);
#ifndef MUTANT_MOVE_DROPS
	flag[DST] = flag[DST] || copy;
#endif
	anon[DST] = anon[DST] || anon[SRC];
move:	pte_alloc(0);
	if
	:: atomic { !ptl(0) && !ptl(1) && !pmd(0) -> goto move }	/* move_ptes(): -EAGAIN */
	:: atomic { !ptl(0) && !ptl(1) && pmd(0) && pmd(1) ->
		pte[0] = pte[1];
		pte[1] = NONE }
	:: atomic { !ptl(0) && !ptl(1) && pmd(0) && !pmd(1) -> pte[0] = NONE }
	fi;
#endif
	mmap_write_unlock()
}
#endif

/* ---- a write fault: the flag is nothing to it ---- */

#if FAULTS > 0
proctype faulter()
{
	byte page, vma;

	if
	:: page = 0
	:: page = 1
	fi;
	mmap_read_lock();
	vma = vma_of[page];
	anon[vma] = 1;				/* anon_vma_prepare() */
map:	pte_alloc(page);
	if
	:: atomic { !ptl(page) && !pmd(page) -> goto map }
	:: atomic { !ptl(page) && pmd(page) -> pte[page] = (pte[page] == NONE -> PAGE : pte[page]) }
	fi;
	mmap_read_unlock()
}
#endif

/* ---- khugepaged ---- */

#ifdef VARIANT_RETRACT_NO_FIRST_CHECK
#define first_check(vma)	true
#else
#define first_check(vma)	(!anon[vma])
#endif

#ifdef MUTANT_RETRACT_NO_LOOK
#define has_guards(vma, page)	false
#elif defined(MUTANT_RETRACT_LOOKS_EARLY)
#define has_guards(vma, page)	(early)
#elif defined(VARIANT_RETRACT_BY_FLAG)	/* stock, and the series without the topic fixes */
#define has_guards(vma, page)	(flag[vma])
#else
#define has_guards(vma, page)	(flag[vma] && !empty(page))
#endif

#if RETRACTS > 0
proctype retractor()
{
	byte retracts, page, vma;
	bit early;

	do
	:: retracts < RETRACTS ->
		atomic {
			!i_mmap -> i_mmap = 1;
			if
			:: page = 0
			:: vma_of[2] != NO_VMA -> page = 2
#if TABLES > 1
			:: page = 1
			:: vma_of[3] != NO_VMA -> page = 3
#endif
			fi;
			vma = vma_of[page];
			retracts++
		}
		if
		:: vma_of[neighbour(page)] == vma && first_check(vma) ->
#ifdef MUTANT_RETRACT_LOOKS_EARLY
			early = flag[vma] && !empty(page);
#endif
			lock(pml(page));
			if
			:: pmd(page) ->
				lock(ptl(page));
				if
				/* nobody has a page there: the folio is locked and unmapped */
				:: !anon[vma] && !has_guards(vma, page) -> atomic {
					free_table(page)
					note(retracted = retracted || flag[vma]) }
				:: else
				fi;
				unlock(ptl(page))
			:: else				/* check_pmd_state() */
			fi;
			unlock(pml(page))
		:: else
		fi;
		atomic { unlock(i_mmap); page = 0; vma = 0; early = 0 }
	:: else -> break
	od
}
#endif

#if COLLAPSES > 0
proctype collapser()
{
	bit clean;

	mmap_read_lock();
	if
	:: vma_of[neighbour(0)] == vma_of[0] ->
		/* steps 1 and 2: nothing but pages of the folio, which are unmapped */
		atomic { !ptl(0) -> clean = pmd(0) && empty(0) }
		if
		:: clean ->
			lock(pml(0));
			lock(ptl(0));
			/* step 4: pmd_same(), and with the fix, is it still empty? */
			if
#ifdef MUTANT_COLLAPSE_NO_LOOK
			:: pmd(0) -> atomic { free_table(0) }
#else
			:: pmd(0) && empty(0) -> atomic { free_table(0) }
#endif
			:: else
			fi;
			unlock(ptl(0));
			unlock(pml(0))
		:: else
		fi
	:: else
	fi;
	mmap_read_unlock()
}
#endif

#if RECLAIMS > 0
/* MADV_DONTNEED leaves markers alone; try_to_free_pte(). */
proctype reclaimer()
{
	bit clean;

	mmap_read_lock();
	atomic { !ptl(0) ->
		pte[0] = (pte[0] == PAGE -> NONE : pte[0]);
		pte[neighbour(0)] = (pte[neighbour(0)] == PAGE -> NONE : pte[neighbour(0)]);
		clean = empty(0) }
	if
	:: clean ->
		lock(pml(0));
		lock(ptl(0));
		if
#ifdef MUTANT_RECLAIM_NO_LOOK
		:: pmd(0) -> atomic { free_table(0) }
#else
		:: pmd(0) && empty(0) -> atomic { free_table(0) }
#endif
		:: else
		fi;
		unlock(ptl(0));
		unlock(pml(0))
	:: else
	fi;
	mmap_read_unlock()
}
#endif

#if POISONS > 0
proctype poisoner()
{
	mmap_read_lock();
put:	pte_alloc(1);
	if
	:: atomic { !ptl(1) && !pmd(1) -> goto put }
	:: atomic { !ptl(1) && pmd(1) -> pte[1] = (pte[1] == NONE -> POISON : pte[1]) }
	fi;
	mmap_read_unlock()
}
#endif

/* ---- what must hold ---- */

#define unflagged(p)	(pte[p] == GUARD && !flag[vma_of[p]])
#define unmapped(p)	(pte[p] == PAGE && !anon[vma_of[p]])

/* Blocks for ever, unless something does not hold. */
proctype monitor()
{
end:	if
	:: atomic { checked(1) && (unflagged(0) || unflagged(1) || unflagged(2) || unflagged(3)) ->
		p1 = 0; assert(p1) }
	:: atomic { checked(6) && (unmapped(0) || unmapped(1) || unmapped(2) || unmapped(3)) ->
		p6 = 0; assert(p6) }
	fi
}

/* Starts all, and is the last one: MADV_GUARD_REMOVE of everything and a fork, in peace. */
init
{
	atomic {
		vma_of[1] = VMAS - 1;
		vma_of[2] = NO_VMA;
		vma_of[3] = NO_VMA;
		pmds[0] = 1;		/* page tables of earlier faults, which are empty by now */
		pmds[1] = 1;
		run monitor();
		run madviser();
#if THREADS > 1
		run madviser();
#endif
#if FORKS > 0
		run forker();
#endif
#if WRITES > 0
		run writer();
#endif
#if FAULTS > 0
		run faulter();
#endif
#if RETRACTS > 0
		run retractor();
#endif
#if COLLAPSES > 0
		run collapser();
#endif
#if RECLAIMS > 0
		run reclaimer();
#endif
#if POISONS > 0
		run poisoner()
#endif
	}
	atomic {
		_nr_pr == 2;
#if REACH == 1		/* fork forgot the flag */
		r = !(forgot && !flag[0]);
#elif REACH == 2	/* the child has a guard, and neither it nor the parent an anon_vma */
		r = !(pte[2] == GUARD && !anon[0] && !anon[2]);
#elif REACH == 3	/* khugepaged got a page table of a VMA that still has the flag */
		r = !(retracted && flag[0]);
#elif REACH == 4	/* khugepaged got one of the child's before fork had put a guard in */
		r = !(taken && pte[2] == GUARD);
#elif REACH == 5	/* an anon_vma came later, and fork still copied the guard */
		r = !(anon[0] && pte[2] == GUARD && flag[2]);
#elif REACH == 6	/* the flag came from the VMA that was merged, and its guard is there */
		r = !(vma_of[1] == DST && flag[DST] && pte[0] != GUARD && pte[1] == GUARD);
#elif REACH == 7	/* the flag was forgotten, and set again */
		r = !(forgot && flag[0] && pte[0] == GUARD);
#elif REACH == 8	/* it was set with mmap_lock tried, and not lost */
		r = !(tried && flag[0]);
#endif
		assert(r);
		assert(!mmap_writer && mmap_readers == 0 && !i_mmap && !vma_writer[0] &&
			!vma_writer[1] && vma_readers[0] + vma_readers[1] == 0);
		pte[0] = (pte[0] == GUARD -> NONE : pte[0]);
		pte[1] = (pte[1] == GUARD -> NONE : pte[1])
	}
#if FORKS > 0 && FORKS < 3
	run forker();
	atomic {
		_nr_pr == 2;
		must_hold(7, p7, anon[0] || !flag[0] || pte[0] == POISON || pte[1] == POISON);
		must_hold(7, p7, anon[vma_of[1]] || !flag[vma_of[1]] || pte[0] == POISON ||
				 pte[1] == POISON)
	}
#endif
}
