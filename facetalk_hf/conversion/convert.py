# SPDX-License-Identifier: MIT
"""Official NPHM and MonoNPHM checkpoints -> folders that `NPHMModel.from_pretrained` loads."""

import os
import tempfile
from pathlib import Path

import torch

from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from .checkpoints import Layers, Network, Tensors, codebook, read_anchors, read_checkpoint, section


BOUNDS = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))  # the box that both projects extract surfaces from
MODES = ("compress", "glob_only", "expr_only")
OFFICIAL_EXPRESSION_DIM = 200
PathLike = str | os.PathLike


def convert_nphm(
    identity_checkpoint: PathLike, expression_checkpoint: PathLike, anchors: PathLike, output: PathLike | None = None,
    backward: bool = False, mode: str | None = None,
) -> NPHMModel:  # fmt: skip
    """Convert the two checkpoints of NPHM (Giebenhain et al., CVPR 2023); sizes are read from their tensors.

    Args:
        identity_checkpoint, expression_checkpoint: `checkpoint_epoch_*.tar` of the two training stages.
        anchors: `anchors_39.npy` of NPHM's repository, the mean anchors (39, 3), which no checkpoint holds.
        output: folder to write; nothing is written without.
        backward: take the expression network for a map from posed to canonical points, as FaceTalk's authors do.
        mode: what the expression network sees of the identity: "compress", "glob_only" or "expr_only". Needed only
            where the file doesn't say: it has neither a compressor nor expression codes, nor 200 numbers a code.

    Returns:
        The model, on the CPU, in float32, with the checkpoints' codes as named identities and expressions.

    Raises:
        FaceTalkError: a file is missing, damaged, of another kind, or does not fit the others.
    """
    if mode is not None and mode not in MODES:
        raise FaceTalkError(f"mode must be compress, glob_only or expr_only, not {mode!r}")
    files = read_checkpoint(identity_checkpoint), read_checkpoint(expression_checkpoint)
    identity = _nphm_network(files[0], identity_checkpoint, "identity", "ensembled_deep_sdf.", "defDeepSDF.")
    expression = _nphm_network(files[1], expression_checkpoint, "expression", "defDeepSDF.", "ensembled_deep_sdf.")

    members = identity.layers("ensembled_deep_sdf.lin{}")
    config, state = _anchors(identity, anchors, members.count)
    identity.done()
    config["loc_dim"] = members.inputs - 3 - config["glob_dim"]
    identity.check(config["loc_dim"] > 0 and members.sizes[-1] == 1, "its members' inputs and outputs are not NPHM's")
    config["official_ensemble"] |= {"kind": "nphm", "sizes": members.sizes, "skip_layer": members.skip}
    state |= members.bank("ensemble.members.", 0, 3)

    codes = codebook(files[0], ("latent_codes_state_dict", "weight"), identity_checkpoint)
    names = codebook(files[1], ("latent_codes_state_dict", "weight"), expression_checkpoint)
    validation = codebook(files[1], ("latent_codes_val_state_dict", "weight"), expression_checkpoint)
    config["deformation"] = "backward" if backward else "forward"
    deformation = expression.layers("defDeepSDF.lin{}", single=True)
    expression.check(deformation.sizes[-1] == 3, "it gives more than an offset")
    state |= _deformation(expression, deformation, config, names, mode, validation)
    return _finish(config, state, codes, names, output)


def convert_mononphm(checkpoint: PathLike, anchors: PathLike, output: PathLike | None = None) -> NPHMModel:
    """Convert a checkpoint of MonoNPHM (Giebenhain et al., CVPR 2024); sizes are read from its tensors.

    Args:
        checkpoint: `checkpoint_epoch_*.tar`.
        anchors: `anchors_65.npy` of MonoNPHM's repository, the mean anchors (65, 3) in model units.
        output: folder to write; nothing is written without.

    Returns:
        The model, on the CPU, in float32, with the checkpoint's codes as named identities and expressions. An identity
        code is [geometry | appearance].

    Raises:
        FaceTalkError: a file is missing, damaged, of another kind, or does not fit the others.
    """
    file = read_checkpoint(checkpoint)
    if "decoder_state_dict" in file:
        raise FaceTalkError(f"{checkpoint} is an NPHM checkpoint: facetalk convert nphm reads it")
    identity = Network(section(file, "id_decoder", checkpoint, "MonoNPHM"), checkpoint)
    expression = Network(section(file, "ex_decoder", checkpoint, "MonoNPHM"), checkpoint)
    for name in ("deepSDFensemble", "aggr_app"):
        identity.stack(name, rf"{name}\.layers\.(\d+)\.layers")

    members, colors = identity.layers("deepSDFensemble.{}"), identity.layers("aggr_app.{}")
    config, state = _anchors(identity, anchors, members.count)
    narrow, wide = identity.linear("communcation_bottleneck1"), identity.linear("communcation_bottleneck2")
    identity.done()
    # Members see the canonical coordinates and the hyper-coordinates that the deformation gives.
    deformation = expression.layers("defDeepSDF.lin{}", single=True)
    hyper_dim = deformation.sizes[-1] - 3
    codes_seen = members.inputs - 3 - hyper_dim
    config["loc_dim"] = codes_seen - config["glob_dim"]
    identity.check(hyper_dim >= 0 and config["loc_dim"] > 0, "members and deformation disagree on hyper-coordinates")
    identity.check(members.sizes[-1] == 1 and colors.sizes[-1] == 3, "its members give no distance or no colour")
    identity.check(members.skip is None and colors.skip is None, "its members' layers don't chain")
    identity.check(
        narrow[0].shape[1] == members.sizes[-2] and wide[0].shape[1] == len(narrow[0]),
        "its colour bottleneck doesn't fit",
    )
    identity.check(colors.count == members.count, "it has not as many colour as geometry members")

    geometry, appearance, names = (
        codebook(file, ("latent_codes", f"codebook.{name}.embedding.weight"), checkpoint)
        for name in ("geo", "app", "exp")
    )
    appearance_seen = colors.inputs - len(wide[0])
    local = config["loc_dim"]
    if appearance is not None:  # only the codebook's size says how global and local code share what a member sees
        local, rest = divmod(appearance.shape[1] - appearance_seen, config["num_anchors"])
        identity.check(rest == 0, f"{appearance.shape[1]} numbers of appearance don't fit its colour members")
    identity.check(0 < local < appearance_seen, "its appearance codes don't fit its colour members")
    codes = None
    if geometry is not None and appearance is not None:
        identity.check(len(geometry) == len(appearance), "it has not as many geometry as appearance codes")
        codes = torch.cat([geometry, appearance], dim=1)
    config["official_ensemble"] |= {
        "kind": "mononphm", "sizes": members.sizes, "hyper_dim": hyper_dim, "color_sizes": colors.sizes,
        "bottleneck_sizes": [len(narrow[0]), len(wide[0])], "appearance_dims": [appearance_seen - local, local],
    }  # fmt: skip
    state |= members.bank("ensemble.members.", codes_seen, members.inputs)
    state |= colors.bank("ensemble.colors.", appearance_seen, colors.inputs)
    for index, (weight, bias) in ((0, narrow), (2, wide)):
        state |= {f"ensemble.bottleneck.{index}.weight": weight, f"ensemble.bottleneck.{index}.bias": bias}
    config["deformation"] = "backward"
    state |= _deformation(expression, deformation, config, names)
    return _finish(config, state, codes, names, output)


def _nphm_network(file: dict, path: PathLike, stage: str, prefix: str, other: str) -> Network:
    if "id_decoder" in file:
        raise FaceTalkError(f"{path} is a MonoNPHM checkpoint: facetalk convert mononphm reads it")
    network = Network(section(file, "decoder_state_dict", path, f"NPHM {stage}"), path)
    if not network.has(prefix):
        why = "the two stages are swapped" if network.has(other) else f"no tensor is called {prefix}*"
        raise FaceTalkError(f"{path} is no NPHM {stage} checkpoint: {why}")
    return network


def _anchors(identity: Network, path: PathLike, members: int) -> tuple[dict, Tensors]:
    """Read the network of the anchors and their mean: the config to start with, and tensors.

    Both anchors of a mirrored pair use one of the `members` networks, and the anchor-less member has its own.
    """
    layers = [identity.linear(f"mlp_pos.{index}") for index in (0, 2, 4)]
    sizes = [len(bias) for _, bias in layers]
    fits = [weight.shape[1] for weight, _ in layers[1:]] == sizes[:2] and sizes[0] == sizes[1] and sizes[2] % 3 == 0
    identity.check(fits, "the layers of mlp_pos don't chain")
    count = sizes[2] // 3
    pairs = count + 1 - members
    identity.check(0 <= 2 * pairs <= count, f"{members} member networks don't serve {count} anchors")
    state = {"anchor_mean": read_anchors(path, count)}
    for index, (weight, bias) in zip((0, 2, 4), layers, strict=True):
        state |= {f"anchor_mlp.{index}.weight": weight, f"anchor_mlp.{index}.bias": bias}
    return {
        "num_anchors": count, "num_symmetric_pairs": pairs, "glob_dim": layers[0][0].shape[1],
        "official_ensemble": {"anchor_hidden_size": sizes[0]},
    }, state  # fmt: skip


def _deformation(
    network: Network, layers: Layers, config: dict, codes: torch.Tensor | None, mode: str | None = None,
    validation: torch.Tensor | None = None,
) -> Tensors:  # fmt: skip
    """Read a deformation network into `config` and give its tensors.

    `codes` tell the size of an expression, `validation` codes too where those are missing.
    """
    glob_dim, num_anchors = config["glob_dim"], config["num_anchors"]
    identity_dim = glob_dim + (num_anchors + 1) * config["loc_dim"] + 3 * num_anchors
    state, extra = {}, {}
    seen = layers.inputs - 3
    if network.has("compressor."):
        weight, bias = network.linear("compressor.0")
        network.check(mode in (None, "compress"), f"it has a compressor, so its mode is compress, not {mode}")
        network.check(
            weight.shape[1] == identity_dim,
            f"it compresses {weight.shape[1]} numbers of an identity that has {identity_dim} with its anchors",
        )
        state = {"compressor.weight": weight, "compressor.bias": bias}
        mode, extra, size = "compress", {"compressed_dim": len(bias)}, seen - len(bias)
    else:
        network.check(mode != "compress", "it has no compressor, so its mode is not compress")
        choices = {"glob_only": seen - glob_dim, "expr_only": seen}
        witness = validation if codes is None else codes
        known = OFFICIAL_EXPRESSION_DIM if witness is None else witness.shape[1]
        mode = mode or next((name for name, size in choices.items() if size == known), None)
        if mode is None:
            raise FaceTalkError(
                f"{network.path} doesn't say what it sees of the identity: choose mode glob_only "
                f"({choices['glob_only']} numbers an expression) or expr_only ({choices['expr_only']})"
            )
        size = choices[mode]
    network.done()
    network.check(size > 0, "its layers see no expression code")
    network.check(
        codes is None or codes.shape[1] == size, f"its codes don't have the {size} numbers that its layers see"
    )
    config["expression_dim"] = size
    config["official_deformation"] = {"sizes": layers.sizes, "skip_layer": layers.skip, "condition": mode} | extra
    state |= layers.bank("net.", 0, 3)
    return {f"{config['deformation']}_net.{name}": value for name, value in state.items()}


def _finish(
    config: dict, state: Tensors, identities: torch.Tensor | None, expressions: torch.Tensor | None,
    output: PathLike | None,
) -> NPHMModel:  # fmt: skip
    """Build the model, put the tensors in, and write it."""
    counts = [0 if codes is None else len(codes) for codes in (identities, expressions)]
    model = NPHMModel(
        **config, forward_type="concat", num_identities=counts[0], num_expressions=counts[1], bounds=BOUNDS
    ).eval()
    if identities is not None and identities.shape[1] != model.identity_dim:
        raise FaceTalkError(
            f"its identity codes have {identities.shape[1]} numbers, but its networks see {model.identity_dim}"
        )
    if expressions is not None and counts[1]:
        state["expression_codes"] = expressions
    state["identity_codes"] = model.identity_codes if identities is None else identities
    model.load_state_dict({name: value.contiguous() for name, value in state.items()})
    if output is not None:
        _write(model, Path(output))
    return model


def _write(model: NPHMModel, folder: Path) -> None:
    """Write beside the folder first, so that a full disk leaves no half a model."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as temporary:
            model.save_pretrained(temporary)
            mode = (Path(temporary) / "config.json").stat().st_mode
            for path in Path(temporary).iterdir():
                path.chmod(mode)  # safetensors makes its files private to their owner
                path.replace(folder / path.name)
    except OSError as error:
        raise FaceTalkError(f"cannot write to {folder}: {error.strerror or error}") from error
