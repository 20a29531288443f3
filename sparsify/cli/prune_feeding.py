"""How examples of a data set are fed to an ONNX graph: as its own metadata says, where it says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.data.catalogue import HF_DATASET, IMAGE_FOLDER
from sparsify.data.preprocessing import Preprocessing
from sparsify.data.scaling import Scaling
from sparsify.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Feeding:
    """What was asked for, and what the graph says.

    Attributes:
        data: what a recipe's `data` would have, of the options that were given; these come first.
        known: what the graph's metadata says of inputs of this kind; None where it does not.
    """

    data: Mapping[str, Any]
    known: Preprocessing | None

    @classmethod
    def of(cls, graph: Path, data: Mapping[str, Any]) -> Feeding:
        """Read the graph's metadata. Raises `CorruptError` where ours is damaged."""
        import onnx

        model = onnx.load(str(graph), load_external_data=False)
        known = Preprocessing.in_metadata(graph, {one.key: one.value for one in model.metadata_props})
        pictures = str(data["source"]).partition(":")[0] in (IMAGE_FOLDER, HF_DATASET)
        fits = known is not None and known.kind == ("pictures" if pictures else "arrays")
        return cls(data, known if fits else None)

    def fields(self) -> dict[str, Any]:
        """The recipe's `data`, in which values are left as they lie on disk where the graph says how to scale them."""
        if self.known is None:
            return dict(self.data)
        found: dict[str, Any] = {"normalize": "none"}
        if self.known.kind == "pictures":
            found["colour"] = self.known.colour
            if self.known.resize is not None and "image_size" not in self.data:
                framing = {
                    "resize": self.known.resize,
                    "fit": self.known.fit,
                    "interpolation": self.known.interpolation,
                }
                found |= {"image_size": self.known.shape[1]} | framing
        return found | dict(self.data)

    def feed(self, inputs: NDArray[Any], loaded: Preprocessing | None) -> tuple[NDArray[Any], str]:
        """Inputs (N, ...) as the graph takes them, and how that is, in words.

        Raises:
            UsageError: They have other channels, or another range, than what the graph says it is fed.
        """
        if loaded is None:
            return inputs, "examples as they are"
        if self.known is None or "normalize" in self.data:
            why = ", as --normalize says" if "normalize" in self.data else "; the graph does not say, --normalize does"
            return inputs, f"{loaded.told}{why}"
        if (loaded.shape[0], loaded.white) != (self.known.shape[0], self.known.white):
            raise UsageError(
                f"--data: expected what the graph says it is fed, {self.known.told}; got {loaded.told}; "
                "say with --normalize how these are scaled"
            )
        fed = replace(loaded, mean=self.known.mean, std=self.known.std)
        return Scaling(fed.mean, fed.std).apply(inputs), f"{fed.told}, as the graph's metadata says"
