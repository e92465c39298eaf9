"""Folders as people have them: what is found, what is refused, and what no name may change."""

import shutil

import pytest
import twins

from datamodules.components.own_folders import divide
from datamodules.components.sample import DataError, Sample
from datamodules.folder import Folder


def build(root, category, shots=0, **config):
    return Folder(root, [category], image_size=16, shots=shots, config=Folder.Config(**config))


def relative(data, samples):
    return sorted(data.relative(sample.image) for sample in samples)


def counts(data, category):
    tests = data.tests(category)
    return len(data.normals(category)), sum(not s.anomalous for s in tests), sum(s.anomalous for s in tests)


def test_identical_images_under_other_names_give_the_same_shots(tmp_path):
    """The image at every place is drawn by its stem: another root, folder, case or format changes nothing."""
    drawn = {}
    for root, normal, ending in (("a", "good", "png"), ("b/deep", "OK", "bmp"), ("c", "normal", "png")):
        folder = tmp_path / root
        twins.write_mvtec_category(folder, normal=normal)
        for path in [*folder.rglob("*.png")]:
            path.rename(path.with_suffix(f".{ending}"))
        for seed in range(4):
            data = Folder(folder, [folder.name], image_size=16, shots=2, seed=seed)
            drawn.setdefault(seed, []).append([sample.image.stem for sample in data.sample_shots(folder.name)])
    assert all(lists == [lists[0]] * 3 for lists in drawn.values())
    assert len({tuple(lists[0]) for lists in drawn.values()}) > 1


def test_nested_images_are_found(twin):
    root = twin("single")
    for place in ("train/good", "test/good", "test/a", "ground_truth/a"):
        (root / place / "left/camera 1").mkdir(parents=True)
        for path in sorted((root / place).glob("*.png"))[:1]:
            path.rename(root / place / "left/camera 1" / path.name)
    data = build(root, "single", shots=5)
    data.verify()
    assert counts(data, "single") == (5, 3, 4)
    masks = {data.relative(s.image): data.relative(s.mask) for s in data.tests("single") if s.defect_type == "a"}
    assert masks["test/a/left/camera 1/000.png"] == "ground_truth/a/left/camera 1/000_mask.png"
    assert len({entry["path"] for entry in data.manifest()["single"]}) == 5


def test_a_mask_in_another_nested_folder_is_no_pair(twin):
    root = twin("single")
    (root / "test/a/left").mkdir()
    (root / "test/a/000.png").rename(root / "test/a/left/000.png")
    with pytest.raises(DataError, match=r"mask without image: .*ground_truth/a/000_mask\.png has no test image"):
        build(root, "single").verify()


def test_a_circle_of_links_ends(twin):
    root = twin("single")
    (root / "train/good/again").symlink_to(root / "train/good")
    assert counts(build(root, "single"), "single") == (5, 3, 4)


def test_links_to_folders_are_followed(twin, tmp_path):
    root = twin("single")
    shutil.move(root / "test/a", tmp_path / "far")
    (root / "test/a").mkdir()
    (root / "test/a/there").symlink_to(tmp_path / "far")
    shutil.rmtree(root / "ground_truth")
    assert counts(build(root, "single"), "single") == (5, 3, 4)


def test_flat_folders(twin):
    data = build(twin("flat"), "part", split=0.625)
    data.verify()
    assert Folder.find_categories(data.root) == ("part",)
    assert counts(data, "part") == (5, 3, 4)
    assert {s.defect_type for s in data.tests("part") if s.anomalous} == {"crack", "dent"}
    assert {s.image.stem: s.mask.stem for s in data.tests("part") if s.anomalous} == {i: i for i in "0123"}
    single = Folder(data.root / "part", ["part"], image_size=16, config=Folder.Config(split=0.625))
    assert counts(single, "part") == (5, 3, 4)


@pytest.mark.parametrize(("share", "expected"), [(0, (0, 8, 4)), (0.5, (4, 4, 4)), (0.7, (6, 2, 4)), (1, (8, 0, 4))])
def test_normal_images_are_divided_by_name(twin, share, expected):
    data = build(twin("flat"), "part", split=share)
    data.verify()
    assert counts(data, "part") == expected
    assert not {*relative(data, data.normals("part"))} & {*relative(data, data.tests("part"))}


def test_a_division_grows_with_its_share_and_knows_no_order(twin):
    normals = [*(s for s in build(twin("flat"), "part", split=1).normals("part"))]
    parts = [divide(normals, share)[0] for share in (0.25, 0.5, 0.75)]
    assert parts[0] == parts[1][:2] == parts[2][:2]
    assert parts[1] == parts[2][:4]
    assert divide(normals[::-1], 0.5) == divide(normals, 0.5)
    moved = [Sample(twin("anomalib") / f"z/{s.image.stem}.tif", "c") for s in normals]
    assert [s.image.stem for s in divide(moved, 0.5)[0]] == [s.image.stem for s in parts[1]]


def test_masks_of_normal_images_are_left_out_of_a_shared_folder(twin):
    root = twin("flat")
    twins.save(twins.mask(0), root / "part/masks/7_mask.png")
    data = build(root, "part")
    data.verify()
    assert data.describe_use().ignored == {"mask of no anomalous test image": ["part/masks/7_mask.png"]}


def test_equal_stems_of_two_kinds_cannot_share_a_folder_of_masks(twin):
    root = twin("flat")
    (root / "part/dent/2.png").rename(root / "part/dent/0.png")
    with pytest.raises(DataError, match=r"crack/0\.png and 0\.png share a stem, so their masks cannot be told apart"):
        build(root, "part").verify()
    for kind, stems in (("crack", "01"), ("dent", "03")):
        for stem in stems:
            twins.save(twins.mask(), root / f"part/masks/{kind}/{stem}.png")
    build(root, "part").verify()


@pytest.mark.parametrize("pattern", ["<stem>_gt.png", "test/<kind>/<stem>_gt.png", "truth/<stem>-<kind>.png"])
def test_masks_by_a_pattern(twin, pattern):
    root = twin("single")
    for mask in (root / "ground_truth").rglob("*.png"):
        kind, stem = mask.parent.name, mask.stem.removesuffix("_mask")
        target = root / "test" / kind / f"{stem}_gt.png" if "_gt" in pattern else root / f"truth/{stem}-{kind}.png"
        target.parent.mkdir(exist_ok=True)
        mask.rename(target)
    data = build(root, "single", masks=pattern)
    data.verify()
    assert counts(data, "single") == (5, 3, 4)
    assert all(s.mask for s in data.tests("single") if s.anomalous)
    data.tests("single")[-1].mask.unlink()
    with pytest.raises(DataError, match=r"anomalous image without mask: .*test/b/001\.png needs .*, by the pattern"):
        data.verify()


def test_masks_beside_training_images_are_no_normal_images(twin):
    root = twin("single")
    shutil.rmtree(root / "ground_truth")
    for image in [*(root / "train/good").glob("*.png"), *(root / "test").rglob("*.png")]:
        twins.save(twins.mask(0 if "good" in image.parts else 255), image.with_name(f"{image.stem}_gt.png"))
    data = build(root, "single", masks="<stem>_gt.png")
    data.verify()
    assert counts(data, "single") == (5, 3, 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"normal": ("/x",)}, "must be named by a path below the category's folder, got '/x'"),
        ({"abnormal": ("../x",)}, r"got '\.\./x'"),
        ({"masks": "truth"}, "no folder of masks 'truth' in any category: looked for .*/single/truth"),
        ({"masks": "<image>.png"}, r"a pattern of masks may hold <stem> and <kind>, got"),
        ({"masks": "<stem><>.png"}, "a pattern of masks may hold"),
        ({"normal": ("good", "nominal")}, "no folder 'nominal' in any category"),
        ({"abnormal": ("a", "typo")}, "no folder 'typo' in any category"),
        ({"abnormal": ("a", "GOOD")}, r"\['good'\] cannot be both normal and abnormal"),
        ({"normal": ("train/good",)}, "abnormal must name the folders of anomalous images"),
    ],
)
def test_settings(twin, config, message):
    root = twin("single")
    with pytest.raises(DataError, match=message):
        build(root, "single", **config).verify()


def test_some_kinds_alone(twin):
    data = build(twin("single"), "single", abnormal=("B",))
    data.verify()
    assert {s.defect_type for s in data.tests("single") if s.anomalous} == {"b"}
    ignored = data.describe_use().ignored
    assert ignored["in no folder that the layout reads"] == ["test/a/000.png", "test/a/001.png"]


@pytest.mark.parametrize("layout", ["auto", "flat"])
def test_anomalib_paths_in_mvtec_folders_are_the_same_lists(twin, layout):
    root = twin("single")
    names = {"normal": ("train/good",), "abnormal": ("test/a", "test/b"), "normal_test": ("test/good",)}
    by_paths = build(root, "single", layout=layout, masks="ground_truth", **names)
    plain = build(root, "single", layout="mvtec")
    assert sorted(by_paths.tests("single")) == sorted(plain.tests("single"))
    assert sorted(by_paths.normals("single")) == sorted(plain.normals("single"))
    assert by_paths.fingerprint("single") == plain.fingerprint("single")
    with pytest.raises(DataError, match="layout=mvtec takes the names of folders in train and test, got the path"):
        build(root, "single", layout="mvtec", **names)


@pytest.mark.parametrize("layout", ["mvtec", "flat"])
def test_normal_images_inside_anomalous_ones_are_refused(twin, layout):
    root = twin("single") if layout == "mvtec" else twin("flat")
    inner = root / "test/a/Good" if layout == "mvtec" else root / "part/crack/Good"
    twins.save(twins.image(0), inner / "9.png")
    with pytest.raises(DataError, match=r"would be read as anomalous images, but holds Good/, a name of normal ones"):
        build(root, "single" if layout == "mvtec" else "part").verify()


@pytest.mark.parametrize("place", ["train/good", "test/good"])
def test_anomalous_images_inside_normal_ones_are_refused(twin, place):
    root = twin("single")
    twins.save(twins.image(0), root / place / "Bad/9.png")
    with pytest.raises(DataError, match=r"would be read as normal images, but holds Bad/, a name of anomalous ones"):
        build(root, "single").verify()
    (root / place / "Bad").rename(root / place / "scratch")
    build(root, "single").verify()
    (root / "test/scratch").mkdir()
    with pytest.raises(DataError, match="would be read as normal images, but holds scratch/"):
        build(root, "single", abnormal=("scratch",)).verify()


@pytest.mark.parametrize("masks", ["truth/<kind>/<stem>.png", "truth/<stem>.png", "truth"])
def test_a_named_folder_of_masks_is_no_kind(twin, masks):
    root = twin("flat")
    (root / "part/masks").rename(root / "part/truth")
    for kind, stems in (("crack", "01"), ("dent", "23")) if "<kind>" in masks else ():
        (root / "part/truth" / kind).mkdir()
        for stem in stems:
            (root / f"part/truth/{stem}.png").rename(root / f"part/truth/{kind}/{stem}.png")
    data = build(root, "part", masks=masks)
    data.verify()
    assert {s.defect_type for s in data.tests("part") if s.anomalous} == {"crack", "dent"}
    assert data.describe_use().masks == 4


@pytest.mark.parametrize("part", ["test/good", "test/a|test/b|ground_truth", "train"])
def test_sets_of_one_kind_are_accepted(twin, part):
    """Anomalies alone, normal test images alone, nothing to train on."""
    root = twin("single")
    for name in part.split("|"):
        shutil.rmtree(root / name)
    build(root, "single").verify()


def test_anomalies_alone_in_two_folders(tmp_path):
    for i in range(3):
        twins.save(twins.image(i, defect=True), tmp_path / f"polyps/images/{i:0{3 - i}}.png")
        twins.save(twins.mask(), tmp_path / f"polyps/masks/{i:0{3 - i}}.png")
    data = build(tmp_path / "polyps", "polyps", normal=(), abnormal=("images",))
    data.verify()
    assert counts(data, "polyps") == (0, 0, 3)
    assert all(s.image.name == s.mask.name for s in data.tests("polyps"))
    with pytest.raises(DataError, match="'polyps' has 0 normal training images, fewer than the 1 shots"):
        build(tmp_path / "polyps", "polyps", shots=1, normal=(), abnormal=("images",)).verify()


def test_anomalies_alone_are_known_by_the_word(twin):
    root = twin("flat")
    shutil.rmtree(root / "part/OK")
    with pytest.raises(DataError, match="no category below"):
        Folder.find_categories(root)
    (root / "part/crack").rename(root / "part/NG")
    data = build(root, "part")
    data.verify()
    assert counts(data, "part") == (0, 0, 4)


def test_lists_do_not_follow_the_order_of_a_directory(twin, monkeypatch):
    root = twin("flat")
    expected = build(root, "part")
    expected = expected.sample_shots("part"), expected.normals("part"), expected.tests("part")
    listing = type(root).iterdir
    monkeypatch.setattr(type(root), "iterdir", lambda path: iter(sorted(listing(path), reverse=True)))
    again = build(root, "part")
    assert (again.sample_shots("part"), again.normals("part"), again.tests("part")) == expected
