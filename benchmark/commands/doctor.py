"""`bench doctor`: what this machine has, what is missing, and the next step."""

import os
import re
import sys
from collections.abc import Iterator
from ctypes import CDLL
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import try_to_load_from_cache
from rich.console import Console

import benchmark
import configs
from benchmark.execution.provenance import PACKAGES
from benchmark.records.store import StoreError, check_writable
from benchmark.request import registry
from benchmark.request.groups import BackboneSettings, from_values
from benchmark.request.registry import data_root
from benchmark.request.settings import choices, chosen
from benchmark.request.version import NAME, suite_version
from datamodules.components.roots import DATA_VARIABLE
from datamodules.components.sample import DataError
from methods.components.clip.published_weights import EMBEDDED

#: Where open_clip fetches the weights of configs/backbone, on the Hugging Face hub. open_clip tells of any others, and
#: takes longer to load than all that is examined here.
HUBS = {
    (
        "ViT-B-16-plus-240",
        "laion400m_e32",
    ): "timm/vit_base_patch16_plus_clip_240.laion400m_e31",  # the name is open_clip's
    ("ViT-L-14-336-quickgelu", "openai"): "timm/vit_large_patch14_clip_336.openai",
}
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class Finding(NamedTuple):
    """One line of the report. `advice` is what to do when something is absent."""

    topic: str
    good: bool
    text: str
    advice: str = ""


def examine(results: Path, console: Console) -> int:
    """Print all findings; 0 if the embedded default can run here, else 1."""
    findings = [*_versions(), *_devices(), *_packages_are_ours(), *_weights(), *_data(), *_folders(results)]
    for finding in findings:
        mark = "[green]ok[/green]  " if finding.good else "[yellow]none[/yellow]"
        console.print(f"{mark} {finding.topic:<10} {finding.text}", highlight=False, soft_wrap=True)
    console.print("\nnext:")
    for advice in dict.fromkeys(finding.advice for finding in findings if finding.advice):
        console.print(f"  - {advice}", highlight=False, soft_wrap=True)
    console.print("  - bench run --preset smoke   needs nothing that is missing above", highlight=False)
    return 0 if all(finding.good for finding in findings if finding.topic in ("package", "results")) else 1


def _versions() -> Iterator[Finding]:
    yield Finding("package", True, f"{NAME} {suite_version()}")
    for name in (name for name in PACKAGES if name != NAME):
        try:
            yield Finding("package", True, f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("package", False, f"{name} is not installed", "pip install -e . in the checkout")


def _devices() -> Iterator[Finding]:
    threads = os.environ.get("OMP_NUM_THREADS")
    left = f", of which OMP_NUM_THREADS={threads} lets torch use {threads}" if threads else ""
    yield Finding("device", True, f"cpu, {os.cpu_count()} cores{left}")
    why = why_no_gpu()
    if not why:
        import torch  # noqa: PLC0415  (takes longer than all that is examined here)

        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            yield Finding("device", True, f"cuda:{index} {torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
        if torch.cuda.is_available():
            return
    slow = "a ViT-L at 518 px takes about 15 s per image on two cores"
    yield Finding("device", False, f"no GPU: {why or 'torch sees none'}; {slow}")


def why_no_gpu() -> str:
    """Why torch can see no GPU, from its build and the driver of this machine; "" where torch itself must be asked."""
    spec = find_spec("torch")
    file = Path(spec.origin if spec and spec.origin else "torch").with_name("version.py")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    built = dict(re.findall(r"^(cuda|hip)\b.*= (.+)$", text, re.MULTILINE))
    if built.get("hip") != "None" or "cuda" not in built:
        return ""
    if built["cuda"] == "None":
        return "this torch is built for the CPU alone"
    cuda, driver = built["cuda"].strip("'"), "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        CDLL(driver)
    except OSError:
        return f"torch is built for CUDA {cuda}, and this machine has no driver of it, {driver}"
    return ""


def _packages_are_ours() -> Iterator[Finding]:
    home = Path(__file__).parents[2]
    for module in (benchmark, configs):
        place = Path(str(module.__file__)).parent
        good = place.parent == home
        advice = "" if good else f"uninstall the other package that ships {module.__name__}/"
        yield Finding("package", good, f"{module.__name__} from {place}", advice)


def _weights() -> Iterator[Finding]:
    for name in choices("backbone"):
        backbone = from_values(BackboneSettings, chosen("backbone", name).values["backbone"])
        if backbone.name == EMBEDDED:
            yield Finding("weights", True, f"{name}: shipped with the suite")
            continue
        hub = HUBS.get((backbone.name, backbone.pretrained)) or _hub(backbone)
        cached = bool(hub) and any(isinstance(try_to_load_from_cache(hub, file), str) for file in FILES)
        place = "in the cache" if cached else "not in the cache of HF_HOME"
        text = f"{name}: {backbone.name}/{backbone.pretrained} {place}"
        advice = (
            f"--backbone {name} downloads its weights on first use; offline, give backbone.pretrained=/path/to/file"
        )
        yield Finding("weights", cached, text, "" if cached else advice)


def _hub(backbone: BackboneSettings) -> str:
    """The repository of any weights that open_clip knows; "" where it fetches them from elsewhere, or knows none."""
    import open_clip  # noqa: PLC0415  (takes longer than all that is examined here)

    found: str = open_clip.get_pretrained_cfg(backbone.name, backbone.pretrained).get("hf_hub", "")
    return found.rstrip("/")


def _data() -> Iterator[Finding]:
    for name in registry.names("dataset"):
        if why := registry.why_broken("dataset", name):
            yield Finding("data", False, f"{name} is broken: {why}")
            continue
        facts = registry.dataset(name)
        if not facts.needs_root:
            yield Finding("data", True, f"{facts.name}: nothing to download")
            continue
        try:
            yield Finding("data", True, f"{facts.name}: {data_root(facts, None)}")
        except DataError as error:
            advice = f"set {DATA_VARIABLE} to a folder that holds one folder per data set, or dataset.NAME.root=…"
            yield Finding("data", False, str(error).partition(". Set ")[0], advice)


def _folders(results: Path) -> Iterator[Finding]:
    try:
        check_writable(results)
        yield Finding("results", True, f"{results.absolute()} can be written")
    except StoreError as error:
        yield Finding("results", False, str(error), "choose another folder with --results")
