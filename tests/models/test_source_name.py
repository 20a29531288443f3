from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.models.registry import REGISTRY
from sparsify.models.source_name import SOURCES, SourceName, check_source, is_allowed, kind_of


def test_source_names_are_torch_free():
    code = "import sys, sparsify.models.source_name; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "kind", "name", "head", "arguments"),
    [
        ("resnet-20", "zoo", "resnet-20", "", {}),
        ("mlp:4-3-2", "zoo", "mlp:4-3-2", "", {}),
        ("torchvision:resnet18", "torchvision", "resnet18", "", {}),
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k", "", {}),
        ("transformers:some/id", "transformers", "some/id", "", {}),
        ("transformers:C:/models/x#embedding", "transformers", "C:/models/x", "embedding", {}),
        ("plugin:my-net", "plugin", "my-net", "", {}),
        ("plugin:my-net?depth=3", "plugin", "my-net", "", {"depth": 3}),
        ("pkg:make", "import", "pkg:make", "", {}),
        ("pkg.sub.module:Net", "import", "pkg.sub.module:Net", "", {}),
        ("timm.models:resnet18", "import", "timm.models:resnet18", "", {}),
        ('a.b:c?size="2"&model=tiny&wide=true', "import", "a.b:c", "", {"size": "2", "model": "tiny", "wide": True}),
    ],
)
def test_a_source_is_taken_apart(text, kind, name, head, arguments):
    source = SourceName.parse(text)
    assert (source.text, source.kind, source.name, source.head, source.arguments) == (text, kind, name, head, arguments)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet20", "did you mean resnet-20"),
        ("torchvision:", "expected a name after the colon, got 'torchvision:'"),
        ("timm:", "expected a name after the colon"),
        ("transformers:#embedding", "expected a name after the colon"),
        ("transformers:x#pooling", "expected a head among embedding, classification, .* got 'pooling'"),
        ("a.b:c?model", r"expected arguments such as \?model=tiny&width=2, each once, got 'model'"),
        ("a.b:c?m=1&m=2", "each once, got 'm=2'"),
        ("a.b:c?2=1", "each once, got '2=1'"),
        ("os;x:y", "expected a model's name"),
        ("a.b:c.d", "expected a model's name"),
        ("mlp:4", "expected widths from input to classes"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_mend(text, says):
    with pytest.raises(ValueError, match=says):
        SourceName.parse(text)


@given(st.text(alphabet="abz.:#?=&-_/1\n ", max_size=20))
def test_any_text_is_read_or_refused_as_a_value(text):
    try:
        source = SourceName.parse(text)
    except ValueError as error:
        assert "expected" in str(error)
    else:
        assert source.kind == kind_of(text) and source.name in text


def test_every_kind_of_source_is_listed_and_can_be_built():
    assert {kind_of(form.replace("[", "?").split("?")[0]) for form in SOURCES} | {"zoo"} == set(REGISTRY)


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("pkg.module:f", ("pkg",), True),
        ("pkg:f", ("pkg",), True),
        ("pkg.module:f", ("pkg.module",), True),
        ("pkg.module:f", ("pkg.mod",), False),
        ("pkgs:f", ("pkg",), False),
        ("pkg:f", ("pkg.module",), False),
        ("pkg:f", (), False),
        ("pkg:f", ("",), False),
    ],
)
def test_only_packages_named_whole_are_allowed(name, allowed, expected):
    assert is_allowed(name, allowed) is expected


def test_an_import_that_is_not_allowed_says_why_and_how():
    with pytest.raises(ValueError, match=r"runs what is in it; if you trust it, add --allow-import pkg \(in Python"):
        check_source("pkg.module:factory")
    check_source("pkg.module:factory", ("pkg",))
    check_source("torchvision:resnet18")
