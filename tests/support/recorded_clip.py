"""The small CLIP whose weights stand in a file of recorded tensors."""

import open_clip

from methods.components.clip.backbone import CLIPBackbone


def open_recorded(config, weights):
    """A backbone of the sizes in `config` with `weights`, open_clip's state dict."""
    vision, text = config["vision"], config["text"]
    clip = open_clip.CLIP(
        embed_dim=config["embed_dim"],
        quick_gelu=vision.get("activation", config.get("activation")) == "quick_gelu",
        vision_cfg={
            "image_size": vision.get("pretrain_image_size", config["image_size"]),
            "layers": vision["layers"],
            "width": vision["width"],
            "head_width": vision["width"] // vision["heads"],
            "patch_size": vision["patch"],
            "mlp_ratio": vision.get("mlp_ratio", 4.0),
        },
        text_cfg={"context_length": text["context"], "vocab_size": text["vocab"]}
        | {key: text[key] for key in ("width", "heads", "layers")},
    )
    clip.load_state_dict({name: value.float() for name, value in weights.items()})
    resize = "open_clip" if config.get("position_resize") == "bicubic_antialias" else "bilinear"
    return CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=config["image_size"], position_resize=resize)
