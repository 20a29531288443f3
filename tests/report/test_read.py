from sparsify.report import read


def test_lists_levels_controls_targets_probes_and_arms(whole):
    assert read.levels(whole) == list(range(16))
    assert read.controls(whole) == ["reinit", "shuffled-mask", "random-mask"]
    assert read.targets(whole) == ["onnxruntime-cpu"]
    assert read.probes(whole) == ["perturb-rest"]
    assert read.probed(whole, "perturb-rest") == ["probe.perturb-rest.level_07"]
    assert read.arms(whole, "probe.perturb-rest.level_07")[:3] == ["ticket-alone", "original", "ceiling"]
    assert "rest-scaled-0.1" in read.arms(whole, "probe.perturb-rest.level_07")


def test_arms_are_read_in_their_order_and_scales_by_size():
    names = [
        "values-shuffled",
        "rest-scaled-10",
        "rest-scaled-0.1",
        "rest-scaled-1e-05",
        "zebra",
        "ceiling",
        "ticket-alone",
    ]
    metrics = {f"k.arm.{name}.iou.mean": 1.0 for name in names}
    assert read.arms(metrics, "k") == [
        "ticket-alone",
        "ceiling",
        "rest-scaled-1e-05",
        "rest-scaled-0.1",
        "rest-scaled-10",
        "values-shuffled",
        "zebra",
    ]


def test_span_reads_means_and_ratios():
    assert read.span({"x.mean": 1, "x.ci_low": 0, "x.ci_high": 2}, "x") == read.Span(1.0, 0, 2)
    assert read.span({"x": 1}, "x") == read.Span(1.0, None, None)
    assert read.span({}, "x") is None


def test_nothing_is_found_in_nothing():
    assert read.levels({}) == read.controls({}) == read.targets({}) == read.probes({}) == []
