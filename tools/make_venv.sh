#!/usr/bin/env bash
# Makes a virtual environment of the packages that a lock file pins, and says how far it is:
#   make_venv.sh [--part | --add] PYTHON FOLDER LOCK
# --part: more will be added later, and nothing is compiled. Python compiles what it imports, which is the smaller part.
# --add: keeps what earlier locks have put there and completes it.
#
# A lock pins everything, so pip has nothing to resolve (--no-deps); `pip check` proves that nothing is missing.
set -euo pipefail

mode=
case $1 in --*) mode=$1 && shift ;; esac
python=$1 folder=$2 lock=$3
log="$folder/setup.log"
every=3

say() { printf '%-12s %s\n' "$folder" "$*"; }

check_python() {
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Headgate needs Python 3.11 or later; $python is $("$python" --version 2>&1). Say which with: make PYTHON=python3.12 ..." >&2
    exit 1
  fi
}

# The pip of the Python at hand fills an environment, if it can (22.3 and later) ...
outer_pip=("$python" -m pip --python "$folder/bin/python")
# ... or else the environment's own.
own_pip=("$folder/bin/python" -m pip)
pip=("${outer_pip[@]}")

make_folder() {
  rm -rf "$folder"
  if "$python" -m venv --without-pip "$folder" && "${outer_pip[@]}" --version >/dev/null 2>&1; then return; fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
  say "putting pip into it first, because $python has none, or one older than 22.3 ..."
  rm -rf "$folder"
  "$python" -m venv "$folder"
  pip=("${own_pip[@]}")
}

# pip prints a line for each package that it fetches, and writes INSTALLER for each that it has installed.
packages() { grep -c '^[A-Za-z0-9].*==' "$lock"; }
count() { grep -cE "$1" "$log" || true; }
installed() { find "$folder"/lib/python*/site-packages -mindepth 2 -maxdepth 2 -path '*.dist-info/INSTALLER' | wc -l; }

how_far() {
  local all=$(($(packages) - $(count '^Ignoring '))) now
  if grep -q '^Installing collected packages' "$log"; then
    now=$(installed)
    echo "$((now < all ? now : all)) of $all packages installed"
  else
    echo "$(count '^(Collecting|Processing|Requirement already satisfied:?) ') of $all packages fetched"
  fi
}

# Runs a command with its output in the log, and every few seconds says what another one prints: while_saying COMMAND ...
while_saying() {
  local what=$1 job next=$((SECONDS + every))
  shift
  # With job control it has a process group of its own, so that all of it can be ended.
  set -m
  "$@" </dev/null >>"$log" 2>&1 &
  set +m
  job=$!
  trap 'kill -TERM -- -$job; exit 130' INT TERM
  while kill -0 $job 2>/dev/null; do
    if [ "$SECONDS" -ge "$next" ]; then
      say "$($what) ($SECONDS s)"
      next=$((SECONDS + every))
    fi
    sleep 0.2
  done
  trap - INT TERM
  wait $job
}

install() {
  local compile=--compile
  if [ "$mode" = --part ]; then compile=--no-compile; fi
  local options=(--disable-pip-version-check --no-input --no-deps --progress-bar off $compile)
  while_saying how_far "${pip[@]}" install "${options[@]}" --requirement "$lock" &&
    while_saying "echo checking" "${pip[@]}" check
}

check_python
say "installing $lock with pip, usually in about $(($(packages) / 3)) seconds ..."
# Whatever ends this early, the environment does not look ready.
rm -f "$folder"/.ready* "$log"
if [ "$mode" != --add ]; then
  make_folder
elif [ -x "$folder/bin/pip" ]; then
  pip=("${own_pip[@]}")
fi
if ! install; then
  cat "$log" >&2
  cat >&2 <<HINT

$folder is not ready: pip failed, and what it said is above. Often the network or a proxy is the reason, or an index
that lacks a version that $lock pins. pip takes its usual settings: pip.conf, and PIP_INDEX_URL,
PIP_PROXY and so on. Run the same command again to try again; what was downloaded is kept, if pip has a cache.
HINT
  exit 1
fi
if [ "$mode" = --add ]; then
  # What was left out before. Some packages hold templates, which are not Python by themselves.
  while_saying "echo compiling" "$folder/bin/python" -m compileall -q -j 0 "$folder/lib" || true
fi
say "ready ($SECONDS s)"
