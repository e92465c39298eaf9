"""AnomalyCLIP with the weights and prompts of a file that its released code wrote."""

from datamodules.components.sample import Batch
from methods.anomalyclip import AnomalyCLIP

TERMS = {"focal": "focal", "dice_anomalous": "dice_abnormal", "dice_normal": "dice_normal"}  # ours: theirs


def parameter_names(config):
    """Our names of all parameters, with theirs."""
    deep = range(len(config["deep_prompt_blocks_zero_based"]))
    contexts = {"normal_ctx": "ctx_pos", "anomalous_ctx": "ctx_neg"}
    return contexts | {f"deep.blocks.{i}": f"compound_prompts_text.{i}" for i in deep}


def build_method(backbone, recorded, config, taps, *, rounded=True):
    """With the release's choices, the recorded parameters, and `taps`, blocks counted from 1."""
    vv, deep = config["vv_blocks_zero_based"], config["deep_prompt_blocks_zero_based"]
    assert vv == list(range(vv[0], backbone.n_image_blocks))
    assert deep == list(range(1, config["depth"]))
    settings = AnomalyCLIP.Config(
        lr=config["lr"],
        betas=tuple(config["betas"]),
        n_ctx=config["n_ctx"],
        depth=config["depth"],
        deep_length=config["deep_prompt_len"],
        layers=tuple(tap / backbone.n_image_blocks for tap in taps),
        local_weight=config["local_weight"],
        vv_from=vv[0],
        temperature=config["tau"],
        sigma=config["sigma"],
        sigma_at=config["image_size"],
        round_deep_prompts=rounded,
    )
    method, names = AnomalyCLIP(backbone, {}, settings), parameter_names(config)
    assert method.layers == tuple(taps)
    shapes = {key: value.shape for key, value in method.state_dict().items()}
    assert shapes.keys() == names.keys()
    method.load_state_dict({key: recorded[f"learner/{name}"].view(shapes[key]) for key, name in names.items()})
    return method


def batch_of(images, recorded, order):
    """The recorded batch of a step: `images` (N, 3, S, S) in [0, 1] with masks and labels, in that order."""
    masks, labels = recorded["data/mask"][order].squeeze(1).bool(), recorded["data/label"][order].bool()
    return Batch(images[order], masks, labels, ["object"] * len(order), [f"{i}.png" for i in order.tolist()])
