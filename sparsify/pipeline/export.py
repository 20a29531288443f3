"""`sparsify export`: which ticket of a run, and where its export goes. What an export is, `sparsify_export` knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.data.catalogue import fingerprint
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.pipeline.choice import Curves, choose, decide
from sparsify.pipeline.plan import Plan, ticket_path
from sparsify.pipeline.prune_plan import DENSE
from sparsify.recipe.misfit import near
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import Recipe, SparseSpec
from sparsify.store.atomic import new_folder
from sparsify.store.layout import MODEL
from sparsify.store.run import Run
from sparsify.store.stage import check_stage, read_stage
from sparsify_export.sparse.options import DEFAULTS
from sparsify_export.targets import TARGETS, Target

if TYPE_CHECKING:
    from sparsify.data.load import Data

ALL, AUTO = "all", "auto"


@dataclass(frozen=True)
class Exported:
    """One export that now exists."""

    source: Path
    out: Path
    level: int | None
    """None for an ONNX file, and for a prune run."""
    replicate: int | None
    report: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        where = {"source": str(self.source), "out": str(self.out)}
        return {**where, "level": self.level, "replicate": self.replicate, **self.report}


def target_named(name: str) -> Target:
    """The target, or UsageError with what is near."""
    if name not in TARGETS:
        mend = near(name, TARGETS) or "see `sparsify ls targets`"
        raise UsageError(f"--target: expected one of {', '.join(TARGETS)}, got {name!r}; {mend}")
    return TARGETS[name]


def export_run(
    root: Path,
    target: Target,
    out: Path | None,
    level: str = AUTO,
    replicate: int | None = None,
    sparse: SparseSpec | None = None,
) -> list[Exported]:
    """Export tickets of a run, each into a folder that appears whole or not at all.

    Args:
        root: The run's folder.
        target: Where it will run.
        out: The folder to make, with a folder a level in it for `all`; None for one under `exports/`.
        level: A level, `all`, or `auto` for the one the recipe names or the run's own choice.
        replicate: Whose ticket; None for the run's choice, or 0 where the level is given.
        sparse: How a graph is rewritten, for a target that does so; None for what the recipe says.

    Raises:
        UsageError: No such level or replicate, or `out` exists.
        InputOutputError: The run, or the ticket in it, is not there.
        CorruptError: A file of the ticket was changed.
        UnavailableError: Nothing can be made for the target here.
    """
    from sparsify.data.load import load
    from sparsify_export.targets.opening import require_export

    run = Run.load(root)
    if run.recipe.get("kind") == "prune":
        return [_export_pruned(run, target, out, level, replicate, sparse)]
    recipe = Recipe.model_validate(run.recipe)
    wanted = _wanted(run, recipe, level, replicate)
    require_export(target)
    folders = [_out(root, target, out, ticket, alone=len(wanted) == 1) for ticket in wanted]
    _require_new(folders)
    data = load(recipe.data)
    return [
        _export_one(run, recipe, target, folder, ticket, data, sparse or recipe.export.sparse or DEFAULTS)
        for ticket, folder in zip(wanted, folders, strict=True)
    ]


def export_file(
    path: Path,
    target: Target,
    out: Path | None,
    batch_sizes: Sequence[int] = (1,),
    *,
    sparse: SparseSpec = DEFAULTS,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    examples: Path | None = None,
) -> Exported:
    """Check an ONNX file of any origin for a target, and build what the target needs, into a new folder.

    There is no PyTorch network to hold its outputs against: the report says so. A target that rewrites graphs holds the
    new one against the old.

    Args:
        path: The file.
        target: Where it will run.
        out: The folder to make; None for one under `exports/`.
        batch_sizes: Sizes of an open first axis that it is run with.
        sparse: How the graph is rewritten, for a target that does so.
        shapes: For targets of ONNX Runtime, whole shapes by input name where an axis after the first has no size.
        examples: For a target that rewrites graphs, NumPy arrays to compare the graphs on, instead of made-up inputs.

    Raises:
        UsageError: `out` exists, or an input's shape is open.
        InputOutputError: There is no such file.
        CorruptError: It is no valid ONNX, or the runtime cannot load it.
        UnavailableError: Nothing can be made for the target here.
    """
    from sparsify_export.feed import shapes_for
    from sparsify_export.file_export import copy_graph, export_onnx
    from sparsify_export.onnx_check import load_graph
    from sparsify_export.targets.opening import require_export

    load_graph(path)
    require_export(target)
    final = out or Path("exports", f"{path.stem}-{target.name}")
    _require_new([final])
    if target.provider:
        shapes_for([path], None, shapes or {})  # refused here by the file's own name, not by its copy's
    with new_folder(final) as folder:
        if target.sparse:
            from sparsify_export.sparse.file import export_sparse

            report = export_sparse(path, folder, target=target, options=sparse, shapes=shapes or {}, examples=examples)
            return Exported(path, final, None, None, report)
        copy = copy_graph(path, folder)
        report = export_onnx(copy, folder, target=target, batch_sizes=batch_sizes, shapes=shapes or {})
    return Exported(path, final, None, None, report)


def _export_one(
    run: Run,
    recipe: Recipe,
    target: Target,
    final: Path,
    ticket: tuple[int, int],
    data: Data,
    options: SparseSpec,
) -> Exported:
    from sparsify_export.ticket_export import export_ticket

    replicate, level = ticket
    sparse, dense = (_intact(run.root / ticket_path(replicate, of)) for of in (level, 0))
    with new_folder(final) as folder:
        sizes = recipe.export.batch_sizes
        result = export_ticket(
            sparse, dense, folder, target=target, batch_sizes=sizes, data=data, sparse_options=options
        )
    return Exported(run.root, final, level, replicate, result.to_json())


def _export_pruned(
    run: Run, target: Target, out: Path | None, level: str, replicate: int | None, options: SparseSpec | None
) -> Exported:
    """The network that a prune run kept."""
    from sparsify.data.load import load
    from sparsify_export.targets.opening import require_export
    from sparsify_export.ticket_export import export_ticket

    if level != AUTO or replicate is not None:
        raise UsageError(f"--level, --replicate: expected neither, since {run.root} is a prune run with one network")
    recipe = PruneRecipe.model_validate(run.recipe)
    require_export(target)
    final = out or Path("exports", f"{run.root.resolve().name}-{target.name}")
    _require_new([final])
    pruned, dense = _intact(run.root / MODEL), _intact(run.root / DENSE)
    allowed, sizes = recipe.trained.allow_import, recipe.export.batch_sizes
    with new_folder(final) as folder:
        result = export_ticket(
            pruned,
            dense,
            folder,
            target=target,
            batch_sizes=sizes,
            data=load(recipe.data, trained=True),
            allow_import=allowed,
            sparse_options=options or recipe.export.sparse or DEFAULTS,
        )
    return Exported(run.root, final, None, None, result.to_json())


def _wanted(run: Run, recipe: Recipe, level: str, replicate: int | None) -> list[tuple[int, int]]:
    """Replicate and level of each ticket to export."""
    deepest = recipe.prune.levels
    if replicate is not None and not 0 <= replicate < recipe.replicates:
        raise UsageError(f"--replicate: expected 0 to {recipe.replicates - 1}, as in {run.root}, got {replicate}")
    if level == ALL:
        return [(replicate or 0, one) for one in range(1, deepest + 1)]
    if level != AUTO:
        if not level.isdecimal() or not 1 <= int(level) <= deepest:
            raise UsageError(f"--level: expected 1 to {deepest}, as in {run.root}, or {ALL} or {AUTO}, got {level!r}")
        return [(replicate or 0, int(level))]
    plan = Plan(recipe, fingerprint(recipe.data), "cpu")
    try:
        curves = Curves.read(run.root, plan)
    except OSError as error:
        raise InputOutputError(
            f"{run.root}: expected every level of every replicate, to choose among them, got none at {error.filename}; "
            "finish the run, or name a --level"
        ) from error
    except (ValueError, KeyError) as error:
        raise CorruptError(
            f"{run.root}: a history.json cannot be read ({error!r}); `sparsify verify` names it"
        ) from error
    choice = choose(plan, curves, decide(plan, curves))
    return [(choice.replicate if replicate is None else replicate, choice.level)]


def _intact(folder: Path) -> Path:
    """The stage's folder, every file of it hashed."""
    record = read_stage(folder)
    if record is None:
        raise InputOutputError(
            f"{folder}: expected a finished ticket, got none; finish the run, or name another --level"
        )
    check_stage(folder, record)
    return folder


def _out(root: Path, target: Target, out: Path | None, ticket: tuple[int, int], *, alone: bool) -> Path:
    replicate, level = ticket
    if out is None:
        return Path("exports", f"{root.resolve().name}-{target.name}", f"replicate_{replicate}-level_{level:02d}")
    return out if alone else out / f"level_{level:02d}"


def _require_new(folders: Sequence[Path]) -> None:
    if taken := [folder for folder in folders if folder.exists()]:
        raise UsageError(f"{taken[0]}: expected no such folder yet, got one; name another with --out, or remove it")
