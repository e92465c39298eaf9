"""FAPrompt with the weights and prompts of a file that its released code wrote."""

from methods.faprompt import FAPrompt

TERMS = {  # ours: theirs
    "focal1": "focal1",
    "dice1_anomalous": "dice1_abnormal",
    "dice1_normal": "dice1_normal",
    "focal2": "focal2",
    "dice2_anomalous": "dice2_abnormal",
    "dice2_normal": "dice2_normal",
    "image_ce": "image_ce",
    "image_focal": "image_focal",
    "orthogonality": "oc",
    "prior": "prior",
}
PARAMETERS = {  # ours: theirs; the deep prompts are added by number
    "prompts.normal_ctx": "ctx_pos",
    "prompts.anomalous_ctx": "ctx_neg",
    "prior.0.weight": "patch_meta_net.linear1.weight",
    "prior.0.bias": "patch_meta_net.linear1.bias",
    "prior.2.weight": "patch_meta_net.linear2.weight",
    "prior.2.bias": "patch_meta_net.linear2.bias",
}


def parameter_names(config):
    """Our names of all parameters, with theirs."""
    n_deep = len(config["deep_prompt_blocks_zero_based"])
    return PARAMETERS | {f"deep.blocks.{i}": f"compound_prompts_text.{i}" for i in range(n_deep)}


def build_method(backbone, recorded, config, selection, *, rounded=True):
    """With the release's choices and the recorded parameters, "first" or "topk" patches for the prior."""
    vv, deep = config["vv_blocks_zero_based"], config["deep_prompt_blocks_zero_based"]
    assert vv == list(range(vv[0], backbone.n_image_blocks))
    assert deep == list(range(1, 1 + len(deep)))
    settings = FAPrompt.Config(
        lr=config["lr"],
        betas=tuple(config["betas"]),
        n_ctx_normal=config["n_normal_ctx"],
        n_ctx_anomalous=config["n_abnormal_ctx"],
        n_anomalous=config["K"],
        n_prior_patches=config["M"],
        depth=1 + len(deep),
        deep_length=config["deep_prompt_len"],
        vv_from=vv[0],
        temperature=config["tau"],
        sigma=config["sigma"],
        sigma_at=config["image_size"],
        prior_selection=selection,
        round_deep_prompts=rounded,
    )
    method, names = FAPrompt(backbone, {}, settings), parameter_names(config)
    shapes = {key: value.shape for key, value in method.state_dict().items()}
    assert shapes.keys() == names.keys()
    method.load_state_dict({key: recorded[f"learner/{name}"].view(shapes[key]) for key, name in names.items()})
    return method
