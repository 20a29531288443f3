"""What data there is, in plain data, and what tells one data set from another. No torch, no scikit-learn here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sparsify.recipe.spec import DataSpec
from sparsify.store.digest import digest, file_sha256

# Raised when equal specs and content come to be split or scaled in another way: then what is cached no longer serves.
LAYOUT = 1
# The same, of pictures that are brought to one size.
FRAMING = 2

# Fields that recipes did not always have: where they are not asked for, fingerprints are what they were.
_LATER = ("resize", "fit", "interpolation", "colour")

NPZ = "npz"
IMAGE_FOLDER = "image-folder"
TOKENS = "tokens"
HF_DATASET = "hf-dataset"


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One source of data.

    Attributes:
        name: What a recipe writes; for the user's own data, what stands before the colon.
        summary: One line for `sparsify ls datasets`.
        source: Where it comes from, and its licence.
        takes_path: Whether the name is followed by `:PATH`.
        input_shape: Channels, height and width, where they are known beforehand.
        classes: Number of classes, where it is known beforehand.
        content: SHA-256 that identifies the images and labels, where they never change; checked at each loading.
    """

    name: str
    summary: str
    source: str
    takes_path: bool = False
    input_shape: tuple[int, int, int] | None = None
    classes: int | None = None
    content: str | None = None


_ENTRIES = (
    DatasetEntry(
        "digits",
        "1,797 handwritten digits, 1x8x8, 10 classes; embedded, no test set of its own",
        "scikit-learn; Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
        input_shape=(1, 8, 8),
        classes=10,
        content="87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826",
    ),
    DatasetEntry(
        "fashion-mnist",
        "60,000 + 10,000 articles of clothing, 1x28x28, 10 classes",
        "Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747, MIT",
        input_shape=(1, 28, 28),
        classes=10,
        content="b3e2fb23754d1c976d3945243674c5aff19f49673e3258ba92e2fcdf7c0a81f9",
    ),
    DatasetEntry(
        NPZ,
        "Your own arrays: npz:PATH with x and y, or x_train, y_train, x_test, y_test; without y for data not labelled",
        "a NumPy .npz archive without Python objects",
        takes_path=True,
    ),
    DatasetEntry(
        IMAGE_FOLDER,
        "Your own pictures: image-folder:PATH with a folder a class, in train/, val/ and test/ or not; without class "
        "folders for data not labelled",
        "any format Pillow reads, 8 bits a channel",
        takes_path=True,
    ),
    DatasetEntry(
        TOKENS,
        "Your own texts as tokens: tokens:PATH.npz with ids, mask and, if there are any, labels; also ids_train, ...",
        "a NumPy .npz archive without Python objects",
        takes_path=True,
    ),
    DatasetEntry(
        HF_DATASET,
        "Your own Hugging Face dataset: hf-dataset:PATH, what save_to_disk wrote; images, token ids, or text",
        "Apache Arrow files; read without running code or asking the network; needs the extra hf",
        takes_path=True,
    ),
)

DATASETS = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def check_source(text: str) -> None:
    """Refuse a source that cannot be read; ValueError says which names come near. Opens no file."""
    parse_source(text)


def parse_source(text: str) -> tuple[str, Path | None]:
    """`digits` is `("digits", None)`; `npz:a.npz` is `("npz", Path("a.npz"))`, with `~` expanded. Raises ValueError."""
    name, colon, path = text.partition(":")
    entry = DATASETS.get(name)
    if entry is None:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=2, cutoff=0.5)
        mend = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(DATASETS)}"
        raise ValueError(
            f"expected a dataset's name (`sparsify ls datasets`), npz:PATH, image-folder:PATH, tokens:PATH or "
            f"hf-dataset:PATH, got {text!r}; {mend}"
        )
    if entry.takes_path and not path.strip():
        raise ValueError(f"expected {name}:PATH, got {text!r}; name the file or folder after the colon")
    if colon and not entry.takes_path:
        raise ValueError(f"expected {name} alone, got {text!r}; remove the colon and what follows")
    return name, Path(path).expanduser() if entry.takes_path else None


def fingerprint(spec: DataSpec) -> str:
    """SHA-256 of the content and of how it is split and scaled: equal fingerprints load equal tensors.

    Hashes the user's own files, but neither opens nor needs those of the named data sets, whose loaders check them.

    Raises:
        ValueError: The source is not one.
        InputOutputError: The user's file or folder is absent or cannot be read.
        UsageError: The folder is not laid out as classes.
    """
    name, path = parse_source(spec.source)
    content = DATASETS[name].content if path is None else _content(name, path)
    split = spec.model_dump(mode="json", exclude={"source", "tokenizer", "max_tokens", *_LATER})
    framed = {field: getattr(spec, field) for field in _LATER if getattr(spec, field) is not None}
    framed |= {} if spec.image_size is None else {"framing": FRAMING}
    text = {} if spec.tokenizer is None else {"tokenizer": file_sha256(tokenizer_file(spec.tokenizer))}
    cut = {} if spec.max_tokens is None else {"max_tokens": spec.max_tokens}
    return digest({"layout": LAYOUT, "kind": name, "content": content, "split": split} | framed | text | cut)


def tokenizer_file(tokenizer: str) -> Path:
    """The `tokenizer.json` that `data.tokenizer` names, itself or by its folder. Opens no file."""
    path = Path(tokenizer).expanduser()
    return path if path.suffix == ".json" else path / "tokenizer.json"


def _content(name: str, path: Path) -> str:
    if name in (NPZ, TOKENS):
        return file_sha256(path)
    if name == HF_DATASET:
        from sparsify.data.hf_files import dataset_files

        files = dataset_files(path)
    else:
        from sparsify.data.folder import list_folder

        files = list_folder(path).files()
    return digest([[file.relative_to(path).as_posix(), file_sha256(file)] for file in files])
