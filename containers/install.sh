#!/bin/sh
# install.sh: a checkout as the current folder in, an environment /opt/venv that holds the program and its libraries out.
# Both image files call it in their first stage, once per step, so that a builder keeps the layer with PyTorch.
set -eu
step=${1:?usage: install.sh torch|program}
pip="/opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --progress-bar off"

case ${TORCH:=cpu} in
    cpu | cuda) ;;
    *) echo "TORCH is $TORCH; it can be cpu or cuda" >&2; exit 2 ;;
esac

install_torch() {
    check_source
    python -m venv /opt/venv
    if has_wheels; then
        $pip containers/wheels/*.whl torch torchvision
    elif [ -n "${TORCH_INDEX:-}" ]; then
        $pip --index-url "$TORCH_INDEX" torch torchvision
    else
        $pip torch torchvision
    fi
    check_torch
}

has_wheels() {
    ls containers/wheels/*.whl > /dev/null 2>&1
}

# Before gigabytes are downloaded: pip's own index has no build for the CPU of x86_64.
check_source() {
    if [ "$TORCH" = cpu ] && [ "$(uname -m)" = x86_64 ] && [ -z "${TORCH_INDEX:-}" ] && ! has_wheels; then
        echo "TORCH is cpu, and pip's index has only builds for CUDA for x86_64; give TORCH_INDEX the index with the builds" \
            "for cpu, or put wheels of torch and torchvision into containers/wheels, or set TORCH=cuda" >&2
        exit 2
    fi
}

# The package index has one build of torch per processor: for CUDA on x86_64, for the CPU on others.
check_torch() {
    /opt/venv/bin/python - "$TORCH" <<'PYTHON'
import sys

import torch
import torchvision.ops  # fails where torchvision was built for another torch

found = "cuda" if torch.version.cuda else "cpu"
if found != sys.argv[1]:
    sys.exit(
        f"torch {torch.__version__} is the build for {found}, but TORCH is {sys.argv[1]}; give TORCH_INDEX the index with "
        f"the builds for {sys.argv[1]}, or put wheels of torch and torchvision into containers/wheels"
    )
PYTHON
}

install_program() {
    /opt/venv/bin/python -m pip wheel --no-deps --no-cache-dir --wheel-dir /tmp/wheel .
    $pip "$(ls /tmp/wheel/cellssl-*.whl)${EXTRAS:+[$EXTRAS]}"
    check_extras
    check_torch # a library may have asked for another one
}

check_extras() {
    /opt/venv/bin/python - "${EXTRAS:-}" <<'PYTHON'
import sys
from importlib.metadata import metadata

known = set(metadata("cellssl").get_all("Provides-Extra") or [])
unknown = {name.strip() for name in sys.argv[1].split(",")} - {""} - known
if unknown:
    sys.exit(f"EXTRAS names {', '.join(sorted(unknown))}; cellssl has {', '.join(sorted(known))}")
PYTHON
}

"install_$step"
