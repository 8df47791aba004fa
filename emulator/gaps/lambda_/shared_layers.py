"""A layer is unpacked once, for all execution environments.

On AWS, Lambda does not unpack a layer for each execution environment: /opt is there, and functions cannot write to it.
MiniStack unpacks every layer for every environment and deletes it with it. With the 1,368 files of this application's
layers, that was 0.4 of the 0.6 seconds of a cold start on a quiet machine, and environments that start at once wait for
each other's files. Here, environments share a folder per content of a layer, which goes with the embedded AWS. They
must not write to it. Python runtimes only.

Seams: `lambda_runtime.Worker._spawn`, which reads the worker's settings; `lambda_svc._resolve_layer_zip`.
"""

import hashlib
import io
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "shared_layers"
FOLDERS = "_LAMBDA_LAYERS_DIRS"
"""The variable by which MiniStack tells an environment the folders of its layers."""

_lock = threading.Lock()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_runtime.Worker, "_spawn", "self", _spawn)
    seams.expect(GAP, lambda_svc, "_resolve_layer_zip", "attachment")
    seams.expect_text(GAP, lambda_runtime, "_PYTHON_WORKER_SCRIPT", f'os.environ.get("{FOLDERS}", "")')


def _spawn(original: Callable[..., None], worker: Any) -> None:
    settings = worker.config
    layers = settings.get("Layers")
    if not layers or not str(settings.get("Runtime", "")).startswith("python"):
        original(worker)
        return
    folders = [folder_of(package) for layer in layers if (package := lambda_svc._resolve_layer_zip(layer))]
    variables = {**settings.get("Environment", {}).get("Variables", {}), FOLDERS: os.pathsep.join(map(str, folders))}
    worker.config = {**settings, "Layers": [], "Environment": {"Variables": variables}}
    try:
        original(worker)
    finally:
        worker.config = settings


def folder_of(package: bytes) -> Path:
    """Return the folder with the files of a layer. The archive is beside it: its entries have the files' modes."""
    folder = Path(tempfile.gettempdir()) / f"layer-{hashlib.sha256(package).hexdigest()[:20]}"
    with _lock:
        if not folder.exists():
            folder.with_name(f"{folder.name}.zip").write_bytes(package)
            half = folder.with_suffix(".half")
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                archive.extractall(half)
            half.rename(folder)
    return folder
