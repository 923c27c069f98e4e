"""Checkpoints: written whole or not at all, and verified before they are trusted.

    checkpoints/00001000/       a state, for resume (names: runs/checkpoint_folders.py)
        arrays.npz              every array under its path in the tree
        meta.json               everything else that a run needs to continue
        manifest.json           the SHA-256 of the two, written last

If the manifest of a folder is missing or does not match, the earlier checkpoint is used. The parameters that a finished run keeps
are one file each; summary.json has their checksums.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from addnorm_exp.atomic import replace, replacement, uncut
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.runs.arrays import read_arrays, replace_arrays, sha256, write_arrays
from addnorm_exp.runs.checkpoint_folders import (
    ARRAYS,
    BEST,
    MARK,
    PARAMETERS,
    begin,
    delete,
    halves,
    hide,
    is_former,
    read_manifest,
    whole,
)
from addnorm_exp.runs.reading import read
from addnorm_exp.runs.records import CheckpointMeta

FORMAT = 2  # of states and of the best parameters; raise it when the arrays or their names change


class Checkpoints:
    """The checkpoints of one run. The `keep` newest states are kept, and one best. `last` is the run's last step: no folder beyond it is a
    checkpoint. `say` is called with a line about each unsound checkpoint."""

    def __init__(self, folder: Path, keep: int, last: int | None = None, say: Callable[[str], None] = to_stderr):
        self.folder, self.keep, self.last, self.say = folder, keep, last, say

    def save(self, step: int, tree: Any, meta: dict[str, Any]) -> None:
        """Saves the state after `step` updates. `tree`: arrays; `meta`: JSON."""
        self._write(f"{step:08d}", tree, meta)

    def prune(self) -> None:
        """Removes states beyond the `keep` newest, and the best parameters that no other state refers to."""
        for name in self._states()[: -self.keep]:
            self._remove(name)
        for step in self.best_steps() - {step for name in self._states() for step in self._needs(name)}:
            self._remove(f"{BEST}{step:08d}")

    def save_best(self, step: int, tree: Any) -> None:
        """Saves the best parameters so far. The former best is kept until a state that does not need it is saved."""
        self._write(f"{BEST}{step:08d}", tree, {"step": step})

    def remove_after(self, step: int) -> None:
        """Removes the states beyond `step` updates, from which nothing continues."""
        for name in self._states():
            if int(name) > step:
                self._remove(name)

    def save_parameters(self, kind: str, step: int, parameters: Any) -> dict[str, Any]:
        """Saves parameters that a finished run keeps, `final` or `best`; returns their entry in summary.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / PARAMETERS[kind]
        checksum = replace_arrays(path, _named(parameters))
        return {"file": f"{self.folder.name}/{path.name}", "step": step, "sha256": checksum}

    def states(self) -> set[int]:
        """The steps of the saved states, sound or not. Unsound best parameters are removed, and `say` is told which.

        Raises UserError if an older version wrote a checkpoint: it may be all that is left of a long run.
        """
        for name in self._names():
            if is_former(self.folder / name):
                raise self._older(name)
        for step in self.best_steps():
            self._sound(f"{BEST}{step:08d}")
        return {int(name) for name in self._states()}

    def is_sound(self, step: int) -> bool:
        """Whether the state after `step` updates is sound, and the best parameters that it refers to are there. An unsound one is removed,
        and `say` is told."""
        return self._sound(f"{step:08d}")

    def read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The sound state after `step` updates and its meta; `like` gives structure, types and sharding."""
        return self._read(f"{step:08d}", like)

    def latest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound state and its meta; None if there is none."""
        for step in sorted(self.states(), reverse=True):
            if self.is_sound(step):
                return self.read(step, like)
        return None

    def best(self, step: int, like: Any) -> Any | None:
        """The best parameters, saved after `step` updates; None if they are missing or unsound."""
        name = f"{BEST}{step:08d}"
        return None if self._fault(name) else self._read(name, like)[0]

    def best_steps(self) -> set[int]:
        """Steps of the saved best parameters."""
        return {int(name.removeprefix(BEST)) for name in self._names() if name.startswith(BEST)}

    def _names(self) -> list[str]:
        return [path.name for path in whole(self.folder, self.last)]

    def _states(self) -> list[str]:
        return [name for name in self._names() if name.isdigit()]

    def _write(self, name: str, tree: Any, meta: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / name).exists() and name not in self._names():
            raise UserError(f"{self.folder / name}: has the name of a checkpoint, but is not one; move it elsewhere")
        for half in halves(self.folder):
            delete(half)
        hidden = begin(self.folder, name)
        try:
            with replacement(hidden / ARRAYS) as file:
                write_arrays(file, {MARK: np.array(FORMAT, np.int32), **_named(tree)})
            replace(hidden / "meta.json", json.dumps(meta))
            manifest = {file: sha256(hidden / file) for file in (ARRAYS, "meta.json")}
            replace(hidden / "manifest.json", json.dumps(manifest))
            with uncut():
                self._remove(name)
                hidden.rename(self.folder / name)
        except BaseException:
            delete(hidden)
            raise

    def _read(self, name: str, like: Any) -> tuple[Any, dict[str, Any]]:
        arrays = read_arrays(self.folder / name / ARRAYS)
        if int(arrays.pop(MARK)) < FORMAT:
            raise self._older(name)
        wanted = _paths(like)
        if {path: (array.shape, array.dtype) for path, array in arrays.items()} != {
            path: (leaf.shape, leaf.dtype) for path, leaf in wanted.items()
        }:
            raise UserError(
                f"checkpoint {self.folder / name}: contains other arrays than this version trains; use the version that wrote it, or "
                f"delete {self.folder} and train again"
            )
        leaves = [jax.device_put(arrays[path], leaf.sharding) for path, leaf in wanted.items()]
        tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return tree, json.loads((self.folder / name / "meta.json").read_text())

    def _older(self, name: str) -> UserError:
        return UserError(
            f"checkpoint {self.folder / name}: an older version wrote it, and this one cannot read it; use that version, or "
            f"delete {self.folder} to train anew"
        )

    def _needs(self, name: str) -> set[int]:
        """The step of the best parameters that a state refers to, if any. An unreadable state needs none: it is never restored."""
        try:
            meta = read(self.folder / name / "meta.json", CheckpointMeta, "", formed=False)
        except UserError:
            return set()
        return {meta.best.step} if meta and meta.best else set()

    def _sound(self, name: str) -> bool:
        """Whether a checkpoint is sound; an unsound one is reported and removed."""
        fault = self._fault(name)
        if fault is None and self._needs(name) - self.best_steps():
            fault = "the best parameters that it refers to are missing"
        if fault is not None:
            self.say(f"checkpoint {self.folder / name}: {fault}; falling back")
            self._remove(name)
        return fault is None

    def _fault(self, name: str) -> str | None:
        """The fault of a checkpoint, None if it is sound. A file that the manifest does not name is not part of it."""
        folder = self.folder / name
        manifest = read_manifest(folder)
        if not {ARRAYS, "meta.json"} <= manifest.keys():
            return "its manifest is missing or incomplete"
        for path, checksum in manifest.items():
            if not (folder / path).is_file():
                return f"{path} is missing"
            if sha256(folder / path) != checksum:
                return f"{path} does not match its checksum"
        return None

    def _remove(self, name: str) -> None:
        # Hidden first, by one rename: a kill in between must not leave a partial checkpoint under its name.
        if (self.folder / name).exists():
            delete(hide(self.folder / name, os.getpid()))


def _paths(tree: Any) -> dict[str, Any]:
    """Path → leaf, such as optimiser/mu/decoder/…, in the order of the tree."""
    pairs, _ = jax.tree.flatten_with_path(tree)
    paths = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}
    assert len(paths) == len(pairs)
    return paths


def _named(tree: Any) -> dict[str, np.ndarray]:
    """Path → array on the host. An array that is sharded over the devices of this process is gathered."""
    return {path: np.asarray(array) for path, array in jax.device_get(_paths(tree)).items()}


def like(tree: Any) -> Any:
    """Structure, shapes, types and sharding of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
