"""`transformers:PATH#HEAD`: a folder of Hugging Face transformers, or an id already in its cache; never the network.

The whole configuration goes into the network's options, so that the module is built again without the folder. Code that
a folder brings along (`auto_map`) is never run.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.models.fit import best_fit, complaint
from sparsify.models.library import library
from sparsify.models.preprocessor_config import read_published
from sparsify.models.published import PublishedInput
from sparsify.models.shards import read_folder
from sparsify.models.source import Description, Request, Source, State
from sparsify.models.source_name import HEADS, SourceName
from sparsify.models.text import ImageClassification, TextEmbedding, TextLogits

WRAPPED = "network."
TOKENS = 128
# head -> the auto class that has it, and the wrapper that makes it a function of one tensor
_BUILT = {
    "embedding": ("AutoModel", TextEmbedding),
    "classification": ("AutoModelForSequenceClassification", TextLogits),
    "token-classification": ("AutoModelForTokenClassification", TextLogits),
    "causal-language-model": ("AutoModelForCausalLM", TextLogits),
    "masked-language-model": ("AutoModelForMaskedLM", TextLogits),
    "image-classification": ("AutoModelForImageClassification", ImageClassification),
}
# the end of an architecture's name -> head
_ENDINGS = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "masked-language-model",
    "ForCausalLM": "causal-language-model",
    "LMHeadModel": "causal-language-model",
    "ForImageClassification": "image-classification",
    "Model": "embedding",
}
# What a configuration says of where it came from and of foreign code; nothing the network is built from.
_DROPPED = ("_name_or_path", "auto_map", "transformers_version", "dtype", "torch_dtype", "quantization_config")


def describe(request: Request, state: State | None) -> Description:
    """Head and sizes from the configuration, whose number of labels a given number of classes replaces."""
    text = request.name.text
    values = _configuration_of(_folder(request))
    head = request.name.head or _head(values, text)
    if request.classes is not None and "classification" in head:
        values = {key: value for key, value in values.items() if key not in ("id2label", "label2id", "num_labels")}
        values["num_labels"] = request.classes
    config = _config(values, text)
    if config.is_encoder_decoder:
        raise UsageError(
            f"model {text}: expected an encoder or a decoder, got both in one; wrap it as pkg.module:factory"
        )
    classes = _classes(config, head)
    if request.classes not in (None, classes):
        raise UsageError(f"model {text}: {head} has {classes} outputs, got {request.classes} classes; leave them out")
    kept = json.loads(config.to_json_string(use_diff=False))
    options = {"head": head, "config": {key: value for key, value in kept.items() if key not in _DROPPED}}
    return Description(request.name, _shape(request, config, head), classes, options)


def construct(description: Description, seed: int) -> nn.Module:
    """The wrapper around a network with fresh weights; attention is written out, so that every product can be seen."""
    head = str(description.options["head"])
    config = _config(description.options["config"], description.name.text)
    kind, arguments = _class(config, head, description.name.text)
    return _BUILT[head][1](kind(config, **arguments))


def rename(description: Description, module: nn.Module, state: State) -> State:
    """A checkpoint of the wrapper as it is; one of transformers through transformers' own renaming."""
    if not best_fit(module, state).faults:
        return state
    return _converted(description, state, description.name.text)


def carried(description: Description) -> State | None:
    """The weights in the folder, if it has any."""
    state = read_folder(_folder(Request(description.name)))
    return None if state is None else _converted(description, state, description.name.text)


def example(description: Description, batch: int, generator: torch.Generator) -> Tensor:
    """Images, or texts of random ids: the first as long as can be, the others half as long."""
    if description.options["head"] == "image-classification":
        return torch.randn(batch, *description.input_shape, generator=generator)
    config = description.options["config"]
    length, vocabulary, pad = description.input_shape[1], int(config["vocab_size"]), config.get("pad_token_id")
    ids = torch.randint(vocabulary, (batch, length), generator=generator)
    ids = torch.where(ids == pad, (ids + 1) % vocabulary, ids) if isinstance(pad, int) else ids
    mask = torch.ones_like(ids)
    mask[1:, max(1, length // 2) :] = 0
    return torch.stack([torch.where(mask.bool(), ids, pad if isinstance(pad, int) and pad >= 0 else 0), mask], dim=1)


def published(name: SourceName, weights: Path | None, image_size: int | None) -> PublishedInput | None:
    """What the folder's `preprocessor_config.json` says; None for a network of texts, or without one."""
    del weights
    folder = _folder(Request(name))
    values = _configuration_of(folder)
    if (name.head or _head(values, name.text)) != "image-classification":
        return None
    return read_published(folder, int(values.get("num_channels", 3)), image_size)


def _folder(request: Request) -> Path:
    """The folder of a path, or of an id that is in the cache."""
    name = request.name.name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.count("/") <= 1 and not name.startswith((".", "/", "~")):
        hub = library("huggingface_hub", request.name.text)
        found = hub.try_to_load_from_cache(name, "config.json")
        if isinstance(found, str):
            return Path(found).parent
    raise InputOutputError(
        f"model {request.name.text}: expected a folder with config.json, or an id in the Hugging Face cache, got "
        f"{name!r}, which is neither; nothing is downloaded here: fetch it first (`hf download`), then name it"
    )


def _configuration_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputOutputError(f"{path}: expected a configuration, got: {error.strerror or error}") from error
    except ValueError as error:
        raise CorruptError(f"{path}: expected a configuration in JSON, got {error}") from error
    if not isinstance(values, dict):
        raise CorruptError(f"{path}: expected a configuration, got {type(values).__name__}")
    return {key: value for key, value in values.items() if key not in _DROPPED}


def _head(values: Mapping[str, Any], text: str) -> str:
    """The head that the architecture's name tells; a bare `Model` of images has none."""
    architecture = next(iter(values.get("architectures") or ()), "")
    for ending, head in _ENDINGS.items():
        if str(architecture).endswith(ending) and not (head == "embedding" and "image_size" in values):
            return head
    raise UsageError(
        f"model {text}: expected an architecture with a head among {', '.join(HEADS)}, got "
        f"{architecture or 'none'}; write transformers:PATH#HEAD"
    )


def _config(values: Mapping[str, Any], text: str) -> Any:
    kind = str(values.get("model_type"))
    known = library("transformers", text).CONFIG_MAPPING
    if kind not in known:
        raise UsageError(
            f"model {text}: expected a model_type that transformers has, got {kind!r}; code that a folder has is never "
            "run: wrap it as pkg.module:factory"
        )
    try:
        with _quiet(text):
            config = known[kind].from_dict(dict(values), attn_implementation="eager")
    except Exception as error:
        raise _unbuildable(text, kind, error) from error
    config.use_cache, config.return_dict, config.dtype = False, True, None
    return config


def _classes(config: Any, head: str) -> int:
    if head == "embedding":
        return int(config.hidden_size)
    return int(config.vocab_size if head.endswith("language-model") else config.num_labels)


def _shape(request: Request, config: Any, head: str) -> tuple[int, ...]:
    given = request.input_shape
    if head == "image-classification":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return given or (int(getattr(config, "num_channels", 3)), int(height), int(width))
    if given is not None and (len(given) != 2 or given[0] != 2):
        raise UsageError(f"model {request.name.text}: expected texts of shape (2, tokens), got {given}")
    # two positions are left free: some networks count positions from the padding's id on
    positions = getattr(config, "max_position_embeddings", None)
    return given or (2, min(TOKENS, positions - 2) if isinstance(positions, int) and positions > 2 else TOKENS)


def _class(config: Any, head: str, text: str) -> tuple[Any, dict[str, Any]]:
    """The architecture for the head, and its arguments: no pooler for embeddings, which would never be used."""
    auto = getattr(library("transformers", text), _BUILT[head][0])
    config.architectures = config.architectures or []  # None is not looked through where a head has several (LeViT)
    try:
        with torch.device("meta"):
            kind = type(auto.from_config(config, trust_remote_code=False))
    except ValueError as error:
        raise UsageError(f"model {text}: expected a network with the head {head}, got {_first_line(error)}") from error
    except Exception as error:
        raise _unbuildable(text, config.model_type, error) from error
    takes_pooler = head == "embedding" and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return kind, {"add_pooling_layer": False} if takes_pooler else {}


def _unbuildable(text: str, kind: str, error: Exception) -> UsageError:
    """A network's code raises anything where its configuration does not suit it."""
    return UsageError(
        f"model {text}: expected a config.json that transformers builds a network {kind} from, got "
        f"{type(error).__name__}: {_first_line(error)}; mend its sizes, or wrap the network as pkg.module:factory"
    )


def _converted(description: Description, state: State, where: str) -> State:
    """A state under transformers' names, old or new, with or without its base's prefix, as the wrapper's."""
    head = str(description.options["head"])
    config = _config(description.options["config"], where)
    kind, arguments = _class(config, head, where)
    made_for = next(iter(config.architectures), kind.__name__)
    with _quiet(where):
        network, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **arguments,
        )
    own = network.state_dict()
    tops = {key.partition(".")[0] for key in own}
    base = f"{kind.base_model_prefix}."
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith("position_ids")]
    if head == "embedding":  # other heads are left behind; what belongs to the body is not
        unexpected = [key for key in unexpected if key.removeprefix(base).partition(".")[0] in tops]
    misshapen = [key if isinstance(key, str) else f"{key[0]}" for key in report["mismatched_keys"]]
    if fault := complaint(sorted(report["missing_keys"]), sorted(unexpected), sorted(misshapen)):
        mend = "name the head they were trained with, or leave the number of classes out"
        if made_for != kind.__name__:
            mend += f"; or wrap {made_for}, which the configuration names, as pkg.module:factory"
        raise UsageError(f"{where}: expected the weights of {kind.__name__}, got some that do not fit: {fault}; {mend}")
    return {f"{WRAPPED}{key}": tensor for key, tensor in own.items()}


@contextmanager
def _quiet(text: str) -> Generator[None]:
    """Without transformers' progress bars and reports: what matters of them is raised."""
    logging = library("transformers.utils.logging", text)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]


SOURCE = Source(describe, construct, rename, carried, example, published)
