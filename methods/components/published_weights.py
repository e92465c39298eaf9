"""Published checkpoint files by their content; loads no torch."""

from pathlib import Path

EMBEDDED = "embedded"
#: Made by `bench pretrain embedded`; embedded.md, beside it, is its card.
DEMO_FILE = Path(__file__).with_name("embedded.safetensors")


def published_name(sha256: str) -> str | None:
    """The label of a published file, such as "ViT-L-14-336-quickgelu/openai"; None if it is none of ours."""
    return None
