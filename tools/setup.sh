#!/bin/sh
# Make .venv, or bring it up to date where requirements.lock, pyproject.toml, PYTHON, TORCH or its place changed:
# `make setup`. TORCH=cpu takes PyTorch without CUDA, over 4 GB less, TORCH=cuda goes back; else .venv stays as it is.
set -eu
cd "$(dirname "$0")/.."

case "${TORCH:-}" in
"" | cpu | cuda) ;;
*)
    echo "setup: TORCH is $TORCH; it may be cpu (without CUDA, over 4 GB less) or cuda" >&2
    exit 1
    ;;
esac
torch_before="$(cat .venv/torch 2>/dev/null || echo cuda)"
torch="${TORCH:-$torch_before}"

base='import sys; print(sys.version, sys.base_prefix)'
asked_for() { # whether .venv is of the interpreter that PYTHON names; any will do where it names none
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$base" 2>/dev/null)" = "$(.venv/bin/python -c "$base" 2>/dev/null)" ]
}
stamp="$(pwd) $torch $(cat requirements.lock pyproject.toml tools/setup.sh | cksum)"
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

# pip would take a torch that is there for the one asked for, and leave the CUDA packages: another kind begins anew.
if [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$(pwd -P)/.venv" ] || ! asked_for ||
    [ "$torch" != "$torch_before" ]; then
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
    echo "$torch" > .venv/torch
fi
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 .venv/bin/python -m pip install -qq --no-deps --no-compile"
lock=requirements.lock
size="7 GB"
index=https://download.pytorch.org/whl/cpu
without_cuda='import importlib.metadata as it, sys; sys.exit("nvidia" in str(it.requires("torch")))'
if [ "$torch" = cpu ] && [ "$(uname)" = Linux ]; then # elsewhere the locked wheels have no CUDA
    # PyTorch's own index, the only one with such wheels. The hashes of the lock are those of the CUDA wheels, so what
    # comes from here is held by its version alone. Untried: where this was written the index could not be reached.
    wheels="$(grep -oE '^torch(audio|vision)?==[^ ]+' "$lock")"
    echo "setup: installing" $wheels "from $index"
    $pip --only-binary :all: --index-url "$index" $wheels
    if ! .venv/bin/python -c "$without_cuda"; then
        echo "setup: pip brought another torch than the one without CUDA; is an index of its own set for pip?" >&2
        rm .venv/torch # so that the next try begins anew
        exit 1
    fi
    cuda='^(cuda-[a-z0-9-]+|nvidia-[a-z0-9-]+|triton|torch(audio|vision)?)=='
    awk -v cuda="$cuda" '/^[a-z0-9]/ { left_out = $0 ~ cuda } !left_out' "$lock" > .venv/without_cuda.lock
    lock=.venv/without_cuda.lock
    size="2 GB"
fi
echo "setup: installing $(grep -c '^[a-z0-9].*==' "$lock") locked packages (some minutes and $size the first time)"
$pip --require-hashes -r "$lock"
echo "setup: installing eegxai-support itself"
$pip --editable .
echo "$stamp" > .venv/stamp
