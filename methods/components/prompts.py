"""Prompts and what is made of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip.attention import replace_tokens
from methods.components.clip.backbone import CLIPBackbone, Tokens

Result = TypeVar("Result")
_NO_SOURCE = -(2**63)  # a number that no source has
_STD = 0.02  # of new prompts (CoOp, arXiv:2109.01134, and its successors)


@torch.no_grad()
def ensemble(backbone: CLIPBackbone, texts: Sequence[str]) -> Tensor:
    """The renormalised mean of the unit features of `texts`, (D,) (CLIP, arXiv:2103.00020, section 3.1.4)."""
    features = backbone.encode_text(backbone.tokenize(texts))  # (T, D)
    return F.normalize(features.mean(dim=0), dim=-1)


def new_prompt(*shape: int) -> nn.Parameter:
    """A prompt to be learnt, sampled from N(0, 0.02²)."""
    return nn.Parameter(torch.randn(*shape) * _STD)


def write_context(template: Tokens, context: Tensor) -> Tokens:
    """Write learnt tokens over the first words of a template.

    Args:
        template: of one text, ids (1, C), or of T, whose first n words hold the place.
        context: (T, n, W).

    Returns:
        T texts, ids (T, C).
    """
    n_texts = len(context)
    embeddings = replace_tokens(template.embeddings.expand(n_texts, -1, -1), context, start=1)
    return Tokens(template.ids.expand(n_texts, -1), embeddings)


def join(*parts: Tokens) -> Tokens:
    """One batch of all texts of `parts`, whose starts are shared if the sources of all are known."""
    ids, embeddings = (torch.cat(each) for each in zip(*(part[:2] for part in parts), strict=True))
    known = [part.sources for part in parts if part.sources is not None]
    if len(known) < len(parts):
        return Tokens(ids, embeddings)
    most = max(sources.shape[-1] for sources in known)
    padded = [F.pad(sources, (0, most - sources.shape[-1]), value=_NO_SOURCE) for sources in known]
    return Tokens(ids, embeddings, torch.cat(padded))


class Templates(nn.Module):
    """Tokens of the normal and the anomalous template; embeddings follow the device, neither is in a state dict."""

    embeddings: Tensor  # (2, C, W)

    def __init__(self, backbone: CLIPBackbone, normal: str, anomalous: str) -> None:
        super().__init__()
        tokens = backbone.tokenize([normal, anomalous])
        self.ids = tokens.ids  # (2, C), on the CPU
        self.register_buffer("embeddings", tokens.embeddings, persistent=False)

    @property
    def normal(self) -> Tokens:
        """Ids (1, C)."""
        return Tokens(self.ids[:1], self.embeddings[:1])

    @property
    def anomalous(self) -> Tokens:
        """Ids (1, C)."""
        return Tokens(self.ids[1:], self.embeddings[1:])


class CompoundPrompts(nn.Module):
    """One normal prompt of E learnt tokens, and K anomalous ones that add E' of their own to the same E.

    The compound abnormality prompts of FAPrompt (arXiv:2410.10289).
    """

    def __init__(self, backbone: CLIPBackbone, n_normal: int, n_anomalous: int, n_prompts: int) -> None:
        super().__init__()
        if min(n_normal, n_anomalous, n_prompts) < 1:
            raise ValueError(
                "n_ctx_normal, n_ctx_anomalous and n_anomalous must be 1 or more; "
                f"got {n_normal}, {n_anomalous} and {n_prompts}."
            )
        normal, anomalous = "N " * n_normal, "A " * n_anomalous  # any word of one token holds a place
        self.templates = Templates(backbone, f"{normal}object.", f"{normal}{anomalous}damaged object.")
        self.normal_ctx = new_prompt(n_normal, backbone.text_width)
        self.anomalous_ctx = new_prompt(n_prompts, n_anomalous, backbone.text_width)

    def normal(self) -> Tokens:
        """The normal prompt, ids (1, C)."""
        return write_context(self.templates.normal, self.normal_ctx.unsqueeze(0))

    def anomalous(self, prior: Tensor) -> Tokens:
        """K anomalous prompts for each row of `prior` (B, W), which is added to their own tokens: ids (B·K, C)."""
        own = self.anomalous_ctx + prior[:, None, None]  # (B, K, E', W)
        shared = self.normal_ctx.expand(*own.shape[:2], -1, -1)  # (B, K, E, W)
        return write_context(self.templates.anomalous, torch.cat([shared, own], dim=2).flatten(0, 1))


class DeepPrompts(nn.Module):
    """Learnt tokens that overwrite tokens 1 to n before text blocks 1 to depth - 1 (AnomalyCLIP, arXiv:2310.18961)."""

    def __init__(self, depth: int, length: int, backbone: CLIPBackbone, *, rounded: bool) -> None:
        """Initialise the prompts.

        Args:
            depth: blocks with learnt tokens, block 0 included, whose tokens are the context of the prompts.
            length: n, tokens overwritten.
            backbone: whose text tower they fit.
            rounded: round values, and each text's gradients, to float16.

        Raises:
            ValueError: the text tower has fewer blocks.
        """
        super().__init__()
        if not 1 <= depth <= backbone.n_text_blocks or length < 1:
            raise ValueError(
                f"Deep prompts have depth 1 to {backbone.n_text_blocks}, the blocks of the text tower, and length 1 or "
                f"more; got depth {depth} and length {length}."
            )
        self.rounded = rounded
        self.blocks = nn.ParameterList([new_prompt(length, backbone.text_width) for _ in range(depth - 1)])

    def forward(self, n_texts: int) -> list[Tensor]:
        """The prompts of blocks 1 to depth - 1 for so many texts, each (T, n, W)."""
        rows = [prompt.expand(n_texts, -1, -1) for prompt in self.blocks]
        return [row.half().float() for row in rows] if self.rounded else rows


class Unchanged(nn.Module, Generic[Result]):
    """Keeps the last result of a function of learnt parameters until one of them is written to.

    Version counters and addresses are compared, not values, so that no device is waited for: an optimiser's step, a
    loaded checkpoint and any other write in place are seen, and so is a new tensor behind `.data`. Two writes are not
    counted: into the tensor of `.data`, and a step of a fused optimiser. They are seen from the next `eval()` or
    `train()` on, with which each run of a trainer begins. Where gradients are recorded nothing is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self._result: Result | None = None
        self._state: list[tuple[int, int]] = []
        self._held: list[Tensor] = []  # so that no later tensor gets the address of one that is compared with

    def __call__(self, parameters: Iterable[Tensor], compute: Callable[[], Result]) -> Result:
        """`compute()`, or what it gave for these `parameters` since they were last written to."""
        given = list(parameters)
        if torch.is_grad_enabled() or any(parameter.is_inference() for parameter in given):
            self._result = None
            return compute()  # a tensor of inference mode counts no writes
        state = [(parameter.data_ptr(), parameter._version) for parameter in given]
        if self._result is None or state != self._state:
            self._result, self._state, self._held = compute(), state, [parameter.detach() for parameter in given]
        return self._result

    def train(self, mode: bool = True) -> Self:
        """Forget the result, also where the mode stays."""
        self._result = None
        return super().train(mode)
