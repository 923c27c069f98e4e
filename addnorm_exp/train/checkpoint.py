"""Checkpoints: written whole or not at all, and verified before they are trusted.

Orbax writes the arrays. It restores a file with a flipped bit without a word, so each checkpoint carries a manifest of SHA-256 sums,
written last; a folder whose manifest is missing or does not fit is passed over in favour of the one before.

    checkpoints/00001000/       state, for resume (names: runs/states.py)
        arrays/  meta.json  manifest.json
"""

import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.runs.reading import read_object
from addnorm_exp.runs.shapes import Maybe
from addnorm_exp.runs.states import BEST, begin, halves, hide, read_manifest, whole
from addnorm_exp.runs.uncut import uncut

OVERHEAD = 2**18  # bytes of a checkpoint besides its arrays


class Checkpoints:
    """The checkpoints of one run. `keep` newest states are kept, and one best. `last` is the run's last step: beyond it no folder is a
    checkpoint. `say` hears which could not be trusted."""

    def __init__(self, folder: Path, keep: int, last: int | None = None, say: Callable[[str], None] = to_stderr):
        self.folder, self.keep, self.last, self.say = folder, keep, last, say
        _hush_orbax()

    def save(self, step: int, tree: Any, meta: dict[str, Any]) -> None:
        """Saves the state after `step` updates, then removes what is beyond `keep`. `tree`: arrays; `meta`: JSON."""
        self._write(f"{step:08d}", tree, meta)
        for name in self._states()[: -self.keep]:
            self._remove(name)

    def save_best(self, step: int, tree: Any) -> None:
        """Saves the best parameters so far. The former best stays until the next state that no longer needs it is safe."""
        self._write(f"{BEST}{step:08d}", tree, {"step": step})

    def remove_best_but(self, steps: set[int]) -> None:
        for step in self.best_steps() - steps:
            self._remove(f"{BEST}{step:08d}")

    def latest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that is sound and its meta; `like` gives structure, types and sharding. None where there is none.

        Unsound ones are removed, and `say` hears of them. A state without the best parameters that it refers to is unsound.
        """
        for step in self.best_steps():
            self._sound(f"{BEST}{step:08d}")
        for name in reversed(self._states()):
            if self._sound(name):
                return self._read(name, like)
        return None

    def best(self, step: int, like: Any) -> Any | None:
        """The best parameters, saved after `step` updates; None where they are missing or unsound."""
        name = f"{BEST}{step:08d}"
        return None if self._fault(name) else self._read(name, like)[0]

    def best_steps(self) -> set[int]:
        """Steps of the best parameters that are saved."""
        return {int(name.removeprefix(BEST)) for name in self._names() if name.startswith(BEST)}

    def needed_best(self) -> set[int]:
        """Steps of the best parameters that a kept state refers to."""
        return {step for name in self._states() for step in self._needs(name)}

    def _names(self) -> list[str]:
        return [path.name for path in whole(self.folder, self.last)]

    def _states(self) -> list[str]:
        return [name for name in self._names() if name.isdigit()]

    def _write(self, name: str, tree: Any, meta: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / name).exists() and name not in self._names():
            raise UserError(f"{self.folder / name}: is in the way of a checkpoint, and is none; move it elsewhere")
        for left in halves(self.folder):
            shutil.rmtree(left, ignore_errors=True)
        self._check_room(tree)
        made = begin(self.folder, name)
        try:
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save((made / "arrays").absolute(), tree)
            (made / "meta.json").write_text(json.dumps(meta))
            _write_synced(made / "manifest.json", json.dumps(_sums(made)))
            with uncut():
                self._remove(name)
                made.rename(self.folder / name)
        except BaseException:
            # TensorStore may still be writing, and makes its folders anew: what it leaves is hidden, and the next save removes it.
            shutil.rmtree(made, ignore_errors=True)
            raise

    def _check_room(self, tree: Any) -> None:
        """Raises OSError where the disk has no room for the arrays: Orbax's threads would each say so with a traceback of their own."""
        needed = sum(array.nbytes for array in jax.tree.leaves(tree)) + OVERHEAD
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def _read(self, name: str, like: Any) -> tuple[Any, dict[str, Any]]:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.restore(
                (self.folder / name / "arrays").absolute(),
                args=ocp.args.PyTreeRestore(item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like)),
            )
        return tree, json.loads((self.folder / name / "meta.json").read_text())

    def _needs(self, name: str) -> set[int]:
        """The step of the best parameters that a state refers to, if any. An unreadable one needs nothing: it is never restored."""
        try:
            meta = read_object(self.folder / name / "meta.json", {"best": Maybe({"step": int})}, "", formed=False) or {}
        except UserError:
            return set()
        return {meta["best"]["step"]} if meta.get("best") else set()

    def _sound(self, name: str) -> bool:
        """Whether a checkpoint can be trusted; one that cannot is named and removed."""
        fault = self._fault(name)
        if fault is None and self._needs(name) - self.best_steps():
            fault = "the best parameters that it refers to are gone"
        if fault is not None:
            self.say(f"checkpoint {self.folder / name}: {fault}; falling back")
            self._remove(name)
        return fault is None

    def _fault(self, name: str) -> str | None:
        """What is wrong with a checkpoint, None where it is sound. A file that the manifest does not name is no part of it."""
        folder = self.folder / name
        manifest = read_manifest(folder)
        if manifest is None:
            return "its manifest is missing or torn"
        if not isinstance(manifest, dict) or "meta.json" not in manifest:
            return "its manifest is none"
        for path, checksum in manifest.items():
            if not (folder / path).is_file():
                return f"{path} is missing"
            if _sum(folder / path) != checksum:
                return f"{path} does not have the checksum that it was saved with"
        return None

    def _remove(self, name: str) -> None:
        # First out of sight by one rename: a kill halfway through must not leave half a checkpoint under its name.
        if (self.folder / name).exists():
            shutil.rmtree(hide(self.folder / name, os.getpid()), ignore_errors=True)


@functools.cache
def _hush_orbax() -> None:
    """Orbax raises its errors; here it is kept from also printing them.

    It logs each file and each error. And where a save fails (a full disk) it closes its event loop over writes that are under way: each
    of them, as it ends on a thread of its own, has Python print a traceback of `Event loop is closed`, and one that had not begun a
    warning.
    """
    warnings.filterwarnings("ignore", "coroutine 'async_serialize", RuntimeWarning)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    former = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            former(unraisable)

    sys.unraisablehook = hook


def _sums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): _sum(path) for path in folder.rglob("*") if path.is_file()}


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def like(tree: Any) -> Any:
    """Structure, shapes, types and sharding of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
