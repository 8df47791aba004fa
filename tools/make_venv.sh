#!/usr/bin/env bash
# Makes one virtual environment from one lock file: make_venv.sh PYTHON FOLDER REQUIREMENTS
set -euo pipefail
python=$1 folder=$2 requirements=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Headgate needs Python 3.11 or later; $python is $("$python" --version 2>&1). Say which with: make PYTHON=python3.12 ..." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
fi
echo "Setting up $folder ($(wc -l <"$requirements") lines of pinned packages) ..."
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --requirement "$requirements"
