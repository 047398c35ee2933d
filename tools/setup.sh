#!/bin/sh
# Make .venv, or bring it up to date where requirements.lock, pyproject.toml, PYTHON or its place changed: `make setup`.
set -eu
cd "$(dirname "$0")/.."

base='import sys; print(sys.version, sys.base_prefix)'
asked_for() { # whether .venv is of the interpreter that PYTHON names; any will do where it names none
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$base" 2>/dev/null)" = "$(.venv/bin/python -c "$base" 2>/dev/null)" ]
}
stamp="$(pwd) $(cat requirements.lock pyproject.toml tools/setup.sh | cksum)"
if [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c "" 2>/dev/null && asked_for; then
    exit 0
fi

find_python() { # prints the first interpreter that meets the condition $1
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c "import sys; sys.exit(not ($1))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}
# Versions that the lock file was resolved for come first; a newer one usually works.
python="$(find_python '(3, 11) <= sys.version_info < (3, 14)')"
[ -n "$python" ] || python="$(find_python 'sys.version_info >= (3, 11)')"
if [ -z "$python" ]; then
    wanted="${PYTHON:-python3}"
    found="$(command -v "$wanted" >/dev/null && "$wanted" --version 2>&1 || echo "no $wanted")"
    echo "setup: needs Python 3.11, 3.12 or 3.13 (found: $found). Install one, or name it: make PYTHON=/path/to/python3" >&2
    exit 1
fi

if [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$(pwd -P)/.venv" ] || ! asked_for; then
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 .venv/bin/python -m pip install -qq --no-deps --no-compile"
echo "setup: installing $(grep -c '==' requirements.lock) locked packages (some minutes and 7 GB the first time)"
$pip -r requirements.lock
echo "setup: installing eegxai-support itself"
$pip --editable .
echo "$stamp" > .venv/stamp
