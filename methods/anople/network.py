"""What AnoPLe (arXiv:2408.13516) learns: coupled prompts, a signal for each view, and a light decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from methods.anople.coupled_prompts import BlockPrompts, ClassTexts, CoupledPrompts
from methods.anople.decoder import Decoded, LocalReader
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures, Stream
from methods.components.clip.depth import in_proportion
from methods.components.prompts import Unchanged, new_prompt


class AnoPLeNetwork(nn.Module):
    """Runs a frozen CLIP with what is learnt; the backbone is handed in and not owned."""

    def __init__(self, backbone: CLIPBackbone, names: Mapping[str, str], config: Any, n_views: int) -> None:
        """Initialise what is learnt.

        Args:
            backbone: whose towers it fits.
            names: category to the words that name its object.
            config: `AnoPLe.Config`.
            n_views: views of an image in a fit, the whole one first.

        Raises:
            ValueError: a number is out of range.
            BackboneError: no such choice, or a text is too long.
        """
        super().__init__()
        shallower = min(backbone.n_text_blocks, backbone.n_image_blocks)
        self.prompts = CoupledPrompts(
            backbone,
            depth=in_proportion(9, 12, shallower) if config.depth is None else config.depth,
            n_text=config.n_text,
            n_visual=config.n_visual,
            sides=config.prompts,
            coupling=config.coupling,
            share_projections=config.share_projections,
        )
        self.texts = ClassTexts(backbone, names, self.prompts.n_text)
        signals = n_views * config.prefix
        self.prefix = new_prompt(signals, backbone.image_width) if signals and config.variant == "v2" else None
        self.reader = LocalReader(
            backbone,
            layers=config.decoder_layers,
            width=_decoder_width(backbone) if config.decoder_width is None else config.decoder_width,
            decode=config.decoder,
            mask_head=config.mask_head,
            n_signals=signals if config.variant == "v1" else 0,
        )
        self.stream: Stream = "vv_from_ordinary" if config.vv_attention else "ordinary"
        self._kept = Unchanged[Tensor]()

    def encode(
        self,
        backbone: CLIPBackbone,
        images: Tensor,
        prompts: BlockPrompts,
        views: Tensor | None = None,
        *,
        taps: Sequence[int] = (),
        edit: tuple[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> ImageFeatures:
        """Encode images in one pass.

        Args:
            backbone: the frozen CLIP.
            images: (B, 3, H, W) in [0, 1].
            prompts: of this step.
            views: which view each image is, (B,) long; None for whole images.
            taps: blocks whose tokens are asked for; they follow those of the decoder.
            edit: see `CLIPBackbone.encode_image`.
        """
        return backbone.encode_image(
            images,
            layers=(backbone.n_image_blocks,),
            stream=self.stream,
            taps=(*self.reader.taps, *taps),
            deep_prompts=prompts.visual,
            prefix=None if self.prefix is None else _rows(self.prefix, views, len(images)).unsqueeze(1),
            patch_edit=edit,
        )

    def read_texts(self, backbone: CLIPBackbone, prompts: BlockPrompts, categories: Sequence[str]) -> Tensor:
        """Unit features of both texts of each of B category keys, (B, 2, D); kept while nothing is learnt."""
        every = tuple(self.texts.rows)
        known = self._kept(self.prompts.parameters(), lambda: self.texts.encode(backbone, prompts.text, every))
        return known[[self.texts.rows[category] for category in categories]]

    def read_maps(
        self,
        backbone: CLIPBackbone,
        features: ImageFeatures,
        text: Tensor,
        size: tuple[int, int],
        views: Tensor | None = None,
    ) -> Decoded:
        """Decode patches and compare them with the texts of their images, (B, 2, D); `size` is that of the maps."""
        signals = self.reader.signals
        signal = None if signals is None else _rows(signals, views, len(text))
        decoded: Decoded = self.reader(backbone, features, text, size, signal)
        return decoded


def _decoder_width(backbone: CLIPBackbone) -> int:
    """256 in the tower of ViT-B-16-plus, 896 wide, and in proportion in others, rounded down to a multiple of 8."""
    return max(8, in_proportion(256, 896, backbone.image_width) // 8 * 8)


def _rows(signals: Tensor, views: Tensor | None, count: int) -> Tensor:
    """The signal of each view, (B, width); without `views` the first for all, and no other is touched."""
    return signals[:1].expand(count, -1) if views is None else signals[views]
