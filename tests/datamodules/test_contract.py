"""What every data set promises, on twins of the exact layout (textile: on the real package)."""

import ast
import hashlib
import inspect
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.components.base import AnomalyDataModule
from datamodules.components.fit_data import FitData
from datamodules.components.reading import SampleImages, collate, read_image
from datamodules.components.sample import DataError
from datamodules.components.tiles import TiledDataModule

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


def shown(data) -> list[str]:
    """Names of the images that the test loader yields, in its order."""
    samples = data.test_samples
    return [data.relative(samples[index].image) for batch in data.test_dataloader() for index in batch.indices]


@pytest.mark.parametrize("file", DATASETS, ids=lambda file: file.stem)
def test_class_attributes_are_literals(file):
    tree = ast.parse(file.read_text())
    (kind,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and "source" in ast.unparse(n)[:4000] and n.bases]
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


def test_every_data_set_that_is_not_drawn_has_a_case(cases):
    known = {case.kind.__module__.rpartition(".")[2] for case in cases.values()}
    assert known == {file.stem for file in DATASETS} - {"procedural", "procedural_auxiliary"}


@pytest.mark.slow
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
        assert {s.defect_type for s in (*normals, *tests) if not s.anomalous} <= {"good"}
        assert len({s.image for s in (*normals, *tests)}) == case.normals + sum(case.tests)
        assert data.masks_known(category) == (category in case.masks)
        assert all((s.mask is not None) == (s.anomalous and category in case.masks) for s in tests)


def check_images(images):
    assert images.shape[1:] == (3, 16, 16)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


def test_batches_of_a_fit(case, root):
    """They hold the truth, also where anomalous pixels are unknown."""
    data = case.build(root, limit=6)
    every = SampleImages(data.test_samples, data.root, 16)  # of categories without masks too
    loaders = [DataLoader(every, 3, collate_fn=collate)]
    loaders += [case.build(root, shots=2).train_dataloader()] if case.normals else []
    loaders += [data.fit_loader(FitData("labelled"))] if case.masks else []
    labels = {path: label for loader in loaders for batch in loader for path, label in check_truth(batch, case, data)}
    truth = {data.relative(s.image): s.anomalous for c in case.categories for s in (*data.tests(c), *data.normals(c))}
    assert {*labels.values()} == ({True, False} if case.tests[0] else {True})
    assert labels.items() <= truth.items()


def check_truth(batch, case, data):
    """Names and labels of a batch whose masks are true to them."""
    count = len(batch.label)
    check_images(batch.image)
    assert len(batch.image) == len(batch.category) == len(batch.path) == count
    assert batch.mask.shape == (count, 16, 16)
    assert batch.mask.dtype == batch.label.dtype == torch.bool
    marked = batch.mask.flatten(1).any(1)
    known = torch.tensor([category in case.masks for category in batch.category])
    assert torch.equal(marked, batch.label & known)
    assert all((data.root / path).is_file() and "\\" not in path for path in batch.path)
    return zip(batch.path, batch.label.tolist(), strict=True)


def test_test_batches_hold_no_truth(case, root, few):
    data = case.build(root, **few)
    samples, images = data.test_samples, iter(data.test_samples)
    for batch in data.test_dataloader():
        assert batch._fields == ("image", "category", "indices")
        check_images(batch.image)
        assert batch.indices.dtype == torch.int64
        assert batch.indices.shape == batch.image.shape[:1]
        its = [samples[index] for index in batch.indices]
        assert its == [next(images) for _ in its]
        assert batch.category == [sample.category for sample in its]
        assert torch.equal(batch.image, torch.stack([read_image(sample.image, 16) for sample in its]))
    assert next(images, None) is None


def leaves(value):
    """Every plain value that hangs on an object."""
    if isinstance(value, dict | list | tuple | set):
        return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
    return leaves(vars(value)) if hasattr(value, "__dict__") else [value]


def test_nothing_behind_a_test_loader_holds_a_label_or_a_mask(case, root, few):
    data = case.build(root, **few)
    samples = data.test_samples
    found = leaves(data.test_dataloader().dataset.__dict__)
    assert {*found} == {16, None} | {sample.image for sample in samples} | {sample.category for sample in samples}
    assert not any(isinstance(leaf, bool) for leaf in found)
    truth = leaves(SampleImages(samples, data.root, 16).__dict__)  # the walk finds a label where there is one
    assert {leaf for leaf in truth if isinstance(leaf, bool)} == ({True, False} if case.tests[0] else {True})
    assert {sample.mask for sample in samples} <= {*truth}


@pytest.mark.slow
def test_test_order_is_stable_and_complete(case, root, few):
    data = case.build(root, **few)
    seen = shown(data)
    other = {"seed": 9, "shots": min(2, case.normals)}
    named = [sorted(data.relative(sample.image) for sample in data.tests(c)) for c in case.categories]
    chosen = {*seen} if few else {path for names in named for path in names}
    assert seen == [path for names in named for path in names if path in chosen]
    assert len(seen) == len(case.categories) * few.get("limit", sum(case.tests))
    assert seen == shown(case.build(root, **few, **other))


def need_normals(case):
    if not case.normals:
        pytest.skip("this set has no normal training images")


def support(data):
    return {category: data.sample_shots(category) for category in data.chosen}


@pytest.mark.slow
def test_shots_nest_and_are_recorded(case, root):
    need_normals(case)
    one, four = case.build(root, shots=1), case.build(root, shots=4)
    for category in case.categories:
        assert support(four)[category][:1] == support(one)[category]
        assert len({*support(four)[category]}) == 4
        assert {*support(four)[category]} <= {*four.normals(category)}
        images = four.shot_images(category)
        assert images.shape == (4, 3, 16, 16)
        assert torch.equal(images[:1], one.shot_images(category))
        hashes = [hashlib.sha256((four.root / e["path"]).read_bytes()).hexdigest() for e in four.manifest()[category]]
        assert [e["sha256"] for e in four.manifest()[category]] == hashes
        assert case.build(root, shots=0).shot_images(category).shape == (0, 3, 16, 16)
    assert sorted(paths(four.train_dataloader())) == sorted(e["path"] for m in four.manifest().values() for e in m)
    assert support(case.build(root, shots=4, seed=1)) != support(four)


def test_a_category_alone_gets_the_same_shots(case, root):
    need_normals(case)
    together = support(case.build(root, shots=2))
    assert {c: support(case.build(root, shots=2, categories=[c]))[c] for c in case.categories} == together


def test_shuffles_follow_the_seed_and_the_epoch(case, root):
    need_normals(case)

    def epochs(seed):
        loader = case.build(root, shots=4, seed=seed).train_dataloader()
        orders = []
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            orders.append(paths(loader))
        return orders

    first, second, third = epochs(0)
    assert [first, second, third] == epochs(0)
    assert sorted(first) == sorted(second) == sorted(third)
    assert first != second != third != first
    assert first != epochs(1)[0]


def test_labelled_loader(case, root, few):
    data = case.build(root, **few)
    if not case.masks:
        with pytest.raises(DataError, match="no masks"):
            data.fit_loader(FitData("labelled"))
        return
    shuffled = paths(data.fit_loader(FitData("labelled")))
    assert sorted(shuffled) == sorted(data.relative(s.image) for c in case.masks for s in data.tests(c))
    assert shuffled == paths(data.fit_loader(FitData("labelled")))
    assert shuffled != sorted(shuffled)
    assert shuffled != paths(case.build(root, **few, seed=1).fit_loader(FitData("labelled")))
    seen = {bool(b) for batch in data.fit_loader(FitData("labelled")) for b in batch.label}
    assert seen == ({True, False} if case.tests[0] else {True})


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_limit_is_even_and_stable(case, root, limit):
    data = case.build(root, limit=limit)
    labels = [sample.anomalous for sample in data.test_samples]
    normal, anomalous = case.tests
    whole = min(limit, normal + anomalous)
    assert len(labels) == whole * len(case.categories)
    wanted = min(anomalous, max((limit + 1) // 2, limit - normal))
    assert sum(labels) == wanted * len(case.categories)
    assert shown(data) == [data.relative(sample.image) for sample in data.test_samples]
    assert shown(data) == shown(case.build(root, limit=limit, seed=5))


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


@pytest.mark.slow
def test_a_fingerprint_knows_neither_shots_nor_seed_nor_limit(case, root):
    category = case.categories[0]
    plain = case.build(root)
    other = case.build(root, shots=min(2, case.normals), seed=2, limit=1)
    assert plain.fingerprint(category) == other.fingerprint(category)
    assert plain.test_fingerprint(category) == other.test_fingerprint(category)
    assert (plain.test_fingerprint(category) != plain.fingerprint(category)) == bool(case.normals)


def turn_a_bit(path):
    """Change one byte; the length and the times stay."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size


def test_fingerprints_see_every_byte_and_neither_place_nor_time(case, root, tmp_path):
    if root is None:
        pytest.skip("the files of the installed package must not be changed")
    if issubclass(case.kind, TiledDataModule):
        pytest.skip("its tiles are told apart by the bytes of the originals: see test_tiles")
    copy = shutil.copytree(root, tmp_path / "elsewhere" / root.name)
    category = case.categories[0]
    data = case.build(copy)

    def prints():
        return data.fingerprint(category), data.test_fingerprint(category)

    seen = [prints()]
    original = case.build(root)
    assert seen == [(original.fingerprint(category), original.test_fingerprint(category))]
    tests = data.tests(category)
    for sample in (*data.normals(category), *tests):
        os.utime(sample.image, (1, 1))
    assert prints() == seen[0]
    for file in (tests[0].image, *[s.mask for s in tests if s.mask][:1]):
        turn_a_bit(file)
        seen.append(prints())
    different = 3 if case.masks else 2
    assert len({whole for whole, _ in seen}) == len({test for _, test in seen}) == different
    if not case.normals:
        return
    turn_a_bit(data.normals(category)[0].image)
    whole, test = prints()
    assert test == seen[-1][1]  # a training image is no test image
    assert whole not in {before for before, _ in seen}


def test_pickles(case, root):
    shots = min(2, case.normals)
    data = pickle.loads(pickle.dumps(case.build(root, shots=shots)))
    assert support(data) == support(case.build(root, shots=shots))
    assert len(pickle.loads(pickle.dumps(data.test_dataloader().dataset))) > 0


@pytest.mark.slow
def test_workers_change_no_number(cases, roots):
    def seen(workers):
        torch.manual_seed(3)
        loader = cases["mvtec_ad"].build(roots["mvtec_ad"], num_workers=workers).fit_loader(FitData("labelled"))
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            epochs.append([(b.path, b.image.sum().item(), b.mask.sum().item()) for b in loader])
        assert epochs[0] != epochs[1]
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
