/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol of vma->anon_vma_word, as a model for spin.
 *
 * The word is NULL or a pointer to a struct anon_vma, and a flag. Who changes it, and under
 * which locks, is in Documentation/anon-vma-word.rst; scripts/checks/model runs this file.
 *
 * Two pages of one process: in one VMA (VMAS=1), or one in each of two VMAs that are merged at some
 * time (VMAS=2); under one page table, or under one each (TABLES). At the same time there run:
 *
 *   madviser	THREADS of them, CALLS calls of MADV_GUARD_INSTALL or MADV_GUARD_REMOVE each, of
 *		every range
 *   faulter	a write fault, under the per-VMA lock or mmap_lock (with FAULTS=1)
 *   forker	a fork (with FORKS=1), whose child keeps what it got
 *   retractor	khugepaged, which wants to free RETRACTS page tables, of the parent or of the child
 *   merger	a merge, which may fail at each of its allocations (with VMAS=2); VMA 0 grows over
 *		VMA 1, or with LEFTWARD the other way round
 *   collapser	collapse_pte_mapped_thp(), which frees a page table of the parent (COLLAPSES=1)
 *   uffd	an ioctl of userfaultfd: a page, or poison where no anon_vma is needed (UFFDS=1)
 *   zapper	MADV_DONTNEED, which frees an empty page table at once: PT_RECLAIM (ZAPS=1)
 *   mover	mremap() of VMA 0, and all page tables with it; or MREMAP_DONTUNMAP (MOVES=1)
 *
 * Each look at what others change meanwhile is a step of its own, and so is each change. A lock is
 * a guard that blocks. With FAIR, a writer who waits for mmap_lock keeps new readers out, as an
 * rwsem may.
 *
 * What must hold:
 *
 *   P1	while fork runs, no marker is in a VMA whose word is 0; in the child's there is never one
 *   P2	nothing but MADV_GUARD_REMOVE takes a guard away, from the parent or the child: not
 *	who frees a page table; the others write only to a pte that has none
 *   P3	the child has each marker of the parent; while fork fills its page table, that stays
 *   P4	no deadlock, no endless loop (spin's own checks: invalid end states, cycles)
 *   P5	flag and pointer are in a word at once within a merge only
 *   P6	an anonymous page is only where there is an anon_vma
 *   P7	when all is quiet, MADV_GUARD_REMOVE of everything leaves no flag, but for poison
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
#define THREADS	2
#endif
#ifndef CALLS
#define CALLS		1
#endif
#ifndef FAULTS
#define FAULTS		1
#endif
#ifndef FORKS
#define FORKS		1
#endif
#ifndef RETRACTS
#define RETRACTS	1
#endif
#ifndef COLLAPSES
#define COLLAPSES	0
#endif
#ifndef UFFDS
#define UFFDS		0
#endif
#ifndef ZAPS
#define ZAPS		0
#endif
#ifndef MOVES
#define MOVES		0
#endif

/*
 * Pages and VMAs of the parent are 0 and 1, those of the child 2 and 3. With MOVES the pages are
 * under one page table and in one VMA, there is no fork, and VMA 2 is what mremap() makes of it.
 */
#define CHILD		2
#define NO_VMA		7

/* the word of a VMA */
#define UNFAULTED	1		/* ANON_VMA_UNFAULTED */
#define POINTER		2		/* any struct anon_vma: neighbours share theirs */
#define masked(word)	((word) & POINTER)

byte word[4];

/* the pte of a page */
#define NONE		0
#define GUARD		1		/* a marker */
#define PAGE		2		/* an anonymous page */
#define POISON		3		/* another marker, which nobody need keep */
#define is_marker(pte)	((pte) == GUARD || (pte) == POISON)

byte pte[4];

/* Which VMA is a page in? Changes under mmap_lock and i_mmap_rwsem, both held for write. */
byte vma_of[4];

#if MOVES > 0
#define first_page(v)	(v)
#define last_page(v)	((v) + 1)
#else
#define first_page(v)	(vma_of[0] == (v) -> 0 : 1)
#define last_page(v)	(vma_of[1] == (v) -> 1 : 0)
#endif

/* The page table of a page; its entry in the pmd, which is not none; another page in that table */
#if TABLES == 1
#define table(p)	((p) & CHILD)
#define neighbour(p)	((p) ^ 1)
#else
#define table(p)	(p)
#define neighbour(p)	(p)
#endif
#define pmd(p)		pmds[table(p)]

bit pmds[4];

/*
 * Spinlocks: pmd_lock() of a process, the lock of a page table (PTL), mm->page_table_lock. What is
 * done under one of them to things that are only touched under it is one step, which waits for the
 * lock. Retract looks at the word inside, so it takes its locks one by one. PTL stands for
 * pte_offset_map_lock(): whoever has it looks at the pmd again, for the table may have gone.
 * i_mmap_rwsem is like those, for a retractor is alone.
 */
bit pmls[4];
bit ptls[4];
bit page_table_lock;
bit i_mmap;

#define pml(p)		pmls[(p) & CHILD]
#define ptl(p)		ptls[table(p)]
#define lock(l)		atomic { !l -> l = 1 }
#define unlock(l)	l = 0

/* mmap_lock of the parent, and the locks of its VMAs */
byte mmap_readers;
bit mmap_writer;
#if MOVES > 0
byte vma_readers[3];
bit vma_writer[3];
#define vma_end_write_all()	d_step { vma_writer[0] = 0; vma_writer[2] = 0 }
#else
byte vma_readers[2];
bit vma_writer[2];
#define vma_end_write_all()	d_step { vma_writer[0] = 0; vma_writer[1] = 0 }
#endif

#ifdef FAIR
byte mmap_waiting;
#define mmap_can_read	(!mmap_writer && mmap_waiting == 0)
#else
#define mmap_can_read	(!mmap_writer)
#endif

#define mmap_read_lock()	atomic { mmap_can_read -> mmap_readers++ }
#define mmap_read_unlock()	mmap_readers--

inline mmap_write_lock()
{
#ifdef FAIR
	mmap_waiting++;
	atomic { !mmap_writer && mmap_readers == 0 -> mmap_writer = 1; mmap_waiting-- }
#else
	atomic { !mmap_writer && mmap_readers == 0 -> mmap_writer = 1 }
#endif
}

/* The locks of all VMAs end first: vma_end_write_all(). */
inline mmap_write_unlock()
{
	vma_end_write_all();
	mmap_writer = 0
}

inline mmap_write_downgrade()
{
	vma_end_write_all();
	d_step { mmap_writer = 0; mmap_readers++ }
}

/* New readers fail; wait for those who are there. */
inline vma_start_write(v)
{
	vma_writer[v] = 1;
	vma_readers[v] == 0
}

/* Assertions are about variables, so that spin's message has the name (P1 is one of spin's). */
bit p1 = 1, p2 = 1, p3 = 1, p5 = 1, p6 = 1, p7 = 1, r = 1;
bit forking, merging;

#ifdef REACH
#define checked(n)	false
#elif defined(ONLY)
#define checked(n)	(ONLY == n)
#else
#define checked(n)	true
#endif
#define must_hold(n, p, what)	p = p && (!checked(n) || (what)); assert(p)

#ifdef REACH
/* A flag was cleared; after that, a page table was retracted; a pointer came in a flag's place. */
bit cleared, retracted, replaced;
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

#define all_none(p)	(pte[p] == NONE && pte[neighbour(p)] == NONE)
#define no_guard(p)	(pte[p] != GUARD && pte[neighbour(p)] != GUARD)

/* The pmd is cleared, and with it go all entries. */
inline free_table(p)
{
	atomic {
		must_hold(2, p2, no_guard(p));
		pmd(p) = 0;
		pte[p] = NONE;
		pte[neighbour(p)] = NONE
	}
}

/* ---- MADV_GUARD_INSTALL of the pages from lo to hi ---- */

/*
 * Once for each VMA: the flag, unless there is a flag or a pointer. To look and to store are two
 * steps, so that page_table_lock must make one of them.
 */
inline set_unfaulted(at)
{
	if
	:: (page == at || vma_of[at] != vma) && word[vma] == 0 ->
#ifdef MUTANT_INSTALL_SET_BIT
		word[vma] = word[vma] | UNFAULTED
#elif defined(MUTANT_INSTALL_STORE)
		lock(page_table_lock);
		word[vma] = UNFAULTED;
		unlock(page_table_lock)
#elif defined(MUTANT_INSTALL_NO_LOCK)
		if
		:: word[vma] == 0 -> word[vma] = UNFAULTED
		:: else
		fi
#else
		lock(page_table_lock);
		if
		:: word[vma] == 0 -> word[vma] = UNFAULTED
		:: else
		fi;
		unlock(page_table_lock)
#endif
	:: else
	fi
}

inline guard_install()
{
	do
	:: atomic { page <= hi -> vma = vma_of[page] }
#ifndef MUTANT_FLAG_AFTER_MARKER
		set_unfaulted(lo);
#endif
walk:		pte_alloc(page);
		if
		:: atomic { !ptl(page) && !pmd(page) -> goto walk }	/* retracted meanwhile */
		:: atomic { !ptl(page) && pmd(page) && pte[page] > GUARD ->
			pte[page] = NONE;			/* zap_page_range_single() */
			goto walk }
		:: atomic { !ptl(page) && pmd(page) && pte[page] <= GUARD -> pte[page] = GUARD }
		fi;
#ifdef MUTANT_FLAG_AFTER_MARKER
		set_unfaulted(hi);
#endif
		page++
	:: else -> break
	od
}

/* ---- MADV_GUARD_REMOVE of the pages from lo to hi ---- */

/*
 * VMAs that are wholly in the range were flagged, and have lost all guards. Whoever installs or
 * faults must be kept out. What was true before mmap_lock was dropped may have changed.
 */
inline clear_unfaulted()
{
#ifndef MUTANT_CLEAR_UNDER_READ_LOCK
	mmap_read_unlock();
	mmap_write_lock();
#endif
	page = lo;
	do
	:: page <= hi ->
		atomic { vma = vma_of[page]; last = last_page(vma) }
		if
#if MOVES > 0
		:: vma == NO_VMA -> last = page				/* moved meanwhile */
#endif
		:: vma != NO_VMA && (first_page(vma) < lo || last > hi)	/* merged meanwhile */
#ifndef MUTANT_CLEAR_STALE_FLAG
		:: vma != NO_VMA && word[vma] != UNFAULTED
#endif
		:: else ->
#if !defined(MUTANT_CLEAR_UNDER_READ_LOCK) && !defined(VARIANT_CLEAR_NO_VMA_LOCK)
			vma_start_write(vma);
#endif
			clean = true;
#ifndef MUTANT_CLEAR_WITHOUT_PROOF
			do
			:: atomic { page <= last && clean && !ptl(page) ->
				clean = !is_marker(pte[page]);
				page++ }
			:: page > last || !clean -> break
			od;
#endif
			if
			:: clean -> word[vma] = 0 note(cleared = true)
			:: else
			fi;
			clean = false
		fi;
		page = last + 1
	:: else -> break
	od;
#ifndef MUTANT_CLEAR_UNDER_READ_LOCK
	mmap_write_downgrade();
#endif
	atomic { last = 0; unflag = 0 }
}

inline guard_remove()
{
	do
	:: atomic { page <= hi && !ptl(page) ->
		pte[page] = (pte[page] == GUARD -> NONE : pte[page]);
		vma = vma_of[page] }
		if
		:: page == last_page(vma) && first_page(vma) >= lo && word[vma] == UNFAULTED ->
			unflag = true
		:: else
		fi;
		page++
	:: page > hi -> break
	od;
#ifndef MUTANT_CLEAR_NEVER
	if
	:: unflag -> clear_unfaulted()
	:: else
	fi
#endif
}

proctype madviser()
{
	byte calls, lo, hi, page, vma, last;
	bit clean, unflag;

	do
	:: calls < CALLS ->
		atomic {
			mmap_can_read -> mmap_readers++;
			if
			:: hi = 0
			:: hi = 1
			:: hi = 1; lo = 1
			fi;
#if MOVES > 0
			if
			:: vma_of[0] != NO_VMA
			:: vma_of[2] != NO_VMA -> lo = lo + 2; hi = hi + 2
			fi;
#endif
			page = lo;
			calls++;
			if
			:: goto install
			:: goto remove
			fi
		}
install:	guard_install();
		goto done;
remove:		guard_remove();
done:		atomic { mmap_read_unlock(); lo = 0; hi = 0; page = 0; vma = 0 }
	:: else -> break
	od
}

/* ---- a write fault ---- */

#ifdef MUTANT_FAULT_TAKES_FLAG
#define prepared(word)	((word) != 0)
#else
#define prepared(word)	(masked(word) != 0)
#endif

/* __anon_vma_prepare(): under the lock it looks again. */
inline anon_vma_prepare()
{
	lock(page_table_lock);
	if
	:: atomic { masked(word[vma]) == 0 note(replaced = (word[vma] == UNFAULTED)) }
		word[vma] = POINTER
	:: else
	fi;
	unlock(page_table_lock)
}

#if FAULTS > 0
proctype faulter()
{
	byte page, vma;
	bit vma_locked;

#if VMAS > 1
	if
	:: page = 0
	:: page = 1
	fi;
#endif
	atomic {
		if
		:: !vma_writer[vma_of[page]] -> vma_readers[vma_of[page]]++; vma_locked = 1
		:: mmap_can_read -> mmap_readers++
		fi;
		vma = vma_of[page]
	}
	/* __vmf_anon_prepare(): needs mmap_lock, but does not wait for it with a VMA locked */
again:	if
	:: prepared(word[vma]) -> goto map
	:: else
	fi;
	if
#if defined(MUTANT_FAULT_WAITS)
	:: vma_locked -> mmap_read_lock()
#elif defined(MUTANT_FAULT_SPINS)
	:: atomic { vma_locked && mmap_can_read -> mmap_readers++ }
	:: vma_locked && !mmap_can_read -> goto again
#else
	:: atomic { vma_locked && mmap_can_read -> mmap_readers++ }
	:: atomic { vma_locked && !mmap_can_read ->		/* VM_FAULT_RETRY */
		vma_readers[vma]--;
		vma_locked = 0 }
		atomic { mmap_can_read -> mmap_readers++; vma = vma_of[page] }
		goto again
#endif
	:: !vma_locked
	fi;
	anon_vma_prepare();
	if
	:: vma_locked -> mmap_read_unlock()
	:: else
	fi;
	/* the page, if nothing is there; a marker is a SIGSEGV */
map:	pte_alloc(page);
	if
	:: atomic { !ptl(page) && !pmd(page) -> goto map }
	:: atomic { !ptl(page) && pmd(page) -> pte[page] = (pte[page] == NONE -> PAGE : pte[page]) }
	fi;
	if
	:: vma_locked -> vma_readers[vma]--
	:: else -> mmap_read_unlock()
	fi
}
#endif

/* ---- userfaultfd ---- */

#if UFFDS > 0
proctype uffd()
{
	byte page, vma, what;

	if
	:: page = 0
	:: page = 1
	fi;
	mmap_read_lock();
	vma = vma_of[page];
	if
	:: what = POISON		/* UFFDIO_POISON of what is shared */
	:: what = PAGE			/* all others, and private: uffd_lock_vma() */
		if
		:: !masked(word[vma]) -> anon_vma_prepare()
		:: else
		fi
	fi;
map:	pte_alloc(page);
	if
	:: atomic { !ptl(page) && !pmd(page) -> goto map }
	:: atomic { !ptl(page) && pmd(page) -> pte[page] = (pte[page] == NONE -> what : pte[page]) }
	fi;
	mmap_read_unlock()
}
#endif

/* ---- MADV_DONTNEED of a whole page table, CONFIG_PT_RECLAIM ---- */

#if ZAPS > 0
proctype zapper()
{
	byte page, vma;
	bit all;

	/* one VMA has all of the table */
	atomic { vma_of[neighbour(page)] == vma_of[page] && !vma_writer[vma_of[page]] ->
		vma = vma_of[page];
		vma_readers[vma]++ }
	lock(ptl(page));
	if
	:: pmd(page) ->
		atomic {	/* zap_pte_range(): guards stay */
			all = no_guard(page);
			pte[page] = (pte[page] == GUARD -> GUARD : NONE);
			pte[neighbour(page)] = (pte[neighbour(page)] == GUARD -> GUARD : NONE) }
		if
		:: all && !pml(page) ->		/* try_get_and_clear_pmd(); a trylock may fail */
			free_table(page);
			unlock(ptl(page))
		:: all ->			/* try_to_free_pte() */
			unlock(ptl(page));
			lock(pml(page));
			lock(ptl(page));
			if
#ifdef MUTANT_ZAP_BLIND
			:: pmd(page) -> free_table(page)
#else
			:: pmd(page) && all_none(page) -> free_table(page)
#endif
			:: else
			fi;
			unlock(ptl(page));
			unlock(pml(page))
		:: !all -> unlock(ptl(page))
		fi
	:: else -> unlock(ptl(page))
	fi;
	vma_readers[vma]--
}
#endif

/* ---- collapse_pte_mapped_thp(): of a file, so pages of it are NONE here ---- */

#if COLLAPSES > 0
proctype collapser()
{
	byte page;
	bit all;

	mmap_read_lock();
	if
	:: vma_of[neighbour(page)] == vma_of[page] && pmd(page) ->
		/* steps 1 and 2: whatever is none of its pages stops it; the others are cleared */
		atomic { !ptl(page) -> all = pmd(page) && all_none(page) }
		/* step 3, without PTL; step 4 */
		if
		:: all ->
			lock(pml(page));
			lock(ptl(page));
			if
#ifdef MUTANT_COLLAPSE_BLIND		/* 6.18.15: pmd_same() only */
			:: pmd(page) -> free_table(page)
#else
			:: pmd(page) && all_none(page) -> free_table(page)
#endif
			:: else
			fi;
			unlock(ptl(page));
			unlock(pml(page))
		:: else
		fi
	:: else
	fi;
	mmap_read_unlock()
}
#endif

/* ---- mremap() of VMA 0 ---- */

#if MOVES > 0
proctype mover()
{
	byte page;
	bit guards[2], dontunmap;

	mmap_write_lock();
	vma_start_write(0);
	guards[0] = (pte[0] == GUARD);
	guards[1] = (pte[1] == GUARD);
	/* copy_vma(): from here on khugepaged can find it */
#ifdef MUTANT_MOVE_UNFLAGGED
	word[2] = masked(word[0]);
#else
	word[2] = word[0];
#endif
	vma_writer[2] = 1;
	atomic { !i_mmap -> vma_of[2] = 2; vma_of[3] = 2 }
	if
	:: dontunmap = 0
	:: dontunmap = 1
#ifdef MUTANT_DONTUNMAP_EARLY
		; word[0] = 0
#endif
	fi;
	/* move_ptes(), or all of a table at once */
	do
	:: page < 2 && pmd(page) ->
		pte_alloc(2 + page);
		if
		:: atomic { !ptl(page) && !ptl(2 + page) && pmd(page) && pmd(2 + page) ->
			pte[2 + page] = pte[page];
			pte[page] = NONE;
			page++ }
		:: !pmd(page) || !pmd(2 + page)		/* again */
		fi
	:: else -> break
	od;
	must_hold(3, p3, (!guards[0] || pte[2] == GUARD) && (!guards[1] || pte[3] == GUARD));
	if
	:: dontunmap						/* dontunmap_complete() */
	:: else -> atomic { !i_mmap -> vma_of[0] = NO_VMA; vma_of[1] = NO_VMA }
	fi;
	word[0] = 0;
	mmap_write_unlock()
}
#endif

/* ---- fork ---- */

#ifdef MUTANT_FORK_MASKED
#define fork_markers_only(vma)	false
#else
#define fork_markers_only(vma)	(word[vma] == UNFAULTED)
#endif

#if FORKS > 0
proctype forker()
{
	byte page, vma;

	mmap_write_lock();
	forking = 1;
	do
	:: atomic { page < 2 -> vma = vma_of[page] }
		if
		:: page == first_page(vma) ->
			vma_start_write(vma);
			/* vm_area_dup() has copied the word; anon_vma_fork() */
#ifdef MUTANT_CHILD_UNFLAGGED
			word[CHILD + vma] = masked(word[vma]);
#else
			word[CHILD + vma] = (masked(word[vma]) -> POINTER : word[vma]);
#endif
			/* from here on khugepaged can find it */
			atomic { !i_mmap ->
				vma_of[CHILD + page] = CHILD + vma;
				vma_of[CHILD + last_page(vma)] = CHILD + vma }
		:: else
		fi;
		/* copy_page_range(), where there is an anon_vma */
		if
		:: masked(word[vma]) && pmd(page) ->
			pte_alloc(CHILD + page);
			atomic { !ptl(CHILD + page) && !ptl(page) ->
				must_hold(3, p3, pmd(CHILD + page));
				pte[CHILD + page] = pte[page] }
		:: else
		fi;
		page++
	:: else -> break
	od;
	/* copy_pte_markers(), where there is a flag: without PTL of the parent's page tables */
	page = 0;
	do
	:: page < 2 ->
		if
		:: fork_markers_only(vma_of[page]) && is_marker(pte[page]) ->
			pte_alloc(CHILD + page);
			atomic { !ptl(CHILD + page) ->
				must_hold(3, p3, pmd(CHILD + page) && pmd(page));
				pte[CHILD + page] = pte[page] }
		:: else
		fi;
		page++
	:: else -> break
	od;
	atomic {
		must_hold(3, p3, pte[0] != GUARD || pte[CHILD + 0] == GUARD);
		must_hold(3, p3, pte[1] != GUARD || pte[CHILD + 1] == GUARD);
		forking = 0
	}
	mmap_write_unlock()
}
#endif

/* ---- retract_page_tables(), of the process and of its child ---- */

#ifdef MUTANT_RETRACT_MASKED
#define can_retract(vma)	(masked(word[vma]) == 0)
#else
#define can_retract(vma)	(word[vma] == 0)
#endif
#ifdef VARIANT_RETRACT_NO_FIRST_CHECK
#define first_check(vma)	true
#else
#define first_check(vma)	can_retract(vma)
#endif
#ifdef MUTANT_RETRACT_NO_SECOND_CHECK
#define second_check(vma)	true
#else
#define second_check(vma)	can_retract(vma)
#endif

#if RETRACTS > 0
proctype retractor()
{
	byte retracts, page, vma;

	do
	:: retracts < RETRACTS ->
		atomic {
			!i_mmap -> i_mmap = 1;
			if
			:: vma_of[0] != NO_VMA -> page = 0
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
			lock(pml(page));
			if
			:: pmd(page) ->
				lock(ptl(page));
				if
				:: second_check(vma) ->		/* pmdp_collapse_flush() */
					free_table(page) note(retracted = cleared)
				:: else
				fi;
				unlock(ptl(page))
			:: else				/* check_pmd_state() */
			fi;
			unlock(pml(page))
		:: else
		fi;
		atomic { unlock(i_mmap); page = 0; vma = 0 }
	:: else -> break
	od
}
#endif

/* ---- a merge: VMA 0 grows over VMA 1, or the other way round ---- */

#ifdef LEFTWARD
#define DST	1
#define SRC	0
#else
#define DST	0
#define SRC	1
#endif

#if VMAS > 1
proctype merger()
{
	bit dup;

	mmap_write_lock();
	vma_start_write(DST);
	vma_start_write(SRC);
	merging = 1;
	/* dup_anon_vma(): the pointer; a flag stays beside it until nothing can fail any more */
	if
	:: masked(word[SRC]) && !masked(word[DST]) ->
		dup = 1;
#ifdef MUTANT_ABORT_TO_0
		word[DST] = POINTER
#else
		word[DST] = POINTER | word[DST]
#endif
	:: else
	fi;
	if
	:: skip		/* anon_vma_clone() or commit_merge() lacks memory */
		if
#ifdef MUTANT_ABORT_THROUGH_0
		:: dup && word[DST] == POINTER -> word[DST] = 0
		:: dup && word[DST] != POINTER -> word[DST] = 0; word[DST] = UNFAULTED
#else
		:: dup -> word[DST] = word[DST] & UNFAULTED
#endif
		:: !dup
		fi
	:: skip		/* commit_merge() has all that it needs: vma_inherit_anon_vma_flags() */
		if
		:: masked(word[DST]) -> word[DST] = POINTER
#ifndef MUTANT_MERGE_MASKED
		:: word[DST] == 0 && word[SRC] == UNFAULTED -> word[DST] = UNFAULTED
#endif
		:: else
		fi;
		atomic { !i_mmap -> vma_of[SRC] = DST }
		word[SRC] = 0	/* freed */
	fi;
	merging = 0;
	mmap_write_unlock()
}
#endif

/* ---- what must hold ---- */

#define unflagged(p)	(pte[p] == GUARD && word[vma_of[p]] == 0)
#define unmapped(p)	(pte[p] == PAGE && !masked(word[vma_of[p]]))
#define both(v)		(word[v] == (POINTER | UNFAULTED))
#define no_flag_but_poison(p)	(word[vma_of[p]] != UNFAULTED || pte[0] == POISON || pte[1] == POISON)

/* Blocks for ever, unless something does not hold. */
proctype monitor()
{
end:	if
	:: atomic { checked(1) && (forking && (unflagged(0) || unflagged(1)) || unflagged(2) ||
		unflagged(3)) -> p1 = 0; assert(p1) }
	:: atomic { checked(5) && (!merging && both(DST) || both(SRC) || both(2) || both(3)) ->
		p5 = 0; assert(p5) }
	:: atomic { checked(6) && (unmapped(0) || unmapped(1) || unmapped(2) || unmapped(3)) ->
		p6 = 0; assert(p6) }
	fi
}

/* Starts all, and is the last one: MADV_GUARD_REMOVE of everything, in peace. */
init
{
	byte lo, hi, page, vma, last;
	bit clean, unflag;

	atomic {
		vma_of[1] = VMAS - 1;
		vma_of[2] = NO_VMA;
		vma_of[3] = NO_VMA;
		pmd(0) = 1;		/* page tables of earlier faults, which are empty by now */
		pmd(1) = 1;
		run monitor();
		run madviser();
#if THREADS > 1
		run madviser();
#endif
#if FAULTS > 0
		run faulter();
#endif
#if FORKS > 0
		run forker();
#endif
#if RETRACTS > 0
		run retractor();
#endif
#if UFFDS > 0
		run uffd();
#endif
#if ZAPS > 0
		run zapper();
#endif
#if COLLAPSES > 0
		run collapser();
#endif
#if MOVES > 0
		run mover();
#endif
#if VMAS > 1
		run merger()
#endif
	}
	atomic {
		_nr_pr == 2 -> mmap_readers++;
#if REACH == 1		/* a flag was set, and is cleared */
		r = !(cleared && word[0] == 0 && word[vma_of[1]] == 0);
#elif REACH == 2	/* the child has a marker, and neither it nor the parent an anon_vma */
		r = !(pte[2] == GUARD && word[0] == UNFAULTED && word[2] == UNFAULTED);
#elif REACH == 3	/* khugepaged got a page table after the flag was cleared */
		r = !retracted;
#elif REACH == 4	/* an anon_vma came in the flag's place, and fork still copied the marker */
		r = !(replaced && pte[2] == GUARD && word[2] == POINTER);
#elif REACH == 5	/* the flag came from the VMA that was merged, and its marker is there */
		r = !(vma_of[1] == DST && word[DST] == UNFAULTED && pte[0] != GUARD &&
			pte[1] == GUARD);
#elif REACH == 6	/* what was moved is as it was */
		r = !(vma_of[0] == NO_VMA && word[2] == UNFAULTED && pte[2] == GUARD);
#endif
		assert(r);
		assert(!mmap_writer && mmap_readers == 1 && !i_mmap && !page_table_lock &&
			!vma_writer[0] && !vma_writer[1] && vma_readers[0] + vma_readers[1] == 0);
		hi = 1
#if MOVES > 0
		; if
		:: vma_of[0] == NO_VMA -> lo = 2; hi = 3; page = 2
		:: else
		fi
#endif
	}
	guard_remove();
	mmap_read_unlock();
	must_hold(7, p7, no_flag_but_poison(lo) && no_flag_but_poison(hi))
}
