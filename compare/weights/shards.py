"""A PyTorch checkpoint in several files, which an index lists: `model.safetensors.index.json`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from compare.errors import bad, reason, some
from compare.weights import files

INDEX = re.compile(r".+\.(safetensors|bin)\.index\.json")


def index_of(path: str | os.PathLike[str]) -> Path | None:
    """The index that a path is, or that the folder has; None for any other file or folder.

    Raises:
      DiptychError: a folder with several.
    """
    file = Path(path)
    if not file.is_dir():
        return file if INDEX.fullmatch(file.name) else None
    found = sorted(each for each in file.iterdir() if INDEX.fullmatch(each.name))
    if len(found) > 1:
        raise bad(path, f"holds {len(found)} indices", f"name one: {some(f.name for f in found)}")
    return found[0] if found else None


def shards(index: Path) -> dict[Path, list[str]]:
    """The files of a checkpoint, all in the folder of its index, and the tensors of each.

    Raises:
      DiptychError: no such index, or one that is damaged, or names files elsewhere.
    """
    files.existing_file(index)
    remedy = "fetch it again"
    try:
        placed = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise bad(index, f"is no index of a checkpoint ({reason(error)})", remedy) from error
    found: dict[Path, list[str]] = {}
    for name, shard in placed.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard == "..":
            raise bad(index, f"{name!r} lies in {shard!r}, not in a file beside it", remedy)
        found.setdefault(index.parent / shard, []).append(name)
    return found
