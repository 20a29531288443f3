"""WordNet's glosses as tokens of a transformers folder's own tokenizer: real texts without a download.

python benchmarks/data_glosses.py --wordnet /usr/share/wordnet --model FOLDER --out glosses.npz [--texts 8000]

WordNet 3.0 (Princeton; Debian's `wordnet-base`) has 117,659 glosses in 45 lexicographer files; the label is the file
(noun.animal, verb.motion, ...), those with fewer than 200 texts left out. Train, validation and test are drawn by seed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

PARTS = {"train": 0.8, "val": 0.1, "test": 0.1}
FEWEST = 200


def main() -> None:
    """Read, draw, tokenize, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of data.noun, ...")
    parser.add_argument("--model", type=Path, required=True, help="transformers folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--texts", type=int, default=8000, help="texts over all parts")
    parser.add_argument("--length", type=int, default=32, help="tokens a text, cut or padded")
    parser.add_argument("--labels", action="store_true", help="write labels too")
    options = parser.parse_args()
    texts = [pair for name in ("noun", "verb", "adj", "adv") for pair in glosses(options.wordnet / f"data.{name}")]
    counts = Counter(label for label, _ in texts)
    texts = [pair for pair in texts if counts[pair[0]] >= FEWEST]
    classes = {label: i for i, label in enumerate(sorted({label for label, _ in texts}))}
    chosen = np.random.default_rng(0).permutation(len(texts))[: options.texts]
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.enable_truncation(options.length)
    tokenizer.enable_padding(length=options.length)
    encoded = tokenizer.encode_batch([texts[i][1] for i in chosen])
    ids = np.array([one.ids for one in encoded], np.int64)
    mask = np.array([one.attention_mask for one in encoded], np.int64)
    labels = np.array([classes[texts[i][0]] for i in chosen], np.int64)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for part, share in PARTS.items():
        end = start + round(share * len(chosen))
        arrays |= {f"ids_{part}": ids[start:end], f"mask_{part}": mask[start:end]}
        if options.labels:
            arrays[f"labels_{part}"] = labels[start:end]
        start = end
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {len(chosen)} texts of {options.length} tokens, {len(classes)} classes")


def glosses(path: Path) -> Iterator[tuple[int, str]]:
    """Lexicographer file and gloss of every synset; the licence stands in lines that begin with a space."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            data, _, gloss = line.partition(" | ")
            yield int(data.split()[1]), gloss.strip()


if __name__ == "__main__":
    main()
