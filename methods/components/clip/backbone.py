"""The one CLIP every method shares: frozen, and asked rather than altered.

A method that wants other attention, inserted prompts or tokens from between the blocks passes arguments. Nothing here
replaces a module, hooks one or writes to a parameter, so one instance serves every cell and every method.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self, get_args

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip import image_tower, text_tower
from methods.components.clip.cached_passes import describe_tower, recall_image, recall_windows
from methods.components.clip.image_tower import ImageFeatures, ImageRequest, PositionResize, Stream, TapPoint, Windows
from methods.components.clip.precision import AUTOCAST, Precision
from methods.components.clip.published_weights import EMBEDDED, Activation
from methods.components.clip.text_tower import Tokens
from methods.components.clip.weights import BackboneError, check_choice, check_supported, create_clip, hash_weights
from methods.components.feature_store.store import FeatureStore

__all__ = ["BackboneError", "CLIPBackbone", "ImageFeatures", "PositionResize", "Stream", "Tokens", "Windows"]


class CLIPBackbone(nn.Module):
    """A frozen open_clip model, always in eval mode."""

    store: FeatureStore | None = None  # asked first for image passes without prompts, prefix or edit
    clip: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: open_clip.SimpleTokenizer,
        *,
        image_size: int | None = None,
        position_resize: PositionResize = "bilinear",
        precision: Precision = "fp32",
    ) -> None:
        """Freeze `clip`.

        Args:
            clip: open_clip's `CLIP` with its built-in vision transformer; it becomes frozen and stays in eval mode.
            tokenizer: of the same model.
            image_size: side of the square images this backbone asks for, a multiple of the patch; None takes the
                side of the pretraining. `encode_image` accepts other sizes too.
            position_resize: how the position grid follows an image size, see `image_tower.resize_positions`.
            precision: "bf16" and "fp16" run both towers under autocast, features are float32 always; what tells
                "tf32" from "fp32" is of the process, see `precision.set_arithmetic`.

        Raises:
            BackboneError: the model's structure or the image size is not supported.
        """
        super().__init__()
        check_supported(clip)
        check_choice("position_resize", position_resize, get_args(PositionResize))
        check_choice("precision", precision, tuple(AUTOCAST))
        self.clip = clip.requires_grad_(False)
        self.tokenizer = tokenizer
        self.position_resize: PositionResize = position_resize
        self.precision = precision
        visual = self.clip.visual
        self.image_size = int(visual.image_size[0]) if image_size is None else image_size  # pixels
        self.grid_size = image_tower.patch_grid(visual, self.image_size, self.image_size)  # rows, columns
        self.patch_size = int(visual.patch_size[0])  # pixels
        self.image_width = int(visual.conv1.out_channels)
        self.text_width = int(self.clip.token_embedding.embedding_dim)
        self.embed_dim = int(visual.proj.shape[1])
        self.n_image_blocks = len(visual.transformer.resblocks)
        self.n_text_blocks = len(self.clip.transformer.resblocks)
        quick = isinstance(visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
        self.activation: Activation = "quick_gelu" if quick else "gelu"
        self.logit_scale = float(self.clip.logit_scale)  # a logarithm, ln 100 = 4.605 in most released weights
        config = open_clip.get_model_preprocess_cfg(clip)
        for name, default in (("mean", open_clip.OPENAI_DATASET_MEAN), ("std", open_clip.OPENAI_DATASET_STD)):
            self.register_buffer(name, torch.tensor(config.get(name, default)).view(1, 3, 1, 1), persistent=False)
        self._positions: dict[tuple[Any, ...], Tensor] = {}
        self.eval()

    @classmethod
    def load(
        cls,
        name: str = EMBEDDED,
        pretrained: str = "demo",
        *,
        activation: str | None = None,
        forced_activation: str | None = None,
        image_size: int | None = None,
        position_resize: PositionResize = "bilinear",
        precision: Precision = "fp32",
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load by open_clip's own names and schemas, or the embedded model of `embedded.json`.

        Args:
            name: a model name of open_clip, "embedded", "local-dir:PATH" or "hf-hub:ORG/NAME".
            pretrained: a tag of that model or the path of a checkpoint; see `weights.create_clip`.
            activation: of the weights' training; see there too.
            forced_activation: that the towers run with against it; see there too.
            image_size: see `__init__`.
            position_resize: see `__init__`.
            precision: see `__init__`.
            device: where the backbone is put.

        Raises:
            BackboneError: see `weights.create_clip` and `__init__`.
        """
        clip = create_clip(name, pretrained, activation, forced_activation)
        settings: dict[str, Any] = {"position_resize": position_resize, "precision": precision}
        backbone = cls(clip, open_clip.SimpleTokenizer(), image_size=image_size, **settings)
        return backbone.to(device)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever a trainer asks."""
        return super().train(False)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over the weights, computed once."""
        return hash_weights(self.clip.state_dict())

    @cached_property
    def image_tower_hash(self) -> str:
        """The weights and all else in the model that image features depend on, computed once."""
        return describe_tower(self.weights_hash, self.clip.visual, self.mean, self.std)

    def encode_image(
        self,
        images: Tensor,
        *,
        layers: Sequence[int] = (),
        stream: Stream = "ordinary",
        vv_from: int = 0,
        taps: Sequence[int] = (),
        tap_point: TapPoint = "block",
        deep_prompts: Sequence[Tensor] = (),
        prefix: Tensor | None = None,
        patch_edit: tuple[int, Callable[[Tensor], Tensor]] | None = None,
        class_norm: bool = True,
        normalise: bool = True,
    ) -> ImageFeatures:
        """Encode images. Gradients are recorded only when a prompt or the prefix needs them.

        Args:
            images: (B, 3, H, W) in [0, 1], sides multiples of the patch.
            layers: blocks whose patch features are returned, 1 is the first.
            stream: where `patches` come from. "ordinary" is CLIP. The other two are V-V streams without MLP,
                u <- u + VV(s), that branch off after `vv_from` blocks and leave the ordinary stream as it is.
                "vv_from_ordinary" reads the values from the ordinary tokens, s = x: the released code of CLIP Surgery
                (arXiv:2304.05653), AnomalyCLIP (arXiv:2310.18961), FAPrompt (arXiv:2410.10289) and PromptAD
                (arXiv:2404.05231). "vv_from_itself" reads them from the V-V stream, s = u, which none of these does.
            vv_from: number of blocks before the V-V stream branches off; FAPrompt: 5 of 24, PromptAD: 0.
            taps: blocks whose raw tokens are returned, those of patches and the class token; 1 is the first.
            tap_point: "next_attention" adds the next block's attention to the taps, which is what PromptAD's released
                code stores, since it writes in place to the tensor it keeps.
            deep_prompts: entry j, (n, width) or (B, n, width), stands before block j (from 0) between class token
                and patches: the first is inserted before `ln_pre`, later ones replace it, the last runs on
                (VPT-deep, arXiv:2203.12119, as MaPLe, arXiv:2210.03117, has it in CLIP).
            prefix: (p, width) or (B, p, width), inserted after the class token before `ln_pre` and kept through all
                blocks (VPT-shallow).
            patch_edit: (j, f): before block j (from 0) the patch tokens (B, N, width) become f of them, for
                anomalies simulated in latent space.
            class_norm: False leaves `ln_post` out of the class feature (AnomalyCLIP and FAPrompt).
            normalise: whether the features become unit vectors.

        Raises:
            BackboneError: a size, block or prompt does not fit; the message says what does.
        """
        deep = tuple(deep_prompts)  # a stacked tensor becomes its rows
        request = ImageRequest(
            layers, stream, vv_from, taps, tap_point, deep, prefix, patch_edit, class_norm, normalise
        )

        def run(some: Tensor) -> ImageFeatures:
            normalised, positions, grid = self._prepare(some)
            image_tower.check_request(self.clip.visual, len(some), request)
            with torch.set_grad_enabled(request.needs_grad), self.autocast():
                return image_tower.run_image(self.clip.visual, normalised, positions, grid, request)

        return recall_image(self, images, request, run)

    def post_norm(self, taps: Tensor) -> Tensor:
        """Raw tokens (..., width) of any block through the norm in front of the projection, `ln_post`."""
        with self.autocast():
            normed: Tensor = self.clip.visual.ln_post(taps)
            return normed

    @torch.no_grad()
    def encode_windows(self, images: Tensor, windows: Windows) -> Tensor:
        """Class features of images of which the tower sees one window of patches at a time (WinCLIP, arXiv:2303.14814).

        Args:
            images: (B, 3, H, W) in [0, 1], sides multiples of the patch.
            windows: K of the images' grid.

        Returns:
            Unit features, (B, K, D).

        Raises:
            BackboneError: an image size does not fit, or the windows are of another grid.
        """

        def run(some: Tensor) -> Tensor:
            normalised, positions, grid = self._prepare(some)
            if grid != windows.grid:
                raise BackboneError(f"Windows of {_by(windows.grid)} patches do not fit images of {_by(grid)} patches.")
            patches = windows.patches.to(images.device, non_blocking=images.is_cuda)
            with self.autocast():
                return image_tower.run_windows(self.clip.visual, normalised, positions, patches)

        return recall_windows(self, images, windows, run)

    @torch.no_grad()
    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Tokens of `texts`, ids (T, C) on the CPU and embeddings (T, C, W).

        Raises:
            BackboneError: a text is longer than the context; nothing is ever cut off.
        """
        ids = text_tower.tokenize(self.tokenizer, texts, self.clip.context_length)
        return Tokens(ids, self.clip.token_embedding(ids.to(self.mean.device)))

    def encode_text(
        self, tokens: Tokens, *, deep_prompts: Sequence[Tensor] = (), deep_start: int = 1, normalise: bool = True
    ) -> Tensor:
        """Encode texts. Gradients are recorded only when the embeddings or a prompt need them.

        Args:
            tokens: from `tokenize`, or from a prompt learner.
            deep_prompts: entry j, (n, W) or (T, n, W), overwrites tokens 1 to n before block `deep_start + j`
                (MaPLe, arXiv:2210.03117; AnomalyCLIP, arXiv:2310.18961).
            deep_start: block of the first deep prompt, from 0; prompts of block 0 belong into the embeddings.
            normalise: whether the features become unit vectors.

        Returns:
            Float32 features, (T, D).

        Raises:
            BackboneError: tokens or prompts do not fit.
        """
        deep = tuple(deep_prompts)
        text_tower.check_tokens(self.clip, tokens, deep, deep_start)
        learnt = any(t.requires_grad for t in (tokens.embeddings, *deep))
        with torch.set_grad_enabled(torch.is_grad_enabled() and learnt), self.autocast():
            features = text_tower.run_text(self.clip, tokens, deep, deep_start).float()
            return F.normalize(features, dim=-1) if normalise else features

    def _prepare(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Images with CLIP's mean and deviation, their positions (resized once per grid and device), their grid."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise BackboneError(f"Images are (B, 3, H, W) in [0, 1]; got {tuple(images.shape)}.")
        grid = image_tower.patch_grid(self.clip.visual, images.shape[2], images.shape[3])
        key = (grid, self.position_resize, self.mean.device)
        if key not in self._positions:
            with torch.no_grad(), torch.autocast(self.mean.device.type, enabled=False):
                self._positions[key] = image_tower.resize_positions(self.clip.visual, grid, self.position_resize)
        return (images.float() - self.mean) / self.std, self._positions[key], grid

    def autocast(self) -> torch.autocast:
        """The precision asked for; "fp32" and "tf32" also end an autocast around it."""
        dtype = AUTOCAST[self.precision]
        return torch.autocast(self.mean.device.type, dtype, enabled=dtype is not None)


def _by(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
