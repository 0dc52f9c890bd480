#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# vmlean.ko from insmod to rmmod: modes, clear, what is refused, nothing left
# behind, and rounds of both under load. TAP; for the guest's ash, too.
#
# module_load.sh [vmlean.ko [rounds]]
# shellcheck disable=SC2317 # functions are run by ok
set -eu

ko=${1:-/lib/vmlean/vmlean.ko}
# a kernel that checks all it does is some five times slower
rounds=${2:-$(if zcat /proc/config.gz 2>/dev/null | grep -q ^CONFIG_KASAN=y; then echo 20; else echo 50; fi)}
dir=/sys/kernel/debug/vmlean
feature=$dir/vma_recycle
n=0 failed=0 load=
log=$(mktemp)
was_loaded=

# ok NAME COMMAND...
ok() {
	name=$1
	shift
	n=$((n + 1))
	if "$@" >"$log" 2>&1; then
		echo "ok $n $name"
	else
		# KTAP has the reason before the result
		sed 's/^/# /' "$log"
		echo "not ok $n $name"
		failed=1
	fi
}

loaded() {
	grep -q '^vmlean ' /proc/modules
}

finish() {
	for pid in $load; do
		kill "$pid" 2>/dev/null || :
	done
	wait
	loaded && rmmod vmlean
	[ -z "$was_loaded" ] || insmod "$ko"
	rm -f "$log"
}

modes() {
	for f in "$dir/version" "$dir"/*/*; do
		case $f in
		*/stats | */rmap_depth | */check) want=600 ;;
		*) want=400 ;;
		esac
		mode=$(stat -c '%a %u' "$f")
		echo "$f $mode"
		[ "$mode" = "$want 0" ] || return 1
	done
}

version() {
	[ "$(grep -c . "$dir/version")" -eq 1 ]
}

# the list of files, so that one more does not go unseen
files() {
	list=$(cd "$feature" && echo *)
	echo "$list"
	[ "$list" = "help percpu stats" ]
}

# sum of all counters (what percpu has, too); starts no process, which would add
total() {
	sum=0
	while read -r word value; do
		case " $counters " in
		*" $word "*) sum=$((sum + value)) ;;
		esac
	done <"$feature/stats"
}

# sum over the rows of percpu
total_percpu() {
	sum=0
	while read -r word values; do
		case $word in
		version | cpu) ;;
		*) for value in $values; do sum=$((sum + value)); done ;;
		esac
	done <"$feature/percpu"
}

stats_format() {
	cat "$feature/stats"
	[ "$(head -n 1 "$feature/stats")" = "version 1" ] &&
		! grep -Evq '^[a-z][a-z0-9_]* [0-9]+$' "$feature/stats" &&
		[ "$(wc -l <"$feature/stats")" -eq "$(wc -l <"$feature/help")" ]
}

percpu_format() {
	cat "$feature/percpu"
	possible=$(cat /sys/devices/system/cpu/possible)
	awk -v possible="$possible" 'NR == 2 { columns = NF }
		NR > 2 { rows++; if (NF != columns) exit bad = 1 }
		END {
			n = split(possible, range, "[,-]")
			if (n <= 2 && rows != range[n] - range[1] + 1) bad = 1
			exit bad
		}' "$feature/percpu"
}

# events that happen between two reads can only add
percpu_is_stats() {
	total && low=$sum
	total_percpu && middle=$sum
	total
	echo "$low <= $middle <= $sum"
	[ "$low" -le "$middle" ] && [ "$middle" -le "$sum" ]
}

forks() {
	i=0
	while [ "$i" -lt 100 ]; do
		(:)
		i=$((i + 1))
	done
}

clears() {
	forks
	total && before=$sum
	"$@" >"$feature/stats"
	total
	echo "$before, after a clear $sum"
	# a kernel with all features off counts nothing
	[ "$before" -eq 0 ] || [ "$sum" -lt $((before / 2)) ]
}

# refuses TEXT FILE: EINVAL, and nothing is cleared
refuses() {
	total && before=$sum
	# ash's printf is silent about errors
	error=$(printf %b "$1" | dd of="$2" bs=8k conv=notrunc 2>&1) || :
	total
	case $error in
	*"Invalid argument"*) [ "$sum" -ge "$before" ] ;;
	*) echo "$2, $error" && return 1 ;;
	esac
}

refuses_all() {
	for text in 1 00 ' ' '\n' ' 0' '0 ' 0x0 -0 +0 a 0a '0\n\n' '\0' \
		"$(printf '%05000d' 0)"; do
		refuses "$text" "$feature/stats" || {
			printf 'accepted: %.20s\n' "$text"
			return 1
		}
	done
}

read_only() {
	for f in "$dir/version" "$feature/percpu" "$feature/help"; do
		refuses 0 "$f" || return 1
	done
}

no_pointers() {
	! grep -Er '(0x|ffff)[0-9a-f]{8}' "$feature"
}

gone() {
	! loaded && [ ! -e "$dir" ] && [ ! -e /sys/module/vmlean ]
}

# an open file keeps the module; its end lets it go
busy() {
	exec 3<"$feature/stats"
	! rmmod vmlean || return 1
	read -r first <&3
	exec 3<&-
	[ "$first" = "version 1" ] && rmmod vmlean && gone
}

watcher() {
	status=0
	vmlean-stat --json 2>&1 || status=$?
	[ "$status" -eq "$1" ]
}

# rmmod is refused while a reader has a file open: again, until it has not
unload() {
	tries=0
	while ! rmmod vmlean 2>/dev/null; do
		tries=$((tries + 1))
		[ "$tries" -lt 5000 ] || return 1
	done
}

rounds_under_load() {
	(while :; do cat "$dir"/* "$dir"/*/* || :; done) >/dev/null 2>&1 &
	load="$load $!"
	(while :; do [ ! -e "$feature/stats" ] || echo 0 >"$feature/stats" || :; done) 2>/dev/null &
	load="$load $!"
	(while :; do /bin/true; done) &
	load="$load $!"
	done=0
	while [ "$done" -lt "$rounds" ] && insmod "$ko" && unload; do
		done=$((done + 1))
	done
	for pid in $load; do
		kill "$pid"
	done
	wait
	load=
	echo "$done of $rounds rounds"
	[ "$done" -eq "$rounds" ]
}

if ! grep -q ' vmlean_snapshot' /proc/kallsyms; then
	echo "1..0 # SKIP this kernel has no CONFIG_VMLEAN_STATS"
	exit 4
fi
trap finish EXIT
if loaded; then
	was_loaded=1
	rmmod vmlean
fi

echo "TAP version 13"
echo "1..17"
ok "before: nothing there" gone
ok "insmod" insmod "$ko"
counters=$(sed -n '2s/^cpu //p' $feature/percpu)
ok "version is one line" version
ok "files of a feature" files
ok "modes: 0600 for stats, 0400 for all others" modes
ok "stats: version 1, then \"name value\" lines" stats_format
ok "percpu: a row for each possible CPU" percpu_format
ok "percpu adds up to stats" percpu_is_stats
ok "0 clears" clears printf 0
ok "0 and a newline clear" clears echo 0
ok "all else is EINVAL and clears nothing" refuses_all
ok "the other files refuse any write" read_only
ok "no kernel pointers" no_pointers
if command -v vmlean-stat >/dev/null; then
	ok "vmlean-stat shows it" watcher 0
else
	n=$((n + 1))
	echo "ok $n vmlean-stat # SKIP it is not installed"
fi
ok "an open file keeps the module loaded; rmmod leaves nothing" busy
ok "$rounds times insmod and rmmod under load" rounds_under_load
ok "after: nothing left" gone
exit $failed
