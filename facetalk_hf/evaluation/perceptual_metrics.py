# SPDX-License-Identifier: MIT
"""Scores of rendered frames by public networks: LSE-D and LSE-C by SyncNet, FID and KID by Inception-v3.

The weights are downloaded from the Hub, or read from a file. Both networks were trained on photographs and
films: on renders their values mean something only next to other renders of the same renderer, size and camera.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.fft import dct
from torch import nn

from ..animation.head_animation import HeadAnimation
from ..audio.io import resample
from ..errors import FaceTalkError
from ..motion.editing import retime
from ..rendering.renderer import HeadRenderer
from .perceptual_networks import InceptionFeatures, SyncNet


SYNCNET = ("ByteDance/LatentSync-1.6", "auxiliary/syncnet_v2.model")
INCEPTION = ("timm/inception_v3.tf_in1k", "model.safetensors")
"""Hub repository and file of the weights that are fetched by default."""
FPS, WINDOW, SIZE = 25, 5, 224  # what SyncNet expects
Network = TypeVar("Network", bound=nn.Module)


def lip_sync_scores(video: np.ndarray, audio: np.ndarray, max_shift: int = 15) -> dict[str, float]:
    """Compute LSE-D, LSE-C and offset (Prajwal et al., Wav2Lip, 2020) of embeddings.

    With d_s = mean over i of |video_i - audio_i+s|, s = -max_shift .. max_shift, audio zero beyond its ends:
    LSE-D = min d_s (lower is better), LSE-C = median d_s - min d_s (higher is better).

    Args:
        video, audio (`(N, E)` float): one embedding a frame. max_shift (`int`, frames): see above.

    Returns:
        dict of "lse_d", "lse_c" and "offset": the best s in frames, positive where the sound comes after the picture.
    """
    padded = np.pad(np.asarray(audio, np.float64), ((max_shift, max_shift), (0, 0)))
    count = len(video)
    distances = [np.linalg.norm(video - padded[s : s + count], axis=1).mean() for s in range(2 * max_shift + 1)]
    best = int(np.argmin(distances))
    return {
        "lse_d": float(distances[best]),
        "lse_c": float(np.median(distances) - distances[best]),
        "offset": float(best - max_shift),
    }


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Frechet distance of the Gaussians of features (N, E) and (M, E); FID with Inception's.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2), Heusel et al. 2017. N and M must be well above E for it to be a
    property of the images.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise FaceTalkError("a Frechet distance needs at least two images on each side")
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # C_a C_b and the symmetric root C_b root have the same eigenvalues; SciPy's sqrtm of the product is slower and
    # turns complex where features are few.
    cross = np.sqrt(np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root).clip(0)).sum()
    total = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.atleast_2d(first + second)) - 2 * cross
    return float(max(total, 0.0))


def kernel_distance(
    a: np.ndarray, b: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Compute KID (Binkowski et al. 2018): mean and standard deviation over subsets of the unbiased squared MMD.

    Kernel (x . y / E + 1)^3. Around 0, and as often below, where both sides are alike.

    Args:
        a, b (`(N, E)`, `(M, E)` float): features. subsets, size (`int`): how many, and of how many features at most.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size, rng, width = min(size, len(a), len(b)), np.random.default_rng(seed), a.shape[1]
    if size < 2:
        raise FaceTalkError("a kernel distance needs at least two images on each side")
    values = []
    for _ in range(subsets):
        x, y = (items[rng.choice(len(items), size, replace=False)] for items in (a, b))
        xx, yy, xy = (_cubed(p @ q.T / width + 1) for p, q in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        values.append(within - 2 * xy.mean())
    return float(np.mean(values)), float(np.std(values))


def _cubed(values: np.ndarray) -> np.ndarray:
    return values * values * values  # ten times as fast as a power


def cepstra(audio: np.ndarray, sampling_rate: int = 16000) -> np.ndarray:
    """Compute mel-frequency cepstra as in SyncNet's training: (13, T) float, 100 a second; `audio` (S,) in -1..1.

    HTK's recipe on the scale of 16-bit samples: pre-emphasis 0.97, 25 ms without a window, 26 mel bands, DCT-II,
    lifter 22, and the logarithm of the energy for the first coefficient.
    """
    samples = resample(np.asarray(audio, np.float32), sampling_rate, 16000).astype(np.float64) * 32768
    samples = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    count = 1 + max(0, -(-(len(samples) - 400) // 160))
    frames = np.pad(samples, (0, 400))[np.arange(count)[:, None] * 160 + np.arange(400)]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    edges = np.floor(513 / 16000 * 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28) / 2595) - 1))
    bins = np.arange(257)[None]
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / np.maximum(middle - low, 1), (high - bins) / np.maximum(high - middle, 1)
    bank = np.where((bins >= low) & (bins < middle), rising, np.where((bins >= middle) & (bins < high), falling, 0))
    tiny = np.finfo(float).eps
    result = dct(np.log(np.maximum(power @ bank.T, tiny)), norm="ortho")[:, :13]
    result *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    result[:, 0] = np.log(np.maximum(power.sum(1), tiny))
    return result.T


def load_syncnet(source: str | Path = SYNCNET[0], filename: str = SYNCNET[1]) -> SyncNet:
    """Load SyncNet with its public weights.

    Args:
        source (`str` or `Path`): a local file, or a Hub repository. filename (`str`): the file in the repository.

    Raises:
        FaceTalkError: the weights cannot be had, or are of another network.
    """
    return _with_weights(SyncNet(), _read_weights(source, filename), "SyncNet")


def load_inception(source: str | Path = INCEPTION[0], filename: str = INCEPTION[1]) -> InceptionFeatures:
    """Load the feature part of Inception-v3. Arguments and errors as in [`load_syncnet`].

    The default weights are those of the paper's authors, not the copy of 2015 behind most published FIDs.
    """
    state = _read_weights(source, filename)
    state = {name: value for name, value in state.items() if not name.startswith(("fc.", "AuxLogits."))}
    return _with_weights(InceptionFeatures(), state, "Inception-v3")


@torch.no_grad()
def lip_sync(animation: HeadAnimation, network: SyncNet, batch: int = 16) -> dict[str, float]:
    """Compute [`lip_sync_scores`] of an animation with sound, rendered at 25 frames a second and 224 pixels.

    Raises:
        FaceTalkError: no sound, or less than 0.4 s.
    """
    if animation.audio is None or animation.sampling_rate is None:
        raise FaceTalkError("lip sync needs an animation with its sound")
    images = np.ascontiguousarray(render(retime(animation, FPS), SIZE)[..., ::-1])  # blue green red
    sound = torch.from_numpy(cepstra(animation.audio, animation.sampling_rate)).float()
    count = min(len(images) - WINDOW + 1, (sound.shape[1] - 20) // 4 + 1)
    if count < WINDOW:
        raise FaceTalkError("lip sync needs at least 0.4 s of speech")
    frames = torch.from_numpy(images).permute(3, 0, 1, 2)
    video, audio = [], []
    for start in range(0, count, batch):
        part = range(start, min(start + batch, count))
        video.append(network.embed_video(torch.stack([frames[:, i : i + WINDOW] for i in part]).float()))
        audio.append(network.embed_audio(torch.stack([sound[None, :, 4 * i : 4 * i + 20] for i in part])))
    return lip_sync_scores(torch.cat(video).numpy(), torch.cat(audio).numpy())


@torch.no_grad()
def image_features(images: np.ndarray, network: InceptionFeatures, batch: int = 16) -> np.ndarray:
    """Compute features (N, 2048) of images (N, H, W, 3) uint8, for [`frechet_distance`] and [`kernel_distance`]."""
    parts = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).split(batch)
    return torch.cat([network(part) for part in parts]).numpy()


def render(animation: HeadAnimation, size: int = SIZE, step: int = 1) -> np.ndarray:
    """Render every `step`-th frame from the front: (N, size, size, 3) uint8."""
    renderer = HeadRenderer(animation, size=size)
    return np.stack([renderer.render(index) for index in range(0, animation.num_frames, step)])


def _read_weights(source: str | Path, filename: str) -> dict[str, torch.Tensor]:
    path = Path(source)
    if not path.is_file():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(str(source), filename))
        except Exception as error:  # offline, no such repository or file, a name that is none
            reason = str(error).strip().split("\n")[0]
            raise FaceTalkError(
                f"{filename} cannot be had from {source}; give a file of these weights instead ({reason})"
            ) from error
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise FaceTalkError(f"{path} holds no weights that can be read: {type(error).__name__}") from error


def _with_weights(network: Network, state: dict[str, torch.Tensor], name: str) -> Network:
    # Some files lack the counters of batch norm, which nothing here uses.
    wanted = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    try:
        if set(state) != wanted:
            raise RuntimeError
        network.load_state_dict(state, strict=False)
    except RuntimeError:
        raise FaceTalkError(f"these weights are not {name}'s: their names or shapes are others") from None
    return network.eval().requires_grad_(False)
