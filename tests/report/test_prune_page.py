from __future__ import annotations

import re

from sparsify.report.prune_page import _channels_section


def test_channels_are_shown_with_what_went_with_them():
    metrics = {
        "channels.stem.before": 64,
        "channels.stem.after": 48,
        "channels.stem.coupled": "block.conv2, block.short",
        "channels.block.conv1.before": 1280,
        "channels.block.conv1.after": 640,
    }
    rows = re.findall(r"<tr>(.*?)</tr>", str(_channels_section(metrics)), re.DOTALL)
    told = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert told == ["layer channels left coupled with", "stem 64 48 block.conv2, block.short", "block.conv1 1,280 640"]
    masked = str(_channels_section(metrics | {"export.masked_because": "why"}))
    assert "Channels, masked and not removed" in masked and "not masked</th>" in masked
    assert _channels_section({"layer.a.sparsity": 0.5}) is None
