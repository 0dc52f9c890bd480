# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by checks and tests, after lib.sh: their results, as TAP. The last command of
# a script is plan; its status is that of the script.

points=0 failed=0

point()		# point STATUS NAME [WHY]: passed if STATUS is 0; if not, WHY says more
{
	points=$((points + 1))
	if [ "$1" = 0 ]; then
		echo "ok $points - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $points - $2"
	[ -z "${3-}" ] || echo "# ${3//$'\n'/$'\n# '}"
}

skip()		# skip NAME WHY
{
	point 0 "$1 # SKIP $2"
}

try()		# try NAME COMMAND...: passed if it succeeds; if not, what it prints says more
{
	local rc=0 out

	out=$("${@:2}" 2>&1) || rc=$?
	point $rc "$1" "$out"
}

plan()
{
	echo "1..$points"
	[ "$points" -gt 0 ] && [ "$failed" = 0 ] || exit 1
}

# What to try:

gives()		# gives STATUS PATTERN COMMAND...: it exits with that and prints that
{
	local is=0 out

	out=$("${@:3}" 2>&1) || is=$?
	[ "$is" != "$1" ] || ! grep -Eq -- "$2" <<< "$out" || return 0
	printf '%s\n' "exit status $is" "$out"
	return 1
}

says()		# says FILE PATTERN
{
	grep -Eq -- "$2" "$1" || { cat "$1"; return 1; }
}

empty()		# empty FILE
{
	[ ! -s "$1" ] || { cat "$1"; return 1; }
}
