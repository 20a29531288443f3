"""How a network is fed: what was done to pictures, arrays or texts, written down so that others can do it again.

It lies beside the kept network as `preprocessing.json`; exported ONNX files hold it under `sparsify.preprocessing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparsify.data.scaling import Scaling
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.store.atomic import write_json
from sparsify.store.layout import MODEL

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from sparsify.data.framing import Framing, Interpolation

FORMAT = 1


@dataclass(frozen=True)
class Preprocessing:
    """From what lies on disk to the tensor that the network takes.

    Attributes:
        kind: `pictures` are files of any size; `arrays` are values in the network's own shape; `texts` are tokens.
        shape: Of one input: channels, height and width; the columns of a row; 2 and the tokens, ids and then mask.
        mean: What is subtracted, per channel or column, in the values' own unit; empty for texts.
        std: What is divided by then.
        white: The value of a pixel that is as bright as can be; 1 where values are no bytes.
        colour: What pictures are turned into.
        resize: Side that a picture's shorter side is resized to, before the centre of `shape` is cropped; None where
            pictures had one size.
        fit: `squash` where both sides are resized to it.
        interpolation: How.
        tokenizer: The `tokenizer.json` or its folder, as the recipe names it; None where the data came as tokens.
        labels: Names of the classes, in the order of the network's outputs; empty where the data has none.
    """

    kind: Literal["pictures", "arrays", "texts"]
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    white: float = 1.0
    colour: Literal["grey", "rgb"] | None = None
    resize: int | None = None
    fit: Literal["crop", "squash"] | None = None
    interpolation: Interpolation | None = None
    tokenizer: str | None = None
    labels: tuple[str, ...] = ()

    FILE: ClassVar[str] = "preprocessing.json"
    KEY: ClassVar[str] = "sparsify.preprocessing"

    def __call__(self, *inputs: Any) -> Tensor:
        """What the network takes, (N, *shape), of N pictures, arrays or texts; the same bits that a run fed it.

        Args:
            inputs: Of pictures files or PIL images; arrays of `shape`; or texts, for which the tokenizer has to lie
                where `tokenizer` says.

        Raises:
            UsageError: None, or one of another kind or shape.
            InputOutputError: A picture or the tokenizer is not there.
            CorruptError: A picture cannot be decoded.
            UnavailableError: The library tokenizers is not installed.
        """
        import torch  # here, so that reports do without it

        if not inputs:
            raise UsageError(f"preprocessing: expected one of {self.kind} at least, got none")
        if self.kind == "texts":
            return torch.from_numpy(self._tokens([str(text) for text in inputs]))
        values = [self._picture(one) if self.kind == "pictures" else np.asarray(one) for one in inputs]
        for value in values:
            if value.shape != self.shape:
                raise UsageError(f"preprocessing: expected inputs of shape {self.shape}, got {value.shape}")
        return torch.from_numpy(Scaling(self.mean, self.std).apply(np.stack(values)))

    @property
    def told(self) -> str:
        """In a line, for people."""
        shape = "x".join(map(str, self.shape))
        if self.kind == "texts":
            return f"texts of {self.shape[1]} tokens, ids and mask; tokenizer {self.tokenizer or 'not known'}"
        scaled = f"(value - {_some(self.mean)}) / {_some(self.std)}"
        if self.kind == "arrays":
            return f"arrays {shape}, {scaled}"
        side = "" if self.resize is None else f"{_side(self.fit, self.resize)} ({self.interpolation}), centre "
        return f"pictures, {self.colour}, {side}{shape}, {scaled} of pixels 0 to {self.white:g}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        texts = self.kind == "texts"
        layout = "N2T" if texts else {1: "NC", 2: "NCL", 3: "NCHW"}.get(len(self.shape), "NC...")
        return {"format": FORMAT, "layout": layout, "dtype": "int64" if texts else "float32", **asdict(self)}

    def text(self) -> str:
        """The same as one line of JSON: what ONNX files hold."""
        return json.dumps(self.to_json(), sort_keys=True)

    def save(self, folder: Path) -> None:
        """Write `preprocessing.json` into `folder`."""
        write_json(folder / self.FILE, self.to_json())

    @classmethod
    def found(cls, folder: Path) -> Preprocessing | None:
        """The same as `load`, or None where there is no such file."""
        return cls.load(folder) if (Path(folder) / cls.FILE).is_file() else None

    @classmethod
    def load(cls, folder: Path) -> Preprocessing:
        """Read what `save` wrote.

        Raises:
            InputOutputError: There is no such file.
            CorruptError: It is damaged, or of a release to come.
        """
        path = Path(folder) / cls.FILE
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except OSError as error:
            raise InputOutputError(
                f"{path}: expected how the network is fed, got: {error.strerror or error}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptError(f"{path}: expected how the network is fed, got damage: {error!r}") from error

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Of `to_json`'s values; ValueError, KeyError or TypeError where they are not that."""
        if values["format"] != FORMAT or values["kind"] not in ("pictures", "arrays", "texts"):
            raise ValueError(f"format {values['format']}, kind {values['kind']}")
        lists = {name: tuple(values[name]) for name in ("shape", "mean", "std", "labels")}
        read: dict[str, Any] = {name: values[name] for name in (field.name for field in fields(cls))} | lists
        return cls(**read)

    @classmethod
    def in_metadata(cls, path: Path, metadata: Mapping[str, str]) -> Preprocessing | None:
        """What an ONNX file's metadata says; None where it says nothing. Raises `CorruptError` naming the file."""
        if cls.KEY not in metadata:
            return None
        try:
            return cls.from_json(json.loads(metadata[cls.KEY]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{path}: metadata {cls.KEY}: expected our JSON, got {error!r}") from error

    def _picture(self, one: str | Path | Image.Image) -> NDArray[np.uint8]:
        from sparsify.data.pictures import Picture, decode, pixels_of

        if isinstance(one, str | Path):
            return decode(Picture(str(one), Path(one)), self.shape[0], self._framing())
        return pixels_of(one, self.shape[0], self._framing())

    def _framing(self) -> Framing | None:
        from sparsify.data.framing import Framing

        if self.resize is None:
            return None
        return Framing(self.shape[1], self.resize, self.fit == "squash", self.interpolation or "bilinear")

    def _tokens(self, texts: list[str]) -> NDArray[np.int64]:
        from sparsify.data.catalogue import tokenizer_file
        from sparsify.data.hf_dataset import tokenize
        from sparsify.data.hf_table import Ragged
        from sparsify.data.tokens import to_texts

        if self.tokenizer is None:
            raise UsageError("preprocessing: expected a tokenizer for texts, got none: the data came as tokens")
        longest = self.shape[1]
        ids = Ragged.of(tokenize(texts, tokenizer_file(self.tokenizer), longest))
        return to_texts(ids.padded(longest, 0), ids.ones().padded(longest, 0), "preprocessing")


def preprocessing(folder: str | Path) -> Preprocessing:
    """How the network in `folder`, a prune run or its `model/`, is fed: `network(preprocessing(folder)("photo.jpg"))`.

    Raises:
        InputOutputError: Nothing there says so.
        CorruptError: It is damaged.
    """
    places = (Path(folder), Path(folder) / MODEL)
    return Preprocessing.load(next((place for place in places if (place / Preprocessing.FILE).is_file()), places[0]))


def _side(fit: str | None, resize: int) -> str:
    return f"both sides to {resize}" if fit == "squash" else f"shorter side to {resize}"


def _some(values: tuple[float, ...]) -> str:
    """The values, one where all are equal, the first few of many."""
    shown = values[:1] if len(set(values)) == 1 else values[:4]
    told = " ".join(f"{value:g}" for value in shown)
    return f"[{told}{' ...' if len(set(values)) > 1 and len(values) > 4 else ''}]" if len(shown) > 1 else told
