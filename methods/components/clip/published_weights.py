"""Checkpoint files of CLIPs that are known by their bytes. No torch, so that a plan can name them."""

from pathlib import Path, PurePath
from typing import Literal, NamedTuple

Activation = Literal["gelu", "quick_gelu"]

EMBEDDED = "embedded"
#: Made by `bench pretrain embedded`; embedded.md, beside it, is its card.
DEMO_FILE = Path(__file__).with_name("embedded.safetensors")


class PublishedFile(NamedTuple):
    """What a published checkpoint file holds."""

    label: str  # MODEL/TAG
    activation: Activation  # of its training; weights do not tell


#: SHA-256 of a file's bytes. OpenAI's digests are part of its addresses, which the MIT-licensed `clip` and `open_clip`
#: list. LAION's addresses hold 8 digits only, which do not identify a file, so none of them is here.
PUBLISHED_FILES = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": PublishedFile("ViT-B-32/openai", "quick_gelu"),
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": PublishedFile("ViT-B-16/openai", "quick_gelu"),
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": PublishedFile("ViT-L-14/openai", "quick_gelu"),
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": PublishedFile(
        "ViT-L-14-336/openai", "quick_gelu"
    ),
}


def weights_label(path: str, sha256: str) -> str:
    """The published label of a checkpoint file, else its stem and the first 8 digits of its hash: "mine-0a1b2c3d"."""
    known = PUBLISHED_FILES.get(sha256)
    return known.label if known else f"{PurePath(path).stem}-{sha256[:8]}"
