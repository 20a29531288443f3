"""Which name a pickle would call or build, read from its opcodes; nothing of it is run."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

# What `torch.save` itself names in a file of plain tensors.
_HARMLESS = re.compile(
    r"torch(\._utils\._rebuild_\w+|\.\w*Storage|\.(Size|device|dtype)|\.storage\.\w+|\._tensor\w*\.\w+)"
    r"|torch\.(bfloat16|float\d+|int\d+|uint8|bool)|collections\.OrderedDict"
)
_SAID = re.compile(r"GLOBAL (?P<name>[\w.]+)")


def refused_global(path: Path, said: str) -> str:
    """The first name that made the reader refuse the file, from what it `said` or from the opcodes; else empty."""
    if match := _SAID.search(said):
        return match["name"]
    return next((name for name in _globals(path) if not _HARMLESS.fullmatch(name)), "")


def _globals(path: Path) -> Iterator[str]:
    """`module.name` of every global in the file's pickles, in order, until the bytes make no sense."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                for name in names:
                    yield from _globals_of(archive.read(name))
        else:
            yield from _globals_of(path.read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile):
        return


def _globals_of(data: bytes) -> Iterator[str]:
    """Protocol 2 spells `GLOBAL module name`; protocol 4 pushes both as text before `STACK_GLOBAL`."""
    position = 0
    while position < len(data):
        texts: list[str] = []
        for opcode, argument, _ in pickletools.genops(data[position:]):
            if opcode.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                yield f"{texts[-2]}.{texts[-1]}"
            elif isinstance(argument, str):
                texts.append(argument)
        position += _length(data[position:])


def _length(data: bytes) -> int:
    """Bytes of the pickle that begins here."""
    return max(place or 0 for _, _, place in pickletools.genops(data)) + 1
