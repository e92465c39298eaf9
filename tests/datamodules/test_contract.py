"""What every data set promises, on twins of the exact layout (textile: on the real package)."""

import ast
import hashlib
import inspect
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import twins

from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError

DATASETS = [p for p in (Path(inspect.getfile(AnomalyDataModule)).parents[1]).glob("*.py") if p.stem != "__init__"]
LITERALS = (
    "categories", "source", "licence", "layout", "folder_name", "variant", "has_masks", "needs_root", "object_names",
    "kinds",
)  # fmt: skip


@pytest.fixture
def few(case):
    """Settings that keep loaders small."""
    return {"limit": 6} if case.kind.__name__ == "Textile" else {}


def paths(loader) -> list[str]:
    return [path for batch in loader for path in batch.path]


@pytest.mark.parametrize("file", DATASETS, ids=lambda file: file.stem)
def test_class_attributes_are_literals(file):
    tree = ast.parse(file.read_text())
    kinds = {"AnomalyDataModule", "DrawnDataModule", "ListedShots"}
    (kind,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and {ast.unparse(base) for base in n.bases} & kinds]
    values = {}
    for node in kind.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name) and target.id in LITERALS]
        values |= {name: ast.literal_eval(node.value) for name in names}
    assert {"categories", "source", "licence"} <= {*values}
    assert values["categories"] or "find_categories" in {getattr(node, "name", "") for node in kind.body}
    assert {*values.get("kinds", values["categories"])} == {*values["categories"]}
    assert {*values.get("kinds", {}).values()} in (set(), {"texture", "object"})
    assert values.get("folder_name") or values.get("needs_root") is False


def test_every_data_set_that_needs_a_root_has_a_twin():
    rootless = {file.stem for file in DATASETS if "needs_root = False" in file.read_text()}
    assert {*twins.TWINS} == {file.stem for file in DATASETS} - rootless


def test_lists_are_complete(case, root):
    data = case.build(root)
    data.verify()
    for category in case.categories:
        normals, tests = data.normals(category), data.tests(category)
        assert len(normals) == case.normals
        assert (sum(not s.anomalous for s in tests), sum(s.anomalous for s in tests)) == case.tests
        assert not any(s.anomalous or s.mask for s in normals)
        assert {s.category for s in (*normals, *tests)} == {category}
        assert {s.defect_type == "good" for s in tests if s.anomalous} == {False}
        assert {s.defect_type for s in (*normals, *tests) if not s.anomalous} == {"good"}
        assert len({s.image for s in (*normals, *tests)}) == case.normals + sum(case.tests)
        assert data.masks_known(category) == (category in case.masks)
        assert all((s.mask is not None) == (s.anomalous and category in case.masks) for s in tests)


def test_batches(case, root, few):
    data = case.build(root, **few)
    for batch in data.test_dataloader():
        count = len(batch.label)
        assert batch.image.shape == (count, 3, 16, 16)
        assert batch.image.dtype == torch.float32
        assert 0 <= batch.image.min() < batch.image.max() <= 1
        assert batch.mask.shape == (count, 12, 12)
        assert batch.mask.dtype == batch.label.dtype == torch.bool
        marked = batch.mask.flatten(1).any(1)
        known = torch.tensor([category in case.masks for category in batch.category])
        assert torch.equal(marked, batch.label & known)
        assert all((data.root / path).is_file() and "\\" not in path for path in batch.path)


def test_test_order_is_stable_and_complete(case, root, few):
    data = case.build(root, **few)
    seen = paths(data.test_dataloader())
    named = [sorted(data.relative(sample.image) for sample in data.tests(c)) for c in case.categories]
    chosen = {*seen} if few else {path for names in named for path in names}
    assert seen == [path for names in named for path in names if path in chosen]
    assert len(seen) == len(case.categories) * few.get("limit", sum(case.tests))
    assert seen == paths(case.build(root, **few, seed=9, shots=2).test_dataloader())


def test_shots_nest_and_are_recorded(case, root):
    one, four = case.build(root, shots=1), case.build(root, shots=4)
    for category in case.categories:
        assert four.support[category][:1] == one.support[category]
        assert len({*four.support[category]}) == 4
        assert {*four.support[category]} <= {*four.normals(category)}
        images = four.shot_images(category)
        assert images.shape == (4, 3, 16, 16)
        assert torch.equal(images[:1], one.shot_images(category))
        hashes = [hashlib.sha256((four.root / e["path"]).read_bytes()).hexdigest() for e in four.manifest()[category]]
        assert [e["sha256"] for e in four.manifest()[category]] == hashes
        assert case.build(root, shots=0).shot_images(category).shape == (0, 3, 16, 16)
    assert sorted(paths(four.train_dataloader())) == sorted(e["path"] for m in four.manifest().values() for e in m)
    assert case.build(root, shots=4, seed=1).support != four.support


def test_a_category_alone_gets_the_same_shots(case, root):
    together = case.build(root, shots=2).support
    assert {c: case.build(root, shots=2, categories=[c]).support[c] for c in case.categories} == together


def test_shuffles_follow_the_seed(case, root):
    def epochs(seed):
        loader = case.build(root, shots=4, seed=seed).train_dataloader()
        return paths(loader), paths(loader)

    assert epochs(0) == epochs(0)
    assert any(epochs(seed)[0] != epochs(seed)[1] for seed in range(3))


def test_labelled_loader(case, root, few):
    data = case.build(root, **few)
    if not case.masks:
        with pytest.raises(DataError, match="no masks"):
            data.labelled_dataloader()
        return
    shuffled = paths(data.labelled_dataloader())
    assert sorted(shuffled) == sorted(data.relative(s.image) for c in case.masks for s in data.tests(c))
    assert shuffled == paths(data.labelled_dataloader())
    assert shuffled != sorted(shuffled)
    assert shuffled != paths(case.build(root, **few, seed=1).labelled_dataloader())
    assert {bool(b) for batch in data.labelled_dataloader() for b in batch.label} == {True, False}


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_limit_is_even_and_stable(case, root, limit):
    data = case.build(root, limit=limit)
    labels = torch.cat([batch.label for batch in data.test_dataloader()])
    assert len(labels) == limit * len(case.categories)
    assert int(labels.sum()) == (limit + 1) // 2 * len(case.categories)
    assert paths(data.test_dataloader()) == paths(case.build(root, limit=limit, seed=5).test_dataloader())


def test_no_shots_no_training(case, root):
    with pytest.raises(DataError, match="shots is 0"):
        case.build(root).train_dataloader()


def test_too_many_shots(case, root):
    data = case.build(root, shots=501)
    with pytest.raises(DataError, match=rf"{case.normals} normal training images, fewer than the 501 shots"):
        data.verify()
    with pytest.raises(DataError, match=rf"at most the {case.normals} normal training images"):
        data.train_dataloader()


def test_unknown_category_names_the_nearest(case, root):
    name = case.categories[0]
    with pytest.raises(DataError, match=rf"unknown category '{name}x'. Did you mean '{name}'\? Allowed: .*{name}"):
        case.build(root, categories=[f"{name}x"])
    with pytest.raises(DataError, match="none twice"):
        case.build(root, categories=[name, name])
    with pytest.raises(DataError, match="at least one category"):
        case.build(root, categories=[])


def test_numbers_out_of_range(case, root):
    with pytest.raises(DataError, match="limit 1 or more"):
        case.build(root, limit=0)
    with pytest.raises(DataError, match="shots must be 0 or more"):
        case.build(root, shots=-1)


def test_fingerprint_sees_every_change_and_not_the_place(case, root, tmp_path):
    if root is None:
        prints = {case.build(None, shots=k, seed=k).fingerprint("textile") for k in (0, 2)}
        assert len(prints) == 1
        return
    copy = shutil.copytree(root, tmp_path / "elsewhere" / root.name)
    category = case.categories[0]
    data = case.build(copy, shots=1)
    seen = [data.fingerprint(category)]
    assert seen == [case.build(root, shots=3, seed=4, limit=1).fingerprint(category)]
    changed = [data.normals(category)[0].image, data.tests(category)[0].image]
    changed += [s.mask for s in data.tests(category) if s.mask][:1]
    for file in changed:
        file.write_bytes(file.read_bytes() + b"\0")
        seen.append(data.fingerprint(category))
    assert len({*seen}) == 4


def test_pickles(case, root):
    data = pickle.loads(pickle.dumps(case.build(root, shots=2)))
    assert data.support == case.build(root, shots=2).support
    assert len(pickle.loads(pickle.dumps(data.test_dataloader().dataset))) > 0


def test_workers_change_no_number(cases, roots):
    def seen(workers):
        torch.manual_seed(3)
        loader = cases["mvtec_ad"].build(roots["mvtec_ad"], num_workers=workers).labelled_dataloader()
        epochs = [[(b.path, b.image.sum().item(), b.mask.sum().item()) for b in loader] for _ in range(2)]
        return epochs, torch.rand(1).item()

    torch.manual_seed(3)
    untouched = torch.rand(1).item()
    assert seen(0) == seen(2)
    assert seen(0)[1] == untouched


def test_object_names(cases):
    words = {c: cases["visa"].kind.object_name(c) for c in cases["visa"].kind.categories}
    assert words["pcb1"] == "printed circuit board"
    assert words["macaroni1"] == "macaroni"
    assert words["pipe_fryum"] == "pipe fryum"
    assert not any(letter.isdigit() or letter == "_" for name in words.values() for letter in name)
