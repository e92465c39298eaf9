"""What FineGrainedAD's released code does otherwise than is described (RetoFan233/FineGrainedAD, commit aa6b041)."""

from typing import NamedTuple

from methods.components.clip.image_tower import TapPoint
from methods.finegrainedad.region_aggregation import Rules


class Choices(NamedTuple):
    """The defaults are the described method, `RELEASED` is the other."""

    #: Each feature takes the pair with the nearest key. Released: a random map of the pair, from a Q-Former that no
    #: loss reaches; described: its normal text.
    untrained_keys: bool = False
    #: Released: two clusters, and parts of up to two components, come from densities that are all equal, and so at
    #: random; the first shot's foreground and nearest regions serve all shots.
    rules: Rules = Rules()
    #: Released: pooling averages about one row of the image rather than a square.
    scrambled_weights: bool = False
    #: Of the patches' margin. Released: tokens, 1; as in PromptAD's own.
    margin_dim: int = -1
    #: Released: "none background" is said of an image that the foreground fills.
    none_background: bool = False
    #: Of the memory; as in PromptAD's released code.
    tap_point: TapPoint = "block"
    #: Released: test images are BGR, shots RGB.
    bgr: bool = False


RELEASED = Choices(
    untrained_keys=True,
    rules=Rules(k_split=None, k_parts=None, noise=True, first_shot=True),
    scrambled_weights=True,
    margin_dim=1,
    none_background=True,
    tap_point="next_attention",
    bgr=True,
)
CHOICES = {"described": Choices(), "released": RELEASED}
